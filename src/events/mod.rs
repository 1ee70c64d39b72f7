//! Events to and from Kafka: the [`relay`] publishes the outbox, the [`consumer`] reads what the
//! user service refuses. docs/events.md is the contract with those who use the topics.
//!
//! The module exists in builds with the feature `kafka` only.

pub mod consumer;
mod kafka;
mod messages;
pub mod relay;

//! The decisions: what happens when a user registers, logs in, refreshes, logs out or presents a
//! token. Without HTTP: the JSON API, the OAuth endpoints, gRPC and the command line call the same
//! flows.

pub mod accounts;
pub mod admin;
pub mod cloud_event;
pub(crate) mod derived;
pub mod feed;
pub mod gateway;
pub mod mail;
pub mod maintenance;
pub mod oauth;
pub mod provisioning;
pub mod readiness;
pub mod services;
pub mod sessions;
pub mod tokens;
pub mod upstream;
pub mod webhooks;

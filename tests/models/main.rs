//! Executable models of four protocols, checked in every reachable state (docs/models.md). Nothing
//! here uses the server: what a model says is compared with the server by its tests in `tests/it`.

#![forbid(unsafe_code)]

mod documentation;
mod outbox_relay;
mod refresh_chain;
mod revocation_replica;
mod saga_grpc;
mod saga_kafka;
mod support;

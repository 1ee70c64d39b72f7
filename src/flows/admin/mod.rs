//! What administrators and operators do: by the admin API, gRPC and the command line.

pub mod access;
pub mod bootstrap;
pub mod canonical_names;
pub mod clients;
pub mod events;
pub mod idempotency;
pub mod import;
pub mod invitations;
pub mod issuers;
pub mod modules;
pub mod revocations;
pub mod roles;
pub mod signing_keys;
pub mod users;
pub mod webhooks;

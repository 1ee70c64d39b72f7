//! Propusk, an OAuth 2.1 / OpenID Connect authorization server.
//!
//! | module | what it holds | may use |
//! |---|---|---|
//! | [`oauth`] | the protocol without I/O: tokens, scopes | clock |
//! | [`model`] | the entities and their rules | oauth |
//! | [`storage`] | the only place with SQL | model, config |
//! | [`limits`], [`password`], [`outbound`], [`user_service`], [`mailer`], [`jose`], [`dpop`], [`telemetry`], [`branding`] | rate limits, Argon2, the SSRF-safe HTTP client, the client of the user service, the SMTP client, JWTs and DPoP proofs of clients, logs and metrics, the look and the languages of the pages | config, model |
//! | [`directory`], [`keys`], [`caches`], [`revocation`], [`services`], [`upstream`] | what a process keeps in memory; the clients of customer services and of login providers | storage |
//! | [`error`], [`diagnostics`] | why a flow denies a request, and the values it decided by | storage |
//! | [`app`] | the container of all of these | all above |
//! | [`flows`] | the decisions | app and all above |
//! | `events` | the outbox to Kafka and refusals from it (feature `kafka`) | flows |
//! | [`api_error`], [`request_context`], [`credentials`], [`forward_auth`] | what HTTP and gRPC share | flows |
//! | [`http`], [`grpc`], [`cli`] | the transports, which parse and respond; HTTP and gRPC never import each other | flows |
//! | [`server`] | listeners and background tasks | everything but cli |
//! | [`listener`], [`config`], [`clock`], [`unicode`] | sockets, settings, time, rules for names | each other |
//!
//! A transport may read from [`storage`] (a list, a lookup); a change goes through a flow.
//! `tests/it/structure.rs` checks all of this for every module. `ARCHITECTURE.md` follows three
//! requests through the modules.
#![forbid(unsafe_code)]

pub mod api_error;
pub mod app;
pub mod branding;
pub mod caches;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod diagnostics;
pub mod directory;
pub mod dpop;
pub mod error;
#[cfg(feature = "kafka")]
pub mod events;
pub mod flows;
pub mod forward_auth;
pub mod grpc;
pub mod http;
pub mod ids;
pub mod jose;
pub mod keys;
pub mod limits;
pub mod listener;
pub mod mailer;
pub mod model;
pub mod oauth;
pub mod outbound;
pub mod password;
pub mod request_context;
pub mod revocation;
pub mod server;
pub mod services;
pub mod storage;
pub mod telemetry;
pub mod unicode;
pub mod upstream;
pub mod user_service;

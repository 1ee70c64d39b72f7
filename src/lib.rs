//! Propusk, an OAuth 2.1 / OpenID Connect authorization server.
//!
//! | module | what it holds | may use |
//! |---|---|---|
//! | [`oauth`] | the protocol without I/O: tokens, scopes | clock |
//! | [`model`] | the nouns and their rules | oauth |
//! | [`storage`] | the only place with SQL | model |
//! | [`keys`], [`jose`], [`directory`], [`revocation`], [`password`], [`limits`], [`outbound`] | what a process keeps in memory | storage |
//! | [`flows`] | the decisions | all of the above |
//! | [`http`], [`grpc`], [`cli`] | how it is asked and answered | flows |
//! | [`listener`], [`telemetry`], [`config`], [`clock`] | the ground it stands on | each other |
//! | [`app`], [`server`] | everything put together | everything |
//!
//! `ARCHITECTURE.md` follows three requests through these rooms; a test keeps the direction.
#![forbid(unsafe_code)]

pub mod api_error;
pub mod app;
pub mod caches;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod diagnostics;
pub mod directory;
pub mod error;
pub mod flows;
pub mod forward_auth;
pub mod grpc;
pub mod http;
pub mod jose;
pub mod keys;
pub mod limits;
pub mod listener;
pub mod model;
pub mod oauth;
pub mod outbound;
pub mod password;
pub mod request_context;
pub mod revocation;
pub mod server;
pub mod storage;
pub mod telemetry;

//! Tests through the public interface. A test that involves storage runs on SQLite and, if
//! `./dev/test` has started one, on PostgreSQL: see `support::backend_tests`.

mod support;

mod accessibility;
mod account_pages;
mod admin;
mod api;
mod bodies;
mod client_libraries;
mod client_registration;
mod clients_cli;
mod clock;
mod code_flow;
mod command_line;
mod conformance;
mod cookies;
mod data_folder;
#[cfg(feature = "kafka")]
mod events;
mod explain;
mod gateway;
mod generated_clients;
mod grpc;
mod interoperability;
mod invalid_requests;
mod jose;
mod keys;
mod logging;
mod logout_deliveries;
mod mcp;
mod metadata_documents;
mod metrics;
mod modules;
mod names;
mod nginx;
mod older_service;
mod packaging;
mod pages;
mod passwords;
mod processes;
mod protocol;
mod quotas;
mod readme;
mod redis;
mod registration;
mod resource_limits;
mod revocation_feed;
mod robustness;
mod schema;
mod secrets;
mod sessions;
mod smoke;
mod structure;
mod threats;
mod token;
mod transactions;

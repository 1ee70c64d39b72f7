//! Tests through the public interface. A test that involves storage runs on SQLite and, if
//! `./dev/test` has started one, on PostgreSQL: see `support::backend_tests`.

mod support;

mod accessibility;
mod account_pages;
mod admin;
mod api;
mod client_libraries;
mod client_registration;
mod clients_cli;
mod clock;
mod code_flow;
mod command_line;
mod conformance;
mod cookies;
mod data_folder;
mod explain;
mod gateway;
mod grpc;
mod interoperability;
mod invalid_requests;
mod jose;
mod keys;
mod mcp;
mod logout_deliveries;
mod metadata_documents;
mod modules;
mod nginx;
mod names;
mod pages;
mod processes;
mod protocol;
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

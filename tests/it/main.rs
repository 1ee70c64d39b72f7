//! Stories told through the public interface. A story that touches storage runs on SQLite and, where
//! `./dev/test` has started one, on PostgreSQL: see `support::both_backends`.

mod support;

mod admin;
mod api;
mod bad_input;
mod browser;
mod clients;
mod clients_cli;
mod code_flow;
mod command_line;
mod conformance;
mod explain;
mod feed;
mod floods;
mod gateway;
mod grpc;
mod house;
mod jose;
mod keys;
mod looks;
mod mcp;
mod metadata_documents;
mod modules;
mod nginx;
mod pages;
mod processes;
mod protocol;
mod readme;
mod redis;
mod registration;
mod registration_of_clients;
mod schema;
mod secrets;
mod sessions;
mod threats;
mod token;
mod tour;
mod ways_on;

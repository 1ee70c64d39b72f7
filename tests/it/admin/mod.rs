//! The admin API: one file for each kind of resource.

mod audit;
mod clients;
mod issuers;
mod keys;
mod modules;
mod revocations;
mod roles;
mod sessions;
mod users;
mod webhooks;

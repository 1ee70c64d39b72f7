//! The admin API: one file for each noun.

mod audit;
mod clients;
mod keys;
mod modules;
mod revocations;
mod roles;
mod sessions;
mod users;

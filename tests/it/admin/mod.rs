//! The admin API: one file for each noun.

mod audit;
mod sessions;
mod users;

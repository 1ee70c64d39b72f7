//! Stories told through the public interface. A story that touches storage runs on SQLite and, where
//! `./dev/test` has started one, on PostgreSQL: see `support::both_backends`.

mod support;

mod house;
mod sessions;
mod tour;

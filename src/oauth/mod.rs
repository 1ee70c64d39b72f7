//! The protocol without I/O: what tokens are made of and how they are read.

pub mod access_token;
pub mod refresh_token;
pub mod scope;

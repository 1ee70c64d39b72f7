//! Issuing and checking tokens, whatever endpoint asks.

pub mod claims;
pub mod id_token;
pub mod refresh;
pub mod subject;
pub mod verify;

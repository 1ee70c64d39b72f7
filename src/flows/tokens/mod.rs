//! Issuing and checking tokens, whatever endpoint asks.

pub mod claims;
pub mod dpop;
pub mod external_user;
pub mod first_party;
pub mod id_token;
pub mod issue;
pub mod refresh;
pub mod scope;
pub mod subject;
pub mod verify;

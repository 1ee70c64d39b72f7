//! The protocol without I/O: what tokens and requests are made of and how they are read.

pub mod access_token;
pub mod claims_request;
pub mod code;
pub mod error;
pub mod id_token;
pub mod jwt;
pub mod params;
pub mod pkce;
pub mod redirect_uri;
pub mod refresh_token;
pub mod scope;

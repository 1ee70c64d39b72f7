//! OAuth 2.1 and OpenID Connect without I/O: parameters, tokens, scopes and errors.

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

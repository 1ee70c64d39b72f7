//! OAuth 2.1 and OpenID Connect without I/O: parameters, tokens, scopes and errors.

pub mod access_token;
pub mod authorization_request;
pub mod claims_request;
pub mod code;
pub mod compact_jws;
pub mod device_codes;
pub mod error;
pub mod id_token;
pub mod jwt;
pub mod params;
pub mod pkce;
pub mod redirect_uri;
pub mod refresh_token;
pub mod requests;
pub mod scope;
pub mod thumbprint;
pub mod token_request;

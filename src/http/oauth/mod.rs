//! OAuth's endpoints for applications, one file each; those for browsers are in `http::pages`.

pub mod discovery;
pub mod introspect;
pub mod jwks;
pub mod par;
pub mod params;
pub mod register;
pub mod revocations;
pub mod revoke;
pub mod token;
pub mod userinfo;

//! The endpoints of OAuth 2.1 and OpenID Connect.

pub mod authorize;
pub mod backchannel_logout;
pub mod client_auth;
pub mod device;
pub mod end_session;
pub mod introspect;
pub mod resources;
pub mod revoke;
pub mod token;
pub mod userinfo;

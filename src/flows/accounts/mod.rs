//! What users do with their account: register, log in, log out.

pub mod browser_session;
pub mod login;
pub mod logout;
pub(crate) mod password;
pub mod register;

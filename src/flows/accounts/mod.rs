//! What users do with their account: register, log in, log out.

pub mod browser_session;
pub mod login;
pub mod logout;
pub mod register;

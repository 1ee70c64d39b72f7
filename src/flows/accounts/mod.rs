//! What users do with their account: register, log in, log out, verify or change their address,
//! reset a password.

pub mod applications;
pub mod browser_session;
pub mod deletion;
pub mod devices;
pub mod email;
pub mod email_tokens;
pub mod export;
pub(crate) mod guesses;
pub(crate) mod known_sources;
pub mod login;
pub mod logout;
pub mod password;
pub mod register;
pub mod second_factors;
pub mod second_step;

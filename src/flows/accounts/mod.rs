//! What users do with their account: register, log in, log out, verify or change their address,
//! change their password, username or profile, reset a password.

pub mod applications;
pub mod browser_session;
pub mod change;
pub mod deletion;
pub mod devices;
pub mod email;
pub mod email_tokens;
pub mod export;
pub(crate) mod guesses;
pub mod invitations;
pub(crate) mod known_sources;
pub mod login;
pub mod logout;
pub mod password;
pub mod profile;
pub mod register;
pub mod remembered_devices;
pub mod second_factors;
pub mod second_step;
pub mod terms;

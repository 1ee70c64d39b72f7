//! Domain types: what the tables hold, and the rules for valid values. No I/O.

pub mod actor;
pub mod authentication;
pub mod browser_session;
pub mod catalogue;
pub mod client;
pub mod denied_request;
pub mod device_authorization;
pub mod event;
pub mod event_types;
pub mod key;
pub mod mail;
pub mod module;
pub mod projection;
pub mod revocation;
pub mod saga;
pub mod second_factor;
pub mod service_token;
pub mod session;
pub mod trusted_issuer;
pub mod user;
pub mod webhook;

use crate::clock::{Clock, Rng};

/// A new UUIDv7 (RFC 9562 §5.7): ids sort by creation time, which keeps index inserts local.
pub fn new_id(clock: &Clock, rng: &Rng) -> String {
    let millis = u64::try_from(clock.now().micros() / 1_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &rng.bytes()).into_uuid().to_string()
}

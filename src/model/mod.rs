//! Domain types: what the tables hold, and the rules for valid values. No I/O.

pub mod actor;
pub mod application;
pub mod authentication;
pub mod browser_session;
pub mod catalogue;
pub mod client;
pub mod denied_request;
pub mod device;
pub mod device_authorization;
pub mod event;
pub mod event_types;
pub mod invitation;
pub mod key;
pub mod mail;
pub mod module;
pub mod profile;
pub mod projection;
pub mod revocation;
pub mod saga;
pub mod second_factor;
pub mod service_token;
pub mod session;
pub mod trusted_issuer;
pub mod upstream_identity;
pub mod user;
pub mod user_agent;
pub mod webhook;

use crate::clock::{Clock, Rng, Timestamp};

/// Sorts after every id, which is a UUID in hexadecimal, in any collation.
pub const AFTER_EVERY_ID: &str = "g";

/// A new UUIDv7 (RFC 9562 §5.7): ids sort by creation time, which keeps index inserts local.
pub fn new_id(clock: &Clock, rng: &Rng) -> String {
    let millis = u64::try_from(clock.now().micros() / 1_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &rng.bytes()).into_uuid().to_string()
}

/// The time in a UUIDv7, to the millisecond; `None` for any other text.
pub fn created_at(id: &str) -> Option<Timestamp> {
    let (seconds, nanos) = uuid::Uuid::try_parse(id).ok()?.get_timestamp()?.to_unix();
    let micros = i64::try_from(seconds).ok()?.checked_mul(1_000_000)?;
    micros.checked_add(i64::from(nanos / 1_000)).map(Timestamp)
}

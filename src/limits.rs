//! Rate limits per client network, account and client.
//!
//! The algorithm is GCRA (ITU-T I.371): one number per key, the theoretical arrival time. An
//! unknown key has its whole burst; the least used keys are evicted when `limits.tracked` is
//! reached.

pub mod bodies;

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use http::HeaderValue;
use ipnet::IpNet;
use quick_cache::{
    OptionsBuilder, UnitWeighter,
    sync::{Cache, DefaultLifecycle, EntryAction, EntryResult},
};
use sha2::{Digest, Sha256};

use crate::{
    clock::Timestamp,
    config,
    ids::{ClientId, UserId},
};

/// The limits; a label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    Address,
    LoginAccount,
    ClientAuth,
    Register,
    Writes,
    DeviceCode,
    Exchange,
    Proofs,
}

impl Limit {
    /// Every limit, in the order of declaration.
    pub const ALL: [Self; 8] = [
        Self::Address,
        Self::LoginAccount,
        Self::ClientAuth,
        Self::Register,
        Self::Writes,
        Self::DeviceCode,
        Self::Exchange,
        Self::Proofs,
    ];

    /// The name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::LoginAccount => "login_account",
            Self::ClientAuth => "client_auth",
            Self::Register => "register",
            Self::Writes => "writes",
            Self::DeviceCode => "device_code",
            Self::Exchange => "exchange",
            Self::Proofs => "proofs",
        }
    }
}

/// The configured limiters.
pub struct Limits {
    /// Requests to login, register and refresh from one network.
    pub address: Limiter,
    /// Guesses at one account's password that are checked before they count in the database: one at
    /// a time, until one is wrong. Refunded for each that was right.
    pub login_account: Limiter,
    /// Failed client authentications from one network: checked before, refunded after a success.
    pub client_auth: Limiter,
    /// Registrations from one network.
    pub register: Limiter,
    /// Requests that store something: of one user, of one self-registered client, and of the
    /// self-registered clients of one network.
    pub writes: Limiter,
    /// Wrong user codes (RFC 8628 §5.1) of one account and from one network: checked before,
    /// refunded after a success.
    pub device_code: Limiter,
    /// Token exchanges and ID-JAGs of one client.
    pub exchange: Limiter,
    /// DPoP proofs of one key that come with an access token: each is stored.
    pub proofs: Limiter,
}

impl Limits {
    /// The configured limiters; with `limits.enabled = false` they admit everything.
    pub fn new(config: &config::Limits) -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        const HOUR: Duration = Duration::from_secs(3600);
        let limiter = |window: Duration, count: u32, burst| {
            if config.enabled {
                Limiter::new(window / count.max(1), burst, config.tracked)
            } else {
                Limiter::off()
            }
        };
        Self {
            address: limiter(MINUTE, config.address_per_minute, config.address_burst),
            login_account: limiter(HOUR, 1, 1),
            client_auth: limiter(
                MINUTE,
                config.client_auth_failures_per_minute,
                config.client_auth_failures_burst,
            ),
            register: limiter(
                HOUR,
                config.register_per_address_per_hour,
                config.register_per_address_burst,
            ),
            writes: limiter(MINUTE, config.writes_per_minute, config.writes_burst),
            device_code: limiter(
                MINUTE,
                config.wrong_device_codes_per_minute,
                config.wrong_device_codes_burst,
            ),
            exchange: limiter(
                MINUTE,
                config.exchange_per_client_per_minute,
                config.exchange_per_client_burst,
            ),
            proofs: limiter(MINUTE, config.proofs_per_key_per_minute, config.proofs_per_key_burst),
        }
    }

    /// The limiter of a limit.
    pub const fn limiter(&self, limit: Limit) -> &Limiter {
        match limit {
            Limit::Address => &self.address,
            Limit::LoginAccount => &self.login_account,
            Limit::ClientAuth => &self.client_auth,
            Limit::Register => &self.register,
            Limit::Writes => &self.writes,
            Limit::DeviceCode => &self.device_code,
            Limit::Exchange => &self.exchange,
            Limit::Proofs => &self.proofs,
        }
    }
}

/// The key of a counter: 128 bits of SHA-256 over kind and content, so that keys of different kinds
/// never collide, and nobody can choose one that collides with a victim's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u128);

impl Key {
    /// The client's [`network`].
    pub fn address(ip: IpAddr) -> Self {
        match network(ip) {
            IpAddr::V4(ip) => Self::of(b'4', &ip.octets()),
            IpAddr::V6(ip) => Self::of(b'6', &ip.octets()),
        }
    }

    /// A user by id, so that all login names of a user count as one.
    pub fn user(id: &[u8]) -> Self {
        Self::of(b'u', id)
    }

    /// Guesses at an account's password that count in one row of the database.
    pub fn guesses([account, tag]: [&str; 2], row: &str) -> Self {
        Self::of(b'l', [account, "\0", tag, "\0", row].concat().as_bytes())
    }

    /// A client by its `client_id`.
    pub fn client(client_id: &ClientId) -> Self {
        Self::of(b'c', client_id.as_bytes())
    }

    /// A key that access tokens are bound to.
    pub fn proof(thumbprint: &[u8; 32]) -> Self {
        Self::of(b'k', thumbprint)
    }

    /// A user at a client.
    pub fn user_at_client(user_id: &UserId, client_id: &ClientId) -> Self {
        // No id contains NUL.
        Self::of(b'p', [user_id, "\0", client_id].concat().as_bytes())
    }

    fn of(kind: u8, content: &[u8]) -> Self {
        let digest = Sha256::new().chain_update([kind]).chain_update(content);
        let mut first = [0; 16];
        first.copy_from_slice(&digest.finalize()[..16]);
        Self(u128::from_be_bytes(first))
    }
}

/// Over the limit: the time until the next request is admitted. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter(pub Duration);

impl RetryAfter {
    /// Whole seconds, rounded up, for the `Retry-After` header (RFC 9110 §10.2.3).
    pub fn as_secs(self) -> u64 {
        self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0)
    }
}

/// Admits a burst, then one request per interval.
pub struct Limiter(Option<Active>);

struct Active {
    /// Microseconds between admissions, and for a whole burst.
    interval: i64,
    burst: i64,
    /// Theoretical arrival times, in microseconds since the epoch; updated under the shard's lock.
    arrivals: Arrivals,
}

type Arrivals = Cache<Key, i64>;

impl Limiter {
    /// Admits `burst` requests at once (at least one), then one per `per`, for about `tracked`
    /// keys.
    pub fn new(per: Duration, burst: u32, tracked: usize) -> Self {
        let interval = i64::try_from(per.as_micros()).unwrap_or(i64::MAX).max(1);
        let tracked = tracked.max(1);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(tracked)
            .weight_capacity(tracked as u64)
            .build();
        let arrivals = match options {
            Ok(options) => Cache::with_options(
                options,
                UnitWeighter,
                Default::default(),
                DefaultLifecycle::default(),
            ),
            // Only when an option is missing.
            Err(_) => Cache::new(tracked),
        };
        Self(Some(Active {
            interval,
            burst: interval.saturating_mul(i64::from(burst.max(1))),
            arrivals,
        }))
    }

    /// Admits everything.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Counts a request for `key`. Of simultaneous calls, on any number of threads, at most the
    /// burst are admitted. Rejected requests are not counted.
    ///
    /// # Errors
    /// [`RetryAfter`] when over the limit.
    pub fn check(&self, key: &Key, now: Timestamp) -> Result<(), RetryAfter> {
        let Some(active) = &self.0 else { return Ok(()) };
        let now = now.micros();
        let first = now.saturating_add(active.interval);
        let entry = active.arrivals.entry(key, None, |_, arrival| {
            // No arrival lies further ahead than a burst, unless the system clock was set back.
            let known = (*arrival).clamp(now, now.saturating_add(active.burst));
            let next = known.saturating_add(active.interval);
            let over = next.saturating_sub(now).saturating_sub(active.burst);
            *arrival = if over > 0 { known } else { next };
            EntryAction::Retain(over)
        });
        match entry {
            EntryResult::Retained(over) if over > 0 => {
                Err(RetryAfter(Duration::from_micros(over.unsigned_abs())))
            }
            EntryResult::Vacant(guard) => {
                // An error means that the key was evicted in the meantime, as any key may be.
                let _ = guard.insert(first);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// As [`Limiter::check`], but counts nothing.
    ///
    /// # Errors
    /// [`RetryAfter`] when the next request would be rejected.
    pub fn peek(&self, key: &Key, now: Timestamp) -> Result<(), RetryAfter> {
        let Some(active) = &self.0 else { return Ok(()) };
        let Some(arrival) = active.arrivals.get(key) else {
            return Ok(());
        };
        let now = now.micros();
        let known = arrival.clamp(now, now.saturating_add(active.burst));
        let next = known.saturating_add(active.interval);
        let over = next.saturating_sub(now).saturating_sub(active.burst);
        if over > 0 {
            return Err(RetryAfter(Duration::from_micros(over.unsigned_abs())));
        }
        Ok(())
    }

    /// Reverts one [`Limiter::check`], for a request that turned out not to count.
    pub fn refund(&self, key: &Key) {
        let Some(active) = &self.0 else { return };
        // The guard of an absent key is dropped at once: it has its whole burst anyway.
        let _ = active.arrivals.entry(key, None, |_, arrival| {
            *arrival = arrival.saturating_sub(active.interval);
            EntryAction::Retain(())
        });
    }
}

/// The network that one client is assumed to control: an IPv4 address, or an IPv6 /64 (the host
/// bits zeroed). IPv4-mapped IPv6 addresses are IPv4.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64))),
    }
}

/// The network that one organisation is assumed to control: an IPv4 address, or an IPv6 /48
/// (RFC 6177 §2), which has 65,536 of [`network`]'s.
pub fn site(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 80))),
    }
}

/// The client's address. `X-Forwarded-For` is read from the right, the nearest proxy's entry first,
/// for as long as the entry's writer is a trusted proxy; entries that the client sent are never
/// trusted. When a trusted proxy wrote an invalid address, the proxy's own address is used.
pub fn client_address<'a>(
    peer: IpAddr,
    x_forwarded_for: impl DoubleEndedIterator<Item = &'a HeaderValue>,
    trusted: &[IpNet],
) -> IpAddr {
    let mut client = peer.to_canonical();
    let hops =
        x_forwarded_for.rev().flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    for hop in hops {
        if !trusted.iter().any(|network| network.contains(&client)) {
            break;
        }
        match std::str::from_utf8(hop).ok().and_then(parse_hop) {
            Some(ip) => client = ip.to_canonical(),
            None => break,
        }
    }
    client
}

/// An address in any form that proxies write: bare, in brackets, or with a port.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || Some(text.parse::<std::net::SocketAddr>().ok()?.ip());
    text.parse().ok().or_else(bracketed).or_else(with_port)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn key(text: &str) -> Key {
        Key::client(&text.into())
    }

    #[test]
    fn a_burst_is_admitted_then_one_per_interval() {
        let limiter = Limiter::new(SECOND, 3, 100);
        for _ in 0..3 {
            assert_eq!(limiter.check(&key("a"), NOW), Ok(()));
        }
        assert_eq!(limiter.check(&key("a"), NOW), Err(RetryAfter(SECOND)));
        assert_eq!(limiter.check(&key("b"), NOW), Ok(()));
        let half = NOW + SECOND / 2;
        assert_eq!(limiter.check(&key("a"), half), Err(RetryAfter(SECOND / 2)));
        assert_eq!(limiter.check(&key("a"), NOW + SECOND), Ok(()));
        assert!(limiter.check(&key("a"), NOW + SECOND).is_err());
        let later = NOW + SECOND * 1000;
        let admitted = (0..10).filter(|_| limiter.check(&key("a"), later).is_ok());
        assert_eq!(admitted.count(), 3);
    }

    #[test]
    fn rejected_requests_do_not_lengthen_the_wait() {
        let limiter = Limiter::new(SECOND, 1, 100);
        assert_eq!(limiter.check(&key("a"), NOW), Ok(()));
        for _ in 0..1000 {
            assert_eq!(limiter.check(&key("a"), NOW), Err(RetryAfter(SECOND)));
        }
        assert_eq!(limiter.check(&key("a"), NOW + SECOND), Ok(()));
    }

    #[test]
    fn refunds_never_exceed_the_burst() {
        let limiter = Limiter::new(SECOND, 2, 100);
        limiter.refund(&key("a"));
        assert_eq!(limiter.check(&key("a"), NOW), Ok(()));
        assert_eq!(limiter.check(&key("a"), NOW), Ok(()));
        assert!(limiter.check(&key("a"), NOW).is_err());
        limiter.refund(&key("a"));
        assert_eq!(limiter.check(&key("a"), NOW), Ok(()));
        assert!(limiter.check(&key("a"), NOW).is_err());
        for _ in 0..50 {
            limiter.refund(&key("a"));
        }
        let admitted = (0..10).filter(|_| limiter.check(&key("a"), NOW).is_ok());
        assert_eq!(admitted.count(), 2);
    }

    #[test]
    fn parallel_requests_get_at_most_the_burst() {
        for round in 0..50 {
            let limiter = Limiter::new(SECOND, 10, 1000);
            let key = key(&format!("victim {round}"));
            let admitted: usize = thread::scope(|scope| {
                let guess = || (0..25).filter(|_| limiter.check(&key, NOW).is_ok()).count();
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(guess)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(admitted, 10);
        }
    }

    #[test]
    fn a_clock_set_back_locks_out_for_at_most_a_burst() {
        let limiter = Limiter::new(SECOND, 5, 100);
        assert_eq!(limiter.check(&key("a"), NOW), Ok(()));
        let before = NOW - SECOND * 3600;
        assert_eq!(limiter.check(&key("a"), before), Err(RetryAfter(SECOND)));
        assert_eq!(limiter.check(&key("a"), before + SECOND), Ok(()));
    }

    #[test]
    fn a_million_keys_stay_within_memory_and_do_not_evict_a_busy_one() {
        let limiter = Limiter::new(Duration::from_secs(3600), 5, 1000);
        let victim = key("victim");
        let mut admitted = 0;
        for number in 0..1_000_000_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            assert_eq!(limiter.check(&Key::address(address), NOW), Ok(()));
            if number % 100 == 0 && limiter.check(&victim, NOW).is_ok() {
                admitted += 1;
            }
        }
        assert_eq!(admitted, 5);
        let tracked = limiter.0.as_ref().map(|active| active.arrivals.len());
        assert!(tracked <= Some(1100), "{tracked:?}");
    }

    #[test]
    fn disabled_limits_admit_everything() {
        let config = config::Limits {
            enabled: false,
            address_per_minute: 1,
            address_burst: 1,
            client_auth_failures_per_minute: 1,
            client_auth_failures_burst: 1,
            register_per_address_per_hour: 1,
            register_per_address_burst: 1,
            writes_per_minute: 1,
            writes_burst: 1,
            wrong_device_codes_per_minute: 6,
            wrong_device_codes_burst: 10,
            exchange_per_client_per_minute: 1,
            exchange_per_client_burst: 1,
            proofs_per_key_per_minute: 1,
            proofs_per_key_burst: 1,
            tracked: 10,
        };
        let off = Limits::new(&config);
        let on = Limits::new(&config::Limits { enabled: true, ..config });
        for _ in 0..100 {
            assert_eq!(off.register.check(&key("a"), NOW), Ok(()));
        }
        assert_eq!(on.register.check(&key("a"), NOW), Ok(()));
        let hour = Duration::from_secs(3600);
        assert_eq!(on.register.check(&key("a"), NOW), Err(RetryAfter(hour)));
        assert_eq!(on.address.check(&key("a"), NOW), Ok(()));
        let minute = Duration::from_secs(60);
        assert_eq!(on.address.check(&key("a"), NOW), Err(RetryAfter(minute)));
    }

    #[test]
    fn keys_of_different_kinds_never_collide() {
        let guesses = |account| Key::guesses([account, ""], "");
        assert!(Key::user(b"x") != guesses("x"));
        assert!(Key::client(&"x".into()) != guesses("x"));
        assert!(Key::user(b"lx") != guesses("x"));
        assert!(Key::address(ip("97.98.99.100")) != Key::user(b"abcd"));
    }

    #[test]
    fn an_ipv6_64_and_a_mapped_ipv4_count_as_one_client() {
        assert_eq!(network(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
        assert!(Key::address(ip("2001:db8::1")) == Key::address(ip("2001:db8::ffff:1")));
        assert!(Key::address(ip("2001:db8::1")) != Key::address(ip("2001:db8:0:1::1")));
        assert!(Key::address(ip("::ffff:192.0.2.1")) == Key::address(ip("192.0.2.1")));
        assert!(Key::address(ip("192.0.2.1")) != Key::address(ip("192.0.2.2")));
    }

    #[test]
    fn retry_after_is_rounded_up_to_whole_seconds() {
        assert_eq!(RetryAfter(Duration::from_micros(1)).as_secs(), 1);
        assert_eq!(RetryAfter(SECOND).as_secs(), 1);
        assert_eq!(RetryAfter(Duration::from_millis(1001)).as_secs(), 2);
    }

    fn client(peer: &str, headers: &[&[u8]]) -> String {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "2001:db8::/32"]
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        let headers: Vec<HeaderValue> =
            headers.iter().map(|value| HeaderValue::from_bytes(value).unwrap()).collect();
        client_address(ip(peer), headers.iter(), &trusted).to_string()
    }

    #[test]
    fn headers_of_an_untrusted_peer_are_ignored() {
        assert_eq!(client("192.0.2.1", &[b"198.51.100.7"]), "192.0.2.1");
        assert_eq!(client("::ffff:192.0.2.1", &[b"10.0.0.1"]), "192.0.2.1");
    }

    #[test]
    fn the_nearest_untrusted_hop_is_the_client() {
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[b"198.51.100.7"]), "198.51.100.7");
        let spoofed: &[u8] = b"203.0.113.9, 198.51.100.7, 10.0.0.2";
        assert_eq!(client("::ffff:10.0.0.1", &[spoofed]), "198.51.100.7");
        let split: [&[u8]; 3] = [b"203.0.113.9", b"198.51.100.7,10.0.0.3", b"2001:db8::5"];
        assert_eq!(client("10.0.0.1", &split), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &[b"10.0.0.3,10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn addresses_with_ports_and_brackets_are_parsed() {
        assert_eq!(client("10.0.0.1", &[b"198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &[b"[2001:4::1]:80"]), "2001:4::1");
        assert_eq!(client("10.0.0.1", &[b"[2001:4::1]"]), "2001:4::1");
        assert_eq!(client("10.0.0.1", &[b" ::ffff:198.51.100.7\t"]), "198.51.100.7");
    }

    #[test]
    fn an_invalid_address_falls_back_to_the_last_valid_hop() {
        for bad in [&b"unknown"[..], b"", b"999.1.1.1", b"\xff\xfe", b"198.51.100.7,"] {
            assert_eq!(client("10.0.0.1", &[bad]), "10.0.0.1");
        }
        let spoofed: &[u8] = b"198.51.100.7, unknown, 10.0.0.2";
        assert_eq!(client("10.0.0.1", &[spoofed]), "10.0.0.2");
    }
}

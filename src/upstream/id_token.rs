//! What an ID token of a provider must say (OpenID Connect Core §3.1.3.7).

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    clock::{CLOCK_SKEW, Timestamp},
    config::upstream::Provider,
    oauth::access_token::Audience,
};

/// How old an ID token may be that comes directly from the token endpoint, in seconds.
const OLDEST: i64 = 600;

/// The longest `sub`, in bytes (Core §2).
const LONGEST_SUB: usize = 255;

/// The claims of an ID token, before they are checked.
#[derive(Debug, Deserialize)]
pub(super) struct IdTokenClaims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: Option<String>,
    auth_time: Option<i64>,
    pub at_hash: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// What the request of an ID token was.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub nonce: &'a str,
    /// When the request was sent.
    pub requested_at: Timestamp,
    /// The user had to authenticate again.
    pub again: bool,
    pub max_age: Option<u32>,
}

/// What a checked ID token says.
#[derive(Debug)]
pub struct IdToken {
    pub sub: String,
    /// When the user authenticated, where the provider says it.
    pub authenticated_at: Option<Timestamp>,
    /// The provider has asked for a second factor, by the configured values.
    pub is_mfa: bool,
    /// The other claims.
    pub claims: Map<String, Value>,
}

impl IdTokenClaims {
    /// Checks every claim.
    pub(super) fn check(
        self,
        provider: &Provider,
        expected: Expected<'_>,
        now: Timestamp,
    ) -> Result<IdToken, String> {
        let skew = i64::try_from(CLOCK_SKEW.as_secs()).unwrap_or_default();
        let seconds = now.as_secs();
        let client_id = &provider.client_id;
        let audiences = self.aud.names();
        let is_party = self.azp.as_ref() == Some(client_id);
        let is_future = |at: i64| at > seconds.saturating_add(skew);
        let auth_time = self.auth_time;
        // Core §3.1.2.1: with `max_age` the ID token must have `auth_time`.
        let is_recent = |since: i64| auth_time.is_some_and(|at| at >= since.saturating_sub(skew));
        let oldest_login = expected.max_age.map(|most| seconds.saturating_sub(i64::from(most)));
        let rules = [
            (self.iss == provider.issuer, "`iss` is not the issuer of the provider"),
            (audiences.contains(client_id), "audience mismatch: the token is for another client"),
            // Core §3.1.3.7 (3)–(5)
            (audiences.len() == 1 || is_party, "`azp` must be this client with several audiences"),
            (self.azp.is_none() || is_party, "`azp` is another client"),
            (self.exp > seconds.saturating_sub(skew), "it has expired"),
            (!is_future(self.iat), "`iat` is in the future"),
            (self.iat > seconds.saturating_sub(OLDEST), "`iat` is too long ago"),
            (!self.nbf.is_some_and(is_future), "`nbf` is in the future"),
            (self.nonce.as_deref() == Some(expected.nonce), "`nonce` is not that of the request"),
            (is_sub(&self.sub), "`sub` must have 1 to 255 ASCII characters"),
            (!auth_time.is_some_and(is_future), "`auth_time` is in the future"),
            (
                !expected.again || is_recent(expected.requested_at.as_secs()),
                "the user has not authenticated again (`auth_time`)",
            ),
            (
                oldest_login.is_none_or(is_recent),
                "the user has authenticated too long ago (`auth_time`)",
            ),
        ];
        if let Some((_, why)) = rules.iter().find(|(holds, _)| !holds) {
            return Err((*why).to_owned());
        }
        let reported = auth_time.and_then(Timestamp::from_secs).map(|at| at.min(now));
        // A login within this flow counts from now on: seconds of another clock would make it older
        // than the request that it satisfies.
        let is_new = is_recent(expected.requested_at.as_secs());
        Ok(IdToken {
            sub: self.sub,
            authenticated_at: if is_new { Some(now) } else { reported },
            is_mfa: is_mfa(provider, &self.others),
            claims: self.others,
        })
    }
}

/// Visible ASCII, as far as text goes into logs and rows.
fn is_sub(sub: &str) -> bool {
    (1..=LONGEST_SUB).contains(&sub.len()) && sub.bytes().all(|b| (0x20..=0x7e).contains(&b))
}

/// Whether `acr` or a value of `amr` counts as a second factor. Some providers write `amr` as text.
fn is_mfa(provider: &Provider, claims: &Map<String, Value>) -> bool {
    let is_among = |value: &Value, list: &[String]| {
        value.as_str().is_some_and(|value| list.iter().any(|one| one == value))
    };
    let amr = claims.get("amr");
    let amr = amr.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    claims.get("acr").is_some_and(|acr| is_among(acr, &provider.mfa_acr_values))
        || amr.iter().any(|method| is_among(method, &provider.mfa_amr_values))
}

//! Verification of access tokens without a call per token.

use std::{sync::Arc, time::Duration};

use quick_cache::sync::Cache;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    Error,
    feed::{RevocationFeed, RevocationStatus},
    jws::Jws,
    keys::Keys,
};

/// For which a first request waits for the list.
const FIRST_LIST: Duration = Duration::from_secs(5);

/// The claims of an access token (RFC 9068 §2.2). Dates are seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct AccessClaims {
    /// The issuer.
    pub iss: String,
    /// The user; of a client's own token the client.
    pub sub: String,
    /// The resources that the token is for.
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// When it was issued.
    pub iat: i64,
    /// When it expires.
    pub exp: i64,
    /// Before which it is not valid.
    pub nbf: Option<i64>,
    /// The token's id.
    pub jti: String,
    /// The client that it was issued to.
    pub client_id: String,
    /// The scopes, separated by spaces.
    #[serde(default)]
    pub scope: String,
    /// The session's id.
    pub sid: Option<String>,
    /// When the user logged in.
    pub auth_time: Option<i64>,
    /// How strong the login was.
    pub acr: Option<String>,
    /// The email address.
    pub email: Option<String>,
    /// Whether it is verified.
    pub email_verified: Option<bool>,
    /// The role.
    pub role: Option<String>,
    /// The user's modules.
    #[serde(default)]
    pub modules: Vec<String>,
    /// The tokens that this one was exchanged for (RFC 8693): it is revoked with each of them.
    #[serde(default)]
    pub derived_from: Vec<Origin>,
    /// All other claims.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// A token that another one was exchanged for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Origin {
    /// Its id.
    pub jti: String,
    /// When it was issued.
    pub iat: i64,
    /// The client that it was issued to.
    pub client_id: String,
    /// The key that signed it.
    pub kid: String,
}

impl AccessClaims {
    /// # Errors
    /// [`Error::MissingScope`] if the token lacks the scope.
    pub fn require_scope(&self, scope: &str) -> Result<(), Error> {
        let has = self.scope.split(' ').any(|known| known == scope);
        if has { Ok(()) } else { Err(Error::MissingScope(scope.to_owned())) }
    }

    /// # Errors
    /// [`Error::MissingModule`] if the token lacks the module.
    pub fn require_module(&self, module: &str) -> Result<(), Error> {
        let has = self.modules.iter().any(|known| known == module);
        if has { Ok(()) } else { Err(Error::MissingModule(module.to_owned())) }
    }
}

/// Verifies signature and claims, then asks the revocation list.
pub(crate) struct Verifier {
    issuer: Arc<str>,
    audience: Arc<str>,
    /// Seconds.
    leeway: i64,
    keys: Arc<Keys>,
    feed: RevocationFeed,
    /// Tokens whose signature and unchanging claims were verified before.
    verified: Cache<String, Verified>,
}

#[derive(Clone)]
struct Verified {
    key_id: Arc<str>,
    claims: Arc<AccessClaims>,
}

impl Verifier {
    pub(crate) fn new(
        issuer: Arc<str>,
        audience: Arc<str>,
        leeway: Duration,
        keys: Arc<Keys>,
        feed: RevocationFeed,
        remembered: usize,
    ) -> Self {
        let leeway = i64::try_from(leeway.as_secs()).unwrap_or(i64::MAX);
        Self { issuer, audience, leeway, keys, feed, verified: Cache::new(remembered) }
    }

    /// # Errors
    /// [`Error::InvalidToken`], or another one if it cannot be decided.
    pub(crate) async fn verify(&self, token: &str) -> Result<Arc<AccessClaims>, Error> {
        let known = self.verified.get(token);
        let is_new = known.is_none();
        let verified = match known {
            Some(verified) => verified,
            None => self.verify_signature(token).await?,
        };
        let claims = &verified.claims;
        let now = self.feed.clock().epoch_seconds();
        if claims.exp.saturating_add(self.leeway) <= now {
            return Err(Error::InvalidToken("the token has expired".to_owned()));
        }
        if claims.nbf.is_some_and(|nbf| nbf.saturating_sub(self.leeway) > now) {
            return Err(Error::InvalidToken("the token is not valid yet".to_owned()));
        }
        if self.feed.number().is_none() {
            self.feed.ready(FIRST_LIST).await;
        }
        match self.feed.check(&verified.key_id, claims) {
            RevocationStatus::Valid => {}
            RevocationStatus::Revoked => {
                return Err(Error::InvalidToken("the token was revoked".to_owned()));
            }
            RevocationStatus::Unknown => {
                return Err(Error::Unavailable(
                    "the revocation list is not current: tokens cannot be verified".to_owned(),
                ));
            }
        }
        if is_new {
            self.verified.insert(token.to_owned(), verified.clone());
        }
        Ok(verified.claims)
    }

    async fn verify_signature(&self, token: &str) -> Result<Verified, Error> {
        let jws = Jws::parse(token, "at+jwt", None).map_err(Error::InvalidToken)?;
        let key_id = jws.key_id().map_err(Error::InvalidToken)?;
        let key = self.keys.get(key_id).await?;
        let unknown = || Error::InvalidToken("the issuer has no key with this `kid`".to_owned());
        let key = key.ok_or_else(unknown)?;
        let claims: AccessClaims = jws.verify(&key).map_err(Error::InvalidToken)?;
        let refuse = |text: String| Err(Error::InvalidToken(text));
        if *claims.iss != *self.issuer {
            return refuse(format!("issuer mismatch: `iss` must be {}", self.issuer));
        }
        if !claims.aud.iter().any(|audience| **audience == *self.audience) {
            return refuse(format!("audience mismatch: `aud` must have {}", self.audience));
        }
        if claims.sub.is_empty() || claims.jti.is_empty() || claims.client_id.is_empty() {
            return refuse("`sub`, `jti` and `client_id` must not be empty".to_owned());
        }
        // RFC 9449 §7.2: its sender would have to prove that it has the key.
        if claims.other.contains_key("cnf") {
            return refuse("it is bound to a key (DPoP) and no bearer token".to_owned());
        }
        Ok(Verified { key_id: key_id.into(), claims: Arc::new(claims) })
    }
}

/// `aud` is a string or an array of strings (RFC 7519 §4.1.3).
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    match OneOrMany::deserialize(deserializer) {
        Ok(OneOrMany::One(one)) => Ok(vec![one]),
        Ok(OneOrMany::Many(many)) => Ok(many),
        Err(_) => Err(D::Error::custom("`aud` must be a string or an array of strings")),
    }
}

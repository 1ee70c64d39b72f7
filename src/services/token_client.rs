//! This server as a client of a token endpoint: how it authenticates there (RFC 6749 §2.3, OpenID
//! Connect Core §9).

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderValue;
use serde_json::json;
use url::form_urlencoded;

use super::Failure;
use crate::{
    clock::{CLOCK_SKEW, Timestamp},
    config::services::ServiceAuth,
    keys::ServiceKey,
    model::service_token::FailureKind,
};

/// How long an assertion is valid beyond the clock skew.
const ASSERTION_LIFE: Duration = Duration::from_secs(60);

/// The credentials of this server at a token endpoint.
pub struct TokenClient {
    /// `None`: a public client.
    pub auth: Option<ServiceAuth>,
    pub id: String,
    pub secret: String,
    pub key: Option<ServiceKey>,
    /// The `aud` of assertions.
    pub audience: String,
}

impl fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenClient({})", self.id)
    }
}

impl TokenClient {
    /// Adds to a form what authenticates its sender, or returns an `Authorization`. `ids`: for
    /// assertions.
    ///
    /// # Errors
    /// [`Failure`] for credentials that cannot be sent.
    pub fn authenticate(
        &self,
        add: &mut impl FnMut(&str, &str),
        now: Timestamp,
        ids: impl Fn() -> String,
    ) -> Result<Option<HeaderValue>, Failure> {
        match self.auth {
            Some(ServiceAuth::Basic) => return Ok(Some(self.basic()?)),
            Some(ServiceAuth::Post) => {
                add("client_id", &self.id);
                add("client_secret", &self.secret);
            }
            Some(ServiceAuth::PrivateKeyJwt) => {
                add("client_id", &self.id);
                let assertion_type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                add("client_assertion_type", assertion_type);
                add("client_assertion", &self.assertion("", now, ids())?);
            }
            None => add("client_id", &self.id),
        }
        Ok(None)
    }

    /// `client_secret_basic`: id and secret are form-encoded first (RFC 6749 §2.3.1).
    fn basic(&self) -> Result<HeaderValue, Failure> {
        let encoded =
            |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encoded(&self.id), encoded(&self.secret));
        let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
        let mut value = value
            .map_err(|_| Failure::new(FailureKind::Failed, "the client secret cannot be sent"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// A JWT about a user, or (empty) about this server (RFC 7523 §3). It is valid at an endpoint
    /// whose clock differs by [`CLOCK_SKEW`].
    ///
    /// # Errors
    /// [`Failure`] without a key.
    pub fn assertion(&self, subject: &str, now: Timestamp, jti: String) -> Result<String, Failure> {
        let failed = |cause: String| Failure::new(FailureKind::Failed, cause);
        let key = self.key.as_ref().ok_or_else(|| failed("there is no private key".to_owned()))?;
        let client_id = self.id.as_str();
        let subject = if subject.is_empty() { client_id } else { subject };
        let claims = json!({
            "iss": client_id,
            "sub": subject,
            "aud": self.audience,
            "jti": jti,
            "iat": (now - CLOCK_SKEW).as_secs(),
            "exp": (now + CLOCK_SKEW + ASSERTION_LIFE).as_secs(),
        });
        key.sign(&claims).map_err(failed)
    }
}

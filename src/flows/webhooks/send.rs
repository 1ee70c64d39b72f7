//! One request to an endpoint: signature, response (Standard Webhooks 1.0).

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::cloud_event::{self, MEDIA_TYPE},
    model::webhook::Webhook,
    storage::relay::OutboxRow,
};

/// Bytes of a secret (24 to 64 by the specification).
const SECRET: usize = 32;

/// The longest error that is kept, in characters.
const LONGEST_ERROR: usize = 300;

/// What an endpoint has responded.
#[derive(Clone, Debug)]
pub struct Sent {
    /// `None`: nothing.
    pub status: Option<u16>,
    /// Why it counts as a failure; `None`: it has accepted the event.
    pub error: Option<String>,
    /// When it may be asked again.
    pub retry_after: Option<Duration>,
}

/// A new secret, as it is shown: `whsec_` and base64.
pub fn new_secret(app: &App) -> Zeroizing<String> {
    let bytes = Zeroizing::new(app.rng.bytes::<SECRET>());
    Zeroizing::new(format!("whsec_{}", STANDARD.encode(*bytes)))
}

/// A secret of an endpoint, encrypted for its row.
///
/// # Errors
/// [`Error::Unavailable`].
pub fn sealed(app: &App, webhook_id: &str, secret: &str) -> Result<String, Error> {
    Ok(app.keys.seal(&name(webhook_id), secret.as_bytes())?)
}

/// What a secret of an endpoint is encrypted for.
fn name(webhook_id: &str) -> String {
    format!("webhook:{webhook_id}")
}

/// Sends an event to an endpoint, signed with every secret that is valid now.
///
/// # Errors
/// [`Error::Unavailable`] where a secret cannot be decrypted. What the endpoint does is no error.
pub async fn send(app: &App, webhook: &Webhook, event: &OutboxRow) -> Result<Sent, Error> {
    let data = serde_json::from_str(&event.data).unwrap_or_default();
    let body = cloud_event::structured(event, &app.config.server.issuer, &event.kind, data);
    let now = app.clock.now();
    let timestamp = now.as_secs().to_string();
    let is_valid = webhook.old_secret_expires_at.is_some_and(|expires_at| now < expires_at);
    let old = webhook.old_secret.as_ref().filter(|_| is_valid);
    let mut signatures = vec![];
    for secret in std::iter::once(&webhook.secret).chain(old) {
        let secret = app.keys.unseal(&name(&webhook.id), secret)?;
        signatures.push(sign(&secret, &event.id, &timestamp, &body)?);
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    for (name, value) in [
        ("webhook-id", &event.id),
        ("webhook-timestamp", &timestamp),
        ("webhook-signature", &signatures.join(" ")),
    ] {
        let value =
            HeaderValue::try_from(value).map_err(|error| Error::Unavailable(error.into()))?;
        headers.insert(name, value);
    }
    let timeout = app.config.webhooks.timeout;
    let posted =
        app.outbound.post_event(&webhook.settings.url, headers, body.into(), timeout).await;
    Ok(match posted {
        Ok(posted) => {
            let status = posted.status.as_u16();
            let error = (!posted.status.is_success()).then(|| format!("status {status}"));
            let waits = matches!(status, 429 | 503);
            let retry_after = posted.retry_after.filter(|_| waits);
            let retry_after = retry_after.and_then(|text| wait(&text, now));
            Sent { status: Some(status), error, retry_after }
        }
        Err(error) => {
            let error = error.to_string().chars().take(LONGEST_ERROR).collect();
            Sent { status: None, error: Some(error), retry_after: None }
        }
    })
}

/// `v1,` and base64 of HMAC-SHA-256 over id, timestamp and body.
fn sign(secret: &[u8], id: &str, timestamp: &str, body: &[u8]) -> Result<String, Error> {
    let corrupt = || Error::Unavailable("the secret of a webhook is corrupt".into());
    let encoded = secret.strip_prefix(b"whsec_").ok_or_else(corrupt)?;
    let key = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| corrupt())?);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| corrupt())?;
    for part in [id.as_bytes(), timestamp.as_bytes()] {
        mac.update(part);
        mac.update(b".");
    }
    mac.update(body);
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds or a date.
fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let format = &time::format_description::well_known::Rfc2822;
    // IMF-fixdate is a date of RFC 2822 but for the name of its zone.
    let text = text.trim().replace("GMT", "+0000");
    let at = time::OffsetDateTime::parse(&text, format).ok()?;
    Some(Timestamp::from_secs(at.unix_timestamp())? - now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_specification() {
        // The test vector of the specification's libraries.
        let secret = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let (id, at) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");
        let signature = sign(secret, id, at, br#"{"test": 2432232314}"#).unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_secs(784_111_777).unwrap();
        assert_eq!(wait("120", now), Some(Duration::from_secs(120)));
        let later = wait("Sun, 06 Nov 1994 08:50:37 GMT", now);
        assert_eq!(later, Some(Duration::from_secs(60)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(wait("soon", now), None);
    }
}

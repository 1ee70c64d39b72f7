//! The metadata of a provider (OpenID Connect Discovery 1.0).

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::{
    clock::Timestamp,
    config::upstream::Provider,
    model::service_token::FailureKind,
    outbound::{Outbound, ServiceRequest},
    services::Failure,
};

/// How long metadata are used before they are requested again.
const FRESH_FOR: Duration = Duration::from_secs(3_600);

/// How long metadata are used while the provider is not reached.
const USABLE_FOR: Duration = Duration::from_secs(24 * 3_600);

/// The shortest time between two requests, after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// What this server uses of a provider's metadata (Discovery §3).
#[derive(Debug, Deserialize)]
pub struct Metadata {
    issuer: String,
    pub authorization_endpoint: String,
    pub token_endpoint: String,
    pub jwks_uri: String,
    pub userinfo_endpoint: Option<String>,
    /// Whether authorization responses have an `iss` (RFC 9207 §3).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
    code_challenge_methods_supported: Option<Vec<String>>,
}

impl Metadata {
    fn parse(body: &[u8], issuer: &str) -> Result<Self, String> {
        let document: Value =
            serde_json::from_slice(body).map_err(|_| "are not JSON".to_owned())?;
        let metadata: Self =
            serde_json::from_value(document).map_err(|error| format!("are not valid: {error}"))?;
        // Discovery §4.3: else one provider could pass itself off as another.
        if metadata.issuer != issuer {
            return Err("name another issuer than the configured one".to_owned());
        }
        let endpoints = [
            Some(&metadata.authorization_endpoint),
            Some(&metadata.token_endpoint),
            Some(&metadata.jwks_uri),
            metadata.userinfo_endpoint.as_ref(),
        ];
        // http is allowed for an issuer with http, which is on loopback.
        let is_allowed = |url: &&String| {
            url.starts_with("https://")
                || (issuer.starts_with("http://") && url.starts_with("http://"))
        };
        if !endpoints.into_iter().flatten().all(|url| is_allowed(&url)) {
            return Err("have an endpoint without https".to_owned());
        }
        let methods = &metadata.code_challenge_methods_supported;
        if methods.as_ref().is_some_and(|methods| !methods.iter().any(|method| method == "S256")) {
            return Err("announce PKCE without S256".to_owned());
        }
        Ok(metadata)
    }
}

/// The metadata of a provider, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Discovery(Mutex<Option<Cached>>);

#[derive(Debug)]
struct Cached {
    metadata: Result<Arc<Metadata>, Failure>,
    fetched_at: Timestamp,
    /// Later than `fetched_at` where a request has failed since.
    tried_at: Timestamp,
}

impl Cached {
    /// Whether it is used without a request.
    fn is_fresh(&self, now: Timestamp) -> bool {
        let is_good = self.metadata.is_ok() && self.fetched_at.distance(now) < FRESH_FOR;
        is_good || self.tried_at.distance(now) < RETRY_INTERVAL
    }
}

impl Discovery {
    /// The known metadata, or those that the provider answers with. Those who ask meanwhile wait for
    /// the same request, as long as it may take.
    pub async fn metadata(
        &self,
        outbound: &Outbound,
        provider: &Provider,
        now: Timestamp,
    ) -> Result<Arc<Metadata>, Failure> {
        let mut cached = self.0.lock().await;
        if let Some(known) = cached.as_ref().filter(|known| known.is_fresh(now)) {
            return known.metadata.clone();
        }
        let requested = request(outbound, provider).await;
        let new = match (requested, cached.take()) {
            (Ok(metadata), _) => {
                Cached { metadata: Ok(Arc::new(metadata)), fetched_at: now, tried_at: now }
            }
            // A provider that is not reached has changed nothing; a wrong answer counts.
            (Err(failure), Some(old))
                if failure.is_of_all()
                    && old.metadata.is_ok()
                    && old.fetched_at.distance(now) < USABLE_FOR =>
            {
                Cached { tried_at: now, ..old }
            }
            (Err(failure), _) => {
                tracing::warn!(
                    issuer = provider.issuer,
                    cause = failure.cause,
                    "reading the metadata of a login provider failed"
                );
                Cached { metadata: Err(failure), fetched_at: now, tried_at: now }
            }
        };
        let metadata = new.metadata.clone();
        *cached = Some(new);
        metadata
    }
}

async fn request(outbound: &Outbound, provider: &Provider) -> Result<Metadata, Failure> {
    let issuer = provider.issuer.trim_end_matches('/');
    let url = format!("{issuer}/.well-known/openid-configuration");
    let response = outbound.send(ServiceRequest {
        method: Method::GET,
        url: &url,
        authorization: None,
        form: None,
        timeout: provider.timeout,
    });
    let response = response.await?;
    if response.status != StatusCode::OK {
        let kind = if response.status.is_server_error() {
            FailureKind::Unavailable
        } else {
            FailureKind::Failed
        };
        let status = response.status.as_u16();
        return Err(Failure::new(kind, format!("the metadata have the status {status}")));
    }
    Metadata::parse(&response.body, &provider.issuer)
        .map_err(|why| Failure::new(FailureKind::Failed, format!("the metadata {why}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(change: Value) -> Result<Metadata, String> {
        let mut document = json!({
            "issuer": "https://op.example",
            "authorization_endpoint": "https://op.example/a",
            "token_endpoint": "https://op.example/t",
            "jwks_uri": "https://op.example/k",
        });
        for (name, value) in change.as_object().unwrap() {
            document[name] = value.clone();
        }
        Metadata::parse(document.to_string().as_bytes(), "https://op.example")
    }

    #[test]
    fn metadata_are_of_the_configured_issuer_and_have_https_endpoints() {
        assert!(parse(json!({})).is_ok());
        assert!(parse(json!({ "code_challenge_methods_supported": ["plain", "S256"] })).is_ok());
        for bad in [
            json!({ "issuer": "https://op.example/" }),
            json!({ "issuer": "https://evil.example" }),
            json!({ "token_endpoint": "http://op.example/t" }),
            json!({ "jwks_uri": "http://op.example/k" }),
            json!({ "authorization_endpoint": "javascript:alert(1)" }),
            json!({ "userinfo_endpoint": "http://op.example/u" }),
            json!({ "token_endpoint": null }),
            json!({ "code_challenge_methods_supported": ["plain"] }),
        ] {
            assert!(parse(bad.clone()).is_err(), "{bad}");
        }
    }
}

//! The client of other OpenID providers (`[upstream.NAME]`): their metadata, the token request, and
//! what an ID token must say. Whose account it is, is decided in [`crate::flows::upstream`].

mod discovery;
mod id_token;

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderValue, Method, StatusCode};
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

use self::{discovery::Discovery, id_token::IdTokenClaims};
pub use self::{
    discovery::Metadata,
    id_token::{Expected, IdToken},
};
use crate::{
    caches::client_keys::ClientKeys,
    clock::Timestamp,
    config,
    jose::ClientJwt,
    keys::ServiceKey,
    model::service_token::FailureKind,
    oauth::id_token::at_hash,
    outbound::{Outbound, ServiceRequest},
    services::{self, Failure, TokenClient},
};

/// The configured providers.
#[derive(Debug, Default)]
pub struct Upstreams {
    by_name: BTreeMap<String, Arc<Provider>>,
}

/// A provider.
#[derive(Debug)]
pub struct Provider {
    pub name: String,
    pub config: config::upstream::Provider,
    client: TokenClient,
    discovery: Discovery,
}

/// Parameters of an authorization request to a provider.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuthorizationParameters<'a> {
    pub redirect_uri: &'a str,
    pub state: &'a str,
    pub nonce: &'a str,
    pub code_challenge: &'a str,
    /// `prompt=login`: the user authenticates again.
    pub again: bool,
    pub max_age: Option<u32>,
    pub login_hint: Option<&'a str>,
    /// Whether to ask for a second factor, by the configured `mfa_acr_values`.
    pub second_factor: bool,
}

/// A code that a provider has issued, with what it is exchanged with.
#[derive(Clone, Copy, Debug)]
pub struct CodeExchange<'a> {
    pub code: &'a str,
    pub verifier: &'a str,
    pub redirect_uri: &'a str,
}

/// What a token response says.
#[derive(Debug)]
pub struct Tokens {
    id_token: String,
    access_token: String,
}

impl Upstreams {
    /// The configured providers. Nothing is requested yet.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn new(config: &config::upstream::Upstream) -> Result<Self, String> {
        let mut by_name = BTreeMap::new();
        for (name, settings) in config {
            let key = settings.private_key_file.as_deref();
            let key = key.map(|path| ServiceKey::read(path, &settings.key_id)).transpose();
            let key = key.map_err(|why| format!("upstream.{name}: private_key_file {why}"))?;
            let client = TokenClient {
                auth: settings.auth(),
                id: settings.client_id.clone(),
                secret: settings.client_secret.clone(),
                key,
                audience: settings.assertion_audience().to_owned(),
            };
            let provider = Provider {
                name: name.clone(),
                config: settings.clone(),
                client,
                discovery: Discovery::default(),
            };
            by_name.insert(name.clone(), Arc::new(provider));
        }
        Ok(Self { by_name })
    }

    /// The provider of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Provider>> {
        self.by_name.get(name)
    }

    /// The provider of that issuer.
    pub fn of_issuer(&self, issuer: &str) -> Option<&Arc<Provider>> {
        self.by_name.values().find(|provider| provider.config.issuer == issuer)
    }

    /// Every provider in the order of their buttons.
    pub fn ordered(&self) -> Vec<&Arc<Provider>> {
        let mut all: Vec<_> = self.by_name.values().collect();
        // Stable: those of one order stay sorted by name.
        all.sort_by_key(|provider| provider.config.order);
        all
    }
}

impl Provider {
    /// The metadata of the provider, which are requested at most every hour, and after a failure at
    /// most every 30 seconds.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn metadata(
        &self,
        outbound: &Outbound,
        now: Timestamp,
    ) -> Result<Arc<Metadata>, Failure> {
        self.discovery.metadata(outbound, &self.config, now).await
    }

    /// Where a browser is sent to log in (OpenID Connect Core §3.1.2.1).
    pub fn authorization_url(
        &self,
        metadata: &Metadata,
        parameters: AuthorizationParameters<'_>,
    ) -> Option<String> {
        let mut url = Url::parse(&metadata.authorization_endpoint).ok()?;
        let max_age = parameters.max_age.map(|seconds| seconds.to_string());
        let acr_values = if parameters.second_factor {
            self.config.mfa_acr_values.join(" ")
        } else {
            String::new()
        };
        let all = [
            ("response_type", "code"),
            ("response_mode", "query"),
            ("client_id", self.config.client_id.as_str()),
            ("redirect_uri", parameters.redirect_uri),
            ("scope", self.config.scope.as_str()),
            ("state", parameters.state),
            ("nonce", parameters.nonce),
            ("code_challenge", parameters.code_challenge),
            ("code_challenge_method", "S256"),
            ("prompt", if parameters.again { "login" } else { "" }),
            ("max_age", max_age.as_deref().unwrap_or_default()),
            ("login_hint", parameters.login_hint.unwrap_or_default()),
            ("acr_values", &acr_values),
        ];
        url.query_pairs_mut().extend_pairs(all.iter().filter(|(_, value)| !value.is_empty()));
        Some(url.into())
    }

    /// Exchanges a code. `ids`: for assertions.
    ///
    /// # Errors
    /// [`Failure`], also without an ID token.
    pub async fn exchange(
        &self,
        outbound: &Outbound,
        metadata: &Metadata,
        code: CodeExchange<'_>,
        now: Timestamp,
        ids: impl Fn() -> String,
    ) -> Result<Tokens, Failure> {
        let request = self.token_request(code, now, ids)?;
        let timeout = self.config.timeout;
        let granted = services::send(outbound, &metadata.token_endpoint, request, timeout).await?;
        let id_token = granted.id_token.ok_or_else(|| {
            Failure::new(FailureKind::Failed, "the token endpoint sent no ID token")
        })?;
        Ok(Tokens { id_token, access_token: granted.access_token })
    }

    /// The body of the token request, and its `Authorization`.
    fn token_request(
        &self,
        code: CodeExchange<'_>,
        now: Timestamp,
        ids: impl Fn() -> String,
    ) -> Result<(String, Option<HeaderValue>), Failure> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        let mut add = |name: &str, value: &str| {
            form.append_pair(name, value);
        };
        add("grant_type", "authorization_code");
        add("code", code.code);
        add("redirect_uri", code.redirect_uri);
        add("code_verifier", code.verifier);
        let authorization = self.client.authenticate(&mut add, now, ids)?;
        Ok((form.finish(), authorization))
    }

    /// Checks the ID token (OpenID Connect Core §3.1.3.7): its signature by a key of the provider,
    /// and every claim.
    ///
    /// # Errors
    /// Which rule it breaks, for the log.
    pub async fn verify(
        &self,
        (outbound, keys): (&Outbound, &ClientKeys),
        metadata: &Metadata,
        tokens: &Tokens,
        expected: Expected<'_>,
        now: Timestamp,
    ) -> Result<IdToken, String> {
        let jwt = ClientJwt::parse(&tokens.id_token).map_err(|why| why.to_string())?;
        // An explicit type of another kind of token (RFC 8725 §3.11).
        if jwt.typ().is_some_and(|typ| typ != "jwt") {
            return Err("unexpected token type (`typ`)".to_owned());
        }
        // Asymmetric algorithms only: with a MAC every client that knows the secret is the provider.
        let verified = keys.verify_configured(outbound, now, &metadata.jwks_uri, &jwt).await;
        verified.map_err(|why| why.to_string())?;
        let claims: IdTokenClaims = jwt.claims().map_err(|why| why.to_string())?;
        let right_hash = || at_hash(&tokens.access_token, jwt.algorithm());
        if claims.at_hash.as_ref().is_some_and(|given| *given != right_hash()) {
            return Err("`at_hash` is not that of the access token".to_owned());
        }
        claims.check(&self.config, expected, now)
    }

    /// The claims at the UserInfo endpoint (OpenID Connect Core §5.3); none where there is no such
    /// endpoint.
    ///
    /// # Errors
    /// [`Failure`], also where they are about another user.
    pub async fn user_info(
        &self,
        outbound: &Outbound,
        metadata: &Metadata,
        tokens: &Tokens,
        sub: &str,
    ) -> Result<Map<String, Value>, Failure> {
        let failed = |cause: &str| {
            Failure::new(FailureKind::Failed, format!("the UserInfo endpoint {cause}"))
        };
        let Some(url) = &metadata.userinfo_endpoint else { return Ok(Map::new()) };
        let authorization = HeaderValue::try_from(format!("Bearer {}", tokens.access_token));
        let mut authorization =
            authorization.map_err(|_| failed("cannot get the access token in a header"))?;
        authorization.set_sensitive(true);
        let response = outbound.send(ServiceRequest {
            method: Method::GET,
            url,
            authorization: Some(authorization),
            form: None,
            timeout: self.config.timeout,
        });
        let response = response.await?;
        if response.status != StatusCode::OK {
            return Err(failed(&format!("responded with status {}", response.status.as_u16())));
        }
        match serde_json::from_slice(&response.body) {
            // Core §5.3.2: the `sub` must be that of the ID token.
            Ok(Value::Object(claims)) if claims.get("sub").and_then(Value::as_str) == Some(sub) => {
                Ok(claims)
            }
            Ok(Value::Object(_)) => Err(failed("answered about another `sub`")),
            _ => Err(failed("did not answer with a JSON object")),
        }
    }
}

//! Requests to the token endpoint of a service (RFC 6749 §4, RFC 7523, RFC 8693), and to its
//! revocation endpoint (RFC 7009).

use std::{fmt, time::Duration};

use http::{HeaderValue, Method, StatusCode};
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::{Failure, Service, unexpected};
use crate::{
    clock::Timestamp,
    config::services::ServiceGrant,
    model::service_token::FailureKind,
    outbound::{Outbound, ServiceRequest},
};

/// The lifetime of a token of which the service does not say it (`expires_in` is only RECOMMENDED,
/// RFC 6749 §5.1).
const UNKNOWN_LIFE: Duration = Duration::from_secs(300);

/// The longest lifetime that is believed.
const LONGEST_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// The longest token, in bytes.
const LONGEST_TOKEN: usize = 16 * 1024;

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// What a token is requested with.
#[derive(Clone, Copy)]
pub enum Grants<'a> {
    /// As the service is configured, for this user or (empty) for this server.
    Configured {
        subject: &'a str,
    },
    RefreshToken(&'a str),
    /// Of a user who connects an account.
    Code {
        code: &'a str,
        verifier: &'a str,
        redirect_uri: &'a str,
    },
}

/// A token response.
pub struct Granted {
    pub access_token: String,
    pub refresh_token: Option<String>,
    /// Of an OpenID provider (OpenID Connect Core §3.1.3.3).
    pub id_token: Option<String>,
    pub expires_in: Duration,
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Granted({:?})", self.expires_in)
    }
}

impl Service {
    /// Requests a token. `ids`: for assertions.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn request_token(
        &self,
        outbound: &Outbound,
        grant: Grants<'_>,
        now: Timestamp,
        ids: impl Fn() -> String,
    ) -> Result<Granted, Failure> {
        let (form, authorization) = self.form(grant, now, ids)?;
        let url = &self.config.token_url;
        send(outbound, url, (form, authorization), self.config.timeout).await
    }

    /// Revokes a token (RFC 7009 §2.1). One that the service does not know counts as revoked (§2.2).
    /// `ids`: for assertions.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn revoke_token(
        &self,
        outbound: &Outbound,
        token: &str,
        hint: &str,
        now: Timestamp,
        ids: impl Fn() -> String,
    ) -> Result<(), Failure> {
        let (form, authorization) = {
            let mut form = form_urlencoded::Serializer::new(String::new());
            let mut add = |name: &str, value: &str| {
                form.append_pair(name, value);
            };
            add("token", token);
            add("token_type_hint", hint);
            let authorization = self.client.authenticate(&mut add, now, ids)?;
            (form.finish(), authorization)
        };
        let response = outbound.send(ServiceRequest {
            method: Method::POST,
            url: &self.config.revocation_url,
            authorization,
            form: Some(form),
            timeout: self.config.timeout,
        });
        let response = response.await?;
        if response.status == StatusCode::OK {
            return Ok(());
        }
        let what = "the revocation endpoint";
        Err(named(unexpected(what, response.status, response.retry_after), &response.body))
    }

    /// The body of the request, and its `Authorization`.
    fn form(
        &self,
        grant: Grants<'_>,
        now: Timestamp,
        ids: impl Fn() -> String,
    ) -> Result<(String, Option<HeaderValue>), Failure> {
        let config = &self.config;
        let mut form = form_urlencoded::Serializer::new(String::new());
        let mut add = |name: &str, value: &str| {
            if !value.is_empty() {
                form.append_pair(name, value);
            }
        };
        match grant {
            Grants::RefreshToken(token) => {
                add("grant_type", "refresh_token");
                add("refresh_token", token);
            }
            Grants::Code { code, verifier, redirect_uri } => {
                add("grant_type", "authorization_code");
                add("code", code);
                add("redirect_uri", redirect_uri);
                add("code_verifier", verifier);
            }
            Grants::Configured { subject } => {
                self.add_configured(subject, now, &ids, &mut add)?;
                add("scope", &config.scope);
                add("audience", &config.audience);
            }
        }
        let authorization = self.client.authenticate(&mut add, now, ids)?;
        Ok((form.finish(), authorization))
    }

    fn add_configured(
        &self,
        subject: &str,
        now: Timestamp,
        ids: &impl Fn() -> String,
        add: &mut impl FnMut(&str, &str),
    ) -> Result<(), Failure> {
        let config = &self.config;
        match config.grant {
            ServiceGrant::ClientCredentials => add("grant_type", "client_credentials"),
            ServiceGrant::Password => {
                add("grant_type", "password");
                add("username", &config.username);
                add("password", &config.password);
            }
            ServiceGrant::JwtBearer => {
                add("grant_type", JWT_BEARER);
                add("assertion", &self.client.assertion(subject, now, ids())?);
            }
            ServiceGrant::TokenExchange => {
                add("grant_type", TOKEN_EXCHANGE);
                add("subject_token", &self.client.assertion(subject, now, ids())?);
                add("subject_token_type", "urn:ietf:params:oauth:token-type:jwt");
                add("requested_token_type", "urn:ietf:params:oauth:token-type:access_token");
            }
            ServiceGrant::RefreshToken => {
                return Err(Failure::new(FailureKind::Failed, "there is no refresh token"));
            }
        }
        Ok(())
    }
}

/// Sends a form to a token endpoint, with its `Authorization`.
///
/// # Errors
/// [`Failure`].
pub async fn send(
    outbound: &Outbound,
    url: &str,
    (form, authorization): (String, Option<HeaderValue>),
    timeout: Duration,
) -> Result<Granted, Failure> {
    let response = outbound.send(ServiceRequest {
        method: Method::POST,
        url,
        authorization,
        form: Some(form),
        timeout,
    });
    let response = response.await?;
    if response.status != StatusCode::OK {
        let failure = unexpected("the token endpoint", response.status, response.retry_after);
        return Err(named(failure, &response.body));
    }
    read(&response.body)
}

/// The failure with the OAuth error code of the response, if it is one.
fn named(failure: Failure, body: &[u8]) -> Failure {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let is_code = |code: &&str| {
        (1..=40).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let Some(code) = body["error"].as_str().filter(is_code) else {
        return failure;
    };
    Failure {
        cause: format!("{}: {code}", failure.cause),
        is_invalid_grant: code == "invalid_grant",
        ..failure
    }
}

/// Reads a token response (RFC 6749 §5.1).
fn read(body: &[u8]) -> Result<Granted, Failure> {
    let failed =
        |cause: &str| Failure::new(FailureKind::Failed, format!("the token endpoint {cause}"));
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
        return Err(failed("did not answer with a JSON object"));
    };
    let is_token = |text: &&str| {
        (1..=LONGEST_TOKEN).contains(&text.len())
            && text.bytes().all(|b| (0x21..=0x7e).contains(&b))
    };
    let token = |name: &str| body.get(name).and_then(Value::as_str).filter(is_token);
    let access_token = token("access_token").ok_or_else(|| failed("sent no access token"))?;
    let token_type = body.get("token_type").and_then(Value::as_str).unwrap_or_default();
    if !token_type.eq_ignore_ascii_case("bearer") {
        return Err(failed("sent a token that is not of the type Bearer"));
    }
    // Some servers send a string.
    let seconds = body.get("expires_in").map(|seconds| match seconds {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64().or_else(|| other.as_f64().map(|seconds| seconds as u64)),
    });
    let expires_in = match seconds {
        None => UNKNOWN_LIFE,
        Some(Some(seconds @ 1..)) => Duration::from_secs(seconds).min(LONGEST_LIFE),
        Some(_) => return Err(failed("sent a token that has expired")),
    };
    Ok(Granted {
        access_token: access_token.to_owned(),
        refresh_token: token("refresh_token").map(str::to_owned),
        id_token: token("id_token").map(str::to_owned),
        expires_in,
    })
}

/// Where a browser is sent to connect an account: an authorization request with PKCE.
pub fn authorization_url(
    service: &Service,
    redirect_uri: &str,
    state: &str,
    challenge: &str,
) -> Option<String> {
    let config = &service.config;
    let mut url = Url::parse(&config.authorization_url).ok()?;
    let parameters = [
        ("response_type", "code"),
        ("client_id", config.client_id.as_str()),
        ("redirect_uri", redirect_uri),
        ("scope", config.scope.as_str()),
        ("audience", config.audience.as_str()),
        ("state", state),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
    ];
    let parameters = parameters.iter().filter(|(_, value)| !value.is_empty());
    url.query_pairs_mut().extend_pairs(parameters);
    Some(url.into())
}

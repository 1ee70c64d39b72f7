//! Requests to the server.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    clock::Clock,
    error::{Detail, Error, ServerError},
};

/// Until an attempt counts as lost.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// The same, of a request that must not be sent again: passwords take their time to hash.
const ONLY_TIMEOUT: Duration = Duration::from_secs(30);
/// After the first attempt, within which another one may begin. A refresh token may be presented
/// again for `tokens.replay_window`, 10 s; a later retry would count as reuse and revoke the
/// session.
const RETRY_WITHIN: Duration = Duration::from_secs(6);
const RETRY_DELAYS: [Duration; 3] =
    [Duration::from_millis(150), Duration::from_millis(500), Duration::from_millis(1500)];
/// Answers are small; more is not from the server.
pub(crate) const MAX_ANSWER: usize = 1024 * 1024;

/// The tokens and the user of a session.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Tokens {
    /// A JWT.
    pub access_token: String,
    /// Valid once; the answer to a refresh has the next one.
    pub refresh_token: String,
    /// The lifetime of the access token in seconds.
    pub expires_in: u64,
    /// The lifetime of the refresh token in seconds.
    pub refresh_expires_in: u64,
    /// Whose they are.
    pub user: User,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Tokens do not belong into a log.
        f.debug_struct("Tokens").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct User {
    /// The id, the `sub` of the tokens.
    pub id: String,
    /// The email address.
    pub email: String,
    /// The username, where there is one.
    pub username: Option<String>,
    /// The role.
    pub role: String,
    /// Whether the email address is verified.
    pub is_verified: bool,
    /// RFC 3339.
    pub created_at: String,
}

/// The session of a logged-in user.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Session {
    /// The user's id, the `sub` of the access token.
    pub user_id: String,
    /// The email address.
    pub email: String,
    /// The username, where there is one.
    pub username: Option<String>,
    /// The role.
    pub role: String,
    /// The scopes of the access token.
    pub scopes: Vec<String>,
    /// The user's modules.
    pub modules: Vec<String>,
    /// When the access token expires, by RFC 3339.
    pub expires_at: String,
}

impl Session {
    /// # Errors
    /// [`Error::MissingScope`] if the session lacks the scope.
    pub fn require_scope(&self, scope: &str) -> Result<(), Error> {
        let has = self.scopes.iter().any(|known| known == scope);
        if has { Ok(()) } else { Err(Error::MissingScope(scope.to_owned())) }
    }

    /// # Errors
    /// [`Error::MissingModule`] if the user lacks the module.
    pub fn require_module(&self, module: &str) -> Result<(), Error> {
        let has = self.modules.iter().any(|known| known == module);
        if has { Ok(()) } else { Err(Error::MissingModule(module.to_owned())) }
    }
}

/// An account to be created.
#[derive(Clone, Default, Serialize)]
pub struct Registration {
    /// The email address, by which the user logs in.
    pub email: String,
    /// Another name to log in by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration").field("email", &self.email).finish_non_exhaustive()
    }
}

/// Sends requests to a server.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) http: reqwest::Client,
    /// Where the server is reached, without a slash at its end.
    pub(crate) url: Arc<str>,
    pub(crate) clock: Clock,
}

/// A request to the JSON API.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Below `/api/v1/auth`.
    pub(crate) path: &'static str,
    pub(crate) access_token: Option<&'a str>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<serde_json::Value>,
    /// Whether it may be sent again if its answer was lost.
    pub(crate) idempotent: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn get(path: &'static str, access_token: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            access_token: Some(access_token),
            headers: HeaderMap::new(),
            body: None,
            idempotent: true,
        }
    }

    pub(crate) fn post(path: &'static str, body: serde_json::Value) -> Self {
        Self {
            method: Method::POST,
            path,
            access_token: None,
            headers: HeaderMap::new(),
            body: Some(body),
            idempotent: false,
        }
    }
}

/// The envelope of an answer of the JSON API.
#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorEnvelope {
    error_code: String,
    message: String,
    #[serde(default)]
    details: Vec<Detail>,
    request_id: Option<String>,
}

impl Api {
    /// Sends a request, and returns the `data` of the answer. An idempotent request whose answer
    /// was lost is sent again.
    pub(crate) async fn call<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, Error> {
        let began = self.clock.now();
        let mut delays = RETRY_DELAYS.iter();
        loop {
            let error = match self.once(&call).await {
                Ok(data) => return Ok(data),
                Err(error) => error,
            };
            let Some(delay) = delays.next().filter(|_| call.idempotent && error.is_lost()) else {
                return Err(error);
            };
            // Between half of the delay and all of it and a half.
            let delay = delay.mul_f64(0.5 + crate::random_fraction());
            if self.clock.now().since(began) + delay > RETRY_WITHIN {
                return Err(error);
            }
            tokio::time::sleep(delay).await;
        }
    }

    async fn once<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, Error> {
        let url = format!("{}/api/v1/auth{}", self.url, call.path);
        let timeout = if call.idempotent { ATTEMPT_TIMEOUT } else { ONLY_TIMEOUT };
        let mut request = self
            .http
            .request(call.method.clone(), url)
            .timeout(timeout)
            .headers(call.headers.clone())
            .header(header::ACCEPT, "application/json");
        if let Some(token) = call.access_token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = &call.body {
            request =
                request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let describe = || format!("{} /api/v1/auth{}", call.method, call.path);
        let answer = send(request, describe, MAX_ANSWER).await?;
        if answer.is_success() {
            match serde_json::from_slice::<Envelope<T>>(&answer.body) {
                Ok(envelope) => return Ok(envelope.data),
                // Not the server's, such as a proxy's page.
                Err(_) => return Err(unexpected(502, &answer)),
            }
        }
        Err(match serde_json::from_slice::<ErrorEnvelope>(&answer.body) {
            Ok(envelope) => Error::from(Box::new(ServerError {
                status: answer.status,
                code: envelope.error_code,
                message: envelope.message,
                details: envelope.details,
                request_id: envelope.request_id.or_else(|| answer.text_of("x-request-id")),
                retry_after: answer.retry_after(),
            })),
            Err(_) => unexpected(answer.status, &answer),
        })
    }

    /// Fetches a document; its status must be 200.
    pub(crate) async fn document(&self, url: &str) -> Result<Vec<u8>, Error> {
        let request = self.http.get(url).timeout(ATTEMPT_TIMEOUT);
        let answer = send(request, || format!("GET {url}"), MAX_ANSWER).await?;
        if answer.is_success() { Ok(answer.body) } else { Err(unexpected(answer.status, &answer)) }
    }
}

/// An answer with its body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn text_of(&self, header: &str) -> Option<String> {
        self.headers.get(header)?.to_str().ok().map(str::to_owned)
    }

    fn retry_after(&self) -> Option<Duration> {
        self.text_of("retry-after")?.parse().ok().map(Duration::from_secs)
    }
}

/// Sends a request and reads the answer, of so many bytes at most.
pub(crate) async fn send(
    request: reqwest::RequestBuilder,
    describe: impl Fn() -> String,
    longest: usize,
) -> Result<Answer, Error> {
    let lost = |error: reqwest::Error| Error::Network {
        request: describe(),
        // The URL is in the text already.
        source: Arc::new(error.without_url()),
    };
    let mut response = request.send().await.map_err(lost)?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = vec![];
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > longest {
            return Err(unexpected(502, &Answer { status, headers, body: vec![] }));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, body })
}

pub(crate) fn unexpected(status: u16, answer: &Answer) -> Error {
    Error::from(Box::new(ServerError {
        status,
        code: "UNEXPECTED_RESPONSE".to_owned(),
        message: format!("unexpected response, status {}", answer.status),
        details: vec![],
        request_id: answer.text_of("x-request-id"),
        retry_after: answer.retry_after(),
    }))
}

/// The HTTP client: TLS with Mozilla's authorities, no redirects (the server sends none, and a
/// token must reach no other host).
pub(crate) fn http_client() -> Result<reqwest::Client, Error> {
    let broken = |error: &dyn std::fmt::Display| Error::Configuration(format!("TLS: {error}"));
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| broken(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .use_preconfigured_tls(tls)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(ATTEMPT_TIMEOUT)
        .user_agent(concat!("propusk-client/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| broken(&error))
}

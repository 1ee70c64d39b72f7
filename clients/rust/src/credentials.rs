//! Access tokens of a client's own (RFC 6749 §4.4).

use std::{fmt, time::Duration};

use http::header;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::{
    Error,
    api::{Answer, Api, MAX_ANSWER, send, unexpected},
    clock::Moment,
    error::ServerError,
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A client that authenticates by its secret, and its access token.
pub(crate) struct Credentials {
    api: Api,
    client_id: String,
    client_secret: String,
    scope: String,
    token: Mutex<Option<Token>>,
}

struct Token {
    value: String,
    obtained: Moment,
    usable: Duration,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: u64,
}

/// RFC 6749 §5.2.
#[derive(Deserialize)]
struct OAuthError {
    error: String,
    error_description: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl Credentials {
    pub(crate) fn new(api: Api, id: String, secret: String, scope: String) -> Self {
        Self { api, client_id: id, client_secret: secret, scope, token: Mutex::new(None) }
    }

    /// A token that is valid for a while; concurrent callers share a request.
    pub(crate) async fn token(&self) -> Result<String, Error> {
        let mut held = self.token.lock().await;
        if let Some(token) = &*held
            && self.api.clock.now().since(token.obtained) < token.usable
        {
            return Ok(token.value.clone());
        }
        let obtained = self.api.clock.now();
        let answer = self.request().await?;
        // Half of its lifetime: a stream ends with its token.
        let usable = Duration::from_secs(answer.expires_in) / 2;
        *held = Some(Token { value: answer.access_token.clone(), obtained, usable });
        Ok(answer.access_token)
    }

    /// Forgets a token that the server has refused.
    pub(crate) async fn forget(&self, refused: &str) {
        let mut held = self.token.lock().await;
        if held.as_ref().is_some_and(|token| token.value == refused) {
            *held = None;
        }
    }

    async fn request(&self) -> Result<TokenAnswer, Error> {
        let encode = |text: &str| -> String {
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
        };
        let body = format!("grant_type=client_credentials&scope={}", encode(&self.scope));
        let request = self
            .api
            .http
            .post(format!("{}/oauth2/token", self.api.url))
            .timeout(TIMEOUT)
            // RFC 6749 §2.3.1: both are form-encoded first.
            .basic_auth(encode(&self.client_id), Some(encode(&self.client_secret)))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body);
        let answer = send(request, || "POST /oauth2/token".to_owned(), MAX_ANSWER).await?;
        if answer.is_success() {
            return serde_json::from_slice(&answer.body).map_err(|_| unexpected(502, &answer));
        }
        Err(refused("the token endpoint", &answer))
    }
}

/// The error of an OAuth endpoint.
pub(crate) fn refused(who: &str, answer: &Answer) -> Error {
    let error: Option<OAuthError> = serde_json::from_slice(&answer.body).ok();
    let Some(OAuthError { error, error_description }) = error else {
        return unexpected(answer.status, answer);
    };
    let description = error_description.unwrap_or_else(|| error.clone());
    Error::from(Box::new(ServerError {
        status: answer.status,
        code: error.to_ascii_uppercase(),
        message: format!("{who} answered {}: {description}", answer.status),
        details: vec![],
        request_id: answer.text_of("x-request-id"),
        retry_after: None,
    }))
}

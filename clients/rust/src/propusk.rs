use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::Shared};
use http::{HeaderMap, HeaderValue, Method, header};
use quick_cache::sync::Cache;
use tokio::sync::oneshot;

use crate::{
    AccessClaims, Builder, Error, Registration, RequestTokens, RevocationFeed, Session,
    TokenCookies, Tokens,
    api::{Api, Call},
    origin::{bearer_token, require_same_origin},
    verifier::Verifier,
};

/// For which an exchange is remembered: less than the server's replay window, 10 s.
const SHARED: Duration = Duration::from_secs(5);
/// Tokens of these clients are sessions of the server's own pages and of its JSON API.
const BUILT_IN_CLIENTS: [&str; 2] = ["propusk", "propusk-docs"];

/// The browser's address of a request.
pub(crate) type ClientAddress = Arc<dyn Fn(&HeaderMap) -> Option<String> + Send + Sync>;

/// A server, as seen by one application. Create one for each process; a clone is the same one.
#[derive(Clone)]
pub struct Propusk(Arc<Inner>);

/// What a [`Builder`] has checked.
pub(crate) struct Parts {
    pub(crate) issuer: Arc<str>,
    pub(crate) api: Api,
    pub(crate) cookies: TokenCookies,
    pub(crate) origins: Vec<String>,
    #[cfg_attr(not(any(feature = "tower", feature = "poem")), allow(dead_code))]
    pub(crate) login_url: String,
    #[cfg_attr(not(any(feature = "tower", feature = "poem")), allow(dead_code))]
    pub(crate) application_url: Option<String>,
    pub(crate) client_address: Option<ClientAddress>,
    pub(crate) feed: Option<RevocationFeed>,
    /// Verifies tokens of the server's own API.
    pub(crate) own: Option<Arc<Verifier>>,
    /// Verifies tokens of the configured audience.
    pub(crate) resource: Option<Arc<Verifier>>,
    pub(crate) remembered: usize,
}

struct Inner {
    parts: Parts,
    /// Sessions by the ids of their access tokens: the username is in no token, so the server is
    /// asked once for each.
    sessions: Cache<String, Session>,
    exchanges: Mutex<HashMap<String, Exchange>>,
}

/// The result of a refresh, for all who wait for it. `None`: the user must log in.
type Exchange = Shared<oneshot::Receiver<Result<Option<Tokens>, Error>>>;

impl fmt::Debug for Propusk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Propusk").field("issuer", &self.issuer()).finish_non_exhaustive()
    }
}

impl Propusk {
    /// The server with an issuer, such as `https://id.example.com`.
    pub fn builder(issuer: impl Into<String>) -> Builder {
        Builder::new(issuer.into())
    }

    pub(crate) fn new(parts: Parts) -> Self {
        let sessions = Cache::new(parts.remembered);
        Self(Arc::new(Inner { parts, sessions, exchanges: Mutex::default() }))
    }

    /// The server's issuer.
    pub fn issuer(&self) -> &str {
        &self.0.parts.issuer
    }

    /// The cookies of a session.
    pub fn cookies(&self) -> &TokenCookies {
        &self.0.parts.cookies
    }

    /// The follower of the revocation feed, where there is one.
    pub fn feed(&self) -> Option<&RevocationFeed> {
        self.0.parts.feed.as_ref()
    }

    /// Verifies an access token: in this process with a feed, else by asking the server.
    ///
    /// # Errors
    /// [`Error::InvalidToken`]; another one if it cannot be decided.
    pub async fn verify(&self, access_token: &str) -> Result<Arc<AccessClaims>, Error> {
        if let Some(verifier) = &self.0.parts.resource {
            return verifier.verify(access_token).await;
        }
        let call = Call::get("/verify", access_token);
        self.0.parts.api.call::<serde_json::Value>(call).await.map_err(as_invalid_token)?;
        let claims = crate::jws::claims(access_token).map_err(Error::InvalidToken)?;
        Ok(Arc::new(claims))
    }

    /// The session of a request: of its bearer token, else of its cookies. `None` if nobody is
    /// logged in. Nothing is renewed; a [`SessionLayer`](crate::SessionLayer) does that.
    ///
    /// # Errors
    /// It cannot be decided; [`Error::CrossSite`] for a request with cookies, other than GET and
    /// HEAD, that a page of another origin has sent.
    pub async fn session(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Option<Session>, Error> {
        Ok(self.session_and_token(method, headers).await?.map(|(session, _)| session))
    }

    pub(crate) async fn session_and_token(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Option<(Session, String)>, Error> {
        let with = |token: String| move |session| (session, token);
        if let Some(token) = bearer_token(headers) {
            let session = self.session_of(token).await?;
            return Ok(session.map(with(token.to_owned())));
        }
        let access = self.cookies().read(headers).access;
        if !access.is_empty() {
            self.require_same_origin(method, headers)?;
        }
        for token in access {
            if let Some(session) = self.session_of(&token).await? {
                return Ok(Some((session, token)));
            }
        }
        Ok(None)
    }

    /// The session of an access token; `None` if it is not valid, or no user's.
    ///
    /// # Errors
    /// It cannot be decided.
    pub async fn session_of(&self, access_token: &str) -> Result<Option<Session>, Error> {
        let Some(verifier) = &self.0.parts.own else {
            return self.ask(access_token).await;
        };
        let claims = match verifier.verify(access_token).await {
            Err(error) if error.is_refused() => return Ok(None),
            outcome => outcome?,
        };
        if !BUILT_IN_CLIENTS.contains(&claims.client_id.as_str()) {
            return Ok(None);
        }
        if let Some(session) = self.0.sessions.get(&claims.jti) {
            return Ok(Some(session));
        }
        let session = self.ask(access_token).await?;
        if let Some(session) = &session {
            self.0.sessions.insert(claims.jti.clone(), session.clone());
        }
        Ok(session)
    }

    async fn ask(&self, access_token: &str) -> Result<Option<Session>, Error> {
        // A header cannot have it, so it is no token.
        if HeaderValue::from_str(access_token).is_err() {
            return Ok(None);
        }
        self.0.parts.api.call(Call::get("/session", access_token)).await
    }

    /// Creates an account and logs its user in. The tokens are for the cookies of the answer:
    /// [`TokenCookies::set`].
    ///
    /// # Errors
    /// [`Error::Server`], such as `EMAIL_ALREADY_EXISTS`; `VALIDATION_ERROR` with the fields in
    /// `details`.
    pub async fn register(&self, registration: &Registration) -> Result<Tokens, Error> {
        let body = serde_json::to_value(registration)
            .map_err(|error| Error::Configuration(error.to_string()))?;
        self.0.parts.api.call(Call::post("/register", body)).await
    }

    /// Logs a user in, by an email address or a username.
    ///
    /// # Errors
    /// [`Error::Server`], such as `INVALID_CREDENTIALS`.
    pub async fn log_in(&self, login: &str, password: &str) -> Result<Tokens, Error> {
        let body = serde_json::json!({ "login": login, "password": password });
        self.0.parts.api.call(Call::post("/login", body)).await
    }

    /// Exchanges the refresh token of a request's cookies. Parallel calls for one token share an
    /// exchange. If its answer is lost, it is sent again within the server's replay window, which
    /// yields the same successor. `None` if there is no token or if it is not valid: the user must
    /// log in.
    ///
    /// # Errors
    /// The server could not be asked: the session may be valid. [`Error::CrossSite`].
    pub async fn refresh(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Option<Tokens>, Error> {
        let tokens = self.cookies().read(headers).refresh;
        if tokens.is_empty() {
            return Ok(None);
        }
        self.require_same_origin(method, headers)?;
        let address = self.0.parts.client_address.as_ref().and_then(|address| address(headers));
        // As cookies: of several tokens the server takes the newest one.
        let name = self.cookies().refresh_name();
        let pairs: Vec<_> = tokens.iter().map(|token| format!("{name}={token}")).collect();
        self.shared(pairs.join("; "), address).await
    }

    /// Revokes the session of a request's cookies. Also done if it is revoked or expired already.
    /// Remove the cookies afterwards: [`TokenCookies::clear`].
    ///
    /// # Errors
    /// The server could not be asked: the user is still logged in. [`Error::CrossSite`].
    pub async fn sign_out(&self, method: &Method, headers: &HeaderMap) -> Result<(), Error> {
        self.require_same_origin(method, headers)?;
        self.log_out(self.cookies().read(headers)).await
    }

    /// Revokes the sessions of tokens.
    pub(crate) async fn log_out(&self, tokens: RequestTokens) -> Result<(), Error> {
        // Each may be of a session of its own: another one's cookie must not save ours.
        for token in &tokens.access {
            let mut call = Call::post("/logout", serde_json::json!({}));
            call.access_token = Some(token);
            self.log_out_one(call).await?;
        }
        for token in tokens.refresh {
            let body = serde_json::json!({ "refreshToken": token });
            self.log_out_one(Call::post("/logout", body)).await?;
        }
        Ok(())
    }

    async fn log_out_one(&self, mut call: Call<'_>) -> Result<(), Error> {
        call.idempotent = true;
        match self.0.parts.api.call::<serde_json::Value>(call).await {
            // RFC 7009 §2.2: the purpose of revoking an invalid token is achieved already.
            Err(error) if !error.is_refused() => Err(error),
            _ => Ok(()),
        }
    }

    /// Refuses a request, other than GET and HEAD, that a page of another origin made the browser
    /// send: for handlers that act by cookies of their own, and for forms of login.
    ///
    /// # Errors
    /// [`Error::CrossSite`].
    pub fn require_same_origin(&self, method: &Method, headers: &HeaderMap) -> Result<(), Error> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        require_same_origin(method, host, headers, &self.0.parts.origins)
    }

    #[cfg(any(feature = "tower", feature = "poem"))]
    pub(crate) fn login_url(&self) -> &str {
        &self.0.parts.login_url
    }

    #[cfg(any(feature = "tower", feature = "poem"))]
    pub(crate) fn application_url(&self) -> Option<&str> {
        self.0.parts.application_url.as_deref()
    }

    #[cfg(feature = "grpc")]
    pub(crate) fn api(&self) -> &Api {
        &self.0.parts.api
    }

    /// As if the machine had slept, for tests of this crate.
    #[doc(hidden)]
    pub fn sleep_for_tests(&self, time: Duration) {
        self.0.parts.api.clock.sleep(time);
    }

    async fn shared(
        &self,
        cookie: String,
        address: Option<String>,
    ) -> Result<Option<Tokens>, Error> {
        let exchange = {
            let mut exchanges = self.0.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
            match exchanges.get(&cookie) {
                Some(known) => known.clone(),
                None => {
                    let (sender, receiver) = oneshot::channel();
                    let receiver = receiver.shared();
                    exchanges.insert(cookie.clone(), receiver.clone());
                    // A task of its own: a browser that goes away must not cancel it for others.
                    tokio::spawn(self.clone().exchange(cookie, address, sender));
                    receiver
                }
            }
        };
        let cancelled = || Error::Unavailable("the process is shutting down".to_owned());
        exchange.await.map_err(|_| cancelled())?
    }

    async fn exchange(
        self,
        cookie: String,
        address: Option<String>,
        result: oneshot::Sender<Result<Option<Tokens>, Error>>,
    ) {
        let mut call = Call::post("/token/refresh", serde_json::json!({ "delivery": "body" }));
        call.idempotent = true;
        let value = |text: &str| HeaderValue::from_str(text).ok();
        if let Some(address) = address.as_deref().and_then(value) {
            call.headers.insert("x-forwarded-for", address);
        }
        let outcome = match value(&cookie) {
            // No token has such characters.
            None => Ok(None),
            Some(value) => {
                call.headers.insert(header::COOKIE, value);
                match self.0.parts.api.call(call).await {
                    Ok(tokens) => Ok(Some(tokens)),
                    Err(error) if error.is_refused() => Ok(None),
                    Err(error) => Err(error),
                }
            }
        };
        let succeeded = outcome.is_ok();
        let _ = result.send(outcome);
        if succeeded {
            tokio::time::sleep(SHARED).await;
        }
        self.0.exchanges.lock().unwrap_or_else(PoisonError::into_inner).remove(&cookie);
    }
}

/// The server's refusal of a token, as ours.
fn as_invalid_token(error: Error) -> Error {
    if error.is_refused() { Error::InvalidToken(error.to_string()) } else { error }
}

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use tokio::sync::OnceCell;
use url::Url;

use crate::{Error, Propusk, Session, Tokens, origin::bearer_token, return_to::is_own_path};

/// A request, and whose it is: what a [`SessionLayer`](crate::SessionLayer) adds to each. The
/// session is determined, and renewed if it has expired, when it is asked for the first time; new
/// cookies reach the response, whatever it is. A clone is the same visit.
#[derive(Clone)]
pub struct Visit(Arc<Inner>);

struct Inner {
    propusk: Propusk,
    method: Method,
    /// Path and query.
    target: String,
    headers: HeaderMap,
    known: OnceCell<Result<Option<(Session, String)>, Error>>,
    cookies: Mutex<Option<[HeaderValue; 2]>>,
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").field("target", &self.0.target).finish_non_exhaustive()
    }
}

impl Visit {
    pub(crate) fn new(propusk: &Propusk, method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let mut headers = headers.clone();
        // HTTP/2 has it in the URI.
        if let Some(authority) = uri.authority()
            && !headers.contains_key(header::HOST)
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            headers.insert(header::HOST, host);
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Self(Arc::new(Inner {
            propusk: propusk.clone(),
            method: method.clone(),
            target,
            headers,
            known: OnceCell::new(),
            cookies: Mutex::default(),
        }))
    }

    /// The session; `None` if nobody is logged in.
    ///
    /// # Errors
    /// It cannot be decided: the user may be logged in. [`Error::CrossSite`].
    pub async fn session(&self) -> Result<Option<Session>, Error> {
        Ok(self.known().await?.map(|(session, _)| session))
    }

    /// The session.
    ///
    /// # Errors
    /// As [`session`](Self::session), and [`Error::NotLoggedIn`].
    pub async fn require_session(&self) -> Result<Session, Error> {
        self.session().await?.ok_or(Error::NotLoggedIn)
    }

    /// The access token of the session, for calls on behalf of the user.
    ///
    /// # Errors
    /// As [`session`](Self::session).
    pub async fn access_token(&self) -> Result<Option<String>, Error> {
        Ok(self.known().await?.map(|(_, token)| token))
    }

    /// Sets the cookies of a login or registration.
    ///
    /// # Errors
    /// [`Error::CrossSite`]: a page of another origin would log its visitor in, to an account of
    /// its choice.
    pub fn log_in(&self, tokens: &Tokens) -> Result<(), Error> {
        self.0.propusk.require_same_origin(&self.0.method, &self.0.headers)?;
        self.set_cookies(self.0.propusk.cookies().set(tokens)?);
        Ok(())
    }

    /// Revokes the session and removes its cookies.
    ///
    /// # Errors
    /// The server could not be asked: the user is still logged in. [`Error::CrossSite`].
    pub async fn sign_out(&self) -> Result<(), Error> {
        let Inner { propusk, method, headers, .. } = &*self.0;
        propusk.require_same_origin(method, headers)?;
        let mut tokens = propusk.cookies().read(headers);
        // One that was renewed meanwhile.
        if let Some(Ok(Some((_, token)))) = self.0.known.get() {
            tokens.access.retain(|known| known != token);
            tokens.access.insert(0, token.clone());
        }
        propusk.log_out(tokens).await?;
        self.set_cookies(propusk.cookies().clear()?);
        Ok(())
    }

    /// Whether a browser loads a page, as the server's own gateway decides it.
    pub fn is_page_request(&self) -> bool {
        let Inner { method, headers, .. } = &*self.0;
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        matches!(*method, Method::GET | Method::HEAD)
            && text("accept").is_some_and(|accept| accept.contains("text/html"))
            && !headers.contains_key(header::AUTHORIZATION)
            && text("sec-fetch-mode").is_none_or(|mode| mode == "navigate")
    }

    /// What the client is told instead of what it wanted: a page is redirected to the login with
    /// `return_to`, other requests get 401; 403 for what the user may not do, 503 if it cannot be
    /// decided.
    pub fn refusal(&self, error: &Error) -> Response<String> {
        let is_page = self.is_page_request();
        if matches!(error, Error::NotLoggedIn)
            && is_page
            && let Some(login) = self.login().and_then(|url| HeaderValue::from_str(&url).ok())
        {
            let mut response = Response::new(String::new());
            *response.status_mut() = StatusCode::SEE_OTHER;
            response.headers_mut().insert(header::LOCATION, login);
            no_store(response.headers_mut());
            return response;
        }
        let request_id = self.0.headers.get("x-request-id").and_then(|id| id.to_str().ok());
        problem(error, is_page, request_id)
    }

    /// Adds the cookies of a renewal, a login or a sign-out to the headers of the response.
    pub(crate) fn finish(&self, headers: &mut HeaderMap) {
        let Some(cookies) = self.cookies().clone() else { return };
        for cookie in cookies {
            headers.append(header::SET_COOKIE, cookie);
        }
        // A shared cache would hand the tokens to others.
        if !headers.contains_key(header::CACHE_CONTROL) {
            no_store(headers);
        }
    }

    #[cfg(feature = "poem")]
    pub(crate) fn has_cookies(&self) -> bool {
        self.cookies().is_some()
    }

    fn cookies(&self) -> std::sync::MutexGuard<'_, Option<[HeaderValue; 2]>> {
        self.0.cookies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_cookies(&self, cookies: [HeaderValue; 2]) {
        *self.cookies() = Some(cookies);
    }

    async fn known(&self) -> Result<Option<(Session, String)>, Error> {
        self.0.known.get_or_init(|| self.determine()).await.clone()
    }

    async fn determine(&self) -> Result<Option<(Session, String)>, Error> {
        let Inner { propusk, method, headers, .. } = &*self.0;
        let found = propusk.session_and_token(method, headers).await?;
        if found.is_some() || bearer_token(headers).is_some() {
            return Ok(found);
        }
        if propusk.cookies().read(headers).refresh.is_empty() {
            return Ok(None);
        }
        let Some(tokens) = propusk.refresh(method, headers).await? else {
            self.set_cookies(propusk.cookies().clear()?);
            return Ok(None);
        };
        // Also if the session cannot be read: a refresh token that is lost cannot be used again.
        self.set_cookies(propusk.cookies().set(&tokens)?);
        let session = propusk.session_of(&tokens.access_token).await?;
        Ok(session.map(|session| (session, tokens.access_token)))
    }

    /// The URL of the login, which leads back here.
    fn login(&self) -> Option<String> {
        let Inner { propusk, target, .. } = &*self.0;
        let login_url = propusk.login_url();
        if is_own_path(login_url) {
            let base = Url::parse("http://application.invalid").ok()?;
            let login = with_return_to(base.join(login_url).ok()?, target);
            return Some(login[url::Position::BeforePath..].to_owned());
        }
        let here = format!("{}{target}", propusk.application_url()?.trim_end_matches('/'));
        Some(with_return_to(Url::parse(login_url).ok()?, &here).into())
    }
}

fn with_return_to(mut url: Url, target: &str) -> Url {
    url.query_pairs_mut().append_pair("return_to", target);
    url
}

fn no_store(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// The response for an error; as text where a page is expected, else in the form of the server's
/// JSON API.
pub(crate) fn problem(error: &Error, is_page: bool, request_id: Option<&str>) -> Response<String> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    // The reason is the operator's affair.
    let message = match status {
        StatusCode::SERVICE_UNAVAILABLE => {
            "the session cannot be verified at present: try again in a moment".to_owned()
        }
        _ => error.to_string(),
    };
    let (kind, body) = if is_page {
        ("text/plain; charset=utf-8", format!("{message}\n"))
    } else {
        let server = match error {
            Error::Server(error) => Some(error),
            _ => None,
        };
        let request_id = request_id.or(server.and_then(|error| error.request_id.as_deref()));
        let mut body = serde_json::json!({
            "statusCode": status.as_u16(),
            "message": message,
            "errorCode": error.code(),
            "requestId": request_id.unwrap_or_default(),
        });
        if let Some(details) = server.map(|error| &error.details).filter(|all| !all.is_empty()) {
            body["details"] = serde_json::json!(details);
        }
        ("application/json", body.to_string())
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    no_store(headers);
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = error.retry_after().map_or(2, |time| time.as_secs());
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

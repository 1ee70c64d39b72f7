//! The HTML endpoints: login, registration, account selection, consent, codes of devices, logout.
//! They work without scripts and leave all decisions to the flows.

pub mod account;
pub mod admin;
pub mod authorize;
pub mod callback;
pub mod change;
pub mod consent;
pub mod csrf;
pub mod deletion;
pub mod device;
pub mod email;
pub mod export;
pub mod factors;
pub mod login;
pub mod logout;
pub mod profile;
pub mod register;
pub mod second_factor;
pub mod select_account;
pub mod services;
pub mod session_start;
pub mod terms;
pub mod upstream;

use std::sync::Arc;

use self::session_start::SessionStart;
use crate::{
    api_error::{ApiError, Application, ErrorCode},
    app::App,
    credentials::{CookieNames, cookies, require_own_form},
    diagnostics,
    error::Error,
    flows::{
        accounts::browser_session,
        oauth::{
            authorize::{
                Request as AuthorizationRequest, request as authorization_request,
                request::Freshness,
            },
            device::PAGE as DEVICE,
        },
    },
    forward_auth::SESSION_START,
    http::{
        context::Context,
        views::{ClientCard, FormAction, Locale, Problem},
    },
    model::{browser_session::BrowserSession, client::Client},
    oauth::{
        device_codes::UserCode,
        error::OAuthError,
        params::{Parameters, Params},
    },
};
use poem::{
    Request, Response, Result,
    http::{HeaderValue, StatusCode, header},
};

/// The session cookie of the browser.
async fn session_cookie(app: &App, request: &Request) -> Option<String> {
    let values = cookies(request.headers(), CookieNames::of(&app.config).session);
    browser_session::valid_cookie(app, values).await
}

/// The session of the browser.
async fn current_session(app: &App, request: &Request) -> Result<Option<BrowserSession>> {
    let cookie = session_cookie(app, request).await;
    let session = browser_session::session(app, cookie.as_deref()).await;
    Ok(session.map_err(ApiError::from)?)
}

/// The display name of the user who is logged in in this browser. `None` also if the database is
/// unavailable: it is shown only, never used for a decision.
pub async fn logged_in_user(request: &Request) -> Option<String> {
    let Context { app, .. } = Context::of(request).ok()?;
    let session = current_session(app, request).await.ok()??;
    Some(authorize::display_name(&session.user).to_owned())
}

/// The response with these `Set-Cookie` values.
fn with_cookies(mut response: Response, cookies: impl IntoIterator<Item = String>) -> Response {
    for cookie in cookies {
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
    response
}

/// `303 See Other`: the browser does not repeat a POST (RFC 9700 §4.12).
pub fn see_other(location: &str) -> Result<Response> {
    let location = HeaderValue::try_from(location).map_err(|_| {
        ApiError::new(
            ErrorCode::BadRequest,
            "the redirect URL contains characters that are not allowed in a header",
        )
    })?;
    Ok(Response::builder()
        .status(StatusCode::SEE_OTHER)
        .header(header::LOCATION, location)
        // As on the pages; otherwise a window opened by Swagger UI would lose its opener here.
        .header("cross-origin-opener-policy", "same-origin")
        .header(header::REFERRER_POLICY, "no-referrer")
        .finish())
}

/// The `return_to` of a page: an authorization request, a session start, the page for user codes or
/// one of the account.
/// Any other value is ignored (threat T8: open redirects).
struct ReturnTo {
    url: String,
    params: Params,
    kind: ReturnKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReturnKind {
    Authorization,
    SessionStart,
    Device,
    Account,
    Services,
    /// An identity of another provider, which is no user's yet.
    Identity,
}

const AUTHORIZE: &str = "/oauth2/authorize";

impl ReturnTo {
    fn parse(text: Option<&str>) -> Option<Self> {
        let text = text?;
        let read = |query: &str| Params::parse(query.as_bytes()).ok();
        if let Some(rest) = text.strip_prefix(AUTHORIZE) {
            return Some(Self::of(read(rest.strip_prefix('?')?)?));
        }
        if let Some(rest) = text.strip_prefix(DEVICE) {
            let query = rest.strip_prefix('?').or(rest.is_empty().then_some(""))?;
            return Some(Self::device(read(query)?.get("user_code").and_then(UserCode::parse)));
        }
        if let Some(url) = account::page(text).or_else(|| admin::page(text)) {
            return Some(Self { url, params: Params::default(), kind: ReturnKind::Account });
        }
        if let Some(rest) = text.strip_prefix(upstream::IDENTITY) {
            let query = rest.strip_prefix('?').or(rest.is_empty().then_some(""))?;
            return Some(Self::identity(Self::parse(read(query)?.get("return_to")).as_ref()));
        }
        if let Some(rest) = text.strip_prefix("/services") {
            let name = match rest.strip_prefix('/') {
                Some(rest) => Some(rest.strip_suffix("/connect")?),
                None => rest.is_empty().then_some(None)?,
            };
            let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            return name.is_none_or(is_name).then(|| Self::services(name));
        }
        let query = match text.strip_prefix(SESSION_START)? {
            "" => Params::default(),
            rest => read(rest.strip_prefix('?')?)?,
        };
        Some(Self::session_start(&SessionStart::of(&query).ok()?))
    }

    /// Returns to an authorization request.
    fn of(params: Params) -> Self {
        let url = format!("{AUTHORIZE}?{}", params.encode());
        Self { url, params, kind: ReturnKind::Authorization }
    }

    /// Returns to the page for user codes, with a code to confirm there.
    fn device(user_code: Option<UserCode>) -> Self {
        let url = match user_code {
            Some(code) => format!("{DEVICE}?user_code={}", code.shown()),
            None => DEVICE.to_owned(),
        };
        Self { url, params: Params::default(), kind: ReturnKind::Device }
    }

    /// Returns to the list of connected accounts, or to the page that connects one.
    fn services(connect: Option<&str>) -> Self {
        let url = match connect {
            Some(name) => format!("/services/{name}/connect"),
            None => "/services".to_owned(),
        };
        Self { url, params: Params::default(), kind: ReturnKind::Services }
    }

    /// Returns to the page of an identity, which continues with `then`. Not with another such page.
    fn identity(then: Option<&Self>) -> Self {
        let then = then.filter(|then| !then.is_identity());
        let url = then.map(|then| then.page_url(upstream::IDENTITY));
        let url = url.unwrap_or_else(|| upstream::IDENTITY.to_owned());
        Self { url, params: Params::default(), kind: ReturnKind::Identity }
    }

    /// Returns to `/session/start`.
    fn session_start(start: &SessionStart) -> Self {
        let return_to = start.return_to.clone().map(|url| ("return_to", url));
        let max_age = start.max_age.map(|seconds| ("max_age", seconds.to_string()));
        let acr_values = start.acr_values.clone().map(|values| ("acr_values", values));
        let given = return_to.into_iter().chain(max_age).chain(acr_values);
        let params =
            given.fold(Params::default(), |params, (name, value)| params.with(name, value));
        let query = params.encode();
        let separator = if query.is_empty() { "" } else { "?" };
        let url = format!("{SESSION_START}{separator}{query}");
        Self { url, params, kind: ReturnKind::SessionStart }
    }

    fn is_identity(&self) -> bool {
        self.kind == ReturnKind::Identity
    }

    fn is_authorization(&self) -> bool {
        self.kind == ReturnKind::Authorization
    }

    /// The URL of a page that returns here afterwards.
    fn page_url(&self, page: &str) -> String {
        let query = Params::default().with("return_to", self.url.as_str());
        format!("{page}?{}", query.encode())
    }
}

/// What a login page shows of the request that it belongs to.
struct LoginContext {
    /// The authorization request; `None` if there is none or it is no longer valid.
    request: Option<AuthorizationRequest>,
    logo: Option<Arc<str>>,
    /// Where the form leads; also with an invalid request, whose error the application may get.
    form_action: FormAction,
}

impl LoginContext {
    async fn of(app: &Arc<App>, page: &Request, return_to: Option<&ReturnTo>) -> Self {
        let to = return_to.filter(|to| to.is_authorization());
        let request = match (to, Context::of(page)) {
            (Some(to), Ok(Context { caller, .. })) => {
                authorization_request::read(app, &to.params, Freshness::Now, caller.address)
                    .await
                    .ok()
            }
            _ => None,
        };
        let client = request.as_ref().map(|request| &request.known.client);
        let logo = client.and_then(|client| app.logos.of(&app.outbound, &app.clock, client));
        let form_action = match return_to.map(|to| to.kind) {
            Some(ReturnKind::Authorization | ReturnKind::SessionStart) => FormAction::Application,
            Some(
                ReturnKind::Device
                | ReturnKind::Account
                | ReturnKind::Services
                | ReturnKind::Identity,
            )
            | None => FormAction::ThisServer,
        };
        Self { request, logo, form_action }
    }

    fn card(&self) -> Option<ClientCard<'_>> {
        let client = &self.request.as_ref()?.known.client;
        Some(card(client, self.logo.as_deref()))
    }

    fn param(&self, name: &str) -> Option<&str> {
        self.request.as_ref()?.params.get(name)
    }

    fn locale(&self, request: &Request) -> &'static Locale {
        locale(request, self.request.as_ref().map(|request| &request.params))
    }
}

/// The HTTP status of a form that is shown again.
fn form_status(problem: Option<Problem>) -> StatusCode {
    match problem {
        None => StatusCode::OK,
        Some(Problem::TooMany { .. }) => StatusCode::TOO_MANY_REQUESTS,
        Some(Problem::Busy) => StatusCode::SERVICE_UNAVAILABLE,
        Some(Problem::NoCookie) => StatusCode::FORBIDDEN,
        Some(
            Problem::WrongCredentials
            | Problem::WrongCode
            | Problem::WrongPassword
            | Problem::NoPassword
            | Problem::WrongMailCode
            | Problem::WrongFactorCode
            | Problem::InvalidPasskey
            | Problem::FactorExpired
            | Problem::FactorName
            | Problem::FactorLimit
            | Problem::FactorLast
            | Problem::UpstreamStale
            | Problem::UpstreamDenied
            | Problem::UpstreamFailed
            | Problem::UpstreamTaken
            | Problem::UpstreamRefused
            | Problem::UpstreamLast
            | Problem::Empty,
        ) => StatusCode::BAD_REQUEST,
    }
}

/// The problem to show on the form for an error that the user can do something about.
///
/// # Errors
/// Any other error, unchanged.
fn problem(error: Error) -> Result<Problem> {
    diagnostics::denied("login_refused", &error);
    match error {
        Error::TooMany(wait) => {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Ok(Problem::TooMany { seconds })
        }
        Error::Overloaded => Ok(Problem::Busy),
        other => Err(ApiError::from(other).into()),
    }
}

/// Verifies the CSRF token of a form. If only the cookie of a same-origin form is missing, returns
/// the problem to show on it.
///
/// # Errors
/// [`ErrorCode::CrossSite`] for the form of another site.
fn check_form(
    app: &App,
    request: &Request,
    form: &Params,
    purpose: &str,
) -> Result<Option<Problem>> {
    let is_same_origin =
        form.get("csrf").is_some() && require_own_form(request.headers(), &app.config).is_ok();
    match csrf::CsrfCookie::of(app, request).verify(app, request, form, purpose) {
        Err(error) if is_same_origin && error.code == ErrorCode::CrossSite => {
            Ok(Some(Problem::NoCookie))
        }
        verified => Ok(verified.map(|()| None)?),
    }
}

fn card<'a>(client: &'a Client, logo: Option<&'a str>) -> ClientCard<'a> {
    let metadata = &client.metadata;
    ClientCard {
        name: client.name(),
        logo,
        uri: metadata.client_uri.as_deref(),
        policy_uri: metadata.policy_uri.as_deref(),
        tos_uri: metadata.tos_uri.as_deref(),
    }
}

/// Refuses a request that would not fit into the URL of a page at this server.
fn check_length(app: &App, length: usize) -> Result<(), OAuthError> {
    let most = app.config.max_url_length();
    if length <= most {
        return Ok(());
    }
    Err(OAuthError::invalid_request(format!(
        "the request is too long: the URLs of the pages would have {length} bytes of at most {most}; shorten `state`, or use \
         pushed authorization requests (RFC 9126)",
    )))
}

/// Names the application that sent the user on the error page, unless nobody has verified its name.
fn naming_application(app: &App, error: ApiError, client_id: Option<&str>) -> ApiError {
    // The request was read before, so the client is in the cache.
    let client =
        client_id.and_then(|id| app.directory.cached(&id.into())).map(|known| known.client);
    let application = client.filter(|client| !client.source.is_self_registered());
    let application = application.map(|client| Application {
        name: client.name().to_owned(),
        uri: client.metadata.client_uri.clone(),
    });
    ApiError { application, ..error }
}

/// Where a URI leads, for users: its host. Only the scheme of a private-use URI decides where it
/// leads; the rest is arbitrary text.
fn host(uri: &str) -> String {
    let host = url::Url::parse(uri).ok().and_then(|url| match url.scheme() {
        "https" | "http" => url.host_str().map(str::to_owned),
        scheme => Some(format!("{scheme}:")),
    });
    host.unwrap_or_default()
}

/// The locale of a page; see [`Locale::of_request`].
fn locale(request: &Request, params: Option<&Params>) -> &'static Locale {
    Locale::of_request(request, params.and_then(|params| params.get("ui_locales")))
}

/// Maps a rendering failure to an internal error.
pub fn rendered(page: Result<Response, askama::Error>) -> Result<Response> {
    page.map_err(|error| {
        ApiError {
            cause: Some(error.into()),
            ..ApiError::new(
                ErrorCode::Internal,
                "internal server error: the page could not be rendered",
            )
        }
        .into()
    })
}

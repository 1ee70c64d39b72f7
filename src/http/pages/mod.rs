//! The pages people see: login, registration, account selection, consent, logout. Each works without scripts; the
//! decisions are those of the flows.

pub mod authorize;
pub mod callback;
pub mod consent;
pub mod csrf;
pub mod login;
pub mod logout;
pub mod register;
pub mod select_account;
pub mod session_start;

use std::sync::Arc;

use poem::{
    Request, Response, Result,
    http::{HeaderValue, StatusCode, header},
};
use url::Url;

use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    credentials::{CookieNames, cookie, same_origin},
    diagnostics,
    error::Error,
    flows::{
        accounts::browser_session,
        gateway,
        oauth::authorize::{Request as AuthorizationRequest, request as asked, request::Freshness},
    },
    forward_auth::SESSION_START,
    http::{
        context::Context,
        views::{ClientCard, FormAction, Locale, Problem},
    },
    model::client::Client,
    oauth::params::Params,
};

/// The cookie of a browser that is logged in.
fn session_cookie(app: &App, request: &Request) -> Option<String> {
    cookie(request.headers(), CookieNames::of(&app.config).session)
}

/// How whoever is logged in in this browser calls themselves. Where that cannot be found out now it is nobody: this is for a
/// greeting, and for no decision.
pub async fn visitor(request: &Request) -> Option<String> {
    let Context { app, .. } = Context::of(request).ok()?;
    let cookie = session_cookie(app, request)?;
    let session = browser_session::session(app, Some(&cookie)).await.ok()??;
    Some(authorize::name_of(&session.user).to_owned())
}

/// `303 See Other`: whatever was posted is not posted again (RFC 9700 §4.12).
pub fn see_other(location: &str) -> Result<Response> {
    let location = HeaderValue::try_from(location)
        .map_err(|_| ApiError::new(ErrorCode::BadRequest, "the address cannot be written"))?;
    Ok(Response::builder()
        .status(StatusCode::SEE_OTHER)
        .header(header::LOCATION, location)
        // As on the pages: else a window that Swagger UI opened would lose it on the way through.
        .header("cross-origin-opener-policy", "same-origin")
        .header(header::REFERRER_POLICY, "no-referrer")
        .finish())
}

/// Where a login may lead: back into an authorization request or into a session behind a gateway, or nowhere. Anything else
/// that somebody put there is ignored (threat T8).
struct ReturnTo {
    address: String,
    params: Params,
    is_authorization: bool,
}

const AUTHORIZE: &str = "/oauth2/authorize";

impl ReturnTo {
    fn parse(text: Option<&str>) -> Option<Self> {
        let text = text?;
        let read = |query: &str| Params::parse(query.as_bytes()).ok();
        if let Some(rest) = text.strip_prefix(AUTHORIZE) {
            return Some(Self::of(read(rest.strip_prefix('?')?)?));
        }
        let rest = text.strip_prefix(SESSION_START)?;
        if rest.is_empty() {
            return Some(Self::session_start(&Params::default()));
        }
        Some(Self::session_start(&read(rest.strip_prefix('?')?)?))
    }

    /// An authorization request.
    fn of(params: Params) -> Self {
        Self { address: format!("{AUTHORIZE}?{}", params.encode()), params, is_authorization: true }
    }

    /// The start of a session, as far as its parameters are known; it judges them itself.
    fn session_start(params: &Params) -> Self {
        let known = ["return_to", "max_age"].into_iter();
        let known = known.filter_map(|name| Some((name, params.get(name)?)));
        let params =
            known.fold(Params::default(), |params, (name, value)| params.with(name, value));
        let query = params.encode();
        let mark = if query.is_empty() { "" } else { "?" };
        Self { address: format!("{SESSION_START}{mark}{query}"), params, is_authorization: false }
    }

    /// The address of one of our pages that leads back here.
    fn through(&self, page: &str) -> String {
        let query = Params::default().with("return_to", self.address.as_str());
        format!("{page}?{}", query.encode())
    }
}

/// The application's request that a page is about, as far as it is still good; without it the page knows no application.
struct Asked {
    request: Option<AuthorizationRequest>,
    logo: Option<Arc<str>>,
    /// Where the person goes on to without one.
    landing: Option<Url>,
}

impl Asked {
    async fn by(app: &Arc<App>, page: &Request, return_to: Option<&ReturnTo>) -> Self {
        let to = return_to.filter(|to| to.is_authorization);
        let request = match (to, Context::of(page)) {
            (Some(to), Ok(Context { caller, .. })) => {
                asked::read(app, &to.params, Freshness::Now, caller.address).await.ok()
            }
            _ => None,
        };
        let client = request.as_ref().map(|request| &request.known.client);
        let logo = client.and_then(|client| app.logos.of(&app.outbound, &app.clock, client));
        let to = return_to.filter(|to| !to.is_authorization);
        let landing = to.and_then(|to| gateway::landing(&app.config, to.params.get("return_to")?));
        Self { request, logo, landing }
    }

    fn card(&self) -> Option<ClientCard<'_>> {
        let client = &self.request.as_ref()?.known.client;
        Some(card(client, self.logo.as_deref()))
    }

    fn param(&self, name: &str) -> Option<&str> {
        self.request.as_ref()?.params.get(name)
    }

    fn form_action(&self) -> FormAction {
        match &self.landing {
            Some(landing) => FormAction::to(landing.as_str()),
            None => form_action(self.request.as_ref()),
        }
    }

    fn locale(&self, request: &Request) -> &'static Locale {
        locale(request, self.request.as_ref().map(|asked| &asked.params))
    }
}

/// The status of a form that is shown again.
fn status_of(problem: Option<Problem>) -> StatusCode {
    match problem {
        None => StatusCode::OK,
        Some(Problem::TooMany { .. }) => StatusCode::TOO_MANY_REQUESTS,
        Some(Problem::Busy) => StatusCode::SERVICE_UNAVAILABLE,
        Some(Problem::NoCookie) => StatusCode::FORBIDDEN,
        Some(Problem::WrongCredentials | Problem::Empty) => StatusCode::BAD_REQUEST,
    }
}

/// What a person can do about an error, on the form that they sent.
///
/// # Errors
/// The error itself where they can do nothing.
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

/// Checks a form's token. A page of ours whose cookie is gone may try again (`Some`); another site's may not.
fn without_cookie(
    app: &App,
    request: &Request,
    form: &Params,
    purpose: &str,
) -> Result<Option<Problem>> {
    let is_ours = form.get("csrf").is_some() && same_origin(request.headers(), &app.config).is_ok();
    match csrf::Guard::of(app, request).check(app, request, form, purpose) {
        Err(error) if is_ours && error.code == ErrorCode::CrossSite => Ok(Some(Problem::NoCookie)),
        checked => Ok(checked.map(|()| None)?),
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

fn form_action(request: Option<&AuthorizationRequest>) -> FormAction {
    request
        .map_or_else(FormAction::default, |request| FormAction::to(&request.callback.redirect_uri))
}

/// The language of a page: what the application asked for, else what the browser prefers.
fn locale(request: &Request, params: Option<&Params>) -> &'static Locale {
    Locale::of_request(request, params.and_then(|params| params.get("ui_locales")))
}

/// A page that cannot be rendered is a mistake of ours.
pub fn rendered(page: Result<Response, askama::Error>) -> Result<Response> {
    page.map_err(|error| {
        ApiError {
            cause: Some(error.into()),
            ..ApiError::new(ErrorCode::Internal, "the page cannot be shown")
        }
        .into()
    })
}

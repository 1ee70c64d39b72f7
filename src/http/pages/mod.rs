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

use poem::{
    Request, Response, Result,
    http::{HeaderValue, StatusCode, header},
};

use super::{
    credentials::{CookieNames, cookie},
    error::{ApiError, ErrorCode},
    views::{ClientCard, FormAction, Locale},
};
use crate::{
    app::App,
    flows::authorize::{
        Request as AuthorizationRequest,
        request::{self as asked, Freshness},
    },
    model::client::Client,
    oauth::params::Params,
};

/// The cookie of a browser that is logged in.
fn session_cookie(app: &App, request: &Request) -> Option<String> {
    cookie(request.headers(), CookieNames::of(&app.config).session)
}

/// `303 See Other`: whatever was posted is not posted again (RFC 9700 §4.12).
fn see_other(location: &str) -> Result<Response> {
    let location = HeaderValue::try_from(location)
        .map_err(|_| ApiError::new(ErrorCode::BadRequest, "the address cannot be written"))?;
    Ok(Response::builder()
        .status(StatusCode::SEE_OTHER)
        .header(header::LOCATION, location)
        // As on the pages: else a window that Swagger UI opened would lose it on the way through.
        .header("cross-origin-opener-policy", "same-origin")
        .finish())
}

/// Where a login may lead: back into an authorization request, or nowhere. Anything else that somebody put there is
/// ignored (threat T8).
struct ReturnTo {
    address: String,
    params: Params,
}

const AUTHORIZE: &str = "/oauth2/authorize";

impl ReturnTo {
    fn parse(text: Option<&str>) -> Option<Self> {
        let query = text?.strip_prefix(AUTHORIZE)?.strip_prefix('?')?;
        let params = Params::parse(query.as_bytes()).ok()?;
        Some(Self::of(params))
    }

    fn of(params: Params) -> Self {
        Self {
            address: format!("{AUTHORIZE}?{}", params.encode()),
            params,
        }
    }

    /// The address of one of our pages that leads back here.
    fn through(&self, page: &str) -> String {
        let query = Params::default().with("return_to", self.address.as_str());
        format!("{page}?{}", query.encode())
    }

    /// The request itself, if it is still good; without it the page knows no application.
    async fn request(&self, app: &App) -> Option<AuthorizationRequest> {
        asked::read(app, &self.params, Freshness::Now).await.ok()
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
    request.map_or_else(FormAction::default, |request| {
        FormAction::to(&request.callback.redirect_uri)
    })
}

/// The language of a page: what the application asked for, else what the browser prefers.
fn locale(request: &Request, params: Option<&Params>) -> &'static Locale {
    Locale::of_request(request, params.and_then(|params| params.get("ui_locales")))
}

/// A page that cannot be rendered is a mistake of ours.
fn rendered(page: Result<Response, askama::Error>) -> Result<Response> {
    page.map_err(|error| {
        ApiError {
            cause: Some(error.into()),
            ..ApiError::new(ErrorCode::Internal, "the page cannot be shown")
        }
        .into()
    })
}

//! `/admin`: the pages of administrators, one file per part. They work without scripts.
//!
//! Access is decided in one place, the extractor [`Admin`]: reading requires an administrator who
//! is logged in, with the second factor if the user has one; a change requires a recent login as
//! well, and the CSRF token of the page. The pages call the flows of the admin API.

pub mod audit;
pub mod clients;
pub mod events;
pub mod explain;
pub mod invitations;
pub mod issuers;
pub mod keys;
mod listing;
pub mod mails;
pub mod modules;
pub mod overview;
pub mod revocations;
pub mod roles;
pub mod service_tokens;
pub mod sessions;
mod shared;
pub mod subjects;
pub mod user;
pub mod users;
pub mod webhooks;

use std::sync::Arc;

use poem::{
    FromRequest, Request, RequestBody, Response, Result,
    http::{Method, StatusCode},
};

use super::{
    ReturnTo,
    authorize::display_name,
    csrf::CsrfCookie,
    current_session, locale,
    login::login_url,
    rendered,
    second_factor::{self, log_in_again},
    see_other,
};
use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    clock::Timestamp,
    error::Error,
    flows::{
        accounts::second_factors::{self, Lack, Login},
        admin::access::Precondition,
    },
    http::{
        context::Context,
        oauth::params,
        views::{AdminPage, AdminSection, Block, Form, FormAction, Locale, PageUrl},
    },
    model::{
        actor::Actor, authentication::SecondFactorRequest, browser_session::BrowserSession,
        user::Role,
    },
    oauth::params::Params,
};

pub(super) const PATH: &str = "/admin";

/// Why a form is refused whose box is not ticked.
pub const NOT_CONFIRMED: &str = "tick the box to confirm";

/// The rows of a list that a page shows.
const ROWS: usize = 50;

/// A page of the administration that a login returns to: a path with a query, of characters that
/// need no escape.
pub(super) fn page(text: &str) -> Option<String> {
    const LONGEST: usize = 1_000;
    let rest = text.strip_prefix(PATH)?;
    let is_page = rest.is_empty() || rest.starts_with(['/', '?']);
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/?&=%+-._~:@*".contains(&b);
    (is_page && text.len() <= LONGEST && rest.bytes().all(is_plain)).then(|| text.to_owned())
}

/// Whether the user may see the pages.
pub(super) fn is_administrator(browser: &BrowserSession) -> bool {
    browser.user.role == Role::admin()
}

/// An administrator who asks for a page, or who has sent the form of one.
pub struct Admin {
    app: Arc<App>,
    browser: BrowserSession,
    /// The actor of audit entries.
    actor: Actor,
    t: &'static Locale,
    /// The query of a GET, the form of a POST.
    params: Params,
    /// The page, if it can be requested again.
    url: Option<PageUrl<'static>>,
    path: String,
    csrf_cookie: CsrfCookie,
    csrf: String,
}

impl<'a> FromRequest<'a> for Admin {
    async fn from_request(request: &'a Request, body: &mut RequestBody) -> Result<Self> {
        let Context { app, caller } = Context::of(request)?;
        let is_change = request.method() == Method::POST;
        let params = params::from_query_or_body(request, body).await?;
        let uri = request.uri();
        let here = if is_change {
            uri.path()
        } else {
            uri.path_and_query().map_or("", |all| all.as_str())
        };
        let browser = admit(app, request, here, is_change).await?;
        let csrf_cookie = CsrfCookie::of(app, request);
        // A form of another browser, or from before a logout, is refused.
        let purpose = format!("admin {}", browser.id);
        if is_change {
            csrf_cookie
                .verify(app, request, &params, &purpose)
                .map_err(|error| error.again(uri.path().to_owned()))?;
        }
        Ok(Self {
            app: Arc::clone(app),
            actor: Actor::caller(&browser.user.id, caller),
            t: locale(request, None),
            url: crate::http::views::page_url(request.method(), uri),
            path: uri.path().to_owned(),
            csrf: csrf_cookie.token(app, &purpose)?,
            browser,
            params,
            csrf_cookie,
        })
    }
}

/// The browser session of an administrator, else a redirect to what is missing.
async fn admit(
    app: &App,
    request: &Request,
    here: &str,
    is_change: bool,
) -> Result<BrowserSession> {
    let return_to = ReturnTo::parse(Some(here)).or_else(|| ReturnTo::parse(Some(PATH)));
    let return_to = return_to.as_ref();
    let elsewhere = |response: Result<Response>| match response {
        Ok(response) => poem::Error::from_response(response),
        Err(error) => error,
    };
    let Some(browser) = current_session(app, request).await? else {
        return Err(elsewhere(see_other(&login_url(return_to))));
    };
    if !is_administrator(&browser) {
        let message = "these pages are for administrators: log in as one";
        return Err(ApiError::new(ErrorCode::InsufficientScope, message).into());
    }
    let lacks = second_factors::lack(app, Login::of(&browser), browser.has_second_factor);
    match lacks {
        Some(Lack::Freshness) if is_change => Err(elsewhere(log_in_again(return_to))),
        // One that the user has, or that the role requires.
        _ if browser.lacks_second_factor(SecondFactorRequest::Preferred) => {
            Err(elsewhere(second_step(return_to)))
        }
        _ => Ok(browser),
    }
}

fn second_step(return_to: Option<&ReturnTo>) -> Result<Response> {
    let url = return_to.map(|to| to.page_url(second_factor::PATH));
    see_other(&url.unwrap_or_default())
}

/// What a page shows beside the frame that all have.
struct Content {
    section: AdminSection,
    title: String,
    /// The pages above this one.
    above: Vec<(String, String)>,
    blocks: Vec<Block>,
}

/// Why a form is shown again.
#[derive(Debug, Default)]
struct Rejected {
    status: Option<StatusCode>,
    message: Option<String>,
    /// Fields and what is wrong with them.
    fields: Vec<(String, String)>,
}

impl Rejected {
    /// An error that the user can fix.
    ///
    /// # Errors
    /// Any other error: the server's own, and a resource that is not there.
    fn of(error: Error) -> Result<Self> {
        if let Error::Validation(fields) = error {
            let fields = fields.into_iter().map(|one| (one.field.to_owned(), one.message));
            let status = Some(StatusCode::BAD_REQUEST);
            return Ok(Self { status, message: None, fields: fields.collect() });
        }
        if matches!(error, Error::Changed) {
            let message =
                "it was changed meanwhile: the page shows its present state; repeat your change";
            let status = Some(StatusCode::PRECONDITION_FAILED);
            return Ok(Self { status, message: Some(message.to_owned()), fields: vec![] });
        }
        let error = ApiError::from(error);
        let status = error.code.status();
        if !status.is_client_error() || status == StatusCode::NOT_FOUND {
            return Err(error.into());
        }
        Ok(Self { status: Some(status), message: Some(error.message), fields: vec![] })
    }
}

impl Admin {
    /// The page, as it is.
    fn show(&self, content: Content) -> Result<Response> {
        self.show_with(content, &Rejected::default())
    }

    /// The page, or the page again with the reason why its form was refused. An error of a field
    /// that no form shows stands at the top.
    fn show_with(&self, content: Content, rejected: &Rejected) -> Result<Response> {
        let Content { section, title, above, mut blocks } = content;
        let mut unseen: Vec<&(String, String)> = rejected.fields.iter().collect();
        for block in &mut blocks {
            let Block::Form(form) = block else { continue };
            for field in &mut form.fields {
                *field = std::mem::take(field).with_errors(&rejected.fields, self.t);
                unseen.retain(|(name, _)| name != field.name);
            }
        }
        let further = unseen.into_iter().map(|(field, message)| format!("{field}: {message}"));
        let refused: Vec<String> = rejected.message.iter().cloned().chain(further).collect();
        let page = AdminPage {
            form: Form { csrf: &self.csrf, return_to: None },
            account: display_name(&self.browser.user),
            section,
            title,
            above,
            url: self.url.clone(),
            notice: self.params.get("done").and_then(|done| self.notice(done)),
            refused: (!refused.is_empty()).then(|| refused.join("; ")),
            blocks,
        };
        let status = rejected.status.unwrap_or(StatusCode::OK);
        let page = page.render(self.t, status, FormAction::ThisServer);
        Ok(self.csrf_cookie.set_on(&self.app, rendered(page)?))
    }

    /// Leads back to a page, which says what was done: one of the messages `admin-done-…`.
    fn done(&self, path: &str, done: &str) -> Result<Response> {
        see_other(&format!("{path}?done={done}"))
    }

    fn notice(&self, done: &str) -> Option<String> {
        self.t.find_message(&format!("admin-done-{done}"))
    }

    /// A text of the pages.
    fn text(&self, key: &str) -> String {
        self.t.get(key).into_owned()
    }

    /// The value of a query parameter or field; `None`: it is missing or empty.
    fn given(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// The password of the form, as it was typed; `None`: it is missing or empty.
    fn typed_password(&self) -> Option<String> {
        self.params.get("password").filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// The state that the page showed, which the change is meant for.
    ///
    /// # Errors
    /// [`Error::Validation`] where the form does not say.
    fn precondition(&self) -> Result<Precondition, Error> {
        let version = self.given("version").and_then(|text| text.parse().ok());
        let why = "must be the version of the state that the page showed: reload the page";
        let version = version.ok_or_else(|| Error::field("version", why))?;
        Ok(Precondition::OneOf(vec![Timestamp(version)]))
    }

    /// Requires the tick of a checkbox.
    ///
    /// # Errors
    /// [`Error::Validation`].
    fn confirmed(&self, name: &'static str) -> Result<(), Error> {
        match self.given(name) {
            Some("1") => Ok(()),
            _ => Err(Error::field(name, NOT_CONFIRMED)),
        }
    }

    /// As `2026-11-21 09:30`, UTC.
    fn minute(time: Timestamp) -> String {
        super::account::minute(time)
    }
}

//! `/account/password` and `/account/username`: a user who is logged in changes them, with the
//! present password.

use std::sync::Arc;

use poem::{Body, Request, RequestBody, Response, Result, handler, http::StatusCode};

use super::{
    ReturnTo,
    authorize::display_name,
    check_form,
    csrf::CsrfCookie,
    email, factors, form_status, locale, problem, rendered,
    second_factor::{log_in_again, retry_after},
    see_other, with_cookies,
};
use crate::{
    api_error::ApiError,
    app::App,
    credentials::CookieNames,
    error::Error,
    flows::accounts::{
        change::{self, Owner, Present},
        second_factors::Login,
    },
    http::{
        context::Context,
        oauth::params,
        views::{ChangePassword, ChangeUsername, EmailOutcome, Form, FormAction, Problem},
    },
    limits::{Key, Limit},
    model::browser_session::BrowserSession,
    oauth::params::Params,
};

pub(super) const PASSWORD: &str = "/account/password";
pub(super) const USERNAME: &str = "/account/username";

/// `/.well-known/change-password` (W3C, A Well-Known URL for Changing Passwords): for password
/// managers.
#[handler]
pub fn well_known() -> Result<Response> {
    see_other(PASSWORD)
}

/// What is wrong with a form: as a whole, or with fields.
#[derive(Default)]
struct Rejected {
    problem: Option<Problem>,
    fields: Vec<(&'static str, String)>,
}

impl Rejected {
    fn of(error: Error) -> Result<Self> {
        Ok(match error {
            Error::InvalidCredentials => Problem::WrongPassword.into(),
            Error::NoPassword => Problem::NoPassword.into(),
            Error::Validation(fields) => {
                let fields = fields.into_iter().map(|field| (field.field, field.message));
                Self { problem: None, fields: fields.collect() }
            }
            error @ Error::UsernameTaken => {
                Self { problem: None, fields: vec![("username", error.to_string())] }
            }
            other => problem(other)?.into(),
        })
    }

    fn status(&self) -> StatusCode {
        if self.fields.is_empty() { form_status(self.problem) } else { StatusCode::BAD_REQUEST }
    }
}

impl From<Problem> for Rejected {
    fn from(problem: Problem) -> Self {
        Self { problem: Some(problem), fields: vec![] }
    }
}

/// Counts the request, and reads its form.
async fn read_form(app: &App, request: &Request, body: Body) -> Result<Params> {
    let Context { caller, .. } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address)).map_err(ApiError::from)?;
    params::from_body(request, &mut RequestBody::new(body)).await
}

/// Asks for the present password and a new one.
#[handler]
pub async fn password(request: &Request) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    match factors::admitted_with_password(app, request, PASSWORD).await? {
        Ok(browser) => password_page(app, request, &browser, &Rejected::default()),
        Err(elsewhere) => Ok(elsewhere),
    }
}

fn password_page(
    app: &Arc<App>,
    request: &Request,
    browser: &BrowserSession,
    rejected: &Rejected,
) -> Result<Response> {
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, PASSWORD)?;
    let page = ChangePassword {
        form: Form { csrf: &csrf, return_to: None },
        account: display_name(&browser.user),
        problem: rejected.problem,
        fields: &rejected.fields,
        min_length: app.config.passwords.min_length,
    };
    let page = page.render(locale(request, None), rejected.status(), FormAction::ThisServer);
    Ok(csrf_cookie.set_on(app, retry_after(rendered(page)?, rejected.problem)))
}

/// Changes the password: every other session of the user ends, and this one has a new cookie.
#[handler]
pub async fn submit_password(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form = read_form(app, request, body).await?;
    let browser = match factors::admitted_with_password(app, request, PASSWORD).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let retry = |rejected| password_page(app, request, &browser, &rejected);
    if let Some(problem) = check_form(app, request, &form, PASSWORD)? {
        return retry(problem.into());
    }
    let (Some(current), Some(new)) = (form.get("current_password"), form.get("password")) else {
        return retry(Problem::Empty.into());
    };
    let owner =
        Owner { user: &browser.user, current_password: current, login: Login::of(&browser) };
    let changed = change::password(app, owner, new, Present::Browser(&browser), caller).await;
    match changed {
        Ok(cookie) => {
            let page = email::result(request, EmailOutcome::PasswordChanged, "/login")?;
            let names = CookieNames::of(&app.config);
            Ok(match cookie {
                Some(cookie) => {
                    with_cookies(page, [names.session_cookie(&cookie.value, cookie.max_age)])
                }
                None => page,
            })
        }
        Err(Error::NeedsLogin { .. } | Error::LoginExpired | Error::NotFound(_)) => {
            log_in_again(ReturnTo::parse(Some(PASSWORD)).as_ref())
        }
        Err(error) => retry(Rejected::of(error)?),
    }
}

/// Asks for the present password and a new username.
#[handler]
pub async fn username(request: &Request) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    match factors::admitted_with_password(app, request, USERNAME).await? {
        Ok(browser) => username_page(app, request, &browser, None, &Rejected::default()),
        Err(elsewhere) => Ok(elsewhere),
    }
}

fn username_page(
    app: &Arc<App>,
    request: &Request,
    browser: &BrowserSession,
    typed: Option<&str>,
    rejected: &Rejected,
) -> Result<Response> {
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, USERNAME)?;
    let page = ChangeUsername {
        form: Form { csrf: &csrf, return_to: None },
        email: &browser.user.email,
        username: typed.or(browser.user.username.as_deref()).unwrap_or_default(),
        problem: rejected.problem,
        fields: &rejected.fields,
    };
    let page = page.render(locale(request, None), rejected.status(), FormAction::ThisServer);
    Ok(csrf_cookie.set_on(app, retry_after(rendered(page)?, rejected.problem)))
}

/// Changes the username; an empty one removes it.
#[handler]
pub async fn submit_username(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form = read_form(app, request, body).await?;
    let browser = match factors::admitted_with_password(app, request, USERNAME).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let typed = form.get("username").unwrap_or_default();
    let retry = |rejected| username_page(app, request, &browser, Some(typed), &rejected);
    if let Some(problem) = check_form(app, request, &form, USERNAME)? {
        return retry(problem.into());
    }
    let Some(current) = form.get("current_password") else {
        return retry(Problem::Empty.into());
    };
    let owner =
        Owner { user: &browser.user, current_password: current, login: Login::of(&browser) };
    let new = Some(typed).filter(|typed| !typed.trim().is_empty());
    match change::username(app, owner, new, caller).await {
        Ok(_) => see_other("/login"),
        Err(Error::NeedsLogin { .. } | Error::NotFound(_)) => {
            log_in_again(ReturnTo::parse(Some(USERNAME)).as_ref())
        }
        Err(error) => retry(Rejected::of(error)?),
    }
}

//! The pages that mails lead to, and those that request mails. Opening a link changes nothing, as
//! mail scanners do; its form does.

use std::sync::Arc;

use poem::{
    Body, Request, RequestBody, Response, Result, handler,
    http::{HeaderValue, StatusCode, header},
};

use super::{
    ReturnTo, check_form, csrf::CsrfCookie, current_session, form_status, locale, login::logged_in,
    problem, rendered, see_other, session_cookie,
};
use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    diagnostics,
    error::Error,
    flows::accounts::{
        email::{self, Proof},
        email_tokens::{self, Link},
        password, register as registration,
    },
    http::{
        context::Context,
        oauth::params,
        views::{
            EmailForm, EmailOutcome, EmailResult, EmailStep, Form, FormAction, Problem, Secret,
            page_url,
        },
    },
    limits::{Key, Limit},
    model::{mail::Purpose, user::User},
    oauth::params::Params,
};

const PURPOSE: &str = "email";

/// A page as it is shown, or shown again.
struct Page<'a> {
    app: &'a Arc<App>,
    request: &'a Request,
    /// The query or the form.
    values: &'a Params,
    step: EmailStep,
    account: Option<&'a str>,
    secret: Secret,
    is_sent: bool,
}

impl Page<'_> {
    fn show(
        &self,
        problem: Option<Problem>,
        fields: &[(&'static str, String)],
    ) -> Result<Response> {
        let csrf_cookie = CsrfCookie::of(self.app, self.request);
        let csrf = csrf_cookie.token(self.app, PURPOSE)?;
        let return_to = ReturnTo::parse(self.values.get("return_to")).map(|to| to.url);
        let page = EmailForm {
            form: Form { csrf: &csrf, return_to: return_to.as_deref() },
            step: self.step,
            token: self.values.get("token"),
            account: self.account,
            secret: self.secret,
            email: self.values.get("email").unwrap_or_default(),
            is_sent: self.is_sent,
            problem,
            fields,
            min_length: self.app.config.passwords.min_length,
        };
        let status = if fields.is_empty() { form_status(problem) } else { StatusCode::BAD_REQUEST };
        let t = locale(self.request, None);
        let mut page = rendered(page.render(t, status, FormAction::Application))?;
        if let Some(Problem::TooMany { seconds }) = problem {
            page.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        Ok(csrf_cookie.set_on(self.app, page))
    }

    /// Shows the form again with what is wrong, or what has become of the link.
    fn refused(&self, error: Error) -> Result<Response> {
        match error {
            Error::InvalidLink => invalid_link(self.request, "/login"),
            Error::InvalidCredentials => self.show(Some(Problem::WrongPassword), &[]),
            Error::NoPassword => self.show(Some(Problem::NoPassword), &[]),
            Error::Validation(fields) if fields.iter().any(|field| field.field == "code") => {
                self.show(Some(Problem::WrongMailCode), &[])
            }
            Error::Validation(fields) => {
                let fields: Vec<_> =
                    fields.into_iter().map(|field| (field.field, field.message)).collect();
                self.show(None, &fields)
            }
            error @ (Error::EmailTaken
            | Error::InvalidInvitation
            | Error::UsernameTaken
            | Error::MailOff
            | Error::NotCreated(_)
            | Error::AccountPending) => Err(ApiError::from(error).into()),
            other => self.show(Some(problem(other)?), &[]),
        }
    }
}

/// The page after a link or a request.
pub(super) fn result(request: &Request, outcome: EmailOutcome, next: &str) -> Result<Response> {
    let status = match outcome {
        EmailOutcome::InvalidLink => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    };
    let page = EmailResult { outcome, next, page: page_url(request.method(), request.uri()) };
    rendered(page.render(locale(request, None), status, FormAction::ThisServer))
}

/// The page of a link that leads nowhere any more.
fn invalid_link(request: &Request, next: &str) -> Result<Response> {
    diagnostics::denied(ErrorCode::InvalidEmailToken.as_str(), Error::InvalidLink);
    result(request, EmailOutcome::InvalidLink, next)
}

/// Where to continue: the request that needs a verified address, or the account page.
fn next(values: &Params) -> String {
    ReturnTo::parse(values.get("return_to")).map_or_else(|| "/login".to_owned(), |to| to.url)
}

/// Counts the request, and reads its form; the second value is what is wrong with its CSRF token.
async fn read_form(request: &Request, body: Body) -> Result<(Params, Option<Problem>)> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address)).map_err(ApiError::from)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let problem = check_form(app, request, &form, PURPOSE)?;
    Ok((form, problem))
}

async fn read_query(request: &Request, body: Body) -> Result<Params> {
    params::from_query_or_body(request, &mut RequestBody::new(body)).await
}

async fn open(app: &App, purpose: Purpose, values: &Params) -> Result<Option<Link>> {
    match email_tokens::open(app, purpose, values.get("token").unwrap_or_default()).await {
        Ok(link) => Ok(Some(link)),
        Err(Error::InvalidLink) => Ok(None),
        Err(other) => Err(ApiError::from(other).into()),
    }
}

/// What a link asks for: nothing in a browser where its user is logged in.
fn secret_for(link: &Link, session: Option<&User>, values: &Params) -> Secret {
    let is_logged_in = session.is_some_and(|user| link.token.user_id.as_ref() == Some(&user.id));
    match values.get("new") {
        Some(_) => Secret::NewPassword,
        None if is_logged_in => Secret::Nothing,
        None => Secret::Password,
    }
}

/// What a submitted form proves. `None`: a field is empty.
fn proof<'a>(secret: Secret, session: Option<&'a User>, form: &'a Params) -> Option<Proof<'a>> {
    let password = form.get("password");
    match secret {
        Secret::Nothing => session.map(|user| Proof::Session(&user.id)),
        Secret::Password => password.map(Proof::Password),
        Secret::NewPassword => password.map(Proof::NewPassword),
    }
}

async fn session_user(app: &App, request: &Request) -> Result<Option<User>> {
    Ok(current_session(app, request).await?.map(|session| session.user))
}

/// `/email/verify`: with a token, asks to confirm the address; else for the code in the mail.
#[handler]
pub async fn verify(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = read_query(request, body).await?;
    show_verify(app, request, &query, None).await
}

async fn show_verify(
    app: &Arc<App>,
    request: &Request,
    values: &Params,
    problem: Option<Problem>,
) -> Result<Response> {
    let session = session_user(app, request).await?;
    if values.get("token").is_some() {
        let Some(link) = open(app, Purpose::VerifyEmail, values).await? else {
            // A second click, after the first one.
            return match session {
                Some(user) if user.is_verified => {
                    result(request, EmailOutcome::Verified, &next(values))
                }
                _ => invalid_link(request, "/login"),
            };
        };
        let secret = secret_for(&link, session.as_ref(), values);
        let account = Some(link.token.email.as_str());
        let step = EmailStep::Verify;
        let page = Page { app, request, values, step, account, secret, is_sent: false };
        return page.show(problem, &[]);
    }
    let Some(user) = session else {
        return see_other("/login");
    };
    if user.is_verified {
        return see_other(&next(values));
    }
    code_page(app, request, values, &user, false).show(problem, &[])
}

fn code_page<'a>(
    app: &'a Arc<App>,
    request: &'a Request,
    values: &'a Params,
    user: &'a User,
    is_sent: bool,
) -> Page<'a> {
    let (step, account) = (EmailStep::EnterCode, Some(user.email.as_str()));
    Page { app, request, values, step, account, secret: Secret::Nothing, is_sent }
}

#[handler]
pub async fn submit_verify(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let (form, problem) = read_form(request, body).await?;
    if problem.is_some() {
        return show_verify(app, request, &form, problem).await;
    }
    let session = session_user(app, request).await?;
    if let Some(token) = form.get("token") {
        let Some(link) = open(app, Purpose::VerifyEmail, &form).await? else {
            return invalid_link(request, "/login");
        };
        let secret = secret_for(&link, session.as_ref(), &form);
        let account = Some(link.token.email.as_str());
        let step = EmailStep::Verify;
        let page = Page { app, request, values: &form, step, account, secret, is_sent: false };
        let Some(proof) = proof(secret, session.as_ref(), &form) else {
            return page.show(Some(Problem::Empty), &[]);
        };
        return match email::verify_by_link(app, token, proof, caller).await {
            Ok(_) if secret == Secret::NewPassword => {
                result(request, EmailOutcome::PasswordSet, "/login")
            }
            Ok(_) => result(request, EmailOutcome::Verified, &next(&form)),
            Err(error) => page.refused(error),
        };
    }
    let Some(user) = session else {
        return see_other("/login");
    };
    if user.is_verified {
        return see_other(&next(&form));
    }
    if form.get("resend").is_some() {
        let language = locale(request, None).tag();
        let sent = email::request_verification(app, &user.id, language, caller).await;
        let page = code_page(app, request, &form, &user, sent.is_ok());
        return match sent {
            Ok(()) => page.show(None, &[]),
            Err(error) => page.refused(error),
        };
    }
    let page = code_page(app, request, &form, &user, false);
    let Some(code) = form.get("code") else {
        return page.show(Some(Problem::Empty), &[]);
    };
    match email::verify_by_code(app, &user.id, code, caller).await {
        Ok(()) => see_other(&next(&form)),
        Err(error) => page.refused(error),
    }
}

/// `/register/confirm`: creates the account of a registration.
#[handler]
pub async fn register(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = read_query(request, body).await?;
    let Some(link) = open(app, Purpose::ConfirmRegistration, &query).await? else {
        return invalid_link(request, "/login");
    };
    registration_page(app, request, &query, &link).show(None, &[])
}

fn registration_page<'a>(
    app: &'a Arc<App>,
    request: &'a Request,
    values: &'a Params,
    link: &'a Link,
) -> Page<'a> {
    let secret = secret_for(link, None, values);
    let (step, account) = (EmailStep::ConfirmRegistration, Some(link.token.email.as_str()));
    Page { app, request, values, step, account, secret, is_sent: false }
}

#[handler]
pub async fn submit_register(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let (form, problem) = read_form(request, body).await?;
    let Some(link) = open(app, Purpose::ConfirmRegistration, &form).await? else {
        return invalid_link(request, "/login");
    };
    let page = registration_page(app, request, &form, &link);
    let proof = proof(page.secret, None, &form);
    let (Some(proof), None) = (proof, problem) else {
        return page.show(problem.or(Some(Problem::Empty)), &[]);
    };
    let (token, language) = (form.get("token").unwrap_or_default(), locale(request, None).tag());
    let previous = session_cookie(app, request).await;
    let previous = previous.as_deref();
    match registration::confirm_browser(app, token, proof, previous, language, caller).await {
        Ok(cookie) => {
            let to = registration::return_to(&link);
            logged_in(app, &cookie, ReturnTo::parse(to.as_deref()).as_ref())
        }
        Err(error) => page.refused(error),
    }
}

/// `/password/reset`: with a token, asks for the new password; else for the address.
#[handler]
pub async fn reset(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = read_query(request, body).await?;
    show_reset(app, request, &query, None).await
}

async fn show_reset(
    app: &Arc<App>,
    request: &Request,
    values: &Params,
    problem: Option<Problem>,
) -> Result<Response> {
    if !app.config.sends_mail() {
        return Err(ApiError::from(Error::MailOff).into());
    }
    let link = match values.get("token") {
        None => None,
        Some(_) => match open(app, Purpose::ResetPassword, values).await? {
            None => return invalid_link(request, EmailStep::Reset.path()),
            link => link,
        },
    };
    reset_page(app, request, values, link.as_ref()).show(problem, &[])
}

fn reset_page<'a>(
    app: &'a Arc<App>,
    request: &'a Request,
    values: &'a Params,
    link: Option<&'a Link>,
) -> Page<'a> {
    let (step, secret) = match link {
        Some(_) => (EmailStep::Reset, Secret::NewPassword),
        None => (EmailStep::RequestReset, Secret::Nothing),
    };
    let account = link.map(|link| link.token.email.as_str());
    Page { app, request, values, step, account, secret, is_sent: false }
}

#[handler]
pub async fn submit_reset(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let (form, problem) = read_form(request, body).await?;
    if problem.is_some() {
        return show_reset(app, request, &form, problem).await;
    }
    let Some(token) = form.get("token") else {
        let page = reset_page(app, request, &form, None);
        let Some(address) = form.get("email") else {
            return page.show(Some(Problem::Empty), &[]);
        };
        let language = locale(request, None).tag();
        return match password::request_reset(app, address, language, caller).await {
            Ok(()) => result(request, EmailOutcome::ResetRequested, "/login"),
            Err(error) => page.refused(error),
        };
    };
    let Some(link) = open(app, Purpose::ResetPassword, &form).await? else {
        return invalid_link(request, EmailStep::Reset.path());
    };
    let page = reset_page(app, request, &form, Some(&link));
    let Some(new) = form.get("password") else {
        return page.show(Some(Problem::Empty), &[]);
    };
    match password::reset(app, token, new, caller).await {
        Ok(()) => result(request, EmailOutcome::PasswordSet, "/login"),
        Err(error) => page.refused(error),
    }
}

/// `/email/change`: asks for the new address and the password.
#[handler]
pub async fn change(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = read_query(request, body).await?;
    let Some(user) = session_user(app, request).await? else {
        return see_other("/login");
    };
    if !app.config.sends_mail() {
        return Err(ApiError::from(Error::MailOff).into());
    }
    change_page(app, request, &query, &user).show(None, &[])
}

fn change_page<'a>(
    app: &'a Arc<App>,
    request: &'a Request,
    values: &'a Params,
    user: &'a User,
) -> Page<'a> {
    let (step, account) = (EmailStep::RequestChange, Some(user.email.as_str()));
    Page { app, request, values, step, account, secret: Secret::Password, is_sent: false }
}

#[handler]
pub async fn submit_change(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let (form, problem) = read_form(request, body).await?;
    let Some(user) = session_user(app, request).await? else {
        return see_other("/login");
    };
    let page = change_page(app, request, &form, &user);
    let (None, Some(address), Some(password)) = (problem, form.get("email"), form.get("password"))
    else {
        return page.show(problem.or(Some(Problem::Empty)), &[]);
    };
    let language = locale(request, None).tag();
    match email::request_change(app, &user.id, address, password, language, caller).await {
        Ok(()) => result(request, EmailOutcome::ChangeRequested, "/login"),
        Err(error) => page.refused(error),
    }
}

/// `/email/change/confirm`: confirms the new address.
#[handler]
pub async fn confirm(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = read_query(request, body).await?;
    let Some(link) = open(app, Purpose::ConfirmChange, &query).await? else {
        return invalid_link(request, "/login");
    };
    let session = session_user(app, request).await?;
    confirm_page(app, request, &query, &link, session.as_ref()).show(None, &[])
}

fn confirm_page<'a>(
    app: &'a Arc<App>,
    request: &'a Request,
    values: &'a Params,
    link: &'a Link,
    session: Option<&User>,
) -> Page<'a> {
    let secret = match secret_for(link, session, values) {
        Secret::Nothing => Secret::Nothing,
        Secret::Password | Secret::NewPassword => Secret::Password,
    };
    let (step, account) = (EmailStep::ConfirmChange, Some(link.token.email.as_str()));
    Page { app, request, values, step, account, secret, is_sent: false }
}

#[handler]
pub async fn submit_confirm(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let (form, problem) = read_form(request, body).await?;
    let Some(link) = open(app, Purpose::ConfirmChange, &form).await? else {
        return invalid_link(request, "/login");
    };
    let session = session_user(app, request).await?;
    let page = confirm_page(app, request, &form, &link, session.as_ref());
    let proof = proof(page.secret, session.as_ref(), &form);
    let (Some(proof), None) = (proof, problem) else {
        return page.show(problem.or(Some(Problem::Empty)), &[]);
    };
    let token = form.get("token").unwrap_or_default();
    match email::confirm_change(app, token, proof, caller).await {
        Ok(_) => result(request, EmailOutcome::Changed, "/login"),
        Err(error) => page.refused(error),
    }
}

/// `/email/change/object`: keeps the old address.
#[handler]
pub async fn object(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = read_query(request, body).await?;
    let Some(link) = open(app, Purpose::ObjectToChange, &query).await? else {
        return invalid_link(request, "/login");
    };
    object_page(app, request, &query, &link).show(None, &[])
}

fn object_page<'a>(
    app: &'a Arc<App>,
    request: &'a Request,
    values: &'a Params,
    link: &'a Link,
) -> Page<'a> {
    let (step, account) = (EmailStep::Object, Some(link.token.email.as_str()));
    Page { app, request, values, step, account, secret: Secret::NewPassword, is_sent: false }
}

#[handler]
pub async fn submit_object(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let (form, problem) = read_form(request, body).await?;
    let Some(link) = open(app, Purpose::ObjectToChange, &form).await? else {
        return invalid_link(request, "/login");
    };
    let page = object_page(app, request, &form, &link);
    let (None, Some(new)) = (problem, form.get("password")) else {
        return page.show(problem.or(Some(Problem::Empty)), &[]);
    };
    let token = form.get("token").unwrap_or_default();
    match email::object(app, token, new, caller).await {
        Ok(()) => result(request, EmailOutcome::PasswordSet, "/login"),
        Err(error) => page.refused(error),
    }
}

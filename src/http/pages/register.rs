//! `/register`: the registration form. The new user is logged in.

use std::sync::Arc;

use poem::{Body, Request, RequestBody, Response, Result, handler, http::StatusCode};

use super::{
    LoginContext, ReturnTo, check_form,
    csrf::CsrfCookie,
    email, form_status, locale,
    login::{logged_in, login_url},
    problem, rendered, session_cookie, terms, upstream,
};
use crate::{
    api_error::ApiError,
    app::App,
    config::UserRegistration,
    error::Error,
    flows::accounts::{
        invitations,
        register::{Admission, Registration, register_browser},
    },
    http::{
        context::Context,
        oauth::params,
        views::{EmailOutcome, Form, Problem, Register},
    },
    limits::{Key, Limit},
    model::invitation::{INVITATION_PARAMETER, Invitation},
    oauth::params::Params,
};

const PURPOSE: &str = "register";

/// Shows the form.
#[handler]
pub async fn show(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(query.get("return_to"));
    form(app, request, return_to.as_ref(), &query, None, &[]).await
}

/// The invitation that the user came with.
///
/// # Errors
/// [`ApiError`] where registration is closed, the invitation is missing, or it is not valid.
async fn invitation(
    app: &App,
    return_to: Option<&ReturnTo>,
    form_values: &Params,
) -> Result<Option<Invitation>> {
    let opened = match (app.config.registration.mode, form_values.get(INVITATION_PARAMETER)) {
        (UserRegistration::Closed, _) => Err(Error::RegistrationDisabled),
        (_, Some(token)) => invitations::open(app, token).await.map(Some),
        (UserRegistration::Invitation, None) => Err(Error::InvitationRequired),
        (UserRegistration::Open, None) => Ok(None),
    };
    Ok(opened.map_err(|error| ApiError::from(error).again(login_url(return_to)))?)
}

async fn form(
    app: &Arc<App>,
    request: &Request,
    return_to: Option<&ReturnTo>,
    form_values: &Params,
    problem: Option<Problem>,
    fields: &[(&'static str, String)],
) -> Result<Response> {
    let invitation = invitation(app, return_to, form_values).await?;
    let bound = invitation.as_ref().and_then(|invitation| invitation.email.as_deref());
    let token = form_values.get(INVITATION_PARAMETER);
    let context = LoginContext::of(app, request, return_to).await;
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, PURPOSE)?;
    let hint = context.param("login_hint").filter(|hint| hint.contains('@'));
    let t = context.locale(request);
    let providers = upstream::links(app, t, return_to, None, token).await?;
    let page = Register {
        form: Form { csrf: &csrf, return_to: return_to.map(|return_to| return_to.url.as_str()) },
        client: context.card(),
        invitation: token,
        is_bound: bound.is_some(),
        email: bound.or(form_values.get("email")).or(hint).unwrap_or_default(),
        username: form_values.get("username").unwrap_or_default(),
        problem,
        fields,
        login_url: login_url(return_to),
        providers,
        min_length: app.config.passwords.min_length,
        terms: terms::terms_box(app),
    };
    let status = if fields.is_empty() { form_status(problem) } else { StatusCode::BAD_REQUEST };
    let page = page.render(t, status, context.form_action);
    Ok(csrf_cookie.set_on(app, rendered(page)?))
}

/// Creates the account and logs the user in.
#[handler]
pub async fn submit(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address)).map_err(ApiError::from)?;
    let form_values = params::from_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(form_values.get("return_to"));
    let retry = async |problem, fields: &[(&'static str, String)]| {
        form(app, request, return_to.as_ref(), &form_values, problem, fields).await
    };
    if let Some(problem) = check_form(app, request, &form_values, PURPOSE)? {
        return retry(Some(problem), &[]).await;
    }
    let text = |name| form_values.get(name).unwrap_or_default().to_owned();
    if form_values.get("email").is_none() || form_values.get("password").is_none() {
        return retry(Some(Problem::Empty), &[]).await;
    }
    let registration = Registration {
        email: text("email"),
        username: form_values.get("username").map(str::to_owned),
        password: text("password"),
    };
    let language = locale(request, None).tag();
    let admission = Admission {
        invitation: form_values.get(INVITATION_PARAMETER),
        accepted_terms: form_values.get(terms::FIELD),
    };
    let previous = session_cookie(app, request).await;
    let browser = (previous.as_deref(), return_to.as_ref().map(|to| to.url.as_str()));
    match register_browser(app, registration, admission, browser, language, caller).await {
        Ok(Some(cookie)) => logged_in(app, &cookie, return_to.as_ref()),
        Ok(None) => email::result(request, EmailOutcome::RegistrationRequested, "/login"),
        Err(Error::Validation(fields)) => {
            let fields: Vec<_> =
                fields.into_iter().map(|field| (field.field, field.message)).collect();
            retry(None, &fields).await
        }
        Err(error @ Error::EmailTaken) => retry(None, &[("email", error.to_string())]).await,
        Err(error @ Error::UsernameTaken) => retry(None, &[("username", error.to_string())]).await,
        Err(
            error @ (Error::RegistrationDisabled
            | Error::InvitationRequired
            | Error::InvalidInvitation),
        ) => Err(ApiError::from(error).again(login_url(return_to.as_ref())).into()),
        Err(other) => retry(Some(problem(other)?), &[]).await,
    }
}

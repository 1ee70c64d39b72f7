//! `/login`: the login form.

use std::sync::Arc;

use poem::{
    Body, Request, RequestBody, Response, Result, handler,
    http::{HeaderValue, header},
};

use super::{
    LoginContext, ReturnTo, account, authorize::display_name, check_form, csrf::CsrfCookie,
    current_session, deletion, form_status, problem, rendered, second_factor, see_other,
    session_cookie, upstream, with_cookies,
};
use crate::{
    api_error::ApiError,
    app::App,
    credentials::{CookieNames, cookies},
    error::Error,
    flows::{
        accounts::{login::login_browser, second_factors::passkeys, second_step},
        sessions::open::Cookie,
    },
    http::{
        context::Context,
        oauth::params,
        views::{Form, Login, PasskeyForm, Problem},
    },
    limits::{Key, Limit},
    model::{mail::RESET_PAGE, user::User},
    oauth::params::Params,
};

const PURPOSE: &str = "login";

/// Shows the form; a user who is logged in and comes without a request gets to the account page.
#[handler]
pub async fn show(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(query.get("return_to"));
    if return_to.is_none() && current_session(app, request).await?.is_some() {
        return see_other(account::PATH);
    }
    let problem = query.get("upstream").and_then(Problem::of_upstream);
    form(app, request, return_to.as_ref(), &query, problem).await
}

async fn form(
    app: &Arc<App>,
    request: &Request,
    return_to: Option<&ReturnTo>,
    form_values: &Params,
    problem: Option<Problem>,
) -> Result<Response> {
    let context = LoginContext::of(app, request, return_to).await;
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, PURPOSE)?;
    let register_url = app.config.registration.is_open().then(|| {
        return_to
            .map_or_else(|| "/register".to_owned(), |return_to| return_to.page_url("/register"))
    });
    let hint = context.param("login_hint");
    // A user who authenticates again types the password only, unless the application hints at
    // another user.
    let again = form_values.get("reauthenticate").is_some();
    let current = if again { current_session(app, request).await? } else { None };
    let is_hinted = |user: &User| {
        hint.is_none_or(|hint| user.username.as_deref() == Some(hint) || user.email == hint)
    };
    let current = current.filter(|session| is_hinted(&session.user));
    // A user who authenticates again is asked for the password and the second factor.
    let t = context.locale(request);
    let user = current.as_ref().map(|session| &session.user);
    let providers = upstream::links(app, t, return_to, user, None).await?;
    let offered = if current.is_none() { passkey_challenge(app)? } else { None };
    let page = Login {
        form: Form { csrf: &csrf, return_to: return_to.map(|return_to| return_to.url.as_str()) },
        client: context.card(),
        login: form_values.get("login").or(hint).unwrap_or_default(),
        problem,
        register_url,
        reset_url: app.config.sends_mail().then_some(RESET_PAGE),
        reauthenticate: current.as_ref().map(|session| display_name(&session.user)),
        other_account: login_url(return_to),
        passkey: offered.as_ref().map(|(options, token)| PasskeyForm { options, token }),
        providers,
    };
    let page = page.render(t, form_status(problem), context.form_action);
    let mut page = rendered(page)?;
    if let Some(Problem::TooMany { seconds }) = problem {
        page.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    Ok(csrf_cookie.set_on(app, page))
}

/// The options and the token of a challenge for any passkey.
fn passkey_challenge(app: &App) -> Result<Option<(String, String)>> {
    let challenge = passkeys::begin_login(app).map_err(ApiError::from)?;
    Ok(challenge.map(|challenge| (challenge.options.to_string(), challenge.token)))
}

/// Logs in by a passkey alone.
#[handler]
pub async fn by_passkey(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address)).map_err(ApiError::from)?;
    let form_values = params::from_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(form_values.get("return_to"));
    let retry = |problem| form(app, request, return_to.as_ref(), &form_values, Some(problem));
    if let Some(problem) = check_form(app, request, &form_values, PURPOSE)? {
        return retry(problem).await;
    }
    let value = |name: &str| form_values.get(name).unwrap_or_default();
    let (token, credential) = (value("passkey_token"), value("credential"));
    let previous = session_cookie(app, request).await;
    let opened =
        second_step::log_in_browser_by_passkey(app, token, credential, previous.as_deref(), caller);
    match opened.await {
        Ok(cookie) => logged_in(app, &cookie, return_to.as_ref()),
        Err(Error::DeletionPending(pending)) => deletion::offer(app, &pending),
        Err(Error::InvalidPasskey | Error::LoginExpired | Error::WrongCode) => {
            retry(Problem::InvalidPasskey).await
        }
        Err(other) => retry(problem(other)?).await,
    }
}

/// The login page that returns to the same request.
pub(super) fn login_url(return_to: Option<&ReturnTo>) -> String {
    return_to.map_or_else(|| "/login".to_owned(), |to| to.page_url("/login"))
}

/// Verifies login and password, sets a new session cookie and continues with the request.
#[handler]
pub async fn submit(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address)).map_err(ApiError::from)?;
    let form_values = params::from_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(form_values.get("return_to"));
    let retry = |problem| form(app, request, return_to.as_ref(), &form_values, Some(problem));
    if let Some(problem) = check_form(app, request, &form_values, PURPOSE)? {
        return retry(problem).await;
    }
    let (Some(name), Some(password)) = (form_values.get("login"), form_values.get("password"))
    else {
        return retry(Problem::Empty).await;
    };
    let previous = session_cookie(app, request).await;
    let remembered = cookies(request.headers(), CookieNames::of(&app.config).remembered);
    let browser = (previous.as_deref(), remembered.as_slice());
    let opened = login_browser(app, name, password, browser, caller);
    match opened.await {
        Ok(cookie) => logged_in(app, &cookie, return_to.as_ref()),
        Err(Error::SecondFactorRequired(required)) => {
            second_factor::begin(app, &required, return_to.as_ref())
        }
        Err(Error::DeletionPending(pending)) => deletion::offer(app, &pending),
        Err(Error::InvalidCredentials | Error::Validation(_)) => {
            retry(Problem::WrongCredentials).await
        }
        Err(other) => retry(problem(other)?).await,
    }
}

/// The response with the session cookie, and those of the device that the browser does not have.
pub(super) fn with_session(app: &App, response: Response, cookie: &Cookie) -> Response {
    let names = CookieNames::of(&app.config);
    let session = names.session_cookie(&cookie.value, cookie.max_age);
    let device = cookie.device.as_deref().map(|device| names.device_cookie(device));
    let lifetime = app.config.second_factors.remember_for;
    let remembered =
        cookie.remembered.as_deref().map(|value| names.remembered_cookie(value, lifetime));
    with_cookies(response, [Some(session), device, remembered].into_iter().flatten())
}

/// Sets the session cookie and redirects to `return_to`.
pub(super) fn logged_in(
    app: &Arc<App>,
    cookie: &Cookie,
    return_to: Option<&ReturnTo>,
) -> Result<Response> {
    let response = see_other(return_to.map_or(account::PATH, |to| to.url.as_str()))?;
    Ok(with_session(app, response, cookie))
}

//! `/login`: who is there?

use std::sync::Arc;

use poem::{
    Body, Request, RequestBody, Response, Result, handler,
    http::{HeaderValue, StatusCode, header},
};

use super::{
    Asked, ReturnTo, authorize::name_of, csrf::Guard, locale, problem, rendered, see_other,
    session_cookie, status_of, without_cookie,
};
use crate::{
    api_error::ApiError,
    app::App,
    credentials::CookieNames,
    error::Error,
    flows::{
        accounts::{browser_session, login::login_browser},
        sessions::open::Cookie,
    },
    http::{
        context::Context,
        oauth::params,
        views::{Account, Form, FormAction, Login, Problem},
    },
    limits::{Key, Limit},
    oauth::params::Params,
};

const PURPOSE: &str = "login";

/// Shows the form; without an application's request, and logged in, the account.
#[handler]
pub async fn show(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(query.get("return_to"));
    if return_to.is_none() {
        let session = browser_session::session(app, session_cookie(app, request).as_deref()).await;
        if let Some(session) = session.map_err(ApiError::from)? {
            let page = Account { name: name_of(&session.user), email: &session.user.email };
            let t = locale(request, Some(&query));
            return rendered(page.render(t, StatusCode::OK, &FormAction::default()));
        }
    }
    form(app, request, return_to.as_ref(), &query, None).await
}

async fn form(
    app: &Arc<App>,
    request: &Request,
    return_to: Option<&ReturnTo>,
    given: &Params,
    problem: Option<Problem>,
) -> Result<Response> {
    let asked = Asked::by(app, request, return_to).await;
    let guard = Guard::of(app, request);
    let csrf = guard.token(app, PURPOSE)?;
    let register_url = app.config.registration.enabled.then(|| {
        return_to.map_or_else(|| "/register".to_owned(), |return_to| return_to.through("/register"))
    });
    let hint = asked.param("login_hint");
    let reauthenticate = given.get("again").is_some();
    // Who only confirms who they are need not type it.
    let known = if reauthenticate {
        let session = browser_session::session(app, session_cookie(app, request).as_deref()).await;
        session.map_err(ApiError::from)?
    } else {
        None
    };
    let known = known.as_ref().map(|session| name_of(&session.user));
    let page = Login {
        form: Form {
            csrf: &csrf,
            return_to: return_to.map(|return_to| return_to.address.as_str()),
        },
        client: asked.card(),
        login: given.get("login").or(hint).or(known).unwrap_or_default(),
        problem,
        register_url,
        reauthenticate,
    };
    let page = page.render(asked.locale(request), status_of(problem), &asked.form_action());
    let mut page = rendered(page)?;
    if let Some(Problem::TooMany { seconds }) = problem {
        page.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    Ok(guard.keep(app, page))
}

/// Takes login and password; the browser gets a new cookie and goes on with its request.
#[handler]
pub async fn submit(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address)).map_err(ApiError::from)?;
    let given = params::from_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(given.get("return_to"));
    let retry = |problem| form(app, request, return_to.as_ref(), &given, Some(problem));
    if let Some(problem) = without_cookie(app, request, &given, PURPOSE)? {
        return retry(problem).await;
    }
    let (Some(name), Some(password)) = (given.get("login"), given.get("password")) else {
        return retry(Problem::Empty).await;
    };
    let previous = session_cookie(app, request);
    let opened = login_browser(app, name, password, previous.as_deref(), caller);
    match opened.await {
        Ok(cookie) => logged_in(app, &cookie, return_to.as_ref()),
        Err(Error::InvalidCredentials | Error::Validation(_)) => {
            retry(Problem::WrongCredentials).await
        }
        Err(other) => retry(problem(other)?).await,
    }
}

/// Gives the browser its cookie and sends it on.
pub(super) fn logged_in(
    app: &Arc<App>,
    cookie: &Cookie,
    return_to: Option<&ReturnTo>,
) -> Result<Response> {
    let mut response = see_other(return_to.map_or("/login", |to| to.address.as_str()))?;
    let cookie = CookieNames::of(&app.config).session_cookie(&cookie.value, cookie.max_age);
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

//! `/login`: who is there?

use std::sync::Arc;

use poem::{
    Body, Request, RequestBody, Response, Result, handler,
    http::{HeaderValue, StatusCode, header},
};

use super::{
    ReturnTo, authorize::name_of, card, csrf::Guard, form_action, locale, rendered, see_other,
    session_cookie,
};
use crate::{
    app::App,
    flows::{self, browser, browser::Cookie, login::login, logos},
    http::{
        context::Context,
        credentials::CookieNames,
        error::{ApiError, ErrorCode},
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
        let session = browser::session(app, session_cookie(app, request).as_deref()).await;
        if let Some(session) = session.map_err(ApiError::from)? {
            let guard = Guard::of(app, request);
            let csrf = guard.token(app, PURPOSE)?;
            let page = Account {
                form: Form {
                    csrf: &csrf,
                    return_to: None,
                },
                name: name_of(&session.user),
                email: &session.user.email,
            };
            let t = locale(request, Some(&query));
            let page = rendered(page.render(t, StatusCode::OK, &FormAction::default()))?;
            return Ok(guard.keep(app, page));
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
    let asked = match return_to {
        Some(return_to) => return_to.request(app).await,
        None => None,
    };
    let guard = Guard::of(app, request);
    let csrf = guard.token(app, PURPOSE)?;
    let reauthenticate = given.get("again").is_some();
    let hint = asked
        .as_ref()
        .and_then(|asked| asked.params.get("login_hint"));
    let register_url = app.config.registration.enabled.then(|| {
        return_to.map_or_else(
            || "/register".to_owned(),
            |return_to| return_to.through("/register"),
        )
    });
    let logo = asked
        .as_ref()
        .and_then(|asked| logos::of(app, &asked.known.client));
    let page = Login {
        form: Form {
            csrf: &csrf,
            return_to: return_to.map(|return_to| return_to.address.as_str()),
        },
        client: asked
            .as_ref()
            .map(|asked| card(&asked.known.client, logo.as_deref())),
        login: given.get("login").or(hint).unwrap_or_default(),
        problem,
        register_url,
        reauthenticate,
    };
    let status = match problem {
        None => StatusCode::OK,
        Some(Problem::TooMany { .. }) => StatusCode::TOO_MANY_REQUESTS,
        Some(Problem::Busy) => StatusCode::SERVICE_UNAVAILABLE,
        Some(Problem::Expired) => StatusCode::FORBIDDEN,
        Some(Problem::WrongCredentials | Problem::Empty) => StatusCode::BAD_REQUEST,
    };
    let t = locale(request, asked.as_ref().map(|asked| &asked.params));
    let mut page = rendered(page.render(t, status, &form_action(asked.as_ref())))?;
    if let Some(Problem::TooMany { seconds }) = problem {
        page.headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    Ok(guard.keep(app, page))
}

/// Takes login and password; the browser gets a new cookie and goes on with its request.
#[handler]
pub async fn submit(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address))
        .map_err(ApiError::from)?;
    let given = params::from_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(given.get("return_to"));
    let retry = |problem| form(app, request, return_to.as_ref(), &given, Some(problem));
    if let Err(error) = Guard::of(app, request).check(app, request, &given, PURPOSE) {
        // A page of ours that lay open too long may try again; another site's may not.
        return match error.downcast_ref::<ApiError>() {
            Some(refused)
                if refused.code == ErrorCode::CrossSite && given.get("csrf").is_some() =>
            {
                retry(Problem::Expired).await
            }
            _ => Err(error),
        };
    }
    let (Some(name), Some(password)) = (given.get("login"), given.get("password")) else {
        return retry(Problem::Empty).await;
    };
    let previous = session_cookie(app, request);
    let opened = login(app, name, password, caller, |user| {
        browser::prepare(app, user, previous.as_deref(), caller)
    });
    match opened.await {
        Ok(cookie) => logged_in(app, &cookie, return_to.as_ref()),
        Err(flows::Error::InvalidCredentials | flows::Error::Validation(_)) => {
            retry(Problem::WrongCredentials).await
        }
        Err(flows::Error::TooMany(wait)) => {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            retry(Problem::TooMany { seconds }).await
        }
        Err(flows::Error::Overloaded) => retry(Problem::Busy).await,
        Err(other) => Err(ApiError::from(other).into()),
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

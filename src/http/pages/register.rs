//! `/register`: a new account, logged in at once.

use std::sync::Arc;

use poem::{Body, Request, RequestBody, Response, Result, handler, http::StatusCode};

use super::{
    Asked, ReturnTo, csrf::Guard, login::logged_in, problem, rendered, session_cookie, status_of,
    without_cookie,
};
use crate::{
    api_error::ApiError,
    app::App,
    error::Error,
    flows::accounts::register::{Registration, register_browser},
    http::{
        context::Context,
        oauth::params,
        views::{Form, Problem, Register},
    },
    limits::{Key, Limit},
    oauth::params::Params,
};

const PURPOSE: &str = "register";

/// Shows the form.
#[handler]
pub async fn show(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(query.get("return_to"));
    if !app.config.registration.enabled {
        let closed = ApiError::from(Error::RegistrationDisabled);
        return Err(closed.again(login_url(return_to.as_ref())).into());
    }
    form(app, request, return_to.as_ref(), &query, None, &[]).await
}

async fn form(
    app: &Arc<App>,
    request: &Request,
    return_to: Option<&ReturnTo>,
    given: &Params,
    problem: Option<Problem>,
    fields: &[(&'static str, String)],
) -> Result<Response> {
    let asked = Asked::by(app, request, return_to).await;
    let guard = Guard::of(app, request);
    let csrf = guard.token(app, PURPOSE)?;
    let hint = asked.param("login_hint").filter(|hint| hint.contains('@'));
    let page = Register {
        form: Form {
            csrf: &csrf,
            return_to: return_to.map(|return_to| return_to.address.as_str()),
        },
        client: asked.card(),
        email: given.get("email").or(hint).unwrap_or_default(),
        username: given.get("username").unwrap_or_default(),
        problem,
        fields,
        login_url: login_url(return_to),
        min_length: app.config.passwords.min_length,
    };
    let status = if fields.is_empty() { status_of(problem) } else { StatusCode::BAD_REQUEST };
    let page = page.render(asked.locale(request), status, &asked.form_action());
    Ok(guard.keep(app, rendered(page)?))
}

fn login_url(return_to: Option<&ReturnTo>) -> String {
    return_to.map_or_else(|| "/login".to_owned(), |to| to.through("/login"))
}

/// Makes the account.
#[handler]
pub async fn submit(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address)).map_err(ApiError::from)?;
    let given = params::from_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(given.get("return_to"));
    let retry = async |problem, fields: &[(&'static str, String)]| {
        form(app, request, return_to.as_ref(), &given, problem, fields).await
    };
    if let Some(problem) = without_cookie(app, request, &given, PURPOSE)? {
        return retry(Some(problem), &[]).await;
    }
    let text = |name| given.get(name).unwrap_or_default().to_owned();
    if given.get("email").is_none() || given.get("password").is_none() {
        return retry(Some(Problem::Empty), &[]).await;
    }
    let registration = Registration {
        email: text("email"),
        username: given.get("username").map(str::to_owned),
        password: text("password"),
    };
    let previous = session_cookie(app, request);
    let opened = register_browser(app, registration, previous.as_deref(), caller);
    match opened.await {
        Ok(cookie) => logged_in(app, &cookie, return_to.as_ref()),
        Err(Error::Validation(fields)) => {
            let fields: Vec<_> =
                fields.into_iter().map(|field| (field.field, field.message)).collect();
            retry(None, &fields).await
        }
        Err(error @ Error::EmailTaken) => retry(None, &[("email", error.to_string())]).await,
        Err(error @ Error::UsernameTaken) => retry(None, &[("username", error.to_string())]).await,
        Err(other) => retry(Some(problem(other)?), &[]).await,
    }
}

//! `/register`: a new account, logged in at once.

use std::sync::Arc;

use poem::{Body, Request, RequestBody, Response, Result, handler, http::StatusCode};

use super::{
    ReturnTo, card, csrf::Guard, form_action, locale, login::logged_in, rendered, session_cookie,
};
use crate::{
    app::App,
    flows::{
        self, browser, logos,
        register::{Registration, register},
    },
    http::{
        context::Context,
        error::{ApiError, ErrorCode},
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
    if !app.config.registration.enabled {
        return Err(ApiError::from(flows::Error::RegistrationDisabled).into());
    }
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(query.get("return_to"));
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
    let asked = match return_to {
        Some(return_to) => return_to.request(app).await,
        None => None,
    };
    let guard = Guard::of(app, request);
    let csrf = guard.token(app, PURPOSE)?;
    let hint = asked
        .as_ref()
        .and_then(|asked| asked.params.get("login_hint"));
    let hint = hint.filter(|hint| hint.contains('@'));
    let logo = asked
        .as_ref()
        .and_then(|asked| logos::of(app, &asked.known.client));
    let page = Register {
        form: Form {
            csrf: &csrf,
            return_to: return_to.map(|return_to| return_to.address.as_str()),
        },
        client: asked
            .as_ref()
            .map(|asked| card(&asked.known.client, logo.as_deref())),
        email: given.get("email").or(hint).unwrap_or_default(),
        username: given.get("username").unwrap_or_default(),
        problem,
        fields,
        login_url: return_to.map_or_else(|| "/login".to_owned(), |to| to.through("/login")),
        min_length: app.config.passwords.min_length,
    };
    let status = match problem {
        None if fields.is_empty() => StatusCode::OK,
        Some(Problem::TooMany { .. }) => StatusCode::TOO_MANY_REQUESTS,
        Some(Problem::Busy) => StatusCode::SERVICE_UNAVAILABLE,
        Some(Problem::Expired) => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_REQUEST,
    };
    let t = locale(request, asked.as_ref().map(|asked| &asked.params));
    let page = rendered(page.render(t, status, &form_action(asked.as_ref())))?;
    Ok(guard.keep(app, page))
}

/// Makes the account.
#[handler]
pub async fn submit(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address))
        .map_err(ApiError::from)?;
    let given = params::from_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(given.get("return_to"));
    let retry = async |problem, fields: &[(&'static str, String)]| {
        form(app, request, return_to.as_ref(), &given, problem, fields).await
    };
    if let Err(error) = Guard::of(app, request).check(app, request, &given, PURPOSE) {
        return match error.downcast_ref::<ApiError>() {
            Some(refused)
                if refused.code == ErrorCode::CrossSite && given.get("csrf").is_some() =>
            {
                retry(Some(Problem::Expired), &[]).await
            }
            _ => Err(error),
        };
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
    let opened = register(app, registration, caller, |user| {
        browser::prepare(app, user, previous.as_deref(), caller)
    });
    match opened.await {
        Ok(cookie) => logged_in(app, &cookie, return_to.as_ref()),
        Err(flows::Error::Validation(fields)) => {
            let fields: Vec<_> = fields
                .into_iter()
                .map(|field| (field.field, field.message))
                .collect();
            retry(None, &fields).await
        }
        Err(error @ flows::Error::EmailTaken) => retry(None, &[("email", error.to_string())]).await,
        Err(error @ flows::Error::UsernameTaken) => {
            retry(None, &[("username", error.to_string())]).await
        }
        Err(flows::Error::TooMany(wait)) => {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            retry(Some(Problem::TooMany { seconds }), &[]).await
        }
        Err(flows::Error::Overloaded) => retry(Some(Problem::Busy), &[]).await,
        Err(other) => Err(ApiError::from(other).into()),
    }
}

//! `/services`: the accounts that a user has connected at customer services, and connecting one.

use poem::{Body, Request, RequestBody, Response, Result, handler, http::StatusCode, web::Path};

use super::{
    ReturnTo, authorize::display_name, csrf::CsrfCookie, current_session, host, locale, rendered,
    see_other,
};
use crate::{
    api_error::ApiError,
    diagnostics,
    error::Error,
    flows::services::connections,
    http::{
        context::Context,
        oauth::params,
        views::{Connect, ConnectionLine, ConnectionNotice, Connections, Form, FormAction},
    },
    limits::{Key, Limit},
    model::{actor::Actor, browser_session::BrowserSession},
};

const PAGE: &str = "/services";

/// The CSRF purpose of the forms: they are valid for this browser session only.
fn purpose(browser: &BrowserSession) -> String {
    format!("services {}", browser.id)
}

fn log_in() -> Result<Response> {
    see_other(&ReturnTo::services(None).page_url("/login"))
}

fn notice(notice: ConnectionNotice) -> Result<Response> {
    see_other(&format!("{PAGE}?notice={}", notice.as_str()))
}

/// Lists the services and the connected accounts.
#[handler]
pub async fn list(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let Some(browser) = current_session(app, request).await? else {
        return log_in();
    };
    let connections = connections::of_user(app, &browser.user.id).await.map_err(ApiError::from)?;
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, &purpose(&browser))?;
    let line = |one: connections::Connection| ConnectionLine {
        service: one.service,
        since: one.connected_at.map(|at| at.rfc3339().chars().take(10).collect()),
    };
    let page = Connections {
        form: Form { csrf: &csrf, return_to: None },
        account: display_name(&browser.user),
        notice: query.get("notice").and_then(ConnectionNotice::parse),
        connections: connections.into_iter().map(line).collect(),
    };
    let page = page.render(locale(request, None), StatusCode::OK, FormAction::ThisServer);
    Ok(csrf_cookie.set_on(app, rendered(page)?))
}

/// Asks before the browser is sent to the service: a link must connect nothing.
#[handler]
pub async fn show(request: &Request, Path(name): Path<String>) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let service = connections::connectable(app, &name).map_err(ApiError::from)?;
    let Some(browser) = current_session(app, request).await? else {
        return see_other(&ReturnTo::services(Some(&name)).page_url("/login"));
    };
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, &purpose(&browser))?;
    let page = Connect {
        form: Form { csrf: &csrf, return_to: None },
        service: &name,
        host: &host(&service.config.authorization_url),
        account: display_name(&browser.user),
    };
    // The form leads to the service, which redirects on.
    let page = page.render(locale(request, None), StatusCode::OK, FormAction::Application);
    Ok(csrf_cookie.set_on(app, rendered(page)?))
}

/// Sends the browser to the service.
#[handler]
pub async fn begin(request: &Request, body: Body, Path(name): Path<String>) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let Some(browser) = current_session(app, request).await? else {
        return log_in();
    };
    CsrfCookie::of(app, request)
        .verify(app, request, &form, &purpose(&browser))
        .map_err(|error| error.again(PAGE))?;
    see_other(&connections::begin(app, &browser, &name).map_err(ApiError::from)?)
}

/// The service has sent the browser back.
#[handler]
pub async fn callback(request: &Request, body: Body, Path(name): Path<String>) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address)).map_err(ApiError::from)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    connections::connectable(app, &name).map_err(ApiError::from)?;
    let Some(browser) = current_session(app, request).await? else {
        return log_in();
    };
    let state = query.get("state").unwrap_or_default();
    if !connections::is_state(app, &browser, &name, state).map_err(ApiError::from)? {
        diagnostics::denied(
            "service_state",
            "the state is not of this browser session, or too old",
        );
        return notice(ConnectionNotice::Stale);
    }
    let Some(code) = query.get("code").filter(|_| query.get("error").is_none()) else {
        diagnostics::denied("service_denied", "the service sent the browser back without a code");
        return notice(ConnectionNotice::Denied);
    };
    match connections::complete(app, &browser, &name, state, code, caller).await {
        Ok(()) => notice(ConnectionNotice::Connected),
        Err(
            error @ (Error::ServiceFailed(_)
            | Error::ServiceTimeout(_)
            | Error::ServiceUnavailable(..)
            | Error::NotConnected(_)),
        ) => {
            diagnostics::denied("service_failed", &error);
            notice(ConnectionNotice::Failed)
        }
        Err(error) => Err(ApiError::from(error).into()),
    }
}

/// Removes a connected account.
#[handler]
pub async fn disconnect(
    request: &Request,
    body: Body,
    Path(name): Path<String>,
) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let Some(browser) = current_session(app, request).await? else {
        return log_in();
    };
    CsrfCookie::of(app, request)
        .verify(app, request, &form, &purpose(&browser))
        .map_err(|error| error.again(PAGE))?;
    let actor = Actor::caller(&browser.user.id, caller);
    match connections::remove(app, &name, &browser.user.id, &actor).await {
        // It was removed meanwhile.
        Ok(()) | Err(Error::NotFound(_)) => notice(ConnectionNotice::Removed),
        Err(error) => Err(ApiError::from(error).into()),
    }
}

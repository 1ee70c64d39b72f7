//! `/oauth2/logout` (OpenID Connect RP-Initiated Logout 1.0). Without a valid hint the person is asked; with one that names
//! this browser's session they are not.

use poem::{
    Body, Request, RequestBody, Response, Result, handler,
    http::{HeaderValue, StatusCode, header},
};

use super::{authorize::name_of, csrf::Guard, locale, rendered, see_other, session_cookie};
use crate::{
    api_error::ApiError,
    app::App,
    credentials::CookieNames,
    flows::{
        accounts::browser_session,
        oauth::end_session::{self, EndSession},
    },
    http::{
        context::Context,
        oauth::params,
        views::{Form, FormAction, LoggedOut, Logout},
    },
    model::{actor::RequestContext, browser_session::BrowserSession},
    oauth::params::Params,
};

/// What the form sends beside the application's parameters.
const OURS: [&str; 2] = ["decision", "csrf"];

/// What the application's request consists of; the rest is not repeated.
const THEIRS: [&str; 6] = [
    "id_token_hint",
    "client_id",
    "post_logout_redirect_uri",
    "state",
    "ui_locales",
    "logout_hint",
];

/// Logs out, or asks.
#[handler]
pub async fn by_get(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let params = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let asked = end_session::read(app, &params).await.map_err(ApiError::from)?;
    let Some(session) = current(app, request).await? else {
        return done(app, request, &params, &asked);
    };
    if asked.is_meant(app, &session).await.map_err(ApiError::from)? {
        return log_out(app, caller, request, &params, &asked, &session).await;
    }
    confirm(app, request, &params, &asked, &session)
}

/// Takes the person's answer. Every other POST goes on by GET: it comes without our cookies, be it an application's own or
/// one that another site has made up, and must not be taken for one of somebody who is logged out.
#[handler]
pub async fn by_post(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let params = form.without(&OURS);
    let address = format!("/oauth2/logout?{}", params.encode());
    let (Some(decision), Some(session)) = (form.get("decision"), current(app, request).await?)
    else {
        return see_other(&address);
    };
    let asked = end_session::read(app, &params).await.map_err(ApiError::from)?;
    Guard::of(app, request)
        .check(app, request, &form, &purpose(&session))
        .map_err(|error| error.again(address))?;
    if decision == "logout" {
        log_out(app, caller, request, &params, &asked, &session).await
    } else {
        see_other("/login")
    }
}

async fn current(app: &App, request: &Request) -> Result<Option<BrowserSession>> {
    let session = browser_session::session(app, session_cookie(app, request).as_deref()).await;
    Ok(session.map_err(ApiError::from)?)
}

fn purpose(session: &BrowserSession) -> String {
    format!("logout {}", session.id)
}

fn confirm(
    app: &App,
    request: &Request,
    params: &Params,
    asked: &EndSession,
    session: &BrowserSession,
) -> Result<Response> {
    let guard = Guard::of(app, request);
    let csrf = guard.token(app, &purpose(session))?;
    let repeated = THEIRS.into_iter().filter_map(|name| Some((name, params.get(name)?)));
    let page = Logout {
        form: Form { csrf: &csrf, return_to: None },
        client: asked.client.as_ref().map(|client| client.name()),
        account: Some(name_of(&session.user)),
        hidden: repeated.collect(),
    };
    let to = asked.continue_to.as_deref().map(FormAction::to);
    let t = locale(request, Some(params));
    let page = rendered(page.render(t, StatusCode::OK, &to.unwrap_or_default()))?;
    Ok(guard.keep(app, page))
}

async fn log_out(
    app: &App,
    caller: &RequestContext,
    request: &Request,
    params: &Params,
    asked: &EndSession,
    session: &BrowserSession,
) -> Result<Response> {
    browser_session::log_out(app, &session.id, &session.user.id, caller)
        .await
        .map_err(ApiError::from)?;
    done(app, request, params, asked)
}

/// Nobody is logged in (any more): on to the application, or a page that says so.
fn done(app: &App, request: &Request, params: &Params, asked: &EndSession) -> Result<Response> {
    let mut response = match &asked.continue_to {
        Some(address) => see_other(address)?,
        None => {
            // Where an application leads that registered itself, nobody has checked.
            let client = asked.client.as_ref();
            let client = client.filter(|client| !client.source.is_self_registered());
            let page = LoggedOut {
                client: client.and_then(|client| {
                    Some((client.name(), client.metadata.client_uri.as_deref()?))
                }),
            };
            let t = locale(request, Some(params));
            rendered(page.render(t, StatusCode::OK, &FormAction::default()))?
        }
    };
    let names = CookieNames::of(&app.config);
    let [access, refresh] = names.clear();
    for cookie in [names.session_cookie("", 0), access, refresh] {
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
    Ok(response)
}

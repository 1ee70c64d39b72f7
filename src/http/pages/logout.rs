//! `/oauth2/logout` (OpenID Connect RP-Initiated Logout 1.0 §2). The user must confirm, unless
//! `id_token_hint` names this browser's session.

use poem::{
    Body, EndpointExt, Request, RequestBody, Response, Result, handler,
    http::{Method, StatusCode},
};

use super::{
    authorize::display_name, check_length, csrf::CsrfCookie, current_session, host, locale,
    naming_application, rendered, see_other, with_cookies,
};
use crate::{
    api_error::ApiError,
    app::App,
    credentials::{CookieNames, fetch_site_is_own},
    flows::{
        accounts::browser_session,
        oauth::end_session::{self, EndSession},
    },
    http::{
        api::Tag,
        context::Context,
        oauth::params,
        operation::{Operation, page},
        views::{Form, FormAction, LoggedOut, Logout, page_url},
    },
    model::{actor::RequestContext, browser_session::BrowserSession},
    oauth::{
        params::{Parameters, Params},
        redirect_uri,
        requests::EndSessionRequest,
    },
};

/// The end session endpoint, by GET and POST.
pub fn operations() -> [Operation; 2] {
    const PATH: &str = "/oauth2/logout";
    let responses = |operation: Operation| {
        operation
            .response(200, "A page.", &[page()])
            .empty(303, "To `post_logout_redirect_uri`, or to a page.")
            .response(
                400,
                "An error page: `id_token_hint` or `post_logout_redirect_uri` is not the client's.",
                &[page()],
            )
    };
    let get = Operation::new(Method::GET, PATH, "endSession", Tag::OAuth, by_get.boxed())
        .about(
            "Log out",
            "OpenID Connect RP-Initiated Logout §2. Without a hint that names this browser's session the user is asked.",
        )
        .query::<EndSessionRequest>();
    let post = Operation::new(Method::POST, PATH, "endSessionByPost", Tag::OAuth, by_post.boxed())
        .about("Log out", "The same by POST.")
        .form::<EndSessionRequest>();
    [responses(get), responses(post)]
}

/// The fields that the form adds to the parameters of the request.
const FORM_FIELDS: [&str; 2] = ["decision", "csrf"];

/// The parameters of a logout request. The form repeats no others.
const REQUEST_PARAMETERS: [&str; 6] = [
    "id_token_hint",
    "client_id",
    "post_logout_redirect_uri",
    "state",
    "ui_locales",
    "logout_hint",
];

/// Logs the user out, or asks for confirmation.
#[handler]
pub async fn by_get(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let params = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let logout = read(app, &params).await?;
    let Some(session) = current_session(app, request).await? else {
        let response = logged_out(request, &params, &logout)?;
        // Another site cannot take the cookies of the JSON API away.
        let is_own = fetch_site_is_own(request.headers()) == Some(true);
        return Ok(if is_own { without_cookies(app, response) } else { response });
    };
    if logout.is_meant(app, &session).await.map_err(ApiError::from)? {
        return log_out(app, caller, request, &params, &logout, &session).await;
    }
    confirm(app, request, &params, &logout, &session)
}

/// Applies the decision of the form. Any other POST is redirected to GET: browsers send cross-site
/// POSTs without the session cookie (SameSite=Lax), so the user would wrongly appear to be logged
/// out.
#[handler]
pub async fn by_post(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let params = form.without(&FORM_FIELDS);
    let url = format!("/oauth2/logout?{}", params.encode());
    check_length(app, url.len()).map_err(ApiError::from)?;
    let (Some(decision), Some(session)) =
        (form.get("decision"), current_session(app, request).await?)
    else {
        return see_other(&url);
    };
    let logout = read(app, &params).await?;
    CsrfCookie::of(app, request)
        .verify(app, request, &form, &csrf_purpose(&session))
        .map_err(|error| error.again(url))?;
    if decision == "logout" {
        log_out(app, caller, request, &params, &logout, &session).await
    } else {
        see_other("/login")
    }
}

async fn read(app: &App, params: &Params) -> Result<EndSession> {
    let request = EndSessionRequest::of(params).map_err(ApiError::from)?;
    let logout = end_session::read(app, &request).await;
    let named = |error| naming_application(app, ApiError::from(error), params.get("client_id"));
    Ok(logout.map_err(named)?)
}

fn csrf_purpose(session: &BrowserSession) -> String {
    format!("logout {}", session.id)
}

fn confirm(
    app: &App,
    request: &Request,
    params: &Params,
    logout: &EndSession,
    session: &BrowserSession,
) -> Result<Response> {
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, &csrf_purpose(session))?;
    let repeated =
        REQUEST_PARAMETERS.into_iter().filter_map(|name| Some((name, params.get(name)?)));
    let page = Logout {
        form: Form { csrf: &csrf, return_to: None },
        client: logout.client.as_ref().map(|client| client.name()),
        account: Some(display_name(&session.user)),
        hidden: repeated.collect(),
    };
    let form_action = match logout.continue_to {
        Some(_) => FormAction::Application,
        None => FormAction::ThisServer,
    };
    let t = locale(request, Some(params));
    let page = rendered(page.render(t, StatusCode::OK, form_action))?;
    Ok(csrf_cookie.set_on(app, page))
}

async fn log_out(
    app: &App,
    caller: &RequestContext,
    request: &Request,
    params: &Params,
    logout: &EndSession,
    session: &BrowserSession,
) -> Result<Response> {
    browser_session::log_out(app, &session.id, &session.user.id, caller)
        .await
        .map_err(ApiError::from)?;
    Ok(without_cookies(app, logged_out(request, params, logout)?))
}

/// Redirects to the client, or shows that the user is logged out.
fn logged_out(request: &Request, params: &Params, logout: &EndSession) -> Result<Response> {
    // The URLs of a self-registered client are not verified.
    let client = logout.client.as_ref();
    let client = client.filter(|client| !client.source.is_self_registered());
    let host = logout.continue_to.as_deref().map(host).unwrap_or_default();
    let unverified = match &logout.continue_to {
        Some(url) if client.is_some() || redirect_uri::is_on_this_device(url) => {
            return see_other(url);
        }
        // After a click: this server is no open redirector (RFC 9700 §4.11.2).
        Some(url) => Some((host.as_str(), url.as_str())),
        None => None,
    };
    let page = LoggedOut {
        page: page_url(request.method(), request.uri()),
        client: client
            .and_then(|client| Some((client.name(), client.metadata.client_uri.as_deref()?))),
        unverified,
    };
    let t = locale(request, Some(params));
    rendered(page.render(t, StatusCode::OK, FormAction::ThisServer))
}

/// Clears every cookie of a login.
pub(super) fn without_cookies(app: &App, response: Response) -> Response {
    let names = CookieNames::of(&app.config);
    let [access, refresh] = names.clear();
    with_cookies(response, [names.session_cookie("", 0), access, refresh])
}

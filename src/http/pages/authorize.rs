//! `/oauth2/authorize` (RFC 6749 §3.1): redirects the browser back to the client with the response,
//! or to a page that the request needs first.

use std::sync::Arc;

use poem::{
    Body, EndpointExt, Request, RequestBody, Response, Result, handler,
    http::{Method, StatusCode},
};

use super::{
    ReturnTo, callback, card, check_length, csrf::CsrfCookie, host, locale, naming_application,
    rendered, second_factor, see_other, session_cookie, terms,
};
use crate::{
    api_error::ApiError,
    app::App,
    error::Error,
    flows::oauth::authorize::{
        self, ConsentPrompt, Refused, Request as AuthorizationRequest, Step,
        resume::{PARAMETER, Resume},
    },
    http::{
        api::Tag,
        context::Context,
        oauth::params,
        operation::{Operation, page},
        scopes,
        views::{Consent, Form, FormAction},
    },
    ids::BrowserSessionId,
    model::{
        actor::RequestContext, browser_session::BrowserSession, client::Source, mail::VERIFY_PAGE,
        user::User,
    },
    oauth::{
        authorization_request::{AuthorizationParameters, RequestSource, ResponseParameters},
        params::Params,
    },
};

/// The authorization endpoint, by GET and POST.
pub fn operations() -> [Operation; 2] {
    const PATH: &str = "/oauth2/authorize";
    let responses = |operation: Operation| {
        operation
            .response(200, "A page, or the form of `response_mode=form_post`.", &[page()])
            .empty(303, "To the client's redirect URI, or to the login page.")
            .response(400, "An error page: unknown client or unregistered redirect URI.", &[page()])
    };
    let get = Operation::new(Method::GET, PATH, "authorize", Tag::OAuth, by_get.boxed())
        .about(
            "Authorize",
            "RFC 6749 §3.1. The application redirects a browser here. The response goes to `redirect_uri` with `code`, `state` and \
             `iss`, or with `error`.",
        )
        .query::<RequestSource>()
        .query::<ResponseParameters>()
        .query::<AuthorizationParameters>();
    let post = Operation::new(Method::POST, PATH, "authorizeByPost", Tag::OAuth, by_post.boxed())
        .about("Authorize", "The same by POST (OpenID Connect Core §3.1.2.1).")
        .form::<RequestSource>()
        .form::<ResponseParameters>()
        .form::<AuthorizationParameters>()
        .example("max_age", 3600);
    [responses(get), responses(post)]
}

/// Responds to the request, or shows the page that it needs first.
#[handler]
pub async fn by_get(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let params = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    // The language link of the consent page adds `lang`; it is not part of the request.
    process(app, caller, request, &params.without(&["lang"])).await
}

/// Redirects a request by POST (OpenID Connect Core §3.1.2.1) to GET, because browsers do not send
/// the session cookie with a form of another site (SameSite=Lax).
#[handler]
pub async fn by_post(request: &Request, body: Body) -> Result<Response> {
    let params = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let Context { app, .. } = Context::of(request)?;
    let url = ReturnTo::of(params).url;
    check_length(app, url.len()).map_err(ApiError::from)?;
    see_other(&url)
}

/// Takes the next step of a request in this browser.
pub(super) async fn process(
    app: &Arc<App>,
    caller: &RequestContext,
    request: &Request,
    params: &Params,
) -> Result<Response> {
    let cookie = session_cookie(app, request).await;
    let read = authorize::read(app, params, cookie.as_deref(), caller.address).await;
    let (asked, standing) = match read {
        Ok(read) => read,
        Err(refused) => return error_response(app, request, params, refused),
    };
    if let Err(too_long) = check_length(app, page_url_length(params)) {
        return callback::error(app, request, &asked.callback, &too_long);
    }
    let resume = Resume::of(app, params).map_err(ApiError::from)?;
    match authorize::decide(app, &asked, standing, resume) {
        Err(error) => callback::error(app, request, &asked.callback, &error),
        Ok(Step::Allowed(browser)) => issue_code(app, caller, request, &asked, browser).await,
        Ok(Step::Consent(question)) => consent_page(app, request, params, &asked, &question).await,
        Ok(Step::AcceptTerms) => see_other(&page_url(app, params, resume, terms::PATH)?),
        Ok(Step::VerifyEmail) => see_other(&page_url(app, params, resume, VERIFY_PAGE)?),
        Ok(Step::LogIn { again, register }) => {
            let page = if register { "/register" } else { "/login" };
            let url = page_url(app, params, resume, page)?;
            see_other(&if again { format!("{url}&reauthenticate=1") } else { url })
        }
        Ok(Step::SecondFactor) => see_other(&page_url(app, params, resume, second_factor::PATH)?),
        Ok(Step::SelectAccount(_)) => see_other(&page_url(app, params, resume, "/select-account")?),
    }
}

/// Issues the code for a request that the user has allowed.
pub(super) async fn issue_code(
    app: &App,
    caller: &RequestContext,
    request: &Request,
    asked: &AuthorizationRequest,
    browser: BrowserSession,
) -> Result<Response> {
    match authorize::issue_code(app, asked, browser, caller).await {
        Ok(code) => callback::code(app, request, &asked.callback, code),
        Err(Error::OAuth(error)) => callback::error(app, request, &asked.callback, &error),
        Err(other) => Err(ApiError::from(other).into()),
    }
}

/// The URL of a page that returns to this request and to the time it was first seen.
fn page_url(app: &App, params: &Params, resume: Option<Resume>, page: &str) -> Result<String> {
    let resume = resume.unwrap_or(Resume { first_seen: app.clock.now(), account_selected: false });
    let params = resume.put(app, params).map_err(ApiError::from)?;
    Ok(ReturnTo::of(params).page_url(page))
}

/// The length of the longest URL of a page that returns to this request, where the request is
/// escaped once more. It does not depend on what has been settled, so that a request is either
/// always or never too long.
fn page_url_length(params: &Params) -> usize {
    /// `resume` with its escapes, `reauthenticate` and `lang`.
    const ADDED: usize = 100;
    let request = ReturnTo::of(params.without(&[PARAMETER]));
    request.page_url(second_factor::PATH).len() + ADDED
}

/// Redirects to the client with the error, or shows an error page if the redirect URI is not
/// verified.
pub(super) fn error_response(
    app: &App,
    request: &Request,
    params: &Params,
    refused: Refused,
) -> Result<Response> {
    match refused {
        Refused::Callback(to, error) => callback::error(app, request, &to, &error),
        Refused::Page(error) => {
            Err(naming_application(app, error.into(), params.get("client_id")).into())
        }
    }
}

/// The CSRF purpose of a consent form: it is valid for this browser session and this request only
/// (threat T10).
pub(super) fn csrf_purpose(browser_session_id: &BrowserSessionId, request: &str) -> String {
    format!("consent {browser_session_id} {request}")
}

async fn consent_page(
    app: &Arc<App>,
    request: &Request,
    params: &Params,
    asked: &AuthorizationRequest,
    question: &ConsentPrompt,
) -> Result<Response> {
    let client = &asked.known.client;
    let t = locale(request, Some(&asked.params));
    let csrf_cookie = CsrfCookie::of(app, request);
    let encoded = params.encode();
    let csrf = csrf_cookie.token(app, &csrf_purpose(&question.browser.id, &encoded))?;
    let (wishes, resources) = (asked.wishes(), asked.target.names());
    let scopes = scopes::lines(app, t, &wishes, &resources, &question.known).await;
    let scopes = scopes.map_err(ApiError::from)?;
    let redirect_host = host(&asked.callback.redirect_uri);
    let is_document = client.source == Source::Document;
    let client_host = is_document.then(|| host(&client.id));
    let logo = app.logos.of(&app.outbound, &app.clock, client);
    let page = Consent {
        form: Form { csrf: &csrf, return_to: None },
        request: &encoded,
        shown: &asked.fingerprint(),
        client: card(client, logo.as_deref()),
        account: display_name(&question.browser.user),
        other_account: &ReturnTo::of(params.clone()).page_url("/login"),
        scopes,
        redirect_host: &redirect_host,
        local_redirect: asked.callback.is_on_this_device(),
        unverified: client.source.is_self_registered(),
        client_host: client_host.as_deref(),
        resource: asked.target.label(),
    };
    let page = rendered(page.render(t, StatusCode::OK, FormAction::Application))?;
    Ok(csrf_cookie.set_on(app, page))
}

/// The username, else the email address.
pub(super) fn display_name(user: &User) -> &str {
    user.username.as_deref().unwrap_or(&user.email)
}

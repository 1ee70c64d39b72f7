//! `/oauth2/authorize` (RFC 6749 §3.1): a browser comes with an application's request, and leaves with its answer or to one
//! of our pages.

use std::sync::Arc;

use poem::{Body, Request, RequestBody, Response, Result, handler, http::StatusCode};

use super::{
    ReturnTo, callback, card, csrf::Guard, form_action, locale, rendered, see_other, session_cookie,
};
use crate::{
    api_error::ApiError,
    app::App,
    error::Error,
    flows::oauth::authorize::{
        self, Question, Refused, Request as AuthorizationRequest, Step, resume::Resume,
    },
    http::{
        context::Context,
        oauth::params,
        views::{Consent, Form, ScopeLine},
    },
    model::{actor::RequestContext, browser_session::BrowserSession, client::Source, user::User},
    oauth::{error::OAuthError, params::Params},
};

/// What fits into the head of a request beside its other headers.
const LONGEST_ADDRESS: usize = 7 * 1024;

/// Answers the request, or shows what must be settled first.
#[handler]
pub async fn by_get(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let params = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    // The language link of the consent page adds it; it is no part of the request.
    go_on(app, caller, request, &params.without(&["lang"])).await
}

/// A request by POST (OpenID Connect Core §3.1.2.1) goes on by GET: a browser keeps our cookie from a form of another site.
#[handler]
pub async fn by_post(request: &Request, body: Body) -> Result<Response> {
    let params = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let address = ReturnTo::of(params).address;
    if address.len() > LONGEST_ADDRESS {
        let message = "the request is too long for an address: push it (RFC 9126)";
        return Err(ApiError::from(OAuthError::invalid_request(message)).into());
    }
    see_other(&address)
}

/// What happens next with a request in this browser.
pub(super) async fn go_on(
    app: &Arc<App>,
    caller: &RequestContext,
    request: &Request,
    params: &Params,
) -> Result<Response> {
    let cookie = session_cookie(app, request);
    let read = authorize::read(app, params, cookie.as_deref(), caller.address).await;
    let (asked, standing) = match read {
        Ok(read) => read,
        Err(refused) => return refuse(app, request, refused),
    };
    let resume = Resume::of(app, params).map_err(ApiError::from)?;
    match authorize::decide(app, &asked, standing, resume) {
        Err(error) => callback::error(app, request, &asked.callback, &error),
        Ok(Step::Allowed(browser)) => answer(app, caller, request, &asked, browser).await,
        Ok(Step::Consent(question)) => ask(app, request, params, &asked, &question).await,
        Ok(Step::LogIn { again, register }) => {
            let page = if register { "/register" } else { "/login" };
            let to = through(app, params, resume, page)?;
            see_other(&if again { format!("{to}&again=1") } else { to })
        }
        Ok(Step::SelectAccount(_)) => see_other(&through(app, params, resume, "/select-account")?),
    }
}

/// What the client gets for a request that is allowed.
pub(super) async fn answer(
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

/// One of our pages, from where the request comes back with the moment it was first seen.
fn through(app: &App, params: &Params, resume: Option<Resume>, page: &str) -> Result<String> {
    let resume = resume.unwrap_or(Resume { first_seen: app.clock.now(), account_selected: false });
    let params = resume.put(app, params).map_err(ApiError::from)?;
    Ok(ReturnTo::of(params).through(page))
}

/// An error before the redirect URI was known to be the client's is a page; later it goes to the client.
pub(super) fn refuse(app: &App, request: &Request, refused: Refused) -> Result<Response> {
    match refused {
        Refused::Callback(to, error) => callback::error(app, request, &to, &error),
        Refused::Page(error) => Err(ApiError::from(error).into()),
    }
}

/// What a consent form is for: this person's browser and this request, so that it can be sent from no other (threat T10).
pub(super) fn purpose(browser_session_id: &str, request: &str) -> String {
    format!("consent {browser_session_id} {request}")
}

async fn ask(
    app: &Arc<App>,
    request: &Request,
    params: &Params,
    asked: &AuthorizationRequest,
    question: &Question,
) -> Result<Response> {
    let client = &asked.known.client;
    let t = locale(request, Some(&asked.params));
    let guard = Guard::of(app, request);
    let encoded = params.encode();
    let csrf = guard.token(app, &purpose(&question.browser.id, &encoded))?;
    let catalogue = app.directory.catalogue(&app.db).await;
    let catalogue = catalogue.map_err(Error::from).map_err(ApiError::from)?;
    let wishes = asked.wishes();
    let resources = asked.target.names();
    let module_of = |name| {
        let mut modules = catalogue.modules_with(name);
        modules.find(|module| module.is_for(&resources))
    };
    let scopes = wishes.iter().map(|name| ScopeLine {
        name: name.to_owned(),
        module: module_of(name).map(|module| module.name(t.tag()).to_owned()),
        text: catalogue
            .describe(name, t.tag())
            .or_else(|| Some(module_of(name)?.description(t.tag())))
            .filter(|text| !text.is_empty())
            .map(str::to_owned),
        known: question.known.contains(name),
    });
    // Of a private-use scheme the scheme is what leads somewhere; the rest is whatever its author likes to be read.
    let host = |uri: &str| {
        let url = url::Url::parse(uri).ok()?;
        match url.scheme() {
            "https" | "http" => url.host_str().map(str::to_owned),
            scheme => Some(format!("{scheme}:")),
        }
    };
    let redirect_host = host(&asked.callback.redirect_uri).unwrap_or_default();
    let is_document = client.source == Source::Document;
    let client_host = is_document.then(|| host(&client.id)).flatten();
    let logo = app.logos.of(&app.outbound, &app.clock, client);
    let page = Consent {
        form: Form { csrf: &csrf, return_to: None },
        request: &encoded,
        client: card(client, logo.as_deref()),
        account: name_of(&question.browser.user),
        other_account: &ReturnTo::of(params.clone()).through("/login"),
        scopes: scopes.collect(),
        redirect_host: &redirect_host,
        local_redirect: asked.callback.is_on_this_device(),
        unverified: client.source.is_self_registered(),
        client_host: client_host.as_deref(),
        resource: asked.target.label(),
    };
    let page = rendered(page.render(t, StatusCode::OK, &form_action(Some(asked))))?;
    Ok(guard.keep(app, page))
}

/// How a person is called on a page.
pub(super) fn name_of(user: &User) -> &str {
    user.username.as_deref().unwrap_or(&user.email)
}

//! `/login/upstream/NAME`: login at another OpenID provider; `/login/identity`: what becomes of an
//! identity that is no user's yet.

use std::sync::Arc;

use poem::{Body, Request, RequestBody, Response, Result, handler, http::StatusCode, web::Path};

use super::{
    LoginContext, ReturnTo, account, authorize::display_name, check_form, check_length,
    csrf::CsrfCookie, current_session, deletion, factors, form_status, locale, login, problem,
    rendered, second_factor, see_other, session_cookie, terms, with_cookies,
};
use crate::{
    api_error::ApiError,
    app::App,
    credentials::{CookieNames, cookies},
    error::Error,
    flows::{
        accounts::second_factors::{Lack, Login},
        upstream::{
            self, Callback, Outcome, Refusal, Start,
            identity::{self, PENDING_FOR, PendingIdentity, Registration},
        },
    },
    http::{
        context::Context,
        oauth::params,
        views::{Form, Locale, Problem, ProviderLink, UnlinkedIdentity},
    },
    limits::{Key, Limit},
    model::{
        authentication::SecondFactorRequest, browser_session::BrowserSession,
        invitation::INVITATION_PARAMETER, upstream_identity::UpstreamIdentity, user::User,
    },
    oauth::params::Params,
    request_context,
};

pub(super) const IDENTITY: &str = "/login/identity";

const PURPOSE: &str = "identity";

/// The buttons of a login or registration page. `again`: the user who must authenticate again, at
/// providers where they have an identity. `invitation`: the token that the user came with.
pub(super) async fn links(
    app: &App,
    t: &Locale,
    return_to: Option<&ReturnTo>,
    again: Option<&User>,
    invitation: Option<&str>,
) -> Result<Vec<ProviderLink>> {
    let mut providers = app.upstream.ordered();
    if providers.is_empty() {
        return Ok(vec![]);
    }
    if let Some(user) = again {
        let linked = identity::of_user(app, &user.id).await.map_err(ApiError::from)?;
        providers.retain(|one| linked.iter().any(|linked| linked.issuer == one.config.issuer));
    }
    let link = |provider: &Arc<crate::upstream::Provider>| {
        let path = format!("/login/upstream/{}", provider.name);
        let to = return_to.map(|to| ("return_to", to.url.clone()));
        let reauthenticate = again.map(|_| ("reauthenticate", "1".to_owned()));
        let invitation = invitation.map(|token| (INVITATION_PARAMETER, token.to_owned()));
        let query = to.into_iter().chain(reauthenticate).chain(invitation);
        let query = query.fold(Params::default(), |all, (name, value)| all.with(name, value));
        let query = query.encode();
        let separator = if query.is_empty() { "" } else { "?" };
        ProviderLink {
            id: provider.name.clone(),
            name: provider.config.name(t.tag(), &provider.name).to_owned(),
            url: format!("{path}{separator}{query}"),
        }
    };
    Ok(providers.into_iter().map(link).collect())
}

/// The links that add an identity to an account that has these.
pub(super) fn links_to_add(
    app: &App,
    t: &Locale,
    linked: &[UpstreamIdentity],
) -> Vec<ProviderLink> {
    let providers = app.upstream.ordered().into_iter();
    let missing =
        providers.filter(|one| linked.iter().all(|linked| linked.issuer != one.config.issuer));
    let link = |provider: &Arc<crate::upstream::Provider>| ProviderLink {
        id: provider.name.clone(),
        name: provider.config.name(t.tag(), &provider.name).to_owned(),
        url: format!("/login/upstream/{}?link=1", provider.name),
    };
    missing.map(link).collect()
}

/// Sends the browser to the provider.
#[handler]
pub async fn begin(request: &Request, body: Body, Path(name): Path<String>) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address)).map_err(ApiError::from)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(query.get("return_to"));
    let is_link = query.get("link").is_some();
    if is_link && let Err(elsewhere) = factors::admitted(app, request, factors::PATH).await? {
        return Ok(elsewhere);
    }
    let context = LoginContext::of(app, request, return_to.as_ref()).await;
    let wanted = context.request.as_ref();
    let must_log_in =
        |one: &crate::flows::oauth::authorize::Request| one.prompt.login || one.max_age == Some(0);
    let csrf_cookie = CsrfCookie::of(app, request);
    let start = Start {
        return_to: return_to.as_ref().map(|to| to.url.as_str()),
        is_link,
        again: query.get("reauthenticate").is_some() || wanted.is_some_and(must_log_in),
        max_age: wanted.and_then(|wanted| wanted.max_age),
        login_hint: context.param("login_hint"),
        invitation: query.get(INVITATION_PARAMETER),
        second_factor: wanted.is_some_and(|one| one.second_factor != SecondFactorRequest::None),
    };
    let url = match upstream::begin(app, &name, csrf_cookie.secret(), start).await {
        Ok(url) => url,
        Err(
            error @ (Error::ServiceFailed(_)
            | Error::ServiceTimeout(_)
            | Error::ServiceUnavailable(..)),
        ) => {
            crate::diagnostics::denied("upstream_unavailable", &error);
            return back(return_to.as_ref(), is_link, Refusal::Failed);
        }
        Err(other) => return Err(ApiError::from(other).into()),
    };
    // The provider sends the `state` back to this server, with a code.
    check_length(app, url.len()).map_err(ApiError::from)?;
    Ok(csrf_cookie.set_on(app, see_other(&url)?))
}

/// The page that the login began at, with the reason.
fn back(return_to: Option<&ReturnTo>, is_link: bool, refusal: Refusal) -> Result<Response> {
    let reason = Problem::from(refusal).upstream_name().unwrap_or_default();
    if is_link {
        return see_other(&format!("{}?upstream={reason}", factors::PATH));
    }
    let url = login::login_url(return_to);
    let separator = if url.contains('?') { '&' } else { '?' };
    see_other(&format!("{url}{separator}upstream={reason}"))
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stale => Self::UpstreamStale,
            Refusal::Denied => Self::UpstreamDenied,
            Refusal::Failed => Self::UpstreamFailed,
            Refusal::Taken => Self::UpstreamTaken,
            Refusal::Disabled => Self::UpstreamRefused,
        }
    }
}

/// The provider has sent the browser back.
#[handler]
pub async fn complete(request: &Request, body: Body, Path(name): Path<String>) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address)).map_err(ApiError::from)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let callback = Callback {
        state: query.get("state").unwrap_or_default(),
        code: query.get("code"),
        error: query.get("error"),
        error_description: query.get("error_description"),
        iss: query.get("iss"),
    };
    let previous = session_cookie(app, request).await;
    let current = current_session(app, request).await?;
    let current = current.as_ref().map(|browser| browser.user.id.as_str());
    let secrets = CsrfCookie::of(app, request).known();
    let browser = (previous.as_deref(), current);
    let caller = request_context::of_login(app, request, caller);
    let answered = upstream::complete(app, &name, &secrets, callback, browser, &caller).await;
    let answered = match answered {
        Ok(answered) => answered,
        Err(Error::DeletionPending(pending)) => return deletion::offer(app, &pending),
        Err(error) => {
            crate::diagnostics::denied("upstream_refused", &error);
            return Err(ApiError::from(error).again("/login").into());
        }
    };
    let return_to = ReturnTo::parse(answered.return_to.as_deref());
    let return_to = return_to.as_ref();
    match answered.outcome {
        Ok(Outcome::LoggedIn(cookie)) => login::logged_in(app, &cookie, return_to),
        Ok(Outcome::SecondFactor(required)) => second_factor::begin(app, &required, return_to),
        Ok(Outcome::Unlinked(token)) => {
            let to = return_to.filter(|to| !to.is_identity());
            let page = identity_url(if answered.is_link { None } else { to });
            let names = CookieNames::of(&app.config);
            let cookie = names.identity_cookie(&token, PENDING_FOR.as_secs());
            Ok(with_cookies(see_other(&page)?, [cookie]))
        }
        Ok(Outcome::IsLinked) => see_other(factors::PATH),
        Err(refusal) => {
            crate::diagnostics::denied("upstream_refused", format_args!("{refusal:?}"));
            back(return_to, answered.is_link, refusal)
        }
    }
}

fn without_identity(app: &App, response: Response) -> Response {
    with_cookies(response, [CookieNames::of(&app.config).identity_cookie("", 0)])
}

fn identity_url(return_to: Option<&ReturnTo>) -> String {
    return_to.map_or_else(|| IDENTITY.to_owned(), |to| to.page_url(IDENTITY))
}

/// The identity that this browser came back with.
fn pending(app: &App, request: &Request) -> Option<PendingIdentity> {
    let names = CookieNames::of(&app.config);
    let tokens = cookies(request.headers(), names.identity);
    tokens.iter().find_map(|token| PendingIdentity::open(app, token))
}

/// The CSRF purpose of the forms: the one that links is valid for this session and identity only.
fn purpose(browser: Option<&BrowserSession>) -> String {
    browser.map_or_else(|| PURPOSE.to_owned(), |browser| format!("{PURPOSE} {}", browser.id))
}

/// Asks whose account the identity is to be.
#[handler]
pub async fn show(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(query.get("return_to"));
    let Some(pending) = pending(app, request) else {
        return back(return_to.as_ref(), false, Refusal::Stale);
    };
    page(app, request, &pending, return_to.as_ref(), &query, (None, &[])).await
}

async fn page(
    app: &Arc<App>,
    request: &Request,
    pending: &PendingIdentity,
    return_to: Option<&ReturnTo>,
    form_values: &Params,
    (problem, fields): (Option<Problem>, &[(&'static str, String)]),
) -> Result<Response> {
    let context = LoginContext::of(app, request, return_to).await;
    let browser = current_session(app, request).await?;
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, &purpose(browser.as_ref()))?;
    let t = context.locale(request);
    let provider = app.upstream.get(&pending.provider);
    let (registration, invitation) = pending.registration(app).await.map_err(ApiError::from)?;
    let bound = invitation.as_ref().and_then(|invitation| invitation.email.as_deref());
    let register_url = |here: &ReturnTo| {
        let url = here.page_url("/register");
        match pending.invitation.as_ref().filter(|_| invitation.is_some()) {
            Some(token) => format!("{url}&{INVITATION_PARAMETER}={token}"),
            None => url,
        }
    };
    let here = ReturnTo::parse(Some(&identity_url(return_to)));
    let page = UnlinkedIdentity {
        form: Form { csrf: &csrf, return_to: return_to.map(|to| to.url.as_str()) },
        client: context.card(),
        provider: provider.map_or("", |provider| provider.config.name(t.tag(), &provider.name)),
        account: browser.as_ref().map(|browser| display_name(&browser.user)),
        problem,
        fields,
        is_bound: bound.is_some(),
        email: bound.or(form_values.get("email")).or(pending.email.as_deref()).unwrap_or_default(),
        username: form_values.get("username").or(pending.username.as_deref()).unwrap_or_default(),
        registers: registration == Registration::Direct,
        terms: terms::terms_box(app),
        register_url: (registration == Registration::ByMail)
            .then(|| here.as_ref().map(register_url))
            .flatten(),
        login_url: login::login_url(here.as_ref()),
    };
    let status = if fields.is_empty() { form_status(problem) } else { StatusCode::BAD_REQUEST };
    let page = page.render(t, status, context.form_action);
    Ok(csrf_cookie.set_on(app, rendered(page)?))
}

/// Links the identity to the user who is logged in.
#[handler]
pub async fn submit_link(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(form.get("return_to"));
    let return_to = return_to.as_ref();
    let Some(pending) = pending(app, request) else {
        return back(return_to, false, Refusal::Stale);
    };
    let here = ReturnTo::parse(Some(&identity_url(return_to)));
    let Some(browser) = current_session(app, request).await? else {
        return see_other(&login::login_url(here.as_ref()));
    };
    let retry = |problem| page(app, request, &pending, return_to, &form, (Some(problem), &[]));
    if let Some(problem) = check_form(app, request, &form, &purpose(Some(&browser)))? {
        return retry(problem).await;
    }
    match identity::lack(app, &browser) {
        None => {}
        Some(Lack::Freshness) => return second_factor::log_in_again(here.as_ref()),
        Some(Lack::SecondFactor) => {
            let url = here.as_ref().map(|here| here.page_url(second_factor::PATH));
            return see_other(&url.unwrap_or_default());
        }
    }
    match identity::link_in_browser(app, &browser, &pending, caller).await {
        Ok(()) => {
            let to = return_to.map_or(factors::PATH, |to| to.url.as_str());
            Ok(without_identity(app, see_other(to)?))
        }
        Err(Error::NeedsLogin { .. } | Error::LoginExpired) => {
            second_factor::log_in_again(here.as_ref())
        }
        Err(Error::Conflict(_)) => retry(Problem::UpstreamTaken).await,
        Err(other) => retry(problem(other)?).await,
    }
}

/// Creates an account for the identity.
#[handler]
pub async fn submit_registration(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address)).map_err(ApiError::from)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(form.get("return_to"));
    let return_to = return_to.as_ref();
    let Some(pending) = pending(app, request) else {
        return back(return_to, false, Refusal::Stale);
    };
    let retry = async |problem, fields: &[(&'static str, String)]| {
        page(app, request, &pending, return_to, &form, (problem, fields)).await
    };
    let browser = current_session(app, request).await?;
    if let Some(problem) = check_form(app, request, &form, &purpose(browser.as_ref()))? {
        return retry(Some(problem), &[]).await;
    }
    let Some(email) = form.get("email").filter(|email| !email.trim().is_empty()) else {
        return retry(Some(Problem::Empty), &[]).await;
    };
    let previous = session_cookie(app, request).await;
    let language = locale(request, None).tag();
    let account = (email, form.get("username"), form.get(terms::FIELD));
    let opened =
        identity::register_browser(app, &pending, account, previous.as_deref(), language, caller);
    match opened.await {
        Ok(cookie) => Ok(without_identity(app, login::logged_in(app, &cookie, return_to)?)),
        Err(Error::Validation(fields)) => {
            let fields: Vec<_> =
                fields.into_iter().map(|field| (field.field, field.message)).collect();
            retry(None, &fields).await
        }
        Err(error @ Error::EmailTaken) => retry(None, &[("email", error.to_string())]).await,
        Err(error @ Error::UsernameTaken) => retry(None, &[("username", error.to_string())]).await,
        Err(Error::Conflict(_)) => retry(Some(Problem::UpstreamTaken), &[]).await,
        Err(error @ Error::InvalidInvitation) => {
            Err(ApiError::from(error).again(login::login_url(return_to)).into())
        }
        Err(other) => retry(Some(problem(other)?), &[]).await,
    }
}

/// Removes an identity of the user who is logged in.
#[handler]
pub async fn submit_unlink(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let browser = match factors::admitted(app, request, factors::PATH).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    CsrfCookie::of(app, request)
        .verify(app, request, &form, &account::purpose(&browser))
        .map_err(|error| error.again(factors::PATH))?;
    let id = form.get("id").unwrap_or_default();
    let login = (Login::of(&browser), browser.has_second_factor);
    match identity::unlink_own(app, &browser.user.id, login, id, caller).await {
        // It was removed meanwhile.
        Ok(()) | Err(Error::NotFound(_)) => see_other(factors::PATH),
        Err(Error::Conflict(_)) => see_other(&format!("{}?upstream=last", factors::PATH)),
        Err(Error::NeedsLogin { .. }) => {
            second_factor::log_in_again(ReturnTo::parse(Some(factors::PATH)).as_ref())
        }
        Err(other) => Err(ApiError::from(other).into()),
    }
}

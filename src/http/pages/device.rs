//! `/device` and `/device/confirm` (RFC 8628 §3.3): the user enters the code of a device, logs in
//! where needed, and allows or denies what it asks for. A code in the URL is not looked up: the user
//! compares it and submits it as a typed one.

use std::sync::Arc;

use poem::{
    Body, Request, RequestBody, Response, Result, handler,
    http::{HeaderValue, StatusCode, header},
};

use super::{
    ReturnTo, authorize::display_name, card, check_form, csrf::CsrfCookie, current_session,
    form_status, host, locale, problem, rendered, second_factor, see_other, session_cookie, terms,
};
use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    flows::oauth::device::{self, Closed, Entered, PAGE, Question, Step},
    http::{
        context::Context,
        oauth::params,
        scopes,
        views::{
            DeviceCode, DeviceConsent, DeviceFacts, DeviceResult, Form, FormAction, Outcome,
            Problem, page_url,
        },
    },
    ids::BrowserSessionId,
    limits::{self, Key, Limit},
    model::{actor::RequestContext, client::Source, mail::VERIFY_PAGE},
    oauth::device_codes::UserCode,
};

/// Where the user decides.
const CONFIRM: &str = "/device/confirm";

const PURPOSE: &str = "device";

/// Shows the form for a code; with that of `verification_uri_complete` in it.
#[handler]
pub async fn show(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let user_code = query.get("user_code").and_then(UserCode::parse).map(|code| code.shown());
    code_page(app, request, user_code.as_deref().unwrap_or_default(), user_code.is_some(), None)
}

fn code_page(
    app: &App,
    request: &Request,
    user_code: &str,
    prefilled: bool,
    problem: Option<Problem>,
) -> Result<Response> {
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, PURPOSE)?;
    let form = Form { csrf: &csrf, return_to: None };
    let page = DeviceCode { form, user_code, prefilled, problem };
    let t = locale(request, None);
    let mut page = rendered(page.render(t, form_status(problem), FormAction::ThisServer))?;
    if let Some(Problem::TooMany { seconds }) = problem {
        page.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    Ok(csrf_cookie.set_on(app, page))
}

/// Binds the code to this browser session and continues with the question; via the login page if
/// no user is logged in: guessing codes requires an account.
#[handler]
pub async fn enter(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address)).map_err(ApiError::from)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let typed = form.get("user_code").unwrap_or_default();
    let retry = |problem| code_page(app, request, typed, false, Some(problem));
    if let Some(problem) = check_form(app, request, &form, PURPOSE)? {
        return retry(problem);
    }
    if typed.is_empty() {
        return retry(Problem::Empty);
    }
    let Some(user_code) = UserCode::parse(typed) else {
        return retry(Problem::WrongCode);
    };
    let Some(browser) = current_session(app, request).await? else {
        return see_other(&ReturnTo::device(Some(user_code)).page_url("/login"));
    };
    match device::enter(app, &user_code, &browser, caller).await {
        Ok(Entered::Bound) => see_other(&confirm_url(&user_code)),
        Ok(Entered::Unknown) => retry(Problem::WrongCode),
        Ok(Entered::Closed(closed)) => result_page(request, refused(closed)),
        Err(error) => retry(problem(error)?),
    }
}

fn confirm_url(user_code: &UserCode) -> String {
    format!("{CONFIRM}?user_code={}", user_code.shown())
}

/// Asks the user to allow or deny the request, if the code was entered in this browser session.
#[handler]
pub async fn confirm(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let Some(user_code) = query.get("user_code").and_then(UserCode::parse) else {
        return see_other(PAGE);
    };
    let cookie = session_cookie(app, request).await;
    let step = device::step(app, &user_code, cookie.as_deref()).await.map_err(ApiError::from)?;
    respond(app, caller, request, user_code, step).await
}

/// Applies the decision.
#[handler]
pub async fn decide(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let Some(user_code) = form.get("user_code").and_then(UserCode::parse) else {
        return see_other(PAGE);
    };
    let browser = current_session(app, request).await?.map(|browser| browser.id);
    let purpose = csrf_purpose(&browser.unwrap_or_default(), &user_code);
    CsrfCookie::of(app, request)
        .verify(app, request, &form, &purpose)
        .map_err(|error| error.again(ReturnTo::device(Some(user_code.clone())).url))?;
    let cookie = session_cookie(app, request).await;
    let step = device::step(app, &user_code, cookie.as_deref()).await.map_err(ApiError::from)?;
    let question = match step {
        Step::Decide(question) if form.get("shown") == Some(&question.fingerprint()) => question,
        // Something has changed since the page was shown.
        other => return respond(app, caller, request, user_code, other).await,
    };
    let (closed, decided) = match form.get("decision") {
        Some("allow") => (device::approve(app, *question, caller).await, Outcome::Approved),
        Some("deny") => (device::deny(app, &question, caller).await, Outcome::Denied),
        _ => {
            let message = "`decision` must be `allow` or `deny`";
            return Err(ApiError::new(ErrorCode::BadRequest, message).into());
        }
    };
    let closed = closed.map_err(ApiError::from)?;
    result_page(request, closed.map_or(decided, refused))
}

/// The CSRF purpose of a decision: it is valid for this browser session and this code only.
fn csrf_purpose(browser_session_id: &BrowserSessionId, user_code: &UserCode) -> String {
    format!("device {browser_session_id} {}", user_code.as_str())
}

async fn respond(
    app: &Arc<App>,
    caller: &RequestContext,
    request: &Request,
    user_code: UserCode,
    step: Step,
) -> Result<Response> {
    match step {
        Step::LogIn { again } => {
            let url = ReturnTo::device(Some(user_code)).page_url("/login");
            see_other(&if again { format!("{url}&reauthenticate=1") } else { url })
        }
        Step::SecondFactor => {
            see_other(&ReturnTo::device(Some(user_code)).page_url(second_factor::PATH))
        }
        Step::Enter => see_other(&ReturnTo::device(Some(user_code)).url),
        Step::AcceptTerms => see_other(&ReturnTo::device(Some(user_code)).page_url(terms::PATH)),
        Step::VerifyEmail => see_other(&ReturnTo::device(Some(user_code)).page_url(VERIFY_PAGE)),
        // It was decided in this browser session.
        Step::Closed(Closed::Approved) => result_page(request, Outcome::Approved),
        Step::Closed(Closed::Denied) => result_page(request, Outcome::Denied),
        Step::Closed(closed) => result_page(request, refused(closed)),
        Step::Decide(question) => question_page(app, caller, request, user_code, &question).await,
    }
}

async fn question_page(
    app: &Arc<App>,
    caller: &RequestContext,
    request: &Request,
    user_code: UserCode,
    question: &Question,
) -> Result<Response> {
    let Question { request: asked, known, target, scope, consented, browser } = question;
    let client = &*known.client;
    let t = locale(request, None);
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, &csrf_purpose(&browser.id, &user_code))?;
    let is_document = client.source == Source::Document;
    let client_host = is_document.then(|| host(&client.id));
    let logo = app.logos.of(&app.outbound, &app.clock, client);
    let address = asked.address.map(|address| address.to_string());
    let networks =
        asked.address.map(|device| (limits::network(device), limits::network(caller.address)));
    let page = DeviceConsent {
        form: Form { csrf: &csrf, return_to: None },
        user_code: &user_code.shown(),
        shown: &question.fingerprint(),
        client: card(client, logo.as_deref()),
        device: DeviceFacts {
            address: address.as_deref(),
            user_agent: asked.user_agent.as_deref(),
            minutes: (app.clock.now() - asked.created_at).as_secs() / 60,
            is_elsewhere: networks.is_some_and(|(device, browser)| device != browser),
        },
        account: display_name(&browser.user),
        other_account: &ReturnTo::device(Some(user_code.clone())).page_url("/login"),
        scopes: scopes::lines(app, t, scope, &target.names(), consented)
            .await
            .map_err(ApiError::from)?,
        unverified: client.source.is_self_registered(),
        client_host: client_host.as_deref(),
        resource: target.label(),
    };
    let page = rendered(page.render(t, StatusCode::OK, FormAction::ThisServer))?;
    Ok(csrf_cookie.set_on(app, page))
}

/// What a code leads to that cannot be decided about.
const fn refused(closed: Closed) -> Outcome {
    match closed {
        Closed::Approved | Closed::Denied => Outcome::Used,
        Closed::Expired => Outcome::Expired,
        Closed::Elsewhere => Outcome::Elsewhere,
    }
}

fn result_page(request: &Request, outcome: Outcome) -> Result<Response> {
    let status = match outcome {
        Outcome::Approved | Outcome::Denied => StatusCode::OK,
        Outcome::Expired | Outcome::Used => StatusCode::BAD_REQUEST,
        Outcome::Elsewhere => StatusCode::FORBIDDEN,
    };
    let page = DeviceResult { outcome, page: page_url(request.method(), request.uri()) };
    rendered(page.render(locale(request, None), status, FormAction::ThisServer))
}

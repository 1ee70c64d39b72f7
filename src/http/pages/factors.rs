//! `/account/security`: the second factors of the user who is logged in. A change needs a recent
//! login, with the second factor of a user who has one.

use std::sync::Arc;

use poem::{Body, Request, RequestBody, Response, Result, handler, http::StatusCode};

use super::{
    ReturnTo, account,
    authorize::display_name,
    check_form,
    csrf::CsrfCookie,
    current_session, form_status, locale, problem, rendered,
    second_factor::{self, codes_page, factor_problem, log_in_again, retry_after},
    see_other, upstream,
};
use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    error::Error,
    flows::{
        accounts::{
            remembered_devices,
            second_factors::{self, Confirmation, Lack, Login, passkeys},
        },
        upstream::identity::{self, LAST_WAY_IN},
    },
    http::{
        context::Context,
        oauth::params,
        views::{
            AddPasskey, ConfirmChange, DeviceLine, FactorLine, FactorQuestion, Form, FormAction,
            IdentityLine, PasskeyForm, Problem, Security,
        },
    },
    model::{
        browser_session::BrowserSession,
        second_factor::{FactorKind, FactorOverview},
        user_agent::Device,
    },
    oauth::params::Params,
};

pub(super) const PATH: &str = "/account/security";
const TOTP: &str = "/account/security/totp";
const PASSKEY: &str = "/account/security/passkey";
const REMOVE: &str = "/account/security/remove";
const CODES: &str = "/account/security/recovery-codes";

const PURPOSE: &str = "security";

/// A page of the account that a login returns to.
pub(super) fn page(text: &str) -> Option<String> {
    if [PATH, TOTP, PASSKEY, CODES].contains(&text) {
        return Some(text.to_owned());
    }
    let id = text.strip_prefix(REMOVE)?.strip_prefix("?id=")?;
    is_id(id).then(|| removal_url(id))
}

fn is_id(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok()
}

fn removal_url(id: &str) -> String {
    format!("{REMOVE}?id={id}")
}

/// The browser of a user who may change the password or the username with the present password, or
/// where they go first: to a second step, where the user has a second factor.
pub(super) async fn admitted_with_password(
    app: &App,
    request: &Request,
    url: &str,
) -> Result<Result<BrowserSession, Response>> {
    match current_session(app, request).await? {
        Some(browser) if !browser.has_second_factor => Ok(Ok(browser)),
        _ => admitted(app, request, url).await,
    }
}

/// The browser of a user who may change factors, or where they go first.
pub(super) async fn admitted(
    app: &App,
    request: &Request,
    url: &str,
) -> Result<Result<BrowserSession, Response>> {
    let return_to = ReturnTo::parse(Some(url));
    let return_to = return_to.as_ref();
    let Some(browser) = current_session(app, request).await? else {
        return Ok(Err(see_other(&super::login::login_url(return_to))?));
    };
    match second_factors::lack(app, Login::of(&browser), browser.has_second_factor) {
        None => Ok(Ok(browser)),
        Some(Lack::Freshness) => Ok(Err(log_in_again(return_to)?)),
        Some(Lack::SecondFactor) => {
            let url = return_to.map(|to| to.page_url(second_factor::PATH));
            Ok(Err(see_other(&url.unwrap_or_default())?))
        }
    }
}

async fn overview(app: &App, browser: &BrowserSession) -> Result<FactorOverview> {
    let overview = second_factors::overview(app, &browser.user.id).await;
    Ok(overview.map_err(ApiError::from)?)
}

/// Lists the factors.
#[handler]
pub async fn show(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let Some(browser) = current_session(app, request).await? else {
        let return_to = ReturnTo::parse(Some(PATH));
        return see_other(&super::login::login_url(return_to.as_ref()));
    };
    let overview = overview(app, &browser).await?;
    let date = |time: crate::clock::Timestamp| {
        let text = time.rfc3339();
        text.get(..10).unwrap_or_default().to_owned()
    };
    let lines = overview.factors.iter().map(|factor| FactorLine {
        id: &factor.id,
        name: &factor.name,
        added: date(factor.created_at),
        used: factor.last_used_at.map(date),
        is_passkey: factor.kind == FactorKind::Passkey,
    });
    let t = locale(request, None);
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, &account::purpose(&browser))?;
    let devices = remembered_devices::of_user(app, &browser.user.id).await;
    let devices = devices.map_err(ApiError::from)?.into_iter().map(|one| DeviceLine {
        device: Device::of(one.user_agent.as_deref()),
        until: date(one.expires_at),
        id: one.id,
    });
    let linked = identity::of_user(app, &browser.user.id).await.map_err(ApiError::from)?;
    let identities = linked.iter().map(|one| {
        let provider = app.upstream.of_issuer(&one.issuer);
        let provider = provider.map(|one| one.config.name(t.tag(), &one.name).to_owned());
        let provider = provider.unwrap_or_else(|| one.issuer.clone());
        IdentityLine { id: one.id.clone(), provider, added: date(one.created_at) }
    });
    let page = Security {
        account: display_name(&browser.user),
        factors: lines.collect(),
        recovery_codes: overview.recovery_codes,
        is_required: overview.is_required,
        has_passkeys: passkeys::are_available(app),
        form: Form { csrf: &csrf, return_to: None },
        problem: query.get("upstream").and_then(Problem::of_upstream),
        identities: identities.collect(),
        providers: upstream::links_to_add(app, t, &linked),
        devices: devices.collect(),
    };
    let page = page.render(t, StatusCode::OK, FormAction::ThisServer);
    Ok(csrf_cookie.set_on(app, rendered(page)?))
}

/// Forgets a remembered device. It needs no recent login: it makes logins harder.
#[handler]
pub async fn forget(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let (browser, form) = match account::submitted(app, request, body, PATH).await? {
        Ok(submitted) => submitted,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let id = form.get("id").unwrap_or_default();
    match remembered_devices::forget(app, &browser.user.id, id, caller).await {
        // It was forgotten meanwhile.
        Ok(()) | Err(Error::NotFound(_)) => see_other(PATH),
        Err(other) => Err(ApiError::from(other).again(PATH).into()),
    }
}

/// Shows the QR code of a new authenticator app.
#[handler]
pub async fn set_up(request: &Request) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    match admitted(app, request, TOTP).await? {
        Ok(browser) => set_up_page(app, request, &browser, &Params::default(), None),
        Err(elsewhere) => Ok(elsewhere),
    }
}

fn set_up_page(
    app: &App,
    request: &Request,
    browser: &BrowserSession,
    form_values: &Params,
    problem: Option<Problem>,
) -> Result<Response> {
    let begun = second_factor::begun(app, &browser.user, form_values)?;
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, PURPOSE)?;
    let form = Form { csrf: &csrf, return_to: None };
    let page = second_factor::set_up_view(form, TOTP, &begun, form_values, problem, false);
    let page = page.render(locale(request, None), form_status(problem), FormAction::ThisServer);
    Ok(csrf_cookie.set_on(app, retry_after(rendered(page)?, problem)))
}

/// Adds the authenticator app that shows the right code.
#[handler]
pub async fn confirm(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form_values = params::from_body(request, &mut RequestBody::new(body)).await?;
    let browser = match admitted(app, request, TOTP).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let retry = |problem| set_up_page(app, request, &browser, &form_values, Some(problem));
    if let Some(problem) = check_form(app, request, &form_values, PURPOSE)? {
        return retry(problem);
    }
    let value = |name: &str| form_values.get(name).unwrap_or_default();
    if value("code").trim().is_empty() {
        return retry(Problem::Empty);
    }
    let (token, code, name) = (value("setup_token"), value("code"), value("name"));
    let given = Confirmation::Totp { token, code, name };
    match second_factors::confirm_in_browser(app, &browser, given, caller).await {
        Ok((added, cookie)) => match added.recovery_codes {
            Some(codes) => codes_page(app, locale(request, None), &codes, PATH, Some(&cookie)),
            None => super::login::logged_in(app, &cookie, ReturnTo::parse(Some(PATH)).as_ref()),
        },
        Err(Error::NeedsLogin { .. } | Error::LoginExpired) => {
            log_in_again(ReturnTo::parse(Some(TOTP)).as_ref())
        }
        Err(other) => retry(factor_problem(other)?),
    }
}

/// Asks the browser for a new passkey.
#[handler]
pub async fn set_up_passkey(request: &Request) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    match admitted(app, request, PASSKEY).await? {
        Ok(browser) => passkey_page(app, request, &browser, "", None).await,
        Err(elsewhere) => Ok(elsewhere),
    }
}

async fn passkey_page(
    app: &App,
    request: &Request,
    browser: &BrowserSession,
    name: &str,
    problem: Option<Problem>,
) -> Result<Response> {
    if !passkeys::are_available(app) {
        return see_other(PATH);
    }
    let challenge = passkeys::begin_registration(app, &browser.user).await;
    let challenge = challenge.map_err(ApiError::from)?;
    let options = challenge.options.to_string();
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, PURPOSE)?;
    let page = AddPasskey {
        form: Form { csrf: &csrf, return_to: None },
        passkey: PasskeyForm { options: &options, token: &challenge.token },
        problem,
        name,
    };
    let page = page.render(locale(request, None), form_status(problem), FormAction::ThisServer);
    Ok(csrf_cookie.set_on(app, retry_after(rendered(page)?, problem)))
}

/// Adds the passkey.
#[handler]
pub async fn confirm_passkey(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form_values = params::from_body(request, &mut RequestBody::new(body)).await?;
    let browser = match admitted(app, request, PASSKEY).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let value = |name: &str| form_values.get(name).unwrap_or_default();
    let name = value("name");
    let retry = |problem| passkey_page(app, request, &browser, name, Some(problem));
    if let Some(problem) = check_form(app, request, &form_values, PURPOSE)? {
        return retry(problem).await;
    }
    let (token, credential) = (value("passkey_token"), value("credential"));
    let given = Confirmation::Passkey { token, credential, name };
    match second_factors::confirm_in_browser(app, &browser, given, caller).await {
        Ok((added, cookie)) => match added.recovery_codes {
            Some(codes) => codes_page(app, locale(request, None), &codes, PATH, Some(&cookie)),
            None => super::login::logged_in(app, &cookie, ReturnTo::parse(Some(PATH)).as_ref()),
        },
        Err(Error::NeedsLogin { .. } | Error::LoginExpired) => {
            log_in_again(ReturnTo::parse(Some(PASSKEY)).as_ref())
        }
        Err(other) => retry(factor_problem(other)?).await,
    }
}

fn question_page(
    app: &App,
    request: &Request,
    question: FactorQuestion<'_>,
    problem: Option<Problem>,
) -> Result<Response> {
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, PURPOSE)?;
    let form = Form { csrf: &csrf, return_to: None };
    let page = ConfirmChange { form, question, problem };
    let page = page.render(locale(request, None), form_status(problem), FormAction::ThisServer);
    Ok(csrf_cookie.set_on(app, retry_after(rendered(page)?, problem)))
}

/// Asks whether to remove a factor.
#[handler]
pub async fn ask_removal(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    removal_page(app, request, query.get("id").unwrap_or_default(), None).await
}

async fn removal_page(
    app: &Arc<App>,
    request: &Request,
    id: &str,
    problem: Option<Problem>,
) -> Result<Response> {
    if !is_id(id) {
        return see_other(PATH);
    }
    let browser = match admitted(app, request, &removal_url(id)).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let overview = overview(app, &browser).await?;
    let Some(factor) = overview.factors.iter().find(|factor| factor.id == id) else {
        return see_other(PATH);
    };
    let is_last = overview.factors.len() == 1;
    let question = FactorQuestion::Remove { id, name: &factor.name, is_last };
    question_page(app, request, question, problem)
}

/// Removes a factor.
#[handler]
pub async fn remove(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form_values = params::from_body(request, &mut RequestBody::new(body)).await?;
    let id = form_values.get("id").unwrap_or_default();
    if !is_id(id) {
        return Err(ApiError::new(ErrorCode::BadRequest, "`id` must be the id of a factor").into());
    }
    let browser = match admitted(app, request, &removal_url(id)).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let retry = |problem| removal_page(app, request, id, Some(problem));
    if let Some(problem) = check_form(app, request, &form_values, PURPOSE)? {
        return retry(problem).await;
    }
    let (user_id, login) = (&browser.user.id, Login::of(&browser));
    match second_factors::remove(app, user_id, id, login, caller).await {
        Ok(()) | Err(Error::NotFound(_)) => see_other(PATH),
        Err(Error::NeedsLogin { .. }) => {
            log_in_again(ReturnTo::parse(Some(&removal_url(id))).as_ref())
        }
        Err(Error::Conflict(LAST_WAY_IN)) => retry(Problem::UpstreamLast).await,
        Err(Error::Conflict(_)) => retry(Problem::FactorLast).await,
        Err(other) => retry(problem(other)?).await,
    }
}

/// Asks whether to replace the recovery codes.
#[handler]
pub async fn ask_renewal(request: &Request) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    match admitted(app, request, CODES).await? {
        Ok(_) => question_page(app, request, FactorQuestion::RenewCodes, None),
        Err(elsewhere) => Ok(elsewhere),
    }
}

/// Replaces the recovery codes and shows them once.
#[handler]
pub async fn renew(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form_values = params::from_body(request, &mut RequestBody::new(body)).await?;
    let browser = match admitted(app, request, CODES).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let retry = |problem| question_page(app, request, FactorQuestion::RenewCodes, Some(problem));
    if let Some(problem) = check_form(app, request, &form_values, PURPOSE)? {
        return retry(problem);
    }
    let (user_id, login) = (&browser.user.id, Login::of(&browser));
    match second_factors::renew_codes(app, user_id, login, caller).await {
        Ok(codes) => codes_page(app, locale(request, None), &codes, PATH, None),
        Err(Error::NeedsLogin { .. }) => log_in_again(ReturnTo::parse(Some(CODES)).as_ref()),
        Err(Error::Conflict(_)) => see_other(PATH),
        Err(other) => retry(problem(other)?),
    }
}

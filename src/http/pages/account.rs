//! `/account`: the pages on which users look after their account. This file has the start page,
//! sessions, applications and modules.

use std::sync::Arc;

use poem::{Body, Request, RequestBody, Response, Result, handler, http::StatusCode};

use super::{
    ReturnTo, admin, authorize::display_name, change, csrf::CsrfCookie, current_session, deletion,
    export, factors, locale, profile, rendered, second_factor, see_other, terms,
};
use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    clock::Timestamp,
    error::Error,
    flows::{
        accounts::{
            applications::{self, Application},
            browser_session,
            devices::{self, Here, OwnSession},
            terms as accounts_terms,
        },
        admin::modules,
    },
    http::{
        context::Context,
        oauth::params,
        scopes,
        views::{
            Account, AccountLink, ApplicationLine, Applications, ConsentLine, Form, FormAction,
            Locale, ModuleLine, Modules, SessionLine, Sessions,
        },
    },
    model::{actor::Actor, browser_session::BrowserSession, module::Module},
    oauth::{params::Params, scope::Scope},
};

pub(super) const PATH: &str = "/account";
const SESSIONS: &str = "/account/sessions";
const APPLICATIONS: &str = "/account/applications";
const MODULES: &str = "/account/modules";

/// A page of the account that a login returns to.
pub(super) fn page(text: &str) -> Option<String> {
    let own = [
        PATH,
        SESSIONS,
        APPLICATIONS,
        MODULES,
        change::PASSWORD,
        change::USERNAME,
        profile::PATH,
        deletion::PATH,
        export::PATH,
    ];
    if own.contains(&text) {
        return Some(text.to_owned());
    }
    factors::page(text)
}

/// Every page that the account page links to, in this order, unless [`is_offered`] says no.
const LINKS: &[AccountLink] = &[
    link(SESSIONS, "account-sessions", "account-sessions-text"),
    link(APPLICATIONS, "account-connected", "account-connected-text"),
    link(MODULES, "account-modules", "account-modules-text"),
    link(profile::PATH, "profile-title", "account-profile-text"),
    link(change::PASSWORD, "password-title", "account-password-text"),
    link("/account/security", "account-security", "account-security-text"),
    link("/email/change", "email-change-title", "account-email-text"),
    link("/services", "account-services", "account-services-text"),
    link(export::PATH, "account-export", "account-export-text"),
    link(deletion::PATH, "account-delete", "account-delete-text"),
];

const fn link(path: &'static str, title: &'static str, text: &'static str) -> AccountLink {
    AccountLink { path, title, text }
}

/// Whether this deployment has what the page is for.
async fn is_offered(app: &App, path: &str) -> Result<bool, Error> {
    Ok(match path {
        MODULES => {
            let catalogue = app.directory.catalogue(&app.db).await?;
            catalogue.modules.values().any(|module: &Module| module.is_self_service)
        }
        profile::PATH => app.config.profile.is_used(),
        "/email/change" => app.config.sends_mail(),
        "/services" => app.services.iter().any(|service| service.config.is_connected()),
        _ => true,
    })
}

/// Where a change lacks a login: the page itself leads to the second step.
pub(super) fn log_in_for(
    path: &str,
    second_factor: bool,
    browser: &BrowserSession,
) -> Result<Response> {
    if second_factor && !browser.is_mfa() {
        return see_other(path);
    }
    second_factor::log_in_again(ReturnTo::parse(Some(path)).as_ref())
}

/// The browser of the user, or the login that returns to the page.
pub(super) async fn logged_in(
    app: &App,
    request: &Request,
    path: &str,
) -> Result<Result<BrowserSession, Response>> {
    match current_session(app, request).await? {
        Some(browser) => Ok(Ok(browser)),
        None => {
            let return_to = ReturnTo::parse(Some(path));
            Ok(Err(see_other(&super::login::login_url(return_to.as_ref()))?))
        }
    }
}

/// The CSRF purpose of the forms: they are valid for this browser session only.
pub(super) fn purpose(browser: &BrowserSession) -> String {
    format!("account {}", browser.id)
}

/// A form that was sent from the page at `path`, by the user who is logged in.
pub(super) async fn submitted(
    app: &App,
    request: &Request,
    body: Body,
    path: &str,
) -> Result<Result<(BrowserSession, Params), Response>> {
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let browser = match logged_in(app, request, path).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(Err(elsewhere)),
    };
    CsrfCookie::of(app, request)
        .verify(app, request, &form, &purpose(&browser))
        .map_err(|error| error.again(path.to_owned()))?;
    Ok(Ok((browser, form)))
}

/// As `2026-11-21`.
pub(super) fn date(time: Timestamp) -> String {
    time.rfc3339().chars().take(10).collect()
}

/// As `2026-11-21 09:30`.
pub(super) fn minute(time: Timestamp) -> String {
    time.rfc3339().chars().take(16).collect::<String>().replace('T', " ")
}

/// The start page.
#[handler]
pub async fn show(request: &Request) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let browser = match logged_in(app, request, PATH).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    if accounts_terms::are_due(app, &browser) {
        return see_other(terms::PATH);
    }
    let user = &browser.user;
    let applications = browser_session::applications(app, &user.id).await;
    let applications = applications.map_err(ApiError::from)?;
    let mut links = vec![];
    for link in LINKS {
        if is_offered(app, link.path).await.map_err(ApiError::from)? {
            links.push(*link);
        }
    }
    if admin::is_administrator(&browser) {
        links.push(link(admin::PATH, "admin-link", "admin-link-text"));
    }
    let page = Account {
        name: display_name(user),
        email: &user.email,
        applications: applications
            .iter()
            .filter_map(|client| Some((client.name(), client.metadata.client_uri.as_deref()?)))
            .collect(),
        links,
        is_unverified: app.config.sends_mail() && !user.is_verified,
    };
    rendered(page.render(locale(request, None), StatusCode::OK, FormAction::ThisServer))
}

/// Lists the sessions.
#[handler]
pub async fn list_sessions(request: &Request) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let browser = match logged_in(app, request, SESSIONS).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let here = Here::in_browser(&browser.id);
    let all = devices::list(app, &browser.user.id, &here).await.map_err(ApiError::from)?;
    let line = |session: OwnSession| SessionLine {
        id: session.id,
        application: session.client.map(|client| client.name),
        device: session.device,
        address: session.address,
        opened: minute(session.created_at),
        used: minute(session.last_used_at),
        is_current: session.is_current,
    };
    let lines = all.into_iter().map(line);
    let (browsers, applications) = lines.partition(|line| line.application.is_none());
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, &purpose(&browser))?;
    let page = Sessions {
        form: Form { csrf: &csrf, return_to: None },
        account: display_name(&browser.user),
        browsers,
        applications,
    };
    let page = page.render(locale(request, None), StatusCode::OK, FormAction::ThisServer);
    Ok(csrf_cookie.set_on(app, rendered(page)?))
}

/// Ends one session, or all others.
#[handler]
pub async fn end_sessions(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let (browser, form) = match submitted(app, request, body, SESSIONS).await? {
        Ok(submitted) => submitted,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let user_id = &browser.user.id;
    let ended = match (form.get("id"), form.get("others")) {
        (Some(id), None) => devices::end(app, user_id, id, caller).await,
        (None, Some(_)) => {
            let here = Here::in_browser(&browser.id);
            devices::end_others(app, user_id, &here, caller).await.map(|_| ())
        }
        _ => return Err(missing("`id` must name a session, or `others` must be sent")),
    };
    done(ended, SESSIONS)
}

fn missing(message: &'static str) -> poem::Error {
    ApiError::new(ErrorCode::BadRequest, message).into()
}

/// Shows the page again; what has ended meanwhile is as the user wanted it.
fn done(outcome: Result<(), Error>, path: &str) -> Result<Response> {
    match outcome {
        Ok(()) | Err(Error::NotFound(_)) => see_other(path),
        Err(error) => Err(ApiError::from(error).again(path.to_owned()).into()),
    }
}

/// Lists the applications.
#[handler]
pub async fn list_applications(request: &Request) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let browser = match logged_in(app, request, APPLICATIONS).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let t = locale(request, None);
    let mut lines = vec![];
    for one in applications::list(app, &browser.user.id).await.map_err(ApiError::from)? {
        lines.push(application_line(app, t, &one).await.map_err(ApiError::from)?);
    }
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, &purpose(&browser))?;
    let page = Applications {
        form: Form { csrf: &csrf, return_to: None },
        account: display_name(&browser.user),
        applications: lines,
    };
    let page = page.render(t, StatusCode::OK, FormAction::ThisServer);
    Ok(csrf_cookie.set_on(app, rendered(page)?))
}

async fn application_line(
    app: &Arc<App>,
    t: &Locale,
    one: &Application,
) -> Result<ApplicationLine, Error> {
    let catalogue = app.directory.catalogue(&app.db).await?;
    let mut consents = vec![];
    for consent in &one.consents {
        let (scope, resources) = (&consent.scope, &consent.resources);
        let names = resources.iter().map(|id| {
            catalogue.resources.get(id).map_or(id.as_str(), |resource| resource.name.as_str())
        });
        consents.push(ConsentLine {
            resources: names.collect::<Vec<_>>().join(", "),
            scopes: scopes::lines(app, t, scope, resources, &Scope::default()).await?,
            given: date(consent.given_at),
        });
    }
    let client = one.client.as_deref();
    Ok(ApplicationLine {
        client_id: one.client_id.to_string(),
        name: one.name().to_owned(),
        uri: client.and_then(|client| client.metadata.client_uri.clone()),
        is_unverified: client.is_some_and(|client| client.source.is_self_registered()),
        consents,
        used: one.last_used_at.map(date),
    })
}

/// Withdraws an application.
#[handler]
pub async fn withdraw_application(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let (browser, form) = match submitted(app, request, body, APPLICATIONS).await? {
        Ok(submitted) => submitted,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let Some(client_id) = form.get("client_id") else {
        return Err(missing("`client_id` must name an application"));
    };
    let user_id = &browser.user.id;
    done(applications::withdraw_own(app, user_id, &client_id.into(), caller).await, APPLICATIONS)
}

/// Lists the modules.
#[handler]
pub async fn list_modules(request: &Request) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let browser = match logged_in(app, request, MODULES).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let t = locale(request, None);
    let all = modules::list(app, &browser.user.id).await.map_err(ApiError::from)?;
    let line = |status: modules::Status| ModuleLine {
        name: status.module.name(t.tag()).to_owned(),
        description: status.module.description(t.tag()).to_owned(),
        is_self_service: status.module.is_self_service,
        is_enabled: status.grant.is_some(),
        until: status.grant.and_then(|grant| grant.valid_until).map(date),
        id: status.module.id,
    };
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, &purpose(&browser))?;
    let page = Modules {
        form: Form { csrf: &csrf, return_to: None },
        account: display_name(&browser.user),
        modules: all.into_iter().map(line).collect(),
    };
    let page = page.render(t, StatusCode::OK, FormAction::ThisServer);
    Ok(csrf_cookie.set_on(app, rendered(page)?))
}

/// Turns a self-service module on or off.
#[handler]
pub async fn switch_module(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let (browser, form) = match submitted(app, request, body, MODULES).await? {
        Ok(submitted) => submitted,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let is_on = match form.get("action") {
        Some("enable") => true,
        Some("disable") => false,
        _ => return Err(missing("`action` must be `enable` or `disable`")),
    };
    let user_id = &browser.user.id;
    let (module, actor) = (form.get("module").unwrap_or_default(), Actor::caller(user_id, caller));
    done(modules::switch(app, user_id, module, is_on, &actor).await.map(|_| ()), MODULES)
}

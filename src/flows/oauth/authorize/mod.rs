//! The authorization endpoint (RFC 6749 §4.1, OpenID Connect Core §3.1.2). [`request::read`]
//! validates the request; [`decide`] compares it with the browser session and returns the next
//! step.
//!
//! Nothing is stored while a user logs in or decides about a consent: the request travels with the
//! pages and is validated again each time it returns.

pub mod pushed;
pub mod request;
pub mod resume;
mod signed;

use serde_json::json;
use uuid::Uuid;

pub use self::request::{Callback, Refused, Request};
use self::resume::Resume;
use crate::{
    app::App,
    diagnostics,
    error::Error,
    flows::{
        accounts::{browser_session, terms},
        admin::clients::document,
        oauth::resources::Target,
        tokens::{
            scope::{self, UserAccess},
            subject,
        },
    },
    ids::{ClientId, UserId},
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        authentication::SecondFactorRequest,
        browser_session::{AuthorizationContext, BrowserSession},
        client::{Client, Consent},
        event::{ConsentChange, Event},
        session::SessionDetails,
        user::Role,
    },
    oauth::{code::Code, error::OAuthError, scope::Scope},
    storage::{
        self, AuditedTx, consents, pushed_requests,
        sessions::{self, CodeInsertion, Credential, NewSession, RequiredConsent},
    },
};

/// The next step of a request.
#[derive(Debug)]
pub enum Step {
    /// The user logs in, reauthenticates, or registers (`prompt=create`).
    LogIn { again: bool, register: bool },
    /// The user, who is logged in, proves a second factor, or sets one up.
    SecondFactor,
    /// The user selects an account.
    SelectAccount(BrowserSession),
    /// The client requires a verified email address.
    VerifyEmail,
    /// The user has yet to accept the terms of this deployment.
    AcceptTerms,
    /// The user is asked for consent.
    Consent(ConsentPrompt),
    /// The user is authenticated and has consented.
    Allowed(BrowserSession),
}

/// What a user is asked to consent to.
#[derive(Debug)]
pub struct ConsentPrompt {
    pub browser: BrowserSession,
    /// The scope that the user consented to before.
    pub known: Scope,
}

/// The next step of a valid request in this browser. `resume` is what the pages have settled for
/// it.
///
/// # Errors
/// What `prompt=none` and unmet requirements are answered with, for the client.
pub fn decide(
    app: &App,
    request: &Request,
    standing: AuthorizationContext,
    resume: Option<Resume>,
) -> Result<Step, OAuthError> {
    let prompt = &request.prompt;
    let Some(browser) = standing.browser else {
        if prompt.none {
            return Err(OAuthError::login_required("no user is logged in"));
        }
        return Ok(Step::LogIn { again: false, register: prompt.create });
    };
    // The login is newer than this request.
    let logged_in_for_this =
        resume.is_some_and(|resume| browser.authenticated_at >= resume.first_seen);
    let too_old = is_too_old(app, request.max_age, &browser);
    let wants_login = prompt.login || prompt.create || too_old || request.max_age == Some(0);
    let another = request.hinted_subject.as_ref().is_some_and(|hinted| {
        *hinted != subject(app, request, &browser.user.id).unwrap_or_default()
    });
    if prompt.none && (too_old || another || request.max_age == Some(0)) {
        return Err(OAuthError::login_required("the user must authenticate again"));
    }
    if another && logged_in_for_this {
        // Core §3.1.2.1: another user than the requested one has logged in.
        return Err(OAuthError::login_required(
            "the user who logged in is not the one of `id_token_hint` or of the `sub` claim",
        ));
    }
    if (wants_login && !logged_in_for_this) || another {
        return Ok(Step::LogIn {
            again: !prompt.create && !another,
            register: prompt.create && !logged_in_for_this,
        });
    }
    if browser.lacks_second_factor(request.second_factor) {
        if !prompt.none {
            diagnostics::record("login.second_factor", "needed");
            return Ok(Step::SecondFactor);
        }
        // A preference is no requirement (Core §3.1.2.1).
        let is_required = browser.requires_second_factor
            || request.second_factor == SecondFactorRequest::Required;
        if is_required {
            let message = "the user must authenticate with a second factor";
            return Err(OAuthError::login_required(message));
        }
    }
    let selected = resume.is_some_and(|resume| resume.account_selected) || logged_in_for_this;
    if prompt.select_account && !selected {
        return Ok(Step::SelectAccount(browser));
    }
    if terms::are_due(app, &browser) {
        if prompt.none {
            let why = "the user has to accept the terms of this deployment";
            return Err(OAuthError::interaction_required(why));
        }
        return Ok(Step::AcceptTerms);
    }
    if must_verify_email(app, &request.known.client, &browser)? {
        if prompt.none {
            let why = "the client requires a verified email address";
            return Err(OAuthError::interaction_required(why));
        }
        return Ok(Step::VerifyEmail);
    }
    let known = standing.consent.unwrap_or_default();
    if !needs_consent(request, &known) {
        return Ok(Step::Allowed(browser));
    }
    if prompt.none {
        return Err(OAuthError::consent_required("the user has not consented"));
    }
    Ok(Step::Consent(ConsentPrompt { browser, known }))
}

/// Whether the user's email address is to be verified for this client.
///
/// # Errors
/// `access_denied` where no mail can be sent that verifies it.
pub(crate) fn must_verify_email(
    app: &App,
    client: &Client,
    browser: &BrowserSession,
) -> Result<bool, OAuthError> {
    if !client.metadata.require_verified_email || browser.user.is_verified {
        return Ok(false);
    }
    diagnostics::record("client.require_verified_email", true);
    diagnostics::record("user.is_verified", false);
    if app.mailer.is_none() {
        return Err(OAuthError::access_denied(
            "the client requires a verified email address, and this deployment sends no mails: an \
             administrator can mark it as verified",
        ));
    }
    Ok(true)
}

/// Whether the login is older than `max_age` (seconds).
pub(crate) fn is_too_old(app: &App, max_age: Option<u32>, browser: &BrowserSession) -> bool {
    max_age.is_some_and(|most| {
        app.clock.now() - browser.authenticated_at > std::time::Duration::from_secs(most.into())
    })
}

fn needs_consent(request: &Request, known: &Scope) -> bool {
    if request.prompt.consent {
        return true;
    }
    let client = &request.known.client;
    if client.metadata.consent == Consent::Implicit {
        return false;
    }
    // Any program on the device can impersonate this client: its consent is not remembered (RFC
    // 8252 §8.6).
    if client.source.is_self_registered()
        && client.is_public()
        && request.callback.is_on_this_device()
    {
        return true;
    }
    !request.wishes().is_subset_of(known)
}

/// Counts a grant of this user to this client; those to self-registered clients, of which a user
/// may have many, against the network too.
///
/// # Errors
/// [`Error::TooMany`].
pub(crate) fn admit_grant(
    app: &App,
    client: &Client,
    user_id: &UserId,
    caller: &RequestContext,
) -> Result<(), Error> {
    app.admit(Limit::Writes, &Key::user_at_client(user_id, &client.id))?;
    if client.source.is_self_registered() {
        app.admit(Limit::Writes, &Key::address(caller.address))?;
    }
    Ok(())
}

/// Stores the consent of the user.
///
/// # Errors
/// [`Error::TooMany`], [`Error::Unavailable`].
pub async fn remember_consent(
    app: &App,
    request: &Request,
    question: &ConsentPrompt,
    caller: &RequestContext,
) -> Result<(), Error> {
    let (user_id, client_id) = (&question.browser.user.id, &request.known.client.id);
    admit_grant(app, &request.known.client, user_id, caller)?;
    document::keep(app, &request.known.client, caller.address).await?;
    let mut tx = app.begin(&Actor::caller(user_id, caller)).await?;
    let resource = request.target.key();
    put_consent(&mut tx, (user_id, client_id), &resource, &question.known, &request.wishes())
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Stores the consent of a user to a client: what they had granted before (`known`) and what they
/// grant now.
pub(crate) async fn put_consent(
    tx: &mut AuditedTx,
    (user_id, client_id): (&UserId, &ClientId),
    resource: &str,
    known: &Scope,
    wishes: &Scope,
) -> storage::Result<()> {
    let scope = Scope::of(known.iter().chain(wishes.iter()));
    let now = tx.now();
    consents::put(tx, user_id, client_id, resource, &scope, now).await?;
    tx.event(&Event::consent(ConsentChange::Granted, user_id, client_id)).await?;
    let detail = json!({ "clientId": client_id, "scope": scope.to_string(), "resource": resource });
    tx.audit("consent.grant", Some(user_id), detail).await
}

/// Issues the authorization code: the row of a session that begins when the code is exchanged.
///
/// # Errors
/// [`Error::OAuth`] if a pushed request was used in another browser; [`Error::TooMany`].
pub async fn issue_code(
    app: &App,
    request: &Request,
    browser: BrowserSession,
    caller: &RequestContext,
) -> Result<String, Error> {
    admit_grant(app, &request.known.client, &browser.user.id, caller)?;
    if let Some(pushed) = &request.pushed
        && !pushed_requests::take(&app.db, pushed.id, &browser.id).await?
    {
        return Err(OAuthError::invalid_request_uri("`request_uri` was used before").into());
    }
    document::keep(app, &request.known.client, caller.address).await?;
    let now = app.clock.now();
    let id = app.new_id();
    let session = Uuid::parse_str(&id).map_err(|error| Error::Unavailable(error.into()))?;
    let code = Code::new(session, app.rng.bytes(), request.dpop_key);
    let expires_at = now + app.config.authorization.code_ttl;
    let acr = browser.acr().to_owned();
    let row = NewSession {
        id: id.into(),
        subject: subject(app, request, &browser.user.id)?,
        user_id: Some(browser.user.id),
        client_id: request.known.client.id.clone(),
        browser_session_id: Some(browser.id),
        scope: request.scope.clone(),
        credential: Credential::Code {
            hash: code.hash(),
            redirect_uri: request.callback.redirect_uri.clone(),
            challenge: request.challenge.clone().unwrap_or_default(),
        },
        authenticated_at: Some(browser.authenticated_at),
        idle_expires_at: expires_at,
        expires_at,
        offline: request.scope.contains("offline_access"),
        details: SessionDetails {
            external_user: None,
            nonce: request.nonce.clone(),
            acr: Some(acr),
            amr: browser.amr,
            resource: request.target.names(),
            claims: request.claims.clone(),
            issuer: None,
        },
        address: Some(caller.address.to_string()),
        user_agent: caller.user_agent.clone(),
    };
    let (resource, wishes) = (request.target.key(), request.wishes());
    let consent = request.known.client.metadata.consent;
    let required = RequiredConsent { resource: &resource, scope: &wishes };
    let required = (consent != Consent::Implicit).then_some(required);
    match sessions::insert_code(&app.db, row, required, now).await? {
        CodeInsertion::Done => Ok(code.expose()),
        CodeInsertion::LoggedOut => {
            Err(OAuthError::login_required("the user has been logged out").into())
        }
        CodeInsertion::NotAllowed => {
            Err(OAuthError::consent_required("the user has withdrawn the consent").into())
        }
    }
}

/// The `sub` of this user for this client.
fn subject(app: &App, request: &Request, user_id: &UserId) -> Result<String, Error> {
    subject::subject(app, &request.known.client, user_id)
}

/// Reads a request and the authorization context of its browser; both are of the same version of
/// the client.
///
/// # Errors
/// As [`request::read`].
pub async fn read(
    app: &App,
    params: &crate::oauth::params::Params,
    cookie: Option<&str>,
    address: std::net::IpAddr,
) -> Result<(Request, AuthorizationContext), Refused> {
    let mut freshness = request::Freshness::Remembered;
    loop {
        let version = app.directory.version();
        let request = match request::read(app, params, freshness, address).await {
            Err(refused) if freshness == request::Freshness::Remembered => {
                app.sync().await.map_err(Refused::Page)?;
                if app.directory.version() == version {
                    return Err(refused);
                }
                // It may be valid since the client was changed.
                freshness = request::Freshness::Now;
                continue;
            }
            read => read?,
        };
        let standing = browser_session::authorization_context(
            app,
            cookie,
            &request.known.client.id,
            &request.target.key(),
        )
        .await
        .map_err(Refused::Page)?;
        if request.known.version >= standing.clients_version || freshness == request::Freshness::Now
        {
            let browser = standing.browser.as_ref().map(|browser| &browser.id);
            if let Some(pushed) = &request.pushed {
                pushed.check(browser).map_err(|used| Refused::Page(used.into()))?;
            }
            let request = limit_to_user(app, request, &standing).await?;
            return Ok((request, standing));
        }
        // The client was changed since this process read it: read all of it again.
        freshness = request::Freshness::Now;
    }
}

/// Limits the requested scope to what can be granted to the user: there is no consent to anything
/// else.
async fn limit_to_user(
    app: &App,
    mut request: Request,
    standing: &AuthorizationContext,
) -> Result<Request, Refused> {
    let Some(browser) = &standing.browser else {
        return Ok(request);
    };
    match granted_to_user(app, browser, &request.scope, &request.target).await {
        Ok(scope) => request.scope = scope,
        Err(Error::OAuth(error)) => return Err(Refused::Callback(request.callback, error)),
        Err(other) => return Err(Refused::Page(other)),
    }
    Ok(request)
}

/// The part of a scope that can be granted to the user.
///
/// # Errors
/// `invalid_scope` if nothing is left.
pub(crate) async fn granted_to_user(
    app: &App,
    browser: &BrowserSession,
    scope: &Scope,
    target: &Target,
) -> Result<Scope, Error> {
    let catalogue = app.directory.catalogue(&app.db).await?;
    let user =
        UserAccess { is_admin: browser.user.role == Role::admin(), modules: &browser.modules };
    let (resources, now) = (target.names(), app.clock.now());
    let allowed = scope::allowed(&catalogue, scope, &resources, Some(user), now);
    if allowed.scope.is_empty() {
        let refused = "none of the requested scopes can be granted to this user";
        return Err(OAuthError::invalid_scope(refused).into());
    }
    Ok(allowed.scope)
}

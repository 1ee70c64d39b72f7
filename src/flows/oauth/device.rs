//! The device authorization grant (RFC 8628): the request of a device, and what its user decides in
//! a browser. [`crate::flows::oauth::token`] answers the polls.
//!
//! A request is bound to the browser session in which its user code was entered; no other one can
//! decide about it. An approval opens a session whose code is the device code.

use std::time::Duration;

use serde_json::json;

use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    directory::CachedClient,
    error::Error,
    flows::{
        accounts::{browser_session, terms},
        admin::clients::document,
        oauth::{
            authorize::{self, request},
            client_auth,
            resources::{self, Target},
        },
        tokens::subject,
    },
    ids::{ClientId, SessionId},
    limits::{self, Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        authentication::SecondFactorRequest,
        browser_session::BrowserSession,
        client::{Client, Consent, GrantType},
        device_authorization::{DeviceAuthorization, DeviceState},
        session::SessionDetails,
    },
    oauth::{
        device_codes::{self, UserCode},
        error::OAuthError,
        requests::DeviceAuthorizationRequest,
        scope::Scope,
    },
    storage::{
        self, device_authorizations as rows,
        device_authorizations::NewDeviceAuthorization,
        sessions::{self, CodeInsertion, Credential, NewSession},
    },
    telemetry::DeviceOutcome,
};

/// The path of the page on which users enter their codes: `verification_uri` (RFC 8628 §3.2).
pub const PAGE: &str = "/device";

/// Attempts to find an unused user code; of 20^8 codes a few are in use.
const ATTEMPTS: usize = 5;

/// Waiting time of a network with too many pending requests: until some of them expire.
const TOO_MANY: Duration = Duration::from_secs(60);

/// The response to a device authorization request (RFC 8628 §3.2).
#[derive(Debug)]
pub struct Requested {
    pub device_code: String,
    pub user_code: UserCode,
    pub expires_in: Duration,
    pub interval: Duration,
}

/// Stores the request of a device. The client is authenticated, or public.
///
/// # Errors
/// `unauthorized_client`, `invalid_scope`, `invalid_target`; [`Error::TooMany`] for a client and
/// network with too many pending requests, unless an operator's client has authenticated.
pub async fn request(
    app: &App,
    known: &CachedClient,
    request: &DeviceAuthorizationRequest,
    caller: &RequestContext,
) -> Result<Requested, Error> {
    let client = &*known.client;
    if !client.may(GrantType::DeviceCode) {
        let refused = "the client is not registered for this grant type";
        return Err(OAuthError::unauthorized_client(refused).into());
    }
    let target = resources::target(app, client, &request.resource).await?;
    let scope = request::scope(client, &target, request.scope.as_deref())?;
    client_auth::admit_write(app, client, caller.address)?;
    document::keep(app, client, caller.address).await?;
    let config = &app.config.device;
    let is_trusted = !client.is_public() && !client.source.is_self_registered();
    let most = if is_trusted { i64::MAX } else { i64::from(config.max_pending_per_network) };
    let device_code = device_codes::device_code(app.rng.bytes());
    let (now, resource) = (app.clock.now(), target.key());
    let network = limits::site(caller.address).to_string();
    for _ in 0..ATTEMPTS {
        let Some(user_code) = UserCode::of(&app.rng.bytes::<32>()) else {
            continue;
        };
        let new = NewDeviceAuthorization {
            id: device_codes::device_code_hash(&device_code),
            user_code: user_code.as_str(),
            client_id: &client.id,
            scope: &scope,
            resource: &resource,
            interval: config.interval,
            network: &network,
            address: caller.address.to_string(),
            user_agent: caller.user_agent.as_deref(),
            expires_at: now + config.code_ttl,
        };
        match rows::insert(&app.db, new, most, now).await {
            Ok(true) => {}
            Ok(false) => {
                diagnostics::record("limit", "device.max_pending_per_network");
                return Err(Error::TooMany(TOO_MANY));
            }
            Err(storage::Error::Conflict(_)) => continue,
            Err(other) => return Err(other.into()),
        }
        app.metrics.device_authorization(DeviceOutcome::Requested);
        return Ok(Requested {
            device_code,
            user_code,
            expires_in: config.code_ttl,
            interval: config.interval,
        });
    }
    Err(OAuthError::temporarily_unavailable("no user code is free: try again").into())
}

/// What became of a user code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    Approved,
    Denied,
    Expired,
    /// It was entered in another browser session, which is valid.
    Elsewhere,
}

impl Closed {
    /// What `explain` shows.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "the request was approved before",
            Self::Denied => "the request was denied before",
            Self::Expired => "the request has expired",
            Self::Elsewhere => "the user code was entered in another browser session",
        }
    }
}

/// What entering a user code leads to.
#[derive(Debug)]
pub enum Entered {
    /// The browser may decide.
    Bound,
    /// There is no such code.
    Unknown,
    Closed(Closed),
}

/// Binds the request with this user code to the browser session in which it was entered. Wrong codes
/// are counted against the account, which a browser session has one of, and the network.
///
/// # Errors
/// [`Error::TooMany`], [`Error::Unavailable`].
pub async fn enter(
    app: &App,
    user_code: &UserCode,
    browser: &BrowserSession,
    caller: &RequestContext,
) -> Result<Entered, Error> {
    // Counted before the look-up and refunded, so that simultaneous guesses are limited too.
    let keys = [Key::user(browser.user.id.as_bytes()), Key::address(caller.address)];
    for key in &keys {
        app.admit(Limit::DeviceCode, key)?;
    }
    let now = app.clock.now();
    if rows::claim(&app.db, user_code.as_str(), &browser.id, now).await? {
        for key in &keys {
            app.limits.limiter(Limit::DeviceCode).refund(key);
        }
        return Ok(Entered::Bound);
    }
    let found = rows::by_user_code(&app.db, user_code.as_str()).await?;
    let Some(found) = found else {
        app.metrics.device_authorization(DeviceOutcome::WrongCode);
        diagnostics::denied("wrong_user_code", "there is no pending request with this user code");
        return Ok(Entered::Unknown);
    };
    let closed = closed(&found, now).unwrap_or(Closed::Elsewhere);
    diagnostics::record("device.client", &found.client_id);
    diagnostics::denied("closed_user_code", closed.as_str());
    Ok(Entered::Closed(closed))
}

/// `None`: the request is pending.
fn closed(found: &DeviceAuthorization, now: Timestamp) -> Option<Closed> {
    match found.state {
        DeviceState::Approved => Some(Closed::Approved),
        DeviceState::Denied => Some(Closed::Denied),
        DeviceState::Pending => (found.expires_at <= now).then_some(Closed::Expired),
    }
}

/// The next step of a user code in a browser.
#[derive(Debug)]
pub enum Step {
    /// No user is logged in, or the client demands a newer login (`default_max_age`).
    LogIn {
        again: bool,
    },
    /// The user proves a second factor, or sets one up.
    SecondFactor,
    /// The code was not entered in this browser session.
    Enter,
    /// The user has yet to accept the terms of this deployment.
    AcceptTerms,
    /// The client requires a verified email address.
    VerifyEmail,
    Decide(Box<Question>),
    Closed(Closed),
}

/// What a user decides about.
#[derive(Debug)]
pub struct Question {
    pub request: DeviceAuthorization,
    pub known: CachedClient,
    pub target: Target,
    /// The requested scope, as far as it can be granted to the user.
    pub scope: Scope,
    /// The scope that the user consented to before.
    pub consented: Scope,
    pub browser: BrowserSession,
}

impl Question {
    /// A digest of what the page shows: a decision is valid for that.
    pub fn fingerprint(&self) -> String {
        request::fingerprint(&self.known.client, &self.scope, "", &self.target)
    }
}

/// The next step of a user code in the browser with this cookie.
///
/// # Errors
/// What the authorization endpoint answers with for a client that was disabled meanwhile, resources
/// that it may not request any more, and users who can be granted no requested scope.
pub async fn step(app: &App, user_code: &UserCode, cookie: Option<&str>) -> Result<Step, Error> {
    let found = rows::by_user_code(&app.db, user_code.as_str()).await?;
    let nobody = ClientId::default();
    let (client_id, resource) = match &found {
        Some(found) => (&found.client_id, found.resources.join(" ")),
        None => (&nobody, String::new()),
    };
    let context = browser_session::authorization_context(app, cookie, client_id, &resource).await?;
    let Some(browser) = context.browser else {
        return Ok(Step::LogIn { again: false });
    };
    let bound = found.filter(|found| found.browser_session_id.as_ref() == Some(&browser.id));
    let Some(request) = bound else {
        return Ok(Step::Enter);
    };
    diagnostics::record("device.state", request.state.as_str());
    if let Some(closed) = closed(&request, app.clock.now()) {
        return Ok(Step::Closed(closed));
    }
    let known = app.client(&request.client_id).await?;
    let known = known.filter(|known| known.client.may(GrantType::DeviceCode));
    let known = known.ok_or_else(|| OAuthError::invalid_request("unknown client"))?;
    let client = &*known.client;
    diagnostics::identify_client(&client.id);
    // As in the authorization code flow: a login after the request satisfies any age.
    let is_for_this = browser.authenticated_at >= request.created_at;
    let max_age = client.metadata.default_max_age;
    let too_old = max_age == Some(0) || authorize::is_too_old(app, max_age, &browser);
    if too_old && !is_for_this {
        return Ok(Step::LogIn { again: true });
    }
    let requested = match client.metadata.require_second_factor {
        true => SecondFactorRequest::Required,
        false => SecondFactorRequest::None,
    };
    if browser.lacks_second_factor(requested) {
        return Ok(Step::SecondFactor);
    }
    if terms::are_due(app, &browser) {
        return Ok(Step::AcceptTerms);
    }
    if authorize::must_verify_email(app, client, &browser)? {
        return Ok(Step::VerifyEmail);
    }
    let target = resources::still_open(app, client, &request.resources).await?;
    let requested = request.scope.intersection(&target.may_ask(client));
    let scope = authorize::granted_to_user(app, &browser, &requested, &target).await?;
    let consented = context.consent.unwrap_or_default();
    Ok(Step::Decide(Box::new(Question { request, known, target, scope, consented, browser })))
}

/// Approves the request: stores the consent, and the session that begins when the device polls.
/// `None`: approved.
///
/// # Errors
/// [`Error::TooMany`]; `login_required` where the browser was logged out meanwhile.
pub async fn approve(
    app: &App,
    question: Question,
    caller: &RequestContext,
) -> Result<Option<Closed>, Error> {
    let Question { request, known, target, scope, consented, browser } = question;
    let client = &*known.client;
    authorize::admit_grant(app, client, &browser.user.id, caller)?;
    let (user_id, resource) = (browser.user.id.clone(), target.key());
    let mut tx = app.begin(&Actor::caller(&user_id, caller)).await?;
    let now = tx.now();
    let session_id = SessionId::from(tx.new_id());
    let row = approved_session(app, client, &request, &target, &scope, &browser, &session_id)?;
    // First, as it locks the browser session; see `sessions::insert_code`.
    if sessions::insert_code_within(&mut tx, row, None, now).await? != CodeInsertion::Done {
        tx.rollback().await?;
        return Err(OAuthError::login_required("the user has been logged out").into());
    }
    if client.metadata.consent != Consent::Implicit {
        let parties = (&user_id, &client.id);
        authorize::put_consent(&mut tx, parties, &resource, &consented, &scope).await?;
    }
    let (code, state) = (request.user_code.as_str(), DeviceState::Approved);
    if !rows::decide(&mut tx, code, &browser.id, state, Some(&session_id), now).await? {
        tx.rollback().await?;
        return closed_meanwhile(app, code).await.map(Some);
    }
    let detail = json!({
        "clientId": client.id,
        "scope": scope.to_string(),
        "resource": resource,
        "sessionId": session_id,
        "deviceAddress": request.address.map(|address| address.to_string()),
    });
    tx.audit("device.approve", Some(&user_id), detail).await?;
    tx.commit().await?;
    app.metrics.device_authorization(DeviceOutcome::Approved);
    Ok(None)
}

/// The session of an approval, which is bound to the browser session and begins as one of the
/// authorization code flow does.
fn approved_session(
    app: &App,
    client: &Client,
    request: &DeviceAuthorization,
    target: &Target,
    scope: &Scope,
    browser: &BrowserSession,
    id: &SessionId,
) -> Result<NewSession, Error> {
    let hash = <[u8; 32]>::try_from(request.id.as_slice());
    let hash = hash.map_err(|_| Error::Unavailable("a device code hash of another size".into()))?;
    Ok(NewSession {
        id: id.to_owned(),
        subject: subject::subject(app, client, &browser.user.id)?,
        user_id: Some(browser.user.id.clone()),
        client_id: client.id.clone(),
        browser_session_id: Some(browser.id.clone()),
        scope: scope.clone(),
        credential: Credential::Code {
            hash,
            redirect_uri: String::new(),
            challenge: String::new(),
        },
        authenticated_at: Some(browser.authenticated_at),
        idle_expires_at: request.expires_at,
        expires_at: request.expires_at,
        offline: scope.contains("offline_access"),
        details: SessionDetails {
            amr: browser.amr.clone(),
            acr: Some(browser.acr().to_owned()),
            resource: target.names(),
            ..SessionDetails::default()
        },
        // The session is used on the device, not in this browser.
        address: request.address.map(|address| address.to_string()),
        user_agent: request.user_agent.clone(),
    })
}

/// Denies the request. `None`: denied.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn deny(
    app: &App,
    question: &Question,
    caller: &RequestContext,
) -> Result<Option<Closed>, Error> {
    let Question { request, browser, .. } = question;
    let mut tx = app.begin(&Actor::caller(&browser.user.id, caller)).await?;
    let (code, now) = (request.user_code.as_str(), tx.now());
    if !rows::decide(&mut tx, code, &browser.id, DeviceState::Denied, None, now).await? {
        tx.rollback().await?;
        return closed_meanwhile(app, code).await.map(Some);
    }
    let detail = json!({
        "clientId": request.client_id,
        "deviceAddress": request.address.map(|address| address.to_string()),
    });
    tx.audit("device.deny", Some(&browser.user.id), detail).await?;
    tx.commit().await?;
    app.metrics.device_authorization(DeviceOutcome::Denied);
    Ok(None)
}

/// Why a decision came too late.
async fn closed_meanwhile(app: &App, user_code: &str) -> Result<Closed, Error> {
    let found = rows::by_user_code(&app.db, user_code).await?;
    // A request that is gone had expired.
    let found = found.map(|found| closed(&found, app.clock.now()).unwrap_or(Closed::Elsewhere));
    Ok(found.unwrap_or(Closed::Expired))
}

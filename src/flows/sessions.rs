//! Opening a session and ending it, which several flows share; sessions of the first-party API in particular.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::{
        accounts::browser_session,
        admin::modules::{self, Allowed, Person},
        oauth::resources,
        tokens::refresh::{self, Refreshed, Terms},
    },
    keys,
    model::{
        actor::{Actor, RequestContext},
        browser_session::BrowserSession,
        client::{Client, FIRST_PARTY, Source, UserClaim},
        event::Event,
        key::LONGEST_TOKEN_LIFE,
        module::OpenGrant,
        revocation::{Revocation, RevocationTarget},
        session::{RevocationReason, Session, SessionDetails, SessionOverview},
        user::User,
    },
    oauth::{
        access_token::{AccessClaims, Audience, NewAccessToken},
        jwt::TokenType,
        refresh_token::RefreshToken,
        scope::Scope,
    },
    storage::{
        self, Tx, audit, browser_sessions, outbox, revocations,
        sessions::{self, Credential, NewSession},
    },
};

/// What a client is given when a session was opened or refreshed.
#[derive(Debug)]
pub struct Tokens {
    pub access_token: String,
    pub refresh_token: String,
    /// Seconds (RFC 6749 §5.1).
    pub expires_in: u64,
    /// Seconds until the refresh token, unused, is good no more.
    pub refresh_expires_in: u64,
    pub user: User,
}

/// A session that is ready to be stored, and what its owner is given once it is.
pub struct Opening<T> {
    pub(crate) row: NewRow,
    pub(crate) given: T,
}

/// The kinds of session that a login or a registration opens.
pub(crate) enum NewRow {
    /// Of the first-party API, with its tokens.
    Api(Box<NewSession>),
    /// Of a browser; its cookie replaces an earlier one.
    Browser(browser_session::New),
}

impl NewRow {
    /// Stores it with its event and its line in the audit log.
    pub async fn store(
        self,
        tx: &mut Tx<'_>,
        event_id: String,
        action: &'static str,
        caller: &RequestContext,
        now: Timestamp,
    ) -> storage::Result<()> {
        match self {
            Self::Api(row) => store(tx, *row, event_id, action, caller, now).await,
            Self::Browser(new) => new.store(tx, event_id, action, caller, now).await,
        }
    }
}

/// What the first-party API's tokens may be used for.
fn first_party_scope() -> Scope {
    Scope::parse("openid profile email").unwrap_or_default()
}

/// How long a client's tokens and sessions live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lives {
    pub access: Duration,
    pub refresh_idle: Duration,
    pub refresh_max: Duration,
}

impl Lives {
    /// The client's own where it has some, else the configuration's.
    pub fn of(app: &App, client: &Client) -> Self {
        let (own, tokens) = (&client.metadata, &app.config.tokens);
        Self {
            access: own.access_ttl.unwrap_or(tokens.access_ttl),
            refresh_idle: own.refresh_idle_ttl.unwrap_or(tokens.refresh_idle_ttl),
            refresh_max: own.refresh_max_ttl.unwrap_or(tokens.refresh_max_ttl),
        }
    }
}

/// Prepares a session of the first-party client. The tokens are signed before anything is stored: if
/// that fails, nothing was half done.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn prepare(
    app: &App,
    user: User,
    caller: &RequestContext,
) -> Result<Opening<Tokens>, Error> {
    let (row, given) = first_party(app, user, None, caller).await?;
    let row = NewRow::Api(Box::new(row));
    Ok(Opening { row, given })
}

/// As [`prepare`], and stored at once, in a browser where the person is logged in: the session ends with the browser's. `None`
/// where that has ended meanwhile.
///
/// # Errors
/// [`Error::Unavailable`].
pub(crate) async fn open_in_browser(
    app: &App,
    browser: BrowserSession,
    caller: &RequestContext,
) -> Result<Option<Tokens>, Error> {
    let within = (browser.id.as_str(), browser.authenticated_at);
    let (row, tokens) = first_party(app, browser.user, Some(within), caller).await?;
    let (id, event_id, caller) = (browser.id, app.new_id(), caller.clone());
    let now = app.clock.now();
    let stored = app.db.transaction(move |mut tx| {
        Box::pin(async move {
            if !browser_sessions::lock_valid(&mut tx, &id, now).await? {
                return Ok(false);
            }
            store(&mut tx, row, event_id, "session.open", &caller, now).await?;
            Ok(true)
        })
    });
    Ok(stored.await?.then_some(tokens))
}

/// A new session with its tokens; within a browser's (its id, and when the person logged in there), or of its own.
async fn first_party(
    app: &App,
    user: User,
    within: Option<(&str, Timestamp)>,
    caller: &RequestContext,
) -> Result<(NewSession, Tokens), Error> {
    let now = app.clock.now();
    let authenticated_at = within.map_or(now, |(_, at)| at);
    let id = app.new_id();
    let ring = app.keys.ring();
    let chain_key = ring.chain_key(now).ok_or(keys::Error::Missing("refresh-chain"))?;
    let session = Uuid::parse_str(&id).map_err(|error| Error::Unavailable(error.into()))?;
    let refresh = RefreshToken::first(chain_key, session, app.rng.bytes());
    let scope = first_party_scope();
    // A new account has none.
    let open = storage::modules::open_of_user(&app.db, &user.id).await?;
    let (access_token, expires_in) =
        first_party_token(app, &id, &user, &open, &scope, authenticated_at, now).await?;
    let expires_at = now + app.config.tokens.refresh_max_ttl;
    let idle_expires_at = (now + app.config.tokens.refresh_idle_ttl).min(expires_at);
    let row = NewSession {
        id,
        subject: user.id.clone(),
        user_id: Some(user.id.clone()),
        client_id: FIRST_PARTY.to_owned(),
        browser_session_id: within.map(|(id, _)| id.to_owned()),
        scope,
        credential: Credential::Refresh { chain_key: chain_key.number, first_hash: refresh.hash() },
        authenticated_at,
        idle_expires_at,
        expires_at,
        offline: within.is_none(),
        details: SessionDetails::default(),
        address: Some(caller.address.to_string()),
        user_agent: caller.user_agent.clone(),
    };
    let tokens = Tokens {
        access_token,
        refresh_token: refresh.expose(),
        expires_in,
        refresh_expires_in: (idle_expires_at - now).as_secs(),
        user,
    };
    Ok((row, tokens))
}

/// Exchanges a refresh token of the first-party client.
///
/// # Errors
/// [`Error::InvalidRefreshToken`] for every token that is not good, whatever the reason.
pub async fn refresh(app: &App, presented: &str, caller: &RequestContext) -> Result<Tokens, Error> {
    let terms = Terms::configured(app, FIRST_PARTY);
    let Refreshed { session, successor } = refresh::refresh(app, presented, &terms, caller).await?;
    let user = session.user.ok_or(Error::InvalidRefreshToken)?;
    let (now, begun) = (app.clock.now(), session.authenticated_at);
    let (open, scope) = (&session.modules, &session.scope);
    let (access_token, expires_in) =
        first_party_token(app, &session.id, &user, open, scope, begun, now).await?;
    Ok(Tokens {
        access_token,
        refresh_token: successor.expose(),
        expires_in,
        refresh_expires_in: (session.idle_expires_at - now).as_secs(),
        user,
    })
}

/// An access token of the first-party client with its life in seconds. It carries all that its person may use of this
/// server's own API, and tells the email address and the role.
async fn first_party_token(
    app: &App,
    session: &str,
    user: &User,
    open: &[OpenGrant],
    scope: &Scope,
    authenticated_at: Timestamp,
    now: Timestamp,
) -> Result<(String, u64), Error> {
    let catalogue = app.directory.catalogue(&app.db).await?;
    let person = Person { role: &user.role, modules: open };
    let allowed = modules::with_own(&catalogue, scope, person, now);
    let grant = NewAccessToken {
        issuer: &app.config.server.issuer,
        audience: Audience::One(app.config.audience().to_owned()),
        subject: &user.id,
        client_id: FIRST_PARTY,
        scope: allowed.scope,
        session: Some(session),
        auth_time: Some(authenticated_at),
        email: Some(&user.email),
        role: Some(user.role.as_str()),
        modules: Some(allowed.modules),
        until: allowed.until,
    };
    let claims = AccessClaims::new(grant, app.new_id(), now, app.config.tokens.access_ttl);
    let expires_in = u64::try_from(claims.exp - claims.iat).unwrap_or_default();
    let token =
        app.keys.sign(TokenType::Access, &claims, app.config.tokens.signing_algorithm, now).await?;
    Ok((token, expires_in))
}

/// What an access token of a client's session says. Claims about the person only where they were asked for.
pub(crate) fn grant<'a>(
    app: &'a App,
    client: &'a Client,
    session: &'a Session,
    allowed: &Allowed,
) -> NewAccessToken<'a> {
    let user = session.user.as_ref();
    let tells =
        |claim| client.source == Source::BuiltIn || client.metadata.user_claims.contains(&claim);
    NewAccessToken {
        issuer: &app.config.server.issuer,
        audience: resources::audience(app, &session.details.resource),
        subject: &session.subject,
        client_id: &client.id,
        scope: allowed.scope.clone(),
        session: Some(&session.id),
        auth_time: Some(session.authenticated_at),
        email: user.filter(|_| client.source == Source::BuiltIn).map(|user| user.email.as_str()),
        role: user.filter(|_| tells(UserClaim::Role)).map(|user| user.role.as_str()),
        modules: user.filter(|_| tells(UserClaim::Modules)).map(|_| allowed.modules.clone()),
        until: allowed.until,
    }
}

/// What a token of a session may carry of a scope, at the session's resources or some of them.
///
/// # Errors
/// [`Error::Unavailable`].
pub(crate) async fn allowed(
    app: &App,
    session: &Session,
    scope: &Scope,
    now: Timestamp,
) -> Result<Allowed, Error> {
    let catalogue = app.directory.catalogue(&app.db).await?;
    let person =
        session.user.as_ref().map(|user| Person { role: &user.role, modules: &session.modules });
    let resources = &session.details.resource;
    Ok(modules::allowed(&catalogue, scope, resources, person, now))
}

async fn store(
    tx: &mut Tx<'_>,
    row: NewSession,
    event_id: String,
    action: &'static str,
    caller: &RequestContext,
    now: Timestamp,
) -> storage::Result<()> {
    let event = Event::session_created(&row.subject, &row.id, &row.client_id);
    let (subject, session) = (row.subject.clone(), row.id.clone());
    sessions::insert(tx, row, now).await?;
    outbox::add(tx, event_id, &event, Some(&caller.correlation_id), now).await?;
    note(tx, caller, action, &subject, json!({ "sessionId": session }), now).await
}

/// Ends a session: no refresh token of it is good any more, and its access tokens are on the revocation
/// list. `false` where it had ended before.
pub(crate) async fn end(
    tx: &mut Tx<'_>,
    subject: &str,
    session: &str,
    reason: RevocationReason,
    event_id: String,
    caller: &RequestContext,
    now: Timestamp,
) -> storage::Result<bool> {
    let by = Actor::caller(subject, caller);
    end_by(tx, (subject, session), reason, event_id, &by, now).await
}

async fn end_by(
    tx: &mut Tx<'_>,
    (subject, session): (&str, &str),
    reason: RevocationReason,
    event_id: String,
    by: &Actor,
    now: Timestamp,
) -> storage::Result<bool> {
    if !sessions::revoke(tx, session, reason, now).await? {
        return Ok(false);
    }
    let event = Event::session_revoked(subject, session, reason);
    outbox::add(tx, event_id, &event, by.correlation_id(), now).await?;
    let detail = json!({ "sessionId": session, "reason": reason.as_str() });
    by.note(tx, "session.end", Some(subject), detail, now).await?;
    let entry = Revocation {
        target: RevocationTarget::Session(session.to_owned()),
        expires_at: now + LONGEST_TOKEN_LIFE,
    };
    revocations::add(tx, &entry, reason.as_str(), now).await?;
    Ok(true)
}

/// Ends somebody else's session, and tells its client where that one wants to hear of logouts. One that has ended is left
/// as it is.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn close(app: &App, id: &str, by: &Actor) -> Result<(), Error> {
    let found = sessions::overview_of(&app.db, id).await?;
    let found = found.ok_or(Error::NotFound("session"))?;
    let (event_id, by, now) = (app.new_id(), by.clone(), app.clock.now());
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move { close_in(&mut tx, &found, event_id, &by, now).await })
        })
        .await?;
    app.logouts_waiting.notify_one();
    Ok(())
}

/// As [`close`], within a transaction; `false` where it had ended before.
pub(crate) async fn close_in(
    tx: &mut Tx<'_>,
    session: &SessionOverview,
    event_id: String,
    by: &Actor,
    now: Timestamp,
) -> storage::Result<bool> {
    // Before the entry in the revocation list, which others wait for.
    sessions::queue_logout_delivery(tx, &session.id, now).await?;
    let which = (session.subject.as_str(), session.id.as_str());
    end_by(tx, which, RevocationReason::RevokedByAdmin, event_id, by, now).await
}

/// As [`end`], in a transaction of its own.
pub(crate) async fn end_one(
    app: &App,
    session: &Session,
    reason: RevocationReason,
    caller: &RequestContext,
    now: Timestamp,
) -> Result<bool, Error> {
    let (subject, id) = (session.subject.clone(), session.id.clone());
    let (event_id, caller) = (app.new_id(), caller.clone());
    let ended = app
        .db
        .transaction(move |mut tx| {
            Box::pin(
                async move { end(&mut tx, &subject, &id, reason, event_id, &caller, now).await },
            )
        })
        .await?;
    Ok(ended)
}

/// A line in the audit log about a subject's own doing.
pub(crate) async fn note(
    tx: &mut Tx<'_>,
    caller: &RequestContext,
    action: &'static str,
    subject: &str,
    detail: serde_json::Value,
    now: Timestamp,
) -> storage::Result<()> {
    let entry = audit::NewAuditEntry {
        action,
        actor: subject,
        subject: Some(subject),
        address: Some(caller.address.to_string()),
        request_id: Some(&caller.request_id),
        correlation_id: Some(&caller.correlation_id),
        detail,
    };
    audit::add(tx, entry, now).await
}

//! Opening sessions: of the first-party API, with its tokens, or of a browser, with its cookie.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::{
        accounts::browser_session::{self, cookie_hash},
        sessions::end,
        tokens::{
            first_party::{self, Tokens},
            issue::{self, TokenLifetimes},
        },
    },
    ids::{BrowserSessionId, SessionId},
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        browser_session::BrowserSession,
        client::{Source, first_party},
        event::Event,
        module::OpenGrant,
        session::SessionDetails,
        user::User,
    },
    storage::{
        self, AuditedTx,
        browser_sessions::{self, NewBrowserSession},
        sessions::{self, Credential, NewSession},
    },
};

/// The cookie of a browser that has just been logged in.
#[derive(Debug)]
pub struct Cookie {
    pub value: String,
    /// Seconds.
    pub max_age: u64,
    /// The device cookie, where the browser has none yet.
    pub device: Option<String>,
    /// The cookie of a browser that is remembered from now on.
    pub remembered: Option<String>,
}

/// A session that a login or a registration opens, ready to be stored.
pub(crate) enum PreparedSession {
    /// Of the first-party API.
    Api(Box<NewSession>),
    /// Of a browser.
    Browser {
        row: Box<NewBrowserSession>,
        /// The hash of the cookie that the browser came with: invalid from now on (session
        /// fixation).
        replaces: Option<[u8; 32]>,
    },
}

impl PreparedSession {
    /// Prepares a session of the first-party API. `amr`: how the user has authenticated. Its tokens
    /// are signed before anything is stored: if signing fails, nothing is half done.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn api(
        app: &App,
        user: User,
        amr: &[&str],
        context: &RequestContext,
    ) -> Result<(Self, Tokens), Error> {
        let open = storage::modules::open_of_user(&app.db, &user.id).await?;
        Self::api_with(app, user, &open, amr, context).await
    }

    /// As [`PreparedSession::api`], of a user with these modules.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn api_with(
        app: &App,
        user: User,
        open: &[OpenGrant],
        amr: &[&str],
        context: &RequestContext,
    ) -> Result<(Self, Tokens), Error> {
        let amr = owned(amr);
        let (row, tokens) = first_party_session(app, user, open, None, amr, context).await?;
        Ok((Self::Api(Box::new(row)), tokens))
    }

    /// Prepares a browser's session, which replaces the one of the cookie `previous`.
    pub fn browser(
        app: &App,
        user: User,
        amr: &[&str],
        previous: Option<&str>,
        context: &RequestContext,
    ) -> (Self, Cookie) {
        let value = new_cookie(app);
        let ttl = app.config.authorization.browser_session_ttl;
        let now = app.clock.now();
        let max_expires_at = now + ttl;
        let row = NewBrowserSession {
            id: app.new_id().into(),
            token_hash: cookie_hash(&value),
            user_id: user.id,
            authenticated_at: None,
            amr: amr.join(" "),
            expires_at: browser_session::used_until(app, max_expires_at, now),
            max_expires_at,
            address: Some(context.address.to_string()),
            user_agent: context.user_agent.clone(),
        };
        let session = Self::Browser { row: Box::new(row), replaces: previous.map(cookie_hash) };
        let device = context.device.is_none().then(|| new_cookie(app));
        (session, Cookie { value, max_age: ttl.as_secs(), device, remembered: None })
    }

    /// A browser's session whose user authenticated elsewhere, and when.
    pub fn authenticated_at(mut self, at: Timestamp) -> Self {
        if let Self::Browser { row, .. } = &mut self {
            row.authenticated_at = Some(at);
        }
        self
    }

    /// Stores the session with its event and its entry in the audit log.
    pub async fn store(self, tx: &mut AuditedTx, action: &'static str) -> storage::Result<()> {
        match self {
            Self::Api(row) => store_api(tx, *row, action).await,
            Self::Browser { row, replaces } => store_browser(tx, *row, replaces, action).await,
        }
    }
}

/// The value of a new cookie of a session or a device.
pub(crate) fn new_cookie(app: &App) -> String {
    URL_SAFE_NO_PAD.encode(app.rng.bytes::<32>())
}

fn owned(amr: &[&str]) -> Vec<String> {
    amr.iter().map(|method| (*method).to_owned()).collect()
}

/// Opens a session of the first-party API within a browser session and bound to it; `None` where
/// the browser session was revoked meanwhile.
///
/// # Errors
/// [`Error::TooMany`], [`Error::Unavailable`].
pub(crate) async fn open_in_browser(
    app: &App,
    browser: BrowserSession,
    context: &RequestContext,
) -> Result<Option<Tokens>, Error> {
    app.admit(Limit::Writes, &Key::user(browser.user.id.as_bytes()))?;
    let within = (&browser.id, browser.authenticated_at);
    let amr = browser.amr;
    let open = storage::modules::open_of_user(&app.db, &browser.user.id).await?;
    let (row, tokens) =
        first_party_session(app, browser.user, &open, Some(within), amr, context).await?;
    let mut tx = app.begin(&Actor::caller(&row.subject, context)).await?;
    let now = tx.now();
    if !browser_sessions::lock_valid(&mut tx, &browser.id, now).await? {
        return Ok(None);
    }
    store_api(&mut tx, row, "session.open").await?;
    tx.commit().await?;
    app.metrics.token_issued("login", Source::BuiltIn);
    Ok(Some(tokens))
}

/// A new session with its tokens; bound to a browser session (its id, and when the user logged in
/// there), or independent.
async fn first_party_session(
    app: &App,
    user: User,
    open: &[OpenGrant],
    within: Option<(&BrowserSessionId, Timestamp)>,
    amr: Vec<String>,
    context: &RequestContext,
) -> Result<(NewSession, Tokens), Error> {
    let now = app.clock.now();
    let authenticated_at = Some(within.map_or(now, |(_, at)| at));
    let id = SessionId::from(app.new_id());
    let refresh = issue::first_refresh_token(app, &id, None, now)?;
    let scope = first_party::scope();
    let login = first_party::Login { at: authenticated_at, amr: &amr };
    let acr = login.acr().map(str::to_owned);
    let (access_token, expires_in) =
        first_party::access_token(app, &id, &user, open, &scope, login, now).await?;
    let (idle_expires_at, expires_at) = TokenLifetimes::configured(app).of_session(now);
    let row = NewSession {
        id,
        subject: user.id.as_str().to_owned(),
        user_id: Some(user.id.clone()),
        client_id: first_party().clone(),
        browser_session_id: within.map(|(id, _)| id.to_owned()),
        scope,
        credential: Credential::Refresh {
            chain_key: refresh.chain_key,
            first_hash: refresh.hash(),
        },
        authenticated_at,
        idle_expires_at,
        expires_at,
        offline: within.is_none(),
        details: SessionDetails { amr, acr, ..SessionDetails::default() },
        address: Some(context.address.to_string()),
        user_agent: context.user_agent.clone(),
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

async fn store_api(
    tx: &mut AuditedTx,
    row: NewSession,
    action: &'static str,
) -> storage::Result<()> {
    let event = Event::session_created(&row.subject, &row.id, &row.client_id);
    let (subject, detail) = (row.subject.clone(), json!({ "sessionId": row.id }));
    let now = tx.now();
    sessions::insert(tx, row, now).await?;
    tx.event(&event).await?;
    tx.audit(action, Some(&subject), detail).await
}

async fn store_browser(
    tx: &mut AuditedTx,
    row: NewBrowserSession,
    replaces: Option<[u8; 32]>,
    action: &'static str,
) -> storage::Result<()> {
    let now = tx.now();
    let subject = row.user_id.clone();
    let mut id = row.id.clone();
    // The same user again: the session goes on under a new cookie, and so do the sessions that are
    // bound to it.
    let renewed = match replaces {
        Some(old) => browser_sessions::renew(tx, old, &row, now).await?,
        None => None,
    };
    match renewed {
        Some(known) => id = known,
        None => {
            // Another user at this browser: the first one is logged out.
            if let Some(old) = replaces
                && let Some((other, _)) = browser_sessions::revoke_by_hash(tx, old, now).await?
            {
                end::end_of_browser(tx, &other).await?;
            }
            browser_sessions::insert(tx, row, now).await?;
        }
    }
    tx.event(&Event::browser_logged_in(&subject, &id)).await?;
    tx.audit(action, Some(&subject), json!({ "browserSessionId": id })).await
}

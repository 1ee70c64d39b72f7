//! Browsers that are logged in: one opaque cookie, new at every login.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::sessions::{NewRow, Opening, note},
    model::{
        actor::RequestContext,
        browser_session::{AuthorizationContext, BrowserSession},
        event::Event,
        key::LONGEST_TOKEN_LIFE,
        session::RevocationReason,
        user::User,
    },
    storage::{
        self, Tx, browser_sessions as rows, browser_sessions::NewBrowserSession, outbox, sessions,
    },
};

/// How a person logs in by password (RFC 8176).
const PASSWORD: &str = "pwd";

/// The cookie of a browser that has just been logged in.
#[derive(Debug)]
pub struct Cookie {
    pub value: String,
    /// Seconds.
    pub max_age: u64,
}

/// A browser session to be stored.
pub(crate) struct New {
    row: NewBrowserSession,
    /// Of the cookie the browser came with: dead from now on (session fixation).
    replaces: Option<[u8; 32]>,
}

/// Prepares a browser's session; give it to [`super::login::login`] or [`super::register::register`].
///
/// # Errors
/// None today; the signature is that of every kind of session.
#[allow(clippy::unused_async)]
pub async fn prepare(
    app: &App,
    user: User,
    previous: Option<&str>,
    caller: &RequestContext,
) -> Result<Opening<Cookie>, Error> {
    let value = URL_SAFE_NO_PAD.encode(app.rng.bytes::<32>());
    let ttl = app.config.authorization.browser_session_ttl;
    let row = NewBrowserSession {
        id: app.new_id(),
        token_hash: hash(&value),
        user_id: user.id,
        amr: PASSWORD.to_owned(),
        expires_at: app.clock.now() + ttl,
        address: Some(caller.address.to_string()),
        user_agent: caller.user_agent.clone(),
    };
    Ok(Opening {
        row: NewRow::Browser(New { row, replaces: previous.map(hash) }),
        given: Cookie { value, max_age: ttl.as_secs() },
    })
}

impl New {
    pub(crate) async fn store(
        self,
        tx: &mut Tx<'_>,
        event_id: String,
        action: &'static str,
        caller: &RequestContext,
        now: Timestamp,
    ) -> storage::Result<()> {
        let Self { row, replaces } = self;
        let subject = row.user_id.clone();
        let mut id = row.id.clone();
        // The same person again: the session goes on under a new cookie, and with it what hangs on it.
        let renewed = match replaces {
            Some(old) => rows::renew(tx, old, &row, now).await?,
            None => None,
        };
        match renewed {
            Some(known) => id = known,
            None => {
                // Another person at this browser: the first one is logged out.
                if let Some(old) = replaces
                    && let Some((other, _)) = rows::revoke_by_hash(tx, old, now).await?
                {
                    end_apps(tx, &other, now).await?;
                }
                rows::insert(tx, row, now).await?;
            }
        }
        let event = Event::browser_logged_in(&subject, &id);
        outbox::add(tx, event_id, &event, Some(&caller.correlation_id), now).await?;
        note(tx, caller, action, &subject, json!({ "browserSessionId": id }), now).await
    }
}

/// How the browser with this cookie stands to a client, for these resources.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn authorization_context(
    app: &App,
    cookie: Option<&str>,
    client_id: &str,
    resource: &str,
) -> Result<AuthorizationContext, Error> {
    // Without a cookie the statement still gives the clients' head number; no cookie hashes to zeros.
    let token_hash = cookie.map_or([0; 32], hash);
    let now = app.clock.now();
    Ok(rows::authorization_context(&app.db, token_hash, client_id, resource, now).await?)
}

/// Who is logged in at this browser.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn session(app: &App, cookie: Option<&str>) -> Result<Option<BrowserSession>, Error> {
    match cookie {
        Some(_) => Ok(authorization_context(app, cookie, "", "").await?.browser),
        None => Ok(None),
    }
}

/// Logs a browser out: its session ends, and every application's session that hangs on it.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn log_out(
    app: &App,
    browser_session_id: &str,
    subject: &str,
    caller: &RequestContext,
) -> Result<(), Error> {
    let (id, subject) = (browser_session_id.to_owned(), subject.to_owned());
    let (event_id, caller, now) = (app.new_id(), caller.clone(), app.clock.now());
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                if !rows::revoke(&mut tx, &id, now).await? {
                    return Ok(());
                }
                let event = Event::browser_logged_out(&subject, &id);
                outbox::add(&mut tx, event_id, &event, Some(&caller.correlation_id), now).await?;
                let detail = json!({ "browserSessionId": id });
                note(&mut tx, &caller, "user.logout", &subject, detail, now).await?;
                end_apps(&mut tx, &id, now).await
            })
        })
        .await?;
    app.metrics.logouts.inc();
    app.logouts_waiting.notify_one();
    Ok(())
}

async fn end_apps(tx: &mut Tx<'_>, id: &str, now: Timestamp) -> storage::Result<()> {
    let of = sessions::SessionSelector::Browser(id);
    sessions::revoke_all(tx, of, RevocationReason::Logout, now, now + LONGEST_TOKEN_LIFE).await
}

fn hash(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie).into()
}

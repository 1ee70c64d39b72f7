//! Browsers that are logged in: one opaque cookie, new at every login.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    error::Error,
    flows::sessions::end,
    ids::{BrowserSessionId, ClientId, UserId},
    model::{
        actor::{Actor, RequestContext},
        browser_session::{AuthorizationContext, BrowserSession},
        client::Client,
        event::Event,
    },
    storage::{
        browser_sessions as rows,
        sessions::{self, SessionFilter},
    },
};

/// The authorization context of the browser with this cookie at a client, for these resources.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn authorization_context(
    app: &App,
    cookie: Option<&str>,
    client_id: &ClientId,
    resource: &str,
) -> Result<AuthorizationContext, Error> {
    // Without a cookie the statement still returns the clients' version; no cookie hashes to zeros.
    let token_hash = cookie.map_or([0; 32], cookie_hash);
    let now = app.clock.now();
    let found = rows::authorization_context(&app.db, token_hash, client_id, resource, now).await?;
    if let Some(browser) = &found.browser {
        diagnostics::identify_user(&browser.user.id);
        extend(app, browser, now).await?;
    }
    Ok(found)
}

/// How exact the time of the last use is: a session writes no more often.
const EXACT: Duration = Duration::from_secs(300);

/// When a session that is used now ends unless it is used again.
pub(crate) fn used_until(app: &App, max_expires_at: Timestamp, now: Timestamp) -> Timestamp {
    match app.config.authorization.browser_session_idle {
        Duration::ZERO => max_expires_at,
        idle => max_expires_at.min(now + idle),
    }
}

/// Keeps a session from becoming idle.
async fn extend(app: &App, browser: &BrowserSession, now: Timestamp) -> Result<(), Error> {
    let until = used_until(app, browser.max_expires_at, now);
    let is_last = until == browser.max_expires_at && browser.expires_at < until;
    if is_last || browser.expires_at + EXACT <= until {
        rows::extend(&app.db, &browser.id, until, now).await?;
    }
    Ok(())
}

/// Who is logged in at this browser.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn session(app: &App, cookie: Option<&str>) -> Result<Option<BrowserSession>, Error> {
    match cookie {
        Some(_) => Ok(authorization_context(app, cookie, &ClientId::default(), "").await?.browser),
        None => Ok(None),
    }
}

/// The cookie of a valid session among several of its name, else the first: one that another path
/// or program has set must not log the user out.
pub async fn valid_cookie(app: &App, values: Vec<String>) -> Option<String> {
    if values.len() > 1 {
        for value in &values {
            if matches!(session(app, Some(value)).await, Ok(Some(_))) {
                return Some(value.clone());
            }
        }
    }
    values.into_iter().next()
}

/// The applications with a home page that a user is logged in to, by name. Self-registered ones
/// are left out: nobody has verified what they call themselves.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn applications(app: &App, user_id: &UserId) -> Result<Vec<Arc<Client>>, Error> {
    /// Sessions that are looked at, the newest ones.
    const MOST: i64 = 100;
    let live = SessionFilter {
        user_id: Some(user_id.to_owned()),
        live: Some(true),
        ..SessionFilter::default()
    };
    let newest =
        sessions::page(&app.db, &live, crate::model::AFTER_EVERY_ID, MOST, app.clock.now()).await?;
    let ids: BTreeSet<ClientId> = newest.into_iter().map(|session| session.client_id).collect();
    let mut clients = vec![];
    for id in ids {
        let known = app.client(&id).await?.map(|known| known.client);
        clients.extend(known.filter(|client| {
            client.metadata.client_uri.is_some() && !client.source.is_self_registered()
        }));
    }
    clients.sort_by_cached_key(|client| client.name().to_lowercase());
    Ok(clients)
}

/// Logs a browser out: revokes its session, and every client's session that is bound to it.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn log_out(
    app: &App,
    browser_session_id: &BrowserSessionId,
    subject: &str,
    caller: &RequestContext,
) -> Result<(), Error> {
    let mut tx = app.begin(&Actor::caller(subject, caller)).await?;
    let now = tx.now();
    if rows::revoke(&mut tx, browser_session_id, now).await? {
        tx.event(&Event::browser_logged_out(subject, browser_session_id)).await?;
        let detail = json!({ "browserSessionId": browser_session_id });
        tx.audit("user.logout", Some(subject), detail).await?;
        end::end_of_browser(&mut tx, browser_session_id).await?;
    }
    tx.commit().await?;
    app.metrics.logouts.inc();
    app.logouts_waiting.notify_one();
    Ok(())
}

/// How a cookie is stored.
pub(crate) fn cookie_hash(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie).into()
}

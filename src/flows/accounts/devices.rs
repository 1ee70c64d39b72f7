//! The sessions of a user, in browsers and of applications, as the user sees and ends them.

use serde_json::json;

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::{accounts::browser_session, sessions::end},
    ids::{BrowserSessionId, ClientId, SessionId, UserId},
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        browser_session::BrowserOverview,
        client::FIRST_PARTY,
        event::Event,
        key::LONGEST_TOKEN_LIFE,
        session::{RevocationReason, SessionOverview},
        user_agent::Device,
    },
    storage::{browser_sessions, remembered_devices, sessions},
};

/// The largest number of browsers, and of sessions of applications, that are listed: the newest.
pub const MOST: i64 = 200;

/// Where the user who asks is.
#[derive(Clone, Debug, Default)]
pub struct Here {
    /// The session of the access token.
    pub session: Option<SessionId>,
    /// The browser session.
    pub browser: Option<BrowserSessionId>,
}

impl Here {
    /// A browser.
    pub fn in_browser(id: &BrowserSessionId) -> Self {
        Self { session: None, browser: Some(id.clone()) }
    }

    /// The session of an access token, and the browser session that it was opened in.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn of_token(app: &App, sid: Option<&SessionId>) -> Result<Self, Error> {
        let Some(sid) = sid else { return Ok(Self::default()) };
        let row = sessions::overview_of(&app.db, sid).await?;
        let browser = row.and_then(|row| row.browser_session_id);
        Ok(Self { session: Some(sid.to_owned()), browser })
    }

    /// What stays when the user ends everything else: the browser with the sessions in it, else the
    /// session.
    fn kept(&self) -> Option<&str> {
        self.browser.as_deref().or(self.session.as_deref())
    }

    fn is(&self, id: &str) -> bool {
        self.session.as_deref() == Some(id) || self.browser.as_deref() == Some(id)
    }
}

/// An application that has a session.
#[derive(Clone, Debug)]
pub struct SessionClient {
    pub id: ClientId,
    /// The display name; the id where there is none.
    pub name: String,
}

/// A session of a browser or of an application.
#[derive(Clone, Debug)]
pub struct OwnSession {
    pub id: String,
    /// `None`: the login of a browser.
    pub client: Option<SessionClient>,
    /// The browser session that an application's session was opened in.
    pub browser_session_id: Option<BrowserSessionId>,
    pub device: Device,
    pub address: Option<String>,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
    /// Whether the user who asks uses it.
    pub is_current: bool,
}

impl OwnSession {
    fn browser(row: BrowserOverview, here: &Here) -> Self {
        Self {
            is_current: here.is(&row.id),
            id: row.id.into(),
            client: None,
            browser_session_id: None,
            device: Device::of(row.user_agent.as_deref()),
            address: row.address,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            expires_at: row.expires_at,
        }
    }

    async fn application(app: &App, row: SessionOverview, here: &Here) -> Result<Self, Error> {
        let known = app.client(&row.client_id).await?.map(|known| known.client);
        let name =
            known.map_or_else(|| row.client_id.to_string(), |client| client.name().to_owned());
        Ok(Self {
            is_current: here.is(&row.id),
            id: row.id.into(),
            client: Some(SessionClient { id: row.client_id, name }),
            browser_session_id: row.browser_session_id,
            device: Device::of(row.user_agent.as_deref()),
            address: row.address,
            created_at: row.created_at,
            last_used_at: row.rotated_at,
            expires_at: row.expires_at,
        })
    }
}

/// The valid sessions of a user: browsers first, each kind newest first, [`MOST`] of each.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn list(app: &App, user_id: &UserId, here: &Here) -> Result<Vec<OwnSession>, Error> {
    let now = app.clock.now();
    let browsers = browser_sessions::of_user(&app.db, user_id, None, MOST, now).await?;
    let mut all: Vec<OwnSession> =
        browsers.into_iter().map(|row| OwnSession::browser(row, here)).collect();
    let live = sessions::SessionFilter {
        user_id: Some(user_id.to_owned()),
        live: Some(true),
        ..sessions::SessionFilter::default()
    };
    for row in sessions::page(&app.db, &live, crate::model::AFTER_EVERY_ID, MOST, now).await? {
        all.push(OwnSession::application(app, row, here).await?);
    }
    Ok(all)
}

/// One valid session of a user.
///
/// # Errors
/// [`Error::NotFound`], also for a session of another user.
pub async fn get(app: &App, user_id: &UserId, id: &str, here: &Here) -> Result<OwnSession, Error> {
    match find(app, user_id, id).await? {
        Found::Browser(row) => Ok(OwnSession::browser(row, here)),
        Found::Application(row) => OwnSession::application(app, *row, here).await,
    }
}

enum Found {
    Browser(BrowserOverview),
    Application(Box<SessionOverview>),
}

async fn find(app: &App, user_id: &UserId, id: &str) -> Result<Found, Error> {
    // PostgreSQL refuses a statement with NUL in a text.
    if id.contains('\0') {
        return Err(Error::NotFound("session"));
    }
    let now = app.clock.now();
    let mut browsers =
        browser_sessions::of_user(&app.db, user_id, Some(&id.into()), 1, now).await?;
    if let Some(row) = browsers.pop() {
        return Ok(Found::Browser(row));
    }
    let row = sessions::overview_of(&app.db, &id.into()).await?;
    let own = row.filter(|row| row.user_id.as_deref() == Some(user_id) && row.is_live(now));
    own.map(|row| Found::Application(Box::new(row))).ok_or(Error::NotFound("session"))
}

/// Ends a session of the user: the tokens of it, and of the sessions in a browser, are refused at
/// once, and their clients are notified as by a logout.
///
/// # Errors
/// [`Error::NotFound`], also for a session of another user; [`Error::TooMany`].
pub async fn end(
    app: &App,
    user_id: &UserId,
    id: &str,
    context: &RequestContext,
) -> Result<(), Error> {
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    let row = match find(app, user_id, id).await? {
        Found::Browser(row) => {
            return browser_session::log_out(app, &row.id, user_id, context).await;
        }
        Found::Application(row) => row,
    };
    // Behind a gateway the next page would open it again: as a logout, this ends the browser's.
    if let (FIRST_PARTY, Some(browser)) = (row.client_id.as_str(), &row.browser_session_id) {
        return browser_session::log_out(app, browser, user_id, context).await;
    }
    let mut tx = app.begin(&Actor::caller(user_id, context)).await?;
    end::close_in(&mut tx, &row, RevocationReason::Logout).await?;
    tx.commit().await?;
    app.metrics.logouts.inc();
    app.logouts_waiting.notify_one();
    Ok(())
}

/// Ends every session of the user but the one they use, with what was opened in that browser, and
/// forgets in which browsers the user is not asked for the second factor.
/// Returns the number of those that ended.
///
/// # Errors
/// [`Error::TooMany`].
pub async fn end_others(
    app: &App,
    user_id: &UserId,
    here: &Here,
    context: &RequestContext,
) -> Result<usize, Error> {
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    let kept = here.kept().unwrap_or_default();
    let mut tx = app.begin(&Actor::caller(user_id, context)).await?;
    let now = tx.now();
    // Also this browser: the user may have ticked the box on a device of another person.
    let forgotten = remembered_devices::remove_all(&mut tx, user_id).await?;
    let browsers =
        browser_sessions::revoke_others(&mut tx, user_id, here.browser.as_ref(), now).await?;
    // The locks may have waited; the time tells these sessions from those revoked before.
    let last = sessions::last_revocation(&mut tx, user_id).await?;
    let now = tx.read_clock();
    let now = last.map_or(now, |last| now.past(last));
    tx.event(&Event::others_logged_out(user_id, kept)).await?;
    tx.audit("session.end_others", Some(user_id), json!({ "kept": kept })).await?;
    let of = sessions::SessionSelector::Others(user_id, kept);
    let (reason, until) = (RevocationReason::Logout, now + LONGEST_TOKEN_LIFE);
    let ended = sessions::revoke_all(&mut tx, of, reason, now, until).await? + browsers.len();
    if ended + forgotten == 0 {
        tx.rollback().await?;
        return Ok(0);
    }
    tx.commit().await?;
    app.metrics.logouts.inc_by(u64::try_from(ended).unwrap_or(u64::MAX));
    app.logouts_waiting.notify_one();
    Ok(ended)
}

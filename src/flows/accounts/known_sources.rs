//! Devices and networks in which users have logged in before, and the notice of a new one.

use std::time::Duration;

use crate::{
    app::App,
    error::Error,
    flows::{
        mail::{self, NOTICE_TTL, Outgoing},
        sessions::open::Cookie,
    },
    ids::UserId,
    limits,
    model::{
        actor::{Actor, RequestContext},
        device,
        mail::Content,
        user::User,
        user_agent::Device,
    },
    storage::{
        self, AuditedTx,
        known_sources::{self as rows, LastSeen, LoginSource},
        users,
    },
};

/// Where a request comes from.
pub(crate) fn source_of(context: &RequestContext) -> LoginSource {
    LoginSource::new(context.device.as_deref(), limits::network(context.address))
}

/// The source of an actor's request; without one, nobody is known there.
pub(crate) fn source_of_actor(actor: &Actor) -> LoginSource {
    actor.caller.as_ref().map(source_of).unwrap_or_default()
}

/// Where a browser will come from once it has its new cookies.
pub(crate) fn source_with(context: &RequestContext, cookie: &Cookie) -> LoginSource {
    let new = cookie.device.as_deref().map(device::hash);
    LoginSource::new(new.as_deref().or(context.device.as_deref()), limits::network(context.address))
}

/// How often a user is told of logins from new devices, at most.
const NOTICE_EVERY: Duration = Duration::from_secs(24 * 3_600);

/// A login that succeeds.
pub(crate) struct Arrival<'a> {
    pub user: &'a User,
    pub source: &'a LoginSource,
    /// When the user was last seen there, if it was read.
    pub last_seen: Option<LastSeen>,
    /// Of the user's own request; `None`: a back end logs the user in, and knows the browser.
    pub context: Option<&'a RequestContext>,
}

/// Remembers where a user has logged in, and tells them by mail of a device and a network that are
/// both new. Returns whether a mail was queued: notify `app.mails_waiting` after the commit.
pub(crate) async fn remember(
    app: &App,
    tx: &mut AuditedTx,
    login: Arrival<'_>,
) -> Result<bool, Error> {
    let Arrival { user, source, last_seen, context } = login;
    let last_seen = match last_seen {
        Some(known) => known,
        None => rows::last_seen(tx, &user.id, source).await?,
    };
    let is_told = match context {
        Some(context) if !last_seen.is_known() => tell(app, tx, user, context).await?,
        _ => false,
    };
    let now = tx.now();
    rows::remember(tx, &user.id, source, last_seen, now).await?;
    Ok(is_told)
}

/// Remembers where a user has registered.
pub(crate) async fn remember_first(
    tx: &mut AuditedTx,
    user_id: &UserId,
    source: &LoginSource,
) -> storage::Result<()> {
    let now = tx.now();
    rows::remember(tx, user_id, source, LastSeen::default(), now).await
}

async fn tell(
    app: &App,
    tx: &mut AuditedTx,
    user: &User,
    context: &RequestContext,
) -> Result<bool, Error> {
    let now = tx.now();
    let is_on = app.mailer.is_some() && app.config.login.new_device_mail;
    // Where nothing is known of a user, as after an import, everything would be new.
    if !is_on
        || !rows::any(tx, &user.id).await?
        || !users::record_login_notice(tx, &user.id, now - NOTICE_EVERY, now).await?
    {
        return Ok(false);
    }
    let date = now.rfc3339();
    let content = Content::NewDevice {
        time: format!("{} UTC", date.get(..16).unwrap_or(&date).replace('T', " ")),
        browser: Device::of(context.user_agent.as_deref()).to_string(),
        address: context.address.to_string(),
    };
    let notice = Outgoing {
        to: &user.email,
        user_id: Some(&user.id),
        language: None,
        content,
        ttl: NOTICE_TTL,
        is_sent: true,
    };
    mail::queue(app, tx, notice).await?;
    Ok(true)
}

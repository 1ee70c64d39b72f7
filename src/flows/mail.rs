//! Mails to users. A mail is queued in the transaction of what it is about, encrypted, and sent by
//! any process afterwards: with a lease, retries and an end. A process that stops loses none.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use crate::{
    app::App,
    branding::Branding,
    clock::Timestamp,
    config::Config,
    diagnostics,
    error::Error,
    ids::UserId,
    limits,
    mailer::{NotSent, STEPS},
    model::{
        actor::Actor,
        mail::{Content, Mail, MailState, RenderedMail},
        user::{Email, canonical},
    },
    storage::{
        AuditedTx,
        mails::{self, NewMail, QueuedMail},
        users,
    },
    telemetry::MailOutcome,
};

/// How a mail becomes text: the transports have the templates and the languages.
pub type Render = fn(&Config, &'static Branding, &Mail) -> Result<RenderedMail, Error>;

/// How often a process looks for due mails.
const EVERY: Duration = Duration::from_secs(2);

/// How much longer than a delivery the lease of a mail is; after it another process takes it.
const SPARE: Duration = Duration::from_secs(10);

/// Mails that a process sends at the same time.
const WORKERS: i64 = 4;

/// The delays between attempts; the last one repeats.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(1_800),
    Duration::from_secs(3_600),
];

/// The window of the quotas.
const WINDOW: Duration = Duration::from_secs(3_600);

/// How long a notice is worth sending.
pub(crate) const NOTICE_TTL: Duration = Duration::from_secs(48 * 3_600);

/// How long administrators see what became of a mail. Longer than any mail is worth sending.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What the ciphertext of a mail is bound to.
fn sealed_name(id: &str) -> String {
    format!("mail:{id}")
}

/// A mail to queue.
pub(crate) struct Outgoing<'a> {
    pub to: &'a str,
    pub user_id: Option<&'a UserId>,
    /// `None`: the user's, else the configured one.
    pub language: Option<&'a str>,
    pub content: Content,
    /// How long it is worth sending.
    pub ttl: Duration,
    /// Whether it is sent: a request for an unknown account has the same work and leaves the same
    /// rows.
    pub is_sent: bool,
}

/// Who requests a mail, for the quotas.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    pub address: IpAddr,
    /// The language of the request.
    pub language: &'a str,
}

/// Fails where mails are off.
///
/// # Errors
/// [`Error::MailOff`].
pub(crate) fn require(app: &App) -> Result<(), Error> {
    match &app.mailer {
        Some(_) => Ok(()),
        None => Err(Error::MailOff),
    }
}

/// Counts a mail to an address against the quotas of the network that requests it and of the
/// address; `false` where the address has had enough. Call it first in the transaction.
///
/// # Errors
/// [`Error::TooMany`] for the network.
pub(crate) async fn admit(
    app: &App,
    tx: &mut AuditedTx,
    to: &Email,
    requester: Requester<'_>,
) -> Result<bool, Error> {
    if !app.config.limits.enabled {
        return Ok(true);
    }
    let (now, most) = (tx.now(), &app.config.mail);
    let network = limits::network(requester.address).to_string();
    let network = hash(app, "network", &network)?;
    let (count, until) = mails::count(tx, network, WINDOW, now).await?;
    if count > i64::from(most.per_network_per_hour) {
        diagnostics::record("limit", "mail.per_network_per_hour");
        return Err(Error::TooMany(until - now));
    }
    let address = hash(app, "address", &to.canonical)?;
    let (count, _) = mails::count(tx, address, WINDOW, now).await?;
    let is_admitted = count <= i64::from(most.per_address_per_hour);
    diagnostics::record("mail.admitted", is_admitted);
    Ok(is_admitted)
}

/// Queues a mail within the transaction of what it is about. Notify `app.mails_waiting` after the
/// commit.
pub(crate) async fn queue(
    app: &App,
    tx: &mut AuditedTx,
    outgoing: Outgoing<'_>,
) -> Result<(), Error> {
    let Outgoing { to, user_id, language, content, ttl, is_sent } = outgoing;
    if app.mailer.is_none() {
        return Ok(());
    }
    let language = match (language, user_id) {
        (Some(language), _) => language.to_owned(),
        (None, Some(user)) => {
            let known = users::language(tx, user).await?;
            known.unwrap_or_else(|| app.config.mail.language.clone())
        }
        (None, None) => app.config.mail.language.clone(),
    };
    let kind = content.kind();
    let recipient_hash = hash(app, "address", &canonical(to))?;
    let id = tx.new_id();
    let mail = Mail { to: to.to_owned(), language, content };
    let mail = serde_json::to_vec(&mail).map_err(|error| Error::Unavailable(error.into()))?;
    let payload = app.keys.seal(&sealed_name(&id), &mail)?;
    let now = tx.now();
    let new = NewMail {
        id: &id,
        kind,
        user_id,
        recipient_hash,
        payload: is_sent.then_some(payload),
        state: if is_sent { MailState::Queued } else { MailState::Suppressed },
        expires_at: now + ttl,
    };
    mails::insert(tx, new, now).await?;
    Ok(())
}

/// Sends a mail that says that mails arrive, at once.
///
/// # Errors
/// [`Error::Validation`] for the address, [`Error::MailOff`], and [`Error::NotDelivered`] with what
/// the server said.
pub async fn test(app: &App, to: &str, render: Render, actor: &Actor) -> Result<(), Error> {
    let to = Email::parse(to).map_err(|why| Error::field("email", why))?;
    let mailer = app.mailer.as_ref().ok_or(Error::MailOff)?;
    let mail =
        Mail { to: to.address, language: app.config.mail.language.clone(), content: Content::Test };
    let rendered = render(&app.config, app.branding, &mail)?;
    let sent = mailer.send(&app.new_id(), &mail.to, rendered).await;
    let mut tx = app.begin(actor).await?;
    tx.audit("mail.test", None, json!({ "delivered": sent.is_ok() })).await?;
    tx.commit().await?;
    sent.map_err(|error| Error::NotDelivered(error.to_string()))
}

/// HMAC of what is counted: the database does not say who gets mails.
fn hash(app: &App, kind: &str, text: &str) -> Result<[u8; 32], Error> {
    let key = app.keys.derive("mail-recipient")?;
    let mac = Hmac::<Sha256>::new_from_slice(&key);
    let mut mac = mac.map_err(|error| Error::Unavailable(error.to_string().into()))?;
    mac.update(kind.as_bytes());
    mac.update(b"\0");
    mac.update(text.as_bytes());
    Ok(mac.finalize().into_bytes().into())
}

/// Sends mails until it is dropped.
pub async fn run(app: Arc<App>, render: Render) {
    if app.mailer.is_none() {
        return;
    }
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = app.mails_waiting.notified() => {}
        }
        if let Err(error) = deliver_due(&app, render).await {
            tracing::error!(%error, "sending mails failed; will retry");
        }
    }
}

/// Sends everything that is due.
async fn deliver_due(app: &App, render: Render) -> Result<(), Error> {
    let lease = app.config.mail.timeout * STEPS + SPARE;
    loop {
        let taken = mails::take(&app.db, app.clock.now(), lease, WORKERS).await?;
        if taken.is_empty() {
            return Ok(());
        }
        let outcomes = join_all(taken.iter().map(|mail| deliver(app, mail, render))).await;
        for outcome in outcomes {
            outcome?;
        }
    }
}

async fn deliver(app: &App, mail: &QueuedMail, render: Render) -> Result<(), Error> {
    let now = app.clock.now();
    if mail.expires_at <= now {
        return failed(app, mail, "expired before it was accepted").await;
    }
    match send(app, mail, render).await {
        Ok(()) => {
            mails::finish(&app.db, &mail.id, MailState::Sent, None, app.clock.now()).await?;
            app.metrics.mail(MailOutcome::Sent);
        }
        Err(NotSent::Refused(why)) => return failed(app, mail, &why).await,
        Err(NotSent::Unavailable(why)) => {
            app.metrics.mail(MailOutcome::Postponed);
            tracing::warn!(mail_id = mail.id, why, "mail not sent; will retry");
            let next = app.clock.now() + pause(mail.attempts);
            mails::postpone(&app.db, &mail.id, next, &why).await?;
        }
    }
    Ok(())
}

fn pause(attempts: i64) -> Duration {
    let done = usize::try_from(attempts - 1).unwrap_or(0);
    PAUSES[done.min(PAUSES.len() - 1)]
}

async fn failed(app: &App, mail: &QueuedMail, why: &str) -> Result<(), Error> {
    app.metrics.mail(MailOutcome::Failed);
    tracing::warn!(mail_id = mail.id, why, "mail not sent; given up");
    let now = app.clock.now();
    Ok(mails::finish(&app.db, &mail.id, MailState::Failed, Some(why), now).await?)
}

async fn send(app: &App, queued: &QueuedMail, render: Render) -> Result<(), NotSent> {
    let broken = |why: String| NotSent::Refused(why);
    let mailer = app.mailer.as_ref();
    let mailer = mailer.ok_or_else(|| NotSent::Unavailable("mails are off".to_owned()))?;
    let opened = app.keys.unseal(&sealed_name(&queued.id), &queued.payload);
    let opened = opened.map_err(|_| broken("it cannot be decrypted".to_owned()))?;
    // The error of serde could repeat a token.
    let mail: Mail = serde_json::from_slice(&opened)
        .map_err(|_| broken("it was written by another version".to_owned()))?;
    let rendered =
        render(&app.config, app.branding, &mail).map_err(|error| broken(error.to_string()))?;
    mailer.send(&queued.id, &mail.to, rendered).await
}

/// Removes what became of old mails, and quotas whose window is over.
pub(crate) async fn sweep(app: &App, now: Timestamp, batch: i64) -> crate::storage::Result<()> {
    let is_full = |removed: usize| i64::try_from(removed).is_ok_and(|removed| removed == batch);
    while is_full(mails::sweep(&app.db, now - RETENTION, batch).await?) {
        tokio::task::yield_now().await;
    }
    while is_full(mails::sweep_quotas(&app.db, now, batch).await?) {
        tokio::task::yield_now().await;
    }
    app.metrics.mails_queued.set(mails::count_queued(&app.db).await?);
    Ok(())
}

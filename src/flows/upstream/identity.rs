//! Identities at other providers: linking one to an account, registering with one, and removing one.
//!
//! An identity is never linked to an account by its email address alone: its user proves the account
//! by a login. The exception is a provider with `trust_email`, where both sides have verified the
//! address.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::amr;
use crate::{
    app::App,
    clock::Timestamp,
    config::UserRegistration,
    error::Error,
    flows::{
        accounts::{
            invitations,
            register::{self, NewIdentity, UpstreamAccount},
            second_factors::{self, Lack, Login},
        },
        sessions::open::Cookie,
    },
    ids::UserId,
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        browser_session::BrowserSession,
        event::Event,
        invitation::Invitation,
        upstream_identity::UpstreamIdentity,
        user::{UserRecord, canonical},
    },
    password::NO_PASSWORD,
    storage::{self, AuditedTx, Conflict, browser_sessions, upstream_identities as rows},
    telemetry::UpstreamOutcome,
};

/// How long a browser may come back with an identity that is no user's: long enough to register by
/// mail.
pub const PENDING_FOR: Duration = Duration::from_secs(1_800);

const SEAL: &str = "upstream-identity";

/// Why the last way in stays.
pub(crate) const LAST_WAY_IN: &str =
    "it is the only way to log in: set a password first, by the reset mail";

/// An identity that is no user's yet, as a provider has described it. It travels with the browser,
/// sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PendingIdentity {
    /// The name of the provider.
    pub provider: String,
    pub(super) issuer: String,
    pub(super) subject: String,
    pub email: Option<String>,
    pub(super) is_email_verified: bool,
    pub username: Option<String>,
    pub(super) is_mfa: bool,
    /// When the user authenticated there, in microseconds since the epoch.
    pub(super) authenticated_at: i64,
    /// When the provider has answered.
    pub(super) at: i64,
    /// The token of the invitation that the user came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitation: Option<String>,
}

impl PendingIdentity {
    pub(super) fn seal(&self, app: &App) -> Result<String, Error> {
        let content = serde_json::to_vec(self).map_err(|error| Error::Unavailable(error.into()))?;
        Ok(app.keys.seal(SEAL, &content)?)
    }

    /// What a browser came back with, unless it is too old or the provider is not configured any
    /// more.
    pub fn open(app: &App, token: &str) -> Option<Self> {
        let content = second_factors::unseal(app, SEAL, token)?;
        let pending: Self = serde_json::from_slice(&content).ok()?;
        let is_recent = Timestamp(pending.at) + PENDING_FOR >= app.clock.now();
        let provider = app.upstream.get(&pending.provider)?;
        (is_recent && provider.config.issuer == pending.issuer).then_some(pending)
    }

    pub(super) const fn amr(&self) -> &'static [&'static str] {
        amr(self.is_mfa)
    }

    /// The email address, where the provider has verified it and is trusted with that.
    pub(super) fn trusted_email(&self, app: &App) -> Option<&str> {
        let provider = app.upstream.get(&self.provider)?;
        let is_trusted = provider.config.trust_email && self.is_email_verified;
        self.email.as_deref().filter(|_| is_trusted)
    }

    /// How its user may get an account, and with which invitation.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn registration(
        &self,
        app: &App,
    ) -> Result<(Registration, Option<Invitation>), Error> {
        let provider = app.upstream.get(&self.provider).map(|provider| &provider.config);
        let Some(provider) = provider.filter(|provider| provider.registration) else {
            return Ok((Registration::Closed, None));
        };
        let invitation = match &self.invitation {
            Some(token) => match invitations::open(app, token).await {
                Err(Error::InvalidInvitation) => None,
                opened => Some(opened?),
            },
            None => None,
        };
        let is_admitted = match app.config.registration.mode {
            UserRegistration::Open => true,
            UserRegistration::Invitation => {
                invitation.is_some() || provider.registration_without_invitation
            }
            UserRegistration::Closed => false,
        };
        let is_proven = self.trusted_email(app).is_some()
            || invitation.as_ref().is_some_and(Invitation::verifies_email);
        let registration = match (is_admitted, app.config.confirms_registrations()) {
            (false, _) => Registration::Closed,
            (true, true) if !is_proven => Registration::ByMail,
            (true, _) => Registration::Direct,
        };
        Ok((registration, invitation))
    }
}

/// How the user of an identity may get an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// By a form without a password.
    Direct,
    /// As anybody: by a mail to the address, which only its owner reads. The identity is linked
    /// afterwards.
    ByMail,
    Closed,
}

/// What the login of this browser lacks to link or remove an identity.
pub fn lack(app: &App, browser: &BrowserSession) -> Option<Lack> {
    second_factors::lack(app, Login::of(browser), browser.has_second_factor)
}

fn must_suffice(app: &App, login: Login, has_factor: bool) -> Result<(), Error> {
    match second_factors::lack(app, login, has_factor) {
        None => Ok(()),
        Some(_) => Err(Error::NeedsLogin {
            max_age: app.config.second_factors.fresh_login,
            second_factor: has_factor,
        }),
    }
}

/// Links an identity to a user, with its event and audit entry.
///
/// # Errors
/// [`storage::Error::Conflict`] where it is linked already, or the user has another one of its issuer.
pub(crate) async fn link(
    tx: &mut AuditedTx,
    user_id: &UserId,
    issuer: String,
    subject: String,
) -> storage::Result<()> {
    let (id, now) = (tx.new_id(), tx.now());
    let identity = UpstreamIdentity {
        id,
        user_id: user_id.to_owned(),
        issuer,
        subject,
        created_at: now,
        last_login_at: Some(now),
    };
    if !rows::insert(tx, &identity).await? {
        return Err(storage::Error::Conflict(Conflict::Other));
    }
    let UpstreamIdentity { id, issuer, .. } = identity;
    tx.event(&Event::identity(true, user_id, &id, &issuer)).await?;
    let detail = json!({ "identityId": id, "issuer": issuer });
    tx.audit("identity.linked", Some(user_id), detail).await
}

/// Links an identity to the user who is logged in in this browser.
///
/// # Errors
/// [`Error::NeedsLogin`] where the login is too old or without the second factor;
/// [`Error::LoginExpired`] where the session was revoked meanwhile; [`Error::Conflict`] where the
/// identity is linked, or the user has another one of the provider; [`Error::TooMany`].
pub async fn link_in_browser(
    app: &App,
    browser: &BrowserSession,
    pending: &PendingIdentity,
    context: &RequestContext,
) -> Result<(), Error> {
    let user_id = &browser.user.id;
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    let mut tx = app.begin(&Actor::caller(user_id, context)).await?;
    // The user is locked first, as by a reset by mail, which removes what was linked before it and
    // revokes the session.
    match second_factors::locked(app, &mut tx, user_id, Login::of(browser)).await {
        // Disabled meanwhile.
        Err(Error::NotFound(_)) => return Err(Error::LoginExpired),
        locked => locked?,
    };
    let now = tx.now();
    if !browser_sessions::lock_valid(&mut tx, &browser.id, now).await? {
        return Err(Error::LoginExpired);
    }
    let (issuer, subject) = (pending.issuer.clone(), pending.subject.clone());
    match link(&mut tx, user_id, issuer, subject).await {
        Err(storage::Error::Conflict(_)) => {
            return Err(Error::Conflict(
                "the identity is linked already, or the account has another one of this provider",
            ));
        }
        linked => linked?,
    }
    tx.commit().await?;
    app.metrics.upstream_login(&pending.provider, UpstreamOutcome::Linked);
    Ok(())
}

/// Creates an account for the user of an identity and logs them in. `email`: as typed. If it is the
/// one that the provider is trusted with, it is verified, and stored as the provider writes it:
/// another spelling may be another mailbox.
///
/// # Errors
/// [`Error::RegistrationDisabled`]; [`Error::Validation`], [`Error::EmailTaken`],
/// [`Error::UsernameTaken`]; [`Error::InvalidInvitation`] where it was used meanwhile;
/// [`Error::Conflict`] where the identity was.
pub async fn register_browser(
    app: &App,
    pending: &PendingIdentity,
    (email, username, accepted_terms): (&str, Option<&str>, Option<&str>),
    previous: Option<&str>,
    language: &str,
    context: &RequestContext,
) -> Result<Cookie, Error> {
    let (Registration::Direct, invitation) = pending.registration(app).await? else {
        return Err(Error::RegistrationDisabled);
    };
    let trusted = pending.trusted_email(app);
    let verified = trusted.filter(|trusted| canonical(trusted) == canonical(email.trim()));
    let is_verified = verified.is_some();
    let is_proven = is_verified || invitation.as_ref().is_some_and(Invitation::verifies_email);
    if !is_proven && app.config.confirms_registrations() {
        let message = "must be the address that the provider has verified";
        return Err(Error::field("email", message));
    }
    let registration = UpstreamAccount {
        email: verified.unwrap_or(email).to_owned(),
        username: username.map(str::to_owned),
        is_verified,
        identity: NewIdentity {
            issuer: pending.issuer.clone(),
            subject: pending.subject.clone(),
            amr: pending.amr(),
            authenticated_at: Timestamp(pending.authenticated_at),
        },
        invitation,
        accepted_terms: accepted_terms.map(str::to_owned),
    };
    let opened = register::register_upstream(app, registration, previous, language, context).await;
    if opened.is_ok() {
        app.metrics.upstream_login(&pending.provider, UpstreamOutcome::Registered);
    }
    opened
}

/// The identities of a user.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn of_user(app: &App, user_id: &UserId) -> Result<Vec<UpstreamIdentity>, Error> {
    Ok(rows::of_user(&app.db, user_id).await?)
}

/// Whether a user, who is locked, can log in without the identity `id` (empty: with all of them):
/// by password, passkey, or an identity of a configured provider.
pub(crate) async fn keeps_way_in(
    app: &App,
    tx: &mut AuditedTx,
    user_id: &UserId,
    id: &str,
) -> Result<bool, Error> {
    let ways = rows::other_ways(tx, user_id, id).await?.ok_or(Error::NotFound("user"))?;
    let is_configured = |issuer: &String| app.upstream.of_issuer(issuer).is_some();
    Ok(ways.password_hash != NO_PASSWORD
        || ways.has_passkey
        || ways.issuers.iter().any(is_configured))
}

/// Removes an identity of the user who has logged in like this, and who has a second factor or not,
/// as far as the caller knows.
///
/// # Errors
/// [`Error::NeedsLogin`]; [`Error::NotFound`]; [`Error::Conflict`] where the user could not log in
/// any more; [`Error::TooMany`].
pub async fn unlink_own(
    app: &App,
    user_id: &UserId,
    (login, has_factor): (Login, bool),
    id: &str,
    context: &RequestContext,
) -> Result<(), Error> {
    must_suffice(app, login, has_factor)?;
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    if id.contains('\0') {
        return Err(Error::NotFound("identity"));
    }
    let mut tx = app.begin(&Actor::caller(user_id, context)).await?;
    // Of two simultaneous removals the second one sees the first; a factor may have been added, or
    // the user disabled, meanwhile.
    second_factors::locked(app, &mut tx, user_id, login).await?;
    if !keeps_way_in(app, &mut tx, user_id, id).await? {
        return Err(Error::Conflict(LAST_WAY_IN));
    }
    remove(&mut tx, user_id, id).await?;
    Ok(tx.commit().await?)
}

async fn remove(tx: &mut AuditedTx, user_id: &UserId, id: &str) -> Result<(), Error> {
    let issuer = rows::remove(tx, user_id, id).await?.ok_or(Error::NotFound("identity"))?;
    unlinked(tx, user_id, id, &issuer).await?;
    Ok(())
}

async fn unlinked(
    tx: &mut AuditedTx,
    user_id: &UserId,
    id: &str,
    issuer: &str,
) -> storage::Result<()> {
    tx.event(&Event::identity(false, user_id, id, issuer)).await?;
    let detail = json!({ "identityId": id, "issuer": issuer });
    tx.audit("identity.unlinked", Some(user_id), detail).await
}

/// Removes an identity as an operator, also the last way in.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn unlink(app: &App, user_id: &UserId, id: &str, actor: &Actor) -> Result<(), Error> {
    if user_id.contains('\0') || id.contains('\0') {
        return Err(Error::NotFound("identity"));
    }
    let mut tx = app.begin(actor).await?;
    remove(&mut tx, user_id, id).await?;
    Ok(tx.commit().await?)
}

/// Removes the identities of a locked account that were linked at this time or later: another
/// person /// may have linked them.
pub(crate) async fn remove_since(
    tx: &mut AuditedTx,
    account: &UserRecord,
    since: Timestamp,
) -> storage::Result<()> {
    let user_id = &account.user.id;
    for (id, issuer) in rows::remove_since(tx, user_id, since).await? {
        unlinked(tx, user_id, &id, &issuer).await?;
    }
    Ok(())
}

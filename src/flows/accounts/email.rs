//! Verification and change of email addresses.
//!
//! **The first to register an address is not thereby its owner.** The owner of the mailbox gets
//! the link, and it alone does not verify the address for another person's account: it takes the
//! account's session or password as well, or the owner sets a new password, which ends everything
//! that the registrant had.

use std::time::Duration;

use serde_json::json;

use super::{
    deletion,
    email_tokens::{self, Link},
    login, password, second_factors,
};
use crate::{
    app::App,
    diagnostics,
    error::Error,
    flows::{
        admin::users::{Kept, differences},
        mail::{self, NOTICE_TTL, Outgoing, Requester},
        upstream::identity,
    },
    ids::UserId,
    model::{
        actor::{Actor, RequestContext},
        event::Event,
        mail::{Content, Purpose, masked},
        user::{Email, Login, User, UserRecord, canonical},
    },
    storage::{
        self, AuditedTx, Conflict,
        email_tokens::{self as rows, NewToken},
        users::{self, UserUpdate},
    },
    telemetry::DeletionOutcome,
};

/// How long a link or code that verifies an address is valid.
pub(crate) const VERIFY_TTL: Duration = Duration::from_secs(24 * 3_600);

/// How long a change of the address can be confirmed.
const CHANGE_TTL: Duration = Duration::from_secs(3_600);

/// How long the owner of the old address can object to a change.
const OBJECT_TTL: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Attempts at a code. With the quota of mails per address, a guess of eight digits succeeds less
/// than once in a million.
const ATTEMPTS: i64 = 5;

/// How a caller shows, beside the mail, that the account is theirs.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'a> {
    /// The session of this user.
    Session(&'a UserId),
    /// The account's password.
    Password(&'a str),
    /// None: a new password is set, and the account is as after a reset.
    NewPassword(&'a str),
    Nothing,
}

impl Proof<'_> {
    /// Checks a proof by session or password.
    async fn check(self, app: &App, user: &User, caller: &RequestContext) -> Result<(), Error> {
        match self {
            Self::Session(id) if *id == user.id => Ok(()),
            Self::Password(password) => {
                login::check_password(app, &user.id, password, caller).await
            }
            _ => Err(Error::field(
                "password",
                "is required: log in to the account, or send its password",
            )),
        }
    }
}

/// Sends a mail that verifies the address of a user.
///
/// # Errors
/// [`Error::MailOff`], [`Error::TooMany`]; [`Error::Conflict`] where it is verified.
pub async fn request_verification(
    app: &App,
    user_id: &UserId,
    language: &str,
    caller: &RequestContext,
) -> Result<(), Error> {
    mail::require(app)?;
    let user = users::by_id(&app.db, user_id).await?.ok_or(Error::NotFound("user"))?;
    let mut tx = app.begin(&Actor::caller(user_id, caller)).await?;
    admit_own(app, &mut tx, &user.email, Requester { address: caller.address, language }).await?;
    // The address cannot change until the commit.
    let user = users::lock(&mut tx, user_id).await?.ok_or(Error::NotFound("user"))?.user;
    if user.is_verified {
        return Err(Error::Conflict("the email address is verified already"));
    }
    queue_verification(app, &mut tx, &user, language, true).await?;
    tx.audit("user.verification_requested", Some(user_id), json!({})).await?;
    tx.commit().await?;
    app.mails_waiting.notify_one();
    Ok(())
}

/// As [`mail::admit`], for a user who may know that the quota of the address is used up.
async fn admit_own(
    app: &App,
    tx: &mut AuditedTx,
    address: &str,
    requester: Requester<'_>,
) -> Result<(), Error> {
    let to = Email { address: address.to_owned(), canonical: canonical(address) };
    if mail::admit(app, tx, &to, requester).await? {
        return Ok(());
    }
    diagnostics::record("limit", "mail.per_address_per_hour");
    Err(Error::TooMany(Duration::from_secs(3_600)))
}

/// Queues the mail that verifies the address of a user, with its token and code.
pub(super) async fn queue_verification(
    app: &App,
    tx: &mut AuditedTx,
    user: &User,
    language: &str,
    is_sent: bool,
) -> Result<(), Error> {
    let ((token, token_hash), code) = (email_tokens::new(app), email_tokens::new_code(app));
    let (id, now) = (tx.new_id(), tx.now());
    let new = NewToken {
        id: &id,
        purpose: Purpose::VerifyEmail,
        token_hash,
        user_id: Some(&user.id),
        email: &user.email,
        detail: None,
        code_hash: Some(email_tokens::code_hash(app, &id, &code)?),
        expires_at: now + VERIFY_TTL,
    };
    rows::insert(tx, new, now).await?;
    users::set_language(tx, &user.id, language).await?;
    let outgoing = Outgoing {
        to: &user.email,
        user_id: Some(&user.id),
        language: Some(language),
        content: Content::VerifyEmail { token, code },
        ttl: VERIFY_TTL,
        is_sent,
    };
    mail::queue(app, tx, outgoing).await
}

/// Verifies the address of a user by the code of a mail.
///
/// # Errors
/// [`Error::Validation`] of the field `code`.
pub async fn verify_by_code(
    app: &App,
    user_id: &UserId,
    code: &str,
    caller: &RequestContext,
) -> Result<(), Error> {
    let wrong = || Error::field("code", "is wrong or has expired: request a new mail");
    let digits: String = code.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    if digits.len() != 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(Error::field("code", "must be the eight digits in the mail"));
    }
    // An attempt counts before it is compared, so that a hundred in parallel are not a hundred.
    let candidates = rows::attempt(&app.db, user_id, ATTEMPTS, app.clock.now()).await?;
    diagnostics::record("email_code.candidates", candidates.len());
    let mut right = None;
    for candidate in candidates {
        if email_tokens::is_code(app, &candidate.id, &digits, &candidate.code_hash)? {
            right = Some(candidate);
        }
    }
    let right = right.ok_or_else(wrong)?;
    let mut tx = app.begin(&Actor::caller(user_id, caller)).await?;
    let account = users::lock(&mut tx, user_id).await?.ok_or(Error::NotFound("user"))?;
    let now = tx.read_clock();
    let is_current = canonical(&account.user.email) == canonical(&right.email);
    if !is_current || !rows::take(&mut tx, &right.id, now).await? {
        return Err(wrong());
    }
    mark_verified(&mut tx, &account).await?;
    tx.commit().await?;
    Ok(())
}

/// Verifies an address by the link of a mail and a proof that the account is the caller's; returns
/// the id of the user.
///
/// # Errors
/// [`Error::InvalidLink`]; [`Error::InvalidCredentials`] for a wrong password; [`Error::Validation`]
/// without a proof, and for a new password that is too weak.
pub async fn verify_by_link(
    app: &App,
    token: &str,
    proof: Proof<'_>,
    caller: &RequestContext,
) -> Result<UserId, Error> {
    let link = email_tokens::open(app, Purpose::VerifyEmail, token).await?;
    if let Proof::NewPassword(new) = proof {
        return password::set_by_link(app, &link, new, caller).await;
    }
    let user = link.user()?;
    proof.check(app, user, caller).await?;
    let mut tx = app.begin(&Actor::caller(&user.id, caller)).await?;
    let account = lock_and_take(&mut tx, &link).await?;
    mark_verified(&mut tx, &account).await?;
    tx.commit().await?;
    Ok(account.user.id)
}

/// Locks the user of a link, and uses its token up.
pub(super) async fn lock_and_take(tx: &mut AuditedTx, link: &Link) -> Result<UserRecord, Error> {
    let account = users::lock(tx, &link.user()?.id).await?.ok_or(Error::InvalidLink)?;
    // The lock may have waited for a change, which has removed the token.
    let now = tx.read_clock();
    let is_usable = email_tokens::is_usable(link.purpose, &account);
    if !is_usable || !rows::take(tx, &link.token.id, now).await? {
        return Err(Error::InvalidLink);
    }
    Ok(account)
}

/// Records that the address of a locked account is its user's.
async fn mark_verified(tx: &mut AuditedTx, account: &UserRecord) -> Result<(), Error> {
    let after = User { is_verified: true, ..account.user.clone() };
    rows::remove(tx, &account.user.id, Purpose::VerifyEmail).await?;
    store(tx, account, &after, None).await
}

/// Stores the address and whether it is verified, with the event and the audit entry.
pub(super) async fn store(
    tx: &mut AuditedTx,
    account: &UserRecord,
    after: &User,
    email: Option<Email>,
) -> Result<(), Error> {
    let detail = differences(&account.user, after);
    if detail.is_empty() {
        return Ok(());
    }
    let (id, now) = (&account.user.id, tx.now());
    let to = UserUpdate {
        email,
        username: None,
        role: after.role.clone(),
        is_verified: after.is_verified,
        profile: None,
    };
    users::update(tx, id, to, now).await.map_err(|error| match error {
        storage::Error::Conflict(Conflict::Email) => Error::EmailTaken,
        other => other.into(),
    })?;
    let fields: Vec<&str> = detail.keys().map(String::as_str).collect();
    let event = Event::user_updated(id, &fields);
    tx.event(&event.with_external_id(account.external_id.as_deref())).await?;
    tx.audit("user.updated", Some(id), detail.into()).await?;
    Ok(())
}

/// Sends a mail to a new address of a user, which confirms it, and one to the old address. The
/// response does not tell whether the new one is another account's.
///
/// # Errors
/// [`Error::MailOff`], [`Error::TooMany`]; [`Error::InvalidCredentials`] for a wrong password;
/// [`Error::Validation`] for an invalid address and for the present one.
pub async fn request_change(
    app: &App,
    user_id: &UserId,
    email: &str,
    password: &str,
    language: &str,
    caller: &RequestContext,
) -> Result<(), Error> {
    mail::require(app)?;
    let email = Email::parse(email).map_err(|why| Error::field("email", why))?;
    login::check_password(app, user_id, password, caller).await?;
    let other = users::by_login(&app.db, &Login::Email(email.canonical.clone())).await?;
    if other.as_ref().is_some_and(|other| other.user.id == *user_id) {
        return Err(Error::field("email", "is the address of the account already"));
    }
    let other = other.map(|other| other.user);
    let mut tx = app.begin(&Actor::caller(user_id, caller)).await?;
    let requester = Requester { address: caller.address, language };
    admit_own(app, &mut tx, &email.address, requester).await?;
    let account = users::lock(&mut tx, user_id).await?.ok_or(Error::NotFound("user"))?;
    let now = tx.read_clock();
    rows::remove(&mut tx, user_id, Purpose::ConfirmChange).await?;
    let (token, token_hash) = email_tokens::new(app);
    let new = NewToken {
        id: &tx.new_id(),
        purpose: Purpose::ConfirmChange,
        token_hash,
        user_id: Some(user_id),
        email: &email.address,
        detail: None,
        code_hash: None,
        expires_at: now + CHANGE_TTL,
    };
    rows::insert(&mut tx, new, now).await?;
    let outgoing = match &other {
        // Nobody gets the token.
        Some(other) => Outgoing {
            to: &other.email,
            user_id: Some(&other.id),
            language: None,
            content: Content::AddressInUse,
            ttl: NOTICE_TTL,
            is_sent: other.disabled_at.is_none(),
        },
        None => Outgoing {
            to: &email.address,
            user_id: Some(user_id),
            language: Some(language),
            content: Content::ConfirmChange { token },
            ttl: CHANGE_TTL,
            is_sent: true,
        },
    };
    mail::queue(app, &mut tx, outgoing).await?;
    let address = masked(&email.address);
    tell_old_address(app, &mut tx, &account.user, |token| Content::ChangeRequested {
        token,
        address,
    })
    .await?;
    tx.audit("user.email_change_requested", Some(user_id), json!({})).await?;
    tx.commit().await?;
    app.mails_waiting.notify_one();
    Ok(())
}

/// Queues a mail to the verified address that an account has (had), with which its owner can
/// object. The owner of an address that was never verified may be anybody: no mail.
async fn tell_old_address(
    app: &App,
    tx: &mut AuditedTx,
    user: &User,
    content: impl FnOnce(String) -> Content,
) -> Result<(), Error> {
    if !user.is_verified {
        return Ok(());
    }
    let ((token, token_hash), now) = (email_tokens::new(app), tx.now());
    let new = NewToken {
        id: &tx.new_id(),
        purpose: Purpose::ObjectToChange,
        token_hash,
        user_id: Some(&user.id),
        email: &user.email,
        detail: None,
        code_hash: None,
        expires_at: now + OBJECT_TTL,
    };
    rows::insert(tx, new, now).await?;
    let outgoing = Outgoing {
        to: &user.email,
        user_id: Some(&user.id),
        language: None,
        content: content(token),
        // Within this time the link is of use.
        ttl: NOTICE_TTL,
        is_sent: true,
    };
    mail::queue(app, tx, outgoing).await
}

/// Changes the address of an account to the confirmed one; returns the id of the user.
///
/// # Errors
/// [`Error::InvalidLink`]; [`Error::InvalidCredentials`]; [`Error::Validation`] without a proof;
/// [`Error::EmailTaken`] where the address has become another account's.
pub async fn confirm_change(
    app: &App,
    token: &str,
    proof: Proof<'_>,
    caller: &RequestContext,
) -> Result<UserId, Error> {
    let link = email_tokens::open(app, Purpose::ConfirmChange, token).await?;
    let user = link.user()?;
    // Without it, an attacker could have another user confirm an address for the attacker's account.
    proof.check(app, user, caller).await?;
    let email = Email::parse(&link.token.email).map_err(|why| Error::field("email", why))?;
    let mut tx = app.begin(&Actor::caller(&user.id, caller)).await?;
    let account = lock_and_take(&mut tx, &link).await?;
    let after = User { email: email.address.clone(), is_verified: true, ..account.user.clone() };
    rows::remove_outdated(&mut tx, &account.user.id).await?;
    store(&mut tx, &account, &after, Some(email)).await?;
    let address = masked(&after.email);
    tell_old_address(app, &mut tx, &account.user, |token| Content::EmailChanged {
        token: Some(token),
        address,
    })
    .await?;
    tx.commit().await?;
    app.mails_waiting.notify_one();
    Ok(after.id)
}

/// Objects to a change of the address: the account has the old address, a new password, no session,
/// and none of the second factors that were added within the last seven days. A deletion that was
/// requested is cancelled: the one who has changed the address may have requested it.
///
/// # Errors
/// [`Error::InvalidLink`]; [`Error::Validation`] for a weak password; [`Error::EmailTaken`] where the
/// old address has become another account's.
pub async fn object(
    app: &App,
    token: &str,
    new_password: &str,
    caller: &RequestContext,
) -> Result<(), Error> {
    let link = email_tokens::open(app, Purpose::ObjectToChange, token).await?;
    let user = link.user()?;
    let hash = password::hash_new(app, user, new_password).await?;
    let mut tx = app.begin(&Actor::caller(&user.id, caller)).await?;
    let mut account = lock_and_take(&mut tx, &link).await?;
    rows::remove(&mut tx, &account.user.id, Purpose::ObjectToChange).await?;
    let is_kept = deletion::cancel_locked(&mut tx, &mut account).await?;
    let since = tx.now() - OBJECT_TTL;
    second_factors::remove_since(&mut tx, &account, since).await?;
    identity::remove_since(&mut tx, &account, since).await?;
    let email = Email::parse(&link.token.email).map_err(|why| Error::field("email", why))?;
    let after = User { email: email.address.clone(), is_verified: true, ..account.user.clone() };
    store(&mut tx, &account, &after, Some(email)).await?;
    tx.audit("user.email_change_objected", Some(&after.id), json!({})).await?;
    let account = UserRecord { user: after, ..account };
    password::replace(app, &mut tx, &account, hash, Kept::default()).await?;
    tx.commit().await?;
    if is_kept {
        app.metrics.account_deletion(DeletionOutcome::Cancelled);
    }
    password::replaced(app);
    Ok(())
}

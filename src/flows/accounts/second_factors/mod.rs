//! Second factors of a user: adding, listing and removing them, recovery codes, and their reset by
//! an operator. [`crate::flows::accounts::second_step`] logs in with them.

pub mod passkeys;
pub(crate) mod proof;
pub(crate) mod recovery;
mod totp;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::{
        sessions::open::{self, Cookie},
        upstream::identity::{self, LAST_WAY_IN},
    },
    ids::UserId,
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        authentication::{self, MFA, OTP, PASSWORD, USER},
        browser_session::BrowserSession,
        event::{Event, FactorChange},
        second_factor::{Factor, FactorKind, FactorOverview},
        user::{User, UserRecord},
    },
    oauth::access_token::AccessClaims,
    storage::{
        self, AuditedTx, browser_sessions, remembered_devices,
        second_factors::{self as rows, LockedFactors, Secret},
        users,
    },
};

/// How a user who manages factors has logged in.
#[derive(Clone, Copy, Debug)]
pub struct Login {
    /// `None`: nobody logged in.
    pub at: Option<Timestamp>,
    pub is_mfa: bool,
}

impl Login {
    /// The login of an access token.
    pub fn of_claims(claims: &AccessClaims) -> Self {
        Self {
            at: claims.auth_time.and_then(Timestamp::from_secs),
            is_mfa: claims.acr.as_deref() == Some(authentication::ACR_MFA),
        }
    }

    /// The login of a browser.
    pub fn of(browser: &BrowserSession) -> Self {
        Self { at: Some(browser.authenticated_at), is_mfa: browser.is_mfa() }
    }
}

/// What a login lacks to change factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It is older than `second_factors.fresh_login`.
    Freshness,
    /// It was made without the second factor that the user has.
    SecondFactor,
}

/// What the login lacks to add, remove or renew something. A stolen session must not become a
/// stolen account, so it is recent, and includes the second factor of a user who has one.
pub fn lack(app: &App, login: Login, has_factor: bool) -> Option<Lack> {
    let now = app.clock.now();
    let is_fresh = |at: Timestamp| at + app.config.second_factors.fresh_login >= now;
    if !login.at.is_some_and(is_fresh) {
        return Some(Lack::Freshness);
    }
    (has_factor && !login.is_mfa).then_some(Lack::SecondFactor)
}

/// Refuses a login that lacks something.
pub(crate) fn must_suffice(app: &App, login: Login, factors: LockedFactors) -> Result<(), Error> {
    let has_factor = factors.count > 0;
    match lack(app, login, has_factor) {
        None => Ok(()),
        Some(_) => Err(Error::NeedsLogin {
            max_age: app.config.second_factors.fresh_login,
            second_factor: has_factor,
        }),
    }
}

/// Locks a user who changes the password or the username, with the present password: a user who has
/// a second factor has also logged in with it recently.
pub(super) async fn lock_for_owner(
    app: &App,
    tx: &mut AuditedTx,
    user_id: &UserId,
    login: Login,
) -> Result<(), Error> {
    let factors = rows::lock(tx, user_id).await?.ok_or(Error::NotFound("user"))?;
    // The lock may have waited for another change.
    tx.read_clock();
    if factors.count == 0 { Ok(()) } else { must_suffice(app, login, factors) }
}

/// What the user has beside the password.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn overview(app: &App, user_id: &UserId) -> Result<FactorOverview, Error> {
    Ok(rows::overview(&app.db, user_id).await?)
}

/// An authenticator app that is being set up. Nothing is stored until a code confirms it: the
/// secret travels with the user, sealed.
#[derive(Debug)]
pub struct SetUp {
    /// Sent back with the confirmation.
    pub token: String,
    /// Base32 (RFC 4648 §6), to type in.
    pub secret: String,
    /// `otpauth://…`
    pub uri: String,
    /// The URI as a QR code, in SVG.
    pub qr_code: String,
}

/// The content of [`SetUp::token`].
#[derive(Serialize, Deserialize)]
struct Sealed {
    user_id: UserId,
    /// The id that the factor will have: a set-up is confirmed once.
    id: String,
    /// base64url
    secret: String,
    /// Microseconds since the epoch.
    at: i64,
}

const SET_UP: &str = "second-factor-set-up";

/// What the secret of a factor is sealed under: a row's secret cannot be moved to another row.
fn totp_seal(id: &str) -> String {
    format!("totp-{id}")
}

/// Begins to set up an authenticator app.
///
/// # Errors
/// [`Error::Unavailable`].
pub fn set_up(app: &App, user: &User) -> Result<SetUp, Error> {
    let sealed = Sealed {
        user_id: user.id.clone(),
        id: app.new_id(),
        secret: URL_SAFE_NO_PAD.encode(app.rng.bytes::<{ totp::SECRET_BYTES }>()),
        at: app.clock.now().micros(),
    };
    shown(app, user, &sealed)
}

/// The set-up of a token, to show it again; `None` if it has expired or is another user's.
///
/// # Errors
/// [`Error::Unavailable`].
pub fn set_up_again(app: &App, user: &User, token: &str) -> Result<Option<SetUp>, Error> {
    unsealed(app, &user.id, token).map(|sealed| shown(app, user, &sealed)).transpose()
}

fn shown(app: &App, user: &User, sealed: &Sealed) -> Result<SetUp, Error> {
    let failed = |error: serde_json::Error| Error::Unavailable(error.into());
    let token = app.keys.seal(SET_UP, &serde_json::to_vec(sealed).map_err(failed)?)?;
    let secret = URL_SAFE_NO_PAD.decode(&sealed.secret);
    let secret = totp::base32(&secret.map_err(|error| Error::Unavailable(error.into()))?);
    let uri = totp::uri(&issuer_name(app), &user.email, &secret);
    Ok(SetUp { qr_code: totp::qr_svg(&uri)?, token, secret, uri })
}

fn issuer_name(app: &App) -> String {
    let configured = &app.config.second_factors.issuer_name;
    if !configured.is_empty() {
        return configured.clone();
    }
    if let Some(brand) = app.config.pages.own_brand() {
        return brand.to_owned();
    }
    let host = Url::parse(&app.config.server.issuer).ok();
    let host = host.and_then(|url| url.host_str().map(str::to_owned));
    host.unwrap_or_else(|| app.config.pages.brand.clone())
}

fn unsealed(app: &App, user_id: &UserId, token: &str) -> Option<Sealed> {
    let sealed: Sealed = serde_json::from_slice(&unseal(app, SET_UP, token)?).ok()?;
    let until = Timestamp(sealed.at) + app.config.second_factors.login_timeout;
    (sealed.user_id == *user_id && until >= app.clock.now()).then_some(sealed)
}

/// Opens a token of a client; one that is too long is none.
pub(crate) fn unseal(app: &App, id: &str, token: &str) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    const LONGEST: usize = 32 * 1024;
    if token.len() > LONGEST { None } else { app.keys.unseal(id, token).ok() }
}

/// A set-up whose first code was right.
#[derive(Debug)]
pub(crate) struct Confirmed {
    id: String,
    name: String,
    secret: Secret,
}

impl Confirmed {
    /// The methods that it adds to a login (RFC 8176 §2).
    pub(crate) const fn further_amr(&self) -> &'static [&'static str] {
        match self.secret {
            Secret::Totp { .. } => &[OTP, MFA],
            Secret::Passkey { .. } => &[USER, MFA],
        }
    }

    /// The methods of a login by password and this.
    pub(crate) const fn amr(&self) -> &'static [&'static str] {
        match self.secret {
            Secret::Totp { .. } => &[PASSWORD, OTP, MFA],
            Secret::Passkey { .. } => &[PASSWORD, USER, MFA],
        }
    }
}

/// What a user confirms a new factor with.
#[derive(Clone, Copy, Debug)]
pub enum Confirmation<'a> {
    /// The first code of an authenticator app.
    Totp { token: &'a str, code: &'a str, name: &'a str },
    /// The answer of the browser's WebAuthn API, as JSON.
    Passkey { token: &'a str, credential: &'a str, name: &'a str },
}

impl Confirmation<'_> {
    /// Checks it.
    ///
    /// # Errors
    /// [`Error::WrongCode`], [`Error::InvalidPasskey`], [`Error::Validation`].
    pub(crate) async fn check(self, app: &App, user_id: &UserId) -> Result<Confirmed, Error> {
        match self {
            Self::Totp { token, code, name } => confirm_set_up(app, user_id, token, code, name),
            Self::Passkey { token, credential, name } => {
                passkeys::confirm_registration(app, user_id, token, credential, name).await
            }
        }
    }
}

/// Checks the first code of an authenticator app.
///
/// # Errors
/// [`Error::WrongCode`]; [`Error::Validation`] for an expired set-up or an invalid name.
fn confirm_set_up(
    app: &App,
    user_id: &UserId,
    token: &str,
    code: &str,
    name: &str,
) -> Result<Confirmed, Error> {
    let name = name_of(name, "Authenticator app")?;
    let sealed = unsealed(app, user_id, token).ok_or_else(|| {
        Error::field("setupToken", "has expired, or belongs to another user: begin again")
    })?;
    let secret = URL_SAFE_NO_PAD.decode(&sealed.secret);
    let secret = secret.map_err(|error| Error::Unavailable(error.into()))?;
    let digits = proof::digits(code).ok_or(Error::WrongCode)?;
    let step = totp::matching_step(&secret, digits.as_bytes(), app.clock.now())?;
    let step = step.ok_or(Error::WrongCode)?;
    let secret_jwe = app.keys.seal(&totp_seal(&sealed.id), &secret)?;
    Ok(Confirmed { id: sealed.id, name, secret: Secret::Totp { secret_jwe, step } })
}

/// A name of a factor as typed; empty: the default.
fn name_of(typed: &str, default: &str) -> Result<String, Error> {
    let name = typed.trim();
    if name.chars().count() > 64 || crate::unicode::escaped(name) != name {
        let message = "must be at most 64 characters, without invisible and control characters";
        return Err(Error::field("name", message));
    }
    Ok(if name.is_empty() { default.to_owned() } else { name.to_owned() })
}

/// A factor that was added.
#[derive(Debug)]
pub struct Added {
    pub factor: Factor,
    /// Where it is the first one: shown once.
    pub recovery_codes: Option<Vec<String>>,
}

/// Stores a factor with its event and audit entry, in a transaction that has locked the user.
pub(crate) async fn add(
    app: &App,
    tx: &mut AuditedTx,
    user_id: &UserId,
    confirmed: Confirmed,
    locked: LockedFactors,
) -> Result<Added, Error> {
    if locked.count >= i64::from(app.config.second_factors.max_per_user) {
        return Err(Error::Conflict("the account has as many factors as it may have: remove one"));
    }
    let now = tx.now();
    let Confirmed { id, name, secret } = confirmed;
    let kind = secret.kind();
    rows::insert(tx, user_id, &id, &name, secret, now).await.map_err(|error| match error {
        crate::storage::Error::Conflict(_) => {
            Error::Conflict("this set-up was confirmed, or this passkey added, before: begin again")
        }
        other => other.into(),
    })?;
    tx.event(&Event::factor(FactorChange::Added, user_id, &id, kind)).await?;
    let detail = json!({ "factorId": id, "kind": kind.as_str() });
    tx.audit("factor.added", Some(user_id), detail).await?;
    let recovery_codes = match locked.count {
        0 => Some(store_codes(app, tx, user_id).await?),
        _ => None,
    };
    let factor = Factor { id, kind, name, created_at: now, last_used_at: None };
    Ok(Added { factor, recovery_codes })
}

async fn store_codes(
    app: &App,
    tx: &mut AuditedTx,
    user_id: &UserId,
) -> Result<Vec<String>, Error> {
    let codes = recovery::generate(app);
    let mut hashes = Vec::with_capacity(codes.len());
    for code in &codes {
        let code = recovery::normalized(code).unwrap_or_default();
        hashes.push(recovery::hash(app, user_id, &code)?);
    }
    rows::replace_codes(tx, user_id, &hashes).await?;
    Ok(codes)
}

/// Locks the user, who is enabled, for a change of the factors or identities, by a login that
/// suffices.
pub(crate) async fn locked(
    app: &App,
    tx: &mut AuditedTx,
    user_id: &UserId,
    login: Login,
) -> Result<LockedFactors, Error> {
    let locked = rows::lock(tx, user_id).await?.ok_or(Error::NotFound("user"))?;
    // The lock may have waited for another change.
    tx.read_clock();
    must_suffice(app, login, locked)?;
    Ok(locked)
}

/// Adds a factor.
///
/// # Errors
/// [`Error::WrongCode`], [`Error::InvalidPasskey`], [`Error::Validation`]; [`Error::NeedsLogin`],
/// [`Error::Conflict`], [`Error::TooMany`].
pub async fn confirm(
    app: &App,
    user_id: &UserId,
    login: Login,
    confirmation: Confirmation<'_>,
    context: &RequestContext,
) -> Result<Added, Error> {
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    let confirmed = confirmation.check(app, user_id).await?;
    let mut tx = app.begin(&Actor::caller(user_id, context)).await?;
    let locked = locked(app, &mut tx, user_id, login).await?;
    let added = add(app, &mut tx, user_id, confirmed, locked).await?;
    tx.commit().await?;
    Ok(added)
}

/// As [`confirm`], in a browser, which has logged in with two factors from then on: its session
/// continues under a new cookie.
///
/// # Errors
/// As [`confirm`].
pub async fn confirm_in_browser(
    app: &App,
    browser: &BrowserSession,
    confirmation: Confirmation<'_>,
    context: &RequestContext,
) -> Result<(Added, Cookie), Error> {
    let user_id = &browser.user.id;
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    let confirmed = confirmation.check(app, user_id).await?;
    let mut tx = app.begin(&Actor::caller(user_id, context)).await?;
    // The user is locked first, as by a deletion.
    let locked = locked(app, &mut tx, user_id, Login::of(browser)).await?;
    let cookie = step_up(app, &mut tx, browser, confirmed.further_amr()).await?;
    let added = add(app, &mut tx, user_id, confirmed, locked).await?;
    tx.commit().await?;
    Ok((added, cookie))
}

/// Gives a browser session a new cookie, after a second step with these methods (threat T35).
pub(crate) async fn step_up(
    app: &App,
    tx: &mut AuditedTx,
    browser: &BrowserSession,
    further: &[&str],
) -> Result<Cookie, Error> {
    let value = open::new_cookie(app);
    let hash = crate::flows::accounts::browser_session::cookie_hash(&value);
    let amr = authentication::and(&browser.amr, further).join(" ");
    let now = tx.now();
    if !browser_sessions::step_up(tx, &browser.id, hash, &amr, now).await? {
        return Err(Error::LoginExpired);
    }
    let max_age = app.config.authorization.browser_session_ttl.as_secs();
    Ok(Cookie { value, max_age, device: None, remembered: None })
}

/// Removes a factor. The last one takes the recovery codes with it.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NeedsLogin`]; [`Error::Conflict`] for the last factor of a user
/// whose role requires one, and for the passkey without which the user could not log in any more.
pub async fn remove(
    app: &App,
    user_id: &UserId,
    id: &str,
    login: Login,
    context: &RequestContext,
) -> Result<(), Error> {
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    let mut tx = app.begin(&Actor::caller(user_id, context)).await?;
    let locked = locked(app, &mut tx, user_id, login).await?;
    let removed = rows::remove(&mut tx, user_id, id, locked).await?;
    let kind = removed.ok_or(Error::NotFound("factor"))?;
    if locked.is_required && locked.count == 1 {
        tx.rollback().await?;
        return Err(Error::Conflict(
            "the role of the user requires a second factor: add another one first",
        ));
    }
    if kind == FactorKind::Passkey && !identity::keeps_way_in(app, &mut tx, user_id, "").await? {
        tx.rollback().await?;
        return Err(Error::Conflict(LAST_WAY_IN));
    }
    remembered_devices::remove_all(&mut tx, user_id).await?;
    tx.event(&Event::factor(FactorChange::Removed, user_id, id, kind)).await?;
    let detail = json!({ "factorId": id, "kind": kind.as_str() });
    tx.audit("factor.removed", Some(user_id), detail).await?;
    Ok(tx.commit().await?)
}

/// Replaces the recovery codes; the earlier ones are no longer accepted.
///
/// # Errors
/// [`Error::NeedsLogin`]; [`Error::Conflict`] for a user without a factor.
pub async fn renew_codes(
    app: &App,
    user_id: &UserId,
    login: Login,
    context: &RequestContext,
) -> Result<Vec<String>, Error> {
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    let mut tx = app.begin(&Actor::caller(user_id, context)).await?;
    let locked = locked(app, &mut tx, user_id, login).await?;
    if locked.count == 0 {
        return Err(Error::Conflict("the account has no second factor: add one first"));
    }
    let codes = store_codes(app, &mut tx, user_id).await?;
    tx.event(&Event::recovery_codes_renewed(user_id)).await?;
    tx.audit("factor.recovery_codes_renewed", Some(user_id), json!({})).await?;
    tx.commit().await?;
    Ok(codes)
}

/// Removes every factor and recovery code of a user who has lost them, on behalf of an operator.
/// The next login takes the password only; where a factor is required, the user sets one up then.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn reset(app: &App, user_id: &UserId, actor: &Actor) -> Result<(), Error> {
    let mut tx = app.begin(actor).await?;
    // Also of a disabled user.
    let known = if user_id.contains('\0') { None } else { users::lock(&mut tx, user_id).await? };
    let account = known.ok_or(Error::NotFound("user"))?;
    remove_since(&mut tx, &account, Timestamp(0)).await?;
    Ok(tx.commit().await?)
}

/// Removes the factors of a locked account that were added at this time or later, with their event
/// and audit entry.
pub(crate) async fn remove_since(
    tx: &mut AuditedTx,
    account: &UserRecord,
    since: Timestamp,
) -> storage::Result<()> {
    let id = &account.user.id;
    if !rows::remove_since(tx, id, since).await? {
        return Ok(());
    }
    remembered_devices::remove_all(tx, id).await?;
    let event = Event::factors_reset(id).with_external_id(account.external_id.as_deref());
    tx.event(&event).await?;
    tx.audit("factor.reset", Some(id), json!({})).await
}

/// For how long a new factor may be confirmed.
pub fn set_up_lifetime(app: &App) -> Duration {
    app.config.second_factors.login_timeout
}

//! The tokens and codes in mails: 32 random bytes, of which the database has a hash; and eight
//! digits, of which it has an HMAC.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    app::App,
    diagnostics,
    error::Error,
    model::{
        mail::Purpose,
        user::{User, UserRecord, canonical},
    },
    storage::{
        email_tokens::{self as rows, EmailToken},
        users,
    },
};

/// A new token and its hash.
pub(super) fn new(app: &App) -> (String, [u8; 32]) {
    let token = URL_SAFE_NO_PAD.encode(app.rng.bytes::<32>());
    let hash = hash(&token);
    (token, hash)
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// A new code of eight digits.
pub(super) fn new_code(app: &App) -> String {
    format!("{:08}", u64::from_be_bytes(app.rng.bytes()) % 100_000_000)
}

/// How a code is stored: an attacker with a copy of the database could try all of them otherwise.
pub(super) fn code_hash(app: &App, id: &str, code: &str) -> Result<[u8; 32], Error> {
    let key = app.keys.derive("email-code")?;
    let mac = Hmac::<Sha256>::new_from_slice(&key);
    let mut mac = mac.map_err(|error| Error::Unavailable(error.to_string().into()))?;
    // Ids have one length.
    mac.update(id.as_bytes());
    mac.update(code.as_bytes());
    Ok(mac.finalize().into_bytes().into())
}

/// Whether the code is the one with this hash, in constant time.
pub(super) fn is_code(app: &App, id: &str, code: &str, hash: &[u8]) -> Result<bool, Error> {
    Ok(code_hash(app, id, code)?.ct_eq(hash).into())
}

/// What a valid token of a mail is about.
#[derive(Clone, Debug)]
pub struct Link {
    pub purpose: Purpose,
    pub token: EmailToken,
    /// `None`: a registration.
    pub user: Option<User>,
}

impl Link {
    /// The user whom it is about.
    ///
    /// # Errors
    /// [`Error::InvalidLink`].
    pub(super) fn user(&self) -> Result<&User, Error> {
        self.user.as_ref().ok_or(Error::InvalidLink)
    }
}

/// Whether a link is of use to the user of this account: it is enabled, or its deletion can be
/// cancelled. An intruder may have requested that, so the ways to get the account back stay open.
pub(super) fn is_usable(purpose: Purpose, account: &UserRecord) -> bool {
    let recovers = matches!(purpose, Purpose::ResetPassword | Purpose::ObjectToChange);
    account.user.disabled_at.is_none() || (recovers && account.cancellable_deletion().is_some())
}

/// Reads a token, which stays valid: mail scanners open links.
///
/// # Errors
/// [`Error::InvalidLink`].
pub async fn open(app: &App, purpose: Purpose, token: &str) -> Result<Link, Error> {
    let invalid = |why: &str| {
        diagnostics::record("email_token", why);
        Error::InvalidLink
    };
    let found = rows::find(&app.db, purpose, hash(token), app.clock.now()).await?;
    let token = found.ok_or_else(|| invalid("unknown, used or expired"))?;
    let Some(user_id) = &token.user_id else {
        return match purpose {
            Purpose::ConfirmRegistration if token.detail.is_some() => {
                Ok(Link { purpose, token, user: None })
            }
            _ => Err(invalid("of no account")),
        };
    };
    diagnostics::identify_user(user_id);
    let account = users::record_by_id(&app.db, user_id).await?;
    let account = account.filter(|account| is_usable(purpose, account));
    let user = account.ok_or_else(|| invalid("the account is disabled"))?.user;
    // A change removes these tokens; this holds whatever a program with SQL has done.
    let is_of_address = matches!(purpose, Purpose::VerifyEmail | Purpose::ResetPassword);
    if is_of_address && canonical(&user.email) != canonical(&token.email) {
        return Err(invalid("of another address"));
    }
    Ok(Link { purpose, token, user: Some(user) })
}

//! The limit of guesses at a password, for all processes together.
//!
//! A guess counts before it is checked, so that a hundred in parallel are not a hundred checked. The
//! first guess at an account without wrong ones is checked uncounted, one at a time per process, and
//! counted if it was wrong: so a login with the right password writes no count.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use crate::{
    app::App,
    diagnostics,
    error::Error,
    limits::{Key, Limit},
    model::{actor::Actor, user::Login},
    storage::{
        self, Tx,
        guesses::{self, Attempt, Blocked, Counted, DelayPolicy, GuessState, GuessedAccount, Kind},
        known_sources::LoginSource,
    },
};

/// Where guesses at a login that no user has are counted.
pub(super) fn unknown(app: &App, login: &Login) -> Result<GuessedAccount, Error> {
    let key = app.keys.derive("login-guesses")?;
    let mac = Hmac::<Sha256>::new_from_slice(&key);
    let mut mac = mac.map_err(|error| Error::Unavailable(error.into()))?;
    mac.update(login.as_str().as_bytes());
    let tag = mac.finalize().into_bytes();
    let mut first = [0; 8];
    first.copy_from_slice(&tag[..8]);
    let slots = app.config.limits.tracked.max(1) as u64;
    Ok(GuessedAccount::unknown(u64::from_be_bytes(first) % slots, URL_SAFE_NO_PAD.encode(tag)))
}

fn policy(app: &App) -> DelayPolicy {
    let settings = &app.config.login;
    DelayPolicy {
        free: settings.wrong_passwords.into(),
        delay: settings.delay,
        max: settings.max_delay,
        quiet: Some(settings.forget_after),
        most: (settings.max_wrong_passwords > 0).then(|| settings.max_wrong_passwords.into()),
    }
}

/// A guess at a password that may be checked.
pub(super) struct Guess {
    account: GuessedAccount,
    source: LoginSource,
    state: State,
}

enum State {
    /// Limits are off.
    Off,
    /// Counts if it was wrong. `has_others`: there are wrong guesses of unknown sources.
    Uncounted {
        row: String,
        has_others: bool,
    },
    Counted(Counted),
}

impl Guess {
    /// Admits a guess. `known`: what was read of the guesses so far.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub(super) async fn begin(
        app: &App,
        account: GuessedAccount,
        source: LoginSource,
        known: Option<GuessState>,
    ) -> Result<Self, Error> {
        if !app.config.limits.enabled {
            return Ok(Self { account, source, state: State::Off });
        }
        let (policy, now) = (policy(app), app.clock.now());
        if let Some(known) = known {
            let from = match &known.last_seen {
                last if last.device.is_some() => "known device",
                last if last.network.is_some() => "known network",
                _ => "unknown",
            };
            diagnostics::record("login.source", from);
            if let Some(blocked) = known.blocked(policy, now) {
                return Err(refuse(app, blocked));
            }
            let key = Key::guesses(account.parts(), &known.source);
            if !known.has_failures && app.limits.login_account.check(&key, now).is_ok() {
                let state = State::Uncounted { row: known.source, has_others: known.has_others };
                return Ok(Self { account, source, state });
            }
        }
        let kind = Kind::Password;
        match guesses::count(&app.db, &account, kind, &source, policy, false, now).await? {
            Attempt::Counted(counted) => {
                Ok(Self { account, source, state: State::Counted(counted) })
            }
            Attempt::Blocked(blocked) => Err(refuse(app, blocked)),
        }
    }

    /// It was wrong. The audit log gets one entry when guesses begin to be delayed, and one when
    /// there were too many.
    pub(super) async fn wrong(self, app: &App, actor: &Actor) -> Result<(), Error> {
        let policy = policy(app);
        let counted = match self.state {
            State::Off => return Ok(()),
            State::Counted(counted) => counted,
            State::Uncounted { .. } => {
                let (kind, now) = (Kind::Password, app.clock.now());
                let counted =
                    guesses::count(&app.db, &self.account, kind, &self.source, policy, true, now);
                match counted.await? {
                    Attempt::Counted(counted) => counted,
                    Attempt::Blocked(_) => return Ok(()),
                }
            }
        };
        diagnostics::record("login.wrong_passwords", counted.failures);
        let action = if policy.most == Some(counted.total) {
            "login.blocked"
        } else if counted.failures == policy.free {
            "login.delayed"
        } else {
            return Ok(());
        };
        app.metrics.logins_delayed.inc();
        let detail = json!({ "wrongPasswords": counted.total });
        let mut tx = app.begin(actor).await?;
        tx.audit(action, self.account.user_id(), detail).await?;
        Ok(tx.commit().await?)
    }

    /// It was right: another one may be checked uncounted.
    pub(super) fn right(self, app: &App) -> Right {
        match self.state {
            State::Off => Right(None),
            State::Uncounted { row, has_others } => {
                app.limits.login_account.refund(&Key::guesses(self.account.parts(), &row));
                Right(has_others.then_some((self.account, row)))
            }
            State::Counted(counted) => {
                app.limits
                    .login_account
                    .refund(&Key::guesses(self.account.parts(), &counted.source));
                Right(Some((self.account, counted.source)))
            }
        }
    }
}

/// A right guess, and the row of wrong ones to forget.
pub(super) struct Right(Option<(GuessedAccount, String)>);

impl Right {
    /// Forgets the wrong guesses before it.
    pub(super) async fn forget(&self, tx: &mut Tx) -> storage::Result<()> {
        match &self.0 {
            Some((account, row)) => guesses::forget(tx, account, Kind::Password, row).await,
            None => Ok(()),
        }
    }

    /// As [`Right::forget`], in a transaction of its own.
    pub(super) async fn forget_now(&self, app: &App, actor: &Actor) -> Result<(), Error> {
        if self.0.is_some() {
            let mut tx = app.begin(actor).await?;
            self.forget(&mut tx).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

fn refuse(app: &App, blocked: Blocked) -> Error {
    let Blocked { until, is_final } = blocked;
    let setting = if is_final { "login.max_wrong_passwords" } else { "login.wrong_passwords" };
    diagnostics::record("limit", setting);
    app.metrics.rate_limited(Limit::LoginAccount);
    let wait = if is_final { app.config.login.max_delay } else { until - app.clock.now() };
    Error::TooMany(wait.max(std::time::Duration::from_secs(1)))
}

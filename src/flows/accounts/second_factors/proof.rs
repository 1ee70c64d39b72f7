//! Checking a code: which factor it proves, and the limit of wrong ones.

use serde_json::json;

use super::{recovery, totp, totp_seal};
use crate::{
    app::App,
    diagnostics,
    error::Error,
    ids::UserId,
    model::{
        authentication::{HARDWARE_KEY, MFA, OTP, PASSWORD, SOFTWARE_KEY, USER},
        event::Event,
        second_factor::FactorMethod,
    },
    storage::{
        self, AuditedTx,
        guesses::{self, Attempt, Blocked, DelayPolicy, GuessedAccount, Kind},
        known_sources::LoginSource,
        second_factors::{self as rows, PasskeyRow},
    },
    telemetry::FactorOutcome,
};

/// A code that was right when it was checked. It counts once [`Proof::accept`] says so: of
/// simultaneous uses of one code, one is accepted.
#[derive(Debug)]
pub(crate) struct Proof {
    what: What,
    /// Of a code, which could be guessed: the row that the attempt was counted in.
    counted: Option<String>,
}

#[derive(Debug)]
enum What {
    Totp {
        id: String,
        step: i64,
    },
    RecoveryCode([u8; 32]),
    /// The state of the row before and after.
    Passkey {
        id: String,
        before: String,
        after: String,
        is_hardware: bool,
    },
}

impl Proof {
    /// A passkey whose answer was right. Signatures are not guessed: no attempt is counted.
    pub(super) fn of_passkey(row: PasskeyRow, after: String, is_hardware: bool) -> Self {
        let PasskeyRow { id, credential: before } = row;
        Self { what: What::Passkey { id, before, after, is_hardware }, counted: None }
    }

    pub(crate) const fn is_passkey(&self) -> bool {
        matches!(self.what, What::Passkey { .. })
    }

    fn method(&self) -> FactorMethod {
        match self.what {
            What::Totp { .. } => FactorMethod::Totp,
            What::RecoveryCode(_) => FactorMethod::RecoveryCode,
            What::Passkey { .. } => FactorMethod::Passkey,
        }
    }

    /// The methods that it adds to a login (RFC 8176 §2, which has no name for a recovery code); those
    /// of a login without a password, where it is a passkey.
    pub(crate) const fn further_amr(&self) -> &'static [&'static str] {
        match self.what {
            What::Totp { .. } => &[OTP, MFA],
            What::RecoveryCode(_) => &[MFA],
            What::Passkey { is_hardware: true, .. } => &[HARDWARE_KEY, USER, MFA],
            What::Passkey { is_hardware: false, .. } => &[SOFTWARE_KEY, USER, MFA],
        }
    }

    /// The methods of a login by password and this.
    pub(crate) const fn amr(&self) -> &'static [&'static str] {
        match self.what {
            What::Totp { .. } => &[PASSWORD, OTP, MFA],
            What::RecoveryCode(_) => &[PASSWORD, MFA],
            What::Passkey { is_hardware: true, .. } => &[PASSWORD, HARDWARE_KEY, USER, MFA],
            What::Passkey { is_hardware: false, .. } => &[PASSWORD, SOFTWARE_KEY, USER, MFA],
        }
    }

    /// Uses the code up, and forgets the wrong ones before it; `false` if it was used before.
    pub(crate) async fn accept(
        &self,
        tx: &mut AuditedTx,
        user_id: &UserId,
    ) -> storage::Result<bool> {
        let now = tx.now();
        let accepted = match &self.what {
            What::Totp { id, step } => rows::accept_step(tx, id, *step, now).await?,
            What::RecoveryCode(hash) => rows::use_code(tx, user_id, *hash).await?,
            What::Passkey { id, before, after, .. } => {
                rows::use_passkey(tx, id, before, after, now).await?
            }
        };
        if !accepted {
            diagnostics::record("second_factor.code", "used before");
            return Ok(false);
        }
        if matches!(self.what, What::RecoveryCode(_)) {
            tx.event(&Event::recovery_code_used(user_id)).await?;
            tx.audit("factor.recovery_code_used", Some(user_id), json!({})).await?;
        }
        if let Some(row) = &self.counted {
            guesses::forget(tx, &GuessedAccount::user(user_id), Kind::Code, row).await?;
        }
        Ok(true)
    }

    /// Counts the outcome.
    pub(crate) fn counted(&self, app: &App, accepted: bool) {
        let outcome = if accepted { FactorOutcome::Ok } else { FactorOutcome::WrongCode };
        diagnostics::record("second_factor.method", self.method().as_str());
        app.metrics.second_factor(outcome);
    }
}

/// Finds out what a code proves: six digits of an authenticator app, or a recovery code. Spaces and
/// hyphens do not matter. Wrong codes are counted for the user, whichever login they belong to, and
/// delay the next one (`second_factors.wrong_codes`).
///
/// # Errors
/// [`Error::WrongCode`], [`Error::TooMany`].
pub(crate) async fn check(
    app: &App,
    user_id: &UserId,
    typed: &str,
    source: &LoginSource,
) -> Result<Proof, Error> {
    let wrong = |why: &str| {
        diagnostics::record("second_factor.code", why);
        app.metrics.second_factor(FactorOutcome::WrongCode);
        Err(Error::WrongCode)
    };
    let digits = digits(typed);
    let recovery_code = recovery::normalized(typed);
    if digits.is_none() && recovery_code.is_none() {
        return wrong("neither six digits nor a recovery code");
    }
    let settings = &app.config.second_factors;
    let policy = DelayPolicy {
        free: settings.wrong_codes.into(),
        delay: settings.delay,
        max: settings.max_delay,
        quiet: None,
        most: None,
    };
    let now = app.clock.now();
    let account = GuessedAccount::user(user_id);
    let counted = guesses::count(&app.db, &account, Kind::Code, source, policy, false, now).await?;
    let row = match counted {
        Attempt::Counted(counted) => counted.source,
        Attempt::Blocked(Blocked { until, .. }) => {
            diagnostics::record("limit", "second_factors.wrong_codes");
            app.metrics.second_factor(FactorOutcome::RateLimited);
            return Err(Error::TooMany((until - now).max(std::time::Duration::from_secs(1))));
        }
    };
    let proves = |what| Ok(Proof { what, counted: Some(row) });
    if let Some(code) = recovery_code {
        let hash = recovery::hash(app, user_id, &code)?;
        if rows::has_code(&app.db, user_id, hash).await? {
            return proves(What::RecoveryCode(hash));
        }
        return wrong("not an unused recovery code");
    }
    let digits = digits.unwrap_or_default();
    for totp in rows::totp_of(&app.db, user_id).await? {
        let secret = app.keys.unseal(&totp_seal(&totp.id), &totp.secret_jwe)?;
        if let Some(step) = totp::matching_step(&secret, digits.as_bytes(), now)? {
            return proves(What::Totp { id: totp.id, step });
        }
    }
    wrong("not the code of the time")
}

/// The digits of a code as a person types them: `123 456`.
pub(super) fn digits(typed: &str) -> Option<String> {
    let digits: String = typed.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    let is_code = digits.len() == totp::DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_code.then_some(digits)
}

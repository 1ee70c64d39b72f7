//! The second step of a login: after the password, or another provider, which opens no session of a
//! user who has a second factor or must have one.
//!
//! What the first step has proven travels with the user as a sealed token: in an HttpOnly cookie of
//! the browser, or as the `mfaToken` of the JSON API. It is bound to the password, so that a change
//! of it ends the login, and worth nothing without a code.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    error::{Error, SecondFactorRequired},
    flows::{
        accounts::{
            deletion,
            known_sources::{self, Arrival, source_of, source_with},
            remembered_devices::Remember,
            second_factors::{
                self, Confirmation, Confirmed, passkeys,
                proof::{self, Proof},
            },
        },
        provisioning,
        sessions::open::{Cookie, PreparedSession},
        tokens::first_party::Tokens,
    },
    ids::UserId,
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        browser_session::BrowserSession,
        client::Source,
        device,
        user::{Deletion, User},
    },
    storage::{
        guesses::{self, GuessedAccount, Kind},
        known_sources::LoginSource,
        second_factors as rows, upstream_identities,
        users::{self, UserWithPassword},
    },
    telemetry::LoginOutcome,
};

/// Where a login takes place: a token of one place is worth nothing at the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Page,
    Api,
}

impl Place {
    const fn seal(self) -> &'static str {
        match self {
            Self::Page => "second-step-page",
            Self::Api => "second-step-api",
        }
    }
}

/// What the first step has proven.
#[derive(Serialize, Deserialize)]
struct Pending {
    user_id: UserId,
    /// The digest of the password hash that was verified.
    password: String,
    /// Microseconds since the epoch.
    at: i64,
    /// The login at another provider; `None`: the password was right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upstream: Option<UpstreamLogin>,
}

/// A login at another provider, as the first step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UpstreamLogin {
    /// The id of the user's identity.
    pub identity_id: String,
    /// When the user authenticated there, in microseconds since the epoch.
    pub authenticated_at: i64,
}

/// How a verified password is named in a sealed token.
pub(crate) fn digest(password_hash: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(password_hash))
}

/// The refusal of a login whose password was right.
pub(crate) async fn require(
    app: &App,
    user_id: &UserId,
    verified_hash: &str,
    place: Place,
) -> Result<SecondFactorRequired, Error> {
    require_after(app, user_id, verified_hash, place, None).await
}

/// As [`require`], after a login at another provider. `stored_hash`: so that a change of the
/// password ends this login too.
pub(crate) async fn require_after(
    app: &App,
    user_id: &UserId,
    stored_hash: &str,
    place: Place,
    upstream: Option<UpstreamLogin>,
) -> Result<SecondFactorRequired, Error> {
    let pending = Pending {
        user_id: user_id.to_owned(),
        password: digest(stored_hash),
        at: app.clock.now().micros(),
        upstream,
    };
    let content = serde_json::to_vec(&pending).map_err(|error| Error::Unavailable(error.into()))?;
    let methods = second_factors::overview(app, user_id).await?.methods();
    diagnostics::record("login.second_factor", "needed");
    Ok(SecondFactorRequired {
        token: app.keys.seal(place.seal(), &content)?,
        set_up: methods.is_empty(),
        methods,
        expires_in: app.config.second_factors.login_timeout.as_secs(),
    })
}

/// The user of a login that waits for its second step; `None` if the token is not of this place,
/// has expired, or the password or the user was changed since.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn waiting(
    app: &App,
    token: &str,
    place: Place,
) -> Result<Option<UserWithPassword>, Error> {
    Ok(pending(app, token, place).await?.map(|(account, _)| account))
}

/// As [`waiting`], with the first step.
async fn pending(
    app: &App,
    token: &str,
    place: Place,
) -> Result<Option<(UserWithPassword, Option<UpstreamLogin>)>, Error> {
    let pending = second_factors::unseal(app, place.seal(), token);
    let pending = pending.and_then(|content| serde_json::from_slice::<Pending>(&content).ok());
    let Some(pending) = pending else { return Ok(None) };
    if Timestamp(pending.at) + app.config.second_factors.login_timeout < app.clock.now() {
        diagnostics::record("login.second_factor", "the first step has expired");
        return Ok(None);
    }
    diagnostics::identify_user(&pending.user_id);
    let found = users::with_password_by_id(&app.db, &pending.user_id).await?;
    let found = found.filter(|found| {
        let may_log_in = found.user.disabled_at.is_none() || found.cancellable_deletion().is_some();
        may_log_in && digest(&found.password_hash) == pending.password
    });
    Ok(found.map(|found| (found, pending.upstream)))
}

/// What a user presents in the second step.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// The code of an authenticator app, or a recovery code.
    Code(&'a str),
    /// A passkey: the token of its challenge, and the browser's answer.
    Passkey { token: &'a str, credential: &'a str },
    /// The factor that a user without one sets up.
    SetUp(Confirmation<'a>),
}

/// A login that is complete.
#[derive(Debug)]
pub struct Completed<T> {
    pub session: T,
    /// Of a factor that was set up: shown once.
    pub recovery_codes: Option<Vec<String>>,
}

enum Step {
    Proof(Proof),
    SetUp(Confirmed),
}

impl Step {
    const fn amr(&self) -> &'static [&'static str] {
        match self {
            Self::Proof(proof) => proof.amr(),
            Self::SetUp(confirmed) => confirmed.amr(),
        }
    }

    /// The methods of a login at another provider and this: how the user authenticated there, this
    /// server does not know.
    const fn further_amr(&self) -> &'static [&'static str] {
        match self {
            Self::Proof(proof) => proof.further_amr(),
            Self::SetUp(confirmed) => confirmed.further_amr(),
        }
    }
}

async fn check(
    app: &App,
    account: &UserWithPassword,
    answer: Answer<'_>,
    context: &RequestContext,
) -> Result<Step, Error> {
    let user_id = &account.user.id;
    match answer {
        Answer::Code(code) => {
            Ok(Step::Proof(proof::check(app, user_id, code, &source_of(context)).await?))
        }
        Answer::Passkey { token, credential } => {
            Ok(Step::Proof(passkeys::check(app, user_id, token, credential).await?))
        }
        // Otherwise the password alone would replace the factor.
        Answer::SetUp(_) if account.second_factor.exists => {
            Err(Error::field("setupToken", "the account has a second factor: send its code alone"))
        }
        Answer::SetUp(confirmation) => {
            app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
            Ok(Step::SetUp(confirmation.check(app, user_id).await?))
        }
    }
}

/// Completes a login at the first-party API.
///
/// # Errors
/// [`Error::LoginExpired`] for the token; [`Error::WrongCode`], [`Error::TooMany`],
/// [`Error::Validation`].
pub async fn log_in(
    app: &App,
    token: &str,
    answer: Answer<'_>,
    context: &RequestContext,
) -> Result<Completed<Tokens>, Error> {
    let account = waiting(app, token, Place::Api).await?.ok_or(Error::LoginExpired)?;
    let step = check(app, &account, answer, context).await?;
    let user = account.user.clone();
    let (session, tokens) = PreparedSession::api(app, user, step.amr(), context).await?;
    let source = source_of(context);
    let details = LoginDetails { upstream: None, source: &source, remember: None };
    let recovery_codes = store(app, account, details, step, session, context).await?;
    app.metrics.token_issued("login", Source::BuiltIn);
    Ok(Completed { session: tokens, recovery_codes })
}

/// Whether the browser of a pending login may be remembered: its user has a factor by choice, and
/// logs in with the password.
pub fn may_be_remembered(app: &App, token: &str, account: &UserWithPassword) -> bool {
    let pending = second_factors::unseal(app, Place::Page.seal(), token);
    let pending = pending.and_then(|content| serde_json::from_slice::<Pending>(&content).ok());
    pending.is_some_and(|pending| is_memorable(app, pending.upstream.as_ref(), account))
}

fn is_memorable(app: &App, upstream: Option<&UpstreamLogin>, account: &UserWithPassword) -> bool {
    let factor = account.second_factor;
    let is_on = !app.config.second_factors.remember_for.is_zero();
    is_on && upstream.is_none() && factor.exists && !factor.is_required
}

/// As [`log_in`], in a browser, whose session replaces the one of the cookie `previous`.
/// `remembered`: the user asks to be remembered; the cookies by which others already are.
///
/// # Errors
/// As [`log_in`].
pub async fn log_in_browser(
    app: &App,
    token: &str,
    answer: Answer<'_>,
    (previous, remembered): (Option<&str>, Option<&[String]>),
    context: &RequestContext,
) -> Result<Completed<Cookie>, Error> {
    let (account, upstream) = pending(app, token, Place::Page).await?.ok_or(Error::LoginExpired)?;
    let step = check(app, &account, answer, context).await?;
    let user = account.user.clone();
    let amr = if upstream.is_some() { step.further_amr() } else { step.amr() };
    let (mut session, mut cookie) = PreparedSession::browser(app, user, amr, previous, context);
    if let Some(upstream) = &upstream {
        session = session.authenticated_at(Timestamp(upstream.authenticated_at));
    }
    let source = source_with(context, &cookie);
    let device = cookie.device.as_deref().map(device::hash).or_else(|| context.device.clone());
    let remember = match (remembered, device) {
        (Some(known), Some(device)) if is_memorable(app, upstream.as_ref(), &account) => {
            Some(Remember::new(app, device, known))
        }
        _ => None,
    };
    cookie.remembered = remember.as_ref().map(|remember| remember.cookie().to_owned());
    let details = LoginDetails { upstream, source: &source, remember };
    let recovery_codes = store(app, account, details, step, session, context).await?;
    Ok(Completed { session: cookie, recovery_codes })
}

/// What is stored beside the session.
struct LoginDetails<'a> {
    upstream: Option<UpstreamLogin>,
    source: &'a LoginSource,
    remember: Option<Remember<'a>>,
}

/// Stores the session, unless the code was used meanwhile, or the account was changed.
async fn store(
    app: &App,
    account: UserWithPassword,
    LoginDetails { upstream, source, remember }: LoginDetails<'_>,
    step: Step,
    session: PreparedSession,
    context: &RequestContext,
) -> Result<Option<Vec<String>>, Error> {
    if let Some(deletion) = account.cancellable_deletion() {
        return Err(offer(app, account, deletion, step, context).await?);
    }
    let UserWithPassword { user, password_hash, .. } = account;
    let has_factor = matches!(step, Step::Proof(_));
    let by_passkey = matches!(&step, Step::Proof(proof) if proof.is_passkey());
    let upstream_or_passkey = upstream.is_some() || by_passkey;
    let mut tx = app.begin(&Actor::caller(&user.id, context)).await?;
    let now = tx.now();
    // Also fails where the user has got or lost a factor since.
    if !users::record_login(&mut tx, &user.id, &password_hash, None, has_factor, now).await? {
        return Err(Error::LoginExpired);
    }
    if let Some(UpstreamLogin { identity_id, .. }) = upstream
        && !upstream_identities::record_login(&mut tx, &user.id, &identity_id, now).await?
    {
        return Err(Error::LoginExpired);
    }
    if upstream_or_passkey {
        guesses::end_row(&mut tx, &GuessedAccount::user(&user.id), Kind::Password).await?;
    }
    let recovery_codes = match step {
        Step::Proof(proof) => {
            let accepted = proof.accept(&mut tx, &user.id).await?;
            proof.counted(app, accepted);
            if !accepted {
                tx.rollback().await?;
                return Err(Error::WrongCode);
            }
            None
        }
        Step::SetUp(confirmed) => {
            let locked = rows::lock(&mut tx, &user.id).await?.ok_or(Error::LoginExpired)?;
            second_factors::add(app, &mut tx, &user.id, confirmed, locked).await?.recovery_codes
        }
    };
    let login = Arrival { user: &user, source, last_seen: None, context: Some(context) };
    let is_told = known_sources::remember(app, &mut tx, login).await?;
    if let Some(remember) = remember {
        remember.store(app, &mut tx, &user.id, context).await?;
    }
    session.store(&mut tx, "user.login").await?;
    tx.commit().await?;
    if is_told {
        app.mails_waiting.notify_one();
    }
    app.metrics.login(LoginOutcome::Ok);
    Ok(recovery_codes)
}

/// The answer to a user whose account waits to be deleted: no session, but the offer to cancel.
async fn offer(
    app: &App,
    account: UserWithPassword,
    deletion: Deletion,
    step: Step,
    context: &RequestContext,
) -> Result<Error, Error> {
    let UserWithPassword { user, password_hash, .. } = account;
    let Step::Proof(proof) = step else { return Err(Error::LoginExpired) };
    let mut tx = app.begin(&Actor::caller(&user.id, context)).await?;
    let accepted = proof.accept(&mut tx, &user.id).await?;
    proof.counted(app, accepted);
    if !accepted {
        tx.rollback().await?;
        return Err(Error::WrongCode);
    }
    tx.commit().await?;
    deletion::offer(app, &user, &password_hash, deletion)
}

/// Logs in by a passkey alone to the first-party API.
///
/// # Errors
/// [`Error::InvalidPasskey`], [`Error::TooMany`], [`Error::AccountPending`].
pub async fn log_in_by_passkey(
    app: &App,
    token: &str,
    credential: &str,
    context: &RequestContext,
) -> Result<Tokens, Error> {
    let (account, proof) = identified(app, token, credential).await?;
    let user = account.user.clone();
    let (session, tokens) = PreparedSession::api(app, user, proof.further_amr(), context).await?;
    store_passkey(app, account, proof, session, &source_of(context), context).await?;
    app.metrics.token_issued("login", Source::BuiltIn);
    Ok(tokens)
}

/// As [`log_in_by_passkey`], in a browser, whose session replaces the one of the cookie `previous`.
///
/// # Errors
/// As [`log_in_by_passkey`].
pub async fn log_in_browser_by_passkey(
    app: &App,
    token: &str,
    credential: &str,
    previous: Option<&str>,
    context: &RequestContext,
) -> Result<Cookie, Error> {
    let (account, proof) = identified(app, token, credential).await?;
    let user = account.user.clone();
    let amr = proof.further_amr();
    let (session, cookie) = PreparedSession::browser(app, user, amr, previous, context);
    let source = source_with(context, &cookie);
    store_passkey(app, account, proof, session, &source, context).await?;
    Ok(cookie)
}

/// As [`store`]. There is no first step that could have expired, and no code.
async fn store_passkey(
    app: &App,
    account: UserWithPassword,
    proof: Proof,
    session: PreparedSession,
    source: &LoginSource,
    context: &RequestContext,
) -> Result<(), Error> {
    let details = LoginDetails { upstream: None, source, remember: None };
    match store(app, account, details, Step::Proof(proof), session, context).await {
        Ok(_) => Ok(()),
        Err(Error::LoginExpired | Error::WrongCode) => Err(Error::InvalidPasskey),
        Err(other) => Err(other),
    }
}

/// The enabled user of a passkey.
async fn identified(
    app: &App,
    token: &str,
    credential: &str,
) -> Result<(UserWithPassword, Proof), Error> {
    let (user_id, proof) = passkeys::identify(app, token, credential).await?;
    let account = users::with_password_by_id(&app.db, &user_id).await?;
    let account = account.filter(|account| {
        account.user.disabled_at.is_none() || account.cancellable_deletion().is_some()
    });
    let account = account.ok_or(Error::InvalidPasskey)?;
    if provisioning::is_pending(app, &user_id).await? {
        return Err(Error::AccountPending);
    }
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    Ok((account, proof))
}

/// Asks a user who is logged in with the password only for the second step: the session continues
/// under a new cookie.
///
/// # Errors
/// [`Error::WrongCode`], [`Error::TooMany`]; [`Error::LoginExpired`] where the browser was logged
/// out meanwhile.
pub async fn step_up(
    app: &App,
    browser: &BrowserSession,
    answer: Answer<'_>,
    context: &RequestContext,
) -> Result<Cookie, Error> {
    let user_id = &browser.user.id;
    let proof = match answer {
        Answer::Code(code) => proof::check(app, user_id, code, &source_of(context)).await?,
        Answer::Passkey { token, credential } => {
            passkeys::check(app, user_id, token, credential).await?
        }
        // Confirmed where factors are managed.
        Answer::SetUp(_) => return Err(Error::WrongCode),
    };
    let mut tx = app.begin(&Actor::caller(user_id, context)).await?;
    let cookie = second_factors::step_up(app, &mut tx, browser, proof.further_amr()).await?;
    let accepted = proof.accept(&mut tx, user_id).await?;
    proof.counted(app, accepted);
    if !accepted {
        tx.rollback().await?;
        return Err(Error::WrongCode);
    }
    let detail = json!({ "browserSessionId": browser.id });
    tx.audit("user.second_factor", Some(user_id), detail).await?;
    tx.commit().await?;
    Ok(cookie)
}

/// Asks for a passkey in a login that waits for its second step.
///
/// # Errors
/// [`Error::LoginExpired`]; [`Error::Conflict`] for a user without a passkey.
pub async fn passkey(app: &App, token: &str) -> Result<passkeys::Challenge, Error> {
    let account = waiting(app, token, Place::Api).await?.ok_or(Error::LoginExpired)?;
    let challenge = passkeys::begin_second_step(app, &account.user.id).await?;
    challenge.ok_or(Error::Conflict("the account has no passkey: send a code"))
}

/// Begins to set up an authenticator app for a login that must have one.
///
/// # Errors
/// [`Error::LoginExpired`]; [`Error::Conflict`] for a user who has a factor.
pub async fn set_up(app: &App, token: &str) -> Result<(User, second_factors::SetUp), Error> {
    let account = waiting(app, token, Place::Api).await?.ok_or(Error::LoginExpired)?;
    if account.second_factor.exists {
        return Err(Error::Conflict("the account has a second factor: send its code"));
    }
    let set_up = second_factors::set_up(app, &account.user)?;
    Ok((account.user, set_up))
}

//! Login by email address or username and password.

use serde_json::json;

use crate::{
    app::App,
    diagnostics,
    error::{Error, FieldError},
    flows::{
        accounts::{
            deletion,
            guesses::{self, Guess, Right},
            known_sources::{self, Arrival, source_of, source_of_actor, source_with},
            remembered_devices,
            second_factors::proof,
            second_step::{self, Place},
        },
        provisioning,
        sessions::open::{Cookie, PreparedSession},
        tokens::first_party::Tokens,
    },
    ids::UserId,
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        authentication::PASSWORD,
        client::Source,
        user::{Deletion, Login, User, UserRecord},
    },
    password::{MAX_BYTES, NO_PASSWORD, Verdict, kind_of_hash},
    storage::{
        guesses::GuessedAccount,
        known_sources::{LastSeen, LoginSource},
        remembered_devices as remembered_rows,
        users::{self, SecondFactorState, UserWithPassword},
    },
    telemetry::LoginOutcome,
};

/// The actor of what a login leaves in the audit log before it has succeeded.
const ANONYMOUS: &str = "anonymous";

/// The account that a request logs in to: an email address or a username, in any of three fields.
/// Empty fields count as absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identifiers<'a> {
    pub login: &'a str,
    pub email: &'a str,
    pub username: &'a str,
}

/// A field and what it holds.
type Identifier<'a> = (&'static str, &'a str);

impl<'a> Identifiers<'a> {
    /// The first identifier and the others.
    fn split(self) -> Result<(Identifier<'a>, Vec<Identifier<'a>>), Error> {
        let fields = [("login", self.login), ("email", self.email), ("username", self.username)];
        let too_long = fields.iter().find(|(_, text)| text.len() > 1024);
        if let Some((field, _)) = too_long {
            return Err(Error::field(field, "must have at most 254 characters"));
        }
        let mut given = fields.into_iter().filter(|(_, text)| !text.trim().is_empty());
        let first = given.next().ok_or_else(|| {
            Error::field("login", "is required: send an email address or a username")
        })?;
        Ok((first, given.collect()))
    }
}

/// Logs in to the first-party API.
///
/// An unknown login, a wrong password and a disabled account take the same work and get the same
/// response.
///
/// # Errors
/// [`Error::InvalidCredentials`], [`Error::AccountPending`], those of the limits,
/// [`Error::SecondFactorRequired`] where the password is right and more is needed, and
/// [`Error::Validation`]: without an identifier, and where the password is right but a further
/// identifier is not that account's.
pub async fn login(
    app: &App,
    identifiers: Identifiers<'_>,
    password: &str,
    context: &RequestContext,
) -> Result<Tokens, Error> {
    let anonymous = Actor::caller(ANONYMOUS, context);
    let opened = async {
        loop {
            let authenticated = authenticate(app, identifiers, password, &anonymous, true).await?;
            if authenticated.needs_second_factor() {
                match authenticated.second_step(app, Place::Api, context).await? {
                    Some(required) => return Err(required),
                    None => continue,
                }
            }
            authenticated.must_not_be_deleted(app, &anonymous).await?;
            let user = authenticated.user.clone();
            let (session, tokens) = PreparedSession::api(app, user, &[PASSWORD], context).await?;
            let source = source_of(context);
            if open(app, authenticated, session, &source, None, context).await? {
                app.metrics.token_issued("login", Source::BuiltIn);
                return Ok(tokens);
            }
        }
    };
    counted(app, opened.await)
}

/// As [`login`], in a browser, whose session replaces the one of the cookie `previous`.
/// `remembered`: the cookies of remembered devices; a user who is remembered by one is not asked
/// for the second factor.
///
/// # Errors
/// As [`login`].
pub async fn login_browser(
    app: &App,
    login: &str,
    password: &str,
    (previous, remembered): (Option<&str>, &[String]),
    context: &RequestContext,
) -> Result<Cookie, Error> {
    let anonymous = Actor::caller(ANONYMOUS, context);
    let opened = async {
        let identifiers = Identifiers { login, ..Identifiers::default() };
        loop {
            let authenticated = authenticate(app, identifiers, password, &anonymous, true).await?;
            let device = match authenticated.may_be_remembered() {
                true => {
                    let user_id = &authenticated.user.id;
                    remembered_devices::find(app, user_id, remembered, context).await?
                }
                false => None,
            };
            if authenticated.needs_second_factor() && device.is_none() {
                match authenticated.second_step(app, Place::Page, context).await? {
                    Some(required) => return Err(required),
                    None => continue,
                }
            }
            authenticated.must_not_be_deleted(app, &anonymous).await?;
            let user = authenticated.user.clone();
            let (session, cookie) =
                PreparedSession::browser(app, user, &[PASSWORD], previous, context);
            let source = source_with(context, &cookie);
            if open(app, authenticated, session, &source, device.as_deref(), context).await? {
                return Ok(cookie);
            }
        }
    };
    counted(app, opened.await)
}

/// Verifies a password for a trusted back end, which `actor` names, and opens no session. Limits,
/// work and response are those of [`login`]. `code`: of the second factor of a user who has one; the
/// password alone is not enough.
///
/// # Errors
/// As [`login`].
pub async fn verify_password(
    app: &App,
    login: &str,
    password: &str,
    code: Option<&str>,
    actor: &Actor,
) -> Result<UserRecord, Error> {
    let identifiers = Identifiers { login, ..Identifiers::default() };
    let source = source_of_actor(actor);
    let verified = async {
        loop {
            let authenticated = authenticate(app, identifiers, password, actor, false).await?;
            let proof = match (authenticated.needs_second_factor(), code) {
                (false, _) => None,
                (true, Some(code)) if authenticated.second_factor.exists => {
                    authenticated.forget_guesses(app, actor).await?;
                    let user_id = &authenticated.user.id;
                    Some(proof::check(app, user_id, code, &source).await?)
                }
                (true, _) => {
                    authenticated.forget_guesses(app, actor).await?;
                    let (user_id, hash) = (&authenticated.user.id, &authenticated.verified_hash);
                    let required = second_step::require(app, user_id, hash, Place::Api).await?;
                    return Err(Error::SecondFactorRequired(Box::new(required)));
                }
            };
            let Authenticated { user, verified_hash, rehashed, guess, last_seen, .. } =
                authenticated;
            let was_outdated = rehashed.is_some();
            let mut tx = app.begin(actor).await?;
            let (now, has_factor) = (tx.now(), proof.is_some());
            if users::record_login(&mut tx, &user.id, &verified_hash, rehashed, has_factor, now)
                .await?
            {
                if let Some(proof) = proof {
                    let accepted = proof.accept(&mut tx, &user.id).await?;
                    proof.counted(app, accepted);
                    if !accepted {
                        tx.rollback().await?;
                        return Err(Error::WrongCode);
                    }
                }
                guess.forget(&mut tx).await?;
                let login = Arrival { user: &user, source: &source, last_seen, context: None };
                known_sources::remember(app, &mut tx, login).await?;
                tx.audit("user.verify_password", Some(&user.id), json!({})).await?;
                tx.commit().await?;
                let record = users::record_by_id(&app.db, &user.id).await?;
                return record.ok_or(Error::InvalidCredentials);
            }
            // As in `open`.
            if !was_outdated {
                return Err(Error::InvalidCredentials);
            }
        }
    };
    counted(app, verified.await)
}

/// Checks the password of a user who is logged in, or who holds a token of a mail. Counts against
/// the limit of logins.
///
/// # Errors
/// [`Error::InvalidCredentials`] for a wrong password; [`Error::NoPassword`]; [`Error::TooMany`],
/// [`Error::Overloaded`].
pub(crate) async fn check_password(
    app: &App,
    user_id: &UserId,
    password: &str,
    context: &RequestContext,
) -> Result<(), Error> {
    verified_hash(app, user_id, password, context).await.map(drop)
}

/// As [`check_password`]; returns the hash that the password was verified against.
pub(crate) async fn verified_hash(
    app: &App,
    user_id: &UserId,
    password: &str,
    context: &RequestContext,
) -> Result<String, Error> {
    if password.len() > MAX_BYTES {
        let message = format!("a password has at most {MAX_BYTES} bytes");
        return Err(Error::Validation(vec![FieldError { field: "password", message }]));
    }
    let stored = users::password_hash(&app.db, user_id).await?;
    if stored.as_deref() == Some(NO_PASSWORD) {
        return Err(Error::NoPassword);
    }
    let (account, actor) = (GuessedAccount::user(user_id), Actor::caller(user_id, context));
    let guess = Guess::begin(app, account, source_of(context), None).await?;
    let verdict = app.hasher.verify(password, stored.as_deref()).await?;
    diagnostics::record("login.password", format_args!("{verdict:?}"));
    match (stored, verdict) {
        (Some(hash), Verdict::Right | Verdict::RightButOutdated) => {
            guess.right(app).forget_now(app, &actor).await?;
            Ok(hash)
        }
        _ => {
            guess.wrong(app, &actor).await?;
            Err(Error::InvalidCredentials)
        }
    }
}

fn counted<T>(app: &App, outcome: Result<T, Error>) -> Result<T, Error> {
    app.metrics.login(match &outcome {
        Ok(_) => LoginOutcome::Ok,
        Err(Error::TooMany(_)) => LoginOutcome::RateLimited,
        Err(Error::Overloaded) => LoginOutcome::Overloaded,
        Err(Error::InvalidCredentials) => LoginOutcome::WrongCredentials,
        Err(Error::SecondFactorRequired(_)) => LoginOutcome::SecondFactorRequired,
        Err(Error::DeletionPending(_)) => LoginOutcome::DeletionPending,
        Err(_) => LoginOutcome::Error,
    });
    outcome
}

/// A user whose password was right.
struct Authenticated {
    user: User,
    /// The hash that the password was verified against.
    verified_hash: String,
    /// The hash by today's parameters, where the stored one is outdated.
    rehashed: Option<String>,
    second_factor: SecondFactorState,
    guess: Right,
    last_seen: Option<LastSeen>,
    /// The account is disabled because it waits to be deleted.
    deletion: Option<Deletion>,
}

impl Authenticated {
    /// Forgets wrong passwords before this one, where no session is opened.
    async fn forget_guesses(&self, app: &App, actor: &Actor) -> Result<(), Error> {
        self.guess.forget_now(app, actor).await
    }

    /// Whether the password alone is not enough.
    const fn needs_second_factor(&self) -> bool {
        // Before the deletion is cancelled, no factor is set up.
        self.second_factor.exists || (self.second_factor.is_required && self.deletion.is_none())
    }

    /// Whether a browser in which the user has asked for it needs the password only.
    const fn may_be_remembered(&self) -> bool {
        // The password alone does not cancel a deletion.
        self.second_factor.exists && !self.second_factor.is_required && self.deletion.is_none()
    }

    /// Answers the login of a user who has requested the deletion with the offer to cancel it.
    async fn must_not_be_deleted(&self, app: &App, actor: &Actor) -> Result<(), Error> {
        let Some(deletion) = self.deletion else { return Ok(()) };
        self.forget_guesses(app, actor).await?;
        Err(deletion::offer(app, &self.user, &self.verified_hash, deletion)?)
    }

    /// The refusal that names the second step; `None` if the password was changed meanwhile. An
    /// outdated hash is replaced now: the second step does not know the password.
    async fn second_step(
        self,
        app: &App,
        place: Place,
        context: &RequestContext,
    ) -> Result<Option<Error>, Error> {
        self.forget_guesses(app, &Actor::caller(&self.user.id, context)).await?;
        let Self { user, mut verified_hash, rehashed, .. } = self;
        if let Some(renewed) = rehashed {
            let mut tx = app.begin(&Actor::caller(&user.id, context)).await?;
            if !users::renew_hash(&mut tx, &user.id, &verified_hash, &renewed).await? {
                return Ok(None);
            }
            tx.commit().await?;
            verified_hash = renewed;
        }
        let required = second_step::require(app, &user.id, &verified_hash, place).await?;
        Ok(Some(Error::SecondFactorRequired(Box::new(required))))
    }
}

/// `actor`: whom the audit log names if there are too many wrong passwords. `offers_to_keep`: the
/// user of an account that waits to be deleted is not refused.
async fn authenticate(
    app: &App,
    identifiers: Identifiers<'_>,
    password: &str,
    actor: &Actor,
    offers_to_keep: bool,
) -> Result<Authenticated, Error> {
    if password.len() > MAX_BYTES {
        let message = format!("a password has at most {MAX_BYTES} bytes");
        return Err(Error::Validation(vec![FieldError { field: "password", message }]));
    }
    let ((first_field, first), others) = identifiers.split()?;
    let login = Login::parse(first);
    let (unknown, source) = (guesses::unknown(app, &login)?, source_of_actor(actor));
    let users::LoginCandidate { user: found, other_hash, guesses: known } =
        users::login_candidate(&app.db, &login, &unknown, &source).await?;
    // Email and username of one account share one count.
    let account = found.as_ref().map_or(unknown, |found| GuessedAccount::user(&found.user.id));
    let last_seen = known.as_ref().map(|known| known.last_seen);
    let guess = Guess::begin(app, account, source, known).await?;

    if let Some(found) = &found {
        diagnostics::identify_user(&found.user.id);
    }
    let stored = found.as_ref().map(|found| found.password_hash.as_str());
    let (verdict, hash) = match stored {
        Some(stored) => (app.hasher.verify(password, Some(stored)).await?, Some(stored)),
        None => {
            app.hasher.verify_unknown(password, other_hash.as_deref()).await?;
            (Verdict::Wrong, other_hash.as_deref())
        }
    };
    diagnostics::record("login.account", stored.map_or("unknown", |_| "known"));
    diagnostics::record("login.hash", hash.map_or("argon2", kind_of_hash));
    diagnostics::record("login.password", format_args!("{verdict:?}"));
    let (Some(found), Verdict::Right | Verdict::RightButOutdated) = (found, verdict) else {
        guess.wrong(app, actor).await?;
        return Err(Error::InvalidCredentials);
    };
    let deletion = found.cancellable_deletion().filter(|_| offers_to_keep);
    if found.user.disabled_at.is_some() && deletion.is_none() {
        diagnostics::record("user.disabled", true);
        // As a wrong password, in every respect.
        guess.wrong(app, actor).await?;
        return Err(Error::InvalidCredentials);
    }
    let guess = guess.right(app);
    // Only now, to a caller who knows this account's password: earlier, the response would tell
    // anybody which accounts exist and which email address belongs to which username.
    for (field, text) in others {
        let other = users::by_login(&app.db, &Login::parse(text)).await?;
        if other.is_none_or(|other| other.user.id != found.user.id) {
            diagnostics::record("login.mismatch", format_args!("{first_field}, {field}"));
            let message =
                format!("is not of the same account as `{first_field}`: send one of them");
            // The password was right all the same.
            guess.forget_now(app, actor).await?;
            return Err(Error::field(field, message));
        }
    }
    if provisioning::is_pending(app, &found.user.id).await? {
        guess.forget_now(app, actor).await?;
        return Err(Error::AccountPending);
    }
    let rehashed = match verdict {
        Verdict::RightButOutdated => Some(app.hasher.hash(password, &app.rng).await?),
        _ => None,
    };
    app.admit(Limit::Writes, &Key::user(found.user.id.as_bytes()))?;
    let UserWithPassword { user, password_hash, second_factor, .. } = found;
    Ok(Authenticated {
        user,
        verified_hash: password_hash,
        rehashed,
        second_factor,
        guess,
        last_seen,
        deletion,
    })
}

/// Stores the session, unless the password was changed or the account disabled meanwhile: that is an
/// error if the hash was up to date, and `false` if it was outdated. Then a concurrent login may have
/// replaced it, and the password is verified again. `device`: what is remembered in place of the
/// second factor; `false` also where it was forgotten meanwhile.
async fn open(
    app: &App,
    authenticated: Authenticated,
    session: PreparedSession,
    source: &LoginSource,
    device: Option<&str>,
    context: &RequestContext,
) -> Result<bool, Error> {
    let Authenticated { user, verified_hash, rehashed, guess, last_seen, .. } = authenticated;
    let was_outdated = rehashed.is_some();
    let mut tx = app.begin(&Actor::caller(&user.id, context)).await?;
    let now = tx.now();
    let has_factor = device.is_some();
    if !users::record_login(&mut tx, &user.id, &verified_hash, rehashed, has_factor, now).await? {
        return if was_outdated { Ok(false) } else { Err(Error::InvalidCredentials) };
    }
    if let Some(device) = device {
        // It may have been forgotten meanwhile, for example by a logout everywhere: then the second
        // factor is asked for.
        if !remembered_rows::record_use(&mut tx, device, now).await? {
            return Ok(false);
        }
        diagnostics::record("login.second_factor", "the device is remembered");
    }
    guess.forget(&mut tx).await?;
    let login = Arrival { user: &user, source, last_seen, context: Some(context) };
    let is_told = known_sources::remember(app, &mut tx, login).await?;
    session.store(&mut tx, "user.login").await?;
    tx.commit().await?;
    if is_told {
        app.mails_waiting.notify_one();
    }
    Ok(true)
}

//! Login by email address or username and password.

use crate::{
    app::App,
    diagnostics,
    error::{Error, FieldError},
    flows::sessions::Opening,
    limits::{Key, Limit},
    model::{
        actor::RequestContext,
        user::{Login, User},
    },
    password::{MAX_BYTES, Verdict},
    storage::users,
    telemetry::LoginOutcome,
};

/// Opens a session for whoever knows the password; `prepare` says of which kind.
///
/// An unknown login, a wrong password and a disabled account take the same work and get the same answer.
///
/// # Errors
/// [`Error::InvalidCredentials`] and what limits say.
pub async fn login<T: Send + 'static, F>(
    app: &App,
    login: &str,
    password: &str,
    caller: &RequestContext,
    prepare: impl FnOnce(User) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<Opening<T>, Error>>,
{
    let outcome = attempt(app, login, password, caller, prepare).await;
    app.metrics.login(match &outcome {
        Ok(_) => LoginOutcome::Ok,
        Err(Error::TooMany(_)) => LoginOutcome::RateLimited,
        Err(Error::Overloaded) => LoginOutcome::Overloaded,
        Err(Error::InvalidCredentials) => LoginOutcome::WrongCredentials,
        Err(_) => LoginOutcome::Error,
    });
    outcome
}

async fn attempt<T: Send + 'static, F>(
    app: &App,
    login: &str,
    password: &str,
    caller: &RequestContext,
    prepare: impl FnOnce(User) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<Opening<T>, Error>>,
{
    if password.len() > MAX_BYTES {
        let message = format!("a password has at most {MAX_BYTES} bytes");
        return Err(Error::Validation(vec![FieldError { field: "password", message }]));
    }
    if login.len() > 1024 {
        let message = "a login has at most 254 characters".to_owned();
        return Err(Error::Validation(vec![FieldError { field: "login", message }]));
    }
    let login = Login::parse(login);
    let found = users::by_login(&app.db, &login).await?;
    // Email and username of one account share one count of guesses; a guess counts before it is checked,
    // so that a hundred at once are not a hundred checked.
    let account = match &found {
        Some(found) => Key::user(found.user.id.as_bytes()),
        None => Key::unknown_login(login.as_str()),
    };
    app.admit(Limit::LoginAccount, &account)?;

    let stored = found.as_ref().map(|found| found.password_hash.as_str());
    let verdict = app.hasher.verify(password, stored).await?;
    diagnostics::record("login.account", stored.map_or("unknown", |_| "known"));
    diagnostics::record("login.password", format_args!("{verdict:?}"));
    let (Some(found), Verdict::Right | Verdict::RightButOutdated) = (found, verdict) else {
        return Err(Error::InvalidCredentials);
    };
    if found.user.disabled_at.is_some() {
        diagnostics::record("user.disabled", true);
        return Err(Error::InvalidCredentials);
    }
    let rehashed = match verdict {
        Verdict::RightButOutdated => Some(app.hasher.hash(password, &app.rng).await?),
        _ => None,
    };
    app.limits.login_account.refund(&account);

    let now = app.clock.now();
    let user_id = found.user.id.clone();
    let Opening { row, given } = prepare(found.user).await?;
    let (event_id, caller) = (app.new_id(), caller.clone());
    let verified_hash = found.password_hash;
    let stands = app
        .db
        .transaction(move |mut tx| {
            Box::pin(async move {
                if !users::record_login(&mut tx, &user_id, &verified_hash, rehashed, now).await? {
                    return Ok(false);
                }
                row.store(&mut tx, event_id, "user.login", &caller, now).await?;
                Ok(true)
            })
        })
        .await?;
    if stands { Ok(given) } else { Err(Error::InvalidCredentials) }
}

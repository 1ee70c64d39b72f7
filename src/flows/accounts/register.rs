//! Registration: a new account and its first session, in one transaction with their events.

use crate::{
    app::App,
    error::{Error, FieldError},
    flows::sessions::Opening,
    limits::{Key, Limit},
    model::{
        actor::RequestContext,
        event::Event,
        user::{Email, Login, Role, User, Username},
    },
    storage::{
        self, Conflict, outbox,
        users::{self, NewUser},
    },
};

/// What somebody who registers gives.
#[derive(Debug)]
pub struct Registration {
    pub email: String,
    pub username: Option<String>,
    pub password: String,
}

/// Makes an account and logs it in; `prepare` says by which kind of session.
///
/// # Errors
/// [`Error::Validation`], [`Error::EmailTaken`], [`Error::UsernameTaken`], [`Error::NotCreated`] and what
/// limits say.
pub async fn register<T: Send + 'static, F>(
    app: &App,
    registration: Registration,
    caller: &RequestContext,
    prepare: impl FnOnce(User) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<Opening<T>, Error>>,
{
    if !app.config.registration.enabled {
        return Err(Error::RegistrationDisabled);
    }
    app.admit(Limit::Register, &Key::address(caller.address))?;
    let account = validate(app, registration).await?;
    let hash = app.hasher.hash(&account.password, &app.rng).await?;
    let now = app.clock.now();
    let user = User {
        id: app.new_id(),
        email: account.email.address.clone(),
        username: account.username.as_ref().map(|username| username.name.clone()),
        role: Role::user(),
        is_verified: false,
        created_at: now,
        disabled_at: None,
    };
    let email = account.email.canonical.clone();
    let new = NewUser {
        id: user.id.clone(),
        email: account.email,
        username: account.username,
        password_hash: hash,
        role: Role::user(),
    };
    let Opening { row, given } = prepare(user).await?;
    let (event_ids, caller) = ([app.new_id(), app.new_id()], caller.clone());
    let stored = app
        .db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let [user_event, session_event] = event_ids;
                let user = users::insert(&mut tx, new, now).await?;
                let event = Event::user_created(&user);
                outbox::add(&mut tx, user_event, &event, Some(&caller.correlation_id), now).await?;
                row.store(&mut tx, session_event, "user.register", &caller, now).await
            })
        })
        .await;
    match stored {
        Ok(()) => {
            app.metrics.registrations.inc();
            Ok(given)
        }
        Err(storage::Error::Conflict(Conflict::Email)) => Err(Error::EmailTaken),
        // Where both are taken, the databases differ in which they name first; the address goes first here.
        Err(storage::Error::Conflict(Conflict::Username)) => {
            match users::by_login(&app.db, &Login::Email(email)).await? {
                Some(_) => Err(Error::EmailTaken),
                None => Err(Error::UsernameTaken),
            }
        }
        Err(other) => Err(Error::NotCreated(other.into())),
    }
}

/// An account's fields, each found good.
pub(crate) struct Account {
    pub email: Email,
    pub username: Option<Username>,
    pub password: String,
}

/// Checks every field, so that a form can show all that is wrong at once.
pub(crate) async fn validate(app: &App, registration: Registration) -> Result<Account, Error> {
    let mut errors = vec![];
    let mut refuse = |field, message: String| errors.push(FieldError { field, message });
    let email =
        Email::parse(&registration.email).map_err(|why| refuse("email", why.to_owned())).ok();
    // An empty field of a form is a field not filled in.
    let typed = registration.username.as_deref().filter(|typed| !typed.is_empty());
    let username =
        typed.map(Username::parse).transpose().map_err(|why| refuse("username", why.to_owned()));
    let about: Vec<&str> = [Some(registration.email.as_str()), typed]
        .into_iter()
        .flatten()
        .filter(|t| t.len() <= 1024)
        .collect();
    if let Err(reasons) = app.hasher.check(&app.policy, &registration.password, &about).await? {
        reasons.into_iter().for_each(|reason| refuse("password", reason));
    }
    match (email, username) {
        (Some(email), Ok(username)) if errors.is_empty() => {
            Ok(Account { email, username, password: registration.password })
        }
        _ => Err(Error::Validation(errors)),
    }
}

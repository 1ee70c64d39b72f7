//! Registration: a new account and its first session, in one transaction with their events.

use crate::{
    app::App,
    diagnostics,
    error::{Error, FieldError},
    flows::{
        accounts::password,
        provisioning,
        sessions::open::{Cookie, PreparedSession},
        tokens::first_party::Tokens,
    },
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        client::Source,
        event::Event,
        user::{Email, Login, Role, User, Username},
    },
    storage::{
        self, Conflict,
        users::{self, NewUser},
    },
};

/// The fields of a registration.
#[derive(Debug)]
pub struct Registration {
    pub email: String,
    pub username: Option<String>,
    pub password: String,
}

/// Creates an account and logs it in to the first-party API.
///
/// # Errors
/// [`Error::Validation`], [`Error::EmailTaken`], [`Error::UsernameTaken`], [`Error::NotCreated`]
/// and those of the limits.
pub async fn register(
    app: &App,
    registration: Registration,
    context: &RequestContext,
) -> Result<Tokens, Error> {
    let account = prepare(app, registration, context).await?;
    let (session, tokens) = PreparedSession::api(app, account.user.clone(), context).await?;
    create(app, account, session, context).await?;
    app.metrics.token_issued("login", Source::BuiltIn);
    Ok(tokens)
}

/// As [`register`], in a browser, whose session replaces the one of the cookie `previous`.
///
/// # Errors
/// As [`register`].
pub async fn register_browser(
    app: &App,
    registration: Registration,
    previous: Option<&str>,
    context: &RequestContext,
) -> Result<Cookie, Error> {
    let account = prepare(app, registration, context).await?;
    let user = account.user.clone();
    let (session, cookie) = PreparedSession::browser(app, user, previous, context);
    create(app, account, session, context).await?;
    Ok(cookie)
}

/// An account that is ready to be stored.
struct NewAccount {
    user: User,
    row: NewUser,
}

async fn prepare(
    app: &App,
    registration: Registration,
    context: &RequestContext,
) -> Result<NewAccount, Error> {
    if !app.config.registration.enabled {
        return Err(Error::RegistrationDisabled);
    }
    app.admit(Limit::Register, &Key::address(context.address))?;
    let account = validate(app, registration).await?;
    let password_hash = app.hasher.hash(&account.password, &app.rng).await?;
    let user = User {
        id: app.new_id(),
        email: account.email.address.clone(),
        username: account.username.as_ref().map(|username| username.name.clone()),
        role: Role::user(),
        is_verified: false,
        created_at: app.clock.now(),
        disabled_at: None,
    };
    let row = NewUser {
        id: user.id.clone(),
        email: account.email,
        username: account.username,
        password_hash,
        role: Role::user(),
    };
    Ok(NewAccount { user, row })
}

/// Stores account and session, with their events, in one transaction.
async fn create(
    app: &App,
    account: NewAccount,
    session: PreparedSession,
    context: &RequestContext,
) -> Result<(), Error> {
    let NewAccount { user, row } = account;
    let email = row.email.canonical.clone();
    let mut tx = app.begin(&Actor::caller(&user.id, context)).await?;
    let stored = async {
        let inserted = users::insert(&mut tx, row, user.created_at).await?;
        tx.event(&Event::user_created(&inserted)).await?;
        provisioning::open(&mut tx, &app.config, &inserted.id).await?;
        session.store(&mut tx, "user.register").await
    };
    let stored = match stored.await {
        Ok(()) => tx.commit().await,
        Err(error) => tx.rollback().await.and(Err(error)),
    };
    match stored {
        Ok(()) => {
            diagnostics::identify_user(&user.id);
            provisioning::complete(app, &user.id).await?;
            app.metrics.registrations.inc();
            Ok(())
        }
        Err(storage::Error::Conflict(Conflict::Email)) => Err(Error::EmailTaken),
        // Where both are taken, the databases differ in which they report; the email address goes
        // first here.
        Err(storage::Error::Conflict(Conflict::Username)) => {
            match users::by_login(&app.db, &Login::Email(email)).await? {
                Some(_) => Err(Error::EmailTaken),
                None => Err(Error::UsernameTaken),
            }
        }
        Err(other) => Err(Error::not_created(other)),
    }
}

/// The fields of an account, validated.
pub(crate) struct Account {
    pub email: Email,
    pub username: Option<Username>,
    pub password: String,
}

/// Validates every field, so that a form can show all errors at once.
pub(crate) async fn validate(app: &App, registration: Registration) -> Result<Account, Error> {
    // An empty form field is an absent one.
    let typed = registration.username.as_deref().filter(|typed| !typed.is_empty());
    let names: Vec<&str> =
        [Some(registration.email.as_str()), typed].into_iter().flatten().collect();
    let of_password = password::check(app, &registration.password, &names).await?;
    let mut errors = vec![];
    let mut refuse = |field, message: String| errors.push(FieldError { field, message });
    let email =
        Email::parse(&registration.email).map_err(|why| refuse("email", why.to_owned())).ok();
    let username =
        typed.map(Username::parse).transpose().map_err(|why| refuse("username", why.to_owned()));
    errors.extend(of_password);
    match (email, username) {
        (Some(email), Ok(username)) if errors.is_empty() => {
            Ok(Account { email, username, password: registration.password })
        }
        _ => Err(Error::Validation(errors)),
    }
}

//! Registration: a new account and its first session, in one transaction with their events.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    email::{Proof, VERIFY_TTL, queue_verification},
    email_tokens::{self, Link},
};
use crate::{
    app::App,
    clock::Timestamp,
    config::UserRegistration,
    diagnostics,
    error::{Error, FieldError},
    flows::{
        accounts::{
            guesses::{self, Guess},
            invitations,
            known_sources::{self, source_of, source_with},
            password,
            second_step::{self, Place},
            terms,
        },
        mail::{self, Outgoing, Requester},
        provisioning,
        sessions::open::{Cookie, PreparedSession},
        tokens::first_party::Tokens,
        upstream::identity::link,
    },
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        authentication::PASSWORD,
        client::Source,
        event::Event,
        invitation::Invitation,
        mail::{Content, Purpose},
        user::{Email, Login, Role, User, Username},
    },
    password::{NO_PASSWORD, Verdict},
    storage::{
        self, Conflict,
        email_tokens::{self as token_rows, EmailToken, NewToken},
        known_sources::LoginSource,
        roles,
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

/// What a registration requires beside its fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Admission<'a> {
    /// The token of an invitation.
    pub invitation: Option<&'a str>,
    /// The version of the terms that the user accepts.
    pub accepted_terms: Option<&'a str>,
}

/// Creates an account and logs it in to the first-party API. `None`: its address is to be confirmed
/// first, by a mail ([`confirm`]).
///
/// # Errors
/// [`Error::RegistrationDisabled`], [`Error::InvitationRequired`], [`Error::InvalidInvitation`];
/// [`Error::Validation`], [`Error::EmailTaken`], [`Error::UsernameTaken`], [`Error::NotCreated`]
/// and those of the limits; [`Error::SecondFactorRequired`]: the account is created, and its role
/// requires a second factor before the first session.
pub async fn register(
    app: &App,
    registration: Registration,
    admission: Admission<'_>,
    language: &str,
    context: &RequestContext,
) -> Result<Option<Tokens>, Error> {
    let account = prepare(app, registration, admission, context).await?;
    if account.must_be_confirmed(app) {
        request(app, account, None, language, context).await?;
        return Ok(None);
    }
    create_for_api(app, account, Origin::Form, language, context).await.map(Some)
}

/// As [`register`], in a browser, whose session replaces the one of the cookie `previous`.
/// `return_to`: where the browser continues after the confirmation.
///
/// # Errors
/// As [`register`].
pub async fn register_browser(
    app: &App,
    registration: Registration,
    admission: Admission<'_>,
    (previous, return_to): (Option<&str>, Option<&str>),
    language: &str,
    context: &RequestContext,
) -> Result<Option<Cookie>, Error> {
    let account = prepare(app, registration, admission, context).await?;
    if account.must_be_confirmed(app) {
        request(app, account, return_to, language, context).await?;
        return Ok(None);
    }
    let user = account.user.clone();
    let (session, cookie) = PreparedSession::browser(app, user, &[PASSWORD], previous, context);
    let session = Some((session, source_with(context, &cookie)));
    create(app, account, session, Origin::Form, language, context).await?;
    Ok(Some(cookie))
}

/// What another provider says about a user who registers.
pub(crate) struct UpstreamAccount {
    pub email: String,
    pub username: Option<String>,
    /// The provider has verified the address, and is trusted with it.
    pub is_verified: bool,
    pub identity: NewIdentity,
    /// `None`: the provider vouches for its users, or registration is open.
    pub invitation: Option<Invitation>,
    /// The version of the terms that the user accepts.
    pub accepted_terms: Option<String>,
}

/// An identity of a user who is created with it.
pub(crate) struct NewIdentity {
    pub issuer: String,
    pub subject: String,
    /// How the user has authenticated, as far as this server knows, and when.
    pub amr: &'static [&'static str],
    pub authenticated_at: Timestamp,
}

/// As [`register_browser`], for a user who has logged in at another provider: the account has no
/// password. Call it where an address that is not verified needs no mail.
///
/// # Errors
/// As [`register`].
pub(crate) async fn register_upstream(
    app: &App,
    registration: UpstreamAccount,
    previous: Option<&str>,
    language: &str,
    context: &RequestContext,
) -> Result<Cookie, Error> {
    app.admit(Limit::Register, &Key::address(context.address))?;
    let UpstreamAccount { email, username, is_verified, identity, invitation, accepted_terms } =
        registration;
    let mut errors = vec![];
    let terms = terms::accepted(app, accepted_terms.as_deref());
    let terms = match terms {
        Err(Error::Validation(refused)) => {
            errors.extend(refused);
            None
        }
        accepted => accepted?,
    };
    let has_accepted = errors.is_empty();
    let mut refuse = |field, message: &str| {
        errors.push(FieldError { field, message: message.to_owned() });
    };
    let email = Email::parse(&email).map_err(|why| refuse("email", why)).ok();
    let username = username.as_deref().filter(|typed| !typed.is_empty());
    let username = username.map(Username::parse).transpose();
    let username = username.map_err(|why| refuse("username", why));
    let (Some(email), Ok(username), true) = (email, username, has_accepted) else {
        return Err(Error::Validation(errors));
    };
    let email = allowed(app, invitation.as_ref(), email)?;
    let mut account = new_account(app, email, username, NO_PASSWORD.to_owned(), invitation);
    account.user.is_verified |= is_verified;
    account.terms = terms;
    let (session, cookie) =
        PreparedSession::browser(app, account.user.clone(), identity.amr, previous, context);
    let session = session.authenticated_at(identity.authenticated_at);
    let origin = Origin::Upstream(identity);
    let session = Some((session, source_with(context, &cookie)));
    create(app, account, session, origin, language, context).await?;
    Ok(cookie)
}

/// Begins a registration that the owner of the address confirms ([`confirm`]). Response, work and
/// rows are the same for an address with an account, whose owner is told. `return_to`: where the
/// browser continues afterwards.
async fn request(
    app: &App,
    account: NewAccount,
    return_to: Option<&str>,
    language: &str,
    context: &RequestContext,
) -> Result<(), Error> {
    mail::require(app)?;
    let NewAccount { row, invitation, terms, .. } = account;
    // Whether or not the address has an account: a username is no secret.
    if let Some(username) = &row.username {
        let login = Login::Username(username.canonical.clone());
        if users::by_login(&app.db, &login).await?.is_some() {
            return Err(Error::UsernameTaken);
        }
    }
    let owner = users::by_login(&app.db, &Login::Email(row.email.canonical.clone())).await?;
    let owner = owner.map(|owner| owner.user);
    let pending = PendingAccount {
        username: row.username.map(|username| username.name),
        password_hash: row.password_hash,
        return_to: return_to.map(str::to_owned),
        invitation: invitation.map(|invitation| invitation.id),
        terms,
    };
    let pending =
        serde_json::to_string(&pending).map_err(|error| Error::Unavailable(error.into()))?;
    let mut tx = app.begin(&Actor::caller("anonymous", context)).await?;
    let requester = Requester { address: context.address, language };
    let is_admitted = mail::admit(app, &mut tx, &row.email, requester).await?;
    let ((token, token_hash), now) = (email_tokens::new(app), tx.now());
    let new = NewToken {
        id: &tx.new_id(),
        purpose: Purpose::ConfirmRegistration,
        token_hash,
        user_id: None,
        email: if owner.is_some() { "" } else { &row.email.address },
        detail: owner.is_none().then_some(pending),
        code_hash: None,
        expires_at: now + VERIFY_TTL,
    };
    token_rows::insert(&mut tx, new, now).await?;
    let (to, content) = match &owner {
        Some(owner) => (&owner.email, Content::AddressInUse),
        None => (&row.email.address, Content::ConfirmRegistration { token }),
    };
    let outgoing = Outgoing {
        to,
        user_id: owner.as_ref().map(|owner| &owner.id),
        language: Some(language),
        content,
        ttl: VERIFY_TTL,
        is_sent: is_admitted && owner.as_ref().is_none_or(|owner| owner.disabled_at.is_none()),
    };
    mail::queue(app, &mut tx, outgoing).await?;
    tx.audit("user.register_requested", None, json!({})).await?;
    tx.commit().await?;
    app.mails_waiting.notify_one();
    Ok(())
}

/// An account that waits for its owner, as the database keeps it.
#[derive(Serialize, Deserialize)]
struct PendingAccount {
    username: Option<String>,
    password_hash: String,
    return_to: Option<String>,
    /// The id of the invitation, which is used by the confirmation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    invitation: Option<String>,
    /// The version of the terms that was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    terms: Option<String>,
}

/// Where the browser continues after the registration of this link.
pub fn return_to(link: &Link) -> Option<String> {
    let pending: PendingAccount = serde_json::from_str(link.token.detail.as_deref()?).ok()?;
    pending.return_to
}

/// Creates the account of a registration by the link of its mail, and logs it in to the first-party
/// API. Anybody may have registered the address: its owner sends the registration's password, or
/// another one.
///
/// # Errors
/// [`Error::InvalidLink`]; [`Error::InvalidCredentials`] where it is not the registration's password;
/// [`Error::Validation`] for a new one that is too weak; [`Error::EmailTaken`],
/// [`Error::UsernameTaken`]; [`Error::InvalidInvitation`] where it was used meanwhile;
/// [`Error::SecondFactorRequired`] as of [`register`].
pub async fn confirm(
    app: &App,
    token: &str,
    proof: Proof<'_>,
    language: &str,
    context: &RequestContext,
) -> Result<Tokens, Error> {
    let (account, token) = prepare_confirmed(app, token, proof, context).await?;
    create_for_api(app, account, Origin::Mail(&token), language, context).await
}

/// As [`confirm`], in a browser.
///
/// # Errors
/// As [`confirm`].
pub async fn confirm_browser(
    app: &App,
    token: &str,
    proof: Proof<'_>,
    previous: Option<&str>,
    language: &str,
    context: &RequestContext,
) -> Result<Cookie, Error> {
    let (account, token) = prepare_confirmed(app, token, proof, context).await?;
    let user = account.user.clone();
    let (session, cookie) = PreparedSession::browser(app, user, &[PASSWORD], previous, context);
    let session = Some((session, source_with(context, &cookie)));
    create(app, account, session, Origin::Mail(&token), language, context).await?;
    Ok(cookie)
}

/// Creates the account with its first session; without one where the role requires a second factor.
async fn create_for_api(
    app: &App,
    account: NewAccount,
    origin: Origin<'_>,
    language: &str,
    context: &RequestContext,
) -> Result<Tokens, Error> {
    let (user, role) = (account.user.clone(), account.row.role.as_str());
    if roles::by_name(&app.db, role).await?.is_some_and(|role| role.settings.require_second_factor)
    {
        let password_hash = account.row.password_hash.clone();
        create(app, account, None, origin, language, context).await?;
        let required = second_step::require(app, &user.id, &password_hash, Place::Api).await?;
        return Err(Error::SecondFactorRequired(Box::new(required)));
    }
    let modules =
        account.invitation.as_ref().map_or(&[][..], |invitation| invitation.modules.as_slice());
    let prepared = PreparedSession::api_with(app, user, modules, &[PASSWORD], context);
    let (session, tokens) = prepared.await?;
    let session = Some((session, source_of(context)));
    create(app, account, session, origin, language, context).await?;
    app.metrics.token_issued("login", Source::BuiltIn);
    Ok(tokens)
}

/// The account of a registration, and the id of its token.
async fn prepare_confirmed(
    app: &App,
    token: &str,
    proof: Proof<'_>,
    context: &RequestContext,
) -> Result<(NewAccount, String), Error> {
    let EmailToken { id, email, detail, .. } =
        email_tokens::open(app, Purpose::ConfirmRegistration, token).await?.token;
    let pending: PendingAccount =
        serde_json::from_str(&detail.unwrap_or_default()).map_err(|_| Error::InvalidLink)?;
    let invalid = |_| Error::InvalidLink;
    let email = Email::parse(&email).map_err(invalid)?;
    let username = pending.username.as_deref().map(Username::parse).transpose().map_err(invalid)?;
    let invitation = match &pending.invitation {
        Some(id) => Some(invitations::open_by_id(app, id).await?),
        None => None,
    };
    // The rules may have changed since the mail was sent.
    match (app.config.registration.mode, &invitation) {
        (UserRegistration::Closed, _) => return Err(Error::RegistrationDisabled),
        (UserRegistration::Invitation, None) => return Err(Error::InvitationRequired),
        _ => {}
    }
    let email = allowed(app, invitation.as_ref(), email)?;
    let mut account = new_account(app, email, username, String::new(), invitation);
    account.user.is_verified = true;
    // If the version has changed since, the next login asks again.
    account.terms = pending.terms;
    account.row.password_hash = match proof {
        Proof::Password(password) => {
            let email = account.row.email.canonical.clone();
            let guessed = guesses::unknown(app, &Login::Email(email))?;
            let guess = Guess::begin(app, guessed, source_of(context), None).await?;
            let actor = Actor::caller("anonymous", context);
            match app.hasher.verify(password, Some(&pending.password_hash)).await? {
                Verdict::Right | Verdict::RightButOutdated => {
                    guess.right(app).forget_now(app, &actor).await?;
                    pending.password_hash
                }
                Verdict::Wrong => {
                    guess.wrong(app, &actor).await?;
                    return Err(Error::InvalidCredentials);
                }
            }
        }
        Proof::NewPassword(password) => password::hash_new(app, &account.user, password).await?,
        Proof::Session(_) | Proof::Nothing => {
            return Err(Error::field("password", "is required: that of the registration"));
        }
    };
    Ok((account, id))
}

/// The account of a registration. An invitation that came by mail has verified its address.
fn new_account(
    app: &App,
    email: Email,
    username: Option<Username>,
    password_hash: String,
    invitation: Option<Invitation>,
) -> NewAccount {
    let role = invitation.as_ref().map_or_else(Role::user, |invitation| invitation.role.clone());
    let user = User {
        id: app.new_id().into(),
        email: email.address.clone(),
        username: username.as_ref().map(|username| username.name.clone()),
        role: role.clone(),
        is_verified: invitation.as_ref().is_some_and(Invitation::verifies_email),
        created_at: app.clock.now(),
        disabled_at: None,
    };
    let row = NewUser { id: user.id.clone(), email, username, password_hash, role };
    NewAccount { user, row, invitation, terms: None }
}

/// An account that is ready to be stored.
struct NewAccount {
    /// With `is_verified`, as it will be.
    user: User,
    row: NewUser,
    /// Used up by the transaction that stores the account.
    invitation: Option<Invitation>,
    /// The version that the user has accepted.
    terms: Option<String>,
}

impl NewAccount {
    /// Whether the owner of the address confirms the registration, before there is an account.
    fn must_be_confirmed(&self, app: &App) -> bool {
        app.config.confirms_registrations() && !self.user.is_verified
    }
}

async fn prepare(
    app: &App,
    registration: Registration,
    admission: Admission<'_>,
    context: &RequestContext,
) -> Result<NewAccount, Error> {
    let mode = app.config.registration.mode;
    if mode == UserRegistration::Closed {
        return Err(Error::RegistrationDisabled);
    }
    app.admit(Limit::Register, &Key::address(context.address))?;
    let invitation = match admission.invitation {
        Some(token) => Some(invitations::open(app, token).await?),
        None if mode == UserRegistration::Invitation => return Err(Error::InvitationRequired),
        None => None,
    };
    // Every field that is at fault, in one answer.
    let (accepted, account) =
        (terms::accepted(app, admission.accepted_terms), validate(app, registration).await);
    let (terms, account) = match (accepted, account) {
        (Err(Error::Validation(terms)), Err(Error::Validation(mut fields))) => {
            fields.extend(terms);
            return Err(Error::Validation(fields));
        }
        (accepted, account) => (accepted?, account?),
    };
    let email = allowed(app, invitation.as_ref(), account.email)?;
    let password_hash = app.hasher.hash(&account.password, &app.rng).await?;
    let account = new_account(app, email, account.username, password_hash, invitation);
    Ok(NewAccount { terms, ..account })
}

/// The address to store: that of the invitation as its creator wrote it, as another spelling may be
/// another mailbox; without an invitation, one of an allowed domain.
fn allowed(app: &App, invitation: Option<&Invitation>, email: Email) -> Result<Email, Error> {
    match invitation {
        Some(invitation) if !invitation.is_for(&email) => Err(Error::field("email", OTHER_ADDRESS)),
        Some(Invitation { email: Some(bound), .. }) => {
            Email::parse(bound).map_err(|why| Error::field("email", why))
        }
        Some(_) => Ok(email),
        None if !app.config.registration.admits(&email) => Err(Error::field("email", OTHER_DOMAIN)),
        None => Ok(email),
    }
}

/// Why an address cannot be registered with an invitation.
pub(crate) const OTHER_ADDRESS: &str = "must be the address of the invitation";
/// Why it cannot be registered without one.
pub(crate) const OTHER_DOMAIN: &str =
    "addresses of this domain cannot be registered here: use one of an allowed domain";

/// The missing resource of a registration whose invitation another one has used.
const INVITATION: &str = "invitation";

/// How an account came about.
enum Origin<'a> {
    Form,
    /// By the link of a mail, which has verified the address: the id of its token.
    Mail(&'a str),
    /// By a login at another provider.
    Upstream(NewIdentity),
}

/// Stores account and session, if there is one, with their events, in one transaction; and the mail
/// that verifies the address, unless it is verified.
async fn create(
    app: &App,
    account: NewAccount,
    session: Option<(PreparedSession, LoginSource)>,
    origin: Origin<'_>,
    language: &str,
    context: &RequestContext,
) -> Result<(), Error> {
    let NewAccount { user, row, invitation, terms } = account;
    let email = row.email.canonical.clone();
    let mut tx = app.begin(&Actor::caller(&user.id, context)).await?;
    let mut is_admitted = false;
    let is_verified = user.is_verified;
    let is_upstream = matches!(origin, Origin::Upstream(_));
    if let Origin::Mail(token) = origin {
        let now = tx.now();
        if !token_rows::take(&mut tx, token, now).await? {
            return Err(Error::InvalidLink);
        }
    }
    if !is_verified && app.mailer.is_some() {
        let requester = Requester { address: context.address, language };
        // Registrations have a limit of their own.
        is_admitted = match mail::admit(app, &mut tx, &row.email, requester).await {
            Err(Error::TooMany(_)) => false,
            admitted => admitted?,
        };
    }
    let stored = async {
        let mut inserted = users::insert(&mut tx, row, user.created_at).await?;
        if let Some(version) = &terms {
            terms::record(&mut tx, &user.id, version).await?;
        }
        if is_verified {
            let now = tx.now();
            users::set_verified(&mut tx, &user.id, now).await?;
            users::set_language(&mut tx, &user.id, language).await?;
            inserted.is_verified = true;
        }
        tx.event(&Event::user_created(&inserted)).await?;
        if let Some(invitation) = &invitation
            && !invitations::use_up(&mut tx, invitation, &user).await?
        {
            return Err(storage::Error::Unknown(INVITATION));
        }
        provisioning::open(&mut tx, &app.config, &inserted.id).await?;
        if let Origin::Upstream(NewIdentity { issuer, subject, .. }) = origin {
            link(&mut tx, &user.id, issuer, subject).await?;
        }
        match session {
            Some((session, source)) => {
                known_sources::remember_first(&mut tx, &user.id, &source).await?;
                session.store(&mut tx, "user.register").await
            }
            None => tx.audit("user.register", Some(&user.id), json!({})).await,
        }
    };
    let stored = match stored.await {
        Ok(()) => {
            if !is_verified && app.mailer.is_some() {
                queue_verification(app, &mut tx, &user, language, is_admitted).await?;
            }
            tx.commit().await
        }
        Err(error) => tx.rollback().await.and(Err(error)),
    };
    match stored {
        Ok(()) => {
            app.mails_waiting.notify_one();
            diagnostics::identify_user(&user.id);
            provisioning::complete(app, &user.id).await?;
            app.metrics.registrations.inc();
            Ok(())
        }
        Err(storage::Error::Unknown(INVITATION)) => Err(Error::InvalidInvitation),
        Err(storage::Error::Conflict(Conflict::Email)) => Err(Error::EmailTaken),
        // Where both are taken, the databases differ in which they report; the email address goes
        // first here.
        Err(storage::Error::Conflict(Conflict::Username)) => {
            match users::by_login(&app.db, &Login::Email(email)).await? {
                Some(_) => Err(Error::EmailTaken),
                None => Err(Error::UsernameTaken),
            }
        }
        Err(storage::Error::Conflict(Conflict::Other)) if is_upstream => {
            Err(Error::Conflict("the identity is linked to an account already: log in with it"))
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

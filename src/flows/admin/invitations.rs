//! Invitations to register, as administrators and operators manage them.
//! [`crate::flows::accounts::invitations`] registers with them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    app::App,
    clock::Timestamp,
    config::UserRegistration,
    error::{Error, FieldError},
    flows::{
        accounts::invitations::{link, new_token},
        admin::{
            access::Precondition,
            idempotency::{self, Created, IdempotentRequest},
            users::must_exist,
        },
        mail::{self, Outgoing},
    },
    model::{
        actor::Actor,
        invitation::{DEFAULT_TTL, Invitation, LONGEST_TTL, MOST_MODULES},
        mail::Content,
        module::OpenGrant,
        user::{Email, Login, Role},
    },
    storage::{invitations as rows, users},
};

/// The settings of a new invitation.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    /// The address that it is for; it is sent there where mails are sent.
    pub email: Option<String>,
    /// Of the mail; `None`: `mail.language`.
    pub language: Option<String>,
    pub role: Role,
    pub modules: Vec<OpenGrant>,
    /// `None`: seven days.
    pub ttl: Option<Duration>,
}

/// The invitation of that id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn by_id(app: &App, id: &str) -> Result<Invitation, Error> {
    rows::by_id(&app.db, id).await?.ok_or(Error::NotFound("invitation"))
}

/// Creates an invitation; returns its link too, which is stored nowhere. With an address, it is
/// sent there where mails are sent.
///
/// # Errors
/// [`Error::Validation`]; [`Error::EmailTaken`]; [`Error::Conflict`] where registration is closed,
/// and where `registration.max_invitations` are open; [`Error::KeyReused`]; [`Error::NotFound`]
/// where an earlier request has created the invitation and it was revoked since.
pub async fn create(
    app: &App,
    new: NewInvitation,
    request: Option<IdempotentRequest>,
    actor: &Actor,
) -> Result<Created<(Invitation, Option<String>)>, Error> {
    let settings = &app.config.registration;
    if settings.mode == UserRegistration::Closed {
        let message = "registration is closed: set registration.mode to \"invitation\" or \"open\"";
        return Err(Error::Conflict(message));
    }
    let email = checked(app, &new).await?;
    let (token, token_hash) = new_token(app);
    let mut tx = app.begin(actor).await?;
    let (id, now) = (tx.new_id(), tx.now());
    if let Some(earlier) = idempotency::claim(&mut tx, request.as_ref(), &id).await? {
        tx.rollback().await?;
        return Ok(Created::earlier(by_id(app, &earlier).await?).with_secret(None));
    }
    if rows::count_open(&mut tx, now).await? >= i64::from(settings.max_invitations) {
        return Err(Error::Conflict(
            "registration.max_invitations is reached: revoke an open invitation first",
        ));
    }
    // It cannot be deleted before the commit, and while the invitation is open.
    must_exist(&mut tx, &new.role).await?;
    let ttl = new.ttl.unwrap_or(DEFAULT_TTL);
    let invitation = Invitation {
        id,
        is_mailed: email.is_some() && app.mailer.is_some(),
        email: email.map(|email| email.address),
        role: new.role,
        modules: new.modules,
        created_by: actor.actor.clone(),
        created_at: now,
        expires_at: now + ttl,
        used_at: None,
        used_by: None,
    };
    rows::insert(&mut tx, &invitation, token_hash).await?;
    if let Some(to) = invitation.email.as_deref().filter(|_| invitation.is_mailed) {
        let date = invitation.expires_at.rfc3339().chars().take(10).collect();
        let outgoing = Outgoing {
            to,
            user_id: None,
            language: new.language.as_deref(),
            content: Content::Invitation { token: token.clone(), date },
            ttl,
            is_sent: true,
        };
        mail::queue(app, &mut tx, outgoing).await?;
    }
    audit(&mut tx, "invitation.add", &invitation).await?;
    tx.commit().await?;
    app.mails_waiting.notify_one();
    let link = link(app, &token);
    Ok(Created::now(invitation).with_secret(Some(link)))
}

/// Revokes an invitation; a used one is forgotten, and its account stays.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Changed`].
pub async fn revoke(
    app: &App,
    id: &str,
    precondition: &Precondition,
    actor: &Actor,
) -> Result<(), Error> {
    let mut tx = app.begin(actor).await?;
    let found = rows::lock(&mut tx, id).await?;
    let invitation = found.ok_or(Error::NotFound("invitation"))?;
    precondition.check(invitation.updated_at())?;
    rows::remove(&mut tx, id).await?;
    audit(&mut tx, "invitation.revoke", &invitation).await?;
    Ok(tx.commit().await?)
}

/// The audit log outlives an account, so the entry has no address.
async fn audit(
    tx: &mut crate::storage::AuditedTx,
    action: &'static str,
    invitation: &Invitation,
) -> crate::storage::Result<()> {
    let modules: Vec<Value> = invitation
        .modules
        .iter()
        .map(|grant| {
            let until = grant.valid_until.map(Timestamp::rfc3339);
            json!({ "moduleId": grant.module_id, "validUntil": until })
        })
        .collect();
    let detail = json!({
        "invitationId": invitation.id, "role": invitation.role.as_str(), "modules": modules,
        "isBound": invitation.email.is_some(), "expiresAt": invitation.expires_at.rfc3339(),
        "usedAt": invitation.used_at.map(Timestamp::rfc3339),
    });
    tx.audit(action, None, detail).await
}

/// The address of a valid invitation.
async fn checked(app: &App, new: &NewInvitation) -> Result<Option<Email>, Error> {
    let mut found = vec![];
    let mut refuse = |field, message: &str| {
        found.push(FieldError { field, message: message.to_owned() });
    };
    let email = new.email.as_deref().map(Email::parse).transpose();
    let email = email.map_err(|why| refuse("email", why)).unwrap_or_default();
    let is_unknown = |language: &str| app.branding.tags().all(|known| known != language);
    if new.language.as_deref().is_some_and(is_unknown) {
        let known: Vec<&str> = app.branding.tags().collect();
        refuse("language", &format!("must be one of the pages' languages: {}", known.join(", ")));
    }
    if new.ttl.is_some_and(|ttl| ttl < Duration::from_secs(60) || ttl > LONGEST_TTL) {
        refuse("expiresIn", "must be from one minute to 90 days (60 to 7776000 seconds)");
    }
    let (modules, now) = (&new.modules, app.clock.now());
    if modules.len() > MOST_MODULES {
        refuse("modules", "must be at most 50 modules");
    }
    let is_again = |(at, grant): (usize, &OpenGrant)| {
        modules[..at].iter().any(|earlier| earlier.module_id == grant.module_id)
    };
    if modules.iter().enumerate().any(is_again) {
        refuse("modules", "must name each module once");
    }
    if modules.iter().any(|grant| !grant.is_live(now)) {
        refuse("modules", "must have `validUntil` in the future");
    }
    app.sync().await?;
    let catalogue = app.directory.catalogue(&app.db).await?;
    if let Some(unknown) =
        modules.iter().find(|grant| !catalogue.modules.contains_key(&grant.module_id))
    {
        let shown: String = unknown.module_id.chars().take(64).collect();
        refuse("modules", &format!("there is no module {shown:?}"));
    }
    if !found.is_empty() {
        return Err(Error::Validation(found));
    }
    if let Some(email) = &email {
        let login = Login::Email(email.canonical.clone());
        if users::by_login(&app.db, &login).await?.is_some() {
            return Err(Error::EmailTaken);
        }
    }
    Ok(email)
}

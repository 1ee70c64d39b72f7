//! Trusted issuers, and their subjects that are linked to users.

use serde_json::{Value, json};

use crate::{
    app::App,
    clock::Timestamp,
    error::{Error, FieldError},
    flows::{
        admin::{
            access::Precondition,
            clients::policy,
            idempotency::{self, Created, IdempotentRequest},
        },
        oauth::resources::is_about_the_user,
        tokens::scope::is_own,
    },
    ids::UserId,
    jose::KeySet,
    model::{
        actor::Actor,
        key::LONGEST_TOKEN_LIFE,
        session::RevocationReason,
        trusted_issuer::{IssuerSettings, IssuerUse, LinkedSubject, TrustedIssuer},
    },
    oauth::redirect_uri::{self, Kind},
    storage::{
        self, AuditedTx, sessions, sessions::SessionSelector, trusted_issuers as rows, users,
    },
};

/// The issuer of that id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn by_id(app: &App, id: &str) -> Result<TrustedIssuer, Error> {
    rows::by_id(&app.db, id).await?.ok_or(Error::NotFound("issuer"))
}

/// Adds an issuer.
///
/// # Errors
/// [`Error::Validation`]; [`Error::Conflict`] for an id or an `issuer` that is taken;
/// [`Error::KeyReused`]; [`Error::NotFound`] where an earlier request has added the issuer and it
/// was deleted since.
pub async fn create(
    app: &App,
    id: String,
    issuer: String,
    settings: IssuerSettings,
    request: Option<IdempotentRequest>,
    actor: &Actor,
) -> Result<Created<TrustedIssuer>, Error> {
    check(app, &id, &issuer, &settings)?;
    let mut tx = app.begin(actor).await?;
    let known = rows::lock(&mut tx, &id).await?;
    if let Some(earlier) = idempotency::claim(&mut tx, request.as_ref(), &id).await? {
        tx.rollback().await?;
        let known = known.filter(|known| known.id == earlier).ok_or(Error::NotFound("issuer"))?;
        return Ok(Created::earlier(known));
    }
    if known.is_some() {
        return Err(Error::Conflict("an issuer of this id exists: update it"));
    }
    // The lock may have waited for another change.
    let now = tx.read_clock();
    let (created_at, updated_at) = (now, now);
    let new = TrustedIssuer { id, issuer, settings, created_at, updated_at, disabled_at: None };
    rows::insert(&mut tx, &new).await.map_err(|error| match error {
        storage::Error::Conflict(_) => Error::Conflict("this `issuer` is trusted under another id"),
        other => other.into(),
    })?;
    audit(&mut tx, "issuer.add", &new.id, json!({ "after": described(&new) })).await?;
    tx.commit().await?;
    Ok(Created::now(new))
}

/// Replaces the settings of an issuer.
///
/// # Errors
/// [`Error::Validation`]; [`Error::NotFound`]; [`Error::Changed`].
pub async fn update(
    app: &App,
    id: &str,
    precondition: &Precondition,
    settings: IssuerSettings,
    actor: &Actor,
) -> Result<TrustedIssuer, Error> {
    let mut tx = app.begin(actor).await?;
    let mut issuer = lock(&mut tx, id).await?;
    precondition.check(issuer.updated_at)?;
    check(app, &issuer.id, &issuer.issuer, &settings)?;
    let before = described(&issuer);
    issuer.settings = settings;
    let detail = json!({ "before": before, "after": described(&issuer) });
    let issuer = touch(&mut tx, issuer, "issuer.set", detail).await?;
    tx.commit().await?;
    Ok(issuer)
}

/// Disables an issuer: its JWTs are refused, and the sessions that they have opened are revoked. A
/// disabled issuer stays as it is.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn disable(app: &App, id: &str, actor: &Actor) -> Result<TrustedIssuer, Error> {
    let mut tx = app.begin(actor).await?;
    let mut issuer = lock(&mut tx, id).await?;
    if issuer.disabled_at.is_some() {
        return Ok(issuer);
    }
    issuer.disabled_at = Some(tx.now());
    let issuer = touch(&mut tx, issuer, "issuer.disable", json!({})).await?;
    end_sessions(&mut tx, SessionSelector::Issuer(&issuer.id)).await?;
    tx.commit().await?;
    Ok(issuer)
}

/// Enables a disabled issuer again; revoked sessions stay revoked. An enabled issuer stays as it is.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn enable(app: &App, id: &str, actor: &Actor) -> Result<TrustedIssuer, Error> {
    let mut tx = app.begin(actor).await?;
    let mut issuer = lock(&mut tx, id).await?;
    if issuer.disabled_at.is_none() {
        return Ok(issuer);
    }
    issuer.disabled_at = None;
    let issuer = touch(&mut tx, issuer, "issuer.enable", json!({})).await?;
    tx.commit().await?;
    Ok(issuer)
}

/// Deletes an issuer with its links; the sessions that its JWTs have opened are revoked.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Changed`].
pub async fn delete(
    app: &App,
    id: &str,
    precondition: &Precondition,
    actor: &Actor,
) -> Result<(), Error> {
    let mut tx = app.begin(actor).await?;
    let issuer = lock(&mut tx, id).await?;
    precondition.check(issuer.updated_at)?;
    rows::remove(&mut tx, id).await?;
    audit(&mut tx, "issuer.remove", id, json!({ "before": described(&issuer) })).await?;
    end_sessions(&mut tx, SessionSelector::Issuer(id)).await?;
    Ok(tx.commit().await?)
}

/// Links a subject of an issuer to a user: its JWTs are about that user from now on. Nothing that a
/// JWT says links it.
///
/// # Errors
/// [`Error::Validation`] for the subject; [`Error::NotFound`] for the issuer or the user;
/// [`Error::Conflict`] for a subject that is linked already.
pub async fn link(
    app: &App,
    id: &str,
    subject: &str,
    user_id: &UserId,
    actor: &Actor,
) -> Result<LinkedSubject, Error> {
    check_subject(subject)?;
    let mut tx = app.begin(actor).await?;
    lock(&mut tx, id).await?;
    let is_text = !user_id.contains('\0');
    let user = if is_text { users::lock_shared(&mut tx, user_id).await? } else { None };
    let user = user.ok_or(Error::NotFound("user"))?;
    let link = LinkedSubject {
        issuer_id: id.to_owned(),
        subject: subject.to_owned(),
        user_id: user.id,
        created_at: tx.read_clock(),
    };
    rows::link(&mut tx, &link).await.map_err(|error| match error {
        storage::Error::Conflict(_) => {
            Error::Conflict("the subject is linked already: remove that link first")
        }
        other => other.into(),
    })?;
    let detail = json!({ "issuerId": id, "subject": subject });
    tx.audit("issuer.link", Some(&link.user_id), detail).await?;
    tx.commit().await?;
    Ok(link)
}

/// Removes a link; the sessions that JWTs of the issuer have opened for the user are revoked.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn unlink(app: &App, id: &str, subject: &str, actor: &Actor) -> Result<(), Error> {
    let mut tx = app.begin(actor).await?;
    lock(&mut tx, id).await?;
    let is_text = !subject.contains('\0');
    let user = if is_text { rows::unlink(&mut tx, id, subject).await? } else { None };
    let user = user.ok_or(Error::NotFound("link"))?;
    let detail = json!({ "issuerId": id, "subject": subject });
    tx.audit("issuer.unlink", Some(&user), detail).await?;
    end_sessions(&mut tx, SessionSelector::UserByIssuer(&user, id)).await?;
    Ok(tx.commit().await?)
}

/// Reads an issuer for a change that other changes of issuers wait for.
async fn lock(tx: &mut AuditedTx, id: &str) -> Result<TrustedIssuer, Error> {
    let found = rows::lock(tx, id).await?;
    // The lock may have waited for another change.
    tx.read_clock();
    found.ok_or(Error::NotFound("issuer"))
}

async fn touch(
    tx: &mut AuditedTx,
    mut issuer: TrustedIssuer,
    action: &'static str,
    detail: Value,
) -> storage::Result<TrustedIssuer> {
    issuer.updated_at = tx.now().past(issuer.updated_at);
    rows::update(tx, &issuer).await?;
    audit(tx, action, &issuer.id, detail).await?;
    Ok(issuer)
}

async fn audit(
    tx: &mut AuditedTx,
    action: &'static str,
    id: &str,
    mut detail: Value,
) -> storage::Result<()> {
    detail["issuerId"] = id.into();
    tx.audit(action, None, detail).await
}

async fn end_sessions(tx: &mut AuditedTx, of: SessionSelector<'_>) -> storage::Result<()> {
    let now = tx.now();
    let listed_until: Timestamp = now + LONGEST_TOKEN_LIFE;
    let revoked = sessions::revoke_all(tx, of, RevocationReason::RevokedByAdmin, now, listed_until);
    revoked.await.map(drop)
}

/// The settings for the audit log, where whole keys would be noise.
fn described(issuer: &TrustedIssuer) -> Value {
    let settings = &issuer.settings;
    json!({
        "issuer": issuer.issuer, "jwksUri": settings.jwks_uri, "hasJwks": settings.jwks.is_some(),
        "trustedFor": settings.trusted_for, "audiences": settings.audiences,
        "clients": settings.clients, "scope": settings.scope.to_string(),
    })
}

fn check_subject(subject: &str) -> Result<(), Error> {
    let is_valid =
        (1..=255).contains(&subject.chars().count()) && !subject.contains(char::is_control);
    let message = "must be 1 to 255 characters without control characters";
    if is_valid { Ok(()) } else { Err(Error::field("subject", message)) }
}

/// Checks an issuer.
fn check(
    app: &App,
    id: &str,
    issuer: &str,
    settings: &IssuerSettings,
) -> Result<(), Vec<FieldError>> {
    let mut found = vec![];
    let mut refuse = |field, message: String| found.push(FieldError { field, message });
    if let Err(why) = policy::check_issuer_id(id) {
        refuse("id", why.to_owned());
    }
    if let Err(why) = redirect_uri::check(issuer, Kind::Web) {
        refuse("issuer", format!("must be the URL in the `iss` of its JWTs: {why}"));
    } else if issuer == app.config.server.issuer {
        refuse("issuer", "must be another server".to_owned());
    }
    match (&settings.jwks, &settings.jwks_uri) {
        (Some(keys), None) => {
            if let Err(why) = KeySet::parse(keys) {
                refuse("jwks", why.to_owned());
            }
        }
        (None, Some(uri)) => {
            if let Err(why) = app.outbound.check(uri) {
                refuse("jwksUri", why.to_string());
            }
        }
        _ => refuse("jwksUri", "is required, unless jwks is given".to_owned()),
    }
    let uses = &settings.trusted_for;
    let is_repeated = |(at, one): (usize, &IssuerUse)| uses[..at].contains(one);
    if uses.is_empty() || uses.iter().enumerate().any(is_repeated) {
        refuse("trustedFor", "must name each use once, and at least one".to_owned());
    }
    let is_name = |text: &String| {
        (1..=2048).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
    };
    for (field, names) in [("audiences", &settings.audiences), ("clients", &settings.clients)] {
        if names.len() > 100 || !names.iter().all(is_name) {
            refuse(field, "must be at most 100 names of visible ASCII characters".to_owned());
        }
    }
    if settings.scope.iter().any(|token| is_about_the_user(token) || is_own(token)) {
        refuse(
            "scopes",
            "must not have openid, profile, email, offline_access or propusk:…".to_owned(),
        );
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

//! Product modules: the users who have them, and the scopes that tokens may carry because of them. A
//! user is named by the id of the account or, where a back end keeps the user, by the `sub`.

pub mod file;

use std::sync::Arc;

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
        oauth::resources,
        tokens::{scope::is_own, subject::is_external},
    },
    ids::UserId,
    limits::{Key, Limit},
    model::{
        actor::Actor,
        catalogue::Catalogue,
        event::{Event, ModuleChange},
        key::LONGEST_TOKEN_LIFE,
        module::{Module, ModuleGrant, OpenGrant},
    },
    storage::{
        self, AuditedTx, modules as rows,
        modules::GrantHolder,
        outbox,
        revocations::{self, WithdrawnModule},
        users,
    },
};

/// Maximum lengths of texts, in characters.
const LONGEST_NAME: usize = 100;
const LONGEST_DESCRIPTION: usize = 1_000;

/// A module with a user's status for it.
#[derive(Clone, Debug)]
pub struct Status {
    pub module: Module,
    /// `None`: the user does not have it.
    pub grant: Option<ModuleGrant>,
}

/// Every module with this user's status.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn list(app: &App, user_id: &str) -> Result<Vec<Status>, Error> {
    let catalogue = catalogue(app).await?;
    let grants = rows::of_user(&app.db, user_id).await?;
    let now = app.clock.now();
    let status = |module: &Module| {
        let mut of_it = grants.iter().filter(|grant| grant.module_id == module.id);
        let live = |grant: &&ModuleGrant| grant.valid_until.is_none_or(|until| until > now);
        Status { module: module.clone(), grant: of_it.find(live).cloned() }
    };
    Ok(catalogue.modules.values().map(status).collect())
}

/// A user enables or disables one of their modules; without effect where it is so already.
///
/// # Errors
/// [`Error::NoSuchModule`], [`Error::NotSelfService`], [`Error::TooMany`].
pub async fn switch(
    app: &App,
    user_id: &str,
    module_id: &str,
    on: bool,
    actor: &Actor,
) -> Result<Status, Error> {
    let catalogue = catalogue(app).await?;
    let module = module_in(&catalogue, module_id)?;
    if !module.is_self_service {
        return Err(Error::NotSelfService);
    }
    // Each change adds to the history, the audit log and the revocation list.
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    if on {
        // A planned end that an administrator has set stays.
        open(app, (user_id, module_id), None, Existing::Stays, actor).await?;
    } else {
        close(app, (user_id, module_id), actor).await?;
    }
    let grant = open_grant(app, user_id, module_id).await?;
    Ok(Status { module: module.clone(), grant })
}

/// Grants a module to a user, until a planned end or without one. A grant with another end is
/// replaced; one with the same end stays.
///
/// # Errors
/// [`Error::NoSuchModule`], [`Error::NotFound`] for the user, [`Error::Validation`] for an end in
/// the past.
pub async fn grant(
    app: &App,
    user_id: &str,
    module_id: &str,
    until: Option<Timestamp>,
    actor: &Actor,
) -> Result<ModuleGrant, Error> {
    module_in(&*catalogue(app).await?, module_id)?;
    if until.is_some_and(|until| until <= app.clock.now()) {
        return Err(Error::field("validUntil", "must be in the future"));
    }
    let ids = (user_id, module_id);
    if let Some(opened) = open(app, ids, until, Existing::Replaced, actor).await? {
        return Ok(opened);
    }
    // It may have been withdrawn concurrently.
    open_grant(app, user_id, module_id).await?.ok_or(Error::NotFound("grant"))
}

/// Withdraws a module from a user: no token gets its scopes any more, and they are refused at once
/// in existing tokens. Without effect where the user does not have the module.
///
/// # Errors
/// [`Error::NoSuchModule`], [`Error::NotFound`] for the user.
pub async fn withdraw(
    app: &App,
    user_id: &str,
    module_id: &str,
    actor: &Actor,
) -> Result<(), Error> {
    module_in(&*catalogue(app).await?, module_id)?;
    close(app, (user_id, module_id), actor).await
}

async fn close(app: &App, (user_id, module_id): (&str, &str), actor: &Actor) -> Result<(), Error> {
    let mut tx = app.begin(actor).await?;
    let now = lock_user(&mut tx, user_id).await?;
    expire(&mut tx, user_id, usize::MAX).await?;
    let closed =
        rows::close(&mut tx, module_id, GrantHolder::User(user_id), &actor.actor, now).await?;
    if !closed.is_empty() {
        record(&mut tx, ModuleChange::Disabled, (user_id, module_id), None).await?;
        let lost = lost_scopes(&mut tx, user_id, module_id).await?;
        let of = WithdrawnModule { module_id, subject: user_id, closed_at: Some(now) };
        refuse_scopes(&mut tx, &lost, of, "module_withdrawn").await?;
    }
    Ok(tx.commit().await?)
}

/// Makes other changes of this user's modules wait for this one, and reads the clock behind them.
async fn lock_user(tx: &mut AuditedTx, user_id: &str) -> Result<Timestamp, Error> {
    if is_external(user_id) {
        rows::lock_external(tx, user_id).await?;
        return Ok(tx.read_clock());
    }
    // PostgreSQL refuses a statement with NUL in a text.
    let user = if user_id.contains('\0') { None } else { users::lock(tx, &user_id.into()).await? };
    user.ok_or(Error::NotFound("user"))?;
    Ok(tx.read_clock())
}

/// What happens to an existing grant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Stays,
    /// Unless it has the same end.
    Replaced,
}

/// Opens a grant; `None` where an existing one stays.
async fn open(
    app: &App,
    (user_id, module_id): (&str, &str),
    until: Option<Timestamp>,
    existing: Existing,
    actor: &Actor,
) -> Result<Option<ModuleGrant>, Error> {
    let mut tx = app.begin(actor).await?;
    let now = lock_user(&mut tx, user_id).await?;
    let new = ModuleGrant {
        id: tx.new_id(),
        subject: user_id.to_owned(),
        user_id: (!is_external(user_id)).then(|| user_id.into()),
        module_id: module_id.to_owned(),
        valid_from: now,
        valid_until: until,
        granted_by: actor.actor.clone(),
        ended_by: None,
        closed_at: None,
    };
    expire(&mut tx, user_id, usize::MAX).await?;
    let mut is_shortened = false;
    if !rows::open(&mut tx, &new).await? {
        let end = rows::planned_end(&mut tx, user_id, module_id).await?;
        if existing == Existing::Stays || end == Some(until) {
            tx.commit().await?;
            return Ok(None);
        }
        is_shortened = until.is_some() && end.flatten().is_none_or(|end| Some(end) > until);
        rows::close(&mut tx, module_id, GrantHolder::User(user_id), &actor.actor, now).await?;
        rows::open(&mut tx, &new).await?;
    }
    record(&mut tx, ModuleChange::Enabled, (user_id, module_id), until).await?;
    if is_shortened {
        // Existing tokens may expire after the new end.
        let lost = lost_scopes(&mut tx, user_id, module_id).await?;
        let of = WithdrawnModule { module_id, subject: user_id, closed_at: Some(now) };
        refuse_scopes(&mut tx, &lost, of, "module_shortened").await?;
    }
    tx.commit().await?;
    Ok(Some(new))
}

async fn open_grant(
    app: &App,
    user_id: &str,
    module_id: &str,
) -> Result<Option<ModuleGrant>, Error> {
    let grants = rows::of_user(&app.db, user_id).await?;
    Ok(grants.into_iter().find(|grant| grant.module_id == module_id))
}

/// The scopes of a module that its user has through no other one. Another grant counts only if it
/// lasts as long as every token that exists: tokens were issued until the later end of both.
async fn lost_scopes(
    tx: &mut AuditedTx,
    user_id: &str,
    module_id: &str,
) -> storage::Result<Vec<String>> {
    let outlives_tokens = tx.now() + LONGEST_TOKEN_LIFE;
    let modules = rows::all_in(tx).await?;
    let grants = rows::open_of_user_in(tx, user_id).await?;
    let Some(module) = modules.iter().find(|module| module.id == module_id) else {
        return Ok(vec![]);
    };
    let remains = |scope: &str| {
        modules.iter().any(|other| {
            other.id != module.id
                && other.resource == module.resource
                && other.scope.contains(scope)
                && grants
                    .iter()
                    .any(|grant| grant.module_id == other.id && grant.is_live(outlives_tokens))
        })
    };
    let lost = module.scope.iter().filter(|scope| !remains(scope));
    Ok(lost.map(str::to_owned).collect())
}

/// Closes up to `most` grants whose end has passed, of a user or (`""`) of everybody, so that the
/// others are live; gives their number.
async fn expire(tx: &mut AuditedTx, user_id: &str, most: usize) -> storage::Result<usize> {
    let now = tx.now();
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let closed = rows::close_expired(tx, user_id, now, most).await?;
    for (user, module, end) in &closed {
        let event = Event::module(ModuleChange::Expired, user, module, None, Some(*end));
        let id = tx.new_id();
        // Time is the cause, and no request.
        outbox::add(tx, id, &event, None, now).await?;
    }
    Ok(closed.len())
}

/// Closes up to `most` grants whose end has passed; gives their number.
///
/// # Errors
/// [`storage::Error`].
pub async fn expire_some(app: &App, most: usize) -> storage::Result<usize> {
    let mut tx = app.begin(&Actor::operator()).await?;
    let closed = expire(&mut tx, "", most).await?;
    tx.commit().await?;
    Ok(closed)
}

/// Grants modules to a user who was inserted in this transaction, on behalf of `by`. Modules that
/// were deleted, and grants whose end has passed, are omitted.
pub(crate) async fn grant_first(
    tx: &mut AuditedTx,
    user_id: &UserId,
    grants: &[OpenGrant],
    by: &str,
) -> storage::Result<()> {
    if grants.is_empty() {
        return Ok(());
    }
    let (now, known) = (tx.now(), rows::all_in(tx).await?);
    let exists = |grant: &&OpenGrant| known.iter().any(|module| module.id == grant.module_id);
    for grant in grants.iter().filter(exists).filter(|grant| grant.is_live(now)) {
        let new = ModuleGrant {
            id: tx.new_id(),
            subject: user_id.to_string(),
            user_id: Some(user_id.clone()),
            module_id: grant.module_id.clone(),
            valid_from: now,
            valid_until: grant.valid_until,
            granted_by: by.to_owned(),
            ended_by: None,
            closed_at: None,
        };
        rows::open(tx, &new).await?;
        let ids = (user_id.as_str(), grant.module_id.as_str());
        record_by(tx, ModuleChange::Enabled, ids, by, grant.valid_until).await?;
    }
    Ok(())
}

/// Adds the event of a user's module and its audit entry.
async fn record(
    tx: &mut AuditedTx,
    kind: ModuleChange,
    ids: (&str, &str),
    until: Option<Timestamp>,
) -> storage::Result<()> {
    let by = tx.actor().actor.clone();
    record_by(tx, kind, ids, &by, until).await
}

/// As [`record`], where `by` has decided it.
async fn record_by(
    tx: &mut AuditedTx,
    kind: ModuleChange,
    (user_id, module_id): (&str, &str),
    by: &str,
    until: Option<Timestamp>,
) -> storage::Result<()> {
    tx.event(&Event::module(kind, user_id, module_id, Some(by), until)).await?;
    let detail = json!({ "moduleId": module_id, "validUntil": until.map(Timestamp::rfc3339) });
    tx.audit(kind.as_str(), Some(user_id), detail).await
}

/// The catalogue as of now.
async fn catalogue(app: &App) -> Result<Arc<Catalogue>, Error> {
    app.sync().await?;
    Ok(app.directory.catalogue(&app.db).await?)
}

fn module_in<'a>(catalogue: &'a Catalogue, id: &str) -> Result<&'a Module, Error> {
    catalogue.modules.get(id).ok_or(Error::NoSuchModule)
}

/// The module of that id.
///
/// # Errors
/// [`Error::NoSuchModule`].
pub async fn by_id(app: &App, id: &str) -> Result<Module, Error> {
    module_in(&*catalogue(app).await?, id).cloned()
}

/// The grants that a user has, and had, newest first.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn history(app: &App, user_id: &str) -> Result<Vec<ModuleGrant>, Error> {
    const MOST: i64 = 1_000;
    let from_now_on = (Timestamp(i64::MAX), "");
    Ok(rows::history(&app.db, user_id, from_now_on, MOST).await?)
}

/// The grants that a user had at a moment.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn at(app: &App, user_id: &str, moment: Timestamp) -> Result<Vec<ModuleGrant>, Error> {
    Ok(rows::at(&app.db, user_id, moment).await?)
}

/// Creates a module.
///
/// # Errors
/// [`Error::Validation`]; [`Error::Conflict`] for an id that is taken; [`Error::KeyReused`];
/// [`Error::NoSuchModule`] where an earlier request has created the module and it was deleted
/// since.
pub async fn create(
    app: &App,
    module: Module,
    request: Option<IdempotentRequest>,
    actor: &Actor,
) -> Result<Created<Module>, Error> {
    check(&module)?;
    let mut tx = app.begin(actor).await?;
    let known = rows::lock(&mut tx, &module.id).await?;
    if let Some(id) = idempotency::claim(&mut tx, request.as_ref(), &module.id).await? {
        tx.rollback().await?;
        let earlier = known.filter(|known| known.id == id).ok_or(Error::NoSuchModule)?;
        return Ok(Created::earlier(earlier));
    }
    if known.is_some() {
        return Err(Error::Conflict(
            "a module of this id exists: update it (`propusk module set`, or PUT)",
        ));
    }
    let module = store(&mut tx, module, None).await?;
    tx.commit().await?;
    Ok(Created::now(module))
}

/// Replaces the settings of a module. Scopes that it no longer has are refused in its users'
/// tokens.
///
/// # Errors
/// [`Error::Validation`]; [`Error::NoSuchModule`]; [`Error::Changed`].
pub async fn update(
    app: &App,
    module: Module,
    precondition: &Precondition,
    actor: &Actor,
) -> Result<Module, Error> {
    check(&module)?;
    let mut tx = app.begin(actor).await?;
    let known = rows::lock(&mut tx, &module.id).await?.ok_or(Error::NoSuchModule)?;
    precondition.check(known.updated_at)?;
    let module = store(&mut tx, module, Some(known)).await?;
    tx.commit().await?;
    Ok(module)
}

/// Creates a module, or replaces the settings of the one of that id.
///
/// # Errors
/// [`Error::Validation`].
pub async fn put(app: &App, module: Module, actor: &Actor) -> Result<Module, Error> {
    check(&module)?;
    let mut tx = app.begin(actor).await?;
    let known = rows::lock(&mut tx, &module.id).await?;
    let module = store(&mut tx, module, known).await?;
    tx.commit().await?;
    Ok(module)
}

async fn store(
    tx: &mut AuditedTx,
    mut module: Module,
    known: Option<Module>,
) -> storage::Result<Module> {
    // The lock may have waited for another change.
    let now = tx.read_clock();
    module.created_at = known.as_ref().map_or(now, |known| known.created_at);
    module.updated_at = known.as_ref().map_or(now, |known| now.past(known.updated_at));
    rows::put(tx, &module).await?;
    let (before, after) = (known.as_ref().map(described), described(&module));
    let detail = json!({ "moduleId": module.id, "before": before, "after": after });
    tx.audit("module.put", None, detail).await?;
    if let Some(known) = &known {
        let is_moved = known.resource != module.resource;
        let lost = known.scope.iter().filter(|scope| is_moved || !module.scope.contains(scope));
        let lost: Vec<String> = lost.map(str::to_owned).collect();
        let of = WithdrawnModule { module_id: &module.id, subject: "", closed_at: None };
        refuse_scopes(tx, &lost, of, "module_changed").await?;
    }
    Ok(module)
}

/// Deletes a module, and ends all grants of it. Their history stays.
///
/// # Errors
/// [`Error::NoSuchModule`]; [`Error::Changed`].
pub async fn delete(
    app: &App,
    id: &str,
    precondition: &Precondition,
    actor: &Actor,
) -> Result<(), Error> {
    let mut tx = app.begin(actor).await?;
    let known = rows::lock(&mut tx, id).await?.ok_or(Error::NoSuchModule)?;
    precondition.check(known.updated_at)?;
    // The lock may have waited for another change.
    let now = tx.read_clock();
    rows::remove(&mut tx, id).await?;
    let users = rows::close(&mut tx, id, GrantHolder::Everyone, &actor.actor, now).await?;
    for user in &users {
        let event = Event::module(ModuleChange::Disabled, user, id, Some(&actor.actor), None);
        tx.event(&event).await?;
    }
    let detail = json!({ "moduleId": id, "before": described(&known), "users": users.len() });
    tx.audit("module.remove", None, detail).await?;
    let scopes: Vec<String> = known.scope.iter().map(str::to_owned).collect();
    let of = WithdrawnModule { module_id: id, subject: "", closed_at: Some(now) };
    refuse_scopes(&mut tx, &scopes, of, "module_removed").await?;
    Ok(tx.commit().await?)
}

/// Refuses scopes in the tokens of users who have, or had, a module.
async fn refuse_scopes(
    tx: &mut AuditedTx,
    scopes: &[String],
    of: WithdrawnModule<'_>,
    reason: &'static str,
) -> storage::Result<()> {
    if scopes.is_empty() {
        return Ok(());
    }
    let clock = tx.clock().clone();
    revocations::add_scopes(tx, &clock, scopes, of, reason).await
}

fn described(module: &Module) -> Value {
    json!({
        "names": module.names, "descriptions": module.descriptions, "scope": module.scope.to_string(),
        "resource": module.resource, "selfService": module.is_self_service,
    })
}

/// Checks the settings of a module.
pub(crate) fn check(module: &Module) -> Result<(), Vec<FieldError>> {
    let mut found = vec![];
    let mut refuse = |field, message: &str| {
        found.push(FieldError { field, message: message.to_owned() });
    };
    let id_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
    if !(1..=64).contains(&module.id.len()) || !module.id.bytes().all(id_byte) {
        refuse("id", "must be 1 to 64 of a-z, 0-9, _ and -");
    }
    for (field, texts, longest) in [
        ("names", &module.names, LONGEST_NAME),
        ("descriptions", &module.descriptions, LONGEST_DESCRIPTION),
    ] {
        let language = |tag: &String| {
            (2..=35).contains(&tag.len())
                && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !texts.keys().all(language) || texts.len() > 50 {
            refuse(field, "must have language tags as keys, like \"en\" and \"ru\"");
        }
        let is_text = |text: &String| {
            !text.trim().is_empty()
                && text.chars().count() <= longest
                && !text.contains(char::is_control)
        };
        if !texts.values().all(is_text) {
            refuse(field, &format!("must be strings of 1 to {longest} characters in one line"));
        }
    }
    if module.names.is_empty() {
        refuse("names", "must have at least one language");
    }
    if module.scope.is_empty() {
        refuse("scope", "must have at least one scope");
    }
    let reserved = |scope| resources::is_about_the_user(scope) || is_own(scope);
    if module.scope.iter().any(reserved) {
        refuse(
            "scope",
            "must not have openid, profile, email, offline_access or propusk:…: they cannot depend on a module",
        );
    }
    let uri = module.resource.as_deref().map(policy::check_resource);
    if let Some(Err(why)) = uri {
        refuse("resource", why);
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

//! Modules: who has them, and what a token may therefore carry.

pub mod file;

use serde_json::{Value, json};

use crate::{
    app::App,
    clock::Timestamp,
    error::{Error, FieldError},
    flows::{
        admin::{
            access::Expected,
            clients::policy,
            idempotency::{Made, Once, claim},
        },
        oauth::resources,
        tokens::scope::is_own,
    },
    model::{
        actor::Actor,
        event::{Event, ModuleChange},
        module::{Module, ModuleGrant},
    },
    storage::{
        self, Tx, modules as rows,
        modules::GrantHolder,
        outbox,
        revocations::{self, WithdrawnModule},
        users,
    },
};

/// Longer texts than these are no names and descriptions.
const LONGEST_NAME: usize = 100;
const LONGEST_DESCRIPTION: usize = 1_000;

/// A module, and how a user stands to it.
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
    app.sync().await?;
    let catalogue = app.directory.catalogue(&app.db).await?;
    let grants = rows::of_user(&app.db, user_id).await?;
    let now = app.clock.now();
    let status = |module: &Module| {
        let mut of_it = grants.iter().filter(|grant| grant.module_id == module.id);
        let live = |grant: &&ModuleGrant| grant.valid_until.is_none_or(|until| until > now);
        Status { module: module.clone(), grant: of_it.find(live).cloned() }
    };
    Ok(catalogue.modules.values().map(status).collect())
}

/// A user switches one of their modules; nothing happens where it is so already.
///
/// # Errors
/// [`Error::NoSuchModule`], [`Error::NotSelfService`].
pub async fn switch(
    app: &App,
    user_id: &str,
    module_id: &str,
    on: bool,
    by: &Actor,
) -> Result<Status, Error> {
    let module = named(app, module_id).await?;
    if !module.is_self_service {
        return Err(Error::NotSelfService);
    }
    if on {
        // What an administrator has limited stays limited.
        open(app, user_id, module_id, None, Existing::Stays, by).await?;
    } else {
        withdraw(app, user_id, module_id, by).await?;
    }
    let grants = rows::of_user(&app.db, user_id).await?;
    let grant = grants.into_iter().find(|grant| grant.module_id == module_id);
    Ok(Status { module, grant })
}

/// Gives a user a module, until a planned end or for good. Where they have it with another end, that grant ends and a new
/// one begins.
///
/// # Errors
/// [`Error::NoSuchModule`], [`Error::NotFound`] for the user, [`Error::Validation`] for an end that has passed.
pub async fn grant(
    app: &App,
    user_id: &str,
    module_id: &str,
    until: Option<Timestamp>,
    by: &Actor,
) -> Result<(), Error> {
    named(app, module_id).await?;
    if until.is_some_and(|until| until <= app.clock.now()) {
        return Err(wrong("validUntil", "must lie in the future"));
    }
    open(app, user_id, module_id, until, Existing::Replaced, by).await
}

/// Takes a module from a user: no token gets its scopes any more, and live ones that carry them are refused at once.
///
/// # Errors
/// [`Error::Unavailable`]. Nothing happens where the user does not have it.
pub async fn withdraw(app: &App, user_id: &str, module_id: &str, by: &Actor) -> Result<(), Error> {
    let lost = lost_scopes(app, user_id, module_id).await?;
    let (user_id, module_id, by) = (user_id.to_owned(), module_id.to_owned(), by.clone());
    let (event_id, expired_id, clock) = (app.new_id(), app.new_id(), app.clock.clone());
    let now = clock.now();
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                expire(&mut tx, &user_id, &[expired_id], now).await?;
                let whose = GrantHolder::User(&user_id);
                if rows::close(&mut tx, &module_id, whose, &by.actor, now).await?.is_empty() {
                    return Ok(());
                }
                tell(
                    &mut tx,
                    ModuleChange::Disabled,
                    &user_id,
                    &module_id,
                    None,
                    event_id,
                    &by,
                    now,
                )
                .await?;
                let of = WithdrawnModule {
                    module_id: &module_id,
                    user_id: &user_id,
                    closed_at: Some(now),
                };
                revocations::add_scopes(&mut tx, &lost, of, &clock, "module_withdrawn").await
            })
        })
        .await?;
    Ok(())
}

/// What becomes of a grant that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Stays,
    /// Unless it has the same end.
    Replaced,
}

async fn open(
    app: &App,
    user_id: &str,
    module_id: &str,
    until: Option<Timestamp>,
    existing: Existing,
    by: &Actor,
) -> Result<(), Error> {
    let user = users::by_id(&app.db, user_id).await?;
    user.ok_or(Error::NotFound("user"))?;
    let lost = lost_scopes(app, user_id, module_id).await?;
    let (clock, event_id, expired_id) = (app.clock.clone(), app.new_id(), app.new_id());
    let now = clock.now();
    let (by, new) = (
        by.clone(),
        ModuleGrant {
            id: app.new_id(),
            user_id: user_id.to_owned(),
            module_id: module_id.to_owned(),
            valid_from: now,
            valid_until: until,
            granted_by: by.actor.clone(),
            ended_by: None,
            closed_at: None,
        },
    );
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let (user_id, module_id) = (new.user_id.clone(), new.module_id.clone());
                expire(&mut tx, &user_id, &[expired_id], now).await?;
                let mut shortened = false;
                if !rows::open(&mut tx, &new).await? {
                    if existing == Existing::Stays {
                        return Ok(());
                    }
                    let known = rows::planned_end(&mut tx, &user_id, &module_id).await?;
                    if known == Some(until) {
                        return Ok(());
                    }
                    shortened =
                        until.is_some() && known.flatten().is_none_or(|end| Some(end) > until);
                    rows::close(&mut tx, &module_id, GrantHolder::User(&user_id), &by.actor, now)
                        .await?;
                    rows::open(&mut tx, &new).await?;
                }
                tell(
                    &mut tx,
                    ModuleChange::Enabled,
                    &user_id,
                    &module_id,
                    until,
                    event_id,
                    &by,
                    now,
                )
                .await?;
                if !shortened {
                    return Ok(());
                }
                // Tokens that are out may live longer than the grant does now.
                let of = WithdrawnModule {
                    module_id: &module_id,
                    user_id: &user_id,
                    closed_at: Some(now),
                };
                revocations::add_scopes(&mut tx, &lost, of, &clock, "module_shortened").await
            })
        })
        .await?;
    Ok(())
}

/// The scopes that a user has through this module alone.
async fn lost_scopes(app: &App, user_id: &str, module_id: &str) -> Result<Vec<String>, Error> {
    app.sync().await?;
    let catalogue = app.directory.catalogue(&app.db).await?;
    let Some(module) = catalogue.modules.get(module_id) else {
        return Ok(vec![]);
    };
    let (grants, now) = (rows::of_user(&app.db, user_id).await?, app.clock.now());
    let has = |other: &Module| {
        let mut of_it = grants.iter().filter(|grant| grant.module_id == other.id);
        of_it.any(|grant| grant.valid_until.is_none_or(|until| until > now))
    };
    let remains = |scope: &str| {
        let mut others = catalogue.modules_with(scope);
        others.any(|other| other.id != module.id && other.resource == module.resource && has(other))
    };
    let lost = module.scope.iter().filter(|scope| !remains(scope));
    Ok(lost.map(str::to_owned).collect())
}

/// Closes a user's grants whose end has passed, so that what follows finds open ones only.
async fn expire(
    tx: &mut Tx<'_>,
    user_id: &str,
    event_ids: &[String],
    now: Timestamp,
) -> storage::Result<()> {
    let most = i64::try_from(event_ids.len()).unwrap_or(1);
    // One transaction has ids for so many events; the rest is closed by the next one or by maintenance.
    let closed = rows::close_expired(tx, user_id, now, most).await?;
    for ((user, module, end), id) in closed.iter().zip(event_ids) {
        let event = Event::module(ModuleChange::Expired, user, module, None, Some(*end));
        outbox::add(tx, id.clone(), &event, None, now).await?;
    }
    Ok(())
}

/// Closes every grant whose end has passed, some at a time; says how many.
///
/// # Errors
/// [`storage::Error`].
pub async fn expire_some(app: &App, most: usize) -> storage::Result<usize> {
    let ids: Vec<String> = std::iter::repeat_with(|| app.new_id()).take(most).collect();
    let now = app.clock.now();
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let most = i64::try_from(ids.len()).unwrap_or(1);
                let closed = rows::close_expired(&mut tx, "", now, most).await?;
                for ((user, module, end), id) in closed.iter().zip(ids) {
                    let event =
                        Event::module(ModuleChange::Expired, user, module, None, Some(*end));
                    outbox::add(&mut tx, id, &event, None, now).await?;
                }
                Ok(closed.len())
            })
        })
        .await
}

#[allow(clippy::too_many_arguments)]
async fn tell(
    tx: &mut Tx<'_>,
    kind: ModuleChange,
    user_id: &str,
    module_id: &str,
    until: Option<Timestamp>,
    event_id: String,
    by: &Actor,
    now: Timestamp,
) -> storage::Result<()> {
    let event = Event::module(kind, user_id, module_id, Some(&by.actor), until);
    outbox::add(tx, event_id, &event, by.correlation_id(), now).await?;
    let detail = json!({ "moduleId": module_id, "validUntil": until.map(Timestamp::rfc3339) });
    by.note(tx, kind.as_str(), Some(user_id), detail, now).await
}

/// A module by its id.
///
/// # Errors
/// [`Error::NoSuchModule`].
pub async fn named(app: &App, id: &str) -> Result<Module, Error> {
    app.sync().await?;
    let catalogue = app.directory.catalogue(&app.db).await?;
    catalogue.modules.get(id).cloned().ok_or(Error::NoSuchModule)
}

/// What a user has, and had, newest first.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn history(app: &App, user_id: &str) -> Result<Vec<ModuleGrant>, Error> {
    const MOST: i64 = 1_000;
    let from_now_on = (Timestamp(i64::MAX), "");
    Ok(rows::history(&app.db, user_id, from_now_on, MOST).await?)
}

/// What a user could do at a moment, and who had given it to them.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn at(app: &App, user_id: &str, moment: Timestamp) -> Result<Vec<ModuleGrant>, Error> {
    Ok(rows::at(&app.db, user_id, moment).await?)
}

/// How a module must stand for it to be put.
#[derive(Clone, Debug)]
pub enum Must {
    /// It may be there or not.
    Whatever,
    /// Nobody has one of this id; the same call under the same key counts once.
    BeNew(Option<Once>),
    /// It is there, in one of these states.
    Be(Expected),
}

/// Adds a module, or changes the one of that id. Scopes that it no longer gives are refused in the tokens of all who have
/// it.
///
/// # Errors
/// [`Error::Validation`]; [`Error::Changed`], [`Error::NoSuchModule`], [`Error::Conflict`] and [`Error::KeyReused`] where it
/// does not stand as it must.
pub async fn put(
    app: &App,
    mut module: Module,
    must: Must,
    by: &Actor,
) -> Result<Made<Module>, Error> {
    check(&module).map_err(Error::Validation)?;
    let (by, clock) = (by.clone(), app.clock.clone());
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let known = rows::lock(&mut tx, &module.id).await?;
                let now = clock.now();
                match (&must, &known) {
                    (Must::BeNew(once), _) => {
                        if let Some(made) = claim(once.as_ref(), &mut tx, &module.id, now).await? {
                            return Ok(made);
                        }
                        if known.is_some() {
                            return Err(storage::Error::Conflict(storage::Conflict::Other));
                        }
                    }
                    (Must::Be(_), None) => return Ok(Err(Error::NoSuchModule)),
                    (Must::Be(expected), Some(known)) => {
                        if let Err(changed) = expected.check(known.updated_at) {
                            return Ok(Err(changed));
                        }
                    }
                    (Must::Whatever, _) => {}
                }
                module.created_at = known.as_ref().map_or(now, |known| known.created_at);
                let changed_at = known.as_ref().map(|known| now.past(known.updated_at));
                module.updated_at = changed_at.unwrap_or(now);
                rows::put(&mut tx, &module).await?;
                let (before, after) = (known.as_ref().map(described), described(&module));
                let detail = json!({ "moduleId": module.id, "before": before, "after": after });
                by.note(&mut tx, "module.put", None, detail, now).await?;
                if let Some(known) = &known {
                    let moved = known.resource != module.resource;
                    let lost =
                        known.scope.iter().filter(|one| moved || !module.scope.contains(one));
                    let lost: Vec<String> = lost.map(str::to_owned).collect();
                    refuse_scopes(&mut tx, &module.id, &lost, &clock).await?;
                }
                Ok(Ok(Made::Now(module)))
            })
        })
        .await
        .map_err(|error| match error {
            storage::Error::Conflict(_) => {
                Error::Conflict("there is a module of this id already: change that one")
            }
            other => other.into(),
        })?
}

/// Removes a module; whoever has it loses it. Its history stays.
///
/// # Errors
/// [`Error::NoSuchModule`]; [`Error::Changed`].
pub async fn remove(app: &App, id: &str, expected: &Expected, by: &Actor) -> Result<(), Error> {
    let (id, by, clock) = (id.to_owned(), by.clone(), app.clock.clone());
    let (rng, expected) = (app.rng.clone(), expected.clone());
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let Some(known) = rows::lock(&mut tx, &id).await? else {
                    return Ok(Err(Error::NoSuchModule));
                };
                if let Err(changed) = expected.check(known.updated_at) {
                    return Ok(Err(changed));
                }
                let now = clock.now();
                rows::remove(&mut tx, &id).await?;
                let users =
                    rows::close(&mut tx, &id, GrantHolder::Everyone, &by.actor, now).await?;
                for user in &users {
                    let event =
                        Event::module(ModuleChange::Disabled, user, &id, Some(&by.actor), None);
                    let event_id = crate::model::new_id(&clock, &rng);
                    outbox::add(&mut tx, event_id, &event, by.correlation_id(), now).await?;
                }
                let detail =
                    json!({ "moduleId": id, "before": described(&known), "users": users.len() });
                by.note(&mut tx, "module.remove", None, detail, now).await?;
                let scopes: Vec<String> = known.scope.iter().map(str::to_owned).collect();
                let of = WithdrawnModule { module_id: &id, user_id: "", closed_at: Some(now) };
                revocations::add_scopes(&mut tx, &scopes, of, &clock, "module_removed").await?;
                Ok(Ok(()))
            })
        })
        .await?
}

/// Refuses scopes that a module no longer gives, to all who have it.
async fn refuse_scopes(
    tx: &mut Tx<'_>,
    module_id: &str,
    lost: &[String],
    clock: &crate::clock::Clock,
) -> storage::Result<()> {
    if lost.is_empty() {
        return Ok(());
    }
    let of = WithdrawnModule { module_id, user_id: "", closed_at: None };
    revocations::add_scopes(tx, lost, of, clock, "module_changed").await
}

fn described(module: &Module) -> Value {
    json!({
        "names": module.names, "descriptions": module.descriptions, "scope": module.scope.to_string(),
        "resource": module.resource, "selfService": module.is_self_service,
    })
}

fn wrong(field: &'static str, message: &str) -> Error {
    Error::Validation(vec![FieldError { field, message: message.to_owned() }])
}

/// What a module must be.
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
            refuse(field, "must be named by language tags, as \"en\" and \"ru\"");
        }
        let good = |text: &String| {
            !text.trim().is_empty()
                && text.chars().count() <= longest
                && !text.contains(char::is_control)
        };
        if !texts.values().all(good) {
            refuse(field, &format!("must be texts of 1 to {longest} characters in one line"));
        }
    }
    if module.names.is_empty() {
        refuse("names", "must have a name in at least one language");
    }
    if module.scope.is_empty() {
        refuse("scope", "must name at least one scope");
    }
    let reserved = |scope| resources::is_about_a_person(scope) || is_own(scope);
    if module.scope.iter().any(reserved) {
        refuse(
            "scope",
            "must not have openid, profile, email, offline_access or propusk:…: those are no module's",
        );
    }
    let uri = module.resource.as_deref().map(policy::check_resource);
    if let Some(Err(why)) = uri {
        refuse("resource", why);
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

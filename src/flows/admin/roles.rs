//! The roles of users. Every deployment has `user` and `admin`.

use serde_json::{Value, json};

use crate::{
    app::App,
    error::Error,
    flows::admin::{
        access::Precondition,
        idempotency::{self, Created, IdempotentRequest},
    },
    model::{
        actor::Actor,
        user::{Role, RoleEntry, RoleSettings},
    },
    storage::{self, roles},
};

/// Every role, with the number of its users.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn all(app: &App) -> Result<Vec<RoleEntry>, Error> {
    Ok(roles::all(&app.db).await?)
}

/// The role of that name.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn by_name(app: &App, name: &str) -> Result<RoleEntry, Error> {
    let found = roles::by_name(&app.db, name).await?;
    found.ok_or(Error::NotFound("role"))
}

/// Creates a role.
///
/// # Errors
/// [`Error::Validation`] for the description; [`Error::Conflict`] for a name that is taken;
/// [`Error::KeyReused`]; [`Error::NotFound`] where an earlier request has created the role and it
/// was deleted since.
pub async fn create(
    app: &App,
    role: Role,
    settings: RoleSettings,
    request: Option<IdempotentRequest>,
    actor: &Actor,
) -> Result<Created<RoleEntry>, Error> {
    check(&settings)?;
    let mut tx = app.begin(actor).await?;
    if let Some(name) = idempotency::claim(&mut tx, request.as_ref(), role.as_str()).await? {
        tx.rollback().await?;
        return Ok(Created::earlier(by_name(app, &name).await?));
    }
    let now = tx.now();
    roles::insert(&mut tx, &role, &settings, now).await.map_err(|error| match error {
        storage::Error::Conflict(_) => Error::Conflict("a role of this name exists: update it"),
        other => other.into(),
    })?;
    tx.audit("role.put", None, detail(&role, None, &settings)).await?;
    tx.commit().await?;
    Ok(Created::now(RoleEntry { role, settings, users: 0, created_at: now, updated_at: now }))
}

/// Changes a role; `None` keeps a value.
///
/// # Errors
/// [`Error::Validation`] for the description; [`Error::NotFound`]; [`Error::Changed`].
pub async fn update(
    app: &App,
    role: Role,
    precondition: &Precondition,
    description: Option<String>,
    require_second_factor: Option<bool>,
    actor: &Actor,
) -> Result<RoleEntry, Error> {
    let mut tx = app.begin(actor).await?;
    let mut entry = roles::lock(&mut tx, &role).await?.ok_or(Error::NotFound("role"))?;
    precondition.check(entry.updated_at)?;
    let settings = RoleSettings {
        description: description.unwrap_or_else(|| entry.settings.description.clone()),
        require_second_factor: require_second_factor
            .unwrap_or(entry.settings.require_second_factor),
    };
    check(&settings)?;
    if entry.settings == settings {
        return Ok(entry);
    }
    let now = tx.now();
    roles::put(&mut tx, &role, &settings, now).await?;
    let changed = detail(&role, Some(&entry.settings), &settings);
    tx.audit("role.put", None, changed).await?;
    tx.commit().await?;
    entry.updated_at = now.past(entry.updated_at);
    entry.settings = settings;
    Ok(entry)
}

/// Creates a role, or changes its settings.
///
/// # Errors
/// [`Error::Validation`] for the description.
pub async fn put(
    app: &App,
    role: Role,
    settings: RoleSettings,
    actor: &Actor,
) -> Result<(), Error> {
    check(&settings)?;
    let mut tx = app.begin(actor).await?;
    let now = tx.now();
    roles::put(&mut tx, &role, &settings, now).await?;
    tx.audit("role.put", None, detail(&role, None, &settings)).await?;
    Ok(tx.commit().await?)
}

/// Deletes a role that no user has.
///
/// # Errors
/// [`Error::Conflict`] where a user has it, or every deployment has it; [`Error::NotFound`];
/// [`Error::Changed`].
pub async fn delete(
    app: &App,
    role: Role,
    precondition: &Precondition,
    actor: &Actor,
) -> Result<(), Error> {
    if role.is_built_in() {
        return Err(Error::Conflict("`user` and `admin` cannot be deleted"));
    }
    let mut tx = app.begin(actor).await?;
    // A transaction that assigns the role holds the row: the next statement sees its user.
    let entry = roles::lock(&mut tx, &role).await?.ok_or(Error::NotFound("role"))?;
    precondition.check(entry.updated_at)?;
    let now = tx.now();
    if !roles::remove(&mut tx, &role, now).await? {
        return Err(Error::Conflict(
            "the role is in use: give its users another one, and revoke invitations with it, first",
        ));
    }
    tx.audit("role.remove", None, json!({ "role": role.as_str() })).await?;
    Ok(tx.commit().await?)
}

/// The entry of the audit log; with the old values where they are known and differ.
fn detail(role: &Role, from: Option<&RoleSettings>, to: &RoleSettings) -> Value {
    let description = match from {
        Some(from) if from.description != to.description => {
            json!({ "from": from.description, "to": to.description })
        }
        _ => json!(to.description),
    };
    let required = match from {
        Some(from) if from.require_second_factor != to.require_second_factor => {
            json!({ "from": from.require_second_factor, "to": to.require_second_factor })
        }
        _ => json!(to.require_second_factor),
    };
    json!({ "role": role.as_str(), "description": description, "requireSecondFactor": required })
}

fn check(settings: &RoleSettings) -> Result<(), Error> {
    let description = &settings.description;
    if description.chars().count() > 500 || description.contains(char::is_control) {
        let message = "must be at most 500 characters without line breaks";
        return Err(Error::field("description", message));
    }
    Ok(())
}

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
        user::{Role, RoleEntry},
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
    description: String,
    request: Option<IdempotentRequest>,
    actor: &Actor,
) -> Result<Created<RoleEntry>, Error> {
    check(&description)?;
    let mut tx = app.begin(actor).await?;
    if let Some(name) = idempotency::claim(&mut tx, request.as_ref(), role.as_str()).await? {
        tx.rollback().await?;
        return Ok(Created::earlier(by_name(app, &name).await?));
    }
    let now = tx.now();
    roles::insert(&mut tx, &role, &description, now).await.map_err(|error| match error {
        storage::Error::Conflict(_) => Error::Conflict("a role of this name exists: update it"),
        other => other.into(),
    })?;
    tx.audit("role.put", None, detail(&role, json!(description))).await?;
    tx.commit().await?;
    Ok(Created::now(RoleEntry { role, description, users: 0, created_at: now, updated_at: now }))
}

/// Changes a role's description.
///
/// # Errors
/// [`Error::Validation`] for the description; [`Error::NotFound`]; [`Error::Changed`].
pub async fn update(
    app: &App,
    role: Role,
    precondition: &Precondition,
    description: String,
    actor: &Actor,
) -> Result<RoleEntry, Error> {
    check(&description)?;
    let mut tx = app.begin(actor).await?;
    let mut entry = roles::lock(&mut tx, &role).await?.ok_or(Error::NotFound("role"))?;
    precondition.check(entry.updated_at)?;
    if entry.description == description {
        return Ok(entry);
    }
    let now = tx.now();
    roles::put(&mut tx, &role, &description, now).await?;
    let changed = json!({ "from": entry.description, "to": description });
    tx.audit("role.put", None, detail(&role, changed)).await?;
    tx.commit().await?;
    entry.updated_at = now.past(entry.updated_at);
    entry.description = description;
    Ok(entry)
}

/// Creates a role, or changes its description.
///
/// # Errors
/// [`Error::Validation`] for the description.
pub async fn put(app: &App, role: Role, description: String, actor: &Actor) -> Result<(), Error> {
    check(&description)?;
    let mut tx = app.begin(actor).await?;
    let now = tx.now();
    roles::put(&mut tx, &role, &description, now).await?;
    tx.audit("role.put", None, detail(&role, json!(description))).await?;
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
    if !roles::remove(&mut tx, &role).await? {
        return Err(Error::Conflict("the role is in use: give its users another one first"));
    }
    tx.audit("role.remove", None, json!({ "role": role.as_str() })).await?;
    Ok(tx.commit().await?)
}

fn detail(role: &Role, description: Value) -> Value {
    json!({ "role": role.as_str(), "description": description })
}

fn check(description: &str) -> Result<(), Error> {
    if description.chars().count() > 500 || description.contains(char::is_control) {
        let message = "must be at most 500 characters without line breaks";
        return Err(Error::field("description", message));
    }
    Ok(())
}

//! The roles that users may have. `user` and `admin` are always there.

use serde_json::json;

use crate::{
    app::App,
    error::{Error, FieldError},
    flows::admin::{
        access::Expected,
        idempotency::{Made, Once, claim},
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
pub async fn named(app: &App, name: &str) -> Result<RoleEntry, Error> {
    let found = roles::by_name(&app.db, name).await?;
    found.ok_or(Error::NotFound("role"))
}

/// Adds a role; the same call under the same key adds one.
///
/// # Errors
/// [`Error::Validation`] for a description that is too long; [`Error::Conflict`] where there is one of this name;
/// [`Error::KeyReused`].
pub async fn add(
    app: &App,
    role: Role,
    description: String,
    once: Option<Once>,
    by: &Actor,
) -> Result<Made<()>, Error> {
    check(&description)?;
    let (by, now) = (by.clone(), app.clock.now());
    let added = app.db.transaction(move |mut tx| {
        Box::pin(async move {
            if let Some(known) = claim(once.as_ref(), &mut tx, role.as_str(), now).await? {
                return Ok(known);
            }
            roles::insert(&mut tx, &role, &description, now).await?;
            let detail = json!({ "role": role.as_str(), "description": description });
            by.note(&mut tx, "role.put", None, detail, now).await?;
            Ok(Ok(Made::Now(())))
        })
    });
    match added.await {
        Ok(made) => made,
        Err(storage::Error::Conflict(_)) => {
            Err(Error::Conflict("there is a role of this name already: change that one"))
        }
        Err(other) => Err(other.into()),
    }
}

/// Changes a role's description.
///
/// # Errors
/// [`Error::Validation`] for one that is too long; [`Error::NotFound`]; [`Error::Changed`].
pub async fn describe(
    app: &App,
    role: Role,
    expected: &Expected,
    description: String,
    by: &Actor,
) -> Result<(), Error> {
    check(&description)?;
    let (expected, by, now) = (expected.clone(), by.clone(), app.clock.now());
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let Some(known) = roles::lock(&mut tx, &role).await? else {
                    return Ok(Err(Error::NotFound("role")));
                };
                if let Err(changed) = expected.check(known.updated_at) {
                    return Ok(Err(changed));
                }
                if known.description == description {
                    return Ok(Ok(()));
                }
                roles::put(&mut tx, &role, &description, now).await?;
                let changed = json!({ "from": known.description, "to": description });
                let detail = json!({ "role": role.as_str(), "description": changed });
                by.note(&mut tx, "role.put", None, detail, now).await?;
                Ok(Ok(()))
            })
        })
        .await?
}

/// Adds a role, or changes its description.
///
/// # Errors
/// [`Error::Validation`] for a description that is too long.
pub async fn put(app: &App, role: Role, description: String, by: &Actor) -> Result<(), Error> {
    check(&description)?;
    let (by, now) = (by.clone(), app.clock.now());
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                roles::put(&mut tx, &role, &description, now).await?;
                let detail = json!({ "role": role.as_str(), "description": description });
                by.note(&mut tx, "role.put", None, detail, now).await
            })
        })
        .await?;
    Ok(())
}

fn check(description: &str) -> Result<(), Error> {
    if description.chars().count() > 500 || description.contains(char::is_control) {
        let message = "must be at most 500 characters, without line ends".to_owned();
        return Err(Error::Validation(vec![FieldError { field: "description", message }]));
    }
    Ok(())
}

/// Removes a role that nobody has.
///
/// # Errors
/// [`Error::Conflict`] where somebody has it, or every installation has it; [`Error::NotFound`]; [`Error::Changed`].
pub async fn remove(app: &App, role: Role, expected: &Expected, by: &Actor) -> Result<(), Error> {
    if role.is_built_in() {
        return Err(Error::Conflict("user and admin are always there"));
    }
    let (expected, by, now) = (expected.clone(), by.clone(), app.clock.now());
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                // Whoever is about to give the role has the row: after them the next statement sees their user.
                let Some(known) = roles::lock(&mut tx, &role).await? else {
                    return Ok(Err(Error::NotFound("role")));
                };
                if let Err(changed) = expected.check(known.updated_at) {
                    return Ok(Err(changed));
                }
                if !roles::remove(&mut tx, &role).await? {
                    return Ok(Err(Error::Conflict(
                        "somebody has this role: give them another one first",
                    )));
                }
                let detail = json!({ "role": role.as_str() });
                by.note(&mut tx, "role.remove", None, detail, now).await?;
                Ok(Ok(()))
            })
        })
        .await?
}

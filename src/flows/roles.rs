//! The roles that users may have. `user` and `admin` are always there.

use serde_json::json;

use crate::{
    app::App,
    flows::{By, Error, FieldError},
    model::user::{Role, RoleEntry},
    storage::roles,
};

/// Every role, with the number of its users.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn all(app: &App) -> Result<Vec<RoleEntry>, Error> {
    Ok(roles::all(&app.db).await?)
}

/// Adds a role, or changes its description.
///
/// # Errors
/// [`Error::Validation`] for a description that is too long.
pub async fn put(app: &App, role: Role, description: String, by: &By) -> Result<(), Error> {
    if description.chars().count() > 500 || description.contains(char::is_control) {
        let message = "must be at most 500 characters, without line ends".to_owned();
        return Err(Error::Validation(vec![FieldError {
            field: "description",
            message,
        }]));
    }
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

/// Removes a role that nobody has.
///
/// # Errors
/// [`Error::Conflict`] where somebody has it, or every installation has it; [`Error::NotFound`].
pub async fn remove(app: &App, role: Role, by: &By) -> Result<(), Error> {
    if role.is_built_in() {
        return Err(Error::Conflict("user and admin are always there"));
    }
    if !all(app).await?.iter().any(|known| known.role == role) {
        return Err(Error::NotFound("role"));
    }
    let (by, now) = (by.clone(), app.clock.now());
    let removed = app
        .db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let removed = roles::remove(&mut tx, &role).await?;
                if removed {
                    let detail = json!({ "role": role.as_str() });
                    by.note(&mut tx, "role.remove", None, detail, now).await?;
                }
                Ok(removed)
            })
        })
        .await?;
    if removed {
        Ok(())
    } else {
        Err(Error::Conflict(
            "somebody has this role: give them another one first",
        ))
    }
}

//! Resources and the words for scopes: what tokens may be asked for, and what a person reads before allowing it.

use serde_json::json;

use super::policy;
use crate::{
    app::App,
    error::{Error, FieldError},
    model::{
        actor::Actor,
        catalogue::{Catalogue, Descriptions, Resource},
    },
    oauth::scope::Scope,
    storage::catalogue,
};

/// Everything there is.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn all(app: &App) -> Result<Catalogue, Error> {
    Ok(catalogue::all(&app.db).await?)
}

/// Adds a resource, or changes the one of that id.
///
/// # Errors
/// [`Error::Validation`].
pub async fn put_resource(app: &App, resource: Resource, by: &Actor) -> Result<(), Error> {
    check_resource(&resource)?;
    let (by, now) = (by.clone(), app.clock.now());
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                catalogue::put_resource(&mut tx, &resource, now).await?;
                let detail = json!({ "resource": resource.id });
                by.note(&mut tx, "resource.put", None, detail, now).await
            })
        })
        .await?;
    Ok(())
}

/// Removes a resource: nobody gets tokens for it any more.
///
/// # Errors
/// [`Error::Validation`] where there is none of that id.
pub async fn remove_resource(app: &App, id: &str, by: &Actor) -> Result<(), Error> {
    let (detail, now, name) = (json!({ "resource": id }), app.clock.now(), id.to_owned());
    let by = by.clone();
    let removed = app
        .db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let removed = catalogue::remove_resource(&mut tx, &name).await?;
                by.note(&mut tx, "resource.remove", None, detail, now).await?;
                Ok(removed)
            })
        })
        .await?;
    must_have_been(removed, "resource", id)
}

/// Says what a scope means, in the languages given.
///
/// # Errors
/// [`Error::Validation`].
pub async fn describe_scope(
    app: &App,
    name: &str,
    texts: Descriptions,
    by: &Actor,
) -> Result<(), Error> {
    check_scope(name, &texts)?;
    let (name, by, now) = (name.to_owned(), by.clone(), app.clock.now());
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                catalogue::put_scope(&mut tx, &name, &texts).await?;
                let detail = json!({ "scope": name });
                by.note(&mut tx, "scope.describe", None, detail, now).await
            })
        })
        .await?;
    Ok(())
}

/// Forgets what a scope means.
///
/// # Errors
/// [`Error::Validation`] where nothing was known of it.
pub async fn remove_scope(app: &App, name: &str, by: &Actor) -> Result<(), Error> {
    let (detail, now, scope) = (json!({ "scope": name }), app.clock.now(), name.to_owned());
    let by = by.clone();
    let removed = app
        .db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let removed = catalogue::remove_scope(&mut tx, &scope).await?;
                by.note(&mut tx, "scope.remove", None, detail, now).await?;
                Ok(removed)
            })
        })
        .await?;
    must_have_been(removed, "scope", name)
}

fn must_have_been(removed: bool, what: &'static str, name: &str) -> Result<(), Error> {
    if removed {
        Ok(())
    } else {
        let message = format!("there is no {what} {name:?}: see `propusk {what} list`");
        Err(policy::one(what, message).into())
    }
}

pub(crate) fn check_resource(resource: &Resource) -> Result<(), Vec<FieldError>> {
    policy::check_resource(&resource.id).map_err(|why| policy::one("id", why))?;
    if resource.name.is_empty() || !policy::is_a_name(&resource.name) {
        return Err(policy::one("name", policy::NAME_RULE));
    }
    let offered = resource.scope.as_ref();
    if offered.is_some_and(|offered| !resource.default_scope.is_subset_of(offered)) {
        return Err(policy::one("default_scope", "must be among the scopes of the resource"));
    }
    Ok(())
}

pub(crate) fn check_scope(name: &str, texts: &Descriptions) -> Result<(), Vec<FieldError>> {
    if !Scope::parse(name).is_ok_and(|scope| scope.iter().eq([name])) {
        return Err(policy::one(
            "scope",
            "must be one scope: printable ASCII without space, quote and backslash",
        ));
    }
    if texts.is_empty() || texts.values().any(String::is_empty) {
        return Err(policy::one(
            "scope",
            "must have a text in at least one language, and none that is empty",
        ));
    }
    if !texts.values().all(|text| policy::is_a_name(text)) {
        return Err(policy::one("scope", policy::NAME_RULE));
    }
    Ok(())
}

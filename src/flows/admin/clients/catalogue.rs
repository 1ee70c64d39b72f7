//! Resources and descriptions of scopes: what clients can ask tokens for, and what the consent page
//! tells users.

use serde_json::json;

use super::policy;
use crate::{
    app::App,
    error::{Error, FieldError},
    model::{
        actor::Actor,
        catalogue::{Catalogue, Descriptions, Resource},
        module::Module,
    },
    oauth::scope::Scope,
    storage::{catalogue, modules},
};

/// The whole catalogue.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn all(app: &App) -> Result<Catalogue, Error> {
    Ok(catalogue::all(&app.db).await?)
}

/// Creates or replaces a resource.
///
/// # Errors
/// [`Error::Validation`].
pub async fn put_resource(app: &App, resource: Resource, actor: &Actor) -> Result<(), Error> {
    check_resource(&resource)?;
    let mut tx = app.begin(actor).await?;
    let now = tx.now();
    catalogue::put_resource(&mut tx, &resource, now).await?;
    tx.audit("resource.put", None, json!({ "resource": resource.id })).await?;
    Ok(tx.commit().await?)
}

/// Deletes a resource: no tokens are issued for it any more.
///
/// # Errors
/// [`Error::Validation`] for an unknown id.
pub async fn remove_resource(app: &App, id: &str, actor: &Actor) -> Result<(), Error> {
    let mut tx = app.begin(actor).await?;
    must_have_existed(catalogue::remove_resource(&mut tx, id).await?, "resource", id)?;
    tx.audit("resource.remove", None, json!({ "resource": id })).await?;
    Ok(tx.commit().await?)
}

/// Sets the descriptions of a scope.
///
/// # Errors
/// [`Error::Validation`].
pub async fn describe_scope(
    app: &App,
    name: &str,
    texts: Descriptions,
    actor: &Actor,
) -> Result<(), Error> {
    check_scope(name, &texts)?;
    let mut tx = app.begin(actor).await?;
    catalogue::put_scope(&mut tx, name, &texts).await?;
    tx.audit("scope.describe", None, json!({ "scope": name })).await?;
    Ok(tx.commit().await?)
}

/// Deletes the descriptions of a scope.
///
/// # Errors
/// [`Error::Validation`] for a scope without descriptions.
pub async fn remove_scope(app: &App, name: &str, actor: &Actor) -> Result<(), Error> {
    let mut tx = app.begin(actor).await?;
    must_have_existed(catalogue::remove_scope(&mut tx, name).await?, "scope", name)?;
    tx.audit("scope.remove", None, json!({ "scope": name })).await?;
    Ok(tx.commit().await?)
}

/// Makes a scope general that belonged to a module once: clients that may request it get it for
/// every user from now on.
///
/// # Errors
/// [`Error::Validation`] for a scope that a module has, and for one that never belonged to a module.
pub async fn release_scope(app: &App, name: &str, actor: &Actor) -> Result<(), Error> {
    let mut tx = app.begin(actor).await?;
    if !modules::release_scope(&mut tx, name).await? {
        return Err(Error::field("scope", format!("{name:?} never belonged to a module")));
    }
    let owner = modules::all_in(&mut tx).await?.into_iter().find(|one| one.scope.contains(name));
    if let Some(Module { id, .. }) = owner {
        let message = format!("the module {id} has {name:?}: remove it there first");
        return Err(Error::field("scope", message));
    }
    tx.audit("scope.release", None, json!({ "scope": name })).await?;
    Ok(tx.commit().await?)
}

fn must_have_existed(existed: bool, what: &'static str, name: &str) -> Result<(), Error> {
    if existed {
        return Ok(());
    }
    let message = format!("there is no {what} {name:?}: see `propusk {what} list`");
    Err(Error::field(what, message))
}

pub(crate) fn check_resource(resource: &Resource) -> Result<(), Vec<FieldError>> {
    policy::check_resource(&resource.id).map_err(|why| policy::one("id", why))?;
    if resource.name.is_empty() || !policy::is_a_name(&resource.name) {
        return Err(policy::one("name", policy::NAME_RULE));
    }
    let offered = resource.scope.as_ref();
    if offered.is_some_and(|offered| !resource.default_scope.is_subset_of(offered)) {
        return Err(policy::one("default_scope", "must be a subset of the scopes of the resource"));
    }
    Ok(())
}

pub(crate) fn check_scope(name: &str, texts: &Descriptions) -> Result<(), Vec<FieldError>> {
    if !Scope::parse(name).is_ok_and(|scope| scope.iter().eq([name])) {
        return Err(policy::one(
            "scope",
            "must be a single scope: printable ASCII without space, quote and backslash",
        ));
    }
    if texts.is_empty() || texts.values().any(String::is_empty) {
        return Err(policy::one(
            "scope",
            "must have a description in at least one language, and no empty one",
        ));
    }
    if !texts.values().all(|text| policy::is_a_name(text)) {
        return Err(policy::one("scope", policy::NAME_RULE));
    }
    Ok(())
}

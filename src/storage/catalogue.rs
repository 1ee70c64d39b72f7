//! Resources and scopes. Each change takes the next version of the clients.

use super::{
    Db, Error, Result, Row, Statement, Tx,
    change_counters::{self, Counter},
    modules, trusted_issuers,
};
use crate::{
    clock::Timestamp,
    model::catalogue::{Catalogue, Descriptions, Resource},
    oauth::scope::Scope,
};

/// The whole catalogue; a deployment has a few rows.
pub async fn all(db: &Db) -> Result<Catalogue> {
    let mut catalogue = Catalogue::default();
    let resources =
        Statement::new("SELECT id, name, scope, default_scope FROM resources ORDER BY id");
    for row in db.read(resources).await? {
        let resource = resource(&row)?;
        catalogue.resources.insert(resource.id.clone(), resource);
    }
    let scopes = Statement::new("SELECT name, descriptions FROM scopes");
    for row in db.read(scopes).await? {
        let texts: String = row.get("descriptions")?;
        let texts =
            serde_json::from_str(&texts).map_err(|error| Error::Corrupt(error.to_string()))?;
        catalogue.scopes.insert(row.get("name")?, texts);
    }
    let modules = modules::all(db).await?.into_iter();
    catalogue.modules = modules.map(|module| (module.id.clone(), module)).collect();
    let closed = db.read(Statement::new("SELECT name FROM module_scopes")).await?;
    catalogue.module_scopes = closed.iter().map(|row| row.get("name")).collect::<Result<_>>()?;
    let issuers = trusted_issuers::all(db).await?.into_iter();
    catalogue.issuers = issuers.map(|one| (one.issuer.clone(), one)).collect();
    Ok(catalogue)
}

/// Adds a resource, or replaces the one with the same id.
pub async fn put_resource(tx: &mut Tx, resource: &Resource, now: Timestamp) -> Result<()> {
    tx.run(
        Statement::new(
            "INSERT INTO resources (id, name, scope, default_scope, created_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (id) DO UPDATE SET name = $2, scope = $3, default_scope = $4",
        )
        .bind(resource.id.as_str())
        .bind(resource.name.as_str())
        .bind(resource.scope.as_ref().map(Scope::to_string))
        .bind(resource.default_scope.to_string())
        .bind(now),
    )
    .await?;
    change_counters::next(tx, Counter::Clients).await?;
    Ok(())
}

/// Removes a resource; `false` if it does not exist.
pub async fn remove_resource(tx: &mut Tx, id: &str) -> Result<bool> {
    let rows =
        tx.run(Statement::new("DELETE FROM resources WHERE id = $1 RETURNING id").bind(id)).await?;
    change_counters::next(tx, Counter::Clients).await?;
    Ok(!rows.is_empty())
}

/// Sets the descriptions of a scope.
pub async fn put_scope(tx: &mut Tx, name: &str, texts: &Descriptions) -> Result<()> {
    let texts = serde_json::to_string(texts).map_err(|error| Error::Corrupt(error.to_string()))?;
    tx.run(
        Statement::new(
            "INSERT INTO scopes (name, descriptions) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET descriptions = $2",
        )
        .bind(name)
        .bind(texts),
    )
    .await?;
    change_counters::next(tx, Counter::Clients).await?;
    Ok(())
}

/// Removes the descriptions of a scope; `false` if there were none.
pub async fn remove_scope(tx: &mut Tx, name: &str) -> Result<bool> {
    let rows = tx
        .run(Statement::new("DELETE FROM scopes WHERE name = $1 RETURNING name").bind(name))
        .await?;
    change_counters::next(tx, Counter::Clients).await?;
    Ok(!rows.is_empty())
}

fn resource(row: &Row) -> Result<Resource> {
    let parse = |text: String| Scope::parse(&text).map_err(|why| Error::Corrupt(why.to_owned()));
    Ok(Resource {
        id: row.get("id")?,
        name: row.get("name")?,
        scope: row.get::<Option<String>>("scope")?.map(parse).transpose()?,
        default_scope: parse(row.get("default_scope")?)?,
    })
}

//! `modules.toml`: modules and roles that are brought into the state the file describes, at every start. What is so
//! already is not written again. Modules that stand there no more stay until somebody removes them: people have them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Actor, Must, check, put};
use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::admin::roles,
    model::{catalogue::Descriptions, module::Module, user::Role},
    oauth::scope::Scope,
};

/// Why the file was not applied.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Says which key is wrong, and what would be right. Nothing was written.
    #[error("{0}")]
    Wrong(String),
    #[error("modules.toml could not be applied: {0}")]
    Flow(#[from] Error),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    module: BTreeMap<String, Entry>,
    #[serde(default)]
    role: BTreeMap<String, RoleEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Descriptions,
    #[serde(default)]
    description: Descriptions,
    scope: String,
    resource: Option<String>,
    #[serde(default)]
    self_service: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleEntry {
    #[serde(default)]
    description: String,
}

/// Applies the file that `modules.file` names, where it names one.
///
/// # Errors
/// [`FileError`], whose message names the file and the key.
pub async fn apply(app: &App) -> Result<(), FileError> {
    let Some(path) = &app.config.modules.file else {
        return Ok(());
    };
    let wrong = |message: String| FileError::Wrong(format!("{}: {message}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let file: File = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let mut modules = vec![];
    for (id, entry) in file.module {
        modules.push(read(id, entry).map_err(wrong)?);
    }
    let mut wanted_roles = vec![];
    for (name, entry) in file.role {
        let role = Role::parse(&name).map_err(|why| wrong(format!("role.{name}: {why}")))?;
        wanted_roles.push((role, entry.description));
    }
    let by = Actor::operator();
    let known = roles::all(app).await?;
    for (role, description) in wanted_roles {
        let is_so = |known: &&crate::model::user::RoleEntry| {
            known.role == role && known.description == description
        };
        if !known.iter().any(|known| is_so(&known)) {
            roles::put(app, role, description, &by).await?;
        }
    }
    app.sync().await?;
    let catalogue = app.directory.catalogue(&app.db).await;
    let catalogue = catalogue.map_err(Error::from)?;
    for module in modules {
        let is_so = catalogue.modules.get(&module.id).is_some_and(|known| {
            let as_known = Module {
                created_at: known.created_at,
                updated_at: known.updated_at,
                ..module.clone()
            };
            as_known == *known
        });
        if !is_so {
            put(app, module, Must::Whatever, &by).await?;
        }
    }
    Ok(())
}

fn read(id: String, entry: Entry) -> Result<Module, String> {
    let scope = Scope::parse(&entry.scope).map_err(|why| format!("module.{id}.scope: {why}"))?;
    let module = Module {
        id,
        names: entry.name,
        descriptions: entry.description,
        scope,
        resource: entry.resource,
        is_self_service: entry.self_service,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    };
    check(&module).map_err(|found| {
        let lines = found.iter().map(|one| format!("{} {}", one.field, one.message));
        format!("module.{}: {}", module.id, lines.collect::<Vec<_>>().join("; "))
    })?;
    Ok(module)
}

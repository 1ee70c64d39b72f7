//! `modules.toml`: modules and roles, applied at every start. Only differences are written. Modules
//! that are no longer in the file stay until an operator deletes them, since users have them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Actor, catalogue, check, put};
use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::admin::roles,
    model::{
        catalogue::Descriptions,
        module::Module,
        user::{Role, RoleSettings},
    },
    oauth::scope::Scope,
};

/// Why the file was not applied.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Names the invalid key and what it must be. Nothing was written.
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
    #[serde(default)]
    require_second_factor: bool,
}

/// Applies `modules.file`.
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
        let RoleEntry { description, require_second_factor } = entry;
        wanted_roles.push((role, RoleSettings { description, require_second_factor }));
    }
    let actor = Actor::operator();
    let known = roles::all(app).await?;
    for (role, settings) in wanted_roles {
        if !known.iter().any(|known| known.role == role && known.settings == settings) {
            roles::put(app, role, settings, &actor).await?;
        }
    }
    let catalogue = catalogue(app).await?;
    for module in modules {
        let is_same = catalogue.modules.get(&module.id).is_some_and(|known| {
            let as_known = Module {
                created_at: known.created_at,
                updated_at: known.updated_at,
                ..module.clone()
            };
            as_known == *known
        });
        if !is_same {
            put(app, module, &actor).await?;
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

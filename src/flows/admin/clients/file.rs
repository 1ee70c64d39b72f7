//! `clients.toml`: clients, resources and scopes, applied at every start. Only differences are
//! written; several processes may start at once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use serde::Deserialize;
use serde_json::json;

use super::{
    catalogue::{check_resource, check_scope},
    check_id, hash, new, policy,
    policy::Registrant,
    remove_with_sessions,
};
use crate::{
    app::App,
    error::FieldError,
    ids::ClientId,
    model::{
        actor::Actor,
        catalogue::{Catalogue, Descriptions, Resource},
        client::{Client, Secret, Source},
    },
    oauth::scope::Scope,
    storage::{self, AuditedTx, Db, catalogue, clients},
};

/// Characters. Secrets are hashed once and without a salt, which only long random ones withstand.
const SHORTEST_SECRET: usize = 32;

/// Why nothing of the file was applied.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Names the invalid key and what it must be.
    #[error("{0}")]
    Wrong(String),
    #[error("clients.toml could not be applied: {0}")]
    Storage(#[from] storage::Error),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    client: BTreeMap<String, toml::Table>,
    #[serde(default)]
    resource: Vec<ResourceEntry>,
    #[serde(default)]
    scope: BTreeMap<String, Descriptions>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceEntry {
    id: String,
    name: String,
    scope: Option<String>,
    #[serde(default)]
    default_scope: String,
}

/// The content of the file, parsed and checked.
struct Wanted {
    clients: Vec<Client>,
    resources: Vec<Resource>,
    scopes: BTreeMap<String, Descriptions>,
}

/// Applies `clients.file`. Clients that came from the file and are no longer in it are deleted;
/// resources and scopes stay until an operator deletes them with a command.
///
/// # Errors
/// [`FileError`], whose message names the file and the key.
pub async fn apply(app: &App) -> Result<(), FileError> {
    let Some(path) = &app.config.clients.file else {
        return Ok(());
    };
    let wrong = |message: String| FileError::Wrong(format!("{}: {message}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let wanted = read(app, path, &text).map_err(wrong)?;
    let wanted_ids: BTreeSet<_> = wanted.clients.iter().map(|one| one.id.clone()).collect();

    let known = all(&app.db).await?;
    let changed: Vec<_> = wanted
        .clients
        .into_iter()
        .filter(|client| !known.get(&client.id).is_some_and(|known| is_same(known, client)))
        .collect();
    if let Some(taken) = changed.iter().find_map(|client| {
        let known = known.get(&client.id)?;
        (known.source != Source::File).then_some(known)
    }) {
        return Err(wrong(taken_by(taken)));
    }
    let gone: Vec<_> = known
        .into_values()
        .filter(|client| client.source == Source::File && !wanted_ids.contains(&client.id))
        .map(|client| client.id)
        .collect();
    let catalogue = catalogue::all(&app.db).await?;
    let (resources, scopes) = new_in(&catalogue, wanted.resources, wanted.scopes);
    if changed.is_empty() && gone.is_empty() && resources.is_empty() && scopes.is_empty() {
        return Ok(());
    }

    let mut tx = app.begin(&Actor::operator()).await?;
    // All rows are read before any is written.
    let mut known = vec![];
    for client in &changed {
        known.push(clients::lock(&mut tx, &client.id).await?);
    }
    let is_other = |known: &&Client| known.source != Source::File;
    if let Some(taken) = known.iter().flatten().find(is_other) {
        return Err(wrong(taken_by(taken)));
    }
    for (client, known) in changed.into_iter().zip(known) {
        put(&mut tx, client, known).await?;
    }
    let now = tx.now();
    for resource in &resources {
        catalogue::put_resource(&mut tx, resource, now).await?;
    }
    for (name, texts) in &scopes {
        catalogue::put_scope(&mut tx, name, texts).await?;
    }
    for id in &gone {
        audit(&mut tx, "client.remove", id).await?;
        remove_with_sessions(&mut tx, id).await?;
    }
    Ok(tx.commit().await?)
}

/// Writes a client, unless a process that started at the same moment has just done so.
async fn put(tx: &mut AuditedTx, wanted: Client, known: Option<Client>) -> storage::Result<()> {
    let Some(known) = known else {
        clients::insert(tx, &wanted).await?;
        // An inserted row has one secret: the previous one is added by an update.
        if wanted.secrets.len() > 1 {
            clients::update(tx, &wanted).await?;
        }
        return audit(tx, "client.add", &wanted.id).await;
    };
    if is_same(&known, &wanted) {
        return Ok(());
    }
    let less = super::allows_less(&wanted.metadata, &known.metadata);
    let merged = Client { created_at: known.created_at, disabled_at: known.disabled_at, ..wanted };
    clients::update(tx, &merged).await?;
    audit(tx, "client.set", &merged.id).await?;
    if less {
        super::refuse_tokens(tx, &merged.id, "client_changed").await?;
    }
    Ok(())
}

async fn audit(tx: &mut AuditedTx, action: &'static str, id: &ClientId) -> storage::Result<()> {
    tx.audit(action, Some(id), json!({ "source": Source::File.as_str() })).await
}

fn taken_by(known: &Client) -> String {
    format!(
        "client.{}: a client of this id exists that is not managed by the file (source {}): choose another id, or delete it with \
         `propusk client remove {}`",
        known.id,
        known.source.as_str(),
        known.id
    )
}

async fn all(db: &Db) -> storage::Result<HashMap<ClientId, Client>> {
    const PAGE: i64 = 500;
    let mut found = HashMap::new();
    let mut after = ClientId::default();
    loop {
        let page = clients::list(db, &after, PAGE).await?;
        match page.last() {
            Some(last) => after.clone_from(&last.id),
            None => return Ok(found),
        }
        found.extend(page.into_iter().map(|client| (client.id.clone(), client)));
    }
}

fn is_same(known: &Client, wanted: &Client) -> bool {
    let hashes = |client: &Client| -> Vec<Vec<u8>> {
        client.secrets.iter().map(|one| one.hash.clone()).collect()
    };
    known.source == Source::File
        && known.metadata == wanted.metadata
        && hashes(known) == hashes(wanted)
}

/// The resources and scopes that differ from the catalogue.
fn new_in(
    known: &Catalogue,
    mut resources: Vec<Resource>,
    mut scopes: BTreeMap<String, Descriptions>,
) -> (Vec<Resource>, BTreeMap<String, Descriptions>) {
    resources.retain(|resource| known.resources.get(&resource.id) != Some(resource));
    scopes.retain(|name, texts| known.scopes.get(name) != Some(texts));
    (resources, scopes)
}

/// Parses and checks the whole file.
fn read(app: &App, path: &Path, text: &str) -> Result<Wanted, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut wanted = Wanted { clients: vec![], resources: vec![], scopes: file.scope };
    for (id, table) in file.client {
        let client = client(app, path, &id, table);
        let at = |found: Vec<FieldError>| lines(&format!("client.{id}"), &found);
        wanted.clients.push(client.map_err(at)?);
    }
    for entry in file.resource {
        let at = format!("resource {}", entry.id);
        let scope = |field, text: &str| {
            Scope::parse(text).map_err(|why| lines(&at, &policy::one(field, why)))
        };
        let resource = Resource {
            scope: entry.scope.as_deref().map(|text| scope("scope", text)).transpose()?,
            default_scope: scope("default_scope", &entry.default_scope)?,
            id: entry.id,
            name: entry.name,
        };
        check_resource(&resource).map_err(|found| lines(&at, &found))?;
        wanted.resources.push(resource);
    }
    for (name, texts) in &wanted.scopes {
        check_scope(name, texts).map_err(|found| lines(&format!("scope.{name:?}"), &found))?;
    }
    Ok(wanted)
}

fn lines(at: &str, found: &[FieldError]) -> String {
    let line = |one: &FieldError| format!("{at}.{}: {}", one.field, one.message);
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn client(
    app: &App,
    path: &Path,
    id: &str,
    mut table: toml::Table,
) -> Result<Client, Vec<FieldError>> {
    check_id(id).map_err(|why| policy::one("id", why))?;
    let current = secret(&mut table, path, "secret_hash", "secret_file")?;
    let old = secret(&mut table, path, "old_secret_hash", "old_secret_file")?;
    let members =
        serde_json::to_value(table).map_err(|error| policy::one("metadata", error.to_string()))?;
    let metadata = policy::check(app, policy::parse(members)?, Registrant::Operator)?;
    match (metadata.token_endpoint_auth_method.has_secret(), &current) {
        (true, None) => Err(policy::one(
            "secret_hash",
            "is missing: give secret_hash or secret_file, or another token_endpoint_auth_method",
        )),
        (false, Some(_)) => Err(policy::one(
            "secret_hash",
            "is for clients whose token_endpoint_auth_method is client_secret_basic or client_secret_post",
        )),
        (_, None) if old.is_some() => Err(policy::one("old_secret_hash", "requires secret_hash")),
        _ => {
            let mut client = new(app, id.into(), Source::File, metadata);
            client.secrets = current.into_iter().chain(old).collect();
            Ok(client)
        }
    }
}

/// A secret, given as its hash or as a file that contains it.
fn secret(
    table: &mut toml::Table,
    path: &Path,
    by_hash: &'static str,
    by_file: &'static str,
) -> Result<Option<Secret>, Vec<FieldError>> {
    let text = |field, value: Option<toml::Value>| match value {
        None => Ok(None),
        Some(toml::Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(policy::one(field, "must be a string")),
    };
    let given = text(by_hash, table.remove(by_hash))?;
    let named = text(by_file, table.remove(by_file))?;
    let hash = match (given, named) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(policy::one(by_hash, "must not be combined with a secret file"));
        }
        (Some(hex), None) => from_hex(&hex).ok_or_else(|| {
            policy::one(by_hash, "must be 64 hexadecimal digits: printf %s \"$SECRET\" | sha256sum")
        })?,
        (None, Some(name)) => {
            let file = path.parent().unwrap_or(Path::new("")).join(&name);
            let read = std::fs::read_to_string(&file).map_err(|error| {
                policy::one(by_file, format!("{} cannot be read: {error}", file.display()))
            })?;
            let secret = read.trim_end_matches(['\r', '\n']);
            if secret.len() < SHORTEST_SECRET {
                return Err(policy::one(
                    by_file,
                    "must contain at least 32 characters: openssl rand -hex 32",
                ));
            }
            hash(secret)
        }
    };
    Ok(Some(Secret { hash, expires_at: None }))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..64).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

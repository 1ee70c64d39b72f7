//! Clients: created, updated and deleted by operators (this file and [`mod@file`]), or registered
//! by themselves ([`registration`], [`document`]). [`policy`] checks the metadata of all of them.

pub mod catalogue;
pub mod document;
pub mod file;
pub mod policy;
pub mod registration;
mod strict_json;

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use self::policy::Registrant;
use crate::{
    app::App,
    diagnostics,
    directory::CachedClient,
    error::{Error, FieldError},
    flows::{
        accounts::applications,
        admin::{
            access::Precondition,
            idempotency::{self, Created, IdempotentRequest},
        },
    },
    ids::{ClientId, UserId},
    limits,
    model::{
        actor::Actor,
        client::{Client, Metadata, Secret, Source},
        revocation::NewRevocation,
        session::RevocationReason,
    },
    oauth::error::OAuthError,
    storage::{self, AuditedTx, Conflict, Tx, clients, sessions},
};

/// The longest time for which a replaced secret may stay valid.
pub const LONGEST_OVERLAP: Duration = Duration::from_secs(90 * 86_400);

/// Creates a client; gives its secret, where it has one, which is stored as a hash only.
///
/// # Errors
/// [`Error::Validation`] for metadata that breaks the policy; [`Error::Conflict`] for an id that is
/// taken; [`Error::KeyReused`]; [`Error::NotFound`] where an earlier request has created the client
/// and it was deleted since.
pub async fn create(
    app: &App,
    id: Option<ClientId>,
    metadata: Metadata,
    request: Option<IdempotentRequest>,
    actor: &Actor,
) -> Result<Created<(Client, Option<String>)>, Error> {
    let id = id.unwrap_or_else(|| app.new_id().into());
    check_id(&id).map_err(|why| Error::field("id", why))?;
    let metadata = policy::check(app, metadata, Registrant::Operator)?;
    let mut client = new(app, id, Source::Operator, metadata);
    let secret = give_secret(app, &mut client);
    let mut tx = app.begin(actor).await?;
    if let Some(id) = idempotency::claim(&mut tx, request.as_ref(), &client.id).await? {
        tx.rollback().await?;
        return Ok(Created::earlier((by_id(app, &id.into()).await?, None)));
    }
    clients::insert(&mut tx, &client).await.map_err(|error| match error {
        storage::Error::Conflict(Conflict::Other) => Error::Conflict("a client of this id exists"),
        other => other.into(),
    })?;
    tx.audit("client.add", Some(&client.id), json!({ "metadata": client.metadata })).await?;
    tx.commit().await?;
    Ok(Created::now((client, secret)))
}

/// The client of that id, disabled or not.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn by_id(app: &App, id: &ClientId) -> Result<Client, Error> {
    let found = clients::by_id(&app.db, id).await?;
    found.ok_or(Error::NotFound("client"))
}

/// Changes a client's metadata; gives a secret where the client newly needs one. Where the client
/// may do less than before, its tokens are refused.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Changed`]; [`Error::Validation`] for metadata that breaks the
/// policy; [`Error::Conflict`] for a client that operators cannot change.
pub async fn update(
    app: &App,
    id: &ClientId,
    precondition: &Precondition,
    change: impl FnOnce(&Metadata) -> Result<Metadata, Vec<FieldError>>,
    actor: &Actor,
) -> Result<(Client, Option<String>), Error> {
    let mut tx = app.begin(actor).await?;
    let before = lock(&mut tx, id).await?;
    may_change(&before)?;
    precondition.check(before.updated_at)?;
    let mut client = before.clone();
    client.metadata = policy::check(app, change(&before.metadata)?, Registrant::Operator)?;
    let now = tx.now();
    client.updated_at = now.past(before.updated_at);
    let secret = settle_secrets(app, &mut client);
    clients::update(&mut tx, &client).await?;
    let detail = differences(&before.metadata, &client.metadata);
    tx.audit("client.set", Some(id), detail).await?;
    if allows_less(&client.metadata, &before.metadata) {
        refuse_tokens(&mut tx, id, "client_changed").await?;
    }
    tx.commit().await?;
    Ok((client, secret))
}

/// Metadata with changes: an absent member keeps its value, null gives it its default (RFC 7396).
///
/// # Errors
/// The member that has the wrong type.
pub fn merged(
    metadata: &Metadata,
    changes: impl IntoIterator<Item = (String, Value)>,
) -> Result<Metadata, Vec<FieldError>> {
    let mut members = described(metadata);
    for (name, value) in changes {
        if value.is_null() {
            members.remove(&name);
        } else {
            members.insert(name, value);
        }
    }
    policy::parse(Value::Object(members))
}

/// Metadata as JSON.
pub fn described(metadata: &Metadata) -> Map<String, Value> {
    match serde_json::to_value(metadata) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

/// The members that differ, with their old and new values.
fn differences(before: &Metadata, after: &Metadata) -> Value {
    let (before, after) = (described(before), described(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter_map(|name| {
        let (from, to) = (before.get(name), after.get(name));
        (from != to).then(|| (name.clone(), json!({ "from": from, "to": to })))
    });
    Value::Object(changed.collect())
}

/// Gives a client a new secret; the previous one stays valid for `overlap`. Gives the client and
/// the secret.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Validation`] for a client without secrets; [`Error::Conflict`] for
/// a client that operators cannot change.
pub async fn rotate_secret(
    app: &App,
    id: &ClientId,
    overlap: Duration,
    actor: &Actor,
) -> Result<(Client, String), Error> {
    if overlap > LONGEST_OVERLAP {
        return Err(Error::field("overlap", "must be at most 90d"));
    }
    let mut tx = app.begin(actor).await?;
    let mut client = lock(&mut tx, id).await?;
    may_change(&client)?;
    if !client.metadata.token_endpoint_auth_method.has_secret() {
        let message = "has no secret: its token_endpoint_auth_method is another";
        return Err(Error::field("client", message));
    }
    let (secret, now) = (random_text(app), tx.now());
    let current = Secret { hash: hash(&secret), expires_at: None };
    let previous = client.secrets.into_iter().next().filter(|_| !overlap.is_zero());
    let previous = previous.map(|secret| Secret { expires_at: Some(now + overlap), ..secret });
    client.secrets = [current].into_iter().chain(previous).collect();
    let client = touch(&mut tx, client, "client.rotate_secret").await?;
    tx.commit().await?;
    Ok((client, secret))
}

/// Ends the previous secret of a client before its time. A client without one stays as it is.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for a client that operators cannot change.
pub async fn end_old_secret(app: &App, id: &ClientId, actor: &Actor) -> Result<Client, Error> {
    let mut tx = app.begin(actor).await?;
    let mut client = lock(&mut tx, id).await?;
    may_change(&client)?;
    if client.secrets.len() < 2 {
        return Ok(client);
    }
    client.secrets.truncate(1);
    let client = touch(&mut tx, client, "client.end_old_secret").await?;
    tx.commit().await?;
    Ok(client)
}

/// Deletes a client; its sessions are revoked and its access tokens are refused.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Changed`]; [`Error::Conflict`] for a client that is built in, or
/// that `clients.toml` names.
pub async fn delete(
    app: &App,
    id: &ClientId,
    precondition: &Precondition,
    actor: &Actor,
) -> Result<(), Error> {
    let mut tx = app.begin(actor).await?;
    let client = lock(&mut tx, id).await?;
    if client.source != Source::Document {
        may_change(&client)?;
    }
    precondition.check(client.updated_at)?;
    tx.audit("client.remove", Some(id), json!({})).await?;
    remove_with_sessions(&mut tx, id).await?;
    Ok(tx.commit().await?)
}

/// Disables a client: nothing is issued to it any more, its sessions are revoked and its access
/// tokens are refused. A disabled client stays as it is.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for a client that is built in.
pub async fn disable(app: &App, id: &ClientId, actor: &Actor) -> Result<Client, Error> {
    let mut tx = app.begin(actor).await?;
    let mut client = lock(&mut tx, id).await?;
    not_built_in(&client)?;
    if client.disabled_at.is_some() {
        return Ok(client);
    }
    let now = tx.now();
    client.disabled_at = Some(now);
    let client = touch(&mut tx, client, "client.disable").await?;
    sessions::revoke_all_of_client(&mut tx, id, RevocationReason::ClientDisabled, now).await?;
    refuse_tokens(&mut tx, id, "client_disabled").await?;
    tx.commit().await?;
    Ok(client)
}

/// Enables a disabled client again; revoked sessions stay revoked. An enabled client stays as it
/// is.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for a client that is built in.
pub async fn enable(app: &App, id: &ClientId, actor: &Actor) -> Result<Client, Error> {
    let mut tx = app.begin(actor).await?;
    let mut client = lock(&mut tx, id).await?;
    not_built_in(&client)?;
    if client.disabled_at.is_none() {
        return Ok(client);
    }
    client.disabled_at = None;
    let client = touch(&mut tx, client, "client.enable").await?;
    tx.commit().await?;
    Ok(client)
}

/// Withdraws a user's consent to a client: the user is asked again, and the client's tokens for the
/// user are refused.
///
/// # Errors
/// [`Error::NotFound`] for the client.
pub async fn withdraw_consent(
    app: &App,
    user_id: &UserId,
    client_id: &ClientId,
    actor: &Actor,
) -> Result<(), Error> {
    by_id(app, client_id).await?;
    applications::withdraw(app, user_id, client_id, actor).await?;
    Ok(())
}

/// Reads a client for a change that other changes of clients wait for.
async fn lock(tx: &mut AuditedTx, id: &ClientId) -> Result<Client, Error> {
    // PostgreSQL refuses a statement with NUL in a text.
    let found = if id.contains('\0') { None } else { clients::lock(tx, id).await? };
    // The lock may have waited for another change.
    tx.read_clock();
    found.ok_or(Error::NotFound("client"))
}

/// Writes a changed client with a new `updated_at` and an audit entry.
async fn touch(
    tx: &mut AuditedTx,
    mut client: Client,
    action: &'static str,
) -> storage::Result<Client> {
    client.updated_at = tx.now().past(client.updated_at);
    clients::update(tx, &client).await?;
    tx.audit(action, Some(&client.id), json!({})).await?;
    Ok(client)
}

/// Finds an enabled client by its id: one that is registered here, or one whose id is the URL of
/// its metadata document. `address` is the caller's, by which requests that fetch unknown documents
/// are rate-limited.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::TooMany`].
pub async fn find(
    app: &App,
    id: &ClientId,
    address: IpAddr,
) -> Result<Option<CachedClient>, Error> {
    if document::is_id(id) { document::find(app, id, address).await } else { app.client(id).await }
}

/// Checks the metadata that a client gives of itself, and the documents that it refers to.
///
/// # Errors
/// `invalid_redirect_uri` or `invalid_client_metadata` (RFC 7591 §3.2.2), naming each invalid
/// member.
async fn check_metadata(app: &App, members: &Map<String, Value>) -> Result<Metadata, OAuthError> {
    let refused = |found: Vec<FieldError>| {
        let lines: Vec<_> =
            found.iter().map(|one| format!("{}: {}", one.field, one.message)).collect();
        let description = lines.join("; ");
        if found.iter().all(|one| one.field == "redirect_uris") {
            OAuthError::invalid_redirect_uri(description)
        } else {
            OAuthError::invalid_client_metadata(description)
        }
    };
    let metadata = policy::read(app, members).map_err(refused)?;
    let metadata = policy::check(app, metadata, Registrant::Itself).map_err(refused)?;
    policy::check_sector(app, &metadata).await.map_err(refused)?;
    Ok(metadata)
}

/// When a network that has registered too many clients may try again: by then, unused ones may have
/// expired.
const TOO_MANY_CLIENTS: Duration = Duration::from_secs(3_600);

/// Stores one more client that has registered itself.
///
/// # Errors
/// `temporarily_unavailable` where the limit of self-registered clients is reached,
/// [`Error::TooMany`] where that of the network is.
async fn insert_self_registered(
    app: &App,
    tx: &mut Tx,
    client: &Client,
    address: IpAddr,
) -> Result<(), Error> {
    let policy = &app.config.client_registration;
    let network = limits::site(address).to_string();
    // The lock keeps concurrent registrations from exceeding the limits.
    clients::lock(tx, &client.id).await?;
    let fits = |count: i64, most: u64| u64::try_from(count).is_ok_and(|count| count < most);
    if !fits(clients::count_registered(tx).await?, policy.max_clients) {
        let message = "the limit of self-registered clients is reached";
        return Err(OAuthError::temporarily_unavailable(message).into());
    }
    let from_there = clients::count_registered_from(tx, &network).await?;
    if !fits(from_there, policy.max_clients_per_network) {
        diagnostics::record("limit", "client_registration.max_clients_per_network");
        return Err(Error::TooMany(TOO_MANY_CLIENTS));
    }
    clients::insert(tx, client).await?;
    Ok(clients::set_registered_from(tx, &client.id, &network).await?)
}

/// A new client, without secrets.
fn new(app: &App, id: ClientId, source: Source, metadata: Metadata) -> Client {
    let now = app.clock.now();
    Client {
        id,
        source,
        secrets: vec![],
        metadata,
        registration_token_hash: None,
        created_at: now,
        updated_at: now,
        expires_at: None,
        disabled_at: None,
    }
}

/// Generates a secret for a client that authenticates by one, and drops its other secrets.
fn give_secret(app: &App, client: &mut Client) -> Option<String> {
    if !client.metadata.token_endpoint_auth_method.has_secret() {
        return None;
    }
    let secret = random_text(app);
    client.secrets = vec![Secret { hash: hash(&secret), expires_at: None }];
    Some(secret)
}

/// Generates the secret that a changed client newly needs, and drops secrets that it needs no
/// longer.
fn settle_secrets(app: &App, client: &mut Client) -> Option<String> {
    if !client.metadata.token_endpoint_auth_method.has_secret() {
        client.secrets.clear();
    } else if client.secrets.is_empty() {
        return give_secret(app, client);
    }
    None
}

/// 256 random bits as text: a client secret or a registration token.
fn random_text(app: &App) -> String {
    URL_SAFE_NO_PAD.encode(app.rng.bytes::<32>())
}

fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret).to_vec()
}

/// Whether an operator may give a client this id. URLs are reserved for metadata documents.
fn check_id(id: &str) -> Result<(), &'static str> {
    let is_valid = (1..=128).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b));
    if is_valid { Ok(()) } else { Err("must be 1 to 128 letters, digits and -._~") }
}

fn not_built_in(client: &Client) -> Result<(), Error> {
    if client.source == Source::BuiltIn {
        return Err(Error::Conflict("the client is built in and cannot be changed"));
    }
    Ok(())
}

fn may_change(client: &Client) -> Result<(), Error> {
    not_built_in(client)?;
    let message = match client.source {
        Source::File => "the client is managed by clients.toml: change the file and restart",
        Source::Document => "the client is managed by its metadata document: disable or delete it",
        Source::BuiltIn | Source::Operator | Source::Registration => return Ok(()),
    };
    Err(Error::Conflict(message))
}

/// Whether tokens issued under `before` may carry more than the client may have now.
fn allows_less(now: &Metadata, before: &Metadata) -> bool {
    let lost = |before: &[String], now: &[String]| before.iter().any(|one| !now.contains(one));
    !before.scope.is_subset_of(&now.scope)
        || lost(&before.resources, &now.resources)
        || (before.subject_namespace.is_some() && before.subject_namespace != now.subject_namespace)
        || before.grant_types.iter().any(|one| !now.grant_types.contains(one))
        || before.token_exchange.as_ref().is_some_and(|before| {
            now.token_exchange.as_ref().is_none_or(|now| now.allows_less_than(before))
        })
}

async fn remove_with_sessions(tx: &mut AuditedTx, id: &ClientId) -> storage::Result<()> {
    clients::remove(tx, id).await?;
    refuse_tokens(tx, id, "client_removed").await
}

/// Refuses the tokens issued to a client until now.
async fn refuse_tokens(
    tx: &mut AuditedTx,
    id: &ClientId,
    reason: &'static str,
) -> storage::Result<()> {
    tx.revoke(vec![NewRevocation::Client(id.to_string())], reason).await?;
    Ok(())
}

//! The life of a client: made, changed and removed by an operator ([`add`] and its neighbours, [`mod@file`]), or by itself
//! ([`registration`], [`document`]). [`policy`] holds for all of them.

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
    clock::Timestamp,
    directory::CachedClient,
    error::{Error, FieldError},
    flows::admin::{
        access::Expected,
        idempotency::{Made, Once, claim},
    },
    model::{
        actor::Actor,
        client::{Client, Metadata, Secret, Source},
        event::{ConsentChange, Event},
        key::LONGEST_TOKEN_LIFE,
        revocation::{Revocation, RevocationTarget},
        session::RevocationReason,
        user::User,
    },
    oauth::error::OAuthError,
    storage::{self, Conflict, Tx, clients, consents, outbox, revocations, sessions},
};

/// The longest time that a replaced secret may stay good.
pub const LONGEST_OVERLAP: Duration = Duration::from_secs(90 * 86_400);

/// Makes a client; gives its secret, where it has one. The secret is kept nowhere.
///
/// # Errors
/// [`Error::Validation`] for what breaks the policy, and for an id that is taken.
pub async fn add(
    app: &App,
    id: Option<String>,
    metadata: Metadata,
    by: &Actor,
) -> Result<(Client, Option<String>), Error> {
    match add_once(app, id.clone(), metadata, None, by).await {
        Ok(Made::Now(made)) => Ok(made),
        Ok(Made::Before(_)) | Err(Error::Conflict(_)) => {
            let message = format!("there is a client {:?} already", id.unwrap_or_default());
            Err(policy::one("id", message).into())
        }
        Err(other) => Err(other),
    }
}

/// As [`add`]; the same call under the same key makes one client.
///
/// # Errors
/// [`Error::Conflict`] for an id that is taken; [`Error::KeyReused`].
pub async fn add_once(
    app: &App,
    id: Option<String>,
    metadata: Metadata,
    once: Option<Once>,
    by: &Actor,
) -> Result<Made<(Client, Option<String>)>, Error> {
    let id = id.unwrap_or_else(|| app.new_id());
    check_id(&id).map_err(|why| policy::one("id", why))?;
    let metadata = policy::check(app, metadata, Registrant::Operator)?;
    let (mut client, now) = (new(app, id, Source::Operator, metadata), app.clock.now());
    let secret = give_secret(app, &mut client);
    let by = by.clone();
    let added = app.db.transaction(move |mut tx| {
        Box::pin(async move {
            if let Some(known) = claim(once.as_ref(), &mut tx, &client.id, now).await? {
                return Ok(known);
            }
            clients::insert(&mut tx, &client).await?;
            let detail = json!({ "metadata": client.metadata });
            by.note(&mut tx, "client.add", Some(&client.id), detail, now).await?;
            Ok(Ok(Made::Now((client, secret))))
        })
    });
    match added.await {
        Ok(made) => made,
        Err(storage::Error::Conflict(Conflict::Other)) => {
            Err(Error::Conflict("there is a client of this id already"))
        }
        Err(other) => Err(other.into()),
    }
}

/// The client of that id, disabled or not.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn by_id(app: &App, id: &str) -> Result<Client, Error> {
    let found = clients::by_id(&app.db, id).await?;
    found.ok_or(Error::NotFound("client"))
}

/// Finds a client by its id, disabled or not.
///
/// # Errors
/// [`Error::Validation`] where there is none.
pub async fn named(app: &App, id: &str) -> Result<Client, Error> {
    let found = clients::by_id(&app.db, id).await?;
    found.ok_or_else(|| unknown(id))
}

/// Changes what is registered of a client; gives a secret where it has come to need one.
///
/// # Errors
/// [`Error::Validation`] for what breaks the policy; [`Error::Conflict`] for a client that is not an operator's to change.
pub async fn set(
    app: &App,
    id: &str,
    change: impl FnOnce(&mut Metadata),
    by: &Actor,
) -> Result<Option<String>, Error> {
    let read = named(app, id).await?;
    may_change(&read)?;
    let mut metadata = read.metadata.clone();
    change(&mut metadata);
    rewrite(app, read, metadata, by).await.map_err(|error| match error {
        Error::Changed => {
            policy::one("client", "somebody else has changed it just now: try again").into()
        }
        other => other,
    })
}

/// A change of a client's metadata, by the names of RFC 7591 §2.
#[derive(Debug)]
pub enum Edit {
    /// What is left out has its default.
    Replace(Map<String, Value>),
    /// What is left out stays as it is; null gives it its default (RFC 7396).
    Merge(Map<String, Value>),
}

/// As [`set`], for the state of the client that the change is meant for.
///
/// # Errors
/// Also [`Error::NotFound`], [`Error::Changed`].
pub async fn edit(
    app: &App,
    id: &str,
    expected: &Expected,
    edit: Edit,
    by: &Actor,
) -> Result<Option<String>, Error> {
    let read = by_id(app, id).await?;
    may_change(&read)?;
    expected.check(read.updated_at)?;
    let members = match edit {
        Edit::Replace(members) => members,
        Edit::Merge(changes) => {
            let mut members = described(&read.metadata);
            for (name, value) in changes {
                if value.is_null() {
                    members.remove(&name);
                } else {
                    members.insert(name, value);
                }
            }
            members
        }
    };
    let metadata = policy::parse(Value::Object(members))?;
    rewrite(app, read, metadata, by).await
}

/// Metadata as JSON.
pub fn described(metadata: &Metadata) -> Map<String, Value> {
    match serde_json::to_value(metadata) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

/// What differs, with its old and its new value.
fn differences(before: &Metadata, after: &Metadata) -> Value {
    let (before, after) = (described(before), described(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter_map(|name| {
        let (from, to) = (before.get(name), after.get(name));
        (from != to).then(|| (name.clone(), json!({ "from": from, "to": to })))
    });
    Value::Object(changed.collect())
}

/// Gives a client other metadata, if it is still as it was read.
async fn rewrite(
    app: &App,
    read: Client,
    metadata: Metadata,
    by: &Actor,
) -> Result<Option<String>, Error> {
    let mut client = read.clone();
    client.metadata = policy::check(app, metadata, Registrant::Operator)?;
    let now = app.clock.now();
    client.updated_at = now.past(read.updated_at);
    let secret = settle_secrets(app, &mut client);
    let by = by.clone();
    let changed = app
        .db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let current = clients::lock(&mut tx, &client.id).await?;
                // Somebody else has changed it meanwhile, and would be undone.
                let as_read = current.filter(|current| {
                    current.metadata == read.metadata && current.updated_at == read.updated_at
                });
                let Some(current) = as_read else {
                    return Ok(false);
                };
                client.expires_at = current.expires_at;
                clients::update(&mut tx, &client).await?;
                let detail = differences(&read.metadata, &client.metadata);
                by.note(&mut tx, "client.set", Some(&client.id), detail, now).await?;
                if allows_less(&client.metadata, &read.metadata) {
                    refuse_tokens(&mut tx, &client.id, "client_changed", now).await?;
                }
                Ok(true)
            })
        })
        .await?;
    if changed { Ok(secret) } else { Err(Error::Changed) }
}

/// Gives a client a new secret; the one before it is good for `overlap` more.
///
/// # Errors
/// [`Error::Validation`] for a client without secrets; [`Error::Conflict`] for one that is not an operator's to change.
pub async fn rotate_secret(
    app: &App,
    id: &str,
    overlap: Duration,
    by: &Actor,
) -> Result<String, Error> {
    let client = named(app, id).await?;
    may_change(&client)?;
    if !client.metadata.token_endpoint_auth_method.has_secret() {
        return Err(
            policy::one("client", "it has no secret: it authenticates in another way").into()
        );
    }
    if overlap > LONGEST_OVERLAP {
        return Err(policy::one("overlap", "must be at most 90d").into());
    }
    let secret = random_text(app);
    let current = Secret { hash: hash(&secret), expires_at: None };
    let until = app.clock.now() + overlap;
    change(app, id, &Expected::Any, "client.rotate_secret", by, move |tx, mut client, now| {
        Box::pin(async move {
            let before = client.secrets.into_iter().next();
            let old = before
                .filter(|_| until > now)
                .map(|before| Secret { expires_at: Some(until), ..before });
            client.secrets = [current].into_iter().chain(old).collect();
            clients::update(tx, &client).await?;
            Ok(())
        })
    })
    .await?;
    Ok(secret)
}

/// Removes a client; its sessions end and its access tokens are refused.
///
/// # Errors
/// [`Error::Conflict`] for one that is built in, or that stands in `clients.toml`.
pub async fn remove(app: &App, id: &str, by: &Actor) -> Result<(), Error> {
    remove_if(app, id, &Expected::Any, by).await
}

/// As [`remove`], for the state of the client that is meant.
///
/// # Errors
/// Also [`Error::Changed`].
pub async fn remove_if(app: &App, id: &str, expected: &Expected, by: &Actor) -> Result<(), Error> {
    let client = named(app, id).await?;
    if client.source != Source::Document {
        may_change(&client)?;
    }
    let action = "client.remove";
    change(app, id, expected, action, by, |tx, client, now| {
        Box::pin(async move { remove_with_sessions(tx, &client.id, now).await })
    })
    .await
}

/// Disables a client: nothing is issued to it any more, its sessions end and its access tokens are refused.
///
/// # Errors
/// [`Error::Conflict`] for one that is built in.
pub async fn disable(app: &App, id: &str, by: &Actor) -> Result<(), Error> {
    set_disabled(app, id, true, by).await
}

/// Enables a disabled client again; its old sessions stay dead.
///
/// # Errors
/// [`Error::Conflict`] for one that is built in.
pub async fn enable(app: &App, id: &str, by: &Actor) -> Result<(), Error> {
    set_disabled(app, id, false, by).await
}

async fn set_disabled(app: &App, id: &str, disabled: bool, by: &Actor) -> Result<(), Error> {
    not_built_in(&named(app, id).await?)?;
    let action = if disabled { "client.disable" } else { "client.enable" };
    let whatever = &Expected::Any;
    change(app, id, whatever, action, by, move |tx, mut client, now| {
        Box::pin(async move {
            client.disabled_at = disabled.then_some(now);
            clients::update(tx, &client).await?;
            if disabled {
                end_everything(tx, &client.id, now).await?;
            }
            Ok(())
        })
    })
    .await
}

/// Takes back all that a person allowed a client: they are asked again, and what the client holds is refused.
///
/// # Errors
/// [`Error::Validation`] for an unknown client.
pub async fn withdraw_consent(
    app: &App,
    user: &User,
    client_id: &str,
    by: &Actor,
) -> Result<(), Error> {
    named(app, client_id).await?;
    let (user_id, client_id) = (user.id.clone(), client_id.to_owned());
    let (event_id, by, now) = (app.new_id(), by.clone(), app.clock.now());
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let kind = ConsentChange::Withdrawn;
                if consents::withdraw(&mut tx, &user_id, &client_id).await? {
                    let event = Event::consent(kind, &user_id, &client_id);
                    outbox::add(&mut tx, event_id, &event, by.correlation_id(), now).await?;
                }
                let detail = json!({ "clientId": client_id });
                by.note(&mut tx, kind.as_str(), Some(&user_id), detail, now).await?;
                let of = sessions::SessionSelector::UserAtClient(&user_id, &client_id);
                let listed_until = now + LONGEST_TOKEN_LIFE;
                sessions::revoke_all(
                    &mut tx,
                    of,
                    RevocationReason::ConsentWithdrawn,
                    now,
                    listed_until,
                )
                .await
            })
        })
        .await?;
    Ok(())
}

/// Changes a client in a transaction that other changes of clients wait for, with a line in the audit log.
async fn change<F>(
    app: &App,
    id: &str,
    expected: &Expected,
    action: &'static str,
    by: &Actor,
    work: F,
) -> Result<(), Error>
where
    F: for<'t> FnOnce(
            &'t mut Tx<'_>,
            Client,
            Timestamp,
        ) -> futures_util::future::BoxFuture<'t, storage::Result<()>>
        + Send
        + 'static,
{
    let (id, by, now) = (id.to_owned(), by.clone(), app.clock.now());
    let expected = expected.clone();
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let Some(mut client) = clients::lock(&mut tx, &id).await? else {
                    return Ok(Err(unknown(&id)));
                };
                if let Err(changed) = expected.check(client.updated_at) {
                    return Ok(Err(changed));
                }
                client.updated_at = now.past(client.updated_at);
                by.note(&mut tx, action, Some(&id), json!({}), now).await?;
                work(&mut tx, client, now).await?;
                Ok(Ok(()))
            })
        })
        .await?
}

/// Finds a client by its id: one that is registered here, or one whose id is the URL of its document. `address`: who
/// asks, for whom documents that are not known yet are counted. `None` where there is none, or it is disabled.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::TooMany`].
pub async fn find(app: &App, id: &str, address: IpAddr) -> Result<Option<CachedClient>, Error> {
    if document::is_id(id) { document::find(app, id, address).await } else { app.client(id).await }
}

/// Checks what a client says of itself, and looks at what it refers to.
///
/// # Errors
/// `invalid_redirect_uri` or `invalid_client_metadata` (RFC 7591 §3.2.2), naming each member at fault.
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

/// Whether one more client may make itself known. The lock that it takes keeps others from being counted in twice.
async fn has_room(tx: &mut Tx<'_>, id: &str, most: u64) -> storage::Result<bool> {
    clients::lock(tx, id).await?;
    let count = clients::count_registered(tx).await?;
    Ok(u64::try_from(count).is_ok_and(|count| count < most))
}

/// What a client is told for which there is no room.
fn full() -> Error {
    let message = "there are as many self-registered clients as this server takes";
    OAuthError::temporarily_unavailable(message).into()
}

/// A client of this moment, without secrets.
fn new(app: &App, id: String, source: Source, metadata: Metadata) -> Client {
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

/// A secret for a client that shall have one, in place of any other.
fn give_secret(app: &App, client: &mut Client) -> Option<String> {
    if !client.metadata.token_endpoint_auth_method.has_secret() {
        return None;
    }
    let secret = random_text(app);
    client.secrets = vec![Secret { hash: hash(&secret), expires_at: None }];
    Some(secret)
}

/// Gives a changed client the secret that it has come to need, and takes away those that it needs no more.
fn settle_secrets(app: &App, client: &mut Client) -> Option<String> {
    if !client.metadata.token_endpoint_auth_method.has_secret() {
        client.secrets.clear();
    } else if client.secrets.is_empty() {
        return give_secret(app, client);
    }
    None
}

/// 256 random bits as a text: a client's secret, or a token that lets it register.
fn random_text(app: &App) -> String {
    URL_SAFE_NO_PAD.encode(app.rng.bytes::<32>())
}

fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret).to_vec()
}

/// What an operator may call a client. No URL: those are the ids of metadata documents.
fn check_id(id: &str) -> Result<(), &'static str> {
    let good = (1..=128).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b));
    if good { Ok(()) } else { Err("a client is called by 1 to 128 letters, digits and -._~") }
}

fn unknown(id: &str) -> Error {
    let message = format!("there is no client {id:?}: see `propusk client list`");
    policy::one("client", message).into()
}

fn not_built_in(client: &Client) -> Result<(), Error> {
    if client.source == Source::BuiltIn {
        return Err(Error::Conflict("it is a part of Propusk and stays as it is"));
    }
    Ok(())
}

fn may_change(client: &Client) -> Result<(), Error> {
    not_built_in(client)?;
    let message = match client.source {
        Source::File => "it stands in clients.toml: change it there and restart",
        Source::Document => "what it says stands in its own document: disable or remove it",
        Source::BuiltIn | Source::Operator | Source::Registration => return Ok(()),
    };
    Err(Error::Conflict(message))
}

/// Whether tokens issued under `before` may hold more than the client may have now.
fn allows_less(now: &Metadata, before: &Metadata) -> bool {
    let lost = |before: &[String], now: &[String]| before.iter().any(|one| !now.contains(one));
    !before.scope.is_subset_of(&now.scope)
        || lost(&before.resources, &now.resources)
        || before.grant_types.iter().any(|one| !now.grant_types.contains(one))
}

async fn remove_with_sessions(tx: &mut Tx<'_>, id: &str, now: Timestamp) -> storage::Result<()> {
    clients::remove(tx, id).await?;
    refuse_tokens(tx, id, "client_removed", now).await
}

async fn end_everything(tx: &mut Tx<'_>, id: &str, now: Timestamp) -> storage::Result<()> {
    sessions::revoke_all_of_client(tx, id, RevocationReason::ClientDisabled, now).await?;
    refuse_tokens(tx, id, "client_disabled", now).await
}

/// Refuses the tokens that were issued to a client so far, and for a second more: one that is being issued may still
/// have read the client as it was.
async fn refuse_tokens(
    tx: &mut Tx<'_>,
    id: &str,
    reason: &'static str,
    now: Timestamp,
) -> storage::Result<()> {
    let target =
        RevocationTarget::Client { client_id: id.to_owned(), issued_until: now.as_secs() + 1 };
    let entry = Revocation { target, expires_at: now + LONGEST_TOKEN_LIFE };
    revocations::add(tx, &entry, reason, now).await?;
    Ok(())
}

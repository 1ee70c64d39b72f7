//! Dynamic registration (RFC 7591) and what a client may do with its registration later (RFC 7592).

use std::time::Duration;

use serde_json::json;
use subtle::ConstantTimeEq;

use super::{
    check_metadata, give_secret, hash, new, policy, random_text, remove_with_sessions,
    settle_secrets, strict_json,
};
use crate::{
    app::App,
    clock::Timestamp,
    config::RegistrationMode,
    error::Error,
    flows::oauth::client_auth,
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        client::{Client, Source},
    },
    oauth::error::OAuthError,
    storage::{self, Tx, audit, clients, initial_access_tokens},
};

/// A registration as its client is told of it.
#[derive(Debug)]
pub struct Registered {
    pub client: Client,
    /// Only where it was made just now.
    pub secret: Option<String>,
    /// The registration access token: made just now, or the one that was shown.
    pub token: String,
}

/// Makes an initial access token, which is good for so many registrations; it is shown once and kept nowhere.
///
/// # Errors
/// [`Error::Validation`] for a number or a time that makes no sense, and where nobody can register.
pub async fn invite(
    app: &App,
    uses: u32,
    life: Duration,
    by: &Actor,
) -> Result<(String, Timestamp), Error> {
    if app.config.registration_mode() == RegistrationMode::Off {
        return Err(policy::one(
            "client_registration.mode",
            "is off, so that nobody can register: set it to \"token\" for those whom you invite",
        )
        .into());
    }
    if uses == 0 {
        return Err(policy::one("uses", "must be at least 1").into());
    }
    if life.is_zero() || life > Duration::from_secs(366 * 86_400) {
        return Err(policy::one("expires", "must be up to 366 days").into());
    }
    let (token, id, now) = (random_text(app), app.new_id(), app.clock.now());
    let (kept, expires_at, by) = (hash(&token), now + life, by.clone());
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                initial_access_tokens::insert(&mut tx, &id, &kept, uses, now, expires_at).await?;
                let detail = json!({ "id": id, "uses": uses, "expiresAt": expires_at.rfc3339() });
                by.note(&mut tx, "client.invite", None, detail, now).await
            })
        })
        .await?;
    Ok((token, expires_at))
}

/// Registers a client by what it says of itself.
///
/// # Errors
/// [`Error::RegistrationDisabled`]; `invalid_token` where an initial access token is needed; `invalid_client_metadata`
/// and `invalid_redirect_uri`; `temporarily_unavailable` where there are too many.
pub async fn register(
    app: &App,
    bearer: Option<&str>,
    body: &[u8],
    caller: &RequestContext,
) -> Result<Registered, Error> {
    must_be_on(app)?;
    app.admit(Limit::Register, &Key::address(caller.address))?;
    let invitation = match app.config.registration_mode() {
        RegistrationMode::Token => Some(hash(bearer.unwrap_or_default())),
        _ => None,
    };
    // Nothing is fetched for somebody who was not invited.
    if let Some(invitation) = &invitation
        && !initial_access_tokens::is_valid(&app.db, invitation, app.clock.now()).await?
    {
        return Err(not_invited());
    }
    let members = strict_json::object(body).map_err(OAuthError::invalid_client_metadata)?;
    let metadata = check_metadata(app, &members).await?;

    let mut client = new(app, app.new_id(), Source::Registration, metadata);
    let now = client.created_at;
    let secret = give_secret(app, &mut client);
    let token = random_text(app);
    client.registration_token_hash = Some(hash(&token));
    client.expires_at = Some(now + app.config.client_registration.unused_ttl);
    let most = app.config.client_registration.max_clients;
    let (row, caller) = (client.clone(), caller.clone());
    let outcome = app.db.transaction(move |mut tx| {
        Box::pin(async move {
            if !super::has_room(&mut tx, &row.id, most).await? {
                return Ok(Err(super::full()));
            }
            let by = match &invitation {
                Some(invitation) => initial_access_tokens::take(&mut tx, invitation, now).await?,
                None => None,
            };
            if invitation.is_some() && by.is_none() {
                return Ok(Err(not_invited()));
            }
            clients::insert(&mut tx, &row).await?;
            note(&mut tx, "client.register", &row.id, by, &caller, now).await?;
            Ok(Ok(()))
        })
    });
    outcome.await??;
    Ok(Registered { client, secret, token })
}

/// Tells a client what it is registered with (RFC 7592 §2.1).
///
/// # Errors
/// `invalid_token` wherever the token is not that of this client.
pub async fn read(app: &App, id: &str, bearer: Option<&str>) -> Result<Registered, Error> {
    let (client, token) = owned(app, id, bearer).await?;
    Ok(Registered { client, secret: None, token })
}

/// Replaces what a client is registered with (RFC 7592 §2.2).
///
/// # Errors
/// As [`read`] and [`register`].
pub async fn replace(
    app: &App,
    id: &str,
    bearer: Option<&str>,
    body: &[u8],
    caller: &RequestContext,
) -> Result<Registered, Error> {
    let (read, token) = owned(app, id, bearer).await?;
    app.admit(Limit::Register, &Key::address(caller.address))?;
    let members = strict_json::object(body).map_err(OAuthError::invalid_client_metadata)?;
    if members.get("client_id") != Some(&id.into()) {
        let message = "client_id: must be the one that is registered (RFC 7592 section 2.2)";
        return Err(OAuthError::invalid_client_metadata(message).into());
    }
    let now = app.clock.now();
    if let Some(secret) = members.get("client_secret") {
        let right =
            secret.as_str().is_some_and(|secret| client_auth::has_secret(&read, secret, now));
        if !right {
            let message = "client_secret: must be the one that is registered, or be left out";
            return Err(OAuthError::invalid_client_metadata(message).into());
        }
    }
    let mut client = read.clone();
    client.metadata = check_metadata(app, &members).await?;
    client.updated_at = now.past(read.updated_at);
    let secret = settle_secrets(app, &mut client);
    let (row, caller) = (client.clone(), caller.clone());
    let replaced = app
        .db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let current = clients::lock(&mut tx, &row.id).await?;
                let as_read = current.filter(|current| {
                    current.disabled_at.is_none()
                        && current.updated_at == read.updated_at
                        && current.metadata == read.metadata
                });
                let Some(current) = as_read else {
                    return Ok(false);
                };
                let row = Client {
                    // It may have been used meanwhile.
                    expires_at: current.expires_at,
                    ..row
                };
                clients::update(&mut tx, &row).await?;
                note(&mut tx, "client.update", &row.id, None, &caller, now).await?;
                if super::allows_less(&row.metadata, &read.metadata) {
                    super::refuse_tokens(&mut tx, &row.id, "client_changed", now).await?;
                }
                Ok(true)
            })
        })
        .await?;
    if !replaced {
        let message = "the registration was changed at this moment: read it again";
        return Err(OAuthError::temporarily_unavailable(message).into());
    }
    Ok(Registered { client, secret, token })
}

/// Removes a client at its own wish (RFC 7592 §2.3), with its sessions and tokens.
///
/// # Errors
/// As [`read`].
pub async fn remove(
    app: &App,
    id: &str,
    bearer: Option<&str>,
    caller: &RequestContext,
) -> Result<(), Error> {
    let (client, _) = owned(app, id, bearer).await?;
    let (caller, now) = (caller.clone(), app.clock.now());
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                note(&mut tx, "client.remove", &client.id, None, &caller, now).await?;
                remove_with_sessions(&mut tx, &client.id, now).await
            })
        })
        .await?;
    Ok(())
}

/// The client whose registration access token this is.
async fn owned(app: &App, id: &str, bearer: Option<&str>) -> Result<(Client, String), Error> {
    must_be_on(app)?;
    let token = bearer.unwrap_or_default();
    let client = clients::by_id(&app.db, id).await?;
    let client = client.filter(|client| client.disabled_at.is_none());
    let shown = hash(token);
    // RFC 7592 §2.1: an unknown client is answered as a wrong token is.
    let owned = client.filter(|client| {
        let kept = client.registration_token_hash.as_deref();
        kept.is_some_and(|kept| kept.ct_eq(&shown).into())
    });
    match owned {
        Some(client) => Ok((client, token.to_owned())),
        None => Err(OAuthError::invalid_token(
            "this is not the registration access token of this client",
        )
        .into()),
    }
}

fn must_be_on(app: &App) -> Result<(), Error> {
    if app.config.registration_mode() == RegistrationMode::Off {
        return Err(Error::RegistrationDisabled);
    }
    Ok(())
}

fn not_invited() -> Error {
    let message =
        "an initial access token is needed, and one that is good: ask the operator for it";
    OAuthError::invalid_token(message).into()
}

async fn note(
    tx: &mut Tx<'_>,
    action: &'static str,
    id: &str,
    invitation: Option<String>,
    caller: &RequestContext,
    now: Timestamp,
) -> storage::Result<()> {
    let entry = audit::NewAuditEntry {
        action,
        actor: id,
        subject: Some(id),
        address: Some(caller.address.to_string()),
        request_id: Some(&caller.request_id),
        correlation_id: Some(&caller.correlation_id),
        detail: match invitation {
            Some(invitation) => json!({ "invitation": invitation }),
            None => json!({}),
        },
    };
    audit::add(tx, entry, now).await
}

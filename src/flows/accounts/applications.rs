//! The applications of a user: the clients that they have consented to, and those they have
//! sessions with. Withdrawing one ends its access.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    ids::{ClientId, UserId},
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        application::GivenConsent,
        client::Client,
        event::{ConsentChange, Event},
        key::LONGEST_TOKEN_LIFE,
        session::RevocationReason,
    },
    storage::{applications as rows, consents, sessions},
};

/// Consents, and clients with sessions, that are looked at: the latest ones.
const MOST: i64 = 500;

/// An application of a user.
#[derive(Clone, Debug)]
pub struct Application {
    pub client_id: ClientId,
    /// `None`: the client is disabled.
    pub client: Option<Arc<Client>>,
    /// Empty: it needs none, or was granted none.
    pub consents: Vec<GivenConsent>,
    /// The number of sessions that can still be refreshed.
    pub sessions: u64,
    /// `None`: its sessions were removed since.
    pub last_used_at: Option<Timestamp>,
}

impl Application {
    /// The display name; the id of a client without one.
    pub fn name(&self) -> &str {
        self.client.as_ref().map_or(&self.client_id, |client| client.name())
    }
}

/// The applications of a user, by name: up to 500 consents and 500 clients with sessions.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn list(app: &App, user_id: &UserId) -> Result<Vec<Application>, Error> {
    let mut found = found(app, user_id, None).await?;
    found.sort_by_cached_key(|one| (one.name().to_lowercase(), one.client_id.clone()));
    Ok(found)
}

/// One application of a user.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(app: &App, user_id: &UserId, client_id: &ClientId) -> Result<Application, Error> {
    // PostgreSQL refuses a statement with NUL in a text.
    let found = match client_id.contains('\0') {
        true => None,
        false => found(app, user_id, Some(client_id)).await?.pop(),
    };
    found.ok_or(Error::NotFound("application"))
}

async fn found(
    app: &App,
    user_id: &UserId,
    client_id: Option<&ClientId>,
) -> Result<Vec<Application>, Error> {
    let mut by_client: BTreeMap<ClientId, Application> = BTreeMap::new();
    let new = |client_id: ClientId| Application {
        client_id,
        client: None,
        consents: vec![],
        sessions: 0,
        last_used_at: None,
    };
    for consent in rows::consents(&app.db, user_id, client_id, MOST).await? {
        let id = consent.client_id.clone();
        by_client.entry(id.clone()).or_insert_with(|| new(id)).consents.push(consent);
    }
    for usage in rows::usage(&app.db, user_id, client_id, MOST, app.clock.now()).await? {
        let id = usage.client_id;
        // Without a consent, what was used before is over once its sessions are.
        if usage.sessions > 0 || by_client.contains_key(&id) {
            let one = by_client.entry(id.clone()).or_insert_with(|| new(id));
            one.sessions = usage.sessions;
            one.last_used_at = Some(usage.last_used_at);
        }
    }
    let mut found: Vec<Application> = by_client.into_values().collect();
    for one in &mut found {
        one.client = app.client(&one.client_id).await?.map(|known| known.client);
    }
    Ok(found)
}

/// As [`withdraw`], by the user.
///
/// # Errors
/// [`Error::NotFound`] where there is neither a consent nor a session; [`Error::TooMany`].
pub async fn withdraw_own(
    app: &App,
    user_id: &UserId,
    client_id: &ClientId,
    context: &RequestContext,
) -> Result<(), Error> {
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    let is_possible = !client_id.contains('\0');
    let actor = Actor::caller(user_id, context);
    if is_possible && withdraw(app, user_id, client_id, &actor).await? {
        return Ok(());
    }
    Err(Error::NotFound("application"))
}

/// Withdraws a user's consent to a client: the user is asked again, and the client's sessions,
/// codes and tokens for the user are refused at once. `false` where there was nothing.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn withdraw(
    app: &App,
    user_id: &UserId,
    client_id: &ClientId,
    actor: &Actor,
) -> Result<bool, Error> {
    let mut tx = app.begin(actor).await?;
    let kind = ConsentChange::Withdrawn;
    // The consent first: a code is inserted while its row is locked, so that none outlives it.
    let had_consent = consents::withdraw(&mut tx, user_id, client_id).await?;
    if had_consent {
        tx.event(&Event::consent(kind, user_id, client_id)).await?;
    }
    tx.audit(kind.as_str(), Some(user_id), json!({ "clientId": client_id })).await?;
    // The locks may have waited; the time tells these sessions from those revoked before.
    let last = sessions::last_revocation(&mut tx, user_id).await?;
    let now = tx.read_clock();
    let now = last.map_or(now, |last| now.past(last));
    let of = sessions::SessionSelector::UserAtClient(user_id, client_id);
    let reason = RevocationReason::ConsentWithdrawn;
    let listed_until = now + LONGEST_TOKEN_LIFE;
    let revoked = sessions::revoke_all(&mut tx, of, reason, now, listed_until).await?;
    if !had_consent && revoked == 0 {
        tx.rollback().await?;
        return Ok(false);
    }
    tx.commit().await?;
    app.logouts_waiting.notify_one();
    Ok(true)
}

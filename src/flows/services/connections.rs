//! Accounts that users connect at a customer service: authorization code with PKCE, with this
//! server as the client.
//!
//! Nothing is stored before the service has answered. The `state` is a MAC over its time, the
//! service and the browser session, and the code verifier is derived from it: only the browser that
//! began can complete, for ten minutes. Each service has a redirect URI of its own, so that the
//! code of one never goes to another (RFC 9700 §4.4.2.2).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::Sha256;

use super::{find, new_token, not_stored, refused};
use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    error::Error,
    flows::derived,
    ids::UserId,
    model::{
        actor::{Actor, RequestContext},
        browser_session::BrowserSession,
        service_token::Secrets,
    },
    oauth::pkce,
    services::{Grants, Service, authorization_url},
    storage::{browser_sessions, service_tokens as rows},
};

/// How long a user may take at the service.
const LONGEST: Duration = Duration::from_secs(600);

/// Random bytes and the time, in front of the MAC.
const HEAD: usize = 16 + 8;

/// A service at which users connect an account, as one of them sees it.
#[derive(Clone, Debug)]
pub struct Connection {
    pub service: String,
    /// `None`: the user has connected none.
    pub connected_at: Option<Timestamp>,
}

/// The services at which users connect an account, by name, with this user's accounts.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn of_user(app: &App, user_id: &UserId) -> Result<Vec<Connection>, Error> {
    const MOST: i64 = 1_000;
    let mut names = vec![];
    for service in app.services.iter() {
        if service.config.is_connected() {
            names.push(service.name.clone());
        }
    }
    if names.is_empty() {
        return Ok(vec![]);
    }
    let now = app.clock.now();
    let found = rows::page(&app.db, Some(user_id), ("", ""), MOST, now).await?;
    let known: BTreeMap<String, Timestamp> =
        found.into_iter().map(|row| (row.service, row.created_at)).collect();
    let connection =
        |service: String| Connection { connected_at: known.get(&service).copied(), service };
    Ok(names.into_iter().map(connection).collect())
}

/// A service at which users connect an account.
///
/// # Errors
/// [`Error::NotFound`].
pub fn connectable<'a>(app: &'a App, name: &str) -> Result<&'a Arc<Service>, Error> {
    let service = find(app, name)?;
    if service.config.is_connected() { Ok(service) } else { Err(Error::NotFound("service")) }
}

/// Where the browser is sent to connect an account.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`].
pub fn begin(app: &App, browser: &BrowserSession, name: &str) -> Result<String, Error> {
    let service = connectable(app, name)?;
    let mut head = [0; HEAD];
    head[..16].copy_from_slice(&app.rng.bytes::<16>());
    head[16..].copy_from_slice(&app.clock.now().micros().to_be_bytes());
    let tag = state_mac(app, name, browser, &head)?.finalize().into_bytes();
    let state = URL_SAFE_NO_PAD.encode([head.as_slice(), tag.as_slice()].concat());
    let challenge = pkce::challenge_of(&verifier(app, &state)?).unwrap_or_default();
    let url = authorization_url(service, &redirect_uri(app, name), &state, &challenge);
    url.ok_or_else(|| Error::Unavailable("authorization_url is not a URL".into()))
}

/// Where the service sends the browser back.
pub fn redirect_uri(app: &App, name: &str) -> String {
    format!("{}/services/{name}/callback", app.config.server.issuer)
}

fn state_mac(
    app: &App,
    name: &str,
    browser: &BrowserSession,
    head: &[u8],
) -> Result<Hmac<Sha256>, Error> {
    let mut mac = derived::mac(app, "service connection state")?;
    mac.update(head);
    // Neither name nor id has a space.
    mac.update(format!("{name} {}", browser.id).as_bytes());
    Ok(mac)
}

fn verifier(app: &App, state: &str) -> Result<String, Error> {
    derived::text(app, "service connection verifier", state)
}

/// Whether [`begin`] has issued this `state` for this browser session, a short time ago.
///
/// # Errors
/// [`Error::Unavailable`].
pub fn is_state(
    app: &App,
    browser: &BrowserSession,
    name: &str,
    state: &str,
) -> Result<bool, Error> {
    let decoded = URL_SAFE_NO_PAD.decode(state).unwrap_or_default();
    let Some((head, tag)) = decoded.split_at_checked(HEAD) else {
        return Ok(false);
    };
    let time = head[16..].try_into().map(i64::from_be_bytes).unwrap_or_default();
    let is_recent = Timestamp(time).distance(app.clock.now()) <= LONGEST;
    let is_ours = state_mac(app, name, browser, head)?.verify_slice(tag).is_ok();
    diagnostics::record(
        "service.state",
        format_args!("of this browser: {is_ours}, recent: {is_recent}"),
    );
    Ok(is_ours && is_recent)
}

/// Exchanges the code with which the service has sent the browser back, and connects the account.
/// `state` was checked by [`is_state`]. It is completed also if the browser does not wait.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::NotConnected`] where the user has logged out meanwhile;
/// [`Error::ServiceFailed`], [`Error::ServiceUnavailable`], [`Error::ServiceTimeout`];
/// [`Error::Unavailable`].
pub async fn complete(
    app: &Arc<App>,
    browser: &BrowserSession,
    name: &str,
    state: &str,
    code: &str,
    caller: &RequestContext,
) -> Result<(), Error> {
    let service = Arc::clone(connectable(app, name)?);
    let (verifier, redirect_uri) = (verifier(app, state)?, redirect_uri(app, name));
    let requested_at = app.clock.now();
    let task = {
        let (app, code) = (Arc::clone(app), code.to_owned());
        let (user_id, browser_id) = (browser.user.id.clone(), browser.id.clone());
        let actor = Actor::caller(&user_id, caller);
        tokio::spawn(async move {
            let _running = app.services.running().await;
            let grant =
                Grants::Code { code: &code, verifier: &verifier, redirect_uri: &redirect_uri };
            let ids = || app.new_id();
            let granted = service.request_token(&app.outbound, grant, requested_at, ids).await;
            let outcome = granted.as_ref().map_or_else(
                |failure| failure.kind.into(),
                |_| crate::telemetry::ServiceOutcome::Ok,
            );
            app.metrics.service_request(&service.name, "", outcome);
            // Logged with the request.
            let granted = match granted {
                Ok(granted) => granted,
                Err(failure) => return Ok(Err(failure)),
            };
            let secrets = Secrets {
                access_token: Some(granted.access_token),
                refresh_token: granted.refresh_token,
                seed: None,
            };
            let secrets = (secrets, granted.expires_in);
            let new = new_token(&app, &service, &user_id, &secrets, requested_at)?;
            let mut tx = app.begin(&actor).await?;
            let now = tx.now();
            // A logout removes the connection, or it was before.
            if !browser_sessions::lock_valid(&mut tx, &browser_id, now).await? {
                tx.rollback().await?;
                not_stored(&app, &service, &user_id, new.sealed).await;
                return Err(Error::NotConnected(
                    "you have logged out meanwhile: log in and connect again",
                ));
            }
            rows::connect(&mut tx, &service.name, &user_id, &browser_id, new, now).await?;
            let detail = json!({ "service": service.name });
            tx.audit("service.connected", Some(&user_id), detail).await?;
            tx.commit().await?;
            Ok(Ok(()))
        })
    };
    let outcome: Result<Result<(), _>, Error> =
        task.await.map_err(|error| Error::Unavailable(error.into()))?;
    outcome?.map_err(refused)
}

/// Removes the account that a user has connected, with its tokens, which are then revoked at the
/// service, if it has a `revocation_url`.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`].
pub async fn remove(app: &App, name: &str, user_id: &UserId, actor: &Actor) -> Result<(), Error> {
    // Also of a service that is not configured any more.
    if name.contains('\0') || user_id.is_empty() || user_id.contains('\0') {
        return Err(Error::NotFound("connection"));
    }
    let mut tx = app.begin(actor).await?;
    if !rows::remove(&mut tx, name, user_id, None).await? {
        return Err(Error::NotFound("connection"));
    }
    let detail = json!({ "service": name });
    tx.audit("service.disconnected", Some(user_id), detail).await?;
    tx.commit().await?;
    app.services.revocations_waiting.notify_one();
    Ok(())
}

/// Removes a connection whose refresh token the service refuses, if it is still the same.
pub(super) async fn end(
    app: &App,
    service: &Service,
    subject: &str,
    version: i64,
) -> Result<(), Error> {
    let actor = Actor::service(&format!("service:{}", service.name), None);
    let mut tx = app.begin(&actor).await?;
    if rows::remove(&mut tx, &service.name, subject, Some(version)).await? {
        let why = "the service refuses the refresh token";
        let detail = json!({ "service": service.name, "reason": why });
        tx.audit("service.disconnected", Some(subject), detail).await?;
    }
    tx.commit().await?;
    Ok(())
}

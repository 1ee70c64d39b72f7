//! Remembered devices: browsers in which a user is not asked for the second factor, by choice. Such
//! a login is one by password, by its `acr` and `amr`: what requires a second factor asks for it.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    app::App,
    error::Error,
    flows::sessions::open::new_cookie,
    ids::UserId,
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        device::{COOKIE_LENGTH, RememberedDevice},
    },
    storage::{AuditedTx, remembered_devices as rows},
};

fn hash(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie).into()
}

/// Whether a user is remembered in this browser, by its cookies; returns the id of the remembered
/// device.
pub(crate) async fn find(
    app: &App,
    user_id: &UserId,
    cookies: &[String],
    context: &RequestContext,
) -> Result<Option<String>, Error> {
    let Some(device) = &context.device else { return Ok(None) };
    if app.config.second_factors.remember_for.is_zero() {
        return Ok(None);
    }
    let now = app.clock.now();
    for cookie in cookies.iter().filter(|cookie| cookie.len() == COOKIE_LENGTH) {
        if let Some(id) = rows::find(&app.db, user_id, hash(cookie), device, now).await? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// A browser to remember: its new cookie, and those that it has.
pub(crate) struct Remember<'a> {
    cookie: String,
    /// The hash of its device cookie.
    device: String,
    known: &'a [String],
}

impl<'a> Remember<'a> {
    pub fn new(app: &App, device: String, known: &'a [String]) -> Self {
        Self { cookie: new_cookie(app), device, known }
    }

    /// The value of the new cookie.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Remembers the browser for a user who has proven the second factor in it.
    pub async fn store(
        &self,
        app: &App,
        tx: &mut AuditedTx,
        user_id: &UserId,
        context: &RequestContext,
    ) -> Result<(), Error> {
        let (id, now) = (tx.new_id(), tx.now());
        let token_hash = hash(&self.cookie);
        // Another user of the browser stays remembered.
        for known in self.known.iter().filter(|cookie| cookie.len() == COOKIE_LENGTH) {
            rows::replace_token(tx, hash(known), token_hash).await?;
        }
        let new = rows::NewDevice {
            id: &id,
            user_id,
            token_hash,
            device: &self.device,
            user_agent: context.user_agent.as_deref(),
            expires_at: now + app.config.second_factors.remember_for,
        };
        rows::insert(tx, new, now).await?;
        tx.audit("device.remembered", Some(user_id), json!({ "deviceId": id })).await?;
        Ok(())
    }
}

/// The browsers that a user is remembered in, the newest first.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn of_user(app: &App, user_id: &UserId) -> Result<Vec<RememberedDevice>, Error> {
    if app.config.second_factors.remember_for.is_zero() {
        return Ok(vec![]);
    }
    Ok(rows::of_user(&app.db, user_id, app.clock.now()).await?)
}

/// Forgets a browser of the user: the next login in it takes the second factor.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::TooMany`].
pub async fn forget(
    app: &App,
    user_id: &UserId,
    id: &str,
    context: &RequestContext,
) -> Result<(), Error> {
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    let mut tx = app.begin(&Actor::caller(user_id, context)).await?;
    if !rows::remove(&mut tx, user_id, id).await? {
        return Err(Error::NotFound("remembered device"));
    }
    tx.audit("device.forgotten", Some(user_id), json!({ "deviceId": id })).await?;
    Ok(tx.commit().await?)
}

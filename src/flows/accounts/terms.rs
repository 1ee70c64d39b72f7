//! The terms of this deployment: users accept them at the registration, and again when their
//! version changes.

use serde_json::json;

use crate::{
    app::App,
    error::Error,
    ids::UserId,
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        browser_session::BrowserSession,
        event::Event,
        user::AcceptedTerms,
    },
    storage::{self, AuditedTx, users},
};

/// The field that accepts them.
const FIELD: &str = "acceptedTerms";

/// Whether the user of this browser has yet to accept the terms in force.
pub fn are_due(app: &App, browser: &BrowserSession) -> bool {
    let terms = app.config.registration.required_terms();
    terms.is_some_and(|terms| browser.accepted_terms.as_deref() != Some(&terms.version))
}

/// The version to record for a user who accepts this one; `None` where there are no terms.
///
/// # Errors
/// [`Error::Validation`] where it is not the one in force.
pub(crate) fn accepted(app: &App, version: Option<&str>) -> Result<Option<String>, Error> {
    let Some(terms) = app.config.registration.required_terms() else { return Ok(None) };
    if version != Some(terms.version.as_str()) {
        return Err(Error::field(FIELD, must_accept(&terms.url, &terms.version)));
    }
    Ok(Some(terms.version.clone()))
}

/// Why a registration without the acceptance is refused.
pub(crate) fn must_accept(url: &str, version: &str) -> String {
    format!("accept the terms at {url}: send their version, {version:?}")
}

/// Records what a user has accepted.
pub(crate) async fn record(
    tx: &mut AuditedTx,
    user_id: &UserId,
    version: &str,
) -> storage::Result<bool> {
    let now = tx.now();
    let is_known = users::accept_terms(tx, user_id, version, now).await?;
    tx.audit("terms.accepted", Some(user_id), json!({ "version": version })).await?;
    Ok(is_known)
}

/// A user accepts the terms in force.
///
/// # Errors
/// [`Error::Validation`] for another version; [`Error::Conflict`] where there are no terms;
/// [`Error::TooMany`].
pub async fn accept(
    app: &App,
    user_id: &UserId,
    version: Option<&str>,
    context: &RequestContext,
) -> Result<(), Error> {
    let version = accepted(app, version)?.ok_or(Error::Conflict("there are no terms to accept"))?;
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    let mut tx = app.begin(&Actor::caller(user_id, context)).await?;
    if !record(&mut tx, user_id, &version).await? {
        return Err(Error::NoToken);
    }
    tx.event(&Event::user_updated(user_id, &[FIELD])).await?;
    Ok(tx.commit().await?)
}

/// What a user has accepted last.
///
/// # Errors
/// [`Error::NoToken`] where the account was deleted meanwhile.
pub async fn of_user(app: &App, user_id: &UserId) -> Result<Option<AcceptedTerms>, Error> {
    let record = users::record_by_id(&app.db, user_id).await?;
    Ok(record.ok_or(Error::NoToken)?.terms)
}

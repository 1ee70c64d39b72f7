//! The profile of a user, as its owner sees and changes it.

use serde_json::{Map, Value, json};

use crate::{
    app::App,
    error::{Error, FieldError},
    ids::UserId,
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        event::Event,
        profile::{Editor, UserProfile},
    },
    storage::{
        profiles,
        users::{self, UserUpdate},
    },
};

/// The claims in use that are stored of a user.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn of(app: &App, user_id: &UserId) -> Result<UserProfile, Error> {
    let claims = &app.config.profile.claims;
    if claims.is_empty() {
        return Ok(UserProfile::default());
    }
    let (profile, _) = profiles::of(&app.db, user_id).await?;
    Ok(profile.only(claims))
}

/// Changes a profile by a JSON Merge Patch (RFC 7396), as its owner; returns the claims in use.
///
/// # Errors
/// [`Error::Validation`] for each field that breaks a rule; [`Error::NotFound`] for a user who was
/// disabled or deleted meanwhile; [`Error::TooMany`].
pub async fn update(
    app: &App,
    user_id: &UserId,
    patch: &Map<String, Value>,
    context: &RequestContext,
) -> Result<UserProfile, Error> {
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    let mut tx = app.begin(&Actor::caller(user_id, context)).await?;
    let account = users::lock(&mut tx, user_id).await?;
    let account = account.filter(|account| account.user.disabled_at.is_none());
    let account = account.ok_or(Error::NotFound("user"))?;
    // The lock may have waited for another change.
    let now = tx.read_clock();
    let profile = merged(app, &account.profile, patch, Editor::Owner)?;
    let shown = profile.only(&app.config.profile.claims);
    let claims = account.profile.changed(&profile);
    if claims.is_empty() {
        return Ok(shown);
    }
    let to = UserUpdate {
        email: None,
        username: None,
        role: account.user.role.clone(),
        is_verified: account.user.is_verified,
        profile: Some(profile),
    };
    users::update(&mut tx, user_id, to, now).await?;
    let event = Event::user_updated(user_id, &claims);
    tx.event(&event.with_external_id(account.external_id.as_deref())).await?;
    // The log outlives the account, so that it has no values.
    tx.audit("user.updated", Some(user_id), json!({ "profile": claims })).await?;
    tx.commit().await?;
    Ok(shown)
}

/// The profile after a change.
///
/// # Errors
/// [`Error::Validation`].
pub(crate) fn merged(
    app: &App,
    before: &UserProfile,
    patch: &Map<String, Value>,
    by: Editor,
) -> Result<UserProfile, Error> {
    let merged = before.merged(patch, &app.config.profile.claims, by);
    merged.map_err(|refused| {
        let refused = refused.into_iter();
        Error::Validation(refused.map(|(field, message)| FieldError { field, message }).collect())
    })
}

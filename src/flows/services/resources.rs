//! Data of customer services for logged-in users: the listed fields, and nothing else.

use std::sync::Arc;

use serde_json::Value;

use super::{Subject, find, refused, token};
use crate::{
    app::App,
    caches::verified_tokens::Verified,
    diagnostics,
    error::Error,
    flows::tokens::verify::must_be_of_account,
    model::{service_token::FailureKind, session::Session},
    oauth::{error::OAuthError, jwt::InvalidToken},
    services::{Failure, Held, Resource, ResourceAnswer, Service},
    storage::{service_tokens as rows, sessions},
    telemetry::ServiceOutcome,
};

/// What a resource says of the user whose access token this is.
///
/// # Errors
/// [`Error::NotFound`]: no such service or resource; `insufficient_scope`; [`Error::NotConnected`];
/// [`Error::ServiceFailed`], [`Error::ServiceUnavailable`], [`Error::ServiceTimeout`];
/// [`Error::Unavailable`].
pub async fn read(
    app: &Arc<App>,
    service: &str,
    resource: &str,
    verified: &Verified,
) -> Result<Arc<Value>, Error> {
    let service = find(app, service)?;
    diagnostics::record("service.resource", resource);
    let resource = service.resources.get(resource).ok_or(Error::NotFound("resource"))?;
    let session = session(app, resource, verified).await?;
    // The same id for every client: one client's pairwise `sub` is not known at the service.
    let sub = session.user.as_ref().map_or(session.subject.as_str(), |user| user.id.as_str());
    let subject = Subject::of_session(service, &session);
    // A user's own token is looked at first: an answer must not outlive the connection.
    let held = if service.config.is_per_user() {
        Some(token(app, service, &subject).await?)
    } else {
        None
    };
    let (name, now) = (service.name.as_str(), app.clock.now());
    if let Some(known) = app.services.answers.get(name, &resource.name, sub, now) {
        return Ok(known);
    }
    if let Some(wait) = app.services.resource_pause(name, &resource.name, now) {
        let failure = Failure::new(FailureKind::Unavailable, "the resource failed a moment ago");
        return Err(refused(Failure { retry_after: Some(wait), ..failure }));
    }
    let held = match held {
        Some(held) => held,
        None => token(app, service, &subject).await?,
    };
    let fields = fetch(app, service, resource, &subject, sub, held).await?;
    if !resource.config.cache.is_zero() {
        let until = app.clock.now() + resource.config.cache;
        app.services.answers.put((name, &resource.name, sub), &fields, until);
    }
    Ok(fields)
}

/// The session of a user who may read the resource.
async fn session(app: &App, resource: &Resource, verified: &Verified) -> Result<Session, Error> {
    let claims = &verified.claims;
    let needed = resource.config.scope.as_str();
    let refuse = |why: String| Error::from(OAuthError::insufficient_scope(why));
    if needed.is_empty() {
        must_be_of_account(verified)?;
    } else if !claims.scope.contains(needed) {
        diagnostics::record("needed.scope", needed);
        return Err(refuse(format!("the token lacks the scope {needed}")));
    }
    let Some(sid) = &claims.sid else {
        diagnostics::record("needed.sid", "the token of a user");
        return Err(refuse("the token is a client's own: users read this resource".to_owned()));
    };
    let session = sessions::by_id(&app.db, sid).await?;
    session.ok_or(Error::InvalidToken(InvalidToken("its session no longer exists")))
}

/// Requests the resource; once more with another token, if it refuses this one.
async fn fetch(
    app: &Arc<App>,
    service: &Arc<Service>,
    resource: &Resource,
    subject: &Subject,
    sub: &str,
    held: Arc<Held>,
) -> Result<Arc<Value>, Error> {
    if let Some(fields) = ask(app, service, resource, sub, &held).await? {
        return Ok(fields);
    }
    diagnostics::record("service.token", "refused by the resource and discarded");
    let (name, now) = (service.name.as_str(), app.clock.now());
    rows::discard(&app.db, name, &subject.id, held.version, now).await?;
    let mut other = token(app, service, subject).await?;
    if other.version == held.version {
        // The attempt may have begun before the token was discarded.
        other = token(app, service, subject).await?;
    }
    // Otherwise another one was discarded a moment ago.
    let fields = if other.version == held.version {
        None
    } else {
        ask(app, service, resource, sub, &other).await?
    };
    fields.ok_or_else(|| {
        refused(Failure::new(FailureKind::Failed, "the resource refuses the access token"))
    })
}

/// The fields; `None`: the resource refuses the access token.
async fn ask(
    app: &App,
    service: &Service,
    resource: &Resource,
    sub: &str,
    held: &Held,
) -> Result<Option<Arc<Value>>, Error> {
    let access_token = held.secrets.access_token.as_deref().unwrap_or_default();
    let timeout = service.config.timeout;
    let answer = resource.fetch(&app.outbound, access_token, sub, timeout).await;
    let outcome = match &answer {
        Ok(ResourceAnswer::Fields(_)) => ServiceOutcome::Ok,
        Ok(ResourceAnswer::TokenRefused) => ServiceOutcome::Failed(FailureKind::Failed),
        Err(failure) => failure.kind.into(),
    };
    app.metrics.service_request(&service.name, &resource.name, outcome);
    let (name, now) = (service.name.as_str(), app.clock.now());
    let failure = answer.as_ref().err();
    let wait = app.services.resource_answered(name, &resource.name, failure, now);
    match answer {
        Ok(ResourceAnswer::Fields(fields)) => Ok(Some(fields)),
        Ok(ResourceAnswer::TokenRefused) => Ok(None),
        Err(failure) => {
            let retry_after = (!wait.is_zero()).then_some(wait);
            Err(refused(Failure { retry_after, ..failure }))
        }
    }
}

//! RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0): an application requests that its
//! user be logged out.

use std::sync::Arc;

use crate::{
    app::App,
    error::Error,
    flows::tokens::{id_token, subject},
    model::{browser_session::BrowserSession, client::Client},
    oauth::{error::OAuthError, id_token::IdClaims, params::Params, requests::EndSessionRequest},
    storage::sessions,
};

/// A valid logout request.
#[derive(Debug)]
pub struct EndSession {
    pub client: Option<Arc<Client>>,
    /// A registered `post_logout_redirect_uri`, with `state` appended.
    pub continue_to: Option<String>,
    hint: Option<IdClaims>,
}

/// Validates a logout request: the hint and the redirect URI must be the client's, or there is no
/// redirect (threat T9).
///
/// A hint that cannot be verified counts as absent: an honest application may hold one that was
/// signed by a key which has been replaced since, and its user must be able to log out. The user is
/// asked (RP-Initiated Logout §2).
///
/// # Errors
/// `invalid_request`, for an error page.
pub async fn read(app: &App, request: &EndSessionRequest) -> Result<EndSession, Error> {
    app.sync().await?;
    let token = request.id_token_hint.as_deref();
    let hint = token.and_then(|token| id_token::hint(app, token));
    let unverified = token.is_some() && hint.is_none();
    let named = request.client_id.as_deref();
    if let (Some(hint), Some(named)) = (&hint, named)
        && hint.aud != named
    {
        let refused = "`id_token_hint` was issued to another client";
        return Err(OAuthError::invalid_request(refused).into());
    }
    let client_id = named.or(hint.as_ref().map(|hint| hint.aud.as_str()));
    let client = match client_id {
        Some(id) => app.client(&id.into()).await?.map(|known| known.client),
        None => None,
    };
    let continue_to = match &request.post_logout_redirect_uri {
        // Only the hint named the client that may have registered it.
        Some(_) if unverified && named.is_none() => None,
        Some(uri) => {
            let registered = client.as_ref().is_some_and(|client| {
                client.metadata.post_logout_redirect_uris.iter().any(|one| one == uri)
            });
            if !registered {
                return Err(OAuthError::invalid_request(
                    "`post_logout_redirect_uri` is not registered for this client (send `client_id` or `id_token_hint`)",
                )
                .into());
            }
            Some(with_state(uri, request.state.as_deref()))
        }
        None => None,
    };
    Ok(EndSession { client, continue_to, hint })
}

impl EndSession {
    /// Whether the hint names the session of this browser: then logout needs no confirmation.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn is_meant(&self, app: &App, browser: &BrowserSession) -> Result<bool, Error> {
        let (Some(hint), Some(client)) = (&self.hint, &self.client) else {
            return Ok(false);
        };
        if hint.sub != subject::subject(app, client, &browser.user.id)? {
            return Ok(false);
        }
        let session = sessions::by_id(&app.db, &hint.sid).await?;
        // The session may be deleted already; the user is still the one of the hint.
        Ok(session
            .is_none_or(|session| session.browser_session_id.is_none_or(|id| id == browser.id)))
    }
}

fn with_state(uri: &str, state: Option<&str>) -> String {
    let Some(state) = state else {
        return uri.to_owned();
    };
    let joint = if uri.contains('?') { '&' } else { '?' };
    let query = Params::default().with("state", state).encode();
    format!("{uri}{joint}{query}")
}

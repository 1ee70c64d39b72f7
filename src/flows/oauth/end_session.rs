//! RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0): an application asks that its person be logged out here.

use std::sync::Arc;

use crate::{
    app::App,
    error::Error,
    flows::tokens::{id_token, subject},
    model::{browser_session::BrowserSession, client::Client},
    oauth::{error::OAuthError, id_token::IdClaims, params::Params},
    storage::sessions,
};

/// A logout request that was found good.
#[derive(Debug)]
pub struct EndSession {
    pub client: Option<Arc<Client>>,
    /// A registered address to go on to, with `state` in it.
    pub continue_to: Option<String>,
    hint: Option<IdClaims>,
}

/// Checks a logout request: the hint and the address belong to the client, or there is no redirect (threat T9).
///
/// A hint that cannot be verified is as good as none: an honest application may hold one that was signed by a key which
/// has been replaced since, and its person must be able to log out. They are asked (RP-Initiated Logout §4).
///
/// # Errors
/// `invalid_request`, to be shown on a page.
pub async fn read(app: &App, params: &Params) -> Result<EndSession, Error> {
    app.sync().await?;
    let given = params.get("id_token_hint");
    let hint = given.and_then(|token| id_token::hint(app, token));
    let unverified = given.is_some() && hint.is_none();
    let named = params.get("client_id");
    if let (Some(hint), Some(named)) = (&hint, named)
        && hint.aud != named
    {
        return Err(OAuthError::invalid_request("id_token_hint belongs to another client").into());
    }
    let client_id = named.or(hint.as_ref().map(|hint| hint.aud.as_str()));
    let client = match client_id {
        Some(id) => app.client(id).await?.map(|known| known.client),
        None => None,
    };
    let continue_to = match params.get("post_logout_redirect_uri") {
        // Whose address it is only the hint said.
        Some(_) if unverified && named.is_none() => None,
        Some(uri) => {
            let registered = client.as_ref().is_some_and(|client| {
                client.metadata.post_logout_redirect_uris.iter().any(|one| one == uri)
            });
            if !registered {
                return Err(OAuthError::invalid_request(
                    "post_logout_redirect_uri is not one that this client has registered (send client_id or id_token_hint)",
                )
                .into());
            }
            Some(with_state(uri, params.get("state")))
        }
        None => None,
    };
    Ok(EndSession { client, continue_to, hint })
}

impl EndSession {
    /// Whether the hint names the very session of this browser: then nobody is asked.
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
        // The session may be swept already; then the person still is the one.
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

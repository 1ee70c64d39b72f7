//! The refresh token grant (RFC 6749 §6): the chain of [`crate::flows::refresh`], for the client it belongs to.

use super::{Issued, authorization_code::answer};
use crate::{
    app::App,
    flows::{
        Caller, Error,
        refresh::{self, Terms},
        resources,
    },
    model::client::Client,
    oauth::{error::OAuthError, params::Params, scope::Scope},
};

/// Exchanges a refresh token of an authenticated client. `scope` may narrow this one access token; the session keeps its own.
///
/// # Errors
/// `invalid_grant` for every token that is not good, whatever the reason; `invalid_scope` and `invalid_target`.
pub async fn refresh(
    app: &App,
    client: &Client,
    params: &Params,
    caller: &Caller,
) -> Result<Issued, Error> {
    let presented = params
        .get("refresh_token")
        .ok_or_else(|| OAuthError::invalid_request("refresh_token is missing"))?;
    let asked = params.get("scope").map(Scope::parse).transpose();
    let asked = asked.map_err(OAuthError::invalid_scope)?;
    let named: Vec<&str> = params.all("resource").collect();
    let target = resources::target(app, client, named.iter().copied()).await?;

    let terms = Terms::of(app, client);
    // A scope that was never granted is refused before anything moves: the refresh token stays good.
    let check = |session: &crate::model::session::Session| {
        let known = asked
            .as_ref()
            .is_none_or(|asked| asked.is_subset_of(&session.scope));
        if !known {
            return Err(OAuthError::invalid_scope(
                "the session was not granted that scope",
            ));
        }
        let names = target.names();
        if !names
            .iter()
            .all(|name| session.details.resource.contains(name))
        {
            return Err(OAuthError::invalid_target(
                "the session was not granted that resource",
            ));
        }
        Ok(())
    };
    if asked.is_some() || !named.is_empty() {
        let session = refresh::peek(app, presented, &client.id).await?;
        check(&session)?;
    }
    let refreshed = refresh::refresh(app, presented, &terms, caller).await;
    let mut refreshed = match refreshed {
        Err(Error::InvalidRefreshToken) => {
            return Err(OAuthError::invalid_grant(
                "the refresh token is unknown, expired, revoked or used, or belongs to another client",
            )
            .into());
        }
        other => other?,
    };
    // What the client may no longer ask for, its sessions no longer get.
    let may = resources::may_ask(app, client, &refreshed.session.details.resource).await?;
    let scope = refreshed.session.scope.intersection(&may);
    let scope = match asked {
        Some(asked) => scope.intersection(&asked),
        None => scope,
    };
    if !named.is_empty() {
        refreshed.session.details.resource = target.names();
    }
    // Core §12.2: a refreshed ID token has none.
    refreshed.session.details.nonce = None;
    let now = app.clock.now();
    answer(
        app,
        client,
        &refreshed.session,
        scope,
        Some(&refreshed.successor),
        now,
    )
    .await
}

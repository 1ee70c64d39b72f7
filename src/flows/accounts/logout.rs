//! Logout: the session, its refresh token and its access tokens are revoked, at once.

use crate::{
    app::App,
    error::Error,
    flows::{
        accounts::browser_session,
        sessions::end,
        tokens::{refresh, verify},
    },
    model::{
        actor::{Actor, RequestContext},
        client::{FIRST_PARTY, first_party},
        session::RevocationReason,
    },
    storage,
};

/// Revokes the session that the access token or, failing that, the refresh token belongs to.
///
/// # Errors
/// [`Error::NoToken`], [`Error::InvalidToken`] or [`Error::InvalidRefreshToken`] where neither is
/// valid.
pub async fn logout(
    app: &App,
    access_token: Option<&str>,
    refresh_token: Option<&str>,
    caller: &RequestContext,
) -> Result<(), Error> {
    let by_access = match access_token {
        Some(token) => match verify::verify(app, token).await {
            Ok(verified) => {
                Ok(verified.claims.sid.clone().map(|sid| (verified.claims.sub.clone(), sid)))
            }
            Err(error) => Err(error),
        },
        None => Err(Error::NoToken),
    };
    let (subject, session) = match by_access {
        Ok(Some(found)) => found,
        // A client's own token has no session that could be revoked.
        Ok(None) => return Err(Error::NoToken),
        Err(error @ Error::Unavailable(_)) => return Err(error),
        // A page that was open for an hour logs out with its refresh token.
        Err(error) => match refresh_token {
            Some(token) => {
                let session = refresh::peek(app, token, first_party()).await?;
                (session.subject, session.id)
            }
            None => return Err(error),
        },
    };
    // Logging out behind a gateway logs out the browser: else the next page would log in again by
    // itself.
    let row = storage::sessions::by_id(&app.db, &session).await?;
    let browser = row.filter(|row| row.client_id == FIRST_PARTY);
    if let Some(browser) = browser.and_then(|row| row.browser_session_id) {
        return browser_session::log_out(app, &browser, &subject, caller).await;
    }
    let mut tx = app.begin(&Actor::caller(&subject, caller)).await?;
    end::end(&mut tx, &subject, &session, RevocationReason::Logout).await?;
    tx.commit().await?;
    app.metrics.logouts.inc();
    Ok(())
}

//! Token revocation (RFC 7009): a client gives a token back, and the answer comes after that holds everywhere.

use serde_json::json;

use crate::{
    app::App,
    flows::{
        Caller, Error, refresh,
        sessions::{self, note},
        verify,
    },
    model::{
        client::Client,
        key::LONGEST_TOKEN_LIFE,
        revocation::{Revocation, Target},
        session::EndReason,
    },
    oauth::{error::OAuthError, refresh_token::RefreshToken},
    storage::revocations,
};

/// Revokes a token of an authenticated client: with a refresh token its whole session, with an access token only that.
/// A token that is not good is as good as revoked (§2.2).
///
/// # Errors
/// `unauthorized_client` for another client's token (§2.1); [`Error::Unavailable`] where it could not be kept.
pub async fn revoke(app: &App, client: &Client, token: &str, caller: &Caller) -> Result<(), Error> {
    if RefreshToken::parse(token).is_some() {
        let session = match refresh::peek(app, token, &client.id).await {
            Ok(session) => session,
            Err(Error::InvalidRefreshToken) => return Ok(()),
            Err(error) => return Err(error),
        };
        let now = app.clock.now();
        sessions::end_one(app, &session, EndReason::Revoked, caller, now).await?;
        return Ok(());
    }
    app.freshen().await?;
    let Ok(verified) = verify::inspect(app, token) else {
        return Ok(());
    };
    if verified.claims.client_id != client.id {
        return Err(
            OAuthError::unauthorized_client("the token was issued to another client").into(),
        );
    }
    let (jti, subject) = (verified.claims.jti.clone(), verified.claims.sub.clone());
    let (caller, now) = (caller.clone(), app.clock.now());
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let detail = json!({ "jti": jti });
                note(&mut tx, &caller, "token.revoke", &subject, detail, now).await?;
                let entry = Revocation {
                    target: Target::Token(jti),
                    expires_at: now + LONGEST_TOKEN_LIFE,
                };
                revocations::add(&mut tx, &entry, EndReason::Revoked.as_str(), now).await
            })
        })
        .await?;
    Ok(())
}

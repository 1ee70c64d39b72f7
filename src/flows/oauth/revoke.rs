//! Token revocation (RFC 7009). The response follows once the revocation holds on every process.

use serde_json::json;

use crate::{
    app::App,
    clock::Clock,
    error::Error,
    flows::{
        oauth::client_auth,
        sessions::end,
        tokens::{refresh, verify},
    },
    model::{
        actor::{Actor, RequestContext},
        client::Client,
        revocation::NewRevocation,
        session::RevocationReason,
    },
    oauth::{error::OAuthError, refresh_token::RefreshToken},
    revocation::batch::TokenRevocation,
    storage::{self, Committed, Db, revocations},
};

/// Revokes a token of an authenticated client: with a refresh token its whole session, with an
/// access token only that. An invalid token counts as revoked (§2.2).
///
/// # Errors
/// `unauthorized_client` for another client's token (§2.1); [`Error::TooMany`];
/// [`Error::Unavailable`] if it could not be stored.
pub async fn revoke(
    app: &App,
    client: &Client,
    token: &str,
    caller: &RequestContext,
) -> Result<(), Error> {
    client_auth::admit_write(app, client, caller.address)?;
    if RefreshToken::parse(token).is_some() {
        let session = match refresh::peek(app, token, &client.id).await {
            Ok(session) => session,
            Err(Error::InvalidRefreshToken) => return Ok(()),
            Err(error) => return Err(error),
        };
        end::end_one(app, &session, RevocationReason::Revoked, caller).await?;
        return Ok(());
    }
    app.sync().await?;
    let Ok(verified) = verify::inspect(app, token) else {
        return Ok(());
    };
    if verified.claims.client_id != client.id {
        return Err(
            OAuthError::unauthorized_client("the token was issued to another client").into()
        );
    }
    let claims = &verified.claims;
    let (jti, subject) = (claims.jti.clone(), claims.sub.clone());
    revoke_token(app, jti, subject, caller).await
}

async fn revoke_token(
    app: &App,
    jti: String,
    subject: String,
    caller: &RequestContext,
) -> Result<(), Error> {
    let one = TokenRevocation { jti, subject, context: caller.clone() };
    let (db, clock) = (app.db.clone(), app.clock.clone());
    let committed = app.token_revocations.submit(one, |group| commit(db, clock, group));
    committed.await.map_err(Error::Unavailable)
}

/// Puts a group on the revocation list in one transaction; each token has an audit entry of its
/// own.
async fn commit(db: Db, clock: Clock, group: Vec<TokenRevocation>) -> Result<Committed, String> {
    let committed = async {
        let mut tx = db.begin().await?;
        let now = clock.now();
        let mut revoked = Vec::with_capacity(group.len());
        for TokenRevocation { jti, subject, context } in group {
            let (actor, detail) = (Actor::caller(&subject, &context), json!({ "jti": jti }));
            actor.note(&mut tx, "token.revoke", Some(&subject), detail, now).await?;
            revoked.push(NewRevocation::Token(jti));
        }
        let reason = RevocationReason::Revoked.as_str();
        revocations::add(&mut tx, &clock, revoked, reason).await?;
        tx.commit_only().await
    };
    committed.await.map_err(|error: storage::Error| error.to_string())
}

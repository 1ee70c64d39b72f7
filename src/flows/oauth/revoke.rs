//! Token revocation (RFC 7009). The response follows once the revocation holds on every process.

use serde_json::json;
use uuid::Uuid;

use crate::{
    app::App,
    clock::Clock,
    diagnostics,
    error::Error,
    flows::{
        oauth::{client_auth, token::on_behalf_of},
        sessions::end,
        tokens::{refresh, subject, verify},
    },
    ids::SessionId,
    model::{
        actor::{Actor, RequestContext},
        client::Client,
        revocation::NewRevocation,
        session::RevocationReason,
    },
    oauth::{error::OAuthError, refresh_token::RefreshToken},
    revocation::batch::TokenRevocation,
    storage::{self, Committed, Db, revocations, sessions},
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
        let session = match refresh::peek_of_any_client(app, token).await {
            Ok(session) => session,
            Err(Error::InvalidRefreshToken) => return Ok(()),
            Err(error) => return Err(error),
        };
        if session.client_id != client.id {
            diagnostics::record("session.client_id", &session.client_id);
            return Err(another_clients().into());
        }
        end::end_one(app, &session, RevocationReason::Revoked, caller).await?;
        return Ok(());
    }
    app.sync().await?;
    let Ok(verified) = verify::inspect(app, token) else {
        return Ok(());
    };
    if verified.claims.client_id != client.id {
        return Err(another_clients().into());
    }
    let claims = &verified.claims;
    let (jti, subject) = (claims.jti.clone(), claims.sub.clone());
    revoke_token(app, jti, subject, caller).await
}

fn another_clients() -> OAuthError {
    OAuthError::unauthorized_client("the token was issued to another client")
}

/// Revokes a session of an authenticated back end by its id, without a token at hand. An unknown
/// one, and one that was revoked before, count as revoked.
///
/// # Errors
/// `unauthorized_client` for another client's session; [`Error::Unavailable`].
pub async fn revoke_session(
    app: &App,
    client: &Client,
    session_id: &SessionId,
    actor: &Actor,
) -> Result<(), Error> {
    // Every id is a UUID; PostgreSQL refuses a statement with NUL in a text.
    if Uuid::parse_str(session_id).is_err() {
        return Ok(());
    }
    let Some(session) = sessions::by_id(&app.db, session_id).await? else {
        return Ok(());
    };
    if session.client_id != client.id {
        diagnostics::record("session.client_id", &session.client_id);
        let refused = "the session belongs to another client";
        return Err(OAuthError::unauthorized_client(refused).into());
    }
    let mut tx = app.begin(actor).await?;
    end::end(&mut tx, &session.subject, &session.id, RevocationReason::Revoked).await?;
    Ok(tx.commit().await?)
}

/// Revokes every session of a user whom the client keeps itself, with each client of its namespace:
/// they share the user. Tokens that are issued afterwards are valid.
///
/// # Errors
/// `unauthorized_client` for a client without users of its own; [`Error::Unavailable`].
pub async fn revoke_subject(
    app: &App,
    client: &Client,
    id: &str,
    actor: &Actor,
) -> Result<(), Error> {
    let subject = subject::external(on_behalf_of::namespace(client)?, id);
    if subject.contains('\0') {
        return Ok(());
    }
    diagnostics::identify_user(&subject);
    end::end_all_of_external(app, &subject, actor).await?;
    Ok(())
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

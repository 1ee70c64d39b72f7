//! Token revocation (RFC 7009): a client gives a token back, and the answer comes after that holds everywhere.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tokio::sync::oneshot;

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::{
        sessions::{self, note},
        tokens::{refresh, verify},
    },
    model::{
        actor::RequestContext,
        client::Client,
        key::LONGEST_TOKEN_LIFE,
        revocation::{Revocation, RevocationTarget},
        session::RevocationReason,
    },
    oauth::{error::OAuthError, refresh_token::RefreshToken},
    storage::{Db, revocations},
};

/// Revokes a token of an authenticated client: with a refresh token its whole session, with an access token only that.
/// A token that is not good is as good as revoked (§2.2).
///
/// # Errors
/// `unauthorized_client` for another client's token (§2.1); [`Error::Unavailable`] where it could not be kept.
pub async fn revoke(
    app: &App,
    client: &Client,
    token: &str,
    caller: &RequestContext,
) -> Result<(), Error> {
    if RefreshToken::parse(token).is_some() {
        let session = match refresh::peek(app, token, &client.id).await {
            Ok(session) => session,
            Err(Error::InvalidRefreshToken) => return Ok(()),
            Err(error) => return Err(error),
        };
        let now = app.clock.now();
        sessions::end_one(app, &session, RevocationReason::Revoked, caller, now).await?;
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

/// Tokens that wait to be revoked. Numbers are given in the order of commits, so commits of revocations follow one another;
/// what waits for one goes into the next together.
#[derive(Debug, Default)]
pub struct Revoker {
    waiting: Mutex<Vec<Waiting>>,
    /// Whose turn it is to commit.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Waiting {
    jti: String,
    subject: String,
    caller: RequestContext,
    done: oneshot::Sender<Result<(), String>>,
}

impl Revoker {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn revoke_token(
    app: &App,
    jti: String,
    subject: String,
    caller: &RequestContext,
) -> Result<(), Error> {
    let (done, outcome) = oneshot::channel();
    let one = Waiting { jti, subject, caller: caller.clone(), done };
    app.revoker.waiting().push(one);
    {
        let _turn = app.revoker.turn.lock().await;
        // Where somebody before has taken ours along, there may be nothing left to do.
        let group = std::mem::take(&mut *app.revoker.waiting());
        if !group.is_empty() {
            let (db, now) = (app.db.clone(), app.clock.now());
            // What was begun is finished, whoever stops waiting for it: others' tokens are in it.
            let committed = tokio::spawn(async move { commit(&db, group, now).await });
            committed.await.map_err(|error| Error::Unavailable(error.into()))?;
        }
    }
    match outcome.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(Error::Unavailable(why.into())),
        Err(gone) => Err(Error::Unavailable(gone.into())),
    }
}

/// Puts a group on the list, and tells each of it.
async fn commit(db: &Db, group: Vec<Waiting>, now: Timestamp) {
    let (mut rows, mut told) = (vec![], vec![]);
    for one in group {
        rows.push((one.jti, one.subject, one.caller));
        told.push(one.done);
    }
    let committed = db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let mut entries = Vec::with_capacity(rows.len());
                for (jti, subject, caller) in rows {
                    let detail = json!({ "jti": jti });
                    note(&mut tx, &caller, "token.revoke", &subject, detail, now).await?;
                    entries.push(Revocation {
                        target: RevocationTarget::Token(jti),
                        expires_at: now + LONGEST_TOKEN_LIFE,
                    });
                }
                revocations::add_all(&mut tx, &entries, RevocationReason::Revoked.as_str(), now)
                    .await
            })
        })
        .await;
    let outcome = committed.map(drop).map_err(|error| error.to_string());
    for done in told {
        let _ = done.send(outcome.clone());
    }
}

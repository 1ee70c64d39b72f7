//! Revocations that an administrator creates.

use serde_json::json;

use crate::{
    app::App,
    error::Error,
    flows::{
        admin::idempotency::{self, Created, IdempotentRequest},
        sessions::end,
    },
    model::{actor::Actor, revocation::NewRevocation, session::RevocationReason},
    oauth::scope::Scope,
    storage::{
        revocations::{self, ListedRevocation},
        sessions as session_rows,
    },
};

/// Creates a revocation. Returns once it holds on every process. Sessions continue with new tokens,
/// except a session that is revoked by its `sid`.
///
/// # Errors
/// [`Error::Validation`]; [`Error::KeyReused`]; [`Error::NotFound`] where an earlier request has
/// created the entry and it has expired since.
pub async fn create(
    app: &App,
    revocation: NewRevocation,
    reason: String,
    request: Option<IdempotentRequest>,
    actor: &Actor,
) -> Result<Created<ListedRevocation>, Error> {
    check(&revocation, &reason)?;
    let session = match &revocation {
        NewRevocation::Session(sid) => {
            session_rows::overview_of(&app.db, &sid.as_str().into()).await?
        }
        _ => None,
    };
    let mut tx = app.begin(actor).await?;
    // The number of the entry is known at the end.
    if let Some(number) = idempotency::claim(&mut tx, request.as_ref(), "").await? {
        tx.rollback().await?;
        let number = number.parse().unwrap_or_default();
        let entry = revocations::by_number(&app.db, number).await?;
        return Ok(Created::earlier(entry.ok_or(Error::NotFound("revocation"))?));
    }
    let wire = revocation.clone().at(tx.now()).to_wire();
    let detail = json!({ "kind": wire.kind, "scope": wire.scope, "reason": reason });
    tx.audit("revocation.add", Some(revocation.target_id()), detail).await?;
    if let Some(session) = &session {
        end::close_in(&mut tx, session, RevocationReason::RevokedByAdmin).await?;
    }
    let listed = tx.revoke(vec![revocation], &reason).await?.pop();
    let listed = listed.ok_or(Error::NotFound("revocation"))?;
    let created_at = tx.now();
    idempotency::settle(&mut tx, request.as_ref(), &listed.number.to_string()).await?;
    tx.commit().await?;
    app.logouts_waiting.notify_one();
    let written = listed.entry.to_wire();
    Ok(Created::now(ListedRevocation {
        number: listed.number,
        kind: written.kind,
        target: written.id,
        scope: written.scope,
        issued_until: written.issued_until,
        reason,
        created_at,
        expires_at: listed.entry.expires_at,
    }))
}

fn check(revocation: &NewRevocation, reason: &str) -> Result<(), Error> {
    let is_text = |text: &str, most: usize| {
        (1..=most).contains(&text.chars().count()) && !text.contains(char::is_control)
    };
    if !is_text(revocation.target_id(), 512) {
        return Err(Error::field("target", "must be a jti, sid, sub or client_id"));
    }
    if let NewRevocation::Scope { scope, .. } = revocation
        && !Scope::parse(scope).is_ok_and(|parsed| parsed.iter().eq([scope.as_str()]))
    {
        return Err(Error::field("scope", "must be a single scope"));
    }
    if !is_text(reason, 200) {
        return Err(Error::field("reason", "must be 1 to 200 characters in one line"));
    }
    Ok(())
}

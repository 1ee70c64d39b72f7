//! Revocations that an administrator creates.

use serde_json::json;

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::{
        admin::idempotency::{self, Created, IdempotentRequest},
        sessions::end,
    },
    model::{
        actor::Actor,
        key::LONGEST_TOKEN_LIFE,
        revocation::{Revocation, RevocationTarget},
    },
    oauth::scope::Scope,
    storage::{
        revocations::{self, ListedRevocation},
        sessions as session_rows,
    },
};

/// What to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationRequest {
    /// One access token, by `jti`.
    Token(String),
    /// A session and its tokens, by `sid`.
    Session(String),
    /// A subject's tokens issued until now.
    Subject(String),
    /// A subject's tokens issued until now that have this scope.
    Scope { sub: String, scope: String },
    /// A client's tokens issued until now.
    Client(String),
}

impl RevocationRequest {
    fn target_id(&self) -> &str {
        match self {
            Self::Token(id)
            | Self::Session(id)
            | Self::Subject(id)
            | Self::Scope { sub: id, .. }
            | Self::Client(id) => id,
        }
    }

    /// "Until now" includes the next second: a token that is being issued may carry an earlier
    /// time.
    fn target(&self, now: Timestamp) -> RevocationTarget {
        let issued_until = now.as_secs() + 1;
        match self.clone() {
            Self::Token(jti) => RevocationTarget::Token(jti),
            Self::Session(sid) => RevocationTarget::Session(sid),
            Self::Subject(sub) => RevocationTarget::Subject { sub, issued_until },
            Self::Scope { sub, scope } => RevocationTarget::Scope { sub, scope, issued_until },
            Self::Client(client_id) => RevocationTarget::Client { client_id, issued_until },
        }
    }
}

/// Creates a revocation. Returns once it holds on every process. Sessions continue with new tokens,
/// except a session that is revoked by its `sid`.
///
/// # Errors
/// [`Error::Validation`]; [`Error::KeyReused`]; [`Error::NotFound`] where an earlier request has
/// created the entry and it has expired since.
pub async fn create(
    app: &App,
    revocation: RevocationRequest,
    reason: String,
    request: Option<IdempotentRequest>,
    actor: &Actor,
) -> Result<Created<ListedRevocation>, Error> {
    check(&revocation, &reason)?;
    let session = match &revocation {
        RevocationRequest::Session(sid) => session_rows::overview_of(&app.db, sid).await?,
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
    let now = tx.now();
    let entry = Revocation { target: revocation.target(now), expires_at: now + LONGEST_TOKEN_LIFE };
    let written = entry.to_wire();
    let detail = json!({ "kind": written.kind, "scope": written.scope, "reason": reason });
    tx.audit("revocation.add", Some(revocation.target_id()), detail).await?;
    if let Some(session) = &session {
        end::close_in(&mut tx, session).await?;
    }
    let number = revocations::add(&mut tx, &entry, &reason, now).await?;
    idempotency::settle(&mut tx, request.as_ref(), &number.to_string()).await?;
    tx.commit().await?;
    app.logouts_waiting.notify_one();
    Ok(Created::now(ListedRevocation {
        number,
        kind: written.kind,
        target: written.id,
        scope: written.scope,
        issued_until: written.issued_until,
        reason,
        created_at: now,
        expires_at: entry.expires_at,
    }))
}

fn check(revocation: &RevocationRequest, reason: &str) -> Result<(), Error> {
    let is_text = |text: &str, most: usize| {
        (1..=most).contains(&text.chars().count()) && !text.contains(char::is_control)
    };
    if !is_text(revocation.target_id(), 512) {
        return Err(Error::field("target", "must be a jti, sid, sub or client_id"));
    }
    if let RevocationRequest::Scope { scope, .. } = revocation
        && !Scope::parse(scope).is_ok_and(|parsed| parsed.iter().eq([scope.as_str()]))
    {
        return Err(Error::field("scope", "must be a single scope"));
    }
    if !is_text(reason, 200) {
        return Err(Error::field("reason", "must be 1 to 200 characters in one line"));
    }
    Ok(())
}

//! Entries that an administrator puts on the revocation list.

use serde_json::json;

use crate::{
    app::App,
    clock::Timestamp,
    error::{Error, FieldError},
    flows::{
        admin::idempotency::{Made, Once, claim, settle},
        sessions::end,
    },
    model::{
        actor::Actor,
        key::LONGEST_TOKEN_LIFE,
        revocation::{Revocation, RevocationTarget},
    },
    oauth::scope::Scope,
    storage::{revocations, sessions as session_rows},
};

/// What shall be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// One access token, by `jti`.
    Token(String),
    /// A session, which ends; by `sid`.
    Session(String),
    /// A subject's tokens of until now.
    Subject(String),
    /// Those of a subject that carry this scope.
    Scope { sub: String, scope: String },
    /// A client's tokens of until now.
    Client(String),
}

impl Refused {
    fn name(&self) -> &str {
        match self {
            Self::Token(name)
            | Self::Session(name)
            | Self::Subject(name)
            | Self::Scope { sub: name, .. }
            | Self::Client(name) => name,
        }
    }

    /// For a second more than until now: a token that is being issued may be of a moment ago.
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

/// Adds an entry and gives its number. Comes back once it holds on every process. Sessions other than one that is named go
/// on, with new tokens.
///
/// # Errors
/// [`Error::Validation`]; [`Error::KeyReused`].
pub async fn add(
    app: &App,
    refused: Refused,
    reason: String,
    once: Option<Once>,
    by: &Actor,
) -> Result<Made<i64>, Error> {
    check(&refused, &reason)?;
    let (event_id, by, now) = (app.new_id(), by.clone(), app.clock.now());
    let session = match &refused {
        Refused::Session(sid) => session_rows::overview_of(&app.db, sid).await?,
        _ => None,
    };
    let made = app
        .db
        .transaction(move |mut tx| {
            Box::pin(async move {
                // Its number is known at the end only.
                if let Some(known) = claim(once.as_ref(), &mut tx, "", now).await? {
                    return Ok(known);
                }
                let entry = Revocation {
                    target: refused.target(now),
                    expires_at: now + LONGEST_TOKEN_LIFE,
                };
                let written = entry.to_wire();
                let detail =
                    json!({ "kind": written.kind, "scope": written.scope, "reason": reason });
                by.note(&mut tx, "revocation.add", Some(refused.name()), detail, now).await?;
                if let Some(session) = &session {
                    end::close_in(&mut tx, session, event_id, &by, now).await?;
                }
                let number = revocations::add(&mut tx, &entry, &reason, now).await?;
                settle(once.as_ref(), &mut tx, &number.to_string()).await?;
                Ok(Ok(Made::Now(number)))
            })
        })
        .await??;
    app.logouts_waiting.notify_one();
    Ok(made)
}

fn check(refused: &Refused, reason: &str) -> Result<(), Error> {
    let is_text = |text: &str, most: usize| {
        (1..=most).contains(&text.chars().count()) && !text.contains(char::is_control)
    };
    let wrong = |field, message: &str| {
        let message = message.to_owned();
        Err(Error::Validation(vec![FieldError { field, message }]))
    };
    if !is_text(refused.name(), 512) {
        return wrong("target", "must be the jti, sid, sub or client_id that is meant");
    }
    if let Refused::Scope { scope, .. } = refused
        && !Scope::parse(scope).is_ok_and(|parsed| parsed.iter().eq([scope.as_str()]))
    {
        return wrong("scope", "must be one scope");
    }
    if !is_text(reason, 200) {
        return wrong("reason", "must be 1 to 200 characters in one line");
    }
    Ok(())
}

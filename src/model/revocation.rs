//! Entries of the revocation list: which access tokens are rejected before they expire.

use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, model::key::LONGEST_TOKEN_LIFE};

/// The tokens that an entry revokes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationTarget {
    /// One token, by `jti`.
    Token(String),
    /// Every token of a session, by `sid`.
    Session(String),
    /// Tokens of a subject with `iat <= issued_until`. Tokens issued within the same second cannot
    /// be distinguished, so all of them are revoked.
    Subject { sub: String, issued_until: i64 },
    /// Like `Subject`, for the use of one scope.
    Scope { sub: String, scope: String, issued_until: i64 },
    /// Tokens of a client with `iat <= issued_until`.
    Client { client_id: String, issued_until: i64 },
    /// Every token signed by a key, by `kid`.
    Key(String),
}

/// What to revoke. "Until now" is decided when the entry is written, because a transaction may wait
/// for others before that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewRevocation {
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
    /// Every token signed by a key, by `kid`.
    Key(String),
}

impl NewRevocation {
    /// The id of the target.
    pub fn target_id(&self) -> &str {
        match self {
            Self::Token(id)
            | Self::Session(id)
            | Self::Subject(id)
            | Self::Scope { sub: id, .. }
            | Self::Client(id)
            | Self::Key(id) => id,
        }
    }

    /// The entry as of `now`. "Until now" includes the next second: a token that is being issued
    /// may depend on what was read before.
    pub fn at(self, now: Timestamp) -> Revocation {
        let issued_until = now.as_secs() + 1;
        let target = match self {
            Self::Token(jti) => RevocationTarget::Token(jti),
            Self::Session(sid) => RevocationTarget::Session(sid),
            Self::Subject(sub) => RevocationTarget::Subject { sub, issued_until },
            Self::Scope { sub, scope } => RevocationTarget::Scope { sub, scope, issued_until },
            Self::Client(client_id) => RevocationTarget::Client { client_id, issued_until },
            Self::Key(kid) => RevocationTarget::Key(kid),
        };
        Revocation { target, expires_at: now + LONGEST_TOKEN_LIFE }
    }
}

/// An entry, and the time by which every token it revokes has expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    pub target: RevocationTarget,
    pub expires_at: Timestamp,
}

/// An entry in the form of rows, of Redis and of the feed (docs/revocation-feed.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireRevocation {
    /// `token`, `session`, `subject`, `scope`, `client` or `key`.
    pub kind: String,
    /// The `jti`, `sid`, `sub`, `client_id` or `kid`.
    pub id: String,
    /// Kind `scope` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Seconds since the epoch, compared with `iat`; kinds `subject`, `scope` and `client` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_until: Option<i64>,
    /// Seconds since the epoch, rounded up.
    pub expires_at: i64,
}

impl Revocation {
    /// The wire form.
    pub fn to_wire(&self) -> WireRevocation {
        let (kind, id, scope, issued_until) = match &self.target {
            RevocationTarget::Token(jti) => ("token", jti, None, None),
            RevocationTarget::Session(sid) => ("session", sid, None, None),
            RevocationTarget::Subject { sub, issued_until } => {
                ("subject", sub, None, Some(*issued_until))
            }
            RevocationTarget::Scope { sub, scope, issued_until } => {
                ("scope", sub, Some(scope.clone()), Some(*issued_until))
            }
            RevocationTarget::Client { client_id, issued_until } => {
                ("client", client_id, None, Some(*issued_until))
            }
            RevocationTarget::Key(kid) => ("key", kid, None, None),
        };
        WireRevocation {
            kind: kind.to_owned(),
            id: id.clone(),
            scope,
            issued_until,
            expires_at: self.expires_at.as_secs() + 1,
        }
    }
}

impl WireRevocation {
    /// The reverse of [`Revocation::to_wire`]; `None` for a kind that only a newer version knows.
    pub fn into_revocation(self) -> Option<Revocation> {
        let target = match (self.kind.as_str(), self.issued_until) {
            ("token", _) => RevocationTarget::Token(self.id),
            ("session", _) => RevocationTarget::Session(self.id),
            ("subject", Some(issued_until)) => {
                RevocationTarget::Subject { sub: self.id, issued_until }
            }
            ("scope", Some(issued_until)) => {
                RevocationTarget::Scope { sub: self.id, scope: self.scope?, issued_until }
            }
            ("client", Some(issued_until)) => {
                RevocationTarget::Client { client_id: self.id, issued_until }
            }
            ("key", _) => RevocationTarget::Key(self.id),
            _ => return None,
        };
        Some(Revocation { target, expires_at: Timestamp::from_secs(self.expires_at)? })
    }
}

//! An entry of the revocation list: which access tokens are refused before they expire.

use crate::clock::Timestamp;

/// What an entry hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One token, by `jti`.
    Token(String),
    /// Every token of a session, by `sid`.
    Session(String),
    /// A subject's tokens with an `iat` up to this second (it cannot tell tokens of one second apart, and
    /// refuses rather than lets through).
    Subject { sub: String, issued_until: i64 },
    /// A client's tokens with an `iat` up to this second.
    Client {
        client_id: String,
        issued_until: i64,
    },
    /// Every token signed by a key, by `kid`.
    Key(String),
}

impl Target {
    /// The kind, the name and the second that a row keeps.
    pub fn columns(&self) -> (&'static str, &str, Option<i64>) {
        match self {
            Self::Token(jti) => ("token", jti, None),
            Self::Session(sid) => ("session", sid, None),
            Self::Subject { sub, issued_until } => ("subject", sub, Some(*issued_until)),
            Self::Client {
                client_id,
                issued_until,
            } => ("client", client_id, Some(*issued_until)),
            Self::Key(kid) => ("key", kid, None),
        }
    }

    /// The reverse of [`Target::columns`]; `None` where a newer version wrote a kind that is unknown here.
    pub fn from_columns(kind: &str, target: String, issued_until: Option<i64>) -> Option<Self> {
        Some(match (kind, issued_until) {
            ("token", _) => Self::Token(target),
            ("session", _) => Self::Session(target),
            ("subject", Some(issued_until)) => Self::Subject {
                sub: target,
                issued_until,
            },
            ("client", Some(issued_until)) => Self::Client {
                client_id: target,
                issued_until,
            },
            ("key", _) => Self::Key(target),
            _ => return None,
        })
    }
}

/// An entry with the time after which no token is left that it could hit.
#[derive(Clone, Debug)]
pub struct Revocation {
    pub target: Target,
    pub expires_at: Timestamp,
}

//! The revocation list at a number.

use std::collections::HashMap;

use serde::Deserialize;

use crate::AccessClaims;

/// A list as a whole, as the server signs it.
#[derive(Deserialize)]
pub(super) struct Snapshot {
    pub(super) iss: String,
    number: u64,
    entries: Vec<serde_json::Value>,
}

/// The changes between two numbers of the list.
#[derive(Deserialize)]
pub(super) struct Delta {
    from: u64,
    to: u64,
    entries: Vec<serde_json::Value>,
}

/// An entry that can be read. Times are seconds since the epoch.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Entry {
    Token { id: String, expires_at: i64 },
    Session { id: String, expires_at: i64 },
    Key { id: String, expires_at: i64 },
    Subject { id: String, issued_until: i64, expires_at: i64 },
    Client { id: String, issued_until: i64, expires_at: i64 },
    Scope { id: String, scope: String, issued_until: i64, expires_at: i64 },
}

/// Until when an entry counts, and which tokens it revokes: those with an `iat` up to `until`.
#[derive(Clone, Copy)]
struct Mark {
    until: i64,
    expires: i64,
}

/// Entries of one kind, by what they name.
#[derive(Default)]
struct Marks(HashMap<String, Mark>);

impl Marks {
    fn add(&mut self, id: String, until: i64, expires: i64) {
        let mark = self.0.entry(id).or_insert(Mark { until, expires });
        // Of two entries for the same target the later one counts.
        *mark = Mark { until: mark.until.max(until), expires: mark.expires.max(expires) };
    }

    fn revoke(&self, id: &str, iat: i64) -> bool {
        self.0.get(id).is_some_and(|mark| iat <= mark.until)
    }

    fn prune(&mut self, now: i64) {
        self.0.retain(|_, mark| mark.expires > now);
    }
}

/// The list.
#[derive(Default)]
pub(super) struct List {
    number: Option<u64>,
    tokens: Marks,
    sessions: Marks,
    keys: Marks,
    subjects: Marks,
    clients: Marks,
    /// By subject, a space and scope.
    scopes: Marks,
    /// When the last entry that cannot be read expires.
    unknown_until: i64,
}

impl List {
    /// Everything up to it is applied; `None` before the first list.
    pub(super) fn number(&self) -> Option<u64> {
        self.number
    }

    /// Whether an entry is of a kind that a newer server has: no token passes then.
    pub(super) fn has_unknown_entry(&self, now: i64) -> bool {
        self.unknown_until > now
    }

    pub(super) fn replace(&mut self, snapshot: Snapshot) {
        *self = Self { number: Some(snapshot.number), ..Self::default() };
        for entry in snapshot.entries {
            self.add(entry);
        }
    }

    /// Applies a delta; false if changes were missed before it.
    pub(super) fn apply(&mut self, delta: Delta) -> bool {
        if self.number != Some(delta.from) || delta.to < delta.from {
            return false;
        }
        for entry in delta.entries {
            self.add(entry);
        }
        self.number = Some(delta.to);
        true
    }

    /// Drops entries that revoke nothing any longer.
    pub(super) fn prune(&mut self, now: i64) {
        let all = [
            &mut self.tokens,
            &mut self.sessions,
            &mut self.keys,
            &mut self.subjects,
            &mut self.clients,
            &mut self.scopes,
        ];
        for marks in all {
            marks.prune(now);
        }
    }

    /// Whether an entry revokes the token.
    pub(super) fn revokes(&self, key_id: &str, token: &AccessClaims) -> bool {
        // The earliest of it and the tokens that it was exchanged for.
        let first = token.derived_from.iter().map(|origin| origin.iat).min();
        let first = first.unwrap_or(token.iat).min(token.iat);
        let revokes_scope = |scope: &str| {
            !self.scopes.0.is_empty()
                && self.scopes.revoke(&format!("{} {scope}", token.sub), first)
        };
        self.tokens.revoke(&token.jti, token.iat)
            || token.sid.as_deref().is_some_and(|sid| self.sessions.revoke(sid, token.iat))
            || self.keys.revoke(key_id, token.iat)
            || self.subjects.revoke(&token.sub, first)
            || self.clients.revoke(&token.client_id, token.iat)
            || token.scope.split(' ').any(revokes_scope)
            || token.derived_from.iter().any(|origin| {
                self.tokens.revoke(&origin.jti, origin.iat)
                    || self.keys.revoke(&origin.kid, origin.iat)
                    || self.clients.revoke(&origin.client_id, origin.iat)
            })
    }

    fn add(&mut self, value: serde_json::Value) {
        let expires = value.get("expires_at").and_then(serde_json::Value::as_i64);
        match serde_json::from_value(value) {
            Ok(Entry::Token { id, expires_at }) => self.tokens.add(id, i64::MAX, expires_at),
            Ok(Entry::Session { id, expires_at }) => self.sessions.add(id, i64::MAX, expires_at),
            Ok(Entry::Key { id, expires_at }) => self.keys.add(id, i64::MAX, expires_at),
            Ok(Entry::Subject { id, issued_until, expires_at }) => {
                self.subjects.add(id, issued_until, expires_at);
            }
            Ok(Entry::Client { id, issued_until, expires_at }) => {
                self.clients.add(id, issued_until, expires_at);
            }
            Ok(Entry::Scope { id, scope, issued_until, expires_at }) => {
                self.scopes.add(format!("{id} {scope}"), issued_until, expires_at);
            }
            Err(_) => self.unknown_until = self.unknown_until.max(expires.unwrap_or(i64::MAX)),
        }
    }
}

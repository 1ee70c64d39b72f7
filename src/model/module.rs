//! Product modules that are enabled per user, and their grants.

use crate::{
    clock::Timestamp,
    ids::UserId,
    model::catalogue::{Descriptions, in_language},
    oauth::scope::Scope,
};

/// A product module. Tokens contain its scopes only while the user has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    pub id: String,
    /// Keyed by language tag.
    pub names: Descriptions,
    /// Keyed by language tag.
    pub descriptions: Descriptions,
    pub scope: Scope,
    /// The resource (RFC 8707) whose tokens contain the scopes; `None`: this server's own API.
    pub resource: Option<String>,
    /// Whether users may enable and disable it themselves.
    pub is_self_service: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Module {
    /// The text in a language, else in English, else in any.
    fn text<'a>(texts: &'a Descriptions, language: &str) -> Option<&'a str> {
        in_language(texts, language).or_else(|| texts.values().next().map(String::as_str))
    }

    /// The display name; the id if it has none.
    pub fn name(&self, language: &str) -> &str {
        Self::text(&self.names, language).unwrap_or(&self.id)
    }

    /// The description; may be empty.
    pub fn description(&self, language: &str) -> &str {
        Self::text(&self.descriptions, language).unwrap_or_default()
    }

    /// Whether tokens for these resources may contain its scopes.
    pub fn is_for(&self, resources: &[String]) -> bool {
        match &self.resource {
            None => resources.is_empty(),
            Some(resource) => resources.contains(resource),
        }
    }
}

/// A period in which a user has, or had, a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleGrant {
    pub id: String,
    /// The id of an account, or the `sub` of a user whom a back end keeps.
    pub subject: String,
    /// The account; `None` for the latter.
    pub user_id: Option<UserId>,
    pub module_id: String,
    pub valid_from: Timestamp,
    /// The planned end while the grant is open, the actual end once it is closed.
    pub valid_until: Option<Timestamp>,
    /// A user id, a client id or `cli`.
    pub granted_by: String,
    /// Likewise; `None` if the grant is open or reached its planned end.
    pub ended_by: Option<String>,
    pub closed_at: Option<Timestamp>,
}

/// The part of an open grant that tokens depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenGrant {
    pub module_id: String,
    pub valid_until: Option<Timestamp>,
}

impl OpenGrant {
    /// Whether the planned end is not reached yet.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.valid_until.is_none_or(|until| until > now)
    }
}

//! Modules: parts of the platform that are switched on per user, and the grants that do so.

use crate::{clock::Timestamp, model::catalogue::Descriptions, oauth::scope::Scope};

/// A part of the platform. A token carries its scopes only while its user has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    pub id: String,
    /// By language tag.
    pub names: Descriptions,
    /// By language tag.
    pub descriptions: Descriptions,
    pub scope: Scope,
    /// The resource (RFC 8707) whose tokens carry the scopes; `None`: this server's own API.
    pub resource: Option<String>,
    /// Whether users may switch it themselves.
    pub is_self_service: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Module {
    /// The text in a language, else in English, else in any.
    fn text<'a>(texts: &'a Descriptions, language: &str) -> Option<&'a str> {
        let text = texts.get(language).or_else(|| texts.get("en"));
        text.or_else(|| texts.values().next()).map(String::as_str)
    }

    /// What people call it.
    pub fn name(&self, language: &str) -> &str {
        Self::text(&self.names, language).unwrap_or(&self.id)
    }

    pub fn description(&self, language: &str) -> &str {
        Self::text(&self.descriptions, language).unwrap_or_default()
    }

    /// Whether tokens for these resources may carry its scopes.
    pub fn is_for(&self, resources: &[String]) -> bool {
        match &self.resource {
            None => resources.is_empty(),
            Some(resource) => resources.contains(resource),
        }
    }
}

/// A stretch of time in which a user has, or had, a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleGrant {
    pub id: String,
    pub user_id: String,
    pub module_id: String,
    pub valid_from: Timestamp,
    /// Planned while it is open; the real end when it is closed.
    pub valid_until: Option<Timestamp>,
    /// A user id, a client id or `cli`.
    pub granted_by: String,
    /// The same; `None` where it is open, or its time ran out.
    pub ended_by: Option<String>,
    pub closed_at: Option<Timestamp>,
}

/// An open grant, as far as a token depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenGrant {
    pub module_id: String,
    pub valid_until: Option<Timestamp>,
}

impl OpenGrant {
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.valid_until.is_none_or(|until| until > now)
    }
}

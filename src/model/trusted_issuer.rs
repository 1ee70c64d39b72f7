//! Other servers whose JWTs are accepted here: as subject and actor tokens of a token exchange (RFC
//! 8693), and as Identity Assertion JWT Authorization Grants (ID-JAG).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    clock::Timestamp,
    ids::{ClientId, UserId},
    oauth::scope::Scope,
};

/// The longest `sub` (OpenID Connect Core §2), in bytes.
const LONGEST_SUBJECT: usize = 255;

/// A server whose JWTs are accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct TrustedIssuer {
    /// The namespace of its subjects.
    pub id: String,
    /// The `iss` of its JWTs; fixed, because its subjects are known by the id.
    pub issuer: String,
    pub settings: IssuerSettings,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub disabled_at: Option<Timestamp>,
}

/// What an operator decides about an issuer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerSettings {
    /// Its public keys (RFC 7517 §5): here, or at `jwks_uri`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// What its JWTs are accepted as.
    pub trusted_for: Vec<IssuerUse>,
    /// The accepted `aud` of its subject and actor tokens; empty: this server's issuer. An ID-JAG is
    /// for this server's issuer alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// The clients that may present its JWTs; empty: every client whose policy allows it, but no
    /// self-registered one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
    /// The most that tokens for its subjects may carry.
    #[serde(skip_serializing_if = "Scope::is_empty")]
    pub scope: Scope,
}

/// What the JWTs of an issuer are accepted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssuerUse {
    SubjectToken,
    ActorToken,
    IdJag,
}

impl IssuerUse {
    /// The stored form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SubjectToken => "subject_token",
            Self::ActorToken => "actor_token",
            Self::IdJag => "id_jag",
        }
    }
}

/// A subject of an issuer that is a user of this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedSubject {
    pub issuer_id: String,
    pub subject: String,
    pub user_id: UserId,
    pub created_at: Timestamp,
}

impl TrustedIssuer {
    /// Whether JWTs that this client presents are accepted as that.
    pub fn is_trusted_for(&self, what: IssuerUse, client_id: &ClientId) -> bool {
        let clients = &self.settings.clients;
        self.disabled_at.is_none()
            && self.settings.trusted_for.contains(&what)
            && (clients.is_empty() || clients.iter().any(|one| *one == **client_id))
    }

    /// The `sub` that this server gives a subject of the issuer: `@<id>:<sub>`, where it has at most
    /// 255 visible ASCII characters, else `@<id>:` and base64url of SHA-256. No user's id, client's
    /// id or pairwise subject begins with `@`.
    pub fn namespaced(&self, subject: &str) -> String {
        let plain = format!("@{}:{subject}", self.id);
        if plain.len() <= LONGEST_SUBJECT && subject.bytes().all(|b| b.is_ascii_graphic()) {
            return plain;
        }
        format!("@{}:{}", self.id, URL_SAFE_NO_PAD.encode(Sha256::digest(subject)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_stay_in_the_namespace_of_their_issuer() {
        let issuer = |id: &str| TrustedIssuer {
            id: id.to_owned(),
            issuer: "https://idp.example".to_owned(),
            settings: IssuerSettings::default(),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            disabled_at: None,
        };
        let acme = issuer("acme");
        assert_eq!(acme.namespaced("42"), "@acme:42");
        assert_ne!(acme.namespaced("42"), issuer("other").namespaced("42"));
        for odd in ["é", "a b", &"x".repeat(251), ""] {
            let sub = acme.namespaced(odd);
            assert!(sub.is_ascii() && sub.len() <= 255 && sub.starts_with("@acme:"), "{sub}");
        }
        assert_ne!(acme.namespaced("a b"), acme.namespaced("ab"));
        assert_eq!(acme.namespaced(&"x".repeat(249)).len(), 255);
    }
}

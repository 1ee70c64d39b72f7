//! The catalogue of resources, scopes, modules and trusted issuers.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    model::{module::Module, trusted_issuer::TrustedIssuer},
    oauth::scope::Scope,
};

/// A resource that tokens can be requested for (RFC 8707 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// An absolute URI without a fragment: the `aud` of its tokens.
    pub id: String,
    pub name: String,
    /// The scopes it accepts; `None`: any scope of the client.
    pub scope: Option<Scope>,
    /// Granted if the request names no scope.
    pub default_scope: Scope,
}

/// Texts by language tag.
pub type Descriptions = BTreeMap<String, String>;

/// The text in a language, else in that language without region and script, else in English.
pub fn in_language<'a>(texts: &'a Descriptions, language: &str) -> Option<&'a str> {
    let primary = language.split('-').next().unwrap_or(language);
    let text = texts.get(language).or_else(|| texts.get(primary)).or_else(|| texts.get("en"));
    text.map(String::as_str)
}

/// All resources, scopes, modules and trusted issuers at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    pub resources: HashMap<String, Resource>,
    pub scopes: HashMap<String, Descriptions>,
    /// Keyed by id.
    pub modules: BTreeMap<String, Module>,
    /// The scopes that belong, or once belonged, to a module; all others are general.
    pub module_scopes: HashSet<String>,
    /// Keyed by their `iss`; the disabled ones too.
    pub issuers: HashMap<String, TrustedIssuer>,
}

impl Catalogue {
    /// Whether tokens may carry the scope through a module only.
    pub fn is_of_a_module(&self, scope: &str) -> bool {
        self.module_scopes.contains(scope)
    }

    /// The modules that a scope belongs to.
    pub fn modules_with<'a>(&'a self, scope: &'a str) -> impl Iterator<Item = &'a Module> {
        self.modules.values().filter(move |module| module.scope.contains(scope))
    }

    /// The description of a scope in a language, else in English, else in any.
    pub fn describe(&self, scope: &str, language: &str) -> Option<&str> {
        let texts = self.scopes.get(scope)?;
        in_language(texts, language).or_else(|| texts.values().next().map(String::as_str))
    }
}

//! What tokens may be asked for: resources, and what their scopes mean in words.

use std::collections::{BTreeMap, HashMap};

use crate::{model::module::Module, oauth::scope::Scope};

/// An API that tokens may be asked for (RFC 8707 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// An absolute URI without a fragment: the `aud` of its tokens.
    pub id: String,
    pub name: String,
    /// The scopes that mean something there; `None`: whatever the client may ask for.
    pub scope: Option<Scope>,
    /// What a client gets that asks for no scope.
    pub default_scope: Scope,
}

/// What a scope means, by language tag.
pub type Descriptions = BTreeMap<String, String>;

/// All resources and scopes at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    pub resources: HashMap<String, Resource>,
    pub scopes: HashMap<String, Descriptions>,
    /// By id.
    pub modules: BTreeMap<String, Module>,
}

impl Catalogue {
    /// The modules that a scope belongs to; none: it is a general one.
    pub fn modules_with<'a>(&'a self, scope: &'a str) -> impl Iterator<Item = &'a Module> {
        self.modules.values().filter(move |module| module.scope.contains(scope))
    }

    /// What a scope means in a language, else in English, else in any.
    pub fn describe(&self, scope: &str, language: &str) -> Option<&str> {
        let texts = self.scopes.get(scope)?;
        texts
            .get(language)
            .or_else(|| texts.get("en"))
            .or_else(|| texts.values().next())
            .map(String::as_str)
    }
}

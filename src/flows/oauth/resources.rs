//! Resource indicators (RFC 8707): for whom a token is.

use crate::{
    app::App,
    diagnostics,
    error::Error,
    model::{catalogue::Resource, client::Client},
    oauth::{access_token::Audience, error::OAuthError, scope::Scope},
};

/// Resources that one request may name.
const MOST: usize = 8;

/// The resources that a request names, and that its client may ask for. None: this server's own API.
#[derive(Clone, Debug, Default)]
pub struct Target {
    resources: Vec<Resource>,
}

/// Looks up the resources that a request names.
///
/// # Errors
/// `invalid_target` for one that is unknown or not for this client, and for too many.
pub async fn target<'a>(
    app: &App,
    client: &Client,
    named: impl Iterator<Item = &'a str>,
) -> Result<Target, Error> {
    let mut named: Vec<&str> = named.map(without_slash).collect();
    named.sort_unstable();
    named.dedup();
    if named.is_empty() {
        return Ok(Target::default());
    }
    if named.len() > MOST {
        return Err(OAuthError::invalid_target("the request names more than 8 resources").into());
    }
    let catalogue = app.directory.catalogue(&app.db).await?;
    let mut resources = vec![];
    for name in named {
        let known = [name, &format!("{name}/")]
            .into_iter()
            .filter(|spelling| without_slash(spelling) == name)
            .find_map(|spelling| catalogue.resources.get(spelling));
        let may = is_open_to(app, client, name);
        match known.filter(|_| may) {
            Some(resource) => resources.push(resource.clone()),
            None => {
                diagnostics::record("resource.asked", name);
                diagnostics::record("resource.the_client_may", may);
                return Err(OAuthError::invalid_target(
                    "the resource is unknown here, or not one that this client may ask tokens for",
                )
                .into());
            }
        }
    }
    Ok(Target { resources })
}

/// The granted resources that a request names again, each once; `None` where it names another.
pub fn among(granted: &[String], named: &[&str]) -> Option<Vec<String>> {
    let are_one = |granted: &str, named: &str| without_slash(granted) == without_slash(named);
    let is_granted = |name: &&str| granted.iter().any(|one| are_one(one, name));
    let is_named = |one: &&String| named.iter().any(|name| are_one(one, name));
    let all = named.iter().all(is_granted);
    all.then(|| granted.iter().filter(is_named).cloned().collect())
}

/// A resource's name in one spelling: of an origin, the slash after it says nothing (RFC 3986 §6.2.3). URL libraries
/// write it, whatever the application was told.
fn without_slash(name: &str) -> &str {
    let is_origin = |rest: &&str| {
        let authority = rest.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|authority| !authority.is_empty() && !authority.contains('/'))
    };
    name.strip_suffix('/').filter(is_origin).unwrap_or(name)
}

/// Of the resources that a session was granted, those that its client may still ask tokens for.
///
/// # Errors
/// `invalid_target` where none is left.
pub async fn still_open(app: &App, client: &Client, granted: &[String]) -> Result<Target, Error> {
    if granted.is_empty() {
        return Ok(Target::default());
    }
    let catalogue = app.directory.catalogue(&app.db).await?;
    let resources: Vec<Resource> = granted
        .iter()
        .filter(|name| is_open_to(app, client, name))
        .filter_map(|name| catalogue.resources.get(name))
        .cloned()
        .collect();
    if resources.is_empty() {
        // Without a resource the token would be for this server's own API, which nobody has asked for.
        return Err(OAuthError::invalid_target(
            "this client may no longer ask tokens for any of the session's resources",
        )
        .into());
    }
    Ok(Target { resources })
}

fn is_open_to(app: &App, client: &Client, resource: &str) -> bool {
    let allowed = if client.source.is_self_registered() {
        &app.config.client_registration.resources
    } else {
        &client.metadata.resources
    };
    let mut allowed = allowed.iter();
    allowed.any(|one| one == "*" || without_slash(one) == without_slash(resource))
}

impl Target {
    /// The names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.resources.iter().map(|r| r.id.clone()).collect()
    }

    /// One text for all of them: what a consent is kept under.
    pub fn key(&self) -> String {
        self.names().join(" ")
    }

    /// What pages call the first of them.
    pub fn label(&self) -> Option<&str> {
        self.resources.first().map(|resource| resource.name.as_str())
    }

    /// The `aud` of an access token.
    pub fn audience(&self, app: &App) -> Audience {
        audience(app, &self.names())
    }

    /// Of these scopes, those that mean something there.
    pub fn narrow(&self, scope: &Scope) -> Scope {
        if self.resources.iter().any(|r| r.scope.is_none()) || self.resources.is_empty() {
            return scope.clone();
        }
        scope.filter(|token| {
            is_about_a_person(token)
                || self
                    .resources
                    .iter()
                    .filter_map(|resource| resource.scope.as_ref())
                    .any(|known| known.contains(token))
        })
    }

    /// What a client gets that asks for no scope: the resources' default scopes, as far as it may have them; without a
    /// resource, all it may have.
    pub fn default_scope(&self, may: &Scope) -> Scope {
        if self.resources.is_empty() {
            return may.clone();
        }
        may.filter(|token| self.resources.iter().any(|r| r.default_scope.contains(token)))
    }

    /// What a client may ask for there. A self-registered one gets what the resources offer, beside its own.
    pub fn may_ask(&self, client: &Client) -> Scope {
        let own = &client.metadata.scope;
        if !client.source.is_self_registered() {
            return self.narrow(own);
        }
        let offered = self.resources.iter().flat_map(|resource| {
            let scope = resource.scope.as_ref();
            scope.into_iter().flat_map(Scope::iter).chain(resource.default_scope.iter())
        });
        self.narrow(&Scope::of(own.iter().chain(offered)))
    }
}

/// The `aud` for these resources; none: this server's own API.
pub fn audience(app: &App, names: &[String]) -> Audience {
    if names.is_empty() {
        return Audience::One(app.config.audience().to_owned());
    }
    Audience::of(names.to_vec())
}

/// Scopes of OpenID Connect, which ask for claims and not for access to an API.
pub fn is_about_a_person(token: &str) -> bool {
    matches!(token, "openid" | "profile" | "email" | "offline_access")
}

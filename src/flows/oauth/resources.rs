//! Resource indicators (RFC 8707): the audience of a token.

use crate::{
    app::App,
    diagnostics,
    error::Error,
    model::{catalogue::Resource, client::Client},
    oauth::{access_token::Audience, error::OAuthError, scope::Scope},
};

/// The most resources that a request may name.
const MOST: usize = 8;

/// The resources of a request, which its client may request. None: this server's own API.
#[derive(Clone, Debug, Default)]
pub struct Target {
    resources: Vec<Resource>,
}

/// Looks up the resources of a request.
///
/// # Errors
/// `invalid_target` for a resource that is unknown or that the client may not request, and for too
/// many.
pub async fn target(app: &App, client: &Client, named: &[String]) -> Result<Target, Error> {
    look_up(app, named, |name| is_open_to(app, client, name)).await
}

/// The audiences of a token exchange, which the policy allows. This server's own API is named by its
/// audience, alone.
///
/// # Errors
/// As [`target`].
pub async fn exchange_target(
    app: &App,
    allowed: &[String],
    named: &[String],
) -> Result<Target, Error> {
    let own_api = app.config.audience();
    if named.iter().all(|name| name == own_api) && allowed.iter().any(|one| one == own_api) {
        return Ok(Target::default());
    }
    look_up(app, named, |name| is_among(allowed, name)).await
}

async fn look_up(
    app: &App,
    named: &[String],
    is_open: impl Fn(&str) -> bool,
) -> Result<Target, Error> {
    let mut named: Vec<&str> = named.iter().map(|name| without_slash(name)).collect();
    named.sort_unstable();
    named.dedup();
    if named.is_empty() {
        return Ok(Target::default());
    }
    if named.len() > MOST {
        return Err(
            OAuthError::invalid_target("at most 8 `resource` parameters are supported").into()
        );
    }
    let catalogue = app.directory.catalogue(&app.db).await?;
    let mut resources = vec![];
    for name in named {
        let known = [name, &format!("{name}/")]
            .into_iter()
            .filter(|spelling| without_slash(spelling) == name)
            .find_map(|spelling| catalogue.resources.get(spelling));
        let may = is_open(name);
        match known.filter(|_| may) {
            Some(resource) => resources.push(resource.clone()),
            None => {
                diagnostics::record("resource.requested", name);
                diagnostics::record("resource.allowed_for_client", may);
                return Err(OAuthError::invalid_target(
                    "`resource` is unknown, or the client may not request tokens for it",
                )
                .into());
            }
        }
    }
    Ok(Target { resources })
}

/// Of the granted resources those that a request names, each once; `None` if it names another.
pub fn among(granted: &[String], named: &[String]) -> Option<Vec<String>> {
    let are_one = |granted: &str, named: &str| without_slash(granted) == without_slash(named);
    let is_granted = |name: &String| granted.iter().any(|one| are_one(one, name));
    let is_named = |one: &&String| named.iter().any(|name| are_one(one, name));
    let all = named.iter().all(is_granted);
    all.then(|| granted.iter().filter(is_named).cloned().collect())
}

/// The canonical form of a resource: the slash after an origin is insignificant (RFC 3986 §6.2.3),
/// and URL libraries add it.
fn without_slash(name: &str) -> &str {
    let is_origin = |rest: &&str| {
        let authority = rest.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|authority| !authority.is_empty() && !authority.contains('/'))
    };
    name.strip_suffix('/').filter(is_origin).unwrap_or(name)
}

/// Of the granted resources of a session those that its client may still request tokens for.
///
/// # Errors
/// `invalid_target` if none is left.
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
        // Without a resource the token would be for this server's own API, which was not requested.
        return Err(OAuthError::invalid_target(
            "the client may no longer request tokens for any resource of the session",
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
    is_among(allowed, resource)
}

fn is_among(allowed: &[String], resource: &str) -> bool {
    let mut allowed = allowed.iter();
    allowed.any(|one| one == "*" || without_slash(one) == without_slash(resource))
}

impl Target {
    /// The names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.resources.iter().map(|r| r.id.clone()).collect()
    }

    /// All names as one string, the key of a consent.
    pub fn key(&self) -> String {
        self.names().join(" ")
    }

    /// The display name of the first resource.
    pub fn label(&self) -> Option<&str> {
        self.resources.first().map(|resource| resource.name.as_str())
    }

    /// The `aud` of an access token.
    pub fn audience(&self, app: &App) -> Audience {
        audience(app, &self.names())
    }

    /// The part of a scope that belongs to the resources.
    pub fn narrow(&self, scope: &Scope) -> Scope {
        if self.resources.iter().any(|r| r.scope.is_none()) || self.resources.is_empty() {
            return scope.clone();
        }
        scope.filter(|token| {
            is_about_the_user(token)
                || self
                    .resources
                    .iter()
                    .filter_map(|resource| resource.scope.as_ref())
                    .any(|known| known.contains(token))
        })
    }

    /// The scope of a request without one: the default scopes of the resources, as far as the
    /// client may request them; without a resource, all that it may request.
    pub fn default_scope(&self, may: &Scope) -> Scope {
        if self.resources.is_empty() {
            return may.clone();
        }
        may.filter(|token| self.resources.iter().any(|r| r.default_scope.contains(token)))
    }

    /// What a client may request for the resources. A self-registered client may request their
    /// scopes besides its own.
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

/// Scopes of OpenID Connect, which request claims and not access to an API.
pub fn is_about_the_user(token: &str) -> bool {
    matches!(token, "openid" | "profile" | "email" | "address" | "phone" | "offline_access")
}

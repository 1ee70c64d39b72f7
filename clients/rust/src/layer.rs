use http::Response;

use crate::{Error, Propusk, Visit};

/// Gives each request a [`Visit`], and the response its cookies. It is the outermost layer of an
/// application; which routes are private is said by a [`RequireSession`] or by what their handlers
/// extract.
#[derive(Clone, Debug)]
pub struct SessionLayer {
    pub(crate) propusk: Propusk,
}

impl SessionLayer {
    /// The layer for the sessions of a server.
    pub fn new(propusk: &Propusk) -> Self {
        Self { propusk: propusk.clone() }
    }
}

/// Lets requests with a valid session through only, which is renewed if it has expired. Pages are
/// redirected to the login with `return_to`; other requests get 401, those that lack a scope or
/// module 403. If it cannot be decided: 503.
#[derive(Clone, Debug, Default)]
pub struct RequireSession {
    scopes: Vec<String>,
    modules: Vec<String>,
}

/// Guards routes: for every user.
pub fn require_session() -> RequireSession {
    RequireSession::default()
}

/// Guards routes: for users with a scope.
pub fn require_scope(scope: impl Into<String>) -> RequireSession {
    RequireSession::default().scope(scope)
}

/// Guards routes: for users with a module.
pub fn require_module(module: impl Into<String>) -> RequireSession {
    RequireSession::default().module(module)
}

impl RequireSession {
    /// Requires a scope, too.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scopes.push(scope.into());
        self
    }

    /// Requires a module, too.
    #[must_use]
    pub fn module(mut self, module: impl Into<String>) -> Self {
        self.modules.push(module.into());
        self
    }

    /// The response instead of that of the route, if the request may not pass.
    pub(crate) async fn check(&self, visit: Option<&Visit>) -> Result<(), Response<String>> {
        let Some(visit) = visit else {
            return Err(crate::visit::problem(&no_layer(), false, None));
        };
        let outcome = visit.require_session().await.and_then(|session| {
            self.scopes.iter().try_for_each(|scope| session.require_scope(scope))?;
            self.modules.iter().try_for_each(|module| session.require_module(module))
        });
        outcome.map_err(|error| visit.refusal(&error))
    }
}

pub(crate) fn no_layer() -> Error {
    let text = "the application has no `SessionLayer` around this route";
    Error::Configuration(text.to_owned())
}

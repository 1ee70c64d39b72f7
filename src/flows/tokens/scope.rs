//! The one rule of what scope a token may carry.

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    model::{
        catalogue::Catalogue,
        module::{Module, OpenGrant},
        session::Session,
        user::Role,
    },
    oauth::scope::Scope,
};

/// The user whom a token is about, as far as its scope depends on them.
#[derive(Clone, Copy, Debug)]
pub struct UserAccess<'a> {
    /// Whether the user is an administrator of this server.
    pub is_admin: bool,
    pub modules: &'a [OpenGrant],
}

/// What a token may carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    pub scope: Scope,
    /// The user's live modules at these resources.
    pub modules: Vec<String>,
    /// The earliest planned end of a module grant that the scope depends on: no token outlives it.
    pub until: Option<Timestamp>,
}

/// The part of a client's scope that a token for these resources may carry: general scopes, which
/// never belonged to a module, and those of the user's live modules there. Scopes `propusk:…`
/// administer this server: a user gets them as an administrator only. Without a user (the client
/// acts for itself) no scope of a module is granted.
pub fn allowed(
    catalogue: &Catalogue,
    scope: &Scope,
    resources: &[String],
    user: Option<UserAccess<'_>>,
    now: Timestamp,
) -> Allowed {
    let end_of = |module: &Module| {
        let grants = user?.modules.iter();
        let mut live = grants.filter(|grant| grant.module_id == module.id && grant.is_live(now));
        live.next().map(|grant| grant.valid_until)
    };
    let mut until: Option<Timestamp> = None;
    let mut kept = vec![];
    for token in scope.iter() {
        if is_own(token) && user.is_some_and(|user| !user.is_admin) {
            continue;
        }
        if !catalogue.is_of_a_module(token) {
            kept.push(token);
            continue;
        }
        // Where several modules grant it, the latest end counts.
        let modules = catalogue.modules_with(token);
        let ends = modules.filter(|module| module.is_for(resources)).filter_map(end_of);
        let longest = ends.reduce(|a, b| a.zip(b).map(|(a, b)| a.max(b)));
        if let Some(end) = longest {
            kept.push(token);
            until = until.into_iter().chain(end).min();
        }
    }
    let modules = catalogue.modules.values();
    let live = modules.filter(|module| module.is_for(resources) && end_of(module).is_some());
    Allowed {
        scope: Scope::of(kept),
        modules: live.map(|module| module.id.clone()).collect(),
        until,
    }
}

/// Whether a scope grants administration of this server or its services.
pub fn is_own(scope: &str) -> bool {
    scope.starts_with("propusk:")
}

/// `base`, and every scope of this server's own API that the user's modules grant.
pub fn with_own(
    catalogue: &Catalogue,
    base: &Scope,
    user: UserAccess<'_>,
    now: Timestamp,
) -> Allowed {
    let own = catalogue.modules.values().filter(|module| module.is_for(&[]));
    let all = Scope::of(base.iter().chain(own.flat_map(|module| module.scope.iter())));
    allowed(catalogue, &all, &[], Some(user), now)
}

/// The part of a scope that a token of this session may carry, at the session's resources or some
/// of them.
///
/// # Errors
/// [`Error::Unavailable`].
pub(crate) async fn allowed_in(
    app: &App,
    session: &Session,
    scope: &Scope,
    now: Timestamp,
) -> Result<Allowed, Error> {
    let catalogue = app.directory.catalogue(&app.db).await?;
    // A session has a user: without an account here it is one of a back end's, who is never an
    // administrator.
    let is_admin = session.user.as_ref().is_some_and(|user| user.role == Role::admin());
    let only = session.details.external_user.as_ref().map(|user| &user.modules);
    let narrowed: Vec<OpenGrant>;
    let modules = match only.filter(|only| !only.is_empty()) {
        Some(only) => {
            let named = session.modules.iter().filter(|grant| only.contains(&grant.module_id));
            narrowed = named.cloned().collect();
            &narrowed
        }
        None => &session.modules,
    };
    let user = UserAccess { is_admin, modules };
    Ok(allowed(&catalogue, scope, &session.details.resource, Some(user), now))
}

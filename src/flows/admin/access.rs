//! Who may use the admin API, and what its calls have in common.

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::tokens::verify,
    model::{
        actor::{Actor, RequestContext},
        client::Source,
        user::{Role, User},
    },
    oauth::{error::OAuthError, scope::Scope},
    storage::sessions,
};

/// All of the admin API.
pub const ADMIN: &str = "propusk:admin";

/// What only reads of it.
pub const ADMIN_READ: &str = "propusk:admin:read";

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// Lets in an administrator who is logged in at one of this server's own clients, and a client whose token carries the
/// scope; where such a token has a person, it takes both. Says whom the audit log shall name.
///
/// # Errors
/// [`Error::NoToken`], [`Error::InvalidToken`], `insufficient_scope` (RFC 6750 §3.1).
pub async fn authorize(
    app: &App,
    token: Option<&str>,
    access: Access,
    caller: &RequestContext,
) -> Result<Actor, Error> {
    let verified = verify::verify(app, token.ok_or(Error::NoToken)?).await?;
    let claims = &verified.claims;
    // As of the head numbers that the check of the token has asked for.
    let known = app.directory.client(&app.db, &claims.client_id).await?;
    let source = known
        .filter(|known| known.client.disabled_at.is_none())
        .map(|known| known.client.source)
        .ok_or_else(refused)?;
    if source == Source::BuiltIn && claims.role.as_deref() == Some(Role::admin().as_str()) {
        return Ok(Actor::caller(&claims.sub, caller));
    }
    let scope = &claims.scope;
    let allows = scope.contains(ADMIN) || (access == Access::Read && scope.contains(ADMIN_READ));
    // Nobody here has looked at a client that made itself known.
    if !allows || source.is_self_registered() {
        return Err(refused());
    }
    let Some(sid) = &claims.sid else {
        return Ok(Actor::caller(&claims.client_id, caller));
    };
    // Its `sub` may be one for this client alone, and it need not carry the role.
    let session = sessions::by_id(&app.db, sid).await?;
    let user = session.and_then(|session| session.user);
    match user.filter(is_enabled_admin) {
        Some(user) => Ok(Actor::caller(&user.id, caller)),
        None => Err(refused()),
    }
}

fn is_enabled_admin(user: &User) -> bool {
    user.role == Role::admin() && user.disabled_at.is_none()
}

fn refused() -> Error {
    let message = "this needs an administrator, or a client's token with the scope propusk:admin \
                   (propusk:admin:read to read)";
    OAuthError::insufficient_scope(message).into()
}

/// Which states of a thing a change is meant for (`If-Match`, RFC 9110 §13.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever its state is.
    Any,
    /// Those it had after its changes at these moments.
    OneOf(Vec<Timestamp>),
}

impl Expected {
    /// Compares with the state as the change's own transaction has found it.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub fn check(&self, updated_at: Timestamp) -> Result<(), Error> {
        match self {
            Self::OneOf(versions) if !versions.contains(&updated_at) => Err(Error::Changed),
            _ => Ok(()),
        }
    }
}

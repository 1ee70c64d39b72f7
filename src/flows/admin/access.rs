//! Authorization of the admin API, and preconditions of its changes.

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
    oauth::error::OAuthError,
    storage::sessions,
};

/// The scope of the whole admin API.
pub const ADMIN: &str = "propusk:admin";

/// The scope of its operations that only read.
pub const ADMIN_READ: &str = "propusk:admin:read";

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// Admits an administrator who is logged in at one of this server's own clients, and a client whose
/// token has the scope; where such a token is about a user, the user must be an administrator as
/// well. Gives the actor for the audit log.
///
/// # Errors
/// [`Error::NoToken`], [`Error::InvalidToken`], `insufficient_scope` (RFC 6750 §3.1).
pub async fn authorize(
    app: &App,
    token: Option<&str>,
    access: Access,
    context: &RequestContext,
) -> Result<Actor, Error> {
    let verified = verify::verify(app, token.ok_or(Error::NoToken)?).await?;
    let claims = &verified.claims;
    // As of the versions that the verification of the token has synced to.
    let known = app.directory.client(&app.db, &claims.client_id).await?;
    let source = known
        .filter(|known| known.client.disabled_at.is_none())
        .map(|known| known.client.source)
        .ok_or_else(refused)?;
    if source == Source::BuiltIn && claims.role.as_deref() == Some(Role::admin().as_str()) {
        return Ok(Actor::caller(&claims.sub, context));
    }
    let scope = &claims.scope;
    let allows = scope.contains(ADMIN) || (access == Access::Read && scope.contains(ADMIN_READ));
    // No operator has reviewed a self-registered client.
    if !allows || source.is_self_registered() {
        return Err(refused());
    }
    let Some(sid) = &claims.sid else {
        return Ok(Actor::caller(&claims.client_id, context));
    };
    // Its `sub` may be pairwise, and it need not carry the role.
    let session = sessions::by_id(&app.db, sid).await?;
    let user = session.and_then(|session| session.user);
    match user.filter(is_enabled_admin) {
        Some(user) => Ok(Actor::caller(&user.id, context)),
        None => Err(refused()),
    }
}

fn is_enabled_admin(user: &User) -> bool {
    user.role == Role::admin() && user.disabled_at.is_none()
}

fn refused() -> Error {
    let message = "requires an administrator, or a client's token with the scope propusk:admin \
                   (propusk:admin:read to read)";
    OAuthError::insufficient_scope(message).into()
}

/// The states of a resource that a change applies to (`If-Match`, RFC 9110 §13.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Any state.
    Any,
    /// The states with one of these `updated_at`.
    OneOf(Vec<Timestamp>),
}

impl Precondition {
    /// Compares with the state that the transaction of the change has locked.
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

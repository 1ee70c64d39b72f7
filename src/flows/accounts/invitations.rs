//! Registration with an invitation. [`crate::flows::admin::invitations`] creates them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    app::App,
    diagnostics,
    error::Error,
    flows::admin::modules,
    model::{
        invitation::{INVITATION_PAGE, INVITATION_PARAMETER, Invitation},
        user::User,
    },
    storage::{self, AuditedTx, invitations as rows},
};

/// A new token, and its hash, which alone is stored.
pub(crate) fn new_token(app: &App) -> (String, [u8; 32]) {
    let token = URL_SAFE_NO_PAD.encode(app.rng.bytes::<32>());
    let hash = Sha256::digest(&token).into();
    (token, hash)
}

/// Where a user registers with an invitation.
pub(crate) fn link(app: &App, token: &str) -> String {
    let issuer = &app.config.server.issuer;
    format!("{issuer}{INVITATION_PAGE}?{INVITATION_PARAMETER}={token}")
}

/// The invitation of a token, which stays usable: forms are shown again, and mail scanners open
/// links.
///
/// # Errors
/// [`Error::InvalidInvitation`].
pub async fn open(app: &App, token: &str) -> Result<Invitation, Error> {
    let found = rows::find(&app.db, Sha256::digest(token).into(), app.clock.now()).await?;
    found.ok_or_else(|| {
        diagnostics::record("invitation", "unknown, used, revoked or expired");
        Error::InvalidInvitation
    })
}

/// As [`open`], by the id: it was presented before.
///
/// # Errors
/// [`Error::InvalidInvitation`].
pub(crate) async fn open_by_id(app: &App, id: &str) -> Result<Invitation, Error> {
    let (found, now) = (rows::by_id(&app.db, id).await?, app.clock.now());
    let is_usable = |one: &Invitation| one.used_at.is_none() && one.expires_at > now;
    found.filter(is_usable).ok_or(Error::InvalidInvitation)
}

/// Marks an invitation as used by a user who was inserted in this transaction, and grants its
/// modules; `false` where another registration was faster, or it was revoked.
pub(crate) async fn use_up(
    tx: &mut AuditedTx,
    invitation: &Invitation,
    user: &User,
) -> storage::Result<bool> {
    let now = tx.now();
    if !rows::use_up(tx, &invitation.id, user, now).await? {
        return Ok(false);
    }
    let detail = json!({ "invitationId": invitation.id });
    tx.audit("invitation.use", Some(&user.id), detail).await?;
    modules::grant_first(tx, &user.id, &invitation.modules, &invitation.created_by).await?;
    Ok(true)
}

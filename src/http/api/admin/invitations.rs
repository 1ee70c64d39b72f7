//! `/api/v1/admin/invitations`: invitations to register.

use std::time::Duration;

use super::{
    prelude::*,
    reply::{Conflict, Create},
    users::role_named,
};
use crate::{
    flows::admin::invitations::{self, NewInvitation},
    model::{invitation::Invitation, module::OpenGrant, user::Role},
    storage::invitations as rows,
};

#[derive(Clone, Debug, Default)]
pub struct InvitationsApi;

errors! {
    EmailTaken: EmailExists;
}

#[OpenApi(prefix_path = "/api/v1/admin/invitations", tag = "Tag::Administration")]
impl InvitationsApi {
    /// List invitations
    ///
    /// In order of their ids, which is that of their creation. Used ones are listed until they
    /// expire.
    #[oai(path = "/", method = "get", operation_id = "adminListInvitations")]
    async fn list(&self, admin: Admin, page: Paging) -> List<InvitationData> {
        let after = page.after().unwrap_or_default();
        let found = rows::page(&admin.app.db, after, page.rows()).await;
        Ok(page.answer("invitations", found, |invitation| invitation.id.clone())?)
    }

    /// Create an invitation
    ///
    /// Its link is in this response only. With an address, it is sent there too, where mails are
    /// sent; its use then verifies the address.
    #[oai(path = "/", method = "post", operation_id = "adminCreateInvitation")]
    async fn create(
        &self,
        admin: Admin,
        idempotency_key: IdempotencyKey,
        body: Body<CreateInvitation>,
    ) -> Create<InvitationWithLink, (EmailTaken, Conflict)> {
        let request = idempotency_key.request(&admin, "invitation.add", &body.0)?;
        let CreateInvitation { email, language, role, modules, expires_in } = body.0;
        let new = NewInvitation {
            email,
            language,
            role: role.as_deref().map_or(Ok(Role::user()), role_named)?,
            modules: modules.into_iter().map(InvitedModule::grant).collect::<Result<_, _>>()?,
            ttl: expires_in.map(|seconds| Duration::from_secs(seconds.into())),
        };
        Ok(invitations::create(&admin.app, new, request, &admin.actor).await?.into())
    }

    /// Get an invitation
    ///
    /// The `ETag` of the response goes into `If-Match` of its revocation.
    #[oai(path = "/:id", method = "get", operation_id = "adminGetInvitation")]
    async fn get(&self, admin: Admin, id: Path) -> Get<InvitationData> {
        Ok(WithEtag::new("invitation", invitations::by_id(&admin.app, &id.0).await?))
    }

    /// Revoke an invitation
    ///
    /// Its link is not valid any more. An account that was created with it stays.
    #[oai(path = "/:id", method = "delete", operation_id = "adminRevokeInvitation")]
    async fn revoke(&self, admin: Admin, id: Path, if_match: IfMatch) -> Delete {
        invitations::revoke(&admin.app, &id.0, &if_match.0, &admin.actor).await?;
        Ok(deleted())
    }
}

/// A module that an invitation grants.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(skip_serializing_if_is_none, rename_all = "camelCase", example)]
pub struct InvitedModule {
    /// The module's id.
    pub module_id: String,
    /// The planned end of the grant (RFC 3339); until it is withdrawn if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
}

impl InvitedModule {
    fn grant(self) -> Result<OpenGrant, Error> {
        let moment = |text: &str| {
            let why = "must have RFC 3339 timestamps as `validUntil`, like 2027-01-31T00:00:00Z";
            Timestamp::parse(text).ok_or_else(|| Error::field("modules", why))
        };
        let valid_until = self.valid_until.as_deref().map(moment).transpose()?;
        Ok(OpenGrant { module_id: self.module_id, valid_until })
    }
}

impl From<OpenGrant> for InvitedModule {
    fn from(grant: OpenGrant) -> Self {
        let valid_until = grant.valid_until.map(Timestamp::rfc3339);
        Self { module_id: grant.module_id, valid_until }
    }
}

example!(InvitedModule, { "moduleId": "crm", "validUntil": "2027-01-31T00:00:00Z" });

/// An invitation, which creates one account.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Invitation", example)]
pub struct InvitationData {
    pub id: String,
    /// The address that it is for; null: any address can be registered with its link.
    pub email: Option<String>,
    /// Whether it was sent there: its use verifies the address.
    pub is_mailed: bool,
    /// The role of the new user.
    pub role: String,
    /// Granted to the new user.
    pub modules: Vec<InvitedModule>,
    /// Who created it: a user's id, a client's id, or `cli`.
    pub created_by: String,
    /// Creation time (RFC 3339).
    pub created_at: String,
    /// When it expires (RFC 3339).
    pub expires_at: String,
    /// When it was used (RFC 3339); null: it can be used until it expires.
    pub used_at: Option<String>,
    /// The user, with whom the invitation is deleted.
    pub used_by: Option<String>,
}

impl From<Invitation> for InvitationData {
    fn from(invitation: Invitation) -> Self {
        Self {
            id: invitation.id,
            email: invitation.email,
            is_mailed: invitation.is_mailed,
            role: invitation.role.as_str().to_owned(),
            modules: invitation.modules.into_iter().map(From::from).collect(),
            created_by: invitation.created_by,
            created_at: invitation.created_at.rfc3339(),
            expires_at: invitation.expires_at.rfc3339(),
            used_at: invitation.used_at.map(Timestamp::rfc3339),
            used_by: invitation.used_by,
        }
    }
}

example!(InvitationData, {
    "id": "01a1fca5-0ae5-7d0e-9c57-5a0a3f1be2c4",
    "email": "vera@example.org",
    "isMailed": true,
    "role": "user",
    "modules": [{ "moduleId": "crm", "validUntil": "2027-01-31T00:00:00Z" }],
    "createdBy": "01a1fca5-0ae5-7b80-9fd0-a1b74eb40fb7",
    "createdAt": "2026-11-21T04:22:00Z",
    "expiresAt": "2026-11-28T04:22:00Z",
    "usedAt": null,
    "usedBy": null
});

/// The invitation to create.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(skip_serializing_if_is_none, rename_all = "camelCase", example)]
pub struct CreateInvitation {
    /// The address that it is for, and that it is sent to where mails are sent. If absent, any
    /// address can be registered with its link.
    pub email: Option<String>,
    /// The language of the mail, one of the pages' languages; `mail.language` if absent.
    pub language: Option<String>,
    /// The role of the new user; `user` if absent.
    pub role: Option<String>,
    /// Modules to grant to the new user; at most 50.
    #[serde(default)]
    #[oai(default)]
    pub modules: Vec<InvitedModule>,
    /// Seconds until it expires, at most 90 days; 7 days if absent.
    pub expires_in: Option<u32>,
}

example!(CreateInvitation, {
    "email": "vera@example.org",
    "language": "en",
    "role": "user",
    "modules": [{ "moduleId": "crm", "validUntil": "2027-01-31T00:00:00Z" }],
    "expiresIn": 604800
});

/// An invitation, with the link that was generated.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(skip_serializing_if_is_none, example)]
pub struct InvitationWithLink {
    pub invitation: InvitationData,
    /// Shown once and stored nowhere; absent unless this request has created the invitation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

impl From<(Invitation, Option<String>)> for InvitationWithLink {
    fn from((invitation, link): (Invitation, Option<String>)) -> Self {
        Self { invitation: invitation.into(), link }
    }
}

impl Example for InvitationWithLink {
    fn example() -> Self {
        let link = "https://auth.example.com/register?invitation=bm90aGluZyB0byBzZWUgaGVyZQ...";
        Self { invitation: Example::example(), link: Some(link.to_owned()) }
    }
}

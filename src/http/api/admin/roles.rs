//! `/api/v1/admin/roles`: the roles of users.

use super::{
    prelude::*,
    reply::{Conflict, Create},
};
use crate::{
    flows::admin::roles,
    model::user::{Role, RoleEntry, RoleSettings},
    storage::roles as rows,
};

#[derive(Clone, Debug, Default)]
pub struct RolesApi;

#[OpenApi(prefix_path = "/api/v1/admin/roles", tag = "Tag::Administration")]
impl RolesApi {
    /// List roles
    ///
    /// In order of their names.
    #[oai(path = "/", method = "get", operation_id = "adminListRoles")]
    async fn list(&self, admin: Admin, page: Paging) -> List<RoleData> {
        let after = page.after().unwrap_or_default();
        let found = rows::page(&admin.app.db, after, page.rows()).await;
        Ok(page.answer("roles", found, |entry| entry.role.as_str().to_owned())?)
    }

    /// Create a role
    ///
    /// No user has it yet.
    #[oai(path = "/", method = "post", operation_id = "adminCreateRole")]
    async fn create(
        &self,
        admin: Admin,
        idempotency_key: IdempotencyKey,
        body: Body<CreateRole>,
    ) -> Create<RoleData, Conflict> {
        let request = idempotency_key.request(&admin, "role.add", &body.0)?;
        let Body(CreateRole { name, description, require_second_factor }) = body;
        let role = Role::parse(&name).map_err(|why| Error::field("name", why))?;
        let settings = RoleSettings { description, require_second_factor };
        let created = roles::create(&admin.app, role, settings, request, &admin.actor).await?;
        Ok(created.into())
    }

    /// Get a role
    ///
    /// The `ETag` of the response goes into `If-Match` of a change.
    #[oai(path = "/:name", method = "get", operation_id = "adminGetRole")]
    async fn get(&self, admin: Admin, name: Path) -> Get<RoleData> {
        Ok(WithEtag::new("role", roles::by_name(&admin.app, &name.0).await?))
    }

    /// Update a role
    ///
    /// Changes what is given; a name cannot be changed.
    #[oai(path = "/:name", method = "patch", operation_id = "adminUpdateRole")]
    async fn update(
        &self,
        admin: Admin,
        name: Path,
        if_match: IfMatch,
        body: Body<UpdateRole>,
    ) -> Update<RoleData> {
        let (role, if_match) = (role(&name)?, &if_match.0);
        let Body(UpdateRole { description, require_second_factor: required }) = body;
        let update = roles::update(&admin.app, role, if_match, description, required, &admin.actor);
        Ok(WithEtag::new("updated", update.await?))
    }

    /// Delete a role
    ///
    /// Refused while a user has the role.
    #[oai(path = "/:name", method = "delete", operation_id = "adminDeleteRole")]
    async fn delete(&self, admin: Admin, name: Path, if_match: IfMatch) -> Delete<Conflict> {
        roles::delete(&admin.app, role(&name)?, &if_match.0, &admin.actor).await?;
        Ok(deleted())
    }
}

/// The role in a path. A name that no role can have is answered as an unknown one is.
fn role(name: &Path) -> Result<Role, Error> {
    Role::parse(&name.0).map_err(|_| Error::NotFound("role"))
}

/// A role of users.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Role", example)]
pub struct RoleData {
    /// The name, as in the `role` claim.
    pub name: String,
    /// A note for administrators.
    pub description: String,
    /// Whether its users log in with a second factor only.
    pub require_second_factor: bool,
    /// The number of users who have it.
    pub users: i64,
    /// Whether every deployment has it.
    pub built_in: bool,
    /// Creation time (RFC 3339).
    pub created_at: String,
    /// Time of the last change (RFC 3339).
    pub updated_at: String,
}

impl From<RoleEntry> for RoleData {
    fn from(entry: RoleEntry) -> Self {
        Self {
            name: entry.role.as_str().to_owned(),
            description: entry.settings.description,
            require_second_factor: entry.settings.require_second_factor,
            users: entry.users,
            built_in: entry.role.is_built_in(),
            created_at: entry.created_at.rfc3339(),
            updated_at: entry.updated_at.rfc3339(),
        }
    }
}

example!(RoleData, {
    "name": "support",
    "description": "Answers customers' questions.",
    "requireSecondFactor": true,
    "users": 3,
    "builtIn": false,
    "createdAt": "2026-11-21T04:22:00Z",
    "updatedAt": "2026-11-21T04:22:00Z"
});

/// The role to create.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename_all = "camelCase", example)]
pub struct CreateRole {
    /// 1 to 32 of `a-z`, `0-9`, `_` and `-`.
    pub name: String,
    /// A note for administrators: up to 500 characters in one line.
    #[serde(default)]
    #[oai(default)]
    pub description: String,
    /// Whether its users log in with a second factor only; one who has none sets one up at login.
    #[serde(default)]
    #[oai(default)]
    pub require_second_factor: bool,
}

example!(CreateRole, {
    "name": "support",
    "description": "Answers customers' questions.",
    "requireSecondFactor": true
});

/// The fields to change; an absent field keeps its value.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(skip_serializing_if_is_none, rename_all = "camelCase", example)]
pub struct UpdateRole {
    /// A note for administrators: up to 500 characters in one line.
    pub description: Option<String>,
    /// Whether its users log in with a second factor only. Sessions that are open stay open.
    pub require_second_factor: Option<bool>,
}

example!(UpdateRole, { "requireSecondFactor": true });

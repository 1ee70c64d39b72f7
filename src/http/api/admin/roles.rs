//! `/api/v1/admin/roles`: what users may be.

use poem_openapi::{Object, OpenApi, types::Example};
use serde::{Deserialize, Serialize};

use super::{
    guard::Admin,
    params::{Cursor, IdempotencyKey, IfMatch, Limit, Page, Path, Query},
    tagged::Tagged,
    users::role_named,
};
use crate::{
    app::App,
    error::Error,
    flows::admin::{idempotency::Made, roles},
    http::{
        api::{Chapter, data::Nothing},
        context::Context,
        failure::{Failure, codes},
        json::{Answer, Body},
    },
    model::user::{Role, RoleEntry},
    storage::roles as rows,
};

#[derive(Clone, Debug)]
pub struct RolesApi;

codes!(ListErrors: Validation, InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);
codes!(GetErrors: Validation, InvalidToken, InsufficientScope, NotFound, RequestTimeout, Internal, Unavailable);
codes!(CreateErrors: Validation, MalformedJson, InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout,
    Conflict, TooLarge, UnsupportedMediaType, KeyReused, Internal, Unavailable);
codes!(ChangeErrors: Validation, MalformedJson, InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout,
    PreconditionFailed, PreconditionRequired, TooLarge, UnsupportedMediaType, Internal, Unavailable);
codes!(DeleteErrors: Validation, InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout, Conflict,
    PreconditionFailed, PreconditionRequired, Internal, Unavailable);

/// A role that users may have.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Role", example)]
pub struct RoleData {
    /// The name, as tokens carry it.
    pub name: String,
    /// For those who give it.
    pub description: String,
    /// How many have it.
    pub users: i64,
    /// Whether it is always there.
    pub built_in: bool,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// When its description was changed last (RFC 3339).
    pub updated_at: String,
}

impl From<RoleEntry> for RoleData {
    fn from(entry: RoleEntry) -> Self {
        Self {
            name: entry.role.as_str().to_owned(),
            description: entry.description,
            users: entry.users,
            built_in: entry.role.is_built_in(),
            created_at: entry.created_at.rfc3339(),
            updated_at: entry.updated_at.rfc3339(),
        }
    }
}

impl Example for RoleData {
    fn example() -> Self {
        Self {
            name: "support".to_owned(),
            description: "Answers what customers ask.".to_owned(),
            users: 3,
            built_in: false,
            created_at: "2026-11-21T04:22:00Z".to_owned(),
            updated_at: "2026-11-21T04:22:00Z".to_owned(),
        }
    }
}

/// A role to be made.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
pub struct NewRole {
    /// 1 to 32 of `a-z`, `0-9`, `_` and `-`.
    pub name: String,
    /// For those who give it; up to 500 characters in one line.
    #[serde(default)]
    #[oai(default)]
    pub description: String,
}

impl Example for NewRole {
    fn example() -> Self {
        Self { name: "support".to_owned(), description: "Answers what customers ask.".to_owned() }
    }
}

/// What shall change of a role.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub struct RoleChange {
    /// For those who give it; up to 500 characters in one line.
    pub description: String,
}

#[OpenApi(prefix_path = "/api/v1/admin/roles", tag = "Chapter::Administration")]
impl RolesApi {
    /// List roles
    ///
    /// In the order of their names.
    #[oai(path = "/", method = "get", operation_id = "adminListRoles")]
    async fn list(
        &self,
        context: Context,
        _admin: Admin,
        /// How many a page shall have.
        limit: Query<Limit>,
        /// The `nextCursor` of the page before.
        cursor: Cursor,
    ) -> Result<Answer<Page<RoleData>>, Failure<ListErrors>> {
        let after = cursor.after().unwrap_or_default();
        let found = rows::page(&context.app.db, after, Cursor::most(&limit)).await;
        let found = found.map_err(Error::from)?;
        let key = |entry: &RoleEntry| entry.role.as_str().to_owned();
        let page = cursor.page(&limit, found, key, From::from)?;
        Ok(Answer::new("roles", page))
    }

    /// Make a role
    #[oai(path = "/", method = "post", operation_id = "adminCreateRole")]
    async fn create(
        &self,
        context: Context,
        Admin(by): Admin,
        /// 1 to 128 visible ASCII characters; the same call sent again under the same key within a day makes nothing new.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        body: Body<NewRole>,
    ) -> Result<Tagged<RoleData, 201>, Failure<CreateErrors>> {
        let app = &context.app;
        let once = key.once(app, &by, "role.add", &body.0)?;
        let role = role_named("name", &body.0.name)?;
        let made = roles::add(app, role, body.0.description, once, &by).await?;
        let answer = shown(app, "made", &body.0.name).await?;
        Ok(match made {
            Made::Now(()) => answer,
            Made::Before(_) => answer.replayed(),
        })
    }

    /// Read a role
    #[oai(path = "/:name", method = "get", operation_id = "adminGetRole")]
    async fn get(
        &self,
        context: Context,
        _admin: Admin,
        name: Path,
    ) -> Result<Tagged<RoleData>, Failure<GetErrors>> {
        Ok(shown(&context.app, "the role", &name.0).await?)
    }

    /// Change a role
    #[oai(path = "/:name", method = "patch", operation_id = "adminChangeRole")]
    async fn change(
        &self,
        context: Context,
        Admin(by): Admin,
        name: Path,
        /// The `ETag` of the state that was read, or `*`.
        #[oai(name = "If-Match")]
        expected: IfMatch,
        body: Body<RoleChange>,
    ) -> Result<Tagged<RoleData>, Failure<ChangeErrors>> {
        let app = &context.app;
        let role = found(&name.0)?;
        roles::describe(app, role, &expected.0, body.0.description, &by).await?;
        Ok(shown(app, "changed", &name.0).await?)
    }

    /// Delete a role
    ///
    /// One that nobody has.
    #[oai(path = "/:name", method = "delete", operation_id = "adminDeleteRole")]
    async fn delete(
        &self,
        context: Context,
        Admin(by): Admin,
        name: Path,
        /// The `ETag` of the state that was read, or `*`.
        #[oai(name = "If-Match")]
        expected: IfMatch,
    ) -> Result<Answer<Nothing>, Failure<DeleteErrors>> {
        roles::remove(&context.app, found(&name.0)?, &expected.0, &by).await?;
        Ok(Answer::new("deleted", Nothing {}))
    }
}

/// What no role can be called is not there.
fn found(name: &str) -> Result<Role, Error> {
    Role::parse(name).map_err(|_| Error::NotFound("role"))
}

async fn shown<const STATUS: u16>(
    app: &App,
    message: &'static str,
    name: &str,
) -> Result<Tagged<RoleData, STATUS>, Error> {
    let entry = roles::named(app, name).await?;
    let updated_at = entry.updated_at;
    Ok(Tagged::new(Answer::new(message, entry.into()), updated_at))
}

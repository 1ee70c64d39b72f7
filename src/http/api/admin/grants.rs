//! `/api/v1/admin/users/{id}/grants`: which modules a user has, and had.

use poem_openapi::{Object, OpenApi, types::Example};
use serde::{Deserialize, Serialize};

use super::{
    guard::Admin,
    params::{Cursor, Limit, Page, Path, Query},
};
use crate::{
    clock::Timestamp,
    error::{Error, FieldError},
    flows::admin::{modules, users},
    http::{
        api::{Chapter, data::Nothing},
        context::Context,
        failure::{Failure, codes},
        json::{Answer, Body},
    },
    model::module::ModuleGrant,
    storage::modules as rows,
};

#[derive(Clone, Debug)]
pub struct GrantsApi;

codes!(ListErrors: Validation, InvalidToken, InsufficientScope, NotFound, RequestTimeout, Internal, Unavailable);
codes!(GrantErrors: Validation, MalformedJson, InvalidToken, InsufficientScope, CrossSite, ModuleNotFound, NotFound,
    RequestTimeout, TooLarge, UnsupportedMediaType, Internal, Unavailable);
codes!(WithdrawErrors: Validation, InvalidToken, InsufficientScope, CrossSite, ModuleNotFound, NotFound, RequestTimeout,
    Internal, Unavailable);

/// A stretch of time in which a user has, or had, a module.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Grant", example)]
pub struct GrantData {
    /// Its own id.
    pub id: String,
    /// Whose it is.
    pub user_id: String,
    /// The module.
    pub module_id: String,
    /// When it began (RFC 3339).
    pub valid_from: String,
    /// When it ended, or is planned to end (RFC 3339); null: it has no end.
    pub valid_until: Option<String>,
    /// Who gave it: a user's id, a client's id, or `cli`.
    pub granted_by: String,
    /// Who ended it; null where nobody has, or its time ran out.
    pub ended_by: Option<String>,
    /// Whether it has ended.
    pub is_closed: bool,
}

impl From<ModuleGrant> for GrantData {
    fn from(grant: ModuleGrant) -> Self {
        Self {
            id: grant.id,
            user_id: grant.user_id,
            module_id: grant.module_id,
            valid_from: grant.valid_from.rfc3339(),
            valid_until: grant.valid_until.map(|at| at.rfc3339()),
            granted_by: grant.granted_by,
            ended_by: grant.ended_by,
            is_closed: grant.closed_at.is_some(),
        }
    }
}

impl Example for GrantData {
    fn example() -> Self {
        Self {
            id: "01a1fca5-0ae5-7c11-8d4e-0b6c5a3e9d21".to_owned(),
            user_id: "01a1fca5-0ae5-741a-b136-32b4b1af948c".to_owned(),
            module_id: "crm".to_owned(),
            valid_from: "2026-11-21T04:22:00Z".to_owned(),
            valid_until: Some("2027-01-31T00:00:00Z".to_owned()),
            granted_by: "01a1fca5-0ae5-7b80-9fd0-a1b74eb40fb7".to_owned(),
            ended_by: None,
            is_closed: false,
        }
    }
}

/// How long a user shall have a module.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename_all = "camelCase", example)]
pub struct GrantRequest {
    /// The planned end (RFC 3339); without one, until it is taken back.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub valid_until: Option<String>,
}

impl Example for GrantRequest {
    fn example() -> Self {
        Self { valid_until: Some("2027-01-31T00:00:00Z".to_owned()) }
    }
}

#[OpenApi(prefix_path = "/api/v1/admin/users", tag = "Chapter::Administration")]
impl GrantsApi {
    /// Which modules a user has
    ///
    /// Now, or had at a moment of the past.
    #[oai(path = "/:id/grants", method = "get", operation_id = "adminListGrants")]
    async fn list(
        &self,
        context: Context,
        _admin: Admin,
        id: Path,
        /// A moment (RFC 3339); now where it is left out.
        at: Query<Timestamp>,
    ) -> Result<Answer<Vec<GrantData>>, Failure<ListErrors>> {
        let app = &context.app;
        users::by_id(app, &id.0).await?;
        let moment = at.0.unwrap_or_else(|| app.clock.now());
        let found = modules::at(app, &id.0, moment).await?;
        let grants = found.into_iter().map(From::from).collect();
        Ok(Answer::new("grants", grants))
    }

    /// Which modules a user had when
    ///
    /// The newest first, with who gave and who ended each.
    #[oai(path = "/:id/grant-history", method = "get", operation_id = "adminGrantHistory")]
    async fn history(
        &self,
        context: Context,
        _admin: Admin,
        id: Path,
        /// How many a page shall have.
        limit: Query<Limit>,
        /// The `nextCursor` of the page before.
        cursor: Cursor,
    ) -> Result<Answer<Page<GrantData>>, Failure<ListErrors>> {
        let app = &context.app;
        users::by_id(app, &id.0).await?;
        let last = cursor.after().and_then(|key| key.split_once(' '));
        let before = last.and_then(|(at, id)| Some((Timestamp(at.parse().ok()?), id)));
        let before = before.unwrap_or((Timestamp(i64::MAX), ""));
        let found = rows::history(&app.db, &id.0, before, Cursor::most(&limit)).await;
        let found = found.map_err(Error::from)?;
        let key = |grant: &ModuleGrant| format!("{} {}", grant.valid_from.micros(), grant.id);
        let page = cursor.page(&limit, found, key, From::from)?;
        Ok(Answer::new("the history", page))
    }

    /// Give a user a module
    ///
    /// Where they have it with another end, that grant ends and a new one begins; where they have it with the same, nothing
    /// happens.
    #[oai(path = "/:id/grants/:module", method = "put", operation_id = "adminGrantModule")]
    async fn grant(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
        module: Path,
        body: Body<GrantRequest>,
    ) -> Result<Answer<GrantData>, Failure<GrantErrors>> {
        let app = &context.app;
        let until = body.0.valid_until.as_deref().map(moment).transpose()?;
        modules::grant(app, &id.0, &module.0, until, &by).await?;
        let open = modules::at(app, &id.0, app.clock.now()).await?;
        let grant = open.into_iter().find(|grant| grant.module_id == module.0);
        // Somebody else may have taken it back at this moment.
        let grant = grant.ok_or(Error::NotFound("grant"))?;
        Ok(Answer::new("granted", grant.into()))
    }

    /// Take a module from a user
    ///
    /// Its scopes are refused at once in their tokens; their other scopes go on. Nothing happens where they do not have it.
    #[oai(path = "/:id/grants/:module", method = "delete", operation_id = "adminWithdrawModule")]
    async fn withdraw(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
        module: Path,
    ) -> Result<Answer<Nothing>, Failure<WithdrawErrors>> {
        let app = &context.app;
        users::by_id(app, &id.0).await?;
        modules::named(app, &module.0).await?;
        modules::withdraw(app, &id.0, &module.0, &by).await?;
        Ok(Answer::new("withdrawn", Nothing {}))
    }
}

fn moment(text: &str) -> Result<Timestamp, Error> {
    Timestamp::parse(text).ok_or_else(|| {
        Error::Validation(vec![FieldError {
            field: "validUntil",
            message: "must be a moment as RFC 3339 writes it: 2027-01-31T00:00:00Z".to_owned(),
        }])
    })
}

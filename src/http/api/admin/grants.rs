//! `/api/v1/admin/users/{id}/grants`: the modules of a user.

use super::{modules::ModuleNotFound, prelude::*, reply::JsonBody};
use crate::{
    flows::admin::{modules, users},
    http::api::data::Nothing,
    ids::UserId,
    model::module::ModuleGrant,
    storage::modules as rows,
};

#[derive(Clone, Debug, Default)]
pub struct GrantsApi;

#[OpenApi(prefix_path = "/api/v1/admin/users", tag = "Tag::Administration")]
impl GrantsApi {
    /// List a user's module grants
    ///
    /// As of now, or of a moment in the past.
    #[oai(path = "/:id/grants", method = "get", operation_id = "adminListUserGrants")]
    async fn list(
        &self,
        admin: Admin,
        id: Path<UserId>,
        /// A moment (RFC 3339); now if absent.
        at: Query<Timestamp>,
    ) -> Reply<Answer<Vec<GrantData>>, (Read, NotFound)> {
        let app = &admin.app;
        users::by_id(app, &id.0).await?;
        let found = modules::at(app, &id.0, at.0.unwrap_or_else(|| app.clock.now())).await?;
        Ok(Answer::new("grants", found.into_iter().map(From::from).collect()))
    }

    /// List a user's grant history
    ///
    /// The newest first, with who opened and who ended each grant.
    #[oai(path = "/:id/grant-history", method = "get", operation_id = "adminListUserGrantHistory")]
    async fn history(
        &self,
        admin: Admin,
        id: Path<UserId>,
        page: Paging,
    ) -> List<GrantData, NotFound> {
        users::by_id(&admin.app, &id.0).await?;
        let last = page.after().and_then(|key| key.split_once(' '));
        let before = last.and_then(|(at, id)| Some((Timestamp(at.parse().ok()?), id)));
        let before = before.unwrap_or((Timestamp(i64::MAX), ""));
        let found = rows::history(&admin.app.db, &id.0, before, page.rows()).await;
        let key = |grant: &ModuleGrant| format!("{} {}", grant.valid_from.micros(), grant.id);
        Ok(page.answer("grant history", found, key)?)
    }

    /// Grant a module to a user
    ///
    /// A grant with another end is replaced; a grant with the same end stays as it is.
    #[oai(path = "/:id/grants/:module", method = "put", operation_id = "adminGrantModule")]
    async fn grant(
        &self,
        admin: Admin,
        id: Path<UserId>,
        module: Path,
        body: Body<GrantModule>,
    ) -> Act<Answer<GrantData>, (JsonBody, ModuleNotFound)> {
        let until = body.0.until()?;
        users::by_id(&admin.app, &id.0).await?;
        let grant = modules::grant(&admin.app, &id.0, &module.0, until, &admin.actor).await?;
        Ok(Answer::new("granted", grant.into()))
    }

    /// Withdraw a module from a user
    ///
    /// The module's scopes are refused at once in the user's tokens; other scopes stay valid.
    /// Without effect where the user does not have the module.
    #[oai(path = "/:id/grants/:module", method = "delete", operation_id = "adminWithdrawModule")]
    async fn withdraw(
        &self,
        admin: Admin,
        id: Path<UserId>,
        module: Path,
    ) -> Act<Answer<Nothing>, ModuleNotFound> {
        users::by_id(&admin.app, &id.0).await?;
        modules::withdraw(&admin.app, &id.0, &module.0, &admin.actor).await?;
        Ok(Answer::new("withdrawn", Nothing {}))
    }
}

/// A period in which a user has, or had, a module.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "ModuleGrant", example)]
pub struct GrantData {
    pub id: String,
    /// The user's id, or the `sub` of a user whom a back end keeps.
    pub subject: String,
    /// The user; null where the subject has no account here.
    pub user_id: Option<String>,
    pub module_id: String,
    /// Start of the period (RFC 3339).
    pub valid_from: String,
    /// Actual or planned end of the period (RFC 3339); null: it has no end.
    pub valid_until: Option<String>,
    /// Who opened it: a user's id, a client's id, or `cli`.
    pub granted_by: String,
    /// Who ended it; null: nobody, or it reached its planned end.
    pub ended_by: Option<String>,
    /// Whether it has ended.
    pub is_closed: bool,
}

impl From<ModuleGrant> for GrantData {
    fn from(grant: ModuleGrant) -> Self {
        Self {
            id: grant.id,
            subject: grant.subject,
            user_id: grant.user_id.map(Into::into),
            module_id: grant.module_id,
            valid_from: grant.valid_from.rfc3339(),
            valid_until: grant.valid_until.map(Timestamp::rfc3339),
            granted_by: grant.granted_by,
            ended_by: grant.ended_by,
            is_closed: grant.closed_at.is_some(),
        }
    }
}

example!(GrantData, {
    "id": "01a1fca5-0ae5-7c11-8d4e-0b6c5a3e9d21",
    "subject": "01a1fca5-0ae5-741a-b136-32b4b1af948c",
    "userId": "01a1fca5-0ae5-741a-b136-32b4b1af948c",
    "moduleId": "crm",
    "validFrom": "2026-11-21T04:22:00Z",
    "validUntil": "2027-01-31T00:00:00Z",
    "grantedBy": "01a1fca5-0ae5-7b80-9fd0-a1b74eb40fb7",
    "endedBy": null,
    "isClosed": false
});

/// The period of a grant.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(skip_serializing_if_is_none, rename_all = "camelCase", example)]
pub struct GrantModule {
    /// The planned end (RFC 3339); until it is withdrawn if absent.
    pub valid_until: Option<String>,
}

impl GrantModule {
    pub(super) fn until(&self) -> Result<Option<Timestamp>, Error> {
        let moment = |text| {
            let why = "must be an RFC 3339 timestamp, like 2027-01-31T00:00:00Z";
            Timestamp::parse(text).ok_or_else(|| Error::field("validUntil", why))
        };
        self.valid_until.as_deref().map(moment).transpose()
    }
}

example!(GrantModule, { "validUntil": "2027-01-31T00:00:00Z" });

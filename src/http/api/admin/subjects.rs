//! `/api/v1/admin/subjects`: users whom back ends keep themselves, by the `sub` of their tokens. There
//! is no account of theirs here, only sessions and module grants.

use super::{
    grants::{GrantData, GrantModule},
    modules::ModuleNotFound,
    prelude::*,
    reply::JsonBody,
};
use crate::{
    flows::{admin::modules, sessions::end, tokens::subject::is_external},
    http::api::data::Nothing,
    model::module::ModuleGrant,
    storage::modules as rows,
};

#[derive(Clone, Debug, Default)]
pub struct SubjectsApi;

#[OpenApi(prefix_path = "/api/v1/admin/subjects", tag = "Tag::Administration")]
impl SubjectsApi {
    /// List the module grants of a back end's user
    ///
    /// As of now, or of a moment in the past.
    #[oai(path = "/:subject/grants", method = "get", operation_id = "adminListSubjectGrants")]
    async fn list(
        &self,
        admin: Admin,
        subject: Path,
        /// A moment (RFC 3339); now if absent.
        at: Query<Timestamp>,
    ) -> Reply<Answer<Vec<GrantData>>, (Read, NotFound)> {
        let (app, subject) = (&admin.app, external(&subject)?);
        let found = modules::at(app, subject, at.0.unwrap_or_else(|| app.clock.now())).await?;
        Ok(Answer::new("grants", found.into_iter().map(From::from).collect()))
    }

    /// List the grant history of a back end's user
    ///
    /// The newest first, with who opened and who ended each grant.
    #[oai(
        path = "/:subject/grant-history",
        method = "get",
        operation_id = "adminListSubjectGrantHistory"
    )]
    async fn history(
        &self,
        admin: Admin,
        subject: Path,
        page: Paging,
    ) -> List<GrantData, NotFound> {
        let subject = external(&subject)?;
        let last = page.after().and_then(|key| key.split_once(' '));
        let before = last.and_then(|(at, id)| Some((Timestamp(at.parse().ok()?), id)));
        let before = before.unwrap_or((Timestamp(i64::MAX), ""));
        let found = rows::history(&admin.app.db, subject, before, page.rows()).await;
        let key = |grant: &ModuleGrant| format!("{} {}", grant.valid_from.micros(), grant.id);
        Ok(page.answer("grant history", found, key)?)
    }

    /// Grant a module to a back end's user
    ///
    /// Also before the first login: no row of the user is needed. A grant with another end is
    /// replaced; a grant with the same end stays as it is.
    #[oai(
        path = "/:subject/grants/:module",
        method = "put",
        operation_id = "adminGrantModuleToSubject"
    )]
    async fn grant(
        &self,
        admin: Admin,
        subject: Path,
        module: Path,
        body: Body<GrantModule>,
    ) -> Act<Answer<GrantData>, (JsonBody, ModuleNotFound)> {
        let (until, subject) = (body.0.until()?, external(&subject)?);
        let grant = modules::grant(&admin.app, subject, &module.0, until, &admin.actor).await?;
        Ok(Answer::new("granted", grant.into()))
    }

    /// Withdraw a module from a back end's user
    ///
    /// The module's scopes are refused at once in the user's tokens; other scopes stay valid.
    /// Without effect where the user does not have the module.
    #[oai(
        path = "/:subject/grants/:module",
        method = "delete",
        operation_id = "adminWithdrawModuleFromSubject"
    )]
    async fn withdraw(
        &self,
        admin: Admin,
        subject: Path,
        module: Path,
    ) -> Act<Answer<Nothing>, ModuleNotFound> {
        modules::withdraw(&admin.app, external(&subject)?, &module.0, &admin.actor).await?;
        Ok(Answer::new("withdrawn", Nothing {}))
    }

    /// Log a back end's user out everywhere
    ///
    /// All sessions are revoked, with every client of the namespace, and their tokens are refused at
    /// once. Without effect where there are none.
    #[oai(path = "/:subject/logout", method = "post", operation_id = "adminLogOutSubject")]
    async fn log_out(&self, admin: Admin, subject: Path) -> Act<Answer<Nothing>> {
        end::end_all_of_external(&admin.app, external(&subject)?, &admin.actor).await?;
        Ok(Answer::new("logged out everywhere", Nothing {}))
    }
}

/// The `sub` of a back end's user; nothing else is found here.
fn external(subject: &Path) -> Result<&str, Error> {
    let found = Some(subject.0.as_str()).filter(|subject| is_external(subject));
    found.ok_or(Error::NotFound("subject"))
}

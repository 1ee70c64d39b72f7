//! `/api/v1/admin/modules`: the product modules that are enabled per user.

use std::collections::BTreeMap;

use super::{
    grants::GrantData,
    prelude::*,
    reply::{Conflict, Create},
};
use crate::{
    flows::admin::modules, model::module::Module, oauth::scope::Scope, storage::modules as rows,
};

#[derive(Clone, Debug, Default)]
pub struct ModulesApi;

errors! {
    ModuleNotFound: ModuleNotFound;
}

#[OpenApi(prefix_path = "/api/v1/admin/modules", tag = "Tag::Administration")]
impl ModulesApi {
    /// List modules
    ///
    /// In order of their ids.
    #[oai(path = "/", method = "get", operation_id = "adminListModules")]
    async fn list(&self, admin: Admin, page: Paging) -> List<ModuleDetails> {
        let after = page.after().unwrap_or_default();
        let found = rows::page(&admin.app.db, after, page.rows()).await;
        Ok(page.answer("modules", found, |module| module.id.clone())?)
    }

    /// Create a module
    ///
    /// It is granted to no user yet.
    #[oai(path = "/", method = "post", operation_id = "adminCreateModule")]
    async fn create(
        &self,
        admin: Admin,
        idempotency_key: IdempotencyKey,
        body: Body<CreateModule>,
    ) -> Create<ModuleDetails, (ModuleNotFound, Conflict)> {
        let request = idempotency_key.request(&admin, "module.add", &body.0)?;
        let Body(CreateModule { id, settings }) = body;
        let created =
            modules::create(&admin.app, settings.module(id)?, request, &admin.actor).await?;
        Ok(created.into())
    }

    /// Get a module
    ///
    /// The `ETag` of the response goes into `If-Match` of a change.
    #[oai(path = "/:id", method = "get", operation_id = "adminGetModule")]
    async fn get(&self, admin: Admin, id: Path) -> Get<ModuleDetails, ModuleNotFound> {
        Ok(WithEtag::new("module", modules::by_id(&admin.app, &id.0).await?))
    }

    /// Replace a module's settings
    ///
    /// Scopes that the module no longer has are refused at once in its users' tokens.
    #[oai(path = "/:id", method = "put", operation_id = "adminReplaceModule")]
    async fn replace(
        &self,
        admin: Admin,
        id: Path,
        if_match: IfMatch,
        body: Body<ModuleSettings>,
    ) -> Update<ModuleDetails, ModuleNotFound> {
        let module = body.0.module(id.0)?;
        let module = modules::update(&admin.app, module, &if_match.0, &admin.actor).await?;
        Ok(WithEtag::new("replaced", module))
    }

    /// Delete a module
    ///
    /// All grants of it end, and its scopes are refused at once in its users' tokens. The grant
    /// history stays.
    #[oai(path = "/:id", method = "delete", operation_id = "adminDeleteModule")]
    async fn delete(&self, admin: Admin, id: Path, if_match: IfMatch) -> Delete<ModuleNotFound> {
        modules::delete(&admin.app, &id.0, &if_match.0, &admin.actor).await?;
        Ok(deleted())
    }

    /// List a module's grants
    ///
    /// The users who have the module, in order of their ids.
    #[oai(path = "/:id/grants", method = "get", operation_id = "adminListModuleGrants")]
    async fn grants(
        &self,
        admin: Admin,
        id: Path,
        page: Paging,
    ) -> List<GrantData, (ModuleNotFound, NotFound)> {
        modules::by_id(&admin.app, &id.0).await?;
        let after = page.after().unwrap_or_default();
        let found = rows::of_module(&admin.app.db, &id.0, after, page.rows()).await;
        Ok(page.answer("grants", found, |grant| grant.subject.clone())?)
    }
}

/// A module.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct ModuleDetails {
    /// The name in requests and tokens.
    pub id: String,
    /// Display names by language tag.
    pub names: BTreeMap<String, String>,
    /// Descriptions by language tag.
    pub descriptions: BTreeMap<String, String>,
    /// The scopes that its users' tokens may have.
    pub scopes: Vec<String>,
    /// The resource (RFC 8707) whose tokens have the scopes; null: this server's own API.
    pub resource: Option<String>,
    /// Whether users enable and disable it themselves.
    pub self_service: bool,
    /// Creation time (RFC 3339).
    pub created_at: String,
    /// Time of the last change (RFC 3339).
    pub updated_at: String,
}

impl From<Module> for ModuleDetails {
    fn from(module: Module) -> Self {
        Self {
            id: module.id,
            names: module.names,
            descriptions: module.descriptions,
            scopes: module.scope.iter().map(str::to_owned).collect(),
            resource: module.resource,
            self_service: module.is_self_service,
            created_at: module.created_at.rfc3339(),
            updated_at: module.updated_at.rfc3339(),
        }
    }
}

impl Example for ModuleDetails {
    fn example() -> Self {
        let CreateModule { id, settings } = Example::example();
        Self {
            id,
            names: settings.names,
            descriptions: settings.descriptions,
            scopes: settings.scopes,
            resource: settings.resource,
            self_service: settings.self_service,
            created_at: "2026-11-21T04:22:00Z".to_owned(),
            updated_at: "2026-11-21T04:22:00Z".to_owned(),
        }
    }
}

/// The settings of a module.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(skip_serializing_if_is_none, rename_all = "camelCase", example)]
pub struct ModuleSettings {
    /// Display names by language tag; at least one.
    pub names: BTreeMap<String, String>,
    /// Descriptions by language tag.
    #[serde(default)]
    #[oai(default)]
    pub descriptions: BTreeMap<String, String>,
    /// The scopes that its users' tokens may have; at least one.
    pub scopes: Vec<String>,
    /// The resource (RFC 8707) whose tokens have the scopes; this server's own API if absent.
    pub resource: Option<String>,
    /// Whether users enable and disable it themselves.
    #[serde(default)]
    #[oai(default)]
    pub self_service: bool,
}

impl ModuleSettings {
    /// The module of that id; its times are set when it is stored.
    fn module(self, id: String) -> Result<Module, Error> {
        if self.scopes.iter().any(|scope| scope.contains(' ')) {
            return Err(Error::field("scopes", "must be an array of single scopes"));
        }
        let scope = Scope::parse(&self.scopes.join(" "));
        Ok(Module {
            id,
            names: self.names,
            descriptions: self.descriptions,
            scope: scope.map_err(|why| Error::field("scopes", why))?,
            resource: self.resource,
            is_self_service: self.self_service,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        })
    }
}

example!(ModuleSettings, {
    "names": { "en": "Customers", "ru": "Клиенты" },
    "descriptions": {
        "en": "Customers and their orders.",
        "ru": "Клиенты и их заказы."
    },
    "scopes": ["crm:read", "crm:write"],
    "selfService": true
});

/// The module to create.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
pub struct CreateModule {
    /// 1 to 64 of `a-z`, `0-9`, `_` and `-`.
    pub id: String,
    pub settings: ModuleSettings,
}

impl Example for CreateModule {
    fn example() -> Self {
        Self { id: "crm".to_owned(), settings: Example::example() }
    }
}

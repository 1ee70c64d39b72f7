//! `/api/v1/admin/modules`: the parts of the platform that are switched on per user.

use std::collections::BTreeMap;

use poem_openapi::{Object, OpenApi, types::Example};
use serde::{Deserialize, Serialize};

use super::{
    grants::GrantData,
    guard::Admin,
    params::{Cursor, IdempotencyKey, IfMatch, Limit, Page, Path, Query},
    tagged::Tagged,
};
use crate::{
    clock::Timestamp,
    error::{Error, FieldError},
    flows::admin::{
        idempotency::Made,
        modules::{self, Must},
    },
    http::{
        api::{Chapter, data::Nothing},
        context::Context,
        failure::{Failure, codes},
        json::{Answer, Body},
    },
    model::module::Module,
    oauth::scope::Scope,
    storage::modules as rows,
};

#[derive(Clone, Debug)]
pub struct ModulesApi;

codes!(ListErrors: Validation, InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);
codes!(GetErrors: Validation, InvalidToken, InsufficientScope, ModuleNotFound, NotFound, RequestTimeout, Internal,
    Unavailable);
codes!(CreateErrors: Validation, MalformedJson, InvalidToken, InsufficientScope, CrossSite, RequestTimeout, Conflict,
    TooLarge, UnsupportedMediaType, ModuleNotFound, KeyReused, Internal, Unavailable);
codes!(ChangeErrors: Validation, MalformedJson, InvalidToken, InsufficientScope, CrossSite, ModuleNotFound, NotFound,
    RequestTimeout, PreconditionFailed, PreconditionRequired, TooLarge, UnsupportedMediaType, Internal, Unavailable);
codes!(DeleteErrors: Validation, InvalidToken, InsufficientScope, CrossSite, ModuleNotFound, NotFound, RequestTimeout,
    PreconditionFailed, PreconditionRequired, Internal, Unavailable);

/// A module, as it is kept.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "ModuleEntry", example)]
pub struct ModuleEntry {
    /// The name that calls and tokens know it by.
    pub id: String,
    /// What people call it, by language tag.
    pub names: BTreeMap<String, String>,
    /// What it is, by language tag.
    pub descriptions: BTreeMap<String, String>,
    /// What a token may carry while its user has it.
    pub scopes: Vec<String>,
    /// The resource (RFC 8707) whose tokens carry the scopes; null: this server's own API.
    pub resource: Option<String>,
    /// Whether people switch it themselves.
    pub self_service: bool,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// When it was changed last (RFC 3339).
    pub updated_at: String,
}

impl From<Module> for ModuleEntry {
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

fn texts(pairs: [(&str, &str); 2]) -> BTreeMap<String, String> {
    pairs.map(|(tag, text)| (tag.to_owned(), text.to_owned())).into()
}

impl Example for ModuleEntry {
    fn example() -> Self {
        let NewModule { id, settings } = NewModule::example();
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

/// What is kept of a module.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename_all = "camelCase", example)]
pub struct ModuleSettings {
    /// What people call it, by language tag; at least one.
    pub names: BTreeMap<String, String>,
    /// What it is, by language tag.
    #[serde(default)]
    #[oai(default)]
    pub descriptions: BTreeMap<String, String>,
    /// What a token may carry while its user has it; at least one.
    pub scopes: Vec<String>,
    /// The resource (RFC 8707) whose tokens carry the scopes; without one, this server's own API.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub resource: Option<String>,
    /// Whether people switch it themselves.
    #[serde(default)]
    #[oai(default)]
    pub self_service: bool,
}

impl ModuleSettings {
    /// The module of that id; its times are given to it where it is stored.
    fn module(self, id: String) -> Result<Module, Error> {
        let wrong = |message: &str| {
            Error::Validation(vec![FieldError { field: "scopes", message: message.to_owned() }])
        };
        if self.scopes.iter().any(|scope| scope.contains(' ')) {
            return Err(wrong("must be scopes, one in each text"));
        }
        let scope = Scope::parse(&self.scopes.join(" ")).map_err(wrong)?;
        Ok(Module {
            id,
            names: self.names,
            descriptions: self.descriptions,
            scope,
            resource: self.resource,
            is_self_service: self.self_service,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        })
    }
}

impl Example for ModuleSettings {
    fn example() -> Self {
        Self {
            names: texts([("en", "Customers"), ("ru", "Клиенты")]),
            descriptions: texts([
                ("en", "Everything about customers and their orders."),
                ("ru", "Всё о клиентах и их заказах."),
            ]),
            scopes: ["crm:read", "crm:write"].map(str::to_owned).into(),
            resource: None,
            self_service: true,
        }
    }
}

/// A module to be made.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
pub struct NewModule {
    /// 1 to 64 of `a-z`, `0-9`, `_` and `-`.
    pub id: String,
    /// What is kept of it.
    pub settings: ModuleSettings,
}

impl Example for NewModule {
    fn example() -> Self {
        Self { id: "crm".to_owned(), settings: ModuleSettings::example() }
    }
}

#[OpenApi(prefix_path = "/api/v1/admin/modules", tag = "Chapter::Administration")]
impl ModulesApi {
    /// List modules
    ///
    /// In the order of their ids.
    #[oai(path = "/", method = "get", operation_id = "adminListModules")]
    async fn list(
        &self,
        context: Context,
        _admin: Admin,
        /// How many a page shall have.
        limit: Query<Limit>,
        /// The `nextCursor` of the page before.
        cursor: Cursor,
    ) -> Result<Answer<Page<ModuleEntry>>, Failure<ListErrors>> {
        let after = cursor.after().unwrap_or_default();
        let found = rows::page(&context.app.db, after, Cursor::most(&limit)).await;
        let found = found.map_err(Error::from)?;
        let page = cursor.page(&limit, found, |module| module.id.clone(), From::from)?;
        Ok(Answer::new("modules", page))
    }

    /// Make a module
    ///
    /// Nobody has it yet.
    #[oai(path = "/", method = "post", operation_id = "adminCreateModule")]
    async fn create(
        &self,
        context: Context,
        Admin(by): Admin,
        /// 1 to 128 visible ASCII characters; the same call sent again under the same key within a day makes nothing new.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        body: Body<NewModule>,
    ) -> Result<Tagged<ModuleEntry, 201>, Failure<CreateErrors>> {
        let app = &context.app;
        let once = key.once(app, &by, "module.add", &body.0)?;
        let Body(NewModule { id, settings }) = body;
        let made = modules::put(app, settings.module(id)?, Must::BeNew(once), &by).await?;
        Ok(match made {
            Made::Now(module) => shown("made", module),
            Made::Before(id) => shown("made", modules::named(app, &id).await?).replayed(),
        })
    }

    /// Read a module
    #[oai(path = "/:id", method = "get", operation_id = "adminGetModule")]
    async fn get(
        &self,
        context: Context,
        _admin: Admin,
        id: Path,
    ) -> Result<Tagged<ModuleEntry>, Failure<GetErrors>> {
        let module = modules::named(&context.app, &id.0).await?;
        Ok(shown("the module", module))
    }

    /// Replace what is kept of a module
    ///
    /// Scopes that it gives no more are refused at once in the tokens of all who have it.
    #[oai(path = "/:id", method = "put", operation_id = "adminReplaceModule")]
    async fn replace(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
        /// The `ETag` of the state that was read, or `*`.
        #[oai(name = "If-Match")]
        expected: IfMatch,
        body: Body<ModuleSettings>,
    ) -> Result<Tagged<ModuleEntry>, Failure<ChangeErrors>> {
        let app = &context.app;
        modules::named(app, &id.0).await?;
        let module = body.0.module(id.0.clone())?;
        modules::put(app, module, Must::Be(expected.0), &by).await?;
        let module = modules::named(app, &id.0).await?;
        Ok(shown("replaced", module))
    }

    /// Delete a module
    ///
    /// Whoever has it loses it, and its scopes are refused at once in their tokens. Who had it when stays in the history.
    #[oai(path = "/:id", method = "delete", operation_id = "adminDeleteModule")]
    async fn delete(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
        /// The `ETag` of the state that was read, or `*`.
        #[oai(name = "If-Match")]
        expected: IfMatch,
    ) -> Result<Answer<Nothing>, Failure<DeleteErrors>> {
        modules::remove(&context.app, &id.0, &expected.0, &by).await?;
        Ok(Answer::new("deleted", Nothing {}))
    }

    /// Who has a module
    ///
    /// In the order of the users' ids.
    #[oai(path = "/:id/grants", method = "get", operation_id = "adminListGrantsOfModule")]
    async fn grants(
        &self,
        context: Context,
        _admin: Admin,
        id: Path,
        /// How many a page shall have.
        limit: Query<Limit>,
        /// The `nextCursor` of the page before.
        cursor: Cursor,
    ) -> Result<Answer<Page<GrantData>>, Failure<GetErrors>> {
        let app = &context.app;
        modules::named(app, &id.0).await?;
        let after = cursor.after().unwrap_or_default();
        let found = rows::of_module(&app.db, &id.0, after, Cursor::most(&limit)).await;
        let found = found.map_err(Error::from)?;
        let page = cursor.page(&limit, found, |grant| grant.user_id.clone(), From::from)?;
        Ok(Answer::new("grants", page))
    }
}

fn shown<const STATUS: u16>(message: &'static str, module: Module) -> Tagged<ModuleEntry, STATUS> {
    let updated_at = module.updated_at;
    Tagged::new(Answer::new(message, module.into()), updated_at)
}

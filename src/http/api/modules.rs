//! `/api/v1/modules`: the modules of the current user, and switching self-service ones.

use poem_openapi::{Object, OpenApi, param::Path, types::Example};
use serde::{Deserialize, Serialize};

use super::Tag;
use crate::{
    clock::Timestamp,
    flows::admin::modules::{self, Status},
    http::{
        context::Context,
        failure::{Failure, codes},
        json::Answer,
        security::Credentials,
        views::Locale,
    },
    model::actor::Actor,
};

#[derive(Debug)]
pub struct ModulesApi;

/// A module and whether it is granted to the current user.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Module", example)]
pub struct ModuleData {
    /// The id of the module, as in the `modules` claim of tokens.
    pub id: String,
    /// The display name, in the language of `Accept-Language`.
    pub name: String,
    /// The description, in the same language.
    pub description: String,
    /// The scopes that the module grants.
    pub scopes: Vec<String>,
    /// The resource that the scopes apply to; null for the default audience, this server.
    pub resource: Option<String>,
    /// Whether users may enable and disable the module themselves.
    pub self_service: bool,
    /// Whether the module is granted to the user.
    pub enabled: bool,
    /// When it was granted (RFC 3339, UTC); null if it is not.
    pub granted_at: Option<String>,
    /// When the grant ends (RFC 3339, UTC); null if it has no end.
    pub valid_until: Option<String>,
}

impl Example for ModuleData {
    fn example() -> Self {
        Self {
            id: "crm".to_owned(),
            name: "Customers".to_owned(),
            description: "Everything about customers and their orders.".to_owned(),
            scopes: vec!["crm:read".to_owned(), "crm:write".to_owned()],
            resource: None,
            self_service: true,
            enabled: true,
            granted_at: Some("2026-11-21T09:30:00.000000Z".to_owned()),
            valid_until: None,
        }
    }
}

impl ModuleData {
    fn of(status: Status, language: &str) -> Self {
        let Status { module, grant } = status;
        let rfc3339 = |time: Timestamp| time.rfc3339();
        Self {
            name: module.name(language).to_owned(),
            description: module.description(language).to_owned(),
            scopes: module.scope.iter().map(str::to_owned).collect(),
            self_service: module.is_self_service,
            enabled: grant.is_some(),
            granted_at: grant.as_ref().map(|grant| rfc3339(grant.valid_from)),
            valid_until: grant.and_then(|grant| grant.valid_until).map(rfc3339),
            id: module.id,
            resource: module.resource,
        }
    }
}

codes!(ListErrors: InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);
codes!(SwitchErrors: InvalidToken, InsufficientScope, ModuleNotFound, ModuleNotSelfService, CrossSite, NotFound,
    RequestTimeout, TooManyRequests, Internal, Unavailable);

#[OpenApi(prefix_path = "/api/v1/modules", tag = "Tag::Modules")]
impl ModulesApi {
    /// List modules
    ///
    /// Returns every module and whether it is granted to the current user. The path also works
    /// without the trailing slash.
    #[oai(path = "/", method = "get", operation_id = "listModules")]
    async fn list(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
    ) -> Result<Answer<Vec<ModuleData>>, Failure<ListErrors>> {
        let user_id = &credentials.account(&context.app).await?.claims.sub;
        let language = Locale::of_request(request, None).tag();
        let all = modules::list(&context.app, user_id).await?.into_iter();
        let data = all.map(|status| ModuleData::of(status, language));
        Ok(Answer::new("Modules listed.", data.collect()))
    }

    /// Enable a module
    ///
    /// Grants a self-service module to the current user. New tokens, including refreshed ones, may
    /// carry its scopes. No effect if it is granted already. The path also works with a trailing
    /// slash.
    #[oai(path = "/:module_id/enable", method = "post", operation_id = "enableModule")]
    async fn enable(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
        /// The id of the module.
        module_id: Path<String>,
    ) -> Result<Answer<ModuleData>, Failure<SwitchErrors>> {
        switch(&context, credentials, request, &module_id, true).await
    }

    /// Disable a module
    ///
    /// Withdraws a self-service module from the current user. Existing tokens with its scopes are
    /// rejected immediately; refreshed tokens omit them. No effect if it is not granted. The path
    /// also works with a trailing slash.
    #[oai(path = "/:module_id/disable", method = "post", operation_id = "disableModule")]
    async fn disable(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
        /// The id of the module.
        module_id: Path<String>,
    ) -> Result<Answer<ModuleData>, Failure<SwitchErrors>> {
        switch(&context, credentials, request, &module_id, false).await
    }
}

async fn switch(
    context: &Context,
    credentials: Credentials,
    request: &poem::Request,
    module_id: &str,
    enabled: bool,
) -> Result<Answer<ModuleData>, Failure<SwitchErrors>> {
    let user_id = &credentials.account(&context.app).await?.claims.sub;
    let actor = Actor::caller(user_id, &context.caller);
    let status = modules::switch(&context.app, user_id, module_id, enabled, &actor).await?;
    let language = Locale::of_request(request, None).tag();
    let message = if enabled { "Module enabled." } else { "Module disabled." };
    Ok(Answer::new(message, ModuleData::of(status, language)))
}

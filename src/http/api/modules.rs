//! `/api/v1/modules`: what a person may use, and what of it they switch themselves.

use poem_openapi::{Object, OpenApi, param::Path, types::Example};
use serde::{Deserialize, Serialize};

use super::Chapter;
use crate::{
    api_error::{ApiError, ErrorCode},
    clock::Timestamp,
    error::Error,
    flows::{
        admin::modules::{self, Status},
        tokens::verify,
    },
    http::{
        context::Context,
        failure::{Failure, codes},
        json::Answer,
        security::Credentials,
        views::Locale,
    },
    model::{actor::Actor, client},
};

#[derive(Debug)]
pub struct ModulesApi;

/// A module, and whether this person has it.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Module", example)]
pub struct ModuleData {
    /// The name that calls and tokens know it by.
    pub id: String,
    /// What people call it, in the language of `Accept-Language`.
    pub name: String,
    /// What it is, in the same language.
    pub description: String,
    /// What a token may carry while the person has it.
    pub scopes: Vec<String>,
    /// The resource whose tokens carry the scopes; null: this server's own API.
    pub resource: Option<String>,
    /// Whether people switch it themselves.
    pub self_service: bool,
    /// Whether this person has it.
    pub enabled: bool,
    /// Since when (RFC 3339).
    pub granted_at: Option<String>,
    /// Its planned end (RFC 3339), where there is one.
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
        let moment = |moment: Timestamp| moment.rfc3339();
        Self {
            name: module.name(language).to_owned(),
            description: module.description(language).to_owned(),
            scopes: module.scope.iter().map(str::to_owned).collect(),
            self_service: module.is_self_service,
            enabled: grant.is_some(),
            granted_at: grant.as_ref().map(|grant| moment(grant.valid_from)),
            valid_until: grant.and_then(|grant| grant.valid_until).map(moment),
            id: module.id,
            resource: module.resource,
        }
    }
}

codes!(ListErrors: InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);
codes!(SwitchErrors: InvalidToken, InsufficientScope, ModuleNotFound, ModuleNotSelfService, CrossSite, NotFound,
    RequestTimeout, Internal, Unavailable);

#[OpenApi(prefix_path = "/api/v1/modules", tag = "Chapter::Modules")]
impl ModulesApi {
    /// List the modules
    ///
    /// Every module there is, and which of them this person has. Also answers at the address without the last slash.
    #[oai(path = "/", method = "get", operation_id = "listModules")]
    async fn list(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
    ) -> Result<Answer<Vec<ModuleData>>, Failure<ListErrors>> {
        let person = person(&context, credentials).await?;
        let language = Locale::of_request(request, None).tag();
        let all = modules::list(&context.app, &person).await?.into_iter();
        let data = all.map(|status| ModuleData::of(status, language));
        Ok(Answer::new("the modules", data.collect()))
    }

    /// Switch a module on
    ///
    /// A token got from now on (by a refresh, too) carries its scopes. Nothing happens where the person has it already.
    /// Also answers at the address with a slash at its end.
    #[oai(path = "/:module_id/enable", method = "post", operation_id = "enableModule")]
    async fn enable(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
        /// The module's id.
        module_id: Path<String>,
    ) -> Result<Answer<ModuleData>, Failure<SwitchErrors>> {
        switch(&context, credentials, request, &module_id, true).await
    }

    /// Switch a module off
    ///
    /// Tokens that carry its scopes are refused from now on; after a refresh they go on without. Nothing happens where the
    /// person does not have it. Also answers at the address with a slash at its end.
    #[oai(path = "/:module_id/disable", method = "post", operation_id = "disableModule")]
    async fn disable(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
        /// The module's id.
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
    on: bool,
) -> Result<Answer<ModuleData>, Failure<SwitchErrors>> {
    let person = person(context, credentials).await?;
    let by = Actor::caller(&person, &context.caller);
    let status = modules::switch(&context.app, &person, module_id, on, &by).await?;
    let language = Locale::of_request(request, None).tag();
    let message = if on { "the module is on" } else { "the module is off" };
    Ok(Answer::new(message, ModuleData::of(status, language)))
}

/// Whose token it is: a person's, and one of our own applications', which alone speak for their whole account.
async fn person(context: &Context, credentials: Credentials) -> Result<String, ApiError> {
    let token = credentials.access_token.ok_or(Error::NoToken)?;
    let verified = verify::verify(&context.app, &token).await?;
    let claims = &verified.claims;
    if !client::is_built_in(&claims.client_id) {
        return Err(ApiError {
            challenge: Some("Bearer error=\"insufficient_scope\"".to_owned()),
            ..ApiError::new(
                ErrorCode::InsufficientScope,
                "only people themselves switch modules: log in at this server",
            )
        });
    }
    Ok(claims.sub.clone())
}

//! `/auth/*`: deprecated aliases of `/api/v1/auth` for existing clients.

use poem_openapi::OpenApi;

use super::{
    Tag,
    auth::{AuthApi, LoginErrors, LogoutErrors, RegisterErrors},
    data::{LoginRequest, LogoutRequest, Nothing, RegisterRequest, TokenData},
    health::{HealthApi, HealthData, HealthErrors},
};
use crate::http::{
    context::Context,
    failure::Failure,
    json::{Answer, Body},
    security::Credentials,
};

#[derive(Debug)]
pub struct LegacyApi;

#[OpenApi(prefix_path = "/auth", tag = "Tag::Legacy")]
impl LegacyApi {
    /// Register a user
    ///
    /// Deprecated: use `POST /api/v1/auth/register`.
    #[oai(path = "/register", method = "post", operation_id = "legacyRegister", deprecated)]
    async fn register(
        &self,
        context: Context,
        request: &poem::Request,
        body: Body<RegisterRequest>,
    ) -> Result<Answer<TokenData, 201>, Failure<RegisterErrors>> {
        AuthApi.register(context, request, body).await
    }

    /// Log in
    ///
    /// Deprecated: use `POST /api/v1/auth/login`.
    #[oai(path = "/login", method = "post", operation_id = "legacyLogin", deprecated)]
    async fn login(
        &self,
        context: Context,
        request: &poem::Request,
        body: Body<LoginRequest>,
    ) -> Result<Answer<TokenData>, Failure<LoginErrors>> {
        AuthApi.login(context, request, body).await
    }

    /// Log out
    ///
    /// Deprecated: use `POST /api/v1/auth/logout`.
    #[oai(path = "/logout", method = "post", operation_id = "legacyLogout", deprecated)]
    async fn logout(
        &self,
        context: Context,
        credentials: Credentials,
        body: Body<LogoutRequest>,
    ) -> Result<Answer<Nothing>, Failure<LogoutErrors>> {
        AuthApi.logout(context, credentials, body).await
    }

    /// Log out (DELETE)
    ///
    /// Deprecated: use `POST /api/v1/auth/logout`.
    #[oai(path = "/logout", method = "delete", operation_id = "legacyLogoutByDelete", deprecated)]
    async fn logout_by_delete(
        &self,
        context: Context,
        credentials: Credentials,
        body: Body<LogoutRequest>,
    ) -> Result<Answer<Nothing>, Failure<LogoutErrors>> {
        AuthApi.logout(context, credentials, body).await
    }

    /// Get the health of the server
    ///
    /// Deprecated: use `GET /api/v1/auth/health`.
    #[oai(path = "/health", method = "get", operation_id = "legacyGetHealth", deprecated)]
    async fn health(&self, context: Context) -> Result<Answer<HealthData>, Failure<HealthErrors>> {
        HealthApi.health(context).await
    }
}

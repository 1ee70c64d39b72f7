//! `/auth/*`: the paths, defaults and shapes that clients of the older auth service expect
//! (docs/migrating-from-auth-service.md). New clients use `/api/v1/auth`.

use poem::{
    IntoResponse, Response,
    http::{StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::{Example, Type},
};
use serde::{Deserialize, Serialize};

use super::{
    Tag,
    auth::{AuthApi, LoginErrors, LogoutErrors, RegisterErrors, Registered},
    data::{Delivery, LoginRequest, LogoutRequest, Nothing, RegisterRequest, TokenData},
    health::{self, HealthData, HealthErrors},
};
use crate::{
    api_error::{ApiError, ErrorCode},
    http::{
        context::Context,
        failure::Failure,
        json::{Answer, Body},
        security::Credentials,
    },
};

#[derive(Debug)]
pub struct LegacyApi;

/// The older clients never send `delivery` and expect cookies.
const fn cookie() -> Delivery {
    Delivery::Cookie
}

/// A registration by a client of the older service.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
struct LegacyRegisterRequest {
    /// The email address to log in with; not case-sensitive. At most 254 characters.
    #[oai(validator(max_length = 254))]
    email: String,
    /// An alternative login: 3 to 32 letters, digits, dots, hyphens and underscores; not
    /// case-sensitive.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    username: Option<String>,
    /// At most 1024 bytes, without control characters. The error names the rule that a weak
    /// password violates.
    password: String,
    /// How tokens are returned.
    #[serde(default = "cookie")]
    #[oai(default = "cookie")]
    delivery: Delivery,
}

impl Example for LegacyRegisterRequest {
    fn example() -> Self {
        let RegisterRequest { email, username, password, .. } = RegisterRequest::example();
        Self { email, username, password, delivery: cookie() }
    }
}

impl From<LegacyRegisterRequest> for RegisterRequest {
    fn from(request: LegacyRegisterRequest) -> Self {
        let LegacyRegisterRequest { email, username, password, delivery } = request;
        // The older service knows neither.
        let (invitation, accepted_terms) = (None, None);
        Self { email, username, password, invitation, accepted_terms, delivery }
    }
}

/// Login credentials from a client of the older service: a password and at least one of `login`,
/// `email` and `username`.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
struct LegacyLoginRequest {
    /// The email address or the username. Empty counts as absent.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    login: Option<String>,
    /// As `login`. Where several of the three are sent, all must be of one account.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    email: Option<String>,
    /// As `email`.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    username: Option<String>,
    /// The password.
    password: String,
    /// How tokens are returned.
    #[serde(default = "cookie")]
    #[oai(default = "cookie")]
    delivery: Delivery,
}

impl Example for LegacyLoginRequest {
    fn example() -> Self {
        let LoginRequest { login, password, .. } = LoginRequest::example();
        Self { login: None, email: login, username: None, password, delivery: cookie() }
    }
}

impl From<LegacyLoginRequest> for LoginRequest {
    fn from(request: LegacyLoginRequest) -> Self {
        let LegacyLoginRequest { login, email, username, password, delivery } = request;
        Self { login, email, username, password, delivery }
    }
}

/// The health of the server, for clients of the older service and of the envelope.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct HealthCheckResponse {
    /// The HTTP status code: 200, or 503 while the server is not ready.
    status: u16,
    /// The current time of the server (RFC 3339, UTC).
    timestamp: String,
    /// Seconds since the server was started.
    uptime: u64,
    /// Always `propusk`.
    service: String,
    /// The version of the server.
    version: String,
    /// What `status` means, in English. Not meant for parsing.
    message: String,
    /// The HTTP status code.
    status_code: u16,
    /// The same in words, as at `/api/v1/auth/health`.
    data: HealthData,
}

impl HealthCheckResponse {
    fn new((is_ready, data): (bool, HealthData)) -> Self {
        let status = if is_ready { 200 } else { 503 };
        let message = data.message.as_deref().unwrap_or("The server is healthy.");
        Self {
            status,
            timestamp: data.timestamp.clone(),
            uptime: data.uptime,
            service: data.service.clone(),
            version: data.version.clone(),
            message: message.to_owned(),
            status_code: status,
            data,
        }
    }
}

impl IntoResponse for HealthCheckResponse {
    fn into_response(self) -> Response {
        let Ok(body) = serde_json::to_vec(&self) else {
            let message = "internal server error: the response could not be serialized";
            return ApiError::new(ErrorCode::Internal, message).into_response();
        };
        let status = StatusCode::from_u16(self.status).unwrap_or_default();
        let response = Response::builder().status(status).content_type("application/json");
        match status {
            StatusCode::SERVICE_UNAVAILABLE => response.header(header::RETRY_AFTER, "2").body(body),
            _ => response.body(body),
        }
    }
}

impl ApiResponse for HealthCheckResponse {
    fn meta() -> MetaResponses {
        let response = |status, description| MetaResponse {
            description,
            status: Some(status),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: "application/json",
                schema: Self::schema_ref(),
            }],
            headers: vec![],
        };
        MetaResponses {
            responses: vec![
                response(200, "The server is ready."),
                response(503, "The database is unavailable, or no key can sign."),
            ],
        }
    }

    fn register(registry: &mut Registry) {
        <Self as Type>::register(registry);
    }
}

#[OpenApi(prefix_path = "/auth", tag = "Tag::Legacy")]
impl LegacyApi {
    /// Register a user
    ///
    /// Deprecated: use `POST /api/v1/auth/register`. Without `delivery`, the tokens are set as
    /// cookies here.
    #[oai(path = "/register", method = "post", operation_id = "legacyRegister", deprecated)]
    async fn register(
        &self,
        context: Context,
        request: &poem::Request,
        body: Body<LegacyRegisterRequest>,
    ) -> Result<Registered, Failure<RegisterErrors>> {
        AuthApi.register(context, request, Body(body.0.into())).await
    }

    /// Log in
    ///
    /// Deprecated: use `POST /api/v1/auth/login`. Without `delivery`, the tokens are set as cookies
    /// here.
    #[oai(path = "/login", method = "post", operation_id = "legacyLogin", deprecated)]
    async fn login(
        &self,
        context: Context,
        request: &poem::Request,
        body: Body<LegacyLoginRequest>,
    ) -> Result<Answer<TokenData>, Failure<LoginErrors>> {
        AuthApi.login(context, request, Body(body.0.into())).await
    }

    /// Log out
    ///
    /// Deprecated: use `POST /api/v1/auth/logout`.
    #[oai(path = "/logout", method = "post", operation_id = "legacyLogout", deprecated)]
    async fn logout(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
        body: Body<LogoutRequest>,
    ) -> Result<Answer<Nothing>, Failure<LogoutErrors>> {
        AuthApi.logout(context, credentials, request, body).await
    }

    /// Log out (DELETE)
    ///
    /// Deprecated: use `POST /api/v1/auth/logout`.
    #[oai(path = "/logout", method = "delete", operation_id = "legacyLogoutByDelete", deprecated)]
    async fn logout_by_delete(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
        body: Body<LogoutRequest>,
    ) -> Result<Answer<Nothing>, Failure<LogoutErrors>> {
        AuthApi.logout(context, credentials, request, body).await
    }

    /// Get the health of the server
    ///
    /// Deprecated: use `GET /api/v1/auth/health`, or `GET /api/v1/auth/health/ready` for the status
    /// code.
    #[oai(path = "/health", method = "get", operation_id = "legacyGetHealth", deprecated)]
    async fn health(&self, context: Context) -> Result<HealthCheckResponse, Failure<HealthErrors>> {
        Ok(HealthCheckResponse::new(health::check(&context).await))
    }
}

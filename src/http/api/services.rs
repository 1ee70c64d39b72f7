//! `/api/v1/services`: tokens of customer services for back ends, their data for users, and the
//! accounts that users have connected there.

use poem_openapi::{NewType, Object, OpenApi, param::Path, types::Example};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Tag,
    data::{Nothing, TokenType},
    tokens::{BackEndOf, named},
};
use crate::{
    api_error::{ApiError, ErrorCode},
    clock::Timestamp,
    error::Error,
    flows::{
        services::{self, connections, resources},
        tokens::verify,
    },
    http::{
        context::Context,
        failure::{Failure, codes},
        json::{Answer, Body},
        security::Credentials,
    },
    ids::UserId,
    model::actor::Actor,
};

#[derive(Debug)]
pub struct ServicesApi;

codes!(TokenErrors: Validation, MalformedJson, BadRequest, InvalidClient, InvalidToken, InsufficientScope,
    UnauthorizedClient, NotFound, ServiceNotConnected, RequestTimeout, TooLarge, UnsupportedMediaType, TooManyRequests,
    Internal, ServiceFailed, Unavailable, ServiceTimeout);
codes!(ResourceErrors: InvalidToken, InsufficientScope, NotFound, ServiceNotConnected, RequestTimeout, Internal,
    ServiceFailed, Unavailable, ServiceTimeout);
codes!(ListErrors: InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);
codes!(RemoveErrors: InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout, Internal, Unavailable);

#[OpenApi(prefix_path = "/api/v1/services", tag = "Tag::Services")]
impl ServicesApi {
    /// Get a token of a service
    ///
    /// For back ends that `services.NAME.clients` names: a valid access token of the service, from
    /// the cache or a new one. Never for browsers.
    #[oai(path = "/:name/token", method = "post", operation_id = "getServiceToken")]
    async fn token(
        &self,
        back_end: BackEndOf<Services>,
        /// The name of the service.
        name: Path<String>,
        body: Body<ServiceTokenRequest>,
    ) -> Result<Answer<ServiceToken>, Failure<TokenErrors>> {
        let BackEndOf { app, known, .. } = &back_end;
        let user_id = body.0.user_id.map(UserId::from);
        let issued = services::token_for_client(app, &known.client, &name, user_id.as_ref()).await;
        let issued = issued.map_err(named)?;
        let data = ServiceToken {
            access_token: issued.access_token,
            token_type: TokenType::Bearer,
            expires_in: issued.expires_in.as_secs(),
        };
        Ok(Answer::new("Token of the service.", data))
    }

    /// Read a resource of a service
    ///
    /// What the service says of the current user: the fields that the operator has listed, and
    /// nothing else. A field that is missing, or has another type, is null.
    #[oai(
        path = "/:name/resources/:resource",
        method = "get",
        operation_id = "readServiceResource"
    )]
    async fn resource(
        &self,
        context: Context,
        credentials: Credentials,
        /// The name of the service.
        name: Path<String>,
        /// The name of the resource.
        resource: Path<String>,
    ) -> Result<Answer<ServiceFields>, Failure<ResourceErrors>> {
        let token = credentials.access_token.ok_or(Error::NoToken)?;
        let verified = verify::verify(&context.app, &token).await?;
        let fields = resources::read(&context.app, &name, &resource, &verified).await?;
        Ok(Answer::new("Fields of the service.", ServiceFields(Value::clone(&fields))))
    }

    /// List connections
    ///
    /// The services at which users can connect an account, and whether the current user has. To
    /// connect one, send the browser to `/services/NAME/connect`.
    #[oai(path = "/", method = "get", operation_id = "listServiceConnections")]
    async fn list(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<Vec<ConnectionData>>, Failure<ListErrors>> {
        let user_id = credentials.account(&context.app).await?.claims.account_user();
        let all = connections::of_user(&context.app, &user_id).await?.into_iter();
        let data = all.map(|one| ConnectionData {
            connect_url: format!("/services/{}/connect", one.service),
            service: one.service,
            connected_at: one.connected_at.map(Timestamp::rfc3339),
        });
        Ok(Answer::new("Connections listed.", data.collect()))
    }

    /// Remove a connection
    ///
    /// Deletes the tokens of the current user's account at the service.
    #[oai(path = "/:name/connection", method = "delete", operation_id = "removeServiceConnection")]
    async fn remove(
        &self,
        context: Context,
        credentials: Credentials,
        /// The name of the service.
        name: Path<String>,
    ) -> Result<Answer<Nothing>, Failure<RemoveErrors>> {
        let user_id = credentials.account(&context.app).await?.claims.account_user();
        let actor = Actor::caller(&user_id, &context.caller);
        connections::remove(&context.app, &name, &user_id, &actor).await?;
        Ok(Answer::new("Connection removed.", Nothing {}))
    }
}

/// The back ends of these operations: see `BackEndOf`.
#[derive(Debug)]
pub struct Services;

impl super::tokens::BackEndScope for Services {
    const SCOPE: &'static str = services::SCOPE;

    fn check(request: &poem::Request) -> Result<(), ApiError> {
        // Browsers send it with every POST.
        if ["origin", "sec-fetch-site"].iter().any(|name| request.headers().contains_key(*name)) {
            let why = "tokens of services are for back ends: a browser must not have them";
            return Err(ApiError::new(ErrorCode::UnauthorizedClient, why));
        }
        Ok(())
    }
}

/// A request for a token.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct ServiceTokenRequest {
    /// The id of the user, where the service has a token for each user.
    #[serde(default)]
    #[oai(default)]
    pub user_id: Option<String>,
}

/// A token of a service.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct ServiceToken {
    /// The access token of the service.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: TokenType,
    /// How long it is valid, in seconds.
    pub expires_in: u64,
}

impl Example for ServiceToken {
    fn example() -> Self {
        Self {
            access_token: "2YotnFZFEjr1zCsicMWpAA".to_owned(),
            token_type: TokenType::Bearer,
            expires_in: 3_540,
        }
    }
}

/// The listed fields of a resource, as an object.
#[derive(Debug, Serialize, Deserialize, NewType)]
#[serde(transparent)]
#[oai(example, from_parameter = false, from_multipart = false, to_header = false)]
pub struct ServiceFields(pub Value);

impl Example for ServiceFields {
    fn example() -> Self {
        Self(json!({ "name": "Vera", "contracts": [{ "number": "A-17" }] }))
    }
}

/// A service at which users connect an account.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "ServiceConnection", example)]
pub struct ConnectionData {
    /// The name of the service.
    pub service: String,
    /// When the user connected an account (RFC 3339, UTC); null if there is none.
    pub connected_at: Option<String>,
    /// The page at this server at which a browser connects an account.
    pub connect_url: String,
}

impl Example for ConnectionData {
    fn example() -> Self {
        Self {
            service: "crm".to_owned(),
            connected_at: Some("2026-11-21T04:22:00Z".to_owned()),
            connect_url: "/services/crm/connect".to_owned(),
        }
    }
}

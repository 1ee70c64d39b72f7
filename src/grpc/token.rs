//! `propusk.v1.TokenService`: tokens of the calling client.

use tonic::{Request, Response, Status};

use super::{
    edge::{Call, required},
    proto::v1::{
        IssueRequest, RefreshRequest, RevokeRequest, RevokeResponse, TokenResponse,
        ValidateRequest, ValidateResponse, token_service_server::TokenService,
    },
};
use crate::{
    flows::oauth::{
        introspect, revoke,
        token::{self, on_behalf_of::OnBehalfOfRequest},
    },
    model::client::GrantType,
    oauth::{
        error::OAuthError,
        scope::Scope,
        token_request::{RefreshTokenRequest, requested_scope},
    },
};

/// The most resources that a message may name.
const MOST_RESOURCES: usize = 100;

pub(super) struct Tokens;

#[tonic::async_trait]
impl TokenService for Tokens {
    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<TokenResponse>, Status> {
        let call = Call::of(&request)?;
        let message = request.into_inner();
        required(&call, "user_id", &message.user_id)?;
        let identity = call.identity()?;
        let request = OnBehalfOfRequest {
            user_id: message.user_id,
            scope: scope(&call, &message.scope)?,
            resources: resources(&call, message.resource)?,
        };
        let issued = token::on_behalf_of::issue(
            &call.app,
            &identity.client.client,
            &request,
            &identity.subject,
            &call.caller,
        )
        .await;
        let issued = issued.map_err(|error| call.refuse(error))?;
        Ok(Response::new(issued.into()))
    }

    async fn refresh(
        &self,
        request: Request<RefreshRequest>,
    ) -> Result<Response<TokenResponse>, Status> {
        let call = Call::of(&request)?;
        let message = request.into_inner();
        required(&call, "refresh_token", &message.refresh_token)?;
        let client = &call.identity()?.client.client;
        if !client.may(GrantType::RefreshToken) {
            let refused = "the client is not registered for this grant type";
            return Err(call.refuse(OAuthError::unauthorized_client(refused)));
        }
        let request = RefreshTokenRequest {
            refresh_token: message.refresh_token,
            scope: scope(&call, &message.scope)?,
            resources: resources(&call, message.resource)?,
        };
        let issued = token::refresh(&call.app, client, &request, &call.caller).await;
        let issued = issued.map_err(|error| call.refuse(error))?;
        Ok(Response::new(issued.into()))
    }

    async fn validate(
        &self,
        request: Request<ValidateRequest>,
    ) -> Result<Response<ValidateResponse>, Status> {
        let call = Call::of(&request)?;
        let message = request.into_inner();
        required(&call, "token", &message.token)?;
        let client = &call.identity()?.client.client;
        let introspection = introspect::introspect(&call.app, client, &message.token).await;
        let introspection = introspection.map_err(|error| call.refuse(error))?;
        Ok(Response::new(introspection.into()))
    }

    async fn revoke(
        &self,
        request: Request<RevokeRequest>,
    ) -> Result<Response<RevokeResponse>, Status> {
        let call = Call::of(&request)?;
        let message = request.into_inner();
        required(&call, "token", &message.token)?;
        let client = &call.identity()?.client.client;
        let revoked = revoke::revoke(&call.app, client, &message.token, &call.caller).await;
        revoked.map_err(|error| call.refuse(error))?;
        Ok(Response::new(RevokeResponse {}))
    }
}

/// The requested scope; an empty one counts as absent.
fn scope(call: &Call, text: &str) -> Result<Option<Scope>, Status> {
    requested_scope(Some(text)).map_err(|error| call.refuse(error))
}

/// The named resources; an empty name counts as absent.
fn resources(call: &Call, mut named: Vec<String>) -> Result<Vec<String>, Status> {
    named.retain(|name| !name.is_empty());
    if named.len() > MOST_RESOURCES {
        return Err(call.refuse(OAuthError::invalid_target("too many resources")));
    }
    Ok(named)
}

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
    flows::oauth::{introspect, revoke, token},
    model::client::GrantType,
    oauth::{error::OAuthError, params::Params},
};

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
        let pairs = optional("scope", message.scope).chain(resources(message.resource));
        let issued = token::on_behalf_of::issue(
            &call.app,
            &identity.client.client,
            &message.user_id,
            &params(&call, pairs)?,
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
            let refused = "the client is not registered for the grant type refresh_token";
            return Err(call.refuse(OAuthError::unauthorized_client(refused)));
        }
        let pairs = optional("refresh_token", message.refresh_token)
            .chain(optional("scope", message.scope))
            .chain(resources(message.resource));
        let params = params(&call, pairs)?;
        let issued = token::refresh(&call.app, client, &params, &call.caller).await;
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

fn optional(name: &str, value: String) -> impl Iterator<Item = (String, String)> + use<> {
    let name = name.to_owned();
    std::iter::once((name, value))
}

fn resources(values: Vec<String>) -> impl Iterator<Item = (String, String)> {
    values.into_iter().map(|one| ("resource".to_owned(), one))
}

/// The parameters as for the token endpoint; an empty value counts as omitted.
fn params(call: &Call, pairs: impl Iterator<Item = (String, String)>) -> Result<Params, Status> {
    let read = Params::of(pairs);
    read.map_err(|why| call.refuse(OAuthError::invalid_request(why)))
}

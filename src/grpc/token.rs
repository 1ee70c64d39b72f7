//! `propusk.v1.TokenService`

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
        let asked = request.into_inner();
        required(&call, "user_id", &asked.user_id)?;
        let identity = call.identity()?;
        let pairs = optional("scope", asked.scope).chain(resources(asked.resource));
        let issued = token::on_behalf_of::issue(
            &call.app,
            &identity.client.client,
            &asked.user_id,
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
        let asked = request.into_inner();
        required(&call, "refresh_token", &asked.refresh_token)?;
        let client = &call.identity()?.client.client;
        if !client.may(GrantType::RefreshToken) {
            let refused = "this client was not registered for refresh tokens";
            return Err(call.refuse(OAuthError::unauthorized_client(refused)));
        }
        let pairs = optional("refresh_token", asked.refresh_token)
            .chain(optional("scope", asked.scope))
            .chain(resources(asked.resource));
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
        let asked = request.into_inner();
        required(&call, "token", &asked.token)?;
        let client = &call.identity()?.client.client;
        let told = introspect::introspect(&call.app, client, &asked.token).await;
        let told = told.map_err(|error| call.refuse(error))?;
        Ok(Response::new(told.into()))
    }

    async fn revoke(
        &self,
        request: Request<RevokeRequest>,
    ) -> Result<Response<RevokeResponse>, Status> {
        let call = Call::of(&request)?;
        let asked = request.into_inner();
        required(&call, "token", &asked.token)?;
        let client = &call.identity()?.client.client;
        let revoked = revoke::revoke(&call.app, client, &asked.token, &call.caller).await;
        revoked.map_err(|error| call.refuse(error))?;
        Ok(Response::new(RevokeResponse {}))
    }
}

fn optional(name: &str, value: String) -> impl Iterator<Item = (String, String)> + use<> {
    let name = name.to_owned();
    std::iter::once((name, value))
}

fn resources(named: Vec<String>) -> impl Iterator<Item = (String, String)> {
    named.into_iter().map(|one| ("resource".to_owned(), one))
}

/// The same parameters that the token endpoint takes; an empty one counts as absent.
fn params(call: &Call, pairs: impl Iterator<Item = (String, String)>) -> Result<Params, Status> {
    let read = Params::of(pairs);
    read.map_err(|why| call.refuse(OAuthError::invalid_request(why)))
}

//! `propusk.v1.TokenService`: tokens of the calling client.

use tonic::{Request, Response, Status};

use super::{
    edge::{Call, required},
    proto::v1::{
        IssueRequest, RefreshRequest, RevokeRequest, RevokeResponse, TokenResponse,
        ValidateRequest, ValidateResponse, issue_request, revoke_request::What,
        token_service_server::TokenService,
    },
};
use crate::{
    api_error::ApiError,
    flows::{
        oauth::{
            introspect, revoke,
            token::{
                self,
                on_behalf_of::{OnBehalfOfRequest, RequestedUser},
            },
        },
        tokens::external_user::ExternalLogin,
    },
    model::{actor::Actor, session::ExternalUser},
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
        let mut message = request.into_inner();
        let identity = call.identity()?;
        let resources = resources(&call, std::mem::take(&mut message.resource))?;
        let scope = scope(&call, &message.scope)?;
        let request = OnBehalfOfRequest { user: requested_user(&call, message)?, scope, resources };
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
        let what = request.into_inner().what.unwrap_or_else(|| What::Token(String::new()));
        let identity = call.identity()?;
        let (app, client) = (&call.app, &identity.client.client);
        let actor = Actor::caller(&identity.subject, &call.caller);
        let revoked = match what {
            What::Token(token) => {
                required(&call, "token", &token)?;
                revoke::revoke(app, client, &token, &call.caller).await
            }
            What::SessionId(id) => {
                required(&call, "session_id", &id)?;
                revoke::revoke_session(app, client, &id.into(), &actor).await
            }
            What::Subject(id) => {
                required(&call, "subject", &id)?;
                revoke::revoke_subject(app, client, &id, &actor).await
            }
        };
        revoked.map_err(|error| call.refuse(error))?;
        Ok(Response::new(RevokeResponse {}))
    }
}

/// The user of a request. What describes a user is for those whom the client keeps itself: an
/// account is described here.
fn requested_user(call: &Call, message: IssueRequest) -> Result<RequestedUser, Status> {
    let of_external = [
        ("email", message.email.is_some()),
        ("email_verified", message.email_verified.is_some()),
        ("username", message.username.is_some()),
        ("role", message.role.is_some()),
        ("auth_time", message.auth_time.is_some()),
        ("amr", !message.amr.is_empty()),
        ("acr", message.acr.is_some()),
        ("modules", !message.modules.is_empty()),
    ];
    match message.person {
        Some(issue_request::Person::Subject(id)) => {
            required(call, "subject", &id)?;
            Ok(RequestedUser::External(Box::new(ExternalLogin {
                user: ExternalUser {
                    id,
                    email: message.email,
                    email_verified: message.email_verified.unwrap_or_default(),
                    username: message.username,
                    role: message.role,
                    modules: message.modules,
                },
                auth_time: message.auth_time,
                amr: message.amr,
                acr: message.acr,
            })))
        }
        person => {
            let id = match person {
                Some(issue_request::Person::UserId(id)) => id,
                _ => String::new(),
            };
            required(call, "user_id", &id)?;
            match of_external.into_iter().find(|(_, is_given)| *is_given) {
                None => Ok(RequestedUser::Account(id.into())),
                Some((field, _)) => {
                    Err(call.refuse(ApiError::field(field, "must be given with `subject` only")))
                }
            }
        }
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

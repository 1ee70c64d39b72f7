//! `propusk.v1.UserService`: users, except administrators.

use tonic::{Code, Request, Response, Status};

use super::{
    edge::{Call, required},
    proto::v1::{
        self, CreateUserRequest, DeleteUserRequest, DeleteUserResponse, DisableUserRequest,
        EnableUserRequest, FindUserRequest, GetUserRequest, VerifyPasswordRequest,
        find_user_request::Login as LoginField, user_service_server::UserService,
    },
};
use crate::{
    api_error::ApiError,
    error::Error,
    flows::{
        accounts::{login, register::Registration},
        admin::{access::Precondition, users},
    },
    model::{
        actor::Actor,
        user::{Email, Login, Role, User, UserRecord, Username},
    },
};

pub(super) struct Users;

#[tonic::async_trait]
impl UserService for Users {
    async fn get(&self, request: Request<GetUserRequest>) -> Result<Response<v1::User>, Status> {
        let call = Call::of(&request)?;
        let user = user_by_id(&call, &request.get_ref().id).await?;
        Ok(Response::new(user.into()))
    }

    async fn find(&self, request: Request<FindUserRequest>) -> Result<Response<v1::User>, Status> {
        let call = Call::of(&request)?;
        let login = match request.into_inner().login {
            Some(LoginField::Email(email)) => {
                Email::parse(&email).map(|email| Login::Email(email.canonical))
            }
            Some(LoginField::Username(name)) => {
                Username::parse(&name).map(|name| Login::Username(name.canonical))
            }
            Some(LoginField::ExternalId(id)) => {
                let found = users::by_external_id(&call.app, &id).await;
                return Ok(Response::new(found.map_err(|error| call.refuse(error))?.into()));
            }
            None => {
                let message = "must have `email`, `username` or `external_id`";
                return Err(call.refuse(ApiError::field("login", message)));
            }
        };
        // No user can have an invalid email address or username.
        let found = match login {
            Ok(login) => users::by_login(&call.app, &login).await,
            Err(_) => Err(Error::NotFound("user")),
        };
        let user = found.map_err(|error| call.refuse(error))?;
        Ok(Response::new(user.into()))
    }

    async fn create(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<v1::User>, Status> {
        let call = Call::of(&request)?;
        let message = request.into_inner();
        let registration = Registration {
            email: message.email,
            username: Some(message.username).filter(|name| !name.is_empty()),
            password: message.password,
        };
        let created =
            users::create(&call.app, registration, Role::user(), None, &actor(&call)?).await;
        let created = created.map_err(|error| call.refuse(error))?;
        Ok(Response::new(created.resource.into()))
    }

    async fn delete(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let call = Call::of(&request)?;
        let user = user_to_change(&call, &request.get_ref().id).await?;
        let removed = users::delete(&call.app, &user.id, &Precondition::Any, &actor(&call)?).await;
        removed.map_err(|error| call.refuse(error))?;
        Ok(Response::new(DeleteUserResponse {}))
    }

    async fn disable(
        &self,
        request: Request<DisableUserRequest>,
    ) -> Result<Response<v1::User>, Status> {
        let call = Call::of(&request)?;
        let user = user_to_change(&call, &request.get_ref().id).await?;
        let disabled = users::disable(&call.app, &user.id, &actor(&call)?).await;
        let account = disabled.map_err(|error| call.refuse(error))?;
        Ok(Response::new(account.into()))
    }

    async fn enable(
        &self,
        request: Request<EnableUserRequest>,
    ) -> Result<Response<v1::User>, Status> {
        let call = Call::of(&request)?;
        let user = user_to_change(&call, &request.get_ref().id).await?;
        let enabled = users::enable(&call.app, &user.id, &actor(&call)?).await;
        let account = enabled.map_err(|error| call.refuse(error))?;
        Ok(Response::new(account.into()))
    }

    async fn verify_password(
        &self,
        request: Request<VerifyPasswordRequest>,
    ) -> Result<Response<v1::User>, Status> {
        let call = Call::of(&request)?;
        let VerifyPasswordRequest { login, password, code } = request.get_ref();
        required(&call, "login", login)?;
        required(&call, "password", password)?;
        let (code, actor) = (code.as_deref(), actor(&call)?);
        let verified = login::verify_password(&call.app, login, password, code, &actor).await;
        let user = verified.map_err(|error| call.refuse(error))?;
        Ok(Response::new(user.into()))
    }
}

/// The caller as the actor of audit entries.
fn actor(call: &Call) -> Result<Actor, Status> {
    Ok(Actor::caller(&call.identity()?.subject, &call.caller))
}

async fn user_by_id(call: &Call, id: &str) -> Result<UserRecord, Status> {
    required(call, "id", id)?;
    let found = users::by_id(&call.app, &id.into()).await;
    found.map_err(|error| call.refuse(error))
}

/// A user that this service may change. Administrators are excluded, so that a back end with
/// `propusk:users` cannot take over the server.
async fn user_to_change(call: &Call, id: &str) -> Result<User, Status> {
    let user = user_by_id(call, id).await?.user;
    if user.role == Role::admin() {
        let message = "administrators can only be changed by the admin API or the command line";
        return Err(call.refuse_with(Code::PermissionDenied, "ADMINISTRATOR", message));
    }
    Ok(user)
}

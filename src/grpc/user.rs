//! `propusk.v1.UserService`

use tonic::{Code, Request, Response, Status};

use super::{
    edge::{Call, required},
    proto::v1::{
        self, CreateUserRequest, DeleteUserRequest, DeleteUserResponse, DisableUserRequest,
        EnableUserRequest, FindUserRequest, GetUserRequest, find_user_request::Login as Named,
        user_service_server::UserService,
    },
};
use crate::{
    api_error::ApiError,
    error::Error,
    flows::{
        accounts::register::Registration,
        admin::{access::Expected, users},
    },
    model::{
        actor::Actor,
        user::{Email, Login, Role, User, Username},
    },
};

pub(super) struct Users;

#[tonic::async_trait]
impl UserService for Users {
    async fn get(&self, request: Request<GetUserRequest>) -> Result<Response<v1::User>, Status> {
        let call = Call::of(&request)?;
        let user = account(&call, &request.get_ref().id).await?;
        Ok(Response::new(user.into()))
    }

    async fn find(&self, request: Request<FindUserRequest>) -> Result<Response<v1::User>, Status> {
        let call = Call::of(&request)?;
        let login = match request.into_inner().login {
            Some(Named::Email(email)) => {
                Email::parse(&email).map(|email| Login::Email(email.canonical))
            }
            Some(Named::Username(name)) => {
                Username::parse(&name).map(|name| Login::Username(name.canonical))
            }
            None => return Err(call.refuse(ApiError::field("login", "give email or username"))),
        };
        // What nobody can be called is nobody's.
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
        let asked = request.into_inner();
        let registration = Registration {
            email: asked.email,
            username: Some(asked.username).filter(|name| !name.is_empty()),
            password: asked.password,
        };
        let made = users::create(&call.app, registration, Role::user(), &by(&call)?).await;
        let user = made.map_err(|error| call.refuse(error))?;
        Ok(Response::new(user.into()))
    }

    async fn delete(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let call = Call::of(&request)?;
        let user = plain_account(&call, &request.get_ref().id).await?;
        let removed = users::delete(&call.app, &user.id, &Expected::Any, &by(&call)?).await;
        removed.map_err(|error| call.refuse(error))?;
        Ok(Response::new(DeleteUserResponse {}))
    }

    async fn disable(
        &self,
        request: Request<DisableUserRequest>,
    ) -> Result<Response<v1::User>, Status> {
        let call = Call::of(&request)?;
        let user = plain_account(&call, &request.get_ref().id).await?;
        if user.disabled_at.is_none() {
            let disabled = users::disable(&call.app, &user, &by(&call)?).await;
            disabled.map_err(|error| call.refuse(error))?;
        }
        Ok(Response::new(account(&call, &user.id).await?.into()))
    }

    async fn enable(
        &self,
        request: Request<EnableUserRequest>,
    ) -> Result<Response<v1::User>, Status> {
        let call = Call::of(&request)?;
        let user = plain_account(&call, &request.get_ref().id).await?;
        if user.disabled_at.is_some() {
            let enabled = users::enable(&call.app, &user, &by(&call)?).await;
            enabled.map_err(|error| call.refuse(error))?;
        }
        Ok(Response::new(account(&call, &user.id).await?.into()))
    }
}

/// Whoever calls, for the audit log.
fn by(call: &Call) -> Result<Actor, Status> {
    Ok(Actor::caller(&call.identity()?.subject, &call.caller))
}

async fn account(call: &Call, id: &str) -> Result<User, Status> {
    required(call, "id", id)?;
    let found = users::by_id(&call.app, id).await;
    found.map(|account| account.user).map_err(|error| call.refuse(error))
}

/// An account that this service may change: a back end that looks after people does not get at the administrators.
async fn plain_account(call: &Call, id: &str) -> Result<User, Status> {
    let user = account(call, id).await?;
    if user.role == Role::admin() {
        let message = "administrators are looked after by the admin API";
        return Err(call.refuse_with(Code::PermissionDenied, "ADMINISTRATOR", message));
    }
    Ok(user)
}

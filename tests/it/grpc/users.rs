//! `propusk.v1.UserService`

use propusk::{
    flows::admin::users,
    grpc::proto::v1::{
        CreateUserRequest, DeleteUserRequest, DisableUserRequest, EnableUserRequest,
        FindUserRequest, GetUserRequest, User, find_user_request::Login,
    },
    model::{actor::Actor, user::Role},
    storage::Statement,
};
use reqwest::StatusCode;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{back_end, id_of, issued, validate};
use crate::support::{
    Backend, PASSWORD, TestServer, backend_tests,
    grpc::{GrpcCaller, expect_refused},
};

/// A server with `ann`, and a caller that manages users.
async fn with_accounts(backend: Backend) -> (TestServer, GrpcCaller) {
    let server = TestServer::with_grpc(backend, &[]).await;
    server.register("ann").await;
    server.client("backend", back_end()).await;
    let caller = server.client_caller("backend", "propusk:users propusk:tokens").await;
    (server, caller)
}

fn new(email: &str, username: &str, password: &str) -> CreateUserRequest {
    CreateUserRequest {
        email: email.to_owned(),
        username: username.to_owned(),
        password: password.to_owned(),
    }
}

async fn get(caller: &GrpcCaller, id: &str) -> Result<User, Status> {
    let id = id.to_owned();
    Ok(caller.users().get(GetUserRequest { id }).await?.into_inner())
}

async fn find(caller: &GrpcCaller, login: Option<Login>) -> Result<User, Status> {
    let answer = caller.users().find(FindUserRequest { login }).await?;
    Ok(answer.into_inner())
}

async fn delete(caller: &GrpcCaller, id: &str) -> Result<(), Status> {
    let id = id.to_owned();
    caller.users().delete(DeleteUserRequest { id }).await?;
    Ok(())
}

async fn disable(caller: &GrpcCaller, id: &str) -> Result<User, Status> {
    let id = id.to_owned();
    let answer = caller.users().disable(DisableUserRequest { id }).await?;
    Ok(answer.into_inner())
}

async fn enable(caller: &GrpcCaller, id: &str) -> Result<User, Status> {
    let id = id.to_owned();
    let answer = caller.users().enable(EnableUserRequest { id }).await?;
    Ok(answer.into_inner())
}

/// The audit log of a subject, oldest first: action and actor.
async fn audit(server: &TestServer, subject: &str) -> Vec<(String, String)> {
    let statement =
        Statement::new("SELECT action, actor FROM audit_log WHERE subject = $1 ORDER BY number");
    let rows = server.app.db.read(statement.bind(subject)).await;
    let line = |row: &propusk::storage::Row| {
        (row.get("action").expect("text"), row.get("actor").expect("text"))
    };
    rows.expect("the log").iter().map(line).collect()
}

backend_tests! {
    a_back_end_manages_user_accounts,
    invalid_user_requests_name_the_field_or_reason,
    a_back_end_cannot_change_an_administrator,
}

async fn a_back_end_manages_user_accounts(backend: Backend) {
    let (server, caller) = with_accounts(backend).await;
    let created = caller
        .users()
        .create(new("Bob@Example.org", "bob", PASSWORD))
        .await
        .expect("made")
        .into_inner();
    assert_eq!(
        (created.email.as_str(), created.username.as_deref(), created.role.as_str()),
        ("Bob@Example.org", Some("bob"), "user")
    );
    assert_eq!((created.is_verified, &created.disabled_at), (false, &None));
    assert_eq!(created.created_at.expect("a moment").seconds, server.clock.now().as_secs());
    let before = server.login("bob").await.expect(StatusCode::OK).tokens();
    assert_eq!(get(&caller, &created.id).await.expect("there"), created);
    for login in [Login::Email("BOB@example.ORG".to_owned()), Login::Username("Bob".to_owned())] {
        assert_eq!(find(&caller, Some(login)).await.expect("found"), created);
    }

    let disabled = disable(&caller, &created.id).await.expect("disabled");
    assert!(disabled.disabled_at.is_some());
    assert_eq!(disable(&caller, &created.id).await.expect("it is"), disabled);
    server.verify(&before.access).await.expect(StatusCode::UNAUTHORIZED);
    server.login("bob").await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(enable(&caller, &created.id).await.expect("enabled"), created);
    server.login("bob").await.expect(StatusCode::OK);

    let tokens = issued(&caller, &created.id, "api:read").await;
    delete(&caller, &created.id).await.expect("removed");
    assert!(!validate(&caller, &tokens.access_token).await.active);
    expect_refused(get(&caller, &created.id).await, Code::NotFound, "NOT_FOUND");
    expect_refused(delete(&caller, &created.id).await, Code::NotFound, "NOT_FOUND");
    let of_backend: Vec<_> = audit(&server, &created.id)
        .await
        .into_iter()
        .filter(|(_, actor)| actor == "backend")
        .map(|(action, _)| action)
        .collect();
    assert_eq!(
        of_backend,
        ["user.add", "user.disabled", "user.enabled", "session.issue_on_behalf_of", "user.deleted"]
    );
}

async fn invalid_user_requests_name_the_field_or_reason(backend: Backend) {
    let (_server, caller) = with_accounts(backend).await;
    let status = expect_refused(
        caller.users().create(new("nobody", "a b", "short")).await,
        Code::InvalidArgument,
        "VALIDATION_ERROR",
    );
    let details = status.get_error_details();
    let fields: Vec<_> = details
        .bad_request()
        .expect("google.rpc.BadRequest")
        .field_violations
        .iter()
        .map(|one| one.field.clone())
        .collect();
    for field in ["email", "username", "password"] {
        assert!(fields.iter().any(|one| one == field), "{field}: {fields:?}");
    }
    expect_refused(
        caller.users().create(new("ANN@example.org", "", PASSWORD)).await,
        Code::AlreadyExists,
        "EMAIL_ALREADY_EXISTS",
    );
    expect_refused(
        caller.users().create(new("other@example.org", "Ann", PASSWORD)).await,
        Code::AlreadyExists,
        "USERNAME_ALREADY_EXISTS",
    );
    for anonymous in [
        Login::Email("nobody@example.org".to_owned()),
        Login::Username("nobody".to_owned()),
        Login::Username("ann@example.org".to_owned()),
        Login::Email("ann".to_owned()),
        Login::Email("a\0@example.org".to_owned()),
    ] {
        expect_refused(find(&caller, Some(anonymous)).await, Code::NotFound, "NOT_FOUND");
    }
    expect_refused(find(&caller, None).await, Code::InvalidArgument, "VALIDATION_ERROR");
    for anonymous in ["x", "a\0b"] {
        expect_refused(get(&caller, anonymous).await, Code::NotFound, "NOT_FOUND");
        expect_refused(delete(&caller, anonymous).await, Code::NotFound, "NOT_FOUND");
    }
}

async fn a_back_end_cannot_change_an_administrator(backend: Backend) {
    let (server, caller) = with_accounts(backend).await;
    let ann = users::find(&server.app, "ann").await.expect("known");
    users::set_role(&server.app, &ann.id, Role::admin(), &Actor::operator())
        .await
        .expect("changed");
    let id = id_of(&server, "ann").await;
    assert_eq!(get(&caller, &id).await.expect("to be seen").role, "admin");
    expect_refused(delete(&caller, &id).await, Code::PermissionDenied, "ADMINISTRATOR");
    expect_refused(disable(&caller, &id).await, Code::PermissionDenied, "ADMINISTRATOR");
    expect_refused(enable(&caller, &id).await, Code::PermissionDenied, "ADMINISTRATOR");
    server.login("ann").await.expect(StatusCode::OK);
}

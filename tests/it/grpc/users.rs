//! `propusk.v1.UserService`

use propusk::{
    flows::admin::users,
    grpc::proto::v1::{
        CreateUserRequest, DeleteUserRequest, DisableUserRequest, EnableUserRequest,
        FindUserRequest, GetUserRequest, User, VerifyPasswordRequest, find_user_request::Login,
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
    a_back_end_verifies_passwords,
    t61_guesses_by_verify_password_count_as_logins,
    t68_verify_password_tells_no_user_apart,
}

/// A server with `ann`, and a caller that may verify passwords and nothing else.
async fn with_verifier(backend: Backend, settings: &[(&str, &str)]) -> (TestServer, GrpcCaller) {
    let server = TestServer::with_grpc(backend, settings).await;
    server.register("ann").await;
    server.client("backend", back_end()).await;
    let caller = server.client_caller("backend", "propusk:users:verify").await;
    (server, caller)
}

async fn verify(caller: &GrpcCaller, login: &str, password: &str) -> Result<User, Status> {
    let (login, password) = (login.to_owned(), password.to_owned());
    let request = VerifyPasswordRequest { login, password, code: None };
    Ok(caller.users().verify_password(request).await?.into_inner())
}

async fn a_back_end_verifies_passwords(backend: Backend) {
    let (server, caller) = with_verifier(backend, &[]).await;
    let ann = id_of(&server, "ann").await;
    server.clock.advance(std::time::Duration::from_secs(60));
    for login in ["ann", " ANN ", "Ann@Example.ORG"] {
        let user = verify(&caller, login, PASSWORD).await.expect("right");
        assert_eq!((user.id.as_str(), user.email.as_str()), (ann.as_str(), "ann@example.org"));
    }
    let verified = audit(&server, &ann).await;
    let verified =
        verified.iter().filter(|(action, by)| action == "user.verify_password" && by == "backend");
    assert_eq!(verified.count(), 3);
    let statement = Statement::new("SELECT last_login_at FROM users WHERE id = $1");
    let rows = server.app.db.read(statement.bind(ann.as_str())).await.expect("rows");
    assert_eq!(rows[0].get::<i64>("last_login_at").expect("a time"), server.clock.now().micros());
    // No session is opened.
    let sessions = Statement::new("SELECT count(*) AS n FROM sessions WHERE user_id = $1");
    let rows = server.app.db.read(sessions.bind(ann.as_str())).await.expect("rows");
    assert_eq!(rows[0].get::<i64>("n").expect("a number"), 1, "that of the registration");
    let wrong = verify(&caller, "ann", "not the password").await;
    expect_refused(wrong, Code::InvalidArgument, "INVALID_CREDENTIALS");
    let metrics = server.app.metrics.render();
    for line in ["{outcome=\"ok\"} 3", "{outcome=\"wrong_credentials\"} 1"] {
        let line = format!("propusk_logins_total{line}");
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    for (login, password, field) in [
        ("", PASSWORD, "login"),
        ("ann", "", "password"),
        ("ann", &"x".repeat(1025), "password"),
        (&"x".repeat(1025), PASSWORD, "login"),
    ] {
        let refused = verify(&caller, login, password).await.expect_err("a field is wrong");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(field), "{refused:?}");
    }
    // A hash by other parameters is renewed, as at a login.
    let hash = async || {
        let statement = Statement::new("SELECT password_hash FROM users WHERE id = $1");
        let rows = server.app.db.read(statement.bind(ann.as_str())).await.expect("rows");
        rows[0].get::<String>("password_hash").expect("a hash")
    };
    let before = hash().await;
    let settings =
        [("PROPUSK_GRPC__LISTEN", "127.0.0.1:0"), ("PROPUSK_PASSWORDS__ITERATIONS", "2")];
    let other = server.another(&settings).await;
    let at_other = other.client_caller("backend", "propusk:users:verify").await;
    verify(&at_other, "ann", PASSWORD).await.expect("right");
    assert_ne!(hash().await, before);
    verify(&caller, "ann", PASSWORD).await.expect("right");
    // A scope of its own.
    let manager = server.client_caller("backend", "propusk:users").await;
    let refused = verify(&manager, "ann", PASSWORD).await;
    expect_refused(refused, Code::PermissionDenied, "INSUFFICIENT_SCOPE");
}

async fn t61_guesses_by_verify_password_count_as_logins(backend: Backend) {
    let settings = [("PROPUSK_LIMITS__ENABLED", "true"), ("PROPUSK_LOGIN__WRONG_PASSWORDS", "4")];
    let (server, caller) = with_verifier(backend, &settings).await;
    let guesses = futures_util::future::join_all((0..20).map(|n| {
        let login = ["ann", "ANN", "ann@example.org", " Ann"][n % 4];
        verify(&caller, login, "a guess that is wrong")
    }));
    let mut refused: Vec<_> =
        guesses.await.into_iter().map(|guess| guess.expect_err("wrong").code()).collect();
    refused.retain(|code| *code == Code::InvalidArgument);
    // One may have been checked before it counted.
    assert!((4..=5).contains(&refused.len()), "one limit for all spellings: {}", refused.len());
    let limited = verify(&caller, "ann", PASSWORD).await.expect_err("limited");
    assert_eq!(limited.code(), Code::ResourceExhausted);
    assert!(limited.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));
    server.login("ann").await.expect(StatusCode::TOO_MANY_REQUESTS);
    server.register("bob").await;
    verify(&caller, "bob", PASSWORD).await.expect("another account");
    server.clock.advance(std::time::Duration::from_secs(10));
    verify(&caller, "ann", PASSWORD).await.expect("right");
}

async fn t68_verify_password_tells_no_user_apart(backend: Backend) {
    let (server, caller) = with_verifier(backend, &[]).await;
    server.register("bob").await;
    let bob = id_of(&server, "bob").await;
    users::disable(&server.app, &bob.as_str().into(), &Actor::operator()).await.expect("disabled");
    let mut messages = std::collections::BTreeSet::new();
    for (login, password) in [
        ("ann", "a guess that is wrong"),
        ("nora", PASSWORD),
        ("nora@example.org", PASSWORD),
        ("bob", PASSWORD),
        ("bob", "a guess that is wrong"),
    ] {
        let before = server.app.hasher.hashes();
        let refused = verify(&caller, login, password).await;
        assert_eq!(server.app.hasher.hashes() - before, 1, "{login}: one hash");
        messages.insert(refused.as_ref().expect_err("refused").message().to_owned());
        expect_refused(refused, Code::InvalidArgument, "INVALID_CREDENTIALS");
    }
    assert_eq!(messages.len(), 1, "{messages:?}");
    let verified = audit(&server, &bob).await;
    assert!(!verified.iter().any(|(action, _)| action == "user.verify_password"), "{verified:?}");
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

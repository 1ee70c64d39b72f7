//! The gRPC listener: who may call what, what authenticates a caller, and that a revoked session is
//! refused at once.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut};
use propusk::{
    flows::admin::users,
    grpc::{
        METHODS,
        proto::v1::{
            IssueRequest, RefreshRequest, TokenResponse, ValidateRequest, ValidateResponse,
            issue_request::Person,
        },
    },
    model::{actor::Actor, user::Role},
};
use reqwest::StatusCode;
use serde_json::json;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::{
    grpc::{back_end, methods},
    support::{
        Backend, TestServer, backend_tests,
        grpc::{GrpcCaller, expect_refused},
        oauth::{first_party_app, payload},
    },
};

/// Nobody; a user by their first-party token; a client without the scope; a back end with it; an
/// administrator by their first-party token; an administrator's token issued to the back end.
const CALLERS: [&str; 6] = ["", "ann", "app", "backend", "root", "root at backend"];

const OPEN: [Code; 6] = [Code::Ok; 6];

/// For callers with the scope; `code` is the result of an empty message.
const fn guarded(code: Code) -> [Code; 6] {
    use Code::{PermissionDenied, Unauthenticated};
    let no = PermissionDenied;
    [Unauthenticated, no, no, code, no, code]
}

/// Every method, and the result of an empty message from each of [`CALLERS`].
const TABLE: &[(&str, [Code; 6])] = &[
    ("/propusk.v1.TokenService/Issue", guarded(Code::InvalidArgument)),
    ("/propusk.v1.TokenService/Refresh", guarded(Code::InvalidArgument)),
    ("/propusk.v1.TokenService/Validate", guarded(Code::InvalidArgument)),
    ("/propusk.v1.TokenService/Revoke", guarded(Code::InvalidArgument)),
    ("/propusk.v1.UserService/Get", guarded(Code::InvalidArgument)),
    ("/propusk.v1.UserService/Find", guarded(Code::InvalidArgument)),
    ("/propusk.v1.UserService/Create", guarded(Code::InvalidArgument)),
    ("/propusk.v1.UserService/Delete", guarded(Code::InvalidArgument)),
    ("/propusk.v1.UserService/Disable", guarded(Code::InvalidArgument)),
    ("/propusk.v1.UserService/Enable", guarded(Code::InvalidArgument)),
    ("/propusk.v1.UserService/VerifyPassword", guarded(Code::InvalidArgument)),
    ("/propusk.v1.RevocationService/Watch", guarded(Code::Ok)),
    ("/propusk.v1.ServiceTokens/Get", guarded(Code::InvalidArgument)),
    ("/envoy.service.auth.v3.Authorization/Check", guarded(Code::InvalidArgument)),
    ("/grpc.health.v1.Health/Check", OPEN),
    ("/grpc.health.v1.Health/Watch", OPEN),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", OPEN),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", OPEN),
];

/// Messages as raw bytes, of any type.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; from.remaining()];
        from.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

/// Sends an empty message; the response of every method begins like a stream's.
async fn call(caller: &GrpcCaller, path: &'static str) -> Result<(), Status> {
    let mut grpc = Grpc::new(caller.channel.clone());
    grpc.ready().await.expect("connected");
    let mut request = Request::new(vec![]);
    caller.sign(&mut request);
    let path = http::uri::PathAndQuery::from_static(path);
    let answer = grpc.server_streaming(request, path, Raw).await;
    answer.map(|_| ())
}

/// A server where `ann` is a user, `root` an administrator, `app` a client, and `backend` may call
/// everything.
async fn with_all_callers(backend: Backend) -> TestServer {
    let server = TestServer::with_grpc(backend, &[]).await;
    server.client("app", first_party_app()).await;
    server.client("backend", back_end()).await;
    server.register("ann").await;
    // One administrator must stay.
    for name in ["root", "another"] {
        server.register(name).await;
        let user = users::find(&server.app, name).await.expect("known");
        users::set_role(&server.app, &user.id, Role::admin(), &Actor::operator())
            .await
            .expect("changed");
    }
    // Tokens issued in the second of a role change count as old.
    server.clock.advance(std::time::Duration::from_secs(2));
    server
}

async fn issued(server: &TestServer, name: &str, scope: &str) -> Result<TokenResponse, Status> {
    let backend = server.client_caller("backend", "propusk:tokens").await;
    let user = users::find(&server.app, name).await.expect("known");
    let person = Some(Person::UserId(user.id.into()));
    let request = IssueRequest { person, scope: scope.to_owned(), ..IssueRequest::default() };
    Ok(backend.tokens().issue(request).await?.into_inner())
}

async fn caller(server: &TestServer, name: &str) -> GrpcCaller {
    match name {
        "" => server.anonymous().await,
        "app" => server.client_caller("app", "api:read").await,
        "backend" => server.client_caller("backend", &all()).await,
        "root at backend" => {
            let tokens = issued(server, "root", &all()).await.expect("issued");
            server.caller(&tokens.access_token).await
        }
        user => {
            let tokens = server.login(user).await.tokens();
            server.caller(&tokens.access).await
        }
    }
}

fn all() -> String {
    let scopes: BTreeSet<&str> = METHODS.iter().filter_map(|method| method.scope).collect();
    scopes.into_iter().collect::<Vec<_>>().join(" ")
}

backend_tests! {
    t108_an_on_behalf_of_session_satisfies_no_step_up,
    t82_every_method_answers_every_caller_per_the_table,
    t82_a_user_token_needs_the_admin_role_for_a_service,
    t32_revoked_sessions_are_refused_by_the_next_grpc_call,
    t89_identity_metadata_has_no_effect,
}

async fn t82_every_method_answers_every_caller_per_the_table(backend: Backend) {
    let server = with_all_callers(backend).await;
    let mut wrong = vec![];
    for name in CALLERS {
        let caller = caller(&server, name).await;
        for (path, expected) in TABLE {
            let expected = expected[CALLERS.iter().position(|one| *one == name).expect("a caller")];
            let answer = call(&caller, path).await;
            let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
            if code != expected {
                wrong.push(format!("{path} as {name:?}: {code:?} and not {expected:?}"));
            }
            let scope =
                METHODS.iter().find(|method| method.path == *path).and_then(|method| method.scope);
            if let (Code::PermissionDenied, Some(scope), Err(status)) = (code, scope, answer) {
                assert!(status.message().contains(scope), "{status:?}");
                expect_refused(Err::<(), _>(status), code, "INSUFFICIENT_SCOPE");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // One scope opens its own service and no other.
    for scope in all().split(' ') {
        let caller = server.client_caller("backend", scope).await;
        for method in METHODS {
            let answer = call(&caller, method.path).await;
            let refused = answer.is_err_and(|status| status.code() == Code::PermissionDenied);
            assert_eq!(
                refused,
                method.scope.is_some_and(|needed| needed != scope),
                "{} with {scope}",
                method.path
            );
        }
    }
}

async fn t82_a_user_token_needs_the_admin_role_for_a_service(backend: Backend) {
    let server = with_all_callers(backend).await;
    let nobodys = issued(&server, "ann", "propusk:tokens api:read").await.expect("issued");
    assert_eq!(nobodys.scope, "api:read");
    let tokens = issued(&server, "root", "propusk:tokens").await.expect("issued");
    let root = server.caller(&tokens.access_token).await;
    let ask = || async { root.tokens().validate(ValidateRequest { token: "x".to_owned() }).await };
    ask().await.expect("an answer");
    let user = users::find(&server.app, "root").await.expect("known");
    users::set_role(&server.app, &user.id, Role::user(), &Actor::operator())
        .await
        .expect("changed");
    expect_refused(ask().await, Code::Unauthenticated, "INVALID_TOKEN");
}

async fn t32_revoked_sessions_are_refused_by_the_next_grpc_call(backend: Backend) {
    let server = with_all_callers(backend).await;
    let backend = server.client_caller("backend", "propusk:tokens").await;
    let describe = |token: String| {
        let backend = backend.clone();
        async move {
            backend
                .tokens()
                .validate(ValidateRequest { token })
                .await
                .expect("an answer")
                .into_inner()
        }
    };
    server
        .change_client("backend", |client| {
            client.metadata.introspection_audiences = vec!["*".to_owned()];
        })
        .await;
    let by_login = server.login("ann").await.tokens();
    assert!(describe(by_login.access.clone()).await.active);
    server.post_as("/api/v1/auth/logout", &by_login.access).await.expect(StatusCode::OK);
    assert_eq!(describe(by_login.access).await, ValidateResponse::default(), "logged out");

    let on_behalf = issued(&server, "ann", "api:read").await.expect("issued");
    server.verify(&on_behalf.access_token).await.expect(StatusCode::OK);
    let ann = users::find(&server.app, "ann").await.expect("known");
    users::disable(&server.app, &ann.id, &Actor::operator()).await.expect("disabled");
    assert_eq!(
        describe(on_behalf.access_token.clone()).await,
        ValidateResponse::default(),
        "disabled"
    );
    server.verify(&on_behalf.access_token).await.expect(StatusCode::UNAUTHORIZED);

    // A disabled client is refused, whatever token it still has.
    server.change_client("app", |client| client.metadata.scope = back_end().scope).await;
    let app = server.client_caller("app", "propusk:tokens").await;
    let ask = || async { app.tokens().validate(ValidateRequest { token: "x".to_owned() }).await };
    ask().await.expect("an answer");
    propusk::flows::admin::clients::disable(&server.app, &"app".into(), &Actor::operator())
        .await
        .expect("disabled");
    expect_refused(ask().await, Code::Unauthenticated, "INVALID_TOKEN");
}

async fn t89_identity_metadata_has_no_effect(backend: Backend) {
    let server = with_all_callers(backend).await;
    let token = server.client_token("backend", "propusk:tokens").await;
    let app = server.client_caller("app", "api:read").await;
    let ask = |caller: GrpcCaller| async move {
        caller.tokens().validate(ValidateRequest { token: "x".to_owned() }).await
    };
    let bearer = format!("Bearer {token}");
    for name in [
        "x-user",
        "x-user-id",
        "x-forwarded-user",
        "x_forwarded_user",
        "x-propusk-user",
        "x-propusk-client",
        "x_authorization",
        "proxy-authorization",
        "x-authorization",
        "x-forwarded-access-token",
        "x-access-token",
        "remote-user",
        "grpcgateway-authorization",
        "x-forwarded-client-cert",
        "x-client-cert",
        "ssl-client-cert",
        "client-cert",
        "cookie",
    ] {
        for value in [
            "backend",
            "root",
            "admin",
            token.as_str(),
            bearer.as_str(),
            &format!("propusk_access={token}"),
        ] {
            let anonymous = server.anonymous().await.with(name, value);
            expect_refused(ask(anonymous).await, Code::Unauthenticated, "INVALID_TOKEN");
        }
        expect_refused(
            ask(app.clone().with(name, &bearer)).await,
            Code::PermissionDenied,
            "INSUFFICIENT_SCOPE",
        );
    }
    // Nor does a second one.
    expect_refused(
        ask(app.clone().with("authorization", &bearer)).await,
        Code::Unauthenticated,
        "INVALID_TOKEN",
    );
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Basic YmFja2VuZDp4",
        &token,
        &format!("Bearer {token}x"),
        &format!("Bearer {token}, {bearer}"),
    ] {
        let anonymous = server.anonymous().await.with("authorization", value);
        expect_refused(ask(anonymous).await, Code::Unauthenticated, "INVALID_TOKEN");
    }
    ask(server.caller(&token).await).await.expect("an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t82_the_method_table_is_complete() {
    let server = TestServer::with_grpc(Backend::Sqlite, &[]).await;
    let table: BTreeSet<String> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(methods(&server).await, table, "by reflection");
    let guarded: BTreeSet<String> = METHODS.iter().map(|m| m.path.to_owned()).collect();
    assert_eq!(guarded, table, "by the server's own table");
    for (path, expected) in TABLE {
        let method = METHODS.iter().find(|method| method.path == *path);
        let is_open = method.is_some_and(|method| method.scope.is_none());
        assert_eq!(is_open, expected[0] == Code::Ok, "{path}");
    }
    let unknown = call(&server.anonymous().await, "/propusk.v1.TokenService/Steal").await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t82_self_registered_clients_get_no_service_scope() {
    let settings = [("PROPUSK_CLIENT_REGISTRATION__MODE", "open")];
    let server = TestServer::with_grpc(Backend::Sqlite, &settings).await;
    let metadata = json!({ "redirect_uris": ["https://a.example/cb"], "scope": all() });
    let reply = server.post("/oauth2/register", metadata).await;
    assert!(!reply.text.contains("propusk:"), "{reply:?}");
}

async fn t108_an_on_behalf_of_session_satisfies_no_step_up(backend: Backend) {
    let server = TestServer::with_grpc(backend, &[]).await;
    server.register("ann").await;
    server.client("backend", back_end()).await;
    let ann = users::find(&server.app, "ann").await.expect("known").id;
    let caller = server.client_caller("backend", "propusk:tokens").await;
    let request = IssueRequest {
        person: Some(Person::UserId(ann.into())),
        scope: "openid api:read".to_owned(),
        ..IssueRequest::default()
    };
    let issued = caller.tokens().issue(request).await.expect("issued").into_inner();
    // Nobody logged in: no token says when.
    let id_token = issued.id_token.expect("an ID token");
    for token in [&issued.access_token, &id_token] {
        assert_eq!(payload(token).get("auth_time"), None);
    }
    let requirements = ["max_age=3600", "acr=urn%3Apropusk%3Aacr%3Apassword"];
    for requirement in requirements {
        let path = format!("/forward-auth?audience={}&{requirement}", server.app.config.audience());
        let refused = server.get_as(&path, &issued.access_token).await;
        refused.expect_error(401, "INSUFFICIENT_USER_AUTHENTICATION");
    }
    // A refresh is no login either.
    let request = RefreshRequest {
        refresh_token: issued.refresh_token.expect("a refresh token"),
        scope: String::new(),
        resource: vec![],
    };
    let next = caller.tokens().refresh(request).await.expect("refreshed").into_inner();
    assert_eq!(payload(&next.access_token).get("auth_time"), None);
    // One that logged in is let through.
    let login = server.login("ann").await.tokens();
    for requirement in requirements {
        let path = format!("/forward-auth?{requirement}");
        server.get_as(&path, &login.access).await.expect(StatusCode::OK);
    }
}

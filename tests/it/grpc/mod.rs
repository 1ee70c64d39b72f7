//! The gRPC listener: its services and its limits.

mod certificates;
mod gateway;
mod python;
mod users;

use std::{collections::BTreeSet, time::Duration};

use http::uri::PathAndQuery;
use propusk::{
    flows::admin::users as accounts,
    grpc::proto::v1::{
        Delta, Entry, IssueRequest, IssuedUntil, RefreshRequest, RevokeRequest, TokenResponse,
        ValidateRequest, ValidateResponse, WatchRequest, WatchResponse, entry::Target,
        issue_request::Person, revoke_request::What, watch_response::Message,
    },
    model::{
        actor::Actor,
        client::{Client, GrantType, Metadata},
        user::Role,
    },
    oauth::scope::Scope,
};
use prost::Message as _;
use prost_types::FileDescriptorProto;
use reqwest::StatusCode;
use tonic::{Code, Request, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt as _;

use crate::support::{
    Backend, TestServer, backend_tests,
    grpc::{GrpcCaller, expect_refused},
    oauth::{payload, web_app},
    send,
};

/// A trusted back end that may call every service.
pub fn back_end() -> Metadata {
    Metadata {
        scope: Scope::parse(
            "openid api:read api:write propusk:tokens propusk:users propusk:users:verify propusk:revocations \
             propusk:check propusk:services",
        )
        .expect("a scope"),
        ..web_app()
    }
}

/// A server with a gRPC listener, `ann` and the client `backend`, and a caller that may use the
/// token service.
async fn with_back_end(backend: Backend) -> (TestServer, GrpcCaller) {
    let server = TestServer::with_grpc(backend, &[]).await;
    server.register("ann").await;
    server.client("backend", back_end()).await;
    let caller = server.client_caller("backend", "propusk:tokens").await;
    (server, caller)
}

async fn id_of(server: &TestServer, name: &str) -> String {
    accounts::find(&server.app, name).await.expect("known").id.into()
}

fn issue(user_id: &str, scope: &str) -> IssueRequest {
    let person = Some(Person::UserId(user_id.to_owned()));
    IssueRequest { person, scope: scope.to_owned(), ..IssueRequest::default() }
}

fn refresh(refresh_token: &str, scope: &str) -> RefreshRequest {
    RefreshRequest {
        refresh_token: refresh_token.to_owned(),
        scope: scope.to_owned(),
        resource: vec![],
    }
}

async fn issued(caller: &GrpcCaller, user_id: &str, scope: &str) -> TokenResponse {
    let answer = caller.tokens().issue(issue(user_id, scope)).await;
    answer.expect("issued").into_inner()
}

async fn validate(caller: &GrpcCaller, token: &str) -> ValidateResponse {
    let token = token.to_owned();
    let answer = caller.tokens().validate(ValidateRequest { token }).await;
    answer.expect("an answer").into_inner()
}

async fn revoke(caller: &GrpcCaller, token: &str) -> Result<(), tonic::Status> {
    let token = token.to_owned();
    caller.tokens().revoke(RevokeRequest { what: Some(What::Token(token)) }).await?;
    Ok(())
}

backend_tests! {
    a_back_end_manages_a_session_over_grpc,
    unknown_and_disabled_users_get_no_tokens,
    a_client_manages_its_own_sessions_only,
    a_follower_receives_the_list_and_its_changes,
    a_stream_ends_with_its_token_or_the_grpc_server,
}

async fn a_back_end_manages_a_session_over_grpc(backend: Backend) {
    let (server, caller) = with_back_end(backend).await;
    let ann = id_of(&server, "ann").await;
    let first = issued(&caller, &ann, "api:read api:write").await;
    assert_eq!(
        (first.expires_in, first.scope.as_str(), &first.id_token),
        (900, "api:read api:write", &None)
    );
    let response = validate(&caller, &first.access_token).await;
    assert!(response.active, "{response:?}");
    assert_eq!(
        (response.sub.as_str(), response.client_id.as_str(), response.token_type.as_str()),
        (ann.as_str(), "backend", "Bearer")
    );
    assert_eq!(
        (response.iss.as_str(), response.aud),
        (server.app.config.server.issuer.as_str(), vec![server.app.config.audience().to_owned()])
    );
    assert_eq!(
        (response.scope.as_str(), response.auth_time),
        ("api:read api:write", None),
        "nobody logged in"
    );
    server.verify(&first.access_token).await.expect(StatusCode::OK);

    let old = first.refresh_token.expect("the client may refresh");
    assert!(validate(&caller, &old).await.active);
    let next =
        caller.tokens().refresh(refresh(&old, "api:read")).await.expect("refreshed").into_inner();
    assert_eq!(next.scope, "api:read");
    let again = caller
        .tokens()
        .refresh(refresh(&old, ""))
        .await
        .expect("a retry after a lost response")
        .into_inner();
    assert_eq!(
        (again.refresh_token.as_ref(), again.scope.as_str()),
        (next.refresh_token.as_ref(), "api:read api:write")
    );
    // The refresh chain is the same as over HTTP.
    let by_http = server
        .refresh_as("backend", &next.refresh_token.expect("the next"))
        .await
        .expect(StatusCode::OK);
    server.clock.advance(Duration::from_secs(61));
    expect_refused(
        caller.tokens().refresh(refresh(&old, "")).await,
        Code::InvalidArgument,
        "INVALID_GRANT",
    );
    assert_eq!(
        validate(&caller, &by_http.field("access_token")).await,
        ValidateResponse::default(),
        "an old refresh token counts as reuse"
    );

    let other = issued(&caller, &ann, "").await;
    assert_eq!(other.scope, "openid api:read api:write", "service scopes are not granted to users");
    assert!(other.id_token.is_some());
    revoke(&caller, &other.access_token).await.expect("revoked");
    assert!(!validate(&caller, &other.access_token).await.active);
    let refresh_token = other.refresh_token.expect("the client may refresh");
    assert!(
        validate(&caller, &refresh_token).await.active,
        "revoking an access token leaves the session"
    );
    revoke(&caller, &refresh_token).await.expect("revoked");
    assert!(!validate(&caller, &refresh_token).await.active);
    expect_refused(
        caller.tokens().refresh(refresh(&refresh_token, "")).await,
        Code::InvalidArgument,
        "INVALID_GRANT",
    );
    let opened = server
        .events()
        .await
        .into_iter()
        .filter(|(kind, data)| kind == "session.created" && data["clientId"] == "backend");
    assert_eq!(opened.count(), 2);
}

async fn unknown_and_disabled_users_get_no_tokens(backend: Backend) {
    let (server, caller) = with_back_end(backend).await;
    let ann = id_of(&server, "ann").await;
    for unknown in ["ann", "ann@example.org", "backend", "a\0b", &ann.to_uppercase()] {
        expect_refused(
            caller.tokens().issue(issue(unknown, "")).await,
            Code::NotFound,
            "NOT_FOUND",
        );
    }
    let status = expect_refused(
        caller.tokens().issue(issue("", "")).await,
        Code::InvalidArgument,
        "VALIDATION_ERROR",
    );
    let details = status.get_error_details();
    assert_eq!(
        details.bad_request().expect("google.rpc.BadRequest").field_violations[0].field,
        "user_id"
    );
    expect_refused(
        caller.tokens().issue(issue(&ann, "api:read admin:all")).await,
        Code::InvalidArgument,
        "INVALID_SCOPE",
    );
    expect_refused(
        caller.tokens().issue(issue(&ann, "a\"b")).await,
        Code::InvalidArgument,
        "INVALID_SCOPE",
    );
    let elsewhere =
        IssueRequest { resource: vec!["https://elsewhere.example".to_owned()], ..issue(&ann, "") };
    expect_refused(caller.tokens().issue(elsewhere).await, Code::InvalidArgument, "INVALID_TARGET");

    let before = issued(&caller, &ann, "").await;
    let user = accounts::find(&server.app, "ann").await.expect("known");
    accounts::disable(&server.app, &user.id, &Actor::operator()).await.expect("disabled");
    assert!(!validate(&caller, &before.access_token).await.active);
    expect_refused(
        caller.tokens().issue(issue(&ann, "")).await,
        Code::FailedPrecondition,
        "CONFLICT",
    );
}

async fn a_client_manages_its_own_sessions_only(backend: Backend) {
    let (server, caller) = with_back_end(backend).await;
    let quiet = Metadata { grant_types: vec![GrantType::ClientCredentials], ..back_end() };
    server.client("other", quiet).await;
    let other = server.client_caller("other", "propusk:tokens").await;
    let ann = id_of(&server, "ann").await;
    let tokens = issued(&caller, &ann, "").await;
    let refresh_token = tokens.refresh_token.expect("the client may refresh");
    assert_eq!(
        validate(&other, &tokens.access_token).await,
        ValidateResponse::default(),
        "neither issued to it nor for its audience"
    );
    assert_eq!(validate(&other, &refresh_token).await, ValidateResponse::default());
    expect_refused(
        revoke(&other, &tokens.access_token).await,
        Code::PermissionDenied,
        "UNAUTHORIZED_CLIENT",
    );
    expect_refused(
        revoke(&other, &refresh_token).await,
        Code::PermissionDenied,
        "UNAUTHORIZED_CLIENT",
    );
    let garbage = format!("{}{}", &refresh_token[..refresh_token.len() - 8], "A".repeat(8));
    revoke(&other, &garbage).await.expect("an invalid token is no error");
    expect_refused(
        other.tokens().refresh(refresh(&refresh_token, "")).await,
        Code::PermissionDenied,
        "UNAUTHORIZED_CLIENT",
    );
    assert!(validate(&caller, &refresh_token).await.active);

    let lone = issued(&other, &ann, "").await;
    assert_eq!(lone.refresh_token, None, "it was not registered for refresh tokens");
    assert!(validate(&other, &lone.access_token).await.active);
    // A client that introspects for an audience sees its tokens.
    server
        .change_client("other", |client: &mut Client| {
            client.metadata.introspection_audiences = vec!["*".to_owned()];
        })
        .await;
    assert!(validate(&other, &tokens.access_token).await.active);
}

async fn a_follower_receives_the_list_and_its_changes(backend: Backend) {
    let (server, caller) = with_back_end(backend).await;
    let ann = id_of(&server, "ann").await;
    let tokens = issued(&caller, &ann, "").await;
    let claims = payload(&tokens.access_token);
    revoke(&caller, &tokens.access_token).await.expect("revoked");
    let follower = server.client_caller("backend", "propusk:revocations").await;
    let mut stream = watch(&follower, None).await;
    let Some(Message::Snapshot(snapshot)) = next(&mut stream).await.message else {
        panic!("a snapshot first")
    };
    assert_eq!(
        (targets(&snapshot.entries), snapshot.more),
        (vec![Target::Token(claims["jti"].as_str().expect("jti").to_owned())], false)
    );

    // A revocation over HTTP is published as well.
    let refresh_token = tokens.refresh_token.expect("the client may refresh");
    server
        .form_as("/oauth2/revoke", "backend", &[("token", &refresh_token)])
        .await
        .expect(StatusCode::OK);
    let ended = changes(&mut stream).await;
    assert_eq!(
        (ended.from, targets(&ended.entries)),
        (snapshot.number, vec![Target::Session(claims["sid"].as_str().expect("sid").to_owned())])
    );
    let user = accounts::find(&server.app, "ann").await.expect("known");
    accounts::set_role(&server.app, &user.id, Role::admin(), &Actor::operator())
        .await
        .expect("changed");
    let changed = changes(&mut stream).await;
    let hit = IssuedUntil { id: ann, issued_until: server.clock.now().as_secs() + 1 };
    assert_eq!((changed.from, targets(&changed.entries)), (ended.to, vec![Target::Subject(hit)]));

    // A follower that resumes from a version gets what it missed, without duplicates.
    let mut again = watch(&follower, Some(snapshot.number)).await;
    let missed = changes(&mut again).await;
    assert_eq!((missed.from, missed.to, missed.entries.len()), (snapshot.number, changed.to, 2));
    let far = follower.revocations().watch(WatchRequest { since: Some(changed.to + 1) }).await;
    expect_refused(far, Code::OutOfRange, "SNAPSHOT_REQUIRED");
}

async fn a_stream_ends_with_its_token_or_the_grpc_server(backend: Backend) {
    let (server, caller) = with_back_end(backend).await;
    let token = server.client_token("backend", "propusk:revocations propusk:tokens").await;
    let leaver = server.caller(&token).await;
    let stayer = server.client_caller("backend", "propusk:revocations").await;
    let (mut its, mut others) = (watch(&leaver, None).await, watch(&stayer, None).await);
    next(&mut its).await;
    next(&mut others).await;
    revoke(&leaver, &token).await.expect("revoked");
    expect_ended(&mut its, Code::Unauthenticated, "INVALID_TOKEN").await;
    assert_eq!(changes(&mut others).await.entries.len(), 1);
    server.clock.advance(Duration::from_secs(16 * 60));
    let what = Some(What::Token("x".to_owned()));
    let refused = caller.tokens().revoke(RevokeRequest { what }).await;
    expect_refused(refused, Code::Unauthenticated, "INVALID_TOKEN");
    let later = server.client_caller("backend", "propusk:tokens propusk:revocations").await;
    let ann = id_of(&server, "ann").await;
    let tokens = issued(&later, &ann, "").await;
    revoke(&later, &tokens.access_token).await.expect("revoked");
    expect_ended(&mut others, Code::Unauthenticated, "INVALID_TOKEN").await;

    let mut last = watch(&later, None).await;
    next(&mut last).await;
    let response =
        tokio::spawn(
            async move { expect_ended(&mut last, Code::Unavailable, "SHUTTING_DOWN").await },
        );
    server.stop().await;
    response.await.expect("the follower task ends");
}

async fn watch(caller: &GrpcCaller, since: Option<i64>) -> Streaming<WatchResponse> {
    let answer = caller.revocations().watch(WatchRequest { since }).await;
    answer.expect("it is following").into_inner()
}

async fn next(stream: &mut Streaming<WatchResponse>) -> WatchResponse {
    let message = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
    let message = message.expect("within the timeout").expect("not refused");
    message.expect("the stream continues")
}

/// The next change; heartbeats are skipped.
async fn changes(stream: &mut Streaming<WatchResponse>) -> Delta {
    loop {
        match next(stream).await.message {
            Some(Message::Delta(delta)) if delta.to == delta.from => {}
            Some(Message::Delta(delta)) => return delta,
            other => panic!("no change: {other:?}"),
        }
    }
}

async fn expect_ended(stream: &mut Streaming<WatchResponse>, code: Code, reason: &str) {
    let status = stream.message().await.expect_err("it ends");
    let details = status.get_error_details();
    let response = details.error_info().map(|info| info.reason.as_str());
    assert_eq!((status.code(), response), (code, Some(reason)), "{status:?}");
}

fn targets(entries: &[Entry]) -> Vec<Target> {
    entries.iter().map(|entry| entry.target.clone().expect("a target")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_health_reports_readiness() {
    let server = TestServer::with_grpc(Backend::Sqlite, &[]).await;
    let anonymous = server.anonymous().await;
    let mut health = HealthClient::new(anonymous.channel.clone());
    let about = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", "propusk.v1.TokenService", "grpc.health.v1.Health"] {
        let answer = health.check(about(service)).await.expect("an answer");
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    }
    let unknown = health.check(about("propusk.v1.Nothing")).await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
    let watched = health.watch(about("")).await.expect("it watches");
    let mut watched = watched.into_inner();
    let first = watched.message().await.expect("a message arrives").expect("a message");
    assert_eq!(first.status(), ServingStatus::Serving);
    let response =
        tokio::spawn(async move { watched.message().await.expect_err("the server ends") });
    server.stop().await;
    assert_eq!(response.await.expect("a message arrives").code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_lists_every_service_and_file() {
    let server = TestServer::with_grpc(Backend::Sqlite, &[]).await;
    let services = services(&server).await;
    for service in &services {
        let file = MessageRequest::FileContainingSymbol(service.clone());
        let answer = reflect(&server, file).await;
        let MessageResponse::FileDescriptorResponse(file) = answer else {
            panic!("{service}: {answer:?}")
        };
        assert!(!file.file_descriptor_proto.is_empty(), "{service}");
    }
}

/// A client that knows nothing but reflection, such as grpcurl, decodes the details of errors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_describes_the_details_of_errors() {
    let server = TestServer::with_grpc(Backend::Sqlite, &[]).await;
    let files = async |request: MessageRequest| {
        let asked = format!("{request:?}");
        let MessageResponse::FileDescriptorResponse(files) = reflect(&server, request).await else {
            panic!("{asked}: no file")
        };
        let files = files.file_descriptor_proto.into_iter();
        let read = |file: Vec<u8>| FileDescriptorProto::decode(file.as_slice()).expect("a file");
        files.map(read).collect::<Vec<_>>()
    };
    for detail in ["ErrorInfo", "BadRequest", "RetryInfo"] {
        let symbol = format!("google.rpc.{detail}");
        let mut open = files(MessageRequest::FileContainingSymbol(symbol)).await;
        assert_eq!(open[0].name(), "google/rpc/error_details.proto");
        while let Some(file) = open.pop() {
            for needed in file.dependency {
                open.extend(files(MessageRequest::FileByFilename(needed)).await);
            }
        }
    }
}

/// The services that reflection lists.
async fn services(server: &TestServer) -> BTreeSet<String> {
    match reflect(server, MessageRequest::ListServices(String::new())).await {
        MessageResponse::ListServicesResponse(list) => {
            list.service.into_iter().map(|service| service.name).collect()
        }
        other => panic!("no list: {other:?}"),
    }
}

async fn reflect(server: &TestServer, authorization: MessageRequest) -> MessageResponse {
    let mut client = ServerReflectionClient::new(server.anonymous().await.channel);
    let request =
        ServerReflectionRequest { host: String::new(), message_request: Some(authorization) };
    let answers = client.server_reflection_info(futures_util::stream::iter([request])).await;
    let mut answers = answers.expect("an answer").into_inner();
    let answer = answers.message().await.expect("a message arrives").expect("a message");
    answer.message_response.expect("an answer")
}

/// Every method that reflection lists.
pub async fn methods(server: &TestServer) -> BTreeSet<String> {
    let mut methods = BTreeSet::new();
    for service in services(server).await {
        let file = MessageRequest::FileContainingSymbol(service.clone());
        let MessageResponse::FileDescriptorResponse(files) = reflect(server, file).await else {
            panic!("no file of {service}")
        };
        for file in files.file_descriptor_proto {
            let file = FileDescriptorProto::decode(file.as_slice()).expect("a file");
            for described in &file.service {
                let name = format!("{}.{}", file.package(), described.name());
                let paths = described.method.iter();
                methods.extend(paths.map(|method| format!("/{name}/{}", method.name())));
            }
        }
    }
    methods
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_bounded_in_size_and_time() {
    let settings = [("PROPUSK_GRPC__MAX_MESSAGE_BYTES", "1024")];
    let server = TestServer::with_grpc(Backend::Sqlite, &settings).await;
    server.client("backend", back_end()).await;
    let caller = server.client_caller("backend", "propusk:tokens").await;
    let token = "x".repeat(2000);
    let large = caller.tokens().validate(ValidateRequest { token }).await;
    assert_eq!(large.expect_err("too large").code(), Code::OutOfRange);
    assert!(!validate(&caller, "x").await.active);

    for bad in ["", "S", "123456789S", "1x", "-1S", "1.5S"] {
        let caller = caller.clone().with("grpc-timeout", bad);
        let token = "x".to_owned();
        let answer = caller.tokens().validate(ValidateRequest { token }).await;
        expect_refused(answer, Code::InvalidArgument, "BAD_REQUEST");
    }
    // The deadline of the caller ends its own stream only.
    let follower = server.client_caller("backend", "propusk:revocations").await;
    let mut request = Request::new(WatchRequest { since: None });
    request.set_timeout(Duration::from_millis(300));
    let stream = follower.revocations().watch(request).await;
    let mut stream = stream.expect("it is following").into_inner();
    next(&mut stream).await;
    expect_ended(&mut stream, Code::DeadlineExceeded, "REQUEST_TIMEOUT").await;

    // A request that is not gRPC is refused as such.
    let address = format!("http://{}", server.grpc.expect("a listener"));
    let by_http1 = send(server.http.get(&address)).await;
    assert_eq!(by_http1.status, StatusCode::HTTP_VERSION_NOT_SUPPORTED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_message_is_timed_out() {
    let settings = [("PROPUSK_GRPC__REQUEST_TIMEOUT", "50ms")];
    let server = TestServer::with_grpc(Backend::Sqlite, &settings).await;
    server.client("backend", back_end()).await;
    let caller = server.client_caller("backend", "propusk:tokens").await;
    let mut grpc = tonic::client::Grpc::new(caller.channel.clone());
    grpc.ready().await.expect("connected");
    let mut request = Request::new(futures_util::stream::pending());
    caller.sign(&mut request);
    let path = PathAndQuery::from_static("/propusk.v1.TokenService/Validate");
    let codec = ProstCodec::<ValidateRequest, ValidateResponse>::default();
    let answer = grpc.client_streaming(request, path, codec).await;
    expect_refused(answer, Code::DeadlineExceeded, "REQUEST_TIMEOUT");
}

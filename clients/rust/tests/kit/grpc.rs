//! The gRPC services.

use std::time::Duration;

use propusk_client::{
    Propusk,
    grpc::{Code, Grpc, GrpcError, pb},
};

use crate::support::server::{PASSWORD, Server, eventually, free_port};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_back_end_manages_users_and_tokens() {
    let grpc_address = format!("127.0.0.1:{}", free_port());
    let server = Server::start(&[("PROPUSK_GRPC__LISTEN", &grpc_address)]).await;
    let scope = "propusk:tokens propusk:users propusk:users:verify propusk:revocations";
    let secret = server.add_client("backend", scope);
    let propusk = Propusk::builder(&server.issuer).build().expect("settings");
    let url = format!("http://{grpc_address}");
    let grpc = Grpc::new(&propusk, &url).expect("a URL").credentials("backend", &secret, scope);

    let create = pb::CreateUserRequest {
        email: "vera@example.org".to_owned(),
        password: PASSWORD.to_owned(),
        ..pb::CreateUserRequest::default()
    };
    let user = grpc.users().create(create.clone()).await.expect("a user").into_inner();
    let again = grpc.users().create(create.clone()).await.expect_err("it exists");
    let again = GrpcError::from(again);
    assert_eq!(again.reason, "EMAIL_ALREADY_EXISTS");
    assert!(again.request_id.is_some() && !again.is_temporary(), "{again:?}");
    let weak = pb::CreateUserRequest { email: "no email".to_owned(), ..create };
    let weak = GrpcError::from(grpc.users().create(weak).await.expect_err("invalid"));
    assert!(weak.details.iter().any(|detail| detail.field == "email"), "{weak:?}");

    let issue = pb::IssueRequest {
        person: Some(pb::issue_request::Person::UserId(user.id.clone())),
        scope: "propusk:tokens".to_owned(),
        ..pb::IssueRequest::default()
    };
    let tokens = grpc.tokens().issue(issue).await.expect("tokens").into_inner();
    let validate = pb::ValidateRequest { token: tokens.access_token.clone() };
    let validated = grpc.tokens().validate(validate.clone()).await.expect("an answer").into_inner();
    assert!(validated.active && validated.sub == user.id, "{validated:?}");
    let mut watched =
        grpc.revocations().watch(pb::WatchRequest::default()).await.expect("a feed").into_inner();
    assert!(watched.message().await.expect("a message").is_some());

    // Callers without credentials, or with wrong ones, are told so; others are served again after
    // a token was revoked.
    let nobody = Grpc::new(&propusk, &url).expect("a URL");
    let refused =
        GrpcError::from(nobody.tokens().validate(validate.clone()).await.expect_err("no"));
    assert_eq!(refused.code, Code::Unauthenticated);
    let wrong = nobody.clone().credentials("backend", "wrong", scope);
    let refused = GrpcError::from(wrong.tokens().validate(validate.clone()).await.expect_err("no"));
    assert_eq!(refused.code, Code::Unauthenticated, "{refused}");
    server.run(&["client", "disable", "backend"]);
    let refused = grpc.tokens().validate(validate.clone()).await;
    assert_eq!(GrpcError::from(refused.expect_err("disabled")).code, Code::Unauthenticated);
    server.run(&["client", "enable", "backend"]);
    // Its tokens of this second are revoked, too.
    let served = || async { grpc.tokens().validate(validate.clone()).await.is_ok() };
    eventually("served with another token", Duration::from_secs(15), served).await;

    // Nothing listens there.
    let nowhere = Grpc::new(&propusk, format!("http://127.0.0.1:{}", free_port()))
        .expect("a URL")
        .credentials("backend", &secret, scope);
    let request = pb::GetUserRequest { id: user.id };
    let lost = GrpcError::from(nowhere.users().get(request).await.expect_err("nothing listens"));
    assert!(lost.is_temporary(), "{lost:?}");
}

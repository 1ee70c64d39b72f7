//! Envoy's external authorization over gRPC: the same decision as forward-auth.

use std::{collections::HashMap, time::Duration};

use propusk::{
    flows::admin::modules,
    grpc::proto::envoy::{
        config::core::v3::{Address, HeaderValueOption, SocketAddress, address},
        service::auth::v3::{
            AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
            attribute_context::{HttpRequest, Peer, Request},
            check_response::HttpResponse,
        },
    },
    model::actor::Actor,
};
use reqwest::StatusCode;
use serde_json::Value;
use tonic::{Code, Status};

use super::back_end;
use crate::{
    gateway::{id_of, module},
    support::{
        Backend, TestServer, backend_tests,
        dpop::{Key, own_token_fields},
        grpc::{GrpcCaller, expect_refused},
        oauth::AuthorizationRequest,
    },
};

const APP: &str = "http://127.0.0.1:9000";

/// A server with `ann`, and Envoy before the application [`APP`].
async fn with_envoy(backend: Backend) -> (TestServer, GrpcCaller) {
    let settings = [("PROPUSK_GATEWAY__ORIGINS", APP)];
    let server = TestServer::with_grpc(backend, &settings).await;
    server.register("ann").await;
    server.client("backend", back_end()).await;
    let envoy = server.client_caller("backend", "propusk:check").await;
    (server, envoy)
}

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn map(pairs: Pairs<'_>) -> HashMap<String, String> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

async fn check(
    envoy: &GrpcCaller,
    headers: Pairs<'_>,
    demands: Pairs<'_>,
) -> Result<CheckResponse, Status> {
    let source = SocketAddress { address: "192.0.2.1".to_owned(), ..SocketAddress::default() };
    let mut all =
        map(&[(":method", "GET"), (":path", "/notes?page=2"), (":authority", "127.0.0.1:9000")]);
    all.extend(map(headers));
    let attributes = AttributeContext {
        source: Some(Peer {
            address: Some(Address { address: Some(address::Address::SocketAddress(source)) }),
        }),
        request: Some(Request {
            http: Some(HttpRequest {
                method: "GET".to_owned(),
                headers: all,
                path: "/notes?page=2".to_owned(),
                host: "127.0.0.1:9000".to_owned(),
                scheme: "http".to_owned(),
                ..HttpRequest::default()
            }),
        }),
        context_extensions: map(demands),
    };
    let request = CheckRequest { attributes: Some(attributes) };
    Ok(envoy.gateway().check(request).await?.into_inner())
}

async fn allowed(envoy: &GrpcCaller, headers: Pairs<'_>, demands: Pairs<'_>) -> OkHttpResponse {
    let answer = check(envoy, headers, demands).await.expect("an answer");
    match answer.http_response {
        Some(HttpResponse::OkResponse(ok))
            if answer.status.as_ref().is_some_and(|s| s.code == 0) =>
        {
            ok
        }
        _ => panic!("denied: {answer:?}"),
    }
}

async fn denied(
    envoy: &GrpcCaller,
    headers: Pairs<'_>,
    demands: Pairs<'_>,
) -> (i32, DeniedHttpResponse) {
    let answer = check(envoy, headers, demands).await.expect("an answer");
    let code = answer.status.as_ref().map_or(0, |status| status.code);
    assert_ne!(code, 0, "{answer:?}");
    match answer.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => {
            (denied.status.expect("a status").code, denied)
        }
        other => panic!("allowed: {other:?}"),
    }
}

fn value<'a>(headers: &'a [HeaderValueOption], name: &str) -> Option<&'a str> {
    let pairs = headers.iter().filter_map(|option| option.header.as_ref());
    let mut named = pairs.filter(|pair| pair.key == name);
    named.next().map(|pair| pair.value.as_str())
}

backend_tests! {
    envoy_passes_identity_and_drops_client_headers,
    envoy_redirects_to_login_and_renews_cookies,
    envoy_denies_a_withdrawn_module_at_the_next_call,
    envoy_lets_bound_tokens_pass_with_their_proof,
    t95_envoy_refuses_an_applications_token,
}

async fn t95_envoy_refuses_an_applications_token(backend: Backend) {
    let (server, envoy) = with_envoy(backend).await;
    let answer = server
        .browser()
        .authorize(&AuthorizationRequest::of("backend", "openid api:read"), "ann")
        .await;
    let reply = server.exchange_code("backend", answer.code()).await.expect(StatusCode::OK);
    let of_ann = format!("Bearer {}", reply.field("access_token"));
    let of_client = format!("Bearer {}", server.client_token("backend", "api:read").await);
    for bearer in [&of_ann, &of_client] {
        for requirements in [&[][..], &[("scope", "openid")]] {
            let (status, _) = denied(&envoy, &[("authorization", bearer)], requirements).await;
            assert_eq!(status, 401);
        }
        let ok = allowed(&envoy, &[("authorization", bearer)], &[("scope", "api:read")]).await;
        let is_user = value(&ok.headers, "x-propusk-user").is_some_and(|user| !user.is_empty());
        assert_eq!(is_user, bearer == &of_ann);
    }
}

async fn envoy_lets_bound_tokens_pass_with_their_proof(backend: Backend) {
    let (server, envoy) = with_envoy(backend).await;
    let key = Key::new();
    let fields = [&own_token_fields("backend")[..], &[("scope", "api:read")]].concat();
    let token = key.request_tokens(&server, &fields).await.field("access_token");
    let (bound, bearer) = (format!("DPoP {token}"), format!("Bearer {token}"));
    let proof = |url: &str| key.proof_at(&server, "GET", url, &token);
    let demands: Pairs<'_> = &[("scope", "api:read")];
    let here = proof(&format!("{APP}/notes"));
    let ok = allowed(&envoy, &[("authorization", &bound), ("dpop", &here)], demands).await;
    assert_eq!(value(&ok.headers, "x-propusk-client"), Some("backend"));
    for (authorization, proof) in [
        (&bound, &here),
        (&bound, &proof(&format!("{APP}/other"))),
        (&bound, &proof("http://127.0.0.1:9001/notes")),
        (&bearer, &proof(&format!("{APP}/notes"))),
    ] {
        let headers = [("authorization", authorization.as_str()), ("dpop", proof)];
        let (status, _) = denied(&envoy, &headers, demands).await;
        assert_eq!(status, 401);
    }
}

async fn envoy_passes_identity_and_drops_client_headers(backend: Backend) {
    let (server, envoy) = with_envoy(backend).await;
    let ann = id_of(&server, "ann").await;
    let tokens = server.login("ann").await.tokens();
    let bearer = format!("Bearer {}", tokens.access);
    let ok = allowed(
        &envoy,
        &[
            ("authorization", &bearer),
            ("x-propusk-user", "root"),
            ("x_propusk_role", "admin"),
            ("X-Propusk-Evil", "x"),
            ("accept", "*/*"),
        ],
        &[("scope", "openid")],
    )
    .await;
    assert_eq!(value(&ok.headers, "x-propusk-user"), Some(ann.as_str()));
    assert_eq!(
        (value(&ok.headers, "x-propusk-email"), value(&ok.headers, "x-propusk-role")),
        (None, Some("user")),
        "the email is not verified (threat T110)"
    );
    assert_eq!(value(&ok.headers, "x-propusk-email-verified"), Some("false"));
    assert!(ok.headers_to_remove.iter().any(|name| name == "x-propusk-email"), "{ok:?}");
    assert!(
        ok.headers.iter().all(|option| option.append_action == 2),
        "what the client sent is overwritten: {ok:?}"
    );
    for gone in ["x_propusk_role", "X-Propusk-Evil", "x-propusk-modules"] {
        assert!(ok.headers_to_remove.iter().any(|name| name == gone), "{gone}: {ok:?}");
    }
    assert!(ok.response_headers_to_add.is_empty());

    let (status, refused) =
        denied(&envoy, &[("authorization", &bearer)], &[("scope", "openid other:read")]).await;
    assert_eq!(status, 403);
    assert!(
        value(&refused.headers, "www-authenticate")
            .is_some_and(|response| response.contains("insufficient_scope")),
        "{refused:?}"
    );
    let body: Value = serde_json::from_str(&refused.body).expect("the envelope");
    assert_eq!(
        (&body["errorCode"], body["requestId"].as_str()),
        (&"INSUFFICIENT_SCOPE".into(), value(&refused.headers, "x-request-id"))
    );
    let (status, refused) = denied(&envoy, &[], &[]).await;
    assert_eq!((status, value(&refused.headers, "www-authenticate")), (401, Some("Bearer")));
    for bad in ["Bearer x", "Basic eDp4", &format!("{bearer},{bearer}")] {
        let (status, _) = denied(&envoy, &[("authorization", bad)], &[]).await;
        assert_eq!(status, 401, "{bad}");
    }
    // A malformed requirement denies the request.
    let (status, _) = denied(&envoy, &[("authorization", &bearer)], &[("scopes", "openid")]).await;
    assert_eq!(status, 400);
    expect_refused(
        envoy.gateway().check(CheckRequest::default()).await,
        Code::InvalidArgument,
        "VALIDATION_ERROR",
    );

    server.post_as("/api/v1/auth/logout", &tokens.access).await.expect(StatusCode::OK);
    let (status, _) = denied(&envoy, &[("authorization", &bearer)], &[]).await;
    assert_eq!(status, 401, "at the next call");
}

async fn envoy_redirects_to_login_and_renews_cookies(backend: Backend) {
    let (server, envoy) = with_envoy(backend).await;
    let page = [("accept", "text/html"), ("sec-fetch-mode", "navigate")];
    let (status, refused) = denied(&envoy, &page, &[]).await;
    assert_eq!(status, 303);
    let location = value(&refused.headers, "location").expect("a login");
    assert!(
        location.contains("return_to=http%3A%2F%2F127.0.0.1%3A9000%2Fnotes%3Fpage%3D2"),
        "{location}"
    );
    let (status, _) = denied(&envoy, &page, &[("redirect", "never")]).await;
    assert_eq!(status, 401);

    let tokens = server.login("ann").await.tokens();
    let cookies = format!("propusk_access={}; propusk_refresh={}", tokens.access, tokens.refresh);
    assert!(allowed(&envoy, &[("cookie", &cookies)], &[]).await.response_headers_to_add.is_empty());
    server.clock.advance(Duration::from_secs(16 * 60));
    let envoy = server.client_caller("backend", "propusk:check").await;
    let ok = allowed(&envoy, &[("cookie", &cookies)], &[]).await;
    let lines: Vec<&str> = ok
        .response_headers_to_add
        .iter()
        .filter_map(|option| Some(option.header.as_ref()?.value.as_str()))
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with("propusk_access=") && lines[1].starts_with("propusk_refresh="),
        "{lines:?}"
    );
}

async fn envoy_denies_a_withdrawn_module_at_the_next_call(backend: Backend) {
    let (server, envoy) = with_envoy(backend).await;
    module(&server, "crm", "crm:read", None).await;
    let ann = id_of(&server, "ann").await;
    modules::grant(&server.app, &ann, "crm", None, &Actor::operator()).await.expect("granted");
    let bearer = format!("Bearer {}", server.login("ann").await.tokens().access);
    let ok = allowed(&envoy, &[("authorization", &bearer)], &[("module", "crm")]).await;
    assert_eq!(value(&ok.headers, "x-propusk-modules"), Some("crm"));
    modules::withdraw(&server.app, &ann, "crm", &Actor::operator()).await.expect("withdrawn");
    let (status, _) = denied(&envoy, &[("authorization", &bearer)], &[("module", "crm")]).await;
    assert_eq!(status, 403);
}

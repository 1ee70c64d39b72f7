//! Attacks with stolen tokens that are bound to a key, and with stolen or forged proofs (RFC 9449).

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use josekit::{jwk::Jwk, jws};
use propusk::{
    grpc::proto::v1::{IssueRequest, ValidateRequest, issue_request::Person},
    model::client::{GrantType, Metadata},
    oauth::scope::Scope,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tonic::Code;

use super::two_servers;
use crate::{
    back_ends::{claims, grant, json_as, key as assertion_key, main_project},
    support::{
        Backend, Reply, TestServer, backend_tests,
        dpop::{Key, code_fields, own_token_fields, refresh_fields, request_tokens, userinfo},
        exchange::{self, with_services},
        grpc::expect_refused,
        oauth::{AuthorizationRequest, device_app, payload, public_app, sign, web_app},
        send,
    },
};

backend_tests! {
    t55_a_proof_is_for_its_request_and_its_moment,
    t55_a_proof_is_accepted_once_by_all_processes,
    t55_a_forged_proof_is_refused,
    t55_a_bound_token_is_no_bearer_token,
    t55_a_bound_token_needs_the_proof_of_its_key,
    t56_a_client_that_demands_bound_tokens_gets_no_bearer_tokens,
    t56_a_self_registered_client_may_demand_bound_tokens,
}

/// A server with the confidential client `service`, which demands nothing.
async fn with_service(backend: Backend) -> TestServer {
    let server = TestServer::start(backend).await;
    server.client("service", web_app()).await;
    server
}

async fn ask(server: &TestServer, proof: &str) -> Reply {
    request_tokens(server, &own_token_fields("service"), proof).await
}

/// A bound token of `eve` for UserInfo, from the public client `spa`.
async fn bound_token(server: &TestServer, key: &Key) -> String {
    server.register("eve").await;
    server.client("spa", public_app()).await;
    let request = AuthorizationRequest::of("spa", "openid email offline_access");
    let code = server.browser().authorize(&request, "eve").await.code().to_owned();
    key.exchange_code(server, "spa", &code).await.field("access_token")
}

async fn t55_a_proof_is_for_its_request_and_its_moment(backend: Backend) {
    let server = with_service(backend).await;
    let key = Key::new();
    let good = key.claims(&server, "POST", "/oauth2/token");
    let (now, url) = (server.clock.now().as_secs(), good["htu"].as_str().expect("a URL"));
    let shouted = url.replacen("http", "HTTP", 1);
    let with = |changes: &Value| {
        let mut claims = key.claims(&server, "POST", "/oauth2/token");
        for (name, value) in changes.as_object().expect("an object") {
            match value {
                Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        key.sign(&key.header(), &claims)
    };
    for accepted in [
        json!({}),
        json!({ "htu": format!("{url}?grant_type=x#fragment") }),
        json!({ "htu": shouted }),
        json!({ "htu": url.replace("/oauth2/", "/./oauth2/") }),
        json!({ "iat": now - 300 }),
        json!({ "iat": now + 60 }),
        json!({ "unknown": { "a": 1 } }),
    ] {
        let reply = ask(&server, &with(&accepted)).await;
        assert_eq!(reply.status, StatusCode::OK, "{accepted}: {reply:?}");
    }
    for refused in [
        json!({ "htm": "GET" }),
        json!({ "htm": "post" }),
        json!({ "htm": null }),
        json!({ "htu": url.replace("/token", "/userinfo") }),
        json!({ "htu": format!("{url}/") }),
        json!({ "htu": url.replace("127.0.0.1", "evil.example") }),
        json!({ "htu": url.replacen("http", "https", 1) }),
        json!({ "htu": "/oauth2/token" }),
        json!({ "htu": "data:," }),
        json!({ "htu": null }),
        json!({ "iat": now - 301 }),
        json!({ "iat": now + 61 }),
        json!({ "iat": i64::MAX }),
        json!({ "iat": i64::MIN }),
        json!({ "iat": now.to_string() }),
        json!({ "iat": 1e300 }),
        json!({ "iat": null }),
        json!({ "jti": "" }),
        json!({ "jti": "j".repeat(257) }),
        json!({ "jti": 1 }),
        json!({ "jti": null }),
    ] {
        let reply = ask(&server, &with(&refused)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{refused}: {reply:?}");
        reply.expect_oauth_error(400, "invalid_dpop_proof");
    }
}

async fn t55_a_proof_is_accepted_once_by_all_processes(backend: Backend) {
    let (one, two) = two_servers(backend).await;
    one.client("service", web_app()).await;
    let key = Key::new();
    let proof = key.proof(&one, "POST", "/oauth2/token");
    let replies = (0..20).map(|n| ask(if n % 2 == 0 { &one } else { &two }, &proof));
    let (good, bad): (Vec<_>, Vec<_>) =
        join_all(replies).await.into_iter().partition(|reply| reply.status == StatusCode::OK);
    assert_eq!(good.len(), 1, "{good:?}");
    for reply in bad {
        reply.expect_oauth_error(400, "invalid_dpop_proof");
    }
    // The same `jti` of another key is another proof.
    let other = Key::new();
    let claims = payload(&proof);
    ask(&two, &other.sign(&other.header(), &claims)).await.expect(StatusCode::OK);
    // As long as it would be accepted.
    one.clock.advance(Duration::from_secs(299));
    ask(&one, &proof).await.expect_oauth_error(400, "invalid_dpop_proof");

    let token = bound_token(&one, &key).await;
    let proof = key.proof_of(&one, "GET", "/oauth2/userinfo", &token);
    let replies = join_all((0..20).map(|_| userinfo(&one, &token, &proof))).await;
    let good = replies.iter().filter(|reply| reply.status == StatusCode::OK);
    assert_eq!(good.count(), 1, "{replies:?}");
}

async fn t55_a_forged_proof_is_refused(backend: Backend) {
    let server = with_service(backend).await;
    let (key, other) = (Key::new(), Key::new());
    let claims = || key.claims(&server, "POST", "/oauth2/token");
    let header = |changes: Value| {
        let mut header = key.header();
        for (name, value) in changes.as_object().expect("an object") {
            match value {
                Value::Null => drop(header.as_object_mut().expect("an object").remove(name)),
                value => header[name] = value.clone(),
            }
        }
        header
    };
    let rsa = Jwk::generate_rsa_key(1024).expect("a key").to_public_key().expect("public");
    let mut private = key.public();
    private["d"] = "AAAA".into();
    for bad in [
        json!({ "alg": "none" }),
        json!({ "alg": "HS256" }),
        json!({ "alg": "RS256" }),
        json!({ "alg": null }),
        json!({ "typ": "JWT" }),
        json!({ "typ": "at+jwt" }),
        json!({ "typ": null }),
        json!({ "jwk": null }),
        json!({ "jwk": {} }),
        json!({ "jwk": private }),
        json!({ "jwk": other.public() }),
        json!({ "jwk": { "kty": "oct", "k": "AAAA" } }),
        json!({ "jwk": rsa.as_ref() }),
        json!({ "jku": "https://evil.example/jwks" }),
        json!({ "x5c": [] }),
        json!({ "crit": ["b64"], "b64": false }),
    ] {
        let reply = ask(&server, &key.sign(&header(bad.clone()), &claims())).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{bad}: {reply:?}");
        reply.expect_oauth_error(400, "invalid_dpop_proof");
    }
    let good = key.proof(&server, "POST", "/oauth2/token");
    let (message, signature) = good.rsplit_once('.').expect("a signature");
    let (_, of_another) = message.split_once('.').expect("two parts");
    let hmac = {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(&header(json!({ "alg": "HS256" }))), of_another);
        let signer = jws::HS256.signer_from_bytes(key.public().to_string()).expect("a signer");
        let signature = jws::JwsSigner::sign(&signer, message.as_bytes()).expect("signed");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let zeros = URL_SAFE_NO_PAD.encode([0; 64]);
    for bad in [
        "".to_owned(),
        "x".to_owned(),
        format!("{message}."),
        format!("{message}.{zeros}"),
        format!("{message}.{signature}="),
        format!("{message}.{signature}.x"),
        hmac,
        "a.".repeat(4_000),
    ] {
        ask(&server, &bad).await.expect_oauth_error(400, "invalid_dpop_proof");
    }
    // Two headers, of which another component may read the other one.
    let request = server.request(Method::POST, "/oauth2/token").form(&own_token_fields("service"));
    let request = request.header("dpop", &good);
    let second = key.proof(&server, "POST", "/oauth2/token");
    send(request.header("dpop", second)).await.expect_oauth_error(400, "invalid_dpop_proof");
    // None of these has used it up.
    ask(&server, &good).await.expect(StatusCode::OK);
}

async fn t55_a_bound_token_is_no_bearer_token(backend: Backend) {
    let server = TestServer::with_grpc(backend, &[]).await;
    let key = Key::new();
    let token = bound_token(&server, &key).await;
    let refused = server.get_as("/oauth2/userinfo", &token).await;
    let challenge = refused.header("www-authenticate").to_owned();
    assert!(challenge.contains("Bearer error=\"invalid_token\""), "{challenge}");
    refused.expect_oauth_error(401, "invalid_token");
    server
        .form("/oauth2/userinfo", &[("access_token", &token)])
        .await
        .expect_oauth_error(401, "invalid_token");
    for path in
        ["/api/v1/auth/verify", "/api/v1/modules/", "/forward-auth", "/api/v1/account/sessions"]
    {
        server.get_as(path, &token).await.expect(StatusCode::UNAUTHORIZED);
    }
    // Nor as a cookie.
    let request = server.request(Method::GET, "/forward-auth");
    let request = request.header("cookie", format!("propusk_access={token}"));
    send(request).await.expect(StatusCode::UNAUTHORIZED);

    // A token for this server's services.
    let back_end = Metadata {
        scope: Scope::parse("propusk:tokens propusk:users").expect("a scope"),
        ..web_app()
    };
    server.client("back-end", back_end).await;
    let fields = [&own_token_fields("back-end")[..], &[("scope", "propusk:tokens")]].concat();
    let own = key.request_tokens(&server, &fields).await.field("access_token");
    let validate = ValidateRequest { token: own.clone() };
    let bound = server.caller(&own).await;
    expect_refused(
        bound.tokens().validate(validate.clone()).await,
        Code::Unauthenticated,
        "INVALID_TOKEN",
    );
    // A resource server learns which key to ask for.
    let caller = server.client_caller("back-end", "propusk:tokens").await;
    let facts = caller.tokens().validate(validate).await.expect("an answer").into_inner();
    assert_eq!((facts.active, facts.token_type.as_str()), (true, "DPoP"), "{facts:?}");
    assert_eq!(facts.cnf_jkt, key.thumbprint());
}

async fn t55_a_bound_token_needs_the_proof_of_its_key(backend: Backend) {
    let server = TestServer::start(backend).await;
    let (key, other) = (Key::new(), Key::new());
    let token = bound_token(&server, &key).await;
    let path = "/oauth2/userinfo";
    let of_another_token = key.proof_of(&server, "GET", path, "another token");
    let good = key.proof_of(&server, "GET", path, &token);
    for (proof, error) in [
        (other.proof_of(&server, "GET", path, &token), "invalid_token"),
        (of_another_token, "invalid_dpop_proof"),
        (key.proof(&server, "GET", path), "invalid_dpop_proof"),
        (key.proof_of(&server, "POST", path, &token), "invalid_dpop_proof"),
        (key.proof_of(&server, "GET", "/oauth2/token", &token), "invalid_dpop_proof"),
    ] {
        let refused = userinfo(&server, &token, &proof).await;
        let challenge = refused.header("www-authenticate").to_owned();
        assert!(challenge.starts_with(&format!("DPoP error=\"{error}\"")), "{challenge}");
        assert!(challenge.contains("algs=\"ES256 "), "{challenge}");
        refused.expect_oauth_error(401, error);
    }
    let request = server.request(Method::GET, path);
    let without = send(request.header("authorization", format!("DPoP {token}"))).await;
    without.expect_oauth_error(401, "invalid_dpop_proof");
    userinfo(&server, &token, &good).await.expect(StatusCode::OK);
    // A bearer token gains nothing by a proof.
    server.client("service", web_app()).await;
    let bearer = server.client_token("service", "api:read").await;
    key.userinfo(&server, &bearer).await.expect_oauth_error(401, "invalid_token");
}

async fn t56_a_client_that_demands_bound_tokens_gets_no_bearer_tokens(backend: Backend) {
    let bound = |metadata: Metadata| Metadata { dpop_bound_access_tokens: true, ..metadata };
    let server = with_services(backend).await;
    let key = Key::new();
    for (id, metadata) in [("spa", public_app()), ("service", web_app()), ("tv", device_app())] {
        server.client(id, bound(metadata)).await;
    }
    let refused = async |fields: &[(&str, &str)]| {
        let reply = server.form("/oauth2/token", fields).await;
        reply.expect_oauth_error(400, "invalid_dpop_proof");
    };

    let request = AuthorizationRequest::of("spa", "openid offline_access");
    let code = server.browser().authorize(&request, "ann").await.code().to_owned();
    refused(&code_fields("spa", &code)).await;
    let tokens = key.exchange_code(&server, "spa", &code).await.expect(StatusCode::OK);
    refused(&refresh_fields("spa", &tokens.field("refresh_token"))).await;
    refused(&own_token_fields("service")).await;
    key.request_tokens(&server, &own_token_fields("service")).await.expect(StatusCode::OK);

    let codes = server.device_codes("tv", "openid").await;
    server.logged_in("ann").await.decide(&codes, "allow").await;
    let device = [
        ("grant_type", GrantType::DeviceCode.as_str()),
        ("client_id", "tv"),
        ("device_code", &codes.device),
    ];
    refused(&device).await;
    key.request_tokens(&server, &device).await.expect(StatusCode::OK);

    let subject = exchange::access_token(&server).await;
    server
        .change_client("gateway", |client| client.metadata = bound(client.metadata.clone()))
        .await;
    let subject = (exchange::ACCESS_TOKEN, subject.as_str());
    let exchange = exchange::exchange(&server, "gateway", subject, &[]).await;
    exchange.expect_oauth_error(400, "invalid_dpop_proof");

    // A back end by every way.
    let server = TestServer::with_grpc(backend, &[]).await;
    let assertion_key = assertion_key();
    server.client("mp1", bound(main_project("mp1", &assertion_key))).await;
    let assertion = sign(&assertion_key, &json!({ "alg": "ES256" }), &claims(&server, "one"));
    grant(&server, "mp1", &assertion, &[]).await.expect_oauth_error(400, "invalid_dpop_proof");
    let issued = json_as(&server, "mp1", "", json!({ "subject": "42" })).await;
    issued.expect(StatusCode::BAD_REQUEST);
    let fields = [&own_token_fields("mp1")[..], &[("scope", "propusk:tokens")]].concat();
    let own = key.request_tokens(&server, &fields).await.expect(StatusCode::OK);
    // Its own token, too, is of no use without the key.
    let person = Some(Person::Subject("42".to_owned()));
    let request = IssueRequest { person, ..Default::default() };
    let caller = server.caller(&own.field("access_token")).await;
    expect_refused(caller.tokens().issue(request).await, Code::Unauthenticated, "INVALID_TOKEN");
}

async fn t56_a_self_registered_client_may_demand_bound_tokens(backend: Backend) {
    let settings = [("PROPUSK_CLIENT_REGISTRATION__MODE", "open")];
    let server = TestServer::with(backend, &settings).await;
    let metadata = json!({
        "redirect_uris": ["https://app.example/cb"], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"], "dpop_bound_access_tokens": true,
    });
    let registered = server.post("/oauth2/register", metadata).await.expect(StatusCode::CREATED);
    assert_eq!(registered.json()["dpop_bound_access_tokens"], true);
    let id = registered.field("client_id");
    server.register("ann").await;
    let request = AuthorizationRequest::of(&id, "openid");
    let code = server.browser().authorize(&request, "ann").await.code().to_owned();
    let fields = code_fields(&id, &code);
    server.form("/oauth2/token", &fields).await.expect_oauth_error(400, "invalid_dpop_proof");
    let tokens = Key::new().exchange_code(&server, &id, &code).await.expect(StatusCode::OK);
    assert_eq!(tokens.json()["token_type"], "DPoP");
}

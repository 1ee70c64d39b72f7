//! DPoP (RFC 9449): tokens bound to a key of the client.

use std::{path::PathBuf, process::Stdio, time::Duration};

use propusk::{flows::maintenance, storage::Statement};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::support::{
    Backend, TestServer, backend_tests,
    documentation::{Page, run_commands, secret_in},
    dpop::{Key, code_fields, own_token_fields, refresh_fields},
    oauth::{AuthorizationRequest, CALLBACK, SECRET, device_app, payload, public_app, web_app},
    process::free_address,
    send,
};

backend_tests! {
    a_public_client_gets_bound_tokens_and_refreshes_them,
    a_confidential_client_may_change_its_key,
    clients_and_devices_get_bound_tokens,
    a_code_may_be_bound_in_advance,
    a_pushed_request_may_be_bound_by_a_proof,
    without_a_proof_nothing_changes,
    a_gateway_lets_bound_tokens_pass_with_their_proof,
    resource_servers_read_the_key_by_introspection,
    used_proofs_are_forgotten_after_their_time,
    metadata_and_preflights_name_it,
    requests_with_one_key_are_limited,
}

/// A server with `ann` and the public client `app`.
async fn with_app(backend: Backend) -> TestServer {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    server.client("app", public_app()).await;
    server
}

async fn code(server: &TestServer, request: AuthorizationRequest) -> String {
    server.browser().authorize(&request, "ann").await.code().to_owned()
}

fn request() -> AuthorizationRequest {
    AuthorizationRequest::of("app", "openid email offline_access")
}

/// What the access token is bound to.
fn bound_to(tokens: &Value) -> Value {
    payload(tokens["access_token"].as_str().expect("a token"))["cnf"]["jkt"].clone()
}

async fn a_public_client_gets_bound_tokens_and_refreshes_them(backend: Backend) {
    let server = with_app(backend).await;
    let (key, other) = (Key::new(), Key::new());
    let code = code(&server, request()).await;
    let tokens = key.exchange_code(&server, "app", &code).await.expect(StatusCode::OK).json();
    assert_eq!(tokens["token_type"], "DPoP");
    assert_eq!(bound_to(&tokens), key.thumbprint());
    let access = tokens["access_token"].as_str().expect("a token");
    let claims = key.userinfo(&server, access).await.expect(StatusCode::OK).json();
    assert_eq!(claims["email"], "ann@example.org");

    let refresh = tokens["refresh_token"].as_str().expect("a token").to_owned();
    // Without the key the token is not used up.
    let fields = refresh_fields("app", &refresh);
    server.form("/oauth2/token", &fields).await.expect_oauth_error(400, "invalid_dpop_proof");
    other.refresh(&server, "app", &refresh).await.expect_oauth_error(400, "invalid_grant");
    let again = key.refresh(&server, "app", &refresh).await.expect(StatusCode::OK).json();
    assert_eq!((&again["token_type"], bound_to(&again)), (&json!("DPoP"), json!(key.thumbprint())));
    // Its successor is bound too, and a lost response is repeated.
    let successor = again["refresh_token"].as_str().expect("a token");
    let fields = refresh_fields("app", successor);
    server.form("/oauth2/token", &fields).await.expect_oauth_error(400, "invalid_dpop_proof");
    let repeated = key.refresh(&server, "app", &refresh).await.expect(StatusCode::OK).json();
    assert_eq!(repeated["refresh_token"], again["refresh_token"]);
    // An old one reveals a thief, with its key or not.
    let third = key.refresh(&server, "app", successor).await.expect(StatusCode::OK);
    server.clock.advance(Duration::from_secs(120));
    key.refresh(&server, "app", &refresh).await.expect_oauth_error(400, "invalid_grant");
    let last = third.field("refresh_token");
    key.refresh(&server, "app", &last).await.expect_oauth_error(400, "invalid_grant");
}

/// Its refresh token is bound to its authentication (RFC 9449 §5).
async fn a_confidential_client_may_change_its_key(backend: Backend) {
    let server = with_app(backend).await;
    server.client("app2", web_app()).await;
    let request = AuthorizationRequest::of("app2", "openid offline_access");
    let code = code(&server, request).await;
    let (first, second) = (Key::new(), Key::new());
    let secret = [("client_secret", SECRET)];
    let fields = [&code_fields("app2", &code)[..], &secret].concat();
    let tokens = first.request_tokens(&server, &fields).await.expect(StatusCode::OK).json();
    assert_eq!(bound_to(&tokens), first.thumbprint());
    let refresh = tokens["refresh_token"].as_str().expect("a token");
    let fields = [&refresh_fields("app2", refresh)[..], &secret].concat();
    let tokens = second.request_tokens(&server, &fields).await.expect(StatusCode::OK).json();
    assert_eq!(bound_to(&tokens), second.thumbprint());
    let refresh = tokens["refresh_token"].as_str().expect("a token");
    let tokens = server.refresh_as("app2", refresh).await.expect(StatusCode::OK).json();
    assert_eq!((&tokens["token_type"], bound_to(&tokens)), (&json!("Bearer"), Value::Null));
}

async fn clients_and_devices_get_bound_tokens(backend: Backend) {
    let server = with_app(backend).await;
    server.client("service", web_app()).await;
    server.client("tv", device_app()).await;
    let key = Key::new();
    let tokens = key.request_tokens(&server, &own_token_fields("service")).await;
    assert_eq!(bound_to(&tokens.expect(StatusCode::OK).json()), key.thumbprint());

    let codes = server.device_codes("tv", "openid offline_access").await;
    server.logged_in("ann").await.decide(&codes, "allow").await;
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    let fields = [("grant_type", grant), ("client_id", "tv"), ("device_code", &codes.device)];
    let tokens = key.request_tokens(&server, &fields).await.expect(StatusCode::OK).json();
    assert_eq!(bound_to(&tokens), key.thumbprint());
    let refresh = tokens["refresh_token"].as_str().expect("a token");
    Key::new().refresh(&server, "tv", refresh).await.expect_oauth_error(400, "invalid_grant");
    key.refresh(&server, "tv", refresh).await.expect(StatusCode::OK);
}

/// `dpop_jkt` (RFC 9449 §10).
async fn a_code_may_be_bound_in_advance(backend: Backend) {
    let server = with_app(backend).await;
    let key = Key::new();
    let bound = request().with("dpop_jkt", &key.thumbprint());
    let code = code(&server, bound.clone()).await;
    server
        .form("/oauth2/token", &code_fields("app", &code))
        .await
        .expect_oauth_error(400, "invalid_dpop_proof");
    let other = Key::new().exchange_code(&server, "app", &code).await;
    other.expect_oauth_error(400, "invalid_grant");
    // Neither attempt has used it up.
    key.exchange_code(&server, "app", &code).await.expect(StatusCode::OK);
    // Reuse is still noticed.
    key.exchange_code(&server, "app", &code).await.expect_oauth_error(400, "invalid_grant");

    for bad in ["x", &format!("{}A", key.thumbprint())] {
        let mut browser = server.browser();
        let refused = browser.authorize(&bound.clone().with("dpop_jkt", bad), "ann").await;
        refused.expect_error("invalid_request");
    }
}

/// RFC 9449 §10.1
async fn a_pushed_request_may_be_bound_by_a_proof(backend: Backend) {
    let server = with_app(backend).await;
    let key = Key::new();
    let push = async |request: &AuthorizationRequest, proof: &str| {
        let request = server.request(Method::POST, "/oauth2/par").form(&request.0);
        send(request.header("dpop", proof)).await
    };
    let proof = || key.proof(&server, "POST", "/oauth2/par");
    let pushed = push(&request(), &proof()).await.expect(StatusCode::CREATED);
    let uri = pushed.field("request_uri");
    let by_reference = AuthorizationRequest(vec![
        ("client_id".to_owned(), "app".to_owned()),
        ("request_uri".to_owned(), uri),
    ]);
    let code = code(&server, by_reference).await;
    Key::new().exchange_code(&server, "app", &code).await.expect_oauth_error(400, "invalid_grant");
    key.exchange_code(&server, "app", &code).await.expect(StatusCode::OK);

    let same = request().with("dpop_jkt", &key.thumbprint());
    push(&same, &proof()).await.expect(StatusCode::CREATED);
    let another = request().with("dpop_jkt", &Key::new().thumbprint());
    push(&another, &proof()).await.expect_oauth_error(400, "invalid_dpop_proof");
    let elsewhere = key.proof(&server, "POST", "/oauth2/token");
    push(&request(), &elsewhere).await.expect_oauth_error(400, "invalid_dpop_proof");
}

async fn without_a_proof_nothing_changes(backend: Backend) {
    let server = with_app(backend).await;
    let code = code(&server, request()).await;
    let reply = server.form("/oauth2/token", &code_fields("app", &code)).await;
    let tokens = reply.expect(StatusCode::OK).json();
    assert_eq!((&tokens["token_type"], bound_to(&tokens)), (&json!("Bearer"), Value::Null));
    // A client that begins to use DPoP keeps its sessions; their refresh tokens stay unbound.
    let refresh = tokens["refresh_token"].as_str().expect("a token");
    let key = Key::new();
    let tokens = key.refresh(&server, "app", refresh).await.expect(StatusCode::OK).json();
    assert_eq!(bound_to(&tokens), key.thumbprint());
    let refresh = tokens["refresh_token"].as_str().expect("a token");
    let fields = refresh_fields("app", refresh);
    server.form("/oauth2/token", &fields).await.expect(StatusCode::OK);
}

async fn a_gateway_lets_bound_tokens_pass_with_their_proof(backend: Backend) {
    let settings = [("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.1")];
    let server = TestServer::with(backend, &settings).await;
    server.client("service", web_app()).await;
    let key = Key::new();
    let fields = [&own_token_fields("service")[..], &[("scope", "api:read")]].concat();
    let token = key.request_tokens(&server, &fields).await.field("access_token");
    let ask = async |scheme: &str, proof: &str, uri: &str| {
        let request = server
            .request(Method::GET, "/forward-auth?scope=api:read")
            .header("x-forwarded-method", "PUT")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "api.example")
            .header("x-forwarded-uri", uri)
            .header("dpop", proof);
        send(request.header("authorization", format!("{scheme} {token}"))).await
    };
    let proof =
        |uri: &str| key.proof_at(&server, "PUT", &format!("https://api.example{uri}"), &token);
    let passed = ask("DPoP", &proof("/orders"), "/orders?page=2").await.expect(StatusCode::OK);
    assert_eq!(passed.header("x-propusk-client"), "service");
    for refused in [
        ask("DPoP", &proof("/other"), "/orders").await,
        ask("Bearer", &proof("/orders"), "/orders").await,
    ] {
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{refused:?}");
        assert_eq!(refused.header("x-propusk-client"), "");
    }

    // Without the URL of the request there is nothing to compare with.
    let untrusting = TestServer::start(backend).await;
    let request = untrusting.request(Method::GET, "/forward-auth?scope=api:read");
    let request = request.header("dpop", proof("/orders"));
    let refused = send(request.header("authorization", format!("DPoP {token}"))).await;
    let refused = refused.expect(StatusCode::UNAUTHORIZED);
    assert!(refused.text.contains("server.trusted_proxies"), "{refused:?}");
}

async fn resource_servers_read_the_key_by_introspection(backend: Backend) {
    let server = with_app(backend).await;
    server.client("service", web_app()).await;
    let key = Key::new();
    let token = key.request_tokens(&server, &own_token_fields("service")).await;
    let facts = server.introspect("service", &token.field("access_token")).await;
    assert_eq!(facts["cnf"], json!({ "jkt": key.thumbprint() }), "{facts}");
    assert_eq!(facts["token_type"], "DPoP");
    // It is revoked as any other.
    let fields = [("token", token.field("access_token"))];
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    server.form_as("/oauth2/revoke", "service", &fields).await.expect(StatusCode::OK);
    let facts = server.introspect("service", &token.field("access_token")).await;
    assert_eq!(facts, json!({ "active": false }));
}

async fn used_proofs_are_forgotten_after_their_time(backend: Backend) {
    let server = with_app(backend).await;
    server.client("service", web_app()).await;
    let stored = async || {
        let statement = Statement::new("SELECT kind FROM single_use_ids WHERE kind = 'dpop_proof'");
        server.app.db.read(statement).await.expect("rows").len()
    };
    Key::new().request_tokens(&server, &own_token_fields("service")).await.expect(StatusCode::OK);
    assert_eq!(stored().await, 1);
    server.clock.advance(Duration::from_secs(299));
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(stored().await, 1);
    server.clock.advance(Duration::from_secs(3));
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(stored().await, 0);
}

async fn metadata_and_preflights_name_it(backend: Backend) {
    let server = with_app(backend).await;
    let metadata = server.get("/.well-known/openid-configuration").await.json();
    let algorithms = metadata["dpop_signing_alg_values_supported"].as_array().expect("a list");
    assert!(algorithms.contains(&json!("ES256")) && !algorithms.contains(&json!("none")));
    let preflight = server
        .request(Method::OPTIONS, "/oauth2/token")
        .header("origin", CALLBACK.trim_end_matches("/cb"))
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "dpop");
    let allowed = send(preflight).await.header("access-control-allow-headers").to_owned();
    assert!(allowed.split(", ").any(|header| header == "dpop"), "{allowed}");
}

async fn requests_with_one_key_are_limited(backend: Backend) {
    let settings =
        [("PROPUSK_LIMITS__PROOFS_PER_KEY_BURST", "2"), ("PROPUSK_LIMITS__ENABLED", "true")];
    let server = TestServer::with(backend, &settings).await;
    server.register("ann").await;
    server.client("app", public_app()).await;
    let code = code(&server, request()).await;
    let key = Key::new();
    let token = key.exchange_code(&server, "app", &code).await.field("access_token");
    for expected in [StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS] {
        key.userinfo(&server, &token).await.expect(expected);
    }
}

/// The programs of docs/dpop.md, in a folder with the packages that the page installs.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js with openid-client and oauth4webapi: ./dev/test has them"]
async fn the_programs_of_the_page_work() {
    let page = Page::read("docs/dpop.md");
    let installed = std::env::var("PROPUSK_TEST_CLIENTS_DIR")
        .expect("PROPUSK_TEST_CLIENTS_DIR names no folder with the libraries: run ./dev/test");
    let installed = PathBuf::from(installed);
    let pins = std::fs::read_to_string(installed.join("package.json")).expect("a file");
    for package in page.block("install").split_whitespace().filter(|word| word.contains('@')) {
        let (name, version) = package.split_once('@').expect("a version");
        assert!(pins.contains(&format!("\"{name}\": \"{version}\"")), "{package} is not tested");
    }
    let server = TestServer::at_its_issuer(&[]).await;
    let api = format!("http://{}/orders", free_address());
    let here = |title: &str| page.block(title).replace("http://127.0.0.1:3000/orders", &api);
    let secret = secret_in(&run_commands(&server, &here("propusk")));
    let folder = tempfile::tempdir().expect("a folder");
    let modules = folder.path().join("node_modules");
    std::os::unix::fs::symlink(installed.join("node_modules"), modules).expect("a link");
    let run = |program: &str, arguments: &[&str]| {
        std::fs::write(folder.path().join(program), page.block(program)).expect("a file");
        let mut node = Command::new("node");
        node.current_dir(&folder).arg(program).args(arguments).kill_on_drop(true);
        node.stdin(Stdio::null()).stdout(Stdio::piped());
        node
    };
    let mut server_of_api = run("api.mjs", &[&server.base, &api]).spawn().expect("node");
    let mut printed = BufReader::new(server_of_api.stdout.take().expect("its output")).lines();
    assert_eq!(printed.next_line().await.expect("text").as_deref(), Some("listening"));
    let client = run("client.mjs", &[&server.base, &secret, &api]).output().await.expect("node");
    let text = String::from_utf8(client.stdout).expect("text");
    assert_eq!(text, page.block("printed"));
}

//! Clients that register themselves (RFC 7591, RFC 7592), and what the configuration allows them.

use std::{net::TcpListener, time::Duration};

use futures_util::future::join_all;
use propusk::{
    flows::{admin::clients::registration, maintenance},
    model::actor::Actor,
    storage::Statement,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Backend, Reply, TestServer, backend_tests,
    external_server::ExternalServer,
    oauth::{AuthorizationRequest, CALLBACK, VERIFIER},
    send,
};

const REGISTER: &str = "/oauth2/register";

async fn register(server: &TestServer, metadata: Value) -> Reply {
    server.post(REGISTER, metadata).await
}

async fn register_as(server: &TestServer, token: &str, metadata: Value) -> Reply {
    send(server.request(Method::POST, REGISTER).bearer_auth(token).json(&metadata)).await
}

/// The registration response.
async fn registered(server: &TestServer, metadata: Value) -> Value {
    register(server, metadata).await.expect(StatusCode::CREATED).json()
}

fn web() -> Value {
    json!({ "redirect_uris": [CALLBACK], "client_name": "Example" })
}

/// [`web`] with one more member.
fn with(name: &str, value: Value) -> Value {
    let mut metadata = web();
    metadata[name] = value;
    metadata
}

fn text<'a>(json: &'a Value, name: &str) -> &'a str {
    json[name].as_str().unwrap_or_else(|| panic!("no {name}: {json}"))
}

#[track_caller]
fn expect_oauth_error(reply: &Reply, status: u16, error: &str) {
    assert_eq!(reply.status.as_u16(), status, "{reply:?}");
    assert_eq!(reply.json()["error"], error, "{reply:?}");
    assert!(reply.json()["error_description"].is_string(), "{reply:?}");
    assert_eq!(reply.header("cache-control"), "no-store");
}

/// The tokens that a user's login gives a registered client.
async fn log_in(
    server: &TestServer,
    client: &Value,
    name: &str,
    request: &AuthorizationRequest,
) -> Value {
    let answer = server.browser().authorize(request, name).await;
    exchange_code(server, client, answer.code()).await.expect(StatusCode::OK).json()
}

async fn exchange_code(server: &TestServer, client: &Value, code: &str) -> Reply {
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    let request = server.request(Method::POST, "/oauth2/token");
    let id = text(client, "client_id");
    let request = match client["client_secret"].as_str() {
        Some(secret) => request.basic_auth(id, Some(secret)),
        None => {
            form.push(("client_id", id));
            request
        }
    };
    send(request.form(&form)).await
}

async fn count(server: &TestServer) -> i64 {
    let statement =
        Statement::new("SELECT count(*) AS n FROM clients WHERE source = 'registration'");
    let rows = server.app.db.read(statement).await.expect("rows");
    rows[0].get("n").expect("a number")
}

backend_tests! {
    a_self_registered_client_logs_a_user_in,
    the_metadata_of_the_certification_suite_is_accepted,
    invalid_metadata_is_refused_by_error_code,
    t04_registration_refuses_script_schemes,
    t80_registered_urls_never_reach_a_private_address,
    operator_only_metadata_is_ignored,
    configuration_can_relax_pkce_and_grant_types,
    a_client_reads_replaces_and_deletes_its_registration,
    disabled_client_registration_is_refused,
    an_initial_access_token_is_limited_to_its_count,
    unused_registrations_expire_and_used_ones_stay,
    the_number_of_registrations_is_bounded,
    registrations_are_rate_limited_by_network,
    ambiguous_json_is_refused,
    t83_registration_secrets_appear_in_one_response_only,
}

async fn a_self_registered_client_logs_a_user_in(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let reply = register(&server, web()).await.expect(StatusCode::CREATED);
    assert_eq!(reply.header("cache-control"), "no-store");
    let client = reply.json();
    assert_eq!(client["redirect_uris"], json!([CALLBACK]));
    // The defaults of RFC 7591 §2, returned as they apply (§3.2.1).
    assert_eq!(client["grant_types"], json!(["authorization_code"]));
    assert_eq!(client["response_types"], json!(["code"]));
    assert_eq!(
        (&client["token_endpoint_auth_method"], &client["application_type"]),
        (&"client_secret_basic".into(), &"web".into())
    );
    assert_eq!(
        (&client["client_secret_expires_at"], &client["client_name"]),
        (&0.into(), &"Example".into())
    );
    assert_eq!(client["client_id_issued_at"], server.clock.now().as_secs());
    assert_eq!(client["scope"], "openid profile email offline_access");
    let uri = format!(
        "{}/oauth2/register/{}",
        server.app.config.server.issuer,
        text(&client, "client_id")
    );
    assert_eq!(client["registration_client_uri"], uri);
    assert!(
        text(&client, "client_secret").len() >= 43
            && text(&client, "registration_access_token").len() >= 43
    );
    let tokens = log_in(
        &server,
        &client,
        "ann",
        &AuthorizationRequest::of(text(&client, "client_id"), "openid email"),
    )
    .await;
    assert!(tokens["id_token"].is_string(), "{tokens}");
    assert_eq!(tokens["refresh_token"], Value::Null, "the grant type was not registered");

    let public = registered(&server, json!({ "redirect_uris": [CALLBACK, "http://127.0.0.1/cb"], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token", "implicit", "urn:ietf:params:oauth:grant-type:device_code"], "scope": "openid mcp:tools" })).await;
    assert_eq!(
        (&public["client_secret"], &public["client_secret_expires_at"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        public["grant_types"],
        json!(["authorization_code", "refresh_token"]),
        "the supported ones (RFC 7591 §2)"
    );
    assert_eq!(public["scope"], "openid", "reduced to what self-registered clients may have");
    let tokens = log_in(
        &server,
        &public,
        "ann",
        &AuthorizationRequest::of(text(&public, "client_id"), "openid"),
    )
    .await;
    assert!(tokens["refresh_token"].is_string(), "{tokens}");
}

async fn the_metadata_of_the_certification_suite_is_accepted(backend: Backend) {
    let external = ExternalServer::start().await;
    external.put("/sector", 200, "", json!([CALLBACK, "https://app.example/cb2"]).to_string());
    let settings = external.settings();
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let server = TestServer::with(backend, &settings).await;
    let sector = format!("{}/sector", external.base);
    let request = json!({
        "application_type": "web", "client_name": "OIDF", "client_name#ru": "ОИДФ", "contacts": ["certification@app.example"],
        "redirect_uris": [CALLBACK, "https://app.example/cb2"], "post_logout_redirect_uris": ["https://app.example/bye"],
        "grant_types": ["authorization_code"], "response_types": ["code"], "token_endpoint_auth_method": "client_secret_post",
        "id_token_signed_response_alg": "RS256", "userinfo_signed_response_alg": "RS256", "request_object_signing_alg": "RS256",
        "subject_type": "pairwise", "sector_identifier_uri": sector,
        "logo_uri": "https://app.example/logo.png", "policy_uri": "https://app.example/policy", "tos_uri": "https://app.example/tos",
        "client_uri": "https://app.example/", "initiate_login_uri": "https://app.example/login",
        "backchannel_logout_uri": format!("{}/logout", external.base), "backchannel_logout_session_required": true,
        "default_max_age": 3600, "require_auth_time": true, "default_acr_values": ["urn:propusk:acr:password"],
        "jwks_uri": format!("{}/jwks", external.base),
    });
    let response = registered(&server, request.clone()).await;
    for (name, value) in request.as_object().expect("an object") {
        if name != "client_name#ru" {
            assert_eq!(response[name], *value, "{name}");
        }
    }
    assert_eq!(
        external.connection_count(),
        1,
        "only the sector document is fetched now, not keys, logos or logout URIs"
    );
    let none = registered(&server, with("request_object_signing_alg", "none".into())).await;
    assert_eq!(
        none["request_object_signing_alg"],
        Value::Null,
        "replaced: unsigned request objects are refused"
    );
    let keys = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" }] });
    let mut signer = with("jwks", keys.clone());
    signer["token_endpoint_auth_method"] = "private_key_jwt".into();
    let response = registered(&server, signer).await;
    assert_eq!((&response["jwks"], &response["client_secret"]), (&keys, &Value::Null));

    // OpenID Connect Registration §5: the sector document lists every redirect URI.
    for body in [
        json!([CALLBACK]).to_string(),
        json!({ "redirect_uris": [CALLBACK] }).to_string(),
        "nothing".to_owned(),
    ] {
        external.put("/sector", 200, "", body);
        expect_oauth_error(
            &register(&server, request.clone()).await,
            400,
            "invalid_client_metadata",
        );
    }
    external.put("/sector", 302, &format!("Location: {}/other\r\n", external.base), "");
    external.put("/other", 200, "", json!([CALLBACK, "https://app.example/cb2"]).to_string());
    let reply = register(&server, request).await;
    expect_oauth_error(&reply, 400, "invalid_client_metadata");
    assert!(reply.text.contains("sector_identifier_uri"), "{reply:?}");
}

async fn invalid_metadata_is_refused_by_error_code(backend: Backend) {
    let server = TestServer::start(backend).await;
    let uris = |uris: Value| with("redirect_uris", uris);
    for metadata in [
        json!({}),
        uris(json!([])),
        uris(json!(["https://app.example/cb#x"])),
        uris(json!(["http://app.example/cb"])),
        uris(json!(["com.example.app:/cb"])),
        uris(json!(["https://*.example/cb"])),
        uris(json!(["/cb"])),
        uris(json!(CALLBACK)),
        uris(json!([1])),
        uris((0..21).map(|n| format!("https://app.example/{n}")).collect()),
    ] {
        expect_oauth_error(&register(&server, metadata).await, 400, "invalid_redirect_uri");
    }
    let long = format!("https://app.example/{}", "x".repeat(2048));
    for (name, value) in [
        ("grant_types", json!(["implicit"])),
        ("grant_types", json!(["refresh_token"])),
        ("grant_types", json!(["client_credentials"])),
        ("grant_types", json!("authorization_code")),
        ("response_types", json!(["code", "token"])),
        ("response_types", json!(["id_token"])),
        ("token_endpoint_auth_method", json!("client_secret_jwt")),
        ("token_endpoint_auth_method", json!("private_key_jwt")),
        ("token_endpoint_auth_method", json!(null)),
        ("id_token_signed_response_alg", json!("none")),
        ("id_token_signed_response_alg", json!("HS256")),
        ("id_token_signed_response_alg", json!("EdDSA")),
        ("userinfo_signed_response_alg", json!("PS256")),
        ("subject_type", json!("secret")),
        ("application_type", json!("game")),
        ("logo_uri", json!(long)),
        ("logo_uri", json!("http://app.example/logo")),
        ("client_name", json!("x".repeat(101))),
        ("client_name", json!("Bank\u{202e}knaB")),
        ("client_name", json!("a\u{0}b")),
        ("contacts", json!(vec!["x"; 11])),
        ("default_max_age", json!(-1)),
        ("default_max_age", json!("60")),
        ("require_signed_request_object", json!(true)),
        ("jwks", json!({})),
        ("jwks", json!({ "keys": [{ "kty": "oct", "k": "AAAA" }] })),
        ("post_logout_redirect_uris", json!(["http://app.example/bye"])),
        ("scope", json!(["openid"])),
        ("scope", json!("a\"b")),
        ("backchannel_logout_uri", json!("https://app.example/out#x")),
        ("backchannel_logout_uri", json!("http://app.example/out")),
    ] {
        if value.is_null() {
            registered(&server, with(name, value)).await;
            continue;
        }
        let reply = register(&server, with(name, value)).await;
        expect_oauth_error(&reply, 400, "invalid_client_metadata");
        assert!(reply.text.contains(name), "{name}: {reply:?}");
    }
    let both = json!({ "redirect_uris": [CALLBACK], "jwks_uri": "https://app.example/jwks", "jwks": { "keys": [] } });
    expect_oauth_error(&register(&server, both).await, 400, "invalid_client_metadata");
    let mut pairwise = uris(json!([CALLBACK, "https://other.example/cb"]));
    pairwise["subject_type"] = "pairwise".into();
    let reply = register(&server, pairwise).await;
    expect_oauth_error(&reply, 400, "invalid_client_metadata");
    assert!(reply.text.contains("sector_identifier_uri"), "{reply:?}");
    assert_eq!(count(&server).await, 1);
}

async fn t04_registration_refuses_script_schemes(backend: Backend) {
    let server = TestServer::start(backend).await;
    for uri in [
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "javascript://app.example/%0aalert(1)",
    ] {
        for native in ["native", "web"] {
            let mut metadata = json!({ "redirect_uris": [uri], "application_type": native });
            expect_oauth_error(
                &register(&server, metadata.clone()).await,
                400,
                "invalid_redirect_uri",
            );
            metadata["redirect_uris"] = json!([CALLBACK]);
            metadata["post_logout_redirect_uris"] = json!([uri]);
            expect_oauth_error(&register(&server, metadata).await, 400, "invalid_client_metadata");
        }
        for name in [
            "client_uri",
            "logo_uri",
            "policy_uri",
            "tos_uri",
            "initiate_login_uri",
            "jwks_uri",
            "sector_identifier_uri",
            "backchannel_logout_uri",
        ] {
            let reply = register(&server, with(name, uri.into())).await;
            expect_oauth_error(&reply, 400, "invalid_client_metadata");
            assert!(reply.text.contains(name), "{reply:?}");
        }
    }
    assert_eq!(count(&server).await, 0);
}

async fn t80_registered_urls_never_reach_a_private_address(backend: Backend) {
    let server = TestServer::start(backend).await;
    let inside = TcpListener::bind("127.0.0.1:0").expect("a port");
    inside.set_nonblocking(true).expect("it can");
    let port = inside.local_addr().expect("an address").port();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "2130706433",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "10.0.0.1",
        "app.internal",
    ] {
        let uri = format!("https://{host}:{port}/x");
        for name in ["jwks_uri", "sector_identifier_uri", "backchannel_logout_uri", "logo_uri"] {
            let reply = register(&server, with(name, uri.as_str().into())).await;
            expect_oauth_error(&reply, 400, "invalid_client_metadata");
            assert!(reply.text.contains(name), "{reply:?}");
        }
        for name in ["client_uri", "policy_uri", "tos_uri", "initiate_login_uri"] {
            // Shown in the user's browser only.
            register(&server, with(name, uri.as_str().into())).await.expect(StatusCode::CREATED);
        }
    }
    let error = inside.accept().expect_err("no request arrives");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

async fn operator_only_metadata_is_ignored(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let authorization = json!({ "redirect_uris": [CALLBACK], "consent": "implicit", "introspection_audiences": ["*"], "resources": ["*"], "access_token_signing_alg": "RS256",
        "allowed_origins": ["https://evil.example"], "access_ttl": "1h", "refresh_idle_ttl": "300d", "refresh_max_ttl": "300d", "replay_window": "5m",
        "require_pkce": false, "source": "operator", "client_id": "demo", "client_secret": "mine", "something": { "else": [1] }, "jwks": null });
    let client = registered(&server, authorization).await;
    assert_ne!(client["client_id"], "demo");
    assert_ne!(client["client_secret"], "mine");
    for name in [
        "consent",
        "introspection_audiences",
        "resources",
        "access_token_signing_alg",
        "allowed_origins",
        "access_ttl",
        "replay_window",
        "require_pkce",
        "something",
    ] {
        assert_eq!(client[name], Value::Null, "{name}");
    }
    let id = text(&client, "client_id");
    let request = AuthorizationRequest::of(id, "openid");
    let page = server.logged_in("ann").await.open(&request.path()).await;
    assert!(page.text.contains("name=\"decision\""), "the user is asked: {page:?}");
    let without = request.clone().without("code_challenge").without("code_challenge_method");
    server.browser().authorize(&without, "ann").await.expect_error("invalid_request");
    let tokens = log_in(&server, &client, "ann", &request).await;
    assert_eq!(tokens["expires_in"], 900, "the server's own lifetime");
    let token = send(
        server
            .request(Method::POST, "/oauth2/token")
            .basic_auth(id, client["client_secret"].as_str())
            .form(&[("grant_type", "client_credentials")]),
    )
    .await;
    expect_oauth_error(&token, 400, "unauthorized_client");
}

async fn configuration_can_relax_pkce_and_grant_types(backend: Backend) {
    let settings = [
        ("PROPUSK_CLIENT_REGISTRATION__REQUIRE_PKCE", "false"),
        ("PROPUSK_CLIENT_REGISTRATION__GRANT_TYPES", "authorization_code,client_credentials"),
    ];
    let server = TestServer::with(backend, &settings).await;
    server.register("ann").await;
    let client = registered(
        &server,
        with("grant_types", json!(["authorization_code", "client_credentials", "refresh_token"])),
    )
    .await;
    assert_eq!(
        (&client["require_pkce"], &client["grant_types"]),
        (&false.into(), &json!(["authorization_code", "client_credentials"]))
    );
    let id = text(&client, "client_id");
    let request = AuthorizationRequest::of(id, "openid")
        .without("code_challenge")
        .without("code_challenge_method");
    server.browser().authorize(&request, "ann").await.code();
    let token = send(
        server
            .request(Method::POST, "/oauth2/token")
            .basic_auth(id, client["client_secret"].as_str())
            .form(&[("grant_type", "client_credentials")]),
    )
    .await;
    token.expect(StatusCode::OK);
    // Never for a public client.
    let public = registered(&server, with("token_endpoint_auth_method", "none".into())).await;
    assert_eq!(public["require_pkce"], Value::Null);
    let request = AuthorizationRequest::of(text(&public, "client_id"), "openid")
        .without("code_challenge")
        .without("code_challenge_method");
    server.browser().authorize(&request, "ann").await.expect_error("invalid_request");
}

async fn a_client_reads_replaces_and_deletes_its_registration(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let client = registered(&server, web()).await;
    let other = registered(&server, web()).await;
    let (id, secret, token) = (
        text(&client, "client_id"),
        text(&client, "client_secret"),
        text(&client, "registration_access_token"),
    );
    let path = format!("{REGISTER}/{id}");
    let put = |token: &str, body: Value| {
        send(server.request(Method::PUT, &path).bearer_auth(token).json(&body))
    };
    let read = server.get_as(&path, token).await.expect(StatusCode::OK).json();
    assert_eq!(
        (&read["client_name"], &read["client_secret"]),
        (&"Example".into(), &Value::Null),
        "only its hash is kept"
    );
    assert_eq!(
        (&read["registration_access_token"], &read["client_id"]),
        (&token.into(), &id.into()),
        "RFC 7592 §3"
    );

    // Others learn nothing, not even whether the client exists.
    for (path, token) in [
        (path.as_str(), text(&other, "registration_access_token")),
        (&path, "wrong"),
        (&path, secret),
        (&format!("{REGISTER}/nothing"), token),
        (&format!("{REGISTER}/{}", text(&other, "client_id")), token),
        (&format!("{REGISTER}/propusk"), token),
    ] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let reply = send(
                server
                    .request(method, path)
                    .bearer_auth(token)
                    .json(&json!({ "client_id": id, "redirect_uris": [CALLBACK] })),
            )
            .await;
            expect_oauth_error(&reply, 401, "invalid_token");
            assert!(reply.header("www-authenticate").starts_with("Bearer"), "{reply:?}");
        }
    }
    expect_oauth_error(&send(server.request(Method::DELETE, &path)).await, 401, "invalid_token");

    // Omitted members are deleted (RFC 7592 §2.2); the credentials stay.
    let tokens =
        log_in(&server, &client, "ann", &AuthorizationRequest::of(id, "openid email")).await;
    let access = text(&tokens, "access_token");
    let replaced = put(token, json!({ "client_id": id, "client_secret": secret, "redirect_uris": [CALLBACK], "scope": "openid email", "logo_uri": "https://app.example/l.png" })).await;
    let replaced = replaced.expect(StatusCode::OK).json();
    assert_eq!(
        (&replaced["client_name"], &replaced["logo_uri"], &replaced["scope"]),
        (&Value::Null, &"https://app.example/l.png".into(), &"openid email".into())
    );
    assert_eq!(
        server.get_as("/oauth2/userinfo", access).await.status,
        StatusCode::UNAUTHORIZED,
        "it held a scope that was removed from the client"
    );
    server.clock.advance(Duration::from_secs(2));
    let fresh =
        log_in(&server, &client, "ann", &AuthorizationRequest::of(id, "openid email")).await;
    let fresh = text(&fresh, "access_token");
    for (body, error) in [
        (json!({ "redirect_uris": [CALLBACK] }), "invalid_client_metadata"),
        (
            json!({ "client_id": text(&other, "client_id"), "redirect_uris": [CALLBACK] }),
            "invalid_client_metadata",
        ),
        (
            json!({ "client_id": id, "client_secret": "another", "redirect_uris": [CALLBACK] }),
            "invalid_client_metadata",
        ),
        (
            json!({ "client_id": id, "redirect_uris": ["javascript:alert(1)"] }),
            "invalid_redirect_uri",
        ),
        (json!({ "client_id": id }), "invalid_redirect_uri"),
    ] {
        expect_oauth_error(&put(token, body).await, 400, error);
    }

    // From secret to none and back: a new secret, shown once.
    let public = put(token, json!({ "client_id": id, "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none", "scope": "openid email" })).await.expect(StatusCode::OK).json();
    assert_eq!(public["client_secret_expires_at"], Value::Null);
    let again = put(
        token,
        json!({ "client_id": id, "redirect_uris": [CALLBACK], "scope": "openid email" }),
    )
    .await
    .expect(StatusCode::OK)
    .json();
    assert!(again["client_secret"].is_string() && again["client_secret"] != secret, "{again}");
    server.get_as("/oauth2/userinfo", fresh).await.expect(StatusCode::OK);

    let gone = send(server.request(Method::DELETE, &path).bearer_auth(token))
        .await
        .expect(StatusCode::NO_CONTENT);
    assert_eq!(gone.text, "");
    assert_eq!(
        server.get_as("/oauth2/userinfo", fresh).await.status,
        StatusCode::UNAUTHORIZED,
        "its tokens are revoked at once"
    );
    expect_oauth_error(&server.get_as(&path, token).await, 401, "invalid_token");
    let page = server.browser().open(&AuthorizationRequest::of(id, "openid").path()).await;
    assert_eq!((page.status, page.header("location")), (StatusCode::BAD_REQUEST, ""));
    server
        .get_as(
            &format!("{REGISTER}/{}", text(&other, "client_id")),
            text(&other, "registration_access_token"),
        )
        .await
        .expect(StatusCode::OK);
}

async fn disabled_client_registration_is_refused(backend: Backend) {
    let server = TestServer::with(backend, &[("PROPUSK_CLIENT_REGISTRATION__MODE", "off")]).await;
    expect_oauth_error(&register(&server, web()).await, 403, "access_denied");
    expect_oauth_error(&register_as(&server, "x", web()).await, 403, "access_denied");
    expect_oauth_error(&server.get_as(&format!("{REGISTER}/x"), "x").await, 403, "access_denied");
    assert_eq!(count(&server).await, 0);
    let metadata = server.get("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["registration_endpoint"], Value::Null);
}

async fn an_initial_access_token_is_limited_to_its_count(backend: Backend) {
    let server = TestServer::with(backend, &[("PROPUSK_CLIENT_REGISTRATION__MODE", "token")]).await;
    let week = Duration::from_secs(7 * 86_400);
    let (token, _) = registration::invite(&server.app, 1, week, &Actor::operator())
        .await
        .expect("an initial access token");
    for reply in [
        register(&server, web()).await,
        register_as(&server, "wrong", web()).await,
        register_as(&server, &token[1..], web()).await,
    ] {
        expect_oauth_error(&reply, 401, "invalid_token");
        assert!(reply.header("www-authenticate").starts_with("Bearer"), "{reply:?}");
    }
    // A refused request does not count.
    expect_oauth_error(&register_as(&server, &token, json!({})).await, 400, "invalid_redirect_uri");
    let replies = join_all((0..50).map(|_| register_as(&server, &token, web()))).await;
    let created = replies.iter().filter(|reply| reply.status == StatusCode::CREATED).count();
    let refused = replies.iter().filter(|reply| reply.status == StatusCode::UNAUTHORIZED).count();
    assert_eq!((created, refused, count(&server).await), (1, 49, 1));
    let (three, _) = registration::invite(&server.app, 3, week, &Actor::operator())
        .await
        .expect("an initial access token");
    for _ in 0..2 {
        register_as(&server, &three, web()).await.expect(StatusCode::CREATED);
    }
    server.clock.advance(week);
    expect_oauth_error(&register_as(&server, &three, web()).await, 401, "invalid_token");
    maintenance::sweep(&server.app).await.expect("swept");
    let left = server
        .app
        .db
        .read(Statement::new("SELECT id FROM initial_access_tokens"))
        .await
        .expect("rows");
    assert_eq!(left.len(), 0);
}

async fn unused_registrations_expire_and_used_ones_stay(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let (used, unused) = (registered(&server, web()).await, registered(&server, web()).await);
    let request = |client: &Value| AuthorizationRequest::of(text(client, "client_id"), "openid");
    log_in(&server, &used, "ann", &request(&used)).await;
    // A change of the registration is not a use of it, and does not reset that it was used.
    let body = json!({ "client_id": used["client_id"], "redirect_uris": [CALLBACK] });
    let path = format!("{REGISTER}/{}", text(&used, "client_id"));
    send(
        server
            .request(Method::PUT, &path)
            .bearer_auth(text(&used, "registration_access_token"))
            .json(&body),
    )
    .await
    .expect(StatusCode::OK);
    server.clock.advance(Duration::from_secs(7 * 86_400 - 1));
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(count(&server).await, 2);
    server.clock.advance(Duration::from_secs(1));
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(count(&server).await, 1);
    log_in(&server, &used, "ann", &request(&used)).await;
    let page = server.browser().open(&request(&unused).path()).await;
    assert_eq!((page.status, page.header("location")), (StatusCode::BAD_REQUEST, ""));
}

async fn the_number_of_registrations_is_bounded(backend: Backend) {
    let server =
        TestServer::with(backend, &[("PROPUSK_CLIENT_REGISTRATION__MAX_CLIENTS", "3")]).await;
    let replies = join_all((0..20).map(|_| register(&server, web()))).await;
    let created = replies.iter().filter(|reply| reply.status == StatusCode::CREATED).count();
    assert_eq!((created, count(&server).await), (3, 3));
    let refused = replies.iter().find(|reply| reply.status != StatusCode::CREATED).expect("one");
    expect_oauth_error(refused, 503, "temporarily_unavailable");
}

async fn registrations_are_rate_limited_by_network(backend: Backend) {
    let settings = [
        ("PROPUSK_LIMITS__ENABLED", "true"),
        ("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.1/32"),
        ("PROPUSK_LIMITS__REGISTER_PER_ADDRESS_BURST", "5"),
    ];
    let server = TestServer::with(backend, &settings).await;
    let from = |address: &'static str| {
        send(server.request(Method::POST, REGISTER).header("x-forwarded-for", address).json(&web()))
    };
    for _ in 0..5 {
        from("198.51.100.7").await.expect(StatusCode::CREATED);
    }
    let stopped = from("198.51.100.7").await;
    assert_eq!(stopped.status, StatusCode::TOO_MANY_REQUESTS, "{stopped:?}");
    assert!(stopped.header("retry-after").parse::<u64>().is_ok_and(|wait| wait > 0), "{stopped:?}");
    from("203.0.113.9").await.expect(StatusCode::CREATED);
}

async fn ambiguous_json_is_refused(backend: Backend) {
    let server = TestServer::start(backend).await;
    let send_text = |content_type: &'static str, body: String| {
        send(server.request(Method::POST, REGISTER).header("content-type", content_type).body(body))
    };
    let good = web().to_string();
    send_text("application/json; charset=utf-8", good.clone()).await.expect(StatusCode::CREATED);
    let twice = good.replacen('{', "{\"redirect_uris\":[\"https://evil.example/cb\"],", 1);
    for body in [
        twice,
        "[]".to_owned(),
        "null".to_owned(),
        String::new(),
        good[1..].to_owned(),
        format!("{good}{good}"),
        "[".repeat(60_000),
        "{\"a\":".repeat(12_000),
    ] {
        expect_oauth_error(
            &send_text("application/json", body).await,
            400,
            "invalid_client_metadata",
        );
    }
    for other in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        expect_oauth_error(&send_text(other, good.clone()).await, 415, "invalid_request");
    }
    expect_oauth_error(
        &send(server.request(Method::POST, REGISTER).body(good)).await,
        415,
        "invalid_request",
    );
    expect_oauth_error(
        &send_text("application/json", with("x", "x".repeat(70_000).into()).to_string()).await,
        413,
        "invalid_request",
    );
    assert_eq!(count(&server).await, 1);
}

async fn t83_registration_secrets_appear_in_one_response_only(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let client = registered(&server, web()).await;
    let (id, secret, token) = (
        text(&client, "client_id"),
        text(&client, "client_secret"),
        text(&client, "registration_access_token"),
    );
    log_in(&server, &client, "ann", &AuthorizationRequest::of(id, "openid")).await;
    let path = format!("{REGISTER}/{id}");
    let put = json!({ "client_id": id, "client_secret": secret, "redirect_uris": [CALLBACK] });
    let bad =
        json!({ "client_id": id, "client_secret": "a wrong guess", "redirect_uris": [CALLBACK] });
    let mut response = vec![
        server.get_as(&path, token).await.text,
        send(server.request(Method::PUT, &path).bearer_auth(token).json(&put))
            .await
            .expect(StatusCode::OK)
            .text,
        send(server.request(Method::PUT, &path).bearer_auth(token).json(&bad)).await.text,
        server.get_as(&path, secret).await.text,
        server.get_as("/api/v1/auth/verify", token).await.text,
    ];
    let kept = "SELECT data AS text FROM outbox UNION ALL SELECT detail AS text FROM audit_log UNION ALL SELECT metadata AS text FROM clients";
    let rows = server.app.db.read(Statement::new(kept)).await.expect("rows");
    response.extend(rows.iter().map(|row| row.get::<String>("text").expect("text")));
    for text in &response {
        assert!(!text.contains(secret) && !text.contains("a wrong guess"), "{text}");
    }
    // RFC 7592 §3 requires the token in the responses to its bearer, and nowhere else.
    assert!(response[2..].iter().all(|text| !text.contains(token)), "{response:?}");
}

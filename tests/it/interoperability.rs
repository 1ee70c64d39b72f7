//! What client libraries and browsers send and expect beyond the specifications' main path.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use josekit::{
    jwk::{Jwk, alg::ed::EdCurve},
    jws::{self, JwsSigner, JwsVerifier},
};
use propusk::model::client::{AssertionAudience, AuthMethod, GrantType, Metadata};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Backend, Database, Reply, TestServer, backend_tests,
    external_server::ExternalServer,
    oauth::{
        AuthorizationRequest, AuthorizationResponse, CALLBACK, SECRET, VERIFIER, first_party_app,
        header, payload, public_app,
    },
    process::{Process, run, set_up},
    send,
};

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A JWT signed with an Ed25519 key, under this `alg`.
fn sign(key: &Jwk, alg: &str, claims: &Value) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(json!({ "alg": alg })), part(claims.clone()));
    let signer = jws::EdDSA.signer_from_jwk(key).expect("a signer");
    let signature = signer.sign(message.as_bytes()).expect("a signature");
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A client with an Ed25519 key, whose published form names this `alg`.
fn signing_app(key: &Jwk, alg: &str) -> Metadata {
    let mut public: Value =
        serde_json::to_value(key.to_public_key().expect("a public key")).expect("JSON");
    public["alg"] = alg.into();
    Metadata {
        token_endpoint_auth_method: AuthMethod::PrivateKeyJwt,
        jwks: Some(json!({ "keys": [public] })),
        ..first_party_app()
    }
}

/// The response to a token request that is authenticated by an assertion for this audience.
async fn ask(server: &TestServer, key: &Jwk, alg: &str, id: &str, jti: &str, aud: Value) -> Reply {
    let exp = server.clock.now().as_secs() + 60;
    let claims = json!({ "iss": id, "sub": id, "aud": aud, "jti": jti, "exp": exp });
    let assertion = sign(key, alg, &claims);
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION),
        ("client_assertion", &assertion),
    ];
    server.form("/oauth2/token", &form).await
}

fn key() -> Jwk {
    Jwk::generate_ed_key(EdCurve::Ed25519).expect("a key")
}

backend_tests! {
    an_empty_scope_is_omitted,
    a_registration_with_an_empty_scope_gets_the_default,
    a_number_has_digits_only_and_a_large_one_is_no_limit,
    id_tokens_have_the_claims_of_the_scope_where_registered,
    the_response_can_be_in_the_fragment,
    cors_at_loopback_follows_the_rule_of_redirects,
    ed25519_is_accepted_and_advertised_beside_eddsa,
    assertions_may_be_for_the_token_endpoint_where_allowed,
    if_match_with_a_star_succeeds_while_the_resource_exists,
    operators_register_hundreds_of_redirect_uris,
    initiate_login_uri_must_be_https,
    failed_authentication_in_the_form_is_400_without_a_challenge,
    a_logo_of_64_kib_is_shown,
}

async fn an_empty_scope_is_omitted(backend: Backend) {
    let server = TestServer::start(backend).await;
    let service =
        Metadata { grant_types: vec![GrantType::ClientCredentials], ..Metadata::default() };
    server.client("service", service).await;
    let form = [("grant_type", "client_credentials")];
    let reply = server.form_as("/oauth2/token", "service", &form).await.expect(StatusCode::OK);
    assert_eq!(reply.json().get("scope"), None, "RFC 6749 §3.3 has no empty scope");
    let access = reply.field("access_token");
    assert_eq!(payload(&access).get("scope"), None);
    let introspection = server.introspect("service", &access).await;
    assert_eq!((&introspection["active"], introspection.get("scope")), (&true.into(), None));
    server.verify(&access).await.expect(StatusCode::OK);
}

async fn a_registration_with_an_empty_scope_gets_the_default(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let register = async |metadata: Value| {
        server.post("/oauth2/register", metadata).await.expect(StatusCode::CREATED).json()
    };
    let default = register(json!({ "redirect_uris": [CALLBACK] })).await["scope"].clone();
    for empty in ["", "  "] {
        let metadata = json!({
            "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none", "scope": empty,
        });
        let client = register(metadata).await;
        assert_eq!(client["scope"], default);
        let id = client["client_id"].as_str().expect("an id");
        let request = AuthorizationRequest::of(id, "openid");
        server.browser().authorize(&request, "ann").await.code();
    }
}

async fn a_number_has_digits_only_and_a_large_one_is_no_limit(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", first_party_app()).await;
    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    server.clock.advance(Duration::from_secs(3_600));
    let request = |age: &str| AuthorizationRequest::of("app", "openid").with("max_age", age);
    for bad in ["+5", "-1", " 5", "5s", "1e3"] {
        let reply = ann.open(&request(bad).path()).await;
        let answer = AuthorizationResponse::of(reply.header("location"));
        answer.expect_error("invalid_request");
        assert!(answer.fields["error_description"].contains("max_age"), "{answer:?}");
    }
    for large in ["4294967296", "99999999999999999999999"] {
        let reply = ann.open(&request(large).path()).await;
        AuthorizationResponse::of(reply.header("location")).code();
    }
    let metadata = json!({ "redirect_uris": [CALLBACK], "default_max_age": 4_294_967_296_u64 });
    server.post("/oauth2/register", metadata).await.expect(StatusCode::CREATED);
}

async fn id_tokens_have_the_claims_of_the_scope_where_registered(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("plain", first_party_app()).await;
    let whole = Metadata { claims_in_id_token: true, ..first_party_app() };
    server.client("whole", whole).await;
    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    let mut tokens = async |id: &str, scope: &str| {
        let answer = ann.authorize(&AuthorizationRequest::of(id, scope), "ann").await;
        server.exchange_code(id, answer.code()).await.expect(StatusCode::OK)
    };
    let claims = |reply: &Reply| {
        let claims = payload(&reply.field("id_token"));
        [claims["email"].clone(), claims["preferred_username"].clone()]
    };
    let (email, name) = (json!("ann@example.org"), json!("ann"));
    let plain = tokens("plain", "openid profile email").await;
    assert_eq!(claims(&plain), [Value::Null, Value::Null], "Core §5.4");
    let whole = tokens("whole", "openid profile email").await;
    assert_eq!(claims(&whole), [email.clone(), name.clone()]);
    let less = tokens("whole", "openid email").await;
    assert_eq!(claims(&less), [email, Value::Null], "the scope decides");
    // A refresh that narrows the scope narrows the ID token as well.
    let refresh = whole.field("refresh_token");
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh.as_str()),
        ("scope", "openid profile"),
    ];
    let narrow = server.form_as("/oauth2/token", "whole", &form).await.expect(StatusCode::OK);
    assert_eq!(claims(&narrow), [Value::Null, name]);
    // Clients may register it themselves, and read it back.
    let metadata = json!({ "redirect_uris": [CALLBACK], "claims_in_id_token": true });
    let client = server.post("/oauth2/register", metadata).await.expect(StatusCode::CREATED);
    assert_eq!(client.json()["claims_in_id_token"], true);
}

async fn the_response_can_be_in_the_fragment(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("spa", public_app()).await;
    server.register("ann").await;
    let offered = server.get("/.well-known/openid-configuration").await.json();
    assert_eq!(offered["response_modes_supported"], json!(["query", "fragment", "form_post"]));
    let request = AuthorizationRequest::of("spa", "openid").with("response_mode", "fragment");
    let answer = server.browser().authorize(&request, "ann").await;
    assert_eq!(answer.location.query(), None, "{answer:?}");
    let fragment = answer.location.fragment().expect("a fragment");
    let fields: std::collections::HashMap<String, String> =
        url::form_urlencoded::parse(fragment.as_bytes()).into_owned().collect();
    assert_eq!(fields["state"], "a state");
    assert_eq!(fields["iss"], server.app.config.server.issuer);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "spa"),
        ("code", &fields["code"]),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    server.form("/oauth2/token", &form).await.expect(StatusCode::OK);
    let silent = server.browser().open(&request.with("prompt", "none").path()).await;
    let location = silent.header("location");
    assert!(location.starts_with(&format!("{CALLBACK}#error=login_required&")), "{location}");
}

async fn cors_at_loopback_follows_the_rule_of_redirects(backend: Backend) {
    for (uri, allowed, refused) in [
        (
            "http://localhost/cb",
            ["http://localhost", "http://localhost:5173"],
            ["http://127.0.0.1:5173", "https://localhost:5173"],
        ),
        (
            "http://127.0.0.1:1/cb",
            ["http://127.0.0.1", "http://127.0.0.1:5173"],
            ["http://localhost:5173", "http://[::1]:5173"],
        ),
        // A port that was registered with `localhost` must match.
        (
            "http://localhost:3000/cb",
            ["http://localhost:3000"; 2],
            ["http://localhost:5173", "http://localhost"],
        ),
    ] {
        let server = TestServer::start(backend).await;
        let metadata = Metadata { redirect_uris: vec![uri.to_owned()], ..public_app() };
        server.client("app", metadata).await;
        for (origins, named) in [(allowed, true), (refused, false)] {
            for origin in origins {
                let request = server.request(Method::OPTIONS, "/oauth2/token");
                let reply = send(request.header("origin", origin)).await;
                let expected = if named { origin } else { "" };
                assert_eq!(reply.header("access-control-allow-origin"), expected, "{uri}");
                // Redirects there follow the same rule.
                let request = AuthorizationRequest::of("app", "openid")
                    .with("redirect_uri", &format!("{origin}/cb"));
                let reply = server.browser().open(&request.path()).await;
                let status = if named { StatusCode::SEE_OTHER } else { StatusCode::BAD_REQUEST };
                assert_eq!(reply.status, status, "{uri} {origin}");
            }
        }
    }
}

async fn ed25519_is_accepted_and_advertised_beside_eddsa(backend: Backend) {
    let settings = [("PROPUSK_KEYS__ALGORITHMS", "ES256,RS256,Ed25519")];
    let server = TestServer::with(backend, &settings).await;
    server.register("ann").await;
    let offered = server.get("/.well-known/openid-configuration").await.json();
    for name in [
        "id_token_signing_alg_values_supported",
        "userinfo_signing_alg_values_supported",
        "introspection_signing_alg_values_supported",
        "request_object_signing_alg_values_supported",
        "token_endpoint_auth_signing_alg_values_supported",
        "introspection_endpoint_auth_signing_alg_values_supported",
        "revocation_endpoint_auth_signing_alg_values_supported",
    ] {
        let names = offered[name].as_array().expect("a list");
        for alg in ["EdDSA", "Ed25519"] {
            assert!(names.contains(&alg.into()), "{name}: {names:?}");
        }
    }
    // Either name in the key, in the registration and in the assertion.
    let issuer = json!(server.app.config.server.issuer);
    let key = key();
    for (n, [of_key, registered, sent]) in [
        ["Ed25519", "Ed25519", "Ed25519"],
        ["EdDSA", "EdDSA", "Ed25519"],
        ["Ed25519", "Ed25519", "EdDSA"],
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("app{n}");
        let alg = serde_json::from_value(registered.into()).expect("a name");
        let metadata =
            Metadata { token_endpoint_auth_signing_alg: Some(alg), ..signing_app(&key, of_key) };
        server.client(&id, metadata).await;
        ask(&server, &key, sent, &id, "one", issuer.clone()).await.expect(StatusCode::OK);
    }
    // A client gets ID tokens under the name that it has registered.
    let jwks = server.get("/oauth2/jwks").await.json();
    for alg in ["EdDSA", "Ed25519"] {
        let metadata = json!({ "redirect_uris": [CALLBACK], "id_token_signed_response_alg": alg });
        let client = server.post("/oauth2/register", metadata).await.expect(StatusCode::CREATED);
        assert_eq!(client.json()["id_token_signed_response_alg"], alg);
        let (id, secret) = (client.field("client_id"), client.field("client_secret"));
        let answer =
            server.browser().authorize(&AuthorizationRequest::of(&id, "openid"), "ann").await;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", answer.code()),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        let request = server.request(Method::POST, "/oauth2/token").basic_auth(id, Some(secret));
        let token = send(request.form(&form)).await.expect(StatusCode::OK).field("id_token");
        assert_eq!(header(&token)["alg"], alg);
        let mut keys = jwks["keys"].as_array().expect("keys").iter();
        let key = keys.find(|key| key["kid"] == header(&token)["kid"]).expect("published");
        let key = Jwk::from_bytes(key.to_string()).expect("a JWK");
        let verifier = jws::EdDSA.verifier_from_jwk(&key).expect("a verifier");
        let (message, signature) = token.rsplit_once('.').expect("a signature");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        verifier.verify(message.as_bytes(), &signature).expect("a good signature");
        // It is accepted again as a hint.
        let hinted = AuthorizationRequest::of(&client.field("client_id"), "openid")
            .with("id_token_hint", &token)
            .with("prompt", "none");
        let reply = server.browser().open(&hinted.path()).await;
        // The site of a client that registered itself gets an error by a click only.
        assert!(reply.expect_page(400).text.contains("error=login_required"));
    }
}

async fn assertions_may_be_for_the_token_endpoint_where_allowed(backend: Backend) {
    let wide = [("PROPUSK_CLIENT_AUTH__ASSERTION_AUDIENCE", "issuer_or_token_endpoint")];
    for (settings, own, accepts) in [
        (&[][..], None, false),
        (&[][..], Some(AssertionAudience::IssuerOrTokenEndpoint), true),
        (&wide[..], None, true),
        (&wide[..], Some(AssertionAudience::Issuer), false),
    ] {
        let server = TestServer::with(backend, settings).await;
        let key = key();
        let metadata = Metadata { assertion_audience: own, ..signing_app(&key, "EdDSA") };
        server.client("app", metadata).await;
        let issuer = server.app.config.server.issuer.clone();
        let endpoint = format!("{issuer}/oauth2/token");
        let ask = |jti: &'static str, aud: Value| ask(&server, &key, "EdDSA", "app", jti, aud);
        ask("issuer", json!(issuer)).await.expect(StatusCode::OK);
        for (jti, aud) in [
            ("endpoint", json!(endpoint)),
            ("list", json!([endpoint])),
            ("both", json!([issuer, endpoint])),
        ] {
            let reply = ask(jti, aud.clone()).await;
            assert_eq!(reply.status == StatusCode::OK, accepts, "{aud} {own:?}: {reply:?}");
        }
        // Never for anybody else, nor for another endpoint.
        for (jti, aud) in [
            ("par", json!(format!("{issuer}/oauth2/par"))),
            ("other", json!([issuer, "https://other.example"])),
            ("slash", json!(format!("{endpoint}/"))),
        ] {
            ask(jti, aud).await.expect_oauth_error(400, "invalid_client");
        }
    }
}

async fn if_match_with_a_star_succeeds_while_the_resource_exists(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    server.register("ann").await;
    let id = propusk::flows::admin::users::find(&server.app, "ann").await.expect("known").id;
    server.client("app", first_party_app()).await;
    let role = json!({ "name": "editor", "description": "Writes." });
    admin.post("/roles", role).await.expect(StatusCode::CREATED);
    server.module("crm", "crm:read", None, false).await;
    let module = |n: usize| {
        json!({
            "names": { "en": format!("CRM {n}") }, "descriptions": {}, "scopes": ["crm:read"],
            "selfService": false,
        })
    };
    let user = format!("/users/{id}");
    let change = |n: usize| {
        let (method, path, body) = match n % 4 {
            0 => (Method::PATCH, user.as_str(), json!({ "username": format!("ann{n}") })),
            1 => {
                let name = format!("App {n}");
                (Method::PATCH, "/clients/app", json!({ "metadata": { "client_name": name } }))
            }
            2 => (Method::PATCH, "/roles/editor", json!({ "description": format!("Writes {n}.") })),
            _ => (Method::PUT, "/modules/crm", module(n)),
        };
        send(admin.request(method, path).header("if-match", "*").json(&body))
    };
    for reply in join_all((0..80).map(change)).await {
        reply.expect(StatusCode::OK);
    }
    for path in [user.as_str(), "/clients/app", "/roles/editor", "/modules/crm"] {
        let removals = join_all((0..5).map(|_| admin.delete(path))).await;
        let mut statuses: Vec<_> = removals.iter().map(|reply| reply.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses[1..], [404; 4], "{path}: one removes it, and then there is none");
        assert!((200..300).contains(&statuses[0]), "{path}: {removals:?}");
    }
}

async fn operators_register_hundreds_of_redirect_uris(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let uris = |count: usize| -> Vec<String> {
        (0..count).map(|n| format!("https://tenant{n}.example/cb")).collect()
    };
    let metadata = |count| json!({ "redirect_uris": uris(count), "scope": "openid" });
    let app = |id: &str, count| json!({ "id": id, "metadata": metadata(count) });
    admin.post("/clients", app("tenants", 500)).await.expect(StatusCode::CREATED);
    let reply = admin.post("/clients", app("more", 501)).await;
    assert!(reply.expect_error(400, "VALIDATION_ERROR").text.contains("at most 500"));
    let request = AuthorizationRequest::of("tenants", "openid")
        .with("redirect_uri", "https://tenant499.example/cb");
    server.browser().open(&request.path()).await.expect(StatusCode::SEE_OTHER);
    let reply = server.post("/oauth2/register", metadata(21)).await;
    let reply = reply.expect_oauth_error(400, "invalid_redirect_uri");
    assert!(reply.text.contains("at most 20"), "{reply:?}");
}

async fn initiate_login_uri_must_be_https(backend: Backend) {
    let server = TestServer::start(backend).await;
    let register = async |uri: &str| {
        let metadata = json!({ "redirect_uris": [CALLBACK], "initiate_login_uri": uri });
        server.post("/oauth2/register", metadata).await
    };
    register("https://app.example/login").await.expect(StatusCode::CREATED);
    for bad in ["http://localhost/login", "http://127.0.0.1:3000/login", "http://app.example/login"]
    {
        let reply = register(bad).await.expect_oauth_error(400, "invalid_client_metadata");
        assert!(reply.text.contains("initiate_login_uri: must be an https URL"), "{reply:?}");
    }
}

async fn failed_authentication_in_the_form_is_400_without_a_challenge(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", first_party_app()).await;
    for path in [
        "/oauth2/token",
        "/oauth2/par",
        "/oauth2/device_authorization",
        "/oauth2/introspect",
        "/oauth2/revoke",
    ] {
        let form = [("grant_type", "client_credentials"), ("token", "x"), ("client_id", "app")];
        let wrong = [&form[..], &[("client_secret", "wrong")]].concat();
        for form in [&form[..2], &form, &wrong] {
            let reply = server.form(path, form).await.expect_oauth_error(400, "invalid_client");
            assert_eq!(reply.header("www-authenticate"), "", "{path} {form:?}");
        }
        // RFC 6749 §5.2: clients that send the header are challenged.
        let request = server.request(Method::POST, path).basic_auth("app", Some("wrong"));
        let reply = send(request.form(&form)).await.expect_oauth_error(401, "invalid_client");
        assert!(reply.header("www-authenticate").starts_with("Basic"), "{reply:?}");
        let request = server.request(Method::POST, path).basic_auth("app", Some(SECRET));
        assert_ne!(send(request.form(&form)).await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

/// The login page of a request of `app`, in a new browser.
async fn login_page(server: &TestServer) -> String {
    let mut browser = server.browser();
    let first = browser.open(&AuthorizationRequest::of("app", "openid").path()).await;
    browser.open(first.header("location")).await.expect(StatusCode::OK).text
}

async fn a_logo_of_64_kib_is_shown(backend: Backend) {
    let external = ExternalServer::start().await;
    let settings = external.settings();
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let server = TestServer::with(backend, &settings).await;
    let logo_uri = Some(format!("{}/logo", external.base));
    external.put("/logo", 200, "Content-Type: image/png\r\n", "x".repeat(64 * 1024));
    server.client("app", Metadata { logo_uri, ..first_party_app() }).await;
    // The first page has it fetched in the background.
    for _ in 0..1_000 {
        if login_page(&server).await.contains("data:image/png;base64,eHh4") {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the logo is not shown after {} requests", external.connection_count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logo_that_is_not_shown_is_logged() {
    let external = ExternalServer::start().await;
    let settings = external.settings();
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    external.put("/logo", 200, "Content-Type: text/html\r\n", "<b>");
    let database = Database::new(Backend::Sqlite).await;
    set_up(&database);
    let logo = format!("{}/logo", external.base);
    let add = ["client", "add", "app", "--public", "--redirect-uri", CALLBACK, "--logo-uri", &logo];
    let added = run(&database, &settings, &add);
    assert!(added.status.success(), "{added:?}");
    let server = Process::serve(&database, &settings).await;
    let request = AuthorizationRequest::of("app", "openid");
    let page = reqwest::get(format!("{}{}", server.base, request.path())).await.expect("a page");
    assert!(page.url().path().starts_with("/login"), "{page:?}");
    // Polls: another process cannot be awaited otherwise.
    for _ in 0..600 {
        let log = server.stderr();
        if let Some(line) = log.lines().find(|line| line.contains("a logo is not shown")) {
            assert!(line.contains(&logo) && line.contains("text/html"), "{line}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("nothing is logged: {}", server.stderr());
}

//! The dynamic plan: clients that register themselves and authenticate by signed assertions.

use propusk::{keys::Rotation, model::actor::Actor};
use std::time::Duration;

use josekit::jwk::Jwk;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{
    another_client_key, asks, check_answer, check_tokens, client_key, key_set, sign, signed,
};
use crate::support::{
    Backend, Reply, TestServer, backend_tests,
    external_server::ExternalServer,
    oauth::{AuthorizationRequest, CALLBACK, VERIFIER, header, payload},
};

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A server with outbound access to an external server, registration without PKCE, and `ann`.
async fn with_external_server(backend: Backend) -> (TestServer, ExternalServer) {
    let external = ExternalServer::start().await;
    let settings = external.settings();
    let mut settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    settings.push(("PROPUSK_CLIENT_REGISTRATION__REQUIRE_PKCE", "false"));
    let server = TestServer::with(backend, &settings).await;
    server.register("ann").await;
    (server, external)
}

/// Sends a registration; `more` overrides what the suite always sends.
async fn register(server: &TestServer, more: Value) -> Reply {
    let mut metadata = json!({
        "client_name": "OIDF", "redirect_uris": [CALLBACK], "response_types": ["code"], "grant_types": ["authorization_code"],
        "token_endpoint_auth_method": "private_key_jwt", "contacts": ["certification@app.example"],
    });
    for (name, value) in more.as_object().expect("an object") {
        metadata[name] = value.clone();
    }
    server.post("/oauth2/register", metadata).await
}

/// A client that registered a key of its own.
struct Registered<'a> {
    server: &'a TestServer,
    key: Jwk,
    registration: Value,
}

impl<'a> Registered<'a> {
    /// With the key inside the registration.
    async fn new(server: &'a TestServer, mut more: Value) -> Self {
        let key = client_key("one");
        more["jwks"] = key_set(&key);
        Self::with(server, key, more).await
    }

    async fn with(server: &'a TestServer, key: Jwk, more: Value) -> Self {
        let reply = register(server, more).await.expect(StatusCode::CREATED);
        let registration = reply.json();
        Self { server, key, registration }
    }

    fn id(&self) -> &str {
        self.registration["client_id"].as_str().expect("an id")
    }

    fn asks(&self, scope: &str) -> AuthorizationRequest {
        asks(self.id(), scope, "query")
    }

    /// Sends a form to the token endpoint with an assertion for the issuer alone (RFC 10070).
    async fn token(&self, fields: &[(&str, &str)]) -> Reply {
        let now = self.server.clock.now().as_secs();
        let issuer = &self.server.app.config.server.issuer;
        let claims = json!({ "iss": self.id(), "sub": self.id(), "aud": issuer, "jti": self.server.app.new_id(), "iat": now, "exp": now + 60 });
        let assertion = sign(&self.key, &claims);
        let proof = [("client_assertion_type", TYPE), ("client_assertion", &assertion)];
        self.server.form("/oauth2/token", &[fields, &proof].concat()).await
    }

    /// Completes the request in a new browser; returns the checked tokens.
    async fn tokens(&self, request: &AuthorizationRequest) -> Reply {
        let answer = self.server.browser().authorize(request, "ann").await;
        check_answer(self.server, request, &answer);
        let uri = request.0.iter().find(|(name, _)| name == "redirect_uri");
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", answer.code()),
            ("redirect_uri", uri.map_or("", |(_, uri)| uri)),
        ];
        let reply = self.token(&fields).await.expect(StatusCode::OK);
        check_tokens(self.server, request, &reply).await;
        reply
    }
}

/// Fails the test unless a registration was refused with this error.
#[track_caller]
fn expect_refused(reply: &Reply, error: &str) {
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{reply:?}");
    assert!(reply.header("content-type").starts_with("application/json"));
    assert_eq!(reply.json()["error"], error, "{reply:?}");
}

backend_tests! {
    a_registered_key_authenticates_by_private_key_jwt,
    registration_of_unsigned_id_tokens_is_refused,
    userinfo_is_signed_when_registered,
    redirect_uri_is_required_when_two_are_registered,
    redirect_uri_queries_are_compared_exactly,
    the_consent_page_shows_logo_policy_and_terms,
    jwks_uri_keys_are_fetched_again_after_a_rotation,
    jwks_uri_keys_survive_an_outage_but_not_a_withdrawal,
    a_refresh_token_is_refused_to_another_client,
    a_sector_document_must_list_every_redirect_uri,
    rotated_signing_keys_are_published_with_the_old_ones,
    request_uri_by_reference_is_not_supported,
    the_redirect_uri_of_the_request_object_is_used,
}

async fn a_registered_key_authenticates_by_private_key_jwt(backend: Backend) {
    let (server, _external) = with_external_server(backend).await;
    let client = Registered::new(&server, json!({ "id_token_signed_response_alg": "RS256" })).await;
    assert_eq!(
        (&client.registration["client_name"], &client.registration["id_token_signed_response_alg"]),
        (&"OIDF".into(), &"RS256".into())
    );
    assert_eq!(client.registration.get("client_secret"), None);
    let reply = client.tokens(&client.asks("openid")).await;
    let head = header(&reply.field("id_token"));
    assert_eq!((head["alg"].as_str(), head["kid"].is_string()), (Some("RS256"), true));
    let registration = server
        .get_as("/oauth2/userinfo", &reply.field("access_token"))
        .await
        .expect(StatusCode::OK);
    assert_eq!(registration.json()["sub"], payload(&reply.field("id_token"))["sub"]);
}

async fn registration_of_unsigned_id_tokens_is_refused(backend: Backend) {
    let (server, _external) = with_external_server(backend).await;
    let jwks = key_set(&client_key("one"));
    let reply =
        register(&server, json!({ "jwks": jwks, "id_token_signed_response_alg": "none" })).await;
    expect_refused(&reply, "invalid_client_metadata");
}

async fn userinfo_is_signed_when_registered(backend: Backend) {
    let (server, _external) = with_external_server(backend).await;
    let client = Registered::new(&server, json!({ "userinfo_signed_response_alg": "RS256" })).await;
    let reply = client.tokens(&client.asks("openid email")).await;
    let registration = server
        .get_as("/oauth2/userinfo", &reply.field("access_token"))
        .await
        .expect(StatusCode::OK);
    assert!(registration.header("content-type").starts_with("application/jwt"), "{registration:?}");
    let claims = signed(&server, &registration.text).await;
    assert_eq!(
        (&claims["iss"], &claims["aud"]),
        (&server.app.config.server.issuer.as_str().into(), &client.id().into())
    );
    assert_eq!(
        (&claims["sub"], &claims["email"]),
        (&payload(&reply.field("id_token"))["sub"], &"ann@example.org".into())
    );
    assert_eq!(claims.get("nonce"), None);
}

async fn redirect_uri_is_required_when_two_are_registered(backend: Backend) {
    let (server, _external) = with_external_server(backend).await;
    let client =
        Registered::new(&server, json!({ "redirect_uris": [CALLBACK, "https://app.example/cb2"] }))
            .await;
    let request = client.asks("openid").without("redirect_uri");
    server.browser().open(&request.path()).await.expect_page(400);
}

async fn redirect_uri_queries_are_compared_exactly(backend: Backend) {
    let (server, _external) = with_external_server(backend).await;
    let uri = format!("{CALLBACK}?foo=bar");
    let client = Registered::new(&server, json!({ "redirect_uris": [uri] })).await;
    let request = client.asks("openid").with("redirect_uri", &uri);
    client.tokens(&request).await;
    let answer = server.browser().authorize(&request, "ann").await;
    assert_eq!(answer.fields["foo"], "bar", "the registered query is kept");
    let other = request.with("redirect_uri", &format!("{CALLBACK}?foo=other"));
    server.browser().open(&other.path()).await.expect_page(400);

    let plain = Registered::new(&server, json!({})).await;
    let added = plain.asks("openid").with("redirect_uri", &uri);
    server.browser().open(&added.path()).await.expect_page(400);

    let reply = register(&server, json!({ "jwks": key_set(&client_key("one")), "redirect_uris": [format!("{CALLBACK}#foobar")] })).await;
    expect_refused(&reply, "invalid_redirect_uri");
}

async fn the_consent_page_shows_logo_policy_and_terms(backend: Backend) {
    let (server, external) = with_external_server(backend).await;
    external.put("/logo.png", 200, "Content-Type: image/png\r\n", "a picture");
    let logo = format!("{}/logo.png", external.base);
    let client = Registered::new(&server, json!({ "logo_uri": logo, "policy_uri": "https://app.example/policy", "tos_uri": "https://app.example/tos" })).await;
    let mut ann = server.logged_in("ann").await;
    let shown = async {
        loop {
            // The server's own copy is fetched in the background when the page is first shown.
            let page = ann.open(&client.asks("openid").path()).await.expect(StatusCode::OK);
            for link in ["https://app.example/policy", "https://app.example/tos"] {
                assert!(page.text.contains(&format!("href=\"{link}\"")), "{page:?}");
            }
            if page.text.contains("src=\"data:image/png;base64,") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), shown).await.expect("the logo is shown");
}

async fn jwks_uri_keys_are_fetched_again_after_a_rotation(backend: Backend) {
    let (server, external) = with_external_server(backend).await;
    let uri = format!("{}/client1_jwks", external.base);
    let old = client_key("one");
    external.put(
        "/client1_jwks",
        200,
        "Content-Type: application/json\r\n",
        key_set(&old).to_string(),
    );
    let metadata =
        json!({ "jwks_uri": uri, "grant_types": ["authorization_code", "refresh_token"] });
    let mut client = Registered::with(&server, old, metadata).await;
    let request = client.asks("openid offline_access").with("prompt", "consent");
    let first = client.tokens(&request).await;

    client.key = another_client_key("two");
    external.put(
        "/client1_jwks",
        200,
        "Content-Type: application/json\r\n",
        key_set(&client.key).to_string(),
    );
    // The suite waits before it uses the new key.
    server.clock.advance(Duration::from_secs(31));
    let fields =
        [("grant_type", "refresh_token"), ("refresh_token", &first.field("refresh_token"))];
    let second = client.token(&fields).await.expect(StatusCode::OK);
    assert_eq!(payload(&second.field("id_token"))["sub"], payload(&first.field("id_token"))["sub"]);
    server.get_as("/oauth2/userinfo", &second.field("access_token")).await.expect(StatusCode::OK);
}

async fn jwks_uri_keys_survive_an_outage_but_not_a_withdrawal(backend: Backend) {
    let (server, external) = with_external_server(backend).await;
    let uri = format!("{}/jwks", external.base);
    let key = client_key("one");
    let publish =
        |headers: &str, keys: Value| external.put("/jwks", 200, headers, keys.to_string());
    publish("Cache-Control: max-age=600\r\n", key_set(&key));
    let metadata =
        json!({ "jwks_uri": uri, "grant_types": ["authorization_code", "refresh_token"] });
    let mut client = Registered::with(&server, key, metadata).await;
    let authenticates = async |client: &Registered| {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", "pac_x"),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        let error = client.token(&fields).await.json()["error"].clone();
        error == "invalid_grant"
    };
    assert!(authenticates(&client).await);
    // A signature by an unknown key triggers a fetch, which fails now.
    external.put("/jwks", 503, "", "");
    server.clock.advance(Duration::from_secs(31));
    let own = std::mem::replace(&mut client.key, another_client_key("one"));
    assert!(!authenticates(&client).await);
    assert_eq!(external.connection_count(), 2);
    client.key = own;
    assert!(authenticates(&client).await, "the client's keys stay valid");
    // The keys stay valid when the next fetch is due, for a day in all.
    server.clock.advance(Duration::from_secs(12 * 3_600));
    assert!(authenticates(&client).await);
    assert_eq!(external.connection_count(), 3);
    server.clock.advance(Duration::from_secs(12 * 3_600));
    assert!(!authenticates(&client).await);
    publish("", key_set(&client.key));
    server.clock.advance(Duration::from_secs(31));
    assert!(authenticates(&client).await);
    // A document that can be fetched applies at once.
    publish("", json!({ "keys": [] }));
    server.clock.advance(Duration::from_secs(901));
    assert!(!authenticates(&client).await);
}

async fn a_refresh_token_is_refused_to_another_client(backend: Backend) {
    let (server, _external) = with_external_server(backend).await;
    let metadata = json!({ "grant_types": ["authorization_code", "refresh_token"] });
    let one = Registered::new(&server, metadata.clone()).await;
    let two = Registered::new(&server, metadata).await;
    let reply = two.tokens(&two.asks("openid offline_access").with("prompt", "consent")).await;
    let refresh = reply.field("refresh_token");
    let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
    one.token(&fields).await.expect_oauth_error(400, "invalid_grant");
    two.token(&fields).await.expect(StatusCode::OK);
}

async fn a_sector_document_must_list_every_redirect_uri(backend: Backend) {
    let (server, external) = with_external_server(backend).await;
    let sector = format!("{}/redirect_uris.json", external.base);
    let metadata = json!({ "subject_type": "pairwise", "sector_identifier_uri": sector });
    external.put(
        "/redirect_uris.json",
        200,
        "Content-Type: application/json\r\n",
        json!([CALLBACK, "https://app.example/cb2"]).to_string(),
    );
    let client = Registered::new(&server, metadata.clone()).await;
    let sub =
        payload(&client.tokens(&client.asks("openid")).await.field("id_token"))["sub"].clone();
    let public = Registered::new(&server, json!({})).await;
    assert_ne!(sub, payload(&public.tokens(&public.asks("openid")).await.field("id_token"))["sub"]);

    external.put(
        "/redirect_uris.json",
        200,
        "Content-Type: application/json\r\n",
        json!(["https://app.example/other"]).to_string(),
    );
    let mut metadata = metadata;
    metadata["jwks"] = key_set(&client_key("one"));
    expect_refused(&register(&server, metadata).await, "invalid_client_metadata");
}

async fn rotated_signing_keys_are_published_with_the_old_ones(backend: Backend) {
    let (server, _external) = with_external_server(backend).await;
    let published = async || {
        let json = server.get("/oauth2/jwks").await.expect(StatusCode::OK).json();
        let keys = json["keys"].as_array().expect("keys").clone();
        keys.into_iter().map(|key| key["kid"].clone()).collect::<Vec<_>>()
    };
    let before = published().await;
    let app = &server.app;
    let at_once = Rotation { at_once: true, ..Rotation::default() };
    app.keys
        .rotate(&app.db, &app.clock, &app.rng, at_once, &Actor::operator())
        .await
        .expect("rotated");
    let after = published().await;
    assert!(
        before.iter().all(|kid| after.contains(kid)) && after.len() > before.len(),
        "{before:?} {after:?}"
    );
    let client = Registered::new(&server, json!({})).await;
    let token = client.tokens(&client.asks("openid")).await.field("id_token");
    assert!(!before.contains(&header(&token)["kid"]), "the new one signs");
}

async fn request_uri_by_reference_is_not_supported(backend: Backend) {
    let (server, external) = with_external_server(backend).await;
    let uri = format!("{}/request.jwt#x", external.base);
    for alg in ["RS256", "none"] {
        let client = Registered::new(
            &server,
            json!({ "request_uris": [uri], "request_object_signing_alg": alg }),
        )
        .await;
        let request = client.asks("openid").with("request_uri", &uri);
        let answer = server.logged_in("ann").await.authorize(&request, "ann").await;
        answer.expect_error("request_uri_not_supported");
    }
    assert_eq!(external.connection_count(), 0, "nothing was fetched");
}

async fn the_redirect_uri_of_the_request_object_is_used(backend: Backend) {
    let (server, _external) = with_external_server(backend).await;
    let client = Registered::new(&server, json!({ "request_object_signing_alg": "RS256" })).await;
    let request = client.asks("openid");
    let mut claims: Value = request.0.iter().cloned().collect();
    claims["iss"] = client.id().into();
    claims["aud"] = server.app.config.server.issuer.as_str().into();
    let sent = request
        .clone()
        .with("redirect_uri", "https://evil.example/cb")
        .with("request", &sign(&client.key, &claims));
    let answer = server.browser().authorize(&sent, "ann").await;
    check_answer(&server, &request, &answer);
    answer.code();
}

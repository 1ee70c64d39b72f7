//! What the OpenID Foundation's certification suite requires of an OpenID Provider, as tests of our
//! own: see `docs/conformance.md` for its modules. Its clients send no PKCE, so they are registered
//! without.

mod basic;
mod discovery;
mod dynamic;
pub mod logout;

use std::sync::LazyLock;

use josekit::{
    jwk::{Jwk, JwkSet},
    jws::{JwsHeader, RS256},
    jwt::{self, JwtPayload},
};
use propusk::{
    model::client::Metadata,
    oauth::id_token::{IdClaims, at_hash},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    Backend, Reply, TestServer,
    oauth::{
        AuthorizationRequest, AuthorizationResponse, Browser, CALLBACK, header, payload, web_app,
    },
};

/// The response modes: those of the basic plan and of the form-post plan.
const MODES: [&str; 2] = ["query", "form_post"];

/// The metadata of the suite's static client.
fn suite_app() -> Metadata {
    Metadata { require_pkce: Some(false), ..web_app() }
}

/// A server with `ann` and the suite's two clients, `app` and `app2`.
async fn with_suite(backend: Backend) -> TestServer {
    let server = TestServer::start(backend).await;
    server.client("app", suite_app()).await;
    server.client("app2", suite_app()).await;
    server.register("ann").await;
    server
}

/// The suite's authorization request.
fn asks(id: &str, scope: &str, mode: &str) -> AuthorizationRequest {
    AuthorizationRequest::of(id, scope)
        .without("code_challenge")
        .without("code_challenge_method")
        .with("response_mode", mode)
}

/// Exchanges a code as a client that authenticates by header.
async fn exchange_code(server: &TestServer, id: &str, code: &str) -> Reply {
    let fields = [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK)];
    server.form_as("/oauth2/token", id, &fields).await
}

/// Completes a request of `app` in this browser, with the suite's checks on the response and the
/// tokens.
async fn tokens(browser: &mut Browser<'_>, request: &AuthorizationRequest) -> Reply {
    let answer = browser.authorize(request, "ann").await;
    check_answer(browser.server, request, &answer);
    let reply = exchange_code(browser.server, "app", answer.code()).await.expect(StatusCode::OK);
    check_tokens(browser.server, request, &reply).await;
    reply
}

#[track_caller]
fn check_answer(
    server: &TestServer,
    request: &AuthorizationRequest,
    answer: &AuthorizationResponse,
) {
    let sent = |name: &str| request.0.iter().find(|(known, _)| known == name);
    let state = sent("state").map(|(_, value)| value);
    assert_eq!(answer.fields.get("state"), state, "{answer:?}");
    assert_eq!(answer.fields["iss"], server.app.config.server.issuer);
    let uri = sent("redirect_uri").map(|(_, value)| value.as_str());
    assert!(answer.location.as_str().starts_with(uri.expect("one")), "{answer:?}");
}

/// Checks the token response, and the ID token in it by Core §3.1.3.7.
async fn check_tokens(server: &TestServer, request: &AuthorizationRequest, reply: &Reply) {
    assert_eq!(reply.header("cache-control"), "no-store");
    assert!(reply.header("content-type").starts_with("application/json"));
    let json = reply.json();
    assert_eq!(json["token_type"], "Bearer");
    assert!(json["expires_in"].as_i64().is_some_and(|life| life > 0));
    let token = reply.field("id_token");
    let claims = verified(server, &token).await;
    let id = request.0.iter().find(|(name, _)| name == "client_id");
    assert_eq!(Some(&claims.aud), id.map(|(_, value)| value));
    let nonce = request.0.iter().find(|(name, _)| name == "nonce");
    assert_eq!(claims.nonce.as_ref(), nonce.map(|(_, value)| value));
    let access = reply.field("access_token");
    assert_eq!(claims.at_hash, Some(at_hash(&access, "RS256")));
}

/// The claims of an ID token; the signature is checked with the published key that its header
/// names.
async fn verified(server: &TestServer, token: &str) -> IdClaims {
    let claims: IdClaims = serde_json::from_value(signed(server, token).await).expect("claims");
    let now = server.clock.now().as_secs();
    assert_eq!(claims.iss, server.app.config.server.issuer);
    assert_eq!(claims.iat, now);
    assert!(
        claims.exp > now && claims.auth_time.is_some_and(|at| at <= now) && claims.sub.len() <= 255
    );
    claims
}

/// The payload of a JWT of this server, its signature checked.
async fn signed(server: &TestServer, token: &str) -> Value {
    let published = server.get("/oauth2/jwks").await.expect(StatusCode::OK);
    let keys = JwkSet::from_bytes(&published.text).expect("a key set");
    let header = header(token);
    assert_eq!(header["alg"], "RS256");
    let kid = header["kid"].as_str().expect("a kid");
    let key = *keys.get(kid).first().expect("the key is published");
    let verifier = RS256.verifier_from_jwk(key).expect("a verifier");
    jwt::decode_with_verifier(token, &verifier).expect("a good signature");
    payload(token)
}

/// The key of a test's client; `id` goes into the header of what it signs. All tests share it,
/// since generating an RSA key takes longer than most of them.
pub fn client_key(id: &str) -> Jwk {
    static KEY: LazyLock<Jwk> = LazyLock::new(|| another_client_key("shared"));
    let mut key = KEY.clone();
    key.set_key_id(id);
    key
}

/// A key that no other client has.
fn another_client_key(id: &str) -> Jwk {
    let pair = RS256.generate_key_pair(2048).expect("a key");
    let mut key = pair.to_jwk_key_pair();
    key.set_key_id(id);
    key
}

/// The JWK set that a client publishes for its key.
pub fn key_set(key: &Jwk) -> Value {
    let members = ["kty", "kid", "n", "e"].map(|name| (name, key.parameter(name).cloned()));
    json!({ "keys": [members.into_iter().collect::<Value>()] })
}

/// A JWT signed by a client.
pub fn sign(key: &Jwk, claims: &Value) -> String {
    let claims = claims.as_object().expect("an object").clone();
    let payload = JwtPayload::from_map(claims).expect("claims");
    let signer = RS256.signer_from_jwk(key).expect("a signer");
    jwt::encode_with_signer(&payload, &JwsHeader::new(), &signer).expect("signed")
}

/// Fails the test if the browser is still logged in: the suite's last step after a logout.
async fn assert_logged_out(browser: &mut Browser<'_>) {
    let request = asks("app", "openid", "query").with("prompt", "none");
    let answer = browser.authorize(&request, "ann").await;
    answer.expect_error("login_required");
}

#[test]
fn every_test_named_in_docs_conformance_exists() {
    let page = include_str!("../../../docs/conformance.md");
    let code = [
        include_str!("basic.rs"),
        include_str!("discovery.rs"),
        include_str!("dynamic.rs"),
        include_str!("logout.rs"),
    ]
    .concat();
    let last = |line: &'static str| line.rsplit('|').nth(1).unwrap_or_default();
    let named: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("| `oidcc-"))
        .flat_map(|line| last(line).split('`').skip(1).step_by(2))
        .collect();
    assert!(named.len() > 50, "the page names its tests: {named:?}");
    for name in named {
        assert!(
            code.contains(&format!("fn {name}(")),
            "docs/conformance.md names {name}, which is no test"
        );
    }
}

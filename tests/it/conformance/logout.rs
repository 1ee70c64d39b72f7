//! The plans of RP-initiated and back-channel logout.

use std::time::Duration;

use propusk::model::client::Metadata;
use reqwest::StatusCode;
use serde_json::json;

use super::{asks, assert_logged_out, client_key, sign, signed, suite_app, tokens, with_suite};
use crate::support::{
    Backend, Reply, TestServer, backend_tests,
    external_server::ExternalServer,
    oauth::{AuthorizationRequest, Browser, header, payload},
};

const BYE: &str = "https://app.example/bye";

fn openid_request() -> AuthorizationRequest {
    asks("app", "openid", "query")
}

fn query(params: &[(&str, &str)]) -> String {
    let params = params.iter();
    AuthorizationRequest(
        params.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    )
    .query()
}

/// Opens the end session endpoint with these parameters, and presses the button if there is one.
async fn log_out(browser: &mut Browser<'_>, params: &[(&str, &str)]) -> Reply {
    let reply = browser.open(&format!("/oauth2/logout?{}", query(params))).await;
    if reply.text.contains("name=\"decision\"") {
        browser.submit(&reply, &[("decision", "logout")]).await
    } else {
        reply
    }
}

/// A user who is logged in and has consented, and the ID token that the application got.
async fn logged_in(server: &TestServer) -> (Browser<'_>, String) {
    let mut ann = server.browser();
    let token = tokens(&mut ann, &openid_request()).await.field("id_token");
    (ann, token)
}

/// What was posted to the application.
pub async fn delivered(server: &TestServer, external: &ExternalServer, path: &str) -> String {
    let arrives = async {
        loop {
            if let Some(posted) = external.posted(path) {
                return posted;
            }
            // After a move of the clock, what is due is sent at once.
            server.app.logouts_waiting.notify_one();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let arrives = tokio::time::timeout(Duration::from_secs(20), arrives);
    arrives.await.expect("it is delivered")
}

/// Fails the test if the browser is not logged in any more.
async fn assert_logged_in(browser: &mut Browser<'_>) {
    let answer = browser.authorize(&openid_request().with("prompt", "none"), "ann").await;
    answer.code();
}

backend_tests! {
    a_logout_with_a_hint_returns_with_state_only,
    a_logout_without_a_redirect_uri_shows_a_page,
    an_unregistered_uri_or_forged_hint_is_not_followed,
    back_channel_logout_notifies_the_client,
}

async fn a_logout_with_a_hint_returns_with_state_only(backend: Backend) {
    let server = with_suite(backend).await;
    let (mut ann, hint) = logged_in(&server).await;
    let reply = log_out(
        &mut ann,
        &[("id_token_hint", &hint), ("post_logout_redirect_uri", BYE), ("state", "s t+a/te")],
    )
    .await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), format!("{BYE}?state=s+t%2Ba%2Fte"));
    assert_logged_out(&mut ann).await;

    let (mut ann, hint) = logged_in(&server).await;
    let reply =
        log_out(&mut ann, &[("id_token_hint", &hint), ("post_logout_redirect_uri", BYE)]).await;
    assert_eq!(reply.header("location"), BYE, "no state was sent");
    assert_logged_out(&mut ann).await;
}

async fn a_logout_without_a_redirect_uri_shows_a_page(backend: Backend) {
    let server = with_suite(backend).await;
    for with_hint in [true, false] {
        for with_state in [true, false] {
            let (mut ann, hint) = logged_in(&server).await;
            let mut params = vec![];
            if with_hint {
                params.push(("id_token_hint", hint.as_str()));
            }
            if with_state {
                params.push(("state", "a state"));
            }
            let page = log_out(&mut ann, &params).await.expect_page(200);
            assert!(!page.text.contains("name=\"decision\""), "{page:?}");
            assert_logged_out(&mut ann).await;
        }
    }
}

async fn an_unregistered_uri_or_forged_hint_is_not_followed(backend: Backend) {
    let server = with_suite(backend).await;
    let (mut ann, hint) = logged_in(&server).await;
    let key = client_key("theirs");
    let forged = sign(&key, &payload(&hint));
    let (rest, signature) = hint.rsplit_once('.').expect("a JWT");
    let (head, _) = rest.split_once('.').expect("a JWT");
    let mut claims = payload(&hint);
    claims["sub"] = "another user".into();
    let changed = base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        claims.to_string(),
    );
    let modified = format!("{head}.{changed}.{signature}");
    for uri in ["https://app.example/bye/random", "https://app.example/bye?foo=bar"] {
        let page = log_out(
            &mut ann,
            &[("id_token_hint", &hint), ("post_logout_redirect_uri", uri), ("state", "s")],
        )
        .await;
        page.expect_page(400);
        assert_logged_in(&mut ann).await;
    }
    for hint in [&modified, &forged] {
        let openid_request =
            [("id_token_hint", hint.as_str()), ("post_logout_redirect_uri", BYE), ("state", "s")];
        let page =
            ann.open(&format!("/oauth2/logout?{}", query(&openid_request))).await.expect_page(200);
        assert!(page.text.contains("name=\"decision\""), "the user is asked: {page:?}");
        assert_logged_in(&mut ann).await;
        // A user who confirms is logged out, and not redirected.
        log_out(&mut ann, &openid_request).await.expect_page(200);
        assert_logged_out(&mut ann).await;
        ann = logged_in(&server).await.0;
    }
    // Without a hint the URI cannot be attributed to a client; the suite accepts an error page or a
    // question.
    log_out(&mut ann, &[("post_logout_redirect_uri", BYE), ("state", "s")]).await.expect_page(400);
    let reply = log_out(
        &mut ann,
        &[("client_id", "app"), ("post_logout_redirect_uri", BYE), ("state", "s")],
    )
    .await;
    assert_eq!(reply.header("location"), format!("{BYE}?state=s"), "after the user confirmed");
    assert_logged_out(&mut ann).await;
}

async fn back_channel_logout_notifies_the_client(backend: Backend) {
    let external = ExternalServer::start().await;
    external.put("/backchannel_logout", 200, "Cache-Control: no-store\r\n", "");
    let settings = external.settings();
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let server = TestServer::with(backend, &settings).await;
    let uri = Some(format!("{}/backchannel_logout", external.base));
    server
        .client(
            "app",
            Metadata {
                backchannel_logout_uri: uri,
                backchannel_logout_session_required: true,
                ..suite_app()
            },
        )
        .await;
    server.register("ann").await;
    let (mut ann, hint) = logged_in(&server).await;
    let message = payload(&hint);
    let reply = log_out(
        &mut ann,
        &[("id_token_hint", &hint), ("post_logout_redirect_uri", BYE), ("state", "s")],
    )
    .await;
    assert_eq!(reply.header("location"), format!("{BYE}?state=s"));
    assert_logged_out(&mut ann).await;

    let posted = delivered(&server, &external, "/backchannel_logout").await;
    let fields: Vec<_> = url::form_urlencoded::parse(posted.as_bytes()).into_owned().collect();
    let [(name, token)] = &fields[..] else { panic!("one field: {fields:?}") };
    assert_eq!(
        (name.as_str(), header(token)["typ"].as_str()),
        ("logout_token", Some("logout+jwt"))
    );
    let claims = signed(&server, token).await;
    let now = server.clock.now().as_secs();
    assert_eq!((&claims["iss"], &claims["aud"]), (&message["iss"], &"app".into()));
    assert_eq!((&claims["sub"], &claims["sid"]), (&message["sub"], &message["sid"]));
    assert!(claims["jti"].as_str().is_some_and(|jti| !jti.is_empty()), "{claims}");
    assert_eq!(claims["iat"], now);
    assert!(claims["exp"].as_i64().is_some_and(|exp| exp > now && exp <= now + 120), "{claims}");
    assert_eq!(
        claims["events"],
        json!({ "http://schemas.openid.net/event/backchannel-logout": {} })
    );
    assert_eq!(claims.get("nonce"), None, "Back-Channel Logout §2.4");
}

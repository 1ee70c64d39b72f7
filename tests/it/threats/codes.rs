//! Attacks on authorization codes and PKCE.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use propusk::{
    flows::{
        admin::{clients, users},
        oauth::authorize,
    },
    model::{
        actor::{Actor, RequestContext},
        client::Metadata,
    },
    oauth::params::Params,
};
use reqwest::StatusCode;

use super::{assert_active, assert_revoked, codes, inactive, two_servers, with_app};
use crate::support::{
    Backend, Reply, TestServer, backend_tests,
    oauth::{
        AuthorizationRequest, AuthorizationResponse, CALLBACK, VERIFIER, first_party_app,
        public_app, web_app,
    },
};

/// Exchanges a code with further parameters, as `app`.
async fn exchange_code_with(server: &TestServer, code: &str, fields: &[(&str, &str)]) -> Reply {
    let fields = [&[("grant_type", "authorization_code"), ("code", code)], fields].concat();
    server.form_as("/oauth2/token", "app", &fields).await
}

/// A confidential OpenID Connect client that was registered without PKCE.
fn without_pkce() -> Metadata {
    Metadata { require_pkce: Some(false), ..first_party_app() }
}

/// Presents one code fifty times at once, alternating between the servers; returns the one success.
async fn fifty_exchanges(servers: &[&TestServer], code: &str) -> Reply {
    let replies = (0..50).map(|n| servers[n % servers.len()].exchange_code("app", code));
    let (mut good, bad): (Vec<_>, Vec<_>) =
        join_all(replies).await.into_iter().partition(|reply| reply.status == StatusCode::OK);
    assert_eq!(good.len(), 1, "exactly one gets tokens: {good:?}");
    for reply in bad {
        reply.expect_oauth_error(400, "invalid_grant");
    }
    good.remove(0)
}

backend_tests! {
    t13_a_code_is_bound_to_its_pkce_challenge,
    t14_codes_and_tokens_of_another_client_are_refused,
    t15_reusing_a_code_revokes_its_tokens,
    t15_of_50_concurrent_exchanges_one_succeeds_and_is_revoked,
    t15_two_servers_exchange_a_code_once,
    t16_a_code_is_bound_to_its_redirect_uri,
    t17_a_code_expires_after_a_minute,
    codes_are_unique_and_have_one_encoding,
    t108_no_code_is_issued_after_the_consent_was_withdrawn,
    t108_a_request_without_pkce_needs_nonce_and_redirect_uri,
}

async fn t13_a_code_is_bound_to_its_pkce_challenge(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    server.client("spa", public_app()).await;
    server.client("old", without_pkce()).await;
    let mut ann = server.logged_in("ann").await;
    let good = |id: &str| AuthorizationRequest::of(id, "openid");
    // No challenge, a plain one (also by omitting the method), or none that S256 could produce.
    for id in ["app", "spa"] {
        for request in [
            good(id).without("code_challenge").without("code_challenge_method"),
            good(id).without("code_challenge"),
        ] {
            AuthorizationResponse::of(ann.open(&request.path()).await.header("location"))
                .expect_error("invalid_request");
        }
    }
    for id in ["app", "spa", "old"] {
        for request in [
            good(id).with("code_challenge_method", "plain"),
            good(id).without("code_challenge_method"),
            good(id).with("code_challenge_method", "s256"),
            good(id).with("code_challenge", "short"),
            good(id).with("code_challenge", VERIFIER).with("code_challenge_method", "plain"),
            good(id).with("code_challenge", &"a".repeat(44)),
            good(id).with("code_challenge", &"=".repeat(43)),
            good(id).without("code_challenge"),
        ] {
            AuthorizationResponse::of(ann.open(&request.path()).await.header("location"))
                .expect_error("invalid_request");
        }
    }
    assert_eq!(codes(&server).await, 0);
    // A challenge, and then no verifier, another one, or the challenge itself: attempts use nothing
    // up.
    let answer = ann.authorize(&good("app"), "ann").await;
    let uri = ("redirect_uri", CALLBACK);
    let other = "a".repeat(43);
    for fields in [
        &[uri][..],
        &[uri, ("code_verifier", "")],
        &[uri, ("code_verifier", &other)],
        &[uri, ("code_verifier", crate::support::oauth::CHALLENGE)],
        &[uri, ("code_verifier", "short")],
        &[uri, ("code_verifier", &format!("{VERIFIER} "))],
        &[],
        &[("code_verifier", &other)],
    ] {
        exchange_code_with(&server, answer.code(), fields)
            .await
            .expect_oauth_error(400, "invalid_grant");
    }
    server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    // A verifier for a request without a challenge: another code was injected (RFC 9700 §4.8.2).
    let bare = good("old").without("code_challenge").without("code_challenge_method");
    let answer = ann.authorize(&bare, "ann").await;
    server.exchange_code("old", answer.code()).await.expect_oauth_error(400, "invalid_grant");
    let fields =
        [("grant_type", "authorization_code"), ("code", answer.code()), ("redirect_uri", CALLBACK)];
    server.form_as("/oauth2/token", "old", &fields).await.expect(StatusCode::OK);
}

async fn t14_codes_and_tokens_of_another_client_are_refused(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    server.client("other", first_party_app()).await;
    server.client("spa", public_app()).await;
    let mut ann = server.logged_in("ann").await;
    let answer = ann.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
    let as_spa = [
        ("grant_type", "authorization_code"),
        ("client_id", "spa"),
        ("code", answer.code()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    for _ in 0..2 {
        server.exchange_code("other", answer.code()).await.expect_oauth_error(400, "invalid_grant");
        server.form("/oauth2/token", &as_spa).await.expect_oauth_error(400, "invalid_grant");
    }
    // Naming the owner without its secret does not help.
    let as_owner =
        as_spa.map(|(name, value)| (name, if name == "client_id" { "app" } else { value }));
    server.form("/oauth2/token", &as_owner).await.expect_oauth_error(400, "invalid_client");
    let granted = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    // A used code revokes nothing when another client presents it.
    server.exchange_code("other", answer.code()).await.expect_oauth_error(400, "invalid_grant");
    assert_active(&server, "app", &granted).await;
    let refresh = granted.field("refresh_token");
    let in_form = [
        ("grant_type", "refresh_token"),
        ("client_id", "spa"),
        ("refresh_token", refresh.as_str()),
    ];
    for _ in 0..2 {
        server.refresh_as("other", &refresh).await.expect_oauth_error(400, "invalid_grant");
        server.form("/oauth2/token", &in_form).await.expect_oauth_error(400, "invalid_grant");
        server.refresh(&refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
        assert_eq!(server.introspect("other", &refresh).await, inactive());
        server.form_as("/oauth2/revoke", "other", &[("token", &refresh)]).await;
        server.form("/oauth2/revoke", &[("client_id", "spa"), ("token", &refresh)]).await;
        server
            .form_as("/oauth2/revoke", "other", &[("token", &granted.field("access_token"))])
            .await
            .expect_oauth_error(400, "unauthorized_client");
    }
    assert_active(&server, "app", &granted).await;
    let second = server.refresh_as("app", &refresh).await.expect(StatusCode::OK);
    // An old refresh token counts as reuse from its own client only.
    server.refresh_as("other", &refresh).await.expect_oauth_error(400, "invalid_grant");
    server.clock.advance(Duration::from_secs(60));
    server.refresh_as("other", &refresh).await.expect_oauth_error(400, "invalid_grant");
    assert_active(&server, "app", &second).await;
}

async fn t15_reusing_a_code_revokes_its_tokens(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let mut ann = server.logged_in("ann").await;
    for scope in ["openid", "openid offline_access"] {
        let answer = ann.authorize(&AuthorizationRequest::of("app", scope), "ann").await;
        let first = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
        assert_active(&server, "app", &first).await;
        let second =
            server.refresh_as("app", &first.field("refresh_token")).await.expect(StatusCode::OK);
        server.exchange_code("app", answer.code()).await.expect_oauth_error(400, "invalid_grant");
        assert_revoked(&server, "app", &first).await;
        assert_revoked(&server, "app", &second).await;
        server.exchange_code("app", answer.code()).await.expect_oauth_error(400, "invalid_grant");
    }
    let events = server.events().await;
    let replayed = events
        .iter()
        .filter(|(kind, data)| kind == "session.revoked" && data["reason"] == "code_replayed");
    assert_eq!(replayed.count(), 2, "{events:?}");
    // A forged code that names an active session revokes nothing.
    let answer = ann.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
    let granted = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let code = answer.code();
    let (kept, last) = code.split_at(code.len() - 6);
    let made_up: String = last.chars().rev().collect();
    server
        .exchange_code("app", &format!("{kept}{made_up}"))
        .await
        .expect_oauth_error(400, "invalid_grant");
    assert_active(&server, "app", &granted).await;
}

async fn t15_of_50_concurrent_exchanges_one_succeeds_and_is_revoked(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let mut ann = server.logged_in("ann").await;
    for _ in 0..4 {
        let answer = ann.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
        let granted = fifty_exchanges(&[&server], answer.code()).await;
        assert_revoked(&server, "app", &granted).await;
    }
}

async fn t15_two_servers_exchange_a_code_once(backend: Backend) {
    let (one, other) = two_servers(backend).await;
    let mut ann = one.logged_in("ann").await;
    for _ in 0..4 {
        let answer = ann.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
        let granted = fifty_exchanges(&[&one, &other], answer.code()).await;
        for server in [&one, &other] {
            assert_revoked(server, "app", &granted).await;
        }
    }
}

async fn t16_a_code_is_bound_to_its_redirect_uri(backend: Backend) {
    let uris = vec![CALLBACK.to_owned(), "https://app.example/other".to_owned()];
    let server = with_app(backend, Metadata { redirect_uris: uris, ..first_party_app() }).await;
    let mut ann = server.logged_in("ann").await;
    let answer = ann.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
    for uri in [
        "https://app.example/other",
        "https://app.example/cb/",
        "https://app.example/CB",
        "https://evil.example/cb",
        "https://app.example/cb?code=x",
    ] {
        exchange_code_with(
            &server,
            answer.code(),
            &[("redirect_uri", uri), ("code_verifier", VERIFIER)],
        )
        .await
        .expect_oauth_error(400, "invalid_grant");
    }
    server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    // OAuth 2.1 §4.1.3: PKCE binds the code as well, so the redirect URI may be omitted; without
    // PKCE it may not.
    let answer = ann.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
    exchange_code_with(&server, answer.code(), &[("code_verifier", VERIFIER)])
        .await
        .expect(StatusCode::OK);
    server.client("old", without_pkce()).await;
    let bare = AuthorizationRequest::of("old", "openid")
        .without("code_challenge")
        .without("code_challenge_method");
    let answer = ann.authorize(&bare, "ann").await;
    let fields = [("grant_type", "authorization_code"), ("code", answer.code())];
    server.form_as("/oauth2/token", "old", &fields).await.expect_oauth_error(400, "invalid_grant");
}

async fn t17_a_code_expires_after_a_minute(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let mut ann = server.logged_in("ann").await;
    let answer = ann.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
    server.clock.advance(Duration::from_secs(59));
    server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let answer = ann.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
    server.clock.advance(Duration::from_secs(60));
    server.exchange_code("app", answer.code()).await.expect_oauth_error(400, "invalid_grant");
    server.clock.advance(Duration::from_secs(3_600));
    server.exchange_code("app", answer.code()).await.expect_oauth_error(400, "invalid_grant");
}

async fn codes_are_unique_and_have_one_encoding(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let mut ann = server.logged_in("ann").await;
    let mut seen = HashSet::new();
    for _ in 0..20 {
        let answer = ann.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
        assert!(seen.insert(answer.code().to_owned()));
    }
    let code = seen.iter().next().expect("one");
    // One encoding each (threat T34): cut short, lengthened, or in another case it is another code.
    for other in [
        &code[1..],
        &code[..code.len() - 1],
        &format!("{code}A"),
        &format!("{code}="),
        &code.to_uppercase(),
        &code.to_lowercase(),
    ] {
        server.exchange_code("app", other).await.expect_oauth_error(400, "invalid_grant");
    }
    server.exchange_code("app", code).await.expect(StatusCode::OK);
}

async fn t108_no_code_is_issued_after_the_consent_was_withdrawn(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let mut ann = server.browser();
    let request = AuthorizationRequest::of("app", "openid email");
    ann.authorize(&request, "ann").await.code();
    let user = users::find(&server.app, "ann").await.expect("known");
    let withdraw = || async {
        clients::withdraw_consent(&server.app, &user.id, &"app".into(), &Actor::operator()).await
    };

    // The request was decided before the withdrawal, its code is inserted after it.
    let caller = RequestContext {
        request_id: "r".to_owned(),
        correlation_id: "c".to_owned(),
        address: [127, 0, 0, 1].into(),
        user_agent: None,
        device: None,
    };
    let params = Params::parse(request.query().as_bytes()).expect("parameters");
    let cookie = ann.cookies["propusk_session"].clone();
    let read = authorize::read(&server.app, &params, Some(&cookie), caller.address).await;
    let (asked, context) = read.expect("a valid request");
    let browser = context.browser.expect("a login");
    withdraw().await.expect("withdrawn");
    let before = codes(&server).await;
    let refused = authorize::issue_code(&server.app, &asked, browser, &caller).await;
    let refused = refused.expect_err("the consent is gone").to_string();
    assert!(refused.contains("consent_required"), "{refused}");
    assert_eq!(codes(&server).await, before);

    // Whichever comes first: no code is good after a withdrawal was acknowledged.
    for _ in 0..10 {
        // Two withdrawals are never of one microsecond.
        server.clock.advance(Duration::from_millis(1));
        ann.authorize(&request, "ann").await.code();
        let path = request.path();
        let open = || {
            let cookie = format!("propusk_session={cookie}");
            let request = server.request(reqwest::Method::GET, &path);
            crate::support::send(request.header("cookie", cookie))
        };
        let (reply, withdrawn, again) = tokio::join!(open(), withdraw(), open());
        withdrawn.expect("withdrawn");
        for reply in [reply, again] {
            let location = reply.header("location");
            let answer =
                AuthorizationResponse::of(if location.is_empty() { CALLBACK } else { location });
            if let Some(code) = answer.fields.get("code") {
                let reply = server.exchange_code("app", code).await;
                reply.expect_oauth_error(400, "invalid_grant");
            }
        }
    }
}

async fn t108_a_request_without_pkce_needs_nonce_and_redirect_uri(backend: Backend) {
    let server = with_app(backend, without_pkce()).await;
    let mut ann = server.logged_in("ann").await;
    let bare = AuthorizationRequest::of("app", "openid api:read")
        .without("code_challenge")
        .without("code_challenge_method");
    for (request, lacks) in [
        (bare.clone().without("nonce"), "nonce"),
        (bare.clone().with("scope", "api:read"), "openid"),
        (bare.clone().without("redirect_uri"), "redirect_uri"),
    ] {
        let reply = ann.open(&request.path()).await;
        let answer = AuthorizationResponse::of(reply.header("location"));
        answer.expect_error("invalid_request");
        assert!(answer.fields["error_description"].contains(lacks), "{answer:?}");
        let form: Vec<_> =
            request.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        server
            .form_as("/oauth2/par", "app", &form)
            .await
            .expect_oauth_error(400, "invalid_request");
    }
    assert_eq!(codes(&server).await, 0);
    ann.authorize(&bare, "ann").await.code();
    // With PKCE neither is needed.
    let with = AuthorizationRequest::of("app", "openid").without("nonce").without("redirect_uri");
    ann.authorize(&with, "ann").await.code();
}

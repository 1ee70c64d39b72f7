//! The basic plan and, by form, the form-post plan: each test runs in both modes.

use std::time::Duration;

use propusk::model::client::Metadata;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    MODES, asks, check_answer, check_tokens, client_key, exchange_code, key_set, sign, suite_app,
    tokens, verified, with_suite,
};
use crate::support::{
    Backend, Reply, TestServer, backend_tests,
    oauth::{AuthorizationResponse, CALLBACK, CHALLENGE, SECRET, payload},
    send,
};

/// The response of the authorization endpoint, in either mode.
#[track_caller]
fn answer(reply: &Reply) -> AuthorizationResponse {
    match reply.header("location") {
        "" => AuthorizationResponse::posted(reply),
        location => AuthorizationResponse::of(location),
    }
}

async fn userinfo(server: &TestServer, tokens: &Reply) -> Value {
    let access = tokens.field("access_token");
    let reply = server.get_as("/oauth2/userinfo", &access).await;
    reply.expect(StatusCode::OK).json()
}

backend_tests! {
    the_code_flow_issues_a_signed_id_token_and_access_token,
    a_missing_response_type_is_an_error_for_the_client,
    userinfo_accepts_get_post_and_a_form_token,
    the_id_token_has_no_nonce_unless_requested,
    scopes_release_their_claims_and_unknown_ones_none,
    optional_and_unknown_parameters_are_harmless,
    a_pkce_request_requires_its_verifier,
    an_authorization_request_may_be_sent_by_post,
    client_secret_post_is_accepted,
    prompt_login_forces_a_login_and_updates_auth_time,
    prompt_none_never_shows_a_page,
    max_age_forces_a_login_once_exceeded,
    reusing_a_code_is_refused_and_revokes_its_tokens,
    an_unregistered_redirect_uri_gets_an_error_page,
    a_missing_essential_claim_does_not_fail_the_request,
    a_request_object_overrides_query_parameters,
    unsigned_request_objects_and_request_uris_are_refused,
    a_refresh_is_bound_to_its_client_and_keeps_auth_time,
    userinfo_challenges_an_invalid_token,
}

async fn the_code_flow_issues_a_signed_id_token_and_access_token(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        let mut ann = server.browser();
        let reply = tokens(&mut ann, &asks("app", "openid", mode)).await;
        let token = reply.field("id_token");
        assert_eq!(userinfo(&server, &reply).await["sub"], payload(&token)["sub"]);
        // A tampered signature is invalid.
        let (signed, signature) = token.rsplit_once('.').expect("a JWT");
        let turned: String = signature.chars().rev().collect();
        let page = ann
            .open(&format!("/oauth2/logout?id_token_hint={signed}.{turned}"))
            .await
            .expect_page(200);
        assert!(
            page.text.contains("name=\"decision\""),
            "the page is for no particular client: {page:?}"
        );
    }
}

async fn a_missing_response_type_is_an_error_for_the_client(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        let request = asks("app", "openid", mode).without("response_type");
        let reply = server.browser().open(&request.path()).await;
        let answer = answer(&reply);
        answer.expect_error("invalid_request");
        check_answer(&server, &request, &answer);
    }
}

async fn userinfo_accepts_get_post_and_a_form_token(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        let reply = tokens(&mut server.browser(), &asks("app", "openid", mode)).await;
        let access = reply.field("access_token");
        let by_get = server.get_as("/oauth2/userinfo", &access).await;
        let by_post = server.post_as("/oauth2/userinfo", &access).await;
        let by_form = server.form("/oauth2/userinfo", &[("access_token", &access)]).await;
        for response in [by_get, by_post, by_form] {
            let response = response.expect(StatusCode::OK);
            assert!(response.header("content-type").starts_with("application/json"));
            assert_eq!(response.json()["sub"], payload(&reply.field("id_token"))["sub"]);
        }
    }
}

async fn the_id_token_has_no_nonce_unless_requested(backend: Backend) {
    // The suite sends neither PKCE nor a nonce, which is refused by default (threat T108).
    let settings = [("PROPUSK_AUTHORIZATION__REQUIRE_NONCE", "false")];
    let server = TestServer::with(backend, &settings).await;
    server.client("app", suite_app()).await;
    server.register("ann").await;
    for mode in MODES {
        let request = asks("app", "openid", mode).without("nonce");
        let reply = tokens(&mut server.browser(), &request).await;
        assert_eq!(payload(&reply.field("id_token")).get("nonce"), None);
    }
}

async fn scopes_release_their_claims_and_unknown_ones_none(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        let mut ann = server.browser();
        for (scope, has_name, has_email) in [
            ("openid profile", true, false),
            ("openid email", false, true),
            ("email openid", false, true),
            ("phone email address profile openid", true, true),
            ("openid address", false, false),
            ("openid phone", false, false),
        ] {
            let claims =
                userinfo(&server, &tokens(&mut ann, &asks("app", scope, mode)).await).await;
            assert_eq!(claims.get("preferred_username").is_some(), has_name, "{scope}: {claims}");
            assert_eq!(
                (claims.get("email").is_some(), claims["email_verified"].is_boolean()),
                (has_email, has_email),
                "{scope}: {claims}"
            );
            assert_eq!((claims.get("address"), claims.get("phone_number")), (None, None));
        }
        // The order of the parameters does not matter either.
        let mut request = asks("app", "email openid", mode);
        request.0.reverse();
        assert_eq!(
            userinfo(&server, &tokens(&mut ann, &request).await).await["email"],
            "ann@example.org"
        );
    }
}

async fn optional_and_unknown_parameters_are_harmless(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        for (name, value) in [
            ("display", "page"),
            ("display", "popup"),
            ("extra", "foobar"),
            ("ui_locales", "se"),
            ("claims_locales", "se"),
            ("acr_values", "1 2"),
            ("login_hint", "ann@example.org"),
        ] {
            tokens(&mut server.browser(), &asks("app", "openid", mode).with(name, value)).await;
        }
    }
}

async fn a_pkce_request_requires_its_verifier(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        let request = asks("app", "openid", mode)
            .with("code_challenge", CHALLENGE)
            .with("code_challenge_method", "S256");
        let answer = server.browser().authorize(&request, "ann").await;
        exchange_code(&server, "app", answer.code()).await.expect_oauth_error(400, "invalid_grant");
        let reply = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
        check_tokens(&server, &request, &reply).await;
    }
}

async fn an_authorization_request_may_be_sent_by_post(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        let mut ann = server.logged_in("ann").await;
        let request = asks("app", "openid", mode);
        let post = ann
            .send(server.request(Method::POST, "/oauth2/authorize").form(&request.0))
            .await
            .expect(StatusCode::SEE_OTHER);
        let mut reply = ann.open(post.header("location")).await;
        if reply.text.contains("name=\"decision\"") {
            reply = ann.submit(&reply, &[("decision", "allow")]).await;
        }
        let answer = answer(&reply);
        check_answer(&server, &request, &answer);
        exchange_code(&server, "app", answer.code()).await.expect(StatusCode::OK);
    }
}

async fn client_secret_post_is_accepted(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        let request = asks("app", "openid", mode);
        let answer = server.browser().authorize(&request, "ann").await;
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", answer.code()),
            ("redirect_uri", CALLBACK),
            ("client_id", "app"),
            ("client_secret", SECRET),
        ];
        let reply = server.form("/oauth2/token", &fields).await.expect(StatusCode::OK);
        check_tokens(&server, &request, &reply).await;
    }
}

async fn prompt_login_forces_a_login_and_updates_auth_time(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        let mut ann = server.browser();
        let first =
            payload(&tokens(&mut ann, &asks("app", "openid", mode)).await.field("id_token"));
        server.clock.advance(Duration::from_secs(2));
        let again = asks("app", "openid", mode).with("prompt", "login");
        let page = ann.open(&again.path()).await.expect(StatusCode::SEE_OTHER);
        assert!(page.header("location").starts_with("/login?"), "{page:?}");
        let second = payload(&tokens(&mut ann, &again).await.field("id_token"));
        assert_eq!(first["sub"], second["sub"]);
        assert_eq!(second["auth_time"].as_i64(), first["auth_time"].as_i64().map(|then| then + 2));
    }
}

async fn prompt_none_never_shows_a_page(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        let mut ann = server.browser();
        let silent = asks("app", "openid", mode).with("prompt", "none");
        let reply = ann.open(&silent.path()).await;
        let refused = answer(&reply);
        refused.expect_error("login_required");
        check_answer(&server, &silent, &refused);

        let first =
            payload(&tokens(&mut ann, &asks("app", "openid", mode)).await.field("id_token"));
        server.clock.advance(Duration::from_secs(1));
        let reply = ann.open(&silent.path()).await;
        let reply =
            exchange_code(&server, "app", answer(&reply).code()).await.expect(StatusCode::OK);
        let second = payload(&reply.field("id_token"));
        assert_eq!((&first["sub"], &first["auth_time"]), (&second["sub"], &second["auth_time"]));

        // The same with the hint that the suite's module sends.
        let hinted = silent.with("id_token_hint", &reply.field("id_token"));
        let third = payload(&tokens(&mut ann, &hinted).await.field("id_token"));
        assert_eq!(first["sub"], third["sub"]);
    }
}

async fn max_age_forces_a_login_once_exceeded(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        let mut ann = server.browser();
        let first =
            payload(&tokens(&mut ann, &asks("app", "openid", mode)).await.field("id_token"));
        server.clock.advance(Duration::from_secs(2));
        let long = payload(
            &tokens(&mut ann, &asks("app", "openid", mode).with("max_age", "10000"))
                .await
                .field("id_token"),
        );
        assert_eq!(
            (&first["sub"], &first["auth_time"]),
            (&long["sub"], &long["auth_time"]),
            "there was no login"
        );
        let short = asks("app", "openid", mode).with("max_age", "1");
        let page = ann.open(&short.path()).await.expect(StatusCode::SEE_OTHER);
        assert!(page.header("location").starts_with("/login?"), "{page:?}");
        let second = payload(&tokens(&mut ann, &short).await.field("id_token"));
        assert_eq!(
            (&second["sub"], &second["auth_time"]),
            (&first["sub"], &server.clock.now().as_secs().into())
        );
    }
}

async fn reusing_a_code_is_refused_and_revokes_its_tokens(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        let mut ann = server.browser();
        for pause in [0, 30] {
            let granted = ann.authorize(&asks("app", "openid", mode), "ann").await;
            let reply = exchange_code(&server, "app", granted.code()).await.expect(StatusCode::OK);
            server.clock.advance(Duration::from_secs(pause));
            userinfo(&server, &reply).await;
            exchange_code(&server, "app", granted.code())
                .await
                .expect_oauth_error(400, "invalid_grant");
            server
                .get_as("/oauth2/userinfo", &reply.field("access_token"))
                .await
                .expect(StatusCode::UNAUTHORIZED);
        }
    }
}

async fn an_unregistered_redirect_uri_gets_an_error_page(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        let request =
            asks("app", "openid", mode).with("redirect_uri", "https://app.example/cb/8dTQ2rN1kz");
        let page = server.browser().open(&request.path()).await.expect_page(400);
        assert!(!page.text.contains("action=\"https://app.example"), "{page:?}");
    }
}

async fn a_missing_essential_claim_does_not_fail_the_request(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        let claims = json!({ "userinfo": { "name": { "essential": true }, "email": { "essential": true } } });
        let reply = tokens(
            &mut server.browser(),
            &asks("app", "openid", mode).with("claims", &claims.to_string()),
        )
        .await;
        let response = userinfo(&server, &reply).await;
        assert_eq!((response.get("name"), &response["email"]), (None, &"ann@example.org".into()));
        assert_eq!(payload(&reply.field("id_token")).get("email"), None);
    }
}

async fn a_request_object_overrides_query_parameters(backend: Backend) {
    let server = with_suite(backend).await;
    let key = client_key("one");
    server.client("signer", Metadata { jwks: Some(key_set(&key)), ..suite_app() }).await;
    for mode in MODES {
        let request = asks("signer", "openid", mode);
        let mut claims: Value = request.0.iter().cloned().collect();
        claims["iss"] = "signer".into();
        claims["aud"] = server.app.config.server.issuer.as_str().into();
        let beside = asks("signer", "openid", mode)
            .with("redirect_uri", "https://evil.example/cb")
            .with("state", "another");
        let sent = beside.with("request", &sign(&key, &claims));
        let answer = server.browser().authorize(&sent, "ann").await;
        check_answer(&server, &request, &answer);
        let reply = exchange_code(&server, "signer", answer.code()).await.expect(StatusCode::OK);
        check_tokens(&server, &request, &reply).await;
    }
}

async fn unsigned_request_objects_and_request_uris_are_refused(backend: Backend) {
    let server = with_suite(backend).await;
    // {"alg":"none"} and {"client_id":"app","scope":"openid"}
    let unsigned = "eyJhbGciOiJub25lIn0.eyJjbGllbnRfaWQiOiJhcHAiLCJzY29wZSI6Im9wZW5pZCJ9.";
    for mode in MODES {
        for (name, value, error) in [
            ("request", unsigned, "invalid_request_object"),
            ("request_uri", "https://app.example/request.jwt#x", "request_uri_not_supported"),
        ] {
            let request = asks("app", "openid", mode).with(name, value);
            let mut ann = server.logged_in("ann").await;
            let reply = ann.open(&request.path()).await;
            answer(&reply).expect_error(error);
        }
    }
}

async fn a_refresh_is_bound_to_its_client_and_keeps_auth_time(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        let mut ann = server.browser();
        let offline = |id: &str| asks(id, "openid offline_access", mode).with("prompt", "consent");
        let first = tokens(&mut ann, &offline("app")).await;
        server.clock.advance(Duration::from_secs(60));
        let second =
            server.refresh_as("app", &first.field("refresh_token")).await.expect(StatusCode::OK);
        assert_ne!(first.field("access_token"), second.field("access_token"));
        let before = payload(&first.field("id_token"));
        let after = verified(&server, &second.field("id_token")).await;
        assert_eq!(
            (before["iss"].as_str(), before["sub"].as_str(), before["aud"].as_str()),
            (Some(&*after.iss), Some(&*after.sub), Some(&*after.aud))
        );
        assert_eq!(before["auth_time"].as_i64(), after.auth_time, "Core §12.2");
        userinfo(&server, &second).await;

        let answer = ann.authorize(&offline("app2"), "ann").await;
        let others = exchange_code(&server, "app2", answer.code()).await.expect(StatusCode::OK);
        server
            .refresh_as("app", &others.field("refresh_token"))
            .await
            .expect_oauth_error(400, "invalid_grant");
        let refresh = others.field("refresh_token");
        assert!(refresh.bytes().all(|byte| (0x20..=0x7e).contains(&byte)), "RFC 6749 A.17");
        server.refresh_as("app2", &refresh).await.expect(StatusCode::OK);
    }
}

async fn userinfo_challenges_an_invalid_token(backend: Backend) {
    let server = with_suite(backend).await;
    for mode in MODES {
        let reply = tokens(&mut server.browser(), &asks("app", "openid", mode)).await;
        let id = reply.field("id_token");
        for request in [
            server.request(Method::GET, "/oauth2/userinfo"),
            server.request(Method::GET, "/oauth2/userinfo").bearer_auth(&id),
        ] {
            let refused = send(request).await.expect(StatusCode::UNAUTHORIZED);
            assert!(refused.header("www-authenticate").starts_with("Bearer"), "{refused:?}");
        }
    }
}

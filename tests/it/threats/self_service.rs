//! Attacks on the pages and calls by which users look after their account.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{tokens, with_app};
use crate::support::{
    Backend, backend_tests,
    oauth::{AuthorizationRequest, Form, payload, web_app},
};

const SESSIONS: &str = "/api/v1/account/sessions";
const APPLICATIONS: &str = "/api/v1/account/applications";

backend_tests! {
    t205_a_session_or_consent_of_another_user_is_not_found,
    t206_no_token_outlives_a_withdrawn_consent_in_a_race,
}

async fn t205_a_session_or_consent_of_another_user_is_not_found(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let ann = server.login("ann").await.tokens();
    let bob = server.register("bob").await;
    let app = tokens(&server, "app", "openid", "ann").await.field("access_token");
    let list = server.get_as(SESSIONS, &ann.access).await.data();
    let ids: Vec<String> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(ids.len(), 4, "{list}");
    // By the API.
    for id in ids.iter().map(String::as_str).chain(["nothing", "%00", "'"]) {
        for method in [Method::GET, Method::DELETE] {
            let request = server.request(method, &format!("{SESSIONS}/{id}"));
            let reply = crate::support::send(request.bearer_auth(&bob.access)).await;
            reply.expect_error(404, "NOT_FOUND");
        }
    }
    let path = format!("{APPLICATIONS}/app");
    server.get_as(&path, &bob.access).await.expect_error(404, "NOT_FOUND");
    server.delete_as(&path, &bob.access).await.expect_error(404, "NOT_FOUND");
    let others = server.post_as(&format!("{SESSIONS}/revoke-others"), &bob.access).await;
    assert_eq!(others.expect(StatusCode::OK).data()["ended"], 0);
    // On the pages, and from a page of Ann's browser in Bob's.
    let mut browser = server.logged_in("bob").await;
    let page = browser.open("/account/applications").await.expect(StatusCode::OK);
    let csrf = Form::of(&page.text).field("csrf").to_owned();
    for id in &ids {
        let form = Form { action: "/account/sessions".to_owned(), hidden: vec![] };
        let fields = [("csrf", csrf.as_str()), ("id", id.as_str())];
        browser.submit_form(form, &fields).await.expect(StatusCode::SEE_OTHER);
    }
    let form = Form { action: "/account/applications".to_owned(), hidden: vec![] };
    let fields = [("csrf", csrf.as_str()), ("client_id", "app")];
    browser.submit_form(form, &fields).await.expect(StatusCode::SEE_OTHER);
    let mut anns = server.logged_in("ann").await;
    let page = anns.open("/account/sessions").await;
    browser.submit(&page, &[]).await.expect_page(403);
    // All of Ann's sessions are as they were.
    let left = server.get_as(SESSIONS, &ann.access).await.data();
    for id in &ids {
        assert!(left.as_array().expect("a list").iter().any(|one| one["id"] == id.as_str()));
    }
    assert_eq!(server.introspect("app", &app).await["active"], true);
    // A client's token ends nothing, also not its own user's.
    server.get_as(SESSIONS, &app).await.expect_error(403, "INSUFFICIENT_SCOPE");
    let path = format!("{SESSIONS}/{}", ids[0]);
    server.delete_as(&path, &app).await.expect_error(403, "INSUFFICIENT_SCOPE");
    // Another site's form has no effect on a browser that uses cookies.
    let body =
        json!({ "login": "ann", "password": crate::support::PASSWORD, "delivery": "cookie" });
    let login = server.request(Method::POST, "/api/v1/auth/login").json(&body);
    let mut cookies = server.browser();
    cookies.send(login.header("origin", &server.base)).await.expect(StatusCode::OK);
    let forged = server.request(Method::POST, &format!("{SESSIONS}/revoke-others"));
    let forged = cookies.send(forged.header("origin", "https://evil.example")).await;
    forged.expect_error(403, "CROSS_SITE");
}

async fn t206_no_token_outlives_a_withdrawn_consent_in_a_race(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let other = server.another(&[]).await;
    let ann = server.login("ann").await.tokens();
    for _ in 0..4 {
        server.clock.advance(Duration::from_secs(20));
        let mut sessions = vec![];
        for _ in 0..3 {
            sessions.push(tokens(&server, "app", "openid", "ann").await.field("refresh_token"));
        }
        let request = AuthorizationRequest::of("app", "openid");
        let code = server.browser().authorize(&request, "ann").await;
        let at = |n: usize| if n % 2 == 0 { &server } else { &other };
        let refreshes =
            join_all(sessions.iter().enumerate().map(|(n, token)| at(n).refresh_as("app", token)));
        let path = format!("{APPLICATIONS}/app");
        let (withdrawn, refreshed, exchanged) = tokio::join!(
            server.delete_as(&path, &ann.access),
            refreshes,
            other.exchange_code("app", code.code()),
        );
        withdrawn.expect(StatusCode::OK);
        // Whichever came first: nothing that anybody got is valid now, at any process.
        for reply in refreshed.into_iter().chain([exchanged]) {
            if reply.status != StatusCode::OK {
                continue;
            }
            for at in [&server, &other] {
                let answer = at.introspect("app", &reply.field("access_token")).await;
                assert_eq!(answer["active"], false, "{answer}");
                let again = at.refresh_as("app", &reply.field("refresh_token")).await;
                again.expect_oauth_error(400, "invalid_grant");
            }
            assert!(payload(&reply.field("access_token"))["sid"].is_string());
        }
        for token in &sessions {
            let reply = server.refresh_as("app", token).await;
            reply.expect_oauth_error(400, "invalid_grant");
        }
    }
}

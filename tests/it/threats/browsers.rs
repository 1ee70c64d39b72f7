//! Attacks by way of the browser: what it keeps, and where it is redirected to.

use std::time::Duration;

use propusk::model::client::Source;
use reqwest::{Method, StatusCode, header::HeaderValue};

use super::with_app;
use crate::{
    gateway::with_session,
    support::{
        Backend, Reply, TestServer, backend_tests,
        oauth::{
            AuthorizationRequest, AuthorizationResponse, Browser, CALLBACK, first_party_app,
            web_app,
        },
        send,
    },
};

/// A GET with these cookies, as bytes.
async fn get_with(server: &TestServer, path: &str, cookies: &[u8]) -> Reply {
    let cookies = HeaderValue::from_bytes(cookies).expect("a header");
    let request = server.request(Method::GET, path).header("cookie", cookies);
    send(request.header("accept", "text/html")).await
}

backend_tests! {
    t107_errors_reach_a_self_registered_site_by_click_only,
    t107_logouts_lead_to_a_self_registered_site_by_click_only,
    t108_a_foreign_cookie_does_not_log_the_user_out,
    t108_a_logout_without_a_session_clears_no_cookie,
    t108_a_code_of_swagger_ui_goes_to_its_own_page_only,
}

/// Makes the client `app` one that registered itself.
async fn self_registered(server: &TestServer) {
    server.change_client("app", |client| client.source = Source::Registration).await;
}

/// The link that the user may click; nothing else in the page leads to another origin.
#[track_caller]
fn link_out(page: &Reply) -> String {
    let links = page.text.split("href=\"").skip(1).filter(|rest| !rest.starts_with('/'));
    assert_eq!(links.count(), 1, "{page:?}");
    page.link_out().unwrap_or_else(|| panic!("no link: {page:?}"))
}

async fn t107_errors_reach_a_self_registered_site_by_click_only(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    self_registered(&server).await;
    let good = AuthorizationRequest::of("app", "openid");
    let wrong = [
        (good.clone().with("prompt", "none"), "login_required"),
        (good.clone().with("response_type", "token"), "unsupported_response_type"),
        (good.clone().with("scope", "admin"), "invalid_scope"),
        (good.clone().without("code_challenge"), "invalid_request"),
        (good.clone().with("state", &"s".repeat(13_000)), "invalid_request"),
    ];
    for (request, error) in &wrong {
        let page = server.browser().open(&request.path()).await.expect_page(400);
        assert!(page.text.contains("Continue to \u{2068}app.example\u{2069}"), "{page:?}");
        let answer = AuthorizationResponse::of(&link_out(&page));
        answer.expect_error(error);
        assert!(
            answer.location.as_str().starts_with(CALLBACK) && !answer.fields["state"].is_empty()
        );
        // A form is not submitted by itself.
        let request = request.clone().with("response_mode", "form_post");
        let page = server.browser().open(&request.path()).await.expect_page(400);
        assert!(!page.text.contains("<script"), "{page:?}");
        AuthorizationResponse::posted(&page).expect_error(error);
    }
    let russian = server.request(Method::GET, &wrong[0].0.path()).header("accept-language", "ru");
    let page = send(russian).await.expect_page(400);
    assert!(page.text.contains("Покинуть этот сайт?"), "{page:?}");
    // The user's own decision was made on a page that names the site.
    let mut ann = server.logged_in("ann").await;
    let page = ann.open(&good.path()).await;
    let reply = ann.submit(&page, &[("decision", "deny")]).await;
    AuthorizationResponse::of(reply.header("location")).expect_error("access_denied");
    ann.authorize(&good, "ann").await.code();
    // A program on the user's own device is no site.
    let at_home = "http://127.0.0.1:7777/cb";
    server.change_client("app", |app| app.metadata.redirect_uris = vec![at_home.to_owned()]).await;
    let request = wrong[0].0.clone().with("redirect_uri", at_home);
    let reply = server.browser().open(&request.path()).await.expect(StatusCode::SEE_OTHER);
    AuthorizationResponse::of(reply.header("location")).expect_error("login_required");
}

async fn t107_logouts_lead_to_a_self_registered_site_by_click_only(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    self_registered(&server).await;
    let mut ann = server.logged_in("ann").await;
    let answer = ann.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
    let hint = server.exchange_code("app", answer.code()).await.field("id_token");
    let query = "client_id=app&post_logout_redirect_uri=https%3A%2F%2Fapp.example%2Fbye&state=s";
    // Without a session, after the user's confirmation, and by a hint that needs none.
    let mut pages = vec![server.browser().open(&format!("/oauth2/logout?{query}")).await];
    let mut other = server.logged_in("ann").await;
    let page = other.open(&format!("/oauth2/logout?{query}")).await;
    pages.push(other.submit(&page, &[("decision", "logout")]).await);
    pages.push(ann.open(&format!("/oauth2/logout?{query}&id_token_hint={hint}")).await);
    for page in pages {
        let page = page.expect_page(200);
        assert_eq!(link_out(&page), "https://app.example/bye?state=s");
        assert!(page.text.contains("\u{2068}app.example\u{2069}"), "{page:?}");
    }
    for mut browser in [ann, other] {
        assert!(
            !browser.open("/login").await.expect(StatusCode::OK).text.contains("<bdi>ann</bdi>"),
            "logged out"
        );
    }
}

async fn t108_a_foreign_cookie_does_not_log_the_user_out(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let mut ann = with_session(&server, "ann").await;
    let own = |ann: &Browser<'_>, name: &str| format!("{name}={}", ann.cookies[name]).into_bytes();
    // What other paths, hosts of the domain or programs on this machine may have set, in front of
    // each cookie.
    let decoys = |name: &str| {
        [
            b"theme=caf\xe9; ".to_vec(),
            b"\xff=\xff; ".to_vec(),
            format!("{name}=; ").into_bytes(),
            format!("{name}=decoy; ").into_bytes(),
            format!("{name}=eyJhbGciOiJFUzI1NiJ9.e30.AA; {name}=x; ").into_bytes(),
            format!("{name}=prt_{}; ", "A".repeat(80)).into_bytes(),
            format!("{name}={}; ", "A".repeat(22)).into_bytes(),
        ]
    };
    for decoy in decoys("propusk_session") {
        let line = [decoy, own(&ann, "propusk_session")].concat();
        let page = get_with(&server, "/account", &line).await.expect(StatusCode::OK);
        assert!(page.text.contains("<bdi>ann</bdi>"), "{page:?}");
    }
    for decoy in decoys("propusk_access") {
        let line = [decoy, own(&ann, "propusk_access")].concat();
        for path in ["/forward-auth", "/api/v1/auth/verify"] {
            get_with(&server, path, &line).await.expect(StatusCode::OK);
        }
    }
    server.clock.advance(Duration::from_secs(901));
    for decoy in decoys("propusk_refresh") {
        let line = [decoy, own(&ann, "propusk_refresh")].concat();
        let reply = get_with(&server, "/forward-auth", &line).await.expect(StatusCode::OK);
        assert_eq!(reply.headers.get_all("set-cookie").iter().count(), 2, "{reply:?}");
    }
    // A form that was opened before the decoy was set, and one that was opened after.
    for decoy in decoys("propusk_csrf") {
        let page = ann.open("/login?return_to=%2Fsession%2Fstart").await;
        let form = crate::support::oauth::Form::of(&page.text);
        let mut fields = form.hidden;
        fields.push(("login".to_owned(), "ann".to_owned()));
        fields.push(("password".to_owned(), crate::support::PASSWORD.to_owned()));
        let line = [decoy, own(&ann, "propusk_csrf")].concat();
        let cookies = HeaderValue::from_bytes(&line).expect("a header");
        let post = server.request(Method::POST, "/login").header("cookie", cookies);
        send(post.form(&fields)).await.expect(StatusCode::SEE_OTHER);
    }
}

async fn t108_a_logout_without_a_session_clears_no_cookie(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let open = async |query: &str, site: Option<&str>| {
        let request = server.request(Method::GET, &format!("/oauth2/logout{query}"));
        let site = site.map(|site| ("sec-fetch-site", site));
        send(site.into_iter().fold(request, |request, (name, site)| request.header(name, site)))
            .await
    };
    let to_app = "?client_id=app&post_logout_redirect_uri=https%3A%2F%2Fapp.example%2Fbye";
    for query in ["", to_app] {
        for site in [None, Some("cross-site"), Some("same-site")] {
            let reply = open(query, site).await;
            assert!(!reply.headers.contains_key("set-cookie"), "{site:?}: {reply:?}");
        }
        // The user's own visit tidies up.
        for site in ["none", "same-origin"] {
            let reply = open(query, Some(site)).await;
            assert_eq!(reply.headers.get_all("set-cookie").iter().count(), 3, "{reply:?}");
        }
    }
}

async fn t108_a_code_of_swagger_ui_goes_to_its_own_page_only(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let mut ann = server.logged_in("ann").await;
    let request = AuthorizationRequest::of("propusk-docs", "openid profile email");
    let own = format!("{}/docs/oauth2-redirect", server.app.config.server.issuer);
    let reply = ann.open(&request.clone().with("redirect_uri", &own).path()).await;
    AuthorizationResponse::of(reply.header("location")).code();
    // The issuer is http://127.0.0.1:8080: other programs of this machine have other ports.
    for other in [
        "http://127.0.0.1:4711/docs/oauth2-redirect",
        "http://127.0.0.1/docs/oauth2-redirect",
        "http://[::1]:8080/docs/oauth2-redirect",
        "http://localhost:8080/docs/oauth2-redirect",
    ] {
        let request = request.clone().with("redirect_uri", other);
        ann.open(&request.path()).await.expect_page(400);
    }
}

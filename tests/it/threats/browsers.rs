//! Attacks on what a browser keeps: cookies, tokens and the session of Swagger UI.

use std::time::Duration;

use reqwest::{Method, StatusCode, header::HeaderValue};

use super::with_app;
use crate::{
    gateway::with_session,
    support::{
        Backend, Reply, TestServer, backend_tests,
        oauth::{AuthorizationRequest, AuthorizationResponse, Browser, first_party_app},
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
    t108_a_foreign_cookie_does_not_log_the_user_out,
    t108_a_logout_without_a_session_clears_no_cookie,
    t108_a_code_of_swagger_ui_goes_to_its_own_page_only,
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
        let page = get_with(&server, "/login", &line).await.expect(StatusCode::OK);
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

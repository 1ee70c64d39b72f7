//! What users do beside the main flow, and where the pages lead them: never to a dead end.

use propusk::model::client::Metadata;
use reqwest::{Method, StatusCode};

use crate::support::{
    Backend, PASSWORD, Reply, TestServer, backend_tests,
    oauth::{AuthorizationRequest, AuthorizationResponse, first_party_app, web_app},
};

/// A server where Ann has an account and `app` is a web application.
async fn with_app(backend: crate::support::Backend, metadata: Metadata) -> TestServer {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    server.client("app", metadata).await;
    server
}

/// The `href` of the link with `class`.
#[track_caller]
fn link(page: &Reply, class: &str) -> String {
    let tag = format!("<a class=\"{class}\" href=\"");
    let rest = page.text.split_once(&tag);
    let (_, rest) = rest.unwrap_or_else(|| panic!("no link {class}: {page:?}"));
    let address = rest.split('"').next().unwrap_or_default();
    address.replace("&#38;", "&")
}

backend_tests! {
    a_browser_without_cookies_is_told_to_enable_them,
    own_forms_work_without_fetch_metadata,
    a_long_request_works_or_is_refused_at_once,
    a_form_from_before_a_new_login_restarts_the_request,
    consent_offers_to_switch_the_account,
    reauthentication_asks_for_the_password_only,
    an_account_other_than_the_hint_is_prompted_once,
    no_page_links_to_disabled_registration,
    the_start_page_shows_the_logged_in_user,
    the_logout_page_links_to_operator_registered_apps_only,
    a_post_only_path_is_not_a_page,
    an_error_page_names_the_application_and_a_way_back,
    the_account_page_links_to_the_users_applications,
}

async fn a_browser_without_cookies_is_told_to_enable_them(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    for (path, typed) in [
        ("/login", [("login", "ann"), ("password", PASSWORD)]),
        ("/register", [("email", "eve@example.org"), ("password", PASSWORD)]),
    ] {
        let mut ann = server.browser();
        let page = ann.open(path).await;
        ann.cookies.clear();
        let again = ann.submit(&page, &typed).await.expect_page(403);
        assert!(
            again.text.contains("did not send the cookie") && again.text.contains(typed[0].1),
            "{again:?}"
        );
        // The page came with a new cookie: a browser that accepts it succeeds at the next attempt.
        ann.submit(&again, &typed).await.expect(StatusCode::SEE_OTHER);
    }
}

/// What browsers without Fetch Metadata send with the forms of our pages, whose Referrer-Policy is
/// `no-referrer`.
async fn own_forms_work_without_fetch_metadata(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let mut ann = server.browser();
    let page = ann.open("/login").await;
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    let null = ("origin", "null");
    let typed = [("login", "ann"), ("password", PASSWORD)];
    ann.submit_with(&page, &typed, null).await.expect(StatusCode::SEE_OTHER);
    let request = AuthorizationRequest::of("app", "openid");
    let select = ann.open(&request.clone().with("prompt", "select_account").path()).await;
    let page = ann.open(select.header("location")).await;
    let reply = ann.submit_with(&page, &[("choice", "continue")], null).await;
    assert!(reply.header("location").starts_with("/oauth2/authorize?"), "{reply:?}");
    let page = ann.open(&request.path()).await;
    let reply = ann.submit_with(&page, &[("decision", "allow")], null).await;
    AuthorizationResponse::of(reply.header("location")).code();
    let page = ann.open("/oauth2/logout").await;
    ann.submit_with(&page, &[("decision", "logout")], null).await.expect(StatusCode::OK);
    let page = ann.open("/register").await;
    let typed = [("email", "eve@example.org"), ("password", PASSWORD)];
    ann.submit_with(&page, &typed, null).await.expect(StatusCode::SEE_OTHER);
}

async fn a_long_request_works_or_is_refused_at_once(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let request = |state: &str| AuthorizationRequest::of("app", "openid").with("state", state);
    // Escaped once in the request's URL and once more in those of the pages.
    for state in ["s".repeat(9000), "\"".repeat(1800)] {
        let mut ann = server.browser();
        let reply = ann.open(&request(&state).with("prompt", "select_account").path()).await;
        let login = reply.expect(StatusCode::SEE_OTHER).header("location").to_owned();
        ann.open(&format!("{login}&reauthenticate=1&lang=ru")).await.expect(StatusCode::OK);
        let answer = ann.authorize(&request(&state), "ann").await;
        answer.code();
        assert_eq!(answer.fields["state"], state);
        let post = server.request(Method::POST, "/oauth2/authorize");
        let reply = ann.send(post.form(&request(&state).0)).await.expect(StatusCode::SEE_OTHER);
        let reply = ann.open(reply.header("location")).await.expect(StatusCode::SEE_OTHER);
        AuthorizationResponse::of(reply.header("location")).code();
    }
    for state in ["s".repeat(13_000), "\"".repeat(3000)] {
        for mut browser in [server.browser(), server.logged_in("ann").await] {
            let reply = browser.open(&request(&state).path()).await.expect(StatusCode::SEE_OTHER);
            let answer = AuthorizationResponse::of(reply.header("location"));
            answer.expect_error("invalid_request");
            assert!(answer.fields["error_description"].contains("RFC 9126"), "{answer:?}");
        }
    }
    let post = server.request(Method::POST, "/oauth2/authorize");
    crate::support::send(post.form(&request(&"s".repeat(13_000)).0)).await.expect_page(400);
    let post = server.request(Method::POST, "/oauth2/logout");
    crate::support::send(post.form(&[("state", "s".repeat(13_000))])).await.expect_page(400);
}

async fn a_form_from_before_a_new_login_restarts_the_request(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    server.register("bob").await;
    let request = AuthorizationRequest::of("app", "openid");
    let select = request.clone().with("prompt", "select_account");
    let logout = "/oauth2/logout?client_id=app";
    for (address, button) in [
        (request.path(), ("decision", "allow")),
        (select.path(), ("choice", "continue")),
        (logout.to_owned(), ("decision", "logout")),
    ] {
        let mut ann = server.logged_in("ann").await;
        let mut page = ann.open(&address).await;
        if page.status == StatusCode::SEE_OTHER {
            page = ann.open(page.header("location")).await;
        }
        // Another user logs in in another tab; the CSRF cookie is gone as well.
        ann.cookies = server.logged_in("bob").await.cookies;
        let refused = ann.submit(&page, &[button]).await.expect_page(403);
        let back = link(&refused, "button");
        assert!(
            back.starts_with(address.split('?').next().expect("a path"))
                && back.contains("client_id=app"),
            "{back}"
        );
        let next = ann.open(&back).await;
        assert!(
            next.text.contains("bob") || next.header("location").starts_with("/select-account"),
            "{next:?}"
        );
    }
}

async fn consent_offers_to_switch_the_account(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    server.register("bob").await;
    let mut ann = server.logged_in("ann").await;
    let page =
        ann.open(&AuthorizationRequest::of("app", "openid").path()).await.expect(StatusCode::OK);
    let (_, rest) =
        page.text.split_once("<bdi>ann</bdi> <a href=\"").expect("a link to switch the account");
    let other = rest.split('"').next().expect("an address").replace("&#38;", "&");
    let reply = ann.log_in(&other, "bob").await;
    let page = ann.open(reply.header("location")).await.expect(StatusCode::OK);
    assert!(page.text.contains("<bdi>bob</bdi>"), "{page:?}");
    AuthorizationResponse::of(ann.submit(&page, &[("decision", "allow")]).await.header("location"))
        .code();
}

async fn reauthentication_asks_for_the_password_only(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let mut ann = server.logged_in("ann").await;
    let request = AuthorizationRequest::of("app", "openid").with("prompt", "login");
    let to_login = ann.open(&request.path()).await;
    let page = ann.open(to_login.header("location")).await.expect(StatusCode::OK);
    let text = &page.text;
    assert!(text.contains("Confirm it’s you") && text.contains("<bdi>ann</bdi>"), "{page:?}");
    assert!(!text.contains("id=\"login\"") && !text.contains("/register"), "{page:?}");
    assert!(text.contains(">Confirm</button>") && !text.contains(">Log in</button>"), "{page:?}");
    assert!(text.contains("&#38;reauthenticate=1&#38;lang=ru"), "{page:?}");
    // A wrong password leads to the same page; another account is one click away.
    let wrong = [("login", "ann"), ("password", "not the password")];
    let again = ann.submit(&page, &wrong).await.expect(StatusCode::BAD_REQUEST);
    assert!(again.text.contains("Confirm it’s you") && !again.text.contains("id=\"login\""));
    let (_, other) = text.split_once("<p class=\"after\"><a href=\"").expect("a link");
    let other = other.split('"').next().expect("an address").replace("&#38;", "&");
    let other = ann.open(&other).await.expect(StatusCode::OK);
    assert!(other.text.contains("id=\"login\"") && other.text.contains("/register"), "{other:?}");
    // `id_token_hint` takes precedence; `login_hint` alone reveals no name.
    let hinted = ann.open(&request.with("login_hint", "bob").path()).await;
    let page = ann.open(hinted.header("location")).await;
    assert!(page.text.contains("value=\"bob\""), "{page:?}");
    let page = server.browser().open("/login?reauthenticate=1").await;
    assert!(!page.text.contains("value=\"ann\""), "{page:?}");
}

async fn an_account_other_than_the_hint_is_prompted_once(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    server.register("bob").await;
    let request = AuthorizationRequest::of("app", "openid");
    let code = server.browser().authorize(&request, "bob").await;
    let hint = server.exchange_code("app", code.code()).await.field("id_token");
    let mut ann = server.logged_in("ann").await;
    let to_login = ann.open(&request.with("id_token_hint", &hint).path()).await;
    let login = to_login.header("location").to_owned();
    assert!(
        login.starts_with("/login") && !login.contains("reauthenticate"),
        "reauthentication offers no other login: {login}"
    );
    let back = ann.log_in(&login, "ann").await;
    let answer = ann.open(back.header("location")).await;
    AuthorizationResponse::of(answer.header("location")).expect_error("login_required");
    let back = ann.log_in(&login, "bob").await;
    AuthorizationResponse::of(ann.open(back.header("location")).await.header("location")).code();
}

async fn no_page_links_to_disabled_registration(backend: Backend) {
    let server = TestServer::with(backend, &[("PROPUSK_REGISTRATION__MODE", "closed")]).await;
    server.client("app", web_app()).await;
    let mut browser = server.browser();
    let request = AuthorizationRequest::of("app", "openid");
    let to_login = browser.open(&request.path()).await;
    let register = to_login.header("location").replace("/login?", "/register?");
    let closed = browser.open(&register).await.expect_page(403);
    assert!(closed.text.contains("Registration is closed"), "{closed:?}");
    assert_eq!(link(&closed, "button"), to_login.header("location"));
    let create = browser.open(&request.with("prompt", "create").path()).await;
    AuthorizationResponse::of(create.header("location")).expect_error("invalid_request");
    let document = server.get("/.well-known/openid-configuration").await.json();
    let prompts = document["prompt_values_supported"].to_string();
    assert!(!prompts.contains("create"), "{prompts}");
}

async fn the_start_page_shows_the_logged_in_user(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let anonymous = server.browser().open("/").await.expect(StatusCode::OK);
    assert!(
        anonymous.text.contains("href=\"/login\"") && !anonymous.text.contains("/oauth2/logout")
    );
    let mut ann = server.logged_in("ann").await;
    let page = ann.open("/").await.expect(StatusCode::OK);
    assert!(
        page.text.contains("You are logged in as \u{2068}ann\u{2069}.")
            && page.text.contains("href=\"/oauth2/logout\""),
        "{page:?}"
    );
    assert!(!page.text.contains("href=\"/login\""), "{page:?}");
    assert_eq!(
        (page.header("cache-control"), page.header("content-security-policy")),
        (anonymous.header("cache-control"), anonymous.header("content-security-policy"))
    );
    let page = ann.open("/oauth2/logout").await;
    ann.submit(&page, &[("decision", "logout")]).await.expect(StatusCode::OK);
    assert_eq!(ann.open("/").await.text, anonymous.text);
}

async fn the_logout_page_links_to_operator_registered_apps_only(backend: Backend) {
    let home = Metadata { client_uri: Some("https://app.example/".to_owned()), ..web_app() };
    let server = with_app(backend, home).await;
    let page = server.browser().open("/oauth2/logout?client_id=app").await.expect_page(200);
    assert_eq!(link(&page, "button"), "https://app.example/");
    server
        .change_client("app", |client| client.source = propusk::model::client::Source::Registration)
        .await;
    let page = server.browser().open("/oauth2/logout?client_id=app").await.expect_page(200);
    assert!(!page.text.contains("https://app.example/"), "{page:?}");
}

async fn a_post_only_path_is_not_a_page(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let page = server.browser().open("/consent").await.expect_page(405);
    assert!(page.text.contains("Page not found") && page.header("allow") == "POST", "{page:?}");
    let reply = server.request(Method::GET, "/consent").header("accept-language", "ru");
    let page = crate::support::send(reply).await.expect_page(405);
    assert!(page.text.contains("Страница не найдена"), "{page:?}");
}

async fn an_error_page_names_the_application_and_a_way_back(backend: Backend) {
    let home = Metadata { client_uri: Some("https://app.example/".to_owned()), ..web_app() };
    let server = with_app(backend, home).await;
    let wrong = AuthorizationRequest::of("app", "openid").with("redirect_uri", "https://x.example");
    let logout = "/oauth2/logout?client_id=app&post_logout_redirect_uri=https%3A%2F%2Fx.example";
    for path in [wrong.path(), logout.to_owned()] {
        let page = server.browser().open(&path).await.expect_page(400);
        assert!(page.text.contains("Go back to \u{2068}Example App\u{2069}"), "{page:?}");
        assert_eq!(link(&page, "button"), "https://app.example/");
        let other_language = link(&page, "quiet");
        assert_eq!(other_language, format!("{path}&lang=ru"));
        let page = server.browser().open(&other_language).await.expect_page(400);
        assert!(page.text.contains("Вернитесь в приложение"), "{page:?}");
    }
    // Its name was not verified.
    server
        .change_client("app", |client| client.source = propusk::model::client::Source::Registration)
        .await;
    let page = server.browser().open(&wrong.path()).await.expect_page(400);
    assert!(!page.text.contains("Example App") && !page.text.contains("app.example"), "{page:?}");
    // A form that was sent has no address: the page it came from has one.
    let mut ann = server.logged_in("ann").await;
    let page = ann.open(&AuthorizationRequest::of("app", "openid").path()).await;
    let refused = server.browser().submit(&page, &[("decision", "allow")]).await.expect_page(403);
    assert!(link(&refused, "quiet").starts_with("/oauth2/authorize?client_id=app"), "{refused:?}");
    // A path that a browser would take for another host is not linked to.
    let page = server.browser().open("//evil.example/x").await.expect_page(404);
    assert!(!page.text.contains("evil.example"), "{page:?}");
}

async fn the_account_page_links_to_the_users_applications(backend: Backend) {
    let home = |uri: &str| Metadata { client_uri: Some(uri.to_owned()), ..first_party_app() };
    let server = with_app(backend, home("https://app.example/")).await;
    server.client("unused", home("https://unused.example/")).await;
    server.client("unverified", home("https://unverified.example/")).await;
    server.register("bob").await;
    let mut ann = server.logged_in("ann").await;
    assert_eq!(ann.open("/login").await.header("location"), "/account");
    let page = ann.open("/account").await.expect(StatusCode::OK);
    assert!(page.text.contains("Open the application you want to use"), "{page:?}");
    for id in ["app", "unverified"] {
        let answer = ann.authorize(&AuthorizationRequest::of(id, "openid"), "ann").await;
        server.exchange_code(id, answer.code()).await.expect(StatusCode::OK);
    }
    let unverified = |client: &mut propusk::model::client::Client| {
        client.source = propusk::model::client::Source::Registration;
    };
    server.change_client("unverified", unverified).await;
    let page = ann.open("/account").await.expect(StatusCode::OK);
    assert_eq!(link(&page, "button"), "https://app.example/");
    assert!(page.text.contains("<bdi>Example App</bdi>"), "{page:?}");
    for other in ["unused.example", "unverified.example"] {
        assert!(!page.text.contains(other), "{page:?}");
    }
    assert!(page.text.contains("href=\"/oauth2/logout\"") && page.text.contains("href=\"/\""));
    let page = server.logged_in("bob").await.open("/account").await.expect(StatusCode::OK);
    assert!(!page.text.contains("app.example"), "{page:?}");
}

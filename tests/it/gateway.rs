//! Forward-auth: the response to a gateway, and what happens to the browser behind it.

use std::time::Duration;

use futures_util::future::join_all;
use propusk::{
    clock::Timestamp,
    flows::admin::{
        access::Precondition,
        modules::{grant, put, withdraw},
        users::{self, UserChanges},
    },
    model::{actor::Actor, client::Metadata, module::Module},
    oauth::scope::Scope,
    storage::Statement,
};
use reqwest::{Method, RequestBuilder, StatusCode};

use crate::{
    code_flow::statements,
    cookies::with_https,
    support::{
        Backend, Reply, TestServer, backend_tests,
        oauth::{AuthorizationRequest, Browser, payload, web_app},
        send,
    },
};

/// The origin of the applications behind the gateway, and a host that is not trusted.
const APP: &str = "http://127.0.0.1:9000";
const API: &str = "https://api.example";

/// The identity headers.
pub const IDENTITY: [&str; 9] = [
    "x-propusk-user",
    "x-propusk-email",
    "x-propusk-email-verified",
    "x-propusk-role",
    "x-propusk-scope",
    "x-propusk-client",
    "x-propusk-session",
    "x-propusk-modules",
    "x-propusk-actor",
];

/// A server that trusts the gateway on this machine.
pub async fn with_gateway(backend: Backend) -> TestServer {
    let settings =
        [("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.0/8"), ("PROPUSK_GATEWAY__ORIGINS", APP)];
    let server = TestServer::with(backend, &settings).await;
    server.register("ann").await;
    server
}

/// A module with one scope.
pub async fn module(server: &TestServer, id: &str, scope: &str, resource: Option<&str>) {
    let module = Module {
        id: id.to_owned(),
        names: [("en".to_owned(), id.to_owned())].into(),
        descriptions: [("en".to_owned(), id.to_owned())].into(),
        scope: Scope::parse(scope).expect("a scope"),
        resource: resource.map(str::to_owned),
        is_self_service: true,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    };
    put(&server.app, module, &Actor::operator()).await.expect("a module");
}

pub async fn id_of(server: &TestServer, name: &str) -> String {
    users::find(&server.app, name).await.expect("known").id.into()
}

/// Marks a user's email as verified.
pub async fn verify_email(server: &TestServer, name: &str) {
    let changes = UserChanges { is_verified: Some(true), ..UserChanges::default() };
    let (id, any) = (id_of(server, name).await, Precondition::Any);
    users::update(&server.app, &id.into(), &any, changes, &Actor::operator())
        .await
        .expect("verified");
}

fn ask(server: &TestServer, query: &str) -> RequestBuilder {
    server.request(Method::GET, &format!("/forward-auth{query}"))
}

async fn ask_as(server: &TestServer, query: &str, token: &str) -> Reply {
    send(ask(server, query).bearer_auth(token)).await
}

/// A browser's request for a page of the application, as a gateway reports it.
fn page(server: &TestServer, query: &str) -> RequestBuilder {
    ask(server, query)
        .header("accept", "text/html,application/xhtml+xml")
        .header("sec-fetch-mode", "navigate")
        .header("x-forwarded-method", "GET")
        .header("x-forwarded-proto", "http")
        .header("x-forwarded-host", "127.0.0.1:9000")
        .header("x-forwarded-uri", "/orders?open=1")
}

/// Logs a browser in and gives it the session cookies that a gateway accepts.
pub async fn with_session<'a>(server: &'a TestServer, name: &str) -> Browser<'a> {
    let mut browser = server.logged_in(name).await;
    let reply = browser.open("/session/start").await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.headers.get_all("set-cookie").iter().count(), 2, "{reply:?}");
    browser
}

fn set_cookies(reply: &Reply) -> Vec<String> {
    reply
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|line| line.to_str().expect("text").to_owned())
        .collect()
}

#[track_caller]
fn expect_no_identity(reply: &Reply) {
    for name in IDENTITY {
        assert!(
            reply.headers.contains_key(name) && reply.header(name).is_empty(),
            "{name}: {reply:?}"
        );
    }
}

backend_tests! {
    forward_auth_returns_the_identity_of_a_bearer_token,
    t110_an_unverified_email_is_no_identity,
    a_gateway_requires_scopes_modules_and_an_audience,
    a_gateway_accepts_tokens_for_the_resource_it_names,
    a_withdrawn_module_is_403_at_the_next_request,
    parallel_requests_renew_an_expired_access_cookie_once,
    a_revoked_session_is_not_renewed_and_loses_its_cookies,
    a_browser_is_redirected_to_login_and_back,
    t08_only_page_loads_are_redirected_and_to_trusted_urls_only,
    long_return_addresses_survive_the_login_or_become_the_start_page,
    a_session_start_with_an_unreadable_max_age_is_refused,
    a_gateway_asks_for_a_fresh_login_after_max_age,
    a_gateway_session_is_revoked_with_the_browser_session,
    cookies_from_cross_site_requests_are_ignored,
    hosts_of_a_configured_cookie_domain_share_a_session,
}

async fn forward_auth_returns_the_identity_of_a_bearer_token(backend: Backend) {
    let server = with_gateway(backend).await;
    let token = server.login("ann").await.tokens().access;
    let claims = payload(&token);
    // Whatever method the gateway uses, and whatever else it passes on.
    for method in [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
    ] {
        for path in ["/forward-auth", "/forward-auth/envoy/-/orders?scope=of+the+request"] {
            let request = server
                .request(method.clone(), path)
                .bearer_auth(&token)
                .header("content-type", "text/plain");
            let reply = send(request.body("the query of the request")).await.expect(StatusCode::OK);
            assert_eq!(reply.header("x-propusk-user"), claims["sub"].as_str().expect("text"));
            assert_eq!(reply.header("x-propusk-email"), "");
            assert_eq!(reply.header("x-propusk-email-verified"), "false");
            assert_eq!(
                (reply.header("x-propusk-role"), reply.header("x-propusk-client")),
                ("user", "propusk")
            );
            assert_eq!(reply.header("x-propusk-scope"), claims["scope"].as_str().expect("text"));
            assert_eq!(reply.header("x-propusk-session"), claims["sid"].as_str().expect("text"));
            assert!(reply.headers.contains_key("x-propusk-modules"));
            assert_eq!(reply.header("cache-control"), "no-store");
            assert_eq!(set_cookies(&reply), Vec::<String>::new());
        }
    }
    let anonymous = send(ask(&server, "")).await.expect_error(401, "INVALID_TOKEN");
    assert_eq!(anonymous.header("www-authenticate"), "Bearer", "RFC 6750 §3.1");
    expect_no_identity(&anonymous);
    for bad in ["x", "a.b.c", &token[1..]] {
        let reply = ask_as(&server, "", bad).await.expect_error(401, "INVALID_TOKEN");
        assert!(
            reply.header("www-authenticate").starts_with("Bearer error=\"invalid_token\""),
            "{reply:?}"
        );
        expect_no_identity(&reply);
    }
    server.clock.advance(Duration::from_secs(901));
    expect_no_identity(&ask_as(&server, "", &token).await.expect_error(401, "INVALID_TOKEN"));
}

async fn t110_an_unverified_email_is_no_identity(backend: Backend) {
    let server = with_gateway(backend).await;
    let emails = async |server: &TestServer| {
        let tokens = server.login("ann").await.tokens();
        let by_token = ask_as(server, "", &tokens.access).await.expect(StatusCode::OK);
        let cookie = format!("propusk_refresh={}", tokens.refresh);
        let by_cookie = send(ask(server, "").header("cookie", cookie)).await.expect(StatusCode::OK);
        let of = |reply: &Reply| {
            ["x-propusk-email", "x-propusk-email-verified"]
                .map(|name| reply.header(name).to_owned())
        };
        assert_eq!(of(&by_token), of(&by_cookie));
        of(&by_token)
    };
    assert_eq!(emails(&server).await, ["", "false"]);
    let open = server.another(&[("PROPUSK_GATEWAY__UNVERIFIED_EMAIL", "true")]).await;
    assert_eq!(emails(&open).await, ["ann@example.org", "false"]);
    verify_email(&server, "ann").await;
    for server in [&server, &open] {
        assert_eq!(emails(server).await, ["ann@example.org", "true"]);
    }
}

async fn a_gateway_requires_scopes_modules_and_an_audience(backend: Backend) {
    let server = with_gateway(backend).await;
    module(&server, "crm", "crm:read crm:write", None).await;
    module(&server, "wiki", "wiki:read", None).await;
    grant(&server.app, &id_of(&server, "ann").await, "crm", None, &Actor::operator())
        .await
        .expect("granted");
    let token = server.login("ann").await.tokens().access;
    for good in [
        "",
        "?scope=openid",
        "?scope=openid%20email&scope=profile",
        "?module=crm",
        "?module=crm&scope=crm:write",
    ] {
        let reply = ask_as(&server, good, &token).await.expect(StatusCode::OK);
        assert_eq!(reply.header("x-propusk-modules"), "crm", "{good}");
    }
    for (bad, scope, message) in [
        ("?scope=api:admin", "api:admin", "the token lacks the scope api:admin"),
        (
            "?scope=openid+api:admin",
            "openid api:admin",
            "the token lacks the scope openid api:admin",
        ),
        ("?module=wiki", "wiki:read", "the user lacks the module wiki"),
        (
            "?module=crm&module=wiki&scope=openid",
            "openid crm:read crm:write wiki:read",
            "the user lacks the module wiki",
        ),
        ("?module=nowhere", "", "the user lacks the module nowhere"),
    ] {
        let reply = ask_as(&server, bad, &token).await.expect_error(403, "INSUFFICIENT_SCOPE");
        let scope = if scope.is_empty() { String::new() } else { format!(", scope=\"{scope}\"") };
        let response =
            format!("Bearer error=\"insufficient_scope\", error_description=\"{message}\"{scope}");
        assert_eq!(reply.header("www-authenticate"), response, "{bad}");
        expect_no_identity(&reply);
    }
    // In Envoy's form the requirement precedes the path of the request, whose own query has no
    // effect.
    let envoy = |path: &str| {
        send(
            server
                .request(Method::POST, &format!("/forward-auth/envoy/{path}"))
                .bearer_auth(&token),
        )
    };
    envoy("module=crm/orders?module=wiki").await.expect(StatusCode::OK);
    envoy("module=wiki/orders?module=crm").await.expect_error(403, "INSUFFICIENT_SCOPE");
    envoy("module=wiki").await.expect_error(403, "INSUFFICIENT_SCOPE");
    ask_as(&server, &format!("?audience={API}"), &token).await.expect_error(401, "INVALID_TOKEN");
    for typo in ["?scopes=a", "?scope=", "?modul=crm", "?max_age=5", "?redirect=no", "?scope=a%22b"]
    {
        expect_refusal(&ask_as(&server, typo, &token).await);
    }
    for nowhere in ["/forward-auth/", "/forward-auth/scope=x", "/forward-auth/envoy"] {
        let reply = send(server.request(Method::GET, nowhere).bearer_auth(&token)).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{nowhere} denies every request");
    }
}

async fn a_gateway_accepts_tokens_for_the_resource_it_names(backend: Backend) {
    let server = with_gateway(backend).await;
    server.app.db.write(Statement::new("INSERT INTO resources (id, name, default_scope, created_at) VALUES ('https://api.example', 'The API', '', 0)")).await.expect("a resource");
    server.client("app", Metadata { resources: vec![API.to_owned()], ..web_app() }).await;
    module(&server, "crm", "api:read", Some(API)).await;
    let form = [("grant_type", "client_credentials"), ("resource", API), ("scope", "api:write")];
    let token = server
        .form_as("/oauth2/token", "app", &form)
        .await
        .expect(StatusCode::OK)
        .field("access_token");
    ask_as(&server, "", &token).await.expect_error(401, "INVALID_TOKEN");
    let reply = ask_as(&server, &format!("?audience={API}&scope=api:write"), &token)
        .await
        .expect(StatusCode::OK);
    assert_eq!(
        (reply.header("x-propusk-user"), reply.header("x-propusk-client")),
        ("", "app"),
        "a client that acts for itself is no user"
    );
    assert_eq!(
        (
            reply.header("x-propusk-email"),
            reply.header("x-propusk-role"),
            reply.header("x-propusk-session")
        ),
        ("", "", "")
    );
    ask_as(&server, &format!("?audience={API}&module=crm"), &token)
        .await
        .expect_error(403, "INSUFFICIENT_SCOPE");
    // A client's own token has no login whose age could be checked.
    ask_as(&server, &format!("?audience={API}&max_age=300"), &token)
        .await
        .expect_error(401, "INSUFFICIENT_USER_AUTHENTICATION");
}

async fn a_withdrawn_module_is_403_at_the_next_request(backend: Backend) {
    let server = with_gateway(backend).await;
    module(&server, "crm", "crm:read", None).await;
    let ann = id_of(&server, "ann").await;
    grant(&server.app, &ann, "crm", None, &Actor::operator()).await.expect("granted");
    let token = server.login("ann").await.tokens();
    let mut browser = with_session(&server, "ann").await;
    ask_as(&server, "?module=crm", &token.access).await.expect(StatusCode::OK);
    browser.send(ask(&server, "?module=crm")).await.expect(StatusCode::OK);
    withdraw(&server.app, &ann, "crm", &Actor::operator()).await.expect("withdrawn");
    for _ in 0..2 {
        let reply = ask_as(&server, "?module=crm", &token.access)
            .await
            .expect_error(403, "INSUFFICIENT_SCOPE");
        assert!(reply.header("www-authenticate").contains("scope=\"crm:read\""), "{reply:?}");
    }
    ask_as(&server, "?scope=crm:read", &token.access).await.expect_error(403, "INSUFFICIENT_SCOPE");
    // The token is invalid everywhere; a refresh gives a valid one.
    ask_as(&server, "", &token.access).await.expect_error(401, "INVALID_TOKEN");
    ask_as(&server, "?scope=openid", &token.access).await.expect_error(401, "INVALID_TOKEN");
    let next = server.refresh(&token.refresh).await.tokens().access;
    ask_as(&server, "?scope=openid", &next).await.expect(StatusCode::OK);
    // A browser's token is renewed even when the request is denied: its old refresh token is spent.
    let reply =
        browser.send(ask(&server, "?module=crm")).await.expect_error(403, "INSUFFICIENT_SCOPE");
    assert_eq!(set_cookies(&reply).len(), 2, "{reply:?}");
    browser.send(ask(&server, "?scope=openid")).await.expect(StatusCode::OK);
    // For a revoked token the response does not say what it lacks.
    server.refresh(&token.refresh).await;
    server.post_as("/api/v1/auth/logout", &next).await.expect(StatusCode::OK);
    ask_as(&server, "?module=crm", &token.access).await.expect_error(401, "INVALID_TOKEN");
}

async fn parallel_requests_renew_an_expired_access_cookie_once(backend: Backend) {
    let server = with_gateway(backend).await;
    let mut ann = with_session(&server, "ann").await;
    let kept = ann.send(ask(&server, "")).await.expect(StatusCode::OK);
    assert_eq!(set_cookies(&kept), Vec::<String>::new(), "a valid token is not renewed");
    let kept = ann.send(ask(&server, "?cookies=header")).await.expect(StatusCode::OK);
    assert!(
        kept.headers.contains_key("x-propusk-set-access")
            && kept.header("x-propusk-set-access").is_empty(),
        "{kept:?}"
    );
    let session = kept.header("x-propusk-session").to_owned();
    server.clock.advance(Duration::from_secs(901));
    let cookie = format!(
        "propusk_access={}; propusk_refresh={}",
        ann.cookies["propusk_access"], ann.cookies["propusk_refresh"]
    );
    let requests = (0..20).map(|_| send(ask(&server, "?cookies=header").header("cookie", &cookie)));
    let mut refresh = vec![];
    for reply in join_all(requests).await {
        let reply = reply.expect(StatusCode::OK);
        assert_eq!(reply.header("x-propusk-session"), session);
        let cookies = set_cookies(&reply);
        assert!(
            cookies[0].starts_with("propusk_access=ey")
                && cookies[1].starts_with("propusk_refresh="),
            "{cookies:?}"
        );
        assert!(
            cookies.iter().all(|line| line.ends_with("; HttpOnly; SameSite=Lax")),
            "{cookies:?}"
        );
        assert_eq!(
            [reply.header("x-propusk-set-access"), reply.header("x-propusk-set-refresh")],
            [&cookies[0], &cookies[1]]
        );
        refresh.push(cookies[1].clone());
    }
    refresh.dedup();
    assert_eq!(refresh.len(), 1, "all get the same successor");
    // A browser without an access cookie is treated the same, and requested headers are returned.
    ann.cookies.remove("propusk_access");
    let reply = ann.send(ask(&server, "")).await.expect(StatusCode::OK);
    assert_eq!(
        (set_cookies(&reply).len(), reply.headers.contains_key("x-propusk-set-refresh")),
        (2, false)
    );
    ann.send(ask(&server, "")).await.expect(StatusCode::OK);

    // A bearer token is never renewed, even with cookies beside it.
    let token = server.login("ann").await.tokens().access;
    server.clock.advance(Duration::from_secs(901));
    let reply =
        ann.send(ask(&server, "").bearer_auth(&token)).await.expect_error(401, "INVALID_TOKEN");
    assert_eq!(set_cookies(&reply), Vec::<String>::new());
    ann.send(ask(&server, "")).await.expect(StatusCode::OK);
}

async fn a_revoked_session_is_not_renewed_and_loses_its_cookies(backend: Backend) {
    let server = with_gateway(backend).await;
    let mut ann = with_session(&server, "ann").await;
    let token = ann.cookies["propusk_access"].clone();
    server.post_as("/api/v1/auth/logout", &token).await.expect(StatusCode::OK);
    let reply = ann.send(ask(&server, "?cookies=header")).await.expect_error(401, "INVALID_TOKEN");
    expect_no_identity(&reply);
    assert_eq!(
        set_cookies(&reply),
        [
            "propusk_access=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax",
            "propusk_refresh=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
        ]
    );
    assert_eq!(reply.header("x-propusk-set-access"), set_cookies(&reply)[0]);
    assert!(!ann.cookies.contains_key("propusk_refresh"));
    // After a logout at the login origin, the next page does not log in again by itself.
    let reply = ann.open("/session/start").await.expect(StatusCode::SEE_OTHER);
    assert!(reply.header("location").starts_with("/login?"), "{reply:?}");
    // The cookies of a disabled account are invalid at once.
    let mut ann = with_session(&server, "ann").await;
    ann.send(ask(&server, "")).await.expect(StatusCode::OK);
    let user = users::find(&server.app, "ann").await.expect("known");
    users::disable(&server.app, &user.id, &Actor::operator()).await.expect("disabled");
    ann.send(ask(&server, "")).await.expect_error(401, "INVALID_TOKEN");
}

async fn a_browser_is_redirected_to_login_and_back(backend: Backend) {
    let server = with_gateway(backend).await;
    let mut ann = server.browser();
    let reply = ann.send(page(&server, "?module=crm")).await.expect(StatusCode::SEE_OTHER);
    expect_no_identity(&reply);
    let start = "/session/start?return_to=http%3A%2F%2F127.0.0.1%3A9000%2Forders%3Fopen%3D1";
    let issuer = server.app.config.server.issuer.clone();
    assert_eq!(reply.header("location"), format!("{issuer}{start}"));
    // nginx accepts 401 only, and reads the URL from a header.
    let reply = ann.send(page(&server, "?redirect=header")).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(
        (reply.header("x-propusk-location"), reply.header("location")),
        (format!("{issuer}{start}").as_str(), "")
    );

    let reply = ann.open(start).await.expect(StatusCode::SEE_OTHER);
    let login = reply.header("location").to_owned();
    assert!(login.starts_with("/login?return_to=%2Fsession%2Fstart%3F"), "{login}");
    let form = ann.open(&login).await.expect(StatusCode::OK);
    assert!(
        !form.header("content-security-policy").contains("form-action"),
        "a form may lead to the application and on: {form:?}"
    );
    let reply = ann.log_in(&login, "ann").await;
    assert_eq!(reply.header("location"), start);
    let reply = ann.open(start).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), format!("{APP}/orders?open=1"));
    ann.send(page(&server, "")).await.expect(StatusCode::OK);
    // A logged-in user without permission gets an error, not a redirect loop.
    ann.send(page(&server, "?scope=api:admin")).await.expect_page(403);
    // Registration from the start page leads back the same way.
    let register = login.replace("/login?", "/register?");
    assert!(ann.open(&register).await.expect(StatusCode::OK).text.contains("/session/start"));
}

async fn t08_only_page_loads_are_redirected_and_to_trusted_urls_only(backend: Backend) {
    let server = with_gateway(backend).await;
    let envoy = || {
        server
            .request(Method::GET, "/forward-auth/envoy/-/orders?open=1")
            .header("accept", "text/html")
            .header("x-forwarded-proto", "http")
            .header("host", "127.0.0.1:9000")
    };
    let start = format!("{}/session/start", server.app.config.server.issuer);
    let to_orders = format!("{start}?return_to=http%3A%2F%2F127.0.0.1%3A9000%2Forders%3Fopen%3D1");
    assert_eq!(send(envoy()).await.expect(StatusCode::SEE_OTHER).header("location"), to_orders);
    let by_url = ask(&server, "")
        .header("accept", "text/html")
        .header("x-original-url", format!("{APP}/orders?open=1"));
    assert_eq!(send(by_url).await.expect(StatusCode::SEE_OTHER).header("location"), to_orders);
    for request in [
        ask(&server, ""),
        ask(&server, "").header("accept", "application/json"),
        ask(&server, "?redirect=never").header("accept", "text/html"),
        ask(&server, "").header("accept", "text/html").header("x-forwarded-method", "POST"),
        ask(&server, "").header("accept", "text/html").header("x-original-method", "DELETE"),
        ask(&server, "").header("accept", "text/html").header("sec-fetch-mode", "cors"),
        ask(&server, "").header("accept", "text/html").bearer_auth("a.b.c"),
        server.request(Method::POST, "/forward-auth/envoy/-/orders").header("accept", "text/html"),
    ] {
        let reply = send(request).await.expect(StatusCode::UNAUTHORIZED);
        assert_eq!(
            (reply.header("location"), reply.header("x-propusk-location")),
            ("", ""),
            "{reply:?}"
        );
        assert!(reply.header("www-authenticate").starts_with("Bearer"));
    }
    // T8: an untrusted URL is dropped.
    for bad in [
        "https://evil.example/",
        "//evil.example",
        "javascript:alert(1)",
        "http://127.0.0.1:9001/",
        "http://127.0.0.1:9000@evil.example/",
        "https://127.0.0.1:9000/",
        "http://[::1]:9000/",
    ] {
        let request = ask(&server, "").header("accept", "text/html").header("x-original-url", bad);
        assert_eq!(
            send(request).await.expect(StatusCode::SEE_OTHER).header("location"),
            start,
            "{bad}"
        );
        let address = format!(
            "/session/start?return_to={}",
            url::form_urlencoded::byte_serialize(bad.as_bytes()).collect::<String>()
        );
        let mut ann = server.logged_in("ann").await;
        assert_eq!(
            ann.open(&address).await.expect(StatusCode::SEE_OTHER).header("location"),
            "/login",
            "{bad}"
        );
    }
    // Only peers in server.trusted_proxies may say where a browser was.
    let database = server.stop().await;
    let other = TestServer::on(
        database,
        propusk::clock::Clock::fake(crate::support::START),
        &[("PROPUSK_GATEWAY__ORIGINS", APP)],
    )
    .await;
    assert_eq!(
        send(page(&other, "")).await.expect(StatusCode::SEE_OTHER).header("location"),
        start
    );
}

async fn long_return_addresses_survive_the_login_or_become_the_start_page(backend: Backend) {
    let server = with_gateway(backend).await;
    let long = |n: usize| format!("/orders?q={}", "a".repeat(n));
    for (path, lands) in [
        (long(7000), long(7000)),
        (long(7200), "/".to_owned()),
        // Short enough, but its escapes are escaped twice on the way.
        (format!("/orders?q={}", "%D0%B0".repeat(1000)), "/".to_owned()),
        (
            format!("/orders?q={}", "%D0%B0".repeat(600)),
            format!("/orders?q={}", "%D0%B0".repeat(600)),
        ),
    ] {
        let mut ann = server.browser();
        let asked = ask(&server, "")
            .header("accept", "text/html")
            .header("x-original-url", format!("{APP}{path}"));
        let reply = ann.send(asked).await.expect(StatusCode::SEE_OTHER);
        let start = reply.header("location").strip_prefix(&server.app.config.server.issuer);
        let reply = ann.open(start.expect("our own")).await.expect(StatusCode::SEE_OTHER);
        let login = reply.header("location").to_owned();
        ann.open(&format!("{login}&reauthenticate=1&lang=ru")).await.expect(StatusCode::OK);
        let reply = ann.log_in(&login, "ann").await;
        let reply = ann.open(reply.header("location")).await.expect(StatusCode::SEE_OTHER);
        assert_eq!(reply.header("location"), format!("{APP}{lands}"));
        // A link that goes straight to the start of a session.
        let direct = AuthorizationRequest(vec![("return_to".to_owned(), format!("{APP}{path}"))]);
        let direct = format!("/session/start?{}", direct.query());
        let reply = server.browser().open(&direct).await.expect(StatusCode::SEE_OTHER);
        assert_eq!(reply.header("location"), login);
    }
}

async fn a_session_start_with_an_unreadable_max_age_is_refused(backend: Backend) {
    let server = with_gateway(backend).await;
    let mut ann = server.logged_in("ann").await;
    for bad in ["x", "-1", "5m", "1.5"] {
        let reply = ann.open(&format!("/session/start?max_age={bad}")).await;
        let reply = reply.expect(StatusCode::BAD_REQUEST);
        assert!(reply.text.contains("max_age"), "{reply:?}");
        assert_eq!(reply.header("set-cookie"), "", "no session is started");
    }
    ann.open("/session/start?max_age=300").await.expect(StatusCode::SEE_OTHER);
}

async fn a_gateway_asks_for_a_fresh_login_after_max_age(backend: Backend) {
    let server = with_gateway(backend).await;
    let mut ann = with_session(&server, "ann").await;
    ann.send(page(&server, "?max_age=300")).await.expect(StatusCode::OK);
    ann.send(page(&server, "?acr=urn:propusk:acr:password+other")).await.expect(StatusCode::OK);
    server.clock.advance(Duration::from_secs(301));
    ann.send(page(&server, "")).await.expect(StatusCode::OK);
    let reply = ann
        .send(ask(&server, "?max_age=300"))
        .await
        .expect_error(401, "INSUFFICIENT_USER_AUTHENTICATION");
    let response = reply.header("www-authenticate");
    assert!(
        response.starts_with("Bearer error=\"insufficient_user_authentication\"")
            && response.ends_with(", max_age=\"300\""),
        "RFC 9470 §3: {response}"
    );
    let reply = ann.send(page(&server, "?max_age=300")).await.expect(StatusCode::SEE_OTHER);
    let start = reply
        .header("location")
        .strip_prefix(&server.app.config.server.issuer)
        .expect("here")
        .to_owned();
    assert!(start.ends_with("&max_age=300"), "{start}");
    let login = ann.open(&start).await.expect(StatusCode::SEE_OTHER).header("location").to_owned();
    assert!(login.starts_with("/login?") && login.ends_with("&reauthenticate=1"), "{login}");
    let reply = ann.log_in(&login, "ann").await;
    let reply = ann.open(reply.header("location")).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), format!("{APP}/orders?open=1"));
    ann.send(page(&server, "?max_age=300")).await.expect(StatusCode::OK);
    // A requirement that no login could satisfy is an error of the configuration.
    let reply =
        ann.send(page(&server, "?acr=phr&redirect=header")).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(reply.header("x-propusk-location"), "");
    assert!(reply.header("www-authenticate").ends_with(", acr_values=\"phr\""), "{reply:?}");
}

async fn a_gateway_session_is_revoked_with_the_browser_session(backend: Backend) {
    let server = with_gateway(backend).await;
    let mut ann = with_session(&server, "ann").await;
    let token = ann.cookies["propusk_access"].clone();
    let page = ann.open("/oauth2/logout").await.expect(StatusCode::OK);
    let reply = ann.submit(&page, &[("decision", "logout")]).await.expect(StatusCode::OK);
    assert_eq!(
        set_cookies(&reply).iter().filter(|line| line.contains("Max-Age=0")).count(),
        3,
        "{reply:?}"
    );
    ask_as(&server, "", &token).await.expect_error(401, "INVALID_TOKEN");
    // With a session of its own the browser is unchanged.
    let own = server.login("ann").await.tokens().access;
    let mut ann = with_session(&server, "ann").await;
    server.post_as("/api/v1/auth/logout", &own).await.expect(StatusCode::OK);
    ann.send(ask(&server, "")).await.expect(StatusCode::OK);
    assert!(ann.open("/session/start").await.header("location").starts_with("/login"));
    assert_eq!(
        server.events().await.iter().filter(|(kind, _)| kind == "browser.logged_out").count(),
        1
    );
}

async fn cookies_from_cross_site_requests_are_ignored(backend: Backend) {
    let server = with_gateway(backend).await;
    let mut ann = with_session(&server, "ann").await;
    for (origin, site, good) in [
        ("https://evil.example", "", false),
        ("null", "", false),
        ("http://127.0.0.1:9001", "same-site", false),
        ("https://evil.example", "cross-site", false),
        ("http://127.0.0.1:9001", "", false),
        (APP, "", true),
        (APP, "same-site", true),
        (&*server.app.config.server.issuer.clone(), "", true),
        ("null", "same-origin", true),
        ("", "cross-site", true),
        ("", "none", true),
    ] {
        let mut request = ask(&server, "").header("x-forwarded-method", "POST");
        for (name, value) in [("origin", origin), ("sec-fetch-site", site)] {
            if !value.is_empty() {
                request = request.header(name, value);
            }
        }
        let reply = ann.send(request).await;
        if good {
            reply.expect(StatusCode::OK);
        } else {
            expect_no_identity(&reply.expect_error(403, "CROSS_SITE_REQUEST"));
        }
    }
    // A bearer token is never attached by a browser on its own.
    let token = server.login("ann").await.tokens().access;
    send(ask(&server, "").header("origin", "https://evil.example").bearer_auth(token))
        .await
        .expect(StatusCode::OK);
}

async fn hosts_of_a_configured_cookie_domain_share_a_session(backend: Backend) {
    let settings = [
        ("PROPUSK_GATEWAY__COOKIE_DOMAIN", "example.org"),
        ("PROPUSK_GATEWAY__ORIGINS", "https://app.example.org"),
        ("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let (server, _folder) = with_https(backend, &settings).await;
    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    assert!(
        ann.cookies.contains_key("__Host-propusk_session"),
        "the cookies of the pages stay host-only"
    );
    let start = "/session/start?return_to=https%3A%2F%2Fapp.example.org%2F";
    let reply = ann.open(start).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), "https://app.example.org/");
    let cookies = set_cookies(&reply);
    for (line, name) in cookies.iter().zip(["__Secure-propusk_access", "__Secure-propusk_refresh"])
    {
        assert!(line.starts_with(&format!("{name}=")), "{line}");
        assert!(line.ends_with("; HttpOnly; SameSite=Lax; Secure; Domain=example.org"), "{line}");
    }
    server.clock.advance(Duration::from_secs(901));
    let reply = ann.send(ask(&server, "")).await.expect(StatusCode::OK);
    assert_eq!(
        set_cookies(&reply).iter().filter(|line| line.ends_with("; Domain=example.org")).count(),
        2
    );
    let page = ann.open("/oauth2/logout").await.expect(StatusCode::OK);
    let reply = ann.submit(&page, &[("decision", "logout")]).await.expect(StatusCode::OK);
    assert_eq!(
        set_cookies(&reply)
            .iter()
            .filter(|line| line.contains("Max-Age=0") && line.ends_with("; Domain=example.org"))
            .count(),
        2
    );
}

#[track_caller]
fn expect_refusal(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{reply:?}");
    expect_no_identity(reply);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn a_check_takes_one_statement_and_parallel_ones_share_it() {
    let server = with_gateway(Backend::Postgres).await;
    module(&server, "crm", "crm:read", None).await;
    let extension = Statement::new("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
    let created = server.app.db.write(extension).await;
    created.expect("pg_stat_statements, which ./dev/test loads");
    let mut ann = with_session(&server, "ann").await;
    let query = "?scope=openid&max_age=300";
    ann.send(ask(&server, query)).await.expect(StatusCode::OK);
    // A background sweep may fall into a count and only adds to it: the smallest of several counts
    // is that of the calls.
    let (mut shown, mut nothing) = (i64::MAX, i64::MAX);
    for _ in 0..6 {
        let before = statements(&server).await;
        for _ in 0..20 {
            ann.send(ask(&server, query)).await.expect(StatusCode::OK);
        }
        shown = shown.min(statements(&server).await - before);
        let before = statements(&server).await;
        let refused = send(ask(&server, query)).await;
        nothing = nothing.min(statements(&server).await - before);
        refused.expect(StatusCode::UNAUTHORIZED);
    }
    assert_eq!(shown, 20);
    assert_eq!(nothing, 0, "a request without credentials needs no query");
    let before = statements(&server).await;
    let token = ann.cookies["propusk_access"].clone();
    join_all((0..100).map(|_| ask_as(&server, query, &token))).await;
    let took = statements(&server).await - before;
    assert!((1..100).contains(&took), "{took} statements for 100 requests");
}

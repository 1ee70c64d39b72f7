//! Debian's nginx, configured as in `examples/nginx`, between a client, Propusk and an application.

use std::time::Duration;

use futures_util::future::join_all;
use propusk::{
    flows::admin::clients::catalogue::put_resource,
    model::{
        actor::Actor,
        catalogue::Resource,
        client::{Metadata, Source},
    },
    oauth::scope::Scope,
};
use reqwest::{Method, RequestBuilder, StatusCode};

use crate::{
    gateway::{id_of, module, verify_email},
    support::{
        Backend, PASSWORD, Reply, TestServer, backend_tests,
        chromium::{Chromium, until},
        nginx::{Nginx, application},
        oauth::{AuthorizationRequest, Browser, web_app},
        process::free_address,
        send,
    },
    threats::gateway::access_token,
};

/// The resource that the application behind nginx is.
const API: &str = "https://wiki.example";

/// Propusk with `ann`, nginx before an application, and the base URL of nginx.
pub struct Setup {
    pub server: TestServer,
    pub gateway: String,
    _nginx: Nginx,
}

impl Setup {
    pub async fn new(backend: Backend) -> Self {
        let (address, own) = (free_address(), free_address());
        let (gateway, issuer) = (format!("http://{address}"), format!("http://{own}"));
        let settings = [
            ("PROPUSK_SERVER__LISTEN", own.as_str()),
            ("PROPUSK_SERVER__ISSUER", issuer.as_str()),
            ("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.1"),
            ("PROPUSK_GATEWAY__ORIGINS", gateway.as_str()),
            ("PROPUSK_GATEWAY__AUDIENCES", API),
        ];
        let server = TestServer::with(backend, &settings).await;
        server.register("ann").await;
        verify_email(&server, "ann").await;
        module(&server, "crm", "crm:read", None).await;
        let _nginx = Nginx::start(&address, &own, &application().await).await;
        Self { server, gateway, _nginx }
    }

    /// A request to the application, through nginx.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let address = format!("{}{path}", self.gateway);
        self.server.http.request(method, address)
    }

    fn page(&self, path: &str) -> RequestBuilder {
        let page = self.request(Method::GET, path);
        page.header("accept", "text/html,*/*").header("sec-fetch-mode", "navigate")
    }

    async fn get_as(&self, path: &str, token: &str) -> Reply {
        send(self.request(Method::GET, path).bearer_auth(token)).await
    }
}

/// The values that the application received for a header, in any case.
pub fn received(reply: &Reply, name: &str) -> Vec<String> {
    let lines = reply.text.lines().skip(1).filter_map(|line| line.split_once(": "));
    let plain = |name: &str| name.to_ascii_lowercase().replace('_', "-");
    let named = lines.filter(|(granted, _)| plain(granted) == plain(name));
    named.map(|(_, value)| value.to_owned()).collect()
}

fn set_cookies(reply: &Reply) -> Vec<&str> {
    let lines = reply.headers.get_all("set-cookie").iter();
    lines.map(|line| line.to_str().expect("text")).collect()
}

/// A browser that completed the login on its way from the gateway and back.
async fn logged_in(setup: &Setup) -> Browser<'_> {
    let mut ann = setup.server.logged_in("ann").await;
    ann.open("/session/start").await.expect(StatusCode::SEE_OTHER);
    ann.send(setup.page("/")).await.expect(StatusCode::OK);
    ann
}

backend_tests! {
    requires "nginx": nginx_passes_the_identity_of_a_bearer_token_on,
    nginx_denies_a_module_as_soon_as_it_is_disabled,
    nginx_passes_both_renewed_cookies_to_the_browser,
    nginx_redirects_only_page_loads_to_the_login,
    t95_nginx_refuses_the_token_of_an_application,
}

async fn nginx_passes_the_identity_of_a_bearer_token_on(backend: Backend) {
    let setup = Setup::new(backend).await;
    let ann = id_of(&setup.server, "ann").await;
    let token = setup.server.login("ann").await.tokens().access;
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
        let request = setup.request(method.clone(), "/orders?open=1").bearer_auth(&token);
        let reply = send(request.body("an order")).await.expect(StatusCode::OK);
        assert!(reply.text.starts_with(&format!("{method} /orders?open=1 ")), "{reply:?}");
        assert_eq!(received(&reply, "x-propusk-user"), [ann.as_str()]);
        assert_eq!(received(&reply, "x-propusk-email"), ["ann@example.org"]);
        assert_eq!(received(&reply, "x-propusk-email-verified"), ["true"]);
        assert_eq!(received(&reply, "x-propusk-role"), ["user"]);
        assert_eq!(received(&reply, "x-propusk-client"), ["propusk"]);
        assert_eq!(received(&reply, "x-propusk-scope"), ["openid profile email"]);
        assert_eq!(received(&reply, "x-propusk-session").len(), 1);
        assert!(!reply.text.contains("propusk-set-"), "{reply:?}");
    }
    let anonymous = send(setup.request(Method::GET, "/")).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(anonymous.header("www-authenticate"), "Bearer");
    let wrong = setup.get_as("/", "a.b.c").await.expect(StatusCode::UNAUTHORIZED);
    assert!(
        wrong.header("www-authenticate").starts_with("Bearer error=\"invalid_token\""),
        "{wrong:?}"
    );
    let lacking = setup.get_as("/api/orders", &token).await.expect(StatusCode::FORBIDDEN);
    assert!(lacking.header("www-authenticate").ends_with("scope=\"crm:read\""), "{lacking:?}");
    send(setup.request(Method::GET, "/public/")).await.expect(StatusCode::OK);
    // The subrequest location of nginx cannot be called from outside.
    setup.get_as("/propusk-auth", &token).await.expect(StatusCode::NOT_FOUND);
}

async fn t95_nginx_refuses_the_token_of_an_application(backend: Backend) {
    let setup = Setup::new(backend).await;
    let server = &setup.server;
    let wiki = Resource {
        id: API.to_owned(),
        name: "The wiki".to_owned(),
        scope: None,
        default_scope: Scope::default(),
    };
    put_resource(&server.app, wiki, &Actor::operator()).await.expect("a resource");
    let metadata = Metadata { resources: vec![API.to_owned()], ..web_app() };
    for (id, source) in [("app", Source::Operator), ("self-registered", Source::Registration)] {
        server.client(id, metadata.clone()).await;
        server.change_client(id, |client| client.source = source).await;
        let request = AuthorizationRequest::of(id, "openid email");
        let token = access_token(server, &request).await;
        setup.get_as("/", &token).await.expect(StatusCode::UNAUTHORIZED);
    }
    let for_wiki = AuthorizationRequest::of("app", "openid api:read").with("resource", API);
    let token = access_token(server, &for_wiki).await;
    let reply = setup.get_as("/", &token).await.expect(StatusCode::OK);
    assert_eq!(received(&reply, "x-propusk-client"), ["app"]);
}

async fn nginx_denies_a_module_as_soon_as_it_is_disabled(backend: Backend) {
    let setup = Setup::new(backend).await;
    let first = setup.server.login("ann").await.tokens();
    setup.get_as("/crm/customers", &first.access).await.expect(StatusCode::FORBIDDEN);
    setup.server.post_as("/api/v1/modules/crm/enable", &first.access).await.expect(StatusCode::OK);
    let token = setup.server.refresh(&first.refresh).await.tokens().access;
    let mut browser = logged_in(&setup).await;
    for path in ["/crm/customers", "/api/orders"] {
        let reply = setup.get_as(path, &token).await.expect(StatusCode::OK);
        assert_eq!(received(&reply, "x-propusk-modules"), ["crm"]);
    }
    browser.send(setup.page("/crm/customers")).await.expect(StatusCode::OK);
    setup.server.post_as("/api/v1/modules/crm/disable", &token).await.expect(StatusCode::OK);
    for path in ["/crm/customers", "/api/orders", "/crm/customers"] {
        let reply = setup.get_as(path, &token).await.expect(StatusCode::FORBIDDEN);
        assert!(reply.header("www-authenticate").contains("insufficient_scope"), "{reply:?}");
    }
    // A browser's token is renewed although the request is denied, and its user stays logged in.
    let reply = browser.send(setup.page("/crm/customers")).await.expect(StatusCode::FORBIDDEN);
    assert_eq!(set_cookies(&reply).len(), 2, "{reply:?}");
    browser.send(setup.page("/")).await.expect(StatusCode::OK);
}

async fn nginx_passes_both_renewed_cookies_to_the_browser(backend: Backend) {
    let setup = Setup::new(backend).await;
    let mut ann = logged_in(&setup).await;
    let before = ann.cookies.clone();
    setup.server.clock.advance(Duration::from_secs(901));
    let cookies: Vec<_> = before.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let page = (0..20)
        .map(|n| send(setup.page(&format!("/picture/{n}")).header("cookie", cookies.join("; "))));
    for reply in join_all(page).await {
        let reply = reply.expect(StatusCode::OK);
        assert_eq!(set_cookies(&reply).len(), 2, "{reply:?}");
    }
    let reply = ann.send(setup.page("/")).await.expect(StatusCode::OK);
    assert_eq!(received(&reply, "x-propusk-email"), ["ann@example.org"]);
    assert_ne!(ann.cookies["propusk_access"], before["propusk_access"]);
    assert_ne!(ann.cookies["propusk_refresh"], before["propusk_refresh"]);
    let reply = ann.send(setup.page("/")).await.expect(StatusCode::OK);
    assert!(set_cookies(&reply).is_empty(), "{reply:?}");
    // Again, long after the first refresh token was spent.
    setup.server.clock.advance(Duration::from_secs(901));
    ann.send(setup.page("/")).await.expect(StatusCode::OK);

    setup
        .server
        .post_as("/api/v1/auth/logout", &ann.cookies["propusk_access"])
        .await
        .expect(StatusCode::OK);
    let reply = ann.send(setup.request(Method::GET, "/")).await.expect(StatusCode::UNAUTHORIZED);
    assert!(
        set_cookies(&reply).iter().all(|line| line.contains("Max-Age=0"))
            && set_cookies(&reply).len() == 2,
        "{reply:?}"
    );
}

async fn nginx_redirects_only_page_loads_to_the_login(backend: Backend) {
    let setup = Setup::new(backend).await;
    let issuer = &setup.server.app.config.server.issuer;
    let to = |path: &str| {
        let page: String =
            url::form_urlencoded::byte_serialize(format!("{}{path}", setup.gateway).as_bytes())
                .collect();
        format!("{issuer}/session/start?return_to={page}")
    };
    // Up to 7 KiB, through nginx's own buffers.
    let long = format!("/orders?q={}", "a".repeat(7000));
    let reply = send(setup.page(&long)).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), to(&long));
    // A client's own claim of the original URL has no effect: nginx sets it.
    let request = setup
        .page("/orders?open=1&a=%2F")
        .header("x-original-url", "http://evil.example/")
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-method", "POST");
    let reply = send(request).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), to("/orders?open=1&a=%2F"));
    for request in [
        setup.request(Method::GET, "/"),
        setup.request(Method::GET, "/").header("accept", "application/json"),
        setup.request(Method::POST, "/").header("accept", "text/html"),
        setup.page("/api/orders"),
        setup.page("/").bearer_auth("a.b.c"),
    ] {
        let reply = send(request).await.expect(StatusCode::UNAUTHORIZED);
        assert_eq!(reply.header("location"), "");
        assert!(reply.header("www-authenticate").starts_with("Bearer"), "{reply:?}");
    }
    // A login that is too old: the redirect to a new one, and back.
    let mut ann = logged_in(&setup).await;
    setup.server.clock.advance(Duration::from_secs(301));
    ann.send(setup.page("/")).await.expect(StatusCode::OK);
    let reply = ann.send(setup.page("/payments/1")).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), format!("{}&max_age=300", to("/payments/1")));
    let reply = ann.open(reply.header("location")).await.expect(StatusCode::SEE_OTHER);
    let reply = ann.log_in(reply.header("location"), "ann").await;
    let reply = ann.open(reply.header("location")).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), format!("{}/payments/1", setup.gateway));
    ann.send(setup.page("/payments/1")).await.expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx and Chromium: run ./dev/test"]
async fn a_user_logs_in_through_nginx_and_out_again() {
    let setup = Setup::new(Backend::Sqlite).await;
    let page = format!("{}/orders?open=1", setup.gateway);
    let issuer = &setup.server.app.config.server.issuer;
    let browser = Chromium::open("en").await;
    browser.go(&page).await;
    browser.type_into("[name=login]", "ann").await;
    browser.type_into("[name=password]", PASSWORD).await;
    browser.click("form[method=post] button[type=submit]").await;
    let received = browser.text("pre").await;
    assert!(received.starts_with("GET /orders?open=1 "), "{received}");
    assert!(received.contains("X-Propusk-Email: ann@example.org"), "{received}");
    assert!(
        !received.contains("propusk_"),
        "the application gets none of Propusk's cookies: {received}"
    );
    let own = "return [location.href, document.cookie]";
    assert_eq!(browser.run(own).await, serde_json::json!([page, ""]));
    // The access token expires; the user does not notice.
    setup.server.clock.advance(Duration::from_secs(901));
    browser.go(&page).await;
    assert!(browser.text("pre").await.contains("ann@example.org"));

    browser.go(&format!("{issuer}/oauth2/logout")).await;
    browser.click("[name=decision][value=logout]").await;
    // The confirmation page has a heading, too: navigating before it has loaded would cancel it.
    let answered =
        "return document.readyState === 'complete' && !document.querySelector('[name=decision]')";
    until("the end of the session", || async {
        (browser.run(answered).await == true).then_some(())
    })
    .await;
    browser.go(&page).await;
    browser.text("[name=password]").await;
    let at = browser.run("return location.href").await;
    let at = at.as_str().expect("an address");
    assert!(at.starts_with(&format!("{issuer}/login?")), "{at}");
    browser.close().await;
}

//! Sessions in axum and in poem.

use std::time::Duration;

use http::{Method, StatusCode};
use propusk_client::{Error, Propusk, safe_return_to};
use reqwest::{Response, redirect::Policy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Person,
    apps::{App, both},
    headers, log_out,
    proxy::Proxy,
    server::{PASSWORD, Server, eventually},
};

const PAGE: [(&str, &str); 2] = [("accept", "text/html"), ("sec-fetch-mode", "navigate")];
const REFRESH: &str = "/api/v1/auth/token/refresh";

impl App {
    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
        let http = reqwest::Client::builder().redirect(Policy::none()).build().expect("a client");
        let mut request = http.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.expect("an answer")
    }

    async fn page(&self, path: &str, cookie: &str) -> Response {
        self.send(Method::GET, path, &[&PAGE[..], &[("cookie", cookie)]].concat()).await
    }

    async fn text(&self, path: &str, cookie: &str) -> String {
        self.page(path, cookie).await.text().await.expect("text")
    }
}

/// The `Set-Cookie` values of a response, as `name=value`.
fn set_cookies(response: &Response) -> Vec<String> {
    let values = response.headers().get_all("set-cookie").iter();
    let texts = values.map(|value| value.to_str().expect("text"));
    texts.map(|text| text.split(';').next().expect("a pair").to_owned()).collect()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

async fn error_code(response: Response) -> String {
    let body: serde_json::Value = response.json().await.expect("JSON");
    body["errorCode"].as_str().expect("a code").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_redirected_to_login_and_fetches_refused() {
    let server = Server::start(&[]).await;
    server.add_module();
    let propusk = Propusk::builder(&server.issuer).build().expect("settings");
    let ann = Person::new(&propusk).await;
    for app in both(&propusk).await {
        let name = app.framework;
        for path in ["/account", "/guarded"] {
            let response = app.page(&format!("{path}?id=1&x=/a"), "").await;
            assert_eq!(response.status(), StatusCode::SEE_OTHER, "{name}");
            let back = format!("/login?return_to=%2F{}%3Fid%3D1%26x%3D%2Fa", &path[1..]);
            assert_eq!(header(&response, "location"), back, "{name}");
            assert_eq!(header(&response, "cache-control"), "no-store");
            let fetched = app.send(Method::GET, path, &[("sec-fetch-mode", "cors")]).await;
            assert_eq!(fetched.status(), StatusCode::UNAUTHORIZED, "{name}");
            assert_eq!(header(&fetched, "www-authenticate"), "Bearer");
            assert_eq!(error_code(fetched).await, "INVALID_TOKEN");
            // A bearer token that is not valid is no page of a browser.
            let bearer = [&PAGE[..], &[("authorization", "Bearer x")]].concat();
            let refused = app.send(Method::GET, path, &bearer).await;
            assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{name}");
            assert_ne!(app.text(path, &ann.cookies()).await, "", "{name}");
        }
        let nested = app.page("/nested/account", "").await;
        assert_eq!(header(&nested, "location"), "/login?return_to=%2Fnested%2Faccount", "{name}");
        assert_eq!(app.text("/", "").await, "nobody", "{name}");
        assert_eq!(app.text("/", &ann.cookies()).await, ann.email, "{name}");
        assert_eq!(app.text("/guarded", &ann.cookies()).await, "guarded", "{name}");
        assert_eq!(app.text("/token", &ann.cookies()).await, ann.access(), "{name}");
        let bearer = format!("bearer {}", ann.access());
        let response = app.send(Method::GET, "/account", &[("authorization", &bearer)]).await;
        assert_eq!(response.text().await.expect("text"), ann.email, "{name}");
        for path in ["/crm", "/scoped"] {
            let cookies = ann.cookies();
            let refused = app.send(Method::GET, path, &[("cookie", &cookies)]).await;
            assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{name}");
            assert_eq!(error_code(refused).await, "INSUFFICIENT_SCOPE");
        }
    }
    // The next login has the module and its scope.
    server.run(&["module", "grant", &ann.email, "crm"]);
    let tokens = propusk.log_in(&ann.email, PASSWORD).await.expect("tokens");
    let ann = Person { tokens, ..ann };
    for app in both(&propusk).await {
        assert_eq!(app.text("/crm", &ann.cookies()).await, "crm", "{}", app.framework);
        assert_eq!(app.text("/scoped", &ann.cookies()).await, "scoped", "{}", app.framework);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_login_may_be_that_of_the_server() {
    let issuer = "https://id.example.com";
    let build = |application: Option<&str>| {
        let builder =
            Propusk::builder(issuer).login_url("https://id.example.com/session/start?a=b");
        match application {
            Some(url) => builder.application_url(url).build(),
            None => builder.build(),
        }
    };
    let propusk = build(Some("https://shop.example.com/")).expect("settings");
    for app in both(&propusk).await {
        let response = app.page("/account?x=1", "").await;
        let expected = "https://id.example.com/session/start?a=b\
            &return_to=https%3A%2F%2Fshop.example.com%2Faccount%3Fx%3D1";
        assert_eq!(header(&response, "location"), expected, "{}", app.framework);
    }
    assert!(matches!(build(None), Err(Error::Configuration(_))));
    for url in ["//evil.example", "javascript:alert(1)", "login"] {
        let built = Propusk::builder(issuer).login_url(url).build();
        assert!(matches!(built, Err(Error::Configuration(_))), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_renew_an_expired_session_once() {
    let server = Server::start(&[]).await;
    let proxy = Proxy::before(&server.issuer).await;
    let propusk = Propusk::builder(&server.issuer)
        .url(&proxy.url)
        .client_address(|_| Some("192.0.2.7".to_owned()))
        .build()
        .expect("settings");
    for app in both(&propusk).await {
        for (path, is_lost) in [("/account", false), ("/", false), ("/account", true)] {
            let ann = Person::new(&propusk).await;
            let before = proxy.count(REFRESH);
            if is_lost {
                proxy.lose(REFRESH);
            }
            let cookie = ann.refresh_cookie();
            let requests = std::iter::repeat_with(|| app.page(path, &cookie)).take(10);
            let responses = futures_util::future::join_all(requests).await;
            // The lost one and its retry.
            assert_eq!(proxy.count(REFRESH) - before, if is_lost { 2 } else { 1 }, "{path}");
            assert_eq!(proxy.header(REFRESH, "x-forwarded-for").as_deref(), Some("192.0.2.7"));
            let cookies: Vec<_> = responses.iter().map(set_cookies).collect();
            assert!(cookies.iter().all(|own| *own == cookies[0]), "{cookies:?}");
            assert!(cookies[0][1].starts_with("propusk_refresh="), "{cookies:?}");
            assert!(!cookies[0][1].contains(ann.refresh()), "the successor");
            for response in responses {
                let attributes = header(&response, "set-cookie");
                assert!(attributes.contains("; HttpOnly; SameSite=Lax"), "{attributes}");
                assert_eq!(header(&response, "cache-control"), "no-store");
                assert_eq!(response.text().await.expect("text"), ann.email, "{path}");
            }
            let next = app.page("/account", &cookies[0].join("; ")).await;
            assert_eq!(set_cookies(&next), [""; 0]);
            assert_eq!(next.text().await.expect("text"), ann.email);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_out_ends_the_session_everywhere() {
    let server = Server::start(&[]).await;
    let secret = server.add_client("gateway", "propusk:revocations");
    let propusk = Propusk::builder(&server.issuer).build().expect("settings");
    let local = Propusk::builder(&server.issuer).feed("gateway", secret).build().expect("settings");
    for app in both(&propusk).await {
        let name = app.framework;
        let ann = Person::new(&propusk).await;
        let login = [("x-login", ann.email.as_str()), ("x-password", PASSWORD)];
        let response = app.send(Method::POST, "/log-in", &login).await;
        assert_eq!(response.status(), StatusCode::OK, "{name}");
        let cookie = set_cookies(&response).join("; ");
        assert_eq!(app.text("/account", &cookie).await, ann.email, "{name}");
        let request = headers(&[("cookie", &cookie)]);
        let session = || async { local.session(&Method::GET, &request).await.expect("decided") };
        assert!(session().await.is_some());
        // A browser whose access cookie has expired signs out, too.
        let (access, refresh) = cookie.split_once("; ").expect("two");
        let kept = if name == "axum" { refresh } else { &cookie };
        let response = app.send(Method::POST, "/sign-out", &[("cookie", kept)]).await;
        assert_eq!(response.status(), StatusCode::OK, "{name}");
        assert_eq!(set_cookies(&response), ["propusk_access=", "propusk_refresh="], "{name}");
        let is_over = || async { session().await.is_none() };
        eventually("another program knows", Duration::from_secs(1), is_over).await;
        // A tab with the old cookies is logged out, and its cookies are removed.
        for kept in [&*cookie, refresh] {
            let response = app.page("/account", kept).await;
            assert_eq!(response.status(), StatusCode::SEE_OTHER, "{name}");
            assert_eq!(set_cookies(&response), ["propusk_access=", "propusk_refresh="], "{name}");
        }
        assert_eq!(app.text("/", access).await, "nobody", "{name}");
        let again = app.send(Method::POST, "/sign-out", &[("cookie", &cookie)]).await;
        assert_eq!(again.status(), StatusCode::OK, "{name}");
        // The other session, of the registration, is as valid as before.
        assert_eq!(app.text("/account", &ann.refresh_cookie()).await, ann.email, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_503_and_logs_nobody_out() {
    let server = Server::start(&[]).await;
    let proxy = Proxy::before(&server.issuer).await;
    let propusk = Propusk::builder(&server.issuer).url(&proxy.url).build().expect("settings");
    let apps = both(&propusk).await;
    let ann = Person::new(&propusk).await;
    let cookies = [ann.cookies(), ann.refresh_cookie()];
    proxy.set_down(true);
    let mut visits = vec![];
    for app in &apps {
        for path in ["/account", "/guarded", "/crm", "/"] {
            for cookie in &cookies {
                visits.push(async move { (app, path, app.page(path, cookie).await) });
            }
        }
    }
    for (app, path, response) in futures_util::future::join_all(visits).await {
        let name = app.framework;
        assert_eq!(set_cookies(&response), [""; 0], "{name} {path}");
        if path == "/" {
            assert_eq!(response.status(), StatusCode::OK, "{name}: public pages are served");
        } else {
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{name} {path}");
            assert_ne!(header(&response, "retry-after"), "", "{name} {path}");
        }
    }
    let request = [("cookie", cookies[0].as_str())];
    let outs = apps.iter().map(|app| app.send(Method::POST, "/sign-out", &request));
    for out in futures_util::future::join_all(outs).await {
        assert_eq!(out.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(set_cookies(&out), [""; 0], "the user is still logged in");
    }
    proxy.set_down(false);
    for app in apps {
        for cookie in &cookies {
            assert_eq!(app.text("/account", cookie).await, ann.email, "{}", app.framework);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t190_return_to_leads_to_the_applications_own_origin() {
    let refused = [
        "https://evil.example",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        " //evil.example",
        "/.//evil.example",
        "/a/..//evil.example",
        "/%2e//evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "account",
        "",
        ".",
        "@evil.example",
        "/\0/evil",
    ];
    for value in refused {
        assert_eq!(safe_return_to(Some(value), "/home"), "/home", "{value:?}");
    }
    assert_eq!(safe_return_to(None, "/home"), "/home");
    let accepted = [
        "/",
        "/account?a=b&c=//d#e",
        "/a/b",
        "/%2F%2Fevil.example",
        "/@evil.example",
        "/a:b",
        "/?next=https://evil.example",
        "/a/../b",
    ];
    for value in accepted {
        assert_eq!(safe_return_to(Some(value), "/home"), value);
    }
    // The redirect to the login carries a path, whatever Host and target are.
    let propusk = Propusk::builder("https://id.example.com").build().expect("settings");
    for app in both(&propusk).await {
        for target in ["/account?//evil.example", "http://evil.example/account"] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: evil.example\r\naccept: text/html");
            let answer = raw(&app, &head).await;
            let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
            let location = location.unwrap_or_else(|| panic!("{}: {answer}", app.framework));
            assert!(location.starts_with("/login?return_to=%2Faccount"), "{location}");
        }
    }
}

/// Sends a request as it is written, which no client library has corrected.
async fn raw(app: &App, head: &str) -> String {
    let address = app.base.strip_prefix("http://").expect("an address");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let request = format!("{head}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = vec![];
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t191_a_private_route_is_private_in_every_spelling() {
    let propusk = Propusk::builder("https://id.example.com").build().expect("settings");
    for app in both(&propusk).await {
        let spellings = [
            "/guarded",
            "/guarded/",
            "/Guarded",
            "/GUARDED",
            "/%67uarded",
            "//guarded",
            "/./guarded",
            "/a/../guarded",
            "/a/%2e%2e/guarded",
            "/guarded%2Fx",
            "/a%2f..%2fguarded",
            "/x%5c..%5cguarded",
            "/guarded;x",
            "/%2567uarded",
            "/guarded?x",
            "/guarded#x",
            "http://other.example/guarded",
            "/nested/../guarded",
        ];
        for target in spellings {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a");
            let answer = raw(&app, &head).await;
            // The router knows no such route, or guards it.
            let status = answer.split(' ').nth(1).unwrap_or_default();
            let name = app.framework;
            assert!(["400", "401", "404"].contains(&status), "{name} {target}: {answer}");
        }
        let answer = raw(&app, "GET /guarded HTTP/1.1\r\nHost: a").await;
        assert!(answer.contains(" 401 "), "{answer}");
        // Not only by GET, and before the method is looked at.
        for method in ["POST", "PUT", "DELETE", "HEAD"] {
            let answer = raw(&app, &format!("{method} /guarded HTTP/1.1\r\nHost: a")).await;
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(["401", "405"].contains(&status), "{}: {answer}", app.framework);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t193_cross_site_requests_with_cookies_are_refused() {
    let server = Server::start(&[]).await;
    let propusk = Propusk::builder(&server.issuer)
        .origin("https://trusted.example.com")
        .build()
        .expect("settings");
    let ann = Person::new(&propusk).await;
    for app in both(&propusk).await {
        let name = app.framework;
        let own = app.base.as_str();
        let foreign = [
            &[("sec-fetch-site", "same-site"), ("origin", own)][..],
            &[("sec-fetch-site", "cross-site")],
            &[("origin", "http://evil.example.com")],
            &[("origin", "null")],
            &[("origin", "http://127.0.0.1:8080")],
        ];
        for cookie in [ann.cookies(), ann.refresh_cookie()] {
            for extra in foreign {
                let request = [extra, &[("cookie", &cookie)]].concat();
                for path in ["/guarded", "/sign-out"] {
                    let response = app.send(Method::POST, path, &request).await;
                    assert_eq!(response.status(), StatusCode::FORBIDDEN, "{name} {extra:?}");
                    assert_eq!(set_cookies(&response), [""; 0], "{name}");
                    assert_eq!(error_code(response).await, "CROSS_SITE_REQUEST", "{name}");
                }
            }
        }
        // A login with another one's password: its visitor would act in another one's account.
        let login = [("x-login", ann.email.as_str()), ("x-password", PASSWORD)];
        let response = app.send(Method::POST, "/log-in", &[&login[..], foreign[1]].concat()).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{name}");
        assert_eq!(set_cookies(&response), [""; 0], "{name}");
        let accepted = [
            &[("sec-fetch-site", "same-origin"), ("origin", own)][..],
            &[("origin", own)],
            &[],
            &[("sec-fetch-site", "cross-site"), ("origin", "https://trusted.example.com")],
        ];
        for extra in accepted {
            let cookies = ann.cookies();
            let request = [extra, &[("cookie", &cookies)]].concat();
            let response = app.send(Method::POST, "/guarded", &request).await;
            assert_eq!(response.status(), StatusCode::OK, "{name} {extra:?}");
        }
        // A link from another site is followed; a bearer token is no cookie.
        let cross = [("sec-fetch-site", "cross-site"), ("cookie", &*ann.cookies())];
        let response = app.send(Method::GET, "/account", &cross).await;
        assert_eq!(response.status(), StatusCode::OK, "{name}");
        let bearer = format!("Bearer {}", ann.access());
        let cross = [("sec-fetch-site", "cross-site"), ("authorization", bearer.as_str())];
        let response = app.send(Method::POST, "/guarded", &cross).await;
        assert_eq!(response.status(), StatusCode::OK, "{name}");
    }
    log_out(&server, &ann).await;
    let is_none = propusk.session_of(ann.access()).await.expect("decided").is_none();
    assert!(is_none, "nobody was logged out before");
}

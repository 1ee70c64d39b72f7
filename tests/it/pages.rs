//! The pages in a real browser.

use propusk::model::client::Metadata;
use serde_json::{Value, json};

use crate::support::{
    Backend, PASSWORD, TestServer,
    chromium::{Chromium, until},
    external_server::ExternalServer,
    nginx::application,
    oauth::{AuthorizationRequest, SECRET, first_party_app, web_app},
};

/// A server whose issuer is its own address, as pages with forms require in a browser.
async fn at_its_issuer() -> TestServer {
    let address = crate::support::process::free_address();
    let issuer = format!("http://{address}");
    let settings =
        [("PROPUSK_SERVER__LISTEN", address.as_str()), ("PROPUSK_SERVER__ISSUER", issuer.as_str())];
    TestServer::with(Backend::Sqlite, &settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn swagger_ui_registers_authorizes_and_verifies() {
    let server = TestServer::start(Backend::Sqlite).await;
    let browser = Chromium::open("en").await;
    browser.go(&format!("{}/docs", server.base)).await;
    let operation = |name: &str| format!("#operations-Authentication-{name}");
    browser.click("#operations-tag-Authentication").await;

    let register = operation("register");
    browser.click(&format!("{register} .opblock-summary-control")).await;
    browser.click(&format!("{register} .execute")).await;
    let answer = browser.text(&format!("{register} .live-responses-table .microlight")).await;
    let answer: Value = serde_json::from_str(&answer).expect("the answer is shown");
    let token = answer["data"]["accessToken"].as_str().expect("a token");

    browser.click("button.authorize").await;
    browser.type_into("#auth-bearer-value", token).await;
    let enter = "document.querySelector('#auth-bearer-value').closest('.auth-container')\
                 .querySelector('button.authorize').click()";
    browser.run(enter).await;
    browser.click(".auth-btn-wrapper .btn-done").await;
    let verify = operation("verifyAccessToken");
    browser.click(&format!("{verify} .opblock-summary-control")).await;
    browser.click(&format!("{verify} .execute")).await;
    let answer = browser.text(&format!("{verify} .live-responses-table .microlight")).await;
    let answer: Value = serde_json::from_str(&answer).expect("the answer is shown");
    assert_eq!(answer["data"]["user"]["email"], "vera@example.org");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn the_start_page_is_localized_and_fits_a_phone() {
    let server = TestServer::start(Backend::Sqlite).await;
    for (language, heading) in [("ru", "Один вход"), ("en", "One login")] {
        let browser = Chromium::open(language).await;
        browser.go(&server.base).await;
        assert!(browser.text("h1").await.contains(heading));
        assert_eq!(browser.run("return document.documentElement.lang").await, language);
        browser.ask("window/rect", json!({ "width": 500, "height": 900 })).await.expect("resized");
        let overflow =
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.run(overflow).await, 0, "no horizontal overflow");
        browser.click(".directory a").await;
        assert!(browser.run("return location.pathname").await == "/docs");
        browser.text(".opblock-tag").await;
        browser.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn page_cookies_authenticate_and_are_invisible_to_scripts() {
    // The page's origin must be the issuer's, or its cookies are refused.
    let server = at_its_issuer().await;
    let issuer = server.app.config.server.issuer.clone();
    server.register("vera").await;
    let browser = Chromium::open("en").await;
    // A page of ours that may call the API; the policy of the start page allows no connection.
    browser.go(&format!("{issuer}/docs")).await;
    let call = |path: &str, body: Option<Value>| {
        let method = if body.is_some() { "POST" } else { "GET" };
        let body = body.map_or("undefined".to_owned(), |body| format!("{:?}", body.to_string()));
        format!(
            "return fetch('/api/v1/auth{path}', {{method: '{method}', headers: {{'content-type': 'application/json'}}, body: {body}}}).then(r => r.json())"
        )
    };
    let login = json!({ "login": "vera", "password": PASSWORD, "delivery": "cookie" });
    let answer = browser.run(&call("/login", Some(login))).await;
    assert_eq!(answer["statusCode"], 200, "{answer}");
    assert!(answer["data"].get("accessToken").is_none(), "{answer}");
    assert_eq!(browser.run("return document.cookie").await, "", "no script sees them");
    let session = browser.run(&call("/session", None)).await;
    assert_eq!(session["data"]["username"], "vera");
    let refreshed = browser.run(&call("/token/refresh", Some(json!({})))).await;
    assert_eq!(refreshed["statusCode"], 200, "{refreshed}");
    browser.run(&call("/logout", Some(json!({})))).await;
    assert!(browser.run(&call("/session", None)).await["data"].is_null());
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn t108_swagger_ui_logs_in_by_pkce_and_stores_no_token() {
    let server = at_its_issuer().await;
    let issuer = server.app.config.server.issuer.clone();
    server.register("vera").await;
    let browser = Chromium::open("en").await;
    browser.go(&format!("{issuer}/docs")).await;
    let docs = browser.ask_get("window").await;
    browser.click(".btn.authorize").await;
    // The scopes of the OAuth scheme, then its own button.
    let scheme =
        "document.querySelector('input[data-value=\"openid\"]')?.closest('.auth-container')";
    let chosen = until("the scheme's scopes", || async {
        let script = format!(
            "const form = {scheme}; if (!form) return false; \
             form.querySelectorAll('input[type=checkbox]:not(:checked)').forEach(box => box.click()); \
             form.querySelector('button.authorize').click(); return true"
        );
        browser.run(&script).await.as_bool().filter(|done| *done)
    });
    chosen.await;
    let login = until("the login window", || async {
        let windows = browser.ask_get("window/handles").await;
        let other = windows.as_array()?.iter().find(|one| **one != docs)?.clone();
        Some(other)
    });
    let login = login.await;
    browser.ask("window", json!({ "handle": login })).await.expect("the login window");
    browser.type_into("input[name=login]", "vera").await;
    browser.type_into("input[name=password]", PASSWORD).await;
    browser.click("form[method=post] button[type=submit]").await;
    // The window closes by itself, and the page has its token.
    until("the window closes", || async {
        let windows = browser.ask_get("window/handles").await;
        (windows.as_array()?.len() == 1).then_some(())
    })
    .await;
    browser.ask("window", json!({ "handle": docs })).await.expect("the documentation");
    let script = "return [...document.querySelectorAll('.auth-container button')]\
                  .some(button => button.innerText.trim() === 'Logout')";
    until("the page is logged in", || async {
        browser.run(script).await.as_bool().filter(|done| *done)
    })
    .await;
    let stored = "return JSON.stringify([{...localStorage}, {...sessionStorage}])";
    let stored = browser.run(stored).await;
    let stored = stored.as_str().expect("text");
    assert!(!stored.contains("eyJ") && !stored.contains("prt_"), "tokens stay in memory: {stored}");
    let events = server.events().await;
    let opened = events
        .iter()
        .find(|(kind, data)| kind == "session.created" && data["clientId"] == "propusk-docs");
    assert!(opened.is_some(), "{events:?}");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn swagger_ui_calls_the_token_endpoint_as_a_client() {
    let server = TestServer::start(Backend::Sqlite).await;
    server.client("app", web_app()).await;
    let browser = Chromium::open("en").await;
    browser.go(&format!("{}/docs", server.base)).await;
    browser.click(".btn.authorize").await;
    browser.type_into("#auth-basic-username", "app").await;
    browser.type_into("#auth-basic-password", SECRET).await;
    let chosen = "const box = document.querySelector('#auth-basic-password').closest('.auth-container'); \
                  box.querySelector('button.authorize').click()";
    browser.run(chosen).await;
    browser.click(".auth-btn-wrapper .btn-done").await;
    browser.click("[id^=operations-tag-OAuth]").await;
    // The form's initial values are a valid request.
    let token = "[id$=OpenID_Connect-requestTokens]";
    let open = format!("{token} .opblock-summary-control");
    browser.click(&open).await;
    browser.click(&format!("{token} .execute")).await;
    let answer = browser.text(&format!("{token} .live-responses-table .microlight")).await;
    let answer: Value = serde_json::from_str(&answer).expect("the answer is shown");
    assert_eq!(answer["token_type"], "Bearer", "{answer}");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn users_arrive_where_the_callback_redirects_on_to() {
    let server = at_its_issuer().await;
    server.register("vera").await;
    // The callback is at https; it redirects on to a program on this device.
    let (external, program) = (ExternalServer::start().await, application().await);
    let on = format!("Location: http://{program}/arrived\r\n");
    for path in ["/cb", "/bye"] {
        external.put(path, 303, &on, "");
    }
    let callback = format!("{}/cb", external.base);
    let of = |metadata: Metadata| Metadata {
        redirect_uris: vec![callback.clone()],
        post_logout_redirect_uris: vec![format!("{}/bye", external.base)],
        ..metadata
    };
    server.client("asks", of(web_app())).await;
    server.client("first-party", of(first_party_app())).await;
    let browser = Chromium::open("en").await;
    let issuer = &server.app.config.server.issuer;
    let arrived = async || {
        let text = browser.text("pre").await;
        assert!(text.contains(" /arrived HTTP/1.1"), "{text}");
    };
    let request = |id: &str, mode: &str| {
        let request = AuthorizationRequest::of(id, "openid").with("redirect_uri", &callback);
        format!("{issuer}{}", request.with("response_mode", mode).path())
    };
    // By the login form, by its form after a problem, by the consent form, as a posted form, by
    // the logout form.
    browser.go(&request("first-party", "query")).await;
    browser.type_into("[name=login]", "vera").await;
    browser.type_into("[name=password]", "not the password").await;
    browser.click("form[method=post] button[type=submit]").await;
    browser.text("[role=alert]").await;
    browser.type_into("[name=password]", PASSWORD).await;
    browser.click("form[method=post] button[type=submit]").await;
    arrived().await;
    browser.go(&request("asks", "query")).await;
    browser.click("[name=decision][value=allow]").await;
    arrived().await;
    browser.go(&request("first-party", "form_post")).await;
    arrived().await;
    let bye = format!("{}/bye", external.base).replace(':', "%3A").replace('/', "%2F");
    let logout = format!("{issuer}/oauth2/logout?client_id=asks&post_logout_redirect_uri={bye}");
    browser.go(&logout).await;
    browser.click("[name=decision][value=logout]").await;
    arrived().await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn swagger_ui_offers_the_recommended_login_first() {
    let server = TestServer::start(Backend::Sqlite).await;
    let browser = Chromium::open("en").await;
    browser.go(&format!("{}/docs", server.base)).await;
    let first = browser.text(".opblock-tag").await;
    assert!(first.starts_with("OAuth 2.1"), "{first}");
    let expanded = "return document.querySelectorAll('.opblock').length";
    assert_eq!(browser.run(expanded).await, 0, "every tag is collapsed");
    browser.click("#operations-tag-Authentication").await;
    let calls = "return [...document.querySelectorAll('.opblock')].map(one => \
                 [one.querySelector('.opblock-summary-method').textContent, \
                  one.querySelector('.opblock-summary-path').dataset.path].join(' '))";
    let calls = until("the operations", || async {
        browser.run(calls).await.as_array().filter(|calls| calls.len() > 6).cloned()
    });
    let calls = calls.await;
    let at = |call: &str| calls.iter().position(|one| one == call).expect("an operation");
    assert!(at("POST /api/v1/auth/logout") < at("DELETE /api/v1/auth/logout"), "{calls:?}");
    browser.type_into(".operation-filter-input", "Gate").await;
    let tags = "return [...document.querySelectorAll('.opblock-tag')].map(one => one.dataset.tag)";
    until("the filter", || async {
        (browser.run(tags).await == json!(["Gateways"])).then_some(())
    })
    .await;

    browser.click(".scheme-container .authorize").await;
    let schemes = "return [...document.querySelectorAll('.dialog-ux h4')]\
                   .map(one => one.textContent.trim().split(' ')[0])";
    let schemes = until("the schemes", || async {
        browser.run(schemes).await.as_array().filter(|all| all.len() == 4).cloned()
    });
    assert_eq!(schemes.await[0], "oauth2");
    let focused = "const button = document.querySelector('.dialog-ux .btn.authorize'); \
                   return button !== null && document.activeElement === button";
    until("the focus", || async { (browser.run(focused).await == true).then_some(()) }).await;
    browser.close().await;
}

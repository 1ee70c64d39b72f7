//! The pages in a real browser, driven over WebDriver (W3C). `./dev/test` starts it.

use std::{future::Future, time::Duration};

use reqwest::Client;
use serde_json::{Value, json};

use crate::support::{Backend, PASSWORD, TestServer};

/// A window of Chromium.
struct Browser {
    http: Client,
    session: String,
    _profile: tempfile::TempDir,
}

const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf"; // WebDriver §12.1

impl Browser {
    async fn open(language: &str) -> Self {
        let driver = std::env::var("PROPUSK_TEST_WEBDRIVER_URL")
            .expect("PROPUSK_TEST_WEBDRIVER_URL names no driver: run ./dev/test");
        let profile = tempfile::tempdir().expect("a profile");
        let mut args: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1200,1600",
        ]
        .map(str::to_owned)
        .into();
        args.push(format!("--user-data-dir={}", profile.path().display()));
        let options = json!({ "args": args, "prefs": { "intl.accept_languages": language } });
        let wanted =
            json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let http = Client::new();
        let body = json!({ "capabilities": { "alwaysMatch": wanted } });
        let reply = http
            .post(format!("{driver}/session"))
            .json(&body)
            .send()
            .await
            .expect("the driver answers");
        let reply: Value = reply.json().await.expect("JSON");
        let id = reply["value"]["sessionId"]
            .as_str()
            .unwrap_or_else(|| panic!("no session: {reply}"));
        Self {
            http,
            session: format!("{driver}/session/{id}"),
            _profile: profile,
        }
    }

    async fn ask(&self, command: &str, body: Value) -> Result<Value, Value> {
        let request = self
            .http
            .post(format!("{}/{command}", self.session))
            .json(&body);
        let reply = request.send().await.expect("the driver answers");
        let fine = reply.status().is_success();
        let value = reply.json::<Value>().await.expect("JSON")["value"].clone();
        if fine { Ok(value) } else { Err(value) }
    }

    async fn go(&self, url: &str) {
        self.ask("url", json!({ "url": url }))
            .await
            .expect("the page loads");
    }

    async fn run(&self, script: &str) -> Value {
        self.ask("execute/sync", json!({ "script": script, "args": [] }))
            .await
            .expect("the script runs")
    }

    /// Clicks what the selector finds, as soon as it can be clicked.
    async fn click(&self, selector: &str) {
        until(selector, || async {
            let element = self.find(selector).await?;
            self.ask(&format!("element/{element}/click"), json!({}))
                .await
                .ok()
        })
        .await;
    }

    async fn type_into(&self, selector: &str, text: &str) {
        until(selector, || async {
            let element = self.find(selector).await?;
            self.ask(&format!("element/{element}/clear"), json!({}))
                .await
                .ok()?;
            self.ask(&format!("element/{element}/value"), json!({ "text": text }))
                .await
                .ok()
        })
        .await;
    }

    async fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({selector:?})?.textContent ?? null");
        let text = until(selector, || async {
            self.run(&script).await.as_str().map(str::to_owned)
        });
        text.await
    }

    async fn find(&self, selector: &str) -> Option<String> {
        let body = json!({ "using": "css selector", "value": selector });
        let found = self.ask("element", body).await.ok()?;
        found[ELEMENT].as_str().map(str::to_owned)
    }

    /// Fails the test where the page complained, as it does when its own policy forbids it something.
    async fn close(self) {
        let log = self
            .ask("se/log", json!({ "type": "browser" }))
            .await
            .expect("the console");
        let complaints: Vec<_> = log
            .as_array()
            .into_iter()
            .flatten()
            .filter(|line| line["level"] != "INFO")
            .collect();
        assert!(complaints.is_empty(), "{complaints:?}");
        let _ = self.http.delete(&self.session).send().await;
    }
}

/// Polls, as a person's eye does: a page does what it does in its own time.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    for _ in 0..200 {
        if let Some(seen) = look().await {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not come within 10 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn a_developer_registers_authorizes_and_verifies_in_swagger_ui() {
    let server = TestServer::start(Backend::Sqlite).await;
    let browser = Browser::open("en").await;
    browser.go(&format!("{}/docs", server.base)).await;
    let operation = |name: &str| format!("#operations-Authentication-{name}");

    let register = operation("register");
    browser
        .click(&format!("{register} .opblock-summary-control"))
        .await;
    browser.click(&format!("{register} .execute")).await;
    let answer = browser
        .text(&format!("{register} .live-responses-table .microlight"))
        .await;
    let answer: Value = serde_json::from_str(&answer).expect("the answer is shown");
    let token = answer["data"]["accessToken"].as_str().expect("a token");

    browser.click("button.authorize").await;
    browser.type_into(".auth-container input", token).await;
    browser.click(".auth-btn-wrapper .authorize").await;
    browser.click(".auth-btn-wrapper .btn-done").await;
    let verify = operation("verify");
    browser
        .click(&format!("{verify} .opblock-summary-control"))
        .await;
    browser.click(&format!("{verify} .execute")).await;
    let answer = browser
        .text(&format!("{verify} .live-responses-table .microlight"))
        .await;
    let answer: Value = serde_json::from_str(&answer).expect("the answer is shown");
    assert_eq!(answer["data"]["user"]["email"], "vera@example.org");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn the_start_page_speaks_the_visitors_language_and_fits_a_phone() {
    let server = TestServer::start(Backend::Sqlite).await;
    for (language, heading) in [("ru", "Один пропуск"), ("en", "One pass")] {
        let browser = Browser::open(language).await;
        browser.go(&server.base).await;
        assert!(browser.text("h1").await.contains(heading));
        assert_eq!(
            browser.run("return document.documentElement.lang").await,
            language
        );
        browser
            .ask("window/rect", json!({ "width": 500, "height": 900 }))
            .await
            .expect("resized");
        let overflow =
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(
            browser.run(overflow).await,
            0,
            "nothing sticks out sideways"
        );
        browser.click("a.button").await;
        assert!(browser.run("return location.pathname").await == "/docs");
        browser.text(".opblock-summary").await;
        browser.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn cookies_of_a_page_log_it_in_and_stay_out_of_the_reach_of_its_scripts() {
    // The page's origin must be the issuer's for its cookies to be taken.
    let address = crate::support::process::free_address();
    let issuer = format!("http://{address}");
    let settings = [
        ("PROPUSK_SERVER__LISTEN", address.as_str()),
        ("PROPUSK_SERVER__ISSUER", issuer.as_str()),
    ];
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    server.register("vera").await;
    let browser = Browser::open("en").await;
    // A page of ours that may call the API; the start page's policy lets it connect nowhere.
    browser.go(&format!("{issuer}/docs")).await;
    let call = |path: &str, body: Option<Value>| {
        let method = if body.is_some() { "POST" } else { "GET" };
        let body = body.map_or("undefined".to_owned(), |body| {
            format!("{:?}", body.to_string())
        });
        format!(
            "return fetch('/api/v1/auth{path}', {{method: '{method}', headers: {{'content-type': 'application/json'}}, body: {body}}}).then(r => r.json())"
        )
    };
    let login = json!({ "login": "vera", "password": PASSWORD, "delivery": "cookie" });
    let answer = browser.run(&call("/login", Some(login))).await;
    assert_eq!(answer["statusCode"], 200, "{answer}");
    assert!(answer["data"].get("accessToken").is_none(), "{answer}");
    assert_eq!(
        browser.run("return document.cookie").await,
        "",
        "no script sees them"
    );
    let session = browser.run(&call("/session", None)).await;
    assert_eq!(session["data"]["username"], "vera");
    let refreshed = browser.run(&call("/token/refresh", Some(json!({})))).await;
    assert_eq!(refreshed["statusCode"], 200, "{refreshed}");
    browser.run(&call("/logout", Some(json!({})))).await;
    assert!(browser.run(&call("/session", None)).await["data"].is_null());
    browser.close().await;
}

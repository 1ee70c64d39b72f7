//! A real browser, driven over WebDriver (W3C). `./dev/test` starts it.

use std::{future::Future, time::Duration};

use reqwest::Client;
use serde_json::{Value, json};

/// A window of Chromium.
pub struct Chromium {
    http: Client,
    session: String,
    _profile: tempfile::TempDir,
}

const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf"; // WebDriver §12.1

impl Chromium {
    /// A window with a profile of its own, whose pages are requested in `language`.
    pub async fn open(language: &str) -> Self {
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
        // Applications of the tests have certificates of their own.
        let wanted = json!({
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
            "acceptInsecureCerts": true,
        });
        let http = Client::new();
        let body = json!({ "capabilities": { "alwaysMatch": wanted } });
        let reply = http
            .post(format!("{driver}/session"))
            .json(&body)
            .send()
            .await
            .expect("the driver answers");
        let reply: Value = reply.json().await.expect("JSON");
        let id =
            reply["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {reply}"));
        Self { http, session: format!("{driver}/session/{id}"), _profile: profile }
    }

    /// A WebDriver command in this window; the error is the driver's.
    pub async fn ask(&self, command: &str, body: Value) -> Result<Value, Value> {
        let request = self.http.post(format!("{}/{command}", self.session)).json(&body);
        let reply = request.send().await.expect("the driver answers");
        let fine = reply.status().is_success();
        let value = reply.json::<Value>().await.expect("JSON")["value"].clone();
        if fine { Ok(value) } else { Err(value) }
    }

    /// The value of a WebDriver query.
    pub async fn ask_get(&self, command: &str) -> Value {
        let reply = self.http.get(format!("{}/{command}", self.session)).send();
        let reply = reply.await.expect("the driver answers");
        reply.json::<Value>().await.expect("JSON")["value"].clone()
    }

    pub async fn go(&self, url: &str) {
        self.ask("url", json!({ "url": url })).await.expect("the page loads");
    }

    /// What the body of a function returns when it runs in the page.
    pub async fn run(&self, script: &str) -> Value {
        self.ask("execute/sync", json!({ "script": script, "args": [] }))
            .await
            .expect("the script runs")
    }

    /// Clicks the element that the selector finds, as soon as it can be clicked.
    pub async fn click(&self, selector: &str) {
        until(selector, || async {
            let element = self.find(selector).await?;
            self.ask(&format!("element/{element}/click"), json!({})).await.ok()
        })
        .await;
    }

    /// Replaces the text of the field that the selector finds.
    pub async fn type_into(&self, selector: &str, text: &str) {
        until(selector, || async {
            let element = self.find(selector).await?;
            self.ask(&format!("element/{element}/clear"), json!({})).await.ok()?;
            self.ask(&format!("element/{element}/value"), json!({ "text": text })).await.ok()
        })
        .await;
    }

    /// The text of the element that the selector finds, as soon as it exists.
    pub async fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({selector:?})?.textContent ?? null");
        let text =
            until(selector, || async { self.run(&script).await.as_str().map(str::to_owned) });
        text.await
    }

    /// Waits until the text of the element is `text`.
    pub async fn text_is(&self, selector: &str, text: &str) {
        let script =
            format!("return document.querySelector({selector:?})?.textContent.trim() ?? ''");
        until(&format!("{selector}: {text}"), || async {
            (self.run(&script).await == text).then_some(())
        })
        .await;
    }

    async fn find(&self, selector: &str) -> Option<String> {
        let body = json!({ "using": "css selector", "value": selector });
        let found = self.ask("element", body).await.ok()?;
        found[ELEMENT].as_str().map(str::to_owned)
    }

    /// A command of the DevTools protocol (chromedriver's `goog/cdp/execute`).
    pub async fn devtools(&self, command: &str, params: Value) -> Value {
        self.ask("goog/cdp/execute", json!({ "cmd": command, "params": params }))
            .await
            .expect("the DevTools command succeeds")
    }

    /// Sets the page to `width` by `height` CSS pixels and the color scheme to `light` or `dark`.
    pub async fn look(&self, width: u32, height: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        let scheme = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [scheme] })).await;
    }

    /// Fails the test if the console has errors, as it has when the page's own policy blocks
    /// something. A form refused with 400 is a response and no error.
    pub async fn close(self) {
        let log = self.ask("se/log", json!({ "type": "browser" })).await.expect("the console");
        let complaints: Vec<_> = log
            .as_array()
            .into_iter()
            .flatten()
            .filter(|line| line["level"] != "INFO" && line["level"] != "DEBUG")
            .filter(|line| !line["message"].as_str().is_some_and(|m| m.contains("status of 400")))
            .collect();
        assert!(complaints.is_empty(), "{complaints:?}");
        self.quit().await;
    }

    /// Closes the window without a look at its console: for pages of others.
    pub async fn quit(self) {
        let _ = self.http.delete(&self.session).send().await;
    }
}

/// Polls, as a user would look: a page changes in its own time.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    for _ in 0..600 {
        if let Some(seen) = look().await {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not come within 30 s");
}

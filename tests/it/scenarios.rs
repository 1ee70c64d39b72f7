//! Scenarios in a real browser: what a user does with an account from registration to deletion.

use std::time::Duration;

use propusk::{
    flows::admin::users,
    model::{client::Metadata, user::Login},
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use url::Url;

use crate::support::{
    Backend, PASSWORD, TestServer,
    chromium::{Chromium, until},
    external_server::ExternalServer,
    mail::MAILS,
    nginx::application,
    oauth::{AuthorizationRequest, payload, web_app},
    process::free_address,
    second_factor::{Authenticator, next_step},
};

/// A browser window at a server whose issuer is its own address, as pages with forms require.
struct Window<'a> {
    server: &'a TestServer,
    browser: Chromium,
    issuer: &'a str,
    language: &'static str,
}

impl Window<'_> {
    async fn go(&self, path: &str) {
        self.browser.go(&format!("{}{path}", self.issuer)).await;
    }

    /// Waits until the window shows the page at `path`, in the language of the scenario.
    async fn is_at(&self, path: &str) -> String {
        let language = format!("<html lang=\"{}\"", self.language);
        until(path, || async {
            let url = self.browser.ask_get("url").await;
            let url = Url::parse(url.as_str()?).ok()?;
            let source = self.source().await;
            (url.path() == path && source.contains(&language)).then_some(source)
        })
        .await
    }

    /// Waits for the answer to a form: a page of the same path without what the form had.
    async fn is_without(&self, text: &str) {
        until(text, || async {
            let source = self.source().await;
            (source.contains("</main>") && !source.contains(text)).then_some(())
        })
        .await;
    }

    /// The page; WebDriver reads it where the page itself may run nothing.
    async fn source(&self) -> String {
        let source = self.browser.ask_get("source").await;
        source.as_str().unwrap_or_default().to_owned()
    }

    /// Submits the form that is sent to `path`.
    async fn submit(&self, path: &str) {
        self.browser.click(&format!("form[action='{path}'] button[type=submit]")).await;
    }

    async fn log_out(&self) {
        self.go("/oauth2/logout").await;
        self.browser.click("button[value=logout]").await;
        self.is_without("value=\"logout\"").await;
    }

    /// The first step of a login.
    async fn log_in(&self, login: &str, password: &str) {
        self.go("/login").await;
        self.browser.type_into("#login", login).await;
        self.browser.type_into("#password", password).await;
        self.submit("/login").await;
    }

    /// The second step, by a code.
    async fn enter(&self, code: &str) {
        self.is_at("/login/second-factor").await;
        self.browser.type_into("#code", code).await;
        self.submit("/login/second-factor").await;
        self.is_at("/account").await;
    }
}

/// The texts of the `<code>` elements behind `class="codes"`.
fn codes(source: &str) -> Vec<String> {
    let (_, codes) = source.split_once("class=\"codes\"").expect("codes");
    let codes = codes.split("</ul>").next().unwrap_or_default();
    let codes = codes.split("</p>").next().unwrap_or_default();
    let text = |part: &str| part.split('<').next().unwrap_or_default().to_owned();
    codes.split("<code>").skip(1).map(text).collect()
}

/// An authenticator in the browser. One that does not recognise its user answers nothing.
async fn virtual_authenticator(browser: &Chromium) -> Value {
    browser.devtools("WebAuthn.enable", json!({})).await;
    let options = json!({ "options": {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": true,
        "hasUserVerification": true, "isUserVerified": true, "automaticPresenceSimulation": true,
    } });
    browser.devtools("WebAuthn.addVirtualAuthenticator", options).await["authenticatorId"].clone()
}

async fn recognise(browser: &Chromium, authenticator: &Value, user: bool) {
    let set = json!({ "authenticatorId": authenticator, "isUserVerified": user });
    browser.devtools("WebAuthn.setUserVerified", set).await;
}

/// Register, verify the address by the mail, log in, set up an authenticator app, log in with it
/// and by a recovery code, add a passkey and log in with it alone, end another session, withdraw a
/// consent, reset the password, delete the account. In both languages, and without scripts all but
/// the passkey.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn a_user_keeps_an_account_from_registration_to_deletion() {
    let address = free_address();
    let port = address.rsplit(':').next().expect("a port");
    let issuer = format!("http://localhost:{port}");
    let settings = [
        ("PROPUSK_SERVER__LISTEN", address.as_str()),
        ("PROPUSK_SERVER__ISSUER", issuer.as_str()),
        ("PROPUSK_REGISTRATION__CONFIRM_EMAIL", "on"),
        MAILS,
    ];
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    let (external, program) = (ExternalServer::start().await, application().await);
    external.put("/cb", 303, &format!("Location: http://{program}/arrived\r\n"), "");
    let callback = format!("{}/cb", external.base);
    server.client("asks", Metadata { redirect_uris: vec![callback.clone()], ..web_app() }).await;
    for (language, has_scripts) in [("en", true), ("ru", true), ("ru", false)] {
        let window = Window {
            server: &server,
            browser: Chromium::open(language).await,
            issuer: &issuer,
            language,
        };
        live(&window, has_scripts, &callback).await;
        window.browser.close().await;
    }
}

async fn live(window: &Window<'_>, has_scripts: bool, callback: &str) {
    let Window { server, browser, language, .. } = window;
    let email = format!("vera-{language}-{has_scripts}@example.org");
    let passkeys = match has_scripts {
        true => Some(virtual_authenticator(browser).await),
        false => {
            let off = json!({ "value": true });
            browser.devtools("Emulation.setScriptExecutionDisabled", off).await;
            None
        }
    };

    window.go("/register").await;
    browser.type_into("#email", &email).await;
    browser.type_into("#password", PASSWORD).await;
    window.submit("/register").await;
    until("the mail", || async { server.mails_to(&email).await.pop() }).await;
    window.go(&server.mail_to(&email).await.path()).await;
    browser.type_into("#password", PASSWORD).await;
    window.submit("/register/confirm").await;
    window.is_at("/account").await;

    window.log_out().await;
    window.log_in(&email, PASSWORD).await;
    window.is_at("/account").await;
    window.go("/account/security/totp").await;
    let secret = codes(&window.is_at("/account/security/totp").await).remove(0);
    let app = Authenticator::of(&secret);
    browser.type_into("#code", &app.code(&server.clock)).await;
    window.submit("/account/security/totp").await;
    let source = until("recovery codes", || async {
        let source = window.source().await;
        source.contains("<ul class=\"codes\"").then_some(source)
    });
    let recovery = codes(&source.await);
    assert!(recovery.len() >= 8, "{recovery:?}");
    next_step(server);

    window.log_out().await;
    window.log_in(&email, PASSWORD).await;
    window.enter(&app.code(&server.clock)).await;
    next_step(server);
    window.log_out().await;
    window.log_in(&email, PASSWORD).await;
    window.enter(&recovery[0]).await;

    if let Some(passkeys) = &passkeys {
        window.go("/account/security/passkey").await;
        browser.type_into("#name", "Laptop").await;
        browser.click("form[data-ceremony=create] button").await;
        let page = window.is_at("/account/security").await;
        assert!(page.contains("Laptop"), "{page}");
        // One that recognises its user would answer the login form on load.
        recognise(browser, passkeys, false).await;
        window.log_out().await;
        window.go("/login").await;
        recognise(browser, passkeys, true).await;
        browser.run("document.querySelector('form[data-ceremony=login] button').click()").await;
        window.is_at("/account").await;
        recognise(browser, passkeys, false).await;
    }

    let elsewhere = server.login_with(&email, &app).await;
    server.verify(&elsewhere.access).await.expect(StatusCode::OK);
    window.go("/account/sessions").await;
    browser.click("form[action='/account/sessions'] button.link").await;
    until("the end of the session", || async {
        (server.verify(&elsewhere.access).await.status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;

    let request = AuthorizationRequest::of("asks", "openid").with("redirect_uri", callback).path();
    window.go(&request).await;
    browser.click("[name=decision][value=allow]").await;
    until("the application", || async { window.source().await.contains("/arrived").then_some(()) })
        .await;
    window.go("/account/applications").await;
    window.submit("/account/applications").await;
    window.is_without("value=\"asks\"").await;
    window.go(&request).await;
    browser.click("[name=decision][value=deny]").await;
    until("the application", || async { window.source().await.contains("/arrived").then_some(()) })
        .await;

    window.log_out().await;
    window.go("/password/reset").await;
    browser.type_into("#email", &email).await;
    let known = server.mails_to(&email).await.len();
    window.submit("/password/reset").await;
    let before = until("the mail with the link", || async {
        let count = server.mails_to(&email).await.len();
        (count > known).then_some(count)
    })
    .await;
    window.go(&server.mail_to(&email).await.path()).await;
    browser.type_into("#password", "nine grey cranes at dusk").await;
    window.submit("/password/reset").await;
    until("the mail about the change", || async {
        (server.mails_to(&email).await.len() > before).then_some(())
    })
    .await;
    // The second factor is asked for all the same.
    next_step(server);
    window.log_in(&email, "nine grey cranes at dusk").await;
    window.enter(&app.code(&server.clock)).await;

    window.go("/account/delete").await;
    browser.click("#delete").await;
    until("the deletion", || async {
        let found = users::by_login(&server.app, &Login::parse(&email)).await.expect("known");
        found.deletion
    })
    .await;
    window.go("/account").await;
    window.is_at("/login").await;
}

/// Find a user, see why a login was refused, disable and enable, grant a module until a day, rotate a
/// client's secret: in both languages, without scripts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn an_administrator_helps_a_user_for_a_day() {
    let address = free_address();
    let issuer = format!("http://{address}");
    let settings =
        [("PROPUSK_SERVER__LISTEN", address.as_str()), ("PROPUSK_SERVER__ISSUER", issuer.as_str())];
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    server.register("ann").await;
    server.promote("olga").await;
    server.client("app", web_app()).await;
    server.module("crm", "crm:read", None, false).await;
    let user = users::find(&server.app, "ann").await.expect("known").id;
    for language in ["en", "ru"] {
        let browser = Chromium::open(language).await;
        let window = Window { server: &server, browser, issuer: &issuer, language };
        let off = json!({ "value": true });
        window.browser.devtools("Emulation.setScriptExecutionDisabled", off).await;
        administer(&window, &user).await;
        window.browser.close().await;
        // Two periods of one module cannot begin at the same time.
        server.clock.advance(Duration::from_secs(1));
    }
}

async fn administer(window: &Window<'_>, user: &str) {
    let Window { server, browser, .. } = window;
    let user_page = format!("/admin/users/{user}");
    let submit = async |action: &str, done: &str| {
        let button = "button[type=submit]";
        browser.click(&format!("form:has(input[name=action][value={action}]) {button}")).await;
        let done = format!("{user_page}?done={done}");
        until(action, || async {
            let url = browser.ask_get("url").await;
            url.as_str()?.contains(&done).then_some(())
        })
        .await;
    };
    window.go("/admin").await;
    window.is_at("/login").await;
    browser.type_into("#login", "olga").await;
    browser.type_into("#password", PASSWORD).await;
    window.submit("/login").await;
    window.is_at("/admin").await;

    // Ann cannot log in, and tells the request id that the page showed her.
    let wrong = json!({ "login": "ann", "password": "not the password" });
    let refused = server.post("/api/v1/auth/login", wrong).await;
    let refused = refused.expect(StatusCode::UNAUTHORIZED).header("x-request-id").to_owned();
    window.go("/admin").await;
    browser.type_into("#explain-id", &refused).await;
    window.submit("/admin/explain").await;
    let why = window.is_at("/admin/explain").await;
    assert!(why.contains("INVALID_CREDENTIALS"), "{why}");

    window.go("/admin").await;
    browser.type_into("#find-login", "ann").await;
    window.submit("/admin/users").await;
    window.is_at(&user_page).await;
    submit("disable", "user-disabled").await;
    server.login("ann").await.expect(StatusCode::UNAUTHORIZED);
    submit("enable", "user-enabled").await;
    let before = server.login("ann").await.expect(StatusCode::OK).tokens();
    assert!(!granted(&before.access), "no module yet");

    let day = server.clock.now().rfc3339();
    let day: Vec<&str> = day.split(['-', 'T']).collect();
    // A date field is typed in the order of the browser's own language.
    let typed = format!("{}{}{}", day[1], day[2], day[0]);
    browser.type_into("#grant-validUntil", &typed).await;
    submit("grant", "user-granted").await;
    let with = server.login("ann").await.expect(StatusCode::OK).tokens();
    assert!(granted(&with.access), "the module");
    submit("withdraw-module", "user-module-withdrawn").await;
    server.verify(&with.access).await.expect(StatusCode::UNAUTHORIZED);

    window.go("/admin/clients/app").await;
    browser.click("form:has(input[name=action][value=rotate]) button[type=submit]").await;
    let page = until("the secret", || async {
        let source = window.source().await;
        source.contains("class=\"copy\"").then_some(source)
    })
    .await;
    let secret = page.split("class=\"copy\"").nth(1).and_then(|rest| rest.split("<code>").nth(1));
    let secret = secret.and_then(|rest| rest.split('<').next()).expect("a secret").to_owned();
    let request = server.request(reqwest::Method::POST, "/oauth2/introspect");
    let request = request.basic_auth("app", Some(&secret)).form(&[("token", "x")]);
    crate::support::send(request).await.expect(StatusCode::OK);
}

fn granted(access_token: &str) -> bool {
    payload(access_token)["scope"].as_str().is_some_and(|scope| scope.contains("crm:read"))
}

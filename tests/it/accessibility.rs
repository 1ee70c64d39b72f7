//! Every page in every state in a real browser: both languages, both color schemes, phone and
//! desktop.

mod admin;
mod samples;

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use poem::{Route, handler, http::StatusCode, listener::TcpAcceptor, web};
use propusk::http::views::Locale;
use serde_json::{Value, json};

use self::samples::{PAGES, page};
use crate::support::{Backend, PASSWORD, TestServer, chromium::Chromium};

#[handler]
fn sample(web::Path((language, name)): web::Path<(String, String)>) -> poem::Response {
    let t = Locale::all().iter().find(|t| t.tag() == language);
    page(&name, t.expect("a language of ours"))
}

#[handler]
fn received(body: String) -> web::Html<String> {
    let icon = "<link rel=icon href=data:,>"; // or the browser asks for another
    web::Html(format!("{icon}<pre>received {}</pre>", body.replace('&', "&amp;")))
}

/// A server whose paths below `/looks` are the pages; every other path is that of the real server.
async fn serve() -> (TestServer, String) {
    let server = TestServer::start(Backend::Sqlite).await;
    let ours = propusk::http::endpoint(&server.app).expect("the pages render");
    let route = Route::new()
        .at("/looks/:language/:name", poem::get(sample))
        .at("/looks/stay", poem::post(poem::endpoint::make_sync(|_| StatusCode::NO_CONTENT)))
        .at("/looks/received", poem::post(received))
        .nest("/", ours);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.set_nonblocking(true).expect("a tokio listener");
    let base = format!("http://{}", socket.local_addr().expect("an address"));
    let acceptor = TcpAcceptor::from_std(socket).expect("it listens");
    tokio::spawn(poem::Server::new_with_acceptor(acceptor).run(route));
    (server, base)
}

/// The URLs of every page in a language, including the start page, each with its name.
fn addresses(base: &str, language: &str) -> Vec<(String, String)> {
    let mut all = vec![("start".to_owned(), format!("{base}/?lang={language}"))];
    let names = PAGES.iter().chain(&admin::PAGES);
    all.extend(names.map(|name| ((*name).to_owned(), format!("{base}/looks/{language}/{name}"))));
    all
}

const LANGUAGES: [&str; 2] = ["en", "ru"];

/// The elements that overflow a page of that width, or their card. Tables and code scroll in a box
/// of their own, the page does not (WCAG 2.2, 1.4.10).
async fn overflow(browser: &Chromium, width: u32) -> Value {
    let script = format!(
        "const card = document.querySelector('.card')?.getBoundingClientRect().right ?? Infinity;
        const all = [...document.querySelectorAll('header, header *, main, main :not(hr), footer, footer *')]
            .filter(e => e.matches('.scroll, .copy') || !e.closest('.scroll, .copy'));
        const out = all.filter(e => e.getBoundingClientRect().right > Math.min(card, {width}) + 0.5);
        return out.map(e => e.outerHTML.slice(0, 200));"
    );
    browser.run(&script).await
}

/// The violations that axe-core finds, one line each: WCAG 2.2 AA and its best practices.
pub async fn axe(browser: &Chromium, axe: &str) -> Vec<String> {
    let script = format!(
        "{axe};
        const done = arguments[arguments.length - 1];
        const rules = {{ 'target-size': {{ enabled: true }} }};
        axe.run(document, {{ rules, resultTypes: ['violations'] }}).then(found => done(found.violations));"
    );
    let found = browser
        .ask("execute/async", json!({ "script": script, "args": [] }))
        .await
        .expect("axe runs");
    let violation = |v: &Value| format!("{} {}: {}", v["impact"], v["help"], v["nodes"][0]["html"]);
    found.as_array().expect("a list").iter().map(violation).collect()
}

/// A screenshot of the whole page, if `./dev/screens` asks for it.
pub async fn screenshot(browser: &Chromium, name: &str) {
    let Some(folder) = std::env::var_os("PROPUSK_TEST_SCREENS_DIR") else {
        return;
    };
    let how = json!({ "format": "png", "captureBeyondViewport": true });
    let shot = browser.devtools("Page.captureScreenshot", how).await;
    let png = STANDARD.decode(shot["data"].as_str().expect("a picture")).expect("base64");
    fs::write(Path::new(&folder).join(format!("{name}.png")), png).expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn axe_finds_no_serious_violation_on_any_page() {
    let path = std::env::var("PROPUSK_TEST_AXE_JS")
        .expect("PROPUSK_TEST_AXE_JS names no axe-core: run ./dev/test");
    let rules = fs::read_to_string(path).expect("axe-core");
    let (_server, base) = serve().await;
    let browser = Chromium::open("en").await;
    let mut wrong = vec![];
    // Every page by axe in each language, scheme and width: what it finds depends on one of them.
    // Texts that are too wide depend on two.
    for (width, height, scheme, by_axe) in [
        (1200, 900, "light", Some("en")),
        (360, 740, "dark", Some("ru")),
        (1280, 900, "dark", None),
        (375, 812, "light", None),
        (1920, 1080, "light", None),
    ] {
        if by_axe.is_none() && std::env::var_os("PROPUSK_TEST_SCREENS_DIR").is_none() {
            continue;
        }
        browser.look(width, height, scheme).await;
        for language in LANGUAGES {
            for (name, address) in addresses(&base, language) {
                browser.go(&address).await;
                let seen = format!("{name}-{language}-{scheme}-{width}");
                let out = overflow(&browser, width).await;
                if out != json!([]) {
                    wrong.push(format!("{seen}: overflow: {out}"));
                }
                if by_axe == Some(language) {
                    let found = axe(&browser, &rules).await;
                    wrong.extend(found.into_iter().map(|line| format!("{seen}: {line}")));
                }
                screenshot(&browser, &seen).await;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    // The checks do find something when something is wrong.
    browser.go(&format!("{base}/looks/en/login")).await;
    browser.run("document.querySelector('label').remove()").await;
    assert_eq!(axe(&browser, &rules).await.len(), 1);
    browser.run("document.querySelector('h1').style.width = '5000px'").await;
    assert_ne!(overflow(&browser, 1200).await, json!([]));
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_weigh_under_50_kb() {
    let (server, base) = serve().await;
    let get = async |address: String| {
        let answer = server.http.get(&address).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{address}");
        answer.text().await.expect("a body")
    };
    for language in LANGUAGES {
        for (name, address) in addresses(&base, language) {
            let page = get(address).await;
            let mut weight = page.len();
            let mut files = 0;
            for file in page.split('"').filter(|part| part.starts_with("/assets/")) {
                weight += get(format!("{base}{file}")).await.len();
                files += 1;
            }
            assert!(files >= 2, "{name} has stylesheet and icon");
            assert!(weight < 50_000, "{name}-{language} weighs {weight}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn a_shown_password_is_hidden_again_on_submit() {
    let (_server, base) = serve().await;
    let browser = Chromium::open("ru").await;
    browser.go(&format!("{base}/looks/ru/login")).await;
    assert_eq!(
        browser.run("return document.activeElement.id").await,
        "login",
        "the field has the focus"
    );
    browser.type_into("#password", "seven blue herons").await;
    let kind = "return document.querySelector('#password').type";
    assert_eq!(browser.run(kind).await, "password");
    browser.click(".reveal").await;
    assert_eq!(browser.run(kind).await, "text");
    let pressed = "return document.querySelector('.reveal').ariaPressed";
    assert_eq!(browser.run(pressed).await, "true");
    let sent = "const form = document.forms[0]; let sent = 0; \
                window.addEventListener('submit', event => { \
                    sent += event.defaultPrevented ? 0 : 1; event.preventDefault(); }); \
                document.querySelector('#login').value = 'vera'; \
                form.requestSubmit(); form.requestSubmit(); return sent";
    assert_eq!(browser.run(sent).await, 1, "a double click submits the form once");
    assert_eq!(browser.run(kind).await, "password");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn form_post_submits_itself_or_by_button_without_scripts() {
    let (_server, base) = serve().await;
    let address = format!("{base}/looks/en/form-post-that-goes");
    let browser = Chromium::open("en").await;
    browser.go(&address).await;
    let whole = "received code=a%26b&submit=a+field+of+that+name";
    assert_eq!(browser.text("pre").await, whole);
    let off = json!({ "value": true });
    browser.devtools("Emulation.setScriptExecutionDisabled", off).await;
    browser.go(&address).await;
    browser.click("button").await;
    assert_eq!(browser.text("pre").await, whole);
    browser.close().await;
}

/// Types into whatever has the focus, as a keyboard does.
async fn press_keys(browser: &Chromium, keys: &str) {
    let key = |kind: &str, key: char| json!({ "type": kind, "value": key });
    let strokes = keys.chars().flat_map(|c| [key("keyDown", c), key("keyUp", c)]);
    let keyboard =
        json!({ "type": "key", "id": "keyboard", "actions": strokes.collect::<Vec<_>>() });
    browser.ask("actions", json!({ "actions": [keyboard] })).await.expect("keys are pressed");
}

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn pages_work_by_keyboard_and_remember_the_language() {
    // The page's origin must be the issuer's, or its cookies are refused.
    let address = crate::support::process::free_address();
    let issuer = format!("http://{address}");
    let settings =
        [("PROPUSK_SERVER__LISTEN", address.as_str()), ("PROPUSK_SERVER__ISSUER", issuer.as_str())];
    let _server = TestServer::with(Backend::Sqlite, &settings).await;
    let browser = Chromium::open("en").await;
    let heading = |text| browser.text_is("h1", text);
    browser.go(&format!("{issuer}/register?lang=ru")).await;
    heading("Создать аккаунт").await;
    press_keys(&browser, &["vera@@example.org", TAB, "vera", TAB, PASSWORD, ENTER].concat()).await;
    // The error is in the page's language, beside its field; the password is not kept.
    let refusal = browser.text("#email-error").await;
    assert!(refusal.contains("ровно один знак @"), "{refusal}");
    assert_eq!(browser.run("return document.activeElement.id").await, "email");
    let domain = "document.activeElement.value = 'vera@пример.рф'";
    browser.run(domain).await;
    press_keys(&browser, &[TAB, TAB, PASSWORD, ENTER].concat()).await;
    heading("Вы вошли").await;
    browser.click("a[href='/oauth2/logout']").await;
    heading("Выйти из аккаунта?").await;
    press_keys(&browser, &[TAB, TAB, ENTER].concat()).await;
    heading("Вы вышли из аккаунта").await;

    browser.go(&format!("{issuer}/login")).await;
    heading("Вход").await;
    press_keys(&browser, &["vera", TAB, "not the password", ENTER].concat()).await;
    let problem = browser.text("[role=alert]").await;
    assert!(problem.starts_with("Неверная почта"), "{problem}");
    assert_eq!(browser.run("return document.title.slice(0, 7)").await, "Ошибка:");
    press_keys(&browser, &[PASSWORD, ENTER].concat()).await;
    heading("Вы вошли").await;
    assert_eq!(browser.text(".who .hint").await, "vera@пример.рф");
    browser.close().await;
}

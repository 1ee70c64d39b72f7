//! The look and the languages of a deployment: `[pages]` and its folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    sync::Arc,
};

use propusk::clock::Clock;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    accessibility::axe,
    support::{
        Backend, Database, Reply, START, TestServer, backend_tests,
        chromium::Chromium,
        documentation::Page,
        mail::MAILS,
        process::{Process, bare_command},
        send,
    },
};

backend_tests! {
    the_brand_is_on_pages_in_mails_and_in_authenticators,
    t243_a_brand_is_text_on_pages_and_in_mails,
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    folder
}

/// A server with such a folder and further settings.
async fn server_with(files: &[(&str, &str)], settings: &[(&str, &str)]) -> (TestServer, TempDir) {
    let folder = folder(files);
    let path = folder.path().display().to_string();
    let own = [("PROPUSK_PAGES__FOLDER", path.as_str())];
    let server = TestServer::with(Backend::Sqlite, &[&own, settings].concat()).await;
    (server, folder)
}

/// What `propusk config check` says of these settings, and whether it accepts them.
fn check(settings: &[(&str, &str)]) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let own = settings.iter().map(|(name, value)| (format!("PROPUSK_{name}"), *value));
    let output = bare_command(folder.path()).envs(own).args(["config", "check"]).output();
    let output = output.expect("it runs");
    (output.status.success(), printed(&output))
}

fn printed(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// What `config check` says of a folder with this file.
fn check_file(name: &str, text: &str) -> String {
    let folder = folder(&[(name, text)]);
    let path = folder.path().display().to_string();
    let (is_accepted, said) = check(&[("PAGES__FOLDER", &path)]);
    assert!(!is_accepted, "{name} was accepted: {text}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// A page in the language of a header.
async fn page(server: &TestServer, path: &str, accept_language: &str) -> Reply {
    send(server.request(Method::GET, path).header("accept-language", accept_language)).await
}

/// The paths of this server that an attribute of a page names.
fn own_files(page: &str, name: &str) -> Vec<String> {
    let start = format!("{name}=\"/assets/own-");
    let values = page.split(&start).skip(1);
    let values = values.filter_map(|rest| rest.split('"').next());
    values.map(|rest| format!("/assets/own-{rest}")).collect()
}

const GERMAN: (&str, &str) =
    ("locales/de/pages.ftl", "language-name = Deutsch\nlogin-heading = Anmelden bei { $brand }\n");

/// Writes the files of docs/pages.md into a folder; returns their settings.
fn documented(folder: &Path) -> PathBuf {
    for (title, text) in Page::read("docs/pages.md").blocks() {
        let path = folder.join(&title);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let text = text.replace("\"acme.svg\"", &format!("{:?}", folder.join("acme.svg")));
        let text = text.replace("\"pages\"", &format!("{:?}", folder.join("pages")));
        fs::write(path, text).expect("a file");
    }
    folder.join("propusk.toml")
}

/// A server at its issuer as docs/pages.md describes it.
async fn documented_server(more: &[(&str, &str)]) -> (TestServer, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = documented(folder.path()).display().to_string();
    let own = [("PROPUSK_CONFIG", file.as_str())];
    (TestServer::at_its_issuer(&[&own, more].concat()).await, folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_example_works() {
    let (server, folder) = documented_server(&[]).await;
    // German is the default, and what de-AT asks for.
    for header in ["fr", "de-AT"] {
        let page = page(&server, "/login", header).await.expect(StatusCode::OK);
        for part in [
            "<html lang=\"de\">",
            "<title>Bei Acme anmelden — Acme</title>",
            "<h1>Bei Acme anmelden</h1>",
            "E-Mail oder Benutzername",
            "<span>Acme</span>",
            "https://acme.example/datenschutz",
            // Not translated.
            "Create one",
            "lang=en\" lang=\"en\" hreflang=\"en\">English</a>",
        ] {
            assert!(page.text.contains(part), "{part} in {}", page.text);
        }
        assert!(!page.text.contains("Propusk"), "{}", page.text);
    }
    let english = page(&server, "/", "en").await.expect(StatusCode::OK);
    assert!(english.text.contains("https://acme.example/privacy"), "{}", english.text);
    assert!(english.text.contains("<title>Acme — "), "{}", english.text);
    assert!(!english.text.contains("Русский"), "it is not offered");

    let sheets = own_files(&english.text, "href");
    let [sheet] = sheets.as_slice() else { panic!("{sheets:?}") };
    let sheet = server.get(sheet).await.expect(StatusCode::OK);
    assert_eq!(sheet.header("content-type"), "text/css; charset=utf-8");
    assert_eq!(sheet.header("cache-control"), "public, max-age=31536000, immutable");
    assert!(sheet.text.contains("--accent: #5b21b6;"), "{}", sheet.text);
    assert!(sheet.text.ends_with(".card { border-radius: 0.25rem; }\n"), "{}", sheet.text);
    let logos = own_files(&english.text, "src");
    let logo = server.get(&logos[0]).await.expect(StatusCode::OK);
    assert_eq!(logo.header("content-type"), "image/svg+xml");
    assert!(logo.text.contains("#7c3aed"));

    let metadata = server.get("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["ui_locales_supported"], json!(["de", "en"]));

    // The command for translators, and the example of an error.
    let run = |args: &[&str]| {
        let output = bare_command(folder.path()).args(args).output().expect("it runs");
        (output.status.code(), printed(&output))
    };
    let (code, said) = run(&["locales", "check", "pages/locales"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.starts_with("de: ") && said.contains("not translated: login-no-account"),
        "{said}"
    );
    let (code, said) = run(&["locales", "check", "pages/locales", "--complete"]);
    assert_eq!(code, Some(1), "{said}");
    let (is_accepted, said) = check(&[("PAGES__COLORS__LIGHT__ACCENT", "#ffcc00")]);
    let documented = fs::read_to_string(root().join("docs/pages.md")).expect("a page");
    let documented = documented.replace('\n', " ");
    let (_, problem) = said.split_once("): ").expect("a problem");
    assert!(!is_accepted && documented.contains(problem.trim()), "{said}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

async fn the_brand_is_on_pages_in_mails_and_in_authenticators(backend: Backend) {
    let settings = [
        MAILS,
        ("PROPUSK_PAGES__BRAND", "Acme"),
        ("PROPUSK_PAGES__COLORS__LIGHT__ACCENT", "#0b57d0"),
    ];
    let server = TestServer::with(backend, &settings).await;
    let ann = server.register("ann").await;
    let mail = server.mail_to("ann@example.org").await;
    assert!(mail.raw.contains("From: Acme <no-reply@localhost>"), "{}", mail.raw);
    assert!(mail.text.contains("at Acme") && !mail.text.contains("Propusk"), "{}", mail.text);
    assert!(mail.html.contains("background:#0b57d0;color:#ffffff"), "{}", mail.html);

    let factors = "/api/v1/account/second-factors";
    let totp = server.post_as(&format!("{factors}/totp"), &ann.access).await;
    let uri = totp.expect(StatusCode::OK).text_of("/uri");
    assert!(uri.starts_with("otpauth://totp/Acme:") && uri.contains("issuer=Acme"), "{uri}");
    for path in ["/", "/login", "/register", "/no-such-page"] {
        let page = send(server.request(Method::GET, path).header("accept", "text/html")).await;
        assert!(page.text.contains("<span>Acme</span>"), "{path}: {}", page.text);
        assert!(!page.text.contains("Propusk"), "{path}: {}", page.text);
    }
    // Mails may have a name of their own.
    let other = [&settings[..], &[("PROPUSK_MAIL__BRAND", "Acme Mail")]].concat();
    let other = server.another(&other).await;
    assert_eq!(other.app.config.mail_brand(), "Acme Mail");
    // Without a brand the label is the host, as before.
    let plain = server.another(&[]).await;
    let totp = plain.post_as(&format!("{factors}/totp"), &ann.access).await;
    assert!(!totp.text_of("/uri").contains("Propusk"), "{totp:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_dialog_names_the_brand() {
    // An issuer with a name: passkeys belong to no IP address.
    let settings =
        [("PROPUSK_PAGES__BRAND", "Acme"), ("PROPUSK_SERVER__ISSUER", "http://localhost:8080")];
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    let ann = server.register("ann").await;
    let begun = server.post_as("/api/v1/account/second-factors/passkeys", &ann.access).await;
    let begun = begun.expect(StatusCode::OK);
    assert_eq!(begun.text_of("/options/rp/name"), "Acme");
}

async fn t243_a_brand_is_text_on_pages_and_in_mails(backend: Backend) {
    const HOSTILE: &str = "A <b onclick=\"x\">& Co\"";
    let server = TestServer::with(backend, &[MAILS, ("PROPUSK_PAGES__BRAND", HOSTILE)]).await;
    server.register("ann").await;
    let mail = server.mail_to("ann@example.org").await;
    assert!(!mail.html.contains("<b onclick"), "{}", mail.html);
    assert!(mail.text.contains(HOSTILE), "{}", mail.text);
    for path in ["/", "/login"] {
        let page = server.get(path).await.expect(StatusCode::OK);
        assert!(!page.text.contains("<b onclick"), "{}", page.text);
        assert!(page.text.contains("A &#60;b onclick=&#34;x&#34;&#62;&#38; Co&#34;</span>"));
    }
    for wrong in ["", " ", "a\r\nBcc: eve@example.org", &"x".repeat(61)] {
        for key in ["PAGES__BRAND", "MAIL__BRAND"] {
            let (is_accepted, said) = check(&[(key, wrong)]);
            let is_default = key == "MAIL__BRAND" && wrong.is_empty();
            assert_eq!(is_accepted, is_default, "{key}={wrong:?}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_adds_languages_and_overrides_messages() {
    let (server, _folder) = server_with(
        &[
            GERMAN,
            ("locales/ar/a.ftl", "language-name = العربية\nlogin-heading = تسجيل الدخول\n"),
            (
                "locales/pt-BR/a.ftl",
                "-name = Entrar\nlanguage-name = Português\nlogin-heading = { -name }\n",
            ),
            ("locales/en/own.ftl", "login-heading = Welcome\nlogin = Sign in to { $brand }\n"),
            ("footer.html", "<p>for all</p>"),
            ("footer.ar.html", "<p>للجميع</p>"),
            ("..data/ignored", "as Kubernetes mounts it"),
        ],
        &[],
    )
    .await;
    let heading = async |path: &str, language: &str| {
        let page = page(&server, path, language).await.expect(StatusCode::OK);
        let (_, heading) = page.text.split_once("<h1>").expect("a heading");
        (heading.split('<').next().expect("text").to_owned(), page)
    };
    for (language, expected, tag) in [
        ("en", "Welcome", "en"),
        ("de-CH, en;q=0.5", "Anmelden bei Propusk", "de"),
        ("pt", "Entrar", "pt-BR"),
        ("pt-PT", "Entrar", "pt-BR"),
        ("ru", "Вход", "ru"),
        ("fr, ar;q=0.1", "تسجيل الدخول", "ar"),
    ] {
        let (found, page) = heading("/login", language).await;
        assert_eq!((found.as_str(), page.header("content-language")), (expected, tag));
    }
    let (_, arabic) = heading("/login?lang=ar", "en").await;
    assert!(arabic.header("set-cookie").starts_with("lang=ar;"), "{arabic:?}");
    assert!(arabic.text.contains("<html lang=\"ar\" dir=\"rtl\">"), "{}", arabic.text);
    assert!(arabic.text.contains("للجميع") && !arabic.text.contains("for all"));
    // Untranslated, and overridden in English; without invisible isolates.
    assert!(arabic.text.contains(">Sign in to Propusk</button>"), "{}", arabic.text);
    // With more than two languages the links are a list that has the present one.
    assert!(arabic.text.contains("<nav class=\"languages\" aria-label=\"Language\">"));
    assert!(arabic.text.contains("<span lang=\"ar\" aria-current=\"true\">العربية</span>"));
    for (tag, name) in
        [("en", "English"), ("ru", "Русский"), ("de", "Deutsch"), ("pt-BR", "Português")]
    {
        let link =
            format!("href=\"/login?lang={tag}\" lang=\"{tag}\" hreflang=\"{tag}\">{name}</a>");
        assert!(arabic.text.contains(&link), "{link} in {}", arabic.text);
    }
    let cookie = server.request(Method::GET, "/login").header("cookie", "lang=de");
    assert!(send(cookie).await.text.contains("Anmelden bei Propusk"));

    // Two languages, as before: one link. Another server of this process has them.
    let plain = TestServer::start(Backend::Sqlite).await;
    let two = page(&plain, "/login", "de").await.expect(StatusCode::OK);
    assert!(two.text.contains("<h1>Log in</h1>") && !two.text.contains("<nav"), "{}", two.text);
    assert!(two.text.contains("class=\"quiet\" href=\"/login?lang=ru\""), "{}", two.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn languages_are_chosen_by_setting_and_in_mails() {
    let only = [
        MAILS,
        ("PROPUSK_PAGES__LANGUAGES", "de"),
        ("PROPUSK_UPSTREAM__ACME__ISSUER", "https://acme.example"),
        ("PROPUSK_UPSTREAM__ACME__CLIENT_ID", "us"),
        ("PROPUSK_UPSTREAM__ACME__CLIENT_SECRET", "secret"),
        ("PROPUSK_UPSTREAM__ACME__DISPLAY_NAME", "de=Die Acme, en=The Acme"),
    ];
    let subject = "mail-verify-subject = Bestätigen Sie Ihre Adresse\n";
    let (server, _folder) = server_with(&[GERMAN, ("locales/de/mail.ftl", subject)], &only).await;
    let login = page(&server, "/login", "ru, en").await.expect(StatusCode::OK);
    assert!(login.text.contains("<html lang=\"de\">") && login.text.contains("Die Acme"));
    assert!(!login.text.contains("?lang="), "there is nothing to switch to: {}", login.text);
    server.module("crm", "crm:read", None, true).await;
    let ann = server.register("ann").await;
    let mail = server.mail_to("ann@example.org").await;
    assert_eq!(mail.subject, "Bestätigen Sie Ihre Adresse");
    assert!(mail.html.contains("<html lang=\"de\">"), "{}", mail.html);
    let modules = server.request(Method::GET, "/api/v1/modules").bearer_auth(&ann.access);
    let modules = send(modules.header("accept-language", "de")).await;
    assert!(modules.text.contains("The crm"), "English, where nothing is German: {modules:?}");
}

#[test]
fn wrong_folders_are_refused_with_file_and_line() {
    for (name, text, expected) in [
        (
            "Footer.html",
            "",
            "Footer.html: unknown file; known are style.css, locales/, header.html",
        ),
        ("sidebar.html", "", "sidebar.html: unknown file"),
        ("footer.fr.html", "<p>a</p>", "there is no language fr"),
        (
            "footer.html",
            "<p>a</p>\n<p onclick=\"x\">",
            "footer.html, line 2: <p> cannot have onclick",
        ),
        ("style.css", "a {}\n@import 'x';", "style.css, line 2: @import has no effect"),
        ("locales/de.ftl", "", "de.ftl: a language is a folder named for its tag"),
        ("locales/de/a.txt", "", "a.txt: unknown file"),
        ("locales/de_DE/a.ftl", "", "locales/de_DE: is not a language tag; name the folder de-DE"),
        ("locales/german language/a.ftl", "", "is not a language tag"),
        ("locales/de/a.ftl", "login = Anmelden", "locales/de: language-name is missing"),
        ("locales/en/a.ftl", "login = a\n\n= b\n", "a.ftl, line 3: "),
        ("locales/en/a.ftl", "login = { $\n", "a.ftl, line "),
        (
            "locales/en/a.ftl",
            "skip = a\nlogin-to = to { $application }",
            "a.ftl, line 2: login-to: unknown variable $application; there are $client, $brand",
        ),
        ("locales/en/a.ftl", "login = { NUMBER(1) }", "line 1: login: there is no function NUMBER"),
        ("locales/en/a.ftl", "login = { -brand }", "login: there is no term -brand"),
        ("locales/en/a.ftl", "login = { logim }", "login: there is no message logim"),
        ("locales/en/a.ftl", "login = a\nlogin = b", "line 2: login is defined before, in"),
        ("locales/en/a.ftl", "login = a\n    .title = b", "login: attributes have no effect"),
        ("locales/en/a.ftl", "login = { skip }\nskip = { login }", "line 1: login: "),
    ] {
        let said = check_file(name, text);
        assert!(said.contains(expected), "{name} {text:?}: {said}");
    }
    let large = "x".repeat(20 * 1024);
    assert!(check_file("footer.html", &large).contains("has 20480 bytes of at most"));
    for (settings, expected) in [
        (
            &[("PAGES__FOLDER", "/no/such/folder")][..],
            "pages.folder (PROPUSK_PAGES__FOLDER): folder not found",
        ),
        (&[("PAGES__LOGO", "/no/such/file")], "pages.logo (PROPUSK_PAGES__LOGO): file not found"),
        (&[("PAGES__LOGO", "/etc/passwd")], "pages.logo: /etc/passwd: is not an SVG or PNG file"),
        (&[("PAGES__LOGO_DARK", "/etc/passwd")], "pages.logo_dark"),
        (
            &[("PAGES__LANGUAGES", "en,fr")],
            "pages.languages: there is no language fr; there are en, ru",
        ),
        (&[("PAGES__LANGUAGES", "en,en")], "pages.languages: en is there twice"),
        (
            &[("PAGES__LANGUAGES", "en"), ("MAIL__LANGUAGE", "ru")],
            "mail.language: must be one of en",
        ),
        (
            &[("PAGES__COLORS__DARK__TEXT", "#333")],
            "pages.colors.dark.text (PROPUSK_PAGES__COLORS__DARK__TEXT): the text (#333333)",
        ),
        (&[("PAGES__COLORS__LIGHT__ACCENT", "red")], "must be a color like #0b6b5b, not \"red\""),
    ] {
        let (is_accepted, said) = check(settings);
        assert!(!is_accepted && said.contains(expected), "{settings:?}: {said}");
    }
    assert!(check(&[("PAGES__COLORS__LIGHT__ACCENT", "#5b21b6")]).0);
}

#[test]
fn locales_are_exported_and_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |args: &[&str]| {
        let output = bare_command(folder.path()).arg("locales").args(args).output();
        let output = output.expect("it runs");
        (output.status.code(), printed(&output))
    };
    let (code, said) = run(&["export", "all"]);
    assert_eq!(code, Some(0), "{said}");
    let ours = fs::read_to_string(root().join("locales/ru/common.ftl")).expect("a file");
    let written = fs::read_to_string(folder.path().join("all/ru/common.ftl")).expect("a file");
    assert_eq!(written, ours);
    // What we export, we accept.
    let (code, said) = run(&["check", "all", "--complete"]);
    assert_eq!((code, said.lines().count()), (Some(0), 2), "{said}");
    assert!(said.contains("ru: 0 messages not translated, 0 unknown"), "{said}");
    let (code, said) = run(&["export", "all", "--language", "en"]);
    assert!(code == Some(1) && said.contains("exists"), "{said}");
    let (code, said) = run(&["export", "one", "--language", "de"]);
    assert!(code == Some(2) && said.contains("must be en or ru"), "{said}");
    fs::rename(folder.path().join("all/en"), folder.path().join("all/de")).expect("renamed");
    let own = folder.path().join("all/de/own.ftl");
    fs::write(&own, "no-such-message = a\n").expect("a file");
    let (code, said) = run(&["check", "all"]);
    assert!(code == Some(1) && said.contains("unknown: no-such-message"), "{said}");
    fs::write(&own, "no-such-message = {").expect("a file");
    let (code, said) = run(&["check", "all"]);
    assert!(code == Some(1) && said.contains("own.ftl, line 1: "), "{said}");
    let (code, said) = run(&["check", "none"]);
    assert!(code == Some(1) && said.contains("none: "), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_at_start_what_a_language_lacks() {
    let own = ("locales/de/own.ftl", "no-such-message = a\n");
    let folder = folder(&[GERMAN, own]);
    let path = folder.path().display().to_string();
    let database = Database::prepared(Backend::Sqlite).await;
    let settings = [("PROPUSK_PAGES__FOLDER", path.as_str()), ("PROPUSK_LOG__LEVEL", "debug")];
    let process = Process::serve(&database, &settings).await;
    let log = process.stderr();
    let lacks = |line: &&str| line.contains("messages are not translated");
    let line = log.lines().find(lacks).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("INFO") && line.contains("de") && line.contains("missing="), "{line}");
    assert!(log.contains("unknown messages have no effect"), "{log}");
    assert!(log.contains("no-such-message"), "{log}");
    let which = log.lines().find(|line| line.contains("DEBUG") && line.contains("not translated"));
    assert!(which.is_some_and(|line| line.contains("login-no-account")), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t240_the_policy_of_branded_pages_is_the_same() {
    let (branded, _folder) = documented_server(&[]).await;
    let plain = TestServer::start(Backend::Sqlite).await;
    for path in ["/", "/login", "/register", "/device", "/password/reset", "/docs"] {
        let of = async |server: &TestServer| {
            let page = page(server, path, "en").await;
            (page.header("content-security-policy").to_owned(), page.text)
        };
        let (policy, html) = of(&branded).await;
        let (expected, _) = of(&plain).await;
        assert_eq!(policy, expected, "{path}");
        assert!(!policy.contains("unsafe") && !policy.contains("https:"), "{policy}");
        assert!(!html.contains("style=\"") && !html.contains("<style"), "{path}: {html}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t241_a_language_tag_of_a_request_reads_no_file() {
    let secret = "language-name = Canary\nlogin = canary\n";
    // Beside the folder of languages, and in it under names that are no tags.
    let (server, folder) = server_with(&[GERMAN], &[]).await;
    fs::create_dir_all(folder.path().join("locales/fr")).expect("a folder");
    fs::write(folder.path().join("locales/fr/a.ftl"), secret).expect("a file");
    for tag in ["fr", "../locales/fr", "..%2Flocales%2Ffr", "/etc/passwd", "de/../fr", "de%0d%0aa"]
    {
        let request = server.request(Method::GET, &format!("/login?lang={tag}"));
        let request = request.header("cookie", format!("lang={tag}"));
        let page = send(request.header("accept-language", "en")).await.expect(StatusCode::OK);
        assert!(!page.text.to_lowercase().contains("canary"), "{tag}: {}", page.text);
        assert_eq!(page.header("content-language"), "en", "{tag}");
        assert!(page.header("set-cookie").split(';').all(|part| !part.starts_with("lang=")));
    }
    for name in ["locales/und/a.ftl", "locales/x/a.ftl", "locales/de-/a.ftl"] {
        let said = check_file(name, secret);
        assert!(said.contains("is not a language tag"), "{name}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t242_a_logo_opened_by_itself_runs_nothing() {
    let (server, _folder) = documented_server(&[]).await;
    let login = server.get("/login").await;
    let logos = own_files(&login.text, "src");
    let [logo] = logos.as_slice() else { panic!("{logos:?}") };
    let logo = server.get(logo).await.expect(StatusCode::OK);
    let policy = logo.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("sandbox"), "{policy}");
    assert!(!policy.contains("allow-scripts"), "{policy}");
    assert_eq!(logo.header("x-content-type-options"), "nosniff");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t244_messages_of_a_folder_are_text() {
    let text = "login-heading = <b onclick=\"x\">{ $brand }</b>\n";
    let (server, _folder) = server_with(&[("locales/en/a.ftl", text)], &[]).await;
    let login = server.get("/login").await.expect(StatusCode::OK);
    assert!(!login.text.contains("<b onclick"), "{}", login.text);
    assert!(login.text.contains("&#60;b onclick"), "{}", login.text);
    let more: String =
        (0..20).map(|n| format!("a{} = {}\n", n + 1, format!("{{ a{n} }}").repeat(9))).collect();
    let said = check_file("locales/en/a.ftl", &format!("login = {{ a20 }}\na0 = x\n{more}"));
    assert!(said.contains("line 1: login: "), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn branded_pages_in_three_languages_have_no_violation() {
    let rules = std::env::var("PROPUSK_TEST_AXE_JS").expect("axe-core: run ./dev/test");
    let rules = fs::read_to_string(rules).expect("axe-core");
    let folder = tempfile::tempdir().expect("a folder");
    let file = documented(folder.path()).display().to_string();
    let arabic = folder.path().join("pages/locales/ar");
    fs::create_dir_all(&arabic).expect("a folder");
    let text = "language-name = العربية\nlogin-heading = تسجيل الدخول\nlogin = دخول\n";
    fs::write(arabic.join("a.ftl"), text).expect("a file");
    let settings = [("PROPUSK_CONFIG", file.as_str()), ("PROPUSK_PAGES__LANGUAGES", "de,en,ar")];
    let server = TestServer::on(
        Arc::new(Database::new(Backend::Sqlite).await),
        Clock::fake(START),
        &settings,
    );
    let server = server.await;
    let browser = Chromium::open("en").await;
    let mut wrong = vec![];
    for (width, scheme) in [(1200, "light"), (360, "dark")] {
        browser.look(width, 900, scheme).await;
        for path in ["/", "/login", "/register"] {
            for language in ["de", "en", "ar"] {
                browser.go(&format!("{}{path}?lang={language}", server.base)).await;
                let seen = format!("branded{}-{language}-{scheme}-{width}", path.replace('/', "-"));
                let found = axe(&browser, &rules).await;
                wrong.extend(found.into_iter().map(|line| format!("{seen}: {line}")));
                let overflow = "return document.documentElement.scrollWidth \
                                - document.documentElement.clientWidth";
                assert_eq!(browser.run(overflow).await, 0, "{seen}");
                crate::accessibility::screenshot(&browser, &seen).await;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let radius = "return getComputedStyle(document.querySelector('.card')).borderRadius";
    assert_eq!(browser.run(radius).await, "4px", "the operator's style sheet is loaded");
    let logo = "return document.querySelector('.brand img').naturalWidth > 0";
    assert_eq!(browser.run(logo).await, true, "the logo is drawn");
    browser.close().await;
}

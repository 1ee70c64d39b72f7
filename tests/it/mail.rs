//! The delivery of mails, to real SMTP servers and in the folder for development.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use propusk::{config::Config, storage::Statement};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Backend, PASSWORD, TestServer, backend_tests,
    chromium::{Chromium, until},
    mail::{MAILS, ReceivedMail},
    process::{self, free_address, free_port},
};

/// An SMTP server (aiosmtpd, see tests/clients).
struct SmtpServer {
    child: Child,
    port: String,
    /// Of the mails, the certificate and its key.
    folder: TempDir,
}

impl SmtpServer {
    async fn start(mode: &str) -> Self {
        let clients = std::env::var("PROPUSK_TEST_CLIENTS_DIR")
            .expect("PROPUSK_TEST_CLIENTS_DIR names no folder: run ./dev/test");
        let clients = PathBuf::from(clients);
        let folder = tempfile::tempdir().expect("a folder");
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let (ca, key) = (folder.path().join("ca.pem"), folder.path().join("key.pem"));
        fs::write(&ca, cert.pem()).expect("written");
        fs::write(&key, signing_key.serialize_pem()).expect("written");
        let mut command = Command::new(clients.join("python/bin/python"));
        command.arg(clients.join("smtp_server.py")).arg(folder.path()).arg(mode);
        if ["starttls", "implicit"].contains(&mode) {
            command.arg(&ca).arg(&key);
        }
        let child = command.stdout(Stdio::piped()).spawn();
        let mut child = child.expect("it starts");
        let output = child.stdout.take().expect("its output");
        let port = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).expect("a port");
            line.trim().to_owned()
        });
        Self { child, port: port.await.expect("a thread"), folder }
    }

    fn ca(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// Waits until it has received so many mails.
    async fn received(&self, count: usize) -> Vec<(ReceivedMail, Value)> {
        let folder = self.folder.path();
        until("a mail", || async {
            let facts = folder.join(format!("{count}.json"));
            serde_json::from_str::<Value>(&fs::read_to_string(facts).ok()?).ok()
        })
        .await;
        let read = |number: usize| {
            let file = |kind| fs::read_to_string(folder.join(format!("{number}.{kind}")));
            let facts = file("json").expect("facts");
            let mail = ReceivedMail::parse(&file("eml").expect("a mail"));
            (mail, serde_json::from_str(&facts).expect("JSON"))
        };
        (1..=count).map(read).collect()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// While a process sends a mail, nobody else does: eight times `mail.timeout`, and ten seconds.
const LEASE: Duration = Duration::from_secs(90);

/// The settings for an SMTP server.
fn smtp<'a>(port: &'a str, tls: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("PROPUSK_MAIL__DELIVERY", "auto"),
        ("PROPUSK_MAIL__HOST", "localhost"),
        ("PROPUSK_MAIL__PORT", port),
        ("PROPUSK_MAIL__TLS", tls),
        ("PROPUSK_MAIL__FROM", "Notes <no-reply@notes.example>"),
        ("PROPUSK_MAIL__REPLY_TO", "help@notes.example"),
        ("PROPUSK_MAIL__BRAND", "Notes"),
        ("PROPUSK_REGISTRATION__CONFIRM_EMAIL", "off"),
    ]
}

/// The mails of a server that no process is sending, as its table has them: state, attempts and
/// error.
async fn states(server: &TestServer) -> Vec<(String, i64, String)> {
    let statement = Statement::new(
        "SELECT state, attempts, COALESCE(error, '') AS error FROM mails \
         WHERE next_attempt_at <> $1 OR state <> 'queued' ORDER BY created_at, id",
    );
    let lease = server.clock.now() + LEASE;
    let rows = server.app.db.read(statement.bind(lease)).await.expect("rows");
    let state = |row: &propusk::storage::Row| {
        let text = |column: &str| row.get::<String>(column).expect("text");
        (text("state"), row.get("attempts").expect("a number"), text("error"))
    };
    rows.iter().map(state).collect()
}

/// Waits until the first mail of a server is in such a state.
async fn is(server: &TestServer, state: &str, attempts: i64) -> String {
    until(&format!("a mail: {state}, {attempts}"), || async {
        let (found, count, error) = states(server).await.into_iter().next()?;
        (found == state && count == attempts).then_some(error)
    })
    .await
}

mod services {
    use super::*;

    backend_tests! {
        requires "SMTP (aiosmtpd)":
        mails_are_sent_by_smtp_with_starttls_and_login,
        mails_are_sent_by_smtp_with_implicit_tls,
        a_refusal_is_final_and_a_busy_server_is_asked_again,
    }

    async fn mails_are_sent_by_smtp_with_starttls_and_login(backend: Backend) {
        let mail = SmtpServer::start("starttls").await;
        let ca = mail.ca();
        let mut settings = smtp(&mail.port, "starttls");
        settings.extend([
            ("PROPUSK_MAIL__CA_FILE", ca.as_str()),
            ("PROPUSK_MAIL__USERNAME", "propusk"),
            ("PROPUSK_MAIL__PASSWORD", "letmein"),
        ]);
        let server = TestServer::with(backend, &settings).await;
        server.register("ann").await;
        let (received, facts) = mail.received(1).await.remove(0);
        assert_eq!(facts["to"], json!(["ann@example.org"]));
        assert_eq!(facts["from"], "no-reply@notes.example");
        assert_eq!((&facts["tls"], &facts["login"]), (&json!(true), &json!("propusk")));
        assert_eq!(received.subject, "Confirm your email address");
        for line in [
            "From: Notes <no-reply@notes.example>",
            "Reply-To: help@notes.example",
            "@notes.example>",
        ] {
            assert!(received.raw.contains(line), "{line}: {}", received.raw);
        }
        let body = json!({ "token": received.token(), "password": PASSWORD });
        server.post("/api/v1/auth/email/verify", body).await.expect(StatusCode::OK);
        is(&server, "sent", 1).await;

        // What the command line says of the same server, and of a wrong password.
        let test = |settings: &[(&str, &str)]| {
            process::run(&server.database, settings, &["mail", "test", "ann@example.org"])
        };
        let output = test(&settings);
        assert!(output.status.success(), "{output:?}");
        let (received, _) = mail.received(2).await.remove(1);
        assert_eq!(received.subject, "A test mail");
        settings.retain(|(name, _)| *name != "PROPUSK_MAIL__PASSWORD");
        settings.push(("PROPUSK_MAIL__PASSWORD", "wrong"));
        let output = test(&settings);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains("SMTP status 535"), "{text}");
        assert!(!text.contains("wrong"), "{text}");
        // It loses no mail.
        let locked_out = TestServer::with(backend, &settings).await;
        locked_out.register("ann").await;
        assert_eq!(is(&locked_out, "queued", 1).await, "SMTP status 535");
        // A certificate of another person, and a server that does not offer STARTTLS.
        settings.retain(|(name, _)| *name != "PROPUSK_MAIL__CA_FILE");
        let output = test(&settings);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains("not delivered"), "{text}");
        let plain = SmtpServer::start("plain").await;
        let output = test(&smtp(&plain.port, "starttls"));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains("lacks"), "{text}");
        let output = test(&smtp(&plain.port, "none"));
        assert!(output.status.success(), "{output:?}");
    }

    async fn mails_are_sent_by_smtp_with_implicit_tls(backend: Backend) {
        let mail = SmtpServer::start("implicit").await;
        let ca = mail.ca();
        let mut settings = smtp(&mail.port, "implicit");
        settings.push(("PROPUSK_MAIL__CA_FILE", ca.as_str()));
        let server = TestServer::with(backend, &settings).await;
        server.register("ann").await;
        let (received, facts) = mail.received(1).await.remove(0);
        assert_eq!((&facts["tls"], &facts["login"]), (&json!(true), &Value::Null));
        assert_eq!(received.to, "ann@example.org");
    }

    async fn a_refusal_is_final_and_a_busy_server_is_asked_again(backend: Backend) {
        let refusing = SmtpServer::start("refusing").await;
        let server = TestServer::with(backend, &smtp(&refusing.port, "none")).await;
        server.register("ann").await;
        // Without the address, which the server repeats.
        assert_eq!(is(&server, "failed", 1).await, "SMTP status 550");
        let root = server.admin("root").await;
        let failed = root.all("/mails?state=failed").await;
        assert_eq!(failed[0]["kind"], "verify_email");
        let listed = process::run(&server.database, &[], &["mail", "list", "--failed", "--json"]);
        let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        assert_eq!(listed.as_array().map(Vec::len), Some(failed.len()), "{listed}");

        let busy = SmtpServer::start("busy").await;
        let server = TestServer::with(backend, &smtp(&busy.port, "none")).await;
        server.register("ann").await;
        assert_eq!(is(&server, "queued", 1).await, "SMTP status 451");
        server.clock.advance(Duration::from_secs(6));
        is(&server, "sent", 2).await;
        busy.received(1).await;
        assert!(
            server.app.metrics.render().contains("propusk_mails_total{outcome=\"postponed\"} 1")
        );
    }
}

backend_tests! {
    another_process_sends_what_one_has_left,
    a_mail_that_is_not_accepted_in_time_is_given_up,
    mails_are_files_in_development,
}

async fn another_process_sends_what_one_has_left(backend: Backend) {
    let port = free_port().to_string();
    let one = TestServer::with(backend, &smtp(&port, "none")).await;
    one.register("ann").await;
    assert_eq!(is(&one, "queued", 1).await, "the server cannot be reached");
    // It has taken the mail and dies: nobody else has it until the lease ends.
    let take = Statement::new("UPDATE mails SET attempts = 2, next_attempt_at = $1");
    let lease = one.clock.now() + LEASE;
    one.app.db.write(take.bind(lease)).await.expect("taken");
    let database = one.stop().await;
    let clock = propusk::clock::Clock::fake(lease);
    let other = TestServer::on(database, clock, &[MAILS]).await;
    let mail = other.mail_to("ann@example.org").await;
    assert_eq!(states(&other).await[0], ("sent".to_owned(), 3, String::new()));
    // Its secrets are gone with it.
    let body = json!({ "token": mail.token(), "password": PASSWORD });
    other.post("/api/v1/auth/email/verify", body).await.expect(StatusCode::OK);
}

async fn a_mail_that_is_not_accepted_in_time_is_given_up(backend: Backend) {
    let port = free_port().to_string();
    let server = TestServer::with(backend, &smtp(&port, "none")).await;
    server.register("ann").await;
    // Five seconds, half a minute, two minutes, ten, thirty, then every hour.
    for (attempts, pause) in [(1, 5), (2, 30), (3, 120), (4, 600), (5, 1_800), (6, 3_600)] {
        is(&server, "queued", attempts).await;
        server.clock.advance(Duration::from_secs(pause));
    }
    is(&server, "queued", 7).await;
    server.clock.advance(Duration::from_secs(24 * 3_600));
    assert_eq!(is(&server, "failed", 8).await, "expired before it was accepted");
    // What became of it is kept for a week, and so is the quota's window.
    server.clock.advance(Duration::from_secs(8 * 24 * 3_600));
    propusk::flows::maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(states(&server).await.len(), 0);
}

async fn mails_are_files_in_development(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    server.register("ann").await;
    let mail = server.mail_to("ann@example.org").await;
    let folder = server.app.config.mail_folder();
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in fs::read_dir(&folder).expect("the folder") {
        assert_eq!(mode(&file.expect("a file").path()), 0o600);
    }
    assert!(mail.raw.contains("no-reply@localhost"), "{}", mail.raw);
    // A deleted user's mails go with them.
    let root = server.admin("root").await;
    let id = root.get("/users?username=ann").await.text_of("/items/0/id");
    root.delete(&format!("/users/{id}")).await.expect(StatusCode::OK);
    let left = root.all("/mails").await;
    assert!(left.iter().all(|mail| mail["userId"] != json!(id)), "{left:?}");
}

#[test]
fn unsafe_or_incomplete_settings_are_refused() {
    let check = |settings: &[(&str, &str)]| {
        let own = |(name, value): &(&str, &str)| (format!("PROPUSK_{name}"), (*value).to_owned());
        let settings: Vec<_> = settings.iter().map(own).collect();
        let found = Config::load(None, settings.into_iter());
        found.err().map_or(String::new(), |error| error.to_string())
    };
    let smtp = [("MAIL__HOST", "smtp.example"), ("MAIL__FROM", "a@example.com")];
    let with = |more: &[(&'static str, &'static str)]| check(&[&smtp[..], more].concat());
    assert_eq!(with(&[]), "");
    assert!(with(&[("MAIL__TLS", "none")]).contains("mail.allow_plaintext"));
    assert_eq!(with(&[("MAIL__TLS", "none"), ("MAIL__ALLOW_PLAINTEXT", "true")]), "");
    assert!(with(&[("MAIL__USERNAME", "a")]).contains("mail.password"));
    assert!(with(&[("MAIL__REPLY_TO", "nobody")]).contains("mail.reply_to"));
    assert!(check(&[("MAIL__HOST", "smtp.example")]).contains("mail.from"));
    assert!(check(&[("MAIL__DELIVERY", "smtp")]).contains("mail.host"));
    assert!(check(&[("MAIL__HOST", "smtp://a"), smtp[1]]).contains("mail.port"));
    assert!(check(&[("MAIL__LANGUAGE", "de")]).contains("mail.language"));
    let off = [("MAIL__DELIVERY", "off"), ("REGISTRATION__CONFIRM_EMAIL", "on")];
    assert!(check(&off).contains("registration.confirm_email"));
    let secret = with(&[("MAIL__USERNAME", "a"), ("MAIL__PASSWORD", "s3cret\n")]);
    assert!(!secret.contains("s3cret"), "{secret}");
}

/// The whole way in a real browser, without scripts, in both languages; the mails go through a real
/// SMTP server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium and SMTP (aiosmtpd): run ./dev/test"]
async fn mailed_links_work_in_a_browser_without_scripts() {
    let mail = SmtpServer::start("plain").await;
    let address = free_address();
    let issuer = format!("http://{address}");
    let mut settings = smtp(&mail.port, "none");
    settings.retain(|(name, _)| *name != "PROPUSK_REGISTRATION__CONFIRM_EMAIL");
    settings.extend([
        ("PROPUSK_SERVER__LISTEN", address.as_str()),
        ("PROPUSK_SERVER__ISSUER", issuer.as_str()),
    ]);
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    assert!(server.app.config.confirms_registrations(), "SMTP is configured");
    let mut count = 0;
    for (language, subjects, created, set) in [
        (
            "en",
            ["Confirm your registration", "Reset your password"],
            "You are logged in",
            "Your password is set",
        ),
        ("ru", ["Подтвердите регистрацию", "Новый пароль"], "Вы вошли", "Пароль сохранён"),
    ] {
        let browser = Chromium::open(language).await;
        let off = json!({ "value": true });
        browser.devtools("Emulation.setScriptExecutionDisabled", off).await;
        let email = format!("{language}@example.org");
        browser.go(&format!("{issuer}/register")).await;
        browser.type_into("#email", &email).await;
        browser.type_into("#password", PASSWORD).await;
        browser.click("button.button").await;
        count += 1;
        let (received, _) = mail.received(count).await.remove(count - 1);
        assert_eq!(received.subject, subjects[0]);
        browser.go(received.url().as_str()).await;
        browser.type_into("#password", PASSWORD).await;
        browser.click("button.button").await;
        heading(&browser, created).await;
        browser.go(&format!("{issuer}/password/reset")).await;
        browser.type_into("#email", &email).await;
        browser.click("button.button").await;
        count += 1;
        let (received, _) = mail.received(count).await.remove(count - 1);
        assert_eq!(received.subject, subjects[1]);
        browser.go(received.url().as_str()).await;
        browser.type_into("#password", "nine grey owls before noon").await;
        browser.click("button.button").await;
        heading(&browser, set).await;
        count += 1;
        mail.received(count).await;
        browser.go(&format!("{issuer}/login")).await;
        browser.type_into("#password", "nine grey owls before noon").await;
        browser.type_into("#login", &email).await;
        browser.click("button.button").await;
        heading(&browser, created).await;
        browser.close().await;
    }
}

/// Waits for a page; WebDriver reads it where the page itself may run nothing.
async fn heading(browser: &Chromium, text: &str) {
    until(text, || async {
        let source = browser.ask_get("source").await;
        source.as_str()?.contains(text).then_some(())
    })
    .await;
}

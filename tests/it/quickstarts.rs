//! The quickstarts of `docs/quickstarts`, each followed from an empty folder to a user who has
//! logged in, in Chromium. What is installed and run comes from the text of the page. Those of the
//! TypeScript kit (Next.js, Express, a single-page application) are tested in `clients/typescript`.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::StatusCode;
use tempfile::TempDir;

use crate::support::{
    PASSWORD, TestServer,
    chromium::{Chromium, until},
    documentation::{Page, run_commands, secret_in},
    process::free_port,
    send,
};

/// A page that has been followed up to the start of its programs.
struct Quickstart {
    page: Page,
    server: TestServer,
    folder: TempDir,
    /// The port that the page calls 3000.
    port: String,
    /// The secret that its commands have printed, if they add a client.
    secret: String,
}

impl Quickstart {
    /// Starts a server with the settings of the page, runs its commands, and writes its files.
    async fn follow(name: &str) -> Self {
        let page = Page::read(&format!("docs/quickstarts/{name}.md"));
        let port = free_port().to_string();
        let commands = page.block("propusk").replace("3000", &port);
        let exported = commands.lines().filter_map(|line| line.strip_prefix("export "));
        let settings: Vec<_> =
            exported.map(|line| line.split_once('=').expect("NAME=value")).collect();
        let server = TestServer::at_its_issuer(&settings).await;
        server.register("ann").await;
        // The server runs already.
        let printed = run_commands(&server, &commands.replace("propusk serve\n", ""));
        let has_client = commands.contains("propusk client add");
        let secret = if has_client { secret_in(&printed) } else { String::new() };
        let folder = tempfile::tempdir().expect("a folder");
        let followed = Self { page, server, folder, port, secret };
        for (title, text) in followed.page.blocks() {
            if title.contains('.') {
                let file = followed.folder.path().join(&title);
                std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
                std::fs::write(file, followed.here(&text)).expect("a file");
            }
        }
        followed
    }

    /// A text of the page with the addresses and the secret of this test.
    fn here(&self, text: &str) -> String {
        let server = self.server.base.trim_start_matches("http://");
        text.replace("3000", &self.port)
            .replace("127.0.0.1:8080", server)
            .replace("../propusk/", concat!(env!("CARGO_MANIFEST_DIR"), "/"))
            .replace('…', &self.secret)
    }

    /// The URL that the page calls `http://127.0.0.1:3000`.
    fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes what `./dev/test` has installed the application's, which the page installs in the same
    /// versions: they are listed in `pins`.
    fn installed(&self, name: &str, source: &Path, pins: &str) {
        let install = self.page.block("install");
        let versions: Vec<_> = install
            .split_whitespace()
            .filter(|word| word.contains("==") || word.trim_start_matches('@').contains('@'))
            .collect();
        assert!(versions.len() >= 3, "{install}");
        for version in versions {
            let pin = match version.rsplit_once('@') {
                Some((package, version)) => format!("{package:?}: {version:?}"),
                None => version.to_owned(),
            };
            let is_pinned = pins.lines().any(|line| line.trim().trim_end_matches(',') == pin);
            assert!(is_pinned, "{pin} is not what is tested");
        }
        std::os::unix::fs::symlink(source, self.folder.path().join(name)).expect("a link");
    }

    /// Starts the commands of a block.
    fn start(&self, title: &str) -> Running {
        use std::os::unix::process::CommandExt;
        let log = self.folder.path().join(format!("{title}.log"));
        let file = std::fs::File::create(&log).expect("a log");
        let child = Command::new("sh")
            .args(["-ec", &self.here(&self.page.block(title))])
            .current_dir(self.folder.path())
            // The modules of Go are those that ./dev/test has fetched.
            .envs([("GOPROXY", "off"), ("GOFLAGS", "-mod=mod"), ("PYTHONDONTWRITEBYTECODE", "1")])
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log"))
            .stderr(file)
            .process_group(0)
            .spawn()
            .expect("sh");
        Running { child, log }
    }

    /// Runs the commands of a block to their end.
    fn run(&self, title: &str) {
        let mut running = self.start(title);
        let status = running.child.wait().expect("a child");
        assert!(status.success(), "{}", running.printed());
    }

    /// Starts the application, and waits until it answers.
    async fn serve(&self) -> Running {
        let mut running = self.start("run");
        for _ in 0..1200 {
            let exit = running.child.try_wait().expect("a child");
            assert!(exit.is_none(), "{}", running.printed());
            if self.server.http.get(format!("{}/", self.base())).send().await.is_ok() {
                return running;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not listen after 60 s: {}", running.printed());
    }

    /// Logs in at `login`, which leads to Propusk, reads from the API, and logs out: `confirmation`
    /// is what the application asks then, and it leads to a page with the element `end`.
    async fn log_in_use_and_log_out(&self, login: &str, confirmation: Option<&str>, end: &str) {
        let (base, running) = (self.base(), self.serve().await);
        let (api, http) = (format!("{base}/api/orders"), &self.server.http);
        // Valid, for another audience.
        let other = self.server.login("ann").await.tokens().access;
        for request in [http.get(&api), http.get(&api).bearer_auth(other)] {
            let reply = send(request).await.expect(StatusCode::UNAUTHORIZED);
            let challenge = reply.header("www-authenticate").to_lowercase();
            assert!(challenge.starts_with("bearer"), "{challenge}");
        }

        let browser = Chromium::open("en").await;
        browser.go(&format!("{base}{login}")).await;
        log_in(&browser).await;
        until("the way back", || async {
            let url = browser.run("return location.href").await;
            url.as_str()?.starts_with(&base).then_some(())
        })
        .await;
        for (path, expected) in [("/orders", "a lighthouse"), ("/", "ann@example.org")] {
            browser.go(&format!("{base}{path}")).await;
            let page = browser.run("return document.body.innerText").await;
            let shown = page.as_str().is_some_and(|page| page.contains(expected));
            assert!(shown, "{path}: {page}\n{}", running.printed());
        }
        browser.click("#log-out").await;
        if let Some(confirmation) = confirmation {
            browser.click(confirmation).await;
        }
        browser.text(end).await;
        // Propusk does not know the user any more either.
        browser.go(&format!("{base}{login}")).await;
        browser.text(LOGIN).await;
        browser.quit().await;
    }
}

/// The form of Propusk's login page.
const LOGIN: &str = "form[action='/login']";

/// The user logs in at Propusk, and consents.
async fn log_in(browser: &Chromium) {
    browser.type_into("#login", "ann@example.org").await;
    browser.type_into("[name=password]", PASSWORD).await;
    browser.click(&format!("{LOGIN} button[type=submit]")).await;
    browser.click("[name=decision][value=allow]").await;
}

/// Commands that run; they are killed with what they have started when this is dropped.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// A folder that `./dev/test` has set up.
fn set_up(variable: &str) -> PathBuf {
    let folder = std::env::var(variable);
    folder.unwrap_or_else(|_| panic!("{variable} names no folder: run ./dev/test")).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python and Chromium: run ./dev/test"]
async fn the_python_quickstart_leads_to_a_login_and_an_api() {
    let quickstart = Quickstart::follow("python").await;
    let python = set_up("PROPUSK_TEST_CLIENTS_DIR").join("python");
    quickstart.installed(".venv", &python, include_str!("../clients/requirements.txt"));
    quickstart.log_in_use_and_log_out("/login", None, "#log-in").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and Chromium: run ./dev/test"]
async fn the_go_quickstart_leads_to_a_login_and_an_api() {
    let quickstart = Quickstart::follow("go").await;
    quickstart.run("install");
    quickstart.log_in_use_and_log_out("/login", None, "#log-in").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java, Maven and Chromium: run ./dev/test"]
async fn the_spring_boot_quickstart_leads_to_a_login_and_an_api() {
    let quickstart = Quickstart::follow("spring-boot").await;
    quickstart.run("install");
    // What the build needs has been fetched by ./dev/test.
    let settings = quickstart.folder.path().join(".mvn");
    std::fs::create_dir(&settings).expect("a folder");
    std::fs::write(settings.join("maven.config"), "-o\n-q\n-B\n").expect("a file");
    quickstart.log_in_use_and_log_out("/", Some("button[type=submit]"), LOGIN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and Chromium: run ./dev/test"]
async fn the_mcp_quickstart_leads_to_a_login_and_a_tool() {
    let quickstart = Quickstart::follow("mcp").await;
    let modules = set_up("PROPUSK_TEST_CLIENTS_DIR").join("node_modules");
    quickstart.installed("node_modules", &modules, include_str!("../clients/package.json"));
    let server = quickstart.serve().await;
    let client = quickstart.start("client");
    let url = until("a URL to open", || async {
        let printed = client.printed();
        printed.lines().find_map(|line| line.strip_prefix("Open ")).map(str::to_owned)
    });
    let browser = Chromium::open("en").await;
    browser.go(&url.await).await;
    log_in(&browser).await;
    browser.text_is("body", "You are logged in, and can close this window.").await;
    until(&format!("a note from\n{}", server.printed()), || async {
        client.printed().contains("\nthe lighthouse note of ").then_some(())
    })
    .await;
    browser.quit().await;
    // A valid token with another audience is refused, with a hint where to get one.
    let token = quickstart.server.login("ann").await.tokens().access;
    let request = quickstart.server.http.post(format!("{}/mcp", quickstart.base()));
    let refused = send(request.bearer_auth(token)).await.expect(StatusCode::UNAUTHORIZED);
    let challenge = refused.header("www-authenticate").to_owned();
    assert!(challenge.contains("/.well-known/oauth-protected-resource/mcp"), "{challenge}");
}

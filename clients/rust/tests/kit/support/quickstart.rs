//! A quickstart, followed as it is written.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use reqwest::{Client, cookie::Jar};
use tempfile::TempDir;

use super::server::{PASSWORD, Server, eventually, free_port, secret_in};

/// What the quickstarts name, and is another address here.
const APPLICATION: &str = "127.0.0.1:3000";

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Ends the application when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Follows the quickstart of a framework: the project that its commands create is the crate in
/// `examples`, whose binary runs. With `PROPUSK_TEST_NEW_PROJECT_TARGET`, a folder for Cargo, the
/// project itself is compiled there, with the features and versions that it gets outside of the
/// workspace, and runs instead.
pub async fn follow(framework: &str, binary: &str) {
    let page = root().join(format!("docs/quickstarts/{framework}.md"));
    let page = blocks(&fs::read_to_string(page).expect("the page"));
    let example = root().join("examples").join(framework);
    let folder = assert_is_project(&page["project"], &page["src/main.rs"], &example);
    let new = std::env::var_os("PROPUSK_TEST_NEW_PROJECT_TARGET");
    let binary = new.map_or_else(|| PathBuf::from(binary), |target| build(&folder, &target));

    let listen = format!("127.0.0.1:{}", free_port());
    let setup = page["propusk"].replace(APPLICATION, &listen).replace("\\\n", " ");
    let lines: Vec<_> = setup.lines().map(str::trim).collect();
    let exported = lines.iter().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    let server = Server::start(&exported.collect::<Vec<_>>()).await;
    let commands = lines.iter().filter_map(|line| line.strip_prefix("propusk "));
    let run = |line: &str| server.run(&words(line).iter().map(String::as_str).collect::<Vec<_>>());
    let printed: String = commands.filter(|line| *line != "serve").map(run).collect();

    let mut command = Command::new(binary);
    command
        .env("PROPUSK_URL", &server.issuer)
        .env("PROPUSK_FEED_SECRET", secret_in(&printed))
        .env("LISTEN", &listen)
        .stdin(Stdio::null());
    let _running = Running(command.spawn().expect("it starts"));
    let base = format!("http://{listen}");
    let is_up = || async { reqwest::get(format!("{base}/")).await.is_ok() };
    eventually("the application listens", Duration::from_secs(15), is_up).await;

    let jar = Arc::new(Jar::default());
    let browser = Browser {
        http: Client::builder().cookie_provider(Arc::clone(&jar)).build().expect("a client"),
        issuer: server.issuer.clone(),
    };
    assert_eq!(browser.open(&format!("{base}/")).await.1, "Hello");
    // Registration at the login page, and back.
    let (url, login) = browser.open(&format!("{base}/account")).await;
    assert!(url.starts_with(&format!("{}/login", server.issuer)), "{url}");
    let register = link(&login, "/register");
    let (_, form) = browser.open(&format!("{}{register}", server.issuer)).await;
    let typed = [("email", "vera@example.org"), ("username", "vera"), ("password", PASSWORD)];
    let (url, account) = browser.submit(&form, &typed).await;
    assert_eq!(url, format!("{base}/account"), "{account}");
    assert!(account.contains("<h1>Account</h1>"), "{account}");
    assert_eq!(browser.open(&format!("{base}/")).await.1, "Hello, vera@example.org");
    // The module, which the next access token has.
    let (_, refused) = browser.open(&format!("{base}/crm")).await;
    assert!(refused.contains("lacks the module `crm`"), "{refused}");
    server.run(&["module", "grant", "vera", "crm"]);
    let origin = base.parse().expect("a URL");
    jar.add_cookie_str("propusk_access=; Path=/; Max-Age=0", &origin);
    assert_eq!(browser.open(&format!("{base}/crm")).await.1, "[\"crm\"]");
    // Sign-out, and login.
    let (url, home) = browser.send(browser.http.post(format!("{base}/sign-out"))).await;
    assert_eq!((url.as_str(), home.as_str()), (format!("{base}/").as_str(), "Hello"));
    let (_, login) = browser.open(&format!("{base}/account")).await;
    let typed = [("login", "vera"), ("password", PASSWORD)];
    let (url, _) = browser.submit(&login, &typed).await;
    assert_eq!(url, format!("{base}/account"));
}

/// Compiles the project that the commands have created.
fn build(folder: &TempDir, target: &OsStr) -> PathBuf {
    let status = Command::new(std::env::var("CARGO").expect("cargo runs the tests"))
        .arg("build")
        .current_dir(folder.path().join("shop"))
        .env("CARGO_TARGET_DIR", target)
        .status()
        .expect("cargo");
    assert!(status.success(), "cargo build: {status}");
    Path::new(target).join("debug/shop")
}

/// Runs the commands that create a project, writes its source, and compares it with the example.
fn assert_is_project(commands: &str, main: &str, example: &Path) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(root(), folder.path().join("propusk")).expect("a link");
    let cargo = std::env::var("CARGO").expect("cargo runs the tests");
    let status = Command::new("sh")
        // Under another name it would wait for the build that runs this test.
        .args(["-ec", &format!("cargo() {{ \"{cargo}\" \"$@\"; }}\n{commands}")])
        .env("CARGO_NET_OFFLINE", "true")
        .current_dir(folder.path())
        .output()
        .expect("sh");
    assert!(status.status.success(), "{status:?}");
    let made = fs::read_to_string(folder.path().join("shop/Cargo.toml")).expect("a manifest");
    let expected = fs::read_to_string(example.join("Cargo.toml")).expect("a manifest");
    assert_eq!(dependencies(&made), dependencies(&expected));
    let source = fs::read_to_string(example.join("src/main.rs")).expect("a source");
    assert_eq!(main, source, "the page and {} differ", example.display());
    fs::write(folder.path().join("shop/src/main.rs"), main).expect("written");
    folder
}

/// The dependencies of a manifest, without the place of the kit.
fn dependencies(manifest: &str) -> BTreeMap<String, String> {
    let (_, section) = manifest.split_once("[dependencies]\n").expect("dependencies");
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let pairs = lines.filter_map(|line| line.split_once(" = "));
    let place = |value: &str| match value.split_once("path = \"") {
        Some((before, rest)) => {
            let (path, after) = rest.split_once('"').expect("its end");
            assert!(path.ends_with("clients/rust"), "{path}");
            format!("{before}path{after}")
        }
        None => value.to_owned(),
    };
    pairs.map(|(name, value)| (name.to_owned(), place(value))).collect()
}

/// The code blocks of a page by their titles: ```rust src/main.rs
fn blocks(page: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some((indent, head)) = line.split_once("```") else { continue };
        let block = lines.by_ref().take_while(|line| line.trim() != "```");
        let block = block.map(|line| format!("{}\n", line.strip_prefix(indent).unwrap_or(line)));
        let code: String = block.collect();
        if let Some((_, title)) = head.split_once(' ') {
            found.insert(title.to_owned(), code);
        }
    }
    found
}

/// The words of a command; those in quotation marks are one.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    for (index, part) in line.split('"').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// A browser without scripts.
struct Browser {
    http: Client,
    issuer: String,
}

impl Browser {
    /// Where a request has led, and the page there.
    async fn send(&self, request: reqwest::RequestBuilder) -> (String, String) {
        let response = request.header("accept", "text/html").send().await.expect("an answer");
        let url = response.url().to_string();
        (url, response.text().await.expect("text"))
    }

    async fn open(&self, url: &str) -> (String, String) {
        self.send(self.http.get(url)).await
    }

    /// Submits the form of a page of the server.
    async fn submit(&self, page: &str, typed: &[(&str, &str)]) -> (String, String) {
        let tags = || page.split('<');
        let form = tags().find(|tag| tag.starts_with("form") && tag.contains("method=\"post\""));
        let form = form.unwrap_or_else(|| panic!("no form: {page}"));
        let action = attribute(form, "action").expect("an action");
        let hidden = tags().filter(|tag| tag.starts_with("input") && tag.contains("\"hidden\""));
        let hidden = hidden.filter_map(|tag| {
            Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default()))
        });
        let typed = typed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let fields: Vec<_> = hidden.chain(typed).collect();
        let request = self.http.post(format!("{}{action}", self.issuer)).form(&fields);
        self.send(request).await
    }
}

/// The link of a page that begins so.
fn link(page: &str, begin: &str) -> String {
    let links = page.split('<').filter_map(|tag| attribute(tag, "href"));
    let mut links = links.filter(|link| link.starts_with(begin));
    links.next().unwrap_or_else(|| panic!("no link to {begin}: {page}"))
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, value) = tag.split_once(&format!(" {name}=\""))?;
    let (value, _) = value.split_once('"')?;
    Some(value.replace("&#34;", "\"").replace("&#38;", "&").replace("&amp;", "&"))
}

//! The binary of the server in a process of its own, on SQLite in a temporary folder.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

pub const PASSWORD: &str = "seven blue herons at dawn";

/// The binary that is tested: `PROPUSK_BIN`, else the one that `cargo build` writes.
fn binary() -> PathBuf {
    let built = || {
        // target/debug/deps/kit-…
        let this = std::env::current_exe().expect("a path");
        this.ancestors().nth(2).expect("the folder of the profile").join("propusk")
    };
    let path = std::env::var_os("PROPUSK_BIN").map_or_else(built, PathBuf::from);
    assert!(path.exists(), "{}: cargo build, or set PROPUSK_BIN", path.display());
    path
}

/// A port that was free a moment ago, below those of outgoing connections.
pub fn free_port() -> u16 {
    loop {
        let bytes = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let port = 20_000 + u16::try_from(bytes % 12_000).expect("it is small");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A server; killed when it is dropped.
pub struct Server {
    pub issuer: String,
    folder: tempfile::TempDir,
    settings: Vec<(String, String)>,
    child: Option<Child>,
}

impl Server {
    /// Starts a server at its issuer's URL.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let issuer = format!("http://{address}");
        let own = [
            ("PROPUSK_SERVER__LISTEN", address.as_str()),
            ("PROPUSK_SERVER__ISSUER", &issuer),
            ("PROPUSK_GRPC__LISTEN", ""),
            ("PROPUSK_METRICS__LISTEN", ""),
            ("PROPUSK_LIMITS__ENABLED", "false"),
            ("PROPUSK_PASSWORDS__MEMORY_KIB", "64"),
            ("PROPUSK_PASSWORDS__ITERATIONS", "1"),
            ("PROPUSK_SERVER__SHUTDOWN_GRACE", "1s"),
        ];
        let all = own.iter().chain(settings);
        let settings = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Self { issuer, folder, settings, child: None };
        server.serve().await;
        server
    }

    /// Starts the process, again at the same address and on the same database.
    pub async fn serve(&mut self) {
        let log = self.folder.path().join("log");
        let file = std::fs::File::create(&log).expect("a log");
        let out = file.try_clone().expect("a file");
        let mut command = self.command();
        command.arg("serve").stdout(out).stderr(file);
        let mut child = command.spawn().expect("the server starts");
        let url = format!("{}/api/v1/auth/health/ready", self.issuer);
        for _ in 0..1_200 {
            if let Some(status) = child.try_wait().expect("a child") {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("the server exited with {status}: {log}");
            }
            if reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
                self.child = Some(child);
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let _ = child.kill();
        panic!("the server is not ready after 30 s");
    }

    /// kill -9
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("gone");
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PROPUSK_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.folder.path())
            .env("PROPUSK_DATA_DIR", self.folder.path())
            .envs(self.settings.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of the binary; returns what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().expect("propusk runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Adds a client; returns its secret.
    pub fn add_client(&self, id: &str, scope: &str) -> String {
        secret_in(&self.run(&["client", "add", id, "--scope", scope]))
    }

    /// Adds the module `crm` with the scope `crm:read`.
    pub fn add_module(&self) {
        let texts = ["en=CRM", "ru=CRM"];
        let mut arguments = vec!["module", "add", "crm", "--scope", "crm:read"];
        for option in ["--name", "--description"] {
            arguments.extend(texts.iter().flat_map(|text| [option, text]));
        }
        self.run(&arguments);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The secret that a command has printed.
pub fn secret_in(printed: &str) -> String {
    let secret = printed.lines().find_map(|line| line.strip_prefix("secret (shown once): "));
    secret.unwrap_or_else(|| panic!("no secret: {printed}")).to_owned()
}

/// Waits until something holds.
#[track_caller]
pub fn eventually<F: Future<Output = bool>>(
    what: &str,
    within: Duration,
    mut holds: impl FnMut() -> F,
) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let began = std::time::Instant::now();
        while !holds().await {
            assert!(began.elapsed() < within, "{place}: not within {within:?}: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

//! The binary in a process of its own.

use std::{
    ffi::OsStr,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use super::Database;

/// A running `propusk serve`; killed when it is dropped.
pub struct Process {
    child: Child,
    /// The files with its standard error and standard output: a pipe that nobody reads would block
    /// it.
    log: PathBuf,
    output: PathBuf,
    pub base: String,
}

impl Process {
    /// Starts the server on a database and waits until it is ready.
    pub async fn serve(database: &Database, settings: &[(&str, &str)]) -> Self {
        Self::start(database, command(database, settings)).await
    }

    /// As [`Process::serve`], with the file mode creation mask that most systems have.
    pub async fn serve_with_umask_022(database: &Database, settings: &[(&str, &str)]) -> Self {
        let plain = command(database, settings);
        let mut command = Command::new("sh");
        command.args(["-c", "umask 022; exec \"$0\" \"$@\""]).arg(plain.get_program());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(database.folder.path()).stdin(Stdio::null());
        Self::start(database, command).await
    }

    async fn start(database: &Database, mut command: Command) -> Self {
        let address = free_address();
        command.env("PROPUSK_SERVER__LISTEN", &address).arg("serve");
        let log = database.folder.path().join(format!("{}.log", address.replace(':', "-")));
        let stderr = std::fs::File::create(&log).expect("a log");
        let output = log.with_extension("out");
        let stdout = std::fs::File::create(&output).expect("a file");
        let child = command.stdout(stdout).stderr(stderr).spawn().expect("it starts");
        let base = format!("http://{address}");
        let mut process = Self { child, log, output, base };
        process.wait_until_ready().await;
        process
    }

    /// Polls: another process cannot be awaited otherwise.
    async fn wait_until_ready(&mut self) {
        for _ in 0..600 {
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("the server exited with {status}: {}", self.stderr());
            }
            let ready = reqwest::get(format!("{}/api/v1/auth/health/ready", self.base)).await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the server is not ready after 15 s");
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(&self.output).expect("the output")
    }

    /// kill -9
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// SIGTERM, and the exit status.
    pub async fn terminate(mut self) -> std::process::ExitStatus {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("kill");
        tokio::task::spawn_blocking(move || self.child.wait().expect("a child"))
            .await
            .expect("a thread")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that ends with this process, however this ends. (The kernel means the thread: that of
/// a test, where it is not spawned from a task of its own.)
pub fn ending_with_us(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// The binary with the settings of a database, and no other PROPUSK_ variable of this environment.
pub fn command(database: &Database, settings: &[(&str, &str)]) -> Command {
    let mut command = bare_command(database.folder.path());
    command.envs(database.settings()).envs(settings.iter().copied());
    command
}

/// The binary in a folder, without any setting.
pub fn bare_command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_propusk"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PROPUSK_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs a command of the binary to its end.
pub fn run(database: &Database, settings: &[(&str, &str)], args: &[&str]) -> Output {
    command(database, settings).args(args).output().expect("it runs")
}

/// Sets an empty database up: only this and serving create what other commands need.
pub fn set_up(database: &Database) {
    let output = run(database, &[], &["migrate"]);
    assert!(output.status.success(), "{output:?}");
}

/// The peak of a process's resident memory so far, in KiB; `None` once it has ended.
pub fn peak_memory(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Go's compiler, one at a time: each takes every processor, and two compile what they share twice.
pub static GO_COMPILER: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A port that was free a moment ago, and that no other test of this process gets. It is below the
/// ephemeral ports, so that no outgoing connection takes it before the server listens, or while the
/// server is down.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    static START: LazyLock<u16> = LazyLock::new(|| {
        let mut bytes = [0; 2];
        propusk::clock::Rng::system().fill(&mut bytes);
        u16::from_be_bytes(bytes) % COUNT
    });
    (0..COUNT)
        .map(|_| FIRST + (*START + TAKEN.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// The address of a [`free_port`].
pub fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

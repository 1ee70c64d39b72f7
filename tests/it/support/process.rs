//! The program itself, as a process of its own.

use std::{
    io::Read,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use super::Database;

/// A running `propusk serve`; killed when it is dropped.
pub struct Process {
    child: Child,
    pub base: String,
}

impl Process {
    /// Starts the program on a database and waits until it is ready.
    pub async fn serve(database: &Database, settings: &[(&str, &str)]) -> Self {
        let address = free_address();
        let mut command = command(database, settings);
        command.env("PROPUSK_SERVER__LISTEN", &address).arg("serve");
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut process = Self {
            child,
            base: format!("http://{address}"),
        };
        process.wait_until_ready().await;
        process
    }

    /// Polls, because there is no other way to ask a process of its own.
    async fn wait_until_ready(&mut self) {
        for _ in 0..600 {
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("the program ended with {status}: {}", self.stderr());
            }
            let ready = reqwest::get(format!("{}/api/v1/auth/health/ready", self.base)).await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the program is not ready after 15 s");
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }

    /// kill -9
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program with the settings of a database and nothing else of this environment that concerns it.
pub fn command(database: &Database, settings: &[(&str, &str)]) -> Command {
    let mut command = bare_command(database.folder.path());
    command
        .envs(database.settings())
        .envs(settings.iter().copied());
    command
}

/// The program in a folder, without any setting.
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

/// Runs a command of the program to its end.
pub fn run(database: &Database, settings: &[(&str, &str)], args: &[&str]) -> Output {
    command(database, settings)
        .args(args)
        .output()
        .expect("it runs")
}

/// An address that was free a moment ago.
pub fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

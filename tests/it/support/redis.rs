//! A Redis for one test, which it can kill, pause, flush and restore.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use redis::{Connection, FromRedisValue};
use tempfile::TempDir;

use super::process::free_port;

/// A running `redis-server`; killed when it is dropped.
pub struct Redis {
    child: Child,
    port: u16,
    folder: TempDir,
    options: Vec<String>,
}

impl Redis {
    /// Starts one on a free port, with further options: `["--maxmemory", "2mb"]`.
    pub fn start(options: &[&str]) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let child = spawn(port, &folder, &options);
        let mut redis = Self { child, port, folder, options };
        redis.wait_until_ready();
        redis
    }

    /// A Sentinel that monitors a master under a name.
    pub fn start_sentinel(name: &str, master: u16) -> Self {
        let sentinel = Self::start(&["--sentinel", "--protected-mode", "no"]);
        let port = master.to_string();
        let _: String = sentinel.run(&["SENTINEL", "MONITOR", name, "127.0.0.1", &port, "1"]);
        sentinel
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Runs a command, on a connection of its own.
    pub fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut self.connection()).expect("an answer")
    }

    fn connection(&self) -> Connection {
        let client = redis::Client::open(self.url()).expect("a URL");
        client.get_connection().expect("a connection")
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child");
        self.child.wait().expect("its end");
    }

    /// Starts it again with the dump in its folder.
    pub fn restart(&mut self) {
        self.child = spawn(self.port, &self.folder, &self.options);
        self.wait_until_ready();
    }

    /// Its current data, for [`Redis::restore`].
    pub fn dump(&self) -> Vec<u8> {
        let _: String = self.run(&["SAVE"]);
        std::fs::read(self.dump_file()).expect("the dump")
    }

    /// Ends it and starts it again with an old dump.
    pub fn restore(&mut self, dump: &[u8]) {
        self.kill();
        std::fs::write(self.dump_file(), dump).expect("the dump is written");
        self.restart();
    }

    fn dump_file(&self) -> PathBuf {
        self.folder.path().join("dump.rdb")
    }

    /// Stops its process: connections stay open, and nothing is answered.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    fn wait_until_ready(&mut self) {
        for _ in 0..400 {
            let client = redis::Client::open(self.url()).expect("a URL");
            let answered = client
                .get_connection()
                .and_then(|mut connection| redis::cmd("PING").query::<String>(&mut connection));
            if answered.is_ok() {
                return;
            }
            assert!(self.child.try_wait().expect("a child").is_none(), "redis-server exited");
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        panic!("redis-server does not answer");
    }
}

fn spawn(port: u16, folder: &TempDir, options: &[String]) -> Child {
    let program = std::env::var("PROPUSK_TEST_REDIS_SERVER")
        .expect("PROPUSK_TEST_REDIS_SERVER names no redis-server: run ./dev/test");
    let mut command = Command::new(program);
    if options.iter().any(|option| option == "--sentinel") {
        let file = folder.path().join("sentinel.conf"); // it keeps what it learns there
        std::fs::write(&file, "").expect("a file");
        command.arg(file);
    }
    command
        .args([
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
        ])
        .arg(folder.path())
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server starts")
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

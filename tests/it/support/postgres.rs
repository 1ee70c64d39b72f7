//! A PostgreSQL for one test, which it can stop and demote, and a PgBouncer.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;
use url::Url;

use super::process::free_port;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ./dev/test"))
}

/// A command as the user who runs the services: both programs refuse to run as root.
fn as_service_user(program: &Path) -> Command {
    let is_root = fs::metadata("/proc/self").expect("/proc").uid() == 0;
    let mut command = if is_root {
        let user = variable("PROPUSK_TEST_SERVICES_USER");
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={user}")).arg(format!("--regid={}", group_of(&user)));
        command.args(["--clear-groups", "--pdeathsig", "INT", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/").stdin(Stdio::null());
    command
}

fn group_of(user: &str) -> String {
    let output = Command::new("id").args(["-g", user]).output().expect("id runs");
    String::from_utf8(output.stdout).expect("a number").trim().to_owned()
}

/// A folder in which the services' user may create files.
fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(folder.path(), open).expect("open to all");
    folder
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// A running server; ended when it is dropped.
pub struct Postgres {
    child: Option<Child>,
    port: u16,
    folder: TempDir,
}

impl Postgres {
    /// Initialises one and starts it.
    pub async fn start() -> Self {
        let folder = open_folder();
        let output = as_service_user(&program("initdb"))
            .arg("-D")
            .arg(folder.path().join("data"))
            .args(["-U", "propusk", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .output()
            .expect("initdb runs");
        assert!(output.status.success(), "{output:?}");
        let mut postgres = Self { child: None, port: free_port(), folder };
        postgres.start_again().await;
        postgres
    }

    pub fn url(&self) -> String {
        format!("postgres://propusk@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it again; returns once it answers.
    pub async fn start_again(&mut self) {
        let log = fs::File::create(self.folder.path().join("log")).expect("a log");
        // What is committed survives the end of the process, though not of the machine.
        let child = as_service_user(&program("postgres"))
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args(["-p", &self.port.to_string(), "-c", "fsync=off"])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("PostgreSQL starts"));
        for _ in 0..400 {
            if let Ok(connection) = PgConnection::connect(&self.url()).await {
                let _ = connection.close().await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        panic!("PostgreSQL does not answer after 10 s: {log}");
    }

    /// Ends it by a signal: `INT` terminates the sessions (fast shutdown), `QUIT` is a crash.
    pub async fn stop(&mut self, by: &str) {
        let mut child = self.child.take().expect("it runs");
        signal(&child, by);
        let ended = tokio::task::spawn_blocking(move || child.wait());
        ended.await.expect("a thread").expect("its end");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(&child, "QUIT");
            let _ = child.wait();
        }
    }
}

fn program(name: &str) -> PathBuf {
    Path::new(&variable("PROPUSK_TEST_POSTGRES_BIN")).join(name)
}

/// Runs a statement on a database, on a connection of its own.
pub async fn run_in(url: &str, sql: &str) -> u64 {
    let mut connection = PgConnection::connect(url).await.expect("PostgreSQL answers");
    let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    let done = statement.execute(&mut connection).await.expect("it runs");
    let _ = connection.close().await;
    done.rows_affected()
}

/// The URL of the same database at another address.
pub fn at(url: &str, port: u16) -> String {
    let mut url = Url::parse(url).expect("a URL");
    url.set_host(Some("127.0.0.1")).expect("a host");
    url.set_port(Some(port)).expect("a port");
    url.into()
}

/// Runs a statement on the same server, outside of the database of a URL, whose name replaces `{}`.
pub async fn run_beside(url: &str, sql: &str) -> u64 {
    let mut url = Url::parse(url).expect("a URL");
    let database = url.path().trim_start_matches('/').to_owned();
    url.set_path("postgres");
    run_in(url.as_str(), &sql.replace("{}", &database)).await
}

/// Terminates the sessions of a database; returns how many there were.
pub async fn terminate_sessions(url: &str) -> u64 {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'";
    run_beside(url, sql).await
}

/// A running PgBouncer in transaction mode; killed when it is dropped.
pub struct PgBouncer {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl PgBouncer {
    /// In front of the server of a URL, with at most `connections` connections to it.
    pub async fn start(url: &str, connections: usize) -> Self {
        let folder = open_folder();
        let server = Url::parse(url).expect("a URL");
        let (port, log) = (free_port(), folder.path().join("log"));
        let configuration = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={} user={} password={}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = transaction\n\
             default_pool_size = {connections}\n\
             max_client_conn = 200\n\
             logfile = {}\n",
            server.port().expect("a port"),
            server.username(),
            server.password().unwrap_or_default(),
            log.display(),
        );
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, configuration).expect("written");
        let child = as_service_user(Path::new(&variable("PROPUSK_TEST_PGBOUNCER")))
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("PgBouncer starts");
        let bouncer = Self { child, port, _folder: folder };
        for _ in 0..400 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return bouncer;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("PgBouncer does not answer: {}", fs::read_to_string(log).unwrap_or_default());
    }

    /// The URL of the same database behind it.
    pub fn url(&self, url: &str) -> String {
        at(url, self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

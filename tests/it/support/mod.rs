//! A real server on a free loopback port, with a clock that stands until a test moves it.

pub mod admin;
pub mod chromium;
pub mod customer_service;
pub mod documentation;
pub mod dpop;
pub mod exchange;
pub mod external_server;
pub mod grpc;
pub mod hold;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod mail;
pub mod nginx;
pub mod oauth;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod second_factor;
mod template;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use propusk::{
    app::App,
    clock::{Clock, Rng, Timestamp},
    config::Config,
    server::Server,
    storage::Db,
};
use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// The database that a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// Runs each listed `async fn name(backend: Backend)` of the Rust module on both databases, as
/// `name::sqlite` and `name::postgres`. Plain `cargo test` reports the tests that need PostgreSQL
/// as ignored; `./dev/test` runs them. With `requires "nginx":` in front, the tests need that
/// service too and are all left to `./dev/test`. A test that is not listed is dead code, which CI
/// refuses.
macro_rules! backend_tests {
    (requires $service:literal: $($name:ident),+ $(,)?) => {
        $(mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = concat!("needs ", $service, ": run ./dev/test")]
            async fn sqlite() {
                super::$name(crate::support::Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = concat!("needs PostgreSQL and ", $service, ": run ./dev/test")]
            async fn postgres() {
                super::$name(crate::support::Backend::Postgres).await;
            }
        })+
    };
    ($($name:ident),+ $(,)?) => {
        $(mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name(crate::support::Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs PostgreSQL: run ./dev/test"]
            async fn postgres() {
                super::$name(crate::support::Backend::Postgres).await;
            }
        })+
    };
}
pub(crate) use backend_tests;

/// A password that the policy accepts.
pub const PASSWORD: &str = "seven blue herons at dawn";

/// The time at which every test begins: 2026-11-21T00:00:00Z.
pub const START: Timestamp = Timestamp(1_795_219_200_000_000);

/// A database for one test, which ends with it.
pub struct Database {
    pub folder: TempDir,
    /// `None`: SQLite in the folder.
    pub url: Option<String>,
    /// The database of PostgreSQL.
    pub owned: Option<OwnedDatabase>,
}

/// A database of PostgreSQL by name, dropped with the last of what uses it: hundreds of them would
/// be gigabytes.
pub struct OwnedDatabase(String);

impl Drop for OwnedDatabase {
    /// Nothing waits for it.
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.0);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let dropped = run_in_postgres(format!("DROP DATABASE {name} WITH (FORCE)"));
            runtime.expect("a runtime").block_on(dropped);
        });
    }
}

impl Database {
    /// An empty database: the first process to open it creates the tables and the keys.
    pub async fn new(backend: Backend) -> Self {
        Self::with_tables_of(backend, None).await
    }

    /// As [`Database::new`], or a copy of a database of PostgreSQL.
    async fn with_tables_of(backend: Backend, template: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (url, owned) = match backend {
            Backend::Sqlite => (None, None),
            Backend::Postgres => {
                let (url, owned) = postgres_database(template).await;
                (Some(url), Some(owned))
            }
        };
        Self { folder, url, owned }
    }

    /// A database with the tables and keys of a first start at [`START`], and nothing else. For
    /// servers whose clock begins there.
    pub async fn prepared(backend: Backend) -> Self {
        static TEMPLATES: template::Templates = template::Templates::new();
        template::copy(&TEMPLATES, backend, &Clock::fake(START)).await
    }

    /// As [`Database::prepared`], for servers with the system's clock.
    pub async fn prepared_by_system_time(backend: Backend) -> Self {
        static TEMPLATES: template::Templates = template::Templates::new();
        template::copy(&TEMPLATES, backend, &Clock::system()).await
    }

    /// The database as a process that is no server has it.
    pub async fn open(&self) -> Db {
        let config = Config::load(None, self.settings().into_iter()).expect("a configuration");
        Db::open(&config).await.expect("it opens")
    }

    /// The settings of every server on this database: cheap argon2 on one thread, no rate limits,
    /// no metrics port.
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut settings: Vec<(String, String)> = [
            ("PROPUSK_SERVER__LISTEN", "127.0.0.1:0"),
            ("PROPUSK_GRPC__LISTEN", ""),
            ("PROPUSK_METRICS__LISTEN", ""),
            ("PROPUSK_LIMITS__ENABLED", "false"),
            ("PROPUSK_PASSWORDS__MEMORY_KIB", "64"),
            ("PROPUSK_PASSWORDS__ITERATIONS", "1"),
            // Of normal priority: threads that yield to all others would get no core beside the
            // other tests.
            ("PROPUSK_PASSWORDS__PERMITS", "1"),
            ("PROPUSK_SERVER__SHUTDOWN_GRACE", "2s"),
            // As where no SMTP server is configured: tests with mails set it.
            ("PROPUSK_MAIL__DELIVERY", "off"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        settings.push(("PROPUSK_DATA_DIR".to_owned(), self.folder.path().display().to_string()));
        if let Some(url) = &self.url {
            settings.push(("PROPUSK_DATABASE__URL".to_owned(), url.clone()));
            settings.push(("PROPUSK_DATABASE__MAX_CONNECTIONS".to_owned(), "8".to_owned()));
            // A machine that runs every test at once is slower than any that serves users.
            for timeout in ["CONNECT", "ACQUIRE", "STATEMENT"] {
                let key = format!("PROPUSK_DATABASE__{timeout}_TIMEOUT");
                settings.push((key, "25s".to_owned()));
            }
        }
        settings
    }
}

/// The URL of a new database: empty, or a copy of another.
async fn postgres_database(template: Option<&str>) -> (String, OwnedDatabase) {
    let mut name = [0; 8];
    Rng::system().fill(&mut name);
    let name = format!("propusk_{:016x}", u64::from_be_bytes(name));
    let template = template.unwrap_or("template1");
    // Of files, half the time of a copy by the write-ahead log.
    let copy = format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY");
    run_in_postgres(copy).await;
    let mut url = url::Url::parse(&postgres_url()).expect("a URL");
    url.set_path(&name);
    (url.into(), OwnedDatabase(name))
}

fn postgres_url() -> String {
    std::env::var("PROPUSK_TEST_POSTGRES_URL")
        .expect("PROPUSK_TEST_POSTGRES_URL names no PostgreSQL: run ./dev/test")
}

async fn run_in_postgres(statement: String) {
    use sqlx::Connection;
    let connected = sqlx::PgConnection::connect(&postgres_url()).await;
    let mut connection = connected.expect("PostgreSQL answers");
    let run = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await;
    run.expect("the statement succeeds");
    let _ = connection.close().await;
}

/// A server that runs in this process.
pub struct TestServer {
    pub app: Arc<App>,
    pub clock: Clock,
    pub base: String,
    pub grpc: Option<SocketAddr>,
    pub http: reqwest::Client,
    pub database: Arc<Database>,
    stop: Option<oneshot::Sender<()>>,
    running: tokio::task::JoinHandle<()>,
}

impl TestServer {
    /// A server on a new database.
    pub async fn start(backend: Backend) -> Self {
        Self::with(backend, &[]).await
    }

    /// As [`TestServer::start`], with settings of its own: `("PROPUSK_…", "value")`.
    pub async fn with(backend: Backend, settings: &[(&str, &str)]) -> Self {
        let own_keys = |(key, _): &(&str, &str)| {
            key.starts_with("PROPUSK_KEYS__") || key.starts_with("PROPUSK_SECRETS__")
        };
        let database = if settings.iter().any(own_keys) {
            Database::new(backend).await
        } else {
            Database::prepared(backend).await
        };
        Self::on(Arc::new(database), Clock::fake(START), settings).await
    }

    /// A server on a database that others may be using, with a clock they may share.
    pub async fn on(database: Arc<Database>, clock: Clock, settings: &[(&str, &str)]) -> Self {
        let mut all = database.settings();
        for (key, value) in settings {
            all.retain(|(known, _)| known != key);
            all.push(((*key).to_owned(), (*value).to_owned()));
        }
        let config = Config::load(None, all.into_iter()).expect("a good configuration");
        let app = App::open(config, clock.clone(), Rng::system()).await.expect("the app opens");
        let server = Server::bind(Arc::clone(&app)).expect("a free port");
        let base = format!("http://{}", server.address());
        let grpc = server.grpc_address();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            server.run(shutdown).await.expect("the server runs");
        });
        // reqwest needs a default TLS provider. An error means that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .build()
            .expect("an HTTP client");
        Self { app, clock, base, grpc, http, database, stop: Some(stop), running }
    }

    /// A server on SQLite at the URL of its issuer, on the system clock: for libraries, which check
    /// both.
    pub async fn at_its_issuer(settings: &[(&str, &str)]) -> Self {
        let address = process::free_address();
        let issuer = format!("http://{address}");
        let own =
            [("PROPUSK_SERVER__LISTEN", address.as_str()), ("PROPUSK_SERVER__ISSUER", &issuer)];
        let database = Database::prepared_by_system_time(Backend::Sqlite).await;
        Self::on(Arc::new(database), Clock::system(), &[&own, settings].concat()).await
    }

    /// Another server on the same database, with the same clock.
    pub async fn another(&self, settings: &[(&str, &str)]) -> Self {
        Self::on(Arc::clone(&self.database), self.clock.clone(), settings).await
    }

    /// Shuts down as on SIGTERM and waits until everything is closed.
    pub async fn stop(mut self) -> Arc<Database> {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        (&mut self.running).await.expect("a clean end");
        Arc::clone(&self.database)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub async fn get(&self, path: &str) -> Reply {
        send(self.request(Method::GET, path)).await
    }

    pub async fn get_as(&self, path: &str, access_token: &str) -> Reply {
        send(self.request(Method::GET, path).bearer_auth(access_token)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        send(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn post_as(&self, path: &str, access_token: &str) -> Reply {
        send(self.request(Method::POST, path).bearer_auth(access_token)).await
    }

    /// Registers `name@example.org` with [`PASSWORD`].
    pub async fn register(&self, name: &str) -> Tokens {
        let email = format!("{name}@example.org");
        let body = json!({ "email": email, "username": name, "password": PASSWORD });
        self.post("/api/v1/auth/register", body).await.expect(StatusCode::CREATED).tokens()
    }

    /// Adds a module of this server's own API, or of a resource.
    pub async fn module(&self, id: &str, scope: &str, resource: Option<&str>, self_service: bool) {
        let texts = |en: &str, ru: &str| {
            [("en", en), ("ru", ru)].map(|(tag, text)| (tag.to_owned(), text.to_owned())).into()
        };
        let module = propusk::model::module::Module {
            id: id.to_owned(),
            names: texts(&format!("The {id}"), &format!("Модуль {id}")),
            descriptions: texts("All about it", "Всё о нём"),
            scope: propusk::oauth::scope::Scope::parse(scope).expect("a scope"),
            resource: resource.map(str::to_owned),
            is_self_service: self_service,
            created_at: START,
            updated_at: START,
        };
        let by = propusk::model::actor::Actor::operator();
        propusk::flows::admin::modules::put(&self.app, module, &by).await.expect("a module");
    }

    /// Enables or disables one of a user's modules, by the JSON API.
    pub async fn switch(&self, access_token: &str, module: &str, action: &str) -> Reply {
        let path = format!("/api/v1/modules/{module}/{action}");
        self.post_as(&path, access_token).await
    }

    pub async fn login(&self, login: &str) -> Reply {
        let body = json!({ "login": login, "password": PASSWORD });
        self.post("/api/v1/auth/login", body).await
    }

    pub async fn refresh(&self, refresh_token: &str) -> Reply {
        let body = json!({ "refreshToken": refresh_token });
        self.post("/api/v1/auth/token/refresh", body).await
    }

    pub async fn verify(&self, access_token: &str) -> Reply {
        self.get_as("/api/v1/auth/verify", access_token).await
    }

    /// The events in the outbox, oldest first, as `(type, data)`.
    pub async fn events(&self) -> Vec<(String, Value)> {
        let statement =
            propusk::storage::Statement::new("SELECT type, data FROM outbox ORDER BY number");
        let rows = self.app.db.read(statement).await.expect("the outbox");
        let event = |row: &propusk::storage::Row| {
            let data: String = row.get("data").expect("data");
            (row.get("type").expect("type"), serde_json::from_str(&data).expect("JSON"))
        };
        rows.iter().map(event).collect()
    }
}

/// A pair of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub access: String,
    pub refresh: String,
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

pub async fn send(request: RequestBuilder) -> Reply {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, text: response.text().await.expect("a body") }
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// Fails the test unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: StatusCode) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Fails the test unless this is that error, in the envelope.
    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Self {
        let json = self.json();
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(json["statusCode"], status, "{self:?}");
        assert_eq!(json["errorCode"], code, "{self:?}");
        assert!(json["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        assert_eq!(
            json["requestId"],
            self.headers["x-request-id"].to_str().expect("text"),
            "{self:?}"
        );
        self
    }

    /// The tokens of a register, login or refresh response.
    #[track_caller]
    pub fn tokens(&self) -> Tokens {
        let data = &self.json()["data"];
        let text = |name: &str| {
            data[name].as_str().unwrap_or_else(|| panic!("no {name}: {self:?}")).to_owned()
        };
        Tokens { access: text("accessToken"), refresh: text("refreshToken") }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

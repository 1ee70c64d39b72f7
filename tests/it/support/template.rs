//! Databases that a server has opened before. Generating an RSA key takes longer than most tests,
//! so a test that is not about a first start begins with a copy of what a first start left.

use std::{fs, os::unix::fs::OpenOptionsExt, path::Path};

use propusk::{
    app::App,
    clock::{Clock, Rng},
    config::Config,
};
use sqlx::Connection;
use tokio::sync::OnceCell;

use super::{Backend, Database};

/// The template, in memory: no file is left behind after the tests.
struct Template {
    master_key: Vec<u8>,
    tables: Tables,
}

enum Tables {
    /// The file's bytes.
    Sqlite(Vec<u8>),
    /// The database's name.
    Postgres(String),
}

/// The templates of one clock.
pub struct Templates {
    sqlite: OnceCell<Template>,
    postgres: OnceCell<Template>,
}

impl Templates {
    pub const fn new() -> Self {
        Self { sqlite: OnceCell::const_new(), postgres: OnceCell::const_new() }
    }
}

const MASTER_KEY: &str = "master.key";
const FILE: &str = "propusk.db";

/// A copy for one test; `clock` is that of the first start.
pub async fn copy(templates: &Templates, backend: Backend, clock: &Clock) -> Database {
    let template = match backend {
        Backend::Sqlite => &templates.sqlite,
        Backend::Postgres => &templates.postgres,
    };
    let template = template.get_or_init(|| make(backend, clock.clone())).await;
    let name = match &template.tables {
        Tables::Sqlite(_) => None,
        Tables::Postgres(name) => Some(name.as_str()),
    };
    let database = Database::with_tables_of(backend, name).await;
    let folder = database.folder.path();
    if let Tables::Sqlite(file) = &template.tables {
        write(&folder.join(FILE), file);
    }
    write(&folder.join(MASTER_KEY), &template.master_key);
    database
}

async fn make(backend: Backend, clock: Clock) -> Template {
    let mut database = Database::new(backend).await;
    let config = Config::load(None, database.settings().into_iter()).expect("a good configuration");
    let app = App::open(config, clock, Rng::system()).await;
    app.expect("the app opens").db.close().await;
    let folder = database.folder.path();
    let tables = match &database.url {
        Some(url) => {
            // It stays as long as this process.
            std::mem::forget(database.owned.take());
            let url = url::Url::parse(url).expect("a URL");
            Tables::Postgres(url.path().trim_start_matches('/').to_owned())
        }
        None => {
            // The write-ahead log is included.
            let copy = folder.join("copy.db");
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join(FILE));
            let mut connection =
                sqlx::SqliteConnection::connect_with(&options).await.expect("the file opens");
            sqlx::query("VACUUM INTO $1")
                .bind(copy.display().to_string())
                .execute(&mut connection)
                .await
                .expect("a copy");
            connection.close().await.expect("closed");
            Tables::Sqlite(fs::read(copy).expect("the copy"))
        }
    };
    let master_key = fs::read(folder.join(MASTER_KEY)).expect("the master key");
    Template { master_key, tables }
}

/// Writes a file that only its owner can read, as the server does.
fn write(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).expect("the file is written");
}

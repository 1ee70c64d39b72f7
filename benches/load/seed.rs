//! Databases for the benchmarks, and their users and sessions.

use std::{path::Path, time::Duration};

use propusk::{
    clock::{Clock, Rng, Timestamp},
    config::Config,
    ids::SessionId,
    model,
    oauth::{
        refresh_token::{ChainKey, RefreshToken},
        scope::Scope,
    },
    storage::{Db, Statement, sessions},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{Result, process::Stat, server::Login};

/// Sessions are inserted between the others in this many places, so that they are spread over the
/// table; users in this many statements, which are bounded in time.
const PLACES: usize = 64;

/// A session as the refresh statement uses it.
#[derive(Clone)]
pub struct Chain {
    pub id: SessionId,
    /// The current hash in the row.
    pub hash: [u8; 32],
}

/// A seeded session.
pub struct Seeded {
    /// Its first refresh token.
    pub token: String,
    pub chain: Chain,
}

/// The configuration with this database and no other change.
pub fn config(folder: &Path, database_url: &str) -> Result<Config> {
    let settings = [
        ("PROPUSK_DATA_DIR", folder.display().to_string()),
        ("PROPUSK_DATABASE__URL", database_url.to_owned()),
    ];
    Ok(Config::load(None, settings.map(|(key, value)| (key.to_owned(), value)).into_iter())?)
}

/// Creates an empty PostgreSQL database next to the one of `url`; returns its URL.
pub async fn create_database(url: &str, name: &str) -> Result<String> {
    let mut connection = PgConnection::connect(url).await?;
    for statement in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")]
    {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
    }
    let mut url = url::Url::parse(url)?;
    url.set_path(name);
    Ok(url.into())
}

/// The process that started the process of this connection: PostgreSQL's parent of all others.
pub async fn postmaster(url: &str) -> Result<u32> {
    let mut connection = PgConnection::connect(url).await?;
    let id: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
    let stat = Stat::read(u32::try_from(id)?).map_err(|error| {
        format!("PostgreSQL must run on this machine, for its CPU time: {error}")
    })?;
    Ok(stat.parent)
}

/// Vacuums PostgreSQL after the inserts, so that no round pays for them.
pub async fn settle(url: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
        sqlx::query(statement).execute(&mut connection).await?;
    }
    Ok(())
}

/// Adds `count` active sessions of a user, and `others` more between them.
pub async fn sessions(db: &Db, login: &Login, count: usize, others: usize) -> Result<Vec<Seeded>> {
    let (clock, rng) = (Clock::system(), Rng::system());
    let chain_key =
        RefreshToken::parse(&login.refresh_token).ok_or("not a refresh token")?.chain_key;
    let mut made = Vec::with_capacity(count);
    for place in 0..PLACES {
        let now = clock.now();
        let share = |total: usize| total * (place + 1) / PLACES - total * place / PLACES;
        let mut batch = Vec::new();
        for _ in 0..share(count) {
            let id = SessionId::from(model::new_id(&clock, &rng));
            // Only its number matters: the first secret is random.
            let key = ChainKey::new(chain_key, &[0; 32]);
            let token = RefreshToken::first(&key, id.parse()?, rng.bytes(), None);
            batch.push(new_session(id.clone(), login, chain_key, token.hash(), now)?);
            made.push(Seeded { token: token.expose(), chain: Chain { id, hash: token.hash() } });
        }
        let mut tx = db.begin().await?;
        for session in batch {
            sessions::insert(&mut tx, session, now).await?;
        }
        tx.commit().await?;
        let rows = share(others);
        if rows > 0 {
            let sql = if db.kind() == "postgres" { FILL_POSTGRES } else { FILL_SQLITE };
            let statement = Statement::new(sql)
                .bind(i64::try_from(rows)?)
                .bind(login.user_id.as_str())
                .bind(i64::from(chain_key))
                .bind(now)
                .bind(now + 7 * DAY)
                .bind(now + 30 * DAY);
            db.write(statement).await?;
        }
    }
    Ok(made)
}

/// Adds `seeded1` to `seeded<count>`, with the password of that user.
pub async fn users(db: &Db, like: &str, count: usize) -> Result<()> {
    let sql = if db.kind() == "postgres" { USERS_POSTGRES } else { USERS_SQLITE };
    for place in 0..PLACES {
        let bound = |place: usize| i64::try_from(count * place / PLACES);
        let statement = Statement::new(sql).bind(bound(place)? + 1).bind(bound(place + 1)?);
        db.write(statement.bind(like)).await?;
    }
    Ok(())
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn new_session(
    id: SessionId,
    login: &Login,
    chain_key: u32,
    first_hash: [u8; 32],
    now: Timestamp,
) -> Result<sessions::NewSession> {
    Ok(sessions::NewSession {
        id,
        subject: login.user_id.clone(),
        user_id: Some(login.user_id.as_str().into()),
        client_id: "propusk".into(),
        scope: Scope::parse("openid profile email")?,
        browser_session_id: None,
        credential: sessions::Credential::Refresh { chain_key, first_hash },
        authenticated_at: Some(now),
        idle_expires_at: now + 7 * DAY,
        expires_at: now + 30 * DAY,
        offline: true,
        details: model::session::SessionDetails::default(),
        address: Some("127.0.0.1".to_owned()),
        user_agent: None,
    })
}

macro_rules! fill {
    ($id:expr, $hash:literal, $rows:expr) => {
        concat!(
            "INSERT INTO sessions (id, subject, user_id, client_id, scope, chain_key, generation, current_hash, \
             rotated_at, created_at, exchanged_at, authenticated_at, idle_expires_at, expires_at, address, \
             offline) SELECT ",
            $id,
            ", $2, $2, 'propusk', 'openid profile email', $3, 0, ",
            $hash,
            ", $4, $4, $4, $4, $5, $6, '127.0.0.1', TRUE FROM ",
            $rows
        )
    };
}

macro_rules! fill_users {
    ($id:expr, $rows:expr) => {
        concat!(
            "INSERT INTO users (id, email, email_canonical, username, username_canonical, password_hash, role, \
             is_verified, created_at, updated_at) SELECT ",
            $id,
            ", 'seeded' || n || '@example.org', 'seeded' || n || '@example.org', 'seeded' || n, 'seeded' || n, \
             u.password_hash, u.role, TRUE, u.created_at, u.updated_at FROM ",
            $rows,
            ", users u WHERE u.id = $3"
        )
    };
}

macro_rules! uuid_of_sqlite {
    () => {
        "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2)) || '-' \
         || hex(randomblob(2)) || '-' || hex(randomblob(6)))"
    };
}

macro_rules! numbers_of_sqlite {
    ($from:literal, $to:literal) => {
        concat!(
            "(WITH RECURSIVE count(n) AS (SELECT ",
            $from,
            " UNION ALL SELECT n + 1 FROM count WHERE n < ",
            $to,
            ") SELECT n FROM count)"
        )
    };
}

const FILL_POSTGRES: &str =
    fill!("gen_random_uuid()::text", "sha256(n::text::bytea)", "generate_series(1, $1) AS n");
const FILL_SQLITE: &str = fill!(uuid_of_sqlite!(), "randomblob(32)", numbers_of_sqlite!("1", "$1"));
const USERS_POSTGRES: &str = fill_users!("gen_random_uuid()::text", "generate_series($1, $2) AS n");
const USERS_SQLITE: &str = fill_users!(uuid_of_sqlite!(), numbers_of_sqlite!("$1", "$2"));

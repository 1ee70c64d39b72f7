//! Statements on sessions that concurrent requests share: reads by id, codes and their exchange,
//! refreshes, and new sessions of users whom a back end keeps. Each request gets its own outcome;
//! what the shared statement leaves open is decided by the statement of one request.

use std::{
    collections::{HashMap, HashSet},
    sync::OnceLock,
};

use serde::Serialize;

use super::{
    Db, Error, Result, Row, Statement,
    audited::Records,
    modules::{open_grants, read_open_grants},
    outbox,
    sessions::{
        self, CodeInsertion, Exchange, Rotation, SessionRow, exchange_sql, from_row, rotate_sql,
        session_columns,
    },
    shared::{Call, Serve, Shared},
    statement::{hex, json},
    users::user_column,
};
use crate::{
    ids::SessionId,
    model::{module::OpenGrant, session::Session},
};

/// Statements of a kind that run at the same time: where they wait for a disk, the next one is
/// prepared.
const CONCURRENT: usize = 2;

type Found = Result<Option<Session>>;

/// The queues of one database, each started by its first call.
#[derive(Debug, Default)]
pub(super) struct SharedSessions {
    reads: OnceLock<Shared<SessionId, Found>>,
    rotations: OnceLock<Shared<Rotation, Found>>,
    codes: OnceLock<Shared<SessionRow, Result<CodeInsertion>>>,
    exchanges: OnceLock<Shared<Exchange, Found>>,
    openings: OnceLock<Shared<Opening, Result<Session>>>,
}

/// The tasks must not keep open the queue that they serve.
fn servers<S>(db: &Db, server: fn(Db) -> S) -> impl Iterator<Item = S> {
    (0..CONCURRENT).map(move |_| server(db.without_notifications()))
}

pub(super) async fn by_id(db: &Db, id: &SessionId) -> Found {
    let reads = db.sessions.reads.get_or_init(|| Shared::start(servers(db, Reads)));
    reads.call(id.to_owned()).await.unwrap_or_else(|| Err(Error::closed()))
}

pub(super) async fn rotate(db: &Db, rotation: Rotation) -> Found {
    let rotations = db.sessions.rotations.get_or_init(|| Shared::start(servers(db, Rotations)));
    rotations.call(rotation).await.unwrap_or_else(|| Err(Error::closed()))
}

pub(super) async fn exchange(db: &Db, exchange: Exchange) -> Found {
    let exchanges = db.sessions.exchanges.get_or_init(|| Shared::start(servers(db, Exchanges)));
    exchanges.call(exchange).await.unwrap_or_else(|| Err(Error::closed()))
}

/// `row` is a code of a browser session.
pub(super) async fn insert_code(db: &Db, row: SessionRow) -> Result<CodeInsertion> {
    let codes = db.sessions.codes.get_or_init(|| Shared::start(servers(db, Codes)));
    codes.call(row).await.unwrap_or_else(|| Err(Error::closed()))
}

/// A new session without an account, as its row will be.
#[derive(Debug)]
pub(super) struct Opening {
    pub session: Session,
    pub row: SessionRow,
    pub records: Records,
}

/// `opening` is of no account and no code: the row depends on no other one that changes.
pub(super) async fn open(db: &Db, opening: Opening) -> Result<Session> {
    let openings = db.sessions.openings.get_or_init(|| Shared::start(servers(db, Openings)));
    openings.call(opening).await.unwrap_or_else(|| Err(Error::closed()))
}

#[derive(Debug)]
struct Reads(Db);

impl Serve<SessionId, Found> for Reads {
    const MOST: usize = 128;

    async fn serve(&mut self, calls: Vec<Call<SessionId, Found>>) {
        const SQLITE: &str = concat!(
            "SELECT ",
            session_columns!(),
            " FROM sessions WHERE id IN (SELECT value FROM json_each($1))"
        );
        // An array, and not a join: the primary key is used whatever the number of rows.
        const POSTGRES: &str = concat!(
            "SELECT ",
            session_columns!(),
            " FROM sessions WHERE id = ANY (ARRAY(SELECT json_array_elements_text(CAST($1 AS json))))"
        );
        let ids: Vec<_> = calls.iter().map(|call| &call.item).collect();
        let statement =
            json(&ids).map(|ids| Statement::new(SQLITE).for_postgres(POSTGRES).bind(ids));
        let rows = match statement {
            Ok(statement) => self.0.read(statement).await,
            Err(error) => Err(error),
        };
        let found = match rows.and_then(|rows| by_session(&rows)) {
            Ok(found) => found,
            Err(error) => return fail_all(calls, &error),
        };
        for call in calls {
            let answer = match found.get(&call.item) {
                Some(Ok(session)) => Ok(session.clone()),
                Some(Err(error)) => Err(error.for_another()),
                None => Ok(None),
            };
            call.answer(answer);
        }
    }
}

#[derive(Debug)]
struct Rotations(Db);

/// A [`Rotation`] as a parameter; its names are no columns of `sessions`.
#[derive(Serialize)]
struct RotationRow<'a> {
    session: &'a str,
    client: &'a str,
    #[serde(serialize_with = "hex")]
    presented: &'a [u8; 32],
    #[serde(serialize_with = "hex")]
    successor: &'a [u8; 32],
    at: i64,
    idle_until: i64,
}

/// [`sessions::ROTATE`] for several sessions. Rows that another transaction has locked are skipped,
/// so that two statements on several rows cannot wait for each other.
const ROTATE_ALL: (&str, &str) = (
    rotate_sql!(
        "",
        " FROM (SELECT value ->> 'session' AS session, value ->> 'client' AS client, \
         unhex(value ->> 'presented') AS presented, unhex(value ->> 'successor') AS successor, \
         value ->> 'at' AS at, value ->> 'idle_until' AS idle_until FROM jsonb_each($1)) AS p WHERE ",
        session: "p.session", client: "p.client", presented: "p.presented",
        successor: "p.successor", at: "p.at", idle_until: "p.idle_until",
    ),
    rotate_sql!(
        "WITH p AS MATERIALIZED (SELECT t.session, t.client, decode(t.presented, 'hex') AS presented, \
         decode(t.successor, 'hex') AS successor, t.at, t.idle_until \
         FROM json_to_recordset(CAST($1 AS json)) AS t (session TEXT, client TEXT, presented TEXT, \
         successor TEXT, at BIGINT, idle_until BIGINT)), \
         free AS MATERIALIZED (SELECT s.id AS session FROM sessions s \
         WHERE s.id = ANY (ARRAY(SELECT p.session FROM p)) FOR NO KEY UPDATE SKIP LOCKED) ",
        " FROM p WHERE sessions.id = ANY (ARRAY(SELECT free.session FROM free)) AND ",
        session: "p.session", client: "p.client", presented: "p.presented",
        successor: "p.successor", at: "p.at", idle_until: "p.idle_until",
    ),
);

impl Rotations {
    /// The sessions that one statement has rotated, by their ids: for the first request of each.
    async fn rotate_all(
        &self,
        calls: &[Call<Rotation, Found>],
    ) -> Result<HashMap<SessionId, Found>> {
        let rows: Vec<_> = first_of_each(calls, |rotation| &rotation.session)
            .map(|rotation| RotationRow {
                session: &rotation.session,
                client: &rotation.client_id,
                presented: &rotation.presented,
                successor: &rotation.successor,
                at: rotation.now.0,
                idle_until: rotation.idle_expires_at.0,
            })
            .collect();
        let (sqlite, postgres) = ROTATE_ALL;
        let statement = Statement::new(sqlite).for_postgres(postgres).bind(json(&rows)?);
        by_session(&self.0.write(statement).await?)
    }
}

impl Serve<Rotation, Found> for Rotations {
    const MOST: usize = 64;

    async fn serve(&mut self, calls: Vec<Call<Rotation, Found>>) {
        let mut rotated = match self.rotate_all(&calls).await {
            Ok(rotated) => rotated,
            // Nothing was rotated: each for itself.
            Err(error) if error.is_answer() => HashMap::new(),
            Err(error) => return fail_all(calls, &error),
        };
        for call in calls {
            match rotated.remove(&call.item.session) {
                Some(session) => call.answer(session),
                // Not the current token, or the row was locked: its own statement waits, and
                // decides.
                None => {
                    let db = self.0.clone();
                    call.answer_alone(|rotation| sessions::rotate_one(db, rotation));
                }
            }
        }
    }
}

/// The first request for each session. A statement on several rows tells which sessions it has
/// changed, not for whom: with one request for each, that is exact.
fn first_of_each<T, R>(
    calls: &[Call<T, R>],
    session: impl Fn(&T) -> &str,
) -> impl Iterator<Item = &T> {
    let mut seen = HashSet::with_capacity(calls.len());
    calls.iter().map(|call| &call.item).filter(move |item| seen.insert(session(item).to_owned()))
}

/// The rows of sessions by their ids; one that cannot be parsed fails its own request only.
fn by_session(rows: &[Row]) -> Result<HashMap<SessionId, Found>> {
    rows.iter().map(|row| Ok((row.get("id")?, from_row(row).map(Some)))).collect()
}

/// A failure of a shared statement is one of each request.
fn fail_all<T, R>(calls: Vec<Call<T, Result<R>>>, error: &Error)
where
    T: Send + 'static,
    R: Send + 'static,
{
    for call in calls {
        call.answer(Err(error.for_another()));
    }
}

#[derive(Debug)]
struct Exchanges(Db);

/// An [`Exchange`] as a parameter; its names are no columns of `sessions`.
#[derive(Serialize)]
struct ExchangeRow<'a> {
    session: &'a str,
    #[serde(serialize_with = "hex")]
    hash: &'a [u8; 32],
    client: &'a str,
    uri: &'a str,
    challenge: &'a str,
    key: u32,
    #[serde(serialize_with = "hex")]
    first: &'a [u8; 32],
    at: i64,
    idle_until: i64,
    until: i64,
    version: i64,
}

/// The exchange of several codes, as [`ROTATE_ALL`].
const EXCHANGE_ALL: (&str, &str) = (
    exchange_sql!(
        "",
        " FROM (SELECT value ->> 'session' AS session, unhex(value ->> 'hash') AS hash, \
         value ->> 'client' AS client, value ->> 'uri' AS uri, value ->> 'challenge' AS challenge, \
         value ->> 'key' AS key, unhex(value ->> 'first') AS first, value ->> 'at' AS at, \
         value ->> 'idle_until' AS idle_until, value ->> 'until' AS until, \
         value ->> 'version' AS version FROM jsonb_each($1)) AS p WHERE ",
        session: "p.session", hash: "p.hash", client: "p.client", redirect_uri: "p.uri",
        challenge: "p.challenge", chain_key: "p.key", first: "p.first", at: "p.at",
        idle_until: "p.idle_until", until: "p.until", version: "p.version",
    ),
    exchange_sql!(
        "WITH p AS MATERIALIZED (SELECT t.session, decode(t.hash, 'hex') AS hash, t.client, t.uri, \
         t.challenge, t.key, decode(t.first, 'hex') AS first, t.at, t.idle_until, t.until, t.version \
         FROM json_to_recordset(CAST($1 AS json)) AS t (session TEXT, hash TEXT, client TEXT, uri TEXT, \
         challenge TEXT, key BIGINT, first TEXT, at BIGINT, idle_until BIGINT, until BIGINT, \
         version BIGINT)), \
         free AS MATERIALIZED (SELECT s.id AS session FROM sessions s \
         WHERE s.id = ANY (ARRAY(SELECT p.session FROM p)) FOR NO KEY UPDATE SKIP LOCKED) ",
        " FROM p WHERE sessions.id = ANY (ARRAY(SELECT free.session FROM free)) AND ",
        session: "p.session", hash: "p.hash", client: "p.client", redirect_uri: "p.uri",
        challenge: "p.challenge", chain_key: "p.key", first: "p.first", at: "p.at",
        idle_until: "p.idle_until", until: "p.until", version: "p.version",
    ),
);

impl Exchanges {
    /// The sessions that codes have become in one transaction, by their ids: for the first request
    /// of each.
    async fn exchange_all(
        &self,
        calls: &[Call<Exchange, Found>],
    ) -> Result<HashMap<SessionId, Found>> {
        let first: Vec<_> = first_of_each(calls, |exchange| &exchange.session).collect();
        let rows: Vec<_> = first
            .iter()
            .map(|exchange| ExchangeRow {
                session: &exchange.session,
                hash: &exchange.hash,
                client: &exchange.client_id,
                uri: &exchange.redirect_uri,
                challenge: &exchange.challenge,
                key: exchange.to.chain_key,
                first: exchange.first(),
                at: exchange.now.0,
                idle_until: exchange.to.idle_expires_at.0,
                until: exchange.to.expires_at.0,
                version: exchange.to.clients_version,
            })
            .collect();
        let (sqlite, postgres) = EXCHANGE_ALL;
        let statement = Statement::new(sqlite).for_postgres(postgres).bind(json(&rows)?);
        let mut tx = self.0.begin().await?;
        let exchanged = by_session(&tx.run(statement).await?)?;
        let mut events = Vec::with_capacity(exchanged.len());
        for exchange in first {
            match exchanged.get(&exchange.session) {
                Some(Ok(Some(session))) => events.push(exchange.event(session)),
                // No session without its event.
                Some(Err(error)) => return Err(error.for_another()),
                Some(Ok(None)) | None => {}
            }
        }
        if !events.is_empty() {
            let events: Vec<_> = events.iter().collect();
            tx.run(outbox::NewRow::insertion_of_all(&events)?).await?;
        }
        tx.commit().await?;
        Ok(exchanged)
    }
}

impl Serve<Exchange, Found> for Exchanges {
    const MOST: usize = 64;

    async fn serve(&mut self, calls: Vec<Call<Exchange, Found>>) {
        let mut exchanged = match self.exchange_all(&calls).await {
            Ok(exchanged) => exchanged,
            // Nothing was exchanged: each for itself. A row that cannot be read fails its own request.
            Err(error) if error.is_answer() || matches!(error, Error::Corrupt(_)) => HashMap::new(),
            Err(error) => return fail_all(calls, &error),
        };
        for call in calls {
            match exchanged.remove(&call.item.session) {
                Some(session) => call.answer(session),
                None => {
                    let db = self.0.clone();
                    call.answer_alone(|exchange| sessions::exchange_one(db, exchange));
                }
            }
        }
    }
}

#[derive(Debug)]
struct Codes(Db);

impl Codes {
    /// Adds the codes whose browser sessions are valid and not locked; gives their ids.
    async fn insert_all(
        &self,
        calls: &[Call<SessionRow, Result<CodeInsertion>>],
    ) -> Result<HashSet<SessionId>> {
        macro_rules! insert {
            ($select:literal) => {
                concat!(
                    "INSERT INTO sessions (id, subject, user_id, client_id, scope, chain_key, generation, \
                     current_hash, rotated_at, created_at, idle_expires_at, expires_at, address, user_agent, \
                     browser_session_id, code_hash, redirect_uri, code_challenge, authenticated_at, offline, \
                     details) SELECT ",
                    $select,
                    " RETURNING id"
                )
            };
        }
        let statement = Statement::new(insert!(
            "value ->> 'id', value ->> 'subject', value ->> 'user_id', value ->> 'client_id', \
             value ->> 'scope', value ->> 'chain_key', 0, unhex(value ->> 'current_hash'), value ->> 'now', \
             value ->> 'now', value ->> 'idle_expires_at', value ->> 'expires_at', value ->> 'address', \
             value ->> 'user_agent', value ->> 'browser_session_id', unhex(value ->> 'code_hash'), \
             value ->> 'redirect_uri', value ->> 'code_challenge', value ->> 'authenticated_at', \
             value ->> 'offline', value ->> 'details' FROM jsonb_each($1) WHERE EXISTS (SELECT 1 \
             FROM browser_sessions b WHERE b.id = value ->> 'browser_session_id' AND b.revoked_at IS NULL)"
        ))
        .for_postgres(concat!(
            "WITH t AS MATERIALIZED (SELECT * FROM json_to_recordset(CAST($1 AS json)) AS r (id TEXT, \
             subject TEXT, user_id TEXT, client_id TEXT, scope TEXT, chain_key BIGINT, current_hash TEXT, \
             now BIGINT, idle_expires_at BIGINT, expires_at BIGINT, address TEXT, user_agent TEXT, \
             browser_session_id TEXT, code_hash TEXT, redirect_uri TEXT, code_challenge TEXT, \
             authenticated_at BIGINT, offline BOOLEAN, details TEXT)), \
             valid AS MATERIALIZED (SELECT b.id FROM browser_sessions b \
             WHERE b.id = ANY (ARRAY(SELECT t.browser_session_id FROM t)) AND b.revoked_at IS NULL \
             FOR SHARE SKIP LOCKED) ",
            insert!(
                "t.id, t.subject, t.user_id, t.client_id, t.scope, t.chain_key, 0, \
                 decode(t.current_hash, 'hex'), t.now, t.now, t.idle_expires_at, t.expires_at, t.address, \
                 t.user_agent, t.browser_session_id, decode(t.code_hash, 'hex'), t.redirect_uri, \
                 t.code_challenge, t.authenticated_at, t.offline, t.details FROM t \
                 JOIN valid ON valid.id = t.browser_session_id"
            )
        ));
        let rows: Vec<_> = calls.iter().map(|call| &call.item).collect();
        let added = self.0.write(statement.bind(json(&rows)?)).await?;
        added.iter().map(|row| row.get("id")).collect()
    }
}

impl Serve<SessionRow, Result<CodeInsertion>> for Codes {
    const MOST: usize = 64;

    async fn serve(&mut self, calls: Vec<Call<SessionRow, Result<CodeInsertion>>>) {
        let added = match self.insert_all(&calls).await {
            Ok(added) => added,
            // Nothing was added: each for itself.
            Err(error) if error.is_answer() => HashSet::new(),
            Err(error) => return fail_all(calls, &error),
        };
        for call in calls {
            if added.contains(&call.item.id) {
                call.answer(Ok(CodeInsertion::Done));
            } else {
                // The browser session is not valid, or locked: its own statement decides.
                let db = self.0.clone();
                call.answer_alone(|row| sessions::insert_one_code(db, row));
            }
        }
    }
}

#[derive(Debug)]
struct Openings(Db);

type Granted = Result<Vec<OpenGrant>>;

impl Openings {
    /// Adds all of them or none; gives the open grants of each.
    async fn open_all(
        &self,
        calls: &[Call<Opening, Result<Session>>],
    ) -> Result<HashMap<SessionId, Granted>> {
        macro_rules! insert {
            ($from:literal) => {
                concat!(
                    "INSERT INTO sessions (id, subject, client_id, scope, chain_key, generation, current_hash, \
                     rotated_at, created_at, exchanged_at, idle_expires_at, expires_at, address, user_agent, \
                     authenticated_at, offline, details) SELECT ",
                    $from,
                    " RETURNING id, ",
                    open_grants!("sessions.subject")
                )
            };
        }
        let statement = Statement::new(insert!(
            "value ->> 'id', value ->> 'subject', value ->> 'client_id', value ->> 'scope', \
             value ->> 'chain_key', 0, unhex(value ->> 'current_hash'), value ->> 'now', value ->> 'now', \
             value ->> 'exchanged_at', value ->> 'idle_expires_at', value ->> 'expires_at', \
             value ->> 'address', value ->> 'user_agent', value ->> 'authenticated_at', \
             value ->> 'offline', value ->> 'details' FROM jsonb_each($1)"
        ))
        .for_postgres(insert!(
            "t.id, t.subject, t.client_id, t.scope, t.chain_key, 0, decode(t.current_hash, 'hex'), t.now, \
             t.now, t.exchanged_at, t.idle_expires_at, t.expires_at, t.address, t.user_agent, \
             t.authenticated_at, t.offline, t.details FROM json_to_recordset(CAST($1 AS json)) AS t (id TEXT, \
             subject TEXT, client_id TEXT, scope TEXT, chain_key BIGINT, current_hash TEXT, now BIGINT, \
             exchanged_at BIGINT, idle_expires_at BIGINT, expires_at BIGINT, address TEXT, user_agent TEXT, \
             authenticated_at BIGINT, offline BOOLEAN, details TEXT)"
        ));
        let rows: Vec<_> = calls.iter().map(|call| &call.item.row).collect();
        let records: Vec<_> = calls.iter().map(|call| &call.item.records).collect();
        let statement = statement.bind(json(&rows)?);
        let added = self.0.write(statement.followed_by(Records::insertions_of_all(&records)?));
        let added = added.await?;
        added.iter().map(|row| Ok((row.get("id")?, read_open_grants(row)))).collect()
    }
}

impl Serve<Opening, Result<Session>> for Openings {
    const MOST: usize = 64;

    async fn serve(&mut self, calls: Vec<Call<Opening, Result<Session>>>) {
        let mut granted = match self.open_all(&calls).await {
            Ok(granted) => granted,
            // Nothing was added: each for itself.
            Err(error) if error.is_answer() => HashMap::new(),
            Err(error) => return fail_all(calls, &error),
        };
        for call in calls {
            match granted.remove(&call.item.session.id) {
                Some(modules) => {
                    let session = call.item.session.clone();
                    call.answer(modules.map(|modules| Session { modules, ..session }));
                }
                None => {
                    let db = self.0.clone();
                    call.answer_alone(|opening| sessions::open_one(db, opening));
                }
            }
        }
    }
}

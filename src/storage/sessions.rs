//! Sessions and their refresh token families.

mod overviews;
mod revocations;

use serde::Serialize;

pub use self::{
    overviews::{SessionFilter, overview_of, page},
    revocations::{
        SessionSelector, last_revocation, lock_last_revocation, queue_logout_delivery, revoke,
        revoke_all, revoke_all_of_client, subjects_of,
    },
};
use super::{
    AuditedWrite, Db, Error, Result, Row, Statement, Tx,
    audited::{Stamp, run_with},
    consents,
    modules::{open_grants, read_open_grants},
    outbox,
    shared_sessions::{self, Opening},
    statement::{hex, one, optional_hex},
    users::{read_user, user_column},
};
use crate::{
    clock::Timestamp,
    ids::{BrowserSessionId, ClientId, SessionId, UserId},
    model::{
        event::Event,
        session::{Session, SessionDetails},
    },
    oauth::scope::Scope,
};

/// The columns that every statement returns.
macro_rules! session_columns {
    () => {
        concat!(
            "id, subject, client_id, scope, generation, current_hash, rotated_at, created_at, idle_expires_at, \
         expires_at, revoked_at, user_id, browser_session_id, code_hash, exchanged_at, authenticated_at, \
         offline, details, ",
            user_column!("sessions.user_id"),
            ", ",
            open_grants!("COALESCE(sessions.user_id, sessions.subject)")
        )
    };
}

pub(super) use session_columns;

/// Sessions whose clients have a back-channel logout URI.
macro_rules! has_logout_uri {
    () => {
        "exchanged_at IS NOT NULL AND EXISTS (SELECT 1 FROM clients c \
         WHERE c.id = client_id AND c.metadata LIKE '%\"backchannel_logout_uri\"%')"
    };
}

use has_logout_uri;

/// A new session.
#[derive(Debug)]
pub struct NewSession {
    pub id: SessionId,
    pub subject: String,
    pub user_id: Option<UserId>,
    pub client_id: ClientId,
    pub browser_session_id: Option<BrowserSessionId>,
    pub scope: Scope,
    pub credential: Credential,
    /// `None`: the user did not log in for it.
    pub authenticated_at: Option<Timestamp>,
    pub idle_expires_at: Timestamp,
    pub expires_at: Timestamp,
    pub offline: bool,
    pub details: SessionDetails,
    pub address: Option<String>,
    pub user_agent: Option<String>,
}

/// The first credential of a session.
#[derive(Debug)]
pub enum Credential {
    /// The refresh token of generation 0.
    Refresh { chain_key: u32, first_hash: [u8; 32] },
    /// None: it has a single access token and cannot be refreshed.
    Nothing,
    /// An authorization code, to be exchanged ([`exchange_code`]).
    Code {
        hash: [u8; 32],
        redirect_uri: String,
        /// RFC 7636 §4.2; empty if the client sent none.
        challenge: String,
    },
}

/// The stored hash of a session without a refresh token; no token hashes to it.
const NO_TOKEN: [u8; 32] = [0; 32];

macro_rules! insert {
    ($before:literal, $after:literal) => {
        concat!(
            "INSERT INTO sessions (id, subject, user_id, client_id, scope, chain_key, generation, current_hash, \
             rotated_at, created_at, idle_expires_at, expires_at, address, user_agent, browser_session_id, code_hash, \
             redirect_uri, code_challenge, exchanged_at, authenticated_at, offline, details) ",
            $before,
            "$1, $2, $3, $4, $5, $6, 0, $7, $8, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20",
            $after
        )
    };
}

/// A new row.
#[derive(Debug, Serialize)]
pub(super) struct SessionRow {
    pub id: SessionId,
    subject: String,
    user_id: Option<UserId>,
    client_id: ClientId,
    scope: String,
    chain_key: i64,
    #[serde(serialize_with = "hex")]
    current_hash: [u8; 32],
    now: i64,
    idle_expires_at: i64,
    expires_at: i64,
    address: Option<String>,
    user_agent: Option<String>,
    browser_session_id: Option<BrowserSessionId>,
    #[serde(serialize_with = "optional_hex")]
    code_hash: Option<[u8; 32]>,
    redirect_uri: Option<String>,
    code_challenge: Option<String>,
    exchanged_at: Option<i64>,
    authenticated_at: Option<i64>,
    offline: bool,
    details: Option<String>,
}

impl SessionRow {
    fn new(new: NewSession, now: Timestamp) -> Result<Self> {
        let details = if new.details == SessionDetails::default() {
            None
        } else {
            let details = serde_json::to_string(&new.details);
            Some(details.map_err(|error| Error::Corrupt(error.to_string()))?)
        };
        let (chain_key, current_hash, code, exchanged_at) = match new.credential {
            Credential::Refresh { chain_key, first_hash } => {
                (chain_key, first_hash, None, Some(now.0))
            }
            Credential::Nothing => (0, NO_TOKEN, None, Some(now.0)),
            Credential::Code { hash, redirect_uri, challenge } => {
                (0, NO_TOKEN, Some((hash, redirect_uri, challenge)), None)
            }
        };
        let (code_hash, redirect_uri, code_challenge) = match code {
            Some((hash, redirect_uri, challenge)) => {
                (Some(hash), Some(redirect_uri), Some(challenge))
            }
            None => (None, None, None),
        };
        Ok(Self {
            id: new.id,
            subject: new.subject,
            user_id: new.user_id,
            client_id: new.client_id,
            scope: new.scope.to_string(),
            chain_key: i64::from(chain_key),
            current_hash,
            now: now.0,
            idle_expires_at: new.idle_expires_at.0,
            expires_at: new.expires_at.0,
            address: new.address,
            user_agent: new.user_agent,
            browser_session_id: new.browser_session_id,
            code_hash,
            redirect_uri,
            code_challenge,
            exchanged_at,
            authenticated_at: new.authenticated_at.map(|at| at.0),
            offline: new.offline,
            details,
        })
    }

    fn bind_to(self, statement: Statement) -> Statement {
        statement
            .bind(self.id)
            .bind(self.subject)
            .bind(self.user_id)
            .bind(self.client_id)
            .bind(self.scope)
            .bind(self.chain_key)
            .bind(self.current_hash)
            .bind(self.now)
            .bind(self.idle_expires_at)
            .bind(self.expires_at)
            .bind(self.address)
            .bind(self.user_agent)
            .bind(self.browser_session_id)
            .bind(self.code_hash.map(|hash| hash.to_vec()))
            .bind(self.redirect_uri)
            .bind(self.code_challenge)
            .bind(self.exchanged_at)
            .bind(self.authenticated_at)
            .bind(self.offline)
            .bind(self.details)
    }
}

fn insertion(statement: Statement, new: NewSession, now: Timestamp) -> Result<Statement> {
    Ok(SessionRow::new(new, now)?.bind_to(statement))
}

/// Adds a session.
pub async fn insert(tx: &mut Tx, new: NewSession, now: Timestamp) -> Result<()> {
    let statement = Statement::new(insert!("VALUES (", ")"));
    tx.run(insertion(statement, new, now)?).await?;
    Ok(())
}

/// Adds a session that is no code with its event and audit entry, and reads its user and modules:
/// one statement, which sessions without an account share. `None`: the account does not exist or is
/// disabled. Thanks to the lock, disabling it concurrently revokes this session as well.
pub async fn open(
    write: AuditedWrite<'_>,
    new: NewSession,
    now: Timestamp,
) -> Result<Option<Session>> {
    macro_rules! insert_where_enabled {
        ($lock:literal) => {
            concat!(
                insert!("SELECT ", " FROM users u WHERE u.id = $3 AND u.disabled_at IS NULL"),
                $lock,
                " RETURNING ",
                user_column!("sessions.user_id"),
                ", ",
                open_grants!("COALESCE(sessions.user_id, sessions.subject)")
            )
        };
    }
    let session = opened(&new, now);
    let Some(user_id) = new.user_id.clone() else {
        let (db, records) = write.into_parts();
        let row = SessionRow::new(new, now)?;
        return shared_sessions::open(db, Opening { session, row, records }).await.map(Some);
    };
    if user_id.contains('\0') {
        return Ok(None);
    }
    let statement =
        Statement::new(insert_where_enabled!("")).locking(insert_where_enabled!(" FOR SHARE OF u"));
    let Some(row) = one(write.after(insertion(statement, new, now)?).await?) else {
        return Ok(None);
    };
    let user = Some(read_user(&row, user_id)?);
    Ok(Some(Session { user, modules: read_open_grants(&row)?, ..session }))
}

/// Adds one session without an account, by a statement of its own.
pub(super) async fn open_one(db: Db, opening: Opening) -> Result<Session> {
    let Opening { session, row, records } = opening;
    let statement = Statement::new(concat!(
        insert!("VALUES (", ")"),
        " RETURNING ",
        open_grants!("sessions.subject")
    ));
    let row = one(run_with(&db, row.bind_to(statement), records).await?);
    let modules = row.map_or_else(|| Ok(vec![]), |row| read_open_grants(&row))?;
    Ok(Session { modules, ..session })
}

/// A new session as its row will be, without its user and modules.
fn opened(new: &NewSession, now: Timestamp) -> Session {
    let current_hash = match &new.credential {
        Credential::Refresh { first_hash, .. } => *first_hash,
        Credential::Nothing | Credential::Code { .. } => NO_TOKEN,
    };
    Session {
        id: new.id.clone(),
        subject: new.subject.clone(),
        client_id: new.client_id.clone(),
        scope: new.scope.clone(),
        generation: 0,
        current_hash: current_hash.to_vec(),
        rotated_at: now,
        created_at: now,
        authenticated_at: new.authenticated_at,
        browser_session_id: new.browser_session_id.clone(),
        code_hash: None,
        exchanged_at: Some(now),
        offline: new.offline,
        details: new.details.clone(),
        idle_expires_at: new.idle_expires_at,
        expires_at: new.expires_at,
        revoked_at: None,
        modules: vec![],
        user: None,
    }
}

/// The consent that a code depends on: its key, and what it must include.
#[derive(Debug)]
pub struct RequiredConsent<'a> {
    pub resource: &'a str,
    pub scope: &'a Scope,
}

/// Whether a code was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeInsertion {
    Done,
    /// The browser session was revoked in the meantime.
    LoggedOut,
    /// The consent was withdrawn in the meantime.
    NotAllowed,
}

/// Adds a session that starts as an authorization code: one statement for a client without consent,
/// which concurrent requests share, else a transaction; no event until the exchange. Revoking a
/// browser session or withdrawing a consent also revokes the codes: thanks to the locks, a code is
/// either inserted before and revoked too, or not issued. The browser session is locked first, as
/// by a logout or a deletion of the user.
pub async fn insert_code(
    db: &Db,
    new: NewSession,
    consent: Option<RequiredConsent<'_>>,
    now: Timestamp,
) -> Result<CodeInsertion> {
    let Some(consent) = consent else {
        return shared_sessions::insert_code(db, SessionRow::new(new, now)?).await;
    };
    let mut tx = db.begin().await?;
    let outcome = insert_code_within(&mut tx, new, Some(consent), now).await?;
    match outcome {
        CodeInsertion::Done => tx.commit().await?,
        CodeInsertion::LoggedOut | CodeInsertion::NotAllowed => tx.rollback().await?,
    }
    Ok(outcome)
}

/// As [`insert_code`], within a transaction, which must be rolled back unless it is done.
pub async fn insert_code_within(
    tx: &mut Tx,
    new: NewSession,
    consent: Option<RequiredConsent<'_>>,
    now: Timestamp,
) -> Result<CodeInsertion> {
    let (user_id, client_id) = (new.user_id.clone(), new.client_id.clone());
    let outcome = logged_in(tx.run(code_insertion(SessionRow::new(new, now)?)).await?);
    let Some(RequiredConsent { resource, scope }) = consent else {
        return Ok(outcome);
    };
    let user_id = user_id.unwrap_or_default();
    let given = consents::lock_shared(tx, &user_id, &client_id, resource).await?;
    if outcome == CodeInsertion::Done && !given.is_some_and(|given| scope.is_subset_of(&given)) {
        return Ok(CodeInsertion::NotAllowed);
    }
    Ok(outcome)
}

/// [`insert_code`] without a consent, by a statement of its own.
pub(super) async fn insert_one_code(db: Db, row: SessionRow) -> Result<CodeInsertion> {
    Ok(logged_in(db.write(code_insertion(row)).await?))
}

/// Inserts a code if its browser session is valid.
fn code_insertion(row: SessionRow) -> Statement {
    macro_rules! insert_where_logged_in {
        ($lock:literal) => {
            concat!(
                insert!(
                    "SELECT ",
                    " FROM browser_sessions b WHERE b.id = $13 AND b.revoked_at IS NULL"
                ),
                $lock,
                " RETURNING id"
            )
        };
    }
    let statement = Statement::new(insert_where_logged_in!(""))
        .locking(insert_where_logged_in!(" FOR SHARE OF b"));
    row.bind_to(statement)
}

fn logged_in(rows: Vec<Row>) -> CodeInsertion {
    match rows.is_empty() {
        true => CodeInsertion::LoggedOut,
        false => CodeInsertion::Done,
    }
}

/// The redirect URI and the challenge that a code is bound to; the challenge is empty if the client
/// sent none. `None` if there is no such session, or it did not begin with a code.
pub async fn code_binding(db: &Db, id: &SessionId) -> Result<Option<(String, String)>> {
    let statement = Statement::new(
        "SELECT redirect_uri, code_challenge FROM sessions WHERE id = $1 AND code_hash IS NOT NULL",
    );
    let row = one(db.read(statement.bind(id)).await?);
    row.map(|row| Ok((row.get("redirect_uri")?, row.get("code_challenge")?))).transpose()
}

/// The parameters of a token request with an authorization code.
#[derive(Debug)]
pub struct PresentedCode<'a> {
    pub session: &'a SessionId,
    pub hash: [u8; 32],
    pub client_id: &'a ClientId,
    /// Empty if not sent.
    pub redirect_uri: &'a str,
    /// Derived from the verifier; empty if none was sent.
    pub challenge: &'a str,
}

/// The new values of a session whose code is exchanged.
#[derive(Debug)]
pub struct CodeExchange {
    pub chain_key: u32,
    /// `None`: no refresh token is issued.
    pub first_hash: Option<[u8; 32]>,
    pub idle_expires_at: Timestamp,
    pub expires_at: Timestamp,
    /// The version of the clients at which the client was authenticated; a newer one prevents the
    /// exchange.
    pub clients_version: i64,
}

/// The exchange of a code. Single use is one statement, as with [`ROTATE`]. Everything the code is
/// bound to is in its WHERE clause, so that a wrong client, redirect URI or verifier does not
/// consume the code. `$rows` selects the row of `$session`.
macro_rules! exchange_sql {
    (
        $before:literal, $rows:literal, session: $session:literal, hash: $hash:literal,
        client: $client:literal, redirect_uri: $redirect_uri:literal, challenge: $challenge:literal,
        chain_key: $chain_key:literal, first: $first:literal, at: $at:literal,
        idle_until: $idle_until:literal, until: $until:literal, version: $version:literal $(,)?
    ) => {
        concat!(
            $before,
            "UPDATE sessions SET exchanged_at = ", $at, ", rotated_at = ", $at,
            ", chain_key = ", $chain_key, ", current_hash = ", $first,
            ", idle_expires_at = ", $idle_until, ", expires_at = ", $until,
            $rows, "sessions.id = ", $session, " AND code_hash = ", $hash,
            " AND client_id = ", $client,
            " AND (", $redirect_uri, " = '' OR redirect_uri = ", $redirect_uri,
            ") AND code_challenge = ", $challenge,
            " AND exchanged_at IS NULL AND revoked_at IS NULL AND idle_expires_at > ", $at,
            " AND NOT EXISTS (SELECT 1 FROM users d WHERE d.id = sessions.user_id AND d.disabled_at IS NOT NULL) \
             AND ", $version, " = (SELECT v.version FROM change_counters v WHERE v.name = 'clients') RETURNING ",
            session_columns!()
        )
    };
}
pub(super) use exchange_sql;

/// Exchanges an authorization code for a session, with the event of it. Concurrent exchanges share
/// a transaction.
pub async fn exchange_code(
    write: AuditedWrite<'_>,
    code: &PresentedCode<'_>,
    to: CodeExchange,
    now: Timestamp,
) -> Result<Option<Session>> {
    let (db, stamp) = write.for_later();
    let exchange = Exchange {
        session: code.session.to_owned(),
        hash: code.hash,
        client_id: code.client_id.to_owned(),
        redirect_uri: code.redirect_uri.to_owned(),
        challenge: code.challenge.to_owned(),
        to,
        now,
        stamp,
    };
    shared_sessions::exchange(db, exchange).await
}

/// The parameters of [`exchange_code`].
#[derive(Debug)]
pub(super) struct Exchange {
    pub session: SessionId,
    pub hash: [u8; 32],
    pub client_id: ClientId,
    pub redirect_uri: String,
    pub challenge: String,
    pub to: CodeExchange,
    pub now: Timestamp,
    pub stamp: Stamp,
}

impl Exchange {
    /// The hash of the first refresh token.
    pub fn first(&self) -> &[u8; 32] {
        self.to.first_hash.as_ref().unwrap_or(&NO_TOKEN)
    }

    /// The event of the session that the code has become.
    pub fn event(&self, session: &Session) -> outbox::NewRow {
        let event = Event::session_created(&session.subject, &session.id, &session.client_id);
        self.stamp.event(&event)
    }
}

/// [`exchange_code`] in a transaction of its own.
pub(super) async fn exchange_one(db: Db, exchange: Exchange) -> Result<Option<Session>> {
    const EXCHANGE: &str = exchange_sql!(
        "", " WHERE ", session: "$6", hash: "$7", client: "$8", redirect_uri: "$9",
        challenge: "$10", chain_key: "$2", first: "$3", at: "$1", idle_until: "$4", until: "$5",
        version: "$11",
    );
    let statement = Statement::new(EXCHANGE)
        .bind(exchange.now)
        .bind(i64::from(exchange.to.chain_key))
        .bind(*exchange.first())
        .bind(exchange.to.idle_expires_at)
        .bind(exchange.to.expires_at)
        .bind(exchange.session.as_str())
        .bind(exchange.hash)
        .bind(exchange.client_id.as_str())
        .bind(exchange.redirect_uri.as_str())
        .bind(exchange.challenge.as_str())
        .bind(exchange.to.clients_version);
    let mut tx = db.begin().await?;
    let session = one(tx.run(statement).await?).map(|row| from_row(&row)).transpose()?;
    if let Some(session) = &session {
        tx.run(exchange.event(session).insertion()).await?;
    }
    tx.commit().await?;
    Ok(session)
}

/// The refresh. Single use is one statement: the first request with the current token of a valid
/// session updates the row, and no other request matches it afterwards; there is no gap between
/// check and update. It inserts no row and updates no index. `$rows` selects the row of `$session`.
macro_rules! rotate_sql {
    (
        $before:literal, $rows:literal, session: $session:literal, client: $client:literal,
        presented: $presented:literal, successor: $successor:literal, at: $at:literal,
        idle_until: $idle_until:literal $(,)?
    ) => {
        concat!(
            $before,
            "UPDATE sessions SET generation = generation + 1, current_hash = ", $successor,
            ", rotated_at = ", $at, ", idle_expires_at = CASE WHEN ", $idle_until,
            " < expires_at THEN ", $idle_until, " ELSE expires_at END",
            $rows, "sessions.id = ", $session, " AND current_hash = ", $presented,
            " AND client_id = ", $client,
            " AND revoked_at IS NULL AND idle_expires_at > ", $at, " AND expires_at > ", $at,
            " AND NOT EXISTS (SELECT 1 FROM users d WHERE d.id = sessions.user_id AND d.disabled_at IS NOT NULL) \
             AND NOT EXISTS (SELECT 1 FROM clients c WHERE c.id = sessions.client_id AND c.disabled_at IS NOT NULL) \
             RETURNING ",
            session_columns!()
        )
    };
}
pub(super) use rotate_sql;

/// The refresh of one session.
pub const ROTATE: &str = rotate_sql!(
    "", " WHERE ", session: "$1", client: "$6", presented: "$2", successor: "$3", at: "$4",
    idle_until: "$5",
);

/// Rotates the refresh token of a valid session; `None` if the presented token is not the current
/// one, the session is revoked or expired, or its user or client is disabled.
pub async fn rotate(
    db: &Db,
    id: &SessionId,
    client_id: &ClientId,
    presented: [u8; 32],
    successor: [u8; 32],
    now: Timestamp,
    idle_expires_at: Timestamp,
) -> Result<Option<Session>> {
    let rotation = Rotation {
        session: id.to_owned(),
        client_id: client_id.to_owned(),
        presented,
        successor,
        now,
        idle_expires_at,
    };
    shared_sessions::rotate(db, rotation).await
}

/// The parameters of [`rotate`].
#[derive(Debug)]
pub(super) struct Rotation {
    pub session: SessionId,
    pub client_id: ClientId,
    pub presented: [u8; 32],
    pub successor: [u8; 32],
    pub now: Timestamp,
    pub idle_expires_at: Timestamp,
}

/// [`rotate`] by a statement of its own.
pub(super) async fn rotate_one(db: Db, rotation: Rotation) -> Result<Option<Session>> {
    let statement = Statement::new(ROTATE)
        .bind(rotation.session)
        .bind(rotation.presented)
        .bind(rotation.successor)
        .bind(rotation.now)
        .bind(rotation.idle_expires_at)
        .bind(rotation.client_id);
    one(db.write(statement).await?).map(|row| from_row(&row)).transpose()
}

/// Finds a session by its id, by a statement that began after this call.
pub async fn by_id(db: &Db, id: &SessionId) -> Result<Option<Session>> {
    if id.contains('\0') {
        return Ok(None);
    }
    shared_sessions::by_id(db, id).await
}

/// The number of sessions that are neither revoked nor expired.
pub async fn count_active(db: &Db, now: Timestamp) -> Result<i64> {
    let rows = db.read(
        Statement::new(
            "SELECT COUNT(*) AS n FROM sessions WHERE revoked_at IS NULL AND exchanged_at IS NOT NULL \
             AND idle_expires_at > $1 AND expires_at > $1",
        )
        .bind(now),
    );
    one(rows.await?).map_or(Ok(0), |row| row.get("n"))
}

/// Removes up to `most` expired sessions; returns the number removed. Sessions whose clients have a
/// logout URI stay while their browser session is valid, because the session of the application may
/// outlive ours.
pub async fn sweep(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let rows = db
        .write(
            Statement::new(concat!(
                "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at <= $1 \
                 AND NOT (revoked_at IS NULL AND EXISTS (SELECT 1 FROM browser_sessions b \
                 WHERE b.id = browser_session_id AND b.revoked_at IS NULL AND b.expires_at > $1) AND ",
                has_logout_uri!(),
                ") LIMIT $2) RETURNING id"
            ))
            .bind(now)
            .bind(most),
        )
        .await?;
    Ok(rows.len())
}

pub(super) fn from_row(row: &Row) -> Result<Session> {
    let scope: String = row.get("scope")?;
    let user_id: Option<UserId> = row.get("user_id")?;
    Ok(Session {
        id: row.get("id")?,
        subject: row.get("subject")?,
        client_id: row.get("client_id")?,
        scope: Scope::parse(&scope).map_err(|why| Error::Corrupt(why.to_owned()))?,
        generation: row.get::<i64>("generation")?.unsigned_abs(),
        current_hash: row.get("current_hash")?,
        rotated_at: Timestamp(row.get("rotated_at")?),
        created_at: Timestamp(row.get("created_at")?),
        authenticated_at: row.get::<Option<i64>>("authenticated_at")?.map(Timestamp),
        browser_session_id: row.get("browser_session_id")?,
        code_hash: row.get("code_hash")?,
        exchanged_at: row.get::<Option<i64>>("exchanged_at")?.map(Timestamp),
        offline: row.get("offline")?,
        details: match row.get::<Option<String>>("details")? {
            Some(details) => {
                serde_json::from_str(&details).map_err(|error| Error::Corrupt(error.to_string()))?
            }
            None => SessionDetails::default(),
        },
        idle_expires_at: Timestamp(row.get("idle_expires_at")?),
        expires_at: Timestamp(row.get("expires_at")?),
        revoked_at: row.get::<Option<i64>>("revoked_at")?.map(Timestamp),
        modules: read_open_grants(row)?,
        user: user_id.map(|id| read_user(row, id)).transpose()?,
    })
}

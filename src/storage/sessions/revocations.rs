//! The revocation of sessions, and the logout deliveries to their clients.

use super::{
    super::{
        Result, Statement, Tx,
        change_counters::{self, Counter},
        modules::lock_external,
        statement::one,
    },
    has_logout_uri,
};
use crate::{
    clock::Timestamp,
    ids::{BrowserSessionId, ClientId, SessionId, UserId},
    model::session::RevocationReason,
};

/// Queues deliveries for sessions whose clients have a back-channel logout URI; a condition
/// follows.
macro_rules! insert_deliveries {
    ($now:literal) => {
        concat!(
            "INSERT INTO logout_deliveries (id, client_id, subject, session_id, attempts, next_attempt_at, created_at) \
             SELECT id, client_id, subject, id, 0, ",
            $now,
            ", ",
            $now,
            " FROM sessions WHERE ",
            has_logout_uri!(),
            " AND "
        )
    };
}

/// Revokes a session; `false` if it was revoked already or does not exist.
pub async fn revoke(
    tx: &mut Tx,
    id: &SessionId,
    reason: RevocationReason,
    now: Timestamp,
) -> Result<bool> {
    let rows = tx
        .run(
            Statement::new(
                "UPDATE sessions SET revoked_at = $2, revocation_reason = $3 \
                 WHERE id = $1 AND revoked_at IS NULL RETURNING id",
            )
            .bind(id)
            .bind(now)
            .bind(reason.as_str()),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Queues a logout delivery for a session that is about to be revoked, if its client has a logout
/// URI.
pub async fn queue_logout_delivery(tx: &mut Tx, id: &SessionId, now: Timestamp) -> Result<()> {
    let statement = Statement::new(concat!(
        insert_deliveries!("$2"),
        "id = $1 AND revoked_at IS NULL ON CONFLICT DO NOTHING"
    ));
    tx.run(statement.bind(id).bind(now)).await?;
    Ok(())
}

/// When the sessions of a back end's user were last revoked by [`revoke_all`]. Other revocations of
/// this user's sessions wait until the transaction ends.
pub async fn lock_last_revocation(tx: &mut Tx, subject: &str) -> Result<Option<Timestamp>> {
    lock_external(tx, subject).await?;
    let statement = Statement::new(
        "SELECT MAX(revoked_at) AS at FROM sessions \
         WHERE user_id IS NULL AND subject = $1 AND revocation_reason = $2",
    );
    let reason = RevocationReason::SubjectRevoked.as_str();
    let row = one(tx.run(statement.bind(subject).bind(reason)).await?);
    Ok(row.map(|row| row.get::<Option<i64>>("at")).transpose()?.flatten().map(Timestamp))
}

/// When a session of a user was last revoked: [`revoke_all`] takes a later time.
pub async fn last_revocation(tx: &mut Tx, user_id: &UserId) -> Result<Option<Timestamp>> {
    let statement = Statement::new("SELECT MAX(revoked_at) AS at FROM sessions WHERE user_id = $1");
    let row = one(tx.run(statement.bind(user_id)).await?);
    Ok(row.map(|row| row.get::<Option<i64>>("at")).transpose()?.flatten().map(Timestamp))
}

/// Selects the sessions to revoke.
#[derive(Clone, Copy, Debug)]
pub enum SessionSelector<'a> {
    /// All sessions of a user, without that one.
    User(&'a UserId, Option<&'a SessionId>),
    /// The sessions of a user with one client.
    UserAtClient(&'a UserId, &'a ClientId),
    /// The sessions of a browser session, without offline ones.
    Browser(&'a BrowserSessionId),
    /// The sessions of a user but one, and but those of one browser session: the second id is of
    /// either.
    Others(&'a UserId, &'a str),
    /// All sessions of a back end's user, by their `sub`.
    External(&'a str),
    /// The sessions of the subjects of a trusted issuer.
    Issuer(&'a str),
    /// The sessions of a user that JWTs of a trusted issuer have opened.
    UserByIssuer(&'a UserId, &'a str),
}

/// Revokes sessions and unexchanged codes: adds an entry to the revocation list for each, and a
/// logout delivery for each client with a logout URI; returns their number. Offline sessions of a
/// browser session stay valid, but their clients are notified too (Back-Channel Logout §2.7). A
/// fixed number of statements, whatever the number of sessions. Call it last in a transaction: the
/// next revocation of any process waits for this commit.
pub async fn revoke_all(
    tx: &mut Tx,
    of: SessionSelector<'_>,
    reason: RevocationReason,
    now: Timestamp,
    entries_expire_at: Timestamp,
) -> Result<usize> {
    // By $1 and $2, time and reason, the later statements find the rows that the first one revoked:
    // the caller must not have revoked sessions of the same selection at the same time before.
    // Deliveries are queued for all `selected` sessions; those that are also `bound` are revoked.
    macro_rules! statements {
        ($selected:literal, $bound:literal) => {
            [
                concat!(
                    "UPDATE sessions SET revoked_at = $1, revocation_reason = $2 WHERE revoked_at IS NULL AND ",
                    $selected,
                    $bound,
                    " RETURNING id"
                ),
                concat!(
                    "INSERT INTO revocations (number, kind, target, reason, created_at, expires_at) \
                     SELECT $5 + row_number() OVER (ORDER BY id), 'session', id, $2, $1, $6 FROM sessions \
                     WHERE revoked_at = $1 AND revocation_reason = $2 AND ",
                    $selected,
                    $bound
                ),
                concat!(
                    insert_deliveries!("$1"),
                    "(revoked_at IS NULL OR (revoked_at = $1 AND revocation_reason = $2)) AND ",
                    $selected,
                    " ON CONFLICT DO NOTHING"
                ),
            ]
        };
    }
    // Every condition uses both values, so that all statements have the same parameters.
    let ([revoke, list, deliver], values) = match of {
        SessionSelector::User(user, kept) => {
            // No session has the empty id.
            let kept = kept.map_or("", SessionId::as_str);
            (statements!("user_id = $3 AND id <> $4", ""), [user, kept])
        }
        SessionSelector::UserAtClient(user, client) => {
            let statements = statements!("user_id = $3 AND client_id = $4", "");
            (statements, [user.as_str(), client])
        }
        SessionSelector::Others(user, kept) => (
            statements!("user_id = $3 AND id <> $4 AND COALESCE(browser_session_id, '') <> $4", ""),
            [user, kept],
        ),
        // They live as long as an access token: the index of `expires_at` finds the few that exist.
        SessionSelector::Issuer(issuer) => (
            statements!(
                "expires_at > $1 AND details LIKE '%\"issuer\":\"' || $3 || '\"%' AND $4 = ''",
                ""
            ),
            [issuer, ""],
        ),
        SessionSelector::UserByIssuer(user, issuer) => (
            statements!("user_id = $3 AND details LIKE '%\"issuer\":\"' || $4 || '\"%'", ""),
            [user, issuer],
        ),
        SessionSelector::Browser(browser) => {
            (statements!("browser_session_id = $3 AND $4 = ''", " AND NOT offline"), [browser, ""])
        }
        SessionSelector::External(subject) => {
            (statements!("user_id IS NULL AND subject = $3 AND $4 = ''", ""), [subject, ""])
        }
    };
    let bound =
        |sql| Statement::new(sql).bind(now).bind(reason.as_str()).bind(values[0]).bind(values[1]);
    let revoked = tx.run(bound(revoke)).await?.len();
    tx.run(bound(deliver)).await?;
    if revoked == 0 {
        return Ok(0);
    }
    let count = i64::try_from(revoked).unwrap_or(i64::MAX);
    let last = change_counters::advance(tx, Counter::Revocations, count).await?;
    tx.run(bound(list).bind(last - count).bind(entries_expire_at)).await?;
    Ok(revoked)
}

/// Every `sub` of a user: the id, and the pairwise subjects of sessions that are not revoked.
pub async fn subjects_of(tx: &mut Tx, user_id: &UserId) -> Result<Vec<String>> {
    let statement = Statement::new(
        "SELECT DISTINCT subject FROM sessions WHERE user_id = $1 AND revoked_at IS NULL AND subject <> $1",
    );
    let rows = tx.run(statement.bind(user_id)).await?;
    let own = std::iter::once(Ok(user_id.as_str().to_owned()));
    own.chain(rows.iter().map(|row| row.get("subject"))).collect()
}

/// Revokes every session of a client; the caller adds the entry of the client to the revocation
/// list.
pub async fn revoke_all_of_client(
    tx: &mut Tx,
    client_id: &ClientId,
    reason: RevocationReason,
    now: Timestamp,
) -> Result<()> {
    tx.run(
        Statement::new(
            "UPDATE sessions SET revoked_at = $1, revocation_reason = $2 WHERE revoked_at IS NULL AND client_id = $3",
        )
        .bind(now)
        .bind(reason.as_str())
        .bind(client_id),
    )
    .await?;
    Ok(())
}

//! Modules and their grants to users: an account by its id, a user whom a back end keeps by their
//! `sub`, which is no account's id. Each change of a module takes the next version of the
//! clients.

use super::{
    Db, Error, Result, Row, Statement, Tx,
    change_counters::{self, Counter},
    statement::one,
};
use crate::{
    clock::Timestamp,
    model::module::{Module, ModuleGrant, OpenGrant},
    oauth::scope::Scope,
};

/// A column with the open grants of a user, for statements on other tables; parsed by
/// [`read_open_grants`]. The caller compares planned ends with the clock.
macro_rules! open_grants {
    ($user:literal) => {
        concat!(
            "(SELECT string_agg(g.module_id || ' ' || COALESCE(g.valid_until, 0), ',') FROM module_grants g \
             WHERE g.subject = ",
            $user,
            " AND g.closed_at IS NULL) AS user_modules"
        )
    };
}
pub(super) use open_grants;

/// Parses the column of [`open_grants!`].
pub(super) fn read_open_grants(row: &Row) -> Result<Vec<OpenGrant>> {
    let text: Option<String> = row.get("user_modules")?;
    let corrupt = || Error::Corrupt("malformed open grants".to_owned());
    let texts = text.iter().flat_map(|text| text.split(','));
    texts
        .map(|text| {
            let (module, until) = text.split_once(' ').ok_or_else(corrupt)?;
            let until: i64 = until.parse().map_err(|_| corrupt())?;
            Ok(OpenGrant {
                module_id: module.to_owned(),
                valid_until: (until != 0).then_some(Timestamp(until)),
            })
        })
        .collect()
}

const ALL: &str = "SELECT id, names, descriptions, scope, resource, is_self_service, created_at, updated_at \
                   FROM modules ORDER BY id";

/// Every module, ordered by id.
pub async fn all(db: &Db) -> Result<Vec<Module>> {
    db.read(Statement::new(ALL)).await?.iter().map(module).collect()
}

/// As [`all`], in a transaction.
pub async fn all_in(tx: &mut Tx) -> Result<Vec<Module>> {
    tx.run(Statement::new(ALL)).await?.iter().map(module).collect()
}

/// Up to `most` modules with ids above `after`, in order.
pub async fn page(db: &Db, after: &str, most: i64) -> Result<Vec<Module>> {
    let statement = Statement::new(
        "SELECT id, names, descriptions, scope, resource, is_self_service, created_at, updated_at \
         FROM modules WHERE id > $1 ORDER BY id LIMIT $2",
    );
    let rows = db.read(statement.bind(after).bind(most)).await?;
    rows.iter().map(module).collect()
}

/// Adds a module, or replaces the one with the same id.
pub async fn put(tx: &mut Tx, module: &Module) -> Result<()> {
    let json = |texts| serde_json::to_string(texts).map_err(|e| Error::Corrupt(e.to_string()));
    tx.run(
        Statement::new(
            "INSERT INTO modules (id, names, descriptions, scope, resource, is_self_service, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO UPDATE \
             SET names = $2, descriptions = $3, scope = $4, resource = $5, is_self_service = $6, updated_at = $8",
        )
        .bind(module.id.as_str())
        .bind(json(&module.names)?)
        .bind(json(&module.descriptions)?)
        .bind(module.scope.to_string())
        .bind(module.resource.as_deref())
        .bind(module.is_self_service)
        .bind(module.created_at)
        .bind(module.updated_at),
    )
    .await?;
    for scope in module.scope.iter() {
        let statement = Statement::new(
            "INSERT INTO module_scopes (name) VALUES ($1) ON CONFLICT (name) DO NOTHING",
        );
        tx.run(statement.bind(scope)).await?;
    }
    change_counters::next(tx, Counter::Clients).await?;
    Ok(())
}

/// Makes a scope general again; `false` if it never was a module's.
pub async fn release_scope(tx: &mut Tx, name: &str) -> Result<bool> {
    let statement = Statement::new("DELETE FROM module_scopes WHERE name = $1 RETURNING name");
    let rows = tx.run(statement.bind(name)).await?;
    change_counters::next(tx, Counter::Clients).await?;
    Ok(!rows.is_empty())
}

/// A module, for a transaction that changes it: other changes of modules wait until it ends.
pub async fn lock(tx: &mut Tx, id: &str) -> Result<Option<Module>> {
    change_counters::next(tx, Counter::Clients).await?;
    let statement = Statement::new(
        "SELECT id, names, descriptions, scope, resource, is_self_service, created_at, updated_at \
         FROM modules WHERE id = $1",
    );
    let rows = tx.run(statement.bind(id)).await?;
    one(rows).map(|row| module(&row)).transpose()
}

/// Removes a module; its grants remain as history.
pub async fn remove(tx: &mut Tx, id: &str) -> Result<()> {
    tx.run(Statement::new("DELETE FROM modules WHERE id = $1").bind(id)).await?;
    Ok(())
}

/// Makes other changes of the modules and sessions of a back end's user, which take this lock as
/// well, wait until the transaction ends: there is no row of theirs to lock.
pub async fn lock_external(tx: &mut Tx, subject: &str) -> Result<()> {
    let statement = Statement::new("SELECT $1 AS locked")
        .locking("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))::text AS locked");
    tx.run(statement.bind(subject)).await?;
    Ok(())
}

/// Adds an open grant; `false` if the user has the module already.
pub async fn open(tx: &mut Tx, grant: &ModuleGrant) -> Result<bool> {
    let rows = tx
        .run(
            Statement::new(
                "INSERT INTO module_grants (id, subject, user_id, module_id, valid_from, valid_until, granted_by) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) \
                 ON CONFLICT (subject, module_id) WHERE closed_at IS NULL DO NOTHING RETURNING id",
            )
            .bind(grant.id.as_str())
            .bind(grant.subject.as_str())
            .bind(grant.user_id.as_deref())
            .bind(grant.module_id.as_str())
            .bind(grant.valid_from)
            .bind(grant.valid_until)
            .bind(grant.granted_by.as_str()),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Selects the users whose grants are closed.
#[derive(Clone, Copy, Debug)]
pub enum GrantHolder<'a> {
    User(&'a str),
    Everyone,
}

impl<'a> GrantHolder<'a> {
    const fn user(self) -> &'a str {
        match self {
            Self::User(id) => id,
            Self::Everyone => "",
        }
    }
}

/// Closes open grants of a module and returns the ids of the users. Call [`close_expired`] first,
/// so that expired grants are not among them.
pub async fn close(
    tx: &mut Tx,
    module_id: &str,
    whose: GrantHolder<'_>,
    ended_by: &str,
    now: Timestamp,
) -> Result<Vec<String>> {
    let rows = tx
        .run(
            Statement::new(
                "UPDATE module_grants SET closed_at = $3, valid_until = $3, ended_by = $4 \
                 WHERE module_id = $1 AND ($2 = '' OR subject = $2) AND closed_at IS NULL RETURNING subject",
            )
            .bind(module_id)
            .bind(whose.user())
            .bind(now)
            .bind(ended_by),
        )
        .await?;
    rows.iter().map(|row| row.get("subject")).collect()
}

/// The planned end of a user's open grant; `None` if there is no such grant.
pub async fn planned_end(
    tx: &mut Tx,
    subject: &str,
    module_id: &str,
) -> Result<Option<Option<Timestamp>>> {
    let statement = Statement::new(
        "SELECT valid_until FROM module_grants WHERE subject = $1 AND module_id = $2 AND closed_at IS NULL",
    );
    let rows = tx.run(statement.bind(subject).bind(module_id)).await?;
    let end = |row: Row| Ok(row.get::<Option<i64>>("valid_until")?.map(Timestamp));
    one(rows).map(end).transpose()
}

/// Closes up to `most` grants that have reached their planned end, of one user or, with `""`, of
/// every user. Returns user, module and end of each.
pub async fn close_expired(
    tx: &mut Tx,
    subject: &str,
    now: Timestamp,
    most: i64,
) -> Result<Vec<(String, String, Timestamp)>> {
    let rows = tx
        .run(
            Statement::new(
                "UPDATE module_grants SET closed_at = valid_until WHERE id IN (SELECT id FROM module_grants \
                 WHERE closed_at IS NULL AND valid_until <= $1 AND ($2 = '' OR subject = $2) LIMIT $3) \
                 AND closed_at IS NULL RETURNING subject, module_id, valid_until",
            )
            .bind(now)
            .bind(subject)
            .bind(most),
        )
        .await?;
    let closed = rows.iter().map(|row| {
        let end = Timestamp(row.get("valid_until")?);
        Ok((row.get("subject")?, row.get("module_id")?, end))
    });
    closed.collect()
}

/// As [`open_of_user`], in a transaction.
pub async fn open_of_user_in(tx: &mut Tx, subject: &str) -> Result<Vec<OpenGrant>> {
    let statement = Statement::new(
        "SELECT module_id, valid_until FROM module_grants WHERE subject = $1 AND closed_at IS NULL",
    );
    let rows = tx.run(statement.bind(subject)).await?;
    let grant = |row: &Row| {
        let valid_until = row.get::<Option<i64>>("valid_until")?.map(Timestamp);
        Ok(OpenGrant { module_id: row.get("module_id")?, valid_until })
    };
    rows.iter().map(grant).collect()
}

/// A user's open grants in the form that tokens depend on.
pub async fn open_of_user(db: &Db, subject: &str) -> Result<Vec<OpenGrant>> {
    let grants = of_user(db, subject).await?.into_iter();
    let open = grants
        .map(|grant| OpenGrant { module_id: grant.module_id, valid_until: grant.valid_until });
    Ok(open.collect())
}

/// A user's open grants.
pub async fn of_user(db: &Db, subject: &str) -> Result<Vec<ModuleGrant>> {
    let statement = Statement::new(
        "SELECT id, subject, user_id, module_id, valid_from, valid_until, granted_by, ended_by, closed_at \
         FROM module_grants WHERE subject = $1 AND closed_at IS NULL ORDER BY module_id",
    );
    let rows = db.read(statement.bind(subject)).await?;
    rows.iter().map(grant).collect()
}

/// Up to `most` grants of a user, closed ones included, newest first, below `(valid_from, id)`.
pub async fn history(
    db: &Db,
    subject: &str,
    before: (Timestamp, &str),
    most: i64,
) -> Result<Vec<ModuleGrant>> {
    let statement = Statement::new(
        "SELECT id, subject, user_id, module_id, valid_from, valid_until, granted_by, ended_by, closed_at \
         FROM module_grants WHERE subject = $1 AND (valid_from < $2 OR (valid_from = $2 AND id < $3)) \
         ORDER BY valid_from DESC, id DESC LIMIT $4",
    );
    let rows = db.read(statement.bind(subject).bind(before.0).bind(before.1).bind(most)).await?;
    rows.iter().map(grant).collect()
}

/// A user's grants at a given time.
pub async fn at(db: &Db, subject: &str, moment: Timestamp) -> Result<Vec<ModuleGrant>> {
    let statement = Statement::new(
        "SELECT id, subject, user_id, module_id, valid_from, valid_until, granted_by, ended_by, closed_at \
         FROM module_grants WHERE subject = $1 AND valid_from <= $2 AND (valid_until IS NULL OR valid_until > $2) \
         ORDER BY module_id",
    );
    let rows = db.read(statement.bind(subject).bind(moment)).await?;
    rows.iter().map(grant).collect()
}

/// Up to `most` open grants of a module with subjects above `after`, in order.
pub async fn of_module(
    db: &Db,
    module_id: &str,
    after: &str,
    most: i64,
) -> Result<Vec<ModuleGrant>> {
    let statement = Statement::new(
        "SELECT id, subject, user_id, module_id, valid_from, valid_until, granted_by, ended_by, closed_at \
         FROM module_grants WHERE module_id = $1 AND closed_at IS NULL AND subject > $2 ORDER BY subject LIMIT $3",
    );
    let rows = db.read(statement.bind(module_id).bind(after).bind(most)).await?;
    rows.iter().map(grant).collect()
}

/// Up to `most` grants of a module, closed ones included, newest first, with ids below `before`.
/// Ids are in order of time, so the statement walks back through the primary key.
pub async fn history_of_module(
    db: &Db,
    module_id: &str,
    before: &str,
    most: i64,
) -> Result<Vec<ModuleGrant>> {
    let statement = Statement::new(
        "SELECT id, subject, user_id, module_id, valid_from, valid_until, granted_by, ended_by, closed_at \
         FROM module_grants WHERE module_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
    );
    let rows = db.read(statement.bind(module_id).bind(before).bind(most)).await?;
    rows.iter().map(grant).collect()
}

fn module(row: &Row) -> Result<Module> {
    let corrupt = |error: serde_json::Error| Error::Corrupt(error.to_string());
    let texts = |name| serde_json::from_str(&row.get::<String>(name)?).map_err(corrupt);
    let scope: String = row.get("scope")?;
    Ok(Module {
        id: row.get("id")?,
        names: texts("names")?,
        descriptions: texts("descriptions")?,
        scope: Scope::parse(&scope).map_err(|why| Error::Corrupt(why.to_owned()))?,
        resource: row.get("resource")?,
        is_self_service: row.get("is_self_service")?,
        created_at: Timestamp(row.get("created_at")?),
        updated_at: Timestamp(row.get("updated_at")?),
    })
}

fn grant(row: &Row) -> Result<ModuleGrant> {
    let moment = |name| Ok::<_, Error>(row.get::<Option<i64>>(name)?.map(Timestamp));
    Ok(ModuleGrant {
        id: row.get("id")?,
        subject: row.get("subject")?,
        user_id: row.get("user_id")?,
        module_id: row.get("module_id")?,
        valid_from: Timestamp(row.get("valid_from")?),
        valid_until: moment("valid_until")?,
        granted_by: row.get("granted_by")?,
        ended_by: row.get("ended_by")?,
        closed_at: moment("closed_at")?,
    })
}

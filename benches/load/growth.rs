//! How much a database grows: bytes per 10,000 requests. Reported without limits.

use sqlx::{Connection as _, PgConnection};

use crate::{
    Bench, Deployment, Result, SESSIONS, back_ends,
    client::{Load, drive},
    logins, oauth, process,
    report::{Figure, Required},
    seed,
};

/// Requests that growth is given for.
const REQUESTS: f64 = 10_000.0;

/// Bytes that a database has, and bytes written to keep them.
struct Size {
    kept: f64,
    written: f64,
}

impl Size {
    /// Tables with their indexes, and WAL; in SQLite pages, and what the server has written to WAL
    /// and file.
    async fn of(site: &Deployment) -> Result<Self> {
        if site.is_sqlite() {
            let options = sqlx::sqlite::SqliteConnectOptions::new()
                .filename(site.folder.join("propusk.db"))
                .read_only(true);
            let mut connection = sqlx::SqliteConnection::connect_with(&options).await?;
            let pages: i64 =
                sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut connection).await?;
            let bytes: i64 =
                sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut connection).await?;
            connection.close().await?;
            let written = process::written(site.server.id()?)?;
            return Ok(Self { kept: pages as f64 * bytes as f64, written });
        }
        let mut connection = PgConnection::connect(&site.url).await?;
        let (kept, written): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c \
             WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace), \
             pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint",
        )
        .fetch_one(&mut connection)
        .await?;
        Ok(Self { kept: kept as f64, written: written as f64 })
    }
}

impl Bench {
    /// By logins, refreshes, code flows, and tokens for a back end's users.
    pub(crate) async fn growth(&self, backend: &str, figures: &mut Vec<Figure>) -> Result<()> {
        // Passwords are not what is measured.
        let site = self.site_with(backend, "growth", &logins::CHEAP_PASSWORDS).await?;
        oauth::seed(&site).await?;
        back_ends::seed(&site).await?;
        let refreshes = self.refreshing(&self.seed(&site, SESSIONS, 0).await?, true);
        let issues = (0..self.connections).map(|_| Load::fixed(back_ends::issue_request()));
        let loads = [
            ("logins", Some(logins::flood(self.connections))),
            ("refreshes", Some(refreshes)),
            ("code flows", None),
            ("tokens for a back end's users", Some(issues.collect())),
        ];
        let lasting = self.lasting * u32::try_from(self.rounds)?;
        for (what, loads) in loads {
            if !site.is_sqlite() {
                // So that every measurement begins with the same state: its WAL has the images of
                // pages that are written to for the first time after a checkpoint.
                seed::settle(&site.url).await?;
            }
            let before = Size::of(&site).await?;
            let requests = match loads {
                Some(mut loads) => drive(site.server.address, &mut loads, lasting).await?.requests,
                None => oauth::flows(&site, self.connections, lasting).await?.requests,
            };
            let after = Size::of(&site).await?;
            let kib = |before: f64, after: f64| {
                (after - before) / 1024.0 * REQUESTS / requests.max(1) as f64
            };
            let parts = if site.is_sqlite() {
                ["file", "written to WAL and file"]
            } else {
                ["tables and indexes", "WAL"]
            };
            let values = [kib(before.kept, after.kept), kib(before.written, after.written)];
            for (part, value) in parts.into_iter().zip(values) {
                figures.push(Figure {
                    name: format!("growth by 10,000 {what}: {part}, {backend}"),
                    rounds: vec![(value, f64::NAN)],
                    unit: "KiB",
                    basis: format!("none; {requests} were made"),
                    required: Required::Nothing,
                    disk: None,
                    cpu: vec![],
                });
            }
        }
        site.server.stop().await
    }
}

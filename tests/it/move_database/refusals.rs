//! What is refused, with nothing changed.

use std::{fs, os::unix::fs::PermissionsExt as _};

use sqlx::AssertSqlSafe;

use super::{
    Backend, Contents, Database, assert_fails, contents::sqlite, file_of, move_to, moves,
    of_postgres, of_sqlite, run, target_for, text, url,
};
use crate::support::{
    postgres::run_in,
    process::{Process, free_port, set_up},
};

/// A database of an older and of a newer program, on either side: what makes it one, and the error.
const OTHER_VERSIONS: [(&str, &str); 2] = [
    (
        "DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)",
        "1 migration(s) are pending",
    ),
    (
        "UPDATE _sqlx_migrations SET version = 9999 \
         WHERE version = (SELECT max(version) FROM _sqlx_migrations)",
        "9999 of a newer",
    ),
];

/// A URL at which nothing listens.
fn nowhere() -> String {
    format!("postgres://propusk:canary@127.0.0.1:{}/propusk", free_port())
}

async fn change(source: &Database, sql: &str) {
    let mut connection = sqlite(&file_of(source)).await;
    let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    statement.execute(&mut connection).await.expect("it runs");
    sqlx::Connection::close(connection).await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_without_a_source_or_a_target_is_refused() {
    let source = Database::prepared(Backend::Sqlite).await;
    let without = run(&source, &[], &["move"]);
    assert_fails(&without, 2, &["--to <URL>", "--to-file <FILE>"]);
    for target in ["mysql://u:canary@db/x", "sqlite:///tmp/x.db", "", "postgres://u:canary@db:x/"] {
        let output = move_to(&source, target);
        assert_fails(&output, 2, &["the target is not a PostgreSQL URL"]);
        assert!(!text(&output.stderr).contains("canary"), "{output:?}");
    }
    let absent = run(&source, &[("PROPUSK_MOVE_TO_FILE", "/no/such")], &["move"]);
    assert_fails(&absent, 2, &["cannot read /no/such"]);
    let two = run(&source, &[], &["move", "--to", "postgres://h/d", "--to-file", "x"]);
    assert_fails(&two, 2, &["cannot be used with"]);

    let postgres =
        [("PROPUSK_DATABASE__URL", "postgres://h/d"), ("PROPUSK_MOVE_TO", "postgres://h/d")];
    let output = run(&source, &postgres, &["move"]);
    assert_fails(&output, 2, &["the configured database is not SQLite", "PROPUSK_DATABASE__URL"]);
    let empty = Database::new(Backend::Sqlite).await;
    let nothing = ["there is no database of Propusk in", "propusk.db", "run the command in"];
    assert_fails(&move_to(&empty, &nowhere()), 1, &nothing);
    assert!(!file_of(&empty).exists());
    fs::write(file_of(&empty), "").expect("written");
    assert_fails(&move_to(&empty, &nowhere()), 1, &nothing);

    // The URL is read from a file, which others should not be able to read; a password is not shown.
    let file = source.folder.path().join("target");
    fs::write(&file, format!("{}\n", nowhere())).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("changed");
    let output = run(&source, &[], &["move", "--to-file", "target"]);
    assert_fails(
        &output,
        1,
        &["cannot connect to PostgreSQL", "nothing was copied", "accessible to other users"],
    );
    assert!(!text(&output.stderr).contains("canary"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_with_another_schema_is_refused() {
    let changes = [
        ("UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 1", "was changed"),
        ("ALTER TABLE scopes ADD COLUMN colour TEXT", "the columns of the table scopes"),
        ("DROP TABLE scopes", "the columns of the table scopes"),
    ];
    for (sql, says) in OTHER_VERSIONS.into_iter().chain(changes) {
        let source = Database::prepared(Backend::Sqlite).await;
        change(&source, sql).await;
        let before = of_sqlite(&file_of(&source)).await;
        let output = move_to(&source, &nowhere());
        assert_fails(&output, 1, &["the schema of the source", says, "nothing was copied"]);
        assert!(of_sqlite(&file_of(&source)).await == before, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_beside_a_running_server_is_refused() {
    let source = Database::prepared_by_system_time(Backend::Sqlite).await;
    let server = Process::serve(&source, &[]).await;
    let output = move_to(&source, &nowhere());
    assert_fails(&output, 1, &["a server is running on", "stop it first"]);
    assert!(server.terminate().await.success());
    // Nothing is left of the lock: now it is the target that is missing.
    assert_fails(&move_to(&source, &nowhere()), 1, &["cannot connect to PostgreSQL"]);
    let server = Process::serve(&source, &[]).await;
    // A server that was killed holds no lock either.
    server.kill();
    assert_fails(&move_to(&source, &nowhere()), 1, &["cannot connect to PostgreSQL"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_beside_another_writer_is_refused() {
    let source = Database::prepared(Backend::Sqlite).await;
    let mut writer = sqlite(&file_of(&source)).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut writer).await.expect("the lock");
    let nowhere = nowhere();
    let settings =
        [("PROPUSK_MOVE_TO", nowhere.as_str()), ("PROPUSK_DATABASE__ACQUIRE_TIMEOUT", "200ms")];
    assert_fails(&run(&source, &settings, &["move"]), 1, &["another program writes to"]);
}

/// Everything in the target, also what is not a row of Propusk.
async fn refused(source: &Database, target: &Database, says: &[&str]) {
    let (before, rows): (Contents, Contents) =
        (of_postgres(url(target)).await, of_sqlite(&file_of(source)).await);
    let output = move_to(source, url(target));
    assert_fails(&output, 1, says);
    assert!(text(&output.stderr).contains("nothing was copied"), "{output:?}");
    assert!(of_postgres(url(target)).await == before, "the target was changed");
    assert!(of_sqlite(&file_of(source)).await == rows, "the source was changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn a_target_that_is_not_empty_is_refused() {
    let source = Database::prepared(Backend::Sqlite).await;
    let target = target_for(&source).await;
    moves(&source, &target);
    refused(&source, &target, &["the target is not empty: it has rows in", "keys"]).await;

    // Migrated and used, if only by one changed row.
    let changes = [
        "INSERT INTO scopes VALUES ('x', '{}')",
        "UPDATE roles SET description = 'x' WHERE name = 'user'",
        "DELETE FROM clients WHERE id = 'propusk'",
    ];
    for (sql, table) in changes.into_iter().zip(["scopes", "roles", "clients"]) {
        let target = target_for(&source).await;
        set_up(&target);
        run_in(url(&target), sql).await;
        let says = format!("it has rows in {table};");
        refused(&source, &target, &[&says]).await;
    }

    // One that was migrated, and has nothing else, is empty.
    let target = target_for(&source).await;
    set_up(&target);
    moves(&source, &target);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn a_target_with_another_schema_is_refused() {
    let source = Database::prepared(Backend::Sqlite).await;
    let target = target_for(&source).await;
    run_in(url(&target), "CREATE TABLE users (id TEXT)").await;
    refused(&source, &target, &["the target has a table users"]).await;

    let changes = [
        ("ALTER TABLE scopes ADD COLUMN colour TEXT", "the columns of the table scopes"),
        ("ALTER TABLE scopes ALTER COLUMN name TYPE varchar", "scopes.name is not supported"),
    ];
    for (sql, says) in OTHER_VERSIONS.into_iter().chain(changes) {
        let target = target_for(&source).await;
        set_up(&target);
        run_in(url(&target), sql).await;
        refused(&source, &target, &["the schema of the target", says]).await;
    }

    // Tables of others beside do not matter.
    let target = target_for(&source).await;
    run_in(url(&target), "CREATE TABLE theirs (id TEXT); INSERT INTO theirs VALUES ('x')").await;
    change(&source, "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)").await;
    let printed = moves(&source, &target);
    assert!(printed.contains("left out: the table _litestream_seq"), "{printed}");
}

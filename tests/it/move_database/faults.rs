//! A copy that fails, or whose process is killed, leaves both databases as they were.

use std::{fs, process::Stdio, sync::Arc};

use sqlx::{Connection as _, PgConnection, Row as _};

use super::{
    Backend, Database, assert_fails, command, contents::sqlite, file_of, move_to, moves,
    of_postgres, of_sqlite, run, stop, target_for, text, url,
};
use crate::support::{
    PASSWORD, TestServer,
    chromium::until,
    postgres::{run_beside, run_in},
    process::{free_address, set_up},
};

/// A stopped SQLite deployment with a user and a session.
async fn with_a_user() -> Arc<Database> {
    let server = TestServer::start(Backend::Sqlite).await;
    server.register("vera").await;
    stop(server).await
}

/// Has PostgreSQL run a text before each insert into a table.
async fn before_insert(target: &Database, table: &str, body: &str) {
    let sql = format!(
        "CREATE FUNCTION disturb() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$; \
         CREATE TRIGGER disturb BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION disturb()"
    );
    run_in(url(target), &sql).await;
}

async fn is_asleep(url: &str) -> Option<()> {
    let mut connection = PgConnection::connect(url).await.expect("PostgreSQL answers");
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let row = sqlx::query(sql).fetch_one(&mut connection).await.expect("a row");
    connection.close().await.expect("closed");
    (row.get::<i64, _>(0) > 0).then_some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn a_killed_move_leaves_nothing_and_can_be_repeated() {
    let source = with_a_user().await;
    let target = target_for(&source).await;
    set_up(&target);
    let before = of_postgres(url(&target)).await;
    // Users are there when the first session arrives.
    before_insert(&target, "sessions", "PERFORM pg_sleep(60); RETURN NEW;").await;
    // PostgreSQL notices the end of its client at once.
    run_beside(url(&target), "ALTER DATABASE {} SET client_connection_check_interval = 100").await;
    let mut child = command(&source, &[("PROPUSK_MOVE_TO", url(&target))])
        .arg("move")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    until("the copy of a session", || is_asleep(url(&target))).await;

    // Meanwhile nothing that would be lost can be written to the source.
    let rows = of_sqlite(&file_of(&source)).await;
    let address = free_address();
    let serve = run(&source, &[("PROPUSK_SERVER__LISTEN", &address)], &["serve"]);
    assert_fails(&serve, 1, &["`propusk move` copies the database"]);
    let impatient = [("PROPUSK_DATABASE__ACQUIRE_TIMEOUT", "200ms")];
    let add = run(&source, &impatient, &["user", "add", "nora@example.org"]);
    assert_fails(&add, 1, &["lock"]);
    assert!(of_sqlite(&file_of(&source)).await == rows, "the source was changed");

    child.kill().expect("killed");
    child.wait().expect("its end");
    until("the end of the transaction", || async {
        is_asleep(url(&target)).await.is_none().then_some(())
    })
    .await;
    run_in(url(&target), "DROP FUNCTION disturb CASCADE").await;
    assert!(of_postgres(url(&target)).await == before, "something was left in the target");
    let printed = moves(&source, &target);
    assert!(printed.contains("sessions"), "{printed}");
    assert_eq!(of_postgres(url(&target)).await["sessions"], rows["sessions"]);
    assert_eq!(of_postgres(url(&target)).await["users"], rows["users"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn rows_that_change_on_the_way_are_found() {
    let source = with_a_user().await;
    let disturbances = [
        // A value, a missing row, numbers, and empty bytes in place of NULL.
        ("users", "NEW.role := 'admin'; RETURN NEW;"),
        ("sessions", "RETURN NULL;"),
        (
            "keys",
            "NEW.created_at := NEW.activates_at; NEW.activates_at := NEW.created_at - 1; RETURN NEW;",
        ),
        ("clients", "IF NEW.secret_hash IS NULL THEN NEW.secret_hash := ''; END IF; RETURN NEW;"),
    ];
    for (table, body) in disturbances {
        let target = target_for(&source).await;
        set_up(&target);
        let before = of_postgres(url(&target)).await;
        before_insert(&target, table, body).await;
        let output = move_to(&source, url(&target));
        let says = format!("table {table} differs after the copy");
        assert_fails(&output, 1, &[&says, "nothing was copied"]);
        assert!(of_postgres(url(&target)).await == before, "{table}: something was left");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn rows_that_postgresql_cannot_hold_are_named() {
    let changes = [
        (
            "UPDATE users SET username = 'a' || char(0) || 'b'",
            "users, row id='",
            "username contains",
        ),
        (
            "UPDATE users SET language = CAST(x'ff' AS TEXT)",
            "users, row id='",
            "language is not valid UTF-8",
        ),
        ("UPDATE users SET language = x'00'", "users, row id='", "language is BLOB"),
        ("UPDATE users SET created_at = 1.5", "users, row id='", "created_at is REAL"),
        ("UPDATE users SET is_verified = 2", "users, row id='", "is_verified is 2"),
        ("UPDATE sessions SET current_hash = 'text'", "sessions, row id='", "current_hash is TEXT"),
        (
            "UPDATE sessions SET user_id = 'nobody'",
            "sessions: PostgreSQL refused rows",
            "(user_id)=(nobody) is not present",
        ),
    ];
    let source = with_a_user().await;
    let whole = fs::read(file_of(&source)).expect("the file");
    for (sql, row, problem) in changes {
        fs::write(file_of(&source), &whole).expect("written");
        let mut connection = sqlite(&file_of(&source)).await;
        let changed = sqlx::query(sql).execute(&mut connection).await.expect("changed");
        assert!(changed.rows_affected() > 0, "{sql}");
        connection.close().await.expect("closed");
        let target = target_for(&source).await;
        let output = move_to(&source, url(&target));
        assert_fails(&output, 1, &[row, problem, "nothing was copied"]);
        assert!(!text(&output.stderr).contains(PASSWORD));
        assert!(of_postgres(url(&target)).await.is_empty(), "{sql}: tables were left");
    }
    fs::write(file_of(&source), &whole).expect("written");
    moves(&source, &target_for(&source).await);
}

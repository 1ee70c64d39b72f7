//! Every table, every type, and many rows.

use std::{collections::BTreeMap, fs, process::Stdio, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, Row as _, Sqlite, SqliteConnection, query::Query,
    sqlite::SqliteArguments,
};

use super::{
    Backend, Database, command, contents::sqlite, file_of, moves, of_postgres, of_sqlite, run,
    target_for, text, url,
};
use crate::support::{postgres::PgBouncer, process::peak_memory};

struct Column {
    name: String,
    kind: String,
    is_required: bool,
    /// The table and column that it refers to.
    refers_to: Option<(String, String)>,
}

type Tables = BTreeMap<String, Vec<Column>>;

/// The tables by SQLite's catalogue.
async fn tables(connection: &mut SqliteConnection) -> Tables {
    let sql = "SELECT m.name, p.name, p.type, p.\"notnull\" OR p.pk > 0, f.\"table\", f.\"to\" \
               FROM sqlite_schema m JOIN pragma_table_info(m.name) p \
               LEFT JOIN pragma_foreign_key_list(m.name) f ON f.\"from\" = p.name \
               WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite!_%' ESCAPE '!' \
               AND m.name <> '_sqlx_migrations'";
    let mut tables = Tables::new();
    for row in sqlx::query(sql).fetch_all(connection).await.expect("the catalogue") {
        let parent: Option<String> = row.get(4);
        let column = Column {
            name: row.get(1),
            kind: row.get(2),
            is_required: row.get(3),
            refers_to: parent.map(|parent| (parent, row.get(5))),
        };
        tables.entry(row.get(0)).or_default().push(column);
    }
    tables
}

enum Value {
    Null,
    Text(String),
    Int(i64),
    Bytes(Vec<u8>),
}

/// The value of a column in the row `n`; all that is optional is absent from row 2.
fn value(tables: &Tables, table: &str, column: &Column, n: i64) -> Value {
    if n == 2 && !column.is_required {
        return Value::Null;
    }
    if let Some((parent, to)) = &column.refers_to {
        let to = tables[parent].iter().find(|column| column.name == *to).expect("the column");
        return value(tables, parent, to, n);
    }
    match column.kind.as_str() {
        "TEXT" if n == 3 && !column.is_required => Value::Text(String::new()),
        "TEXT" => {
            Value::Text(format!("{table}.{} {n}: \\N\t\"é\"\r\n'漢字' \u{1f512}", column.name))
        }
        "BIGINT" if n == 1 => Value::Int(i64::MAX - 1),
        "BIGINT" => Value::Int(i64::MIN + n),
        "INTEGER" => Value::Int(1_000 + n),
        "BOOLEAN" => Value::Int(n % 2),
        "BLOB" if n == 3 && !column.is_required => Value::Bytes(vec![]),
        "BLOB" => Value::Bytes(vec![0, 255, u8::try_from(n).expect("small"), b'\\', b'\n', 0]),
        other => panic!("{table}.{} has the type {other}: add it here", column.name),
    }
}

fn bound<'q>(
    query: Query<'q, Sqlite, SqliteArguments>,
    value: Value,
) -> Query<'q, Sqlite, SqliteArguments> {
    match value {
        Value::Null => query.bind(None::<String>),
        Value::Text(text) => query.bind(text),
        Value::Int(number) => query.bind(number),
        Value::Bytes(bytes) => query.bind(bytes),
    }
}

/// Three rows in each table, with the values that are easily mistaken for others.
async fn fill(connection: &mut SqliteConnection) {
    let tables = tables(connection).await;
    for (table, columns) in &tables {
        for n in 1..=3 {
            let places: Vec<_> = (1..=columns.len()).map(|at| format!("${at}")).collect();
            let names: Vec<_> = columns.iter().map(|c| format!("\"{}\"", c.name)).collect();
            let (names, places) = (names.join(", "), places.join(", "));
            let sql = format!("INSERT INTO \"{table}\" ({names}) VALUES ({places})");
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for column in columns {
                query = bound(query, value(&tables, table, column, n));
            }
            let inserted = query.execute(&mut *connection).await;
            inserted.unwrap_or_else(|error| panic!("{table}: {error}"));
        }
    }
    let broken = sqlx::query("PRAGMA foreign_key_check").fetch_all(connection).await.expect("rows");
    assert!(broken.is_empty(), "the rows that are referred to exist");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn every_table_is_copied_with_every_type_of_value() {
    let source = Database::prepared(Backend::Sqlite).await;
    let mut connection = sqlite(&file_of(&source)).await;
    fill(&mut connection).await;
    // The largest numbers belonged to rows that are gone.
    let sequences = "SELECT name, seq FROM sqlite_sequence";
    let numbered = sqlx::query(sequences).fetch_all(&mut connection).await.expect("rows");
    let numbered: BTreeMap<String, i64> =
        numbered.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert!(numbered.len() >= 4 && numbered.values().all(|number| *number >= 1_003));
    for table in numbered.keys() {
        let sql = format!("DELETE FROM {table} WHERE number > 1001");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.expect("deleted");
    }
    connection.close().await.expect("closed");

    let target = target_for(&source).await;
    let printed = moves(&source, &target);
    let (expected, found) = (of_sqlite(&file_of(&source)).await, of_postgres(url(&target)).await);
    for (table, rows) in &expected {
        assert!(!rows.is_empty(), "{table} has no row");
        assert_eq!(found.get(table), Some(rows), "{table}");
        let listed = format!("{} equal", rows.len());
        let line = printed.lines().find(|line| line.split(' ').next() == Some(table));
        let line = line.unwrap_or_else(|| panic!("{table} is not in {printed}"));
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(format!("{} {}", words[1], words[3]), listed, "{line}");
    }
    assert_eq!(found.len(), expected.len(), "{:?}", found.keys());

    let mut connection = PgConnection::connect(url(&target)).await.expect("PostgreSQL answers");
    let identities = "SELECT table_name::text, nextval(pg_get_serial_sequence(table_name, column_name)) \
                      FROM information_schema.columns \
                      WHERE is_identity = 'YES' AND table_schema = 'public'";
    let next = sqlx::query(identities).fetch_all(&mut connection).await.expect("rows");
    let next: BTreeMap<String, i64> = next.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected = numbered.into_iter().map(|(table, last)| (table, last + 1)).collect();
    assert_eq!(next, expected, "no number is given out twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn many_rows_are_copied_in_bounded_memory() {
    const ROWS: usize = 60_000;
    let source = Database::prepared(Backend::Sqlite).await;
    let mut connection = sqlite(&file_of(&source)).await;
    // 2 KiB each: more than the process may take.
    let sql = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) \
         INSERT INTO users (id, email, email_canonical, password_hash, role, is_verified, created_at, updated_at) \
         SELECT printf('id-%08d', i), i || '@example.org', i || '@example.org', 'x', 'user', i % 2, i, i FROM n; \
         INSERT INTO profiles (user_id, claims, updated_at) \
         SELECT id, '{{\"name\":\"' || hex(randomblob(1024)) || '\"}}', 0 FROM users"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("inserted");
    connection.close().await.expect("closed");
    let size = fs::metadata(file_of(&source)).expect("the file").len();
    assert!(size > 120 << 20, "{size}");

    let target = target_for(&source).await;
    let mut child = command(&source, &[("PROPUSK_MOVE_TO", url(&target))])
        .arg("move")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut largest = 0;
    while child.try_wait().expect("a child").is_none() {
        largest = largest.max(peak_memory(child.id()).unwrap_or_default());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "progress is for terminals");
    assert!(text(&output.stdout).contains("profiles"), "{output:?}");
    assert!(largest > 0 && largest < 80 << 10, "{largest} KiB");
    let (expected, found) = (of_sqlite(&file_of(&source)).await, of_postgres(url(&target)).await);
    for table in ["users", "profiles"] {
        assert!(expected[table].len() >= ROWS, "{table}");
        assert!(expected[table] == found[table], "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL and PgBouncer: run ./dev/test"]
async fn rows_are_copied_through_a_transaction_pooler() {
    let source = Database::prepared(Backend::Sqlite).await;
    let target = target_for(&source).await;
    let pooler = PgBouncer::start(url(&target), 2).await;
    let behind = pooler.url(url(&target));
    let settings =
        [("PROPUSK_MOVE_TO", behind.as_str()), ("PROPUSK_DATABASE__PREPARED_STATEMENTS", "false")];
    let output = run(&source, &settings, &["move"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (expected, found) = (of_sqlite(&file_of(&source)).await, of_postgres(url(&target)).await);
    assert_eq!(found, expected);
    // The connection that the next client gets has no rest of it.
    let again = run(&source, &settings, &["move"]);
    assert!(text(&again.stderr).contains("the target is not empty"), "{again:?}");
}

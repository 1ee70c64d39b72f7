//! What a database contains, read without the program's own code: by its catalogue, in SQL.

use std::{collections::BTreeMap, path::Path};

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, Row as _, SqliteConnection,
    sqlite::SqliteConnectOptions,
};

/// The rows of each table, in hexadecimal digits, in an order that both databases share.
pub type Contents = BTreeMap<String, Vec<String>>;

pub async fn sqlite(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file).foreign_keys(false);
    SqliteConnection::connect_with(&options).await.expect("the file")
}

pub async fn of_sqlite(file: &Path) -> Contents {
    let mut connection = sqlite(file).await;
    let columns = "SELECT m.name, p.name, '' FROM sqlite_schema m JOIN pragma_table_info(m.name) p \
                   WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite!_%' ESCAPE '!' \
                   AND m.name <> '_sqlx_migrations' ORDER BY 1, 2";
    let rows = sqlx::query(columns).fetch_all(&mut connection).await.expect("the catalogue");
    let columns = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2)));
    let as_hex = |column: &str, _: &str| format!("hex(CAST({column} AS BLOB))");
    let contents = read(selects(columns, as_hex), async |sql| {
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection).await.expect("rows");
        rows.iter().map(|row| row.get(0)).collect()
    })
    .await;
    connection.close().await.expect("closed");
    contents
}

pub async fn of_postgres(url: &str) -> Contents {
    let mut connection = PgConnection::connect(url).await.expect("PostgreSQL answers");
    let columns = "SELECT table_name::text, column_name::text, data_type::text \
                   FROM information_schema.columns WHERE table_schema = 'public' \
                   AND table_name <> '_sqlx_migrations' ORDER BY table_name::text, column_name::text COLLATE \"C\"";
    let rows = sqlx::query(columns).fetch_all(&mut connection).await.expect("the catalogue");
    let columns = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2)));
    let as_hex = |column: &str, data_type: &str| {
        let bytes = match data_type {
            "bytea" => column.to_owned(),
            "boolean" => format!("convert_to({column}::int::text, 'UTF8')"),
            _ => format!("convert_to({column}::text, 'UTF8')"),
        };
        format!("upper(encode({bytes}, 'hex'))")
    };
    let contents = read(selects(columns, as_hex), async |sql| {
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection).await.expect("rows");
        rows.iter().map(|row| row.get(0)).collect()
    })
    .await;
    connection.close().await.expect("closed");
    contents
}

/// One query per table, with one text per row.
fn selects(
    columns: impl Iterator<Item = (String, String, String)>,
    as_hex: impl Fn(&str, &str) -> String,
) -> Vec<(String, String)> {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (table, column, data_type) in columns {
        let column = format!("\"{column}\"");
        let hex = as_hex(&column, &data_type);
        let value = format!("CASE WHEN {column} IS NULL THEN '-' ELSE {hex} END");
        tables.entry(table).or_default().push(value);
    }
    let select = |(table, values): (String, Vec<String>)| {
        let sql = format!("SELECT {} FROM \"{table}\"", values.join(" || ' ' || "));
        (table, sql)
    };
    tables.into_iter().map(select).collect()
}

/// The texts of each table's query, in their order.
async fn read(
    selects: Vec<(String, String)>,
    mut texts_of: impl AsyncFnMut(String) -> Vec<String>,
) -> Contents {
    let mut contents = Contents::new();
    for (table, sql) in selects {
        let mut rows = texts_of(sql).await;
        rows.sort_unstable();
        contents.insert(table, rows);
    }
    contents
}

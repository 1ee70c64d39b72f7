//! The values of a row as either database returns them, their digest, and their form in a `COPY`.

use std::fmt;

use sha2::{Digest as _, Sha256};
use sqlx::{
    Decode, Row as _, Sqlite, TypeInfo as _, ValueRef as _,
    postgres::PgRow,
    sqlite::{SqliteRow, SqliteValueRef},
};

use super::{CopyError, tables::Table};

/// The column types of PostgreSQL that the migrations use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Int,
    Bool,
    Bytes,
}

impl Kind {
    /// By its name in `information_schema`.
    pub fn of(data_type: &str) -> Option<Self> {
        Some(match data_type {
            "text" => Self::Text,
            "bigint" => Self::Int,
            "boolean" => Self::Bool,
            "bytea" => Self::Bytes,
            _ => return None,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "TEXT",
            Self::Int => "BIGINT",
            Self::Bool => "BOOLEAN",
            Self::Bytes => "BYTEA",
        })
    }
}

/// Why a value cannot be stored in PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("contains the character U+0000, which PostgreSQL cannot store")]
    Nul,
    #[error("is not valid UTF-8")]
    NotUtf8,
    #[error("is {found}, which cannot be stored as {expected}")]
    Type { found: String, expected: Kind },
}

/// A value.
#[derive(Clone, Copy, Debug)]
enum Value<'r> {
    Null,
    Text(&'r str),
    Int(i64),
    Bool(bool),
    Bytes(&'r [u8]),
}

/// Any column of SQLite may hold a value of any type.
fn from_sqlite(value: SqliteValueRef<'_>, kind: Kind) -> Result<Value<'_>, Problem> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    let found = value.type_info().name().to_owned();
    let mismatch = |found| Problem::Type { found, expected: kind };
    match (kind, found.as_str()) {
        (Kind::Text, "TEXT") => {
            let text = <&str as Decode<Sqlite>>::decode(value).map_err(|_| Problem::NotUtf8)?;
            if text.contains('\0') { Err(Problem::Nul) } else { Ok(Value::Text(text)) }
        }
        (Kind::Bytes, "BLOB") => {
            let bytes = <&[u8] as Decode<Sqlite>>::decode(value).map_err(|_| mismatch(found))?;
            Ok(Value::Bytes(bytes))
        }
        (Kind::Int | Kind::Bool, "INTEGER") => {
            let number = <i64 as Decode<Sqlite>>::decode(value).map_err(|_| mismatch(found))?;
            match (kind, number) {
                (Kind::Bool, 0 | 1) => Ok(Value::Bool(number == 1)),
                (Kind::Bool, _) => Err(mismatch(number.to_string())),
                _ => Ok(Value::Int(number)),
            }
        }
        _ => Err(mismatch(found)),
    }
}

fn from_postgres(row: &PgRow, at: usize, kind: Kind) -> sqlx::Result<Value<'_>> {
    Ok(match kind {
        Kind::Text => row.try_get::<Option<&str>, _>(at)?.map_or(Value::Null, Value::Text),
        Kind::Int => row.try_get::<Option<i64>, _>(at)?.map_or(Value::Null, Value::Int),
        Kind::Bool => row.try_get::<Option<bool>, _>(at)?.map_or(Value::Null, Value::Bool),
        Kind::Bytes => row.try_get::<Option<&[u8]>, _>(at)?.map_or(Value::Null, Value::Bytes),
    })
}

/// A digest of the rows of a table that does not depend on their order: their SHA-256, added modulo
/// 2^256. It detects faults; rows that were chosen to collide are not what it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    rows: u64,
    /// The lowest part first.
    sum: [u64; 4],
}

impl Digest {
    /// Adds a row of the source.
    pub fn add_sqlite(&mut self, table: &Table, row: &SqliteRow) -> Result<(), CopyError> {
        let mut hash = RowHash::new();
        for at in 0..table.columns.len() {
            hash.add(sqlite_value(table, row, at)?);
        }
        self.add(hash);
        Ok(())
    }

    /// Adds a row of the target.
    pub fn add_postgres(&mut self, table: &Table, row: &PgRow) -> sqlx::Result<()> {
        let mut hash = RowHash::new();
        for (at, column) in table.columns.iter().enumerate() {
            hash.add(from_postgres(row, at, column.kind)?);
        }
        self.add(hash);
        Ok(())
    }

    fn add(&mut self, row: RowHash) {
        self.rows += 1;
        let hash = row.0.finalize();
        let mut carry = false;
        for (part, bytes) in self.sum.iter_mut().zip(hash.chunks_exact(8)) {
            let bytes = bytes.try_into().unwrap_or_default();
            let (sum, first) = part.overflowing_add(u64::from_be_bytes(bytes));
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*part, carry) = (sum, first || second);
        }
    }

    pub const fn rows(&self) -> u64 {
        self.rows
    }

    pub fn hex(&self) -> String {
        self.sum.iter().map(|part| format!("{part:016x}")).collect()
    }

    /// Enough of it for an error.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

/// A row is hashed value by value, each with its type and, where that varies, its length: no two
/// rows are hashed from the same bytes.
struct RowHash(Sha256);

impl RowHash {
    fn new() -> Self {
        Self(Sha256::new())
    }

    fn add(&mut self, value: Value<'_>) {
        match value {
            Value::Null => self.0.update([0]),
            Value::Int(number) => {
                self.0.update([1]);
                self.0.update(number.to_be_bytes());
            }
            Value::Bool(is) => self.0.update([2, u8::from(is)]),
            Value::Text(text) => self.sized(3, text.as_bytes()),
            Value::Bytes(bytes) => self.sized(4, bytes),
        }
    }

    fn sized(&mut self, tag: u8, bytes: &[u8]) {
        self.0.update([tag]);
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }
}

/// Rows in the binary format of `COPY` (PostgreSQL's documentation, COPY, "Binary Format").
pub struct CopyBuffer(Vec<u8>);

impl CopyBuffer {
    const SIZE: usize = 256 * 1024;

    /// Begins a `COPY`.
    pub fn new() -> Self {
        let mut bytes = Vec::with_capacity(Self::SIZE + 4 * 1024);
        bytes.extend_from_slice(b"PGCOPY\n\xff\r\n\0");
        bytes.extend_from_slice(&[0; 8]); // no flags, no extension of the header
        Self(bytes)
    }

    /// Adds a row.
    pub fn add(&mut self, table: &Table, row: &SqliteRow) -> Result<(), CopyError> {
        let fields = u16::try_from(table.columns.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&fields.to_be_bytes());
        for at in 0..table.columns.len() {
            match sqlite_value(table, row, at)? {
                Value::Null => self.0.extend_from_slice(&(-1_i32).to_be_bytes()),
                Value::Text(text) => self.field(text.as_bytes()),
                Value::Int(number) => self.field(&number.to_be_bytes()),
                Value::Bool(is) => self.field(&[u8::from(is)]),
                Value::Bytes(bytes) => self.field(bytes),
            }
        }
        Ok(())
    }

    fn field(&mut self, bytes: &[u8]) {
        // SQLite's values have less than 2^31 bytes.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// Ends the `COPY`.
    pub fn finish(&mut self) {
        self.0.extend_from_slice(&(-1_i16).to_be_bytes());
    }

    pub fn is_full(&self) -> bool {
        self.0.len() >= Self::SIZE
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn clear(&mut self) {
        self.0.clear();
        self.0.shrink_to(Self::SIZE + 4 * 1024);
    }
}

fn sqlite_value<'r>(table: &Table, row: &'r SqliteRow, at: usize) -> Result<Value<'r>, CopyError> {
    let column = &table.columns[at];
    let value = row.try_get_raw(at).map_err(CopyError::Source)?;
    from_sqlite(value, column.kind).map_err(|problem| CopyError::Value {
        table: table.name.clone(),
        key: key(table, row),
        column: column.name.clone(),
        problem,
    })
}

/// The primary key of a row, as an operator would search for it.
fn key(table: &Table, row: &SqliteRow) -> String {
    let part = |at: &usize| {
        let name = &table.columns[*at].name;
        format!("{name}={}", row.try_get_raw(*at).map_or_else(|_| "?".to_owned(), printed))
    };
    table.key.iter().map(part).collect::<Vec<_>>().join(" ")
}

/// A value as SQLite's shell takes it.
fn printed(value: SqliteValueRef<'_>) -> String {
    let kind = value.type_info().name().to_owned();
    match kind.as_str() {
        "INTEGER" => <i64 as Decode<Sqlite>>::decode(value).map(|number| number.to_string()).ok(),
        "TEXT" => <&str as Decode<Sqlite>>::decode(value).map(|text| format!("'{text}'")).ok(),
        "BLOB" => {
            let bytes = <&[u8] as Decode<Sqlite>>::decode(value).ok();
            bytes.map(|bytes| {
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("x'{digits}'")
            })
        }
        _ => None,
    }
    .unwrap_or(kind)
}

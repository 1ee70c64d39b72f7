//! The files of other systems as a stream of JSON objects, one per account, in bounded memory.

use std::{
    cell::Cell,
    fmt,
    io::{self, BufRead, BufReader, Read},
    rc::Rc,
};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// The longest account, in bytes: more is held for no single one.
const MAX_ACCOUNT: u64 = 1 << 20;

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An array of objects, or one object per line.
    Json,
    /// With the names of the columns on the first line (RFC 4180).
    Csv,
    /// A realm export, or `users` of one.
    Keycloak,
    /// A users export, one object per line; the array of a bulk import.
    Auth0,
    /// `firebase auth:export users.json`
    Firebase,
}

impl Format {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Keycloak => "keycloak",
            Self::Auth0 => "auth0",
            Self::Firebase => "firebase",
        }
    }
}

/// An account as the file has it, or why it is none.
pub type Found = Result<Map<String, Value>, String>;

/// Reads a file; calls `each` with the line and the content of every account until it returns
/// `false`.
///
/// # Errors
/// Where and why the file cannot be read further.
pub fn read(
    input: impl Read,
    format: Format,
    mut each: impl FnMut(u64, Found) -> bool,
) -> Result<(), String> {
    let mut input = BufReader::new(input);
    let start = input.fill_buf().map_err(|error| error.to_string())?;
    if start.starts_with(b"\xef\xbb\xbf") {
        input.consume(3);
    }
    match format {
        Format::Csv => csv(input, each),
        Format::Keycloak | Format::Firebase => document(input, &mut each),
        Format::Json | Format::Auth0 => {
            // Lines before the document count as well.
            let mut skipped = 0;
            loop {
                let next = input.fill_buf().map_err(|error| error.to_string())?.first().copied();
                match next {
                    None => return Ok(()),
                    Some(b'[') => return array(input, skipped, &mut each),
                    Some(byte) if byte.is_ascii_whitespace() => {
                        skipped += u64::from(byte == b'\n');
                        input.consume(1);
                    }
                    Some(_) => return lines(input, skipped, each),
                }
            }
        }
    }
}

/// One object per line. A line that is none is refused, and the others are read.
fn lines(
    mut input: impl BufRead,
    skipped: u64,
    mut each: impl FnMut(u64, Found) -> bool,
) -> Result<(), String> {
    let mut line = vec![];
    for number in skipped + 1.. {
        line.clear();
        let read = input.by_ref().take(MAX_ACCOUNT).read_until(b'\n', &mut line);
        if read.map_err(|error| format!("line {number}: {error}"))? == 0 {
            return Ok(());
        }
        let is_whole = line.ends_with(b"\n") || (line.len() as u64) < MAX_ACCOUNT;
        if line.trim_ascii().is_empty() && is_whole {
            continue;
        }
        let found = if is_whole {
            serde_json::from_slice(&line)
                .map_err(|error| format!("not a JSON object on one line: {}", described(&error)))
        } else {
            input.skip_until(b'\n').map_err(|error| format!("line {number}: {error}"))?;
            Err(too_long())
        };
        if !each(number, found) {
            return Ok(());
        }
    }
    Ok(())
}

fn too_long() -> String {
    format!("longer than {MAX_ACCOUNT} bytes")
}

/// serde_json's error without the position, and without what the file has there: it may be part of
/// a hash.
fn described(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Io => "it cannot be read",
        serde_json::error::Category::Syntax => "syntax error",
        serde_json::error::Category::Data => "not an object",
        serde_json::error::Category::Eof => "it ends early",
    }
}

fn csv(input: impl Read, mut each: impl FnMut(u64, Found) -> bool) -> Result<(), String> {
    let counted = Counted::new(input, 0);
    let budget = Rc::clone(&counted.budget);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(counted);
    let problem = |error: csv::Error| match error.kind() {
        csv::ErrorKind::Io(error) => format!("{error}; is a quote unclosed?"),
        _ => "not CSV".to_owned(),
    };
    budget.set(MAX_ACCOUNT);
    let columns = reader.byte_headers().map_err(problem)?;
    let columns: Vec<String> =
        columns.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
    if !columns.iter().any(|name| name.eq_ignore_ascii_case("email")) {
        return Err("line 1: the first line must name the columns, and `email` is missing".into());
    }
    let mut record = csv::ByteRecord::new();
    loop {
        budget.set(MAX_ACCOUNT);
        if !reader.read_byte_record(&mut record).map_err(problem)? {
            return Ok(());
        }
        let line = record.position().map_or(0, csv::Position::line);
        if !each(line, fields(&columns, &record)) {
            return Ok(());
        }
    }
}

fn fields(columns: &[String], record: &csv::ByteRecord) -> Found {
    if record.len() != columns.len() {
        return Err(format!(
            "has {} fields, and {} columns are named",
            record.len(),
            columns.len()
        ));
    }
    let pairs = columns.iter().zip(record).map(|(name, value)| {
        let value = std::str::from_utf8(value).map_err(|_| format!("`{name}` is not UTF-8"))?;
        Ok((name.clone(), Value::from(value)))
    });
    pairs.collect()
}

/// An array of objects.
fn array(
    input: impl Read,
    skipped: u64,
    each: &mut dyn FnMut(u64, Found) -> bool,
) -> Result<(), String> {
    let counted = Counted::new(input, skipped);
    let (line, budget) = (Rc::clone(&counted.line), Rc::clone(&counted.budget));
    let mut reader = Elements { each, line: &line, budget: &budget, stopped: false };
    let mut json = serde_json::Deserializer::from_reader(counted);
    let read = (&mut reader).deserialize(&mut json).and_then(|()| json.end());
    ended(read, &reader)
}

/// The accounts in `users` of a document, or of the documents in an array.
fn document(input: impl Read, each: &mut dyn FnMut(u64, Found) -> bool) -> Result<(), String> {
    let counted = Counted::new(input, 0);
    let (line, budget) = (Rc::clone(&counted.line), Rc::clone(&counted.budget));
    let mut reader = Elements { each, line: &line, budget: &budget, stopped: false };
    let mut json = serde_json::Deserializer::from_reader(counted);
    let read = (Documents(&mut reader)).deserialize(&mut json).and_then(|()| json.end());
    ended(read, &reader)
}

fn ended(read: serde_json::Result<()>, reader: &Elements<'_>) -> Result<(), String> {
    match read {
        Err(_) if reader.stopped => Ok(()),
        Err(error) => {
            let (line, reason) = (reader.line.get(), described(&error));
            let reason = if reader.budget.get() == 0 { too_long() } else { reason.to_owned() };
            Err(format!("line {line}: {reason}; nothing from there on was read"))
        }
        Ok(()) => Ok(()),
    }
}

/// Counts lines, and bounds what is read for one account.
struct Counted<R> {
    input: R,
    line: Rc<Cell<u64>>,
    budget: Rc<Cell<u64>>,
}

impl<R> Counted<R> {
    fn new(input: R, skipped: u64) -> Self {
        Self { input, line: Rc::new(Cell::new(skipped + 1)), budget: Rc::new(Cell::new(u64::MAX)) }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.budget.get() == 0 {
            return Err(io::Error::other(too_long()));
        }
        let room = usize::try_from(self.budget.get()).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.input.read(&mut buffer[..room])?;
        self.budget.set(self.budget.get() - read as u64);
        let lines = memchr::memchr_iter(b'\n', &buffer[..read]).count();
        self.line.set(self.line.get() + lines as u64);
        Ok(read)
    }
}

/// Hands over the elements of an array one at a time.
struct Elements<'a> {
    each: &'a mut dyn FnMut(u64, Found) -> bool,
    line: &'a Cell<u64>,
    budget: &'a Cell<u64>,
    /// Whether `each` wants no more.
    stopped: bool,
}

impl<'de> DeserializeSeed<'de> for &mut Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of accounts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        loop {
            self.budget.set(MAX_ACCOUNT);
            let Some((line, value)) = array.next_element_seed(Element(self.line))? else {
                self.budget.set(u64::MAX);
                return Ok(());
            };
            let found = match value {
                Value::Object(found) => Ok(found),
                _ => Err("not an object".to_owned()),
            };
            if !(self.each)(line, found) {
                self.stopped = true;
                return Err(A::Error::custom("stopped"));
            }
        }
    }
}

/// An element with the line that it begins on.
struct Element<'a>(&'a Cell<u64>);

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = (u64, Value);

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        let line = self.0.get();
        Ok((line, serde::Deserialize::deserialize(from)?))
    }
}

/// A document with `users`, or an array of such documents.
struct Documents<'a, 'b>(&'a mut Elements<'b>);

impl<'de> DeserializeSeed<'de> for Documents<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Documents<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with an array `users`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut document: A) -> Result<(), A::Error> {
        while let Some(name) = document.next_key::<String>()? {
            if name == "users" {
                document.next_value_seed(&mut *self.0)?;
            } else {
                document.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut documents: A) -> Result<(), A::Error> {
        while documents.next_element_seed(Documents(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

//! How lists and records are printed: a table or lines for people, JSON for programs.

use serde::Serialize;
use serde_json::Value;

use super::{Failed, commands::failed};
use crate::unicode::escaped;

/// A list: a table with a header, or an array of JSON objects.
pub struct Listing {
    header: &'static [&'static str],
    as_json: bool,
    rows: Vec<Vec<String>>,
    items: Vec<Value>,
}

impl Listing {
    pub const fn new(header: &'static [&'static str], as_json: bool) -> Self {
        Self { header, as_json, rows: vec![], items: vec![] }
    }

    /// Adds an item: its cells in the table, and all of it.
    pub fn add<const COLUMNS: usize>(
        &mut self,
        cells: [&str; COLUMNS],
        item: &impl Serialize,
    ) -> Result<(), Failed> {
        if self.as_json {
            self.items.push(serde_json::to_value(item).map_err(failed)?);
        } else {
            self.rows.push(cells.map(cell).into());
        }
        Ok(())
    }

    pub fn print(self) -> Result<(), Failed> {
        if self.as_json {
            return print_json(&self.items);
        }
        let header: Vec<String> = self.header.iter().map(|name| (*name).to_owned()).collect();
        let rows = || std::iter::once(&header).chain(&self.rows);
        let width = |at: usize| {
            let lengths = rows().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            lengths.max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        for row in rows() {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        Ok(())
    }
}

/// Hidden characters are escaped: some texts were chosen by untrusted clients.
fn cell(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    escaped(text).replace('\n', "\\n")
}

/// Prints a record: as JSON, or one line per field, where a list has one line per member and an
/// empty field none.
pub fn print_record(record: &impl Serialize, as_json: bool) -> Result<(), Failed> {
    let record = serde_json::to_value(record).map_err(failed)?;
    if as_json {
        return print_json(&record);
    }
    for (name, value) in record.as_object().into_iter().flatten() {
        let lines: Vec<String> = match value {
            Value::Null => continue,
            Value::String(text) if text.is_empty() => continue,
            Value::Array(items) => items.iter().map(plain).collect(),
            other => vec![plain(other)],
        };
        for line in lines {
            println!("{name:<38} {}", cell(&line));
        }
    }
    Ok(())
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub fn print_json(value: &impl Serialize) -> Result<(), Failed> {
    println!("{}", serde_json::to_string_pretty(value).map_err(failed)?);
    Ok(())
}

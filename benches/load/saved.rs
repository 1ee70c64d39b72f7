//! Figures in a file, to compare runs: a line of JSON for the run, then one for each figure.

use std::{collections::HashMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

/// Where and of what figures were measured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Run {
    pub cpu: String,
    pub cores: usize,
    /// `release` or `debug`.
    pub build: String,
    pub commit: String,
    pub date: String,
}

/// Microseconds of CPU time per request.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Cpu {
    pub server: f64,
    /// Of all processes of PostgreSQL, where there is one.
    pub postgres: Option<f64>,
}

/// A figure.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Record {
    pub figure: String,
    pub unit: String,
    pub rounds: Vec<f64>,
    pub median: f64,
    /// The median of its limit.
    pub limit: Option<f64>,
    /// The median of the rounds.
    pub cpu: Option<Cpu>,
}

/// A run with its figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    pub run: Run,
    pub records: Vec<Record>,
}

impl Saved {
    /// # Errors
    /// With the number of the line that is not what it should be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let invalid =
            |number: usize, error: serde_json::Error| format!("line {}: {error}", number + 1);
        let (number, first) = lines.next().ok_or("the file is empty")?;
        let run = serde_json::from_str(first).map_err(|error| invalid(number, error))?;
        let records = lines
            .map(|(number, line)| {
                serde_json::from_str(line).map_err(|error| invalid(number, error))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { run, records })
    }

    /// # Errors
    /// Where a figure cannot be written as JSON.
    pub fn render(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string(&self.run)? + "\n";
        for record in &self.records {
            text.push_str(&serde_json::to_string(record)?);
            text.push('\n');
        }
        Ok(text)
    }

    /// A Markdown table of these figures beside earlier ones, with what is to be known first.
    pub fn beside(&self, earlier: &Self) -> String {
        let (now, then) = (&self.run, &earlier.run);
        let mut text = format!("Compared with {} of {}.\n", then.commit, then.date);
        if (&then.cpu, then.cores) != (&now.cpu, now.cores) {
            let _ = writeln!(
                text,
                "ANOTHER MACHINE: {} ({} cores) then, {} ({} cores) now. Ratios say little.",
                then.cpu, then.cores, now.cpu, now.cores
            );
        }
        if then.build != now.build {
            let _ = writeln!(text, "ANOTHER BUILD: {} then, {} now.", then.build, now.build);
        }
        text.push_str(
            "\n| figure | then | now | ratio | server CPU: then | now | ratio | PostgreSQL CPU: then | now | ratio |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        );
        let known: HashMap<&str, &Record> =
            earlier.records.iter().map(|record| (record.figure.as_str(), record)).collect();
        for record in &self.records {
            let Some(before) = known.get(record.figure.as_str()) else {
                let _ = writeln!(text, "| {} | new | | | | | | | | |", record.figure);
                continue;
            };
            let server = |record: &Record| record.cpu.map(|cpu| cpu.server);
            let postgres = |record: &Record| record.cpu.and_then(|cpu| cpu.postgres);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                record.figure,
                pair(Some(before.median), Some(record.median), &record.unit),
                pair(server(before), server(record), "µs"),
                pair(postgres(before), postgres(record), "µs"),
            );
        }
        text
    }
}

/// Three cells: then, now, the ratio of now to then.
fn pair(then: Option<f64>, now: Option<f64>, unit: &str) -> String {
    let cell = |value: Option<f64>| value.map_or_else(String::new, |value| cell(value, unit));
    let ratio = match (then, now) {
        (Some(then), Some(now)) if then != 0.0 => format!("{:.2}", now / then),
        _ => String::new(),
    };
    format!("{} | {} | {ratio}", cell(then), cell(now))
}

pub fn cell(value: f64, unit: &str) -> String {
    if value >= 100.0 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

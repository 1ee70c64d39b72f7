//! Medians and the report.

use std::{fs::File, io::Write, os::unix::fs::FileExt, path::Path, time::Instant};

use crate::{
    Result,
    saved::{self, Cpu, Record},
};

/// The median; of an even number, the upper of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The required ratio.
#[derive(Clone, Copy)]
pub enum Required {
    AtLeast(f64),
    AtMost(f64),
    /// None: the figure is reported only.
    Nothing,
}

/// One figure and its limit.
pub struct Figure {
    pub name: String,
    /// The measurement and its limit, for each round; NaN where there is no limit.
    pub rounds: Vec<(f64, f64)>,
    /// CPU time per request, for each round; empty where it says nothing.
    pub cpu: Vec<Cpu>,
    pub unit: &'static str,
    /// The limit's description.
    pub basis: String,
    pub required: Required,
    /// Microseconds of one disk sync before and after.
    pub disk: Option<(f64, f64)>,
}

impl Figure {
    fn median(&self, value: fn(&(f64, f64)) -> f64) -> f64 {
        median(self.rounds.iter().map(value).collect())
    }

    fn row(&self) -> String {
        // Per round first: other load on the machine affected both.
        let ratio = self.median(|(measured, limit)| measured / limit);
        let (required, met) = match self.required {
            Required::AtLeast(least) => (format!("≥ {least:.2}"), ratio >= least),
            Required::AtMost(most) => (format!("≤ {most:.2}"), ratio <= most),
            Required::Nothing => (String::new(), true),
        };
        let is_met = match self.required {
            Required::Nothing => "",
            _ if met => "yes",
            _ => "**NO**",
        };
        let known = |value: f64, text: String| if value.is_nan() { String::new() } else { text };
        let limit = self.median(|(_, limit)| *limit);
        let cpu = self.cpu();
        let micros = |cpu: Option<f64>| cpu.map_or_else(String::new, |cpu| saved::cell(cpu, "µs"));
        let disk = self
            .disk
            .map_or_else(String::new, |(before, after)| format!("{before:.0} → {after:.0} µs"));
        format!(
            "| {} | {} | {} | {} | {required} | {is_met} | {} | {} | {disk} | {} |",
            self.name,
            saved::cell(self.median(|(measured, _)| *measured), self.unit),
            known(limit, saved::cell(limit, self.unit)),
            known(ratio, format!("{ratio:.2}")),
            micros(cpu.map(|cpu| cpu.server)),
            micros(cpu.and_then(|cpu| cpu.postgres)),
            self.basis,
        )
    }

    /// The medians of the rounds.
    fn cpu(&self) -> Option<Cpu> {
        let postgres: Vec<f64> = self.cpu.iter().filter_map(|cpu| cpu.postgres).collect();
        let server = median(self.cpu.iter().map(|cpu| cpu.server).collect());
        let postgres = (!postgres.is_empty()).then(|| median(postgres));
        (!self.cpu.is_empty()).then_some(Cpu { server, postgres })
    }

    pub fn record(&self) -> Record {
        let limit = self.median(|(_, limit)| *limit);
        Record {
            figure: self.name.clone(),
            unit: self.unit.to_owned(),
            rounds: self.rounds.iter().map(|(measured, _)| *measured).collect(),
            median: self.median(|(measured, _)| *measured),
            limit: (!limit.is_nan()).then_some(limit),
            cpu: self.cpu(),
        }
    }
}

/// Prints the figures as a Markdown table.
pub fn print(figures: &[Figure]) {
    println!(
        "\n| figure | measured | limit | ratio, median of rounds | required | ok | server CPU per request | \
         PostgreSQL CPU per request | disk sync before → after | the limit is |"
    );
    println!("|---|---:|---:|---:|---:|---|---:|---:|---|---|");
    for figure in figures {
        println!("{}", figure.row());
    }
    println!();
}

/// Microseconds to write 8 KiB and sync in this folder, a lower bound of a durable commit. The
/// median of 200.
pub fn disk_sync(folder: &Path) -> Result<f64> {
    let path = folder.join("sync");
    let mut file = File::create(&path)?;
    let block = [7; 8192];
    file.write_all(&block)?;
    file.sync_all()?;
    let mut micros = Vec::with_capacity(200);
    for _ in 0..200 {
        let began = Instant::now();
        file.write_all_at(&block, 0)?;
        file.sync_data()?;
        micros.push(began.elapsed().as_secs_f64() * 1e6);
    }
    std::fs::remove_file(path)?;
    Ok(median(micros))
}

//! Medians and the report.

use std::{fs::File, io::Write, os::unix::fs::FileExt, path::Path, time::Instant};

use crate::Result;

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
}

/// One figure and its limit.
pub struct Figure {
    pub name: String,
    /// The measurement and its limit, for each round.
    pub rounds: Vec<(f64, f64)>,
    pub unit: &'static str,
    /// The limit's description.
    pub basis: String,
    pub required: Required,
    /// Microseconds of one disk sync before and after.
    pub disk: Option<(f64, f64)>,
}

impl Figure {
    fn row(&self) -> String {
        let of_rounds =
            |value: fn(&(f64, f64)) -> f64| median(self.rounds.iter().map(value).collect());
        // Per round first: other load on the machine affected both.
        let ratio = of_rounds(|(measured, limit)| measured / limit);
        let (required, met) = match self.required {
            Required::AtLeast(least) => (format!("≥ {least:.2}"), ratio >= least),
            Required::AtMost(most) => (format!("≤ {most:.2}"), ratio <= most),
        };
        let disk = self
            .disk
            .map_or_else(String::new, |(before, after)| format!("{before:.0} → {after:.0} µs"));
        format!(
            "| {} | {} {unit} | {} {unit} | {ratio:.2} | {required} | {} | {disk} | {} |",
            self.name,
            number(of_rounds(|(measured, _)| *measured)),
            number(of_rounds(|(_, limit)| *limit)),
            if met { "yes" } else { "**NO**" },
            self.basis,
            unit = self.unit,
        )
    }
}

fn number(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// Prints the figures as a Markdown table.
pub fn print(figures: &[Figure]) {
    println!(
        "\n| figure | measured | limit | ratio, median of rounds | required | ok | disk sync before → after | the limit is |"
    );
    println!("|---|---:|---:|---:|---:|---|---|---|");
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

//! `propusk move`.

use std::{io::IsTerminal, path::PathBuf};

use clap::Args;

use super::{Failed, commands::failed, listing::Listing};
use crate::{
    app,
    config::{Config, mask_url},
    storage::{
        copy::{self, Copied, CopyError, Progress},
        files,
    },
};

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct MoveArgs {
    /// URL of the PostgreSQL database: postgres://user:password@host/database
    ///
    /// Every user of the machine can read the arguments of a command: prefer --to-file or the
    /// environment variable where the URL has a password.
    #[arg(long, value_name = "URL", env = "PROPUSK_MOVE_TO", hide_env_values = true)]
    to: Option<String>,
    /// File that contains this URL
    #[arg(long, value_name = "FILE", env = "PROPUSK_MOVE_TO_FILE")]
    to_file: Option<PathBuf>,
}

/// What cannot be meant is exit code 2; a database that is refused, and a copy that fails, are exit
/// code 1.
pub(super) async fn move_database(config: Config, args: MoveArgs) -> Result<(), Failed> {
    let target = target(&args)?;
    let from = config.database_url();
    if !from.starts_with("sqlite:") {
        return Err(Failed::Usage(format!(
            "the configured database is not SQLite: `propusk move` copies an SQLite database to PostgreSQL; \
             set database.url ({}) to the SQLite file, or run it with the configuration of that server",
            config.source("database.url")
        )));
    }
    let mut reporter = Reporter { shows: std::io::stderr().is_terminal(), has_shown: false };
    let copied = copy::run(&config, &target, |at| reporter.show(at)).await;
    reporter.end();
    let copied = copied.map_err(|error| match error {
        CopyError::Unconfirmed(_) => failed(error),
        CopyError::NoSource(_) => {
            failed(format!("{error}: {}", app::where_deployments_are(&config, "database.url")))
        }
        error => failed(format!("{error}\nnothing was copied: both databases are as they were")),
    })?;
    print(&copied)?;
    let total: u64 = copied.tables.iter().map(|table| table.rows).sum();
    let (tables, to) = (copied.tables.len(), mask_url(&target));
    println!("\ncopied {total} row(s) of {tables} tables from {from} to {to}");
    println!("every table was read from both databases again and is the same");
    for table in &copied.left_out {
        println!("left out: the table {table}, which is not Propusk's");
    }
    println!(
        "
Next:
  1. Set database.url to the PostgreSQL URL (now: {}).
  2. Keep the master key {}: the copied keys are encrypted with it.
  3. Start the server. Start none on the SQLite file again: it is unchanged, but what
     PostgreSQL gets from now on is not in it.",
        config.source("database.url"),
        config.master_key_path().display(),
    );
    Ok(())
}

/// The URL, which no message repeats.
fn target(args: &MoveArgs) -> Result<String, Failed> {
    let url = match (&args.to, &args.to_file) {
        (Some(url), _) => url.clone(),
        (None, Some(path)) => {
            files::warn_if_shared(path);
            let shown = path.display();
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failed::Usage(format!("cannot read {shown}: {error}")))?;
            text.trim().to_owned()
        }
        // clap requires one of them.
        (None, None) => String::new(),
    };
    let scheme = ["postgres://", "postgresql://"].iter().find(|scheme| url.starts_with(**scheme));
    if scheme.is_none() || url::Url::parse(&url).is_err() {
        return Err(Failed::Usage(
            "the target is not a PostgreSQL URL: use postgres://user:password@host/database (special characters \
             percent-encoded)"
                .to_owned(),
        ));
    }
    Ok(url)
}

fn print(copied: &Copied) -> Result<(), Failed> {
    let mut listing = Listing::new(&["TABLE", "ROWS", "SHA-256", "COMPARED"], false);
    for table in &copied.tables {
        let (rows, digest) = (table.rows.to_string(), table.digest.get(..12).unwrap_or_default());
        listing.add([&table.name, &rows, digest, "equal"], &())?;
    }
    listing.print()
}

/// Tells a terminal how far the copy has come.
struct Reporter {
    shows: bool,
    has_shown: bool,
}

impl Reporter {
    fn show(&mut self, Progress { table, copied, rows }: Progress<'_>) {
        if !self.shows {
            return;
        }
        self.has_shown = true;
        let text = match copied {
            Some(copied) => format!("{table}: {copied} of {rows} rows copied"),
            None => format!("{table}: comparing {rows} rows"),
        };
        // The rest of a longer line before it is overwritten.
        eprint!("\r{text:<70}");
    }

    fn end(&self) {
        if self.has_shown {
            std::eprintln!();
        }
    }
}

//! `propusk user import`.

use std::{
    fs::{self, File},
    io::{BufWriter, IsTerminal, Read, Write},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Failed, commands::failed};
use crate::{
    app::App,
    flows::admin::import::{self, Format, Options, Progress, Refusal},
    model::{actor::Actor, user::Role},
    password::FirebaseParameters,
    storage::files,
};

/// Refused accounts that are printed where there is no report.
const PRINTED: u64 = 20;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Format of the file
    #[arg(long)]
    format: FormatArg,
    /// File to import; `-` is standard input
    file: PathBuf,
    /// Role of the imported users
    #[arg(long, default_value = "user")]
    role: String,
    /// Take roles from the column `role` (json, csv); users without one get --role
    #[arg(long)]
    roles_from_file: bool,
    /// Allow the import of administrators
    #[arg(long)]
    allow_admins: bool,
    /// Import users without a password hash too; no password matches until one is set
    #[arg(long)]
    allow_no_password: bool,
    /// Write no `user.created` events to the outbox
    #[arg(long)]
    no_events: bool,
    /// Import no profiles (json, csv, keycloak: those of the claims in `profile.claims`)
    #[arg(long)]
    no_profiles: bool,
    /// Read and check the file, and import nothing
    #[arg(long)]
    dry_run: bool,
    /// Write the refused users to this file, one JSON object per line: line, record, field, reason
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// File with the password hash parameters that Firebase's console shows (firebase)
    #[arg(long, value_name = "FILE")]
    firebase_hash_config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    /// Array of objects, or one object per line
    Json,
    /// Names of the columns on the first line
    Csv,
    /// Realm export of Keycloak
    Keycloak,
    /// Users export or bulk import file of Auth0
    Auth0,
    /// `firebase auth:export users.json`
    Firebase,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Json => Self::Json,
            FormatArg::Csv => Self::Csv,
            FormatArg::Keycloak => Self::Keycloak,
            FormatArg::Auth0 => Self::Auth0,
            FormatArg::Firebase => Self::Firebase,
        }
    }
}

/// What does not fit together is exit code 2; refused users, and a file that cannot be read to its
/// end, are exit code 1.
pub(super) async fn import(app: &App, args: ImportArgs) -> Result<(), Failed> {
    let options = options(&args)?;
    let input = opened(&args.file)?;
    let report = args.report.as_deref().map(created).transpose()?;
    let mut reporter = Reporter { report, printed: 0, problem: None };
    let shows_progress = std::io::stderr().is_terminal();
    let mut last = Progress::default();
    let progress = |so_far: &Progress| {
        last = *so_far;
        if shows_progress {
            let Progress { read, imported, unchanged, refused } = so_far;
            eprint!("\r{read} read: {imported} imported, {unchanged} unchanged, {refused} refused");
        }
    };
    let refused = |refusal: &Refusal| reporter.add(refusal);
    let actor = Actor::operator();
    let done = import::run(app, input, options, &actor, refused, progress).await;
    if shows_progress {
        std::eprintln!();
    }
    reporter.finish(&args)?;
    let totals = match done {
        Ok(totals) => totals,
        Err(error) => {
            println!("{}", summary(&last, args.dry_run));
            let Failed::Run(message) = Failed::from(error) else {
                return Err(failed("the import stopped"));
            };
            return Err(Failed::Run(format!(
                "the import stopped: {message}\nrun it again to continue: imported users stay as they are"
            )));
        }
    };
    println!("{}", summary(&totals, args.dry_run));
    match totals.refused {
        0 => Ok(()),
        count => Err(Failed::Run(format!("{count} user(s) refused"))),
    }
}

fn summary(totals: &Progress, is_dry: bool) -> String {
    let Progress { read, imported, unchanged, refused } = totals;
    let imported_text = if is_dry { "can be imported" } else { "imported" };
    format!(
        "{read} read: {imported} {imported_text}, {unchanged} unchanged (the email address exists), {refused} refused"
    )
}

fn options(args: &ImportArgs) -> Result<Options, Failed> {
    let usage = |message: &str| Err(Failed::Usage(message.to_owned()));
    let role = Role::parse(&args.role).map_err(|why| Failed::Usage(why.to_owned()))?;
    let format = Format::from(args.format);
    if args.roles_from_file && !matches!(format, Format::Json | Format::Csv) {
        return usage("--roles-from-file requires --format json or csv");
    }
    let firebase = match (&args.firebase_hash_config, format) {
        (Some(path), Format::Firebase) => Some(hash_config(path)?),
        (None, Format::Firebase) if !args.allow_no_password => {
            return usage(
                "--format firebase requires --firebase-hash-config FILE: the console shows its content under \
                 Authentication, Users, Password hash parameters",
            );
        }
        (None, _) => None,
        (Some(_), _) => return usage("--firebase-hash-config requires --format firebase"),
    };
    Ok(Options {
        format,
        role,
        roles_from_file: args.roles_from_file,
        allow_admins: args.allow_admins,
        allow_no_password: args.allow_no_password,
        events: !args.no_events,
        profiles: !args.no_profiles,
        dry_run: args.dry_run,
        firebase,
    })
}

/// The file has a secret: it is warned about where others can read it.
fn hash_config(path: &Path) -> Result<FirebaseParameters, Failed> {
    files::warn_if_shared(path);
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| Failed::Usage(format!("cannot read {shown}: {error}")))?;
    FirebaseParameters::parse(&text)
        .map_err(|error| Failed::Usage(format!("--firebase-hash-config {shown}: {error}")))
}

fn opened(path: &Path) -> Result<Box<dyn Read + Send>, Failed> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    match File::open(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(Failed::Usage(format!("cannot read {}: {error}", path.display()))),
    }
}

/// Replaces an earlier report.
fn created(path: &Path) -> Result<BufWriter<File>, Failed> {
    if path.is_file() {
        let _ = fs::remove_file(path);
    }
    match files::create(path) {
        Ok(file) => Ok(BufWriter::new(file)),
        Err(error) => Err(Failed::Usage(format!("cannot write {}: {error}", path.display()))),
    }
}

/// Tells the operator of refused users.
struct Reporter {
    report: Option<BufWriter<File>>,
    printed: u64,
    problem: Option<std::io::Error>,
}

impl Reporter {
    fn add(&mut self, Refusal { at, field, reason }: &Refusal) {
        self.printed += 1;
        if let Some(report) = &mut self.report {
            let line =
                json!({ "line": at.line, "record": at.record, "field": field, "reason": reason });
            if let Err(error) = writeln!(report, "{line}") {
                self.problem.get_or_insert(error);
            }
        } else if self.printed <= PRINTED {
            eprintln!("line {}, record {}: {field}: {reason}", at.line, at.record);
        } else if self.printed == PRINTED + 1 {
            eprintln!("further refused users are not shown: --report FILE lists all");
        }
    }

    fn finish(mut self, args: &ImportArgs) -> Result<(), Failed> {
        let flushed = self.report.as_mut().map_or(Ok(()), Write::flush);
        if let (Some(error), Some(path)) = (self.problem.or(flushed.err()), &args.report) {
            return Err(failed(format!("cannot write {}: {error}", path.display())));
        }
        Ok(())
    }
}

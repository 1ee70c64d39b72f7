//! `propusk locales`. These commands need no deployment and no configuration.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Subcommand;

use super::Failed;
use crate::branding::locales::{self, Checked};

#[derive(Debug, Subcommand)]
pub enum LocalesCommand {
    /// Write the built-in messages into a folder, one folder for each language; nothing is written
    /// if one of the files exists
    Export {
        /// Folder to write to, such as `locales` in `pages.folder`
        folder: PathBuf,
        /// Language to write: `en` or `ru`; without it, both
        #[arg(long, value_name = "TAG")]
        language: Option<String>,
    },
    /// Check a folder of languages: list messages that are broken, unknown or not translated
    ///
    /// Exit codes: 0 the server would use every message, 1 something is broken or unknown (with
    /// `--complete`: or not translated).
    Check {
        /// Folder with one folder for each language, such as `locales` in `pages.folder`
        folder: PathBuf,
        /// Fail also if messages are not translated
        #[arg(long)]
        complete: bool,
    },
}

impl LocalesCommand {
    pub fn run(&self) -> Result<(), Failed> {
        match self {
            Self::Export { folder, language } => export(folder, language.as_deref()),
            Self::Check { folder, complete } => check(folder, *complete),
        }
    }
}

fn export(folder: &Path, language: Option<&str>) -> Result<(), Failed> {
    let files: Vec<_> = locales::ours()
        .filter(|(tag, ..)| language.is_none_or(|language| language == *tag))
        .map(|(tag, name, text)| (folder.join(tag).join(name), text))
        .collect();
    if files.is_empty() {
        return Err(Failed::Usage("--language: must be en or ru".to_owned()));
    }
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists()) {
        let path = path.display();
        return Err(Failed::Run(format!("{path} exists: name another folder, or remove it")));
    }
    for (path, text) in &files {
        let failed = |error| Failed::Run(format!("{}: {error}", path.display()));
        fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        fs::write(path, text).map_err(failed)?;
    }
    println!("{} files written to {}", files.len(), folder.display());
    Ok(())
}

fn check(folder: &Path, complete: bool) -> Result<(), Failed> {
    let checked = locales::check(folder).map_err(Failed::Run)?;
    if checked.is_empty() {
        return Err(Failed::Run(format!("{}: there is no language", folder.display())));
    }
    let mut is_fine = true;
    for Checked { tag, problems, missing, unknown } in checked {
        if problems.is_empty() {
            println!("{tag}: {} messages not translated, {} unknown", missing.len(), unknown.len());
        } else {
            println!("{tag}: {} problems", problems.len());
        }
        for (what, ids) in [("not translated", &missing), ("unknown", &unknown)] {
            ids.iter().for_each(|id| println!("  {what}: {id}"));
        }
        problems.iter().for_each(|problem| println!("  {problem}"));
        is_fine &= problems.is_empty() && unknown.is_empty() && (!complete || missing.is_empty());
    }
    if is_fine { Ok(()) } else { Err(Failed::Run("there are messages to fix".to_owned())) }
}

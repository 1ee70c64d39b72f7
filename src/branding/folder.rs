//! `pages.folder`, read once at start. An unknown name in it is an error, so that a misnamed file
//! is not ignored.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{
    SLOTS,
    fragments::{self, line_of},
};

/// The name of the style sheet, and of the folder of languages.
const STYLE_SHEET: &str = "style.css";
const LOCALES: &str = "locales";

const MAX_STYLE_BYTES: u64 = 128 * 1024;
const MAX_FRAGMENT_BYTES: u64 = 16 * 1024;
const MAX_MESSAGES_BYTES: u64 = 256 * 1024;

/// Languages, and files of a language.
const MAX_FILES: usize = 100;

/// A Fluent file of the operator.
pub(super) struct LocaleFile {
    /// For messages: its path.
    pub name: String,
    pub text: String,
}

/// What is in the folder.
#[derive(Default)]
pub(super) struct Folder {
    pub style_sheet: String,
    /// By the file's name without `.html`.
    pub fragments: BTreeMap<String, String>,
    /// The language of each fragment that has one, and its file.
    pub fragment_languages: Vec<(String, String)>,
    /// Fluent files by language tag.
    pub locales: BTreeMap<String, Vec<LocaleFile>>,
}

impl Folder {
    /// # Errors
    /// What is wrong, with the file and the line.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let mut found = Self::default();
        for (name, path) in entries(folder)? {
            let at = path.display().to_string();
            if name == LOCALES {
                found.locales = locales(&path)?;
            } else if name == STYLE_SHEET {
                found.style_sheet = text(&path, MAX_STYLE_BYTES)?;
                check_style_sheet(&found.style_sheet)
                    .map_err(|(line, what)| format!("{at}, line {line}: {what}"))?;
            } else if let Some((slot, language)) = slot(&name) {
                let fragment = text(&path, MAX_FRAGMENT_BYTES)?;
                fragments::check(&fragment)
                    .map_err(|(line, what)| format!("{at}, line {line}: {what}"))?;
                if let Some(language) = language {
                    found.fragment_languages.push((language.to_owned(), at));
                    found.fragments.insert(format!("{slot}.{language}"), fragment);
                } else {
                    found.fragments.insert(slot.to_owned(), fragment);
                }
            } else {
                let known = SLOTS.map(|slot| format!("{slot}.html")).join(", ");
                return Err(format!(
                    "{at}: unknown file; known are {STYLE_SHEET}, {LOCALES}/, {known}, and the latter for \
                     one language, as in footer.ru.html"
                ));
            }
        }
        Ok(found)
    }
}

/// The slot of a fragment's file, and its language.
fn slot(name: &str) -> Option<(&'static str, Option<&str>)> {
    let stem = name.strip_suffix(".html")?;
    let (slot, language) =
        stem.split_once('.').map_or((stem, None), |(slot, tag)| (slot, Some(tag)));
    Some((SLOTS.into_iter().find(|known| *known == slot)?, language))
}

/// The languages in a folder: each is a folder of Fluent files.
///
/// # Errors
/// As [`Folder::read`].
pub(super) fn locales(folder: &Path) -> Result<BTreeMap<String, Vec<LocaleFile>>, String> {
    let mut found = BTreeMap::new();
    for (tag, path) in entries(folder)? {
        if !path.is_dir() {
            return Err(format!(
                "{}: a language is a folder named for its tag, as in de/",
                path.display()
            ));
        }
        let mut files = vec![];
        for (name, path) in entries(&path)? {
            let at = path.display().to_string();
            if !name.ends_with(".ftl") {
                return Err(format!("{at}: unknown file; the messages are in files named *.ftl"));
            }
            files.push(LocaleFile { name: at, text: text(&path, MAX_MESSAGES_BYTES)? });
        }
        found.insert(tag, files);
    }
    Ok(found)
}

/// What is in a folder, by name, without hidden entries: editors and Kubernetes keep theirs there.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut found = vec![];
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| format!("{}: the name is not UTF-8", path.display()))?;
        if !name.starts_with('.') {
            found.push((name.to_owned(), path));
        }
    }
    if found.len() > MAX_FILES {
        return Err(format!("{}: has more than {MAX_FILES} entries", folder.display()));
    }
    found.sort();
    Ok(found)
}

fn text(path: &Path, most: u64) -> Result<String, String> {
    let at = path.display();
    let about = fs::metadata(path).map_err(|error| format!("{at}: {error}"))?;
    if !about.is_file() {
        return Err(format!("{at}: is not a file"));
    }
    if about.len() > most {
        return Err(format!("{at}: has {} bytes of at most {most}", about.len()));
    }
    fs::read_to_string(path).map_err(|error| format!("{at}: {error}"))
}

/// The policy of the pages loads nothing from other hosts: what browsers would ignore is refused.
fn check_style_sheet(text: &str) -> Result<(), (usize, String)> {
    let lower = text.to_ascii_lowercase();
    if let Some(at) = lower.find("@import") {
        let what = "@import has no effect here: put the rules into this file";
        return Err((line_of(text, at), what.to_owned()));
    }
    for (at, _) in lower.match_indices("url(") {
        let target = lower[at + 4..].trim_start().trim_start_matches(['"', '\'']);
        let is_own = target.starts_with('/') && !target.starts_with("//");
        if !is_own && !target.starts_with("data:image/") && !target.starts_with('#') {
            let what = "url() must be data:image/… or /…: pages load nothing of other hosts";
            return Err((line_of(text, at), what.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t240_a_style_sheet_loads_nothing_of_other_hosts() {
        for (text, line) in [
            ("a {}\n@IMPORT url(/x.css);", 2),
            ("a { background: url(https://tracker.example/p.png) }", 1),
            ("a {\nbackground: URL( '//tracker.example/p.png') }", 2),
            ("@font-face { src: url(font.woff2) }", 1),
        ] {
            assert_eq!(check_style_sheet(text).expect_err(text).0, line, "{text}");
        }
        let fine = "a { background: url(\"data:image/png;base64,AA==\") } b { fill: url(#c) }";
        assert_eq!(check_style_sheet(fine), Ok(()));
    }

    #[test]
    fn names_of_fragments_are_those_of_slots() {
        assert_eq!(slot("footer.html"), Some(("footer", None)));
        assert_eq!(slot("login-above.pt-BR.html"), Some(("login-above", Some("pt-BR"))));
        for unknown in ["footer.htm", "login.html", "Footer.html", ".html", "footer.ru"] {
            assert_eq!(slot(unknown), None, "{unknown}");
        }
    }
}

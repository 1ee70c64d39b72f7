//! Passwords that have appeared in data breaches, looked up offline: a folder of range files as
//! "Have I Been Pwned: Pwned Passwords" publishes them. A file is named for the first five digits of
//! SHA-1 in hexadecimal (`ABCDE.txt`) and has a line for each hash, `SUFFIX:COUNT`.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use zeroize::Zeroizing;

/// The longest file that is read; those of the present list have some 100 KiB.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

const PREFIX_DIGITS: usize = 5;
const SUFFIX_DIGITS: usize = 35;

/// The folder of range files.
pub(super) struct BreachedPasswords {
    folder: PathBuf,
    /// Whether the log has been told of a file that is missing or unusable.
    was_reported: AtomicBool,
}

impl BreachedPasswords {
    /// Opens a folder.
    ///
    /// # Errors
    /// Where it cannot be read, has no range file, or one of another format.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
        let mut first = None;
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if is_range_file(&path) {
                first = Some(path);
                break;
            }
        }
        let none = || invalid("it has no file like ABCDE.txt".to_owned());
        let first = first.ok_or_else(none)?;
        let text = read(&first)?;
        if let Some(line) = lines(&text).find(|line| entry_of(line).is_none()) {
            let line = line.chars().take(60).collect::<String>();
            let message = format!("{}: not `SUFFIX:COUNT`: {line:?}", first.display());
            return Err(invalid(message));
        }
        Ok(Self { folder: folder.to_owned(), was_reported: AtomicBool::new(false) })
    }

    /// Whether one of these spellings is on the list.
    pub(super) fn contains(&self, spellings: [&str; 2]) -> bool {
        let [typed, normalised] = spellings;
        self.has(typed) || (normalised != typed && self.has(normalised))
    }

    fn has(&self, password: &str) -> bool {
        let hash = openssl::sha::sha1(password.as_bytes());
        let hash: Zeroizing<String> =
            Zeroizing::new(hash.iter().map(|byte| format!("{byte:02X}")).collect());
        let (prefix, suffix) = hash.split_at(PREFIX_DIGITS);
        let path = self.folder.join(format!("{prefix}.txt"));
        match read(&path) {
            Ok(text) => lines(&text).filter_map(entry_of).any(|(known, count)| {
                // Entries that pad a file have the count 0.
                known.eq_ignore_ascii_case(suffix) && count > 0
            }),
            Err(error) => {
                // The log does not say of which password.
                if !self.was_reported.swap(true, Ordering::Relaxed) {
                    let (folder, kind) = (self.folder.display(), error.kind());
                    tracing::warn!(
                        %folder, %kind,
                        "a range file of passwords.breached_folder is missing or unusable: its passwords are accepted"
                    );
                }
                false
            }
        }
    }
}

fn is_range_file(path: &Path) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    path.extension().is_some_and(|extension| extension == "txt")
        && name.len() == PREFIX_DIGITS
        && name.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte))
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        let message = format!("{}: more than 4 MiB", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(text)
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.is_empty())
}

/// The suffix and the count of a line.
fn entry_of(line: &str) -> Option<(&str, u64)> {
    let (suffix, count) = line.split_once(':')?;
    let is_suffix =
        suffix.len() == SUFFIX_DIGITS && suffix.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some((suffix, count.parse().ok()?)).filter(|_| is_suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The range file of a password, with its count.
    fn write(folder: &Path, password: &str, count: u64) -> PathBuf {
        let hash = openssl::sha::sha1(password.as_bytes());
        let hash: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
        let path = folder.join(format!("{}.txt", &hash[..5]));
        let other = "0".repeat(SUFFIX_DIGITS);
        std::fs::write(&path, format!("{other}:3\r\n{}:{count}\r\n", &hash[5..])).unwrap();
        path
    }

    #[test]
    fn a_password_of_the_list_is_found_in_either_spelling() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "sunny-kettle-42-orbit", 7);
        write(folder.path(), "cafe\u{301} kettle orbit", 1);
        write(folder.path(), "padding kettle orbit", 0);
        let list = BreachedPasswords::open(folder.path()).unwrap();
        assert!(list.contains(["sunny-kettle-42-orbit"; 2]));
        assert!(!list.contains(["sunny-kettle-43-orbit"; 2]));
        assert!(list.contains(["cafe\u{301} kettle orbit", "caf\u{e9} kettle orbit"]));
        assert!(list.contains(["caf\u{e9}", "cafe\u{301} kettle orbit"]));
        assert!(!list.contains(["padding kettle orbit"; 2]));
    }

    #[test]
    fn the_published_format_is_read() {
        // SHA-1 of "password" is 5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8.
        let folder = tempfile::tempdir().unwrap();
        let text =
            "1D2DA4053E34E76F6576ED1DA63134B5E2A:2\n1E4C9B93F3F0682250B6CF8331B7EE68FD8:9545824";
        std::fs::write(folder.path().join("5BAA6.txt"), text).unwrap();
        let list = BreachedPasswords::open(folder.path()).unwrap();
        assert!(list.contains(["password"; 2]));
    }

    #[test]
    fn a_broken_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error =
            |path: &Path| BreachedPasswords::open(path).err().map(|error| error.to_string());
        assert!(error(&folder.path().join("none")).is_some());
        assert_eq!(error(folder.path()).as_deref(), Some("it has no file like ABCDE.txt"));
        std::fs::write(folder.path().join("README.txt"), "about").unwrap();
        assert_eq!(error(folder.path()).as_deref(), Some("it has no file like ABCDE.txt"));
        let file = folder.path().join("0A1B2.txt");
        for text in ["<html>", "0A1B2C:5", &format!("{}:many", "0".repeat(35))] {
            std::fs::write(&file, text).unwrap();
            assert!(error(folder.path()).unwrap().contains("not `SUFFIX:COUNT`"), "{text}");
        }
        std::fs::write(&file, "0".repeat(5 * 1024 * 1024)).unwrap();
        assert!(error(folder.path()).unwrap().ends_with("more than 4 MiB"));
        assert!(error(&file).is_some());
    }

    #[test]
    fn a_file_that_is_missing_or_too_long_breaches_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "sunny-kettle-42-orbit", 7);
        let list = BreachedPasswords::open(folder.path()).unwrap();
        assert!(!list.contains(["another kettle"; 2]));
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str(&"\n".repeat(5 * 1024 * 1024));
        std::fs::write(&path, text).unwrap();
        assert!(!list.contains(["sunny-kettle-42-orbit"; 2]));
    }
}

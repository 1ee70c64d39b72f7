//! The password policy.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;
use zxcvbn::feedback::Warning;

use super::{MAX_BYTES, breached::BreachedPasswords, normalised};
use crate::config;

/// The prefixes, in characters, whose strength is estimated: a strong prefix suffices, and the cost
/// of an estimate grows steeply with length (0.8 s for 100 adversarial characters).
const ESTIMATED_PREFIXES: [usize; 2] = [16, 40];

/// The password policy, the same wherever a password is set: long enough, without control
/// characters, not on a blocklist, not common, not in a data breach, hard to guess. No composition
/// rules (NIST SP 800-63B-4 §3.1.1.2).
pub struct Policy {
    min_length: usize,
    min_strength: u8,
    /// The first 64 bits of each entry's SHA-256, sorted.
    blocklist: Vec<u64>,
    breached: Option<BreachedPasswords>,
}

/// A list of refused passwords cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error(
        "passwords.blocklist_file: cannot read `{}`: {source}; name a text file with one password per line, \
         or leave the key empty",
        path.display()
    )]
    Blocklist { path: PathBuf, source: std::io::Error },
    #[error(
        "passwords.breached_folder: cannot use `{}`: {source}; name a folder of range files of Pwned \
         Passwords, or leave the key empty",
        path.display()
    )]
    Breached { path: PathBuf, source: std::io::Error },
}

impl Policy {
    /// The configured policy; reads the blocklist.
    ///
    /// # Errors
    /// [`PolicyError`] when a configured list cannot be read.
    pub fn new(config: &config::Passwords) -> Result<Self, PolicyError> {
        let blocklist = match &config.blocklist_file {
            Some(path) => read_blocklist(path)
                .map_err(|source| PolicyError::Blocklist { path: path.clone(), source })?,
            None => Vec::new(),
        };
        let open = |path: &PathBuf| {
            BreachedPasswords::open(path)
                .map_err(|source| PolicyError::Breached { path: path.clone(), source })
        };
        let breached = config.breached_folder.as_ref().map(open).transpose()?;
        let (min_length, min_strength) = (config.min_length, config.min_strength);
        Ok(Self { min_length, min_strength, blocklist, breached })
    }

    /// Checks a password, given the words that an attacker would try first for this user (email,
    /// username, name of the service). Takes up to a sixth of a second: from async code, call
    /// [`Hasher::check`](super::Hasher::check).
    ///
    /// # Errors
    /// A sentence for each violated rule, with what to do.
    pub fn check(&self, password: &str, context: &[&str]) -> Result<(), Vec<String>> {
        if password.len() > MAX_BYTES {
            return Err(vec![format!(
                "Use at most {MAX_BYTES} bytes; this password has {}.",
                password.len()
            )]);
        }
        // RFC 8265 §4.2 (OpaqueString), RFC 8264 §4.3: forms, command lines and keyboards cannot
        // carry them, and U+FFFD stands for what a form could not decode.
        if password.contains(|c: char| c.is_control() || c == '\u{fffd}') {
            return Err(vec![
                "Leave out control characters, such as tabs and line ends, and U+FFFD.".to_owned(),
            ]);
        }
        let typed = password;
        let password = normalised(password);
        let mut failed = Vec::new();

        let length = password.chars().count();
        if length < self.min_length {
            failed.push(format!(
                "Use at least {} characters; this password has {length}.",
                self.min_length
            ));
        }

        let folded = Zeroizing::new(password.to_lowercase());
        if self.blocklist.binary_search(&fingerprint(&folded)).is_ok() {
            failed.push(
                "This password is on a list that attackers try first; choose another.".to_owned(),
            );
        }

        if self.breached.as_ref().is_some_and(|list| list.contains([typed, &password])) {
            failed.push(
                "This password has appeared in a data breach; choose another, and change it wherever \
                 you use it."
                    .to_owned(),
            );
        }

        let context: Vec<String> = context.iter().flat_map(|word| context_words(word)).collect();
        if context.contains(&folded) {
            failed.push(
                "Do not use your email address, your name or this service's name as the password."
                    .to_owned(),
            );
        } else if let Some(advice) = self.too_easy(&password, &context) {
            failed.push(format!("This password is too easy to guess. {advice}"));
        } else if is_common(&password) {
            failed.push("This is a very common password; choose another.".to_owned());
        }

        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    /// Advice for a password that is too easy to guess; `None` for one that is not.
    fn too_easy(&self, password: &str, context: &[String]) -> Option<String> {
        if self.min_strength == 0 {
            return None;
        }
        let context: Vec<&str> = context.iter().map(String::as_str).collect();
        let mut advice = None;
        for limit in ESTIMATED_PREFIXES {
            let end = password.char_indices().nth(limit).map(|(at, _)| at);
            let prefix = &password[..end.unwrap_or(password.len())];
            let estimate = zxcvbn::zxcvbn(prefix, &context);
            if u8::from(estimate.score()) >= self.min_strength {
                return None;
            }
            advice = Some(estimate.feedback().map_or_else(
                || "Add another word or two. Uncommon words are better.".to_owned(),
                ToString::to_string,
            ));
            if end.is_none() {
                break;
            }
        }
        advice
    }
}

/// Whether a password is one of the 30,000 most common ones, which zxcvbn knows: they are refused
/// at any `passwords.min_strength`.
fn is_common(password: &str) -> bool {
    let is_short = password.chars().nth(ESTIMATED_PREFIXES[0]).is_none();
    is_short
        && zxcvbn::zxcvbn(password, &[])
            .feedback()
            .and_then(|feedback| feedback.warning())
            .is_some_and(|warning| {
                matches!(
                    warning,
                    Warning::ThisIsATop10Password
                        | Warning::ThisIsATop100Password
                        | Warning::ThisIsACommonPassword
                )
            })
}

/// The words of an email address or name that are guessable passwords: the whole and its parts.
fn context_words(text: &str) -> Vec<String> {
    let text: String = text.nfkc().collect::<String>().to_lowercase();
    let parts = text.split(|c: char| !c.is_alphanumeric());
    let mut words: Vec<String> =
        parts.filter(|part| part.chars().count() >= 3).map(str::to_owned).collect();
    if let Some((local, _)) = text.split_once('@') {
        words.push(local.to_owned());
    }
    words.push(text);
    words
}

fn read_blocklist(path: &Path) -> std::io::Result<Vec<u64>> {
    let mut list = Vec::new();
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line));
        if !line.is_empty() {
            list.push(fingerprint(&normalised(&line).to_lowercase()));
        }
    }
    list.sort_unstable();
    list.dedup();
    Ok(list)
}

fn fingerprint(text: &str) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&Sha256::digest(text)[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::password::tests::config;

    fn rejection(policy: &Policy, password: &str) -> String {
        let context = ["alice.smith@example.com", "AliceTheGreat", "Propusk"];
        policy.check(password, &context).unwrap_err().join(" ")
    }

    #[test]
    fn long_unusual_passwords_of_any_composition_are_accepted() {
        let policy = Policy::new(&config()).unwrap();
        for password in [
            "sunny-kettle-42-orbit",
            "correct horse battery staple",
            "пароль от старого сарая",
            "  spaced  kettle  orbit  ",
        ] {
            assert_eq!(policy.check(password, &["alice@example.com"]), Ok(()));
        }
        let longest = "sunny-kettle-42-orbit ".repeat(46) + "0123456789ab";
        assert_eq!(longest.len(), MAX_BYTES);
        assert_eq!(policy.check(&longest, &[]), Ok(()));
    }

    #[test]
    fn a_rejection_says_what_to_do() {
        let policy = Policy::new(&config()).unwrap();
        assert!(
            rejection(&policy, "zq7#x")
                .starts_with("Use at least 8 characters; this password has 5.")
        );
        assert!(rejection(&policy, "").contains("has 0."));
        assert_eq!(
            rejection(&policy, "password1"),
            "This password is too easy to guess. This is a very common password. Add another word or two. Uncommon words are better."
        );
        assert_eq!(
            rejection(&policy, &"x".repeat(1_000_000)),
            "Use at most 1024 bytes; this password has 1000000."
        );
    }

    #[test]
    fn control_characters_are_rejected() {
        let lax = Policy::new(&config::Passwords { min_strength: 0, ..config() }).unwrap();
        for c in ['\0', '\t', '\n', '\r', '\u{1b}', '\u{7f}', '\u{85}', '\u{fffd}'] {
            let rejection = rejection(&lax, &format!("sunny{c}kettle"));
            assert!(rejection.starts_with("Leave out control characters"), "{c:?}: {rejection}");
        }
    }

    #[test]
    fn names_of_the_user_are_rejected() {
        let policy = Policy::new(&config()).unwrap();
        let lax = Policy::new(&config::Passwords { min_strength: 0, ..config() }).unwrap();
        for password in ["alice.smith@example.com", "ALICE.SMITH", "alicethegreat"] {
            assert!(rejection(&policy, password).contains("Do not use your email"));
            assert!(rejection(&lax, password).contains("Do not use your email"));
        }
        assert!(rejection(&policy, "alicethegreat1").contains("too easy"));
        assert!(lax.check("kettle42", &[]).is_ok());
        for common in ["password1", "iloveyou", "PASSWORD1", "trustno1"] {
            let refused = rejection(&lax, common);
            assert_eq!(refused, "This is a very common password; choose another.", "{common}");
        }
    }

    #[test]
    fn characters_are_counted_as_code_points_after_nfkc() {
        let lax = Policy::new(&config::Passwords { min_strength: 0, ..config() }).unwrap();
        // Eight letters, each with a combining accent that NFKC joins to it.
        let accents = "e\u{301}".repeat(8);
        assert!(lax.check(&accents, &[]).is_ok());
        assert!(rejection(&lax, &"e\u{301}".repeat(7)).contains("has 7."));
        assert!(rejection(&lax, &"\u{1F511}".repeat(7)).contains("has 7."));
    }

    #[test]
    fn blocklisted_passwords_are_rejected_in_any_case() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"Sunny-Kettle-42-Orbit\r\n\ncaf\xe9-latin-1\nother").unwrap();
        let blocklist_file = Some(file.path().to_owned());
        let policy = Policy::new(&config::Passwords { blocklist_file, ..config() }).unwrap();
        let rejection = rejection(&policy, "sunny-KETTLE-42-orbit");
        assert_eq!(
            rejection,
            "This password is on a list that attackers try first; choose another."
        );
        assert_eq!(policy.check("sunny-kettle-43-orbit", &[]), Ok(()));
        let blocklist_file = Some("/nonexistent/list".into());
        let missing = Policy::new(&config::Passwords { blocklist_file, ..config() });
        let message = missing.err().map(|error| error.to_string()).unwrap();
        assert!(
            message.starts_with("passwords.blocklist_file: cannot read `/nonexistent/list`"),
            "{message}"
        );
    }
}

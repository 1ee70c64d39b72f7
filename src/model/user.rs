//! Users, and the rules for email addresses, usernames and roles.

use unicode_normalization::UnicodeNormalization;

use crate::{
    clock::Timestamp,
    ids::UserId,
    model::profile::UserProfile,
    unicode::{
        has_stacked_marks, is_base, is_hidden, is_letter_digit, mixes_scripts, nfkc_casefold,
    },
};

/// A user account.
#[derive(Clone, Debug)]
pub struct User {
    /// The `sub` of the user's tokens.
    pub id: UserId,
    pub email: String,
    pub username: Option<String>,
    pub role: Role,
    /// Whether the email address was verified.
    pub is_verified: bool,
    pub created_at: Timestamp,
    pub disabled_at: Option<Timestamp>,
}

/// A user as administrators see it.
#[derive(Clone, Debug)]
pub struct UserRecord {
    pub user: User,
    /// Strictly increasing per user: the version of the record.
    pub updated_at: Timestamp,
    pub last_login_at: Option<Timestamp>,
    /// The id in the system that the user was imported from.
    pub external_id: Option<String>,
    pub profile: UserProfile,
    /// `None`: its user has not requested the deletion.
    pub deletion: Option<Deletion>,
    /// What the user has accepted last.
    pub terms: Option<AcceptedTerms>,
}

/// Terms that a user has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedTerms {
    pub version: String,
    pub at: Timestamp,
}

impl UserRecord {
    /// The deletion that the user can cancel. The account is disabled because of it alone.
    pub fn cancellable_deletion(&self) -> Option<Deletion> {
        self.deletion.filter(|deletion| !deletion.is_final && self.user.disabled_at.is_some())
    }
}

/// A deletion that a user has requested. Until then the account is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    pub at: Timestamp,
    /// An administrator has disabled the account meanwhile: its user cannot cancel the deletion.
    pub is_final: bool,
}

/// The longest [`UserRecord::external_id`], in bytes.
pub const MAX_EXTERNAL_ID: usize = 255;

/// An email address as entered, in NFKC, and in its [`canonical`] form. The canonical form is
/// unique, so that no two users differ only in case or compatibility forms (cf. Django
/// CVE-2019-19844).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    pub address: String,
    pub canonical: String,
}

impl Email {
    /// Parses an address; surrounding white space is removed.
    ///
    /// # Errors
    /// The violated rule: exactly one `@`, no characters with a meaning in mail headers or
    /// recipient lists, none that are invisible or change the direction of text, lengths within
    /// RFC 5321 §4.5.3.1, a valid domain.
    pub fn parse(input: &str) -> Result<Self, &'static str> {
        if input.len() > 1024 {
            return Err("an email address has at most 254 characters");
        }
        if input.contains(char::is_control) {
            return Err("an email address has no line ends or other control characters");
        }
        let address: String = input.trim().nfkc().collect();
        if address.is_empty() {
            return Err("give an email address");
        }
        if address.len() > 254 {
            return Err("an email address has at most 254 characters");
        }
        if address.contains(is_hidden) {
            return Err("an email address has no invisible or direction-changing characters");
        }
        let forbidden =
            |c: char| c.is_whitespace() || c.is_control() || r#",;:<>()[]\""#.contains(c);
        if address.contains(forbidden) {
            return Err("an email address has no spaces, commas, quotes or brackets");
        }
        let Some((local, domain)) = address.split_once('@').filter(|(_, d)| !d.contains('@'))
        else {
            return Err("an email address has exactly one @, as in name@example.org");
        };
        if local.is_empty()
            || local.len() > 64
            || local.starts_with('.')
            || local.ends_with('.')
            || local.contains("..")
        {
            return Err("the part before the @ is not valid in an email address");
        }
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.starts_with(is_base)
                && l.chars().all(|c| is_letter_digit(c) || c == '-')
        };
        if !domain.split('.').all(label) {
            return Err("the part after the @ is not a domain");
        }
        let canonical = canonical(&address);
        Ok(Self { address, canonical })
    }
}

/// A login name, stored and compared like [`Email`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username {
    pub name: String,
    pub canonical: String,
}

impl Username {
    /// Parses a username: 3 to 32 letters with their marks, digits, dots, hyphens and underscores,
    /// of one script or of Latin beside Chinese, Japanese or Korean. `@` is not allowed, so that a
    /// username can never be the email address of another user.
    ///
    /// # Errors
    /// The violated rule.
    pub fn parse(input: &str) -> Result<Self, &'static str> {
        if input.len() > 1024 {
            return Err("a username has 3 to 32 characters");
        }
        let name: String = input.trim().nfkc().collect();
        if !(3..=32).contains(&name.chars().count()) {
            return Err("a username has 3 to 32 characters");
        }
        if name.contains(is_hidden) {
            return Err("a username has no invisible or direction-changing characters");
        }
        if !name.chars().all(|c| is_letter_digit(c) || "._-".contains(c)) {
            return Err("a username has letters, digits, dots, hyphens and underscores only");
        }
        if !name.starts_with(is_base) {
            return Err("a username starts with a letter or a digit");
        }
        if has_stacked_marks(&name) {
            return Err("a username has at most four accents on a letter");
        }
        if mixes_scripts(&name) {
            return Err("a username has letters of one script only, such as Latin or Cyrillic");
        }
        let canonical = canonical(&name);
        Ok(Self { name, canonical })
    }
}

/// A login identifier: an email address if it contains `@`, else a username.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    Email(String),
    Username(String),
}

impl Login {
    /// Canonicalises the input. Never fails: an invalid identifier matches no user.
    pub fn parse(input: &str) -> Self {
        let canonical = canonical(input.trim());
        if canonical.contains('@') { Self::Email(canonical) } else { Self::Username(canonical) }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Email(text) | Self::Username(text) => text,
        }
    }
}

/// The form in which email addresses and usernames are compared: NFKC_Casefold (Unicode §3.13), and
/// for the domain of an address its U-labels (UTS #46), as some browsers and mail programs write
/// A-labels. `straße.example` and `strasse.example` are two domains.
pub fn canonical(text: &str) -> String {
    let text: String = text.nfkc().collect();
    let Some((local, domain)) = text.rsplit_once('@') else {
        return nfkc_casefold(&text);
    };
    let domain = match idna::domain_to_unicode(domain) {
        (domain, Ok(())) => domain,
        (_, Err(_)) => nfkc_casefold(domain),
    };
    format!("{}@{domain}", nfkc_casefold(local))
}

/// A role: `user`, `admin`, or one that the deployment defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role(String);

impl Role {
    /// The default role.
    pub fn user() -> Self {
        Self("user".to_owned())
    }

    /// The role that may use the admin API.
    pub fn admin() -> Self {
        Self("admin".to_owned())
    }

    /// Parses a role name: 1 to 32 of `a-z`, `0-9`, `_`, `-`.
    ///
    /// # Errors
    /// The rule for role names.
    pub fn parse(input: &str) -> Result<Self, &'static str> {
        let fits = (1..=32).contains(&input.len())
            && input
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
        if fits {
            Ok(Self(input.to_owned()))
        } else {
            Err(
                "a role name has 1 to 32 of the characters a-z, 0-9, _ and -, as in `user` or `admin`",
            )
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the role exists in every deployment.
    pub fn is_built_in(&self) -> bool {
        matches!(self.as_str(), "user" | "admin")
    }
}

/// What can be changed about a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleSettings {
    /// For administrators.
    pub description: String,
    /// Its users log in with a second factor only.
    pub require_second_factor: bool,
}

/// A role with its settings and number of users.
#[derive(Clone, Debug)]
pub struct RoleEntry {
    pub role: Role,
    pub settings: RoleSettings,
    /// The number of users with this role.
    pub users: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_in_canonical_form() {
        let a = Email::parse("  Ｍary@Example.ORG ").expect("valid");
        assert_eq!(a.address, "Mary@Example.ORG");
        assert_eq!(a.canonical, "mary@example.org");
        assert_eq!(Login::parse("MARY@example.org "), Login::Email(a.canonical));
        let ascii = Email::parse("vera@XN--E1afmkfd.xn--p1ai").expect("valid");
        assert_eq!(ascii.canonical, "vera@пример.рф");
        assert_eq!(Login::parse("Vera@Пример.РФ"), Login::Email(ascii.canonical));
    }

    #[test]
    fn names_that_differ_in_case_only_are_equal() {
        for (one, other) in [("straße", "STRASSE"), ("ὈΔΥΣΣΕΎΣ", "ὀδυσσεύς"), ("maße_1", "MASSE_1")]
        {
            let canonical = |name: &str| Username::parse(name).expect("valid").canonical;
            assert_eq!(canonical(one), canonical(other), "{one} {other}");
            let email = |name: &str| Email::parse(&format!("{name}@example.org")).expect("valid");
            assert_eq!(email(one).canonical, email(other).canonical, "{one} {other}");
        }
        let at = |domain: &str| Email::parse(&format!("a@{domain}")).expect("valid").canonical;
        assert_ne!(at("straße.example"), at("strasse.example"));
        assert_eq!(at("xn--strae-oqa.example"), at("STRAßE.example"));
    }

    #[test]
    fn words_with_combining_marks_are_names() {
        for name in
            ["हिन्दी", "தமிழ்", "สวัสดี", "ខ្មែរ", "မြန်မာ", "বাংলা", "עִבְרִית", "Nguyễn", "김철수", "ヴェラ"]
        {
            assert!(Username::parse(name).is_ok(), "{name:?}: {:?}", Username::parse(name));
            let email = format!("{name}@{name}.example");
            assert!(Email::parse(&email).is_ok(), "{email:?}: {:?}", Email::parse(&email));
        }
        assert!(Username::parse("\u{301}vera").is_err(), "a mark has a letter before it");
        assert!(Username::parse("v\u{301}\u{302}\u{303}\u{304}\u{305}era").is_err());
    }

    #[test]
    fn invisible_and_direction_changing_characters_are_rejected() {
        for c in "\u{3164}\u{115f}\u{1160}\u{ffa0}\u{200b}\u{200d}\u{202e}\u{2067}\u{61c}\u{ad}\u{34f}\u{fe0f}\u{2800}\u{e0061}\u{180e}\u{feff}".chars() {
            for name in [format!("ve{c}ra"), format!("vera{c}")] {
                let why = Username::parse(&name).expect_err("rejected");
                assert!(why.contains("invisible"), "{name:?}: {why}");
                let why = Email::parse(&format!("{name}@example.org")).expect_err("rejected");
                assert!(why.contains("invisible"), "{name:?}: {why}");
                assert!(Email::parse(&format!("vera@{name}.example")).is_err(), "{name:?}");
            }
        }
    }

    #[test]
    fn letters_of_scripts_that_look_alike_are_not_mixed() {
        for name in ["vеra", "аdmin", "paypαl"] {
            let why = Username::parse(name).expect_err("rejected");
            assert!(why.contains("one script"), "{name:?}: {why}");
        }
        assert!(Username::parse("vera漢字").is_ok());
    }

    #[test]
    fn ambiguous_addresses_are_rejected() {
        for invalid in [
            "",
            "a",
            "@",
            "a@",
            "@b",
            "a@x,b@evil",
            "a@b@c",
            "a b@c",
            "a@b\r\nBcc: x",
            "a@b\r\n",
            "\na@b",
            "a\0@b",
            "\"a\"@b",
            "<a@b>",
            "a@-b",
            "a@b..c",
            ".a@b",
            "a..b@c",
            "a@b c",
            "a@[127.0.0.1]",
            "a\u{ff20}b@c",
        ] {
            assert!(Email::parse(invalid).is_err(), "{invalid:?}");
        }
        assert!(Email::parse(&format!("{}@b", "a".repeat(65))).is_err());
    }

    #[test]
    fn a_username_cannot_be_an_email_address() {
        assert!(Username::parse("a@b.c").is_err());
        assert!(Username::parse("a\u{ff20}b.c").is_err());
        assert_eq!(Username::parse("Вера.К").expect("valid").canonical, "вера.к");
    }
}

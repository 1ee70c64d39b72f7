//! Users, and the rules for email addresses, usernames and roles.

use unicode_normalization::UnicodeNormalization;

use crate::clock::Timestamp;

/// A user account.
#[derive(Clone, Debug)]
pub struct User {
    /// The `sub` of the user's tokens.
    pub id: String,
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
}

/// An email address as entered and in canonical form: NFKC and lower case. The canonical form is
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
    /// recipient lists, lengths within RFC 5321 §4.5.3.1, a valid domain.
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
                && l.chars().all(|c| c.is_alphanumeric() || c == '-')
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
    /// Parses a username: 3 to 32 letters, digits, dots, hyphens and underscores. `@` is not
    /// allowed, so that a username can never be the email address of another user.
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
        if !name.chars().all(|c| c.is_alphanumeric() || "._-".contains(c)) {
            return Err("a username has letters, digits, dots, hyphens and underscores only");
        }
        if !name.starts_with(char::is_alphanumeric) {
            return Err("a username starts with a letter or a digit");
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

/// The form in which email addresses and usernames are compared.
pub fn canonical(text: &str) -> String {
    // Lower-casing can undo NFKC, so NFKC is applied before and after.
    let text: String = text.nfkc().collect::<String>().to_lowercase().nfkc().collect();
    // Some browsers and mail programs write the domain as A-labels (RFC 5891 §4).
    if let Some((local, domain)) = text.split_once('@')
        && domain.contains("xn--")
        && let (domain, Ok(())) = idna::domain_to_unicode(domain)
    {
        return format!("{local}@{domain}");
    }
    text
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

/// A role with its description and number of users.
#[derive(Clone, Debug)]
pub struct RoleEntry {
    pub role: Role,
    /// For administrators.
    pub description: String,
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

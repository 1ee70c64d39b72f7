//! A person with an account here, and the rules for an email address, a username and a role.

use unicode_normalization::UnicodeNormalization;

use crate::clock::Timestamp;

/// A person with an account.
#[derive(Clone, Debug)]
pub struct User {
    /// The `sub` of this person's tokens.
    pub id: String,
    pub email: String,
    pub username: Option<String>,
    pub role: Role,
    /// Whether the address was proven to be theirs.
    pub is_verified: bool,
    pub created_at: Timestamp,
    pub disabled_at: Option<Timestamp>,
}

/// An account as those see it who look after it.
#[derive(Clone, Debug)]
pub struct UserRecord {
    pub user: User,
    /// Never twice the same of one account: its version.
    pub updated_at: Timestamp,
    pub last_login_at: Option<Timestamp>,
}

/// An address as it is kept and, in `canonical`, as it is compared: NFKC and lower case, so that no two
/// accounts differ in case or in look-alike forms only (Django CVE-2019-19844 is what happens else).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    pub address: String,
    pub canonical: String,
}

impl Email {
    /// Reads an address; white space around it is dropped.
    ///
    /// # Errors
    /// Says what is wrong: not one `@`, characters that a mail header or a list of recipients would read
    /// otherwise, parts too long (RFC 5321 §4.5.3.1) or a domain that is none.
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
            return Err("the part before the @ is not one of an email address");
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

/// A name to log in with, kept and compared as [`Email`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username {
    pub name: String,
    pub canonical: String,
}

impl Username {
    /// Reads a username: 3 to 32 letters, digits, dots, hyphens and underscores. No `@`: a username can
    /// never be another person's address.
    ///
    /// # Errors
    /// Says which rule was broken.
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

/// What somebody typed to say who they are: an address where it has an `@`, else a username.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    Email(String),
    Username(String),
}

impl Login {
    /// The canonical form to look up; never fails, an impossible login just finds nobody.
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

/// The form in which addresses and usernames are compared.
pub fn canonical(text: &str) -> String {
    // Lower case can bring back what NFKC would compose, so it is applied on both sides.
    let text: String = text.nfkc().collect::<String>().to_lowercase().nfkc().collect();
    // The same mailbox, as some browsers and mailers write it (RFC 5891 §4).
    if let Some((local, domain)) = text.split_once('@')
        && domain.contains("xn--")
        && let (domain, Ok(())) = idna::domain_to_unicode(domain)
    {
        return format!("{local}@{domain}");
    }
    text
}

/// What a user is here: `user`, `admin`, or a name of the installation's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role(String);

impl Role {
    /// The role of everybody who registers.
    pub fn user() -> Self {
        Self("user".to_owned())
    }

    /// May use the admin API.
    pub fn admin() -> Self {
        Self("admin".to_owned())
    }

    /// Reads a role's name: 1 to 32 of `a-z`, `0-9`, `_`, `-`.
    ///
    /// # Errors
    /// Says what a role may be.
    pub fn parse(input: &str) -> Result<Self, &'static str> {
        let fits = (1..=32).contains(&input.len())
            && input
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
        if fits {
            Ok(Self(input.to_owned()))
        } else {
            Err("a role is 1 to 32 of a-z, 0-9, _ and -, such as `user` or `admin`")
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a role that every installation has.
    pub fn is_built_in(&self) -> bool {
        matches!(self.as_str(), "user" | "admin")
    }
}

/// A role in the list of those that users may have.
#[derive(Clone, Debug)]
pub struct RoleEntry {
    pub role: Role,
    /// For those who give it.
    pub description: String,
    /// How many have it.
    pub users: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_compared_in_canonical_form() {
        let a = Email::parse("  Ｍary@Example.ORG ").expect("valid");
        assert_eq!(a.address, "Mary@Example.ORG");
        assert_eq!(a.canonical, "mary@example.org");
        assert_eq!(Login::parse("MARY@example.org "), Login::Email(a.canonical));
        let ascii = Email::parse("vera@XN--E1afmkfd.xn--p1ai").expect("valid");
        assert_eq!(ascii.canonical, "vera@пример.рф");
        assert_eq!(Login::parse("Vera@Пример.РФ"), Login::Email(ascii.canonical));
    }

    #[test]
    fn an_address_that_a_mailer_could_misread_is_refused() {
        for bad in [
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
            assert!(Email::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Email::parse(&format!("{}@b", "a".repeat(65))).is_err());
    }

    #[test]
    fn a_username_is_never_an_address() {
        assert!(Username::parse("a@b.c").is_err());
        assert!(Username::parse("a\u{ff20}b.c").is_err());
        assert_eq!(Username::parse("Вера.К").expect("valid").canonical, "вера.к");
    }
}

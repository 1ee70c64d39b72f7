//! An account as each system exports it, and as it is stored here: by the rules of registration.

use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use serde_json::{Map, Value};

use super::{Format, Options, profile};
use crate::{
    clock::{Clock, Rng, Timestamp},
    model::{
        self,
        profile::ProfileClaim,
        user::{Email, MAX_EXTERNAL_ID, Role, Username, canonical},
    },
    password::{Digest, ImportedHash, NO_PASSWORD, ScryptParams, UnusableHash, base64},
    storage::imports::ImportedUser,
};

/// The field that is refused, and why.
pub(super) type Refused = (&'static str, String);

/// What the reader of a file needs.
pub struct Preparation {
    pub options: Options,
    /// Every role of the deployment.
    pub roles: HashSet<String>,
    /// The claims of profiles that are in use.
    pub claims: Vec<ProfileClaim>,
    pub clock: Clock,
    pub rng: Rng,
}

/// An account as the file says it.
#[derive(Default)]
struct Account {
    id: Option<String>,
    email: Option<String>,
    username: Option<String>,
    hash: Option<ImportedHash>,
    role: Option<String>,
    is_verified: bool,
    is_disabled: bool,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
}

impl Preparation {
    /// The row of an account, or which field is refused and why.
    pub fn account(&self, found: Map<String, Value>) -> Result<ImportedUser, Refused> {
        let fields = Fields(found);
        let account = match self.options.format {
            Format::Json | Format::Csv => plain(&fields)?,
            Format::Keycloak => keycloak(&fields)?,
            Format::Auth0 => auth0(&fields)?,
            Format::Firebase => self.firebase(&fields)?,
        };
        let profile = match self.options.profiles {
            true => profile::of(&fields, self.options.format, &self.claims)?,
            false => None,
        };
        self.row(account, profile)
    }

    fn row(&self, account: Account, profile: Option<String>) -> Result<ImportedUser, Refused> {
        let email = account.email.ok_or_else(|| missing("email"))?;
        let email = Email::parse(&email).map_err(|why| ("email", why.to_owned()))?;
        // Some systems store the address as the username of those who have none.
        let username = account.username.filter(|name| canonical(name.trim()) != email.canonical);
        let username = username.as_deref().map(Username::parse).transpose();
        let username = username.map_err(|why| ("username", why.to_owned()))?;
        let (username, username_canonical) = username.map(|u| (u.name, u.canonical)).unzip();
        if let Some(id) = &account.id
            && (id.len() > MAX_EXTERNAL_ID || id.contains(char::is_control))
        {
            let message = format!("has more than {MAX_EXTERNAL_ID} bytes, or control characters");
            return Err(("id", message));
        }
        let password_hash = match account.hash {
            Some(hash) => hash.to_string(),
            None if self.options.allow_no_password => NO_PASSWORD.to_owned(),
            None => {
                let message = "missing; --allow-no-password imports the account without one";
                return Err(("password_hash", message.to_owned()));
            }
        };
        let role = match account.role.filter(|_| self.options.roles_from_file) {
            Some(role) => self.role(&role)?,
            None => self.options.role.as_str().to_owned(),
        };
        let now = self.clock.now();
        let created_at = account.created_at.unwrap_or(now);
        let updated_at = account.updated_at.unwrap_or(created_at);
        for (field, at) in [("created_at", created_at), ("updated_at", updated_at)] {
            if at > now {
                let message = "lies in the future; a time without an offset is read as UTC";
                return Err((field, message.to_owned()));
            }
        }
        Ok(ImportedUser {
            id: model::new_id(&self.clock, &self.rng).into(),
            email: email.address,
            email_canonical: email.canonical,
            username,
            username_canonical,
            password_hash,
            role,
            is_verified: account.is_verified,
            created_at: created_at.0,
            updated_at: updated_at.0,
            disabled_at: account.is_disabled.then_some(now.0),
            external_id: account.id,
            profile,
        })
    }

    fn role(&self, name: &str) -> Result<String, Refused> {
        if !self.roles.contains(name) {
            return Err(("role", "there is no such role; `propusk role add` defines one".into()));
        }
        if name == Role::admin().as_str() && !self.options.allow_admins {
            return Err(("role", "administrators are imported with --allow-admins only".into()));
        }
        Ok(name.to_owned())
    }

    /// <https://firebase.google.com/docs/cli/auth>
    fn firebase(&self, fields: &Fields) -> Result<Account, Refused> {
        let hash = match (fields.text("passwordHash")?, fields.text("salt")?) {
            (Some(hash), Some(salt)) => {
                let parameters = self.options.firebase.as_ref();
                let parameters = parameters.ok_or_else(|| missing("password_hash"))?;
                let (hash, salt) = (decoded(&hash)?, decoded(&salt)?);
                Some(parameters.hash(&salt, &hash).map_err(unusable)?)
            }
            // Accounts of other providers have an email address and no password.
            _ => None,
        };
        Ok(Account {
            id: fields.text("localId")?,
            email: fields.text("email")?,
            hash,
            is_verified: fields.truth("emailVerified", "is_verified")?,
            is_disabled: fields.truth("disabled", "disabled")?,
            created_at: fields.time("createdAt", "created_at")?,
            ..Account::default()
        })
    }
}

/// The columns of the older service, and of most tables of users.
fn plain(fields: &Fields) -> Result<Account, Refused> {
    let hash = fields.text("password_hash")?.as_deref().map(ImportedHash::parse).transpose();
    Ok(Account {
        id: fields.text("id")?,
        email: fields.text("email")?,
        username: fields.text("username")?,
        hash: hash.map_err(unusable)?,
        role: fields.text("role")?,
        is_verified: fields.truth("is_verified", "is_verified")?,
        is_disabled: fields.truth("disabled", "disabled")?,
        created_at: fields.time("created_at", "created_at")?,
        updated_at: fields.time("updated_at", "updated_at")?,
    })
}

/// `UserRepresentation` of a realm export.
fn keycloak(fields: &Fields) -> Result<Account, Refused> {
    let credentials = fields.get("credentials").and_then(Value::as_array);
    let password = credentials.into_iter().flatten().filter_map(Value::as_object);
    let mut password = password.filter(|one| one.get("type").is_some_and(|t| t == "password"));
    let hash = password.next().map(keycloak_hash).transpose().map_err(unusable)?;
    Ok(Account {
        id: fields.text("id")?,
        email: fields.text("email")?,
        username: fields.text("username")?,
        hash,
        is_verified: fields.truth("emailVerified", "is_verified")?,
        is_disabled: fields.get("enabled").is_some_and(|enabled| *enabled == Value::Bool(false)),
        created_at: fields.time("createdTimestamp", "created_at")?,
        ..Account::default()
    })
}

/// `secretData` and `credentialData` are JSON in texts.
fn keycloak_hash(credential: &Map<String, Value>) -> Result<ImportedHash, UnusableHash> {
    let inner = |name: &str| {
        let text = credential.get(name).and_then(Value::as_str);
        let value = text.and_then(|text| serde_json::from_str::<Value>(text).ok());
        value.ok_or_else(|| UnusableHash(format!("Keycloak: `{name}` is missing or not JSON")))
    };
    let (secret, data) = (inner("secretData")?, inner("credentialData")?);
    let bytes = |name: &str| base64(secret[name].as_str().unwrap_or_default());
    let (hash, salt) = (bytes("value")?, bytes("salt")?);
    let iterations = data["hashIterations"].as_u64().and_then(|count| u32::try_from(count).ok());
    let iterations = iterations.ok_or_else(|| malformed("Keycloak: `hashIterations`"))?;
    let algorithm = data["algorithm"].as_str().unwrap_or_default();
    if algorithm == "argon2" {
        let parameter = |name: &str| {
            let value = data["additionalParameters"][name][0].as_str();
            value.ok_or_else(|| malformed("Keycloak: `additionalParameters`"))
        };
        let version = match parameter("version")? {
            "1.0" => 16,
            _ => 19,
        };
        return argon2(
            parameter("type")?,
            version,
            [parameter("memory")?, &iterations.to_string(), parameter("parallelism")?],
            &salt,
            &hash,
        );
    }
    let digest = Digest::parse(algorithm).filter(|_| algorithm.starts_with("pbkdf2"));
    let digest = digest.ok_or_else(|| malformed("Keycloak: an unknown `algorithm`"))?;
    ImportedHash::pbkdf2(digest, iterations, salt, hash)
}

/// The PHC string of an Argon2 hash in parts.
fn argon2(
    kind: &str,
    version: u32,
    [memory, iterations, parallelism]: [&str; 3],
    salt: &[u8],
    hash: &[u8],
) -> Result<ImportedHash, UnusableHash> {
    let b64 = |bytes: &[u8]| BASE64_STANDARD_NO_PAD.encode(bytes);
    ImportedHash::parse(&format!(
        "$argon2{kind}$v={version}$m={memory},t={iterations},p={parallelism}${}${}",
        b64(salt),
        b64(hash)
    ))
}

/// The export of users with password hashes, and the schema of the bulk import.
fn auth0(fields: &Fields) -> Result<Account, Refused> {
    let hash = match (fields.text("password_hash")?, fields.get("custom_password_hash")) {
        (Some(hash), _) => Some(ImportedHash::parse(&hash)),
        (None, Some(custom)) => Some(auth0_hash(custom)),
        (None, None) => None,
    };
    let id = match fields.get("_id").and_then(|id| id["$oid"].as_str()) {
        Some(id) => Some(format!("auth0|{id}")),
        None => fields.text("user_id")?,
    };
    Ok(Account {
        id,
        email: fields.text("email")?,
        username: fields.text("username")?,
        hash: hash.transpose().map_err(unusable)?,
        is_verified: fields.truth("email_verified", "is_verified")?,
        is_disabled: fields.truth("blocked", "disabled")?,
        created_at: fields.time("created_at", "created_at")?,
        updated_at: fields.time("updated_at", "updated_at")?,
        ..Account::default()
    })
}

/// `custom_password_hash` of Auth0's bulk import.
fn auth0_hash(custom: &Value) -> Result<ImportedHash, UnusableHash> {
    let value = custom["hash"]["value"].as_str();
    let value = value.ok_or_else(|| malformed("Auth0: `hash.value`"))?;
    match custom["algorithm"].as_str().unwrap_or_default() {
        "argon2" | "bcrypt" | "pbkdf2" => ImportedHash::parse(value),
        "scrypt" => {
            let bytes = |part: &Value| match part["encoding"].as_str() {
                Some("hex") => unhex(part["value"].as_str().unwrap_or_default()),
                Some("utf8") => Ok(part["value"].as_str().unwrap_or_default().into()),
                _ => base64(part["value"].as_str().unwrap_or_default()),
            };
            let number = |name: &str| {
                let number = custom[name].as_u64().and_then(|number| u32::try_from(number).ok());
                number.ok_or_else(|| malformed("Auth0: the parameters of scrypt"))
            };
            let cost = number("cost")?;
            if !cost.is_power_of_two() {
                return Err(malformed("Auth0: `cost`"));
            }
            let params = ScryptParams {
                log_n: cost.ilog2(),
                r: number("blockSize")?,
                p: number("parallelization")?,
            };
            ImportedHash::scrypt(params, bytes(&custom["salt"])?, bytes(&custom["hash"])?)
        }
        _ => Err(UnusableHash("not a hash by bcrypt, Argon2, PBKDF2 or scrypt".to_owned())),
    }
}

fn unhex(text: &str) -> Result<Vec<u8>, UnusableHash> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0);
    let digits = digits.ok_or_else(|| malformed("a value in hex"))?;
    Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn malformed(what: &str) -> UnusableHash {
    UnusableHash(format!("{what} is missing or not valid"))
}

fn unusable(error: UnusableHash) -> Refused {
    ("password_hash", error.0)
}

fn decoded(text: &str) -> Result<Vec<u8>, Refused> {
    base64(text).map_err(unusable)
}

fn missing(field: &'static str) -> Refused {
    (field, "missing".to_owned())
}

/// The members of an account. Their names are compared without case and underscores: `createdAt` is
/// `created_at`.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let plain = |name: &str| name.replace('_', "").to_ascii_lowercase();
        let found = || self.0.iter().find(|(known, _)| plain(known) == plain(name));
        let found = self.0.get(name).or_else(|| found().map(|(_, value)| value));
        found.filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    /// A text, or a number as a text.
    fn text(&self, name: &'static str) -> Result<Option<String>, Refused> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err((name, "must be a text".to_owned())),
        }
    }

    /// `false` where it is absent.
    pub(super) fn truth(&self, name: &str, field: &'static str) -> Result<bool, Refused> {
        let text = match self.get(name) {
            None => return Ok(false),
            Some(Value::Bool(truth)) => return Ok(*truth),
            Some(Value::Number(number)) => number.to_string(),
            Some(other) => other.as_str().unwrap_or_default().to_ascii_lowercase(),
        };
        match text.as_str() {
            "true" | "t" | "yes" | "y" | "1" => Ok(true),
            "false" | "f" | "no" | "n" | "0" => Ok(false),
            _ => Err((field, "must be true or false".to_owned())),
        }
    }

    fn time(&self, name: &str, field: &'static str) -> Result<Option<Timestamp>, Refused> {
        let text = match self.get(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.to_string(),
            Some(other) => other.as_str().unwrap_or_default().trim().to_owned(),
        };
        let time = time_of(&text).filter(|at| at.0 >= 0);
        let message = "must be RFC 3339, `2024-02-29 12:00:00` in UTC, or seconds or milliseconds";
        time.map(Some).ok_or_else(|| (field, message.to_owned()))
    }
}

/// RFC 3339; the same with a space, without an offset or with one in hours, as databases print it;
/// seconds, milliseconds or microseconds since the epoch.
fn time_of(text: &str) -> Option<Timestamp> {
    if let Ok(number) = text.parse::<i64>() {
        return match text.len() {
            ..=11 => Timestamp::from_secs(number),
            12..=14 => number.checked_mul(1_000).map(Timestamp),
            _ => Some(Timestamp(number)),
        };
    }
    let (date, time) = text.split_at_checked(10)?;
    let time = time.strip_prefix(['T', 't', ' '])?;
    let zone = match time.find(['+', '-', 'Z', 'z']) {
        None => "Z".to_owned(),
        Some(at) if time.len() - at == 3 => format!("{}:00", &time[at..]),
        Some(at) => time[at..].trim().to_ascii_uppercase(),
    };
    let time = time.split(['+', '-', 'Z', 'z']).next().unwrap_or_default().trim();
    Timestamp::parse(&format!("{date}T{time}{zone}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_databases_print_them() {
        let noon = Some(Timestamp(1_709_208_000_000_000));
        for text in [
            "2024-02-29T12:00:00Z",
            "2024-02-29T12:00:00.000Z",
            "2024-02-29 12:00:00",
            "2024-02-29 12:00:00+00",
            "2024-02-29 15:00:00 +03:00",
            "2024-02-29 14:30:00+02:30",
            "1709208000",
            "1709208000000",
            "1709208000000000",
        ] {
            assert_eq!(time_of(text), noon, "{text}");
        }
        for text in ["", "yesterday", "2024-02-29", "2024-02-30 12:00:00", "29.02.2024 12:00"] {
            assert_eq!(time_of(text), None, "{text}");
        }
    }
}

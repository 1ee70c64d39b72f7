//! The profile of a user: the standard claims of OpenID Connect Core §5.1, without the email
//! address.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;
use url::Url;

use crate::{clock::Timestamp, unicode::is_hidden};

/// A claim of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileClaim {
    Name,
    GivenName,
    FamilyName,
    MiddleName,
    Nickname,
    PreferredUsername,
    Profile,
    Picture,
    Website,
    Gender,
    Birthdate,
    Zoneinfo,
    Locale,
    PhoneNumber,
    /// Set by administrators only: nothing here verifies a phone number.
    PhoneNumberVerified,
    Address,
    /// Kept by the server.
    UpdatedAt,
}

impl ProfileClaim {
    pub const ALL: [Self; 17] = [
        Self::Name,
        Self::GivenName,
        Self::FamilyName,
        Self::MiddleName,
        Self::Nickname,
        Self::PreferredUsername,
        Self::Profile,
        Self::Picture,
        Self::Website,
        Self::Gender,
        Self::Birthdate,
        Self::Zoneinfo,
        Self::Locale,
        Self::PhoneNumber,
        Self::PhoneNumberVerified,
        Self::Address,
        Self::UpdatedAt,
    ];

    /// The name of the claim.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::GivenName => "given_name",
            Self::FamilyName => "family_name",
            Self::MiddleName => "middle_name",
            Self::Nickname => "nickname",
            Self::PreferredUsername => "preferred_username",
            Self::Profile => "profile",
            Self::Picture => "picture",
            Self::Website => "website",
            Self::Gender => "gender",
            Self::Birthdate => "birthdate",
            Self::Zoneinfo => "zoneinfo",
            Self::Locale => "locale",
            Self::PhoneNumber => "phone_number",
            Self::PhoneNumberVerified => "phone_number_verified",
            Self::Address => "address",
            Self::UpdatedAt => "updated_at",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|claim| claim.as_str() == name)
    }

    /// The scope that requests it (Core §5.4).
    pub const fn scope(self) -> &'static str {
        match self {
            Self::PhoneNumber | Self::PhoneNumberVerified => "phone",
            Self::Address => "address",
            _ => "profile",
        }
    }

    /// Whether the owner of an account fills it in.
    pub const fn is_of_the_owner(self) -> bool {
        !matches!(self, Self::PhoneNumberVerified | Self::UpdatedAt)
    }

    /// The value as it is stored, or the rule that it breaks.
    fn checked(self, value: &Value) -> Result<Value, &'static str> {
        match self {
            Self::Name
            | Self::GivenName
            | Self::FamilyName
            | Self::MiddleName
            | Self::Nickname
            | Self::PreferredUsername => text(value, 128, false).ok_or(
                "must be a text of at most 128 characters, without line breaks and invisible characters",
            ),
            Self::Gender => text(value, 32, false).ok_or(
                "must be a text of at most 32 characters, without line breaks and invisible characters",
            ),
            Self::Profile | Self::Picture | Self::Website => https_url(value)
                .ok_or("must be an https URL of at most 1024 characters, without a password"),
            Self::Birthdate => birthdate(value).ok_or(
                "must be a date that exists: YYYY-MM-DD, 0000-MM-DD without the year, or YYYY alone",
            ),
            Self::Zoneinfo => zone_name(value)
                .ok_or("must be the name of a time zone in the IANA database, as in Europe/Paris"),
            Self::Locale => language_tag(value)
                .ok_or("must be a language tag (BCP 47), as in en or pt-BR"),
            Self::PhoneNumber => phone_number(value)
                .ok_or("must be a phone number with + and the country code (E.164), as in +49 30 901820"),
            Self::PhoneNumberVerified => {
                value.is_boolean().then(|| value.clone()).ok_or("must be true or false")
            }
            Self::Address => Err("must be an object with the members of the address"),
            Self::UpdatedAt => Err("is set by the server"),
        }
    }
}

/// Members of the claim `address` (Core §5.1.1), and the names of their fields in errors and forms.
pub const ADDRESS: [(&str, &str); 6] = [
    ("formatted", "address.formatted"),
    ("street_address", "address.street_address"),
    ("locality", "address.locality"),
    ("region", "address.region"),
    ("postal_code", "address.postal_code"),
    ("country", "address.country"),
];

/// The longest profile, in bytes of JSON.
const MAX_BYTES: usize = 4_096;

/// Who changes a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Editor {
    Owner,
    Administrator,
}

/// A field that is refused, and why.
pub type Refused = (&'static str, String);

/// The claims that are stored of a user.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserProfile(Map<String, Value>);

/// Without the values: logs are no place for them.
impl fmt::Debug for UserProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl UserProfile {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, claim: ProfileClaim) -> Option<&Value> {
        self.0.get(claim.as_str())
    }

    /// The stored claims, as JSON.
    pub const fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    pub fn into_map(self) -> Map<String, Value> {
        self.0
    }

    /// Those of the claims that are among `claims`.
    #[must_use]
    pub fn only(&self, claims: &[ProfileClaim]) -> Self {
        let kept = |name: &str| claims.iter().any(|claim| claim.as_str() == name);
        let all = self.0.iter().filter(|(name, _)| kept(name));
        Self(all.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The value of a claim for an application. A phone number is unverified until an administrator
    /// says otherwise.
    pub fn released(&self, claim: ProfileClaim, updated_at: Timestamp) -> Option<Value> {
        match claim {
            ProfileClaim::UpdatedAt => Some(updated_at.as_secs().into()),
            ProfileClaim::PhoneNumberVerified => {
                self.get(ProfileClaim::PhoneNumber)?;
                Some(self.get(claim).cloned().unwrap_or(Value::Bool(false)))
            }
            other => self.get(other).cloned(),
        }
    }

    /// The profile after a JSON Merge Patch (RFC 7396) of the claims in use: null removes a claim.
    /// Administrators can also remove claims that are no longer in use.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn merged(
        &self,
        patch: &Map<String, Value>,
        in_use: &[ProfileClaim],
        by: Editor,
    ) -> Result<Self, Vec<Refused>> {
        let (mut next, mut refused) = (self.0.clone(), vec![]);
        for (name, value) in patch {
            let claim = ProfileClaim::parse(name).filter(|claim| {
                in_use.contains(claim) || (value.is_null() && by == Editor::Administrator)
            });
            let Some(claim) = claim else {
                let name: String = name.chars().take(64).collect();
                let name = crate::unicode::escaped(&name);
                let message = format!("`{name}` is not a claim of the profiles of this deployment");
                refused.push(("profile", message));
                continue;
            };
            if claim == ProfileClaim::PhoneNumberVerified && by == Editor::Owner {
                refused.push((claim.as_str(), "can be set by an administrator only".to_owned()));
                continue;
            }
            if claim == ProfileClaim::UpdatedAt {
                refused.push((claim.as_str(), "is set by the server".to_owned()));
                continue;
            }
            let checked = match (claim, value) {
                (_, Value::Null) => Ok(None),
                (ProfileClaim::Address, Value::Object(members)) => {
                    merged_address(self.get(claim), members).map_err(|found| refused.extend(found))
                }
                _ => claim
                    .checked(value)
                    .map(Some)
                    .map_err(|why| refused.push((claim.as_str(), why.to_owned()))),
            };
            match checked {
                Ok(Some(value)) => drop(next.insert(name.clone(), value)),
                Ok(None) => drop(next.remove(name)),
                Err(()) => {}
            }
        }
        let (phone, verified) =
            (ProfileClaim::PhoneNumber.as_str(), ProfileClaim::PhoneNumberVerified.as_str());
        let is_another = next.get(phone) != self.0.get(phone);
        if !next.contains_key(phone) || (is_another && !patch.contains_key(verified)) {
            // The verification was of another number.
            if by == Editor::Administrator && patch.get(verified) == Some(&Value::Bool(true)) {
                refused.push((verified, "needs a phone_number".to_owned()));
            }
            next.remove(verified);
        }
        let length = serde_json::to_string(&next).map_or(usize::MAX, |json| json.len());
        if length > MAX_BYTES {
            refused.push(("profile", format!("must not exceed {MAX_BYTES} bytes in total")));
        }
        if refused.is_empty() { Ok(Self(next)) } else { Err(refused) }
    }

    /// The names of the claims that differ.
    pub fn changed(&self, after: &Self) -> Vec<&'static str> {
        let names = ProfileClaim::ALL.into_iter().map(ProfileClaim::as_str);
        names.filter(|name| self.0.get(*name) != after.0.get(*name)).collect()
    }
}

/// The address after a change of its members; `None` where nothing is left.
fn merged_address(
    before: Option<&Value>,
    members: &Map<String, Value>,
) -> Result<Option<Value>, Vec<Refused>> {
    let mut next = before.and_then(Value::as_object).cloned().unwrap_or_default();
    let mut refused = vec![];
    for (name, value) in members {
        let Some((member, field)) = ADDRESS.iter().find(|(member, _)| member == name) else {
            let names = ADDRESS.map(|(member, _)| member).join(", ");
            refused.push(("address", format!("has the members {names} only")));
            continue;
        };
        let has_lines = matches!(*member, "formatted" | "street_address");
        match text(value, 256, has_lines) {
            _ if value.is_null() => drop(next.remove(name)),
            Some(value) => drop(next.insert(name.clone(), value)),
            None => refused.push((
                field,
                "must be a text of at most 256 characters, without invisible characters".to_owned(),
            )),
        }
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    Ok((!next.is_empty()).then_some(Value::Object(next)))
}

/// A text in NFC, without surrounding white space. The joiners of scripts that need them are no
/// hidden characters here.
fn text(value: &Value, most: usize, has_lines: bool) -> Option<Value> {
    let given = value.as_str().filter(|text| text.len() <= 8 * most)?;
    let text: String = given.trim().replace("\r\n", "\n").nfc().collect();
    let is_allowed =
        |c: char| !is_hidden(c) || matches!(c, '\u{200c}' | '\u{200d}') || (has_lines && c == '\n');
    let fits = !text.is_empty() && text.chars().count() <= most && text.chars().all(is_allowed);
    fits.then(|| text.into())
}

/// In the normal form of the URL standard: applications put it into their pages.
fn https_url(value: &Value) -> Option<Value> {
    const MOST: usize = 1_024;
    let given = value.as_str().filter(|text| text.len() <= MOST)?.trim();
    let begins = given.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"));
    let url = Url::parse(given).ok().filter(|_| begins && !given.contains(char::is_control))?;
    let fits = url.has_host() && url.username().is_empty() && url.password().is_none();
    (fits && url.as_str().len() <= MOST).then(|| String::from(url).into())
}

fn birthdate(value: &Value) -> Option<Value> {
    let text = value.as_str()?.trim();
    let number = |part: &str, digits: usize| {
        let fits = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u16>().ok().filter(|_| fits)
    };
    let mut parts = text.split('-');
    let year = number(parts.next()?, 4)?;
    let fits = match (parts.next(), parts.next(), parts.next()) {
        (None, None, None) => year > 0,
        (Some(month), Some(day), None) => {
            let (month, day) = (number(month, 2)?, number(day, 2)?);
            // The year 0000 says nothing, so that its 29 February may be one.
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                4 | 6 | 9 | 11 => 30,
                2 if is_leap => 29,
                2 => 28,
                1..=12 => 31,
                _ => 0,
            };
            (1..=last).contains(&day)
        }
        _ => false,
    };
    fits.then(|| text.into())
}

/// By its shape (theory.html of the IANA time zone database): the list changes several times a year.
fn zone_name(value: &Value) -> Option<Value> {
    let name = value.as_str()?.trim();
    let is_part = |part: &str| {
        (1..=14).contains(&part.len())
            && part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
    };
    let parts = name.split('/').count();
    let fits = (2..=3).contains(&parts) || matches!(name, "UTC" | "GMT");
    (fits && name.split('/').all(is_part)).then(|| name.into())
}

/// A well-formed tag (RFC 5646 §2.1) with the case of §2.1.1; some systems write `_` for `-`.
fn language_tag(value: &Value) -> Option<Value> {
    let tag = value.as_str()?.trim().replace('_', "-");
    if tag.len() > 35 {
        return None;
    }
    let mut parts: Vec<String> = vec![];
    for part in tag.split('-') {
        if !(1..=8).contains(&part.len()) || !part.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let is_extension = parts.iter().any(|part| part.len() == 1);
        let mut part = part.to_ascii_lowercase();
        if !parts.is_empty() && !is_extension {
            match part.len() {
                2 => part.make_ascii_uppercase(),
                4 if part.bytes().all(|b| b.is_ascii_alphabetic()) => {
                    part[..1].make_ascii_uppercase();
                }
                _ => {}
            }
        }
        parts.push(part);
    }
    let language = parts.first()?;
    let fits = (2..=8).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_alphabetic())
        && parts.last().is_some_and(|last| parts.len() == 1 || last.len() > 1);
    fits.then(|| parts.join("-").into())
}

/// Without what people write between the digits.
fn phone_number(value: &Value) -> Option<Value> {
    let given = value.as_str().filter(|text| text.len() <= 64)?;
    let number: String = given.chars().filter(|c| !" \u{a0}-().".contains(*c)).collect();
    let digits = number.strip_prefix('+')?;
    let fits = (7..=15).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| number.into())
}

#[cfg(test)]
mod tests;

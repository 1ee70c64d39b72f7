//! The profile of an account, as each system exports it: of the claims in use.

use serde_json::{Map, Value, json};

use super::{
    Format,
    account::{Fields, Refused},
};
use crate::model::profile::{ADDRESS, Editor, ProfileClaim, UserProfile};

/// The profile as JSON, or which claim is refused and why; `None`: there is nothing of it.
pub(super) fn of(
    fields: &Fields,
    format: Format,
    in_use: &[ProfileClaim],
) -> Result<Option<String>, Refused> {
    let found = match format {
        Format::Json | Format::Csv => plain(fields)?,
        Format::Keycloak => keycloak(fields)?,
        Format::Auth0 | Format::Firebase => return Ok(None),
    };
    let is_in_use = |name: &str| in_use.iter().any(|claim| claim.as_str() == name);
    let mut found: Map<String, Value> =
        found.into_iter().filter(|(name, _)| is_in_use(name)).collect();
    // A number that is absent was not verified.
    if !found.contains_key(ProfileClaim::PhoneNumber.as_str()) {
        found.remove(ProfileClaim::PhoneNumberVerified.as_str());
    }
    let profile = UserProfile::default().merged(&found, in_use, Editor::Administrator);
    let profile = profile.map_err(|refused| {
        refused.into_iter().next().unwrap_or(("profile", "is not valid".to_owned()))
    })?;
    if profile.is_empty() {
        return Ok(None);
    }
    let claims = serde_json::to_string(&profile);
    claims.map(Some).map_err(|_| ("profile", "is not valid".to_owned()))
}

/// Columns by the names of the claims. An address is an object, its `formatted` text, or columns
/// `address.locality` and the like.
fn plain(fields: &Fields) -> Result<Map<String, Value>, Refused> {
    let mut found = Map::new();
    let stored = ProfileClaim::ALL.into_iter().filter(|claim| *claim != ProfileClaim::UpdatedAt);
    for claim in stored {
        let name = claim.as_str();
        let Some(value) = fields.get(name) else { continue };
        let value = match (claim, value) {
            (ProfileClaim::PhoneNumberVerified, _) => fields.truth(name, name)?.into(),
            (ProfileClaim::Address, Value::String(text)) => json!({ "formatted": text }),
            (_, other) => other.clone(),
        };
        found.insert(name.to_owned(), value);
    }
    let members = ADDRESS
        .into_iter()
        .filter_map(|(member, column)| Some((member.to_owned(), fields.get(column)?.clone())));
    let members: Map<String, Value> = members.collect();
    if !members.is_empty() && !found.contains_key("address") {
        found.insert("address".to_owned(), members.into());
    }
    Ok(found)
}

/// The user attributes that Keycloak's own mappers of OpenID Connect read.
const ATTRIBUTES: [(&str, ProfileClaim); 11] = [
    ("middleName", ProfileClaim::MiddleName),
    ("nickname", ProfileClaim::Nickname),
    ("profile", ProfileClaim::Profile),
    ("picture", ProfileClaim::Picture),
    ("website", ProfileClaim::Website),
    ("gender", ProfileClaim::Gender),
    ("birthdate", ProfileClaim::Birthdate),
    ("zoneinfo", ProfileClaim::Zoneinfo),
    ("locale", ProfileClaim::Locale),
    ("phoneNumber", ProfileClaim::PhoneNumber),
    ("phoneNumberVerified", ProfileClaim::PhoneNumberVerified),
];

/// The attributes of an address, and its members.
const ADDRESS_ATTRIBUTES: [(&str, &str); 6] = [
    ("formatted", "formatted"),
    ("street", "street_address"),
    ("locality", "locality"),
    ("region", "region"),
    ("postal_code", "postal_code"),
    ("country", "country"),
];

/// `firstName`, `lastName` and the attributes, each of which is a list of texts.
fn keycloak(fields: &Fields) -> Result<Map<String, Value>, Refused> {
    let mut found = Map::new();
    let text = |name| fields.get(name).and_then(Value::as_str);
    let (first, last) = (text("firstName"), text("lastName"));
    for (claim, value) in [(ProfileClaim::GivenName, first), (ProfileClaim::FamilyName, last)] {
        if let Some(value) = value {
            found.insert(claim.as_str().to_owned(), value.into());
        }
    }
    let names: Vec<&str> = first.into_iter().chain(last).collect();
    if !names.is_empty() {
        found.insert(ProfileClaim::Name.as_str().to_owned(), names.join(" ").into());
    }
    let attribute = |name: &str| {
        let value = fields.get("attributes")?.get(name)?;
        let value = value.as_array().map_or(Some(value), |values| values.first())?;
        value.as_str().filter(|text| !text.trim().is_empty())
    };
    for (name, claim) in ATTRIBUTES {
        let Some(value) = attribute(name) else { continue };
        let value = match claim {
            ProfileClaim::PhoneNumberVerified => match value {
                "true" => true.into(),
                "false" => false.into(),
                _ => return Err((claim.as_str(), "must be true or false".to_owned())),
            },
            _ => value.into(),
        };
        found.insert(claim.as_str().to_owned(), value);
    }
    let members = ADDRESS_ATTRIBUTES
        .into_iter()
        .filter_map(|(name, member)| Some((member.to_owned(), Value::from(attribute(name)?))));
    let address: Map<String, Value> = members.collect();
    if !address.is_empty() {
        found.insert(ProfileClaim::Address.as_str().to_owned(), address.into());
    }
    Ok(found)
}

//! The OpenAPI document of the JSON API and of OAuth's endpoints.
//!
//! poem-openapi derives it from the declarations. What client generators and linters cannot use in
//! its output is changed here, each with its reason, and nowhere else; `tests/generators` generates
//! clients from the result.

use std::{collections::BTreeMap, mem};

use poem_openapi::{LicenseObject, OpenApiService, Tags as _};
use serde_json::{Map, Value, json};

use super::{Tag, admin, operations};
use crate::http::oauth;

/// Why the OpenAPI document cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0} is missing")]
    Missing(String),
}

/// The OpenAPI document, as JSON.
///
/// # Errors
/// The declarations do not fit one another, which only a broken build can cause.
pub fn document() -> Result<Value, DocumentError> {
    let mut document: Value = serde_json::from_str(
        &OpenApiService::new(
            (operations(), oauth::Described),
            "Propusk",
            env!("CARGO_PKG_VERSION"),
        )
        .description(include_str!("../../../openapi/description.md"))
        .license(LicenseObject::new("MIT OR Apache-2.0"))
        .server("/")
        .spec(),
    )?;
    let missing = |name: &str| DocumentError::Missing(name.to_owned());
    let tags = document["tags"].as_array_mut().ok_or_else(|| missing("tags"))?;
    tags.sort_by_key(|tag| Tag::ALL.iter().position(|known| tag["name"] == known.name()));
    name_schemas(&mut document)?;
    simplify(&mut document["paths"]);
    simplify(&mut document["components"]["schemas"]);
    open_service_fields(&mut document)?;
    mark_nulls(&mut document)?;
    require_credentials(&mut document)?;
    Ok(document)
}

fn schemas(document: &mut Value) -> Result<&mut Map<String, Value>, DocumentError> {
    let schemas = document["components"]["schemas"].as_object_mut();
    schemas.ok_or_else(|| DocumentError::Missing("components.schemas".to_owned()))
}

const SCHEMAS: &str = "#/components/schemas/";

/// Names the schemas of generic types as a programmer would: poem-openapi's `Envelope_Page_Role`
/// is `RolePageResponse`. The titles, which repeat the names, are left out: generators name the
/// types of properties after them, and two of those names can be the same.
fn name_schemas(document: &mut Value) -> Result<(), DocumentError> {
    let schemas = schemas(document)?;
    let named = mem::take(schemas).into_iter().map(|(name, mut schema)| {
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("title");
        }
        (schema_name(&name), schema)
    });
    // In order of their new names.
    schemas.extend(named.collect::<BTreeMap<_, _>>());
    Ok(())
}

fn schema_name(name: &str) -> String {
    if let Some(data) = name.strip_prefix("Envelope_") {
        format!("{}Response", schema_name(data.strip_prefix("optional_").unwrap_or(data)))
    } else if let Some(item) = name.strip_prefix("Page_") {
        format!("{item}Page")
    } else if let Some(item) = name.strip_prefix("list_") {
        format!("{item}List")
    } else if name == "any" {
        // The only data that may be any JSON.
        "ServiceFields".to_owned()
    } else {
        name.to_owned()
    }
}

/// Changes every schema below `value`:
///
/// - References follow [`name_schemas`].
/// - `allOf` has the reference only. poem-openapi adds a second schema, which repeats the
///   description beside it: to generators it is another type to merge.
/// - An optional property has no `default`, its description names it: openapi-typescript takes a
///   property with a default for a required one, and `null` is no default of a string.
fn simplify(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(simplify),
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(SCHEMAS)
            {
                *reference = format!("{SCHEMAS}{}", schema_name(name));
            }
            if let Some(Value::Array(parts)) = object.get_mut("allOf") {
                parts.retain(|part| part.get("$ref").is_some());
            }
            describe_defaults(object);
            let parts = object.iter_mut().filter(|(name, _)| *name != "example");
            parts.for_each(|(_, part)| simplify(part));
        }
        _ => {}
    }
}

fn describe_defaults(schema: &mut Map<String, Value>) {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    for (name, property) in properties {
        let Some(property) = property.as_object_mut() else { continue };
        if required.iter().any(|required| required == name) {
            continue;
        }
        let text = match property.remove("default") {
            Some(Value::String(text)) if !text.is_empty() => text,
            Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
            _ => continue,
        };
        let description = property.get("description").and_then(Value::as_str).unwrap_or_default();
        let described = format!("{description} Default: `{text}`.");
        property.insert("description".to_owned(), described.trim_start().into());
    }
}

/// The fields of a customer service are an object whose members the operator lists; poem-openapi
/// knows a value of any type only.
fn open_service_fields(document: &mut Value) -> Result<(), DocumentError> {
    let response = schemas(document)?.get_mut("ServiceFieldsResponse");
    let data = response.and_then(|schema| schema.get_mut("properties")?.get_mut("data"));
    let data = data.and_then(Value::as_object_mut);
    let data =
        data.ok_or_else(|| DocumentError::Missing("ServiceFieldsResponse.data".to_owned()))?;
    data.remove("title");
    data.insert("type".to_owned(), "object".into());
    data.insert("additionalProperties".to_owned(), true.into());
    Ok(())
}

/// The fields that are always present and may be null; poem-openapi knows them as not required only.
const NULLABLE: [(&str, &[&str]); 15] = [
    (
        "AccountSession",
        &["clientId", "clientName", "browserSessionId", "browser", "system", "address"],
    ),
    ("AccountTerms", &["version", "url", "privacyUrl", "acceptedVersion", "acceptedAt"]),
    ("ChangeUsernameRequest", &["username"]),
    ("ConnectedApplication", &["uri", "lastUsedAt"]),
    ("DescribedScope", &["description", "module"]),
    ("Identity", &["provider", "lastLoginAt"]),
    ("Module", &["resource", "grantedAt", "validUntil"]),
    ("RememberedDevice", &["browser", "system", "lastUsedAt"]),
    ("SecondFactor", &["lastUsedAt"]),
    ("ServiceConnection", &["connectedAt"]),
    ("Session", &["username", "authenticatedAt", "acr"]),
    ("SessionResponse", &["data"]),
    ("User", &["username"]),
    ("Verified", &["sessionId"]),
    ("VerifiedUser", &["email", "role"]),
];

/// The fields of requests in which null means something else than absence.
const NULL_OR_ABSENT: [(&str, &[&str]); 3] = [
    ("Address", &["formatted", "street_address", "locality", "region", "postal_code", "country"]),
    (
        "Profile",
        &[
            "name",
            "given_name",
            "family_name",
            "middle_name",
            "nickname",
            "preferred_username",
            "profile",
            "picture",
            "website",
            "gender",
            "birthdate",
            "zoneinfo",
            "locale",
            "phone_number",
            "phone_number_verified",
            "address",
        ],
    ),
    ("UpdateUser", &["username"]),
];

fn mark_nulls(document: &mut Value) -> Result<(), DocumentError> {
    let schemas = schemas(document)?;
    let responses = NULLABLE.iter().chain(admin::NULLABLE).map(|fields| (fields, true));
    let requests = NULL_OR_ABSENT.iter().map(|fields| (fields, false));
    for ((name, fields), is_required) in responses.chain(requests) {
        let missing = |what: &str| DocumentError::Missing(format!("{name}{what}"));
        let schema = schemas.get_mut(*name).ok_or_else(|| missing(" (schema)"))?;
        for &field in *fields {
            let property = schema["properties"].get_mut(field);
            let property = property.ok_or_else(|| missing(&format!(".{field}")))?;
            // It counts beside a `type` only (OpenAPI 3.0.3 §4.7.24).
            if property.get("type").is_none() {
                property["type"] = "object".into();
            }
            property["nullable"] = true.into();
            if is_required && let Some(required) = schema["required"].as_array_mut() {
                required.push(field.into());
            }
        }
    }
    Ok(())
}

/// Operations that take an access token and work without one, which poem-openapi cannot express.
const OPTIONAL_TOKEN: [&str; 5] =
    ["getSession", "legacyLogout", "legacyLogoutByDelete", "logout", "logoutByDelete"];

/// The refresh token authenticates this one, in the body or in a cookie; the access token has
/// expired by then, and is not looked at.
const NO_TOKEN: &str = "refresh";

/// Says of each operation how it is authenticated; one that needs no authentication says so.
fn require_credentials(document: &mut Value) -> Result<(), DocumentError> {
    let paths = document["paths"].as_object_mut();
    let paths = paths.ok_or_else(|| DocumentError::Missing("paths".to_owned()))?;
    let operations = paths.values_mut().filter_map(Value::as_object_mut);
    for operation in operations.flat_map(|path| path.values_mut()) {
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        match operation.get_mut("security").and_then(Value::as_array_mut) {
            Some(security) if id == NO_TOKEN => security.clear(),
            Some(security) if OPTIONAL_TOKEN.contains(&id.as_str()) => security.push(json!({})),
            Some(_) => {}
            None => operation["security"] = json!([]),
        }
    }
    Ok(())
}

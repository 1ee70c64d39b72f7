//! The JSON API, described by the OpenAPI document that is made of it.

pub mod admin;
pub mod auth;
pub mod data;
pub mod health;
mod legacy;
pub mod modules;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use poem::{EndpointExt, Route, RouteMethod};
use poem_openapi::{LicenseObject, OpenApi, OpenApiService, Tags};
use serde_json::{Value, json};

/// The chapters of the document.
#[derive(Tags)]
pub enum Chapter {
    /// Registration, login, refresh, logout.
    Authentication,
    /// Whether the server is well.
    Health,
    /// The parts of the platform that are switched on per user.
    Modules,
    /// For whoever looks after the installation: an administrator's token, or a client's with the scope `propusk:admin`
    /// (`propusk:admin:read` to read).
    Administration,
    /// The same calls under the addresses that older clients know.
    #[oai(rename = "Older addresses")]
    OlderAddresses,
}

/// Every operation of the JSON API.
type Operations =
    (auth::AuthApi, health::HealthApi, legacy::LegacyApi, modules::ModulesApi, admin::Operations);

fn operations() -> Operations {
    (auth::AuthApi, health::HealthApi, legacy::LegacyApi, modules::ModulesApi, admin::operations())
}

/// The address of a call that answers with and without a slash at its end.
fn twin(path: &str) -> Option<String> {
    path.starts_with("/api/v1/modules").then(|| match path.strip_suffix('/') {
        Some(without) => without.to_owned(),
        None => format!("{path}/"),
    })
}

/// Adds every operation to the routes, each under its own address: poem-openapi's service would stand as a
/// router within the router, with a cookie jar that nobody uses. It would also fill in what its `Query`
/// parameters read; that type lets the first of two equal parameters win, so it is not for us anyway.
///
/// `document` is [`document`]: it says which parameters a query may have.
pub fn route(route: Route, document: &Value) -> Route {
    let (mut table, mut twins) = (HashMap::new(), HashMap::new());
    operations().add_routes(&mut table);
    operations().add_routes(&mut twins);
    let twins = twins.into_iter().filter_map(|(path, operations)| Some((twin(&path)?, operations)));
    table.extend(twins);
    let known = query_parameters(document);
    table.into_iter().fold(route, |route, (path, operations)| {
        let by_method =
            operations.into_iter().fold(RouteMethod::new(), |by_method, (method, operation)| {
                let name = (path.clone(), method.as_str().to_lowercase());
                match known.get(&name) {
                    Some(known) => {
                        let known = Arc::clone(known);
                        let operation = operation.before(move |request| {
                            let checked = admin::check_query(&request, &known);
                            async move { checked.map(|()| request).map_err(poem::Error::from) }
                        });
                        by_method.method(method, operation)
                    }
                    None => by_method.method(method, operation),
                }
            });
        route.at(path, by_method)
    })
}

/// What each operation of the admin API takes in its query, by route and method: no other parameter is taken there.
fn query_parameters(document: &Value) -> HashMap<(String, String), Arc<BTreeSet<String>>> {
    let mut known = HashMap::new();
    for (path, operations) in document["paths"].as_object().into_iter().flatten() {
        if !path.starts_with(admin::PREFIX) {
            continue;
        }
        for (method, operation) in operations.as_object().into_iter().flatten() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let names = parameters
                .filter(|parameter| parameter["in"] == "query")
                .filter_map(|parameter| Some(parameter["name"].as_str()?.to_owned()))
                .collect();
            known.insert((route_of(path), method.clone()), Arc::new(names));
        }
    }
    known
}

/// The route of a path: the document writes `{id}` where poem-openapi's routes count `:param0`, `:param1`.
fn route_of(path: &str) -> String {
    let mut count = 0;
    let parts = path.split('/').map(|part| {
        if part.starts_with('{') {
            count += 1;
            format!(":param{}", count - 1)
        } else {
            part.to_owned()
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// The OpenAPI document with its paths in order, as JSON.
pub fn document() -> Value {
    // Read into a map of sorted keys, so that the exported file changes only where the API does.
    let mut document = serde_json::from_str(
        &OpenApiService::new(operations(), "Propusk", env!("CARGO_PKG_VERSION"))
            .description(include_str!("../../../openapi/description.md"))
            .license(LicenseObject::new("MIT OR Apache-2.0"))
            .spec(),
    )
    .unwrap_or_default();
    mark_nulls(&mut document);
    add_oauth(&mut document);
    empty_forms(&mut document);
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.sort_by_key(|tag| TAGS.iter().position(|name| tag["name"] == *name));
    }
    document
}

/// The tags as a newcomer needs them.
const TAGS: [&str; 7] = [
    "Authentication",
    "OAuth 2.1 and OpenID Connect",
    "Modules",
    "Gateways",
    "Administration",
    "Health",
    "Older addresses",
];

/// Swagger UI fills a form's fields with their examples and, where they have none, with the word "string": then no call to try
/// would be a good one. An empty field counts as absent.
fn empty_forms(document: &mut Value) {
    let operations = document["paths"].as_object_mut().into_iter();
    let operations = operations
        .flat_map(|paths| paths.values_mut())
        .filter_map(|path| path.as_object_mut())
        .flat_map(|path| path.values_mut());
    let fields = operations
        .filter_map(|operation| {
            let form = "/requestBody/content/application~1x-www-form-urlencoded/schema/properties";
            operation.pointer_mut(form)?.as_object_mut()
        })
        .flat_map(|fields| fields.values_mut());
    for field in fields.filter(|field| field.get("enum").is_none()) {
        match field["type"].as_str() {
            Some("string") => field["example"] = "".into(),
            Some("array") => field["example"] = json!([]),
            _ => {}
        }
    }
}

/// Writes out the addresses that Swagger UI logs in at.
pub fn name_login(document: &mut Value, issuer: &str) {
    let flow = "/components/securitySchemes/oauth2/flows/authorizationCode";
    if let Some(flow) = document.pointer_mut(flow) {
        flow["authorizationUrl"] = format!("{issuer}/oauth2/authorize").into();
        flow["tokenUrl"] = format!("{issuer}/oauth2/token").into();
    }
}

/// OAuth's endpoints read forms by rules of their own, which poem-openapi does not know: they are described by hand.
/// Whoever has a bearer token may have got it by OAuth.
fn add_oauth(document: &mut Value) {
    let ours = include_str!("../../../openapi/oauth.yaml");
    let ours: Value = serde_yaml_ng::from_str(ours).unwrap_or_default();
    for operation in document["paths"]
        .as_object_mut()
        .into_iter()
        .flat_map(|paths| paths.values_mut())
        .filter_map(|path| path.as_object_mut())
        .flat_map(|path| path.values_mut())
    {
        let security = operation.get_mut("security").and_then(|s| s.as_array_mut());
        if let Some(security) = security {
            security.push(json!({ "oauth2": [] }));
        }
    }
    merge(document, ours);
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from),
        (into, from) => *into = from,
    }
}

/// The fields of answers that are always there and may be null; poem-openapi knows them as not required only.
const NULLABLE: [(&str, &[&str]); 6] = [
    ("Envelope_optional_Session", &["data"]),
    ("Module", &["resource", "grantedAt", "validUntil"]),
    ("Session", &["username"]),
    ("User", &["username"]),
    ("Verified", &["sessionId"]),
    ("VerifiedUser", &["email", "role"]),
];

fn mark_nulls(document: &mut Value) {
    for (schema, fields) in NULLABLE.iter().chain(admin::NULLABLE) {
        let schema = &mut document["components"]["schemas"][*schema];
        for &field in *fields {
            let property = &mut schema["properties"][field];
            // It counts beside a `type` only (OpenAPI 3.0.3 §4.7.24).
            if property.get("type").is_none() {
                property["type"] = "object".into();
            }
            property["nullable"] = true.into();
            if let Some(required) = schema["required"].as_array_mut() {
                required.push(field.into());
            }
        }
    }
}

/// The methods of each path of the document, for `Allow`.
pub fn methods(document: &Value) -> HashMap<String, String> {
    let paths = document["paths"].as_object();
    paths
        .into_iter()
        .flatten()
        .flat_map(|(path, operations)| {
            let mut names: Vec<String> = operations
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.to_uppercase())
                .collect();
            if names.iter().any(|name| name == "GET") {
                names.push("HEAD".to_owned());
            }
            let (route, names) = (route_of(path), names.join(", "));
            let twin = twin(&route).map(|twin| (twin, names.clone()));
            twin.into_iter().chain([(route, names)])
        })
        .collect()
}

//! The JSON API, described by the OpenAPI document that is made of it.

pub mod auth;
pub mod data;
pub mod health;
mod legacy;

use std::collections::HashMap;

use poem_openapi::{OpenApiService, Tags};

/// The chapters of the document.
#[derive(Tags)]
pub enum Chapter {
    /// Registration, login, refresh, logout.
    Authentication,
    /// Whether the server is well.
    Health,
    /// The same calls under the addresses that older clients know.
    #[oai(rename = "Older addresses")]
    OlderAddresses,
}

/// Every operation of the JSON API.
pub type Operations = (auth::AuthApi, health::HealthApi, legacy::LegacyApi);

/// The API as a poem service.
pub fn service() -> OpenApiService<Operations, ()> {
    OpenApiService::new(
        (auth::AuthApi, health::HealthApi, legacy::LegacyApi),
        "Propusk",
        env!("CARGO_PKG_VERSION"),
    )
    .description(include_str!("../../../openapi/description.md"))
    .license(poem_openapi::LicenseObject::new("MIT OR Apache-2.0"))
    .url_prefix("")
}

/// The OpenAPI document with its paths in order, as JSON.
pub fn document() -> serde_json::Value {
    // Read into a map of sorted keys, so that the exported file changes only where the API does.
    serde_json::from_str(&service().spec()).unwrap_or_default()
}

/// The methods of each path, for `Allow`.
pub fn methods() -> HashMap<String, String> {
    let document = document();
    let paths = document["paths"].as_object();
    paths
        .into_iter()
        .flatten()
        .map(|(path, operations)| {
            let mut names: Vec<String> = operations
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.to_uppercase())
                .collect();
            if names.iter().any(|name| name == "GET") {
                names.push("HEAD".to_owned());
            }
            (path.clone(), names.join(", "))
        })
        .collect()
}

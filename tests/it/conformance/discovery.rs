//! The config plan: the discovery document and the keys it leads to.

use std::{collections::HashSet, fs::Permissions, os::unix::fs::PermissionsExt};

use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Backend, TestServer};

const ISSUER: &str = "https://id.example";

/// The discovery document as it is at a public URL.
async fn document(server: &TestServer) -> Value {
    let reply = server.get("/.well-known/openid-configuration").await.expect(StatusCode::OK);
    assert!(reply.header("content-type").starts_with("application/json"));
    reply.json()
}

/// A server at [`ISSUER`]; the folder holds its master key.
async fn at_public_url() -> (TestServer, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("master.key");
    std::fs::write(&file, [7; 32]).expect("a file");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("private");
    let file = file.display().to_string();
    let settings = [
        ("PROPUSK_SERVER__ISSUER", ISSUER),
        ("PROPUSK_SECRETS__MASTER_KEY_FILE", file.as_str()),
        ("PROPUSK_PASSWORDS__MEMORY_KIB", "19456"),
        ("PROPUSK_PASSWORDS__ITERATIONS", "2"),
        ("PROPUSK_CLIENT_REGISTRATION__MODE", "open"),
    ];
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    (server, folder)
}

#[track_caller]
fn texts(document: &Value, name: &str) -> Vec<String> {
    let list = document[name].as_array();
    let list = list.unwrap_or_else(|| panic!("no list {name}: {document}"));
    list.iter().map(|value| value.as_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn the_discovery_document_has_what_the_suite_requires() {
    let (server, _folder) = at_public_url().await;
    let document = document(&server).await;
    assert_eq!(document["issuer"], ISSUER, "the configured issuer");
    for name in [
        "authorization_endpoint",
        "token_endpoint",
        "userinfo_endpoint",
        "jwks_uri",
        "registration_endpoint",
        "end_session_endpoint",
    ] {
        assert!(document[name].is_string(), "no {name}: {document}");
    }
    for (name, value) in document.as_object().expect("an object") {
        if name.ends_with("_endpoint") || name.ends_with("_uri") {
            let uri = value.as_str().expect("text");
            assert!(uri.starts_with(ISSUER), "{name} is {uri}");
        }
    }
    for (name, expected) in [
        ("response_types_supported", "code"),
        ("response_modes_supported", "form_post"),
        ("subject_types_supported", "public"),
        ("subject_types_supported", "pairwise"),
        ("id_token_signing_alg_values_supported", "RS256"),
        ("userinfo_signing_alg_values_supported", "RS256"),
        ("request_object_signing_alg_values_supported", "RS256"),
        ("grant_types_supported", "authorization_code"),
        ("grant_types_supported", "refresh_token"),
        ("code_challenge_methods_supported", "S256"),
        ("scopes_supported", "openid"),
        ("claims_supported", "sub"),
        ("claims_supported", "email"),
        ("token_endpoint_auth_methods_supported", "client_secret_basic"),
        ("token_endpoint_auth_methods_supported", "client_secret_post"),
        ("token_endpoint_auth_methods_supported", "private_key_jwt"),
    ] {
        let list = texts(&document, name);
        assert!(list.iter().any(|one| one == expected), "{name}: {list:?}");
        let distinct: HashSet<_> = list.iter().collect();
        assert_eq!(distinct.len(), list.len(), "{name}: {list:?}");
    }
    assert_eq!(document["claims_parameter_supported"], true);
    assert_eq!(document["request_parameter_supported"], true);
    // What the suite decides by which modules to skip.
    assert_eq!(document["request_uri_parameter_supported"], false);
    for name in
        ["id_token_signing_alg_values_supported", "request_object_signing_alg_values_supported"]
    {
        assert!(!texts(&document, name).contains(&"none".to_owned()));
    }
    for scope in ["address", "phone"] {
        assert!(!texts(&document, "scopes_supported").contains(&scope.to_owned()));
    }
}

#[tokio::test]
async fn the_published_keys_are_public_with_unique_kids() {
    let (server, _folder) = at_public_url().await;
    let reply = server.get("/oauth2/jwks").await.expect(StatusCode::OK);
    let json = reply.json();
    let keys = json["keys"].as_array().expect("keys");
    assert!(!keys.is_empty());
    let names: HashSet<_> = keys.iter().map(|key| key["kid"].as_str()).collect();
    assert!(names.len() == keys.len() && !names.contains(&None));
    for key in keys {
        assert!(key["kty"] != "oct" && key["use"] == "sig", "{key}");
        for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert!(key.get(private).is_none(), "{private} is published");
        }
    }
    assert!(keys.iter().any(|key| key["alg"] == "RS256"));
}

#[tokio::test]
async fn the_discovery_document_advertises_logout() {
    let (server, _folder) = at_public_url().await;
    let document = document(&server).await;
    let uri = format!("{ISSUER}/oauth2/logout");
    assert_eq!(document["end_session_endpoint"], uri);
    assert_eq!(document["backchannel_logout_supported"], true);
    assert_eq!(document["backchannel_logout_session_supported"], true);
}

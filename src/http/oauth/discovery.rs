//! What this server can do, for clients that configure themselves: OpenID Connect Discovery §3 and RFC 8414 §2, one
//! document at two addresses. It is built once at start, from the configuration alone: true to what is on.

use serde_json::{Value, json};

use crate::{
    app::App,
    config::RegistrationMode,
    flows::{authorize::ACR_PASSWORD, claims},
    model::key::SigningAlgorithm,
};

/// The document.
pub fn document(app: &App) -> Value {
    let config = &app.config;
    let issuer = &config.server.issuer;
    let at = |path: &str| format!("{issuer}{path}");
    let ours: Vec<&str> = config
        .keys
        .algorithms
        .iter()
        .map(|algorithm| algorithm.as_str())
        .collect();
    let theirs: Vec<&str> = SigningAlgorithm::ALL.map(SigningAlgorithm::as_str).into();
    let methods = [
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
    ];
    let with_public: Vec<&str> = methods.into_iter().chain(["none"]).collect();
    let mut claims_supported = vec![
        "sub",
        "iss",
        "aud",
        "exp",
        "iat",
        "auth_time",
        "nonce",
        "acr",
        "amr",
        "sid",
    ];
    claims_supported.extend(claims::NAMES);
    let mut document = json!({
        "issuer": issuer,
        "authorization_endpoint": at("/oauth2/authorize"),
        "token_endpoint": at("/oauth2/token"),
        "userinfo_endpoint": at("/oauth2/userinfo"),
        "jwks_uri": at("/oauth2/jwks"),
        "introspection_endpoint": at("/oauth2/introspect"),
        "revocation_endpoint": at("/oauth2/revoke"),
        "pushed_authorization_request_endpoint": at("/oauth2/par"),
        "end_session_endpoint": at("/oauth2/logout"),
        "service_documentation": at("/docs"),
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["public", "pairwise"],
        "acr_values_supported": [ACR_PASSWORD],
        "prompt_values_supported": ["none", "login", "consent", "select_account", "create"],
        "display_values_supported": ["page"],
        "claim_types_supported": ["normal"],
        "claims_supported": claims_supported,
        "claims_parameter_supported": true,
        "request_parameter_supported": true,
        "request_uri_parameter_supported": false,
        "require_request_uri_registration": false,
        "authorization_response_iss_parameter_supported": true,
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
        "ui_locales_supported": ["en", "ru"],
        "id_token_signing_alg_values_supported": ours,
        "userinfo_signing_alg_values_supported": ours,
        "introspection_signing_alg_values_supported": ours,
        "request_object_signing_alg_values_supported": theirs,
        "token_endpoint_auth_methods_supported": with_public,
        "token_endpoint_auth_signing_alg_values_supported": theirs,
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": theirs,
        "revocation_endpoint_auth_methods_supported": with_public,
        "revocation_endpoint_auth_signing_alg_values_supported": theirs,
        "client_id_metadata_document_supported": config.takes_metadata_documents(),
    });
    if config.registration_mode() != RegistrationMode::Off {
        document["registration_endpoint"] = at("/oauth2/register").into();
    }
    document
}

//! Server metadata for clients that configure themselves: OpenID Connect Discovery §3 and RFC 8414
//! §2, one document under two paths, built from the configuration and the catalogue.

use std::sync::{Arc, Mutex, PoisonError};

use poem::{Endpoint, Request, Response, Result, http::Method};
use serde_json::{Value, json};

use crate::{
    api_error::ApiError,
    app::App,
    config::RegistrationMode,
    error::Error,
    flows::tokens::claims,
    http::{
        api::Tag,
        assets::Asset,
        context::Context,
        cors::Origins,
        operation::{Operation, object},
    },
    model::{authentication::ACR_VALUES, catalogue::Catalogue, key::SigningAlgorithm},
    oauth::token_request::{GrantType, TokenTypeIdentifier},
};

/// Answers with the document, which is rebuilt when the catalogue has changed.
#[derive(Clone, Default)]
pub struct Discovery(Arc<Mutex<Option<Built>>>);

/// The metadata under both paths (OpenID Connect Discovery §4, RFC 8414 §3).
pub fn operations() -> [Operation; 2] {
    let discovery = Discovery::default();
    let operation = |path, id, description| {
        Operation::new(Method::GET, path, id, Tag::OAuth, discovery.clone())
            .about("Server metadata", description)
            .cross_origin(Origins::Any)
            .response(200, "The metadata.", &[("application/json", object())])
    };
    [
        operation(
            "/.well-known/openid-configuration",
            "getOpenidConfiguration",
            "OpenID Connect Discovery §3; the same document as RFC 8414's.",
        ),
        operation(
            "/.well-known/oauth-authorization-server",
            "getAuthorizationServerMetadata",
            "RFC 8414 §2",
        ),
    ]
}

/// The catalogue that a document was built from, and the document.
type Built = (Arc<Catalogue>, Asset);

impl Endpoint for Discovery {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let app = &Context::of(&request)?.app;
        let catalogue = app.directory.catalogue(&app.db).await;
        let catalogue = catalogue.map_err(Error::from).map_err(ApiError::from)?;
        let asset = self.asset(app, catalogue);
        asset.call(request).await
    }
}

impl Discovery {
    fn asset(&self, app: &App, catalogue: Arc<Catalogue>) -> Asset {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, asset)) = &*known
            && Arc::ptr_eq(of, &catalogue)
        {
            return asset.clone();
        }
        let document = document(app, &catalogue).to_string();
        let asset = Asset::document("application/json", document.into());
        *known = Some((catalogue, asset.clone()));
        asset
    }
}

fn document(app: &App, catalogue: &Catalogue) -> Value {
    let config = &app.config;
    let issuer = &config.server.issuer;
    let at = |path: &str| format!("{issuer}{path}");
    let held = |algorithm: &SigningAlgorithm| config.keys.algorithms.contains(&algorithm.of_key());
    let signed_by_us: Vec<&str> =
        SigningAlgorithm::ALL.iter().filter(|one| held(one)).map(|one| one.as_str()).collect();
    let signed_by_clients: Vec<&str> = SigningAlgorithm::ALL.map(SigningAlgorithm::as_str).into();
    let methods = ["client_secret_basic", "client_secret_post", "private_key_jwt"];
    let with_public: Vec<&str> = methods.into_iter().chain(["none"]).collect();
    let mut claims_supported =
        vec!["sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid"];
    claims_supported.extend(claims::supported(config));
    let mut scopes = vec!["openid", "profile", "email"];
    scopes.extend(["address", "phone"].into_iter().filter(|scope| config.profile.has_scope(scope)));
    scopes.push("offline_access");
    let mut own: Vec<&str> = catalogue.scopes.keys().map(String::as_str).collect();
    own.sort_unstable();
    scopes.extend(own);
    // RFC 9728 §4: a client that knows a resource sees that this server issues tokens for it.
    let mut resources: Vec<&str> = catalogue.resources.keys().map(String::as_str).collect();
    resources.sort_unstable();
    let mut prompts = vec!["none", "login", "consent", "select_account"];
    if config.registration.is_open() {
        prompts.push("create");
    }
    let grants: Vec<&str> = GrantType::ALL.iter().map(|grant| grant.as_str()).collect();
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
        "scopes_supported": scopes,
        "protected_resources": resources,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "grant_types_supported": grants,
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["public", "pairwise"],
        "acr_values_supported": ACR_VALUES,
        "prompt_values_supported": prompts,
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
        "ui_locales_supported": app.branding.tags().collect::<Vec<_>>(),
        "id_token_signing_alg_values_supported": signed_by_us,
        "userinfo_signing_alg_values_supported": signed_by_us,
        "introspection_signing_alg_values_supported": signed_by_us,
        "request_object_signing_alg_values_supported": signed_by_clients,
        "token_endpoint_auth_methods_supported": with_public,
        "token_endpoint_auth_signing_alg_values_supported": signed_by_clients,
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": signed_by_clients,
        "revocation_endpoint_auth_methods_supported": with_public,
        "revocation_endpoint_auth_signing_alg_values_supported": signed_by_clients,
        "client_id_metadata_document_supported": config.takes_metadata_documents(),
    });
    // RFC 9449 §5.1
    document["dpop_signing_alg_values_supported"] = json!(signed_by_clients);
    // RFC 8628 §4
    document["device_authorization_endpoint"] = at("/oauth2/device_authorization").into();
    // draft-ietf-oauth-identity-chaining §3, draft-ietf-oauth-identity-assertion-authz-grant §7
    document["identity_chaining_requested_token_types_supported"] =
        json!([TokenTypeIdentifier::IdJag.as_str()]);
    document["authorization_grant_profiles_supported"] =
        json!(["urn:ietf:params:oauth:grant-profile:id-jag"]);
    // docs/revocation-feed.md
    document["revocation_feed_endpoint"] = at("/oauth2/revocations").into();
    if config.registration_mode() != RegistrationMode::Off {
        document["registration_endpoint"] = at("/oauth2/register").into();
    }
    document
}

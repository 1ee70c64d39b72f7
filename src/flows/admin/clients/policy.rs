//! The policy for client metadata. Every change of a client (by a command, the admin API,
//! `clients.toml`, dynamic registration or a metadata document) passes through [`check`].

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::strict_json;
use crate::{
    app::App,
    error::{Error, FieldError},
    flows::{
        oauth::client_auth::TOKENS,
        tokens::{scope::is_own, subject},
    },
    jose::KeySet,
    model::{
        client::{ApplicationType, AuthMethod, GrantType, Metadata, SubjectType},
        key::{LONGEST_SESSION_LIFE, LONGEST_TOKEN_LIFE, SigningAlgorithm},
    },
    oauth::{
        redirect_uri::{self, Kind},
        scope::Scope,
    },
};

/// Who provides the metadata of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registrant {
    /// An operator of this deployment.
    Operator,
    /// The client itself: no operator has reviewed it.
    Itself,
}

/// The members that a client may register or put into its metadata document (RFC 7591 §2, OpenID
/// Connect Registration §2). The others of [`Metadata`] are for operators, and ignored like unknown
/// members.
const REGISTRABLE: [&str; 33] = [
    "client_name",
    "scope",
    "redirect_uris",
    "post_logout_redirect_uris",
    "grant_types",
    "token_endpoint_auth_method",
    "token_endpoint_auth_signing_alg",
    "application_type",
    "jwks",
    "jwks_uri",
    "subject_type",
    "sector_identifier_uri",
    "id_token_signed_response_alg",
    "claims_in_id_token",
    "userinfo_signed_response_alg",
    "request_object_signing_alg",
    "introspection_signed_response_alg",
    "require_signed_request_object",
    "require_pushed_authorization_requests",
    "dpop_bound_access_tokens",
    "default_max_age",
    "require_auth_time",
    "default_acr_values",
    "backchannel_logout_uri",
    "backchannel_logout_session_required",
    "initiate_login_uri",
    "client_uri",
    "logo_uri",
    "policy_uri",
    "tos_uri",
    "contacts",
    "software_id",
    "software_version",
];

/// The other members of [`Metadata`].
const OPERATORS: [&str; 19] = [
    "consent",
    "require_second_factor",
    "require_pkce",
    "require_verified_email",
    "assertion_audience",
    "resources",
    "introspection_audiences",
    "access_token_signing_alg",
    "allowed_origins",
    "user_claims",
    "tls_client_certificates",
    "subject_namespace",
    "token_exchange",
    "id_jag",
    "may_act",
    "access_ttl",
    "refresh_idle_ttl",
    "refresh_max_ttl",
    "replay_window",
];

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

/// Reads the metadata that a client gives of itself.
///
/// # Errors
/// Each invalid member, and what it must be.
pub fn read(app: &App, members: &Map<String, Value>) -> Result<Metadata, Vec<FieldError>> {
    let mut known: Map<String, Value> = REGISTRABLE
        .iter()
        .filter_map(|name| {
            // RFC 7592 §2.2: null is treated as absent.
            let value = members.get(*name).filter(|value| !value.is_null())?;
            Some(((*name).to_owned(), value.clone()))
        })
        .collect();
    // RFC 6749 §3.3 has no empty scope: it is treated as absent.
    if known.get("scope").and_then(Value::as_str).is_some_and(|scope| scope.trim().is_empty()) {
        known.remove("scope");
    }
    known.entry("grant_types").or_insert_with(|| serde_json::json!(["authorization_code"]));
    // RFC 7591 §2 lets the server replace unsupported values. Clients name the grant types of every
    // server they may meet.
    if let Some(Value::Array(grants)) = known.get_mut("grant_types") {
        let allowed = &app.config.client_registration.grant_types;
        grants.retain(|grant| {
            GrantType::deserialize(grant).is_ok_and(|grant| allowed.contains(&grant))
        });
        if grants.is_empty() {
            return Err(one(
                "grant_types",
                "must include a grant type that self-registered clients may have here",
            ));
        }
    }
    // A client that does not use the authorization endpoint has no response types (RFC 7591 §2.1).
    let without = known.get("grant_types").is_some_and(|grants| {
        !grants.as_array().is_some_and(|grants| grants.contains(&"authorization_code".into()))
    });
    let responses = members.get("response_types").filter(|types| !types.is_null());
    if responses.is_some_and(|types| {
        *types != serde_json::json!(["code"]) && !(without && *types == serde_json::json!([]))
    }) {
        return Err(one("response_types", "must be [\"code\"]"));
    }
    // "none" would allow unsigned request objects, which are not supported; plain parameters need
    // no permission.
    if known.get("request_object_signing_alg") == Some(&"none".into()) {
        known.remove("request_object_signing_alg");
    }
    let asks_no_scope = !known.contains_key("scope");
    let mut metadata = parse(Value::Object(known))?;
    let allowed = Scope::of(
        app.config
            .client_registration
            .scopes
            .iter()
            .map(String::as_str)
            // The scopes of this server's own administration are for clients that an operator has
            // reviewed.
            .filter(|scope| !is_own(scope)),
    );
    metadata.scope = if asks_no_scope { allowed } else { metadata.scope.intersection(&allowed) };
    let confidential = metadata.token_endpoint_auth_method != AuthMethod::None;
    // Native clients omit the type, or send the default: their redirect URIs tell.
    if !confidential && metadata.redirect_uris.iter().any(|uri| redirect_uri::is_private_use(uri)) {
        metadata.application_type = ApplicationType::Native;
    }
    if !app.config.client_registration.require_pkce
        && confidential
        && metadata.scope.contains("openid")
    {
        metadata.require_pkce = Some(false);
    }
    Ok(metadata)
}

/// Reads the members of [`Metadata`] and no others.
///
/// # Errors
/// The invalid member. Its value is not repeated: it may be a secret, or come from an untrusted
/// client.
pub fn parse(members: Value) -> Result<Metadata, Vec<FieldError>> {
    serde_path_to_error::deserialize(members).map_err(|error| {
        let path = error.path().to_string();
        let name = path.split(['.', '[']).next().unwrap_or_default();
        let field = REGISTRABLE.iter().chain(&OPERATORS).find(|field| **field == name);
        let reason = error.inner().to_string();
        let message = match reason.rsplit_once("expected ") {
            _ if field.is_none() => {
                // serde's message for an unknown member, read by operators only.
                return one("metadata", reason.split(", expected").next().unwrap_or_default());
            }
            Some((_, expected)) => format!("must be {expected}"),
            None => "is invalid".to_owned(),
        };
        one(field.unwrap_or(&"metadata"), message)
    })
}

/// The metadata of a self-registered client, as its registration response has it (RFC 7591 §3.2.1).
pub fn registered(metadata: &Metadata) -> Map<String, Value> {
    let Ok(Value::Object(all)) = serde_json::to_value(metadata) else {
        return Map::new();
    };
    let mut members: Map<String, Value> = all
        .into_iter()
        .filter(|(name, value)| REGISTRABLE.contains(&name.as_str()) && value.as_str() != Some(""))
        .collect();
    let code = metadata.grant_types.contains(&GrantType::AuthorizationCode);
    let responses: &[&str] = if code { &["code"] } else { &[] };
    members.insert("response_types".to_owned(), serde_json::json!(responses));
    // Client libraries expect the member even where it is empty.
    members.entry("redirect_uris").or_insert_with(|| serde_json::json!([]));
    if metadata.require_pkce == Some(false) {
        members.insert("require_pkce".to_owned(), false.into());
    }
    members
}

/// Applies the defaults (RFC 7591 §2) and checks every rule.
///
/// # Errors
/// Every member that breaks a rule, and what it must be.
pub fn check(
    app: &App,
    mut metadata: Metadata,
    by: Registrant,
) -> Result<Metadata, Vec<FieldError>> {
    if metadata.grant_types.is_empty() {
        metadata.grant_types.push(GrantType::AuthorizationCode);
    }
    if by == Registrant::Operator && metadata.scope.is_empty() {
        metadata.scope = default_scope(&metadata.grant_types);
    }
    let mut rules = Rules { app, metadata: &metadata, found: vec![] };
    rules.texts();
    rules.redirects(by);
    rules.grants(by);
    rules.authentication();
    rules.algorithms();
    rules.addresses();
    rules.subject();
    rules.token_exchange(by);
    if by == Registrant::Operator {
        rules.operators();
    }
    if rules.found.is_empty() { Ok(metadata) } else { Err(rules.found) }
}

/// The scope of a client for which an operator gives none: without one nobody could log in to it. A
/// client that acts for itself needs none.
fn default_scope(grants: &[GrantType]) -> Scope {
    let has = |grant| grants.contains(&grant);
    let has_users = has(GrantType::AuthorizationCode) || has(GrantType::DeviceCode);
    let login = ["openid", "profile", "email"].iter().filter(|_| has_users);
    let offline = has(GrantType::RefreshToken).then_some("offline_access");
    Scope::of(login.copied().chain(offline))
}

/// Checks that the document at `sector_identifier_uri` names every redirect URI of the client
/// (OpenID Connect Registration §5).
///
/// # Errors
/// The invalid member.
pub async fn check_sector(app: &App, metadata: &Metadata) -> Result<(), Vec<FieldError>> {
    const FIELD: &str = "sector_identifier_uri";
    let Some(uri) = &metadata.sector_identifier_uri else {
        return Ok(());
    };
    let fetched = app.outbound.get(uri, "application/json").await;
    let fetched = fetched.map_err(|error| {
        tracing::info!(%error, "fetching a sector_identifier_uri failed");
        one(FIELD, "could not be fetched")
    })?;
    let listed = strict_json::value(&fetched.body).ok();
    let listed = listed
        .as_ref()
        .and_then(Value::as_array)
        .ok_or_else(|| one(FIELD, "must be the URI of a JSON array of redirect URIs"))?;
    let all =
        metadata.redirect_uris.iter().all(|uri| listed.iter().any(|listed| listed == uri.as_str()));
    if all {
        Ok(())
    } else {
        Err(one(FIELD, "must be the URI of an array that names every redirect URI"))
    }
}

/// One invalid field.
pub fn one(field: &'static str, message: impl Into<String>) -> Vec<FieldError> {
    vec![FieldError { field, message: message.into() }]
}

impl From<Vec<FieldError>> for Error {
    fn from(found: Vec<FieldError>) -> Self {
        Self::Validation(found)
    }
}

/// The rules, and the violations found.
struct Rules<'a> {
    app: &'a App,
    metadata: &'a Metadata,
    found: Vec<FieldError>,
}

impl Rules<'_> {
    fn wrong(&mut self, field: &'static str, message: impl Into<String>) {
        self.found.push(FieldError { field, message: message.into() });
    }

    fn must(&mut self, right: bool, field: &'static str, message: &'static str) {
        if !right {
            self.wrong(field, message);
        }
    }

    /// Texts that pages and logs show.
    fn texts(&mut self) {
        let metadata = self.metadata;
        self.must(is_a_name(&metadata.client_name), "client_name", NAME_RULE);
        let short = |text: &String| text.len() <= 255 && is_plain(text);
        self.must(
            metadata.contacts.len() <= 10 && metadata.contacts.iter().all(short),
            "contacts",
            "must be at most 10 email addresses of at most 255 characters",
        );
        self.must(
            metadata.default_acr_values.len() <= 10
                && metadata.default_acr_values.iter().all(short),
            "default_acr_values",
            "must be at most 10 values of at most 255 characters",
        );
        for (field, text) in [
            ("software_id", &metadata.software_id),
            ("software_version", &metadata.software_version),
        ] {
            self.must(text.as_ref().is_none_or(short), field, "must be at most 255 characters");
        }
    }

    fn redirects(&mut self, by: Registrant) {
        let metadata = self.metadata;
        let (most, rule) = match by {
            Registrant::Operator => (500, "must be at most 500"),
            Registrant::Itself => (20, "must be at most 20"),
        };
        let kind = match metadata.application_type {
            ApplicationType::Web => Kind::Web,
            ApplicationType::Native => Kind::Native {
                short_schemes: &self.app.config.client_registration.private_use_schemes,
            },
        };
        for (field, uris) in [
            ("redirect_uris", &metadata.redirect_uris),
            ("post_logout_redirect_uris", &metadata.post_logout_redirect_uris),
        ] {
            self.must(uris.len() <= most, field, rule);
            for (at, uri) in uris.iter().enumerate().take(most) {
                if let Err(why) = redirect_uri::check(uri, kind) {
                    self.wrong(field, format!("number {}: {why}", at + 1));
                }
            }
        }
    }

    fn grants(&mut self, by: Registrant) {
        let metadata = self.metadata;
        let has = |grant| metadata.grant_types.contains(&grant);
        let by_code = has(GrantType::AuthorizationCode);
        self.must(
            metadata.redirect_uris.is_empty() != by_code,
            "redirect_uris",
            "must be given with the grant type authorization_code, and not without it",
        );
        let public = metadata.token_endpoint_auth_method == AuthMethod::None;
        // Its refresh tokens come from on-behalf-of issuance: RFC 6749 §4.4.3 concerns the response
        // to client credentials only.
        let for_others = has(GrantType::ClientCredentials) || has(GrantType::JwtBearer);
        let is_back_end =
            by == Registrant::Operator && for_others && metadata.scope.contains(TOKENS);
        self.must(
            by_code || has(GrantType::DeviceCode) || is_back_end || !has(GrantType::RefreshToken),
            "grant_types",
            "refresh_token requires authorization_code or device_code, or the scope propusk:tokens \
             with client_credentials or the JWT bearer grant",
        );
        if has(GrantType::JwtBearer) {
            self.jwt_bearer();
        }
        self.must(
            !(public && has(GrantType::ClientCredentials)),
            "grant_types",
            "client_credentials requires client authentication (RFC 6749 section 4.4)",
        );
        self.must(
            metadata.require_pkce != Some(false) || (!public && metadata.scope.contains("openid")),
            "require_pkce",
            "may be false only for a client that authenticates and has the scope openid (RFC 9700 section 2.1.1)",
        );
    }

    /// What the JWT bearer grant requires (RFC 7523 §2.1): that the client authenticates and, where
    /// it has users of its own, a key that it signs their assertions with. Without such users it
    /// presents the ID-JAGs of trusted issuers.
    fn jwt_bearer(&mut self) {
        let metadata = self.metadata;
        let has_keys = metadata.jwks.is_some() || metadata.jwks_uri.is_some();
        let is_public = metadata.token_endpoint_auth_method == AuthMethod::None;
        let keeps_users = metadata.subject_namespace.is_some();
        for (holds, rule) in [
            (!is_public, "client authentication"),
            (
                has_keys || !keeps_users,
                "jwks or jwks_uri, with the key that signs the assertions about its users",
            ),
            (
                metadata.scope.contains(TOKENS) || !keeps_users,
                "the scope propusk:tokens for a client with a subject_namespace",
            ),
        ] {
            if !holds {
                self.wrong("grant_types", format!("the JWT bearer grant requires {rule}"));
            }
        }
    }

    fn authentication(&mut self) {
        let metadata = self.metadata;
        let keys = (metadata.jwks.is_some(), metadata.jwks_uri.is_some());
        self.must(
            keys != (true, true),
            "jwks",
            "must not be combined with jwks_uri (RFC 7591 section 2)",
        );
        let needs_keys = if metadata.token_endpoint_auth_method == AuthMethod::PrivateKeyJwt {
            Some("token_endpoint_auth_method")
        } else if metadata.require_signed_request_object {
            Some("require_signed_request_object")
        } else {
            None
        };
        if let (Some(field), (false, false)) = (needs_keys, keys) {
            self.wrong(field, "requires jwks or jwks_uri");
        }
        if let Some(Err(why)) = metadata.jwks.as_ref().map(KeySet::parse) {
            self.wrong("jwks", why);
        }
    }

    /// What this server signs for the client.
    fn algorithms(&mut self) {
        let metadata = self.metadata;
        let ours = &self.app.config.keys.algorithms;
        let names: Vec<_> = ours.iter().map(|one| one.as_str()).collect();
        for (field, algorithm) in [
            ("id_token_signed_response_alg", metadata.id_token_signed_response_alg),
            ("userinfo_signed_response_alg", metadata.userinfo_signed_response_alg),
            ("introspection_signed_response_alg", metadata.introspection_signed_response_alg),
            ("access_token_signing_alg", metadata.access_token_signing_alg),
        ] {
            let has_key = |algorithm: SigningAlgorithm| ours.contains(&algorithm.of_key());
            if algorithm.is_some_and(|algorithm| !has_key(algorithm)) {
                self.wrong(field, format!("must be one of {}", names.join(", ")));
            }
        }
    }

    fn addresses(&mut self) {
        let metadata = self.metadata;
        // Links on pages, never fetched.
        for (field, uri) in [
            ("client_uri", &metadata.client_uri),
            ("policy_uri", &metadata.policy_uri),
            ("tos_uri", &metadata.tos_uri),
            ("initiate_login_uri", &metadata.initiate_login_uri),
        ] {
            if let Some(Err(why)) = uri.as_ref().map(|uri| redirect_uri::check(uri, Kind::Web)) {
                self.wrong(field, why);
            }
        }
        // OpenID Connect Registration §2: unlike links and redirect URIs not even on loopback.
        let initiates = metadata.initiate_login_uri.as_ref();
        self.must(
            initiates.is_none_or(|uri| uri.starts_with("https:")),
            "initiate_login_uri",
            "must be an https URL",
        );
        // Fetched: what the SSRF-safe HTTP client would refuse is refused here (threat T80).
        for (field, uri) in [
            ("jwks_uri", &metadata.jwks_uri),
            ("sector_identifier_uri", &metadata.sector_identifier_uri),
            ("backchannel_logout_uri", &metadata.backchannel_logout_uri),
            ("logo_uri", &metadata.logo_uri),
        ] {
            if let Some(Err(why)) = uri.as_ref().map(|uri| self.app.outbound.check(uri)) {
                self.wrong(field, why.to_string());
            }
        }
    }

    fn subject(&mut self) {
        let metadata = self.metadata;
        let ambiguous = metadata.subject_type == SubjectType::Pairwise
            && metadata.sector_identifier_uri.is_none()
            && subject::hosts(metadata).len() > 1;
        self.must(
            !ambiguous,
            "sector_identifier_uri",
            "is required: the redirect URIs of this pairwise client are on several hosts, or on a host and on the user's \
             device (OpenID Connect Core section 8.1)",
        );
    }

    /// Token exchange and ID-JAG: for clients that authenticate, and that an operator has reviewed.
    fn token_exchange(&mut self, by: Registrant) {
        let metadata = self.metadata;
        let public = metadata.token_endpoint_auth_method == AuthMethod::None;
        let exchanges = metadata.grant_types.contains(&GrantType::TokenExchange);
        self.must(
            !exchanges || (by == Registrant::Operator && !public),
            "grant_types",
            "token-exchange is for clients that authenticate and that an operator has registered",
        );
        self.must(
            exchanges || metadata.token_exchange.is_none(),
            "token_exchange",
            "requires the grant type urn:ietf:params:oauth:grant-type:token-exchange",
        );
        self.must(
            exchanges || metadata.id_jag.is_empty(),
            "id_jag",
            "requires the grant type urn:ietf:params:oauth:grant-type:token-exchange",
        );
        let policy = metadata.token_exchange.as_ref();
        let names = policy.into_iter().flat_map(|policy| {
            let own_api = self.app.config.audience();
            let named = policy.audiences.iter().chain(&policy.subject_audiences);
            named.filter(move |name| *name != "*" && *name != own_api)
        });
        if let Some(why) = names.filter_map(|name| check_resource(name).err()).next() {
            self.wrong("token_exchange", format!("audiences and subject_audiences {why}"));
        }
        let ids = policy.into_iter().flat_map(|policy| &policy.issuers);
        let all_ids = ids.into_iter().all(|id| check_issuer_id(id).is_ok());
        self.must(all_ids, "token_exchange", "issuers must be ids of trusted issuers");
        self.must(
            metadata.id_jag.is_empty() || metadata.subject_type == SubjectType::Public,
            "id_jag",
            "requires public subject identifiers: the other server cannot recognise a pairwise one",
        );
        for (at, target) in metadata.id_jag.iter().enumerate() {
            let wrong = if let Err(why) = redirect_uri::check(&target.audience, Kind::Web) {
                Some(format!("audience: {why}"))
            } else if target.audience == self.app.config.server.issuer {
                Some("audience must be another server".to_owned())
            } else if metadata.id_jag[..at].iter().any(|one| one.audience == target.audience) {
                Some("audience must not be repeated".to_owned())
            } else if !is_client_id(&target.client_id) {
                Some(format!("client_id {CLIENT_ID_RULE}"))
            } else if let Some(why) = target.resources.iter().find_map(|r| check_resource(r).err())
            {
                Some(format!("resources {why}"))
            } else {
                target.resources.is_empty().then(|| "resources must name at least one".to_owned())
            };
            if let Some(why) = wrong {
                self.wrong("id_jag", format!("number {}: {why}", at + 1));
            }
        }
        let may_act = metadata.may_act.as_deref();
        self.must(may_act.is_none_or(is_client_id), "may_act", CLIENT_ID_RULE);
    }

    /// Members that only operators may set.
    fn operators(&mut self) {
        let metadata = self.metadata;
        for (field, names) in [
            ("resources", &metadata.resources),
            ("introspection_audiences", &metadata.introspection_audiences),
        ] {
            if let Some(Err(why)) = names
                .iter()
                .filter(|name| *name != "*")
                .map(|name| check_resource(name))
                .find(Result::is_err)
            {
                self.wrong(field, why);
            }
        }
        let is_origin = |text: &String| {
            Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == *text)
        };
        self.must(
            metadata.allowed_origins.iter().all(is_origin),
            "allowed_origins",
            "must be origins, like https://app.example.org",
        );
        let is_thumbprint =
            |text: &String| URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32);
        let certificates = &metadata.tls_client_certificates;
        self.must(
            certificates.len() <= 10 && certificates.iter().all(is_thumbprint),
            "tls_client_certificates",
            "must be up to 10 SHA-256 thumbprints in base64url without padding (x5t#S256)",
        );
        let namespace = metadata.subject_namespace.as_deref();
        self.must(
            namespace.is_none_or(subject::is_namespace),
            "subject_namespace",
            subject::NAMESPACE_RULE,
        );
        self.must(
            namespace.is_none() || metadata.scope.contains(TOKENS),
            "subject_namespace",
            "requires the scope propusk:tokens",
        );
        let access = metadata.access_ttl;
        self.must(
            access.is_none_or(|ttl| ttl >= MINUTE && ttl <= LONGEST_TOKEN_LIFE - MINUTE),
            "access_ttl",
            "must be from 1m to 1h",
        );
        for (field, ttl) in [
            ("refresh_idle_ttl", metadata.refresh_idle_ttl),
            ("refresh_max_ttl", metadata.refresh_max_ttl),
        ] {
            self.must(
                ttl.is_none_or(|ttl| ttl >= MINUTE && ttl <= LONGEST_SESSION_LIFE),
                field,
                "must be from 1m to 366 days",
            );
        }
        self.must(
            metadata.replay_window.is_none_or(|window| window <= 5 * MINUTE),
            "replay_window",
            "must be from 0s (off) to 5m",
        );
    }
}

/// The rule of [`is_client_id`].
const CLIENT_ID_RULE: &str = "must be 1 to 2048 visible ASCII characters";

fn is_client_id(text: &str) -> bool {
    (1..=2048).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Checks the id of a trusted issuer.
///
/// # Errors
/// What it must be.
pub fn check_issuer_id(id: &str) -> Result<(), &'static str> {
    let id_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_valid = (1..=32).contains(&id.len()) && id.bytes().all(id_byte);
    if is_valid { Ok(()) } else { Err("must be 1 to 32 of a-z, 0-9 and -") }
}

/// Checks the identifier of a resource (RFC 8707 §2).
///
/// # Errors
/// What it must be.
pub fn check_resource(id: &str) -> Result<(), &'static str> {
    let is_valid = id.len() <= 2048
        && id.bytes().all(|b| (0x21..=0x7e).contains(&b))
        && Url::parse(id).is_ok()
        && !id.contains('#');
    if is_valid {
        Ok(())
    } else {
        Err("must be an absolute URI without a fragment, like https://api.example.org/")
    }
}

/// The rule of [`is_a_name`].
pub const NAME_RULE: &str = "must be at most 100 characters, without control characters and bidirectional formatting characters";

/// Whether a text can be shown as a name.
pub fn is_a_name(text: &str) -> bool {
    text.chars().count() <= 100 && is_plain(text)
}

/// Whether a text has no control characters and no bidirectional formatting characters (UAX #9), by
/// which a name could pose as another.
fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

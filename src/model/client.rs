//! OAuth clients and their registered metadata (RFC 7591 §2).

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};

pub use crate::oauth::token_request::GrantType;
use crate::{
    clock::Timestamp,
    ids::ClientId,
    model::key::SigningAlgorithm,
    oauth::{access_token::MayAct, redirect_uri, scope::Scope},
};

/// The first-party client of the JSON API: a login there opens a session of this client.
pub const FIRST_PARTY: &str = "propusk";

/// The id of the [`FIRST_PARTY`] client.
pub fn first_party() -> &'static ClientId {
    static ID: LazyLock<ClientId> = LazyLock::new(|| ClientId::from(FIRST_PARTY));
    &ID
}

/// The client of Swagger UI at `/docs`.
pub const DOCS: &str = "propusk-docs";

/// Whether the id belongs to a client that is part of Propusk. Such ids are reserved.
pub fn is_built_in(id: &str) -> bool {
    matches!(id, FIRST_PARTY | DOCS)
}

/// A registered client (RFC 6749 §2).
#[derive(Clone, Debug)]
pub struct Client {
    pub id: ClientId,
    pub source: Source,
    /// The current secret and, while it is being rotated, the previous one.
    pub secrets: Vec<Secret>,
    pub metadata: Metadata,
    /// SHA-256 of the registration access token (RFC 7592 §1.2).
    pub registration_token_hash: Option<Vec<u8>>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// An unused dynamic registration is removed at this time.
    pub expires_at: Option<Timestamp>,
    pub disabled_at: Option<Timestamp>,
}

/// A client secret. It has 256 random bits, so SHA-256 suffices.
#[derive(Clone, Debug)]
pub struct Secret {
    /// SHA-256
    pub hash: Vec<u8>,
    pub expires_at: Option<Timestamp>,
}

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Part of Propusk.
    BuiltIn,
    /// Created by an administrator, with the CLI or the admin API.
    Operator,
    /// `clients.toml`.
    File,
    /// Dynamic client registration (RFC 7591).
    Registration,
    /// A Client ID Metadata Document at the URL that is its id.
    Document,
}

impl Source {
    const ALL: [Self; 5] =
        [Self::BuiltIn, Self::Operator, Self::File, Self::Registration, Self::Document];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BuiltIn => "built_in",
            Self::Operator => "operator",
            Self::File => "file",
            Self::Registration => "registration",
            Self::Document => "document",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == name)
    }

    /// Whether the metadata is self-asserted: no administrator of this deployment has reviewed it.
    pub const fn is_self_registered(self) -> bool {
        matches!(self, Self::Registration | Self::Document)
    }
}

/// The client authentication method at the token endpoint (RFC 7591 §2, OpenID Connect Core §9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// A public client.
    None,
    #[default]
    ClientSecretBasic,
    ClientSecretPost,
    PrivateKeyJwt,
}

impl AuthMethod {
    /// Whether the client has a secret; header and form are both accepted then.
    pub const fn has_secret(self) -> bool {
        matches!(self, Self::ClientSecretBasic | Self::ClientSecretPost)
    }
}

/// The `aud` that a client assertion (`private_key_jwt`) may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssertionAudience {
    /// The issuer alone (RFC 10070).
    Issuer,
    /// Also the URL of the token endpoint, for which libraries of before RFC 10070 sign.
    IssuerOrTokenEndpoint,
}

/// OpenID Connect Registration §2
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplicationType {
    #[default]
    Web,
    Native,
}

/// OpenID Connect Core §8
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectType {
    #[default]
    Public,
    Pairwise,
}

/// Whether users are asked for consent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    #[default]
    Required,
    /// A first-party client of this deployment: no consent page.
    Implicit,
}

/// Claims about the user that are not covered by a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserClaim {
    Role,
    /// The user's modules at the audience of the token.
    Modules,
}

/// What a client may exchange tokens for (RFC 8693). Everything that is not named is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenExchangePolicy {
    /// The resources that it may get tokens for; `*`: any registered one. This server's own API is
    /// named by its audience.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// It may present subject tokens of other clients that are for one of these: the APIs that it
    /// serves itself. `*`: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_audiences: Vec<String>,
    /// The ids of the trusted issuers whose tokens it may present.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<String>,
    /// Without an actor token: the resulting token does not tell that somebody acts for the subject
    /// (RFC 8693 §1.1).
    pub impersonation: bool,
    /// With an actor token, which becomes the `act` of the result.
    pub delegation: bool,
}

impl TokenExchangePolicy {
    /// Whether tokens issued under `before` may be more than this policy allows.
    pub fn allows_less_than(&self, before: &Self) -> bool {
        let lost = |before: &[String], now: &[String]| before.iter().any(|one| !now.contains(one));
        lost(&before.audiences, &self.audiences)
            || lost(&before.subject_audiences, &self.subject_audiences)
            || lost(&before.issuers, &self.issuers)
            || (before.impersonation && !self.impersonation)
            || (before.delegation && !self.delegation)
    }
}

/// An authorization server that a client may get ID-JAGs for
/// (draft-ietf-oauth-identity-assertion-authz-grant §4.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdJagTarget {
    /// The issuer identifier of the authorization server: the `audience` of requests.
    pub audience: String,
    /// The id of the client there.
    pub client_id: String,
    /// The resources there that it may name.
    pub resources: Vec<String>,
    /// The scopes there that it may request.
    #[serde(default)]
    pub scope: Scope,
}

/// Client metadata, by the names of RFC 7591, OpenID Connect Registration and their extensions. The
/// fields after the blank line can only be set by administrators; dynamic registration neither
/// reads nor returns them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metadata {
    pub client_name: String,
    /// The scopes it may request.
    pub scope: Scope,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redirect_uris: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub post_logout_redirect_uris: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grant_types: Vec<GrantType>,
    pub token_endpoint_auth_method: AuthMethod,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_signing_alg: Option<SigningAlgorithm>,
    pub application_type: ApplicationType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    pub subject_type: SubjectType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sector_identifier_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_token_signed_response_alg: Option<SigningAlgorithm>,
    /// Whether ID tokens have the claims that the scope covers, as UserInfo does; else only those
    /// requested individually (OpenID Connect Core §5.4).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub claims_in_id_token: bool,
    /// `None`: unsigned JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userinfo_signed_response_alg: Option<SigningAlgorithm>,
    /// The only algorithm accepted for its request objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_object_signing_alg: Option<SigningAlgorithm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub introspection_signed_response_alg: Option<SigningAlgorithm>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub require_signed_request_object: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub require_pushed_authorization_requests: bool,
    /// It gets no bearer tokens (RFC 9449 §5.2).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dpop_bound_access_tokens: bool,
    /// Seconds; a number too large for any use counts as the largest.
    #[serde(deserialize_with = "saturating", skip_serializing_if = "Option::is_none")]
    pub default_max_age: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub require_auth_time: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub default_acr_values: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backchannel_logout_uri: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub backchannel_logout_session_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initiate_login_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tos_uri: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software_version: Option<String>,

    pub consent: Consent,
    /// Its users log in with a second factor only; one who has none sets one up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub require_second_factor: bool,
    /// `false` only for a confidential OpenID Connect client: PKCE is optional for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_pkce: Option<bool>,
    /// Users whose email address is not verified get no code.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub require_verified_email: bool,
    /// `None`: the configuration's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assertion_audience: Option<AssertionAudience>,
    /// The resources it may request tokens for (RFC 8707).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// It may introspect tokens whose `aud` contains one of these; `*`: any token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub introspection_audiences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token_signing_alg: Option<SigningAlgorithm>,
    /// Allowed CORS origins, in addition to those of its redirect URIs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_origins: Vec<String>,
    /// Claims that its tokens and userinfo responses contain in addition to those of the scope.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user_claims: Vec<UserClaim>,
    /// Thumbprints of the certificates it authenticates with to the gRPC services: base64url of
    /// SHA-256 (`x5t#S256`, RFC 8705 §3.1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tls_client_certificates: Vec<String>,
    /// The namespace of the users whom the client keeps itself: their `sub` begins with it. Clients
    /// that share one share these users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_namespace: Option<String>,
    /// What it may exchange tokens for (RFC 8693); `None`: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_exchange: Option<TokenExchangePolicy>,
    /// The authorization servers of others that it may get ID-JAGs for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub id_jag: Vec<IdJagTarget>,
    /// The only client that may act for its users by token exchange (`may_act`, RFC 8693 §4.4);
    /// `None`: every client whose policy allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_act: Option<String>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub access_ttl: Option<Duration>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub refresh_idle_ttl: Option<Duration>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub refresh_max_ttl: Option<Duration>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub replay_window: Option<Duration>,
}

fn saturating<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let seconds = Option::<u64>::deserialize(from)?;
    Ok(seconds.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX)))
}

impl Client {
    /// Whether it is a public client (RFC 6749 §2.1).
    pub fn is_public(&self) -> bool {
        self.metadata.token_endpoint_auth_method == AuthMethod::None
    }

    pub fn may(&self, grant: GrantType) -> bool {
        self.metadata.grant_types.contains(&grant)
    }

    /// The `may_act` of its users' tokens.
    pub fn may_act(&self) -> Option<MayAct> {
        let only = self.metadata.may_act.clone();
        only.map(|sub| MayAct { iss: None, sub })
    }

    /// PKCE is required unless a confidential client was registered without it.
    pub fn requires_pkce(&self) -> bool {
        self.is_public() || self.metadata.require_pkce.unwrap_or(true)
    }

    /// Whether a certificate with this thumbprint is registered for it.
    pub fn has_certificate(&self, thumbprint: &str) -> bool {
        let own = &self.metadata.tls_client_certificates;
        own.iter().any(|one| one == thumbprint)
    }

    /// The registered origins, and those of the redirect URIs ([`redirect_uri::page_origin`]): their
    /// pages may read the responses of the client's endpoints (CORS).
    pub fn origins(&self) -> BTreeSet<String> {
        let redirects = self.metadata.redirect_uris.iter();
        let of_redirects = redirects.filter_map(|uri| redirect_uri::page_origin(uri));
        of_redirects.chain(self.metadata.allowed_origins.iter().cloned()).collect()
    }

    /// The display name; the id if it has none.
    pub fn name(&self) -> &str {
        match self.metadata.client_name.as_str() {
            "" => &self.id,
            name => name,
        }
    }
}

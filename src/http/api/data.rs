//! The request and response types of the JSON API.

use poem_openapi::{Enum, Object, types::Example};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::user::User;

/// How tokens are returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[oai(rename_all = "lowercase")]
pub enum Delivery {
    /// In the JSON response.
    #[default]
    Body,
    /// In HttpOnly cookies only, out of reach of scripts.
    Cookie,
}

/// How a token is sent (RFC 6750, RFC 9449). `N_A` is in the response to a token exchange only: an ID-JAG is
/// no access token (RFC 8693 §2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
pub enum TokenType {
    /// As `Authorization: Bearer …`.
    Bearer,
    /// As `Authorization: DPoP …`, with a proof.
    #[oai(rename = "DPoP")]
    #[serde(rename = "DPoP")]
    Dpop,
    #[oai(rename = "N_A")]
    #[serde(rename = "N_A")]
    NotApplicable,
}

/// A registration.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct RegisterRequest {
    /// The email address to log in with; not case-sensitive. At most 254 characters.
    #[oai(validator(max_length = 254))]
    pub email: String,
    /// An alternative login: 3 to 32 letters, digits, dots, hyphens and underscores; not
    /// case-sensitive.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub username: Option<String>,
    /// At most 1024 bytes, without control characters. The error names the rule that a weak password violates.
    pub password: String,
    /// The token of an invitation, which `registration.mode = "invitation"` requires: the last part
    /// of its link.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub invitation: Option<String>,
    /// The version of the terms that the user accepts, where there are any
    /// (`registration.terms.version`). The error names version and URL.
    #[serde(default, rename = "acceptedTerms")]
    #[oai(default, rename = "acceptedTerms", skip_serializing_if_is_none)]
    pub accepted_terms: Option<String>,
    /// How tokens are returned.
    #[serde(default)]
    #[oai(default)]
    pub delivery: Delivery,
}

impl Example for RegisterRequest {
    fn example() -> Self {
        Self {
            email: "vera@example.org".to_owned(),
            username: Some("vera".to_owned()),
            password: "seven blue herons at dawn".to_owned(),
            invitation: None,
            accepted_terms: None,
            delivery: Delivery::Body,
        }
    }
}

/// Login credentials: a password and at least one of `login`, `email` and `username`.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct LoginRequest {
    /// The email address or the username. Empty counts as absent.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub login: Option<String>,
    /// As `login`. Where several of the three are sent, all must be of one account.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub email: Option<String>,
    /// As `email`.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub username: Option<String>,
    /// The password.
    pub password: String,
    /// How tokens are returned.
    #[serde(default)]
    #[oai(default)]
    pub delivery: Delivery,
}

impl Example for LoginRequest {
    fn example() -> Self {
        Self {
            login: Some("vera@example.org".to_owned()),
            email: None,
            username: None,
            password: "seven blue herons at dawn".to_owned(),
            delivery: Delivery::Body,
        }
    }
}

/// A refresh request.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct RefreshRequest {
    /// The refresh token. Default: the refresh token cookie.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub refresh_token: Option<String>,
    /// How tokens are returned. Default: the same way as the refresh token was sent.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub delivery: Option<Delivery>,
}

/// A logout request. The session is identified by the access token or the refresh token.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct LogoutRequest {
    /// The refresh token. Required if the access token has expired and there is no refresh token
    /// cookie.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub refresh_token: Option<String>,
}

/// A user.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "User", example)]
pub struct UserData {
    /// The id of the user, the `sub` of their tokens.
    pub id: String,
    /// The email address.
    pub email: String,
    /// The username; null if there is none.
    pub username: Option<String>,
    /// `user`, `admin` or a custom role.
    pub role: String,
    /// Whether the email address is verified.
    pub is_verified: bool,
    /// When the account was created (RFC 3339, UTC).
    pub created_at: String,
}

impl From<User> for UserData {
    fn from(user: User) -> Self {
        Self {
            id: user.id.into(),
            email: user.email,
            username: user.username,
            role: user.role.as_str().to_owned(),
            is_verified: user.is_verified,
            created_at: user.created_at.rfc3339(),
        }
    }
}

/// The tokens and the user of a session.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Tokens", example)]
pub struct TokenData {
    /// The access token, a JWT (RFC 9068), to be sent as `Authorization: Bearer …`. Absent with
    /// `delivery: cookie`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(skip_serializing_if_is_none)]
    pub access_token: Option<String>,
    /// The refresh token, valid for one refresh. Absent with `delivery: cookie`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(skip_serializing_if_is_none)]
    pub refresh_token: Option<String>,
    /// Always `Bearer`.
    pub token_type: TokenType,
    /// The lifetime of the access token in seconds.
    pub expires_in: u64,
    /// The lifetime of the refresh token in seconds, unless it is used earlier.
    pub refresh_expires_in: u64,
    /// The user of the session.
    pub user: UserData,
    /// The recovery codes of a second factor that was set up with this login, shown once; absent
    /// otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[oai(default, skip_serializing_if_is_none)]
    pub recovery_codes: Option<Vec<String>>,
}

/// The second step of a login.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct MfaLoginRequest {
    /// From the answer to the first step.
    pub mfa_token: String,
    /// The code of an authenticator app, or a recovery code; spaces and hyphens do not matter.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub code: Option<String>,
    /// Instead of a code: the token of a passkey's challenge.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub passkey_token: Option<String>,
    /// With `passkeyToken`: the answer of `navigator.credentials.get`, as `toJSON()` returns it.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub credential: Option<Value>,
    /// Where a factor is set up: its token. The code is the first one that the app shows.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub setup_token: Option<String>,
    /// Where a factor is set up: a name for it, at most 64 characters.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub name: Option<String>,
    /// How tokens are returned.
    #[serde(default)]
    #[oai(default)]
    pub delivery: Delivery,
}

impl Example for MfaLoginRequest {
    fn example() -> Self {
        Self {
            mfa_token: "eyJlbmMiOiJBMjU2R0NNIiwia2lkIjoic2Vjb25k...".to_owned(),
            code: Some("492039".to_owned()),
            passkey_token: None,
            credential: None,
            setup_token: None,
            name: None,
            delivery: Delivery::Body,
        }
    }
}

/// A login by a passkey.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct PasskeyLoginRequest {
    /// From `POST /api/v1/auth/login/passkey/options`.
    pub passkey_token: String,
    /// The answer of `navigator.credentials.get`, as `toJSON()` returns it.
    pub credential: Value,
    /// How tokens are returned.
    #[serde(default)]
    #[oai(default)]
    pub delivery: Delivery,
}

/// Which login takes the next step.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct MfaSetupRequest {
    /// From the answer to the first step.
    pub mfa_token: String,
}

/// A valid access token.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Verified", example)]
pub struct VerifiedData {
    /// The subject of the token.
    pub user: VerifiedUser,
    /// The client it was issued to.
    pub client_id: String,
    /// The id of the session; null for a client credentials token.
    pub session_id: Option<String>,
    /// The scope, space-separated.
    pub scope: String,
    /// When the token expires (RFC 3339, UTC).
    pub expires_at: String,
}

/// The subject of a token.
#[derive(Debug, Serialize, Deserialize, Object)]
pub struct VerifiedUser {
    /// The `sub`.
    pub id: String,
    /// The email address at the time of issue; null for a client credentials token.
    pub email: Option<String>,
    /// The role at the time of issue; null for a client credentials token.
    pub role: Option<String>,
}

/// The current session.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Session", example)]
pub struct SessionData {
    /// The id of the user.
    pub user_id: String,
    /// The email address.
    pub email: String,
    /// The username; null if there is none.
    pub username: Option<String>,
    /// `user`, `admin` or a custom role.
    pub role: String,
    /// The scopes of the access token.
    pub scopes: Vec<String>,
    /// The modules granted to the user.
    pub modules: Vec<String>,
    /// When the user logged in (RFC 3339, UTC); null if the token does not say.
    pub authenticated_at: Option<String>,
    /// The class of the login: `urn:propusk:acr:password` or `urn:propusk:acr:mfa`; null if the
    /// token does not say.
    pub acr: Option<String>,
    /// How the user has authenticated (RFC 8176).
    pub amr: Vec<String>,
    /// When the access token expires (RFC 3339, UTC).
    pub expires_at: String,
}

impl Example for UserData {
    fn example() -> Self {
        Self {
            id: "01a1fca5-0ae5-741a-b136-32b4b1af948c".to_owned(),
            email: "vera@example.org".to_owned(),
            username: Some("vera".to_owned()),
            role: "user".to_owned(),
            is_verified: false,
            created_at: "2026-11-21T04:22:00Z".to_owned(),
        }
    }
}

impl Example for TokenData {
    fn example() -> Self {
        Self {
            access_token: Some(
                "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6Ii4uLiJ9...".to_owned(),
            ),
            refresh_token: Some("prt_AAAAAgGh_KUK5XuAn9Chtx63QPtH...".to_owned()),
            token_type: TokenType::Bearer,
            expires_in: 900,
            refresh_expires_in: 604_800,
            user: UserData::example(),
            recovery_codes: None,
        }
    }
}

impl Example for VerifiedData {
    fn example() -> Self {
        let UserData { id, email, role, .. } = UserData::example();
        Self {
            user: VerifiedUser { id, email: Some(email), role: Some(role) },
            client_id: "propusk".to_owned(),
            session_id: Some("01a1fca5-0ae5-7b80-9fd0-a1b74eb40fb7".to_owned()),
            scope: "openid profile email".to_owned(),
            expires_at: "2026-11-21T04:37:00Z".to_owned(),
        }
    }
}

impl Example for SessionData {
    fn example() -> Self {
        let UserData { id, email, username, role, .. } = UserData::example();
        Self {
            user_id: id,
            email,
            username,
            role,
            scopes: ["openid", "profile", "email"].map(str::to_owned).into(),
            modules: vec![],
            authenticated_at: Some("2026-11-21T04:22:00Z".to_owned()),
            acr: Some("urn:propusk:acr:mfa".to_owned()),
            amr: ["pwd", "otp", "mfa"].map(str::to_owned).into(),
            expires_at: "2026-11-21T04:37:00Z".to_owned(),
        }
    }
}

/// What an entry of the revocation list revokes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[oai(rename_all = "lowercase")]
pub enum RevocationKind {
    /// One access token.
    Token,
    /// A session, which is revoked with it.
    Session,
    /// A subject's tokens up to a moment.
    Subject,
    /// A subject's tokens up to a moment that have a scope.
    Scope,
    /// A client's tokens up to a moment.
    Client,
    /// Every token that a banned key has signed.
    Key,
}

/// An empty object.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(rename = "Empty")]
pub struct Nothing {}

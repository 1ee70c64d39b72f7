//! What the calls of the JSON API take and give.

use poem_openapi::{Enum, Object, types::Example};
use serde::{Deserialize, Serialize};

use crate::model::user::User;

/// Where the tokens of an answer go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[oai(rename_all = "lowercase")]
pub enum Delivery {
    /// Into the JSON.
    #[default]
    Body,
    /// Into HttpOnly cookies alone, out of the reach of scripts.
    Cookie,
}

/// Who wants an account.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct RegisterRequest {
    /// The address to log in with. Compared without regard to case.
    #[oai(validator(max_length = 254))]
    pub email: String,
    /// A name to log in with instead: 3 to 32 letters, digits, dots, hyphens and underscores.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub username: Option<String>,
    /// Long and hard to guess; up to 1024 bytes, any characters. A refusal says why.
    pub password: String,
    /// Where the tokens go.
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
            delivery: Delivery::Body,
        }
    }
}

/// Who logs in.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct LoginRequest {
    /// An email address or a username. `email` and `username` are understood in its place.
    #[serde(alias = "email", alias = "username")]
    pub login: String,
    /// The password.
    pub password: String,
    /// Where the tokens go.
    #[serde(default)]
    #[oai(default)]
    pub delivery: Delivery,
}

impl Example for LoginRequest {
    fn example() -> Self {
        Self {
            login: "vera@example.org".to_owned(),
            password: "seven blue herons at dawn".to_owned(),
            delivery: Delivery::Body,
        }
    }
}

/// A refresh token to exchange.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct RefreshRequest {
    /// The refresh token; without it, its cookie is taken.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub refresh_token: Option<String>,
    /// Where the tokens go; without it, where the refresh token came from.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub delivery: Option<Delivery>,
}

/// What to end, where no access token says so.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct LogoutRequest {
    /// The session's refresh token, where its access token has expired.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub refresh_token: Option<String>,
}

/// A person, as they are shown to themselves.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "User", example)]
pub struct UserData {
    /// The `sub` of their tokens.
    pub id: String,
    /// The email address.
    pub email: String,
    /// The username, if they chose one.
    pub username: Option<String>,
    /// `user`, `admin`, or a role of the installation's own.
    pub role: String,
    /// Whether the address was proven to be theirs.
    pub is_verified: bool,
    /// When the account was made (RFC 3339).
    pub created_at: String,
}

impl From<User> for UserData {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            email: user.email,
            username: user.username,
            role: user.role.as_str().to_owned(),
            is_verified: user.is_verified,
            created_at: user.created_at.rfc3339(),
        }
    }
}

/// A session's tokens, and whose they are.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Tokens", example)]
pub struct TokenData {
    /// A signed JWT (RFC 9068) to send as `Authorization: Bearer …`. Absent where cookies carry it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(skip_serializing_if_is_none)]
    pub access_token: Option<String>,
    /// To get the next pair with, once. Absent where cookies carry it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(skip_serializing_if_is_none)]
    pub refresh_token: Option<String>,
    /// Always `Bearer`.
    pub token_type: String,
    /// Seconds until the access token expires.
    pub expires_in: u64,
    /// Seconds until the refresh token, unused, expires.
    pub refresh_expires_in: u64,
    /// Whose session it is.
    pub user: UserData,
}

/// What a good access token says.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Verified", example)]
pub struct VerifiedData {
    /// Whose token it is.
    pub user: VerifiedUser,
    /// The client it was issued to.
    pub client_id: String,
    /// The session it belongs to; null where a client acts for itself.
    pub session_id: Option<String>,
    /// What it allows, separated by spaces.
    pub scope: String,
    /// When it expires (RFC 3339).
    pub expires_at: String,
}

/// The subject of a token.
#[derive(Debug, Serialize, Deserialize, Object)]
pub struct VerifiedUser {
    /// The `sub`.
    pub id: String,
    /// The email address at the time of issue; null where a client acts for itself.
    pub email: Option<String>,
    /// The role at the time of issue; null where a client acts for itself.
    pub role: Option<String>,
}

/// A session as a page needs it, and nothing more.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Session", example)]
pub struct SessionData {
    /// The user's id.
    pub user_id: String,
    /// The email address.
    pub email: String,
    /// The username, if they chose one.
    pub username: Option<String>,
    /// `user`, `admin`, or a role of the installation's own.
    pub role: String,
    /// What the session may do.
    pub scopes: Vec<String>,
    /// The modules the user may use.
    pub modules: Vec<String>,
    /// When the access token expires (RFC 3339).
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
            token_type: "Bearer".to_owned(),
            expires_in: 900,
            refresh_expires_in: 604_800,
            user: UserData::example(),
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
            expires_at: "2026-11-21T04:37:00Z".to_owned(),
        }
    }
}

/// Nothing beside the message.
#[derive(Debug, Serialize, Deserialize, Object)]
pub struct Nothing {}

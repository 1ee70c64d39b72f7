//! `/api/v1/auth`: register, login, refresh, logout, verify, session.

use poem_openapi::{Enum, Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::Chapter;
use crate::{
    flows::{self, sessions::Tokens},
    http::{
        context::Context,
        credentials::{CookieNames, Credentials, same_origin},
        error::{ApiError, Failure, codes},
        json::{Answer, Body},
    },
    limits::{Key, Limit},
    model::user::User,
    storage::users,
};

#[derive(Debug)]
pub struct AuthApi;

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

impl poem_openapi::types::Example for RegisterRequest {
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

impl poem_openapi::types::Example for LoginRequest {
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
#[oai(rename_all = "camelCase", rename = "User")]
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
#[oai(rename_all = "camelCase", rename = "Tokens")]
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
#[oai(rename_all = "camelCase", rename = "Verified")]
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
#[oai(rename_all = "camelCase", rename = "Session")]
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

/// Nothing beside the message.
#[derive(Debug, Serialize, Deserialize, Object)]
pub struct Nothing {}

codes!(RegisterErrors: Validation, MalformedJson, BadRequest, UserCreate, RegistrationDisabled, CrossSite, EmailExists,
    UsernameExists, RequestTimeout, TooLarge, UnsupportedMediaType, TooManyRequests, Internal, Overloaded, Unavailable);
codes!(LoginErrors: Validation, MalformedJson, BadRequest, InvalidCredentials, CrossSite, RequestTimeout, TooLarge,
    UnsupportedMediaType, TooManyRequests, Internal, Overloaded, Unavailable);
codes!(RefreshErrors: Validation, MalformedJson, BadRequest, InvalidToken, InvalidRefreshToken, CrossSite, RequestTimeout,
    TooLarge, UnsupportedMediaType, TooManyRequests, Internal, Unavailable);
codes!(LogoutErrors: Validation, MalformedJson, BadRequest, InvalidToken, InvalidRefreshToken, CrossSite, RequestTimeout,
    TooLarge, UnsupportedMediaType, Internal, Unavailable);
codes!(VerifyErrors: InvalidToken, RequestTimeout, Internal, Unavailable);

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Chapter::Authentication")]
impl AuthApi {
    /// Register
    ///
    /// Makes an account and logs it in. The account, its session and their events are stored together or
    /// not at all.
    #[oai(path = "/register", method = "post", operation_id = "register")]
    pub async fn register(
        &self,
        context: Context,
        request: &poem::Request,
        body: Body<RegisterRequest>,
    ) -> Result<Answer<TokenData, 201>, Failure<RegisterErrors>> {
        let Context { app, caller } = &context;
        admit(&context)?;
        let Body(RegisterRequest {
            email,
            username,
            password,
            delivery,
        }) = body;
        check_delivery(request, &context, delivery)?;
        let registration = flows::register::Registration {
            email,
            username,
            password,
        };
        let tokens = flows::register::register(app, registration, caller).await?;
        Ok(deliver(&context, "registered", tokens, delivery))
    }

    /// Log in
    ///
    /// Opens a session. An unknown login and a wrong password are answered alike.
    #[oai(path = "/login", method = "post", operation_id = "login")]
    pub async fn login(
        &self,
        context: Context,
        request: &poem::Request,
        body: Body<LoginRequest>,
    ) -> Result<Answer<TokenData>, Failure<LoginErrors>> {
        let Context { app, caller } = &context;
        admit(&context)?;
        let Body(LoginRequest {
            login,
            password,
            delivery,
        }) = body;
        check_delivery(request, &context, delivery)?;
        let tokens = flows::login::login(app, &login, &password, caller).await?;
        Ok(deliver(&context, "logged in", tokens, delivery))
    }

    /// Refresh
    ///
    /// Exchanges a refresh token for a new access token and the next refresh token. The same token sent
    /// again within a few seconds (a lost answer, two tabs) gets the very same next token; later, or an
    /// older one, it counts as stolen and ends the session.
    #[oai(path = "/token/refresh", method = "post", operation_id = "refresh")]
    pub async fn refresh(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
        body: Body<RefreshRequest>,
    ) -> Result<Answer<TokenData>, Failure<RefreshErrors>> {
        let Context { app, caller } = &context;
        admit(&context)?;
        let Body(RefreshRequest {
            refresh_token,
            delivery,
        }) = body;
        let came_from = if refresh_token.is_some() {
            Delivery::Body
        } else {
            Delivery::Cookie
        };
        let delivery = delivery.unwrap_or(came_from);
        check_delivery(request, &context, delivery)?;
        let presented = refresh_token
            .or(credentials.refresh_token)
            .ok_or(flows::Error::InvalidRefreshToken)?;
        let tokens = flows::refresh::refresh(app, &presented, caller).await?;
        Ok(deliver(&context, "refreshed", tokens, delivery))
    }

    /// Log out
    ///
    /// Ends the session at once: its refresh token, its access tokens on every server, its cookies.
    #[oai(path = "/logout", method = "post", operation_id = "logout")]
    pub async fn logout(
        &self,
        context: Context,
        credentials: Credentials,
        body: Body<LogoutRequest>,
    ) -> Result<Answer<Nothing>, Failure<LogoutErrors>> {
        let Context { app, caller } = &context;
        let refresh_token = body.0.refresh_token.or(credentials.refresh_token);
        let access_token = credentials.access_token.as_deref();
        flows::logout::logout(app, access_token, refresh_token.as_deref(), caller).await?;
        Ok(
            Answer::new("logged out", Nothing {})
                .with_cookies(CookieNames::of(&app.config).clear()),
        )
    }

    /// Log out
    ///
    /// The same as `POST`.
    #[oai(path = "/logout", method = "delete", operation_id = "logoutByDelete")]
    pub async fn logout_by_delete(
        &self,
        context: Context,
        credentials: Credentials,
        body: Body<LogoutRequest>,
    ) -> Result<Answer<Nothing>, Failure<LogoutErrors>> {
        self.logout(context, credentials, body).await
    }

    /// Verify a token
    ///
    /// Says whether the bearer token or cookie is good for a protected endpoint here and now, revocations
    /// included, and what it allows.
    #[oai(path = "/verify", method = "get", operation_id = "verify")]
    pub async fn verify(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<VerifiedData>, Failure<VerifyErrors>> {
        let token = credentials.access_token.ok_or(flows::Error::NoToken)?;
        let verified = flows::verify::verify(&context.app, &token).await?;
        let claims = &verified.claims;
        let data = VerifiedData {
            user: VerifiedUser {
                id: claims.sub.clone(),
                email: claims.email.clone(),
                role: claims.role.clone(),
            },
            client_id: claims.client_id.clone(),
            session_id: claims.sid.clone(),
            scope: claims.scope.clone(),
            expires_at: expiry(claims.exp),
        };
        Ok(Answer::new("the token is good", data))
    }

    /// The current session
    ///
    /// What a page needs to know of its visitor; `data` is null where nobody is logged in.
    #[oai(path = "/session", method = "get", operation_id = "session")]
    pub async fn session(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<Option<SessionData>>, Failure<VerifyErrors>> {
        let nobody = || Answer::new("nobody is logged in", None);
        let Some(token) = credentials.access_token else {
            return Ok(nobody());
        };
        let verified = match flows::verify::verify(&context.app, &token).await {
            Ok(verified) => verified,
            Err(flows::Error::InvalidToken(_)) => return Ok(nobody()),
            Err(other) => return Err(other.into()),
        };
        let claims = &verified.claims;
        let user = users::by_id(&context.app.db, &claims.sub)
            .await
            .map_err(flows::Error::from)?;
        let Some(user) = user.filter(|user| user.disabled_at.is_none()) else {
            return Ok(nobody());
        };
        let data = SessionData {
            user_id: user.id,
            email: user.email,
            username: user.username,
            role: user.role.as_str().to_owned(),
            scopes: claims
                .scope
                .split(' ')
                .filter(|s| !s.is_empty())
                .map(str::to_owned)
                .collect(),
            modules: vec![],
            expires_at: expiry(claims.exp),
        };
        Ok(Answer::new("somebody is logged in", Some(data)))
    }
}

/// Counts the request against what one client address may ask of the password threads and the database.
fn admit(context: &Context) -> Result<(), flows::Error> {
    let Context { app, caller } = context;
    app.admit(Limit::Address, &Key::address(caller.address))
}

/// Only our own pages may have cookies set: another site's form could log a visitor in as somebody else.
fn check_delivery(
    request: &poem::Request,
    context: &Context,
    delivery: Delivery,
) -> Result<(), ApiError> {
    match delivery {
        Delivery::Cookie => same_origin(request.headers(), &context.app.config),
        Delivery::Body => Ok(()),
    }
}

fn deliver<const STATUS: u16>(
    context: &Context,
    message: &'static str,
    tokens: Tokens,
    delivery: Delivery,
) -> Answer<TokenData, STATUS> {
    let Tokens {
        access_token,
        refresh_token,
        expires_in,
        refresh_expires_in,
        user,
    } = tokens;
    let data = |access_token, refresh_token| TokenData {
        access_token,
        refresh_token,
        token_type: "Bearer".to_owned(),
        expires_in,
        refresh_expires_in,
        user: user.into(),
    };
    match delivery {
        Delivery::Body => Answer::new(message, data(Some(access_token), Some(refresh_token))),
        Delivery::Cookie => {
            let names = CookieNames::of(&context.app.config);
            let cookies = names.set(
                (&access_token, expires_in),
                (&refresh_token, refresh_expires_in),
            );
            Answer::new(message, data(None, None)).with_cookies(cookies)
        }
    }
}

fn expiry(exp: i64) -> String {
    crate::clock::Timestamp::from_secs(exp)
        .map_or_else(String::new, crate::clock::Timestamp::rfc3339)
}

//! `/api/v1/auth`: register, login, refresh, logout, verify, session.

use poem_openapi::OpenApi;

use super::{
    Chapter,
    data::{
        Delivery, LoginRequest, LogoutRequest, Nothing, RefreshRequest, RegisterRequest,
        SessionData, TokenData, VerifiedData, VerifiedUser,
    },
};
use crate::{
    api_error::ApiError,
    credentials::{CookieNames, require_same_origin},
    error::Error,
    flows::{
        accounts::{login, logout, register},
        tokens::{
            first_party::{self, Tokens},
            verify,
        },
    },
    http::{
        context::Context,
        failure::{Failure, codes},
        json::{Answer, Body},
        security::Credentials,
    },
    limits::{Key, Limit},
    model::client,
    storage::users,
};

#[derive(Debug)]
pub struct AuthApi;

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
        let Body(RegisterRequest { email, username, password, delivery }) = body;
        check_delivery(request, &context, delivery)?;
        let registration = register::Registration { email, username, password };
        let tokens = register::register(app, registration, caller).await?;
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
        let Body(LoginRequest { login, password, delivery }) = body;
        check_delivery(request, &context, delivery)?;
        let tokens = login::login(app, &login, &password, caller).await?;
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
        let Body(RefreshRequest { refresh_token, delivery }) = body;
        let came_from = if refresh_token.is_some() { Delivery::Body } else { Delivery::Cookie };
        let delivery = delivery.unwrap_or(came_from);
        check_delivery(request, &context, delivery)?;
        let presented =
            refresh_token.or(credentials.refresh_token).ok_or(Error::InvalidRefreshToken)?;
        let tokens = first_party::refresh(app, &presented, caller).await?;
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
        logout::logout(app, access_token, refresh_token.as_deref(), caller).await?;
        Ok(Answer::new("logged out", Nothing {}).with_cookies(CookieNames::of(&app.config).clear()))
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
        let token = credentials.access_token.ok_or(Error::NoToken)?;
        let verified = verify::verify(&context.app, &token).await?;
        let claims = &verified.claims;
        let data = VerifiedData {
            user: VerifiedUser {
                id: claims.sub.clone(),
                email: claims.email.clone(),
                role: claims.role.clone(),
            },
            client_id: claims.client_id.clone(),
            session_id: claims.sid.clone(),
            scope: claims.scope.to_string(),
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
        let verified = match verify::verify(&context.app, &token).await {
            Ok(verified) => verified,
            Err(Error::InvalidToken(_)) => return Ok(nobody()),
            Err(other) => return Err(other.into()),
        };
        let claims = &verified.claims;
        // An application's token tells of a person what its scope covers, at the UserInfo endpoint; only the tokens of our own
        // clients carry the role.
        if !client::is_built_in(&claims.client_id) {
            return Ok(nobody());
        }
        let user = users::by_id(&context.app.db, &claims.sub).await.map_err(Error::from)?;
        let Some(user) = user.filter(|user| user.disabled_at.is_none()) else {
            return Ok(nobody());
        };
        let data = SessionData {
            user_id: user.id,
            email: user.email,
            username: user.username,
            role: user.role.as_str().to_owned(),
            scopes: claims.scope.iter().map(str::to_owned).collect(),
            modules: claims.modules.clone().unwrap_or_default(),
            expires_at: expiry(claims.exp),
        };
        Ok(Answer::new("somebody is logged in", Some(data)))
    }
}

/// Counts the request against what one client address may ask of the password threads and the database.
fn admit(context: &Context) -> Result<(), Error> {
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
        Delivery::Cookie => require_same_origin(request.headers(), &context.app.config),
        Delivery::Body => Ok(()),
    }
}

fn deliver<const STATUS: u16>(
    context: &Context,
    message: &'static str,
    tokens: Tokens,
    delivery: Delivery,
) -> Answer<TokenData, STATUS> {
    let Tokens { access_token, refresh_token, expires_in, refresh_expires_in, user } = tokens;
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
            let cookies =
                names.set((&access_token, expires_in), (&refresh_token, refresh_expires_in));
            Answer::new(message, data(None, None)).with_cookies(cookies)
        }
    }
}

fn expiry(exp: i64) -> String {
    crate::clock::Timestamp::from_secs(exp)
        .map_or_else(String::new, crate::clock::Timestamp::rfc3339)
}

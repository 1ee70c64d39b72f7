//! `/api/v1/auth`: register, log in, refresh, log out, verify, session.

use poem::{IntoResponse, Response, http::StatusCode};
use poem_openapi::{
    ApiResponse, OpenApi,
    registry::{MetaResponses, Registry},
};

use super::{
    Tag,
    data::{
        Delivery, LoginRequest, LogoutRequest, MfaLoginRequest, MfaSetupRequest, Nothing,
        PasskeyLoginRequest, RefreshRequest, RegisterRequest, SessionData, TokenData, TokenType,
        VerifiedData, VerifiedUser,
    },
    second_factors::{PasskeyChallenge, TotpSetup},
};
use crate::{
    api_error::ApiError,
    credentials::{CookieNames, require_same_origin},
    error::Error,
    flows::{
        accounts::{
            login, logout, register,
            second_factors::{Confirmation, passkeys},
            second_step,
        },
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
        views::Locale,
    },
    limits::{Key, Limit},
    model::client,
    storage::users,
};

#[derive(Debug)]
pub struct AuthApi;

codes!(RegisterErrors: Validation, MalformedJson, BadRequest, UserCreate, RegistrationDisabled,
    InvitationRequired, InvalidInvitation, MailDisabled, MfaRequired, CrossSite, EmailExists, UsernameExists,
    RequestTimeout, TooLarge, UnsupportedMediaType, TooManyRequests, Internal, Overloaded, Unavailable);
codes!(LoginErrors: Validation, AccountDeletionPending, MalformedJson, BadRequest, InvalidCredentials, MfaRequired, CrossSite, RequestTimeout,
    TooLarge, UnsupportedMediaType, TooManyRequests, Internal, Overloaded, Unavailable, AccountPending);
codes!(PasskeyErrors: Validation, AccountDeletionPending, MalformedJson, BadRequest, InvalidPasskey, CrossSite, Conflict, RequestTimeout, TooLarge,
    UnsupportedMediaType, TooManyRequests, Internal, Unavailable, AccountPending);
codes!(MfaErrors: Validation, AccountDeletionPending, MalformedJson, BadRequest, InvalidMfaToken, InvalidCode, InvalidPasskey, CrossSite,
    Conflict, RequestTimeout, TooLarge, UnsupportedMediaType, TooManyRequests, Internal, Unavailable);
codes!(RefreshErrors: Validation, MalformedJson, BadRequest, InvalidToken, InvalidRefreshToken, CrossSite, RequestTimeout,
    TooLarge, UnsupportedMediaType, TooManyRequests, Internal, Unavailable);
codes!(LogoutErrors: Validation, MalformedJson, BadRequest, InvalidToken, InvalidRefreshToken, CrossSite, RequestTimeout,
    TooLarge, UnsupportedMediaType, Internal, Unavailable);
codes!(VerifyErrors: InvalidToken, RequestTimeout, Internal, Unavailable);

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Authentication")]
impl AuthApi {
    /// Register a user
    ///
    /// Creates an account and logs the user in. The account and its session are created atomically.
    ///
    /// Where registrations are confirmed by mail (`registration.confirm_email`), answers 202, whether
    /// or not the address has an account: see `POST /api/v1/auth/register/confirm`.
    ///
    /// With `registration.mode = "invitation"` it takes an `invitation`. One that was sent to the
    /// address by mail has confirmed it: the answer is 201.
    ///
    /// Where the role of new users requires a second factor, the account is created and the answer is
    /// `MFA_REQUIRED` (403), as of a login: its `mfaToken` sets one up.
    #[oai(path = "/register", method = "post", operation_id = "register")]
    pub async fn register(
        &self,
        context: Context,
        request: &poem::Request,
        body: Body<RegisterRequest>,
    ) -> Result<Registered, Failure<RegisterErrors>> {
        let Context { app, caller } = &context;
        check_rate_limit(&context)?;
        let Body(RegisterRequest {
            email,
            username,
            password,
            invitation,
            accepted_terms,
            delivery,
        }) = body;
        check_delivery(request, &context, delivery)?;
        let registration = register::Registration { email, username, password };
        let language = language(request);
        let admission = register::Admission {
            invitation: invitation.as_deref(),
            accepted_terms: accepted_terms.as_deref(),
        };
        let registered = register::register(app, registration, admission, language, caller).await?;
        let Some(tokens) = registered else {
            let message = "A mail was sent to the address: the registration is to be confirmed.";
            return Ok(Registered::Pending(Answer::new(message, Nothing {})));
        };
        Ok(Registered::Done(Box::new(deliver(&context, "User registered.", tokens, delivery))))
    }

    /// Log in
    ///
    /// Starts a session of the account that `login`, `email` or `username` names. The response to an
    /// unknown login is the same as to a wrong password. Several identifiers must be of one account:
    /// if the password is right for the first of them and another is not of that account, the error
    /// names that one.
    ///
    /// A user who has a second factor, or must have one, gets `MFA_REQUIRED` (403), and no session
    /// before the second step: `mfa` in the answer has the token for it.
    #[oai(path = "/login", method = "post", operation_id = "login")]
    pub async fn login(
        &self,
        context: Context,
        request: &poem::Request,
        body: Body<LoginRequest>,
    ) -> Result<Answer<TokenData>, Failure<LoginErrors>> {
        let Context { app, caller } = &context;
        check_rate_limit(&context)?;
        let Body(LoginRequest { login, email, username, password, delivery }) = body;
        check_delivery(request, &context, delivery)?;
        let identifiers = login::Identifiers {
            login: login.as_deref().unwrap_or_default(),
            email: email.as_deref().unwrap_or_default(),
            username: username.as_deref().unwrap_or_default(),
        };
        let tokens = login::login(app, identifiers, &password, caller).await?;
        Ok(deliver(&context, "Logged in.", tokens, delivery))
    }

    /// Complete a login
    ///
    /// The second step, for a login that was answered with `MFA_REQUIRED`. Wrong codes are counted
    /// for the user and delay the next one (429). A user who must set up a second factor sends its
    /// token and its first code, and gets the recovery codes with the tokens.
    #[oai(path = "/login/mfa", method = "post", operation_id = "loginMfa")]
    pub async fn login_mfa(
        &self,
        context: Context,
        request: &poem::Request,
        body: Body<MfaLoginRequest>,
    ) -> Result<Answer<TokenData>, Failure<MfaErrors>> {
        let Context { app, caller } = &context;
        check_rate_limit(&context)?;
        let Body(MfaLoginRequest {
            mfa_token,
            code,
            passkey_token,
            credential,
            setup_token,
            name,
            delivery,
        }) = body;
        check_delivery(request, &context, delivery)?;
        let (name, code) = (name.unwrap_or_default(), code.unwrap_or_default());
        let credential = credential.map(|credential| credential.to_string());
        let answer = match (&setup_token, &passkey_token, &credential) {
            (None, Some(token), Some(credential)) => {
                second_step::Answer::Passkey { token, credential }
            }
            (None, ..) => second_step::Answer::Code(&code),
            (Some(token), ..) => {
                let name = &name;
                second_step::Answer::SetUp(Confirmation::Totp { token, code: &code, name })
            }
        };
        let completed = second_step::log_in(app, &mfa_token, answer, caller).await?;
        let codes = completed.recovery_codes;
        Ok(deliver_with(&context, "Logged in.", completed.session, delivery, codes))
    }

    /// Ask for a passkey in the second step
    ///
    /// For a login that was answered with `MFA_REQUIRED` and the method `passkey`.
    #[oai(path = "/login/mfa/passkey", method = "post", operation_id = "askMfaPasskey")]
    pub async fn ask_mfa_passkey(
        &self,
        context: Context,
        body: Body<MfaSetupRequest>,
    ) -> Result<Answer<PasskeyChallenge>, Failure<MfaErrors>> {
        check_rate_limit(&context)?;
        let challenge = second_step::passkey(&context.app, &body.0.mfa_token).await?;
        Ok(Answer::new("Ask the browser for the passkey.", challenge.into()))
    }

    /// Ask for a passkey
    ///
    /// For a login without a password. The answer of the browser goes to
    /// `POST /api/v1/auth/login/passkey`.
    #[oai(path = "/login/passkey/options", method = "post", operation_id = "askPasskey")]
    pub async fn ask_passkey(
        &self,
        context: Context,
    ) -> Result<Answer<PasskeyChallenge>, Failure<PasskeyErrors>> {
        check_rate_limit(&context)?;
        let challenge = passkeys::begin_login(&context.app)?;
        let challenge = challenge.ok_or(Error::Conflict(
            "there are no passkeys at this server: its issuer is an IP address",
        ))?;
        Ok(Answer::new("Ask the browser for a passkey.", challenge.into()))
    }

    /// Log in by a passkey
    ///
    /// Without a password: the passkey verifies its user, so that the login is one by two factors.
    #[oai(path = "/login/passkey", method = "post", operation_id = "loginPasskey")]
    pub async fn login_passkey(
        &self,
        context: Context,
        request: &poem::Request,
        body: Body<PasskeyLoginRequest>,
    ) -> Result<Answer<TokenData>, Failure<PasskeyErrors>> {
        let Context { app, caller } = &context;
        check_rate_limit(&context)?;
        let Body(PasskeyLoginRequest { passkey_token, credential, delivery }) = body;
        check_delivery(request, &context, delivery)?;
        let credential = credential.to_string();
        let tokens =
            second_step::log_in_by_passkey(app, &passkey_token, &credential, caller).await?;
        Ok(deliver(&context, "Logged in.", tokens, delivery))
    }

    /// Set up a second factor at login
    ///
    /// For a login that was answered with `MFA_REQUIRED` and `setupRequired`. Nothing is stored
    /// until a code confirms it (`POST /api/v1/auth/login/mfa`).
    #[oai(path = "/login/mfa/setup", method = "post", operation_id = "setUpLoginMfa")]
    pub async fn set_up_login_mfa(
        &self,
        context: Context,
        body: Body<MfaSetupRequest>,
    ) -> Result<Answer<TotpSetup>, Failure<MfaErrors>> {
        check_rate_limit(&context)?;
        let (_, set_up) = second_step::set_up(&context.app, &body.0.mfa_token).await?;
        Ok(Answer::new("Scan the QR code and confirm it with a code.", set_up.into()))
    }

    /// Refresh the tokens
    ///
    /// Exchanges a refresh token for a new access token and a new refresh token. A retry with the
    /// same token within a few seconds (a lost response, two tabs) returns the same new refresh
    /// token. Any later reuse revokes the session.
    #[oai(path = "/token/refresh", method = "post", operation_id = "refresh")]
    pub async fn refresh(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
        body: Body<RefreshRequest>,
    ) -> Result<Answer<TokenData>, Failure<RefreshErrors>> {
        let Context { app, caller } = &context;
        check_rate_limit(&context)?;
        let Body(RefreshRequest { refresh_token, delivery }) = body;
        let source = if refresh_token.is_some() { Delivery::Body } else { Delivery::Cookie };
        let delivery = delivery.unwrap_or(source);
        check_delivery(request, &context, delivery)?;
        let presented =
            refresh_token.or(credentials.refresh_token).ok_or(Error::InvalidRefreshToken)?;
        let tokens = first_party::refresh(app, &presented, caller).await?;
        Ok(deliver(&context, "Tokens refreshed.", tokens, delivery))
    }

    /// Log out
    ///
    /// Revokes the session: its refresh token and all of its access tokens are rejected
    /// immediately, on every server. Clears the cookies, also where there is no session (401).
    #[oai(path = "/logout", method = "post", operation_id = "logout")]
    pub async fn logout(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
        body: Body<LogoutRequest>,
    ) -> Result<Answer<Nothing>, Failure<LogoutErrors>> {
        let Context { app, caller } = &context;
        let refresh_token = body.0.refresh_token.or(credentials.refresh_token);
        let access_token = credentials.access_token.as_deref();
        let clear = CookieNames::of(&app.config).clear();
        let done = logout::logout(app, access_token, refresh_token.as_deref(), caller).await;
        if let Err(error) = done {
            let mut error = ApiError::from(error);
            // Another site's form carries no cookies, but its response could clear them.
            let is_own = require_same_origin(request.headers(), &app.config).is_ok();
            if is_own && error.code.status() == StatusCode::UNAUTHORIZED {
                error.cookies = clear.into();
            }
            return Err(error.into());
        }
        Ok(Answer::new("Logged out.", Nothing {}).with_cookies(clear))
    }

    /// Log out (DELETE)
    ///
    /// The same as `POST /api/v1/auth/logout`.
    #[oai(path = "/logout", method = "delete", operation_id = "logoutByDelete")]
    pub async fn logout_by_delete(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
        body: Body<LogoutRequest>,
    ) -> Result<Answer<Nothing>, Failure<LogoutErrors>> {
        self.logout(context, credentials, request, body).await
    }

    /// Verify an access token
    ///
    /// Validates the access token of the bearer header or cookie, including revocation, and returns
    /// its user, client and scope.
    #[oai(path = "/verify", method = "get", operation_id = "verifyAccessToken")]
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
            client_id: claims.client_id.clone().into(),
            session_id: claims.sid.clone().map(Into::into),
            scope: claims.scope.to_string(),
            expires_at: expiry(claims.exp),
        };
        Ok(Answer::new("The access token is valid.", data))
    }

    /// Get the current session
    ///
    /// Returns the user of the access token; `data` is null if there is no valid token of a
    /// first-party client.
    #[oai(path = "/session", method = "get", operation_id = "getSession")]
    pub async fn session(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<Option<SessionData>>, Failure<VerifyErrors>> {
        let no_session = || Answer::new("No user is logged in.", None);
        let Some(token) = credentials.access_token else {
            return Ok(no_session());
        };
        let verified = match verify::verify(&context.app, &token).await {
            Ok(verified) => verified,
            Err(Error::InvalidToken(_)) => return Ok(no_session()),
            Err(other) => return Err(other.into()),
        };
        let claims = &verified.claims;
        // Other clients get what their scope covers from the UserInfo endpoint; only tokens of the
        // built-in clients carry the role.
        if !client::is_built_in(&claims.client_id) {
            return Ok(no_session());
        }
        let user =
            users::by_id(&context.app.db, &claims.account_user()).await.map_err(Error::from)?;
        let Some(user) = user.filter(|user| user.disabled_at.is_none()) else {
            return Ok(no_session());
        };
        let data = SessionData {
            user_id: user.id.into(),
            email: user.email,
            username: user.username,
            role: user.role.as_str().to_owned(),
            scopes: claims.scope.iter().map(str::to_owned).collect(),
            modules: claims.modules.clone().unwrap_or_default(),
            authenticated_at: claims.auth_time.map(expiry),
            acr: claims.acr.clone(),
            amr: claims.amr.clone(),
            expires_at: expiry(claims.exp),
        };
        Ok(Answer::new("A user is logged in.", Some(data)))
    }
}

/// The answer to a registration: an account with its session, or a mail that confirms it.
#[derive(Debug)]
pub enum Registered {
    Done(Box<Answer<TokenData, 201>>),
    Pending(Answer<Nothing, 202>),
}

impl IntoResponse for Registered {
    fn into_response(self) -> Response {
        match self {
            Self::Done(answer) => answer.into_response(),
            Self::Pending(answer) => answer.into_response(),
        }
    }
}

impl ApiResponse for Registered {
    fn meta() -> MetaResponses {
        let done = Answer::<TokenData, 201>::meta().responses;
        let pending = Answer::<Nothing, 202>::meta().responses;
        MetaResponses { responses: done.into_iter().chain(pending).collect() }
    }

    fn register(registry: &mut Registry) {
        Answer::<TokenData, 201>::register(registry);
        Answer::<Nothing, 202>::register(registry);
    }
}

/// The language of a request, for its mails.
pub(super) fn language(request: &poem::Request) -> &'static str {
    Locale::of_request(request, None).tag()
}

/// Applies the rate limit per client address, which protects the password threads and the database.
pub(super) fn check_rate_limit(context: &Context) -> Result<(), Error> {
    let Context { app, caller } = context;
    app.admit(Limit::Address, &Key::address(caller.address))
}

/// Only same-origin pages may request cookies; otherwise another site could log the user in to an
/// account of its own (login CSRF).
pub(super) fn check_delivery(
    request: &poem::Request,
    context: &Context,
    delivery: Delivery,
) -> Result<(), ApiError> {
    match delivery {
        Delivery::Cookie => {
            let config = &context.app.config;
            require_same_origin(request.headers(), config).map_err(|mut error| {
                let issuer = &config.server.issuer;
                error.message = format!(
                    "cookies are set for pages of {issuer} only: send `\"delivery\": \"body\"` to get \
                     the tokens in the response, or send the request from a page of {issuer}"
                );
                error
            })
        }
        Delivery::Body => Ok(()),
    }
}

pub(super) fn deliver<const STATUS: u16>(
    context: &Context,
    message: &'static str,
    tokens: Tokens,
    delivery: Delivery,
) -> Answer<TokenData, STATUS> {
    deliver_with(context, message, tokens, delivery, None)
}

fn deliver_with<const STATUS: u16>(
    context: &Context,
    message: &'static str,
    tokens: Tokens,
    delivery: Delivery,
    recovery_codes: Option<Vec<String>>,
) -> Answer<TokenData, STATUS> {
    let Tokens { access_token, refresh_token, expires_in, refresh_expires_in, user } = tokens;
    let data = |access_token, refresh_token| TokenData {
        access_token,
        refresh_token,
        token_type: TokenType::Bearer,
        expires_in,
        refresh_expires_in,
        user: user.into(),
        recovery_codes,
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

/// A time of a token's claims.
fn expiry(exp: i64) -> String {
    crate::clock::Timestamp::from_secs(exp)
        .map_or_else(String::new, crate::clock::Timestamp::rfc3339)
}

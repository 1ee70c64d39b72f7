//! Errors as a client sees them, for every transport: HTTP renders one as the envelope of the JSON
//! API, as OAuth's error JSON or as a page, gRPC as a status.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use poem::{
    IntoResponse, Response,
    error::ResponseError,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
};
use poem_openapi::{Enum, Object, types::Example};
use serde::{Deserialize, Serialize};

use crate::{
    error::{self, DeletionPending, Error, SecondFactorRequired},
    model::authentication::ACR_MFA,
    oauth::error::OAuthError,
};

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:tt $status:ident,)+) => {
        /// What went wrong, for a program to tell apart. Later versions may add codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])* #[oai(rename = $code)] #[serde(rename = $code)] $variant,)+
        }

        impl ErrorCode {
            /// The `errorCode` of the envelope.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }
        }
    };
}

error_codes! {
    /// A field is missing, of the wrong type or breaks a rule; `details` names each.
    Validation = "VALIDATION_ERROR" BAD_REQUEST,
    /// The body is not JSON in UTF-8.
    MalformedJson = "MALFORMED_JSON" BAD_REQUEST,
    /// The request cannot be understood at all.
    BadRequest = "BAD_REQUEST" BAD_REQUEST,
    /// The account was refused where it is stored; a retry is refused too.
    UserCreate = "USER_CREATE_ERROR" BAD_REQUEST,
    InvalidCredentials = "INVALID_CREDENTIALS" UNAUTHORIZED,
    /// The password is right; the second step of the login must follow, as `mfa` says.
    MfaRequired = "MFA_REQUIRED" FORBIDDEN,
    /// The login is right, and the account waits to be deleted, as `deletion` says.
    AccountDeletionPending = "ACCOUNT_DELETION_PENDING" FORBIDDEN,
    /// The second step came too late, or the account was changed since the first.
    InvalidMfaToken = "INVALID_MFA_TOKEN" UNAUTHORIZED,
    /// The code of a second factor is wrong, or was used before.
    InvalidCode = "INVALID_CODE" UNAUTHORIZED,
    /// The passkey is unknown, or its answer is not valid.
    InvalidPasskey = "INVALID_PASSKEY" UNAUTHORIZED,
    InvalidToken = "INVALID_TOKEN" UNAUTHORIZED,
    InvalidRefreshToken = "INVALID_REFRESH_TOKEN" UNAUTHORIZED,
    /// Client authentication failed (RFC 6749 §5.2).
    InvalidClient = "INVALID_CLIENT" UNAUTHORIZED,
    /// The token is valid, but lacks the scope (RFC 6750 §3.1).
    InsufficientScope = "INSUFFICIENT_SCOPE" FORBIDDEN,
    /// The user must log in again, or in another way (RFC 9470 §3).
    InsufficientUserAuthentication = "INSUFFICIENT_USER_AUTHENTICATION" UNAUTHORIZED,
    /// The client is authenticated, but may not do this (RFC 6749 §5.2).
    UnauthorizedClient = "UNAUTHORIZED_CLIENT" FORBIDDEN,
    RegistrationDisabled = "REGISTRATION_DISABLED" FORBIDDEN,
    /// Users register with an invitation only.
    InvitationRequired = "INVITATION_REQUIRED" FORBIDDEN,
    /// The invitation is unknown, was used or revoked, or has expired.
    InvalidInvitation = "INVALID_INVITATION" BAD_REQUEST,
    /// Mails are off.
    MailDisabled = "MAIL_DISABLED" FORBIDDEN,
    /// The token of a mail is unknown, was used or has expired.
    InvalidEmailToken = "INVALID_EMAIL_TOKEN" BAD_REQUEST,
    CrossSite = "CROSS_SITE_REQUEST" FORBIDDEN,
    NotFound = "NOT_FOUND" NOT_FOUND,
    ModuleNotFound = "MODULE_NOT_FOUND" NOT_FOUND,
    /// Only administrators grant or revoke this module.
    ModuleNotSelfService = "MODULE_NOT_SELF_SERVICE" FORBIDDEN,
    /// A change without `If-Match`, which could overwrite another one (RFC 6585 §3).
    PreconditionRequired = "PRECONDITION_REQUIRED" PRECONDITION_REQUIRED,
    /// The state that `If-Match` names is outdated (RFC 9110 §15.5.13).
    PreconditionFailed = "PRECONDITION_FAILED" PRECONDITION_FAILED,
    /// The state of the resource forbids it.
    Conflict = "CONFLICT" CONFLICT,
    /// The `Idempotency-Key` was used for another request.
    KeyReused = "IDEMPOTENCY_KEY_REUSED" UNPROCESSABLE_ENTITY,
    /// A subscriber of the revocation feed is too far behind.
    SnapshotRequired = "SNAPSHOT_REQUIRED" GONE,
    MethodNotAllowed = "METHOD_NOT_ALLOWED" METHOD_NOT_ALLOWED,
    RequestTimeout = "REQUEST_TIMEOUT" REQUEST_TIMEOUT,
    EmailExists = "EMAIL_ALREADY_EXISTS" CONFLICT,
    UsernameExists = "USERNAME_ALREADY_EXISTS" CONFLICT,
    TooLarge = "PAYLOAD_TOO_LARGE" PAYLOAD_TOO_LARGE,
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE" UNSUPPORTED_MEDIA_TYPE,
    TooManyRequests = "TOO_MANY_REQUESTS" TOO_MANY_REQUESTS,
    Internal = "INTERNAL_ERROR" INTERNAL_SERVER_ERROR,
    Overloaded = "OVERLOADED" SERVICE_UNAVAILABLE,
    Unavailable = "SERVICE_UNAVAILABLE" SERVICE_UNAVAILABLE,
    /// The account exists and its profile is still being created.
    AccountPending = "ACCOUNT_PENDING" SERVICE_UNAVAILABLE,
    /// A customer service answered, and not with what it should.
    ServiceFailed = "SERVICE_FAILED" BAD_GATEWAY,
    /// A customer service did not answer in time.
    ServiceTimeout = "SERVICE_TIMEOUT" GATEWAY_TIMEOUT,
    /// The user has connected no account at the customer service.
    ServiceNotConnected = "SERVICE_NOT_CONNECTED" CONFLICT,
}

/// An error on its way to the client.
#[derive(Debug)]
pub struct ApiError {
    pub code: ErrorCode,
    /// Human-readable; says what to do.
    pub message: String,
    pub details: Vec<Detail>,
    /// What completes the login.
    pub mfa: Option<Box<MfaChallenge>>,
    /// What keeps an account that waits to be deleted.
    pub deletion: Option<Box<PendingDeletion>>,
    /// `Retry-After`, rounded up to seconds.
    pub retry_after: Option<Duration>,
    /// `WWW-Authenticate` (RFC 6750 §3).
    pub challenge: Option<String>,
    /// The values of `Set-Cookie`.
    pub cookies: Vec<String>,
    /// The URL, on this server, at which the user can start again.
    pub again: Option<String>,
    /// The application that sent the user, for a page.
    pub application: Option<Application>,
    /// OAuth's `error` (RFC 6749 §5.2), where the endpoint is one of OAuth's.
    pub oauth: Option<&'static str>,
    /// For the log only.
    pub cause: Option<error::Cause>,
}

/// The application that a page names.
#[derive(Clone, Debug)]
pub struct Application {
    pub name: String,
    /// Its home page, as registered.
    pub uri: Option<String>,
}

/// A field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Object)]
pub struct Detail {
    /// The field's name in the request.
    #[oai(validator(min_length = 1))]
    pub field: String,
    /// What is wrong with it, as a sentence.
    pub message: String,
}

/// What completes a login whose password was right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct MfaChallenge {
    /// To be sent to `POST /api/v1/auth/login/mfa`.
    pub mfa_token: String,
    /// How the user can prove a second factor: `totp`, `passkey`, `recovery_code`. Later versions
    /// may add methods.
    pub methods: Vec<String>,
    /// Whether the user has no second factor and must set one up
    /// (`POST /api/v1/auth/login/mfa/setup`).
    pub setup_required: bool,
    /// The lifetime of the token in seconds.
    pub expires_in: u64,
}

/// The deletion that a user has requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct PendingDeletion {
    /// When the account is deleted (RFC 3339, UTC).
    pub deletion_at: String,
    /// To be sent to `DELETE /api/v1/account/deletion`, to keep the account.
    pub cancel_token: String,
    /// The lifetime of the token in seconds.
    pub expires_in: u64,
}

/// The envelope of every error.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "ErrorResponse", example)]
pub struct ErrorBody {
    /// The HTTP status again.
    pub status_code: u16,
    /// What went wrong and what to do, human-readable.
    pub message: String,
    /// What went wrong, for a program.
    pub error_code: ErrorCode,
    /// The fields at fault, where fields are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[oai(default, skip_serializing_if_is_empty)]
    pub details: Vec<Detail>,
    /// With `MFA_REQUIRED` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[oai(default, skip_serializing_if_is_none)]
    pub mfa: Option<MfaChallenge>,
    /// With `ACCOUNT_DELETION_PENDING` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[oai(default, skip_serializing_if_is_none)]
    pub deletion: Option<PendingDeletion>,
    /// The `X-Request-Id` of this answer; the server's log and audit log know the request by it.
    pub request_id: String,
}

impl Example for ErrorBody {
    fn example() -> Self {
        Self {
            status_code: 400,
            message: "password: Use at least 8 characters.".to_owned(),
            error_code: ErrorCode::Validation,
            details: vec![Detail {
                field: "password".to_owned(),
                message: "Use at least 8 characters.".to_owned(),
            }],
            mfa: None,
            deletion: None,
            request_id: "01a1fca5-0ae5-741a-b136-32b4b1af948c".to_owned(),
        }
    }
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: vec![],
            mfa: None,
            deletion: None,
            retry_after: None,
            challenge: None,
            cookies: vec![],
            again: None,
            application: None,
            oauth: None,
            cause: None,
        }
    }

    /// A field at fault.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let detail = Detail { field: field.into(), message: message.into() };
        let mut error =
            Self::new(ErrorCode::Validation, format!("{}: {}", detail.field, detail.message));
        error.details.push(detail);
        error
    }

    /// Sets the URL, on this server, at which the user can start again.
    pub fn again(mut self, address: impl Into<String>) -> Self {
        self.again = Some(address.into());
        self
    }

    /// As an OAuth error of that name.
    pub fn oauth(mut self, error: &'static str) -> Self {
        self.oauth = Some(error);
        self
    }

    /// The body of the JSON API.
    pub(crate) fn envelope(&self, request_id: &str) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&ErrorBody {
            status_code: self.code.status().as_u16(),
            message: self.message.clone(),
            error_code: self.code,
            details: self.details.clone(),
            mfa: self.mfa.as_deref().cloned(),
            deletion: self.deletion.as_deref().cloned(),
            request_id: request_id.to_owned(),
        })
    }

    /// Sets `Retry-After`, `WWW-Authenticate` and the cookies.
    pub(crate) fn set_headers(&self, headers: &mut HeaderMap) {
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            set(header::RETRY_AFTER, &seconds.max(1).to_string());
        }
        if let Some(challenge) = &self.challenge {
            set(header::WWW_AUTHENTICATE, challenge);
        }
        for cookie in &self.cookies {
            if let Ok(cookie) = HeaderValue::from_str(cookie) {
                headers.append(header::SET_COOKIE, cookie);
            }
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for ApiError {}

/// An error within a response, for the outermost layer to render.
#[derive(Clone, Debug)]
pub struct Carried(pub Arc<ApiError>);

impl ResponseError for ApiError {
    fn status(&self) -> StatusCode {
        self.code.status()
    }
}

impl From<OAuthError> for ApiError {
    fn from(error: OAuthError) -> Self {
        let code = match error.code {
            "invalid_client" => ErrorCode::InvalidClient,
            "invalid_token" => ErrorCode::InvalidToken,
            "insufficient_scope" => ErrorCode::InsufficientScope,
            "server_error" => ErrorCode::Internal,
            "temporarily_unavailable" => ErrorCode::Unavailable,
            _ => ErrorCode::BadRequest,
        };
        Self {
            challenge: match code {
                // RFC 6749 §5.2 requires it for clients that used the Authorization header; see
                // `http::client_auth::refused` for others.
                ErrorCode::InvalidClient => Some("Basic realm=\"propusk\"".to_owned()),
                // RFC 6750 §3.1
                ErrorCode::InsufficientScope => {
                    Some("Bearer error=\"insufficient_scope\"".to_owned())
                }
                _ => None,
            },
            retry_after: (code == ErrorCode::Unavailable).then_some(Duration::from_secs(2)),
            ..Self::new(code, error.description).oauth(error.code)
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        use Error as E;
        let message = error.to_string();
        match error {
            E::Validation(fields) => {
                let details: Vec<_> = fields
                    .into_iter()
                    .map(|f| Detail { field: f.field.to_owned(), message: f.message })
                    .collect();
                let parts = details.iter().map(|d| format!("{}: {}", d.field, d.message));
                let message = error::joined(parts);
                Self { details, ..Self::new(ErrorCode::Validation, message) }
            }
            E::EmailTaken => Self::new(ErrorCode::EmailExists, message),
            E::UsernameTaken => Self::new(ErrorCode::UsernameExists, message),
            E::NotCreated(cause) => Self {
                cause: Some(cause),
                ..Self::new(
                    ErrorCode::UserCreate,
                    "this account was refused and not created: ask the operator of this service",
                )
            },
            E::AccountPending => Self {
                retry_after: Some(Duration::from_secs(2)),
                ..Self::new(ErrorCode::AccountPending, message)
            },
            E::RegistrationDisabled => Self::new(ErrorCode::RegistrationDisabled, message),
            E::InvitationRequired => Self::new(ErrorCode::InvitationRequired, message),
            E::InvalidInvitation => Self::new(ErrorCode::InvalidInvitation, message),
            E::MailOff => Self::new(ErrorCode::MailDisabled, message),
            E::NotDelivered(_) => Self::new(ErrorCode::Unavailable, message),
            E::InvalidLink => Self::new(ErrorCode::InvalidEmailToken, message),
            E::InvalidCredentials => Self::new(ErrorCode::InvalidCredentials, message),
            E::SecondFactorRequired(required) => {
                let SecondFactorRequired { token, methods, set_up, expires_in } = *required;
                let mfa = MfaChallenge {
                    mfa_token: token,
                    methods: methods.into_iter().map(|one| one.as_str().to_owned()).collect(),
                    setup_required: set_up,
                    expires_in,
                };
                Self { mfa: Some(Box::new(mfa)), ..Self::new(ErrorCode::MfaRequired, message) }
            }
            E::DeletionPending(pending) => {
                let DeletionPending { token, deletion, expires_in } = *pending;
                let deletion = PendingDeletion {
                    deletion_at: deletion.at.rfc3339(),
                    cancel_token: token,
                    expires_in,
                };
                Self {
                    deletion: Some(Box::new(deletion)),
                    ..Self::new(ErrorCode::AccountDeletionPending, message)
                }
            }
            E::WrongCode => Self::new(ErrorCode::InvalidCode, message),
            E::InvalidPasskey => Self::new(ErrorCode::InvalidPasskey, message),
            E::LoginExpired => Self::new(ErrorCode::InvalidMfaToken, message),
            E::NeedsLogin { max_age, second_factor } => {
                let seconds = max_age.as_secs();
                let mut challenge = format!(
                    "Bearer error=\"insufficient_user_authentication\", error_description=\"{message}\", \
                     max_age=\"{seconds}\""
                );
                if second_factor {
                    challenge.push_str(&format!(", acr_values=\"{ACR_MFA}\""));
                }
                Self {
                    challenge: Some(challenge),
                    ..Self::new(ErrorCode::InsufficientUserAuthentication, message)
                }
            }
            // RFC 6750 §3.1: no error code where the request has no token.
            E::NoToken => Self {
                challenge: Some("Bearer".to_owned()),
                ..Self::new(ErrorCode::InvalidToken, message)
            },
            E::InvalidToken(why) => Self {
                challenge: Some(format!(
                    "Bearer error=\"invalid_token\", error_description=\"{why}\""
                )),
                ..Self::new(ErrorCode::InvalidToken, message)
            },
            E::NoSuchModule => Self::new(ErrorCode::ModuleNotFound, message),
            E::NotSelfService => Self::new(ErrorCode::ModuleNotSelfService, message),
            E::NotFound(_) => Self::new(ErrorCode::NotFound, message),
            E::Changed => Self::new(ErrorCode::PreconditionFailed, message),
            E::Conflict(_) | E::NoPassword => Self::new(ErrorCode::Conflict, message),
            E::KeyReused => Self::new(ErrorCode::KeyReused, message),
            E::OAuth(error) => error.into(),
            E::InvalidRefreshToken => Self::new(
                ErrorCode::InvalidRefreshToken,
                "the refresh token is not valid: log in again",
            ),
            E::TooMany(wait) => {
                let seconds = wait.as_secs().max(1);
                Self {
                    retry_after: Some(wait),
                    ..Self::new(
                        ErrorCode::TooManyRequests,
                        format!("too many attempts: wait {seconds} s"),
                    )
                }
            }
            E::Overloaded => Self {
                retry_after: Some(Duration::from_secs(2)),
                ..Self::new(ErrorCode::Overloaded, "the server is busy: try again in a moment")
            },
            E::ServiceFailed(cause) => {
                Self { cause: Some(cause), ..Self::new(ErrorCode::ServiceFailed, message) }
            }
            E::ServiceTimeout(cause) => {
                Self { cause: Some(cause), ..Self::new(ErrorCode::ServiceTimeout, message) }
            }
            E::ServiceUnavailable(wait, cause) => Self {
                cause: Some(cause),
                retry_after: Some(wait),
                ..Self::new(ErrorCode::Unavailable, message)
            },
            E::NotConnected(_) => Self::new(ErrorCode::ServiceNotConnected, message),
            E::Unavailable(cause) => Self {
                cause: Some(cause),
                retry_after: Some(Duration::from_secs(2)),
                ..Self::new(
                    ErrorCode::Unavailable,
                    "the service is unavailable: try again in a moment",
                )
            },
        }
    }
}

/// A response without a body, which the outermost layer renders.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::builder().status(self.code.status()).finish();
        response.extensions_mut().insert(Carried(Arc::new(self)));
        response
    }
}

//! Why a flow denies a request.

use std::time::Duration;

use crate::{
    keys,
    model::{second_factor::FactorMethod, user::Deletion},
    oauth::{error::OAuthError, jwt::InvalidToken},
    password::PasswordError,
    storage,
};

/// Why a flow denies a request. The response names the rule, the log the cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One or more fields break a rule.
    #[error("the request has invalid fields")]
    Validation(Vec<FieldError>),
    #[error("an account with this email address exists already")]
    EmailTaken,
    #[error("this username is taken")]
    UsernameTaken,
    /// The account was refused where it is stored, by a constraint or a trigger of the operator's;
    /// everything was rolled back. A database that fails is [`Error::Unavailable`].
    #[error("the account could not be created")]
    NotCreated(#[source] Cause),
    /// The profile of the account is being created by the user service.
    #[error("the account is being set up: try again in a moment")]
    AccountPending,
    #[error("registration is disabled")]
    RegistrationDisabled,
    /// `registration.mode` is `invitation`, and the request has none.
    #[error(
        "registration requires an invitation: open its link, or send its token as `invitation`"
    )]
    InvitationRequired,
    /// An invitation is unknown, was used or revoked, or has expired, indistinguishably.
    #[error(
        "the invitation is not valid: it was used, was revoked or has expired; ask for a new one"
    )]
    InvalidInvitation,
    /// `mail.delivery` is off: what needs a mail is not offered.
    #[error("this deployment sends no mails: ask its operator")]
    MailOff,
    /// The mail server has not accepted a mail; the text is its status.
    #[error("the mail was not delivered: {0}")]
    NotDelivered(String),
    /// The token of a mail is unknown, was used, has expired, or the account has changed since.
    #[error("the link is not valid: it was used, has expired or was replaced; request a new one")]
    InvalidLink,
    /// Wrong password, unknown login or disabled account, indistinguishably.
    #[error("wrong login or password")]
    InvalidCredentials,
    /// The password is right, and opens no session: a second factor must follow.
    #[error("{}", .0.message())]
    SecondFactorRequired(Box<SecondFactorRequired>),
    /// The login is right, and the account waits to be deleted: it can be kept.
    #[error(
        "the account will be deleted: send `deletion.cancelToken` to DELETE /api/v1/account/deletion to keep it"
    )]
    DeletionPending(Box<DeletionPending>),
    /// A code that is neither one of an authenticator app at this moment nor an unused recovery
    /// code, indistinguishably.
    #[error(
        "wrong code: enter the current one of your authenticator app, or an unused recovery code"
    )]
    WrongCode,
    /// An unknown passkey, or an answer that is not valid, indistinguishably.
    #[error("the passkey was not accepted: try again, or log in another way")]
    InvalidPasskey,
    /// The second step of a login came too late, or the account was changed since the first.
    #[error("the login has expired: enter the password again")]
    LoginExpired,
    /// RFC 9470 §3 `insufficient_user_authentication`
    #[error("{}", needs_login(*.second_factor))]
    NeedsLogin {
        /// How old the login may be.
        max_age: Duration,
        /// Whether it must include the second factor.
        second_factor: bool,
    },
    /// RFC 6750 §3.1 `invalid_token`
    #[error("the access token is not valid: {0}")]
    InvalidToken(InvalidToken),
    /// The request carries no access token.
    #[error("an access token is required")]
    NoToken,
    #[error("the refresh token is not valid")]
    InvalidRefreshToken,
    /// The named resource does not exist; the word says its kind.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The state that `If-Match` names is outdated.
    #[error("the resource has changed: read it again and send its new ETag")]
    Changed,
    /// The state of the resource forbids it; the message says why and what to do.
    #[error("{0}")]
    Conflict(&'static str),
    /// A change needs the password of an account that has none: its user logs in at another
    /// provider or by a passkey.
    #[error("the account has no password: set one by the reset mail (/password/reset)")]
    NoPassword,
    /// The `Idempotency-Key` was used for a different request.
    #[error("this Idempotency-Key was used for a different request: send a new key")]
    KeyReused,
    #[error("there is no such module")]
    NoSuchModule,
    #[error("only administrators can grant or revoke this module")]
    NotSelfService,
    /// An error that OAuth has a name for.
    #[error(transparent)]
    OAuth(#[from] OAuthError),
    #[error("too many attempts")]
    TooMany(Duration),
    /// All password hashing threads are busy and the queue is full.
    #[error("the server is busy")]
    Overloaded,
    /// The database or a key is unavailable.
    #[error("the service is unavailable")]
    Unavailable(#[source] Cause),
    /// A customer service answered, and not with what it should.
    #[error("the service gave no usable answer: ask the operator of this server")]
    ServiceFailed(#[source] Cause),
    /// A customer service is not reached, or failed a moment ago: it is not asked for so long.
    #[error("the service is unavailable: try again later")]
    ServiceUnavailable(Duration, #[source] Cause),
    /// A customer service did not answer in time.
    #[error("the service did not answer in time: try again later")]
    ServiceTimeout(#[source] Cause),
    /// The user has no account at a customer service, or is not logged in.
    #[error("{0}")]
    NotConnected(&'static str),
}

impl Error {
    /// Why an account could not be stored.
    pub(crate) fn not_created(error: storage::Error) -> Self {
        if error.is_refusal() { Self::NotCreated(error.into()) } else { error.into() }
    }

    /// An invalid field.
    pub fn field(field: &'static str, message: impl Into<String>) -> Self {
        Self::Validation(vec![FieldError { field, message: message.into() }])
    }
}

/// A deletion that the user who has logged in can cancel.
#[derive(Debug)]
pub struct DeletionPending {
    /// Sealed: cancels the deletion.
    pub token: String,
    pub deletion: Deletion,
    /// Seconds.
    pub expires_in: u64,
}

/// What a login by password needs to be complete.
#[derive(Debug)]
pub struct SecondFactorRequired {
    /// Sealed: sent back with the second step.
    pub token: String,
    /// How the user can prove a second factor.
    pub methods: Vec<FactorMethod>,
    /// The user has none and must set one up.
    pub set_up: bool,
    /// Seconds.
    pub expires_in: u64,
}

impl SecondFactorRequired {
    const fn message(&self) -> &'static str {
        if self.set_up {
            "the account must have a second factor: set one up"
        } else {
            "the account has a second factor: send a code of it"
        }
    }
}

const fn needs_login(second_factor: bool) -> &'static str {
    if second_factor {
        "a recent login with the second factor is required: log in again"
    } else {
        "a recent login is required: log in again"
    }
}

/// Several messages as one: some are sentences, whose full stop would stand before the semicolon.
pub fn joined(messages: impl IntoIterator<Item = String>) -> String {
    let messages: Vec<String> = messages.into_iter().collect();
    let (last, first) = match messages.split_last() {
        Some((last, first)) => (last.as_str(), first),
        None => ("", &[][..]),
    };
    let first = first.iter().map(|message| message.trim_end_matches('.'));
    first.chain([last]).collect::<Vec<_>>().join("; ")
}

/// The inner cause, for the log only.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub field: &'static str,
    pub message: String,
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::Unknown(what) => Self::NotFound(what),
            other => Self::Unavailable(other.into()),
        }
    }
}

impl From<keys::Error> for Error {
    fn from(error: keys::Error) -> Self {
        match error {
            keys::Error::Refused(message) => {
                Self::Validation(vec![FieldError { field: "key", message }])
            }
            other => Self::Unavailable(other.into()),
        }
    }
}

impl From<PasswordError> for Error {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Overloaded => Self::Overloaded,
            internal @ PasswordError::Internal => Self::Unavailable(internal.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn joined_messages_have_no_double_punctuation() {
        let joined = |messages: &[&str]| joined(messages.iter().map(|one| (*one).to_owned()));
        assert_eq!(joined(&[]), "");
        assert_eq!(joined(&["Use 8 characters."]), "Use 8 characters.");
        let both = joined(&["login: has 1.", "password: Use 8 characters.", "email: no"]);
        assert_eq!(both, "login: has 1; password: Use 8 characters; email: no");
    }
}

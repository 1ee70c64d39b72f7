//! `/api/v1/auth`: verification and change of the email address, password reset. The tokens of mails
//! are in the links to the pages; applications with pages of their own read them there.

use poem_openapi::{Object, OpenApi, types::Example};
use serde::{Deserialize, Serialize};

use super::{
    Tag,
    auth::{check_delivery, check_rate_limit, deliver, language},
    data::{Delivery, Nothing, TokenData},
};
use crate::{
    error::Error,
    flows::accounts::{
        email::{self, Proof},
        password, register,
    },
    http::{
        context::Context,
        failure::{Failure, codes},
        json::{Answer, Body},
        security::Credentials,
    },
    ids::UserId,
};

#[derive(Debug)]
pub struct EmailApi;

codes!(ConfirmErrors: Validation, MalformedJson, BadRequest, UserCreate, InvalidEmailToken, InvalidInvitation, InvalidCredentials, MfaRequired,
    CrossSite, EmailExists, UsernameExists, RequestTimeout, TooLarge, UnsupportedMediaType, TooManyRequests, Internal, Overloaded,
    Unavailable, AccountPending);
codes!(SendErrors: Validation, MalformedJson, BadRequest, InvalidToken, InsufficientScope, CrossSite, MailDisabled, NotFound, Conflict,
    RequestTimeout, TooLarge, UnsupportedMediaType, TooManyRequests, Internal, Overloaded, Unavailable);
codes!(VerifyErrors: Validation, MalformedJson, BadRequest, InvalidToken, InsufficientScope, InvalidEmailToken, InvalidCredentials, CrossSite,
    NotFound, EmailExists, Conflict, RequestTimeout, TooLarge, UnsupportedMediaType, TooManyRequests, Internal, Overloaded,
    Unavailable);
codes!(ChangeErrors: Validation, MalformedJson, BadRequest, InvalidToken, InsufficientScope, InvalidCredentials, CrossSite, MailDisabled,
    NotFound, Conflict, RequestTimeout, TooLarge, UnsupportedMediaType, TooManyRequests, Internal, Overloaded, Unavailable);
codes!(RequestErrors: Validation, MalformedJson, BadRequest, MailDisabled, RequestTimeout, TooLarge, UnsupportedMediaType,
    TooManyRequests, Internal, Unavailable);
codes!(ResetErrors: Validation, MalformedJson, BadRequest, InvalidEmailToken, EmailExists, RequestTimeout, TooLarge,
    UnsupportedMediaType, TooManyRequests, Internal, Overloaded, Unavailable);

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Authentication")]
impl EmailApi {
    /// Confirm a registration
    ///
    /// Creates the account of a registration by the token of its mail, and logs the user in. Anybody
    /// may have entered the address: its owner sends the password of the registration, or a new
    /// one. Where the role of new users requires a second factor, the account is created and the
    /// answer is `MFA_REQUIRED` (403).
    #[oai(path = "/register/confirm", method = "post", operation_id = "confirmRegistration")]
    async fn confirm_registration(
        &self,
        context: Context,
        request: &poem::Request,
        body: Body<ConfirmRegistrationRequest>,
    ) -> Result<Answer<TokenData, 201>, Failure<ConfirmErrors>> {
        let Context { app, caller } = &context;
        check_rate_limit(&context)?;
        let ConfirmRegistrationRequest { token, password, new_password, delivery } = body.0;
        check_delivery(request, &context, delivery)?;
        let proof = proof(None, password.as_deref(), new_password.as_deref())?;
        let language = language(request);
        let tokens = register::confirm(app, &token, proof, language, caller).await?;
        Ok(deliver(&context, "User registered.", tokens, delivery))
    }

    /// Send a verification mail
    ///
    /// To the address of the access token's user, with a link and a code. Earlier ones stay valid.
    #[oai(path = "/email/verification", method = "post", operation_id = "sendVerificationMail")]
    async fn send_verification(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
    ) -> Result<Answer<Nothing, 202>, Failure<SendErrors>> {
        let Context { app, caller } = &context;
        check_rate_limit(&context)?;
        let user = user(&context, &credentials).await?;
        email::request_verification(app, &user, language(request), caller).await?;
        Ok(Answer::new("A mail was sent to the address.", Nothing {}))
    }

    /// Verify the email address
    ///
    /// By the code of a mail, with an access token; or by the token of its link, with an access token
    /// or the password of the account. Another person may have registered the address: its owner
    /// then sends the token and `newPassword`, which ends all sessions of the account.
    #[oai(path = "/email/verify", method = "post", operation_id = "verifyEmail")]
    async fn verify(
        &self,
        context: Context,
        credentials: Credentials,
        body: Body<VerifyEmailRequest>,
    ) -> Result<Answer<Nothing>, Failure<VerifyErrors>> {
        let Context { app, caller } = &context;
        check_rate_limit(&context)?;
        let VerifyEmailRequest { code, token, password, new_password } = body.0;
        match (code, token) {
            (Some(code), None) => {
                let user = user(&context, &credentials).await?;
                email::verify_by_code(app, &user, &code, caller).await?;
            }
            (None, Some(token)) => {
                let session = optional_user(&context, &credentials).await?;
                let (password, new) = (password.as_deref(), new_password.as_deref());
                let proof = proof(session.as_ref(), password, new)?;
                email::verify_by_link(app, &token, proof, caller).await?;
            }
            _ => return Err(Error::field("token", "send either `token` or `code`").into()),
        }
        Ok(Answer::new("The email address is verified.", Nothing {}))
    }

    /// Request a change of the email address
    ///
    /// Sends a mail to the new address, which confirms it, and one to the present address if that is
    /// verified. The answer is the same where the new address has an account.
    #[oai(path = "/email/change", method = "post", operation_id = "requestEmailChange")]
    async fn change(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
        body: Body<ChangeEmailRequest>,
    ) -> Result<Answer<Nothing, 202>, Failure<ChangeErrors>> {
        let Context { app, caller } = &context;
        check_rate_limit(&context)?;
        let user = user(&context, &credentials).await?;
        let ChangeEmailRequest { email, password } = body.0;
        let language = language(request);
        email::request_change(app, &user, &email, &password, language, caller).await?;
        Ok(Answer::new("A mail was sent to the new address.", Nothing {}))
    }

    /// Confirm a change of the email address
    ///
    /// By the token of the mail to the new address, with an access token or the password of the
    /// account.
    #[oai(path = "/email/change/confirm", method = "post", operation_id = "confirmEmailChange")]
    async fn confirm_change(
        &self,
        context: Context,
        credentials: Credentials,
        body: Body<ConfirmEmailRequest>,
    ) -> Result<Answer<Nothing>, Failure<VerifyErrors>> {
        let Context { app, caller } = &context;
        check_rate_limit(&context)?;
        let ConfirmEmailRequest { token, password } = body.0;
        let session = optional_user(&context, &credentials).await?;
        let proof = proof(session.as_ref(), password.as_deref(), None)?;
        email::confirm_change(app, &token, proof, caller).await?;
        Ok(Answer::new("The email address is changed.", Nothing {}))
    }

    /// Object to a change of the email address
    ///
    /// By the token of the mail to the old address: the account keeps it or has it again, with a new
    /// password, and all sessions end.
    #[oai(path = "/email/change/object", method = "post", operation_id = "objectToEmailChange")]
    async fn object(
        &self,
        context: Context,
        body: Body<ResetPasswordRequest>,
    ) -> Result<Answer<Nothing>, Failure<ResetErrors>> {
        let Context { app, caller } = &context;
        check_rate_limit(&context)?;
        email::object(app, &body.0.token, &body.0.password, caller).await?;
        Ok(Answer::new("The account has its old address and a new password.", Nothing {}))
    }

    /// Request a password reset
    ///
    /// Sends a mail with a link, valid once and for 30 minutes, if the address has an account. The
    /// answer does not tell.
    #[oai(path = "/password/reset/request", method = "post", operation_id = "requestPasswordReset")]
    async fn request_reset(
        &self,
        context: Context,
        request: &poem::Request,
        body: Body<RequestResetRequest>,
    ) -> Result<Answer<Nothing, 202>, Failure<RequestErrors>> {
        let Context { app, caller } = &context;
        check_rate_limit(&context)?;
        password::request_reset(app, &body.0.email, language(request), caller).await?;
        let message = "If the address has an account, a mail was sent to it.";
        Ok(Answer::new(message, Nothing {}))
    }

    /// Reset the password
    ///
    /// By the token of a mail. All sessions of the user end; nobody is logged in.
    #[oai(path = "/password/reset", method = "post", operation_id = "resetPassword")]
    async fn reset(
        &self,
        context: Context,
        body: Body<ResetPasswordRequest>,
    ) -> Result<Answer<Nothing>, Failure<ResetErrors>> {
        let Context { app, caller } = &context;
        check_rate_limit(&context)?;
        password::reset(app, &body.0.token, &body.0.password, caller).await?;
        Ok(Answer::new("The password is set: log in with it.", Nothing {}))
    }
}

/// The id of the access token's user, where there is a token.
async fn optional_user(
    context: &Context,
    credentials: &Credentials,
) -> Result<Option<UserId>, Error> {
    match credentials.access_token {
        Some(_) => user(context, credentials).await.map(Some),
        None => Ok(None),
    }
}

/// The id of the access token's user.
async fn user(context: &Context, credentials: &Credentials) -> Result<UserId, Error> {
    Ok(credentials.account(&context.app).await?.claims.account_user())
}

fn proof<'a>(
    session: Option<&'a UserId>,
    password: Option<&'a str>,
    new_password: Option<&'a str>,
) -> Result<Proof<'a>, Error> {
    match (session, password, new_password) {
        (_, Some(_), Some(_)) => {
            Err(Error::field("newPassword", "must not be sent together with `password`"))
        }
        (_, Some(password), None) => Ok(Proof::Password(password)),
        (_, None, Some(new)) => Ok(Proof::NewPassword(new)),
        (Some(user), None, None) => Ok(Proof::Session(user)),
        (None, None, None) => Ok(Proof::Nothing),
    }
}

/// The confirmation of a registration.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
struct ConfirmRegistrationRequest {
    /// The `token` of the link.
    token: String,
    /// The password of the registration.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    password: Option<String>,
    /// Another password, for the owner of the address who does not know that one.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    new_password: Option<String>,
    /// How tokens are returned.
    #[serde(default)]
    #[oai(default)]
    delivery: Delivery,
}

/// What verifies an email address: `code`, or `token`.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
struct VerifyEmailRequest {
    /// The eight digits in the mail, with an access token.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    code: Option<String>,
    /// The `token` of the link.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    token: Option<String>,
    /// With `token`: the password of the account, where there is no access token.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    password: Option<String>,
    /// With `token`: a new password, which ends all sessions.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    new_password: Option<String>,
}

/// A new email address.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
struct ChangeEmailRequest {
    /// The new address. At most 254 characters.
    #[oai(validator(max_length = 254))]
    email: String,
    /// The password of the account.
    password: String,
}

/// The confirmation of a new email address.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
struct ConfirmEmailRequest {
    /// The `token` of the link.
    token: String,
    /// The password of the account, where there is no access token.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    password: Option<String>,
}

/// The address of an account.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
struct RequestResetRequest {
    /// The email address. At most 254 characters.
    #[oai(validator(max_length = 254))]
    email: String,
}

/// A new password.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
struct ResetPasswordRequest {
    /// The `token` of the link.
    token: String,
    /// The new password. At most 1024 bytes, without control characters.
    password: String,
}

const TOKEN: &str = "jVb1y8V7mS8J3hOq0b1l9mXr3cQk1fJ7wq6n2pK5t0E";
const PASSWORD: &str = "seven blue herons at dawn";

impl Example for ConfirmRegistrationRequest {
    fn example() -> Self {
        Self {
            token: TOKEN.to_owned(),
            password: Some(PASSWORD.to_owned()),
            new_password: None,
            delivery: Delivery::Body,
        }
    }
}

impl Example for VerifyEmailRequest {
    fn example() -> Self {
        Self { code: Some("12345678".to_owned()), token: None, password: None, new_password: None }
    }
}

impl Example for ChangeEmailRequest {
    fn example() -> Self {
        Self { email: "vera@example.com".to_owned(), password: PASSWORD.to_owned() }
    }
}

impl Example for ConfirmEmailRequest {
    fn example() -> Self {
        Self { token: TOKEN.to_owned(), password: None }
    }
}

impl Example for RequestResetRequest {
    fn example() -> Self {
        Self { email: "vera@example.org".to_owned() }
    }
}

impl Example for ResetPasswordRequest {
    fn example() -> Self {
        Self { token: TOKEN.to_owned(), password: PASSWORD.to_owned() }
    }
}

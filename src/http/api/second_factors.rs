//! `/api/v1/account/second-factors`: the second factors of the current user.

use poem_openapi::{Object, OpenApi, param::Path, types::Example};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Tag, data::Nothing};
use crate::{
    api_error::ApiError,
    clock::Timestamp,
    error::Error,
    flows::accounts::second_factors::{
        self, Added, Confirmation, Login, SetUp,
        passkeys::{self, Challenge},
    },
    http::{
        context::Context,
        failure::{Failure, codes},
        json::{Answer, Body},
        security::Credentials,
    },
    model::{
        second_factor::{Factor, FactorOverview},
        user::User,
    },
    storage::users,
};

#[derive(Debug)]
pub struct SecondFactorsApi;

/// A second factor.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "SecondFactor", example)]
pub struct FactorData {
    pub id: String,
    /// `totp`, an authenticator app, or `passkey`. Later versions may add kinds.
    pub kind: String,
    /// The name that the user gave it.
    pub name: String,
    /// When it was added (RFC 3339, UTC).
    pub created_at: String,
    /// When it was last used to log in (RFC 3339, UTC); null if never.
    pub last_used_at: Option<String>,
}

impl From<Factor> for FactorData {
    fn from(factor: Factor) -> Self {
        Self {
            id: factor.id,
            kind: factor.kind.as_str().to_owned(),
            name: factor.name,
            created_at: factor.created_at.rfc3339(),
            last_used_at: factor.last_used_at.map(Timestamp::rfc3339),
        }
    }
}

impl Example for FactorData {
    fn example() -> Self {
        Self {
            id: "01a1fca5-0ae5-741a-b136-32b4b1af948e".to_owned(),
            kind: "totp".to_owned(),
            name: "Phone".to_owned(),
            created_at: "2026-11-21T04:22:00Z".to_owned(),
            last_used_at: None,
        }
    }
}

/// What a user has beside the password.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "SecondFactors", example)]
pub struct FactorsData {
    /// In order of creation.
    pub factors: Vec<FactorData>,
    /// The number of unused recovery codes.
    pub recovery_codes: u64,
    /// Whether the role of the user requires a second factor.
    pub required: bool,
}

impl From<FactorOverview> for FactorsData {
    fn from(overview: FactorOverview) -> Self {
        Self {
            factors: overview.factors.into_iter().map(From::from).collect(),
            recovery_codes: overview.recovery_codes.try_into().unwrap_or_default(),
            required: overview.is_required,
        }
    }
}

impl Example for FactorsData {
    fn example() -> Self {
        Self { factors: vec![FactorData::example()], recovery_codes: 10, required: false }
    }
}

/// An authenticator app to be set up.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct TotpSetup {
    /// To be sent with the first code.
    pub setup_token: String,
    /// The secret in Base32, for an app that cannot scan the QR code.
    pub secret: String,
    /// What the QR code says: `otpauth://totp/…` with SHA-1, six digits and 30 seconds.
    pub uri: String,
    /// The QR code as an SVG document.
    pub qr_code: String,
}

impl From<SetUp> for TotpSetup {
    fn from(set_up: SetUp) -> Self {
        let SetUp { token, secret, uri, qr_code } = set_up;
        Self { setup_token: token, secret, uri, qr_code }
    }
}

impl Example for TotpSetup {
    fn example() -> Self {
        let secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";
        Self {
            setup_token: "eyJlbmMiOiJBMjU2R0NNIiwia2lkIjoic2Vjb25k...".to_owned(),
            secret: secret.to_owned(),
            uri: format!(
                "otpauth://totp/id.example.org:vera%40example.org?secret={secret}&issuer=id.example.org\
                 &algorithm=SHA1&digits=6&period=30"
            ),
            qr_code: "<svg xmlns=\"http://www.w3.org/2000/svg\" ...".to_owned(),
        }
    }
}

/// The confirmation of an authenticator app.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct ConfirmTotp {
    pub setup_token: String,
    /// The code that the app shows.
    pub code: String,
    /// A name for it, at most 64 characters.
    #[serde(default)]
    #[oai(default)]
    pub name: String,
}

impl Example for ConfirmTotp {
    fn example() -> Self {
        Self {
            setup_token: TotpSetup::example().setup_token,
            code: "492039".to_owned(),
            name: "Phone".to_owned(),
        }
    }
}

/// A challenge for a passkey.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct PasskeyChallenge {
    /// To be sent with the browser's answer.
    pub passkey_token: String,
    /// For `PublicKeyCredential.parseCreationOptionsFromJSON` or `parseRequestOptionsFromJSON`
    /// (WebAuthn level 3).
    pub options: Value,
}

impl From<Challenge> for PasskeyChallenge {
    fn from(challenge: Challenge) -> Self {
        Self { passkey_token: challenge.token, options: challenge.options }
    }
}

/// The confirmation of a passkey.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct ConfirmPasskey {
    pub passkey_token: String,
    /// The answer of `navigator.credentials.create`, as `toJSON()` returns it.
    pub credential: Value,
    /// A name for it, at most 64 characters.
    #[serde(default)]
    #[oai(default)]
    pub name: String,
}

/// A second factor that was added.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct AddedFactor {
    pub factor: FactorData,
    /// Where it is the first factor: the recovery codes, shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[oai(default, skip_serializing_if_is_none)]
    pub recovery_codes: Option<Vec<String>>,
}

impl From<Added> for AddedFactor {
    fn from(added: Added) -> Self {
        Self { factor: added.factor.into(), recovery_codes: added.recovery_codes }
    }
}

impl Example for AddedFactor {
    fn example() -> Self {
        Self { factor: FactorData::example(), recovery_codes: None }
    }
}

/// Recovery codes, shown once.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct RecoveryCodes {
    pub recovery_codes: Vec<String>,
}

impl Example for RecoveryCodes {
    fn example() -> Self {
        Self { recovery_codes: vec!["7d3k-0hqa-mz4e-w8sv".to_owned()] }
    }
}

codes!(ReadErrors: InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);
codes!(BeginErrors: InvalidToken, InsufficientScope, CrossSite, InsufficientUserAuthentication, Conflict,
    RequestTimeout, Internal, Unavailable);
codes!(ConfirmErrors: Validation, MalformedJson, BadRequest, InvalidToken, InsufficientScope, CrossSite, InvalidCode,
    InvalidPasskey, InsufficientUserAuthentication, NotFound, Conflict, RequestTimeout, TooLarge, UnsupportedMediaType,
    TooManyRequests, Internal, Unavailable);
codes!(ChangeErrors: InvalidToken, InsufficientScope, CrossSite, InsufficientUserAuthentication, NotFound, Conflict,
    RequestTimeout, TooManyRequests, Internal, Unavailable);

#[OpenApi(prefix_path = "/api/v1/account", tag = "Tag::Authentication")]
impl SecondFactorsApi {
    /// List second factors
    ///
    /// Returns the current user's factors and the number of recovery codes.
    #[oai(path = "/second-factors", method = "get", operation_id = "listSecondFactors")]
    async fn list(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<FactorsData>, Failure<ReadErrors>> {
        let (user, _) = current(&context, credentials).await?;
        let overview = second_factors::overview(&context.app, &user.id).await?;
        Ok(Answer::new("Second factors listed.", overview.into()))
    }

    /// Set up an authenticator app
    ///
    /// Returns a secret, also as a QR code. Nothing is stored until a code confirms it. Needs a login
    /// of the last minutes (`second_factors.fresh_login`), with the second factor where the user has
    /// one; otherwise the answer is `INSUFFICIENT_USER_AUTHENTICATION`: log in again.
    #[oai(path = "/second-factors/totp", method = "post", operation_id = "setUpTotp")]
    async fn set_up(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<TotpSetup>, Failure<BeginErrors>> {
        let user = admitted(&context, credentials).await?;
        let set_up = second_factors::set_up(&context.app, &user)?;
        Ok(Answer::new("Scan the QR code and confirm it with a code.", set_up.into()))
    }

    /// Confirm an authenticator app
    ///
    /// Adds it if the code is right. From then on, logins of the user take a second step. The first
    /// factor comes with recovery codes.
    #[oai(path = "/second-factors/totp/confirm", method = "post", operation_id = "confirmTotp")]
    async fn confirm(
        &self,
        context: Context,
        credentials: Credentials,
        body: Body<ConfirmTotp>,
    ) -> Result<Answer<AddedFactor, 201>, Failure<ConfirmErrors>> {
        let (user, login) = current(&context, credentials).await?;
        let Body(ConfirmTotp { setup_token, code, name }) = body;
        let given = Confirmation::Totp { token: &setup_token, code: &code, name: &name };
        let added =
            second_factors::confirm(&context.app, &user.id, login, given, &context.caller).await?;
        Ok(Answer::new("Second factor added.", added.into()))
    }

    /// Set up a passkey
    ///
    /// Returns what the browser's WebAuthn API is called with. Needs a recent login, as an
    /// authenticator app does.
    #[oai(path = "/second-factors/passkeys", method = "post", operation_id = "setUpPasskey")]
    async fn set_up_passkey(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<PasskeyChallenge>, Failure<BeginErrors>> {
        let user = admitted(&context, credentials).await?;
        let challenge = passkeys::begin_registration(&context.app, &user).await?;
        Ok(Answer::new("Ask the browser for a new passkey.", challenge.into()))
    }

    /// Confirm a passkey
    ///
    /// Adds it if the answer is valid. It is a second factor, and logs in without a password. The
    /// first factor comes with recovery codes.
    #[oai(
        path = "/second-factors/passkeys/confirm",
        method = "post",
        operation_id = "confirmPasskey"
    )]
    async fn confirm_passkey(
        &self,
        context: Context,
        credentials: Credentials,
        body: Body<ConfirmPasskey>,
    ) -> Result<Answer<AddedFactor, 201>, Failure<ConfirmErrors>> {
        let (user, login) = current(&context, credentials).await?;
        let Body(ConfirmPasskey { passkey_token, credential, name }) = body;
        let credential = credential.to_string();
        let (token, credential) = (passkey_token.as_str(), credential.as_str());
        let given = Confirmation::Passkey { token, credential, name: &name };
        let added =
            second_factors::confirm(&context.app, &user.id, login, given, &context.caller).await?;
        Ok(Answer::new("Second factor added.", added.into()))
    }

    /// Remove a second factor
    ///
    /// Needs a recent login with the second factor. The last factor takes the recovery codes with
    /// it, and cannot be removed while the role of the user requires one. The last way to log in
    /// stays.
    #[oai(path = "/second-factors/:id", method = "delete", operation_id = "removeSecondFactor")]
    async fn remove(
        &self,
        context: Context,
        credentials: Credentials,
        /// The id of the factor.
        id: Path<String>,
    ) -> Result<Answer<Nothing>, Failure<ChangeErrors>> {
        let (user, login) = current(&context, credentials).await?;
        second_factors::remove(&context.app, &user.id, &id.0, login, &context.caller).await?;
        Ok(Answer::new("Second factor removed.", Nothing {}))
    }

    /// Renew the recovery codes
    ///
    /// Returns new ones, once; the earlier ones are no longer accepted. Needs a recent login with
    /// the second factor.
    #[oai(
        path = "/second-factors/recovery-codes",
        method = "post",
        operation_id = "renewRecoveryCodes"
    )]
    async fn renew(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<RecoveryCodes, 201>, Failure<ChangeErrors>> {
        let (user, login) = current(&context, credentials).await?;
        let codes =
            second_factors::renew_codes(&context.app, &user.id, login, &context.caller).await?;
        Ok(Answer::new("Recovery codes renewed.", RecoveryCodes { recovery_codes: codes }))
    }
}

/// The user, who has logged in recently enough to add a factor.
async fn admitted(context: &Context, credentials: Credentials) -> Result<User, ApiError> {
    let (app, (user, login)) = (&context.app, current(context, credentials).await?);
    let has_factor = !second_factors::overview(app, &user.id).await?.factors.is_empty();
    if second_factors::lack(app, login, has_factor).is_some() {
        let max_age = app.config.second_factors.fresh_login;
        return Err(Error::NeedsLogin { max_age, second_factor: has_factor }.into());
    }
    Ok(user)
}

/// The user of the access token, and how they have logged in.
pub(super) async fn current(
    context: &Context,
    credentials: Credentials,
) -> Result<(User, Login), ApiError> {
    let verified = credentials.account(&context.app).await?;
    let claims = &verified.claims;
    let user = users::by_id(&context.app.db, &claims.account_user()).await.map_err(Error::from)?;
    let user = user.filter(|user| user.disabled_at.is_none()).ok_or(Error::NoToken)?;
    Ok((user, Login::of_claims(claims)))
}

//! Passkeys (WebAuthn level 3): a second factor, and the only factor of a login, since the
//! authenticator always verifies its user.
//!
//! A ceremony is not stored: its challenge travels with the user as a sealed token, which is
//! accepted once.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;
use webauthn_rs::prelude::{
    AuthenticationResult, CreationChallengeResponse, DiscoverableAuthentication, DiscoverableKey,
    Passkey, PasskeyAuthentication, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, RequestChallengeResponse, Webauthn, WebauthnError,
};

use super::{Confirmed, name_of, proof::Proof, unseal};
use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    error::Error,
    ids::UserId,
    model::user::User,
    storage::{
        second_factors::{self as rows, PasskeyRow, Secret},
        single_use::{self, Kind},
    },
};

/// A challenge, and what the browser's WebAuthn API is called with.
#[derive(Debug)]
pub struct Challenge {
    /// Sent back with the answer.
    pub token: String,
    /// The JSON of `PublicKeyCredentialCreationOptions` or `PublicKeyCredentialRequestOptions`.
    pub options: Value,
}

/// What a ceremony is for: a token of one is worth nothing in another.
#[derive(Clone, Copy)]
enum Ceremony {
    Registration,
    SecondStep,
    Login,
}

impl Ceremony {
    const fn seal(self) -> &'static str {
        match self {
            Self::Registration => "passkey-registration",
            Self::SecondStep => "passkey-second-step",
            Self::Login => "passkey-login",
        }
    }
}

/// The content of [`Challenge::token`].
#[derive(Serialize, Deserialize)]
struct Sealed<S> {
    /// Empty for a login, whose user is not known.
    user_id: UserId,
    /// Of the challenge: accepted once.
    id: String,
    /// Microseconds since the epoch.
    at: i64,
    state: S,
}

/// Whether this server has passkeys: the issuer has a host name, which WebAuthn requires.
pub fn are_available(app: &App) -> bool {
    app.webauthn.is_some()
}

fn webauthn(app: &App) -> Result<&Webauthn, Error> {
    let unavailable = "there are no passkeys at this server: its issuer is an IP address";
    app.webauthn.as_ref().ok_or(Error::Conflict(unavailable))
}

fn failed(error: impl Into<crate::error::Cause>) -> Error {
    Error::Unavailable(error.into())
}

fn challenge<S: Serialize>(
    app: &App,
    ceremony: Ceremony,
    user_id: &UserId,
    state: S,
    options: &impl Serialize,
) -> Result<Challenge, Error> {
    let at = app.clock.now().micros();
    let sealed = Sealed { user_id: user_id.to_owned(), id: app.new_id(), at, state };
    let content = serde_json::to_vec(&sealed).map_err(failed)?;
    let options: Value = serde_json::to_value(options).map_err(failed)?;
    // The library wraps them as `navigator.credentials` takes them.
    let options = options.get("publicKey").cloned().unwrap_or_default();
    Ok(Challenge { token: app.keys.seal(ceremony.seal(), &content)?, options })
}

/// Opens the token of a ceremony of this user.
fn opened<S: DeserializeOwned>(
    app: &App,
    ceremony: Ceremony,
    user_id: &UserId,
    token: &str,
) -> Result<Sealed<S>, Error> {
    let content = unseal(app, ceremony.seal(), token);
    let sealed = content.and_then(|content| serde_json::from_slice::<Sealed<S>>(&content).ok());
    let sealed = sealed.filter(|sealed| sealed.user_id == *user_id);
    let sealed = sealed.filter(|sealed| ends_at(app, sealed.at) >= app.clock.now());
    sealed.ok_or_else(|| refused("the challenge has expired or is of another ceremony"))
}

fn ends_at(app: &App, at: i64) -> Timestamp {
    Timestamp(at) + app.config.second_factors.login_timeout
}

/// Uses a challenge up: a captured answer must not be accepted again.
async fn use_up(app: &App, user_id: &UserId, id: &str, at: i64) -> Result<(), Error> {
    if single_use::claim(&app.db, Kind::Passkey, user_id, id, ends_at(app, at)).await? {
        return Ok(());
    }
    Err(refused("the challenge was answered before"))
}

fn refused(why: &str) -> Error {
    diagnostics::record("passkey.refused", why);
    Error::InvalidPasskey
}

fn invalid(error: &WebauthnError) -> Error {
    refused(&error.to_string())
}

/// Reads what the browser answers.
fn answer<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|_| refused("the answer is not a credential"))
}

async fn passkeys_of(app: &App, user_id: &UserId) -> Result<Vec<(PasskeyRow, Passkey)>, Error> {
    let read = |row: PasskeyRow| -> Result<(PasskeyRow, Passkey), Error> {
        let passkey = serde_json::from_str(&row.credential).map_err(failed)?;
        Ok((row, passkey))
    };
    rows::passkeys_of(&app.db, user_id).await?.into_iter().map(read).collect()
}

/// Begins to add a passkey.
///
/// # Errors
/// [`Error::Conflict`] where this server has no passkeys.
pub async fn begin_registration(app: &App, user: &User) -> Result<Challenge, Error> {
    let webauthn = webauthn(app)?;
    let known = passkeys_of(app, &user.id).await?;
    let known = known.iter().map(|(_, passkey)| passkey.cred_id().clone()).collect();
    let handle = Uuid::parse_str(&user.id).map_err(failed)?;
    let name = user.username.as_deref().unwrap_or(&user.email);
    let begun = webauthn.start_passkey_registration(handle, &user.email, name, Some(known));
    let (options, state): (CreationChallengeResponse, PasskeyRegistration) =
        begun.map_err(failed)?;
    let mut challenge = challenge(app, Ceremony::Registration, &user.id, state, &options)?;
    // Discoverable: the login form offers it without a name (WebAuthn §5.4.6).
    let selection = &mut challenge.options["authenticatorSelection"];
    selection["residentKey"] = "required".into();
    selection["requireResidentKey"] = true.into();
    Ok(challenge)
}

/// Checks a new passkey.
///
/// # Errors
/// [`Error::InvalidPasskey`]; [`Error::Validation`] for the name.
pub(crate) async fn confirm_registration(
    app: &App,
    user_id: &UserId,
    token: &str,
    credential: &str,
    name: &str,
) -> Result<Confirmed, Error> {
    let name = name_of(name, "Passkey")?;
    let webauthn = webauthn(app)?;
    let sealed = opened::<PasskeyRegistration>(app, Ceremony::Registration, user_id, token)?;
    let credential: RegisterPublicKeyCredential = answer(credential)?;
    let passkey = webauthn
        .finish_passkey_registration(&credential, &sealed.state)
        .map_err(|error| invalid(&error))?;
    use_up(app, user_id, &sealed.id, sealed.at).await?;
    let credential_id: &[u8] = passkey.cred_id().as_ref();
    let credential_id = credential_id.to_vec();
    let credential = serde_json::to_string(&passkey).map_err(failed)?;
    Ok(Confirmed { id: sealed.id, name, secret: Secret::Passkey { credential_id, credential } })
}

/// Asks a user for one of their passkeys; `None` for a user without any.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn begin_second_step(app: &App, user_id: &UserId) -> Result<Option<Challenge>, Error> {
    let Some(webauthn) = &app.webauthn else { return Ok(None) };
    let known: Vec<_> =
        passkeys_of(app, user_id).await?.into_iter().map(|(_, passkey)| passkey).collect();
    if known.is_empty() {
        return Ok(None);
    }
    let begun = webauthn.start_passkey_authentication(&known);
    let (options, state): (RequestChallengeResponse, PasskeyAuthentication) =
        begun.map_err(failed)?;
    Ok(Some(challenge(app, Ceremony::SecondStep, user_id, state, &options)?))
}

/// Checks the passkey of a second step.
///
/// # Errors
/// [`Error::InvalidPasskey`].
pub(crate) async fn check(
    app: &App,
    user_id: &UserId,
    token: &str,
    credential: &str,
) -> Result<Proof, Error> {
    let webauthn = webauthn(app)?;
    let sealed = opened::<PasskeyAuthentication>(app, Ceremony::SecondStep, user_id, token)?;
    let credential: PublicKeyCredential = answer(credential)?;
    let result = webauthn
        .finish_passkey_authentication(&credential, &sealed.state)
        .map_err(|error| invalid(&error))?;
    use_up(app, user_id, &sealed.id, sealed.at).await?;
    proof(app, user_id, &result).await
}

/// Asks for any passkey of this server; `None` where it has no passkeys.
///
/// # Errors
/// [`Error::Unavailable`].
pub fn begin_login(app: &App) -> Result<Option<Challenge>, Error> {
    let Some(webauthn) = &app.webauthn else { return Ok(None) };
    let begun = webauthn.start_discoverable_authentication();
    let (options, state): (RequestChallengeResponse, DiscoverableAuthentication) =
        begun.map_err(failed)?;
    Ok(Some(challenge(app, Ceremony::Login, &UserId::default(), state, &options)?))
}

/// Checks the passkey of a login without a password; returns the id of its user.
///
/// # Errors
/// [`Error::InvalidPasskey`].
pub(crate) async fn identify(
    app: &App,
    token: &str,
    credential: &str,
) -> Result<(UserId, Proof), Error> {
    let webauthn = webauthn(app)?;
    let nobody = UserId::default();
    let sealed = opened::<DiscoverableAuthentication>(app, Ceremony::Login, &nobody, token)?;
    let credential: PublicKeyCredential = answer(credential)?;
    let identified = webauthn.identify_discoverable_authentication(&credential);
    let (handle, _) = identified.map_err(|error| invalid(&error))?;
    let user_id = UserId::from(handle.to_string());
    diagnostics::identify_user(&user_id);
    let known = passkeys_of(app, &user_id).await?;
    let known: Vec<_> = known.iter().map(|(_, passkey)| DiscoverableKey::from(passkey)).collect();
    let result = webauthn
        .finish_discoverable_authentication(&credential, sealed.state, &known)
        .map_err(|error| invalid(&error))?;
    use_up(app, &nobody, &sealed.id, sealed.at).await?;
    let proof = proof(app, &user_id, &result).await?;
    Ok((user_id, proof))
}

/// What a verified answer proves. The signature counter goes into the row, by compare-and-swap
/// ([`Proof::accept`]): a clone is recognised (WebAuthn §6.1.1).
async fn proof(app: &App, user_id: &UserId, result: &AuthenticationResult) -> Result<Proof, Error> {
    if !result.user_verified() {
        return Err(refused("the authenticator has not verified its user"));
    }
    let known = passkeys_of(app, user_id).await?.into_iter();
    let mut known = known.filter(|(_, passkey)| passkey.cred_id() == result.cred_id());
    let (row, mut passkey) = known.next().ok_or_else(|| refused("the passkey was removed"))?;
    passkey.update_credential(result);
    let credential = serde_json::to_string(&passkey).map_err(failed)?;
    // A passkey that can be copied to other devices is no key of one hardware (RFC 8176 §2).
    Ok(Proof::of_passkey(row, credential, !result.backup_eligible()))
}

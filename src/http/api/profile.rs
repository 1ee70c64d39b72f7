//! `/api/v1/account`: the profile, the password and the username of the current user.

use std::borrow::Cow;

use poem_openapi::{
    Object, OpenApi,
    registry::{MetaSchemaRef, Registry},
    types::{Example, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{
    Tag,
    auth::check_rate_limit,
    data::{Nothing, UserData},
    second_factors::current,
};
use crate::{
    error::Error,
    flows::accounts::{
        change::{self, Owner, Present},
        profile,
    },
    http::{
        context::Context,
        failure::{Failure, codes},
        json::{Answer, Body, unique_members},
        security::Credentials,
    },
    model::profile::UserProfile,
};

#[derive(Debug)]
pub struct ProfileApi;

codes!(ReadErrors: InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);
codes!(ProfileErrors: Validation, MalformedJson, BadRequest, InvalidToken, InsufficientScope, CrossSite, NotFound,
    RequestTimeout, TooLarge, UnsupportedMediaType, TooManyRequests, Internal, Overloaded, Unavailable);
codes!(PasswordErrors: Validation, MalformedJson, BadRequest, InvalidToken, InsufficientScope, InvalidCredentials, CrossSite,
    InsufficientUserAuthentication, NotFound, Conflict, RequestTimeout, TooLarge, UnsupportedMediaType, TooManyRequests,
    Internal, Overloaded, Unavailable);
codes!(UsernameErrors: Validation, MalformedJson, BadRequest, InvalidToken, InsufficientScope, InvalidCredentials, CrossSite,
    InsufficientUserAuthentication, NotFound, UsernameExists, Conflict, RequestTimeout, TooLarge, UnsupportedMediaType, TooManyRequests,
    Internal, Overloaded, Unavailable);

#[OpenApi(prefix_path = "/api/v1/account", tag = "Tag::Account")]
impl ProfileApi {
    /// Get the profile
    ///
    /// Returns the current user's profile: the claims in use (`profile.claims`) that have a value.
    #[oai(path = "/profile", method = "get", operation_id = "getProfile")]
    async fn profile(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<ProfileObject>, Failure<ReadErrors>> {
        let (user, _) = current(&context, credentials).await?;
        let profile = profile::of(&context.app, &user.id).await?;
        Ok(Answer::new("Profile found.", profile.into()))
    }

    /// Change the profile
    ///
    /// A JSON Merge Patch (RFC 7396): a claim that is absent keeps its value, null removes it, and
    /// the members of `address` are changed one by one. Applications get the new values with their
    /// next request.
    #[oai(path = "/profile", method = "patch", operation_id = "updateProfile")]
    async fn update_profile(
        &self,
        context: Context,
        credentials: Credentials,
        body: Body<ProfileObject>,
    ) -> Result<Answer<ProfileObject>, Failure<ProfileErrors>> {
        let (user, _) = current(&context, credentials).await?;
        let Context { app, caller } = &context;
        let profile = profile::update(app, &user.id, &body.0.0, caller).await?;
        Ok(Answer::new("Profile changed.", profile.into()))
    }

    /// Change the password
    ///
    /// Every other session and refresh token of the user ends, and a mail tells them where mails are
    /// sent; the session of the access token goes on. A user with a second factor needs a login of
    /// the last minutes with it (`second_factors.fresh_login`); otherwise the answer is
    /// `INSUFFICIENT_USER_AUTHENTICATION`: log in again.
    #[oai(path = "/password", method = "post", operation_id = "changePassword")]
    async fn change_password(
        &self,
        context: Context,
        credentials: Credentials,
        body: Body<ChangePasswordRequest>,
    ) -> Result<Answer<Nothing>, Failure<PasswordErrors>> {
        check_rate_limit(&context)?;
        let Context { app, caller } = &context;
        let sid = credentials.account(app).await?.claims.sid.clone().ok_or(Error::NoToken)?;
        let (user, login) = current(&context, credentials).await?;
        let ChangePasswordRequest { current_password, new_password } = body.0;
        let owner = Owner { user: &user, current_password: &current_password, login };
        let present = Present::Session(&sid);
        change::password(app, owner, &new_password, present, caller).await?;
        Ok(Answer::new("The password is changed.", Nothing {}))
    }

    /// Change the username
    ///
    /// Sessions go on. The old name is free at once: anybody may take it. A user with a second factor
    /// needs a recent login with it, as for the password.
    #[oai(path = "/username", method = "patch", operation_id = "changeUsername")]
    async fn change_username(
        &self,
        context: Context,
        credentials: Credentials,
        body: Body<ChangeUsernameRequest>,
    ) -> Result<Answer<UserData>, Failure<UsernameErrors>> {
        check_rate_limit(&context)?;
        let (user, login) = current(&context, credentials).await?;
        let Context { app, caller } = &context;
        let ChangeUsernameRequest { username, current_password } = body.0;
        let owner = Owner { user: &user, current_password: &current_password, login };
        let user = change::username(app, owner, username.as_deref(), caller).await?;
        Ok(Answer::new("The username is changed.", user.into()))
    }
}

/// A change of the password.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename_all = "camelCase", example)]
struct ChangePasswordRequest {
    /// The present password.
    current_password: String,
    /// The new one. At most 1024 bytes, without control characters.
    new_password: String,
}

impl Example for ChangePasswordRequest {
    fn example() -> Self {
        Self {
            current_password: "seven blue herons at dawn".to_owned(),
            new_password: "nine grey geese at dusk".to_owned(),
        }
    }
}

/// A change of the username.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename_all = "camelCase", example)]
struct ChangeUsernameRequest {
    /// 3 to 32 letters, digits, dots, hyphens and underscores; null removes the username.
    #[serde(deserialize_with = "Option::deserialize")]
    username: Option<String>,
    /// The present password.
    current_password: String,
}

impl Example for ChangeUsernameRequest {
    fn example() -> Self {
        Self {
            username: Some("vera".to_owned()),
            current_password: "seven blue herons at dawn".to_owned(),
        }
    }
}

/// The claims about a user that are neither the email address nor the username (OpenID Connect Core
/// §5.1). A deployment uses some of them (`profile.claims`).
#[derive(Debug, Default, Object)]
#[oai(rename = "Profile", skip_serializing_if_is_none)]
pub struct ProfileData {
    /// The full name, as it is shown.
    name: Option<String>,
    /// The given names.
    given_name: Option<String>,
    /// The surnames.
    family_name: Option<String>,
    /// The middle names.
    middle_name: Option<String>,
    /// A casual name.
    nickname: Option<String>,
    /// The name to be called by at an application; not unique.
    preferred_username: Option<String>,
    /// The URL of a page about the user; https.
    profile: Option<String>,
    /// The URL of a picture of the user; https.
    picture: Option<String>,
    /// The URL of the user's own site; https.
    website: Option<String>,
    /// `female`, `male` or another text.
    gender: Option<String>,
    /// `YYYY-MM-DD`, `0000-MM-DD` without the year, or `YYYY`.
    birthdate: Option<String>,
    /// A time zone of the IANA database, such as `Europe/Paris`.
    zoneinfo: Option<String>,
    /// A language tag (BCP 47), such as `en-US`.
    locale: Option<String>,
    /// With + and the country code (E.164).
    phone_number: Option<String>,
    /// Whether the phone number was verified; only administrators can set it.
    phone_number_verified: Option<bool>,
    /// The postal address.
    address: Option<AddressData>,
    /// When the user's data was last changed, in seconds since the Unix epoch. Read only.
    updated_at: Option<i64>,
}

/// A postal address (OpenID Connect Core §5.1.1).
#[derive(Debug, Object)]
#[oai(rename = "Address", skip_serializing_if_is_none)]
pub struct AddressData {
    /// The whole address, as on a label.
    formatted: Option<String>,
    /// Street and house number, in several lines if need be.
    street_address: Option<String>,
    locality: Option<String>,
    region: Option<String>,
    postal_code: Option<String>,
    country: Option<String>,
}

/// A profile or a change of one: an object with the members of [`ProfileData`], each of which may be
/// null in a change.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProfileObject(
    #[serde(deserialize_with = "unique")] pub(in crate::http::api) Map<String, Value>,
);

fn unique<'de, D: Deserializer<'de>>(from: D) -> Result<Map<String, Value>, D::Error> {
    Ok(unique_members(from)?.into_iter().collect())
}

impl From<UserProfile> for ProfileObject {
    fn from(profile: UserProfile) -> Self {
        Self(profile.into_map())
    }
}

impl Type for ProfileObject {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        ProfileData::name()
    }

    fn schema_ref() -> MetaSchemaRef {
        ProfileData::schema_ref()
    }

    fn register(registry: &mut Registry) {
        ProfileData::register(registry);
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromJSON for ProfileObject {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        Ok(serde_json::from_value(value.unwrap_or_default())?)
    }
}

impl ToJSON for ProfileObject {
    fn to_json(&self) -> Option<Value> {
        Some(Value::Object(self.0.clone()))
    }
}

//! `/api/v1/admin/users`: user accounts.

use serde::Deserializer;

use super::{
    prelude::*,
    reply::{Conflict, Create, JsonBody},
};
use crate::{
    flows::{
        accounts::{register::Registration, second_factors},
        admin::users::{self, UserChanges},
        upstream::identity,
    },
    http::api::{
        data::Nothing, identities::IdentityData, profile::ProfileObject,
        second_factors::FactorsData,
    },
    ids::UserId,
    model::{
        saga::Saga,
        user::{Role, UserRecord, canonical},
    },
    storage::{
        sagas, users as rows,
        users::{TextMatch, UserFilter},
    },
};

#[derive(Clone, Debug, Default)]
pub struct UsersApi;

errors! {
    Taken: EmailExists, UsernameExists;
    Creation: UserCreate, Overloaded;
    Overloaded: Overloaded;
}

#[OpenApi(prefix_path = "/api/v1/admin/users", tag = "Tag::Administration")]
impl UsersApi {
    /// List users
    ///
    /// In order of creation. A filter by email address or username that ends in `*` matches a
    /// prefix.
    #[oai(path = "/", method = "get", operation_id = "adminListUsers")]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        admin: Admin,
        /// An email address, or a prefix: `vera*`.
        email: Query<String>,
        /// A username, or a prefix: `ve*`.
        username: Query<String>,
        /// The name of a role.
        role: Query<String>,
        /// Whether the account is disabled.
        disabled: Query<bool>,
        /// The id in the system that a user was imported from.
        #[oai(name = "externalId")]
        external_id: Query<String>,
        page: Paging,
    ) -> List<UserDetails> {
        let filter = UserFilter {
            email: email.0.as_deref().map(matching),
            username: username.0.as_deref().map(matching),
            role: role.0,
            disabled: disabled.0,
            external_id: external_id.0,
        };
        let after = page.after().unwrap_or_default();
        let found = rows::page(&admin.app.db, &filter, after, page.rows()).await;
        Ok(page.answer("users", found, |account| account.user.id.to_string())?)
    }

    /// Create a user
    ///
    /// The account is enabled and its email address unverified.
    #[oai(path = "/", method = "post", operation_id = "adminCreateUser")]
    async fn create(
        &self,
        admin: Admin,
        idempotency_key: IdempotencyKey,
        body: Body<CreateUser>,
    ) -> Create<UserWithPassword, (Creation, Taken)> {
        let request = idempotency_key.request(&admin, "user.add", &body.0)?;
        let Body(CreateUser { email, username, password, role }) = body;
        let role = role.as_deref().map_or(Ok(Role::user()), role_named)?;
        let (password, generated) = users::or_generated(&admin.app, password);
        let new = Registration { email, username, password };
        let created = users::create(&admin.app, new, role, request, &admin.actor).await?;
        Ok(created.with_secret(generated).into())
    }

    /// Get a user
    ///
    /// The `ETag` of the response goes into `If-Match` of a change.
    #[oai(path = "/:id", method = "get", operation_id = "adminGetUser")]
    async fn get(&self, admin: Admin, id: Path<UserId>) -> Get<UserDetails> {
        Ok(WithEtag::new("user", users::by_id(&admin.app, &id.0).await?))
    }

    /// Get the saga of a registration
    ///
    /// Whether the user service may still refuse the account, or has refused it. It is found for a
    /// while after the account was deleted.
    #[oai(path = "/:id/saga", method = "get", operation_id = "adminGetUserSaga")]
    async fn saga(
        &self,
        admin: Admin,
        id: Path<UserId>,
    ) -> Reply<Answer<SagaData>, (Read, NotFound)> {
        let found = sagas::of_user(&admin.app.db, &id.0).await.map_err(Error::from)?;
        Ok(Answer::new("saga", found.ok_or(Error::NotFound("saga"))?.into()))
    }

    /// Update a user
    ///
    /// Where the role changes, access tokens that carry the old one are refused at once.
    #[oai(path = "/:id", method = "patch", operation_id = "adminUpdateUser")]
    async fn update(
        &self,
        admin: Admin,
        id: Path<UserId>,
        if_match: IfMatch,
        body: Body<UpdateUser>,
    ) -> Update<UserDetails, (Taken, Conflict)> {
        let changes = body.0.changes()?;
        let update = users::update(&admin.app, &id.0, &if_match.0, changes, &admin.actor);
        Ok(WithEtag::new("updated", update.await?))
    }

    /// Delete a user
    ///
    /// Deletes the user's sessions, consents and module grants, and refuses all of the user's
    /// tokens at once. The audit log and the outbox keep ids only. A later registration with the
    /// same email address is another user.
    #[oai(path = "/:id", method = "delete", operation_id = "adminDeleteUser")]
    async fn delete(&self, admin: Admin, id: Path<UserId>, if_match: IfMatch) -> Delete<Conflict> {
        users::delete(&admin.app, &id.0, &if_match.0, &admin.actor).await?;
        Ok(deleted())
    }

    /// Disable a user
    ///
    /// Logins are refused, all sessions are revoked, and their tokens are refused at once.
    #[oai(path = "/:id/disable", method = "post", operation_id = "adminDisableUser")]
    async fn disable(
        &self,
        admin: Admin,
        id: Path<UserId>,
    ) -> Act<WithEtag<UserDetails>, Conflict> {
        let account = users::disable(&admin.app, &id.0, &admin.actor).await?;
        Ok(WithEtag::new("disabled", account))
    }

    /// Enable a user
    ///
    /// Revoked sessions stay revoked.
    #[oai(path = "/:id/enable", method = "post", operation_id = "adminEnableUser")]
    async fn enable(&self, admin: Admin, id: Path<UserId>) -> Act<WithEtag<UserDetails>, Conflict> {
        let account = users::enable(&admin.app, &id.0, &admin.actor).await?;
        Ok(WithEtag::new("enabled", account))
    }

    /// Set a user's password
    ///
    /// All sessions of the user are revoked.
    #[oai(path = "/:id/password", method = "post", operation_id = "adminSetPassword")]
    async fn set_password(
        &self,
        admin: Admin,
        id: Path<UserId>,
        body: Body<SetPassword>,
    ) -> Act<WithEtag<UserWithPassword>, (JsonBody, Overloaded)> {
        let (password, generated) = users::or_generated(&admin.app, body.0.password);
        let account = users::set_password(&admin.app, &id.0, &password, &admin.actor).await?;
        Ok(WithEtag::new("password set", (account, generated)))
    }

    /// List a user's second factors
    ///
    /// Without their secrets, and with the number of unused recovery codes.
    #[oai(path = "/:id/factors", method = "get", operation_id = "adminListUserFactors")]
    async fn factors(
        &self,
        admin: Admin,
        id: Path<UserId>,
    ) -> Reply<Answer<FactorsData>, (Read, NotFound)> {
        let user = users::by_id(&admin.app, &id.0).await?.user;
        let overview = second_factors::overview(&admin.app, &user.id).await?;
        Ok(Answer::new("second factors", overview.into()))
    }

    /// Reset a user's second factors
    ///
    /// Removes every second factor and recovery code of a user who has lost them: verify by another
    /// way who asks for it. The next login takes the password only; where a second factor is
    /// required, the user sets one up then. Sessions stay open.
    #[oai(path = "/:id/factors", method = "delete", operation_id = "adminResetUserFactors")]
    async fn reset_factors(&self, admin: Admin, id: Path<UserId>) -> Act<Answer<Nothing>> {
        second_factors::reset(&admin.app, &id.0, &admin.actor).await?;
        Ok(Answer::new("second factors reset", Nothing {}))
    }

    /// List a user's identities
    ///
    /// Those at other OpenID providers, at which the user logs in.
    #[oai(path = "/:id/identities", method = "get", operation_id = "adminListUserIdentities")]
    async fn identities(
        &self,
        admin: Admin,
        id: Path<UserId>,
    ) -> Reply<Answer<Vec<IdentityData>>, (Read, NotFound)> {
        let user = users::by_id(&admin.app, &id.0).await?.user;
        let identities = identity::of_user(&admin.app, &user.id).await?.into_iter();
        let data = identities.map(|one| IdentityData::of(&admin.app, one)).collect();
        Ok(Answer::new("identities", data))
    }

    /// Unlink a user's identity
    ///
    /// Also the last way to log in. Sessions stay open.
    #[oai(
        path = "/:id/identities/:identity",
        method = "delete",
        operation_id = "adminUnlinkUserIdentity"
    )]
    async fn unlink_identity(
        &self,
        admin: Admin,
        id: Path<UserId>,
        identity: Path,
    ) -> Act<Answer<Nothing>> {
        identity::unlink(&admin.app, &id.0, &identity.0, &admin.actor).await?;
        Ok(Answer::new("identity unlinked", Nothing {}))
    }

    /// Log a user out everywhere
    ///
    /// All sessions in browsers and applications are revoked, and their tokens are refused at once.
    #[oai(path = "/:id/logout", method = "post", operation_id = "adminLogOutUser")]
    async fn log_out(&self, admin: Admin, id: Path<UserId>) -> Act<Answer<Nothing>, Conflict> {
        users::log_out(&admin.app, &id.0, &admin.actor).await?;
        Ok(Answer::new("logged out everywhere", Nothing {}))
    }
}

/// A user account, as administrators see it.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct UserDetails {
    /// The `sub` of the user's tokens.
    pub id: String,
    pub email: String,
    /// The username, if there is one.
    pub username: Option<String>,
    /// `user`, `admin`, or another role of this deployment.
    pub role: String,
    /// Whether the email address is verified.
    pub is_verified: bool,
    /// Creation time (RFC 3339).
    pub created_at: String,
    /// Time of the last change (RFC 3339).
    pub updated_at: String,
    /// Time of the last login by password (RFC 3339).
    pub last_login_at: Option<String>,
    /// When the account was disabled (RFC 3339); null: it is enabled.
    pub disabled_at: Option<String>,
    /// When the account is deleted (RFC 3339), as its user has requested; null: it is not.
    pub deletion_at: Option<String>,
    /// The version of the terms that the user has accepted last; null: none.
    pub terms_version: Option<String>,
    /// When (RFC 3339).
    pub terms_accepted_at: Option<String>,
    /// The id in the system that the user was imported from.
    pub external_id: Option<String>,
    /// The profile; also of claims that are no longer in use.
    pub profile: ProfileObject,
}

impl From<UserRecord> for UserDetails {
    fn from(account: UserRecord) -> Self {
        let user = account.user;
        let (terms_version, terms_accepted_at) =
            account.terms.map(|terms| (terms.version, terms.at.rfc3339())).unzip();
        Self {
            terms_version,
            terms_accepted_at,
            id: user.id.into(),
            email: user.email,
            username: user.username,
            role: user.role.as_str().to_owned(),
            is_verified: user.is_verified,
            created_at: user.created_at.rfc3339(),
            updated_at: account.updated_at.rfc3339(),
            last_login_at: account.last_login_at.map(Timestamp::rfc3339),
            disabled_at: user.disabled_at.map(Timestamp::rfc3339),
            deletion_at: account.deletion.map(|deletion| deletion.at.rfc3339()),
            external_id: account.external_id,
            profile: account.profile.into(),
        }
    }
}

example!(UserDetails, {
    "id": "01a1fca5-0ae5-741a-b136-32b4b1af948c",
    "email": "vera@example.org",
    "username": "vera",
    "role": "user",
    "isVerified": true,
    "createdAt": "2026-11-21T04:22:00Z",
    "updatedAt": "2026-11-21T04:30:00Z",
    "lastLoginAt": null,
    "disabledAt": null,
    "deletionAt": null,
    "termsVersion": "2026-11",
    "termsAcceptedAt": "2026-11-21T04:22:00Z",
    "externalId": null,
    "profile": { "name": "Vera Brown", "locale": "en" }
});

/// The saga of a registration: the user service creates a profile, and may refuse the account.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename = "Saga", rename_all = "camelCase", example)]
pub struct SagaData {
    pub id: String,
    pub user_id: String,
    /// The correlation id of the request that created the account.
    pub correlation_id: Option<String>,
    /// `started`, `published` (the user service was told), `closed` (the account stays),
    /// `compensating` (the account is deleted, its profile is to be) or `compensated` (both are).
    pub state: String,
    /// Creation time (RFC 3339).
    pub created_at: String,
    /// When the account can no longer be refused, or the next call is due (RFC 3339).
    pub ends_at: String,
    /// When the saga ended (RFC 3339); null: it has not.
    pub closed_at: Option<String>,
}

impl From<Saga> for SagaData {
    fn from(saga: Saga) -> Self {
        Self {
            id: saga.id,
            user_id: saga.user_id.into(),
            correlation_id: saga.correlation_id,
            state: saga.state.as_str().to_owned(),
            created_at: saga.created_at.rfc3339(),
            ends_at: saga.next_at.rfc3339(),
            closed_at: saga.closed_at.map(Timestamp::rfc3339),
        }
    }
}

example!(SagaData, {
    "id": "01a1fca5-0ae5-741a-b136-32b4b1af948d",
    "userId": "01a1fca5-0ae5-741a-b136-32b4b1af948c",
    "correlationId": "4f1c2d0e",
    "state": "published",
    "createdAt": "2026-11-21T04:22:00Z",
    "endsAt": "2026-11-22T04:22:00Z",
    "closedAt": null
});

/// The user to create.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(skip_serializing_if_is_none, example)]
pub struct CreateUser {
    /// The email address, by which the user can log in.
    pub email: String,
    /// The username, by which the user can log in as well.
    pub username: Option<String>,
    /// Generated if absent, and shown once in the response.
    pub password: Option<String>,
    /// `user` if absent.
    pub role: Option<String>,
}

example!(CreateUser, { "email": "vera@example.org", "username": "vera", "role": "user" });

/// The fields to change; an absent field keeps its value.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(skip_serializing_if_is_none, rename_all = "camelCase", example)]
pub struct UpdateUser {
    /// A new email address is unverified unless `isVerified` says otherwise.
    pub email: Option<String>,
    /// null removes the username.
    #[serde(default, deserialize_with = "present")]
    pub username: Option<Option<String>>,
    /// Access tokens that carry the old role are refused at once; sessions continue with the new
    /// one.
    pub role: Option<String>,
    /// Whether the email address is verified.
    pub is_verified: Option<bool>,
    /// A JSON Merge Patch (RFC 7396) of the profile: null removes a claim, an absent one keeps its
    /// value.
    pub profile: Option<ProfileObject>,
}

impl UpdateUser {
    fn changes(self) -> Result<UserChanges, Error> {
        let Self { email, username, role, is_verified, profile } = self;
        let role = role.as_deref().map(role_named).transpose()?;
        let profile = profile.map(|profile| profile.0).unwrap_or_default();
        Ok(UserChanges { email, username, role, is_verified, profile })
    }
}

example!(UpdateUser, { "role": "admin", "isVerified": true });

/// Tells null from an absent field.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// The password to set.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(skip_serializing_if_is_none)]
pub struct SetPassword {
    /// Generated if absent, and shown once in the response.
    pub password: Option<String>,
}

/// A user, with the password that was generated.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(skip_serializing_if_is_none, example)]
pub struct UserWithPassword {
    pub user: UserDetails,
    /// Shown once and stored as a hash only; absent unless this request has generated it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

impl From<(UserRecord, Option<String>)> for UserWithPassword {
    fn from((account, password): (UserRecord, Option<String>)) -> Self {
        Self { user: account.into(), password }
    }
}

impl Example for UserWithPassword {
    fn example() -> Self {
        Self { user: Example::example(), password: Some("cGxlYXNlLCBhIG5ldyBvbmU...".to_owned()) }
    }
}

fn matching(text: &str) -> TextMatch {
    match text.strip_suffix('*') {
        Some(prefix) => TextMatch::Prefix(canonical(prefix.trim_start())),
        None => TextMatch::Whole(canonical(text.trim())),
    }
}

pub(super) fn role_named(name: &str) -> Result<Role, Error> {
    Role::parse(name).map_err(|why| Error::field("role", why))
}

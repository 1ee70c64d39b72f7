//! `/api/v1/admin/users`: accounts.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use poem_openapi::{Object, OpenApi, types::Example};
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    guard::Admin,
    params::{Cursor, IdempotencyKey, IfMatch, Limit, Page, Path, Query},
    tagged::Tagged,
};
use crate::{
    app::App,
    error::{Error, FieldError},
    flows::{
        accounts::register::Registration,
        admin::{
            idempotency::Made,
            users::{self, Changes},
        },
    },
    http::{
        api::{Chapter, data::Nothing},
        context::Context,
        failure::{Failure, codes},
        json::{Answer, Body},
    },
    model::user::{Role, UserRecord, canonical},
    storage::users::{self as rows, TextMatch, UserFilter},
};

#[derive(Clone, Debug)]
pub struct UsersApi;

codes!(ListErrors: Validation, InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);
codes!(GetErrors: Validation, InvalidToken, InsufficientScope, NotFound, RequestTimeout, Internal, Unavailable);
codes!(CreateErrors: Validation, MalformedJson, UserCreate, InvalidToken, InsufficientScope, CrossSite, RequestTimeout,
    EmailExists, UsernameExists, TooLarge, UnsupportedMediaType, NotFound, KeyReused, Internal, Overloaded, Unavailable);
codes!(ChangeErrors: Validation, MalformedJson, InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout,
    EmailExists, UsernameExists, Conflict, PreconditionFailed, PreconditionRequired, TooLarge, UnsupportedMediaType,
    Internal, Unavailable);
codes!(DeleteErrors: Validation, InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout, Conflict,
    PreconditionFailed, PreconditionRequired, Internal, Unavailable);
codes!(ActErrors: Validation, InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout, Conflict, Internal,
    Unavailable);
codes!(PasswordErrors: Validation, MalformedJson, InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout,
    TooLarge, UnsupportedMediaType, Internal, Overloaded, Unavailable);

/// An account, as it is shown to those who look after it.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Account", example)]
pub struct AccountData {
    /// The `sub` of its tokens.
    pub id: String,
    /// The email address.
    pub email: String,
    /// The username, if there is one.
    pub username: Option<String>,
    /// `user`, `admin`, or a role of the installation's own.
    pub role: String,
    /// Whether the address was proven to be theirs.
    pub is_verified: bool,
    /// When the account was made (RFC 3339).
    pub created_at: String,
    /// When it was changed last (RFC 3339).
    pub updated_at: String,
    /// When somebody logged in by its password last (RFC 3339).
    pub last_login_at: Option<String>,
    /// Since when nobody can log in to it (RFC 3339); null: it is enabled.
    pub disabled_at: Option<String>,
}

impl From<UserRecord> for AccountData {
    fn from(account: UserRecord) -> Self {
        let user = account.user;
        Self {
            id: user.id,
            email: user.email,
            username: user.username,
            role: user.role.as_str().to_owned(),
            is_verified: user.is_verified,
            created_at: user.created_at.rfc3339(),
            updated_at: account.updated_at.rfc3339(),
            last_login_at: account.last_login_at.map(|at| at.rfc3339()),
            disabled_at: user.disabled_at.map(|at| at.rfc3339()),
        }
    }
}

impl Example for AccountData {
    fn example() -> Self {
        Self {
            id: "01a1fca5-0ae5-741a-b136-32b4b1af948c".to_owned(),
            email: "vera@example.org".to_owned(),
            username: Some("vera".to_owned()),
            role: "user".to_owned(),
            is_verified: true,
            created_at: "2026-11-21T04:22:00Z".to_owned(),
            updated_at: "2026-11-21T04:30:00Z".to_owned(),
            last_login_at: None,
            disabled_at: None,
        }
    }
}

/// An account to be made.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
pub struct NewAccount {
    /// The address to log in with.
    pub email: String,
    /// A name to log in with instead.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub username: Option<String>,
    /// Without one, one is made up and shown once, in this call's answer.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub password: Option<String>,
    /// `user` where it is left out.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub role: Option<String>,
}

impl Example for NewAccount {
    fn example() -> Self {
        Self {
            email: "vera@example.org".to_owned(),
            username: Some("vera".to_owned()),
            password: None,
            role: Some("user".to_owned()),
        }
    }
}

/// What shall change; a field that is left out stays as it is.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename_all = "camelCase", example)]
pub struct AccountChange {
    /// A new address counts as not verified, unless `isVerified` says otherwise.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub email: Option<String>,
    /// null takes it away.
    #[serde(default, deserialize_with = "present")]
    #[oai(default, skip_serializing_if_is_none)]
    pub username: Option<Option<String>>,
    /// Access tokens that carry the old role are refused at once; sessions go on with the new one.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub role: Option<String>,
    /// Whether the address was proven to be theirs.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub is_verified: Option<bool>,
}

impl Example for AccountChange {
    fn example() -> Self {
        Self {
            email: None,
            username: None,
            role: Some("admin".to_owned()),
            is_verified: Some(true),
        }
    }
}

/// Tells null from what was left out.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// A new password.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// Without one, one is made up and shown once, in this call's answer.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub password: Option<String>,
}

/// An account, and the password that was made up for it.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct AccountWithPassword {
    /// The account.
    pub user: AccountData,
    /// Shown this once and kept nowhere; absent where none was made up just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(skip_serializing_if_is_none)]
    pub password: Option<String>,
}

impl Example for AccountWithPassword {
    fn example() -> Self {
        Self {
            user: AccountData::example(),
            password: Some("cGxlYXNlLCBhIG5ldyBvbmU...".to_owned()),
        }
    }
}

#[OpenApi(prefix_path = "/api/v1/admin/users", tag = "Chapter::Administration")]
impl UsersApi {
    /// List users
    ///
    /// In the order in which they were made. A filter by email address or username that ends in `*` finds what begins so.
    #[oai(path = "/", method = "get", operation_id = "adminListUsers")]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        context: Context,
        _admin: Admin,
        /// An email address, or how it begins: `vera*`.
        email: Query<String>,
        /// A username, or how it begins: `ve*`.
        username: Query<String>,
        /// The name of a role.
        role: Query<String>,
        /// Whether the account is disabled.
        disabled: Query<bool>,
        /// How many a page shall have.
        limit: Query<Limit>,
        /// The `nextCursor` of the page before.
        cursor: Cursor,
    ) -> Result<Answer<Page<AccountData>>, Failure<ListErrors>> {
        let filter = UserFilter {
            email: email.0.as_deref().map(sought),
            username: username.0.as_deref().map(sought),
            role: role.0,
            disabled: disabled.0,
        };
        let after = cursor.after().unwrap_or_default();
        let found = rows::page(&context.app.db, &filter, after, Cursor::most(&limit)).await;
        let found = found.map_err(Error::from)?;
        let page = cursor.page(&limit, found, |account| account.user.id.clone(), From::from)?;
        Ok(Answer::new("users", page))
    }

    /// Make a user
    ///
    /// The account is enabled and its address not verified.
    #[oai(path = "/", method = "post", operation_id = "adminCreateUser")]
    async fn create(
        &self,
        context: Context,
        Admin(by): Admin,
        /// 1 to 128 visible ASCII characters; the same call sent again under the same key within a day makes nothing new.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        body: Body<NewAccount>,
    ) -> Result<Tagged<AccountWithPassword, 201>, Failure<CreateErrors>> {
        let app = &context.app;
        let once = key.once(app, &by, "user.add", &body.0)?;
        let Body(NewAccount { email, username, password, role }) = body;
        let role = role.as_deref().map(|name| role_named("role", name)).transpose()?;
        let made_up = password.is_none().then(|| made_up(app));
        let registration = Registration {
            email,
            username,
            password: password.or_else(|| made_up.clone()).unwrap_or_default(),
        };
        let role = role.unwrap_or_else(Role::user);
        let made = users::create_once(app, registration, role, once, &by).await;
        let made = made.map_err(of_role)?;
        let (id, password, is_new) = match made {
            Made::Now(user) => (user.id, made_up, true),
            Made::Before(id) => (id, None, false),
        };
        let account = users::by_id(app, &id).await?;
        let updated_at = account.updated_at;
        let data = AccountWithPassword { user: account.into(), password };
        let answer = Tagged::new(Answer::new("made", data), updated_at);
        Ok(if is_new { answer } else { answer.replayed() })
    }

    /// Read a user
    #[oai(path = "/:id", method = "get", operation_id = "adminGetUser")]
    async fn get(
        &self,
        context: Context,
        _admin: Admin,
        id: Path,
    ) -> Result<Tagged<AccountData>, Failure<GetErrors>> {
        Ok(shown(&context.app, "the user", &id.0).await?)
    }

    /// Change a user
    ///
    /// Where the role changes, access tokens that carry the old one are refused at once.
    #[oai(path = "/:id", method = "patch", operation_id = "adminChangeUser")]
    async fn change(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
        /// The `ETag` of the state that was read, or `*`.
        #[oai(name = "If-Match")]
        expected: IfMatch,
        body: Body<AccountChange>,
    ) -> Result<Tagged<AccountData>, Failure<ChangeErrors>> {
        let changes = Changes {
            email: body.0.email,
            username: body.0.username,
            role: body.0.role.as_deref().map(|name| role_named("role", name)).transpose()?,
            is_verified: body.0.is_verified,
        };
        let edited = users::edit(&context.app, &id.0, &expected.0, changes, &by).await;
        edited.map_err(of_role)?;
        Ok(shown(&context.app, "changed", &id.0).await?)
    }

    /// Delete a user
    ///
    /// With their sessions, consents and modules. Every token of theirs is refused at once. Whoever registers with the
    /// address later is somebody else.
    #[oai(path = "/:id", method = "delete", operation_id = "adminDeleteUser")]
    async fn delete(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
        /// The `ETag` of the state that was read, or `*`.
        #[oai(name = "If-Match")]
        expected: IfMatch,
    ) -> Result<Answer<Nothing>, Failure<DeleteErrors>> {
        users::delete(&context.app, &id.0, &expected.0, &by).await?;
        Ok(Answer::new("deleted", Nothing {}))
    }

    /// Disable a user
    ///
    /// Nobody logs in to the account any more; its sessions end and its tokens are refused at once.
    #[oai(path = "/:id/disable", method = "post", operation_id = "adminDisableUser")]
    async fn disable(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
    ) -> Result<Tagged<AccountData>, Failure<ActErrors>> {
        let account = users::by_id(&context.app, &id.0).await?;
        if account.user.disabled_at.is_none() {
            users::disable(&context.app, &account.user, &by).await?;
        }
        Ok(shown(&context.app, "disabled", &id.0).await?)
    }

    /// Enable a user
    ///
    /// The sessions from before stay dead.
    #[oai(path = "/:id/enable", method = "post", operation_id = "adminEnableUser")]
    async fn enable(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
    ) -> Result<Tagged<AccountData>, Failure<ActErrors>> {
        let account = users::by_id(&context.app, &id.0).await?;
        if account.user.disabled_at.is_some() {
            users::enable(&context.app, &account.user, &by).await?;
        }
        Ok(shown(&context.app, "enabled", &id.0).await?)
    }

    /// Set a password
    ///
    /// Every session of the user ends.
    #[oai(path = "/:id/password", method = "post", operation_id = "adminSetPassword")]
    async fn set_password(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
        body: Body<NewPassword>,
    ) -> Result<Tagged<AccountWithPassword>, Failure<PasswordErrors>> {
        let app = &context.app;
        let account = users::by_id(app, &id.0).await?;
        let (password, made_up) = match body.0.password {
            Some(given) => (given, None),
            None => {
                let made_up = made_up(app);
                (made_up.clone(), Some(made_up))
            }
        };
        users::set_password(app, &account.user, &password, &by).await?;
        let account = users::by_id(app, &id.0).await?;
        let updated_at = account.updated_at;
        let data = AccountWithPassword { user: account.into(), password: made_up };
        Ok(Tagged::new(Answer::new("set", data), updated_at))
    }

    /// Log a user out everywhere
    ///
    /// Every session ends, in browsers and in applications, and its tokens are refused at once.
    #[oai(path = "/:id/logout", method = "post", operation_id = "adminLogUserOut")]
    async fn log_out(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
    ) -> Result<Answer<Nothing>, Failure<ActErrors>> {
        let account = users::by_id(&context.app, &id.0).await?;
        users::log_out(&context.app, &account.user, &by).await?;
        Ok(Answer::new("logged out everywhere", Nothing {}))
    }
}

async fn shown(app: &App, message: &'static str, id: &str) -> Result<Tagged<AccountData>, Error> {
    let account = users::by_id(app, id).await?;
    let updated_at = account.updated_at;
    Ok(Tagged::new(Answer::new(message, account.into()), updated_at))
}

fn sought(text: &str) -> TextMatch {
    match text.strip_suffix('*') {
        Some(beginning) => TextMatch::Prefix(canonical(beginning.trim_start())),
        None => TextMatch::Whole(canonical(text.trim())),
    }
}

/// A role that is not there is a mistake in the body, not in the address.
fn of_role(error: Error) -> Error {
    match error {
        Error::NotFound(field @ "role") => Error::Validation(vec![FieldError {
            field,
            message: "there is no such role: see /api/v1/admin/roles".to_owned(),
        }]),
        other => other,
    }
}

/// Reads the name of a role, which stands in that field.
pub fn role_named(field: &'static str, name: &str) -> Result<Role, Error> {
    Role::parse(name)
        .map_err(|why| Error::Validation(vec![FieldError { field, message: why.to_owned() }]))
}

fn made_up(app: &App) -> String {
    URL_SAFE_NO_PAD.encode(app.rng.bytes::<18>())
}

//! `/api/v1/admin/clients`: the applications that get tokens.

use std::{collections::BTreeMap, fmt, time::Duration};

use poem_openapi::{Enum, Object, OpenApi, types::Example};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Value, json};

use super::{
    guard::Admin,
    params::{Cursor, Given, IdempotencyKey, IfMatch, Limit, Page, Path, Query},
    tagged::Tagged,
};
use crate::{
    app::App,
    error::Error,
    flows::admin::{
        clients::{self, Edit, policy},
        idempotency::Made,
    },
    http::{
        api::{Chapter, data::Nothing},
        context::Context,
        failure::{Failure, codes},
        json::{Answer, Body},
    },
    model::client::{Client, Source},
    storage::{clients as rows, clients::ClientFilter},
};

#[derive(Clone, Debug)]
pub struct ClientsApi;

codes!(ListErrors: Validation, InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);
codes!(GetErrors: Validation, InvalidToken, InsufficientScope, NotFound, RequestTimeout, Internal, Unavailable);
codes!(CreateErrors: Validation, MalformedJson, InvalidToken, InsufficientScope, CrossSite, RequestTimeout, Conflict,
    TooLarge, UnsupportedMediaType, NotFound, KeyReused, Internal, Unavailable);
codes!(ChangeErrors: Validation, MalformedJson, InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout,
    Conflict, PreconditionFailed, PreconditionRequired, TooLarge, UnsupportedMediaType, Internal, Unavailable);
codes!(DeleteErrors: Validation, InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout, Conflict,
    PreconditionFailed, PreconditionRequired, Internal, Unavailable);
codes!(ActErrors: Validation, InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout, Conflict, Internal,
    Unavailable);
codes!(SecretErrors: Validation, MalformedJson, InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout,
    Conflict, TooLarge, UnsupportedMediaType, Internal, Unavailable);

/// Who made a client.
#[derive(Clone, Copy, Debug, Enum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename_all = "snake_case")]
pub enum ClientSource {
    /// A part of Propusk.
    BuiltIn,
    /// An operator, by command or by this API.
    Operator,
    /// `clients.toml`.
    File,
    /// The client itself, by dynamic registration (RFC 7591).
    Registration,
    /// The client itself, by a document at the URL that is its id.
    Document,
}

impl From<Source> for ClientSource {
    fn from(source: Source) -> Self {
        match source {
            Source::BuiltIn => Self::BuiltIn,
            Source::Operator => Self::Operator,
            Source::File => Self::File,
            Source::Registration => Self::Registration,
            Source::Document => Self::Document,
        }
    }
}

impl Given for Source {
    fn schema() -> poem_openapi::registry::MetaSchema {
        let names = ["built_in", "operator", "file", "registration", "document"];
        poem_openapi::registry::MetaSchema {
            enum_items: names.map(Value::from).into(),
            ..poem_openapi::registry::MetaSchema::new("string")
        }
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        Self::parse(text).ok_or("must be built_in, operator, file, registration or document")
    }
}

/// An application that may ask for tokens.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Client", example)]
pub struct ClientData {
    /// The `client_id`.
    pub id: String,
    /// Who made it.
    pub source: ClientSource,
    /// What is registered of it, by the names of RFC 7591 §2, OpenID Connect Registration §2 and `propusk client set`.
    pub metadata: BTreeMap<String, Value>,
    /// Whether it has a secret.
    pub has_secret: bool,
    /// Until when the secret before is good as well (RFC 3339).
    pub old_secret_expires_at: Option<String>,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// When it was changed last (RFC 3339).
    pub updated_at: String,
    /// When it is removed if nobody uses it before (RFC 3339); registrations alone.
    pub expires_at: Option<String>,
    /// Since when nothing is issued to it (RFC 3339); null: it is enabled.
    pub disabled_at: Option<String>,
}

impl From<Client> for ClientData {
    fn from(client: Client) -> Self {
        let old = client.secrets.get(1).and_then(|old| old.expires_at);
        Self {
            source: client.source.into(),
            metadata: clients::described(&client.metadata).into_iter().collect(),
            has_secret: !client.secrets.is_empty(),
            old_secret_expires_at: old.map(|at| at.rfc3339()),
            created_at: client.created_at.rfc3339(),
            updated_at: client.updated_at.rfc3339(),
            expires_at: client.expires_at.map(|at| at.rfc3339()),
            disabled_at: client.disabled_at.map(|at| at.rfc3339()),
            id: client.id,
        }
    }
}

fn example_metadata() -> BTreeMap<String, Value> {
    let metadata = json!({
        "client_name": "Shop",
        "scope": "openid profile email",
        "redirect_uris": ["https://shop.example.org/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "client_secret_basic",
    });
    match metadata {
        Value::Object(members) => members.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

impl Example for ClientData {
    fn example() -> Self {
        Self {
            id: "shop".to_owned(),
            source: ClientSource::Operator,
            metadata: example_metadata(),
            has_secret: true,
            old_secret_expires_at: None,
            created_at: "2026-11-21T04:22:00Z".to_owned(),
            updated_at: "2026-11-21T04:22:00Z".to_owned(),
            expires_at: None,
            disabled_at: None,
        }
    }
}

/// A client to be made.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
pub struct NewClient {
    /// Its `client_id`: 1 to 128 letters, digits and `-._~`. Without one, one is made up.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub id: Option<String>,
    /// By the names of RFC 7591 §2; what is left out has its default.
    #[serde(deserialize_with = "members")]
    pub metadata: BTreeMap<String, Value>,
}

/// Reads an object, and no member of it twice.
fn members<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Value>, D::Error> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = BTreeMap<String, Value>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, Value>()? {
                if members.contains_key(&name) {
                    let known: String = name.chars().take(64).collect();
                    return Err(A::Error::custom(format_args!("duplicate field `{known}`")));
                }
                members.insert(name, value);
            }
            Ok(members)
        }
    }

    from.deserialize_map(Members)
}

impl Example for NewClient {
    fn example() -> Self {
        Self { id: Some("shop".to_owned()), metadata: example_metadata() }
    }
}

/// What a client shall be registered with.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
pub struct ClientChange {
    /// By the names of RFC 7591 §2.
    #[serde(deserialize_with = "members")]
    pub metadata: BTreeMap<String, Value>,
}

impl Example for ClientChange {
    fn example() -> Self {
        Self { metadata: example_metadata() }
    }
}

/// How to replace a secret.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename_all = "camelCase")]
pub struct SecretRotation {
    /// Seconds for which the secret before stays good, 90 days at the most.
    #[serde(default)]
    #[oai(default)]
    pub overlap_seconds: u32,
}

/// A client, and its secret where it has just got one.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct ClientWithSecret {
    /// The client.
    pub client: ClientData,
    /// Shown this once and kept nowhere; absent where none was made just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(skip_serializing_if_is_none)]
    pub secret: Option<String>,
}

impl Example for ClientWithSecret {
    fn example() -> Self {
        Self {
            client: ClientData::example(),
            secret: Some("bm90aGluZyB0byBzZWUgaGVyZQ...".to_owned()),
        }
    }
}

#[OpenApi(prefix_path = "/api/v1/admin/clients", tag = "Chapter::Administration")]
impl ClientsApi {
    /// List clients
    ///
    /// In the order of their ids.
    #[oai(path = "/", method = "get", operation_id = "adminListClients")]
    async fn list(
        &self,
        context: Context,
        _admin: Admin,
        /// Who made it.
        source: Query<Source>,
        /// Whether it is disabled.
        disabled: Query<bool>,
        /// How many a page shall have.
        limit: Query<Limit>,
        /// The `nextCursor` of the page before.
        cursor: Cursor,
    ) -> Result<Answer<Page<ClientData>>, Failure<ListErrors>> {
        let filter = ClientFilter { source: source.0, disabled: disabled.0 };
        let after = cursor.after().unwrap_or_default();
        let found = rows::page(&context.app.db, &filter, after, Cursor::most(&limit)).await;
        let found = found.map_err(Error::from)?;
        let page = cursor.page(&limit, found, |client| client.id.clone(), From::from)?;
        Ok(Answer::new("clients", page))
    }

    /// Make a client
    ///
    /// Its secret, where it has one, is in this answer and in no other.
    #[oai(path = "/", method = "post", operation_id = "adminCreateClient")]
    async fn create(
        &self,
        context: Context,
        Admin(by): Admin,
        /// 1 to 128 visible ASCII characters; the same call sent again under the same key within a day makes nothing new.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        body: Body<NewClient>,
    ) -> Result<Tagged<ClientWithSecret, 201>, Failure<CreateErrors>> {
        let app = &context.app;
        let once = key.once(app, &by, "client.add", &body.0)?;
        let Body(NewClient { id, metadata }) = body;
        let metadata = policy::parse(Value::from_iter(metadata)).map_err(Error::Validation)?;
        let made = clients::add_once(app, id, metadata, once, &by).await?;
        Ok(match made {
            Made::Now((client, secret)) => with_secret("made", client, secret),
            Made::Before(id) => {
                let client = clients::by_id(app, &id).await?;
                with_secret("made", client, None).replayed()
            }
        })
    }

    /// Read a client
    #[oai(path = "/:id", method = "get", operation_id = "adminGetClient")]
    async fn get(
        &self,
        context: Context,
        _admin: Admin,
        id: Path,
    ) -> Result<Tagged<ClientData>, Failure<GetErrors>> {
        Ok(shown(&context.app, "the client", &id.0).await?)
    }

    /// Replace a client's metadata
    ///
    /// What is left out has its default. Where the client may do less than before, its tokens are refused at once.
    #[oai(path = "/:id", method = "put", operation_id = "adminReplaceClient")]
    async fn replace(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
        /// The `ETag` of the state that was read, or `*`.
        #[oai(name = "If-Match")]
        expected: IfMatch,
        body: Body<ClientChange>,
    ) -> Result<Tagged<ClientWithSecret>, Failure<ChangeErrors>> {
        let edit = Edit::Replace(body.0.metadata.into_iter().collect());
        let secret = clients::edit(&context.app, &id.0, &expected.0, edit, &by).await?;
        let client = clients::by_id(&context.app, &id.0).await?;
        Ok(with_secret("replaced", client, secret))
    }

    /// Change a client's metadata
    ///
    /// What is left out stays as it is; null gives it its default (RFC 7396). Where the client may do less than before, its
    /// tokens are refused at once. A client that comes to authenticate by a secret is given one.
    #[oai(path = "/:id", method = "patch", operation_id = "adminChangeClient")]
    async fn change(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
        /// The `ETag` of the state that was read, or `*`.
        #[oai(name = "If-Match")]
        expected: IfMatch,
        body: Body<ClientChange>,
    ) -> Result<Tagged<ClientWithSecret>, Failure<ChangeErrors>> {
        let edit = Edit::Merge(body.0.metadata.into_iter().collect());
        let secret = clients::edit(&context.app, &id.0, &expected.0, edit, &by).await?;
        let client = clients::by_id(&context.app, &id.0).await?;
        Ok(with_secret("changed", client, secret))
    }

    /// Delete a client
    ///
    /// Its sessions end, and its tokens are refused at once.
    #[oai(path = "/:id", method = "delete", operation_id = "adminDeleteClient")]
    async fn delete(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
        /// The `ETag` of the state that was read, or `*`.
        #[oai(name = "If-Match")]
        expected: IfMatch,
    ) -> Result<Answer<Nothing>, Failure<DeleteErrors>> {
        clients::by_id(&context.app, &id.0).await?;
        clients::remove_if(&context.app, &id.0, &expected.0, &by).await?;
        Ok(Answer::new("deleted", Nothing {}))
    }

    /// Give a client a new secret
    ///
    /// The new one is in this answer and in no other.
    #[oai(path = "/:id/secret", method = "post", operation_id = "adminRotateClientSecret")]
    async fn rotate_secret(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
        body: Body<SecretRotation>,
    ) -> Result<Tagged<ClientWithSecret>, Failure<SecretErrors>> {
        let app = &context.app;
        clients::by_id(app, &id.0).await?;
        let overlap = Duration::from_secs(body.0.overlap_seconds.into());
        let secret = clients::rotate_secret(app, &id.0, overlap, &by).await?;
        let client = clients::by_id(app, &id.0).await?;
        Ok(with_secret("rotated", client, Some(secret)))
    }

    /// Disable a client
    ///
    /// Nothing is issued to it any more; its sessions end and its tokens are refused at once.
    #[oai(path = "/:id/disable", method = "post", operation_id = "adminDisableClient")]
    async fn disable(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
    ) -> Result<Tagged<ClientData>, Failure<ActErrors>> {
        let app = &context.app;
        if clients::by_id(app, &id.0).await?.disabled_at.is_none() {
            clients::disable(app, &id.0, &by).await?;
        }
        Ok(shown(app, "disabled", &id.0).await?)
    }

    /// Enable a client
    ///
    /// The sessions from before stay dead.
    #[oai(path = "/:id/enable", method = "post", operation_id = "adminEnableClient")]
    async fn enable(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
    ) -> Result<Tagged<ClientData>, Failure<ActErrors>> {
        let app = &context.app;
        if clients::by_id(app, &id.0).await?.disabled_at.is_some() {
            clients::enable(app, &id.0, &by).await?;
        }
        Ok(shown(app, "enabled", &id.0).await?)
    }
}

async fn shown(app: &App, message: &'static str, id: &str) -> Result<Tagged<ClientData>, Error> {
    let client = clients::by_id(app, id).await?;
    let updated_at = client.updated_at;
    Ok(Tagged::new(Answer::new(message, client.into()), updated_at))
}

fn with_secret<const STATUS: u16>(
    message: &'static str,
    client: Client,
    secret: Option<String>,
) -> Tagged<ClientWithSecret, STATUS> {
    let updated_at = client.updated_at;
    let client = client.into();
    Tagged::new(Answer::new(message, ClientWithSecret { client, secret }), updated_at)
}

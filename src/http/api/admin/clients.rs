//! `/api/v1/admin/clients`: registered clients.

use std::{collections::BTreeMap, time::Duration};

use poem_openapi::registry::MetaSchema;
use serde_json::Value;

use super::{
    params::QueryValue,
    prelude::*,
    reply::{Conflict, Create, JsonBody},
};
use crate::{
    flows::admin::clients::{self, policy},
    http::json::unique_members,
    ids::ClientId,
    model::client::{Client, Metadata, Source},
    storage::{clients as rows, clients::ClientFilter},
};

#[derive(Clone, Debug, Default)]
pub struct ClientsApi;

#[OpenApi(prefix_path = "/api/v1/admin/clients", tag = "Tag::Administration")]
impl ClientsApi {
    /// List clients
    ///
    /// In order of their ids.
    #[oai(path = "/", method = "get", operation_id = "adminListClients")]
    async fn list(
        &self,
        admin: Admin,
        /// How the client was registered.
        source: Query<Source>,
        /// Whether the client is disabled.
        disabled: Query<bool>,
        page: Paging,
    ) -> List<ClientData> {
        let filter = ClientFilter { source: source.0, disabled: disabled.0 };
        let after = page.after().unwrap_or_default();
        let found = rows::page(&admin.app.db, &filter, after, page.rows()).await;
        Ok(page.answer("clients", found, |client| client.id.to_string())?)
    }

    /// Create a client
    ///
    /// A client that authenticates by a secret gets one, which is in this response only.
    #[oai(path = "/", method = "post", operation_id = "adminCreateClient")]
    async fn create(
        &self,
        admin: Admin,
        idempotency_key: IdempotencyKey,
        body: Body<CreateClient>,
    ) -> Create<ClientWithSecret, Conflict> {
        let request = idempotency_key.request(&admin, "client.add", &body.0)?;
        let Body(CreateClient { id, metadata }) = body;
        let metadata = policy::parse(Value::from_iter(metadata)).map_err(Error::Validation)?;
        let id = id.map(Into::into);
        let created = clients::create(&admin.app, id, metadata, request, &admin.actor).await?;
        Ok(created.into())
    }

    /// Get a client
    ///
    /// The `ETag` of the response goes into `If-Match` of a change.
    #[oai(path = "/:id", method = "get", operation_id = "adminGetClient")]
    async fn get(&self, admin: Admin, id: Path<ClientId>) -> Get<ClientData> {
        Ok(WithEtag::new("client", clients::by_id(&admin.app, &id.0).await?))
    }

    /// Replace a client's metadata
    ///
    /// An absent member gets its default. Where the client may do less than before, its tokens are
    /// refused at once.
    #[oai(path = "/:id", method = "put", operation_id = "adminReplaceClient")]
    async fn replace(
        &self,
        admin: Admin,
        id: Path<ClientId>,
        if_match: IfMatch,
        body: Body<UpdateClient>,
    ) -> Update<ClientWithSecret, Conflict> {
        let change = |_: &Metadata| policy::parse(Value::from_iter(body.0.metadata));
        let updated = clients::update(&admin.app, &id.0, &if_match.0, change, &admin.actor).await?;
        Ok(WithEtag::new("replaced", updated))
    }

    /// Update a client's metadata
    ///
    /// An absent member keeps its value; null gives it its default (RFC 7396). Where the client may
    /// do less than before, its tokens are refused at once. A client that newly authenticates by a
    /// secret gets one.
    #[oai(path = "/:id", method = "patch", operation_id = "adminUpdateClient")]
    async fn update(
        &self,
        admin: Admin,
        id: Path<ClientId>,
        if_match: IfMatch,
        body: Body<UpdateClient>,
    ) -> Update<ClientWithSecret, Conflict> {
        let change = |metadata: &Metadata| clients::merged(metadata, body.0.metadata);
        let updated = clients::update(&admin.app, &id.0, &if_match.0, change, &admin.actor).await?;
        Ok(WithEtag::new("updated", updated))
    }

    /// Delete a client
    ///
    /// Its sessions are revoked, and its tokens are refused at once.
    #[oai(path = "/:id", method = "delete", operation_id = "adminDeleteClient")]
    async fn delete(
        &self,
        admin: Admin,
        id: Path<ClientId>,
        if_match: IfMatch,
    ) -> Delete<Conflict> {
        clients::delete(&admin.app, &id.0, &if_match.0, &admin.actor).await?;
        Ok(deleted())
    }

    /// Rotate a client's secret
    ///
    /// The new secret is in this response only.
    #[oai(path = "/:id/secret", method = "post", operation_id = "adminRotateClientSecret")]
    async fn rotate_secret(
        &self,
        admin: Admin,
        id: Path<ClientId>,
        body: Body<RotateClientSecret>,
    ) -> Act<WithEtag<ClientWithSecret>, (JsonBody, Conflict)> {
        let overlap = Duration::from_secs(body.0.overlap_seconds.into());
        let (client, secret) =
            clients::rotate_secret(&admin.app, &id.0, overlap, &admin.actor).await?;
        Ok(WithEtag::new("rotated", (client, Some(secret))))
    }

    /// Disable a client
    ///
    /// Nothing is issued to it any more; its sessions are revoked and its tokens are refused at
    /// once.
    #[oai(path = "/:id/disable", method = "post", operation_id = "adminDisableClient")]
    async fn disable(
        &self,
        admin: Admin,
        id: Path<ClientId>,
    ) -> Act<WithEtag<ClientData>, Conflict> {
        let client = clients::disable(&admin.app, &id.0, &admin.actor).await?;
        Ok(WithEtag::new("disabled", client))
    }

    /// Enable a client
    ///
    /// Revoked sessions stay revoked.
    #[oai(path = "/:id/enable", method = "post", operation_id = "adminEnableClient")]
    async fn enable(
        &self,
        admin: Admin,
        id: Path<ClientId>,
    ) -> Act<WithEtag<ClientData>, Conflict> {
        let client = clients::enable(&admin.app, &id.0, &admin.actor).await?;
        Ok(WithEtag::new("enabled", client))
    }
}

/// How a client was registered.
#[derive(Clone, Copy, Debug, Enum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename_all = "snake_case")]
pub enum ClientSource {
    /// Built into Propusk.
    BuiltIn,
    /// By an operator, with a command or this API.
    Operator,
    /// By `clients.toml`.
    File,
    /// By the client itself, with dynamic registration (RFC 7591).
    Registration,
    /// By the client itself, with a metadata document at the URL that is its id.
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

impl QueryValue for Source {
    fn schema() -> MetaSchema {
        let names = ["built_in", "operator", "file", "registration", "document"];
        MetaSchema { enum_items: names.map(Value::from).into(), ..MetaSchema::new("string") }
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        Self::parse(text).ok_or("must be built_in, operator, file, registration or document")
    }
}

/// A registered client.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "ClientDetails", example)]
pub struct ClientData {
    /// The `client_id`.
    pub id: String,
    pub source: ClientSource,
    /// The client metadata of RFC 7591 §2, OpenID Connect Registration §2 and `propusk client set`.
    pub metadata: BTreeMap<String, Value>,
    /// Whether it has a secret.
    pub has_secret: bool,
    /// When the previous secret expires (RFC 3339).
    pub old_secret_expires_at: Option<String>,
    /// Creation time (RFC 3339).
    pub created_at: String,
    /// Time of the last change (RFC 3339).
    pub updated_at: String,
    /// When it is deleted unless it is used (RFC 3339); self-registered clients only.
    pub expires_at: Option<String>,
    /// When it was disabled (RFC 3339); null: it is enabled.
    pub disabled_at: Option<String>,
}

impl From<Client> for ClientData {
    fn from(client: Client) -> Self {
        let old = client.secrets.get(1).and_then(|old| old.expires_at);
        Self {
            source: client.source.into(),
            metadata: clients::described(&client.metadata).into_iter().collect(),
            has_secret: !client.secrets.is_empty(),
            old_secret_expires_at: old.map(Timestamp::rfc3339),
            created_at: client.created_at.rfc3339(),
            updated_at: client.updated_at.rfc3339(),
            expires_at: client.expires_at.map(Timestamp::rfc3339),
            disabled_at: client.disabled_at.map(Timestamp::rfc3339),
            id: client.id.into(),
        }
    }
}

example!(ClientData, {
    "id": "shop",
    "source": "operator",
    "metadata": {
        "client_name": "Shop",
        "scope": "openid profile email",
        "redirect_uris": ["https://shop.example.org/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "client_secret_basic"
    },
    "hasSecret": true,
    "oldSecretExpiresAt": null,
    "createdAt": "2026-11-21T04:22:00Z",
    "updatedAt": "2026-11-21T04:22:00Z",
    "expiresAt": null,
    "disabledAt": null
});

/// The client to create.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(skip_serializing_if_is_none, example)]
pub struct CreateClient {
    /// The `client_id`: 1 to 128 letters, digits and `-._~`. Generated if absent.
    pub id: Option<String>,
    /// The client metadata of RFC 7591 §2; an absent member gets its default.
    #[serde(deserialize_with = "unique_members")]
    pub metadata: BTreeMap<String, Value>,
}

impl Example for CreateClient {
    fn example() -> Self {
        let ClientData { id, metadata, .. } = Example::example();
        Self { id: Some(id), metadata }
    }
}

/// The metadata of a client.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
pub struct UpdateClient {
    /// The client metadata of RFC 7591 §2.
    #[serde(deserialize_with = "unique_members")]
    pub metadata: BTreeMap<String, Value>,
}

impl Example for UpdateClient {
    fn example() -> Self {
        Self { metadata: ClientData::example().metadata }
    }
}

/// How to rotate a secret.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename_all = "camelCase")]
pub struct RotateClientSecret {
    /// Seconds for which the previous secret stays valid, at most 90 days.
    #[serde(default)]
    #[oai(default)]
    pub overlap_seconds: u32,
}

/// A client, with the secret that was generated.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(skip_serializing_if_is_none, example)]
pub struct ClientWithSecret {
    pub client: ClientData,
    /// Shown once and stored as a hash only; absent unless this request has generated it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl From<(Client, Option<String>)> for ClientWithSecret {
    fn from((client, secret): (Client, Option<String>)) -> Self {
        Self { client: client.into(), secret }
    }
}

impl Example for ClientWithSecret {
    fn example() -> Self {
        Self {
            client: Example::example(),
            secret: Some("bm90aGluZyB0byBzZWUgaGVyZQ...".to_owned()),
        }
    }
}

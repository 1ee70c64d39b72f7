//! `/api/v1/admin/keys`: signing keys.

use super::{
    prelude::*,
    reply::{Conflict, Idempotent, JsonBody, Replayable},
};
use crate::{
    flows::admin::signing_keys,
    model::key::{self, KeyRecord},
};

#[derive(Clone, Debug, Default)]
pub struct KeysApi;

#[OpenApi(prefix_path = "/api/v1/admin/keys", tag = "Tag::Administration")]
impl KeysApi {
    /// List keys
    ///
    /// The oldest first, without their private parts.
    #[oai(path = "/", method = "get", operation_id = "adminListKeys")]
    async fn list(&self, admin: Admin, page: Paging) -> List<KeyData> {
        let after = page.after_number().unwrap_or(0);
        let now = admin.app.clock.now();
        // There are a few dozen keys at most.
        let keys = signing_keys::all(&admin.app).await?.into_iter();
        let behind = keys.filter(|key| key.number > after).map(|key| (key, now));
        let most = usize::try_from(page.rows()).unwrap_or(usize::MAX);
        Ok(page
            .answer("keys", Ok(behind.take(most).collect()), |(key, _)| key.number.to_string())?)
    }

    /// Rotate the signing keys
    ///
    /// New keys are published at once and become active after `keys.publish_ahead`, when every
    /// consumer has fetched them. Responds with the keys that are active or next.
    #[oai(path = "/rotate", method = "post", operation_id = "adminRotateKeys")]
    async fn rotate(
        &self,
        admin: Admin,
        idempotency_key: IdempotencyKey,
        body: Body<RotateKeys>,
    ) -> Reply<Replayable<Vec<KeyData>, 200>, (Write, JsonBody, Idempotent)> {
        let request = idempotency_key.request(&admin, "keys.rotate", &body.0)?;
        let Body(RotateKeys { algorithm, at_once }) = body;
        let only = algorithm.as_deref().map(signing_keys::algorithm).transpose()?;
        let app = &admin.app;
        let rotated = signing_keys::rotate(app, only, at_once, request, &admin.actor).await?;
        let now = app.clock.now();
        let in_use = rotated.map(|keys| keys.into_iter().map(|key| (key, now).into()).collect());
        Ok(Replayable::<Vec<KeyData>, 200>::new::<Vec<KeyData>>("rotated", in_use))
    }

    /// Ban a signing key
    ///
    /// For a compromised key. Responds once every process refuses what the key has signed and signs
    /// with another one. Irreversible.
    #[oai(path = "/:id/ban", method = "post", operation_id = "adminBanKey")]
    async fn ban(&self, admin: Admin, id: Path) -> Act<Answer<KeyBan>, Conflict> {
        let app = &admin.app;
        let key = signing_keys::ban(app, &id.0, &admin.actor).await?;
        let now = app.clock.now();
        let since = key.banned_at.unwrap_or(now);
        let ban = KeyBan {
            key: (key, now).into(),
            refused_since: since.rfc3339(),
            dropped_by: signing_keys::dropped_by(app, since).rfc3339(),
        };
        Ok(Answer::new("banned", ban))
    }
}

/// A stage of a key's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[oai(rename_all = "lowercase")]
pub enum KeyState {
    /// Published, and not used yet.
    Next,
    /// Signs new tokens.
    Active,
    /// Published until its last token has expired, and no longer used.
    Retired,
    /// Compromised: everything it has signed is refused.
    Banned,
}

/// A key.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Key", example)]
pub struct KeyData {
    /// The `kid`.
    pub id: String,
    /// A JWS algorithm; `refresh-chain` and `derivation` keys sign nothing.
    pub algorithm: String,
    pub state: KeyState,
    /// Creation time (RFC 3339).
    pub created_at: String,
    /// When it becomes active (RFC 3339).
    pub activates_at: String,
    /// When it retires (RFC 3339), once that is known.
    pub retires_at: Option<String>,
    /// When it was banned (RFC 3339).
    pub banned_at: Option<String>,
}

/// A key as of a moment.
impl From<(KeyRecord, Timestamp)> for KeyData {
    fn from((key, now): (KeyRecord, Timestamp)) -> Self {
        Self {
            state: match key.state(now) {
                key::KeyState::Next => KeyState::Next,
                key::KeyState::Active => KeyState::Active,
                key::KeyState::Retired => KeyState::Retired,
                key::KeyState::Banned => KeyState::Banned,
            },
            algorithm: key.algorithm.as_str().to_owned(),
            created_at: key.created_at.rfc3339(),
            activates_at: key.activates_at.rfc3339(),
            retires_at: key.retires_at.map(Timestamp::rfc3339),
            banned_at: key.banned_at.map(Timestamp::rfc3339),
            id: key.id,
        }
    }
}

example!(KeyData, {
    "id": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
    "algorithm": "ES256",
    "state": "active",
    "createdAt": "2026-11-20T04:22:00Z",
    "activatesAt": "2026-11-21T04:22:00Z",
    "retiresAt": null,
    "bannedAt": null
});

/// The keys to create.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(skip_serializing_if_is_none, rename_all = "camelCase", example)]
pub struct RotateKeys {
    /// One algorithm only: ES256, RS256, PS256 or EdDSA (Ed25519).
    pub algorithm: Option<String>,
    /// Whether to skip `keys.publish_ahead`. Consumers with a cached JWKS meet an unknown `kid`
    /// until they fetch it again.
    #[serde(default)]
    #[oai(default)]
    pub at_once: bool,
}

example!(RotateKeys, { "algorithm": "ES256", "atOnce": false });

/// A banned key, and when its tokens are refused.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct KeyBan {
    pub key: KeyData,
    /// Since when every process of this server refuses what the key has signed (RFC 3339).
    pub refused_since: String,
    /// When the last cached JWKS with the key expires (RFC 3339): by then, resource servers that
    /// verify locally and do not follow the revocation feed refuse its tokens as well.
    pub dropped_by: String,
}

impl Example for KeyBan {
    fn example() -> Self {
        let at = "2026-11-21T04:22:00Z".to_owned();
        let banned_at = Some(at.clone());
        Self {
            key: KeyData { state: KeyState::Banned, banned_at, ..Example::example() },
            refused_since: at,
            dropped_by: "2026-11-21T04:38:00Z".to_owned(),
        }
    }
}

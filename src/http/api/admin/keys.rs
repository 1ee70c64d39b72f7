//! `/api/v1/admin/keys`: what tokens are signed with.

use std::time::Duration;

use poem_openapi::{Enum, Object, OpenApi, types::Example};
use serde::{Deserialize, Serialize};

use super::{
    guard::Admin,
    params::{Cursor, IdempotencyKey, Limit, Page, Path, Query},
    tagged::Replayable,
};
use crate::{
    app::App,
    clock::Timestamp,
    error::{Error, FieldError},
    flows::admin::signing_keys,
    http::{
        api::Chapter,
        context::Context,
        failure::{Failure, codes},
        json::{Answer, Body},
    },
    model::key::{KeyRecord, KeyState, SigningAlgorithm},
};

#[derive(Clone, Debug)]
pub struct KeysApi;

codes!(ListErrors: Validation, InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);
codes!(RotateErrors: Validation, MalformedJson, InvalidToken, InsufficientScope, CrossSite, RequestTimeout, TooLarge,
    UnsupportedMediaType, KeyReused, Internal, Unavailable);
codes!(BanErrors: Validation, InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout, Conflict, Internal,
    Unavailable);

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[oai(rename_all = "lowercase")]
pub enum State {
    /// Published, and not used yet.
    Next,
    /// Used for what is new.
    Active,
    /// Used no more, and published until its last token has expired.
    Retired,
    /// Compromised: nothing it signed is believed.
    Banned,
}

/// A key.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Key", example)]
pub struct KeyData {
    /// The `kid`.
    pub id: String,
    /// A JWS algorithm; `refresh-chain` and `derivation` sign nothing.
    pub algorithm: String,
    /// Where it is in its life.
    pub state: State,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// From when on it is used (RFC 3339).
    pub activates_at: String,
    /// Until when it is used (RFC 3339), once that is known.
    pub retires_at: Option<String>,
    /// When it was banned (RFC 3339).
    pub banned_at: Option<String>,
}

impl KeyData {
    fn of(key: KeyRecord, now: Timestamp) -> Self {
        Self {
            state: match key.state(now) {
                KeyState::Next => State::Next,
                KeyState::Active => State::Active,
                KeyState::Retired => State::Retired,
                KeyState::Banned => State::Banned,
            },
            algorithm: key.algorithm.as_str().to_owned(),
            created_at: key.created_at.rfc3339(),
            activates_at: key.activates_at.rfc3339(),
            retires_at: key.retires_at.map(|at| at.rfc3339()),
            banned_at: key.banned_at.map(|at| at.rfc3339()),
            id: key.id,
        }
    }
}

impl Example for KeyData {
    fn example() -> Self {
        Self {
            id: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs".to_owned(),
            algorithm: "ES256".to_owned(),
            state: State::Active,
            created_at: "2026-11-20T04:22:00Z".to_owned(),
            activates_at: "2026-11-21T04:22:00Z".to_owned(),
            retires_at: None,
            banned_at: None,
        }
    }
}

/// Which keys to make.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename_all = "camelCase", example)]
pub struct Rotation {
    /// One algorithm only: ES256, RS256, PS256 or EdDSA.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub algorithm: Option<String>,
    /// Take over at once: consumers with a cached JWKS meet an unknown key until they fetch it again.
    #[serde(default)]
    #[oai(default)]
    pub at_once: bool,
}

impl Example for Rotation {
    fn example() -> Self {
        Self { algorithm: Some("ES256".to_owned()), at_once: false }
    }
}

/// A key that was banned.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct Ban {
    /// The key.
    pub key: KeyData,
    /// Since when every process of this server refuses what it signed (RFC 3339).
    pub refused_since: String,
    /// By when those who verify by themselves and do not follow the revocation feed have dropped it (RFC 3339): the last copy
    /// of the JWKS has expired then.
    pub dropped_by: String,
}

impl Example for Ban {
    fn example() -> Self {
        let at = "2026-11-21T04:22:00Z".to_owned();
        Self {
            key: KeyData {
                state: State::Banned,
                banned_at: Some(at.clone()),
                ..KeyData::example()
            },
            refused_since: at,
            dropped_by: "2026-11-21T04:38:00Z".to_owned(),
        }
    }
}

#[OpenApi(prefix_path = "/api/v1/admin/keys", tag = "Chapter::Administration")]
impl KeysApi {
    /// List keys
    ///
    /// The oldest first. Private halves are never told.
    #[oai(path = "/", method = "get", operation_id = "adminListKeys")]
    async fn list(
        &self,
        context: Context,
        _admin: Admin,
        /// How many a page shall have.
        limit: Query<Limit>,
        /// The `nextCursor` of the page before.
        cursor: Cursor,
    ) -> Result<Answer<Page<KeyData>>, Failure<ListErrors>> {
        let app = &context.app;
        let after = cursor.after_number().unwrap_or(0);
        let found = page(app, after, Cursor::most(&limit)).await?;
        let now = app.clock.now();
        let page = cursor.page(
            &limit,
            found,
            |key| key.number.to_string(),
            |key| KeyData::of(key, now),
        )?;
        Ok(Answer::new("keys", page))
    }

    /// Rotate the signing keys
    ///
    /// New ones are published at once and take over once every consumer has had time to fetch them. Answers with the keys that
    /// are in use now or are to come.
    #[oai(path = "/rotate", method = "post", operation_id = "adminRotateKeys")]
    async fn rotate(
        &self,
        context: Context,
        Admin(by): Admin,
        /// 1 to 128 visible ASCII characters; the same call sent again under the same key within a day makes nothing new.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        body: Body<Rotation>,
    ) -> Result<Replayable<Vec<KeyData>>, Failure<RotateErrors>> {
        let app = &context.app;
        let once = key.once(app, &by, "keys.rotate", &body.0)?;
        let only = body.0.algorithm.as_deref().map(algorithm).transpose()?;
        let at_once = body.0.at_once;
        let is_new = signing_keys::rotate(app, only, at_once, once.as_ref(), &by).await?;
        let now = app.clock.now();
        let keys = signing_keys::all(app).await?.into_iter();
        let in_use = keys
            .map(|key| KeyData::of(key, now))
            .filter(|key| matches!(key.state, State::Active | State::Next));
        let answer = Answer::new("rotated", in_use.collect());
        Ok(Replayable::new(answer, is_new))
    }

    /// Ban a signing key
    ///
    /// For a key that is compromised. Answers once the ban holds: from then on every process refuses what the key has signed,
    /// and another one signs. It cannot be taken back.
    #[oai(path = "/:id/ban", method = "post", operation_id = "adminBanKey")]
    async fn ban(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
    ) -> Result<Answer<Ban>, Failure<BanErrors>> {
        let app = &context.app;
        let key = signing_keys::ban(app, &id.0, &by).await?;
        let now = app.clock.now();
        let since = key.banned_at.unwrap_or(now);
        let expired = app.config.keys.jwks_max_age + Duration::from_secs(60);
        let ban = Ban {
            key: KeyData::of(key, now),
            refused_since: since.rfc3339(),
            dropped_by: (since + expired).rfc3339(),
        };
        Ok(Answer::new("banned", ban))
    }
}

/// There are a few dozen keys at the most.
async fn page(app: &App, after: i64, most: i64) -> Result<Vec<KeyRecord>, Error> {
    let keys = signing_keys::all(app).await?.into_iter();
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    Ok(keys.filter(|key| key.number > after).take(most).collect())
}

fn algorithm(name: &str) -> Result<SigningAlgorithm, Error> {
    let mut all = SigningAlgorithm::ALL.into_iter();
    all.find(|known| known.as_str() == name).ok_or_else(|| {
        Error::Validation(vec![FieldError {
            field: "algorithm",
            message: "must be ES256, RS256, PS256 or EdDSA".to_owned(),
        }])
    })
}

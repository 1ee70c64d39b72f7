//! `/api/v1/admin/revocations`: which access tokens are refused before they expire.

use poem_openapi::{Enum, Object, OpenApi, types::Example};
use serde::{Deserialize, Serialize};

use super::{
    guard::Admin,
    params::{Cursor, IdempotencyKey, Limit, Page, Query},
    tagged::Replayable,
};
use crate::{
    clock::Timestamp,
    error::{Error, FieldError},
    flows::admin::{
        idempotency::Made,
        revocations::{self, Refused},
    },
    http::{
        api::Chapter,
        context::Context,
        failure::{Failure, codes},
        json::{Answer, Body},
    },
    storage::{
        revocations as rows,
        revocations::{ListedRevocation, RevocationFilter},
    },
};

#[derive(Clone, Debug)]
pub struct RevocationsApi;

codes!(ListErrors: Validation, InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);
codes!(AddErrors: Validation, MalformedJson, InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout, TooLarge,
    UnsupportedMediaType, KeyReused, Internal, Unavailable);

/// An entry of the revocation list.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Revocation", example)]
pub struct RevocationData {
    /// Its place in the list: numbers are given in the order in which revocations were committed.
    pub number: i64,
    /// `token`, `session`, `subject`, `scope`, `client` or `key`.
    pub kind: String,
    /// The `jti`, `sid`, `sub`, `client_id` or `kid`.
    pub target: String,
    /// The scope that a token must carry to be refused; kind `scope` only.
    pub scope: Option<String>,
    /// Tokens that were issued later are good (RFC 3339); kinds `subject`, `scope` and `client` only.
    pub issued_until: Option<String>,
    /// Why.
    pub reason: String,
    /// When it was added (RFC 3339).
    pub created_at: String,
    /// When the last token that it could hit has expired (RFC 3339); it is removed then.
    pub expires_at: String,
}

impl From<ListedRevocation> for RevocationData {
    fn from(entry: ListedRevocation) -> Self {
        let issued_until = entry.issued_until.and_then(Timestamp::from_secs);
        Self {
            number: entry.number,
            kind: entry.kind,
            target: entry.target,
            scope: entry.scope,
            issued_until: issued_until.map(|at| at.rfc3339()),
            reason: entry.reason,
            created_at: entry.created_at.rfc3339(),
            expires_at: entry.expires_at.rfc3339(),
        }
    }
}

impl Example for RevocationData {
    fn example() -> Self {
        Self {
            number: 1201,
            kind: "scope".to_owned(),
            target: "01a1fca5-0ae5-741a-b136-32b4b1af948c".to_owned(),
            scope: Some("crm:write".to_owned()),
            issued_until: Some("2026-11-21T04:22:01Z".to_owned()),
            reason: "a laptop was lost".to_owned(),
            created_at: "2026-11-21T04:22:00Z".to_owned(),
            expires_at: "2026-11-21T05:23:00Z".to_owned(),
        }
    }
}

/// What an entry hits. Keys are banned under `/api/v1/admin/keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[oai(rename_all = "lowercase")]
pub enum Kind {
    /// One access token.
    Token,
    /// A session, which ends with it.
    Session,
    /// A subject's tokens of until now.
    Subject,
    /// A subject's tokens of until now that carry a scope.
    Scope,
    /// A client's tokens of until now.
    Client,
}

/// An entry to be added.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
pub struct NewRevocation {
    /// What it hits.
    pub kind: Kind,
    /// The `jti`, `sid`, `sub` or `client_id`.
    pub target: String,
    /// For kind `scope`, and for no other.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub scope: Option<String>,
    /// Why, in 1 to 200 characters.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_none)]
    pub reason: Option<String>,
}

impl Example for NewRevocation {
    fn example() -> Self {
        Self {
            kind: Kind::Subject,
            target: "01a1fca5-0ae5-741a-b136-32b4b1af948c".to_owned(),
            scope: None,
            reason: Some("a laptop was lost".to_owned()),
        }
    }
}

#[OpenApi(prefix_path = "/api/v1/admin/revocations", tag = "Chapter::Administration")]
impl RevocationsApi {
    /// List revocations
    ///
    /// The newest first, as long as there may be a token that they hit.
    #[oai(path = "/", method = "get", operation_id = "adminListRevocations")]
    async fn list(
        &self,
        context: Context,
        _admin: Admin,
        /// `token`, `session`, `subject`, `scope`, `client` or `key`.
        kind: Query<String>,
        /// The `jti`, `sid`, `sub`, `client_id` or `kid`.
        target: Query<String>,
        /// How many a page shall have.
        limit: Query<Limit>,
        /// The `nextCursor` of the page before.
        cursor: Cursor,
    ) -> Result<Answer<Page<RevocationData>>, Failure<ListErrors>> {
        let filter = RevocationFilter { kind: kind.0, target: target.0 };
        let before = cursor.after_number().unwrap_or(i64::MAX);
        let found = rows::page(&context.app.db, &filter, before, Cursor::most(&limit)).await;
        let found = found.map_err(Error::from)?;
        let page = cursor.page(&limit, found, |entry| entry.number.to_string(), From::from)?;
        Ok(Answer::new("revocations", page))
    }

    /// Revoke
    ///
    /// Answers once every process refuses what the entry hits. Sessions go on with new tokens, but for one that is named.
    #[oai(path = "/", method = "post", operation_id = "adminRevoke")]
    async fn add(
        &self,
        context: Context,
        Admin(by): Admin,
        /// 1 to 128 visible ASCII characters; the same call sent again under the same key within a day makes nothing new.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        body: Body<NewRevocation>,
    ) -> Result<Replayable<RevocationData, 201>, Failure<AddErrors>> {
        let app = &context.app;
        let once = key.once(app, &by, "revocation.add", &body.0)?;
        let Body(NewRevocation { kind, target, scope, reason }) = body;
        let refused = match (kind, scope) {
            (Kind::Token, None) => Refused::Token(target),
            (Kind::Session, None) => Refused::Session(target),
            (Kind::Subject, None) => Refused::Subject(target),
            (Kind::Client, None) => Refused::Client(target),
            (Kind::Scope, Some(scope)) => Refused::Scope { sub: target, scope },
            _ => {
                let message = "must be given for the kind scope, and for no other".to_owned();
                let field = "scope";
                return Err(Error::Validation(vec![FieldError { field, message }]).into());
            }
        };
        let reason = reason.unwrap_or_else(|| "administrator".to_owned());
        let made = revocations::add(app, refused, reason, once, &by).await?;
        let (number, is_new) = match made {
            Made::Now(number) => (number, true),
            Made::Before(number) => (number.parse().unwrap_or_default(), false),
        };
        let entry = rows::by_number(&app.db, number).await;
        let entry = entry.map_err(Error::from)?;
        let entry = entry.ok_or(Error::NotFound("revocation"))?;
        Ok(Replayable::new(Answer::new("revoked", entry.into()), is_new))
    }
}

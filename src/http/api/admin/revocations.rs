//! `/api/v1/admin/revocations`: the revocation list.

use super::{
    prelude::*,
    reply::{Idempotent, JsonBody, Replayable},
};
use crate::{
    flows::admin::revocations,
    http::api::data::RevocationKind,
    model::revocation::NewRevocation,
    storage::{
        revocations as rows,
        revocations::{ListedRevocation, RevocationFilter},
    },
};

#[derive(Clone, Debug, Default)]
pub struct RevocationsApi;

#[OpenApi(prefix_path = "/api/v1/admin/revocations", tag = "Tag::Administration")]
impl RevocationsApi {
    /// List revocations
    ///
    /// The newest first, until they expire.
    #[oai(path = "/", method = "get", operation_id = "adminListRevocations")]
    async fn list(
        &self,
        admin: Admin,
        /// `token`, `session`, `subject`, `scope`, `client` or `key`.
        kind: Query<String>,
        /// A `jti`, `sid`, `sub`, `client_id` or `kid`.
        target: Query<String>,
        page: Paging,
    ) -> List<RevocationData> {
        let filter = RevocationFilter { kind: kind.0, target: target.0 };
        let before = page.after_number().unwrap_or(i64::MAX);
        let found = rows::page(&admin.app.db, &filter, before, page.rows()).await;
        Ok(page.answer("revocations", found, |entry| entry.number.to_string())?)
    }

    /// Create a revocation
    ///
    /// Responds once every process refuses the tokens it matches. Sessions continue with new
    /// tokens, except a session that is revoked by its `sid`.
    #[oai(path = "/", method = "post", operation_id = "adminCreateRevocation")]
    async fn create(
        &self,
        admin: Admin,
        idempotency_key: IdempotencyKey,
        body: Body<CreateRevocation>,
    ) -> Act<Replayable<RevocationData, 201>, (JsonBody, Idempotent)> {
        let request = idempotency_key.request(&admin, "revocation.add", &body.0)?;
        let (revocation, reason) = body.0.read()?;
        let created =
            revocations::create(&admin.app, revocation, reason, request, &admin.actor).await?;
        Ok(Replayable::new("created", created))
    }
}

/// An entry of the revocation list.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Revocation", example)]
pub struct RevocationData {
    /// The position in the list, ascending in order of commit.
    pub number: i64,
    /// `token`, `session`, `subject`, `scope`, `client` or `key`.
    pub kind: String,
    /// The `jti`, `sid`, `sub`, `client_id` or `kid`.
    pub target: String,
    /// The scope that a token must have to be refused; kind `scope` only.
    pub scope: Option<String>,
    /// Tokens issued later are valid (RFC 3339); kinds `subject`, `scope` and `client` only.
    pub issued_until: Option<String>,
    pub reason: String,
    /// Creation time (RFC 3339).
    pub created_at: String,
    /// When the last token that it matches expires, and the entry is deleted (RFC 3339).
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
            issued_until: issued_until.map(Timestamp::rfc3339),
            reason: entry.reason,
            created_at: entry.created_at.rfc3339(),
            expires_at: entry.expires_at.rfc3339(),
        }
    }
}

example!(RevocationData, {
    "number": 1201,
    "kind": "scope",
    "target": "01a1fca5-0ae5-741a-b136-32b4b1af948c",
    "scope": "crm:write",
    "issuedUntil": "2026-11-21T04:22:01Z",
    "reason": "lost laptop",
    "createdAt": "2026-11-21T04:22:00Z",
    "expiresAt": "2026-11-21T05:23:00Z"
});

/// The revocation to create.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(skip_serializing_if_is_none, example)]
pub struct CreateRevocation {
    /// A key is banned under `/api/v1/admin/keys` instead.
    pub kind: RevocationKind,
    /// The `jti`, `sid`, `sub` or `client_id`.
    pub target: String,
    /// Kind `scope` only, and required there.
    pub scope: Option<String>,
    /// 1 to 200 characters; `administrator` if absent.
    pub reason: Option<String>,
}

impl CreateRevocation {
    fn read(self) -> Result<(NewRevocation, String), Error> {
        let reason = self.reason.unwrap_or_else(|| "administrator".to_owned());
        let target = self.target;
        let revocation = match (self.kind, self.scope) {
            (RevocationKind::Token, None) => NewRevocation::Token(target),
            (RevocationKind::Session, None) => NewRevocation::Session(target),
            (RevocationKind::Subject, None) => NewRevocation::Subject(target),
            (RevocationKind::Client, None) => NewRevocation::Client(target),
            (RevocationKind::Scope, Some(scope)) => NewRevocation::Scope { sub: target, scope },
            (RevocationKind::Key, _) => {
                let why = "must not be key: ban the key with POST /api/v1/admin/keys/{id}/ban";
                return Err(Error::field("kind", why));
            }
            _ => return Err(Error::field("scope", "must be given for the kind `scope` only")),
        };
        Ok((revocation, reason))
    }
}

example!(CreateRevocation, {
    "kind": "subject",
    "target": "01a1fca5-0ae5-741a-b136-32b4b1af948c",
    "reason": "lost laptop"
});

//! `/api/v1/admin/issuers`: other servers whose JWTs are accepted.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    prelude::*,
    reply::{Conflict, Create, JsonBody},
};
use crate::{
    flows::admin::issuers,
    http::api::data::Nothing,
    model::trusted_issuer::{IssuerSettings, IssuerUse, LinkedSubject, TrustedIssuer},
    oauth::scope::Scope,
    storage::trusted_issuers as rows,
};

#[derive(Clone, Debug, Default)]
pub struct IssuersApi;

#[OpenApi(prefix_path = "/api/v1/admin/issuers", tag = "Tag::Administration")]
impl IssuersApi {
    /// List trusted issuers
    ///
    /// In order of their ids.
    #[oai(path = "/", method = "get", operation_id = "adminListIssuers")]
    async fn list(&self, admin: Admin, page: Paging) -> List<IssuerData> {
        let after = page.after().unwrap_or_default();
        let found = rows::page(&admin.app.db, after, page.rows()).await;
        Ok(page.answer("issuers", found, |issuer| issuer.id.clone())?)
    }

    /// Add a trusted issuer
    ///
    /// A client may present its JWTs where the client's `token_exchange` policy names the issuer;
    /// an ID-JAG needs no such policy.
    #[oai(path = "/", method = "post", operation_id = "adminCreateIssuer")]
    async fn create(
        &self,
        admin: Admin,
        idempotency_key: IdempotencyKey,
        body: Body<CreateIssuer>,
    ) -> Create<IssuerData, Conflict> {
        let request = idempotency_key.request(&admin, "issuer.add", &body.0)?;
        let Body(CreateIssuer { id, issuer, settings }) = body;
        let settings = settings.read()?;
        let created =
            issuers::create(&admin.app, id, issuer, settings, request, &admin.actor).await?;
        Ok(created.into())
    }

    /// Get a trusted issuer
    ///
    /// The `ETag` of the response goes into `If-Match` of a change.
    #[oai(path = "/:id", method = "get", operation_id = "adminGetIssuer")]
    async fn get(&self, admin: Admin, id: Path) -> Get<IssuerData> {
        Ok(WithEtag::new("issuer", issuers::by_id(&admin.app, &id.0).await?))
    }

    /// Replace a trusted issuer's settings
    ///
    /// Its id and its `issuer` stay as they are.
    #[oai(path = "/:id", method = "put", operation_id = "adminReplaceIssuer")]
    async fn replace(
        &self,
        admin: Admin,
        id: Path,
        if_match: IfMatch,
        body: Body<IssuerSettingsData>,
    ) -> Update<IssuerData> {
        let settings = body.0.read()?;
        let update = issuers::update(&admin.app, &id.0, &if_match.0, settings, &admin.actor);
        Ok(WithEtag::new("replaced", update.await?))
    }

    /// Delete a trusted issuer
    ///
    /// Its links are deleted, and the sessions that its JWTs have opened are revoked.
    #[oai(path = "/:id", method = "delete", operation_id = "adminDeleteIssuer")]
    async fn delete(&self, admin: Admin, id: Path, if_match: IfMatch) -> Delete {
        issuers::delete(&admin.app, &id.0, &if_match.0, &admin.actor).await?;
        Ok(deleted())
    }

    /// Disable a trusted issuer
    ///
    /// Its JWTs are refused, and the sessions that they have opened are revoked.
    #[oai(path = "/:id/disable", method = "post", operation_id = "adminDisableIssuer")]
    async fn disable(&self, admin: Admin, id: Path) -> Act<WithEtag<IssuerData>> {
        let issuer = issuers::disable(&admin.app, &id.0, &admin.actor).await?;
        Ok(WithEtag::new("disabled", issuer))
    }

    /// Enable a trusted issuer
    ///
    /// Revoked sessions stay revoked.
    #[oai(path = "/:id/enable", method = "post", operation_id = "adminEnableIssuer")]
    async fn enable(&self, admin: Admin, id: Path) -> Act<WithEtag<IssuerData>> {
        let issuer = issuers::enable(&admin.app, &id.0, &admin.actor).await?;
        Ok(WithEtag::new("enabled", issuer))
    }

    /// List an issuer's linked subjects
    ///
    /// In order of the subjects.
    #[oai(path = "/:id/links", method = "get", operation_id = "adminListIssuerLinks")]
    async fn links(&self, admin: Admin, id: Path, page: Paging) -> List<LinkData, NotFound> {
        issuers::by_id(&admin.app, &id.0).await?;
        let after = page.after().unwrap_or_default();
        let found = rows::links(&admin.app.db, &id.0, after, page.rows()).await;
        Ok(page.answer("links", found, |link| link.subject.clone())?)
    }

    /// Link a subject of an issuer to a user
    ///
    /// The issuer's JWTs about the subject are about that user from now on.
    #[oai(path = "/:id/links", method = "post", operation_id = "adminLinkIssuerSubject")]
    async fn link(
        &self,
        admin: Admin,
        id: Path,
        body: Body<LinkSubject>,
    ) -> Act<Answer<LinkData>, (JsonBody, Conflict)> {
        let Body(LinkSubject { subject, user_id }) = body;
        let link =
            issuers::link(&admin.app, &id.0, &subject, &user_id.into(), &admin.actor).await?;
        Ok(Answer::new("linked", link.into()))
    }

    /// Remove a link
    ///
    /// The sessions that the issuer's JWTs have opened for the user are revoked.
    #[oai(
        path = "/:id/links/:subject",
        method = "delete",
        operation_id = "adminUnlinkIssuerSubject"
    )]
    async fn unlink(&self, admin: Admin, id: Path, subject: Path) -> Act<Answer<Nothing>> {
        issuers::unlink(&admin.app, &id.0, &subject.0, &admin.actor).await?;
        Ok(Answer::new("unlinked", Nothing {}))
    }
}

/// What the JWTs of an issuer are accepted as.
#[derive(Clone, Copy, Debug, Enum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename_all = "snake_case", rename = "IssuerUse")]
pub enum IssuerUseData {
    /// As the `subject_token` of a token exchange.
    SubjectToken,
    /// As the `actor_token` of a token exchange.
    ActorToken,
    /// As an Identity Assertion JWT Authorization Grant.
    IdJag,
}

impl From<IssuerUse> for IssuerUseData {
    fn from(one: IssuerUse) -> Self {
        match one {
            IssuerUse::SubjectToken => Self::SubjectToken,
            IssuerUse::ActorToken => Self::ActorToken,
            IssuerUse::IdJag => Self::IdJag,
        }
    }
}

impl From<IssuerUseData> for IssuerUse {
    fn from(one: IssuerUseData) -> Self {
        match one {
            IssuerUseData::SubjectToken => Self::SubjectToken,
            IssuerUseData::ActorToken => Self::ActorToken,
            IssuerUseData::IdJag => Self::IdJag,
        }
    }
}

/// A trusted issuer.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "TrustedIssuer", example)]
pub struct IssuerData {
    /// The namespace of its subjects: they are `@<id>:<sub>` here.
    pub id: String,
    /// The `iss` of its JWTs.
    pub issuer: String,
    pub settings: IssuerSettingsData,
    /// Creation time (RFC 3339).
    pub created_at: String,
    /// Time of the last change (RFC 3339).
    pub updated_at: String,
    /// When it was disabled (RFC 3339); null: it is enabled.
    pub disabled_at: Option<String>,
}

impl From<TrustedIssuer> for IssuerData {
    fn from(issuer: TrustedIssuer) -> Self {
        Self {
            id: issuer.id,
            issuer: issuer.issuer,
            settings: issuer.settings.into(),
            created_at: issuer.created_at.rfc3339(),
            updated_at: issuer.updated_at.rfc3339(),
            disabled_at: issuer.disabled_at.map(Timestamp::rfc3339),
        }
    }
}

impl Example for IssuerData {
    fn example() -> Self {
        let CreateIssuer { id, issuer, settings } = Example::example();
        Self {
            id,
            issuer,
            settings,
            created_at: "2026-11-21T04:22:00Z".to_owned(),
            updated_at: "2026-11-21T04:22:00Z".to_owned(),
            disabled_at: None,
        }
    }
}

/// The settings of a trusted issuer.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(skip_serializing_if_is_none, rename_all = "camelCase", rename = "IssuerSettings", example)]
pub struct IssuerSettingsData {
    /// What its JWTs are accepted as; at least one.
    pub trusted_for: Vec<IssuerUseData>,
    /// The URL of its public keys as a JWKS; required without `jwks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// Its public keys as a JWKS; required without `jwksUri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<BTreeMap<String, Value>>,
    /// The accepted `aud` of its subject and actor tokens; empty: this server's issuer. An ID-JAG is
    /// for this server's issuer alone.
    #[serde(default)]
    #[oai(default)]
    pub audiences: Vec<String>,
    /// The clients that may present its JWTs; empty: every client whose policy allows it, but no
    /// self-registered one.
    #[serde(default)]
    #[oai(default)]
    pub clients: Vec<String>,
    /// The most that tokens for its subjects may carry.
    #[serde(default)]
    #[oai(default)]
    pub scopes: Vec<String>,
}

impl IssuerSettingsData {
    fn read(self) -> Result<IssuerSettings, Error> {
        if self.scopes.iter().any(|scope| scope.contains(' ')) {
            return Err(Error::field("scopes", "must be an array of single scopes"));
        }
        let scope = Scope::parse(&self.scopes.join(" "));
        Ok(IssuerSettings {
            jwks: self.jwks.map(Value::from_iter),
            jwks_uri: self.jwks_uri,
            trusted_for: self.trusted_for.into_iter().map(IssuerUse::from).collect(),
            audiences: self.audiences,
            clients: self.clients,
            scope: scope.map_err(|why| Error::field("scopes", why))?,
        })
    }
}

impl From<IssuerSettings> for IssuerSettingsData {
    fn from(settings: IssuerSettings) -> Self {
        let jwks = settings.jwks.and_then(|jwks| match jwks {
            Value::Object(members) => Some(members.into_iter().collect()),
            _ => None,
        });
        Self {
            trusted_for: settings.trusted_for.into_iter().map(IssuerUseData::from).collect(),
            jwks_uri: settings.jwks_uri,
            jwks,
            audiences: settings.audiences,
            clients: settings.clients,
            scopes: settings.scope.iter().map(str::to_owned).collect(),
        }
    }
}

example!(IssuerSettingsData, {
    "trustedFor": ["id_jag"],
    "jwksUri": "https://idp.acme.example/oauth2/jwks",
    "scopes": ["notes:read"]
});

/// The issuer to add.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
pub struct CreateIssuer {
    /// 1 to 32 of `a-z`, `0-9` and `-`: the namespace of its subjects.
    pub id: String,
    /// The `iss` of its JWTs.
    pub issuer: String,
    pub settings: IssuerSettingsData,
}

impl Example for CreateIssuer {
    fn example() -> Self {
        Self {
            id: "acme".to_owned(),
            issuer: "https://idp.acme.example".to_owned(),
            settings: Example::example(),
        }
    }
}

/// A subject of an issuer that is a user of this server.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "LinkedSubject", example)]
pub struct LinkData {
    /// The `sub` of the issuer's JWTs.
    pub subject: String,
    pub user_id: String,
    /// Creation time (RFC 3339).
    pub created_at: String,
}

impl From<LinkedSubject> for LinkData {
    fn from(link: LinkedSubject) -> Self {
        Self {
            subject: link.subject,
            user_id: link.user_id.into(),
            created_at: link.created_at.rfc3339(),
        }
    }
}

example!(LinkData, {
    "subject": "U019488227",
    "userId": "0193f1a8-6c1e-7a52-9f0b-2f5f8f1f3c11",
    "createdAt": "2026-11-21T04:22:00Z"
});

/// The subject and its user.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename_all = "camelCase", example)]
pub struct LinkSubject {
    /// The `sub` of the issuer's JWTs.
    pub subject: String,
    pub user_id: String,
}

example!(LinkSubject, {
    "subject": "U019488227",
    "userId": "0193f1a8-6c1e-7a52-9f0b-2f5f8f1f3c11"
});

//! `/api/v1/account`: the sessions and the applications of the current user.

use std::borrow::Cow;

use poem_openapi::{Object, OpenApi, param::Path, types::Example};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Tag, auth::check_rate_limit, data::Nothing};
use crate::{
    api_error::ApiError,
    clock::Timestamp,
    config::Terms,
    flows::accounts::{
        applications::{self, Application},
        deletion,
        devices::{self, Here, OwnSession},
        export::{self, Export},
        second_factors::Login,
        terms,
    },
    http::{
        context::Context,
        failure::{Failure, codes},
        json::{Answer, Body},
        scopes,
        security::Credentials,
        views::{Locale, ScopeLine},
    },
    ids::UserId,
    oauth::scope::Scope,
};

#[derive(Debug)]
pub struct AccountApi;

/// A session of the current user: the login of a browser, or a session of an application.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "AccountSession", example)]
pub struct SessionData {
    pub id: String,
    /// `browser` or `application`.
    pub kind: String,
    /// The application; null for a browser.
    pub client_id: Option<String>,
    /// The display name of the application.
    pub client_name: Option<String>,
    /// The browser session in which an application's session was opened; it ends with that one,
    /// unless the application may keep it (`offline_access`).
    pub browser_session_id: Option<String>,
    /// The browser as it named itself; null if it is not a known one.
    pub browser: Option<String>,
    /// The system as the browser named it.
    pub system: Option<String>,
    /// The IP address at the last login.
    pub address: Option<String>,
    /// When it was opened (RFC 3339, UTC).
    pub created_at: String,
    /// When it was last used to get tokens (RFC 3339, UTC).
    pub last_used_at: String,
    /// When it ends at the latest (RFC 3339, UTC).
    pub expires_at: String,
    /// Whether the request belongs to it.
    pub current: bool,
}

impl From<OwnSession> for SessionData {
    fn from(session: OwnSession) -> Self {
        let (client_id, client_name) =
            session.client.map(|client| (client.id.into(), client.name)).unzip();
        let kind = if client_id.is_some() { "application" } else { "browser" };
        Self {
            id: session.id,
            kind: kind.to_owned(),
            client_id,
            client_name,
            browser_session_id: session.browser_session_id.map(Into::into),
            browser: session.device.browser.map(str::to_owned),
            system: session.device.system.map(str::to_owned),
            address: session.address,
            created_at: session.created_at.rfc3339(),
            last_used_at: session.last_used_at.rfc3339(),
            expires_at: session.expires_at.rfc3339(),
            current: session.is_current,
        }
    }
}

impl Example for SessionData {
    fn example() -> Self {
        Self {
            id: "01a1fca5-0ae5-741a-b136-32b4b1af948e".to_owned(),
            kind: "browser".to_owned(),
            client_id: None,
            client_name: None,
            browser_session_id: None,
            browser: Some("Firefox".to_owned()),
            system: Some("Linux".to_owned()),
            address: Some("192.0.2.7".to_owned()),
            created_at: "2026-11-20T18:04:00Z".to_owned(),
            last_used_at: "2026-11-21T09:30:00Z".to_owned(),
            expires_at: "2026-12-20T18:04:00Z".to_owned(),
            current: true,
        }
    }
}

/// How many sessions were ended.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(rename = "EndedSessions")]
pub struct EndedData {
    /// Of browsers and of applications.
    pub ended: u64,
}

/// A scope in words.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(rename = "DescribedScope")]
pub struct ScopeData {
    /// The value in requests and tokens.
    pub name: String,
    /// What it allows, in the language of `Accept-Language`; null: nobody has described it.
    pub description: Option<String>,
    /// The display name of the module it belongs to.
    pub module: Option<String>,
}

/// What a user has allowed an application.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "GivenConsent")]
pub struct ConsentData {
    /// The resources it is for (RFC 8707); empty: this server's own API.
    pub resources: Vec<String>,
    pub scopes: Vec<ScopeData>,
    /// When it was given, or extended (RFC 3339, UTC).
    pub given_at: String,
}

/// An application of the current user.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "ConnectedApplication", example)]
pub struct ApplicationData {
    pub client_id: String,
    pub name: String,
    /// Its home page.
    pub uri: Option<String>,
    /// Whether it has registered itself: nobody has verified its name.
    pub self_registered: bool,
    /// What it was allowed; empty for an application that asks for no consent.
    pub consents: Vec<ConsentData>,
    /// The number of its valid sessions.
    pub sessions: u64,
    /// When it last got tokens (RFC 3339, UTC); null: long ago, or never.
    pub last_used_at: Option<String>,
}

impl ApplicationData {
    async fn of(context: &Context, t: &Locale, one: Application) -> Result<Self, ApiError> {
        let mut consents = vec![];
        for consent in &one.consents {
            let (scope, resources) = (&consent.scope, &consent.resources);
            let lines = scopes::lines(&context.app, t, scope, resources, &Scope::default()).await?;
            let scope = |line: &ScopeLine| ScopeData {
                name: line.name.clone(),
                description: line.description(t).map(Cow::into_owned),
                module: line.module.clone(),
            };
            consents.push(ConsentData {
                resources: consent.resources.clone(),
                scopes: lines.iter().map(scope).collect(),
                given_at: consent.given_at.rfc3339(),
            });
        }
        let client = one.client.as_deref();
        Ok(Self {
            name: one.name().to_owned(),
            uri: client.and_then(|client| client.metadata.client_uri.clone()),
            self_registered: client.is_some_and(|client| client.source.is_self_registered()),
            consents,
            sessions: one.sessions,
            last_used_at: one.last_used_at.map(Timestamp::rfc3339),
            client_id: one.client_id.into(),
        })
    }
}

impl Example for ApplicationData {
    fn example() -> Self {
        let scope = ScopeData {
            name: "email".to_owned(),
            description: Some("See your email address".to_owned()),
            module: None,
        };
        Self {
            client_id: "notes".to_owned(),
            name: "Notes".to_owned(),
            uri: Some("https://notes.example".to_owned()),
            self_registered: false,
            consents: vec![ConsentData {
                resources: vec![],
                scopes: vec![scope],
                given_at: "2026-11-20T18:04:00Z".to_owned(),
            }],
            sessions: 1,
            last_used_at: Some("2026-11-21T09:30:00Z".to_owned()),
        }
    }
}

/// A deletion of an account.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "AccountDeletion")]
pub struct DeletionData {
    /// When the account is deleted (RFC 3339, UTC).
    pub deletion_at: String,
}

/// A request to keep an account.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct CancelDeletion {
    /// From the answer `ACCOUNT_DELETION_PENDING` to a login.
    pub cancel_token: String,
}

/// Everything the server keeps about the current user, without secrets. Lists have the newest
/// entries, at most 1,000 each.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "AccountExport")]
pub struct ExportData {
    /// RFC 3339, UTC.
    pub exported_at: String,
    /// The names of the lists that have been cut: there may be older entries.
    pub cut: Vec<String>,
    pub account: Value,
    pub browser_sessions: Vec<Value>,
    pub sessions: Vec<Value>,
    pub consents: Vec<Value>,
    /// Grants of modules with their history.
    pub modules: Vec<Value>,
    pub second_factors: Vec<Value>,
    /// Browsers in which the user is not asked for the second factor.
    pub remembered_devices: Vec<Value>,
    /// Connected accounts at services.
    pub services: Vec<Value>,
    /// Identities at other providers.
    pub identities: Vec<Value>,
    /// Devices and networks in which the user has logged in.
    pub known_sources: Vec<Value>,
    /// Subjects of other issuers that are linked to the user.
    pub linked_subjects: Vec<Value>,
    /// Mails to the user, without their texts.
    pub mails: Vec<Value>,
    /// Entries of the audit log about the user, and of what the user did.
    pub audit_log: Vec<Value>,
}

impl From<Export> for ExportData {
    fn from(export: Export) -> Self {
        let Export { at, account, mut lists, cut } = export;
        let mut list = |name| lists.remove(name).unwrap_or_default();
        Self {
            exported_at: at.rfc3339(),
            cut: cut.into_iter().map(str::to_owned).collect(),
            account,
            browser_sessions: list("browserSessions"),
            sessions: list("sessions"),
            consents: list("consents"),
            modules: list("modules"),
            second_factors: list("secondFactors"),
            remembered_devices: list("rememberedDevices"),
            services: list("services"),
            identities: list("identities"),
            known_sources: list("knownSources"),
            linked_subjects: list("linkedSubjects"),
            mails: list("mails"),
            audit_log: list("auditLog"),
        }
    }
}

/// The terms of this deployment, and what the current user has accepted.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "AccountTerms", example)]
pub struct TermsData {
    /// The version in force; null: there are no terms.
    pub version: Option<String>,
    pub url: Option<String>,
    /// Where the privacy policy is.
    pub privacy_url: Option<String>,
    /// The version that the user has accepted last; null: none.
    pub accepted_version: Option<String>,
    /// When (RFC 3339).
    pub accepted_at: Option<String>,
    /// Whether the user has yet to accept the version in force.
    pub due: bool,
}

impl Example for TermsData {
    fn example() -> Self {
        Self {
            version: Some("2026-11".to_owned()),
            url: Some("https://example.com/terms".to_owned()),
            privacy_url: None,
            accepted_version: Some("2026-01".to_owned()),
            accepted_at: Some("2026-01-21T09:30:00Z".to_owned()),
            due: true,
        }
    }
}

/// The acceptance of the terms.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct AcceptTerms {
    /// The version in force.
    accepted_terms: String,
}

codes!(TermsErrors: Validation, MalformedJson, BadRequest, InvalidToken, InsufficientScope, CrossSite, Conflict, RequestTimeout,
    TooLarge, UnsupportedMediaType, TooManyRequests, Internal, Unavailable);
codes!(ExportErrors: InvalidToken, InsufficientScope, InsufficientUserAuthentication, RequestTimeout, TooManyRequests,
    Internal, Unavailable);
codes!(DeleteErrors: InvalidToken, InsufficientScope, CrossSite, InsufficientUserAuthentication, Conflict, RequestTimeout,
    TooManyRequests, Internal, Unavailable);
codes!(CancelErrors: Validation, MalformedJson, BadRequest, InvalidMfaToken, RequestTimeout, TooLarge,
    UnsupportedMediaType, TooManyRequests, Internal, Unavailable);
codes!(ListErrors: InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);
codes!(GetErrors: InvalidToken, InsufficientScope, NotFound, RequestTimeout, Internal, Unavailable);
codes!(EndErrors: InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout, TooManyRequests, Internal,
    Unavailable);
codes!(EndAllErrors: InvalidToken, InsufficientScope, CrossSite, RequestTimeout, TooManyRequests, Internal, Unavailable);

#[OpenApi(prefix_path = "/api/v1/account", tag = "Tag::Account")]
impl AccountApi {
    /// List own sessions
    ///
    /// The valid ones: browsers first, each kind newest first, at most 200 of each.
    #[oai(path = "/sessions", method = "get", operation_id = "listOwnSessions")]
    async fn sessions(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<Vec<SessionData>>, Failure<ListErrors>> {
        let (user_id, here) = current(&context, credentials).await?;
        let all = devices::list(&context.app, &user_id, &here).await?;
        Ok(Answer::new("Sessions listed.", all.into_iter().map(From::from).collect()))
    }

    /// Get an own session
    ///
    /// A session of another user is not found.
    #[oai(path = "/sessions/:id", method = "get", operation_id = "getOwnSession")]
    async fn session(
        &self,
        context: Context,
        credentials: Credentials,
        /// The id of the session.
        id: Path<String>,
    ) -> Result<Answer<SessionData>, Failure<GetErrors>> {
        let (user_id, here) = current(&context, credentials).await?;
        let one = devices::get(&context.app, &user_id, &id.0, &here).await?;
        Ok(Answer::new("Session found.", one.into()))
    }

    /// End an own session
    ///
    /// Its tokens are refused at once. A browser's session takes the sessions with it that
    /// applications have opened in it, as a logout does, and their applications are notified.
    #[oai(path = "/sessions/:id", method = "delete", operation_id = "endOwnSession")]
    async fn end(
        &self,
        context: Context,
        credentials: Credentials,
        /// The id of the session.
        id: Path<String>,
    ) -> Result<Answer<Nothing>, Failure<EndErrors>> {
        let (user_id, _) = current(&context, credentials).await?;
        devices::end(&context.app, &user_id, &id.0, &context.caller).await?;
        Ok(Answer::new("Session ended.", Nothing {}))
    }

    /// End all other sessions
    ///
    /// All but the session of the access token and, where it was opened in a browser, the browser
    /// session with everything in it.
    #[oai(path = "/sessions/revoke-others", method = "post", operation_id = "endOtherSessions")]
    async fn end_others(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<EndedData>, Failure<EndAllErrors>> {
        let (user_id, here) = current(&context, credentials).await?;
        let ended = devices::end_others(&context.app, &user_id, &here, &context.caller).await?;
        let ended = u64::try_from(ended).unwrap_or(u64::MAX);
        Ok(Answer::new("Other sessions ended.", EndedData { ended }))
    }

    /// List own applications
    ///
    /// Those that the user has allowed something, and those with valid sessions, by name.
    #[oai(path = "/applications", method = "get", operation_id = "listOwnApplications")]
    async fn applications(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
    ) -> Result<Answer<Vec<ApplicationData>>, Failure<ListErrors>> {
        let (user_id, _) = current(&context, credentials).await?;
        let t = Locale::of_request(request, None);
        let mut data = vec![];
        for one in applications::list(&context.app, &user_id).await? {
            data.push(ApplicationData::of(&context, t, one).await?);
        }
        Ok(Answer::new("Applications listed.", data))
    }

    /// Get an own application
    ///
    /// An application that the user has neither allowed anything nor a valid session at is not found.
    #[oai(path = "/applications/:client_id", method = "get", operation_id = "getOwnApplication")]
    async fn application(
        &self,
        context: Context,
        credentials: Credentials,
        request: &poem::Request,
        /// The id of the application.
        client_id: Path<String>,
    ) -> Result<Answer<ApplicationData>, Failure<GetErrors>> {
        let (user_id, _) = current(&context, credentials).await?;
        let one = applications::get(&context.app, &user_id, &client_id.0.into()).await?;
        let data = ApplicationData::of(&context, Locale::of_request(request, None), one).await?;
        Ok(Answer::new("Application found.", data))
    }

    /// Withdraw an application
    ///
    /// Withdraws the consent. Sessions, codes and tokens of the application for the user are refused
    /// at once. An application that asks for no consent can log the user in again.
    #[oai(
        path = "/applications/:client_id",
        method = "delete",
        operation_id = "withdrawOwnApplication"
    )]
    async fn withdraw(
        &self,
        context: Context,
        credentials: Credentials,
        /// The id of the application.
        client_id: Path<String>,
    ) -> Result<Answer<Nothing>, Failure<EndErrors>> {
        let (user_id, _) = current(&context, credentials).await?;
        let client_id = client_id.0.into();
        applications::withdraw_own(&context.app, &user_id, &client_id, &context.caller).await?;
        Ok(Answer::new("Application withdrawn.", Nothing {}))
    }

    /// Export the own account
    ///
    /// Everything the server keeps about the user, without secrets; the newest 1,000 entries of each
    /// list. Needs a login of the last minutes (`second_factors.fresh_login`), with the second factor
    /// where the user has one.
    #[oai(path = "/export", method = "get", operation_id = "exportOwnAccount")]
    async fn export(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<ExportData>, Failure<ExportErrors>> {
        let claims = &credentials.account(&context.app).await?.claims;
        let login = Login::of_claims(claims);
        let user_id = claims.account_user();
        let exported = export::export(&context.app, &user_id, login, &context.caller).await?;
        Ok(Answer::new("Account exported.", exported.into()))
    }

    /// Get the terms
    ///
    /// Those in force, and what the user has accepted. Logins of the JSON API do not wait for an
    /// acceptance: the application asks for it when `due` says so.
    #[oai(path = "/terms", method = "get", operation_id = "getOwnTerms")]
    async fn terms(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<TermsData>, Failure<ListErrors>> {
        let (user_id, _) = current(&context, credentials).await?;
        let accepted = terms::of_user(&context.app, &user_id).await?;
        let terms = context.app.config.registration.required_terms();
        let is_accepted = |terms: &Terms| {
            accepted.as_ref().is_some_and(|accepted| accepted.version == terms.version)
        };
        let privacy_url = terms.map(|terms| terms.privacy_url.clone());
        let data = TermsData {
            due: terms.is_some_and(|terms| !is_accepted(terms)),
            version: terms.map(|terms| terms.version.clone()),
            url: terms.map(|terms| terms.url.clone()),
            privacy_url: privacy_url.filter(|url| !url.is_empty()),
            accepted_at: accepted.as_ref().map(|accepted| accepted.at.rfc3339()),
            accepted_version: accepted.map(|accepted| accepted.version),
        };
        Ok(Answer::new("Terms found.", data))
    }

    /// Accept the terms
    ///
    /// Of the version in force; the error names it.
    #[oai(path = "/terms", method = "post", operation_id = "acceptTerms")]
    async fn accept_terms(
        &self,
        context: Context,
        credentials: Credentials,
        body: Body<AcceptTerms>,
    ) -> Result<Answer<Nothing>, Failure<TermsErrors>> {
        let (user_id, _) = current(&context, credentials).await?;
        let version = body.0.accepted_terms;
        terms::accept(&context.app, &user_id, Some(&version), &context.caller).await?;
        Ok(Answer::new("Terms accepted.", Nothing {}))
    }

    /// Delete the own account
    ///
    /// Ends every session at once. The account is disabled, and deleted after a grace period
    /// (`accounts.deletion_grace`), unless a login keeps it. Needs a login of the last minutes
    /// (`second_factors.fresh_login`), with the second factor where the user has one. The last
    /// administrator cannot delete their account.
    #[oai(path = "/deletion", method = "post", operation_id = "deleteOwnAccount")]
    async fn delete(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<DeletionData>, Failure<DeleteErrors>> {
        let claims = &credentials.account(&context.app).await?.claims;
        let (user_id, login) = (claims.account_user(), Login::of_claims(claims));
        let at = deletion::request(&context.app, &user_id, login, &context.caller);
        let data = DeletionData { deletion_at: at.await?.rfc3339() };
        Ok(Answer::new("The account will be deleted.", data))
    }

    /// Keep the own account
    ///
    /// Cancels the deletion. A login of a user who has requested it is answered with
    /// `ACCOUNT_DELETION_PENDING` and the token for this. Opens no session: the user logs in again.
    #[oai(path = "/deletion", method = "delete", operation_id = "cancelAccountDeletion")]
    async fn cancel_deletion(
        &self,
        context: Context,
        body: Body<CancelDeletion>,
    ) -> Result<Answer<Nothing>, Failure<CancelErrors>> {
        check_rate_limit(&context)?;
        deletion::cancel(&context.app, &body.0.cancel_token, &context.caller).await?;
        Ok(Answer::new("The account is kept.", Nothing {}))
    }
}

/// The user of the access token, and the session that it is of.
async fn current(context: &Context, credentials: Credentials) -> Result<(UserId, Here), ApiError> {
    let verified = credentials.account(&context.app).await?;
    let here = Here::of_token(&context.app, verified.claims.sid.as_ref()).await?;
    Ok((verified.claims.account_user(), here))
}

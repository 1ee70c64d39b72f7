//! `/api/v1/tokens`: tokens for back ends that keep their own users.

use std::{marker::PhantomData, sync::Arc};

use poem::{RequestBody, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions, Object, OpenApi, registry::Registry,
    types::Example,
};
use serde::{Deserialize, Serialize};

use super::{
    Tag,
    data::{Nothing, TokenType},
};
use crate::{
    api_error::{ApiError, Detail, ErrorCode},
    app::App,
    clock::Timestamp,
    credentials::bearer,
    directory::CachedClient,
    error::Error,
    flows::{
        oauth::{
            client_auth::{self, Freshness, TOKENS},
            introspect::{self, Introspection},
            revoke,
            token::{
                self, TokenResponse,
                on_behalf_of::{OnBehalfOfRequest, RequestedUser},
            },
        },
        tokens::external_user::ExternalLogin,
    },
    http::{
        client_auth::credentials,
        context::Context,
        failure::{Failure, codes},
        json::{Answer, Body},
        operation,
    },
    model::{
        actor::{Actor, RequestContext},
        session::ExternalUser,
    },
    oauth::{
        access_token::Audience,
        requests::ClientParameters,
        token_request::{RefreshTokenRequest, requested_scope},
    },
};

#[derive(Debug)]
pub struct TokensApi;

codes!(IssueErrors: Validation, MalformedJson, BadRequest, InvalidClient, InvalidToken, InsufficientScope,
    UnauthorizedClient, RequestTimeout, TooLarge, UnsupportedMediaType, TooManyRequests, Internal, Unavailable);
codes!(RefreshErrors: Validation, MalformedJson, BadRequest, InvalidClient, InvalidToken, InvalidRefreshToken,
    InsufficientScope, UnauthorizedClient, RequestTimeout, TooLarge, UnsupportedMediaType, TooManyRequests, Internal,
    Unavailable);
codes!(VerifyErrors: Validation, MalformedJson, BadRequest, InvalidClient, InvalidToken, InsufficientScope,
    RequestTimeout, TooLarge, UnsupportedMediaType, TooManyRequests, Internal, Unavailable);

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::BackEnds")]
impl TokensApi {
    /// Issue tokens for a user whom the back end keeps
    ///
    /// Starts a session on behalf of the user, whom the back end has authenticated itself. Nothing
    /// is stored about the user beside the session. The `sub` of the tokens is the client's
    /// `subject_namespace`, a colon and the subject; the claim `user_id` is the subject.
    #[oai(path = "/tokens", method = "post", operation_id = "issueTokens")]
    async fn issue(
        &self,
        back_end: BackEndOf<Tokens>,
        body: Body<IssueRequest>,
    ) -> Result<Answer<SessionTokens, 201>, Failure<IssueErrors>> {
        let BackEndOf { app, caller, known, subject, .. } = &back_end;
        let request = body.0.into_request()?;
        let issued =
            token::on_behalf_of::issue(app, &known.client, &request, subject, caller).await;
        Ok(Answer::new("Tokens issued.", issued.map_err(named)?.into()))
    }

    /// Refresh tokens
    ///
    /// Exchanges a refresh token of the client. A retry with the same token within a few seconds (a
    /// lost response) returns the same new refresh token. Any later reuse revokes the session.
    #[oai(path = "/tokens/refresh", method = "post", operation_id = "refreshTokens")]
    async fn refresh(
        &self,
        back_end: BackEndOf<Tokens>,
        body: Body<RefreshTokensRequest>,
    ) -> Result<Answer<SessionTokens>, Failure<RefreshErrors>> {
        let BackEndOf { app, caller, known, .. } = &back_end;
        let Body(RefreshTokensRequest { refresh_token, scope, resource }) = body;
        let scope = requested_scope(scope.as_deref()).map_err(|error| named(error.into()))?;
        let request = RefreshTokenRequest { refresh_token, scope, resources: resource };
        let refreshed = token::refresh(app, &known.client, &request, caller).await;
        Ok(Answer::new("Tokens refreshed.", refreshed.map_err(named)?.into()))
    }

    /// Verify a token
    ///
    /// The same verdict as introspection (RFC 7662), including revocation. A token is active only
    /// for the client it was issued to and for clients registered for one of its audiences.
    #[oai(path = "/tokens/verify", method = "post", operation_id = "verifyToken")]
    async fn verify(
        &self,
        back_end: BackEndOf<Tokens>,
        body: Body<VerifyRequest>,
    ) -> Result<Answer<TokenState>, Failure<VerifyErrors>> {
        let BackEndOf { app, known, .. } = &back_end;
        let found = introspect::introspect(app, &known.client, &body.0.token).await?;
        let message = if found.active { "The token is active." } else { "The token is inactive." };
        Ok(Answer::new(message, found.into()))
    }

    /// Revoke a token, a session or a user's sessions
    ///
    /// Exactly one of the fields. The response is sent after the revocation is effective on every
    /// server. An invalid token, an unknown session and a user without sessions are no errors.
    #[oai(path = "/tokens/revoke", method = "post", operation_id = "revokeTokens")]
    async fn revoke(
        &self,
        back_end: BackEndOf<Tokens>,
        body: Body<RevokeRequest>,
    ) -> Result<Answer<Nothing>, Failure<IssueErrors>> {
        let BackEndOf { app, caller, known, subject, .. } = &back_end;
        let (client, actor) = (&known.client, Actor::caller(subject, caller));
        let Body(RevokeRequest { token, session_id, subject: user }) = body;
        let revoked = match (token, session_id, user) {
            (Some(token), None, None) => revoke::revoke(app, client, &token, caller).await,
            (None, Some(id), None) => revoke::revoke_session(app, client, &id.into(), &actor).await,
            (None, None, Some(user)) => revoke::revoke_subject(app, client, &user, &actor).await,
            _ => Err(Error::field("token", "give either `token`, `sessionId` or `subject`")),
        };
        revoked.map_err(named)?;
        Ok(Answer::new("Revoked.", Nothing {}))
    }
}

/// The errors of OAuth's flows as those of the JSON API: with the field at fault, and with a status
/// of its own where the client may not do what it asks for.
pub(super) fn named(error: Error) -> ApiError {
    match error {
        Error::OAuth(error) => match error.code {
            "invalid_scope" => ApiError::field("scope", error.description),
            "invalid_target" => ApiError::field("resource", error.description),
            "invalid_grant" => ApiError::new(ErrorCode::InvalidRefreshToken, error.description),
            "unauthorized_client" => {
                ApiError::new(ErrorCode::UnauthorizedClient, error.description)
            }
            _ => error.into(),
        },
        Error::Validation(fields) => {
            let mut error = ApiError::from(Error::Validation(fields));
            for Detail { field, .. } in &mut error.details {
                let name = match field.as_str() {
                    "auth_time" => "authTime",
                    "email_verified" => "emailVerified",
                    _ => continue,
                };
                error.message = error.message.replace(field.as_str(), name);
                *field = name.to_owned();
            }
            error
        }
        other => other.into(),
    }
}

/// Which back ends may call an operation.
pub(super) trait BackEndScope: Send + Sync {
    const SCOPE: &'static str;

    /// What else a request must be.
    fn check(_: &poem::Request) -> Result<(), ApiError> {
        Ok(())
    }
}

/// The back ends that get tokens of users.
#[derive(Debug)]
struct Tokens;

impl BackEndScope for Tokens {
    const SCOPE: &'static str = TOKENS;
}

/// An authenticated back end: by its client secret, or by an access token with the scope.
#[derive(Debug)]
pub(super) struct BackEndOf<S> {
    pub app: Arc<App>,
    pub caller: Arc<RequestContext>,
    pub known: CachedClient,
    /// The `sub` of the access token, or the client: for the audit log.
    pub subject: String,
    scope: PhantomData<S>,
}

impl<'a, S: BackEndScope> ApiExtractor<'a> for BackEndOf<S> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        crate::http::security::Credentials::register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![operation::CLIENT_SECRET, operation::ACCESS_TOKEN]
    }

    async fn from_request(
        request: &'a poem::Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let Context { app, caller } = Context::of(request)?;
        S::check(request)?;
        let (known, subject) = authenticate(app, request, caller, S::SCOPE).await?;
        let (app, caller) = (Arc::clone(app), Arc::clone(caller));
        Ok(Self { app, caller, known, subject, scope: PhantomData })
    }
}

async fn authenticate(
    app: &App,
    request: &poem::Request,
    caller: &RequestContext,
    scope: &'static str,
) -> Result<(CachedClient, String), ApiError> {
    let headers = request.headers();
    let is_basic = headers.get(header::AUTHORIZATION).is_some_and(|value| {
        value.as_bytes().get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic "))
    });
    if !is_basic {
        let token = bearer(headers)?.ok_or(Error::NoToken)?;
        let (verified, known) = client_auth::by_access_token(app, &token, scope).await?;
        return Ok((known, verified.claims.sub.clone()));
    }
    let none = ClientParameters {
        client_id: None,
        client_secret: None,
        client_assertion_type: None,
        client_assertion: None,
    };
    let credentials = credentials(headers, none).map_err(Error::from)?;
    let known = client_auth::authenticate(app, &credentials, Freshness::Now, caller).await?;
    client_auth::must_be_trusted(&known, scope).map_err(Error::from)?;
    if !known.client.metadata.scope.contains(scope) {
        return Err(client_auth::lacks(scope).into());
    }
    let subject = known.client.id.as_str().to_owned();
    Ok((known, subject))
}

/// A request for tokens.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename = "IssueTokens", rename_all = "camelCase", skip_serializing_if_is_none, example)]
pub struct IssueRequest {
    /// The back end's own id of the user: 1 to 200 printable characters.
    pub subject: String,
    /// The scope, space-separated; the client must be registered for all of it. Absent: the
    /// registered scope of the client, without `propusk:…`.
    pub scope: Option<String>,
    /// Resource indicators (RFC 8707). None: the API of this server.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_empty)]
    pub resource: Vec<String>,
    /// The claim `email`.
    pub email: Option<String>,
    /// Whether the back end has verified the email address; false if absent.
    pub email_verified: Option<bool>,
    /// The claim `preferred_username` of ID tokens and userinfo.
    pub username: Option<String>,
    /// The claim `role`: 1 to 32 of a-z, 0-9, _ and -; never `admin`.
    pub role: Option<String>,
    /// When the back end has authenticated the user, as Unix time in seconds. Absent: nobody logged
    /// in, and the tokens satisfy no `max_age`.
    pub auth_time: Option<i64>,
    /// The authentication methods (RFC 8176), for ID tokens.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_empty)]
    pub amr: Vec<String>,
    /// The authentication context class, for ID tokens.
    pub acr: Option<String>,
    /// The ids of the only modules that the tokens may carry, of those that administrators have
    /// granted to the user. None: all of these.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_empty)]
    pub modules: Vec<String>,
}

impl IssueRequest {
    fn into_request(self) -> Result<OnBehalfOfRequest, ApiError> {
        let scope = requested_scope(self.scope.as_deref()).map_err(|error| named(error.into()))?;
        let login = ExternalLogin {
            user: ExternalUser {
                id: self.subject,
                email: self.email,
                email_verified: self.email_verified.unwrap_or_default(),
                username: self.username,
                role: self.role,
                modules: self.modules,
            },
            auth_time: self.auth_time,
            amr: self.amr,
            acr: self.acr,
        };
        let user = RequestedUser::External(Box::new(login));
        Ok(OnBehalfOfRequest { user, scope, resources: self.resource })
    }
}

impl Example for IssueRequest {
    fn example() -> Self {
        Self {
            subject: "42".to_owned(),
            scope: Some("openid orders:read".to_owned()),
            resource: vec![],
            email: Some("vera@example.org".to_owned()),
            email_verified: Some(true),
            username: Some("vera".to_owned()),
            role: Some("buyer".to_owned()),
            auth_time: Some(1_795_219_200),
            amr: vec!["pwd".to_owned()],
            acr: None,
            modules: vec![],
        }
    }
}

/// A refresh of a session's tokens.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename = "RefreshTokens", rename_all = "camelCase", skip_serializing_if_is_none, example)]
pub struct RefreshTokensRequest {
    /// The refresh token.
    pub refresh_token: String,
    /// A narrower scope for this access token. Absent: the scope of the session.
    pub scope: Option<String>,
    /// Fewer resources for this access token. None: the resources of the session.
    #[serde(default)]
    #[oai(default, skip_serializing_if_is_empty)]
    pub resource: Vec<String>,
}

impl Example for RefreshTokensRequest {
    fn example() -> Self {
        let refresh_token = "prt_AAAAAgGh_KUK5XuAn9Chtx63QPtH...".to_owned();
        Self { refresh_token, scope: None, resource: vec![] }
    }
}

/// The tokens of a session.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none, example)]
pub struct SessionTokens {
    /// The access token, a JWT (RFC 9068), to be sent as `Authorization: Bearer …`.
    pub access_token: String,
    /// The refresh token, valid for one refresh. Absent if the client is not registered for the
    /// grant type `refresh_token`; the session then ends with the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// The ID token, if the session has the scope `openid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_token: Option<String>,
    /// Always `Bearer`.
    pub token_type: TokenType,
    /// The lifetime of the access token in seconds.
    pub expires_in: u64,
    /// The lifetime of the refresh token in seconds, unless it is used earlier; 0 without one.
    pub refresh_expires_in: u64,
    /// The scope of the access token, space-separated; may be narrower than requested.
    pub scope: String,
    /// The id of the session, the `sid` of its tokens; `/revoke` accepts it.
    pub session_id: String,
}

impl From<TokenResponse> for SessionTokens {
    fn from(issued: TokenResponse) -> Self {
        let (session_id, refresh_expires_in) =
            issued.session.map(|one| (one.id, one.refresh_expires_in)).unwrap_or_default();
        Self {
            access_token: issued.access_token,
            refresh_token: issued.refresh_token,
            id_token: issued.id_token,
            token_type: TokenType::Bearer,
            expires_in: issued.expires_in,
            refresh_expires_in,
            scope: issued.scope.to_string(),
            session_id: session_id.into(),
        }
    }
}

impl Example for SessionTokens {
    fn example() -> Self {
        Self {
            access_token: "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6Ii4uLiJ9...".to_owned(),
            refresh_token: Some("prt_AAAAAgGh_KUK5XuAn9Chtx63QPtH...".to_owned()),
            id_token: None,
            token_type: TokenType::Bearer,
            expires_in: 900,
            refresh_expires_in: 604_800,
            scope: "orders:read".to_owned(),
            session_id: "01a1fca5-0ae5-7b80-9fd0-a1b74eb40fb7".to_owned(),
        }
    }
}

/// The token to verify.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(rename = "VerifyTokenRequest")]
pub struct VerifyRequest {
    /// The access token or refresh token.
    pub token: String,
}

/// The state of a token. An inactive token has no other field.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none, example)]
pub struct TokenState {
    /// Whether the token is valid for the calling client.
    pub active: bool,
    /// The `sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The back end's own id of the user; absent for an account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The client that the token was issued to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The id of the session; absent for a client credentials token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The scope, space-separated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The audience; absent for a refresh token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<Vec<String>>,
    /// The email address, if the token has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether the email address is verified, beside `email`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email_verified: Option<bool>,
    /// The role, if the token has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The user's modules at the audience, if the token has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modules: Option<Vec<String>>,
    /// When the user logged in, as Unix time in seconds; absent where nobody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// When the token was issued (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<String>,
    /// When the token expires (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

impl From<Introspection> for TokenState {
    fn from(introspection: Introspection) -> Self {
        let Some(facts) = introspection.facts else {
            return Self::default();
        };
        let rfc3339 = |secs| Timestamp::from_secs(secs).map(Timestamp::rfc3339);
        Self {
            active: true,
            subject: Some(facts.sub),
            user_id: facts.user_id,
            client_id: Some(facts.client_id.into()),
            session_id: facts.sid.map(Into::into),
            scope: Some(facts.scope.unwrap_or_default()),
            audience: facts.aud.map(|audience| match audience {
                Audience::One(one) => vec![one],
                Audience::Several(several) => several,
            }),
            email: facts.email,
            email_verified: facts.email_verified,
            role: facts.role,
            modules: facts.modules,
            auth_time: facts.auth_time,
            issued_at: rfc3339(facts.iat),
            expires_at: rfc3339(facts.exp),
        }
    }
}

impl Example for TokenState {
    fn example() -> Self {
        Self {
            active: true,
            subject: Some("mp1:42".to_owned()),
            user_id: Some("42".to_owned()),
            client_id: Some("mp1".to_owned()),
            session_id: Some("01a1fca5-0ae5-7b80-9fd0-a1b74eb40fb7".to_owned()),
            scope: Some("orders:read".to_owned()),
            audience: Some(vec!["https://auth.example.org".to_owned()]),
            email: Some("vera@example.org".to_owned()),
            email_verified: Some(true),
            role: Some("buyer".to_owned()),
            modules: None,
            auth_time: Some(1_795_219_200),
            issued_at: Some("2026-11-21T00:00:00Z".to_owned()),
            expires_at: Some("2026-11-21T00:15:00Z".to_owned()),
        }
    }
}

/// What to revoke: exactly one of the fields.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename = "RevokeTokens", rename_all = "camelCase", skip_serializing_if_is_none, example)]
pub struct RevokeRequest {
    /// An access token, or a refresh token and with it its session.
    pub token: Option<String>,
    /// A session of the client.
    pub session_id: Option<String>,
    /// The back end's own id of a user: every session of the user, with each client of the same
    /// `subject_namespace`.
    pub subject: Option<String>,
}

impl Example for RevokeRequest {
    fn example() -> Self {
        Self { subject: Some("42".to_owned()), ..Self::default() }
    }
}

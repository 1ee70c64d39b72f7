//! Identity Assertion JWT Authorization Grants (ID-JAG), issued by this server as the identity
//! provider (draft-ietf-oauth-identity-assertion-authz-grant §4.3): a client exchanges the ID token
//! of its user for a grant at the authorization server of another application.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::{
    super::TokenResponse,
    ACTION,
    presented::{self, Origin, Presented},
};
use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    error::Error,
    flows::{oauth::resources::among, tokens::id_token},
    model::{
        actor::{Actor, RequestContext},
        client::{Client, IdJagTarget, TokenExchangePolicy},
        session::Session,
        trusted_issuer::IssuerUse,
    },
    oauth::{
        access_token::Audience,
        error::OAuthError,
        jwt::{InvalidToken, TokenType},
        scope::Scope,
        token_request::{TokenExchangeRequest, TokenTypeIdentifier},
    },
};

/// How long a grant is valid: it is presented at once.
const LIFETIME: Duration = Duration::from_secs(300);

/// The claims of an ID-JAG (§3.1).
#[derive(Debug, Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    /// The client's id at the audience.
    client_id: &'a str,
    jti: String,
    iat: i64,
    exp: i64,
    resource: Audience,
    #[serde(skip_serializing_if = "Scope::is_empty")]
    scope: &'a Scope,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    amr: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
}

/// Issues an ID-JAG for an ID token, or a refresh token, of the client's session.
///
/// # Errors
/// `unauthorized_client` for a client without such a policy; `invalid_grant` for an unusable
/// subject token; `invalid_target` and `invalid_scope` for what the policy does not allow.
pub(super) async fn issue(
    app: &App,
    client: &Client,
    request: &TokenExchangeRequest,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    if client.metadata.id_jag.is_empty() {
        let message = "the client has no policy for ID-JAGs (`id_jag`)";
        return Err(OAuthError::unauthorized_client(message).into());
    }
    if request.actor.is_some() {
        let message = "`actor_token` is not supported with this `requested_token_type`";
        return Err(OAuthError::invalid_request(message).into());
    }
    let target = target(client, request)?;
    let resource = resources(target, &request.resources)?;
    let scope = match &request.scope {
        None => &target.scope,
        Some(requested) if requested.is_subset_of(&target.scope) => requested,
        Some(_) => {
            let message = "`scope` exceeds what the client may request at this `audience`";
            return Err(OAuthError::invalid_scope(message).into());
        }
    };
    let (subject, session) = user(app, client, request).await?;
    diagnostics::identify_user(&session.subject);

    let now = app.clock.now();
    let exp = subject.expires_at.min(now + LIFETIME);
    let user = session.user.as_ref().filter(|_| session.scope.contains("email"));
    let claims = Claims {
        iss: &app.config.server.issuer,
        sub: &session.subject,
        aud: &target.audience,
        client_id: &target.client_id,
        jti: app.new_id(),
        iat: now.as_secs(),
        exp: exp.as_secs(),
        resource: Audience::of(resource),
        scope,
        auth_time: session.authenticated_at.map(Timestamp::as_secs),
        acr: session.details.acr.as_deref(),
        amr: &session.details.amr,
        email: user.map(|user| user.email.as_str()),
        email_verified: user.map(|user| user.is_verified),
    };
    let algorithm = id_token::algorithm(app, client.metadata.id_token_signed_response_alg);
    let access_token = app.keys.sign(TokenType::IdJag, &claims, algorithm, now).await?;

    let noted = session.user.as_ref().map_or(session.subject.as_str(), |user| &user.id);
    let detail = json!({
        "clientId": client.id, "audience": target.audience, "scope": scope.to_string(),
        "resource": claims.resource, "sessionId": session.id, "jti": claims.jti,
    });
    app.audit(&Actor::caller(&client.id, caller), ACTION, noted, detail).await?;
    Ok(TokenResponse {
        is_bound: false,
        access_token,
        expires_in: u64::try_from(claims.exp - claims.iat).unwrap_or_default(),
        scope: scope.clone(),
        refresh_token: None,
        id_token: None,
        session: None,
        issued_token_type: Some(TokenTypeIdentifier::IdJag),
    })
}

/// The authorization server that `audience` names.
fn target<'a>(
    client: &'a Client,
    request: &TokenExchangeRequest,
) -> Result<&'a IdJagTarget, OAuthError> {
    let [audience] = request.audiences.as_slice() else {
        return Err(OAuthError::invalid_request(
            "`audience` must be given once: the issuer of the other authorization server",
        ));
    };
    let target = client.metadata.id_jag.iter().find(|target| target.audience == *audience);
    diagnostics::record("id_jag.audience_allowed", target.is_some());
    target.ok_or_else(|| {
        OAuthError::invalid_target("the client may get no ID-JAG for this `audience`")
    })
}

/// The resources of the request, which the policy allows; the only one where none is named.
fn resources(target: &IdJagTarget, named: &[String]) -> Result<Vec<String>, OAuthError> {
    match (named, target.resources.as_slice()) {
        ([], [only]) => Ok(vec![only.clone()]),
        ([], _) => Err(OAuthError::invalid_target("`resource` is missing")),
        (named, allowed) => among(allowed, named).ok_or_else(|| {
            OAuthError::invalid_target("the client may not name this `resource` at this `audience`")
        }),
    }
}

/// The user's session, by the subject token: the ID token of the client's own user (§4.3.1), or the
/// session's refresh token.
async fn user(
    app: &App,
    client: &Client,
    request: &TokenExchangeRequest,
) -> Result<(Presented, Session), Error> {
    let refuse = |why: &'static str| {
        diagnostics::record("subject_token", why);
        OAuthError::invalid_grant(format!("`subject_token` is not usable: {why}"))
    };
    let kind = request.subject.kind;
    if !matches!(kind, TokenTypeIdentifier::IdToken | TokenTypeIdentifier::RefreshToken) {
        return Err(OAuthError::invalid_request(
            "`subject_token_type` must be that of an ID token or a refresh token",
        )
        .into());
    }
    // The policy for access tokens does not matter here: no issuer is trusted with an ID token.
    let nobody = TokenExchangePolicy::default();
    let what = IssuerUse::SubjectToken;
    let read = presented::read(app, client, &nobody, &request.subject, what).await?;
    let mut subject = read.map_err(|InvalidToken(why)| refuse(why))?;
    match std::mem::replace(&mut subject.origin, Origin::Client) {
        Origin::Session(session) => Ok((subject, *session)),
        Origin::Client | Origin::Foreign(_) => Err(refuse("it is of no session here").into()),
    }
}

//! Identity Assertion JWT Authorization Grants (ID-JAG) of trusted issuers, accepted by this server
//! as the resource's authorization server (draft-ietf-oauth-identity-assertion-authz-grant §4.4):
//! the JWT bearer grant (RFC 7523 §2.1) with a JWT of the type `oauth-id-jag+jwt`.

use serde_json::json;

use super::{
    TokenResponse,
    foreign::{self, ForeignJwt, Opening},
};
use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    error::Error,
    flows::{
        oauth::resources::{self, Target, is_about_the_user},
        tokens::{
            issue::{self, TokenLifetimes},
            scope::is_own,
        },
    },
    jose::ClientJwt,
    limits::{Key, Limit},
    model::{actor::RequestContext, client::Client, trusted_issuer::IssuerUse},
    oauth::{
        access_token::Audience, error::OAuthError, jwt::InvalidToken, scope::Scope,
        thumbprint::Thumbprint, token_request::JwtBearerRequest,
    },
    storage::single_use::{self, Kind},
};

/// The longest lifetime of a grant, in seconds: its `jti` is remembered for so long.
const LONGEST_LIFETIME: i64 = 3_600;

/// Issues an access token for a grant, without a refresh token (§4.4.3): the client gets another
/// grant from the issuer.
///
/// # Errors
/// `unauthorized_client` for a public client; `invalid_grant` for an unusable grant, whatever the
/// reason; `invalid_target` and `invalid_scope` for what exceeds it; [`Error::TooMany`].
pub(super) async fn accept(
    app: &App,
    client: &Client,
    jwt: &ClientJwt<'_>,
    request: &JwtBearerRequest,
    key: Option<Thumbprint>,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    if client.is_public() {
        let message = "an ID-JAG is for clients that authenticate";
        return Err(OAuthError::unauthorized_client(message).into());
    }
    app.admit(Limit::Exchange, &Key::client(&client.id))?;
    let verified = foreign::verify(app, client, jwt, IssuerUse::IdJag).await?;
    let jwt = verified.map_err(|InvalidToken(why)| refuse(why))?;
    check(app, client, &jwt)?;
    let target = target(app, client, &jwt, &request.resources).await?;
    let scope = narrowed(client, &jwt, &target, request.scope.as_ref())?;
    // Last: only a grant that would be accepted is used up.
    let jti = jwt.claims.jti.as_deref().unwrap_or_default();
    let until = Timestamp::from_secs(jwt.claims.exp.saturating_add(60));
    let until = until.unwrap_or(Timestamp(i64::MAX));
    if !single_use::claim(&app.db, Kind::IdJag, &jwt.claims.iss, jti, until).await? {
        return Err(refuse("`jti` was used before: each grant is accepted once").into());
    }

    let now = app.clock.now();
    let detail = json!({
        "clientId": client.id, "subject": jwt.claims.sub, "audience": target.audience(app),
        "scope": scope.to_string(), "jti": jti,
    });
    let opening = Opening {
        scope: &scope,
        resources: target.names(),
        expires_at: now + TokenLifetimes::of(app, client).access,
        action: "token.id_jag",
        detail,
    };
    let session = foreign::open_session(app, client, &jwt, opening, caller).await?;
    let session = session.ok_or_else(|| refuse("the user is disabled"))?;
    diagnostics::identify_user(&session.subject);
    issue::for_session(app, client, session, scope, None, key, now).await
}

fn refuse(why: &'static str) -> OAuthError {
    diagnostics::record("assertion", why);
    OAuthError::invalid_grant(format!("`assertion` is not usable: {why}"))
}

/// The rules beyond the issuer's signature (§4.4.1). The grant is for this server alone and for the
/// client that presents it. A client that no operator has reviewed must be named by the issuer's
/// settings.
fn check(app: &App, client: &Client, jwt: &ForeignJwt) -> Result<(), OAuthError> {
    let claims = &jwt.claims;
    let now = app.clock.now().as_secs();
    let is_ours = |audience: &Audience| audience.names() == [app.config.server.issuer.clone()];
    let is_listed = jwt.issuer.settings.clients.iter().any(|one| *one == *client.id);
    let rules = [
        ("`aud` must be this server's issuer and nothing else", is_ours(&claims.aud)),
        ("`client_id` is another client", claims.client_id.as_deref() == Some(&*client.id)),
        ("`iat` is missing", claims.iat.is_some()),
        (
            "`jti` must have 1 to 256 bytes",
            claims.jti.as_ref().is_some_and(|jti| (1..=256).contains(&jti.len())),
        ),
        (
            "`exp` must be at most an hour in the future",
            claims.exp <= now.saturating_add(LONGEST_LIFETIME),
        ),
        (
            "`act` and `may_act` are not supported",
            claims.act.is_none() && matches!(jwt.may_act(), Ok(None)),
        ),
        (
            "its issuer is not trusted with self-registered clients",
            !client.source.is_self_registered() || is_listed,
        ),
    ];
    match rules.into_iter().find(|(_, holds)| !holds) {
        Some((why, _)) => Err(refuse(why)),
        None => Ok(()),
    }
}

/// The resources that the grant names, or those of them that the request names: all are resources of
/// this server that the client may request.
async fn target(
    app: &App,
    client: &Client,
    jwt: &ForeignJwt,
    named: &[String],
) -> Result<Target, Error> {
    let granted = foreign::resources_of(&jwt.claims);
    if granted.is_empty() {
        return Err(refuse("`resource` is missing").into());
    }
    let granted = match named {
        [] => granted,
        named => resources::among(&granted, named).ok_or_else(|| {
            OAuthError::invalid_target("`resource` must be one of the grant's resources")
        })?,
    };
    let target = resources::target(app, client, &granted).await;
    target.map_err(|error| match error {
        Error::OAuth(error) if named.is_empty() && error.code == "invalid_target" => {
            refuse("`resource` is unknown here, or the client may not request tokens for it").into()
        }
        other => other,
    })
}

/// The scope of the request, else of the grant, else the default scope of the resources: never more
/// than the grant, the issuer and the client may have.
fn narrowed(
    client: &Client,
    jwt: &ForeignJwt,
    target: &Target,
    requested: Option<&Scope>,
) -> Result<Scope, OAuthError> {
    let may = target.may_ask(client).filter(|token| !is_own(token) && !is_about_the_user(token));
    let most = jwt.scope().intersection(&may);
    match requested {
        Some(requested) if requested.is_subset_of(&most) => Ok(requested.clone()),
        Some(_) => {
            diagnostics::record("scope.allowed", &most);
            Err(OAuthError::invalid_scope("`scope` exceeds that of the grant"))
        }
        None if jwt.claims.scope.is_some() => Ok(most),
        None => Ok(target.default_scope(&most)),
    }
}

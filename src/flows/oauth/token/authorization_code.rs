//! The authorization code grant (RFC 6749 §4.1.3, RFC 7636 §4.5). A code is the row of a session
//! that has not begun: the exchange is one statement, and a replayed code revokes the session that
//! it began.

use super::TokenResponse;
use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    directory::CachedClient,
    error::Error,
    flows::{
        oauth::resources,
        sessions::end,
        tokens::{
            dpop,
            issue::{self, TokenLifetimes},
        },
    },
    ids::SessionId,
    model::{
        actor::{Actor, RequestContext},
        client::{Client, GrantType},
        session::{RevocationReason, Session},
    },
    oauth::{
        code::Code, error::OAuthError, pkce, refresh_token::RefreshToken, thumbprint::Thumbprint,
        token_request::AuthorizationCodeRequest,
    },
    storage::{
        sessions as rows,
        sessions::{CodeExchange, PresentedCode},
    },
};

/// Exchanges a code; `None` if the client has changed since this process cached it.
///
/// # Errors
/// `invalid_grant`. A caller that presents an issued code is told what it lacks; a made-up one is
/// unknown.
pub(crate) async fn exchange(
    app: &App,
    known: &CachedClient,
    request: &AuthorizationCodeRequest,
    key: Option<Thumbprint>,
    caller: &RequestContext,
) -> Result<Option<TokenResponse>, Error> {
    let client = &known.client;
    let code = Code::parse(&request.code).ok_or_else(invalid_code)?;
    dpop::must_be_of(code.key, key, "authorization code")?;
    let challenge = match &request.code_verifier {
        Some(verifier) => pkce::challenge_of(verifier).ok_or_else(|| {
            OAuthError::invalid_grant("`code_verifier` must be 43 to 128 unreserved characters")
        })?,
        None => String::new(),
    };
    let redirect_uri = request.redirect_uri.as_deref().unwrap_or_default();
    let now = app.clock.now();
    let session_id = SessionId::from(code.session.to_string());
    let presented = PresentedCode {
        session: &session_id,
        hash: code.hash(),
        client_id: &client.id,
        redirect_uri,
        challenge: &challenge,
    };
    // OAuth 2.1 §4.1.3 omits `redirect_uri` because PKCE binds the code as well.
    if redirect_uri.is_empty() && challenge.is_empty() {
        return refuse(app, known, &presented, caller, now).await;
    }

    match redeem(app, known, &presented, &request.resources, key, caller, now).await? {
        Some(tokens) => Ok(Some(tokens)),
        None => refuse(app, known, &presented, caller, now).await,
    }
}

/// Begins the session of a code and issues its tokens; `None` if the code is not valid for this
/// client, at this version of it. `resources` narrows the first access token.
pub(super) async fn redeem(
    app: &App,
    known: &CachedClient,
    presented: &PresentedCode<'_>,
    resources: &[String],
    key: Option<Thumbprint>,
    caller: &RequestContext,
    now: Timestamp,
) -> Result<Option<TokenResponse>, Error> {
    let client = &known.client;
    let refresh = first_refresh_token(app, client, presented.session, key, now)?;
    let exchange = code_exchange(app, known, refresh.as_ref(), now);
    let write = app.write(Actor::caller(&client.id, caller));
    let redeemed = rows::exchange_code(write, presented, exchange, now).await?;
    let Some(mut session) = redeemed else {
        return Ok(None);
    };
    // A registration that is used does not expire.
    if client.expires_at.is_some() {
        crate::storage::clients::mark_used(&app.db, &client.id).await?;
    }
    diagnostics::identify_user(&session.subject);
    narrow(&mut session, resources)?;
    let scope = session.scope.clone();
    let issued =
        issue::for_session(app, client, session, scope, refresh.as_ref(), key, now).await?;
    Ok(Some(issued))
}

/// Narrows the resources of this access token to those requested (RFC 8707 §2.2).
pub(crate) fn narrow(session: &mut Session, named: &[String]) -> Result<(), OAuthError> {
    if !named.is_empty() {
        let fewer = resources::among(&session.details.resource, named);
        session.details.resource = fewer.ok_or_else(|| {
            OAuthError::invalid_target(
                "`resource` must be one of the authorization request's resources",
            )
        })?;
    }
    Ok(())
}

/// The first refresh token of the session, if the client may have one. That of a public client is
/// bound to its key; others are bound by the authentication of their client (RFC 9449 §5).
fn first_refresh_token(
    app: &App,
    client: &Client,
    session_id: &SessionId,
    key: Option<Thumbprint>,
    now: Timestamp,
) -> Result<Option<RefreshToken>, Error> {
    if !client.may(GrantType::RefreshToken) {
        return Ok(None);
    }
    let key = key.filter(|_| client.is_public());
    issue::first_refresh_token(app, session_id, key, now).map(Some)
}

fn code_exchange(
    app: &App,
    known: &CachedClient,
    refresh: Option<&RefreshToken>,
    now: Timestamp,
) -> CodeExchange {
    let client = &known.client;
    let (idle_expires_at, expires_at) =
        TokenLifetimes::of(app, client).of_session_with(refresh, now);
    CodeExchange {
        chain_key: refresh.map_or(0, |token| token.chain_key),
        first_hash: refresh.map(RefreshToken::hash),
        idle_expires_at,
        expires_at,
        clients_version: known.version,
    }
}

/// Finds out why nothing was exchanged.
async fn refuse(
    app: &App,
    known: &CachedClient,
    presented: &PresentedCode<'_>,
    caller: &RequestContext,
    now: Timestamp,
) -> Result<Option<TokenResponse>, Error> {
    app.sync().await?;
    let current = app.directory.client(&app.db, &known.client.id).await?;
    if current.is_none_or(|current| current.version != known.version) {
        return Ok(None);
    }
    let session = rows::by_id(&app.db, presented.session).await?;
    diagnostics::record("code.session_found", session.is_some());
    let session =
        session.filter(|session| session.code_hash.as_deref() == Some(&presented.hash[..]));
    diagnostics::record("code.matches_session", session.is_some());
    let Some(session) = session else {
        return Err(invalid_code().into());
    };
    let belongs = session.client_id == known.client.id;
    diagnostics::record("code.session", &session.id);
    diagnostics::record("code.belongs_to_client", belongs);
    diagnostics::record("code.exchanged", session.exchanged_at.is_some());
    diagnostics::record("code.session_revoked", session.revoked_at.is_some());
    let over = session.exchanged_at.is_none() && session.idle_expires_at <= now;
    diagnostics::record("code.expired", over);
    if belongs && session.exchanged_at.is_some() {
        // RFC 6749 §4.1.2: the code has leaked, so the tokens issued for it are revoked.
        tracing::warn!(
            session_id = session.id.as_str(),
            subject = session.subject,
            request_id = caller.request_id,
            "authorization code replayed; session revoked"
        );
        end::end_one(app, &session, RevocationReason::CodeReplayed, caller).await?;
    }
    let why = if !belongs {
        "the code was issued to another client"
    } else if session.exchanged_at.is_some() {
        "the code was used before"
    } else if session.revoked_at.is_some() {
        "the code was revoked: the user has logged out, or withdrawn the consent"
    } else if over {
        "the code has expired"
    } else {
        mismatch(app, presented).await?
    };
    Err(OAuthError::invalid_grant(why).into())
}

/// What differs from the authorization request of a code that is otherwise valid; each difference
/// is recorded, the first one returned.
async fn mismatch(app: &App, presented: &PresentedCode<'_>) -> Result<&'static str, Error> {
    let binding = rows::code_binding(&app.db, presented.session).await?;
    let (redirect_uri, challenge) = binding.unwrap_or_default();
    let verifier = match (challenge.as_str(), presented.challenge) {
        (bound, sent) if bound == sent => None,
        ("", _) => Some("`code_verifier` was sent, but the request had no `code_challenge`"),
        (_, "") => Some("`code_verifier` is missing: the request had a `code_challenge`"),
        _ => Some("`code_verifier` does not match the `code_challenge` of the request"),
    };
    let uri = match presented.redirect_uri {
        "" if presented.challenge.is_empty() && challenge.is_empty() => {
            Some("`redirect_uri` is missing: it must be that of the request")
        }
        sent if sent.is_empty() || sent == redirect_uri => None,
        _ => Some("`redirect_uri` is not that of the request"),
    };
    for (name, found) in [("code.code_verifier", verifier), ("code.redirect_uri", uri)] {
        diagnostics::record(name, found.unwrap_or("matches"));
    }
    Ok(verifier.or(uri).unwrap_or("the user is disabled"))
}

fn invalid_code() -> OAuthError {
    OAuthError::invalid_grant("the code is unknown: it was not issued here, or is too old")
}

//! The device code grant (RFC 8628 §3.4). An approval opens a session whose code is the device code
//! ([`crate::flows::oauth::device`]); it is exchanged as an authorization code is, so that a logout,
//! a withdrawn consent or a disabled user prevent the exchange alike.

use std::time::Duration;

use super::{TokenResponse, authorization_code};
use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    directory::CachedClient,
    error::Error,
    flows::{oauth::client_auth, sessions::end, tokens::issue::TokenLifetimes},
    ids::SessionId,
    model::{
        actor::RequestContext,
        client::GrantType,
        device_authorization::{DeviceAuthorization, DeviceState},
        session::RevocationReason,
    },
    oauth::{
        device_codes, error::OAuthError, thumbprint::Thumbprint, token_request::DeviceCodeRequest,
    },
    storage::{
        device_authorizations as rows,
        sessions::{self, PresentedCode},
    },
};

/// RFC 8628 §3.5: how much each `slow_down` lengthens the interval.
const SLOWER: Duration = Duration::from_secs(5);

/// How much earlier than its interval a poll may arrive: timers and networks are not exact.
const TOLERANCE: Duration = Duration::from_secs(1);

/// Answers a poll.
///
/// # Errors
/// Those of RFC 8628 §3.5; `invalid_grant` for a device code that is unknown, another client's or
/// used.
pub(crate) async fn issue(
    app: &App,
    known: &CachedClient,
    request: &DeviceCodeRequest,
    key: Option<Thumbprint>,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    let id = device_codes::device_code_hash(&request.device_code);
    let (client, now) = (&known.client, app.clock.now());
    if rows::poll(&app.db, id, &client.id, TOLERANCE, now).await? {
        return Err(pending());
    }
    let found = rows::by_id(&app.db, id).await?;
    diagnostics::record("device_code.found", found.is_some());
    let Some(found) = found else {
        return Err(OAuthError::invalid_grant(
            "the device code is unknown: it was not issued here, or is too old",
        )
        .into());
    };
    let belongs = found.client_id == client.id;
    diagnostics::record("device_code.belongs_to_client", belongs);
    diagnostics::record("device_code.state", found.state.as_str());
    diagnostics::record("device_code.expired", found.expires_at <= now);
    if !belongs {
        return Err(
            OAuthError::invalid_grant("the device code was issued to another client").into()
        );
    }
    match found.state {
        DeviceState::Denied => Err(OAuthError::access_denied("the user denied the request").into()),
        DeviceState::Pending if found.expires_at <= now => Err(expired()),
        DeviceState::Pending => match rows::slow_down(&app.db, id, SLOWER, now).await? {
            Some(seconds) => {
                diagnostics::record("device_code.interval", format_args!("{seconds} s"));
                let message =
                    format!("the device polls too often: wait {seconds} s between two requests");
                Err(OAuthError::slow_down(message).into())
            }
            // The user has decided at this moment.
            None => Err(pending()),
        },
        DeviceState::Approved => redeem(app, known, (&found, id), key, caller, now).await,
    }
}

fn pending() -> Error {
    OAuthError::authorization_pending("the user has not decided yet").into()
}

fn expired() -> Error {
    OAuthError::expired_token("the device code has expired: request a new one").into()
}

async fn redeem(
    app: &App,
    known: &CachedClient,
    (found, id): (&DeviceAuthorization, [u8; 32]),
    key: Option<Thumbprint>,
    caller: &RequestContext,
    now: Timestamp,
) -> Result<TokenResponse, Error> {
    let none = SessionId::default();
    let presented = PresentedCode {
        session: found.session_id.as_ref().unwrap_or(&none),
        hash: id,
        client_id: &known.client.id,
        redirect_uri: "",
        challenge: "",
    };
    let redeem = |known| authorization_code::redeem(app, known, &presented, &[], key, caller, now);
    if let Some(tokens) = redeem(known).await? {
        return Ok(tokens);
    }
    // A client was changed since this one was authenticated.
    let current = app.client(&known.client.id).await?;
    let current = current.ok_or_else(client_auth::refused)?;
    if current.version != known.version {
        if !current.client.may(GrantType::DeviceCode) {
            return Err(OAuthError::unauthorized_client(
                "the client is not registered for this grant type",
            )
            .into());
        }
        if let Some(tokens) = redeem(&current).await? {
            return Ok(tokens);
        }
    }
    refuse(app, known, &presented, caller, now).await
}

/// Finds out why nothing was exchanged.
async fn refuse(
    app: &App,
    known: &CachedClient,
    presented: &PresentedCode<'_>,
    caller: &RequestContext,
    now: Timestamp,
) -> Result<TokenResponse, Error> {
    let session = sessions::by_id(&app.db, presented.session).await?;
    let Some(session) = session else {
        return Err(OAuthError::access_denied("the account was deleted").into());
    };
    diagnostics::record("device_code.session", &session.id);
    diagnostics::record("device_code.session_revoked", session.revoked_at.is_some());
    if let Some(used_at) = session.exchanged_at {
        // A device whose response was lost polls again; later another person has the code, as with
        // an authorization code (RFC 6749 §4.1.2).
        let retries = TokenLifetimes::of(app, &known.client).replay_window;
        if now > used_at + retries {
            tracing::warn!(
                session_id = session.id.as_str(),
                subject = session.subject,
                request_id = caller.request_id,
                "device code replayed; session revoked"
            );
            end::end_one(app, &session, RevocationReason::CodeReplayed, caller).await?;
        }
        return Err(OAuthError::invalid_grant("the device code was used before").into());
    }
    if session.revoked_at.is_some() {
        return Err(OAuthError::access_denied(
            "the approval was revoked: the user logged out, was disabled, or withdrew the consent",
        )
        .into());
    }
    if session.idle_expires_at <= now {
        return Err(expired());
    }
    if session.user.is_some_and(|user| user.disabled_at.is_some()) {
        return Err(OAuthError::access_denied("the user is disabled").into());
    }
    Err(OAuthError::temporarily_unavailable("try again").into())
}

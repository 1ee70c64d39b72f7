//! Issuing tokens: access token, ID token, first refresh token, and how long they live.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::{
        oauth::resources,
        tokens::{
            dpop, id_token,
            scope::{self, Allowed},
            subject::external,
        },
    },
    ids::SessionId,
    keys,
    model::{
        client::{Client, Source, UserClaim},
        key::SigningAlgorithm,
        session::Session,
    },
    oauth::{
        access_token::{AccessClaims, NewAccessToken},
        error::OAuthError,
        jwt::TokenType,
        refresh_token::RefreshToken,
        scope::Scope,
        thumbprint::Thumbprint,
        token_request::TokenTypeIdentifier,
    },
};

/// The response to a token request (RFC 6749 §5.1).
#[derive(Debug)]
pub struct TokenResponse {
    pub access_token: String,
    /// Whether `access_token` is bound to a DPoP key (RFC 9449 §5).
    pub is_bound: bool,
    /// Seconds.
    pub expires_in: u64,
    /// The scope of the access token, perhaps less than was requested.
    pub scope: Scope,
    pub refresh_token: Option<String>,
    /// OpenID Connect Core §3.1.3.3
    pub id_token: Option<String>,
    /// The session that the tokens belong to.
    pub session: Option<SessionReference>,
    /// The type of `access_token` where a token was exchanged (RFC 8693 §2.2.1).
    pub issued_token_type: Option<TokenTypeIdentifier>,
}

/// What a back end is told of a session beside its tokens.
#[derive(Clone, Debug)]
pub struct SessionReference {
    /// The `sid` of its tokens.
    pub id: SessionId,
    /// Seconds until the refresh token, if it is not used, expires; 0 without one.
    pub refresh_expires_in: u64,
}

/// How long a client's tokens and sessions live.
#[derive(Clone, Copy, Debug)]
pub struct TokenLifetimes {
    pub access: Duration,
    pub refresh_idle: Duration,
    pub refresh_max: Duration,
    /// For how long the predecessor of a refresh token still gets the same successor.
    pub replay_window: Duration,
}

impl TokenLifetimes {
    /// The client's own where it has some, else the configuration's.
    pub fn of(app: &App, client: &Client) -> Self {
        let (own, configured) = (&client.metadata, Self::configured(app));
        Self {
            access: own.access_ttl.unwrap_or(configured.access),
            refresh_idle: own.refresh_idle_ttl.unwrap_or(configured.refresh_idle),
            refresh_max: own.refresh_max_ttl.unwrap_or(configured.refresh_max),
            replay_window: own.replay_window.unwrap_or(configured.replay_window),
        }
    }

    /// The configuration's.
    pub fn configured(app: &App) -> Self {
        let tokens = &app.config.tokens;
        Self {
            access: tokens.access_ttl,
            refresh_idle: tokens.refresh_idle_ttl,
            refresh_max: tokens.refresh_max_ttl,
            replay_window: tokens.replay_window,
        }
    }

    /// When a session that is opened now expires: if it is not used, and in any case.
    pub fn of_session(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        let expires_at = now + self.refresh_max;
        ((now + self.refresh_idle).min(expires_at), expires_at)
    }

    /// As [`Self::of_session`]; a session without a refresh token lives as long as its one access
    /// token.
    pub fn of_session_with(
        &self,
        refresh: Option<&RefreshToken>,
        now: Timestamp,
    ) -> (Timestamp, Timestamp) {
        match refresh {
            Some(_) => self.of_session(now),
            None => (now + self.access, now + self.access),
        }
    }
}

/// The first refresh token of a session, bound to a DPoP key if there is one.
///
/// # Errors
/// [`Error::Unavailable`] where the key is missing.
pub(crate) fn first_refresh_token(
    app: &App,
    session: &SessionId,
    bound_to: Option<Thumbprint>,
    now: Timestamp,
) -> Result<RefreshToken, Error> {
    let ring = app.keys.ring();
    let key = ring.chain_key(now).ok_or(keys::Error::Missing("refresh-chain"))?;
    let session = Uuid::parse_str(session).map_err(|error| Error::Unavailable(error.into()))?;
    Ok(RefreshToken::first(key, session, app.rng.bytes(), bound_to))
}

/// The tokens of a session, for an authorization code or a refresh token. A scope that the client
/// may no longer request is no longer granted to its sessions. `now`: read before the session was,
/// so that a revocation since then covers them (`model::revocation::NewRevocation::at`). `key`:
/// what the access token is bound to.
pub(crate) async fn for_session(
    app: &App,
    client: &Client,
    mut session: Session,
    scope: Scope,
    refresh: Option<&RefreshToken>,
    key: Option<Thumbprint>,
    now: Timestamp,
) -> Result<TokenResponse, Error> {
    must_be_in_namespace(client, &session)?;
    let target = resources::still_open(app, client, &session.details.resource).await?;
    session.details.resource = target.names();
    let scope = scope.intersection(&target.may_ask(client));
    let allowed = scope::allowed_in(app, &session, &scope, now).await?;
    let grant = NewAccessToken { key, ..grant(app, client, &session, &allowed) };
    let (access_token, expires_in) = access_token_at(app, client, grant, now).await?;
    let id_token = if allowed.scope.contains("openid") {
        Some(id_token::of_session(app, client, &session, &allowed, &access_token, now).await?)
    } else {
        None
    };
    Ok(TokenResponse {
        access_token,
        is_bound: key.is_some(),
        expires_in,
        scope: allowed.scope,
        refresh_token: refresh.map(RefreshToken::expose),
        id_token,
        session: Some(SessionReference {
            refresh_expires_in: refresh.map_or(0, |_| (session.idle_expires_at - now).as_secs()),
            id: session.id,
        }),
        issued_token_type: None,
    })
}

/// The user of a back end is the one of its namespace: after the client was given another one, its
/// earlier sessions are of no user of its own.
fn must_be_in_namespace(client: &Client, session: &Session) -> Result<(), Error> {
    let Some(user) = &session.details.external_user else { return Ok(()) };
    let namespace = client.metadata.subject_namespace.as_deref();
    if namespace.is_some_and(|namespace| external(namespace, &user.id) == session.subject) {
        return Ok(());
    }
    Err(OAuthError::invalid_grant("the `subject_namespace` of the client has changed").into())
}

/// The content of an access token of a client's session. Claims about the user only where the
/// client asked for them.
fn grant<'a>(
    app: &'a App,
    client: &'a Client,
    session: &'a Session,
    allowed: &Allowed,
) -> NewAccessToken<'a> {
    let user = session.profile();
    let external = session.details.external_user.as_deref();
    // A back end says of its own users what their tokens shall say.
    let is_open = client.source == Source::BuiltIn || external.is_some();
    let has_claim =
        |claim| client.source == Source::BuiltIn || client.metadata.user_claims.contains(&claim);
    let role = user.filter(|_| is_open || has_claim(UserClaim::Role)).and_then(|user| user.role);
    // A session of a back end's user is the only trace of them: its end ends every token.
    let end = external.map(|_| session.expires_at);
    NewAccessToken {
        issuer: &app.config.server.issuer,
        audience: resources::audience(app, &session.details.resource),
        subject: &session.subject,
        client_id: &client.id,
        scope: allowed.scope.clone(),
        session: Some(&session.id),
        auth_time: session.authenticated_at,
        acr: session.details.acr.as_deref(),
        amr: &session.details.amr,
        email: user.filter(|_| is_open).and_then(|user| user.email),
        role,
        modules: user.filter(|_| has_claim(UserClaim::Modules)).map(|_| allowed.modules.clone()),
        user_id: external.map(|user| user.id.as_str()),
        until: allowed.until.into_iter().chain(end).min(),
        key: None,
    }
}

/// An access token of a client with its life in seconds.
pub(crate) async fn access_token(
    app: &App,
    client: &Client,
    grant: NewAccessToken<'_>,
) -> Result<(String, u64), Error> {
    access_token_at(app, client, grant, app.clock.now()).await
}

async fn access_token_at(
    app: &App,
    client: &Client,
    grant: NewAccessToken<'_>,
    now: Timestamp,
) -> Result<(String, u64), Error> {
    let ttl = TokenLifetimes::of(app, client).access;
    let mut claims = AccessClaims::new(grant, app.new_id(), now, ttl);
    if claims.user().is_some() {
        claims.may_act = client.may_act();
    }
    sign_claims(app, client, &claims, now).await
}

/// Signs the claims of a client's access token; gives its life in seconds as well. A client that
/// gets bound tokens only gets no other one from here, whatever the grant.
pub(crate) async fn sign_claims(
    app: &App,
    client: &Client,
    claims: &AccessClaims,
    now: Timestamp,
) -> Result<(String, u64), Error> {
    dpop::must_be_bound(client, claims.cnf.map(|bound| bound.jkt))?;
    let registered = client.metadata.access_token_signing_alg;
    let algorithm = registered.unwrap_or(app.config.tokens.signing_algorithm);
    let expires_in = u64::try_from(claims.exp - claims.iat).unwrap_or_default();
    let token = app.keys.sign(TokenType::Access, claims, algorithm, now).await?;
    Ok((token, expires_in))
}

/// An access token with its life in seconds.
pub(crate) async fn sign_access_token(
    app: &App,
    grant: NewAccessToken<'_>,
    ttl: Duration,
    algorithm: SigningAlgorithm,
    now: Timestamp,
) -> Result<(String, u64), Error> {
    let claims = AccessClaims::new(grant, app.new_id(), now, ttl);
    let expires_in = u64::try_from(claims.exp - claims.iat).unwrap_or_default();
    let token = app.keys.sign(TokenType::Access, &claims, algorithm, now).await?;
    Ok((token, expires_in))
}

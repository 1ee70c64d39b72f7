//! Tokens of the first-party API: of sessions that a login or a registration opens without OAuth.

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::tokens::{
        issue::{self, TokenLifetimes},
        refresh::{self, Refreshed},
        scope::{self, UserAccess},
        verify,
    },
    ids::SessionId,
    model::{
        actor::RequestContext,
        authentication,
        client::{GrantType, Source, first_party},
        module::OpenGrant,
        user::{Role, User},
    },
    oauth::{
        access_token::{Audience, NewAccessToken},
        refresh_token::RefreshToken,
        scope::Scope,
    },
};

/// The tokens of a session that was opened or refreshed.
#[derive(Debug)]
pub struct Tokens {
    pub access_token: String,
    pub refresh_token: String,
    /// Seconds (RFC 6749 §5.1).
    pub expires_in: u64,
    /// Seconds until the refresh token, if it is not used, expires.
    pub refresh_expires_in: u64,
    pub user: User,
}

/// The scope of the first-party client, without that of modules.
pub(crate) fn scope() -> Scope {
    Scope::parse("openid profile email").unwrap_or_default()
}

/// The valid access token among several cookies of its name, else the first: one that another host
/// or program has set must not log the user out.
pub async fn valid_access_cookie(app: &App, values: Vec<String>) -> Option<String> {
    // Without the database nothing is valid; the caller finds that out.
    if values.len() > 1 && app.sync().await.is_ok() {
        let valid = values.iter().find(|value| verify::inspect(app, value).is_ok());
        if let Some(valid) = valid {
            return Some(valid.clone());
        }
    }
    values.into_iter().next()
}

/// As [`valid_access_cookie`], for refresh tokens; the newest of a session, since an older one
/// would count as reuse.
pub async fn valid_refresh_cookie(app: &App, values: Vec<String>) -> Option<String> {
    let mut valid = None;
    if values.len() > 1 {
        for value in &values {
            if refresh::peek(app, value, first_party()).await.is_ok() {
                let generation = RefreshToken::parse(value).map(|token| token.generation);
                valid = valid.max(Some((generation, value)));
            }
        }
    }
    let valid = valid.map(|(_, value)| value.clone());
    valid.or_else(|| values.into_iter().next())
}

/// Exchanges a refresh token of the first-party client.
///
/// # Errors
/// [`Error::InvalidRefreshToken`] for every token that is not valid, whatever the reason.
pub async fn refresh(
    app: &App,
    presented: &str,
    context: &RequestContext,
) -> Result<Tokens, Error> {
    let lifetimes = TokenLifetimes::configured(app);
    let refreshed = refresh::refresh(app, presented, first_party(), lifetimes, context).await?;
    let Refreshed { session, successor, at: now } = refreshed;
    let user = session.user.ok_or(Error::InvalidRefreshToken)?;
    let (open, scope) = (&session.modules, &session.scope);
    let login = Login { at: session.authenticated_at, amr: &session.details.amr };
    let (access_token, expires_in) =
        access_token(app, &session.id, &user, open, scope, login, now).await?;
    app.metrics.token_issued(GrantType::RefreshToken.as_str(), Source::BuiltIn);
    Ok(Tokens {
        access_token,
        refresh_token: successor.expose(),
        expires_in,
        refresh_expires_in: (session.idle_expires_at - now).as_secs(),
        user,
    })
}

/// When and how the user of a session has logged in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Login<'a> {
    pub at: Option<Timestamp>,
    /// Authentication methods (RFC 8176); empty where nobody logged in.
    pub amr: &'a [String],
}

impl Login<'_> {
    /// The class of the login.
    pub(crate) fn acr(&self) -> Option<&'static str> {
        (!self.amr.is_empty()).then(|| authentication::acr(self.amr))
    }
}

/// An access token of the first-party client with its life in seconds. It carries every scope of
/// this server's own API that its user may have, the email address and the role.
pub(crate) async fn access_token(
    app: &App,
    session: &SessionId,
    user: &User,
    open: &[OpenGrant],
    scope: &Scope,
    login: Login<'_>,
    now: Timestamp,
) -> Result<(String, u64), Error> {
    let catalogue = app.directory.catalogue(&app.db).await?;
    let access = UserAccess { is_admin: user.role == Role::admin(), modules: open };
    let allowed = scope::with_own(&catalogue, scope, access, now);
    let grant = NewAccessToken {
        issuer: &app.config.server.issuer,
        audience: Audience::One(app.config.audience().to_owned()),
        subject: &user.id,
        client_id: first_party(),
        scope: allowed.scope,
        session: Some(session),
        auth_time: login.at,
        acr: login.acr(),
        amr: login.amr,
        email: Some((&user.email, user.is_verified)),
        role: Some(user.role.as_str()),
        modules: Some(allowed.modules),
        user_id: Some(&user.id),
        until: allowed.until,
        key: None,
    };
    let tokens = &app.config.tokens;
    issue::sign_access_token(app, grant, tokens.access_ttl, tokens.signing_algorithm, now).await
}

//! On-behalf-of issuance: tokens for a user who has not logged in here, be it an account or a user
//! whom the back end keeps itself. The client is trusted with it by its scope `propusk:tokens`, so
//! there is no consent.

use serde_json::json;

use super::TokenResponse;
use crate::{
    app::App,
    diagnostics,
    error::Error,
    flows::{
        oauth::{
            client_auth::TOKENS,
            resources::{self, Target},
        },
        tokens::{
            dpop,
            external_user::ExternalLogin,
            issue::{self, TokenLifetimes},
            scope::is_own,
            subject,
        },
    },
    ids::{SessionId, UserId},
    model::{
        actor::{Actor, RequestContext},
        client::{Client, GrantType},
        event::Event,
        session::SessionDetails,
    },
    oauth::{error::OAuthError, scope::Scope, thumbprint::Thumbprint},
    storage::{
        sessions as rows,
        sessions::{Credential, NewSession},
        users,
    },
};

/// What a client requests on behalf of a user.
#[derive(Clone, Debug)]
pub struct OnBehalfOfRequest {
    pub user: RequestedUser,
    pub scope: Option<Scope>,
    pub resources: Vec<String>,
}

/// The user that tokens are about.
#[derive(Clone, Debug)]
pub enum RequestedUser {
    /// The id of an account of this server.
    Account(UserId),
    /// A user whom the client keeps itself.
    External(Box<ExternalLogin>),
}

impl RequestedUser {
    const fn is_external(&self) -> bool {
        matches!(self, Self::External(_))
    }
}

/// Opens a session of the client for the user; `actor` is the subject of the token that the call
/// was made with.
///
/// # Errors
/// `unauthorized_client`, `invalid_scope` and `invalid_target` for what the client may not request;
/// [`Error::Validation`] for what it may not say about its own user; [`Error::NotFound`] for an
/// unknown account, [`Error::Conflict`] for a disabled one.
pub async fn issue(
    app: &App,
    client: &Client,
    request: &OnBehalfOfRequest,
    actor: &str,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    dpop::must_be_bound(client, None)?;
    let issued = open(app, client, request, None, actor, caller).await;
    if issued.is_ok() {
        app.metrics.token_issued("on_behalf_of", client.source);
    }
    issued
}

/// As [`issue`], not counted: for a grant of the token endpoint.
pub(super) async fn open(
    app: &App,
    client: &Client,
    request: &OnBehalfOfRequest,
    key: Option<Thumbprint>,
    actor: &str,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    let (id, now) = (SessionId::from(app.new_id()), app.clock.now());
    let (subject, mut details) = about(app, client, &request.user).await?;
    let target = resources::target(app, client, &request.resources).await?;
    let scope = scope(client, &target, request)?;
    details.resource = target.names();
    let (account, authenticated_at) = match &request.user {
        RequestedUser::Account(id) => (Some(id.clone()), None),
        RequestedUser::External(login) => (None, login.authenticated_at()),
    };
    let refresh = if client.may(GrantType::RefreshToken) {
        Some(issue::first_refresh_token(app, &id, None, now)?)
    } else {
        None
    };
    let (idle_expires_at, expires_at) =
        TokenLifetimes::of(app, client).of_session_with(refresh.as_ref(), now);
    let row = NewSession {
        id,
        subject,
        user_id: account,
        client_id: client.id.clone(),
        browser_session_id: None,
        scope: scope.clone(),
        credential: match &refresh {
            Some(token) => {
                Credential::Refresh { chain_key: token.chain_key, first_hash: token.hash() }
            }
            None => Credential::Nothing,
        },
        // An account was authenticated by the client, if at all: not a login here.
        authenticated_at,
        idle_expires_at,
        expires_at,
        offline: true,
        details,
        address: Some(caller.address.to_string()),
        user_agent: caller.user_agent.clone(),
    };
    let event = Event::session_created(&row.subject, &row.id, &row.client_id);
    let detail = json!({ "sessionId": row.id, "scope": row.scope.to_string() });
    let about = row.user_id.as_ref().map_or(row.subject.as_str(), UserId::as_str).to_owned();
    let write = app.write(Actor::caller(actor, caller)).event(&event).audit(
        "session.issue_on_behalf_of",
        Some(&about),
        detail,
    );
    let Some(session) = rows::open(write, row, now).await? else {
        return Err(match users::by_id(&app.db, &about.into()).await? {
            Some(_) => Error::Conflict("the user is disabled"),
            None => Error::NotFound("user"),
        });
    };
    issue::for_session(app, client, session, scope, refresh.as_ref(), key, now).await
}

/// The `sub` of the tokens, and what the session keeps of the user.
async fn about(
    app: &App,
    client: &Client,
    user: &RequestedUser,
) -> Result<(String, SessionDetails), Error> {
    let login = match user {
        RequestedUser::Account(id) => {
            return Ok((subject::subject(app, client, id)?, SessionDetails::default()));
        }
        RequestedUser::External(login) => login,
    };
    let namespace = namespace(client)?;
    login.check(app).await?;
    let subject = subject::external(namespace, &login.user.id);
    diagnostics::identify_user(&subject);
    let details = SessionDetails {
        amr: login.amr.clone(),
        acr: login.acr.clone(),
        external_user: Some(Box::new(login.user.clone())),
        ..SessionDetails::default()
    };
    Ok((subject, details))
}

/// The namespace of the users whom a client keeps itself.
///
/// # Errors
/// `unauthorized_client` where it keeps none.
pub(crate) fn namespace(client: &Client) -> Result<&str, OAuthError> {
    let own = client.metadata.subject_namespace.as_deref();
    diagnostics::record("client.subject_namespace", own.unwrap_or("(none)"));
    let own = own.filter(|_| client.metadata.scope.contains(TOKENS));
    own.ok_or_else(|| {
        OAuthError::unauthorized_client(
            "the client keeps no users of its own: an operator gives it the scope propusk:tokens and a \
             `subject_namespace` (propusk client set ID --subject-namespace NAME)",
        )
    })
}

/// The scope of the session: what was requested, else the default scope. Scopes `propusk:…`
/// administer this server, which only an account here may do.
fn scope(
    client: &Client,
    target: &Target,
    request: &OnBehalfOfRequest,
) -> Result<Scope, OAuthError> {
    let external = request.user.is_external();
    let may = target.may_ask(client).filter(|scope| !(external && is_own(scope)));
    match &request.scope {
        Some(requested) if external && requested.iter().any(is_own) => {
            Err(OAuthError::invalid_scope("scopes propusk:… are for accounts of this server only"))
        }
        Some(requested) if requested.is_subset_of(&may) => Ok(requested.clone()),
        Some(_) => Err(OAuthError::invalid_scope(
            "the client may not request this scope for this resource",
        )),
        None => Ok(target.default_scope(&may)),
    }
}

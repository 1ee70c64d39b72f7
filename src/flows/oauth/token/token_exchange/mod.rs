//! Token exchange (RFC 8693). A client whose policy allows it gets an access token for another API
//! in exchange for the token that a request came with, and never for more than that token: its
//! scope, its lifetime and its session are the limits. The result is revoked with its session, and
//! with every token that it derives from.
//!
//! **Errors.** RFC 8693 §2.2.2 requires `invalid_request` for a subject or actor token that is
//! "invalid for any reason, or unacceptable based on policy", so an expired, revoked or foreign
//! token gets it, and not `invalid_grant` as at the other grants. An ID-JAG is requested by the
//! rules of its own profile, which answers such tokens with `invalid_grant`
//! (draft-ietf-oauth-identity-assertion-authz-grant §4.3.3).

mod identity_assertion;
mod presented;

use serde_json::json;

use self::presented::{Origin, Presented};
use super::{
    TokenResponse,
    foreign::{self, Opening},
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
            scope::{self, is_own},
        },
    },
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        client::{Client, TokenExchangePolicy, UserClaim},
        session::Session,
    },
    oauth::{
        access_token::{AccessClaims, ActorClaim, NewAccessToken},
        error::OAuthError,
        scope::Scope,
        thumbprint::Thumbprint,
        token_request::{TokenExchangeRequest, TokenTypeIdentifier},
    },
};

/// The most actors in a chain of `act`, and the most tokens that a token may derive from.
const LONGEST_CHAIN: usize = 5;

/// The action of the audit entry.
const ACTION: &str = "token.exchange";

/// Exchanges a token.
///
/// # Errors
/// `unauthorized_client` for a client without a policy for it; `invalid_request` for an unusable
/// subject or actor token (see above); `invalid_target`, `invalid_scope`; [`Error::TooMany`].
pub(crate) async fn exchange(
    app: &App,
    client: &Client,
    request: &TokenExchangeRequest,
    key: Option<Thumbprint>,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    if client.is_public() || client.source.is_self_registered() {
        return Err(OAuthError::unauthorized_client(
            "token exchange is for clients that authenticate and that an operator has registered",
        )
        .into());
    }
    app.admit(Limit::Exchange, &Key::client(&client.id))?;
    match request.requested {
        None | Some(TokenTypeIdentifier::AccessToken) => {
            access_token(app, client, request, key, caller).await
        }
        Some(TokenTypeIdentifier::IdJag) => {
            identity_assertion::issue(app, client, request, caller).await
        }
        Some(_) => Err(OAuthError::invalid_request(
            "`requested_token_type` must be urn:ietf:params:oauth:token-type:access_token or …:id-jag",
        )
        .into()),
    }
}

async fn access_token(
    app: &App,
    client: &Client,
    request: &TokenExchangeRequest,
    key: Option<Thumbprint>,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    let policy = policy_for(client, request)?;
    // Before the tokens and their sessions are read: a revocation since then covers what is issued.
    let now = app.clock.now();
    let actor = match &request.actor {
        Some(token) => Some(presented::actor(app, client, policy, token).await?),
        None => None,
    };
    let subject = presented::subject(app, client, policy, &request.subject).await?;
    let act = acting(app, client, &subject, actor.as_ref())?;
    if subject.derived_from.len() > LONGEST_CHAIN {
        return Err(presented::refuse("subject_token", "it was exchanged too often"));
    }

    let target = target(app, policy, request, &subject).await?;
    let scope = narrowed(client, request, &subject, &target)?;
    let mut until = subject.expires_at;
    if let Some(actor) = &actor {
        until = until.min(actor.expires_at);
    }
    let detail = json!({
        "clientId": client.id, "subject": subject.sub, "audience": target.audience(app),
        "scope": scope.to_string(), "act": act,
    });
    let (mut session, is_foreign) = match &subject.origin {
        Origin::Session(session) => (session.as_ref().clone(), false),
        Origin::Foreign(jwt) => {
            let opening = Opening {
                scope: &scope,
                resources: target.names(),
                expires_at: until.min(now + TokenLifetimes::of(app, client).access),
                action: ACTION,
                detail: detail.clone(),
            };
            let opened = foreign::open_session(app, client, jwt, opening, caller).await?;
            let disabled = || presented::refuse("subject_token", "the user is disabled");
            (opened.ok_or_else(disabled)?, true)
        }
        Origin::Client => {
            return Err(presented::refuse("subject_token", "it is about no user"));
        }
    };
    diagnostics::identify_user(&session.subject);
    session.details.resource = target.names();
    let (session, subject, target) = (&session, &subject, &target);
    let result = Exchanged { session, subject, target, act, until, key };
    let issued = result.sign(app, client, &scope, now).await?;
    if !is_foreign {
        let noted = session.user.as_ref().map_or(session.subject.as_str(), |user| &user.id);
        let mut detail = detail;
        detail["sessionId"] = session.id.as_str().into();
        app.audit(&Actor::caller(&client.id, caller), ACTION, noted, detail).await?;
    }
    Ok(issued)
}

/// The client's policy, where it allows what is requested.
fn policy_for<'a>(
    client: &'a Client,
    request: &TokenExchangeRequest,
) -> Result<&'a TokenExchangePolicy, OAuthError> {
    let policy = client.metadata.token_exchange.as_ref();
    diagnostics::record("exchange.policy", policy.is_some());
    let policy = policy.ok_or_else(|| {
        OAuthError::unauthorized_client("the client has no policy for token exchange")
    })?;
    let (is_allowed, what) = match request.actor {
        Some(_) => (policy.delegation, "delegation (with `actor_token`)"),
        None => (policy.impersonation, "impersonation (without `actor_token`)"),
    };
    if !is_allowed {
        let message = format!("the client's policy does not allow {what}");
        return Err(OAuthError::unauthorized_client(message));
    }
    Ok(policy)
}

/// Who acts for the subject in the resulting token. `may_act` of the subject token names the only
/// party that may: the actor or, without an actor token, the client.
fn acting(
    app: &App,
    client: &Client,
    subject: &Presented,
    actor: Option<&Presented>,
) -> Result<Option<ActorClaim>, Error> {
    if let Some(may_act) = &subject.may_act {
        let acting =
            actor.map_or((None, client.id.as_str()), |one| (one.iss.as_deref(), one.sub.as_str()));
        let ours = &app.config.server.issuer;
        let iss = may_act.iss.as_deref().filter(|iss| iss != ours);
        if (iss, may_act.sub.as_str()) != acting {
            let side = if actor.is_some() { "actor_token" } else { "subject_token" };
            return Err(presented::refuse(
                side,
                "`may_act` of the subject token names another party",
            ));
        }
    }
    let before = subject.act.clone();
    let act = match actor {
        Some(actor) => Some(ActorClaim {
            iss: actor.iss.clone(),
            sub: actor.sub.clone(),
            client_id: actor.client_id.clone().filter(|id| id.as_str() != actor.sub),
            act: before.map(Box::new),
        }),
        None => before,
    };
    if act.as_ref().is_some_and(|act| act.chain().count() > LONGEST_CHAIN) {
        return Err(presented::refuse("subject_token", "its chain of `act` is too long"));
    }
    Ok(act)
}

/// The APIs that the token is for: those that the request names, else those of the subject token.
async fn target(
    app: &App,
    policy: &TokenExchangePolicy,
    request: &TokenExchangeRequest,
    subject: &Presented,
) -> Result<Target, Error> {
    let named: Vec<String> = request.audiences.iter().chain(&request.resources).cloned().collect();
    let named = if named.is_empty() { subject.audiences.clone() } else { named };
    if named.is_empty() {
        let message = "`audience` or `resource` is missing: the subject token is for no API";
        return Err(OAuthError::invalid_request(message).into());
    }
    resources::exchange_target(app, &policy.audiences, &named).await
}

/// The scope of the request, else all of the subject token's, as far as the client may have it
/// there. Scopes that administer this server, and those of OpenID Connect, are never in an exchanged
/// token.
fn narrowed(
    client: &Client,
    request: &TokenExchangeRequest,
    subject: &Presented,
    target: &Target,
) -> Result<Scope, OAuthError> {
    let may = target.may_ask(client).filter(|token| !is_own(token) && !is_about_the_user(token));
    let most = subject.scope.intersection(&may);
    match &request.scope {
        None => Ok(most),
        Some(requested) if requested.is_subset_of(&most) => Ok(requested.clone()),
        Some(_) => {
            diagnostics::record("subject_token.scope", &subject.scope);
            diagnostics::record("scope.allowed", &most);
            Err(OAuthError::invalid_scope(
                "`scope` exceeds that of the subject token, or what the client may request for this audience",
            ))
        }
    }
}

/// The token that is issued.
struct Exchanged<'a> {
    session: &'a Session,
    subject: &'a Presented,
    target: &'a Target,
    act: Option<ActorClaim>,
    until: Timestamp,
    key: Option<Thumbprint>,
}

impl Exchanged<'_> {
    async fn sign(
        self,
        app: &App,
        client: &Client,
        scope: &Scope,
        now: Timestamp,
    ) -> Result<TokenResponse, Error> {
        let (session, subject) = (self.session, self.subject);
        let allowed = scope::allowed_in(app, session, scope, now).await?;
        let has_claim = |claim| client.metadata.user_claims.contains(&claim);
        let modules = allowed.modules;
        let new = NewAccessToken {
            issuer: &app.config.server.issuer,
            audience: self.target.audience(app),
            subject: &session.subject,
            client_id: &client.id,
            scope: allowed.scope.clone(),
            session: Some(&session.id),
            auth_time: session.authenticated_at,
            acr: session.details.acr.as_deref(),
            amr: &session.details.amr,
            email: None,
            // A role is kept, and never gained.
            role: subject.role.as_deref().filter(|_| has_claim(UserClaim::Role)),
            modules: session
                .user
                .as_ref()
                .filter(|_| has_claim(UserClaim::Modules))
                .map(|_| modules),
            user_id: subject.user_id.as_deref(),
            until: Some(allowed.until.map_or(self.until, |until| until.min(self.until))),
            key: self.key,
        };
        let ttl = TokenLifetimes::of(app, client).access;
        let mut claims = AccessClaims::new(new, app.new_id(), now, ttl);
        claims.act = self.act;
        claims.may_act.clone_from(&subject.may_act);
        claims.derived_from.clone_from(&subject.derived_from);
        let (access_token, expires_in) = issue::sign_claims(app, client, &claims, now).await?;
        Ok(TokenResponse {
            access_token,
            is_bound: self.key.is_some(),
            expires_in,
            scope: allowed.scope,
            refresh_token: None,
            id_token: None,
            session: None,
            issued_token_type: Some(TokenTypeIdentifier::AccessToken),
        })
    }
}

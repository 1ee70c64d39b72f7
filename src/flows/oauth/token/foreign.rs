//! JWTs of trusted issuers, and the sessions that they open here. A subject is in the namespace of
//! its issuer, unless an operator has linked it to a user: nothing else in a JWT maps to an account.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    error::Error,
    flows::tokens::subject,
    ids::{SessionId, UserId},
    jose::ClientJwt,
    model::{
        actor::{Actor, RequestContext},
        client::Client,
        event::Event,
        session::{Session, SessionDetails},
        trusted_issuer::{IssuerUse, TrustedIssuer},
    },
    oauth::{
        access_token::{ActorClaim, Audience, MayAct},
        jwt::InvalidToken,
        scope::Scope,
    },
    storage::{
        sessions as rows,
        sessions::{Credential, NewSession},
        trusted_issuers, users,
    },
};

/// Accepted clock skew of issuers, in seconds, for `iat` and `nbf`.
const CLOCK_SKEW: i64 = 30;

/// A JWT of a trusted issuer: signed by it, and valid now. Its audience is not checked yet.
#[derive(Debug)]
pub(super) struct ForeignJwt {
    pub issuer: TrustedIssuer,
    pub claims: Claims,
}

/// The claims of a JWT of another server (RFC 7519 §4.1, RFC 8693 §4, RFC 9068 §2.2).
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub iss: String,
    pub sub: String,
    pub aud: Audience,
    pub exp: i64,
    pub iat: Option<i64>,
    nbf: Option<i64>,
    pub jti: Option<String>,
    pub client_id: Option<String>,
    pub scope: Option<Scope>,
    /// One URI or several.
    pub resource: Option<Audience>,
    pub act: Option<ActorClaim>,
    may_act: Option<Value>,
}

/// The issuer that a JWT claims to be from; not verified.
pub(super) fn claimed_issuer(jwt: &ClientJwt<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    jwt.claims::<Issuer>().ok().map(|claims| claims.iss)
}

/// Verifies that a JWT was signed by an issuer that is trusted for this, and is valid now.
///
/// # Errors
/// [`Error::Unavailable`]; within, the first rule it breaks.
pub(super) async fn verify(
    app: &App,
    client: &Client,
    jwt: &ClientJwt<'_>,
    what: IssuerUse,
) -> Result<Result<ForeignJwt, InvalidToken>, Error> {
    let catalogue = app.directory.catalogue(&app.db).await?;
    let issuer = claimed_issuer(jwt).and_then(|iss| catalogue.issuers.get(&iss));
    diagnostics::record("issuer.found", issuer.is_some());
    let Some(issuer) = issuer else {
        return Ok(Err(InvalidToken("its issuer (`iss`) is not trusted here")));
    };
    diagnostics::record("issuer.id", &issuer.id);
    diagnostics::record("issuer.enabled", issuer.disabled_at.is_none());
    if !issuer.is_trusted_for(what, &client.id) {
        return Ok(Err(InvalidToken(
            "its issuer is not trusted for this use, or not with this client",
        )));
    }
    let settings = &issuer.settings;
    let keys = (settings.jwks.as_ref(), settings.jwks_uri.as_ref());
    let now = app.clock.now();
    if let Err(why) = app.client_keys.verify_with(&app.outbound, now, keys, jwt, None).await {
        diagnostics::record("issuer.signature", why);
        return Ok(Err(why));
    }
    let checked = jwt.claims().and_then(|claims: Claims| claims.check(now).map(|()| claims));
    Ok(checked.map(|claims| ForeignJwt { issuer: issuer.clone(), claims }))
}

impl Claims {
    fn check(&self, now: Timestamp) -> Result<(), InvalidToken> {
        let now = now.as_secs();
        let in_future = |at: Option<i64>| at.is_some_and(|at| at > now.saturating_add(CLOCK_SKEW));
        if self.exp <= now {
            return Err(InvalidToken("token expired"));
        }
        if in_future(self.iat) || in_future(self.nbf) {
            return Err(InvalidToken("token not valid yet"));
        }
        let length = self.sub.chars().count();
        if !(1..=255).contains(&length) || self.sub.contains(char::is_control) {
            return Err(InvalidToken(
                "`sub` must have 1 to 255 characters, and no control characters",
            ));
        }
        Ok(())
    }

    /// When it expires.
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_secs(self.exp).unwrap_or(Timestamp(i64::MAX))
    }
}

impl ForeignJwt {
    /// Those who act for the subject, by their issuers.
    pub fn act(&self) -> Option<ActorClaim> {
        self.claims.act.clone().map(|act| self.of_issuer(act))
    }

    fn of_issuer(&self, mut act: ActorClaim) -> ActorClaim {
        act.iss.get_or_insert_with(|| self.claims.iss.clone());
        act.act = act.act.map(|before| Box::new(self.of_issuer(*before)));
        act
    }

    /// The only party that may act for the subject.
    ///
    /// # Errors
    /// If it cannot be told whom the claim names.
    pub fn may_act(&self) -> Result<Option<MayAct>, InvalidToken> {
        let Some(claim) = &self.claims.may_act else { return Ok(None) };
        let mut may_act: MayAct = serde_json::from_value(claim.clone()).map_err(|_| {
            InvalidToken("`may_act` must have `sub`, perhaps `iss`, and nothing else")
        })?;
        may_act.iss.get_or_insert_with(|| self.claims.iss.clone());
        Ok(Some(may_act))
    }

    /// The most that tokens for the subject may carry.
    pub fn scope(&self) -> Scope {
        let most = &self.issuer.settings.scope;
        self.claims.scope.as_ref().map_or_else(|| most.clone(), |own| own.intersection(most))
    }
}

/// What a session is opened for.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    pub scope: &'a Scope,
    pub resources: Vec<String>,
    pub expires_at: Timestamp,
    /// The audit entry.
    pub action: &'static str,
    pub detail: Value,
}

/// Opens a session for the subject of a JWT, with an access token and no refresh token. By it the
/// token is revoked with the user, the client or the issuer.
///
/// # Errors
/// [`Error::Unavailable`]; `None` where the linked user is disabled.
pub(super) async fn open_session(
    app: &App,
    client: &Client,
    jwt: &ForeignJwt,
    opening: Opening<'_>,
    caller: &RequestContext,
) -> Result<Option<Session>, Error> {
    let (id, now) = (SessionId::from(app.new_id()), app.clock.now());
    let issuer = &jwt.issuer;
    let mut tx = app.begin(&Actor::caller(&client.id, caller)).await?;
    let linked = trusted_issuers::linked_user(&mut tx, &issuer.id, &jwt.claims.sub).await?;
    let subject = match &linked {
        Some(user_id) => {
            // Locked, so that disabling the user concurrently revokes this session as well.
            let user = users::lock_shared(&mut tx, user_id).await?;
            if user.is_none_or(|user| user.disabled_at.is_some()) {
                return Ok(None);
            }
            subject::subject(app, client, user_id)?
        }
        None => issuer.namespaced(&jwt.claims.sub),
    };
    let event = Event::session_created(&subject, &id, &client.id);
    let mut detail = opening.detail;
    detail["sessionId"] = id.as_str().into();
    detail["issuerId"] = issuer.id.as_str().into();
    let noted = linked.as_ref().map_or(subject.as_str(), UserId::as_str).to_owned();
    let new = NewSession {
        id: id.clone(),
        subject,
        user_id: linked,
        client_id: client.id.clone(),
        browser_session_id: None,
        scope: opening.scope.clone(),
        credential: Credential::Nothing,
        // The user did not log in here.
        authenticated_at: None,
        idle_expires_at: opening.expires_at,
        expires_at: opening.expires_at,
        offline: true,
        details: SessionDetails {
            resource: opening.resources,
            issuer: Some(issuer.id.clone()),
            ..SessionDetails::default()
        },
        address: Some(caller.address.to_string()),
        user_agent: caller.user_agent.clone(),
    };
    rows::insert(&mut tx, new, now).await?;
    tx.event(&event).await?;
    tx.audit(opening.action, Some(&noted), detail).await?;
    tx.commit().await?;
    // Read again, for the user's role and modules.
    let session = rows::by_id(&app.db, &id).await?;
    Ok(session.filter(|session| session.is_live(now)))
}

/// The resources that a JWT names, each once.
pub(super) fn resources_of(claims: &Claims) -> Vec<String> {
    let named = claims.resource.iter().flat_map(Audience::names);
    named.cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

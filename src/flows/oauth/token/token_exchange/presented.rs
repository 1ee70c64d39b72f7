//! The subject token and the actor token of a token exchange: whose they are, and what the result
//! may be at most.

use std::sync::Arc;

use crate::{
    app::App,
    caches::verified_tokens::Verified,
    clock::Timestamp,
    diagnostics,
    error::Error,
    flows::{
        oauth::token::foreign::{self, ForeignJwt},
        tokens::{refresh, verify},
    },
    ids::{ClientId, SessionId},
    jose::ClientJwt,
    model::{
        client::{Client, TokenExchangePolicy},
        session::Session,
        trusted_issuer::IssuerUse,
    },
    oauth::{
        access_token::{self, AccessClaims, ActorClaim, Audience, MayAct, NewAccessToken},
        error::OAuthError,
        id_token::IdClaims,
        jwt::{InvalidToken, TokenType, Unverified},
        refresh_token::RefreshToken,
        scope::Scope,
        token_request::{TokenTypeIdentifier, TypedToken},
    },
    storage::sessions,
};

/// A token that was presented and is valid.
#[derive(Debug)]
pub(super) struct Presented {
    pub origin: Origin,
    /// The issuer of `sub`; `None`: this server.
    pub iss: Option<String>,
    pub sub: String,
    /// The client that it was issued to.
    pub client_id: Option<ClientId>,
    pub scope: Scope,
    pub audiences: Vec<String>,
    pub expires_at: Timestamp,
    pub act: Option<ActorClaim>,
    pub may_act: Option<MayAct>,
    /// It, and the tokens that it was exchanged for itself.
    pub derived_from: Vec<access_token::Origin>,
    pub role: Option<String>,
    pub user_id: Option<String>,
}

/// Where a token is from.
#[derive(Debug)]
pub(super) enum Origin {
    /// Of a session here.
    Session(Box<Session>),
    /// A client's own token.
    Client,
    Foreign(Box<ForeignJwt>),
}

/// Records why a token is unusable.
pub(super) fn refuse(parameter: &'static str, why: &'static str) -> Error {
    diagnostics::record(parameter, why);
    OAuthError::invalid_request(format!("`{parameter}` is not usable: {why}")).into()
}

/// Reads the subject token: of this server, one that was issued to the client or is for an API that
/// the policy names.
///
/// # Errors
/// `invalid_request`.
pub(super) async fn subject(
    app: &App,
    client: &Client,
    policy: &TokenExchangePolicy,
    token: &TypedToken,
) -> Result<Presented, Error> {
    const NAME: &str = "subject_token";
    let presented = match read(app, client, policy, token, IssuerUse::SubjectToken).await? {
        Ok(presented) => presented,
        Err(InvalidToken(why)) => return Err(refuse(NAME, why)),
    };
    let is_own = presented.client_id.as_ref() == Some(&client.id);
    let is_named = |audience: &String| {
        policy.subject_audiences.iter().any(|one| one == "*" || one == audience)
    };
    match presented.origin {
        Origin::Foreign(_) => Ok(presented),
        Origin::Client => Err(refuse(NAME, "it is a client's own token, about no user")),
        Origin::Session(_) if is_own || presented.audiences.iter().any(is_named) => Ok(presented),
        Origin::Session(_) => Err(refuse(NAME, "it is for another client and another audience")),
    }
}

/// Reads the actor token: of this server, one that was issued to the client, so that nobody acts by
/// a token that was sent to them.
///
/// # Errors
/// `invalid_request`.
pub(super) async fn actor(
    app: &App,
    client: &Client,
    policy: &TokenExchangePolicy,
    token: &TypedToken,
) -> Result<Presented, Error> {
    const NAME: &str = "actor_token";
    let presented = match read(app, client, policy, token, IssuerUse::ActorToken).await? {
        Ok(presented) => presented,
        Err(InvalidToken(why)) => return Err(refuse(NAME, why)),
    };
    let is_foreign = matches!(presented.origin, Origin::Foreign(_));
    if !is_foreign && presented.client_id.as_ref() != Some(&client.id) {
        return Err(refuse(NAME, "it was issued to another client"));
    }
    if presented.act.is_some() {
        return Err(refuse(NAME, "somebody acts by it for another party (`act`)"));
    }
    if !presented.sub.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(refuse(NAME, "its `sub` must be visible ASCII characters"));
    }
    Ok(presented)
}

/// Reads a token of this server or of a trusted issuer.
///
/// # Errors
/// [`Error::Unavailable`]; within, why it is invalid.
pub(super) async fn read(
    app: &App,
    client: &Client,
    policy: &TokenExchangePolicy,
    token: &TypedToken,
    what: IssuerUse,
) -> Result<Result<Presented, InvalidToken>, Error> {
    use TokenTypeIdentifier as Kind;
    let text = token.token.as_str();
    if token.kind == Kind::RefreshToken {
        return of_refresh_token(app, client, text).await;
    }
    let jwt = match ClientJwt::parse(text) {
        Ok(jwt) => jwt,
        Err(why) => return Ok(Err(why)),
    };
    let is_ours = foreign::claimed_issuer(&jwt).as_ref() == Some(&app.config.server.issuer);
    match token.kind {
        Kind::AccessToken | Kind::Jwt if is_ours => of_access_token(app, text).await,
        Kind::IdToken if is_ours => of_id_token(app, client, text).await,
        Kind::AccessToken | Kind::Jwt | Kind::IdToken => {
            of_issuer(app, client, policy, &jwt, what).await
        }
        Kind::RefreshToken | Kind::IdJag => {
            Ok(Err(InvalidToken("tokens of this type cannot be exchanged")))
        }
    }
}

/// An access token of this server. The caller has authenticated the client, so the revocation list
/// was synced then; whatever is revoked later revokes the resulting token too.
async fn of_access_token(app: &App, text: &str) -> Result<Result<Presented, InvalidToken>, Error> {
    let verified: Arc<Verified> = match verify::inspect(app, text) {
        Ok(verified) => verified,
        Err(why) => return Ok(Err(why)),
    };
    let claims = &verified.claims;
    let origin = match &claims.sid {
        Some(sid) => match live_session(app, sid).await? {
            Some(session) => Origin::Session(Box::new(session)),
            None => return Ok(Err(InvalidToken("its session has been revoked"))),
        },
        None => Origin::Client,
    };
    let this = access_token::Origin {
        jti: Some(claims.jti.clone()),
        iat: claims.iat,
        client_id: claims.client_id.clone(),
        kid: verified.kid.clone(),
    };
    Ok(Ok(Presented {
        origin,
        iss: None,
        sub: claims.sub.clone(),
        client_id: Some(claims.client_id.clone()),
        scope: claims.scope.clone(),
        audiences: claims.aud.names().to_vec(),
        expires_at: seconds(claims.exp),
        act: claims.act.clone(),
        may_act: claims.may_act.clone(),
        derived_from: [this].into_iter().chain(claims.derived_from.iter().cloned()).collect(),
        role: claims.role.clone(),
        user_id: claims.user_id.clone(),
    }))
}

/// An ID token that was issued to the client, of a session that is not revoked.
///
/// # Errors
/// [`Error::Unavailable`]; within, why it is invalid.
pub(super) async fn of_id_token(
    app: &App,
    client: &Client,
    text: &str,
) -> Result<Result<Presented, InvalidToken>, Error> {
    let (claims, kid) = match id_token(app, client, text) {
        Ok(read) => read,
        Err(why) => return Ok(Err(why)),
    };
    let session = live_session(app, &claims.sid).await?;
    let session = session.filter(|session| session.client_id == client.id);
    let Some(session) = session else {
        return Ok(Err(InvalidToken("its session has been revoked")));
    };
    let this =
        access_token::Origin { jti: None, iat: claims.iat, client_id: client.id.clone(), kid };
    let expires_at = seconds(claims.exp);
    Ok(Ok(of_session(client, session, expires_at, vec![this])))
}

fn id_token(app: &App, client: &Client, text: &str) -> Result<(IdClaims, String), InvalidToken> {
    let token = Unverified::parse(text, TokenType::Id)?;
    match app.keys.ring().verify(&token) {
        Some(true) => {}
        Some(false) => return Err(InvalidToken("wrong signature")),
        None => return Err(InvalidToken("signed by an unknown key")),
    }
    let claims: IdClaims = token.claims()?;
    if claims.aud != client.id.as_str() {
        return Err(InvalidToken("the ID token was issued to another client"));
    }
    // The rules of an access token of the same session: dates, and the revocation list.
    let new = NewAccessToken {
        issuer: &claims.iss,
        audience: Audience::One(claims.aud.clone()),
        subject: &claims.sub,
        client_id: &client.id,
        scope: Scope::default(),
        session: Some(&claims.sid),
        auth_time: None,
        acr: None,
        amr: &[],
        email: None,
        role: None,
        modules: None,
        user_id: None,
        until: None,
        key: None,
    };
    let mut same = AccessClaims::new(new, "-".to_owned(), seconds(claims.iat), Default::default());
    same.exp = claims.exp;
    let kid = token.header.kid.clone();
    verify::still_valid(app, &Verified { claims: same, kid: kid.clone() })?;
    Ok((claims, kid))
}

/// The current refresh token of a session of the client. It is not rotated.
async fn of_refresh_token(
    app: &App,
    client: &Client,
    text: &str,
) -> Result<Result<Presented, InvalidToken>, Error> {
    const UNUSABLE: InvalidToken = InvalidToken(
        "the refresh token is unknown, expired, revoked or used, or was issued to another client",
    );
    let current = RefreshToken::parse(text).map(|token| token.hash());
    let session = match refresh::peek(app, text, &client.id).await {
        Ok(session) if current.is_some_and(|hash| session.current_hash == hash) => session,
        Ok(_) | Err(Error::InvalidRefreshToken) => return Ok(Err(UNUSABLE)),
        Err(other) => return Err(other),
    };
    let expires_at = session.idle_expires_at.min(session.expires_at);
    Ok(Ok(of_session(client, session, expires_at, vec![])))
}

fn of_session(
    client: &Client,
    session: Session,
    expires_at: Timestamp,
    derived_from: Vec<access_token::Origin>,
) -> Presented {
    Presented {
        iss: None,
        sub: session.subject.clone(),
        client_id: Some(client.id.clone()),
        scope: session.scope.clone(),
        audiences: session.details.resource.clone(),
        expires_at,
        act: None,
        may_act: client.may_act(),
        derived_from,
        role: None,
        user_id: None,
        origin: Origin::Session(Box::new(session)),
    }
}

/// A JWT of a trusted issuer that the policy names.
async fn of_issuer(
    app: &App,
    client: &Client,
    policy: &TokenExchangePolicy,
    jwt: &ClientJwt<'_>,
    what: IssuerUse,
) -> Result<Result<Presented, InvalidToken>, Error> {
    // JWTs for other uses (logout tokens, authorization requests, ID-JAGs) say so (RFC 8725 §3.11).
    if jwt.typ().is_some_and(|typ| typ != "jwt" && typ != "at+jwt") {
        return Ok(Err(InvalidToken("unexpected token type (`typ`)")));
    }
    let jwt = match foreign::verify(app, client, jwt, what).await? {
        Ok(jwt) => jwt,
        Err(why) => return Ok(Err(why)),
    };
    if !policy.issuers.contains(&jwt.issuer.id) {
        return Ok(Err(InvalidToken("the client may not exchange tokens of its issuer")));
    }
    let accepted = &jwt.issuer.settings.audiences;
    let is_accepted = |audience: &String| match accepted.as_slice() {
        [] => *audience == app.config.server.issuer,
        accepted => accepted.contains(audience),
    };
    if !jwt.claims.aud.names().iter().any(is_accepted) {
        return Ok(Err(InvalidToken("audience mismatch")));
    }
    let may_act = match jwt.may_act() {
        Ok(may_act) => may_act,
        Err(why) => return Ok(Err(why)),
    };
    let act = jwt.act();
    let is_ascii =
        |one: &ActorClaim| one.sub.len() <= 255 && one.sub.bytes().all(|b| b.is_ascii_graphic());
    if act.as_ref().is_some_and(|act| !act.chain().all(is_ascii)) {
        return Ok(Err(InvalidToken("each `sub` in `act` must be visible ASCII characters")));
    }
    Ok(Ok(Presented {
        iss: Some(jwt.claims.iss.clone()),
        sub: jwt.claims.sub.clone(),
        client_id: jwt.claims.client_id.clone().map(Into::into),
        scope: jwt.scope(),
        // Its audiences are not APIs of this server.
        audiences: vec![],
        expires_at: jwt.claims.expires_at(),
        act,
        may_act,
        derived_from: vec![],
        role: None,
        user_id: None,
        origin: Origin::Foreign(Box::new(jwt)),
    }))
}

async fn live_session(app: &App, sid: &SessionId) -> Result<Option<Session>, Error> {
    let session = sessions::by_id(&app.db, sid).await?;
    Ok(session.filter(|session| session.is_live(app.clock.now())))
}

fn seconds(at: i64) -> Timestamp {
    Timestamp::from_secs(at).unwrap_or(Timestamp(i64::MAX))
}

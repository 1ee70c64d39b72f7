//! Login at another OpenID provider: authorization code with PKCE, with this server as the client
//! (OpenID Connect Core §3.1, RFC 9700 §2.1.1).
//!
//! Nothing is stored before the provider has answered. The `state` is sealed: it has what the
//! request was for, and the browser that it belongs to; `nonce` and code verifier are derived from
//! it. Each provider has a redirect URI of its own and its name in the `state`, so that the code of
//! one never goes to another (mix-up, RFC 9700 §4.4).

pub mod identity;

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::identity::PendingIdentity;
use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    error::{Error, SecondFactorRequired},
    flows::{
        accounts::{
            deletion,
            known_sources::{self, Arrival, source_with},
            second_factors,
            second_step::{self, Place, UpstreamLogin},
        },
        derived, provisioning, services,
        sessions::open::{Cookie, PreparedSession},
    },
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        authentication::MFA,
        upstream_identity::UpstreamIdentity,
        user::{Email, Login},
    },
    oauth::pkce,
    storage::{
        guesses::{self, GuessedAccount},
        single_use::{self, Kind},
        upstream_identities as rows, users,
    },
    telemetry::{LoginOutcome, UpstreamOutcome},
    upstream::{AuthorizationParameters, CodeExchange, Expected, IdToken, Metadata, Provider},
};

/// How long a user may take at the provider.
const LONGEST: Duration = Duration::from_secs(600);

const SEAL: &str = "upstream-state";

/// Why a login at a provider is begun, and what it must be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// Where the browser continues afterwards: a path of this server.
    pub return_to: Option<&'a str>,
    /// The user, who is logged in, adds the identity.
    pub is_link: bool,
    /// The user must authenticate again.
    pub again: bool,
    /// How old the login at the provider may be, in seconds.
    pub max_age: Option<u32>,
    pub login_hint: Option<&'a str>,
    /// The token of the invitation that the user came with.
    pub invitation: Option<&'a str>,
    /// The request prefers or requires a second factor.
    pub second_factor: bool,
}

/// What travels as `state`.
#[derive(Serialize, Deserialize)]
struct State {
    /// Random: accepted once.
    id: String,
    provider: String,
    /// The digest of the browser's secret.
    browser: String,
    /// Microseconds since the epoch.
    at: i64,
    return_to: Option<String>,
    is_link: bool,
    again: bool,
    max_age: Option<u32>,
    invitation: Option<String>,
}

/// The query of the redirect back (RFC 6749 §4.1.2, RFC 9207 §2).
#[derive(Clone, Copy, Debug, Default)]
pub struct Callback<'a> {
    pub state: &'a str,
    pub code: Option<&'a str>,
    pub error: Option<&'a str>,
    pub error_description: Option<&'a str>,
    pub iss: Option<&'a str>,
}

/// What became of a login at a provider.
#[derive(Debug)]
pub struct Answered {
    /// As of [`Start`]; `None` too where the `state` is not valid.
    pub return_to: Option<String>,
    pub is_link: bool,
    pub outcome: Result<Outcome, Refusal>,
}

/// A login that has succeeded at the provider.
#[derive(Debug)]
pub enum Outcome {
    LoggedIn(Cookie),
    /// A second factor must follow.
    SecondFactor(Box<SecondFactorRequired>),
    /// The identity is no user's. Sealed, for the browser to come back with.
    Unlinked(String),
    /// The user who adds it has it already.
    IsLinked,
}

/// Why a login at a provider is refused. The reason itself is in the log and in the diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The answer is not for this browser, too late, or was used before.
    Stale,
    /// The provider, or the user there, has refused.
    Denied,
    /// The provider is not reached, or its answer breaks a rule.
    Failed,
    /// The identity is another user's.
    Taken,
    /// The account is disabled.
    Disabled,
}

impl From<Refusal> for UpstreamOutcome {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stale => Self::Stale,
            Refusal::Denied => Self::Denied,
            Refusal::Failed => Self::Failed,
            Refusal::Taken | Refusal::Disabled => Self::Refused,
        }
    }
}

fn find<'a>(app: &'a App, name: &str) -> Result<&'a Arc<Provider>, Error> {
    app.upstream.get(name).ok_or(Error::NotFound("login provider"))
}

/// Where the provider sends the browser back.
pub fn redirect_uri(app: &App, name: &str) -> String {
    format!("{}/login/upstream/{name}/callback", app.config.server.issuer)
}

fn digest(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(secret))
}

/// Where the browser is sent to log in at a provider. `browser`: a secret in a cookie of this
/// browser.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::ServiceFailed`], [`Error::ServiceTimeout`],
/// [`Error::ServiceUnavailable`] where the provider's metadata cannot be read;
/// [`Error::Unavailable`].
pub async fn begin(
    app: &App,
    name: &str,
    browser: &str,
    start: Start<'_>,
) -> Result<String, Error> {
    let provider = find(app, name)?;
    let now = app.clock.now();
    let metadata = provider.metadata(&app.outbound, now).await.map_err(|failure| {
        app.metrics.upstream_login(name, UpstreamOutcome::Failed);
        services::refused(failure)
    })?;
    let state = State {
        id: URL_SAFE_NO_PAD.encode(app.rng.bytes::<16>()),
        provider: name.to_owned(),
        browser: digest(browser),
        at: now.micros(),
        return_to: start.return_to.map(str::to_owned),
        is_link: start.is_link,
        again: start.again,
        max_age: start.max_age,
        // A token has 43 characters.
        invitation: start.invitation.filter(|token| token.len() < 100).map(str::to_owned),
    };
    let state = serde_json::to_vec(&state).map_err(|error| Error::Unavailable(error.into()))?;
    let state = app.keys.seal(SEAL, &state)?;
    let challenge = pkce::challenge_of(&verifier(app, &state)?).unwrap_or_default();
    let parameters = AuthorizationParameters {
        redirect_uri: &redirect_uri(app, name),
        state: &state,
        nonce: &nonce(app, &state)?,
        code_challenge: &challenge,
        again: start.again,
        // With it the ID token has `auth_time` (Core §3.1.2.1).
        max_age: if start.again { Some(0) } else { start.max_age },
        login_hint: start.login_hint,
        second_factor: start.second_factor,
    };
    let url = provider.authorization_url(&metadata, parameters);
    url.ok_or_else(|| Error::Unavailable("authorization_endpoint is not a URL".into()))
}

fn verifier(app: &App, state: &str) -> Result<String, Error> {
    derived::text(app, "upstream code verifier", state)
}

fn nonce(app: &App, state: &str) -> Result<String, Error> {
    derived::text(app, "upstream nonce", state)
}

/// The `state`, if [`begin`] has issued it a short time ago for this provider and a browser with one
/// of these secrets.
fn open_state(app: &App, name: &str, browser: &[String], state: &str) -> Option<State> {
    let opened = second_factors::unseal(app, SEAL, state);
    let opened = opened.and_then(|content| serde_json::from_slice::<State>(&content).ok());
    let Some(opened) = opened else {
        diagnostics::record("upstream.state", "not issued here");
        return None;
    };
    // Digests: their comparison tells nothing about a secret.
    let is_of_browser = browser.iter().any(|secret| digest(secret) == opened.browser);
    let is_recent = Timestamp(opened.at).distance(app.clock.now()) <= LONGEST;
    let is_of_provider = opened.provider == name;
    diagnostics::record(
        "upstream.state",
        format_args!(
            "of this browser: {is_of_browser}, of this provider: {is_of_provider}, recent: {is_recent}"
        ),
    );
    (is_of_browser && is_recent && is_of_provider).then_some(opened)
}

/// The provider has sent the browser back. `browser`: the secrets that the browser has; `previous`:
/// its session cookie, `current`: the user of it.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::AccountPending`], [`Error::TooMany`], [`Error::Unavailable`].
pub async fn complete(
    app: &App,
    name: &str,
    browser: &[String],
    callback: Callback<'_>,
    (previous, current): (Option<&str>, Option<&str>),
    context: &RequestContext,
) -> Result<Answered, Error> {
    let provider = find(app, name)?;
    let Some(state) = open_state(app, name, browser, callback.state) else {
        app.metrics.upstream_login(name, UpstreamOutcome::Stale);
        let outcome = Err(Refusal::Stale);
        return Ok(Answered { return_to: None, is_link: false, outcome });
    };
    let attempt = Attempt { app, provider, state: &state, context };
    let outcome = attempt.outcome(callback, previous, current).await?;
    app.metrics.upstream_login(
        name,
        match &outcome {
            Ok(Outcome::LoggedIn(_)) => UpstreamOutcome::Ok,
            Ok(Outcome::SecondFactor(_)) => UpstreamOutcome::SecondFactorRequired,
            Ok(Outcome::Unlinked(_)) => UpstreamOutcome::Unlinked,
            Ok(Outcome::IsLinked) => UpstreamOutcome::Linked,
            Err(refusal) => (*refusal).into(),
        },
    );
    Ok(Answered { return_to: state.return_to, is_link: state.is_link, outcome })
}

/// A login at a provider whose `state` is valid.
struct Attempt<'a> {
    app: &'a App,
    provider: &'a Provider,
    state: &'a State,
    context: &'a RequestContext,
}

impl Attempt<'_> {
    async fn outcome(
        &self,
        callback: Callback<'_>,
        previous: Option<&str>,
        current: Option<&str>,
    ) -> Result<Result<Outcome, Refusal>, Error> {
        let app = self.app;
        let pending = match self.identify(callback).await? {
            Ok(pending) => pending,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let found = rows::find(&app.db, &pending.issuer, &pending.subject).await?;
        match found {
            Some(identity) if self.state.is_link => {
                let is_own = current == Some(identity.user_id.as_str());
                Ok(if is_own { Ok(Outcome::IsLinked) } else { Err(Refusal::Taken) })
            }
            Some(identity) => self.log_in(identity, &pending, previous).await,
            None => {
                if !self.state.is_link
                    && let Some(identity) = self.link_by_email(&pending).await?
                {
                    return self.log_in(identity, &pending, previous).await;
                }
                diagnostics::record("upstream.identity", "no user's");
                Ok(Ok(Outcome::Unlinked(pending.seal(app)?)))
            }
        }
    }

    fn failed(&self, why: &str) -> Refusal {
        diagnostics::record("upstream.failure", why);
        tracing::warn!(provider = self.provider.name, why, "a login at a provider failed");
        Refusal::Failed
    }

    /// Exchanges the code and checks what the provider says about the user.
    async fn identify(
        &self,
        callback: Callback<'_>,
    ) -> Result<Result<PendingIdentity, Refusal>, Error> {
        let (app, provider) = (self.app, self.provider);
        let metadata = match provider.metadata(&app.outbound, app.clock.now()).await {
            Ok(metadata) => metadata,
            Err(failure) => return Ok(Err(self.failed(&failure.cause))),
        };
        // RFC 9207 §2.4: also the error of another issuer is nothing that this one has said.
        let is_announced = metadata.authorization_response_iss_parameter_supported;
        if callback.iss.map_or(is_announced, |iss| iss != provider.config.issuer) {
            let why = "`iss` of the authorization response is not the issuer of the provider";
            return Ok(Err(self.failed(why)));
        }
        if let Some(error) = callback.error {
            let description = callback.error_description.unwrap_or_default();
            diagnostics::record("upstream.error", error);
            diagnostics::record("upstream.error_description", description);
            tracing::info!(provider = provider.name, error, "a provider refused a login");
            return Ok(Err(Refusal::Denied));
        }
        let Some(code) = callback.code.filter(|code| !code.is_empty()) else {
            return Ok(Err(self.failed("the authorization response has neither code nor error")));
        };
        let redirect_uri = redirect_uri(app, &provider.name);
        let verifier = verifier(app, callback.state)?;
        let code = CodeExchange { code, verifier: &verifier, redirect_uri: &redirect_uri };
        let now = app.clock.now();
        let ids = || app.new_id();
        let exchanged = provider.exchange(&app.outbound, &metadata, code, now, ids).await;
        let tokens = match exchanged {
            Ok(tokens) => tokens,
            Err(failure) => return Ok(Err(self.failed(&failure.cause))),
        };
        let now = app.clock.now();
        let nonce = nonce(app, callback.state)?;
        let expected = Expected {
            nonce: &nonce,
            requested_at: Timestamp(self.state.at),
            again: self.state.again,
            max_age: self.state.max_age,
        };
        let keys = (&*app.outbound, &app.client_keys);
        let id_token = match provider.verify(keys, &metadata, &tokens, expected, now).await {
            Ok(id_token) => id_token,
            Err(why) => return Ok(Err(self.failed(&format!("ID token: {why}")))),
        };
        // The provider has authenticated this answer: only now does it cost a row. A second use of a
        // `state` is refused whatever the provider says.
        let until = Timestamp(self.state.at) + LONGEST + LONGEST;
        let kind = Kind::UpstreamState;
        if !single_use::claim(&app.db, kind, &provider.name, &self.state.id, until).await? {
            diagnostics::record("upstream.state", "used before");
            return Ok(Err(Refusal::Stale));
        }
        self.describe(&metadata, &tokens, id_token).await
    }

    /// What is known about the user of an ID token, from the UserInfo endpoint where the token has no
    /// email address, or does not say whether one that is trusted is verified.
    async fn describe(
        &self,
        metadata: &Metadata,
        tokens: &crate::upstream::Tokens,
        id_token: IdToken,
    ) -> Result<Result<PendingIdentity, Refusal>, Error> {
        let (app, provider) = (self.app, self.provider);
        let mut claims = id_token.claims;
        let config = &provider.config;
        let is_incomplete = !claims.contains_key(&config.email_claim)
            || (config.trust_email && !claims.contains_key(&config.email_verified_claim));
        if is_incomplete {
            let outbound = &app.outbound;
            match provider.user_info(outbound, metadata, tokens, &id_token.sub).await {
                Ok(more) => claims.extend(more),
                Err(failure) => return Ok(Err(self.failed(&failure.cause))),
            }
        }
        let text = |name: &str| claims.get(name).and_then(serde_json::Value::as_str);
        let is_short = |text: &&str| (1..=254).contains(&text.len());
        // Only the boolean counts: "true" and 1 are what some providers write for anything.
        let is_verified = claims.get(&config.email_verified_claim).and_then(|v| v.as_bool());
        let now = app.clock.now();
        let authenticated_at = id_token.authenticated_at.unwrap_or_else(|| unknown_time(app, now));
        Ok(Ok(PendingIdentity {
            provider: provider.name.clone(),
            issuer: config.issuer.clone(),
            email: text(&config.email_claim).filter(is_short).map(str::to_owned),
            is_email_verified: is_verified == Some(true),
            username: text(&config.username_claim).filter(is_short).map(str::to_owned),
            is_mfa: id_token.is_mfa,
            authenticated_at: authenticated_at.micros(),
            at: now.micros(),
            invitation: self.state.invitation.clone(),
            subject: id_token.sub,
        }))
    }

    /// Links the identity to the account of its email address, where the provider is trusted with
    /// addresses and both sides have verified this one.
    async fn link_by_email(
        &self,
        pending: &PendingIdentity,
    ) -> Result<Option<UpstreamIdentity>, Error> {
        let app = self.app;
        let Some(email) = pending.trusted_email(app).and_then(|email| Email::parse(email).ok())
        else {
            return Ok(None);
        };
        let account = users::by_login(&app.db, &Login::Email(email.canonical)).await?;
        let Some(account) = account.filter(|account| account.user.is_verified) else {
            return Ok(None);
        };
        let user_id = &account.user.id;
        if account.user.disabled_at.is_none() {
            let mut tx = app.begin(&Actor::caller(user_id, self.context)).await?;
            // As it was when it was read: the address may have changed meanwhile.
            let locked = users::lock(&mut tx, user_id).await?;
            let is_same = locked.is_some_and(|locked| {
                locked.user.is_verified && locked.user.email == account.user.email
            });
            if !is_same {
                return Ok(None);
            }
            let (issuer, subject) = (pending.issuer.clone(), pending.subject.clone());
            match identity::link(&mut tx, user_id, issuer, subject).await {
                // The user has another identity of this provider.
                Err(crate::storage::Error::Conflict(_)) => return Ok(None),
                linked => linked?,
            }
            tx.commit().await?;
            diagnostics::record("upstream.identity", "linked by its verified email address");
        }
        Ok(rows::find(&app.db, &pending.issuer, &pending.subject).await?)
    }

    /// Opens a session of the identity's user, or asks for the second factor.
    async fn log_in(
        &self,
        identity: UpstreamIdentity,
        pending: &PendingIdentity,
        previous: Option<&str>,
    ) -> Result<Result<Outcome, Refusal>, Error> {
        let (app, context) = (self.app, self.context);
        diagnostics::identify_user(&identity.user_id);
        let account = users::with_password_by_id(&app.db, &identity.user_id).await?;
        let account = account.filter(|account| {
            account.user.disabled_at.is_none() || account.cancellable_deletion().is_some()
        });
        let Some(account) = account else {
            diagnostics::record("user.disabled", true);
            return Ok(Err(Refusal::Disabled));
        };
        let user_id = &account.user.id;
        if provisioning::is_pending(app, user_id).await? {
            return Err(Error::AccountPending);
        }
        app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
        let (factor, deletion) = (account.second_factor, account.cancellable_deletion());
        let hash = &account.password_hash;
        // Before the deletion is cancelled, no factor is set up.
        let needs_factor = factor.exists || (factor.is_required && deletion.is_none());
        if !pending.is_mfa && needs_factor {
            let login = UpstreamLogin {
                identity_id: identity.id,
                authenticated_at: pending.authenticated_at,
            };
            let required =
                second_step::require_after(app, user_id, hash, Place::Page, Some(login)).await?;
            app.metrics.login(LoginOutcome::SecondFactorRequired);
            return Ok(Ok(Outcome::SecondFactor(Box::new(required))));
        }
        if let Some(deletion) = deletion {
            return Err(deletion::offer(app, &account.user, hash, deletion)?);
        }
        let user = account.user.clone();
        let (session, cookie) =
            PreparedSession::browser(app, user, pending.amr(), previous, context);
        let session = session.authenticated_at(Timestamp(pending.authenticated_at));
        let mut tx = app.begin(&Actor::caller(user_id, context)).await?;
        let now = tx.now();
        // The account may have been changed meanwhile.
        if !users::record_login(&mut tx, user_id, hash, None, factor.exists, now).await?
            || !rows::record_login(&mut tx, user_id, &identity.id, now).await?
        {
            return Ok(Err(Refusal::Stale));
        }
        guesses::end_row(&mut tx, &GuessedAccount::user(user_id), guesses::Kind::Password).await?;
        let source = source_with(context, &cookie);
        let arrival = Arrival {
            user: &account.user,
            source: &source,
            last_seen: None,
            context: Some(context),
        };
        let is_told = known_sources::remember(app, &mut tx, arrival).await?;
        session.store(&mut tx, "user.login").await?;
        tx.commit().await?;
        if is_told {
            app.mails_waiting.notify_one();
        }
        app.metrics.login(LoginOutcome::Ok);
        Ok(Ok(Outcome::LoggedIn(cookie)))
    }
}

/// When a user has authenticated whose provider does not say it: perhaps long ago, and without a
/// question now. As long ago as the oldest session here began, which is recent for nothing.
fn unknown_time(app: &App, now: Timestamp) -> Timestamp {
    let fresh = app.config.second_factors.fresh_login;
    now - app.config.authorization.browser_session_ttl.max(fresh + Duration::from_secs(1))
}

/// The methods of a login at a provider: this server knows of none of them, except that the operator
/// has said which answers are a second factor.
const fn amr(is_mfa: bool) -> &'static [&'static str] {
    if is_mfa { &[MFA] } else { &[] }
}

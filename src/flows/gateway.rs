//! Whether a gateway may let a request through, and who sends it: one decision for `/forward-auth`
//! and for Envoy's gRPC.

use std::{sync::Arc, time::Duration};

use url::{Origin, Url, form_urlencoded::byte_serialize};

use crate::{
    app::App,
    caches::verified_tokens::Verified,
    clock::Timestamp,
    config::Config,
    diagnostics,
    error::Error,
    flows::{
        accounts::terms,
        oauth::resources::is_about_the_user,
        sessions::open,
        tokens::{
            dpop,
            first_party::{self, Tokens},
            verify,
        },
    },
    limits::{Key, Limit, RetryAfter},
    model::{
        actor::RequestContext,
        authentication::{self, ACR_VALUES, SecondFactorRequest},
        browser_session::BrowserSession,
        catalogue::Catalogue,
        client::{self, FIRST_PARTY},
        module::Module,
    },
    oauth::{access_token::AccessClaims, error::OAuthError, jwt::InvalidToken, scope::Scope},
    telemetry::GatewayOutcome,
};

/// The shortest `max_age` that can be required: a user must be able to log in and return within it.
pub const SHORTEST_MAX_AGE: Duration = Duration::from_secs(30);

/// What a request carries to say who sent it, not verified yet.
#[derive(Clone, Copy, Debug)]
pub enum Credentials<'a> {
    /// `Authorization: Bearer …`
    Bearer(&'a str),
    /// `Authorization: DPoP …` with a proof (RFC 9449 §7.1).
    Dpop { token: &'a str, proof: &'a dpop::Presented },
    /// The cookies of a browser, if any.
    Cookies { access: Option<&'a str>, refresh: Option<&'a str> },
}

/// What a gateway requires of a request.
#[derive(Clone, Debug, Default)]
pub struct Requirements {
    /// All of them.
    pub scope: Scope,
    /// All of them, by id; a token has a module where it carries one of the module's scopes.
    pub modules: Vec<String>,
    /// The accepted audiences of a bearer token; empty: the configured `gateway.audiences`, and
    /// this server's own API; that audience alone lets only tokens of built-in clients pass.
    pub audiences: Vec<String>,
    /// The maximum age of the login (RFC 9470 §4).
    pub max_age: Option<Duration>,
    /// The accepted authentication context classes; empty: any.
    pub acr_values: Vec<String>,
}

impl Requirements {
    /// Whether a scope or module is required that only the application behind the gateway gives
    /// meaning to. Otherwise another application's token from a mere login would be accepted (RFC
    /// 9700 §2.3).
    fn names_an_entitlement(&self) -> bool {
        !self.modules.is_empty() || self.scope.iter().any(|scope| !is_about_the_user(scope))
    }
}

/// The answer to a gateway.
#[derive(Debug)]
pub struct Decision {
    pub verdict: Result<Identity, Refusal>,
    pub cookies: Cookies,
}

/// What the browser's cookies become, whatever the verdict: a session that was refreshed has only
/// one valid refresh token.
#[derive(Debug)]
pub enum Cookies {
    Keep,
    Renew(Box<Tokens>),
    Clear,
}

/// Who was let through.
#[derive(Debug)]
pub struct Identity {
    token: Arc<Verified>,
    /// The ids of the modules that the token grants, separated by spaces.
    pub modules: String,
}

impl Identity {
    pub fn claims(&self) -> &AccessClaims {
        &self.token.claims
    }
}

/// Why the request was not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoToken,
    /// RFC 6750 §3.1 `invalid_token`
    InvalidToken(InvalidToken),
    /// RFC 9449 §7.1 `invalid_dpop_proof`
    InvalidProof(OAuthError),
    /// RFC 6750 §3.1 `insufficient_scope`
    InsufficientScope {
        /// The scope that would be sufficient.
        scope: String,
        /// A missing module.
        module: Option<String>,
    },
    /// RFC 9470 §3 `insufficient_user_authentication`
    NeedsLogin {
        max_age: Option<Duration>,
        acr_values: Vec<String>,
    },
}

impl Refusal {
    /// Whether a login in the browser resolves it.
    pub fn is_resolved_by_login(&self) -> bool {
        match self {
            Self::NoToken | Self::InvalidToken(_) => true,
            Self::InvalidProof(_) | Self::InsufficientScope { .. } => false,
            Self::NeedsLogin { acr_values, .. } => {
                acr_values.is_empty()
                    || acr_values.iter().any(|one| ACR_VALUES.contains(&one.as_str()))
            }
        }
    }
}

/// Decides on a request. An expired access cookie is renewed by the refresh cookie; a bearer token
/// never is.
///
/// # Errors
/// [`Error::Unavailable`], and [`Error::TooMany`] for an address that presented too many invalid
/// refresh tokens.
pub async fn decide(
    app: &App,
    credentials: Credentials<'_>,
    requirements: &Requirements,
    caller: &RequestContext,
) -> Result<Decision, Error> {
    let decision = attempt(app, credentials, requirements, caller).await;
    if matches!(&decision, Ok(decision) if decision.verdict.is_err()) {
        diagnostics::record("needed.scope", &requirements.scope);
        diagnostics::record("needed.modules", requirements.modules.join(" "));
        diagnostics::record("needed.audience", requirements.audiences.join(" "));
        if let Some(age) = requirements.max_age {
            diagnostics::record("needed.max_age", age.as_secs());
        }
    }
    app.metrics.gateway(match &decision {
        Err(_) => GatewayOutcome::Error,
        Ok(decision) => match (&decision.verdict, &decision.cookies) {
            (Ok(_), Cookies::Renew(_)) => GatewayOutcome::Renewed,
            (Ok(_), _) => GatewayOutcome::Allowed,
            (Err(Refusal::NoToken), _) => GatewayOutcome::NoToken,
            (Err(Refusal::InvalidToken(_) | Refusal::InvalidProof(_)), _) => {
                GatewayOutcome::InvalidToken
            }
            (Err(Refusal::InsufficientScope { .. }), _) => GatewayOutcome::InsufficientScope,
            (Err(Refusal::NeedsLogin { .. }), _) => GatewayOutcome::NeedsLogin,
        },
    });
    decision
}

async fn attempt(
    app: &App,
    credentials: Credentials<'_>,
    requirements: &Requirements,
    caller: &RequestContext,
) -> Result<Decision, Error> {
    let (access, refresh, proof) = match &credentials {
        Credentials::Bearer(token) => (Some(*token), None, None),
        Credentials::Dpop { token, proof } => (Some(*token), None, Some(*proof)),
        Credentials::Cookies { access, refresh } => (*access, *refresh, None),
    };
    if access.is_none() && refresh.is_none() {
        return Ok(kept(Err(Refusal::NoToken)));
    }
    // The one version check, shared with other requests of this moment.
    app.sync().await?;
    let catalogue = app.directory.catalogue(&app.db).await?;
    let judge =
        Judge { config: &app.config, catalogue: &catalogue, requirements, now: app.clock.now() };
    let inspected = access.map(|token| verify::inspect(app, token));
    if let Some(Ok(token)) = &inspected {
        verify::identify(token);
    }
    match (credentials, inspected) {
        (Credentials::Bearer(token) | Credentials::Dpop { token, .. }, Some(inspected)) => {
            let verdict = match inspected {
                Ok(verified) => match of_sender(app, &verified, token, proof).await? {
                    Ok(()) => judge.sent(verified),
                    Err(refusal) => Err(refusal),
                },
                Err(why) => Err(judge.withdrawn(app, token).unwrap_or(Refusal::InvalidToken(why))),
            };
            Ok(kept(verdict))
        }
        (_, Some(Ok(token))) if is_of_gateway_session(&app.config, &token.claims) => {
            Ok(kept(judge.user(token)))
        }
        _ => match refresh {
            Some(refresh) => renew(app, refresh, &judge, caller).await,
            None => Ok(Decision {
                verdict: Err(Refusal::InvalidToken(InvalidToken(
                    "the session has expired or was revoked",
                ))),
                cookies: Cookies::Clear,
            }),
        },
    }
}

/// Whether the sender of a token may use it: a bearer token without a proof, or the key of a bound
/// one.
async fn of_sender(
    app: &App,
    verified: &Verified,
    token: &str,
    proof: Option<&dpop::Presented>,
) -> Result<Result<(), Refusal>, Error> {
    let checked = match proof {
        Some(proof) => dpop::of_token(app, verified, token, proof).await,
        None => dpop::must_be_bearer(verified).map_err(Error::InvalidToken),
    };
    if checked.is_err() {
        verify::note(verified);
    }
    match checked {
        Ok(()) => Ok(Ok(())),
        Err(Error::InvalidToken(why)) => Ok(Err(Refusal::InvalidToken(why))),
        Err(Error::OAuth(error)) => Ok(Err(Refusal::InvalidProof(error))),
        Err(other) => Err(other),
    }
}

const fn kept(verdict: Result<Identity, Refusal>) -> Decision {
    Decision { verdict, cookies: Cookies::Keep }
}

/// Parallel requests of one page come with one refresh token: within the replay window all get the
/// same successor.
async fn renew(
    app: &App,
    refresh: &str,
    judge: &Judge<'_>,
    caller: &RequestContext,
) -> Result<Decision, Error> {
    let network = Key::address(caller.address);
    let limiter = app.limits.limiter(Limit::Address);
    // Only failures count: a page causes many requests, and an office has one address.
    limiter.peek(&network, judge.now).map_err(|RetryAfter(wait)| Error::TooMany(wait))?;
    let tokens = match first_party::refresh(app, refresh, caller).await {
        Ok(tokens) => tokens,
        Err(Error::InvalidRefreshToken) => {
            app.admit(Limit::Address, &network)?;
            return Ok(Decision {
                verdict: Err(Refusal::InvalidToken(InvalidToken(
                    "the session has expired or was revoked",
                ))),
                cookies: Cookies::Clear,
            });
        }
        Err(other) => return Err(other),
    };
    let verdict = verify::inspect(app, &tokens.access_token)
        .map_err(Refusal::InvalidToken)
        .and_then(|token| judge.user(token));
    Ok(Decision { verdict, cookies: Cookies::Renew(Box::new(tokens)) })
}

/// What a valid token is checked against.
struct Judge<'a> {
    config: &'a Config,
    catalogue: &'a Catalogue,
    requirements: &'a Requirements,
    now: Timestamp,
}

impl Judge<'_> {
    fn sent(&self, token: Arc<Verified>) -> Result<Identity, Refusal> {
        if let Err(why) = self.is_meant_for_us(&token.claims) {
            verify::note(&token);
            return Err(Refusal::InvalidToken(why));
        }
        self.user(token)
    }

    /// The audience (RFC 9068 §4). Every client's tokens are for this server's own API unless it
    /// asks for a resource, so that audience alone lets only tokens of built-in clients pass.
    fn is_meant_for_us(&self, claims: &AccessClaims) -> Result<(), InvalidToken> {
        let named = &self.requirements.audiences;
        if !named.is_empty() {
            return has_any(claims, named).then_some(()).ok_or(InvalidToken("audience mismatch"));
        }
        if has_any(claims, &self.config.gateway.audiences) {
            return Ok(());
        }
        claims.check_audience(self.config.audience())?;
        if client::is_built_in(&claims.client_id) || self.requirements.names_an_entitlement() {
            return Ok(());
        }
        Err(InvalidToken(
            "audience mismatch: the token was issued to an application, and the gateway requires no \
             scope, module or audience",
        ))
    }

    /// The audience was checked before.
    fn user(&self, token: Arc<Verified>) -> Result<Identity, Refusal> {
        let claims = &token.claims;
        if let Err(refusal) = self.lacking(claims).and_then(|()| self.stale(claims)) {
            verify::note(&token);
            return Err(refusal);
        }
        let modules = self.catalogue.modules.values();
        let modules = modules.filter(|module| self.has_module(claims, module));
        let mut names = String::new();
        for module in modules {
            if !names.is_empty() {
                names.push(' ');
            }
            names.push_str(&module.id);
        }
        Ok(Identity { token, modules: names })
    }

    fn lacking(&self, claims: &AccessClaims) -> Result<(), Refusal> {
        let lacks = |id: &&String| {
            let module = self.catalogue.modules.get(id.as_str());
            !module.is_some_and(|module| self.has_module(claims, module))
        };
        let module = self.requirements.modules.iter().find(lacks);
        if module.is_none() && self.requirements.scope.iter().all(|scope| carries(claims, scope)) {
            return Ok(());
        }
        Err(self.insufficient(module))
    }

    fn stale(&self, claims: &AccessClaims) -> Result<(), Refusal> {
        let requirements = self.requirements;
        let steps_up = requirements.max_age.is_some() || !requirements.acr_values.is_empty();
        if steps_up && !self.is_fresh(claims) {
            return Err(Refusal::NeedsLogin {
                max_age: requirements.max_age,
                acr_values: requirements.acr_values.clone(),
            });
        }
        Ok(())
    }

    fn insufficient(&self, module: Option<&String>) -> Refusal {
        let of_modules = self.requirements.modules.iter();
        let of_modules = of_modules.filter_map(|id| self.catalogue.modules.get(id));
        let of_modules = of_modules.flat_map(|module| module.scope.iter());
        Refusal::InsufficientScope {
            scope: Scope::of(self.requirements.scope.iter().chain(of_modules)).to_string(),
            module: module.cloned(),
        }
    }

    /// A scope is of a module only where the token is for the module's API: two APIs may call
    /// different things alike.
    fn has_module(&self, claims: &AccessClaims, module: &Module) -> bool {
        let api = module.resource.as_deref();
        claims.aud.contains(api.unwrap_or(self.config.audience()))
            && module.scope.iter().any(|scope| carries(claims, scope))
    }

    /// A client's own token has no user who could have logged in.
    fn is_fresh(&self, claims: &AccessClaims) -> bool {
        let Some(at) = claims.auth_time.and_then(Timestamp::from_secs) else {
            return false;
        };
        // The classes of this server are for logins here: a back end's user has logged in there.
        let is_account = claims.user_id.as_ref().is_none_or(|id| *id == claims.sub);
        let acr_values = &self.requirements.acr_values;
        self.requirements.max_age.is_none_or(|most| at.distance(self.now) <= most)
            && (acr_values.is_empty() || (is_account && meets_acr(claims, acr_values)))
    }

    /// The missing scope, where a token is valid except for a scope that its user has lost since
    /// and that is required: refreshing would not help.
    fn withdrawn(&self, app: &App, token: &str) -> Option<Refusal> {
        let token = app.verified_tokens.get(token)?;
        let claims = &token.claims;
        let issuer = &self.config.server.issuer;
        claims.check(issuer, self.now).ok()?;
        self.is_meant_for_us(claims).ok()?;
        let scope = app.revocations.remaining_scope(claims, &token.kid)?;
        let mut left = claims.clone();
        left.scope = scope;
        self.lacking(&left).err()
    }
}

/// Whether a token may come as the access cookie: any program of the user can write a cookie, and
/// only sessions of this server's own client use it.
fn is_of_gateway_session(config: &Config, claims: &AccessClaims) -> bool {
    claims.client_id == FIRST_PARTY && claims.aud.contains(config.audience())
}

fn carries(claims: &AccessClaims, scope: &str) -> bool {
    claims.scope.contains(scope)
}

fn has_any(claims: &AccessClaims, audiences: &[String]) -> bool {
    audiences.iter().any(|name| claims.aud.contains(name))
}

fn meets_acr(claims: &AccessClaims, wanted: &[String]) -> bool {
    claims.acr.as_deref().is_some_and(|acr| authentication::satisfies(acr, wanted))
}

/// What starting a session behind a gateway leads to.
#[derive(Debug)]
pub enum Started {
    Session(Box<Tokens>),
    /// The browser's session was revoked meanwhile, or is older than `max_age`.
    LogIn,
    /// It is not of a required class: the user proves a second factor, or sets one up.
    SecondFactor,
    /// The user has yet to accept the terms of this deployment.
    AcceptTerms,
}

/// Opens a session of the first-party API for the user who is logged in at a browser, bound to the
/// browser's session. `acr_values`: the accepted classes; empty: any.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn start(
    app: &App,
    browser: BrowserSession,
    max_age: Option<Duration>,
    acr_values: &[String],
    caller: &RequestContext,
) -> Result<Started, Error> {
    let now = app.clock.now();
    let is_old = |most: Duration| browser.authenticated_at + most.max(SHORTEST_MAX_AGE) < now;
    if max_age.is_some_and(is_old) {
        return Ok(Started::LogIn);
    }
    let is_met = authentication::satisfies(browser.acr(), acr_values);
    let requested = match is_met {
        true => SecondFactorRequest::None,
        false => SecondFactorRequest::Required,
    };
    if browser.lacks_second_factor(requested) {
        return Ok(Started::SecondFactor);
    }
    if terms::are_due(app, &browser) {
        return Ok(Started::AcceptTerms);
    }
    let tokens = open::open_in_browser(app, browser, caller).await?;
    Ok(tokens.map_or(Started::LogIn, |tokens| Started::Session(Box::new(tokens))))
}

/// Where a browser may be redirected to: a URL of this server or of an origin behind a gateway
/// (`gateway.origins`). `None` for any other (threat T8). A URL that is too long to be carried
/// through a login becomes the start page of its origin.
pub fn landing(config: &Config, text: &str) -> Option<Url> {
    let issuer = Url::parse(&config.server.issuer).ok()?;
    // As a browser parses it: `//host` and `/\host` are other hosts.
    let url = issuer.join(text).ok()?;
    // `blob:https://…` has the origin of the URL inside it.
    let is_page = matches!(url.scheme(), "http" | "https");
    let is_plain = is_page && url.username().is_empty() && url.password().is_none();
    if !is_plain || !is_ours(config, &issuer.origin(), &url.origin()) {
        return None;
    }
    if is_too_long(config, url.as_str()) { url.join("/").ok() } else { Some(url) }
}

/// Whether a return address has more than 7 KiB, or does not fit into the login page's URL, where
/// it is escaped twice.
fn is_too_long(config: &Config, url: &str) -> bool {
    const LONGEST: usize = 7 * 1024;
    /// `/login?return_to=/session/start?return_to=`, `max_age`, `reauthenticate` and `lang`.
    const ADDED: usize = 150;
    let escaped = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    url.len() > LONGEST || escaped(&escaped(url)).len() + ADDED > config.max_url_length()
}

fn is_ours(config: &Config, issuer: &Origin, origin: &Origin) -> bool {
    if origin == issuer {
        return true;
    }
    let text = origin.ascii_serialization();
    config.gateway.origins.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let env = [
            ("PROPUSK_SERVER__ISSUER", "https://id.example.org"),
            ("PROPUSK_SECRETS__MASTER_KEY_FILE", "Cargo.toml"),
            ("PROPUSK_GATEWAY__COOKIE_DOMAIN", "example.org"),
            ("PROPUSK_GATEWAY__ORIGINS", "https://app.example.org"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Config::load(None, env.into_iter()).expect("a good configuration")
    }

    #[test]
    fn t08_browsers_are_redirected_to_trusted_origins_only() {
        let config = config();
        for (text, lands) in [
            ("/docs?a=b", "https://id.example.org/docs?a=b"),
            ("https://id.example.org/docs", "https://id.example.org/docs"),
            ("https://app.example.org/a?b=c", "https://app.example.org/a?b=c"),
            ("https://app.example.org", "https://app.example.org/"),
        ] {
            let landed = landing(&config, text);
            assert_eq!(landed.as_ref().map(Url::as_str), Some(lands), "{text}");
        }
        for bad in [
            "javascript:alert(1)",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "https:evil.example//",
            "https://app.example.org.evil.example/",
            "https://app.example.org:444/",
            "http://app.example.org/",
            "https://app.example.org@evil.example/",
            "https://user:word@app.example.org/",
            "https://evil.example/https://app.example.org/",
            "https://example.org/",
            "data:text/html,x",
            "blob:https://app.example.org/x",
            "null",
        ] {
            let landed = landing(&config, bad);
            let ours = landed
                .as_ref()
                .is_none_or(|url| url.as_str().starts_with("https://id.example.org/"));
            assert!(ours, "{bad}: {landed:?}");
        }
        assert_eq!(landing(&config, "//evil.example"), None);
        let long = |n| format!("https://app.example.org/{}", "a".repeat(n));
        let lands = |text: &str| landing(&config, text).map(String::from);
        assert_eq!(lands(&long(7000)), Some(long(7000)));
        let start = Some("https://app.example.org/".to_owned());
        assert_eq!(lands(&long(7168)), start);
        assert_eq!(lands(&format!("{}?{}#{}", long(1), "%".repeat(3000), "a")), start);
        assert_eq!(lands(&long(7168).replace("app", "evil")), None);
    }
}

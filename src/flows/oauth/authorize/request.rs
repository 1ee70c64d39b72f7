//! Validation of an authorization request, in this order: the client; the source of the request (by
//! value, signed or pushed); the redirect URI; everything else. Until the redirect URI is known to
//! be the client's, an error is a page; after that it is sent to the client.

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    app::App,
    diagnostics,
    directory::CachedClient,
    error::Error,
    flows::{
        admin::clients,
        oauth::{
            authorize::pushed,
            resources::{self, Target},
        },
        tokens::{claims as user_claims, id_token},
    },
    ids::ClientId,
    model::{
        authentication::{ACR_VALUES, SecondFactorRequest},
        client::{Client, GrantType, Source},
    },
    oauth::{
        authorization_request::{
            AuthorizationParameters, RequestSource, ResponseMode, ResponseParameters,
        },
        claims_request::{ClaimConstraint, ClaimsRequest},
        error::OAuthError,
        params::{Parameters, Params},
        pkce, redirect_uri,
        scope::Scope,
        thumbprint::Thumbprint,
        token_request::requested_scope,
    },
};

/// A valid request.
#[derive(Debug)]
pub struct Request {
    pub known: CachedClient,
    pub callback: Callback,
    /// As they were sent, by value, signed or pushed.
    pub params: Params,
    pub scope: Scope,
    pub target: Target,
    pub nonce: Option<String>,
    /// The key that the code is bound to (RFC 9449 §10).
    pub dpop_key: Option<Thumbprint>,
    /// RFC 7636 §4.3, S256
    pub challenge: Option<String>,
    pub prompt: Prompt,
    /// Seconds.
    pub max_age: Option<u32>,
    pub claims: Option<ClaimsRequest>,
    /// By `acr_values`, the `claims` parameter or the client's settings.
    pub second_factor: SecondFactorRequest,
    /// The `sub` of `id_token_hint` or of the `claims` parameter: the request is for this user
    /// only.
    pub hinted_subject: Option<String>,
    /// `None`: the request was not pushed.
    pub pushed: Option<pushed::Origin>,
}

impl Request {
    /// The scope, and the scopes that cover the individually requested claims: what the user is
    /// asked to consent to.
    pub fn wishes(&self) -> Scope {
        let one_by_one = self.claims.iter().flat_map(ClaimsRequest::names);
        let covering =
            one_by_one.filter_map(|claim| -> Option<&str> { user_claims::covering(claim) });
        Scope::of(self.scope.iter().chain(covering))
    }

    /// A digest of all that a consent depends on beside the parameters: the client's metadata, the
    /// scopes, the redirect URI and the resources. A consent is valid for the page that showed
    /// them; a client can change its metadata meanwhile (RFC 7592 §2.2).
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.known.client, &self.wishes(), &self.callback.redirect_uri, &self.target)
    }
}

/// A digest of what a page shows of a request for consent; see [`Request::fingerprint`].
pub(crate) fn fingerprint(
    client: &Client,
    wishes: &Scope,
    redirect_uri: &str,
    target: &Target,
) -> String {
    let shown = json!([client.metadata, wishes.to_string(), redirect_uri, target.names()]);
    URL_SAFE_NO_PAD.encode(Sha256::digest(shown.to_string()))
}

/// Where the response goes: a redirect URI that is registered for the client. Only validation
/// constructs one.
#[derive(Clone, Debug)]
pub struct Callback {
    pub redirect_uri: String,
    pub mode: ResponseMode,
    pub state: Option<String>,
    /// The client is self-registered.
    pub is_unverified: bool,
}

impl Callback {
    /// Whether it leads to the site of a self-registered client.
    pub fn is_unverified_site(&self) -> bool {
        self.is_unverified && !self.is_on_this_device()
    }

    /// Whether the response goes to a program on the user's own device.
    pub fn is_on_this_device(&self) -> bool {
        redirect_uri::is_on_this_device(&self.redirect_uri)
    }
}

/// The values of `prompt` (Core §3.1.2.1; Initiating User Registration §4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    pub none: bool,
    pub login: bool,
    pub consent: bool,
    pub select_account: bool,
    pub create: bool,
}

/// Why a request is rejected, and who receives the error.
#[derive(Debug)]
pub enum Refused {
    /// The user, on a page: no redirect URI is known to be the client's.
    Page(Error),
    Callback(Callback, OAuthError),
}

/// How fresh the data of the client must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As this process has cached it: the version of the client is compared later.
    Remembered,
    Now,
}

fn page(error: impl Into<Error>) -> Refused {
    Refused::Page(error.into())
}

/// Validates a request.
///
/// # Errors
/// [`Refused`].
pub async fn read(
    app: &App,
    params: &Params,
    freshness: Freshness,
    address: IpAddr,
) -> Result<Request, Refused> {
    let source = RequestSource::of(params).map_err(page)?;
    let id = &ClientId::from(source.client_id.as_str());
    let remembered = match freshness {
        Freshness::Remembered => app.directory.cached(id),
        Freshness::Now => None,
    };
    // A metadata document may have changed.
    let remembered = remembered.filter(|known| known.client.source != Source::Document);
    let known = match remembered {
        Some(known) => Some(known),
        None => clients::find(app, id, address).await.map_err(page)?,
    };
    let known = known.filter(|known| known.client.disabled_at.is_none());
    let known = known.ok_or_else(|| page(OAuthError::invalid_request("unknown client")))?;
    let effective = match effective(app, &known.client, params, &source).await {
        Ok(effective) => effective,
        // A redirect URI beside an invalid `request` or `request_uri` receives the error.
        Err(Error::OAuth(error)) if params.get("redirect_uri").is_some() => {
            let callback = callback(&known.client, params).map_err(page)?;
            return Err(Refused::Callback(callback, error));
        }
        Err(other) => return Err(page(other)),
    };
    read_effective(app, known, effective.params, effective.pushed).await
}

/// The effective parameters.
#[derive(Debug)]
pub(crate) struct Effective {
    pub params: Params,
    pub pushed: Option<pushed::Origin>,
}

/// Looks up a pushed request or opens a signed one: then only its parameters are effective (RFC
/// 9101 §5).
pub(crate) async fn effective(
    app: &App,
    client: &Client,
    params: &Params,
    source: &RequestSource,
) -> Result<Effective, Error> {
    let metadata = &client.metadata;
    if let Some(uri) = &source.request_uri {
        if source.request.is_some() {
            let refused = "`request` and `request_uri` must not be used together";
            return Err(OAuthError::invalid_request(refused).into());
        }
        let (params, origin) = pushed::find(app, &client.id, uri).await?;
        return Ok(Effective { params, pushed: Some(origin) });
    }
    if metadata.require_pushed_authorization_requests {
        return Err(OAuthError::invalid_request(
            "`request_uri` is missing: this client must use pushed authorization requests (RFC 9126)",
        )
        .into());
    }
    open(app, client, params, source.request.as_deref()).await
}

/// The parameters of a signed request object, or those of a request without one.
pub(crate) async fn open(
    app: &App,
    client: &Client,
    params: &Params,
    object: Option<&str>,
) -> Result<Effective, Error> {
    let params = match object {
        Some(object) => super::signed::open(app, client, object).await?,
        None if client.metadata.require_signed_request_object => {
            return Err(OAuthError::invalid_request(
                "`request` is missing: this client must sign its requests (RFC 9101)",
            )
            .into());
        }
        None => params.clone(),
    };
    Ok(Effective { params, pushed: None })
}

/// Validates the effective parameters.
pub(crate) async fn read_effective(
    app: &App,
    known: CachedClient,
    params: Params,
    pushed: Option<pushed::Origin>,
) -> Result<Request, Refused> {
    diagnostics::identify_client(&known.client.id);
    let callback = callback(&known.client, &params).map_err(page)?;
    match rest(app, &known, &params).await {
        Ok(rest) => Ok(Request {
            known,
            callback,
            params,
            pushed,
            scope: rest.scope,
            target: rest.target,
            nonce: rest.nonce,
            dpop_key: rest.dpop_key,
            challenge: rest.challenge,
            prompt: rest.prompt,
            max_age: rest.max_age,
            claims: rest.claims,
            second_factor: rest.second_factor,
            hinted_subject: rest.hinted_subject,
        }),
        Err(Error::OAuth(error)) => Err(Refused::Callback(callback, error)),
        Err(other) => Err(Refused::Page(other)),
    }
}

fn callback(client: &Client, params: &Params) -> Result<Callback, OAuthError> {
    // An unsupported response mode is an error page: the client may be unable to read the response
    // in another one.
    let response = ResponseParameters::of(params)?;
    let registered = &client.metadata.redirect_uris;
    let redirect_uri = match (response.redirect_uri, &registered[..]) {
        (Some(requested), _) => {
            let matches = |uri: &String| match client.source {
                // Swagger UI is at this server's own origin: at another port of this machine is
                // another program.
                Source::BuiltIn => *uri == requested,
                _ => redirect_uri::matches(uri, &requested),
            };
            if !registered.iter().any(matches) {
                diagnostics::record("redirect_uri.requested", requested);
                diagnostics::record("redirect_uri.registered", registered.join(" "));
                return Err(OAuthError::invalid_request(
                    "`redirect_uri` is not registered for this client",
                ));
            }
            requested
        }
        (None, [only]) => only.clone(),
        (None, _) => return Err(OAuthError::invalid_request("`redirect_uri` is missing")),
    };
    let mode = response.response_mode.unwrap_or(ResponseMode::Query);
    let is_unverified = client.source.is_self_registered();
    Ok(Callback { redirect_uri, mode, state: response.state, is_unverified })
}

struct Rest {
    scope: Scope,
    target: Target,
    nonce: Option<String>,
    dpop_key: Option<Thumbprint>,
    challenge: Option<String>,
    prompt: Prompt,
    max_age: Option<u32>,
    claims: Option<ClaimsRequest>,
    second_factor: SecondFactorRequest,
    hinted_subject: Option<String>,
}

async fn rest(app: &App, known: &CachedClient, params: &Params) -> Result<Rest, Error> {
    let client = &*known.client;
    let asked = params;
    let params = AuthorizationParameters::of(asked)?;
    if params.response_type.is_none() {
        return Err(OAuthError::invalid_request("`response_type` is missing").into());
    }
    if !client.may(GrantType::AuthorizationCode) {
        return Err(OAuthError::unauthorized_client(
            "the client is not registered for this grant type",
        )
        .into());
    }
    if params.registration.is_some() {
        let refused = "`registration` is not supported: register the client in advance";
        return Err(OAuthError::registration_not_supported(refused).into());
    }
    let challenge = challenge(client, &params)?;
    let target = resources::target(app, client, &params.resource).await?;
    let scope = scope(client, &target, params.scope.as_deref())?;
    if challenge.is_none() {
        without_pkce(app, asked, &scope)?;
    }
    let prompt = prompt(app, params.prompt.as_deref().unwrap_or_default())?;
    let max_age = params.max_age.or(client.metadata.default_max_age);
    let nonce = params.nonce;
    if nonce.as_ref().is_some_and(|nonce| nonce.len() > 1024) {
        return Err(OAuthError::invalid_request("`nonce` must be at most 1024 bytes").into());
    }
    let dpop_key = match &params.dpop_jkt {
        Some(jkt) => Some(Thumbprint::parse(jkt).ok_or_else(|| {
            OAuthError::invalid_request("`dpop_jkt` must be a SHA-256 thumbprint in base64url")
        })?),
        None => None,
    };
    let claims = params.claims.as_deref().map(ClaimsRequest::parse).transpose();
    let claims = claims.map_err(OAuthError::invalid_request)?;
    // A claims request cannot exceed the scope that the client may request.
    let may = target.may_ask(client);
    let is_allowed = |claim: &str| {
        !user_claims::is_unused(&app.config, claim)
            && user_claims::covering(claim).is_none_or(|scope| may.contains(scope))
    };
    let claims = claims.map(|claims| claims.filter(is_allowed));
    let wish = |claim| claims.as_ref().and_then(|claims| claims.id_token_constraint(claim));
    let is_supported = |wish: &ClaimConstraint| ACR_VALUES.iter().any(|acr| wish.accepts(acr));
    if wish("acr").is_some_and(|wish| wish.essential && !is_supported(wish)) {
        return Err(OAuthError::unmet_authentication_requirements(
            "no requested `acr` value is supported",
        )
        .into());
    }
    let second_factor = second_factor(client, params.acr_values.as_deref(), wish("acr"));
    let hinted = match &params.id_token_hint {
        Some(token) => {
            let hint = id_token::hint(app, token).filter(|hint| hint.aud == client.id.as_str());
            let hint = hint.ok_or_else(|| {
                OAuthError::invalid_request(
                    "`id_token_hint` must be an ID token that was issued to this client",
                )
            })?;
            Some(hint.sub)
        }
        None => None,
    };
    // Core §5.5.1: `sub` may be requested with a value.
    let asked_for = wish("sub").and_then(|wish| wish.value.as_ref()?.as_str().map(str::to_owned));
    Ok(Rest {
        scope,
        target,
        nonce,
        dpop_key,
        challenge,
        prompt,
        max_age,
        second_factor,
        hinted_subject: hinted.or(asked_for),
        claims,
    })
}

/// How strongly the request asks for a second factor: `acr_values`, else the `acr` claim (Core
/// §5.5.1.1), else the client's `default_acr_values`; in any case where the client requires one.
fn second_factor(
    client: &Client,
    acr_values: Option<&str>,
    claim: Option<&ClaimConstraint>,
) -> SecondFactorRequest {
    if client.metadata.require_second_factor {
        return SecondFactorRequest::Required;
    }
    let by_claim = claim.map_or(SecondFactorRequest::None, |claim| {
        let values = claim.value.iter().chain(&claim.values);
        let wanted = SecondFactorRequest::of(values.filter_map(|value| value.as_str()));
        // Without `essential` the claim is a preference, whatever its only value is.
        if claim.essential { wanted } else { wanted.min(SecondFactorRequest::Preferred) }
    });
    let defaults = &client.metadata.default_acr_values;
    let by_parameter = match acr_values {
        Some(values) => SecondFactorRequest::of(values.split(' ')),
        None if by_claim == SecondFactorRequest::None => {
            SecondFactorRequest::of(defaults.iter().map(String::as_str))
        }
        None => SecondFactorRequest::None,
    };
    by_claim.max(by_parameter)
}

fn challenge(
    client: &Client,
    params: &AuthorizationParameters,
) -> Result<Option<String>, OAuthError> {
    let method = params.code_challenge_method;
    match &params.code_challenge {
        // RFC 7636 §4.3: without a method it would be `plain`.
        Some(_) if method.is_none() => {
            Err(OAuthError::invalid_request("`code_challenge_method` must be `S256`"))
        }
        Some(challenge) if pkce::is_challenge(challenge) => Ok(Some(challenge.clone())),
        Some(_) => {
            Err(OAuthError::invalid_request("`code_challenge` must be 43 characters of base64url"))
        }
        None if method.is_some() || client.requires_pkce() => Err(OAuthError::invalid_request(
            "`code_challenge` is missing: this client must use PKCE (RFC 7636)",
        )),
        None => Ok(None),
    }
}

/// What protects a code without PKCE from injection: the `nonce` in the ID token (RFC 9700 §2.1.1),
/// and a redirect URI that the token request must repeat (RFC 6749 §4.1.3).
fn without_pkce(app: &App, asked: &Params, scope: &Scope) -> Result<(), OAuthError> {
    let needs = |what: &str| {
        let refused = format!("{what}: a request without `code_challenge` (RFC 7636) needs it");
        Err(OAuthError::invalid_request(refused))
    };
    if asked.get("redirect_uri").is_none() {
        return needs("`redirect_uri` is missing");
    }
    if !app.config.authorization.require_nonce {
        return Ok(());
    }
    if !scope.contains("openid") {
        return needs("`scope` lacks `openid`");
    }
    if asked.get("nonce").is_none() {
        return needs("`nonce` is missing");
    }
    Ok(())
}

/// The requested scope, as far as the client may request it: the rest is dropped, and the token
/// response says so.
pub(crate) fn scope(
    client: &Client,
    target: &Target,
    requested: Option<&str>,
) -> Result<Scope, OAuthError> {
    let may = target.may_ask(client);
    let scope = match requested_scope(requested)? {
        Some(requested) => requested.intersection(&may),
        None => target.default_scope(&may),
    };
    // Offline access needs a refresh token.
    let scope =
        scope.filter(|token| token != "offline_access" || client.may(GrantType::RefreshToken));
    if scope.is_empty() {
        diagnostics::record("scope.requested", requested.unwrap_or("(none)"));
        diagnostics::record("scope.allowed_for_client", &may);
        let refused = if client.metadata.scope.is_empty() {
            "no scope is registered for this client: its operator adds `openid` and others with \
             `propusk client set ID --scope`"
        } else {
            "the client may request none of these scopes: its operator adds some with \
             `propusk client set ID --scope`"
        };
        return Err(OAuthError::invalid_scope(refused));
    }
    Ok(scope)
}

fn prompt(app: &App, text: &str) -> Result<Prompt, OAuthError> {
    let mut prompt = Prompt::default();
    for value in text.split(' ').filter(|value| !value.is_empty()) {
        match value {
            "none" => prompt.none = true,
            "login" => prompt.login = true,
            "consent" => prompt.consent = true,
            "select_account" => prompt.select_account = true,
            "create" if app.config.registration.is_open() => prompt.create = true,
            // Initiating User Registration §4.1: a value that discovery does not list is an error.
            "create" => {
                return Err(OAuthError::invalid_request(
                    "`prompt` value `create` is not supported: registration is disabled",
                ));
            }
            _ => {
                return Err(OAuthError::invalid_request(
                    "`prompt` must be `none`, `login`, `consent`, `select_account` or `create`",
                ));
            }
        }
    }
    let others = prompt.login || prompt.consent || prompt.select_account || prompt.create;
    if prompt.none && others {
        return Err(OAuthError::invalid_request(
            "`prompt` value `none` must not be combined with other values",
        ));
    }
    Ok(prompt)
}

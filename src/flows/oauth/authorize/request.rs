//! What an authorization request asks for, checked in this order: the client; where the request itself stands (in the
//! address, signed, or pushed); the redirect URI; then all the rest. Until the redirect URI is known to be the client's,
//! an error is a page; from there on it goes to the client.

use std::net::IpAddr;

use crate::{
    app::App,
    diagnostics,
    directory::CachedClient,
    error::Error,
    flows::{
        admin::clients,
        oauth::{
            authorize::{ACR_PASSWORD, pushed},
            resources::{self, Target},
        },
        tokens::{claims as told, id_token},
    },
    model::client::{Client, GrantType, Source},
    oauth::{
        claims_request::ClaimsRequest, error::OAuthError, params::Params, pkce, redirect_uri,
        scope::Scope,
    },
};

/// A request that may be granted.
#[derive(Debug)]
pub struct Request {
    pub known: CachedClient,
    pub callback: Callback,
    /// As they came, but for what was looked up.
    pub params: Params,
    pub scope: Scope,
    pub target: Target,
    pub nonce: Option<String>,
    /// RFC 7636 §4.3, S256
    pub challenge: Option<String>,
    pub prompt: Prompt,
    /// Seconds.
    pub max_age: Option<u32>,
    pub claims: Option<ClaimsRequest>,
    /// The `sub` of `id_token_hint`, or of the `claims` parameter: nobody else will do.
    pub hinted_subject: Option<String>,
    /// The pushed request that this is.
    pub pushed: Option<[u8; 32]>,
}

impl Request {
    /// The scope with those that cover what `claims` asks for one by one: all that the person is asked to allow.
    pub fn wishes(&self) -> Scope {
        let one_by_one = self.claims.iter().flat_map(ClaimsRequest::names);
        let covering = one_by_one.filter_map(|claim| -> Option<&str> { told::covering(claim) });
        Scope::of(self.scope.iter().chain(covering))
    }
}

/// Where the answer goes: a redirect URI that was found to be the client's. Nothing else makes one.
#[derive(Clone, Debug)]
pub struct Callback {
    pub redirect_uri: String,
    pub mode: ResponseMode,
    pub state: Option<String>,
}

impl Callback {
    /// Whether the answer goes to a program on the person's own device.
    pub fn is_on_this_device(&self) -> bool {
        url::Url::parse(&self.redirect_uri)
            .is_ok_and(|url| url.scheme() != "https" || redirect_uri::is_loopback(&url))
    }
}

/// How the answer is carried (OAuth 2.0 Multiple Response Types §2.1, Form Post Response Mode).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseMode {
    #[default]
    Query,
    FormPost,
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

/// Why a request is refused, and who is told.
#[derive(Debug)]
pub enum Refused {
    /// The person, on a page: the client is not known to be at any address.
    Page(Error),
    Callback(Callback, OAuthError),
}

/// How sure the client's data must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As this process remembers it: whoever uses the request compares the client's version later.
    Remembered,
    Now,
}

fn page(error: impl Into<Error>) -> Refused {
    Refused::Page(error.into())
}

/// Reads a request.
///
/// # Errors
/// [`Refused`].
pub async fn read(
    app: &App,
    params: &Params,
    freshness: Freshness,
    address: IpAddr,
) -> Result<Request, Refused> {
    let id = params
        .get("client_id")
        .ok_or_else(|| page(OAuthError::invalid_request("client_id is missing")))?;
    let remembered = match freshness {
        Freshness::Remembered => app.directory.cached(id),
        Freshness::Now => None,
    };
    // What a document says may have changed elsewhere.
    let remembered = remembered.filter(|known| known.client.source != Source::Document);
    let known = match remembered {
        Some(known) => Some(known),
        None => clients::find(app, id, address).await.map_err(page)?,
    };
    let known = known.filter(|known| known.client.disabled_at.is_none());
    let known = known.ok_or_else(|| page(OAuthError::invalid_request("the client is unknown")))?;
    let effective = match effective(app, &known.client, params).await {
        Ok(effective) => effective,
        // A redirect URI beside the request that cannot be read is good for the answer.
        Err(Error::OAuth(error)) if params.get("redirect_uri").is_some() => {
            let callback = callback(&known.client, params).map_err(page)?;
            return Err(Refused::Callback(callback, error));
        }
        Err(other) => return Err(page(other)),
    };
    read_effective(app, known, effective.params, effective.pushed).await
}

/// The parameters that count.
#[derive(Debug)]
pub(crate) struct Effective {
    pub params: Params,
    pub pushed: Option<[u8; 32]>,
}

/// Looks up a pushed request, or opens a signed one: then its parameters count, and none beside it (RFC 9101 §5).
pub(crate) async fn effective(
    app: &App,
    client: &Client,
    params: &Params,
) -> Result<Effective, Error> {
    let metadata = &client.metadata;
    if let Some(uri) = params.get("request_uri") {
        if params.get("request").is_some() {
            return Err(OAuthError::invalid_request("send request or request_uri, not both").into());
        }
        let (params, id) = pushed::find(app, &client.id, uri).await?;
        return Ok(Effective { params, pushed: Some(id) });
    }
    if metadata.require_pushed_authorization_requests {
        return Err(OAuthError::invalid_request(
            "this client pushes its requests (RFC 9126): request_uri is missing",
        )
        .into());
    }
    open(app, client, params).await
}

/// Opens a signed request; one that is not signed is what it says.
pub(crate) async fn open(app: &App, client: &Client, params: &Params) -> Result<Effective, Error> {
    let params = match params.get("request") {
        Some(request) => super::signed::open(app, client, request).await?,
        None if client.metadata.require_signed_request_object => {
            return Err(OAuthError::invalid_request(
                "this client signs its requests (RFC 9101): request is missing",
            )
            .into());
        }
        None => params.clone(),
    };
    Ok(Effective { params, pushed: None })
}

/// Checks the parameters that count.
pub(crate) async fn read_effective(
    app: &App,
    known: CachedClient,
    params: Params,
    pushed: Option<[u8; 32]>,
) -> Result<Request, Refused> {
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
            challenge: rest.challenge,
            prompt: rest.prompt,
            max_age: rest.max_age,
            claims: rest.claims,
            hinted_subject: rest.hinted_subject,
        }),
        Err(Error::OAuth(error)) => Err(Refused::Callback(callback, error)),
        Err(other) => Err(Refused::Page(other)),
    }
}

fn callback(client: &Client, params: &Params) -> Result<Callback, OAuthError> {
    let registered = &client.metadata.redirect_uris;
    let redirect_uri = match (params.get("redirect_uri"), &registered[..]) {
        (Some(asked), _) => {
            let known = registered.iter().any(|uri| redirect_uri::matches(uri, asked));
            known.then(|| asked.to_owned()).ok_or_else(|| {
                diagnostics::record("redirect_uri.asked", asked);
                diagnostics::record("redirect_uri.registered", registered.join(" "));
                OAuthError::invalid_request(
                    "redirect_uri is not one that this client has registered",
                )
            })?
        }
        (None, [only]) => only.clone(),
        (None, _) => return Err(OAuthError::invalid_request("redirect_uri is missing")),
    };
    let mode = match params.get("response_mode") {
        None | Some("query") => ResponseMode::Query,
        Some("form_post") => ResponseMode::FormPost,
        // Refused on a page: the client may be unable to read an answer in another mode than it asked for.
        Some(_) => {
            return Err(OAuthError::invalid_request(
                "response_mode is query or form_post: codes do not travel in fragments",
            ));
        }
    };
    Ok(Callback { redirect_uri, mode, state: params.get("state").map(str::to_owned) })
}

struct Rest {
    scope: Scope,
    target: Target,
    nonce: Option<String>,
    challenge: Option<String>,
    prompt: Prompt,
    max_age: Option<u32>,
    claims: Option<ClaimsRequest>,
    hinted_subject: Option<String>,
}

async fn rest(app: &App, known: &CachedClient, params: &Params) -> Result<Rest, Error> {
    let client = &*known.client;
    match params.get("response_type") {
        Some("code") => {}
        Some(_) => {
            return Err(OAuthError::unsupported_response_type("response_type is code here").into());
        }
        None => return Err(OAuthError::invalid_request("response_type is missing").into()),
    }
    if !client.may(GrantType::AuthorizationCode) {
        return Err(OAuthError::unauthorized_client(
            "this client was not registered for the authorization_code grant",
        )
        .into());
    }
    if params.get("registration").is_some() {
        let refused = "clients register beforehand: registration is not supported here";
        return Err(OAuthError::registration_not_supported(refused).into());
    }
    let challenge = challenge(client, params)?;
    let target = resources::target(app, client, params.all("resource")).await?;
    let scope = scope(client, &target, params)?;
    let prompt = prompt(app, params)?;
    let max_age = match params.get("max_age") {
        Some(text) => Some(
            text.parse()
                .map_err(|_| OAuthError::invalid_request("max_age is not a number of seconds"))?,
        ),
        None => client.metadata.default_max_age,
    };
    let nonce = params.get("nonce").map(str::to_owned);
    if nonce.as_ref().is_some_and(|nonce| nonce.len() > 1024) {
        return Err(OAuthError::invalid_request("nonce is longer than 1024 bytes").into());
    }
    let claims = params.get("claims").map(ClaimsRequest::parse).transpose();
    let claims = claims.map_err(OAuthError::invalid_request)?;
    // A claim is no way round the scope that this client may not have.
    let may = target.may_ask(client);
    let is_allowed = |claim: &str| told::covering(claim).is_none_or(|scope| may.contains(scope));
    let claims = claims.map(|claims| claims.filter(is_allowed));
    let wish = |claim| claims.as_ref().and_then(|claims| claims.id_token_constraint(claim));
    if wish("acr").is_some_and(|wish| wish.essential && !wish.accepts(ACR_PASSWORD)) {
        return Err(OAuthError::unmet_authentication_requirements(
            "people log in here by password only",
        )
        .into());
    }
    let hinted = match params.get("id_token_hint") {
        Some(token) => {
            let hint = id_token::hint(app, token).filter(|hint| hint.aud == client.id);
            let hint = hint.ok_or_else(|| {
                OAuthError::invalid_request(
                    "id_token_hint is not an ID token that this client got here",
                )
            })?;
            Some(hint.sub)
        }
        None => None,
    };
    // Core §5.5.1: `sub` may be asked for with a value.
    let asked_for = wish("sub").and_then(|wish| wish.value.as_ref()?.as_str().map(str::to_owned));
    Ok(Rest {
        scope,
        target,
        nonce,
        challenge,
        prompt,
        max_age,
        hinted_subject: hinted.or(asked_for),
        claims,
    })
}

fn challenge(client: &Client, params: &Params) -> Result<Option<String>, OAuthError> {
    let method = params.get("code_challenge_method");
    match params.get("code_challenge") {
        Some(_) if method != Some("S256") => Err(OAuthError::invalid_request(
            "code_challenge_method is S256 here (without one it would be plain)",
        )),
        Some(challenge) if pkce::is_challenge(challenge) => Ok(Some(challenge.to_owned())),
        Some(_) => {
            Err(OAuthError::invalid_request("code_challenge is not 43 characters of base64url"))
        }
        None if method.is_some() || client.requires_pkce() => Err(OAuthError::invalid_request(
            "code_challenge is missing: this client needs PKCE (RFC 7636)",
        )),
        None => Ok(None),
    }
}

/// What was asked for, as far as the client may have it: the rest is dropped, and the token response says so.
fn scope(client: &Client, target: &Target, params: &Params) -> Result<Scope, OAuthError> {
    let may = target.may_ask(client);
    let asked = params.get("scope").map(Scope::parse).transpose();
    let asked = asked.map_err(OAuthError::invalid_scope)?;
    let scope = match asked.filter(|asked| !asked.is_empty()) {
        Some(asked) => asked.intersection(&may),
        None => target.default_scope(&may),
    };
    // Without a refresh token nothing works offline.
    let scope =
        scope.filter(|token| token != "offline_access" || client.may(GrantType::RefreshToken));
    if scope.is_empty() {
        diagnostics::record("scope.asked", params.get("scope").unwrap_or("(none)"));
        diagnostics::record("scope.the_client_may", &may);
        return Err(OAuthError::invalid_scope("this client may not have any of these scopes"));
    }
    Ok(scope)
}

fn prompt(app: &App, params: &Params) -> Result<Prompt, OAuthError> {
    let mut prompt = Prompt::default();
    let text = params.get("prompt").unwrap_or_default();
    for value in text.split(' ').filter(|value| !value.is_empty()) {
        match value {
            "none" => prompt.none = true,
            "login" => prompt.login = true,
            "consent" => prompt.consent = true,
            "select_account" => prompt.select_account = true,
            "create" if app.config.registration.enabled => prompt.create = true,
            // Initiating User Registration §4.1: a value that is not announced is refused.
            "create" => {
                return Err(OAuthError::invalid_request("prompt=create: nobody can register here"));
            }
            _ => {
                return Err(OAuthError::invalid_request(
                    "prompt is none, login, consent, select_account or create",
                ));
            }
        }
    }
    let others = prompt.login || prompt.consent || prompt.select_account || prompt.create;
    if prompt.none && others {
        return Err(OAuthError::invalid_request("prompt=none stands alone"));
    }
    Ok(prompt)
}

//! `propusk client`, `resource` and `scope`.

use std::{path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Failed,
    commands::failed,
    listing::{Listing, print_record},
};
use crate::{
    app::App,
    flows::admin::{
        access::Precondition,
        clients::{self, catalogue, registration},
    },
    ids::ClientId,
    listener,
    model::{
        actor::Actor,
        catalogue::{Descriptions, Resource},
        client::{
            ApplicationType, AssertionAudience, AuthMethod, Client, Consent, GrantType,
            IdJagTarget, Metadata, SubjectType, TokenExchangePolicy, UserClaim,
        },
        key::SigningAlgorithm,
    },
    oauth::scope::Scope,
};

#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Add a client; the secret of a confidential client is generated and printed once
    Add {
        /// Client id [default: generated]
        id: Option<ClientId>,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// List clients
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the metadata of a client
    Show {
        /// Client id
        id: ClientId,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change the given settings of a client; an empty value removes a setting
    Set {
        /// Client id
        id: ClientId,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Generate a new client secret and print it once
    RotateSecret {
        /// Client id
        id: ClientId,
        /// How long the previous secret remains valid, such as 24h or 7d; 0s: not at all
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
        overlap: Duration,
    },
    /// Remove a client and revoke its sessions and tokens
    Remove {
        /// Client id
        id: ClientId,
    },
    /// Disable a client and revoke its sessions and tokens
    Disable {
        /// Client id
        id: ClientId,
    },
    /// Enable a disabled client
    Enable {
        /// Client id
        id: ClientId,
    },
    /// Create an initial access token for dynamic client registration (client_registration.mode =
    /// "token")
    Invite {
        /// Number of clients that may be registered with it
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// Lifetime, such as 24h or 7d
        #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = duration)]
        expires: Duration,
    },
}

impl ClientCommand {
    /// Refuses a command that says nothing, before anything is opened.
    pub fn check(&self) -> Result<(), Failed> {
        let refused = match self {
            Self::Add { id: None, settings } if settings.is_empty() => {
                "`propusk client add` needs --redirect-uri for an application with users, or --scope for a service: \
                 see `propusk client add --help`"
            }
            Self::Set { settings, .. } if settings.is_empty() => {
                "`propusk client set` needs a setting to change: see `propusk client set --help`"
            }
            _ => return Ok(()),
        };
        Err(Failed::Usage(refused.to_owned()))
    }
}

/// Client metadata. A repeatable option replaces the whole list.
#[derive(Debug, Default, PartialEq, Args)]
pub struct Settings {
    /// Name on the consent page
    #[arg(long)]
    name: Option<String>,
    /// Scopes that may be requested, such as "openid api:read" [default: openid, profile and email
    /// for users to log in, with offline_access if the client may refresh]
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,
    /// Redirect URI of the authorization endpoint; repeatable
    #[arg(long, value_name = "URI")]
    redirect_uri: Vec<String>,
    /// Redirect URI after logout; repeatable
    #[arg(long, value_name = "URI")]
    post_logout_redirect_uri: Vec<String>,
    /// Grant type: authorization_code, refresh_token, client_credentials, jwt-bearer or device_code;
    /// repeatable [default: the first two with a redirect URI, else client_credentials]
    #[arg(long, value_parser = grant_type)]
    grant: Vec<GrantType>,
    /// Client authentication: client_secret_basic, client_secret_post, private_key_jwt or none
    #[arg(long, value_name = "METHOD", value_parser = named::<AuthMethod>)]
    auth_method: Option<AuthMethod>,
    /// Public client without a secret, such as a mobile or browser app: --auth-method none
    #[arg(long, conflicts_with = "auth_method")]
    public: bool,
    /// Native app, which may have private-use URI schemes in redirect URIs (RFC 8252)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    native: Option<bool>,
    /// File with the public keys as a JWKS, for private_key_jwt and signed requests
    #[arg(long, value_name = "FILE", conflicts_with = "jwks_uri")]
    jwks_file: Option<PathBuf>,
    /// URL of the public keys as a JWKS
    #[arg(long, value_name = "URI")]
    jwks_uri: Option<String>,
    /// Resource that tokens may be requested for, or *; repeatable
    #[arg(long, value_name = "URI")]
    resource: Vec<String>,
    /// Resource whose tokens the client may introspect, or * for all; repeatable
    #[arg(long, value_name = "URI")]
    introspection_audience: Vec<String>,
    /// First-party client: users are not asked for consent
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    first_party: Option<bool>,
    /// Do not require PKCE (confidential clients with the scope openid only)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_pkce: Option<bool>,
    /// Require a second factor of its users; one who has none sets one up at login
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    require_second_factor: Option<bool>,
    /// Require pushed authorization requests (RFC 9126)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    require_par: Option<bool>,
    /// Give it no bearer tokens, only tokens bound to a key (DPoP, RFC 9449)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    require_dpop: Option<bool>,
    /// Require signed request objects (RFC 9101)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    require_signed_request: Option<bool>,
    /// Pairwise subject identifiers (OpenID Connect Core section 8)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pairwise: Option<bool>,
    /// Sector identifier URI of pairwise subject identifiers
    #[arg(long, value_name = "URI")]
    sector_identifier_uri: Option<String>,
    /// Signature algorithm of ID tokens: ES256, RS256, PS256 or EdDSA (Ed25519)
    #[arg(long, value_name = "ALG", value_parser = or_none(super::algorithm))]
    id_token_alg: Option<OrNone<SigningAlgorithm>>,
    /// Include the claims of the scope (email and others) in ID tokens, for clients that do not call
    /// UserInfo
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    claims_in_id_token: Option<bool>,
    /// Require a verified email address: other users are asked to verify theirs first
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    require_verified_email: Option<bool>,
    /// `aud` of assertions by private_key_jwt: issuer, or issuer_or_token_endpoint for libraries that
    /// sign for the token endpoint [default: client_auth.assertion_audience]
    #[arg(long, value_name = "AUDIENCE", value_parser = or_none(named::<AssertionAudience>))]
    assertion_audience: Option<OrNone<AssertionAudience>>,
    /// Signature algorithm of access tokens: ES256, RS256, PS256 or EdDSA (Ed25519)
    #[arg(long, value_name = "ALG", value_parser = or_none(super::algorithm))]
    access_token_alg: Option<OrNone<SigningAlgorithm>>,
    /// Signature algorithm of userinfo responses [default: unsigned]
    #[arg(long, value_name = "ALG", value_parser = or_none(super::algorithm))]
    userinfo_alg: Option<OrNone<SigningAlgorithm>>,
    /// Back-channel logout URI (OpenID Connect Back-Channel Logout)
    #[arg(long, value_name = "URI")]
    backchannel_logout_uri: Option<String>,
    /// Allowed CORS origin, besides those of the redirect URIs; repeatable
    #[arg(long, value_name = "ORIGIN")]
    allowed_origin: Vec<String>,
    /// Claim to include in access tokens, ID tokens and userinfo: role or modules; repeatable
    #[arg(long, value_name = "CLAIM", value_parser = named::<UserClaim>)]
    user_claim: Vec<UserClaim>,
    /// PEM file with a certificate that authenticates the client to the gRPC services, issued under
    /// grpc.tls.client_ca; repeatable
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
    /// Namespace of the users whom a back end keeps itself, such as mp1: their `sub` begins with it.
    /// Requires the scope propusk:tokens; clients that share a namespace share its users
    #[arg(long, value_name = "NAME")]
    subject_namespace: Option<String>,
    /// Resource that tokens may be exchanged for (RFC 8693), or *; repeatable
    #[arg(long, value_name = "URI")]
    exchange_audience: Vec<String>,
    /// Resource whose tokens the client may exchange besides its own, or *; repeatable
    #[arg(long, value_name = "URI")]
    exchange_subject_audience: Vec<String>,
    /// Trusted issuer whose tokens the client may exchange; repeatable
    #[arg(long, value_name = "ISSUER")]
    exchange_issuer: Vec<String>,
    /// Allow token exchange without an actor token
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    impersonation: Option<bool>,
    /// Allow token exchange with an actor token
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    delegation: Option<bool>,
    /// Authorization server that ID-JAGs may be requested for, as JSON with audience, client_id,
    /// resources and scope; repeatable
    #[arg(long, value_name = "JSON", value_parser = or_none(id_jag))]
    id_jag: Vec<OrNone<IdJagTarget>>,
    /// The only client that may act for the client's users by token exchange
    #[arg(long, value_name = "CLIENT")]
    may_act: Option<String>,
    /// Home page
    #[arg(long, value_name = "URI")]
    client_uri: Option<String>,
    /// Logo on the consent page
    #[arg(long, value_name = "URI")]
    logo_uri: Option<String>,
    /// Privacy policy
    #[arg(long, value_name = "URI")]
    policy_uri: Option<String>,
    /// Terms of service
    #[arg(long, value_name = "URI")]
    tos_uri: Option<String>,
    /// Contact email address; repeatable
    #[arg(long, value_name = "EMAIL")]
    contact: Vec<String>,
    /// Lifetime of access tokens, such as 15m
    #[arg(long, value_name = "DURATION", value_parser = or_none(duration))]
    access_ttl: Option<OrNone<Duration>>,
    /// Idle lifetime of sessions, such as 7d
    #[arg(long, value_name = "DURATION", value_parser = or_none(duration))]
    refresh_idle_ttl: Option<OrNone<Duration>>,
    /// Absolute lifetime of sessions, such as 30d
    #[arg(long, value_name = "DURATION", value_parser = or_none(duration))]
    refresh_max_ttl: Option<OrNone<Duration>>,
    /// How long a used refresh token gets the same successor again; 0s: never
    #[arg(long, value_name = "DURATION", value_parser = or_none(duration))]
    replay_window: Option<OrNone<Duration>>,
}

#[derive(Debug, Subcommand)]
pub enum ResourceCommand {
    /// Add or change a resource that tokens may be requested for (RFC 8707)
    Add {
        /// Absolute URI, the `aud` of its tokens
        id: String,
        /// Name on the consent page
        #[arg(long)]
        name: String,
        /// Scopes that the resource understands [default: any that the client may request]
        #[arg(long, value_name = "SCOPES")]
        scope: Option<String>,
        /// Scopes for requests without a scope
        #[arg(long, value_name = "SCOPES", default_value = "")]
        default_scope: String,
    },
    /// List resources
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a resource: no more tokens are issued for it
    Remove {
        /// URI of the resource
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum ScopeCommand {
    /// Set the description of a scope on the consent page
    Describe {
        /// Name of the scope
        name: String,
        /// Description in English
        #[arg(long, required_unless_present = "ru")]
        en: Option<String>,
        /// Description in Russian
        #[arg(long)]
        ru: Option<String>,
    },
    /// Make a scope general that no module has any more: clients get it for every user
    Release {
        /// Name of the scope
        name: String,
    },
    /// List scopes with descriptions
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove the description of a scope
    Remove {
        /// Name of the scope
        name: String,
    },
}

/// Parses a value by its name in JSON.
pub(super) fn named<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(name.into()).map_err(|error| error.to_string())
}

/// A grant type by its name, or by the last part of one that is a URN.
fn grant_type(name: &str) -> Result<GrantType, String> {
    let long = format!("urn:ietf:params:oauth:grant-type:{name}");
    named(&long).or_else(|_| named(name))
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime_serde::re::humantime::parse_duration(text)
        .map_err(|_| "must be a duration like 15m, 24h or 7d".to_owned())
}

fn id_jag(json: &str) -> Result<IdJagTarget, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// A value, or none to remove it, so that the configuration applies again.
#[derive(Clone, Copy, Debug, PartialEq)]
struct OrNone<T>(Option<T>);

/// Like `parse`, but an empty text removes the value.
fn or_none<T>(
    parse: fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<OrNone<T>, String> + Clone {
    move |text| match text {
        "" => Ok(OrNone(None)),
        text => parse(text).map(|value| OrNone(Some(value))),
    }
}

pub(super) fn scopes(text: &str) -> Result<Scope, Failed> {
    Scope::parse(text).map_err(|why| Failed::Usage(why.to_owned()))
}

impl Settings {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The defaults of a new client.
    fn with_defaults(mut self) -> Self {
        if self.grant.is_empty() {
            self.grant = if self.redirect_uri.is_empty() && !self.public {
                vec![GrantType::ClientCredentials]
            } else {
                vec![GrantType::AuthorizationCode, GrantType::RefreshToken]
            };
        }
        self
    }

    /// The changes to apply, with all files read.
    fn into_change(self) -> Result<impl FnOnce(&mut Metadata), Failed> {
        let scope = self.scope.as_deref().map(scopes).transpose()?;
        let jwks = self.jwks_file.as_deref().map(jwks).transpose()?;
        let certificates = self.certificate.iter().map(|path| {
            let thumbprint = listener::thumbprint(path).map_err(failed)?;
            Ok(URL_SAFE_NO_PAD.encode(thumbprint))
        });
        let certificates: Vec<String> = certificates.collect::<Result<_, Failed>>()?;
        let method = if self.public { Some(AuthMethod::None) } else { self.auth_method };
        Ok(move |to: &mut Metadata| {
            set(&mut to.client_name, self.name);
            set(&mut to.scope, scope);
            set_list(&mut to.redirect_uris, self.redirect_uri);
            set_list(&mut to.post_logout_redirect_uris, self.post_logout_redirect_uri);
            if !self.grant.is_empty() {
                to.grant_types = self.grant;
            }
            set(&mut to.token_endpoint_auth_method, method);
            let native = |native| match native {
                true => ApplicationType::Native,
                false => ApplicationType::Web,
            };
            set(&mut to.application_type, self.native.map(native));
            if jwks.is_some() {
                (to.jwks, to.jwks_uri) = (jwks, None);
            }
            if self.jwks_uri.is_some() {
                to.jwks = None;
            }
            set_list(&mut to.resources, self.resource);
            set_list(&mut to.introspection_audiences, self.introspection_audience);
            let consent = |own| match own {
                true => Consent::Implicit,
                false => Consent::Required,
            };
            set(&mut to.consent, self.first_party.map(consent));
            if let Some(without) = self.no_pkce {
                to.require_pkce = without.then_some(false);
            }
            set(&mut to.require_second_factor, self.require_second_factor);
            set(&mut to.require_pushed_authorization_requests, self.require_par);
            set(&mut to.dpop_bound_access_tokens, self.require_dpop);
            set(&mut to.require_signed_request_object, self.require_signed_request);
            set(&mut to.require_verified_email, self.require_verified_email);
            set(&mut to.claims_in_id_token, self.claims_in_id_token);
            let audience = self.assertion_audience.map(|OrNone(given)| given);
            set(&mut to.assertion_audience, audience);
            let subject = |pairwise| match pairwise {
                true => SubjectType::Pairwise,
                false => SubjectType::Public,
            };
            set(&mut to.subject_type, self.pairwise.map(subject));
            for (to, given) in [
                (&mut to.id_token_signed_response_alg, self.id_token_alg),
                (&mut to.access_token_signing_alg, self.access_token_alg),
                (&mut to.userinfo_signed_response_alg, self.userinfo_alg),
            ] {
                set(to, given.map(|OrNone(given)| given));
            }
            for (to, given) in [
                (&mut to.jwks_uri, self.jwks_uri),
                (&mut to.sector_identifier_uri, self.sector_identifier_uri),
                (&mut to.backchannel_logout_uri, self.backchannel_logout_uri),
                (&mut to.subject_namespace, self.subject_namespace),
                (&mut to.client_uri, self.client_uri),
                (&mut to.logo_uri, self.logo_uri),
                (&mut to.policy_uri, self.policy_uri),
                (&mut to.tos_uri, self.tos_uri),
                (&mut to.may_act, self.may_act),
            ] {
                if let Some(given) = given {
                    *to = Some(given).filter(|given| !given.is_empty());
                }
            }
            set_list(&mut to.allowed_origins, self.allowed_origin);
            set_list(&mut to.contacts, self.contact);
            set_list(&mut to.tls_client_certificates, certificates);
            set_exchange(
                &mut to.token_exchange,
                [self.exchange_audience, self.exchange_subject_audience, self.exchange_issuer],
                [self.impersonation, self.delegation],
            );
            if !self.id_jag.is_empty() {
                to.id_jag = self.id_jag.into_iter().filter_map(|OrNone(given)| given).collect();
            }
            if !self.user_claim.is_empty() {
                to.user_claims = self.user_claim;
            }
            for (to, given) in [
                (&mut to.access_ttl, self.access_ttl),
                (&mut to.refresh_idle_ttl, self.refresh_idle_ttl),
                (&mut to.refresh_max_ttl, self.refresh_max_ttl),
                (&mut to.replay_window, self.replay_window),
            ] {
                set(to, given.map(|OrNone(given)| given));
            }
        })
    }
}

fn set<T>(to: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *to = given;
    }
}

/// Changes the given members of the policy; one that allows nothing is removed.
fn set_exchange(
    to: &mut Option<TokenExchangePolicy>,
    [audiences, subject_audiences, issuers]: [Vec<String>; 3],
    [impersonation, delegation]: [Option<bool>; 2],
) {
    let mut policy = to.take().unwrap_or_default();
    set_list(&mut policy.audiences, audiences);
    set_list(&mut policy.subject_audiences, subject_audiences);
    set_list(&mut policy.issuers, issuers);
    set(&mut policy.impersonation, impersonation);
    set(&mut policy.delegation, delegation);
    *to = Some(policy).filter(|policy| *policy != TokenExchangePolicy::default());
}

pub(super) fn set_list(to: &mut Vec<String>, given: Vec<String>) {
    if !given.is_empty() {
        *to = given.into_iter().filter(|one| !one.is_empty()).collect();
    }
}

pub(super) fn jwks(path: &std::path::Path) -> Result<Value, Failed> {
    let unreadable = |why: String| Failed::Usage(format!("--jwks-file {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))
}

pub async fn client(app: &App, command: ClientCommand) -> Result<(), Failed> {
    match command {
        ClientCommand::Add { id, settings } => {
            let mut metadata = Metadata::default();
            settings.with_defaults().into_change()?(&mut metadata);
            let created = clients::create(app, id, metadata, None, &Actor::operator()).await?;
            let (client, secret) = created.resource;
            println!("added client {}", client.id);
            print_secret(secret.as_deref());
            print_next_steps(&app.config.server.issuer, &client, secret.as_deref());
        }
        ClientCommand::List { json } => list(app, json).await?,
        ClientCommand::Show { id, json } => {
            let client = clients::by_id(app, &id).await?;
            let mut shown = describe(&client);
            if !json {
                let secrets = client.secrets.iter().map(|secret| match secret.expires_at {
                    Some(at) => format!("valid until {}", at.rfc3339()),
                    None => "valid".to_owned(),
                });
                shown["secrets"] = secrets.collect();
            }
            print_record(&shown, json)?;
        }
        ClientCommand::Set { id, settings } => {
            let change = settings.into_change()?;
            let changed = |metadata: &Metadata| {
                let mut metadata = metadata.clone();
                change(&mut metadata);
                Ok(metadata)
            };
            let any = &Precondition::Any;
            let (_, secret) = clients::update(app, &id, any, changed, &Actor::operator()).await?;
            println!("changed client {id}");
            print_secret(secret.as_deref());
        }
        ClientCommand::RotateSecret { id, overlap } => {
            let (_, secret) = clients::rotate_secret(app, &id, overlap, &Actor::operator()).await?;
            let until = app.clock.now() + overlap;
            if overlap.is_zero() {
                println!("rotated the secret of {id}; the previous one is no longer valid");
            } else {
                let until = until.rfc3339();
                println!("rotated the secret of {id}; the previous one is valid until {until}");
            }
            print_secret(Some(&secret));
        }
        ClientCommand::Remove { id } => {
            clients::delete(app, &id, &Precondition::Any, &Actor::operator()).await?;
            println!("removed client {id}; all its sessions revoked");
        }
        ClientCommand::Disable { id } => {
            clients::disable(app, &id, &Actor::operator()).await?;
            println!("disabled client {id}; all its sessions revoked");
        }
        ClientCommand::Enable { id } => {
            clients::enable(app, &id, &Actor::operator()).await?;
            println!("enabled client {id}");
        }
        ClientCommand::Invite { uses, expires } => {
            let (token, until) =
                registration::invite(app, uses, expires, &Actor::operator()).await?;
            println!("initial access token (shown once): {token}");
            println!(
                "valid for {uses} registration(s) at {}/oauth2/register until {}",
                app.config.server.issuer,
                until.rfc3339()
            );
        }
    }
    Ok(())
}

/// What the application is to be configured with.
fn print_next_steps(issuer: &str, client: &Client, secret: Option<&str>) {
    let metadata = &client.metadata;
    println!();
    println!("issuer:                 {issuer}");
    println!("metadata:               {issuer}/.well-known/openid-configuration");
    let by_code = client.may(GrantType::AuthorizationCode);
    if by_code {
        println!("authorization endpoint: {issuer}/oauth2/authorize");
    }
    let by_device = client.may(GrantType::DeviceCode);
    if by_device {
        println!("device endpoint:        {issuer}/oauth2/device_authorization");
    }
    println!("token endpoint:         {issuer}/oauth2/token");
    println!();
    if by_code {
        println!("# for the application's environment");
        println!("OIDC_ISSUER={issuer}");
        println!("OIDC_CLIENT_ID={}", client.id);
        if let Some(secret) = secret {
            println!("OIDC_CLIENT_SECRET={secret}");
        }
        for uri in metadata.redirect_uris.iter().take(1) {
            println!("OIDC_REDIRECT_URI={uri}");
        }
        println!("OIDC_SCOPE=\"{}\"", metadata.scope);
    } else if by_device {
        println!("# requests the codes that the device shows (RFC 8628)");
        let credentials = match secret {
            Some(secret) => format!("-u '{}:{secret}'", client.id),
            None => format!("-d client_id={}", client.id),
        };
        println!(
            "curl {credentials} -d 'scope={}' {issuer}/oauth2/device_authorization",
            metadata.scope
        );
    } else if metadata.dpop_bound_access_tokens {
        println!("# each token request carries a DPoP proof, which a library signs (RFC 9449):");
        println!("# docs/dpop.md has a program that does");
    } else if let Some(secret) = secret {
        println!("# requests a token");
        println!(
            "curl -u '{}:{secret}' -d grant_type=client_credentials {issuer}/oauth2/token",
            client.id
        );
    } else {
        println!("# requests a token; each assertion is signed for {issuer} (RFC 7523)");
        println!(
            "curl -d grant_type=client_credentials -d client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer \\\n  \
             -d client_assertion=\"$ASSERTION\" {issuer}/oauth2/token"
        );
    }
}

fn print_secret(secret: Option<&str>) {
    if let Some(secret) = secret {
        println!("secret (shown once): {secret}");
    }
}

async fn list(app: &App, as_json: bool) -> Result<(), Failed> {
    let mut listing = Listing::new(&["ID", "NAME", "SOURCE", "STATE", "CREATED"], as_json);
    let mut after = ClientId::default();
    loop {
        let page = crate::storage::clients::list(&app.db, &after, 500).await.map_err(failed)?;
        for client in &page {
            let (source, created) = (client.source.as_str(), client.created_at.rfc3339());
            let cells: [&str; 5] =
                [&client.id, client.name(), source, state(client), created.as_str()];
            listing.add(cells, &describe(client))?;
        }
        match page.last() {
            Some(last) => after.clone_from(&last.id),
            None => break,
        }
    }
    listing.print()
}

fn state(client: &Client) -> &'static str {
    match client.disabled_at {
        Some(_) => "disabled",
        None => "enabled",
    }
}

/// A client without the values of its secrets, of which only the expiry is shown.
fn describe(client: &Client) -> Value {
    let time = |at: Option<crate::clock::Timestamp>| at.map(crate::clock::Timestamp::rfc3339);
    let secrets: Vec<_> = client
        .secrets
        .iter()
        .map(|secret| json!({ "expires_at": time(secret.expires_at) }))
        .collect();
    let mut shown = json!({
        "client_id": client.id,
        "source": client.source.as_str(),
        "state": state(client),
        "created_at": client.created_at.rfc3339(),
        "updated_at": client.updated_at.rfc3339(),
        "removed_if_unused_at": time(client.expires_at),
        "secrets": secrets,
    });
    if let (Some(shown), Ok(Value::Object(metadata))) =
        (shown.as_object_mut(), serde_json::to_value(&client.metadata))
    {
        shown.extend(metadata);
    }
    shown
}

pub async fn resource(app: &App, command: ResourceCommand) -> Result<(), Failed> {
    match command {
        ResourceCommand::Add { id, name, scope, default_scope } => {
            let resource = Resource {
                scope: scope.as_deref().map(scopes).transpose()?,
                default_scope: scopes(&default_scope)?,
                id: id.clone(),
                name,
            };
            catalogue::put_resource(app, resource, &Actor::operator()).await?;
            println!("saved resource {id}");
        }
        ResourceCommand::List { json } => {
            let mut resources: Vec<_> =
                catalogue::all(app).await?.resources.into_values().collect();
            resources.sort_by(|one, other| one.id.cmp(&other.id));
            let header = &["ID", "NAME", "SCOPE", "DEFAULT SCOPE"];
            let mut listing = Listing::new(header, json);
            for resource in &resources {
                let scope = resource.scope.as_ref().map(Scope::to_string);
                let default_scope = resource.default_scope.to_string();
                let shown = json!({
                    "id": resource.id,
                    "name": resource.name,
                    "scope": scope,
                    "default_scope": default_scope,
                });
                let scope = scope.as_deref().unwrap_or("any");
                listing.add([&resource.id, &resource.name, scope, &default_scope], &shown)?;
            }
            listing.print()?;
        }
        ResourceCommand::Remove { id } => {
            catalogue::remove_resource(app, &id, &Actor::operator()).await?;
            println!("removed resource {id}");
        }
    }
    Ok(())
}

pub async fn scope(app: &App, command: ScopeCommand) -> Result<(), Failed> {
    match command {
        ScopeCommand::Describe { name, en, ru } => {
            let mut texts = catalogue::all(app).await?.scopes.remove(&name).unwrap_or_default();
            let given: Descriptions = [("en", en), ("ru", ru)]
                .into_iter()
                .filter_map(|(language, text)| Some((language.to_owned(), text?)))
                .collect();
            texts.extend(given);
            catalogue::describe_scope(app, &name, texts, &Actor::operator()).await?;
            println!("described scope {name}");
        }
        ScopeCommand::List { json } => {
            let mut scopes: Vec<_> = catalogue::all(app).await?.scopes.into_iter().collect();
            scopes.sort();
            let mut listing = Listing::new(&["NAME", "ENGLISH", "RUSSIAN"], json);
            for (name, texts) in &scopes {
                let mut shown = json!({ "name": name });
                for (language, text) in texts {
                    shown[language] = text.as_str().into();
                }
                let text = |language: &str| texts.get(language).map_or("", String::as_str);
                listing.add([name, text("en"), text("ru")], &shown)?;
            }
            listing.print()?;
        }
        ScopeCommand::Release { name } => {
            catalogue::release_scope(app, &name, &Actor::operator()).await?;
            println!("scope {name} is general now");
        }
        ScopeCommand::Remove { name } => {
            catalogue::remove_scope(app, &name, &Actor::operator()).await?;
            println!("removed the description of scope {name}");
        }
    }
    Ok(())
}

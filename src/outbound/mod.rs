//! The SSRF-safe HTTP client, for every URL from untrusted client metadata: `jwks_uri`, metadata
//! documents, sector identifiers, logos, back-channel logout URIs; for webhooks, for customer
//! services and for login providers.
//!
//! It uses https only (webhooks and configured URLs: http too, within allowed networks) and connects to public addresses only, exactly to those that were checked: a
//! name is resolved once (DNS rebinding). It follows no redirects; size, time and concurrency are
//! bounded, and concurrent requests for the same document are coalesced.

mod address;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, Shared, WeakShared},
};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use ipnet::IpNet;
use reqwest::{
    Response,
    dns::{Name, Resolve, Resolving},
    redirect::Policy,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::sync::Semaphore;
use url::{Host, Url};

use crate::config;

/// The SSRF-safe HTTP client; see the module.
pub struct Outbound {
    http: reqwest::Client,
    allowed: Arc<[IpNet]>,
    /// For webhooks and configured URLs with http.
    plain: reqwest::Client,
    /// The only networks that `plain` connects to.
    plain_networks: Arc<[IpNet]>,
    /// Concurrent requests.
    permits: Arc<Semaphore>,
    max_bytes: usize,
    /// The documents being fetched, by URL and `Accept`.
    in_flight: Mutex<HashMap<(Url, &'static str), WeakShared<Answer>>>,
}

type Answer = BoxFuture<'static, Result<Fetched, Error>>;

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outbound")
    }
}

/// Why a URL is not allowed; shown to the client that supplied it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAllowed(pub &'static str);

/// Why a request failed; names only the host.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("URL not allowed: {0}")]
    NotAllowed(#[from] NotAllowed),
    #[error("request to {host} failed: {cause}")]
    Failed { host: String, cause: String },
    #[error("request to {host} failed: timed out")]
    TimedOut { host: String },
    #[error("{host} responded with status {status}")]
    Status { host: String, status: u16 },
    #[error("response of {host} exceeds {max} bytes")]
    TooLarge { host: String, max: usize },
    #[error("too many concurrent outbound requests")]
    Busy,
}

impl Error {
    /// Whether a retry is pointless, because the server or our own rules rejected the request.
    pub fn is_permanent(&self) -> bool {
        match self {
            // 408 and 429 say nothing about the document.
            Self::Status { status, .. } => {
                (300..500).contains(status) && !matches!(status, 408 | 429)
            }
            Self::NotAllowed(_) | Self::TooLarge { .. } => true,
            Self::Failed { .. } | Self::TimedOut { .. } | Self::Busy => false,
        }
    }
}

/// A response with status 200.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub body: Bytes,
    pub content_type: Option<String>,
    /// `max-age` of its `Cache-Control`; zero for `no-store` and `no-cache`.
    pub max_age: Option<Duration>,
}

impl Fetched {
    /// Whether its media type is JSON.
    pub fn is_json(&self) -> bool {
        let media_type = self.content_type.as_deref().unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        essence == "application/json"
            || (essence.starts_with("application/") && essence.ends_with("+json"))
    }
}

/// A request that the operator has configured.
#[derive(Debug)]
pub struct ServiceRequest<'a> {
    pub method: Method,
    pub url: &'a str,
    pub authorization: Option<HeaderValue>,
    /// A body of the type `application/x-www-form-urlencoded`.
    pub form: Option<String>,
    /// From the wait for a permit to the end of the response.
    pub timeout: Duration,
}

/// The response to a [`ServiceRequest`], with any status.
#[derive(Debug)]
pub struct ServiceResponse {
    pub status: StatusCode,
    pub body: Bytes,
    /// In seconds (RFC 9110 §10.2.3); `None` also for a date.
    pub retry_after: Option<Duration>,
}

/// Resolves a name.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

impl Outbound {
    /// The client with the given configuration. `is_local`: webhooks may be on loopback.
    ///
    /// # Errors
    /// A message when `outbound.ca_file` is invalid.
    pub fn new(config: &config::Outbound, is_local: bool) -> Result<Self, String> {
        let lookup: Lookup = Arc::new(|name| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        });
        Self::with_lookup(config, is_local, lookup)
    }

    /// As [`Outbound::new`], with another resolver than the system's.
    ///
    /// # Errors
    /// As [`Outbound::new`].
    pub fn with_lookup(
        config: &config::Outbound,
        is_local: bool,
        lookup: Lookup,
    ) -> Result<Self, String> {
        let allowed: Arc<[IpNet]> = config.allowed_networks.clone().into();
        let loopback = [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()].map(IpNet::from);
        let loopback = loopback.into_iter().filter(|_| is_local);
        let plain_networks: Arc<[IpNet]> = allowed.iter().copied().chain(loopback).collect();
        let tls = tls(config)?;
        let client = |networks: &Arc<[IpNet]>, is_plain: bool| {
            let (lookup, networks) = (Arc::clone(&lookup), Arc::clone(networks));
            reqwest::Client::builder()
                .use_preconfigured_tls(tls.clone())
                .https_only(!is_plain)
                .redirect(Policy::none())
                .no_proxy()
                .referer(false)
                .user_agent(concat!("Propusk/", env!("CARGO_PKG_VERSION")))
                .timeout(config.timeout)
                .pool_max_idle_per_host(1)
                .pool_idle_timeout(Duration::from_secs(20))
                .dns_resolver(Arc::new(CheckedResolver { lookup, networks, public: !is_plain }))
                .build()
                .map_err(|error| error.to_string())
        };
        Ok(Self {
            http: client(&allowed, false)?,
            plain: client(&plain_networks, true)?,
            allowed,
            plain_networks,
            // More permits would panic.
            permits: Arc::new(Semaphore::new(config.max_concurrent.min(Semaphore::MAX_PERMITS))),
            max_bytes: config.max_response_bytes,
            in_flight: Mutex::default(),
        })
    }

    /// Parses a URL and checks it as far as possible without resolving its host.
    ///
    /// # Errors
    /// [`NotAllowed`] with the reason.
    pub fn check(&self, url: &str) -> Result<Url, NotAllowed> {
        let url = parse(url)?;
        if url.scheme() != "https" {
            return Err(NotAllowed("must use https"));
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::from(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::from(address)),
            Some(Host::Domain(name)) if address::is_local_name(name) && self.allowed.is_empty() => {
                return Err(NotAllowed("must not have a local host name"));
            }
            Some(Host::Domain(_)) => None,
            None => return Err(NotAllowed("must have a host")),
        };
        match literal {
            Some(address) if !is_allowed(address, &self.allowed, true) => {
                Err(NotAllowed("must have an address on the public Internet"))
            }
            _ => Ok(url),
        }
    }

    /// As [`Outbound::check`], for a webhook or a URL of the configuration: http is allowed within `outbound.allowed_networks`, and
    /// on loopback where this server is on loopback as well.
    ///
    /// # Errors
    /// As [`Outbound::check`].
    pub fn check_webhook(&self, url: &str) -> Result<Url, NotAllowed> {
        let parsed = parse(url)?;
        if parsed.scheme() != "http" {
            return self.check(url);
        }
        let is_allowed = |address| is_allowed(address, &self.plain_networks, false);
        let fits = match parsed.host() {
            Some(Host::Ipv4(address)) => is_allowed(address.into()),
            Some(Host::Ipv6(address)) => is_allowed(address.into()),
            // It is resolved when it is connected to.
            Some(Host::Domain(_)) => !self.plain_networks.is_empty(),
            None => false,
        };
        let message = "must use https: http is for addresses within outbound.allowed_networks, and \
                       for loopback while server.issuer and server.listen are on loopback";
        if fits { Ok(parsed) } else { Err(NotAllowed(message)) }
    }

    /// Fetches a document; concurrent calls share one request.
    ///
    /// # Errors
    /// [`Error`], also for any status but 200.
    pub async fn get(&self, url: &str, accept: &'static str) -> Result<Fetched, Error> {
        let (url, host) = self.checked(url)?;
        self.answer(url, host, accept)?.await
    }

    /// As [`Outbound::get`], for a URL that the configuration or a configured provider names: http
    /// is allowed as for a webhook.
    ///
    /// # Errors
    /// As [`Outbound::get`].
    pub async fn get_configured(&self, url: &str, accept: &'static str) -> Result<Fetched, Error> {
        let (url, host) = self.checked_configured(url)?;
        self.answer(url, host, accept)?.await
    }

    /// The request in flight for the document, or a new one.
    fn answer(
        &self,
        url: Url,
        host: String,
        accept: &'static str,
    ) -> Result<Shared<Answer>, Error> {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (url, accept);
        if let Some(answer) = in_flight.get(&key).and_then(WeakShared::upgrade) {
            return Ok(answer);
        }
        in_flight.retain(|_, answer| answer.upgrade().is_some());
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        let permit = permit.map_err(|_| Error::Busy)?;
        let (request, max) = (self.client_for(&key.0).get(key.0.clone()), self.max_bytes);
        let answer = async move {
            let _permit = permit;
            let sent = request.header(ACCEPT, accept).send().await;
            read(sent.map_err(|error| failed(&host, &error))?, host, max).await
        };
        let answer = answer.boxed().shared();
        // Weak: a request is cancelled when nobody waits for it any more.
        if let Some(answer) = answer.downgrade() {
            in_flight.insert(key, answer);
        }
        Ok(answer)
    }

    /// Posts a form; the body of the response is not read.
    ///
    /// # Errors
    /// [`Error`]; no status is an error here.
    pub async fn post_form(&self, url: &str, fields: &[(&str, &str)]) -> Result<StatusCode, Error> {
        let (url, host) = self.checked(url)?;
        let _permit = self.permits.try_acquire().map_err(|_| Error::Busy)?;
        let sent = self.http.post(url).form(fields).send().await;
        Ok(sent.map_err(|error| failed(&host, &error))?.status())
    }

    /// Posts an event to a webhook. Its caller bounds the number of concurrent requests. The body of
    /// the response is read only as far as it takes to use the connection again.
    ///
    /// # Errors
    /// [`Error`]; no status is an error here.
    pub async fn post_event(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Posted, Error> {
        let (url, host) = self.checked_configured(url)?;
        let request =
            self.client_for(&url).post(url.clone()).headers(headers).body(body).timeout(timeout);
        let response = request.send().await.map_err(|error| failed(&host, &error))?;
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| Some(value.to_str().ok()?.to_owned()));
        let status = response.status();
        let (mut chunks, mut read) = (response.bytes_stream(), 0);
        while read < MOST_IGNORED
            && let Some(Ok(chunk)) = chunks.next().await
        {
            read += chunk.len();
        }
        Ok(Posted { status, retry_after })
    }

    /// Sends a request that the operator has configured, and reads the response, whatever its
    /// status. Unlike others it waits for a permit.
    ///
    /// # Errors
    /// [`Error`]; no status is an error here.
    pub async fn send(&self, request: ServiceRequest<'_>) -> Result<ServiceResponse, Error> {
        let (url, host) = self.checked_configured(request.url)?;
        let exchange = async {
            // Never closed.
            let _permit = self.permits.acquire().await.map_err(|_| Error::Busy)?;
            let client = self.client_for(&url);
            let mut sent = client.request(request.method, url).timeout(request.timeout);
            sent = sent.header(ACCEPT, "application/json");
            if let Some(authorization) = request.authorization {
                sent = sent.header(AUTHORIZATION, authorization);
            }
            if let Some(form) = request.form {
                let form_type = "application/x-www-form-urlencoded";
                sent = sent.header(CONTENT_TYPE, form_type).body(form);
            }
            let response = sent.send().await.map_err(|error| failed(&host, &error))?;
            let (status, headers) = (response.status(), response.headers());
            let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = retry_after.and_then(|value| value.trim().parse().ok());
            let retry_after = retry_after.map(Duration::from_secs);
            let body = read_body(response, &host, self.max_bytes).await?;
            Ok(ServiceResponse { status, body, retry_after })
        };
        let exchanged = tokio::time::timeout(request.timeout, exchange).await;
        exchanged.unwrap_or_else(|_| Err(Error::TimedOut { host: host.clone() }))
    }

    fn checked(&self, url: &str) -> Result<(Url, String), Error> {
        let url = self.check(url)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        Ok((url, host))
    }

    fn checked_configured(&self, url: &str) -> Result<(Url, String), Error> {
        let url = self.check_webhook(url)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        Ok((url, host))
    }

    /// The client for a URL that was checked.
    fn client_for(&self, url: &Url) -> &reqwest::Client {
        if url.scheme() == "http" { &self.plain } else { &self.http }
    }
}

/// The response to an event.
#[derive(Clone, Debug)]
pub struct Posted {
    pub status: StatusCode,
    /// `Retry-After`, as it was sent.
    pub retry_after: Option<String>,
}

/// Bytes of a response body that are read and ignored.
const MOST_IGNORED: usize = 4096;

/// Parses a URL and checks what does not depend on its scheme.
fn parse(url: &str) -> Result<Url, NotAllowed> {
    if url.len() > 2048 {
        return Err(NotAllowed("must be at most 2048 characters"));
    }
    let url = Url::parse(url).map_err(|_| NotAllowed("must be an absolute URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(NotAllowed("must not contain a user name or password"));
    }
    if url.fragment().is_some() {
        return Err(NotAllowed("must not contain a fragment"));
    }
    Ok(url)
}

/// Reads a response chunk by chunk, so that an endless one stops at the limit.
async fn read(response: Response, host: String, max: usize) -> Result<Fetched, Error> {
    if response.status() != StatusCode::OK {
        let status = response.status().as_u16();
        return Err(Error::Status { host, status });
    }
    let text = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    let content_type = text(CONTENT_TYPE);
    let max_age = text(CACHE_CONTROL).and_then(|value| max_age(&value));
    Ok(Fetched { body: read_body(response, &host, max).await?, content_type, max_age })
}

async fn read_body(response: Response, host: &str, max: usize) -> Result<Bytes, Error> {
    let mut body = BytesMut::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| failed(host, &error))?;
        if body.len() + chunk.len() > max {
            return Err(Error::TooLarge { host: host.to_owned(), max });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The innermost cause, which does not contain the path.
fn failed(host: &str, error: &reqwest::Error) -> Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() {
        return Error::TimedOut { host: host.to_owned() };
    }
    Error::Failed { host: host.to_owned(), cause: cause.to_string() }
}

fn max_age(cache_control: &str) -> Option<Duration> {
    let directives = || cache_control.split(',').map(|one| one.trim().to_ascii_lowercase());
    if directives().any(|one| one == "no-store" || one == "no-cache") {
        return Some(Duration::ZERO);
    }
    let seconds = directives().find_map(|one| one.strip_prefix("max-age=")?.parse().ok())?;
    Some(Duration::from_secs(seconds))
}

fn is_allowed(address: IpAddr, networks: &[IpNet], public: bool) -> bool {
    let plain = address.to_canonical();
    (public && address::is_public(address)) || networks.iter().any(|net| net.contains(&plain))
}

/// Resolves names to checked addresses only, which are the ones connected to (DNS rebinding).
struct CheckedResolver {
    lookup: Lookup,
    networks: Arc<[IpNet]>,
    /// Whether addresses on the public Internet are allowed besides the networks.
    public: bool,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let found = (self.lookup)(name.as_str().to_owned());
        let (networks, public) = (Arc::clone(&self.networks), self.public);
        Box::pin(async move {
            let found = found.await?;
            // One forbidden address among others is no accident: reject all.
            let fits = |address: &IpAddr| is_allowed(*address, &networks, public);
            if found.is_empty() || !found.iter().all(fits) {
                return Err(NotAllowed(if public {
                    "the host name resolves to an address that is not on the public Internet"
                } else {
                    "the host name resolves to an address that http is not allowed for"
                })
                .into());
            }
            let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        })
    }
}

fn tls(config: &config::Outbound) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = &config.ca_file {
        let problem = |what: String| format!("outbound.ca_file {}: {what}", path.display());
        let certificates =
            CertificateDer::pem_file_iter(path).map_err(|e| problem(e.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|e| problem(e.to_string()))?;
            roots.add(certificate).map_err(|e| problem(e.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

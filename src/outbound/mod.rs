//! The one client for every URL that a stranger can name: a client's keys, its metadata document, its sector, where it
//! wants to hear of logouts. https only, to addresses of the public Internet only, and the connection goes to the very
//! addresses that were checked (a name is resolved once). Nothing is followed elsewhere; size, time and number are bounded,
//! and those who want the same document at the same time cause one request.

mod address;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, Shared, WeakShared},
};
use http::{
    StatusCode,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
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

/// See the module's text.
pub struct Outbound {
    http: reqwest::Client,
    allowed: Arc<[IpNet]>,
    /// Requests at once.
    permits: Arc<Semaphore>,
    most_bytes: usize,
    /// The documents that are being asked for, by URL and Accept.
    under_way: Mutex<HashMap<(Url, &'static str), WeakShared<Answer>>>,
}

type Answer = BoxFuture<'static, Result<Fetched, Error>>;

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outbound")
    }
}

/// Why a URL is not asked; for whoever named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub &'static str);

/// Why nothing was fetched; names no more than the host.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("the URL is refused: {0}")]
    Refused(#[from] Refused),
    #[error("{host} cannot be asked: {cause}")]
    Failed { host: String, cause: String },
    #[error("{host} answered with status {status}")]
    Status { host: String, status: u16 },
    #[error("{host} answered with more than {most} bytes")]
    TooLarge { host: String, most: usize },
    #[error("too many outside requests are under way")]
    Busy,
}

impl Error {
    /// Whether the server, or our own rules, said no; else there may be an answer in a minute.
    pub fn is_no(&self) -> bool {
        match self {
            // Too many requests, or a request that took too long, says nothing of what is there.
            Self::Status { status, .. } => {
                (300..500).contains(status) && !matches!(status, 408 | 429)
            }
            Self::Refused(_) | Self::TooLarge { .. } => true,
            Self::Failed { .. } | Self::Busy => false,
        }
    }
}

/// What an outside server answered with 200.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub body: Bytes,
    pub content_type: Option<String>,
    /// Its Cache-Control, if it names a `max-age`; zero for `no-store` and `no-cache`.
    pub max_age: Option<Duration>,
}

impl Fetched {
    /// Whether its server says that it is JSON.
    pub fn is_json(&self) -> bool {
        let named = self.content_type.as_deref().unwrap_or_default();
        let essence = named.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        essence == "application/json"
            || (essence.starts_with("application/") && essence.ends_with("+json"))
    }
}

/// How a name becomes addresses; the system's resolver but in tests.
type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

impl Outbound {
    /// The client as configured.
    ///
    /// # Errors
    /// Says what is wrong with `outbound.ca_file`.
    pub fn new(config: &config::Outbound) -> Result<Self, String> {
        let lookup: Lookup = Arc::new(|name| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        });
        Self::with_lookup(config, lookup)
    }

    fn with_lookup(config: &config::Outbound, lookup: Lookup) -> Result<Self, String> {
        let allowed: Arc<[IpNet]> = config.allowed_networks.clone().into();
        let resolver = CheckedResolver { lookup, allowed: Arc::clone(&allowed) };
        let http = reqwest::Client::builder()
            .use_preconfigured_tls(tls(config)?)
            .https_only(true)
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("Propusk/", env!("CARGO_PKG_VERSION")))
            .timeout(config.timeout)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(20))
            .dns_resolver(Arc::new(resolver))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            http,
            allowed,
            // More would panic.
            permits: Arc::new(Semaphore::new(config.max_concurrent.min(Semaphore::MAX_PERMITS))),
            most_bytes: config.max_response_bytes,
            under_way: Mutex::default(),
        })
    }

    /// Whether a URL may be asked at all, as far as its text tells.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check(&self, url: &str) -> Result<Url, Refused> {
        if url.len() > 2048 {
            return Err(Refused("it is longer than 2048 characters"));
        }
        let url = Url::parse(url).map_err(|_| Refused("it is not an absolute URL"))?;
        if url.scheme() != "https" {
            return Err(Refused("it is not https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused("it has a user name or a password"));
        }
        if url.fragment().is_some() {
            return Err(Refused("it has a fragment"));
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::from(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::from(address)),
            Some(Host::Domain(name)) if address::is_local_name(name) && self.allowed.is_empty() => {
                return Err(Refused("its host is a local name"));
            }
            Some(Host::Domain(_)) => None,
            None => return Err(Refused("it has no host")),
        };
        match literal {
            Some(address) if !may_ask(address, &self.allowed) => {
                Err(Refused("its address is not one of the public Internet"))
            }
            _ => Ok(url),
        }
    }

    /// Fetches a document; only a 200 counts. Who asks while it is being fetched gets the same answer.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get(&self, url: &str, accept: &'static str) -> Result<Fetched, Error> {
        let (url, host) = self.checked(url)?;
        self.answer(url, host, accept)?.await
    }

    /// The answer that is under way, or that of a new request.
    fn answer(
        &self,
        url: Url,
        host: String,
        accept: &'static str,
    ) -> Result<Shared<Answer>, Error> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (url, accept);
        if let Some(answer) = under_way.get(&key).and_then(WeakShared::upgrade) {
            return Ok(answer);
        }
        under_way.retain(|_, answer| answer.upgrade().is_some());
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        let permit = permit.map_err(|_| Error::Busy)?;
        let (request, most) = (self.http.get(key.0.clone()), self.most_bytes);
        let answer = async move {
            let _permit = permit;
            let sent = request.header(ACCEPT, accept).send().await;
            read(sent.map_err(|error| failed(&host, &error))?, host, most).await
        };
        let answer = answer.boxed().shared();
        // Weak: a request ends with the last who waits for it.
        if let Some(answer) = answer.downgrade() {
            under_way.insert(key, answer);
        }
        Ok(answer)
    }

    /// Posts a form; the answer's body is not read.
    ///
    /// # Errors
    /// [`Error`]; a status is no error here.
    pub async fn post_form(&self, url: &str, fields: &[(&str, &str)]) -> Result<StatusCode, Error> {
        let (url, host) = self.checked(url)?;
        let _permit = self.permits.try_acquire().map_err(|_| Error::Busy)?;
        let sent = self.http.post(url).form(fields).send().await;
        Ok(sent.map_err(|error| failed(&host, &error))?.status())
    }

    fn checked(&self, url: &str) -> Result<(Url, String), Error> {
        let url = self.check(url)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        Ok((url, host))
    }
}

/// Reads an answer as it comes, so that an endless one ends at the limit.
async fn read(response: Response, host: String, most: usize) -> Result<Fetched, Error> {
    if response.status() != StatusCode::OK {
        let status = response.status().as_u16();
        return Err(Error::Status { host, status });
    }
    let text = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    let content_type = text(CONTENT_TYPE);
    let max_age = text(CACHE_CONTROL).and_then(|value| max_age(&value));
    let mut body = BytesMut::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| failed(&host, &error))?;
        if body.len() + chunk.len() > most {
            return Err(Error::TooLarge { host, most });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Fetched { body: body.freeze(), content_type, max_age })
}

/// The innermost cause: it names no path.
fn failed(host: &str, error: &reqwest::Error) -> Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let cause = if error.is_timeout() { "it took too long".to_owned() } else { cause.to_string() };
    Error::Failed { host: host.to_owned(), cause }
}

fn max_age(cache_control: &str) -> Option<Duration> {
    let directives = || cache_control.split(',').map(|one| one.trim().to_ascii_lowercase());
    if directives().any(|one| one == "no-store" || one == "no-cache") {
        return Some(Duration::ZERO);
    }
    let seconds = directives().find_map(|one| one.strip_prefix("max-age=")?.parse().ok())?;
    Some(Duration::from_secs(seconds))
}

fn may_ask(address: IpAddr, allowed: &[IpNet]) -> bool {
    let plain = address.to_canonical();
    address::is_public(address) || allowed.iter().any(|net| net.contains(&plain))
}

/// Hands the connector only addresses that were checked: what is checked is what is connected to (DNS rebinding).
struct CheckedResolver {
    lookup: Lookup,
    allowed: Arc<[IpNet]>,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let found = (self.lookup)(name.as_str().to_owned());
        let allowed = Arc::clone(&self.allowed);
        Box::pin(async move {
            let found = found.await?;
            // One bad address among good ones is no accident.
            if found.is_empty() || !found.iter().all(|address| may_ask(*address, &allowed)) {
                return Err(Refused(
                    "its name leads to an address that is not of the public Internet",
                )
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

#[cfg(test)]
mod tests;

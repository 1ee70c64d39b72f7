//! The client of customer services (`[services.NAME]`): how a token is requested there, which
//! fields of an answer are passed on, and what a process remembers. What is stored and who may have
//! it is decided in [`crate::flows::services`].

mod answers;
mod flights;
mod token_client;
mod token_request;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderValue, Method, StatusCode};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, RwLock};
use url::Url;

use self::{answers::Answers, flights::Flights};
pub use self::{
    flights::{Held, NoToken},
    token_client::TokenClient,
    token_request::{Granted, Grants, authorization_url, send},
};
use crate::{
    clock::Timestamp,
    config::{
        self,
        services::{ResourceMethod, ServiceResource},
    },
    keys::ServiceKey,
    model::{projection::Projection, service_token::FailureKind},
    outbound::{self, Outbound, ServiceRequest},
};

/// The first delay after a failure, which doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest delay after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The configured services, and what this process remembers of them.
#[derive(Debug, Default)]
pub struct Services {
    by_name: BTreeMap<String, Arc<Service>>,
    /// Requests for tokens that this process waits for, by service and subject.
    pub flights: Flights,
    /// Services and subjects whose token this process renews in the background.
    renewing: Mutex<HashSet<(String, String)>>,
    /// Answers of resources.
    pub answers: Answers,
    /// Resources that fail, by service and resource.
    pauses: Mutex<BTreeMap<(String, String), Pause>>,
    /// Held by each request for a token, so that a stop lets them end: a refresh token that the
    /// service has answered with must be stored.
    running: Arc<RwLock<()>>,
    /// Notified when tokens are to be revoked at their service.
    pub revocations_waiting: Notify,
}

/// A resource that is not requested for a while.
#[derive(Clone, Copy, Debug)]
struct Pause {
    failures: i64,
    until: Timestamp,
}

/// A service.
#[derive(Debug)]
pub struct Service {
    pub name: String,
    pub config: config::services::Service,
    pub resources: BTreeMap<String, Resource>,
    /// Changes with the settings that decide which token it is.
    pub fingerprint: String,
    client: TokenClient,
}

/// A resource of a service.
#[derive(Debug)]
pub struct Resource {
    pub name: String,
    pub config: ServiceResource,
    projection: Projection,
}

/// Why a service did not do what was asked of it. The cause is for the log: it has neither a token
/// nor a part of a body, an OAuth error code excepted.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: FailureKind,
    /// How long the service asks to wait.
    pub retry_after: Option<Duration>,
    pub cause: String,
    /// The service refuses the refresh token, the assertion or the code (RFC 6749 §5.2).
    pub is_invalid_grant: bool,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, cause: impl Into<String>) -> Self {
        Self { kind, retry_after: None, cause: cause.into(), is_invalid_grant: false }
    }

    /// Whether it says something about the service, and not about one user there.
    pub const fn is_of_all(&self) -> bool {
        !matches!(self.kind, FailureKind::Failed)
    }
}

impl From<outbound::Error> for Failure {
    fn from(error: outbound::Error) -> Self {
        let kind = match &error {
            outbound::Error::TimedOut { .. } => FailureKind::Timeout,
            outbound::Error::Failed { .. } | outbound::Error::Busy => FailureKind::Unavailable,
            _ => FailureKind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}

/// A status that is not the expected one.
fn unexpected(what: &str, status: StatusCode, retry_after: Option<Duration>) -> Failure {
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => FailureKind::Unavailable,
        _ => FailureKind::Failed,
    };
    let cause = format!("{what} responded with status {}", status.as_u16());
    Failure { retry_after, ..Failure::new(kind, cause) }
}

/// How long nothing is requested after this many failures in a row, this one included; at least
/// what the service asks for, within the longest pause.
pub fn pause(failures: i64, retry_after: Option<Duration>) -> Duration {
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(6);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings);
    pause.max(retry_after.unwrap_or_default()).min(LONGEST_PAUSE)
}

impl Services {
    /// The configured services. Nothing is connected yet.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn new(config: &config::services::Services) -> Result<Self, String> {
        let mut by_name = BTreeMap::new();
        for (name, settings) in config {
            let service = Service::new(name, settings)
                .map_err(|problem| format!("services.{name}: {problem}"))?;
            by_name.insert(name.clone(), Arc::new(service));
        }
        Ok(Self { by_name, ..Self::default() })
    }

    /// The service of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Service>> {
        self.by_name.get(name)
    }

    /// Every service, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.by_name.values()
    }

    /// Marks a token as being renewed by this process, until the guard is dropped; `None` where it
    /// is already.
    pub fn begin_renewal(self: &Arc<Self>, service: &str, subject: &str) -> Option<Renewal> {
        let key = (service.to_owned(), subject.to_owned());
        let mut renewing = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        renewing.insert(key.clone()).then(|| Renewal { services: Arc::clone(self), key })
    }

    /// How long a resource is not requested any more because it failed.
    pub fn resource_pause(
        &self,
        service: &str,
        resource: &str,
        now: Timestamp,
    ) -> Option<Duration> {
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = pauses.get(&(service.to_owned(), resource.to_owned()))?;
        (pause.until > now).then(|| pause.until - now)
    }

    /// Remembers what became of a request to a resource; returns how long it is not requested.
    pub fn resource_answered(
        &self,
        service: &str,
        resource: &str,
        failure: Option<&Failure>,
        now: Timestamp,
    ) -> Duration {
        let key = (service.to_owned(), resource.to_owned());
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        // An answer that is wrong may be about one user only.
        let Some(failure) = failure.filter(|failure| failure.is_of_all()) else {
            pauses.remove(&key);
            return Duration::ZERO;
        };
        let failures = pauses.get(&key).map_or(1, |pause| pause.failures + 1);
        let wait = pause(failures, failure.retry_after);
        pauses.insert(key, Pause { failures, until: now + wait });
        wait
    }

    /// A request for a token runs until the guard is dropped.
    pub async fn running(&self) -> tokio::sync::OwnedRwLockReadGuard<()> {
        Arc::clone(&self.running).read_owned().await
    }

    /// Returns once no request for a token runs.
    pub async fn finish(&self) {
        drop(self.running.write().await);
    }
}

/// See [`Services::begin_renewal`].
#[derive(Debug)]
pub struct Renewal {
    services: Arc<Services>,
    key: (String, String),
}

impl Drop for Renewal {
    fn drop(&mut self) {
        let renewing = &self.services.renewing;
        renewing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Service {
    fn new(name: &str, config: &config::services::Service) -> Result<Self, String> {
        let key = config.private_key_file.as_deref();
        let key = key.map(|path| ServiceKey::read(path, &config.key_id)).transpose();
        let key = key.map_err(|problem| format!("private_key_file {problem}"))?;
        let resources = config.resources.iter().map(|(resource, settings)| {
            let fields = settings.fields.iter().map(String::as_str);
            let projection = Projection::parse(fields)?;
            let name = resource.clone();
            Ok((resource.clone(), Resource { name, config: settings.clone(), projection }))
        });
        let decisive = [
            config.token_url.as_str(),
            config.grant.as_str(),
            &config.client_id,
            &config.scope,
            &config.audience,
            &config.username,
        ];
        let fingerprint = Sha256::digest(decisive.join("\n"));
        Ok(Self {
            name: name.to_owned(),
            resources: resources.collect::<Result<_, String>>()?,
            fingerprint: URL_SAFE_NO_PAD.encode(&fingerprint[..12]),
            client: TokenClient {
                auth: Some(config.auth),
                id: config.client_id.clone(),
                secret: config.client_secret.clone(),
                key,
                audience: config.assertion_audience().to_owned(),
            },
            config: config.clone(),
        })
    }
}

/// What a resource answered.
#[derive(Debug)]
pub enum ResourceAnswer {
    /// The listed fields.
    Fields(Arc<Value>),
    /// It refuses the access token.
    TokenRefused,
}

impl Resource {
    /// Requests the resource for a user with an access token of the service.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn fetch(
        &self,
        outbound: &Outbound,
        access_token: &str,
        sub: &str,
        timeout: Duration,
    ) -> Result<ResourceAnswer, Failure> {
        let failed = |cause: &str| Failure::new(FailureKind::Failed, cause);
        let url = self.url(sub).ok_or_else(|| failed("the URL of the resource is not valid"))?;
        let authorization = HeaderValue::try_from(format!("Bearer {access_token}"));
        let mut authorization =
            authorization.map_err(|_| failed("the access token cannot be sent in a header"))?;
        authorization.set_sensitive(true);
        let method = match self.config.method {
            ResourceMethod::Get => Method::GET,
            ResourceMethod::Post => Method::POST,
        };
        let response = outbound.send(ServiceRequest {
            method,
            url: url.as_str(),
            authorization: Some(authorization),
            form: None,
            timeout,
        });
        let response = response.await?;
        match response.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Ok(ResourceAnswer::TokenRefused),
            status => return Err(unexpected("the resource", status, response.retry_after)),
        }
        match serde_json::from_slice(&response.body) {
            Ok(Value::Object(object)) => {
                Ok(ResourceAnswer::Fields(Arc::new(self.projection.of(&object))))
            }
            _ => Err(failed("the answer of the resource is not a JSON object")),
        }
    }

    /// The URL for a user.
    fn url(&self, sub: &str) -> Option<Url> {
        // In a path everything but unreserved characters is escaped, `/` too.
        let segment: String = sub
            .bytes()
            .map(|b| match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    char::from(b).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect();
        // It would be another path.
        if segment.is_empty() || segment.bytes().all(|b| b == b'.') {
            return None;
        }
        let mut url =
            Url::parse(&self.config.url.replace("/{sub}", &format!("/{segment}"))).ok()?;
        if !self.config.query.is_empty() {
            let query = self.config.query.iter();
            let query = query.map(|(name, value)| (name, value.replace("{sub}", sub)));
            url.query_pairs_mut().extend_pairs(query);
        }
        Some(url)
    }
}

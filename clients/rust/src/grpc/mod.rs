//! The gRPC services of the server, for trusted back ends; `docs/grpc.md` of the server says who
//! may call what.
//!
//! ```no_run
//! use propusk_client::{Propusk, grpc::{Grpc, pb}};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let propusk = Propusk::builder("https://id.example.com").build()?;
//! let grpc = Grpc::new(&propusk, "https://id.example.com:50051")?
//!     .credentials("backend", std::env::var("PROPUSK_SECRET")?, "propusk:tokens propusk:users");
//! let request = pb::FindUserRequest {
//!     login: Some(pb::find_user_request::Login::Email("vera@example.org".to_owned())),
//! };
//! match grpc.users().find(request).await {
//!     Ok(user) => println!("{}", user.into_inner().id),
//!     Err(status) => eprintln!("{}", propusk_client::grpc::GrpcError::from(status)),
//! }
//! # Ok(())
//! # }
//! ```

#[allow(clippy::all, missing_docs, unreachable_pub)]
#[rustfmt::skip]
mod generated {
    include!("propusk.v1.rs");
}

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response, header};
pub use tonic::Code;
use tonic::{
    Status,
    body::Body,
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt;
use tower_service::Service;

use crate::{Detail, Error, Propusk, credentials::Credentials};

/// Messages and clients, as `proto/propusk/v1` describes them.
pub mod pb {
    pub use super::generated::*;
}
use pb::{
    revocation_service_client::RevocationServiceClient, token_service_client::TokenServiceClient,
    user_service_client::UserServiceClient,
};

/// Until an attempt to connect counts as failed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The services at a gRPC listener. A clone shares its connection.
#[derive(Clone, Debug)]
pub struct Grpc {
    propusk: Propusk,
    channel: Authorized,
}

impl Grpc {
    /// The services at a URL; it is connected to when the first method is called. With https, the
    /// server must have a certificate of one of Mozilla's authorities: see
    /// [`with_endpoint`](Self::with_endpoint) for others.
    ///
    /// # Errors
    /// [`Error::Configuration`]: it is no URL.
    pub fn new(propusk: &Propusk, url: impl Into<String>) -> Result<Self, Error> {
        let url = url.into();
        let invalid =
            |error: tonic::transport::Error| Error::Configuration(format!("gRPC: {error}"));
        let is_tls = url.starts_with("https:");
        let mut endpoint = Endpoint::from_shared(url)
            .map_err(invalid)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(5));
        if is_tls {
            let tls = ClientTlsConfig::new().with_webpki_roots();
            endpoint = endpoint.tls_config(tls).map_err(invalid)?;
        }
        Ok(Self::with_endpoint(propusk, &endpoint))
    }

    /// The services at an endpoint of one's own: with another authority, or a client certificate.
    pub fn with_endpoint(propusk: &Propusk, endpoint: &Endpoint) -> Self {
        let channel = Authorized { channel: endpoint.connect_lazy(), credentials: None };
        Self { propusk: propusk.clone(), channel }
    }

    /// The client that calls, and the scopes that it needs. Its access token is fetched, and
    /// fetched again in time.
    #[must_use]
    pub fn credentials(
        mut self,
        client_id: impl Into<String>,
        secret: impl Into<String>,
        scope: impl Into<String>,
    ) -> Self {
        let api = self.propusk.api().clone();
        let credentials = Credentials::new(api, client_id.into(), secret.into(), scope.into());
        self.channel.credentials = Some(Arc::new(credentials));
        self
    }

    /// Tokens: Issue, Refresh, Validate, Revoke.
    pub fn tokens(&self) -> TokenServiceClient<Authorized> {
        TokenServiceClient::new(self.channel.clone())
    }

    /// Users: Get, Find, Create, Delete, Disable, Enable, VerifyPassword.
    pub fn users(&self) -> UserServiceClient<Authorized> {
        UserServiceClient::new(self.channel.clone())
    }

    /// The revocation feed. A [`Propusk`] with a feed follows it over HTTP by itself.
    pub fn revocations(&self) -> RevocationServiceClient<Authorized> {
        RevocationServiceClient::new(self.channel.clone())
    }
}

/// A channel that sends the access token of a client with every call.
#[derive(Clone, Debug)]
pub struct Authorized {
    channel: Channel,
    credentials: Option<Arc<Credentials>>,
}

impl Service<Request<Body>> for Authorized {
    type Response = Response<Body>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.channel, context).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that is ready is the one to be called.
        let clone = self.channel.clone();
        let mut channel = std::mem::replace(&mut self.channel, clone);
        let credentials = self.credentials.clone();
        Box::pin(async move {
            let Some(credentials) = credentials else { return Ok(channel.call(request).await?) };
            let token = credentials.token().await.map_err(|error| status_of(&error))?;
            let value = HeaderValue::from_str(&format!("Bearer {token}"))?;
            request.headers_mut().insert(header::AUTHORIZATION, value);
            let response = channel.call(request).await?;
            // Refused before there was a message: the next call gets another token.
            let is_refused = Status::from_header_map(response.headers())
                .is_some_and(|status| status.code() == Code::Unauthenticated);
            if is_refused {
                credentials.forget(&token).await;
            }
            Ok(response)
        })
    }
}

/// What a caller is told if there is no access token.
fn status_of(error: &Error) -> Status {
    let code = if error.is_temporary() { Code::Unavailable } else { Code::Unauthenticated };
    Status::new(code, error.to_string())
}

/// A call that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct GrpcError {
    /// The status code.
    pub code: Code,
    /// What went wrong, for a program to tell apart: `INVALID_GRANT`, `EMAIL_ALREADY_EXISTS` …
    /// Empty where no server has answered.
    pub reason: String,
    /// What went wrong, as a sentence.
    pub message: String,
    /// The fields at fault.
    pub details: Vec<Detail>,
    /// By which the server's log knows the request.
    pub request_id: Option<String>,
    /// How long to wait before another attempt.
    pub retry_after: Option<Duration>,
}

impl GrpcError {
    /// Whether another attempt may succeed.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self.code,
            Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Internal
        )
    }
}

impl From<Status> for GrpcError {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info();
        let info = info.filter(|info| info.domain == "propusk");
        let (reason, request_id) = match info {
            Some(mut info) => (info.reason, info.metadata.remove("requestId")),
            None => (String::new(), None),
        };
        let violations = status.get_details_bad_request().map(|request| request.field_violations);
        let details = violations.unwrap_or_default().into_iter();
        Self {
            code: status.code(),
            reason,
            message: status.message().to_owned(),
            details: details
                .map(|one| Detail { field: one.field, message: one.description })
                .collect(),
            request_id,
            retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay),
        }
    }
}

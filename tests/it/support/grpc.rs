//! Callers of the gRPC listener.

use propusk::grpc::proto::{
    envoy::service::auth::v3::authorization_client::AuthorizationClient,
    v1::{
        revocation_service_client::RevocationServiceClient,
        service_tokens_client::ServiceTokensClient, token_service_client::TokenServiceClient,
        user_service_client::UserServiceClient,
    },
};
use tonic::{
    Code, Request, Status,
    metadata::{AsciiMetadataValue, MetadataKey},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use super::{Backend, TestServer};

/// Adds metadata to every call.
#[derive(Clone, Debug, Default)]
pub struct CallMetadata(Vec<(String, String)>);

impl CallMetadata {
    fn sign<T>(&self, request: &mut Request<T>) {
        for (name, value) in &self.0 {
            let name: MetadataKey<_> = name.parse().expect("a name");
            let value: AsciiMetadataValue = value.parse().expect("a value");
            request.metadata_mut().append(name, value);
        }
    }
}

impl Interceptor for CallMetadata {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        self.sign(&mut request);
        Ok(request)
    }
}

/// A caller on a connection.
#[derive(Clone, Debug)]
pub struct GrpcCaller {
    pub channel: Channel,
    with: CallMetadata,
}

impl TestServer {
    /// A server with a gRPC listener.
    pub async fn with_grpc(backend: Backend, settings: &[(&str, &str)]) -> Self {
        let mut all = vec![("PROPUSK_GRPC__LISTEN", "127.0.0.1:0")];
        all.extend_from_slice(settings);
        Self::with(backend, &all).await
    }

    /// A caller without credentials, on a connection of its own.
    pub async fn anonymous(&self) -> GrpcCaller {
        let address = self.grpc.expect("a gRPC listener");
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        GrpcCaller::on(endpoint.connect().await.expect("it answers"))
    }

    /// A caller with an access token.
    pub async fn caller(&self, token: &str) -> GrpcCaller {
        let anonymous = self.anonymous().await;
        anonymous.with("authorization", &format!("Bearer {token}"))
    }

    /// A client-credentials token of the client `id`.
    pub async fn client_token(&self, id: &str, scope: &str) -> String {
        let fields = [("grant_type", "client_credentials"), ("scope", scope)];
        let reply = self.form_as("/oauth2/token", id, &fields).await;
        reply.field("access_token")
    }

    /// A caller with such a token.
    pub async fn client_caller(&self, id: &str, scope: &str) -> GrpcCaller {
        self.caller(&self.client_token(id, scope).await).await
    }
}

impl GrpcCaller {
    /// Without credentials.
    pub fn on(channel: Channel) -> Self {
        Self { channel, with: CallMetadata::default() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.with.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds its metadata to a request that no generated client sends.
    pub fn sign<T>(&self, request: &mut Request<T>) {
        self.with.sign(request);
    }

    pub fn tokens(&self) -> TokenServiceClient<InterceptedService<Channel, CallMetadata>> {
        TokenServiceClient::with_interceptor(self.channel.clone(), self.with.clone())
    }

    pub fn users(&self) -> UserServiceClient<InterceptedService<Channel, CallMetadata>> {
        UserServiceClient::with_interceptor(self.channel.clone(), self.with.clone())
    }

    /// The client that Envoy uses.
    pub fn gateway(&self) -> AuthorizationClient<InterceptedService<Channel, CallMetadata>> {
        AuthorizationClient::with_interceptor(self.channel.clone(), self.with.clone())
    }

    pub fn services(&self) -> ServiceTokensClient<InterceptedService<Channel, CallMetadata>> {
        ServiceTokensClient::with_interceptor(self.channel.clone(), self.with.clone())
    }

    pub fn revocations(
        &self,
    ) -> RevocationServiceClient<InterceptedService<Channel, CallMetadata>> {
        RevocationServiceClient::with_interceptor(self.channel.clone(), self.with.clone())
    }
}

/// Fails the test unless a call was refused with that code and reason, and with the request's id.
#[track_caller]
pub fn expect_refused<T: std::fmt::Debug>(
    answer: Result<T, Status>,
    code: Code,
    reason: &str,
) -> Status {
    let status = answer.expect_err("it is refused");
    assert_eq!(status.code(), code, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().expect("google.rpc.ErrorInfo");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "propusk"));
    let id = status.metadata().get("x-request-id").expect("its id");
    assert_eq!(info.metadata["requestId"], id.to_str().expect("text"));
    assert!(!status.message().is_empty());
    status
}

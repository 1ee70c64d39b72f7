//! Callers that authenticate by a certificate (RFC 8705).

use std::{fs, path::PathBuf, sync::Arc};

use propusk::{
    clock::Clock,
    flows::admin::clients,
    grpc::proto::v1::{
        GetUserRequest, ValidateRequest, ValidateResponse, WatchRequest,
        token_service_client::TokenServiceClient,
    },
    model::{actor::Actor, client::Metadata},
    oauth::scope::Scope,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;

use super::{back_end, issued};
use crate::support::{
    Backend, Database, START, TestServer,
    grpc::{GrpcCaller, expect_refused},
    process::run,
};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// A certificate and its key, as PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("issued");
        (certificate.pem(), key.serialize_pem())
    }
}

struct Files(TempDir);

impl Files {
    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("written");
        path
    }
}

/// A server that requests certificates of an authority, and certificates issued under it.
struct Setup {
    server: TestServer,
    authority: Authority,
    files: Files,
}

impl Setup {
    async fn start() -> Self {
        let (authority, files) = (Authority::new(), Files(TempDir::new().expect("a folder")));
        let (certificate, key) = authority.issue("localhost");
        let ca = files.write("ca.pem", &authority.0.pem());
        let certificate = files.write("server.pem", &certificate);
        let key = files.write("server.key", &key);
        let text = |path: &PathBuf| path.to_str().expect("text").to_owned();
        let (ca, certificate, key) = (text(&ca), text(&certificate), text(&key));
        let settings = [
            ("PROPUSK_GRPC__LISTEN", "127.0.0.1:0"),
            ("PROPUSK_GRPC__TLS__CERTIFICATE", certificate.as_str()),
            ("PROPUSK_GRPC__TLS__KEY", key.as_str()),
            ("PROPUSK_GRPC__TLS__CLIENT_CA", ca.as_str()),
            ("PROPUSK_GRPC__TLS__CLIENT_AUTH", "optional"),
        ];
        let database = Arc::new(Database::prepared(Backend::Sqlite).await);
        let server = TestServer::on(database, Clock::fake(START), &settings).await;
        server.register("ann").await;
        Self { server, authority, files }
    }

    /// A connection, with a certificate if one is given.
    async fn connect(
        &self,
        own: Option<&(String, String)>,
    ) -> Result<Channel, tonic::transport::Error> {
        let address = self.server.grpc.expect("a gRPC listener");
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.0.pem()))
            .domain_name("localhost");
        if let Some((certificate, key)) = own {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("an address");
        endpoint.tls_config(tls).expect("TLS").connect().await
    }

    async fn caller(&self, own: Option<&(String, String)>) -> GrpcCaller {
        GrpcCaller::on(self.connect(own).await.expect("connected"))
    }

    /// Registers the certificate with a client, as the command line does.
    async fn register(&self, id: &'static str, own: &(String, String)) {
        let file = self.files.write("client.pem", &own.0);
        let file = file.to_str().expect("text");
        let command = ["client", "set", id, "--certificate", file];
        let output = run(&self.server.database, &[], &command);
        assert!(output.status.success(), "{output:?}");
    }
}

async fn ask(caller: &GrpcCaller) -> Result<ValidateResponse, Status> {
    let token = "x".to_owned();
    Ok(caller.tokens().validate(ValidateRequest { token }).await?.into_inner())
}

fn machine() -> Metadata {
    Metadata {
        scope: Scope::parse("propusk:tokens propusk:revocations api:read").expect("a scope"),
        ..back_end()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_certificate_authenticates_its_client() {
    let setup = Setup::start().await;
    setup.server.client("machine", machine()).await;
    let own = setup.authority.issue("machine");
    let caller = setup.caller(Some(&own)).await;
    expect_refused(ask(&caller).await, Code::Unauthenticated, "INVALID_CLIENT");
    setup.register("machine", &own).await;
    assert!(!ask(&caller).await.expect("an answer").active);
    let ann = super::id_of(&setup.server, "ann").await;
    let tokens = issued(&caller, &ann, "api:read").await;
    assert_eq!(super::validate(&caller, &tokens.access_token).await.client_id, "machine");
    let refused = caller.users().get(GetUserRequest { id: ann }).await;
    expect_refused(refused, Code::PermissionDenied, "INSUFFICIENT_SCOPE");
    // A token takes precedence over the certificate, which does not make up for an invalid one.
    let with_token = caller.clone().with("authorization", "Bearer x");
    expect_refused(ask(&with_token).await, Code::Unauthenticated, "INVALID_TOKEN");
    // Health requires neither.
    let anonymous = setup.caller(None).await;
    expect_refused(ask(&anonymous).await, Code::Unauthenticated, "INVALID_TOKEN");

    let mut stream = caller
        .revocations()
        .watch(WatchRequest { since: None })
        .await
        .expect("it is following")
        .into_inner();
    stream.message().await.expect("a message arrives").expect("the list");
    clients::disable(&setup.server.app, &"machine".into(), &Actor::operator())
        .await
        .expect("disabled");
    let status = stream.message().await.expect_err("its client is disabled");
    let details = status.get_error_details();
    assert_eq!(
        details.error_info().map(|info| info.reason.as_str()),
        Some("INVALID_CLIENT"),
        "{status:?}"
    );
    expect_refused(ask(&caller).await, Code::Unauthenticated, "INVALID_CLIENT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t82_a_certificate_of_an_unknown_authority_is_refused() {
    let setup = Setup::start().await;
    setup.server.client("machine", machine()).await;
    let elsewhere = Authority::new().issue("machine");
    // Even when its thumbprint was registered by mistake, the handshake refuses it.
    setup.register("machine", &elsewhere).await;
    if let Ok(channel) = setup.connect(Some(&elsewhere)).await {
        let mut tokens = TokenServiceClient::new(channel);
        let token = "x".to_owned();
        let refused = tokens.validate(ValidateRequest { token }).await;
        // The connection ends without a response.
        let code = refused.expect_err("the handshake failed").code();
        assert!([Code::Unavailable, Code::Cancelled, Code::Unknown].contains(&code), "{code:?}");
    }
    // A certificate registered with two clients authenticates neither.
    setup.server.client("twin", machine()).await;
    let own = setup.authority.issue("machine");
    setup.register("machine", &own).await;
    let caller = setup.caller(Some(&own)).await;
    ask(&caller).await.expect("an answer");
    setup.register("twin", &own).await;
    expect_refused(ask(&caller).await, Code::Unauthenticated, "INVALID_CLIENT");
}

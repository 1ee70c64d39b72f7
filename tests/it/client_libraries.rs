//! Client libraries that applications are written with, against a running server, through its real
//! pages in a real browser. The scripts for Node.js and Python are in `tests/clients`; `./dev/test`
//! installs their libraries.

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use openidconnect::{
    AccessTokenHash, AdditionalProviderMetadata, AuthorizationCode, ClientId, ClientSecret,
    CsrfToken, EndSessionUrl, IntrospectionUrl, IssuerUrl, LogoutRequest, Nonce,
    OAuth2TokenResponse, PkceCodeChallenge, PostLogoutRedirectUrl, ProviderMetadata, RedirectUrl,
    RequestTokenError, RevocationUrl, Scope, TokenIntrospectionResponse, TokenResponse,
    core::{
        CoreApplicationType, CoreAuthDisplay, CoreAuthenticationFlow, CoreClaimName, CoreClaimType,
        CoreClient, CoreClientAuthMethod, CoreErrorResponseType, CoreGrantType, CoreJsonWebKey,
        CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm,
        CoreRegisterErrorResponseType, CoreResponseMode, CoreResponseType, CoreRevocableToken,
        CoreSubjectIdentifierType, CoreUserInfoClaims,
    },
    registration::{
        AdditionalClientMetadata, ClientRegistrationRequest,
        EmptyAdditionalClientRegistrationResponse,
    },
};
use propusk::clock::Clock;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::mpsc,
};
use url::Url;

use crate::support::{
    Backend, Database, PASSWORD, TestServer, chromium::Chromium, external_server::ExternalServer,
    oauth::SECRET, process::free_address,
};

/// A server at its issuer's URL, on the system clock that the libraries read, with open
/// registration for every grant type, and `ann`. `resource` is one that tokens are issued for;
/// `external` is a server that documents may be fetched from.
async fn server(resource: &str, external: &ExternalServer) -> TestServer {
    let database = Arc::new(Database::new(Backend::Sqlite).await);
    let file = database.folder.path().join("clients.toml");
    let exchange = crate::support::exchange::EXCHANGE;
    let secret_hash = Sha256::digest(SECRET);
    let secret_hash: String = secret_hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let clients = format!(
        r#"
        [[resource]]
        id = "{resource}"
        name = "Notes"
        scope = "notes:read notes:write"
        default_scope = "notes:read"

        [scope."notes:read"]
        en = "Read your notes"
        ru = "Читать ваши заметки"

        [client.exchanger]
        client_name = "A service behind the application"
        scope = "notes:read"
        grant_types = ["client_credentials", "{exchange}"]
        secret_hash = "{secret_hash}"

        [client.exchanger.token_exchange]
        audiences = ["{resource}"]
        subject_audiences = ["*"]
        impersonation = true
        delegation = true
        "#
    );
    std::fs::write(&file, clients).expect("a file");
    let address = free_address();
    let issuer = format!("http://{address}");
    let [networks, authority] = external.settings();
    let settings = [
        (networks.0, networks.1.as_str()),
        (authority.0, authority.1.as_str()),
        ("PROPUSK_SERVER__LISTEN", address.as_str()),
        ("PROPUSK_SERVER__ISSUER", issuer.as_str()),
        ("PROPUSK_CLIENT_REGISTRATION__RESOURCES", resource),
        ("PROPUSK_CLIENTS__FILE", file.to_str().expect("text")),
        ("PROPUSK_CLIENT_REGISTRATION__MODE", "open"),
        (
            "PROPUSK_CLIENT_REGISTRATION__GRANT_TYPES",
            "authorization_code,refresh_token,client_credentials,urn:ietf:params:oauth:grant-type:device_code",
        ),
        ("PROPUSK_DEVICE__INTERVAL", "1s"),
    ];
    let server = TestServer::on(database, Clock::system(), &settings).await;
    let applied = propusk::flows::admin::clients::file::apply(&server.app).await;
    applied.expect("a good clients.toml");
    server.register("ann").await;
    server
}

/// Runs a script of `tests/clients` to its end; it prints every step and fails at the first one
/// that does not hold.
async fn run(program: &str, script: &str) {
    let folder = std::env::var("PROPUSK_TEST_CLIENTS_DIR")
        .expect("PROPUSK_TEST_CLIENTS_DIR names no folder with the libraries: run ./dev/test");
    let folder = PathBuf::from(folder);
    let driver = std::env::var("PROPUSK_TEST_WEBDRIVER_URL")
        .expect("PROPUSK_TEST_WEBDRIVER_URL names no driver: run ./dev/test");
    let program = match program {
        "python" => folder.join("python/bin/python"),
        other => PathBuf::from(other),
    };
    let resource = format!("http://{}/mcp", free_address());
    let external = ExternalServer::start().await;
    let server = server(&resource, &external).await;
    // An MCP host identified by a metadata document alone; its port is whichever is free.
    let document = format!("{}/mcp-host.json", external.base);
    let metadata = json!({
        "client_id": document, "client_name": "An MCP host with a document", "redirect_uris": ["http://127.0.0.1/callback"],
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "token_endpoint_auth_method": "none",
    });
    external.put("/mcp-host.json", 200, "", metadata.to_string());
    let running = Command::new(program)
        .current_dir(&folder)
        .arg(script)
        .args([&server.base, &driver, "ann@example.org", PASSWORD])
        .args([&resource, &document])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(180), running)
        .await
        .expect("it ends within 3 minutes")
        .expect("it starts");
    let response = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    // A script that ended before its last step may still report success.
    assert!(
        output.status.success() && response.trim_end().ends_with("steps passed"),
        "{script}: {}\n{response}\n{complained}",
        output.status
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and Chromium: run ./dev/test"]
async fn openid_client_completes_every_flow() {
    run("node", "openid_client.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and Chromium: run ./dev/test"]
async fn oauth4webapi_accepts_every_message_and_signature() {
    run("node", "oauth4webapi.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and Chromium: run ./dev/test"]
async fn the_mcp_sdk_gets_a_token_from_the_tool_server_url() {
    run("node", "mcp.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python and Chromium: run ./dev/test"]
async fn authlib_logs_users_in_to_a_flask_application() {
    run("python", "authlib_client.py").await;
}

/// Provider metadata that the crate leaves to its users to define.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Endpoints {
    introspection_endpoint: IntrospectionUrl,
    revocation_endpoint: RevocationUrl,
    end_session_endpoint: EndSessionUrl,
}

impl AdditionalProviderMetadata for Endpoints {}

type Provider = ProviderMetadata<
    Endpoints,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// Client metadata that the crate leaves to its users to define.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Goodbye {
    post_logout_redirect_uris: Vec<String>,
}

impl AdditionalClientMetadata for Goodbye {}

type Registration = ClientRegistrationRequest<
    Goodbye,
    EmptyAdditionalClientRegistrationResponse,
    CoreApplicationType,
    CoreClientAuthMethod,
    CoreRegisterErrorResponseType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// Sends the crate's requests as its own client would: no redirect is followed. Requests to https
/// URLs are sent over http, as if TLS were terminated in front of the server: the crate revokes
/// over https only.
async fn send(
    http: reqwest::Client,
    request: openidconnect::HttpRequest,
) -> Result<openidconnect::HttpResponse, reqwest::Error> {
    let mut request = reqwest::Request::try_from(request)?;
    let _ = request.url_mut().set_scheme("http");
    let response = http.execute(request).await?;
    let mut answer = http::Response::builder().status(response.status());
    for (name, value) in response.headers() {
        answer = answer.header(name, value);
    }
    let body = response.bytes().await?.to_vec();
    Ok(answer.body(body).expect("the crate's response type"))
}

fn by_https(url: &RevocationUrl) -> RevocationUrl {
    RevocationUrl::new(url.as_str().replacen("http:", "https:", 1)).expect("a URL")
}

/// An application with a redirect URI of its own that the browser comes back to.
struct Application {
    base: String,
    visits: mpsc::UnboundedReceiver<Url>,
}

impl Application {
    async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let (visit, visits) = mpsc::unbounded_channel();
        let here = Url::parse(&base).expect("a URL");
        tokio::spawn(async move {
            // One task per connection: a browser opens some that it sends nothing on.
            while let Ok((stream, _)) = listener.accept().await {
                let (visit, here) = (visit.clone(), here.clone());
                tokio::spawn(async move {
                    if let Some(target) = serve(stream).await {
                        let _ = visit.send(here.join(&target).expect("an address"));
                    }
                });
            }
        });
        Self { base, visits }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The parameters that the browser brings to `path`.
    async fn arrival(&mut self, path: &str) -> Arrival {
        let came = async {
            loop {
                let url = self.visits.recv().await.expect("the application listens");
                if url.path() == path {
                    return Arrival(url);
                }
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(30), came).await;
        came.expect("the browser comes back within 30 s")
    }
}

/// Answers a request; returns its target.
async fn serve(stream: TcpStream) -> Option<String> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await.ok()?;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
    }
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\nHere you are.";
    stream.write_all(answer.as_bytes()).await.ok()?;
    first.split(' ').nth(1).map(str::to_owned)
}

struct Arrival(Url);

impl Arrival {
    #[track_caller]
    fn field(&self, name: &str) -> String {
        let found = self.0.query_pairs().find(|(known, _)| known == name);
        let (_, value) = found.unwrap_or_else(|| panic!("no {name}: {}", self.0));
        value.into_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn the_openidconnect_crate_completes_the_session_lifecycle() {
    let external = ExternalServer::start().await;
    let server = server("https://notes.example", &external).await;
    let mut application = Application::listen().await;
    let browser = Chromium::open("en").await;
    let http = |request| send(server.http.clone(), request);

    // Discovery, then registration at the discovered endpoint.
    let issuer = IssuerUrl::new(server.base.clone()).expect("a URL");
    let provider = Provider::discover_async(issuer, &http).await.expect("metadata and keys");
    let endpoints = provider.additional_metadata().clone();
    let callback = RedirectUrl::new(application.at("/callback")).expect("a URL");
    let goodbye = Goodbye { post_logout_redirect_uris: vec![application.at("/goodbye")] };
    let grants = vec![
        CoreGrantType::AuthorizationCode,
        CoreGrantType::RefreshToken,
        CoreGrantType::ClientCredentials,
    ];
    let address = provider.registration_endpoint().expect("registration is open");
    let registered = Registration::new(vec![callback.clone()], goodbye)
        .set_grant_types(Some(grants))
        .register_async(address, &http)
        .await
        .expect("a client");
    let client = CoreClient::from_provider_metadata(
        provider.clone(),
        ClientId::new(registered.client_id().to_string()),
        registered.client_secret().map(|secret| ClientSecret::new(secret.secret().clone())),
    )
    .set_redirect_uri(callback)
    .set_introspection_url(endpoints.introspection_endpoint)
    .set_revocation_url(by_https(&endpoints.revocation_endpoint));

    // The code, through the pages.
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let flow = CoreAuthenticationFlow::AuthorizationCode;
    let (address, state, nonce) = client
        .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
        .add_scopes(["profile", "email"].map(|scope| Scope::new(scope.to_owned())))
        .set_pkce_challenge(challenge)
        .url();
    browser.go(address.as_str()).await;
    browser.type_into("[name=login]", "ann").await;
    browser.type_into("[name=password]", PASSWORD).await;
    browser.click("form[action='/login'] button[type=submit]").await;
    browser.click("[name=decision][value=allow]").await;
    let arrival = application.arrival("/callback").await;
    assert_eq!(arrival.field("state"), *state.secret());
    assert_eq!(arrival.field("iss"), server.base, "RFC 9207");
    let tokens = client
        .exchange_code(AuthorizationCode::new(arrival.field("code")))
        .expect("a token endpoint")
        .set_pkce_verifier(verifier)
        .request_async(&http)
        .await
        .expect("tokens");

    // The ID token: the crate checks signature, iss, aud, exp and nonce; at_hash is checked as its
    // documentation says.
    let id_token = tokens.id_token().expect("an ID token");
    let verifier = client.id_token_verifier();
    let claims = id_token.claims(&verifier, &nonce).expect("a good ID token");
    let hash = AccessTokenHash::from_token(
        tokens.access_token(),
        id_token.signing_alg().expect("an algorithm"),
        id_token.signing_key(&verifier).expect("a key"),
    );
    assert_eq!(claims.access_token_hash(), Some(&hash.expect("a hash")));

    let subject = claims.subject().clone();
    let response: CoreUserInfoClaims = client
        .user_info(tokens.access_token().clone(), Some(subject.clone()))
        .expect("a userinfo endpoint")
        .request_async(&http)
        .await
        .expect("userinfo");
    let email = response.email().expect("the scope email").as_str();
    assert_eq!(email, "ann@example.org");

    // Refresh: the ID token of a refresh has no nonce to compare (OpenID Connect Core §12.2).
    let old = tokens.refresh_token().expect("a refresh token");
    let fresh = client
        .exchange_refresh_token(old)
        .expect("a token endpoint")
        .request_async(&http)
        .await
        .expect("fresh tokens");
    let renewed = fresh.id_token().expect("an ID token");
    let renewed = renewed.claims(&verifier, |_: Option<&Nonce>| Ok(())).expect("a good ID token");
    assert_eq!(renewed.subject(), &subject);

    let inspect = || async {
        let authorization = client.introspect(fresh.access_token());
        authorization.request_async(&http).await.expect("an answer")
    };
    let response = inspect().await;
    assert!(response.active());
    assert_eq!(response.sub(), Some(subject.as_str()));
    let refresh_token = fresh.refresh_token().expect("a refresh token");
    client
        .revoke_token(CoreRevocableToken::from(refresh_token.clone()))
        .expect("a revocation endpoint")
        .request_async(&http)
        .await
        .expect("revoked");
    assert!(!inspect().await.active());
    let refused = client
        .exchange_refresh_token(refresh_token)
        .expect("a token endpoint")
        .request_async(&http)
        .await;
    match refused {
        Err(RequestTokenError::ServerResponse(error)) => {
            assert_eq!(error.error(), &CoreErrorResponseType::InvalidGrant);
        }
        other => panic!("a revoked token was refreshed: {other:?}"),
    }
    client
        .exchange_client_credentials()
        .expect("a token endpoint")
        .request_async(&http)
        .await
        .expect("a token for the client itself");

    // Logout: with the ID token as a hint there is no confirmation page.
    let state = CsrfToken::new_random();
    let address = LogoutRequest::from(endpoints.end_session_endpoint)
        .set_id_token_hint(id_token)
        .set_post_logout_redirect_uri(
            PostLogoutRedirectUrl::new(application.at("/goodbye")).expect("a URL"),
        )
        .set_state(state.clone())
        .http_get_url();
    browser.go(address.as_str()).await;
    let arrival = application.arrival("/goodbye").await;
    assert_eq!(arrival.field("state"), *state.secret());
    browser.close().await;
}

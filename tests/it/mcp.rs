//! MCP clients, configured as docs/mcp.md says.

use std::{process::Stdio, sync::Arc, time::Duration};

use propusk::clock::Clock;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Backend, Database, Reply, START, TestServer, backend_tests,
    documentation::{Page, run_commands, secret_in},
    external_server::ExternalServer,
    oauth::{AuthorizationRequest, VERIFIER, payload},
    process::free_address,
    send,
};

const RESOURCE: &str = "https://notes.example.org/mcp";

/// The TOML blocks of docs/mcp.md: the configuration, and `clients.toml`.
fn documented_toml() -> [&'static str; 2] {
    let mut pieces = include_str!("../../docs/mcp.md")
        .split("```toml\n")
        .skip(1)
        .map(|piece| piece.split_once("```").expect("its end").0);
    let found = [pieces.next(), pieces.next()].map(|piece| piece.expect("a piece"));
    assert_eq!(pieces.next(), None);
    found
}

/// A server configured by docs/mcp.md, with `ann`; `resource` replaces that of the document.
async fn server(external: &ExternalServer, backend: Backend, resource: &str) -> TestServer {
    let database = Arc::new(Database::prepared(backend).await);
    let [configuration, clients] = documented_toml().map(|piece| piece.replace(RESOURCE, resource));
    let file = database.folder.path().join("clients.toml");
    std::fs::write(&file, clients).expect("a file");
    let sections: toml::Table = configuration.parse().expect("TOML");
    let mut settings: Vec<(String, String)> = vec![];
    for (section, keys) in &sections {
        for (key, value) in keys.as_table().expect("a section") {
            let value = match value {
                toml::Value::Array(many) => {
                    many.iter().filter_map(|one| one.as_str()).collect::<Vec<_>>().join(",")
                }
                one => one.as_str().expect("text").to_owned(),
            };
            settings.push((format!("PROPUSK_{section}__{key}").to_uppercase(), value));
        }
    }
    settings.retain(|(key, _)| key != "PROPUSK_CLIENTS__FILE");
    settings.push(("PROPUSK_CLIENTS__FILE".to_owned(), file.display().to_string()));
    settings.extend(external.settings().map(|(key, value)| (key.to_owned(), value)));
    let settings: Vec<_> =
        settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let server = TestServer::on(database, Clock::fake(START), &settings).await;
    let applied = propusk::flows::admin::clients::file::apply(&server.app).await;
    applied.expect("a good clients.toml");
    server.register("ann").await;
    server
}

/// How a client authenticates at the token endpoint.
struct Known {
    id: String,
    secret: Option<String>,
}

/// Registers with a client's own metadata.
async fn register(server: &TestServer, metadata: Value) -> Known {
    let request = server.request(Method::POST, "/oauth2/register").json(&metadata);
    let response = send(request).await.expect(StatusCode::CREATED).json();
    let text = |name: &str| response[name].as_str().map(str::to_owned);
    Known { id: text("client_id").expect("an id"), secret: text("client_secret") }
}

async fn token(server: &TestServer, client: &Known, fields: &[(&str, &str)]) -> Reply {
    let mut form = fields.to_vec();
    form.push(("client_id", &client.id));
    form.extend(client.secret.as_deref().map(|secret| ("client_secret", secret)));
    server.form("/oauth2/token", &form).await
}

/// Logs `ann` in as such a client does: for `resource`, without a scope; returns the claims of the
/// refreshed token.
async fn logs_in(server: &TestServer, client: &Known, callback: &str, resource: &str) -> Value {
    let request = AuthorizationRequest::of(&client.id, "")
        .without("scope")
        .without("nonce")
        .with("redirect_uri", callback)
        .with("resource", resource);
    let answer = server.browser().authorize(&request, "ann").await;
    assert!(answer.location.as_str().starts_with(callback), "{answer:?}");
    assert_eq!(answer.fields["iss"], server.app.config.server.issuer);
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", answer.code()),
        ("redirect_uri", callback),
        ("code_verifier", VERIFIER),
        ("resource", resource),
    ];
    let tokens = token(server, client, &fields).await.expect(StatusCode::OK);
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", &tokens.field("refresh_token")),
        ("resource", resource),
    ];
    let fresh = token(server, client, &fields).await.expect(StatusCode::OK);
    payload(&fresh.field("access_token"))
}

backend_tests! {
    common_mcp_clients_log_in_without_configuration,
    a_resource_without_a_path_matches_with_or_without_slash,
    a_browser_client_discovers_and_registers_cross_origin,
    the_host_part_of_a_private_scheme_is_not_shown_as_host,
    an_unlisted_private_scheme_is_refused_with_a_hint,
}

async fn common_mcp_clients_log_in_without_configuration(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = server(&external, backend, RESOURCE).await;
    // What these clients send; for each what is unusual.
    let claude = json!({ "client_name": "Claude", "redirect_uris": ["https://claude.ai/api/mcp/auth_callback"], "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"], "token_endpoint_auth_method": "client_secret_post", "scope": "claudeai" });
    let vs_code = json!({ "client_name": "Visual Studio Code", "client_uri": "https://code.visualstudio.com", "response_types": ["code"], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"], "application_type": "native",
        "redirect_uris": ["https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1/", "http://127.0.0.1:33418/"] });
    let cursor = json!({ "client_name": "Cursor", "redirect_uris": ["cursor://anysphere.cursor-mcp/oauth/callback"], "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"], "token_endpoint_auth_method": "none", "application_type": "web" });
    let inspector = json!({ "client_name": "MCP Inspector", "client_uri": "https://github.com/modelcontextprotocol/inspector", "scope": "", "token_endpoint_auth_method": "none",
        "redirect_uris": ["http://localhost:6274/oauth/callback"], "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"] });
    for (metadata, callback) in [
        (claude, "https://claude.ai/api/mcp/auth_callback"),
        (vs_code, "http://127.0.0.1:59656/"),
        (cursor, "cursor://anysphere.cursor-mcp/oauth/callback"),
        (inspector, "http://localhost:6274/oauth/callback"),
    ] {
        let client = register(&server, metadata).await;
        let claims = logs_in(&server, &client, callback, RESOURCE).await;
        assert_eq!(
            (&claims["aud"], &claims["scope"], &claims["client_id"]),
            (&RESOURCE.into(), &"notes:read".into(), &client.id.as_str().into())
        );
    }
    // Claude Code: identified by its metadata document, on whichever port is free.
    let id = format!("{}/oauth/claude-code-client-metadata", external.base);
    let document = json!({ "client_id": id, "client_name": "Claude Code", "client_uri": "https://claude.ai", "redirect_uris": ["http://localhost/callback", "http://127.0.0.1/callback"],
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "token_endpoint_auth_method": "none" });
    external.put(
        "/oauth/claude-code-client-metadata",
        200,
        "Content-Type: application/json\r\n",
        document.to_string(),
    );
    let client = Known { id, secret: None };
    for callback in ["http://localhost:53187/callback", "http://127.0.0.1:3118/callback"] {
        assert_eq!(logs_in(&server, &client, callback, RESOURCE).await["aud"], RESOURCE);
    }
}

async fn a_resource_without_a_path_matches_with_or_without_slash(backend: Backend) {
    let external = ExternalServer::start().await;
    for registered in ["https://notes.example.org", "https://notes.example.org/"] {
        let server = server(&external, backend, registered).await;
        let callback = "http://127.0.0.1/cb";
        let client = register(&server, json!({ "redirect_uris": [callback], "grant_types": ["authorization_code", "refresh_token"], "token_endpoint_auth_method": "none" })).await;
        for named in ["https://notes.example.org", "https://notes.example.org/"] {
            assert_eq!(logs_in(&server, &client, callback, named).await["aud"], registered);
        }
        for other in [
            "https://notes.example.org//",
            "https://notes.example.org/mcp",
            "https://notes.example.org.evil",
            "https://notes.example.org:8443/",
            "https:///",
            "/",
        ] {
            let request = AuthorizationRequest::of(&client.id, "openid")
                .with("redirect_uri", callback)
                .with("resource", other);
            server.browser().authorize(&request, "ann").await.expect_error("invalid_target");
        }
    }
    let server = server(&external, backend, "https://notes.example.org/mcp").await;
    let client = register(
        &server,
        json!({ "redirect_uris": ["http://127.0.0.1/cb"], "token_endpoint_auth_method": "none" }),
    )
    .await;
    let request = AuthorizationRequest::of(&client.id, "openid")
        .with("redirect_uri", "http://127.0.0.1/cb")
        .with("resource", "https://notes.example.org/mcp/");
    server.browser().authorize(&request, "ann").await.expect_error("invalid_target");
}

async fn a_browser_client_discovers_and_registers_cross_origin(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = server(&external, backend, RESOURCE).await;
    let page = "http://localhost:6274";
    for (method, path) in
        [("GET", "/.well-known/oauth-authorization-server"), ("POST", "/oauth2/register")]
    {
        let preflight = server
            .request(Method::OPTIONS, path)
            .header("origin", page)
            .header("access-control-request-method", method)
            .header("access-control-request-headers", "content-type, mcp-protocol-version");
        let reply = send(preflight).await.expect(StatusCode::NO_CONTENT);
        assert_eq!(reply.header("access-control-allow-origin"), "*");
        assert!(
            reply.header("access-control-allow-headers").contains("mcp-protocol-version")
                && reply.header("access-control-allow-methods").contains(method),
            "{reply:?}"
        );
    }
    let metadata = json!({ "redirect_uris": [format!("{page}/oauth/callback")], "token_endpoint_auth_method": "none" });
    let created = send(
        server.request(Method::POST, "/oauth2/register").header("origin", page).json(&metadata),
    )
    .await
    .expect(StatusCode::CREATED);
    assert_eq!(created.header("access-control-allow-origin"), "*");
    // From then on the token endpoint allows the page's origin.
    let preflight = server
        .request(Method::OPTIONS, "/oauth2/token")
        .header("origin", page)
        .header("access-control-request-method", "POST");
    assert_eq!(send(preflight).await.header("access-control-allow-origin"), page);
}

async fn the_host_part_of_a_private_scheme_is_not_shown_as_host(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = server(&external, backend, RESOURCE).await;
    let callback = "com.evil.app://bank.example/cb";
    let client = register(
        &server,
        json!({ "redirect_uris": [callback], "token_endpoint_auth_method": "none" }),
    )
    .await;
    let request = AuthorizationRequest::of(&client.id, "openid").with("redirect_uri", callback);
    let mut ann = server.logged_in("ann").await;
    let page = ann.open(&request.path()).await.expect(StatusCode::OK);
    // The visible text, without the targets of links and forms.
    let read: String =
        page.text.split('<').filter_map(|part| Some(part.split_once('>')?.1)).collect();
    assert!(read.contains("a program on this device") && !read.contains("bank.example"), "{read}");
}

async fn an_unlisted_private_scheme_is_refused_with_a_hint(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = server(&external, backend, RESOURCE).await;
    for bad in ["myapp://callback", "javascript:alert(1)", "cursor-evil://callback"] {
        let request = server.request(Method::POST, "/oauth2/register").json(&json!({ "redirect_uris": ["https://app.example/cb", bad], "token_endpoint_auth_method": "none" }));
        let response = send(request).await.expect_oauth_error(400, "invalid_redirect_uri").json();
        assert!(
            response["error_description"].as_str().is_some_and(|text| text.contains("number 2")),
            "{response}"
        );
    }
}

/// Runs the commands of docs/mcp.md with a title on a server's database, with these texts replaced;
/// gives what was printed.
fn documented_commands(server: &TestServer, title: &str, replace: &[(&str, &str)]) -> String {
    let mut text = Page::read("docs/mcp.md").block(title);
    for (from, to) in replace {
        assert!(text.contains(from), "{from} is not in: {text}");
        text = text.replace(from, to);
    }
    run_commands(server, &text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js: run ./dev/test"]
async fn the_mcp_sdk_gets_cross_app_access_as_documented() {
    let folder = std::env::var("PROPUSK_TEST_CLIENTS_DIR")
        .expect("PROPUSK_TEST_CLIENTS_DIR names no folder with the libraries: run ./dev/test");
    let (provider, authority) =
        (TestServer::at_its_issuer(&[]).await, TestServer::at_its_issuer(&[]).await);
    let resource = format!("http://{}/mcp", free_address());
    let printed = documented_commands(
        &provider,
        "provider",
        &[("https://auth.notes.example.org", &authority.base), (RESOURCE, &resource)],
    );
    let assistant = secret_in(&printed);
    // The SSRF-safe client fetches https only: the keys come as a file.
    let keys = provider.get("/oauth2/jwks").await.expect(StatusCode::OK).text;
    let file = authority.database.folder.path().join("idp.json");
    std::fs::write(&file, keys).expect("a file");
    let by_file = format!("--jwks-file {}", file.display());
    let printed = documented_commands(
        &authority,
        "resource",
        &[
            ("--jwks-uri https://auth.example.org/oauth2/jwks", by_file.as_str()),
            ("https://auth.example.org", &provider.base),
            (RESOURCE, &resource),
        ],
    );
    let at_notes = secret_in(&printed);
    provider.register("ann").await;
    let callback = "https://assistant.example.org/callback";
    let client = Known { id: "assistant".to_owned(), secret: Some(assistant) };
    let request =
        AuthorizationRequest::of(&client.id, "openid email").with("redirect_uri", callback);
    let answer = provider.browser().authorize(&request, "ann").await;
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", answer.code()),
        ("redirect_uri", callback),
        ("code_verifier", VERIFIER),
    ];
    let tokens = token(&provider, &client, &fields).await.expect(StatusCode::OK);
    let id_token = tokens.field("id_token");
    let running = tokio::process::Command::new("node")
        .current_dir(&folder)
        .arg("cross_app_access.mjs")
        .args([&provider.base, &id_token, &client.id, client.secret.as_ref().expect("one")])
        .args([authority.base.as_str(), "assistant-at-notes", &at_notes, &resource])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), running).await;
    let output = output.expect("it ends").expect("it starts");
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let passed = printed.trim_end().ends_with("steps passed");
    assert!(output.status.success() && passed, "{printed}");
}

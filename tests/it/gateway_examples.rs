//! The gateways of `examples/gateway-node` and `examples/gateway-go`, which check each request over
//! gRPC: they run against the server, between a browser and an application.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use propusk::{
    model::client::{GrantType, Metadata},
    oauth::scope::Scope,
};
use reqwest::{Method, StatusCode};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    gateway::{IDENTITY, id_of, with_session},
    support::{
        Backend, Reply, TestServer,
        nginx::application,
        oauth::{Browser, SECRET},
        process::{GO_COMPILER, free_address},
    },
};

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path)
}

/// Sends a request of the browser to the gateway.
async fn visit(browser: &mut Browser<'_>, gateway: &str, headers: &[(&str, &str)]) -> Reply {
    let url = format!("http://{gateway}/orders?open=1");
    let request = browser.server.http.request(Method::GET, url);
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    browser.send(request).await
}

/// Starts a gateway and sends a browser through it.
async fn passes_identity_and_renews(mut command: Command) {
    let (listen, application) = (free_address(), application().await);
    let origin = format!("http://{listen}");
    let settings = [("PROPUSK_GATEWAY__ORIGINS", origin.as_str())];
    let server = TestServer::with_grpc(Backend::Sqlite, &settings).await;
    server.register("ann").await;
    let gateway = Metadata {
        scope: Scope::parse("propusk:check").expect("a scope"),
        grant_types: vec![GrantType::ClientCredentials],
        // The server's clock moves, the gateway's does not.
        access_ttl: Some(Duration::from_secs(3600)),
        ..Metadata::default()
    };
    server.client("gateway", gateway).await;
    let grpc = server.grpc.expect("a gRPC listener").to_string();
    command
        .env("PROPUSK", &server.base)
        .env("PROPUSK_GRPC", grpc)
        .env("CLIENT_SECRET", SECRET)
        .env("APPLICATION", format!("http://{application}"))
        .env("LISTEN", &listen)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut running: Child = command.spawn().expect("the gateway starts");
    let mut lines = BufReader::new(running.stdout.take().expect("a pipe")).lines();
    let line = lines.next_line().await.expect("text");
    assert_eq!(line, Some(format!("listening on {listen}")));

    // Nobody: a page leads to the login, a program is refused.
    let page = [("accept", "text/html"), ("sec-fetch-mode", "navigate")];
    let mut nobody = server.browser();
    let to_login = visit(&mut nobody, &listen, &page).await.expect(StatusCode::SEE_OTHER);
    let page_url = format!("{origin}/orders?open=1");
    let back: String = url::form_urlencoded::byte_serialize(page_url.as_bytes()).collect();
    assert!(to_login.header("location").contains(&back), "{to_login:?}");
    let refused = visit(&mut nobody, &listen, &[]).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    assert_eq!(refused.json()["errorCode"], "INVALID_TOKEN");

    // Ann: the application learns who she is, from the gateway alone.
    let mut ann = with_session(&server, "ann").await;
    ann.cookies.insert("theme".to_owned(), "dark".to_owned());
    let spoofed = [("x-propusk-user", "root"), ("x_propusk_role", "admin"), ("x-own", "kept")];
    let seen = visit(&mut ann, &listen, &spoofed).await.expect(StatusCode::OK);
    let text = seen.text.to_lowercase();
    let id = id_of(&server, "ann").await;
    assert!(text.starts_with("get /orders?open=1 "), "{text}");
    assert!(text.contains(&format!("x-propusk-user: {id}")), "{text}");
    assert!(text.contains("x-own: kept") && text.contains("cookie: theme=dark"), "{text}");
    for absent in ["root", "admin", "propusk_access", "propusk_refresh", "propusk_session"] {
        assert!(!text.contains(absent), "{absent}: {text}");
    }
    assert_eq!(seen.header("set-cookie"), "", "nothing to renew");

    // The access token has expired: the response of the application brings new cookies.
    let before = (ann.cookies["propusk_access"].clone(), ann.cookies["propusk_refresh"].clone());
    server.clock.advance(Duration::from_secs(16 * 60));
    let renewed = visit(&mut ann, &listen, &[]).await.expect(StatusCode::OK);
    assert_eq!(renewed.headers.get_all("set-cookie").iter().count(), 2, "{renewed:?}");
    let after = (ann.cookies["propusk_access"].clone(), ann.cookies["propusk_refresh"].clone());
    assert!(before.0 != after.0 && before.1 != after.1);
    server.clock.advance(Duration::from_secs(16 * 60));
    let again = visit(&mut ann, &listen, &[]).await.expect(StatusCode::OK);
    assert!(again.text.to_lowercase().contains(&id), "the new refresh token works: {again:?}");

    // A logout is obeyed by the next request, which removes the cookies.
    let logout = ann.open("/oauth2/logout").await;
    let kept = ann.cookies.clone();
    ann.submit(&logout, &[("decision", "logout")]).await.expect(StatusCode::OK);
    ann.cookies = kept;
    let gone = visit(&mut ann, &listen, &[]).await.expect(StatusCode::UNAUTHORIZED);
    assert!(gone.headers.get_all("set-cookie").iter().count() == 2, "{gone:?}");
    assert!(!ann.cookies.contains_key("propusk_refresh"), "{gone:?}");

    // Nobody passes without a decision.
    let mut ann = with_session(&server, "ann").await;
    let cookies = std::mem::take(&mut ann.cookies);
    let http = server.http.clone();
    server.stop().await;
    let cookies: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let request = http.get(format!("{origin}/")).header("cookie", cookies.join("; "));
    crate::support::send(request).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    running.kill().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js: run ./dev/test"]
async fn the_node_gateway_passes_identity_and_renews_cookies() {
    let folder = std::env::var("PROPUSK_TEST_CLIENTS_DIR")
        .expect("PROPUSK_TEST_CLIENTS_DIR names no folder with the libraries: run ./dev/test");
    // Below the folder, its libraries are found.
    let below = tempfile::tempdir_in(&folder).expect("a folder");
    let script = below.path().join("gateway.mjs");
    std::fs::copy(example("gateway-node/gateway.mjs"), &script).expect("a copy");
    let dependencies = |path: PathBuf| {
        let text = std::fs::read_to_string(path).expect("package.json");
        let package: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        package["dependencies"].as_object().expect("dependencies").clone()
    };
    let tested = dependencies(Path::new(&folder).join("package.json"));
    for (name, version) in dependencies(example("gateway-node/package.json")) {
        assert_eq!(tested.get(&name), Some(&version), "{name}");
    }
    let mut command = Command::new("node");
    command.arg(script).env("PROTO", Path::new(env!("CARGO_MANIFEST_DIR")).join("proto"));
    passes_identity_and_renews(command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go: run ./dev/test"]
async fn the_go_gateway_passes_identity_and_renews_cookies() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("gateway");
    let compiler = GO_COMPILER.lock().await;
    for arguments in [&["vet", "./..."][..], &["build", "-o", program.to_str().expect("text"), "."]]
    {
        let go = Command::new("go").current_dir(example("gateway-go")).args(arguments).output();
        let output = go.await.expect("go runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    drop(compiler);
    passes_identity_and_renews(Command::new(program)).await;
}

/// A gateway that forgets one forwards what the client has sent under its name.
#[test]
fn the_example_configurations_replace_every_identity_header() {
    let read =
        |path: &str| std::fs::read_to_string(example(path)).expect("an example").to_lowercase();
    let (nginx, caddy) = (read("nginx/propusk-identity.conf"), read("caddy/Caddyfile"));
    let (envoy, traefik) = (read("envoy/envoy.yaml"), read("traefik/dynamic.yaml"));
    let patterns: Vec<_> = traefik
        .lines()
        .filter_map(|line| line.split_once("propusk[-_](")?.1.split_once(")$"))
        .map(|(alternatives, _)| alternatives.split('|').collect::<Vec<_>>())
        .collect();
    assert_eq!(patterns.len(), 3, "a pattern for each middleware");
    for header in IDENTITY {
        assert!(nginx.contains(&format!("proxy_set_header {header} ")), "nginx: {header}");
        let copied = format!("request_header {header} {{rp.header.{header}}}");
        assert!(caddy.contains(&copied), "Caddy: {header}");
        for named in [format!("exact: {header}, "), format!("- {header}\n")] {
            assert!(envoy.contains(&named), "Envoy: {header}");
        }
        assert!(traefik.contains(&format!("{header}: \"\"")), "Traefik's open route: {header}");
        let name = header.trim_start_matches("x-propusk-").replace('-', "[-_]");
        for pattern in &patterns {
            assert!(pattern.contains(&name.as_str()), "Traefik: {header}");
        }
    }
}

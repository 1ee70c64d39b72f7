//! Clients, resources and scopes in `clients.toml`, which every start applies.

use std::sync::Arc;

use propusk::{
    flows::admin::clients,
    model::client::{GrantType, Metadata},
};
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    clients_cli::{
        assert_refused, client_credentials, clients_head, expect_oauth_error, rows, shown, stdout,
    },
    support::{Backend, Database, TestServer, backend_tests, oauth::web_app, process::run},
};

/// A server with this `clients.toml`; the file is in the database's folder.
async fn with_file(backend: Backend, toml: &str) -> TestServer {
    let database = Arc::new(Database::prepared(backend).await);
    let path = database.folder.path().join("clients.toml");
    std::fs::write(&path, toml).expect("written");
    let path = path.display().to_string();
    let clock = propusk::clock::Clock::fake(crate::support::START);
    TestServer::on(database, clock, &[("PROPUSK_CLIENTS__FILE", &path)]).await
}

fn rewrite(server: &TestServer, toml: &str) {
    std::fs::write(server.database.folder.path().join("clients.toml"), toml).expect("written");
}

async fn apply(server: &TestServer) -> Result<(), String> {
    let applied = clients::file::apply(&server.app).await;
    applied.map_err(|error| error.to_string())
}

const FILE: &str = r#"
[client.shop]
client_name = "The Shop"
scope = "openid profile api:read"
redirect_uris = ["https://shop.example/cb"]
grant_types = ["authorization_code", "refresh_token"]
token_endpoint_auth_method = "none"
access_ttl = "5m"

[client.robot]
scope = "api:read api:write"
grant_types = ["client_credentials"]
resources = ["https://api.example/"]
secret_hash = "d7a8fbb307d7809469ca9abcb0082e4f8d5651e46d3cdb762d02d0bf37c9e592"

[[resource]]
id = "https://api.example/"
name = "The API"
scope = "api:read api:write"
default_scope = "api:read"

[scope."api:read"]
en = "Read your things"
ru = "Читать ваши вещи"
"#;

/// Its SHA-256 is in [`FILE`].
const ROBOT: &str = "The quick brown fox jumps over the lazy dog";

backend_tests! {
    applying_clients_toml_twice_writes_nothing_the_second_time,
    a_client_removed_from_the_file_is_deleted_and_revoked,
    the_file_may_hold_two_secrets_inline_or_in_files,
    an_invalid_file_is_reported_and_not_applied_at_all,
    the_example_file_of_the_reference_can_be_applied,
    concurrently_started_processes_apply_the_file_once,
}

async fn applying_clients_toml_twice_writes_nothing_the_second_time(backend: Backend) {
    let server = with_file(backend, FILE).await;
    apply(&server).await.expect("applied");
    client_credentials(&server, "robot", ROBOT).await.expect(StatusCode::OK);
    let json = shown(&server.database, "shop");
    assert_eq!(
        (&json["source"], &json["client_name"], &json["access_ttl"]),
        (&"file".into(), &"The Shop".into(), &"5m".into())
    );
    assert!(stdout(&run(&server.database, &[], &["resource", "list"])).contains("The API"));
    assert!(stdout(&run(&server.database, &[], &["scope", "list"])).contains("Читать ваши вещи"));
    let (head, lines) = (
        clients_head(&server).await,
        rows(&server, "SELECT action AS text FROM audit_log").await.len(),
    );
    for _ in 0..3 {
        apply(&server).await.expect("applied");
    }
    assert_eq!(clients_head(&server).await, head, "nothing was written");
    assert_eq!(rows(&server, "SELECT action AS text FROM audit_log").await.len(), lines);

    // An operator changes it in the file, not by command; disabling by command works at once and
    // persists.
    for args in [
        &["client", "set", "shop", "--name", "x"][..],
        &["client", "rotate-secret", "robot"],
        &["client", "remove", "shop"],
    ] {
        assert_refused(&run(&server.database, &[], args), &["clients.toml"]);
    }
    stdout(&run(&server.database, &[], &["client", "disable", "robot"]));
    rewrite(
        &server,
        &FILE
            .replace("The Shop", "Der Laden")
            .replace("api:read api:write\"\ngrant", "api:read\"\ngrant"),
    );
    apply(&server).await.expect("applied");
    assert_eq!(shown(&server.database, "shop")["client_name"], "Der Laden");
    assert_eq!(
        (&shown(&server.database, "robot")["state"], &shown(&server.database, "robot")["scope"]),
        (&"disabled".into(), &"api:read".into())
    );
}

async fn a_client_removed_from_the_file_is_deleted_and_revoked(backend: Backend) {
    let server = with_file(backend, FILE).await;
    apply(&server).await.expect("applied");
    let gateway = Metadata {
        introspection_audiences: vec!["*".to_owned()],
        grant_types: vec![GrantType::ClientCredentials],
        ..Metadata::default()
    };
    server.client("gateway", gateway).await;
    let token = client_credentials(&server, "robot", ROBOT).await.expect(StatusCode::OK).json();
    let token = token["access_token"].as_str().expect("a token");
    assert_eq!(server.introspect("gateway", token).await["active"], true);
    rewrite(&server, "");
    apply(&server).await.expect("applied");
    assert_eq!(server.introspect("gateway", token).await, json!({ "active": false }));
    expect_oauth_error(&client_credentials(&server, "robot", ROBOT).await, 401, "invalid_client");
    assert_refused(
        &run(&server.database, &[], &["client", "show", "shop"]),
        &["there is no such client"],
    );
    assert_eq!(shown(&server.database, "gateway")["source"], "operator", "others stay");
}

async fn the_file_may_hold_two_secrets_inline_or_in_files(backend: Backend) {
    let server = with_file(backend, "").await;
    let folder = server.database.folder.path();
    let (old, new) = ("an old secret of 32 characters..", "a new secret of 32 characters...");
    std::fs::write(folder.join("robot.old"), format!("{old}\n")).expect("written");
    std::fs::write(folder.join("robot.new"), new).expect("written");
    let toml = "[client.robot]\nscope = \"api\"\ngrant_types = [\"client_credentials\"]\nsecret_file = \"robot.new\"\n";
    rewrite(&server, &format!("{toml}old_secret_file = \"robot.old\"\n"));
    apply(&server).await.expect("applied");
    for secret in [old, new] {
        client_credentials(&server, "robot", secret).await.expect(StatusCode::OK);
    }
    rewrite(&server, toml);
    apply(&server).await.expect("applied");
    client_credentials(&server, "robot", new).await.expect(StatusCode::OK);
    expect_oauth_error(&client_credentials(&server, "robot", old).await, 401, "invalid_client");
}

async fn an_invalid_file_is_reported_and_not_applied_at_all(backend: Backend) {
    let server = with_file(backend, FILE).await;
    let head = clients_head(&server).await;
    for (wrong, right, says) in [
        ("redirect_uris", "redirect_uri", &["client.shop", "unknown field", "redirect_uri"][..]),
        (
            "https://shop.example/cb",
            "http://shop.example/cb",
            &["client.shop.redirect_uris", "number 1", "https"],
        ),
        ("\"5m\"", "\"5h\"", &["client.shop.access_ttl", "1h"]),
        ("\"5m\"", "5", &["client.shop.access_ttl"]),
        ("[\"client_credentials\"]", "\"client_credentials\"", &["client.robot.grant_types"]),
        ("\"none\"", "\"client_secret_post\"", &["client.shop.secret_hash", "is missing"]),
        ("d7a8fbb3", "", &["client.robot.secret_hash", "64 hexadecimal"]),
        ("secret_hash", "secret_file", &["client.robot.secret_file", "cannot be read"]),
        ("[client.shop]", "[client.\"a b\"]", &["letters, digits"]),
        ("[client.shop]", "[clients.shop]", &["unknown field", "clients"]),
        ("id = \"https://api.example/\"", "id = \"api\"", &["resource api.id", "absolute URI"]),
        ("en = \"Read your things\"", "en = \"\"", &["scope.\"api:read\"", "empty"]),
        ("[client.shop]", "[client.shop", &["clients.toml"]),
    ] {
        rewrite(&server, &FILE.replacen(wrong, right, 1));
        let error = apply(&server).await.expect_err(right);
        for message in says {
            assert!(error.contains(message), "{message:?} is not in: {error}");
        }
        assert!(error.contains("clients.toml"), "{error}");
        assert_eq!(clients_head(&server).await, head, "nothing was written");
    }
    server.client("shop", web_app()).await;
    let head = clients_head(&server).await;
    rewrite(&server, FILE);
    let error = apply(&server).await.expect_err("taken");
    assert!(
        error.contains("client.shop")
            && error.contains("operator")
            && error.contains("client remove shop"),
        "{error}"
    );
    assert_eq!(clients_head(&server).await, head, "nothing was written");
    // With this file the server itself does not start.
    let path = server.database.folder.path().join("clients.toml").display().to_string();
    let output = run(&server.database, &[("PROPUSK_CLIENTS__FILE", &path)], &["serve"]);
    assert_refused(&output, &["clients.toml", "client.shop", "client remove shop"]);
}

async fn the_example_file_of_the_reference_can_be_applied(backend: Backend) {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/clients.md"))
        .expect("docs/clients.md");
    let toml =
        manual.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a file");
    let server = with_file(backend, toml).await;
    apply(&server).await.expect("applied");
    let json = shown(&server.database, "shop");
    assert_eq!(
        (&json["access_ttl"], &json["secrets"]),
        (&"10m".into(), &json!([{ "expires_at": null }, { "expires_at": null }]))
    );
    assert_eq!(shown(&server.database, "phone")["consent"], "implicit");
    let head = clients_head(&server).await;
    apply(&server).await.expect("applied");
    assert_eq!(clients_head(&server).await, head, "nothing was written");
}

async fn concurrently_started_processes_apply_the_file_once(backend: Backend) {
    let server = with_file(backend, FILE).await;
    let applied = futures_util::future::join_all((0..8).map(|_| apply(&server))).await;
    assert!(applied.iter().all(Result::is_ok), "{applied:?}");
    let log =
        rows(&server, "SELECT action AS text FROM audit_log WHERE action LIKE 'client.%'").await;
    assert_eq!(log, ["client.add", "client.add"]);
}

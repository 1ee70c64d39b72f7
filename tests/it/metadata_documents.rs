//! Clients whose id is the https URL of their metadata (Client ID Metadata Documents), as MCP
//! clients have.

use std::{sync::Arc, time::Duration};

use propusk::{
    flows::admin::{access::Precondition, clients},
    model::actor::Actor,
    storage::Statement,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Backend, Database, Reply, START, TestServer, backend_tests,
    external_server::ExternalServer,
    oauth::{AuthorizationRequest, CALLBACK, VERIFIER, changed},
    send,
};

/// A server that may fetch from the external server, with further settings.
async fn server_beside(
    external: &ExternalServer,
    backend: Backend,
    more: &[(&str, &str)],
) -> TestServer {
    let database = Arc::new(Database::prepared(backend).await);
    another_on(external, database, propusk::clock::Clock::fake(START), more).await
}

async fn another_on(
    external: &ExternalServer,
    database: Arc<Database>,
    clock: propusk::clock::Clock,
    more: &[(&str, &str)],
) -> TestServer {
    let settings = external.settings();
    let mut all: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    all.extend(more);
    TestServer::on(database, clock, &all).await
}

/// The id of the client at this path of the external server.
fn id(external: &ExternalServer, path: &str) -> String {
    format!("{}{path}", external.base)
}

/// A valid document.
fn document(id: &str) -> Value {
    json!({ "client_id": id, "client_name": "An MCP client", "redirect_uris": [CALLBACK, "http://127.0.0.1/cb"], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "client_uri": "https://app.example/" })
}

/// Publishes a valid document at a path; returns its id.
fn publish(external: &ExternalServer, path: &str) -> String {
    let id = id(external, path);
    external.put(path, 200, "", document(&id).to_string());
    id
}

async fn exchange_code(server: &TestServer, id: &str, code: &str) -> Reply {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("client_id", id),
    ];
    server.form("/oauth2/token", &form).await
}

async fn refresh(server: &TestServer, id: &str, token: &str) -> Reply {
    let form = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", id)];
    server.form("/oauth2/token", &form).await
}

/// Whether the authorization endpoint answers a request of this client with a page and no redirect.
async fn is_refused(server: &TestServer, id: &str) -> bool {
    let page = server.browser().open(&AuthorizationRequest::of(id, "openid").path()).await;
    page.status == StatusCode::BAD_REQUEST && page.header("location").is_empty()
}

/// The ids of the stored clients that have documents.
async fn kept(server: &TestServer) -> Vec<String> {
    let statement = Statement::new("SELECT id FROM clients WHERE source = 'document' ORDER BY id");
    let rows = server.app.db.read(statement).await.expect("rows");
    rows.iter().map(|row| row.get("id").expect("an id")).collect()
}

backend_tests! {
    a_client_with_a_metadata_document_logs_a_user_in,
    an_invalid_metadata_document_is_refused,
    t80_a_client_id_at_a_private_address_is_never_fetched,
    a_metadata_document_is_cached_and_then_fetched_again,
    a_changed_document_applies_and_an_outage_revokes_nothing,
    an_operator_can_disable_a_metadata_document_client,
    metadata_documents_can_be_disabled,
    fetches_of_unknown_documents_are_rate_limited,
    the_number_of_metadata_document_clients_is_bounded,
}

async fn a_client_with_a_metadata_document_logs_a_user_in(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = server_beside(&external, backend, &[]).await;
    server.register("ann").await;
    let id = publish(&external, "/client.json");
    let request = AuthorizationRequest::of(&id, "openid offline_access");
    let mut ann = server.logged_in("ann").await;
    let page = ann.open(&request.path()).await.expect(StatusCode::OK);
    assert!(
        page.text.contains("An MCP client") && page.text.contains("name=\"decision\""),
        "the user is asked: {page:?}"
    );
    assert_eq!(kept(&server).await, Vec::<String>::new(), "a preview is no use of the client");
    let answer = ann.authorize(&request, "ann").await;
    assert_eq!(kept(&server).await, [id.as_str()]);
    let tokens = exchange_code(&server, &id, answer.code()).await.expect(StatusCode::OK).json();
    assert!(tokens["id_token"].is_string(), "{tokens}");
    let refreshed = refresh(&server, &id, tokens["refresh_token"].as_str().expect("a token")).await;
    refreshed.expect(StatusCode::OK);
    assert_eq!(external.connection_count(), 1, "fetched once");
    let metadata = server.get("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["client_id_metadata_document_supported"], true);
    // By a pushed request as well, although the client was not stored before.
    let pushed = publish(&external, "/pushed.json");
    let fields = AuthorizationRequest::of(&pushed, "openid").0;
    let reply = send(server.request(Method::POST, "/oauth2/par").form(&fields))
        .await
        .expect(StatusCode::CREATED)
        .json();
    let request = AuthorizationRequest(vec![
        ("client_id".to_owned(), pushed.clone()),
        ("request_uri".to_owned(), reply["request_uri"].as_str().expect("a URI").to_owned()),
    ]);
    let answer = server.browser().authorize(&request, "ann").await;
    exchange_code(&server, &pushed, answer.code()).await.expect(StatusCode::OK);
}

async fn an_invalid_metadata_document_is_refused(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = server_beside(&external, backend, &[]).await;
    let with = |path: &str, change: &dyn Fn(&mut Value)| {
        let id = id(&external, path);
        let mut document = document(&id);
        change(&mut document);
        external.put(path, 200, "", document.to_string());
        id
    };
    let bad = [
        with("/1", &|it| it["client_id"] = "https://other.example/client.json".into()),
        with("/2", &|it| it["client_id"] = Value::Null),
        with("/3", &|it| it["client_secret"] = "it is publicly readable".into()),
        with("/4", &|it| it["token_endpoint_auth_method"] = "client_secret_basic".into()),
        with("/5", &|it| it["token_endpoint_auth_method"] = "private_key_jwt".into()),
        with("/6", &|it| it["redirect_uris"] = json!(["javascript:alert(1)"])),
        with("/7", &|it| it["redirect_uris"] = json!([])),
        with("/8", &|it| it["jwks_uri"] = "https://10.0.0.1/jwks".into()),
        with("/9", &|it| it["client_name"] = "x".repeat(70_000).into()),
    ];
    let plain = id(&external, "/10");
    external.put(
        "/10",
        200,
        "",
        document(&plain).to_string().replacen('{', "{\"client_id\":\"x\",", 1),
    );
    let moved = id(&external, "/11");
    external.put("/11", 302, &format!("Location: {}/12\r\n", external.base), "");
    external.put("/12", 200, "", document(&moved).to_string());
    let failing = id(&external, "/13");
    external.put("/13", 500, "", document(&failing).to_string());
    let absent = id(&external, "/14");
    // A file that was uploaded to a host with another content type is not a client of that host.
    let uploaded = id(&external, "/15");
    external.put("/15", 200, "Content-Type: image/png\r\n", document(&uploaded).to_string());
    let text = id(&external, "/16");
    external.put("/16", 200, "Content-Type: text/plain\r\n", document(&text).to_string());
    for id in bad.iter().chain([&plain, &moved, &failing, &absent, &uploaded, &text]) {
        assert!(is_refused(&server, id).await, "{id}");
    }
    assert_eq!(kept(&server).await, Vec::<String>::new());
    let special = id(&external, "/17");
    external.put(
        "/17",
        200,
        "Content-Type: application/client+json; charset=utf-8\r\n",
        document(&special).to_string(),
    );
    assert!(!is_refused(&server, &special).await);
    // A URL that cannot be a client id is not fetched.
    let request = external.connection_count();
    publish(&external, "/");
    publish(&external, "/a");
    for other in [
        format!("{}/", external.base),
        external.base.clone(),
        format!("{}/a#x", external.base),
        format!("{}/b/../a", external.base),
        format!("{}/./a", external.base),
        external.base.replace("https://", "https://u@") + "/a",
        external.base.replace("https:", "http:") + "/a",
    ] {
        assert!(is_refused(&server, &other).await, "{other}");
    }
    assert_eq!(external.connection_count(), request);
}

async fn t80_a_client_id_at_a_private_address_is_never_fetched(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = TestServer::start(backend).await;
    publish(&external, "/client.json");
    let port = external.base.rsplit(':').next().expect("a port");
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"] {
        assert!(is_refused(&server, &format!("https://{host}:{port}/client.json")).await, "{host}");
    }
    assert_eq!(external.connection_count(), 0);
}

async fn a_metadata_document_is_cached_and_then_fetched_again(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = server_beside(&external, backend, &[]).await;
    server.register("ann").await;
    let (short, long) = (id(&external, "/short"), id(&external, "/long"));
    external.put("/short", 200, "Cache-Control: no-store\r\n", document(&short).to_string());
    external.put("/long", 200, "Cache-Control: max-age=999999999\r\n", document(&long).to_string());
    let minute = Duration::from_secs(60);
    for _ in 0..5 {
        assert!(!is_refused(&server, &short).await && !is_refused(&server, &long).await);
    }
    assert_eq!(external.connection_count(), 2, "at least five minutes");
    server.clock.advance(5 * minute);
    assert!(!is_refused(&server, &short).await && !is_refused(&server, &long).await);
    assert_eq!(external.connection_count(), 3);
    server.clock.advance(24 * 60 * minute);
    assert!(!is_refused(&server, &long).await);
    assert_eq!(external.connection_count(), 4, "at most a day");
    // A failed fetch is retried after a minute, and not sooner.
    let late = id(&external, "/late");
    for _ in 0..5 {
        assert!(is_refused(&server, &late).await);
    }
    assert_eq!(external.connection_count(), 5);
    publish(&external, "/late");
    assert!(is_refused(&server, &late).await);
    server.clock.advance(minute);
    assert!(!is_refused(&server, &late).await);
}

async fn a_changed_document_applies_and_an_outage_revokes_nothing(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = server_beside(&external, backend, &[]).await;
    server.register("ann").await;
    let id = publish(&external, "/client.json");
    let request = AuthorizationRequest::of(&id, "openid offline_access");
    let answer = server.browser().authorize(&request, "ann").await;
    let tokens = exchange_code(&server, &id, answer.code()).await.expect(StatusCode::OK).json();
    let token = tokens["refresh_token"].as_str().expect("a token").to_owned();
    let (soon, minute) = (Duration::from_secs(301), Duration::from_secs(61));

    let mut moved = document(&id);
    moved["redirect_uris"] = json!(["https://app.example/new"]);
    external.put("/client.json", 200, "", moved.to_string());
    server.clock.advance(soon);
    assert!(is_refused(&server, &id).await, "the old redirect URI is no longer registered");
    let request = request.with("redirect_uri", "https://app.example/new");
    server.browser().authorize(&request, "ann").await.code();
    // Another process reads the same.
    let other =
        another_on(&external, Arc::clone(&server.database), server.clock.clone(), &[]).await;
    assert!(is_refused(&other, &id).await);

    external.put("/client.json", 503, "", "");
    server.clock.advance(soon);
    server.browser().authorize(&request, "ann").await.code();
    let next = refresh(&server, &id, &token).await.expect(StatusCode::OK).json();
    let next = next["refresh_token"].as_str().expect("a token").to_owned();

    external.put("/client.json", 404, "", "");
    server.clock.advance(minute);
    assert!(is_refused(&server, &id).await, "its owner withdrew it");
    assert_eq!(refresh(&server, &id, &next).await.status, StatusCode::BAD_REQUEST);
}

async fn an_operator_can_disable_a_metadata_document_client(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = server_beside(&external, backend, &[]).await;
    server.register("ann").await;
    let id = publish(&external, "/client.json");
    let answer = server.browser().authorize(&AuthorizationRequest::of(&id, "openid"), "ann").await;
    let tokens = exchange_code(&server, &id, answer.code()).await.expect(StatusCode::OK).json();
    let access = tokens["access_token"].as_str().expect("a token");
    server.get_as("/oauth2/userinfo", access).await.expect(StatusCode::OK);
    assert!(
        clients::update(
            &server.app,
            &id.as_str().into(),
            &Precondition::Any,
            changed(|to| to.client_name = "x".to_owned()),
            &Actor::operator()
        )
        .await
        .is_err(),
        "its metadata comes from the document"
    );
    clients::disable(&server.app, &id.as_str().into(), &Actor::operator()).await.expect("disabled");
    assert!(is_refused(&server, &id).await);
    assert_eq!(server.get_as("/oauth2/userinfo", access).await.status, StatusCode::UNAUTHORIZED);
    clients::enable(&server.app, &id.as_str().into(), &Actor::operator()).await.expect("enabled");
    assert!(!is_refused(&server, &id).await);
    clients::delete(&server.app, &id.as_str().into(), &Precondition::Any, &Actor::operator())
        .await
        .expect("removed");
    assert_eq!(kept(&server).await, Vec::<String>::new());
}

async fn metadata_documents_can_be_disabled(backend: Backend) {
    let external = ExternalServer::start().await;
    let on = server_beside(&external, backend, &[]).await;
    on.register("ann").await;
    let id = publish(&external, "/client.json");
    let answer = on
        .browser()
        .authorize(&AuthorizationRequest::of(&id, "openid offline_access"), "ann")
        .await;
    let tokens = exchange_code(&on, &id, answer.code()).await.expect(StatusCode::OK).json();
    let request = external.connection_count();
    let settings = [("PROPUSK_CLIENT_REGISTRATION__METADATA_DOCUMENTS", "off")];
    let off = another_on(&external, Arc::clone(&on.database), on.clock.clone(), &settings).await;
    assert!(is_refused(&off, &id).await);
    let token = tokens["refresh_token"].as_str().expect("a token");
    assert_eq!(refresh(&off, &id, token).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(external.connection_count(), request);
    let metadata = off.get("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["client_id_metadata_document_supported"], false);
}

async fn fetches_of_unknown_documents_are_rate_limited(backend: Backend) {
    let external = ExternalServer::start().await;
    let more = [
        ("PROPUSK_LIMITS__ENABLED", "true"),
        ("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.1/32"),
        ("PROPUSK_LIMITS__REGISTER_PER_ADDRESS_BURST", "5"),
    ];
    let server = server_beside(&external, backend, &more).await;
    let from = |address: &'static str, path: String| {
        let id = id(&external, &path);
        let address_of = AuthorizationRequest::of(&id, "openid").path();
        send(
            server
                .request(Method::GET, &address_of)
                .header("x-forwarded-for", address)
                .header("accept", "text/html"),
        )
    };
    for n in 0..20 {
        from("198.51.100.7", format!("/{n}")).await;
    }
    assert_eq!(external.connection_count(), 5, "exactly the burst is fetched");
    from("203.0.113.9", "/another".to_owned()).await;
    assert_eq!(external.connection_count(), 6);
}

async fn the_number_of_metadata_document_clients_is_bounded(backend: Backend) {
    let external = ExternalServer::start().await;
    let server =
        server_beside(&external, backend, &[("PROPUSK_CLIENT_REGISTRATION__MAX_CLIENTS", "1")])
            .await;
    server.register("ann").await;
    let (first, second) = (publish(&external, "/first"), publish(&external, "/second"));
    server.browser().authorize(&AuthorizationRequest::of(&first, "openid"), "ann").await.code();
    let fields = AuthorizationRequest::of(&second, "openid").0;
    let reply = send(server.request(Method::POST, "/oauth2/par").form(&fields)).await;
    assert_eq!(
        (reply.status, &reply.json()["error"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"temporarily_unavailable".into()),
        "{reply:?}"
    );
    assert_eq!(kept(&server).await, [first]);
}

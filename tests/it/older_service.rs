//! What clients and deployments of the older auth service rely on: its paths with their defaults,
//! and its environment.

use std::process::Stdio;

use propusk::clock::Clock;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    cookies::{PLAIN, by_cookie, cookies, expect_cookies, jar},
    readme::{blocks, sh},
    support::{
        Backend, Database, PASSWORD, Reply, TestServer, backend_tests,
        oauth::{AuthorizationRequest, SECRET, first_party_app, payload, web_app},
        process::{Process, bare_command, free_address},
        send,
    },
};

const REGISTER: &str = "/api/v1/auth/register";
const LOGIN: &str = "/api/v1/auth/login";
const LOGOUTS: [&str; 2] = ["/auth/logout", "/api/v1/auth/logout"];

const MIGRATION: &str = include_str!("../../docs/migrating-from-auth-service.md");

backend_tests! {
    the_older_paths_set_cookies_unless_delivery_is_body,
    a_login_names_its_account_in_one_of_three_fields,
    t160_a_cross_site_login_at_the_older_paths_sets_no_cookie,
    t161_differing_identifiers_are_told_to_the_password_holder_only,
    t162_a_logout_without_a_session_clears_this_sites_cookies_only,
    the_older_health_check_has_a_numeric_status,
    first_party_tokens_carry_user_id,
}

fn account() -> Value {
    json!({ "email": "vera@example.org", "username": "vera", "password": PASSWORD })
}

/// `value` with a further field.
fn with(mut value: Value, field: &str, text: &str) -> Value {
    value[field] = text.into();
    value
}

async fn the_older_paths_set_cookies_unless_delivery_is_body(backend: Backend) {
    let server = TestServer::start(backend).await;
    let lives = ["900", "604800"];
    let created = server.post("/auth/register", account()).await.expect(StatusCode::CREATED);
    let login = json!({ "email": "vera@example.org", "password": PASSWORD });
    let logged_in = server.post("/auth/login", login.clone()).await.expect(StatusCode::OK);
    for reply in [&created, &logged_in] {
        expect_cookies(reply, PLAIN, lives);
        let data = &reply.json()["data"];
        assert_eq!((data.get("accessToken"), data.get("refreshToken")), (None, None), "{reply:?}");
        assert_eq!(data["user"]["username"], "vera");
    }
    let session = send(by_cookie(&server, Method::GET, "/api/v1/auth/session", &jar(&logged_in)));
    assert_eq!(session.await.json()["data"]["email"], "vera@example.org");
    let left = send(by_cookie(&server, Method::DELETE, "/auth/logout", &jar(&logged_in))).await;
    expect_cookies(&left.expect(StatusCode::OK), PLAIN, ["0", "0"]);

    // What the older paths can be told, and what the others do untold.
    let mut nora = account();
    (nora["email"], nora["username"]) = ("nora@example.org".into(), "nora".into());
    let reply = server.post("/auth/register", with(nora, "delivery", "body")).await;
    let in_body = [
        reply.expect(StatusCode::CREATED),
        server.post("/auth/login", with(login.clone(), "delivery", "body")).await,
        server.post(LOGIN, login.clone()).await,
    ];
    for reply in in_body {
        assert_eq!(cookies(&reply), []);
        server.verify(&reply.tokens().access).await.expect(StatusCode::OK);
    }
    let reply = server.post("/auth/login", with(login, "delivery", "cookie")).await;
    expect_cookies(&reply, PLAIN, lives);
    for path in ["/auth/register", REGISTER] {
        server.post(path, account()).await.expect_error(409, "EMAIL_ALREADY_EXISTS");
    }

    // The document says so: two schemas each.
    let document = server.get("/openapi.json").await.json();
    for name in ["Register", "Login"] {
        let path = name.to_lowercase();
        let paths = [(format!("/auth/{path}"), "cookie"), (format!("/api/v1/auth/{path}"), "body")];
        for (path, default) in paths {
            let body = &document["paths"][&path]["post"]["requestBody"]["content"];
            let schema = body["application/json"]["schema"]["$ref"].as_str().expect("a schema");
            let schema = schema.rsplit('/').next().expect("a name");
            let delivery = &document["components"]["schemas"][schema]["properties"]["delivery"];
            let description = delivery["description"].as_str().expect("a description");
            assert!(description.contains(&format!("Default: `{default}`")), "{path}: {delivery}");
        }
    }
}

async fn a_login_names_its_account_in_one_of_three_fields(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("vera").await;
    server.register("nora").await;
    let (email, name) = ("vera@example.org", "vera");
    let of_vera = [
        json!({ "login": name }),
        json!({ "login": email }),
        json!({ "email": email }),
        json!({ "email": name }),
        json!({ "username": name }),
        json!({ "username": email }),
        // Empty fields count as absent, as a form with all of them sends them.
        json!({ "login": "", "email": email, "username": "" }),
        json!({ "login": null, "email": " ", "username": name }),
        // Several of one account.
        json!({ "email": email, "username": name }),
        json!({ "email": "VERA@example.org", "username": "Vera" }),
        json!({ "login": name, "email": email, "username": name }),
    ];
    for identifiers in of_vera {
        let body = with(identifiers, "password", PASSWORD);
        for path in ["/auth/login", LOGIN] {
            let reply = server.post(path, body.clone()).await.expect(StatusCode::OK);
            assert_eq!(reply.json()["data"]["user"]["username"], "vera", "{body}");
        }
    }
    let differing = [
        (json!({ "email": email, "username": "nora" }), "username"),
        (json!({ "login": "nora", "email": email }), "email"),
        (json!({ "login": name, "email": email, "username": "nora" }), "username"),
        (json!({ "login": name, "username": "nobody" }), "username"),
        (json!({ "login": email, "email": "nora@example.org" }), "email"),
    ];
    for (identifiers, second) in differing {
        let body = with(identifiers, "password", PASSWORD);
        for path in ["/auth/login", LOGIN] {
            let reply = server.post(path, body.clone()).await.expect_error(400, "VALIDATION_ERROR");
            let details = reply.json()["details"].clone();
            assert_eq!(details.as_array().map(Vec::len), Some(1), "{body}: {reply:?}");
            assert_eq!(details[0]["field"], second, "{body}: {reply:?}");
            assert_eq!(cookies(&reply), []);
        }
    }
    for path in ["/auth/login", LOGIN] {
        for none in [json!({}), json!({ "login": "", "email": " ", "username": null })] {
            let reply = server.post(path, with(none, "password", PASSWORD)).await;
            let reply = reply.expect_error(400, "VALIDATION_ERROR");
            assert_eq!(reply.json()["details"][0]["field"], "login", "{reply:?}");
        }
    }
}

async fn t160_a_cross_site_login_at_the_older_paths_sets_no_cookie(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("vera").await;
    let before = server.events().await.len();
    let login = json!({ "username": "vera", "password": PASSWORD });
    let foreign = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ];
    let new = json!({ "email": "eve@example.org", "password": PASSWORD });
    for (name, value) in foreign {
        for (path, body) in [("/auth/login", &login), ("/auth/register", &new)] {
            let request = server.request(Method::POST, path).header(name, value);
            let reply = send(request.json(body)).await.expect_error(403, "CROSS_SITE_REQUEST");
            assert_eq!(cookies(&reply), [], "{name}: {value}");
            let message = reply.json()["message"].as_str().expect("a message").to_owned();
            for fix in ["\"delivery\": \"body\"", "http://127.0.0.1:8080"] {
                assert!(message.contains(fix), "it says how to fix the request: {message}");
            }
        }
    }
    assert_eq!(server.events().await.len(), before, "no session and no account");
    // What the error proposes.
    let request = server.request(Method::POST, "/auth/login");
    let request = request.header("sec-fetch-site", "cross-site");
    let reply = send(request.json(&with(login.clone(), "delivery", "body"))).await;
    assert_eq!(cookies(&reply), []);
    server.verify(&reply.expect(StatusCode::OK).tokens().access).await.expect(StatusCode::OK);
    let request = server.request(Method::POST, "/auth/login");
    let own = send(request.header("origin", "http://127.0.0.1:8080").json(&login)).await;
    expect_cookies(&own.expect(StatusCode::OK), PLAIN, ["900", "604800"]);
}

async fn t161_differing_identifiers_are_told_to_the_password_holder_only(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("vera").await;
    let noras = "eleven green otters at noon";
    let nora = json!({ "email": "nora@example.org", "username": "nora", "password": noras });
    server.post(REGISTER, nora).await.expect(StatusCode::CREATED);
    let attempt = async |first: &str, second: &str, password: &str| {
        let before = server.app.hasher.hashes();
        let body = json!({ "email": first, "username": second, "password": password });
        let reply = server.post("/auth/login", body).await;
        let hashes = server.app.hasher.hashes() - before;
        assert_eq!(hashes, 1, "{first} {second}: the work does not tell either");
        reply
    };
    let body = |reply: Reply| {
        let mut json = reply.json();
        json["requestId"].take();
        json
    };
    // Without the first account's password, the response is the same whether the accounts exist and
    // whether they are one. The password of the second one does not help.
    let mut refused = vec![];
    for first in ["vera@example.org", "ghost@example.org"] {
        for second in ["vera", "nora", "ghost"] {
            for password in ["wrong password", noras] {
                let reply = attempt(first, second, password).await;
                refused.push(body(reply.expect_error(401, "INVALID_CREDENTIALS")));
            }
        }
    }
    refused.dedup();
    assert_eq!(refused.len(), 1, "{refused:?}");
    let ghost = attempt("ghost@example.org", "vera", PASSWORD).await;
    assert_eq!(body(ghost.expect_error(401, "INVALID_CREDENTIALS")), refused[0]);
    // With it, they learn that the second one is not theirs, and not whether it exists.
    let [other, none] = [
        attempt("vera@example.org", "nora", PASSWORD).await,
        attempt("vera@example.org", "ghost", PASSWORD).await,
    ];
    assert_eq!(
        body(other.expect_error(400, "VALIDATION_ERROR")),
        body(none.expect_error(400, "VALIDATION_ERROR"))
    );
    attempt("vera@example.org", "vera", PASSWORD).await.expect(StatusCode::OK);
}

async fn t162_a_logout_without_a_session_clears_this_sites_cookies_only(backend: Backend) {
    let server = TestServer::start(backend).await;
    let stale = format!("{}=made.up.token; {}=prt_made_up", PLAIN[0], PLAIN[1]);
    let ended = server.post("/auth/register", account()).await.expect(StatusCode::CREATED);
    let ended = jar(&ended);
    send(by_cookie(&server, Method::DELETE, "/auth/logout", &ended)).await.expect(StatusCode::OK);
    for path in LOGOUTS {
        for method in [Method::DELETE, Method::POST] {
            let bare = send(server.request(method.clone(), path)).await;
            let bare = bare.expect_error(401, "INVALID_TOKEN");
            assert_eq!(bare.header("www-authenticate"), "Bearer", "RFC 6750 §3.1");
            expect_cookies(&bare, PLAIN, ["0", "0"]);
            for jar in [&stale, &ended] {
                let reply = send(by_cookie(&server, method.clone(), path, jar)).await;
                expect_cookies(&reply.expect(StatusCode::UNAUTHORIZED), PLAIN, ["0", "0"]);
            }
            // A form of another site carries no SameSite=Lax cookie; its response must not log the
            // user out of the browser either.
            for (name, value) in
                [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")]
            {
                let request = server.request(method.clone(), path).header(name, value);
                let reply = send(request).await.expect_error(401, "INVALID_TOKEN");
                assert_eq!(cookies(&reply), [], "{method} {path} {name}");
            }
        }
    }
    // A session that may still be open keeps its cookies.
    server.app.db.close().await;
    let reply = send(by_cookie(&server, Method::DELETE, "/auth/logout", &ended)).await;
    assert_eq!(cookies(&reply.expect_error(503, "SERVICE_UNAVAILABLE")), []);
}

async fn the_older_health_check_has_a_numeric_status(backend: Backend) {
    let server = TestServer::start(backend).await;
    let expect = |reply: &Reply, status: u16, word: &str| {
        assert_eq!(reply.status.as_u16(), status, "{reply:?}");
        assert_eq!(reply.header("content-type"), "application/json");
        let health = reply.json();
        assert_eq!((&health["status"], &health["statusCode"]), (&status.into(), &status.into()));
        assert!(health["message"].as_str().is_some_and(|text| !text.is_empty()), "{health}");
        let data = &health["data"];
        assert_eq!(data["status"], word, "{health}");
        for field in ["timestamp", "uptime", "service", "version"] {
            assert!(!health[field].is_null(), "{field}: {health}");
            assert_eq!(health[field], data[field], "{field}");
        }
    };
    let reply = server.get("/auth/health").await;
    expect(&reply, 200, "ok");
    assert_eq!(reply.json()["service"], "propusk");
    server.app.db.close().await;
    let reply = server.get("/auth/health").await;
    expect(&reply, 503, "degraded");
    assert!(!reply.header("retry-after").is_empty(), "{reply:?}");
    // The other one is as it was.
    let reply = server.get("/api/v1/auth/health").await.expect(StatusCode::OK).json();
    assert_eq!(reply.get("status"), None);
    assert_eq!((&reply["statusCode"], &reply["data"]["status"]), (&200.into(), &"degraded".into()));
}

async fn first_party_tokens_carry_user_id(backend: Backend) {
    let server = TestServer::start(backend).await;
    let registered = server.register("vera").await;
    let logged_in = server.login("vera").await.tokens();
    let refreshed = server.refresh(&logged_in.refresh).await.tokens();
    for tokens in [registered, logged_in, refreshed] {
        let claims = payload(&tokens.access);
        assert!(claims["sub"].as_str().is_some_and(|sub| sub.len() == 36), "{claims}");
        assert_eq!(claims["user_id"], claims["sub"], "{claims}");
        assert_eq!(
            (&claims["email"], &claims["role"]),
            (&"vera@example.org".into(), &"user".into())
        );
    }
    // Applications get the subject only: theirs may be pairwise.
    server.client("app", first_party_app()).await;
    let mut browser = server.logged_in("vera").await;
    let request = AuthorizationRequest::of("app", "openid email");
    let response = browser.authorize(&request, "vera").await;
    let tokens = server.exchange_code("app", response.code()).await.expect(StatusCode::OK).json();
    let claims = payload(tokens["access_token"].as_str().expect("a token"));
    assert_eq!(claims.get("user_id"), None, "{claims}");
    server.client("service", web_app()).await;
    let form =
        [("grant_type", "client_credentials"), ("client_id", "service"), ("client_secret", SECRET)];
    let tokens = server.form("/oauth2/token", &form).await.expect(StatusCode::OK).json();
    let claims = payload(tokens["access_token"].as_str().expect("a token"));
    assert_eq!(claims.get("user_id"), None, "{claims}");
}

/// A server at its issuer's URL, which cookies and `Origin` are of.
async fn server_at_its_issuer() -> TestServer {
    let address = free_address();
    let issuer = format!("http://{address}");
    let settings =
        [("PROPUSK_SERVER__LISTEN", address.as_str()), ("PROPUSK_SERVER__ISSUER", issuer.as_str())];
    let database = Database::new(Backend::Sqlite).await;
    TestServer::on(database.into(), Clock::system(), &settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js: run ./dev/test"]
async fn a_client_of_the_older_service_works_unchanged() {
    let server = server_at_its_issuer().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/older_service_client.mjs");
    let output = tokio::process::Command::new("node")
        .args([script, &server.base])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("Node.js runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.trim_end().ends_with("steps passed"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_calls_of_the_migration_guide_run_verbatim() {
    let server = server_at_its_issuer().await;
    let calls = blocks(MIGRATION, "sh calls");
    assert!(calls.matches("curl ").count() >= 6, "the calls are found:\n{calls}");
    let base = server.base.clone();
    let ran =
        tokio::task::spawn_blocking(move || sh(&format!("set -eu\n{calls}"), &base, &[])).await;
    let (done, printed) = ran.expect("no panic");
    assert!(done && printed.contains("The calls are complete"), "{printed}");
}

/// The variables of the older service and the texts in code beside each, from the guide.
fn documented_variables() -> Vec<(String, Vec<String>)> {
    let (_, rest) = MIGRATION.split_once("\n## Environment\n").expect("the section");
    let section = rest.split("\n## ").next().expect("its end");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let in_code = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    rows.flat_map(|row| {
        let cells: Vec<_> = row.split('|').collect();
        let (names, instead): (Vec<String>, Vec<String>) = (in_code(cells[1]), in_code(cells[2]));
        names.into_iter().map(move |name| (name, instead.clone()))
    })
    .collect()
}

#[test]
fn t163_variables_of_the_older_service_are_reported_without_values() {
    let folder = tempfile::tempdir().expect("a folder");
    let documented = documented_variables();
    assert!(documented.len() >= 17, "{documented:?}");
    let canary = "canary-of-the-environment";
    let mut command = bare_command(folder.path());
    command.args(["config", "check"]).envs(documented.iter().map(|(name, _)| (name, canary)));
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    assert!(!text.contains(canary), "{text}");
    for (name, instead) in &documented {
        let own: Vec<_> =
            text.lines().filter(|line| line.starts_with(&format!("{name} "))).collect();
        assert_eq!(own.len(), 1, "one line about {name}: {text}");
        let key = |text: &&String| text.contains('.') && !text.contains(' ');
        for key in instead.iter().filter(key) {
            assert!(own[0].contains(key.as_str()), "{key}: {}", own[0]);
        }
    }
    // Nothing is adopted.
    let mut command = bare_command(folder.path());
    command.args(["config", "show"]).envs(documented.iter().map(|(name, _)| (name, canary)));
    let output = command.output().expect("it runs");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    assert!(text.contains("listen = \"127.0.0.1:8080\"  # default"), "{text}");
    assert!(!text.contains(canary), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t163_a_start_logs_a_warning_for_each_variable_without_counterpart() {
    let database = Database::new(Backend::Sqlite).await;
    let older = [
        ("ACCESS_TOKEN_PRIVATE_KEY", "canary-of-a-key"),
        ("DB_PASSWORD", "canary-of-a-password"),
        ("DB_HOST", ""),
        ("ACCESS_TOKEN_EXPIRES_IN", "canary-of-a-time"),
        // Their counterparts are set.
        ("REFRESH_TOKEN_EXPIRES_IN", "canary-of-a-time"),
        ("SALT_ROUNDS", "12"),
        ("GRPC_PORT", "50051"),
        ("PORT", "3000"),
        ("PROPUSK_TOKENS__REFRESH_IDLE_TTL", "2d"),
        ("PROPUSK_LOG__FORMAT", "json"),
    ];
    let server = Process::serve(&database, &older).await;
    let log = server.stderr();
    assert!(!log.contains("canary"), "{log}");
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let warned: Vec<_> = lines.filter(|line| !line["variable"].is_null()).collect();
    let named: Vec<_> = warned.iter().map(|line| (&line["variable"], &line["level"])).collect();
    let level = json!("WARN");
    let expected = ["ACCESS_TOKEN_PRIVATE_KEY", "ACCESS_TOKEN_EXPIRES_IN", "DB_PASSWORD"];
    let expected = expected.map(Value::from);
    assert_eq!(named, expected.iter().map(|name| (name, &level)).collect::<Vec<_>>(), "{log}");
    assert_eq!(warned[1]["instead"], "tokens.access_ttl");
}

#[test]
fn port_is_the_last_source_of_the_listener() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |args: &[&str], settings: &[(&str, &str)]| {
        let mut command = bare_command(folder.path());
        let output = command.env_remove("PORT").envs(settings.iter().copied()).args(args).output();
        let output = output.expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("text"))
    };
    let show = |settings: &[(&str, &str)]| {
        let (_, text) = run(&["config", "show"], settings);
        let server = text.split("[server]").nth(1).expect("a section").to_owned();
        let line = server.lines().find(|line| line.starts_with("listen = "));
        line.expect("a line").to_owned()
    };
    let issuer = ("PROPUSK_SERVER__ISSUER", "http://127.0.0.1:9000");
    let port = ("PORT", "10000");
    assert_eq!(show(&[issuer, port]), "listen = \"0.0.0.0:10000\"  # PORT");
    // Without an issuer it is ignored and reported; a start beyond loopback would be refused.
    assert_eq!(show(&[port]), "listen = \"127.0.0.1:8080\"  # default");
    let (code, text) = run(&["config", "check"], &[port]);
    assert!(code == Some(0) && text.contains("PORT ") && text.contains("server.issuer"), "{text}");
    let (code, text) = run(&["config", "check"], &[issuer, port]);
    assert!(code == Some(0) && !text.contains("PORT "), "{text}");
    // Whatever sets the key itself wins, and then PORT need not be one.
    let own = ("PROPUSK_SERVER__LISTEN", "127.0.0.1:9000");
    for port in [port, ("PORT", "rubbish")] {
        let expected = "listen = \"127.0.0.1:9000\"  # PROPUSK_SERVER__LISTEN";
        assert_eq!(show(&[issuer, port, own]), expected);
    }
    let file = folder.path().join("propusk.toml");
    std::fs::write(&file, "[server]\nlisten = \"127.0.0.1:9001\"\n").expect("written");
    assert_eq!(show(&[issuer, port]), "listen = \"127.0.0.1:9001\"  # propusk.toml");
    std::fs::remove_file(&file).expect("removed");
    for bad in ["0", "65536", "-1", "http", "tcp://10.0.0.1:80", "80 90"] {
        let (code, text) = run(&["config", "check"], &[issuer, ("PORT", bad)]);
        assert_eq!(code, Some(2), "{bad}: {text}");
        assert!(text.contains("server.listen (PORT): must be a port from 1 to 65535"), "{text}");
        assert_eq!(text.lines().count(), 2, "nothing else is wrong: {text}");
    }
    assert_eq!(show(&[issuer, ("PORT", "")]), "listen = \"127.0.0.1:8080\"  # default");
}

//! The log, and what a first start prints.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Backend, Database, PASSWORD,
    process::{Process, run},
};

const ADMIN: &str = "admin@localhost.localdomain";

/// The lines of a JSON log.
fn lines(log: &str) -> Vec<Value> {
    let line = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    log.lines().map(line).collect()
}

/// The texts of a line that are quoted within their quotes.
fn quoted_twice(line: &Value) -> Vec<&str> {
    let texts = line.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_str());
    texts.filter(|text| text.starts_with('"')).collect()
}

async fn call(base: &str, method: Method, path: &str, token: Option<&str>, body: Value) -> Value {
    let request = reqwest::Client::new().request(method, format!("{base}{path}"));
    let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
    let answer = request.json(&body).send().await.expect("an answer");
    answer.json().await.expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_log_lines_name_client_user_and_address_unquoted() {
    let database = Database::new(Backend::Sqlite).await;
    let settings = [("PROPUSK_LOG__FORMAT", "json"), ("PROPUSK_LOG__LEVEL", "debug")];
    let server = Process::serve(&database, &settings).await;
    let secret = run(&database, &[], &["client", "add", "shop", "--scope", "shop:read"]);
    let secret = String::from_utf8(secret.stdout).expect("text");
    let secret = secret.lines().find_map(|line| line.strip_prefix("secret (shown once): "));
    let base = &server.base;
    let account = json!({ "email": "vera@example.org", "password": PASSWORD });
    let register = "/api/v1/auth/register";
    let registered = call(base, Method::POST, register, None, account.clone()).await;
    let user = registered["data"]["user"]["id"].as_str().expect("an id");
    let token = registered["data"]["accessToken"].as_str().expect("a token");
    let wrong = json!({ "login": "vera@example.org", "password": "wrong" });
    call(base, Method::POST, "/api/v1/auth/login", None, wrong).await;
    call(base, Method::GET, "/api/v1/auth/verify", Some(token), json!({})).await;
    call(base, Method::GET, "/api/v1/auth/verify", Some("\"rubbish\""), json!({})).await;
    let issued = reqwest::Client::new()
        .post(format!("{base}/oauth2/token"))
        .basic_auth("shop", secret)
        .form(&[("grant_type", "client_credentials")])
        .send();
    assert!(issued.await.expect("an answer").status().is_success());
    call(base, Method::GET, "/nowhere/\"quoted\"", None, json!({})).await;

    let log = lines(&server.stderr());
    assert!(server.terminate().await.success());
    for line in &log {
        assert!(quoted_twice(line).is_empty(), "{line}");
    }
    let requests = |path: &str| {
        let of_path = log.iter().filter(|line| line["path"] == path).collect::<Vec<_>>();
        assert!(!of_path.is_empty(), "{path} is in the log");
        of_path
    };
    for line in log.iter().filter(|line| line.get("method").is_some()) {
        assert_eq!(line["address"], "127.0.0.1", "{line}");
    }
    assert_eq!(requests(register)[0]["subject"], user);
    let refused = requests("/api/v1/auth/login")[0];
    assert_eq!((&refused["subject"], &refused["message"]), (&user.into(), &"refused".into()));
    let verified = requests("/api/v1/auth/verify");
    assert_eq!(
        (&verified[0]["subject"], &verified[0]["client_id"]),
        (&user.into(), &"propusk".into())
    );
    assert_eq!(verified[1].get("subject"), None, "an invalid token identifies nobody");
    let token = requests("/oauth2/token")[0];
    assert_eq!((&token["client_id"], token.get("subject")), (&"shop".into(), None), "{token}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_json_logs_nothing_is_printed_and_no_secret_is_shown() {
    let database = Database::new(Backend::Sqlite).await;
    let server = Process::serve(&database, &[("PROPUSK_LOG__FORMAT", "json")]).await;
    assert_eq!(server.stdout(), "");
    let log = lines(&server.stderr());
    let created = log.iter().find(|line| line["admin"] == ADMIN).expect("it says how to get in");
    let message = created["message"].as_str().expect("text");
    assert!(message.contains("propusk user set-password"), "{message}");
    // What the line says works, beside the running server.
    let output = run(&database, &[], &["user", "set-password", ADMIN]);
    let output = String::from_utf8(output.stdout).expect("text");
    let password = output.lines().find_map(|line| line.strip_prefix("password (shown once): "));
    let login = json!({ "login": ADMIN, "password": password.expect("a password") });
    let answer = call(&server.base, Method::POST, "/api/v1/auth/login", None, login).await;
    assert_eq!(answer["data"]["user"]["role"], "admin", "{answer}");

    // For a terminal, the credentials are printed.
    let database = Database::new(Backend::Sqlite).await;
    let server = Process::serve(&database, &[]).await;
    let printed = server.stdout();
    let line = printed.lines().find(|line| line.contains(ADMIN)).expect("the administrator");
    let password = line.rsplit(' ').next().expect("a password");
    assert!(printed.contains("/.well-known/openid-configuration"), "{printed}");
    assert!(!server.stderr().contains(password), "the log has no password");
    let login = json!({ "login": ADMIN, "password": password });
    let answer = call(&server.base, Method::POST, "/api/v1/auth/login", None, login).await;
    assert_eq!(answer["data"]["user"]["role"], "admin", "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_administrators_password_comes_from_a_file() {
    let database = Database::new(Backend::Sqlite).await;
    let file = database.folder.path().join("admin-password");
    std::fs::write(&file, format!("{PASSWORD}\n")).expect("written");
    let setting = ("PROPUSK_BOOTSTRAP__ADMIN_PASSWORD_FILE", file.to_str().expect("text"));
    for format in ["human", "json"] {
        let database = Database::new(Backend::Sqlite).await;
        let server = Process::serve(&database, &[setting, ("PROPUSK_LOG__FORMAT", format)]).await;
        for (place, text) in [("standard output", server.stdout()), ("the log", server.stderr())] {
            assert!(!text.contains(PASSWORD), "{place}: {text}");
        }
        let login = json!({ "login": ADMIN, "password": PASSWORD });
        let answer = call(&server.base, Method::POST, "/api/v1/auth/login", None, login).await;
        assert_eq!(answer["data"]["user"]["role"], "admin", "{answer}");
    }

    std::fs::write(&file, "secret\n").expect("written");
    let output = run(&database, &[setting, ("PROPUSK_SERVER__LISTEN", "127.0.0.1:0")], &["serve"]);
    let error = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("bootstrap.admin_password_file"), "{error}");
}

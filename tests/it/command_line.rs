//! The command line: what an operator types, and the errors they see.

use std::{
    process::{Output, Stdio},
    sync::Arc,
};

use propusk::clock::Clock;
use reqwest::StatusCode;
use serde_json::Value;

use crate::support::{
    Backend, Database, TestServer, backend_tests,
    oauth::{AuthorizationRequest, AuthorizationResponse, CALLBACK, VERIFIER},
    process::{Process, bare_command, command, free_address, run, set_up},
    send,
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_fails(output: &Output, code: i32, says: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for message in says {
        assert!(stderr.contains(message), "{message:?} is not in: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[track_caller]
fn assert_does(output: &Output, says: &[&str]) -> String {
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "nothing is logged");
    // The columns of tables are padded.
    let words: Vec<_> = stdout.split(' ').filter(|word| !word.is_empty()).collect();
    let words = words.join(" ");
    for message in says {
        assert!(words.contains(message), "{message:?} is not in: {stdout}");
    }
    stdout
}

#[test]
fn every_command_has_help() {
    let folder = tempfile::tempdir().expect("a folder");
    for (args, says) in [
        (
            &["--help"][..],
            &[
                "serve",
                "migrate",
                "move",
                "config",
                "keys",
                "user",
                "client",
                "resource",
                "scope",
                "session",
                "audit",
                "openapi",
                "health",
                "--config",
                "Exit codes",
            ][..],
        ),
        (&["keys", "--help"], &["list", "show", "import", "rotate", "ban"]),
        (
            &["user", "--help"],
            &[
                "add",
                "import",
                "list",
                "disable",
                "enable",
                "delete",
                "set-password",
                "set-role",
                "withdraw-consent",
            ],
        ),
        (
            &["client", "--help"],
            &["add", "list", "show", "set", "rotate-secret", "remove", "disable", "invite"],
        ),
        (&["resource", "--help"], &["add", "list", "remove"]),
        (&["scope", "--help"], &["describe", "list", "remove"]),
        (&["config", "--help"], &["show", "check", "default"]),
        (&["keys", "rotate", "--help"], &["--algorithm", "--now"]),
        (&["--version"], &[env!("CARGO_PKG_VERSION")]),
    ] {
        let output = bare_command(folder.path()).args(args).output().expect("it runs");
        assert_does(&output, says);
    }
    let output = bare_command(folder.path()).arg("dance").output().expect("it runs");
    assert_fails(&output, 2, &["dance"]);
}

#[test]
fn t108_only_the_env_file_of_the_working_folder_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let inside = folder.path().join("project");
    std::fs::create_dir(&inside).expect("a folder");
    std::fs::write(folder.path().join(".env"), "PROPUSK_TOKENS__ACCESS_TTL=7m\n").expect("written");
    let shown = |folder| {
        let output = bare_command(folder).args(["config", "show"]).output().expect("it runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert!(shown(folder.path()).contains("access_ttl = \"7m\"  # PROPUSK_TOKENS__ACCESS_TTL"));
    assert!(shown(&inside).contains("access_ttl = \"15m\"  # default"));
    // A folder of that name, such as a Python environment, is none.
    std::fs::create_dir(inside.join(".env")).expect("a folder");
    assert!(shown(&inside).contains("access_ttl = \"15m\"  # default"));
}

#[test]
fn a_configuration_error_names_key_location_and_fix() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mine.toml");
    let serve = |toml: &str, settings: &[(&str, &str)]| {
        std::fs::write(&file, toml).expect("written");
        let mut command = bare_command(folder.path());
        command.envs(settings.iter().copied()).arg("--config").arg(&file).arg("serve");
        command.output().expect("it runs")
    };
    assert_fails(
        &serve("[server]\nlisten_on = \"127.0.0.1:1\"\n", &[]),
        2,
        &["server.listen_on", "mine.toml", "server.listen"],
    );
    assert_fails(
        &serve("[tokens]\naccess_ttl = 15\n", &[]),
        2,
        &["tokens.access_ttl", "mine.toml"],
    );
    assert_fails(&serve("[server\n", &[]), 2, &["mine.toml"]);
    assert_fails(
        &serve("", &[("PROPUSK_SERVER__LISTN", "127.0.0.1:1")]),
        2,
        &["PROPUSK_SERVER__LISTN", "PROPUSK_SERVER__LISTEN"],
    );
    let public = [
        ("PROPUSK_SERVER__ISSUER", "http://id.example.org"),
        ("PROPUSK_SERVER__LISTEN", "127.0.0.1:0"),
    ];
    assert_fails(&serve("", &public), 2, &["server.issuer", "https"]);
    let no_key = [
        ("PROPUSK_SERVER__ISSUER", "https://id.example.org"),
        ("PROPUSK_SERVER__LISTEN", "127.0.0.1:0"),
    ];
    assert_fails(&serve("", &no_key), 2, &["secrets.master_key_file", "head -c 32 /dev/urandom"]);
    let missing = bare_command(folder.path())
        .args(["--config", "nowhere.toml", "serve"])
        .output()
        .expect("it runs");
    assert_fails(&missing, 2, &["nowhere.toml"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_start_says_what_to_fix() {
    let database = Database::new(Backend::Sqlite).await;
    let taken = Process::serve(&database, &[]).await;
    let address = taken.base.strip_prefix("http://").expect("an address");
    let output = run(&database, &[("PROPUSK_SERVER__LISTEN", address)], &["serve"]);
    assert_fails(&output, 1, &[address, "in use", "server.listen"]);

    let away = format!("postgres://nobody:canary@{}/none", free_address());
    let output = run(&database, &[("PROPUSK_DATABASE__URL", &away)], &["serve"]);
    assert_fails(&output, 1, &["database.url", "cannot be opened", "Connection refused"]);
    assert!(!text(&output.stderr).contains("canary"), "the password is not shown");

    let output = run(&database, &[("PROPUSK_DATA_DIR", "/dev/null/data")], &["serve"]);
    assert_fails(&output, 1, &["/dev/null/data", "data_dir"]);

    let fresh = Database::new(Backend::Sqlite).await;
    let output = run(&fresh, &[("PROPUSK_DATABASE__MIGRATE_AT_START", "false")], &["serve"]);
    assert_fails(&output, 1, &["propusk migrate"]);
    let output = run(&fresh, &[("PROPUSK_DATABASE__MIGRATE_AT_START", "false")], &["keys", "list"]);
    assert_fails(&output, 1, &["propusk migrate"]);
    assert_does(&run(&fresh, &[], &["migrate"]), &["up to date"]);
    assert_does(&run(&fresh, &[], &["migrate"]), &["up to date"]);
}

backend_tests! {
    an_added_client_works_and_its_settings_are_printed,
    the_cli_manages_users,
    the_cli_manages_signing_keys,
    the_cli_lists_and_revokes_sessions_and_shows_the_audit_log,
    every_list_is_one_table_and_one_json_array,
}

#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_str(&assert_does(output, &[])).expect("JSON")
}

async fn the_cli_lists_and_revokes_sessions_and_shows_the_audit_log(backend: Backend) {
    // The command reads the system's clock, so the server's begins there.
    let database = Database::prepared_by_system_time(backend).await;
    let server = TestServer::on(Arc::new(database), Clock::fake(Clock::system().now()), &[]).await;
    let propusk = |args: &[&str]| run(&server.database, &[], args);
    let vera = server.register("vera").await;
    let nora = server.register("nora").await;
    let listed = json(&propusk(&["session", "list", "--json"]));
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    let listed = json(&propusk(&["session", "list", "--user", "vera", "--json"]));
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    let id = listed[0]["id"].as_str().expect("an id").to_owned();
    let admin = server.admin("root").await;
    let api = server.get_as(&format!("/api/v1/admin/sessions/{id}"), &admin.token).await;
    assert_eq!(api.json()["data"], listed[0], "the JSON of the admin API");
    assert_eq!(json(&propusk(&["session", "show", &id, "--json"])), listed[0]);
    assert_does(&propusk(&["session", "show", &id]), &["clientId propusk"]);

    assert_does(&propusk(&["session", "revoke", &id]), &["revoked session"]);
    server.verify(&vera.access).await.expect_error(401, "INVALID_TOKEN");
    server.verify(&nora.access).await.expect(StatusCode::OK);
    let args = ["session", "list", "--all", "--user", "vera", "--client", "propusk"];
    assert_does(&propusk(&args), &["ID SUBJECT CLIENT STATE", &id, "propusk revoked"]);
    assert_fails(&propusk(&["session", "revoke", "x"]), 1, &["see `propusk session list`"]);
    assert_fails(&propusk(&["session", "list", "--user", "nobody"]), 1, &["there is no user"]);

    let revoked = ["audit", "list", "--action", "session.end", "--json"];
    let entries = json(&propusk(&revoked));
    assert_eq!((&entries[0]["actor"], entries.as_array().map(Vec::len)), (&"cli".into(), Some(1)));
    let path = "/api/v1/admin/audit?action=session.end";
    let api = server.get_as(path, &admin.token).await.json();
    assert_eq!(api["data"]["items"], entries, "the JSON of the admin API");
    let table = assert_does(&propusk(&["audit", "list", "--limit", "2"]), &["NUMBER AT ACTION"]);
    assert_eq!(table.lines().count(), 3, "{table}");
    let later = ["audit", "list", "--from", "2999-01-01T00:00:00Z", "--json"];
    assert_eq!(json(&propusk(&later)), serde_json::json!([]));
}

async fn every_list_is_one_table_and_one_json_array(backend: Backend) {
    let database = Database::new(backend).await;
    let propusk = |args: &[&str]| run(&database, &[], args);
    assert_does(&propusk(&["migrate"]), &[]);
    assert_does(&propusk(&["user", "add", "vera@example.org", "--username", "vera"]), &[]);
    let resource = ["resource", "add", "https://api.example/", "--name", "The API"];
    assert_does(&propusk(&resource), &[]);
    assert_does(&propusk(&["scope", "describe", "api:read", "--en", "Read your things"]), &[]);
    let module = ["module", "add", "crm", "--name", "en=Customers", "--scope", "crm:read"];
    assert_does(&propusk(&module), &[]);
    assert_does(&propusk(&["module", "grant", "vera", "crm"]), &[]);
    for (list, expected) in [
        (&["keys", "list"][..], "refresh-chain"),
        (&["user", "list"], "vera@example.org"),
        (&["client", "list"], "propusk"),
        (&["resource", "list"], "https://api.example/"),
        (&["scope", "list"], "api:read"),
        (&["module", "list"], "crm"),
        (&["module", "history", "vera"], "crm"),
        (&["role", "list"], "admin"),
        (&["audit", "list"], "module.put"),
        (&["session", "list"], ""),
    ] {
        let table = assert_does(&propusk(list), &[]);
        let header = table.lines().next().expect("a header");
        assert_eq!(header, header.to_uppercase(), "{list:?}");
        // Each cell begins below its heading.
        let is_start =
            |at: &usize| header[..*at].ends_with("  ") && !header[*at..].starts_with(' ');
        let starts: Vec<usize> = (1..header.len()).filter(is_start).collect();
        for line in table.lines().skip(1) {
            let line: Vec<char> = line.chars().collect();
            for &at in starts.iter().filter(|&&at| at < line.len()) {
                let begins = line[at - 1] == ' ';
                assert!(begins, "{list:?}, column {at}:\n{table}");
            }
        }
        assert!(table.contains(expected), "{table}");
        let items = json(&propusk(&[list, &["--json"]].concat()));
        assert_eq!(items.as_array().map(Vec::len), Some(table.lines().count() - 1), "{items}");
        assert!(items.to_string().contains(expected), "{items}");
    }
}

async fn an_added_client_works_and_its_settings_are_printed(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let issuer = server.app.config.server.issuer.clone();
    let add = |args: &[&str]| {
        let args = [&["client", "add"][..], args].concat();
        assert_does(&run(&server.database, &[], &args), &[])
    };
    // As short as it gets: a user can log in to it.
    let added = add(&["shop", "--name", "The Shop", "--redirect-uri", CALLBACK]);
    for line in [
        format!("issuer:                 {issuer}"),
        format!("metadata:               {issuer}/.well-known/openid-configuration"),
        format!("authorization endpoint: {issuer}/oauth2/authorize"),
        format!("token endpoint:         {issuer}/oauth2/token"),
        format!("OIDC_ISSUER={issuer}"),
        "OIDC_CLIENT_ID=shop".to_owned(),
        format!("OIDC_REDIRECT_URI={CALLBACK}"),
        "OIDC_SCOPE=\"openid profile email offline_access\"".to_owned(),
    ] {
        assert!(added.lines().any(|printed| printed == line), "{line} is not in: {added}");
    }
    let secret = added.lines().find_map(|line| line.strip_prefix("OIDC_CLIENT_SECRET="));
    let secret = secret.expect("the secret");
    assert!(added.contains(&format!("secret (shown once): {secret}\n")), "{added}");
    let request = AuthorizationRequest::of("shop", "openid email offline_access");
    let answer = server.browser().authorize(&request, "ann").await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", answer.code()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    let exchange = server.request(reqwest::Method::POST, "/oauth2/token");
    let reply = send(exchange.basic_auth("shop", Some(secret)).form(&form)).await;
    let reply = reply.expect(reqwest::StatusCode::OK);
    assert_eq!(reply.json()["scope"], "openid email offline_access");

    let public =
        add(&["spa", "--public", "--redirect-uri", CALLBACK, "--grant", "authorization_code"]);
    assert!(public.contains("OIDC_SCOPE=\"openid profile email\"\n"), "{public}");
    assert!(!public.contains("SECRET"), "{public}");
    let service = add(&["robot", "--scope", "api:read"]);
    assert!(service.contains("curl -u 'robot:") && !service.contains("OIDC"), "{service}");
    // One without a scope, as it may be in an older database: the error says what to do.
    server.change_client("spa", |client| client.metadata.scope = Default::default()).await;
    let reply = server.browser().open(&AuthorizationRequest::of("spa", "openid").path()).await;
    let answer = AuthorizationResponse::of(reply.header("location"));
    answer.expect_error("invalid_scope");
    assert!(
        answer.fields["error_description"].contains("propusk client set ID --scope"),
        "{answer:?}"
    );
}

async fn the_cli_manages_users(backend: Backend) {
    let database = Database::new(backend).await;
    set_up(&database);
    let propusk = |args: &[&str]| run(&database, &[], args);
    assert_fails(
        &propusk(&["user", "add", "vera@example.org", "--role", "editor"]),
        1,
        &["no such role"],
    );
    assert_does(
        &propusk(&["role", "add", "editor", "--description", "Writes."]),
        &["saved role editor"],
    );
    let added = assert_does(
        &propusk(&["user", "add", "vera@example.org", "--username", "vera", "--role", "editor"]),
        &["added user vera@example.org", "shown once"],
    );
    assert!(
        added.lines().any(|line| line.starts_with("password (shown once): ") && line.len() > 40),
        "{added}"
    );
    assert_fails(
        &propusk(&["user", "add", "VERA@example.org"]),
        1,
        &["email address exists already"],
    );
    assert_fails(&propusk(&["user", "add", "nonsense"]), 1, &["email"]);
    assert_fails(
        &propusk(&["user", "add", "a@b.c", "--role", "Big Boss"]),
        2,
        &["a role name has"],
    );
    assert_does(&propusk(&["user", "list"]), &["vera@example.org", "editor", "enabled"]);
    assert_does(&propusk(&["user", "disable", "vera"]), &["disabled user vera@example.org"]);
    assert_does(&propusk(&["user", "list"]), &["disabled"]);
    assert_does(&propusk(&["user", "enable", "vera@example.org"]), &["enabled user"]);
    assert_fails(&propusk(&["role", "remove", "editor"]), 1, &["the role is in use"]);
    assert_does(
        &propusk(&["user", "set-role", "vera", "admin"]),
        &["changed the role of vera@example.org to admin"],
    );
    assert_does(&propusk(&["role", "remove", "editor"]), &["removed role editor"]);
    assert_does(&propusk(&["role", "list"]), &["admin 1", "user 0"]);
    assert_does(
        &propusk(&[
            "module",
            "add",
            "crm",
            "--name",
            "en=Customers",
            "--scope",
            "crm:read",
            "--self-service",
        ]),
        &["added module crm"],
    );
    assert_fails(
        &propusk(&["module", "add", "crm", "--name", "en=Customers", "--scope", "crm:read"]),
        1,
        &["module set"],
    );
    assert_fails(
        &propusk(&["module", "add", "bad", "--name", "en=Bad", "--scope", "openid"]),
        1,
        &["scope", "openid"],
    );
    assert_does(
        &propusk(&["module", "set", "crm", "--description", "en=All of them"]),
        &["changed module crm"],
    );
    assert_does(&propusk(&["module", "list"]), &["crm Customers users - crm:read"]);
    assert_does(
        &propusk(&["module", "grant", "vera", "crm", "--until", "2999-01-01T00:00:00Z"]),
        &["granted module crm to vera@example.org until 2999-01-01"],
    );
    assert_fails(
        &propusk(&["module", "grant", "vera", "crm", "--until", "2001-01-01T00:00:00Z"]),
        1,
        &["must be in the future"],
    );
    assert_fails(&propusk(&["module", "grant", "vera", "nothing"]), 1, &["no such module"]);
    assert_does(&propusk(&["module", "history", "vera"]), &["crm ", "2999-01-01T00:00:00Z cli -"]);
    assert_does(&propusk(&["module", "withdraw", "vera", "crm"]), &["withdrew module crm"]);
    assert_does(&propusk(&["module", "history", "vera"]), &["cli cli"]);
    assert_does(&propusk(&["module", "remove", "crm"]), &["removed module crm"]);
    assert_does(
        &propusk(&["user", "set-password", "vera"]),
        &["changed the password", "shown once"],
    );
    assert_fails(&propusk(&["user", "disable", "nobody"]), 1, &["there is no user"]);

    let with_stdin = |args: &[&str], typed: &str| {
        use std::io::Write;
        let mut child = command(&database, &[])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        child.stdin.take().expect("stdin").write_all(typed.as_bytes()).expect("typed");
        child.wait_with_output().expect("it ends")
    };
    let output = with_stdin(
        &["user", "set-password", "vera", "--password-stdin"],
        "seven blue herons at dawn\n",
    );
    let message = assert_does(&output, &["changed the password"]);
    assert!(!message.contains("herons"), "{message}");
    assert_fails(
        &with_stdin(&["user", "set-password", "vera", "--password-stdin"], "short\n"),
        1,
        &["password"],
    );

    for last in [
        &["user", "delete", "vera"][..],
        &["user", "disable", "vera"],
        &["user", "set-role", "vera", "user"],
    ] {
        assert_fails(&propusk(last), 1, &["last enabled administrator"]);
    }
    assert_does(&propusk(&["user", "add", "nora@example.org", "--role", "admin"]), &["added"]);
    assert_does(&propusk(&["user", "delete", "vera"]), &["deleted user vera@example.org"]);
    assert_fails(&propusk(&["user", "delete", "vera"]), 1, &["there is no user"]);
    assert!(!assert_does(&propusk(&["user", "list"]), &["nora@example.org"]).contains("vera"));
}

async fn the_cli_manages_signing_keys(backend: Backend) {
    let database = Database::new(backend).await;
    set_up(&database);
    let propusk = |args: &[&str]| run(&database, &[], args);
    let kid = |listed: &str, state: &str| {
        let line = listed.lines().find(|line| line.contains("ES256") && line.contains(state));
        line.and_then(|line| line.split_whitespace().next()).map(str::to_owned)
    };
    let listed = assert_does(&propusk(&["keys", "list"]), &["ES256", "refresh-chain", "active"]);
    let first = kid(&listed, "active").expect("an active key");
    let listed = assert_does(&propusk(&["keys", "rotate"]), &["next"]);
    assert_eq!(kid(&listed, "active").as_ref(), Some(&first), "the next key is only published yet");
    let listed =
        assert_does(&propusk(&["keys", "rotate", "--now", "--algorithm", "es256"]), &["retired"]);
    let second = kid(&listed, "active").expect("an active key");
    assert_ne!(second, first);
    let message = assert_does(
        &propusk(&["keys", "ban", &second]),
        &["every process rejects tokens", "banned"],
    );
    let third = kid(&message, "active").expect("another signs at once");
    assert!(third != second && third != first);
    assert_fails(&propusk(&["keys", "ban", &second]), 1, &["already banned"]);
    assert_fails(
        &propusk(&["keys", "ban", "-nothing"]),
        1,
        &["no key has the id -nothing", "keys list"],
    );
    assert_fails(&propusk(&["keys", "rotate", "--algorithm", "PS256"]), 1, &["keys.algorithms"]);
    assert_fails(&propusk(&["keys", "rotate", "--algorithm", "HS256"]), 2, &["ES256"]);
}

#[test]
fn config_check_reports_every_kind_of_mistake_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("propusk.toml"),
        "[server]\nlisten_on = \"127.0.0.1:1\"\nmax_connections = \"many\"\n[tokens]\naccess_ttl = \"2h\"\n",
    )
    .expect("written");
    let mut command = bare_command(folder.path());
    command
        .env("PROPUSK_LOG__LEVEL", "warning")
        .env("PROPUSK_KEYS__ROTATE_EVERY", "soon")
        .env("PROPUSK_CLIENTS__FILE", "/nowhere/clients.toml")
        .args(["config", "check"]);
    let output = command.output().expect("it runs");
    assert_fails(
        &output,
        2,
        &[
            "server.listen_on (propusk.toml): unknown key",
            "server.max_connections (propusk.toml): must be an integer",
            "tokens.access_ttl (propusk.toml): must be from 1m to 1h",
            "log.level (PROPUSK_LOG__LEVEL): `warning` is not a level: use warn",
            "keys.rotate_every (PROPUSK_KEYS__ROTATE_EVERY)",
            "clients.file (PROPUSK_CLIENTS__FILE): file not found",
        ],
    );
    // Nothing follows from a value that could not be read.
    let stderr = text(&output.stderr);
    assert_eq!(stderr.matches("keys.rotate_every").count(), 1, "{stderr}");
    assert_eq!(stderr.lines().count(), 7, "{stderr}");
}

#[test]
fn config_show_masks_passwords() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = |args: &[&str]| {
        let mut command = bare_command(folder.path());
        command
            .env("PROPUSK_DATABASE__URL", "postgres://propusk:canary@127.0.0.1/propusk")
            .args(args);
        command.output().expect("it runs")
    };
    let shown = assert_does(&config(&["config", "show"]), &["access_ttl", "PROPUSK_DATABASE__URL"]);
    assert!(!shown.contains("canary"), "{shown}");
    assert_does(&config(&["config", "check"]), &["the configuration is valid"]);
    assert_does(&config(&["config", "default"]), &["access_ttl = \"15m\""]);
    assert_does(&config(&["openapi", "--json"]), &["\"openapi\": \"3.0.0\""]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_command_queries_the_running_server() {
    let database = Database::new(Backend::Sqlite).await;
    let metrics = free_address();
    let settings = [("PROPUSK_METRICS__LISTEN", metrics.as_str())];
    assert_fails(&run(&database, &settings, &["health"]), 1, &["cannot reach the server"]);
    let server = Process::serve(&database, &settings).await;
    assert_does(&run(&database, &settings, &["health"]), &["ready"]);
    let text = reqwest::get(format!("http://{metrics}/metrics"))
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    for name in [
        "propusk_logins_total",
        "propusk_refreshes_total",
        "propusk_database_pool_size",
        "propusk_http_request_duration_seconds",
    ] {
        assert!(text.contains(name), "{name} is not in: {text}");
    }
    drop(server);
}

#[test]
fn a_client_command_that_says_nothing_is_a_usage_error() {
    let folder = tempfile::tempdir().expect("a folder");
    for (args, says) in [
        (&["client", "add"][..], "--redirect-uri"),
        (&["client", "set", "shop"], "a setting to change"),
    ] {
        let output = bare_command(folder.path()).args(args).output().expect("it runs");
        assert_fails(&output, 2, &[says, "--help"]);
    }
    let left = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 0, "nothing was created");
}

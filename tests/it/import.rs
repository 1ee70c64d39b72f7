//! `propusk user import`: accounts of other systems, by the binary, logged in by the JSON API.

use std::{
    io::Write,
    process::{Child, ChildStdin, Output, Stdio},
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use openssl::{hash::MessageDigest, pkcs5};
use propusk::{
    clock::Clock,
    flows::admin::users,
    grpc::proto::v1::{FindUserRequest, GetUserRequest, User, find_user_request::Login},
    model::actor::Actor,
    storage::Statement,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    Backend, Database, PASSWORD, Reply, TestServer, backend_tests,
    documentation::run_commands_on,
    grpc::GrpcCaller,
    oauth::web_app,
    process::{Process, command, peak_memory, run},
};

/// A server whose clock stands at the present: commands read the system's.
async fn server(backend: Backend) -> TestServer {
    let database = Database::prepared_by_system_time(backend).await;
    let settings = [("PROPUSK_GRPC__LISTEN", "127.0.0.1:0")];
    TestServer::on(Arc::new(database), Clock::fake(Clock::system().now()), &settings).await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes a file into the folder of the database, and imports it.
fn import(database: &Database, format: &str, content: &str, args: &[&str]) -> Output {
    let file = database.folder.path().join("import");
    std::fs::write(&file, content).expect("written");
    let file = file.to_str().expect("a path");
    run(database, &[], &[&["user", "import", "--format", format, file], args].concat())
}

#[track_caller]
fn assert_imports(output: &Output, says: &str) {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && stdout.contains(says), "{says}: {stdout}{stderr}");
    assert_eq!(stderr, "", "no progress and no log where there is no terminal");
}

#[track_caller]
fn assert_refuses(output: &Output, code: i32, says: &[&str]) {
    let all = text(&[&output.stdout[..], &output.stderr].concat());
    assert_eq!(output.status.code(), Some(code), "{all}");
    for message in says {
        assert!(all.contains(message), "{message:?} is not in: {all}");
    }
    assert!(!all.contains("panicked"), "{all}");
}

async fn login(server: &TestServer, name: &str, password: &str) -> Reply {
    let body = json!({ "login": name, "password": password });
    server.post("/api/v1/auth/login", body).await
}

async fn column(server: &TestServer, email: &str, sql: &'static str) -> String {
    let rows = server.app.db.read(Statement::new(sql).bind(email)).await.expect("rows");
    rows[0].get("value").expect("a text")
}

async fn stored_hash(server: &TestServer, email: &str) -> String {
    let sql = "SELECT password_hash AS value FROM users WHERE email_canonical = $1";
    column(server, email, sql).await
}

async fn count(server: &TestServer, sql: &'static str) -> i64 {
    let rows = server.app.db.read(Statement::new(sql)).await.expect("rows");
    rows[0].get("n").expect("a number")
}

const USERS: &str = "SELECT COUNT(*) AS n FROM users WHERE external_id IS NOT NULL";
const EVENTS: &str = "SELECT COUNT(*) AS n FROM outbox WHERE type = 'user.created'";
const AUDITED: &str = "SELECT COUNT(*) AS n FROM audit_log WHERE action = 'user.import'";

/// bcrypt as other systems write it, at the lowest cost.
fn bcrypt(variant: &str, password: &str) -> String {
    let mut key = [password.as_bytes(), b"\0"].concat();
    key.truncate(72);
    let hash = bcrypt::bcrypt(4, *b"sixteen bytes ok", &key);
    let alphabet = base64::alphabet::BCRYPT;
    let engine =
        base64::engine::GeneralPurpose::new(&alphabet, base64::engine::general_purpose::NO_PAD);
    let (salt, hash) = (engine.encode(b"sixteen bytes ok"), engine.encode(&hash[..23]));
    format!("${variant}$04${salt}{hash}")
}

fn pbkdf2(digest: MessageDigest, length: usize, password: &str) -> String {
    let mut hash = vec![0; length];
    pkcs5::pbkdf2_hmac(password.as_bytes(), b"sodium chloride!", 1_000, digest, &mut hash)
        .expect("a hash");
    BASE64_STANDARD.encode(hash)
}

fn salt() -> String {
    BASE64_STANDARD.encode("sodium chloride!")
}

/// `credentials` of a realm export, whose parts are JSON in texts.
fn keycloak_credential(algorithm: &str, hash: &str, additional: Value) -> Value {
    let iterations = if algorithm == "argon2" { 1 } else { 1_000 };
    let secret = json!({ "value": hash, "salt": salt(), "additionalParameters": {} });
    let data = json!({ "hashIterations": iterations, "algorithm": algorithm, "additionalParameters": additional });
    json!([
        { "type": "otp", "secretData": "{}", "credentialData": "{}" },
        {
            "id": "b1a9", "type": "password", "createdDate": 1_700_000_000_000_u64,
            "secretData": secret.to_string(), "credentialData": data.to_string(),
        },
    ])
}

/// A realm as `kc.sh export` writes it, cut to what says how it is built.
fn keycloak_realm() -> String {
    let user = |id: &str, name: &str, email: &str, credentials: Value| {
        json!({
            "id": id, "username": name, "email": email, "emailVerified": true, "enabled": true,
            "createdTimestamp": 1_700_000_000_000_u64, "totp": false, "credentials": credentials,
            "requiredActions": [], "realmRoles": ["default-roles-shop"], "notBefore": 0, "groups": [],
        })
    };
    let argon2 = argon2::Argon2::new(
        argon2::Algorithm::Argon2id,
        argon2::Version::V0x13,
        argon2::Params::new(64, 1, 1, Some(32)).expect("parameters"),
    );
    let mut hash = [0; 32];
    argon2.hash_password_into(PASSWORD.as_bytes(), b"sodium chloride!", &mut hash).expect("a hash");
    let parameters = json!({ "hashLength": ["32"], "memory": ["64"], "type": ["id"], "version": ["1.3"], "parallelism": ["1"] });
    let sha1 = pbkdf2(MessageDigest::sha1(), 64, PASSWORD);
    let sha256 = pbkdf2(MessageDigest::sha256(), 64, PASSWORD);
    let sha512 = pbkdf2(MessageDigest::sha512(), 64, PASSWORD);
    let mut disabled = user(
        "kc-4",
        "kc4",
        "kc4@example.org",
        keycloak_credential("pbkdf2-sha512", &sha512, json!({})),
    );
    disabled["enabled"] = false.into();
    json!({
        "id": "shop", "realm": "shop", "roles": { "realm": [{ "name": "admin", "users": ["no"] }] },
        "users": [
            user("kc-1", "kc1", "kc1@example.org", keycloak_credential("pbkdf2", &sha1, json!({}))),
            user("kc-2", "kc2@example.org", "kc2@example.org", keycloak_credential("pbkdf2-sha256", &sha256, json!({}))),
            user("kc-3", "kc3", "kc3@example.org", keycloak_credential("argon2", &BASE64_STANDARD.encode(hash), parameters)),
            disabled,
            { "id": "kc-5", "username": "service-account-shop", "serviceAccountClientId": "shop", "enabled": true },
        ],
        "clients": [{ "clientId": "shop" }],
    })
    .to_string()
}

backend_tests! {
    profiles_are_imported_of_the_claims_in_use,
    every_format_is_imported_and_logs_in,
    a_second_import_changes_nothing,
    refused_users_do_not_stop_the_others,
    a_killed_import_continues,
    two_imports_at_once_import_every_user_once,
    an_import_has_bounded_memory,
    an_external_id_finds_the_user_and_is_in_events,
    two_first_logins_at_once_both_succeed,
    t155_an_unknown_login_takes_the_work_of_its_neighbour,
    t156_a_file_makes_no_administrator,
    t157_a_concurrent_password_change_is_not_lost,
    a_broken_file_is_imported_up_to_the_fault,
}

async fn every_format_is_imported_and_logs_in(backend: Backend) {
    let server = server(backend).await;
    let database = Arc::clone(&server.database);

    // The table of the older service.
    let table = format!(
        "\u{feff}id,username,email,password_hash,is_verified,createdAt,updatedAt\r\n\
         1,csv1,csv1@example.org,{},true,2024-02-29 12:00:00,2024-03-01 08:30:00\r\n\
         2,,csv2@example.org,{},0,2024-02-29T12:00:00Z,\r\n\
         3,\"csv3\",Csv3@Example.org,{},f,1709208000,1709208000000\r\n",
        bcrypt("2b", PASSWORD),
        bcrypt("2a", PASSWORD),
        bcrypt("2y", PASSWORD),
    );
    assert_imports(&import(&database, "csv", &table, &[]), "3 read: 3 imported");

    let argon2 = "$argon2i$v=19$m=64,t=1,p=1$c29kaXVtIGNobG9yaWRlIQ$";
    let mut hash = [0; 32];
    argon2::Argon2::new(
        argon2::Algorithm::Argon2i,
        argon2::Version::V0x13,
        argon2::Params::new(64, 1, 1, Some(32)).expect("parameters"),
    )
    .hash_password_into(PASSWORD.as_bytes(), b"sodium chloride!", &mut hash)
    .expect("a hash");
    let b64 = |text: &str| text.trim_end_matches('=').to_owned();
    let array = json!([
        { "id": 11, "email": "json1@example.org", "passwordHash": format!("{argon2}{}", b64(&BASE64_STANDARD.encode(hash))), "isVerified": true },
        { "id": "12", "email": "json2@example.org", "password_hash": format!("$pbkdf2-sha512$i=1000,l=64${}${}", b64(&salt()), b64(&pbkdf2(MessageDigest::sha512(), 64, PASSWORD))) },
        { "id": "13", "email": "json3@example.org", "password_hash": format!("pbkdf2_sha256$1000$sodium chloride!${}", pbkdf2(MessageDigest::sha256(), 32, PASSWORD)) },
    ]);
    let pretty = serde_json::to_string_pretty(&array).expect("JSON");
    assert_imports(&import(&database, "json", &pretty, &[]), "3 read: 3 imported");

    let mut scrypt = [0; 64];
    pkcs5::scrypt(PASSWORD.as_bytes(), b"sodium chloride!", 1_024, 8, 1, 1 << 30, &mut scrypt)
        .expect("a hash");
    let scrypt = BASE64_STANDARD.encode(scrypt);
    let lines = format!(
        "{}\n\n{}\n",
        json!({ "id": "14", "email": "json4@example.org", "password_hash": format!("$scrypt$ln=10,r=8,p=1${}${}", b64(&salt()), b64(&scrypt)) }),
        json!({ "id": "15", "email": "json5@example.org", "password_hash": bcrypt("2b", PASSWORD), "disabled": true }),
    );
    assert_imports(&import(&database, "json", &lines, &[]), "2 read: 2 imported");

    let keycloak = import(&database, "keycloak", &keycloak_realm(), &[]);
    assert_refuses(&keycloak, 1, &["5 read: 4 imported", "1 refused", "record 5: email: missing"]);

    let auth0 = format!(
        "{}\n{}\n{}\n",
        json!({ "_id": { "$oid": "60425dc43519d90068f82973" }, "email_verified": true, "email": "auth1@example.org", "passwordHash": bcrypt("2b", PASSWORD), "password_set_date": { "$date": "2021-03-05T16:34:49.502Z" }, "tenant": "shop", "connection": "Username-Password-Authentication", "_tmp_is_unique": true }),
        json!({ "user_id": "auth0|two", "email": "auth2@example.org", "custom_password_hash": { "algorithm": "scrypt", "hash": { "value": scrypt, "encoding": "base64" }, "salt": { "value": "sodium chloride!", "encoding": "utf8" }, "keylen": 64, "cost": 1_024, "blockSize": 8, "parallelization": 1 } }),
        json!({ "user_id": "auth0|three", "email": "auth3@example.org", "custom_password_hash": { "algorithm": "md5", "hash": { "value": "5f4dcc3b5aa765d61d8327deb882cf99", "encoding": "hex" } } }),
    );
    let auth0 = import(&database, "auth0", &auth0, &[]);
    assert_refuses(
        &auth0,
        1,
        &["3 read: 2 imported", "line 3, record 3: password_hash: not a hash by"],
    );

    // The published vector of Firebase's modified scrypt.
    let config = "hash_config {\n  algorithm: SCRYPT,\n  base64_signer_key: jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==,\n  base64_salt_separator: Bw==,\n  rounds: 8,\n  mem_cost: 14,\n}\n";
    let parameters = database.folder.path().join("hash_config");
    std::fs::write(&parameters, config).expect("written");
    std::fs::set_permissions(&parameters, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("a mode");
    let export = json!({ "users": [
        { "localId": "fire-1", "email": "fire1@example.org", "emailVerified": true, "passwordHash": "lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==", "salt": "42xEC+ixf3L2lw==", "createdAt": "1700000000000", "lastSignedInAt": "1700000000000", "providerUserInfo": [] },
        { "localId": "fire-2", "email": "fire2@example.org", "emailVerified": true, "providerUserInfo": [{ "providerId": "google.com" }] },
    ] })
    .to_string();
    assert_refuses(&import(&database, "firebase", &export, &[]), 2, &["--firebase-hash-config"]);
    let parameters = parameters.to_str().expect("a path");
    let args = ["--firebase-hash-config", parameters, "--allow-no-password"];
    assert_imports(&import(&database, "firebase", &export, &args), "2 read: 2 imported");
    login(&server, "fire2@example.org", "!").await.expect_error(401, "INVALID_CREDENTIALS");

    let names = [
        "csv1", "csv2", "csv3", "json1", "json2", "json3", "json4", "kc1", "kc2", "kc3", "auth1",
        "auth2", "fire1",
    ];
    for name in names {
        let email = format!("{name}@example.org");
        let password = if name == "fire1" { "user1password" } else { PASSWORD };
        let before = stored_hash(&server, &email).await;
        assert!(!before.starts_with("$argon2id"), "{name}: {before}");
        login(&server, &email, "wrong").await.expect_error(401, "INVALID_CREDENTIALS");
        assert_eq!(stored_hash(&server, &email).await, before, "a wrong password changes nothing");
        login(&server, &email, password).await.expect(StatusCode::OK);
        let after = stored_hash(&server, &email).await;
        assert!(after.starts_with("$argon2id$v=19$"), "{name}: {after}");
        login(&server, &email, password).await.expect(StatusCode::OK);
        assert_eq!(stored_hash(&server, &email).await, after, "replaced once");
        login(&server, &email, "wrong").await.expect_error(401, "INVALID_CREDENTIALS");
    }
    login(&server, "csv1", PASSWORD).await.expect(StatusCode::OK);
    for disabled in ["json5@example.org", "kc4@example.org"] {
        login(&server, disabled, PASSWORD).await.expect_error(401, "INVALID_CREDENTIALS");
    }
    let vera = users::find(&server.app, "csv1").await.expect("known");
    assert_eq!(vera.created_at.rfc3339(), "2024-02-29T12:00:00Z");
    assert!(vera.is_verified && vera.role.as_str() == "user");
    assert!(!users::find(&server.app, "csv2@example.org").await.expect("known").is_verified);
    let kc2 = users::find(&server.app, "kc2@example.org").await.expect("known");
    assert_eq!(kc2.username, None, "an address is no username");
}

async fn a_second_import_changes_nothing(backend: Backend) {
    let server = server(backend).await;
    let database = &server.database;
    let line = |id: u32, name: &str, email: &str| {
        format!(
            "{}\n",
            json!({ "id": id, "username": name, "email": email, "password_hash": bcrypt("2b", PASSWORD) })
        )
    };
    let file = line(1, "vera", "vera@example.org") + &line(2, "nora", "nora@example.org");
    let dry = import(database, "json", &file, &["--dry-run"]);
    assert_imports(&dry, "2 read: 2 can be imported");
    assert_eq!(count(&server, USERS).await, 0);
    let first = import(database, "json", &file, &[]);
    assert_imports(&first, "2 read: 2 imported, 0 unchanged (the email address exists), 0 refused");
    let before = stored_hash(&server, "vera@example.org").await;
    let state = async || {
        (count(&server, USERS).await, count(&server, EVENTS).await, count(&server, AUDITED).await)
    };
    let counts = state().await;
    assert_eq!(counts, (2, 2, 1), "an event each, and one audit entry");
    let changed = line(1, "other", "VERA@example.org").replace("$2b$", "$2y$");
    let again = import(database, "json", &(changed + &line(2, "nora", "nora@example.org")), &[]);
    assert_imports(&again, "2 read: 0 imported, 2 unchanged");
    assert_eq!(state().await, counts);
    assert_eq!(stored_hash(&server, "vera@example.org").await, before);
    let silent = import(database, "json", &line(3, "zoe", "zoe@example.org"), &["--no-events"]);
    assert_imports(&silent, "1 imported");
    assert_eq!(state().await, (3, 2, 2));
}

async fn refused_users_do_not_stop_the_others(backend: Backend) {
    let server = server(backend).await;
    let database = &server.database;
    server.register("taken").await;
    let good = bcrypt("2b", PASSWORD);
    let table = [
        "id,username,email,password_hash,created_at".to_owned(),
        format!("1,one,one@example.org,{good},"),
        format!("2,two,no-address,{good},"),
        format!("3,t,three@example.org,{good},"),
        format!("4,taken,four@example.org,{good},"),
        format!("5,ONE,five@example.org,{good},"),
        format!("6,six,One@example.org,{good},"),
        format!("1,seven,seven@example.org,{good},"),
        "8,eight,eight@example.org,5f4dcc3b5aa765d61d8327deb882cf99,".to_owned(),
        "9,nine,nine@example.org,$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW,"
            .to_owned(),
        "10,ten,ten@example.org,,".to_owned(),
        format!("11,eleven,eleven@example.org,{good},2999-01-01 00:00:00"),
        format!("12,twelve,twelve@example.org,{good}"),
        format!("13,\"thir\nteen\",x@example.org,{good},"),
        format!("14,fourteen,fourteen@example.org,{good},"),
    ]
    .join("\n");
    let report = database.folder.path().join("refused.jsonl");
    let args = ["--report", report.to_str().expect("a path")];
    let output = import(database, "csv", &table, &args);
    assert_refuses(&output, 1, &["14 read: 2 imported, 0 unchanged", "12 refused"]);
    let report = std::fs::read_to_string(&report).expect("a report");
    let lines = report.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let mut lines: Vec<Value> = lines.collect();
    lines.sort_by_key(|line| line["line"].as_u64());
    let fields: Vec<(u64, &str)> = lines
        .iter()
        .map(|line| {
            (line["line"].as_u64().expect("a line"), line["field"].as_str().expect("a field"))
        })
        .collect();
    assert_eq!(
        fields,
        [
            (3, "email"),
            (4, "username"),
            (5, "username"),
            (6, "username"),
            (7, "email"),
            (8, "id"),
            (9, "password_hash"),
            (10, "password_hash"),
            (11, "password_hash"),
            (12, "created_at"),
            (13, "record"),
            (14, "username"),
        ],
        "{report}"
    );
    for secret in ["5f4dcc3b5aa7", "E5YPO9kmyuRG", "eight@", "no-address", &good[..20]] {
        assert!(!report.contains(secret), "{secret}: {report}");
    }
    assert!(
        report.contains("repeats that of record 1") && report.contains("excessive"),
        "{report}"
    );
    for name in ["one", "fourteen"] {
        login(&server, name, PASSWORD).await.expect(StatusCode::OK);
    }
    // One address in the old system's two spellings, in two batches.
    let again = format!("id,email,password_hash\n99,ONE@example.org,{good}\n");
    assert_refuses(
        &import(database, "csv", &again, &[]),
        1,
        &["email: belongs to a user with another id"],
    );
    let nowhere = run(database, &[], &["user", "import", "--format", "csv", "/nowhere"]);
    assert_refuses(&nowhere, 2, &["/nowhere"]);
    let headless = import(database, "csv", "1,2,3\n", &[]);
    assert_refuses(&headless, 1, &["the first line must name the columns"]);
}

async fn a_broken_file_is_imported_up_to_the_fault(backend: Backend) {
    let server = server(backend).await;
    let database = &server.database;
    let user = |id: u32| json!({ "id": id, "email": format!("u{id}@example.org"), "password_hash": bcrypt("2b", PASSWORD) });
    let cut = format!("[{},\n{},\n{{\"id\": 3, \"email", user(1), user(2));
    let output = import(database, "json", &cut, &[]);
    assert_refuses(&output, 1, &["2 read: 2 imported", "line 3: it ends early", "run it again"]);
    // A line that is none is one refused user; a huge one is not held.
    let lines = format!("{}\n{{\"id\":\n[1]\n{}\n{}\n", user(4), "x".repeat(3 << 20), user(5));
    let output = import(database, "json", &lines, &[]);
    assert_refuses(
        &output,
        1,
        &["5 read: 2 imported", "line 2", "line 3", "line 4, record 4: record: longer than"],
    );
    let huge = format!("[{},{{\"x\":\"{}\"}}]", user(6), "x".repeat(3 << 20));
    let output = import(database, "json", &huge, &[]);
    assert_refuses(&output, 1, &["1 read: 1 imported", "longer than"]);
    let unclosed =
        format!("id,email,password_hash\n7,\"u7@example.org,\n{}", "x,\n".repeat(1 << 20));
    let output = import(database, "csv", &unclosed, &[]);
    assert_refuses(&output, 1, &["is a quote unclosed?"]);
    assert_eq!(count(&server, USERS).await, 5);
}

/// An import that reads from a pipe, and so ends when the test closes it.
fn spawn(database: &Database, format: &str) -> (Child, ChildStdin) {
    let mut child = command(database, &[])
        .args(["user", "import", "--format", format, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let stdin = child.stdin.take().expect("stdin");
    (child, stdin)
}

fn lines(numbers: std::ops::Range<u32>, padding: usize) -> Vec<String> {
    let (hash, padding) = (bcrypt("2b", PASSWORD), "x".repeat(padding));
    let line = |id: u32| {
        json!({ "id": id, "username": format!("user{id}"), "email": format!("user{id}@example.org"), "password_hash": hash, "attributes": { "padding": padding } }).to_string()
    };
    numbers.map(line).collect()
}

/// Polls: another process cannot be awaited otherwise.
async fn wait_for(server: &TestServer, users: i64) {
    for _ in 0..6_000 {
        if count(server, USERS).await >= users {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{users} users are not imported after a minute");
}

async fn a_killed_import_continues(backend: Backend) {
    let server = server(backend).await;
    let all = lines(0..5_500, 0).join("\n") + "\n";
    let (mut child, mut stdin) = spawn(&server.database, "json");
    // The last batch is not full: the import waits for the rest of it when it is killed.
    stdin.write_all(all.as_bytes()).expect("written");
    wait_for(&server, 3_000).await;
    child.kill().expect("killed");
    child.wait().expect("gone");
    drop(stdin);
    let before = count(&server, USERS).await;
    assert!((3_000..5_500).contains(&before) && before % 1_000 == 0, "whole batches: {before}");
    assert_eq!(count(&server, EVENTS).await, before, "an event for each of them");
    let output = import(&server.database, "json", &all, &[]);
    assert_imports(&output, &format!("5500 read: {} imported, {before} unchanged", 5_500 - before));
    assert_eq!((count(&server, USERS).await, count(&server, EVENTS).await), (5_500, 5_500));
    assert_eq!(count(&server, AUDITED).await, 6, "one entry per batch");
    login(&server, "user5499", PASSWORD).await.expect(StatusCode::OK);
}

async fn two_imports_at_once_import_every_user_once(backend: Backend) {
    let server = server(backend).await;
    let all = lines(0..4_200, 0).join("\n") + "\n";
    let pair = [spawn(&server.database, "json"), spawn(&server.database, "json")];
    let outputs = pair.map(|(child, mut stdin)| {
        let all = all.clone();
        std::thread::spawn(move || {
            stdin.write_all(all.as_bytes()).expect("written");
            drop(stdin);
            child.wait_with_output().expect("it ends")
        })
    });
    let mut imported = 0;
    for output in outputs {
        let output = output.join().expect("a thread");
        assert_imports(&output, "4200 read: ");
        let stdout = text(&output.stdout);
        assert!(stdout.contains(" 0 refused"), "{stdout}");
        let count = stdout.split(' ').nth(2).and_then(|count| count.parse::<i64>().ok());
        imported += count.expect("a number");
    }
    assert_eq!(imported, 4_200);
    assert_eq!((count(&server, USERS).await, count(&server, EVENTS).await), (4_200, 4_200));
}

async fn an_import_has_bounded_memory(backend: Backend) {
    const USERS_OF_FILE: u32 = 20_000;
    let server = server(backend).await;
    // One line of 44 MB, with an array of 4 MB in front.
    let (child, mut stdin) = spawn(&server.database, "keycloak");
    let peak = || peak_memory(child.id()).expect("a peak");
    let credentials = keycloak_credential(
        "pbkdf2-sha256",
        &pbkdf2(MessageDigest::sha256(), 64, PASSWORD),
        json!({}),
    );
    let user = |id: u32| {
        json!({ "id": format!("id-{id}"), "username": format!("user{id}"), "email": format!("user{id}@example.org"), "enabled": true, "credentials": credentials, "attributes": { "about": ["x".repeat(1_500)] } }).to_string()
    };
    let head = format!("{{\"realm\":\"shop\",\"groups\":[{}0],\"users\":[", "1,".repeat(2 << 20));
    stdin.write_all(head.as_bytes()).expect("written");
    let first: Vec<String> = (0..2_000).map(user).collect();
    stdin.write_all(first.join(",").as_bytes()).expect("written");
    wait_for(&server, 2_000).await;
    let early = peak();
    for start in (2_000..USERS_OF_FILE).step_by(1_000) {
        let users: Vec<String> = (start..start + 1_000).map(user).collect();
        stdin.write_all(format!(",{}", users.join(",")).as_bytes()).expect("written");
    }
    wait_for(&server, USERS_OF_FILE.into()).await;
    let late = peak();
    stdin.write_all(b"],\"clients\":[]}").expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert_imports(&output, "20000 read: 20000 imported");
    assert!(late < early + 16 * 1024, "{early} KiB after 2,000 users, {late} after 20,000");
}

async fn find(caller: &GrpcCaller, login: Login) -> Result<User, tonic::Status> {
    let answer = caller.users().find(FindUserRequest { login: Some(login) }).await?;
    Ok(answer.into_inner())
}

async fn an_external_id_finds_the_user_and_is_in_events(backend: Backend) {
    let server = server(backend).await;
    let scope = propusk::oauth::scope::Scope::parse("propusk:users").expect("a scope");
    let metadata = propusk::model::client::Metadata { scope, ..web_app() };
    server.client("backend", metadata).await;
    let caller = server.client_caller("backend", "propusk:users").await;
    let file = json!([{ "id": 17, "email": "vera@example.org", "username": "vera", "password_hash": bcrypt("2b", PASSWORD) }]);
    assert_imports(&import(&server.database, "json", &file.to_string(), &[]), "1 imported");
    let vera = find(&caller, Login::ExternalId("17".to_owned())).await.expect("found");
    assert_eq!(
        (vera.external_id.as_deref(), vera.email.as_str()),
        (Some("17"), "vera@example.org")
    );
    let tokens = login(&server, "vera", PASSWORD).await.expect(StatusCode::OK).tokens();
    let verified = server.verify(&tokens.access).await.expect(StatusCode::OK).json();
    assert_eq!(verified["data"]["user"]["id"], vera.id.as_str(), "`sub` is the UUID");
    let by_id = caller.users().get(GetUserRequest { id: vera.id.clone() }).await.expect("found");
    assert_eq!(by_id.into_inner(), vera);
    let by_name = find(&caller, Login::Username("Vera".to_owned())).await.expect("found");
    assert_eq!(by_name, vera);
    for unknown in ["18", "", "1", "17\0"] {
        let found = find(&caller, Login::ExternalId(unknown.to_owned())).await;
        assert_eq!(found.expect_err("none").code(), tonic::Code::NotFound, "{unknown:?}");
    }
    let admin = server.admin("root").await;
    let listed = admin.all("/users?externalId=17").await;
    assert_eq!((listed.len(), &listed[0]["externalId"]), (1, &json!("17")));
    let path = format!("/users/{}", vera.id);
    assert_eq!(admin.get(&path).await.data()["externalId"], "17");
    admin
        .patch(&path, json!({ "username": "vera2", "role": "admin" }))
        .await
        .expect(StatusCode::OK);
    admin.delete(&path).await.expect(StatusCode::OK);
    let events = server.events().await;
    let of_vera = events
        .iter()
        .filter(|(kind, data)| kind.starts_with("user.") && data["userId"] == vera.id.as_str());
    let kinds: Vec<&str> = of_vera
        .map(|(kind, data)| {
            assert_eq!(data["externalId"], "17", "{kind}");
            kind.as_str()
        })
        .collect();
    assert_eq!(kinds, ["user.created", "user.updated", "user.role_changed", "user.deleted"]);
    // Users who were not imported have none.
    let root =
        events.iter().find(|(kind, data)| kind == "user.created" && data["username"] == "root");
    assert_eq!(root.expect("an event").1.get("externalId"), None);
}

async fn two_first_logins_at_once_both_succeed(backend: Backend) {
    let server = server(backend).await;
    for round in 0..5 {
        let email = format!("vera{round}@example.org");
        let file = json!([{ "email": email, "password_hash": bcrypt("2b", PASSWORD) }]).to_string();
        assert_imports(&import(&server.database, "json", &file, &[]), "1 imported");
        let (one, other) =
            tokio::join!(login(&server, &email, PASSWORD), login(&server, &email, PASSWORD));
        one.expect(StatusCode::OK);
        other.expect(StatusCode::OK);
        assert!(stored_hash(&server, &email).await.starts_with("$argon2id"));
    }
}

/// What `explain` says of a refused login.
async fn hash_of(server: &TestServer, admin: &str, name: &str) -> (String, String) {
    let reply = login(server, name, "wrong").await.expect_error(401, "INVALID_CREDENTIALS");
    let id = reply.header("x-request-id");
    let explained = server.get_as(&format!("/api/v1/admin/explain/{id}"), admin).await;
    let diagnostics = explained.expect(StatusCode::OK).json()["data"]["diagnostics"].clone();
    let text = |name: &str| diagnostics[name].as_str().expect("recorded").to_owned();
    (text("login.account"), text("login.hash"))
}

async fn t155_an_unknown_login_takes_the_work_of_its_neighbour(backend: Backend) {
    let server = server(backend).await;
    let admin = server.admin("root").await;
    let of = |hash: &str| (String::from("unknown"), hash.to_owned());
    let known = |hash: &str| (String::from("known"), hash.to_owned());
    assert_eq!(hash_of(&server, &admin.token, "user7@example.org").await, of("argon2"));
    let file = lines(0..50, 0).join("\n");
    assert_imports(&import(&server.database, "json", &file, &[]), "50 imported");
    for (name, hash) in [
        ("user7@example.org", known("bcrypt")),
        ("user7", known("bcrypt")),
        ("root", known("argon2")),
        ("user7x@example.org", of("bcrypt")),
        ("user7x", of("bcrypt")),
        // Nobody comes after this one: the work of a new hash.
        ("zzz@example.org", of("argon2")),
        ("not\0possible", of("argon2")),
    ] {
        assert_eq!(hash_of(&server, &admin.token, name).await, hash, "{name:?}");
    }
    // An unknown login is refused whatever its neighbour's password is.
    login(&server, "user7x", PASSWORD).await.expect_error(401, "INVALID_CREDENTIALS");
    // A neighbour's hash that cannot be used is no failure of an unknown login.
    let broken =
        Statement::new("UPDATE users SET password_hash = 'broken' WHERE username = 'user8'");
    server.app.db.write(broken).await.expect("changed");
    login(&server, "user7zz", "wrong").await.expect_error(401, "INVALID_CREDENTIALS");
}

async fn t156_a_file_makes_no_administrator(backend: Backend) {
    let server = server(backend).await;
    let database = &server.database;
    let user = |name: &str, role: &str| {
        json!({ "email": format!("{name}@example.org"), "role": role, "password_hash": bcrypt("2b", PASSWORD) }).to_string() + "\n"
    };
    let file = user("vera", "admin") + &user("nora", "editor") + &user("zoe", "user");
    let role = async |name: &str| {
        let found = users::find(&server.app, &format!("{name}@example.org")).await;
        found.map(|user| user.role.as_str().to_owned()).ok()
    };
    let refused = import(database, "json", &file, &["--roles-from-file"]);
    assert_refuses(
        &refused,
        1,
        &["record 1: role: administrators", "record 2: role: there is no such role", "1 imported"],
    );
    assert_eq!((role("vera").await, role("zoe").await.as_deref()), (None, Some("user")));
    let all = ["--role", "admin"];
    assert_refuses(&import(database, "json", &file, &all), 1, &["--allow-admins"]);
    assert_refuses(&import(database, "json", &file, &["--role", "nobody"]), 1, &["no such role"]);
    assert_refuses(
        &import(database, "keycloak", "{}", &["--roles-from-file"]),
        2,
        &["json or csv"],
    );
    assert_eq!(role("vera").await, None);
    // Without the flag the column is not looked at.
    assert_imports(&import(database, "json", &file, &[]), "2 imported, 1 unchanged");
    assert_eq!(role("vera").await.as_deref(), Some("user"));
    let boss = user("boss", "admin");
    assert_imports(
        &import(database, "json", &boss, &["--roles-from-file", "--allow-admins"]),
        "1 imported",
    );
    assert_eq!(role("boss").await.as_deref(), Some("admin"));
}

async fn t157_a_concurrent_password_change_is_not_lost(backend: Backend) {
    const NEW: &str = "eleven green lanterns by the sea";
    let server = server(backend).await;
    for round in 0..8 {
        let email = format!("vera{round}@example.org");
        let file = json!([{ "email": email, "password_hash": bcrypt("2b", PASSWORD) }]).to_string();
        assert_imports(&import(&server.database, "json", &file, &[]), "1 imported");
        let id = users::find(&server.app, &email).await.expect("known").id;
        let by = Actor::operator();
        let (changed, _) = tokio::join!(
            users::set_password(&server.app, &id, NEW, &by),
            login(&server, &email, PASSWORD)
        );
        changed.expect("changed");
        login(&server, &email, NEW).await.expect(StatusCode::OK);
        login(&server, &email, PASSWORD).await.expect_error(401, "INVALID_CREDENTIALS");
    }
}

async fn profiles_are_imported_of_the_claims_in_use(backend: Backend) {
    let server = server(backend).await;
    let database = &server.database;
    let stored = async |email: &str| {
        let sql = "SELECT p.claims AS value FROM profiles p JOIN users u ON u.id = p.user_id \
                   WHERE u.email_canonical = $1";
        serde_json::from_str::<Value>(&column(&server, email, sql).await).expect("JSON")
    };
    let without_password = ["--allow-no-password"];
    let json = json!([
        { "email": "ann@example.org", "name": "Ann Brown", "locale": "EN", "gender": "female" },
        { "email": "bob@example.org" },
        { "email": "eve@example.org", "picture": "javascript:alert(1)" },
    ]);
    let imported = import(database, "json", &json.to_string(), &without_password);
    assert_refuses(&imported, 1, &["picture", "2 imported", "1 refused"]);
    assert_eq!(stored("ann@example.org").await, json!({ "name": "Ann Brown", "locale": "en" }));
    let csv = "email,givenName,zoneinfo\njoe@example.org,Joe,Europe/Paris\n";
    assert_imports(&import(database, "csv", csv, &without_password), "1 imported");
    let joe = json!({ "given_name": "Joe", "zoneinfo": "Europe/Paris" });
    assert_eq!(stored("joe@example.org").await, joe);
    let user = |email: &str| {
        json!({ "users": [{
            "email": email, "enabled": true, "firstName": "Vera", "lastName": "Brown",
            "attributes": { "locale": ["pt-br"], "gender": ["female"], "street": ["Main Street 1"] },
        }] })
    };
    let realm = user("vera@example.org").to_string();
    assert_imports(&import(database, "keycloak", &realm, &without_password), "1 imported");
    let vera = json!({
        "name": "Vera Brown", "given_name": "Vera", "family_name": "Brown", "locale": "pt-BR",
    });
    assert_eq!(stored("vera@example.org").await, vera);
    let realm = user("zoe@example.org").to_string();
    let none = ["--allow-no-password", "--no-profiles"];
    assert_imports(&import(database, "keycloak", &realm, &none), "1 imported");
    assert_eq!(count(&server, "SELECT COUNT(*) AS n FROM profiles").await, 3);
}

/// The example of docs/import.md, as a reader would copy it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_the_import_page_runs_verbatim() {
    let page = include_str!("../../docs/import.md");
    let (_, rest) = page.split_once("```sh example\n").expect("an example");
    let example = rest.split_once("\n```").expect("its end").0;
    let database = Database::new(Backend::Sqlite).await;
    let process = Process::serve(&database, &[]).await;
    let output = run_commands_on(&database, &[("BASE", &process.base)], example);
    for printed in [
        "3 read: 2 can be imported, 0 unchanged (the email address exists), 1 refused",
        "3 read: 2 imported, 0 unchanged (the email address exists), 1 refused",
        "\"field\":\"email\"",
        "\"accessToken\"",
    ] {
        assert!(output.contains(printed), "{printed} is not in: {output}");
    }
}

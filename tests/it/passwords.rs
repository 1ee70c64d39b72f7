//! One rule for passwords, wherever one is set: what one transport accepts, all accept.

use std::{
    io::Write,
    process::{Output, Stdio},
};

use propusk::grpc::proto::v1::CreateUserRequest;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tonic::Code;

use crate::support::{
    Backend, Reply, TestServer, admin::AdminApi, grpc::GrpcCaller, oauth::web_app,
    process::command, send,
};

/// A password, in which `NAME` is the user's name, and whether every transport accepts it.
const PASSWORDS: [(&str, bool); 17] = [
    ("seven blue herons at dawn", true),
    ("sunny-kettle-42-orbit", true),
    ("пароль от старого сарая", true),
    ("  spaced  kettle  orbit  ", true),
    ("cafe\u{301} kettle \u{fb03} orbit", true),
    ("\u{1f511} kettle % & + = orbit", true),
    ("\"quoted\" <kettle> \\ orbit", true),
    ("", false),
    ("zq7#x", false),
    ("password1", false),
    ("NAME@example.org", false),
    ("NAME", false),
    ("sunny\tkettle orbit 42", false),
    ("sunny\rkettle orbit 42", false),
    ("sunny\0kettle orbit 42", false),
    ("sunny\u{85}kettle orbit 42", false),
    ("sunny\u{fffd}kettle orbit 42", false),
];

/// Where a password is set.
struct Doors<'a> {
    server: &'a TestServer,
    admin: AdminApi<'a>,
    service: GrpcCaller,
}

const DOORS: [&str; 7] = [
    "JSON API",
    "page",
    "admin API, new user",
    "admin API, password",
    "gRPC",
    "command line, new user",
    "command line, password",
];

impl Doors<'_> {
    /// Sets the password of the new user `name`; whether it was accepted.
    async fn accepts(&self, door: &str, name: &str, password: &str) -> bool {
        let email = format!("{name}@example.org");
        let account = json!({ "email": email, "username": name, "password": password });
        match door {
            "JSON API" => {
                let reply = self.server.post("/api/v1/auth/register", account).await;
                settled(&reply, StatusCode::CREATED)
            }
            "page" => {
                let mut browser = self.server.browser();
                let page = browser.open("/register").await;
                let typed = [("email", email.as_str()), ("username", name), ("password", password)];
                let reply = browser.submit(&page, &typed).await;
                settled(&reply, StatusCode::SEE_OTHER)
            }
            "admin API, new user" => {
                settled(&self.admin.post("/users", account).await, StatusCode::CREATED)
            }
            "admin API, password" => {
                let made = self.admin.post("/users", json!({ "email": email, "username": name }));
                let made = made.await.expect(StatusCode::CREATED).json();
                let id = made["data"]["user"]["id"].as_str().or(made["data"]["id"].as_str());
                let path = format!("/users/{}/password", id.expect("an id"));
                let body = json!({ "password": password });
                let request = self.admin.request(Method::POST, &path).json(&body);
                settled(&send(request).await, StatusCode::OK)
            }
            "gRPC" => {
                let username = name.to_owned();
                let user = CreateUserRequest { email, username, password: password.to_owned() };
                match self.service.users().create(user).await {
                    Ok(_) => true,
                    Err(status) => {
                        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
                        false
                    }
                }
            }
            "command line, new user" => {
                let args = ["user", "add", &email, "--username", name, "--password-stdin"];
                self.run(&args, password)
            }
            "command line, password" => {
                self.server.post("/api/v1/auth/register", json!({ "email": email, "username": name, "password": "an earlier one of herons" }))
                    .await
                    .expect(StatusCode::CREATED);
                self.run(&["user", "set-password", name, "--password-stdin"], password)
            }
            other => panic!("no transport {other}"),
        }
    }

    fn run(&self, args: &[&str], password: &str) -> bool {
        let mut child = command(&self.server.database, &[])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut stdin = child.stdin.take().expect("stdin");
        stdin.write_all(format!("{password}\n").as_bytes()).expect("typed");
        drop(stdin);
        let output: Output = child.wait_with_output().expect("it ends");
        let message = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => true,
            Some(1) if message.contains("password:") => false,
            _ => panic!("{output:?}"),
        }
    }
}

/// Whether it succeeded; otherwise it was refused for the password.
#[track_caller]
fn settled(reply: &Reply, success: StatusCode) -> bool {
    if reply.status == success {
        return true;
    }
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{reply:?}");
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_transport_accepts_the_same_passwords() {
    let server = TestServer::with_grpc(Backend::Sqlite, &[]).await;
    let admin = server.admin("boss").await;
    let scope = propusk::oauth::scope::Scope::parse("propusk:users").expect("a scope");
    server.client("backend", propusk::model::client::Metadata { scope, ..web_app() }).await;
    let service = server.client_caller("backend", "propusk:users").await;
    let doors = Doors { server: &server, admin, service };
    let longest = "sunny-kettle-42-orbit ".repeat(46) + "0123456789ab";
    let too_long = format!("{longest}c");
    let all = PASSWORDS.into_iter().chain([(longest.as_str(), true), (too_long.as_str(), false)]);
    for (at, (password, is_accepted)) in all.enumerate() {
        for (number, door) in DOORS.into_iter().enumerate() {
            let name = format!("heronkeeper{at}x{number}");
            let password = password.replace("NAME", &name);
            let accepted = doors.accepts(door, &name, &password).await;
            assert_eq!(accepted, is_accepted, "{password:?} by {door}");
            if accepted {
                log_in(&server, &name, &password).await;
            }
        }
    }
}

/// Logs in by both transports that take a password.
async fn log_in(server: &TestServer, name: &str, password: &str) {
    let body = json!({ "login": name, "password": password });
    server.post("/api/v1/auth/login", body).await.expect(StatusCode::OK);
    let mut browser = server.browser();
    let page = browser.open("/login").await;
    let typed = [("login", name), ("password", password)];
    browser.submit(&page, &typed).await.expect(StatusCode::SEE_OTHER);
}

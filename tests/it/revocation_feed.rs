//! The revocation feed: a local verifier refuses a revoked token at once.

use std::{collections::HashSet, time::Duration};

use propusk::{
    flows::admin::clients,
    model::{
        actor::Actor,
        client::{GrantType, Metadata},
        revocation::NewRevocation,
    },
    oauth::{
        jwt::{TokenType, Unverified},
        scope::Scope,
    },
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Backend, Reply, START, TestServer, backend_tests,
    oauth::{header, payload},
    send,
};

const FEED: &str = "/oauth2/revocations";

/// A token for the feed.
async fn gateway(server: &TestServer) -> String {
    let metadata = Metadata {
        client_name: "A gateway".to_owned(),
        scope: Scope::parse("propusk:revocations").expect("a scope"),
        grant_types: vec![GrantType::ClientCredentials],
        ..Metadata::default()
    };
    let by = Actor::operator();
    let added = clients::create(&server.app, Some("gateway".into()), metadata, None, &by).await;
    let secret = added.expect("added").resource.1.expect("a secret");
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "gateway"),
        ("client_secret", &secret),
    ];
    server.form("/oauth2/token", &form).await.expect(StatusCode::OK).field("access_token")
}

async fn read(server: &TestServer, query: &str, token: &str) -> Reply {
    server.get_as(&format!("{FEED}{query}"), token).await
}

/// Logs in and out; returns the session id.
async fn log_out(server: &TestServer) -> String {
    let token = server.login("ann").await.tokens().access;
    server.post_as("/api/v1/auth/logout", &token).await.expect(StatusCode::OK);
    payload(&token)["sid"].as_str().expect("a session").to_owned()
}

/// A follower as in another language: it implements docs/revocation-feed.md and nothing else.
pub struct LocalVerifier {
    answer: reqwest::Response,
    text: String,
    number: i64,
    sessions: HashSet<String>,
    scopes: HashSet<(String, String, i64)>,
}

impl LocalVerifier {
    pub async fn follow(server: &TestServer, query: &str, token: &str) -> Self {
        let request = server.request(Method::GET, &format!("{FEED}{query}")).bearer_auth(token);
        let answer = request.header("accept", "text/event-stream").send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self {
            answer,
            text: String::new(),
            number: -1,
            sessions: HashSet::new(),
            scopes: HashSet::new(),
        }
    }

    /// The next event's name and data; `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, String)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let line = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
                };
                let event = line("event: ").zip(line("data: "));
                self.text = rest.to_owned();
                match event {
                    Some(event) => return Some(event),
                    None => continue, // a heartbeat
                }
            }
            let chunk = self.answer.chunk().await.expect("the stream is readable")?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    }

    /// Applies the next event.
    async fn apply_next(&mut self) {
        let (event, data) = self.next().await.expect("an event");
        let list = match event.as_str() {
            "snapshot" => {
                self.sessions.clear();
                payload(&data)
            }
            "delta" => {
                let delta: Value = serde_json::from_str(&data).expect("JSON");
                assert_eq!(delta["from"], self.number, "no gap");
                delta
            }
            other => panic!("{other}"),
        };
        self.number = list.get("to").unwrap_or(&list["number"]).as_i64().expect("a number");
        for entry in list["entries"].as_array().expect("entries") {
            let id = entry["id"].as_str().expect("an id").to_owned();
            match entry["kind"].as_str() {
                Some("session") => drop(self.sessions.insert(id)),
                Some("scope") => {
                    let until = entry["issued_until"].as_i64().expect("a number");
                    let _ = self.scopes.insert((
                        id,
                        entry["scope"].as_str().expect("a scope").to_owned(),
                        until,
                    ));
                }
                _ => {}
            }
        }
    }

    pub fn refuses(&self, token: &str) -> bool {
        let claims = payload(token);
        let scope = claims["scope"].as_str().expect("a scope");
        let withdrawn = |(sub, name, until): &(String, String, i64)| {
            claims["sub"] == sub.as_str()
                && scope.split(' ').any(|one| one == name)
                && claims["iat"].as_i64() <= Some(*until)
        };
        claims["sid"].as_str().is_some_and(|sid| self.sessions.contains(sid))
            || self.scopes.iter().any(withdrawn)
    }

    /// Applies events until the token is refused, within a second of real time.
    pub async fn refuse_within_a_second(&mut self, token: &str) {
        let refused = async {
            while !self.refuses(token) {
                self.apply_next().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(1), refused)
            .await
            .expect("it is refused within a second");
    }
}

backend_tests! {
    the_full_list_is_signed_and_carries_its_version,
    changes_since_a_version_are_returned_or_awaited,
    a_follower_rejects_a_revoked_token_within_a_second,
    every_concurrent_revocation_takes_effect_and_is_published,
    a_stream_ends_with_its_token_or_the_server,
    a_slow_consumer_is_told_to_resync,
    a_list_signed_by_a_clock_ahead_is_signed_again,
}

async fn the_full_list_is_signed_and_carries_its_version(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let token = gateway(&server).await;
    let empty = read(&server, "", &token).await.expect(StatusCode::OK);
    let sessions = [log_out(&server).await, log_out(&server).await];
    server.clock.advance(Duration::from_secs(2));
    let list = read(&server, "", &token).await.expect(StatusCode::OK);
    assert_eq!(list.header("content-type"), "application/revocations+jwt");
    assert_eq!(list.header("cache-control"), "private, no-cache");
    assert_eq!(header(&list.text)["typ"], "revocations+jwt");
    let unverified = Unverified::parse(&list.text, TokenType::Revocations).expect("ours");
    assert_eq!(server.app.keys.ring().verify(&unverified), Some(true));
    let (before, after) = (payload(&empty.text), payload(&list.text));
    assert_eq!(after["iss"], server.app.config.server.issuer.as_str());
    assert_eq!(after["number"], before["number"].as_i64().expect("a number") + 2);
    assert_eq!(list.header("etag"), format!("\"{}\"", after["number"]));
    let ids: HashSet<_> = after["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|one| one["id"].as_str().expect("an id"))
        .collect();
    assert!(sessions.iter().all(|sid| ids.contains(sid.as_str())), "{after}");
    let same = server
        .request(Method::GET, FEED)
        .bearer_auth(&token)
        .header("if-none-match", list.header("etag"));
    send(same).await.expect(StatusCode::NOT_MODIFIED);
}

async fn a_list_signed_by_a_clock_ahead_is_signed_again(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let token = gateway(&server).await;
    server.clock.set(START + Duration::from_secs(600));
    let early = read(&server, "", &token).await.expect(StatusCode::OK);
    server.clock.set(START);
    let sid = log_out(&server).await;
    let list = read(&server, "", &token).await.expect(StatusCode::OK);
    assert_ne!(list.header("etag"), early.header("etag"));
    assert!(payload(&list.text)["entries"].to_string().contains(&sid), "{list:?}");
}

async fn changes_since_a_version_are_returned_or_awaited(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let token = gateway(&server).await;
    let number =
        payload(&read(&server, "", &token).await.text)["number"].as_i64().expect("a number");
    let nothing = read(&server, &format!("?since={number}"), &token).await.expect(StatusCode::OK);
    assert_eq!(nothing.json(), json!({ "from": number, "to": number, "entries": [] }));
    let sid = log_out(&server).await;
    let one = read(&server, &format!("?since={number}"), &token).await.json();
    let expires_at = (START + Duration::from_secs(3_661)).as_secs();
    assert_eq!(
        one,
        json!({ "from": number, "to": number + 1, "entries": [{ "kind": "session", "id": sid, "expires_at": expires_at }] })
    );
    // A long poll is answered by the logout that arrives while it waits.
    let query = format!("?since={}&wait=25", number + 1);
    let (response, sid) = tokio::join!(read(&server, &query, &token), log_out(&server));
    let response = response.expect(StatusCode::OK).json();
    assert_eq!((&response["to"], &response["entries"][0]["id"]), (&json!(number + 2), &json!(sid)));
    // A follower that was away too long, or has an unknown version, must resync.
    let far = [number + 3, number + 1_000_000].map(|number| number.to_string());
    for far in far.into_iter().chain(["9223372036854775808".to_owned()]) {
        read(&server, &format!("?since={far}"), &token)
            .await
            .expect_oauth_error(410, "snapshot_required");
    }
    for wrong in ["?since=-1", "?since=x", "?since=1&since=2", "?since=1&wait=-1"] {
        read(&server, wrong, &token).await.expect_oauth_error(400, "invalid_request");
    }
}

async fn a_follower_rejects_a_revoked_token_within_a_second(backend: Backend) {
    let one = TestServer::start(backend).await;
    let other = one.another(&[]).await;
    one.module("crm", "crm:read", None, true).await;
    let ann = one.register("ann").await;
    let token = gateway(&one).await;
    // One follows the process that revokes, one another process, and one joins late.
    let mut near = LocalVerifier::follow(&one, "", &token).await;
    near.apply_next().await;
    let mut far = LocalVerifier::follow(&other, "", &token).await;
    far.apply_next().await;
    let mut numbers = vec![];
    for _ in 0..5 {
        let token = one.login("ann").await.tokens().access;
        assert!(!near.refuses(&token) && !far.refuses(&token));
        one.post_as("/api/v1/auth/logout", &token).await.expect(StatusCode::OK);
        near.refuse_within_a_second(&token).await;
        far.refuse_within_a_second(&token).await;
        numbers.push(near.number);
    }
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    // A module is disabled: the token with its scope is refused, the one without is not.
    one.switch(&ann.access, "crm", "enable").await.expect(StatusCode::OK);
    let with = one.refresh(&ann.refresh).await.tokens().access;
    assert!(!near.refuses(&with));
    one.switch(&ann.access, "crm", "disable").await.expect(StatusCode::OK);
    near.refuse_within_a_second(&with).await;
    far.refuse_within_a_second(&with).await;
    assert!(!near.refuses(&ann.access));
    // A returning follower sends its version and gets the rest.
    let mut back = LocalVerifier::follow(&other, &format!("?since={}", numbers[0]), &token).await;
    back.number = numbers[0];
    back.apply_next().await;
    assert_eq!(back.number, near.number);
    assert_eq!(back.sessions.len(), 4);
}

async fn every_concurrent_revocation_takes_effect_and_is_published(backend: Backend) {
    let server = TestServer::start(backend).await;
    let watching = gateway(&server).await;
    let mut app = crate::support::oauth::first_party_app();
    app.grant_types.push(GrantType::ClientCredentials);
    server.client("app", app).await;
    let mut tokens = vec![];
    for _ in 0..60 {
        let form = [("grant_type", "client_credentials")];
        tokens.push(server.form_as("/oauth2/token", "app", &form).await.field("access_token"));
    }
    let before =
        payload(&read(&server, "", &watching).await.text)["number"].as_i64().expect("a number");
    let revoking = tokens.iter().map(|token| {
        let server = &server;
        async move {
            let form = [("token", token.as_str())];
            server.form_as("/oauth2/revoke", "app", &form).await.expect(StatusCode::OK);
            server.verify(token).await.expect_error(401, "INVALID_TOKEN");
        }
    });
    futures_util::future::join_all(revoking).await;
    let delta = read(&server, &format!("?since={before}"), &watching).await.json();
    assert_eq!(delta["to"], before + 60);
    let heard: HashSet<_> =
        delta["entries"].as_array().expect("entries").iter().map(|one| one["id"].clone()).collect();
    let revoked: HashSet<_> = tokens.iter().map(|token| payload(token)["jti"].clone()).collect();
    assert_eq!(heard, revoked);
    let lines = propusk::storage::Statement::new(
        "SELECT COUNT(*) AS n FROM audit_log WHERE action = 'token.revoke'",
    );
    let lines =
        server.app.db.read(lines).await.expect("read")[0].get::<i64>("n").expect("a number");
    assert_eq!(lines, 60, "one audit entry each");
}

async fn a_stream_ends_with_its_token_or_the_server(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let token = gateway(&server).await;
    let mut follower = LocalVerifier::follow(&server, "", &token).await;
    follower.apply_next().await;
    clients::disable(&server.app, &"gateway".into(), &Actor::operator()).await.expect("disabled");
    assert!(follower.next().await.is_none(), "no further event, not even about its own client");
    assert_eq!(read(&server, "", &token).await.status, StatusCode::UNAUTHORIZED);

    clients::enable(&server.app, &"gateway".into(), &Actor::operator()).await.expect("enabled");
    server.clock.advance(Duration::from_secs(3));
    let (_, secret) =
        clients::rotate_secret(&server.app, &"gateway".into(), Duration::ZERO, &Actor::operator())
            .await
            .expect("a secret");
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "gateway"),
        ("client_secret", &secret),
    ];
    let token = server.form("/oauth2/token", &form).await.field("access_token");
    let mut follower = LocalVerifier::follow(&server, "", &token).await;
    follower.apply_next().await;
    let (_, end) = tokio::join!(server.stop(), follower.next());
    assert!(end.is_none());
}

async fn a_slow_consumer_is_told_to_resync(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut follower = server
        .app
        .revocations
        .follow(&server.app.db, &server.app.clock, 0)
        .await
        .expect("followed");
    // Each commit is a delta of its own here, and the follower reads none of them.
    for n in 0..600 {
        let mut tx = server.app.begin(&Actor::operator()).await.expect("a transaction");
        let entry = NewRevocation::Token(format!("jti-{n}"));
        tx.revoke(vec![entry], "test").await.expect("added");
        tx.commit().await.expect("added");
        server.app.revocations.sync().await.expect("fresh");
    }
    let mut heard = 0;
    let end = loop {
        match follower.next().await.expect("the server runs") {
            Ok(delta) => heard = delta.to,
            Err(end) => break end,
        }
    };
    assert!(matches!(end, propusk::revocation::feed::FollowError::TooFar), "{end:?} after {heard}");
    // It resumes from the snapshot.
    let snapshot = server.app.revocations.snapshot().await.expect("a snapshot");
    assert_eq!((snapshot.number, snapshot.entries.len()), (600, 600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_requires_its_scope() {
    let server = TestServer::start(Backend::Sqlite).await;
    let ann = server.register("ann").await;
    let refused =
        read(&server, "", &ann.access).await.expect_oauth_error(403, "insufficient_scope");
    assert!(refused.header("www-authenticate").contains("insufficient_scope"), "{refused:?}");
    read(&server, "", "rubbish").await.expect_oauth_error(401, "invalid_token");
    let anonymous = server.get(FEED).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(anonymous.header("www-authenticate"), "Bearer");
}

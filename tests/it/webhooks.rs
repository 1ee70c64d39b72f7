//! Webhooks: what is sent, how often, and to whom. `tests/it/admin/webhooks.rs` manages them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use propusk::{
    clock::Clock,
    flows::maintenance,
    outbound::{Lookup, Outbound},
    storage::Statement,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use crate::support::{
    Backend, Database, TestServer,
    admin::AdminApi,
    backend_tests,
    external_server::ExternalServer,
    process::{Process, free_port, run},
};

backend_tests! {
    events_are_delivered_signed_to_those_that_want_them,
    a_failed_delivery_is_retried_then_abandoned_and_resent,
    what_an_endpoint_answers_is_obeyed,
    a_rotated_secret_signs_beside_the_new_one_for_the_overlap,
    two_processes_deliver_each_event_once,
    a_killed_process_repeats_an_event_under_its_id,
    t175_a_webhook_reaches_no_internal_address,
    t176_failing_and_silent_endpoints_hold_up_nobody,
    t177_secrets_are_in_no_table_and_no_answer,
    t179_an_endpoint_that_never_answers_fills_no_table,
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// The settings with which webhooks are delivered to an external server.
fn settings(external: &ExternalServer) -> Vec<(&'static str, String)> {
    let own = [("PROPUSK_WEBHOOKS__ENABLED", "true".to_owned())];
    external.settings().into_iter().chain(own).collect()
}

async fn start(backend: Backend, external: &ExternalServer, more: &[(&str, &str)]) -> TestServer {
    let settings = settings(external);
    let settings = settings.iter().map(|(key, value)| (*key, value.as_str()));
    let settings: Vec<_> = settings.chain(more.iter().copied()).collect();
    TestServer::with(backend, &settings).await
}

/// Adds a webhook at `/{id}` for these types, which answers with 200; gives its secret.
async fn add(admin: &AdminApi<'_>, external: &ExternalServer, id: &str, types: &[&str]) -> String {
    external.put(&format!("/{id}"), 200, "", "");
    let url = format!("{}/{id}", external.base);
    let body = json!({ "id": id, "settings": { "url": url, "eventTypes": types } });
    let added = admin.post("/webhooks", body).await.expect(StatusCode::CREATED);
    added.text_of("/secret")
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect(what);
}

/// Waits until a request has arrived at a path, besides those before.
async fn requests(server: &TestServer, external: &ExternalServer, path: &str, count: usize) {
    until(&format!("{count} request(s) to {path}"), async || {
        server.app.webhooks_waiting.notify_one();
        external.count(path) >= count
    })
    .await;
}

/// The names of a request's headers, in lower case, and their values.
fn headers(head: &str) -> BTreeMap<String, String> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect()
}

/// The signature of a request by the words of the specification.
fn signature(secret: &str, headers: &BTreeMap<String, String>, body: &str) -> String {
    let key = secret.strip_prefix("whsec_").expect("its prefix");
    let key = STANDARD.decode(key).expect("base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
    let (id, at) = (&headers["webhook-id"], &headers["webhook-timestamp"]);
    mac.update(format!("{id}.{at}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The `webhook-id` of each request to a path.
fn ids(external: &ExternalServer, path: &str) -> Vec<String> {
    let requests = external.requests(path);
    requests.iter().map(|(head, _)| headers(head)["webhook-id"].clone()).collect()
}

/// The deliveries of a webhook, the newest first.
async fn deliveries(admin: &AdminApi<'_>, id: &str, filter: &str) -> Vec<Value> {
    admin.all(&format!("/webhooks/{id}/deliveries{filter}")).await
}

/// The state and the number of attempts of the newest delivery.
async fn newest(admin: &AdminApi<'_>, id: &str) -> (String, i64) {
    let all = deliveries(admin, id, "").await;
    let state = all[0]["state"].as_str().expect("a state").to_owned();
    (state, all[0]["attempts"].as_i64().expect("a number"))
}

async fn count(server: &TestServer, statement: &'static str) -> i64 {
    let rows = server.app.db.read(Statement::new(statement)).await.expect("rows");
    rows[0].get("n").expect("a number")
}

async fn events_are_delivered_signed_to_those_that_want_them(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = start(backend, &external, &[]).await;
    let admin = server.admin("root").await;
    // What happened before is not sent.
    server.clock.advance(Duration::from_secs(1));
    let secret = add(&admin, &external, "all", &[]).await;
    add(&admin, &external, "some", &["user.deleted"]).await;
    server.register("ann").await;
    requests(&server, &external, "/all", 2).await;
    let events = admin.all("/events").await;
    let created = events
        .iter()
        .find(|event| event["type"] == "user.created" && event["data"]["username"] == "ann");
    let created = created.expect("the event is listed").clone();
    let by_type = admin.all("/events?type=user.created").await;
    assert_eq!(by_type.len(), 2, "root's and ann's");
    let subject = created["subject"].as_str().expect("an id").to_owned();
    let by_subject = admin.all(&format!("/events?subject={subject}&type=user.created")).await;
    assert_eq!(by_subject, std::slice::from_ref(&created));

    let mut seen = BTreeSet::new();
    for (head, body) in external.requests("/all") {
        assert!(head.starts_with("POST /all HTTP/1.1"), "{head}");
        let headers = headers(&head);
        assert_eq!(headers["content-type"], "application/cloudevents+json; charset=UTF-8");
        assert!(headers["user-agent"].starts_with("Propusk/"), "{head}");
        let now = server.clock.now().as_secs().to_string();
        assert_eq!(headers["webhook-timestamp"], now);
        assert_eq!(headers["webhook-signature"], signature(&secret, &headers, &body));
        let event: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(event["id"], headers["webhook-id"]);
        assert_eq!(
            (&event["specversion"], &event["datacontenttype"]),
            (&json!("1.0"), &json!("application/json"))
        );
        assert_eq!(event["source"], server.app.config.server.issuer);
        assert_eq!(event["subject"], subject);
        if event["type"] == "user.created" {
            assert_eq!(event["data"], created["data"]);
            assert_eq!((&event["id"], &event["time"]), (&created["id"], &created["time"]));
        }
        seen.insert(event["type"].as_str().expect("a type").to_owned());
    }
    assert_eq!(seen, ["session.created", "user.created"].map(str::to_owned).into());
    let delivered = async || deliveries(&admin, "all", "?state=delivered").await.len() == 2;
    until("both are marked", delivered).await;
    let listed = deliveries(&admin, "all", "?type=user.created").await;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["eventId"], &listed[0]["status"], &listed[0]["attempts"]),
        (&created["id"], &json!(200), &json!(1))
    );
    assert_eq!(deliveries(&admin, "all", "?since=2030-01-01T00:00:00Z").await, [Value::Null; 0]);
    assert_eq!(deliveries(&admin, "some", "").await, [Value::Null; 0], "nobody was deleted");

    // What the deletion of a user blanks is in no later request.
    external.put("/all", 500, "", "");
    server.register("bob").await;
    requests(&server, &external, "/all", 4).await;
    let failed = async || admin.get("/webhooks/all").await.data()["failures"] == 1;
    until("the failure is recorded", failed).await;
    let path = format!("/users/{}", subject_of(&admin, "bob").await);
    admin.delete(&path).await.expect(StatusCode::OK);
    external.put("/all", 200, "", "");
    server.clock.advance(10 * MINUTE);
    requests(&server, &external, "/some", 1).await;
    let pending = "SELECT COUNT(*) AS n FROM webhook_deliveries WHERE state = 'pending'";
    until("all are delivered", async || {
        server.app.webhooks_waiting.notify_one();
        count(&server, pending).await == 0
    })
    .await;
    let later: Vec<_> = external.requests("/all").split_off(4);
    assert!(later.iter().any(|(_, body)| body.contains("user.created")), "{later:?}");
    assert!(later.iter().all(|(_, body)| !body.contains("bob")), "{later:?}");
    let (_, deleted) = external.requests("/some").remove(0);
    let deleted: Value = serde_json::from_str(&deleted).expect("JSON");
    assert_eq!(deleted["type"], "user.deleted");
}

/// The id of the user whose registration the outbox has.
async fn subject_of(admin: &AdminApi<'_>, name: &str) -> String {
    let created = admin.all("/events?type=user.created").await;
    let of = created.iter().find(|event| event["data"]["username"] == name);
    of.expect("registered")["subject"].as_str().expect("an id").to_owned()
}

async fn a_failed_delivery_is_retried_then_abandoned_and_resent(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = start(backend, &external, &[]).await;
    let admin = server.admin("root").await;
    add(&admin, &external, "crm", &["user.created"]).await;
    external.put("/crm", 500, "", "no");
    server.register("ann").await;
    let second = Duration::from_secs(1);
    let pauses = [
        5 * second,
        5 * MINUTE,
        30 * MINUTE,
        2 * HOUR,
        5 * HOUR,
        10 * HOUR,
        14 * HOUR,
        20 * HOUR,
        24 * HOUR,
    ];
    for (done, pause) in pauses.into_iter().enumerate() {
        let attempts = i64::try_from(done + 1).expect("few");
        let admin = server.admin_as("root").await;
        requests(&server, &external, "/crm", done + 1).await;
        let postponed = async || {
            let webhook = admin.get("/webhooks/crm").await.data();
            webhook["failures"] == attempts
        };
        until("the failure is recorded", postponed).await;
        // Not before, by more than a tenth; and then.
        server.clock.advance(pause.mul_f64(0.89));
        server.app.webhooks_waiting.notify_one();
        let (state, made) = newest(&server.admin_as("root").await, "crm").await;
        assert_eq!((state.as_str(), made), ("pending", attempts));
        assert_eq!(external.count("/crm"), done + 1);
        server.clock.advance(pause.mul_f64(0.22) + second);
    }
    let admin = server.admin_as("root").await;
    requests(&server, &external, "/crm", 10).await;
    until("it is abandoned", async || newest(&admin, "crm").await.0 == "abandoned").await;
    let distinct: BTreeSet<_> = ids(&external, "/crm").into_iter().collect();
    assert_eq!(distinct.len(), 1, "one webhook-id");
    let times = external.requests("/crm");
    let times: BTreeSet<_> =
        times.iter().map(|(head, _)| headers(head)["webhook-timestamp"].clone()).collect();
    assert_eq!(times.len(), 10, "each attempt is signed anew");
    let listed = deliveries(&admin, "crm", "?state=abandoned").await;
    assert_eq!((&listed[0]["status"], &listed[0]["error"]), (&json!(500), &json!("status 500")));

    external.put("/crm", 204, "", "");
    let event = listed[0]["eventId"].as_str().expect("an id");
    let resend = format!("/webhooks/crm/deliveries/{event}/resend");
    admin.post(&resend, json!({})).await.expect(StatusCode::OK);
    requests(&server, &external, "/crm", 11).await;
    until("it is delivered", async || newest(&admin, "crm").await == ("delivered".to_owned(), 1))
        .await;
    assert_eq!(ids(&external, "/crm")[10], event);
    let webhook = admin.get("/webhooks/crm").await.data();
    assert_eq!((&webhook["failures"], &webhook["failingSince"]), (&json!(0), &Value::Null));
    let one = admin.get(&format!("/webhooks/crm/deliveries/{event}")).await.data();
    assert_eq!((&one["state"], &one["error"]), (&json!("delivered"), &Value::Null));
    let unknown = admin.post("/webhooks/crm/deliveries/none/resend", json!({})).await;
    unknown.expect_error(404, "NOT_FOUND");
    admin.get("/webhooks/crm/deliveries/none").await.expect_error(404, "NOT_FOUND");
}

async fn what_an_endpoint_answers_is_obeyed(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = start(backend, &external, &[]).await;
    let admin = server.admin("root").await;
    for id in ["gone", "busy", "moved", "broken"] {
        add(&admin, &external, id, &["user.created"]).await;
    }
    add(&admin, &external, "watch", &["webhook.disabled"]).await;
    external.put("/gone", 410, "", "");
    external.put("/busy", 503, "Retry-After: 1800\r\n", "");
    external.put("/moved", 307, "Location: /elsewhere\r\n", "");
    external.put("/broken", 500, "", "");
    server.register("ann").await;
    for path in ["/gone", "/busy", "/moved", "/broken"] {
        requests(&server, &external, path, 1).await;
    }
    // 410 disables.
    requests(&server, &external, "/watch", 1).await;
    let event: Value =
        serde_json::from_str(&external.posted("/watch").expect("an event")).expect("JSON");
    assert_eq!(event["type"], "webhook.disabled");
    assert_eq!(
        (&event["subject"], &event["data"]),
        (&json!("gone"), &json!({ "webhookId": "gone", "reason": "gone" }))
    );
    let gone = admin.get("/webhooks/gone").await.data();
    assert_eq!(gone["disabledFor"], "gone");
    assert!(gone["disabledAt"].is_string());
    let resend = format!("/webhooks/gone/deliveries/{}/resend", ids(&external, "/gone")[0]);
    admin.post(&resend, json!({})).await.expect_error(409, "CONFLICT");
    let audit = admin.all("/audit?action=webhook.disable").await;
    assert_eq!(audit.len(), 1);
    assert_eq!(
        (&audit[0]["actor"], &audit[0]["detail"]["webhookId"]),
        (&json!("webhooks"), &json!("gone"))
    );

    // Retry-After delays other events, too. A redirect is a failure, and is not followed.
    let failed = async || {
        let mut all = true;
        for id in ["busy", "moved", "broken"] {
            all &= admin.get(&format!("/webhooks/{id}")).await.data()["failures"] == 1;
        }
        all
    };
    until("the failures are recorded", failed).await;
    server.clock.advance(25 * MINUTE);
    let admin = server.admin_as("root").await;
    server.register("bob").await;
    for path in ["/moved", "/broken"] {
        requests(&server, &external, path, 2).await;
    }
    assert_eq!((external.count("/busy"), external.count("/elsewhere")), (1, 0));
    let failures = async |id: &str| {
        let webhook = admin.get(&format!("/webhooks/{id}")).await.data();
        webhook["failures"].as_i64().expect("a number")
    };
    until("the failures are recorded", async || {
        failures("moved").await == 2 && failures("broken").await == 2
    })
    .await;
    for path in ["/busy", "/moved"] {
        external.put(path, 200, "", "");
    }
    server.clock.advance(6 * MINUTE);
    let delivered = async |count: usize| {
        server.app.webhooks_waiting.notify_one();
        let statement = "SELECT webhook_id FROM webhook_deliveries WHERE state = 'delivered' \
                         AND webhook_id IN ('busy', 'moved')";
        let rows = server.app.db.read(Statement::new(statement)).await.expect("rows");
        rows.len() == count
    };
    until("both get both events", async || delivered(4).await).await;

    // Failing for five days disables; what was queued is sent after it is enabled.
    server.clock.advance(5 * DAY);
    requests(&server, &external, "/watch", 2).await;
    let admin = server.admin_as("root").await;
    let broken = async || admin.get("/webhooks/broken").await.data();
    assert_eq!(broken().await["disabledFor"], "failing");
    let before = external.count("/broken");
    external.put("/broken", 200, "", "");
    server.register("cid").await;
    until("the others get it", async || delivered(6).await).await;
    assert_eq!(external.count("/broken"), before, "nothing is sent to it");
    admin.post("/webhooks/broken/enable", json!({})).await.expect(StatusCode::OK);
    requests(&server, &external, "/broken", before + 1).await;
    until("it works again", async || {
        !deliveries(&admin, "broken", "?state=delivered").await.is_empty()
    })
    .await;
    assert_eq!(broken().await["disabledAt"], Value::Null);
}

async fn a_rotated_secret_signs_beside_the_new_one_for_the_overlap(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = start(backend, &external, &[]).await;
    let admin = server.admin("root").await;
    let old = add(&admin, &external, "crm", &["user.created"]).await;
    let rotate = async |overlap: u32| {
        let body = json!({ "overlapSeconds": overlap });
        let admin = server.admin_as("root").await;
        let rotated = admin.post("/webhooks/crm/secret", body).await.expect(StatusCode::OK);
        rotated.text_of("/secret")
    };
    let signatures = || {
        let (head, body) = external.requests("/crm").pop().expect("a request");
        let headers = headers(&head);
        let sent: Vec<_> = headers["webhook-signature"].split(' ').map(str::to_owned).collect();
        (sent, move |secret: &str| signature(secret, &headers, &body))
    };
    let new = rotate(3_600).await;
    assert_ne!(new, old);
    server.register("ann").await;
    requests(&server, &external, "/crm", 1).await;
    let (sent, by) = signatures();
    assert_eq!(sent, [by(&new), by(&old)]);
    server.clock.advance(Duration::from_secs(3_600));
    server.register("bob").await;
    requests(&server, &external, "/crm", 2).await;
    let (sent, by) = signatures();
    assert_eq!(sent, [by(&new)]);
    let newest = rotate(0).await;
    server.register("cid").await;
    requests(&server, &external, "/crm", 3).await;
    let (sent, by) = signatures();
    assert_eq!(sent, [by(&newest)]);
    let body = json!({ "overlapSeconds": 31 * 86_400 });
    let admin = server.admin_as("root").await;
    admin.post("/webhooks/crm/secret", body).await.expect_error(400, "VALIDATION_ERROR");
}

async fn two_processes_deliver_each_event_once(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = start(backend, &external, &[]).await;
    let own = settings(&external);
    let own: Vec<_> = own.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let other = server.another(&own).await;
    let admin = server.admin("root").await;
    for id in ["one", "two"] {
        add(&admin, &external, id, &["user.created"]).await;
    }
    let register = async |server: &TestServer, name: &str| {
        for n in 0..15 {
            server.register(&format!("{name}{n}")).await;
        }
    };
    tokio::join!(
        register(&server, "ann"),
        register(&server, "bob"),
        register(&other, "cid"),
        register(&other, "dan")
    );
    for path in ["/one", "/two"] {
        requests(&server, &external, path, 60).await;
    }
    let pending = "SELECT COUNT(*) AS n FROM webhook_deliveries WHERE state = 'pending'";
    until("all are marked", async || count(&server, pending).await == 0).await;
    for path in ["/one", "/two"] {
        let ids = ids(&external, path);
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!((ids.len(), distinct.len()), (60, 60), "{path}: none twice, none missing");
    }
}

/// `kill -9` after the endpoint has got the event, and before the server knows.
async fn a_killed_process_repeats_an_event_under_its_id(backend: Backend) {
    let external = ExternalServer::start().await;
    let database = Arc::new(Database::new(backend).await);
    let own = settings(&external);
    let own: Vec<_> = own.iter().map(|(key, value)| (*key, value.as_str())).collect();
    external.silence("/crm");
    // Its first start adds the administrator, before there is a webhook.
    let process = Process::serve(&database, &own).await;
    let url = format!("{}/crm", external.base);
    let add = ["webhook", "add", &url, "--id", "crm", "--type", "user.created"];
    let added = run(&database, &own, &add);
    assert!(added.status.success(), "{added:?}");
    let account = json!({ "email": "ann@example.org", "password": crate::support::PASSWORD });
    let http = reqwest::Client::new();
    let url = format!("{}/api/v1/auth/register", process.base);
    let registered = http.post(url).json(&account).send().await.expect("an answer");
    assert_eq!(registered.status(), StatusCode::CREATED);
    until("the endpoint gets it", async || external.count("/crm") == 1).await;
    process.kill();
    external.put("/crm", 200, "", "");
    // Its lease has lapsed.
    let later = Clock::system().now() + MINUTE;
    let server = TestServer::on(database, Clock::fake(later), &own).await;
    requests(&server, &external, "/crm", 2).await;
    let ids = ids(&external, "/crm");
    assert_eq!(ids[0], ids[1]);
    let delivered = "SELECT COUNT(*) AS n FROM webhook_deliveries WHERE state = 'delivered'";
    until("it is marked", async || count(&server, delivered).await == 1).await;
    assert_eq!(external.count("/crm"), 2);
}

async fn t175_a_webhook_reaches_no_internal_address(backend: Backend) {
    let inside = ExternalServer::start().await;
    let server = TestServer::with(backend, &[("PROPUSK_WEBHOOKS__ENABLED", "true")]).await;
    let admin = server.admin("root").await;
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/",
        "https://10.0.0.1/",
        "https://[fd00::1]/",
        "https://2130706433/",
        "https://localhost/",
        "https://db.internal/",
        "http://192.168.0.1/",
        "ftp://example.org/",
        "https://user:password@example.org/",
        "/hook",
    ] {
        let body = json!({ "settings": { "url": url } });
        let refused = admin.post("/webhooks", body).await.expect_error(400, "VALIDATION_ERROR");
        assert!(refused.text.contains("url"), "{url}: {refused:?}");
    }
    // A name is resolved when it is connected to; to this machine: http on loopback alone.
    let private: Lookup = Arc::new(|name| {
        let address = if name == "inside.example" { [10, 0, 0, 1] } else { [127, 0, 0, 1] };
        Box::pin(async move { Ok(vec![Ipv4Addr::from(address).into()]) })
    });
    let config = propusk::config::Outbound {
        ca_file: Some(inside.ca_file()),
        ..server.app.config.outbound.clone()
    };
    let port = inside.base.rsplit(':').next().expect("a port");
    for (is_local, url) in [
        (true, format!("https://app.example:{port}/x")),
        (false, format!("http://app.example:{port}/x")),
        (false, format!("http://127.0.0.1:{port}/x")),
        (true, format!("http://inside.example:{port}/x")),
    ] {
        let outbound = Outbound::with_lookup(&config, is_local, Arc::clone(&private));
        let outbound = outbound.expect("a client");
        let second = Duration::from_secs(1);
        let sent = outbound.post_event(&url, http::HeaderMap::new(), "x".into(), second).await;
        sent.expect_err(&url);
    }
    assert_eq!(inside.connection_count(), 0);
    // http to this machine, as long as the server itself is on loopback.
    let body = json!({ "id": "local", "settings": { "url": format!("http://127.0.0.1:{}/", free_port()) } });
    admin.post("/webhooks", body).await.expect(StatusCode::CREATED);
    let tested = admin.post("/webhooks/local/test", json!({})).await.expect(StatusCode::OK).data();
    assert_eq!((&tested["accepted"], &tested["status"]), (&json!(false), &Value::Null));
}

async fn t176_failing_and_silent_endpoints_hold_up_nobody(backend: Backend) {
    let external = ExternalServer::start().await;
    let more = [("PROPUSK_WEBHOOKS__CONCURRENCY", "4"), ("PROPUSK_WEBHOOKS__TIMEOUT", "60s")];
    let server = start(backend, &external, &more).await;
    let admin = server.admin("root").await;
    add(&admin, &external, "failing", &["user.created"]).await;
    add(&admin, &external, "silent", &["user.created"]).await;
    add(&admin, &external, "well", &["user.created"]).await;
    external.put("/failing", 500, "", "");
    external.silence("/silent");
    for n in 0..20 {
        server.register(&format!("user{n}")).await;
    }
    requests(&server, &external, "/well", 20).await;
    requests(&server, &external, "/silent", 1).await;
    let failures = async || admin.get("/webhooks/failing").await.data()["failures"].clone();
    until("one failure for the endpoint", async || failures().await == 1).await;
    let first = external.count("/failing");
    assert!((1..=4).contains(&first), "{first} requests at once");
    assert!((1..=4).contains(&external.count("/silent")));
    // One request tries it, by both processes together.
    let own = settings(&external);
    let own: Vec<_> = own.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let other = server.another(&own).await;
    for (done, pause) in [5, 30, 120, 600].into_iter().enumerate() {
        server.clock.advance(Duration::from_secs(pause * 11 / 10 + 1));
        other.app.webhooks_waiting.notify_one();
        requests(&server, &external, "/failing", first + done + 1).await;
        until("the failure is recorded", async || failures().await == done + 2).await;
        assert_eq!(external.count("/failing"), first + done + 1);
    }
    external.put("/failing", 200, "", "");
    server.clock.advance(HOUR);
    let delivered = async || {
        server.app.webhooks_waiting.notify_one();
        let statement = "SELECT COUNT(*) AS n FROM webhook_deliveries \
                         WHERE webhook_id = 'failing' AND state = 'delivered'";
        count(&server, statement).await == 20
    };
    until("it gets all of them", delivered).await;
    assert_eq!(external.count("/well"), 20);
    server.get("/api/v1/auth/health/ready").await.expect(StatusCode::OK);
}

async fn t177_secrets_are_in_no_table_and_no_answer(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = start(backend, &external, &[]).await;
    let admin = server.admin("root").await;
    let url = format!("{}/a", external.base);
    let body = json!({ "id": "a", "settings": { "url": url } });
    let created = admin.post_once("k", "/webhooks", body.clone()).await;
    let secret = created.expect(StatusCode::CREATED).text_of("/secret");
    let again = admin.post_once("k", "/webhooks", body).await.expect(StatusCode::CREATED);
    assert_eq!(again.header("idempotency-replayed"), "true");
    let other = add(&admin, &external, "b", &[]).await;
    let rotated = admin.post("/webhooks/b/secret", json!({ "overlapSeconds": 60 })).await;
    let rotated = rotated.expect(StatusCode::OK).text_of("/secret");
    let secrets = [&secret, &other, &rotated];
    assert!(secrets.iter().all(|secret| secret.starts_with("whsec_") && secret.len() == 50));
    let rows = "SELECT COALESCE(secret, '') || COALESCE(old_secret, '') || url AS text FROM webhooks \
                UNION ALL SELECT detail AS text FROM audit_log UNION ALL SELECT data AS text FROM outbox";
    let rows = server.app.db.read(Statement::new(rows)).await.expect("rows");
    let mut texts: Vec<String> = rows.iter().map(|row| row.get("text").expect("text")).collect();
    for path in ["/webhooks", "/webhooks/a", "/webhooks/b", "/audit", "/events"] {
        texts.push(admin.get(path).await.expect(StatusCode::OK).text);
    }
    texts.push(again.text);
    for text in &texts {
        let has = |secret: &&&String| {
            let key = &secret["whsec_".len()..];
            text.contains(key) || text.contains(key.trim_end_matches('='))
        };
        assert!(secrets.iter().find(has).is_none(), "{text}");
    }
    // The secret of another row is none.
    external.put("/a", 200, "", "");
    admin.post("/webhooks/a/test", json!({})).await.expect(StatusCode::OK);
    let moved =
        "UPDATE webhooks SET secret = (SELECT secret FROM webhooks WHERE id = 'b') WHERE id = 'a'";
    server.app.db.write(Statement::new(moved)).await.expect("moved");
    admin.post("/webhooks/a/test", json!({})).await.expect_error(503, "SERVICE_UNAVAILABLE");
    // Beside the tests, events from before the webhook may be due.
    let requests = external.requests("/a");
    let tests = requests.iter().filter(|(_, body)| body.contains("\"webhook.test\""));
    assert_eq!(tests.count(), 1, "{requests:?}");
}

async fn t179_an_endpoint_that_never_answers_fills_no_table(backend: Backend) {
    let external = ExternalServer::start().await;
    let more = [
        ("PROPUSK_EVENTS__MAX_ROWS", "3"),
        ("PROPUSK_WEBHOOKS__MAX_ROWS", "10"),
        ("PROPUSK_WEBHOOKS__MAX_AGE", "3d"),
        ("PROPUSK_WEBHOOKS__RETENTION", "1d"),
    ];
    let server = start(backend, &external, &more).await;
    let admin = server.admin("root").await;
    add(&admin, &external, "crm", &["user.created"]).await;
    external.put("/crm", 500, "", "");
    for n in 0..8 {
        server.register(&format!("ann{n}")).await;
    }
    let rows = "SELECT COUNT(*) AS n FROM webhook_deliveries";
    let pending = "SELECT COUNT(*) AS n FROM webhook_deliveries WHERE state = 'pending'";
    let outbox = "SELECT COUNT(*) AS n FROM outbox WHERE type = 'user.created'";
    let all = "SELECT COUNT(*) AS n FROM outbox";
    until("eight are queued", async || count(&server, rows).await == 8).await;
    // Beyond events.max_rows: deliveries wait for them.
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(count(&server, outbox).await, 8);
    assert_eq!(count(&server, pending).await, 8);
    maintenance::count_rows(&server.app).await.expect("counted");
    assert_eq!(server.app.metrics.webhooks_waiting.get(), 8);
    // Beyond webhooks.max_rows the oldest go.
    for n in 0..8 {
        server.register(&format!("bob{n}")).await;
    }
    until("eight more are queued", async || count(&server, rows).await == 16).await;
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(count(&server, rows).await, 10);
    // They expire, and nothing keeps their events.
    server.clock.advance(3 * DAY + HOUR);
    maintenance::sweep(&server.app).await.expect("swept");
    until("all have expired", async || count(&server, pending).await == 0).await;
    maintenance::sweep(&server.app).await.expect("swept");
    assert!(count(&server, all).await <= 3);
    assert_eq!(count(&server, rows).await, 10, "the list has them for a while");
    let gone = deliveries_of_expired(&server).await;
    server.clock.advance(2 * DAY);
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(count(&server, rows).await, 0);
    assert!(gone > 0);
}

/// An event that the outbox has no more is not resent.
async fn deliveries_of_expired(server: &TestServer) -> usize {
    let admin = server.admin_as("root").await;
    let abandoned = deliveries(&admin, "crm", "?state=abandoned").await;
    let event = abandoned.last().expect("one")["eventId"].as_str().expect("an id").to_owned();
    let resend = format!("/webhooks/crm/deliveries/{event}/resend");
    let refused = admin.post(&resend, json!({})).await.expect_error(409, "CONFLICT");
    assert!(refused.text.contains("outbox"), "{refused:?}");
    abandoned.len()
}

/// A program in Node.js beside the installed libraries.
fn node(arguments: &[&str]) -> Command {
    let folder = std::env::var("PROPUSK_TEST_CLIENTS_DIR")
        .expect("PROPUSK_TEST_CLIENTS_DIR names no folder with the libraries: run ./dev/test");
    let mut program = Command::new("node");
    program.current_dir(folder).args(arguments).kill_on_drop(true);
    program.stdin(Stdio::piped()).stdout(Stdio::piped());
    program
}

/// The receiver of docs/webhooks.md, word for word, gets events from a server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and its libraries: run ./dev/test"]
async fn the_documented_receiver_verifies_events() {
    let page = include_str!("../../docs/webhooks.md");
    let (_, script) = page.split_once("```js\n").expect("the receiver");
    let (script, _) = script.split_once("\n```").expect("its end");
    let database = Arc::new(Database::prepared_by_system_time(Backend::Sqlite).await);
    let enabled = [("PROPUSK_WEBHOOKS__ENABLED", "true")];
    let server = TestServer::on(database, Clock::system(), &enabled).await;
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/");
    let added = run(&server.database, &enabled, &["webhook", "add", &url, "--id", "crm"]);
    let printed = String::from_utf8_lossy(&added.stdout).into_owned();
    let secret = printed.lines().find_map(|line| line.strip_prefix("secret (shown once): "));
    let secret = secret.unwrap_or_else(|| panic!("no secret: {added:?}"));
    let mut receiver = node(&["--input-type=module", "--eval", script]);
    receiver.env("WEBHOOK_SECRET", secret).env("PORT", port.to_string());
    let mut running = receiver.spawn().expect("Node.js");
    let mut lines = BufReader::new(running.stdout.take().expect("its output")).lines();
    let mut line = async || {
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line());
        line.await.expect("in time").expect("text").expect("a line")
    };
    assert_eq!(line().await, "listening");
    let tested = run(&server.database, &enabled, &["webhook", "test", "crm"]);
    assert!(tested.status.success(), "{tested:?}");
    assert!(line().await.starts_with("webhook.test crm"));
    // With the other secret the receiver refuses.
    let overlap = ["webhook", "rotate-secret", "crm", "--overlap", "1h"];
    assert!(run(&server.database, &enabled, &overlap).status.success());
    server.register("ann").await;
    let mut types = BTreeSet::new();
    while types.len() < 2 {
        let line = line().await;
        types.extend(line.split(' ').next().filter(|word| word.contains('.')).map(str::to_owned));
    }
    assert_eq!(types, ["session.created", "user.created"].map(str::to_owned).into());
    let at_once = ["webhook", "rotate-secret", "crm", "--overlap", "0s"];
    assert!(run(&server.database, &enabled, &at_once).status.success());
    let refused = run(&server.database, &enabled, &["webhook", "test", "crm"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("status 400"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and its libraries: run ./dev/test"]
async fn t178_the_library_refuses_forged_altered_and_old_events() {
    let external = ExternalServer::start().await;
    let own = settings(&external);
    let own: Vec<_> = own.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let database = Arc::new(Database::new(Backend::Sqlite).await);
    // What a receiver gets again, six minutes later.
    let server =
        TestServer::on(database, Clock::fake(Clock::system().now() - 6 * MINUTE), &own).await;
    let admin = server.admin("root").await;
    let secret = add(&admin, &external, "a", &["user.created"]).await;
    let other = add(&admin, &external, "b", &["user.created"]).await;
    admin.post("/webhooks/a/test", json!({})).await.expect(StatusCode::OK);
    let (old_head, old_body) = external.requests("/a").remove(0);
    let now = Clock::system().now();
    server.clock.set(now);
    server.register("ann").await;
    requests(&server, &external, "/a", 2).await;
    let (head, body) = external.requests("/a").remove(1);
    let good = json!({ "secret": secret, "headers": headers(&head), "body": body });
    let changed = |pointer: &str, value: &str| {
        let mut case = good.clone();
        *case.pointer_mut(pointer).expect("a field") = value.into();
        case
    };
    let another_time = (now.as_secs() + 1).to_string();
    let cases = json!([
        ["good", good, true],
        ["another secret", changed("/secret", &other), false],
        ["another id", changed("/headers/webhook-id", "x"), false],
        ["another body", changed("/body", &body.replace("ann", "eve")), false],
        ["another time", changed("/headers/webhook-timestamp", &another_time), false],
        ["no signature", changed("/headers/webhook-signature", ""), false],
        ["another version", changed("/headers/webhook-signature", "v2,AAAA"), false],
        ["replayed", { "secret": secret, "headers": headers(&old_head), "body": old_body }, false],
    ]);
    let mut program = node(&["webhooks.mjs"]).spawn().expect("Node.js");
    let mut input = program.stdin.take().expect("its input");
    input.write_all(cases.to_string().as_bytes()).await.expect("written");
    drop(input);
    let output = tokio::time::timeout(MINUTE, program.wait_with_output()).await.expect("in time");
    let output = output.expect("it ran");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && printed.ends_with("8 cases passed\n"), "{printed}");
}

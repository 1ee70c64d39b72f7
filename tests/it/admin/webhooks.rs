//! Webhooks as administrators and operators manage them. `tests/it/webhooks.rs` has what is sent.

use propusk::model::event_types::EVENT_TYPES;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Backend, TestServer, backend_tests, external_server::ExternalServer, process, send,
};

backend_tests! {
    a_webhook_is_added_changed_and_deleted,
    webhooks_are_managed_by_command,
}

async fn a_webhook_is_added_changed_and_deleted(backend: Backend) {
    // Nothing is delivered: they can be set up before.
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let settings = json!({ "url": "https://crm.example.com/hook", "eventTypes": ["user.created"] });
    let body = json!({ "id": "crm", "settings": settings });
    let created = admin.post("/webhooks", body.clone()).await.expect(StatusCode::CREATED);
    let webhook = created.data()["webhook"].clone();
    assert_eq!(webhook["settings"]["description"], "");
    assert_eq!((&webhook["disabledAt"], &webhook["failures"]), (&Value::Null, &json!(0)));
    admin.post("/webhooks", body).await.expect_error(409, "CONFLICT");
    let known: Vec<&str> = EVENT_TYPES.iter().map(|event| event.kind).collect();
    let all = json!({ "settings": { "url": "https://all.example.com/", "eventTypes": known } });
    let all = admin.post("/webhooks", all).await.expect(StatusCode::CREATED);
    assert_eq!(all.text_of("/webhook/id").len(), 36, "a UUID");
    for (field, value) in [
        ("/id", json!("CRM")),
        ("/id", json!("a".repeat(65))),
        ("/settings/url", json!("https://")),
        ("/settings/url", json!(format!("https://a.example/{}", "x".repeat(2048)))),
        ("/settings/url", json!("https://a.example/#x")),
        ("/settings/description", json!("x".repeat(201))),
        ("/settings/description", json!("a\nb")),
        ("/settings/eventTypes", json!(["user.made"])),
        ("/settings/eventTypes", json!(["user.created", "user.created"])),
        ("/settings/secret", json!("whsec_")),
    ] {
        let mut bad = json!({ "id": "bad", "settings": settings });
        match bad.pointer_mut(field) {
            Some(known) => *known = value.clone(),
            None => bad["settings"][field.rsplit('/').next().expect("a name")] = value.clone(),
        }
        let reply = admin.post("/webhooks", bad).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{field} {value}: {reply:?}");
    }

    let read = admin.get("/webhooks/crm").await.expect(StatusCode::OK);
    let etag = read.header("etag").to_owned();
    let put = |etag: &str, body: Value| {
        let request = admin.request(Method::PUT, "/webhooks/crm").json(&body);
        send(request.header("if-match", etag.to_owned()))
    };
    let new = json!({ "url": "https://crm.example.com/new", "description": "The CRM" });
    let changed = put(&etag, new.clone()).await.expect(StatusCode::OK);
    assert_eq!(changed.data()["settings"]["eventTypes"], json!([]));
    put(&etag, new).await.expect_error(412, "PRECONDITION_FAILED");
    let disabled = admin.post("/webhooks/crm/disable", json!({})).await.expect(StatusCode::OK);
    assert_eq!(disabled.data()["disabledFor"], "operator");
    assert_ne!(disabled.header("etag"), changed.header("etag"));
    let enabled = admin.post("/webhooks/crm/enable", json!({})).await.expect(StatusCode::OK);
    assert_eq!(enabled.data()["disabledFor"], Value::Null);
    let resend = admin.post("/webhooks/crm/deliveries/x/resend", json!({})).await;
    assert!(resend.expect_error(409, "CONFLICT").text.contains("webhooks.enabled"));
    assert_eq!(admin.all("/webhooks").await.len(), 2);
    assert_eq!(admin.all("/webhooks/crm/deliveries").await.len(), 0);
    admin.get("/webhooks/crm/deliveries?state=lost").await.expect_error(400, "VALIDATION_ERROR");
    for path in ["/webhooks/none", "/webhooks/none/deliveries", "/webhooks/crm/deliveries/x"] {
        admin.get(path).await.expect_error(404, "NOT_FOUND");
    }
    let reader = server.service("reader", "propusk:admin:read").await;
    reader.get("/webhooks").await.expect(StatusCode::OK);
    let test = reader.post("/webhooks/crm/test", json!({})).await;
    test.expect_error(403, "INSUFFICIENT_SCOPE");
    admin.delete("/webhooks/crm").await.expect(StatusCode::OK);
    admin.get("/webhooks/crm").await.expect_error(404, "NOT_FOUND");
    let entries = admin.all("/audit").await;
    let actions: Vec<&Value> = entries.iter().map(|entry| &entry["action"]).collect();
    for action in ["add", "set", "disable", "enable", "remove"] {
        let action = json!(format!("webhook.{action}"));
        assert!(actions.contains(&&action), "{action}: {actions:?}");
    }
    let events = admin.all("/events?type=webhook.disabled").await;
    assert_eq!(events[0]["data"], json!({ "webhookId": "crm", "reason": "operator" }));

    // A deployment has a hundred at most.
    for n in 0..99 {
        let body = json!({ "id": format!("w{n}"), "settings": settings });
        admin.post("/webhooks", body).await.expect(StatusCode::CREATED);
    }
    let more = admin.post("/webhooks", json!({ "id": "more", "settings": settings })).await;
    assert!(more.expect_error(409, "CONFLICT").text.contains("100 webhooks"));
}

async fn webhooks_are_managed_by_command(backend: Backend) {
    let external = ExternalServer::start().await;
    external.put("/crm", 204, "", "");
    let own = external.settings();
    let own: Vec<_> = own.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let enabled: Vec<_> =
        own.iter().copied().chain([("PROPUSK_WEBHOOKS__ENABLED", "true")]).collect();
    let server = TestServer::with(backend, &own).await;
    let with = |settings: &[(&str, &str)], arguments: &[&str]| {
        let output = process::run(&server.database, settings, arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let succeed = |arguments: &[&str]| {
        let (code, stdout, stderr) = with(&enabled, arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
        stdout
    };
    let url = format!("{}/crm", external.base);
    let (code, added, _) = with(&own, &["webhook", "add", &url, "--id", "crm"]);
    assert_eq!(code, Some(0));
    assert!(added.starts_with("added webhook crm\nsecret (shown once): whsec_"), "{added}");
    assert!(added.contains("set webhooks.enabled"), "{added}");
    let (code, _, stderr) = with(&enabled, &["webhook", "add", "http://10.0.0.1/"]);
    assert!(code == Some(1) && stderr.contains("url: must use https"), "{stderr}");
    succeed(&["webhook", "set", "crm", "--type", "user.created", "--description", "The CRM"]);
    let shown = succeed(&["webhook", "show", "crm"]);
    for text in [&url, "user.created", "The CRM"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    let shown = succeed(&["webhook", "show", "crm", "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["settings"]["eventTypes"], json!(["user.created"]));
    let tested = succeed(&["webhook", "test", "crm"]);
    assert_eq!(tested, "webhook crm has accepted the test event: status 204\n");
    let body = external.posted("/crm").expect("an event");
    assert!(body.contains("\"type\":\"webhook.test\""), "{body}");
    let rotated = succeed(&["webhook", "rotate-secret", "crm", "--overlap", "1h"]);
    assert!(rotated.contains("signs as well until") && rotated.contains("whsec_"), "{rotated}");
    succeed(&["webhook", "disable", "crm"]);
    assert!(succeed(&["webhook", "list"]).contains("disabled (operator)"));
    succeed(&["webhook", "enable", "crm"]);

    let delivering = server.another(&enabled).await;
    // The command has read another clock than the servers.
    let since = propusk::clock::Clock::system().now() + std::time::Duration::from_secs(1);
    server.clock.set(since);
    delivering.register("ann").await;
    for _ in 0..600 {
        if external.count("/crm") == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let list = ["webhook", "deliveries", "crm", "--type", "user.created", "--json"];
    let listed: Value = serde_json::from_str(&succeed(&list)).expect("JSON");
    let event = listed[0]["eventId"].as_str().expect("an id").to_owned();
    let resent = succeed(&["webhook", "resend", "crm", &event]);
    assert_eq!(resent, format!("event {event} will be delivered again\n"));
    assert!(succeed(&["webhook", "deliveries", "crm"]).contains(&event));
    let (code, _, stderr) = with(&enabled, &["webhook", "deliveries", "crm", "--state", "lost"]);
    assert!(code == Some(2) && stderr.contains("must be pending"), "{stderr}");
    succeed(&["webhook", "remove", "crm"]);
    let (code, _, stderr) = with(&enabled, &["webhook", "show", "crm"]);
    assert!(code == Some(1) && stderr.contains("propusk webhook list"), "{stderr}");
}

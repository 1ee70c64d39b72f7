//! Trusted issuers and their links, through the admin API and by command.

use propusk::flows::admin::users;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Backend, TestServer, backend_tests, exchange::Idp, process, send};

backend_tests! {
    a_trusted_issuer_is_added_changed_and_deleted,
    subjects_are_linked_once_and_unlinked,
    issuers_are_managed_by_command,
}

fn settings(idp: &Idp) -> Value {
    json!({ "trustedFor": ["id_jag"], "jwks": idp.jwks(), "scopes": ["notes:read"] })
}

async fn a_trusted_issuer_is_added_changed_and_deleted(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let acme = Idp::new("https://idp.acme.example");
    let body = json!({ "id": "acme", "issuer": acme.issuer, "settings": settings(&acme) });
    let created = admin.post_once("k", "/issuers", body.clone()).await.expect(StatusCode::CREATED);
    assert_eq!(created.data()["settings"]["trustedFor"], json!(["id_jag"]));
    assert_eq!(created.data()["settings"]["jwks"], acme.jwks());
    let again = admin.post_once("k", "/issuers", body.clone()).await.expect(StatusCode::CREATED);
    assert_eq!(again.header("idempotency-replayed"), "true");
    admin.post("/issuers", body.clone()).await.expect_error(409, "CONFLICT");
    let taken = json!({ "id": "acme2", "issuer": acme.issuer, "settings": settings(&acme) });
    admin.post("/issuers", taken).await.expect_error(409, "CONFLICT");
    let ours = server.app.config.server.issuer.clone();
    for (field, value) in [
        ("/id", json!("Acme")),
        ("/id", json!("a".repeat(33))),
        ("/issuer", json!("idp.acme.example")),
        ("/issuer", json!("http://idp.acme.example")),
        ("/issuer", json!(ours)),
        ("/settings/trustedFor", json!([])),
        ("/settings/trustedFor", json!(["id_jag", "id_jag"])),
        ("/settings/trustedFor", json!(["everything"])),
        ("/settings/jwks", Value::Null),
        ("/settings/jwks", json!({ "keys": [] })),
        ("/settings/jwksUri", json!("https://idp.acme.example/jwks")),
        ("/settings/scopes", json!(["propusk:admin"])),
        ("/settings/scopes", json!(["openid"])),
        ("/settings/scopes", json!(["a b"])),
        ("/settings/clients", json!([""])),
        ("/settings/power", json!(9)),
    ] {
        let mut bad = json!({ "id": "other", "issuer": "https://other.example", "settings": settings(&acme) });
        match bad.pointer_mut(field) {
            Some(known) => *known = value.clone(),
            None => bad["settings"][field.rsplit('/').next().expect("a name")] = value.clone(),
        }
        let reply = admin.post("/issuers", bad).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{field} {value}: {reply:?}");
    }
    let internal = json!({ "trustedFor": ["id_jag"], "jwksUri": "https://127.0.0.1/jwks" });
    let bad = json!({ "id": "inside", "issuer": "https://other.example", "settings": internal });
    admin.post("/issuers", bad).await.expect_error(400, "VALIDATION_ERROR");

    let read = admin.get("/issuers/acme").await.expect(StatusCode::OK);
    let (first, etag) = (read.data(), read.header("etag").to_owned());
    assert_eq!((&first["issuer"], &first["disabledAt"]), (&json!(acme.issuer), &Value::Null));
    let put = |etag: &str, body: Value| {
        let request = admin.request(Method::PUT, "/issuers/acme").json(&body);
        send(request.header("if-match", etag.to_owned()))
    };
    let mut wider = settings(&acme);
    wider["trustedFor"] = json!(["subject_token", "actor_token"]);
    wider["clients"] = json!(["gateway"]);
    let changed = put(&etag, wider.clone()).await.expect(StatusCode::OK);
    assert_eq!(changed.data()["settings"]["clients"], json!(["gateway"]));
    put(&etag, wider).await.expect_error(412, "PRECONDITION_FAILED");
    let disabled = admin.post("/issuers/acme/disable", json!({})).await.expect(StatusCode::OK);
    assert!(disabled.data()["disabledAt"].is_string());
    admin.post("/issuers/acme/enable", json!({})).await.expect(StatusCode::OK);
    assert_eq!(admin.all("/issuers").await.len(), 1);
    admin.delete("/issuers/acme").await.expect(StatusCode::OK);
    admin.get("/issuers/acme").await.expect_error(404, "NOT_FOUND");
    let actions: Vec<Value> =
        admin.all("/audit").await.iter().map(|entry| entry["action"].clone()).collect();
    for action in ["add", "set", "disable", "enable", "remove"] {
        assert!(actions.contains(&json!(format!("issuer.{action}"))), "{action}: {actions:?}");
    }
}

async fn subjects_are_linked_once_and_unlinked(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let acme = Idp::new("https://idp.acme.example");
    let body = json!({ "id": "acme", "issuer": acme.issuer, "settings": settings(&acme) });
    admin.post("/issuers", body).await.expect(StatusCode::CREATED);
    server.register("ann").await;
    let ann = users::find(&server.app, "ann").await.expect("ann").id;
    for subject in ["1", "2", "3", "U/4 ü"] {
        let body = json!({ "subject": subject, "userId": ann });
        let linked = admin.post("/issuers/acme/links", body.clone()).await.expect(StatusCode::OK);
        assert_eq!(linked.data()["userId"], ann.as_str());
        admin.post("/issuers/acme/links", body).await.expect_error(409, "CONFLICT");
    }
    for (path, body, status) in [
        ("/issuers/acme/links", json!({ "subject": "", "userId": ann }), 400),
        ("/issuers/acme/links", json!({ "subject": "a\nb", "userId": ann }), 400),
        ("/issuers/acme/links", json!({ "subject": "5", "userId": "nobody" }), 404),
        ("/issuers/none/links", json!({ "subject": "5", "userId": ann }), 404),
    ] {
        assert_eq!(admin.post(path, body.clone()).await.status.as_u16(), status, "{body}");
    }
    assert_eq!(admin.all("/issuers/acme/links").await.len(), 4);
    let odd = "/issuers/acme/links/U%2F4%20%C3%BC";
    send(admin.request(Method::DELETE, odd)).await.expect(StatusCode::OK);
    send(admin.request(Method::DELETE, odd)).await.expect_error(404, "NOT_FOUND");
    let subjects: Vec<Value> =
        admin.all("/issuers/acme/links").await.iter().map(|link| link["subject"].clone()).collect();
    assert_eq!(subjects, ["1", "2", "3"]);
    let ann_entries = admin.all(&format!("/audit?subject={ann}")).await;
    let actions: Vec<&Value> = ann_entries.iter().map(|entry| &entry["action"]).collect();
    assert!(actions.contains(&&json!("issuer.link")) && actions.contains(&&json!("issuer.unlink")));
}

async fn issuers_are_managed_by_command(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let acme = Idp::new("https://idp.acme.example");
    let folder = server.database.folder.path();
    let file = folder.join("jwks.json").display().to_string();
    std::fs::write(&file, acme.jwks().to_string()).expect("a file");
    let command = |arguments: &[&str]| {
        let output = process::run(&server.database, &[], arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let succeed = |arguments: &[&str]| {
        let (code, stdout, stderr) = command(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
        stdout
    };
    let add = [
        "issuer",
        "add",
        "acme",
        "--issuer",
        acme.issuer,
        "--jwks-file",
        &file,
        "--trust",
        "id_jag",
        "--trust",
        "subject_token",
        "--scope",
        "notes:read",
    ];
    assert_eq!(succeed(&add), "added issuer acme\n");
    assert_eq!(command(&add).0, Some(1));
    succeed(&["issuer", "set", "acme", "--client", "gateway"]);
    let shown = succeed(&["issuer", "show", "acme"]);
    for line in ["https://idp.acme.example", "gateway", "notes:read", "subject_token"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    succeed(&["issuer", "link", "acme", "U1", "ann"]);
    let links = succeed(&["issuer", "links", "acme", "--json"]);
    let links: Value = serde_json::from_str(&links).expect("JSON");
    assert_eq!(links[0]["subject"], "U1");
    succeed(&["issuer", "disable", "acme"]);
    assert!(succeed(&["issuer", "list"]).contains("disabled"));
    succeed(&["issuer", "enable", "acme"]);
    succeed(&["issuer", "unlink", "acme", "U1"]);
    succeed(&["issuer", "remove", "acme"]);
    let (code, _, stderr) = command(&["issuer", "show", "acme"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("propusk issuer list"), "{stderr}");

    // The policy of a client, by command.
    let grant = "urn:ietf:params:oauth:grant-type:token-exchange";
    let target = r#"{"audience":"https://chat.example","client_id":"abc","resources":["https://chat.example/api"],"scope":"chat.read"}"#;
    succeed(&[
        "client",
        "add",
        "gateway",
        "--scope",
        "ledger:read",
        "--grant",
        grant,
        "--exchange-audience",
        "https://ledger.example",
        "--exchange-subject-audience",
        "*",
        "--exchange-issuer",
        "acme",
        "--delegation",
        "--id-jag",
        target,
        "--may-act",
        "gateway",
    ]);
    let shown = succeed(&["client", "show", "gateway", "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(
        shown["token_exchange"],
        json!({ "audiences": ["https://ledger.example"], "subject_audiences": ["*"], "issuers": ["acme"],
            "impersonation": false, "delegation": true })
    );
    assert_eq!(shown["id_jag"][0]["client_id"], "abc");
    assert_eq!(shown["may_act"], "gateway");
    succeed(&["client", "set", "gateway", "--id-jag", "", "--may-act", "", "--delegation=false"]);
    let shown = succeed(&["client", "show", "gateway", "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!((&shown["id_jag"], &shown["may_act"]), (&Value::Null, &Value::Null));
    assert_eq!(shown["token_exchange"]["delegation"], false);
}

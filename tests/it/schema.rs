//! The responses match the OpenAPI document.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Backend, Database, PASSWORD, Reply, TestServer, backend_tests, process, send,
};

/// The mismatches, as sentences. Supports the parts of JSON Schema that the document uses; a field
/// of a response that the document lacks is a mismatch too.
fn faults(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(&reference[1..]).expect("a schema");
        return faults(document, target, value, at);
    }
    if value.is_null() && schema["nullable"] == true {
        return vec![];
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let faults = |part| faults(document, part, value, at);
        return parts.iter().flat_map(faults).collect();
    }
    let kind = match schema["type"].as_str() {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some(other) => panic!("unsupported schema type: {other}"),
    };
    if !kind {
        return vec![format!("{at}: {value} is not {}", schema["type"])];
    }
    let mut found = vec![];
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        found.push(format!("{at}: {value} is not among {}", schema["enum"]));
    }
    if let Some(items) = schema.get("items") {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            found.extend(faults(document, items, item, &format!("{at}[{index}]")));
        }
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().expect("a name");
        if value.get(name).is_none() {
            found.push(format!("{at}.{name} is required and missing"));
        }
    }
    if schema["type"] == "object" {
        for (name, field) in value.as_object().into_iter().flatten() {
            let at = format!("{at}.{name}");
            match schema["properties"].get(name) {
                Some(schema) => found.extend(faults(document, schema, field, &at)),
                None => found.push(format!("{at} is undocumented")),
            }
        }
    }
    found
}

/// Sends a request; checks its status and the response against the document.
async fn checked(document: &Value, request: RequestBuilder, status: StatusCode) -> Reply {
    let built = request.try_clone().expect("no stream").build().expect("a request");
    let (method, path) = (built.method().as_str().to_lowercase(), built.url().path().to_owned());
    let reply = send(request).await.expect(status);
    assert_eq!(reply.header("content-type"), "application/json", "{reply:?}");
    let response = &document["paths"][&path][&method]["responses"][status.as_str()];
    let schema = &response["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{method} {path}: status {status} is undocumented");
    let found = faults(document, schema, &reply.json(), "answer");
    assert_eq!(found, [""; 0], "{method} {path} {status}: {}", reply.text);
    assert_eq!(reply.json()["statusCode"], status.as_u16());
    if !status.is_success() {
        let described = response["description"].as_str().expect("a description");
        let code = reply.json()["errorCode"].as_str().expect("a code").to_owned();
        assert!(
            described.contains(&format!("`{code}`")),
            "{method} {path}: {code} is undocumented"
        );
    }
    reply
}

backend_tests! {
    every_response_matches_the_openapi_document,
}

async fn every_response_matches_the_openapi_document(backend: Backend) {
    let server = TestServer::start(backend).await;
    let document = server.get("/openapi.json").await.json();
    let post = |path: &str, body: Value| server.request(Method::POST, path).json(&body);
    let get = |path: &str| server.request(Method::GET, path);
    let check = |request, status: u16| {
        checked(&document, request, StatusCode::from_u16(status).expect("a status"))
    };
    let account = |name: &str| json!({ "email": format!("{name}@example.org"), "username": name, "password": PASSWORD });

    for (prefix, name) in [("/api/v1/auth", "vera"), ("/auth", "nora")] {
        let path = |end: &str| format!("{prefix}{end}");
        let login = json!({ "login": name, "password": PASSWORD, "delivery": "body" });
        check(post(&path("/register"), account(name)), 201).await;
        check(post(&path("/register"), account(name)), 409).await;
        check(post(&path("/register"), json!({ "email": "x" })), 400).await;
        let wrong = json!({ "email": "x", "username": "x y", "password": "y" });
        let refused = check(post(&path("/register"), wrong), 400).await.json();
        let message = refused["message"].as_str().expect("a message");
        assert!(message.contains("; password: ") && !message.contains(".;"), "{message}");
        let tokens = check(post(&path("/login"), login.clone()), 200).await.tokens();
        check(post(&path("/login"), json!({ "login": name, "password": "wrong" })), 401).await;
        check(server.request(Method::POST, &path("/login")).body("login=x"), 415).await;
        check(server.request(Method::POST, &path("/login")).json(&login).body("{"), 400).await;
        check(
            post(&path("/login"), json!({ "login": name, "password": "x".repeat(3_000_000) })),
            413,
        )
        .await;
        check(post(&path("/logout"), json!({})).bearer_auth(&tokens.access), 200).await;
        check(post(&path("/logout"), json!({})).bearer_auth("made up"), 401).await;
        let again = check(post(&path("/login"), login), 200).await.tokens();
        check(server.request(Method::DELETE, &path("/logout")).bearer_auth(&again.access), 200)
            .await;
        check(get(&path("/health")), 200).await;
    }
    let cookies = json!({ "login": "vera", "password": PASSWORD, "delivery": "cookie" });
    let reply = check(post("/api/v1/auth/login", cookies.clone()), 200).await;
    assert_eq!(reply.json()["data"].get("accessToken"), None);
    check(post("/api/v1/auth/login", cookies).header("sec-fetch-site", "cross-site"), 403).await;
    let nameless = json!({ "email": "anna@example.org", "password": PASSWORD });
    let tokens = check(post("/api/v1/auth/register", nameless), 201).await.tokens();
    check(get("/api/v1/auth/verify").bearer_auth(&tokens.access), 200).await;
    check(get("/api/v1/auth/verify"), 401).await;
    check(get("/api/v1/auth/session").bearer_auth(&tokens.access), 200).await;
    check(get("/api/v1/auth/session"), 200).await;
    let refresh = json!({ "refreshToken": tokens.refresh });
    check(post("/api/v1/auth/token/refresh", refresh), 200).await;
    check(post("/api/v1/auth/token/refresh", json!({ "refreshToken": "made up" })), 401).await;
    check(get("/api/v1/auth/health/live"), 200).await;
    check(get("/api/v1/auth/health/ready"), 200).await;
}

#[test]
fn the_schema_checker_finds_mismatches() {
    let document = json!({ "s": { "type": "object", "required": ["a"], "properties": {
        "a": { "type": "string", "enum": ["", "z"] }, "b": { "type": "array", "items": { "type": "integer" } } } } });
    let found = |value: Value| faults(&document, &json!({ "$ref": "#/s" }), &value, "x");
    assert!(found(json!({ "a": "", "b": [1] })).is_empty());
    for bad in [
        json!({}),
        json!({ "a": "y" }),
        json!({ "a": null }),
        json!({ "a": "", "b": [""] }),
        json!({ "a": "", "c": 1 }),
        json!([]),
    ] {
        assert_eq!(found(bad.clone()).len(), 1, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_served_openapi_document_is_the_committed_one() {
    let server = TestServer::start(Backend::Sqlite).await;
    let served = server.get("/openapi.json").await.expect(StatusCode::OK);
    assert_eq!(served.header("content-type"), "application/json");
    let database = Database::new(Backend::Sqlite).await;
    let export = |args: &[&str]| {
        let output = process::run(&database, &[], args);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let mut exported: Value = serde_json::from_str(&export(&["openapi", "--json"])).expect("JSON");
    // Swagger UI requires these two to be written out.
    let flow =
        &mut exported["components"]["securitySchemes"]["oauth2"]["flows"]["authorizationCode"];
    for name in ["authorizationUrl", "tokenUrl"] {
        let path = flow[name].as_str().expect("a path").to_owned();
        flow[name] = format!("{}{path}", server.app.config.server.issuer).into();
    }
    assert!(served.json() == exported, "the served document differs");
    let committed = include_str!("../../openapi/propusk.yaml");
    assert!(export(&["openapi"]) == committed, "propusk openapi > openapi/propusk.yaml");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn static_documents_are_revalidated_by_etag() {
    let server = TestServer::start(Backend::Sqlite).await;
    for path in ["/openapi.json", "/oauth2/jwks"] {
        let first = server.get(path).await.expect(StatusCode::OK);
        let etag = first.header("etag").to_owned();
        assert!(etag.ends_with('"') && etag.len() > 8, "{path}: {first:?}");
        let cache = first.header("cache-control");
        assert!(!cache.is_empty() && !cache.contains("no-store"), "{path}: {cache}");
        let with =
            |etags: String| send(server.request(Method::GET, path).header("if-none-match", etags));
        for known in
            [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()]
        {
            let reply = with(known).await.expect(StatusCode::NOT_MODIFIED);
            assert_eq!((reply.text.as_str(), reply.header("etag")), ("", etag.as_str()), "{path}");
        }
        let reply = with("\"other\"".to_owned()).await.expect(StatusCode::OK);
        assert_eq!(reply.text, first.text);
    }
    let jwks = server.get("/oauth2/jwks").await;
    assert_eq!(jwks.header("cache-control"), "public, max-age=300");
    assert_eq!(jwks.header("content-type"), "application/jwk-set+json");
}

//! Attacks by clients: what a client may be granted, and what it may learn.

use std::collections::HashSet;

use propusk::{
    model::client::{GrantType, Metadata},
    oauth::scope::Scope,
    storage::Statement,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{assert_active, assert_revoked, inactive, tokens, with_app};
use crate::support::{
    Backend, PASSWORD, Reply, TestServer, backend_tests,
    oauth::{
        AuthorizationRequest, AuthorizationResponse, CALLBACK, Form, SECRET, VERIFIER,
        first_party_app, payload, public_app, web_app,
    },
    send,
};

const MACHINE: &[(&str, &str)] = &[("grant_type", "client_credentials")];

/// A client-credentials token.
async fn for_itself(server: &TestServer, id: &str) -> String {
    server.form_as("/oauth2/token", id, MACHINE).await.expect(StatusCode::OK).field("access_token")
}

/// The scopes of a token, by the token response and by introspection.
async fn scope_of(server: &TestServer, reply: Reply) -> String {
    let reply = reply.expect(StatusCode::OK);
    let access = reply.field("access_token");
    let response = server.introspect("app", &access).await;
    assert_eq!(response["scope"], reply.field("scope"), "{reply:?}");
    assert_eq!(payload(&access)["scope"], response["scope"]);
    reply.field("scope")
}

backend_tests! {
    t104_a_redirect_uri_on_the_device_proves_no_sector,
    t23_no_grant_type_issues_an_ungranted_scope,
    t23_a_client_uses_its_registered_grant_types_only,
    t23_unconsented_claims_are_not_released,
    t23_a_client_token_is_refused_by_the_first_party_api,
    t33_introspection_answers_the_token_audience_only,
    t54_requested_claims_cannot_override_protocol_claims,
    t83_no_response_page_or_event_contains_a_secret,
}

async fn t23_no_grant_type_issues_an_ungranted_scope(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    // A client for itself: what it registered, and nothing that is about a user.
    for scope in [
        "admin",
        "api:read admin",
        "openid",
        "api:read offline_access",
        "email",
        "API:READ",
        "api:*",
        "*",
        "api:read,api:write",
    ] {
        let request = [MACHINE, &[("scope", scope)]].concat();
        server
            .form_as("/oauth2/token", "app", &request)
            .await
            .expect_oauth_error(400, "invalid_scope");
    }
    let all = server.form_as("/oauth2/token", "app", MACHINE).await;
    assert_eq!(scope_of(&server, all).await, "api:read api:write");
    let one = server
        .form_as("/oauth2/token", "app", &[MACHINE, &[("scope", "api:write")]].concat())
        .await;
    assert_eq!(scope_of(&server, one).await, "api:write");
    // For a user: what was requested, consented and registered; the rest is left out, and the
    // response says so.
    let mut ann = server.browser();
    let answer = ann
        .authorize(&AuthorizationRequest::of("app", "openid api:read admin propusk:all"), "ann")
        .await;
    let granted = server.exchange_code("app", answer.code()).await;
    let refresh = granted.field("refresh_token");
    assert_eq!(scope_of(&server, granted).await, "openid api:read");
    // A refresh may narrow the scope and never widen it; a refused one uses nothing up.
    let with = |scope: &'static str| {
        [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str()), ("scope", scope)]
    };
    for scope in
        ["openid api:read api:write", "api:write", "admin", "openid email", "offline_access"]
    {
        server
            .form_as("/oauth2/token", "app", &with(scope))
            .await
            .expect_oauth_error(400, "invalid_scope");
    }
    let narrow = server.form_as("/oauth2/token", "app", &with("api:read")).await;
    let next = narrow.field("refresh_token");
    assert_eq!(scope_of(&server, narrow).await, "api:read");
    let whole = server.refresh_as("app", &next).await;
    let next = whole.field("refresh_token");
    assert_eq!(scope_of(&server, whole).await, "openid api:read", "the session keeps its scope");
    // A scope that was removed from the client meanwhile is in no refreshed token.
    server
        .change_client("app", |client| {
            client.metadata.scope = Scope::parse("openid email api:write").expect("a scope");
        })
        .await;
    let less = server.refresh_as("app", &next).await;
    assert_eq!(scope_of(&server, less).await, "openid");
    // The scopes of the first-party client cannot be requested.
    for (id, status, error) in
        [("propusk", 400, "invalid_client"), ("propusk-docs", 400, "unauthorized_client")]
    {
        server
            .form("/oauth2/token", &[MACHINE, &[("client_id", id)]].concat())
            .await
            .expect_oauth_error(status, error);
    }
}

async fn t23_a_client_uses_its_registered_grant_types_only(backend: Backend) {
    let server = with_app(
        backend,
        Metadata { grant_types: vec![GrantType::AuthorizationCode], ..first_party_app() },
    )
    .await;
    server
        .client(
            "machine",
            Metadata { grant_types: vec![GrantType::ClientCredentials], ..first_party_app() },
        )
        .await;
    server.client("spa", public_app()).await;
    let mut ann = server.logged_in("ann").await;
    server
        .form_as("/oauth2/token", "app", MACHINE)
        .await
        .expect_oauth_error(400, "unauthorized_client");
    server.refresh_as("app", "prt_x").await.expect_oauth_error(400, "unauthorized_client");
    server.exchange_code("machine", "pac_x").await.expect_oauth_error(400, "unauthorized_client");
    server
        .form("/oauth2/token", &[MACHINE, &[("client_id", "spa")]].concat())
        .await
        .expect_oauth_error(400, "unauthorized_client");
    let reply = ann.open(&AuthorizationRequest::of("machine", "openid").path()).await;
    AuthorizationResponse::of(reply.header("location")).expect_error("unauthorized_client");
    // Without the grant type there is no refresh token, and offline_access is left out.
    let answer =
        ann.authorize(&AuthorizationRequest::of("app", "openid offline_access"), "ann").await;
    let granted = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK).json();
    assert_eq!((&granted["refresh_token"], &granted["scope"]), (&Value::Null, &"openid".into()));
}

async fn t23_unconsented_claims_are_not_released(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    server
        .client("narrow", Metadata { scope: Scope::parse("openid").expect("a scope"), ..web_app() })
        .await;
    let wish = json!({ "userinfo": { "email": null, "preferred_username": { "essential": true } }, "id_token": { "email": { "essential": true }, "email_verified": null } });
    // A client without the scope gets nothing by requesting single claims.
    let request = AuthorizationRequest::of("narrow", "openid").with("claims", &wish.to_string());
    let answer = server.browser().authorize(&request, "ann").await;
    let granted = server.exchange_code("narrow", answer.code()).await.expect(StatusCode::OK);
    let response = server.get_as("/oauth2/userinfo", &granted.field("access_token")).await.json();
    let id = payload(&granted.field("id_token"));
    for claim in ["email", "email_verified", "preferred_username"] {
        assert_eq!(
            (&response[claim], &id[claim]),
            (&Value::Null, &Value::Null),
            "{claim}: {response} {id}"
        );
    }
    // One with it: the user is asked, even if the scope alone was consented before.
    let mut ann = server.browser();
    ann.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
    let request = AuthorizationRequest::of("app", "openid").with("claims", &wish.to_string());
    let page = ann.open(&request.path()).await.expect(StatusCode::OK);
    assert!(page.text.contains("name=\"decision\""), "{page:?}");
    let answer = ann.submit(&page, &[("decision", "allow")]).await;
    let granted = server
        .exchange_code("app", AuthorizationResponse::of(answer.header("location")).code())
        .await
        .expect(StatusCode::OK);
    let response = server.get_as("/oauth2/userinfo", &granted.field("access_token")).await.json();
    assert_eq!(
        (&response["email"], &payload(&granted.field("id_token"))["email"]),
        (&"ann@example.org".into(), &"ann@example.org".into())
    );
}

async fn t23_a_client_token_is_refused_by_the_first_party_api(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let granted = tokens(&server, "app", "openid api:read", "ann").await;
    let access = granted.field("access_token");
    let session = server.get_as("/api/v1/auth/session", &access).await;
    assert!(
        !session.text.contains("example.org") && !session.text.contains("\"role\""),
        "{session:?}"
    );
    let verified = server.get_as("/api/v1/auth/verify", &access).await.json();
    assert_eq!(
        (&verified["data"]["user"]["email"], &verified["data"]["user"]["role"]),
        (&Value::Null, &Value::Null)
    );
    let claims = payload(&access);
    assert_eq!((&claims["email"], &claims["role"]), (&Value::Null, &Value::Null));
}

async fn t33_introspection_answers_the_token_audience_only(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    server.client("other", first_party_app()).await;
    server.client("spa", public_app()).await;
    server
        .client(
            "api",
            Metadata {
                introspection_audiences: vec![server.app.config.server.issuer.clone()],
                ..first_party_app()
            },
        )
        .await;
    server
        .client(
            "another-api",
            Metadata {
                introspection_audiences: vec!["https://another.example".to_owned()],
                ..first_party_app()
            },
        )
        .await;
    let granted = tokens(&server, "app", "openid api:read", "ann").await;
    let (access, refresh) = (granted.field("access_token"), granted.field("refresh_token"));
    let own = for_itself(&server, "app").await;
    for token in [&access, &own] {
        for id in ["app", "api"] {
            assert_eq!(server.introspect(id, token).await["active"], true, "{id}");
        }
        for id in ["other", "another-api"] {
            assert_eq!(server.introspect(id, token).await, inactive(), "{id}");
        }
    }
    assert_eq!(server.introspect("app", &refresh).await["active"], true);
    for id in ["other", "api", "another-api"] {
        assert_eq!(
            server.introspect(id, &refresh).await,
            inactive(),
            "only its client sees a refresh token: {id}"
        );
    }
    for nothing in ["", "x", "prt_x", "pac_x", "a.b.c", &access[1..], &granted.field("id_token")] {
        let reply = server.form_as("/oauth2/introspect", "app", &[("token", nothing)]).await;
        if nothing.is_empty() {
            reply.expect_oauth_error(400, "invalid_request");
        } else {
            assert_eq!(reply.expect(StatusCode::OK).json(), inactive(), "{nothing}");
        }
    }
    // Without credentials, with wrong ones, as a public client, with the token itself: refused, and
    // nothing about it.
    let token = [("token", access.as_str())];
    let basic = |id: &str, secret: &str| {
        server
            .request(Method::POST, "/oauth2/introspect")
            .basic_auth(id.to_owned(), Some(secret.to_owned()))
            .form(&token)
    };
    let requests = [
        server.request(Method::POST, "/oauth2/introspect").form(&token),
        basic("app", "wrong"),
        basic("nobody", SECRET),
        basic("propusk", ""),
        basic("spa", ""),
        server.request(Method::POST, "/oauth2/introspect").bearer_auth(&access).form(&token),
        server.request(Method::POST, "/oauth2/introspect").form(&[token[0], ("client_id", "spa")]),
        server.request(Method::POST, "/oauth2/introspect").form(&[token[0], ("client_id", "app")]),
    ];
    for request in requests {
        let built = request.try_clone().expect("no stream").build().expect("a request");
        let status = if built.headers().contains_key("authorization") { 401 } else { 400 };
        let reply = send(request).await.expect_oauth_error(status, "invalid_client");
        assert_eq!(reply.json()["active"], Value::Null);
    }
    server
        .get(&format!("/oauth2/introspect?token={access}"))
        .await
        .expect(StatusCode::METHOD_NOT_ALLOWED);
    assert_active(&server, "app", &granted).await;
}

async fn t54_requested_claims_cannot_override_protocol_claims(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let forged = json!({ "value": "forged", "essential": true });
    let names = [
        "iss",
        "aud",
        "exp",
        "iat",
        "scope",
        "sid",
        "nonce",
        "at_hash",
        "amr",
        "auth_time",
        "azp",
        "client_id",
        "role",
        "jti",
        "email_verified",
        "__proto__",
    ];
    let wishes: serde_json::Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), forged.clone())).collect();
    let plain = tokens(&server, "app", "openid", "ann").await;
    let request = AuthorizationRequest::of("app", "openid")
        .with("claims", &json!({ "userinfo": wishes, "id_token": wishes }).to_string())
        .with("email_verified", "true")
        .with("sub", "forged")
        .with("role", "admin")
        .with("iss", "https://evil.example");
    let answer = server.browser().authorize(&request, "ann").await;
    assert_eq!(answer.fields["iss"], server.app.config.server.issuer);
    let granted = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let response = server
        .get_as("/oauth2/userinfo", &granted.field("access_token"))
        .await
        .expect(StatusCode::OK);
    for (was, is) in [
        (payload(&plain.field("id_token")), payload(&granted.field("id_token"))),
        (payload(&plain.field("access_token")), payload(&granted.field("access_token"))),
    ] {
        assert!(!is.to_string().contains("forged") && !is.to_string().contains("evil"), "{is}");
        for name in
            ["iss", "sub", "aud", "exp", "scope", "amr", "auth_time", "acr", "client_id", "role"]
        {
            assert_eq!(was[name], is[name], "{name}");
        }
        assert_ne!(was["sid"], is["sid"]);
    }
    assert_eq!(response.json()["sub"], payload(&plain.field("id_token"))["sub"]);
    assert!(!response.text.contains("forged"), "{response:?}");
    // Another subject than the logged-in user gets an error (Core §5.5.1); another client name has
    // no effect.
    let other = AuthorizationRequest::of("app", "openid")
        .with("prompt", "none")
        .with("claims", &json!({ "id_token": { "sub": { "value": "forged" } } }).to_string());
    let mut ann = server.logged_in("ann").await;
    AuthorizationResponse::of(ann.open(&other.path()).await.header("location"))
        .expect_error("login_required");
    let machine = payload(&for_itself(&server, "app").await);
    assert_eq!(
        (&machine["sub"], &machine["client_id"], &machine["sid"]),
        (&"app".into(), &"app".into(), &Value::Null)
    );
}

async fn t83_no_response_page_or_event_contains_a_secret(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let mut ann = server.browser();
    let request = AuthorizationRequest::of("app", "openid email offline_access api:read");
    let mut replies = vec![];
    let to_login = ann.open(&request.path()).await;
    let login = ann.open(to_login.header("location")).await;
    let wrong =
        ann.submit(&login, &[("login", "ann"), ("password", "a guess that is quite wrong")]).await;
    let inside = ann.log_in(to_login.header("location"), "ann").await;
    let consent = ann.open(inside.header("location")).await;
    let answer = ann.submit(&consent, &[("decision", "allow")]).await;
    let code = AuthorizationResponse::of(answer.header("location")).code().to_owned();
    let granted = server.exchange_code("app", &code).await.expect(StatusCode::OK);
    let (access, refresh) = (granted.field("access_token"), granted.field("refresh_token"));
    replies.extend([to_login, login, wrong, inside, consent]);
    for (path, fields) in [
        (
            "/oauth2/par",
            &request.0.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>()[..],
        ),
        ("/oauth2/introspect", &[("token", &access)]),
        ("/oauth2/introspect", &[("token", &refresh)]),
        ("/oauth2/token", MACHINE),
        ("/oauth2/token", &[("grant_type", "refresh_token"), ("refresh_token", "prt_x")]),
    ] {
        replies.push(server.form_as(path, "app", fields).await);
        let in_form = [fields, &[("client_id", "app"), ("client_secret", SECRET)]].concat();
        replies.push(
            server
                .form(
                    path,
                    &in_form
                        .iter()
                        .copied()
                        .collect::<std::collections::BTreeMap<_, _>>()
                        .into_iter()
                        .collect::<Vec<_>>(),
                )
                .await,
        );
        replies.push(server.form(path, &[fields, &[("client_secret", SECRET)]].concat()).await);
    }
    replies.push(server.get_as("/oauth2/userinfo", &access).await);
    replies.push(server.exchange_code("app", &code).await);
    replies.push(
        ann.open(&format!(
            "/oauth2/authorize?client_id=app&client_secret={}&redirect_uri={CALLBACK}",
            SECRET.replace(' ', "+")
        ))
        .await,
    );
    replies.push(ann.open("/oauth2/logout?client_id=app").await);
    assert_revoked(&server, "app", &granted).await;
    for reply in &replies {
        let (text, headers) = (&reply.text, format!("{:?}", reply.headers));
        for secret in [SECRET, PASSWORD, "a guess that is quite wrong", &code, &refresh, "$argon2"]
        {
            assert!(!text.contains(secret) && !headers.contains(secret), "{secret}: {reply:?}");
        }
    }
    let kept = server
        .app
        .db
        .read(Statement::new(
            "SELECT data AS text FROM outbox UNION ALL SELECT detail AS text FROM audit_log",
        ))
        .await;
    let kept: Vec<String> =
        kept.expect("rows").iter().map(|row| row.get("text").expect("text")).collect();
    assert!(kept.len() >= 6, "events and audit entries: {kept:?}");
    let cookie = &ann.cookies["propusk_session"];
    let csrf = Form::of(&replies[1].text).field("csrf").to_owned();
    for text in &kept {
        for secret in [SECRET, PASSWORD, &code, &refresh, &access, cookie, &csrf, "$argon2"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

async fn t104_a_redirect_uri_on_the_device_proves_no_sector(backend: Backend) {
    const APP: &str = "com.example.app:/cb";
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let register = async |uris: Value| {
        let metadata = json!({
            "redirect_uris": uris, "application_type": "native", "subject_type": "pairwise",
            "token_endpoint_auth_method": "none",
        });
        server.post("/oauth2/register", metadata).await
    };
    // Another site's host beside a scheme or an address of the device: the code would come here,
    // with that site's `sub`.
    for beside in [APP, "http://127.0.0.1/cb", "http://localhost/cb", "https://localhost/cb"] {
        let reply = register(json!([CALLBACK, beside])).await;
        let reply = reply.expect_oauth_error(400, "invalid_client_metadata");
        assert!(reply.text.contains("sector_identifier_uri: is required"), "{beside}: {reply:?}");
    }
    // Nobody owns a scheme or loopback, so two clients there have nothing in common.
    let mut subjects = HashSet::new();
    for uris in [
        json!([APP]),
        json!([APP]),
        json!(["http://127.0.0.1/cb"]),
        json!(["http://127.0.0.1/cb"]),
        json!(["http://localhost/cb"]),
        json!([APP, "http://127.0.0.1/cb", "http://localhost/cb"]),
    ] {
        let client = register(uris.clone()).await.expect(StatusCode::CREATED);
        let (id, uri) = (client.field("client_id"), uris[0].as_str().expect("a URI"));
        let request = AuthorizationRequest::of(&id, "openid").with("redirect_uri", uri);
        let answer = server.browser().authorize(&request, "ann").await;
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", &id),
            ("code", answer.code()),
            ("redirect_uri", uri),
            ("code_verifier", VERIFIER),
        ];
        let reply = server.form("/oauth2/token", &form).await.expect(StatusCode::OK);
        let sub = payload(&reply.field("id_token"))["sub"].as_str().expect("a sub").to_owned();
        assert!(subjects.insert(sub), "{uris}");
    }
}

//! Attacks on and by back ends that keep their own users.

use std::time::Duration;

use futures_util::future::join_all;
use propusk::{
    grpc::proto::v1::{
        IssueRequest, RefreshRequest, RevokeRequest, issue_request::Person, revoke_request::What,
    },
    model::client::{AuthMethod, Metadata},
    oauth::scope::Scope,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    back_ends::{claims, grant, json_as, key, main_project, published, with_main_project},
    support::{
        Backend, TestServer, backend_tests,
        grpc::expect_refused,
        oauth::{SECRET, payload, sign, web_app},
        send,
    },
};

backend_tests! {
    t42_a_grant_and_a_client_assertion_never_replace_each_other,
    t130_an_assertion_for_another_audience_is_refused,
    t131_an_expired_or_long_lived_assertion_is_refused,
    t132_an_assertion_is_accepted_once_by_all_processes,
    t133_an_assertion_of_a_foreign_issuer_or_key_is_refused,
    t134_a_back_end_gets_no_wider_scope_than_its_own,
    t135_a_back_end_cannot_make_an_administrator,
    t136_scopes_of_this_server_are_not_for_a_back_ends_users,
    t137_back_ends_do_not_reach_each_others_users,
    t138_a_client_without_a_registered_key_signs_no_grant,
    t139_a_login_at_a_back_end_is_no_login_here,
}

/// A claim of an assertion replaced; null removes it.
fn with(server: &TestServer, jti: &str, name: &str, value: Value) -> Value {
    let mut claims = claims(server, jti);
    match value {
        Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
        value => claims[name] = value,
    }
    claims
}

fn es256() -> Value {
    json!({ "alg": "ES256" })
}

async fn t42_a_grant_and_a_client_assertion_never_replace_each_other(backend: Backend) {
    let (server, key) = (TestServer::start(backend).await, key());
    let by_key = Metadata {
        token_endpoint_auth_method: AuthMethod::PrivateKeyJwt,
        ..main_project("mp1", &key)
    };
    server.client("mp1", by_key).await;
    let authentication = |jti: &str| {
        let mut claims = claims(&server, jti);
        claims["sub"] = "mp1".into();
        sign(&key, &es256(), &claims)
    };
    let ask = async |client: &str, grant: &str| {
        let fields = [
            ("grant_type", crate::back_ends::JWT_BEARER),
            ("assertion", grant),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", client),
            ("client_id", "mp1"),
        ];
        server.form("/oauth2/token", &fields).await
    };
    // The same `jti` is used up in each kind on its own.
    let grant = sign(&key, &es256(), &claims(&server, "one"));
    let issued = ask(&authentication("one"), &grant).await.expect(StatusCode::OK);
    assert_eq!(payload(&issued.field("access_token"))["sub"], "mp1:42");
    ask(&authentication("one"), &sign(&key, &es256(), &claims(&server, "two")))
        .await
        .expect_oauth_error(400, "invalid_client");
    ask(&authentication("two"), &grant).await.expect_oauth_error(400, "invalid_grant");
    ask(&authentication("three"), &sign(&key, &es256(), &claims(&server, "two")))
        .await
        .expect(StatusCode::OK);
    // One as the other.
    let both = authentication("four");
    ask(&both, &both).await.expect_oauth_error(400, "invalid_grant");
    let grant = sign(&key, &es256(), &claims(&server, "five"));
    ask(&grant, &grant).await.expect_oauth_error(400, "invalid_client");
    ask(&authentication("six"), &grant).await.expect(StatusCode::OK);
    for typ in ["client-authentication+jwt", "oauth-authz-req+jwt", "at+jwt", "logout+jwt"] {
        let header = json!({ "alg": "ES256", "typ": typ });
        let grant = sign(&key, &header, &claims(&server, typ));
        ask(&authentication(typ), &grant).await.expect_oauth_error(400, "invalid_grant");
    }
    for typ in ["JWT", "application/authorization-grant+jwt"] {
        let header = json!({ "alg": "ES256", "typ": typ });
        let grant = sign(&key, &header, &claims(&server, typ));
        ask(&authentication(typ), &grant).await.expect(StatusCode::OK);
    }
}

async fn t130_an_assertion_for_another_audience_is_refused(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    let issuer = server.app.config.server.issuer.clone();
    for (n, aud) in [
        json!(format!("{issuer}/oauth2/token")),
        json!([issuer, "https://other.example"]),
        json!([issuer, issuer]),
        json!(format!("{issuer}/")),
        json!("https://other.example"),
        json!([]),
        json!(1),
        Value::Null,
    ]
    .into_iter()
    .enumerate()
    {
        let bad = with(&server, &format!("bad-{n}"), "aud", aud);
        grant(&server, "mp1", &sign(&key, &es256(), &bad), &[])
            .await
            .expect_oauth_error(400, "invalid_grant");
    }
    let list = with(&server, "list", "aud", json!([issuer]));
    grant(&server, "mp1", &sign(&key, &es256(), &list), &[]).await.expect(StatusCode::OK);
}

async fn t131_an_expired_or_long_lived_assertion_is_refused(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    let now = server.clock.now().as_secs();
    for (n, (name, value)) in [
        ("exp", json!(now - 31)),
        ("exp", json!(now + 331)),
        ("exp", json!(now + 3_600)),
        ("exp", json!((now + 60).to_string())),
        ("exp", json!(1e300)),
        ("exp", json!(9_223_372_036_854_775_807_i64)),
        ("exp", Value::Null),
        ("nbf", json!(now + 120)),
        ("iat", json!(now + 120)),
        ("jti", Value::Null),
        ("jti", json!("")),
        ("jti", json!("j".repeat(300))),
        ("sub", Value::Null),
        ("sub", json!("")),
        ("sub", json!(42)),
        ("amr", json!("pwd")),
    ]
    .into_iter()
    .enumerate()
    {
        let bad = with(&server, &format!("bad-{n}"), name, value.clone());
        let reply = grant(&server, "mp1", &sign(&key, &es256(), &bad), &[]).await;
        let reply = reply.expect_oauth_error(400, "invalid_grant").json();
        let told = reply["error_description"].as_str().expect("text");
        assert!(told.contains("claim") || told.contains(&format!("`{name}`")), "{name}: {told}");
    }
    let five = with(&server, "five", "exp", json!(now + 300));
    let five = sign(&key, &es256(), &five);
    grant(&server, "mp1", &five, &[]).await.expect(StatusCode::OK);
    // It is never valid and forgotten at once.
    for _ in 0..8 {
        server.clock.advance(Duration::from_secs(60));
        propusk::flows::maintenance::sweep(&server.app).await.expect("swept");
        let reply = grant(&server, "mp1", &five, &[]).await;
        reply.expect_oauth_error(400, "invalid_grant");
    }
}

async fn t132_an_assertion_is_accepted_once_by_all_processes(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    let other = server.another(&[]).await;
    let used = sign(&key, &es256(), &claims(&server, "once"));
    grant(&server, "mp1", &used, &[]).await.expect(StatusCode::OK);
    for process in [&server, &other] {
        grant(process, "mp1", &used, &[]).await.expect_oauth_error(400, "invalid_grant");
    }
    // The `jti` decides, whatever else differs; that of another client is another.
    let mut again = claims(&server, "once");
    again["sub"] = "43".into();
    let again = sign(&key, &es256(), &again);
    grant(&other, "mp1", &again, &[]).await.expect_oauth_error(400, "invalid_grant");
    server.client("mp2", main_project("mp2", &key)).await;
    let mut others = claims(&server, "once");
    others["iss"] = "mp2".into();
    grant(&other, "mp2", &sign(&key, &es256(), &others), &[]).await.expect(StatusCode::OK);
    let raced = sign(&key, &es256(), &claims(&server, "raced"));
    let process = |n: usize| if n.is_multiple_of(2) { &server } else { &other };
    let replies = join_all((0..40).map(|n| grant(process(n), "mp1", &raced, &[]))).await;
    let accepted = replies.iter().filter(|reply| reply.status == StatusCode::OK).count();
    assert_eq!(accepted, 1, "one of 40");
}

async fn t133_an_assertion_of_a_foreign_issuer_or_key_is_refused(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    let mallory = self::key();
    server.client("mp2", main_project("mp2", &mallory)).await;
    // Of another client, of the server itself, of nobody.
    for iss in ["mp2", "mp1 ", "MP1", &server.app.config.server.issuer, "https://evil.example"] {
        for key in [&key, &mallory] {
            let bad = with(&server, iss, "iss", json!(iss));
            let reply = grant(&server, "mp1", &sign(key, &es256(), &bad), &[]).await;
            let reply = reply.expect_oauth_error(400, "invalid_grant").json();
            let told = reply["error_description"].as_str().expect("text");
            assert!(told.contains("issuer of the assertion is not trusted"), "{told}");
        }
    }
    let none = with(&server, "none", "iss", Value::Null);
    grant(&server, "mp1", &sign(&key, &es256(), &none), &[])
        .await
        .expect_oauth_error(400, "invalid_grant");
    // With another key, or with one that the assertion brings.
    let public = published(&mallory)["keys"][0].clone();
    for header in [
        es256(),
        json!({ "alg": "ES256", "jwk": public }),
        json!({ "alg": "ES256", "jku": "https://evil.example/jwks" }),
        json!({ "alg": "ES256", "kid": "../x" }),
        json!({ "alg": "none" }),
        json!({ "alg": "HS256" }),
    ] {
        let forged = sign(&mallory, &header, &claims(&server, "forged"));
        let reply = grant(&server, "mp1", &forged, &[]).await;
        reply.expect_oauth_error(400, "invalid_grant");
    }
    let good = sign(&key, &es256(), &claims(&server, "forged"));
    for cut in [&good[1..], &good[..good.len() - 2], "x", "a.b.c", &"a".repeat(40_000)] {
        grant(&server, "mp1", cut, &[]).await.expect_oauth_error(400, "invalid_grant");
    }
    // Another client presents it; a client that does not authenticate has no grant at all.
    grant(&server, "mp2", &good, &[]).await.expect_oauth_error(400, "invalid_grant");
    let fields =
        [("grant_type", crate::back_ends::JWT_BEARER), ("assertion", &good), ("client_id", "mp1")];
    server.form("/oauth2/token", &fields).await.expect_oauth_error(400, "invalid_client");
    server.client("web", web_app()).await;
    grant(&server, "web", &good, &[]).await.expect_oauth_error(400, "unauthorized_client");
    // None of these has used it up.
    grant(&server, "mp1", &good, &[]).await.expect(StatusCode::OK);
}

async fn t134_a_back_end_gets_no_wider_scope_than_its_own(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    let body = json!({ "subject": "42", "scope": "orders:read orders:delete" });
    let refused = json_as(&server, "mp1", "", body).await.expect_error(400, "VALIDATION_ERROR");
    assert_eq!(refused.json()["details"][0]["field"], "scope");
    let assertion = sign(&key, &es256(), &claims(&server, "wide"));
    let wide = [("scope", "orders:read orders:delete")];
    grant(&server, "mp1", &assertion, &wide).await.expect_oauth_error(400, "invalid_scope");
    let elsewhere = json!({ "subject": "42", "resource": ["https://elsewhere.example"] });
    let refused = json_as(&server, "mp1", "", elsewhere).await;
    let refused = refused.expect_error(400, "VALIDATION_ERROR").json();
    assert_eq!(refused["details"][0]["field"], "resource");
    // A refresh does not widen the session, nor does it lose its token by trying.
    let body = json!({ "subject": "42", "scope": "orders:read" });
    let refresh = json_as(&server, "mp1", "", body).await.text_of("/refreshToken");
    let wider = json!({ "refreshToken": refresh, "scope": "orders:read orders:write" });
    let refused = json_as(&server, "mp1", "/refresh", wider).await;
    assert_eq!(
        refused.expect_error(400, "VALIDATION_ERROR").json()["details"][0]["field"],
        "scope"
    );
    let same = json!({ "refreshToken": refresh });
    let next = json_as(&server, "mp1", "/refresh", same).await.expect(StatusCode::OK);
    assert_eq!(next.text_of("/scope"), "orders:read");
}

async fn t135_a_back_end_cannot_make_an_administrator(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    for role in ["admin", "Admin", " admin", "admin\u{200b}", "ADMIN"] {
        let body = json!({ "subject": "42", "role": role });
        let refused = json_as(&server, "mp1", "", body).await;
        let refused = refused.expect_error(400, "VALIDATION_ERROR").json();
        assert_eq!(refused["details"][0]["field"], "role", "{role:?}");
        let assertion = with(&server, role, "role", json!(role));
        grant(&server, "mp1", &sign(&key, &es256(), &assertion), &[])
            .await
            .expect_oauth_error(400, "invalid_grant");
        let request = IssueRequest {
            person: Some(Person::Subject("42".to_owned())),
            role: Some(role.to_owned()),
            ..IssueRequest::default()
        };
        let caller = server.client_caller("mp1", "propusk:tokens").await;
        expect_refused(
            caller.tokens().issue(request).await,
            Code::InvalidArgument,
            "VALIDATION_ERROR",
        );
    }
    // Nor is a user with another role, or with the id of an administrator, let in.
    let root = server.promote("root").await;
    let body = json!({ "subject": root, "role": "administrator" });
    let access = json_as(&server, "mp1", "", body).await.text_of("/accessToken");
    let admin = crate::support::admin::AdminApi { server: &server, token: access };
    admin.get("/users").await.expect(StatusCode::FORBIDDEN);
}

async fn t136_scopes_of_this_server_are_not_for_a_back_ends_users(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    server
        .change_client("mp1", |client| {
            let scope = "openid orders:read propusk:tokens propusk:admin propusk:check";
            client.metadata.scope = Scope::parse(scope).expect("a scope");
        })
        .await;
    for scope in ["propusk:tokens", "orders:read propusk:admin", "propusk:check"] {
        let body = json!({ "subject": "42", "scope": scope });
        let refused = json_as(&server, "mp1", "", body).await;
        let refused = refused.expect_error(400, "VALIDATION_ERROR").json();
        assert_eq!(refused["details"][0]["field"], "scope");
        let assertion = sign(&key, &es256(), &claims(&server, scope));
        let asked = [("scope", scope)];
        grant(&server, "mp1", &assertion, &asked).await.expect_oauth_error(400, "invalid_scope");
    }
    let issued = json_as(&server, "mp1", "", json!({ "subject": "42" })).await;
    assert_eq!(issued.text_of("/scope"), "openid orders:read");
    // Whatever a session was stored with.
    let statement = propusk::storage::Statement::new(
        "UPDATE sessions SET scope = 'orders:read propusk:admin propusk:tokens' WHERE subject = 'mp1:42'",
    );
    server.app.db.write(statement).await.expect("changed");
    let body = json!({ "refreshToken": issued.text_of("/refreshToken") });
    let next = json_as(&server, "mp1", "/refresh", body).await;
    assert_eq!(next.text_of("/scope"), "orders:read");
    let access = next.text_of("/accessToken");
    let request = server.request(Method::POST, "/api/v1/tokens").bearer_auth(&access);
    let refused = send(request.json(&json!({ "subject": "43" }))).await;
    refused.expect_error(403, "INSUFFICIENT_SCOPE");
    let refresh = next.text_of("/refreshToken");
    assert_eq!(server.introspect("mp1", &refresh).await["scope"], "orders:read");
}

async fn t137_back_ends_do_not_reach_each_others_users(backend: Backend) {
    let (server, _) = with_main_project(backend).await;
    server.client("mp2", main_project("mp2", &key())).await;
    let issue = async |id: &str| {
        let reply = json_as(&server, id, "", json!({ "subject": "42" })).await;
        let reply = reply.expect(StatusCode::CREATED);
        let text = |name: &str| reply.text_of(&format!("/{name}"));
        (text("accessToken"), text("refreshToken"), text("sessionId"))
    };
    let (access, refresh, session) = issue("mp1").await;
    let (theirs, ..) = issue("mp2").await;
    assert_eq!(payload(&access)["sub"], "mp1:42");
    assert_eq!(payload(&theirs)["sub"], "mp2:42");
    // Posing as the other's user is another user of one's own.
    let body = json!({ "subject": "mp1:42" });
    let posing = json_as(&server, "mp2", "", body.clone()).await.text_of("/accessToken");
    assert_eq!(payload(&posing)["sub"], "mp2:mp1:42");

    // Refresh.
    let body_of_refresh = json!({ "refreshToken": refresh });
    json_as(&server, "mp2", "/refresh", body_of_refresh)
        .await
        .expect_error(401, "INVALID_REFRESH_TOKEN");
    server.refresh_as("mp2", &refresh).await.expect_oauth_error(400, "invalid_grant");
    let caller = server.client_caller("mp2", "propusk:tokens").await;
    let request = RefreshRequest { refresh_token: refresh.clone(), ..RefreshRequest::default() };
    expect_refused(caller.tokens().refresh(request).await, Code::InvalidArgument, "INVALID_GRANT");

    // Revoke: a genuine token or session of another client is refused, and nothing happens.
    for body in
        [json!({ "token": access }), json!({ "token": refresh }), json!({ "sessionId": session })]
    {
        let refused = json_as(&server, "mp2", "/revoke", body).await;
        refused.expect_error(403, "UNAUTHORIZED_CLIENT");
    }
    for token in [&access, &refresh] {
        let refused = server.form_as("/oauth2/revoke", "mp2", &[("token", token)]).await;
        refused.expect_oauth_error(400, "unauthorized_client");
        let what = Some(What::Token(token.clone()));
        expect_refused(
            caller.tokens().revoke(RevokeRequest { what }).await,
            Code::PermissionDenied,
            "UNAUTHORIZED_CLIENT",
        );
    }
    let what = Some(What::SessionId(session.clone()));
    expect_refused(
        caller.tokens().revoke(RevokeRequest { what }).await,
        Code::PermissionDenied,
        "UNAUTHORIZED_CLIENT",
    );
    // Garbage in the form of the token is no error, and tells nothing.
    let garbage = format!("{}AAAAAAAA", &refresh[..refresh.len() - 8]);
    server.form_as("/oauth2/revoke", "mp2", &[("token", &garbage)]).await.expect(StatusCode::OK);
    // By subject: one's own users only.
    for id in ["42", "mp1:42"] {
        json_as(&server, "mp2", "/revoke", json!({ "subject": id })).await.expect(StatusCode::OK);
    }
    server.verify(&theirs).await.expect_error(401, "INVALID_TOKEN");
    server.verify(&posing).await.expect_error(401, "INVALID_TOKEN");
    server.verify(&access).await.expect(StatusCode::OK);
    // It sees nothing of the other's tokens either.
    let verdict = json_as(&server, "mp2", "/verify", json!({ "token": access })).await;
    assert_eq!(verdict.data(), json!({ "active": false }));
    server.refresh_as("mp1", &refresh).await.expect(StatusCode::OK);
}

async fn t138_a_client_without_a_registered_key_signs_no_grant(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    let keyless = Metadata { jwks: None, ..main_project("bare", &key) };
    server.client("bare", keyless).await;
    let mut claims = claims(&server, "bare");
    claims["iss"] = "bare".into();
    let assertion = sign(&key, &es256(), &claims);
    grant(&server, "bare", &assertion, &[]).await.expect_oauth_error(400, "invalid_grant");
    // The client secret is no key of a MAC.
    let hs256 = {
        use hmac::{Hmac, KeyInit, Mac};
        let unsigned = sign(&key, &json!({ "alg": "HS256" }), &claims);
        let (message, _) = unsigned.rsplit_once('.').expect("a signature");
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
        mac.update(message.as_bytes());
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    };
    grant(&server, "bare", &hs256, &[]).await.expect_oauth_error(400, "invalid_grant");
    // By its secret it still may, over JSON.
    json_as(&server, "bare", "", json!({ "subject": "42" })).await.expect(StatusCode::CREATED);
}

async fn t139_a_login_at_a_back_end_is_no_login_here(backend: Backend) {
    let (server, _) = with_main_project(backend).await;
    let now = server.clock.now().as_secs();
    let gate = async |query: &str, token: &str| {
        let path = format!("/forward-auth?{query}");
        let request = server.request(Method::GET, &path).bearer_auth(token);
        send(request).await.status.as_u16()
    };
    let issue = async |more: Value| {
        let mut body = json!({ "subject": "42", "scope": "orders:read" });
        body.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        json_as(&server, "mp1", "", body).await.text_of("/accessToken")
    };
    let silent = issue(json!({})).await;
    let fresh = issue(json!({ "authTime": now, "acr": "urn:propusk:acr:password" })).await;
    assert_eq!(gate("scope=orders:read", &silent).await, 200);
    assert_eq!(gate("scope=orders:read&max_age=300", &silent).await, 401, "nobody logged in");
    assert_eq!(gate("scope=orders:read&max_age=300", &fresh).await, 200, "as the back end says");
    let class = "scope=orders:read&acr=urn:propusk:acr:password";
    assert_eq!(gate(class, &fresh).await, 401, "the password was not checked here");
    // Nor is it a session of the JSON API, or of an account.
    let session = server.get_as("/api/v1/auth/session", &fresh).await.expect(StatusCode::OK);
    assert_eq!(session.json()["data"], Value::Null);
    server.get_as("/api/v1/modules", &fresh).await.expect(StatusCode::FORBIDDEN);
}

//! Back ends that keep their own users: tokens by gRPC, by JSON and by the JWT bearer grant, and
//! what becomes of them.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use josekit::{jwk::Jwk, jws};
use propusk::{
    grpc::proto::v1::{
        IssueRequest, RefreshRequest, RevokeRequest, ValidateRequest, issue_request::Person,
        revoke_request::What,
    },
    model::client::{GrantType, Metadata},
    oauth::scope::Scope,
    storage::Statement,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    code_flow::{statements, statements_but},
    support::{
        Backend, Reply, TestServer, backend_tests,
        grpc::GrpcCaller,
        oauth::{SECRET, payload, sign},
        send,
    },
};

/// The key that a back end signs its assertions with.
pub fn key() -> Jwk {
    jws::ES256.generate_key_pair().expect("a key").to_jwk_key_pair()
}

/// A key as the metadata of its client has it.
pub fn published(key: &Jwk) -> Value {
    let public = key.to_public_key().expect("a public key");
    json!({ "keys": [serde_json::to_value(public).expect("JSON")] })
}

/// A back end that keeps its own users in a namespace.
pub fn main_project(namespace: &str, key: &Jwk) -> Metadata {
    Metadata {
        grant_types: vec![
            GrantType::ClientCredentials,
            GrantType::JwtBearer,
            GrantType::RefreshToken,
        ],
        scope: Scope::parse("openid profile email orders:read orders:write propusk:tokens")
            .expect("a scope"),
        jwks: Some(published(key)),
        subject_namespace: Some(namespace.to_owned()),
        ..Metadata::default()
    }
}

/// The claims of a valid assertion of `mp1` about its user 42; each has a `jti` of its own.
pub fn claims(server: &TestServer, jti: &str) -> Value {
    let now = server.clock.now().as_secs();
    json!({
        "iss": "mp1", "sub": "42", "aud": server.app.config.server.issuer, "jti": jti, "iat": now,
        "exp": now + 60,
    })
}

pub const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Asks for tokens by the JWT bearer grant, authenticated as `id`.
pub async fn grant(
    server: &TestServer,
    id: &str,
    assertion: &str,
    beside: &[(&str, &str)],
) -> Reply {
    let fields = [("grant_type", JWT_BEARER), ("assertion", assertion)];
    server.form_as("/oauth2/token", id, &[&fields, beside].concat()).await
}

/// Calls an operation under `/api/v1/tokens` with the client's secret.
pub async fn json_as(server: &TestServer, id: &str, operation: &str, body: Value) -> Reply {
    let path = format!("/api/v1/tokens{operation}");
    send(server.request(Method::POST, &path).basic_auth(id, Some(SECRET)).json(&body)).await
}

/// A gRPC server with the back end `mp1` and its key.
pub async fn with_main_project(backend: Backend) -> (TestServer, Jwk) {
    let (server, key) = (TestServer::with_grpc(backend, &[]).await, key());
    server.client("mp1", main_project("mp1", &key)).await;
    (server, key)
}

/// What each of the three ways returns.
#[derive(Clone, Debug)]
pub struct Issued {
    pub access: String,
    pub refresh: String,
    pub session: String,
    pub lifetimes: (u64, u64),
    pub scope: String,
}

/// How a back end calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Grpc,
    Json,
    OAuth,
}

impl Way {
    const ALL: [Self; 3] = [Self::Grpc, Self::Json, Self::OAuth];

    async fn caller(server: &TestServer) -> GrpcCaller {
        server.client_caller("mp1", "propusk:tokens").await
    }

    async fn issue(self, server: &TestServer, key: &Jwk, subject: &str) -> Issued {
        match self {
            Self::Grpc => {
                let person = Some(Person::Subject(subject.to_owned()));
                let scope = "orders:read".to_owned();
                let request = IssueRequest { person, scope, ..IssueRequest::default() };
                let issued = Self::caller(server).await.tokens().issue(request).await;
                Self::of_grpc(issued.expect("issued").into_inner())
            }
            Self::Json => {
                let body = json!({ "subject": subject, "scope": "orders:read" });
                let reply = json_as(server, "mp1", "", body).await;
                Self::of_json(&reply.expect(StatusCode::CREATED))
            }
            Self::OAuth => {
                let mut claims = claims(server, &format!("{subject} {}", server.app.new_id()));
                claims["sub"] = subject.into();
                let assertion = sign(key, &json!({ "alg": "ES256" }), &claims);
                let reply = grant(server, "mp1", &assertion, &[("scope", "orders:read")]).await;
                Self::of_oauth(&reply.expect(StatusCode::OK))
            }
        }
    }

    async fn refresh(self, server: &TestServer, refresh: &str) -> Option<Issued> {
        match self {
            Self::Grpc => {
                let request = RefreshRequest {
                    refresh_token: refresh.to_owned(),
                    ..RefreshRequest::default()
                };
                let issued = Self::caller(server).await.tokens().refresh(request).await.ok()?;
                Some(Self::of_grpc(issued.into_inner()))
            }
            Self::Json => {
                let body = json!({ "refreshToken": refresh });
                let reply = json_as(server, "mp1", "/refresh", body).await;
                (reply.status == StatusCode::OK).then(|| Self::of_json(&reply))
            }
            Self::OAuth => {
                let reply = server.refresh_as("mp1", refresh).await;
                (reply.status == StatusCode::OK).then(|| Self::of_oauth(&reply))
            }
        }
    }

    /// Whether the token is active, and its `sub` and `user_id`.
    async fn verify(self, server: &TestServer, token: &str) -> Option<(String, String)> {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        match self {
            Self::Grpc => {
                let request = ValidateRequest { token: token.to_owned() };
                let answer = Self::caller(server).await.tokens().validate(request).await;
                let answer = answer.expect("an answer").into_inner();
                answer.active.then_some((answer.sub, answer.user_id))
            }
            Self::Json => {
                let reply = json_as(server, "mp1", "/verify", json!({ "token": token })).await;
                let data = reply.expect(StatusCode::OK).json()["data"].clone();
                data["active"]
                    .as_bool()
                    .expect("a verdict")
                    .then(|| (text(&data["subject"]), text(&data["userId"])))
            }
            Self::OAuth => {
                let data = server.introspect("mp1", token).await;
                data["active"]
                    .as_bool()
                    .expect("a verdict")
                    .then(|| (text(&data["sub"]), text(&data["user_id"])))
            }
        }
    }

    async fn revoke(self, server: &TestServer, what: What) {
        match self {
            Self::Grpc => {
                let request = RevokeRequest { what: Some(what) };
                Self::caller(server).await.tokens().revoke(request).await.expect("revoked");
            }
            Self::Json => {
                let body = match what {
                    What::Token(token) => json!({ "token": token }),
                    What::SessionId(id) => json!({ "sessionId": id }),
                    What::Subject(id) => json!({ "subject": id }),
                };
                json_as(server, "mp1", "/revoke", body).await.expect(StatusCode::OK);
            }
            Self::OAuth => {
                let What::Token(token) = what else { panic!("OAuth revokes tokens") };
                let fields = [("token", token.as_str())];
                server.form_as("/oauth2/revoke", "mp1", &fields).await.expect(StatusCode::OK);
            }
        }
    }

    fn of_grpc(issued: propusk::grpc::proto::v1::TokenResponse) -> Issued {
        let seconds = |seconds: i64| u64::try_from(seconds).expect("a lifetime");
        Issued {
            access: issued.access_token,
            refresh: issued.refresh_token.expect("registered for it"),
            session: issued.session_id,
            lifetimes: (seconds(issued.expires_in), seconds(issued.refresh_expires_in)),
            scope: issued.scope,
        }
    }

    fn of_json(reply: &Reply) -> Issued {
        let data = &reply.json()["data"];
        assert_eq!(data["tokenType"], "Bearer");
        let text = |name: &str| data[name].as_str().expect("text").to_owned();
        let seconds = |name: &str| data[name].as_u64().expect("a lifetime");
        Issued {
            access: text("accessToken"),
            refresh: text("refreshToken"),
            session: text("sessionId"),
            lifetimes: (seconds("expiresIn"), seconds("refreshExpiresIn")),
            scope: text("scope"),
        }
    }

    /// RFC 6749 §5.1 has neither the session nor the refresh token's lifetime.
    fn of_oauth(reply: &Reply) -> Issued {
        let access = reply.field("access_token");
        Issued {
            refresh: reply.field("refresh_token"),
            session: payload(&access)["sid"].as_str().expect("a session").to_owned(),
            lifetimes: (reply.json()["expires_in"].as_u64().expect("a lifetime"), 604_800),
            scope: reply.field("scope"),
            access,
        }
    }
}

backend_tests! {
    a_back_end_manages_its_users_by_each_of_three_ways,
    what_a_back_end_says_of_a_user_survives_a_refresh,
    a_back_ends_user_has_a_sub_that_nobody_else_has,
    a_revoked_subject_is_refused_by_every_process_and_follower,
    clients_of_one_namespace_share_its_users,
    modules_are_granted_to_a_back_ends_user_by_sub,
    administrators_find_and_revoke_a_back_ends_user,
    metadata_of_a_back_end_must_fit_together,
    a_client_without_a_namespace_is_told_so,
    a_changed_namespace_ends_the_sessions_of_the_old_one,
    issuance_is_counted_audited_and_announced,
}

async fn a_back_end_manages_its_users_by_each_of_three_ways(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    for way in Way::ALL {
        let name = format!("{way:?}");
        let first = way.issue(&server, &key, &name).await;
        assert_eq!((first.lifetimes, first.scope.as_str()), ((900, 604_800), "orders:read"));
        let claims = payload(&first.access);
        assert_eq!(claims["sub"], format!("mp1:{name}"));
        assert_eq!(claims["user_id"], name);
        assert_eq!(claims["sid"], first.session);
        for claim in ["email", "role", "auth_time", "modules"] {
            assert_eq!(claims[claim], Value::Null, "{claim} was not said");
        }
        // Each way gives the same verdict.
        for judge in Way::ALL {
            for token in [&first.access, &first.refresh] {
                let (sub, user_id) = judge.verify(&server, token).await.expect("active");
                assert_eq!((sub, user_id), (format!("mp1:{name}"), name.clone()), "{judge:?}");
            }
        }
        server.verify(&first.access).await.expect(StatusCode::OK);

        // Rotated; a retry gets the same successor.
        let next = way.refresh(&server, &first.refresh).await.expect("refreshed");
        assert_ne!(next.refresh, first.refresh);
        assert_eq!(
            (next.session.as_str(), next.lifetimes),
            (first.session.as_str(), (900, 604_800))
        );
        let again = way.refresh(&server, &first.refresh).await.expect("a retry");
        assert_eq!(again.refresh, next.refresh);

        // By a token, by the session, by the subject.
        let mut revocations = vec![What::Token(next.refresh.clone())];
        if way != Way::OAuth {
            revocations.push(What::SessionId(String::new()));
            revocations.push(What::Subject(name.clone()));
        }
        let mut current = next;
        for what in revocations {
            let other = way.issue(&server, &key, "another").await;
            let what = match what {
                What::SessionId(_) => What::SessionId(current.session.clone()),
                what => what,
            };
            way.revoke(&server, what.clone()).await;
            for judge in Way::ALL {
                for token in [&current.access, &current.refresh] {
                    assert_eq!(judge.verify(&server, token).await, None, "{way:?} {what:?}");
                }
                assert!(judge.verify(&server, &other.access).await.is_some(), "another user's");
            }
            assert!(way.refresh(&server, &current.refresh).await.is_none());
            // Repeating it is no error, and a login right afterwards is valid.
            way.revoke(&server, what).await;
            current = way.issue(&server, &key, &name).await;
            assert!(way.verify(&server, &current.access).await.is_some());
        }
    }
    // Unknown sessions and users, and garbage, count as revoked.
    for way in [Way::Grpc, Way::Json] {
        for what in [
            What::Token("garbage".to_owned()),
            What::SessionId("01a1fca5-0ae5-7b80-9fd0-a1b74eb40fb7".to_owned()),
            What::SessionId("no uuid\0".to_owned()),
            What::Subject("nobody".to_owned()),
            What::Subject("a\0b".to_owned()),
        ] {
            way.revoke(&server, what).await;
        }
    }
    let nothing = json_as(&server, "mp1", "/revoke", json!({})).await;
    nothing.expect_error(400, "VALIDATION_ERROR");
    let two = json_as(&server, "mp1", "/revoke", json!({ "token": "x", "subject": "42" })).await;
    two.expect_error(400, "VALIDATION_ERROR");
}

async fn what_a_back_end_says_of_a_user_survives_a_refresh(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    let now = server.clock.now().as_secs();
    let body = json!({
        "subject": "42", "scope": "openid profile email orders:read", "email": "vera@example.org",
        "emailVerified": true, "username": "Vera", "role": "buyer", "authTime": now - 60,
        "amr": ["pwd", "otp"], "acr": "gold",
    });
    let by_json = json_as(&server, "mp1", "", body.clone()).await.expect(StatusCode::CREATED);
    let by_grpc = IssueRequest {
        person: Some(Person::Subject("42".to_owned())),
        scope: "openid profile email orders:read".to_owned(),
        email: Some("vera@example.org".to_owned()),
        email_verified: Some(true),
        username: Some("Vera".to_owned()),
        role: Some("buyer".to_owned()),
        auth_time: Some(now - 60),
        amr: vec!["pwd".to_owned(), "otp".to_owned()],
        acr: Some("gold".to_owned()),
        ..IssueRequest::default()
    };
    let caller = server.client_caller("mp1", "propusk:tokens").await;
    let by_grpc = caller.tokens().issue(by_grpc).await.expect("issued").into_inner();
    let mut assertion = claims(&server, "all");
    for (name, value) in [
        ("email", json!("vera@example.org")),
        ("email_verified", json!(true)),
        ("preferred_username", json!("Vera")),
        ("role", json!("buyer")),
        ("auth_time", json!(now - 60)),
        ("amr", json!(["pwd", "otp"])),
        ("acr", json!("gold")),
    ] {
        assertion[name] = value;
    }
    let assertion = sign(&key, &json!({ "alg": "ES256", "typ": "JWT" }), &assertion);
    let scope = [("scope", "openid profile email orders:read")];
    let by_oauth = grant(&server, "mp1", &assertion, &scope).await.expect(StatusCode::OK);

    let data = by_json.json()["data"].clone();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let mut all = vec![
        (text(&data["accessToken"]), text(&data["idToken"]), text(&data["refreshToken"])),
        (
            by_grpc.access_token,
            by_grpc.id_token.expect("openid"),
            by_grpc.refresh_token.expect("registered"),
        ),
        (
            by_oauth.field("access_token"),
            by_oauth.field("id_token"),
            by_oauth.field("refresh_token"),
        ),
    ];
    for (_, _, refresh) in all.clone() {
        server.clock.advance(Duration::from_secs(5));
        let next = server.refresh_as("mp1", &refresh).await.expect(StatusCode::OK);
        let field = |name: &str| next.field(name);
        all.push((field("access_token"), field("id_token"), field("refresh_token")));
    }
    assert_eq!(all.len(), 6);
    for (access, id, _) in &all {
        let claims = payload(access);
        for (claim, value) in [
            ("sub", json!("mp1:42")),
            ("user_id", json!("42")),
            ("email", json!("vera@example.org")),
            ("email_verified", json!(true)),
            ("role", json!("buyer")),
            ("auth_time", json!(now - 60)),
        ] {
            assert_eq!(claims[claim], value, "access token: {claim}");
            let introspected = server.introspect("mp1", access).await;
            assert_eq!(introspected[claim], value, "introspection: {claim}");
        }
        let claims = payload(id);
        for (claim, value) in [
            ("sub", json!("mp1:42")),
            ("user_id", json!("42")),
            ("auth_time", json!(now - 60)),
            ("amr", json!(["pwd", "otp"])),
            ("acr", json!("gold")),
        ] {
            assert_eq!(claims[claim], value, "ID token: {claim}");
        }
        assert_eq!(claims["email"], Value::Null, "at UserInfo, as for users");
        let info = server.get_as("/oauth2/userinfo", access).await.expect(StatusCode::OK).json();
        assert_eq!(
            info,
            json!({
                "sub": "mp1:42", "email": "vera@example.org", "email_verified": true,
                "preferred_username": "Vera",
            })
        );
    }
    // A token is about its session's user: an inactive session has no UserInfo.
    json_as(&server, "mp1", "/revoke", json!({ "subject": "42" })).await.expect(StatusCode::OK);
    for (access, ..) in &all {
        server.get_as("/oauth2/userinfo", access).await.expect(StatusCode::UNAUTHORIZED);
    }

    // Every invalid field is named, all at once.
    let bad = json!({
        "subject": "a\nb", "email": "vera", "emailVerified": true, "username": " ", "role": "A B",
        "authTime": now + 3_600, "amr": [""], "acr": "", "modules": ["none"],
    });
    let refused = json_as(&server, "mp1", "", bad).await.expect_error(400, "VALIDATION_ERROR");
    let details = refused.json()["details"].clone();
    let fields: Vec<&str> = details
        .as_array()
        .expect("details")
        .iter()
        .map(|detail| detail["field"].as_str().expect("a field"))
        .collect();
    assert_eq!(
        fields,
        ["subject", "email", "username", "acr", "role", "authTime", "amr", "modules"]
    );
    let lone = json!({ "subject": "42", "emailVerified": true });
    let refused = json_as(&server, "mp1", "", lone).await.expect_error(400, "VALIDATION_ERROR");
    assert_eq!(refused.json()["details"][0]["field"], "emailVerified");
    for (subject, fits) in [(200, true), (201, false)] {
        let body = json!({ "subject": "ж".repeat(subject) });
        let reply = json_as(&server, "mp1", "", body).await;
        assert_eq!(reply.status == StatusCode::CREATED, fits, "{reply:?}");
    }
    // An account is described here, not by the client.
    server.register("ann").await;
    let ann = propusk::flows::admin::users::find(&server.app, "ann").await.expect("known").id;
    let request = IssueRequest {
        person: Some(Person::UserId(ann.into())),
        role: Some("buyer".to_owned()),
        ..IssueRequest::default()
    };
    let refused = caller.tokens().issue(request).await.expect_err("refused");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
}

async fn a_back_ends_user_has_a_sub_that_nobody_else_has(backend: Backend) {
    let (server, _) = with_main_project(backend).await;
    let sub = async |subject: &str| {
        let reply = json_as(&server, "mp1", "", json!({ "subject": subject })).await;
        let access = reply.expect(StatusCode::CREATED).text_of("/accessToken");
        let claims = payload(&access);
        assert_eq!(claims["user_id"], subject);
        claims["sub"].as_str().expect("text").to_owned()
    };
    assert_eq!(sub("42").await, "mp1:42");
    assert_eq!(sub("a b:c/d").await, "mp1:a b:c/d");
    let ann = server.register("ann").await;
    let ann = payload(&ann.access)["sub"].as_str().expect("text").to_owned();
    assert_eq!(sub(&ann).await, format!("mp1:{ann}"));
    let hashed = |subject: &str| URL_SAFE_NO_PAD.encode(Sha256::digest(format!("mp1:{subject}")));
    assert_eq!(sub("Вера").await, hashed("Вера"));
    // Another spelling of the same hash is another user.
    assert_eq!(sub(&hashed("Вера")).await, format!("mp1:{}", hashed("Вера")));
    // It is revoked by the id that the back end knows.
    let reply = json_as(&server, "mp1", "", json!({ "subject": "Вера" })).await;
    let access = reply.text_of("/accessToken");
    json_as(&server, "mp1", "/revoke", json!({ "subject": "Вера" })).await.expect(StatusCode::OK);
    server.verify(&access).await.expect_error(401, "INVALID_TOKEN");
}

async fn a_revoked_subject_is_refused_by_every_process_and_follower(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    let other = server.another(&[("PROPUSK_GRPC__LISTEN", "127.0.0.1:0")]).await;
    server
        .change_client("mp1", |client| {
            let scope = "orders:read propusk:tokens propusk:revocations";
            client.metadata.scope = Scope::parse(scope).expect("a scope");
        })
        .await;
    let token = server.client_token("mp1", "propusk:revocations").await;
    let mut follower = crate::revocation_feed::LocalVerifier::follow(&other, "", &token).await;
    for round in 0..5 {
        let issued = Way::ALL[round % 3].issue(&server, &key, "42").await;
        let second = Way::Json.issue(&other, &key, "42").await;
        let stranger = Way::Json.issue(&server, &key, "43").await;
        Way::Json.revoke(&other, What::Subject("42".to_owned())).await;
        for process in [&server, &other] {
            process.verify(&issued.access).await.expect_error(401, "INVALID_TOKEN");
            process.verify(&second.access).await.expect_error(401, "INVALID_TOKEN");
            assert!(Way::OAuth.refresh(process, &issued.refresh).await.is_none());
            process.verify(&stranger.access).await.expect(StatusCode::OK);
        }
        follower.refuse_within_a_second(&issued.access).await;
        follower.refuse_within_a_second(&second.access).await;
        assert!(!follower.refuses(&stranger.access));
    }
}

async fn clients_of_one_namespace_share_its_users(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    server.client("mp1-jobs", main_project("mp1", &key)).await;
    let issued = Way::Json.issue(&server, &key, "42").await;
    let body = json!({ "subject": "42", "scope": "orders:read" });
    let reply = json_as(&server, "mp1-jobs", "", body).await;
    let jobs = Way::of_json(&reply.expect(StatusCode::CREATED));
    assert_eq!(payload(&jobs.access)["sub"], "mp1:42");
    // A session is its client's own.
    for body in [
        json!({ "sessionId": issued.session }),
        json!({ "token": issued.access }),
        json!({ "token": issued.refresh }),
    ] {
        let refused = json_as(&server, "mp1-jobs", "/revoke", body).await;
        refused.expect_error(403, "UNAUTHORIZED_CLIENT");
    }
    let body = json!({ "refreshToken": issued.refresh });
    let refused = json_as(&server, "mp1-jobs", "/refresh", body).await;
    refused.expect_error(401, "INVALID_REFRESH_TOKEN");
    assert!(Way::Json.verify(&server, &issued.access).await.is_some());
    // The user is both clients'.
    let body = json!({ "subject": "42" });
    json_as(&server, "mp1-jobs", "/revoke", body).await.expect(StatusCode::OK);
    for token in [&issued.access, &jobs.access] {
        server.verify(token).await.expect_error(401, "INVALID_TOKEN");
    }
}

async fn modules_are_granted_to_a_back_ends_user_by_sub(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    server.module("crm", "crm:read", None, true).await;
    server.module("billing", "billing:read", None, false).await;
    server
        .change_client("mp1", |client| {
            let scope = "orders:read crm:read billing:read propusk:tokens";
            client.metadata.scope = Scope::parse(scope).expect("a scope");
            client.metadata.user_claims = vec![propusk::model::client::UserClaim::Modules];
        })
        .await;
    let admin = server.admin("root").await;
    let grants = |module: &str| format!("/subjects/mp1%3A42/grants/{module}");
    // Before the first login: there is no row of the user.
    let put = async |module: &str, body: Value| {
        let request = admin.request(Method::PUT, &grants(module)).json(&body);
        send(request).await.expect(StatusCode::OK).data()
    };
    let granted = put("crm", json!({})).await;
    assert_eq!((&granted["subject"], &granted["userId"]), (&json!("mp1:42"), &Value::Null));
    let end = server.clock.now() + Duration::from_secs(300);
    put("billing", json!({ "validUntil": end.rfc3339() })).await;
    assert_eq!(admin.get("/subjects/mp1:42/grants").await.data().as_array().map(Vec::len), Some(2));
    // Not an account, nor another back end's user.
    admin.get("/users/mp1%3A42/grants").await.expect(StatusCode::NOT_FOUND);
    let wrong = admin.request(Method::PUT, "/users/mp1%3A42/grants/crm").json(&json!({}));
    send(wrong).await.expect(StatusCode::NOT_FOUND);
    let none = admin.request(Method::PUT, "/subjects/ann/grants/crm").json(&json!({}));
    send(none).await.expect(StatusCode::NOT_FOUND);

    let issue = async |subject: &str, modules: Value| {
        let body = json!({ "subject": subject, "modules": modules });
        let reply = json_as(&server, "mp1", "", body).await.expect(StatusCode::CREATED);
        let data = reply.data();
        let text = |name: &str| data[name].as_str().expect("text").to_owned();
        (text("accessToken"), text("refreshToken"), data["expiresIn"].as_u64().expect("seconds"))
    };
    let (all, refresh, lives) = issue("42", json!([])).await;
    assert_eq!(payload(&all)["scope"], "orders:read crm:read billing:read");
    assert_eq!(payload(&all)["modules"], json!(["billing", "crm"]));
    assert_eq!(lives, 300, "no token outlives a planned end");
    // Narrowed by the back end, and never widened.
    let (some, narrowed, lives) = issue("42", json!(["crm"])).await;
    assert_eq!((payload(&some)["scope"].as_str(), lives), (Some("orders:read crm:read"), 900));
    assert_eq!(payload(&some)["modules"], json!(["crm"]));
    let next = server.refresh_as("mp1", &narrowed).await.expect(StatusCode::OK);
    assert_eq!(next.field("scope"), "orders:read crm:read");
    let (none, ..) = issue("43", json!(["crm"])).await;
    assert_eq!(payload(&none)["scope"], "orders:read");

    // Withdrawn at once; the rest goes on.
    let (fresh, ..) = issue("42", json!([])).await;
    admin.delete(&grants("crm")).await.expect(StatusCode::OK);
    for token in [&all, &some, &fresh] {
        server.verify(token).await.expect_error(401, "INVALID_TOKEN");
    }
    server.verify(&none).await.expect(StatusCode::OK);
    server.clock.advance(Duration::from_secs(3));
    let next = server.refresh_as("mp1", &refresh).await.expect(StatusCode::OK);
    assert_eq!(next.field("scope"), "orders:read billing:read");
    server.verify(&next.field("access_token")).await.expect(StatusCode::OK);
    let history = admin.all("/subjects/mp1%3A42/grant-history").await;
    assert_eq!(history.len(), 2);
    let closed = history.iter().find(|grant| grant["moduleId"] == "crm").expect("kept");
    assert_eq!((&closed["isClosed"], &closed["subject"]), (&json!(true), &json!("mp1:42")));
    let listed = admin.get("/modules/billing/grants").await.data();
    assert_eq!(listed["items"][0]["subject"], "mp1:42");
    // The hash of a long id is a `sub` as well, and a slash may be in one.
    let hashed = Way::Json.issue(&server, &key, "Вера").await;
    let sub = payload(&hashed.access)["sub"].as_str().expect("text").to_owned();
    for sub in [sub, "mp1%3Aa%2Fb".to_owned()] {
        let path = format!("/subjects/{sub}/grants/crm");
        send(admin.request(Method::PUT, &path).json(&json!({}))).await.expect(StatusCode::OK);
    }
    let slashed = issue("a/b", json!([])).await.0;
    assert_eq!(payload(&slashed)["modules"], json!(["crm"]));
}

async fn administrators_find_and_revoke_a_back_ends_user(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    let admin = server.admin("root").await;
    let first = Way::Json.issue(&server, &key, "42").await;
    server.clock.advance(Duration::from_secs(1));
    let second = Way::OAuth.issue(&server, &key, "42").await;
    Way::Json.issue(&server, &key, "43").await;
    let found = admin.all("/sessions?subject=mp1%3A42").await;
    let ids: Vec<_> = found.iter().map(|session| session["id"].clone()).collect();
    assert_eq!(ids, [json!(second.session), json!(first.session)]);
    assert_eq!((&found[0]["subject"], &found[0]["userId"]), (&json!("mp1:42"), &Value::Null));
    admin.delete(&format!("/sessions/{}", first.session)).await.expect(StatusCode::OK);
    server.verify(&first.access).await.expect_error(401, "INVALID_TOKEN");
    server.verify(&second.access).await.expect(StatusCode::OK);
    admin.post("/subjects/mp1%3A42/logout", json!({})).await.expect(StatusCode::OK);
    server.verify(&second.access).await.expect_error(401, "INVALID_TOKEN");
    let live = admin.all("/sessions?subject=mp1%3A42&live=true").await;
    assert_eq!(live.len(), 0);
    // An account's sessions are found by the account.
    let root = payload(&admin.token)["sub"].as_str().expect("text").to_owned();
    assert_eq!(admin.all(&format!("/sessions?subject={root}")).await.len(), 0);
    // The tokens of a subject alone, up to now.
    let third = Way::Grpc.issue(&server, &key, "42").await;
    let body = json!({ "kind": "subject", "target": "mp1:42", "reason": "test" });
    admin.post("/revocations", body).await.expect(StatusCode::CREATED);
    server.verify(&third.access).await.expect_error(401, "INVALID_TOKEN");
}

async fn metadata_of_a_back_end_must_fit_together(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let keys = published(&key());
    let good = json!({
        "client_name": "Shop", "grant_types": [JWT_BEARER, "refresh_token"], "jwks": keys,
        "scope": "orders:read propusk:tokens", "subject_namespace": "shop-1",
    });
    let created = admin.post("/clients", json!({ "id": "shop", "metadata": good })).await;
    let created = created.expect(StatusCode::CREATED).json();
    assert_eq!(created["data"]["client"]["metadata"]["subject_namespace"], "shop-1", "{created}");
    let with = |name: &str, value: Value| {
        let mut metadata = good.clone();
        match value {
            Value::Null => drop(metadata.as_object_mut().expect("an object").remove(name)),
            value => metadata[name] = value,
        }
        metadata
    };
    for (metadata, field) in [
        (with("jwks", Value::Null), "grant_types"),
        (with("token_endpoint_auth_method", json!("none")), "grant_types"),
        (with("scope", json!("orders:read")), "subject_namespace"),
        (with("subject_namespace", json!("Shop")), "subject_namespace"),
        (with("subject_namespace", json!("a:b")), "subject_namespace"),
        (with("subject_namespace", json!("")), "subject_namespace"),
        (with("subject_namespace", json!("https")), "subject_namespace"),
        (with("subject_namespace", json!("a".repeat(33))), "subject_namespace"),
        (json!({ "grant_types": ["refresh_token"], "scope": "propusk:tokens" }), "grant_types"),
        (
            json!({ "grant_types": ["client_credentials", "refresh_token"], "scope": "a" }),
            "grant_types",
        ),
    ] {
        let refused = admin.post("/clients", json!({ "metadata": metadata })).await;
        let json = refused.expect_error(400, "VALIDATION_ERROR").json();
        let details = json["details"].as_array().expect("details");
        assert!(details.iter().any(|detail| detail["field"] == field), "{metadata}: {json}");
    }
    // Without users of its own a client presents the ID-JAGs of others.
    let plain = json!({ "grant_types": [JWT_BEARER], "scope": "orders:read" });
    admin.post("/clients", json!({ "metadata": plain })).await.expect(StatusCode::CREATED);
    // The documented example, without a redirect URI.
    let plain = json!({
        "grant_types": ["client_credentials", "refresh_token"], "scope": "a propusk:tokens",
    });
    admin.post("/clients", json!({ "metadata": plain })).await.expect(StatusCode::CREATED);
    let discovered = server.get("/.well-known/openid-configuration").await.json();
    let grants = discovered["grant_types_supported"].as_array().expect("grants").clone();
    assert!(grants.contains(&json!(JWT_BEARER)), "{grants:?}");
    // A client that registers itself never has users of its own.
    let open = TestServer::with(
        backend,
        &[
            ("PROPUSK_CLIENT_REGISTRATION__MODE", "open"),
            (
                "PROPUSK_CLIENT_REGISTRATION__GRANT_TYPES",
                "authorization_code,urn:ietf:params:oauth:grant-type:jwt-bearer",
            ),
        ],
    )
    .await;
    let body = json!({
        "redirect_uris": ["https://app.example/cb"], "jwks": published(&key()),
        "grant_types": ["authorization_code", JWT_BEARER], "subject_namespace": "mine",
        "scope": "propusk:tokens",
    });
    let registered = open.post("/oauth2/register", body).await.expect(StatusCode::CREATED).json();
    assert_eq!(registered.get("subject_namespace"), None, "{registered}");
    assert_ne!(registered["scope"], "propusk:tokens", "{registered}");
}

async fn a_client_without_a_namespace_is_told_so(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    let plain = Metadata { subject_namespace: None, ..main_project("x", &key) };
    server.client("plain", plain).await;
    let issue = json_as(&server, "plain", "", json!({ "subject": "42" })).await;
    let revoke = json_as(&server, "plain", "/revoke", json!({ "subject": "42" })).await;
    for refused in [issue, revoke] {
        let refused = refused.expect_error(403, "UNAUTHORIZED_CLIENT").json();
        let message = refused["message"].as_str().expect("text");
        assert!(message.contains("subject_namespace"), "{message}");
    }
    let mut claims = claims(&server, "plain");
    claims["iss"] = "plain".into();
    let assertion = sign(&key, &json!({ "alg": "ES256" }), &claims);
    let refused = grant(&server, "plain", &assertion, &[]).await;
    refused.expect_oauth_error(400, "unauthorized_client");
    let caller = server.client_caller("plain", "propusk:tokens").await;
    let person = Some(Person::Subject("42".to_owned()));
    let refused = caller.tokens().issue(IssueRequest { person, ..IssueRequest::default() }).await;
    assert_eq!(refused.expect_err("refused").code(), tonic::Code::PermissionDenied);
    // Without the scope, and as nobody.
    server.client("web", crate::support::oauth::web_app()).await;
    let refused = json_as(&server, "web", "", json!({ "subject": "42" })).await;
    refused.expect_error(403, "INSUFFICIENT_SCOPE");
    let wrong = server.request(Method::POST, "/api/v1/tokens").basic_auth("mp1", Some("wrong"));
    let wrong = send(wrong.json(&json!({ "subject": "42" }))).await;
    wrong.expect_error(401, "INVALID_CLIENT");
    let nobody = server.post("/api/v1/tokens", json!({ "subject": "42" })).await;
    nobody.expect_error(401, "INVALID_TOKEN");
    // By an access token as well as by the secret.
    let token = server.client_token("mp1", "propusk:tokens").await;
    let request = server.request(Method::POST, "/api/v1/tokens").bearer_auth(&token);
    let issued = send(request.json(&json!({ "subject": "42" }))).await;
    issued.expect(StatusCode::CREATED);
    let unknown = json_as(&server, "mp1", "", json!({ "subject": "42", "sub": "43" })).await;
    unknown.expect_error(400, "VALIDATION_ERROR");
}

async fn a_changed_namespace_ends_the_sessions_of_the_old_one(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    let admin = server.admin("root").await;
    let issued = Way::Json.issue(&server, &key, "42").await;
    let patch = json!({ "metadata": { "subject_namespace": "mp9" } });
    admin.patch("/clients/mp1", patch).await.expect(StatusCode::OK);
    server.verify(&issued.access).await.expect_error(401, "INVALID_TOKEN");
    server.clock.advance(Duration::from_secs(3));
    let refused = server.refresh_as("mp1", &issued.refresh).await;
    refused.expect_oauth_error(400, "invalid_grant");
    let issued = Way::Json.issue(&server, &key, "42").await;
    assert_eq!(payload(&issued.access)["sub"], "mp9:42");
}

async fn issuance_is_counted_audited_and_announced(backend: Backend) {
    let (server, key) = with_main_project(backend).await;
    for way in Way::ALL {
        let issued = way.issue(&server, &key, "42").await;
        way.refresh(&server, &issued.refresh).await.expect("refreshed");
    }
    let metrics = server.app.metrics.render();
    for (grant, count) in
        [("on_behalf_of", 2), (JWT_BEARER, 1), ("refresh_token", 3), ("client_credentials", 2)]
    {
        let line =
            format!("propusk_tokens_issued_total{{grant=\"{grant}\",client=\"operator\"}} {count}");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    let created = server.events().await;
    let created: Vec<_> = created.iter().filter(|(kind, _)| kind == "session.created").collect();
    assert_eq!(created.len(), 3);
    for (_, data) in created {
        assert_eq!((&data["userId"], &data["clientId"]), (&json!("mp1:42"), &json!("mp1")));
    }
    let admin = server.admin("root").await;
    let entries = admin.all("/audit?action=session.issue_on_behalf_of").await;
    assert_eq!(entries.len(), 3);
    for entry in &entries {
        assert_eq!((&entry["actor"], &entry["subject"]), (&json!("mp1"), &json!("mp1:42")));
    }
    // Why a request was denied, for the operator.
    let mut wrong = claims(&server, "wrong");
    wrong["aud"] = "https://elsewhere.example".into();
    let assertion = sign(&key, &json!({ "alg": "ES256" }), &wrong);
    let refused = grant(&server, "mp1", &assertion, &[]).await;
    let refused = refused.expect_oauth_error(400, "invalid_grant");
    let id = refused.header("x-request-id").to_owned();
    let explained = admin.get(&format!("/explain/{id}")).await.data();
    assert_eq!(explained["diagnostics"]["client.subject_namespace"], "mp1", "{explained}");
    assert!(explained["diagnostics"]["assertion.aud"].is_string(), "{explained}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn issuing_for_a_subject_takes_a_fixed_number_of_statements() {
    // The deliveries of back-channel logouts, and what a process reads to follow a revocation: its
    // own sync after the commit does not wait for the response, nor the response for it.
    const OF_A_SYNC: &str = "logout_deliveries|^SELECT name, version FROM change_counters|FROM revocations WHERE number >";
    let (server, key) = with_main_project(Backend::Postgres).await;
    let extension = Statement::new("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
    server.app.db.write(extension).await.expect("pg_stat_statements, which ./dev/test loads");
    // A background sweep may fall into a count and only adds to it: the smallest of several counts
    // is the call's.
    let (mut json, mut bearer, mut revocation) = (i64::MAX, i64::MAX, i64::MAX);
    for _ in 0..6 {
        let before = statements(&server).await;
        Way::Json.issue(&server, &key, "42").await;
        let after = statements(&server).await;
        Way::OAuth.issue(&server, &key, "42").await;
        let last = statements(&server).await;
        let before_revocation = statements_but(&server, OF_A_SYNC).await;
        Way::Json.revoke(&server, What::Subject("42".to_owned())).await;
        let end = statements_but(&server, OF_A_SYNC).await;
        json = json.min(after - before);
        bearer = bearer.min(last - after);
        revocation = revocation.min(end - before_revocation);
    }
    // The version check, which concurrent calls share; session with event and audit entry.
    assert_eq!(json, 1 + 1);
    // The `jti` as well.
    assert_eq!(bearer, 1 + 2);
    // Lock, last revocation, event, audit entry, sessions, version, entries; beside them the version
    // check before.
    assert_eq!(revocation, 7, "whatever the number of sessions");
}

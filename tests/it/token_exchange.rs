//! Token exchange (RFC 8693): a service gets a token for the API behind it.

use std::{sync::Arc, time::Duration};

use propusk::{
    clock::Clock,
    flows::admin::{access::Precondition, clients, issuers, users},
    model::{
        actor::Actor,
        client::{Metadata, TokenExchangePolicy, UserClaim},
        trusted_issuer::IssuerUse,
    },
    storage::Statement,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    code_flow::statements,
    support::{
        Backend, Database, START, TestServer, backend_tests,
        exchange::{
            ACCESS_TOKEN, ID_TOKEN, Idp, JWT, LEDGER, ORDERS, REFRESH_TOKEN, SCOPE, access_token,
            exchange, own_token, policy, scope, service, tokens, with_services,
        },
        oauth::{AuthorizationRequest, changed, first_party_app, payload},
        send,
    },
};

backend_tests! {
    an_access_token_is_exchanged_for_the_api_behind,
    delegation_names_the_actor_and_those_before_it,
    id_and_refresh_tokens_of_the_client_are_exchanged,
    a_subject_of_a_trusted_issuer_gets_a_session,
    a_linked_subject_is_the_user,
    an_exchanged_token_is_revoked_with_what_it_derives_from,
    an_audience_is_named_or_that_of_the_subject_token,
    the_policy_denies_by_default,
    a_role_is_kept_and_modules_are_those_of_the_audience,
    the_documented_example_works,
}

/// Whether the API behind accepts the token.
async fn is_active(server: &TestServer, token: &str) -> bool {
    server.introspect("ledger", token).await["active"] == true
}

/// The service of the API behind.
async fn with_ledger(backend: Backend) -> TestServer {
    let server = with_services(backend).await;
    let ledger =
        Metadata { introspection_audiences: vec![LEDGER.to_owned()], ..service(Some(behind())) };
    server.client("ledger", ledger).await;
    server
}

/// What the service of the API behind may do itself.
fn behind() -> TokenExchangePolicy {
    TokenExchangePolicy { subject_audiences: vec![LEDGER.to_owned()], ..policy() }
}

async fn an_access_token_is_exchanged_for_the_api_behind(backend: Backend) {
    let server = with_ledger(backend).await;
    let subject = access_token(&server).await;
    let before = payload(&subject);
    assert_eq!(before["aud"], ORDERS);
    server.clock.advance(Duration::from_secs(60));
    let reply =
        exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &[("audience", LEDGER)]).await;
    let reply = reply.expect(StatusCode::OK);
    let json = reply.json();
    assert_eq!(json["issued_token_type"], ACCESS_TOKEN);
    assert_eq!(
        (&json["token_type"], &json["scope"]),
        (&json!("Bearer"), &json!("orders:read ledger:read"))
    );
    assert_eq!((&json["refresh_token"], &json["id_token"]), (&Value::Null, &Value::Null));
    assert_eq!(reply.header("cache-control"), "no-store");
    let claims = payload(&reply.field("access_token"));
    for same in ["iss", "sub", "sid", "auth_time"] {
        assert_eq!(claims[same], before[same], "{same}");
    }
    assert_eq!((&claims["client_id"], &claims["aud"]), (&json!("gateway"), &json!(LEDGER)));
    assert_eq!(claims["act"], Value::Null);
    assert_ne!(claims["jti"], before["jti"]);
    assert!(claims["exp"].as_i64() <= before["exp"].as_i64(), "{claims}");
    // A resource parameter names the API as well, and a scope narrows.
    let beside = [("resource", LEDGER), ("scope", "ledger:read")];
    let narrow = exchange(&server, "gateway", (JWT, &subject), &beside).await;
    let narrow = narrow.expect(StatusCode::OK).field("access_token");
    assert_eq!(payload(&narrow)["scope"], "ledger:read");
    assert!(is_active(&server, &narrow).await);
    server.verify(&narrow).await.expect(StatusCode::UNAUTHORIZED);

    let admin = server.admin("root").await;
    let entries = admin.all("/audit?action=token.exchange").await;
    assert_eq!(entries.len(), 2);
    let entry = &entries[0];
    assert_eq!((&entry["actor"], &entry["subject"]), (&json!("gateway"), &before["sub"]));
    assert_eq!(entry["detail"]["audience"], LEDGER);
    assert_eq!(entry["detail"]["sessionId"], before["sid"]);
}

async fn delegation_names_the_actor_and_those_before_it(backend: Backend) {
    let server = with_ledger(backend).await;
    let subject = access_token(&server).await;
    let own = own_token(&server, "gateway").await;
    let beside = [("audience", LEDGER), ("actor_token", &own), ("actor_token_type", ACCESS_TOKEN)];
    let first = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &beside).await;
    let first = first.expect(StatusCode::OK).field("access_token");
    assert_eq!(payload(&first)["act"], json!({ "sub": "gateway" }));
    assert_eq!(payload(&first)["sub"], payload(&subject)["sub"]);

    let own = own_token(&server, "ledger").await;
    let beside = [("actor_token", own.as_str()), ("actor_token_type", JWT)];
    let second = exchange(&server, "ledger", (ACCESS_TOKEN, &first), &beside).await;
    let second = second.expect(StatusCode::OK).field("access_token");
    let chain = json!({ "sub": "ledger", "act": { "sub": "gateway" } });
    assert_eq!(payload(&second)["act"], chain);
    assert_eq!(payload(&second)["derived_from"].as_array().map(Vec::len), Some(2));
    let seen = server.introspect("ledger", &second).await;
    assert_eq!((&seen["active"], &seen["act"]), (&json!(true), &chain));
    let query = format!("/forward-auth?audience={LEDGER}");
    let reply = server.get_as(&query, &second).await.expect(StatusCode::OK);
    assert_eq!(reply.header("x-propusk-actor"), "ledger");
    assert_eq!(reply.header("x-propusk-user"), payload(&subject)["sub"]);
    // Impersonation keeps the chain: nobody forgets who acts.
    let third = exchange(&server, "ledger", (ACCESS_TOKEN, &second), &[]).await;
    assert_eq!(payload(&third.expect(StatusCode::OK).field("access_token"))["act"], chain);
    let mut last = second;
    for _ in 0..3 {
        let reply = exchange(&server, "ledger", (ACCESS_TOKEN, &last), &beside).await;
        last = reply.expect(StatusCode::OK).field("access_token");
    }
    let reply = exchange(&server, "ledger", (ACCESS_TOKEN, &last), &beside).await;
    reply.expect_oauth_error(400, "invalid_request");
}

async fn id_and_refresh_tokens_of_the_client_are_exchanged(backend: Backend) {
    let server = with_ledger(backend).await;
    let policy = policy();
    let change = changed(|metadata| {
        metadata.grant_types.push(propusk::model::client::GrantType::TokenExchange);
        metadata.token_exchange = Some(policy);
    });
    let by = Actor::operator();
    let updated =
        clients::update(&server.app, &"app".into(), &Precondition::Any, change, &by).await;
    updated.expect("changed");
    server.clock.advance(Duration::from_secs(2));
    let of_ann = tokens(&server, "ann", &format!("{SCOPE} offline_access")).await;
    let [id_token, refresh] = ["id_token", "refresh_token"].map(|name| of_ann.field(name));
    for presented in [(ID_TOKEN, &id_token), (REFRESH_TOKEN, &refresh)] {
        let presented = (presented.0, presented.1.as_str());
        let reply = exchange(&server, "app", presented, &[("audience", LEDGER)]).await;
        let token = reply.expect(StatusCode::OK).field("access_token");
        let claims = payload(&token);
        assert_eq!(claims["scope"], "orders:read ledger:read");
        assert_eq!(claims["sid"], payload(&id_token)["sid"]);
        assert!(is_active(&server, &token).await);
        // Nobody else's, and not as another kind.
        let reply = exchange(&server, "gateway", presented, &[("audience", LEDGER)]).await;
        reply.expect_oauth_error(400, "invalid_request");
        let as_access = (ACCESS_TOKEN, presented.1);
        let other = exchange(&server, "app", as_access, &[("audience", LEDGER)]).await;
        other.expect_oauth_error(400, "invalid_request");
    }
    // It was not used up, and a used one is refused.
    server.refresh_as("app", &refresh).await.expect(StatusCode::OK);
    let reply = exchange(&server, "app", (REFRESH_TOKEN, &refresh), &[("audience", LEDGER)]).await;
    reply.expect_oauth_error(400, "invalid_request");
}

async fn a_subject_of_a_trusted_issuer_gets_a_session(backend: Backend) {
    let server = with_ledger(backend).await;
    let acme = Idp::new("https://idp.acme.example");
    acme.trusted(&server, "acme", &[IssuerUse::SubjectToken, IssuerUse::ActorToken]).await;
    let token = acme
        .token(&server, json!({ "scope": "ledger:read ledger:write", "act": { "sub": "bot" } }));
    let reply = exchange(&server, "gateway", (JWT, &token), &[("audience", LEDGER)]).await;
    let reply = reply.expect(StatusCode::OK);
    let issued = reply.field("access_token");
    let claims = payload(&issued);
    assert_eq!((&claims["sub"], &claims["scope"]), (&json!("@acme:42"), &json!("ledger:read")));
    assert_eq!(claims["act"], json!({ "iss": acme.issuer, "sub": "bot" }));
    assert_eq!(
        (&claims["auth_time"], claims["exp"].as_i64()),
        (&Value::Null, Some(server.clock.now().as_secs() + 300))
    );
    assert!(is_active(&server, &issued).await);
    let query = format!("/forward-auth?audience={LEDGER}");
    let gateway = server.get_as(&query, &issued).await.expect(StatusCode::OK);
    assert_eq!(gateway.header("x-propusk-actor"), format!("{} bot", acme.issuer));
    let sid = claims["sid"].as_str().expect("a session").to_owned();
    let admin = server.admin("root").await;
    let session = admin.get(&format!("/sessions/{sid}")).await.expect(StatusCode::OK);
    assert_eq!(session.data()["subject"], "@acme:42");

    // An actor of the issuer; the subject is a user here.
    let subject = access_token(&server).await;
    let actor = acme.token(&server, json!({ "sub": "agent" }));
    let beside = [("audience", LEDGER), ("actor_token", &actor), ("actor_token_type", JWT)];
    let reply = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &beside).await;
    let claims = payload(&reply.expect(StatusCode::OK).field("access_token"));
    assert_eq!(claims["act"], json!({ "iss": acme.issuer, "sub": "agent" }));
    assert_eq!(claims["sub"], payload(&subject)["sub"]);

    // As soon as it is disabled, nothing of it is accepted, by any process.
    let other = server.another(&[]).await;
    admin.post("/issuers/acme/disable", json!({})).await.expect(StatusCode::OK);
    assert!(!is_active(&other, &issued).await);
    server.clock.advance(Duration::from_secs(2));
    let again = acme.token(&server, json!({}));
    let reply = exchange(&other, "gateway", (JWT, &again), &[("audience", LEDGER)]).await;
    reply.expect_oauth_error(400, "invalid_request");
    admin.post("/issuers/acme/enable", json!({})).await.expect(StatusCode::OK);
    let reply = exchange(&other, "gateway", (JWT, &again), &[("audience", LEDGER)]).await;
    let issued = reply.expect(StatusCode::OK).field("access_token");
    admin.delete("/issuers/acme").await.expect(StatusCode::OK);
    assert!(!is_active(&other, &issued).await);
}

async fn a_linked_subject_is_the_user(backend: Backend) {
    let server = with_ledger(backend).await;
    let acme = Idp::new("https://idp.acme.example");
    acme.trusted(&server, "acme", &[IssuerUse::SubjectToken]).await;
    let ann = users::find(&server.app, "ann").await.expect("ann").id;
    let by = Actor::operator();
    issuers::link(&server.app, "acme", "42", &ann, &by).await.expect("linked");
    let token = acme.token(&server, json!({}));
    let exchanged =
        async || exchange(&server, "gateway", (JWT, &token), &[("audience", LEDGER)]).await;
    let issued = exchanged().await.expect(StatusCode::OK).field("access_token");
    assert_eq!(payload(&issued)["sub"], ann.as_str());
    // Not before the link, and not after it.
    issuers::unlink(&server.app, "acme", "42", &by).await.expect("unlinked");
    assert!(!is_active(&server, &issued).await);
    let issued = exchanged().await.expect(StatusCode::OK).field("access_token");
    assert_eq!(payload(&issued)["sub"], "@acme:42");
    issuers::link(&server.app, "acme", "42", &ann, &by).await.expect("linked");
    let issued = exchanged().await.expect(StatusCode::OK).field("access_token");
    users::disable(&server.app, &ann, &by).await.expect("disabled");
    assert!(!is_active(&server, &issued).await);
    exchanged().await.expect_oauth_error(400, "invalid_request");
    // A deleted user takes the link along.
    users::delete(&server.app, &ann, &Precondition::Any, &by).await.expect("deleted");
    let issued = exchanged().await.expect(StatusCode::OK).field("access_token");
    assert_eq!(payload(&issued)["sub"], "@acme:42");
}

async fn an_exchanged_token_is_revoked_with_what_it_derives_from(backend: Backend) {
    let server = with_ledger(backend).await;
    let other = server.another(&[]).await;
    let admin = server.admin("root").await;
    let ann = users::find(&server.app, "ann").await.expect("ann").id;
    for what in ["token", "session", "client", "gateway", "subject", "user", "key"] {
        // Whatever was revoked before is older than the new tokens.
        server.clock.advance(Duration::from_secs(5));
        let subject = access_token(&server).await;
        let to_ledger = [("audience", LEDGER)];
        let exchanged = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &to_ledger).await;
        let first = exchanged.expect(StatusCode::OK).field("access_token");
        // Some time later, so that it was issued after what revokes the first token.
        let second = exchange(&server, "ledger", (ACCESS_TOKEN, &first), &[]).await;
        let second = second.expect(StatusCode::OK).field("access_token");
        assert!(is_active(&other, &first).await && is_active(&other, &second).await, "{what}");
        match what {
            "token" => {
                let reply = server.form_as("/oauth2/revoke", "app", &[("token", &subject)]).await;
                reply.expect(StatusCode::OK);
            }
            "session" => {
                let sid = payload(&subject)["sid"].as_str().expect("a session").to_owned();
                admin.delete(&format!("/sessions/{sid}")).await.expect(StatusCode::OK);
            }
            "client" => {
                admin.post("/clients/app/disable", json!({})).await.expect(StatusCode::OK);
                admin.post("/clients/app/enable", json!({})).await.expect(StatusCode::OK);
            }
            "gateway" => {
                let narrower = json!({ "metadata": { "token_exchange": { "audiences": [LEDGER], "impersonation": false } } });
                admin.patch("/clients/gateway", narrower).await.expect(StatusCode::OK);
                let policy = serde_json::to_value(policy()).expect("JSON");
                let again = json!({ "metadata": { "token_exchange": policy } });
                admin.patch("/clients/gateway", again).await.expect(StatusCode::OK);
            }
            "subject" => {
                let body = json!({ "kind": "subject", "target": ann, "reason": "lost" });
                admin.post("/revocations", body).await.expect(StatusCode::CREATED);
            }
            "user" => {
                users::disable(&server.app, &ann, &Actor::operator()).await.expect("disabled");
                users::enable(&server.app, &ann, &Actor::operator()).await.expect("enabled");
            }
            _ => {
                let header = crate::support::oauth::header(&subject);
                let kid = header["kid"].as_str().expect("a key").to_owned();
                let banned = send(admin.request(Method::POST, &format!("/keys/{kid}/ban"))).await;
                banned.expect(StatusCode::OK);
            }
        }
        assert!(!is_active(&other, &first).await, "{what}");
        assert!(!is_active(&other, &second).await, "{what}: derived twice");
    }
}

async fn an_audience_is_named_or_that_of_the_subject_token(backend: Backend) {
    let server = with_ledger(backend).await;
    let subject = access_token(&server).await;
    let attempt = async |beside: &[(&str, &str)]| {
        exchange(&server, "gateway", (ACCESS_TOKEN, &subject), beside).await
    };
    attempt(&[]).await.expect_oauth_error(400, "invalid_target");
    for bad in [ORDERS, "https://other.example", "ledger", "*", &server.app.config.server.issuer] {
        attempt(&[("audience", bad)]).await.expect_oauth_error(400, "invalid_target");
        attempt(&[("audience", LEDGER), ("audience", bad)])
            .await
            .expect_oauth_error(400, "invalid_target");
    }
    let both = [("audience", LEDGER), ("resource", LEDGER)];
    let token = attempt(&both).await.expect(StatusCode::OK).field("access_token");
    assert_eq!(payload(&token)["aud"], LEDGER);
    let requested = |kind| [("audience", LEDGER), ("requested_token_type", kind)];
    attempt(&requested(ACCESS_TOKEN)).await.expect(StatusCode::OK);
    for kind in [REFRESH_TOKEN, ID_TOKEN, "urn:ietf:params:oauth:token-type:saml2", "jwt"] {
        attempt(&requested(kind)).await.expect_oauth_error(400, "invalid_request");
    }
}

async fn the_policy_denies_by_default(backend: Backend) {
    let server = with_services(backend).await;
    let subject = access_token(&server).await;
    let own = own_token(&server, "gateway").await;
    let acting = [("audience", LEDGER), ("actor_token", &own), ("actor_token_type", ACCESS_TOKEN)];
    let set = async |policy: Option<TokenExchangePolicy>| {
        server.change_client("gateway", |client| client.metadata.token_exchange = policy).await;
    };
    let refused = async |beside: &[(&str, &str)]| {
        let reply = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), beside).await;
        reply.expect_oauth_error(400, "unauthorized_client");
    };
    for none in [None, Some(TokenExchangePolicy::default())] {
        set(none).await;
        refused(&[("audience", LEDGER)]).await;
        refused(&acting).await;
    }
    set(Some(TokenExchangePolicy { impersonation: false, ..policy() })).await;
    refused(&[("audience", LEDGER)]).await;
    exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &acting).await.expect(StatusCode::OK);
    set(Some(TokenExchangePolicy { delegation: false, ..policy() })).await;
    refused(&acting).await;
    set(Some(TokenExchangePolicy { audiences: vec![], ..policy() })).await;
    let reply =
        exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &[("audience", LEDGER)]).await;
    reply.expect_oauth_error(400, "invalid_target");
    set(Some(TokenExchangePolicy { audiences: vec!["*".to_owned()], ..policy() })).await;
    let reply =
        exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &[("audience", LEDGER)]).await;
    reply.expect(StatusCode::OK);

    // The metadata of a client is checked where it is set.
    let admin = server.admin("root").await;
    let exchanging = ["urn:ietf:params:oauth:grant-type:token-exchange"];
    for (bad, field) in [
        (json!({ "grant_types": exchanging, "token_endpoint_auth_method": "none" }), "grant_types"),
        (
            json!({ "grant_types": ["client_credentials"], "token_exchange": { "audiences": [LEDGER] } }),
            "token_exchange",
        ),
        (
            json!({ "grant_types": exchanging, "token_exchange": { "audiences": ["ledger"] } }),
            "token_exchange",
        ),
        (
            json!({ "grant_types": exchanging, "token_exchange": { "issuers": ["A b"] } }),
            "token_exchange",
        ),
        (json!({ "grant_types": exchanging, "token_exchange": { "all": true } }), "token_exchange"),
        (
            json!({ "grant_types": exchanging, "id_jag": [{ "audience": "https://x.example", "client_id": "a", "resources": [] }] }),
            "id_jag",
        ),
        (json!({ "grant_types": exchanging, "may_act": "" }), "may_act"),
    ] {
        let reply = admin.post("/clients", json!({ "metadata": bad })).await;
        let reply = reply.expect_error(400, "VALIDATION_ERROR");
        assert!(reply.text.contains(field), "{field}: {reply:?}");
    }
}

async fn a_role_is_kept_and_modules_are_those_of_the_audience(backend: Backend) {
    let server = with_ledger(backend).await;
    server.module("books", "books:read", Some(LEDGER), false).await;
    let claims = vec![UserClaim::Role, UserClaim::Modules];
    server
        .change_client("app", |client| {
            client.metadata.scope = scope_with(&client.metadata, "books:read");
        })
        .await;
    server
        .change_client("gateway", |client| {
            client.metadata.scope = scope_with(&client.metadata, "books:read");
            client.metadata.user_claims = claims.clone();
        })
        .await;
    let ann = users::find(&server.app, "ann").await.expect("ann").id;
    let by = Actor::operator();
    let granted =
        propusk::flows::admin::modules::grant(&server.app, &ann, "books", None, &by).await;
    granted.expect("granted");
    server.clock.advance(Duration::from_secs(2));
    // The module's scope is of LEDGER: a token for ORDERS has none to give.
    let subject =
        tokens(&server, "ann", &format!("{SCOPE} books:read")).await.field("access_token");
    let beside = [("audience", LEDGER)];
    let reply = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &beside).await;
    let issued = payload(&reply.expect(StatusCode::OK).field("access_token"));
    assert_eq!(issued["scope"], "orders:read ledger:read");
    assert_eq!((&issued["modules"], &issued["role"]), (&json!(["books"]), &Value::Null));
    // A role that the subject token has is kept.
    server.change_client("app", |client| client.metadata.user_claims = claims.clone()).await;
    let subject = access_token(&server).await;
    let reply = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &beside).await;
    let issued = payload(&reply.expect(StatusCode::OK).field("access_token"));
    assert_eq!(issued["role"], "user");
}

/// The piece of docs/token-exchange.md that begins with this line.
fn documented(first: &str) -> &'static str {
    let page = include_str!("../../docs/token-exchange.md");
    let (_, rest) = page.split_once(&format!("```{first}\n")).expect("a piece");
    rest.split_once("\n```").expect("its end").0
}

async fn the_documented_example_works(backend: Backend) {
    let database = Arc::new(Database::prepared(backend).await);
    let file = database.folder.path().join("clients.toml");
    std::fs::write(&file, documented("toml")).expect("a file");
    let settings = [("PROPUSK_CLIENTS__FILE", file.to_str().expect("text"))];
    let server = TestServer::on(database, Clock::fake(START), &settings).await;
    clients::file::apply(&server.app).await.expect("a good clients.toml");
    let app = Metadata { resources: vec!["*".to_owned()], ..first_party_app() };
    let app = Metadata { scope: scope("openid orders:read ledger:read"), ..app };
    server.client("app", app).await;
    server.register("ann").await;
    let request = AuthorizationRequest::of("app", "orders:read ledger:read");
    let request = request.with("resource", "https://orders.example.org/");
    let answer = server.browser().authorize(&request, "ann").await;
    let reply = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let subject = reply.field("access_token");
    let running = tokio::process::Command::new("sh")
        .args(["-ec", documented("sh exchange")])
        .envs([("BASE", server.base.as_str()), ("SUBJECT_TOKEN", &subject)])
        .output();
    let output = running.await.expect("sh and curl");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let response: Value = serde_json::from_str(&printed).expect("JSON");
    let claims = payload(response["access_token"].as_str().expect("a token"));
    assert_eq!(claims["aud"], "https://ledger.example.org/");
    assert_eq!(
        (&claims["scope"], &claims["act"]),
        (&json!("ledger:read"), &json!({ "sub": "gateway" }))
    );
}

fn scope_with(metadata: &Metadata, more: &str) -> propusk::oauth::scope::Scope {
    propusk::oauth::scope::Scope::of(metadata.scope.iter().chain([more]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn an_exchange_takes_three_statements_and_a_foreign_one_six() {
    let server = with_ledger(Backend::Postgres).await;
    let acme = Idp::new("https://idp.acme.example");
    acme.trusted(&server, "acme", &[IssuerUse::SubjectToken]).await;
    let extension = Statement::new("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
    server.app.db.write(extension).await.expect("pg_stat_statements, which ./dev/test loads");
    let subject = access_token(&server).await;
    let foreign = acme.token(&server, json!({}));
    // A background sweep may fall into a count and only adds to it.
    let mut fewest = [i64::MAX; 2];
    for _ in 0..6 {
        for (at, presented) in [(ACCESS_TOKEN, &subject), (JWT, &foreign)].into_iter().enumerate() {
            let presented = (presented.0, presented.1.as_str());
            let before = statements(&server).await;
            let reply = exchange(&server, "gateway", presented, &[("audience", LEDGER)]).await;
            reply.expect(StatusCode::OK);
            fewest[at] = fewest[at].min(statements(&server).await - before);
        }
    }
    // The versions, the session, the audit entry; for a foreign subject also its link, its session
    // and the event.
    assert_eq!(fewest, [3, 6]);
}

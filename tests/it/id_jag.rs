//! Identity Assertion JWT Authorization Grants: one server as the identity provider, another one as
//! the authorization server of an API.

use std::time::Duration;

use propusk::{
    flows::admin::{issuers, users},
    model::{
        actor::Actor,
        client::{GrantType, IdJagTarget, Metadata},
        trusted_issuer::{IssuerSettings, IssuerUse},
    },
    storage::Statement,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    code_flow::statements,
    support::{
        Backend, Reply, TestServer, backend_tests,
        exchange::{
            ACCESS_TOKEN, ID_JAG, ID_TOKEN, Idp, JWT, LEDGER, ORDERS, REFRESH_TOKEN, SCOPE, bearer,
            exchange, own_token, scope, tokens, with_services,
        },
        oauth::{header, payload},
    },
};

backend_tests! {
    an_id_token_is_exchanged_for_a_grant_at_another_server,
    the_id_jag_policy_of_the_client_decides,
    a_grant_of_the_identity_provider_gets_an_access_token,
    a_linked_subject_of_a_grant_is_the_user,
    both_roles_are_in_the_server_metadata,
}

const PROVIDER: &str = "http://localhost:4711";

/// What `app` may request at the server of the API, where it is known as `gateway`.
fn target(audience: &str) -> IdJagTarget {
    IdJagTarget {
        audience: audience.to_owned(),
        client_id: "gateway".to_owned(),
        resources: vec![LEDGER.to_owned()],
        scope: scope("ledger:read ledger:write"),
    }
}

/// An identity provider whose client `app` may request grants for that audience.
async fn provider(backend: Backend, audience: &str) -> TestServer {
    let server = TestServer::with(backend, &[("PROPUSK_SERVER__ISSUER", PROVIDER)]).await;
    crate::support::exchange::furnish(&server).await;
    server
        .change_client("app", |client| {
            client.metadata.grant_types.push(GrantType::TokenExchange);
            client.metadata.id_jag = vec![target(audience)];
        })
        .await;
    server
}

async fn mint(
    server: &TestServer,
    presented: (&str, &str),
    audience: &str,
    beside: &[(&str, &str)],
) -> Reply {
    let fields = [("requested_token_type", ID_JAG), ("audience", audience)];
    exchange(server, "app", presented, &[&fields, beside].concat()).await
}

const CHAT: &str = "https://chat.example";

async fn an_id_token_is_exchanged_for_a_grant_at_another_server(backend: Backend) {
    let server = provider(backend, CHAT).await;
    let of_ann = tokens(&server, "ann", &format!("{SCOPE} offline_access")).await;
    let [id_token, refresh] = ["id_token", "refresh_token"].map(|name| of_ann.field(name));
    let user = payload(&id_token);
    server.clock.advance(Duration::from_secs(30));
    let beside = [("resource", LEDGER), ("scope", "ledger:read")];
    let reply = mint(&server, (ID_TOKEN, &id_token), CHAT, &beside).await.expect(StatusCode::OK);
    let json = reply.json();
    assert_eq!((&json["issued_token_type"], &json["token_type"]), (&json!(ID_JAG), &json!("N_A")));
    assert_eq!((&json["scope"], &json["expires_in"]), (&json!("ledger:read"), &json!(300)));
    assert_eq!(json["refresh_token"], Value::Null);
    assert_eq!(reply.header("cache-control"), "no-store");
    let grant = reply.field("access_token");
    assert_eq!(header(&grant)["typ"], "oauth-id-jag+jwt");
    let claims = payload(&grant);
    let now = server.clock.now().as_secs();
    let expected = json!({
        "iss": PROVIDER, "sub": user["sub"], "aud": CHAT, "client_id": "gateway",
        "jti": claims["jti"], "iat": now, "exp": now + 300, "resource": LEDGER,
        "scope": "ledger:read", "auth_time": user["auth_time"], "acr": user["acr"],
        "amr": user["amr"], "email": "ann@example.org", "email_verified": false,
    });
    assert_eq!(claims, expected);
    assert!(claims["auth_time"].is_i64() && claims["amr"].is_array(), "{claims}");
    // The only resource, and the whole scope, where none is named.
    let reply = mint(&server, (REFRESH_TOKEN, &refresh), CHAT, &[]).await.expect(StatusCode::OK);
    let again = payload(&reply.field("access_token"));
    assert_eq!(
        (&again["resource"], &again["scope"]),
        (&json!(LEDGER), &json!("ledger:read ledger:write"))
    );
    assert_ne!(again["jti"], claims["jti"]);
    // A grant is no token here.
    for path in ["/api/v1/auth/verify", "/oauth2/userinfo"] {
        server.get_as(path, &grant).await.expect(StatusCode::UNAUTHORIZED);
    }
    assert_eq!(server.introspect("app", &grant).await, json!({ "active": false }));
    let reply = mint(&server, (ID_TOKEN, &grant), CHAT, &[]).await;
    reply.expect_oauth_error(400, "invalid_grant");
    // The email only where the user's session has its scope.
    let without = tokens(&server, "ann", "openid orders:read").await.field("id_token");
    let reply = mint(&server, (ID_TOKEN, &without), CHAT, &[]).await.expect(StatusCode::OK);
    assert_eq!(payload(&reply.field("access_token"))["email"], Value::Null);
    // It lives no longer than the ID token.
    let left = user["exp"].as_i64().expect("seconds") - server.clock.now().as_secs() - 10;
    server.clock.advance(Duration::from_secs(u64::try_from(left).expect("positive")));
    let reply = mint(&server, (ID_TOKEN, &id_token), CHAT, &[]).await.expect(StatusCode::OK);
    assert_eq!(reply.json()["expires_in"], 10);
    let admin = server.admin("root").await;
    let entries = admin.all("/audit?action=token.exchange").await;
    assert_eq!(entries.len(), 4);
    assert_eq!(
        (&entries[0]["subject"], &entries[0]["detail"]["audience"]),
        (&user["sub"], &json!(CHAT))
    );
}

async fn the_id_jag_policy_of_the_client_decides(backend: Backend) {
    let server = provider(backend, CHAT).await;
    let of_ann = tokens(&server, "ann", SCOPE).await;
    let [id_token, access] = ["id_token", "access_token"].map(|name| of_ann.field(name));
    let own = (ID_TOKEN, id_token.as_str());
    for other in ["https://other.example", "https://chat.example/", PROVIDER, LEDGER] {
        mint(&server, own, other, &[]).await.expect_oauth_error(400, "invalid_target");
    }
    for none in [vec![], vec![("audience", CHAT), ("audience", "https://other.example")]] {
        let fields = [&[("requested_token_type", ID_JAG)], &none[..]].concat();
        let reply = exchange(&server, "app", own, &fields).await;
        reply.expect_oauth_error(400, "invalid_request");
    }
    for beyond in [ORDERS, "https://other.example"] {
        let reply = mint(&server, own, CHAT, &[("resource", beyond)]).await;
        reply.expect_oauth_error(400, "invalid_target");
    }
    for wider in ["ledger:read chat:read", "openid", "propusk:admin"] {
        let reply = mint(&server, own, CHAT, &[("scope", wider)]).await;
        reply.expect_oauth_error(400, "invalid_scope");
    }
    let acting = [("actor_token", access.as_str()), ("actor_token_type", ACCESS_TOKEN)];
    mint(&server, own, CHAT, &acting).await.expect_oauth_error(400, "invalid_request");
    for kind in [ACCESS_TOKEN, JWT] {
        let reply = mint(&server, (kind, &access), CHAT, &[]).await;
        reply.expect_oauth_error(400, "invalid_request");
    }
    // Another client's ID token, one that is none, and one of a trusted issuer.
    let acme = Idp::new("https://idp.acme.example");
    acme.trusted(&server, "acme", &[IssuerUse::SubjectToken]).await;
    server.client("second", Metadata { ..crate::support::oauth::first_party_app() }).await;
    let request = crate::support::oauth::AuthorizationRequest::of("second", "openid");
    let answer = server.browser().authorize(&request, "ann").await;
    let second = server.exchange_code("second", answer.code()).await.expect(StatusCode::OK);
    let foreign = acme.token(&server, json!({ "aud": "app" }));
    for bad in [&second.field("id_token"), &access, &foreign, "x"] {
        let reply = mint(&server, (ID_TOKEN, bad), CHAT, &[]).await;
        reply.expect_oauth_error(400, "invalid_grant");
    }
    let beside = [("requested_token_type", ID_JAG), ("audience", CHAT)];
    let reply = exchange(&server, "gateway", own, &beside).await;
    reply.expect_oauth_error(400, "unauthorized_client");
    mint(&server, own, CHAT, &[]).await.expect(StatusCode::OK);
    // A revoked session, and an expired ID token.
    let ann = users::find(&server.app, "ann").await.expect("ann").id;
    users::disable(&server.app, &ann, &Actor::operator()).await.expect("disabled");
    mint(&server, own, CHAT, &[]).await.expect_oauth_error(400, "invalid_grant");
    users::enable(&server.app, &ann, &Actor::operator()).await.expect("enabled");
    mint(&server, own, CHAT, &[]).await.expect_oauth_error(400, "invalid_grant");
    server.clock.advance(Duration::from_secs(5));
    let id_token = tokens(&server, "ann", SCOPE).await.field("id_token");
    server.clock.advance(Duration::from_secs(3_600));
    let reply = mint(&server, (ID_TOKEN, &id_token), CHAT, &[]).await;
    reply.expect_oauth_error(400, "invalid_grant");
}

/// An API's server that trusts the provider with grants.
async fn trusting(backend: Backend, provider: &TestServer) -> TestServer {
    let server = with_services(backend).await;
    let jwks = provider.get("/oauth2/jwks").await.expect(StatusCode::OK).json();
    let settings = IssuerSettings {
        jwks: Some(jwks),
        trusted_for: vec![IssuerUse::IdJag],
        scope: scope("ledger:read"),
        ..IssuerSettings::default()
    };
    let (id, issuer, by) = ("idp".to_owned(), PROVIDER.to_owned(), Actor::operator());
    let created = issuers::create(&server.app, id, issuer, settings, None, &by).await;
    created.expect("an issuer");
    server
}

async fn a_grant_of_the_identity_provider_gets_an_access_token(backend: Backend) {
    let first = provider(backend, CHAT).await;
    let server = trusting(backend, &first).await;
    let issuer = server.app.config.server.issuer.clone();
    first.change_client("app", |client| client.metadata.id_jag = vec![target(&issuer)]).await;
    let id_token = tokens(&first, "ann", SCOPE).await.field("id_token");
    let grant = mint(&first, (ID_TOKEN, &id_token), &issuer, &[]).await;
    let grant = grant.expect(StatusCode::OK).field("access_token");
    let reply = bearer(&server, "gateway", &grant, &[]).await.expect(StatusCode::OK);
    let json = reply.json();
    assert_eq!((&json["token_type"], &json["scope"]), (&json!("Bearer"), &json!("ledger:read")));
    for none in ["refresh_token", "id_token", "issued_token_type"] {
        assert_eq!(json[none], Value::Null, "{none}");
    }
    let token = reply.field("access_token");
    let claims = payload(&token);
    let sub = payload(&id_token)["sub"].as_str().expect("text").to_owned();
    assert_eq!(claims["sub"], format!("@idp:{sub}"));
    assert_eq!((&claims["aud"], &claims["client_id"]), (&json!(LEDGER), &json!("gateway")));
    assert_eq!(server.introspect("gateway", &token).await["active"], true);
    let admin = server.admin("root").await;
    let entries = admin.all("/audit?action=token.id_jag").await;
    assert_eq!(entries[0]["detail"]["jti"], payload(&grant)["jti"]);
    // The provider accepts no grant that it has issued itself.
    bearer(&first, "gateway", &grant, &[]).await.expect_oauth_error(400, "invalid_grant");
    // Its session is revoked with the issuer, at once and everywhere.
    let other = server.another(&[]).await;
    admin.post("/issuers/idp/disable", json!({})).await.expect(StatusCode::OK);
    assert_eq!(other.introspect("gateway", &token).await, json!({ "active": false }));
    let again = mint(&first, (ID_TOKEN, &id_token), &issuer, &[]).await.field("access_token");
    bearer(&other, "gateway", &again, &[]).await.expect_oauth_error(400, "invalid_grant");
}

async fn a_linked_subject_of_a_grant_is_the_user(backend: Backend) {
    let server = with_services(backend).await;
    let acme = Idp::new("https://idp.acme.example");
    acme.trusted(&server, "acme", &[IssuerUse::IdJag]).await;
    let ann = users::find(&server.app, "ann").await.expect("ann").id;
    issuers::link(&server.app, "acme", "42", &ann, &Actor::operator()).await.expect("linked");
    let grant = acme.id_jag(&server, "one", json!({}));
    let reply = bearer(&server, "gateway", &grant, &[]).await.expect(StatusCode::OK);
    let token = reply.field("access_token");
    assert_eq!(payload(&token)["sub"], ann.as_str());
    users::disable(&server.app, &ann, &Actor::operator()).await.expect("disabled");
    assert_eq!(server.introspect("gateway", &token).await, json!({ "active": false }));
    let grant = acme.id_jag(&server, "two", json!({}));
    bearer(&server, "gateway", &grant, &[]).await.expect_oauth_error(400, "invalid_grant");
    // A pairwise client knows the user by another subject, which is revoked as well.
    users::enable(&server.app, &ann, &Actor::operator()).await.expect("enabled");
    server
        .change_client("gateway", |client| {
            client.metadata.subject_type = propusk::model::client::SubjectType::Pairwise;
        })
        .await;
    server.clock.advance(Duration::from_secs(5));
    let grant = acme.id_jag(&server, "three", json!({}));
    let token = bearer(&server, "gateway", &grant, &[]).await.field("access_token");
    assert_ne!(payload(&token)["sub"], ann.as_str());
    users::disable(&server.app, &ann, &Actor::operator()).await.expect("disabled");
    assert_eq!(server.introspect("gateway", &token).await, json!({ "active": false }));
    assert!(own_token(&server, "gateway").await.len() > 10);
}

async fn both_roles_are_in_the_server_metadata(backend: Backend) {
    let server = TestServer::start(backend).await;
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
        let metadata = server.get(path).await.expect(StatusCode::OK).json();
        let grants = metadata["grant_types_supported"].as_array().expect("grants");
        for grant in ["token-exchange", "jwt-bearer"] {
            assert!(grants.contains(&json!(format!("urn:ietf:params:oauth:grant-type:{grant}"))));
        }
        assert_eq!(metadata["identity_chaining_requested_token_types_supported"], json!([ID_JAG]));
        assert_eq!(
            metadata["authorization_grant_profiles_supported"],
            json!(["urn:ietf:params:oauth:grant-profile:id-jag"])
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn a_grant_takes_three_statements_and_its_use_seven() {
    let first = provider(Backend::Postgres, CHAT).await;
    let server = trusting(Backend::Postgres, &first).await;
    let issuer = server.app.config.server.issuer.clone();
    first.change_client("app", |client| client.metadata.id_jag = vec![target(&issuer)]).await;
    for one in [&first, &server] {
        let extension = Statement::new("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
        one.app.db.write(extension).await.expect("pg_stat_statements, which ./dev/test loads");
    }
    let id_token = tokens(&first, "ann", SCOPE).await.field("id_token");
    // A background sweep may fall into a count and only adds to it.
    let mut fewest = [i64::MAX; 2];
    for _ in 0..6 {
        let before = statements(&first).await;
        let grant = mint(&first, (ID_TOKEN, &id_token), &issuer, &[]).await;
        let grant = grant.expect(StatusCode::OK).field("access_token");
        fewest[0] = fewest[0].min(statements(&first).await - before);
        let before = statements(&server).await;
        bearer(&server, "gateway", &grant, &[]).await.expect(StatusCode::OK);
        fewest[1] = fewest[1].min(statements(&server).await - before);
    }
    // The versions, the session, the audit entry; the versions, the `jti`, the link, the session,
    // its event and audit entry, and the session again.
    assert_eq!(fewest, [3, 7]);
}

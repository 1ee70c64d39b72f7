//! Misuse of token exchange and of ID-JAGs.

use std::time::Duration;

use futures_util::future::join_all;
use propusk::{
    flows::{
        admin::{issuers, users},
        maintenance,
    },
    model::{
        actor::Actor,
        client::{AuthMethod, GrantType, Source, TokenExchangePolicy},
        trusted_issuer::IssuerUse,
    },
    storage::Statement,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    Backend, TestServer, backend_tests,
    exchange::{
        ACCESS_TOKEN, EXCHANGE, ID_JAG, ID_TOKEN, Idp, JWT, JWT_BEARER, LEDGER, ORDERS,
        REFRESH_TOKEN, SCOPE, access_token, bearer, exchange, own_token, policy, service, tokens,
        with_services,
    },
    oauth::payload,
};

const ALL_USES: [IssuerUse; 3] = [IssuerUse::SubjectToken, IssuerUse::ActorToken, IssuerUse::IdJag];

const TO_LEDGER: &[(&str, &str)] = &[("audience", LEDGER)];

/// Services, and the issuer `acme` that is trusted with everything.
async fn with_acme(backend: Backend) -> (TestServer, Idp) {
    let (server, acme) = (with_services(backend).await, Idp::new("https://idp.acme.example"));
    acme.trusted(&server, "acme", &ALL_USES).await;
    (server, acme)
}

/// Fails the test unless the subject token is refused as RFC 8693 §2.2.2 requires.
async fn refused(server: &TestServer, kind: &str, token: &str) {
    let reply = exchange(server, "gateway", (kind, token), TO_LEDGER).await;
    reply.expect_oauth_error(400, "invalid_request");
}

backend_tests! {
    t24_an_inactive_or_foreign_token_is_not_exchanged,
    t140_a_token_for_another_audience_is_not_accepted,
    t141_an_id_jag_is_accepted_once_across_servers,
    t142_a_foreign_issuer_is_refused_by_key_use_and_client,
    t143_scope_audience_and_administration_are_never_gained,
    t144_an_actor_token_must_be_the_clients_own,
    t145_may_act_names_the_only_actor,
    t146_an_exchanged_token_never_outlives_its_origin,
    t147_an_id_jag_is_for_one_client_resource_and_type,
    t148_a_foreign_subject_is_never_an_account_by_its_claims,
    t149_public_and_self_registered_clients_exchange_nothing,
}

async fn t24_an_inactive_or_foreign_token_is_not_exchanged(backend: Backend) {
    let (server, acme) = with_acme(backend).await;
    let of_ann = tokens(&server, "ann", &format!("{SCOPE} offline_access")).await;
    let subject = of_ann.field("access_token");
    exchange(&server, "gateway", (ACCESS_TOKEN, &subject), TO_LEDGER).await.expect(StatusCode::OK);
    // Tokens of other kinds, and changed ones.
    let [id_token, refresh] = ["id_token", "refresh_token"].map(|name| of_ann.field(name));
    let own = own_token(&server, "app").await;
    for (kind, token) in [
        (ACCESS_TOKEN, id_token.as_str()),
        (ID_TOKEN, &subject),
        (ID_TOKEN, &id_token),
        (REFRESH_TOKEN, &refresh),
        (ACCESS_TOKEN, &refresh),
        (ACCESS_TOKEN, &own),
        (ACCESS_TOKEN, &subject[..subject.len() - 4]),
        (ACCESS_TOKEN, "a.b.c"),
        (JWT, "x"),
        (ID_JAG, &subject),
    ] {
        refused(&server, kind, token).await;
    }
    // Revoked, of a revoked session, of a disabled user, expired.
    server.form_as("/oauth2/revoke", "app", &[("token", &subject)]).await.expect(StatusCode::OK);
    refused(&server, ACCESS_TOKEN, &subject).await;
    let of_ann = tokens(&server, "ann", &format!("{SCOPE} offline_access")).await;
    let [subject, refresh] = ["access_token", "refresh_token"].map(|name| of_ann.field(name));
    server.form_as("/oauth2/revoke", "app", &[("token", &refresh)]).await.expect(StatusCode::OK);
    refused(&server, ACCESS_TOKEN, &subject).await;
    let subject = access_token(&server).await;
    let ann = users::find(&server.app, "ann").await.expect("ann").id;
    users::disable(&server.app, &ann, &Actor::operator()).await.expect("disabled");
    refused(&server, ACCESS_TOKEN, &subject).await;
    users::enable(&server.app, &ann, &Actor::operator()).await.expect("enabled");
    refused(&server, ACCESS_TOKEN, &subject).await;
    server.clock.advance(Duration::from_secs(5));
    let subject = access_token(&server).await;
    server.clock.advance(Duration::from_secs(3_600));
    refused(&server, ACCESS_TOKEN, &subject).await;
    // Foreign, and expired or not valid yet.
    let now = server.clock.now().as_secs();
    for bad in [
        json!({ "exp": now }),
        json!({ "exp": now - 1 }),
        json!({ "exp": null }),
        json!({ "exp": "soon" }),
        json!({ "iat": now + 600 }),
        json!({ "nbf": now + 600 }),
        json!({ "sub": "" }),
        json!({ "sub": "a\nb" }),
        json!({ "sub": null }),
        json!({ "iss": "https://evil.example" }),
        json!({ "iss": server.app.config.server.issuer }),
        json!({ "act": { "sub": "a\u{e9}" } }),
    ] {
        refused(&server, JWT, &acme.token(&server, bad)).await;
    }
    let token = acme.token(&server, json!({}));
    exchange(&server, "gateway", (JWT, &token), TO_LEDGER).await.expect(StatusCode::OK);
}

async fn t140_a_token_for_another_audience_is_not_accepted(backend: Backend) {
    let (server, acme) = with_acme(backend).await;
    // Of an API that the client does not serve: it was sent to another person.
    let request = crate::support::oauth::AuthorizationRequest::of("app", "openid ledger:read");
    let answer = server.browser().authorize(&request.with("resource", LEDGER), "ann").await;
    let reply = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    refused(&server, ACCESS_TOKEN, &reply.field("access_token")).await;
    let issuer = server.app.config.server.issuer.clone();
    for aud in [
        json!("https://other.example"),
        json!(format!("{issuer}/")),
        json!(format!("{issuer}/oauth2/token")),
        json!(LEDGER),
        json!("gateway"),
        json!([]),
        Value::Null,
    ] {
        refused(&server, JWT, &acme.token(&server, json!({ "aud": aud }))).await;
        let grant = acme.id_jag(&server, "wrong", json!({ "aud": aud }));
        bearer(&server, "gateway", &grant, &[]).await.expect_oauth_error(400, "invalid_grant");
    }
    // A grant is for this server and for no other beside it.
    let both = json!({ "aud": [issuer, "https://other.example"] });
    let grant = acme.id_jag(&server, "both", both);
    bearer(&server, "gateway", &grant, &[]).await.expect_oauth_error(400, "invalid_grant");
    // An audience of its own, which an operator has set.
    let mut settings = issuers::by_id(&server.app, "acme").await.expect("known").settings;
    settings.audiences = vec!["our-id-there".to_owned()];
    let any = &propusk::flows::admin::access::Precondition::Any;
    let set = issuers::update(&server.app, "acme", any, settings, &Actor::operator()).await;
    set.expect("changed");
    refused(&server, JWT, &acme.token(&server, json!({}))).await;
    let token = acme.token(&server, json!({ "aud": ["x", "our-id-there"] }));
    exchange(&server, "gateway", (JWT, &token), TO_LEDGER).await.expect(StatusCode::OK);
    let grant = acme.id_jag(&server, "still", json!({ "aud": "our-id-there" }));
    bearer(&server, "gateway", &grant, &[]).await.expect_oauth_error(400, "invalid_grant");
}

/// The number of remembered grants.
async fn remembered(server: &TestServer) -> i64 {
    let statement =
        Statement::new("SELECT count(*) AS n FROM single_use_ids WHERE kind = 'id_jag'");
    let rows = server.app.db.read(statement).await.expect("rows");
    rows[0].get("n").expect("a number")
}

async fn t141_an_id_jag_is_accepted_once_across_servers(backend: Backend) {
    let (one, acme) = with_acme(backend).await;
    let other = one.another(&[]).await;
    let umbrella = Idp::new("https://idp.umbrella.example");
    umbrella.trusted(&one, "umbrella", &[IssuerUse::IdJag]).await;
    let used = acme.id_jag(&one, "once", json!({}));
    bearer(&one, "gateway", &used, &[]).await.expect(StatusCode::OK);
    for server in [&one, &other] {
        bearer(server, "gateway", &used, &[]).await.expect_oauth_error(400, "invalid_grant");
    }
    // The `jti` decides, whatever else differs; that of another issuer is another.
    let now = one.clock.now().as_secs();
    let again = acme.id_jag(&one, "once", json!({ "exp": now + 90, "scope": null }));
    bearer(&other, "gateway", &again, &[]).await.expect_oauth_error(400, "invalid_grant");
    let of_other = umbrella.id_jag(&one, "once", json!({}));
    bearer(&other, "gateway", &of_other, &[]).await.expect(StatusCode::OK);
    let raced = acme.id_jag(&one, "raced", json!({}));
    let replies = join_all((0..20).map(|n| {
        let server = if n % 2 == 0 { &one } else { &other };
        bearer(server, "gateway", &raced, &[])
    }));
    let won = replies.await.iter().filter(|reply| reply.status == StatusCode::OK).count();
    assert_eq!(won, 1, "one of 20");
    // A refused grant is not stored, nor one that would have to be remembered for long.
    assert_eq!(remembered(&one).await, 3);
    for bad in [
        json!({ "exp": now + 3_700 }),
        json!({ "exp": i64::MAX }),
        json!({ "jti": "" }),
        json!({ "jti": "j".repeat(300) }),
        json!({ "jti": null }),
        json!({ "iat": null }),
        json!({ "exp": now }),
        json!({ "client_id": "other" }),
    ] {
        let grant = acme.id_jag(&one, "bad", bad);
        bearer(&one, "gateway", &grant, &[]).await.expect_oauth_error(400, "invalid_grant");
    }
    assert_eq!(remembered(&one).await, 3);
    // It is never still valid but already forgotten.
    let last = acme.id_jag(&one, "last", json!({}));
    bearer(&one, "gateway", &last, &[]).await.expect(StatusCode::OK);
    for _ in 0..7 {
        one.clock.advance(Duration::from_secs(60));
        maintenance::sweep(&one.app).await.expect("swept");
        bearer(&one, "gateway", &last, &[]).await.expect_oauth_error(400, "invalid_grant");
    }
    assert_eq!(remembered(&one).await, 0);
}

async fn t142_a_foreign_issuer_is_refused_by_key_use_and_client(backend: Backend) {
    let (server, acme) = with_acme(backend).await;
    // Unknown, and one that poses as a known one.
    for stranger in [Idp::new("https://evil.example"), Idp::new(acme.issuer)] {
        refused(&server, JWT, &stranger.token(&server, json!({}))).await;
        let grant = stranger.id_jag(&server, "evil", json!({}));
        bearer(&server, "gateway", &grant, &[]).await.expect_oauth_error(400, "invalid_grant");
    }
    let claims = acme.claims(&server, json!({}));
    for header in [
        json!({ "alg": "none" }),
        json!({ "alg": "HS256" }),
        json!({ "alg": "ES256", "jwk": acme.jwks()["keys"][0] }),
        json!({ "alg": "ES256", "jku": "https://evil.example" }),
        json!({ "alg": "ES256", "kid": "other" }),
        // Signed by the issuer, for another use.
        json!({ "alg": "ES256", "typ": "logout+jwt" }),
        json!({ "alg": "ES256", "typ": "oauth-authz-req+jwt" }),
        json!({ "alg": "ES256", "typ": "oauth-id-jag+jwt" }),
    ] {
        refused(&server, JWT, &acme.sign(&header, &claims)).await;
    }
    // Trusted for one use, and not for the others; with one client, and not with others.
    let subject = access_token(&server).await;
    let any = &propusk::flows::admin::access::Precondition::Any;
    let by = Actor::operator();
    let known = issuers::by_id(&server.app, "acme").await.expect("known").settings;
    for only in ALL_USES {
        let mut settings = known.clone();
        settings.trusted_for = vec![only];
        issuers::update(&server.app, "acme", any, settings, &by).await.expect("changed");
        let token = acme.token(&server, json!({}));
        let as_subject = exchange(&server, "gateway", (JWT, &token), TO_LEDGER).await;
        let acting = [("audience", LEDGER), ("actor_token", &token), ("actor_token_type", JWT)];
        let as_actor = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &acting).await;
        let grant = acme.id_jag(&server, only.as_str(), json!({}));
        let as_grant = bearer(&server, "gateway", &grant, &[]).await;
        let outcomes = [as_subject, as_actor, as_grant].map(|reply| reply.status == StatusCode::OK);
        assert_eq!(outcomes, ALL_USES.map(|one| one == only), "{only:?}");
    }
    let mut settings = known.clone();
    settings.clients = vec!["other".to_owned()];
    issuers::update(&server.app, "acme", any, settings, &by).await.expect("changed");
    refused(&server, JWT, &acme.token(&server, json!({}))).await;
    let grant = acme.id_jag(&server, "listed", json!({}));
    bearer(&server, "gateway", &grant, &[]).await.expect_oauth_error(400, "invalid_grant");
    issuers::update(&server.app, "acme", any, known, &by).await.expect("changed");
    // A client exchanges tokens of the issuers that its own policy names.
    let without = TokenExchangePolicy { issuers: vec![], ..policy() };
    server.change_client("gateway", |client| client.metadata.token_exchange = Some(without)).await;
    refused(&server, JWT, &acme.token(&server, json!({}))).await;
}

async fn t143_scope_audience_and_administration_are_never_gained(backend: Backend) {
    let (server, acme) = with_acme(backend).await;
    server.promote("root").await;
    let scope = format!("{SCOPE} propusk:admin");
    let subject = tokens(&server, "root", &scope).await.field("access_token");
    assert!(payload(&subject)["scope"].as_str().is_some_and(|scope| scope.contains("propusk:")));
    let reply = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), TO_LEDGER).await;
    let claims = payload(&reply.expect(StatusCode::OK).field("access_token"));
    assert_eq!(claims["scope"], "orders:read ledger:read", "not even what the subject has");
    assert_eq!((&claims["role"], &claims["email"]), (&Value::Null, &Value::Null));
    for wider in ["ledger:write", "ledger:read ledger:write", "openid", "propusk:admin", "email"] {
        let beside = [("audience", LEDGER), ("scope", wider)];
        let reply = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &beside).await;
        reply.expect_oauth_error(400, "invalid_scope");
        let token = acme.token(&server, json!({ "scope": wider }));
        let reply = exchange(&server, "gateway", (JWT, &token), &beside).await;
        reply.expect_oauth_error(400, "invalid_scope");
        let grant = acme.id_jag(&server, wider, json!({ "scope": wider }));
        let reply = bearer(&server, "gateway", &grant, &[("scope", wider)]).await;
        reply.expect_oauth_error(400, "invalid_scope");
        // Without a request of its own the grant is narrowed.
        let reply = bearer(&server, "gateway", &grant, &[]).await.expect(StatusCode::OK);
        let granted = payload(&reply.field("access_token"))["scope"].clone();
        let most = if wider.contains("ledger:read") { json!("ledger:read") } else { Value::Null };
        assert_eq!(granted, most, "{wider}");
    }
    for beyond in [ORDERS, "https://other.example", &server.app.config.server.issuer] {
        let beside = [("audience", beyond)];
        let reply = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &beside).await;
        reply.expect_oauth_error(400, "invalid_target");
    }
    // A token that was exchanged once is no way around it.
    let beside = [("audience", LEDGER), ("scope", "ledger:read")];
    let narrow = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &beside).await;
    let narrow = narrow.expect(StatusCode::OK).field("access_token");
    let beside = [("audience", LEDGER), ("scope", "orders:read")];
    let reply = exchange(&server, "gateway", (ACCESS_TOKEN, &narrow), &beside).await;
    reply.expect_oauth_error(400, "invalid_scope");
}

async fn t144_an_actor_token_must_be_the_clients_own(backend: Backend) {
    let (server, acme) = with_acme(backend).await;
    server.client("other", service(None)).await;
    let subject = access_token(&server).await;
    let others = own_token(&server, "other").await;
    let of_gateway = own_token(&server, "gateway").await;
    let beside =
        [("audience", LEDGER), ("actor_token", &of_gateway), ("actor_token_type", ACCESS_TOKEN)];
    let delegated = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &beside).await;
    let delegated = delegated.expect(StatusCode::OK).field("access_token");
    let foreign = acme.token(&server, json!({ "sub": "a b" }));
    let id_jag = acme.id_jag(&server, "actor", json!({}));
    for (kind, wrong) in [
        // Of another client, of a user at another client, delegated, and no usable token.
        (ACCESS_TOKEN, others.as_str()),
        (ACCESS_TOKEN, &subject),
        (ACCESS_TOKEN, &delegated),
        (JWT, &foreign),
        (JWT, &id_jag),
        (ID_TOKEN, &of_gateway),
        (ACCESS_TOKEN, "x"),
    ] {
        let beside = [("audience", LEDGER), ("actor_token", wrong), ("actor_token_type", kind)];
        let reply = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &beside).await;
        reply.expect_oauth_error(400, "invalid_request");
    }
    server
        .form_as("/oauth2/revoke", "gateway", &[("token", &of_gateway)])
        .await
        .expect(StatusCode::OK);
    let reply = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &beside).await;
    reply.expect_oauth_error(400, "invalid_request");
    // A type without a token, and a token without a type.
    for beside in [[("actor_token", others.as_str())], [("actor_token_type", ACCESS_TOKEN)]] {
        let reply = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &beside).await;
        reply.expect_oauth_error(400, "invalid_request");
    }
}

async fn t145_may_act_names_the_only_actor(backend: Backend) {
    let (server, acme) = with_acme(backend).await;
    let own = own_token(&server, "gateway").await;
    let acting = [("audience", LEDGER), ("actor_token", &own), ("actor_token_type", ACCESS_TOKEN)];
    for (named, allowed) in [("gateway", true), ("other", false)] {
        let named = Some(named.to_owned());
        server.change_client("app", |client| client.metadata.may_act.clone_from(&named)).await;
        let subject = access_token(&server).await;
        assert_eq!(payload(&subject)["may_act"], json!({ "sub": named }));
        for beside in [TO_LEDGER, &acting] {
            let reply = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), beside).await;
            if allowed {
                // The next one is bound too.
                let token = reply.expect(StatusCode::OK).field("access_token");
                assert_eq!(payload(&token)["may_act"], json!({ "sub": "gateway" }));
            } else {
                reply.expect_oauth_error(400, "invalid_request");
            }
        }
    }
    let ours = server.app.config.server.issuer.clone();
    for (may_act, allowed) in [
        (json!({ "sub": "gateway", "iss": ours }), true),
        // Without an issuer it names a party of the issuer of the token.
        (json!({ "sub": "gateway" }), false),
        (json!({ "sub": "other", "iss": ours }), false),
        (json!({ "sub": "gateway", "iss": "https://evil.example" }), false),
        (json!({ "sub": "gateway", "iss": ours, "email": "x@example.org" }), false),
        (json!({ "email": "x@example.org" }), false),
        (json!("gateway"), false),
    ] {
        let token = acme.token(&server, json!({ "may_act": may_act }));
        for beside in [TO_LEDGER, &acting] {
            let reply = exchange(&server, "gateway", (JWT, &token), beside).await;
            assert_eq!(reply.status == StatusCode::OK, allowed, "{may_act}: {reply:?}");
        }
    }
    let agent = acme.token(&server, json!({ "sub": "agent" }));
    let by_agent = [("audience", LEDGER), ("actor_token", &agent), ("actor_token_type", JWT)];
    let token = acme.token(&server, json!({ "may_act": { "sub": "agent" } }));
    exchange(&server, "gateway", (JWT, &token), &by_agent).await.expect(StatusCode::OK);
    let token = acme.token(&server, json!({ "may_act": { "sub": "another" } }));
    let reply = exchange(&server, "gateway", (JWT, &token), &by_agent).await;
    reply.expect_oauth_error(400, "invalid_request");
}

async fn t146_an_exchanged_token_never_outlives_its_origin(backend: Backend) {
    let (server, acme) = with_acme(backend).await;
    let subject = access_token(&server).await;
    let end = payload(&subject)["exp"].as_i64().expect("seconds");
    let left = u64::try_from(end - server.clock.now().as_secs() - 20).expect("positive");
    server.clock.advance(Duration::from_secs(left));
    let reply = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), TO_LEDGER).await;
    let reply = reply.expect(StatusCode::OK);
    assert_eq!(reply.json()["expires_in"], 20);
    assert_eq!(payload(&reply.field("access_token"))["exp"], end);
    // The actor's token is a limit as well, and so is a foreign one.
    let subject = access_token(&server).await;
    let now = server.clock.now().as_secs();
    let actor = acme.token(&server, json!({ "sub": "agent", "exp": now + 7 }));
    let beside = [("audience", LEDGER), ("actor_token", &actor), ("actor_token_type", JWT)];
    let reply = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), &beside).await;
    assert_eq!(reply.expect(StatusCode::OK).json()["expires_in"], 7);
    let token = acme.token(&server, json!({ "exp": now + 9 }));
    let reply = exchange(&server, "gateway", (JWT, &token), TO_LEDGER).await;
    assert_eq!(reply.expect(StatusCode::OK).json()["expires_in"], 9);
    // A logout at another server while tokens are exchanged: none survives it.
    let other = server.another(&[]).await;
    let of_ann = tokens(&server, "ann", &format!("{SCOPE} offline_access")).await;
    let [subject, refresh] = ["access_token", "refresh_token"].map(|name| of_ann.field(name));
    let fields = [("token", refresh.as_str())];
    let revoked = other.form_as("/oauth2/revoke", "app", &fields);
    let exchanges = join_all(
        (0..20).map(|_| exchange(&server, "gateway", (ACCESS_TOKEN, &subject), TO_LEDGER)),
    );
    let (revoked, replies) = tokio::join!(revoked, exchanges);
    revoked.expect(StatusCode::OK);
    for reply in replies.iter().filter(|reply| reply.status == StatusCode::OK) {
        let seen = server.introspect("gateway", &reply.field("access_token")).await;
        assert_eq!(seen, json!({ "active": false }));
    }
    refused(&server, ACCESS_TOKEN, &subject).await;
}

async fn t147_an_id_jag_is_for_one_client_resource_and_type(backend: Backend) {
    let (server, acme) = with_acme(backend).await;
    server.client("other", service(None)).await;
    let good = acme.id_jag(&server, "good", json!({}));
    bearer(&server, "other", &good, &[]).await.expect_oauth_error(400, "invalid_grant");
    for (jti, wrong) in [
        json!({ "client_id": "other" }),
        json!({ "client_id": null }),
        json!({ "client_id": ["gateway"] }),
        json!({ "resource": "https://other.example" }),
        // One that exists, and that the client may not request.
        json!({ "resource": ORDERS }),
        json!({ "resource": [LEDGER, ORDERS] }),
        json!({ "resource": [] }),
        json!({ "resource": null }),
        json!({ "act": { "sub": "agent" } }),
        json!({ "may_act": { "sub": "agent" } }),
        json!({ "iss": server.app.config.server.issuer }),
    ]
    .into_iter()
    .enumerate()
    {
        let grant = acme.id_jag(&server, &format!("wrong-{jti}"), wrong.clone());
        let reply = bearer(&server, "gateway", &grant, &[]).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{wrong}: {reply:?}");
        reply.expect_oauth_error(400, "invalid_grant");
    }
    // Of another type, or of none: an ID token or an access token is no grant.
    let claims = json!({ "jti": "t", "client_id": "gateway", "resource": LEDGER });
    let claims = acme.claims(&server, claims);
    for header in [
        json!({ "alg": "ES256" }),
        json!({ "alg": "ES256", "typ": "JWT" }),
        json!({ "alg": "ES256", "typ": "at+jwt" }),
        json!({ "alg": "ES256", "typ": "oauth-id-jag" }),
    ] {
        let grant = acme.sign(&header, &claims);
        bearer(&server, "gateway", &grant, &[]).await.expect_oauth_error(400, "invalid_grant");
    }
    for beside in [[("resource", ORDERS)], [("resource", "https://other.example")]] {
        let reply = bearer(&server, "gateway", &good, &beside).await;
        reply.expect_oauth_error(400, "invalid_target");
    }
    bearer(&server, "gateway", &good, &[("resource", LEDGER)]).await.expect(StatusCode::OK);
}

async fn t148_a_foreign_subject_is_never_an_account_by_its_claims(backend: Backend) {
    let (server, acme) = with_acme(backend).await;
    let ann = users::find(&server.app, "ann").await.expect("ann").id;
    let umbrella = Idp::new("https://idp.umbrella.example");
    umbrella.trusted(&server, "umbrella", &ALL_USES).await;
    issuers::link(&server.app, "umbrella", "42", &ann, &Actor::operator()).await.expect("linked");
    for (at, sub) in [ann.as_str(), "ann", "ann@example.org", "@umbrella:42", "42", "gateway"]
        .into_iter()
        .enumerate()
    {
        let claims = json!({
            "sub": sub, "email": "ann@example.org", "email_verified": true, "user_id": ann,
            "preferred_username": "ann", "role": "admin", "sid": ann,
        });
        let token = acme.token(&server, claims.clone());
        let exchanged = exchange(&server, "gateway", (JWT, &token), TO_LEDGER).await;
        let grant = acme.id_jag(&server, &format!("n{at}"), claims);
        for reply in [exchanged, bearer(&server, "gateway", &grant, &[]).await] {
            let issued = payload(&reply.expect(StatusCode::OK).field("access_token"));
            assert_eq!(issued["sub"], format!("@acme:{sub}"));
            for none in ["email", "role", "user_id", "modules", "auth_time"] {
                assert_eq!(issued[none], Value::Null, "{none}");
            }
        }
    }
}

async fn t149_public_and_self_registered_clients_exchange_nothing(backend: Backend) {
    let (server, acme) = with_acme(backend).await;
    let subject = access_token(&server).await;
    server.client("without", crate::support::oauth::web_app()).await;
    let reply = exchange(&server, "without", (ACCESS_TOKEN, &subject), TO_LEDGER).await;
    reply.expect_oauth_error(400, "unauthorized_client");
    let grant = acme.id_jag(&server, "without", json!({ "client_id": "without" }));
    let reply = bearer(&server, "without", &grant, &[]).await;
    reply.expect_oauth_error(400, "unauthorized_client");
    // Even with such metadata, which registration refuses.
    server.change_client("gateway", |client| client.source = Source::Registration).await;
    let reply = exchange(&server, "gateway", (ACCESS_TOKEN, &subject), TO_LEDGER).await;
    reply.expect_oauth_error(400, "unauthorized_client");
    let grant = acme.id_jag(&server, "registered", json!({}));
    bearer(&server, "gateway", &grant, &[]).await.expect_oauth_error(400, "invalid_grant");
    server
        .change_client("gateway", |client| {
            client.source = Source::Operator;
            client.metadata.token_endpoint_auth_method = AuthMethod::None;
        })
        .await;
    for fields in [
        vec![
            ("grant_type", EXCHANGE),
            ("subject_token", &subject),
            ("subject_token_type", ACCESS_TOKEN),
        ],
        vec![("grant_type", JWT_BEARER), ("assertion", &grant)],
    ] {
        let fields = [&fields[..], &[("client_id", "gateway")]].concat();
        let reply = server.form("/oauth2/token", &fields).await;
        reply.expect_oauth_error(400, "unauthorized_client");
    }
    assert!(service(None).grant_types.contains(&GrantType::TokenExchange));
    let grants = format!("client_credentials,{EXCHANGE}");
    let settings = [
        ("PROPUSK_CLIENT_REGISTRATION__MODE", "open"),
        ("PROPUSK_CLIENT_REGISTRATION__GRANT_TYPES", grants.as_str()),
    ];
    let open = TestServer::with(Backend::Sqlite, &settings).await;
    let metadata = json!({ "grant_types": ["client_credentials", EXCHANGE], "redirect_uris": [] });
    let reply = open.post("/oauth2/register", metadata).await;
    reply.expect_oauth_error(400, "invalid_client_metadata");
}

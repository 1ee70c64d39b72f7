//! OAuth and OpenID Connect beyond the main flow: what real clients send, and the responses.

use std::time::Duration;

use futures_util::future::join_all;
use propusk::{
    flows::maintenance,
    model::{
        catalogue::Resource,
        client::{Consent, GrantType, Metadata, SubjectType},
        key::SigningAlgorithm,
    },
    oauth::scope::Scope,
    storage::{Statement, catalogue},
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::{
    conformance::{client_key, key_set, logout::delivered, sign},
    support::{
        Backend, Reply, TestServer, backend_tests,
        external_server::ExternalServer,
        oauth::{
            AuthorizationRequest, AuthorizationResponse, CALLBACK, Form, SECRET, VERIFIER,
            first_party_app, header, payload, web_app,
        },
        send,
    },
};

const NOTES: &str = "https://notes.example/";
const PHOTOS: &str = "https://photos.example/";

fn scope(text: &str) -> Scope {
    Scope::parse(text).expect("a scope")
}

/// A server with `ann`, two APIs, and `app`, which may request tokens for both.
async fn with_apis(backend: Backend) -> TestServer {
    let server = TestServer::start(backend).await;
    let now = server.clock.now();
    let mut tx = server.app.db.begin().await.expect("a transaction");
    for (id, name) in [(NOTES, "notes"), (PHOTOS, "photos")] {
        let resource = Resource {
            id: id.to_owned(),
            name: name.to_owned(),
            scope: Some(scope(&format!("{name}:read {name}:write"))),
            default_scope: scope(&format!("{name}:read")),
        };
        catalogue::put_resource(&mut tx, &resource, now).await.expect("a resource");
    }
    tx.commit().await.expect("resources");
    let app = Metadata {
        scope: scope("openid email offline_access notes:read notes:write photos:read"),
        resources: vec![NOTES.to_owned(), PHOTOS.to_owned()],
        ..first_party_app()
    };
    server.client("app", app).await;
    server.register("ann").await;
    server
}

/// The parameters of a request of `app` for both APIs.
fn asks_for_both(scope: &str) -> String {
    let both = AuthorizationRequest(
        [NOTES, PHOTOS].map(|id| ("resource".to_owned(), id.to_owned())).into(),
    );
    format!("{}&{}", AuthorizationRequest::of("app", scope).path(), both.query())
}

/// A form to the token endpoint whose parameters may repeat.
async fn token(server: &TestServer, fields: &[(&str, &str)]) -> Reply {
    server.form_as("/oauth2/token", "app", fields).await
}

fn code<'a>(code: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    [&fields, more].concat()
}

fn refresh<'a>(token: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let fields = [("grant_type", "refresh_token"), ("refresh_token", token)];
    [&fields, more].concat()
}

backend_tests! {
    an_invalid_refresh_token_is_invalid_grant_first,
    a_narrowed_refresh_does_not_narrow_the_next_one,
    a_token_for_one_resource_has_only_its_scopes,
    a_scope_removed_from_a_client_leaves_its_sessions,
    a_login_as_another_user_than_hinted_is_an_error,
    a_logout_is_delivered_even_after_the_session_expired,
    an_unverifiable_id_token_hint_asks_before_logout,
    t09_a_cross_site_logout_form_clears_no_cookie,
    disabled_features_are_neither_advertised_nor_accepted,
    signed_introspection_uses_the_registered_alg_or_rs256,
    self_registered_clients_get_only_the_listed_resources,
    a_pushed_request_is_bound_to_one_browser_and_expires,
    a_second_click_on_allow_gets_the_same_answer,
    required_pushed_or_signed_requests_are_enforced,
    a_signed_request_is_checked_for_key_audience_and_time,
    consent_is_remembered_per_scope_and_resource,
    authorization_requests_follow_openid_connect_core,
}

async fn an_invalid_refresh_token_is_invalid_grant_first(backend: Backend) {
    let server = with_apis(backend).await;
    let mut ann = server.browser();
    let answer = ann.authorize(&AuthorizationRequest::of("app", "openid email"), "ann").await;
    let granted = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let good = granted.field("refresh_token");
    let ended = server
        .exchange_code(
            "app",
            ann.authorize(&AuthorizationRequest::of("app", "openid email"), "ann").await.code(),
        )
        .await
        .field("refresh_token");
    server.form_as("/oauth2/revoke", "app", &[("token", &ended)]).await.expect(StatusCode::OK);
    for bad in ["x", &ended, &good[..80], &format!("{}AAAA", &good[..80])] {
        for more in [&[][..], &[("scope", "openid")], &[("scope", "openid email admin")]] {
            token(&server, &refresh(bad, more)).await.expect_oauth_error(400, "invalid_grant");
        }
    }
    token(&server, &refresh(&good, &[("scope", "openid admin")]))
        .await
        .expect_oauth_error(400, "invalid_scope");
    token(&server, &refresh(&good, &[("resource", NOTES)]))
        .await
        .expect_oauth_error(400, "invalid_target");
    token(&server, &refresh(&good, &[("scope", "openid")])).await.expect(StatusCode::OK);
}

async fn a_narrowed_refresh_does_not_narrow_the_next_one(backend: Backend) {
    let server = with_apis(backend).await;
    let answer = server
        .browser()
        .authorize(&AuthorizationRequest::of("app", "openid email notes:read"), "ann")
        .await;
    let granted = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let narrow =
        token(&server, &refresh(&granted.field("refresh_token"), &[("scope", "notes:read")]))
            .await
            .expect(StatusCode::OK);
    assert_eq!(narrow.json()["scope"], "notes:read");
    assert_eq!(payload(&narrow.field("access_token"))["scope"], "notes:read");
    assert_eq!(narrow.json().get("id_token"), None, "openid was not asked for");
    server
        .get_as("/oauth2/userinfo", &narrow.field("access_token"))
        .await
        .expect(StatusCode::FORBIDDEN);
    let all = token(&server, &refresh(&narrow.field("refresh_token"), &[("scope", " ")]))
        .await
        .expect(StatusCode::OK);
    assert_eq!(all.json()["scope"], "openid email notes:read");
    assert_eq!(payload(&all.field("id_token"))["sid"], payload(&granted.field("id_token"))["sid"]);
}

async fn a_token_for_one_resource_has_only_its_scopes(backend: Backend) {
    let server = with_apis(backend).await;
    let mut ann = server.logged_in("ann").await;
    let request = asks_for_both("openid notes:read photos:read");
    let mut granted =
        async || AuthorizationResponse::of(ann.open(&request).await.header("location"));
    let describe = |reply: &Reply| {
        let claims = payload(&reply.field("access_token"));
        (claims["aud"].clone(), claims["scope"].as_str().expect("a scope").to_owned())
    };
    let both = token(&server, &code(granted().await.code(), &[])).await.expect(StatusCode::OK);
    assert_eq!(
        describe(&both),
        (json!([NOTES, PHOTOS]), "openid notes:read photos:read".to_owned())
    );
    // RFC 8707 §2.2
    let one =
        token(&server, &code(granted().await.code(), &[("resource", NOTES), ("resource", NOTES)]))
            .await
            .expect(StatusCode::OK);
    assert_eq!(describe(&one), (NOTES.into(), "openid notes:read".to_owned()));
    assert_eq!(one.json()["scope"], "openid notes:read");
    let other = token(&server, &refresh(&one.field("refresh_token"), &[("resource", PHOTOS)]))
        .await
        .expect(StatusCode::OK);
    assert_eq!(describe(&other), (PHOTOS.into(), "openid photos:read".to_owned()));
    let both =
        token(&server, &refresh(&other.field("refresh_token"), &[])).await.expect(StatusCode::OK);
    assert_eq!(
        describe(&both),
        (json!([NOTES, PHOTOS]), "openid notes:read photos:read".to_owned())
    );
    token(&server, &code(granted().await.code(), &[("resource", "https://nobody.example/")]))
        .await
        .expect_oauth_error(400, "invalid_target");
}

async fn a_scope_removed_from_a_client_leaves_its_sessions(backend: Backend) {
    let server = with_apis(backend).await;
    let mut ann = server.logged_in("ann").await;
    let answer = AuthorizationResponse::of(
        ann.open(&asks_for_both("openid email notes:read photos:read")).await.header("location"),
    );
    let granted = token(&server, &code(answer.code(), &[])).await.expect(StatusCode::OK);
    let claims = json!({ "userinfo": { "email": null } }).to_string();
    let one_by_one = ann
        .authorize(&AuthorizationRequest::of("app", "openid").with("claims", &claims), "ann")
        .await;
    let one_by_one = server.exchange_code("app", one_by_one.code()).await.expect(StatusCode::OK);
    let email = async |reply: &Reply| {
        let response = server
            .get_as("/oauth2/userinfo", &reply.field("access_token"))
            .await
            .expect(StatusCode::OK);
        response.json().get("email").cloned()
    };
    assert_eq!(email(&one_by_one).await, Some("ann@example.org".into()));
    server
        .change_client("app", |client| {
            client.metadata.resources = vec![PHOTOS.to_owned()];
            client.metadata.scope = scope("openid photos:read");
        })
        .await;
    assert_eq!(email(&one_by_one).await, None);
    token(&server, &refresh(&granted.field("refresh_token"), &[("resource", NOTES)]))
        .await
        .expect_oauth_error(400, "invalid_target");
    let rest =
        token(&server, &refresh(&granted.field("refresh_token"), &[])).await.expect(StatusCode::OK);
    let claims = payload(&rest.field("access_token"));
    assert_eq!((&claims["aud"], &claims["scope"]), (&PHOTOS.into(), &"openid photos:read".into()));
    // Without any resource the token would be for this server's own API.
    server.change_client("app", |client| client.metadata.resources.clear()).await;
    token(&server, &refresh(&rest.field("refresh_token"), &[]))
        .await
        .expect_oauth_error(400, "invalid_target");
}

async fn a_login_as_another_user_than_hinted_is_an_error(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", first_party_app()).await;
    server.register("ann").await;
    server.register("bob").await;
    let mut ann = server.logged_in("ann").await;
    let of_bob =
        server.browser().authorize(&AuthorizationRequest::of("app", "openid"), "bob").await;
    let of_bob = server.exchange_code("app", of_bob.code()).await.field("id_token");
    let sub = payload(&of_bob)["sub"].clone();
    let claims = json!({ "id_token": { "sub": { "value": sub } } }).to_string();
    for (name, value) in [("id_token_hint", &of_bob), ("claims", &claims)] {
        let request = AuthorizationRequest::of("app", "openid").with(name, value);
        let silent = ann.open(&request.clone().with("prompt", "none").path()).await;
        AuthorizationResponse::of(silent.header("location")).expect_error("login_required");
        server.clock.advance(Duration::from_secs(1));
        // Core §3.1.2.1: the login decides the response; there is no redirect loop.
        ann.authorize(&request, "ann").await.expect_error("login_required");
        let mut bob = server.logged_in("ann").await;
        server.clock.advance(Duration::from_secs(1));
        let answer = bob.authorize(&request, "bob").await;
        let granted = server.exchange_code("app", answer.code()).await;
        assert_eq!(payload(&granted.field("id_token"))["sub"], sub);
    }
}

async fn a_logout_is_delivered_even_after_the_session_expired(backend: Backend) {
    let external = ExternalServer::start().await;
    let settings = external.settings();
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let server = TestServer::with(backend, &settings).await;
    let app = |name: &str| Metadata {
        backchannel_logout_uri: Some(format!("{}/{name}", external.base)),
        ..first_party_app()
    };
    for name in ["short", "offline", "silent"] {
        external.put(&format!("/{name}"), 200, "", "");
    }
    server
        .client(
            "short",
            Metadata { grant_types: vec![GrantType::AuthorizationCode], ..app("short") },
        )
        .await;
    server.client("offline", app("offline")).await;
    server
        .client(
            "silent",
            Metadata { grant_types: vec![GrantType::AuthorizationCode], ..first_party_app() },
        )
        .await;
    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    let mut granted = vec![];
    for (id, scope) in
        [("short", "openid"), ("offline", "openid offline_access"), ("silent", "openid")]
    {
        let answer = ann.authorize(&AuthorizationRequest::of(id, scope), "ann").await;
        granted.push(server.exchange_code(id, answer.code()).await.expect(StatusCode::OK));
    }
    // The first application's tokens expired long ago; its user is still logged in there, and here.
    server.clock.advance(Duration::from_secs(86_400));
    maintenance::sweep(&server.app).await.expect("swept");
    let count = Statement::new("SELECT count(*) AS n FROM sessions WHERE client_id = 'silent'");
    let rows = server.app.db.read(count).await.expect("rows");
    assert_eq!(
        rows[0].get::<i64>("n").expect("a number"),
        0,
        "without back-channel logout the session is deleted"
    );
    let page = ann.open("/oauth2/logout").await.expect(StatusCode::OK);
    ann.submit(&page, &[("decision", "logout")]).await.expect(StatusCode::OK);
    for (at, name) in ["/short", "/offline"].into_iter().enumerate() {
        let posted = delivered(&server, &external, name).await;
        let token = posted.strip_prefix("logout_token=").expect("a logout token");
        assert_eq!(payload(token)["sid"], payload(&granted[at].field("id_token"))["sid"]);
    }
    // Back-Channel Logout §2.7: offline access continues.
    server.refresh_as("offline", &granted[1].field("refresh_token")).await.expect(StatusCode::OK);
    // In the end nothing is stored.
    server.clock.advance(Duration::from_secs(40 * 86_400));
    maintenance::sweep(&server.app).await.expect("swept");
    let rows = server.app.db.read(Statement::new("SELECT id FROM sessions")).await.expect("rows");
    assert_eq!(rows.len(), 0);
}

async fn an_unverifiable_id_token_hint_asks_before_logout(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", first_party_app()).await;
    server.register("ann").await;
    let mut ann = server.browser();
    let answer = ann.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
    let granted = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let hint = granted.field("id_token");
    // As if its key had been removed: the signature cannot be checked.
    let hint = format!("{}AAAA", &hint[..hint.len() - 4]);
    let bye = "post_logout_redirect_uri=https%3A%2F%2Fapp.example%2Fbye&state=s";
    let page =
        ann.open(&format!("/oauth2/logout?id_token_hint={hint}&{bye}")).await.expect_page(200);
    assert_eq!(Form::of(&page.text).action, "/oauth2/logout", "a question");
    let reply = ann.submit(&page, &[("decision", "logout")]).await.expect_page(200);
    assert!(
        !reply.text.contains("app.example"),
        "the URI is attributed by the hint only: {reply:?}"
    );
    server
        .refresh_as("app", &granted.field("refresh_token"))
        .await
        .expect_oauth_error(400, "invalid_grant");

    // An application that sends `client_id` gets its redirect.
    let mut ann = server.logged_in("ann").await;
    let page = ann
        .open(&format!("/oauth2/logout?id_token_hint={hint}&client_id=app&{bye}"))
        .await
        .expect_page(200);
    let reply = ann.submit(&page, &[("decision", "logout")]).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), "https://app.example/bye?state=s");
}

async fn t09_a_cross_site_logout_form_clears_no_cookie(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    // A browser sends no Lax cookie with a cross-site POST, but would obey a Set-Cookie in the
    // response.
    let reply =
        send(server.request(Method::POST, "/oauth2/logout").form(&[("decision", "logout")])).await;
    assert_eq!(reply.headers.get_all("set-cookie").iter().count(), 0, "{reply:?}");
    let request = ann.open(reply.expect(StatusCode::SEE_OTHER).header("location")).await;
    assert!(
        request.text.contains("name=\"decision\""),
        "the user is asked before the request continues: {request:?}"
    );
}

async fn disabled_features_are_neither_advertised_nor_accepted(backend: Backend) {
    let server = TestServer::with(backend, &[("PROPUSK_REGISTRATION__MODE", "closed")]).await;
    server.client("app", web_app()).await;
    let offered = server.get("/.well-known/openid-configuration").await.json();
    assert_eq!(
        offered["prompt_values_supported"],
        json!(["none", "login", "consent", "select_account"])
    );
    let request = AuthorizationRequest::of("app", "openid");
    for (name, value, error) in [
        ("prompt", "create", "invalid_request"),
        ("registration", "{}", "registration_not_supported"),
    ] {
        let reply = server.browser().open(&request.clone().with(name, value).path()).await;
        AuthorizationResponse::of(reply.header("location")).expect_error(error);
    }
}

async fn signed_introspection_uses_the_registered_alg_or_rs256(backend: Backend) {
    let server = TestServer::start(backend).await;
    for (id, own) in [("app", None), ("other", Some(SigningAlgorithm::Es256))] {
        let metadata = Metadata {
            id_token_signed_response_alg: Some(SigningAlgorithm::Es256),
            introspection_signed_response_alg: own,
            ..web_app()
        };
        server.client(id, metadata).await;
        let access = server
            .form_as("/oauth2/token", id, &[("grant_type", "client_credentials")])
            .await
            .field("access_token");
        let request = server
            .request(Method::POST, "/oauth2/introspect")
            .basic_auth(id, Some(SECRET))
            .form(&[("token", &access)]);
        let reply = send(request.header("accept", "application/token-introspection+jwt"))
            .await
            .expect(StatusCode::OK);
        assert_eq!(reply.header("content-type"), "application/token-introspection+jwt");
        assert_eq!(
            header(&reply.text)["alg"],
            own.map_or("RS256", SigningAlgorithm::as_str),
            "RFC 9701 §6"
        );
        assert_eq!(payload(&reply.text)["aud"], id);
    }
}

async fn self_registered_clients_get_only_the_listed_resources(backend: Backend) {
    let server = with_apis(backend).await;
    let metadata = json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none" });
    let created = send(server.request(Method::POST, "/oauth2/register").json(&metadata))
        .await
        .expect(StatusCode::CREATED);
    let mut ann = server.logged_in("ann").await;
    let request =
        AuthorizationRequest::of(&created.field("client_id"), "openid").with("resource", NOTES);
    let page = ann.open(&request.path()).await.expect_page(400);
    AuthorizationResponse::of(&page.link_out().expect("a link")).expect_error("invalid_target");
}

/// RFC 9126 §4: a user may press a button twice, or reload the page.
async fn a_second_click_on_allow_gets_the_same_answer(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    server.register("bob").await;
    server.client("app", web_app()).await;
    let request = AuthorizationRequest::of("app", "openid").with("client_secret", SECRET).0;
    let request: Vec<_> =
        request.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let pushed = server.form("/oauth2/par", &request).await.expect(StatusCode::CREATED);
    let by_reference = AuthorizationRequest(vec![
        ("client_id".to_owned(), "app".to_owned()),
        ("request_uri".to_owned(), pushed.field("request_uri")),
    ]);
    let mut ann = server.logged_in("ann").await;
    let page = ann.open(&by_reference.path()).await.expect(StatusCode::OK);
    let mut codes = vec![];
    for _ in 0..3 {
        let reply = ann.submit(&page, &[("decision", "allow")]).await;
        let answer =
            AuthorizationResponse::of(reply.expect(StatusCode::SEE_OTHER).header("location"));
        assert_eq!(answer.fields["state"], "a state");
        codes.push(answer.code().to_owned());
    }
    // Whichever the browser delivers, the user arrives.
    for code in codes {
        server.exchange_code("app", &code).await.expect(StatusCode::OK);
    }
    let reply = ann.open(&by_reference.path()).await.expect(StatusCode::SEE_OTHER);
    AuthorizationResponse::of(reply.header("location")).code();
    for mut other in
        [server.browser(), server.logged_in("bob").await, server.logged_in("ann").await]
    {
        other.open(&by_reference.path()).await.expect_page(400);
        other.submit(&page, &[("decision", "allow")]).await.expect_page(400);
    }
}

async fn a_pushed_request_is_bound_to_one_browser_and_expires(backend: Backend) {
    let server = with_apis(backend).await;
    server.client("other", first_party_app()).await;
    let mut ann = server.logged_in("ann").await;
    let request = AuthorizationRequest::of("app", "openid").with("client_secret", SECRET).0;
    let request: Vec<_> =
        request.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let push = async || {
        let reply = server.form("/oauth2/par", &request).await.expect(StatusCode::CREATED);
        assert_eq!(reply.json()["expires_in"], 600);
        reply.field("request_uri")
    };
    let by = |id: &str, uri: &str| {
        AuthorizationRequest(vec![
            ("client_id".to_owned(), id.to_owned()),
            ("request_uri".to_owned(), uri.to_owned()),
        ])
        .path()
    };
    let uri = push().await;
    let rows = server
        .app
        .db
        .read(Statement::new("SELECT parameters FROM pushed_requests"))
        .await
        .expect("rows");
    assert!(
        !rows[0].get::<String>("parameters").expect("text").contains("secret"),
        "the request is stored without the client's credentials"
    );
    ann.open(&by("other", &uri)).await.expect_page(400);
    let anonymous = server.browser().open(&by("app", &uri)).await;
    assert!(
        anonymous.header("location").starts_with("/login"),
        "a login does not use it up: {anonymous:?}"
    );
    // RFC 9126 §4: of ten browsers that use it at once, one gets a code.
    let mut browsers = vec![];
    for _ in 0..10 {
        browsers.push(server.logged_in("ann").await);
    }
    let address = by("app", &uri);
    let replies = join_all(browsers.iter_mut().map(|browser| browser.open(&address))).await;
    let codes = replies.iter().filter(|reply| reply.header("location").contains("?code="));
    assert_eq!(codes.count(), 1, "{replies:?}");
    ann.open(&by("app", &uri)).await.expect_page(400);
    let late = push().await;
    server.clock.advance(Duration::from_secs(600));
    ann.open(&by("app", &late)).await.expect_page(400);
}

async fn required_pushed_or_signed_requests_are_enforced(backend: Backend) {
    let server = TestServer::start(backend).await;
    let key = client_key("one");
    server
        .client(
            "pusher",
            Metadata { require_pushed_authorization_requests: true, ..first_party_app() },
        )
        .await;
    server
        .client(
            "signer",
            Metadata {
                require_signed_request_object: true,
                jwks: Some(key_set(&key)),
                ..first_party_app()
            },
        )
        .await;
    for id in ["pusher", "signer"] {
        let reply = server.browser().open(&AuthorizationRequest::of(id, "openid").path()).await;
        AuthorizationResponse::of(reply.header("location")).expect_error("invalid_request");
    }
    let request = AuthorizationRequest::of("signer", "openid").0;
    let request: Vec<_> =
        request.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    server
        .form_as("/oauth2/par", "signer", &request)
        .await
        .expect_oauth_error(400, "invalid_request");
}

async fn a_signed_request_is_checked_for_key_audience_and_time(backend: Backend) {
    let server = TestServer::start(backend).await;
    let key = client_key("one");
    server.client("app", Metadata { jwks: Some(key_set(&key)), ..first_party_app() }).await;
    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    let (issuer, now) = (server.app.config.server.issuer.clone(), server.clock.now().as_secs());
    let request = AuthorizationRequest::of("app", "openid");
    let mut answer = async |change: serde_json::Value| {
        let mut claims: serde_json::Value = request.0.iter().cloned().collect();
        claims["iss"] = "app".into();
        claims["aud"] = issuer.as_str().into();
        for (name, value) in change.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        let sent = request.clone().with("request", &sign(&key, &claims));
        AuthorizationResponse::of(ann.open(&sent.path()).await.header("location"))
    };
    for good in [
        json!({}),
        json!({ "exp": now + 60, "nbf": now }),
        json!({ "aud": [issuer, "https://other.example"] }),
        json!({ "sub": "ann" }),
    ] {
        answer(good).await.code();
    }
    for bad in [
        json!({ "aud": "https://other.example" }),
        json!({ "exp": now - 60 }),
        json!({ "nbf": now + 60 }),
        json!({ "iss": "other" }),
        json!({ "client_id": "other" }),
        json!({ "sub": "app" }),
        json!({ "request": "x" }),
        json!({ "request_uri": "urn:x" }),
    ] {
        answer(bad).await.expect_error("invalid_request_object");
    }
}

async fn consent_is_remembered_per_scope_and_resource(backend: Backend) {
    let server = with_apis(backend).await;
    server.change_client("app", |client| client.metadata.consent = Consent::Required).await;
    let mut ann = server.logged_in("ann").await;
    let allowed = AuthorizationRequest::of("app", "openid notes:read").with("resource", NOTES);
    ann.authorize(&allowed, "ann").await.code();
    let mut silent = async |request: AuthorizationRequest| {
        AuthorizationResponse::of(
            ann.open(&request.with("prompt", "none").path()).await.header("location"),
        )
    };
    silent(allowed.clone()).await.code();
    silent(allowed.clone().with("scope", "openid")).await.code();
    let email = json!({ "userinfo": { "email": null } }).to_string();
    for more in [
        allowed.clone().with("scope", "openid notes:read notes:write"),
        allowed.clone().with("claims", &email),
        allowed.clone().with("resource", PHOTOS).with("scope", "openid"),
        allowed.clone().without("resource"),
    ] {
        silent(more).await.expect_error("consent_required");
    }
}

async fn authorization_requests_follow_openid_connect_core(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", first_party_app()).await;
    server
        .client(
            "hidden",
            Metadata {
                subject_type: SubjectType::Pairwise,
                default_max_age: Some(60),
                ..first_party_app()
            },
        )
        .await;
    server
        .client(
            "online",
            Metadata { grant_types: vec![GrantType::AuthorizationCode], ..first_party_app() },
        )
        .await;
    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    let mut granted = vec![];
    for id in ["app", "hidden", "online"] {
        let answer =
            ann.authorize(&AuthorizationRequest::of(id, "openid offline_access"), "ann").await;
        granted.push(server.exchange_code(id, answer.code()).await.expect(StatusCode::OK));
    }
    // A pairwise subject is the same at every endpoint.
    let subject = |reply: &Reply| payload(&reply.field("id_token"))["sub"].clone();
    assert_ne!(subject(&granted[0]), subject(&granted[1]));
    let response =
        server.get_as("/oauth2/userinfo", &granted[1].field("access_token")).await.json();
    assert_eq!(
        (&response["sub"], &payload(&granted[1].field("access_token"))["sub"]),
        (&subject(&granted[1]), &subject(&granted[1]))
    );
    // Without a refresh token there is no offline access.
    assert_eq!(granted[2].json()["scope"], "openid");
    // Core §12.2: the nonce belongs to the authorization request only.
    let refreshed =
        server.refresh_as("app", &granted[0].field("refresh_token")).await.expect(StatusCode::OK);
    assert_eq!(payload(&refreshed.field("id_token")).get("nonce"), None);
    assert_eq!(
        server.introspect("app", &granted[0].field("refresh_token")).await,
        json!({ "active": false }),
        "an old refresh token"
    );
    assert_eq!(server.introspect("app", &refreshed.field("refresh_token")).await["active"], true);
    let unmet =
        json!({ "id_token": { "acr": { "essential": true, "values": ["urn:example:gold"] } } })
            .to_string();
    for (name, value, error) in [
        ("id_token_hint", granted[1].field("id_token"), "invalid_request"),
        ("claims", unmet, "unmet_authentication_requirements"),
    ] {
        let reply =
            ann.open(&AuthorizationRequest::of("app", "openid").with(name, &value).path()).await;
        AuthorizationResponse::of(reply.header("location")).expect_error(error);
    }
    server.clock.advance(Duration::from_secs(61));
    let reply = ann.open(&AuthorizationRequest::of("hidden", "openid").path()).await;
    assert!(reply.header("location").starts_with("/login"), "default_max_age: {reply:?}");
}

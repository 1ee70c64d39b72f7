//! What OAuth and OpenID Connect ask beside the usual way: what real clients send, and what they are told.

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
        oauth::{
            Answer, Authorization, CALLBACK, Form, Person, SECRET, VERIFIER, first_party_app,
            header, payload, web_app,
        },
        outside::Outside,
        send,
    },
};

const NOTES: &str = "https://notes.example/";
const PHOTOS: &str = "https://photos.example/";

fn scope(text: &str) -> Scope {
    Scope::parse(text).expect("a scope")
}

/// A server that knows `ann`, two APIs, and `app`, which may ask for tokens for both.
async fn with_apis(backend: Backend) -> TestServer {
    let server = TestServer::start(backend).await;
    let now = server.clock.now();
    let stored = server.app.db.transaction(move |mut tx| {
        Box::pin(async move {
            for (id, name) in [(NOTES, "notes"), (PHOTOS, "photos")] {
                let resource = Resource {
                    id: id.to_owned(),
                    name: name.to_owned(),
                    scope: Some(scope(&format!("{name}:read {name}:write"))),
                    default_scope: scope(&format!("{name}:read")),
                };
                catalogue::put_resource(&mut tx, &resource, now).await?;
            }
            Ok(())
        })
    });
    stored.await.expect("resources");
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
    let both =
        Authorization([NOTES, PHOTOS].map(|id| ("resource".to_owned(), id.to_owned())).into());
    format!("{}&{}", Authorization::of("app", scope).address(), both.query())
}

/// A form to the token endpoint, whose parameters may repeat.
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
    a_refresh_token_that_is_no_good_is_invalid_grant_whatever_is_asked_with_it,
    a_refresh_may_narrow_the_scope_and_the_next_one_has_all_of_it_again,
    a_token_for_one_of_several_resources_says_only_what_means_something_there,
    what_a_client_may_no_longer_have_its_sessions_no_longer_get,
    another_person_than_the_one_that_is_meant_is_told_to_the_application,
    an_application_hears_of_a_logout_however_long_its_own_session_was_and_whatever_goes_on,
    a_person_whose_application_holds_an_old_id_token_can_log_out,
    t09_another_sites_form_takes_no_cookie_away,
    what_is_off_is_neither_offered_nor_half_done,
    a_signed_introspection_is_rs256_unless_something_else_was_registered_for_it,
    who_registers_alone_gets_tokens_for_no_api_that_the_operator_has_not_named,
    a_pushed_request_is_its_clients_good_once_and_for_ten_minutes,
    a_client_that_must_push_or_sign_its_requests_cannot_do_otherwise,
    a_signed_request_is_its_clients_and_for_this_server_now,
    what_a_person_has_allowed_is_remembered_for_its_scopes_at_its_resources,
    a_request_gets_what_it_says_or_hears_why_not,
}

async fn a_refresh_token_that_is_no_good_is_invalid_grant_whatever_is_asked_with_it(
    backend: Backend,
) {
    let server = with_apis(backend).await;
    let mut ann = server.browser();
    let answer = ann.authorize(&Authorization::of("app", "openid email"), "ann").await;
    let granted = server.redeem("app", answer.code()).await.expect(StatusCode::OK);
    let good = granted.field("refresh_token");
    let ended = server
        .redeem("app", ann.authorize(&Authorization::of("app", "openid email"), "ann").await.code())
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

async fn a_refresh_may_narrow_the_scope_and_the_next_one_has_all_of_it_again(backend: Backend) {
    let server = with_apis(backend).await;
    let answer = server
        .browser()
        .authorize(&Authorization::of("app", "openid email notes:read"), "ann")
        .await;
    let granted = server.redeem("app", answer.code()).await.expect(StatusCode::OK);
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

async fn a_token_for_one_of_several_resources_says_only_what_means_something_there(
    backend: Backend,
) {
    let server = with_apis(backend).await;
    let mut ann = server.logged_in("ann").await;
    let asked = asks_for_both("openid notes:read photos:read");
    let mut given = async || Answer::of(ann.open(&asked).await.header("location"));
    let told = |reply: &Reply| {
        let claims = payload(&reply.field("access_token"));
        (claims["aud"].clone(), claims["scope"].as_str().expect("a scope").to_owned())
    };
    let both = token(&server, &code(given().await.code(), &[])).await.expect(StatusCode::OK);
    assert_eq!(told(&both), (json!([NOTES, PHOTOS]), "openid notes:read photos:read".to_owned()));
    // RFC 8707 §2.2
    let one =
        token(&server, &code(given().await.code(), &[("resource", NOTES), ("resource", NOTES)]))
            .await
            .expect(StatusCode::OK);
    assert_eq!(told(&one), (NOTES.into(), "openid notes:read".to_owned()));
    assert_eq!(one.json()["scope"], "openid notes:read");
    let other = token(&server, &refresh(&one.field("refresh_token"), &[("resource", PHOTOS)]))
        .await
        .expect(StatusCode::OK);
    assert_eq!(told(&other), (PHOTOS.into(), "openid photos:read".to_owned()));
    let both =
        token(&server, &refresh(&other.field("refresh_token"), &[])).await.expect(StatusCode::OK);
    assert_eq!(told(&both), (json!([NOTES, PHOTOS]), "openid notes:read photos:read".to_owned()));
    token(&server, &code(given().await.code(), &[("resource", "https://nobody.example/")]))
        .await
        .expect_oauth_error(400, "invalid_target");
}

async fn what_a_client_may_no_longer_have_its_sessions_no_longer_get(backend: Backend) {
    let server = with_apis(backend).await;
    let mut ann = server.logged_in("ann").await;
    let answer = Answer::of(
        ann.open(&asks_for_both("openid email notes:read photos:read")).await.header("location"),
    );
    let granted = token(&server, &code(answer.code(), &[])).await.expect(StatusCode::OK);
    let claims = json!({ "userinfo": { "email": null } }).to_string();
    let one_by_one =
        ann.authorize(&Authorization::of("app", "openid").with("claims", &claims), "ann").await;
    let one_by_one = server.redeem("app", one_by_one.code()).await.expect(StatusCode::OK);
    let email = async |reply: &Reply| {
        let told = server
            .get_as("/oauth2/userinfo", &reply.field("access_token"))
            .await
            .expect(StatusCode::OK);
        told.json().get("email").cloned()
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
    // Without any resource it would be for this server's own API.
    server.change_client("app", |client| client.metadata.resources.clear()).await;
    token(&server, &refresh(&rest.field("refresh_token"), &[]))
        .await
        .expect_oauth_error(400, "invalid_target");
}

async fn another_person_than_the_one_that_is_meant_is_told_to_the_application(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", first_party_app()).await;
    server.register("ann").await;
    server.register("bob").await;
    let mut ann = server.logged_in("ann").await;
    let of_bob = server.browser().authorize(&Authorization::of("app", "openid"), "bob").await;
    let of_bob = server.redeem("app", of_bob.code()).await.field("id_token");
    let sub = payload(&of_bob)["sub"].clone();
    let claims = json!({ "id_token": { "sub": { "value": sub } } }).to_string();
    for (name, value) in [("id_token_hint", &of_bob), ("claims", &claims)] {
        let asked = Authorization::of("app", "openid").with(name, value);
        let silent = ann.open(&asked.clone().with("prompt", "none").address()).await;
        Answer::of(silent.header("location")).expect_error("login_required");
        server.clock.advance(Duration::from_secs(1));
        // Core §3.1.2.1: whoever logs in for it decides the answer; nobody is sent round in a circle.
        ann.authorize(&asked, "ann").await.expect_error("login_required");
        let mut bob = server.logged_in("ann").await;
        server.clock.advance(Duration::from_secs(1));
        let answer = bob.authorize(&asked, "bob").await;
        let granted = server.redeem("app", answer.code()).await;
        assert_eq!(payload(&granted.field("id_token"))["sub"], sub);
    }
}

async fn an_application_hears_of_a_logout_however_long_its_own_session_was_and_whatever_goes_on(
    backend: Backend,
) {
    let outside = Outside::start().await;
    let settings = outside.settings();
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let server = TestServer::with(backend, &settings).await;
    let app = |name: &str| Metadata {
        backchannel_logout_uri: Some(format!("{}/{name}", outside.base)),
        ..first_party_app()
    };
    for name in ["short", "offline", "silent"] {
        outside.put(&format!("/{name}"), 200, "", "");
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
        let answer = ann.authorize(&Authorization::of(id, scope), "ann").await;
        granted.push(server.redeem(id, answer.code()).await.expect(StatusCode::OK));
    }
    // The first one's tokens are over long since; its person is still logged in there, and here.
    server.clock.advance(Duration::from_secs(86_400));
    maintenance::sweep(&server.app).await.expect("swept");
    let count = Statement::new("SELECT count(*) AS n FROM sessions WHERE client_id = 'silent'");
    let rows = server.app.db.read(count).await.expect("rows");
    assert_eq!(
        rows[0].get::<i64>("n").expect("a number"),
        0,
        "who wants to hear nothing is not kept"
    );
    let page = ann.open("/oauth2/logout").await.expect(StatusCode::OK);
    ann.submit(&page, &[("decision", "logout")]).await.expect(StatusCode::OK);
    for (at, name) in ["/short", "/offline"].into_iter().enumerate() {
        let posted = delivered(&server, &outside, name).await;
        let token = posted.strip_prefix("logout_token=").expect("a logout token");
        assert_eq!(payload(token)["sid"], payload(&granted[at].field("id_token"))["sid"]);
    }
    // Back-Channel Logout §2.7: what works offline goes on.
    server.refresh_as("offline", &granted[1].field("refresh_token")).await.expect(StatusCode::OK);
    // And in the end nothing is kept.
    server.clock.advance(Duration::from_secs(40 * 86_400));
    maintenance::sweep(&server.app).await.expect("swept");
    let rows = server.app.db.read(Statement::new("SELECT id FROM sessions")).await.expect("rows");
    assert_eq!(rows.len(), 0);
}

async fn a_person_whose_application_holds_an_old_id_token_can_log_out(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", first_party_app()).await;
    server.register("ann").await;
    let mut ann = server.browser();
    let answer = ann.authorize(&Authorization::of("app", "openid"), "ann").await;
    let granted = server.redeem("app", answer.code()).await.expect(StatusCode::OK);
    let hint = granted.field("id_token");
    // As if its key had been replaced since: the signature cannot be checked.
    let hint = format!("{}AAAA", &hint[..hint.len() - 4]);
    let bye = "post_logout_redirect_uri=https%3A%2F%2Fapp.example%2Fbye&state=s";
    let page =
        ann.open(&format!("/oauth2/logout?id_token_hint={hint}&{bye}")).await.expect_page(200);
    assert_eq!(Form::of(&page.text).action, "/oauth2/logout", "a question");
    let reply = ann.submit(&page, &[("decision", "logout")]).await.expect_page(200);
    assert!(
        !reply.text.contains("app.example"),
        "whose address it is only the hint said: {reply:?}"
    );
    server
        .refresh_as("app", &granted.field("refresh_token"))
        .await
        .expect_oauth_error(400, "invalid_grant");

    // An application that says who it is gets its person back.
    let mut ann = server.logged_in("ann").await;
    let page = ann
        .open(&format!("/oauth2/logout?id_token_hint={hint}&client_id=app&{bye}"))
        .await
        .expect_page(200);
    let reply = ann.submit(&page, &[("decision", "logout")]).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), "https://app.example/bye?state=s");
}

async fn t09_another_sites_form_takes_no_cookie_away(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    // A browser sends no Lax cookie with another site's POST, and would obey a Set-Cookie of the answer.
    let reply =
        send(server.request(Method::POST, "/oauth2/logout").form(&[("decision", "logout")])).await;
    assert_eq!(reply.headers.get_all("set-cookie").iter().count(), 0, "{reply:?}");
    let asked = ann.open(reply.expect(StatusCode::SEE_OTHER).header("location")).await;
    assert!(
        asked.text.contains("name=\"decision\""),
        "where it goes on, the person is asked: {asked:?}"
    );
}

async fn what_is_off_is_neither_offered_nor_half_done(backend: Backend) {
    let server = TestServer::with(backend, &[("PROPUSK_REGISTRATION__ENABLED", "false")]).await;
    server.client("app", web_app()).await;
    let offered = server.get("/.well-known/openid-configuration").await.json();
    assert_eq!(
        offered["prompt_values_supported"],
        json!(["none", "login", "consent", "select_account"])
    );
    let asked = Authorization::of("app", "openid");
    for (name, value, error) in [
        ("prompt", "create", "invalid_request"),
        ("registration", "{}", "registration_not_supported"),
    ] {
        let reply = server.browser().open(&asked.clone().with(name, value).address()).await;
        Answer::of(reply.header("location")).expect_error(error);
    }
}

async fn a_signed_introspection_is_rs256_unless_something_else_was_registered_for_it(
    backend: Backend,
) {
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
        let asked = server
            .request(Method::POST, "/oauth2/introspect")
            .basic_auth(id, Some(SECRET))
            .form(&[("token", &access)]);
        let reply = send(asked.header("accept", "application/token-introspection+jwt"))
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

async fn who_registers_alone_gets_tokens_for_no_api_that_the_operator_has_not_named(
    backend: Backend,
) {
    let server = with_apis(backend).await;
    let metadata = json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none" });
    let made = send(server.request(Method::POST, "/oauth2/register").json(&metadata))
        .await
        .expect(StatusCode::CREATED);
    let mut ann = server.logged_in("ann").await;
    let asked = Authorization::of(&made.field("client_id"), "openid").with("resource", NOTES);
    Answer::of(ann.open(&asked.address()).await.header("location")).expect_error("invalid_target");
}

async fn a_pushed_request_is_its_clients_good_once_and_for_ten_minutes(backend: Backend) {
    let server = with_apis(backend).await;
    server.client("other", first_party_app()).await;
    let mut ann = server.logged_in("ann").await;
    let asked = Authorization::of("app", "openid").with("client_secret", SECRET).0;
    let asked: Vec<_> = asked.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let push = async || {
        let reply = server.form("/oauth2/par", &asked).await.expect(StatusCode::CREATED);
        assert_eq!(reply.json()["expires_in"], 600);
        reply.field("request_uri")
    };
    let by = |id: &str, uri: &str| {
        Authorization(vec![
            ("client_id".to_owned(), id.to_owned()),
            ("request_uri".to_owned(), uri.to_owned()),
        ])
        .address()
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
        "the request is kept, not its proof"
    );
    ann.open(&by("other", &uri)).await.expect_page(400);
    let stranger = server.browser().open(&by("app", &uri)).await;
    assert!(
        stranger.header("location").starts_with("/login"),
        "a login does not use it up: {stranger:?}"
    );
    // RFC 9126 §4: once, and of ten tabs one.
    let mut tabs: Vec<_> =
        (0..10).map(|_| Person { server: &server, cookies: ann.cookies.clone() }).collect();
    let address = by("app", &uri);
    let replies = join_all(tabs.iter_mut().map(|tab| tab.open(&address))).await;
    let codes = replies.iter().filter(|reply| reply.header("location").contains("?code="));
    assert_eq!(codes.count(), 1, "{replies:?}");
    ann.open(&by("app", &uri)).await.expect_page(400);
    let late = push().await;
    server.clock.advance(Duration::from_secs(600));
    ann.open(&by("app", &late)).await.expect_page(400);
}

async fn a_client_that_must_push_or_sign_its_requests_cannot_do_otherwise(backend: Backend) {
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
        let reply = server.browser().open(&Authorization::of(id, "openid").address()).await;
        Answer::of(reply.header("location")).expect_error("invalid_request");
    }
    let asked = Authorization::of("signer", "openid").0;
    let asked: Vec<_> = asked.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    server
        .form_as("/oauth2/par", "signer", &asked)
        .await
        .expect_oauth_error(400, "invalid_request");
}

async fn a_signed_request_is_its_clients_and_for_this_server_now(backend: Backend) {
    let server = TestServer::start(backend).await;
    let key = client_key("one");
    server.client("app", Metadata { jwks: Some(key_set(&key)), ..first_party_app() }).await;
    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    let (issuer, now) = (server.app.config.server.issuer.clone(), server.clock.now().as_secs());
    let asked = Authorization::of("app", "openid");
    let mut answer = async |change: serde_json::Value| {
        let mut claims: serde_json::Value = asked.0.iter().cloned().collect();
        claims["iss"] = "app".into();
        claims["aud"] = issuer.as_str().into();
        for (name, value) in change.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        let sent = asked.clone().with("request", &sign(&key, &claims));
        Answer::of(ann.open(&sent.address()).await.header("location"))
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

async fn what_a_person_has_allowed_is_remembered_for_its_scopes_at_its_resources(backend: Backend) {
    let server = with_apis(backend).await;
    server.change_client("app", |client| client.metadata.consent = Consent::Required).await;
    let mut ann = server.logged_in("ann").await;
    let allowed = Authorization::of("app", "openid notes:read").with("resource", NOTES);
    ann.authorize(&allowed, "ann").await.code();
    let mut silent = async |asked: Authorization| {
        Answer::of(ann.open(&asked.with("prompt", "none").address()).await.header("location"))
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

async fn a_request_gets_what_it_says_or_hears_why_not(backend: Backend) {
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
    let mut given = vec![];
    for id in ["app", "hidden", "online"] {
        let answer = ann.authorize(&Authorization::of(id, "openid offline_access"), "ann").await;
        given.push(server.redeem(id, answer.code()).await.expect(StatusCode::OK));
    }
    // A pairwise subject is one at every place.
    let subject = |reply: &Reply| payload(&reply.field("id_token"))["sub"].clone();
    assert_ne!(subject(&given[0]), subject(&given[1]));
    let told = server.get_as("/oauth2/userinfo", &given[1].field("access_token")).await.json();
    assert_eq!(
        (&told["sub"], &payload(&given[1].field("access_token"))["sub"]),
        (&subject(&given[1]), &subject(&given[1]))
    );
    // Without a refresh token nothing works offline.
    assert_eq!(given[2].json()["scope"], "openid");
    // Core §12.2: the nonce was that of one request.
    let refreshed =
        server.refresh_as("app", &given[0].field("refresh_token")).await.expect(StatusCode::OK);
    assert_eq!(payload(&refreshed.field("id_token")).get("nonce"), None);
    assert_eq!(
        server.introspect("app", &given[0].field("refresh_token")).await,
        json!({ "active": false }),
        "an old one"
    );
    assert_eq!(server.introspect("app", &refreshed.field("refresh_token")).await["active"], true);
    let unmet =
        json!({ "id_token": { "acr": { "essential": true, "values": ["urn:example:gold"] } } })
            .to_string();
    for (name, value, error) in [
        ("id_token_hint", given[1].field("id_token"), "invalid_request"),
        ("claims", unmet, "unmet_authentication_requirements"),
    ] {
        let reply =
            ann.open(&Authorization::of("app", "openid").with(name, &value).address()).await;
        Answer::of(reply.header("location")).expect_error(error);
    }
    server.clock.advance(Duration::from_secs(61));
    let reply = ann.open(&Authorization::of("hidden", "openid").address()).await;
    assert!(reply.header("location").starts_with("/login"), "default_max_age: {reply:?}");
}

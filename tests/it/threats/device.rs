//! Attacks on the device authorization grant (RFC 8628 §5, RFC 10027).

use std::time::Duration;

use futures_util::future::join_all;
use propusk::{
    flows::admin::{clients, users},
    model::{actor::Actor, client::Metadata},
    storage::Statement,
};
use reqwest::{Method, StatusCode};

use crate::support::{
    Backend, Reply, TestServer, backend_tests,
    oauth::{CALLBACK, DeviceCodes, VERIFIER, device_app, payload},
    send,
};

backend_tests! {
    t78_another_session_cannot_decide,
    t78_of_two_browsers_one_may_decide,
    t78_wrong_user_codes_are_limited,
    t78_fast_polling_slows_down,
    t78_the_page_names_client_and_device,
    t150_a_device_code_is_used_once_by_its_client,
    t150_of_50_concurrent_polls_one_gets_a_session,
    t150_a_replayed_device_code_revokes_its_session,
    t151_an_approval_ends_with_what_it_depends_on,
    t152_pending_requests_of_a_network_are_limited,
    t153_a_link_decides_nothing,
    t154_a_decision_is_valid_for_what_the_page_showed,
}

/// A server with `ann`, `eve` and the public client `tv`.
async fn with_tv(backend: Backend, settings: &[(&str, &str)]) -> TestServer {
    let server = TestServer::with(backend, settings).await;
    server.register("ann").await;
    server.register("eve").await;
    server.client("tv", device_app()).await;
    server
}

async fn count(server: &TestServer, statement: &'static str) -> i64 {
    let rows = server.app.db.read(Statement::new(statement)).await.expect("rows");
    rows[0].get("n").expect("a number")
}

const SESSIONS: &str =
    "SELECT count(*) AS n FROM sessions WHERE client_id = 'tv' AND exchanged_at IS NOT NULL";
const DECIDED: &str = "SELECT count(*) AS n FROM device_authorizations WHERE state <> 'pending'";
const BOUND: &str =
    "SELECT count(*) AS n FROM device_authorizations WHERE browser_session_id IS NOT NULL";

async fn t78_another_session_cannot_decide(backend: Backend) {
    let server = with_tv(backend, &[]).await;
    let codes = server.device_codes("tv", "openid").await;
    let (mut ann, mut eve) = (server.logged_in("ann").await, server.logged_in("eve").await);
    let page = ann.device_page(&codes).await;
    // The same code in another browser, of another user or of the same.
    for browser in [&mut eve, &mut server.logged_in("ann").await] {
        let refused = browser.enter_code(&codes.user).await.expect_page(403);
        assert!(refused.text.contains("entered in another browser"), "{refused:?}");
        let asked = browser.open(&format!("/device/confirm?user_code={}", codes.user)).await;
        let location = asked.expect(StatusCode::SEE_OTHER).header("location").to_owned();
        assert_eq!(location, format!("/device?user_code={}", codes.user));
        // Ann's form, sent from that browser; and with Ann's CSRF cookie as well.
        for cookie in [browser.cookies["propusk_csrf"].clone(), ann.cookies["propusk_csrf"].clone()]
        {
            browser.cookies.insert("propusk_csrf".to_owned(), cookie);
            browser.submit(&page, &[("decision", "allow")]).await.expect_page(403);
            browser.submit(&page, &[("decision", "deny")]).await.expect_page(403);
        }
    }
    // Nobody is logged in.
    let mut nobody = server.browser();
    nobody.submit(&page, &[("decision", "allow")]).await.expect_page(403);
    assert_eq!(count(&server, DECIDED).await, 0);
    server.poll("tv", &codes).await.expect_oauth_error(400, "authorization_pending");
    // Ann's own decision is not affected.
    ann.submit(&page, &[("decision", "allow")]).await.expect(StatusCode::OK);
    let granted = server.poll("tv", &codes).await.expect(StatusCode::OK);
    let ann = users::find(&server.app, "ann").await.expect("known");
    assert_eq!(payload(&granted.field("access_token"))["sub"], ann.id.as_str());
}

async fn t78_of_two_browsers_one_may_decide(backend: Backend) {
    let server = with_tv(backend, &[]).await;
    let codes = server.device_codes("tv", "openid").await;
    let mut browsers = vec![];
    for n in 0..8 {
        browsers.push(server.logged_in(if n % 2 == 0 { "ann" } else { "eve" }).await);
    }
    let entered = join_all(browsers.iter_mut().map(|browser| browser.enter_code(&codes.user)));
    let (bound, refused): (Vec<_>, Vec<_>) =
        entered.await.into_iter().partition(|reply| reply.status == StatusCode::SEE_OTHER);
    assert_eq!((bound.len(), refused.len()), (1, 7), "{refused:?}");
    assert!(refused.iter().all(|reply| reply.status == StatusCode::FORBIDDEN), "{refused:?}");
    // A browser session that was logged out holds no code.
    for browser in &mut browsers {
        let page = browser.open("/oauth2/logout").await;
        browser.submit(&page, &[("decision", "logout")]).await.expect(StatusCode::OK);
    }
    server.logged_in("ann").await.decide(&codes, "allow").await;
    server.poll("tv", &codes).await.expect(StatusCode::OK);
}

async fn t78_wrong_user_codes_are_limited(backend: Backend) {
    let settings = [
        ("PROPUSK_LIMITS__ENABLED", "true"),
        ("PROPUSK_LIMITS__WRONG_DEVICE_CODES_BURST", "5"),
        ("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let server = with_tv(backend, &settings).await;
    let codes = server.device_codes("tv", "openid").await;
    let mut eve = server.logged_in("eve").await;
    let page = eve.open("/device").await;
    for n in 0..5 {
        let from = format!("192.0.2.{n}");
        let wrong = [("user_code", "BCDF-GHJK")];
        eve.submit_with(&page, &wrong, ("x-forwarded-for", &from)).await.expect_page(400);
    }
    // From whatever network, and with the right code.
    let right = [("user_code", codes.user.as_str())];
    let limited = eve.submit_with(&page, &right, ("x-forwarded-for", "192.0.2.9")).await;
    let limited = limited.expect_page(429);
    assert!(limited.text.contains("Too many attempts"), "{limited:?}");
    assert!(limited.header("retry-after").parse::<u64>().is_ok_and(|wait| wait > 0));
    assert_eq!(count(&server, BOUND).await, 0);
    // A new browser session of hers does not help.
    let mut again = server.logged_in("eve").await;
    let page = again.open("/device").await;
    again.submit_with(&page, &right, ("x-forwarded-for", "192.0.2.9")).await.expect_page(429);
    // Other accounts from one network.
    for n in 0..6 {
        let name = format!("mallory{n}");
        server.register(&name).await;
        let mut mallory = server.logged_in(&name).await;
        let page = mallory.open("/device").await;
        let wrong = [("user_code", "BCDF-GHJK")];
        let reply = mallory.submit_with(&page, &wrong, ("x-forwarded-for", "192.0.2.77")).await;
        assert_eq!(reply.status.as_u16(), if n < 5 { 400 } else { 429 }, "{reply:?}");
    }
    // Right codes are not counted.
    let mut ann = server.logged_in("ann").await;
    for _ in 0..12 {
        let codes = server.device_codes("tv", "openid").await;
        ann.device_page(&codes).await;
    }
}

async fn t78_fast_polling_slows_down(backend: Backend) {
    let one = with_tv(backend, &[]).await;
    let other = one.another(&[]).await;
    let codes = one.device_codes("tv", "openid").await;
    let advance = |seconds| one.clock.advance(Duration::from_secs(seconds));
    one.poll("tv", &codes).await.expect_oauth_error(400, "authorization_pending");
    // Each server knows of the polls at the other; each `slow_down` adds five seconds.
    advance(2);
    let slow = other.poll("tv", &codes).await.expect_oauth_error(400, "slow_down");
    assert!(slow.text.contains("wait 10 s"), "{slow:?}");
    advance(5);
    let slow = one.poll("tv", &codes).await.expect_oauth_error(400, "slow_down");
    assert!(slow.text.contains("wait 15 s"), "{slow:?}");
    advance(15);
    other.poll("tv", &codes).await.expect_oauth_error(400, "authorization_pending");
    advance(13);
    one.poll("tv", &codes).await.expect_oauth_error(400, "slow_down");
    // Another client's polls count for nothing.
    one.client("other", device_app()).await;
    advance(20);
    one.poll("other", &codes).await.expect_oauth_error(400, "invalid_grant");
    one.poll("tv", &codes).await.expect_oauth_error(400, "authorization_pending");
    // A decision is told at once.
    one.logged_in("ann").await.decide(&codes, "allow").await;
    other.poll("tv", &codes).await.expect(StatusCode::OK);
}

async fn t78_the_page_names_client_and_device(backend: Backend) {
    let settings = [("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.1")];
    let server = with_tv(backend, &settings).await;
    let codes_from = async |address: &str, agent: &str| {
        let request = server.request(Method::POST, "/oauth2/device_authorization");
        let request = request.header("x-forwarded-for", address).header("user-agent", agent);
        let fields = [("client_id", "tv"), ("scope", "openid email")];
        DeviceCodes::of(send(request.form(&fields)).await)
    };
    let mut ann = server.logged_in("ann").await;
    let codes = codes_from("198.51.100.7", "Evil/1 <script>alert(1)</script>").await;
    server.clock.advance(Duration::from_secs(130));
    let page = ann.device_page(&codes).await;
    for part in [
        "\u{2068}Example TV\u{2069}",
        "198.51.100.7",
        "Evil/1 &#60;script&#62;",
        "\u{2068}2\u{2069} minutes ago",
        "Know who you are",
        "See your email address",
        &format!("<span class=\"code\">{}</span>", codes.user),
        "Is this device in front of you?",
        "another network than this browser’s",
        "<bdi>ann</bdi>",
    ] {
        assert!(page.text.contains(part), "{part}: {page:?}");
    }
    // Neither answer stands out.
    assert!(!page.text.contains("<button class=\"button\""), "{page:?}");
    let codes = codes_from("127.0.0.1", "A television").await;
    let page = ann.device_page(&codes).await;
    assert!(!page.text.contains("another network"), "{page:?}");
    assert!(page.text.contains("less than a minute ago"), "{page:?}");
}

async fn t150_a_device_code_is_used_once_by_its_client(backend: Backend) {
    let server = with_tv(backend, &[]).await;
    server.client("other", device_app()).await;
    let code_app = Metadata { redirect_uris: vec![CALLBACK.to_owned()], ..device_app() };
    server.client("app", code_app).await;
    let codes = server.device_codes("tv", "openid").await;
    server.logged_in("ann").await.decide(&codes, "allow").await;
    for _ in 0..2 {
        server.poll("other", &codes).await.expect_oauth_error(400, "invalid_grant");
    }
    // The user code, and the device code as a code of another kind.
    let as_device = DeviceCodes { device: codes.user.clone(), ..codes.clone() };
    server.poll("tv", &as_device).await.expect_oauth_error(400, "invalid_grant");
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("code", codes.device.as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    let reply = server.form("/oauth2/token", &fields).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{reply:?}");
    for other in [&codes.device[1..], &format!("{}A", codes.device), &codes.device.to_lowercase()] {
        let other = DeviceCodes { device: other.to_owned(), ..codes.clone() };
        server.poll("tv", &other).await.expect_oauth_error(400, "invalid_grant");
    }
    assert_eq!(count(&server, SESSIONS).await, 0);
    server.poll("tv", &codes).await.expect(StatusCode::OK);
    server.poll("tv", &codes).await.expect_oauth_error(400, "invalid_grant");
    // The database has no code that a device could use.
    let stored = "SELECT count(*) AS n FROM device_authorizations WHERE user_code LIKE 'pdc%'";
    assert_eq!(count(&server, stored).await, 0);
}

async fn t150_of_50_concurrent_polls_one_gets_a_session(backend: Backend) {
    let one = with_tv(backend, &[]).await;
    let other = one.another(&[]).await;
    let servers = [&one, &other];
    let codes = one.device_codes("tv", "openid").await;
    one.logged_in("ann").await.decide(&codes, "allow").await;
    let polls = join_all((0..50).map(|n| servers[n % 2].poll("tv", &codes))).await;
    let (good, bad): (Vec<_>, Vec<_>) =
        polls.into_iter().partition(|reply| reply.status == StatusCode::OK);
    assert_eq!(good.len(), 1, "exactly one gets tokens: {good:?}");
    for reply in bad {
        reply.expect_oauth_error(400, "invalid_grant");
    }
    assert_eq!(count(&one, SESSIONS).await, 1);
    // A device that polls twice at once keeps its session.
    assert!(is_live(&other, &good[0]).await);
}

async fn is_live(server: &TestServer, granted: &Reply) -> bool {
    let token = granted.field("access_token");
    server.get_as("/oauth2/userinfo", &token).await.status == StatusCode::OK
}

async fn t150_a_replayed_device_code_revokes_its_session(backend: Backend) {
    let server = with_tv(backend, &[]).await;
    let codes = server.device_codes("tv", "openid").await;
    server.logged_in("ann").await.decide(&codes, "allow").await;
    let granted = server.poll("tv", &codes).await.expect(StatusCode::OK);
    server.clock.advance(Duration::from_secs(9));
    server.poll("tv", &codes).await.expect_oauth_error(400, "invalid_grant");
    assert!(is_live(&server, &granted).await, "a retry");
    server.client("other", device_app()).await;
    server.clock.advance(Duration::from_secs(9));
    server.poll("other", &codes).await.expect_oauth_error(400, "invalid_grant");
    assert!(is_live(&server, &granted).await, "another client's attempt");
    server.poll("tv", &codes).await.expect_oauth_error(400, "invalid_grant");
    assert!(!is_live(&server, &granted).await);
    let events = server.events().await;
    let replayed = events
        .iter()
        .filter(|(kind, data)| kind == "session.revoked" && data["reason"] == "code_replayed");
    assert_eq!(replayed.count(), 1, "{events:?}");
}

async fn t151_an_approval_ends_with_what_it_depends_on(backend: Backend) {
    let server = with_tv(backend, &[]).await;
    let operator = Actor::operator();
    let ann = users::find(&server.app, "ann").await.expect("known");
    let eve = users::find(&server.app, "eve").await.expect("known");
    // The browser session is logged out.
    let codes = server.device_codes("tv", "openid").await;
    let mut browser = server.logged_in("ann").await;
    browser.decide(&codes, "allow").await;
    let page = browser.open("/oauth2/logout").await;
    browser.submit(&page, &[("decision", "logout")]).await.expect(StatusCode::OK);
    server.poll("tv", &codes).await.expect_oauth_error(400, "access_denied");
    // The consent is withdrawn, even of an approval that would outlive the browser session.
    let codes = server.device_codes("tv", "openid offline_access").await;
    server.logged_in("ann").await.decide(&codes, "allow").await;
    clients::withdraw_consent(&server.app, &ann.id, &"tv".into(), &operator)
        .await
        .expect("withdrawn");
    server.poll("tv", &codes).await.expect_oauth_error(400, "access_denied");
    // The user is disabled: before the approval, and after it.
    let (codes, open) = (
        server.device_codes("tv", "openid offline_access").await,
        server.device_codes("tv", "openid").await,
    );
    let mut browser = server.logged_in("eve").await;
    let page = browser.device_page(&open).await;
    browser.decide(&codes, "allow").await;
    users::disable(&server.app, &eve.id, &operator).await.expect("disabled");
    browser.submit(&page, &[("decision", "allow")]).await.expect_page(403);
    server.poll("tv", &codes).await.expect_oauth_error(400, "access_denied");
    server.poll("tv", &open).await.expect_oauth_error(400, "authorization_pending");
    // The user is deleted.
    let codes = server.device_codes("tv", "openid").await;
    server.register("bob").await;
    let bob = users::find(&server.app, "bob").await.expect("known");
    server.logged_in("bob").await.decide(&codes, "allow").await;
    let statement = Statement::new("DELETE FROM users WHERE id = $1 RETURNING id");
    let mut tx = server.app.db.begin().await.expect("a transaction");
    tx.run(statement.bind(bob.id.as_str())).await.expect("deleted");
    tx.commit().await.expect("deleted");
    server.poll("tv", &codes).await.expect_oauth_error(400, "access_denied");
    // The client is disabled: before the approval, and after it.
    let (codes, open) =
        (server.device_codes("tv", "openid").await, server.device_codes("tv", "openid").await);
    let mut browser = server.logged_in("ann").await;
    let page = browser.device_page(&open).await;
    browser.decide(&codes, "allow").await;
    clients::disable(&server.app, &"tv".into(), &operator).await.expect("disabled");
    browser.submit(&page, &[("decision", "allow")]).await.expect_page(400);
    server.poll("tv", &codes).await.expect_oauth_error(400, "invalid_client");
    clients::enable(&server.app, &"tv".into(), &operator).await.expect("enabled");
    server.poll("tv", &codes).await.expect_oauth_error(400, "access_denied");
    assert_eq!(count(&server, SESSIONS).await, 0);
}

async fn t152_pending_requests_of_a_network_are_limited(backend: Backend) {
    let settings = [
        ("PROPUSK_DEVICE__MAX_PENDING_PER_NETWORK", "5"),
        ("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let server = with_tv(backend, &settings).await;
    server.client("other", device_app()).await;
    let kiosk = Metadata { token_endpoint_auth_method: Default::default(), ..device_app() };
    server.client("kiosk", kiosk).await;
    let request = async |id: &str, address: &str| {
        let request = server.request(Method::POST, "/oauth2/device_authorization");
        let fields = [("client_id", id), ("scope", "openid")];
        send(request.header("x-forwarded-for", address).form(&fields)).await
    };
    let mut last = None;
    for n in 0..5 {
        let address = format!("2001:db8:17:{n}::1");
        last = Some(DeviceCodes::of(request("tv", &address).await));
    }
    for address in ["2001:db8:17:ffff::1", "2001:db8:17::1"] {
        let limited = request("tv", address).await;
        assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS, "{limited:?}");
        assert!(limited.header("retry-after").parse::<u64>().is_ok_and(|wait| wait > 0));
    }
    assert_eq!(count(&server, "SELECT count(*) AS n FROM device_authorizations").await, 5);
    // Other networks, other clients, and clients that authenticate are served.
    request("tv", "2001:db8:18::1").await.expect(StatusCode::OK);
    request("other", "2001:db8:17::1").await.expect(StatusCode::OK);
    for _ in 0..7 {
        let fields = [("scope", "openid")];
        let reply = server.form_as("/oauth2/device_authorization", "kiosk", &fields).await;
        reply.expect(StatusCode::OK);
    }
    // A decided or expired request makes room.
    let mut ann = server.logged_in("ann").await;
    ann.decide(&last.expect("codes"), "deny").await;
    request("tv", "2001:db8:17::1").await.expect(StatusCode::OK);
    request("tv", "2001:db8:17::1").await.expect(StatusCode::TOO_MANY_REQUESTS);
    server.clock.advance(Duration::from_secs(600));
    request("tv", "2001:db8:17::1").await.expect(StatusCode::OK);
}

async fn t153_a_link_decides_nothing(backend: Backend) {
    let server = with_tv(backend, &[]).await;
    let codes = server.device_codes("tv", "openid").await;
    let mut ann = server.logged_in("ann").await;
    let compare = ann.open(&format!("/device?user_code={}", codes.user)).await;
    let compare = compare.expect(StatusCode::OK);
    let confirm = format!("/device/confirm?user_code={}&decision=allow", codes.user);
    ann.open(&confirm).await.expect(StatusCode::SEE_OTHER);
    // What the link names is looked up by nobody's GET: there is no telling codes from others.
    let other = ann.open("/device?user_code=BCDF-GHJK").await.expect(StatusCode::OK);
    let known = compare.text.replace(&codes.user, "");
    let own_token = |text: &str| text.split("value=\"").nth(1).expect("a token").len();
    assert_eq!(own_token(&known), own_token(&other.text.replace("BCDF-GHJK", "")));
    // Forms of other sites.
    let code = [("user_code", codes.user.as_str())];
    for header in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        ann.submit_with(&compare, &code, header).await.expect_page(403);
    }
    let form = server.request(Method::POST, "/device").form(&code);
    ann.send(form).await.expect_page(403);
    assert_eq!(count(&server, BOUND).await, 0);
    let page = ann.device_page(&codes).await;
    let allow = [("decision", "allow"), ("user_code", codes.user.as_str())];
    ann.submit_with(&page, &allow[..1], ("sec-fetch-site", "cross-site")).await.expect_page(403);
    let form = server.request(Method::POST, "/device/confirm").form(&allow);
    ann.send(form).await.expect_page(403);
    // The token of one form is not that of another.
    let token = crate::support::oauth::Form::of(&compare.text).field("csrf").to_owned();
    let mut fields = allow.to_vec();
    fields.push(("csrf", &token));
    let form = server.request(Method::POST, "/device/confirm").form(&fields);
    ann.send(form).await.expect_page(403);
    assert_eq!(count(&server, DECIDED).await, 0);
    // Nothing leads off this server.
    for return_to in ["/device@evil.example", "/devices", "/device/confirm", "//device"] {
        let mut browser = server.browser();
        let back = browser.log_in(&format!("/login?return_to={return_to}"), "ann").await;
        assert_eq!(back.header("location"), "/account", "{return_to}");
    }
}

async fn t154_a_decision_is_valid_for_what_the_page_showed(backend: Backend) {
    let server = with_tv(backend, &[]).await;
    server.module("crm", "crm:read", None, true).await;
    let scope = propusk::oauth::scope::Scope::parse("openid crm:read").expect("a scope");
    server.change_client("tv", |client| client.metadata.scope = scope).await;
    let codes = server.device_codes("tv", "openid crm:read").await;
    let mut ann = server.logged_in("ann").await;
    // The user gets a module while the page is open: the page did not show its scope.
    let page = ann.device_page(&codes).await;
    assert!(!page.text.contains("The crm"), "{page:?}");
    let token = server.login("ann").await.tokens();
    server.switch(&token.access, "crm", "enable").await.expect(StatusCode::OK);
    let again = ann.submit(&page, &[("decision", "allow")]).await.expect(StatusCode::OK);
    assert!(again.text.contains("The crm") && again.text.contains("value=\"allow\""), "{again:?}");
    // The client takes another name.
    let rename = |client: &mut propusk::model::client::Client| {
        client.metadata.client_name = "Your Bank".to_owned();
    };
    server.change_client("tv", rename).await;
    let renamed = ann.submit(&again, &[("decision", "allow")]).await.expect(StatusCode::OK);
    assert!(renamed.text.contains("Your Bank"), "{renamed:?}");
    assert_eq!(count(&server, DECIDED).await, 0);
    ann.submit(&renamed, &[("decision", "allow")]).await.expect(StatusCode::OK);
    let granted = server.poll("tv", &codes).await.expect(StatusCode::OK);
    assert_eq!(granted.field("scope"), "openid crm:read");
}

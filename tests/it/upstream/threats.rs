//! Attacks on the login at other providers.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use josekit::jws::{self, JwsSigner};
use propusk::{
    flows::admin::{
        invitations::{self, NewInvitation},
        users,
    },
    model::{actor::Actor, user::Role},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{World, account, begin};
use crate::support::{
    Backend, backend_tests,
    exchange::Idp,
    mail::MAILS,
    oauth::{Browser, Form},
};

backend_tests! {
    t220_an_address_alone_takes_over_no_account,
    t221_a_login_completes_once_in_the_browser_that_began_it,
    t222_an_id_token_that_breaks_a_rule_logs_nobody_in,
    t223_the_code_of_one_provider_never_goes_to_another,
    t224_a_provider_that_misbehaves_affects_no_other_login,
    t225_return_to_leads_to_this_server_only,
    t226_an_identity_is_linked_by_the_user_of_the_account_only,
    t232_a_new_user_of_a_provider_needs_an_invitation,
}

async fn t220_an_address_alone_takes_over_no_account(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    server.register("ann").await;
    for is_verified in [json!(false), json!(true)] {
        let mut eve = server.browser();
        let more = json!({ "email": "ann@example.org", "email_verified": is_verified });
        let reply = world.log_in(&mut eve, "/login/upstream/acme", more).await;
        assert_eq!(reply.header("location"), "/login/identity");
        assert_eq!(account(&mut eve).await, None);
        // Not by the form that registers, either.
        let page = eve.open("/login/identity").await.expect(StatusCode::OK);
        let taken = eve.submit(&page, &[("email", "ann@example.org")]).await;
        assert_eq!(taken.status, StatusCode::BAD_REQUEST);
        assert_eq!((account(&mut eve).await, world.linked().await.len()), (None, 0));
    }
    // The user proves the account, and the identity is linked.
    let mut ann = server.browser();
    let more = json!({ "email": "ann@example.org" });
    world.log_in(&mut ann, "/login/upstream/acme", more.clone()).await;
    let back = ann.log_in("/login?return_to=%2Flogin%2Fidentity", "ann").await;
    let page = ann.open(back.header("location")).await.expect(StatusCode::OK);
    ann.submit(&page, &[]).await.expect(StatusCode::SEE_OTHER);
    let mut again = server.browser();
    world.log_in(&mut again, "/login/upstream/acme", more).await;
    assert_eq!(account(&mut again).await.as_deref(), Some("ann"));

    // A provider that is trusted with addresses: both sides must have verified this one.
    let world = World::with(backend, &[("TRUST_EMAIL", "true")]).await;
    let server = &world.server;
    server.register("ann").await;
    let user = users::find(&server.app, "ann").await.expect("a user");
    let log_in = async |more: Value| -> bool {
        let mut browser = server.browser();
        world.log_in(&mut browser, "/login/upstream/acme", more).await;
        account(&mut browser).await.as_deref() == Some("ann")
    };
    let verified = json!({ "email": "Ann@example.org", "email_verified": true });
    assert!(!log_in(verified.clone()).await, "the address is not verified here");
    super::verify_address(server, &user.id).await;
    for unverified in [json!(false), json!(null), json!("true"), json!(1)] {
        let more = json!({ "email": "ann@example.org", "email_verified": unverified });
        assert!(!log_in(more).await, "{unverified}");
    }
    assert!(log_in(verified).await);
    // A new user of such a provider has a verified address, and only with this address.
    let mut vera = server.browser();
    world.register(&mut vera, json!({ "sub": "v" })).await;
    assert!(users::find(&server.app, "vera").await.expect("a user").is_verified);
    // In the provider's spelling: in another one it may be another mailbox.
    let mut mary = server.browser();
    let more = json!({ "sub": "m", "email": "mary@example.org" });
    let reply = world.log_in(&mut mary, "/login/upstream/acme", more).await;
    let page = mary.open(reply.header("location")).await.expect(StatusCode::OK);
    let typed = [("email", "MARY@example.org"), ("username", "mary")];
    mary.submit(&page, &typed).await.expect(StatusCode::SEE_OTHER);
    let user = users::find(&server.app, "mary").await.expect("a user");
    assert_eq!((user.email.as_str(), user.is_verified), ("mary@example.org", true));
}

async fn t221_a_login_completes_once_in_the_browser_that_began_it(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    world.register(&mut server.browser(), json!({})).await;
    let (mut eve, mut ann) = (server.browser(), server.browser());
    ann.open("/login").await;
    let sent = begin(&mut eve, "/login/upstream/acme").await;
    let callback = world.decide("acme", &sent, &json!({}));
    let requests = world.op.count("/acme/token");
    // Login CSRF: the attacker's answer in the browser of a victim, with and without cookies.
    for browser in [&mut ann, &mut server.browser()] {
        let reply = browser.open(&callback).await.expect(StatusCode::SEE_OTHER);
        assert_eq!(reply.header("location"), "/login?upstream=stale");
        assert_eq!(account(browser).await, None);
    }
    let page = ann.open("/login?upstream=stale").await;
    assert!(page.text.contains("Please start again"), "{page:?}");
    for bad in [
        callback.replace("state=", "state=A"),
        "/login/upstream/acme/callback?code=x".to_owned(),
        format!("/login/upstream/acme/callback?code=x&state={}", "A".repeat(4_000)),
    ] {
        let reply = eve.open(&bad).await.expect(StatusCode::SEE_OTHER);
        assert_eq!(reply.header("location"), "/login?upstream=stale");
    }
    assert_eq!(world.op.count("/acme/token"), requests, "no code was sent to the provider");
    let reply = eve.open(&callback).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), "/account");
    // The same answer again, although the provider takes the code again.
    let reply = eve.open(&callback).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), "/login?upstream=stale");
    // Too late.
    let sent = begin(&mut eve, "/login/upstream/acme").await;
    server.clock.advance(Duration::from_secs(601));
    let callback = world.decide("acme", &sent, &json!({}));
    let reply = eve.open(&callback).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), "/login?upstream=stale");
}

async fn t222_an_id_token_that_breaks_a_rule_logs_nobody_in(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    world.register(&mut server.browser(), json!({})).await;
    let mut browser = server.browser();
    let now = server.clock.now().as_secs();
    let cases = [
        json!({ "nonce": "another" }),
        json!({ "nonce": null }),
        json!({ "iss": "https://evil.example" }),
        json!({ "iss": null }),
        json!({ "aud": "another" }),
        json!({ "aud": [] }),
        json!({ "aud": ["propusk", "another"] }),
        json!({ "aud": ["propusk", "another"], "azp": "another" }),
        json!({ "azp": "another" }),
        json!({ "exp": now - 31 }),
        json!({ "exp": null }),
        json!({ "iat": now + 31 }),
        json!({ "iat": now - 601 }),
        json!({ "iat": null }),
        json!({ "nbf": now + 31 }),
        json!({ "auth_time": now + 31 }),
        json!({ "at_hash": "AAAAAAAAAAAAAAAAAAAAAA" }),
        json!({ "sub": "" }),
        json!({ "sub": "a".repeat(256) }),
        json!({ "sub": "a\u{0}" }),
        json!({ "sub": null }),
    ];
    let failed = async |browser: &mut crate::support::oauth::Browser<'_>, callback: &str| {
        let reply = browser.open(callback).await.expect(StatusCode::SEE_OTHER);
        assert_eq!(reply.header("location"), "/login?upstream=failed");
        assert_eq!(account(browser).await, None);
    };
    for more in cases {
        let sent = begin(&mut browser, "/login/upstream/acme").await;
        let callback = world.decide("acme", &sent, &more);
        failed(&mut browser, &callback).await;
    }
    // Signed by another key, not at all, with the client secret, or as another kind of token.
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for case in ["key", "none", "hmac", "typ", "changed"] {
        let sent = begin(&mut browser, "/login/upstream/acme").await;
        let claims = world.claims("acme", &sent, &json!({}));
        let idp = &world.idps["acme"];
        let token = match case {
            "key" => Idp::new(idp.issuer).sign(&json!({ "alg": "ES256" }), &claims),
            "none" => format!("{}.{}.", part(&json!({ "alg": "none" })), part(&claims)),
            "hmac" => {
                let secret = "canary".repeat(8);
                let message = format!("{}.{}", part(&json!({ "alg": "HS256" })), part(&claims));
                let signer = jws::HS256.signer_from_bytes(&secret).expect("a signer");
                let signature = signer.sign(message.as_bytes()).expect("a signature");
                format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
            }
            "typ" => idp.sign(&json!({ "alg": "ES256", "typ": "logout+jwt" }), &claims),
            _ => {
                let signed = idp.sign(&json!({ "alg": "ES256" }), &claims);
                let parts: Vec<_> = signed.split('.').collect();
                let mut other = claims.clone();
                other["sub"] = "eve".into();
                format!("{}.{}.{}", parts[0], part(&other), parts[2])
            }
        };
        world.grant("acme", &token);
        failed(&mut browser, &world.callback("acme", &sent)).await;
    }
    // UserInfo about another person.
    let info = json!({ "sub": "other", "email": "x@example.org" });
    world.op.put("/acme/userinfo", 200, "", info.to_string());
    let sent = begin(&mut browser, "/login/upstream/acme").await;
    let callback = world.decide("acme", &sent, &json!({ "email": null }));
    failed(&mut browser, &callback).await;
    // Unknown keys cause one request in 30 seconds.
    assert_eq!(world.op.count("/acme/jwks"), 1);
}

async fn t223_the_code_of_one_provider_never_goes_to_another(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    let mut browser = server.browser();
    let acme = begin(&mut browser, "/login/upstream/acme").await;
    let beta = begin(&mut browser, "/login/upstream/beta").await;
    assert_ne!(acme["redirect_uri"], beta["redirect_uri"]);
    world.decide("acme", &acme, &json!({}));
    world.decide("beta", &beta, &json!({}));
    // The state of one provider at the redirect URI of the other.
    for (name, sent) in [("acme", &beta), ("beta", &acme)] {
        let callback = world.callback(name, sent);
        let reply = browser.open(&callback).await.expect(StatusCode::SEE_OTHER);
        assert_eq!(reply.header("location"), "/login?upstream=stale");
    }
    // `iss` is that of the provider; `beta` announces that it is always there.
    let issuer = url::form_urlencoded::byte_serialize(world.idps["beta"].issuer.as_bytes());
    let iss = format!("&iss={}", issuer.collect::<String>());
    let right = world.callback("beta", &beta);
    for bad in [right.replace(&iss, ""), right.replace(&iss, "&iss=https%3A%2F%2Fevil.example")] {
        assert_ne!(bad, right);
        let reply = browser.open(&bad).await.expect(StatusCode::SEE_OTHER);
        assert_eq!(reply.header("location"), "/login?upstream=failed");
    }
    assert_eq!((world.op.count("/acme/token"), world.op.count("/beta/token")), (0, 0));
    let reply = browser.open(&right).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), "/login/identity");
    assert_eq!((world.op.count("/acme/token"), world.op.count("/beta/token")), (0, 1));
}

/// The path of the metadata of `acme`.
const METADATA: &str = "/acme/.well-known/openid-configuration";

async fn t224_a_provider_that_misbehaves_affects_no_other_login(backend: Backend) {
    let world = World::with(backend, &[("TIMEOUT", "300ms")]).await;
    let server = &world.server;
    server.register("ann").await;
    let mut browser = server.browser();
    let failed = async |browser: &mut crate::support::oauth::Browser<'_>| {
        let reply = browser.open("/login/upstream/acme").await.expect(StatusCode::SEE_OTHER);
        assert_eq!(reply.header("location"), "/login?upstream=failed");
    };
    // Metadata of another issuer, which would be believed to be this one.
    let evil = json!({
        "issuer": "https://evil.example", "authorization_endpoint": "https://evil.example/a",
        "token_endpoint": "https://evil.example/t", "jwks_uri": "https://evil.example/k",
    });
    let bodies = [(200, evil.to_string()), (200, "<html>".to_owned()), (500, "{}".to_owned())];
    for (status, body) in bodies {
        world.op.put(METADATA, status, "", body);
        failed(&mut browser).await;
        server.clock.advance(Duration::from_secs(31));
    }
    world.op.silence(METADATA);
    failed(&mut browser).await;
    let asked = world.op.count(METADATA);
    // At most every 30 seconds; the pages and the other provider do not wait for it at all.
    #[allow(clippy::disallowed_methods)]
    let began = Instant::now();
    for _ in 0..20 {
        failed(&mut browser).await;
        let page = browser.open("/login").await.expect(StatusCode::OK);
        assert!(page.text.contains("upstream-acme") && page.text.contains("upstream-beta"));
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(world.op.count(METADATA), asked);
    server.login("ann").await.expect(StatusCode::OK);
    begin(&mut browser, "/login/upstream/beta").await;
    // A token endpoint that is silent.
    let sent = begin(&mut browser, "/login/upstream/beta").await;
    world.op.silence("/beta/token");
    let reply = browser.open(&world.callback("beta", &sent)).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), "/login?upstream=failed");
    browser.open("/login/upstream/none").await.expect_page(404);
}

async fn t225_return_to_leads_to_this_server_only(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    world.register(&mut server.browser(), json!({})).await;
    for evil in [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/login/identity?return_to=https://evil.example",
        "/account/security/../../evil",
        "javascript:alert(1)",
    ] {
        let query: String = url::form_urlencoded::byte_serialize(evil.as_bytes()).collect();
        let mut browser = server.browser();
        let start = format!("/login/upstream/acme?return_to={query}");
        let reply = world.log_in(&mut browser, &start, json!({})).await;
        let location = reply.header("location");
        assert!(["/account", "/login/identity"].contains(&location), "{evil}: {location}");
    }
}

async fn t226_an_identity_is_linked_by_the_user_of_the_account_only(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    for name in ["ann", "eve"] {
        server.register(name).await;
    }
    let (mut ann, mut eve) = (server.logged_in("ann").await, server.logged_in("eve").await);
    // Who is not logged in, logs in first.
    let reply = server.browser().open("/login/upstream/acme?link=1").await;
    assert!(reply.header("location").starts_with("/login?return_to="), "{reply:?}");
    // The attacker's answer in the browser of the victim.
    let sent = begin(&mut eve, "/login/upstream/acme?link=1").await;
    let callback = world.decide("acme", &sent, &json!({ "sub": "eve-1" }));
    let reply = ann.open(&callback).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), "/login?upstream=stale");
    eve.open(&callback).await.expect(StatusCode::SEE_OTHER);
    // The form is valid in its own session only, and not without its token.
    let page = eve.open("/login/identity").await.expect(StatusCode::OK);
    let form = Form::of(&page.text);
    assert_eq!(form.action, "/login/identity/link");
    for (name, value) in &eve.cookies {
        if name.contains("identity") {
            ann.cookies.insert(name.clone(), value.clone());
        }
    }
    let foreign = ann.submit_form(form.clone(), &[]).await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    let mut bare = form.clone();
    bare.hidden.clear();
    let forged = eve.submit_form(bare, &[]).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
    assert_eq!(world.linked().await, []);
    eve.submit_form(form, &[]).await.expect(StatusCode::SEE_OTHER);
    let of_eve = [("eve@example.org".to_owned(), "eve-1".to_owned())];
    assert_eq!(world.linked().await, of_eve);
    // An identity of one user is linked to no other, and logs nobody else in meanwhile.
    let more = json!({ "sub": "eve-1" });
    let reply = world.log_in(&mut ann, "/login/upstream/acme?link=1", more).await;
    assert_eq!(reply.header("location"), "/account/security?upstream=taken");
    assert_eq!(account(&mut ann).await.as_deref(), Some("ann"));
    assert_eq!(world.linked().await, of_eve);
    // The only way to log in stays.
    let mut vera = server.browser();
    world.register(&mut vera, json!({})).await;
    let page = vera.open("/account/security").await.expect(StatusCode::OK);
    let kept = vera.submit(&page, &[]).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(kept.header("location"), "/account/security?upstream=last");
    let page = vera.open(kept.header("location")).await.expect(StatusCode::OK);
    assert!(page.text.contains("the only way to log in"), "{page:?}");
    assert_eq!(world.linked().await.len(), 2);
}

async fn t232_a_new_user_of_a_provider_needs_an_invitation(backend: Backend) {
    let mode = ("PROPUSK_REGISTRATION__MODE", "invitation");
    let world = World::with(backend, &[mode, MAILS, ("REGISTRATION", "true")]).await;
    let server = &world.server;
    let registers = async |browser: &mut Browser<'_>, start: &str, sub: &str| {
        let reply = world.log_in(browser, start, json!({ "sub": sub })).await;
        assert_eq!(reply.header("location"), "/login/identity");
        browser.open("/login/identity").await.expect(StatusCode::OK)
    };
    let mut eve = server.browser();
    let page = registers(&mut eve, "/login/upstream/acme", "eve").await;
    assert!(!page.text.contains("/login/identity/register"), "{page:?}");
    assert!(page.text.contains("id=\"log-in\""), "{page:?}");
    // An outdated form registers no user either, and a guessed token is no invitation.
    let link = Form::of(&server.browser().open("/login").await.text);
    let form = Form { action: "/login/identity/register".to_owned(), ..link };
    let typed = [("email", "eve@example.org"), ("invitation", "x")];
    assert!(eve.submit_form(form, &typed).await.status.is_client_error());
    let guess = format!("/login/upstream/acme?invitation={}", "A".repeat(43));
    let page = registers(&mut server.browser(), &guess, "eve").await;
    assert!(!page.text.contains("/login/identity/register"), "{page:?}");

    // It travels from the registration page through the provider; its address cannot be changed.
    let new = NewInvitation {
        email: Some("vera@example.org".to_owned()),
        language: None,
        role: Role::user(),
        modules: vec![],
        ttl: None,
    };
    let created = invitations::create(&server.app, new, None, &Actor::operator()).await;
    created.expect("an invitation");
    let mail = server.mail_to("vera@example.org").await;
    let mut vera = server.browser();
    let page = vera.open(&mail.path()).await.expect(StatusCode::OK);
    let (_, link) = page.text.split_once("id=\"upstream-acme\" href=\"").expect("a link");
    let link = link.split('"').next().expect("a URL").replace("&#38;", "&");
    let page = registers(&mut vera, &link, "vera").await;
    assert!(page.text.contains("value=\"vera@example.org\""), "{page:?}");
    let other = vera.submit(&page, &[("email", "eve@example.org")]).await.expect_page(400);
    let typed = [("email", "vera@example.org"), ("username", "vera")];
    vera.submit(&other, &typed).await.expect(StatusCode::SEE_OTHER);
    let user = users::find(&server.app, "vera").await.expect("a user");
    assert!(user.is_verified, "the invitation came by mail");
    // Once.
    let page = registers(&mut server.browser(), &link, "nora").await;
    assert!(!page.text.contains("/login/identity/register"), "{page:?}");

    // A provider that vouches for its users.
    let vouching = [mode, ("REGISTRATION_WITHOUT_INVITATION", "true")];
    let world = World::with(backend, &vouching).await;
    world.register(&mut world.server.browser(), json!({})).await;
    let reply = world.server.browser().open("/register").await;
    reply.expect_page(403);
}

//! What operators do on the administration pages: find out why a request was denied, rotate and ban
//! keys, revoke, and manage events, webhooks and mails.

use std::time::Duration;

use propusk::{clock::Timestamp, model::actor::Actor, storage::audit};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::administrator;
use crate::support::{
    Backend, PASSWORD, Reply, TestServer, backend_tests,
    chromium::until,
    external_server::ExternalServer,
    mail::MAILS,
    oauth::{Browser, Form, header, payload},
    send,
};

/// What a caller may try to run in an administrator's browser.
const SCRIPT: &str = "<script>alert(1)</script>";
/// The same as a page shows it.
const ESCAPED: &str = "&#60;script&#62;alert(1)&#60;/script&#62;";

/// Every page of this part.
const PAGES: [&str; 11] = [
    "/admin",
    "/admin/explain",
    "/admin/audit",
    "/admin/keys",
    "/admin/revocations",
    "/admin/revocations/new",
    "/admin/sessions",
    "/admin/service-tokens",
    "/admin/events",
    "/admin/events/mails",
    "/admin/events/webhooks",
];

backend_tests! {
    a_refused_login_is_in_the_audit_log_and_explained,
    a_key_is_rotated_and_banned_on_its_page,
    a_session_is_revoked_from_the_list_that_shows_it,
    tokens_are_revoked_with_a_reason_that_is_text,
    a_webhook_is_added_tested_changed_and_deleted,
    filters_and_pages_of_a_list_keep_each_other,
    events_and_mails_are_listed_with_their_users,
    a_user_of_a_back_end_gets_and_loses_a_module,
    every_page_is_in_both_languages,
    the_overview_says_what_is_wrong,
}

/// Opens a page that must be there.
async fn page(browser: &mut Browser<'_>, path: &str) -> Reply {
    browser.open(path).await.expect(StatusCode::OK)
}

/// Sends the form of a page that does this, with what is typed.
async fn act(browser: &mut Browser<'_>, on: &Reply, action: &str, typed: &[(&str, &str)]) -> Reply {
    browser.submit_form(Form::that_does(&on.text, action), typed).await
}

/// The path in a link or button of a page, as it is sent.
fn link(page: &Reply, start: &str) -> Option<String> {
    let rest = page.text.split(&format!("href=\"{start}")).nth(1)?.split('"').next()?;
    Some(format!("{start}{rest}").replace("&#38;", "&").replace("&amp;", "&"))
}

/// The rows of the table that has the most.
fn rows(page: &Reply) -> usize {
    page.text.matches("<th scope=\"row\">").count()
}

async fn a_refused_login_is_in_the_audit_log_and_explained(backend: Backend) {
    let limits = [("PROPUSK_LIMITS__ENABLED", "true"), ("PROPUSK_LIMITS__ADDRESS_BURST", "1000")];
    let server = TestServer::with(backend, &limits).await;
    server.register("ann").await;
    let mut olga = administrator(&server).await;
    // After five wrong passwords each further one waits, which the audit log says.
    let wrong = json!({ "login": "ann", "password": "not at all the right one" });
    let first = server.post("/api/v1/auth/login", wrong.clone()).await;
    for _ in 0..4 {
        server
            .post("/api/v1/auth/login", wrong.clone())
            .await
            .expect_error(401, "INVALID_CREDENTIALS");
    }
    let entries = page(&mut olga, "/admin/audit?action=login.delayed").await;
    assert_eq!(rows(&entries), 1, "{entries:?}");
    assert!(entries.text.contains("127.0.0.1"), "{entries:?}");
    assert!(entries.text.contains("wrongPasswords: 5"), "{entries:?}");
    assert!(entries.text.contains("<bdi>ann</bdi></a>"), "the user by name: {entries:?}");
    let explained = link(&entries, "/admin/explain?id=").expect("a link to the request");
    let explained = page(&mut olga, &explained).await;
    assert!(explained.text.contains("wrong login or password"), "{explained:?}");
    // From there it leads back to what was recorded.
    let back = link(&explained, "/admin/audit?request_id=").expect("a link to the entries");
    let back = page(&mut olga, &back).await;
    assert_eq!(rows(&back), 1, "{back:?}");
    assert!(back.text.contains("login.delayed"), "{back:?}");

    // As an operator pastes it from a user's message.
    let id = first.header("x-request-id");
    let found = page(&mut olga, &format!("/admin/explain?id=%20{id}%20")).await;
    for part in ["POST /api/v1/auth/login", "INVALID_CREDENTIALS", "401", "127.0.0.1"] {
        assert!(found.text.contains(part), "{part}: {found:?}");
    }
    let unknown = olga.open("/admin/explain?id=nothing").await.expect(StatusCode::NOT_FOUND);
    assert!(unknown.text.contains("There is no denied request with this id."), "{unknown:?}");
    assert!(unknown.text.contains("168"), "kept for seven days: {unknown:?}");
    let none = page(&mut olga, "/admin/audit?request_id=nothing").await;
    assert_eq!(rows(&none), 0, "{none:?}");
    let by_address = page(&mut olga, "/admin/audit?action=login.delayed&address=192.0.2.1").await;
    assert_eq!(rows(&by_address), 0, "{by_address:?}");

    // What a caller has sent is text.
    let path = format!("/oauth2/authorize?client_id={SCRIPT}&response_type=code");
    let denied = server.get(&path).await;
    let id = denied.header("x-request-id");
    let shown = page(&mut olga, &format!("/admin/explain?id={id}")).await;
    assert!(!shown.text.contains(SCRIPT), "{shown:?}");
    let typed = olga.open(&format!("/admin/explain?id={SCRIPT}")).await;
    assert!(typed.text.contains(ESCAPED) && !typed.text.contains(SCRIPT), "{typed:?}");
}

async fn a_key_is_rotated_and_banned_on_its_page(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut olga = administrator(&server).await;
    let before = server.register("nora").await.access;
    let first = header(&before)["kid"].as_str().expect("a kid").to_owned();
    let keys = page(&mut olga, "/admin/keys").await;
    assert!(keys.text.contains(&first) && keys.text.contains("/oauth2/jwks"), "{keys:?}");

    let wrong = act(&mut olga, &keys, "rotate", &[("algorithm", "none")]).await;
    let wrong = wrong.expect(StatusCode::BAD_REQUEST);
    assert!(wrong.text.contains("must be ES256"), "{wrong:?}");
    let now = [("algorithm", "ES256"), ("at_once", "1")];
    let done = act(&mut olga, &keys, "rotate", &now).await.expect(StatusCode::SEE_OTHER);
    let keys = page(&mut olga, done.header("location")).await;
    assert!(keys.text.contains("New keys were created."), "{keys:?}");
    let after = server.login("nora").await.tokens().access;
    assert_ne!(header(&after)["kid"], first.as_str());
    server.verify(&before).await.expect(StatusCode::OK);

    // Not by accident, and not by another site.
    let asked = act(&mut olga, &keys, "ban", &[("key", &first)]).await;
    let asked = asked.expect(StatusCode::BAD_REQUEST);
    assert!(asked.text.contains("Tick the box to confirm."), "{asked:?}");
    let forged = Form { action: "/admin/keys".to_owned(), hidden: vec![] };
    let ban = [("action", "ban"), ("key", first.as_str()), ("confirm", "1")];
    olga.submit_form(forged, &ban).await.expect_page(403);
    server.verify(&before).await.expect(StatusCode::OK);

    let done = act(&mut olga, &asked, "ban", &[("key", &first), ("confirm", "1")]).await;
    let done = done.expect(StatusCode::SEE_OTHER);
    server.verify(&before).await.expect_error(401, "INVALID_TOKEN");
    server.verify(&after).await.expect(StatusCode::OK);
    let keys = page(&mut olga, done.header("location")).await;
    assert!(keys.text.contains("when the last cached JWKS expires"), "{keys:?}");
    let unknown = [("key", "nothing"), ("confirm", "1")];
    act(&mut olga, &keys, "ban", &unknown).await.expect_page(404);
    // `keys.jwks_max_age` and a minute later, no cache has it any more.
    server.clock.advance(Duration::from_secs(6 * 60));
    let keys = page(&mut olga, "/admin/keys").await;
    assert!(keys.text.contains("no cached JWKS has the key"), "{keys:?}");
    let entry = page(&mut olga, "/admin/audit?action=keys.ban").await;
    assert!(entry.text.contains("<bdi>olga</bdi></a>"), "{entry:?}");
    let listed = page(&mut olga, "/admin/revocations?kind=key").await;
    assert!(listed.text.contains(&first), "{listed:?}");
}

async fn a_session_is_revoked_from_the_list_that_shows_it(backend: Backend) {
    let server = TestServer::start(backend).await;
    let ann = server.register("ann").await;
    let bob = server.register("bob").await;
    let mut olga = administrator(&server).await;
    // A browser whose name is a script.
    let login = server.request(Method::POST, "/api/v1/auth/login").header("user-agent", SCRIPT);
    let body = json!({ "login": "ann", "password": PASSWORD });
    let other = send(login.json(&body)).await.tokens();

    let all = page(&mut olga, "/admin/sessions?live=true").await;
    assert!(all.text.contains("<bdi>bob</bdi></a>"), "{all:?}");
    let list = page(&mut olga, "/admin/sessions?user=ann&live=true").await;
    assert_eq!(rows(&list), 2, "{list:?}");
    assert!(!list.text.contains("<bdi>bob</bdi></a>"), "{list:?}");
    assert!(list.text.contains(ESCAPED) && !list.text.contains(SCRIPT), "{list:?}");
    // The newest is the first.
    let form = Form::that_does(&list.text, "revoke");
    assert_eq!(form.field("id"), payload(&other.access)["sid"].as_str().expect("a sid"));
    let done = olga.submit_form(form.clone(), &[]).await.expect(StatusCode::SEE_OTHER);
    let location = "/admin/sessions?user=ann&live=true&done=session-at-client-revoked";
    assert_eq!(done.header("location"), location);
    server.verify(&other.access).await.expect_error(401, "INVALID_TOKEN");
    server.refresh(&other.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    for tokens in [&ann, &bob] {
        server.verify(&tokens.access).await.expect(StatusCode::OK);
    }
    let list = page(&mut olga, location).await;
    assert!(list.text.contains("The session was revoked."), "{list:?}");
    assert_eq!(rows(&list), 1, "{list:?}");
    let ended = page(&mut olga, "/admin/sessions?user=ann&live=false").await;
    assert!(ended.text.contains("revoked_by_admin"), "{ended:?}");
    // Filters by unknown users, and those that redirect.
    let nobody = olga.open("/admin/sessions?user=zoe").await.expect(StatusCode::BAD_REQUEST);
    assert!(nobody.text.contains("there is no user"), "{nobody:?}");
    let filters = [("filters", "//evil.example/?user=ann")];
    let done = olga.submit_form(form.clone(), &filters).await.expect(StatusCode::SEE_OTHER);
    assert!(done.header("location").starts_with("/admin/sessions?"), "{done:?}");
    olga.submit_form(form, &[("id", "nothing")]).await.expect_page(404);
}

async fn tokens_are_revoked_with_a_reason_that_is_text(backend: Backend) {
    let server = TestServer::start(backend).await;
    let ann = server.register("ann").await;
    let sub = payload(&ann.access)["sub"].as_str().expect("a sub").to_owned();
    let mut olga = administrator(&server).await;
    // As a link from the user's page fills it in.
    let path = format!("/admin/revocations/new?kind=subject&target={sub}");
    let form = page(&mut olga, &path).await;
    assert!(form.text.contains(&format!("value=\"{sub}\"")), "{form:?}");
    let fields = |kind, confirm| {
        [("kind", kind), ("target", sub.as_str()), ("reason", SCRIPT), ("confirm", confirm)]
    };
    let unconfirmed = act(&mut olga, &form, "revoke", &fields("subject", "")).await;
    let unconfirmed = unconfirmed.expect(StatusCode::BAD_REQUEST);
    assert!(unconfirmed.text.contains(&sub), "what was typed stays: {unconfirmed:?}");
    let no_scope = act(&mut olga, &form, "revoke", &fields("scope", "1")).await;
    let no_scope = no_scope.expect(StatusCode::BAD_REQUEST);
    assert!(no_scope.text.contains("Give a scope"), "{no_scope:?}");
    act(&mut olga, &form, "revoke", &fields("key", "1")).await.expect(StatusCode::BAD_REQUEST);
    server.verify(&ann.access).await.expect(StatusCode::OK);

    let done = act(&mut olga, &form, "revoke", &fields("subject", "1")).await;
    let done = done.expect(StatusCode::SEE_OTHER);
    assert_eq!(done.header("location"), "/admin/revocations?done=revocation-created");
    server.verify(&ann.access).await.expect_error(401, "INVALID_TOKEN");
    for path in [
        format!("/admin/revocations?kind=subject&target={sub}"),
        "/admin/audit?action=revocation.add".to_owned(),
    ] {
        let shown = page(&mut olga, &path).await;
        assert_eq!(rows(&shown), 1, "{shown:?}");
        assert!(shown.text.contains(ESCAPED) && !shown.text.contains(SCRIPT), "{shown:?}");
        assert!(shown.text.contains("<bdi>ann</bdi></a>"), "{shown:?}");
    }
    let others = page(&mut olga, "/admin/revocations?kind=client").await;
    assert_eq!(rows(&others), 0, "{others:?}");
    olga.open("/admin/revocations?kind=nothing").await.expect(StatusCode::BAD_REQUEST);
    // The session goes on with new tokens.
    server.clock.advance(Duration::from_secs(2));
    let next = server.refresh(&ann.refresh).await.tokens();
    server.verify(&next.access).await.expect(StatusCode::OK);
}

/// A server that delivers events to this one.
async fn with_webhooks(backend: Backend, external: &ExternalServer) -> TestServer {
    let own = [("PROPUSK_WEBHOOKS__ENABLED", "true".to_owned())];
    let settings: Vec<_> = external.settings().into_iter().chain(own).collect();
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    TestServer::with(backend, &settings).await
}

async fn a_webhook_is_added_tested_changed_and_deleted(backend: Backend) {
    const HOOK: &str = "/admin/events/webhooks/crm";
    let external = ExternalServer::start().await;
    let server = with_webhooks(backend, &external).await;
    let mut olga = administrator(&server).await;
    external.put("/hook", 200, "", "");
    let url = format!("{}/hook", external.base);
    let list = page(&mut olga, "/admin/events/webhooks").await;
    let wrong = [("id", "crm"), ("url", &*url), ("eventTypes", "user.created\nuser.nothing")];
    let refused = act(&mut olga, &list, "add", &wrong).await.expect(StatusCode::BAD_REQUEST);
    assert!(refused.text.contains("unknown type") && refused.text.contains(&url), "{refused:?}");
    let right = [("id", "crm"), ("url", &*url), ("eventTypes", "user.created\r\nuser.deleted")];
    let added = act(&mut olga, &list, "add", &right).await.expect(StatusCode::OK);
    let secret = secret_in(&added).expect("the secret").to_owned();
    assert!(added.header("cache-control").contains("no-store"), "{added:?}");
    // Once.
    for path in ["/admin/events/webhooks", HOOK, "/admin/audit?action=webhook.add"] {
        let shown = page(&mut olga, path).await;
        assert!(shown.text.contains("crm"), "{shown:?}");
        assert_eq!(secret_in(&shown), None, "{path}");
    }

    let hook = page(&mut olga, HOOK).await;
    let tested = act(&mut olga, &hook, "test", &[]).await.expect(StatusCode::OK);
    assert!(tested.text.contains("Accepted"), "{tested:?}");
    assert!(external.posted("/hook").expect("a request").contains("webhook.test"));
    external.put("/hook", 500, "", "");
    let tested = act(&mut olga, &hook, "test", &[]).await.expect(StatusCode::OK);
    assert!(tested.text.contains("Not accepted"), "{tested:?}");
    external.put("/hook", 200, "", "");

    // An event, and the same one again.
    server.clock.advance(Duration::from_secs(1));
    server.register("ann").await;
    let delivered = format!("{HOOK}?state=delivered&type=user.created");
    let seen = external.count("/hook");
    until("the event is delivered", || async {
        server.app.webhooks_waiting.notify_one();
        (external.count("/hook") > seen).then_some(())
    })
    .await;
    let mut with_delivery = page(&mut olga, &delivered).await;
    for _ in 0..200 {
        if rows(&with_delivery) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        with_delivery = page(&mut olga, &delivered).await;
    }
    let seen = external.count("/hook");
    let resent = act(&mut olga, &with_delivery, "resend", &[]).await;
    assert_eq!(
        resent.expect(StatusCode::SEE_OTHER).header("location"),
        format!("{HOOK}?done=webhook-resent")
    );
    until("the event is delivered again", || async {
        server.app.webhooks_waiting.notify_one();
        (external.count("/hook") > seen).then_some(())
    })
    .await;

    // A change applies to the state that was shown.
    let change = [("url", &*url), ("description", "The <b>CRM</b>"), ("eventTypes", "")];
    let done = act(&mut olga, &hook, "settings", &change).await.expect(StatusCode::SEE_OTHER);
    let changed = page(&mut olga, done.header("location")).await;
    assert!(changed.text.contains("The &#60;b&#62;CRM"), "{changed:?}");
    let stale = act(&mut olga, &hook, "settings", &change).await;
    stale.expect(StatusCode::PRECONDITION_FAILED);
    let gone = act(&mut olga, &hook, "delete", &[("confirm", "1")]).await;
    gone.expect(StatusCode::PRECONDITION_FAILED);

    let long = act(&mut olga, &changed, "rotate", &[("overlapSeconds", "9999999")]).await;
    let long = long.expect(StatusCode::BAD_REQUEST);
    assert!(long.text.contains("must be at most 30 days"), "{long:?}");
    let rotated = act(&mut olga, &changed, "rotate", &[("overlapSeconds", "60")]).await;
    let rotated = rotated.expect(StatusCode::OK);
    assert_ne!(secret_in(&rotated).expect("another secret"), secret);
    let disabled = act(&mut olga, &rotated, "disable", &[]).await.expect(StatusCode::SEE_OTHER);
    let disabled = page(&mut olga, disabled.header("location")).await;
    assert_eq!(secret_in(&disabled), None);
    let enabled = act(&mut olga, &disabled, "enable", &[]).await.expect(StatusCode::SEE_OTHER);
    let enabled = page(&mut olga, enabled.header("location")).await;
    let kept = act(&mut olga, &enabled, "delete", &[]).await.expect(StatusCode::BAD_REQUEST);
    let deleted = act(&mut olga, &kept, "delete", &[("confirm", "1")]).await;
    let deleted = deleted.expect(StatusCode::SEE_OTHER);
    assert_eq!(deleted.header("location"), "/admin/events/webhooks?done=webhook-deleted");
    olga.open(HOOK).await.expect_page(404);
}

/// The secret of a webhook on a page.
fn secret_in(page: &Reply) -> Option<&str> {
    let start = page.text.find("whsec_")?;
    page.text[start..].split('<').next()
}

async fn filters_and_pages_of_a_list_keep_each_other(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut olga = administrator(&server).await;
    let (by, now) = (Actor::operator(), server.clock.now());
    for number in 0..60 {
        let at = Timestamp(now.micros() + number);
        let detail = json!({ "number": number, "role": { "from": "user", "to": "admin" } });
        audit::add(&server.app.db, &by, "test.one", "a thing", detail, at).await.expect("added");
        audit::add(&server.app.db, &by, "test.other", "a thing", json!({}), at)
            .await
            .expect("added");
    }
    let first = page(&mut olga, "/admin/audit?action=test.one&subject=a+thing").await;
    assert_eq!(rows(&first), 50, "{first:?}");
    assert!(first.text.contains("number: 59") && !first.text.contains("number: 9<"), "{first:?}");
    assert!(first.text.contains("role.from: user"), "{first:?}");
    assert!(!first.text.contains("test.other"), "{first:?}");
    let next = link(&first, "/admin/audit?subject").expect("more");
    assert!(next.contains("action=test.one") && next.contains("subject=a+thing"), "{next}");
    let second = page(&mut olga, &next).await;
    assert_eq!(rows(&second), 10, "{second:?}");
    assert!(second.text.contains("number: 9<") && second.text.contains("number: 0<"), "{second:?}");
    assert!(!second.text.contains("test.other"), "{second:?}");
    assert!(second.text.contains("value=\"test.one\""), "the form has the filter: {second:?}");
    assert!(!second.text.contains("class=\"more\""), "that was all: {second:?}");

    // Times as the page shows them.
    for (query, count) in [
        ("from=2026-11-21", 50),
        ("from=2030-01-01", 0),
        ("to=2026-11-20", 0),
        ("from=2026-11-20&to=2026-11-21T23:00:00Z", 50),
        ("from=2026-11-20+10:00&to=2026-11-22+10:00", 50),
    ] {
        let found = page(&mut olga, &format!("/admin/audit?{query}")).await;
        assert_eq!(rows(&found), count, "{query}");
    }
    let wrong = olga.open("/admin/audit?from=yesterday&action=test.one").await;
    let wrong = wrong.expect(StatusCode::BAD_REQUEST);
    assert!(wrong.text.contains("value=\"yesterday\""), "{wrong:?}");
    assert_eq!(rows(&wrong), 0, "nothing that was not asked for: {wrong:?}");
    let long = "x".repeat(600);
    olga.open(&format!("/admin/audit?action={long}")).await.expect(StatusCode::BAD_REQUEST);
}

async fn events_and_mails_are_listed_with_their_users(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    server.register("ann").await;
    server.mails().await;
    let mut olga = administrator(&server).await;
    let events = page(&mut olga, "/admin/events?type=user.created").await;
    assert!(events.text.contains("<bdi>ann</bdi></a>"), "{events:?}");
    assert!(events.text.contains("username: ann"), "{events:?}");
    assert!(!events.text.contains("session.created"), "{events:?}");
    let refused = page(&mut olga, "/admin/events?refused=1").await;
    assert_eq!(rows(&refused), 0, "{refused:?}");
    let mails = page(&mut olga, "/admin/events/mails?state=sent").await;
    assert!(mails.text.contains("verify_email"), "{mails:?}");
    assert!(mails.text.contains("<bdi>ann</bdi></a>"), "{mails:?}");
    assert!(!mails.text.contains("ann@"), "no recipient: {mails:?}");
    let failed = page(&mut olga, "/admin/events/mails?state=failed").await;
    assert_eq!(rows(&failed), 0, "{failed:?}");
    olga.open("/admin/events/mails?state=suppressed").await.expect(StatusCode::BAD_REQUEST);
}

async fn a_user_of_a_back_end_gets_and_loses_a_module(backend: Backend) {
    const SUBJECT: &str = "/admin/subjects?subject=shop%3A4711";
    let server = TestServer::start(backend).await;
    server.module("crm", "crm:read", None, false).await;
    let mut olga = administrator(&server).await;
    let wrong = olga.open("/admin/subjects?subject=ann").await.expect(StatusCode::BAD_REQUEST);
    assert!(wrong.text.contains("This is not the sub"), "{wrong:?}");
    let empty = page(&mut olga, SUBJECT).await;
    let refused = [("module", "crm"), ("validUntil", "next week")];
    let refused = act(&mut olga, &empty, "grant", &refused).await.expect(StatusCode::BAD_REQUEST);
    assert!(refused.text.contains("value=\"next week\""), "{refused:?}");
    let given = [("module", "crm"), ("validUntil", "2027-01-31")];
    let done = act(&mut olga, &empty, "grant", &given).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(done.header("location"), format!("{SUBJECT}&done=subject-granted"));
    let api = server.admin_as("olga").await;
    let grants = api.get("/subjects/shop:4711/grants").await.data();
    assert_eq!(grants[0]["validUntil"], "2027-01-31T00:00:00Z");
    let granted = page(&mut olga, done.header("location")).await;
    assert_eq!(rows(&granted), 2, "now and in the history: {granted:?}");
    let done = act(&mut olga, &granted, "withdraw", &[]).await.expect(StatusCode::SEE_OTHER);
    let withdrawn = page(&mut olga, done.header("location")).await;
    assert_eq!(rows(&withdrawn), 1, "in the history: {withdrawn:?}");
    assert_eq!(api.get("/subjects/shop:4711/grants").await.data(), json!([]));
    let kept = act(&mut olga, &withdrawn, "log-out", &[]).await.expect(StatusCode::BAD_REQUEST);
    let done = act(&mut olga, &kept, "log-out", &[("confirm", "1")]).await;
    assert_eq!(
        done.expect(StatusCode::SEE_OTHER).header("location"),
        format!("{SUBJECT}&done=subject-logged-out")
    );
}

async fn every_page_is_in_both_languages(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut olga = administrator(&server).await;
    let subject = "/admin/subjects?subject=shop:1";
    for path in PAGES.into_iter().chain([subject]) {
        for (language, word) in [("en", "Administration"), ("ru", "Администрирование")]
        {
            let mark = if path.contains('?') { '&' } else { '?' };
            let shown = page(&mut olga, &format!("{path}{mark}lang={language}")).await;
            assert!(shown.text.contains(&format!("<html lang=\"{language}\"")), "{shown:?}");
            assert!(shown.text.contains(word), "{path}: {shown:?}");
            assert!(!shown.text.contains(">op-"), "a text is missing on {path}: {shown:?}");
        }
    }
    // A link and a form lead to every page of this part but those that a list leads to.
    let mut reached = String::new();
    for path in PAGES {
        reached += &page(&mut olga, path).await.text;
    }
    for path in PAGES.into_iter().chain(["/admin/subjects"]) {
        let leads = [format!("href=\"{path}\""), format!("action=\"{path}\"")];
        assert!(leads.iter().any(|lead| reached.contains(lead)), "nothing leads to {path}");
    }
}

async fn the_overview_says_what_is_wrong(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = with_webhooks(backend, &external).await;
    let mut olga = administrator(&server).await;
    let well = page(&mut olga, "/admin").await;
    assert!(well.text.contains("Nothing needs your attention."), "{well:?}");
    let kind = if backend == Backend::Sqlite { "sqlite" } else { "postgres" };
    assert!(well.text.to_lowercase().contains(kind), "{well:?}");
    assert!(well.text.contains("ES256: 2027-"), "the next rotation: {well:?}");
    assert!(well.text.contains("name=\"login\"") && well.text.contains("name=\"id\""), "{well:?}");

    // An endpoint that is gone for good.
    external.put("/hook", 410, "", "");
    let api = server.admin_as("olga").await;
    let url = format!("{}/hook", external.base);
    let body = json!({ "id": "crm", "settings": { "url": url } });
    api.post("/webhooks", body).await.expect(StatusCode::CREATED);
    server.clock.advance(Duration::from_secs(1));
    server.register("ann").await;
    until("it is disabled", || async {
        server.app.webhooks_waiting.notify_one();
        let webhook = api.get("/webhooks/crm").await.data();
        (webhook["disabledFor"] == "gone").then_some(())
    })
    .await;
    let wrong = page(&mut olga, "/admin").await;
    assert!(wrong.text.contains("A webhook was disabled because"), "{wrong:?}");
    assert!(!wrong.text.contains("Nothing needs your attention."), "{wrong:?}");
    let hook = page(&mut olga, "/admin/events/webhooks").await;
    assert!(hook.text.contains("gone"), "{hook:?}");
    external.put("/hook", 200, "", "");
    let enabled = page(&mut olga, "/admin/events/webhooks/crm").await;
    act(&mut olga, &enabled, "enable", &[]).await.expect(StatusCode::SEE_OTHER);
    let well = page(&mut olga, "/admin").await;
    assert!(well.text.contains("Nothing needs your attention."), "{well:?}");
}

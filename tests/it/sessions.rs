//! Sessions and their refresh chain: retries, reuse, races, expiry, revocation.

use std::{collections::HashSet, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use propusk::{
    flows::{
        admin::{bootstrap, users},
        maintenance,
    },
    model::{actor::Actor, user::Role},
    storage::Statement,
};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Backend, Reply, TestServer, Tokens, backend_tests};

const DAY: Duration = Duration::from_secs(86_400);
const LATE: Duration = Duration::from_secs(11); // behind the replay window

/// The session's generation and the number of sessions.
async fn generation(server: &TestServer) -> i64 {
    let rows =
        server.app.db.read(Statement::new("SELECT generation FROM sessions")).await.expect("rows");
    assert_eq!(rows.len(), 1, "one session");
    rows[0].get("generation").expect("a number")
}

async fn parallel_refreshes(servers: &[&TestServer], token: &str) -> Vec<Reply> {
    join_all((0..100).map(|n| servers[n % servers.len()].refresh(token))).await
}

fn successors(replies: Vec<Reply>) -> HashSet<String> {
    replies.into_iter().map(|reply| reply.expect(StatusCode::OK).tokens().refresh).collect()
}

async fn assert_revoked(server: &TestServer, tokens: &Tokens) {
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    server.refresh(&tokens.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
}

async fn assert_active(server: &TestServer, tokens: &Tokens) -> Tokens {
    server.verify(&tokens.access).await.expect(StatusCode::OK);
    server.refresh(&tokens.refresh).await.expect(StatusCode::OK).tokens()
}

backend_tests! {
    an_idle_browser_session_ends,
    t25_100_parallel_refreshes_give_one_successor,
    t25_two_servers_agree_on_one_successor,
    t26_reuse_after_the_replay_window_revokes_the_session,
    t26_without_a_replay_window_every_reuse_revokes,
    t26_a_forged_token_of_an_active_session_has_no_effect,
    t28_only_the_direct_predecessor_is_accepted_in_the_window,
    t34_a_mutated_refresh_token_is_refused_without_effect,
    t35_every_login_opens_a_new_session,
    t36_a_password_change_revokes_every_session,
    t32_a_disabled_user_is_refused_by_every_server_at_once,
    a_logout_reaches_the_other_server_at_its_next_check,
    t29_a_logout_racing_refreshes_revokes_the_whole_family,
    t30_a_logout_that_cannot_be_stored_is_503,
    a_role_change_revokes_access_tokens_with_the_old_role,
    a_session_expires_after_its_idle_or_absolute_lifetime,
    an_access_token_expires,
    revocations_survive_a_restart_and_are_pruned_when_expired,
    the_outbox_and_the_audit_log_are_bounded,
    an_outdated_password_hash_is_upgraded_at_login,
    t79_bootstrap_happens_once_per_database,
    t42_tokens_of_one_kind_are_refused_as_another,
}

async fn t25_100_parallel_refreshes_give_one_successor(backend: Backend) {
    let server = TestServer::start(backend).await;
    let first = server.register("vera").await;
    let successors = successors(parallel_refreshes(&[&server], &first.refresh).await);
    assert_eq!(successors.len(), 1, "every answer carries the same successor");
    assert_eq!(generation(&server).await, 1);
    let only = successors.into_iter().next().expect("one");
    server.refresh(&only).await.expect(StatusCode::OK);
}

async fn t25_two_servers_agree_on_one_successor(backend: Backend) {
    let one = TestServer::start(backend).await;
    let other = one.another(&[]).await;
    let first = one.register("vera").await;
    let successors = successors(parallel_refreshes(&[&one, &other], &first.refresh).await);
    assert_eq!(successors.len(), 1);
    assert_eq!(generation(&one).await, 1);
}

async fn t26_reuse_after_the_replay_window_revokes_the_session(backend: Backend) {
    let server = TestServer::start(backend).await;
    let first = server.register("vera").await;
    let other = server.login("vera").await.tokens();
    let second = server.refresh(&first.refresh).await.tokens();
    server.clock.advance(LATE);
    server.refresh(&first.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    assert_revoked(&server, &second).await;
    server.verify(&first.access).await.expect_error(401, "INVALID_TOKEN");
    let events = server.events().await;
    let thefts: Vec<_> =
        events.iter().filter(|(_, data)| data["reason"] == "refresh_token_reuse").collect();
    assert_eq!(thefts.len(), 1, "{events:?}");
    assert_eq!(thefts[0].0, "session.revoked");
    assert_active(&server, &other).await;
}

async fn t26_without_a_replay_window_every_reuse_revokes(backend: Backend) {
    let server = TestServer::with(backend, &[("PROPUSK_TOKENS__REPLAY_WINDOW", "0s")]).await;
    let first = server.register("vera").await;
    let second = server.refresh(&first.refresh).await.tokens();
    server.refresh(&first.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    assert_revoked(&server, &second).await;
}

async fn t26_a_forged_token_of_an_active_session_has_no_effect(backend: Backend) {
    let server = TestServer::start(backend).await;
    let first = server.register("vera").await;
    let second = server.refresh(&first.refresh).await.tokens();
    let genuine = URL_SAFE_NO_PAD.decode(&second.refresh[4..]).expect("base64url");
    for (at, name) in [(3, "chain key"), (27, "generation"), (59, "secret")] {
        let mut made_up = genuine.clone();
        made_up[at] ^= 1;
        let token = format!("prt_{}", URL_SAFE_NO_PAD.encode(&made_up));
        let reply = server.refresh(&token).await;
        assert_eq!(reply.status, 401, "another {name}: {reply:?}");
    }
    assert_active(&server, &second).await;
    assert!(!server.events().await.iter().any(|(kind, _)| kind == "session.revoked"));
}

async fn t28_only_the_direct_predecessor_is_accepted_in_the_window(backend: Backend) {
    let server = TestServer::start(backend).await;
    for stale in [0, 1] {
        let mut chain = vec![server.register(&format!("user{stale}")).await];
        for _ in 0..3 {
            let last = chain.last().expect("a token").refresh.clone();
            chain.push(server.refresh(&last).await.expect(StatusCode::OK).tokens());
        }
        server.refresh(&chain[stale].refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
        assert_revoked(&server, &chain[3]).await;
    }
}

async fn t34_a_mutated_refresh_token_is_refused_without_effect(backend: Backend) {
    let server = TestServer::start(backend).await;
    let tokens = server.register("vera").await;
    let token = &tokens.refresh;
    let (upper, lower) = (token.to_uppercase(), token.to_lowercase());
    for bad in [
        &token[..83],
        &format!("{token}A"),
        &format!("{token}="),
        &format!(" {token}"),
        &upper,
        &lower,
        &token[4..],
        "",
    ] {
        server.refresh(bad).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    }
    let cut = &tokens.access[..tokens.access.len() - 1];
    for bad in [cut, &format!("{}A", tokens.access), &tokens.access.to_uppercase()] {
        server.verify(bad).await.expect_error(401, "INVALID_TOKEN");
    }
    assert_active(&server, &tokens).await;
}

async fn t35_every_login_opens_a_new_session(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("vera").await;
    let mut sessions = HashSet::new();
    for _ in 0..3 {
        let tokens = server.login("vera").await.tokens();
        let verified = server.verify(&tokens.access).await.json();
        sessions.insert(verified["data"]["sessionId"].as_str().expect("an id").to_owned());
    }
    assert_eq!(sessions.len(), 3);
}

async fn t36_a_password_change_revokes_every_session(backend: Backend) {
    let server = TestServer::start(backend).await;
    let (one, two) = (server.register("vera").await, server.login("vera").await.tokens());
    let anonymous = server.register("olga").await;
    let user = users::find(&server.app, "vera").await.expect("vera");
    users::set_password(&server.app, &user.id, "another long walk home", &Actor::operator())
        .await
        .expect("changed");
    assert_revoked(&server, &one).await;
    assert_revoked(&server, &two).await;
    server.login("vera").await.expect_error(401, "INVALID_CREDENTIALS");
    let body = json!({ "login": "vera", "password": "another long walk home" });
    let again = server.post("/api/v1/auth/login", body).await.expect(StatusCode::OK).tokens();
    assert_active(&server, &again).await;
    assert_active(&server, &anonymous).await;
}

async fn t32_a_disabled_user_is_refused_by_every_server_at_once(backend: Backend) {
    let one = TestServer::start(backend).await;
    let other = one.another(&[]).await;
    let tokens = one.register("vera").await;
    other.verify(&tokens.access).await.expect(StatusCode::OK);
    let user = users::find(&one.app, "vera@example.org").await.expect("vera");
    users::disable(&one.app, &user.id, &Actor::operator()).await.expect("disabled");
    for server in [&one, &other] {
        assert_revoked(server, &tokens).await;
        server.login("vera").await.expect_error(401, "INVALID_CREDENTIALS");
        let session =
            server.get_as("/api/v1/auth/session", &tokens.access).await.expect(StatusCode::OK);
        assert!(session.json()["data"].is_null());
    }
    users::enable(&other.app, &user.id, &Actor::operator()).await.expect("enabled");
    assert_revoked(&one, &tokens).await;
    let again = one.login("vera").await.expect(StatusCode::OK).tokens();
    assert_active(&other, &again).await;
}

async fn a_logout_reaches_the_other_server_at_its_next_check(backend: Backend) {
    let one = TestServer::start(backend).await;
    let other = one.another(&[]).await;
    for round in 0..20 {
        let tokens = one.register(&format!("user{round}")).await;
        other.verify(&tokens.access).await.expect(StatusCode::OK);
        one.post_as("/api/v1/auth/logout", &tokens.access).await.expect(StatusCode::OK);
        assert_revoked(&other, &tokens).await;
    }
}

async fn t29_a_logout_racing_refreshes_revokes_the_whole_family(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("vera").await;
    let mut raced = 0;
    for _ in 0..60 {
        let tokens = server.login("vera").await.tokens();
        let refreshes = join_all((0..4).map(|_| server.refresh(&tokens.refresh)));
        let (refreshed, out) =
            tokio::join!(refreshes, server.post_as("/api/v1/auth/logout", &tokens.access));
        out.expect(StatusCode::OK);
        for reply in refreshed.iter().filter(|reply| reply.status == StatusCode::OK) {
            assert_revoked(&server, &reply.tokens()).await;
            raced += 1;
        }
        assert_revoked(&server, &tokens).await;
    }
    assert!(raced > 0, "some refreshes come before the logout");
}

async fn t30_a_logout_that_cannot_be_stored_is_503(backend: Backend) {
    let server = TestServer::start(backend).await;
    let tokens = server.register("vera").await;
    let rename = Statement::new("ALTER TABLE revocations RENAME TO gone");
    server.app.db.write(rename).await.expect("renamed");
    server
        .post_as("/api/v1/auth/logout", &tokens.access)
        .await
        .expect_error(503, "SERVICE_UNAVAILABLE");
    let back = Statement::new("ALTER TABLE gone RENAME TO revocations");
    server.app.db.write(back).await.expect("renamed");
    assert_active(&server, &tokens).await;
}

async fn a_role_change_revokes_access_tokens_with_the_old_role(backend: Backend) {
    let server = TestServer::start(backend).await;
    let tokens = server.register("vera").await;
    let user = users::find(&server.app, "vera").await.expect("vera");
    users::set_role(&server.app, &user.id, Role::admin(), &Actor::operator())
        .await
        .expect("changed");
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    server.clock.advance(Duration::from_secs(2));
    let next = server.refresh(&tokens.refresh).await.expect(StatusCode::OK).tokens();
    assert_eq!(server.verify(&next.access).await.json()["data"]["user"]["role"], "admin");
}

async fn a_session_expires_after_its_idle_or_absolute_lifetime(backend: Backend) {
    let server = TestServer::start(backend).await;
    let idle = server.register("idle").await;
    let mut busy = server.register("busy").await;
    for day in 1..30 {
        server.clock.advance(DAY);
        let reply = server.refresh(&busy.refresh).await.expect(StatusCode::OK);
        let left = reply.json()["data"]["refreshExpiresIn"].as_u64().expect("seconds");
        assert_eq!(left, 86_400 * 7.min(30 - day), "day {day}");
        busy = reply.tokens();
        if day == 7 {
            server.refresh(&idle.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
        }
    }
    server.clock.advance(DAY);
    server.refresh(&busy.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    maintenance::sweep(&server.app).await.expect("swept");
    let left = server.app.db.read(Statement::new("SELECT id FROM sessions")).await.expect("rows");
    assert!(left.is_empty(), "expired sessions are deleted");
}

async fn an_access_token_expires(backend: Backend) {
    let server = TestServer::start(backend).await;
    let tokens = server.register("vera").await;
    server.clock.advance(Duration::from_secs(899));
    server.verify(&tokens.access).await.expect(StatusCode::OK);
    server.clock.advance(Duration::from_secs(1));
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
}

async fn revocations_survive_a_restart_and_are_pruned_when_expired(backend: Backend) {
    let server = TestServer::start(backend).await;
    let tokens = server.register("vera").await;
    server.post_as("/api/v1/auth/logout", &tokens.access).await.expect(StatusCode::OK);
    let clock = server.clock.clone();
    let database = server.stop().await;
    let server = TestServer::on(database, clock, &[]).await;
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    assert_eq!(server.app.revocations.len(), 1);
    server.clock.advance(2 * 60 * Duration::from_secs(60));
    maintenance::sweep(&server.app).await.expect("swept");
    assert!(server.app.revocations.is_empty());
}

async fn the_outbox_and_the_audit_log_are_bounded(backend: Backend) {
    let settings = [("PROPUSK_EVENTS__MAX_ROWS", "5"), ("PROPUSK_AUDIT__RETENTION", "1d")];
    let server = TestServer::with(backend, &settings).await;
    for n in 0..10 {
        server.register(&format!("user{n}")).await;
    }
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(server.events().await.len(), 5, "the newest are kept");
    server.clock.advance(2 * DAY);
    maintenance::sweep(&server.app).await.expect("swept");
    let audit = server.app.db.read(Statement::new("SELECT at FROM audit_log")).await.expect("rows");
    assert!(audit.is_empty());
}

async fn an_outdated_password_hash_is_upgraded_at_login(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("vera").await;
    let clock = server.clock.clone();
    let database = server.stop().await;
    let server = TestServer::on(database, clock, &[("PROPUSK_PASSWORDS__MEMORY_KIB", "128")]).await;
    for expected in [2, 1] {
        let before = server.app.hasher.hashes();
        server.login("vera").await.expect(StatusCode::OK);
        assert_eq!(
            server.app.hasher.hashes() - before,
            expected,
            "one hash to verify, one to upgrade"
        );
    }
}

async fn t79_bootstrap_happens_once_per_database(backend: Backend) {
    let server = TestServer::start(backend).await;
    let (one, other) = tokio::join!(bootstrap::set_up(&server.app), bootstrap::set_up(&server.app));
    let created: Vec<_> =
        [one, other].into_iter().filter_map(|created| created.expect("set up")).collect();
    assert_eq!(created.len(), 1, "two concurrent starts create one administrator");
    let body =
        json!({ "login": created[0].admin_email, "password": created[0].generated_password });
    let admin = server.post("/api/v1/auth/login", body).await.expect(StatusCode::OK);
    assert_eq!(admin.json()["data"]["user"]["role"], "admin");
    server.app.db.write(Statement::new("DELETE FROM users")).await.expect("deleted");
    assert!(
        bootstrap::set_up(&server.app).await.expect("asked").is_none(),
        "bootstrap stays closed"
    );
}

async fn t42_tokens_of_one_kind_are_refused_as_another(backend: Backend) {
    let server = TestServer::start(backend).await;
    let tokens = server.register("vera").await;
    server.verify(&tokens.refresh).await.expect_error(401, "INVALID_TOKEN");
    server.refresh(&tokens.access).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    assert_active(&server, &tokens).await;
}

async fn an_idle_browser_session_ends(backend: Backend) {
    const MINUTE: Duration = Duration::from_secs(60);
    let settings = [
        ("PROPUSK_AUTHORIZATION__BROWSER_SESSION_IDLE", "1h"),
        ("PROPUSK_AUTHORIZATION__BROWSER_SESSION_TTL", "12h"),
    ];
    let server = TestServer::with(backend, &settings).await;
    server.register("ann").await;
    let mut browser = server.logged_in("ann").await;
    let is_logged_in = async |browser: &mut crate::support::oauth::Browser<'_>| {
        !browser.open("/login").await.text.contains("name=\"password\"")
    };
    let ends_at = async || {
        let statement = Statement::new("SELECT expires_at FROM browser_sessions");
        let rows = server.app.db.read(statement).await.expect("rows");
        rows[0].get::<i64>("expires_at").expect("a time")
    };
    // Use is written every five minutes at most.
    let first = ends_at().await;
    server.clock.advance(4 * MINUTE);
    assert!(is_logged_in(&mut browser).await);
    assert_eq!(ends_at().await, first);
    for _ in 0..10 {
        server.clock.advance(50 * MINUTE);
        assert!(is_logged_in(&mut browser).await);
    }
    assert!(ends_at().await > first);
    // Used or not, it ends with its lifetime: 504 minutes have passed, and 216 are left.
    for _ in 0..4 {
        server.clock.advance(50 * MINUTE);
        assert!(is_logged_in(&mut browser).await);
    }
    server.clock.advance(17 * MINUTE);
    assert!(!is_logged_in(&mut browser).await);
    // Unused, it ends before.
    let mut browser = server.logged_in("ann").await;
    server.clock.advance(61 * MINUTE);
    assert!(!is_logged_in(&mut browser).await);
    maintenance::sweep(&server.app).await.expect("swept");
    let statement = Statement::new("SELECT count(*) AS n FROM browser_sessions");
    let rows = server.app.db.read(statement).await.expect("rows");
    assert_eq!(rows[0].get::<i64>("n").expect("a number"), 0);
}

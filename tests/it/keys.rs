//! The lifecycle of keys: published before they sign and after; banned everywhere at once.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use propusk::{
    app::App, clock::Clock, config::Config, keys::Rotation, model::actor::Actor, storage::Statement,
};
use reqwest::StatusCode;
use serde_json::Value;

use crate::support::{Backend, Database, START, TestServer, backend_tests, process::Process};

/// Keys of one algorithm: the tests here count them.
const ES256: &[(&str, &str)] = &[("PROPUSK_KEYS__ALGORITHMS", "ES256")];

const DAY: Duration = Duration::from_secs(86_400);

async fn maintain(server: &TestServer) {
    let app = &server.app;
    app.keys.maintain(&app.db, &app.clock, &app.rng).await.expect("maintained");
    app.keys.reload(&app.db, app.clock.now()).await.expect("read");
}

async fn rotate(server: &TestServer, at_once: bool) {
    let app = &server.app;
    let rotation = Rotation { at_once, ..Rotation::default() };
    let by = Actor::operator();
    let rotated = app.keys.rotate(&app.db, &app.clock, &app.rng, rotation, &by);
    rotated.await.expect("rotated");
}

async fn ban(server: &TestServer, kid: &str) {
    let app = &server.app;
    let by = Actor::operator();
    let banned = app.keys.ban(&app.db, &app.clock, &app.rng, kid, &by);
    banned.await.expect("banned");
}

async fn published(server: &TestServer) -> Vec<String> {
    let jwks = server.get("/oauth2/jwks").await.json();
    let kid = |key: &Value| key["kid"].as_str().expect("a kid").to_owned();
    jwks["keys"].as_array().expect("keys").iter().map(kid).collect()
}

fn kid(token: &str) -> String {
    let header =
        URL_SAFE_NO_PAD.decode(token.split('.').next().expect("a header")).expect("base64url");
    let header: Value = serde_json::from_slice(&header).expect("JSON");
    header["kid"].as_str().expect("a kid").to_owned()
}

backend_tests! {
    a_key_is_published_before_it_signs_until_its_tokens_expire,
    reuse_is_detected_after_the_chain_key_was_rotated,
    a_key_created_by_one_server_verifies_on_the_other,
    every_server_refuses_a_banned_key_and_signs_with_another,
    a_token_of_a_retired_key_is_valid_until_it_expires,
    banning_the_next_key_leaves_no_gap_in_signing,
    banning_either_upcoming_key_leaves_no_gap_in_signing,
    two_servers_create_one_key_when_rotation_is_due,
    an_idle_server_publishes_every_signing_key,
    a_jwks_has_every_key_before_it_signs,
    keys_created_by_a_clock_ahead_sign_until_replaced,
    banning_a_key_that_signs_early_leaves_no_gap_in_signing,
}

async fn a_key_is_published_before_it_signs_until_its_tokens_expire(backend: Backend) {
    let server = TestServer::with(backend, ES256).await;
    server.register("vera").await;
    let first = published(&server).await;
    assert_eq!(first.len(), 1);
    server.clock.advance(88 * DAY);
    maintain(&server).await;
    assert_eq!(published(&server).await, first, "nothing is due yet");

    server.clock.advance(DAY);
    maintain(&server).await;
    let both = published(&server).await;
    assert_eq!(both.len(), 2, "the next key is published");
    assert_eq!(kid(&server.login("vera").await.tokens().access), first[0], "and does not sign yet");

    server.clock.advance(DAY);
    maintain(&server).await;
    let before = server.login("vera").await.tokens();
    let next = kid(&before.access);
    assert!(next != first[0] && both.contains(&next), "it signs now");
    assert_eq!(published(&server).await.len(), 2, "the old key's last tokens are still valid");
    server.clock.advance(Duration::from_secs(2 * 3600));
    maintain(&server).await;
    assert_eq!(published(&server).await, [next]);
    // The chain key was rotated too; the session keeps its own.
    server.refresh(&before.refresh).await.expect(StatusCode::OK);
}

async fn reuse_is_detected_after_the_chain_key_was_rotated(backend: Backend) {
    let server = TestServer::with(backend, &[ES256[0], ("PROPUSK_KEYS__ROTATE_EVERY", "3d")]).await;
    let first = server.register("vera").await;
    let mut last = first.clone();
    for _ in 0..6 {
        server.clock.advance(DAY);
        maintain(&server).await;
        last = server.refresh(&last.refresh).await.expect(StatusCode::OK).tokens();
    }
    server.refresh(&first.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    server.refresh(&last.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
}

async fn a_key_created_by_one_server_verifies_on_the_other(backend: Backend) {
    let one = TestServer::with(backend, ES256).await;
    let other = one.another(ES256).await;
    assert_eq!(published(&one).await, published(&other).await, "they share the keys");
    let old = one.register("vera").await;
    rotate(&one, true).await;
    let new = one.login("vera").await.tokens();
    assert_ne!(kid(&new.access), kid(&old.access));
    other.verify(&new.access).await.expect(StatusCode::OK);
    other.verify(&old.access).await.expect(StatusCode::OK);
    other.refresh(&new.refresh).await.expect(StatusCode::OK);
}

async fn every_server_refuses_a_banned_key_and_signs_with_another(backend: Backend) {
    let one = TestServer::with(backend, ES256).await;
    let other = one.another(ES256).await;
    let tokens = one.register("vera").await;
    other.verify(&tokens.access).await.expect(StatusCode::OK);
    let banned = kid(&tokens.access);
    ban(&one, &banned).await;
    for server in [&one, &other] {
        server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
        assert!(!published(server).await.contains(&banned), "it is no longer published");
    }
    let next = other.refresh(&tokens.refresh).await.expect(StatusCode::OK).tokens();
    assert_ne!(kid(&next.access), banned);
    one.verify(&next.access).await.expect(StatusCode::OK);
    let again = one
        .app
        .keys
        .ban(&one.app.db, &one.app.clock, &one.app.rng, &banned, &Actor::operator())
        .await;
    assert!(again.is_err_and(|error| error.to_string().contains("already banned")));
}

async fn a_token_of_a_retired_key_is_valid_until_it_expires(backend: Backend) {
    let server = TestServer::with(backend, ES256).await;
    server.register("vera").await;
    server.clock.advance(89 * DAY);
    maintain(&server).await;
    server.clock.advance(DAY - Duration::from_secs(60));
    maintain(&server).await;
    let old = server.login("vera").await.tokens();
    server.clock.advance(Duration::from_secs(61));
    maintain(&server).await;
    let new = server.login("vera").await.tokens();
    assert_ne!(kid(&old.access), kid(&new.access), "the key has changed");
    server.clock.advance(Duration::from_secs(838));
    server.verify(&old.access).await.expect(StatusCode::OK);
    server.clock.advance(Duration::from_secs(1));
    server.verify(&old.access).await.expect_error(401, "INVALID_TOKEN");
    server.verify(&new.access).await.expect(StatusCode::OK);
}

async fn banning_the_next_key_leaves_no_gap_in_signing(backend: Backend) {
    let server = TestServer::with(backend, ES256).await;
    server.register("vera").await;
    let first = published(&server).await;
    server.clock.advance(89 * DAY);
    maintain(&server).await;
    server.clock.advance(DAY / 2);
    let both = published(&server).await;
    let next = both.iter().find(|kid| !first.contains(kid)).expect("the next key is published");
    ban(&server, next).await;
    assert_eq!(published(&server).await, first);
    let mut signed_by = vec![];
    for _ in 0..10 {
        maintain(&server).await;
        let known = published(&server).await;
        server.clock.advance(DAY / 4);
        let signer = kid(&server.login("vera").await.expect(StatusCode::OK).tokens().access);
        assert!(known.contains(&signer), "a signing key was published before");
        assert_ne!(signer, *next, "the banned key never signs");
        signed_by.push(signer);
    }
    signed_by.dedup();
    assert_eq!(
        signed_by.len(),
        2,
        "the first key signed on until a new one took over: {signed_by:?}"
    );
    assert_eq!(signed_by[0], first[0]);
}

async fn banning_either_upcoming_key_leaves_no_gap_in_signing(backend: Backend) {
    // Two upcoming keys, half a day apart: which are banned, and which sign then and each half day
    // later.
    for (banned, signers) in [
        (&[1][..], [0, 0, 2, 2, 2]),
        (&[2][..], [0, 1, 1, 1, 1]),
        (&[2, 1][..], [0, 0, 0, 0, 0]),
        (&[1, 2][..], [0, 0, 0, 0, 0]),
    ] {
        let server = TestServer::with(backend, ES256).await;
        server.register("vera").await;
        let clock = &server.clock;
        let mut all = published(&server).await;
        for wait in [DAY / 2, Duration::ZERO] {
            rotate(&server, false).await;
            let now = published(&server).await;
            all.extend(now.into_iter().filter(|kid| !all.contains(kid)).collect::<Vec<_>>());
            clock.advance(wait);
        }
        for which in banned {
            ban(&server, &all[*which]).await;
        }
        clock.advance(Duration::from_secs(1));
        for (half_days, signer) in signers.into_iter().enumerate() {
            let signed_by = kid(&server.login("vera").await.expect(StatusCode::OK).tokens().access);
            let found = all.iter().position(|kid| *kid == signed_by);
            assert_eq!(found, Some(signer), "{banned:?} banned, {half_days} half days later");
            clock.advance(DAY / 2);
            maintain(&server).await;
        }
    }
}

async fn two_servers_create_one_key_when_rotation_is_due(backend: Backend) {
    let one = TestServer::with(backend, ES256).await;
    let other = one.another(ES256).await;
    one.clock.advance(89 * DAY);
    tokio::join!(maintain(&one), maintain(&other));
    maintain(&one).await;
    assert_eq!(published(&one).await.len(), 2);
    assert_eq!(published(&one).await, published(&other).await);
}

async fn an_idle_server_publishes_every_signing_key(backend: Backend) {
    let one = TestServer::with(backend, ES256).await;
    let idle = one.another(ES256).await;
    one.register("vera").await;
    for _ in 0..3 {
        rotate(&one, true).await;
        let signer = kid(&one.login("vera").await.tokens().access);
        assert!(published(&idle).await.contains(&signer), "the key that signs at the other one");
        ban(&one, &signer).await;
        assert!(!published(&idle).await.contains(&signer), "the key that was banned");
    }
}

async fn a_jwks_has_every_key_before_it_signs(backend: Backend) {
    let one = TestServer::with(backend, ES256).await;
    let other = one.another(ES256).await;
    one.register("vera").await;
    let done = AtomicBool::new(false);
    let rotations = async {
        for _ in 0..6 {
            rotate(&one, true).await;
        }
        done.store(true, Ordering::SeqCst);
    };
    // They have the other server publish from memory what it knew a moment ago.
    let verifiers = (0..4).map(|_| async {
        let mut signers = BTreeSet::new();
        while !done.load(Ordering::SeqCst) {
            let signer = kid(&one.login("vera").await.expect(StatusCode::OK).tokens().access);
            let jwks = published(&other).await;
            assert!(jwks.contains(&signer), "{signer} has signed: {jwks:?}");
            signers.insert(signer);
        }
        signers.len()
    });
    let (all, ()) = tokio::join!(join_all(verifiers), rotations);
    assert!(all.iter().any(|signers| *signers > 3), "they saw the keys change: {all:?}");
}

/// A server whose keys were created when its clock was more than a year ahead.
async fn with_early_keys(backend: Backend) -> TestServer {
    let database = Arc::new(Database::new(backend).await);
    let ahead = TestServer::on(database, Clock::fake(START + 400 * DAY), ES256).await;
    let database = ahead.stop().await;
    TestServer::on(database, Clock::fake(START), ES256).await
}

async fn keys_created_by_a_clock_ahead_sign_until_replaced(backend: Backend) {
    let server = with_early_keys(backend).await;
    let tokens = server.register("vera").await;
    let early = kid(&tokens.access);
    server.verify(&tokens.access).await.expect(StatusCode::OK);
    server.refresh(&tokens.refresh).await.expect(StatusCode::OK);

    maintain(&server).await;
    let both = published(&server).await;
    assert_eq!(both.len(), 2, "another key is published");
    assert_eq!(kid(&server.login("vera").await.tokens().access), early, "and does not sign yet");
    maintain(&server).await;
    assert_eq!(published(&server).await, both, "one is enough");

    server.clock.advance(DAY);
    maintain(&server).await;
    let last = server.login("vera").await.tokens();
    let signer = kid(&last.access);
    assert!(signer != early && both.contains(&signer), "it signs now");
    server.refresh(&last.refresh).await.expect(StatusCode::OK);

    // Its successors follow the schedule, and the time of the early key changes nothing.
    server.clock.advance(89 * DAY);
    maintain(&server).await;
    assert_eq!(published(&server).await.len(), 3, "the next key");
    server.clock.set(START + 400 * DAY);
    maintain(&server).await;
    let signer = kid(&server.login("vera").await.tokens().access);
    assert!(signer != early && published(&server).await.contains(&signer));
}

async fn banning_a_key_that_signs_early_leaves_no_gap_in_signing(backend: Backend) {
    let server = with_early_keys(backend).await;
    let early = kid(&server.register("vera").await.access);
    ban(&server, &early).await;
    let token = server.login("vera").await.expect(StatusCode::OK).tokens().access;
    assert_ne!(kid(&token), early);
    server.verify(&token).await.expect(StatusCode::OK);
    let published = published(&server).await;
    assert!(published.contains(&kid(&token)) && !published.contains(&early), "{published:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_signs_before_its_time_is_warned_about() {
    let database = Database::new(Backend::Sqlite).await;
    let server = Process::serve(&database, ES256).await;
    assert!(!server.stderr().contains("clock"), "{}", server.stderr());
    assert!(server.terminate().await.success());
    let config = Config::load(None, database.settings().into_iter()).expect("a configuration");
    let db = propusk::storage::Db::open(&config).await.expect("the database");
    let year = i64::try_from((365 * DAY).as_micros()).expect("a number");
    let ahead = "UPDATE keys SET created_at = created_at + $1, activates_at = activates_at + $1";
    db.write(Statement::new(ahead).bind(year)).await.expect("changed");
    db.close().await;
    let server = Process::serve(&database, ES256).await;
    assert!(server.stderr().contains("check the system clock"), "{}", server.stderr());
}

#[tokio::test]
async fn a_cached_jwks_is_revalidated_by_etag() {
    let server = TestServer::with(Backend::Sqlite, ES256).await;
    let first = server.get("/oauth2/jwks").await.expect(StatusCode::OK);
    assert_eq!(first.header("content-type"), "application/jwk-set+json");
    assert_eq!(first.header("cache-control"), "public, max-age=300");
    let request = server
        .request(reqwest::Method::GET, "/oauth2/jwks")
        .header("if-none-match", first.header("etag"));
    let again = crate::support::send(request).await.expect(StatusCode::NOT_MODIFIED);
    assert_eq!((again.header("etag"), again.text.as_str()), (first.header("etag"), ""));
}

#[tokio::test]
async fn the_last_known_keys_are_published_while_the_database_is_unavailable() {
    let server = TestServer::with(Backend::Sqlite, ES256).await;
    let before = server.app.keys.ring().jwks.body.clone();
    let away = Statement::new("ALTER TABLE change_counters RENAME TO gone");
    server.app.db.write(away).await.expect("renamed");
    let during = server.get("/oauth2/jwks").await.expect(StatusCode::OK);
    assert_eq!(during.text.as_bytes(), before);
    assert_eq!(during.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_wrong_or_missing_master_key_fails_the_start() {
    let server = TestServer::with(Backend::Sqlite, ES256).await;
    let file = server.database.folder.path().join("master.key");
    let database = server.stop().await;
    let open = || async {
        let config = Config::load(None, database.settings().into_iter()).expect("a configuration");
        App::open(config, Clock::fake(START), propusk::clock::Rng::system()).await.map(drop)
    };
    std::fs::write(&file, [7; 32]).expect("written");
    let error = open().await.expect_err("another key").to_string();
    assert!(error.contains("another master key"), "{error}");
    std::fs::write(&file, [7; 31]).expect("written");
    let error = open().await.expect_err("too short").to_string();
    assert!(error.contains("31 bytes"), "{error}");
    std::fs::remove_file(&file).expect("removed");
    let error = open().await.expect_err("no key").to_string();
    assert!(error.contains("restore it"), "{error}");
    assert!(!file.exists(), "no new key is made over encrypted ones");
}

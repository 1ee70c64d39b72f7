//! The Redis replica of the revocation list: an acknowledged revocation holds, whatever happens to
//! Redis.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::StatusCode;

use crate::support::{Backend, TestServer, backend_tests, chromium::until, process, redis::Redis};

/// Two servers on one database and one Redis, which both trust.
async fn two_servers(
    backend: Backend,
    redis: &Redis,
    more: &[(&str, &str)],
) -> (TestServer, TestServer) {
    let url = redis.url();
    let mut settings = vec![("PROPUSK_REDIS__URL", url.as_str())];
    settings.extend_from_slice(more);
    let one = TestServer::with(backend, &settings).await;
    let other = one.another(&settings).await;
    wait_until_trusted(&one).await;
    wait_until_trusted(&other).await;
    (one, other)
}

fn is_trusted(server: &TestServer) -> bool {
    let replica = server.app.revocations.replica.as_ref();
    replica.expect("Redis is configured").is_trusted()
}

async fn wait_until_trusted(server: &TestServer) {
    until("Redis is trusted", || async { is_trusted(server).then_some(()) }).await;
}

/// A login and logout at one server; the very next check at the other must be refused.
async fn log_out_and_check(one: &TestServer, other: &TestServer) {
    let token = one.login("ann").await.tokens().access;
    other.verify(&token).await.expect(StatusCode::OK);
    let logout = one.post_as("/api/v1/auth/logout", &token).await;
    logout.expect(StatusCode::OK);
    other.verify(&token).await.expect_error(401, "INVALID_TOKEN");
    one.verify(&token).await.expect_error(401, "INVALID_TOKEN");
}

/// Logs in and out at one server, and checks at the other, while Redis is disturbed.
async fn check_during<F: Future<Output = ()>>(
    one: &TestServer,
    other: &TestServer,
    least: usize,
    disturbance: F,
) {
    let (done, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let looking = async {
        while !done.load(Ordering::Acquire) || rounds.load(Ordering::Acquire) < least {
            log_out_and_check(one, other).await;
            rounds.fetch_add(1, Ordering::AcqRel);
        }
    };
    let disturbing = async {
        disturbance.await;
        done.store(true, Ordering::Release);
    };
    tokio::join!(looking, disturbing);
}

/// Lets real time pass: Redis has a clock of its own.
async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}

backend_tests! {
    requires "Redis": a_revocation_reaches_the_other_process_at_its_next_check,
    a_key_banned_by_the_cli_is_refused_when_the_cli_returns,
    flushing_redis_never_lets_a_revoked_token_through,
    a_redis_restored_from_an_old_dump_is_not_trusted,
    a_paused_redis_delays_no_check_and_lets_nothing_through,
    redis_eviction_never_lets_a_revoked_token_through,
    a_server_starts_without_redis_and_uses_it_later,
    expired_entries_are_removed_from_redis,
}

async fn a_revocation_reaches_the_other_process_at_its_next_check(backend: Backend) {
    let redis = Redis::start(&[]);
    let (one, other) = two_servers(backend, &redis, &[]).await;
    one.register("ann").await;
    for _ in 0..50 {
        log_out_and_check(&one, &other).await;
    }
    assert!(is_trusted(&one) && is_trusted(&other), "it was Redis that answered");
    // The replica equals the list.
    let head: String = redis.run(&["HGET", "propusk:revocations", "versions"]);
    let snapshot = one.app.revocations.snapshot().await.expect("a snapshot");
    assert!(head.starts_with(&format!("{}:", snapshot.number)), "{head} and {}", snapshot.number);
    let fields: usize = redis.run(&["HLEN", "propusk:revocations"]);
    assert_eq!(
        fields,
        snapshot.entries.len() + 4,
        "one field per entry, and the epoch, version, counters and expiry of the replica"
    );
}

async fn a_key_banned_by_the_cli_is_refused_when_the_cli_returns(backend: Backend) {
    let redis = Redis::start(&[]);
    let (one, other) = two_servers(backend, &redis, &[]).await;
    let token = one.register("ann").await.access;
    other.verify(&token).await.expect(StatusCode::OK);
    let head = token.split('.').next().expect("a head");
    let head: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).expect("base64url")).expect("JSON");
    let ban = ["keys", "ban", head["kid"].as_str().expect("a kid")];
    let url = redis.url();
    let output = process::run(&one.database, &[("PROPUSK_REDIS__URL", &url)], &ban);
    assert!(output.status.success(), "{output:?}");
    for server in [&one, &other] {
        server.verify(&token).await.expect_error(401, "INVALID_TOKEN");
    }
}

async fn flushing_redis_never_lets_a_revoked_token_through(backend: Backend) {
    let redis = Redis::start(&[]);
    let (one, other) = two_servers(backend, &redis, &[]).await;
    one.register("ann").await;
    check_during(&one, &other, 20, async {
        for _ in 0..12 {
            let _: String = redis.run(&["FLUSHALL"]);
            wait(Duration::from_millis(170)).await;
        }
    })
    .await;
    wait_until_trusted(&one).await;
    wait_until_trusted(&other).await;
    log_out_and_check(&one, &other).await;
}

async fn a_redis_restored_from_an_old_dump_is_not_trusted(backend: Backend) {
    let mut redis = Redis::start(&[]);
    let (one, other) = two_servers(backend, &redis, &[]).await;
    one.register("ann").await;
    let dead = one.login("ann").await.tokens().access;
    for _ in 0..3 {
        // The dump of this moment looks valid: its lease is running, and it lacks what follows.
        let dump = redis.dump();
        one.post_as("/api/v1/auth/logout", &one.login("ann").await.tokens().access)
            .await
            .expect(StatusCode::OK);
        check_during(&one, &other, 5, async {
            tokio::task::block_in_place(|| redis.restore(&dump));
            wait(Duration::from_millis(1_200)).await;
        })
        .await;
        wait_until_trusted(&other).await;
    }
    one.post_as("/api/v1/auth/logout", &dead).await.expect(StatusCode::OK);
    check_during(&one, &other, 5, async {
        tokio::task::block_in_place(|| redis.kill());
        wait(Duration::from_millis(1_200)).await;
        tokio::task::block_in_place(|| redis.restart());
    })
    .await;
    wait_until_trusted(&one).await;
    wait_until_trusted(&other).await;
    other.verify(&dead).await.expect_error(401, "INVALID_TOKEN");
    log_out_and_check(&one, &other).await;
}

async fn a_paused_redis_delays_no_check_and_lets_nothing_through(backend: Backend) {
    let redis = Redis::start(&[]);
    let (one, other) = two_servers(backend, &redis, &[]).await;
    one.register("ann").await;
    let live = one.login("ann").await.tokens().access;
    redis.pause();
    check_during(&one, &other, 3, async {
        for _ in 0..200 {
            other.verify(&live).await.expect(StatusCode::OK);
        }
    })
    .await;
    assert!(!is_trusted(&one) && !is_trusted(&other));
    redis.resume();
    // Commands sent before the pause are answered now: none of the replies may count.
    check_during(&one, &other, 10, async {}).await;
    wait_until_trusted(&one).await;
    wait_until_trusted(&other).await;
    log_out_and_check(&one, &other).await;
}

async fn redis_eviction_never_lets_a_revoked_token_through(backend: Backend) {
    let redis = Redis::start(&["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random"]);
    let (one, other) = two_servers(backend, &redis, &[]).await;
    one.register("ann").await;
    let filling = AtomicUsize::new(0);
    check_during(&one, &other, 10, async {
        let rubbish = "x".repeat(20_000);
        for _ in 0..60 {
            for _ in 0..10 {
                let key = format!("rubbish:{}", filling.fetch_add(1, Ordering::Relaxed));
                let _: String = redis.run(&["SET", &key, &rubbish]);
            }
            wait(Duration::from_millis(30)).await;
        }
    })
    .await;
    let evicted: String = redis.run(&["INFO", "stats"]);
    let evicted =
        evicted.lines().find_map(|line| line.strip_prefix("evicted_keys:")).expect("a number");
    assert_ne!(evicted.trim(), "0", "keys were evicted");
}

async fn a_server_starts_without_redis_and_uses_it_later(backend: Backend) {
    let mut redis = Redis::start(&[]);
    redis.kill();
    let url = redis.url();
    let server = TestServer::with(backend, &[("PROPUSK_REDIS__URL", &url)]).await;
    let tokens = server.register("ann").await;
    server.verify(&tokens.access).await.expect(StatusCode::OK);
    server.post_as("/api/v1/auth/logout", &tokens.access).await.expect(StatusCode::OK);
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    tokio::task::block_in_place(|| redis.restart());
    wait_until_trusted(&server).await;
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    let head: Option<String> = redis.run(&["HGET", "propusk:revocations", "versions"]);
    assert!(head.is_some(), "the replica was filled");
}

async fn expired_entries_are_removed_from_redis(backend: Backend) {
    let redis = Redis::start(&[]);
    let (one, other) = two_servers(backend, &redis, &[]).await;
    one.register("ann").await;
    for _ in 0..5 {
        log_out_and_check(&one, &other).await;
    }
    let fields = || redis.run::<usize>(&["HLEN", "propusk:revocations"]);
    assert_eq!(fields(), 5 + 4);
    one.clock.advance(Duration::from_secs(2 * 3_600));
    propusk::flows::maintenance::sweep(&one.app).await.expect("swept");
    assert_eq!(fields(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Redis: run ./dev/test"]
async fn redis_acl_sentinel_and_cluster_urls_connect() {
    // An ACL user with the documented permissions only.
    let plain = Redis::start(&[]);
    let _: String = plain.run(&[
        "ACL",
        "SETUSER",
        "propusk",
        "on",
        ">s3cret",
        "~propusk:*",
        "+@hash",
        "+@scripting",
        "+del",
        "+pexpireat",
        "+time",
        "+info",
    ]);
    let _: String = plain.run(&["ACL", "SETUSER", "default", "resetkeys"]);
    let url = plain.url().replace("redis://", "redis://propusk:s3cret@");
    let server = TestServer::with(Backend::Sqlite, &[("PROPUSK_REDIS__URL", &url)]).await;
    wait_until_trusted(&server).await;

    // A Sentinel names the master.
    let sentinel = Redis::start_sentinel("house", plain.port());
    let (url, sentinels) =
        (url.replace(&format!("127.0.0.1:{}", plain.port()), "house"), sentinel.url());
    let settings = [("PROPUSK_REDIS__URL", url.as_str()), ("PROPUSK_REDIS__SENTINELS", &sentinels)];
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    wait_until_trusted(&server).await;

    // The named node has no slots: it redirects to the one that has.
    let (empty, full) =
        (Redis::start(&["--cluster-enabled", "yes"]), Redis::start(&["--cluster-enabled", "yes"]));
    let _: String = full.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let _: String = full.run(&["CLUSTER", "MEET", "127.0.0.1", &empty.port().to_string()]);
    until("the cluster is ready", || async {
        let info: String = empty.run(&["CLUSTER", "INFO"]);
        info.contains("cluster_state:ok").then_some(())
    })
    .await;
    let server = TestServer::with(Backend::Sqlite, &[("PROPUSK_REDIS__URL", &empty.url())]).await;
    wait_until_trusted(&server).await;
    let fields: usize = full.run(&["HLEN", "propusk:revocations"]);
    assert_eq!(fields, 4);
}

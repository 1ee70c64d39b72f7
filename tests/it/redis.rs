//! The Redis replica of the revocation list: an acknowledged revocation holds, whatever happens to
//! Redis.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use reqwest::StatusCode;

use crate::support::{
    Backend, Reply, TestServer, backend_tests, chromium::until, oauth::web_app, process,
    redis::Redis,
};

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

/// How long callers waited. A wrong answer fails the test: there are no errors to count.
#[derive(Default)]
struct Figures {
    logouts: Vec<Duration>,
    checks: Vec<Duration>,
}

impl Figures {
    /// The median and the longest, in milliseconds.
    fn of(times: &mut [Duration]) -> (u128, u128) {
        times.sort_unstable();
        (times[times.len() / 2].as_millis(), times[times.len() - 1].as_millis())
    }

    /// Prints the figures; until Redis was trusted again, `recovery` passed.
    fn print(mut self, what: &str, recovery: Duration) {
        let (logout, slowest_logout) = Self::of(&mut self.logouts);
        let (check, slowest_check) = Self::of(&mut self.checks);
        eprintln!(
            "{what}: 0 errors; {} logouts, median {logout} ms, at most {slowest_logout} ms; {} checks, \
             median {check} ms, at most {slowest_check} ms; trusted again after {} ms",
            self.logouts.len(),
            self.checks.len(),
            recovery.as_millis(),
        );
    }
}

#[allow(clippy::disallowed_methods)] // measures a duration
fn now() -> Instant {
    Instant::now()
}

/// A response, and how long it took.
async fn timed(request: impl Future<Output = Reply>, times: &mut Vec<Duration>) -> Reply {
    let began = now();
    let reply = request.await;
    times.push(began.elapsed());
    reply
}

/// A login and logout at one server; the very next check at the other must be refused.
async fn log_out_and_check(one: &TestServer, other: &TestServer) -> Figures {
    let Figures { mut logouts, mut checks } = Figures::default();
    let token = one.login("ann").await.tokens().access;
    timed(other.verify(&token), &mut checks).await.expect(StatusCode::OK);
    let logout = one.post_as("/api/v1/auth/logout", &token);
    timed(logout, &mut logouts).await.expect(StatusCode::OK);
    for server in [other, one] {
        let refused = timed(server.verify(&token), &mut checks).await;
        refused.expect_error(401, "INVALID_TOKEN");
    }
    Figures { logouts, checks }
}

/// Logs in and out at one server, four at a time, and checks at the other, while Redis is
/// disturbed; at least so many times.
async fn check_during<F: Future<Output = ()>>(
    one: &TestServer,
    other: &TestServer,
    least: usize,
    disturbance: F,
) -> Figures {
    let (done, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let figures = Mutex::new(Figures::default());
    let looking = (0..4).map(|_| async {
        while !done.load(Ordering::Acquire) || rounds.load(Ordering::Acquire) < least {
            let Figures { logouts, checks } = log_out_and_check(one, other).await;
            rounds.fetch_add(1, Ordering::AcqRel);
            let mut figures = figures.lock().expect("no panic");
            figures.logouts.extend(logouts);
            figures.checks.extend(checks);
        }
    });
    let disturbing = async {
        disturbance.await;
        done.store(true, Ordering::Release);
    };
    tokio::join!(join_all(looking), disturbing);
    figures.into_inner().expect("no panic")
}

/// Waits until both servers trust Redis again; returns how long it took.
async fn recovery(one: &TestServer, other: &TestServer) -> Duration {
    let began = now();
    wait_until_trusted(one).await;
    wait_until_trusted(other).await;
    began.elapsed()
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
    a_replica_of_another_redis_is_not_trusted,
    a_killed_redis_lets_nothing_through,
    a_paused_redis_delays_no_check_and_lets_nothing_through,
    a_logout_takes_about_a_second_while_redis_is_frozen,
    a_lease_granted_by_a_clock_ahead_is_cut,
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
    let mut recovered = Duration::ZERO;
    let figures = check_during(&one, &other, 20, async {
        for _ in 0..8 {
            let _: String = redis.run(&["FLUSHALL"]);
            wait(Duration::from_millis(170)).await;
        }
        let _: String = redis.run(&["FLUSHALL"]);
        until("the loss is noticed", || async { (!is_trusted(&one)).then_some(()) }).await;
        recovered = recovery(&one, &other).await;
    })
    .await;
    figures.print("Redis flushed 9 times", recovered);
    log_out_and_check(&one, &other).await;
}

async fn a_redis_restored_from_an_old_dump_is_not_trusted(backend: Backend) {
    let mut redis = Redis::start(&[]);
    let (one, other) = two_servers(backend, &redis, &[]).await;
    one.register("ann").await;
    let dead = one.login("ann").await.tokens().access;
    for _ in 0..2 {
        // The dump of this moment looks valid: its lease is running, and it lacks what follows.
        let dump = redis.dump();
        one.post_as("/api/v1/auth/logout", &one.login("ann").await.tokens().access)
            .await
            .expect(StatusCode::OK);
        check_during(&one, &other, 5, async {
            tokio::task::block_in_place(|| redis.restore(&dump));
            wait_until_trusted(&one).await;
        })
        .await;
        wait_until_trusted(&other).await;
    }
    one.post_as("/api/v1/auth/logout", &dead).await.expect(StatusCode::OK);
    other.verify(&dead).await.expect_error(401, "INVALID_TOKEN");
    log_out_and_check(&one, &other).await;
}

/// As a Redis that becomes the replica of another one: `run_id` and connections stay, the content is
/// another's, and older.
async fn a_replica_of_another_redis_is_not_trusted(backend: Backend) {
    const REPLACE: &str = "redis.call('DEL', KEYS[1]) \
        redis.call('HSET', KEYS[1], 'epoch', 'another:1', 'number', 0, 'versions', ARGV[1]) \
        return redis.call('PEXPIRE', KEYS[1], 800)";
    let redis = Redis::start(&[]);
    let (one, other) = two_servers(backend, &redis, &[]).await;
    one.register("ann").await;
    for _ in 0..4 {
        wait_until_trusted(&one).await;
        wait_until_trusted(&other).await;
        let token = one.login("ann").await.tokens().access;
        other.verify(&token).await.expect(StatusCode::OK);
        let before: String = redis.run(&["HGET", "propusk:revocations", "versions"]);
        one.post_as("/api/v1/auth/logout", &token).await.expect(StatusCode::OK);
        let _: i64 = redis.run(&["EVAL", REPLACE, "1", "propusk:revocations", &before]);
        other.verify(&token).await.expect_error(401, "INVALID_TOKEN");
    }
}

async fn a_killed_redis_lets_nothing_through(backend: Backend) {
    let mut redis = Redis::start(&[]);
    let (one, other) = two_servers(backend, &redis, &[]).await;
    one.register("ann").await;
    tokio::task::block_in_place(|| redis.kill());
    let figures = check_during(&one, &other, 8, async {}).await;
    assert!(!is_trusted(&one) && !is_trusted(&other));
    tokio::task::block_in_place(|| redis.restart());
    figures.print("Redis killed and started again", recovery(&one, &other).await);
    log_out_and_check(&one, &other).await;
}

async fn a_paused_redis_delays_no_check_and_lets_nothing_through(backend: Backend) {
    let redis = Redis::start(&[]);
    let (one, other) = two_servers(backend, &redis, &[]).await;
    one.register("ann").await;
    let live = one.login("ann").await.tokens().access;
    redis.pause();
    let figures = check_during(&one, &other, 4, async {
        for _ in 0..200 {
            other.verify(&live).await.expect(StatusCode::OK);
        }
    })
    .await;
    assert!(!is_trusted(&one) && !is_trusted(&other));
    redis.resume();
    // Commands sent before the pause are answered now: none of the replies may count.
    let (_, recovered) =
        tokio::join!(check_during(&one, &other, 8, async {}), recovery(&one, &other));
    figures.print("Redis frozen", recovered);
    log_out_and_check(&one, &other).await;
}

/// The limit is a second and the check of the caller's token: every lease that was granted before a
/// commit has expired by then, whatever Redis does. 20 logouts, and revocations of single tokens
/// beside them, which are committed in groups.
async fn a_logout_takes_about_a_second_while_redis_is_frozen(backend: Backend) {
    let redis = Redis::start(&[]);
    let (one, other) = two_servers(backend, &redis, &[]).await;
    one.register("ann").await;
    one.client("app", web_app()).await;
    let (mut to_log_out, mut to_revoke) = (vec![], vec![]);
    for _ in 0..20 {
        to_log_out.push(one.login("ann").await.tokens().access);
        to_revoke.push(one.client_token("app", "api:read").await);
    }
    let log_out = async |token: &str, times: &mut Vec<Duration>| {
        let logout = one.post_as("/api/v1/auth/logout", token);
        timed(logout, times).await.expect(StatusCode::OK);
        other.verify(token).await.expect_error(401, "INVALID_TOKEN");
    };
    let revoke = async |token: &str, times: &mut Vec<Duration>| {
        let fields = [("token", token)];
        let revocation = one.form_as("/oauth2/revoke", "app", &fields);
        timed(revocation, times).await.expect(StatusCode::OK);
    };
    let healthy = {
        let mut times = vec![];
        for token in &to_log_out[..5] {
            log_out(token, &mut times).await;
        }
        Figures::of(&mut times).1
    };
    redis.pause();
    // Three in a row each, beginning at any moment of the lease keeper's rounds.
    let (log_out, revoke) = (&log_out, &revoke);
    let rows = to_log_out[5..].chunks(3).zip(to_revoke.chunks(3));
    let rows = rows.map(|(sessions, tokens)| async move {
        let (mut logouts, mut revocations) = (vec![], vec![]);
        for token in sessions {
            log_out(token, &mut logouts).await;
        }
        for token in tokens {
            revoke(token, &mut revocations).await;
        }
        (logouts, revocations)
    });
    let (logouts, revocations): (Vec<_>, Vec<_>) = join_all(rows).await.into_iter().unzip();
    redis.resume();
    for (what, mut times) in
        [("logouts", logouts.concat()), ("token revocations", revocations.concat())]
    {
        let (median, slowest) = Figures::of(&mut times);
        eprintln!("Redis frozen: {} {what}, median {median} ms, at most {slowest} ms", times.len());
        assert!(median <= 1_200 + healthy, "{what}: {times:?}, healthy {healthy} ms");
    }
}

/// What Redis has stored while its clock was ahead by an hour, before it was set back.
async fn a_lease_granted_by_a_clock_ahead_is_cut(backend: Backend) {
    let redis = Redis::start(&[]);
    let (_one, _other) = two_servers(backend, &redis, &[]).await;
    let (secs, _): (i64, i64) = redis.run(&["TIME"]);
    let ahead = ((secs + 3_600) * 1_000).to_string();
    let _: i64 = redis.run(&["HSET", "propusk:revocations", "expires", &ahead]);
    let _: i64 = redis.run(&["PEXPIREAT", "propusk:revocations", &ahead]);
    until("the lease is cut", || async {
        let left: i64 = redis.run(&["PTTL", "propusk:revocations"]);
        (left <= 1_000).then_some(())
    })
    .await;
}

async fn redis_eviction_never_lets_a_revoked_token_through(backend: Backend) {
    let redis = Redis::start(&["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random"]);
    let (one, other) = two_servers(backend, &redis, &[]).await;
    one.register("ann").await;
    let filling = AtomicUsize::new(0);
    check_during(&one, &other, 10, async {
        let rubbish = "x".repeat(20_000);
        for _ in 0..40 {
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
    // Not 10,000 above the port, the default: an outgoing connection may have taken that one.
    let buses = [process::free_port(), process::free_port()].map(|port| port.to_string());
    let [empty, full] = buses
        .each_ref()
        .map(|bus| Redis::start(&["--cluster-enabled", "yes", "--cluster-port", bus]));
    let _: String = full.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let port = empty.port().to_string();
    let _: String = full.run(&["CLUSTER", "MEET", "127.0.0.1", &port, &buses[0]]);
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

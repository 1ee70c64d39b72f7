//! The revocation feed.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use propusk_client::{AccessClaims, Error, Propusk, RevocationFeed, RevocationStatus};
use serde_json::{Value, json};

use crate::{
    support::{
        Person,
        fake_feed::{FakeFeed, Signer},
        log_out,
        proxy::Proxy,
        server::{Server, eventually},
    },
    verification::claims,
};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(15);
/// When the entries expire.
const LATER: i64 = 4_000_000_000;

/// The claims of a token, with other values of some.
fn token(changes: &Value) -> AccessClaims {
    let mut all = claims();
    for (name, value) in changes.as_object().expect("an object") {
        all[name] = value.clone();
    }
    serde_json::from_value(all).expect("claims")
}

fn plain() -> AccessClaims {
    token(&json!({}))
}

/// A follower of a fake feed, whose stream is open.
async fn streaming(fake: &FakeFeed, propusk: &Propusk, since: u64) -> RevocationFeed {
    let feed = propusk.feed().expect("a feed").clone();
    assert!(feed.ready(LONG).await);
    let expected = format!("stream {since}");
    eventually("a stream", LONG, || async { fake.last_request() == expected }).await;
    feed
}

async fn until_number(feed: &RevocationFeed, number: u64) {
    eventually("it is applied", LONG, || async { feed.number() == Some(number) }).await;
}

async fn until_status(feed: &RevocationFeed, status: RevocationStatus) {
    eventually("the status", LONG, || async { feed.check("k", &plain()) == status }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t192_a_revoked_token_is_refused_without_a_call_per_request() {
    let mut server = Server::start(&[]).await;
    let secret = server.add_client("gateway", "propusk:revocations");
    let proxy = Proxy::before(&server.issuer).await;
    let errors = Arc::new(Mutex::new(vec![]));
    let told = Arc::clone(&errors);
    let propusk = Propusk::builder(&server.issuer)
        .url(&proxy.url)
        .feed("gateway", &secret)
        .max_stale(SECOND)
        .on_feed_error(move |error| told.lock().expect("no panic").push(error.to_string()))
        .build()
        .expect("settings");
    let ann = Person::new(&propusk).await;
    let ben = Person::new(&propusk).await;
    for one in [&ann, &ben] {
        assert!(propusk.session_of(one.access()).await.expect("decided").is_some());
    }
    let before = proxy.count("");
    for _ in 0..1_000 {
        propusk.verify(ann.access()).await.expect("valid");
    }
    assert!(propusk.session_of(ann.access()).await.expect("decided").is_some());
    log_out(&server, &ann).await;
    let refused = || async { propusk.verify(ann.access()).await.is_err() };
    eventually("refused", SECOND, refused).await;
    let outcome = propusk.verify(ann.access()).await;
    assert!(matches!(&outcome, Err(Error::InvalidToken(text)) if text.contains("revoked")));
    assert!(propusk.session_of(ann.access()).await.expect("decided").is_none());
    propusk.verify(ben.access()).await.expect("valid");
    assert_eq!(proxy.count("") - before, 0, "the keys and the list are there");

    // Without a current list no token passes, and nobody is logged out.
    proxy.set_down(true);
    let undecided = || async {
        propusk.session_of(ben.access()).await.is_err_and(|error| error.is_temporary())
    };
    eventually("not decided", LONG, undecided).await;
    log_out(&server, &ben).await;
    // A restart of the server keeps what was revoked.
    server.kill();
    server.serve().await;
    proxy.set_down(false);
    let decided = || async { propusk.session_of(ben.access()).await.is_ok() };
    eventually("decided again", LONG, decided).await;
    for one in [&ann, &ben] {
        assert!(propusk.session_of(one.access()).await.expect("decided").is_none());
    }
    assert!(!errors.lock().expect("no panic").is_empty(), "the operator is told");

    // A wrong secret is reported, and no token passes.
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let wrong = Propusk::builder(&server.issuer)
        .feed("gateway", "wrong")
        .on_feed_error(move |error| drop(sender.send(error.code().to_owned())))
        .build()
        .expect("settings");
    assert_eq!(receiver.recv().await.as_deref(), Some("INVALID_CLIENT"));
    let cleo = Person::new(&wrong).await;
    assert!(wrong.verify(cleo.access()).await.is_err_and(|error| error.is_temporary()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t192_each_kind_of_entry_revokes_the_tokens_it_names() {
    let fake = FakeFeed::start().await;
    let origin = json!({ "jti": "d", "iat": 900, "client_id": "e", "kid": "l" });
    let derived = json!({ "derived_from": [origin] });
    let dated = |kind: &str, id: &str, until: i64| {
        let mut entry = json!({ "kind": kind, "id": id, "expires_at": LATER });
        entry["issued_until"] = json!(until);
        entry
    };
    let named = |kind: &str, id: &str| json!({ "kind": kind, "id": id, "expires_at": LATER });
    let mut scope = dated("scope", "s", 1_000);
    scope["scope"] = json!("crm:read");
    // An entry, a token that it revokes, and one that it does not.
    let none = json!({});
    let cases = [
        (named("token", "j"), &none, json!({ "jti": "other" })),
        (named("session", "i"), &none, json!({ "sid": "other" })),
        (dated("subject", "s", 1_000), &none, json!({ "iat": 1_001 })),
        (dated("client", "c", 1_000), &none, json!({ "iat": 1_001 })),
        (scope, &none, json!({ "scope": "openid crm:reader" })),
        (named("token", "d"), &derived, none.clone()),
        (named("key", "l"), &derived, none.clone()),
        (dated("client", "e", 900), &derived, none.clone()),
        (dated("subject", "s", 950), &derived, none.clone()),
    ];
    for (entry, revoked, other) in cases {
        fake.state().entries = vec![entry.clone()];
        let propusk = fake.builder().build().expect("settings");
        let feed = propusk.feed().expect("a feed");
        assert!(feed.ready(LONG).await);
        assert_eq!(feed.check("k", &token(revoked)), RevocationStatus::Revoked, "{entry}");
        assert_eq!(feed.check("k", &token(&other)), RevocationStatus::Valid, "{entry} {other}");
    }
    fake.state().entries = vec![named("key", "k")];
    let propusk = fake.builder().build().expect("settings");
    let feed = streaming(&fake, &propusk, 0).await;
    assert_eq!(feed.check("k", &plain()), RevocationStatus::Revoked);
    assert_eq!(feed.check("other", &plain()), RevocationStatus::Valid);
    // Of two entries for one target the later counts.
    let both = json!([dated("subject", "s", 1_000), dated("subject", "s", 999)]);
    fake.delta(0, 1, &both);
    until_number(&feed, 1).await;
    assert_eq!(feed.check("other", &plain()), RevocationStatus::Revoked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t192_after_a_gap_the_whole_list_is_fetched() {
    let fake = FakeFeed::start().await;
    let entry = |id: &str| json!({ "kind": "session", "id": id, "expires_at": LATER });
    fake.state().entries = vec![entry("old")];
    let propusk = fake.builder().build().expect("settings");
    let feed = streaming(&fake, &propusk, 0).await;
    let old = token(&json!({ "sid": "old" }));
    assert_eq!(feed.check("k", &old), RevocationStatus::Revoked);
    let gaps: [(u64, &dyn Fn()); 5] = [
        (7, &|| fake.delta(5, 7, &json!([]))),
        (8, &|| fake.send("event: reset\ndata: {}\n\n")),
        (9, &|| fake.send("event: delta\ndata: {\"from\":0\n\n")),
        (10, &|| fake.send("event: delta\ndata: null\n\n")),
        // In pieces, and with the line breaks of other systems.
        (11, &|| {
            for piece in [
                ": x\r\nevent: de",
                "lta\r\nda",
                "ta: {\"from\":3,\r\ndata: \"to\":4,",
                "\"entries\":[]}\r\n",
                "\r\n",
            ] {
                fake.send(piece);
            }
        }),
    ];
    for (count, (number, act)) in (2..).zip(gaps) {
        {
            let mut state = fake.state();
            (state.number, state.entries) = (number, vec![entry("i")]);
        }
        act();
        let expected = format!("stream {number}");
        eventually("the whole list", LONG, || async { fake.last_request() == expected }).await;
        assert_eq!(fake.count("list"), count);
        assert_eq!(feed.number(), Some(number));
        assert_eq!(feed.check("k", &plain()), RevocationStatus::Revoked);
        assert_eq!(feed.check("k", &old), RevocationStatus::Valid, "entries are replaced");
    }
    // A server that was restored from a backup has a smaller number: 410.
    {
        let mut state = fake.state();
        (state.number, state.entries) = (4, vec![]);
    }
    fake.end();
    until_number(&feed, 4).await;
    until_status(&feed, RevocationStatus::Valid).await;
    // A connection that has ended needs the changes only.
    eventually("a stream", LONG, || async { fake.streams() == 1 }).await;
    let lists = fake.count("list");
    fake.end();
    eventually("a delta", LONG, || async { fake.count("delta 4") > 0 }).await;
    eventually("a stream", LONG, || async { fake.last_request() == "stream 4" }).await;
    assert_eq!(fake.count("list"), lists);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t192_a_list_that_cannot_be_trusted_lets_no_token_pass() {
    let fake = FakeFeed::start().await;
    let short = Duration::from_millis(300);
    // Another signature, type or issuer.
    {
        let mut state = fake.state();
        state.list_signer = Signer::new();
        (state.issuer, state.typ) = ("https://evil.example.com", "at+jwt");
    }
    let propusk = fake
        .builder()
        .max_stale(short)
        .timing_for_tests(Duration::from_secs(45), short)
        .build()
        .expect("settings");
    let feed = propusk.feed().expect("a feed").clone();
    let refused = async |requests: usize| {
        let before = fake.count("list");
        eventually("asked again", LONG, || async { fake.count("list") > before + requests }).await;
        assert_eq!(feed.number(), None);
        assert_eq!(feed.check("k", &plain()), RevocationStatus::Unknown);
    };
    refused(1).await;
    fake.state().list_signer = fake.signer.clone();
    refused(1).await;
    fake.state().typ = "revocations+jwt";
    refused(1).await;
    fake.state().issuer = crate::support::fake_feed::ISSUER;
    until_status(&feed, RevocationStatus::Valid).await;

    // An entry that this version cannot read, until it expires.
    streaming(&fake, &propusk, 0).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
    let soon = now.as_secs() + 2;
    let unknown = json!([{ "kind": "galaxy", "id": "x", "expires_at": soon }]);
    fake.delta(0, 1, &unknown);
    until_number(&feed, 1).await;
    assert_eq!(feed.check("k", &plain()), RevocationStatus::Unknown);
    propusk.sleep_for_tests(Duration::from_secs(3));
    assert_eq!(feed.check("k", &plain()), RevocationStatus::Valid);
    fake.delta(1, 2, &json!([{ "kind": "subject", "id": "s" }]));
    until_number(&feed, 2).await;
    assert_eq!(feed.check("k", &plain()), RevocationStatus::Unknown);
    {
        let mut state = fake.state();
        (state.number, state.entries) = (2, vec![]);
    }
    fake.send("event: reset\ndata: {}\n\n");
    until_status(&feed, RevocationStatus::Valid).await;

    // A connection that is lost: for `max_stale`, then no longer.
    streaming(&fake, &propusk, 2).await;
    let began = Instant::now();
    fake.state().is_down = true;
    fake.end();
    until_status(&feed, RevocationStatus::Unknown).await;
    assert!(began.elapsed() >= short, "it is trusted for a while");
    assert!(!feed.is_current() && !feed.ready(Duration::from_millis(1)).await);
    fake.state().is_down = false;
    until_status(&feed, RevocationStatus::Valid).await;

    // A process that slept trusts nothing it held, and nothing that was sent while it slept.
    streaming(&fake, &propusk, 2).await;
    let streams = fake.count("stream 2");
    propusk.sleep_for_tests(Duration::from_secs(3_600));
    assert_eq!(feed.check("k", &plain()), RevocationStatus::Unknown);
    fake.state().is_down = true;
    fake.send(": keep-alive\n\n");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(feed.check("k", &plain()), RevocationStatus::Unknown);
    fake.state().is_down = false;
    until_status(&feed, RevocationStatus::Valid).await;
    eventually("a new stream", LONG, || async { fake.count("stream 2") > streams }).await;

    // A follower that is dropped asks no more, and its last handle says so.
    drop((propusk, feed));
    eventually("the stream has ended", LONG, || async {
        fake.send(": x\n\n");
        fake.streams() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t192_a_silent_stream_is_given_up() {
    let fake = FakeFeed::start().await;
    let silence = Duration::from_millis(1_500);
    let (sender, mut errors) = tokio::sync::mpsc::unbounded_channel();
    let propusk = fake
        .builder()
        .max_stale(Duration::ZERO)
        .timing_for_tests(silence, Duration::from_millis(200))
        .on_feed_error(move |error| drop(sender.send(error.to_string())))
        .build()
        .expect("settings");
    let feed = streaming(&fake, &propusk, 0).await;
    // Comments keep it alive, for longer than it may be silent.
    let began = Instant::now();
    while began.elapsed() < silence * 2 {
        fake.send(": keep-alive\n\n");
        tokio::time::sleep(silence / 30).await;
    }
    assert_eq!(fake.count("stream 0"), 1);
    assert!(errors.try_recv().is_err());
    fake.state().is_down = true;
    let told = errors.recv().await.expect("an error");
    assert!(told.contains("silent"), "{told}");
    assert_eq!(feed.check("k", &plain()), RevocationStatus::Unknown);
}

//! Verifications of access tokens per second and core: by jsonwebtoken alone, and by this crate with
//! the revocation feed, against a running server. Prints a table.
//!
//!     cargo build --release && cargo bench -p propusk-client
#![allow(clippy::disallowed_methods)] // measures durations

#[path = "../tests/kit/support/server.rs"]
#[allow(dead_code)] // The tests need more of it.
mod server;

use std::time::{Duration, Instant};

use http::Method;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use propusk_client::{AccessClaims, Propusk, Registration};
use server::{PASSWORD, Server};

const TOKENS: usize = 2_000;
const TIME: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(run());
}

async fn run() {
    let server = Server::start(&[]).await;
    let secret = server.add_client("gateway", "propusk:revocations");
    let asking = Propusk::builder(&server.issuer).build().expect("settings");
    let register = |n: usize| {
        let asking = &asking;
        async move {
            let email = format!("u{n}@example.org");
            let registration =
                Registration { email, password: PASSWORD.to_owned(), ..Registration::default() };
            asking.register(&registration).await.expect("an account").access_token
        }
    };
    let mut tokens = vec![];
    while tokens.len() < TOKENS {
        let batch = (tokens.len()..tokens.len() + 50).map(&register);
        tokens.extend(futures_util::future::join_all(batch).await);
    }
    let kit = |remembered| {
        Propusk::builder(&server.issuer)
            .feed("gateway", &secret)
            .remembered(remembered)
            .build()
            .expect("settings")
    };
    // One slot is no memory for a thousand tokens in turn.
    let (forgetful, propusk) = (kit(1), kit(5_000));
    // A list as long as that of a busy server: logouts within the lifetime of an access token.
    for token in tokens.drain(..TOKENS / 2) {
        let mut headers = http::HeaderMap::new();
        let cookie = format!("{}={token}", asking.cookies().access_name());
        headers.insert("cookie", cookie.parse().expect("a header"));
        asking.sign_out(&Method::POST, &headers).await.expect("revoked");
    }
    tokio::time::sleep(Duration::from_millis(500)).await;

    let jwks = reqwest::get(format!("{}/oauth2/jwks", server.issuer)).await.expect("keys");
    let jwks: JwkSet = jwks.json().await.expect("a JWKS");
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[&server.issuer]);
    validation.set_issuer(&[&server.issuer]);
    let keys: Vec<_> =
        jwks.keys.iter().map(|jwk| DecodingKey::from_jwk(jwk).expect("a key")).collect();
    let alone = async |token: &str| {
        let kid = decode_header(token).expect("a header").kid;
        let index = jwks.keys.iter().position(|jwk| jwk.common.key_id == kid).expect("a key");
        decode::<AccessClaims>(token, &keys[index], &validation).expect("valid");
    };
    println!("{} tokens, {} revocations, one thread", tokens.len(), TOKENS / 2);
    measure("jsonwebtoken alone", &tokens, &alone).await;
    let verify = async |token: &str| drop(forgetful.verify(token).await.expect("valid"));
    measure("with the feed, every signature checked", &tokens, verify).await;
    let verify = async |token: &str| drop(propusk.verify(token).await.expect("valid"));
    measure("with the feed, tokens seen before", &tokens, verify).await;
    measure("jsonwebtoken alone, again", &tokens, &alone).await;
}

/// Calls `verify` for one token after another; prints how often in a second of processor time.
async fn measure(name: &str, tokens: &[String], verify: impl AsyncFn(&str)) {
    for token in tokens {
        verify(token).await;
    }
    let (began, before) = (Instant::now(), processor_time());
    let mut count = 0_u32;
    while began.elapsed() < TIME {
        for token in tokens {
            verify(token).await;
            count += 1;
            if count.is_multiple_of(50) && began.elapsed() >= TIME {
                break;
            }
        }
    }
    let rate = f64::from(count) / (processor_time() - before).as_secs_f64();
    println!("{name:<48} {rate:>9.0} /s and core");
}

/// The time for which this thread has run.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

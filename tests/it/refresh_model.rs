//! The refresh flow against the rules of its model (tests/models/refresh_chain.rs, docs/models.md):
//! random sequences of what clients, tabs and thieves present, to two processes.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::StatusCode;

use crate::support::{Backend, TestServer, backend_tests};

backend_tests! {
    random_refreshes_follow_the_model,
}

/// `tokens.replay_window`
const WINDOW: Duration = Duration::from_secs(10);
const SEQUENCES: u64 = 16;
const STEPS: usize = 30;

/// Xorshift: the same sequences in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("a small number")
    }
}

/// What the model says about one session.
struct Oracle {
    /// By generation; the last one is current.
    tokens: Vec<String>,
    /// Since the last rotation.
    age: Duration,
    revoked: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Rotation,
    Replay,
    Refusal,
}

impl Oracle {
    fn present(&mut self, generation: usize) -> Expected {
        let current = self.tokens.len() - 1;
        if self.revoked {
            Expected::Refusal
        } else if generation == current {
            Expected::Rotation
        } else if generation + 1 == current && self.age < WINDOW {
            Expected::Replay
        } else {
            self.revoked = true;
            Expected::Refusal
        }
    }
}

/// A token of the same generation with another secret.
fn made_up(token: &str) -> String {
    let (start, end) = token.split_at(token.len() - 1);
    format!("{start}{}", if end == "A" { "B" } else { "A" })
}

async fn random_refreshes_follow_the_model(backend: Backend) {
    let one = TestServer::start(backend).await;
    let other = one.another(&[]).await;
    one.register("ann").await;
    let (mut rotations, mut replays, mut reuses) = (0, 0, 0);
    for seed in 1..=SEQUENCES {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let first = one.login("ann").await.tokens();
        let mut access = first.access;
        let mut oracle =
            Oracle { tokens: vec![first.refresh], age: Duration::ZERO, revoked: false };
        for step in 0..STEPS {
            let at = format!("sequence {seed}, step {step}");
            let server = [&one, &other][random.below(2)];
            let current = oracle.tokens.len() - 1;
            let generation = match random.below(20) {
                0..6 => {
                    // Half of the pauses end next to the window's end.
                    let micros = [1, 500_000, 4_000_000, 9_999_999, 10_000_000][random.below(5)];
                    let pause = Duration::from_micros(micros);
                    one.clock.advance(pause);
                    oracle.age += pause;
                    continue;
                }
                6..8 => {
                    let reply = server.refresh(&made_up(&oracle.tokens[current])).await;
                    reply.expect_error(401, "INVALID_REFRESH_TOKEN");
                    continue;
                }
                8 if step > STEPS / 2 => {
                    let reply = server.post_as("/api/v1/auth/logout", &access).await;
                    let status = if oracle.revoked { 401 } else { 200 };
                    assert_eq!(reply.status.as_u16(), status, "{at}: {reply:?}");
                    oracle.revoked = true;
                    continue;
                }
                9 if step > STEPS / 2 => random.below(current + 1),
                10..14 => current.saturating_sub(1),
                _ => current,
            };
            let expected = oracle.present(generation);
            // Some of them several times at once, at both processes.
            let times = [1, 1, 1, 4][random.below(4)];
            let token = oracle.tokens[generation].clone();
            let replies = (0..times).map(|n| [&one, &other][n % 2].refresh(&token));
            let replies = if times == 1 {
                vec![server.refresh(&token).await]
            } else {
                join_all(replies).await
            };
            match expected {
                Expected::Refusal => {
                    reuses += 1;
                    for reply in replies {
                        reply.expect_error(401, "INVALID_REFRESH_TOKEN");
                    }
                }
                Expected::Rotation | Expected::Replay => {
                    let tokens = replies.into_iter().map(|reply| {
                        assert_eq!(reply.status, StatusCode::OK, "{at}: {reply:?}");
                        reply.tokens()
                    });
                    let tokens: Vec<_> = tokens.collect();
                    let successor = tokens[0].refresh.clone();
                    let same = tokens.iter().all(|one| one.refresh == successor);
                    assert!(same, "{at}: a token has one successor");
                    access.clone_from(&tokens[0].access);
                    if expected == Expected::Rotation {
                        rotations += 1;
                        assert!(!oracle.tokens.contains(&successor), "{at}");
                        oracle.tokens.push(successor);
                        oracle.age = Duration::ZERO;
                    } else {
                        replays += 1;
                        assert_eq!(oracle.tokens.last(), Some(&successor), "{at}");
                    }
                }
            }
            let reply = [&one, &other][random.below(2)].verify(&access).await;
            let status = if oracle.revoked { 401 } else { 200 };
            assert_eq!(reply.status.as_u16(), status, "{at}: {reply:?}");
        }
    }
    assert!(rotations > 50 && replays > 20 && reuses > 20, "{rotations} {replays} {reuses}");
}

//! An authenticator app and its user.

use std::time::Duration;

use openssl::{hash::MessageDigest, pkey::PKey, sign::Signer};
use propusk::clock::Clock;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{PASSWORD, Reply, TestServer, Tokens, oauth::Browser, send};

/// An authenticator app, which has scanned a QR code (RFC 6238).
#[derive(Clone, Debug)]
pub struct Authenticator {
    secret: Vec<u8>,
}

impl Authenticator {
    /// With the secret that a page or the API shows (RFC 4648 §6).
    pub fn of(secret: &str) -> Self {
        let (mut bytes, mut buffer, mut bits) = (vec![], 0_u32, 0);
        for letter in secret.bytes().filter(|byte| *byte != b' ') {
            let value = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'2'..=b'7' => letter - b'2' + 26,
                other => panic!("not Base32: {other}"),
            };
            buffer = (buffer << 5) | u32::from(value);
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                bytes.push((buffer >> bits) as u8);
            }
        }
        Self { secret: bytes }
    }

    /// The code at this time.
    pub fn code(&self, clock: &Clock) -> String {
        self.code_in(clock, 0)
    }

    /// The code so many steps of 30 seconds later.
    pub fn code_in(&self, clock: &Clock, steps: i64) -> String {
        let step = clock.now().as_secs() / 30 + steps;
        let key = PKey::hmac(&self.secret).expect("a key");
        let mut signer = Signer::new(MessageDigest::sha1(), &key).expect("HMAC");
        let mac = signer.sign_oneshot_to_vec(&step.to_be_bytes()).expect("a MAC");
        let at = usize::from(mac[19] & 15);
        let word = u32::from_be_bytes(mac[at..at + 4].try_into().expect("four bytes"));
        format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
    }

    /// A code that is not right now.
    pub fn wrong_code(&self, clock: &Clock) -> String {
        let right: Vec<_> = [-1, 0, 1].map(|steps| self.code_in(clock, steps)).into();
        (0..).map(|n| format!("{n:06}")).find(|code| !right.contains(code)).expect("one")
    }
}

/// The next code is another one.
pub fn next_step(server: &TestServer) {
    server.clock.advance(Duration::from_secs(30));
}

impl TestServer {
    /// Sends JSON with an access token.
    pub async fn post_json_as(&self, path: &str, access_token: &str, body: Value) -> Reply {
        send(self.request(Method::POST, path).bearer_auth(access_token).json(&body)).await
    }

    pub async fn delete_as(&self, path: &str, access_token: &str) -> Reply {
        send(self.request(Method::DELETE, path).bearer_auth(access_token)).await
    }

    /// Sets up an authenticator app by the JSON API; returns it with the recovery codes.
    pub async fn set_up_totp(&self, access_token: &str) -> (Authenticator, Vec<String>) {
        let begun = self.post_as("/api/v1/account/second-factors/totp", access_token).await;
        let begun = begun.expect(StatusCode::OK);
        let app = Authenticator::of(&begun.text_of("/secret"));
        let body = json!({ "setupToken": begun.text_of("/setupToken"), "code": app.code(&self.clock), "name": "Phone" });
        let path = "/api/v1/account/second-factors/totp/confirm";
        let added = self.post_json_as(path, access_token, body).await.expect(StatusCode::CREATED);
        next_step(self);
        (app, codes_of(&added))
    }

    /// A user with an authenticator app.
    pub async fn register_with_totp(&self, name: &str) -> (Authenticator, Vec<String>) {
        let tokens = self.register(name).await;
        self.set_up_totp(&tokens.access).await
    }

    /// The token of the first step of a login.
    pub async fn first_step(&self, name: &str) -> String {
        let reply = self.login(name).await.expect_error(403, "MFA_REQUIRED");
        reply.json()["mfa"]["mfaToken"].as_str().expect("a token").to_owned()
    }

    pub async fn second_step(&self, token: &str, code: &str) -> Reply {
        let body = json!({ "mfaToken": token, "code": code });
        self.post("/api/v1/auth/login/mfa", body).await
    }

    /// A login by password and the current code.
    pub async fn login_with(&self, name: &str, app: &Authenticator) -> Tokens {
        let token = self.first_step(name).await;
        let reply = self.second_step(&token, &app.code(&self.clock)).await;
        next_step(self);
        reply.expect(StatusCode::OK).tokens()
    }
}

/// The recovery codes of a response.
pub fn codes_of(reply: &Reply) -> Vec<String> {
    let codes = reply.data()["recoveryCodes"].as_array().cloned().unwrap_or_default();
    codes.iter().map(|code| code.as_str().expect("text").to_owned()).collect()
}

impl Browser<'_> {
    /// The first step at a login page: returns the page of the second.
    pub async fn open_second_step(&mut self, address: &str, name: &str) -> Reply {
        let page = self.open(address).await.expect(StatusCode::OK);
        let reply = self.submit(&page, &[("login", name), ("password", PASSWORD)]).await;
        let location = reply.expect(StatusCode::SEE_OTHER).header("location").to_owned();
        assert!(location.starts_with("/login/second-factor"), "{location}");
        self.open(&location).await.expect(StatusCode::OK)
    }

    /// A whole login with the current code; returns where it leads.
    pub async fn log_in_with(&mut self, address: &str, name: &str, app: &Authenticator) -> String {
        let page = self.open_second_step(address, name).await;
        let code = app.code(&self.server.clock);
        next_step(self.server);
        let reply = self.submit(&page, &[("code", &code)]).await.expect(StatusCode::SEE_OTHER);
        reply.header("location").to_owned()
    }
}

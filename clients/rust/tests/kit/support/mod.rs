pub mod apps;
pub mod fake_feed;
pub mod proxy;
pub mod server;

use std::sync::atomic::{AtomicU32, Ordering};

use http::{HeaderMap, HeaderValue, Method};
use propusk_client::{Propusk, Registration, Tokens};
use server::{PASSWORD, Server};

/// A user with a session.
pub struct Person {
    pub email: String,
    pub tokens: Tokens,
}

impl Person {
    /// Registers a user of its own.
    pub async fn new(propusk: &Propusk) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let email = format!("u{}@example.org", COUNT.fetch_add(1, Ordering::Relaxed));
        let registration = Registration {
            email: email.clone(),
            password: PASSWORD.to_owned(),
            ..Registration::default()
        };
        let tokens = propusk.register(&registration).await.expect("an account");
        Self { email, tokens }
    }

    pub fn access(&self) -> &str {
        &self.tokens.access_token
    }

    pub fn refresh(&self) -> &str {
        &self.tokens.refresh_token
    }

    /// The Cookie header of a browser that has both.
    pub fn cookies(&self) -> String {
        format!("propusk_access={}; propusk_refresh={}", self.access(), self.refresh())
    }

    /// That of a browser whose access cookie has expired: it drops the cookie.
    pub fn refresh_cookie(&self) -> String {
        format!("a=b; propusk_refresh={}", self.refresh())
    }
}

/// The headers of a request.
pub fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| {
        let name = http::HeaderName::from_static(name);
        (name, HeaderValue::from_str(value).expect("a header"))
    });
    pairs.collect()
}

/// Revokes the session of a user, as another program.
pub async fn log_out(server: &Server, person: &Person) {
    let propusk = Propusk::builder(&server.issuer).build().expect("settings");
    let request = headers(&[("cookie", &person.cookies())]);
    propusk.sign_out(&Method::POST, &request).await.expect("revoked");
}

//! A proxy between the kit and the server: it counts requests, and loses what it is told to lose.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use http::StatusCode;
use tokio::sync::watch;

/// A running proxy; it ends with the runtime of the test.
#[derive(Clone)]
pub struct Proxy {
    pub url: String,
    target: String,
    http: reqwest::Client,
    state: Arc<Mutex<Conditions>>,
    /// Ends the streams that are open.
    cut: Arc<watch::Sender<u32>>,
}

#[derive(Default)]
struct Conditions {
    requests: Vec<(String, http::HeaderMap)>,
    lose: Vec<String>,
    is_down: bool,
}

impl Proxy {
    pub async fn before(target: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxy = Self {
            url: format!("http://{}", listener.local_addr().expect("an address")),
            target: target.to_owned(),
            http: reqwest::Client::new(),
            state: Arc::default(),
            cut: Arc::new(watch::Sender::new(0)),
        };
        let router = Router::new().fallback(answer).with_state(proxy.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        proxy
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Conditions> {
        self.state.lock().expect("no panic")
    }

    /// The requests so far whose path ends so.
    pub fn count(&self, path: &str) -> usize {
        self.state().requests.iter().filter(|(known, _)| known.ends_with(path)).count()
    }

    /// A header of the last request whose path ends so.
    pub fn header(&self, path: &str, name: &str) -> Option<String> {
        let state = self.state();
        let (_, headers) = state.requests.iter().rfind(|(known, _)| known.ends_with(path))?;
        headers.get(name).map(|value| value.to_str().expect("text").to_owned())
    }

    /// The next request for this path reaches the server, and its answer is lost.
    pub fn lose(&self, path: &str) {
        self.state().lose.push(path.to_owned());
    }

    /// Whether every request is answered 503, as by a load balancer without a server; streams that
    /// are open are cut.
    pub fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
        if is_down {
            self.cut.send_modify(|count| *count += 1);
        }
    }
}

async fn answer(State(proxy): State<Proxy>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let is_lost = {
        let mut state = proxy.state();
        state.requests.push((path.clone(), parts.headers.clone()));
        if state.is_down {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let position = state.lose.iter().position(|lost| *lost == path);
        position.map(|position| state.lose.remove(position)).is_some()
    };
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    let target = format!("{}{}", proxy.target, parts.uri);
    let sent = proxy.http.request(parts.method, target).headers(parts.headers).body(body);
    let Ok(upstream) = sent.send().await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let mut response = Response::builder().status(upstream.status());
    *response.headers_mut().expect("headers") = upstream.headers().clone();
    if is_lost {
        // The header section, then an end in the middle of the body.
        let broken = stream::once(async { Err::<Vec<u8>, _>(std::io::Error::other("lost")) });
        return response.body(Body::from_stream(broken)).expect("a response");
    }
    let mut cut = proxy.cut.subscribe();
    let end = async move {
        let _ = cut.changed().await;
    };
    let body = upstream.bytes_stream().take_until(Box::pin(end));
    response.body(Body::from_stream(body)).expect("a response")
}

//! A server of the revocation feed that does what the real one does rarely: gaps, resets, unknown
//! kinds, silence.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use propusk_client::{Builder, Propusk};
use serde_json::{Value, json};
use tokio::sync::mpsc;

pub const ISSUER: &str = "https://id.example.com";

/// A key pair for ES256.
#[derive(Clone)]
pub struct Signer {
    key: EncodingKey,
    point: Vec<u8>,
}

impl Signer {
    pub fn new() -> Self {
        let pair = rcgen::KeyPair::generate().expect("a key pair");
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        Self { key, point: pair.public_key_raw().to_vec() }
    }

    pub fn jwk(&self, kid: &str) -> Value {
        let (x, y) = self.point[1..].split_at(32);
        let [x, y] = [x, y].map(|half| URL_SAFE_NO_PAD.encode(half));
        let mut jwk = json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig" });
        (jwk["kid"], jwk["x"], jwk["y"]) = (json!(kid), json!(x), json!(y));
        jwk
    }

    pub fn sign(&self, kid: Option<&str>, typ: &str, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = kid.map(str::to_owned);
        header.typ = Some(typ.to_owned());
        encode(&header, claims, &self.key).expect("a JWT")
    }
}

/// The server. A clone is the same one.
#[derive(Clone)]
pub struct FakeFeed {
    pub url: String,
    pub signer: Signer,
    state: Arc<Mutex<Feed>>,
}

pub struct Feed {
    pub number: u64,
    pub entries: Vec<Value>,
    /// As `list`, `delta SINCE`, `stream SINCE`, `jwks`.
    pub requests: Vec<String>,
    pub is_down: bool,
    pub typ: &'static str,
    pub issuer: &'static str,
    /// By which the list is signed.
    pub list_signer: Signer,
    pub keys: Vec<Value>,
    streams: Vec<mpsc::UnboundedSender<String>>,
}

impl FakeFeed {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let signer = Signer::new();
        let fake = Self {
            url: format!("http://{}", listener.local_addr().expect("an address")),
            state: Arc::new(Mutex::new(Feed {
                number: 0,
                entries: vec![],
                requests: vec![],
                is_down: false,
                typ: "revocations+jwt",
                issuer: ISSUER,
                list_signer: signer.clone(),
                keys: vec![signer.jwk("k")],
                streams: vec![],
            })),
            signer,
        };
        let discovery = json!({ "issuer": ISSUER, "jwks_uri": format!("{ISSUER}/oauth2/jwks") });
        let token = json!({ "access_token": "a-token", "expires_in": 900 });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(move || async { Json(discovery) }))
            .route("/oauth2/token", post(move || async { Json(token) }))
            .route("/oauth2/jwks", get(jwks))
            .route("/oauth2/revocations", get(revocations))
            .with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    pub fn state(&self) -> std::sync::MutexGuard<'_, Feed> {
        self.state.lock().expect("no panic")
    }

    pub fn builder(&self) -> Builder {
        Propusk::builder(ISSUER).url(&self.url).feed("gateway", "secret")
    }

    /// Sends text on the open streams.
    pub fn send(&self, text: &str) {
        self.state().streams.retain(|stream| stream.send(text.to_owned()).is_ok());
    }

    pub fn delta(&self, from: u64, to: u64, entries: &Value) {
        let data = json!({ "from": from, "to": to, "entries": entries });
        self.send(&format!("event: delta\nid: {to}\ndata: {data}\n\n"));
    }

    /// The streams that are open.
    pub fn streams(&self) -> usize {
        self.state().streams.len()
    }

    /// Ends the streams, as a server that shuts down.
    pub fn end(&self) {
        self.state().streams.clear();
    }

    pub fn last_request(&self) -> String {
        self.state().requests.last().cloned().unwrap_or_default()
    }

    pub fn count(&self, request: &str) -> usize {
        self.state().requests.iter().filter(|known| *known == request).count()
    }
}

async fn jwks(State(fake): State<FakeFeed>) -> Response {
    let mut state = fake.state();
    if state.is_down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    state.requests.push("jwks".to_owned());
    Json(json!({ "keys": state.keys })).into_response()
}

async fn revocations(
    State(fake): State<FakeFeed>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let mut state = fake.state();
    if state.is_down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let is_stream = headers["accept"] == "text/event-stream";
    let Some((_, since)) = query.first() else {
        state.requests.push("list".to_owned());
        let claims =
            json!({ "iss": state.issuer, "number": state.number, "entries": state.entries });
        return state.list_signer.sign(Some("k"), state.typ, &claims).into_response();
    };
    state.requests.push(format!("{} {since}", if is_stream { "stream" } else { "delta" }));
    let since: u64 = since.parse().expect("a number");
    if since > state.number {
        return StatusCode::GONE.into_response();
    }
    if !is_stream {
        let entries = if since < state.number { state.entries.clone() } else { vec![] };
        let delta = json!({ "from": since, "to": state.number, "entries": entries });
        return Json(delta).into_response();
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    state.streams.push(sender);
    let texts = stream::unfold(receiver, async |mut receiver: mpsc::UnboundedReceiver<String>| {
        receiver.recv().await.map(|text| (Ok::<_, Infallible>(text), receiver))
    });
    Response::new(Body::from_stream(texts))
}

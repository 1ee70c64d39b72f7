//! The limits: the cost of the parts alone.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use bytes::Bytes;
use josekit::jws::{
    self, ES256, JwsHeader, RS256,
    alg::{ecdsa::EcdsaJwsSigner, rsassa::RsassaJwsSigner},
};
use poem::{
    EndpointExt, Response, Route,
    error::InternalServerError,
    get, handler, post,
    web::{Data, Json},
};
use propusk::{
    clock::{Clock, Timestamp},
    config,
    listener::{self, Options},
    model::client::{FIRST_PARTY, first_party},
    storage::{Db, sessions},
};
use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::task::JoinSet;

use crate::{Result, seed::Chain};

/// Serves the best that a poem handler can do, on Propusk's listener and paths, so that the same
/// requests can be sent: static responses as long as the JWKS, `/verify`, introspection and
/// UserInfo; for refresh the body parsed and one ES256 token signed, and an RS256 ID token for a
/// code.
pub async fn serve(address: SocketAddr, lengths: [usize; 4], redis_url: &str) -> Result<()> {
    let [jwks, verify, introspection, userinfo] =
        lengths.map(|bytes| Bytes::from(vec![b'x'; bytes]));
    let redis = match redis_url {
        "" => None,
        url => Some(redis::Client::open(url)?.get_multiplexed_async_connection().await?),
    };
    let pair = ES256.generate_key_pair()?;
    let mut header = JwsHeader::new();
    header.set_token_type("at+jwt");
    header.set_key_id("0123456789012345678901234567890123456789012");
    let id_token = RS256.signer_from_jwk(&RS256.generate_key_pair(2048)?.to_jwk_key_pair())?;
    let signer = ES256.signer_from_jwk(&pair.to_jwk_key_pair())?;
    let signing = Arc::new(Signing { signer, id_token, header });
    let routes = Route::new()
        .at("/oauth2/jwks", get(fixed.data(jwks)))
        .at("/api/v1/auth/verify", get(fixed.data(verify)))
        .at("/oauth2/introspect", post(fixed.data(introspection)))
        .at("/oauth2/userinfo", get(fixed.data(userinfo)))
        .at("/forward-auth", get(fixed.data(Bytes::new())))
        .at("/oauth2/token", post(sign_for_client.data(Arc::clone(&signing))))
        .at("/api/v1/auth/token/refresh", post(sign.data(signing)))
        .data(redis);
    let second = Duration::from_secs(1);
    let bound = listener::bind(&Options {
        listen: address,
        setting: "the limit server",
        reuse_port: false,
        socket_activation: false,
        max_connections: 1000,
        header_timeout: 10 * second,
        idle_timeout: 75 * second,
        handshake_timeout: 10 * second,
        request_timeout: 30 * second,
        max_header_bytes: 16 * 1024,
        shutdown_grace: second,
        tls: None,
    })?;
    bound.serve(routes, std::future::pending()).await?;
    Ok(())
}

#[handler]
async fn fixed(
    Data(bytes): Data<&Bytes>,
    Data(redis): Data<&Option<MultiplexedConnection>>,
) -> poem::Result<Response> {
    if let Some(mut redis) = redis.clone() {
        let mut command = redis::cmd("HGET");
        command.arg("propusk:revocations").arg("head");
        let answer = command.query_async::<Option<String>>(&mut redis).await;
        answer.map_err(InternalServerError)?;
    }
    Ok(Response::builder().content_type("application/json").body(bytes.clone()))
}

struct Signing {
    signer: EcdsaJwsSigner,
    id_token: RsassaJwsSigner,
    header: JwsHeader,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refresh {
    refresh_token: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RefreshResponse {
    status_code: u16,
    message: &'static str,
    data: Tokens,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tokens {
    access_token: String,
    refresh_token: String,
    token_type: &'static str,
    expires_in: u32,
    refresh_expires_in: u32,
    user: User,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct User {
    id: &'static str,
    email: &'static str,
    username: &'static str,
    role: &'static str,
    is_verified: bool,
    created_at: &'static str,
}

/// Claims as long as those of a real token.
#[derive(Serialize)]
struct Claims {
    iss: &'static str,
    sub: &'static str,
    aud: &'static str,
    iat: i64,
    exp: i64,
    jti: &'static str,
    client_id: &'static str,
    scope: &'static str,
    sid: &'static str,
    auth_time: i64,
    email: &'static str,
    role: &'static str,
}

#[handler]
fn sign(
    Json(body): Json<Refresh>,
    Data(signing): Data<&Arc<Signing>>,
) -> poem::Result<Json<RefreshResponse>> {
    const ID: &str = "019a0000-0000-7000-8000-000000000000";
    const EMAIL: &str = "bench0@example.org";
    let claims = serde_json::to_vec(&Claims {
        iss: "http://127.0.0.1:12345",
        sub: ID,
        aud: "http://127.0.0.1:12345",
        iat: 1_790_000_000,
        exp: 1_790_000_900,
        jti: ID,
        client_id: "propusk",
        scope: "openid profile email",
        sid: ID,
        auth_time: 1_790_000_000,
        email: EMAIL,
        role: "user",
    })
    .map_err(InternalServerError)?;
    let access_token = jws::serialize_compact(&claims, &signing.header, &signing.signer)
        .map_err(InternalServerError)?;
    Ok(Json(RefreshResponse {
        status_code: 200,
        message: "refreshed",
        data: Tokens {
            access_token,
            refresh_token: body.refresh_token,
            token_type: "Bearer",
            expires_in: 900,
            refresh_expires_in: 604_800,
            user: User {
                id: ID,
                email: EMAIL,
                username: "bench0",
                role: "user",
                is_verified: false,
                created_at: "2026-11-21T00:00:00Z",
            },
        },
    }))
}

#[derive(Serialize)]
struct ClientClaims {
    iss: &'static str,
    sub: String,
    aud: &'static str,
    iat: i64,
    exp: i64,
    jti: &'static str,
    client_id: &'static str,
    scope: &'static str,
}

#[derive(Serialize)]
struct ClientTokenResponse {
    access_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
    token_type: &'static str,
    expires_in: u32,
    scope: &'static str,
}

/// Parses the form and signs one token, and for a code an ID token.
#[handler]
fn sign_for_client(
    body: Vec<u8>,
    Data(signing): Data<&Arc<Signing>>,
) -> poem::Result<Json<ClientTokenResponse>> {
    let grant = url::form_urlencoded::parse(&body)
        .find(|(name, _)| name == "grant_type")
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default();
    let has_code = grant == "authorization_code";
    let claims = serde_json::to_vec(&ClientClaims {
        iss: "http://127.0.0.1:12345",
        sub: grant,
        aud: "http://127.0.0.1:12345",
        iat: 1_790_000_000,
        exp: 1_790_000_900,
        jti: "019a0000-0000-7000-8000-000000000000",
        client_id: "bench",
        scope: "bench:read bench:write",
    })
    .map_err(InternalServerError)?;
    let access_token = jws::serialize_compact(&claims, &signing.header, &signing.signer)
        .map_err(InternalServerError)?;
    let sign_id_token = || jws::serialize_compact(&claims, &signing.header, &signing.id_token);
    let id_token = has_code.then(sign_id_token).transpose().map_err(InternalServerError)?;
    Ok(Json(ClientTokenResponse {
        access_token,
        id_token,
        token_type: "Bearer",
        expires_in: 900,
        scope: "bench:read bench:write",
    }))
}

/// Argon2id hashes per second on this many threads, reusing their memory.
pub fn argon2(passwords: &config::Passwords, threads: usize, lasting: Duration) -> Result<f64> {
    let (memory_kib, iterations, lanes) =
        (passwords.memory_kib, passwords.iterations, passwords.parallelism);
    let params =
        Params::new(memory_kib, iterations, lanes, Some(32)).map_err(|error| error.to_string())?;
    let blocks = params.block_count();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hashes = AtomicUsize::new(0);
    let mut took = Duration::ZERO;
    std::thread::scope(|scope| {
        let work = || -> Result<Duration> {
            let (mut memory, mut hash) = (vec![Block::default(); blocks], [0; 32]);
            // The first hash faults its memory in, and is not counted.
            argon2
                .hash_password_into_with_memory(b"a password", &[7; 16], &mut hash, &mut memory)
                .map_err(|error| error.to_string())?;
            let began = Instant::now();
            while began.elapsed() < lasting {
                argon2
                    .hash_password_into_with_memory(b"a password", &[7; 16], &mut hash, &mut memory)
                    .map_err(|error| error.to_string())?;
                hashes.fetch_add(1, Ordering::Relaxed);
            }
            Ok(began.elapsed())
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            took = took.max(thread.join().map_err(|_| "an argon2 thread panicked")??);
        }
        Ok::<_, crate::Error>(())
    })?;
    Ok(hashes.load(Ordering::Relaxed) as f64 / took.as_secs_f64())
}

/// The database on which the refresh statement alone is run.
#[derive(Clone)]
pub enum Statements {
    /// Through sqlx, over a pool like the server's.
    Postgres(PgPool),
    /// Through the group-committing writer.
    Sqlite(Db),
}

impl Statements {
    pub async fn close(self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite(db) => db.close().await,
        }
    }

    async fn rotate(&self, chain: &Chain, successor: [u8; 32], now: Timestamp) -> Result<bool> {
        let idle_expires_at = now + Duration::from_secs(7 * 24 * 60 * 60);
        Ok(match self {
            Self::Postgres(pool) => {
                let row = sqlx::query(sessions::ROTATE)
                    .bind(chain.id.as_str())
                    .bind(&chain.hash[..])
                    .bind(&successor[..])
                    .bind(now.micros())
                    .bind(idle_expires_at.micros())
                    .bind(FIRST_PARTY)
                    .fetch_optional(pool)
                    .await?;
                row.is_some()
            }
            Self::Sqlite(db) => {
                let rotated = sessions::rotate(
                    db,
                    &chain.id,
                    first_party(),
                    chain.hash,
                    successor,
                    now,
                    idle_expires_at,
                )
                .await?;
                rotated.is_some()
            }
        })
    }

    /// Refresh statements per second, each worker on chains of its own.
    pub async fn drive(&self, workers: &mut Vec<Vec<Chain>>, lasting: Duration) -> Result<f64> {
        let until = Instant::now() + lasting;
        let mut tasks = JoinSet::new();
        for chains in workers.drain(..) {
            tasks.spawn(self.clone().work(chains, until));
        }
        let mut count = 0;
        while let Some(done) = tasks.join_next().await {
            let (chains, done) = done??;
            workers.push(chains);
            count += done;
        }
        Ok(count as f64 / lasting.as_secs_f64())
    }

    async fn work(self, mut chains: Vec<Chain>, until: Instant) -> Result<(Vec<Chain>, usize)> {
        let clock = Clock::system();
        let mut count = 0;
        loop {
            for chain in &mut chains {
                let mut successor = chain.hash;
                let step = u64::from_le_bytes(successor.first_chunk().copied().unwrap_or_default());
                successor[..8].copy_from_slice(&step.wrapping_add(1).to_le_bytes());
                if !self.rotate(chain, successor, clock.now()).await? {
                    return Err("a refresh statement found no row".into());
                }
                chain.hash = successor;
                if Instant::now() >= until {
                    return Ok((chains, count));
                }
                count += 1;
            }
        }
    }
}

//! Tokens for users whom a back end keeps itself: by JSON, beside the cost of the parts, and by the
//! JWT bearer grant.

use std::time::{Duration, Instant};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use josekit::{
    jwk::Jwk,
    jws::{self, JwsSigner},
};
use propusk::{
    clock::{Clock, Rng},
    model::{
        self,
        client::{Client, GrantType, Metadata, Secret, Source},
    },
    oauth::scope::Scope,
    storage::{Db, Statement, clients},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use crate::{
    Bench, Deployment, Result,
    client::{Connection, Load, Round, drive},
    oauth::{COUNTED, SECRET, counted, form, statements, token_request},
    report::{Figure, Required, disk_sync, median},
    server::Server,
};

const CLIENT: &str = "bench-mp";
const SCOPE: &str = "bench:read";

/// The back end, with the key that signs its assertions.
pub async fn seed(site: &Deployment) -> Result<Jwk> {
    let key = jws::ES256.generate_key_pair()?.to_jwk_key_pair();
    let public = serde_json::to_value(key.to_public_key()?)?;
    let db = Db::open(&site.config()?).await?;
    let now = Clock::system().now();
    let client = Client {
        id: CLIENT.into(),
        source: Source::Operator,
        secrets: vec![Secret { hash: Sha256::digest(SECRET).to_vec(), expires_at: None }],
        metadata: Metadata {
            scope: Scope::parse("bench:read propusk:tokens")?,
            grant_types: vec![
                GrantType::ClientCredentials,
                GrantType::RefreshToken,
                GrantType::JwtBearer,
            ],
            jwks: Some(json!({ "keys": [public] })),
            subject_namespace: Some("bench".to_owned()),
            ..Metadata::default()
        },
        registration_token_hash: None,
        created_at: now,
        updated_at: now,
        expires_at: None,
        disabled_at: None,
    };
    let mut tx = db.begin().await?;
    clients::insert(&mut tx, &client).await?;
    tx.commit().await?;
    db.close().await;
    Ok(key)
}

pub fn issue_request() -> Vec<u8> {
    let body = format!(r#"{{"subject":"42","scope":"{SCOPE}","email":"bench@example.org"}}"#);
    let basic = STANDARD.encode(format!("{CLIENT}:{SECRET}"));
    format!(
        "POST /api/v1/tokens HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {basic}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sessions inserted per second, each by one statement.
pub async fn inserts(db: &Db, connections: usize, lasting: Duration) -> Result<f64> {
    const INSERT: &str = "INSERT INTO sessions (id, subject, client_id, scope, chain_key, generation, current_hash, \
         rotated_at, created_at, exchanged_at, idle_expires_at, expires_at, address, offline) \
         VALUES ($1, 'bench:42', 'propusk', 'bench:read', 1, 0, $2, $3, $3, $3, $4, $4, '127.0.0.1', TRUE)";
    let until = Instant::now() + lasting;
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let db = db.clone();
        tasks.spawn(async move {
            let (clock, rng) = (Clock::system(), Rng::system());
            let mut count = 0;
            while Instant::now() < until {
                let now = clock.now();
                let statement = Statement::new(INSERT)
                    .bind(model::new_id(&clock, &rng))
                    .bind(rng.bytes::<32>())
                    .bind(now)
                    .bind(now + Duration::from_secs(7 * 24 * 60 * 60));
                db.write(statement).await?;
                count += 1;
            }
            Ok::<usize, crate::Error>(count)
        });
    }
    let mut count = 0;
    while let Some(done) = tasks.join_next().await {
        count += done??;
    }
    Ok(count as f64 / lasting.as_secs_f64())
}

/// A token request with an assertion of its own.
fn bearer_request(key: &Jwk, issuer: &str) -> Result<Vec<u8>> {
    let (clock, rng) = (Clock::system(), Rng::system());
    let now = clock.now().as_secs();
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "iss": CLIENT, "sub": "42", "aud": issuer, "exp": now + 60,
        "jti": model::new_id(&clock, &rng),
    });
    let message = format!("{}.{}", part(json!({ "alg": "ES256" })), part(claims));
    let signature = jws::ES256.signer_from_jwk(key)?.sign(message.as_bytes())?;
    let body = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&scope={SCOPE}&assertion={message}.{}",
        URL_SAFE_NO_PAD.encode(signature)
    );
    Ok(form("/oauth2/token", CLIENT, &body))
}

impl Bench {
    /// Both ways on one database.
    pub(crate) async fn back_ends(
        &self,
        backend: &str,
        site: &Deployment,
        limits: &Server,
        figures: &mut Vec<Figure>,
    ) -> Result<()> {
        let key = seed(site).await?;
        if self.wants("issue") {
            figures.push(self.issue(backend, site, limits).await?);
        }
        if self.wants("bearer") {
            figures.push(self.bearer(backend, site, &key).await?);
        }
        Ok(())
    }

    /// The database for inserts alone: beside the server's rows in PostgreSQL, and in a file of its
    /// own with one writer in SQLite.
    pub(crate) async fn insert_alone(
        &self,
        backend: &str,
        site: &Deployment,
        name: &str,
    ) -> Result<Db> {
        if !site.is_sqlite() {
            return Ok(Db::open(&site.config()?).await?);
        }
        let alone = self.site(backend, name).await?;
        let config = alone.config()?;
        alone.server.stop().await?;
        Ok(Db::open(&config).await?)
    }

    /// `POST /api/v1/tokens`, next to a form and a signature alone and one insert alone.
    async fn issue(&self, backend: &str, site: &Deployment, limits: &Server) -> Result<Figure> {
        let db = self.insert_alone(backend, site, "insert").await?;
        let loads = |request: Vec<u8>| -> Vec<Load> {
            (0..self.connections).map(|_| Load::fixed(request.clone())).collect()
        };
        let (mut sign, mut issue) = (loads(token_request("bench")), loads(issue_request()));
        let before = disk_sync(&self.folder)?;
        let (mut rounds, mut parts, mut cpu) = (vec![], vec![], vec![]);
        for round in 0..=self.rounds {
            let a = inserts(&db, self.connections, self.lasting).await?;
            let b = drive(limits.address, &mut sign, self.lasting).await?.per_second;
            let measured = site.drive(&mut issue, self.lasting).await?;
            eprintln!(
                "{backend} issue, round {round}: insert {a:.0}/s, form and signing {b:.0}/s, issue {:.0}/s ({:.2} ms)",
                measured.per_second, measured.median
            );
            // The first round is a warm-up.
            if round > 0 {
                parts.push((a, b));
                rounds.push((measured.per_second, 1.0 / (1.0 / a + 1.0 / b)));
                cpu.extend(measured.cpu);
            }
        }
        db.close().await;
        let part = |value: fn(&(f64, f64)) -> f64| median(parts.iter().map(value).collect());
        Ok(Figure {
            name: format!("issue for a back end's user, {backend}"),
            rounds,
            unit: "/s",
            basis: format!(
                "the composite of one insert alone ({:.0}/s) and parsing and signing alone ({:.0}/s)",
                part(|(a, _)| *a),
                part(|(_, b)| *b)
            ),
            required: Required::AtLeast(0.7),
            disk: Some((before, disk_sync(&self.folder)?)),
            cpu,
        })
    }

    /// Reported without a limit: the driver signs the assertions on the same machine.
    async fn bearer(&self, backend: &str, site: &Deployment, key: &Jwk) -> Result<Figure> {
        let issuer = format!("http://{}", site.server.address);
        let mut connection = Connection::open(site.server.address).await?;
        let before = statements(site).await?;
        for _ in 0..COUNTED {
            grant(&mut connection, key, &issuer).await?;
        }
        let counted = counted(before, statements(site).await?);
        let (mut rounds, mut cpu) = (vec![], vec![]);
        for _ in 0..self.rounds {
            let meter = site.meter()?;
            let until = Instant::now() + self.lasting;
            let mut tasks = JoinSet::new();
            for _ in 0..self.connections {
                let (key, issuer) = (key.clone(), issuer.clone());
                let mut connection = Connection::open(site.server.address).await?;
                tasks.spawn(async move {
                    let mut times = vec![];
                    while Instant::now() < until {
                        times.push(grant(&mut connection, &key, &issuer).await?);
                    }
                    Ok::<_, crate::Error>(times)
                });
            }
            let mut times = vec![];
            while let Some(done) = tasks.join_next().await {
                times.extend(done??);
            }
            let round = Round::new(times, 0, self.lasting);
            cpu.push(meter.per_request(round.requests)?);
            rounds.push((round.per_second, f64::NAN));
        }
        Ok(Figure {
            name: format!("JWT bearer grant, {backend}"),
            rounds,
            unit: "/s",
            basis: format!("none: the driver signs the assertions too; {counted} (at most 3)"),
            required: Required::Nothing,
            disk: None,
            cpu,
        })
    }
}

/// One grant; milliseconds from the request to the response.
async fn grant(connection: &mut Connection, key: &Jwk, issuer: &str) -> Result<f64> {
    let request = bearer_request(key, issuer)?;
    let began = Instant::now();
    let (status, body) = connection.send(&request).await?;
    if status != 200 {
        return Err(format!("token answered {status}: {}", String::from_utf8_lossy(body)).into());
    }
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

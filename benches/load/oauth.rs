//! OAuth's hot paths: client credentials, introspection, UserInfo, the code flow, token exchange,
//! and latency beside RS256.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use propusk::{
    clock::{Clock, Rng},
    ids::SessionId,
    model::{
        self,
        client::{Client, Consent, GrantType, Metadata, Secret, Source, TokenExchangePolicy},
        key::SigningAlgorithm,
    },
    oauth::scope::Scope,
    storage::{
        Db,
        browser_sessions::{self, NewBrowserSession},
        clients, sessions,
    },
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;

use crate::{
    Bench, Deployment, Result,
    back_ends::inserts,
    client::{Connection, Load, Round, drive, request},
    report::{Figure, Required, disk_sync},
    server::Server,
};

/// Requests whose statements are counted.
pub const COUNTED: i64 = 50;
const SCOPE: &str = "openid+bench:read";

pub const SECRET: &str = "a secret of the bench's own";
const COOKIE: &str = "a cookie of the bench's own";
const CALLBACK: &str = "http://127.0.0.1/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Clients for every benchmark, with ES256 and RS256 tokens, and a browser that is logged in.
pub async fn seed(site: &Deployment) -> Result<()> {
    let db = Db::open(&site.config()?).await?;
    let (clock, rng) = (Clock::system(), Rng::system());
    let now = clock.now();
    // The issuer, which the bench gives the server by its environment.
    let own_api = format!("http://{}", site.server.address);
    let client = |id: &str, algorithm| -> Result<Client> {
        Ok(Client {
            id: id.into(),
            source: Source::Operator,
            secrets: vec![Secret { hash: Sha256::digest(SECRET).to_vec(), expires_at: None }],
            metadata: Metadata {
                client_name: "Bench".to_owned(),
                scope: Scope::parse("openid bench:read bench:write propusk:revocations")?,
                redirect_uris: vec![CALLBACK.to_owned()],
                grant_types: vec![
                    GrantType::AuthorizationCode,
                    GrantType::RefreshToken,
                    GrantType::ClientCredentials,
                    GrantType::TokenExchange,
                ],
                token_exchange: Some(TokenExchangePolicy {
                    audiences: vec![own_api.clone()],
                    impersonation: true,
                    ..TokenExchangePolicy::default()
                }),
                consent: Consent::Implicit,
                access_token_signing_alg: Some(algorithm),
                ..Metadata::default()
            },
            registration_token_hash: None,
            created_at: now,
            updated_at: now,
            expires_at: None,
            disabled_at: None,
        })
    };
    let made = [
        client("bench", SigningAlgorithm::Es256)?,
        client("bench-rs256", SigningAlgorithm::Rs256)?,
    ];
    let browser = NewBrowserSession {
        id: model::new_id(&clock, &rng).into(),
        token_hash: Sha256::digest(COOKIE).into(),
        user_id: site.login.user_id.as_str().into(),
        amr: "pwd".to_owned(),
        authenticated_at: None,
        expires_at: now + Duration::from_secs(86_400),
        max_expires_at: now + Duration::from_secs(86_400),
        address: None,
        user_agent: None,
    };
    let mut tx = db.begin().await?;
    for client in &made {
        clients::insert(&mut tx, client).await?;
    }
    browser_sessions::insert(&mut tx, browser, now).await?;
    tx.commit().await?;
    db.close().await;
    Ok(())
}

pub fn form(path: &str, client: &str, body: &str) -> Vec<u8> {
    let basic =
        STANDARD.encode(format!("{client}:{}", SECRET.replace(' ', "+").replace('\'', "%27")));
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {basic}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub fn token_request(client: &str) -> Vec<u8> {
    form("/oauth2/token", client, "grant_type=client_credentials")
}

/// An introspection of a valid token.
pub async fn introspection(server: &Server) -> Result<Vec<u8>> {
    let (status, answer) = server.send(&token_request("bench")).await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    let token = answer["access_token"]
        .as_str()
        .ok_or_else(|| format!("the token endpoint answered {status}: {answer}"))?;
    Ok(form("/oauth2/introspect", "bench", &format!("token={token}")))
}

/// UserInfo with a token of a user.
pub async fn userinfo(server: &Server) -> Result<Vec<u8>> {
    let mut connection = Connection::open(server.address).await?;
    let token = flow(&mut connection, SCOPE).await?.access_token;
    Ok(request("GET", "/oauth2/userinfo", Some(&token), None))
}

/// Code flows over so many connections; the milliseconds of each.
pub async fn flows(site: &Deployment, connections: usize, lasting: Duration) -> Result<Round> {
    let until = Instant::now() + lasting;
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let mut connection = Connection::open(site.server.address).await?;
        tasks.spawn(async move {
            let mut times = vec![];
            while Instant::now() < until {
                let began = Instant::now();
                flow(&mut connection, SCOPE).await?;
                times.push(began.elapsed().as_secs_f64() * 1e3);
            }
            Ok::<_, crate::Error>(times)
        });
    }
    let mut times = vec![];
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    Ok(Round::new(times, 0, lasting))
}

/// Sessions of a client, each from a code flow, whose refresh tokens are exchanged in turn. Without
/// an ID token, so that the access token is the only signature.
pub async fn refreshing(
    site: &Deployment,
    connections: usize,
    sessions: usize,
) -> Result<Vec<Load>> {
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let mut connection = Connection::open(site.server.address).await?;
        let count = sessions.div_ceil(connections);
        tasks.spawn(async move {
            let mut requests = Vec::with_capacity(count);
            for _ in 0..count {
                let token = flow(&mut connection, "bench:read").await?.refresh_token;
                let body = format!("grant_type=refresh_token&refresh_token={token}");
                requests.push(form("/oauth2/token", "bench", &body));
            }
            Ok::<_, crate::Error>(Load::exchanging(requests))
        });
    }
    let mut loads = vec![];
    while let Some(done) = tasks.join_next().await {
        loads.push(done??);
    }
    Ok(loads)
}

/// Sessions read per second, each by its id.
async fn reads(db: &Db, id: &str, connections: usize, lasting: Duration) -> Result<f64> {
    let until = Instant::now() + lasting;
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (db, id) = (db.clone(), SessionId::from(id));
        tasks.spawn(async move {
            let mut count = 0;
            while Instant::now() < until {
                sessions::by_id(&db, &id).await?.ok_or("the session is gone")?;
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

/// The statements of one of [`COUNTED`] requests, in words.
pub fn counted(before: Option<i64>, after: Option<i64>) -> String {
    match (before, after) {
        (Some(before), Some(after)) => {
            format!("{:.2} statements each", (after - before) as f64 / COUNTED as f64)
        }
        _ => "statements not counted".to_owned(),
    }
}

impl Bench {
    /// All OAuth benchmarks on one database.
    pub(crate) async fn oauth(
        &self,
        backend: &str,
        site: &Deployment,
        limits: &Server,
        figures: &mut Vec<Figure>,
    ) -> Result<()> {
        if self.wants("client_credentials") {
            let name = format!("client_credentials (ES256), {backend}");
            let mut figure =
                self.against_static(name, token_request("bench"), 0.7, site, limits).await?;
            figure.basis = "a poem handler that parses the form and signs one token".to_owned();
            figures.push(figure);
        }
        if self.wants("introspection") {
            let name = format!("introspection, {backend}");
            let request = introspection(&site.server).await?;
            figures.push(self.against_static(name, request, 0.5, site, limits).await?);
        }
        if self.wants("userinfo") {
            figures.push(self.userinfo(backend, site, limits).await?);
        }
        if self.wants("code") {
            figures.push(self.code_flow(backend, site, limits).await?);
        }
        if self.wants("token_exchange") {
            figures.push(self.token_exchange(backend, site).await?);
        }
        if self.wants("rs256") {
            figures.push(self.rs256(backend, site).await?);
        }
        Ok(())
    }

    /// UserInfo, next to a static response and one read of the session.
    async fn userinfo(&self, backend: &str, site: &Deployment, limits: &Server) -> Result<Figure> {
        let request = userinfo(&site.server).await?;
        let before = statements(site).await?;
        for _ in 0..COUNTED {
            site.server.send(&request).await?;
        }
        let counted = counted(before, statements(site).await?);
        let db = Db::open(&site.config()?).await?;
        let session = site.login.session()?;
        let mut loads: Vec<Load> =
            (0..self.connections).map(|_| Load::fixed(request.clone())).collect();
        let (mut rounds, mut cpu) = (vec![], vec![]);
        for round in 0..=self.rounds {
            let read = reads(&db, &session, self.connections, self.lasting).await?;
            let bare = drive(limits.address, &mut loads, self.lasting).await?.per_second;
            let ours = site.drive(&mut loads, self.lasting).await?;
            eprintln!(
                "{backend} userinfo, round {round}: read {read:.0}/s, static {bare:.0}/s, measured {:.0}/s",
                ours.per_second
            );
            if round > 0 {
                rounds.push((ours.per_second, 1.0 / (1.0 / read + 1.0 / bare)));
                cpu.extend(ours.cpu);
            }
        }
        db.close().await;
        Ok(Figure {
            name: format!("userinfo, {backend}"),
            rounds,
            unit: "/s",
            basis: format!(
                "the composite of one read of the session alone and a static response alone; {counted}"
            ),
            required: Required::Nothing,
            disk: None,
            cpu,
        })
    }

    /// Authorize in a logged-in browser, then exchange the code, next to its parts: a static
    /// response, an insert, an update, a form with the signatures of an access token and an RS256
    /// ID token. The two reads of the flow are not in the limit.
    async fn code_flow(&self, backend: &str, site: &Deployment, limits: &Server) -> Result<Figure> {
        let mut connection = Connection::open(site.server.address).await?;
        let before = statements(site).await?;
        for _ in 0..COUNTED {
            flow(&mut connection, SCOPE).await?;
        }
        let counted = counted(before, statements(site).await?);
        let db = self.insert_alone(backend, site, "code_insert").await?;
        let (updates, mut workers) = self.statement_alone(backend, site, "code_update").await?;
        let loads = |request: Vec<u8>| -> Vec<Load> {
            (0..self.connections).map(|_| Load::fixed(request.clone())).collect()
        };
        let mut signatures = loads(form("/oauth2/token", "bench", "grant_type=authorization_code"));
        let mut responses = loads(request("GET", crate::JWKS, None, None));
        let disk = disk_sync(&self.folder)?;
        let (mut rounds, mut cpu) = (vec![], vec![]);
        for round in 0..=self.rounds {
            let parts = [
                inserts(&db, self.connections, self.lasting).await?,
                updates.drive(&mut workers, self.lasting).await?,
                drive(limits.address, &mut signatures, self.lasting).await?.per_second,
                drive(limits.address, &mut responses, self.lasting).await?.per_second,
            ];
            let meter = site.meter()?;
            let measured = flows(site, self.connections, self.lasting).await?;
            let spent = meter.per_request(measured.requests)?;
            let [insert, update, sign, response] = parts;
            eprintln!(
                "{backend} code flow, round {round}: insert {insert:.0}/s, update {update:.0}/s, signatures \
                 {sign:.0}/s, response {response:.0}/s, flow {:.0}/s ({:.2} ms)",
                measured.per_second, measured.median
            );
            if round > 0 {
                let limit = 1.0 / parts.iter().map(|part| 1.0 / part).sum::<f64>();
                rounds.push((measured.per_second, limit));
                cpu.push(spent);
            }
        }
        updates.close().await;
        db.close().await;
        Ok(Figure {
            name: format!("code flow (both requests, RS256 ID token), {backend}"),
            rounds,
            unit: "/s",
            basis: format!(
                "the composite of a static response, an insert, an update, and a form with both signatures, \
                 each alone; {counted} (at most 4)"
            ),
            required: Required::Nothing,
            disk: Some((disk, disk_sync(&self.folder)?)),
            cpu,
        })
    }

    /// An access token is exchanged for a narrower one; reported without a limit.
    async fn token_exchange(&self, backend: &str, site: &Deployment) -> Result<Figure> {
        let mut connection = Connection::open(site.server.address).await?;
        let subject = flow(&mut connection, SCOPE).await?.access_token;
        let body = format!(
            "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&scope=bench:read&subject_token={subject}\
             &subject_token_type=urn:ietf:params:oauth:token-type:access_token"
        );
        let request = form("/oauth2/token", "bench", &body);
        let before = statements(site).await?;
        for _ in 0..COUNTED {
            let (status, _, answer) = connection.exchange(&request).await?;
            if status != 200 {
                return Err(format!("token answered {status}: {answer}").into());
            }
        }
        let counted = counted(before, statements(site).await?);
        let mut load: Vec<Load> =
            (0..self.connections).map(|_| Load::fixed(request.clone())).collect();
        let (mut rounds, mut cpu) = (vec![], vec![]);
        for _ in 0..self.rounds {
            let driven = site.drive(&mut load, self.lasting).await?;
            rounds.push((driven.per_second, f64::NAN));
            cpu.extend(driven.cpu);
        }
        Ok(Figure {
            name: format!("token_exchange (audited, ES256), {backend}"),
            rounds,
            unit: "/s",
            basis: format!("none; {counted} (at most 3)"),
            required: Required::Nothing,
            disk: None,
            cpu,
        })
    }

    /// The latency of a small request while every connection requests RS256 signatures, next to its
    /// latency alone.
    async fn rs256(&self, backend: &str, site: &Deployment) -> Result<Figure> {
        let probe = request("GET", crate::JWKS, None, None);
        let mut rounds = vec![];
        for round in 0..=self.rounds {
            let mut alone = vec![Load::fixed(probe.clone())];
            let idle = drive(site.server.address, &mut alone, self.lasting).await?.median;
            let mut load: Vec<Load> =
                (0..32).map(|_| Load::fixed(token_request("bench-rs256"))).collect();
            let (loaded, signing) = tokio::join!(
                drive(site.server.address, &mut alone, self.lasting),
                drive(site.server.address, &mut load, self.lasting)
            );
            let (loaded, signing) = (loaded?.median, signing?.per_second);
            eprintln!(
                "{backend} RS256, round {round}: idle {idle:.3} ms, under {signing:.0} signatures/s {loaded:.3} ms"
            );
            if round > 0 {
                rounds.push((loaded, idle));
            }
        }
        Ok(Figure {
            name: format!("p50 of another request under 32-way RS256, {backend}"),
            rounds,
            unit: "ms",
            basis: "the same request alone".to_owned(),
            required: Required::AtMost(2.0),
            disk: None,
            cpu: vec![],
        })
    }
}

/// The tokens of a code flow.
struct Tokens {
    access_token: String,
    refresh_token: String,
}

/// One code flow.
async fn flow(connection: &mut Connection, scope: &str) -> Result<Tokens> {
    let authorize = format!(
        "GET /oauth2/authorize?client_id=bench&response_type=code&scope={scope}&state=s&nonce=n\
         &redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback&code_challenge={CHALLENGE}&code_challenge_method=S256 HTTP/1.1\r\n\
         Host: 127.0.0.1\r\nCookie: propusk_session={COOKIE}\r\n\r\n"
    );
    let (status, head, _) = connection.exchange(authorize.as_bytes()).await?;
    let code = head
        .split("code=")
        .nth(1)
        .and_then(|rest| rest.split(['&', '\r']).next())
        .ok_or_else(|| format!("authorize answered {status}: {head}"))?;
    let body = format!(
        "grant_type=authorization_code&code={code}&redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback&code_verifier={VERIFIER}"
    );
    let (status, _, answer) = connection.exchange(&form("/oauth2/token", "bench", &body)).await?;
    if status != 200 {
        return Err(format!("token answered {status}: {answer}").into());
    }
    let answer: Value = serde_json::from_str(&answer)?;
    let token = |name: &str| -> Result<String> {
        let token =
            answer[name].as_str().ok_or_else(|| format!("token answered without {name}"))?;
        Ok(token.to_owned())
    };
    Ok(Tokens { access_token: token("access_token")?, refresh_token: token("refresh_token")? })
}

/// The statements that PostgreSQL has run for this database, without BEGIN, COMMIT and those of
/// background tasks.
pub async fn statements(site: &Deployment) -> Result<Option<i64>> {
    if !site.url.starts_with("postgres") {
        return Ok(None);
    }
    let mut connection = PgConnection::connect(&site.url).await?;
    sqlx::query("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        .execute(&mut connection)
        .await?;
    let count: i64 = sqlx::query_scalar(
        "SELECT COALESCE(sum(calls), 0)::bigint FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid \
         WHERE d.datname = current_database() AND query ~* '^(select|insert|update|delete)' \
         AND query !~ 'logout_deliveries|pg_stat_statements'",
    )
    .fetch_one(&mut connection)
    .await?;
    Ok(Some(count))
}

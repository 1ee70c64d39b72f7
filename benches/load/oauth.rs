//! OAuth's hot paths: client credentials, introspection, the code flow, and latency beside RS256.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use propusk::{
    clock::{Clock, Rng},
    model::{
        self,
        client::{Client, Consent, GrantType, Metadata, Secret, Source, TokenExchangePolicy},
        key::SigningAlgorithm,
    },
    oauth::scope::Scope,
    storage::{
        Db,
        browser_sessions::{self, NewBrowserSession},
        clients,
    },
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;

use crate::{
    Bench, Deployment, Result,
    client::{Connection, Load, drive, request},
    report::{Figure, Required, median},
    server::Server,
};

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
            id: id.to_owned(),
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
        id: model::new_id(&clock, &rng),
        token_hash: Sha256::digest(COOKIE).into(),
        user_id: site.login.user_id.clone(),
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
        if self.wants("code") {
            self.code_flow(backend, site).await?;
        }
        if self.wants("token_exchange") {
            self.token_exchange(backend, site).await?;
        }
        if self.wants("rs256") {
            figures.push(self.rs256(backend, site).await?);
        }
        Ok(())
    }

    /// Reported without a limit: authorize in a logged-in browser, then exchange the code.
    async fn code_flow(&self, backend: &str, site: &Deployment) -> Result<()> {
        let before = statements(site).await?;
        let mut connection = Connection::open(site.server.address).await?;
        const COUNTED: i64 = 50;
        for _ in 0..COUNTED {
            flow(&mut connection).await?;
        }
        let counted = match (before, statements(site).await?) {
            (Some(before), Some(after)) => {
                format!("{:.2}", (after - before) as f64 / COUNTED as f64)
            }
            _ => "not measured".to_owned(),
        };
        let until = Instant::now() + self.lasting;
        let mut tasks = JoinSet::new();
        for _ in 0..self.connections {
            let mut connection = Connection::open(site.server.address).await?;
            tasks.spawn(async move {
                let mut times = vec![];
                while Instant::now() < until {
                    let began = Instant::now();
                    flow(&mut connection).await?;
                    times.push(began.elapsed().as_secs_f64() * 1e3);
                }
                Ok::<_, crate::Error>(times)
            });
        }
        let mut times = vec![];
        while let Some(done) = tasks.join_next().await {
            times.extend(done??);
        }
        println!(
            "The code flow (authorize in a logged-in browser, then token with RS256 ID token), {backend}: {:.0} flows/s, \
             median {:.1} ms, statements a flow: {counted} (at most 4)\n",
            times.len() as f64 / self.lasting.as_secs_f64(),
            median(times)
        );
        Ok(())
    }

    /// Reported without a limit: an access token is exchanged for a narrower one.
    async fn token_exchange(&self, backend: &str, site: &Deployment) -> Result<()> {
        const COUNTED: i64 = 50;
        let mut connection = Connection::open(site.server.address).await?;
        let subject = flow(&mut connection).await?;
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
        let counted = match (before, statements(site).await?) {
            (Some(before), Some(after)) => {
                format!("{:.2}", (after - before) as f64 / COUNTED as f64)
            }
            _ => "not measured".to_owned(),
        };
        let mut load: Vec<Load> =
            (0..self.connections).map(|_| Load::fixed(request.clone())).collect();
        let driven = drive(site.server.address, &mut load, self.lasting).await?;
        println!(
            "Token exchange (audited, ES256), {backend}: {:.0} a second, median {:.1} ms, statements an exchange: \
             {counted} (at most 3)\n",
            driven.per_second, driven.median
        );
        Ok(())
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
        })
    }
}

/// One code flow; gives the access token.
async fn flow(connection: &mut Connection) -> Result<String> {
    let authorize = format!(
        "GET /oauth2/authorize?client_id=bench&response_type=code&scope=openid+bench:read&state=s&nonce=n\
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
    Ok(answer["access_token"].as_str().unwrap_or_default().to_owned())
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

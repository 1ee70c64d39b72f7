//! The requests of gateways: forward-auth and introspection with Redis, and the revocation feed.

use std::{
    collections::HashMap,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    task::JoinSet,
};

use crate::{
    Bench, Deployment, Result,
    client::{Connection, request},
    oauth,
    report::{Figure, Required, median},
    server::Server,
};

const FOLLOWERS: usize = 200;
const IDLE: usize = 1_000;
/// Revocations per second, and the number of seconds.
const RATE: usize = 1_000;
const SECONDS: usize = 5;
/// Followers that record when each revocation arrives; the others only read.
const WATCHING: usize = 20;

/// A Redis for this benchmark; killed when it is dropped.
struct Redis {
    child: Child,
    url: String,
}

impl Redis {
    async fn start(folder: &std::path::Path) -> Result<Self> {
        let program = std::env::var("PROPUSK_BENCH_REDIS_SERVER")
            .map_err(|_| "PROPUSK_BENCH_REDIS_SERVER is not set: run ./dev/bench")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(program)
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"])
            .arg(folder)
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let url = format!("redis://127.0.0.1:{port}/0");
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(Self { child, url });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err("redis-server does not answer".into())
    }

    async fn signal(&self, name: &str) -> Result<()> {
        let id = self.child.id().ok_or("redis-server exited")?;
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}")).arg(id.to_string());
        kill.status().await?;
        Ok(())
    }
}

impl Bench {
    /// Checks answered by Redis, next to a static response after one round trip to it.
    pub(crate) async fn redis(&self, figures: &mut Vec<Figure>) -> Result<()> {
        let redis = Redis::start(&self.folder).await?;
        let site =
            self.site_with("PostgreSQL", "redis", &[("PROPUSK_REDIS__URL", &redis.url)]).await?;
        oauth::seed(&site).await?;
        let limits = self.limit_server(&site, &redis.url).await?;
        let introspection = oauth::introspection(&site.server).await?;
        let token = site.server.log_in("bench0").await?.access_token;
        let forward = request("GET", "/forward-auth", Some(&token), None);
        let basis = "a poem handler with a static response of the same size after one HGET";
        for (name, request) in [("introspection", introspection), ("forward-auth", forward.clone())]
        {
            let name = format!("{name} with Redis");
            let mut figure = self.against_static(name, request, 0.6, &site, &limits).await?;
            figure.basis = basis.to_owned();
            figures.push(figure);
        }
        figures.push(self.paused(&redis, &site, &forward).await?);
        site.server.stop().await
    }

    /// The 99th percentile of a check while Redis is paused.
    async fn paused(&self, redis: &Redis, site: &Deployment, check: &[u8]) -> Result<Figure> {
        redis.signal("STOP").await?;
        let until = Instant::now() + 5 * self.lasting;
        let mut tasks = JoinSet::new();
        for _ in 0..self.connections {
            let (mut connection, check) =
                (Connection::open(site.server.address).await?, check.to_vec());
            tasks.spawn(async move {
                let mut times = vec![];
                while Instant::now() < until {
                    let began = Instant::now();
                    let (status, _) = connection.send(&check).await?;
                    if status != 200 {
                        return Err(format!("a check returned {status}").into());
                    }
                    times.push(began.elapsed().as_secs_f64() * 1e3);
                }
                Ok::<_, crate::Error>(times)
            });
        }
        let mut times = vec![];
        while let Some(done) = tasks.join_next().await {
            times.extend(done??);
        }
        redis.signal("CONT").await?;
        times.sort_by(f64::total_cmp);
        let (p99, most) = (times[times.len() * 99 / 100], times[times.len() - 1]);
        eprintln!(
            "while Redis is paused: {} checks, p99 {p99:.1} ms, maximum {most:.1} ms",
            times.len()
        );
        Ok(Figure {
            name: "p99 of forward-auth while Redis is paused".to_owned(),
            rounds: vec![(p99, 300.0)],
            unit: "ms",
            basis: "set".to_owned(),
            required: Required::AtMost(1.0),
            disk: None,
            cpu: vec![],
        })
    }

    /// A thousand revocations per second to two hundred followers, and the memory of an idle
    /// follower.
    pub(crate) async fn feed(
        &self,
        backend: &str,
        site: &Deployment,
        figures: &mut Vec<Figure>,
    ) -> Result<()> {
        let (_, answer) = site.server.send(&oauth::token_request("bench")).await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer)?;
        let token = answer["access_token"].as_str().ok_or("no access token")?.to_owned();
        let before = site.server.memory()?;
        let mut idle = vec![];
        for _ in 0..IDLE {
            idle.push(follow(&site.server, &token).await?);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let each = (site.server.memory()? - before) * 1024.0 / IDLE as f64;
        drop(idle);
        figures.push(Figure {
            name: format!("memory of an idle follower, {backend}"),
            rounds: vec![(each, 50.0)],
            unit: "KiB",
            basis: format!("fixed limit; growth with {IDLE} followers"),
            required: Required::AtMost(1.0),
            disk: None,
            cpu: vec![],
        });

        let tokens = issue_tokens(self, site, RATE * SECONDS).await?;
        let sent: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
        let mut followers = JoinSet::new();
        let last = RATE * SECONDS;
        for n in 0..FOLLOWERS {
            let stream = follow(&site.server, &token).await?;
            let sent = (n < WATCHING).then(|| Arc::clone(&sent));
            followers.spawn(watch(stream, sent, last));
        }
        let began = Instant::now();
        let mut revoking = JoinSet::new();
        for worker in 0..self.connections {
            let own: Vec<(usize, (String, Vec<u8>))> =
                tokens.iter().cloned().enumerate().skip(worker).step_by(self.connections).collect();
            let (sent, mut connection) =
                (Arc::clone(&sent), Connection::open(site.server.address).await?);
            revoking.spawn(async move {
                for (n, (jti, request)) in own {
                    let due = began
                        + Duration::from_secs(1) * u32::try_from(n).unwrap_or(0) / RATE as u32;
                    tokio::time::sleep_until(due.into()).await;
                    sent.lock().map_err(|_| "a lock")?.insert(jti, Instant::now());
                    let (status, _) = connection.send(&request).await?;
                    if status != 200 {
                        return Err(format!("a revocation returned {status}").into());
                    }
                }
                Ok::<_, crate::Error>(())
            });
        }
        while let Some(done) = revoking.join_next().await {
            done??;
        }
        let took = began.elapsed().as_secs_f64();
        let mut times = vec![];
        while let Some(done) = followers.join_next().await {
            times.extend(done??);
        }
        let rate = tokens.len() as f64 / took;
        eprintln!(
            "{backend} feed: {rate:.0} revocations/s to {FOLLOWERS} followers, {} arrivals timed",
            times.len()
        );
        figures.push(Figure {
            name: format!("revocations per second over the feed, {backend}"),
            rounds: vec![(rate, RATE as f64)],
            unit: "/s",
            basis: "set".to_owned(),
            required: Required::AtLeast(0.98),
            disk: None,
            cpu: vec![],
        });
        figures.push(Figure {
            name: format!("median latency from revocation request to follower, {backend}"),
            rounds: vec![(median(times), 50.0)],
            unit: "ms",
            basis: format!("fixed limit; {FOLLOWERS} followers, {WATCHING} of them timed"),
            required: Required::AtMost(1.0),
            disk: None,
            cpu: vec![],
        });
        Ok(())
    }
}

/// Access tokens with their ids, and the requests that revoke them.
async fn issue_tokens(
    bench: &Bench,
    site: &Deployment,
    count: usize,
) -> Result<Vec<(String, Vec<u8>)>> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut tasks = JoinSet::new();
    for _ in 0..bench.connections {
        let mut connection = Connection::open(site.server.address).await?;
        let count = count.div_ceil(bench.connections);
        tasks.spawn(async move {
            let mut issued = Vec::with_capacity(count);
            for _ in 0..count {
                let (_, answer) = connection.send(&oauth::token_request("bench")).await?;
                let answer: serde_json::Value = serde_json::from_slice(answer)?;
                let token = answer["access_token"].as_str().ok_or("no access token")?;
                let payload = token.split('.').nth(1).ok_or("no payload")?;
                let claims: serde_json::Value =
                    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
                let jti = claims["jti"].as_str().ok_or("no jti")?.to_owned();
                let request = oauth::form("/oauth2/revoke", "bench", &format!("token={token}"));
                issued.push((jti, request));
            }
            Ok::<_, crate::Error>(issued)
        });
    }
    let mut all = vec![];
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    all.truncate(count);
    Ok(all)
}

/// A follower whose stream has started.
async fn follow(server: &Server, token: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(server.address).await?;
    let request = format!(
        "GET /oauth2/revocations?since=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 1024];
    let read = stream.read(&mut head).await?;
    if !head[..read].starts_with(b"HTTP/1.1 200") {
        return Err(String::from_utf8_lossy(&head[..read]).into_owned().into());
    }
    Ok(stream)
}

/// Reads the stream until `count` entries have arrived; with `sent`, returns the milliseconds that
/// each took.
async fn watch(
    mut stream: TcpStream,
    sent: Option<Arc<Mutex<HashMap<String, Instant>>>>,
    count: usize,
) -> Result<Vec<f64>> {
    const MARK: &[u8] = br#""kind":"token","id":""#;
    const ID: usize = 36;
    let (mut text, mut seen, mut times) = (Vec::with_capacity(256 * 1024), 0, vec![]);
    let mut chunk = vec![0; 64 * 1024];
    while seen < count {
        match stream.read(&mut chunk).await? {
            0 => return Err(format!("a follower was disconnected after {seen} entries").into()),
            read => text.extend_from_slice(&chunk[..read]),
        }
        let now = Instant::now();
        let mut from = 0;
        while let Some(at) = memchr::memmem::find(&text[from..], MARK) {
            let id = from + at + MARK.len();
            if id + ID > text.len() {
                break;
            }
            if let Some(sent) = &sent {
                let jti = std::str::from_utf8(&text[id..id + ID])?;
                if let Some(at) = sent.lock().map_err(|_| "a lock")?.get(jti) {
                    times.push((now - *at).as_secs_f64() * 1e3);
                }
            }
            seen += 1;
            from = id + ID;
        }
        // The end of the buffer may cut a mark in two.
        let kept = text.len().saturating_sub(MARK.len() + ID).max(from);
        text.drain(..kept);
    }
    Ok(times)
}

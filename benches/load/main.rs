//! The load driver behind `./dev/bench`.
//!
//! Each figure has a limit measured in the same run, in alternating rounds, so that other load on
//! the machine affects both: the ratio counts, not the figure. The server is a process of its own,
//! as is the limit server with a bare poem handler; both get the same requests.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods)] // measures durations

mod back_ends;
mod client;
mod events;
mod gateways;
mod limits;
mod oauth;
mod report;
mod seed;
mod server;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use propusk::{config::Config, storage::Db};
use sqlx::postgres::PgPoolOptions;

use client::{Load, drive, request};
use limits::Statements;
use report::{Figure, Required, disk_sync, median};
use seed::{Chain, Seeded};
use server::{Login, Server, login_body};

/// The allocator of the server, for the limits too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

/// Sessions that are refreshed, and the same number for the statement alone.
const SESSIONS: usize = 1024;
/// Sessions in the full table.
const MILLION: usize = 1_000_000;
const USERS: usize = 8;
const VERIFY: &str = "/api/v1/auth/verify";
const JWKS: &str = "/oauth2/jwks";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let [command, address, jwks, verify, introspection, redis] = arguments
        && command == "limit-server"
    {
        return runtime.block_on(limits::serve(
            address.parse()?,
            jwks.parse()?,
            verify.parse()?,
            introspection.parse()?,
            redis,
        ));
    }
    let folder = tempfile::Builder::new().prefix("propusk-bench.").tempdir()?;
    // Not in the checkout, which may have a propusk.toml.
    std::env::set_current_dir(folder.path())?;
    let bench = Bench {
        postgres: std::env::var("PROPUSK_BENCH_POSTGRES_URL")
            .map_err(|_| "PROPUSK_BENCH_POSTGRES_URL is not set: run ./dev/bench")?,
        folder: folder.path().to_owned(),
        // `cargo bench` adds an option of its own.
        only: arguments.iter().filter(|word| !word.starts_with("--")).cloned().collect(),
        rounds: number("PROPUSK_BENCH_ROUNDS", 5)?,
        lasting: Duration::from_secs(number("PROPUSK_BENCH_SECONDS", 3)?),
        connections: usize::try_from(number("PROPUSK_BENCH_CONNECTIONS", 32)?)?.clamp(1, SESSIONS),
    };
    let figures = runtime.block_on(bench.run())?;
    report::print(&figures);
    Ok(())
}

fn number(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name} must be a number, not {text}").into()),
        Err(_) => Ok(default),
    }
}

struct Bench {
    postgres: String,
    folder: PathBuf,
    only: Vec<String>,
    rounds: u64,
    lasting: Duration,
    connections: usize,
}

/// A database with a server on it.
struct Deployment {
    server: Server,
    url: String,
    folder: PathBuf,
    login: Login,
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }

    async fn run(&self) -> Result<Vec<Figure>> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        println!(
            "{cores} cores, shared by load, server and database; {} connections; medians of {} rounds of {} s\n",
            self.connections,
            self.rounds,
            self.lasting.as_secs()
        );
        let mut figures = Vec::new();
        if self.wants("start") || self.wants("memory") {
            self.start(&mut figures).await?;
        }
        for backend in ["PostgreSQL", "SQLite"] {
            let site = self.site(backend, "site").await?;
            oauth::seed(&site).await?;
            let limits = self.limit_server(&site, "").await?;
            self.oauth(backend, &site, &limits, &mut figures).await?;
            if self.wants("issue") || self.wants("bearer") {
                self.back_ends(backend, &site, &limits, &mut figures).await?;
            }
            if self.wants("refresh") || self.wants("million") {
                self.refresh(backend, &site, &limits, &mut figures).await?;
            }
            if self.wants("login") {
                self.login(backend, &site, &mut figures).await?;
            }
            if self.wants("verify") {
                let token = site.server.log_in("bench0").await?.access_token;
                let request = request("GET", VERIFY, Some(&token), None);
                let name = format!("verify, {backend}");
                figures.push(self.against_static(name, request, 0.5, &site, &limits).await?);
            }
            // Involves no database: one backend is enough.
            if self.wants("jwks") && backend == "SQLite" {
                let request = request("GET", JWKS, None, None);
                figures.push(
                    self.against_static("JWKS".to_owned(), request, 0.85, &site, &limits).await?,
                );
            }
            if self.wants("feed") {
                self.feed(backend, &site, &mut figures).await?;
            }
            site.server.stop().await?;
        }
        if self.wants("redis") {
            self.redis(&mut figures).await?;
        }
        if self.wants("events") {
            self.events(&mut figures).await?;
        }
        if self.wants("registrations") {
            self.beside_registrations(&mut figures).await?;
        }
        Ok(figures)
    }

    /// The time to readiness, and the memory of a server before the first request.
    async fn start(&self, figures: &mut Vec<Figure>) -> Result<()> {
        let (mut first, mut again, mut memory) = (vec![], vec![], vec![]);
        for round in 0..self.rounds {
            let folder = self.folder.join(format!("start{round}"));
            let server = Server::propusk(&folder, "").await?;
            first.push(server.ready_after);
            server.stop().await?;
            let server = Server::propusk(&folder, "").await?;
            again.push(server.ready_after);
            tokio::time::sleep(Duration::from_secs(2)).await;
            memory.push(server.memory()?);
            server.stop().await?;
        }
        let mut add = |name: &str, values: Vec<f64>, limit, unit| {
            let (name, basis, required) =
                (name.to_owned(), "set".to_owned(), Required::AtMost(1.0));
            figures.push(Figure {
                name,
                rounds: values.into_iter().map(|value| (value, limit)).collect(),
                unit,
                basis,
                required,
                disk: None,
            });
        };
        add("ready after a start, SQLite", again, 300.0, "ms");
        add("ready after the very first start (keys, administrator), SQLite", first, 300.0, "ms");
        add("idle memory after a start, SQLite", memory, 40.0, "MiB");
        Ok(())
    }

    /// A new database with a server on it, and accounts to log in with.
    async fn site(&self, backend: &str, name: &str) -> Result<Deployment> {
        self.site_with(backend, name, &[]).await
    }

    /// As [`Bench::site`], with settings of its own: `("PROPUSK_…", "value")`.
    async fn site_with(
        &self,
        backend: &str,
        name: &str,
        settings: &[(&str, &str)],
    ) -> Result<Deployment> {
        let folder = self.folder.join(format!("{backend}-{name}"));
        let url = if backend == "PostgreSQL" {
            seed::create_database(&self.postgres, &format!("propusk_bench_{name}")).await?
        } else {
            format!("sqlite://{}", folder.join("propusk.db").display())
        };
        let server = Server::with(&folder, &url, settings).await?;
        let login = server.register("bench0").await?;
        for user in 1..USERS {
            server.register(&format!("bench{user}")).await?;
        }
        Ok(Deployment { server, url, folder, login })
    }

    async fn limit_server(&self, site: &Deployment, redis: &str) -> Result<Server> {
        let (_, jwks) = site.server.send(&request("GET", JWKS, None, None)).await?;
        let verify = request("GET", VERIFY, Some(&site.login.access_token), None);
        let (_, verify) = site.server.send(&verify).await?;
        let introspection = oauth::introspection(&site.server).await?;
        let (_, introspection) = site.server.send(&introspection).await?;
        let lengths = [jwks.len(), verify.len(), introspection.len()];
        Server::limits(&self.folder, lengths, redis).await
    }

    /// Adds sessions, with others between them.
    async fn seed(&self, site: &Deployment, count: usize, others: usize) -> Result<Vec<Seeded>> {
        let db = Db::open(&site.config()?).await?;
        let seeded = seed::sessions(&db, &site.login, count, others).await?;
        db.close().await;
        if !site.is_sqlite() {
            seed::settle(&site.url).await?;
        }
        Ok(seeded)
    }

    fn refreshing(&self, seeded: &[Seeded], follow: bool) -> Vec<Load> {
        let tokens: Vec<_> = seeded.iter().map(|session| session.token.clone()).collect();
        let share = tokens.len().div_ceil(self.connections);
        tokens.chunks(share).map(|tokens| Load::refreshing(tokens, follow)).collect()
    }

    /// Refresh next to the cost of its parts alone, and on a table with a million sessions.
    async fn refresh(
        &self,
        backend: &str,
        site: &Deployment,
        limits: &Server,
        figures: &mut Vec<Figure>,
    ) -> Result<()> {
        eprintln!("{backend}: inserting a million sessions");
        let full = self.site(backend, "million").await?;
        let in_full = self.seed(&full, SESSIONS, MILLION).await?;
        let seeded = self.seed(site, SESSIONS, 0).await?;
        // The statement alone: in PostgreSQL next to the server's own sessions, in SQLite in a file
        // of its own with one writer, as the server has.
        let (alone, statements) = if site.is_sqlite() {
            let alone = self.site(backend, "alone").await?;
            let statements = Statements::Sqlite(Db::open(&alone.config()?).await?);
            (Some(alone), statements)
        } else {
            let most = site.config()?.database.max_connections;
            let options = PgPoolOptions::new().max_connections(most).test_before_acquire(false);
            (None, Statements::Postgres(options.connect(&site.url).await?))
        };
        let chains: Vec<Chain> = self
            .seed(alone.as_ref().unwrap_or(site), SESSIONS, 0)
            .await?
            .into_iter()
            .map(|session| session.chain)
            .collect();
        let mut workers: Vec<Vec<Chain>> =
            chains.chunks(SESSIONS.div_ceil(self.connections)).map(<[Chain]>::to_vec).collect();
        if let Some(alone) = alone {
            alone.server.stop().await?;
        }

        let mut sign = self.refreshing(&seeded, false);
        let mut loads = self.refreshing(&seeded, true);
        let mut loads_in_full = self.refreshing(&in_full, true);
        let before = disk_sync(&self.folder)?;
        let (mut parts, mut plain, mut crowded) = (vec![], vec![], vec![]);
        for round in 0..=self.rounds {
            let a = statements.drive(&mut workers, self.lasting).await?;
            let b = drive(limits.address, &mut sign, self.lasting).await?;
            let small = drive(site.server.address, &mut loads, self.lasting).await?;
            let million = drive(full.server.address, &mut loads_in_full, self.lasting).await?;
            eprintln!(
                "{backend} refresh, round {round}: statement {a:.0}/s, signing {:.0}/s, refresh {:.0}/s ({:.2} ms), \
                 among a million {:.0}/s ({:.2} ms)",
                b.per_second, small.per_second, small.median, million.per_second, million.median
            );
            // The first round is a warm-up.
            if round > 0 {
                let b = b.per_second;
                parts.push((a, b));
                plain.push((small.per_second, 1.0 / (1.0 / a + 1.0 / b)));
                crowded.push((million.median, small.median));
            }
        }
        let disk = Some((before, disk_sync(&self.folder)?));
        let part = |value: fn(&(f64, f64)) -> f64| median(parts.iter().map(value).collect());
        figures.push(Figure {
            name: format!("refresh, {backend}"),
            rounds: plain,
            unit: "/s",
            basis: format!(
                "the composite of the statement alone ({:.0}/s) and parsing and signing alone ({:.0}/s)",
                part(|(a, _)| *a),
                part(|(_, b)| *b)
            ),
            required: Required::AtLeast(0.8),
            disk,
        });
        figures.push(Figure {
            name: format!("refresh with a million sessions, {backend}"),
            rounds: crowded,
            unit: "ms",
            basis: format!("the same with {} sessions", 2 * SESSIONS),
            required: Required::AtMost(1.3),
            disk,
        });
        if let Statements::Sqlite(db) = statements {
            db.close().await;
        }
        full.server.stop().await
    }

    async fn login(
        &self,
        backend: &str,
        site: &Deployment,
        figures: &mut Vec<Figure>,
    ) -> Result<()> {
        let config = site.config()?;
        let mut loads: Vec<Load> = (0..self.connections)
            .map(|connection| {
                let body = login_body(&format!("bench{}", connection % USERS));
                Load::fixed(request("POST", "/api/v1/auth/login", None, Some(&body)))
            })
            .collect();
        let before = disk_sync(&self.folder)?;
        let mut rounds = vec![];
        for round in 0..=self.rounds {
            let (passwords, lasting) = (config.passwords.clone(), self.lasting);
            let limit =
                tokio::task::spawn_blocking(move || limits::argon2(&passwords, lasting)).await??;
            let measured = drive(site.server.address, &mut loads, self.lasting).await?.per_second;
            eprintln!("{backend} login, round {round}: argon2 {limit:.1}/s, login {measured:.1}/s");
            if round > 0 {
                rounds.push((measured, limit));
            }
        }
        figures.push(Figure {
            name: format!("login, {backend}"),
            rounds,
            unit: "/s",
            basis: format!("argon2id alone on {} thread(s)", config.passwords.permits()),
            required: Required::AtLeast(0.9),
            disk: Some((before, disk_sync(&self.folder)?)),
        });
        Ok(())
    }

    async fn against_static(
        &self,
        name: String,
        request: Vec<u8>,
        least: f64,
        site: &Deployment,
        limits: &Server,
    ) -> Result<Figure> {
        let mut loads: Vec<Load> =
            (0..self.connections).map(|_| Load::fixed(request.clone())).collect();
        let mut rounds = vec![];
        for round in 0..=self.rounds {
            let bare = drive(limits.address, &mut loads, self.lasting).await?.per_second;
            let ours = drive(site.server.address, &mut loads, self.lasting).await?.per_second;
            eprintln!("{name}, round {round}: static {bare:.0}/s, measured {ours:.0}/s");
            if round > 0 {
                rounds.push((ours, bare));
            }
        }
        Ok(Figure {
            name,
            rounds,
            unit: "/s",
            basis: "a poem handler with a static response of the same size".to_owned(),
            required: Required::AtLeast(least),
            disk: None,
        })
    }
}

impl Deployment {
    fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite:")
    }

    fn config(&self) -> Result<Config> {
        seed::config(&self.folder, &self.url)
    }
}

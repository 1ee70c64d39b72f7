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
mod footprint;
mod gateways;
mod growth;
mod limits;
mod logins;
mod oauth;
mod process;
mod report;
mod saved;
mod seed;
mod server;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use propusk::{clock::Clock, config::Config, storage::Db};
use sqlx::postgres::PgPoolOptions;

use client::{Load, Round, drive, request};
use limits::Statements;
use report::{Figure, Required, disk_sync, median};
use saved::{Cpu, Run, Saved};
use seed::{Chain, Seeded};
use server::{Login, Server};

/// The allocator of the server, for the limits too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

/// Sessions that are refreshed, and the same number for the statement alone.
const SESSIONS: usize = 1024;
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
    if let [command, address, jwks, verify, introspection, userinfo, redis] = arguments
        && command == "limit-server"
    {
        let lengths = [jwks.parse()?, verify.parse()?, introspection.parse()?, userinfo.parse()?];
        return runtime.block_on(limits::serve(address.parse()?, lengths, redis));
    }
    let Arguments { only, save, compare } = Arguments::parse(arguments)?;
    // Before hours of work: a file that cannot be read, a place that cannot be written to.
    let earlier = compare.map(|path| read(&path)).transpose()?;
    let save = save.map(std::path::absolute).transpose()?;
    if let Some(path) = &save {
        fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let folder = tempfile::Builder::new().prefix("propusk-bench.").tempdir()?;
    // Not in the checkout, which may have a propusk.toml.
    std::env::set_current_dir(folder.path())?;
    let bench = Bench {
        postgres: std::env::var("PROPUSK_BENCH_POSTGRES_URL")
            .map_err(|_| "PROPUSK_BENCH_POSTGRES_URL is not set: run ./dev/bench")?,
        folder: folder.path().to_owned(),
        only,
        rounds: number("PROPUSK_BENCH_ROUNDS", 5)?.max(1),
        lasting: Duration::from_secs(number("PROPUSK_BENCH_SECONDS", 3)?),
        connections: usize::try_from(number("PROPUSK_BENCH_CONNECTIONS", 32)?)?.clamp(1, SESSIONS),
        rows: usize::try_from(number("PROPUSK_BENCH_ROWS", 1_000_000)?)?,
    };
    let figures = runtime.block_on(bench.run())?;
    report::print(&figures);
    let saved = Saved { run: this_run(), records: figures.iter().map(Figure::record).collect() };
    if let Some(earlier) = earlier {
        println!("{}", saved.beside(&earlier));
    }
    if let Some(path) = save {
        fs::write(path, saved.render()?)?;
    }
    Ok(())
}

/// What to measure and what to do with it.
#[derive(Default)]
struct Arguments {
    only: Vec<String>,
    save: Option<PathBuf>,
    compare: Option<PathBuf>,
}

impl Arguments {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut file = || -> Result<_> {
                let file = arguments.next().ok_or_else(|| format!("{argument} needs a file"))?;
                Ok(Some(PathBuf::from(file)))
            };
            match argument.as_str() {
                "--save" => parsed.save = file()?,
                "--compare" => parsed.compare = file()?,
                // `cargo bench` adds it.
                "--bench" => {}
                option if option.starts_with('-') => {
                    return Err(
                        format!("unknown option {option}; there are --save and --compare").into()
                    );
                }
                word => parsed.only.push(word.to_owned()),
            }
        }
        Ok(parsed)
    }
}

fn read(path: &Path) -> Result<Saved> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| named(&error))?;
    Ok(Saved::parse(&text).map_err(|error| named(&error))?)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn this_run() -> Run {
    let now = time::OffsetDateTime::from_unix_timestamp(Clock::system().now().as_secs());
    Run {
        cpu: process::cpu_model(),
        cores: cores(),
        build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        commit: std::env::var("PROPUSK_BENCH_COMMIT").unwrap_or_else(|_| "unknown".to_owned()),
        date: now.map_or_else(|_| String::new(), |now| now.date().to_string()),
    }
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
    /// Sessions in the full table.
    rows: usize,
}

/// A database with a server on it.
struct Deployment {
    server: Server,
    url: String,
    folder: PathBuf,
    login: Login,
    /// PostgreSQL's first process.
    postmaster: Option<u32>,
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }

    async fn run(&self) -> Result<Vec<Figure>> {
        println!(
            "{} cores, shared by load, server and database; {} connections; medians of {} rounds of {} s\n",
            cores(),
            self.connections,
            self.rounds,
            self.lasting.as_secs()
        );
        let mut figures = Vec::new();
        if self.wants("start") || self.wants("memory") {
            self.start(&mut figures).await?;
        }
        if self.wants("size") {
            figures.push(self.size().await?);
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
            if self.wants("memory") {
                self.memory(backend, &mut figures).await?;
            }
            if self.wants("growth") {
                self.growth(backend, &mut figures).await?;
            }
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
        let postmaster = match backend {
            "PostgreSQL" => Some(seed::postmaster(&url).await?),
            _ => None,
        };
        let login = server.register("bench0").await?;
        for user in 1..USERS {
            server.register(&format!("bench{user}")).await?;
        }
        Ok(Deployment { server, url, folder, login, postmaster })
    }

    async fn limit_server(&self, site: &Deployment, redis: &str) -> Result<Server> {
        let (_, jwks) = site.server.send(&request("GET", JWKS, None, None)).await?;
        let verify = request("GET", VERIFY, Some(&site.login.access_token), None);
        let (_, verify) = site.server.send(&verify).await?;
        let introspection = oauth::introspection(&site.server).await?;
        let (_, introspection) = site.server.send(&introspection).await?;
        let (_, userinfo) = site.server.send(&oauth::userinfo(&site.server).await?).await?;
        let lengths = [jwks.len(), verify.len(), introspection.len(), userinfo.len()];
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

    /// The refresh statement alone: in PostgreSQL next to the server's own sessions, in SQLite in a
    /// file of its own with one writer, as the server has.
    async fn statement_alone(
        &self,
        backend: &str,
        site: &Deployment,
        name: &str,
    ) -> Result<(Statements, Vec<Vec<Chain>>)> {
        let (alone, statements) = if site.is_sqlite() {
            let alone = self.site(backend, name).await?;
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
        if let Some(alone) = alone {
            alone.server.stop().await?;
        }
        let share = SESSIONS.div_ceil(self.connections);
        Ok((statements, chains.chunks(share).map(<[Chain]>::to_vec).collect()))
    }

    /// Refresh next to the cost of its parts alone, by the JSON API and as an OAuth grant, and on a
    /// table with a million sessions.
    async fn refresh(
        &self,
        backend: &str,
        site: &Deployment,
        limits: &Server,
        figures: &mut Vec<Figure>,
    ) -> Result<()> {
        let rows = self.rows;
        eprintln!("{backend}: inserting {rows} sessions");
        let full = self.site(backend, "million").await?;
        let in_full = self.seed(&full, SESSIONS, rows).await?;
        let seeded = self.seed(site, SESSIONS, 0).await?;
        let (statements, mut workers) = self.statement_alone(backend, site, "alone").await?;

        let mut sign = self.refreshing(&seeded, false);
        let mut sign_form: Vec<Load> =
            (0..self.connections).map(|_| Load::fixed(oauth::token_request("bench"))).collect();
        let mut loads = self.refreshing(&seeded, true);
        let mut loads_in_full = self.refreshing(&in_full, true);
        let mut exchanges = oauth::refreshing(site, self.connections, SESSIONS).await?;
        let before = disk_sync(&self.folder)?;
        let (mut parts, mut plain, mut crowded, mut granted) = (vec![], vec![], vec![], vec![]);
        let mut cpu = [vec![], vec![], vec![]];
        for round in 0..=self.rounds {
            let a = statements.drive(&mut workers, self.lasting).await?;
            let b = drive(limits.address, &mut sign, self.lasting).await?.per_second;
            let c = drive(limits.address, &mut sign_form, self.lasting).await?.per_second;
            let small = site.drive(&mut loads, self.lasting).await?;
            let million = full.drive(&mut loads_in_full, self.lasting).await?;
            let grant = site.drive(&mut exchanges, self.lasting).await?;
            eprintln!(
                "{backend} refresh, round {round}: statement {a:.0}/s, signing {b:.0}/s, of a form {c:.0}/s, refresh \
                 {:.0}/s ({:.2} ms), among {rows} {:.0}/s ({:.2} ms), OAuth {:.0}/s ({:.2} ms)",
                small.per_second,
                small.median,
                million.per_second,
                million.median,
                grant.per_second,
                grant.median
            );
            // The first round is a warm-up.
            if round > 0 {
                let composite = |signing: f64| 1.0 / (1.0 / a + 1.0 / signing);
                parts.push([a, b, c]);
                plain.push((small.per_second, composite(b)));
                crowded.push((million.median, small.median));
                granted.push((grant.per_second, composite(c)));
                for (cpu, round) in cpu.iter_mut().zip([small, million, grant]) {
                    cpu.extend(round.cpu);
                }
            }
        }
        let disk = Some((before, disk_sync(&self.folder)?));
        let part = |number: usize| median(parts.iter().map(|parts| parts[number]).collect());
        let basis = |signing: usize| {
            format!(
                "the composite of the statement alone ({:.0}/s) and parsing and signing alone ({:.0}/s)",
                part(0),
                part(signing)
            )
        };
        let [cpu, cpu_in_full, cpu_of_grant] = cpu;
        figures.push(Figure {
            name: format!("refresh, {backend}"),
            rounds: plain,
            unit: "/s",
            basis: basis(1),
            required: Required::AtLeast(0.8),
            disk,
            cpu,
        });
        figures.push(Figure {
            name: format!("refresh with a million sessions, {backend}"),
            rounds: crowded,
            unit: "ms",
            basis: format!("the same with {} sessions; {rows} more here", 2 * SESSIONS),
            required: Required::AtMost(1.3),
            disk,
            cpu: cpu_in_full,
        });
        figures.push(Figure {
            name: format!("OAuth refresh (grant refresh_token), {backend}"),
            rounds: granted,
            unit: "/s",
            basis: basis(2),
            required: Required::AtLeast(0.7),
            disk,
            cpu: cpu_of_grant,
        });
        statements.close().await;
        full.server.stop().await
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
        let (mut rounds, mut cpu) = (vec![], vec![]);
        for round in 0..=self.rounds {
            let bare = drive(limits.address, &mut loads, self.lasting).await?.per_second;
            let driven = site.drive(&mut loads, self.lasting).await?;
            let ours = driven.per_second;
            eprintln!("{name}, round {round}: static {bare:.0}/s, measured {ours:.0}/s");
            if round > 0 {
                rounds.push((ours, bare));
                cpu.extend(driven.cpu);
            }
        }
        Ok(Figure {
            name,
            rounds,
            unit: "/s",
            basis: "a poem handler with a static response of the same size".to_owned(),
            required: Required::AtLeast(least),
            disk: None,
            cpu,
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

    /// Begins to measure CPU time.
    fn meter(&self) -> Result<Meter<'_>> {
        let mut meter = Meter { site: self, server: 0.0, postgres: None };
        (meter.server, meter.postgres) = meter.read()?;
        Ok(meter)
    }

    /// As [`drive`], with the CPU time of a request.
    async fn drive(&self, loads: &mut Vec<Load>, lasting: Duration) -> Result<Round> {
        let meter = self.meter()?;
        let mut round = drive(self.server.address, loads, lasting).await?;
        round.cpu.push(meter.per_request(round.requests)?);
        Ok(round)
    }
}

/// CPU time of a deployment's processes, in microseconds, when the measurement began.
struct Meter<'a> {
    site: &'a Deployment,
    server: f64,
    postgres: Option<f64>,
}

impl Meter<'_> {
    fn read(&self) -> Result<(f64, Option<f64>)> {
        let server = process::cpu(self.site.server.id()?)?;
        Ok((server, self.site.postmaster.map(process::cpu_with_children).transpose()?))
    }

    fn per_request(&self, requests: usize) -> Result<Cpu> {
        let (server, postgres) = self.read()?;
        let each = |now: f64, then: f64| (now - then) / requests.max(1) as f64;
        let postgres = postgres.zip(self.postgres).map(|(now, then)| each(now, then));
        Ok(Cpu { server: each(server, self.server), postgres })
    }
}

//! Events from PostgreSQL to a Kafka broker: alone, and beside refreshes. Token checks beside
//! registrations that wait for a slow user service.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use propusk::{
    clock::Clock,
    user_service::proto::{
        CreateUserRequest, CreateUserResponse, DeleteUserRequest, DeleteUserResponse,
        GetUserRequest, UserProfile,
        user_provisioning_server::{UserProvisioning, UserProvisioningServer},
    },
};
use sqlx::{Connection as _, PgConnection};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tonic::{Request, Response, Status, transport};

use crate::{
    Bench, Deployment, Result, SESSIONS, VERIFY,
    client::{Load, drive, request},
    report::{Figure, Required, disk_sync, median},
    server::{PASSWORD, Server},
};

/// Events that are published per second beside refreshes, and at least alone.
const EVENTS: u64 = 5_000;
/// Events of the backlog, for each second of a round.
const BACKLOG: u64 = 10_000;
/// How often events are written.
const TICK: Duration = Duration::from_millis(100);
/// Registrations that wait at a time.
const REGISTRATIONS: usize = 100;

/// Adds so many events of a thousand users, with data as long as that of real ones.
async fn write(connection: &mut PgConnection, events: u64) -> Result<()> {
    const INSERT: &str = "INSERT INTO outbox (id, type, subject, data, correlation_id, created_at) \
         SELECT gen_random_uuid()::text, 'session.created', u.id, \
         json_build_object('userId', u.id, 'sessionId', gen_random_uuid(), 'clientId', 'propusk')::text, \
         gen_random_uuid()::text, $1 \
         FROM generate_series(1, $2) AS n, \
         LATERAL (SELECT '019aa6f2-8a00-7c1c-9d4e-' || lpad((n % 1000)::text, 12, '0') AS id) AS u";
    let (now, events) = (Clock::system().now(), i64::try_from(events)?);
    sqlx::query(INSERT).bind(now.0).bind(events).execute(connection).await?;
    Ok(())
}

/// Waits until every event is published.
async fn drain(connection: &mut PgConnection) -> Result<()> {
    let waiting = "SELECT EXISTS (SELECT 1 FROM outbox WHERE published_at IS NULL)";
    while sqlx::query_scalar::<_, bool>(waiting).fetch_one(&mut *connection).await? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Writes [`EVENTS`] per second until it is told to stop; returns how many.
fn feed(mut connection: PgConnection, mut stop: watch::Receiver<bool>) -> JoinHandle<Result<u64>> {
    tokio::spawn(async move {
        let (began, mut written) = (Instant::now(), 0);
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(written),
                _ = tick.tick() => {}
            }
            // What is due by now, also after a tick that came late.
            let due = EVENTS * u64::try_from((began.elapsed() + TICK).as_millis())? / 1_000;
            write(&mut connection, due - written).await?;
            written = due;
        }
    })
}

impl Bench {
    pub(crate) async fn events(&self, figures: &mut Vec<Figure>) -> Result<()> {
        let broker = std::env::var("PROPUSK_BENCH_KAFKA_BROKER")
            .map_err(|_| "PROPUSK_BENCH_KAFKA_BROKER is not set: run ./dev/bench")?;
        let kafka =
            [("PROPUSK_KAFKA__BROKERS", broker.as_str()), ("PROPUSK_KAFKA__CREATE_TOPICS", "true")];
        let relayed = self.site_with("PostgreSQL", "relayed", &kafka).await?;
        let plain = self.site_with("PostgreSQL", "plain", &[]).await?;
        figures.push(self.backlog(&relayed).await?);
        figures.push(self.beside_refreshes(&relayed, &plain).await?);
        relayed.server.stop().await?;
        plain.server.stop().await
    }

    /// How fast a backlog is published while the server does nothing else.
    async fn backlog(&self, site: &Deployment) -> Result<Figure> {
        let mut connection = PgConnection::connect(&site.url).await?;
        let events = BACKLOG * self.lasting.as_secs().max(1);
        let before = disk_sync(&self.folder)?;
        let (mut rounds, mut cpu) = (vec![], vec![]);
        for round in 0..=self.rounds {
            drain(&mut connection).await?;
            write(&mut connection, events).await?;
            let (meter, began) = (site.meter()?, Instant::now());
            drain(&mut connection).await?;
            let rate = events as f64 / began.elapsed().as_secs_f64();
            eprintln!("events, round {round}: {rate:.0}/s from a backlog of {events}");
            // The first round is a warm-up.
            if round > 0 {
                cpu.push(meter.per_request(usize::try_from(events)?)?);
                rounds.push((rate, EVENTS as f64));
            }
        }
        Ok(Figure {
            name: "events published, PostgreSQL".to_owned(),
            rounds,
            unit: "/s",
            basis: "set".to_owned(),
            required: Required::AtLeast(1.0),
            disk: Some((before, disk_sync(&self.folder)?)),
            cpu,
        })
    }

    /// Refreshes while events are written and published, next to refreshes while they are written
    /// only.
    async fn beside_refreshes(&self, relayed: &Deployment, plain: &Deployment) -> Result<Figure> {
        let mut loads = vec![];
        for site in [relayed, plain] {
            loads.push(self.refreshing(&self.seed(site, SESSIONS, 0).await?, true));
        }
        let before = disk_sync(&self.folder)?;
        let (mut rounds, mut published) = (vec![], vec![]);
        for round in 0..=self.rounds {
            let mut rates = vec![];
            for (site, loads) in [relayed, plain].into_iter().zip(&mut loads) {
                let connection = PgConnection::connect(&site.url).await?;
                let (stop, stopping) = watch::channel(false);
                let feeding = feed(connection, stopping);
                let began = Clock::system().now();
                let rate = drive(site.server.address, loads, self.lasting).await?.per_second;
                let until = Clock::system().now();
                let _ = stop.send(true);
                let written = feeding.await?? as f64 / (until - began).as_secs_f64();
                rates.push((rate, written));
                if std::ptr::eq(site, relayed) {
                    let count = "SELECT COUNT(*) FROM outbox WHERE published_at BETWEEN $1 AND $2";
                    let mut connection = PgConnection::connect(&site.url).await?;
                    let count = sqlx::query_scalar::<_, i64>(count).bind(began.0).bind(until.0);
                    let count = count.fetch_one(&mut connection).await? as f64;
                    published.push(count / (until - began).as_secs_f64());
                    drain(&mut connection).await?;
                }
            }
            let [(with, written), (without, _)] = rates[..] else { return Err("two sites".into()) };
            let relayed = published.last().copied().unwrap_or_default();
            eprintln!(
                "refresh beside events, round {round}: {with:.0}/s with {relayed:.0} of {written:.0} events/s \
                 published, {without:.0}/s without"
            );
            if round > 0 {
                rounds.push((with, without));
            } else {
                published.clear();
            }
        }
        Ok(Figure {
            name: format!(
                "refresh while {:.0} events/s are published, PostgreSQL",
                median(published)
            ),
            rounds,
            unit: "/s",
            basis: format!("the same while {EVENTS} events/s are written and not published"),
            required: Required::AtLeast(0.85),
            disk: Some((before, disk_sync(&self.folder)?)),
            cpu: vec![],
        })
    }

    /// The 99th percentile of `/verify` while registrations wait for the user service.
    pub(crate) async fn beside_registrations(&self, figures: &mut Vec<Figure>) -> Result<()> {
        let service = Slow::listen().await?;
        let url = format!("http://{}", service.address);
        let settings = [
            ("PROPUSK_USER_SERVICE__MODE", "grpc"),
            ("PROPUSK_USER_SERVICE__URL", url.as_str()),
            ("PROPUSK_USER_SERVICE__TIMEOUT", "25s"),
            ("PROPUSK_USER_SERVICE__RETRIES", "0"),
            // Passwords are not what is measured.
            ("PROPUSK_PASSWORDS__MEMORY_KIB", "64"),
            ("PROPUSK_PASSWORDS__ITERATIONS", "1"),
        ];
        let site = self.site_with("PostgreSQL", "slow", &settings).await?;
        let verify = request("GET", VERIFY, Some(&site.login.access_token), None);
        let mut loads: Vec<Load> =
            (0..self.connections).map(|_| Load::fixed(verify.clone())).collect();
        let (mut rounds, mut cpu) = (vec![], vec![]);
        for round in 0..=self.rounds {
            let alone = drive(site.server.address, &mut loads, self.lasting).await?.p99;
            service.hold.send_replace(true);
            let before = service.calls.load(Ordering::Relaxed);
            let mut waiting = JoinSet::new();
            for number in 0..REGISTRATIONS {
                waiting.spawn(register(site.server.address, format!("slow{round}n{number}")));
            }
            while service.calls.load(Ordering::Relaxed) < before + REGISTRATIONS {
                if let Some(done) = waiting.try_join_next() {
                    done??;
                    return Err("a registration did not wait for the user service".into());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let driven = site.drive(&mut loads, self.lasting).await?;
            let beside = driven.p99;
            service.hold.send_replace(false);
            while let Some(done) = waiting.join_next().await {
                done??;
            }
            eprintln!(
                "verify beside registrations, round {round}: p99 {beside:.2} ms, alone {alone:.2} ms"
            );
            if round > 0 {
                rounds.push((beside, alone));
                cpu.extend(driven.cpu);
            }
        }
        figures.push(Figure {
            name: format!("p99 of verify while {REGISTRATIONS} registrations wait, PostgreSQL"),
            rounds,
            unit: "ms",
            basis: "the same without registrations".to_owned(),
            required: Required::AtMost(1.25),
            disk: None,
            cpu,
        });
        service.listening.abort();
        site.server.stop().await
    }
}

async fn register(address: SocketAddr, name: String) -> Result<()> {
    let body =
        format!(r#"{{"email":"{name}@example.org","username":"{name}","password":"{PASSWORD}"}}"#);
    let request = request("POST", "/api/v1/auth/register", None, Some(&body));
    let (status, body) = Server::ask(address, &request).await?;
    match status {
        201 => Ok(()),
        _ => Err(format!("register returned {status}: {}", String::from_utf8_lossy(&body)).into()),
    }
}

/// A user service that answers no registration while it is held.
struct Slow {
    address: SocketAddr,
    hold: watch::Sender<bool>,
    calls: Arc<AtomicUsize>,
    listening: JoinHandle<()>,
}

struct Profiles {
    held: watch::Receiver<bool>,
    calls: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl UserProvisioning for Profiles {
    async fn create_user(
        &self,
        _: Request<CreateUserRequest>,
    ) -> Result<Response<CreateUserResponse>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let _ = self.held.clone().wait_for(|held| !held).await;
        Ok(Response::new(CreateUserResponse { profile_id: None }))
    }

    async fn get_user(&self, _: Request<GetUserRequest>) -> Result<Response<UserProfile>, Status> {
        Err(Status::not_found("there is none"))
    }

    async fn delete_user(
        &self,
        _: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        Err(Status::not_found("there is none"))
    }
}

impl Slow {
    async fn listen() -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (hold, held) = watch::channel(false);
        let calls = Arc::new(AtomicUsize::new(0));
        let service = UserProvisioningServer::new(Profiles { held, calls: Arc::clone(&calls) });
        let listening = tokio::spawn(async move {
            let served = transport::Server::builder().add_service(service).serve(address).await;
            if let Err(error) = served {
                eprintln!("the user service of the bench: {error}");
            }
        });
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if listening.is_finished() {
                return Err("the user service of the bench does not listen".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Self { address, hold, calls, listening })
    }
}

//! Logins: how many there can be, what they leave to other requests, and whether a million users
//! slow them down.

use std::time::Duration;

use propusk::storage::Db;

use crate::{
    Bench, Deployment, Result, USERS, VERIFY,
    client::{Load, drive, pace, request},
    limits,
    report::{Figure, Required, disk_sync},
    seed,
    server::login_body,
};

/// Settings for figures that are not about passwords: the cheapest hashes.
pub const CHEAP_PASSWORDS: [(&str, &str); 2] =
    [("PROPUSK_PASSWORDS__MEMORY_KIB", "64"), ("PROPUSK_PASSWORDS__ITERATIONS", "1")];
/// Users who log in, spread over the table.
const SPREAD: usize = 1024;

/// Connections that check a token at fixed intervals, and the interval: 200 a second.
const PROBES: u32 = 4;
const INTERVAL: Duration = Duration::from_millis(20);
/// Connections that log in beside checks that take every core: more would wait beyond
/// `passwords.queue_timeout`.
const CROWDED: usize = 8;
/// How long logins have been waiting when the checks begin.
const HEAD_START: Duration = Duration::from_millis(300);

/// Logins over so many connections.
pub fn flood(connections: usize) -> Vec<Load> {
    let login = |connection: usize| Load::fixed(login(&format!("bench{}", connection % USERS)));
    (0..connections).map(login).collect()
}

fn login(user: &str) -> Vec<u8> {
    request("POST", "/api/v1/auth/login", None, Some(&login_body(user)))
}

impl Bench {
    pub(crate) async fn login(
        &self,
        backend: &str,
        site: &Deployment,
        figures: &mut Vec<Figure>,
    ) -> Result<()> {
        let (config, cores) = (site.config()?, crate::cores());
        let mut loads = flood(self.connections);
        let before = disk_sync(&self.folder)?;
        let (mut rounds, mut cpu) = (vec![], vec![]);
        for round in 0..=self.rounds {
            let (passwords, lasting) = (config.passwords.clone(), self.lasting);
            let alone = move || limits::argon2(&passwords, cores, lasting);
            let limit = tokio::task::spawn_blocking(alone).await??;
            let measured = site.drive(&mut loads, self.lasting).await?;
            eprintln!(
                "{backend} login, round {round}: argon2 {limit:.1}/s, login {:.1}/s",
                measured.per_second
            );
            if round > 0 {
                rounds.push((measured.per_second, limit));
                cpu.extend(measured.cpu);
            }
        }
        figures.push(Figure {
            name: format!("login, {backend}"),
            rounds,
            unit: "/s",
            basis: format!("argon2id alone on {cores} cores"),
            required: Required::AtLeast(0.92),
            disk: Some((before, disk_sync(&self.folder)?)),
            cpu,
        });
        self.beside_logins(backend, site, figures).await?;
        self.among_users(backend, figures).await
    }

    /// Logins of the same number of users, with no others in the table and with a million.
    async fn among_users(&self, backend: &str, figures: &mut Vec<Figure>) -> Result<()> {
        let rows = self.rows.max(SPREAD);
        eprintln!("{backend}: inserting {rows} users");
        let (few, mut logins_of_few) = self.with_users(backend, "users", SPREAD).await?;
        let (full, mut logins_of_full) = self.with_users(backend, "users_million", rows).await?;
        let before = disk_sync(&self.folder)?;
        let (mut rounds, mut cpu) = (vec![], vec![]);
        for round in 0..=self.rounds {
            let small = few.drive(&mut logins_of_few, self.lasting).await?;
            let million = full.drive(&mut logins_of_full, self.lasting).await?;
            eprintln!(
                "{backend} login with cheap hashes, round {round}: {:.0}/s ({:.2} ms), among {rows} {:.0}/s ({:.2} ms)",
                small.per_second, small.median, million.per_second, million.median
            );
            if round > 0 {
                rounds.push((million.median, small.median));
                cpu.extend(million.cpu);
            }
        }
        figures.push(Figure {
            name: format!("login among a million users, with cheap hashes, {backend}"),
            rounds,
            unit: "ms",
            basis: format!("the same with {SPREAD} users; {rows} here"),
            required: Required::AtMost(1.3),
            disk: Some((before, disk_sync(&self.folder)?)),
            cpu,
        });
        few.server.stop().await?;
        full.server.stop().await
    }

    /// A database with so many users, and the logins of some, spread evenly.
    async fn with_users(
        &self,
        backend: &str,
        name: &str,
        rows: usize,
    ) -> Result<(Deployment, Vec<Load>)> {
        let site = self.site_with(backend, name, &CHEAP_PASSWORDS).await?;
        let db = Db::open(&site.config()?).await?;
        seed::users(&db, &site.login.user_id, rows).await?;
        db.close().await;
        if !site.is_sqlite() {
            seed::settle(&site.url).await?;
        }
        let mut loads: Vec<Load> = (0..self.connections).map(|_| Load::default()).collect();
        for number in 1..=SPREAD {
            let user = format!("seeded{}", number * (rows / SPREAD));
            loads[number % self.connections].add(login(&user));
        }
        Ok((site, loads))
    }

    /// What a flood of logins does to checks of tokens, and a flood of checks to logins.
    async fn beside_logins(
        &self,
        backend: &str,
        site: &Deployment,
        figures: &mut Vec<Figure>,
    ) -> Result<()> {
        let token = site.server.log_in("bench0").await?.access_token;
        let verify = request("GET", VERIFY, Some(&token), None);
        let address = site.server.address;
        let (mut logins, mut few) = (flood(self.connections), flood(CROWDED));
        let mut checks: Vec<Load> =
            (0..self.connections).map(|_| Load::fixed(verify.clone())).collect();
        let (mut latencies, mut rates) = (vec![], vec![]);
        for round in 0..=self.rounds {
            let idle = pace(address, &verify, PROBES, INTERVAL, self.lasting).await?;
            let beside = async {
                tokio::time::sleep(HEAD_START).await;
                pace(address, &verify, PROBES, INTERVAL, self.lasting).await
            };
            let lasting = self.lasting + HEAD_START;
            let (flooded, alone) = tokio::join!(beside, drive(address, &mut logins, lasting));
            let (flooded, alone) = (flooded?, alone?);
            let (busy, crowded) = tokio::join!(
                drive(address, &mut checks, self.lasting),
                drive(address, &mut few, self.lasting)
            );
            let (busy, crowded) = (busy?.per_second, crowded?.per_second);
            eprintln!(
                "{backend} beside logins, round {round}: verify p99 {:.2} ms, p50 {:.2} ms, idle {:.2} and {:.2} ms; \
                 {:.1} logins/s, beside {busy:.0} checks/s {crowded:.1}/s",
                flooded.p99, flooded.median, idle.p99, idle.median, alone.per_second
            );
            // The first round is a warm-up.
            if round > 0 {
                latencies.push((flooded.p99, idle.p99));
                rates.push((crowded, alone.per_second));
            }
        }
        figures.push(Figure {
            name: format!("p99 of verify under a flood of logins, {backend}"),
            rounds: latencies,
            unit: "ms",
            basis: "the same, 200 a second, without logins".to_owned(),
            required: Required::AtMost(1.5),
            disk: None,
            cpu: vec![],
        });
        figures.push(Figure {
            name: format!("login while checks of tokens take every core, {backend}"),
            rounds: rates,
            unit: "/s",
            basis: "the same beside 200 checks a second".to_owned(),
            required: Required::Nothing,
            disk: None,
            cpu: vec![],
        });
        Ok(())
    }
}

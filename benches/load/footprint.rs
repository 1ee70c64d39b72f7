//! The time to readiness, memory, and the size of the binary.

use std::{fs, time::Duration};

use serde_json::Value;
use tokio::process::Command;

use crate::{
    Bench, Result, SESSIONS, VERIFY,
    client::{Load, drive, request},
    logins,
    report::{Figure, Required},
    server::Server,
};

/// MiB that a server may take under load, password hashes not included.
const UNDER_LOAD: f64 = 50.0;

impl Bench {
    /// The time to readiness, and the memory of a server before the first request.
    pub(crate) async fn start(&self, figures: &mut Vec<Figure>) -> Result<()> {
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
                cpu: vec![],
            });
        };
        add("ready after a start, SQLite", again, 60.0, "ms");
        add("ready after the very first start (keys, administrator), SQLite", first, 300.0, "ms");
        add("idle memory after a start, SQLite", memory, 25.0, "MiB");
        Ok(())
    }

    /// The most memory of a server that has been started again on its database: under refreshes and
    /// checks of tokens, then under a flood of logins.
    pub(crate) async fn memory(&self, backend: &str, figures: &mut Vec<Figure>) -> Result<()> {
        let site = self.site(backend, "memory").await?;
        let seeded = self.seed(&site, SESSIONS, 0).await?;
        let hash_kib = site.config()?.passwords.memory_kib;
        site.server.stop().await?;
        let server = Server::with(&site.folder, &site.url, &[]).await?;
        let (first, others) = seeded.split_first().ok_or("no sessions")?;
        let body = format!(r#"{{"refreshToken":"{}"}}"#, first.token);
        let refresh = request("POST", "/api/v1/auth/token/refresh", None, Some(&body));
        let (_, answer) = server.send(&refresh).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let token = answer.pointer("/data/accessToken").and_then(Value::as_str);
        let verify = request("GET", VERIFY, Some(token.ok_or("no access token")?), None);
        let mut loads = self.refreshing(others, true);
        loads.extend((0..self.connections).map(|_| Load::fixed(verify.clone())));
        let lasting = self.lasting * u32::try_from(self.rounds)?;
        drive(server.address, &mut loads, lasting).await?;
        let under_load = server.peak_memory()?;
        let mut flood = logins::flood(self.connections);
        drive(server.address, &mut flood, lasting).await?;
        let under_logins = server.peak_memory()?;
        server.stop().await?;
        // One per core, and the one in reserve.
        let hashes = (crate::cores() + 1) as f64 * f64::from(hash_kib) / 1024.0;
        let mut add = |name: &str, value: f64, limit: f64, basis: &str| {
            figures.push(Figure {
                name: format!("{name}, {backend}"),
                rounds: vec![(value, limit)],
                unit: "MiB",
                basis: basis.to_owned(),
                required: Required::AtMost(1.0),
                disk: None,
                cpu: vec![],
            });
        };
        add("peak memory under refreshes and checks", under_load, UNDER_LOAD, "set");
        add(
            "peak memory under a flood of logins",
            under_logins,
            UNDER_LOAD + hashes,
            "set, and the memory of one hash per core and one in reserve",
        );
        Ok(())
    }

    /// The binary as it is released; reported without a limit.
    pub(crate) async fn size(&self) -> Result<Figure> {
        let stripped = self.folder.join("stripped");
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(&stripped).arg(env!("CARGO_BIN_EXE_propusk"));
        let status = strip.status().await.map_err(|error| format!("strip (binutils): {error}"))?;
        if !status.success() {
            return Err(format!("strip failed: {status}").into());
        }
        let mib = fs::metadata(&stripped)?.len() as f64 / (1024.0 * 1024.0);
        fs::remove_file(stripped)?;
        Ok(Figure {
            name: "size of the stripped binary".to_owned(),
            rounds: vec![(mib, f64::NAN)],
            unit: "MiB",
            basis: "none".to_owned(),
            required: Required::Nothing,
            disk: None,
            cpu: vec![],
        })
    }
}

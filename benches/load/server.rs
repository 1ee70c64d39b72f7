//! Servers as separate processes: Propusk and the limit server.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use propusk::oauth::refresh_token::RefreshToken;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::{
    Result,
    client::{Connection, request},
    process,
};

pub const PASSWORD: &str = "a long walk to the lighthouse";
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// Milliseconds from spawning the process to its first ready response.
    pub ready_after: f64,
}

/// The response to a login.
pub struct Login {
    pub user_id: String,
    pub access_token: String,
    pub refresh_token: String,
}

impl Login {
    /// The id of its session.
    pub fn session(&self) -> Result<String> {
        let token = RefreshToken::parse(&self.refresh_token).ok_or("not a refresh token")?;
        Ok(token.session.to_string())
    }
}

impl Server {
    /// Starts Propusk with its data in `folder`; an empty URL means SQLite there.
    pub async fn propusk(folder: &Path, database_url: &str) -> Result<Self> {
        Self::with(folder, database_url, &[]).await
    }

    /// As [`Server::propusk`], with settings of its own: `("PROPUSK_…", "value")`.
    pub async fn with(
        folder: &Path,
        database_url: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let address = free_address()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_propusk"));
        command
            .arg("serve")
            .env_clear()
            .env("PROPUSK_SERVER__LISTEN", address.to_string())
            .env("PROPUSK_SERVER__ISSUER", format!("http://{address}"))
            .env("PROPUSK_GRPC__LISTEN", "")
            .env("PROPUSK_METRICS__LISTEN", "")
            .env("PROPUSK_DATA_DIR", folder)
            .env("PROPUSK_DATABASE__URL", database_url)
            .env("PROPUSK_LIMITS__ENABLED", "false")
            .env("PROPUSK_LOG__LEVEL", "warn")
            .envs(settings.iter().copied());
        Self::start(command, folder, address, "/api/v1/auth/health/ready").await
    }

    /// Starts this program again as the server of [`crate::limits::serve`].
    /// With a Redis URL, every static response follows one round trip to Redis.
    pub async fn limits(folder: &Path, lengths: [usize; 4], redis_url: &str) -> Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["limit-server", &address.to_string()])
            .args(lengths.map(|length| length.to_string()))
            .arg(redis_url);
        Self::start(command, folder, address, "/oauth2/jwks").await
    }

    async fn start(
        mut command: Command,
        folder: &Path,
        address: SocketAddr,
        ready: &str,
    ) -> Result<Self> {
        let log = folder.join("server.log");
        let output = fs::File::create(&log)?;
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true);
        let began = Instant::now();
        let mut child = command.spawn()?;
        let question = request("GET", ready, None, None);
        loop {
            if let Ok(mut connection) = Connection::open(address).await
                && let Ok((200, _)) = connection.send(&question).await
            {
                let ready_after = began.elapsed().as_secs_f64() * 1e3;
                return Ok(Self { child, address, ready_after });
            }
            if let Some(status) = child.try_wait()? {
                return Err(
                    format!("the server ended ({status}):\n{}", fs::read_to_string(log)?).into()
                );
            }
            if began.elapsed() > PATIENCE {
                return Err(
                    format!("the server is not ready:\n{}", fs::read_to_string(log)?).into()
                );
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub fn id(&self) -> Result<u32> {
        Ok(self.child.id().ok_or("the server exited")?)
    }

    /// Resident memory in MiB.
    pub fn memory(&self) -> Result<f64> {
        process::memory(self.id()?, "VmRSS")
    }

    /// The most resident memory so far, in MiB.
    pub fn peak_memory(&self) -> Result<f64> {
        process::memory(self.id()?, "VmHWM")
    }

    /// Sends one request; returns the status and the body.
    pub async fn send(&self, request: &[u8]) -> Result<(u16, Vec<u8>)> {
        Self::ask(self.address, request).await
    }

    /// As [`Server::send`], where only the address is at hand.
    pub async fn ask(address: SocketAddr, request: &[u8]) -> Result<(u16, Vec<u8>)> {
        let mut connection = Connection::open(address).await?;
        let (status, body) = connection.send(request).await?;
        Ok((status, body.to_vec()))
    }

    /// Registers a new account.
    pub async fn register(&self, name: &str) -> Result<Login> {
        let body = format!(
            r#"{{"email":"{name}@example.org","username":"{name}","password":"{PASSWORD}"}}"#
        );
        self.tokens("/api/v1/auth/register", &body).await
    }

    pub async fn log_in(&self, name: &str) -> Result<Login> {
        self.tokens("/api/v1/auth/login", &login_body(name)).await
    }

    async fn tokens(&self, path: &str, body: &str) -> Result<Login> {
        let (status, answer) = self.send(&request("POST", path, None, Some(body))).await?;
        if status != 200 && status != 201 {
            return Err(
                format!("{path} returned {status}: {}", String::from_utf8_lossy(&answer)).into()
            );
        }
        let answer: Value = serde_json::from_slice(&answer)?;
        let text = |pointer: &str| -> Result<String> {
            let found = answer.pointer(pointer).and_then(Value::as_str);
            Ok(found.ok_or_else(|| format!("{path} returned no {pointer}"))?.to_owned())
        };
        Ok(Login {
            user_id: text("/data/user/id")?,
            access_token: text("/data/accessToken")?,
            refresh_token: text("/data/refreshToken")?,
        })
    }

    /// Stops it as an operator would, and waits.
    pub async fn stop(mut self) -> Result<()> {
        let id = self.id()?;
        Command::new("kill").arg(id.to_string()).status().await?;
        tokio::time::timeout(PATIENCE, self.child.wait()).await??;
        Ok(())
    }
}

pub fn login_body(name: &str) -> String {
    format!(r#"{{"login":"{name}","password":"{PASSWORD}"}}"#)
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

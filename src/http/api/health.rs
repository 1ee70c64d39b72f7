//! `/api/v1/auth/health`: health, liveness and readiness.

use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::Tag;
use crate::{
    flows::readiness,
    http::{
        context::Context,
        failure::{Failure, codes},
        json::Answer,
    },
};

#[derive(Debug)]
pub struct HealthApi;

/// The status of the server.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(rename = "Health")]
pub struct HealthData {
    /// `ok`, or `degraded` while the server is not ready.
    pub status: String,
    /// The current time of the server (RFC 3339, UTC).
    pub timestamp: String,
    /// Seconds since the server was started.
    pub uptime: u64,
    /// Always `propusk`.
    pub service: String,
    /// The version of the server.
    pub version: String,
    /// The reason why `status` is not `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(skip_serializing_if_is_none)]
    pub message: Option<String>,
}

impl HealthData {
    /// Whether the server is ready.
    pub const fn is_ok(&self) -> bool {
        self.message.is_none()
    }
}

codes!(HealthErrors: RequestTimeout, Internal);
codes!(ReadyErrors: RequestTimeout, Internal, Unavailable);

#[OpenApi(prefix_path = "/api/v1/auth/health", tag = "Tag::Health")]
impl HealthApi {
    /// Get the health of the server
    ///
    /// Reports the status of the server and its database. The response is 200 even while the server
    /// is not ready.
    #[oai(path = "/", method = "get", operation_id = "getHealth")]
    pub async fn health(
        &self,
        context: Context,
    ) -> Result<Answer<HealthData>, Failure<HealthErrors>> {
        let health = check(&context).await;
        let summary =
            if health.is_ok() { "The server is healthy." } else { "The server is degraded." };
        Ok(Answer::new(summary, health))
    }

    /// Check liveness
    ///
    /// 200 while the process is running. Restart it if this fails.
    #[oai(path = "/live", method = "get", operation_id = "getLiveness")]
    pub async fn live(
        &self,
        context: Context,
    ) -> Result<Answer<HealthData>, Failure<HealthErrors>> {
        Ok(Answer::new("The server is running.", data(&context, None)))
    }

    /// Check readiness
    ///
    /// 200 if the server can handle requests. 503 while the database cannot be read or written, or
    /// no key can sign; the log of the server has the reason.
    #[oai(path = "/ready", method = "get", operation_id = "getReadiness")]
    pub async fn ready(
        &self,
        context: Context,
    ) -> Result<Answer<HealthData>, Failure<ReadyErrors>> {
        readiness::check(&context.app).await?;
        Ok(Answer::new("The server is ready.", data(&context, None)))
    }
}

/// The status of the server and its database.
pub(super) async fn check(context: &Context) -> HealthData {
    let not_ready = readiness::check(&context.app).await.err();
    data(context, not_ready.map(|_| "the server is not ready: its log says why".to_owned()))
}

fn data(context: &Context, message: Option<String>) -> HealthData {
    let now = context.app.clock.now();
    HealthData {
        status: if message.is_some() { "degraded" } else { "ok" }.to_owned(),
        timestamp: now.rfc3339(),
        uptime: (now - context.app.started_at).as_secs(),
        service: "propusk".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        message,
    }
}

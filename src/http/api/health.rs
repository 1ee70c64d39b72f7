//! `/api/v1/auth/health`: health, liveness and readiness.

use std::sync::atomic::Ordering;

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
    /// `ok`, or `degraded` while the server is not ready or events wait for Kafka.
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
        let (_, health) = check(&context).await;
        let summary = match health.message {
            None => "The server is healthy.",
            Some(_) => "The server is degraded.",
        };
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

/// Whether the server is ready, and its status.
pub(super) async fn check(context: &Context) -> (bool, HealthData) {
    let is_ready = readiness::check(&context.app).await.is_ok();
    let message = if !is_ready {
        Some("the server is not ready: its log says why")
    } else if context.app.readiness.events_delayed.load(Ordering::Relaxed) {
        Some("events wait to be published to Kafka")
    } else {
        None
    };
    (is_ready, data(context, message.map(str::to_owned)))
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

//! `/api/v1/auth/health`: for people, dashboards and orchestrators.

use std::time::Duration;

use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::Chapter;
use crate::{
    error::Error,
    http::{
        context::Context,
        failure::{Failure, codes},
        json::Answer,
    },
    storage::change_counters,
};

#[derive(Debug)]
pub struct HealthApi;

/// How long the database may take to answer before it counts as away.
const PATIENCE: Duration = Duration::from_secs(2);

/// How the server is.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(rename = "Health")]
pub struct HealthData {
    /// `ok`, or `degraded` where the server runs but cannot reach its database.
    pub status: String,
    /// The server's present (RFC 3339).
    pub timestamp: String,
    /// Seconds since it started.
    pub uptime: u64,
    /// Always `propusk`.
    pub service: String,
    /// The version that runs.
    pub version: String,
    /// What is wrong, where something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(skip_serializing_if_is_none)]
    pub message: Option<String>,
}

codes!(HealthErrors: RequestTimeout, Internal);
codes!(ReadyErrors: RequestTimeout, Internal, Unavailable);

#[OpenApi(prefix_path = "/api/v1/auth/health", tag = "Chapter::Health")]
impl HealthApi {
    /// Health
    ///
    /// How the server is, for people and dashboards; always 200 while it runs.
    #[oai(path = "/", method = "get", operation_id = "health")]
    pub async fn health(
        &self,
        context: Context,
    ) -> Result<Answer<HealthData>, Failure<HealthErrors>> {
        let message =
            database(&context).await.err().map(|_| "the database does not answer".to_owned());
        Ok(Answer::new("health", data(&context, message)))
    }

    /// Live
    ///
    /// Whether the process runs: restart it where this fails.
    #[oai(path = "/live", method = "get", operation_id = "live")]
    pub async fn live(
        &self,
        context: Context,
    ) -> Result<Answer<HealthData>, Failure<HealthErrors>> {
        Ok(Answer::new("live", data(&context, None)))
    }

    /// Ready
    ///
    /// Whether requests should come here: 503 while the database does not answer.
    #[oai(path = "/ready", method = "get", operation_id = "ready")]
    pub async fn ready(
        &self,
        context: Context,
    ) -> Result<Answer<HealthData>, Failure<ReadyErrors>> {
        database(&context).await?;
        Ok(Answer::new("ready", data(&context, None)))
    }
}

async fn database(context: &Context) -> Result<(), Error> {
    match tokio::time::timeout(PATIENCE, change_counters::read(&context.app.db)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(elapsed) => Err(Error::Unavailable(elapsed.into())),
    }
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

//! `grpc.health.v1.Health`: serving while the server is ready.

use std::sync::Arc;

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server,
};

use super::access::METHODS;
use crate::{app::App, flows::readiness};

pub(super) struct Health {
    pub app: Arc<App>,
    /// For those who watch.
    pub serving: watch::Receiver<bool>,
}

/// Whether the server has this service; the empty name stands for the whole server.
fn is_known(service: &str) -> bool {
    let of = |path: &'static str| path.trim_start_matches('/').split('/').next();
    service.is_empty() || METHODS.iter().any(|method| of(method.path) == Some(service))
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn serving_status(serving: bool) -> ServingStatus {
    if serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_known(&request.get_ref().service) {
            return Err(Status::not_found("unknown service"));
        }
        let serving = readiness::check(&self.app).await.is_ok();
        Ok(Response::new(response(serving_status(serving))))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let is_known = is_known(&request.get_ref().service);
        let mut serving = self.serving.clone();
        serving.mark_changed();
        let stream = stream::unfold(Some(serving), move |serving| async move {
            let mut serving = serving?;
            if serving.changed().await.is_err() {
                return Some((Err(Status::unavailable("the server is shutting down")), None));
            }
            let status = match is_known {
                true => serving_status(*serving.borrow_and_update()),
                false => ServingStatus::ServiceUnknown,
            };
            Some((Ok(response(status)), Some(serving)))
        });
        Ok(Response::new(stream.boxed()))
    }
}

//! The running server: its listeners and what runs beside them, on one page.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use poem::{Endpoint, Response, Route, get, handler, http::StatusCode, web::Data};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    app::App,
    config::ClientAuth,
    flows::{backchannel, explain, maintenance},
    http,
    listener::{self, Bound, ListenError, Options},
    storage::heads,
    telemetry::Metrics,
};

/// How often histograms are drained and gauges read.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// A server whose addresses are bound; it answers once [`Server::run`] runs.
pub struct Server {
    app: Arc<App>,
    public: Bound,
    metrics: Option<Bound>,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("a page cannot be rendered: {0}")]
    Page(#[from] askama::Error),
}

impl Server {
    /// Binds the configured addresses.
    ///
    /// # Errors
    /// [`ServerError::Listen`] says what to mend.
    pub fn bind(app: Arc<App>) -> Result<Self, ServerError> {
        let config = &app.config.server;
        let tls = match (&config.tls.certificate, &config.tls.key) {
            (Some(certificate), Some(key)) => {
                let client_ca = match config.tls.client_auth {
                    ClientAuth::Off => None,
                    ClientAuth::Optional | ClientAuth::Required => config.tls.client_ca.as_deref(),
                };
                let required = config.tls.client_auth == ClientAuth::Required;
                Some(listener::tls_config(certificate, key, client_ca, required)?)
            }
            _ => None,
        };
        let options = Options {
            listen: config.listen,
            setting: "server.listen",
            reuse_port: config.reuse_port,
            socket_activation: true,
            max_connections: config.max_connections,
            header_timeout: config.header_timeout,
            idle_timeout: config.idle_timeout,
            handshake_timeout: config.handshake_timeout,
            request_timeout: config.request_timeout,
            max_header_bytes: config.max_header_bytes,
            shutdown_grace: config.shutdown_grace,
            tls,
        };
        let metrics = app.config.metrics.listen.map(|listen| {
            listener::bind(&Options {
                listen,
                setting: "metrics.listen",
                socket_activation: false,
                max_connections: 64,
                tls: None,
                ..options.clone()
            })
        });
        Ok(Self {
            public: listener::bind(&options)?,
            metrics: metrics.transpose()?,
            app,
        })
    }

    /// Where the public listener is bound.
    pub fn address(&self) -> SocketAddr {
        self.public.local_addr()
    }

    /// Where the metrics listener is bound.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(Bound::local_addr)
    }

    /// Answers until `shutdown` comes; then finishes what was accepted, and closes the database.
    ///
    /// # Errors
    /// [`ServerError::Page`], before anything is answered.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self {
            app,
            public,
            metrics,
        } = self;
        let endpoint = http::endpoint(&app)?;
        let (stop, stopping) = watch::channel(false);
        let stopped = |mut stopping: watch::Receiver<bool>| async move {
            let _ = stopping.wait_for(|stop| *stop).await;
        };

        let mut background = JoinSet::new();
        background.spawn(maintenance::run(Arc::clone(&app)));
        background.spawn(backchannel::run(Arc::clone(&app)));
        background.spawn(explain::run(Arc::clone(&app)));
        background.spawn(keep_metrics(Arc::clone(&app)));
        background.spawn(app.revocations.clone().look_for_news());

        let serving = public.serve(endpoint, stopped(stopping.clone()));
        let watching = async {
            match metrics {
                Some(metrics) => {
                    metrics
                        .serve(metrics_endpoint(&app), stopped(stopping))
                        .await
                }
                None => Ok(()),
            }
        };
        let signal = async {
            shutdown.await;
            tracing::info!("shutting down: finishing what was accepted");
            app.revocations.feed.close();
            let _ = stop.send(true);
            Ok(())
        };
        tokio::try_join!(serving, watching, signal)?;
        background.shutdown().await;
        if let Err(error) = explain::write(&app).await {
            tracing::error!(%error, "the last refusals could not be written");
        }
        app.db.close().await;
        Ok(())
    }
}

async fn keep_metrics(app: Arc<App>) {
    let mut tick = tokio::time::interval(METRICS_UPKEEP);
    loop {
        tick.tick().await;
        app.metrics.upkeep();
    }
}

/// What the metrics listener answers: `/metrics` for Prometheus and `/ready` for `propusk health`.
fn metrics_endpoint(app: &Arc<App>) -> impl Endpoint<Output = Response> + use<> {
    use poem::EndpointExt;
    Route::new()
        .at("/metrics", get(render_metrics))
        .at("/ready", get(ready))
        .data(Arc::clone(app))
        .map_to_response()
}

#[handler]
fn render_metrics(Data(app): Data<&Arc<App>>) -> Response {
    let (size, idle) = app.db.pool_size();
    app.metrics.database_pool_size.set(size);
    app.metrics.database_pool_idle.set(idle as f64);
    app.metrics.argon2_waiting.set(app.hasher.waiting() as f64);
    app.metrics
        .revocation_entries
        .set(app.revocations.len() as f64);
    Response::builder()
        .content_type(Metrics::CONTENT_TYPE)
        .body(app.metrics.render())
}

#[handler]
async fn ready(Data(app): Data<&Arc<App>>) -> StatusCode {
    match tokio::time::timeout(Duration::from_secs(2), heads::read(&app.db)).await {
        Ok(Ok(_)) => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

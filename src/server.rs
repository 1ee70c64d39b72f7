//! The running server: its listeners and background tasks.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use poem::{Endpoint, Response, Route, get, handler, http::StatusCode, web::Data};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    app::App,
    config::{ClientAuth, Tls},
    flows::{
        mail, maintenance, oauth::backchannel_logout, provisioning, readiness,
        services::revocations, webhooks,
    },
    grpc, http,
    listener::{self, Bound, ListenError, Options},
    storage,
    telemetry::Metrics,
};
#[cfg(feature = "kafka")]
use crate::{config::Provisioning, events};

/// How often readiness is checked for those who watch the gRPC health status.
const HEALTH_CHECK: Duration = Duration::from_secs(2);

/// How long a stop waits for Kafka to accept the last events.
#[cfg(feature = "kafka")]
const LAST_EVENTS: Duration = Duration::from_secs(5);

/// A server whose sockets are bound; it answers once [`Server::run`] runs.
pub struct Server {
    app: Arc<App>,
    public: Bound,
    grpc: Option<Bound>,
    metrics: Option<Bound>,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Endpoint(#[from] http::EndpointError),
    #[error("the gRPC services cannot be described: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl Server {
    /// Binds the configured addresses.
    ///
    /// # Errors
    /// [`ServerError::Listen`] says what to fix.
    pub fn bind(app: Arc<App>) -> Result<Self, ServerError> {
        let config = &app.config.server;
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
            tls: tls(&config.tls)?,
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
        let public = listener::bind(&options)?;
        let listen = public.local_addr();
        if app.config.is_loopback_issuer() && !listen.ip().to_canonical().is_loopback() {
            // Still open with an activated socket: it is not known before.
            let defaults = if app.config.is_local() { "open" } else { "off" };
            tracing::warn!(
                %listen,
                development_defaults = defaults,
                "others can reach the listener, but the issuer is on loopback: set server.issuer"
            );
        }
        Ok(Self { public, grpc: bind_grpc(&app, &options)?, metrics: metrics.transpose()?, app })
    }

    /// Where the public listener is bound.
    pub fn address(&self) -> SocketAddr {
        self.public.local_addr()
    }

    /// Where the gRPC listener is bound.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().map(Bound::local_addr)
    }

    /// Where the metrics listener is bound.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(Bound::local_addr)
    }

    /// Serves until `shutdown` completes; then finishes the accepted requests and closes the
    /// database.
    ///
    /// # Errors
    /// [`ServerError::Endpoint`], before anything is served.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self { app, public, grpc, metrics } = self;
        let endpoint = http::endpoint(&app)?;
        let (serving, is_serving) = watch::channel(true);
        let services = grpc::endpoint(&app, is_serving)?;
        let (stop, stopping) = watch::channel(false);
        let stopped = |mut stopping: watch::Receiver<bool>| async move {
            let _ = stopping.wait_for(|stop| *stop).await;
        };

        let mut background = JoinSet::new();
        background.spawn(maintenance::run(Arc::clone(&app)));
        background.spawn(backchannel_logout::run(Arc::clone(&app)));
        background.spawn(provisioning::run(Arc::clone(&app)));
        background.spawn(revocations::run(Arc::clone(&app)));
        background.spawn(mail::run(Arc::clone(&app), http::views::mail::render));
        if app.config.webhooks.enabled {
            background.spawn(webhooks::run(Arc::clone(&app)));
        }
        #[cfg(feature = "kafka")]
        let relay = app.config.publishes_events().then(|| Relay::start(&app, &mut background));
        let denied = Arc::clone(&app);
        background.spawn(async move { denied.denied_requests.run().await });

        // Without a gRPC listener there is no health status to keep.
        let health =
            grpc.as_ref().map(|_| background.spawn(keep_health(Arc::clone(&app), serving)));
        background.spawn(app.revocations.clone().poll_for_changes());

        let serving = public.serve(endpoint, stopped(stopping.clone()));
        let calling = async {
            match grpc {
                Some(grpc) => grpc.serve(services, stopped(stopping.clone())).await,
                None => Ok(()),
            }
        };
        let watching = async {
            match metrics {
                Some(metrics) => {
                    let stopped = stopped(stopping.clone());
                    metrics.serve(metrics_endpoint(&app), stopped).await
                }
                None => Ok(()),
            }
        };
        let signal = async {
            shutdown.await;
            tracing::info!("shutting down: finishing accepted requests");
            // Streams end with a reason.
            app.revocations.feed.close();
            if let Some(health) = health {
                health.abort();
            }
            let _ = stop.send(true);
            Ok(())
        };
        tokio::try_join!(serving, calling, watching, signal)?;
        #[cfg(feature = "kafka")]
        if let Some(relay) = relay {
            relay.stop(app.config.server.shutdown_grace.min(LAST_EVENTS)).await;
        }
        let grace = app.config.server.shutdown_grace;
        if tokio::time::timeout(grace, app.services.finish()).await.is_err() {
            tracing::warn!("requests for tokens of services were aborted");
        }
        background.shutdown().await;
        let written = async {
            while app.denied_requests.write().await? > 0 {}
            Ok(())
        };
        let written: Result<(), storage::Error> = written.await;
        if let Err(error) = written {
            tracing::error!(%error, "writing the last denied requests failed");
        }
        app.db.close().await;
        Ok(())
    }
}

/// The relay of events to Kafka.
#[cfg(feature = "kafka")]
struct Relay {
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
}

#[cfg(feature = "kafka")]
impl Relay {
    fn start(app: &Arc<App>, background: &mut JoinSet<()>) -> Self {
        background.spawn(events::relay::watch_backlog(Arc::clone(app)));
        if app.config.user_service.mode == Provisioning::Kafka {
            background.spawn(events::consumer::run(Arc::clone(app)));
        }
        let (stop, stopping) = watch::channel(false);
        let running = tokio::spawn(events::relay::run(Arc::clone(app), stopping));
        Self { stop, running }
    }

    /// Publishes what the last requests have left, for no longer than `grace`.
    async fn stop(mut self, grace: Duration) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(grace, &mut self.running).await.is_err() {
            tracing::warn!("events wait to be published; the next start publishes them");
            self.running.abort();
        }
    }
}

/// TLS as the configuration asks for it.
fn tls(config: &Tls) -> Result<Option<Arc<rustls::ServerConfig>>, ListenError> {
    let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else {
        return Ok(None);
    };
    let client_ca = match config.client_auth {
        ClientAuth::Off => None,
        ClientAuth::Optional | ClientAuth::Required => config.client_ca.as_deref(),
    };
    let required = config.client_auth == ClientAuth::Required;
    listener::tls_config(certificate, key, client_ca, required).map(Some)
}

fn bind_grpc(app: &App, options: &Options) -> Result<Option<Bound>, ListenError> {
    let config = &app.config.grpc;
    let Some(listen) = config.listen else {
        return Ok(None);
    };
    let bound = listener::bind(&Options {
        listen,
        setting: "grpc.listen",
        socket_activation: false,
        max_connections: config.max_connections,
        request_timeout: config.request_timeout,
        tls: tls(&config.tls)?,
        ..options.clone()
    });
    match bound {
        // The address is the default: a first start must not fail because it is in use.
        Err(error @ ListenError::Taken { .. }) if app.config.is_default("grpc.listen") => {
            tracing::warn!(%error, "gRPC listener disabled: address in use");
            Ok(None)
        }
        bound => bound.map(Some),
    }
}

/// Updates the gRPC health status while somebody watches it; a single check asks by itself.
async fn keep_health(app: Arc<App>, serving: watch::Sender<bool>) {
    let mut tick = tokio::time::interval(HEALTH_CHECK);
    loop {
        tick.tick().await;
        // One receiver is the service's own. A check writes: an idle server leaves the disk alone.
        if serving.receiver_count() <= 1 {
            continue;
        }
        let is_ready = readiness::check(&app).await.is_ok();
        serving.send_if_modified(|serving| std::mem::replace(serving, is_ready) != is_ready);
    }
}

/// The metrics listener: `/metrics` for Prometheus and `/ready` for `propusk health`.
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
    app.metrics.database_pool_size.set(i64::from(size));
    app.metrics.database_pool_idle.set(idle as i64);
    app.metrics.argon2_waiting.set(app.hasher.waiting() as i64);
    app.metrics.revocation_entries.set(app.revocations.len() as i64);
    if let Some(replica) = &app.revocations.replica {
        app.metrics.redis_trusted(replica.is_trusted());
    }
    let now = app.clock.now();
    for (algorithm, since, until) in app.keys.schedule(now) {
        app.metrics.signing_key(algorithm, now - since, until);
    }
    Response::builder().content_type(Metrics::CONTENT_TYPE).body(app.metrics.render())
}

#[handler]
async fn ready(Data(app): Data<&Arc<App>>) -> StatusCode {
    if readiness::check(app).await.is_ok() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

//! The accept loop: TCP and TLS connections, HTTP/1 and HTTP/2, serving one poem endpoint.
//!
//! poem's own server has no timeout for headers, no `TCP_NODELAY`, no client certificate for
//! handlers and no back-off when `accept` fails; this one does. Its bounds:
//!
//! | what | bounded by |
//! |---|---|
//! | connections | [`Options::max_connections`]: beyond it, `accept` waits |
//! | TLS handshake | [`Options::handshake_timeout`] |
//! | header section of an HTTP/1 request | [`Options::header_timeout`], [`Options::max_header_bytes`] (431) |
//! | time between requests | [`Options::idle_timeout`] |
//! | a request, including its body | [`RequestTimeout`] (408 or 503), which wraps the routes |
//! | a response that the client does not read | [`Options::request_timeout`] + [`Options::idle_timeout`] |
//! | HTTP/2 streams, resets, header lists | constants below |

mod error;
mod tls;
mod wire;

#[cfg(test)]
mod tests;

pub use error::ListenError;
pub use tls::{ClientCertificate, thumbprint, tls_config};

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt as _, stream};
use http::{HeaderValue, StatusCode, Version, header, uri::Scheme};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use poem::{
    Addr, Endpoint, EndpointExt, IntoEndpoint, Middleware, Request, Response,
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;
use wire::{Activity, Busy, Wire};

/// Connections that the kernel queues for `accept`.
const BACKLOG: i32 = 4096;
/// Maximum number of concurrent HTTP/2 streams per connection.
const MAX_STREAMS: u32 = 200;
/// Streams reset before they were accepted, after which the connection is closed
/// (RUSTSEC-2024-0003).
const MAX_PENDING_RESETS: usize = 20;
/// Streams reset for errors of the client, after which the connection is closed.
const MAX_ERROR_RESETS: usize = 100;
/// HTTP/2 flow-control windows in bytes: how far a client may send ahead of the handler.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 64 * 1024;
/// Bytes buffered per HTTP/2 stream for writing.
const SEND_BUFFER: usize = 64 * 1024;
/// The smallest read buffer that hyper accepts for HTTP/1, in bytes.
const MIN_BUFFER: usize = 8192;
/// Time for a graceful close (GOAWAY, or `Connection: close`) before the connection is dropped.
const GRACEFUL_CLOSE: Duration = Duration::from_secs(1);
/// The first and the longest pause after `accept` failed for lack of resources.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The address and bounds of a listener.
#[derive(Clone)]
pub struct Options {
    /// The address to bind; port 0 selects a free one.
    pub listen: SocketAddr,
    /// The configuration's key for `listen`, for error messages: `server.listen`.
    pub setting: &'static str,
    /// Sets `SO_REUSEPORT`, so that the next process can bind before this one stops.
    pub reuse_port: bool,
    /// Uses the first socket passed by systemd (`LISTEN_FDS`, `LISTEN_PID`), if any, instead of
    /// binding `listen`. At most one listener of a process may set it.
    pub socket_activation: bool,
    /// Maximum number of open connections.
    pub max_connections: usize,
    /// From the first byte of an HTTP/1 header section (on a new connection: from `accept`) to its
    /// last.
    pub header_timeout: Duration,
    /// From one response to the next request; some connections are kept for up to twice this.
    pub idle_timeout: Duration,
    /// For the whole TLS handshake.
    pub handshake_timeout: Duration,
    /// The duration of [`RequestTimeout`]: a response without progress for this plus `idle_timeout`
    /// closes its connection.
    pub request_timeout: Duration,
    /// Maximum bytes of a request's header section; on HTTP/1 at least 8192.
    pub max_header_bytes: usize,
    /// Time for requests in flight to finish after the shutdown began.
    pub shutdown_grace: Duration,
    /// TLS, from [`tls_config`]; `None`: plain TCP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// A bound socket, not yet serving.
pub struct Bound {
    listener: StdListener,
    address: SocketAddr,
    options: Options,
}

/// Binds the address of `options`.
///
/// # Errors
/// [`ListenError`] when the address cannot be bound or the inherited socket is unusable.
pub fn bind(options: &Options) -> Result<Bound, ListenError> {
    let inherited = if options.socket_activation {
        listenfd::ListenFd::from_env().take_tcp_listener(0).map_err(ListenError::Activation)?
    } else {
        None
    };
    let (at, setting) = (options.listen, options.setting);
    let listener = match inherited {
        Some(listener) => listener,
        None => open(at, options.reuse_port).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::Taken { at, setting },
            io::ErrorKind::PermissionDenied => ListenError::Denied { at, setting },
            io::ErrorKind::AddrNotAvailable => ListenError::NoSuchAddress { at, setting },
            _ => ListenError::Bind(at, error),
        })?,
    };
    let address = listener
        .set_nonblocking(true)
        .and_then(|()| listener.local_addr())
        .map_err(|error| ListenError::Bind(at, error))?;
    Ok(Bound { listener, address, options: options.clone() })
}

fn open(at: SocketAddr, reuse_port: bool) -> io::Result<StdListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(at),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    if at.is_ipv6() && at.ip().is_unspecified() {
        socket.set_only_v6(false)?; // [::] includes IPv4, whatever the system's default
    }
    // Do not wait for old connections in TIME_WAIT at a restart.
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Bound {
    /// The bound address, with the port that the system chose if it was 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves `endpoint` until `shutdown` resolves; then stops accepting connections, finishes the
    /// requests in flight within [`Options::shutdown_grace`], and closes the remaining connections.
    ///
    /// # Errors
    /// [`ListenError`] when the socket cannot be registered with the runtime.
    pub async fn serve<E>(
        self,
        endpoint: E,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ListenError>
    where
        E: IntoEndpoint,
        E::Endpoint: 'static,
    {
        let Self { listener, address, options } = self;
        let listener =
            TcpListener::from_std(listener).map_err(|error| ListenError::Bind(address, error))?;
        let grace = options.shutdown_grace;
        let slots = Arc::new(Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS)));
        let (stop, stopping) = watch::channel(());
        let server = Arc::new(Server {
            http: http(&options),
            endpoint: endpoint.into_endpoint().map_to_response(),
            tls: options.tls.clone().map(TlsAcceptor::from),
            stopping,
            options,
        });
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        let mut pause = BACK_OFF.0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = accept(&listener, &slots) => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, peer, slot)) => {
                    pause = BACK_OFF.0;
                    connections.spawn(server.clone().connection(stream, peer, slot));
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "cannot accept connections");
                    tokio::select! { () = &mut shutdown => break, () = sleep(pause) => {} }
                    pause = (pause * 2).min(BACK_OFF.1);
                }
            }
        }
        // Connections that the kernel has already accepted are served.
        while let Some(Ok((stream, peer, slot))) = accept(&listener, &slots).now_or_never() {
            connections.spawn(server.clone().connection(stream, peer, slot));
        }
        drop(listener);
        stop.send_replace(());
        let finished = async { while connections.join_next().await.is_some() {} };
        if timeout(grace, finished).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "shutdown grace expired: closing busy connections"
            );
            connections.shutdown().await;
        }
        Ok(())
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, slot))
}

/// Whether an error of `accept` concerns the accepted connection, not the listener.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn http(options: &Options) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None) // would close idle connections too; `Wire` does it
        .max_buf_size(options.max_header_bytes.max(MIN_BUFFER)); // must fit a header section, else 431
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .max_header_list_size(u32::try_from(options.max_header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(options.idle_timeout / 2)
        .keep_alive_timeout(options.header_timeout);
    builder
}

struct Server<E> {
    http: auto::Builder<TokioExecutor>,
    endpoint: E,
    tls: Option<TlsAcceptor>,
    stopping: watch::Receiver<()>,
    options: Options,
}

impl<E: Endpoint<Output = Response> + 'static> Server<E> {
    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        _slot: OwnedSemaphorePermit,
    ) {
        // Otherwise a response of two segments waits for the client's delayed ACK.
        let local = match stream.set_nodelay(true).and_then(|()| stream.local_addr()) {
            Ok(local) => local,
            Err(error) => return tracing::debug!(%peer, %error, "connection lost"),
        };
        let Some(tls) = &self.tls else {
            return self.http(stream, Scheme::HTTP, local, peer, None).await;
        };
        match timeout(self.options.handshake_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let certificate = ClientCertificate::of(stream.get_ref().1);
                self.http(stream, Scheme::HTTPS, local, peer, certificate).await;
            }
            Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
        }
    }

    async fn http<S>(
        self: &Arc<Self>,
        stream: S,
        scheme: Scheme,
        local: SocketAddr,
        peer: SocketAddr,
        certificate: Option<ClientCertificate>,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let options = &self.options;
        let activity = Arc::new(Activity::new(options.idle_timeout, options.request_timeout));
        let wire = Wire::new(stream, options.header_timeout, activity.clone());
        let service = hyper::service::service_fn({
            let (server, activity) = (self.clone(), activity.clone());
            move |mut request: http::Request<Incoming>| {
                let (server, busy) = (server.clone(), activity.begin());
                if let Some(certificate) = &certificate {
                    request.extensions_mut().insert(certificate.clone());
                }
                let request = Request::from((
                    request,
                    LocalAddr(Addr::SocketAddr(local)),
                    RemoteAddr(Addr::SocketAddr(peer)),
                    scheme.clone(),
                ));
                async move { Ok::<_, Infallible>(answer(&server.endpoint, request, busy).await) }
            }
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(wire), service));
        let mut stopping = self.stopping.clone();
        let mut stopped = false;
        let mut closing = false;
        let mut watchdog = pin!(sleep_until(activity.next_check()));
        loop {
            // The connection first: a request that has arrived is served.
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                    return;
                }
                _ = stopping.changed(), if !stopped => {
                    stopped = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut watchdog => {
                    if !activity.expired() {
                        // Requests arrived since it was set; resetting it for each would cost too
                        // much.
                        watchdog.as_mut().reset(activity.next_check());
                    } else if closing {
                        return tracing::debug!(%peer, "idle or stalled connection closed");
                    } else {
                        closing = true;
                        connection.as_mut().graceful_shutdown();
                        watchdog.set(sleep(GRACEFUL_CLOSE));
                    }
                }
            }
        }
    }
}

/// The endpoint's response. A panic outside [`RequestTimeout`] becomes a 500 without a body.
async fn answer<E: Endpoint<Output = Response>>(
    endpoint: &E,
    request: Request,
    busy: Busy,
) -> http::Response<Tracked<impl Body<Data = bytes::Bytes, Error = io::Error> + Unpin + use<E>>> {
    let http1 = request.version() < Version::HTTP_2;
    let mut response = AssertUnwindSafe(endpoint.get_response(request))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into());
    if http1 && response.status() == StatusCode::REQUEST_TIMEOUT {
        // RFC 9110 §15.5.9; the rest of the body is not read
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    http::Response::from(response).map(|body| Tracked { body, busy })
}

/// A response body; its connection is not idle until it is sent.
struct Tracked<B> {
    body: B,
    busy: Busy,
}

impl<B: Body + Unpin> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_ready() {
            self.busy.touch();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Middleware for the routes: a request that takes longer, including its body, becomes the error
/// 408 if it has not arrived completely (RFC 9110 §15.5.9), else 503; a panic of a handler becomes
/// the error 500. All are `poem::Error`s without a body; the request-context middleware renders
/// them.
#[derive(Clone, Copy, Debug)]
pub struct RequestTimeout(pub Duration);

impl<E: Endpoint> Middleware<E> for RequestTimeout {
    type Output = Timed<E>;

    fn transform(&self, inner: E) -> Timed<E> {
        Timed { inner, timeout: self.0 }
    }
}

/// An endpoint wrapped by [`RequestTimeout`].
pub struct Timed<E> {
    inner: E,
    timeout: Duration,
}

impl<E: Endpoint> Endpoint for Timed<E> {
    type Output = E::Output;

    async fn call(&self, mut request: Request) -> poem::Result<E::Output> {
        let is_received = track_body(&mut request);
        let call = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        match timeout(self.timeout, call).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                tracing::error!("request handler panicked");
                Err(poem::Error::from_status(StatusCode::INTERNAL_SERVER_ERROR))
            }
            Err(_) if is_received.load(Ordering::Acquire) => {
                Err(poem::Error::from_status(StatusCode::SERVICE_UNAVAILABLE))
            }
            Err(_) => Err(poem::Error::from_status(StatusCode::REQUEST_TIMEOUT)),
        }
    }
}

/// Becomes true once the body was read to its end.
fn track_body(request: &mut Request) -> Arc<AtomicBool> {
    let body = request.take_body();
    let is_received = Arc::new(AtomicBool::new(body.is_empty()));
    if body.is_empty() {
        request.set_body(body);
    } else {
        let at_its_end = Arc::clone(&is_received);
        let end = stream::poll_fn(move |_| {
            at_its_end.store(true, Ordering::Release);
            Poll::Ready(None)
        });
        request.set_body(poem::Body::from_bytes_stream(body.into_bytes_stream().chain(end)));
    }
    is_received
}

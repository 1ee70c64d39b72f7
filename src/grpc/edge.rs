//! The outermost layer: every call passes here first, and its response last. A call gets its ids,
//! its deadline and its caller's identity; it is counted and logged once.

use std::{
    convert::Infallible,
    error::Error as _,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame};
use poem::{
    Endpoint, Request, Response,
    http::{HeaderMap, StatusCode, Version, header},
};
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, service::Routes};
use tower_service::Service as _;

use super::{
    access::{self, Identity, Method},
    status,
};
use crate::{
    api_error::ApiError,
    app::App,
    diagnostics::{self, Principal},
    model::actor::RequestContext,
    request_context,
};

/// The outermost layer.
pub(super) struct RequestContextLayer {
    pub app: Arc<App>,
    pub routes: Routes,
}

/// What a method knows of its call beside the message.
#[derive(Debug)]
pub(super) struct Call {
    pub app: Arc<App>,
    pub caller: Arc<RequestContext>,
    /// The caller's deadline (`grpc-timeout`).
    pub deadline: Option<Instant>,
    identity: Option<Identity>,
}

impl Call {
    /// The call that [`RequestContextLayer`] made of the request.
    ///
    /// # Errors
    /// Where a service is outside the layer, which is a programming error.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Result<Arc<Self>, Status> {
        let call = request.extensions().get::<Arc<Self>>();
        call.cloned().ok_or_else(|| Status::internal("a service outside the request-context layer"))
    }

    /// The authenticated caller.
    ///
    /// # Errors
    /// Where the method requires no scope, which is a mistake in the table of methods.
    pub(super) fn identity(&self) -> Result<&Identity, Status> {
        self.identity
            .as_ref()
            .ok_or_else(|| Status::internal("a method without a scope asked for its caller"))
    }

    /// An error as this call's status.
    pub(super) fn refuse(&self, error: impl Into<ApiError>) -> Status {
        status::of(error.into(), &self.caller)
    }

    /// A status without a counterpart in HTTP.
    pub(super) fn refuse_with(&self, code: Code, reason: &str, message: &str) -> Status {
        status::new(code, reason, message, &self.caller)
    }
}

/// Refuses a call whose field is empty.
///
/// # Errors
/// INVALID_ARGUMENT, naming the field.
pub(super) fn required(call: &Call, field: &str, value: &str) -> Result<(), Status> {
    if value.is_empty() {
        return Err(call.refuse(ApiError::field(field, "is missing")));
    }
    Ok(())
}

impl Endpoint for RequestContextLayer {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        // Durations of calls are measured by the real clock, whatever tests do to the other one.
        #[allow(clippy::disallowed_methods)]
        let began = Instant::now();
        let caller = Arc::new(request_context::of(&self.app, &request));
        let method = Method::at(request.uri().path());
        if let Some(refused) = refuse_protocol(&request) {
            return Ok(refused);
        }
        let (answer, diagnostics) =
            diagnostics::collect(self.answer(request, method, &caller, began)).await;
        let (mut parts, body) = answer.into_parts();
        request_context::echo_ids(&mut parts.headers, &caller);
        let failed = parts.extensions.remove::<Status>();
        let code = failed.as_ref().map_or(Code::Ok, Status::code);
        let name = method.map_or("unknown", |method| method.path);
        let took = began.elapsed();
        self.app.metrics.grpc_call(name, code_name(code), took);
        let summary = diagnostics::Response {
            call: format!("gRPC {name}"),
            status: code_name(code).to_owned(),
            error: failed.as_ref().map(|status| (code_name(code), status.message())),
        };
        let principal = diagnostics.principal.clone();
        self.app.denied_requests.keep(diagnostics, summary, &caller);
        log(&caller, &principal, method, failed.as_ref(), took);
        let body = BoxBody::new(Shared(Mutex::new(body)));
        Ok(http::Response::from_parts(parts, body).into())
    }
}

impl RequestContextLayer {
    async fn answer(
        &self,
        request: Request,
        method: Option<&'static Method>,
        caller: &Arc<RequestContext>,
        began: Instant,
    ) -> http::Response<tonic::body::Body> {
        let refuse = |code, reason, message| status::new(code, reason, message, caller);
        let Some(method) = method else {
            let message = "unknown method: list the methods by server reflection";
            return refuse(Code::Unimplemented, "NOT_FOUND", message).into_http();
        };
        let asked = match read_timeout(request.headers()) {
            Ok(asked) => asked,
            Err(message) => {
                return refuse(Code::InvalidArgument, "BAD_REQUEST", message).into_http();
            }
        };
        let longest = self.app.config.grpc.request_timeout;
        let work = self.serve(request, method, caller, asked.map(|asked| began + asked));
        let work = timeout(
            asked.map_or(longest, |asked| asked.min(longest)),
            AssertUnwindSafe(work).catch_unwind(),
        );
        match work.await {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(status))) => status.into_http(),
            Ok(Err(_)) => {
                tracing::error!("a gRPC method panicked");
                let message = "internal server error; quote the requestId when reporting it";
                refuse(Code::Internal, "INTERNAL_ERROR", message).into_http()
            }
            Err(_) => {
                let message = "the call timed out: send it again";
                refuse(Code::DeadlineExceeded, "REQUEST_TIMEOUT", message).into_http()
            }
        }
    }

    /// What the service answers; the error is this layer's own.
    async fn serve(
        &self,
        request: Request,
        method: &Method,
        caller: &Arc<RequestContext>,
        deadline: Option<Instant>,
    ) -> Result<http::Response<tonic::body::Body>, Status> {
        let identity = match method.scope {
            Some(scope) => {
                let found = access::authenticate(&self.app, &request, scope).await;
                Some(found.map_err(|error| status::of(error, caller))?)
            }
            None => None,
        };
        let mut request: http::Request<BoxBody<Bytes, std::io::Error>> = request.into();
        request.extensions_mut().insert(Arc::new(Call {
            app: Arc::clone(&self.app),
            caller: Arc::clone(caller),
            deadline,
            identity,
        }));
        let answered: Result<_, Infallible> = self.routes.clone().call(request).await;
        match answered {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }
}

/// A request that is not gRPC gets an HTTP response.
fn refuse_protocol(request: &Request) -> Option<Response> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let status = if request.version() < Version::HTTP_2 {
        StatusCode::HTTP_VERSION_NOT_SUPPORTED
    } else if !is_grpc {
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    } else {
        return None;
    };
    let body = "this port speaks gRPC over HTTP/2\n";
    Some(Response::builder().status(status).body(body))
}

/// How long the caller waits (`grpc-timeout`).
fn read_timeout(headers: &HeaderMap) -> Result<Option<Duration>, &'static str> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let read = || {
        let text = value.to_str().ok()?;
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number: u64 = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(number * 3600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    };
    read().map(Some).ok_or("`grpc-timeout` must be up to 8 digits and one of H, M, S, m, u, n")
}

/// One line a call, as over HTTP; without messages and metadata values.
fn log(
    caller: &RequestContext,
    principal: &Principal,
    method: Option<&Method>,
    status: Option<&Status>,
    took: Duration,
) {
    let RequestContext { request_id, correlation_id, address, .. } = caller;
    let Principal { client_id, subject } = principal;
    let ms = took.as_secs_f64() * 1_000.0;
    let path = method.map_or("unknown", |method| method.path);
    match status {
        Some(status) => {
            let (code, reason) = (code_name(status.code()), status.message());
            let cause = status.source().map(ToString::to_string);
            match status.code() {
                Code::Internal | Code::Unavailable | Code::Unknown | Code::DataLoss => {
                    tracing::error!(request_id, correlation_id, path, ms, %address, client_id, subject, code, cause, "failed");
                }
                _ => {
                    tracing::info!(request_id, correlation_id, path, ms, %address, client_id, subject, code, reason, cause, "refused");
                }
            }
        }
        None if method.is_some_and(Method::is_read_only) => {
            tracing::debug!(request_id, correlation_id, path, ms, %address, client_id, subject, "answered");
        }
        None => {
            tracing::info!(request_id, correlation_id, path, ms, %address, client_id, subject, "answered");
        }
    }
}

/// The name in the specification.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// tonic's bodies are not `Sync`, and the listener's must be; the lock is never contended.
struct Shared(Mutex<tonic::body::Body>);

impl Body for Shared {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let body = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        Pin::new(body).poll_frame(cx).map_err(std::io::Error::other)
    }

    fn is_end_stream(&self) -> bool {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Option<Duration>, &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", value.parse().expect("a value"));
        read_timeout(&headers)
    }

    #[test]
    fn a_callers_deadline_is_read_as_the_protocol_writes_it() {
        assert_eq!(read_timeout(&HeaderMap::new()), Ok(None));
        for (value, expected) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("5m", Duration::from_millis(5)),
            ("6u", Duration::from_micros(6)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(read(value), Ok(Some(expected)), "{value}");
        }
        for bad in ["", "S", "123456789S", "1x", "-1S", "1.5S", "1 S", "1\u{e9}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

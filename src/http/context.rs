//! The outermost layer: every request passes here first and every response last. A request gets its
//! ids and its real client address; an error gets its body; each is counted and logged once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use poem::{
    Endpoint, FromRequest, IntoResponse, Middleware, PathPattern, Request, RequestBody, Response,
    Result,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header},
};
use serde_json::json;

use super::views::{ErrorPage, ErrorTitle, FormAction, Locale, page_url};
use crate::{
    api_error::{ApiError, Carried, ErrorCode},
    app::App,
    diagnostics::{self, Principal},
    model::actor::RequestContext,
    request_context,
};

/// What a handler gets beside the request.
#[derive(Clone, Debug)]
pub struct Context {
    pub app: Arc<App>,
    pub caller: Arc<RequestContext>,
}

impl Context {
    /// The context that [`RequestContextLayer`] gave the request.
    ///
    /// # Errors
    /// Where a route is outside the layer, which is a programming error.
    pub fn of(request: &Request) -> Result<&Self> {
        let context = request.extensions().get::<Self>();
        context.ok_or_else(|| {
            ApiError::new(ErrorCode::Internal, "a route outside the request-context layer").into()
        })
    }
}

impl<'a> FromRequest<'a> for Context {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Self::of(request).cloned()
    }
}

/// The outermost layer.
#[derive(Clone, Debug)]
pub struct RequestContextLayer {
    pub app: Arc<App>,
    /// The methods of each operation, for `Allow` (RFC 9110 §15.5.6).
    pub methods: Arc<HashMap<String, String>>,
    pub pages: Arc<Pages>,
}

impl<E: Endpoint> Middleware<E> for RequestContextLayer {
    type Output = RequestContextEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        RequestContextEndpoint { layer: self.clone(), inner }
    }
}

/// See [`RequestContextLayer`].
#[derive(Debug)]
pub struct RequestContextEndpoint<E> {
    layer: RequestContextLayer,
    inner: E,
}

impl<E: Endpoint> Endpoint for RequestContextEndpoint<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        // Durations are measured by the real clock, also in tests.
        #[allow(clippy::disallowed_methods)]
        let began = std::time::Instant::now();
        let app = &self.layer.app;
        let caller = Arc::new(request_context::of(app, &request));
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let path = uri.path();
        let is_http1 = request.version() < Version::HTTP_2;
        request
            .extensions_mut()
            .insert(Context { app: Arc::clone(app), caller: Arc::clone(&caller) });
        let reader = reader(&self.layer.pages, &request, path);

        let (answer, diagnostics) = diagnostics::collect(self.inner.call(request)).await;
        let (mut response, error, route) = match answer {
            Ok(response) => {
                let mut response = response.into_response();
                let route = response.data::<PathPattern>().map(|pattern| Arc::clone(&pattern.0));
                let error = response.extensions_mut().remove::<Carried>().map(|carried| carried.0);
                (response, error, route)
            }
            // An extractor that redirects before the page runs.
            Err(error) if error.is_from_response() => {
                let route = error.data::<PathPattern>().map(|pattern| Arc::clone(&pattern.0));
                (error.into_response(), None, route)
            }
            Err(error) => {
                let route = error.data::<PathPattern>().map(|pattern| Arc::clone(&pattern.0));
                let error = Arc::new(from_poem(error));
                (Response::builder().status(error.code.status()).finish(), Some(error), route)
            }
        };
        if let Some(error) = &error {
            render(&mut response, error, &caller, (&method, &uri), reader);
            // The rest of the body is not read, so the connection cannot be reused.
            if is_http1 && matches!(error.code, ErrorCode::TooLarge | ErrorCode::RequestTimeout) {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            if error.code == ErrorCode::MethodNotAllowed {
                // Everything else is a page or a file.
                let known = &self.layer.methods;
                let methods = known.get(path).or_else(|| known.get(route.as_deref()?));
                let methods = methods.map_or("GET, HEAD", String::as_str);
                set(response.headers_mut(), header::ALLOW, methods);
            }
        }
        finish(response.headers_mut(), app, &caller);
        let took = began.elapsed();
        let status = response.status();
        app.metrics.http_request(route.as_deref().unwrap_or("unmatched"), &method, status, took);
        let summary = diagnostics::Response {
            call: format!("{method} {}", route.as_deref().unwrap_or("(no route)")),
            status: status.as_u16().to_string(),
            error: error.as_deref().filter(|error| !is_pending(error)).map(|error| {
                let code = error.oauth.unwrap_or(error.code.as_str());
                (code, error.message.as_str())
            }),
        };
        let principal = diagnostics.principal.clone();
        app.denied_requests.keep(diagnostics, summary, &caller);
        log(&caller, &principal, &method, path, status, took, error.as_deref());
        Ok(response)
    }
}

/// Whether a device is told to go on polling (RFC 8628 §3.5): nothing was denied.
fn is_pending(error: &ApiError) -> bool {
    error.oauth == Some("authorization_pending")
}

/// The framework's own rejections, as this server's errors.
pub(crate) fn from_poem(error: poem::Error) -> ApiError {
    if error.is::<ApiError>() {
        return match error.downcast::<ApiError>() {
            Ok(error) => error,
            Err(_) => ApiError::new(ErrorCode::Internal, "an error of an unexpected type"),
        };
    }
    let status = error.status();
    match status {
        StatusCode::NOT_FOUND => {
            ApiError::new(ErrorCode::NotFound, "no resource at this URL: see /docs")
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            ApiError::new(ErrorCode::MethodNotAllowed, "method not allowed at this URL: see Allow")
        }
        StatusCode::REQUEST_TIMEOUT => {
            ApiError::new(ErrorCode::RequestTimeout, "the request timed out: send it again")
        }
        StatusCode::SERVICE_UNAVAILABLE => ApiError {
            cause: Some("server.request_timeout passed".into()),
            retry_after: Some(Duration::from_secs(2)),
            ..ApiError::new(
                ErrorCode::Unavailable,
                "the service did not answer in time: try again in a moment",
            )
        },
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(ErrorCode::TooLarge, "the body is too large")
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ApiError::new(ErrorCode::UnsupportedMediaType, "unsupported media type of the body")
        }
        _ if status.is_client_error() => ApiError::new(ErrorCode::BadRequest, "malformed request"),
        _ => ApiError {
            cause: Some(error.to_string().into()),
            ..ApiError::new(
                ErrorCode::Internal,
                "internal server error; quote the requestId when reporting it",
            )
        },
    }
}

/// Operations of the protocol that users see in their browser.
const PAGES_OF_OPERATIONS: [&str; 3] = ["/oauth2/authorize", "/oauth2/logout", "/session/start"];

/// Where the pages are: an error there is rendered as a page.
#[derive(Debug, Default)]
pub struct Pages {
    paths: HashSet<String>,
    /// Of routes with parameters, the part before the first of them.
    prefixes: Vec<String>,
}

impl Pages {
    pub fn insert(&mut self, route: &str) {
        match route.split_once(':') {
            Some((prefix, _)) => self.prefixes.push(prefix.to_owned()),
            None => _ = self.paths.insert(route.to_owned()),
        }
    }

    fn contain(&self, path: &str) -> bool {
        self.paths.contains(path)
            || PAGES_OF_OPERATIONS.contains(&path)
            || self.prefixes.iter().any(|prefix| path.starts_with(prefix))
    }
}

/// The locale of the error page, where a browser asks and not a program.
fn reader(pages: &Pages, request: &Request, path: &str) -> Option<&'static Locale> {
    let asks_for_html = || {
        let accept = request.headers().get(header::ACCEPT)?;
        Some(accept.to_str().ok()?.contains("text/html"))
    };
    let for_programs = path.starts_with("/oauth2/") || path.starts_with("/api/");
    let is_user = pages.contain(path) || (!for_programs && asks_for_html().unwrap_or(false));
    is_user.then(|| Locale::of_request(request, None))
}

fn error_page(
    error: &ApiError,
    caller: &RequestContext,
    (method, uri): (&Method, &Uri),
    locale: &'static Locale,
) -> Option<Response> {
    let title_key = match (error.code, error.code.status()) {
        (ErrorCode::CrossSite, _) => ErrorTitle::StaleForm,
        (ErrorCode::RegistrationDisabled, _) => ErrorTitle::RegistrationClosed,
        (ErrorCode::InvitationRequired, _) => ErrorTitle::InvitationRequired,
        (ErrorCode::InvalidInvitation, _) => ErrorTitle::InvalidInvitation,
        // A path that only accepts POST is no page for a user.
        (_, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => ErrorTitle::NotFound,
        (_, StatusCode::FORBIDDEN) => ErrorTitle::Forbidden,
        (_, StatusCode::TOO_MANY_REQUESTS) => ErrorTitle::TooMany,
        (_, StatusCode::SERVICE_UNAVAILABLE) => ErrorTitle::Unavailable,
        (_, status) if status.is_server_error() => ErrorTitle::Internal,
        _ => ErrorTitle::BadRequest,
    };
    // A form that was sent cannot be requested again; the page it came from can.
    let again = || page_url(&Method::GET, &error.again.as_ref()?.parse().ok()?);
    let page = ErrorPage {
        title_key,
        message: &error.message,
        code: Some(error.oauth.unwrap_or(error.code.as_str())),
        request_id: &caller.request_id,
        retry_url: error.again.as_deref(),
        application: error.application.as_ref().map(|one| (one.name.as_str(), one.uri.as_deref())),
        page: page_url(method, uri).or_else(again),
    };
    page.render(locale, error.code.status(), FormAction::ThisServer).ok()
}

fn render(
    response: &mut Response,
    error: &ApiError,
    caller: &RequestContext,
    (method, uri): (&Method, &Uri),
    reader: Option<&'static Locale>,
) {
    let page = reader.and_then(|locale| error_page(error, caller, (method, uri), locale));
    if let Some(page) = page {
        let given = std::mem::take(response.headers_mut());
        *response = page;
        response.headers_mut().extend(given);
        error.set_headers(response.headers_mut());
        return;
    }
    let body = if uri.path().starts_with("/oauth2/") {
        // RFC 6749 §5.2
        let name = error.oauth.unwrap_or(match error.code {
            ErrorCode::Internal => "server_error",
            // RFC 6750 §3.1
            ErrorCode::InvalidToken => "invalid_token",
            code if code.status().is_server_error() => "temporarily_unavailable",
            _ => "invalid_request",
        });
        let body = json!({ "error": name, "error_description": error.message, "request_id": caller.request_id });
        serde_json::to_vec(&body)
    } else {
        error.envelope(&caller.request_id)
    };
    response.set_body(body.unwrap_or_default());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    error.set_headers(headers);
}

fn finish(headers: &mut HeaderMap, app: &App, caller: &RequestContext) {
    headers.reserve(4);
    request_context::echo_ids(headers, caller);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if app.config.issuer_is_https() {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// One line a request: server errors at error level, denied requests at info, successful reads at
/// debug. Without query, body and header values.
fn log(
    caller: &RequestContext,
    principal: &Principal,
    method: &Method,
    path: &str,
    status: StatusCode,
    took: Duration,
    error: Option<&ApiError>,
) {
    let RequestContext { request_id, correlation_id, address, .. } = caller;
    let Principal { client_id, subject } = principal;
    let ms = took.as_secs_f64() * 1_000.0;
    let status = status.as_u16();
    let cause = error.and_then(|error| error.cause.as_ref()).map(ToString::to_string);
    match error {
        Some(error) if status >= 500 => {
            let code = error.code.as_str();
            tracing::error!(request_id, correlation_id, %method, path, status, ms, %address, client_id, subject, code, cause, "failed");
        }
        Some(error) if is_pending(error) => {
            let code = error.oauth;
            tracing::debug!(request_id, correlation_id, %method, path, status, ms, %address, client_id, subject, code, "answered");
        }
        Some(error) => {
            let (code, reason) = (error.oauth.unwrap_or(error.code.as_str()), &error.message);
            tracing::info!(request_id, correlation_id, %method, path, status, ms, %address, client_id, subject, code, reason, cause, "refused");
        }
        None if method == Method::GET || method == Method::HEAD => {
            tracing::debug!(request_id, correlation_id, %method, path, status, ms, %address, client_id, subject, "answered");
        }
        None => {
            tracing::info!(request_id, correlation_id, %method, path, status, ms, %address, client_id, subject, "answered");
        }
    }
}

//! `envoy.service.auth.v3.Authorization`: `/forward-auth` for Envoy's ext_authz filter.

use std::{net::IpAddr, sync::Arc};

use poem::{
    IntoResponse, Response,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
};
use tonic::{Code, Request, Status};
use tonic_types::Status as RpcStatus;
use url::form_urlencoded;

use super::{
    edge::Call,
    proto::envoy::{
        config::core::v3::{
            HeaderValue as Pair, HeaderValueOption, address::Address,
            header_value_option::HeaderAppendAction,
        },
        service::auth::v3::{
            AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
            attribute_context::HttpRequest, authorization_server::Authorization,
            check_response::HttpResponse,
        },
        r#type::v3::HttpStatus,
    },
};
use crate::{
    api_error::{ApiError, Carried},
    app::App,
    forward_auth::{self, OriginalRequest},
    limits,
    model::actor::RequestContext,
    request_context,
};

/// The prefix of the identity headers.
const HEADER_PREFIX: &str = "x-propusk-";

pub(super) struct Gateway;

#[tonic::async_trait]
impl Authorization for Gateway {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, Status> {
        let call = Call::of(&request)?;
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let http_request = attributes.request.as_ref();
        let Some(http_request) = http_request.and_then(|request| request.http.as_ref()) else {
            return Err(call.refuse(ApiError::field("attributes.request.http", "is required")));
        };
        let headers = headers(http_request);
        let requirements = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&attributes.context_extensions)
            .finish();
        let url = || {
            Some(format!("{}://{}{}", http_request.scheme, http_request.host, http_request.path))
        };
        let original = OriginalRequest {
            requirements: &requirements,
            method: &http_request.method,
            headers: &headers,
            // Callers with the scope of this method are trusted gateways.
            url: &url,
        };
        let client = client(&call.app, &attributes, &headers, &call.caller);
        let result = forward_auth::answer(&call.app, &original, &client).await;
        let response = match result {
            Ok(response) if response.status() == StatusCode::OK => allowed(&response, http_request),
            Ok(response) => denied(&call, response),
            Err(error) => denied(&call, error.into_response()),
        };
        Ok(tonic::Response::new(response))
    }
}

/// The headers of the original request, without HTTP/2 pseudo-header fields such as `:path`.
fn headers(http_request: &HttpRequest) -> HeaderMap {
    let read = |(name, value): (&String, &String)| {
        let name = HeaderName::try_from(name.as_str()).ok()?;
        Some((name, HeaderValue::try_from(value.as_str()).ok()?))
    };
    http_request.headers.iter().filter_map(read).collect()
}

/// The request context of the gateway's client, for rate limits and the refreshed session.
fn client(
    app: &App,
    attributes: &AttributeContext,
    headers: &HeaderMap,
    gateway: &Arc<RequestContext>,
) -> RequestContext {
    let source = || {
        let address = attributes.source.as_ref()?.address.as_ref()?;
        let Address::SocketAddress(socket) = address.address.as_ref()?;
        socket.address.parse::<IpAddr>().ok()
    };
    let mut client = RequestContext::clone(gateway);
    if let Some(source) = source() {
        let hops = headers.get_all("x-forwarded-for").iter();
        client.address = limits::client_address(source, hops, &app.config.server.trusted_proxies);
    }
    client
}

fn allowed(response: &Response, http_request: &HttpRequest) -> CheckResponse {
    let (mut set, mut remove) = (vec![], vec![]);
    for (name, value) in response.headers() {
        if !name.as_str().starts_with(HEADER_PREFIX) {
            continue;
        }
        // Envoy ignores a header without a value instead of overwriting the client's.
        if value.is_empty() {
            remove.push(name.to_string());
        } else {
            set.push(option(name, value, HeaderAppendAction::OverwriteIfExistsOrAdd));
        }
    }
    // Other headers of the client that a service could take for identity headers (threat T89).
    let spoofed = http_request.headers.keys().filter(|name| {
        let plain = name.to_ascii_lowercase().replace('_', "-");
        plain.starts_with(HEADER_PREFIX) && !response.headers().contains_key(name.as_str())
    });
    remove.extend(spoofed.cloned());
    let ok = OkHttpResponse {
        headers: set,
        headers_to_remove: remove,
        response_headers_to_add: cookies(response),
    };
    CheckResponse {
        status: Some(rpc_status(Code::Ok)),
        http_response: Some(HttpResponse::OkResponse(ok)),
    }
}

fn denied(call: &Call, mut response: Response) -> CheckResponse {
    let mut body = String::new();
    if let Some(Carried(error)) = response.extensions_mut().remove::<Carried>() {
        let json = error.envelope(&call.caller.request_id).unwrap_or_default();
        body = String::from_utf8(json).unwrap_or_default();
        let json_type = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json_type);
        error.set_headers(response.headers_mut());
    }
    request_context::echo_ids(response.headers_mut(), &call.caller);
    let forwarded = [
        header::CONTENT_TYPE,
        header::LOCATION,
        header::RETRY_AFTER,
        header::WWW_AUTHENTICATE,
        HeaderName::from_static("x-request-id"),
    ];
    let forwarded = forwarded.iter().filter_map(|name| {
        let value = response.headers().get(name)?;
        Some(option(name, value, HeaderAppendAction::OverwriteIfExistsOrAdd))
    });
    let no_store = HeaderValue::from_static("no-store");
    let no_store =
        option(&header::CACHE_CONTROL, &no_store, HeaderAppendAction::OverwriteIfExistsOrAdd);
    let headers = forwarded.chain([no_store]).chain(cookies(&response)).collect();
    let status = response.status();
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: i32::from(status.as_u16()) }),
        headers,
        body,
    };
    CheckResponse {
        status: Some(rpc_status(match status {
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            _ if status.is_server_error() => Code::Unavailable,
            _ => Code::PermissionDenied,
        })),
        http_response: Some(HttpResponse::DeniedResponse(denied)),
    }
}

fn rpc_status(code: Code) -> RpcStatus {
    RpcStatus { code: code.into(), ..RpcStatus::default() }
}

fn cookies(response: &Response) -> Vec<HeaderValueOption> {
    let lines = response.headers().get_all(header::SET_COOKIE).iter();
    lines
        .map(|line| option(&header::SET_COOKIE, line, HeaderAppendAction::AppendIfExistsOrAdd))
        .collect()
}

fn option(name: &HeaderName, value: &HeaderValue, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(Pair {
            key: name.to_string(),
            value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
        }),
        append_action: action.into(),
    }
}

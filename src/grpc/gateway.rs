//! `envoy.service.auth.v3.Authorization`: the decision of `/forward-auth`, for Envoy.

use std::{net::IpAddr, sync::Arc};

use poem::{
    IntoResponse, Response,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
};
use tonic::{Code, Request, Status};
use tonic_types::Status as Verdict;
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

/// What the headers begin with that say who somebody is.
const OURS: &str = "x-propusk-";

pub(super) struct Gateway;

#[tonic::async_trait]
impl Authorization for Gateway {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, Status> {
        let call = Call::of(&request)?;
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let asked = attributes.request.as_ref();
        let Some(asked) = asked.and_then(|request| request.http.as_ref()) else {
            return Err(call.refuse(ApiError::field("attributes.request.http", "is missing")));
        };
        let headers = headers(asked);
        let demands = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&attributes.context_extensions)
            .finish();
        let url = || Some(format!("{}://{}{}", asked.scheme, asked.host, asked.path));
        let original = OriginalRequest {
            requirements: &demands,
            method: &asked.method,
            headers: &headers,
            // Whoever may call this is a gateway of ours.
            url: &url,
        };
        let client = client(&call.app, &attributes, &headers, &call.caller);
        let answered = forward_auth::answer(&call.app, &original, &client).await;
        let answer = match answered {
            Ok(response) if response.status() == StatusCode::OK => allowed(&response, asked),
            Ok(response) => denied(&call, response),
            Err(error) => denied(&call, error.into_response()),
        };
        Ok(tonic::Response::new(answer))
    }
}

/// Those of HTTP/2's own, like `:path`, are none.
fn headers(asked: &HttpRequest) -> HeaderMap {
    let read = |(name, value): (&String, &String)| {
        let name = HeaderName::try_from(name.as_str()).ok()?;
        Some((name, HeaderValue::try_from(value.as_str()).ok()?))
    };
    asked.headers.iter().filter_map(read).collect()
}

/// The gateway's client: for limits, and for the session that is refreshed.
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

fn allowed(response: &Response, asked: &HttpRequest) -> CheckResponse {
    let (mut set, mut remove) = (vec![], vec![]);
    for (name, value) in response.headers() {
        if !name.as_str().starts_with(OURS) {
            continue;
        }
        // Envoy drops a header without a value where it should put it in place of the client's.
        if value.is_empty() {
            remove.push(name.to_string());
        } else {
            set.push(option(name, value, HeaderAppendAction::OverwriteIfExistsOrAdd));
        }
    }
    // Whatever else a client has sent that a service could take for ours (threat T89).
    let spoofed = asked.headers.keys().filter(|name| {
        let plain = name.to_ascii_lowercase().replace('_', "-");
        plain.starts_with(OURS) && !response.headers().contains_key(name.as_str())
    });
    remove.extend(spoofed.cloned());
    let ok = OkHttpResponse {
        headers: set,
        headers_to_remove: remove,
        response_headers_to_add: cookies(response),
    };
    CheckResponse {
        status: Some(verdict(Code::Ok)),
        http_response: Some(HttpResponse::OkResponse(ok)),
    }
}

fn denied(call: &Call, mut response: Response) -> CheckResponse {
    let mut body = String::new();
    if let Some(Carried(error)) = response.extensions_mut().remove::<Carried>() {
        let json = error.envelope(&call.caller.request_id).unwrap_or_default();
        body = String::from_utf8(json).unwrap_or_default();
        let kind = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        error.set_headers(response.headers_mut());
    }
    request_context::echo_ids(response.headers_mut(), &call.caller);
    let told = [
        header::CONTENT_TYPE,
        header::LOCATION,
        header::RETRY_AFTER,
        header::WWW_AUTHENTICATE,
        HeaderName::from_static("x-request-id"),
    ];
    let told = told.iter().filter_map(|name| {
        let value = response.headers().get(name)?;
        Some(option(name, value, HeaderAppendAction::OverwriteIfExistsOrAdd))
    });
    let no_store = HeaderValue::from_static("no-store");
    let no_store =
        option(&header::CACHE_CONTROL, &no_store, HeaderAppendAction::OverwriteIfExistsOrAdd);
    let headers = told.chain([no_store]).chain(cookies(&response)).collect();
    let status = response.status();
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: i32::from(status.as_u16()) }),
        headers,
        body,
    };
    CheckResponse {
        status: Some(verdict(match status {
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            _ if status.is_server_error() => Code::Unavailable,
            _ => Code::PermissionDenied,
        })),
        http_response: Some(HttpResponse::DeniedResponse(denied)),
    }
}

fn verdict(code: Code) -> Verdict {
    Verdict { code: code.into(), ..Verdict::default() }
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

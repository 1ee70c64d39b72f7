//! JSON request bodies and response envelopes.
//!
//! The `Json` of poem-openapi has no size limit, accepts duplicate keys and does not name the
//! invalid field. This one names the field, rejects duplicate keys and never repeats a value in an
//! error.

use std::{collections::BTreeMap, fmt, pin::pin};

use futures_util::StreamExt;
use poem::{IntoResponse, Request, RequestBody, Response, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, Object,
    registry::{MetaMediaType, MetaRequest, MetaResponse, MetaResponses, Registry},
    types::{ParseFromJSON, ToJSON, Type},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _, MapAccess, Visitor},
};
use serde_json::Value;

use crate::{
    api_error::{ApiError, ErrorCode},
    diagnostics,
    error::Error,
    http::context::Context,
    limits::bodies::{Full, Reservation},
};

/// A JSON request body. An empty body is read as `{}`, so that a body with only optional fields may
/// be omitted.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<'a, T: Type + DeserializeOwned + Send> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content =
            vec![MetaMediaType { content_type: "application/json", schema: T::schema_ref() }];
        let required = serde_json::from_str::<T>("{}").is_err();
        Some(MetaRequest { description: None, content, required })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let bytes = read(request, body).await?;
        if bytes.is_empty() {
            return Ok(Self(parse(b"{}")?));
        }
        if !is_json(request) {
            return Err(ApiError::new(
                ErrorCode::UnsupportedMediaType,
                "send the body as JSON with `Content-Type: application/json`",
            )
            .into());
        }
        Ok(Self(parse(&bytes)?))
    }
}

/// Where bodies may have `server.max_admin_body_bytes`: administrators are authenticated first.
const ADMIN: &str = "/api/v1/admin/";

/// A body with its share of the byte budget.
struct Held {
    bytes: Vec<u8>,
    reservation: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Held {
    /// Appends to the body, whose capacity is reserved first and never exceeds `limit`.
    fn append(&mut self, chunk: &[u8], limit: usize) -> Result<(), Full> {
        let needed = self.bytes.len() + chunk.len();
        let capacity = self.bytes.capacity();
        if needed > capacity {
            let wanted = (2 * capacity).clamp(needed, limit.max(needed));
            self.reservation.grow(wanted - capacity)?;
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }
}

/// Reads a body of at most `server.max_body_bytes` (administration:
/// `server.max_admin_body_bytes`), with or without Content-Length. It counts against
/// `server.max_body_bytes_in_flight` until the result is dropped.
///
/// # Errors
/// [`ErrorCode::TooLarge`] for a larger body, [`ErrorCode::BadRequest`] for a truncated one,
/// [`ErrorCode::Overloaded`] where the budget is used up.
pub async fn read(request: &Request, body: &mut RequestBody) -> poem::Result<bytes::Bytes> {
    let Context { app, caller } = Context::of(request)?;
    let config = &app.config.server;
    let is_admin = request.uri().path().starts_with(ADMIN);
    let limit = if is_admin { config.max_admin_body_bytes } else { config.max_body_bytes };
    let too_large = || {
        ApiError::new(
            ErrorCode::TooLarge,
            format!("the request body must not exceed {limit} bytes"),
        )
    };
    let content_length = request.headers().get(header::CONTENT_LENGTH);
    let content_length =
        content_length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if content_length.is_some_and(|length| length > limit) {
        return Err(too_large().into());
    }
    let reservation = app.bodies.reservation(caller.address);
    let mut held = Held { bytes: Vec::new(), reservation };
    let mut chunks = pin!(body.take()?.into_bytes_stream());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk
            .map_err(|_| ApiError::new(ErrorCode::BadRequest, "the request body is incomplete"))?;
        if held.bytes.len() + chunk.len() > limit {
            return Err(too_large().into());
        }
        held.append(&chunk, limit).map_err(|Full| {
            diagnostics::record("limit", "server.max_body_bytes_in_flight");
            ApiError::from(Error::Overloaded)
        })?;
    }
    Ok(bytes::Bytes::from_owner(held))
}

/// Whether Content-Type is `application/json` or `application/*+json`.
pub fn is_json(request: &Request) -> bool {
    let Some(content_type) = request.content_type() else {
        return false;
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let malformed = |why: String| ApiError::new(ErrorCode::MalformedJson, why);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        malformed(format!("the request body is not valid UTF-8 at byte {}", error.valid_up_to()))
    })?;
    // serde would accept an array for a struct, field by field.
    if !text.trim_start().starts_with('{')
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    {
        return Err(ApiError::new(ErrorCode::Validation, "the request body must be a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let at = (inner.line(), inner.column());
        if inner.is_data() {
            field_error(&path, &inner.to_string())
        } else if serde_json::from_str::<serde_json::Value>(text).is_ok() {
            // serde_json reports null or a number in place of an enum as a syntax error.
            field_error(&path, "")
        } else {
            malformed(position(at))
        }
    })?;
    reader.end().map_err(|error| malformed(position((error.line(), error.column()))))?;
    Ok(value)
}

fn position((line, column): (usize, usize)) -> String {
    format!("the request body is not valid JSON at line {line}, column {column}")
}

/// Names the field and the expected type, but not the value, which may be a password.
fn field_error(path: &str, reason: &str) -> ApiError {
    let quoted = |text: &str| text.split('`').nth(1).map(str::to_owned);
    if reason.starts_with("missing field") {
        return ApiError::field(quoted(reason).unwrap_or_default(), "is required");
    }
    if reason.starts_with("duplicate field") {
        return ApiError::field(quoted(reason).unwrap_or_default(), "must not be repeated");
    }
    if reason.starts_with("unknown field") {
        let name: String = quoted(reason).unwrap_or_default().chars().take(64).collect();
        return ApiError::field(name, "is not a known field");
    }
    let expected =
        reason.rsplit_once("expected ").map_or("of a different type", |(_, expected)| expected);
    let expected = expected.split(" at line ").next().unwrap_or(expected);
    match path {
        "." | "?" | "" => {
            ApiError::new(ErrorCode::Validation, format!("the request body must be {expected}"))
        }
        field => ApiError::field(field, format!("must be {expected}")),
    }
}

/// Reads an object and refuses a repeated member.
pub fn unique_members<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, Value>, D::Error> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = BTreeMap<String, Value>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, Value>()? {
                if members.contains_key(&name) {
                    let known: String = name.chars().take(64).collect();
                    return Err(A::Error::custom(format_args!("duplicate field `{known}`")));
                }
                members.insert(name, value);
            }
            Ok(members)
        }
    }

    from.deserialize_map(Members)
}

/// The envelope of every successful response.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct Envelope<T: Type + ParseFromJSON + ToJSON + Send + Sync> {
    /// The HTTP status code.
    pub status_code: u16,
    /// What happened, in English. Not meant for parsing.
    pub message: String,
    /// The result.
    pub data: T,
}

/// A successful response: its envelope and the cookies that it sets.
#[derive(Debug)]
pub struct Answer<T, const STATUS: u16 = 200> {
    message: &'static str,
    data: T,
    cookies: Vec<String>,
}

impl<T, const STATUS: u16> Answer<T, STATUS> {
    pub const fn new(message: &'static str, data: T) -> Self {
        Self { message, data, cookies: vec![] }
    }

    pub fn with_cookies(mut self, cookies: impl Into<Vec<String>>) -> Self {
        self.cookies = cookies.into();
        self
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnvelopeRef<'a, T> {
    status_code: u16,
    message: &'a str,
    data: &'a T,
}

impl<T: Serialize + Send, const STATUS: u16> IntoResponse for Answer<T, STATUS> {
    fn into_response(self) -> Response {
        let envelope = EnvelopeRef { status_code: STATUS, message: self.message, data: &self.data };
        let Ok(body) = serde_json::to_vec(&envelope) else {
            return ApiError::new(
                ErrorCode::Internal,
                "internal server error: the response could not be serialized",
            )
            .into_response();
        };
        let mut response = Response::builder()
            .status(poem::http::StatusCode::from_u16(STATUS).unwrap_or_default())
            .header(header::CONTENT_TYPE, "application/json");
        for cookie in self.cookies {
            response = response.header(header::SET_COOKIE, cookie);
        }
        response.body(body)
    }
}

impl<T, const STATUS: u16> ApiResponse for Answer<T, STATUS>
where
    T: Type + ParseFromJSON + ToJSON + Serialize + Send + Sync,
{
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: match STATUS {
                    201 => "Created.",
                    202 => "Accepted: a mail is on its way.",
                    _ => "Success.",
                },
                status: Some(STATUS),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: "application/json",
                    schema: <Envelope<T> as Type>::schema_ref(),
                }],
                headers: vec![],
            }],
        }
    }

    fn register(registry: &mut Registry) {
        <Envelope<T> as Type>::register(registry);
    }
}

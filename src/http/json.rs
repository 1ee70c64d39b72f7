//! JSON bodies in, envelopes out.
//!
//! poem-openapi's own `Json` reads without a limit, lets the last of two equal keys win and hides the
//! field's name in its message. This one names the field, refuses a key given twice and never repeats a value.

use poem::{IntoResponse, Request, RequestBody, Response, error::ReadBodyError, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, Object,
    registry::{MetaMediaType, MetaRequest, MetaResponse, MetaResponses, Registry},
    types::{ParseFromJSON, ToJSON, Type},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    api_error::{ApiError, ErrorCode},
    http::context::Context,
};

/// A JSON body of a request. An empty body counts as `{}`, so that a body whose fields are all optional
/// may be left out.
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
                "send the body as JSON, with Content-Type: application/json",
            )
            .into());
        }
        Ok(Self(parse(&bytes)?))
    }
}

/// Reads a body up to the configured size, whether its length was announced or not.
pub async fn read(request: &Request, body: &mut RequestBody) -> poem::Result<bytes::Bytes> {
    let most = Context::of(request)?.app.config.server.max_body_bytes;
    let too_large = || {
        ApiError::new(
            ErrorCode::TooLarge,
            format!("the body is larger than the {most} bytes allowed"),
        )
    };
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > most) {
        return Err(too_large().into());
    }
    body.take()?.into_bytes_limit(most).await.map_err(|error| match error {
        ReadBodyError::PayloadTooLarge => too_large().into(),
        _ => ApiError::new(ErrorCode::BadRequest, "the body ended early").into(),
    })
}

pub fn is_json(request: &Request) -> bool {
    let Some(given) = request.content_type() else {
        return false;
    };
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let malformed = |why: String| ApiError::new(ErrorCode::MalformedJson, why);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        malformed(format!("the body is not UTF-8 from byte {} on", error.valid_up_to()))
    })?;
    // serde would take an array for a struct, field by field.
    if !text.trim_start().starts_with('{')
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    {
        return Err(ApiError::new(ErrorCode::Validation, "the body must be a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let at = (inner.line(), inner.column());
        if inner.is_data() {
            field_error(&path, &inner.to_string())
        } else if serde_json::from_str::<serde_json::Value>(text).is_ok() {
            // To serde_json, null or a number in an enum's place is a mistake of syntax.
            field_error(&path, "")
        } else {
            malformed(position(at))
        }
    })?;
    reader.end().map_err(|error| malformed(position((error.line(), error.column()))))?;
    Ok(value)
}

fn position((line, column): (usize, usize)) -> String {
    format!("the body is not valid JSON: see line {line}, column {column}")
}

/// Names the field and what it should be, but not the value: it may be a password.
fn field_error(path: &str, reason: &str) -> ApiError {
    let quoted = |text: &str| text.split('`').nth(1).map(str::to_owned);
    if reason.starts_with("missing field") {
        return ApiError::field(quoted(reason).unwrap_or_default(), "is missing");
    }
    if reason.starts_with("duplicate field") {
        return ApiError::field(quoted(reason).unwrap_or_default(), "is given twice");
    }
    if reason.starts_with("unknown field") {
        let name: String = quoted(reason).unwrap_or_default().chars().take(64).collect();
        return ApiError::field(name, "is not known here");
    }
    let expected =
        reason.rsplit_once("expected ").map_or("of another type", |(_, expected)| expected);
    let expected = expected.split(" at line ").next().unwrap_or(expected);
    match path {
        "." | "?" | "" => {
            ApiError::new(ErrorCode::Validation, format!("the body must be {expected}"))
        }
        field => ApiError::field(field, format!("must be {expected}")),
    }
}

/// The envelope of every answer that is not an error.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct Envelope<T: Type + ParseFromJSON + ToJSON + Send + Sync> {
    /// The HTTP status again.
    pub status_code: u16,
    /// What happened, for a person.
    pub message: String,
    /// The answer itself.
    pub data: T,
}

/// An answer: its envelope, and the cookies it sets.
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
struct Rendered<'a, T> {
    status_code: u16,
    message: &'a str,
    data: &'a T,
}

impl<T: Serialize + Send, const STATUS: u16> IntoResponse for Answer<T, STATUS> {
    fn into_response(self) -> Response {
        let envelope = Rendered { status_code: STATUS, message: self.message, data: &self.data };
        let Ok(body) = serde_json::to_vec(&envelope) else {
            return ApiError::new(ErrorCode::Internal, "the answer could not be written")
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
                description: if STATUS == 201 { "Made." } else { "Done." },
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

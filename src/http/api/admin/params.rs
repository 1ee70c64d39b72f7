//! What stands beside a body: the query, the path, and the headers that make a change safe.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use poem::{
    Request, RequestBody, Result,
    http::{HeaderName, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions, Object,
    registry::{MetaParamIn, MetaSchema, MetaSchemaRef},
    types::{ParseFromJSON, ToJSON, Type},
};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    clock::Timestamp,
    error::Error,
    flows::admin::{access::Expected, idempotency::Once},
    http::context::Context,
    keys,
    model::actor::Actor,
};

/// The query as pairs.
///
/// # Errors
/// Where it cannot be read as UTF-8.
pub fn query(request: &Request) -> Result<Vec<(String, String)>, ApiError> {
    let query = request.uri().query().unwrap_or_default();
    let pairs: Vec<(String, String)> =
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let is_bad = |text: &str| text.contains(['\0', '\u{fffd}']);
    if pairs.iter().any(|(name, value)| is_bad(name) || is_bad(value)) {
        return Err(ApiError::new(ErrorCode::Validation, "the query is not UTF-8 text"));
    }
    Ok(pairs)
}

/// A type that a parameter may have.
pub trait Given: Sized + Send {
    fn schema() -> MetaSchema;

    /// # Errors
    /// Says what it must be.
    fn read(text: &str) -> Result<Self, &'static str>;
}

/// The longest text that is looked for.
const LONGEST: usize = 512;

impl Given for String {
    fn schema() -> MetaSchema {
        MetaSchema { min_length: Some(1), max_length: Some(LONGEST), ..MetaSchema::new("string") }
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        if (1..=LONGEST).contains(&text.len()) {
            Ok(text.to_owned())
        } else {
            Err("must be a text of 1 to 512 bytes")
        }
    }
}

impl Given for bool {
    fn schema() -> MetaSchema {
        MetaSchema::new("boolean")
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false"),
        }
    }
}

impl Given for Timestamp {
    fn schema() -> MetaSchema {
        MetaSchema { format: Some("date-time"), ..MetaSchema::new("string") }
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        Self::parse(text).ok_or("must be a moment as RFC 3339 writes it: 2026-11-21T04:22:00Z")
    }
}

/// How many things a page of a list shall have.
#[derive(Clone, Copy, Debug)]
pub struct Limit(u8);

impl Given for Limit {
    fn schema() -> MetaSchema {
        MetaSchema {
            minimum: Some(1.0),
            maximum: Some(200.0),
            default: Some(50.into()),
            ..MetaSchema::new("integer")
        }
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        // `parse` would take a sign.
        let number =
            if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None };
        match number {
            Some(number @ 1..=200) => Ok(Self(number)),
            _ => Err("must be a number from 1 to 200"),
        }
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

/// A parameter of the query, which may be left out.
#[derive(Debug)]
pub struct Query<T>(pub Option<T>);

impl<'a, T: Given> ApiExtractor<'a> for Query<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    type ParamType = T;
    type ParamRawType = T;

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Query)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(T::schema())))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        options: ExtractParamOptions<T>,
    ) -> Result<Self> {
        let given = query(request)?;
        let value = given.iter().find(|(name, _)| name == options.name);
        let read = value
            .map(|(name, value)| T::read(value).map_err(|why| ApiError::field(name.as_str(), why)));
        Ok(Self(read.transpose()?))
    }
}

/// A part of the path. What no id can be finds nothing.
///
/// By this very name poem-openapi knows that the routes count such parts.
#[derive(Debug)]
pub struct Path(pub String);

impl<'a> ApiExtractor<'a> for Path {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    const PARAM_IS_REQUIRED: bool = true;
    type ParamType = String;
    type ParamRawType = String;

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Path)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        options: ExtractParamOptions<String>,
    ) -> Result<Self> {
        let id = request.raw_path_param(options.name).unwrap_or_default();
        // PostgreSQL's text holds no NUL and refuses the statement.
        if id.is_empty() || id.len() > 2048 || id.contains('\0') {
            return Err(ApiError::from(Error::NotFound("thing")).into());
        }
        Ok(Self(id.to_owned()))
    }
}

/// Where the last page ended. A list's own text, under a MAC: nobody asks for a place that no page has named, and a
/// cursor of one list, or of other filters, is none for another.
pub struct Cursor {
    app: Arc<App>,
    /// The list and its filters.
    list: String,
    after: Option<String>,
}

const MAC: usize = 16;

impl Cursor {
    /// The key of the last thing on the page before.
    pub fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// As [`Cursor::after`], where the key is a number.
    pub fn after_number(&self) -> Option<i64> {
        self.after()?.parse().ok()
    }

    /// One more than a page has, to see whether another follows.
    pub fn most(limit: &Query<Limit>) -> i64 {
        i64::from(limit.0.unwrap_or_default().0) + 1
    }

    /// The page of what was found with [`Cursor::most`].
    ///
    /// # Errors
    /// Where the keys cannot be used.
    pub fn page<T, R>(
        &self,
        limit: &Query<Limit>,
        mut found: Vec<T>,
        key: impl Fn(&T) -> String,
        show: impl Fn(T) -> R,
    ) -> Result<Page<R>, Error>
    where
        R: Type + ParseFromJSON + ToJSON + Send + Sync,
    {
        let most = usize::from(limit.0.unwrap_or_default().0);
        let next_cursor = if found.len() > most {
            found.truncate(most);
            let last = found.last().map(key).unwrap_or_default();
            let mut sealed = mac(&self.app, &self.list, last.as_bytes())?.to_vec();
            sealed.extend_from_slice(last.as_bytes());
            Some(URL_SAFE_NO_PAD.encode(sealed))
        } else {
            None
        };
        Ok(Page { items: found.into_iter().map(show).collect(), next_cursor })
    }

    fn open(app: &Arc<App>, list: String, sealed: Option<&str>) -> Result<Self, ApiError> {
        let forged = || {
            ApiError::field(
                "cursor",
                "must be the nextCursor of this very list with these very filters",
            )
        };
        let after = match sealed {
            None => None,
            Some(sealed) => {
                let sealed = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| forged())?;
                let (given, last) = sealed.split_at_checked(MAC).ok_or_else(forged)?;
                let right = mac(app, &list, last)?;
                if !bool::from(right.ct_eq(given)) {
                    return Err(forged());
                }
                Some(String::from_utf8(last.to_vec()).map_err(|_| forged())?)
            }
        };
        Ok(Self { app: Arc::clone(app), list, after })
    }
}

fn mac(app: &App, list: &str, last: &[u8]) -> Result<[u8; MAC], Error> {
    let key = app.keys.derive("cursor of the admin API")?;
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&key).map_err(|_| keys::Error::Missing("derivation"))?;
    mac.update(&(list.len() as u64).to_be_bytes());
    mac.update(list.as_bytes());
    mac.update(last);
    let whole: [u8; 32] = mac.finalize().into_bytes().into();
    let mut cut = [0; MAC];
    cut.copy_from_slice(&whole[..MAC]);
    Ok(cut)
}

impl<'a> ApiExtractor<'a> for Cursor {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    type ParamType = String;
    type ParamRawType = String;

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Query)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<String>,
    ) -> Result<Self> {
        let app = &Context::of(request)?.app;
        let mut given: BTreeMap<String, String> = query(request)?.into_iter().collect();
        let sealed = given.remove("cursor");
        given.remove("limit");
        let filters =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&given).finish();
        let list = format!("{}?{filters}", request.uri().path());
        Ok(Self::open(app, list, sealed.as_deref())?)
    }
}

/// A page of a list.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct Page<T: Type + ParseFromJSON + ToJSON + Send + Sync> {
    /// As many as were asked for; fewer on the last page.
    pub items: Vec<T>,
    /// Give it as `cursor`, with the same filters, for what follows; null on the last page.
    pub next_cursor: Option<String>,
}

/// `If-Match` (RFC 9110 §13.1.1): which state of the thing a change is meant for.
#[derive(Debug)]
pub struct IfMatch(pub Expected);

impl<'a> ApiExtractor<'a> for IfMatch {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    const PARAM_IS_REQUIRED: bool = true;
    type ParamType = String;
    type ParamRawType = String;

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<String>,
    ) -> Result<Self> {
        let Some(given) = header_text(request, &header::IF_MATCH)? else {
            let message = "send If-Match with the ETag of the state that you have read, or with *";
            return Err(ApiError::new(ErrorCode::PreconditionRequired, message).into());
        };
        if given == "*" {
            return Ok(Self(Expected::Any));
        }
        let mut versions = vec![];
        for tag in given.split(',').map(str::trim) {
            let strong = tag.strip_prefix("W/").unwrap_or(tag);
            let Some(text) = strong.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))
            else {
                return Err(ApiError::field(
                    "If-Match",
                    "must be an ETag in its quotation marks, or *",
                )
                .into());
            };
            // A weak one never matches (§13.1.1), nor does one that was never ours.
            if strong == tag
                && let Some(version) = version_of(text)
            {
                versions.push(version);
            }
        }
        Ok(Self(Expected::OneOf(versions)))
    }
}

/// The `ETag` of a state.
pub fn etag(updated_at: Timestamp) -> String {
    format!("\"{:x}\"", updated_at.micros())
}

fn version_of(text: &str) -> Option<Timestamp> {
    let version = Timestamp(i64::from_str_radix(text, 16).ok()?);
    // One state has one spelling.
    (etag(version).trim_matches('"') == text).then_some(version)
}

/// `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a call that makes something, sent again under the same
/// key within a day, finds what it has made.
#[derive(Debug)]
pub struct IdempotencyKey(Option<String>);

impl IdempotencyKey {
    /// The call under this key, if there is one. `call` names the operation, `request` is all that it was given.
    ///
    /// # Errors
    /// Where the keys cannot be used.
    pub fn once(
        &self,
        app: &App,
        by: &Actor,
        call: &str,
        request: &impl Serialize,
    ) -> Result<Option<Once>, Error> {
        let key = self.0.as_deref();
        key.map(|key| Once::new(app, by, key, call, request)).transpose()
    }
}

impl<'a> ApiExtractor<'a> for IdempotencyKey {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    type ParamType = String;
    type ParamRawType = String;

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(MetaSchema {
            min_length: Some(1),
            max_length: Some(128),
            ..MetaSchema::new("string")
        })))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<String>,
    ) -> Result<Self> {
        const NAME: HeaderName = HeaderName::from_static("idempotency-key");
        let given = header_text(request, &NAME)?;
        let fits = |key: &&str| {
            (1..=128).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
        };
        match given {
            Some(key) if !fits(&key) => {
                Err(ApiError::field("Idempotency-Key", "must be 1 to 128 visible ASCII characters")
                    .into())
            }
            key => Ok(Self(key.map(str::to_owned))),
        }
    }
}

/// The value of a header that may come once.
fn header_text<'a>(request: &'a Request, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = request.headers().get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    match text {
        Some(text) => Ok(Some(text)),
        None => Err(ApiError::field(name.as_str(), "must be sent once, as ASCII text")),
    }
}

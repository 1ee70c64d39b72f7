//! What accompanies a body: the query, the path, and the headers that make a change safe.

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

use super::guard::Admin;
use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    clock::Timestamp,
    error::Error,
    flows::admin::{access::Precondition, idempotency::IdempotentRequest},
    http::{context::Context, json::Answer},
    keys, storage,
};

/// The query as pairs.
///
/// # Errors
/// A query that is not UTF-8.
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

/// The type of a query parameter.
pub trait QueryValue: Sized + Send {
    fn schema() -> MetaSchema;

    /// # Errors
    /// What the value must be.
    fn read(text: &str) -> Result<Self, &'static str>;
}

/// The maximum length of a filter, in bytes.
const LONGEST: usize = 512;

impl QueryValue for String {
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

impl QueryValue for bool {
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

impl QueryValue for Timestamp {
    fn schema() -> MetaSchema {
        MetaSchema { format: Some("date-time"), ..MetaSchema::new("string") }
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        Self::parse(text).ok_or("must be an RFC 3339 timestamp, like 2026-11-21T04:22:00Z")
    }
}

/// The maximum number of items in a page.
#[derive(Clone, Copy, Debug)]
pub struct Limit(u8);

impl QueryValue for Limit {
    fn schema() -> MetaSchema {
        MetaSchema {
            minimum: Some(1.0),
            maximum: Some(200.0),
            default: Some(50.into()),
            ..MetaSchema::new("integer")
        }
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        // `parse` would accept a sign.
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

/// An optional query parameter.
#[derive(Debug)]
pub struct Query<T>(pub Option<T>);

impl<'a, T: QueryValue> ApiExtractor<'a> for Query<T> {
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

/// A path parameter: an id. A text that cannot be one is answered as an unknown id is.
///
/// poem-openapi recognizes path parameters by the name of this type.
#[derive(Debug)]
pub struct Path<T = String>(pub T);

impl<'a, T: From<String>> ApiExtractor<'a> for Path<T> {
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
        // PostgreSQL refuses a statement with NUL in a text.
        if id.is_empty() || id.len() > 2048 || id.contains('\0') {
            return Err(ApiError::from(Error::NotFound("resource")).into());
        }
        Ok(Self(id.to_owned().into()))
    }
}

/// The parameters `limit` and `cursor` of every list.
///
/// A cursor is the key of the last item of a page under a MAC over the list and its filters: a
/// cursor that no page has named, or that belongs to another list or to other filters, is refused.
pub struct Paging {
    app: Arc<App>,
    /// The list and its filters.
    list: String,
    after: Option<String>,
    limit: Limit,
}

/// Bytes of a cursor's MAC.
const MAC: usize = 16;

impl Paging {
    /// The key of the last item of the previous page.
    pub fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// As [`Paging::after`], for lists in the order of a number.
    pub fn after_number(&self) -> Option<i64> {
        self.after()?.parse().ok()
    }

    /// The number of rows to read: one more than a page has shows whether another page follows.
    pub fn rows(&self) -> i64 {
        i64::from(self.limit.0) + 1
    }

    /// The page of the [`Paging::rows`] that were read; `key` is what the list is ordered by.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub fn answer<T, V>(
        &self,
        message: &'static str,
        rows: storage::Result<Vec<T>>,
        key: impl Fn(&T) -> String,
    ) -> Result<Answer<Page<V>>, Error>
    where
        V: From<T> + Type + ParseFromJSON + ToJSON + Send + Sync,
    {
        let (mut rows, most) = (rows?, usize::from(self.limit.0));
        let next_cursor = if rows.len() > most {
            rows.truncate(most);
            let last = rows.last().map(key).unwrap_or_default();
            let mut sealed = mac(&self.app, &self.list, last.as_bytes())?.to_vec();
            sealed.extend_from_slice(last.as_bytes());
            Some(URL_SAFE_NO_PAD.encode(sealed))
        } else {
            None
        };
        let items = rows.into_iter().map(V::from).collect();
        Ok(Answer::new(message, Page { items, next_cursor }))
    }
}

/// The key that a cursor of this list carries.
fn open_cursor(app: &App, list: &str, cursor: &str) -> Result<String, ApiError> {
    let forged =
        || ApiError::field("cursor", "must be the nextCursor of this list with the same filters");
    let sealed = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| forged())?;
    let (presented, last) = sealed.split_at_checked(MAC).ok_or_else(forged)?;
    if !bool::from(mac(app, list, last)?.ct_eq(presented)) {
        return Err(forged());
    }
    String::from_utf8(last.to_vec()).map_err(|_| forged())
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

impl<'a> ApiExtractor<'a> for Paging {
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
        let mut filters: BTreeMap<String, String> = query(request)?.into_iter().collect();
        let (limit, cursor) = (filters.remove("limit"), filters.remove("cursor"));
        let limit = limit.as_deref().map(Limit::read).transpose();
        let limit = limit.map_err(|why| ApiError::field("limit", why))?.unwrap_or_default();
        let filters =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&filters).finish();
        let list = format!("{}?{filters}", request.uri().path());
        let after = cursor.map(|cursor| open_cursor(app, &list, &cursor)).transpose()?;
        Ok(Self { app: Arc::clone(app), list, after, limit })
    }
}

/// A page of a list.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct Page<T: Type + ParseFromJSON + ToJSON + Send + Sync> {
    /// `limit` items; fewer on the last page.
    pub items: Vec<T>,
    /// The `cursor` of the next page, with the same filters; null on the last page.
    pub next_cursor: Option<String>,
}

/// `If-Match` (RFC 9110 §13.1.1): the states of the resource that a change applies to.
#[derive(Debug)]
pub struct IfMatch(pub Precondition);

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
            let message = "`If-Match` is required: send the ETag of the state that was read, or *";
            return Err(ApiError::new(ErrorCode::PreconditionRequired, message).into());
        };
        if given == "*" {
            return Ok(Self(Precondition::Any));
        }
        let mut versions = vec![];
        for tag in given.split(',').map(str::trim) {
            let strong = tag.strip_prefix("W/").unwrap_or(tag);
            let Some(text) = strong.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))
            else {
                return Err(ApiError::field(
                    "If-Match",
                    "must be an ETag in quotation marks, or *",
                )
                .into());
            };
            // A weak ETag never matches (§13.1.1), nor does one of another format.
            if strong == tag
                && let Some(version) = version_of(text)
            {
                versions.push(version);
            }
        }
        Ok(Self(Precondition::OneOf(versions)))
    }
}

/// The `ETag` of a state.
pub fn etag(updated_at: Timestamp) -> String {
    format!("\"{:x}\"", updated_at.micros())
}

fn version_of(text: &str) -> Option<Timestamp> {
    let version = Timestamp(i64::from_str_radix(text, 16).ok()?);
    // One state has one canonical encoding.
    (etag(version).trim_matches('"') == text).then_some(version)
}

/// `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header §2).
#[derive(Debug)]
pub struct IdempotencyKey(Option<String>);

impl IdempotencyKey {
    /// The request under this key, if it has one; `operation` and `body` are what a repetition must
    /// have in common with it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the keys cannot be used.
    pub fn request(
        &self,
        admin: &Admin,
        operation: &str,
        body: &impl Serialize,
    ) -> Result<Option<IdempotentRequest>, Error> {
        let key = self.0.as_deref();
        key.map(|key| IdempotentRequest::new(&admin.app, &admin.actor, key, operation, body))
            .transpose()
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

/// The value of a header that must not be repeated.
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

//! Answers that show one thing, with the `ETag` of the state they show.

use poem::{IntoResponse, Response, http::HeaderValue, http::header};
use poem_openapi::{
    ApiResponse,
    registry::{MetaHeader, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::{ParseFromJSON, ToJSON, Type},
};
use serde::Serialize;

use super::params::etag;
use crate::{clock::Timestamp, http::json::Answer};

/// See the module's text.
#[derive(Debug)]
pub struct Tagged<T, const STATUS: u16 = 200> {
    answer: Answer<T, STATUS>,
    updated_at: Timestamp,
    replayed: bool,
}

impl<T, const STATUS: u16> Tagged<T, STATUS> {
    pub const fn new(answer: Answer<T, STATUS>, updated_at: Timestamp) -> Self {
        Self { answer, updated_at, replayed: false }
    }

    /// What an earlier call under the same `Idempotency-Key` has made.
    pub const fn replayed(mut self) -> Self {
        self.replayed = true;
        self
    }
}

const REPLAYED: &str = "idempotency-replayed";

impl<T: Serialize + Send, const STATUS: u16> IntoResponse for Tagged<T, STATUS> {
    fn into_response(self) -> Response {
        let mut response = self.answer.into_response();
        let headers = response.headers_mut();
        if let Ok(etag) = HeaderValue::try_from(etag(self.updated_at)) {
            headers.insert(header::ETAG, etag);
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

fn described(name: &str, description: &str, required: bool) -> MetaHeader {
    MetaHeader {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        required,
        deprecated: false,
        schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))),
    }
}

fn described_replay() -> MetaHeader {
    let text = "`true` where an earlier call under the same `Idempotency-Key` has done it.";
    described("Idempotency-Replayed", text, false)
}

impl<T, const STATUS: u16> ApiResponse for Tagged<T, STATUS>
where
    T: Type + ParseFromJSON + ToJSON + Serialize + Send + Sync,
{
    fn meta() -> MetaResponses {
        let mut meta = Answer::<T, STATUS>::meta();
        for response in &mut meta.responses {
            let text = "The state that is shown: send it as `If-Match` with a change.";
            response.headers.push(described("ETag", text, true));
            if STATUS == 201 {
                response.headers.push(described_replay());
            }
        }
        meta
    }

    fn register(registry: &mut Registry) {
        Answer::<T, STATUS>::register(registry);
    }
}

/// An answer that a call under an `Idempotency-Key` may get again.
#[derive(Debug)]
pub struct Replayable<T, const STATUS: u16 = 200> {
    answer: Answer<T, STATUS>,
    is_new: bool,
}

impl<T, const STATUS: u16> Replayable<T, STATUS> {
    pub const fn new(answer: Answer<T, STATUS>, is_new: bool) -> Self {
        Self { answer, is_new }
    }
}

impl<T: Serialize + Send, const STATUS: u16> IntoResponse for Replayable<T, STATUS> {
    fn into_response(self) -> Response {
        let mut response = self.answer.into_response();
        if !self.is_new {
            let headers = response.headers_mut();
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

impl<T, const STATUS: u16> ApiResponse for Replayable<T, STATUS>
where
    T: Type + ParseFromJSON + ToJSON + Serialize + Send + Sync,
{
    fn meta() -> MetaResponses {
        let mut meta = Answer::<T, STATUS>::meta();
        for response in &mut meta.responses {
            response.headers.push(described_replay());
        }
        meta
    }

    fn register(registry: &mut Registry) {
        Answer::<T, STATUS>::register(registry);
    }
}

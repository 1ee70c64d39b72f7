//! What operations answer: their envelopes and headers, and the error codes they are documented to
//! have.

use std::marker::PhantomData;

use poem::{IntoResponse, Response, http::HeaderValue, http::header};
use poem_openapi::{
    ApiResponse,
    registry::{MetaHeader, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::{ParseFromJSON, ToJSON, Type},
};
use serde::Serialize;

use super::params::{Page, etag};
use crate::{
    api_error::ErrorCode,
    clock::Timestamp,
    flows::admin::idempotency,
    http::{
        api::data::Nothing,
        failure::{Codes, Failure},
        json::Answer,
    },
    model::{
        client::Client,
        invitation::Invitation,
        module::Module,
        trusted_issuer::TrustedIssuer,
        user::{RoleEntry, UserRecord},
        webhook::Webhook,
    },
};

/// What an operation returns: an answer, or one of the documented errors `E`.
pub type Reply<A, E> = Result<A, Failure<E>>;
pub type List<V, E = ()> = Reply<Answer<Page<V>>, (Read, E)>;
pub type Get<V, E = ()> = Reply<WithEtag<V>, (Read, NotFound, E)>;
pub type Create<V, E = ()> = Reply<Created<V>, (Write, JsonBody, Idempotent, NotFound, E)>;
pub type Update<V, E = ()> = Reply<WithEtag<V>, (Write, JsonBody, Conditional, NotFound, E)>;
pub type Delete<E = ()> = Reply<Answer<Nothing>, (Write, Conditional, NotFound, E)>;
/// An operation that is neither of these, without a body.
pub type Act<A, E = ()> = Reply<A, (Write, NotFound, E)>;

/// A resource with the `ETag` of its state.
pub type WithEtag<V> = ResourceReply<V, 200, true, false>;
/// As [`WithEtag`], created now or by an earlier request under the same `Idempotency-Key`.
pub type Created<V> = ResourceReply<V, 201, true, true>;
/// The outcome of a request that may be repeated under an `Idempotency-Key`.
pub type Replayable<V, const STATUS: u16> = ResourceReply<V, STATUS, false, true>;

/// An answer with an `ETag` and an `Idempotency-Replayed` header where it has them.
#[derive(Debug)]
pub struct ResourceReply<V, const STATUS: u16, const ETAG: bool, const REPLAY: bool> {
    answer: Answer<V, STATUS>,
    updated_at: Option<Timestamp>,
    is_replayed: bool,
}

impl<V, const STATUS: u16, const ETAG: bool, const REPLAY: bool>
    ResourceReply<V, STATUS, ETAG, REPLAY>
{
    fn of(message: &'static str, view: V, updated_at: Option<Timestamp>) -> Self {
        Self { answer: Answer::new(message, view), updated_at, is_replayed: false }
    }

    /// Marks the outcome of an earlier request.
    fn replayed(mut self, is_replayed: bool) -> Self {
        self.is_replayed = is_replayed;
        self
    }
}

impl<V> WithEtag<V> {
    pub fn new<T: Versioned + Into<V>>(message: &'static str, resource: T) -> Self {
        let updated_at = resource.updated_at();
        Self::of(message, resource.into(), Some(updated_at))
    }
}

impl<V, T: Versioned + Into<V>> From<idempotency::Created<T>> for Created<V> {
    fn from(created: idempotency::Created<T>) -> Self {
        let updated_at = created.resource.updated_at();
        Self::of("created", created.resource.into(), Some(updated_at)).replayed(created.is_replayed)
    }
}

impl<V, const STATUS: u16> Replayable<V, STATUS> {
    pub fn new<T: Into<V>>(message: &'static str, created: idempotency::Created<T>) -> Self {
        Self::of(message, created.resource.into(), None).replayed(created.is_replayed)
    }
}

/// The answer to a deletion.
pub fn deleted() -> Answer<Nothing> {
    Answer::new("deleted", Nothing {})
}

/// A resource whose states an `ETag` tells apart.
pub trait Versioned {
    fn updated_at(&self) -> Timestamp;
}

macro_rules! versioned {
    ($($resource:ty),+) => {
        $(impl Versioned for $resource {
            fn updated_at(&self) -> Timestamp {
                self.updated_at
            }
        })+
    };
}
versioned!(UserRecord, Client, Module, RoleEntry, TrustedIssuer, Webhook);

impl Versioned for Invitation {
    fn updated_at(&self) -> Timestamp {
        Self::updated_at(self)
    }
}

/// With a secret that is shown once.
impl<T: Versioned> Versioned for (T, Option<String>) {
    fn updated_at(&self) -> Timestamp {
        self.0.updated_at()
    }
}

const REPLAYED: &str = "idempotency-replayed";

impl<V, const STATUS: u16, const ETAG: bool, const REPLAY: bool> IntoResponse
    for ResourceReply<V, STATUS, ETAG, REPLAY>
where
    V: Serialize + Send,
{
    fn into_response(self) -> Response {
        let mut response = self.answer.into_response();
        let etag = self.updated_at.map(|at| HeaderValue::try_from(etag(at)));
        if let Some(Ok(etag)) = etag {
            response.headers_mut().insert(header::ETAG, etag);
        }
        if self.is_replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

impl<V, const STATUS: u16, const ETAG: bool, const REPLAY: bool> ApiResponse
    for ResourceReply<V, STATUS, ETAG, REPLAY>
where
    V: Type + ParseFromJSON + ToJSON + Serialize + Send + Sync,
{
    fn meta() -> MetaResponses {
        let mut meta = Answer::<V, STATUS>::meta();
        let headers = meta.responses.iter_mut().map(|response| &mut response.headers);
        for headers in headers {
            if ETAG {
                let text =
                    "Identifies the state of the resource: send it as `If-Match` with a change.";
                headers.push(described("ETag", text, true));
            }
            if REPLAY {
                let text =
                    "`true`: an earlier request under the same `Idempotency-Key` had this effect.";
                headers.push(described("Idempotency-Replayed", text, false));
            }
        }
        meta
    }

    fn register(registry: &mut Registry) {
        Answer::<V, STATUS>::register(registry);
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

/// Names sets of error codes. Operations compose them as tuples.
macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident: $($code:ident),+;)+) => {
        $($(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl $crate::http::failure::Codes for $name {
            const CODES: &'static [$crate::api_error::ErrorCode] =
                &[$($crate::api_error::ErrorCode::$code),+];
        })+
    };
}
pub(crate) use errors;

errors! {
    /// Every operation.
    Read: Validation, InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable;
    /// Every operation that is not a GET.
    Write: Validation, InvalidToken, InsufficientScope, CrossSite, RequestTimeout, Internal, Unavailable;
    JsonBody: MalformedJson, TooLarge, UnsupportedMediaType;
    /// With `If-Match`.
    Conditional: PreconditionFailed, PreconditionRequired;
    /// With `Idempotency-Key`.
    Idempotent: KeyReused;
    NotFound: NotFound;
    Conflict: Conflict;
}

impl Codes for () {
    const CODES: &'static [ErrorCode] = &[];
}

/// Both sets of codes.
struct Both<A, B>(PhantomData<(A, B)>);

/// Codes, and how many of them count.
type Joined = ([ErrorCode; 32], usize);

impl<A: Codes, B: Codes> Both<A, B> {
    const JOINED: &'static Joined = &join(A::CODES, B::CODES);
    const CODES: &'static [ErrorCode] = Self::JOINED.0.split_at(Self::JOINED.1).0;
}

const fn join(one: &[ErrorCode], other: &[ErrorCode]) -> Joined {
    let (mut all, mut count) = ([ErrorCode::Internal; 32], 0);
    while count < one.len() + other.len() {
        all[count] = if count < one.len() { one[count] } else { other[count - one.len()] };
        count += 1;
    }
    (all, count)
}

/// Sets of codes as a tuple are one set.
macro_rules! composed {
    ($first:ident $($rest:ident)+) => {
        impl<$first: Codes, $($rest: Codes),+> Codes for ($first, $($rest),+) {
            const CODES: &'static [ErrorCode] = Both::<$first, composed!(@ $($rest)+)>::CODES;
        }
    };
    (@ $last:ident) => { $last };
    (@ $($many:ident)+) => { ($($many),+) };
}
composed!(A B);
composed!(A B C);
composed!(A B C D);
composed!(A B C D E);

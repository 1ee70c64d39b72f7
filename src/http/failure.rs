//! The errors that each operation of the JSON API can answer with, as the OpenAPI document
//! describes them.

use std::marker::PhantomData;

use poem::http::StatusCode;
use poem_openapi::{
    ApiResponse,
    payload::{Json, Payload},
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
};

use crate::api_error::{ApiError, ErrorBody, ErrorCode};

/// The error codes of an operation, for the OpenAPI document.
pub trait Codes: Send + Sync + 'static {
    const CODES: &'static [ErrorCode];
}

/// An operation's error: an [`ApiError`] with one of the codes the operation is documented to have.
#[derive(Debug)]
pub struct Failure<C>(ApiError, PhantomData<fn() -> C>);

impl<C: Codes, E: Into<ApiError>> From<E> for Failure<C> {
    fn from(error: E) -> Self {
        let error = error.into();
        debug_assert!(
            C::CODES.contains(&error.code),
            "{} is not among the operation's documented errors",
            error.code.as_str()
        );
        Self(error, PhantomData)
    }
}

impl<C: Codes> From<Failure<C>> for poem::Error {
    fn from(failure: Failure<C>) -> Self {
        failure.0.into()
    }
}

impl<C: Codes> ApiResponse for Failure<C> {
    fn meta() -> MetaResponses {
        let mut statuses: Vec<StatusCode> = C::CODES.iter().map(|code| code.status()).collect();
        statuses.sort();
        statuses.dedup();
        let response = |status: StatusCode| {
            let codes = C::CODES.iter().filter(|code| code.status() == status);
            let names: Vec<_> = codes.map(|code| format!("`{}`", code.as_str())).collect();
            MetaResponse {
                // The registry requires a static text; a process builds one document.
                description: Box::leak(names.join(", ").into_boxed_str()),
                status: Some(status.as_u16()),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: "application/json",
                    schema: <Json<ErrorBody> as Payload>::schema_ref(),
                }],
                headers: vec![],
            }
        };
        MetaResponses { responses: statuses.into_iter().map(response).collect() }
    }

    fn register(registry: &mut Registry) {
        <Json<ErrorBody> as Payload>::register(registry);
    }
}

/// Names an operation's error codes.
macro_rules! codes {
    ($name:ident: $($code:ident),+ $(,)?) => {
        #[derive(Debug)]
        pub struct $name;
        impl $crate::http::failure::Codes for $name {
            const CODES: &'static [$crate::api_error::ErrorCode] =
                &[$($crate::api_error::ErrorCode::$code),+];
        }
    };
}
pub(crate) use codes;

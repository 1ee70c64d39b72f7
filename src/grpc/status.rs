//! Errors as gRPC statuses: a code, a message, and the details of google.rpc.

use std::{sync::Arc, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetail, ErrorInfo, FieldViolation, RetryInfo, StatusExt};

use crate::{
    api_error::{ApiError, ErrorCode},
    model::actor::RequestContext,
};

/// `domain` of google.rpc.ErrorInfo.
const DOMAIN: &str = "propusk";

/// An error as a status. The inner cause is kept as its source, for the log.
pub(super) fn of(error: ApiError, context: &RequestContext) -> Status {
    let code = code(&error);
    let reason = reason(&error);
    let mut details = vec![info(&reason, context)];
    if let Some(wait) = error.retry_after {
        let wait = Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        details.push(RetryInfo::new(Some(wait)).into());
    }
    if code == Code::InvalidArgument && !error.details.is_empty() {
        let violations = error.details.iter();
        let violations =
            violations.map(|detail| FieldViolation::new(&detail.field, &detail.message));
        details.push(tonic_types::BadRequest::new(violations.collect::<Vec<_>>()).into());
    }
    let mut status = Status::with_error_details_vec(code, error.message, details);
    if let Some(cause) = error.cause {
        status.set_source(Arc::from(cause));
    }
    status
}

/// A status without a counterpart in HTTP.
pub(super) fn new(code: Code, reason: &str, message: &str, context: &RequestContext) -> Status {
    Status::with_error_details_vec(code, message, [info(reason, context)])
}

fn info(reason: &str, context: &RequestContext) -> ErrorDetail {
    let ids = [("requestId".to_owned(), context.request_id.clone())];
    ErrorInfo::new(reason, DOMAIN, ids).into()
}

/// `reason` of google.rpc.ErrorInfo: the `errorCode` of the JSON API, or OAuth's `error` in
/// capitals, which says more.
fn reason(error: &ApiError) -> String {
    match error.oauth {
        Some(name) => name.to_ascii_uppercase(),
        None => error.code.as_str().to_owned(),
    }
}

fn code(error: &ApiError) -> Code {
    match error.code {
        // The caller is authenticated; the credential in the message is wrong.
        ErrorCode::InvalidRefreshToken | ErrorCode::InvalidCredentials => Code::InvalidArgument,
        ErrorCode::InvalidCode => Code::InvalidArgument,
        ErrorCode::UserCreate
        | ErrorCode::Conflict
        | ErrorCode::MfaRequired
        | ErrorCode::ServiceNotConnected => Code::FailedPrecondition,
        _ if error.oauth == Some("unauthorized_client") => Code::PermissionDenied,
        other => match other.status().as_u16() {
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::NotFound,
            408 => Code::DeadlineExceeded,
            409 => Code::AlreadyExists,
            412 => Code::Aborted,
            413 | 429 => Code::ResourceExhausted,
            503 => Code::Unavailable,
            504 => Code::DeadlineExceeded,
            400..500 => Code::InvalidArgument,
            _ => Code::Internal,
        },
    }
}

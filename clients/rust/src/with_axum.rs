//! Extractors for axum.

use axum_core::{
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::request::Parts;

use crate::{Error, Session, Visit, layer::no_layer, visit::problem};

/// Why a session was not extracted, and what the client is told.
#[derive(Debug)]
pub struct SessionRejection {
    error: Error,
    response: Box<http::Response<String>>,
}

impl SessionRejection {
    /// Why.
    pub fn error(&self) -> &Error {
        &self.error
    }
}

impl IntoResponse for SessionRejection {
    fn into_response(self) -> Response {
        self.response.map(Body::from)
    }
}

impl IntoResponse for Error {
    /// The error in the form of the server's JSON API.
    fn into_response(self) -> Response {
        problem(&self, false, None).map(Body::from)
    }
}

fn visit_of(parts: &Parts) -> Result<&Visit, SessionRejection> {
    parts.extensions.get().ok_or_else(|| {
        let error = no_layer();
        let response = Box::new(problem(&error, false, None));
        SessionRejection { error, response }
    })
}

impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        visit_of(parts).cloned()
    }
}

/// A handler that extracts it is private: without a session, a page is redirected to the login, and
/// other requests get 401.
impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let visit = visit_of(parts)?;
        visit.require_session().await.map_err(|error| {
            let response = Box::new(visit.refusal(&error));
            SessionRejection { error, response }
        })
    }
}

/// `None` if nobody is logged in, and also where that cannot be decided: public pages are served
/// during an outage, too. `Result<Session, SessionRejection>` tells the two apart.
impl<S: Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(visit_of(parts)?.session().await.unwrap_or_default())
    }
}

//! Middleware and extractors for poem.

use poem::{
    Endpoint, FromRequest, IntoResponse, Middleware, Request, RequestBody, Response, Result,
    error::ResponseError, http::StatusCode,
};

use crate::{
    Error, Propusk, RequireSession, Session, SessionLayer, Visit, layer::no_layer, visit::problem,
};

impl<E: Endpoint> Middleware<E> for SessionLayer {
    type Output = SessionEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        SessionEndpoint { inner, propusk: self.propusk.clone() }
    }
}

/// The endpoint of a [`SessionLayer`].
#[derive(Clone, Debug)]
pub struct SessionEndpoint<E> {
    inner: E,
    propusk: Propusk,
}

impl<E: Endpoint> Endpoint for SessionEndpoint<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Self::Output> {
        if request.extensions().get::<Visit>().is_some() {
            return self.inner.call(request).await.map(IntoResponse::into_response);
        }
        // A nested endpoint sees its own part of the path only.
        let uri = request.original_uri();
        let visit = Visit::new(&self.propusk, request.method(), uri, request.headers());
        request.extensions_mut().insert(visit.clone());
        let mut response = match self.inner.call(request).await {
            Ok(output) => output.into_response(),
            // New cookies must reach the browser with an error, too.
            Err(error) if visit.has_cookies() => error.into_response(),
            Err(error) => return Err(error),
        };
        visit.finish(response.headers_mut());
        Ok(response)
    }
}

impl<E: Endpoint> Middleware<E> for RequireSession {
    type Output = RequireSessionEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        RequireSessionEndpoint { inner, requirement: self.clone() }
    }
}

/// The endpoint of a [`RequireSession`].
#[derive(Clone, Debug)]
pub struct RequireSessionEndpoint<E> {
    inner: E,
    requirement: RequireSession,
}

impl<E: Endpoint> Endpoint for RequireSessionEndpoint<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Self::Output> {
        let visit = request.extensions().get::<Visit>().cloned();
        match self.requirement.check(visit.as_ref()).await {
            Ok(()) => self.inner.call(request).await.map(IntoResponse::into_response),
            Err(refusal) => Ok(poem_response(refusal)),
        }
    }
}

impl ResponseError for Error {
    fn status(&self) -> StatusCode {
        StatusCode::from_u16(Error::status(self)).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
    }

    /// The error in the form of the server's JSON API.
    fn as_response(&self) -> Response {
        poem_response(problem(self, false, None))
    }
}

fn visit_of(request: &Request) -> Result<&Visit, Error> {
    request.extensions().get().ok_or_else(no_layer)
}

impl<'a> FromRequest<'a> for Visit {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(visit_of(request)?.clone())
    }
}

/// A handler that extracts it is private: without a session, a page is redirected to the login, and
/// other requests get 401. `Option<Session>` is `None` also where it cannot be decided: public
/// pages are served during an outage, too.
impl<'a> FromRequest<'a> for Session {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        let visit = visit_of(request)?;
        let session = visit.require_session().await;
        session.map_err(|error| poem::Error::from_response(poem_response(visit.refusal(&error))))
    }
}

fn poem_response(response: http::Response<String>) -> Response {
    let (parts, body) = response.into_parts();
    let mut response = Response::builder().status(parts.status).body(body);
    *response.headers_mut() = parts.headers;
    response
}

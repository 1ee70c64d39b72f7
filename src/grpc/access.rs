//! Who may call what.

use std::sync::Arc;

use poem::http::HeaderMap;

use crate::{
    app::App,
    directory::Known,
    flows::{
        self, feed,
        verify::{self, Verified},
    },
    http::{context::from_poem, credentials::bearer, error::ApiError},
    oauth::jwt::Invalid,
};

/// A method of a service.
#[derive(Debug)]
pub struct Method {
    /// As it stands in the request: `/package.Service/Method`.
    pub path: &'static str,
    /// What the caller's token must have; `None`: anybody may call.
    pub scope: Option<&'static str>,
    /// Whether it changes nothing: it is logged at debug, as reading is by HTTP.
    reads: bool,
}

const fn changing(path: &'static str, scope: &'static str) -> Method {
    Method {
        path,
        scope: Some(scope),
        reads: false,
    }
}

const fn reading(path: &'static str, scope: &'static str) -> Method {
    Method {
        path,
        scope: Some(scope),
        reads: true,
    }
}

const fn open(path: &'static str) -> Method {
    Method {
        path,
        scope: None,
        reads: true,
    }
}

/// Every method there is. What is not here is not answered.
pub const METHODS: &[Method] = &[
    changing("/propusk.v1.TokenService/Issue", "propusk:tokens"),
    changing("/propusk.v1.TokenService/Refresh", "propusk:tokens"),
    reading("/propusk.v1.TokenService/Validate", "propusk:tokens"),
    changing("/propusk.v1.TokenService/Revoke", "propusk:tokens"),
    reading("/propusk.v1.RevocationService/Watch", feed::SCOPE),
    open("/grpc.health.v1.Health/Check"),
    open("/grpc.health.v1.Health/Watch"),
    open("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
    open("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
];

impl Method {
    pub(super) fn at(path: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.path == path)
    }

    pub(super) const fn reads(&self) -> bool {
        self.reads
    }
}

/// Whoever calls a method that is not open.
#[derive(Debug)]
pub(super) struct Identity {
    /// The `sub` of the token.
    pub subject: String,
    pub client: Known,
    proof: Proof,
}

/// What was shown.
#[derive(Debug)]
enum Proof {
    Token(Arc<Verified>),
}

/// Finds out who calls, and whether they may. Names in other metadata mean nothing.
///
/// # Errors
/// UNAUTHENTICATED with the reason; PERMISSION_DENIED with the scope that is missing.
pub(super) async fn authenticate(
    app: &App,
    headers: &HeaderMap,
    scope: &str,
) -> Result<Identity, ApiError> {
    let token = bearer(headers).map_err(from_poem)?;
    let token = token.ok_or(flows::Error::NoToken)?;
    let verified = verify::verify_with(app, &token, scope).await?;
    let client = app.client(&verified.claims.client_id).await?;
    let client = client.ok_or(flows::Error::InvalidToken(Invalid("its client is gone")))?;
    Ok(Identity {
        subject: verified.claims.sub.clone(),
        client,
        proof: Proof::Token(verified),
    })
}

impl Identity {
    /// Whether the proof still holds, for calls that go on; as far as this process has heard.
    ///
    /// # Errors
    /// UNAUTHENTICATED with the reason.
    pub(super) fn still_holds(&self, app: &App) -> Result<(), ApiError> {
        let Proof::Token(verified) = &self.proof;
        verify::still_good(app, verified).map_err(|why| flows::Error::InvalidToken(why).into())
    }
}

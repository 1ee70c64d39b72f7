//! Who may call what.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use poem::Request;

use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    caches::verified_tokens::Verified,
    credentials::bearer,
    directory::CachedClient,
    error::Error,
    flows::{feed, tokens::verify},
    listener::ClientCertificate,
    oauth::{error::OAuthError, jwt::InvalidToken},
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
    Method { path, scope: Some(scope), reads: false }
}

const fn reading(path: &'static str, scope: &'static str) -> Method {
    Method { path, scope: Some(scope), reads: true }
}

const fn open(path: &'static str) -> Method {
    Method { path, scope: None, reads: true }
}

/// Every method there is. What is not here is not answered.
pub const METHODS: &[Method] = &[
    changing("/propusk.v1.TokenService/Issue", "propusk:tokens"),
    changing("/propusk.v1.TokenService/Refresh", "propusk:tokens"),
    reading("/propusk.v1.TokenService/Validate", "propusk:tokens"),
    changing("/propusk.v1.TokenService/Revoke", "propusk:tokens"),
    reading("/propusk.v1.UserService/Get", "propusk:users"),
    reading("/propusk.v1.UserService/Find", "propusk:users"),
    changing("/propusk.v1.UserService/Create", "propusk:users"),
    changing("/propusk.v1.UserService/Delete", "propusk:users"),
    changing("/propusk.v1.UserService/Disable", "propusk:users"),
    changing("/propusk.v1.UserService/Enable", "propusk:users"),
    reading("/propusk.v1.RevocationService/Watch", feed::SCOPE),
    reading("/envoy.service.auth.v3.Authorization/Check", "propusk:check"),
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
    /// The `sub` of the token, or the client that the certificate is registered with.
    pub subject: String,
    pub client: CachedClient,
    scope: &'static str,
    proof: Proof,
}

/// What was shown.
#[derive(Debug)]
enum Proof {
    Token(Arc<Verified>),
    Certificate([u8; 32]),
}

/// Finds out who calls, and whether they may: by the access token, else by the certificate. Names in other metadata mean
/// nothing.
///
/// # Errors
/// UNAUTHENTICATED with the reason; PERMISSION_DENIED with the scope that is missing.
pub(super) async fn authenticate(
    app: &App,
    request: &Request,
    scope: &'static str,
) -> Result<Identity, ApiError> {
    let identity = match bearer(request.headers())? {
        Some(token) => by_token(app, &token, scope).await?,
        None => match request.data::<ClientCertificate>() {
            Some(certificate) => by_certificate(app, certificate, scope).await?,
            None => return Err(Error::NoToken.into()),
        },
    };
    // Nobody here has looked at a client that made itself known.
    if identity.client.client.source.is_self_registered() {
        return Err(lacking(scope));
    }
    Ok(identity)
}

async fn by_token(app: &App, token: &str, scope: &'static str) -> Result<Identity, ApiError> {
    let verified = verify::verify_with(app, token, scope).await?;
    let client = app.client(&verified.claims.client_id).await?;
    let client = client.ok_or(Error::InvalidToken(InvalidToken("its client is gone")))?;
    Ok(Identity {
        subject: verified.claims.sub.clone(),
        client,
        scope,
        proof: Proof::Token(verified),
    })
}

/// The handshake has checked that an authority of `grpc.tls.client_ca` issued it and that the caller holds its key
/// (RFC 8705 §2); which client's it is, its thumbprint says.
async fn by_certificate(
    app: &App,
    certificate: &ClientCertificate,
    scope: &'static str,
) -> Result<Identity, ApiError> {
    let client = client_of(app, &certificate.sha256).await?;
    if !client.client.metadata.scope.contains(scope) {
        return Err(lacking(scope));
    }
    Ok(Identity {
        subject: client.client.id.clone(),
        client,
        scope,
        proof: Proof::Certificate(certificate.sha256),
    })
}

async fn client_of(app: &App, thumbprint: &[u8; 32]) -> Result<CachedClient, ApiError> {
    app.sync().await?;
    let thumbprint = URL_SAFE_NO_PAD.encode(thumbprint);
    let found = app.directory.by_certificate(&app.db, &thumbprint).await;
    found.map_err(Error::from)?.ok_or_else(|| {
        ApiError::new(
            ErrorCode::InvalidClient,
            "the certificate is registered with no client: propusk client set ID --certificate FILE",
        )
    })
}

fn lacking(scope: &str) -> ApiError {
    OAuthError::insufficient_scope(format!("the client lacks the scope {scope}")).into()
}

impl Identity {
    /// Whether the proof still holds, for calls that go on.
    ///
    /// # Errors
    /// As [`authenticate`].
    pub(super) async fn still_holds(&self, app: &App) -> Result<(), ApiError> {
        match &self.proof {
            // The list has just heard what is new.
            Proof::Token(verified) => {
                verify::still_valid(app, verified).map_err(|why| Error::InvalidToken(why).into())
            }
            Proof::Certificate(thumbprint) => {
                let client = client_of(app, thumbprint).await?;
                if !client.client.metadata.scope.contains(self.scope) {
                    return Err(lacking(self.scope));
                }
                Ok(())
            }
        }
    }
}

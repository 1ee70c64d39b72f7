//! Authentication and authorization of callers.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use poem::Request;

use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    caches::verified_tokens::Verified,
    credentials::bearer,
    diagnostics,
    directory::CachedClient,
    error::Error,
    flows::{
        feed,
        oauth::client_auth::{self, TOKENS},
        services,
        tokens::verify,
    },
    listener::ClientCertificate,
};

/// A gRPC method and the scope that it requires.
#[derive(Debug)]
pub struct Method {
    /// The request path: `/package.Service/Method`.
    pub path: &'static str,
    /// The scope that the caller must have; `None` if the method requires no authentication.
    pub scope: Option<&'static str>,
    /// Whether the method has no side effects. Like GET over HTTP, such calls are logged at debug
    /// level.
    is_read_only: bool,
}

const fn write(path: &'static str, scope: &'static str) -> Method {
    Method { path, scope: Some(scope), is_read_only: false }
}

const fn read(path: &'static str, scope: &'static str) -> Method {
    Method { path, scope: Some(scope), is_read_only: true }
}

const fn public(path: &'static str) -> Method {
    Method { path, scope: None, is_read_only: true }
}

/// Every method of the server. Calls of other methods are UNIMPLEMENTED.
pub const METHODS: &[Method] = &[
    write("/propusk.v1.TokenService/Issue", TOKENS),
    write("/propusk.v1.TokenService/Refresh", TOKENS),
    read("/propusk.v1.TokenService/Validate", TOKENS),
    write("/propusk.v1.TokenService/Revoke", TOKENS),
    read("/propusk.v1.UserService/Get", "propusk:users"),
    read("/propusk.v1.UserService/Find", "propusk:users"),
    write("/propusk.v1.UserService/Create", "propusk:users"),
    write("/propusk.v1.UserService/Delete", "propusk:users"),
    write("/propusk.v1.UserService/Disable", "propusk:users"),
    write("/propusk.v1.UserService/Enable", "propusk:users"),
    write("/propusk.v1.UserService/VerifyPassword", "propusk:users:verify"),
    read("/propusk.v1.RevocationService/Watch", feed::SCOPE),
    read("/propusk.v1.ServiceTokens/Get", services::SCOPE),
    read("/envoy.service.auth.v3.Authorization/Check", "propusk:check"),
    public("/grpc.health.v1.Health/Check"),
    public("/grpc.health.v1.Health/Watch"),
    public("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
    public("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
];

impl Method {
    pub(super) fn at(path: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.path == path)
    }

    pub(super) const fn is_read_only(&self) -> bool {
        self.is_read_only
    }
}

/// The authenticated caller of a method.
#[derive(Debug)]
pub(super) struct Identity {
    /// The `sub` of the token, or the id of the client that the certificate is registered for.
    pub subject: String,
    pub client: CachedClient,
    scope: &'static str,
    credential: Credential,
}

/// The credential that authenticated the caller.
#[derive(Debug)]
enum Credential {
    Token(Arc<Verified>),
    /// The SHA-256 thumbprint.
    Certificate([u8; 32]),
}

/// Authenticates the caller by the access token, else by the TLS client certificate, and checks the
/// scope. No other metadata identifies a caller.
///
/// # Errors
/// UNAUTHENTICATED with the reason; PERMISSION_DENIED with the missing scope.
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
    client_auth::must_be_trusted(&identity.client, scope)?;
    Ok(identity)
}

async fn by_token(app: &App, token: &str, scope: &'static str) -> Result<Identity, ApiError> {
    let (verified, client) = client_auth::by_access_token(app, token, scope).await?;
    Ok(Identity {
        subject: verified.claims.sub.clone(),
        client,
        scope,
        credential: Credential::Token(verified),
    })
}

/// Authenticates by the thumbprint of the certificate. The TLS handshake has verified that a CA of
/// `grpc.tls.client_ca` issued it and that the caller holds its key (RFC 8705 §2).
async fn by_certificate(
    app: &App,
    certificate: &ClientCertificate,
    scope: &'static str,
) -> Result<Identity, ApiError> {
    let client = client_by_thumbprint(app, &certificate.sha256).await?;
    diagnostics::identify_client(&client.client.id);
    if !client.client.metadata.scope.contains(scope) {
        return Err(client_auth::lacks(scope).into());
    }
    Ok(Identity {
        subject: client.client.id.as_str().to_owned(),
        client,
        scope,
        credential: Credential::Certificate(certificate.sha256),
    })
}

async fn client_by_thumbprint(app: &App, thumbprint: &[u8; 32]) -> Result<CachedClient, ApiError> {
    app.sync().await?;
    let thumbprint = URL_SAFE_NO_PAD.encode(thumbprint);
    let found = app.directory.by_certificate(&app.db, &thumbprint).await;
    found.map_err(Error::from)?.ok_or_else(|| {
        ApiError::new(
            ErrorCode::InvalidClient,
            "the certificate is not registered for a client: use `propusk client set ID --certificate FILE`",
        )
    })
}

impl Identity {
    /// Checks again whether the credential is valid, for streaming calls.
    ///
    /// # Errors
    /// As [`authenticate`].
    pub(super) async fn recheck(&self, app: &App) -> Result<(), ApiError> {
        match &self.credential {
            // The revocation list is current: the stream has just received its changes.
            Credential::Token(verified) => {
                verify::still_valid(app, verified).map_err(|why| Error::InvalidToken(why).into())
            }
            Credential::Certificate(thumbprint) => {
                let client = client_by_thumbprint(app, thumbprint).await?;
                if !client.client.metadata.scope.contains(self.scope) {
                    return Err(client_auth::lacks(self.scope).into());
                }
                Ok(())
            }
        }
    }
}

//! TLS: the server's certificate, and client certificates (RFC 8705).

use std::{io, path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection, crypto::ring, server::WebPkiClientVerifier,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use sha2::{Digest, Sha256};

use super::ListenError;

/// The certificate that authenticated the client; in the extensions of each request of its
/// connection.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// SHA-256 of the DER form: `x5t#S256` before base64url (RFC 8705 §3.1).
    pub sha256: [u8; 32],
    /// The end-entity certificate.
    pub der: Arc<[u8]>,
}

impl ClientCertificate {
    pub(super) fn of(connection: &ServerConnection) -> Option<Self> {
        let der = connection.peer_certificates()?.first()?;
        Some(Self { sha256: Sha256::digest(der).into(), der: Arc::from(der.as_ref()) })
    }
}

/// TLS 1.2 and 1.3 with HTTP/2 and HTTP/1.1 by ALPN. With `client_ca`, a client may present a
/// certificate issued under it; with `require_client` it must.
///
/// # Errors
/// [`ListenError`] names the invalid file and the fix.
pub fn tls_config(
    certificate: &Path,
    key: &Path,
    client_ca: Option<&Path>,
    require_client: bool,
) -> Result<Arc<ServerConfig>, ListenError> {
    let rejected = |path: &Path, reason: &dyn std::fmt::Display| ListenError::Tls {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| pem_error(key, "private key", "PRIVATE KEY", error))?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| rejected(certificate, &error))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority).map_err(|error| rejected(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = if require_client { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(
                verifier.build().map_err(|error| rejected(path, &error))?,
            )
        }
    };
    let mut config = builder.with_single_cert(chain, private).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            ListenError::KeyMismatch { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        error => rejected(certificate, &error),
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// SHA-256 of the first certificate in a PEM file, comparable to [`ClientCertificate::sha256`].
///
/// # Errors
/// [`ListenError`] when the file is invalid.
pub fn thumbprint(path: &Path) -> Result<[u8; 32], ListenError> {
    let chain = certificates(path)?;
    let first = chain.first().map(Sha256::digest);
    Ok(first.map(Into::into).unwrap_or_default())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ListenError> {
    let failed = |error| pem_error(path, "certificate", "CERTIFICATE", error);
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(failed)?;
    if chain.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(chain) }
}

fn pem_error(
    path: &Path,
    what: &'static str,
    block: &'static str,
    error: pem::Error,
) -> ListenError {
    let path = path.to_owned();
    match error {
        // bytes that are not text are not PEM either
        pem::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => {
            ListenError::Unreadable { path, source }
        }
        _ => ListenError::NoPem { path, what, block },
    }
}

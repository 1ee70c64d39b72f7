//! The private key with which this server authenticates at a customer service. It is the operator's
//! file and signs nothing else: none of its JWTs is a token of this server.

use std::path::Path;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use josekit::jws::JwsSigner;
use serde_json::{Value, json};

use super::{pem, signer};
use crate::model::key::SigningAlgorithm;

/// A private key in a PEM file.
#[derive(Debug)]
pub struct ServiceKey {
    header: Value,
    signer: Box<dyn JwsSigner>,
}

impl ServiceKey {
    /// Reads the file: PKCS#8, PKCS#1 or SEC1, of RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA).
    /// `kid`: of the header; empty: none.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(path: &Path, kid: &str) -> Result<Self, String> {
        let problem = |what: String| format!("{}: {what}", path.display());
        let text = std::fs::read(path).map_err(|error| problem(error.to_string()))?;
        let text = zeroize::Zeroizing::new(text);
        // The kind of the key decides.
        let attempt = |algorithm| pem::private_key(algorithm, &text).map(|key| (algorithm, key));
        let read = attempt(SigningAlgorithm::Es256)
            .or_else(|_| attempt(SigningAlgorithm::EdDsa))
            .or_else(|_| attempt(SigningAlgorithm::Rs256));
        let (algorithm, private) = read.map_err(|error| {
            problem(format!("must be a key of RSA, P-256 or Ed25519 in PEM: {error}"))
        })?;
        let signer = signer(algorithm, &private).map_err(|error| problem(error.to_string()))?;
        let mut header = json!({ "alg": algorithm.as_str(), "typ": "JWT" });
        if !kid.is_empty() {
            header["kid"] = kid.into();
        }
        Ok(Self { header, signer })
    }

    /// Signs claims as a JWT.
    ///
    /// # Errors
    /// What josekit says.
    pub fn sign(&self, claims: &Value) -> Result<String, String> {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(&self.header), encode(claims));
        let signature = self.signer.sign(message.as_bytes()).map_err(|error| error.to_string())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

//! Signing keys as PEM (RFC 7468): private ones are imported, public ones are shown.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use josekit::{
    JoseError,
    jwk::{
        Jwk, KeyPair as _,
        alg::{ec::EcCurve, ec::EcKeyPair, ed::EdKeyPair, rsa::RsaKeyPair},
    },
};
use openssl::{
    bn::BigNum,
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    nid::Nid,
    pkey::{Id, PKey, Private, Public},
    rsa::Rsa,
};
use zeroize::Zeroizing;

use super::Error;
use crate::model::key::SigningAlgorithm;

fn refused(message: impl Into<String>) -> Error {
    Error::Refused(message.into())
}

/// Reads a private key: PKCS#8, PKCS#1 (RSA) or SEC1 (EC), not encrypted.
///
/// # Errors
/// [`Error::Refused`] for anything else, for a key that does not fit the algorithm, for an RSA key
/// below 2048 or above 4096 bits.
pub(super) fn private_key(algorithm: SigningAlgorithm, pem: &[u8]) -> Result<Jwk, Error> {
    // Without a callback OpenSSL asks at the terminal.
    let mut is_encrypted = false;
    let parsed = PKey::private_key_from_pem_callback(pem, |_| {
        is_encrypted = true;
        Ok(0)
    });
    let key = match parsed {
        Ok(key) => key,
        Err(_) if is_encrypted => {
            return Err(refused(
                "the key is encrypted with a passphrase: decrypt it first (`openssl pkey -in key.pem -out plain.pem`)",
            ));
        }
        Err(_) => {
            return Err(refused(
                "not a private key in PEM: it must be PKCS#8 (`BEGIN PRIVATE KEY`), PKCS#1 (`BEGIN RSA PRIVATE KEY`) \
                 or SEC1 (`BEGIN EC PRIVATE KEY`)",
            ));
        }
    };
    check(algorithm, &key)?;
    let der = Zeroizing::new(key.private_key_to_pkcs8().map_err(broken)?);
    Ok(match algorithm {
        SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256 => {
            RsaKeyPair::from_der(&*der)?.to_jwk_key_pair()
        }
        SigningAlgorithm::Es256 => {
            EcKeyPair::from_der(&*der, Some(EcCurve::P256))?.to_jwk_key_pair()
        }
        SigningAlgorithm::EdDsa | SigningAlgorithm::Ed25519 => {
            EdKeyPair::from_der(&*der)?.to_jwk_key_pair()
        }
    })
}

fn broken(error: ErrorStack) -> Error {
    Error::Jose(JoseError::InvalidKeyFormat(error.into()))
}

fn check(algorithm: SigningAlgorithm, key: &PKey<Private>) -> Result<(), Error> {
    let name = algorithm.as_str();
    let (fits, needed) = match algorithm {
        SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256 => (key.id() == Id::RSA, "an RSA key"),
        SigningAlgorithm::Es256 => (key.id() == Id::EC, "an EC key on the curve P-256"),
        SigningAlgorithm::EdDsa | SigningAlgorithm::Ed25519 => {
            (key.id() == Id::ED25519, "an Ed25519 key")
        }
    };
    if !fits {
        return Err(refused(format!("{name} requires {needed}, and the file has another kind")));
    }
    if let Ok(rsa) = key.rsa() {
        let bits = key.bits();
        if !(2048..=4096).contains(&bits) {
            return Err(refused(format!(
                "an RSA key must have 2048 to 4096 bits; this one has {bits}"
            )));
        }
        let exponent = rsa.e().to_vec();
        if exponent.len() > 4 || exponent.as_slice() == [1] || !rsa.check_key().unwrap_or(false) {
            return Err(refused("the RSA key is not consistent"));
        }
    }
    if let Ok(ec) = key.ec_key() {
        if ec.group().curve_name() != Some(Nid::X9_62_PRIME256V1) {
            return Err(refused(format!("{name} requires {needed}, and the key is on another")));
        }
        if ec.check_key().is_err() {
            return Err(refused("the EC key is not consistent"));
        }
    }
    Ok(())
}

/// The public key as `SubjectPublicKeyInfo` in PEM (RFC 7468 §13), from a public JWK. Members of a
/// private key are never read.
pub(super) fn public_pem(jwk: &Jwk) -> Result<String, Error> {
    let bytes = |name: &str| {
        let text = jwk.parameter(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        URL_SAFE_NO_PAD.decode(text).map_err(|_| Error::Missing("a public key"))
    };
    let key = match jwk.key_type() {
        "RSA" => rsa(&bytes("n")?, &bytes("e")?),
        "EC" => p256(&bytes("x")?, &bytes("y")?),
        _ => PKey::public_key_from_raw_bytes(&bytes("x")?, Id::ED25519),
    };
    let pem = key.and_then(|key| key.public_key_to_pem()).map_err(broken)?;
    String::from_utf8(pem).map_err(|_| Error::Missing("a public key"))
}

fn rsa(n: &[u8], e: &[u8]) -> Result<PKey<Public>, ErrorStack> {
    let (n, e) = (BigNum::from_slice(n)?, BigNum::from_slice(e)?);
    PKey::from_rsa(Rsa::from_public_components(n, e)?)
}

fn p256(x: &[u8], y: &[u8]) -> Result<PKey<Public>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let (x, y) = (BigNum::from_slice(x)?, BigNum::from_slice(y)?);
    PKey::from_ec_key(EcKey::from_public_key_affine_coordinates(&group, &x, &y)?)
}

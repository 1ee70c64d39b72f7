//! Signatures of JWTs (RFC 7515). jsonwebtoken verifies them; which algorithm is used is fixed by
//! the key, never by the token.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto::rust_crypto, jwk::Jwk};
use serde::{Deserialize, de::DeserializeOwned};

/// As the server's own limit.
const MAX_TOKEN: usize = 8 * 1024;

/// A public key of the issuer.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) id: String,
    /// What the header must name.
    name: String,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The members of a JWK that say what a key is for.
#[derive(Deserialize)]
struct Purpose {
    kid: String,
    alg: String,
    #[serde(rename = "use")]
    usage: Option<String>,
}

/// The header of a JWT.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    /// Extensions that must be understood (RFC 7515 §4.1.11): there are none.
    crit: Option<serde_json::Value>,
}

impl Key {
    /// A key of a JWKS; `None` for one that signs nothing, or by an unsupported algorithm.
    pub(crate) fn from_jwk(value: serde_json::Value) -> Option<Self> {
        let purpose = Purpose::deserialize(&value).ok()?;
        if purpose.usage.is_some_and(|usage| usage != "sig") {
            return None;
        }
        let algorithm = match purpose.alg.as_str() {
            "ES256" => Algorithm::ES256,
            "RS256" => Algorithm::RS256,
            "PS256" => Algorithm::PS256,
            // RFC 9864 renames EdDSA with this curve.
            "EdDSA" | "Ed25519" => Algorithm::EdDSA,
            _ => return None,
        };
        let mut value = value;
        // jsonwebtoken does not know `Ed25519`.
        value.as_object_mut()?.remove("alg");
        let jwk = Jwk::deserialize(value).ok()?;
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        // The factory checks that the key is one for the algorithm.
        (rust_crypto::DEFAULT_PROVIDER.verifier_factory)(&algorithm, &key).ok()?;
        Some(Self { id: purpose.kid, name: purpose.alg, algorithm, key })
    }

    fn verifies(&self, message: &str, signature: &[u8]) -> bool {
        // Not by `jsonwebtoken::decode`: it panics in a program that enables another provider too.
        let verifier = (rust_crypto::DEFAULT_PROVIDER.verifier_factory)(&self.algorithm, &self.key);
        verifier
            .is_ok_and(|verifier| verifier.verify(message.as_bytes(), &signature.to_vec()).is_ok())
    }
}

/// A JWT that was taken apart; nothing is verified yet.
pub(crate) struct Jws<'a> {
    header: Header,
    /// What is signed.
    message: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// # Errors
    /// What is wrong with the form of the token, or with its type.
    pub(crate) fn parse(token: &'a str, typ: &str, longest: Option<usize>) -> Result<Self, String> {
        if token.len() > longest.unwrap_or(MAX_TOKEN) {
            return Err("the token is too long".to_owned());
        }
        let not_jwt = || "the token is not a JWT".to_owned();
        let (message, signature) = token.rsplit_once('.').ok_or_else(not_jwt)?;
        let (header, payload) = message.split_once('.').ok_or_else(not_jwt)?;
        if payload.contains('.') {
            return Err(not_jwt());
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| not_jwt())?;
        let header: Header = decode(header).ok_or_else(not_jwt)?;
        if header.crit.is_some() {
            return Err("the token has critical extensions (`crit`)".to_owned());
        }
        let named = header.typ.as_deref().unwrap_or_default();
        // RFC 7515 §4.1.9: the prefix may be left out; media types ignore case.
        let prefix = named.get(.."application/".len()).unwrap_or_default();
        let short = if prefix.eq_ignore_ascii_case("application/") {
            &named[prefix.len()..]
        } else {
            named
        };
        if !short.eq_ignore_ascii_case(typ) {
            return Err(format!("unexpected token type: `typ` must be `{typ}`"));
        }
        Ok(Self { header, message, payload, signature })
    }

    /// The key that has signed the token, as it says.
    ///
    /// # Errors
    /// It names none.
    pub(crate) fn key_id(&self) -> Result<&str, String> {
        self.header.kid.as_deref().ok_or_else(|| "the token names no key (`kid`)".to_owned())
    }

    /// The claims, once the signature has been verified.
    ///
    /// # Errors
    /// What is wrong with the algorithm, the signature or the form of the claims.
    pub(crate) fn verify<T: DeserializeOwned>(&self, key: &Key) -> Result<T, String> {
        if self.header.alg != key.name {
            return Err(format!("`alg` must be `{}`, which is the key's algorithm", key.name));
        }
        if !key.verifies(self.message, &self.signature) {
            return Err("the signature of the token is not valid".to_owned());
        }
        decode(self.payload).ok_or_else(|| "a claim is missing or malformed".to_owned())
    }
}

fn decode<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// The claims of a token that the server has verified.
pub(crate) fn claims<T: DeserializeOwned>(token: &str) -> Result<T, String> {
    let jws = Jws::parse(token, "at+jwt", None)?;
    decode(jws.payload).ok_or_else(|| "a claim is missing or malformed".to_owned())
}

//! JWTs that clients made: assertions (RFC 7523) and request objects (RFC 9101). josekit checks signatures; which headers,
//! keys and claims are taken is decided here.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use josekit::{
    jwk::Jwk,
    jws::{self, JwsVerifier},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    clock::Timestamp,
    model::key::SigningAlgorithm,
    oauth::{access_token::Audience, jwt::Invalid},
};

/// Longer texts are refused unread.
const LONGEST: usize = 16 * 1024;

/// Keys that a client may publish.
const MOST_KEYS: usize = 20;

/// Keys that one signature is tried with where its header names none.
const MOST_TRIED: usize = 5;

/// How far a client's clock may be off, in seconds.
const SKEW: i64 = 30;

/// How long an assertion may be good, in seconds.
const LONGEST_ASSERTION: i64 = 300;

/// A client's public keys (RFC 7517 §5), each with its verifiers built.
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// One for each algorithm that the key may be used with.
    verifiers: Vec<(SigningAlgorithm, Box<dyn JwsVerifier>)>,
}

impl KeySet {
    /// Reads a key set. Keys that are for something else are passed over.
    ///
    /// # Errors
    /// Says what is wrong: private or shared keys, keys too weak or too many.
    pub fn parse(document: &Value) -> Result<Self, &'static str> {
        let keys = document.get("keys").and_then(Value::as_array);
        let keys =
            keys.ok_or("it is not a JSON object with an array `keys` (RFC 7517 section 5)")?;
        if keys.len() > MOST_KEYS {
            return Err("it has more than 20 keys");
        }
        let mut read = vec![];
        for key in keys {
            let members = key.as_object().ok_or("a key is not a JSON object")?;
            if let Some(key) = read_key(members)? {
                read.push(key);
            }
        }
        if read.is_empty() {
            return Err("it has no key to verify ES256, RS256, PS256 or EdDSA with");
        }
        Ok(Self(read))
    }

    /// Whether one of the keys made the signature, with an algorithm that is allowed.
    pub fn verifies(&self, jwt: &ForeignJwt<'_>, allowed: &[SigningAlgorithm]) -> bool {
        let named = SigningAlgorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == jwt.header.alg);
        // `none` and HS256 are no signing algorithms here; the key decides what it is used with (RFC 8725 §3.1).
        let Some(algorithm) = named.filter(|algorithm| allowed.contains(algorithm)) else {
            return false;
        };
        self.0
            .iter()
            .filter(|key| jwt.header.kid.is_none() || key.id == jwt.header.kid)
            .filter_map(|key| key.verifiers.iter().find(|(known, _)| *known == algorithm))
            .take(MOST_TRIED)
            .any(|(_, verifier)| {
                verifier
                    .verify(jwt.message.as_bytes(), &jwt.signature)
                    .is_ok()
            })
    }
}

fn read_key(members: &Map<String, Value>) -> Result<Option<Key>, &'static str> {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"]
        .iter()
        .any(|name| members.contains_key(*name))
    {
        return Err("a key is private or shared: publish public keys only, and replace this one");
    }
    let for_signatures = text("use").is_none_or(|what| what == "sig");
    let fitting: &[SigningAlgorithm] = match (text("kty"), text("crv")) {
        (Some("EC"), Some("P-256")) => &[SigningAlgorithm::Es256],
        (Some("RSA"), _) => &[SigningAlgorithm::Rs256, SigningAlgorithm::Ps256],
        (Some("OKP"), Some("Ed25519")) => &[SigningAlgorithm::EdDsa],
        _ => &[],
    };
    if fitting.contains(&SigningAlgorithm::Rs256) {
        // 2048 to 4096 bits, without padding: more would cost us, less is no signature.
        let bytes = text("n").map_or(0, str::len) * 3 / 4;
        if !(256..=513).contains(&bytes) {
            return Err("an RSA key has 2048 to 4096 bits");
        }
    }
    let mut verifiers = vec![];
    if for_signatures {
        let mut plain = members.clone();
        // josekit insists that these agree with what is asked of the key.
        for name in ["alg", "key_ops", "use", "kid"] {
            plain.remove(name);
        }
        let key = Jwk::from_map(plain).map_err(|_| "a key cannot be read")?;
        for algorithm in fitting {
            if text("alg").is_none_or(|only| only == algorithm.as_str()) {
                let verifier = verifier(*algorithm, &key).map_err(|_| "a key cannot be read")?;
                verifiers.push((*algorithm, verifier));
            }
        }
    }
    let id = text("kid").map(str::to_owned);
    Ok((!verifiers.is_empty()).then_some(Key { id, verifiers }))
}

/// What verifies with a public key.
///
/// # Errors
/// Where the key is of another kind.
pub fn verifier(
    algorithm: SigningAlgorithm,
    key: &Jwk,
) -> Result<Box<dyn JwsVerifier>, josekit::JoseError> {
    Ok(match algorithm {
        SigningAlgorithm::Es256 => Box::new(jws::ES256.verifier_from_jwk(key)?),
        SigningAlgorithm::Rs256 => Box::new(jws::RS256.verifier_from_jwk(key)?),
        SigningAlgorithm::Ps256 => Box::new(jws::PS256.verifier_from_jwk(key)?),
        SigningAlgorithm::EdDsa => Box::new(jws::EdDSA.verifier_from_jwk(key)?),
    })
}

/// A JWT taken apart; nothing of it is believed yet.
#[derive(Debug)]
pub struct ForeignJwt<'a> {
    header: Header,
    message: &'a str,
    signature: Vec<u8>,
    payload: Vec<u8>,
}

/// Members that change what a signature means, or bring a key along, are not among these and refuse the token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(rename = "typ")]
    _typ: Option<String>,
    #[serde(rename = "cty")]
    _cty: Option<String>,
}

impl<'a> ForeignJwt<'a> {
    /// Takes a compact JWS apart (RFC 7515 §7.1).
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &'a str) -> Result<Self, Invalid> {
        const MALFORMED: Invalid = Invalid("it is not a signed JWT in compact form");
        if text.len() > LONGEST {
            return Err(Invalid("it is longer than 16384 bytes"));
        }
        let (message, signature) = text.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, payload) = message
            .split_once('.')
            .filter(|(_, payload)| !payload.contains('.'))
            .ok_or(MALFORMED)?;
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| MALFORMED);
        let header = serde_json::from_slice(&decode(header)?)
            .map_err(|_| Invalid("its header has more than alg, kid, typ and cty"))?;
        Ok(Self {
            header,
            message,
            signature: decode(signature)?,
            payload: decode(payload)?,
        })
    }

    /// The claims. Believe them after [`KeySet::verifies`] only.
    ///
    /// # Errors
    /// Where a claim is missing or of another type: dates are whole numbers that fit, never text.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, Invalid> {
        serde_json::from_slice(&self.payload)
            .map_err(|_| Invalid("a claim is missing or of another type"))
    }
}

/// The claims of a client's assertion (RFC 7523 §3).
#[derive(Debug, Deserialize)]
pub struct Assertion {
    pub iss: String,
    pub sub: String,
    pub aud: Audience,
    pub exp: i64,
    pub iat: Option<i64>,
    pub nbf: Option<i64>,
    pub jti: String,
}

impl Assertion {
    /// Whether the assertion says what it must: the client speaks of itself, to this issuer alone (RFC 10070: an audience
    /// that somebody else shares could hand it on), now, and for minutes only.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn check(&self, client_id: &str, issuer: &str, now: Timestamp) -> Result<(), Invalid> {
        let now = now.as_secs();
        if self.iss != client_id || self.sub != client_id {
            return Err(Invalid("iss and sub are not the client"));
        }
        let sole = match &self.aud {
            Audience::One(one) => one == issuer,
            Audience::Several(several) => several.len() == 1 && several[0] == issuer,
        };
        if !sole {
            return Err(Invalid("aud is not the issuer alone"));
        }
        if self.exp <= now.saturating_sub(SKEW) {
            return Err(Invalid("it has expired"));
        }
        if self.exp > now.saturating_add(LONGEST_ASSERTION + SKEW) {
            return Err(Invalid("it is good for more than 5 minutes"));
        }
        let in_future = |at: Option<i64>| at.is_some_and(|at| at > now.saturating_add(SKEW));
        if in_future(self.iat) || in_future(self.nbf) {
            return Err(Invalid("it is not good yet"));
        }
        if self.jti.is_empty() || self.jti.len() > 256 {
            return Err(Invalid("jti is empty or longer than 256 bytes"));
        }
        Ok(())
    }

    /// When nobody would accept it any more: so long its `jti` is kept.
    pub fn forgotten_at(&self) -> Timestamp {
        Timestamp::from_secs(self.exp.saturating_add(2 * SKEW)).unwrap_or(Timestamp(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use josekit::jwk::alg::ec::EcCurve;
    use serde_json::json;

    use super::*;

    const ALL: &[SigningAlgorithm] = &SigningAlgorithm::ALL;

    fn sign(key: &Jwk, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signer = jws::ES256.signer_from_jwk(key).expect("a signer");
        let signature = jws::JwsSigner::sign(&signer, message.as_bytes()).expect("signed");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn key() -> (Jwk, KeySet) {
        let key = Jwk::generate_ec_key(EcCurve::P256).expect("a key");
        let mut public = Value::Object(key.to_public_key().expect("public").as_ref().clone());
        public["kid"] = "one".into();
        (
            key,
            KeySet::parse(&json!({ "keys": [public] })).expect("a set"),
        )
    }

    #[test]
    fn only_a_signature_by_the_clients_key_counts() {
        let (key, set) = key();
        let (other, _) = self::key();
        let check = |token: &str| ForeignJwt::parse(token).is_ok_and(|jwt| set.verifies(&jwt, ALL));
        let claims = json!({ "a": 1 });
        assert!(check(&sign(
            &key,
            &json!({ "alg": "ES256", "kid": "one" }),
            &claims
        )));
        assert!(check(&sign(
            &key,
            &json!({ "alg": "ES256", "typ": "JWT" }),
            &claims
        )));
        assert!(!check(&sign(&other, &json!({ "alg": "ES256" }), &claims)));
        for header in [
            json!({ "alg": "ES256", "kid": "two" }),
            json!({ "alg": "none" }),
            json!({ "alg": "nOnE" }),
            json!({ "alg": "HS256" }),
            json!({ "alg": "RS256" }),
            json!({ "alg": "ES256", "crit": ["b64"], "b64": false }),
            json!({ "alg": "ES256", "jwk": {} }),
            json!({ "alg": "ES256", "jku": "https://evil" }),
            json!({ "alg": "ES256", "zip": "DEF" }),
        ] {
            assert!(!check(&sign(&key, &header, &claims)), "{header}");
        }
        let good = sign(&key, &json!({ "alg": "ES256" }), &claims);
        let (message, _) = good.rsplit_once('.').expect("a signature");
        for bad in [
            format!("{message}."),
            message.to_owned(),
            format!("{good}="),
            format!("{good}.x"),
        ] {
            assert!(!check(&bad), "{bad}");
        }
        let jwt = ForeignJwt::parse(&good).expect("a JWT");
        assert!(
            !set.verifies(&jwt, &[SigningAlgorithm::Rs256]),
            "the algorithm must be allowed"
        );
    }

    #[test]
    fn keys_that_are_private_shared_or_weak_are_refused() {
        let parse = |key: Value| KeySet::parse(&json!({ "keys": [key] })).err();
        let private = Jwk::generate_ec_key(EcCurve::P256).expect("a key");
        assert!(
            parse(Value::Object(private.as_ref().clone()))
                .is_some_and(|why| why.contains("private"))
        );
        assert!(parse(json!({ "kty": "oct", "k": "AAAA" })).is_some());
        let small = Jwk::generate_rsa_key(1024)
            .expect("a key")
            .to_public_key()
            .expect("public");
        assert!(
            parse(Value::Object(small.as_ref().clone())).is_some_and(|why| why.contains("2048"))
        );
        assert!(parse(json!({ "kty": "EC", "crv": "P-521", "x": "", "y": "" })).is_some());
        assert!(KeySet::parse(&json!([])).is_err());
    }

    #[test]
    fn t21_t22_an_assertion_is_for_the_issuer_alone_and_for_minutes() {
        let at = Timestamp::from_secs(1_000).expect("fits");
        let check = |change: Value| {
            let mut claims =
                json!({ "iss": "c", "sub": "c", "aud": "https://i", "exp": 1_200, "jti": "j" });
            for (name, value) in change.as_object().expect("an object") {
                claims[name] = value.clone();
            }
            let claims: Assertion = serde_json::from_value(claims).map_err(|_| Invalid("type"))?;
            claims.check("c", "https://i", at)
        };
        assert_eq!(check(json!({})), Ok(()));
        assert_eq!(check(json!({ "aud": ["https://i"] })), Ok(()));
        for bad in [
            json!({ "aud": "https://i/oauth2/token" }),
            json!({ "aud": ["https://i", "https://other"] }),
            json!({ "aud": [] }),
            json!({ "exp": 1_331 }),
            json!({ "exp": 970 }),
            json!({ "exp": "1200" }),
            json!({ "exp": 1e300 }),
            json!({ "exp": null }),
            json!({ "iat": 1_031 }),
            json!({ "nbf": 1_031 }),
            json!({ "iss": "d" }),
            json!({ "sub": "d" }),
            json!({ "jti": "" }),
            json!({ "jti": null }),
        ] {
            assert!(check(bad.clone()).is_err(), "{bad}");
        }
    }
}

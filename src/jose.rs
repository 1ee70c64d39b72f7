//! JWTs signed by others: clients' assertions (RFC 7523) and request objects (RFC 9101), and the
//! tokens of trusted issuers. josekit verifies
//! signatures; which headers, keys and claims are accepted is decided here.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use josekit::{
    jwk::Jwk,
    jws::{self, JwsVerifier},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::{Map, Value};

use crate::{
    clock::Timestamp,
    ids::ClientId,
    model::key::SigningAlgorithm,
    oauth::{
        access_token::Audience,
        compact_jws::{self, CompactJws},
        jwt::InvalidToken,
    },
};

/// Maximum length of a JWT, in bytes; longer input is rejected unread.
const MAX_LENGTH: usize = 16 * 1024;

/// Maximum number of keys per client.
const MAX_KEYS: usize = 20;

/// Maximum length of one key as JSON, in bytes.
const MAX_KEY_LENGTH: usize = 8 * 1024;

/// Maximum number of keys tried for a JWT without `kid`.
const MAX_CANDIDATES: usize = 5;

/// Accepted clock skew of clients, in seconds.
const CLOCK_SKEW: i64 = 30;

/// Maximum lifetime of an assertion, in seconds.
const MAX_ASSERTION_LIFETIME: i64 = 300;

/// The public keys of a client (RFC 7517 §5) with their verifiers.
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// One per algorithm that the key may be used with.
    verifiers: Vec<(SigningAlgorithm, Box<dyn JwsVerifier>)>,
}

impl KeySet {
    /// Parses a key set. Keys for other purposes are skipped.
    ///
    /// # Errors
    /// Private, symmetric, weak or malformed keys, or too many of them.
    pub fn parse(document: &Value) -> Result<Self, &'static str> {
        let keys = document.get("keys").and_then(Value::as_array);
        let keys =
            keys.ok_or("a JWKS must be a JSON object with an array `keys` (RFC 7517 section 5)")?;
        if keys.len() > MAX_KEYS {
            return Err("the JWKS has more than 20 keys");
        }
        let mut read = vec![];
        for key in keys {
            let members = key.as_object().ok_or("a key is not a JSON object")?;
            if let Some(key) = read_key(members)? {
                read.push(key);
            }
        }
        if read.is_empty() {
            return Err("the JWKS has no key for ES256, RS256, PS256, EdDSA or Ed25519");
        }
        Ok(Self(read))
    }

    /// The set of one key.
    ///
    /// # Errors
    /// A private, symmetric, weak or malformed key, or one for another purpose.
    pub fn of_key(members: &Map<String, Value>) -> Result<Self, &'static str> {
        let key = read_key(members)?;
        let key = key.ok_or("the key is not for ES256, RS256, PS256, EdDSA or Ed25519")?;
        Ok(Self(vec![key]))
    }

    /// Verifies the signature with one of the keys. `only`: the algorithm that the client has
    /// registered, if it has; both names of Ed25519 are one.
    ///
    /// # Errors
    /// Why no key verifies it.
    pub fn verify(
        &self,
        jwt: &ClientJwt<'_>,
        only: Option<SigningAlgorithm>,
    ) -> Result<(), InvalidToken> {
        let Header { alg, kid, .. } = &jwt.header;
        let named = SigningAlgorithm::parse(alg).map(SigningAlgorithm::of_key);
        if named.is_some() && only.is_some_and(|only| Some(only.of_key()) != named) {
            return Err(InvalidToken("`alg` is not the registered one"));
        }
        self.verify_signature(alg, kid.as_deref(), jwt.message, &jwt.signature)
    }

    /// Verifies the signature of a JWS whose header has this `alg` and perhaps this `kid`.
    ///
    /// # Errors
    /// Why no key verifies it.
    pub fn verify_signature(
        &self,
        alg: &str,
        kid: Option<&str>,
        message: &str,
        signature: &[u8],
    ) -> Result<(), InvalidToken> {
        // `none` and HS256 are not supported; the key determines its algorithms (RFC 8725 §3.1).
        let named = SigningAlgorithm::parse(alg).map(SigningAlgorithm::of_key);
        let algorithm = named.ok_or(InvalidToken("`alg` is not supported"))?;
        let of_kid = |key: &&Key| kid.is_none() || key.id.as_deref() == kid;
        let mut keys = self.0.iter().filter(of_kid).peekable();
        if keys.peek().is_none() {
            return Err(InvalidToken("no key of the signer has this `kid`"));
        }
        let mut verifiers = keys
            .filter_map(|key| key.verifiers.iter().find(|(known, _)| *known == algorithm))
            .take(MAX_CANDIDATES)
            .peekable();
        if verifiers.peek().is_none() {
            return Err(InvalidToken("no key of the signer is for this `alg`"));
        }
        let verifies = |(_, verifier): &(SigningAlgorithm, Box<dyn JwsVerifier>)| {
            verifier.verify(message.as_bytes(), signature).is_ok()
        };
        if verifiers.any(verifies) {
            Ok(())
        } else {
            Err(InvalidToken("the signature does not match the signer's key"))
        }
    }
}

fn read_key(members: &Map<String, Value>) -> Result<Option<Key>, &'static str> {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    if serde_json::to_string(members).map_or(0, |json| json.len()) > MAX_KEY_LENGTH {
        return Err("a key is longer than 8192 bytes");
    }
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| members.contains_key(*name))
    {
        return Err(
            "a key is private or symmetric: publish public keys only, and replace this one",
        );
    }
    let algorithms: &[SigningAlgorithm] = match (text("kty"), text("crv")) {
        _ if text("use").is_some_and(|what| what != "sig") => &[],
        (Some("EC"), Some("P-256")) => &[SigningAlgorithm::Es256],
        (Some("RSA"), _) => &[SigningAlgorithm::Rs256, SigningAlgorithm::Ps256],
        (Some("OKP"), Some("Ed25519")) => &[SigningAlgorithm::EdDsa],
        _ => &[],
    };
    let mut algorithms = algorithms
        .iter()
        .filter(|algorithm| {
            let named = |name| SigningAlgorithm::parse(name).map(SigningAlgorithm::of_key);
            text("alg").is_none_or(|only| named(only) == Some(**algorithm))
        })
        .peekable();
    if algorithms.peek().is_none() {
        return Ok(None);
    }
    if text("kty") == Some("RSA") {
        check_rsa(text("n"), text("e"))?;
    }
    let mut plain = members.clone();
    // josekit requires these to match the requested use.
    for name in ["alg", "key_ops", "use", "kid"] {
        plain.remove(name);
    }
    let key = Jwk::from_map(plain).map_err(|_| "malformed key")?;
    let mut verifiers = vec![];
    for algorithm in algorithms {
        let verifier = verifier(*algorithm, &key).map_err(|_| "malformed key")?;
        verifiers.push((*algorithm, verifier));
    }
    let id = text("kid").map(str::to_owned);
    Ok(Some(Key { id, verifiers }))
}

/// Checks the RSA parameters: weak ones allow forgery, and large exponents make verification
/// expensive.
fn check_rsa(n: Option<&str>, e: Option<&str>) -> Result<(), &'static str> {
    // Without leading zeros.
    let number = |text: Option<&str>| {
        let bytes = URL_SAFE_NO_PAD.decode(text.unwrap_or_default()).ok()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Some(bytes[zeros..].to_vec())
    };
    let (modulus, exponent) = number(n).zip(number(e)).ok_or("malformed key")?;
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !(2048..=4096).contains(&bits) {
        return Err("an RSA key must have 2048 to 4096 bits");
    }
    // With exponent 1 a signature equals the message; 65537 is usual.
    let odd = exponent.last().is_some_and(|byte| byte % 2 == 1);
    if !odd || exponent == [1] || exponent.len() > 4 {
        return Err("the exponent of an RSA key must be an odd number from 3 to 4294967295");
    }
    Ok(())
}

/// Builds the verifier of a public key.
///
/// # Errors
/// If the key type does not match the algorithm.
pub fn verifier(
    algorithm: SigningAlgorithm,
    key: &Jwk,
) -> Result<Box<dyn JwsVerifier>, josekit::JoseError> {
    Ok(match algorithm {
        SigningAlgorithm::Es256 => Box::new(jws::ES256.verifier_from_jwk(key)?),
        SigningAlgorithm::Rs256 => Box::new(jws::RS256.verifier_from_jwk(key)?),
        SigningAlgorithm::Ps256 => Box::new(jws::PS256.verifier_from_jwk(key)?),
        SigningAlgorithm::EdDsa | SigningAlgorithm::Ed25519 => {
            Box::new(jws::EdDSA.verifier_from_jwk(key)?)
        }
    })
}

/// A parsed JWT whose signature is not verified yet.
#[derive(Debug)]
pub struct ClientJwt<'a> {
    header: Header,
    message: &'a str,
    signature: Vec<u8>,
    payload: Vec<u8>,
}

/// Unknown members are ignored (RFC 7515 §4), except those that change the meaning of the signature
/// or provide a key.
#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    #[serde(
        rename = "crit",
        alias = "b64",
        alias = "zip",
        alias = "jwk",
        alias = "jku",
        alias = "x5u",
        alias = "x5c",
        default,
        deserialize_with = "refused"
    )]
    _refused: (),
}

/// Rejects the member whatever its value.
fn refused<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    Err(D::Error::custom("unsupported header member"))
}

impl<'a> ClientJwt<'a> {
    /// Parses a compact JWS (RFC 7515 §7.1).
    ///
    /// # Errors
    /// [`InvalidToken`] if it is malformed, too long or has an unsupported header.
    pub fn parse(text: &'a str) -> Result<Self, InvalidToken> {
        const MALFORMED: InvalidToken =
            InvalidToken("the JWT is not a signed JWT in compact serialisation");
        if text.len() > MAX_LENGTH {
            return Err(InvalidToken("the JWT is longer than 16384 bytes"));
        }
        let jws = CompactJws::split(text).ok_or(MALFORMED)?;
        let decode = |part| compact_jws::decode(part).ok_or(MALFORMED);
        let header = serde_json::from_slice(&decode(jws.header)?).map_err(|_| {
            InvalidToken("the JWT header is malformed, or has crit, b64, zip or a key")
        })?;
        let (signature, payload) = (decode(jws.signature)?, decode(jws.payload)?);
        Ok(Self { header, message: jws.signing_input, signature, payload })
    }

    /// The `typ` header, in lower case and without `application/` (RFC 7515 §4.1.9).
    pub fn typ(&self) -> Option<String> {
        let typ = self.header.typ.as_ref()?.to_ascii_lowercase();
        Some(typ.trim_start_matches("application/").to_owned())
    }

    /// The `alg` header. Verify the signature first.
    pub fn algorithm(&self) -> &str {
        &self.header.alg
    }

    /// The claims. Verify the signature first, with [`KeySet::verify`].
    ///
    /// # Errors
    /// If a claim is missing or has the wrong type; dates must be integers within range.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, InvalidToken> {
        serde_json::from_slice(&self.payload)
            .map_err(|_| InvalidToken("a claim is missing or has the wrong type"))
    }

    /// The claims of an assertion, by the rules of [`ClientJwt::claims`].
    ///
    /// # Errors
    /// The first claim that is missing, repeated or of the wrong type; without its value.
    pub fn assertion(&self) -> Result<Assertion, String> {
        let mut payload = serde_json::Deserializer::from_slice(&self.payload);
        let read: Result<Assertion, _> = serde_path_to_error::deserialize(&mut payload);
        let claims = read.map_err(|error| {
            let (path, reason) = (error.path().to_string(), error.inner().to_string());
            // serde's "missing field `exp` at line 1 column 80"
            let named = reason.split('`').nth(1).unwrap_or_default();
            if reason.starts_with("missing field") {
                format!("`{named}` is missing")
            } else if reason.starts_with("duplicate field") {
                format!("`{named}` is repeated")
            } else if path == "." {
                "the claims are not a JSON object".to_owned()
            } else {
                format!("`{path}` has the wrong type")
            }
        })?;
        payload.end().map_err(|_| "the claims are not a JSON object".to_owned())?;
        Ok(claims)
    }
}

/// The claims that every assertion of a client has (RFC 7523 §3).
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
    /// The violated rules, each with the claim that violates it: `iss` is the client, `sub` as the
    /// caller has found it (whether it holds, and its rule), `aud` has nothing but these audiences
    /// (with another one the assertion could be forwarded, RFC 10070), and the lifetime is at most
    /// five minutes.
    pub fn violations(
        &self,
        client_id: &ClientId,
        (right_sub, sub_rule): (bool, &'static str),
        audiences: &[String],
        now: Timestamp,
    ) -> Vec<(&'static str, String)> {
        let now = now.as_secs();
        let named: &[String] = match &self.aud {
            Audience::One(one) => std::slice::from_ref(one),
            Audience::Several(several) => several,
        };
        let is_ours = (1..=audiences.len()).contains(&named.len())
            && named.iter().all(|name| audiences.contains(name));
        let in_future = |at: Option<i64>| at.is_some_and(|at| at > now.saturating_add(CLOCK_SKEW));
        let too_long = self.exp > now.saturating_add(MAX_ASSERTION_LIFETIME + CLOCK_SKEW);
        let rules = [
            ("iss", self.iss == client_id.as_str(), "must be the client_id"),
            ("sub", right_sub, sub_rule),
            ("exp", self.exp > now.saturating_sub(CLOCK_SKEW), "is in the past"),
            ("exp", !too_long, "must be at most 5 minutes in the future"),
            ("iat", !in_future(self.iat), "is in the future"),
            ("nbf", !in_future(self.nbf), "is in the future"),
            ("jti", (1..=256).contains(&self.jti.len()), "must have 1 to 256 bytes"),
        ];
        let broken = rules.into_iter().filter(|(_, holds, _)| !holds);
        let mut found: Vec<_> =
            broken.map(|(claim, _, rule)| (claim, format!("`{claim}` {rule}"))).collect();
        if !is_ours {
            found.push((
                "aud",
                format!("`aud` must be {} and nothing else", audiences.join(" or ")),
            ));
        }
        found
    }

    /// Until when the `jti` is stored: after this time the assertion is expired in any case.
    pub fn retained_until(&self) -> Timestamp {
        Timestamp::from_secs(self.exp.saturating_add(2 * CLOCK_SKEW)).unwrap_or(Timestamp(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use josekit::{
        jwk::alg::{ec::EcCurve, ed::EdCurve},
        jws::JwsSigner,
    };
    use serde_json::json;

    use super::*;

    fn sign(key: &Jwk, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signer = jws::ES256.signer_from_jwk(key).expect("a signer");
        let signature = signer.sign(message.as_bytes()).expect("signed");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn public(key: &Jwk) -> Value {
        Value::Object(key.to_public_key().expect("public").as_ref().clone())
    }

    fn key() -> (Jwk, KeySet) {
        let key = Jwk::generate_ec_key(EcCurve::P256).expect("a key");
        let mut public = public(&key);
        public["kid"] = "one".into();
        (key, KeySet::parse(&json!({ "keys": [public] })).expect("a set"))
    }

    #[test]
    fn only_signatures_by_the_clients_keys_verify() {
        let (key, set) = key();
        let (other, _) = self::key();
        let check =
            |token: &str| ClientJwt::parse(token).is_ok_and(|jwt| set.verify(&jwt, None).is_ok());
        let claims = json!({ "a": 1 });
        assert!(check(&sign(&key, &json!({ "alg": "ES256", "kid": "one" }), &claims)));
        assert!(check(&sign(&key, &json!({ "alg": "ES256", "typ": "JWT" }), &claims)));
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
            json!({ "alg": "ES256", "jku": null }),
            json!({ "alg": "ES256", "x5u": "https://evil" }),
            json!({ "alg": "ES256", "x5c": [] }),
            json!({ "alg": "ES256", "zip": "DEF" }),
        ] {
            assert!(!check(&sign(&key, &header, &claims)), "{header}");
        }
        // What is not understood is ignored (RFC 7515 §4); several libraries name their
        // certificate.
        let header = json!({ "alg": "ES256", "x5t#S256": "AA", "cty": "x", "own": { "a": 1 } });
        assert!(check(&sign(&key, &header, &claims)), "{header}");
        let good = sign(&key, &json!({ "alg": "ES256" }), &claims);
        let (message, _) = good.rsplit_once('.').expect("a signature");
        for bad in
            [format!("{message}."), message.to_owned(), format!("{good}="), format!("{good}.x")]
        {
            assert!(!check(&bad), "{bad}");
        }
        let jwt = ClientJwt::parse(&good).expect("a JWT");
        let only = Some(SigningAlgorithm::Rs256);
        assert!(set.verify(&jwt, only).is_err(), "the algorithm must be the registered one");
    }

    #[test]
    fn private_symmetric_and_weak_keys_are_rejected() {
        let parse = |key: Value| KeySet::parse(&json!({ "keys": [key] })).err();
        let private = Jwk::generate_ec_key(EcCurve::P256).expect("a key");
        assert!(
            parse(Value::Object(private.as_ref().clone()))
                .is_some_and(|why| why.contains("private"))
        );
        assert!(parse(json!({ "kty": "oct", "k": "AAAA" })).is_some());
        let small = Jwk::generate_rsa_key(1024).expect("a key");
        assert!(parse(public(&small)).is_some_and(|why| why.contains("2048")));
        assert!(parse(json!({ "kty": "EC", "crv": "P-521", "x": "", "y": "" })).is_some());
        assert!(KeySet::parse(&json!([])).is_err());
        let mut long = public(&private);
        long["x5c"] = "x".repeat(MAX_KEY_LENGTH).into();
        assert!(parse(long).is_some_and(|why| why.contains("8192")));
        let many = vec![public(&private); MAX_KEYS + 1];
        assert!(KeySet::parse(&json!({ "keys": many })).is_err());
    }

    #[test]
    fn rsa_modulus_and_exponent_are_bounded() {
        let rsa = |n: &[u8], e: &[u8]| {
            let number = |bytes| URL_SAFE_NO_PAD.encode(bytes);
            let key = json!({ "kty": "RSA", "n": number(n), "e": number(e) });
            KeySet::parse(&json!({ "keys": [key] })).map(drop)
        };
        let modulus = |bytes: usize| vec![0xff_u8; bytes];
        let common: &[u8] = &[1, 0, 1];
        for bytes in [256, 384, 512] {
            assert_eq!(rsa(&modulus(bytes), common), Ok(()), "{bytes}");
        }
        assert_eq!(rsa(&[&[0][..], &modulus(512)].concat(), common), Ok(()));
        assert_eq!(rsa(&modulus(256), &[3]), Ok(()));
        // Leading zeros do not count.
        let padded = [vec![0; 156], modulus(100)].concat();
        for weak in [modulus(255), padded, modulus(513), vec![0; 256], vec![]] {
            let why = rsa(&weak, common).expect_err("refused");
            assert!(why.contains("2048"), "{}: {why}", weak.len());
        }
        // With exponent 1 anyone can sign; a large one makes verification as slow as signing.
        for e in [&[][..], &[0], &[1], &[0, 1], &[2], &[1, 0, 0, 0, 1], &[0xff; 255]] {
            let why = rsa(&modulus(256), e).expect_err("refused");
            assert!(why.contains("exponent"), "{e:?}: {why}");
        }
    }

    #[test]
    fn keys_for_other_purposes_are_skipped() {
        let parse = |other: Value| {
            let signs = public(&Jwk::generate_ec_key(EcCurve::P256).expect("a key"));
            KeySet::parse(&json!({ "keys": [other, signs] })).map(|set| set.0.len())
        };
        for other in [
            json!({ "kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB" }),
            json!({ "kty": "RSA", "alg": "RSA-OAEP", "n": "AQAB", "e": "AQAB" }),
            json!({ "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA" }),
            json!({ "kty": "OKP", "crv": "X25519", "x": "AA" }),
            json!({ "kty": "AKP", "pub": "AA" }),
            json!({ "kty": 1 }),
        ] {
            assert_eq!(parse(other.clone()), Ok(1), "{other}");
        }
        assert_eq!(
            KeySet::parse(&json!({ "keys": [{ "kty": "OKP", "crv": "X25519", "x": "AA" }] }))
                .map(drop),
            Err("the JWKS has no key for ES256, RS256, PS256, EdDSA or Ed25519")
        );
        assert!(parse(json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" })).is_err());
    }

    #[test]
    fn each_algorithm_verifies_only_with_its_key_type() {
        let ec = Jwk::generate_ec_key(EcCurve::P256).expect("a key");
        let ed = Jwk::generate_ed_key(EdCurve::Ed25519).expect("a key");
        let rsa = Jwk::generate_rsa_key(2048).expect("a key");
        let signers: [(&str, &Jwk, Box<dyn JwsSigner>); 4] = [
            ("ES256", &ec, Box::new(jws::ES256.signer_from_jwk(&ec).expect("a signer"))),
            ("EdDSA", &ed, Box::new(jws::EdDSA.signer_from_jwk(&ed).expect("a signer"))),
            ("RS256", &rsa, Box::new(jws::RS256.signer_from_jwk(&rsa).expect("a signer"))),
            ("PS256", &rsa, Box::new(jws::PS256.signer_from_jwk(&rsa).expect("a signer"))),
        ];
        let all = [&ec, &ed, &rsa].map(public);
        let set = KeySet::parse(&json!({ "keys": all })).expect("a set");
        for (claimed, key, _) in &signers {
            for (actual, _, signer) in &signers {
                let message =
                    format!("{}.e30", URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"{claimed}\"}}")));
                let signature = signer.sign(message.as_bytes()).expect("signed");
                let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
                let jwt = ClientJwt::parse(&token).expect("a JWT");
                assert_eq!(
                    set.verify(&jwt, None).is_ok(),
                    claimed == actual,
                    "{claimed} by {actual}"
                );
                if claimed == actual {
                    let mut only = public(key);
                    only["alg"] = (*claimed).into();
                    let bound = |alg: &str| {
                        let mut key = only.clone();
                        key["alg"] = alg.into();
                        KeySet::parse(&json!({ "keys": [key] }))
                            .is_ok_and(|set| set.verify(&jwt, None).is_ok())
                    };
                    assert!(bound(claimed));
                    for other in ["ES256", "EdDSA", "RS256", "PS256"] {
                        assert_eq!(bound(other), other == *claimed, "{claimed}, bound to {other}");
                    }
                }
            }
        }
    }

    #[test]
    fn t43_t44_zero_der_and_public_key_hmac_signatures_are_refused() {
        let (key, set) = key();
        let message = {
            let token = sign(&key, &json!({ "alg": "ES256" }), &json!({}));
            token.rsplit_once('.').expect("signed").0.to_owned()
        };
        let verifies = |message: &str, signature: &[u8]| {
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
            ClientJwt::parse(&token).is_ok_and(|jwt| set.verify(&jwt, None).is_ok())
        };
        let signer = jws::ES256.signer_from_jwk(&key).expect("a signer");
        let good = signer.sign(message.as_bytes()).expect("signed");
        assert!(verifies(&message, &good));
        let der = {
            let half = |bytes: &[u8]| {
                let mut number = vec![0];
                number.extend(bytes);
                let zeros =
                    number.windows(2).take_while(|two| two[0] == 0 && two[1] < 0x80).count();
                let number = &number[zeros..];
                [&[2, u8::try_from(number.len()).expect("short")], number].concat()
            };
            let body = [half(&good[..32]), half(&good[32..])].concat();
            [&[0x30, u8::try_from(body.len()).expect("short")], &body[..]].concat()
        };
        for bad in [&der[..], &[0; 64], &good[..63], &[&good[..], &[0]].concat(), &[]] {
            assert!(!verifies(&message, bad), "{} bytes", bad.len());
        }
        let pem = key.to_public_key().expect("public").to_string();
        let hmac = jws::HS256.signer_from_bytes(pem).expect("a signer");
        let message = format!("{}.e30", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#));
        let signature = hmac.sign(message.as_bytes()).expect("signed");
        assert!(!verifies(&message, &signature));
    }

    #[test]
    fn duplicate_header_members_and_long_jwts_are_rejected() {
        let parse = |header: &str| {
            ClientJwt::parse(&format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header))).map(drop)
        };
        assert_eq!(parse(r#"{"alg":"ES256"}"#), Ok(()));
        for bad in [
            r#"{"alg":"ES256","alg":"none"}"#,
            r#"{"alg":"ES256","kid":"a","kid":"b"}"#,
            r#"{"kid":"a"}"#,
            r#"{"alg":["ES256"]}"#,
            r#"{"alg":"ES256","kid":1}"#,
            r#"["ES256"]"#,
            "x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let long = |bytes: usize| format!("eyJhbGciOiJFUzI1NiJ9.{}.AAAA", "AAAA".repeat(bytes / 4));
        assert!(ClientJwt::parse(&long(MAX_LENGTH - 100)).is_ok());
        assert!(ClientJwt::parse(&long(MAX_LENGTH)).is_err());
    }

    #[test]
    fn t48_assertion_dates_must_be_integers_in_range() {
        const VALID: &str =
            r#"{"iss":"c","sub":"c","aud":"i","exp":100,"iat":1,"nbf":1,"jti":"j"}"#;
        let read = |claims: &str| {
            let token = format!("eyJhbGciOiJFUzI1NiJ9.{}.AAAA", URL_SAFE_NO_PAD.encode(claims));
            ClientJwt::parse(&token)?.claims::<Assertion>()
        };
        assert!(read(VALID).is_ok());
        for name in ["exp\":100", "iat\":1", "nbf\":1"] {
            let (key, _) = name.split_once(':').expect("two");
            for bad in [
                "\"100\"",
                "9.3e18",
                "1e300",
                "-1e300",
                "100.5",
                "9223372036854775808",
                "[1]",
                "true",
            ] {
                let claims = VALID.replace(name, &format!("{key}:{bad}"));
                assert!(read(&claims).is_err(), "{claims}");
            }
        }
        for (exp, now) in
            [(i64::MIN, 0), (i64::MAX, 0), (i64::MIN, i64::MAX / 1_000), (i64::MAX, -1)]
        {
            let claims = VALID.replace("100", &exp.to_string());
            let at = Timestamp::from_secs(now).unwrap_or(Timestamp(i64::MAX));
            let violations = read(&claims).expect("numbers").violations(
                &"c".into(),
                (true, ""),
                &["i".to_owned()],
                at,
            );
            assert!(!violations.is_empty(), "{exp} at {now}");
        }
    }

    #[test]
    fn t21_t22_assertion_audience_and_lifetime_are_bounded() {
        let at = Timestamp::from_secs(1_000).expect("fits");
        let check = |change: Value| {
            let mut claims =
                json!({ "iss": "c", "sub": "c", "aud": "https://i", "exp": 1_200, "jti": "j" });
            for (name, value) in change.as_object().expect("an object") {
                claims[name] = value.clone();
            }
            let claims: Assertion = serde_json::from_value(claims).ok()?;
            let sub = (claims.sub == "c", "must be the client_id");
            let found = claims.violations(&"c".into(), sub, &["https://i".to_owned()], at);
            found.is_empty().then_some(())
        };
        assert_eq!(check(json!({})), Some(()));
        assert_eq!(check(json!({ "aud": ["https://i"] })), Some(()));
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
            assert_eq!(check(bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn both_names_of_ed25519_are_one_algorithm() {
        let key = Jwk::generate_ed_key(EdCurve::Ed25519).expect("a key");
        let signer = jws::EdDSA.signer_from_jwk(&key).expect("a signer");
        for named in ["EdDSA", "Ed25519"] {
            let message =
                format!("{}.e30", URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"{named}\"}}")));
            let signature = signer.sign(message.as_bytes()).expect("signed");
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
            let jwt = ClientJwt::parse(&token).expect("a JWT");
            for bound in [None, Some("EdDSA"), Some("Ed25519")] {
                let mut public = public(&key);
                if let Some(bound) = bound {
                    public["alg"] = bound.into();
                }
                let set = KeySet::parse(&json!({ "keys": [public] })).expect("a set");
                for only in [None, Some(SigningAlgorithm::EdDsa), Some(SigningAlgorithm::Ed25519)] {
                    assert_eq!(set.verify(&jwt, only), Ok(()), "{named} {bound:?} {only:?}");
                }
                assert!(set.verify(&jwt, Some(SigningAlgorithm::Es256)).is_err());
            }
        }
    }
}

//! DPoP proofs (RFC 9449): a JWT by which the sender of a request proves that it has the private
//! key that its tokens are bound to. What a proof must say is checked here; that it is accepted
//! once, in `flows::tokens::dpop`.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use url::Url;

use crate::{
    clock::Timestamp,
    jose::KeySet,
    oauth::{
        compact_jws::{self, CompactJws},
        jwt::InvalidToken,
        thumbprint::Thumbprint,
    },
};

/// Maximum length of a proof, in bytes; longer input is rejected unread.
const MAX_LENGTH: usize = 8 * 1024;

/// How old a proof may be, in seconds: clocks of phones are minutes wrong.
const MAX_AGE: i64 = 300;

/// How far in the future a proof may have been made, in seconds.
const CLOCK_SKEW: i64 = 60;

/// A proof whose signature was verified with the key in it.
#[derive(Debug)]
pub struct Proof {
    /// The thumbprint of its key.
    pub key: Thumbprint,
    claims: Claims,
}

/// The claims of a proof (§4.2); others are ignored.
#[derive(Debug, Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: i64,
    ath: Option<String>,
}

/// Unknown members are ignored (RFC 7515 §4), except those that change the meaning of the signature
/// or name another key.
#[derive(Debug, Deserialize)]
struct Header {
    typ: String,
    alg: String,
    jwk: Map<String, Value>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl Proof {
    /// Parses a proof and verifies its signature (§4.3).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        const MALFORMED: InvalidToken = InvalidToken("it is not a signed JWT");
        if text.len() > MAX_LENGTH {
            return Err(InvalidToken("it is longer than 8192 bytes"));
        }
        let jws = CompactJws::split(text).ok_or(MALFORMED)?;
        let decode = |part| compact_jws::decode(part).ok_or(MALFORMED);
        let header: Header = serde_json::from_slice(&decode(jws.header)?)
            .map_err(|_| InvalidToken("its header needs `typ`, `alg` and `jwk`"))?;
        if header.typ != "dpop+jwt" {
            return Err(InvalidToken("`typ` must be `dpop+jwt`"));
        }
        if ["crit", "b64", "zip", "jku", "x5u", "x5c"]
            .iter()
            .any(|name| header.others.contains_key(*name))
        {
            return Err(InvalidToken("its header has crit, b64, zip or a second key"));
        }
        let key = KeySet::of_key(&header.jwk).map_err(InvalidToken)?;
        let signature = decode(jws.signature)?;
        key.verify_signature(&header.alg, None, jws.signing_input, &signature)?;
        let claims = serde_json::from_slice(&decode(jws.payload)?).map_err(|_| {
            InvalidToken("it needs `jti`, `htm`, `htu` as strings and `iat` as an integer")
        })?;
        let key = thumbprint(&header.jwk).ok_or(InvalidToken("malformed key"))?;
        Ok(Self { key, claims })
    }

    /// Checks that it was made for a request with this method (`htm`), URL (`htu`; its query and
    /// fragment do not count) and access token (`ath`), and just now.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(
        &self,
        method: &str,
        url: &str,
        access_token: Option<&str>,
        now: Timestamp,
    ) -> Result<(), InvalidToken> {
        let Claims { jti, htm, htu, iat, ath } = &self.claims;
        let now = now.as_secs();
        if !(1..=256).contains(&jti.len()) {
            return Err(InvalidToken("`jti` must have 1 to 256 bytes"));
        }
        if htm != method {
            return Err(InvalidToken("`htm` is not the method of the request"));
        }
        let here = without_query(url);
        if here.is_none() || without_query(htu) != here {
            return Err(InvalidToken("`htu` is not the URL of the request"));
        }
        if *iat < now.saturating_sub(MAX_AGE) {
            return Err(InvalidToken("`iat` is more than 5 minutes ago"));
        }
        if *iat > now.saturating_add(CLOCK_SKEW) {
            return Err(InvalidToken("`iat` is in the future"));
        }
        let token = access_token.map(|token| {
            let hash: [u8; 32] = Sha256::digest(token).into();
            URL_SAFE_NO_PAD.encode(hash)
        });
        if token.is_some() && *ath != token {
            return Err(InvalidToken("`ath` is not the hash of the access token"));
        }
        Ok(())
    }

    /// The id by which it is accepted once.
    pub fn jti(&self) -> &str {
        &self.claims.jti
    }

    /// Until when the `jti` is stored: after this time the proof is too old in any case.
    pub fn retained_until(&self) -> Timestamp {
        let until = self.claims.iat.saturating_add(MAX_AGE + 1);
        Timestamp::from_secs(until).unwrap_or(Timestamp(i64::MAX))
    }
}

/// The URL by its scheme, host, port and path (§4.3, check 9), normalised (RFC 3986 §6.2.2 and
/// §6.2.3).
fn without_query(url: &str) -> Option<Url> {
    let mut url = Url::parse(url).ok().filter(Url::has_host)?;
    url.set_query(None);
    url.set_fragment(None);
    Some(url)
}

/// The thumbprint of a public key: the hash of its required members in the order of their names
/// (RFC 7638 §3).
fn thumbprint(key: &Map<String, Value>) -> Option<Thumbprint> {
    let required: &[&str] = match key.get("kty")?.as_str()? {
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        "RSA" => &["e", "kty", "n"],
        _ => return None,
    };
    let members = required.iter().map(|name| Some((*name, key.get(*name)?.as_str()?)));
    let members = members.collect::<Option<BTreeMap<_, _>>>()?;
    let json = serde_json::to_vec(&members).ok()?;
    Some(Thumbprint(Sha256::digest(json).into()))
}

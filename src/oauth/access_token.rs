//! Access tokens: JWTs after RFC 9068, written and read by hand. josekit makes and checks the signature;
//! which claims must be there, of which type and with which values, is decided here.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// The header's `typ` (RFC 9068 §2.1): no other kind of token can pass for an access token.
pub const TYPE: &str = "at+jwt";

/// Longer texts are refused unread. Our own tokens are under a tenth of it.
pub const LONGEST: usize = 8 * 1024;

/// How far the clocks of two of our processes may differ, in seconds.
const SKEW: i64 = 30;

/// The claims of an access token (RFC 9068 §2.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    pub iss: String,
    pub sub: String,
    pub aud: Audience,
    /// Seconds since the epoch, as `exp` and `auth_time`.
    pub iat: i64,
    pub exp: i64,
    pub jti: String,
    pub client_id: String,
    pub scope: String,
    /// The session (OpenID Connect Front-Channel Logout §3); absent where a client acts for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
}

/// `aud`: one name or several (RFC 7519 §4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Several(several) => several.iter().any(|one| one == name),
        }
    }
}

/// What the new token shall say, beside what follows from the moment.
#[derive(Debug)]
pub struct Grant<'a> {
    pub issuer: &'a str,
    pub audience: &'a str,
    pub subject: &'a str,
    pub client_id: &'a str,
    pub scope: String,
    pub session: Option<&'a str>,
    pub auth_time: Option<Timestamp>,
    pub email: Option<&'a str>,
    pub role: Option<&'a str>,
}

impl AccessClaims {
    /// The claims of a token issued now.
    pub fn new(grant: Grant<'_>, jti: String, now: Timestamp, ttl: std::time::Duration) -> Self {
        Self {
            iss: grant.issuer.to_owned(),
            sub: grant.subject.to_owned(),
            aud: Audience::One(grant.audience.to_owned()),
            iat: now.as_secs(),
            exp: (now + ttl).as_secs(),
            jti,
            client_id: grant.client_id.to_owned(),
            scope: grant.scope,
            sid: grant.session.map(str::to_owned),
            auth_time: grant.auth_time.map(Timestamp::as_secs),
            email: grant.email.map(str::to_owned),
            role: grant.role.map(str::to_owned),
            nbf: None,
        }
    }

    /// Whether this token may be used here and now.
    ///
    /// # Errors
    /// The first rule it breaks (RFC 9068 §4).
    pub fn check(&self, issuer: &str, audience: &str, now: Timestamp) -> Result<(), Invalid> {
        let now = now.as_secs();
        if self.iss != issuer {
            return Err(Invalid("it was issued by somebody else"));
        }
        if !self.aud.contains(audience) {
            return Err(Invalid("it is meant for somebody else"));
        }
        if self.exp <= now {
            return Err(Invalid("it has expired"));
        }
        if self.iat > now.saturating_add(SKEW)
            || self.nbf.is_some_and(|nbf| nbf > now.saturating_add(SKEW))
        {
            return Err(Invalid("it is not valid yet"));
        }
        if self.sub.is_empty() || self.jti.is_empty() || self.client_id.is_empty() {
            return Err(Invalid("a claim is empty"));
        }
        Ok(())
    }
}

/// Why a token is refused; told to its bearer as `error_description`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);

/// The header of our own tokens and nothing more: `crit`, `jwk`, `jku`, `x5u`, `x5c`, `zip` and whatever
/// else an attacker may add are refused with the rest, and nothing is ever fetched because of a header.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub alg: String,
    pub typ: String,
    pub kid: String,
}

/// A token taken apart; nothing of it is believed yet.
#[derive(Debug)]
pub struct Unverified<'a> {
    pub header: Header,
    /// What was signed: the text before the last dot.
    pub message: &'a str,
    pub signature: Vec<u8>,
    payload: &'a str,
}

impl<'a> Unverified<'a> {
    /// Takes a compact JWS apart (RFC 7515 §7.1).
    ///
    /// # Errors
    /// [`Invalid`] for anything that is not three parts of strict base64url with our header.
    pub fn parse(token: &'a str) -> Result<Self, Invalid> {
        const MALFORMED: Invalid = Invalid("it is not a token of this server");
        if token.len() > LONGEST {
            return Err(MALFORMED);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, payload) = message
            .split_once('.')
            .filter(|(_, payload)| !payload.contains('.'))
            .ok_or(MALFORMED)?;
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| MALFORMED)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| MALFORMED)?;
        if header.typ != TYPE {
            return Err(Invalid("it is not an access token"));
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| MALFORMED)?;
        Ok(Self {
            header,
            message,
            signature,
            payload,
        })
    }

    /// The claims. Call this after the signature was found good.
    ///
    /// # Errors
    /// [`Invalid`] where a claim is missing or of another type: numbers must be whole and fit, never text.
    pub fn claims(&self) -> Result<AccessClaims, Invalid> {
        const MALFORMED: Invalid = Invalid("its claims are not those of an access token");
        let payload = URL_SAFE_NO_PAD
            .decode(self.payload)
            .map_err(|_| MALFORMED)?;
        serde_json::from_slice(&payload).map_err(|_| MALFORMED)
    }
}

/// The encoded header of every token that the key signs, with the dot behind it.
pub fn encoded_header(alg: &str, kid: &str) -> String {
    let header = serde_json::json!({ "alg": alg, "typ": TYPE, "kid": kid }).to_string();
    let mut encoded = URL_SAFE_NO_PAD.encode(header);
    encoded.push('.');
    encoded
}

/// Header and payload as they are signed.
pub fn signing_input(
    encoded_header: &str,
    claims: &AccessClaims,
) -> Result<String, serde_json::Error> {
    let payload = serde_json::to_vec(claims)?;
    let mut message = String::with_capacity(encoded_header.len() + payload.len() * 4 / 3 + 100);
    message.push_str(encoded_header);
    URL_SAFE_NO_PAD.encode_string(payload, &mut message);
    Ok(message)
}

/// Adds the signature to what was signed.
pub fn with_signature(mut message: String, signature: &[u8]) -> String {
    message.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut message);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str) -> Result<AccessClaims, Invalid> {
        let payload = URL_SAFE_NO_PAD.encode(text);
        let header = Header {
            alg: String::new(),
            typ: String::new(),
            kid: String::new(),
        };
        Unverified {
            header,
            message: "",
            signature: vec![],
            payload: &payload,
        }
        .claims()
    }

    const GOOD: &str =
        r#"{"iss":"i","sub":"s","aud":"a","iat":1,"exp":100,"jti":"j","client_id":"c","scope":""}"#;

    #[test]
    fn t48_a_date_is_a_whole_number_that_fits_or_the_token_is_refused() {
        assert!(claims(GOOD).is_ok());
        for bad in [
            "\"100\"",
            "9.3e18",
            "1e300",
            "-1e300",
            "null",
            "100.5",
            "9223372036854775808",
            "[100]",
        ] {
            let text = GOOD.replace("\"exp\":100", &format!("\"exp\":{bad}"));
            assert!(claims(&text).is_err(), "{text}");
            let text = GOOD.replace("\"exp\":100", &format!("\"exp\":100,\"nbf\":{bad}"));
            assert!(claims(&text).is_err() || bad == "null", "{text}");
        }
        for missing in [
            "\"exp\":100,",
            "\"aud\":\"a\",",
            "\"iss\":\"i\",",
            "\"sub\":\"s\",",
        ] {
            assert!(claims(&GOOD.replace(missing, "")).is_err(), "{missing}");
        }
        let negative = claims(&GOOD.replace("100", "-9223372036854775808")).expect("a number");
        assert!(negative.check("i", "a", Timestamp(0)).is_err());
        let huge = claims(&GOOD.replace("100", "9223372036854775807")).expect("a number");
        assert!(
            huge.check("i", "a", Timestamp(i64::MAX)).is_ok(),
            "no arithmetic overflows"
        );
    }

    #[test]
    fn a_token_is_good_only_for_its_issuer_audience_and_time() {
        let token = claims(GOOD).expect("valid");
        let at = |secs| Timestamp::from_secs(secs).expect("fits");
        assert_eq!(token.check("i", "a", at(99)), Ok(()));
        assert!(token.check("x", "a", at(99)).is_err());
        assert!(token.check("i", "x", at(99)).is_err());
        assert!(token.check("i", "a", at(100)).is_err());
        assert!(token.check("i", "a", at(-30)).is_err());
    }

    #[test]
    fn only_our_own_header_is_read() {
        let token = |header: &str| format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header));
        assert!(Unverified::parse(&token(r#"{"alg":"ES256","typ":"at+jwt","kid":"k"}"#)).is_ok());
        for bad in [
            r#"{"alg":"ES256","typ":"JWT","kid":"k"}"#,
            r#"{"alg":"ES256","typ":"at+jwt"}"#,
            r#"{"alg":"ES256","typ":"at+jwt","kid":"k","crit":["x"]}"#,
            r#"{"alg":"ES256","typ":"at+jwt","kid":"k","jku":"https://evil"}"#,
            r#"{"alg":"ES256","alg":"none","typ":"at+jwt","kid":"k"}"#,
        ] {
            assert!(Unverified::parse(&token(bad)).is_err(), "{bad}");
        }
        for bad in [
            "",
            ".",
            "..",
            "...",
            "a.b",
            "a.b.c.d.e",
            &".".repeat(1_000_000),
        ] {
            assert!(Unverified::parse(bad).is_err());
        }
    }
}

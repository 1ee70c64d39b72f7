//! JWTs of ours (RFC 7519): which kinds there are, and how one is put together and taken apart.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longer texts are refused unread. Our own tokens are under a tenth of it.
pub const LONGEST: usize = 8 * 1024;

/// What a token is. The header's `typ` says it, so that no kind can pass for another (RFC 8725 §3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// RFC 9068 §2.1
    Access,
    /// OpenID Connect Core §2
    Id,
    /// OpenID Connect Back-Channel Logout §2.4
    Logout,
    /// RFC 9701 §5
    Introspection,
    /// OpenID Connect Core §5.3.2
    UserInfo,
    /// The whole revocation list at a number (docs/revocation-feed.md).
    Revocations,
}

impl TokenType {
    /// Every kind, each at its own place.
    pub const ALL: [Self; 6] = [
        Self::Access,
        Self::Id,
        Self::Logout,
        Self::Introspection,
        Self::UserInfo,
        Self::Revocations,
    ];

    /// The header's `typ`.
    pub const fn typ(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Id => "JWT",
            Self::Logout => "logout+jwt",
            Self::Introspection => "token-introspection+jwt",
            Self::UserInfo => "userinfo+jwt",
            Self::Revocations => "revocations+jwt",
        }
    }
}

/// Why a token is refused; told to its bearer as `error_description`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidToken(pub &'static str);

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
    /// [`InvalidToken`] for anything that is not three parts of strict base64url with our header for that kind.
    pub fn parse(token: &'a str, kind: TokenType) -> Result<Self, InvalidToken> {
        const MALFORMED: InvalidToken = InvalidToken("it is not a token of this server");
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
        if header.typ != kind.typ() {
            return Err(InvalidToken("it is a token of another kind"));
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| MALFORMED)?;
        Ok(Self { header, message, signature, payload })
    }

    /// The claims. Call this after the signature was found good.
    ///
    /// # Errors
    /// [`InvalidToken`] where a claim is missing or of another type: numbers must be whole and fit, never text.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, InvalidToken> {
        const MALFORMED: InvalidToken = InvalidToken("its claims are not those of such a token");
        let payload = URL_SAFE_NO_PAD.decode(self.payload).map_err(|_| MALFORMED)?;
        serde_json::from_slice(&payload).map_err(|_| MALFORMED)
    }
}

/// The encoded header of every token of a kind that the key signs, with the dot behind it.
pub fn encoded_header(alg: &str, kid: &str, kind: TokenType) -> String {
    let header = serde_json::json!({ "alg": alg, "typ": kind.typ(), "kid": kid }).to_string();
    let mut encoded = URL_SAFE_NO_PAD.encode(header);
    encoded.push('.');
    encoded
}

/// Header and payload as they are signed.
///
/// # Errors
/// Where the claims are no JSON, which is a mistake of ours.
pub fn signing_input(
    encoded_header: &str,
    claims: &impl Serialize,
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

    #[test]
    fn only_our_own_header_is_read() {
        let token = |header: &str| format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header));
        let parse = |token: &str| Unverified::parse(token, TokenType::Access).map(drop);
        assert!(parse(&token(r#"{"alg":"ES256","typ":"at+jwt","kid":"k"}"#)).is_ok());
        for bad in [
            r#"{"alg":"ES256","typ":"JWT","kid":"k"}"#,
            r#"{"alg":"ES256","typ":"at+jwt"}"#,
            r#"{"alg":"ES256","typ":"at+jwt","kid":"k","crit":["x"]}"#,
            r#"{"alg":"ES256","typ":"at+jwt","kid":"k","jku":"https://evil"}"#,
            r#"{"alg":"ES256","alg":"none","typ":"at+jwt","kid":"k"}"#,
        ] {
            assert!(parse(&token(bad)).is_err(), "{bad}");
        }
        for bad in ["", ".", "..", "...", "a.b", "a.b.c.d.e", &".".repeat(1_000_000)] {
            assert!(parse(bad).is_err());
        }
    }
}

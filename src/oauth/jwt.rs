//! JWTs issued by this server (RFC 7519): their types, serialisation and parsing.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::compact_jws::{self, CompactJws};

/// Maximum length of a token, in bytes; longer input is rejected unread. Issued tokens have less
/// than a tenth of it.
pub const MAX_LENGTH: usize = 8 * 1024;

/// The type of a token. It is in the `typ` header, so that no type is accepted as another (RFC 8725
/// §3.11).
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
    /// A snapshot of the revocation list (docs/revocation-feed.md).
    Revocations,
    /// An Identity Assertion JWT Authorization Grant
    /// (draft-ietf-oauth-identity-assertion-authz-grant §3).
    IdJag,
}

impl TokenType {
    /// All types; each is at the index of its discriminant.
    pub const ALL: [Self; 7] = [
        Self::Access,
        Self::Id,
        Self::Logout,
        Self::Introspection,
        Self::UserInfo,
        Self::Revocations,
        Self::IdJag,
    ];

    /// The value of the `typ` header.
    pub const fn typ(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Id => "JWT",
            Self::Logout => "logout+jwt",
            Self::Introspection => "token-introspection+jwt",
            Self::UserInfo => "userinfo+jwt",
            Self::Revocations => "revocations+jwt",
            Self::IdJag => "oauth-id-jag+jwt",
        }
    }
}

/// Why a token is invalid; sent as `error_description`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidToken(pub &'static str);

/// The header of issued tokens. Any other member (`crit`, `jwk`, `jku`, `x5u`, `x5c`, `zip`, …)
/// makes a token invalid, and nothing is ever fetched because of a header.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub alg: String,
    pub typ: String,
    pub kid: String,
}

/// A parsed token whose signature is not verified yet.
#[derive(Debug)]
pub struct Unverified<'a> {
    pub header: Header,
    /// The signing input: the text before the last dot.
    pub message: &'a str,
    pub signature: Vec<u8>,
    payload: &'a str,
}

impl<'a> Unverified<'a> {
    /// Parses a compact JWS (RFC 7515 §7.1).
    ///
    /// # Errors
    /// [`InvalidToken`] unless it has three parts of strict base64url and the header of this type.
    pub fn parse(token: &'a str, kind: TokenType) -> Result<Self, InvalidToken> {
        const MALFORMED: InvalidToken =
            InvalidToken("malformed token, or not issued by this server");
        if token.len() > MAX_LENGTH {
            return Err(MALFORMED);
        }
        let jws = CompactJws::split(token).ok_or(MALFORMED)?;
        let header = compact_jws::decode(jws.header).ok_or(MALFORMED)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| MALFORMED)?;
        if header.typ != kind.typ() {
            return Err(InvalidToken("unexpected token type (`typ`)"));
        }
        let signature = compact_jws::decode(jws.signature).ok_or(MALFORMED)?;
        Ok(Self { header, message: jws.signing_input, signature, payload: jws.payload })
    }

    /// The claims. Verify the signature first.
    ///
    /// # Errors
    /// [`InvalidToken`] if a claim is missing or has the wrong type; dates must be integers within
    /// range.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, InvalidToken> {
        const MALFORMED: InvalidToken = InvalidToken("missing or malformed claims");
        let payload = compact_jws::decode(self.payload).ok_or(MALFORMED)?;
        serde_json::from_slice(&payload).map_err(|_| MALFORMED)
    }
}

/// The encoded header of every token of this type that the key signs, with the trailing dot.
pub fn encoded_header(alg: &str, kid: &str, kind: TokenType) -> String {
    let header = serde_json::json!({ "alg": alg, "typ": kind.typ(), "kid": kid }).to_string();
    let mut encoded = URL_SAFE_NO_PAD.encode(header);
    encoded.push('.');
    encoded
}

/// The signing input: header and payload.
///
/// # Errors
/// If the claims cannot be serialised, which is a bug.
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

/// Appends the signature to the signing input.
pub fn with_signature(mut message: String, signature: &[u8]) -> String {
    message.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut message);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_header_of_issued_tokens_is_accepted() {
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

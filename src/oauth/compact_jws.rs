//! The compact serialization of a JWS (RFC 7515 §7.1), split and not yet verified.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// The parts of a compact JWS, still encoded.
#[derive(Clone, Copy, Debug)]
pub struct CompactJws<'a> {
    /// What was signed: header and payload with the dot between them.
    pub signing_input: &'a str,
    pub header: &'a str,
    pub payload: &'a str,
    pub signature: &'a str,
}

impl<'a> CompactJws<'a> {
    /// Splits a text of exactly three parts; nothing is decoded.
    pub fn split(text: &'a str) -> Option<Self> {
        let (signing_input, signature) = text.rsplit_once('.')?;
        let (header, payload) =
            signing_input.split_once('.').filter(|(_, payload)| !payload.contains('.'))?;
        Some(Self { signing_input, header, payload, signature })
    }
}

/// Decodes one part: base64url without padding, in its canonical encoding.
pub fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compact_jws_has_three_parts() {
        let jws = CompactJws::split("a.b.c").expect("three parts");
        assert_eq!((jws.header, jws.payload, jws.signature), ("a", "b", "c"));
        assert_eq!(jws.signing_input, "a.b");
        assert!(CompactJws::split("..").is_some(), "empty parts are the decoder's to refuse");
        for bad in ["", ".", "a.b", "a.b.c.d", "a.b.c.d.e"] {
            assert!(CompactJws::split(bad).is_none(), "{bad}");
        }
    }
}

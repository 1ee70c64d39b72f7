//! Codes of authenticator apps: TOTP (RFC 6238) with SHA-1, six digits and 30 seconds, the only
//! values that every app supports.

use std::fmt::Write;

use openssl::{hash::MessageDigest, pkey::PKey, sign::Signer};
use qrcode::{Color, EcLevel, QrCode};
use subtle::{Choice, ConstantTimeEq};

use crate::{clock::Timestamp, error::Error};

/// RFC 4226 §4 R6 recommends 160 bits.
pub const SECRET_BYTES: usize = 20;

/// Digits of a code.
pub const DIGITS: usize = 6;

/// Seconds of a time step.
const PERIOD: i64 = 30;

/// The code of a time step (RFC 4226 §5.3).
fn code(secret: &[u8], step: i64) -> Result<[u8; DIGITS], Error> {
    let failed = |error: openssl::error::ErrorStack| Error::Unavailable(error.into());
    let key = PKey::hmac(secret).map_err(failed)?;
    let mut signer = Signer::new(MessageDigest::sha1(), &key).map_err(failed)?;
    let mac = signer.sign_oneshot_to_vec(&step.to_be_bytes()).map_err(failed)?;
    let offset = usize::from(mac.last().copied().unwrap_or_default() & 0xf);
    let word: [u8; 4] = mac
        .get(offset..offset + 4)
        .and_then(|word| word.try_into().ok())
        .ok_or_else(|| Error::Unavailable("an HMAC of an unexpected length".into()))?;
    let mut number = u32::from_be_bytes(word) & 0x7fff_ffff;
    let mut digits = [0; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    Ok(digits)
}

/// The time step whose code this is: the current one, the one before or the one after it (RFC 6238
/// §5.2). Takes the same time for every code.
///
/// # Errors
/// [`Error::Unavailable`].
pub fn matching_step(secret: &[u8], typed: &[u8], now: Timestamp) -> Result<Option<i64>, Error> {
    let current = now.as_secs().div_euclid(PERIOD);
    let mut found = None;
    for step in [current + 1, current - 1, current] {
        let is_same: Choice = code(secret, step)?.ct_eq(typed);
        if is_same.into() {
            found = Some(step);
        }
    }
    Ok(found)
}

/// Base32 without padding (RFC 4648 §6).
pub fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut buffer, mut bits) = (0_u32, 0);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(buffer >> bits) as usize & 31]));
        }
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(buffer << (5 - bits)) as usize & 31]));
    }
    text
}

/// The URI that authenticator apps read from a QR code. Apps show `issuer` and `account`.
pub fn uri(issuer: &str, account: &str, secret: &str) -> String {
    let (issuer, account) = (escaped(issuer), escaped(account));
    format!(
        "otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={PERIOD}"
    )
}

/// Percent-encoded, spaces too: apps show a `+` as one.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            all.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(all, "%{byte:02X}");
        }
        all
    })
}

/// A QR code as SVG, dark on white also in a dark page: one rectangle for each run of modules.
///
/// # Errors
/// [`Error::Unavailable`] if the text is too long.
pub fn qr_svg(text: &str) -> Result<String, Error> {
    /// Modules of the margin (ISO/IEC 18004 §9.1).
    const QUIET: usize = 4;
    let code = QrCode::with_error_correction_level(text, EcLevel::M)
        .map_err(|error| Error::Unavailable(error.to_string().into()))?;
    let width = code.width();
    let colors = code.to_colors();
    let size = width + 2 * QUIET;
    let mut path = String::new();
    for (y, row) in colors.chunks(width).enumerate() {
        let mut x = 0;
        while x < width {
            let run = row[x..].iter().take_while(|color| **color == Color::Dark).count();
            if run > 0 {
                let _ = write!(path, "M{} {}h{run}v1h-{run}z", x + QUIET, y + QUIET);
            }
            x += run.max(1);
        }
    }
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size} {size}\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{size}v{size}H0z\"/><path fill=\"#000\" d=\"{path}\"/></svg>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_match_the_test_vectors_of_rfc_6238() {
        let secret = b"12345678901234567890";
        for (seconds, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let code = code(secret, seconds / PERIOD).expect("a code");
            assert_eq!(std::str::from_utf8(&code), Ok(expected), "{seconds}");
            let at = |seconds| Timestamp::from_secs(seconds).expect("a time");
            for late in [-30, 0, 30] {
                let step = matching_step(secret, &code, at(seconds + late)).expect("checked");
                assert_eq!(step, Some(seconds / PERIOD), "{seconds} {late}");
            }
            assert_eq!(matching_step(secret, &code, at(seconds + 61)).expect("checked"), None);
        }
    }

    #[test]
    fn base32_matches_the_test_vectors_of_rfc_4648() {
        for (text, encoded) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
        ] {
            assert_eq!(base32(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn names_in_the_uri_are_escaped() {
        let uri = uri("A & B", "vera@пример.рф", "MZXW6");
        assert!(uri.starts_with("otpauth://totp/A%20%26%20B:vera%40%D0%BF"), "{uri}");
        assert!(uri.contains("&issuer=A%20%26%20B&"), "{uri}");
        let svg = qr_svg(&uri).expect("a QR code");
        assert!(svg.contains("viewBox") && svg.len() < 20_000, "{}", svg.len());
    }
}

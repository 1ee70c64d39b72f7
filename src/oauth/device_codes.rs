//! The two codes of the device grant (RFC 8628 §3.2). The device keeps the device code, `pdc_` and
//! 32 random bytes; its user types the user code.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

const PREFIX: &str = "pdc_";

/// The letters of user codes (RFC 8628 §6.1): no vowels, so that they form no words, and none that
/// looks like another one.
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// The letters of a user code: 20^8 codes, 34 bits.
const LENGTH: usize = 8;

/// Cyrillic letters that look like letters of [`ALPHABET`], for users with such a keyboard.
const LOOK_ALIKES: [(char, char); 8] = [
    ('В', 'B'),
    ('С', 'C'),
    ('Н', 'H'),
    ('К', 'K'),
    ('М', 'M'),
    ('Р', 'P'),
    ('Т', 'T'),
    ('Х', 'X'),
];

/// The device code with this secret, as sent to the client.
pub fn device_code(secret: [u8; 32]) -> String {
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret))
}

/// How a device code is stored.
pub fn device_code_hash(code: &str) -> [u8; 32] {
    Sha256::digest(code).into()
}

/// A user code in its canonical form: eight letters of the alphabet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCode(String);

impl UserCode {
    /// The user code that random bytes choose; `None` if too many of them are out of range.
    pub fn of(random: &[u8]) -> Option<Self> {
        // 240 of 256 values, so that each letter is equally likely.
        let fair = random.iter().filter(|byte| **byte < 240);
        let letters = fair.map(|byte| char::from(ALPHABET[usize::from(byte % 20)]));
        let code: String = letters.take(LENGTH).collect();
        (code.len() == LENGTH).then_some(Self(code))
    }

    /// Reads what a user typed: in any case, with or without the hyphen and spaces.
    pub fn parse(typed: &str) -> Option<Self> {
        let letters = typed.chars().flat_map(char::to_uppercase);
        let letters = letters.filter(|c| !c.is_whitespace() && !"-‐‑‒–—_.".contains(*c));
        let latin = letters.map(|c| {
            let found = LOOK_ALIKES.iter().find(|(cyrillic, _)| *cyrillic == c);
            found.map_or(c, |(_, latin)| *latin)
        });
        let code: String = latin.take(LENGTH + 1).collect();
        let is_code = code.len() == LENGTH && code.bytes().all(|letter| ALPHABET.contains(&letter));
        is_code.then_some(Self(code))
    }

    /// The stored form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// With the hyphen, as users see it.
    pub fn shown(&self) -> String {
        let (first, second) = self.0.split_at(LENGTH / 2);
        format!("{first}-{second}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_code_is_read_as_users_type_it() {
        let code = UserCode("BCDHKMPX".to_owned());
        assert_eq!(code.shown(), "BCDH-KMPX");
        for typed in [
            "BCDH-KMPX",
            "bcdhkmpx",
            " bcdh kmpx ",
            "BCDH–KMPX",
            "BCDH_KMPX",
            "b-c-d-h-k-m-p-x",
            "ВСDН-КМРХ",
            "всdнкмрх",
        ] {
            assert_eq!(UserCode::parse(typed).as_ref(), Some(&code), "{typed}");
        }
        for bad in ["", "BCDH-KMP", "BCDH-KMPXX", "BCDH-KMPA", "BCDH-KMP0", "BCDH/KMPX", "ＢCDHKMP"]
        {
            assert_eq!(UserCode::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_letter_of_a_user_code_is_equally_likely() {
        let all: Vec<u8> = (0..=255).collect();
        let mut counts = [0; 20];
        for byte in &all {
            let code = UserCode::of(&[*byte; 8]);
            assert_eq!(code.is_some(), *byte < 240, "{byte}");
            if let Some(code) = code {
                let letter = code.as_str().bytes().next();
                counts[ALPHABET.iter().position(|one| Some(*one) == letter).expect("a letter")] +=
                    1;
                assert_eq!(UserCode::parse(&code.shown()), Some(code));
            }
        }
        assert_eq!(counts, [12; 20]);
        assert!(UserCode::of(&[1; 7]).is_none());
    }
}

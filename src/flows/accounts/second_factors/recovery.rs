//! Recovery codes: 80 random bits each, for a user who has lost the other factors.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{app::App, error::Error, ids::UserId};

/// Crockford's alphabet: no letter looks like another or like a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Characters of a code, without hyphens.
pub const LENGTH: usize = 16;

/// New codes, as they are shown: `xxxx-xxxx-xxxx-xxxx`.
pub fn generate(app: &App) -> Vec<String> {
    (0..app.config.second_factors.recovery_codes)
        .map(|_| {
            let random = app.rng.bytes::<LENGTH>();
            let mut code = String::with_capacity(LENGTH + 3);
            for (at, byte) in random.into_iter().enumerate() {
                if at > 0 && at % 4 == 0 {
                    code.push('-');
                }
                // 256 is a multiple of 32: every character is equally likely.
                code.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
            }
            code
        })
        .collect()
}

/// The form in which a code is hashed: lower case, without what a reader may mistake. `None`: this
/// is no code.
pub fn normalized(typed: &str) -> Option<String> {
    let code: String = typed
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '-')
        .map(|c| match c.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            other => other,
        })
        .collect();
    let is_code = code.len() == LENGTH && code.bytes().all(|byte| ALPHABET.contains(&byte));
    is_code.then_some(code)
}

/// How a code is stored. Keyed, so that the database alone allows no guess to be checked.
///
/// # Errors
/// [`Error::Unavailable`] where the key is missing.
pub fn hash(app: &App, user_id: &UserId, code: &str) -> Result<[u8; 32], Error> {
    let key = app.keys.derive("recovery-codes")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key)
        .map_err(|error| Error::Unavailable(error.to_string().into()))?;
    // The code has a fixed length, so it cannot be confused with the id.
    mac.update(code.as_bytes());
    mac.update(user_id.as_bytes());
    Ok(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_a_person_writes_it() {
        let code = normalized("0123-4567 89AB-CDEF").expect("a code");
        assert_eq!(code, "0123456789abcdef");
        assert_eq!(normalized("OI23-4567-89ab-cdef").as_deref(), Some("0123456789abcdef"));
        for other in ["", "123456", "0123456789abcdeu", "0123456789abcdef0"] {
            assert_eq!(normalized(other), None, "{other}");
        }
    }
}

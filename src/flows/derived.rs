//! Values that this server derives instead of storing them: what it sends as a client of another
//! server, and compares when the browser comes back.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{app::App, error::Error};

/// A MAC for this purpose.
///
/// # Errors
/// [`Error::Unavailable`].
pub(crate) fn mac(app: &App, purpose: &str) -> Result<Hmac<Sha256>, Error> {
    let key = app.keys.derive(purpose)?;
    Hmac::new_from_slice(&key).map_err(|error| Error::Unavailable(error.to_string().into()))
}

/// The value that belongs to a `state`, such as the code verifier: 43 characters.
///
/// # Errors
/// [`Error::Unavailable`].
pub(crate) fn text(app: &App, purpose: &str, state: &str) -> Result<String, Error> {
    let mut mac = mac(app, purpose)?;
    mac.update(state.as_bytes());
    Ok(URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

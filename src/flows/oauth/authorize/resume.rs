//! What the pages have settled for a request when it returns to the authorization endpoint: a
//! parameter under a MAC, bound to the request that carries it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{app::App, clock::Timestamp, error::Error, oauth::params::Params};

/// The parameter's name.
pub const PARAMETER: &str = "resume";

/// See the text of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// When the request was first seen: a later login was made for it.
    pub first_seen: Timestamp,
    /// The user confirmed the account that is logged in.
    pub account_selected: bool,
}

impl Resume {
    /// Reads the parameter, if its MAC is valid for this request.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub fn of(app: &App, params: &Params) -> Result<Option<Self>, Error> {
        let Some(given) = params.get(PARAMETER) else {
            return Ok(None);
        };
        let read = || {
            let bytes: [u8; 41] = URL_SAFE_NO_PAD.decode(given).ok()?.try_into().ok()?;
            let (content, tag) = bytes.split_at(9);
            let first_seen = Timestamp(i64::from_be_bytes(content[..8].try_into().ok()?));
            let resume = Self { first_seen, account_selected: content[8] == 1 };
            Some((resume, tag.to_vec()))
        };
        let Some((resume, tag)) = read() else {
            return Ok(None);
        };
        let right = resume.mac(app, params)?.verify_slice(&tag).is_ok();
        Ok(right.then_some(resume))
    }

    /// The request with this parameter instead of an earlier one.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub fn put(self, app: &App, params: &Params) -> Result<Params, Error> {
        let mut bytes = self.content().to_vec();
        bytes.extend_from_slice(&self.mac(app, params)?.finalize().into_bytes());
        Ok(params.without(&[PARAMETER]).with(PARAMETER, URL_SAFE_NO_PAD.encode(bytes)))
    }

    fn content(self) -> [u8; 9] {
        let mut bytes = [0; 9];
        bytes[..8].copy_from_slice(&self.first_seen.0.to_be_bytes());
        bytes[8] = u8::from(self.account_selected);
        bytes
    }

    fn mac(self, app: &App, params: &Params) -> Result<Hmac<Sha256>, Error> {
        let key = app.keys.derive("resume")?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key)
            .map_err(|error| Error::Unavailable(error.to_string().into()))?;
        mac.update(&self.content());
        mac.update(params.without(&[PARAMETER]).encode().as_bytes());
        Ok(mac)
    }
}

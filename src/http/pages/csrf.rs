//! Forms that only our own pages can send: each carries a token bound to a cookie of the browser and to what the form is
//! for. A request that another site made the browser send has neither.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use poem::{
    Request, Response, Result,
    http::{HeaderValue, header},
};
use sha2::Sha256;

use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    credentials::{CookieNames, cookie, same_origin},
    error::Error,
    oauth::params::Params,
};

/// A browser's side of it.
#[derive(Debug)]
pub struct Guard {
    secret: String,
    is_new: bool,
}

impl Guard {
    /// The browser's cookie, or a new one for it.
    pub fn of(app: &App, request: &Request) -> Self {
        let names = CookieNames::of(&app.config);
        let known = cookie(request.headers(), names.csrf).filter(|known| known.len() == 22);
        Self {
            is_new: known.is_none(),
            secret: known.unwrap_or_else(|| URL_SAFE_NO_PAD.encode(app.rng.bytes::<16>())),
        }
    }

    /// The token of a form with this purpose.
    ///
    /// # Errors
    /// Where the server lacks its key.
    pub fn token(&self, app: &App, purpose: &str) -> Result<String> {
        let mac = self.mac(app, purpose)?.finalize().into_bytes();
        Ok(URL_SAFE_NO_PAD.encode(mac))
    }

    /// Gives the browser its cookie with the page.
    pub fn keep(&self, app: &App, mut response: Response) -> Response {
        if self.is_new {
            let value = CookieNames::of(&app.config).csrf_cookie(&self.secret);
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().append(header::SET_COOKIE, value);
            }
        }
        response
    }

    /// Whether a form that was sent is one of ours, for this purpose.
    ///
    /// # Errors
    /// 403 for every other.
    pub fn check(
        &self,
        app: &App,
        request: &Request,
        params: &Params,
        purpose: &str,
    ) -> Result<(), ApiError> {
        same_origin(request.headers(), &app.config)?;
        let given = params.get("csrf").unwrap_or_default();
        let given = URL_SAFE_NO_PAD.decode(given).unwrap_or_default();
        if !self.is_new && self.mac(app, purpose)?.verify_slice(&given).is_ok() {
            return Ok(());
        }
        let message =
            "this form was not opened in this browser as it is logged in now: open its page again";
        Err(ApiError::new(ErrorCode::CrossSite, message))
    }

    fn mac(&self, app: &App, purpose: &str) -> Result<Hmac<Sha256>, ApiError> {
        let key = app.keys.derive("csrf").map_err(Error::from);
        let key = key.map_err(ApiError::from)?;
        let mac = Hmac::<Sha256>::new_from_slice(&key);
        let mut mac = mac.map_err(|_| ApiError::new(ErrorCode::Internal, "no key"))?;
        // The secret has one length: nothing of it can pass for the purpose.
        mac.update(self.secret.as_bytes());
        mac.update(purpose.as_bytes());
        Ok(mac)
    }
}

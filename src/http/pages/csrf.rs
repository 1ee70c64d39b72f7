//! CSRF protection of forms: a token that is an HMAC over a cookie of the browser and the purpose
//! of the form. A request forged by another site has no such token.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use poem::{Request, Response, Result};
use sha2::Sha256;

use super::with_cookies;
use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    credentials::{CookieNames, cookies, require_own_form},
    error::Error,
    oauth::params::Params,
};

/// The CSRF cookie of a browser.
#[derive(Debug)]
pub struct CsrfCookie {
    secret: String,
    /// Further cookies of its name: a form is valid for any of them.
    others: Vec<String>,
    is_new: bool,
}

impl CsrfCookie {
    /// The cookie of the request, or a new one.
    pub fn of(app: &App, request: &Request) -> Self {
        let names = CookieNames::of(&app.config);
        let mut existing = cookies(request.headers(), names.csrf);
        existing.retain(|existing| existing.len() == 22);
        let mut existing = existing.into_iter();
        let secret = existing.next();
        Self {
            is_new: secret.is_none(),
            secret: secret.unwrap_or_else(|| URL_SAFE_NO_PAD.encode(app.rng.bytes::<16>())),
            others: existing.collect(),
        }
    }

    /// The secret, to bind something else to this browser. Send the cookie with [`Self::set_on`].
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The secrets that the browser has sent.
    pub fn known(&self) -> Vec<String> {
        let all = self.others.iter().chain([&self.secret]);
        all.filter(|_| !self.is_new).cloned().collect()
    }

    /// The token of a form with this purpose.
    ///
    /// # Errors
    /// If the derivation key is unavailable.
    pub fn token(&self, app: &App, purpose: &str) -> Result<String> {
        let mac = Self::mac(app, &self.secret, purpose)?.finalize().into_bytes();
        Ok(URL_SAFE_NO_PAD.encode(mac))
    }

    /// Sets the cookie with the page, if it is new.
    pub fn set_on(&self, app: &App, response: Response) -> Response {
        let cookie = self.is_new.then(|| CookieNames::of(&app.config).csrf_cookie(&self.secret));
        with_cookies(response, cookie)
    }

    /// Verifies the `csrf` field of a submitted form.
    ///
    /// # Errors
    /// [`ErrorCode::CrossSite`] (403) if the token is missing or not for this browser and purpose,
    /// or the form was sent by another site.
    pub fn verify(
        &self,
        app: &App,
        request: &Request,
        params: &Params,
        purpose: &str,
    ) -> Result<(), ApiError> {
        require_own_form(request.headers(), &app.config)?;
        let given = params.get("csrf").unwrap_or_default();
        let given = URL_SAFE_NO_PAD.decode(given).unwrap_or_default();
        for secret in self.known() {
            if Self::mac(app, &secret, purpose)?.verify_slice(&given).is_ok() {
                return Ok(());
            }
        }
        let message =
            "the form is not valid for this browser session: reload the page and submit it again";
        Err(ApiError::new(ErrorCode::CrossSite, message))
    }

    fn mac(app: &App, secret: &str, purpose: &str) -> Result<Hmac<Sha256>, ApiError> {
        let key = app.keys.derive("csrf").map_err(Error::from);
        let key = key.map_err(ApiError::from)?;
        let mac = Hmac::<Sha256>::new_from_slice(&key);
        let mut mac = mac.map_err(|_| {
            ApiError::new(ErrorCode::Internal, "the CSRF key has an invalid length")
        })?;
        // The secret has a fixed length, so it cannot be confused with the purpose.
        mac.update(secret.as_bytes());
        mac.update(purpose.as_bytes());
        Ok(mac)
    }
}

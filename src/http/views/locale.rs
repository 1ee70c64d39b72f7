//! Which language a page is in, and the texts that only pages have.

use std::borrow::Cow;

use http::header::ACCEPT_LANGUAGE;
use poem::Request;

pub use crate::branding::locales::Locale;
use crate::{branding::Branding, credentials::cookie, http::context::Context};

/// The cookie that keeps the language chosen by the link of a page. It does not identify the user.
pub const LANGUAGE_COOKIE: &str = "lang";

impl Locale {
    /// The locale for `request`. In order of precedence: the language chosen by the link of a page
    /// (`?lang=`, then its cookie), the first supported one of the client's `ui_locales` (OpenID
    /// Connect Core §3.1.2.1), the best of Accept-Language, the default one.
    pub fn of_request(request: &Request, ui_locales: Option<&str>) -> &'static Self {
        // Only tests have requests without a server.
        let context = Context::of(request).ok();
        let branding = context.map_or_else(Branding::ours, |context| context.app.branding);
        let query = request.uri().query().unwrap_or_default();
        let link = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("lang="))
            .and_then(|tag| branding.offered(tag));
        if link.is_some() {
            return branding.locale(link, true);
        }
        let cookie = || branding.offered(&cookie(request.headers(), LANGUAGE_COOKIE)?);
        let requested = || {
            let mut tags = ui_locales?.split_ascii_whitespace();
            tags.find_map(|tag| branding.offered(tag))
        };
        let header = || {
            let header = request.headers().get(ACCEPT_LANGUAGE)?.to_str().ok()?;
            branding.preferred(header)
        };
        branding.locale(cookie().or_else(requested).or_else(header), false)
    }

    /// What a scope of OpenID Connect (Core §5.4, §11) allows an application; `None` for others.
    pub fn scope(&self, name: &str) -> Option<Cow<'static, str>> {
        let key = match name {
            "openid" => "scope-openid",
            "profile" => "scope-profile",
            "email" => "scope-email",
            "phone" => "scope-phone",
            "address" => "scope-address",
            "offline_access" => "scope-offline_access",
            _ => return None,
        };
        Some(self.get(key))
    }

    /// A validation error of a field in this language. An unknown error is returned unchanged.
    pub fn field_error<'m>(&self, message: &'m str) -> Cow<'m, str> {
        let known = FIELD_ERRORS.iter().find(|(start, _)| message.starts_with(start));
        let Some((_, key)) = known else {
            return Cow::Borrowed(message);
        };
        let digits = |c: &char| c.is_ascii_digit();
        let limit: String = message.chars().skip_while(|c| !digits(c)).take_while(digits).collect();
        match limit.parse::<u32>() {
            Ok(limit) => self.with(key, &[("count", limit)]),
            Err(_) => self.get(key),
        }
    }
}

/// How the validation errors of account fields begin, and the id of the message for each.
const FIELD_ERRORS: [(&str, &str); 33] = [
    ("give an email address", "field-email-missing"),
    ("an email address has at most", "field-email-long"),
    ("an email address has no invisible", "field-email-hidden"),
    ("an email address has no", "field-email-characters"),
    ("an email address has exactly one @", "field-email-at"),
    ("the part before the @", "field-email-local"),
    ("the part after the @", "field-email-domain"),
    ("an account with this email", "field-email-taken"),
    ("addresses of this domain", "field-email-not-allowed"),
    ("must be the address of the invitation", "field-email-invited"),
    ("accept the terms", "field-terms"),
    ("a username has 3 to 32", "field-username-length"),
    ("a username has no invisible", "field-username-hidden"),
    ("a username has at most four", "field-username-marks"),
    ("a username has letters of one script", "field-username-scripts"),
    ("a username has letters", "field-username-characters"),
    ("a username starts", "field-username-start"),
    ("this username is taken", "field-username-taken"),
    ("Use at least", "field-password-short"),
    ("Use at most", "field-password-long"),
    ("Leave out control characters", "field-password-characters"),
    ("This password is on a list", "field-password-listed"),
    ("Do not use your email", "field-password-personal"),
    ("This password is too easy", "field-password-easy"),
    ("Choose a password other", "field-password-same"),
    ("must be a text of at most", "field-profile-text"),
    ("must be an https URL", "field-profile-url"),
    ("must be a date", "field-profile-birthdate"),
    ("must be the name of a time zone", "field-profile-zoneinfo"),
    ("must be a language tag", "field-profile-locale"),
    ("must be a phone number", "field-profile-phone"),
    ("must not exceed", "field-profile-long"),
    ("tick the box", "field-confirm"),
];

#[cfg(test)]
mod tests;

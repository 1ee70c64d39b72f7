//! The texts of the pages: Project Fluent files in `locales/`, compiled in, one set per language.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
};

use fluent_bundle::{FluentArgs, FluentResource, FluentValue, concurrent::FluentBundle};
use http::header::ACCEPT_LANGUAGE;
use poem::Request;

use crate::credentials::cookie;

/// The cookie that keeps the language chosen by the link of a page. It does not identify the user.
pub const LANGUAGE_COOKIE: &str = "lang";

/// The languages of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English, the default.
    English,
    /// Russian.
    Russian,
}

impl Language {
    const ALL: [Self; 2] = [Self::English, Self::Russian];

    /// The language tag (RFC 5646).
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Russian => "ru",
        }
    }

    /// The other language, for the link that switches to it.
    pub const fn other(self) -> Self {
        match self {
            Self::English => Self::Russian,
            Self::Russian => Self::English,
        }
    }

    fn from_tag(tag: &str) -> Option<Self> {
        let primary = tag.split(['-', '_']).next().unwrap_or(tag);
        Self::ALL.into_iter().find(|language| primary.eq_ignore_ascii_case(language.tag()))
    }

    /// The supported language with the highest weight, the first among equals. A weight of 0, or
    /// one that is not a number, excludes a language (RFC 9110 §12.5.4).
    fn preferred(header: &str) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for range in header.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let Some(language) = parts.next().and_then(Self::from_tag) else {
                continue;
            };
            let weight = match parts.find_map(|part| part.strip_prefix("q=")) {
                None => 1.0,
                Some(text) => text.parse::<f32>().unwrap_or(0.0),
            };
            if weight > 0.0 && best.is_none_or(|(found, _)| weight > found) {
                best = Some((weight, language));
            }
        }
        best.map(|(_, language)| language)
    }

    fn files(self) -> [&'static str; 17] {
        match self {
            Self::English => [
                include_str!("../../../locales/en/account.ftl"),
                include_str!("../../../locales/en/admin.ftl"),
                include_str!("../../../locales/en/admin-users.ftl"),
                include_str!("../../../locales/en/admin-operation.ftl"),
                include_str!("../../../locales/en/admin-clients.ftl"),
                include_str!("../../../locales/en/admin-modules.ftl"),
                include_str!("../../../locales/en/common.ftl"),
                include_str!("../../../locales/en/consent.ftl"),
                include_str!("../../../locales/en/device.ftl"),
                include_str!("../../../locales/en/email.ftl"),
                include_str!("../../../locales/en/factors.ftl"),
                include_str!("../../../locales/en/landing.ftl"),
                include_str!("../../../locales/en/mail.ftl"),
                include_str!("../../../locales/en/profile.ftl"),
                include_str!("../../../locales/en/self-service.ftl"),
                include_str!("../../../locales/en/services.ftl"),
                include_str!("../../../locales/en/upstream.ftl"),
            ],
            Self::Russian => [
                include_str!("../../../locales/ru/account.ftl"),
                include_str!("../../../locales/ru/admin.ftl"),
                include_str!("../../../locales/ru/admin-users.ftl"),
                include_str!("../../../locales/ru/admin-operation.ftl"),
                include_str!("../../../locales/ru/admin-clients.ftl"),
                include_str!("../../../locales/ru/admin-modules.ftl"),
                include_str!("../../../locales/ru/common.ftl"),
                include_str!("../../../locales/ru/consent.ftl"),
                include_str!("../../../locales/ru/device.ftl"),
                include_str!("../../../locales/ru/email.ftl"),
                include_str!("../../../locales/ru/factors.ftl"),
                include_str!("../../../locales/ru/landing.ftl"),
                include_str!("../../../locales/ru/mail.ftl"),
                include_str!("../../../locales/ru/profile.ftl"),
                include_str!("../../../locales/ru/self-service.ftl"),
                include_str!("../../../locales/ru/services.ftl"),
                include_str!("../../../locales/ru/upstream.ftl"),
            ],
        }
    }

    fn bundle(self) -> Bundle {
        let mut bundle = Bundle::new_concurrent(vec![self.tag().parse().unwrap_or_default()]);
        for file in self.files() {
            // The valid part of a broken file is better than no page; a test rejects broken files.
            let resource =
                FluentResource::try_new(file.to_owned()).unwrap_or_else(|(resource, _)| resource);
            let added = bundle.add_resource(Arc::new(resource));
            debug_assert!(added.is_ok(), "{added:?}");
        }
        bundle
    }
}

type Bundle = FluentBundle<Arc<FluentResource>>;

static BUNDLES: LazyLock<[Bundle; 2]> = LazyLock::new(|| Language::ALL.map(Language::bundle));

/// The language of a page.
#[derive(Debug)]
pub struct Locale {
    language: Language,
    chosen: bool,
}

static LOCALES: [Locale; 4] = [
    Locale::new(Language::English, false),
    Locale::new(Language::Russian, false),
    Locale::new(Language::English, true),
    Locale::new(Language::Russian, true),
];

impl Locale {
    const fn new(language: Language, chosen: bool) -> Self {
        Self { language, chosen }
    }

    /// Every locale.
    pub const fn all() -> &'static [Self] {
        &LOCALES
    }

    /// The locale in `language`; `chosen` if the user switched to it by the link of a page.
    fn find(language: Language, chosen: bool) -> &'static Self {
        &LOCALES[usize::from(chosen) * Language::ALL.len() + language as usize]
    }

    /// The locale of a language tag; English for an unknown one.
    pub fn of_tag(tag: &str) -> &'static Self {
        Self::find(Language::from_tag(tag).unwrap_or(Language::English), false)
    }

    /// The locale for `request`. In order of precedence: the language chosen by the link of a page
    /// (`?lang=`, then its cookie), the first supported one of the client's `ui_locales` (OpenID
    /// Connect Core §3.1.2.1), the best of Accept-Language, English.
    pub fn of_request(request: &Request, ui_locales: Option<&str>) -> &'static Self {
        let query = request.uri().query().unwrap_or_default();
        let link = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("lang="))
            .and_then(Language::from_tag);
        if let Some(language) = link {
            return Self::find(language, true);
        }
        let cookie = || Language::from_tag(&cookie(request.headers(), LANGUAGE_COOKIE)?);
        let requested = || ui_locales?.split_ascii_whitespace().find_map(Language::from_tag);
        let header = || {
            let header = request.headers().get(ACCEPT_LANGUAGE)?.to_str().ok()?;
            Language::preferred(header)
        };
        let language = cookie().or_else(requested).or_else(header);
        Self::find(language.unwrap_or(Language::English), false)
    }

    /// The language of the texts.
    pub const fn language(&self) -> Language {
        self.language
    }

    /// The language tag (RFC 5646).
    pub const fn tag(&self) -> &'static str {
        self.language.tag()
    }

    /// Whether the user has just switched to this language, so that the cookie must be set.
    pub const fn is_chosen(&self) -> bool {
        self.chosen
    }

    /// The message with the id `key`.
    pub fn get(&self, key: &str) -> Cow<'static, str> {
        self.format(key, None)
    }

    /// The message with the id `key` and its variables. Each value is wrapped in Unicode isolates,
    /// so that the name of an application cannot change the direction of the sentence around it.
    /// Values are not escaped: the template does that.
    pub fn with<'v, V: Clone + Into<FluentValue<'v>>>(
        &self,
        key: &str,
        values: &[(&'v str, V)],
    ) -> Cow<'static, str> {
        let values: FluentArgs<'v> = values.iter().cloned().collect();
        self.format(key, Some(&values))
    }

    /// A text without Unicode isolates, for the title of a document: it is nobody's neighbour, and
    /// bookmarks and windows show isolates as boxes.
    pub fn plain<'t>(&self, text: impl Into<Cow<'t, str>>) -> String {
        text.into().replace(['\u{2068}', '\u{2069}'], "")
    }

    /// The message with the id `key`, if there is one.
    pub fn find_message(&self, key: &str) -> Option<String> {
        BUNDLES[self.language as usize].has_message(key).then(|| self.get(key).into_owned())
    }

    fn format(&self, key: &str, values: Option<&FluentArgs<'_>>) -> Cow<'static, str> {
        let bundle = &BUNDLES[self.language as usize];
        let Some(pattern) = bundle.get_message(key).and_then(|message| message.value()) else {
            debug_assert!(false, "no message {key}");
            return Cow::Owned(key.to_owned());
        };
        let mut errors = vec![];
        let text = bundle.format_pattern(pattern, values, &mut errors);
        debug_assert!(errors.is_empty(), "{key}: {errors:?}");
        text
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

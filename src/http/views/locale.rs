//! The words of our pages: Project Fluent files of `locales/`, compiled in, one set per language.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
};

use fluent_bundle::{FluentArgs, FluentResource, FluentValue, concurrent::FluentBundle};
use http::header::ACCEPT_LANGUAGE;
use poem::Request;

use crate::credentials::cookie;

/// The language somebody chose by the link of a page, so that the next page follows. It says nothing about who they are.
pub const LANGUAGE_COOKIE: &str = "lang";

/// The languages of our pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English, where nothing better is asked for.
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

    /// The other one, for the link that changes it.
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

    /// The first of the highest weights that we have; a weight of 0 or one that is no number excludes (RFC 9110 §12.5.4).
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

    fn files(self) -> [&'static str; 4] {
        match self {
            Self::English => [
                include_str!("../../../locales/en/account.ftl"),
                include_str!("../../../locales/en/common.ftl"),
                include_str!("../../../locales/en/consent.ftl"),
                include_str!("../../../locales/en/landing.ftl"),
            ],
            Self::Russian => [
                include_str!("../../../locales/ru/account.ftl"),
                include_str!("../../../locales/ru/common.ftl"),
                include_str!("../../../locales/ru/consent.ftl"),
                include_str!("../../../locales/ru/landing.ftl"),
            ],
        }
    }

    fn bundle(self) -> Bundle {
        let mut bundle = Bundle::new_concurrent(vec![self.tag().parse().unwrap_or_default()]);
        for file in self.files() {
            // What is left of a broken file is better than no page; a test refuses broken files.
            let words = FluentResource::try_new(file.to_owned()).unwrap_or_else(|(words, _)| words);
            let added = bundle.add_resource(Arc::new(words));
            debug_assert!(added.is_ok(), "{added:?}");
        }
        bundle
    }
}

type Bundle = FluentBundle<Arc<FluentResource>>;

static WORDS: LazyLock<[Bundle; 2]> = LazyLock::new(|| Language::ALL.map(Language::bundle));

/// What a page is written in.
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

    /// All there are.
    pub const fn all() -> &'static [Self] {
        &LOCALES
    }

    /// The locale in `language`; `chosen` where its reader asked for it by a page's link.
    fn find(language: Language, chosen: bool) -> &'static Self {
        &LOCALES[usize::from(chosen) * Language::ALL.len() + language as usize]
    }

    /// The language for whoever sent `request`: the one chosen by the link of a page (`?lang=`, then the cookie that remembers
    /// it), else the first we have of `ui_locales` (OpenID Connect Core §3.1.2.1: the application's wish), else the best of
    /// Accept-Language, else English.
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
        let wish = || ui_locales?.split_ascii_whitespace().find_map(Language::from_tag);
        let header = || {
            let header = request.headers().get(ACCEPT_LANGUAGE)?.to_str().ok()?;
            Language::preferred(header)
        };
        let language = cookie().or_else(wish).or_else(header);
        Self::find(language.unwrap_or(Language::English), false)
    }

    /// The language of the words.
    pub const fn language(&self) -> Language {
        self.language
    }

    /// The language tag (RFC 5646).
    pub const fn tag(&self) -> &'static str {
        self.language.tag()
    }

    /// Whether the reader has just asked for this language, so that it is to be remembered.
    pub const fn is_chosen(&self) -> bool {
        self.chosen
    }

    /// The words under `key`.
    pub fn get(&self, key: &str) -> Cow<'static, str> {
        self.format(key, None)
    }

    /// The words under `key`, with values in them. Each value is wrapped in marks that keep its direction of writing to itself,
    /// so that an application's name cannot turn the sentence around it; the template escapes it.
    pub fn with<'v, V: Clone + Into<FluentValue<'v>>>(
        &self,
        key: &str,
        values: &[(&'v str, V)],
    ) -> Cow<'static, str> {
        let values: FluentArgs<'v> = values.iter().cloned().collect();
        self.format(key, Some(&values))
    }

    fn format(&self, key: &str, values: Option<&FluentArgs<'_>>) -> Cow<'static, str> {
        let bundle = &WORDS[self.language as usize];
        let Some(pattern) = bundle.get_message(key).and_then(|message| message.value()) else {
            debug_assert!(false, "no words under {key}");
            return Cow::Owned(key.to_owned());
        };
        let mut errors = vec![];
        let text = bundle.format_pattern(pattern, values, &mut errors);
        debug_assert!(errors.is_empty(), "{key}: {errors:?}");
        text
    }

    /// What a scope of OpenID Connect (Core §5.4, §11) lets an application do; `None` for any other.
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

    /// A refusal of a field in the reader's words; one that is not known stays as it is.
    pub fn refusal<'m>(&self, message: &'m str) -> Cow<'m, str> {
        let known = REFUSALS.iter().find(|(start, _)| message.starts_with(start));
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

/// How the sentences begin with which the rules of an account refuse a field, and the key of our words for each.
const REFUSALS: [(&str, &str); 16] = [
    ("give an email address", "refusal-email-missing"),
    ("an email address has at most", "refusal-email-long"),
    ("an email address has no", "refusal-email-characters"),
    ("an email address has exactly one @", "refusal-email-at"),
    ("the part before the @", "refusal-email-local"),
    ("the part after the @", "refusal-email-domain"),
    ("an account with this email", "refusal-email-taken"),
    ("a username has 3 to 32", "refusal-username-length"),
    ("a username has letters", "refusal-username-characters"),
    ("a username starts", "refusal-username-start"),
    ("this username is taken", "refusal-username-taken"),
    ("Use at least", "refusal-password-short"),
    ("Use at most", "refusal-password-long"),
    ("This password is on a list", "refusal-password-listed"),
    ("Do not use your email", "refusal-password-personal"),
    ("This password is too easy", "refusal-password-easy"),
];

#[cfg(test)]
mod tests;

//! The languages of the pages: those in `locales/` of this project, compiled in, and those of the
//! operator's folder. Missing messages are shown in English.

use std::{borrow::Cow, collections::BTreeMap, fmt, path::Path, sync::Arc};

use fluent_bundle::{FluentArgs, FluentResource, FluentValue, concurrent::FluentBundle};

use super::{
    Branding,
    folder::{self, LocaleFile},
    messages::{self, BRAND, Messages, OURS},
};

type Bundle = FluentBundle<Arc<FluentResource>>;

/// The message with the name of its language.
const NAME: &str = "language-name";

/// Files of the operator by language tag.
type OwnFiles = BTreeMap<String, Vec<LocaleFile>>;

/// A language of the pages.
pub struct Language {
    /// RFC 5646, in canonical form.
    pub tag: String,
    /// In the language itself.
    pub name: String,
    bundle: Arc<Bundle>,
    /// The ids of messages that are shown in English.
    pub missing: Vec<String>,
    /// The ids of messages that no page shows.
    pub unknown: Vec<String>,
}

impl Language {
    /// A built-in language, one of the operator, or both together.
    fn build(tag: &str, own: &[LocaleFile]) -> Result<Self, Vec<String>> {
        let identifier = tag.parse().ok();
        let mut bundle = Bundle::new_concurrent(identifier.into_iter().collect());
        let canonical = bundle.locales.first().map(ToString::to_string);
        let canonical = canonical.filter(|canonical| !canonical.starts_with("und"));
        if canonical.as_deref() != Some(tag) {
            let how = canonical.map_or_else(
                || "name the folder for one, as in de or pt-BR".to_owned(),
                |canonical| format!("name the folder {canonical}"),
            );
            return Err(vec![format!("locales/{tag}: is not a language tag; {how}")]);
        }
        let ours = OURS.iter().find(|(known, _)| *known == tag).map_or(&[][..], |(_, files)| files);
        for (_, text) in ours {
            bundle.add_resource_overriding(Arc::new(messages::whole(text)));
        }
        let Messages { resources, places } = messages::parse(own)?;
        for resource in resources {
            bundle.add_resource_overriding(Arc::new(resource));
        }
        let known = messages::known();
        let is_message = |name: &&String| !name.starts_with('-');
        let unknown = places.keys().filter(is_message).filter(|id| !known.contains_key(*id));
        let unknown = unknown.cloned().collect();
        let missing = known.keys().filter(|id| !bundle.has_message(id)).cloned().collect();
        // What cannot be seen in a message alone: references in a circle, or to messages with other
        // variables.
        let problems: Vec<String> = places
            .iter()
            .filter_map(|(id, place)| {
                let pattern = bundle.get_message(id)?.value()?;
                let mut values: FluentArgs<'_> = known
                    .get(id)?
                    .iter()
                    .map(|name| (name.as_str(), FluentValue::from(1)))
                    .collect();
                values.set(BRAND, "x");
                let mut errors = vec![];
                bundle.format_pattern(pattern, Some(&values), &mut errors);
                errors.first().map(|error| format!("{place}: {id}: {error}"))
            })
            .collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        let name = bundle.get_message(NAME).and_then(|message| message.value());
        let Some(name) = name else {
            return Err(vec![format!(
                "locales/{tag}: {NAME} is missing: the name of the language for the link to it, \
                 as in {NAME} = Deutsch"
            )]);
        };
        let name = bundle.format_pattern(name, None, &mut vec![]).into_owned();
        Ok(Self { tag: tag.to_owned(), name, bundle: Arc::new(bundle), missing, unknown })
    }

    /// A copy for another list.
    fn share(&self) -> Self {
        Self {
            tag: self.tag.clone(),
            name: self.name.clone(),
            bundle: Arc::clone(&self.bundle),
            missing: self.missing.clone(),
            unknown: self.unknown.clone(),
        }
    }
}

/// English, and all languages: the built-in ones, then the operator's by their tags.
///
/// # Errors
/// Every problem of the operator's files, with file and line.
pub(super) fn languages(own: &OwnFiles) -> Result<(Language, Vec<Language>), String> {
    let ours = OURS.iter().map(|(tag, _)| *tag);
    let others = own.keys().map(String::as_str);
    let others = others.filter(|tag| OURS.iter().all(|(known, _)| known != tag));
    let (mut found, mut problems) = (vec![], vec![]);
    for tag in ours.chain(others) {
        match Language::build(tag, own.get(tag).map_or(&[], Vec::as_slice)) {
            Ok(language) => found.push(language),
            Err(wrong) => problems.extend(wrong),
        }
    }
    match found.first() {
        Some(english) if problems.is_empty() => Ok((english.share(), found)),
        _ => Err(problems.join("\n  ")),
    }
}

/// The languages to offer, in the order in which they are named; all if none is named.
pub(super) fn offered(
    (english, all): (Language, Vec<Language>),
    named: &[String],
) -> Result<(Language, Vec<Language>), String> {
    if named.is_empty() {
        return Ok((english, all));
    }
    let mut offered: Vec<Language> = vec![];
    for tag in named {
        let Some(language) = all.iter().find(|language| language.tag == *tag) else {
            let known: Vec<&str> = all.iter().map(|language| language.tag.as_str()).collect();
            return Err(format!(
                "pages.languages: there is no language {tag}; there are {}",
                known.join(", ")
            ));
        };
        if offered.iter().any(|before| before.tag == *tag) {
            return Err(format!("pages.languages: {tag} is there twice"));
        }
        offered.push(language.share());
    }
    Ok((english, offered))
}

/// A language of a folder, for `propusk locales check`.
#[derive(Debug)]
pub struct Checked {
    pub tag: String,
    /// What keeps the server from starting, with file and line.
    pub problems: Vec<String>,
    /// As in [`Language`].
    pub missing: Vec<String>,
    pub unknown: Vec<String>,
}

/// Checks a folder of languages: one folder for each.
///
/// # Errors
/// Why it cannot be read.
pub fn check(folder: &Path) -> Result<Vec<Checked>, String> {
    let checked = folder::locales(folder)?.into_iter().map(|(tag, files)| {
        match Language::build(&tag, &files) {
            Ok(Language { missing, unknown, .. }) => {
                Checked { tag, problems: vec![], missing, unknown }
            }
            Err(problems) => Checked { tag, problems, missing: vec![], unknown: vec![] },
        }
    });
    Ok(checked.collect())
}

/// The built-in files: language, name and text of each.
pub fn ours() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    OURS.iter().flat_map(|(tag, files)| files.iter().map(|(name, text)| (*tag, *name, *text)))
}

impl Branding {
    /// The language that is offered for a tag of a user or an application: the same one, that of a
    /// shorter tag (RFC 4647 §3.4), or another variety of it.
    pub fn offered(&self, tag: &str) -> Option<usize> {
        if tag.len() > 35 {
            return None;
        }
        let tag = tag.replace('_', "-");
        let same =
            |tag: &str| self.languages.iter().position(|one| one.tag.eq_ignore_ascii_case(tag));
        let mut range = tag.as_str();
        loop {
            if let Some(found) = same(range) {
                return Some(found);
            }
            let Some((shorter, _)) = range.rsplit_once('-') else { break };
            range = shorter;
        }
        let primary = |tag: &str| tag.split('-').next().unwrap_or_default().to_ascii_lowercase();
        let variety = primary(&tag);
        self.languages.iter().position(|one| primary(&one.tag) == variety)
    }

    /// The offered language with the highest weight, the first among equals. A weight of 0, or one
    /// that is not a number, excludes a language (RFC 9110 §12.5.4).
    pub fn preferred(&self, accept_language: &str) -> Option<usize> {
        let mut best: Option<(f32, usize)> = None;
        for range in accept_language.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let Some(language) = parts.next().and_then(|tag| self.offered(tag)) else {
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

    /// The locale of an offered language, else of the default one; `chosen` if the user switched to
    /// it by the link of a page.
    pub fn locale(&'static self, language: Option<usize>, chosen: bool) -> &'static Locale {
        let at = language.unwrap_or(0) + usize::from(chosen) * self.languages.len();
        &self.locales()[at]
    }

    /// The locale of a language tag; the default one for an unknown tag.
    pub fn locale_of_tag(&'static self, tag: &str) -> &'static Locale {
        self.locale(self.offered(tag), false)
    }
}

/// The language of a page.
pub struct Locale {
    branding: &'static Branding,
    language: usize,
    chosen: bool,
}

impl fmt::Debug for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locale({}, chosen: {})", self.tag(), self.chosen)
    }
}

impl Locale {
    pub(super) const fn new(branding: &'static Branding, language: usize, chosen: bool) -> Self {
        Self { branding, language, chosen }
    }

    /// The locales of a deployment without languages of its own.
    pub fn all() -> &'static [Self] {
        Branding::ours().locales()
    }

    fn language(&self) -> &'static Language {
        &self.branding.languages[self.language]
    }

    /// The language tag (RFC 5646).
    pub fn tag(&self) -> &'static str {
        &self.language().tag
    }

    /// Whether the user has just switched to this language, so that the cookie must be set.
    pub const fn is_chosen(&self) -> bool {
        self.chosen
    }

    /// What the page shows beside its texts.
    pub const fn branding(&self) -> &'static Branding {
        self.branding
    }

    /// The tag and the name of every language, and whether it is this one.
    pub fn languages(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        let own = self.language;
        let all = self.branding.languages.iter().enumerate();
        all.map(move |(at, one)| (one.tag.as_str(), one.name.as_str(), at == own))
    }

    /// A fragment of the operator.
    pub fn slot(&self, name: &str) -> Option<&'static str> {
        self.branding.fragment(name, self.tag())
    }

    /// The message with the id `key`.
    pub fn get(&self, key: &str) -> Cow<'static, str> {
        let text = self.format(key, FluentArgs::new());
        // The brand is the only value: it is trusted, and may be in the title of a document.
        if text.contains('\u{2068}') { Cow::Owned(self.plain(text)) } else { text }
    }

    /// The message with the id `key` and its variables. Each value is wrapped in Unicode isolates,
    /// so that the name of an application cannot change the direction of the sentence around it.
    /// Values are not escaped: the template does that.
    pub fn with<'v, V: Clone + Into<FluentValue<'v>>>(
        &self,
        key: &str,
        values: &[(&'v str, V)],
    ) -> Cow<'static, str> {
        self.format(key, values.iter().cloned().collect())
    }

    /// A text without Unicode isolates, for the title of a document: no text is beside it, and
    /// bookmarks and windows show isolates as boxes.
    pub fn plain<'t>(&self, text: impl Into<Cow<'t, str>>) -> String {
        text.into().replace(['\u{2068}', '\u{2069}'], "")
    }

    /// `$brand` is known in every message.
    /// The message with the id `key`, if there is one.
    pub fn find_message(&self, key: &str) -> Option<String> {
        let english = &self.branding.english.bundle;
        english.has_message(key).then(|| self.get(key).into_owned())
    }

    fn format<'v>(&self, key: &str, mut values: FluentArgs<'v>) -> Cow<'static, str> {
        let bundles = [&self.language().bundle, &self.branding.english.bundle];
        let found = bundles
            .into_iter()
            .find_map(|bundle| Some((bundle, bundle.get_message(key)?.value()?)));
        let Some((bundle, pattern)) = found else {
            debug_assert!(false, "no message {key}");
            return Cow::Owned(key.to_owned());
        };
        if values.get(BRAND).is_none() {
            values.set(BRAND, self.branding.brand.as_str());
        }
        let mut errors = vec![];
        let text = bundle.format_pattern(pattern, Some(&values), &mut errors);
        debug_assert!(errors.is_empty(), "{key}: {errors:?}");
        text
    }
}

/// Whether a language is written from right to left: by its script, else by the usual one.
pub(super) fn is_rtl(tag: &str) -> bool {
    const SCRIPTS: [&str; 10] =
        ["Adlm", "Arab", "Hebr", "Mand", "Mend", "Nkoo", "Rohg", "Samr", "Syrc", "Thaa"];
    const LANGUAGES: [&str; 17] = [
        "ar", "arc", "azb", "ckb", "dv", "fa", "glk", "he", "ks", "lrc", "mzn", "nqo", "ps", "sd",
        "ug", "ur", "yi",
    ];
    let mut parts = tag.split('-');
    let language = parts.next().unwrap_or_default();
    match parts.next().filter(|part| part.len() == 4) {
        Some(script) => SCRIPTS.contains(&script),
        None => LANGUAGES.contains(&language),
    }
}

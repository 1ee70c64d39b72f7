//! Branding: the brand, logo, colors and style sheet of a deployment, its HTML fragments and
//! languages, from `[pages]` and its folder. Everything is read and checked once, at start.

mod folder;
mod fragments;
mod images;
pub mod locales;
mod messages;

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{LazyLock, OnceLock},
};

use sha2::{Digest, Sha256};

use self::{
    folder::Folder,
    locales::{Language, Locale},
};
use crate::config::{Config, DEFAULT_TOML, Pages, colors::Palette};

/// The places of pages where fragments of the operator are: files of the folder with these names
/// and `.html`, or `.TAG.html` for one language.
pub const SLOTS: [&str; 7] =
    ["header", "footer", "start", "login-above", "login-below", "register-above", "register-below"];

/// A file of the operator, which this server serves.
pub struct OwnFile {
    /// Contains a fingerprint, so that browsers may cache it forever.
    pub url: String,
    pub media_type: &'static str,
    pub content: Vec<u8>,
}

/// The operator's logo.
#[derive(Clone, Debug)]
pub struct Logo {
    pub url: String,
    /// On dark pages; `None`: the same.
    pub dark: Option<String>,
    /// Whether it is in place of the brand, not beside it.
    pub is_alone: bool,
}

/// The operator's icon of browser tabs.
#[derive(Clone, Debug)]
pub struct Icon {
    pub url: String,
    pub media_type: &'static str,
}

/// What the pages of one server show beside their texts. It lives as long as the process: locales,
/// which refer to it, are in every view.
pub struct Branding {
    pub brand: String,
    pub logo: Option<Logo>,
    pub icon: Option<Icon>,
    /// The URL of the operator's style sheet.
    pub style_sheet: Option<String>,
    /// The colors of mails.
    pub mail_colors: Palette,
    /// All files of the operator that pages load.
    pub files: Vec<OwnFile>,
    /// By the name of the slot, and by that with a language tag: `footer.ru`.
    fragments: BTreeMap<String, String>,
    /// The languages that are offered, the default first.
    languages: Vec<Language>,
    /// For messages that a language lacks.
    english: Language,
    locales: OnceLock<Vec<Locale>>,
}

impl Branding {
    /// Reads the settings and the files that they name.
    ///
    /// A deployment without settings of its own shares [`Branding::ours`]. Any other one is kept
    /// until the process ends: a process has one server.
    ///
    /// # Errors
    /// What is wrong with the files, and in which line.
    pub fn load(config: &Config) -> Result<&'static Self, String> {
        let pages = &config.pages;
        let is_ours = pages.own_brand().is_none()
            && [&pages.logo, &pages.icon, &pages.folder].iter().all(|path| path.is_none())
            && pages.languages.is_empty()
            && !pages.has_own_colors();
        if is_ours {
            return Ok(Self::ours());
        }
        let branding = Self::build(pages)?.keep();
        let language = &config.mail.language;
        if branding.offered(language).is_none() && !config.is_default("mail.language") {
            let known: Vec<_> = branding.tags().collect();
            return Err(format!("mail.language: must be one of {}", known.join(", ")));
        }
        Ok(branding)
    }

    /// The branding of a deployment without settings of its own.
    pub fn ours() -> &'static Self {
        static OURS: LazyLock<&'static Branding> = LazyLock::new(|| {
            #[derive(serde::Deserialize)]
            struct Defaults {
                pages: Pages,
            }
            // A test loads the defaults; there are no files in them.
            let defaults: Defaults = toml::from_str(DEFAULT_TOML).expect("valid defaults");
            Branding::build(&defaults.pages).expect("our texts are whole").keep()
        });
        *OURS
    }

    fn keep(self) -> &'static Self {
        let kept: &'static Self = Box::leak(Box::new(self));
        let of = |chosen| (0..kept.languages.len()).map(move |at| Locale::new(kept, at, chosen));
        kept.locales.get_or_init(|| of(false).chain(of(true)).collect());
        kept
    }

    fn build(pages: &Pages) -> Result<Self, String> {
        let mut files = vec![];
        let logo = match &pages.logo {
            None => None,
            Some(path) => {
                let url = add_image(&mut files, "pages.logo", "logo", path)?.url;
                let dark = pages.logo_dark.as_ref();
                let dark = dark.map(|path| add_image(&mut files, "pages.logo_dark", "logo", path));
                let dark = dark.transpose()?.map(|icon| icon.url);
                Some(Logo { url, dark, is_alone: !pages.brand_beside_logo })
            }
        };
        let icon = pages.icon.as_ref();
        let icon =
            icon.map(|path| add_image(&mut files, "pages.icon", "icon", path)).transpose()?;
        let folder = match &pages.folder {
            None => Folder::default(),
            Some(path) => Folder::read(path).map_err(|why| format!("pages.folder: {why}"))?,
        };
        let mut style = String::new();
        if pages.has_own_colors() {
            let [light, dark] = pages.palettes().map(|palette| palette.css());
            style = format!(
                ":root {{\n{light}}}\n@media (prefers-color-scheme: dark) {{\n:root {{\n{dark}}}\n}}\n"
            );
        }
        style.push_str(&folder.style_sheet);
        let style_sheet = (!style.is_empty()).then(|| {
            add(&mut files, "style", "css", "text/css; charset=utf-8", style.into_bytes())
        });
        let (english, languages) = locales::languages(&folder.locales)
            .and_then(|all| locales::offered(all, &pages.languages))?;
        for (name, file) in &folder.fragment_languages {
            if !languages.iter().any(|language| language.tag == *name) {
                return Err(format!("pages.folder: {file}: there is no language {name}"));
            }
        }
        let [mail_colors, _] = pages.palettes();
        Ok(Self {
            brand: pages.brand.trim().to_owned(),
            logo,
            icon,
            style_sheet,
            mail_colors,
            files,
            fragments: folder.fragments,
            languages,
            english,
            locales: OnceLock::new(),
        })
    }

    /// Every locale: each language as it is found, then each as it was chosen by a link.
    pub fn locales(&self) -> &[Locale] {
        self.locales.get().map_or(&[], Vec::as_slice)
    }

    /// The tags of all languages, the default first.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.languages.iter().map(|language| language.tag.as_str())
    }

    /// Whether the texts of a language run from right to left.
    #[allow(clippy::unused_self)] // for the templates
    pub fn is_rtl(&self, tag: &str) -> bool {
        locales::is_rtl(tag)
    }

    /// A fragment of the operator for a page in a language.
    pub fn fragment(&self, slot: &str, tag: &str) -> Option<&str> {
        debug_assert!(SLOTS.contains(&slot), "no slot {slot}");
        let own = self.fragments.get(&format!("{slot}.{tag}"));
        own.or_else(|| self.fragments.get(slot)).map(String::as_str)
    }

    /// Logs what the languages of the operator lack.
    pub fn report(&self) {
        for Language { tag, missing, unknown, .. } in &self.languages {
            if !missing.is_empty() {
                tracing::info!(
                    language = tag,
                    missing = missing.len(),
                    "messages are not translated: they are shown in English"
                );
                tracing::debug!(language = tag, messages = missing.join(" "), "not translated");
            }
            if !unknown.is_empty() {
                let messages = unknown.join(" ");
                tracing::warn!(language = tag, messages, "unknown messages have no effect");
            }
        }
    }
}

impl fmt::Debug for Branding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Branding({})", self.brand)
    }
}

/// Adds a file; returns its URL.
fn add(
    files: &mut Vec<OwnFile>,
    name: &str,
    extension: &str,
    media_type: &'static str,
    content: Vec<u8>,
) -> String {
    let url = format!("/assets/own-{name}-{}.{extension}", fingerprint(&content));
    // A logo may be the icon, too; a route is added once.
    if !files.iter().any(|file| file.url == url) {
        files.push(OwnFile { url: url.clone(), media_type, content });
    }
    url
}

fn add_image(
    files: &mut Vec<OwnFile>,
    setting: &str,
    name: &str,
    path: &Path,
) -> Result<Icon, String> {
    let image = images::read(path, name == "icon")
        .map_err(|why| format!("{setting}: {}: {why}", path.display()))?;
    let url = add(files, name, image.extension, image.media_type, image.content);
    Ok(Icon { url, media_type: image.media_type })
}

/// The first 64 bits of SHA-256 in hexadecimal: enough to distinguish versions of one file.
pub fn fingerprint(content: &[u8]) -> String {
    Sha256::digest(content)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

//! The look and the languages of the pages.

use std::path::PathBuf;

use serde::Deserialize;

use super::{
    Config,
    colors::{self, Palette},
    empty_is_none,
};

/// `[pages]`; `crate::branding` reads the files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pages {
    /// Who operates this deployment; empty: not shown.
    pub operator: String,
    /// The name of this service.
    pub brand: String,
    /// An SVG or PNG file in place of the built-in logo.
    #[serde(deserialize_with = "empty_is_none")]
    pub logo: Option<PathBuf>,
    /// `None`: as on light pages.
    #[serde(deserialize_with = "empty_is_none")]
    pub logo_dark: Option<PathBuf>,
    /// Whether the brand is written beside the logo.
    pub brand_beside_logo: bool,
    /// The icon of browser tabs.
    #[serde(deserialize_with = "empty_is_none")]
    pub icon: Option<PathBuf>,
    /// With a style sheet, fragments and languages of the operator.
    #[serde(deserialize_with = "empty_is_none")]
    pub folder: Option<PathBuf>,
    /// The languages to offer, the default first; empty: all.
    pub languages: Vec<String>,
    pub colors: Colors,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Colors {
    pub light: SchemeColors,
    pub dark: SchemeColors,
}

/// Colors as `#rrggbb`; empty: the built-in ones, or derived from the others.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemeColors {
    pub accent: String,
    pub background: String,
    pub surface: String,
    pub text: String,
}

/// The brand of a deployment that has none of its own.
const OUR_BRAND: &str = "Propusk";

impl Pages {
    /// The brand, unless it is the default.
    pub fn own_brand(&self) -> Option<&str> {
        Some(self.brand.as_str()).filter(|brand| *brand != OUR_BRAND)
    }

    /// Whether any color is the operator's.
    pub fn has_own_colors(&self) -> bool {
        let is_set = |of: &SchemeColors| {
            [&of.accent, &of.background, &of.surface, &of.text].iter().any(|text| !text.is_empty())
        };
        is_set(&self.colors.light) || is_set(&self.colors.dark)
    }

    /// The colors of the light and of the dark scheme.
    pub fn palettes(&self) -> [Palette; 2] {
        colors::palettes(&self.colors.light, &self.colors.dark)
    }
}

/// What is wrong with a name of this service, if anything is.
pub(super) fn brand_problem(brand: &str) -> Option<String> {
    let is_fine = (1..=60).contains(&brand.trim().chars().count())
        && brand.chars().count() <= 60
        && !brand.contains(char::is_control);
    (!is_fine).then(|| "must have 1 to 60 characters on one line".to_owned())
}

pub(super) fn problems(config: &Config) -> Vec<(String, String)> {
    let pages = &config.pages;
    let mut found: Vec<(String, String)> = vec![];
    let mut wrong = |key: &str, problem: String| found.push((format!("pages.{key}"), problem));
    if pages.operator.chars().count() > 100 || pages.operator.contains(char::is_control) {
        wrong("operator", "must be at most 100 characters, without control characters".to_owned());
    }
    if let Some(problem) = brand_problem(&pages.brand) {
        wrong("brand", problem);
    }
    for (key, file) in
        [("logo", &pages.logo), ("logo_dark", &pages.logo_dark), ("icon", &pages.icon)]
    {
        if let Some(path) = file.as_ref().filter(|path| !path.is_file()) {
            wrong(key, format!("file not found: {}; name an SVG or PNG file", path.display()));
        }
    }
    if pages.logo_dark.is_some() && pages.logo.is_none() {
        wrong("logo_dark", "is in place of pages.logo on dark pages: set that, too".to_owned());
    }
    if let Some(path) = pages.folder.as_ref().filter(|path| !path.is_dir()) {
        wrong("folder", format!("folder not found: {}; name an existing folder", path.display()));
    }
    for (scheme, name, problem) in colors::problems(&pages.colors.light, &pages.colors.dark) {
        wrong(&format!("colors.{scheme}.{name}"), problem);
    }
    found
}

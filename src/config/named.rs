//! Sections whose names are the operator's, such as `[services.NAME]`. Their defaults are in code,
//! once for all of them.

use std::collections::BTreeMap;

use toml::Value;

use super::load::{PREFIX, Setting, Source};

/// A key, and what is wrong with its value and how to fix it.
pub(super) type Problem = (String, String);

/// What both a variable and a path can contain.
const NAME_RULE: &str = "must be 1 to 32 of a-z, 0-9 and _, begin with a letter, and have no `__`";

/// The sections below one name.
pub(super) struct NamedSection {
    pub name: &'static str,
    /// TOML: every key of a section with its default; `config.default.toml` explains them.
    pub keys: &'static str,
    /// The sections within each: the name that they are below, and their keys.
    pub nested: Option<(&'static str, &'static str)>,
    /// The keys whose values are never shown.
    pub secret: &'static [&'static str],
}

/// Every such section.
pub(super) const ALL: [&NamedSection; 2] = [&super::services::NAMED, &super::upstream::NAMED];

impl NamedSection {
    /// The settings of the section that this key would be in, where they are not known yet. `path`:
    /// the names below the section's.
    ///
    /// # Errors
    /// Which name is not allowed.
    pub fn defaults_for(&self, path: &[&str]) -> Result<Vec<(String, Setting)>, String> {
        let mut found = vec![];
        let mut add = |section: String, text: &str| {
            let table: toml::Table = toml::from_str(text).unwrap_or_default();
            found.extend(table.into_iter().map(|(name, value)| {
                (format!("{section}.{name}"), Setting { value, source: Source::Default })
            }));
        };
        let Some(&first) = path.first() else {
            return Ok(vec![]);
        };
        check_name(first)?;
        add(format!("{}.{first}", self.name), self.keys);
        if let (Some((below, keys)), [given, second, ..]) = (self.nested, &path[1..])
            && *given == below
        {
            check_name(second)?;
            add(format!("{}.{first}.{below}.{second}", self.name), keys);
        }
        Ok(found)
    }

    /// The names below this section in a variable: `PROPUSK_SERVICES__CRM__TOKEN_URL` has `crm` and
    /// `token_url`.
    pub fn path_of_variable(&self, name: &str) -> Option<Vec<String>> {
        let rest = name.strip_prefix(PREFIX)?.strip_prefix(&self.name.to_uppercase())?;
        let rest = rest.strip_prefix("__")?;
        Some(rest.to_ascii_lowercase().split("__").map(str::to_owned).collect())
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = (1..=32).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !name.contains("__")
        && !name.ends_with('_');
    if fits { Ok(()) } else { Err(format!("the name `{name}` {NAME_RULE}")) }
}

/// Whether messages must not have the value of this key.
pub(super) fn is_secret(key: &str) -> bool {
    let mut names = key.split('.');
    let section = names.next().and_then(section_of);
    section.is_some_and(|section| names.nth(1).is_some_and(|name| section.secret.contains(&name)))
        && names.next().is_none()
}

/// A table written as a variable: `customer={sub},kind=short`.
pub(super) fn table_of_text(text: &str) -> Option<toml::Table> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name.trim().to_owned(), Value::String(value.trim().to_owned())))
        })
        .collect()
}

/// These sections, as `config show` prints them.
pub(super) fn render(settings: &BTreeMap<String, Setting>, out: &mut String) {
    // By section: a nested section's keys lie between those of its own.
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    let is_named = |key: &str| key.split('.').next().is_some_and(|name| section_of(name).is_some());
    for (key, setting) in settings.iter().filter(|(key, _)| is_named(key)) {
        let Some((section, name)) = key.rsplit_once('.') else { continue };
        let is_masked = is_secret(key) && setting.value.as_str() != Some("");
        let value = if is_masked { Value::String("***".to_owned()) } else { setting.value.clone() };
        let source = setting.source.to_string().replace(char::is_control, " ");
        let lines = sections.entry(section).or_default();
        lines.push_str(&format!("{name} = {value}  # {source}\n"));
    }
    for (section, lines) in sections {
        out.push_str(&format!("\n[{section}]\n{lines}"));
    }
}

/// The section of that name.
pub(super) fn section_of(name: &str) -> Option<&'static NamedSection> {
    ALL.into_iter().find(|section| section.name == name)
}

//! Scopes in words, on pages and in the JSON API.

use super::views::{Locale, ScopeLine};
use crate::{app::App, error::Error, oauth::scope::Scope};

/// Scopes as a page shows them. `resources`: what they are for; empty: this server's own API.
/// `known`: what the user has granted before.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn lines(
    app: &App,
    t: &Locale,
    requested: &Scope,
    resources: &[String],
    known: &Scope,
) -> Result<Vec<ScopeLine>, Error> {
    let catalogue = app.directory.catalogue(&app.db).await?;
    let line = |name: &str| {
        let mut modules = catalogue.modules_with(name);
        let module = modules.find(|module| module.is_for(resources));
        ScopeLine {
            name: name.to_owned(),
            module: module.map(|module| module.name(t.tag()).to_owned()),
            text: catalogue
                .describe(name, t.tag())
                .or_else(|| Some(module?.description(t.tag())))
                .filter(|text| !text.is_empty())
                .map(str::to_owned),
            known: known.contains(name),
        }
    };
    Ok(requested.iter().map(line).collect())
}

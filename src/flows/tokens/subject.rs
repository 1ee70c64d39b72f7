//! Subject identifiers (OpenID Connect Core §8): the user's id, or, for clients that registered
//! `pairwise`, an identifier that only clients of one sector share.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use url::Url;

use crate::{
    app::App,
    error::Error,
    model::client::{Client, Metadata, SubjectType},
    oauth::redirect_uri,
};

/// The `sub` of a user for a client.
///
/// # Errors
/// [`Error::Unavailable`] where the key is missing.
pub fn subject(app: &App, client: &Client, user_id: &str) -> Result<String, Error> {
    if client.metadata.subject_type == SubjectType::Public {
        return Ok(user_id.to_owned());
    }
    let key = app.keys.derive("pairwise")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key)
        .map_err(|error| Error::Unavailable(error.to_string().into()))?;
    let sector = sector(client);
    // The length keeps ("a", "bc") and ("ab", "c") apart.
    mac.update(&(sector.len() as u64).to_be_bytes());
    mac.update(sector.as_bytes());
    mac.update(user_id.as_bytes());
    Ok(URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// The client's sector (§8.1): the host of its sector identifier, else of its redirect URIs. Without
/// one the client is a sector of its own, which no host can be named like.
fn sector(client: &Client) -> String {
    let named = client.metadata.sector_identifier_uri.as_deref();
    let host = match named {
        Some(uri) => Url::parse(uri).ok().and_then(|url| url.host_str().map(str::to_owned)),
        None => {
            let mut hosts = hosts(&client.metadata);
            hosts.pop_first().filter(|_| hosts.is_empty()).flatten()
        }
    };
    host.unwrap_or_else(|| format!("client:{}", client.id))
}

/// The hosts of a client's redirect URIs; `None` stands for those on the user's own device, with a
/// private-use scheme or on loopback: nobody owns them, so they prove no sector. More than one
/// requires a `sector_identifier_uri`.
pub fn hosts(metadata: &Metadata) -> BTreeSet<Option<String>> {
    let of_web = |uri: &String| {
        let url = Url::parse(uri).ok()?;
        let is_web = url.scheme() == "https" && !redirect_uri::is_loopback(&url);
        url.host_str().filter(|_| is_web).map(str::to_owned)
    };
    metadata.redirect_uris.iter().map(of_web).collect()
}

//! Subject identifiers (OpenID Connect Core §8): the user's id, or, for clients that registered
//! `pairwise`, an identifier that only clients of one sector share.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use url::Url;

use crate::{
    app::App,
    error::Error,
    model::client::{Client, SubjectType},
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

/// The host of a client's sector identifier (§8.1).
fn sector(client: &Client) -> String {
    let metadata = &client.metadata;
    let named = metadata.sector_identifier_uri.as_ref().or(metadata.redirect_uris.first());
    named
        .and_then(|uri| Url::parse(uri).ok())
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_else(|| client.id.clone())
}

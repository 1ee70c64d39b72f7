//! Subject identifiers (OpenID Connect Core §8): the user's id, or, for clients that registered
//! `pairwise`, an identifier that only clients of one sector share. The user of a back end has one in
//! the back end's namespace.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use url::Url;

use crate::{
    app::App,
    error::Error,
    ids::UserId,
    model::client::{Client, Metadata, SubjectType},
    oauth::redirect_uri,
};

/// The `sub` of a user for a client.
///
/// # Errors
/// [`Error::Unavailable`] where the key is missing.
pub fn subject(app: &App, client: &Client, user_id: &UserId) -> Result<String, Error> {
    if client.metadata.subject_type == SubjectType::Public {
        return Ok(user_id.as_str().to_owned());
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

/// The longest `sub` (OpenID Connect Core §2), in ASCII characters.
const LONGEST: usize = 255;

/// The `sub` of a user whom a back end keeps: the client's `subject_namespace`, a colon, and the
/// back end's own id. Where that is no `sub` (Core §2: at most 255 ASCII characters), base64url of
/// its SHA-256. A user's id has no colon and another length, nor has the id of a registered client
/// a colon; no namespace contains one. So no account, client or other back end has this `sub`.
pub fn external(namespace: &str, id: &str) -> String {
    let plain = format!("{namespace}:{id}");
    if plain.is_ascii() && plain.len() <= LONGEST {
        return plain;
    }
    URL_SAFE_NO_PAD.encode(Sha256::digest(plain))
}

/// Whether [`external`] can have made this `sub`.
pub fn is_external(sub: &str) -> bool {
    match sub.split_once(':') {
        Some((namespace, id)) => {
            is_namespace(namespace)
                && !id.is_empty()
                && sub.len() <= LONGEST
                && sub.bytes().all(|b| (0x20..=0x7e).contains(&b))
        }
        None => sub.len() == 43 && URL_SAFE_NO_PAD.decode(sub).is_ok(),
    }
}

/// The rule of [`is_namespace`].
pub const NAMESPACE_RULE: &str =
    "must be 1 to 32 of a-z, 0-9 and -, and not http or https, with which client ids begin";

/// Whether a client can have this `subject_namespace`.
pub fn is_namespace(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !matches!(text, "http" | "https")
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

//! Client ID metadata documents (draft-ietf-oauth-client-id-metadata-document): the id of such a
//! client is an https URL, which serves its metadata. The document is cached in memory and stored
//! once a user uses the client.

use std::{net::IpAddr, sync::Arc, time::Duration};

use url::Url;

use super::{check_metadata, new, strict_json};
use crate::{
    app::App,
    caches::metadata_documents::{MAX_TTL, Outcome},
    directory::CachedClient,
    error::Error,
    ids::ClientId,
    limits::{Key, Limit},
    model::{
        actor::Actor,
        client::{AuthMethod, Client, Metadata, Source},
    },
    oauth::error::OAuthError,
    outbound::{self, Fetched},
    storage::clients,
};

/// The shortest freshness lifetime that is accepted from the server (RFC 9111 §4.2).
const SHORTEST: Duration = Duration::from_secs(5 * 60);
/// A document that is missing or invalid is fetched again after this time.
const AGAIN: Duration = Duration::from_secs(60);

/// Whether this is the id of such a client (§3 of the draft): a normalized https URL with a path,
/// and without fragment, user name and password. Normalized paths have no dot segments.
pub fn is_id(id: &str) -> bool {
    id.len() <= 2048
        && id.starts_with("https://")
        && Url::parse(id).is_ok_and(|url| {
            url.as_str() == id
                && url.path() != "/"
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        })
}

/// The client with this document; see [`super::find`].
///
/// # Errors
/// [`Error::Unavailable`]; [`Error::TooMany`] for a network that has asked for too many unknown
/// documents.
pub(crate) async fn find(
    app: &App,
    id: &ClientId,
    address: IpAddr,
) -> Result<Option<CachedClient>, Error> {
    if !app.config.takes_metadata_documents() {
        return Ok(None);
    }
    app.sync().await?;
    // The version before the row: see `Directory::client`.
    let version = app.directory.version();
    let row = app.directory.client(&app.db, id).await?;
    if row.as_ref().is_some_and(|row| row.client.disabled_at.is_some()) {
        return Ok(None);
    }
    let now = app.clock.now();
    let found = match app.metadata_documents.get(id, now) {
        Some(found) => found,
        None => {
            if row.is_none() {
                app.admit(Limit::Register, &Key::address(address))?;
            }
            match fetch(app, id).await {
                Some((life, found)) => {
                    app.metadata_documents.insert(id, now + life, found.clone());
                    found
                }
                None => Outcome::Unreachable,
            }
        }
    };
    Ok(match (found, row) {
        (Outcome::Valid(metadata), Some(row)) if row.client.metadata == *metadata => Some(row),
        (Outcome::Valid(metadata), row) => {
            let metadata = Metadata::clone(&metadata);
            let client = new(app, id.to_owned(), Source::Document, metadata);
            let client = match row {
                Some(row) => Client {
                    created_at: row.client.created_at,
                    expires_at: row.client.expires_at,
                    ..client
                },
                None => client,
            };
            Some(CachedClient { client: Arc::new(client), version })
        }
        (Outcome::Invalid, _) => None,
        // While its server is down, the client is used as stored.
        (Outcome::Unreachable, row) => row,
    })
}

/// Stores a client with a document, which something that is about to be stored refers to. It is
/// deleted if it stays unused.
///
/// # Errors
/// `temporarily_unavailable` where the limit of self-registered clients is reached,
/// [`Error::TooMany`] where that of the network is.
pub async fn keep(app: &App, client: &Client, address: IpAddr) -> Result<(), Error> {
    if client.source != Source::Document {
        return Ok(());
    }
    let remembered = app.directory.cached(&client.id);
    if remembered.is_some_and(|known| known.client.metadata == client.metadata) {
        return Ok(());
    }
    let mut tx = app.begin(&Actor::service(&client.id, None)).await?;
    let now = tx.now();
    match clients::lock(&mut tx, &client.id).await? {
        None => {
            let unused_ttl = app.config.client_registration.unused_ttl;
            let row = Client { expires_at: Some(now + unused_ttl), ..client.clone() };
            super::insert_self_registered(app, &mut tx, &row, address).await?;
            let detail = serde_json::json!({ "source": Source::Document.as_str() });
            tx.audit("client.register", Some(&client.id), detail).await?;
        }
        Some(known) if known.metadata != client.metadata => {
            let less = super::allows_less(&client.metadata, &known.metadata);
            let row = Client { metadata: client.metadata.clone(), updated_at: now, ..known };
            clients::update(&mut tx, &row).await?;
            if less {
                super::refuse_tokens(&mut tx, &row.id, "client_changed").await?;
            }
        }
        Some(_) => {}
    }
    Ok(tx.commit().await?)
}

/// Fetches a document; gives the outcome and its lifetime. `None` where too many fetches are
/// running.
async fn fetch(app: &App, id: &ClientId) -> Option<(Duration, Outcome)> {
    let fetched = match app.outbound.get(id, "application/json").await {
        Ok(fetched) => fetched,
        Err(outbound::Error::Busy) => return None,
        Err(error) => {
            tracing::info!(%error, "fetching a client metadata document failed");
            let found = if error.is_permanent() { Outcome::Invalid } else { Outcome::Unreachable };
            return Some((AGAIN, found));
        }
    };
    Some(match read(app, id, &fetched).await {
        Ok(metadata) => {
            let life = fetched.max_age.unwrap_or(SHORTEST).clamp(SHORTEST, MAX_TTL);
            (life, Outcome::Valid(Arc::new(metadata)))
        }
        Err(error) => {
            tracing::info!(%error, id = id.as_str(), "a client metadata document is invalid");
            (AGAIN, Outcome::Invalid)
        }
    })
}

async fn read(app: &App, id: &ClientId, fetched: &Fetched) -> Result<Metadata, OAuthError> {
    let wrong = |message: &'static str| OAuthError::invalid_client_metadata(message);
    // The draft requires it, so that a file uploaded to a host cannot pose as a
    // client of that host.
    if !fetched.is_json() {
        return Err(wrong("the document must be served as application/json"));
    }
    let members = strict_json::object(&fetched.body).map_err(wrong)?;
    // §4.1: by simple string comparison.
    if members.get("client_id") != Some(&id.as_str().into()) {
        return Err(wrong("client_id must be the URL of the document"));
    }
    if members.contains_key("client_secret") || members.contains_key("client_secret_expires_at") {
        return Err(wrong("client_secret must not be in a public document"));
    }
    let mut members = members;
    // RFC 7591's default needs a secret, and such a client has none.
    members.entry("token_endpoint_auth_method").or_insert("none".into());
    let metadata = check_metadata(app, &members).await?;
    match metadata.token_endpoint_auth_method {
        AuthMethod::None | AuthMethod::PrivateKeyJwt => Ok(metadata),
        AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost => {
            Err(wrong("token_endpoint_auth_method: must be none or private_key_jwt"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_id;

    #[test]
    fn only_a_plain_https_url_with_a_path_names_a_document() {
        for good in [
            "https://client.example/app.json",
            "https://client.example:8443/a/b",
            "https://client.example/app?v=1",
        ] {
            assert!(is_id(good), "{good}");
        }
        for bad in [
            "http://client.example/app.json",
            "https://client.example",
            "https://client.example/",
            "https://client.example/app.json#x",
            "https://u@client.example/app.json",
            "https://u:p@client.example/app.json",
            "https://client.example/a/../app.json",
            "https://client.example/./app.json",
            "https://client.example/%2e%2e/app.json",
            "https://CLIENT.example/app.json",
            "https://client.example:443/app.json",
            "https://client.example/app json",
            "HTTPS://client.example/app.json",
            "client",
        ] {
            assert!(!is_id(bad), "{bad}");
        }
    }
}

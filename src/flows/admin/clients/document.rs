//! Client ID metadata documents (draft-ietf-oauth-client-id-metadata-document): a client whose id is an https URL, at
//! which it says of itself what others register. Nothing of it is kept but in memory, until a person has come to use it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use url::Url;

use super::{check_metadata, new, strict_json};
use crate::{
    app::App,
    caches::metadata_documents::Outcome,
    directory::CachedClient,
    error::Error,
    limits::{Key, Limit},
    model::client::{AuthMethod, Client, Metadata, Source},
    oauth::error::OAuthError,
    outbound::{self, Fetched},
    storage::{audit, clients},
};

/// A document is believed for as long as its server says (RFC 9111), within these.
const SHORTEST: Duration = Duration::from_secs(5 * 60);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// One that was not found, or is not good, is asked for again after this time.
const AGAIN: Duration = Duration::from_secs(60);

/// Whether this is the id of such a client (§3 of the draft): an https URL with a path, in its normal form, without
/// fragment, user name and password. A path with dot segments is not in its normal form.
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
/// [`Error::Unavailable`]; [`Error::TooMany`] for a network that has named too many documents that nobody used.
pub(crate) async fn find(
    app: &App,
    id: &str,
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
        // A server that is down does not end what its client has here.
        (Outcome::Unreachable, row) => row,
    })
}

/// Keeps a client with a document, as something is about to be stored for it. It goes again if it stays unused.
///
/// # Errors
/// `temporarily_unavailable` where there are as many self-registered clients as there may be.
pub async fn keep(app: &App, client: &Client) -> Result<(), Error> {
    if client.source != Source::Document {
        return Ok(());
    }
    let remembered = app.directory.cached(&client.id);
    if remembered.is_some_and(|known| known.client.metadata == client.metadata) {
        return Ok(());
    }
    let now = app.clock.now();
    let expires_at = now + app.config.client_registration.unused_ttl;
    let most = app.config.client_registration.max_clients;
    let wanted = client.clone();
    let kept = app.db.transaction(move |mut tx| {
        Box::pin(async move {
            let Some(known) = clients::lock(&mut tx, &wanted.id).await? else {
                if !super::has_room(&mut tx, &wanted.id, most).await? {
                    return Ok(false);
                }
                let row = Client { expires_at: Some(expires_at), ..wanted };
                clients::insert(&mut tx, &row).await?;
                let entry = audit::NewAuditEntry {
                    action: "client.register",
                    actor: &row.id,
                    subject: Some(&row.id),
                    address: None,
                    request_id: None,
                    correlation_id: None,
                    detail: serde_json::json!({ "source": Source::Document.as_str() }),
                };
                audit::add(&mut tx, entry, now).await?;
                return Ok(true);
            };
            if known.metadata != wanted.metadata {
                let less = super::allows_less(&wanted.metadata, &known.metadata);
                let row = Client { metadata: wanted.metadata, updated_at: now, ..known };
                clients::update(&mut tx, &row).await?;
                if less {
                    super::refuse_tokens(&mut tx, &row.id, "client_changed", now).await?;
                }
            }
            Ok(true)
        })
    });
    if kept.await? { Ok(()) } else { Err(super::full()) }
}

/// Asks for a document, and says for how long the outcome holds; `None` where there was no time to ask.
async fn fetch(app: &App, id: &str) -> Option<(Duration, Outcome)> {
    let fetched = match app.outbound.get(id, "application/json").await {
        Ok(fetched) => fetched,
        Err(outbound::Error::Busy) => return None,
        Err(error) => {
            tracing::info!(%error, "a client's metadata document could not be fetched");
            let found = if error.is_permanent() { Outcome::Invalid } else { Outcome::Unreachable };
            return Some((AGAIN, found));
        }
    };
    Some(match read(app, id, &fetched).await {
        Ok(metadata) => {
            let life = fetched.max_age.unwrap_or(SHORTEST).clamp(SHORTEST, LONGEST);
            (life, Outcome::Valid(Arc::new(metadata)))
        }
        Err(error) => {
            tracing::info!(%error, ?id, "a client's metadata document is not good");
            (AGAIN, Outcome::Invalid)
        }
    })
}

async fn read(app: &App, id: &str, fetched: &Fetched) -> Result<Metadata, OAuthError> {
    let wrong = |message: &'static str| OAuthError::invalid_client_metadata(message);
    // The draft wants it, so that what a stranger uploaded to a host as a picture or a text is no client of that host.
    if !fetched.is_json() {
        return Err(wrong("the document is not served as application/json"));
    }
    let members = strict_json::object(&fetched.body).map_err(wrong)?;
    // §4.1: compared as texts.
    if members.get("client_id") != Some(&id.into()) {
        return Err(wrong("client_id is not the URL of the document"));
    }
    if members.contains_key("client_secret") || members.contains_key("client_secret_expires_at") {
        return Err(wrong("a document that everybody can read holds no secret"));
    }
    let mut members = members;
    // RFC 7591's default needs a secret, which such a client has none of.
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

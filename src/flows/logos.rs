//! Logos of clients, for the consent page. A browser that loaded one from the client's own host would tell that host who
//! looks before anything was allowed: the guarded client fetches it once, in the background, and pages carry it within.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use quick_cache::sync::Cache;

use crate::{app::App, clock::Timestamp, model::client::Client};

/// Logos that are remembered.
const REMEMBERED: usize = 200;

/// Bytes of a logo: a page with it stays small.
const LARGEST: usize = 24 * 1024;

/// How long a logo is remembered, and a failure to get it.
const LIFE: Duration = Duration::from_secs(3_600);
const AGAIN_AFTER: Duration = Duration::from_secs(300);

/// What browsers draw without running anything.
const TYPES: [&str; 5] = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/svg+xml"];

/// What a process remembers of logos.
#[derive(Debug)]
pub struct Logos(Cache<String, (Timestamp, Option<Arc<str>>)>);

impl Default for Logos {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

/// The logo as a `data:` URI, if it was fetched already; else it will be there the next time.
pub fn of(app: &Arc<App>, client: &Client) -> Option<Arc<str>> {
    let uri = client.metadata.logo_uri.as_ref()?;
    let now = app.clock.now();
    if let Some((until, logo)) = app.logos.0.get(uri)
        && until > now
    {
        return logo;
    }
    // Noted before it is fetched: many visitors at once cause one request.
    app.logos.0.insert(uri.clone(), (now + AGAIN_AFTER, None));
    let (app, uri) = (Arc::clone(app), uri.clone());
    tokio::spawn(async move {
        if let Some(logo) = fetch(&app, &uri).await {
            let until = app.clock.now() + LIFE;
            app.logos.0.insert(uri, (until, Some(logo)));
        }
    });
    None
}

async fn fetch(app: &App, uri: &str) -> Option<Arc<str>> {
    let fetched = app
        .outbound
        .get(uri, "image/*")
        .await
        .inspect_err(|error| tracing::info!(?uri, %error, "a logo could not be fetched"))
        .ok()?;
    let named = fetched.content_type?;
    let essence = named.split(';').next().unwrap_or_default().trim();
    let known = TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(essence))?;
    (fetched.body.len() <= LARGEST)
        .then(|| format!("data:{known};base64,{}", STANDARD.encode(&fetched.body)).into())
}

//! Logos of clients, for the consent page. A browser that loaded a logo from the client's own host
//! would reveal the user to it before anything is allowed: the logo is fetched once, through the
//! SSRF-safe HTTP client and in the background, and pages embed it.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use quick_cache::sync::Cache;

use crate::{
    clock::{Clock, Timestamp},
    model::client::Client,
    outbound::Outbound,
};

/// Logos in the cache.
const CAPACITY: usize = 200;

/// The largest logo in bytes: a page that embeds it stays small.
const MAX_BYTES: usize = 64 * 1024;

/// How long a logo is cached.
const TTL: Duration = Duration::from_secs(3_600);
/// The shortest time between two fetches of one URL after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(300);

/// Types that browsers draw without running scripts.
const TYPES: [&str; 5] = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/svg+xml"];

/// The logos of clients.
#[derive(Clone, Debug)]
pub struct Logos(Arc<Cache<String, Entry>>);

/// Until when, and the logo as a `data:` URI; none while it is fetched or after a failure.
type Entry = (Timestamp, Option<Arc<str>>);

impl Default for Logos {
    fn default() -> Self {
        Self(Arc::new(Cache::new(CAPACITY)))
    }
}

impl Logos {
    /// The client's logo as a `data:` URI. One that is not cached is fetched in the background, for
    /// the next page.
    pub fn of(&self, outbound: &Arc<Outbound>, clock: &Clock, client: &Client) -> Option<Arc<str>> {
        let uri = client.metadata.logo_uri.as_ref()?;
        let now = clock.now();
        if let Some((until, logo)) = self.0.get(uri)
            && until > now
            && until.distance(now) <= TTL
        {
            return logo;
        }
        // Inserted before the fetch: simultaneous visitors cause one request.
        self.0.insert(uri.clone(), (now + RETRY_INTERVAL, None));
        let (logos, outbound, clock) = (self.clone(), Arc::clone(outbound), clock.clone());
        let uri = uri.clone();
        tokio::spawn(async move {
            if let Some(logo) = fetch(&outbound, &uri).await {
                logos.0.insert(uri, (clock.now() + TTL, Some(logo)));
            }
        });
        None
    }
}

async fn fetch(outbound: &Outbound, uri: &str) -> Option<Arc<str>> {
    let fetched = outbound
        .get(uri, "image/*")
        .await
        .inspect_err(|error| tracing::info!(uri, %error, "fetching a logo failed"))
        .ok()?;
    let content_type = fetched.content_type.unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let known = TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(essence));
    let bytes = fetched.body.len();
    let Some(known) = known.filter(|_| bytes <= MAX_BYTES) else {
        tracing::info!(
            ?uri,
            ?content_type,
            bytes,
            "a logo is not shown: it must be a PNG, JPEG, WebP, GIF or SVG of at most 64 KiB"
        );
        return None;
    };
    Some(format!("data:{known};base64,{}", STANDARD.encode(&fetched.body)).into())
}

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderMap;
use url::Url;

use crate::{
    Error, Propusk, TokenCookies,
    api::{Api, http_client},
    clock::Clock,
    credentials::Credentials,
    feed::{FeedOptions, OnError, RevocationFeed, Timing},
    keys::Keys,
    propusk::{ClientAddress, Parts},
    return_to::is_own_path,
    verifier::Verifier,
};

/// Tokens that are remembered, so that their signature is not checked again.
const REMEMBERED: usize = 5_000;
/// A clock that is further off than this needs a remedy of another kind.
const MOST_LEEWAY: Duration = Duration::from_secs(60);

/// The settings of a [`Propusk`].
#[must_use = "nothing happens before `build`"]
pub struct Builder {
    issuer: String,
    url: Option<String>,
    audience: Option<String>,
    cookie_domain: Option<String>,
    origins: Vec<String>,
    login_url: String,
    application_url: Option<String>,
    leeway: Duration,
    remembered: usize,
    client_address: Option<ClientAddress>,
    feed: Option<(String, String)>,
    max_stale: Duration,
    on_error: Option<OnError>,
    http: Option<reqwest::Client>,
    clock: Clock,
    timing: Timing,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(issuer: String) -> Self {
        Self {
            issuer,
            url: None,
            audience: None,
            cookie_domain: None,
            origins: vec![],
            login_url: "/login".to_owned(),
            application_url: None,
            leeway: Duration::ZERO,
            remembered: REMEMBERED,
            client_address: None,
            feed: None,
            max_stale: Duration::from_secs(10),
            on_error: None,
            http: None,
            clock: Clock::default(),
            timing: Timing::default(),
        }
    }

    /// Where the server is reached from here, if not at its issuer.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// A client with the scope `propusk:revocations` (`propusk client add gateway --scope
    /// propusk:revocations`): tokens are then verified in this process, by the keys of the issuer
    /// and the revocation feed. Without it, the server is asked about each.
    pub fn feed(mut self, client_id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.feed = Some((client_id.into(), secret.into()));
        self
    }

    /// For which the revocation list is trusted after the connection was lost; zero trusts only a
    /// live stream. Default: 10 seconds.
    pub fn max_stale(mut self, time: Duration) -> Self {
        self.max_stale = time;
        self
    }

    /// Told why the revocation list could not be updated; the follower tries again by itself.
    pub fn on_feed_error(mut self, told: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.on_error = Some(Arc::new(told));
        self
    }

    /// What [`Propusk::verify`] requires in `aud`. Default: the issuer, the server's own API.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// For which a token is accepted after it has expired, if the clocks of the two machines
    /// differ: 60 seconds at most. Default: zero, since entries of the revocation list expire with
    /// the tokens that they are about; a process that starts within this time does not get them.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// How many verified tokens, and how many sessions, are remembered. Default: 5,000.
    pub fn remembered(mut self, count: usize) -> Self {
        self.remembered = count;
        self
    }

    /// `gateway.cookie_domain` of the server, if it is set.
    pub fn cookie_domain(mut self, domain: impl Into<String>) -> Self {
        self.cookie_domain = Some(domain.into());
        self
    }

    /// An origin, besides the request's own, whose pages may send requests with the session's
    /// cookies.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Where users log in: a path of this application, or a URL such as `{issuer}/session/start`,
    /// for which [`application_url`](Self::application_url) is needed. Default: `/login`.
    pub fn login_url(mut self, url: impl Into<String>) -> Self {
        self.login_url = url.into();
        self
    }

    /// The public URL of this application, without a path: what a login elsewhere returns to.
    pub fn application_url(mut self, url: impl Into<String>) -> Self {
        self.application_url = Some(url.into());
        self
    }

    /// The browser's address of a request, as the proxy in front has written it. It is sent with
    /// renewals as `X-Forwarded-For`: the server limits them per address, and must list this
    /// application in `server.trusted_proxies`.
    pub fn client_address(
        mut self,
        address: impl Fn(&HeaderMap) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.client_address = Some(Arc::new(address));
        self
    }

    /// Another HTTP client, such as one with an authority of one's own. It must not follow
    /// redirects. Default: rustls with Mozilla's authorities.
    pub fn http_client(mut self, client: reqwest::Client) -> Self {
        self.http = Some(client);
        self
    }

    /// Shorter times for tests of this crate.
    #[doc(hidden)]
    pub fn timing_for_tests(mut self, silence: Duration, longest_delay: Duration) -> Self {
        self.timing.silence = silence;
        self.timing.longest_delay = longest_delay;
        self
    }

    /// The server, as this application sees it. With a feed, it is followed from now on.
    ///
    /// # Errors
    /// [`Error::Configuration`]: a setting is not valid; a feed, outside of a Tokio runtime.
    pub fn build(self) -> Result<Propusk, Error> {
        let invalid = |text: String| Err(Error::Configuration(text));
        let issuer: Arc<str> = self.issuer.into();
        let url = self.url.as_deref().unwrap_or(&issuer);
        for (name, value) in [("issuer", &*issuer), ("url", url)] {
            let is_http = Url::parse(value)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.query().is_none());
            if !is_http {
                return invalid(format!("`{name}` must be an http or https URL: {value}"));
            }
        }
        if self.leeway > MOST_LEEWAY {
            return invalid("`leeway` must not be more than 60 seconds".to_owned());
        }
        if self.feed.is_none() && self.audience.as_deref().is_some_and(|own| *own != *issuer) {
            let text = "tokens of another `audience` can be verified with a `feed` only";
            return invalid(text.to_owned());
        }
        if !is_own_path(&self.login_url) {
            let is_url = Url::parse(&self.login_url)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
            let origin = self.application_url.as_deref().and_then(|url| Url::parse(url).ok());
            if !is_url || !origin.is_some_and(|url| url.origin().is_tuple()) {
                return invalid(format!(
                    "`login_url` must be a path, or a URL with `application_url`: {}",
                    self.login_url
                ));
            }
        }
        let http = self.http.map_or_else(http_client, Ok)?;
        let api = Api { http, url: url.trim_end_matches('/').into(), clock: self.clock };
        let feed = match self.feed {
            None => None,
            Some((id, secret)) => {
                let keys = Arc::new(Keys::new(Arc::clone(&issuer), api.clone()));
                let credentials =
                    Credentials::new(api.clone(), id, secret, "propusk:revocations".to_owned());
                let options = FeedOptions {
                    credentials,
                    max_stale: self.max_stale,
                    leeway: self.leeway,
                    timing: self.timing,
                    on_error: self.on_error,
                };
                let feed = RevocationFeed::follow(
                    Arc::clone(&issuer),
                    api.clone(),
                    Arc::clone(&keys),
                    options,
                )?;
                Some((keys, feed))
            }
        };
        let verifier = |audience: Arc<str>| {
            feed.as_ref().map(|(keys, feed)| {
                let (keys, feed) = (Arc::clone(keys), feed.clone());
                let issuer = Arc::clone(&issuer);
                Arc::new(Verifier::new(issuer, audience, self.leeway, keys, feed, self.remembered))
            })
        };
        let own = verifier(Arc::clone(&issuer));
        let resource = match &self.audience {
            Some(audience) => verifier(audience.as_str().into()),
            None => own.clone(),
        };
        let cookies = TokenCookies::new(&issuer, self.cookie_domain.as_deref());
        cookies.clear()?;
        Ok(Propusk::new(Parts {
            issuer,
            api,
            cookies,
            origins: self.origins,
            login_url: self.login_url,
            application_url: self.application_url,
            client_address: self.client_address,
            feed: feed.map(|(_, feed)| feed),
            own,
            resource,
            remembered: self.remembered,
        }))
    }
}

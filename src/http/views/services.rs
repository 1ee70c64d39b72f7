//! The pages on which users connect accounts at customer services.

use std::borrow::Cow;

use super::{Form, Locale, PageUrl, page};

/// What became of a connection, shown above the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionNotice {
    Connected,
    Removed,
    /// The user has refused at the service, or the service has.
    Denied,
    /// The answer is not for this browser, or too late.
    Stale,
    /// The service gave no usable answer.
    Failed,
}

impl ConnectionNotice {
    const ALL: [Self; 5] =
        [Self::Connected, Self::Removed, Self::Denied, Self::Stale, Self::Failed];

    /// As in the URL of the page, and the end of the message's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Removed => "removed",
            Self::Denied => "denied",
            Self::Stale => "stale",
            Self::Failed => "failed",
        }
    }

    /// The notice of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// A service in the list.
#[derive(Clone, Debug)]
pub struct ConnectionLine {
    pub service: String,
    /// RFC 3339, to the day; `None`: not connected.
    pub since: Option<String>,
}

/// `/services`: the accounts that the user has connected.
#[derive(Debug)]
pub struct Connections<'a> {
    pub form: Form<'a>,
    /// The username, else the email address.
    pub account: &'a str,
    pub notice: Option<ConnectionNotice>,
    pub connections: Vec<ConnectionLine>,
}

impl Connections<'_> {
    fn notice(&self, t: &Locale) -> Option<Cow<'static, str>> {
        Some(t.get(match self.notice? {
            ConnectionNotice::Connected => "services-connected",
            ConnectionNotice::Removed => "services-removed",
            ConnectionNotice::Denied => "services-denied",
            ConnectionNotice::Stale => "services-stale",
            ConnectionNotice::Failed => "services-failed",
        }))
    }

    fn is_problem(&self) -> bool {
        !matches!(self.notice, Some(ConnectionNotice::Connected | ConnectionNotice::Removed))
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        let notice = self.notice.map(|notice| ("notice".into(), notice.as_str().into()));
        Some(("/services".into(), notice.into_iter().collect()))
    }
}

page!(Connections, "services.html", script: false);

/// `/services/NAME/connect`: asks before the browser is sent to the service.
#[derive(Debug)]
pub struct Connect<'a> {
    pub form: Form<'a>,
    pub service: &'a str,
    /// The host of the authorization endpoint.
    pub host: &'a str,
    /// The username, else the email address.
    pub account: &'a str,
}

impl Connect<'_> {
    fn action(&self) -> String {
        format!("/services/{}/connect", self.service)
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        Some((self.action().into(), vec![]))
    }
}

page!(Connect, "service_connect.html", script: false);

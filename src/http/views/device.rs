//! The pages of the device authorization grant (RFC 8628 §3.3).

use std::borrow::Cow;

use super::{ClientCard, Form, Locale, PageUrl, Problem, ScopeLine, page};

/// `/device`: the user enters the code that the device shows.
#[derive(Debug)]
pub struct DeviceCode<'a> {
    pub form: Form<'a>,
    /// The code as submitted, or that of `verification_uri_complete`, with which the user compares
    /// the one on the device.
    pub user_code: &'a str,
    /// The code was not typed on this page.
    pub prefilled: bool,
    pub problem: Option<Problem>,
}

impl DeviceCode<'_> {
    fn is_field_invalid(&self) -> bool {
        matches!(self.problem, Some(Problem::WrongCode | Problem::Empty))
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        let code =
            (!self.user_code.is_empty()).then_some(("user_code".into(), self.user_code.into()));
        Some(("/device".into(), code.into_iter().collect()))
    }
}

page!(DeviceCode, "device_code.html", script: false);

/// What is known of the device that requests access.
#[derive(Clone, Copy, Debug)]
pub struct DeviceFacts<'a> {
    pub address: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    /// Minutes since the request.
    pub minutes: u64,
    /// The request came from another network than this browser's.
    pub is_elsewhere: bool,
}

/// `/device/confirm`: asks the user to allow or deny the request of a device.
#[derive(Debug)]
pub struct DeviceConsent<'a> {
    pub form: Form<'a>,
    /// As the device shows it, sent back with the decision.
    pub user_code: &'a str,
    /// What the page shows, sent back with the decision.
    pub shown: &'a str,
    pub client: ClientCard<'a>,
    pub device: DeviceFacts<'a>,
    /// The username, else the email address.
    pub account: &'a str,
    /// The login page, for another account with this code.
    pub other_account: &'a str,
    pub scopes: Vec<ScopeLine>,
    /// The client is self-registered: its name is not verified.
    pub unverified: bool,
    /// The host of a client_id that is a URL (OAuth Client ID Metadata Document).
    pub client_host: Option<&'a str>,
    /// The requested resource (RFC 8707).
    pub resource: Option<&'a str>,
}

impl DeviceConsent<'_> {
    fn time(&self, t: &Locale) -> Cow<'static, str> {
        match self.device.minutes {
            0 => t.get("device-just-now"),
            minutes => t.with("device-minutes-ago", &[("count", minutes)]),
        }
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        let code = ("user_code".into(), self.user_code.into());
        Some(("/device/confirm".into(), vec![code]))
    }
}

page!(DeviceConsent, "device_consent.html", script: false);

/// What became of the request of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Approved,
    Denied,
    Expired,
    /// It was approved or denied before.
    Used,
    /// The code was entered in another browser session.
    Elsewhere,
}

/// The last page: what became of the request, and what to do.
#[derive(Debug)]
pub struct DeviceResult<'a> {
    pub outcome: Outcome,
    /// The page in the user's browser, if it can be requested again.
    pub page: Option<PageUrl<'a>>,
}

impl DeviceResult<'_> {
    fn title(&self, t: &Locale) -> Cow<'static, str> {
        t.get(match self.outcome {
            Outcome::Approved => "device-approved",
            Outcome::Denied => "device-denied",
            Outcome::Expired => "device-expired",
            Outcome::Used => "device-used",
            Outcome::Elsewhere => "device-elsewhere",
        })
    }

    fn text(&self, t: &Locale) -> Cow<'static, str> {
        t.get(match self.outcome {
            Outcome::Approved => "device-approved-text",
            Outcome::Denied => "device-denied-text",
            Outcome::Expired => "device-expired-text",
            Outcome::Used => "device-used-text",
            Outcome::Elsewhere => "device-elsewhere-text",
        })
    }

    /// Whether the user needs another code to go on.
    fn needs_code(&self) -> bool {
        !matches!(self.outcome, Outcome::Approved | Outcome::Denied)
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        self.page.clone()
    }
}

page!(DeviceResult, "device_result.html", script: false);

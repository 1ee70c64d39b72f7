//! The pages on which users look after their account: sessions, applications, modules.

use std::borrow::Cow;

use super::{Form, Locale, PageUrl, ScopeLine, page, web_link};
use crate::model::user_agent::Device;

/// A session in the list: a browser, or an application.
#[derive(Clone, Debug)]
pub struct SessionLine {
    pub id: String,
    /// The display name of the application.
    pub application: Option<String>,
    pub device: Device,
    pub address: Option<String>,
    /// As `2026-11-21 09:30`, UTC.
    pub opened: String,
    pub used: String,
    pub is_current: bool,
}

/// A device in words.
pub(super) fn device_name(device: &Device, t: &Locale) -> Cow<'static, str> {
    match (device.browser, device.system) {
        (Some(browser), Some(system)) => {
            t.with("sessions-device", &[("browser", browser), ("system", system)])
        }
        (Some(one), None) | (None, Some(one)) => Cow::Borrowed(one),
        (None, None) => t.get("sessions-device-unknown"),
    }
}

impl SessionLine {
    fn device(&self, t: &Locale) -> Cow<'static, str> {
        device_name(&self.device, t)
    }

    /// What the line is called: the application, else the device.
    fn name(&self, t: &Locale) -> Cow<'_, str> {
        match &self.application {
            Some(name) => Cow::Borrowed(name),
            None => self.device(t),
        }
    }

    /// Everything else about it.
    fn about(&self, t: &Locale) -> String {
        let device = self.application.as_ref().map(|_| self.device(t).into_owned());
        let times = t.with(
            "sessions-times",
            &[("opened", self.opened.as_str()), ("used", self.used.as_str())],
        );
        let parts = device.into_iter().chain(self.address.clone()).chain([times.into_owned()]);
        parts.collect::<Vec<_>>().join(" · ")
    }
}

/// `/account/sessions`.
#[derive(Debug)]
pub struct Sessions<'a> {
    pub form: Form<'a>,
    /// The username, else the email address.
    pub account: &'a str,
    pub browsers: Vec<SessionLine>,
    pub applications: Vec<SessionLine>,
}

impl Sessions<'_> {
    /// Both lists, without the empty ones, with the ends of their messages' names.
    fn lists(&self) -> Vec<(&'static str, &[SessionLine])> {
        let all = [("browsers", &*self.browsers), ("applications", &*self.applications)];
        all.into_iter().filter(|(_, lines)| !lines.is_empty()).collect()
    }

    fn heading(&self, list: &str, t: &Locale) -> Cow<'static, str> {
        t.get(match list {
            "browsers" => "sessions-browsers",
            _ => "sessions-applications",
        })
    }

    fn has_others(&self) -> bool {
        self.browsers.len() > 1 || !self.applications.is_empty()
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        Some(("/account/sessions".into(), vec![]))
    }
}

page!(Sessions, "sessions.html", script: false);

/// What an application was allowed, for a set of resources.
#[derive(Clone, Debug)]
pub struct ConsentLine {
    /// The display names of the resources; empty: this server's own API.
    pub resources: String,
    pub scopes: Vec<ScopeLine>,
    /// As `2026-11-21`.
    pub given: String,
}

/// An application in the list.
#[derive(Clone, Debug)]
pub struct ApplicationLine {
    pub client_id: String,
    pub name: String,
    pub uri: Option<String>,
    pub is_unverified: bool,
    pub consents: Vec<ConsentLine>,
    /// As `2026-11-21`.
    pub used: Option<String>,
}

impl ApplicationLine {
    fn link(&self) -> Option<&str> {
        web_link(self.uri.as_deref()).filter(|_| !self.is_unverified)
    }
}

/// `/account/applications`.
#[derive(Debug)]
pub struct Applications<'a> {
    pub form: Form<'a>,
    /// The username, else the email address.
    pub account: &'a str,
    pub applications: Vec<ApplicationLine>,
}

impl Applications<'_> {
    fn url(&self) -> Option<PageUrl<'_>> {
        Some(("/account/applications".into(), vec![]))
    }
}

page!(Applications, "applications.html", script: false);

/// A module in the list.
#[derive(Clone, Debug)]
pub struct ModuleLine {
    pub id: String,
    pub name: String,
    pub description: String,
    pub is_self_service: bool,
    pub is_enabled: bool,
    /// The planned end, as `2026-11-21`.
    pub until: Option<String>,
}

impl ModuleLine {
    fn state(&self, t: &Locale) -> Cow<'static, str> {
        match (&self.until, self.is_enabled) {
            (Some(until), true) => t.with("modules-until", &[("date", until.as_str())]),
            (None, true) => t.get("modules-on"),
            (_, false) => t.get("modules-off"),
        }
    }
}

/// `/account/modules`.
#[derive(Debug)]
pub struct Modules<'a> {
    pub form: Form<'a>,
    /// The username, else the email address.
    pub account: &'a str,
    pub modules: Vec<ModuleLine>,
}

impl Modules<'_> {
    fn url(&self) -> Option<PageUrl<'_>> {
        Some(("/account/modules".into(), vec![]))
    }
}

page!(Modules, "modules.html", script: false);

/// `/account/delete`: asks whether to delete the account.
#[derive(Debug)]
pub struct DeleteAccount<'a> {
    pub form: Form<'a>,
    /// The username, else the email address.
    pub account: &'a str,
    /// The end of the grace period, as `2026-11-21`; `None`: there is none.
    pub until: Option<String>,
    /// It was refused: nobody else could administer this server.
    pub is_last_admin: bool,
}

impl DeleteAccount<'_> {
    fn url(&self) -> Option<PageUrl<'_>> {
        Some(("/account/delete".into(), vec![]))
    }
}

page!(DeleteAccount, "delete_account.html", script: false);

/// A page of one sentence about a deletion, with a link to the login.
#[derive(Debug)]
pub struct DeletionResult<'a> {
    pub outcome: DeletionOutcome<'a>,
}

/// What became of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionOutcome<'a> {
    /// It was requested; on this date, as `2026-11-21`, the account is deleted.
    Requested(&'a str),
    Deleted,
    /// It was cancelled.
    Kept,
}

impl DeletionResult<'_> {
    fn title(&self, t: &Locale) -> Cow<'static, str> {
        t.get(match self.outcome {
            DeletionOutcome::Requested(_) => "deletion-requested-title",
            DeletionOutcome::Deleted => "deletion-done-title",
            DeletionOutcome::Kept => "deletion-kept-title",
        })
    }

    fn text(&self, t: &Locale) -> Cow<'static, str> {
        match self.outcome {
            DeletionOutcome::Requested(date) => {
                t.with("deletion-requested-text", &[("date", date)])
            }
            DeletionOutcome::Deleted => t.get("deletion-done-text"),
            DeletionOutcome::Kept => t.get("deletion-kept-text"),
        }
    }

    /// Whether there is an account to log in to.
    fn has_login(&self) -> bool {
        self.outcome != DeletionOutcome::Deleted
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        None
    }
}

page!(DeletionResult, "deletion_result.html", script: false);

/// `/account/restore`: asks whether to keep an account that waits to be deleted.
#[derive(Debug)]
pub struct RestoreAccount<'a> {
    pub form: Form<'a>,
    /// The username, else the email address.
    pub account: &'a str,
    /// As `2026-11-21`.
    pub until: String,
}

impl RestoreAccount<'_> {
    fn url(&self) -> Option<PageUrl<'_>> {
        Some(("/account/restore".into(), vec![]))
    }
}

page!(RestoreAccount, "restore_account.html", script: false);

/// `/account/export`.
#[derive(Debug)]
pub struct ExportAccount<'a> {
    pub form: Form<'a>,
    /// The username, else the email address.
    pub account: &'a str,
}

impl ExportAccount<'_> {
    fn url(&self) -> Option<PageUrl<'_>> {
        Some(("/account/export".into(), vec![]))
    }
}

page!(ExportAccount, "export.html", script: false);

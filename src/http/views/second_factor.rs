//! Second factors: the second step of a login, and the pages that manage them.

use std::borrow::Cow;

use super::{
    ClientCard, Form, IdentityLine, Locale, PageUrl, Problem, ProviderLink, page,
    self_service::device_name, url_with_return_to,
};
use crate::model::user_agent::Device;

/// The challenge of a passkey, which a script answers.
#[derive(Clone, Copy, Debug)]
pub struct PasskeyForm<'a> {
    /// JSON.
    pub options: &'a str,
    pub token: &'a str,
}

/// `/login/second-factor`: asks for a code.
#[derive(Clone, Debug)]
pub struct SecondFactor<'a> {
    pub form: Form<'a>,
    /// The application that requested the login.
    pub client: Option<ClientCard<'a>>,
    pub problem: Option<Problem>,
    /// The username, else the email address.
    pub account: &'a str,
    /// Whether the user has an authenticator app.
    pub has_app: bool,
    pub passkey: Option<PasskeyForm<'a>>,
    /// The login page, for another account with this request.
    pub other_account: String,
    /// For how many days the user may choose not to be asked again; `None`: that is not offered.
    pub remember_days: Option<u64>,
    /// The user has chosen it.
    pub remembers: bool,
}

impl SecondFactor<'_> {
    fn is_field_invalid(&self) -> bool {
        matches!(self.problem, Some(Problem::WrongFactorCode | Problem::Empty))
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        Some(url_with_return_to("/login/second-factor", &self.form))
    }
}

page!(SecondFactor, "second_factor.html", script: true);

/// Sets up an authenticator app: at login, where one is required, or from the account page.
#[derive(Clone, Debug)]
pub struct SetUpFactor<'a> {
    pub form: Form<'a>,
    /// Where the form is sent.
    pub action: &'static str,
    pub problem: Option<Problem>,
    /// Whether the login needs it; else the user chose to add one.
    pub is_required: bool,
    pub setup_token: &'a str,
    /// Base32.
    pub secret: &'a str,
    /// SVG.
    pub qr_code: &'a str,
    pub uri: &'a str,
    /// As typed.
    pub name: &'a str,
}

impl SetUpFactor<'_> {
    fn is_field_invalid(&self) -> bool {
        matches!(self.problem, Some(Problem::WrongFactorCode | Problem::Empty))
    }

    /// The secret in groups of four.
    fn groups(&self) -> String {
        let groups: Vec<_> = self
            .secret
            .as_bytes()
            .chunks(4)
            .filter_map(|group| str::from_utf8(group).ok())
            .collect();
        groups.join(" ")
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        Some(url_with_return_to(self.action, &self.form))
    }
}

page!(SetUpFactor, "second_factor_setup.html", script: false);

/// Adds a passkey.
#[derive(Clone, Debug)]
pub struct AddPasskey<'a> {
    pub form: Form<'a>,
    pub passkey: PasskeyForm<'a>,
    pub problem: Option<Problem>,
    /// As typed.
    pub name: &'a str,
}

impl AddPasskey<'_> {
    fn url(&self) -> Option<PageUrl<'_>> {
        Some(("/account/security/passkey".into(), vec![]))
    }
}

page!(AddPasskey, "passkey.html", script: true);

/// Recovery codes, shown once.
#[derive(Clone, Debug)]
pub struct RecoveryCodes<'a> {
    pub codes: &'a [String],
    /// Where the user continues.
    pub next: &'a str,
}

impl RecoveryCodes<'_> {
    /// Another language would lose the codes.
    fn url(&self) -> Option<PageUrl<'_>> {
        None
    }
}

page!(RecoveryCodes, "recovery_codes.html", script: false);

/// A factor as the security page lists it.
#[derive(Clone, Debug)]
pub struct FactorLine<'a> {
    pub id: &'a str,
    pub name: &'a str,
    /// The dates of its addition and last use, as `2026-11-21`.
    pub added: String,
    pub used: Option<String>,
    pub is_passkey: bool,
}

impl FactorLine<'_> {
    fn about(&self, t: &Locale) -> Cow<'static, str> {
        match &self.used {
            Some(used) => t.with(
                "security-added-used",
                &[("added", self.added.as_str()), ("used", used.as_str())],
            ),
            None => t.with("security-added", &[("added", self.added.as_str())]),
        }
    }
}

/// `/account/security`.
#[derive(Clone, Debug)]
pub struct Security<'a> {
    pub account: &'a str,
    pub factors: Vec<FactorLine<'a>>,
    pub recovery_codes: i64,
    /// The role of the user requires a second factor.
    pub is_required: bool,
    /// Whether this server has passkeys.
    pub has_passkeys: bool,
    pub form: Form<'a>,
    pub problem: Option<Problem>,
    /// The user's identities at other providers.
    pub identities: Vec<IdentityLine>,
    /// Providers at which the user has none yet.
    pub providers: Vec<ProviderLink>,
    /// Where the user is not asked for the second factor.
    pub devices: Vec<DeviceLine>,
}

/// A remembered device as the security page lists it.
#[derive(Clone, Debug)]
pub struct DeviceLine {
    pub id: String,
    pub device: Device,
    /// As `2026-11-21`.
    pub until: String,
}

impl DeviceLine {
    fn name(&self, t: &Locale) -> Cow<'static, str> {
        device_name(&self.device, t)
    }

    fn about(&self, t: &Locale) -> Cow<'static, str> {
        t.with("security-remembered-until", &[("until", self.until.as_str())])
    }
}

impl Security<'_> {
    fn url(&self) -> Option<PageUrl<'_>> {
        Some(("/account/security".into(), vec![]))
    }
}

page!(Security, "security.html", script: false);

/// What [`ConfirmChange`] asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorQuestion<'a> {
    Remove { id: &'a str, name: &'a str, is_last: bool },
    RenewCodes,
}

/// Asks the user to confirm a change of second factors.
#[derive(Clone, Debug)]
pub struct ConfirmChange<'a> {
    pub form: Form<'a>,
    pub question: FactorQuestion<'a>,
    pub problem: Option<Problem>,
}

impl ConfirmChange<'_> {
    fn action(&self) -> &'static str {
        match self.question {
            FactorQuestion::Remove { .. } => "/account/security/remove",
            FactorQuestion::RenewCodes => "/account/security/recovery-codes",
        }
    }

    fn id(&self) -> Option<&str> {
        match self.question {
            FactorQuestion::Remove { id, .. } => Some(id),
            FactorQuestion::RenewCodes => None,
        }
    }

    fn heading(&self, t: &Locale) -> Cow<'static, str> {
        t.get(match self.question {
            FactorQuestion::Remove { .. } => "security-remove-title",
            FactorQuestion::RenewCodes => "security-renew-title",
        })
    }

    fn text(&self, t: &Locale) -> Cow<'static, str> {
        match self.question {
            FactorQuestion::Remove { name, is_last: true, .. } => {
                t.with("security-remove-last", &[("name", name)])
            }
            FactorQuestion::Remove { name, .. } => {
                t.with("security-remove-text", &[("name", name)])
            }
            FactorQuestion::RenewCodes => t.get("security-renew-text"),
        }
    }

    const fn is_removal(&self) -> bool {
        matches!(self.question, FactorQuestion::Remove { .. })
    }

    fn button(&self, t: &Locale) -> Cow<'static, str> {
        t.get(match self.question {
            FactorQuestion::Remove { .. } => "security-remove",
            FactorQuestion::RenewCodes => "security-renew",
        })
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        let query = self.id().map(|id| ("id".into(), id.into()));
        Some((self.action().into(), query.into_iter().collect()))
    }
}

page!(ConfirmChange, "confirm_change.html", script: false);

//! Login, registration, account selection, the account page and logout.

use std::borrow::Cow;

use super::{
    ClientCard, Form, Locale, PageUrl, PasskeyForm, ProviderLink, TermsBox, page,
    url_with_return_to, web_link,
};
use crate::model::invitation::{INVITATION_PAGE, INVITATION_PARAMETER};

/// Why a form was rejected as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Unknown login or wrong password: deliberately not distinguished.
    WrongCredentials,
    /// Too many attempts; the next is accepted after `seconds`.
    TooMany { seconds: u64 },
    /// The server is overloaded.
    Busy,
    /// The request lacks the CSRF cookie of the form.
    NoCookie,
    /// There is no such user code.
    WrongCode,
    /// The code of a second factor is wrong, or was used before.
    WrongFactorCode,
    /// A passkey is unknown, or its answer is not valid.
    InvalidPasskey,
    /// A set-up of a factor has expired.
    FactorExpired,
    /// The name of a factor is too long.
    FactorName,
    /// The account has as many factors as it may have.
    FactorLimit,
    /// The account must keep its last factor.
    FactorLast,
    /// A required field is empty.
    Empty,
    /// It is not the password of the account that the page names.
    WrongPassword,
    /// The account has no password.
    NoPassword,
    /// It is not the code of a mail.
    WrongMailCode,
    /// The answer of another provider is not for this browser, or too late.
    UpstreamStale,
    /// Another provider, or the user there, has refused.
    UpstreamDenied,
    /// Another provider is not reached, or its answer is not valid.
    UpstreamFailed,
    /// The identity is another account's.
    UpstreamTaken,
    /// The account of the identity is disabled.
    UpstreamRefused,
    /// The identity is the only way to log in.
    UpstreamLast,
}

impl Problem {
    /// Those that a login at another provider leads back with, as in the URL of the page.
    const UPSTREAM: [(Self, &str); 6] = [
        (Self::UpstreamStale, "stale"),
        (Self::UpstreamDenied, "denied"),
        (Self::UpstreamFailed, "failed"),
        (Self::UpstreamTaken, "taken"),
        (Self::UpstreamRefused, "refused"),
        (Self::UpstreamLast, "last"),
    ];

    /// The problem of that name in the URL of a page.
    pub fn of_upstream(name: &str) -> Option<Self> {
        Self::UPSTREAM.into_iter().find(|(_, known)| *known == name).map(|(problem, _)| problem)
    }

    /// Its name in the URL of a page, where it has one.
    pub fn upstream_name(self) -> Option<&'static str> {
        Self::UPSTREAM.into_iter().find(|(known, _)| *known == self).map(|(_, name)| name)
    }

    pub(super) fn text(self, t: &Locale) -> Cow<'static, str> {
        match self {
            Self::WrongCredentials => t.get("problem-wrong-credentials"),
            Self::TooMany { seconds } if seconds > 90 => {
                t.with("problem-too-many-minutes", &[("count", seconds.div_ceil(60))])
            }
            Self::TooMany { seconds } => {
                t.with("problem-too-many-seconds", &[("count", seconds.max(1))])
            }
            Self::Busy => t.get("problem-busy"),
            Self::NoCookie => t.get("problem-no-cookie"),
            Self::WrongCode => t.get("problem-wrong-code"),
            Self::WrongFactorCode => t.get("problem-wrong-factor-code"),
            Self::InvalidPasskey => t.get("problem-passkey"),
            Self::FactorExpired => t.get("problem-factor-expired"),
            Self::FactorName => t.get("problem-factor-name"),
            Self::FactorLimit => t.get("problem-factor-limit"),
            Self::FactorLast => t.get("problem-factor-last"),
            Self::Empty => t.get("problem-empty"),
            Self::WrongPassword => t.get("problem-wrong-password"),
            Self::NoPassword => t.get("problem-no-password"),
            Self::WrongMailCode => t.get("problem-wrong-mail-code"),
            Self::UpstreamStale => t.get("problem-upstream-stale"),
            Self::UpstreamDenied => t.get("problem-upstream-denied"),
            Self::UpstreamFailed => t.get("problem-upstream-failed"),
            Self::UpstreamTaken => t.get("problem-upstream-taken"),
            Self::UpstreamRefused => t.get("problem-upstream-refused"),
            Self::UpstreamLast => t.get("problem-upstream-last"),
        }
    }
}

/// `/login`.
#[derive(Clone, Debug)]
pub struct Login<'a> {
    pub form: Form<'a>,
    /// The application that requested the login.
    pub client: Option<ClientCard<'a>>,
    /// The submitted value, else the client's `login_hint`.
    pub login: &'a str,
    pub problem: Option<Problem>,
    /// The registration page; `None` if registration is disabled.
    pub register_url: Option<String>,
    /// Where a forgotten password is reset; `None` where mails are off.
    pub reset_url: Option<&'a str>,
    /// The username, else the email address, of the user who is logged in and must authenticate
    /// again: neither another login nor registration is offered.
    pub reauthenticate: Option<&'a str>,
    /// The login page, for another account with this request.
    pub other_account: String,
    /// `None` where this server has no passkeys.
    pub passkey: Option<PasskeyForm<'a>>,
    pub providers: Vec<ProviderLink>,
}

impl Login<'_> {
    /// The title of the document.
    fn title(&self, t: &Locale) -> Cow<'static, str> {
        match &self.client {
            Some(client) if self.reauthenticate.is_none() => {
                t.with("login-title", &[("client", client.name)])
            }
            _ => self.heading(t),
        }
    }

    fn heading(&self, t: &Locale) -> Cow<'static, str> {
        t.get(match self.reauthenticate {
            Some(_) => "reauthenticate-title",
            None => "login-heading",
        })
    }

    fn lead(&self, t: &Locale) -> Option<Cow<'static, str>> {
        match (&self.client, self.reauthenticate.is_some()) {
            (Some(client), true) => {
                Some(t.with("reauthenticate-client", &[("client", client.name)]))
            }
            (Some(client), false) => Some(t.with("login-to", &[("client", client.name)])),
            (None, true) => Some(t.get("reauthenticate-text")),
            (None, false) => None,
        }
    }

    /// Whether the submitted values caused the problem.
    fn are_fields_invalid(&self) -> bool {
        matches!(self.problem, Some(Problem::WrongCredentials | Problem::Empty))
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        let (path, mut query) = url_with_return_to("/login", &self.form);
        if self.reauthenticate.is_some() {
            query.push(("reauthenticate".into(), "1".into()));
        }
        Some((path, query))
    }
}

page!(Login, "login.html", script: true);

/// `/register`.
#[derive(Debug)]
pub struct Register<'a> {
    pub form: Form<'a>,
    pub client: Option<ClientCard<'a>>,
    /// The token of the invitation that the user came with.
    pub invitation: Option<&'a str>,
    /// The address is that of the invitation.
    pub is_bound: bool,
    pub email: &'a str,
    pub username: &'a str,
    pub problem: Option<Problem>,
    /// Validation errors: the field (`email`, `username`, `password`) and the message of the
    /// server.
    pub fields: &'a [(&'static str, String)],
    pub login_url: String,
    pub providers: Vec<ProviderLink>,
    /// The minimum length of a password, in characters.
    pub min_length: usize,
    pub terms: Option<TermsBox<'a>>,
}

impl Register<'_> {
    fn errors(&self, field: &str, t: &Locale) -> Vec<Cow<'_, str>> {
        self.fields
            .iter()
            .filter(|(name, _)| *name == field)
            .map(|(_, message)| t.field_error(message))
            .collect()
    }

    /// The field to focus: the first invalid one, else the first.
    fn focused_field(&self) -> &str {
        ["email", "username", "password"]
            .into_iter()
            .find(|field| self.fields.iter().any(|(name, _)| name == field))
            .unwrap_or(if self.is_bound { "username" } else { "email" })
    }

    fn is_rejected(&self) -> bool {
        self.problem.is_some() || !self.fields.is_empty()
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        let (path, mut query) = url_with_return_to(INVITATION_PAGE, &self.form);
        query.extend(self.invitation.map(|token| (INVITATION_PARAMETER.into(), token.into())));
        Some((path, query))
    }
}

page!(Register, "register.html", script: true);

/// `/select-account`: continue with the current account or log in to another.
#[derive(Debug)]
pub struct SelectAccount<'a> {
    pub form: Form<'a>,
    pub client: Option<ClientCard<'a>>,
    /// The username, else the email address.
    pub account: &'a str,
}

impl SelectAccount<'_> {
    fn url(&self) -> Option<PageUrl<'_>> {
        Some(url_with_return_to("/select-account", &self.form))
    }
}

page!(SelectAccount, "select_account.html", script: false);

/// A page of the account that the account page links to.
#[derive(Clone, Copy, Debug)]
pub struct AccountLink {
    pub path: &'static str,
    /// Message keys.
    pub title: &'static str,
    pub text: &'static str,
}

/// `/account`: the start of the pages of the account.
#[derive(Debug)]
pub struct Account<'a> {
    pub name: &'a str,
    pub email: &'a str,
    /// The names and home pages of the applications that the user is logged in to.
    pub applications: Vec<(&'a str, &'a str)>,
    /// The other pages.
    pub links: Vec<AccountLink>,
    /// Whether the address is still to be verified by a mail.
    pub is_unverified: bool,
}

impl Account<'_> {
    /// Those whose home page a page may link to.
    fn applications(&self) -> Vec<(&str, &str)> {
        let all = self.applications.iter();
        all.filter_map(|(name, uri)| Some((*name, web_link(Some(uri))?))).collect()
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        Some(("/account".into(), vec![]))
    }
}

page!(Account, "account.html", script: false);

/// Asks the user to confirm a logout.
#[derive(Debug)]
pub struct Logout<'a> {
    pub form: Form<'a>,
    /// The application that requested the logout.
    pub client: Option<&'a str>,
    pub account: Option<&'a str>,
    /// The parameters of the request, sent back with the decision.
    pub hidden: Vec<(&'a str, &'a str)>,
}

impl Logout<'_> {
    fn url(&self) -> Option<PageUrl<'_>> {
        let query = self.hidden.iter();
        let query = query.map(|(name, value)| ((*name).into(), (*value).into()));
        Some(("/oauth2/logout".into(), query.collect()))
    }
}

page!(Logout, "logout.html", script: false);

/// Shown after a logout.
#[derive(Debug)]
pub struct LoggedOut<'a> {
    pub page: Option<PageUrl<'a>>,
    /// The name and home page of the application that requested the logout.
    pub client: Option<(&'a str, &'a str)>,
    /// Where a self-registered application wants the user to continue: the host and the URL.
    pub unverified: Option<(&'a str, &'a str)>,
}

impl LoggedOut<'_> {
    fn return_link(&self) -> Option<(&str, &str)> {
        let (name, uri) = self.client?;
        Some((name, web_link(Some(uri))?))
    }

    fn unverified_link(&self) -> Option<(&str, &str)> {
        let (host, url) = self.unverified?;
        Some((host, web_link(Some(url))?))
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        self.page.clone()
    }
}

page!(LoggedOut, "logged_out.html", script: false);

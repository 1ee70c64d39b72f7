//! The pages that mails lead to, and those that request mails.

use std::borrow::Cow;

use super::{Form, Locale, PageUrl, Problem, page};
use crate::model::mail::{
    CONFIRM_CHANGE_PAGE, CONFIRM_REGISTRATION_PAGE, OBJECT_PAGE, RESET_PAGE, VERIFY_PAGE,
};

/// A page with one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailStep {
    /// A code is entered, or another mail requested.
    EnterCode,
    Verify,
    ConfirmRegistration,
    RequestReset,
    Reset,
    RequestChange,
    ConfirmChange,
    Object,
}

impl EmailStep {
    pub const ALL: [Self; 8] = [
        Self::EnterCode,
        Self::Verify,
        Self::ConfirmRegistration,
        Self::RequestReset,
        Self::Reset,
        Self::RequestChange,
        Self::ConfirmChange,
        Self::Object,
    ];

    /// The path of the page and of its form.
    pub const fn path(self) -> &'static str {
        match self {
            Self::EnterCode | Self::Verify => VERIFY_PAGE,
            Self::ConfirmRegistration => CONFIRM_REGISTRATION_PAGE,
            Self::RequestReset | Self::Reset => RESET_PAGE,
            Self::RequestChange => "/email/change",
            Self::ConfirmChange => CONFIRM_CHANGE_PAGE,
            Self::Object => OBJECT_PAGE,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::EnterCode | Self::Verify => "email-verify-title",
            Self::ConfirmRegistration => "email-register-title",
            Self::RequestReset | Self::Reset => "email-reset-title",
            Self::RequestChange => "email-change-title",
            Self::ConfirmChange => "email-confirm-title",
            Self::Object => "email-object-title",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::EnterCode => "email-code-text",
            Self::Verify => "email-verify-text",
            Self::ConfirmRegistration => "email-register-text",
            Self::RequestReset => "email-request-text",
            Self::Reset => "email-reset-text",
            Self::RequestChange => "email-change-text",
            Self::ConfirmChange => "email-confirm-text",
            Self::Object => "email-object-text",
        }
    }

    const fn button(self) -> &'static str {
        match self {
            Self::EnterCode | Self::Verify | Self::ConfirmChange => "email-confirm",
            Self::ConfirmRegistration => "register",
            Self::RequestReset | Self::RequestChange => "email-send",
            Self::Reset => "email-reset",
            Self::Object => "email-object",
        }
    }
}

/// What a page asks for, beside an address or a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret {
    Nothing,
    Password,
    NewPassword,
}

/// A page that mails lead to, or that requests one.
#[derive(Clone, Debug)]
pub struct EmailForm<'a> {
    pub form: Form<'a>,
    pub step: EmailStep,
    /// Of the link.
    pub token: Option<&'a str>,
    /// The address that it is about.
    pub account: Option<&'a str>,
    pub secret: Secret,
    /// The submitted address.
    pub email: &'a str,
    /// Whether a mail has just been sent.
    pub is_sent: bool,
    pub problem: Option<Problem>,
    /// Validation errors: the field (`email`, `password`) and the message of the server.
    pub fields: &'a [(&'static str, String)],
    /// The minimum length of a new password, in characters.
    pub min_length: usize,
}

impl EmailForm<'_> {
    fn title(&self, t: &Locale) -> Cow<'static, str> {
        t.get(self.step.title())
    }

    fn is_rejected(&self) -> bool {
        self.problem.is_some() || !self.fields.is_empty()
    }

    fn asks_for_email(&self) -> bool {
        matches!(self.step, EmailStep::RequestReset | EmailStep::RequestChange)
    }

    fn asks_for_code(&self) -> bool {
        self.step == EmailStep::EnterCode
    }

    fn is_new(&self) -> bool {
        self.secret == Secret::NewPassword
    }

    fn asks_for_password(&self) -> bool {
        self.secret != Secret::Nothing
    }

    /// Whether the problem is one of the fields.
    fn are_fields_invalid(&self) -> bool {
        matches!(
            self.problem,
            Some(Problem::WrongPassword | Problem::WrongMailCode | Problem::Empty)
        )
    }

    /// Where an owner of the mailbox goes who does not know the password.
    fn new_password_url(&self) -> Option<String> {
        let may = matches!(self.step, EmailStep::Verify | EmailStep::ConfirmRegistration);
        if !may || self.secret != Secret::Password {
            return None;
        }
        let (path, mut query) = self.url()?;
        query.push(("new".into(), "1".into()));
        let query =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        Some(format!("{path}?{query}"))
    }

    fn errors(&self, field: &str, t: &Locale) -> Vec<Cow<'_, str>> {
        let of_field = self.fields.iter().filter(|(name, _)| *name == field);
        of_field.map(|(_, message)| t.field_error(message)).collect()
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        let token = self.token.map(|token| ("token".into(), token.into()));
        let to = self.form.return_to.map(|to| ("return_to".into(), to.into()));
        let always = matches!(self.step, EmailStep::Reset | EmailStep::Object);
        let new = (self.is_new() && !always).then(|| ("new".into(), "1".into()));
        Some((self.step.path().into(), token.into_iter().chain(to).chain(new).collect()))
    }
}

page!(EmailForm, "email_form.html", script: true);

/// What has become of a link or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailOutcome {
    Verified,
    /// With a new password: it is used at the next login.
    PasswordSet,
    /// By a user who stays logged in.
    PasswordChanged,
    ResetRequested,
    RegistrationRequested,
    ChangeRequested,
    Changed,
    InvalidLink,
}

impl EmailOutcome {
    pub const ALL: [Self; 8] = [
        Self::Verified,
        Self::PasswordSet,
        Self::PasswordChanged,
        Self::ResetRequested,
        Self::RegistrationRequested,
        Self::ChangeRequested,
        Self::Changed,
        Self::InvalidLink,
    ];

    const fn keys(self) -> (&'static str, &'static str) {
        match self {
            Self::Verified => ("email-verified", "email-verified-text"),
            Self::PasswordSet => ("email-password-set", "email-password-set-text"),
            Self::PasswordChanged => ("email-password-set", "password-changed-text"),
            Self::ResetRequested => ("email-sent", "email-reset-sent-text"),
            Self::RegistrationRequested => ("email-sent", "email-register-sent-text"),
            Self::ChangeRequested => ("email-sent", "email-change-sent-text"),
            Self::Changed => ("email-changed", "email-changed-text"),
            Self::InvalidLink => ("email-invalid", "email-invalid-text"),
        }
    }
}

/// The page after it.
#[derive(Clone, Debug)]
pub struct EmailResult<'a> {
    pub outcome: EmailOutcome,
    /// Where to continue, a path of this server.
    pub next: &'a str,
    /// The page in the user's browser, if it can be requested again.
    pub page: Option<PageUrl<'a>>,
}

impl EmailResult<'_> {
    fn title(&self, t: &Locale) -> Cow<'static, str> {
        t.get(self.outcome.keys().0)
    }

    fn text(&self, t: &Locale) -> Cow<'static, str> {
        t.get(self.outcome.keys().1)
    }

    fn label(&self, t: &Locale) -> Cow<'static, str> {
        t.get(match self.outcome {
            EmailOutcome::Verified | EmailOutcome::Changed | EmailOutcome::PasswordChanged => {
                "device-continue"
            }
            _ => "login",
        })
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        self.page.clone()
    }
}

page!(EmailResult, "email_result.html", script: false);

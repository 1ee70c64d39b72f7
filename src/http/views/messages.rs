//! Pages that only say something: an error, and the form that carries an answer to an application.

use std::borrow::Cow;

use super::{Address, Locale, page};

/// What went wrong, in words for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorTitle {
    BadRequest,
    NotFound,
    Forbidden,
    /// A form that this browser, as it is logged in now, was not given.
    ForeignForm,
    RegistrationClosed,
    TooMany,
    Unavailable,
    Internal,
}

impl ErrorTitle {
    fn title(self, t: &Locale) -> Cow<'static, str> {
        t.get(match self {
            Self::BadRequest => "error-bad-request",
            Self::NotFound => "error-not-found",
            Self::Forbidden => "error-forbidden",
            Self::ForeignForm => "error-foreign-form",
            Self::RegistrationClosed => "error-registration-closed",
            Self::TooMany => "error-too-many",
            Self::Unavailable => "error-unavailable",
            Self::Internal => "error-internal",
        })
    }

    fn text(self, t: &Locale) -> Cow<'static, str> {
        t.get(match self {
            Self::BadRequest => "error-bad-request-text",
            Self::NotFound => "error-not-found-text",
            Self::Forbidden => "error-forbidden-text",
            Self::ForeignForm => "error-foreign-form-text",
            Self::RegistrationClosed => "error-registration-closed-text",
            Self::TooMany => "error-too-many-text",
            Self::Unavailable => "error-unavailable-text",
            Self::Internal => "error-internal-text",
        })
    }
}

/// An error that cannot be told to the application.
#[derive(Debug)]
pub struct ErrorPage<'a> {
    pub title_key: ErrorTitle,
    /// What the application's developer must mend, in English as the protocol's own texts are.
    pub message: &'a str,
    /// The protocol's name for it (RFC 6749 §4.1.2.1 and others).
    pub code: Option<&'a str>,
    pub request_id: &'a str,
    /// Where to begin anew what was refused, an address of ours.
    pub again: Option<&'a str>,
}

impl ErrorPage<'_> {
    fn way_on(&self, t: &Locale) -> Cow<'static, str> {
        t.get(if self.title_key == ErrorTitle::RegistrationClosed {
            "login"
        } else {
            "error-again"
        })
    }

    fn address(&self) -> Option<Address<'_>> {
        None
    }
}

page!(ErrorPage, "error.html", script: false);

/// `response_mode=form_post` (OAuth 2.0 Form Post Response Mode): the answer as a form that a script of ours sends by itself, and
/// a person where no script runs. `form_action` must name where `action` leads.
#[derive(Debug)]
pub struct FormPost<'a> {
    pub action: &'a str,
    pub fields: &'a [(&'a str, String)],
}

impl FormPost<'_> {
    fn address(&self) -> Option<Address<'_>> {
        None
    }
}

page!(FormPost, "form_post.html", script: true);

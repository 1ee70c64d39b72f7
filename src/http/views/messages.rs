//! Error pages, and the form that posts an authorization response to a client.

use std::borrow::Cow;

use super::{Locale, PageUrl, page, web_link};

/// What went wrong, as the title of an error page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorTitle {
    BadRequest,
    NotFound,
    Forbidden,
    /// The form belongs to another browser or to an earlier login.
    StaleForm,
    RegistrationClosed,
    InvitationRequired,
    InvalidInvitation,
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
            Self::StaleForm => "error-stale-form",
            Self::RegistrationClosed => "error-registration-closed",
            Self::InvitationRequired => "error-invitation-required",
            Self::InvalidInvitation => "error-invitation",
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
            Self::StaleForm => "error-stale-form-text",
            Self::RegistrationClosed => "error-registration-closed-text",
            Self::InvitationRequired => "error-invitation-required-text",
            Self::InvalidInvitation => "error-invitation-text",
            Self::TooMany => "error-too-many-text",
            Self::Unavailable => "error-unavailable-text",
            Self::Internal => "error-internal-text",
        })
    }
}

/// An error that is shown to the user because it cannot be returned to the client.
#[derive(Debug)]
pub struct ErrorPage<'a> {
    pub title_key: ErrorTitle,
    /// What the developer of the application must fix; in English, as `error_description` is.
    pub message: &'a str,
    /// The `error` of OAuth (RFC 6749 §4.1.2.1 and others) or the `errorCode` of the JSON API.
    pub code: Option<&'a str>,
    pub request_id: &'a str,
    /// Where the user can try again, a path of this server.
    pub retry_url: Option<&'a str>,
    /// The name and the home page of the application that sent the user.
    pub application: Option<(&'a str, Option<&'a str>)>,
    /// The page in the user's browser, if it can be requested again.
    pub page: Option<PageUrl<'a>>,
}

impl ErrorPage<'_> {
    fn text(&self, t: &Locale) -> Cow<'static, str> {
        match (self.title_key, self.application) {
            (ErrorTitle::BadRequest, Some((name, _))) => {
                t.with("error-bad-request-application", &[("client", name)])
            }
            (title, _) => title.text(t),
        }
    }

    /// The name and the home page of the application, if there is one to return to.
    fn application_link(&self) -> Option<(&str, &str)> {
        let (name, uri) = self.application?;
        Some((name, web_link(uri)?))
    }

    fn action_label(&self, t: &Locale) -> Cow<'static, str> {
        t.get(match self.title_key {
            ErrorTitle::RegistrationClosed
            | ErrorTitle::InvitationRequired
            | ErrorTitle::InvalidInvitation => "login",
            _ => "error-again",
        })
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        self.page.clone()
    }
}

page!(ErrorPage, "error.html", script: false);

/// `response_mode=form_post` (OAuth 2.0 Form Post Response Mode): the authorization response as a
/// form, submitted by a script, or by the user where scripts are off.
#[derive(Debug)]
pub struct FormPost<'a> {
    pub action: &'a str,
    pub fields: &'a [(&'a str, String)],
}

impl FormPost<'_> {
    fn url(&self) -> Option<PageUrl<'_>> {
        None
    }
}

page!(FormPost, "form_post.html", script: true);

/// Where [`Leaving`] leads.
#[derive(Debug)]
pub enum Destination<'a> {
    Link(&'a str),
    Form(FormPost<'a>),
}

/// Asks before a browser leaves with an error for the site of a self-registered client.
#[derive(Debug)]
pub struct Leaving<'a> {
    pub page: Option<PageUrl<'a>>,
    /// The host of the site.
    pub host: &'a str,
    pub to: Destination<'a>,
    /// `error_description` and `error` (RFC 6749 §4.1.2.1).
    pub message: &'a str,
    pub code: &'a str,
}

impl Leaving<'_> {
    fn link(&self) -> Option<&str> {
        match self.to {
            Destination::Link(url) => web_link(Some(url)),
            Destination::Form(_) => None,
        }
    }

    fn form(&self) -> Option<&FormPost<'_>> {
        match &self.to {
            Destination::Link(_) => None,
            Destination::Form(form) => Some(form),
        }
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        self.page.clone()
    }
}

page!(Leaving, "leaving.html", script: false);

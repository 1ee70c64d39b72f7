//! The terms of this deployment.

use std::borrow::Cow;

use super::{ClientCard, Form, Locale, PageUrl, Problem, page, url_with_return_to};

/// The terms in force, as a form shows them.
#[derive(Clone, Copy, Debug)]
pub struct TermsBox<'a> {
    pub version: &'a str,
    pub url: &'a str,
    pub privacy_url: Option<&'a str>,
}

/// `/terms`: asks a user who is logged in to accept them.
#[derive(Clone, Debug)]
pub struct AcceptTerms<'a> {
    pub form: Form<'a>,
    /// The application that requested the login.
    pub client: Option<ClientCard<'a>>,
    /// The username, else the email address.
    pub account: &'a str,
    /// The user has accepted none before.
    pub is_new: bool,
    pub problem: Option<Problem>,
    /// As of [`super::Register`].
    pub fields: &'a [(&'static str, String)],
    pub terms: Option<TermsBox<'a>>,
    /// The login page, for another account with this request.
    pub other_account: String,
}

impl AcceptTerms<'_> {
    fn errors(&self, field: &str, t: &Locale) -> Vec<Cow<'_, str>> {
        let of_field = self.fields.iter().filter(|(name, _)| *name == field);
        of_field.map(|(_, message)| t.field_error(message)).collect()
    }

    fn text(&self, t: &Locale) -> Cow<'static, str> {
        t.get(if self.is_new { "terms-new" } else { "terms-changed" })
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        Some(url_with_return_to("/terms", &self.form))
    }
}

page!(AcceptTerms, "accept_terms.html", script: false);

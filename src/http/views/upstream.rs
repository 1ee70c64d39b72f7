//! Login at other providers.

use std::borrow::Cow;

use super::{ClientCard, Form, Locale, PageUrl, Problem, TermsBox, page, url_with_return_to};

/// A button that leads to a provider.
#[derive(Clone, Debug)]
pub struct ProviderLink {
    /// The name in the configuration.
    pub id: String,
    /// The name to show.
    pub name: String,
    pub url: String,
}

/// An identity as the security page lists it.
#[derive(Clone, Debug)]
pub struct IdentityLine {
    pub id: String,
    /// The name of the provider; its issuer where it is not configured any more.
    pub provider: String,
    /// RFC 3339, to the day.
    pub added: String,
}

/// `/login/identity`: an identity that is no user's.
#[derive(Debug)]
pub struct UnlinkedIdentity<'a> {
    pub form: Form<'a>,
    pub client: Option<ClientCard<'a>>,
    /// The name of the provider.
    pub provider: &'a str,
    /// The username, else the email address, of the user who is logged in.
    pub account: Option<&'a str>,
    pub problem: Option<Problem>,
    /// As of [`super::Register`].
    pub fields: &'a [(&'static str, String)],
    /// The address is that of an invitation.
    pub is_bound: bool,
    pub email: &'a str,
    pub username: &'a str,
    /// Whether an account can be created here.
    pub registers: bool,
    pub terms: Option<TermsBox<'a>>,
    /// Where an account is created by mail.
    pub register_url: Option<String>,
    /// Where the user logs in to an account that exists.
    pub login_url: String,
}

impl UnlinkedIdentity<'_> {
    fn errors(&self, field: &str, t: &Locale) -> Vec<Cow<'_, str>> {
        let of_field = self.fields.iter().filter(|(name, _)| *name == field);
        of_field.map(|(_, message)| t.field_error(message)).collect()
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        Some(url_with_return_to("/login/identity", &self.form))
    }
}

page!(UnlinkedIdentity, "identity.html", script: false);

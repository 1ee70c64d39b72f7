//! Users whom a back end keeps itself: what it says about one when it asks for tokens, and what it
//! may say.

use crate::{
    app::App,
    clock::Timestamp,
    error::{Error, FieldError},
    model::{
        session::ExternalUser,
        user::{Email, Role},
    },
    unicode::is_hidden,
};

/// Maximum length of a back end's id of a user, in characters.
const LONGEST_ID: usize = 200;

/// Maximum length of a username or an `acr`, in characters.
const LONGEST_TEXT: usize = 255;

/// The most authentication methods, and modules, of a login.
const MOST: usize = 50;

/// Accepted clock skew of a back end, in seconds.
const CLOCK_SKEW: i64 = 30;

/// A user and how the back end has authenticated them.
#[derive(Clone, Debug, Default)]
pub struct ExternalLogin {
    pub user: ExternalUser,
    /// Unix time in seconds; `None`: nobody logged in.
    pub auth_time: Option<i64>,
    /// RFC 8176
    pub amr: Vec<String>,
    pub acr: Option<String>,
}

impl ExternalLogin {
    /// Checks every rule.
    ///
    /// # Errors
    /// [`Error::Validation`] with each invalid field by its name in the proto;
    /// [`Error::Unavailable`].
    pub async fn check(&self, app: &App) -> Result<(), Error> {
        let catalogue = app.directory.catalogue(&app.db).await?;
        let mut found = vec![];
        let mut must = |holds: bool, field, message: &str| {
            if !holds {
                found.push(FieldError { field, message: message.to_owned() });
            }
        };
        let user = &self.user;
        must(is_text(&user.id, LONGEST_ID), "subject", "must have 1 to 200 printable characters");
        let is_email = |text: &str| Email::parse(text).is_ok_and(|email| email.address == text);
        must(user.email.as_deref().is_none_or(is_email), "email", "must be an email address");
        must(user.email.is_some() || !user.email_verified, "email_verified", "requires `email`");
        let fits =
            |text: &Option<String>| text.as_ref().is_none_or(|text| is_text(text, LONGEST_TEXT));
        must(fits(&user.username), "username", "must have 1 to 255 printable characters");
        must(fits(&self.acr), "acr", "must have 1 to 255 printable characters");
        let role = user.role.as_deref();
        must(
            role.is_none_or(|role| Role::parse(role).is_ok()),
            "role",
            "must be 1 to 32 of a-z, 0-9, _ and -",
        );
        must(
            role != Some(Role::admin().as_str()),
            "role",
            "must not be `admin`: administrators have an account here",
        );
        let now = app.clock.now().as_secs();
        must(
            self.auth_time.is_none_or(|at| (0..=now + CLOCK_SKEW).contains(&at)),
            "auth_time",
            "must be a Unix time in seconds, and not in the future",
        );
        must(
            self.amr.len() <= MOST && self.amr.iter().all(|method| is_text(method, 64)),
            "amr",
            "must be at most 50 values of 1 to 64 printable characters",
        );
        must(
            user.modules.len() <= MOST
                && user.modules.iter().all(|module| catalogue.modules.contains_key(module)),
            "modules",
            "must be at most 50 ids of modules",
        );
        if found.is_empty() { Ok(()) } else { Err(Error::Validation(found)) }
    }

    /// When the back end has authenticated the user: the `auth_time` of the tokens.
    pub fn authenticated_at(&self) -> Option<Timestamp> {
        self.auth_time.and_then(Timestamp::from_secs)
    }
}

/// Whether a text is printable, not blank, and has at most so many characters.
fn is_text(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.chars().count())
        && !text.trim().is_empty()
        && !text.contains(char::is_control)
        && !text.contains(is_hidden)
}

//! What users change of their account: profile, password, username.

use std::borrow::Cow;

use super::{Form, Locale, PageUrl, Problem, page};

/// The errors of a field in the language of the page.
fn errors_of<'a>(
    fields: &'a [(&'static str, String)],
    field: &str,
    t: &Locale,
) -> Vec<Cow<'a, str>> {
    let of_field = fields.iter().filter(|(name, _)| *name == field);
    of_field.map(|(_, message)| t.field_error(message)).collect()
}

/// `/account/password`.
#[derive(Debug)]
pub struct ChangePassword<'a> {
    pub form: Form<'a>,
    /// The username, else the email address.
    pub account: &'a str,
    pub problem: Option<Problem>,
    /// Validation errors: the field (`newPassword`) and the message of the server.
    pub fields: &'a [(&'static str, String)],
    /// The minimum length of a new password, in characters.
    pub min_length: usize,
}

impl ChangePassword<'_> {
    fn is_rejected(&self) -> bool {
        self.problem.is_some() || !self.fields.is_empty()
    }

    fn is_current_wrong(&self) -> bool {
        matches!(self.problem, Some(Problem::WrongPassword | Problem::Empty))
    }

    fn errors(&self, t: &Locale) -> Vec<Cow<'_, str>> {
        errors_of(self.fields, "newPassword", t)
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        Some(("/account/password".into(), vec![]))
    }
}

page!(ChangePassword, "change_password.html", script: true);

/// `/account/username`.
#[derive(Debug)]
pub struct ChangeUsername<'a> {
    pub form: Form<'a>,
    pub email: &'a str,
    /// The submitted one, else the present one.
    pub username: &'a str,
    pub problem: Option<Problem>,
    /// Validation errors: the field (`username`) and the message of the server.
    pub fields: &'a [(&'static str, String)],
}

impl ChangeUsername<'_> {
    fn is_rejected(&self) -> bool {
        self.problem.is_some() || !self.fields.is_empty()
    }

    fn is_current_wrong(&self) -> bool {
        matches!(self.problem, Some(Problem::WrongPassword | Problem::Empty))
    }

    fn errors(&self, t: &Locale) -> Vec<Cow<'_, str>> {
        errors_of(self.fields, "username", t)
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        Some(("/account/username".into(), vec![]))
    }
}

page!(ChangeUsername, "change_username.html", script: true);

/// A field of [`ProfileForm`].
#[derive(Clone, Copy, Debug)]
pub struct ProfileField<'a> {
    /// The name of the claim, or `address.` and that of a member.
    pub name: &'static str,
    pub value: &'a str,
}

impl ProfileField<'_> {
    /// The id of the element: selectors and anchors take no dot.
    fn id(&self) -> String {
        self.name.replace('.', "-")
    }

    fn label(&self, t: &Locale) -> Cow<'static, str> {
        t.get(match self.name {
            "name" => "profile-name",
            "given_name" => "profile-given-name",
            "family_name" => "profile-family-name",
            "middle_name" => "profile-middle-name",
            "nickname" => "profile-nickname",
            "preferred_username" => "profile-preferred-username",
            "profile" => "profile-profile",
            "picture" => "profile-picture",
            "website" => "profile-website",
            "gender" => "profile-gender",
            "birthdate" => "profile-birthdate",
            "zoneinfo" => "profile-zoneinfo",
            "locale" => "profile-locale",
            "phone_number" => "profile-phone-number",
            "address.formatted" => "profile-address-formatted",
            "address.street_address" => "profile-address-street-address",
            "address.locality" => "profile-address-locality",
            "address.region" => "profile-address-region",
            "address.postal_code" => "profile-address-postal-code",
            _ => "profile-address-country",
        })
    }

    /// What is to be typed, where that is not obvious.
    fn hint(&self, t: &Locale) -> Option<Cow<'static, str>> {
        let key = match self.name {
            "profile" | "picture" | "website" => "profile-hint-url",
            "birthdate" => "profile-hint-birthdate",
            "zoneinfo" => "profile-hint-zoneinfo",
            "locale" => "profile-hint-locale",
            "phone_number" => "profile-hint-phone",
            _ => return None,
        };
        Some(t.get(key))
    }

    fn has_lines(&self) -> bool {
        matches!(self.name, "address.formatted" | "address.street_address")
    }

    fn input_type(&self) -> &'static str {
        match self.name {
            "profile" | "picture" | "website" => "url",
            "phone_number" => "tel",
            _ => "text",
        }
    }

    /// The tokens of the HTML standard, "Autofill".
    fn autocomplete(&self) -> &'static str {
        match self.name {
            "name" => "name",
            "given_name" => "given-name",
            "family_name" => "family-name",
            "middle_name" => "additional-name",
            "nickname" => "nickname",
            "picture" => "photo",
            "website" => "url",
            "gender" => "sex",
            "birthdate" => "bday",
            "locale" => "language",
            "phone_number" => "tel",
            "address.street_address" => "street-address",
            "address.locality" => "address-level2",
            "address.region" => "address-level1",
            "address.postal_code" => "postal-code",
            "address.country" => "country-name",
            _ => "off",
        }
    }
}

/// `/account/profile`.
#[derive(Debug)]
pub struct ProfileForm<'a> {
    pub form: Form<'a>,
    /// Those of the claims in use.
    pub fields: Vec<ProfileField<'a>>,
    pub problem: Option<Problem>,
    /// Validation errors: the field, or `profile` for the whole, and the message of the server.
    pub errors: &'a [(&'static str, String)],
    /// Whether the profile has just been stored.
    pub is_saved: bool,
}

impl ProfileForm<'_> {
    fn is_rejected(&self) -> bool {
        self.problem.is_some() || !self.errors.is_empty()
    }

    /// The names of the fields, as the form sends them.
    fn field_names(&self) -> String {
        let names: Vec<&str> = self.fields.iter().map(|field| field.name).collect();
        names.join(" ")
    }

    fn errors_of(&self, field: &ProfileField<'_>, t: &Locale) -> Vec<Cow<'_, str>> {
        errors_of(self.errors, field.name, t)
    }

    /// The errors that belong to no field.
    fn further_errors(&self, t: &Locale) -> Vec<Cow<'_, str>> {
        let has_field = |name: &str| self.fields.iter().any(|field| field.name == name);
        let further = self.errors.iter().filter(|(name, _)| !has_field(name));
        further.map(|(_, message)| t.field_error(message)).collect()
    }

    /// The field to focus: the first invalid one.
    fn is_focused(&self, field: &ProfileField<'_>) -> bool {
        let is_invalid = |name: &str| self.errors.iter().any(|(known, _)| *known == name);
        let first = self.fields.iter().find(|field| is_invalid(field.name));
        first.is_some_and(|first| first.name == field.name)
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        Some(("/account/profile".into(), vec![]))
    }
}

page!(ProfileForm, "profile.html", script: false);

//! Mails, in the languages and the design of the pages. Their links begin with the configured
//! issuer: no header of a request has a part in them.

use askama::Template;

use crate::{
    branding::Branding,
    config::{Config, colors::Palette},
    error::Error,
    model::mail::{Content, Mail, RenderedMail},
};

/// What both templates show.
struct MailView {
    brand: String,
    colors: Palette,
    is_rtl: bool,
    /// The start page.
    site: String,
    heading: String,
    texts: Vec<String>,
    /// The URL, and what it does.
    button: Option<(String, String)>,
    /// What the code is for, and the code.
    code: Option<(String, String)>,
    /// For how long, and what to do where it was another person.
    notes: Vec<String>,
}

#[derive(Template)]
#[template(path = "mail/mail.html")]
struct Html<'a> {
    lang: &'static str,
    v: &'a MailView,
}

#[derive(Template)]
#[template(path = "mail/mail.txt")]
struct Text<'a> {
    v: &'a MailView,
}

/// The messages of a kind of mail: its subject, which is its heading, and its texts. `{ $brand }` is
/// known in each.
struct Messages {
    subject: &'static str,
    text: &'static str,
    button: Option<&'static str>,
    notes: &'static [&'static str],
}

const fn messages(content: &Content) -> Messages {
    let (subject, text, button, notes): (_, _, _, &'static [&'static str]) = match content {
        Content::VerifyEmail { .. } => (
            "mail-verify-subject",
            "mail-verify-text",
            Some("mail-verify-button"),
            &["mail-day", "mail-verify-not-you"],
        ),
        Content::ConfirmRegistration { .. } => (
            "mail-register-subject",
            "mail-register-text",
            Some("mail-register-button"),
            &["mail-day", "mail-ignore"],
        ),
        Content::Invitation { .. } => (
            "mail-invitation-subject",
            "mail-invitation-text",
            Some("mail-invitation-button"),
            &["mail-invitation-not-you"],
        ),
        Content::AddressInUse => {
            ("mail-in-use-subject", "mail-in-use-text", None, &["mail-in-use-not-you"])
        }
        Content::ResetPassword { .. } => (
            "mail-reset-subject",
            "mail-reset-text",
            Some("mail-reset-button"),
            &["mail-half-hour", "mail-reset-not-you"],
        ),
        Content::ConfirmChange { .. } => (
            "mail-change-subject",
            "mail-change-text",
            Some("mail-change-button"),
            &["mail-hour", "mail-change-not-you"],
        ),
        Content::ChangeRequested { .. } => (
            "mail-requested-subject",
            "mail-requested-text",
            Some("mail-object-button"),
            &["mail-object-text", "mail-week"],
        ),
        Content::EmailChanged { token: Some(_), .. } => (
            "mail-changed-subject",
            "mail-changed-text",
            Some("mail-object-button"),
            &["mail-object-text", "mail-week"],
        ),
        Content::EmailChanged { token: None, .. } => {
            ("mail-changed-subject", "mail-changed-text", None, &["mail-changed-admin"])
        }
        Content::PasswordChanged => {
            ("mail-password-subject", "mail-password-text", None, &["mail-password-not-you"])
        }
        Content::DeletionRequested { .. } => {
            ("mail-deletion-subject", "mail-deletion-text", None, &["mail-deletion-not-you"])
        }
        Content::NewDevice { .. } => {
            ("mail-device-subject", "mail-device-text", None, &["mail-device-not-you"])
        }
        Content::Test => ("mail-test-subject", "mail-test-text", None, &[]),
    };
    Messages { subject, text, button, notes }
}

/// Renders a mail in its language.
///
/// # Errors
/// If a template fails to render, which indicates a bug.
pub fn render(
    config: &Config,
    branding: &'static Branding,
    mail: &Mail,
) -> Result<RenderedMail, Error> {
    let t = branding.locale_of_tag(&mail.language);
    let brand = config.mail_brand();
    let issuer = config.server.issuer.as_str();
    let address = match &mail.content {
        Content::ChangeRequested { address, .. }
        | Content::EmailChanged { address, .. }
        | Content::NewDevice { address, .. } => address,
        _ => "",
    };
    let date = match &mail.content {
        Content::DeletionRequested { date } | Content::Invitation { date, .. } => date,
        _ => "",
    };
    let (time, browser, facts): (_, _, &[&str]) = match &mail.content {
        Content::NewDevice { time, browser, .. } => {
            let named = if browser.is_empty() {
                "mail-device-other-browser"
            } else {
                "mail-device-browser"
            };
            (time.as_str(), browser.as_str(), &["mail-device-time", named, "mail-device-address"])
        }
        _ => ("", "", &[]),
    };
    // Mail programs show isolates as boxes.
    let values = [
        ("brand", brand),
        ("address", address),
        ("date", date),
        ("time", time),
        ("browser", browser),
    ];
    let say = |key: &str| t.plain(t.with(key, &values));
    let Messages { subject, text, button, notes } = messages(&mail.content);
    let link = mail.content.link().map(|(page, parameter, token)| {
        let query = [(parameter, token), ("lang", t.tag())];
        let query =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        format!("{issuer}{page}?{query}")
    });
    let code = match &mail.content {
        Content::VerifyEmail { code, .. } => {
            let (first, last) = code.split_at_checked(4).unwrap_or((code, ""));
            Some((say("mail-verify-code"), format!("{first} {last}")))
        }
        _ => None,
    };
    let view = MailView {
        brand: brand.to_owned(),
        colors: branding.mail_colors,
        is_rtl: branding.is_rtl(t.tag()),
        site: issuer.to_owned(),
        heading: say(subject),
        texts: std::iter::once(&text).chain(facts).copied().map(say).collect(),
        button: link.zip(button.map(say)),
        code,
        notes: notes.iter().copied().map(say).collect(),
    };
    let broken = |error: askama::Error| Error::Unavailable(error.into());
    Ok(RenderedMail {
        text: Text { v: &view }.render().map_err(broken)?,
        html: Html { lang: t.tag(), v: &view }.render().map_err(broken)?,
        subject: view.heading,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of mail, with `text` in place of every value.
    fn every_mail(text: &str) -> Vec<Content> {
        let (token, address) = (text.to_owned(), text.to_owned());
        let code = "12345678".to_owned();
        vec![
            Content::VerifyEmail { token: token.clone(), code },
            Content::ConfirmRegistration { token: token.clone() },
            Content::Invitation { token: token.clone(), date: text.to_owned() },
            Content::AddressInUse,
            Content::ResetPassword { token: token.clone() },
            Content::ConfirmChange { token: token.clone() },
            Content::ChangeRequested { token: token.clone(), address: address.clone() },
            Content::EmailChanged { token: Some(token), address: address.clone() },
            Content::EmailChanged { token: None, address },
            Content::PasswordChanged,
            Content::NewDevice {
                time: text.to_owned(),
                browser: text.to_owned(),
                address: text.to_owned(),
            },
            Content::Test,
        ]
    }

    fn config() -> Config {
        let settings = [
            ("PROPUSK_SERVER__ISSUER", "https://auth.localhost"),
            ("PROPUSK_MAIL__BRAND", "Notes & <Co>"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Config::load(None, settings.into_iter()).expect("valid")
    }

    #[test]
    fn every_mail_has_both_forms_in_both_languages() {
        let config = config();
        let (mut subjects, mut previews) = (std::collections::BTreeSet::new(), vec![]);
        for language in ["en", "ru"] {
            for content in every_mail("dG9rZW4") {
                let (kind, link) =
                    (content.kind(), content.link().map(|(page, name, _)| (page, name)));
                let mail =
                    Mail { to: "ann@example.org".into(), language: language.into(), content };
                let RenderedMail { subject, text, html } =
                    render(&config, Branding::ours(), &mail).expect("renders");
                subjects.insert(subject.clone());
                assert!(!subject.contains(char::is_control) && subject.chars().count() < 90);
                assert!(html.contains(&format!("<html lang=\"{language}\">")), "{html}");
                for body in [&text, &html] {
                    assert!(!body.contains(['\u{2068}', '\u{2069}', '{']), "{body}");
                    let is_russian = body.contains(|c: char| ('а'..='я').contains(&c));
                    assert_eq!(is_russian, language == "ru", "{body}");
                    if let Some((page, name)) = link {
                        let url = format!("https://auth.localhost{page}?{name}=dG9rZW4");
                        assert!(body.contains(&url), "{kind}: {body}");
                    }
                    assert_eq!(body.contains("1234 5678"), kind == "verify_email", "{body}");
                }
                assert!(text.contains("Notes & <Co>") && !html.contains("<Co>"), "{html}");
                assert!(text.lines().all(|line| line.chars().count() < 300), "{text}");
                previews.push((format!("{kind}-{language}"), text, html));
            }
        }
        assert_eq!(subjects.len(), 22, "each kind has its own subject: {subjects:?}");
        // For people: PROPUSK_TEST_MAILS=folder writes them out.
        if let Some(folder) = std::env::var_os("PROPUSK_TEST_MAILS").map(std::path::PathBuf::from) {
            for (name, text, html) in previews {
                std::fs::write(folder.join(format!("{name}.txt")), text).expect("written");
                std::fs::write(folder.join(format!("{name}.html")), html).expect("written");
            }
        }
    }

    #[test]
    fn t196_values_are_escaped_in_mails() {
        let config = config();
        for content in every_mail("\"><svg onload=alert(1)>\r\nBcc: eve@example.org") {
            let mail = Mail { to: "ann@example.org".into(), language: "en".into(), content };
            let RenderedMail { subject, text, html } =
                render(&config, Branding::ours(), &mail).expect("renders");
            assert!(!html.contains("<svg") && !subject.contains(['\r', '\n']), "{html}");
            assert!(!text.contains("=\">"), "{text}");
        }
    }
}

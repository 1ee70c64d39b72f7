//! How mails are sent.

use std::{fmt, path::PathBuf, time::Duration};

use serde::Deserialize;
use url::Host;

use super::{Config, Switch, empty_is_none, pages};
use crate::model::user::Email;

/// Mails to users (see `crate::flows::mail`).
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// As written; [`Config::mail_delivery`] resolves `Auto`.
    pub delivery: Delivery,
    /// The SMTP server; empty: none.
    pub host: String,
    /// 0: the usual one; [`Mail::port`] resolves it.
    pub port: u16,
    pub tls: SmtpTls,
    /// Allows `tls = "none"` beyond loopback.
    pub allow_plaintext: bool,
    /// Trusted instead of the public certificate authorities.
    #[serde(deserialize_with = "empty_is_none")]
    pub ca_file: Option<PathBuf>,
    pub username: String,
    pub password: String,
    /// An address, or `Name <address>`; [`Mail::sender`] parses it.
    pub from: String,
    /// Empty: none.
    pub reply_to: String,
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// What mails call this service; empty: `pages.brand`. [`Config::mail_brand`] resolves it.
    pub brand: String,
    /// Of mails to users whose language is not known: a language tag of the pages.
    pub language: String,
    pub per_address_per_hour: u32,
    pub per_network_per_hour: u32,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mail({:?}, {}:{}, {:?})", self.delivery, self.host, self.port(), self.tls)
    }
}

/// Where mails go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// To the SMTP server if there is one, else to the folder while issuer and listener are on
    /// loopback, else off.
    Auto,
    /// No mail is written: what needs one is not offered.
    Off,
    /// Files in the data directory.
    Folder,
    Smtp,
}

/// How connections to the SMTP server are secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// Required: no mail is sent where the server does not offer it (RFC 3207).
    Starttls,
    /// From the first byte (RFC 8314 §3.3).
    Implicit,
    None,
}

/// Who a mail is from or answered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    pub name: Option<String>,
    pub address: Email,
}

impl Sender {
    /// # Errors
    /// What is wrong, after "must be".
    fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "must be an email address, as in no-reply@example.com or Example <no-reply@example.com>";
        let (name, address) = match text.trim().strip_suffix('>') {
            Some(rest) => {
                let (name, address) = rest.split_once('<').ok_or(FORM)?;
                (name.trim().trim_matches('"'), address)
            }
            None => ("", text),
        };
        if name.chars().any(|c| c.is_control() || "<>\"\\".contains(c)) {
            return Err(FORM);
        }
        let address = Email::parse(address).map_err(|_| FORM)?;
        Ok(Self { name: (!name.is_empty()).then(|| name.to_owned()), address })
    }
}

impl Mail {
    /// The port of the SMTP server.
    pub const fn port(&self) -> u16 {
        match (self.port, self.tls) {
            (0, SmtpTls::Starttls) => 587,
            (0, SmtpTls::Implicit) => 465,
            (0, SmtpTls::None) => 25,
            (port, _) => port,
        }
    }

    /// Who mails are from; in the folder without a setting, nobody in particular.
    pub fn sender(&self) -> Option<Sender> {
        let from = if self.from.is_empty() { "no-reply@localhost" } else { &self.from };
        Sender::parse(from).ok()
    }

    /// Where answers go, if not to the sender.
    pub fn answers(&self) -> Option<Sender> {
        Sender::parse(&self.reply_to).ok()
    }

    fn is_loopback(&self) -> bool {
        match Host::parse(&self.host) {
            Ok(Host::Ipv4(address)) => address.is_loopback(),
            Ok(Host::Ipv6(address)) => address.is_loopback(),
            Ok(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Err(_) => self.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
        }
    }
}

impl Config {
    /// Where mails go: never [`Delivery::Auto`].
    pub fn mail_delivery(&self) -> Delivery {
        match self.mail.delivery {
            Delivery::Auto if !self.mail.host.is_empty() => Delivery::Smtp,
            Delivery::Auto if self.is_local() => Delivery::Folder,
            Delivery::Auto => Delivery::Off,
            delivery => delivery,
        }
    }

    /// What mails call this service.
    pub fn mail_brand(&self) -> &str {
        match self.mail.brand.as_str() {
            "" => &self.pages.brand,
            brand => brand,
        }
    }

    /// Whether mails are sent at all.
    pub fn sends_mail(&self) -> bool {
        self.mail_delivery() != Delivery::Off
    }

    /// Whether an account is created only once its address has been confirmed, so that a
    /// registration does not tell whether the address has one already.
    pub fn confirms_registrations(&self) -> bool {
        match self.registration.confirm_email {
            Switch::Auto => self.mail_delivery() == Delivery::Smtp,
            Switch::On => self.sends_mail(),
            Switch::Off => false,
        }
    }

    /// The folder of mails in development.
    pub fn mail_folder(&self) -> PathBuf {
        self.data_dir.join("mail")
    }
}

pub(super) fn problems(config: &Config, found: &mut Vec<(&'static str, String)>) {
    let mail = &config.mail;
    let mut wrong = |key, problem: &str| found.push((key, problem.to_owned()));
    let delivery = config.mail_delivery();
    if delivery == Delivery::Smtp {
        if mail.host.is_empty() {
            wrong("mail.host", "is required by mail.delivery = \"smtp\": name the SMTP server");
        } else if mail.host.contains([':', '/', '@', ' '])
            && mail.host.parse::<std::net::Ipv6Addr>().is_err()
        {
            wrong("mail.host", "must be a host name or an IP address; the port is mail.port");
        }
        if mail.from.is_empty() {
            wrong("mail.from", "is required: name the address that mails are from");
        }
        if mail.tls == SmtpTls::None && !mail.is_loopback() && !mail.allow_plaintext {
            wrong(
                "mail.tls",
                "would send links that reset passwords in the clear; use \"starttls\" or \"implicit\", \
                 or set mail.allow_plaintext on a network that nobody else can read",
            );
        }
    }
    if mail.username.is_empty() != mail.password.is_empty() {
        wrong("mail.username", "and mail.password are set together or not at all");
    }
    for (key, text) in [("mail.from", &mail.from), ("mail.reply_to", &mail.reply_to)] {
        if let Err(problem) = Sender::parse(text)
            && !text.is_empty()
        {
            wrong(key, problem);
        }
    }
    if !(Duration::from_secs(1)..=Duration::from_secs(300)).contains(&mail.timeout) {
        wrong("mail.timeout", "must be from 1s to 5m");
    }
    if !mail.brand.is_empty()
        && let Some(problem) = pages::brand_problem(&mail.brand)
    {
        wrong("mail.brand", &problem);
    }
    // Further languages are in the folder, which is read later.
    let has_folder = config.pages.folder.is_some();
    if !has_folder && !["en", "ru"].contains(&mail.language.as_str()) {
        wrong("mail.language", "must be en or ru, or a language of pages.folder");
    }
    for (key, count) in [
        ("mail.per_address_per_hour", mail.per_address_per_hour),
        ("mail.per_network_per_hour", mail.per_network_per_hour),
    ] {
        if count == 0 {
            wrong(key, "must be at least 1");
        }
    }
    if config.registration.confirm_email == Switch::On && delivery == Delivery::Off {
        wrong(
            "registration.confirm_email",
            "needs mails: set mail.host, or set this to \"auto\" or \"off\"",
        );
    }
    if let Some(path) = &mail.ca_file
        && !path.is_file()
    {
        let problem = format!("file not found: {}; name an existing file", path.display());
        wrong("mail.ca_file", &problem);
    }
}

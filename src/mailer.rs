//! Delivers mails: to an SMTP server, or in development as files of a folder.

use std::{
    fmt, fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf, time::Duration,
};

use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Mailbox, MultiPart, header},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
        extension::ClientId,
    },
};

use crate::{
    config::{self, Config, Delivery, Sender, SmtpTls},
    model::mail::RenderedMail,
};

/// The steps of a delivery, which as a whole may take so many times `mail.timeout`: connecting, TLS,
/// greeting, login, sender, recipient, content, end.
pub const STEPS: u32 = 8;

/// Where mails go.
pub struct Mailer {
    from: Mailbox,
    reply_to: Option<Mailbox>,
    /// Of `Message-ID`.
    domain: String,
    /// For all steps.
    timeout: Duration,
    target: Target,
}

enum Target {
    Smtp(Box<AsyncSmtpTransport<Tokio1Executor>>),
    Folder(PathBuf),
}

/// Why a mail was not delivered. The texts contain no address: they are stored and logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The server refuses this mail for good (RFC 5321 §4.2.1: 5yz, but for its login).
    Refused(String),
    /// It may be accepted later.
    Unavailable(String),
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) | Self::Unavailable(why) => f.write_str(why),
        }
    }
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Smtp(_) => f.write_str("Mailer(smtp)"),
            Target::Folder(folder) => write!(f, "Mailer({})", folder.display()),
        }
    }
}

impl Mailer {
    /// The configured one; `None` where mails are off. Nothing is connected yet.
    ///
    /// # Errors
    /// What is wrong with an address or a file.
    pub fn new(config: &Config) -> Result<Option<Self>, String> {
        let mail = &config.mail;
        let target = match config.mail_delivery() {
            Delivery::Smtp => Target::Smtp(Box::new(transport(mail)?)),
            Delivery::Folder => Target::Folder(config.mail_folder()),
            Delivery::Off | Delivery::Auto => return Ok(None),
        };
        let from = mail.sender().ok_or("mail.from: is not an email address")?;
        let domain =
            ascii_domain(&from.address.address).ok_or("mail.from: the domain has no ASCII form")?;
        let from =
            Sender { name: from.name.or_else(|| Some(config.mail_brand().to_owned())), ..from };
        let from = mailbox(from).map_err(|error| format!("mail.from: {error}"))?;
        let reply_to = mail.answers().map(mailbox).transpose();
        let reply_to = reply_to.map_err(|error| format!("mail.reply_to: {error}"))?;
        let timeout = mail.timeout * STEPS;
        Ok(Some(Self { from, reply_to, domain, timeout, target }))
    }

    /// Sends a mail, once or, after a crash, twice: `id` is in its `Message-ID`, so that mail
    /// programs show one.
    ///
    /// # Errors
    /// [`NotSent`].
    pub async fn send(&self, id: &str, to: &str, mail: RenderedMail) -> Result<(), NotSent> {
        let message = self.message(id, to, mail).map_err(NotSent::Refused)?;
        match &self.target {
            // lettre's own timeout is for connecting only.
            Target::Smtp(transport) => {
                match tokio::time::timeout(self.timeout, transport.send(message)).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(not_sent(&error)),
                    Err(_) => Err(NotSent::Unavailable("timeout".to_owned())),
                }
            }
            Target::Folder(folder) => {
                let path = folder.join(format!("{id}.eml"));
                let written = write(&path, &message.formatted());
                written.map_err(|error| NotSent::Unavailable(format!("mail folder: {error}")))?;
                tracing::info!(path = %path.display(), "mail written to the folder for development");
                Ok(())
            }
        }
    }

    fn message(&self, id: &str, to: &str, mail: RenderedMail) -> Result<Message, String> {
        let unfit = |_| "the address cannot be written to".to_owned();
        let to = address(to).ok_or_else(|| unfit(()))?;
        let mut builder = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(mail.subject)
            .message_id(Some(format!("<{id}@{}>", self.domain)))
            .header(AutoSubmitted);
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(reply_to.clone());
        }
        let parts = MultiPart::alternative_plain_html(mail.text, mail.html);
        builder.multipart(parts).map_err(|error| error.to_string())
    }
}

/// RFC 3834 §5: no out-of-office reply answers it.
#[derive(Clone, Copy)]
struct AutoSubmitted;

impl header::Header for AutoSubmitted {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

fn transport(mail: &config::Mail) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let tls = match mail.tls {
        SmtpTls::None => Tls::None,
        SmtpTls::Starttls => Tls::Required(parameters(mail)?),
        SmtpTls::Implicit => Tls::Wrapper(parameters(mail)?),
    };
    let name = mail.sender().and_then(|sender| ascii_domain(&sender.address.address));
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(mail.host.as_str())
        .port(mail.port())
        .timeout(Some(mail.timeout))
        .tls(tls);
    if let Some(name) = name {
        builder = builder.hello_name(ClientId::Domain(name));
    }
    if !mail.username.is_empty() {
        builder =
            builder.credentials(Credentials::new(mail.username.clone(), mail.password.clone()));
    }
    Ok(builder.build())
}

fn parameters(mail: &config::Mail) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(mail.host.clone());
    if let Some(file) = &mail.ca_file {
        let invalid = |error: String| format!("mail.ca_file: {}: {error}", file.display());
        let pem = fs::read(file).map_err(|error| invalid(error.to_string()))?;
        let authority = Certificate::from_pem(&pem).map_err(|error| invalid(error.to_string()))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(authority);
    }
    builder.build().map_err(|error| format!("mail.tls: {error}"))
}

fn mailbox(sender: Sender) -> Result<Mailbox, &'static str> {
    let address = address(&sender.address.address).ok_or("the address cannot be written to")?;
    Ok(Mailbox::new(sender.name, address))
}

/// The address as SMTP takes it: its domain in ASCII (RFC 5890).
fn address(text: &str) -> Option<Address> {
    let (local, _) = text.rsplit_once('@')?;
    Address::new(local, ascii_domain(text)?).ok()
}

fn ascii_domain(address: &str) -> Option<String> {
    let (_, domain) = address.rsplit_once('@')?;
    idna::domain_to_ascii(domain).ok()
}

/// Servers repeat the address in their texts, so only the status is kept.
fn not_sent(error: &lettre::transport::smtp::Error) -> NotSent {
    let why = match error.status() {
        Some(code) => format!("SMTP status {code}"),
        None if error.is_timeout() => "timeout".to_owned(),
        None if error.is_tls() => "TLS failed: check mail.tls and mail.ca_file".to_owned(),
        // Such as: no STARTTLS offered, no authentication mechanism in common.
        None if error.is_client() => "the server lacks what the settings of [mail] need".to_owned(),
        None if error.is_response() => "the server does not speak SMTP".to_owned(),
        None => "the server cannot be reached".to_owned(),
    };
    // RFC 4954 §6: 53z is about this server's login, which its operator corrects.
    let is_login = error.status().is_some_and(|code| code.to_string().starts_with("53"));
    match error.is_permanent() && !is_login {
        true => NotSent::Refused(why),
        false => NotSent::Unavailable(why),
    }
}

/// Writes the file under its name once it is whole.
fn write(path: &std::path::Path, content: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = path.parent().unwrap_or(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let partial = path.with_extension("partial");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(content)?;
    fs::rename(partial, path)
}

//! `propusk mail`.

use clap::Subcommand;

use super::{Failed, commands::failed, listing::Listing};
use crate::{
    app::App,
    config::Delivery,
    flows::mail,
    http::{api::admin::MailData, views},
    model::{actor::Actor, mail::MailState},
    storage::mails,
};

#[derive(Debug, Subcommand)]
pub enum MailCommand {
    /// Send a test mail at once, and report what the mail server said
    Test {
        /// Email address
        address: String,
    },
    /// List the mails of the last seven days, the newest first; without recipients and contents
    List {
        /// Only mails that have failed
        #[arg(long)]
        failed: bool,
        /// Maximum number of mails
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub async fn mail(app: &App, command: MailCommand) -> Result<(), Failed> {
    match command {
        MailCommand::Test { address } => {
            let sent = mail::test(app, &address, views::mail::render, &Actor::operator()).await;
            sent.map_err(failed)?;
            match app.config.mail_delivery() {
                Delivery::Folder => println!("written to {}", app.config.mail_folder().display()),
                _ => {
                    let mail = &app.config.mail;
                    println!("accepted by {}, port {}", mail.host, mail.port());
                }
            }
        }
        MailCommand::List { failed: only_failed, limit, json } => {
            let header = &["CREATED", "KIND", "STATE", "ATTEMPTS", "ERROR", "USER"];
            let mut listing = Listing::new(header, json);
            let state = only_failed.then_some(MailState::Failed);
            let found = mails::page(&app.db, state, "g", limit.into()).await.map_err(failed)?;
            for found in found {
                let mail = MailData::from(found);
                let (attempts, error) = (mail.attempts.to_string(), mail.error.as_deref());
                let cells = [
                    mail.created_at.as_str(),
                    &mail.kind,
                    &mail.state,
                    &attempts,
                    error.unwrap_or_default(),
                    mail.user_id.as_deref().unwrap_or_default(),
                ];
                listing.add(cells, &mail)?;
            }
            listing.print()?;
        }
    }
    Ok(())
}

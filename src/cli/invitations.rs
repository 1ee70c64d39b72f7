//! `propusk invitation`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Failed, clients::duration, commands::failed, listing::Listing, modules::moment};
use crate::{
    app::App,
    clock::Timestamp,
    flows::admin::{
        access::Precondition,
        invitations::{self, NewInvitation},
    },
    http::api::admin::InvitationData,
    model::{actor::Actor, module::OpenGrant, user::Role},
    storage::invitations as rows,
};

#[derive(Debug, Subcommand)]
pub enum InvitationCommand {
    /// Add an invitation for one account; its link is printed once
    Add(NewArgs),
    /// List invitations; used ones until they expire
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke an invitation; an account that was created with it stays
    Revoke {
        /// Id of the invitation
        id: String,
    },
}

/// The settings of an invitation.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Email address that it is for and is sent to [default: valid for any address]
    email: Option<String>,
    /// Language of the mail, one of the pages' languages [default: mail.language]
    #[arg(long)]
    language: Option<String>,
    /// Role of the new user
    #[arg(long, default_value = "user")]
    role: String,
    /// Module to grant to the new user, with an end as in "crm=2027-01-31T00:00:00Z" or without;
    /// repeatable
    #[arg(long, value_name = "MODULE[=TIME]", value_parser = grant)]
    module: Vec<(String, Option<Timestamp>)>,
    /// Time until it expires, such as 24h; at most 90d
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = duration)]
    expires: Duration,
}

fn grant(text: &str) -> Result<(String, Option<Timestamp>), String> {
    match text.split_once('=') {
        Some((module, until)) => Ok((module.to_owned(), Some(moment(until)?))),
        None => Ok((text.to_owned(), None)),
    }
}

pub async fn invitation(app: &App, command: InvitationCommand) -> Result<(), Failed> {
    let by = Actor::operator();
    match command {
        InvitationCommand::Add(NewArgs { email, language, role, module, expires }) => {
            let grant = |(module_id, valid_until)| OpenGrant { module_id, valid_until };
            let new = NewInvitation {
                email,
                language,
                role: Role::parse(&role).map_err(|why| Failed::Usage(why.to_owned()))?,
                modules: module.into_iter().map(grant).collect(),
                ttl: Some(expires),
            };
            let (invitation, link) = invitations::create(app, new, None, &by).await?.resource;
            println!("added invitation {}", invitation.id);
            println!("link (shown once): {}", link.unwrap_or_default());
            if let Some(email) = invitation.email.filter(|_| invitation.is_mailed) {
                println!("it will be sent to {email}");
            }
        }
        InvitationCommand::List { json } => {
            let header = &["ID", "EMAIL", "ROLE", "MODULES", "EXPIRES", "USED"];
            let mut listing = Listing::new(header, json);
            let mut after = String::new();
            loop {
                let page = rows::page(&app.db, &after, 500).await.map_err(failed)?;
                let Some(last) = page.last() else { break };
                after.clone_from(&last.id);
                for invitation in page {
                    let shown = InvitationData::from(invitation);
                    let modules = shown.modules.iter().map(|one| one.module_id.as_str());
                    let modules = modules.collect::<Vec<_>>().join(" ");
                    let email = shown.email.as_deref().unwrap_or_default();
                    let used = shown.used_at.as_deref().unwrap_or_default();
                    let cells: [&str; 6] =
                        [&shown.id, email, &shown.role, &modules, &shown.expires_at, used];
                    listing.add(cells, &shown)?;
                }
            }
            listing.print()?;
        }
        InvitationCommand::Revoke { id } => {
            invitations::revoke(app, &id, &Precondition::Any, &by).await?;
            println!("revoked invitation {id}");
        }
    }
    Ok(())
}

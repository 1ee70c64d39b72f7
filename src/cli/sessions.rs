//! `propusk session` and `audit`.

use clap::Subcommand;

use super::{
    Failed,
    commands::failed,
    listing::{Listing, print_record},
    modules::moment,
};
use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::{admin::users, sessions::end},
    http::api::admin::{AuditEntry, SessionOverview},
    ids::{ClientId, SessionId},
    model::actor::Actor,
    storage::{
        audit::{self, AuditFilter},
        sessions::{self as rows, SessionFilter},
    },
};

#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// List sessions, the newest first
    List {
        /// Sessions of this user only: id, email address or username
        #[arg(long)]
        user: Option<String>,
        /// Sessions of this user of a back end only: the `sub` of their tokens, such as mp1:42
        #[arg(long, conflicts_with = "user")]
        subject: Option<String>,
        /// Sessions of this client only: its id
        #[arg(long)]
        client: Option<ClientId>,
        /// Include revoked and expired sessions
        #[arg(long)]
        all: bool,
        /// Maximum number of sessions
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a session
    Show {
        /// Session id, the `sid` of its tokens
        id: SessionId,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a session and its tokens
    Revoke {
        /// Session id, the `sid` of its tokens
        #[arg(required_unless_present = "subject")]
        id: Option<SessionId>,
        /// Instead: all sessions of this user of a back end, by the `sub` of their tokens
        #[arg(long, conflicts_with = "id")]
        subject: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List entries of the audit log, the newest first
    List {
        /// Entries of this actor only: a user id, a client id or cli
        #[arg(long)]
        actor: Option<String>,
        /// Entries about this subject only: the id of a user, client, module, role or key
        #[arg(long)]
        subject: Option<String>,
        /// Entries of this action only, such as user.updated
        #[arg(long)]
        action: Option<String>,
        /// Entries from this time on, such as 2026-11-21T12:00:00Z
        #[arg(long, value_name = "TIME", value_parser = moment)]
        from: Option<Timestamp>,
        /// Entries before this time
        #[arg(long, value_name = "TIME", value_parser = moment)]
        to: Option<Timestamp>,
        /// Maximum number of entries
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub async fn session(app: &App, command: SessionCommand) -> Result<(), Failed> {
    match command {
        SessionCommand::List { user, subject, client, all, limit, json } => {
            let user_id = match user {
                Some(user) => Some(users::find(app, &user).await?.id),
                None => None,
            };
            let live = (!all).then_some(true);
            let filter = SessionFilter { user_id, subject, client_id: client, live };
            let found = rows::page(
                &app.db,
                &filter,
                crate::model::AFTER_EVERY_ID,
                limit.into(),
                app.clock.now(),
            )
            .await;
            let header = &["ID", "SUBJECT", "CLIENT", "STATE", "CREATED", "EXPIRES", "ADDRESS"];
            let mut listing = Listing::new(header, json);
            let now = app.clock.now();
            for session in found.map_err(failed)? {
                let state = match &session.revocation_reason {
                    _ if session.is_live(now) => "active",
                    Some(_) => "revoked",
                    None => "expired",
                };
                let shown = SessionOverview::from(session);
                let cells: [&str; 7] = [
                    &shown.id,
                    &shown.subject,
                    &shown.client_id,
                    state,
                    &shown.created_at,
                    &shown.expires_at,
                    shown.address.as_deref().unwrap_or_default(),
                ];
                listing.add(cells, &shown)?;
            }
            listing.print()
        }
        SessionCommand::Show { id, json } => {
            let found = rows::overview_of(&app.db, &id).await.map_err(failed)?;
            let found = found.ok_or(Error::NotFound("session"))?;
            print_record(&SessionOverview::from(found), json)
        }
        SessionCommand::Revoke { id: Some(id), .. } => {
            end::close(app, &id, &Actor::operator()).await?;
            println!("revoked session {id} and its tokens");
            Ok(())
        }
        SessionCommand::Revoke { id: None, subject } => {
            let subject = subject.unwrap_or_default();
            let ended = end::end_all_of_external(app, &subject, &Actor::operator()).await?;
            println!("revoked {ended} sessions of {subject} and their tokens");
            Ok(())
        }
    }
}

pub async fn audit(app: &App, command: AuditCommand) -> Result<(), Failed> {
    let AuditCommand::List { actor, subject, action, from, to, limit, json } = command;
    let filter = AuditFilter { actor, subject, action, from, to, ..AuditFilter::default() };
    let found = audit::page(&app.db, &filter, i64::MAX, limit.into()).await;
    let header = &["NUMBER", "AT", "ACTION", "ACTOR", "SUBJECT", "ADDRESS", "DETAIL"];
    let mut listing = Listing::new(header, json);
    for entry in found.map_err(failed)? {
        let shown = AuditEntry::from(entry);
        let (number, detail) = (shown.number.to_string(), shown.detail.to_string());
        let cells: [&str; 7] = [
            &number,
            &shown.at,
            &shown.action,
            &shown.actor,
            shown.subject.as_deref().unwrap_or_default(),
            shown.address.as_deref().unwrap_or_default(),
            &detail,
        ];
        listing.add(cells, &shown)?;
    }
    listing.print()
}

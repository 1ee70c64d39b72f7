//! `propusk events`.

use clap::{Args, Subcommand};

use super::{
    Failed,
    commands::failed,
    listing::{Listing, print_json},
    modules::moment,
};
use crate::{
    app::App,
    clock::Timestamp,
    flows::admin::events as flow,
    http::api::admin::EventData,
    model::{actor::Actor, event_types},
    storage::relay::{self, EventFilter},
};

#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// List events of the outbox, the newest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// Only events that Kafka refused for good
        #[arg(long)]
        refused: bool,
        /// Maximum number of events
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Publish events again, under the same ids
    Replay {
        #[command(flatten)]
        filter: Filter,
        /// Events that Kafka refused for good, after their cause was removed
        #[arg(long)]
        refused: bool,
        /// Every event of the outbox
        #[arg(long, conflicts_with_all = ["id", "user", "kind", "from", "to", "refused"])]
        all: bool,
    },
    /// Print the AsyncAPI document: every topic, message and JSON Schema
    Asyncapi,
    /// List the events that Kafka refused for good: those in the dead-letter topic
    DeadLetter {
        #[command(flatten)]
        filter: Filter,
        /// Maximum number of events
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Which events.
#[derive(Debug, Args)]
pub struct Filter {
    /// The event of this id only
    #[arg(long)]
    id: Option<String>,
    /// Events of this user only: an id
    #[arg(long)]
    user: Option<String>,
    /// Events of this type only, such as user.created
    #[arg(long = "type", value_name = "TYPE", id = "kind")]
    kind: Option<String>,
    /// Events from this time on, such as 2026-11-21T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Timestamp>,
    /// Events before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Timestamp>,
}

impl Filter {
    fn read(self, refused: bool) -> EventFilter {
        let Self { id, user, kind, from, to } = self;
        EventFilter { id, subject: user, kind, from, to, refused }
    }
}

pub async fn events(app: &App, command: EventsCommand) -> Result<(), Failed> {
    match command {
        EventsCommand::List { filter, refused, limit, json } => {
            list(app, &filter.read(refused), limit, json).await
        }
        EventsCommand::DeadLetter { filter, limit, json } => {
            list(app, &filter.read(true), limit, json).await
        }
        EventsCommand::Asyncapi => asyncapi(),
        EventsCommand::Replay { filter, refused, all } => {
            let filter = filter.read(refused);
            if filter == EventFilter::default() && !all {
                return Err(Failed::Usage("name the events, or give --all".to_owned()));
            }
            let count = flow::replay(app, &filter, &Actor::operator()).await?;
            println!("{count} event(s) will be published again");
            Ok(())
        }
    }
}

/// Prints the AsyncAPI document.
pub fn asyncapi() -> Result<(), Failed> {
    print_json(&event_types::asyncapi())
}

async fn list(app: &App, filter: &EventFilter, limit: u32, json: bool) -> Result<(), Failed> {
    let found = relay::page(&app.db, filter, i64::MAX, limit.into()).await.map_err(failed)?;
    let header = &["ID", "TYPE", "SUBJECT", "TIME", "PUBLISHED", "REFUSED"];
    let mut listing = Listing::new(header, json);
    for row in found {
        let shown = EventData::from(row);
        let cells: [&str; 6] = [
            &shown.id,
            &shown.r#type,
            &shown.subject,
            &shown.time,
            shown.published_at.as_deref().unwrap_or_default(),
            shown.refused.as_deref().unwrap_or_default(),
        ];
        listing.add(cells, &shown)?;
    }
    listing.print()
}

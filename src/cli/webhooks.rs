//! `propusk webhook`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Failed,
    clients::{duration, set_list},
    commands::failed,
    listing::{Listing, print_record},
    modules::moment,
};
use crate::{
    app::App,
    clock::Timestamp,
    flows::admin::{access::Precondition, webhooks},
    http::api::admin::{DeliveryData, WebhookData},
    model::{
        actor::Actor,
        webhook::{DeliveryState, WebhookSettings},
    },
    storage::{
        webhook_deliveries::{self as deliveries, DeliveryFilter},
        webhooks as rows,
    },
};

#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// Add a webhook; its secret is printed once
    Add {
        /// URL that events are posted to: https, or http within outbound.allowed_networks
        url: String,
        /// Id: 1 to 64 of a-z, 0-9 and - [default: generated]
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Change the given settings of a webhook
    Set {
        /// Id of the webhook
        id: String,
        /// URL that events are posted to
        #[arg(long)]
        url: Option<String>,
        #[command(flatten)]
        settings: Settings,
    },
    /// List webhooks
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a webhook and whether it fails
    Show {
        /// Id of the webhook
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a webhook a new secret, printed once
    RotateSecret {
        /// Id of the webhook
        id: String,
        /// How long requests are signed with the previous secret as well, such as 24h; 0s: not
        /// at all
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
        overlap: Duration,
    },
    /// Disable a webhook; deliveries that wait are kept until they expire
    Disable {
        /// Id of the webhook
        id: String,
    },
    /// Enable a disabled webhook
    Enable {
        /// Id of the webhook
        id: String,
    },
    /// Remove a webhook with its deliveries
    Remove {
        /// Id of the webhook
        id: String,
    },
    /// Send a test event: exit code 0 if the webhook accepts it
    Test {
        /// Id of the webhook
        id: String,
    },
    /// List the deliveries of a webhook, the newest first
    Deliveries {
        /// Id of the webhook
        id: String,
        /// Only those in this state: pending, delivered or abandoned
        #[arg(long, value_parser = state)]
        state: Option<DeliveryState>,
        /// Only events of this type, such as user.created
        #[arg(long = "type", value_name = "TYPE", id = "kind")]
        kind: Option<String>,
        /// Only those queued from this time on, such as 2026-11-21T12:00:00Z
        #[arg(long, value_name = "TIME", value_parser = moment)]
        since: Option<Timestamp>,
        /// Maximum number of deliveries
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Deliver an event again, under the same id
    Resend {
        /// Id of the webhook
        id: String,
        /// Id of the event, as listed by `propusk webhook deliveries`
        event: String,
    },
}

/// Settings of a webhook.
#[derive(Debug, Args)]
pub struct Settings {
    /// Type of events to send, such as user.created; repeatable, replaces the list; "": every type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Vec<String>,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
}

impl Settings {
    fn change(self, to: &mut WebhookSettings) {
        set_list(&mut to.event_types, self.event_type);
        if let Some(description) = self.description {
            to.description = description;
        }
    }
}

fn state(text: &str) -> Result<DeliveryState, String> {
    DeliveryState::parse(text).ok_or_else(|| "must be pending, delivered or abandoned".to_owned())
}

pub async fn webhook(app: &App, command: WebhookCommand) -> Result<(), Failed> {
    let by = Actor::operator();
    match command {
        WebhookCommand::Add { url, id, settings } => {
            let mut new = WebhookSettings { url, ..WebhookSettings::default() };
            settings.change(&mut new);
            let (webhook, secret) = webhooks::create(app, id, new, None, &by).await?.resource;
            println!("added webhook {}", webhook.id);
            println!("secret (shown once): {}", secret.unwrap_or_default());
            if !app.config.webhooks.enabled {
                println!("nothing is delivered: set webhooks.enabled and restart the server");
            }
        }
        WebhookCommand::Set { id, url, settings } => {
            let mut webhook = webhooks::by_id(app, &id).await?;
            let as_read = Precondition::OneOf(vec![webhook.updated_at]);
            settings.change(&mut webhook.settings);
            if let Some(url) = url {
                webhook.settings.url = url;
            }
            webhooks::update(app, &id, &as_read, webhook.settings, &by).await?;
            println!("changed webhook {id}");
        }
        WebhookCommand::List { json } => {
            let header = &["ID", "URL", "STATE", "TYPES"];
            let mut listing = Listing::new(header, json);
            for webhook in rows::page(&app.db, "", i64::MAX).await.map_err(failed)? {
                let state = match webhook.disabled_for {
                    Some(reason) => format!("disabled ({reason})"),
                    None if webhook.failures > 0 => "failing".to_owned(),
                    None => "enabled".to_owned(),
                };
                let types = match webhook.settings.event_types.join(" ") {
                    none if none.is_empty() => "all".to_owned(),
                    types => types,
                };
                let shown = WebhookData::from(webhook);
                listing.add([&shown.id, &shown.settings.url, &state, &types], &shown)?;
            }
            listing.print()?;
        }
        WebhookCommand::Show { id, json } => {
            let webhook = webhooks::by_id(app, &id).await?;
            let shown = serde_json::to_value(WebhookData::from(webhook)).map_err(failed)?;
            if json {
                return print_record(&shown, true);
            }
            let mut flat = json!({ "id": shown["id"] });
            let fields = shown["settings"].as_object().into_iter().flatten();
            for (name, value) in fields.chain(shown.as_object().into_iter().flatten()) {
                if name != "settings" {
                    flat[name] = value.clone();
                }
            }
            print_record(&flat, false)?;
        }
        WebhookCommand::RotateSecret { id, overlap } => {
            let (webhook, secret) = webhooks::rotate_secret(app, &id, overlap, &by).await?;
            match webhook.old_secret_expires_at.map(Timestamp::rfc3339) {
                Some(until) => {
                    println!(
                        "rotated the secret of {id}; the previous one signs as well until {until}"
                    );
                }
                None => println!("rotated the secret of {id}; the previous one signs no more"),
            }
            println!("secret (shown once): {secret}");
        }
        WebhookCommand::Disable { id } => {
            webhooks::disable(app, &id, &by).await?;
            println!("disabled webhook {id}");
        }
        WebhookCommand::Enable { id } => {
            webhooks::enable(app, &id, &by).await?;
            println!("enabled webhook {id}");
        }
        WebhookCommand::Remove { id } => {
            webhooks::delete(app, &id, &Precondition::Any, &by).await?;
            println!("removed webhook {id} and its deliveries");
        }
        WebhookCommand::Test { id } => {
            let sent = webhooks::test(app, &id, &by).await?;
            if let Some(error) = sent.error {
                return Err(failed(format!("webhook {id} did not accept the test event: {error}")));
            }
            let status = sent.status.unwrap_or_default();
            println!("webhook {id} has accepted the test event: status {status}");
        }
        WebhookCommand::Deliveries { id, state, kind, since, limit, json } => {
            webhooks::by_id(app, &id).await?;
            let filter = DeliveryFilter { event_id: None, state, event_type: kind, since };
            let found = deliveries::page(&app.db, &id, &filter, i64::MAX, limit.into()).await;
            let header = &["EVENT", "TYPE", "STATE", "QUEUED", "ATTEMPTS", "NEXT", "ERROR"];
            let mut listing = Listing::new(header, json);
            for delivery in found.map_err(failed)? {
                let state = delivery.state.as_str();
                let shown = DeliveryData::from(delivery);
                let attempts = shown.attempts.to_string();
                let cells: [&str; 7] = [
                    &shown.event_id,
                    &shown.event_type,
                    state,
                    &shown.created_at,
                    &attempts,
                    shown.next_attempt_at.as_deref().unwrap_or_default(),
                    shown.error.as_deref().unwrap_or_default(),
                ];
                listing.add(cells, &shown)?;
            }
            listing.print()?;
        }
        WebhookCommand::Resend { id, event } => {
            webhooks::resend(app, &id, &event, &by).await?;
            println!("event {event} will be delivered again");
        }
    }
    Ok(())
}

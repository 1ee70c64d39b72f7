//! `propusk service`.

use std::sync::Arc;

use clap::Subcommand;
use serde_json::json;

use super::{
    Failed,
    commands::failed,
    listing::{Listing, print_record},
};
use crate::{
    app::App,
    error::Error,
    flows::{admin::users, services},
    http::api::admin::ServiceTokenDetails,
    model::{actor::Actor, service_token::ServiceToken},
    services::Service,
    storage::service_tokens as rows,
};

#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// List the configured services and the state of their tokens
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a service: its settings, without secrets, and the state of its token
    Show {
        /// Name of the service
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Request a token from a service unless a valid one is stored, to check its settings
    Check {
        /// Name of the service
        name: String,
    },
    /// List the stored tokens and connected accounts of users
    Tokens {
        /// Of this user only: id, email address or username
        #[arg(long)]
        user: Option<String>,
        /// Maximum number of tokens
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a stored token: the next call requests another one, a connected account is
    /// disconnected
    Remove {
        /// Name of the service
        name: String,
        /// The token of this user: the subject, as `propusk service tokens` lists it
        #[arg(long, value_name = "SUBJECT")]
        user: Option<String>,
    },
}

pub async fn service(app: &Arc<App>, command: ServiceCommand) -> Result<(), Failed> {
    match command {
        ServiceCommand::List { json } => {
            let header = &["NAME", "GRANT", "SUBJECT", "STATE", "EXPIRES", "FAILURES", "CLIENTS"];
            let mut listing = Listing::new(header, json);
            for service in app.services.iter() {
                let shown = described(app, service).await?;
                let text = |name: &str| match &shown[name] {
                    serde_json::Value::String(text) => text.clone(),
                    serde_json::Value::Null => String::new(),
                    other => other.to_string(),
                };
                let cells = [
                    service.name.clone(),
                    text("grant"),
                    text("subject"),
                    text("state"),
                    text("expiresAt"),
                    text("failures"),
                    service.config.clients.join(" "),
                ];
                listing.add(cells.each_ref().map(String::as_str), &shown)?;
            }
            listing.print()
        }
        ServiceCommand::Show { name, json } => {
            let service = services::find(app, &name)?;
            print_record(&described(app, service).await?, json)
        }
        ServiceCommand::Check { name } => {
            let expires_in = services::check(app, &name).await.map_err(|error| match error {
                Error::ServiceFailed(cause)
                | Error::ServiceTimeout(cause)
                | Error::ServiceUnavailable(_, cause) => failed(cause),
                other => other.into(),
            })?;
            println!("service {name} gave a token; it is valid for {} s", expires_in.as_secs());
            Ok(())
        }
        ServiceCommand::Tokens { user, limit, json } => {
            let user = match user {
                Some(user) => Some(users::find(app, &user).await?.id),
                None => None,
            };
            let now = app.clock.now();
            let found = rows::page(&app.db, user.as_ref(), ("", ""), limit.into(), now).await;
            let header = &["SERVICE", "SUBJECT", "CONNECTED", "OBTAINED", "EXPIRES", "FAILURES"];
            let mut listing = Listing::new(header, json);
            for row in found.map_err(failed)? {
                let shown = ServiceTokenDetails::from(row);
                let (connected, failures) =
                    (shown.is_connected.to_string(), shown.failures.to_string());
                let cells: [&str; 6] = [
                    &shown.service,
                    shown.subject.as_deref().unwrap_or_default(),
                    &connected,
                    shown.obtained_at.as_deref().unwrap_or_default(),
                    shown.expires_at.as_deref().unwrap_or_default(),
                    &failures,
                ];
                listing.add(cells, &shown)?;
            }
            listing.print()
        }
        ServiceCommand::Remove { name, user } => {
            let subject = user.as_deref().unwrap_or_default();
            services::remove(app, &name, subject, &Actor::operator()).await?;
            println!("removed the token of service {name}");
            Ok(())
        }
    }
}

/// A service and the state of its own token, without a secret.
async fn described(app: &App, service: &Service) -> Result<serde_json::Value, Failed> {
    let now = app.clock.now();
    let found = rows::read(&app.db, &service.name, "", now).await.map_err(failed)?;
    let own = found.into_iter().next();
    let config = &service.config;
    let state = |row: &ServiceToken| match row {
        row if row.expires_at.is_some_and(|at| at > now) => "valid",
        row if row.failures > 0 => "failing",
        _ => "expired",
    };
    let state = own.as_ref().map_or("none", state);
    let shown = own.map(ServiceTokenDetails::from);
    Ok(json!({
        "name": service.name,
        "tokenUrl": config.token_url,
        "grant": config.grant.as_str(),
        "clientId": config.client_id,
        "scope": config.scope,
        "subject": if config.is_per_user() { "user" } else { "service" },
        "clients": config.clients,
        "resources": service.resources.keys().collect::<Vec<_>>(),
        "state": state,
        "expiresAt": shown.as_ref().and_then(|shown| shown.expires_at.clone()),
        "failures": shown.as_ref().map(|shown| shown.failures),
        "failure": shown.as_ref().and_then(|shown| shown.failure.clone()),
        "retryAt": shown.and_then(|shown| shown.retry_at),
    }))
}

//! `propusk issuer`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Failed,
    clients::{jwks, named, scopes, set_list},
    commands::failed,
    listing::{Listing, print_record},
};
use crate::{
    app::App,
    flows::admin::{access::Precondition, issuers, users},
    http::api::admin::{IssuerData, LinkData},
    model::{
        actor::Actor,
        trusted_issuer::{IssuerSettings, IssuerUse},
    },
    storage::trusted_issuers as rows,
};

#[derive(Debug, Subcommand)]
pub enum IssuerCommand {
    /// Add a trusted issuer
    Add {
        /// Id: 1 to 32 of a-z, 0-9 and -; its subjects are "@<id>:<sub>" here
        id: String,
        /// The `iss` of its JWTs
        #[arg(long, value_name = "URL")]
        issuer: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Change the given settings of an issuer
    Set {
        /// Id of the issuer
        id: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// List trusted issuers
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the settings of an issuer
    Show {
        /// Id of the issuer
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Disable an issuer and revoke the sessions that its JWTs have opened
    Disable {
        /// Id of the issuer
        id: String,
    },
    /// Enable a disabled issuer
    Enable {
        /// Id of the issuer
        id: String,
    },
    /// Remove an issuer with its links and revoke the sessions that its JWTs have opened
    Remove {
        /// Id of the issuer
        id: String,
    },
    /// Link a subject of an issuer to a user: its JWTs are about that user
    Link {
        /// Id of the issuer
        id: String,
        /// The `sub` of its JWTs
        subject: String,
        /// Id, email address or username
        user: String,
    },
    /// Remove a link and revoke the sessions that the issuer's JWTs have opened for the user
    Unlink {
        /// Id of the issuer
        id: String,
        /// The `sub` of its JWTs
        subject: String,
    },
    /// List the linked subjects of an issuer
    Links {
        /// Id of the issuer
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Settings of an issuer. A repeatable option replaces the whole list.
#[derive(Debug, Args)]
pub struct Settings {
    /// URL of its public keys as a JWKS
    #[arg(long, value_name = "URI")]
    jwks_uri: Option<String>,
    /// File with its public keys as a JWKS
    #[arg(long, value_name = "FILE", conflicts_with = "jwks_uri")]
    jwks_file: Option<PathBuf>,
    /// What its JWTs are accepted as: subject_token, actor_token or id_jag; repeatable
    #[arg(long = "trust", value_name = "USE", value_parser = named::<IssuerUse>)]
    trusted_for: Vec<IssuerUse>,
    /// Accepted `aud` of its subject and actor tokens; repeatable [default: the issuer of this
    /// server]
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// Client that may present its JWTs; repeatable [default: every client whose policy allows it]
    #[arg(long, value_name = "CLIENT")]
    client: Vec<String>,
    /// The most that tokens for its subjects may carry, such as "notes:read"
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,
}

impl Settings {
    fn change(self, to: &mut IssuerSettings) -> Result<(), Failed> {
        if let Some(uri) = self.jwks_uri {
            (to.jwks, to.jwks_uri) = (None, Some(uri));
        }
        if let Some(path) = self.jwks_file {
            (to.jwks, to.jwks_uri) = (Some(jwks(&path)?), None);
        }
        if !self.trusted_for.is_empty() {
            to.trusted_for = self.trusted_for;
        }
        set_list(&mut to.audiences, self.audience);
        set_list(&mut to.clients, self.client);
        if let Some(scope) = self.scope {
            to.scope = scopes(&scope)?;
        }
        Ok(())
    }
}

pub async fn issuer(app: &App, command: IssuerCommand) -> Result<(), Failed> {
    let by = Actor::operator();
    match command {
        IssuerCommand::Add { id, issuer, settings } => {
            let mut new = IssuerSettings::default();
            settings.change(&mut new)?;
            let created = issuers::create(app, id, issuer, new, None, &by).await?;
            println!("added issuer {}", created.resource.id);
        }
        IssuerCommand::Set { id, settings } => {
            let mut issuer = issuers::by_id(app, &id).await?;
            let as_read = Precondition::OneOf(vec![issuer.updated_at]);
            settings.change(&mut issuer.settings)?;
            issuers::update(app, &id, &as_read, issuer.settings, &by).await?;
            println!("changed issuer {id}");
        }
        IssuerCommand::List { json } => {
            let header = &["ID", "ISSUER", "STATE", "TRUSTED FOR", "SCOPE"];
            let mut listing = Listing::new(header, json);
            for issuer in rows::all(&app.db).await.map_err(failed)? {
                let state = if issuer.disabled_at.is_some() { "disabled" } else { "enabled" };
                let uses = issuer.settings.trusted_for.iter().map(|one| one.as_str());
                let uses = uses.collect::<Vec<_>>().join(" ");
                let scope = issuer.settings.scope.to_string();
                let shown = IssuerData::from(issuer);
                listing.add([&shown.id, &shown.issuer, state, &uses, &scope], &shown)?;
            }
            listing.print()?;
        }
        IssuerCommand::Show { id, json } => {
            let issuer = issuers::by_id(app, &id).await?;
            let shown = serde_json::to_value(IssuerData::from(issuer)).map_err(failed)?;
            if json {
                return print_record(&shown, true);
            }
            let mut flat = json!({ "id": shown["id"], "issuer": shown["issuer"] });
            for (name, value) in shown["settings"].as_object().into_iter().flatten() {
                flat[name] = value.clone();
            }
            for name in ["createdAt", "updatedAt", "disabledAt"] {
                flat[name] = shown[name].clone();
            }
            print_record(&flat, false)?;
        }
        IssuerCommand::Disable { id } => {
            issuers::disable(app, &id, &by).await?;
            println!("disabled issuer {id}; the sessions that its JWTs have opened are revoked");
        }
        IssuerCommand::Enable { id } => {
            issuers::enable(app, &id, &by).await?;
            println!("enabled issuer {id}");
        }
        IssuerCommand::Remove { id } => {
            issuers::delete(app, &id, &Precondition::Any, &by).await?;
            println!("removed issuer {id}; the sessions that its JWTs have opened are revoked");
        }
        IssuerCommand::Link { id, subject, user } => {
            let user = users::find(app, &user).await?;
            issuers::link(app, &id, &subject, &user.id, &by).await?;
            println!("linked subject {subject} of {id} to {}", user.email);
        }
        IssuerCommand::Unlink { id, subject } => {
            issuers::unlink(app, &id, &subject, &by).await?;
            println!("removed the link of subject {subject} of {id}");
        }
        IssuerCommand::Links { id, json } => links(app, &id, json).await?,
    }
    Ok(())
}

async fn links(app: &App, id: &str, as_json: bool) -> Result<(), Failed> {
    issuers::by_id(app, id).await?;
    let mut listing = Listing::new(&["SUBJECT", "USER", "CREATED"], as_json);
    let mut after = String::new();
    loop {
        let page = rows::links(&app.db, id, &after, 500).await.map_err(failed)?;
        match page.last() {
            Some(last) => after.clone_from(&last.subject),
            None => break,
        }
        for link in page {
            let shown = LinkData::from(link);
            listing.add([&shown.subject, &shown.user_id, &shown.created_at], &shown)?;
        }
    }
    listing.print()
}

//! `propusk module` and `role`.

use clap::{Args, Subcommand};

use super::{Failed, commands::failed, listing::Listing};
use crate::{
    app::App,
    clock::Timestamp,
    flows::{
        admin::{access::Precondition, modules, roles, users},
        tokens::subject::is_external,
    },
    http::api::admin::{GrantData, ModuleDetails, RoleData},
    model::{
        actor::Actor,
        catalogue::Descriptions,
        module::{Module, ModuleGrant},
        user::{Role, RoleSettings},
    },
    oauth::scope::Scope,
};

#[derive(Debug, Subcommand)]
pub enum ModuleCommand {
    /// Add a module
    Add {
        /// Module id: 1 to 64 of a-z, 0-9, _ and -
        id: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Change the given settings of a module; removed scopes are revoked from its users at once
    Set {
        /// Module id
        id: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// List modules
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a module and withdraw it from all users; the history is kept
    Remove {
        /// Module id
        id: String,
    },
    /// Grant a module to a user
    Grant {
        /// Id, email address or username; or the `sub` of a user whom a back end keeps, such as
        /// mp1:42
        user: String,
        /// Module id
        module: String,
        /// End of the grant, such as 2027-01-31T00:00:00Z [default: unlimited]
        #[arg(long, value_name = "TIME", value_parser = moment)]
        until: Option<Timestamp>,
    },
    /// Withdraw a module from a user and revoke the tokens with its scopes
    Withdraw {
        /// Id, email address or username; or the `sub` of a user whom a back end keeps
        user: String,
        /// Module id
        module: String,
    },
    /// Show the current and past module grants of a user
    History {
        /// Id, email address or username; or the `sub` of a user whom a back end keeps
        user: String,
        /// Show only the grants at this time, such as 2026-11-21T12:00:00Z
        #[arg(long, value_name = "TIME", value_parser = moment)]
        at: Option<Timestamp>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Settings of a module. A repeatable option replaces the whole list.
#[derive(Debug, Args)]
pub struct Settings {
    /// Name in a language, such as "en=Customers"; repeatable
    #[arg(long, value_name = "LANG=TEXT", value_parser = text)]
    name: Vec<(String, String)>,
    /// Description in a language, such as "en=Customers and their orders"; repeatable
    #[arg(long, value_name = "LANG=TEXT", value_parser = text)]
    description: Vec<(String, String)>,
    /// Scopes for users with the module, such as "crm:read crm:write"
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,
    /// Resource whose tokens carry the scopes; empty: this server's own API
    #[arg(long, value_name = "URI")]
    resource: Option<String>,
    /// Let users switch the module on and off themselves
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    self_service: Option<bool>,
}

#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// Add a role or replace its settings
    Add {
        /// Name of the role
        name: String,
        /// Description
        #[arg(long, default_value = "")]
        description: String,
        /// Users of the role log in with a second factor only; one who has none sets one up
        #[arg(long)]
        require_second_factor: bool,
    },
    /// List roles
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a role without users
    Remove {
        /// Name of the role
        name: String,
    },
}

pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "must be a time like 2027-01-31T00:00:00Z".to_owned())
}

fn text(pair: &str) -> Result<(String, String), String> {
    let (language, text) = pair.split_once('=').ok_or("must be LANG=TEXT, like en=Customers")?;
    Ok((language.to_owned(), text.to_owned()))
}

impl Settings {
    fn change(self, module: &mut Module) -> Result<(), Failed> {
        let texts = |given: Vec<(String, String)>, to: &mut Descriptions| {
            if !given.is_empty() {
                *to = given.into_iter().collect();
            }
        };
        texts(self.name, &mut module.names);
        texts(self.description, &mut module.descriptions);
        if let Some(scope) = self.scope {
            module.scope = Scope::parse(&scope).map_err(|why| Failed::Usage(why.to_owned()))?;
        }
        if let Some(resource) = self.resource {
            module.resource = Some(resource).filter(|resource| !resource.is_empty());
        }
        module.is_self_service = self.self_service.unwrap_or(module.is_self_service);
        Ok(())
    }
}

pub async fn module(app: &App, command: ModuleCommand) -> Result<(), Failed> {
    let by = Actor::operator();
    match command {
        ModuleCommand::Add { id, settings } => {
            let mut module = Module {
                id,
                names: Descriptions::new(),
                descriptions: Descriptions::new(),
                scope: Scope::default(),
                resource: None,
                is_self_service: false,
                created_at: Timestamp(0),
                updated_at: Timestamp(0),
            };
            settings.change(&mut module)?;
            let id = module.id.clone();
            modules::create(app, module, None, &by).await?;
            println!("added module {id}");
        }
        ModuleCommand::Set { id, settings } => {
            let mut module = modules::by_id(app, &id).await?;
            let as_read = Precondition::OneOf(vec![module.updated_at]);
            settings.change(&mut module)?;
            modules::update(app, module, &as_read, &by).await?;
            println!("changed module {id}");
        }
        ModuleCommand::List { json } => list(app, json).await?,
        ModuleCommand::Remove { id } => {
            modules::delete(app, &id, &Precondition::Any, &by).await?;
            println!("removed module {id} and withdrew it from all users");
        }
        ModuleCommand::Grant { user, module, until } => {
            let (id, name) = holder(app, user).await?;
            modules::grant(app, &id, &module, until, &by).await?;
            let until =
                until.map_or_else(String::new, |until| format!(" until {}", until.rfc3339()));
            println!("granted module {module} to {name}{until}");
        }
        ModuleCommand::Withdraw { user, module } => {
            let (id, name) = holder(app, user).await?;
            modules::withdraw(app, &id, &module, &by).await?;
            println!("withdrew module {module} from {name}; tokens with its scopes revoked");
        }
        ModuleCommand::History { user, at, json } => {
            let (id, _) = holder(app, user).await?;
            let grants = match at {
                Some(moment) => modules::at(app, &id, moment).await?,
                None => modules::history(app, &id).await?,
            };
            history(grants, json)?;
        }
    }
    Ok(())
}

/// Whose modules a command is about: the id that grants are kept under, and a name to print.
async fn holder(app: &App, named: String) -> Result<(String, String), Failed> {
    // No id, email address or username of an account has this form.
    if is_external(&named) {
        return Ok((named.clone(), named));
    }
    let user = users::find(app, &named).await?;
    Ok((user.id.into(), user.email))
}

async fn list(app: &App, json: bool) -> Result<(), Failed> {
    app.sync().await?;
    let catalogue = app.directory.catalogue(&app.db).await.map_err(failed)?;
    let mut listing = Listing::new(&["ID", "NAME", "SWITCHED BY", "RESOURCE", "SCOPE"], json);
    for module in catalogue.modules.values() {
        let switched_by = if module.is_self_service { "users" } else { "administrators" };
        let resource = module.resource.as_deref().unwrap_or_default();
        let (name, scope) = (module.name("en"), module.scope.to_string());
        let cells: [&str; 5] = [&module.id, name, switched_by, resource, &scope];
        listing.add(cells, &ModuleDetails::from(module.clone()))?;
    }
    listing.print()
}

fn history(grants: Vec<ModuleGrant>, json: bool) -> Result<(), Failed> {
    let header = &["MODULE", "FROM", "UNTIL", "GRANTED BY", "ENDED BY"];
    let mut listing = Listing::new(header, json);
    for grant in grants {
        let shown = GrantData::from(grant);
        let until = shown.valid_until.as_deref().unwrap_or_default();
        let ended_by = shown.ended_by.as_deref().unwrap_or_default();
        let cells: [&str; 5] =
            [&shown.module_id, &shown.valid_from, until, &shown.granted_by, ended_by];
        listing.add(cells, &shown)?;
    }
    listing.print()
}

pub async fn role(app: &App, command: RoleCommand) -> Result<(), Failed> {
    let parse = |name: &str| Role::parse(name).map_err(|why| Failed::Usage(why.to_owned()));
    let by = Actor::operator();
    match command {
        RoleCommand::Add { name, description, require_second_factor } => {
            let settings = RoleSettings { description, require_second_factor };
            roles::put(app, parse(&name)?, settings, &by).await?;
            println!("saved role {name}");
        }
        RoleCommand::List { json } => {
            let mut listing =
                Listing::new(&["NAME", "USERS", "SECOND FACTOR", "DESCRIPTION"], json);
            for entry in roles::all(app).await? {
                let shown = RoleData::from(entry);
                let users = shown.users.to_string();
                let required = if shown.require_second_factor { "required" } else { "" };
                let cells = [&shown.name, users.as_str(), required, &shown.description];
                listing.add(cells, &shown)?;
            }
            listing.print()?;
        }
        RoleCommand::Remove { name } => {
            roles::delete(app, parse(&name)?, &Precondition::Any, &by).await?;
            println!("removed role {name}");
        }
    }
    Ok(())
}

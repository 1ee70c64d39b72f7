//! `propusk module` and `role`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Failed, commands::failed};
use crate::{
    app::App,
    clock::Timestamp,
    flows::admin::{
        access::Expected,
        modules::{self, Must},
        roles, users,
    },
    model::{
        actor::Actor,
        catalogue::Descriptions,
        module::{Module, ModuleGrant},
        user::Role,
    },
    oauth::scope::Scope,
};

#[derive(Debug, Subcommand)]
pub enum ModuleCommand {
    /// Add a module
    Add {
        /// 1 to 64 of a-z, 0-9, _ and -
        id: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Change a module: only what is given changes. Whoever has it loses the scopes it no longer gives, at once
    Set {
        id: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// List the modules
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a module: whoever has it loses it at once; the history of who had it stays
    Remove { id: String },
    /// Give a user a module
    Grant {
        /// An id, an email address or a username
        user: String,
        module: String,
        /// Its planned end, as 2027-01-31T00:00:00Z [default: for good]
        #[arg(long, value_parser = moment)]
        until: Option<Timestamp>,
    },
    /// Take a module from a user: tokens that carry its scopes are refused at once
    Withdraw {
        /// An id, an email address or a username
        user: String,
        module: String,
    },
    /// Show what a user has and had, and who gave it
    History {
        /// An id, an email address or a username
        user: String,
        /// What they had at this moment, as 2026-11-21T12:00:00Z
        #[arg(long, value_parser = moment)]
        at: Option<Timestamp>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// What a module is. A flag that may be repeated replaces the whole list.
#[derive(Debug, Args)]
pub struct Settings {
    /// What people call it, as "en=Customers"; may be repeated
    #[arg(long, value_name = "LANG=TEXT", value_parser = text)]
    name: Vec<(String, String)>,
    /// What it is, as "en=Customers and their orders"; may be repeated
    #[arg(long, value_name = "LANG=TEXT", value_parser = text)]
    description: Vec<(String, String)>,
    /// What tokens may carry while their user has it, as "crm:read crm:write"
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,
    /// The resource whose tokens carry the scopes; empty: this server's own API
    #[arg(long, value_name = "URI")]
    resource: Option<String>,
    /// Users switch it themselves
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    self_service: Option<bool>,
}

#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// Add a role, or change its description
    Add {
        name: String,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List the roles
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a role that nobody has
    Remove { name: String },
}

fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "write it like 2027-01-31T00:00:00Z".to_owned())
}

fn text(pair: &str) -> Result<(String, String), String> {
    let (language, text) = pair.split_once('=').ok_or("write it like en=Customers")?;
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
            if modules::named(app, &id).await.is_ok() {
                let message = format!("there is a module {id} already: use `propusk module set`");
                return Err(Failed::Run(message));
            }
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
            modules::put(app, module, Must::BeNew(None), &by).await?;
            println!("added the module {id}");
        }
        ModuleCommand::Set { id, settings } => {
            let mut module = modules::named(app, &id).await?;
            let as_read = Must::Be(Expected::OneOf(vec![module.updated_at]));
            settings.change(&mut module)?;
            modules::put(app, module, as_read, &by).await?;
            println!("changed the module {id}");
        }
        ModuleCommand::List { json } => list(app, json).await?,
        ModuleCommand::Remove { id } => {
            modules::remove(app, &id, &Expected::Any, &by).await?;
            println!("removed the module {id}: whoever had it has it no more");
        }
        ModuleCommand::Grant { user, module, until } => {
            let user = users::find(app, &user).await?;
            modules::grant(app, &user.id, &module, until, &by).await?;
            let until =
                until.map_or_else(String::new, |until| format!(" until {}", until.rfc3339()));
            println!("{} has {module}{until}", user.email);
        }
        ModuleCommand::Withdraw { user, module } => {
            let user = users::find(app, &user).await?;
            modules::named(app, &module).await?;
            modules::withdraw(app, &user.id, &module, &by).await?;
            println!(
                "{} has {module} no more; tokens that carry its scopes are refused",
                user.email
            );
        }
        ModuleCommand::History { user, at, json } => {
            let user = users::find(app, &user).await?;
            let grants = match at {
                Some(moment) => modules::at(app, &user.id, moment).await?,
                None => modules::history(app, &user.id).await?,
            };
            history(&grants, json);
        }
    }
    Ok(())
}

async fn list(app: &App, json: bool) -> Result<(), Failed> {
    app.sync().await?;
    let catalogue = app.directory.catalogue(&app.db).await.map_err(failed)?;
    if json {
        let all: Vec<Value> = catalogue.modules.values().map(described).collect();
        println!("{}", Value::Array(all));
        return Ok(());
    }
    for module in catalogue.modules.values() {
        let by_users = if module.is_self_service { "self-service" } else { "by administrators" };
        let resource = module.resource.as_deref().unwrap_or("-");
        println!("{}\t{}\t{}\t{resource}\t{by_users}", module.id, module.name("en"), module.scope);
    }
    Ok(())
}

fn described(module: &Module) -> Value {
    json!({
        "id": module.id, "names": module.names, "descriptions": module.descriptions, "scope": module.scope.to_string(),
        "resource": module.resource, "selfService": module.is_self_service, "updatedAt": module.updated_at.rfc3339(),
    })
}

fn history(grants: &[ModuleGrant], json: bool) {
    let moment = |moment: Option<Timestamp>| moment.map(Timestamp::rfc3339);
    if json {
        let all = grants.iter().map(|grant| {
            json!({
                "moduleId": grant.module_id, "validFrom": grant.valid_from.rfc3339(), "validUntil": moment(grant.valid_until),
                "grantedBy": grant.granted_by, "endedBy": grant.ended_by,
            })
        });
        println!("{}", Value::Array(all.collect()));
        return;
    }
    for grant in grants {
        let until = moment(grant.valid_until).unwrap_or_else(|| "for good".to_owned());
        let ended = grant.ended_by.as_ref().map(|by| format!("\tended by {by}"));
        println!(
            "{}\t{} - {until}\tgiven by {}{}",
            grant.module_id,
            grant.valid_from.rfc3339(),
            grant.granted_by,
            ended.unwrap_or_default()
        );
    }
}

pub async fn role(app: &App, command: RoleCommand) -> Result<(), Failed> {
    let parse = |name: &str| Role::parse(name).map_err(|why| Failed::Usage(why.to_owned()));
    let by = Actor::operator();
    match command {
        RoleCommand::Add { name, description } => {
            roles::put(app, parse(&name)?, description, &by).await?;
            println!("there is a role {name}");
        }
        RoleCommand::List { json } => {
            let all = roles::all(app).await?;
            if json {
                let all = all.iter().map(|one| {
                    json!({ "name": one.role.as_str(), "description": one.description, "users": one.users })
                });
                println!("{}", Value::Array(all.collect()));
                return Ok(());
            }
            for one in all {
                println!("{}\t{} users\t{}", one.role.as_str(), one.users, one.description);
            }
        }
        RoleCommand::Remove { name } => {
            roles::remove(app, parse(&name)?, &Expected::Any, &by).await?;
            println!("removed the role {name}");
        }
    }
    Ok(())
}

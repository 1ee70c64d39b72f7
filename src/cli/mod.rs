//! The command line.
//!
//! Exit codes: 0 done, 1 failed (the message says why), 2 wrong usage or configuration.

mod clients;
mod commands;
mod modules;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use self::commands::on_app;
use crate::{
    config::{self, Config},
    model::key::SigningAlgorithm,
    telemetry,
};

/// OAuth 2.1 / OpenID Connect authorization server.
///
/// Without a command it serves, as `propusk serve` does. Every setting is described in the output of
/// `propusk config default`; each can also be given as an environment variable, such as
/// PROPUSK_SERVER__LISTEN for server.listen.
#[derive(Debug, Parser)]
#[command(
    name = "propusk",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration."
)]
struct Cli {
    /// The configuration file [default: ./propusk.toml, where there is one]
    #[arg(long, global = true, env = "PROPUSK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve,
    /// Bring the database's schema up to date
    Migrate,
    /// Show or check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look after the signing keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Look after the accounts
    #[command(subcommand)]
    User(UserCommand),
    /// Look after the clients: the applications that get tokens
    #[command(subcommand)]
    Client(clients::ClientCommand),
    /// Look after the resources: the APIs that tokens are for
    #[command(subcommand)]
    Resource(clients::ResourceCommand),
    /// Look after what people read about scopes
    #[command(subcommand)]
    Scope(clients::ScopeCommand),
    /// Look after the modules: the parts of the platform that are switched on per user
    #[command(subcommand)]
    Module(modules::ModuleCommand),
    /// Look after the roles that users may have
    #[command(subcommand)]
    Role(modules::RoleCommand),
    /// Say why a request was refused
    Explain {
        /// The `X-Request-Id` of the answer, the `requestId` in it, or the one on an error page
        request_id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the OpenAPI document
    Openapi {
        /// As JSON instead of YAML
        #[arg(long)]
        json: bool,
    },
    /// Ask the running server whether it is ready: exit code 0 if so, 1 if not
    Health,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the effective settings, and where each was set; passwords are masked
    Show,
    /// Say whether the settings would do
    Check,
    /// Print the manual: every setting with its meaning, unit and default
    Default,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List all keys and where they are in their lives
    List,
    /// Make new signing keys, which take over once they have been published for keys.publish_ahead
    Rotate {
        /// One algorithm only: ES256, RS256, PS256 or EdDSA
        #[arg(long, value_parser = algorithm)]
        algorithm: Option<SigningAlgorithm>,
        /// Take over at once: consumers with a cached JWKS meet an unknown key until they fetch it again
        #[arg(long)]
        now: bool,
    },
    /// Ban a compromised signing key: nothing it signed is accepted any more
    Ban {
        /// The key's id, as `propusk keys list` shows it
        // One in 64 begins with a hyphen.
        #[arg(allow_hyphen_values = true)]
        kid: String,
    },
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Make an account; its password is generated and shown once, or read from standard input
    Add {
        email: String,
        #[arg(long)]
        username: Option<String>,
        #[arg(long, default_value = "user")]
        role: String,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// List the accounts
    List,
    /// Disable an account: its sessions end and its tokens are refused at once
    Disable {
        /// An id, an email address or a username
        user: String,
    },
    /// Enable a disabled account again
    Enable {
        /// An id, an email address or a username
        user: String,
    },
    /// Remove an account with all that hangs on it: its tokens are refused at once, and it does not come back
    Delete {
        /// An id, an email address or a username
        user: String,
    },
    /// Replace a password; every session of the account ends
    SetPassword {
        /// An id, an email address or a username
        user: String,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Change an account's role
    SetRole {
        /// An id, an email address or a username
        user: String,
        /// `user`, `admin`, or a name of your own
        role: String,
    },
    /// Take back what a person allowed a client: they are asked again, and its tokens for them are refused
    WithdrawConsent {
        /// An id, an email address or a username
        user: String,
        /// The client's id
        client: String,
    },
}

fn algorithm(name: &str) -> Result<SigningAlgorithm, String> {
    let found =
        SigningAlgorithm::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name));
    found.ok_or_else(|| "use ES256, RS256, PS256 or EdDSA".to_owned())
}

/// Why a command did not succeed.
enum Failed {
    /// Exit code 2.
    Usage(String),
    /// Exit code 1.
    Run(String),
}

/// Runs the program with the process's arguments.
pub fn run() -> ExitCode {
    // Before anything reads the environment. A missing file is the usual case.
    if let Err(error) = dotenvy::dotenv()
        && !error.not_found()
    {
        eprintln!("propusk: .env cannot be read: {error}");
        return ExitCode::from(2);
    }
    match dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Usage(message)) => {
            eprintln!("propusk: {message}");
            ExitCode::from(2)
        }
        Err(Failed::Run(message)) => {
            eprintln!("propusk: {message}");
            ExitCode::from(1)
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), Failed> {
    // These need no configuration, so that they work where it is wrong.
    match &cli.command {
        Some(Command::Openapi { json }) => return commands::openapi(*json),
        Some(Command::Config(ConfigCommand::Default)) => {
            print!("{}", config::DEFAULT_TOML);
            return Ok(());
        }
        _ => {}
    }
    let config = Config::load(cli.config.as_deref(), config::environment())
        .map_err(|error| Failed::Usage(error.to_string()))?;
    match cli.command {
        Some(Command::Config(ConfigCommand::Show)) => {
            print!("{}", config.render());
            return Ok(());
        }
        Some(Command::Config(ConfigCommand::Check)) => {
            println!("the configuration is good");
            return Ok(());
        }
        _ => {}
    }
    telemetry::init_logs(&config.log).map_err(|error| Failed::Usage(error.to_string()))?;
    // One TLS provider in the whole program. An error here means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::Run(format!("the runtime cannot be started: {error}")))?;
    runtime.block_on(async {
        match cli.command.unwrap_or(Command::Serve) {
            Command::Serve => commands::serve(config).await,
            Command::Migrate => commands::migrate(config).await,
            Command::Keys(command) => {
                on_app(config, async |app| commands::keys(app, command).await).await
            }
            Command::User(command) => {
                on_app(config, async |app| commands::user(app, command).await).await
            }
            Command::Client(command) => {
                on_app(config, async |app| clients::client(app, command).await).await
            }
            Command::Resource(command) => {
                on_app(config, async |app| clients::resource(app, command).await).await
            }
            Command::Scope(command) => {
                on_app(config, async |app| clients::scope(app, command).await).await
            }
            Command::Module(command) => {
                on_app(config, async |app| modules::module(app, command).await).await
            }
            Command::Role(command) => {
                on_app(config, async |app| modules::role(app, command).await).await
            }
            Command::Explain { request_id, json } => {
                commands::explain(config, &request_id, json).await
            }
            Command::Health => commands::health(config).await,
            // Answered above.
            Command::Config(_) | Command::Openapi { .. } => Ok(()),
        }
    })
}

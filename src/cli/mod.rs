//! The command line.
//!
//! Exit codes: 0 success, 1 failure (with a message), 2 invalid usage or configuration.

/// As the standard one, with the hidden characters of names escaped.
macro_rules! println {
    () => { std::println!() };
    ($($text:tt)+) => {
        std::println!("{}", crate::unicode::escaped(&std::format!($($text)+)))
    };
}
/// As the standard one, with the hidden characters of names escaped.
macro_rules! eprintln {
    ($($text:tt)+) => {
        std::eprintln!("{}", crate::unicode::escaped(&std::format!($($text)+)))
    };
}

mod clients;
mod commands;
mod events;
mod import;
mod invitations;
mod issuers;
mod listing;
mod locales;
mod mail;
mod modules;
mod move_database;
mod services;
mod sessions;
mod webhooks;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use self::commands::on_app;
use crate::{
    branding::Branding,
    config::{self, Config, IgnoredVariable},
    ids::ClientId,
    model::key::SigningAlgorithm,
    telemetry,
};

/// OAuth 2.1 and OpenID Connect authorization server
///
/// Without a command, runs the server like `propusk serve`. `propusk config default` documents
/// every setting. Each can also be set by an environment variable: PROPUSK_SERVER__LISTEN is
/// server.listen.
#[derive(Debug, Parser)]
#[command(
    name = "propusk",
    version,
    after_help = "Exit codes: 0 success, 1 failure, 2 invalid usage or configuration"
)]
struct Cli {
    /// Path of the configuration file [default: propusk.toml in the working directory, if present]
    #[arg(long, global = true, env = "PROPUSK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve,
    /// Apply pending database migrations
    Migrate,
    /// Copy the SQLite database to an empty PostgreSQL database, and compare the two
    ///
    /// Stop the server first. All rows are copied in one transaction, read back and compared: a copy
    /// that fails leaves both databases as they were. Then set database.url and start the server,
    /// with the same master key.
    Move(move_database::MoveArgs),
    /// Show and validate the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Manage signing keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Manage users
    #[command(subcommand)]
    User(UserCommand),
    /// Manage clients, the applications that obtain tokens
    #[command(subcommand)]
    Client(clients::ClientCommand),
    /// Manage resources, the APIs that accept tokens
    #[command(subcommand)]
    Resource(clients::ResourceCommand),
    /// Manage the descriptions of scopes on the consent page
    #[command(subcommand)]
    Scope(clients::ScopeCommand),
    /// Manage trusted issuers, the other servers whose JWTs are accepted
    #[command(subcommand)]
    Issuer(issuers::IssuerCommand),
    /// Manage product modules, which are granted to users
    #[command(subcommand)]
    Module(modules::ModuleCommand),
    /// Manage user roles
    #[command(subcommand)]
    Role(modules::RoleCommand),
    /// Manage invitations to register
    #[command(subcommand)]
    Invitation(invitations::InvitationCommand),
    /// Show customer services, check their settings, and remove stored tokens
    #[command(subcommand)]
    Service(services::ServiceCommand),
    /// List and revoke sessions of users at clients
    #[command(subcommand)]
    Session(sessions::SessionCommand),
    /// Show the audit log
    #[command(subcommand)]
    Audit(sessions::AuditCommand),
    /// Export and check the messages of pages and mails, for translations
    #[command(subcommand)]
    Locales(locales::LocalesCommand),
    /// Send a test mail, and list what became of mails
    #[command(subcommand)]
    Mail(mail::MailCommand),
    /// List events, and publish them again
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Manage webhooks, the URLs that events are posted to
    #[command(subcommand)]
    Webhook(webhooks::WebhookCommand),
    /// Explain why a request was denied
    Explain {
        /// `X-Request-Id` of the response, `requestId` of its body, or the id on the error page
        request_id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the OpenAPI document
    Openapi {
        /// Print JSON instead of YAML
        #[arg(long)]
        json: bool,
    },
    /// Check whether the running server is ready: exit code 0 if it is, else 1
    Health,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the effective configuration and the source of each value; passwords are masked
    Show,
    /// Validate the configuration
    Check,
    /// Print the reference configuration: every setting with its meaning, unit and default
    Default,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List all keys and their states
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a key, or its public half as PEM
    Show {
        /// Key id (`kid`), as listed by `propusk keys list`
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// Print the public key as PEM, for verifiers that cannot read the JWKS
        #[arg(long, conflicts_with = "json")]
        pem: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Import a private signing key; its `kid` is the RFC 7638 thumbprint
    ///
    /// It is published at once and signs after keys.publish_ahead.
    Import {
        /// Algorithm of the key: ES256, RS256, PS256 or EdDSA (Ed25519)
        #[arg(long, value_parser = algorithm)]
        algorithm: SigningAlgorithm,
        /// PEM file: PKCS#8, PKCS#1 or SEC1, not encrypted
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// Sign with it at once; verifiers with a cached JWKS do not know it until they refetch it
        #[arg(long)]
        activate: bool,
    },
    /// Create new signing keys, which become active after keys.publish_ahead in the JWKS
    Rotate {
        /// Rotate the key of one algorithm only: ES256, RS256, PS256 or EdDSA (Ed25519)
        #[arg(long, value_parser = algorithm)]
        algorithm: Option<SigningAlgorithm>,
        /// Activate the new keys at once; verifiers with a cached JWKS do not know them until they
        /// refetch it
        #[arg(long)]
        now: bool,
    },
    /// Ban a compromised signing key: all tokens signed with it become invalid
    Ban {
        /// Key id (`kid`), as listed by `propusk keys list`
        // One in 64 begins with a hyphen.
        #[arg(allow_hyphen_values = true)]
        kid: String,
    },
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Add a user with a generated password, printed once, or one from standard input
    Add {
        /// Email address
        email: String,
        /// Username, as an alternative to the email address at login
        #[arg(long)]
        username: Option<String>,
        /// Role: `user`, `admin` or a custom role (`propusk role list`)
        #[arg(long, default_value = "user")]
        role: String,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
        /// Do not tell the user service (`user_service.mode`)
        #[arg(long)]
        no_provisioning: bool,
    },
    /// Show whether the user service may still refuse an account, or has refused it
    Saga {
        /// User id, or the email address or username of an account that exists
        user: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List users
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Renew the stored canonical forms of email addresses and usernames, and report collisions
    ///
    /// For databases of earlier versions: two users whose names are the same by today's rules are
    /// listed and left as they are.
    Canonicalize,
    /// Import users of another system with their password hashes
    ///
    /// Users whose email address exists stay as they are, so that an import can be run again.
    /// Hashes by bcrypt, Argon2, PBKDF2 and scrypt are verified at login and replaced by Argon2id.
    ///
    /// Exit codes: 0 every user is imported or exists, 1 users were refused or the import stopped, 2
    /// invalid usage.
    Import(import::ImportArgs),
    /// Disable a user: revoke all sessions and tokens
    Disable {
        /// Id, email address or username
        user: String,
    },
    /// Enable a disabled user
    Enable {
        /// Id, email address or username
        user: String,
    },
    /// Delete a user permanently, with all data and tokens; the audit log and the outbox keep ids only
    Delete {
        /// Id, email address or username
        user: String,
    },
    /// Replace a password and revoke all sessions of the user
    SetPassword {
        /// Id, email address or username
        user: String,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Change the role of a user
    SetRole {
        /// Id, email address or username
        user: String,
        /// Role: `user`, `admin` or a custom role (`propusk role list`)
        role: String,
    },
    /// Show or change the profile of a user
    ///
    /// Claims: those of `profile.claims`; the members of an address are `address.locality` and the
    /// like.
    Profile {
        /// Id, email address or username
        user: String,
        /// Set a claim, as in `--set locale=en`; an empty value removes it
        #[arg(long, value_name = "CLAIM=VALUE")]
        set: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the second factors of a user
    Factors {
        /// Id, email address or username
        user: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the identities of a user at other login providers
    Identities {
        /// Id, email address or username
        user: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Unlink an identity of a user, also the last way to log in
    Unlink {
        /// Id, email address or username
        user: String,
        /// Id of the identity (`propusk user identities`)
        identity: String,
    },
    /// Remove all second factors and recovery codes of a user who has lost them
    ///
    /// The next login takes the password only; where a second factor is required, the user sets one
    /// up then. Verify who asks for it.
    ResetFactors {
        /// Id, email address or username
        user: String,
    },
    /// Withdraw a user's consent to a client and revoke its tokens for the user
    WithdrawConsent {
        /// Id, email address or username
        user: String,
        /// Client id
        client: ClientId,
    },
}

fn algorithm(name: &str) -> Result<SigningAlgorithm, String> {
    let found =
        SigningAlgorithm::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("must be {}", SigningAlgorithm::NAMES))
}

/// Why a command failed.
enum Failed {
    /// Exit code 2.
    Usage(String),
    /// Exit code 1.
    Run(String),
}

/// Runs the command line with the process's arguments.
pub fn run() -> ExitCode {
    // Before anything reads the environment. Usually there is no such file. That of a folder above
    // is another project's, or another person's.
    let file = Path::new(".env");
    if file.is_file()
        && let Err(error) = dotenvy::from_path(file)
    {
        eprintln!("propusk: cannot read .env: {error}");
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
    // These need no configuration, so that they work when it is invalid.
    match &cli.command {
        Some(Command::Openapi { json }) => return commands::openapi(*json),
        Some(Command::Events(events::EventsCommand::Asyncapi)) => return events::asyncapi(),
        Some(Command::Config(ConfigCommand::Default)) => {
            print!("{}", config::DEFAULT_TOML);
            return Ok(());
        }
        Some(Command::Locales(command)) => return command.run(),
        Some(Command::Client(command)) => command.check()?,
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
            Branding::load(&config).map_err(Failed::Usage)?;
            println!("the configuration is valid");
            for IgnoredVariable { name, instead } in &config.ignored_variables {
                println!("{name} has no effect here; use instead: {instead}");
            }
            return Ok(());
        }
        _ => {}
    }
    telemetry::init_logs(&config.log).map_err(|error| Failed::Usage(error.to_string()))?;
    // One TLS provider for the whole program. An error means that it is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::Run(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(async {
        match cli.command.unwrap_or(Command::Serve) {
            Command::Serve => commands::serve(config).await,
            Command::Migrate => commands::migrate(config).await,
            Command::Move(args) => move_database::move_database(config, args).await,
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
            Command::Issuer(command) => {
                on_app(config, async |app| issuers::issuer(app, command).await).await
            }
            Command::Module(command) => {
                on_app(config, async |app| modules::module(app, command).await).await
            }
            Command::Role(command) => {
                on_app(config, async |app| modules::role(app, command).await).await
            }
            Command::Invitation(command) => {
                on_app(config, async |app| invitations::invitation(app, command).await).await
            }
            Command::Service(command) => {
                on_app(config, async |app| services::service(app, command).await).await
            }
            Command::Session(command) => {
                on_app(config, async |app| sessions::session(app, command).await).await
            }
            Command::Audit(command) => {
                on_app(config, async |app| sessions::audit(app, command).await).await
            }
            Command::Mail(command) => {
                on_app(config, async |app| mail::mail(app, command).await).await
            }
            Command::Events(command) => {
                on_app(config, async |app| events::events(app, command).await).await
            }
            Command::Webhook(command) => {
                on_app(config, async |app| webhooks::webhook(app, command).await).await
            }
            Command::Explain { request_id, json } => {
                commands::explain(config, &request_id, json).await
            }
            Command::Health => commands::health(config).await,
            // Handled above.
            Command::Config(_) | Command::Openapi { .. } | Command::Locales(_) => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    /// Every command below this one, with its path.
    fn all(command: &clap::Command, path: &str) -> Vec<(String, clap::Command)> {
        let path = format!("{path} {}", command.get_name());
        let below = command.get_subcommands().flat_map(|below| all(below, &path));
        std::iter::once((path.clone(), command.clone())).chain(below).collect()
    }

    #[test]
    fn every_command_and_every_argument_has_help() {
        let mut missing = vec![];
        for (path, command) in all(&Cli::command(), "") {
            if command.get_about().is_none() {
                missing.push(path.clone());
            }
            let silent = command.get_arguments().filter(|argument| argument.get_help().is_none());
            missing.extend(silent.map(|argument| format!("{path} {}", argument.get_id())));
        }
        assert_eq!(missing, [""; 0]);
    }

    #[test]
    fn every_command_that_shows_data_can_print_json() {
        let shows = ["list", "show", "history", "explain"];
        let mut count = 0;
        for (path, command) in all(&Cli::command(), "") {
            // The configuration is shown as TOML, which it is written in.
            if !shows.contains(&command.get_name()) || path.ends_with("config show") {
                continue;
            }
            count += 1;
            assert!(command.get_arguments().any(|argument| argument.get_id() == "json"), "{path}");
        }
        assert!(count >= 12, "{count} commands were found");
    }
}

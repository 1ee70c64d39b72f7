//! The commands.

use std::{
    io::{BufRead, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    signal::unix::{SignalKind, signal},
};
use zeroize::Zeroizing;

use super::{
    Failed, KeysCommand, UserCommand,
    import::import,
    listing::{Listing, print_json, print_record},
};
use crate::{
    app::{self, App},
    clock::{Clock, Rng},
    config::{Config, IgnoredVariable, LogFormat},
    error::Error,
    flows::{
        accounts::{register::Registration, second_factors},
        admin::{
            access::Precondition,
            bootstrap::{self, FirstStart},
            canonical_names,
            clients::{self, file as clients_file},
            modules::file as modules_file,
            signing_keys,
            users::{self, Provisioned, UserChanges},
        },
        upstream::identity,
    },
    http::{
        self,
        api::{
            admin::{Explanation, KeyData, SagaData, UserDetails},
            identities::IdentityData,
            second_factors::FactorData,
        },
    },
    ids::UserId,
    keys::{Keys, NewKey, Rotation},
    model::{actor::Actor, key::KeyState, profile::ProfileClaim, user::Role},
    server::Server,
    storage::{denied_requests, files, sagas, users as rows, users::UserFilter},
};

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Run(match error {
            Error::Validation(fields) => {
                let lines: Vec<_> =
                    fields.iter().map(|f| format!("{}: {}", f.field, f.message)).collect();
                lines.join("\n")
            }
            Error::Unavailable(cause) | Error::NotCreated(cause) => cause.to_string(),
            Error::NotFound(
                noun @ ("client" | "issuer" | "module" | "resource" | "role" | "scope" | "session"
                | "user" | "webhook"),
            ) => {
                format!("there is no such {noun}: see `propusk {noun} list`")
            }
            Error::NoSuchModule => "there is no such module: see `propusk module list`".to_owned(),
            other => other.to_string(),
        })
    }
}

pub(super) fn failed(error: impl std::fmt::Display) -> Failed {
    Failed::Run(error.to_string())
}

/// Runs a command on an existing deployment, opened like the server does: a change is in force on
/// every process before the command reports it.
pub async fn on_app(
    config: Config,
    command: impl AsyncFnOnce(&Arc<App>) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let app = App::open_existing(config, Clock::system(), Rng::system()).await.map_err(failed)?;
    let done = command(&app).await;
    app.db.close().await;
    done
}

pub async fn serve(config: Config) -> Result<(), Failed> {
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    for IgnoredVariable { name, instead } in &config.ignored_variables {
        tracing::warn!(
            variable = name,
            instead,
            "a variable of the older auth service is set and has no effect here"
        );
    }
    let app = App::open(config, Clock::system(), Rng::system()).await.map_err(failed)?;
    app.branding.report();
    warn_of_shared_files(&app);
    let registered = app.db.register_server().map_err(|error| {
        failed(format!("cannot lock the file serve.lock beside the database: {error}"))
    })?;
    if !registered.is_only {
        tracing::warn!(
            "another server process uses this SQLite file: rate limits are counted per process, \
             and writes wait for each other; use PostgreSQL for several processes"
        );
    }
    let server = Server::bind(Arc::clone(&app)).map_err(failed)?;
    let first_start = bootstrap::set_up(&app).await?;
    clients_file::apply(&app).await.map_err(failed)?;
    modules_file::apply(&app).await.map_err(failed)?;
    welcome(&app, &server, first_start);
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    server.run(shutdown).await.map_err(failed)
}

/// Files that exist keep their modes: an operator may have widened them on purpose.
fn warn_of_shared_files(app: &App) {
    files::warn_if_shared(&app.config.data_dir);
    files::warn_if_shared(&app.config.master_key_path());
    for file in app.db.files() {
        files::warn_if_shared(&file);
    }
}

/// Tells the operator that the server runs. A terminal gets the URLs and, at the first start, the
/// secrets on standard output, never in the log. With JSON logs both outputs are collected: nothing
/// is printed, and no secret is shown.
fn welcome(app: &App, server: &Server, first: Option<FirstStart>) {
    let address = server.address();
    let issuer = &app.config.server.issuer;
    let version = env!("CARGO_PKG_VERSION");
    let (grpc, metrics) = (server.grpc_address(), server.metrics_address());
    tracing::info!(
        %address,
        grpc = grpc.map(tracing::field::display),
        metrics = metrics.map(tracing::field::display),
        issuer,
        database = app.db.kind(),
        version,
        "server started"
    );
    if app.config.log.format == LogFormat::Json {
        if let Some(first) = first {
            first_start_without_terminal(&first);
        }
        return;
    }
    let mut text = format!(
        "
Propusk {version} is running at {issuer}
  Log in        {issuer}/login
  API docs      {issuer}/docs
  Discovery     {issuer}/.well-known/openid-configuration
  Public keys   {issuer}/oauth2/jwks
"
    );
    if let Some(grpc) = grpc {
        text.push_str(&format!("  gRPC          {grpc}\n"));
    }
    if let Some(metrics) = metrics {
        text.push_str(&format!("  Metrics       http://{metrics}/metrics\n"));
    }
    if let Some(first) = first {
        let password = first.generated_password;
        let password = password.map_or_else(
            || "with the password of bootstrap.admin_password_file".to_owned(),
            |password| format!("password {password}"),
        );
        text.push_str("\nFirst start; these credentials are shown once:\n");
        text.push_str(&format!("  Administrator {}, {password}\n", first.admin_email));
        if let Some((id, secret)) = first.demo_client {
            text.push_str(&format!("  Demo client   {id}, secret {secret}\n"));
        }
    }
    println!("{text}");
    let _ = std::io::stdout().flush();
}

/// Says how to get in, without a secret.
fn first_start_without_terminal(first: &FirstStart) {
    let admin = first.admin_email.as_str();
    match first.generated_password {
        Some(_) => tracing::warn!(
            admin,
            "administrator created; its generated password is not shown with JSON logs: run \
             `propusk user set-password`, or name a file in bootstrap.admin_password_file before \
             the first start"
        ),
        None => tracing::info!(
            admin,
            "administrator created with the password of bootstrap.admin_password_file"
        ),
    }
    if let Some((client_id, _)) = &first.demo_client {
        tracing::info!(
            client_id = client_id.as_str(),
            "demo client created; its secret is not shown with JSON logs: run \
             `propusk client rotate-secret`"
        );
    }
}

pub async fn migrate(config: Config) -> Result<(), Failed> {
    let db = app::open_database(&config).await.map_err(failed)?;
    db.migrate().await.map_err(failed)?;
    Keys::create_master_key(&config, &db, &Rng::system()).await.map_err(failed)?;
    db.close().await;
    println!("the database schema is up to date");
    Ok(())
}

pub async fn keys(app: &App, command: KeysCommand) -> Result<(), Failed> {
    let App { keys, db, clock, rng, config, .. } = app;
    let mut as_json = false;
    match command {
        KeysCommand::List { json } => as_json = json,
        KeysCommand::Show { kid, pem, json } => return show_key(app, &kid, pem, json),
        KeysCommand::Import { algorithm, file, activate } => {
            files::warn_if_shared(&file);
            let shown = file.display();
            let pem = std::fs::read(&file)
                .map_err(|error| Failed::Usage(format!("cannot read {shown}: {error}")))?;
            let pem = Zeroizing::new(pem);
            let new = NewKey { algorithm, pem: &pem, at_once: activate };
            let key = signing_keys::import(app, new, &Actor::operator()).await?;
            println!("imported key {}, which signs from {} on\n", key.id, key.activates_at);
        }
        KeysCommand::Rotate { algorithm, now } => {
            let rotation = Rotation { only: algorithm, at_once: now, call: None };
            keys.rotate(db, clock, rng, rotation, &Actor::operator()).await.map_err(failed)?;
        }
        KeysCommand::Ban { kid } => {
            keys.ban(db, clock, rng, &kid, &Actor::operator()).await.map_err(failed)?;
            let now = clock.now();
            let everywhere = now + config.keys.jwks_max_age + Duration::from_secs(60);
            println!(
                "banned {kid}: as of {now} every process rejects tokens signed with it.\n\
                 Resource servers that verify tokens offline stop accepting it by {everywhere}, when cached \
                 JWKS have expired.\n"
            );
        }
    }
    let now = clock.now();
    let header = &["ID", "ALGORITHM", "STATE", "ACTIVE FROM", "RETIRES"];
    let mut listing = Listing::new(header, as_json);
    for key in &keys.ring().records {
        let state = match key.state(now) {
            KeyState::Next => "next",
            KeyState::Active => "active",
            KeyState::Retired => "retired",
            KeyState::Banned => "banned",
        };
        let shown = KeyData::from((key.clone(), now));
        let retires = shown.retires_at.as_deref().unwrap_or_default();
        listing.add([&shown.id, &shown.algorithm, state, &shown.activates_at, retires], &shown)?;
    }
    listing.print()
}

fn show_key(app: &App, kid: &str, as_pem: bool, as_json: bool) -> Result<(), Failed> {
    if as_pem {
        print!("{}", app.keys.public_pem(kid).map_err(failed)?);
        return Ok(());
    }
    let ring = app.keys.ring();
    let found = ring.records.iter().find(|key| key.id == kid);
    let key = found
        .ok_or_else(|| Failed::Run(format!("no key has the id {kid}: see `propusk keys list`")))?;
    let shown = serde_json::to_value(KeyData::from((key.clone(), app.clock.now())));
    let shown = shown.map_err(failed)?;
    if as_json {
        return print_json(&shown);
    }
    for (name, value) in shown.as_object().into_iter().flatten() {
        println!("{name}: {}", value.as_str().unwrap_or("-"));
    }
    Ok(())
}

pub async fn user(app: &App, command: UserCommand) -> Result<(), Failed> {
    match command {
        UserCommand::Add { email, username, role, password_stdin, no_provisioning } => {
            let role = role_named(&role)?;
            let (password, generated) = password(app, password_stdin)?;
            let registration = Registration { email, username, password: password.clone() };
            let provisioned =
                if no_provisioning { Provisioned::Never } else { Provisioned::AsConfigured };
            let by = Actor::operator();
            let created = users::create_with(app, registration, role, provisioned, None, &by);
            let created = created.await?;
            let user = created.resource.user;
            println!("added user {} ({})", user.email, user.id);
            if generated {
                println!("password (shown once): {password}");
            }
        }
        UserCommand::Saga { user, json } => {
            // A refused account is gone: its id remains.
            let saga = match sagas::of_user(&app.db, &user.as_str().into()).await.map_err(failed)? {
                Some(saga) => Some(saga),
                None => {
                    let id = users::find(app, &user).await?.id;
                    sagas::of_user(&app.db, &id).await.map_err(failed)?
                }
            };
            let saga = saga.ok_or(Error::NotFound("saga"))?;
            print_record(&SagaData::from(saga), json)?;
        }
        UserCommand::List { json } => list_users(app, json).await?,
        UserCommand::Import(args) => import(app, args).await?,
        UserCommand::Canonicalize => {
            let report = canonical_names::renew(app, &Actor::operator()).await?;
            println!("renewed {} canonical name(s)", report.changed);
            if report.collisions.is_empty() {
                return Ok(());
            }
            for one in &report.collisions {
                println!(
                    "user {}: {} is the same name as user {}'s",
                    one.user_id, one.name, one.other_id
                );
            }
            return Err(Failed::Run(format!(
                "{} name(s) collide: rename or delete one user of each pair (admin API), and run this again; \
                 until then the first of the two cannot log in with the name",
                report.collisions.len()
            )));
        }
        UserCommand::Disable { user } => {
            let user = users::find(app, &user).await?;
            users::disable(app, &user.id, &Actor::operator()).await?;
            println!("disabled user {}; all sessions revoked", user.email);
        }
        UserCommand::Enable { user } => {
            let user = users::find(app, &user).await?;
            users::enable(app, &user.id, &Actor::operator()).await?;
            println!("enabled user {}", user.email);
        }
        UserCommand::Delete { user } => {
            let user = users::find(app, &user).await?;
            users::delete(app, &user.id, &Precondition::Any, &Actor::operator()).await?;
            println!("deleted user {}", user.email);
            let days = |kept: Duration| kept.as_secs().div_ceil(86_400);
            println!(
                "kept, with the id {} and without email address, username and IP address: the audit log ({} \
                 day(s)), events in the outbox ({} day(s)), revoked tokens and queued logouts (hours); see \
                 docs/privacy.md",
                user.id,
                days(app.config.audit.retention),
                days(app.config.events.retention)
            );
        }
        UserCommand::SetPassword { user, password_stdin } => {
            let user = users::find(app, &user).await?;
            let (password, generated) = password(app, password_stdin)?;
            users::set_password(app, &user.id, &password, &Actor::operator()).await?;
            println!("changed the password of {}; all sessions revoked", user.email);
            if generated {
                println!("password (shown once): {password}");
            }
        }
        UserCommand::SetRole { user, role } => {
            let role = role_named(&role)?;
            let user = users::find(app, &user).await?;
            users::set_role(app, &user.id, role.clone(), &Actor::operator()).await?;
            println!("changed the role of {} to {}", user.email, role.as_str());
        }
        UserCommand::Profile { user, set, json } => profile(app, &user, &set, json).await?,
        UserCommand::Factors { user, json } => list_factors(app, &user, json).await?,
        UserCommand::Identities { user, json } => list_identities(app, &user, json).await?,
        UserCommand::Unlink { user, identity } => {
            let user = users::find(app, &user).await?;
            identity::unlink(app, &user.id, &identity, &Actor::operator()).await?;
            println!("unlinked the identity of {}", user.email);
        }
        UserCommand::ResetFactors { user } => {
            let user = users::find(app, &user).await?;
            second_factors::reset(app, &user.id, &Actor::operator()).await?;
            println!("removed all second factors and recovery codes of {}", user.email);
        }
        UserCommand::WithdrawConsent { user, client } => {
            let user = users::find(app, &user).await?;
            clients::withdraw_consent(app, &user.id, &client, &Actor::operator()).await?;
            println!("withdrew the consent of {} to {client}", user.email);
        }
    }
    Ok(())
}

pub async fn explain(config: Config, request_id: &str, json: bool) -> Result<(), Failed> {
    let db = app::open_existing_database(&config).await.map_err(failed)?;
    let found = denied_requests::by_id(&db, request_id).await;
    db.close().await;
    let Some(denied) = found.map_err(failed)? else {
        let message = format!(
            "no denied request {request_id}: it succeeded, or its record has expired (explain.retention); \
             a request of the last second may not be recorded yet"
        );
        return Err(Failed::Run(message));
    };
    if json {
        let mut report = serde_json::to_value(Explanation::from(denied)).map_err(failed)?;
        with_types(&mut report);
        return print_json(&report);
    }
    let from = denied.address.unwrap_or_default();
    println!("{} {} from {from}", denied.at.rfc3339(), denied.call);
    println!("{} {}: {}", denied.status, denied.code, denied.reason);
    for (name, value) in &denied.diagnostics {
        println!("  {name}: {value}");
    }
    Ok(())
}

async fn list_users(app: &App, as_json: bool) -> Result<(), Failed> {
    let header = &["ID", "EMAIL", "USERNAME", "ROLE", "STATE", "CREATED"];
    let mut listing = Listing::new(header, as_json);
    let (filter, mut after) = (UserFilter::default(), UserId::default());
    loop {
        let page = rows::page(&app.db, &filter, &after, 500).await.map_err(failed)?;
        match page.last() {
            Some(last) => after.clone_from(&last.user.id),
            None => break,
        }
        for account in page {
            let shown = UserDetails::from(account);
            let username = shown.username.as_deref().unwrap_or_default();
            let state = if shown.disabled_at.is_some() { "disabled" } else { "enabled" };
            let cells: [&str; 6] =
                [&shown.id, &shown.email, username, &shown.role, state, &shown.created_at];
            listing.add(cells, &shown)?;
        }
    }
    listing.print()
}

async fn list_factors(app: &App, user: &str, json: bool) -> Result<(), Failed> {
    let user = users::find(app, user).await?;
    let overview = second_factors::overview(app, &user.id).await?;
    let (codes, is_required) = (overview.recovery_codes, overview.is_required);
    let mut listing = Listing::new(&["ID", "KIND", "NAME", "CREATED", "LAST USED"], json);
    for factor in overview.factors {
        let shown = FactorData::from(factor);
        let used = shown.last_used_at.as_deref().unwrap_or_default();
        listing.add([&shown.id, &shown.kind, &shown.name, &shown.created_at, used], &shown)?;
    }
    listing.print()?;
    if !json {
        let required = if is_required { "; the role requires a second factor" } else { "" };
        println!("{codes} unused recovery code(s){required}");
    }
    Ok(())
}

async fn profile(app: &App, user: &str, set: &[String], json: bool) -> Result<(), Failed> {
    let user = users::find(app, user).await?;
    let mut patch = Map::new();
    for change in set {
        let (claim, value) = change.split_once('=').ok_or_else(|| {
            Failed::Usage("--set must be CLAIM=VALUE, as in --set locale=en".to_owned())
        })?;
        let value = match value {
            "" => Value::Null,
            "true" | "false" if claim == ProfileClaim::PhoneNumberVerified.as_str() => {
                Value::Bool(value == "true")
            }
            text => text.into(),
        };
        match claim.strip_prefix("address.") {
            None => drop(patch.insert(claim.to_owned(), value)),
            Some(member) => {
                let address = patch.entry("address").or_insert_with(|| Map::new().into());
                let Some(address) = address.as_object_mut() else {
                    let message = "set either `address=` or its members";
                    return Err(Failed::Usage(message.to_owned()));
                };
                address.insert(member.to_owned(), value);
            }
        }
    }
    let changes = UserChanges { profile: patch, ..UserChanges::default() };
    let account =
        users::update(app, &user.id, &Precondition::Any, changes, &Actor::operator()).await?;
    print_record(&account.profile, json)
}

async fn list_identities(app: &App, user: &str, json: bool) -> Result<(), Failed> {
    let user = users::find(app, user).await?;
    const COLUMNS: &[&str] = &["ID", "PROVIDER", "ISSUER", "SUBJECT", "CREATED", "LAST LOGIN"];
    let mut listing = Listing::new(COLUMNS, json);
    for identity in identity::of_user(app, &user.id).await? {
        let shown = IdentityData::of(app, identity);
        let provider = shown.provider.as_deref().unwrap_or_default();
        let last = shown.last_login_at.as_deref().unwrap_or_default();
        let cells: [&str; 6] =
            [&shown.id, provider, &shown.issuer, &shown.subject, &shown.created_at, last];
        listing.add(cells, &shown)?;
    }
    listing.print()
}

/// Diagnostics that are numbers; the others that look like one are ids.
const NUMBERS: [&str; 4] = ["needed.max_age", "session.generation", "token.exp", "token.iat"];

/// Gives the report's numbers and truth values their types: diagnostics are stored as texts.
fn with_types(report: &mut Value) {
    let number = |text: &str| text.parse::<i64>().ok().map(Value::from);
    // The name of a gRPC status is a text.
    if let Some(status) = report["status"].as_str().and_then(number) {
        report["status"] = status;
    }
    for (name, value) in report["diagnostics"].as_object_mut().into_iter().flatten() {
        let typed = match value.as_str() {
            Some("true") => Some(Value::Bool(true)),
            Some("false") => Some(Value::Bool(false)),
            Some(text) if NUMBERS.contains(&name.as_str()) => number(text),
            _ => None,
        };
        if let Some(typed) = typed {
            *value = typed;
        }
    }
}

fn role_named(name: &str) -> Result<Role, Failed> {
    Role::parse(name).map_err(|why| Failed::Usage(why.to_owned()))
}

/// The password, and whether it was generated.
fn password(app: &App, from_stdin: bool) -> Result<(String, bool), Failed> {
    if !from_stdin {
        return Ok((URL_SAFE_NO_PAD.encode(app.rng.bytes::<18>()), true));
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok((line.trim_end_matches(['\r', '\n']).to_owned(), false))
}

pub fn openapi(json: bool) -> Result<(), Failed> {
    let document = http::api::document().map_err(failed)?;
    let text = if json {
        serde_json::to_string_pretty(&document).map_err(failed)?
    } else {
        serde_yaml_ng::to_string(&document).map_err(failed)?
    };
    println!("{}", text.trim_end());
    Ok(())
}

/// Queries the metrics listener, which is plain HTTP; else the public one, unless it has TLS.
pub async fn health(config: Config) -> Result<(), Failed> {
    let (address, path) = match config.metrics.listen {
        Some(address) => (address, "/ready"),
        None if config.server.tls.certificate.is_none() => {
            (config.server.listen, "/api/v1/auth/health/ready")
        }
        None => {
            return Err(Failed::Usage(
                "`propusk health` requires metrics.listen when server.tls is configured".to_owned(),
            ));
        }
    };
    // A server that listens on all interfaces is queried on loopback.
    let ip = match address.ip() {
        ip if ip.is_unspecified() && ip.is_ipv4() => std::net::Ipv4Addr::LOCALHOST.into(),
        ip if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let address = SocketAddr::new(ip, address.port());
    let asked = tokio::time::timeout(Duration::from_secs(5), ask(address, path));
    match asked.await {
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200") => {
            println!("ready");
            Ok(())
        }
        Ok(Ok(_)) => {
            Err(Failed::Run("the server is running but not ready; see its log".to_owned()))
        }
        Ok(Err(error)) => {
            Err(Failed::Run(format!("cannot reach the server at {address}: {error}")))
        }
        Err(_) => Err(Failed::Run(format!("the server at {address} did not respond within 5 s"))),
    }
}

async fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

//! Import of the accounts of another system, with their password hashes.
//!
//! The file is read on a thread of its own, a batch ahead. A batch is one transaction with a fixed
//! number of statements. It is idempotent by email address: an account whose address exists is left
//! as it is, so that a second run changes nothing and one that was interrupted continues.

mod account;
mod profile;
mod source;

use std::{
    collections::{HashMap, HashSet},
    io::Read,
};

use serde_json::json;
use tokio::sync::mpsc;

use self::account::Preparation;
pub use self::source::Format;
use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    ids::UserId,
    model::{
        actor::Actor,
        event::Event,
        user::{Role, User},
    },
    password::FirebaseParameters,
    storage::{
        imports::{self, Existing, ImportedUser},
        outbox, roles,
    },
};

/// Accounts per transaction.
const BATCH: usize = 1_000;
/// Batches that are read ahead.
const AHEAD: usize = 2;
/// How often a batch is tried again where another person takes a name meanwhile.
const ATTEMPTS: usize = 5;

/// What is imported, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub format: Format,
    /// The role of the accounts.
    pub role: Role,
    /// Whether the file's own `role` goes before it.
    pub roles_from_file: bool,
    /// Whether the file may make administrators.
    pub allow_admins: bool,
    /// Whether accounts without a password are imported; nobody can log in to them by password.
    pub allow_no_password: bool,
    /// Whether `user.created` is written to the outbox.
    pub events: bool,
    /// Whether profiles are imported, of the claims in use.
    pub profiles: bool,
    /// Whether nothing is written.
    pub dry_run: bool,
    /// For Firebase's hashes.
    pub firebase: Option<FirebaseParameters>,
}

/// The numbers of accounts so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub read: u64,
    pub imported: u64,
    /// Their email addresses exist.
    pub unchanged: u64,
    pub refused: u64,
}

/// Where an account stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line that it begins on or, in an array on one line, that line.
    pub line: u64,
    /// Its number in the file, from 1.
    pub record: u64,
}

/// An account that is not imported. The reason has no password hash and no name in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub at: Position,
    pub field: &'static str,
    pub reason: String,
}

/// What the reader sends: accounts, refusals, and the end of a file that cannot be read further.
enum Item {
    Account(Position, Box<ImportedUser>),
    Refused(Refusal),
    Broken(String),
}

/// Imports the accounts of a file. `progress` hears of every batch, `refused` of every account that
/// is not imported: in a batch, first of those that break a rule, then of those whose names are
/// taken.
///
/// # Errors
/// [`Error::Validation`] where the file cannot be read to its end, or the role does not exist;
/// [`Error::Unavailable`]. Batches before the error are imported.
pub async fn run(
    app: &App,
    input: impl Read + Send + 'static,
    options: Options,
    actor: &Actor,
    mut refused: impl FnMut(&Refusal),
    mut progress: impl FnMut(&Progress),
) -> Result<Progress, Error> {
    let roles: HashSet<String> =
        roles::all(&app.db).await?.into_iter().map(|one| one.role.as_str().to_owned()).collect();
    if !roles.contains(options.role.as_str()) {
        let message = format!("there is no such role: {}", options.role.as_str());
        return Err(Error::field("role", message));
    }
    if options.role == Role::admin() && !options.allow_admins {
        return Err(Error::field("role", "administrators are imported with --allow-admins only"));
    }
    let (sender, mut batches) = mpsc::channel(AHEAD);
    let (clock, rng) = (app.clock.clone(), app.rng.clone());
    let claims = app.config.profile.claims.clone();
    let preparation = Preparation { options: options.clone(), roles, claims, clock, rng };
    let reading = tokio::task::spawn_blocking(move || read(input, &preparation, &sender));
    let mut so_far = Progress::default();
    while let Some(batch) = batches.recv().await {
        let mut accounts = vec![];
        let mut broken = None;
        for one in batch {
            so_far.read += 1;
            match one {
                Item::Account(at, user) => accounts.push((at, *user)),
                Item::Refused(refusal) => {
                    so_far.refused += 1;
                    refused(&refusal);
                }
                Item::Broken(message) => {
                    so_far.read -= 1;
                    broken = Some(message);
                }
            }
        }
        import(app, accounts, &options, actor, &mut so_far, &mut refused).await?;
        progress(&so_far);
        if let Some(message) = broken {
            return Err(Error::field("file", message));
        }
    }
    reading.await.map_err(|error| Error::Unavailable(error.into()))?;
    Ok(so_far)
}

/// Reads the file in batches. Ends early where nobody waits for them any more.
fn read(input: impl Read, preparation: &Preparation, sender: &mpsc::Sender<Vec<Item>>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut record = 0;
    let done = source::read(input, preparation.options.format, |line, found| {
        record += 1;
        let at = Position { line, record };
        let user = found.map_err(|reason| ("record", reason));
        batch.push(match user.and_then(|found| preparation.account(found)) {
            Ok(user) => Item::Account(at, Box::new(user)),
            Err((field, reason)) => Item::Refused(Refusal { at, field, reason }),
        });
        if batch.len() < BATCH {
            return true;
        }
        sender.blocking_send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).is_ok()
    });
    if let Err(message) = done {
        batch.push(Item::Broken(message));
    }
    if !batch.is_empty() {
        let _ = sender.blocking_send(batch);
    }
}

/// Imports one batch in one transaction.
async fn import(
    app: &App,
    mut batch: Vec<(Position, ImportedUser)>,
    options: &Options,
    actor: &Actor,
    so_far: &mut Progress,
    refused: &mut impl FnMut(&Refusal),
) -> Result<(), Error> {
    for _ in 0..ATTEMPTS {
        let users: Vec<ImportedUser> = batch.iter().map(|(_, user)| user.clone()).collect();
        let existing = imports::existing(&app.db, &users).await?;
        let mut fresh = vec![];
        for (verdict, (at, user)) in classify(&batch, &existing).into_iter().zip(batch) {
            match verdict {
                Verdict::Fresh => fresh.push((at, user)),
                Verdict::Unchanged => so_far.unchanged += 1,
                Verdict::Refused(field, reason) => {
                    so_far.refused += 1;
                    refused(&Refusal { at, field, reason });
                }
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        if options.dry_run {
            so_far.imported += fresh.len() as u64;
            return Ok(());
        }
        let stored = store(app, &fresh, options, actor).await?;
        so_far.imported += stored.len() as u64;
        // Another person has taken a name since it was looked up.
        batch = fresh.into_iter().filter(|(_, user)| !stored.contains(&user.id)).collect();
        if batch.is_empty() {
            return Ok(());
        }
    }
    for (at, _) in batch {
        so_far.refused += 1;
        let reason = "taken by a concurrent registration: import the file again".to_owned();
        refused(&Refusal { at, field: "email", reason });
    }
    Ok(())
}

/// Stores a batch with its events and its audit entry; returns the ids of the users stored.
async fn store(
    app: &App,
    batch: &[(Position, ImportedUser)],
    options: &Options,
    actor: &Actor,
) -> Result<HashSet<UserId>, Error> {
    let mut rows: Vec<ImportedUser> = batch.iter().map(|(_, user)| user.clone()).collect();
    // Concurrent imports take the rows in one order, so that none waits for another in a circle.
    rows.sort_by(|a, b| a.email_canonical.cmp(&b.email_canonical));
    let mut tx = app.begin(actor).await?;
    let stored: HashSet<UserId> = imports::insert(&mut tx, &rows).await?.into_iter().collect();
    if stored.is_empty() {
        tx.rollback().await?;
        return Ok(stored);
    }
    if options.events {
        let created = rows.iter().filter(|user| stored.contains(&user.id)).map(created_event);
        let events: Vec<(String, Event)> = created.map(|event| (tx.new_id(), event)).collect();
        let now = tx.now();
        outbox::add_all(&mut tx, &events, now).await?;
    }
    let line = |one: Option<&(Position, ImportedUser)>| one.map(|(at, _)| at.line);
    let detail = json!({
        "format": options.format.as_str(),
        "users": stored.len(),
        "firstLine": line(batch.first()),
        "lastLine": line(batch.last()),
    });
    tx.audit("user.import", None, detail).await?;
    tx.commit().await?;
    Ok(stored)
}

fn created_event(user: &ImportedUser) -> Event {
    let event = Event::user_created(&User {
        id: user.id.clone(),
        email: user.email.clone(),
        username: user.username.clone(),
        // Checked when it was read.
        role: Role::parse(&user.role).unwrap_or_else(|_| Role::user()),
        is_verified: user.is_verified,
        created_at: Timestamp(user.created_at),
        disabled_at: user.disabled_at.map(Timestamp),
    });
    event.with_external_id(user.external_id.as_deref())
}

enum Verdict {
    Fresh,
    Unchanged,
    Refused(&'static str, String),
}

/// Compares a batch with the users that exist, and with itself.
fn classify(batch: &[(Position, ImportedUser)], existing: &Existing) -> Vec<Verdict> {
    let mut seen: HashMap<(&'static str, &str), u64> = HashMap::new();
    let mut verdicts = Vec::with_capacity(batch.len());
    for (at, user) in batch {
        let names = [
            ("email", Some(user.email_canonical.as_str())),
            ("username", user.username_canonical.as_deref()),
            ("id", user.external_id.as_deref()),
        ];
        let names = || names.into_iter().filter_map(|(field, name)| Some((field, name?)));
        let verdict = against(user, existing).or_else(|| {
            let repeated = names().find_map(|name| Some((name.0, seen.get(&name)?)));
            let reason = |record: &u64| format!("repeats that of record {record}");
            repeated.map(|(field, record)| Verdict::Refused(field, reason(record)))
        });
        if verdict.is_none() {
            seen.extend(names().map(|name| (name, at.record)));
        }
        verdicts.push(verdict.unwrap_or(Verdict::Fresh));
    }
    verdicts
}

/// `None`: nobody has one of its names.
fn against(user: &ImportedUser, existing: &Existing) -> Option<Verdict> {
    if let Some(known) = existing.emails.get(&user.email_canonical) {
        return Some(match (known, &user.external_id) {
            // The old system may tell apart what is one address here.
            (Some(known), Some(id)) if known != id => Verdict::Refused(
                "email",
                "belongs to a user with another id: the two addresses may differ in case only"
                    .to_owned(),
            ),
            _ => Verdict::Unchanged,
        });
    }
    let has = |names: &HashSet<String>, name: &Option<String>| {
        name.as_ref().is_some_and(|name| names.contains(name))
    };
    let field = if has(&existing.usernames, &user.username_canonical) {
        "username"
    } else if has(&existing.external_ids, &user.external_id) {
        "id"
    } else {
        return None;
    };
    Some(Verdict::Refused(field, "belongs to a user with another email address".to_owned()))
}

//! `/admin/keys`: signing keys.

use poem::{Response, Result, handler};

use super::{Admin, Content, Rejected, listing::failed, shared::confirmation};
use crate::{
    clock::Timestamp,
    error::Error,
    flows::admin::signing_keys,
    http::views::{
        AdminForm, AdminSection, Block, Cell, Facts, Field, FormMethod, Input, Table, Tone,
    },
    model::key::{KeyAlgorithm, KeyRecord, KeyState},
};

const PATH: &str = "/admin/keys";

/// Lists the keys.
#[handler]
pub async fn show(admin: Admin) -> Result<Response> {
    page(&admin, &Rejected::default()).await
}

/// Rotates the keys, or bans one.
#[handler]
pub async fn submit(admin: Admin) -> Result<Response> {
    match change(&admin).await {
        Ok(done) => admin.done(PATH, done),
        Err(error) => page(&admin, &Rejected::of(error)?).await,
    }
}

async fn change(admin: &Admin) -> Result<&'static str, Error> {
    let app = &admin.app;
    match admin.given("action") {
        Some("rotate") => {
            let only = admin.given("algorithm").map(signing_keys::algorithm).transpose()?;
            let at_once = admin.given("at_once").is_some();
            signing_keys::rotate(app, only, at_once, None, &admin.actor).await?;
            Ok("signing-keys-rotated")
        }
        Some("ban") => {
            admin.confirmed("confirm")?;
            let kid = admin.given("key").unwrap_or_default();
            signing_keys::ban(app, kid, &admin.actor).await?;
            Ok("signing-key-banned")
        }
        _ => Err(Error::field("action", "must be rotate or ban")),
    }
}

/// A state, as its name and tone.
fn state(admin: &Admin, state: KeyState) -> (String, Tone) {
    let (key, tone) = match state {
        KeyState::Next => ("op-key-next", Tone::Neutral),
        KeyState::Active => ("op-key-active", Tone::Good),
        KeyState::Retired => ("op-key-retired", Tone::Neutral),
        KeyState::Banned => ("op-key-banned", Tone::Bad),
    };
    (admin.text(key), tone)
}

/// When each algorithm has its next signing key.
pub(super) fn rotations(admin: &Admin) -> Vec<String> {
    let scheduled = admin.app.keys.schedule(admin.app.clock.now()).into_iter();
    scheduled
        .map(|(algorithm, _, next)| format!("{}: {}", algorithm.as_str(), Admin::minute(next)))
        .collect()
}

async fn page(admin: &Admin, rejected: &Rejected) -> Result<Response> {
    let (app, now) = (&admin.app, admin.app.clock.now());
    let keys = signing_keys::all(app).await.map_err(failed)?;
    let jwks = format!("{}/oauth2/jwks", app.config.server.issuer);
    let facts = vec![
        (admin.text("op-jwks"), Cell::link(jwks, "/oauth2/jwks")),
        (admin.text("op-next-rotation"), Cell::Lines(rotations(admin))),
    ];
    let time = |time: Option<Timestamp>| Cell::of(time.map(Admin::minute));
    let row = |key: &KeyRecord| {
        let (name, tone) = state(admin, key.state(now));
        vec![
            Cell::Code(key.id.clone()),
            Cell::Text(key.algorithm.as_str().to_owned()),
            Cell::Status(name, tone),
            time(Some(key.created_at)),
            time(Some(key.activates_at)),
            time(key.retires_at),
            key.banned_at.map_or(Cell::Nothing, |since| banned(admin, since)),
        ]
    };
    let columns = [
        "op-key-id",
        "op-algorithm",
        "admin-state",
        "admin-created",
        "op-key-activates",
        "op-key-retires",
        "op-key-banned",
    ];
    let table = Table {
        heading: admin.text("admin-keys"),
        columns: columns.map(|column| admin.text(column)).into(),
        rows: keys.iter().map(row).collect(),
        empty: admin.text("op-none"),
        next: None,
    };
    let mut blocks = vec![
        Block::Facts(Facts { heading: None, facts }),
        Block::Table(table),
        Block::Text(admin.text("op-key-others")),
        rotate_form(admin),
    ];
    blocks.extend(ban_form(admin, &keys));
    let content = Content {
        section: AdminSection::Keys,
        title: admin.text("admin-keys"),
        above: vec![],
        blocks,
    };
    admin.show_with(content, rejected)
}

/// Since when a key is banned, and when that has reached every consumer.
fn banned(admin: &Admin, since: Timestamp) -> Cell {
    let dropped = signing_keys::dropped_by(&admin.app, since);
    let here = admin.t.with("op-key-refused-since", &[("time", Admin::minute(since))]);
    let key = if dropped > admin.app.clock.now() { "op-key-dropped-by" } else { "op-key-dropped" };
    let everywhere = admin.t.with(key, &[("time", Admin::minute(dropped))]);
    Cell::Lines(vec![here.into_owned(), everywhere.into_owned()])
}

fn rotate_form(admin: &Admin) -> Block {
    let all = (String::new(), admin.text("op-all-algorithms"));
    let algorithms = admin.app.config.keys.algorithms.iter();
    let algorithms = algorithms.map(|one| (one.as_str().to_owned(), one.as_str().to_owned()));
    Block::Form(AdminForm {
        id: "rotate",
        heading: Some(admin.text("op-rotate")),
        text: Some(admin.text("op-rotate-text")),
        method: FormMethod::Post,
        action: PATH.to_owned(),
        hidden: vec![("action", "rotate".to_owned())],
        fields: vec![
            Field {
                name: "algorithm",
                label: admin.text("op-algorithm"),
                value: admin.given("algorithm").unwrap_or_default().to_owned(),
                input: Input::Choice([all].into_iter().chain(algorithms).collect()),
                ..Field::default()
            },
            Field {
                name: "at_once",
                label: admin.text("op-at-once"),
                hint: Some(admin.text("op-at-once-hint")),
                input: Input::Checkbox,
                ..Field::default()
            },
        ],
        submit: admin.text("op-rotate"),
        is_dangerous: false,
    })
}

fn ban_form(admin: &Admin, keys: &[KeyRecord]) -> Option<Block> {
    let now = admin.app.clock.now();
    let signs = |key: &&KeyRecord| {
        matches!(key.algorithm, KeyAlgorithm::Sign(_)) && key.banned_at.is_none()
    };
    let shown = |key: &KeyRecord| {
        let (state, _) = state(admin, key.state(now));
        (key.id.clone(), format!("{} {} ({state})", key.algorithm.as_str(), key.id))
    };
    let choices: Vec<_> = keys.iter().filter(signs).map(shown).collect();
    (!choices.is_empty()).then(|| {
        Block::Form(AdminForm {
            id: "ban",
            heading: Some(admin.text("op-ban")),
            text: Some(admin.text("op-ban-text")),
            method: FormMethod::Post,
            action: PATH.to_owned(),
            hidden: vec![("action", "ban".to_owned())],
            fields: vec![
                Field {
                    name: "key",
                    label: admin.text("op-key-id"),
                    value: admin.given("key").unwrap_or_default().to_owned(),
                    input: Input::Choice(choices),
                    ..Field::default()
                },
                confirmation(admin, "confirm", "op-ban-confirm"),
            ],
            submit: admin.text("op-ban"),
            is_dangerous: true,
        })
    })
}

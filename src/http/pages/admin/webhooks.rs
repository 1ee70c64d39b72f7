//! `/admin/events/webhooks`: endpoints that events are posted to, and what was sent to them.

use std::time::Duration;

use poem::{Response, Result, handler, http::StatusCode, web::Path};

use super::{
    Admin, Content, Rejected, events,
    listing::{Listing, failed, texts},
    shared::{change_of, confirmation, shown_once, switch},
};
use crate::{
    clock::Timestamp,
    error::Error,
    flows::{admin::webhooks, webhooks::Sent},
    http::views::{AdminForm, AdminSection, Block, Cell, Facts, Field, Input, Table, Tone},
    model::{
        event_types::EVENT_TYPES,
        webhook::{Delivery, DeliveryState, MOST_WEBHOOKS, Webhook, WebhookSettings},
    },
    storage::{
        webhook_deliveries::{self as deliveries, DeliveryFilter},
        webhooks as rows,
    },
};

pub(super) const PATH: &str = "/admin/events/webhooks";

const STATES: [(&str, &str); 3] = [
    ("pending", "op-delivery-pending"),
    ("delivered", "op-delivery-delivered"),
    ("abandoned", "op-delivery-abandoned"),
];

/// Lists the webhooks.
#[handler]
pub async fn show_all(admin: Admin) -> Result<Response> {
    list_page(&admin, &Rejected::default()).await
}

/// Adds a webhook, and shows its secret once.
#[handler]
pub async fn add(admin: Admin) -> Result<Response> {
    let id = admin.given("id").map(str::to_owned);
    let created = webhooks::create(&admin.app, id, settings(&admin), None, &admin.actor).await;
    match created {
        Ok(created) => {
            let (webhook, secret) = created.resource;
            let shown = secret.map(|secret| shown_once(&admin, "op-secret", secret));
            let link = (webhook.id.clone(), url_of(&webhook.id));
            let blocks = shown.into_iter().chain([Block::Links(vec![link])]).collect();
            admin.show(content(&admin, admin.text("op-webhook-added"), blocks))
        }
        Err(error) => list_page(&admin, &Rejected::of(error)?).await,
    }
}

/// Shows a webhook and its deliveries.
#[handler]
pub async fn show(admin: Admin, Path(id): Path<String>) -> Result<Response> {
    page(&admin, &id, vec![], &Rejected::default()).await
}

/// Changes, tests or deletes a webhook, or resends a delivery.
#[handler]
pub async fn submit(admin: Admin, Path(id): Path<String>) -> Result<Response> {
    match change(&admin, &id).await {
        Ok(Outcome::Done(done)) => admin.done(&url_of(&id), done),
        Ok(Outcome::Deleted) => admin.done(PATH, "webhook-deleted"),
        // Neither is stored: they are on the response to the form only.
        Ok(Outcome::Shown(block)) => page(&admin, &id, vec![block], &Rejected::default()).await,
        Err(error) => page(&admin, &id, vec![], &Rejected::of(error)?).await,
    }
}

enum Outcome {
    Done(&'static str),
    Deleted,
    Shown(Block),
}

async fn change(admin: &Admin, id: &str) -> Result<Outcome, Error> {
    let (app, actor) = (&admin.app, &admin.actor);
    let done = match admin.given("action").unwrap_or_default() {
        "settings" => {
            webhooks::update(app, id, &admin.precondition()?, settings(admin), actor).await?;
            "webhook-changed"
        }
        "disable" => {
            webhooks::disable(app, id, actor).await?;
            "webhook-disabled"
        }
        "enable" => {
            webhooks::enable(app, id, actor).await?;
            "webhook-enabled"
        }
        "resend" => {
            let event = admin.given("event").unwrap_or_default();
            webhooks::resend(app, id, event, actor).await?;
            "webhook-resent"
        }
        "test" => {
            let sent = webhooks::test(app, id, actor).await?;
            return Ok(Outcome::Shown(test_block(admin, sent)));
        }
        "rotate" => {
            let seconds = admin.given("overlapSeconds").unwrap_or("0").parse();
            let seconds = seconds
                .map_err(|_| Error::field("overlapSeconds", admin.text("op-overlap-wrong")))?;
            let overlap = Duration::from_secs(seconds);
            let (_, secret) = webhooks::rotate_secret(app, id, overlap, actor).await?;
            return Ok(Outcome::Shown(shown_once(admin, "op-secret", secret)));
        }
        "delete" => {
            admin.confirmed("confirm")?;
            webhooks::delete(app, id, &admin.precondition()?, actor).await?;
            return Ok(Outcome::Deleted);
        }
        _ => return Err(Error::field("action", "is not one of this page")),
    };
    Ok(Outcome::Done(done))
}

fn settings(admin: &Admin) -> WebhookSettings {
    let given = |name| admin.given(name).unwrap_or_default().to_owned();
    let types = given("eventTypes");
    let types = types.split([',', ' ', '\r', '\n']).filter(|name| !name.is_empty());
    WebhookSettings {
        url: given("url"),
        description: given("description"),
        event_types: types.map(str::to_owned).collect(),
    }
}

/// An id has no character that a URL escapes.
fn url_of(id: &str) -> String {
    format!("{PATH}/{id}")
}

fn test_block(admin: &Admin, sent: Sent) -> Block {
    let outcome = match sent.error {
        None => Cell::good(admin.text("op-test-accepted")),
        Some(error) => Cell::bad(admin.t.with("op-test-failed", &[("reason", error.as_str())])),
    };
    let status = Cell::of(sent.status.map(|status| status.to_string()));
    let facts = vec![(admin.text("op-test-result"), outcome), (admin.text("op-status"), status)];
    Block::Facts(Facts { heading: Some(admin.text("op-test")), facts })
}

fn content(admin: &Admin, title: String, blocks: Vec<Block>) -> Content {
    let mut above = events::above(admin);
    above.push((admin.text("op-webhooks"), PATH.to_owned()));
    Content { section: AdminSection::Events, title, above, blocks }
}

fn state(admin: &Admin, webhook: &Webhook) -> Cell {
    match (webhook.disabled_for, webhook.disabled_at) {
        (Some(reason), _) => {
            Cell::bad(admin.t.with("op-webhook-disabled", &[("reason", reason.as_str())]))
        }
        (None, Some(_)) => Cell::bad(admin.text("admin-disabled")),
        (None, None) if webhook.failures > 0 => {
            let failures = webhook.failures.to_string();
            Cell::bad(admin.t.with("op-webhook-failing", &[("number", failures)]))
        }
        (None, None) => Cell::good(admin.text("admin-enabled")),
    }
}

async fn list_page(admin: &Admin, rejected: &Rejected) -> Result<Response> {
    let found = rows::page(&admin.app.db, "", MOST_WEBHOOKS).await.map_err(failed)?;
    let row = |webhook: &Webhook| {
        let types = &webhook.settings.event_types;
        vec![
            Cell::link(webhook.id.as_str(), url_of(&webhook.id)),
            Cell::Code(webhook.settings.url.clone()),
            Cell::of(Some(webhook.settings.description.clone()).filter(|text| !text.is_empty())),
            if types.is_empty() {
                Cell::Text(admin.text("op-every-type"))
            } else {
                Cell::Lines(types.clone())
            },
            state(admin, webhook),
        ]
    };
    let columns = ["op-webhook-id", "op-url", "op-description", "op-event-types", "admin-state"];
    let table = Table {
        heading: admin.text("op-webhooks"),
        columns: columns.map(|column| admin.text(column)).into(),
        rows: found.iter().map(row).collect(),
        empty: admin.text("op-none"),
        next: None,
    };
    let id = Field {
        name: "id",
        label: admin.text("op-webhook-id"),
        hint: Some(admin.text("op-webhook-id-hint")),
        value: admin.given("id").unwrap_or_default().to_owned(),
        ..Field::default()
    };
    let form = AdminForm {
        id: "add",
        heading: Some(admin.text("op-add-webhook")),
        action: PATH.to_owned(),
        hidden: vec![("action", "add".to_owned())],
        fields: [id].into_iter().chain(settings_fields(admin, &settings(admin))).collect(),
        submit: admin.text("op-add-webhook"),
        ..AdminForm::default()
    };
    let is_on = admin.app.config.webhooks.enabled;
    let about = if is_on {
        Block::Text(admin.text("op-webhooks-text"))
    } else {
        Block::Caution(admin.text("op-webhooks-off"))
    };
    let page = Content {
        section: AdminSection::Events,
        title: admin.text("op-webhooks"),
        above: events::above(admin),
        blocks: vec![about, Block::Table(table), Block::Form(form)],
    };
    admin.show_with(page, rejected)
}

fn settings_fields(admin: &Admin, shown: &WebhookSettings) -> [Field; 3] {
    let types: Vec<&str> = EVENT_TYPES.iter().map(|event| event.kind).collect();
    let hint = admin.t.with("op-event-types-hint", &[("types", types.join(", "))]).into_owned();
    [
        Field {
            name: "url",
            label: admin.text("op-url"),
            hint: Some(admin.text("op-url-hint")),
            value: shown.url.clone(),
            is_required: true,
            ..Field::default()
        },
        Field {
            name: "description",
            label: admin.text("op-description"),
            value: shown.description.clone(),
            ..Field::default()
        },
        Field {
            name: "eventTypes",
            label: admin.text("op-event-types"),
            hint: Some(hint),
            value: shown.event_types.join("\n"),
            input: Input::Lines,
            ..Field::default()
        },
    ]
}

async fn page(admin: &Admin, id: &str, first: Vec<Block>, rejected: &Rejected) -> Result<Response> {
    let webhook = webhooks::by_id(&admin.app, id).await.map_err(failed)?;
    let (list, deliveries) = deliveries_of(admin, id).await?;
    let time = |time: Option<Timestamp>| Cell::of(time.map(Admin::minute));
    let is_waiting = webhook.retry_at > admin.app.clock.now();
    let facts = vec![
        (admin.text("admin-state"), state(admin, &webhook)),
        (admin.text("op-url"), Cell::Code(webhook.settings.url.clone())),
        (admin.text("op-disabled-at"), time(webhook.disabled_at)),
        (admin.text("op-failing-since"), time(webhook.failing_since)),
        (admin.text("op-retry"), time(is_waiting.then_some(webhook.retry_at))),
        (admin.text("op-old-secret"), time(webhook.old_secret_expires_at)),
        (admin.text("admin-created"), time(Some(webhook.created_at))),
        (admin.text("op-updated"), time(Some(webhook.updated_at))),
    ];
    let facts = Block::Facts(Facts { heading: None, facts });
    let mut blocks = first;
    blocks.push(facts);
    blocks.extend(forms(admin, &webhook, rejected));
    blocks.extend([list.form(), deliveries]);
    let rejected = if rejected.status.is_some() { rejected } else { &list.rejected };
    admin.show_with(content(admin, webhook.id, blocks), rejected)
}

/// What can be done with a webhook.
fn forms(admin: &Admin, webhook: &Webhook, rejected: &Rejected) -> Vec<Block> {
    let form = |id: &'static str, action: &str| AdminForm {
        id,
        action: url_of(&webhook.id),
        hidden: change_of(action, webhook.updated_at),
        ..AdminForm::default()
    };
    // What was typed stays on a form that was refused, unless the webhook has changed meanwhile.
    let is_stale = rejected.status == Some(StatusCode::PRECONDITION_FAILED);
    let is_edited = admin.given("action") == Some("settings") && !is_stale;
    let shown = if is_edited { settings(admin) } else { webhook.settings.clone() };
    let test = AdminForm {
        heading: Some(admin.text("op-test")),
        text: Some(admin.text("op-test-text")),
        submit: admin.text("op-test-send"),
        ..form("test", "test")
    };
    let is_enabled = webhook.disabled_at.is_none();
    let (disable, enable) = (("op-disable", "op-disable-text"), ("op-enable", "op-enable-text"));
    let switch = switch(admin, is_enabled, disable, enable);
    let edit = AdminForm {
        heading: Some(admin.text("op-settings")),
        fields: settings_fields(admin, &shown).into(),
        submit: admin.text("admin-save"),
        ..form("settings", "settings")
    };
    let rotate = AdminForm {
        heading: Some(admin.text("op-rotate-secret")),
        text: Some(admin.text("op-rotate-secret-text")),
        fields: vec![Field {
            name: "overlapSeconds",
            label: admin.text("op-overlap"),
            hint: Some(admin.text("op-overlap-hint")),
            value: admin.given("overlapSeconds").unwrap_or("0").to_owned(),
            ..Field::default()
        }],
        submit: admin.text("op-rotate-secret"),
        ..form("rotate", "rotate")
    };
    let delete = AdminForm {
        heading: Some(admin.text("op-delete-webhook")),
        fields: vec![confirmation(admin, "confirm", "op-delete-webhook-confirm")],
        submit: admin.text("op-delete-webhook"),
        is_dangerous: true,
        ..form("delete", "delete")
    };
    [test, switch, edit, rotate, delete].into_iter().map(Block::Form).collect()
}

async fn deliveries_of<'a>(admin: &'a Admin, id: &str) -> Result<(Listing<'a>, Block)> {
    let mut list = Listing::of(admin, url_of(id));
    let filter = DeliveryFilter {
        event_id: list.text("event_id", "op-event-id"),
        state: list.choice("state", "admin-state", &STATES).and_then(DeliveryState::parse),
        event_type: list.text("type", "op-event-type"),
        since: list.time("since", "op-from"),
    };
    let found = deliveries::page(&admin.app.db, id, &filter, list.before(), list.rows());
    let (found, next) = list.read(found, |delivery| delivery.number.to_string()).await?;
    let row = |delivery: &Delivery| {
        let (state, tone) = match delivery.state {
            DeliveryState::Pending => ("op-delivery-pending", Tone::Neutral),
            DeliveryState::Delivered => ("op-delivery-delivered", Tone::Good),
            DeliveryState::Abandoned => ("op-delivery-abandoned", Tone::Bad),
        };
        let is_pending = delivery.state == DeliveryState::Pending;
        let answer = [delivery.status.map(|status| status.to_string()), delivery.error.clone()];
        vec![
            Cell::Text(Admin::minute(delivery.created_at)),
            Cell::Code(delivery.event_type.clone()),
            Cell::Status(admin.text(state), tone),
            Cell::Text(delivery.attempts.to_string()),
            texts(answer),
            Cell::of(is_pending.then(|| Admin::minute(delivery.next_attempt_at))),
            Cell::of(delivery.finished_at.map(Admin::minute)),
            Cell::Code(delivery.event_id.clone()),
            Cell::Button {
                action: url_of(id),
                hidden: vec![("action", "resend".to_owned()), ("event", delivery.event_id.clone())],
                label: admin.text("op-resend"),
                subject: delivery.event_id.clone(),
            },
        ]
    };
    let columns = [
        "admin-created",
        "op-event-type",
        "admin-state",
        "op-attempts",
        "op-answer",
        "op-next-attempt",
        "op-finished",
        "op-event-id",
        "op-change",
    ];
    let table = Table {
        heading: admin.text("op-deliveries"),
        columns: columns.map(|column| admin.text(column)).into(),
        rows: found.iter().map(row).collect(),
        empty: admin.text("op-none"),
        next,
    };
    Ok((list, Block::Table(table)))
}

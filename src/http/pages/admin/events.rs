//! `/admin/events`: the outbox.

use poem::{Response, Result, handler};
use serde_json::Value;

use super::{
    Admin, Content,
    listing::{Listing, Names, details, failed},
    mails, webhooks,
};
use crate::{
    http::views::{AdminSection, Block, Cell, Facts, Table, Tone},
    storage::relay::{self, EventFilter, OutboxRow},
};

const PATH: &str = "/admin/events";
/// The newest events, among which those that Kafka refused are counted.
const COUNTED: i64 = 10_000;

/// The pages above those of this section.
pub(super) fn above(admin: &Admin) -> Vec<(String, String)> {
    vec![(admin.text("admin-events"), PATH.to_owned())]
}

/// Lists events, the newest first.
#[handler]
pub async fn show(admin: Admin) -> Result<Response> {
    let app = &admin.app;
    let mut list = Listing::of(&admin, PATH);
    let filter = EventFilter {
        kind: list.text("type", "op-event-type"),
        subject: list.text("subject", "op-subject"),
        from: list.time("from", "op-from"),
        to: list.time("to", "op-to"),
        refused: list.ticked("refused", "op-refused-only"),
        ..EventFilter::default()
    };
    let found = relay::page(&app.db, &filter, list.before(), list.rows());
    let (events, next) = list.read(found, |event| event.number.to_string()).await?;
    let names =
        Names::of(&admin, events.iter().map(|event| event.subject.as_str()).collect()).await?;
    let row = |event: &OutboxRow| {
        let published = match (&event.refused, event.published_at) {
            (Some(reason), _) => {
                Cell::bad(admin.t.with("op-refused", &[("reason", reason.as_str())]))
            }
            (None, Some(at)) => Cell::Text(Admin::minute(at)),
            (None, None) if app.config.publishes_events() => {
                Cell::Status(admin.text("op-waiting"), Tone::Neutral)
            }
            (None, None) => Cell::Nothing,
        };
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        vec![
            Cell::Text(Admin::minute(event.created_at)),
            Cell::Code(event.kind.clone()),
            names.cell(&event.subject),
            published,
            details(&data),
            event.correlation_id.clone().map_or(Cell::Nothing, Cell::Code),
            Cell::Code(event.id.clone()),
        ]
    };
    let columns = [
        "op-time",
        "op-event-type",
        "op-subject",
        "op-published",
        "op-detail",
        "op-correlation-id",
        "op-event-id",
    ];
    let table = Table {
        heading: admin.text("admin-events"),
        columns: columns.map(|column| admin.text(column)).into(),
        rows: events.iter().map(row).collect(),
        empty: admin.text("op-none"),
        next,
    };
    let links = vec![
        (admin.text("op-webhooks"), webhooks::PATH.to_owned()),
        (admin.text("op-mails"), mails::PATH.to_owned()),
    ];
    let facts = Facts { heading: None, facts: lag(&admin).await?.0 };
    let content = Content {
        section: AdminSection::Events,
        title: admin.text("admin-events"),
        above: vec![],
        blocks: vec![Block::Links(links), Block::Facts(facts), list.form(), Block::Table(table)],
    };
    admin.show_with(content, &list.rejected)
}

/// How far Kafka is behind, and how many of the newest events it refused for good.
pub(super) async fn lag(admin: &Admin) -> Result<(Vec<(String, Cell)>, i64)> {
    let app = &admin.app;
    if !app.config.publishes_events() {
        let off = Cell::Text(admin.text("op-kafka-off"));
        return Ok((vec![(admin.text("op-kafka"), off)], 0));
    }
    let backlog = relay::backlog(&app.db).await.map_err(failed)?;
    let waiting = match backlog.oldest {
        None => Cell::good(admin.text("op-kafka-none")),
        Some(oldest) => {
            let count = backlog.count.to_string();
            let values = [("number", count), ("time", Admin::minute(oldest))];
            Cell::Text(admin.t.with("op-kafka-waiting", &values).into_owned())
        }
    };
    let count = relay::count_refused(&app.db, COUNTED).await.map_err(failed)?;
    let refused = match count {
        0 => Cell::good("0"),
        some => Cell::link(some.to_string(), format!("{PATH}?refused=1")),
    };
    let facts = [("op-kafka", waiting), ("op-kafka-refused", refused)];
    Ok((facts.map(|(key, cell)| (admin.text(key), cell)).into(), count))
}

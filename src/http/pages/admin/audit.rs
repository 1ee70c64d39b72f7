//! `/admin/audit`: the audit log.

use poem::{Response, Result, handler};

use super::{
    Admin, Content,
    listing::{Listing, Names, details, request},
};
use crate::{
    http::views::{AdminSection, Block, Cell, Table},
    storage::audit::{self, AuditFilter},
};

/// Lists entries, the newest first.
#[handler]
pub async fn show(admin: Admin) -> Result<Response> {
    let mut list = Listing::of(&admin, AdminSection::Audit.path());
    let filter = AuditFilter {
        actor: list.text("actor", "op-actor"),
        subject: list.text("subject", "op-subject"),
        action: list.text("action", "op-action"),
        from: list.time("from", "op-from"),
        to: list.time("to", "op-to"),
        address: list.text("address", "op-address"),
        request_id: list.text("request_id", "op-request"),
    };
    let rows = audit::page(&admin.app.db, &filter, list.before(), list.rows());
    let (entries, next) = list.read(rows, |entry| entry.number.to_string()).await?;
    let ids =
        entries.iter().flat_map(|entry| [Some(entry.actor.as_str()), entry.subject.as_deref()]);
    let names = Names::of(&admin, ids.flatten().collect()).await?;
    let row = |entry: &audit::AuditEntry| {
        vec![
            Cell::Text(Admin::minute(entry.at)),
            Cell::Code(entry.action.clone()),
            names.cell(&entry.actor),
            entry.subject.as_deref().map_or(Cell::Nothing, |subject| names.cell(subject)),
            Cell::of(entry.address.clone()),
            details(&entry.detail),
            request(entry.request_id.as_deref()),
        ]
    };
    let table = Table {
        heading: admin.text("op-entries"),
        columns: [
            "op-time",
            "op-action",
            "op-actor",
            "op-subject",
            "op-address",
            "op-detail",
            "op-request",
        ]
        .map(|column| admin.text(column))
        .into(),
        rows: entries.iter().map(row).collect(),
        empty: admin.text("op-none"),
        next,
    };
    let content = Content {
        section: AdminSection::Audit,
        title: admin.text("admin-audit"),
        above: vec![],
        blocks: vec![Block::Text(admin.text("op-audit-text")), list.form(), Block::Table(table)],
    };
    admin.show_with(content, &list.rejected)
}

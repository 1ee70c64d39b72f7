//! `/admin/events/mails`: the state of mails, without their recipients and contents: the queue
//! stores both encrypted, and deletes them once a mail was sent.

use poem::{Response, Result, handler};

use super::{
    Admin, Content, events,
    listing::{Listing, Names},
};
use crate::{
    http::views::{AdminSection, Block, Cell, Table, Tone},
    model::mail::MailState,
    storage::mails::{self, ListedMail},
};

pub(super) const PATH: &str = "/admin/events/mails";

const STATES: [(&str, &str); 3] =
    [("queued", "op-mail-queued"), ("sent", "op-mail-sent"), ("failed", "op-mail-failed")];

/// Lists the mails of the last seven days, the newest first.
#[handler]
pub async fn show(admin: Admin) -> Result<Response> {
    let mut list = Listing::of(&admin, PATH);
    let state = list.choice("state", "admin-state", &STATES).and_then(MailState::parse);
    let before = list.cursor().unwrap_or(crate::model::AFTER_EVERY_ID);
    let found = mails::page(&admin.app.db, state, before, list.rows());
    let (mails, next) = list.read(found, |mail| mail.id.clone()).await?;
    let users = mails.iter().filter_map(|mail| mail.user_id.as_deref());
    let names = Names::of(&admin, users.collect()).await?;
    let row = |mail: &ListedMail| {
        let (state, tone) = match mail.state {
            MailState::Queued => ("op-mail-queued", Tone::Neutral),
            MailState::Sent => ("op-mail-sent", Tone::Good),
            MailState::Failed => ("op-mail-failed", Tone::Bad),
            MailState::Suppressed => ("op-mail-suppressed", Tone::Neutral),
        };
        let is_queued = mail.state == MailState::Queued;
        vec![
            Cell::Text(Admin::minute(mail.created_at)),
            Cell::Code(mail.kind.clone()),
            mail.user_id.as_deref().map_or(Cell::Nothing, |id| names.cell(id)),
            Cell::Status(admin.text(state), tone),
            Cell::Text(mail.attempts.to_string()),
            Cell::of(mail.error.clone()),
            Cell::of(is_queued.then(|| Admin::minute(mail.next_attempt_at))),
            Cell::of(mail.finished_at.map(Admin::minute)),
            Cell::Code(mail.id.clone()),
        ]
    };
    let columns = [
        "admin-created",
        "admin-kind",
        "op-user",
        "admin-state",
        "op-attempts",
        "op-error",
        "op-next-attempt",
        "op-finished",
        "op-mail-id",
    ];
    let table = Table {
        heading: admin.text("op-mails"),
        columns: columns.map(|column| admin.text(column)).into(),
        rows: mails.iter().map(row).collect(),
        empty: admin.text("op-none"),
        next,
    };
    let is_on = admin.app.config.sends_mail();
    let about = if is_on { "op-mails-text" } else { "op-mails-off" };
    let content = Content {
        section: AdminSection::Events,
        title: admin.text("op-mails"),
        above: events::above(&admin),
        blocks: vec![Block::Text(admin.text(about)), list.form(), Block::Table(table)],
    };
    admin.show_with(content, &list.rejected)
}

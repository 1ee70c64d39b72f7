//! `/admin/sessions`: sessions of users at clients.

use poem::{Response, Result, handler};

use super::{
    Admin, Content,
    listing::{Listing, Names, client, done_with_filters, failed, texts},
    revocations,
};
use crate::{
    flows::{admin::users, sessions::end},
    http::views::{AdminSection, Block, Cell, Table},
    model::{created_at, session::SessionOverview},
    storage::{sessions as rows, sessions::SessionFilter},
};

pub(super) const PATH: &str = "/admin/sessions";

/// Lists sessions, the newest first.
#[handler]
pub async fn show(admin: Admin) -> Result<Response> {
    let (app, now) = (&admin.app, admin.app.clock.now());
    let mut list = Listing::of(&admin, PATH);
    let mut filter = SessionFilter {
        user_id: list.text("user", "op-user").map(Into::into),
        subject: list.text("subject", "op-external-subject"),
        client_id: list.text("client", "admin-client").map(Into::into),
        live: list
            .choice("live", "admin-state", &[("true", "op-live"), ("false", "op-not-live")])
            .map(|live| live == "true"),
    };
    // A user may be named as in the login; one who was deleted has only the id.
    if let Some(name) = filter.user_id.take_if(|name| created_at(name).is_none()) {
        match users::find(app, &name).await {
            Ok(user) => filter.user_id = Some(user.id),
            Err(error) => list.reject(error)?,
        }
    }
    let before = list.cursor().unwrap_or(crate::model::AFTER_EVERY_ID);
    let found = rows::page(&app.db, &filter, before, list.rows(), now);
    let (sessions, next) = list.read(found, |session| session.id.to_string()).await?;
    let users = sessions.iter().filter_map(|session| session.user_id.as_deref());
    let names = Names::of(&admin, users.collect()).await?;
    let row = |session: &SessionOverview| {
        let state = match session.revoked_at {
            _ if session.is_live(now) => Cell::good(admin.text("op-live")),
            Some(at) => {
                let reason = session.revocation_reason.clone().unwrap_or_default();
                Cell::Lines(vec![admin.text("op-session-revoked"), Admin::minute(at), reason])
            }
            None => Cell::Text(admin.text("op-session-expired")),
        };
        let button = Cell::Button {
            action: PATH.to_owned(),
            hidden: vec![
                ("action", "revoke".to_owned()),
                ("id", session.id.to_string()),
                ("filters", list.query()),
            ],
            label: admin.text("op-revoke-button"),
            subject: session.id.to_string(),
        };
        let from = [session.address.clone(), session.user_agent.clone()];
        vec![
            Cell::Code(session.id.to_string()),
            names.cell(session.user_id.as_deref().unwrap_or(&session.subject)),
            client(&session.client_id),
            Cell::Code(session.scope.to_string()),
            Cell::Text(Admin::minute(session.created_at)),
            Cell::Text(Admin::minute(session.rotated_at)),
            Cell::Text(Admin::minute(session.idle_expires_at.min(session.expires_at))),
            texts(from),
            state,
            if session.is_live(now) { button } else { Cell::Nothing },
        ]
    };
    let columns = [
        "op-session",
        "op-user",
        "admin-client",
        "admin-scope",
        "admin-created",
        "op-refreshed",
        "op-expires",
        "op-opened-from",
        "admin-state",
        "op-change",
    ];
    let table = Table {
        heading: admin.text("op-sessions"),
        columns: columns.map(|column| admin.text(column)).into(),
        rows: sessions.iter().map(row).collect(),
        empty: admin.text("op-none"),
        next,
    };
    let content = Content {
        section: AdminSection::Revocations,
        title: admin.text("op-sessions"),
        above: revocations::above(&admin),
        blocks: vec![Block::Text(admin.text("op-sessions-text")), list.form(), Block::Table(table)],
    };
    admin.show_with(content, &list.rejected)
}

/// Revokes a session.
#[handler]
pub async fn submit(admin: Admin) -> Result<Response> {
    let id = admin.given("id").unwrap_or_default();
    end::close(&admin.app, &id.into(), &admin.actor).await.map_err(failed)?;
    done_with_filters(&admin, PATH, "session-at-client-revoked")
}

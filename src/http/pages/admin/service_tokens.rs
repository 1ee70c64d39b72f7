//! `/admin/service-tokens`: stored tokens of customer services, and connected accounts.

use poem::{Response, Result, handler};

use super::{
    Admin, Content,
    listing::{Listing, Names, done_with_filters, failed},
    revocations,
};
use crate::{
    flows::services,
    http::views::{AdminSection, Block, Cell, Table},
    ids::UserId,
    model::service_token::ServiceToken,
    storage::service_tokens as rows,
};

pub(super) const PATH: &str = "/admin/service-tokens";

/// Lists what is stored of each token, by service and user.
#[handler]
pub async fn show(admin: Admin) -> Result<Response> {
    let (app, now) = (&admin.app, admin.app.clock.now());
    let mut list = Listing::of(&admin, PATH);
    let user = list.text("user", "op-user-id").map(UserId::from);
    let after = list.cursor().and_then(|cursor| cursor.split_once('/')).unwrap_or_default();
    let found = rows::page(&app.db, user.as_ref(), after, list.rows(), now);
    let key = |token: &ServiceToken| format!("{}/{}", token.service, token.subject);
    let (tokens, next) = list.read(found, key).await?;
    let users = tokens.iter().filter_map(|token| token.user_id.as_deref());
    let names = Names::of(&admin, users.collect()).await?;
    let row = |token: &ServiceToken| {
        let is_own = token.subject.is_empty();
        let failures = match token.failure {
            Some(kind) => Cell::bad(format!("{} ({})", token.failures, kind.as_str())),
            None => Cell::Nothing,
        };
        let expires_at = token.expires_at.filter(|at| at.micros() > 0);
        vec![
            Cell::Text(token.service.clone()),
            if is_own {
                Cell::Text(admin.text("op-service-own"))
            } else {
                names.cell(token.user_id.as_deref().unwrap_or(&token.subject))
            },
            Cell::of(token.browser_session_id.is_some().then(|| admin.text("admin-yes"))),
            Cell::of(token.obtained_at.map(Admin::minute)),
            Cell::of(expires_at.map(Admin::minute)),
            failures,
            Cell::of(token.retry_at.filter(|at| *at > now).map(Admin::minute)),
            Cell::Button {
                action: PATH.to_owned(),
                hidden: vec![
                    ("action", "remove".to_owned()),
                    ("service", token.service.clone()),
                    ("subject", token.subject.clone()),
                    ("filters", list.query()),
                ],
                label: admin.text("op-remove"),
                subject: format!("{} {}", token.service, token.subject),
            },
        ]
    };
    let columns = [
        "op-service",
        "op-user",
        "op-connected",
        "op-obtained",
        "op-expires",
        "op-failures",
        "op-retry",
        "op-change",
    ];
    let table = Table {
        heading: admin.text("op-service-tokens"),
        columns: columns.map(|column| admin.text(column)).into(),
        rows: tokens.iter().map(row).collect(),
        empty: admin.text("op-none"),
        next,
    };
    let content = Content {
        section: AdminSection::Revocations,
        title: admin.text("op-service-tokens"),
        above: revocations::above(&admin),
        blocks: vec![
            Block::Text(admin.text("op-service-tokens-text")),
            list.form(),
            Block::Table(table),
        ],
    };
    admin.show_with(content, &list.rejected)
}

/// Removes a token.
#[handler]
pub async fn submit(admin: Admin) -> Result<Response> {
    let service = admin.given("service").unwrap_or_default();
    let subject = admin.given("subject").unwrap_or_default();
    services::remove(&admin.app, service, subject, &admin.actor).await.map_err(failed)?;
    done_with_filters(&admin, PATH, "service-token-removed")
}

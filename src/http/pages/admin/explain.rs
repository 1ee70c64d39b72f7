//! `/admin/explain`: why a request was denied.

use poem::{Response, Result, handler, http::StatusCode};

use super::{
    Admin, Content, Rejected,
    listing::{Names, failed},
};
use crate::{
    error::Error,
    http::views::{AdminForm, AdminSection, Block, Cell, Facts, Field, FormMethod},
    model::denied_request::DeniedRequest,
};

pub(super) const PATH: &str = "/admin/explain";

/// The form that takes the id of a request.
pub(super) fn form(admin: &Admin, value: &str) -> Block {
    Block::Form(AdminForm {
        id: "explain",
        heading: Some(admin.text("op-explain-request")),
        method: FormMethod::Get,
        action: PATH.to_owned(),
        fields: vec![Field {
            name: "id",
            label: admin.text("op-request-id"),
            hint: Some(admin.text("op-request-id-hint")),
            value: value.to_owned(),
            is_required: true,
            ..Field::default()
        }],
        submit: admin.text("op-explain"),
        ..AdminForm::default()
    })
}

/// Shows the rule that denied a request, and what the rule checked.
#[handler]
pub async fn show(admin: Admin) -> Result<Response> {
    let id = admin.given("id").unwrap_or_default();
    let mut blocks = vec![form(&admin, id)];
    let mut rejected = Rejected::default();
    if !id.is_empty() {
        match admin.app.denied_requests.explain(id).await {
            Ok(denied) => blocks.extend(explanation(&admin, denied).await?),
            Err(Error::NotFound(_)) => {
                rejected.status = Some(StatusCode::NOT_FOUND);
                rejected.fields.push(("id".to_owned(), admin.text("op-explain-unknown")));
                blocks.push(Block::Text(kept(&admin)));
                blocks.push(audit_link(&admin, id));
            }
            Err(error) => return Err(failed(error)),
        }
    }
    let content = Content {
        section: AdminSection::Audit,
        title: admin.text("op-explain-title"),
        above: vec![(admin.text("admin-audit"), AdminSection::Audit.path().to_owned())],
        blocks,
    };
    admin.show_with(content, &rejected)
}

/// How long denied requests are kept, and which are not.
fn kept(admin: &Admin) -> String {
    let settings = &admin.app.config.explain;
    let (hours, most) = (settings.retention.as_secs() / 3_600, settings.max_rows);
    let values = [("hours", hours.to_string()), ("most", most.to_string())];
    admin.t.with("op-explain-kept", &values).into_owned()
}

fn audit_link(admin: &Admin, id: &str) -> Block {
    let query =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("request_id", id).finish();
    let link = format!("{}?{query}", AdminSection::Audit.path());
    Block::Links(vec![(admin.text("op-explain-audit"), link)])
}

async fn explanation(admin: &Admin, denied: DeniedRequest) -> Result<Vec<Block>> {
    // A value may be the id of a user.
    let names = Names::of(admin, denied.diagnostics.values().map(String::as_str).collect()).await?;
    let named = |key: &str, cell: Cell| (admin.text(key), cell);
    let facts = vec![
        named("op-reason", Cell::bad(denied.reason)),
        named("op-time", Cell::Text(denied.at.rfc3339())),
        named("op-call", Cell::Code(denied.call)),
        named("op-status", Cell::Text(denied.status)),
        named("op-error-code", Cell::Code(denied.code)),
        named("op-address", Cell::of(denied.address)),
        named("op-correlation-id", denied.correlation_id.map_or(Cell::Nothing, Cell::Code)),
    ];
    let seen: Vec<_> =
        denied.diagnostics.iter().map(|(name, value)| (name.clone(), names.cell(value))).collect();
    let mut blocks =
        vec![Block::Facts(Facts { heading: Some(admin.text("op-explain-result")), facts })];
    if !seen.is_empty() {
        let heading = Some(admin.text("op-explain-seen"));
        blocks.push(Block::Facts(Facts { heading, facts: seen }));
    }
    blocks.push(audit_link(admin, &denied.request_id));
    Ok(blocks)
}

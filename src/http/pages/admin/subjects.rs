//! `/admin/subjects`: users whom back ends keep themselves, by the `sub` of their tokens. They have
//! no account here, only sessions and module grants.

use poem::{Response, Result, handler, http::StatusCode};
use url::form_urlencoded;

use super::{
    Admin, Content, Rejected,
    listing::{Listing, Names, failed, moment},
    revocations, see_other, sessions,
    shared::confirmation,
};
use crate::{
    clock::Timestamp,
    error::Error,
    flows::{admin::modules, sessions::end, tokens::subject::is_external},
    http::views::{AdminForm, AdminSection, Block, Cell, Field, FormMethod, Input, Table},
    model::module::ModuleGrant,
    storage::modules as rows,
};

pub(super) const PATH: &str = "/admin/subjects";

/// Shows what a user of a back end has here.
#[handler]
pub async fn show(admin: Admin) -> Result<Response> {
    page(&admin, Rejected::default()).await
}

/// Grants or withdraws a module, or revokes every session.
#[handler]
pub async fn submit(admin: Admin) -> Result<Response> {
    match change(&admin).await {
        Ok(done) => {
            let subject = admin.given("subject").unwrap_or_default();
            see_other(&format!("{}&done={done}", url_of(subject)))
        }
        Err(error) => page(&admin, Rejected::of(error)?).await,
    }
}

fn url_of(subject: &str) -> String {
    let query =
        form_urlencoded::Serializer::new(String::new()).append_pair("subject", subject).finish();
    format!("{PATH}?{query}")
}

async fn change(admin: &Admin) -> Result<&'static str, Error> {
    let app = &admin.app;
    let subject = admin.given("subject").filter(|subject| is_external(subject));
    let subject = subject.ok_or_else(|| Error::field("subject", admin.text("op-subject-wrong")))?;
    let module = admin.given("module").unwrap_or_default();
    match admin.given("action") {
        Some("grant") => {
            let until = |text| {
                moment(text).ok_or_else(|| Error::field("validUntil", admin.text("op-time-wrong")))
            };
            let until = admin.given("validUntil").map(until).transpose()?;
            modules::grant(app, subject, module, until, &admin.actor).await?;
            Ok("subject-granted")
        }
        Some("withdraw") => {
            modules::withdraw(app, subject, module, &admin.actor).await?;
            Ok("subject-withdrawn")
        }
        Some("log-out") => {
            admin.confirmed("confirm")?;
            end::end_all_of_external(app, subject, &admin.actor).await?;
            Ok("subject-logged-out")
        }
        _ => Err(Error::field("action", "must be grant, withdraw or log-out")),
    }
}

async fn page(admin: &Admin, mut rejected: Rejected) -> Result<Response> {
    let given = admin.given("subject").unwrap_or_default();
    let mut blocks = vec![
        Block::Text(admin.text("op-subjects-text")),
        Block::Form(AdminForm {
            id: "subject",
            method: FormMethod::Get,
            action: PATH.to_owned(),
            fields: vec![Field {
                name: "subject",
                label: admin.text("op-external-subject"),
                hint: Some(admin.text("op-external-subject-hint")),
                value: given.to_owned(),
                is_required: true,
                ..Field::default()
            }],
            submit: admin.text("op-show"),
            ..AdminForm::default()
        }),
    ];
    if is_external(given) {
        blocks.extend(details(admin, given).await?);
    } else if !given.is_empty() && rejected.status.is_none() {
        rejected.status = Some(StatusCode::BAD_REQUEST);
        rejected.fields.push(("subject".to_owned(), admin.text("op-subject-wrong")));
    }
    let content = Content {
        section: AdminSection::Revocations,
        title: admin.text("op-subjects"),
        above: revocations::above(admin),
        blocks,
    };
    admin.show_with(content, &rejected)
}

async fn details(admin: &Admin, subject: &str) -> Result<Vec<Block>> {
    let app = &admin.app;
    let now = app.clock.now();
    let current = modules::at(app, subject, now).await.map_err(failed)?;
    let mut list = Listing::of(admin, PATH);
    list.keep_hidden("subject", subject);
    let before = list.cursor().and_then(|cursor| cursor.split_once(' '));
    let before = before.and_then(|(at, id)| Some((Timestamp(at.parse().ok()?), id)));
    let before = before.unwrap_or((Timestamp(i64::MAX), ""));
    let found = rows::history(&app.db, subject, before, list.rows());
    let key = |grant: &ModuleGrant| format!("{} {}", grant.valid_from.micros(), grant.id);
    let (history, next) = list.read(found, key).await?;
    let actors =
        history.iter().flat_map(|grant| [Some(&grant.granted_by), grant.ended_by.as_ref()]);
    let names = Names::of(admin, actors.flatten().map(String::as_str).collect()).await?;
    let column = |key: &&str| admin.text(key);
    let until = |grant: &ModuleGrant| Cell::of(grant.valid_until.map(Admin::minute));

    let withdraw = |grant: &ModuleGrant| Cell::Button {
        action: PATH.to_owned(),
        hidden: vec![
            ("action", "withdraw".to_owned()),
            ("subject", subject.to_owned()),
            ("module", grant.module_id.clone()),
        ],
        label: admin.text("op-withdraw"),
        subject: grant.module_id.clone(),
    };
    let granted = |grant: &ModuleGrant| {
        let since = Cell::Text(Admin::minute(grant.valid_from));
        vec![Cell::Code(grant.module_id.clone()), since, until(grant), withdraw(grant)]
    };
    let now_granted = Table {
        heading: admin.text("op-grants"),
        columns: ["admin-module", "op-from", "op-to", "op-change"].iter().map(column).collect(),
        rows: current.iter().map(granted).collect(),
        empty: admin.text("op-none"),
        next: None,
    };
    let past = |grant: &ModuleGrant| {
        vec![
            Cell::Code(grant.module_id.clone()),
            Cell::Text(Admin::minute(grant.valid_from)),
            until(grant),
            names.cell(&grant.granted_by),
            grant.ended_by.as_deref().map_or(Cell::Nothing, |by| names.cell(by)),
        ]
    };
    let history = Table {
        heading: admin.text("op-grant-history"),
        columns: ["admin-module", "op-from", "op-to", "admin-granted-by", "admin-ended-by"]
            .iter()
            .map(column)
            .collect(),
        rows: history.iter().map(past).collect(),
        empty: admin.text("op-none"),
        next,
    };

    let catalogue = app.directory.catalogue(&app.db).await.map_err(failed)?;
    let mut modules: Vec<_> = catalogue.modules.values().map(|module| module.id.clone()).collect();
    modules.sort();
    let hidden =
        |action: &str| vec![("action", action.to_owned()), ("subject", subject.to_owned())];
    let grant = AdminForm {
        id: "grant",
        heading: Some(admin.text("op-grant")),
        action: PATH.to_owned(),
        hidden: hidden("grant"),
        fields: vec![
            Field {
                name: "module",
                label: admin.text("admin-module"),
                value: admin.given("module").unwrap_or_default().to_owned(),
                input: Input::Choice(modules.into_iter().map(|id| (id.clone(), id)).collect()),
                ..Field::default()
            },
            Field {
                name: "validUntil",
                label: admin.text("op-to"),
                hint: Some(admin.text("op-until-hint")),
                value: admin.given("validUntil").unwrap_or_default().to_owned(),
                ..Field::default()
            },
        ],
        submit: admin.text("op-grant"),
        ..AdminForm::default()
    };
    let log_out = AdminForm {
        id: "log-out",
        heading: Some(admin.text("op-log-out-subject")),
        text: Some(admin.text("op-log-out-subject-text")),
        action: PATH.to_owned(),
        hidden: hidden("log-out"),
        fields: vec![confirmation(admin, "confirm", "op-log-out-subject-confirm")],
        submit: admin.text("op-log-out-subject"),
        is_dangerous: true,
        ..AdminForm::default()
    };
    let query =
        form_urlencoded::Serializer::new(String::new()).append_pair("subject", subject).finish();
    let sessions = format!("{}?{query}", sessions::PATH);
    Ok(vec![
        Block::Links(vec![(admin.text("op-sessions"), sessions)]),
        Block::Table(now_granted),
        Block::Form(grant),
        Block::Form(log_out),
        Block::Table(history),
    ])
}

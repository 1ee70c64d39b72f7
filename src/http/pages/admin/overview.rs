//! `/admin`: the state of the server, and what is wrong with it.

use std::sync::atomic::Ordering;

use poem::{Response, Result, handler};

use super::{Admin, Content, events, explain, keys, listing::failed, mails, webhooks};
use crate::{
    error::Error,
    flows::readiness,
    http::views::{AdminForm, AdminSection, Block, Cell, Facts, Field, FormMethod},
    model::{
        mail::MailState,
        webhook::{DisabledFor, MOST_WEBHOOKS},
    },
    storage::{mails as mail_rows, webhooks as webhook_rows},
};

/// What is counted up to this number only.
const MOST: usize = 1_000;

/// Shows whether the server can do its work, and what waits or has failed.
#[handler]
pub async fn show(admin: Admin) -> Result<Response> {
    let mut wrong = vec![];
    let server = server(&admin, &mut wrong).await;
    let queues = queues(&admin, &mut wrong).await?;
    if wrong.is_empty() {
        wrong.push(Block::Text(admin.text("op-nothing-wrong")));
    }
    let facts = [("admin-server", server), ("op-queues", queues)];
    let facts = facts
        .map(|(heading, facts)| Block::Facts(Facts { heading: Some(admin.text(heading)), facts }));
    let find = AdminForm {
        id: "find",
        heading: Some(admin.text("op-find-user")),
        method: FormMethod::Get,
        action: AdminSection::Users.path().to_owned(),
        fields: vec![Field {
            name: "login",
            label: admin.text("op-login"),
            is_required: true,
            ..Field::default()
        }],
        submit: admin.text("op-find"),
        ..AdminForm::default()
    };
    let forms = [explain::form(&admin, ""), Block::Form(find)];
    admin.show(Content {
        section: AdminSection::Overview,
        title: admin.text("admin-title"),
        above: vec![],
        blocks: wrong.into_iter().chain(facts).chain(forms).collect(),
    })
}

async fn server(admin: &Admin, wrong: &mut Vec<Block>) -> Vec<(String, Cell)> {
    let app = &admin.app;
    let ready = match readiness::check(app).await {
        Ok(()) => Cell::good(admin.text("admin-ready-yes")),
        Err(error) => {
            let reason = match error {
                Error::Unavailable(cause) => cause.to_string(),
                other => other.to_string(),
            };
            let text = admin.t.with("admin-ready-no", &[("reason", reason.as_str())]);
            wrong.push(Block::Caution(text.clone().into_owned()));
            Cell::bad(text)
        }
    };
    let redis = match &app.revocations.replica {
        None => Cell::Text(admin.text("op-redis-off")),
        Some(replica) if replica.is_trusted() => Cell::good(admin.text("op-redis-on")),
        Some(_) => {
            wrong.push(Block::Caution(admin.text("op-wrong-redis")));
            Cell::bad(admin.text("op-redis-down"))
        }
    };
    let up = app.clock.now().distance(app.started_at).as_secs();
    let (hours, minutes) = (up / 3_600, up / 60 % 60);
    let values = [
        ("time", Admin::minute(app.started_at)),
        ("hours", hours.to_string()),
        ("minutes", minutes.to_string()),
    ];
    vec![
        (admin.text("admin-ready"), ready),
        (admin.text("admin-version"), Cell::Text(env!("CARGO_PKG_VERSION").to_owned())),
        (admin.text("admin-issuer"), Cell::Code(app.config.server.issuer.clone())),
        (admin.text("op-started"), Cell::Text(admin.t.with("op-up", &values).into_owned())),
        (admin.text("op-database"), Cell::Text(app.db.kind().to_owned())),
        (admin.text("op-redis"), redis),
        (admin.text("op-next-rotation"), Cell::Lines(keys::rotations(admin))),
    ]
}

async fn queues(admin: &Admin, wrong: &mut Vec<Block>) -> Result<Vec<(String, Cell)>> {
    let app = &admin.app;
    let (mut facts, refused) = events::lag(admin).await?;
    if app.readiness.events_delayed.load(Ordering::Relaxed) {
        wrong.push(Block::Caution(admin.text("op-wrong-events")));
    }
    if refused > 0 {
        wrong.push(Block::Caution(admin.text("op-wrong-refused")));
    }
    let all = webhook_rows::page(&app.db, "", MOST_WEBHOOKS).await.map_err(failed)?;
    let failing = all.iter().filter(|one| one.disabled_at.is_none() && one.failures > 0).count();
    let given_up = [Some(DisabledFor::Gone), Some(DisabledFor::Failing)];
    let given_up = all.iter().filter(|one| given_up.contains(&one.disabled_for)).count();
    let values = [
        ("all", all.len().to_string()),
        ("failing", failing.to_string()),
        ("disabled", all.iter().filter(|one| one.disabled_at.is_some()).count().to_string()),
    ];
    facts.push((
        admin.text("op-webhooks"),
        Cell::link(admin.t.with("op-webhooks-state", &values), webhooks::PATH),
    ));
    if given_up > 0 {
        wrong.push(Block::Caution(admin.text("op-wrong-webhooks")));
    }
    if app.config.sends_mail() {
        let waiting = mail_rows::count_queued(&app.db).await.map_err(failed)?;
        let most = i64::try_from(MOST + 1).unwrap_or(i64::MAX);
        let found =
            mail_rows::page(&app.db, Some(MailState::Failed), crate::model::AFTER_EVERY_ID, most)
                .await;
        let failed = found.map_err(failed)?.len();
        let failed_text = if failed > MOST { format!("{MOST}+") } else { failed.to_string() };
        let values = [("waiting", waiting.to_string()), ("failed", failed_text)];
        let state = admin.t.with("op-mails-state", &values);
        facts.push((admin.text("op-mails"), Cell::link(state, mails::PATH)));
        if failed > 0 {
            wrong.push(Block::Caution(admin.text("op-wrong-mails")));
        }
    }
    let count = Cell::Text(app.revocations.len().to_string());
    facts.push((admin.text("op-revocations-count"), count));
    Ok(facts)
}

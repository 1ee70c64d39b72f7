//! `/admin/issuers`: other servers whose JWTs are accepted.

use poem::{Response, Result, handler, web::Path};
use serde_json::Value;

use super::{
    Admin, Content, Rejected,
    shared::{
        READ, Values, action, asked, change_of, cut, deletion, is_ticked, lines, no_such_action,
        path_of, scope, switch,
    },
};
use crate::{
    api_error::ApiError,
    error::Error,
    flows::admin::{issuers, users},
    http::views::{AdminForm, AdminSection, Block, Cell, Facts, Field, Input, Table},
    model::trusted_issuer::{IssuerSettings, IssuerUse, LinkedSubject, TrustedIssuer},
    storage::trusted_issuers as rows,
};

pub(super) const PATH: &str = "/admin/issuers";

/// What JWTs are accepted as: the field of each, and its label.
const USES: [(IssuerUse, &str, &str); 3] = [
    (IssuerUse::SubjectToken, "subject_token", "admin-issuer-subject-token"),
    (IssuerUse::ActorToken, "actor_token", "admin-issuer-actor-token"),
    (IssuerUse::IdJag, "id_jag", "admin-issuer-id-jag"),
];

/// Lists issuers in order of their ids, with the form for a new one.
#[handler]
pub async fn list(admin: Admin) -> Result<Response> {
    all(&admin, &Rejected::default()).await
}

/// Adds an issuer.
#[handler]
pub async fn create(admin: Admin) -> Result<Response> {
    let text = |name: &str| admin.given(name).unwrap_or_default().to_owned();
    let created = match settings(&admin) {
        Ok(settings) => {
            let (id, issuer) = (text("id"), text("issuer"));
            issuers::create(&admin.app, id, issuer, settings, None, &admin.actor).await
        }
        Err(error) => Err(error),
    };
    match created {
        Ok(created) => admin.done(&path_of(PATH, &created.resource.id), "issuer-created"),
        Err(error) => all(&admin, &Rejected::of(error)?).await,
    }
}

async fn all(admin: &Admin, rejected: &Rejected) -> Result<Response> {
    let after = asked(admin, "after").unwrap_or_default();
    let found = rows::page(&admin.app.db, after, READ).await;
    let mut found = found.map_err(|error| ApiError::from(Error::from(error)))?;
    let next = cut(admin, &mut found, "after", |issuer| issuer.id.clone());
    let row = |issuer: &TrustedIssuer| {
        vec![
            Cell::link(issuer.id.as_str(), path_of(PATH, &issuer.id)),
            Cell::Code(issuer.issuer.clone()),
            Cell::Lines(uses(admin, issuer)),
            state(admin, issuer),
        ]
    };
    let table = Table {
        heading: admin.text("admin-issuers"),
        columns: [
            "admin-issuer-id",
            "admin-issuer-issuer",
            "admin-issuer-trusted-for",
            "admin-issuer-state",
        ]
        .map(|key| admin.text(key))
        .into(),
        rows: found.iter().map(row).collect(),
        empty: admin.text("admin-issuer-none"),
        next,
    };
    let values = Values::of(admin, "create", rejected);
    let names = [
        Field {
            name: "id",
            label: admin.text("admin-issuer-id"),
            hint: Some(admin.text("admin-issuer-id-hint")),
            value: values.text("id", ""),
            is_required: true,
            ..Field::default()
        },
        Field {
            name: "issuer",
            label: admin.text("admin-issuer-issuer"),
            value: values.text("issuer", ""),
            is_required: true,
            ..Field::default()
        },
    ];
    let further = fields(admin, &values, &IssuerSettings::default());
    let creation = AdminForm {
        id: "create",
        heading: Some(admin.text("admin-issuer-new")),
        action: PATH.to_owned(),
        hidden: action("create"),
        fields: names.into_iter().chain(further).collect(),
        submit: admin.text("admin-issuer-create"),
        ..AdminForm::default()
    };
    let content = Content {
        section: AdminSection::Clients,
        title: admin.text("admin-issuers"),
        above: above(admin, false),
        blocks: vec![
            Block::Text(admin.text("admin-issuer-text")),
            Block::Table(table),
            Block::Form(creation),
        ],
    };
    admin.show_with(content, rejected)
}

fn above(admin: &Admin, is_one: bool) -> Vec<(String, String)> {
    let clients = (admin.text("admin-clients"), AdminSection::Clients.path().to_owned());
    let issuers = is_one.then(|| (admin.text("admin-issuers"), PATH.to_owned()));
    [clients].into_iter().chain(issuers).collect()
}

fn uses(admin: &Admin, issuer: &TrustedIssuer) -> Vec<String> {
    let known = USES.iter().filter(|(one, ..)| issuer.settings.trusted_for.contains(one));
    known.map(|(_, _, key)| admin.text(key)).collect()
}

fn state(admin: &Admin, issuer: &TrustedIssuer) -> Cell {
    match issuer.disabled_at {
        None => Cell::good(admin.text("admin-client-enabled")),
        Some(_) => Cell::bad(admin.text("admin-client-disabled")),
    }
}

/// Shows an issuer.
#[handler]
pub async fn show(admin: Admin, Path(id): Path<String>) -> Result<Response> {
    page(&admin, &id, &Rejected::default()).await
}

/// Does what a form of the page says.
#[handler]
pub async fn submit(admin: Admin, Path(id): Path<String>) -> Result<Response> {
    match act(&admin, &id).await {
        Ok((path, done)) => admin.done(&path, done),
        Err(error) => page(&admin, &id, &Rejected::of(error)?).await,
    }
}

async fn act(admin: &Admin, id: &str) -> Result<(String, &'static str), Error> {
    let (app, actor) = (&admin.app, &admin.actor);
    let subject = admin.given("subject").unwrap_or_default();
    let done = match admin.given("action").unwrap_or_default() {
        "change" => {
            issuers::update(app, id, &admin.precondition()?, settings(admin)?, actor).await?;
            "issuer-changed"
        }
        "disable" => {
            issuers::disable(app, id, actor).await?;
            "issuer-disabled"
        }
        "enable" => {
            issuers::enable(app, id, actor).await?;
            "issuer-enabled"
        }
        "link" => {
            let user = users::find(app, admin.given("user").unwrap_or_default()).await?;
            issuers::link(app, id, subject, &user.id, actor).await?;
            "issuer-linked"
        }
        "unlink" => {
            issuers::unlink(app, id, subject, actor).await?;
            "issuer-unlinked"
        }
        "delete" => {
            admin.confirmed("confirm")?;
            issuers::delete(app, id, &admin.precondition()?, actor).await?;
            return Ok((PATH.to_owned(), "issuer-deleted"));
        }
        _ => return Err(no_such_action()),
    };
    Ok((admin.path.clone(), done))
}

/// The settings that a form describes.
fn settings(admin: &Admin) -> Result<IssuerSettings, Error> {
    let jwks: Option<Value> = admin
        .given("jwks")
        .map(serde_json::from_str)
        .transpose()
        .map_err(|error| Error::field("jwks", format!("must be a JSON object: {error}")))?;
    let trusted_for = USES.iter().filter(|(_, name, _)| is_ticked(admin, name));
    Ok(IssuerSettings {
        jwks,
        jwks_uri: admin.given("jwksUri").map(str::to_owned),
        trusted_for: trusted_for.map(|(one, ..)| *one).collect(),
        audiences: lines(admin, "audiences"),
        clients: lines(admin, "clients"),
        scope: scope(admin, "scopes")?,
    })
}

fn fields(admin: &Admin, values: &Values<'_>, known: &IssuerSettings) -> Vec<Field> {
    let several = |name, key, hint, value: &[String]| Field {
        name,
        label: admin.text(key),
        hint: Some(admin.text(hint)),
        value: values.lines(name, value),
        input: Input::Lines,
        ..Field::default()
    };
    let jwks = known.jwks.as_ref().map(|keys| format!("{keys:#}")).unwrap_or_default();
    let uses = USES.iter().map(|(one, name, key)| Field {
        name,
        label: admin.text(key),
        value: values.tick(name, known.trusted_for.contains(one)),
        input: Input::Checkbox,
        ..Field::default()
    });
    let further = [
        Field {
            name: "jwksUri",
            label: admin.text("admin-issuer-jwks-uri"),
            value: values.text("jwksUri", known.jwks_uri.as_deref().unwrap_or_default()),
            ..Field::default()
        },
        Field {
            name: "jwks",
            label: admin.text("admin-issuer-jwks"),
            value: values.text("jwks", &jwks),
            input: Input::Lines,
            ..Field::default()
        },
        several(
            "audiences",
            "admin-issuer-audiences",
            "admin-issuer-audiences-hint",
            &known.audiences,
        ),
        several("clients", "admin-issuer-clients", "admin-issuer-clients-hint", &known.clients),
        Field {
            name: "scopes",
            label: admin.text("admin-issuer-scopes"),
            hint: Some(admin.text("admin-issuer-scopes-hint")),
            value: values.text("scopes", &known.scope.to_string()),
            ..Field::default()
        },
    ];
    uses.chain(further).collect()
}

async fn page(admin: &Admin, id: &str, rejected: &Rejected) -> Result<Response> {
    let issuer = issuers::by_id(&admin.app, id).await.map_err(ApiError::from)?;
    let facts = vec![
        (admin.text("admin-issuer-issuer"), Cell::Code(issuer.issuer.clone())),
        (admin.text("admin-issuer-state"), state(admin, &issuer)),
        (admin.text("admin-issuer-trusted-for"), Cell::Lines(uses(admin, &issuer))),
        (admin.text("admin-issuer-created"), Cell::Text(Admin::minute(issuer.created_at))),
        (admin.text("admin-issuer-updated"), Cell::Text(Admin::minute(issuer.updated_at))),
    ];
    let values = Values::of(admin, "change", rejected);
    let change = AdminForm {
        id: "change",
        heading: Some(admin.text("admin-issuer-change")),
        action: admin.path.clone(),
        hidden: change_of("change", issuer.updated_at),
        fields: fields(admin, &values, &issuer.settings),
        submit: admin.text("admin-save"),
        ..AdminForm::default()
    };
    let disable = ("admin-issuer-disable", "admin-issuer-disable-text");
    let enable = ("admin-issuer-enable", "admin-issuer-enable-text");
    let switch = switch(admin, issuer.disabled_at.is_none(), disable, enable);
    let content = Content {
        section: AdminSection::Clients,
        title: issuer.id.clone(),
        above: above(admin, true),
        blocks: vec![
            Block::Facts(Facts { heading: None, facts }),
            Block::Table(links(admin, &issuer).await?),
            Block::Form(link(admin, rejected)),
            Block::Form(change),
            Block::Form(switch),
            Block::Form(deletion(
                admin,
                "delete",
                admin.text("admin-issuer-delete"),
                admin.text("admin-issuer-delete-text"),
                issuer.updated_at,
            )),
        ],
    };
    admin.show_with(content, rejected)
}

async fn links(admin: &Admin, issuer: &TrustedIssuer) -> Result<Table> {
    let after = asked(admin, "after").unwrap_or_default();
    let found = rows::links(&admin.app.db, &issuer.id, after, READ).await;
    let mut found = found.map_err(|error| ApiError::from(Error::from(error)))?;
    let next = cut(admin, &mut found, "after", |link| link.subject.clone());
    let row = |link: &LinkedSubject| {
        vec![
            Cell::Code(link.subject.clone()),
            super::shared::user(Some(&link.user_id), ""),
            Cell::Text(Admin::minute(link.created_at)),
            Cell::Button {
                action: admin.path.clone(),
                hidden: vec![("action", "unlink".to_owned()), ("subject", link.subject.clone())],
                label: admin.text("admin-issuer-unlink"),
                subject: link.subject.clone(),
            },
        ]
    };
    Ok(Table {
        heading: admin.text("admin-issuer-links"),
        columns: [
            "admin-issuer-subject",
            "admin-issuer-user",
            "admin-issuer-since",
            "admin-issuer-action",
        ]
        .map(|key| admin.text(key))
        .into(),
        rows: found.iter().map(row).collect(),
        empty: admin.text("admin-issuer-no-links"),
        next,
    })
}

fn link(admin: &Admin, rejected: &Rejected) -> AdminForm {
    let values = Values::of(admin, "link", rejected);
    let text = |name, key| Field {
        name,
        label: admin.text(key),
        value: values.text(name, ""),
        is_required: true,
        ..Field::default()
    };
    AdminForm {
        id: "link",
        heading: Some(admin.text("admin-issuer-link")),
        text: Some(admin.text("admin-issuer-link-text")),
        action: admin.path.clone(),
        hidden: action("link"),
        fields: vec![text("subject", "admin-issuer-subject"), text("user", "admin-issuer-user")],
        submit: admin.text("admin-issuer-link-submit"),
        ..AdminForm::default()
    }
}

//! `/admin/modules`: the product modules, and the users who have them.

use poem::{Response, Result, handler, web::Path};

use super::{
    Admin, Content, Rejected,
    shared::{
        READ, Values, action, asked, change_of, cut, deletion, is_ticked, last_day, lines,
        no_such_action, path_of, scope, user, yes_or_no,
    },
};
use crate::{
    api_error::ApiError,
    clock::Timestamp,
    error::Error,
    flows::{
        admin::{modules, users},
        tokens::subject::is_external,
    },
    http::views::{AdminForm, AdminSection, Block, Cell, Facts, Field, Input, Table},
    model::{
        catalogue::Descriptions,
        module::{Module, ModuleGrant},
    },
    storage::modules as rows,
};

const PATH: &str = "/admin/modules";

/// Lists modules in order of their ids, with the form for a new one.
#[handler]
pub async fn list(admin: Admin) -> Result<Response> {
    all(&admin, &Rejected::default()).await
}

/// Creates a module.
#[handler]
pub async fn create(admin: Admin) -> Result<Response> {
    let id = admin.given("id").unwrap_or_default();
    let created = match requested(&admin, id) {
        Ok(module) => modules::create(&admin.app, module, None, &admin.actor).await,
        Err(error) => Err(error),
    };
    match created {
        Ok(created) => admin.done(&path_of(PATH, &created.resource.id), "module-created"),
        Err(error) => all(&admin, &Rejected::of(error)?).await,
    }
}

async fn all(admin: &Admin, rejected: &Rejected) -> Result<Response> {
    let after = asked(admin, "after").unwrap_or_default();
    let found = rows::page(&admin.app.db, after, READ).await;
    let mut found = found.map_err(|error| ApiError::from(Error::from(error)))?;
    let next = cut(admin, &mut found, "after", |module| module.id.clone());
    let row = |module: &Module| {
        vec![
            Cell::link(module.name(admin.t.tag()), path_of(PATH, &module.id)),
            Cell::Code(module.id.clone()),
            Cell::Code(module.scope.to_string()),
            Cell::Text(yes_or_no(admin, module.is_self_service)),
        ]
    };
    let table = Table {
        heading: admin.text("admin-modules"),
        columns: [
            "admin-module-name",
            "admin-module-id",
            "admin-module-scope",
            "admin-module-self-service",
        ]
        .map(|key| admin.text(key))
        .into(),
        rows: found.iter().map(row).collect(),
        empty: admin.text("admin-module-none"),
        next,
    };
    let values = Values::of(admin, "create", rejected);
    let id = Field {
        name: "id",
        label: admin.text("admin-module-id"),
        hint: Some(admin.text("admin-module-id-hint")),
        value: values.text("id", ""),
        is_required: true,
        ..Field::default()
    };
    let creation = AdminForm {
        id: "create",
        heading: Some(admin.text("admin-module-new")),
        action: PATH.to_owned(),
        hidden: action("create"),
        fields: [id].into_iter().chain(fields(admin, &values, None)).collect(),
        submit: admin.text("admin-module-create"),
        ..AdminForm::default()
    };
    let content = Content {
        section: AdminSection::Modules,
        title: admin.text("admin-modules"),
        above: vec![],
        blocks: vec![Block::Table(table), Block::Form(creation)],
    };
    admin.show_with(content, rejected)
}

/// Shows a module and who has it.
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

/// Gives the page to go to, and the message for it.
async fn act(admin: &Admin, id: &str) -> Result<(String, &'static str), Error> {
    let (app, actor) = (&admin.app, &admin.actor);
    let done = match admin.given("action").unwrap_or_default() {
        "change" => {
            let module = requested(admin, id)?;
            modules::update(app, module, &admin.precondition()?, actor).await?;
            "module-changed"
        }
        "delete" => {
            admin.confirmed("confirm")?;
            modules::delete(app, id, &admin.precondition()?, actor).await?;
            return Ok((PATH.to_owned(), "module-deleted"));
        }
        "grant" => {
            let subject = subject(admin).await?;
            modules::grant(app, &subject, id, last_day(admin)?, actor).await?;
            "module-user-granted"
        }
        "withdraw" => {
            let subject = admin.given("subject").unwrap_or_default();
            modules::withdraw(app, subject, id, actor).await?;
            "module-user-withdrawn"
        }
        _ => return Err(no_such_action()),
    };
    Ok((admin.path.clone(), done))
}

/// The user that a grant is for: by id, email address or username, or the `sub` of a back end's.
async fn subject(admin: &Admin) -> Result<String, Error> {
    let name = admin.given("user").unwrap_or_default();
    if is_external(name) {
        return Ok(name.to_owned());
    }
    Ok(users::find(&admin.app, name).await?.id.into())
}

/// The module that a form describes; its times are set when it is stored.
fn requested(admin: &Admin, id: &str) -> Result<Module, Error> {
    Ok(Module {
        id: id.to_owned(),
        names: texts(admin, "names")?,
        descriptions: texts(admin, "descriptions")?,
        scope: scope(admin, "scope")?,
        resource: admin.given("resource").map(str::to_owned),
        is_self_service: is_ticked(admin, "self_service"),
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    })
}

/// Texts by language, one per line.
fn texts(admin: &Admin, field: &'static str) -> Result<Descriptions, Error> {
    let wrong = || Error::field(field, "must have one language per line, once, like en=Customers");
    let mut texts = Descriptions::new();
    for line in lines(admin, field) {
        let (tag, text) = line.split_once('=').ok_or_else(wrong)?;
        if texts.insert(tag.trim().to_owned(), text.trim().to_owned()).is_some() {
            return Err(wrong());
        }
    }
    Ok(texts)
}

fn fields(admin: &Admin, values: &Values<'_>, known: Option<&Module>) -> Vec<Field> {
    let by_language = |texts: &Descriptions| -> Vec<String> {
        texts.iter().map(|(tag, text)| format!("{tag}={text}")).collect()
    };
    let texts = |name, key, texts: Option<&Descriptions>| Field {
        name,
        label: admin.text(key),
        hint: Some(admin.text("admin-module-texts-hint")),
        value: values.lines(name, &texts.map(by_language).unwrap_or_default()),
        input: Input::Lines,
        ..Field::default()
    };
    let scope = known.map(|known| known.scope.to_string()).unwrap_or_default();
    let resource = known.and_then(|known| known.resource.as_deref()).unwrap_or_default();
    vec![
        texts("names", "admin-module-names", known.map(|known| &known.names)),
        texts("descriptions", "admin-module-descriptions", known.map(|known| &known.descriptions)),
        Field {
            name: "scope",
            label: admin.text("admin-module-scope"),
            hint: Some(admin.text("admin-module-scope-hint")),
            value: values.text("scope", &scope),
            ..Field::default()
        },
        Field {
            name: "resource",
            label: admin.text("admin-module-resource"),
            hint: Some(admin.text("admin-module-resource-hint")),
            value: values.text("resource", resource),
            ..Field::default()
        },
        Field {
            name: "self_service",
            label: admin.text("admin-module-self-service"),
            value: values.tick("self_service", known.is_some_and(|known| known.is_self_service)),
            input: Input::Checkbox,
            ..Field::default()
        },
    ]
}

async fn page(admin: &Admin, id: &str, rejected: &Rejected) -> Result<Response> {
    let module = modules::by_id(&admin.app, id).await.map_err(ApiError::from)?;
    let tag = admin.t.tag();
    let description = Some(module.description(tag)).filter(|text| !text.is_empty());
    let resource = module.resource.clone().map(Cell::Code);
    let facts = vec![
        (admin.text("admin-module-id"), Cell::Code(module.id.clone())),
        (admin.text("admin-module-description"), Cell::of(description)),
        (
            admin.text("admin-module-scope"),
            Cell::Lines(module.scope.iter().map(str::to_owned).collect()),
        ),
        (
            admin.text("admin-module-resource"),
            resource.unwrap_or_else(|| Cell::Text(admin.text("admin-module-own-api"))),
        ),
        (
            admin.text("admin-module-self-service"),
            Cell::Text(yes_or_no(admin, module.is_self_service)),
        ),
        (admin.text("admin-module-created"), Cell::Text(Admin::minute(module.created_at))),
        (admin.text("admin-module-updated"), Cell::Text(Admin::minute(module.updated_at))),
    ];
    let values = Values::of(admin, "change", rejected);
    let change = AdminForm {
        id: "change",
        heading: Some(admin.text("admin-module-change")),
        text: Some(admin.text("admin-module-change-text")),
        action: admin.path.clone(),
        hidden: change_of("change", module.updated_at),
        fields: fields(admin, &values, Some(&module)),
        submit: admin.text("admin-save"),
        ..AdminForm::default()
    };
    let content = Content {
        section: AdminSection::Modules,
        title: module.name(tag).to_owned(),
        above: vec![(admin.text("admin-modules"), PATH.to_owned())],
        blocks: vec![
            Block::Facts(Facts { heading: None, facts }),
            Block::Table(open_grants(admin, &module).await?),
            Block::Form(grant(admin, rejected)),
            Block::Form(change),
            Block::Table(history(admin, &module).await?),
            Block::Form(deletion(
                admin,
                "delete",
                admin.text("admin-module-delete"),
                admin.text("admin-module-delete-text"),
                module.updated_at,
            )),
        ],
    };
    admin.show_with(content, rejected)
}

fn grant(admin: &Admin, rejected: &Rejected) -> AdminForm {
    let values = Values::of(admin, "grant", rejected);
    AdminForm {
        id: "grant",
        heading: Some(admin.text("admin-module-grant")),
        action: admin.path.clone(),
        hidden: action("grant"),
        fields: vec![
            Field {
                name: "user",
                label: admin.text("admin-module-user"),
                hint: Some(admin.text("admin-module-user-hint")),
                value: values.text("user", ""),
                is_required: true,
                ..Field::default()
            },
            Field {
                name: "validUntil",
                label: admin.text("admin-module-until"),
                hint: Some(admin.text("admin-module-until-hint")),
                value: values.text("validUntil", ""),
                input: Input::Date,
                ..Field::default()
            },
        ],
        submit: admin.text("admin-module-grant-submit"),
        ..AdminForm::default()
    }
}

async fn open_grants(admin: &Admin, module: &Module) -> Result<Table> {
    let after = asked(admin, "after").unwrap_or_default();
    let found = rows::of_module(&admin.app.db, &module.id, after, READ).await;
    let mut found = found.map_err(|error| ApiError::from(Error::from(error)))?;
    let next = cut(admin, &mut found, "after", |grant| grant.subject.clone());
    let row = |grant: &ModuleGrant| {
        vec![
            user(grant.user_id.as_deref(), &grant.subject),
            Cell::Text(Admin::minute(grant.valid_from)),
            Cell::of(grant.valid_until.map(Admin::minute)),
            Cell::Code(grant.granted_by.clone()),
            Cell::Button {
                action: admin.path.clone(),
                hidden: vec![("action", "withdraw".to_owned()), ("subject", grant.subject.clone())],
                label: admin.text("admin-module-withdraw"),
                subject: grant.subject.clone(),
            },
        ]
    };
    Ok(Table {
        heading: admin.text("admin-module-grants"),
        columns: [
            "admin-module-holder",
            "admin-module-from",
            "admin-module-to",
            "admin-module-granted-by",
            "admin-module-action",
        ]
        .map(|key| admin.text(key))
        .into(),
        rows: found.iter().map(row).collect(),
        empty: admin.text("admin-module-no-grants"),
        next,
    })
}

/// Every grant there has been, the newest first.
async fn history(admin: &Admin, module: &Module) -> Result<Table> {
    let before = asked(admin, "before").unwrap_or(crate::model::AFTER_EVERY_ID);
    let found = rows::history_of_module(&admin.app.db, &module.id, before, READ).await;
    let mut found = found.map_err(|error| ApiError::from(Error::from(error)))?;
    let next = cut(admin, &mut found, "before", |grant| grant.id.clone());
    let row = |grant: &ModuleGrant| {
        let by_time = grant.closed_at.is_some().then(|| admin.text("admin-module-by-time"));
        vec![
            user(grant.user_id.as_deref(), &grant.subject),
            Cell::Text(Admin::minute(grant.valid_from)),
            Cell::of(grant.valid_until.map(Admin::minute)),
            Cell::Code(grant.granted_by.clone()),
            grant.ended_by.clone().map_or_else(|| Cell::of(by_time), Cell::Code),
        ]
    };
    Ok(Table {
        heading: admin.text("admin-module-history"),
        columns: [
            "admin-module-holder",
            "admin-module-from",
            "admin-module-to",
            "admin-module-granted-by",
            "admin-module-ended-by",
        ]
        .map(|key| admin.text(key))
        .into(),
        rows: found.iter().map(row).collect(),
        empty: admin.text("admin-module-no-grants"),
        next,
    })
}

//! `/admin/roles`: the roles of users.

use poem::{Response, Result, handler, web::Path};

use super::{
    Admin, Content, Rejected,
    shared::{
        READ, Values, action, asked, change_of, cut, deletion, is_ticked, no_such_action, path_of,
        yes_or_no,
    },
};
use crate::{
    api_error::ApiError,
    error::Error,
    flows::admin::roles,
    http::views::{AdminForm, AdminSection, Block, Cell, Facts, Field, Input, Table},
    model::user::{Role, RoleEntry, RoleSettings},
    storage::roles as rows,
};

const PATH: &str = "/admin/roles";

/// Lists roles in order of their names, with the form for a new one.
#[handler]
pub async fn list(admin: Admin) -> Result<Response> {
    all(&admin, &Rejected::default()).await
}

/// Creates a role.
#[handler]
pub async fn create(admin: Admin) -> Result<Response> {
    let role = Role::parse(admin.given("name").unwrap_or_default());
    let created = match role.map_err(|why| Error::field("name", why)) {
        Ok(role) => roles::create(&admin.app, role, settings(&admin), None, &admin.actor).await,
        Err(error) => Err(error),
    };
    match created {
        Ok(_) => admin.done(PATH, "role-created"),
        Err(error) => all(&admin, &Rejected::of(error)?).await,
    }
}

fn settings(admin: &Admin) -> RoleSettings {
    RoleSettings {
        description: admin.given("description").unwrap_or_default().to_owned(),
        require_second_factor: is_ticked(admin, "require_second_factor"),
    }
}

async fn all(admin: &Admin, rejected: &Rejected) -> Result<Response> {
    let after = asked(admin, "after").unwrap_or_default();
    let found = rows::page(&admin.app.db, after, READ).await;
    let mut found = found.map_err(|error| ApiError::from(Error::from(error)))?;
    let next = cut(admin, &mut found, "after", |entry| entry.role.as_str().to_owned());
    let row = |entry: &RoleEntry| {
        let name = entry.role.as_str();
        vec![
            Cell::link(name, path_of(PATH, name)),
            Cell::Text(entry.settings.description.clone()),
            Cell::Text(yes_or_no(admin, entry.settings.require_second_factor)),
            Cell::Text(entry.users.to_string()),
        ]
    };
    let table = Table {
        heading: admin.text("admin-roles"),
        columns: [
            "admin-role-name",
            "admin-role-description",
            "admin-role-second-factor",
            "admin-role-users",
        ]
        .map(|key| admin.text(key))
        .into(),
        rows: found.iter().map(row).collect(),
        empty: admin.text("admin-role-none"),
        next,
    };
    let values = Values::of(admin, "create", rejected);
    let name = Field {
        name: "name",
        label: admin.text("admin-role-name"),
        hint: Some(admin.text("admin-role-name-hint")),
        value: values.text("name", ""),
        is_required: true,
        ..Field::default()
    };
    let creation = AdminForm {
        id: "create",
        heading: Some(admin.text("admin-role-new")),
        action: PATH.to_owned(),
        hidden: action("create"),
        fields: [name]
            .into_iter()
            .chain(fields(admin, &values, &RoleSettings::default()))
            .collect(),
        submit: admin.text("admin-role-create"),
        ..AdminForm::default()
    };
    let content = Content {
        section: AdminSection::Roles,
        title: admin.text("admin-roles"),
        above: vec![],
        blocks: vec![Block::Table(table), Block::Form(creation)],
    };
    admin.show_with(content, rejected)
}

/// Shows a role.
#[handler]
pub async fn show(admin: Admin, Path(name): Path<String>) -> Result<Response> {
    page(&admin, &name, &Rejected::default()).await
}

/// Changes or deletes a role.
#[handler]
pub async fn submit(admin: Admin, Path(name): Path<String>) -> Result<Response> {
    match act(&admin, &name).await {
        Ok((path, done)) => admin.done(&path, done),
        Err(error) => page(&admin, &name, &Rejected::of(error)?).await,
    }
}

async fn act(admin: &Admin, name: &str) -> Result<(String, &'static str), Error> {
    let (app, actor) = (&admin.app, &admin.actor);
    let role = Role::parse(name).map_err(|_| Error::NotFound("role"))?;
    match admin.given("action").unwrap_or_default() {
        "change" => {
            let RoleSettings { description, require_second_factor } = settings(admin);
            let (text, required) = (Some(description), Some(require_second_factor));
            roles::update(app, role, &admin.precondition()?, text, required, actor).await?;
            Ok((admin.path.clone(), "role-changed"))
        }
        "delete" => {
            admin.confirmed("confirm")?;
            roles::delete(app, role, &admin.precondition()?, actor).await?;
            Ok((PATH.to_owned(), "role-deleted"))
        }
        _ => Err(no_such_action()),
    }
}

fn fields(admin: &Admin, values: &Values<'_>, known: &RoleSettings) -> Vec<Field> {
    vec![
        Field {
            name: "description",
            label: admin.text("admin-role-description"),
            hint: Some(admin.text("admin-role-description-hint")),
            value: values.text("description", &known.description),
            ..Field::default()
        },
        Field {
            name: "require_second_factor",
            label: admin.text("admin-role-require-second-factor"),
            value: values.tick("require_second_factor", known.require_second_factor),
            input: Input::Checkbox,
            ..Field::default()
        },
    ]
}

async fn page(admin: &Admin, name: &str, rejected: &Rejected) -> Result<Response> {
    // A name that no role can have is answered as an unknown one is.
    let role = Role::parse(name).map_err(|_| ApiError::from(Error::NotFound("role")))?;
    let entry = roles::by_name(&admin.app, role.as_str()).await.map_err(ApiError::from)?;
    let facts = vec![
        (admin.text("admin-role-users"), Cell::Text(entry.users.to_string())),
        (
            admin.text("admin-role-second-factor"),
            Cell::Text(yes_or_no(admin, entry.settings.require_second_factor)),
        ),
        (admin.text("admin-role-built-in"), Cell::Text(yes_or_no(admin, entry.role.is_built_in()))),
        (admin.text("admin-role-created"), Cell::Text(Admin::minute(entry.created_at))),
        (admin.text("admin-role-updated"), Cell::Text(Admin::minute(entry.updated_at))),
    ];
    let values = Values::of(admin, "change", rejected);
    let mut blocks = vec![
        Block::Facts(Facts { heading: None, facts }),
        Block::Form(AdminForm {
            id: "change",
            heading: Some(admin.text("admin-role-change")),
            action: admin.path.clone(),
            hidden: change_of("change", entry.updated_at),
            fields: fields(admin, &values, &entry.settings),
            submit: admin.text("admin-save"),
            ..AdminForm::default()
        }),
    ];
    if !entry.role.is_built_in() {
        blocks.push(Block::Form(deletion(
            admin,
            "delete",
            admin.text("admin-role-delete"),
            admin.text("admin-role-delete-text"),
            entry.updated_at,
        )));
    }
    let content = Content {
        section: AdminSection::Roles,
        title: entry.role.as_str().to_owned(),
        above: vec![(admin.text("admin-roles"), PATH.to_owned())],
        blocks,
    };
    admin.show_with(content, rejected)
}

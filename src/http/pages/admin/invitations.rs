//! `/admin/invitations`: invitations to register.

use std::time::Duration;

use poem::{Response, Result, handler};

use super::{
    Admin, Content, Rejected,
    shared::{READ, Values, action, asked, change_of, cut, last_day, no_such_action, shown_once},
    users::{self, role_choices},
};
use crate::{
    api_error::ApiError,
    error::Error,
    flows::admin::invitations::{self, NewInvitation},
    http::views::{AdminForm, AdminSection, Block, Cell, Field, Input, Table},
    model::{
        invitation::{DEFAULT_TTL, Invitation},
        module::OpenGrant,
        user::Role,
    },
    storage::invitations as rows,
};

pub(super) const PATH: &str = "/admin/invitations";
const DAY: u64 = 24 * 60 * 60;

/// Lists invitations, with the form for a new one.
#[handler]
pub async fn list(admin: Admin) -> Result<Response> {
    let content = content(&admin, &Rejected::default()).await.map_err(ApiError::from)?;
    admin.show(content)
}

/// Creates an invitation, whose link is shown once, or revokes one.
#[handler]
pub async fn submit(admin: Admin) -> Result<Response> {
    match act(&admin).await {
        Ok(None) => admin.done(PATH, "invitation-revoked"),
        Ok(Some(code)) => {
            let again = Rejected::default();
            let mut content = content(&admin, &again).await.map_err(ApiError::from)?;
            content.blocks.insert(0, shown_once(&admin, "admin-invitation-link", code));
            admin.show(content)
        }
        Err(error) => {
            let rejected = Rejected::of(error)?;
            let content = content(&admin, &rejected).await.map_err(ApiError::from)?;
            admin.show_with(content, &rejected)
        }
    }
}

/// The link of a new invitation.
async fn act(admin: &Admin) -> Result<Option<String>, Error> {
    let (app, actor) = (&admin.app, &admin.actor);
    match admin.given("action").unwrap_or_default() {
        "create" => {
            let created = invitations::create(app, requested(admin)?, None, actor).await?;
            Ok(created.resource.1)
        }
        "revoke" => {
            let id = admin.given("id").unwrap_or_default();
            invitations::revoke(app, id, &admin.precondition()?, actor).await?;
            Ok(None)
        }
        _ => Err(no_such_action()),
    }
}

fn requested(admin: &Admin) -> Result<NewInvitation, Error> {
    let role = Role::parse(admin.given("role").unwrap_or(Role::user().as_str()));
    let days =
        admin.given("expiresIn").map(|days| days.parse::<u32>().ok().filter(|days| *days > 0));
    let why = "must be a number of days, from 1 to 90";
    let days = days.map(|days| days.ok_or_else(|| Error::field("expiresIn", why))).transpose()?;
    let valid_until = last_day(admin)?;
    let granted = admin.params.all("modules");
    let grant = |id: &str| OpenGrant { module_id: id.to_owned(), valid_until };
    Ok(NewInvitation {
        email: admin.given("email").map(str::to_owned),
        language: admin.given("language").map(str::to_owned),
        role: role.map_err(|why| Error::field("role", why))?,
        modules: granted.map(grant).collect(),
        ttl: days.map(|days| Duration::from_secs(u64::from(days) * DAY)),
    })
}

fn row(admin: &Admin, invitation: &Invitation) -> Vec<Cell> {
    let anybody = admin.text("admin-invitation-anybody");
    let email = invitation.email.clone().unwrap_or(anybody);
    let used = match (invitation.used_at, &invitation.used_by) {
        (Some(at), Some(by)) => Cell::link(Admin::minute(at), users::path_of(by)),
        (at, _) => Cell::of(at.map(Admin::minute)),
    };
    let mut hidden = change_of("revoke", invitation.updated_at());
    hidden.push(("id", invitation.id.clone()));
    vec![
        Cell::Text(email.clone()),
        Cell::Text(invitation.role.as_str().to_owned()),
        Cell::Lines(invitation.modules.iter().map(|one| one.module_id.clone()).collect()),
        Cell::Text(Admin::minute(invitation.created_at)),
        Cell::Text(Admin::minute(invitation.expires_at)),
        used,
        Cell::Button {
            action: PATH.to_owned(),
            hidden,
            label: admin.text("admin-invitation-revoke"),
            subject: email,
        },
    ]
}

async fn content(admin: &Admin, rejected: &Rejected) -> Result<Content, Error> {
    let after = asked(admin, "after").unwrap_or_default();
    let mut found = rows::page(&admin.app.db, after, READ).await?;
    let next = cut(admin, &mut found, "after", |invitation| invitation.id.clone());
    let columns = [
        "admin-email",
        "admin-role",
        "admin-modules",
        "admin-created",
        "admin-invitation-expires",
        "admin-invitation-used",
        "admin-action",
    ];
    let table = Table {
        heading: admin.text("admin-invitations"),
        columns: columns.map(|key| admin.text(key)).to_vec(),
        rows: found.iter().map(|invitation| row(admin, invitation)).collect(),
        empty: admin.text("admin-invitation-none"),
        next,
    };
    Ok(Content {
        section: AdminSection::Users,
        title: admin.text("admin-invitations"),
        above: vec![(admin.text("admin-users"), users::LIST.to_owned())],
        blocks: vec![Block::Table(table), Block::Form(form(admin, rejected).await?)],
    })
}

async fn form(admin: &Admin, rejected: &Rejected) -> Result<AdminForm, Error> {
    let values = Values::of(admin, "create", rejected);
    let field = |name, label: &str, stored: &str, input| Field {
        name,
        label: admin.text(label),
        value: values.text(name, stored),
        input,
        ..Field::default()
    };
    let catalogue = admin.app.directory.catalogue(&admin.app.db).await?;
    let tag = admin.t.tag();
    let chosen: Vec<&str> = admin.params.all("modules").collect();
    let modules: Vec<_> = catalogue
        .modules
        .values()
        .map(|one| (one.id.clone(), one.name(tag).to_owned(), chosen.contains(&one.id.as_str())))
        .collect();
    let languages = admin.t.languages();
    let languages: Vec<_> =
        languages.map(|(tag, name, _)| (tag.to_owned(), name.to_owned())).collect();
    let mut fields = vec![
        Field {
            hint: Some(admin.text("admin-invitation-email-hint")),
            ..field("email", "admin-email", "", Input::Email)
        },
        field("language", "admin-invitation-language", tag, Input::Choice(languages)),
        field(
            "role",
            "admin-role",
            Role::user().as_str(),
            Input::Choice(role_choices(admin).await?),
        ),
        Field {
            hint: Some(admin.text("admin-invitation-days-hint")),
            ..field(
                "expiresIn",
                "admin-invitation-days",
                &(DEFAULT_TTL.as_secs() / DAY).to_string(),
                Input::Text,
            )
        },
    ];
    if !modules.is_empty() {
        fields.push(field("modules", "admin-modules", "", Input::Choices(modules)));
        fields.push(Field {
            hint: Some(admin.text("admin-module-until-hint")),
            ..field("validUntil", "admin-module-until", "", Input::Date)
        });
    }
    Ok(AdminForm {
        id: "create",
        heading: Some(admin.text("admin-invitation-new")),
        text: Some(admin.text("admin-invitation-text")),
        action: PATH.to_owned(),
        hidden: action("create"),
        fields,
        submit: admin.text("admin-invitation-create"),
        ..AdminForm::default()
    })
}

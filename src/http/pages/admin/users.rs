//! `/admin/users`: the list of users, and a new one.

use poem::{Response, Result, handler};

use super::{
    Admin, Content, Rejected,
    shared::{READ, cut, shown_once},
};
use crate::{
    api_error::ApiError,
    error::Error,
    flows::{
        accounts::register::Registration,
        admin::{roles, users},
    },
    http::views::{AdminForm, AdminSection, Block, Cell, Field, FormMethod, Input, Table},
    model::user::{Role, UserRecord, canonical},
    storage::users::{TextMatch, UserFilter, page},
};

pub(super) const LIST: &str = "/admin/users";
const NEW: &str = "/admin/users/new";

/// The path of a user's page.
pub(super) fn path_of(id: &str) -> String {
    format!("{LIST}/{id}")
}

/// Lists the users, or those whose email address or username begins with a text. A whole one, or an
/// id, redirects to the user.
#[handler]
pub async fn list(admin: Admin) -> Result<Response> {
    if let Some(login) = admin.given("login")
        && admin.given("after").is_none()
        && let Ok(user) = users::find(&admin.app, login).await
    {
        return super::see_other(&path_of(&user.id));
    }
    let mut found = matching(&admin).await.map_err(ApiError::from)?;
    let roles = role_choices(&admin).await.map_err(ApiError::from)?;
    let any = (String::new(), admin.text("admin-any"));
    let states = vec![
        any.clone(),
        ("false".to_owned(), admin.text("admin-enabled")),
        ("true".to_owned(), admin.text("admin-disabled")),
    ];
    let field = |name, label, input| field(&admin, name, label, input);
    let filters = AdminForm {
        id: "filter",
        method: FormMethod::Get,
        action: LIST.to_owned(),
        fields: vec![
            Field {
                hint: Some(admin.text("admin-users-login-hint")),
                ..field("login", "admin-users-login", Input::Text)
            },
            field("role", "admin-role", Input::Choice([vec![any], roles].concat())),
            field("disabled", "admin-state", Input::Choice(states)),
        ],
        submit: admin.text("admin-filter"),
        ..AdminForm::default()
    };
    let next = cut(&admin, &mut found, "after", |last| last.user.id.to_string());
    let table = Table {
        heading: admin.text("admin-users"),
        columns: ["admin-email", "admin-username", "admin-role", "admin-state", "admin-last-login"]
            .map(|key| admin.text(key))
            .to_vec(),
        rows: found.iter().map(|account| row(&admin, account)).collect(),
        empty: admin.text("admin-users-none"),
        next,
    };
    admin.show(Content {
        section: AdminSection::Users,
        title: admin.text("admin-users"),
        above: vec![],
        blocks: vec![
            Block::Links(vec![
                (admin.text("admin-users-new"), NEW.to_owned()),
                (admin.text("admin-invitations"), super::invitations::PATH.to_owned()),
            ]),
            Block::Form(filters),
            Block::Table(table),
        ],
    })
}

/// A page of the users that the filters match, in order of creation.
async fn matching(admin: &Admin) -> Result<Vec<UserRecord>, Error> {
    let after = admin.given("after").unwrap_or_default();
    let filter = UserFilter {
        role: admin.given("role").map(str::to_owned),
        disabled: admin.given("disabled").map(|text| text == "true"),
        ..UserFilter::default()
    };
    let of = |filter| async move { page(&admin.app.db, &filter, after, READ).await };
    let Some(login) = admin.given("login") else { return Ok(of(filter).await?) };
    let start = || Some(TextMatch::Prefix(canonical(login)));
    let mut found = of(UserFilter { email: start(), ..filter.clone() }).await?;
    found.extend(of(UserFilter { username: start(), ..filter }).await?);
    found.sort_by(|a, b| a.user.id.cmp(&b.user.id));
    found.dedup_by(|a, b| a.user.id == b.user.id);
    Ok(found)
}

fn row(admin: &Admin, account: &UserRecord) -> Vec<Cell> {
    let user = &account.user;
    vec![
        Cell::link(&user.email, path_of(&user.id)),
        Cell::of(user.username.as_ref()),
        Cell::Text(user.role.as_str().to_owned()),
        state(admin, account),
        Cell::of(account.last_login_at.map(Admin::minute)),
    ]
}

/// Whether the user can log in.
pub(super) fn state(admin: &Admin, account: &UserRecord) -> Cell {
    let since = account.user.disabled_at.map(Admin::minute);
    match (account.deletion, since) {
        (Some(deletion), _) => {
            let at = Admin::minute(deletion.at);
            Cell::bad(admin.t.with("admin-user-deletion", &[("time", at.as_str())]))
        }
        (None, Some(since)) => {
            Cell::bad(admin.t.with("admin-disabled-since", &[("time", since.as_str())]))
        }
        (None, None) => Cell::good(admin.text("admin-enabled")),
    }
}

/// Every role, as the choices of a field.
pub(super) async fn role_choices(admin: &Admin) -> Result<Vec<(String, String)>, Error> {
    let all = roles::all(&admin.app).await?;
    Ok(all.iter().map(|entry| (entry.role.as_str(), entry.role.as_str())).map(own).collect())
}

fn own((value, label): (&str, &str)) -> (String, String) {
    (value.to_owned(), label.to_owned())
}

/// A filter, or a field of a form that is shown again: with what was typed.
fn field(admin: &Admin, name: &'static str, label: &str, input: Input) -> Field {
    let value = admin.given(name).unwrap_or_default().to_owned();
    Field { name, label: admin.text(label), value, input, ..Field::default() }
}

/// Asks for a new user.
#[handler]
pub async fn new(admin: Admin) -> Result<Response> {
    let content = form(&admin).await.map_err(ApiError::from)?;
    admin.show(content)
}

async fn form(admin: &Admin) -> Result<Content, Error> {
    let field = |name, label, input| field(admin, name, label, input);
    let role = field("role", "admin-role", Input::Choice(role_choices(admin).await?));
    let role_value = admin.given("role").unwrap_or(Role::user().as_str()).to_owned();
    let form = AdminForm {
        id: "new",
        action: NEW.to_owned(),
        fields: vec![
            Field { is_required: true, ..field("email", "admin-email", Input::Email) },
            field("username", "admin-username", Input::Text),
            Field { value: role_value, ..role },
            Field {
                hint: Some(admin.text("admin-user-password-hint")),
                value: String::new(),
                ..field("password", "admin-password", Input::Password)
            },
        ],
        submit: admin.text("admin-users-create"),
        ..AdminForm::default()
    };
    Ok(Content {
        section: AdminSection::Users,
        title: admin.text("admin-users-new"),
        above: vec![(admin.text("admin-users"), LIST.to_owned())],
        blocks: vec![Block::Form(form)],
    })
}

/// Creates the user, and shows a generated password once.
#[handler]
pub async fn create(admin: Admin) -> Result<Response> {
    match create_user(&admin).await {
        Ok((account, None)) => admin.done(&path_of(&account.user.id), "user-created"),
        Ok((account, Some(password))) => {
            let blocks = vec![
                shown_once(&admin, "admin-password", password),
                Block::Links(vec![(admin.text("admin-user-open"), path_of(&account.user.id))]),
            ];
            let above = vec![(admin.text("admin-users"), LIST.to_owned())];
            let title = account.user.email;
            admin.show(Content { section: AdminSection::Users, title, above, blocks })
        }
        Err(error) => {
            let rejected = Rejected::of(error)?;
            let content = form(&admin).await.map_err(ApiError::from)?;
            admin.show_with(content, &rejected)
        }
    }
}

async fn create_user(admin: &Admin) -> Result<(UserRecord, Option<String>), Error> {
    let role = Role::parse(admin.given("role").unwrap_or(Role::user().as_str()));
    let role = role.map_err(|why| Error::field("role", why))?;
    let (password, generated) = users::or_generated(&admin.app, admin.typed_password());
    let registration = Registration {
        email: admin.given("email").unwrap_or_default().to_owned(),
        username: admin.given("username").map(str::to_owned),
        password,
    };
    let created = users::create(&admin.app, registration, role, None, &admin.actor).await?;
    Ok(created.with_secret(generated).resource)
}

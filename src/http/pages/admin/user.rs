//! `/admin/users/{id}`: one user, with everything that an administrator can do for them.

use poem::{Response, Result, handler, web::Path};

use super::{
    Admin, Content, Rejected,
    shared::{self, Values, confirmation, last_day, shown_once, switch, version},
    users::{LIST, path_of, role_choices, state},
};
use crate::{
    api_error::ApiError,
    error::Error,
    flows::{
        accounts::{
            applications,
            devices::{self, Here, OwnSession},
            second_factors,
        },
        admin::{
            modules,
            users::{self, UserChanges},
        },
        sessions::end,
        upstream::identity,
    },
    http::views::{AdminForm, AdminSection, Block, Cell, Facts, Field, Input, Table},
    ids::UserId,
    model::{
        module::ModuleGrant,
        user::{Role, UserRecord},
    },
    storage::sagas,
};

/// Shows a user.
#[handler]
pub async fn show(admin: Admin, Path(id): Path<UserId>) -> Result<Response> {
    let content = page(&admin, &id, &Rejected::default()).await.map_err(ApiError::from)?;
    admin.show(content)
}

/// What a form of the page has done.
enum Done {
    /// The page says so: one of the messages `admin-done-…`.
    Changed(&'static str),
    Deleted,
    /// A password was generated.
    Password(String),
}

/// Does what a form of the page asks for.
#[handler]
pub async fn change(admin: Admin, Path(id): Path<UserId>) -> Result<Response> {
    match act(&admin, &id).await {
        Ok(Done::Changed(done)) => admin.done(&path_of(&id), done),
        Ok(Done::Deleted) => admin.done(LIST, "user-deleted"),
        Ok(Done::Password(password)) => {
            let again = Rejected::default();
            let mut content = page(&admin, &id, &again).await.map_err(ApiError::from)?;
            content.blocks.insert(0, shown_once(&admin, "admin-password", password));
            admin.show(content)
        }
        Err(error) => {
            let rejected = Rejected::of(error)?;
            let content = page(&admin, &id, &rejected).await.map_err(ApiError::from)?;
            admin.show_with(content, &rejected)
        }
    }
}

async fn act(admin: &Admin, id: &UserId) -> Result<Done, Error> {
    let (app, actor) = (&admin.app, &admin.actor);
    // Some of the following actions succeed for an unknown user.
    users::by_id(app, id).await?;
    let named = |name: &'static str| {
        admin.given(name).ok_or_else(|| Error::field(name, "must be given: reload the page"))
    };
    Ok(Done::Changed(match admin.given("action").unwrap_or_default() {
        "update" => {
            let changes = changes(admin)?;
            users::update(app, id, &admin.precondition()?, changes, actor).await?;
            "user-updated"
        }
        "disable" => {
            users::disable(app, id, actor).await?;
            "user-disabled"
        }
        "enable" => {
            users::enable(app, id, actor).await?;
            "user-enabled"
        }
        "log-out" => {
            users::log_out(app, id, actor).await?;
            "user-logged-out"
        }
        "password" => {
            let (password, generated) = users::or_generated(app, admin.typed_password());
            users::set_password(app, id, &password, actor).await?;
            match generated {
                Some(password) => return Ok(Done::Password(password)),
                None => "user-password",
            }
        }
        "reset-factors" => {
            admin.confirmed("confirm_reset")?;
            second_factors::reset(app, id, actor).await?;
            "user-factors"
        }
        "unlink" => {
            identity::unlink(app, id, named("identity")?, actor).await?;
            "user-unlinked"
        }
        "end-session" => {
            end::close(app, &named("session")?.into(), actor).await?;
            "user-session"
        }
        "grant" => {
            modules::grant(app, id, named("module")?, last_day(admin)?, actor).await?;
            "user-granted"
        }
        "withdraw-module" => {
            modules::withdraw(app, id, named("module")?, actor).await?;
            "user-module-withdrawn"
        }
        "withdraw-consent" => {
            applications::withdraw(app, id, &named("client")?.into(), actor).await?;
            "user-consent"
        }
        "delete" => {
            admin.confirmed("confirm_delete")?;
            users::delete(app, id, &admin.precondition()?, actor).await?;
            return Ok(Done::Deleted);
        }
        _ => return Err(Error::field("action", "must be one of the page's: reload the page")),
    }))
}

fn changes(admin: &Admin) -> Result<UserChanges, Error> {
    let role = admin.given("role").map(Role::parse).transpose();
    Ok(UserChanges {
        email: Some(admin.given("email").unwrap_or_default().to_owned()),
        username: Some(admin.given("username").map(str::to_owned)),
        role: role.map_err(|why| Error::field("role", why))?,
        is_verified: Some(admin.given("is_verified").is_some()),
        ..UserChanges::default()
    })
}

/// The page of a user.
///
/// # Errors
/// [`Error::NotFound`].
async fn page(admin: &Admin, id: &UserId, rejected: &Rejected) -> Result<Content, Error> {
    let account = users::by_id(&admin.app, id).await?;
    let of_user = Page { admin, account: &account, path: path_of(id), rejected };
    let mut blocks = vec![of_user.facts().await?];
    blocks.push(Block::Links(vec![(
        admin.text("admin-user-audit"),
        format!("/admin/audit?subject={id}"),
    )]));
    blocks.push(of_user.update_form().await?);
    blocks.extend(of_user.modules().await?);
    blocks.extend(of_user.sessions().await?);
    blocks.push(of_user.applications().await?);
    blocks.extend(of_user.login().await?);
    blocks.extend(of_user.ends());
    Ok(Content {
        section: AdminSection::Users,
        title: account.user.email.clone(),
        above: vec![(admin.text("admin-users"), LIST.to_owned())],
        blocks,
    })
}

struct Page<'a> {
    admin: &'a Admin,
    account: &'a UserRecord,
    path: String,
    rejected: &'a Rejected,
}

impl Page<'_> {
    fn id(&self) -> &UserId {
        &self.account.user.id
    }

    fn form(&self, id: &'static str, action: &str, submit: &str) -> AdminForm {
        AdminForm {
            id,
            action: self.path.clone(),
            hidden: vec![("action", action.to_owned())],
            submit: self.admin.text(submit),
            ..AdminForm::default()
        }
    }

    /// A form that consists of a button, with the name of what it changes.
    fn button(
        &self,
        action: &str,
        named: (&'static str, &str),
        label: &str,
        subject: &str,
    ) -> Cell {
        Cell::Button {
            action: self.path.clone(),
            hidden: vec![("action", action.to_owned()), (named.0, named.1.to_owned())],
            label: self.admin.text(label),
            subject: subject.to_owned(),
        }
    }

    /// The values of the form that does `action`.
    fn values(&self, action: &str) -> Values<'_> {
        Values::of(self.admin, action, self.rejected)
    }

    fn columns(&self, keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| self.admin.text(key)).collect()
    }

    async fn facts(&self) -> Result<Block, Error> {
        let (admin, user) = (self.admin, &self.account.user);
        let name = |key: &str| admin.text(key);
        let verified = match user.is_verified {
            true => Cell::good(name("admin-yes")),
            false => Cell::Text(name("admin-no")),
        };
        let mut facts = vec![
            (name("admin-state"), state(admin, self.account)),
            (name("admin-id"), Cell::Code(user.id.to_string())),
            (name("admin-email"), Cell::Text(user.email.clone())),
            (name("admin-user-verified"), verified),
            (name("admin-username"), Cell::of(user.username.as_ref())),
            (name("admin-role"), Cell::Text(user.role.as_str().to_owned())),
            (name("admin-created"), Cell::Text(Admin::minute(user.created_at))),
            (name("admin-last-login"), Cell::of(self.account.last_login_at.map(Admin::minute))),
        ];
        if let Some(id) = &self.account.external_id {
            facts.push((name("admin-user-external-id"), Cell::Code(id.clone())));
        }
        if let Some(saga) = sagas::of_user(&admin.app.db, &user.id).await? {
            facts.push((name("admin-user-saga"), Cell::Code(saga.state.as_str().to_owned())));
        }
        Ok(Block::Facts(Facts { heading: None, facts }))
    }

    async fn update_form(&self) -> Result<Block, Error> {
        const ACTION: &str = "update";
        let user = &self.account.user;
        let values = self.values(ACTION);
        let field = |name, label: &str, stored: &str, input| Field {
            name,
            label: self.admin.text(label),
            value: values.text(name, stored),
            input,
            ..Field::default()
        };
        let mut form = self.form("update", ACTION, "admin-save");
        form.heading = Some(self.admin.text("admin-user-update"));
        form.hidden.push(version(self.account.updated_at));
        let roles = Input::Choice(role_choices(self.admin).await?);
        let username = user.username.as_deref().unwrap_or_default();
        form.fields = vec![
            Field { is_required: true, ..field("email", "admin-email", &user.email, Input::Email) },
            Field {
                value: values.tick("is_verified", user.is_verified),
                ..field("is_verified", "admin-user-verified", "", Input::Checkbox)
            },
            field("username", "admin-username", username, Input::Text),
            Field {
                hint: Some(self.admin.text("admin-user-role-hint")),
                ..field("role", "admin-role", user.role.as_str(), roles)
            },
        ];
        Ok(Block::Form(form))
    }

    async fn modules(&self) -> Result<Vec<Block>, Error> {
        let (admin, tag) = (self.admin, self.admin.t.tag());
        let all = modules::list(&admin.app, self.id()).await?;
        let choices =
            all.iter().map(|one| (one.module.id.clone(), one.module.name(tag).to_owned()));
        let choices: Vec<_> = choices.collect();
        if choices.is_empty() {
            return Ok(vec![]);
        }
        let live = all.iter().filter_map(|one| Some((&one.module, one.grant.as_ref()?)));
        let rows = live.map(|(module, grant)| {
            let name = module.name(tag).to_owned();
            let withdraw = ("module", module.id.as_str());
            vec![
                Cell::link(&name, format!("/admin/modules/{}", module.id)),
                Cell::Text(Admin::minute(grant.valid_from)),
                Cell::of(grant.valid_until.map(Admin::minute)),
                Cell::Code(grant.granted_by.clone()),
                self.button("withdraw-module", withdraw, "admin-user-withdraw", &name),
            ]
        });
        let columns = ["admin-module", "admin-since", "admin-until", "admin-granted-by"];
        let current = Table {
            heading: admin.text("admin-modules"),
            columns: self.columns(&[&columns[..], &["admin-action"]].concat()),
            rows: rows.collect(),
            empty: admin.text("admin-user-no-modules"),
            next: None,
        };
        let mut form = self.form("grant", "grant", "admin-user-grant");
        form.heading = Some(admin.text("admin-user-grant-title"));
        form.fields = vec![
            Field {
                name: "module",
                label: admin.text("admin-module"),
                value: self.values("grant").text("module", ""),
                input: Input::Choice(choices),
                ..Field::default()
            },
            Field {
                name: "validUntil",
                label: admin.text("admin-user-grant-until"),
                hint: Some(admin.text("admin-user-grant-hint")),
                value: self.values("grant").text("validUntil", ""),
                input: Input::Date,
                ..Field::default()
            },
        ];
        let mut blocks = vec![Block::Table(current), Block::Form(form)];
        let history = modules::history(&admin.app, self.id()).await?;
        let ended: Vec<&ModuleGrant> =
            history.iter().filter(|grant| grant.closed_at.is_some()).take(super::ROWS).collect();
        if !ended.is_empty() {
            let rows = ended.into_iter().map(|grant| {
                vec![
                    Cell::Text(grant.module_id.clone()),
                    Cell::Text(Admin::minute(grant.valid_from)),
                    Cell::of(grant.valid_until.map(Admin::minute)),
                    Cell::Code(grant.granted_by.clone()),
                    grant.ended_by.clone().map_or(Cell::Nothing, Cell::Code),
                ]
            });
            blocks.push(Block::Table(Table {
                heading: admin.text("admin-user-history"),
                columns: self.columns(&[&columns[..], &["admin-ended-by"]].concat()),
                rows: rows.collect(),
                ..Table::default()
            }));
        }
        Ok(blocks)
    }

    async fn sessions(&self) -> Result<Vec<Block>, Error> {
        let admin = self.admin;
        let all = devices::list(&admin.app, self.id(), &Here::default()).await?;
        let row = |session: &OwnSession| {
            let device = [session.device.browser, session.device.system];
            let device: Vec<&str> = device.into_iter().flatten().collect();
            let client = session.client.as_ref();
            let name =
                client.map_or_else(|| admin.text("admin-user-browser"), |one| one.name.clone());
            let what = match client {
                Some(client) => Cell::link(&name, path_of_client(&client.id)),
                None => Cell::Text(name.clone()),
            };
            let end = match client {
                Some(_) => {
                    self.button("end-session", ("session", &session.id), "admin-user-end", &name)
                }
                None => Cell::Nothing,
            };
            vec![
                what,
                Cell::of((!device.is_empty()).then(|| device.join(", "))),
                Cell::of(session.address.as_ref()),
                Cell::Text(Admin::minute(session.created_at)),
                Cell::Text(Admin::minute(session.last_used_at)),
                end,
            ]
        };
        let table = Table {
            heading: admin.text("admin-user-sessions"),
            columns: self.columns(&[
                "admin-client",
                "admin-device",
                "admin-address",
                "admin-since",
                "admin-last-used",
                "admin-action",
            ]),
            rows: all.iter().map(row).collect(),
            empty: admin.text("admin-user-no-sessions"),
            next: None,
        };
        let mut form = self.form("log-out", "log-out", "admin-user-log-out");
        form.text = Some(admin.text("admin-user-log-out-text"));
        Ok(vec![Block::Table(table), Block::Form(form)])
    }

    async fn applications(&self) -> Result<Block, Error> {
        let admin = self.admin;
        let all = applications::list(&admin.app, self.id()).await?;
        let rows = all.iter().filter(|one| !one.consents.is_empty()).map(|one| {
            let scopes = one.consents.iter().map(|consent| consent.scope.to_string()).collect();
            let client = ("client", one.client_id.as_str());
            vec![
                Cell::link(one.name(), path_of_client(&one.client_id)),
                Cell::Lines(scopes),
                Cell::of(one.last_used_at.map(Admin::minute)),
                self.button("withdraw-consent", client, "admin-user-withdraw", one.name()),
            ]
        });
        Ok(Block::Table(Table {
            heading: admin.text("admin-user-consents"),
            columns: self.columns(&[
                "admin-client",
                "admin-scope",
                "admin-last-used",
                "admin-action",
            ]),
            rows: rows.collect(),
            empty: admin.text("admin-user-no-consents"),
            next: None,
        }))
    }

    /// The ways in which the user logs in.
    async fn login(&self) -> Result<Vec<Block>, Error> {
        let admin = self.admin;
        let overview = second_factors::overview(&admin.app, self.id()).await?;
        let rows = overview.factors.iter().map(|factor| {
            vec![
                Cell::Text(factor.name.clone()),
                Cell::Code(factor.kind.as_str().to_owned()),
                Cell::Text(Admin::minute(factor.created_at)),
                Cell::of(factor.last_used_at.map(Admin::minute)),
            ]
        });
        let factors = Table {
            heading: admin.text("admin-user-factors"),
            columns: self.columns(&["admin-name", "admin-kind", "admin-since", "admin-last-used"]),
            rows: rows.collect(),
            empty: admin.text("admin-user-no-factors"),
            next: None,
        };
        let has_factors = !overview.factors.is_empty();
        let mut blocks = vec![Block::Table(factors)];
        if has_factors {
            let mut reset = self.form("reset", "reset-factors", "admin-user-reset");
            let codes = [("count", overview.recovery_codes)];
            reset.text = Some(admin.t.with("admin-user-reset-text", &codes).into_owned());
            reset.fields = vec![confirmation(admin, "confirm_reset", "admin-user-reset-confirm")];
            reset.is_dangerous = true;
            blocks.push(Block::Form(reset));
        }
        let identities = identity::of_user(&admin.app, self.id()).await?;
        if !identities.is_empty() {
            let rows = identities.iter().map(|one| {
                let id = ("identity", one.id.as_str());
                vec![
                    Cell::Text(one.issuer.clone()),
                    Cell::Code(one.subject.clone()),
                    Cell::Text(Admin::minute(one.created_at)),
                    Cell::of(one.last_login_at.map(Admin::minute)),
                    self.button("unlink", id, "admin-user-unlink", &one.issuer),
                ]
            });
            blocks.push(Block::Table(Table {
                heading: admin.text("admin-user-identities"),
                columns: self.columns(&[
                    "admin-provider",
                    "admin-subject",
                    "admin-since",
                    "admin-last-login",
                    "admin-action",
                ]),
                rows: rows.collect(),
                ..Table::default()
            }));
        }
        let mut password = self.form("password", "password", "admin-user-password-set");
        password.heading = Some(admin.text("admin-user-password-title"));
        password.text = Some(admin.text("admin-user-password-text"));
        password.fields = vec![Field {
            name: "password",
            label: admin.text("admin-password"),
            hint: Some(admin.text("admin-user-password-hint")),
            input: Input::Password,
            ..Field::default()
        }];
        blocks.push(Block::Form(password));
        Ok(blocks)
    }

    /// To disable, enable and delete the user.
    fn ends(&self) -> [Block; 2] {
        let admin = self.admin;
        let is_enabled = self.account.user.disabled_at.is_none();
        let disable = ("admin-user-disable", "admin-user-disable-text");
        let enable = ("admin-user-enable", "admin-user-enable-text");
        let switch = switch(admin, is_enabled, disable, enable);
        let mut delete = self.form("delete", "delete", "admin-user-delete");
        delete.heading = Some(admin.text("admin-user-delete-title"));
        delete.text = Some(admin.text("admin-user-delete-text"));
        delete.hidden.push(version(self.account.updated_at));
        delete.fields = vec![confirmation(admin, "confirm_delete", "admin-user-delete-confirm")];
        delete.is_dangerous = true;
        [Block::Form(switch), Block::Form(delete)]
    }
}

/// The path of a client, whose id may be a URL.
fn path_of_client(id: &str) -> String {
    shared::path_of(AdminSection::Clients.path(), id)
}

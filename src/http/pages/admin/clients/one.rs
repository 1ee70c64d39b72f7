//! `/admin/clients/{id}`: one client, its metadata, its secret and its sessions.

use std::{collections::BTreeMap, time::Duration};

use poem::{Response, Result, handler, web::Path};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{PATH, above, common_fields, frameworks, snippet, source, state};
use crate::{
    api_error::ApiError,
    clock::Timestamp,
    error::Error,
    flows::{
        admin::clients::{self, policy},
        sessions::end as sessions,
    },
    http::{
        json::unique_members,
        pages::admin::{
            Admin, Content, Rejected,
            clients::snippets::Framework,
            shared::{
                READ, Values, action, asked, change_of, cut, deletion, is_ticked, lines,
                no_such_action, scope, shown_once, switch, user, yes_or_no,
            },
        },
        views::{AdminForm, AdminSection, Block, Cell, Facts, Field, FormMethod, Input, Table},
    },
    ids::ClientId,
    model::{
        client::{Client, Metadata, Source},
        session::SessionOverview,
    },
    storage::{sessions as session_rows, sessions::SessionFilter},
};

/// Shows a client.
#[handler]
pub async fn show(admin: Admin, Path(id): Path<ClientId>) -> Result<Response> {
    page(&admin, &id, None, &Rejected::default()).await
}

/// What a form of the page has done.
enum Done {
    /// The message that says it.
    Said(&'static str),
    /// The client was deleted.
    Deleted,
    /// A secret was generated.
    Secret(String),
}

/// Does what a form of the page says.
#[handler]
pub async fn submit(admin: Admin, Path(id): Path<ClientId>) -> Result<Response> {
    match act(&admin, &id).await {
        Ok(Done::Said(done)) => admin.done(&admin.path, done),
        Ok(Done::Deleted) => admin.done(PATH, "client-deleted"),
        Ok(Done::Secret(secret)) => page(&admin, &id, Some(secret), &Rejected::default()).await,
        Err(error) => page(&admin, &id, None, &Rejected::of(error)?).await,
    }
}

async fn act(admin: &Admin, id: &ClientId) -> Result<Done, Error> {
    let (app, actor) = (&admin.app, &admin.actor);
    match admin.given("action").unwrap_or_default() {
        "change" => {
            let changes = changes(admin)?;
            let change = |metadata: &Metadata| clients::merged(metadata, changes);
            let updated = clients::update(app, id, &admin.precondition()?, change, actor).await?;
            Ok(updated.1.map_or(Done::Said("client-changed"), Done::Secret))
        }
        "replace" => {
            let metadata = document(admin)?;
            let change = |_: &Metadata| policy::parse(metadata);
            let updated = clients::update(app, id, &admin.precondition()?, change, actor).await;
            let updated = updated.map_err(of_document)?;
            Ok(updated.1.map_or(Done::Said("client-changed"), Done::Secret))
        }
        "rotate" => {
            let seconds = admin.given("overlap").and_then(|seconds| seconds.parse().ok());
            let wrong = || Error::field("overlap", "must be a number of seconds");
            let overlap = Duration::from_secs(seconds.ok_or_else(wrong)?);
            let (_, secret) = clients::rotate_secret(app, id, overlap, actor).await?;
            Ok(Done::Secret(secret))
        }
        "end-secret" => {
            clients::end_old_secret(app, id, actor).await?;
            Ok(Done::Said("client-secret-ended"))
        }
        "disable" => {
            clients::disable(app, id, actor).await?;
            Ok(Done::Said("client-disabled"))
        }
        "enable" => {
            clients::enable(app, id, actor).await?;
            Ok(Done::Said("client-enabled"))
        }
        "revoke" => {
            sessions::close(app, &admin.given("session").unwrap_or_default().into(), actor).await?;
            Ok(Done::Said("client-session-revoked"))
        }
        "delete" => {
            admin.confirmed("confirm")?;
            clients::delete(app, id, &admin.precondition()?, actor).await?;
            Ok(Done::Deleted)
        }
        _ => Err(no_such_action()),
    }
}

/// The members that the fields of the form change; an empty field gives the default.
fn changes(admin: &Admin) -> Result<Map<String, Value>, Error> {
    let text = |name: &str| admin.given(name).map_or(Value::Null, Value::from);
    let several = |name: &str| match lines(admin, name) {
        none if none.is_empty() => Value::Null,
        lines => Value::from(lines),
    };
    let scope = scope(admin, "scope")?.non_empty();
    let members = [
        ("client_name", text("client_name")),
        ("redirect_uris", several("redirect_uris")),
        ("post_logout_redirect_uris", several("post_logout_redirect_uris")),
        ("scope", scope.map_or(Value::Null, Value::from)),
        ("client_uri", text("client_uri")),
        ("logo_uri", text("logo_uri")),
        ("consent", if is_ticked(admin, "first_party") { json!("implicit") } else { Value::Null }),
    ];
    Ok(members.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
}

/// All metadata as it was typed.
fn document(admin: &Admin) -> Result<Value, Error> {
    #[derive(Deserialize)]
    struct Members(#[serde(deserialize_with = "unique_members")] BTreeMap<String, Value>);
    let text = admin.given("metadata").unwrap_or_default();
    let read: Result<Members, _> = serde_json::from_str(text);
    let members =
        read.map_err(|error| Error::field("metadata", format!("must be a JSON object: {error}")))?;
    Ok(Value::from_iter(members.0))
}

/// The errors of the members of a document are those of its field.
fn of_document(error: Error) -> Error {
    let Error::Validation(fields) = error else { return error };
    let lines = fields.into_iter().map(|one| match one.field {
        "metadata" => one.message,
        field => format!("{field}: {}", one.message),
    });
    Error::field("metadata", lines.collect::<Vec<_>>().join("; "))
}

/// The page of a client; with its secret, if it was generated just now.
async fn page(
    admin: &Admin,
    id: &ClientId,
    secret: Option<String>,
    rejected: &Rejected,
) -> Result<Response> {
    let client = clients::by_id(&admin.app, id).await.map_err(ApiError::from)?;
    let mut blocks = vec![];
    blocks.extend(secret.map(|secret| shown_once(admin, "admin-client-secret", secret)));
    blocks.push(Block::Facts(facts(admin, &client)));
    let is_ours = matches!(client.source, Source::Operator | Source::Registration);
    if is_ours {
        let values = Values::of(admin, "change", rejected);
        blocks.push(Block::Form(AdminForm {
            id: "change",
            heading: Some(admin.text("admin-client-change")),
            text: Some(admin.text("admin-client-change-text")),
            action: admin.path.clone(),
            hidden: change_of("change", client.updated_at),
            fields: common_fields(admin, &values, &client.metadata),
            submit: admin.text("admin-save"),
            ..AdminForm::default()
        }));
        blocks.push(Block::Form(editor(admin, &client, rejected)));
        blocks.extend(secret_forms(admin, &client).into_iter().map(Block::Form));
    } else if client.source != Source::BuiltIn {
        blocks.push(Block::Text(admin.text("admin-client-managed")));
    }
    if client.source != Source::BuiltIn {
        let disable = ("admin-client-disable", "admin-client-disable-text");
        let enable = ("admin-client-enable", "admin-client-enable-text");
        let is_enabled = client.disabled_at.is_none();
        blocks.push(Block::Form(switch(admin, is_enabled, disable, enable)));
    }
    blocks.push(Block::Table(open_sessions(admin, &client).await?));
    let framework = asked(admin, "snippet").and_then(Framework::parse);
    blocks.push(Block::Form(AdminForm {
        id: "snippets",
        heading: Some(admin.text("admin-client-begin")),
        method: FormMethod::Get,
        action: admin.path.clone(),
        fields: vec![Field {
            name: "snippet",
            label: admin.text("admin-client-framework"),
            value: framework.map_or("", Framework::as_str).to_owned(),
            input: frameworks(),
            ..Field::default()
        }],
        submit: admin.text("admin-client-show-snippet"),
        ..AdminForm::default()
    }));
    blocks.extend(framework.map(|framework| Block::Code(snippet(admin, &client, framework))));
    if is_ours || client.source == Source::Document {
        blocks.push(Block::Form(deletion(
            admin,
            "delete",
            admin.text("admin-client-delete"),
            admin.text("admin-client-delete-text"),
            client.updated_at,
        )));
    }
    let content = Content {
        section: AdminSection::Clients,
        title: client.name().to_owned(),
        above: above(admin),
        blocks,
    };
    admin.show_with(content, rejected)
}

/// Members of the metadata that have a name in the reader's language. The others are shown by the
/// names that RFC 7591 and its extensions give them.
const NAMES: [(&str, &str); 27] = [
    ("client_name", "admin-client-name"),
    ("scope", "admin-client-scope"),
    ("redirect_uris", "admin-client-redirect-uris"),
    ("post_logout_redirect_uris", "admin-client-post-logout"),
    ("grant_types", "admin-client-grants"),
    ("token_endpoint_auth_method", "admin-client-authentication"),
    ("application_type", "admin-client-application-type"),
    ("jwks_uri", "admin-client-jwks-uri"),
    ("subject_type", "admin-client-subject-type"),
    ("claims_in_id_token", "admin-client-claims-in-id-token"),
    ("require_pushed_authorization_requests", "admin-client-par"),
    ("dpop_bound_access_tokens", "admin-client-dpop"),
    ("default_max_age", "admin-client-max-age"),
    ("backchannel_logout_uri", "admin-client-backchannel"),
    ("client_uri", "admin-client-uri"),
    ("logo_uri", "admin-client-logo"),
    ("policy_uri", "admin-client-policy"),
    ("tos_uri", "admin-client-terms"),
    ("contacts", "admin-client-contacts"),
    ("consent", "admin-client-consent"),
    ("require_second_factor", "admin-client-second-factor"),
    ("require_verified_email", "admin-client-verified-email"),
    ("resources", "admin-client-resources"),
    ("introspection_audiences", "admin-client-introspection"),
    ("allowed_origins", "admin-client-origins"),
    ("access_ttl", "admin-client-access-ttl"),
    ("refresh_idle_ttl", "admin-client-idle-ttl"),
];

fn facts(admin: &Admin, client: &Client) -> Facts {
    let moment = |at: Option<Timestamp>| Cell::of(at.map(Admin::minute));
    let mut facts = vec![
        (admin.text("admin-client-id"), Cell::Code(client.id.to_string())),
        (admin.text("admin-client-state"), state(admin, client)),
        (admin.text("admin-client-source"), Cell::Text(source(admin, client.source))),
        (admin.text("admin-client-created"), Cell::Text(Admin::minute(client.created_at))),
        (admin.text("admin-client-updated"), Cell::Text(Admin::minute(client.updated_at))),
    ];
    let old = old_secret(admin, client);
    for (key, at) in [
        ("admin-client-disabled-at", client.disabled_at),
        ("admin-client-expires-at", client.expires_at),
        ("admin-client-old-secret", old),
    ] {
        if at.is_some() {
            facts.push((admin.text(key), moment(at)));
        }
    }
    for (member, value) in clients::described(&client.metadata) {
        let known = NAMES.iter().find(|(name, _)| *name == member);
        let cell = match value {
            Value::String(text) if text.is_empty() => Cell::Nothing,
            Value::String(text) => Cell::Text(text),
            Value::Bool(is_on) => Cell::Text(yes_or_no(admin, is_on)),
            Value::Array(all) if all.iter().all(Value::is_string) => {
                Cell::Lines(all.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            other => Cell::Code(other.to_string()),
        };
        facts.push((known.map_or(member, |(_, key)| admin.text(key)), cell));
    }
    Facts { heading: None, facts }
}

/// When the previous secret expires.
fn old_secret(admin: &Admin, client: &Client) -> Option<Timestamp> {
    let expires_at = client.secrets.get(1).and_then(|old| old.expires_at);
    expires_at.filter(|at| *at > admin.app.clock.now())
}

/// All metadata as the API has it.
fn editor(admin: &Admin, client: &Client, rejected: &Rejected) -> AdminForm {
    let values = Values::of(admin, "replace", rejected);
    let stored = Value::Object(clients::described(&client.metadata));
    AdminForm {
        id: "replace",
        heading: Some(admin.text("admin-client-document")),
        text: Some(admin.text("admin-client-document-text")),
        action: admin.path.clone(),
        hidden: change_of("replace", client.updated_at),
        fields: vec![Field {
            name: "metadata",
            label: admin.text("admin-client-metadata"),
            value: values.text("metadata", &format!("{stored:#}")),
            input: Input::Lines,
            is_required: true,
            ..Field::default()
        }],
        submit: admin.text("admin-save"),
        ..AdminForm::default()
    }
}

fn secret_forms(admin: &Admin, client: &Client) -> Vec<AdminForm> {
    if !client.metadata.token_endpoint_auth_method.has_secret() {
        return vec![];
    }
    let overlaps = [
        ("86400", "admin-client-overlap-day"),
        ("604800", "admin-client-overlap-week"),
        ("2592000", "admin-client-overlap-month"),
        ("0", "admin-client-overlap-none"),
    ];
    let mut forms = vec![AdminForm {
        id: "rotate",
        heading: Some(admin.text("admin-client-rotate")),
        text: Some(admin.text("admin-client-rotate-text")),
        action: admin.path.clone(),
        hidden: action("rotate"),
        fields: vec![Field {
            name: "overlap",
            label: admin.text("admin-client-overlap"),
            input: Input::Choice(
                overlaps.map(|(seconds, key)| (seconds.to_owned(), admin.text(key))).into(),
            ),
            ..Field::default()
        }],
        submit: admin.text("admin-client-rotate-submit"),
        ..AdminForm::default()
    }];
    if let Some(at) = old_secret(admin, client) {
        let until = Admin::minute(at);
        let text = admin.t.with("admin-client-end-secret-text", &[("until", until.as_str())]);
        forms.push(AdminForm {
            id: "end-secret",
            heading: Some(admin.text("admin-client-end-secret")),
            text: Some(text.into_owned()),
            action: admin.path.clone(),
            hidden: action("end-secret"),
            submit: admin.text("admin-client-end-secret-submit"),
            is_dangerous: true,
            ..AdminForm::default()
        });
    }
    forms
}

async fn open_sessions(admin: &Admin, client: &Client) -> Result<Table> {
    let filter = SessionFilter {
        user_id: None,
        subject: None,
        client_id: Some(client.id.clone()),
        live: Some(true),
    };
    let app = &admin.app;
    let before = asked(admin, "before").unwrap_or(crate::model::AFTER_EVERY_ID);
    let found = session_rows::page(&app.db, &filter, before, READ, app.clock.now()).await;
    let mut found = found.map_err(|error| ApiError::from(Error::from(error)))?;
    let next = cut(admin, &mut found, "before", |session| session.id.to_string());
    let row = |session: &SessionOverview| {
        vec![
            user(session.user_id.as_deref(), &session.subject),
            Cell::Text(Admin::minute(session.created_at)),
            Cell::Text(Admin::minute(session.rotated_at)),
            Cell::of(session.address.clone()),
            Cell::Button {
                action: admin.path.clone(),
                hidden: vec![("action", "revoke".to_owned()), ("session", session.id.to_string())],
                label: admin.text("admin-client-revoke"),
                subject: session.subject.clone(),
            },
        ]
    };
    Ok(Table {
        heading: admin.text("admin-client-sessions"),
        columns: [
            "admin-client-session-user",
            "admin-client-session-since",
            "admin-client-session-used",
            "admin-client-session-address",
            "admin-client-session-action",
        ]
        .map(|key| admin.text(key))
        .into(),
        rows: found.iter().map(row).collect(),
        empty: admin.text("admin-client-no-sessions"),
        next,
    })
}

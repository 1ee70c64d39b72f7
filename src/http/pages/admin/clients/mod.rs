//! `/admin/clients`: the registered clients, and a new one. [`one`] is the page of each.

mod one;
mod snippets;

use poem::{Response, Result, handler};

pub use self::one::{show, submit};
use self::snippets::Framework;
use super::{
    Admin, Content, Rejected,
    shared::{READ, Values, asked, cut, is_ticked, lines, path_of, scope, shown_once},
};
use crate::{
    api_error::ApiError,
    error::Error,
    flows::admin::clients,
    http::views::{AdminForm, AdminSection, Block, Cell, Code, Field, FormMethod, Input, Table},
    model::client::{ApplicationType, AuthMethod, Client, Consent, GrantType, Metadata, Source},
    storage::{clients as rows, clients::ClientFilter},
};

const PATH: &str = "/admin/clients";

/// Lists clients in order of their ids.
#[handler]
pub async fn list(admin: Admin) -> Result<Response> {
    let filter = ClientFilter {
        source: asked(&admin, "source").and_then(Source::parse),
        disabled: asked(&admin, "disabled").and_then(|text| text.parse().ok()),
    };
    let id = asked(&admin, "id");
    let found = match id {
        Some(id) => {
            rows::by_id(&admin.app.db, &id.into()).await.map(|found| found.into_iter().collect())
        }
        None => {
            let after = asked(&admin, "after").unwrap_or_default();
            rows::page(&admin.app.db, &filter, after, READ).await
        }
    };
    let mut found: Vec<Client> = found.map_err(|error| ApiError::from(Error::from(error)))?;
    let next = cut(&admin, &mut found, "after", |client| client.id.to_string());
    let filters = AdminForm {
        id: "filters",
        method: FormMethod::Get,
        action: PATH.to_owned(),
        fields: vec![
            Field {
                name: "id",
                label: admin.text("admin-client-id"),
                value: id.unwrap_or_default().to_owned(),
                ..Field::default()
            },
            Field {
                name: "source",
                label: admin.text("admin-client-source"),
                value: filter.source.map_or("", Source::as_str).to_owned(),
                input: Input::Choice(sources(&admin)),
                ..Field::default()
            },
            Field {
                name: "disabled",
                label: admin.text("admin-client-state"),
                value: filter.disabled.map(|one| one.to_string()).unwrap_or_default(),
                input: Input::Choice(vec![
                    (String::new(), admin.text("admin-client-any")),
                    ("false".to_owned(), admin.text("admin-client-enabled")),
                    ("true".to_owned(), admin.text("admin-client-disabled")),
                ]),
                ..Field::default()
            },
        ],
        submit: admin.text("admin-client-filter"),
        ..AdminForm::default()
    };
    let row = |client: &Client| {
        vec![
            Cell::link(client.name(), path_of(PATH, &client.id)),
            Cell::Code(client.id.to_string()),
            Cell::Text(source(&admin, client.source)),
            Cell::Lines(grants(&client.metadata)),
            state(&admin, client),
            Cell::Text(Admin::minute(client.created_at)),
        ]
    };
    let table = Table {
        heading: admin.text("admin-clients"),
        columns: [
            "admin-client-name",
            "admin-client-id",
            "admin-client-source",
            "admin-client-grants",
            "admin-client-state",
            "admin-client-created",
        ]
        .map(|key| admin.text(key))
        .into(),
        rows: found.iter().map(row).collect(),
        empty: admin.text("admin-client-none"),
        next,
    };
    let links = vec![
        (admin.text("admin-client-new"), format!("{PATH}/new")),
        (admin.text("admin-issuers"), super::issuers::PATH.to_owned()),
    ];
    admin.show(Content {
        section: AdminSection::Clients,
        title: admin.text("admin-clients"),
        above: vec![],
        blocks: vec![Block::Links(links), Block::Form(filters), Block::Table(table)],
    })
}

fn sources(admin: &Admin) -> Vec<(String, String)> {
    let all = ["operator", "file", "registration", "document", "built_in"];
    let all = all.into_iter().filter_map(Source::parse);
    let any = (String::new(), admin.text("admin-client-any"));
    let one = |one: Source| (one.as_str().to_owned(), source(admin, one));
    [any].into_iter().chain(all.map(one)).collect()
}

/// How a client was registered.
fn source(admin: &Admin, source: Source) -> String {
    admin.text(match source {
        Source::BuiltIn => "admin-client-built-in",
        Source::Operator => "admin-client-by-operator",
        Source::File => "admin-client-by-file",
        Source::Registration => "admin-client-by-registration",
        Source::Document => "admin-client-by-document",
    })
}

fn state(admin: &Admin, client: &Client) -> Cell {
    match client.disabled_at {
        None => Cell::good(admin.text("admin-client-enabled")),
        Some(_) => Cell::bad(admin.text("admin-client-disabled")),
    }
}

/// The grant types, without the prefix of those that are URNs.
fn grants(metadata: &Metadata) -> Vec<String> {
    let short = |grant: &GrantType| {
        let name = grant.as_str();
        name.rsplit_once(':').map_or(name, |(_, short)| short).to_owned()
    };
    metadata.grant_types.iter().map(short).collect()
}

/// The page that creates a client.
#[handler]
pub async fn new(admin: Admin) -> Result<Response> {
    admin.show(creation(&admin, &Rejected::default()))
}

/// Creates a client. The page shows its secret once, and how an application begins.
#[handler]
pub async fn create(admin: Admin) -> Result<Response> {
    let created = match requested(&admin) {
        Ok((id, metadata)) => {
            clients::create(&admin.app, Some(id.into()), metadata, None, &admin.actor).await
        }
        Err(error) => Err(error),
    };
    let (client, secret) = match created {
        Ok(created) => created.resource,
        Err(error) => {
            let rejected = Rejected::of(error)?;
            return admin.show_with(creation(&admin, &rejected), &rejected);
        }
    };
    let path = path_of(PATH, &client.id);
    let mut blocks = vec![Block::Text(admin.text("admin-client-made"))];
    blocks.extend(secret.map(|secret| shown_once(&admin, "admin-client-secret", secret)));
    let framework = admin.given("framework").and_then(Framework::parse);
    blocks.push(Block::Code(snippet(&admin, &client, framework.unwrap_or(Framework::Curl))));
    blocks.push(Block::Links(vec![(admin.text("admin-client-open"), path)]));
    admin.show(Content {
        section: AdminSection::Clients,
        title: client.name().to_owned(),
        above: above(&admin),
        blocks,
    })
}

fn above(admin: &Admin) -> Vec<(String, String)> {
    vec![(admin.text("admin-clients"), PATH.to_owned())]
}

fn snippet(admin: &Admin, client: &Client, framework: Framework) -> Code {
    Code {
        heading: admin.text("admin-client-snippet"),
        text: framework.name().to_owned(),
        code: framework.snippet(&admin.app.config.server.issuer, client),
    }
}

fn frameworks() -> Input {
    let one = |one: Framework| (one.as_str().to_owned(), one.name().to_owned());
    Input::Choice(Framework::ALL.into_iter().map(one).collect())
}

/// What a new client is for. It decides about grant types and authentication.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Web,
    Browser,
    Native,
    Service,
    Device,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Web, Self::Browser, Self::Native, Self::Service, Self::Device];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Browser => "browser",
            Self::Native => "native",
            Self::Service => "service",
            Self::Device => "device",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }

    fn text(self, admin: &Admin) -> String {
        admin.text(match self {
            Self::Web => "admin-client-kind-web",
            Self::Browser => "admin-client-kind-browser",
            Self::Native => "admin-client-kind-native",
            Self::Service => "admin-client-kind-service",
            Self::Device => "admin-client-kind-device",
        })
    }

    fn metadata(self) -> Metadata {
        let grant_types = match self {
            Self::Service => vec![GrantType::ClientCredentials],
            Self::Device => vec![GrantType::DeviceCode, GrantType::RefreshToken],
            _ => vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
        };
        let token_endpoint_auth_method = match self {
            Self::Web | Self::Service => AuthMethod::ClientSecretBasic,
            _ => AuthMethod::None,
        };
        let is_native = self == Self::Native;
        Metadata {
            grant_types,
            token_endpoint_auth_method,
            application_type: if is_native {
                ApplicationType::Native
            } else {
                ApplicationType::Web
            },
            ..Metadata::default()
        }
    }
}

/// The client that a form describes.
fn requested(admin: &Admin) -> Result<(String, Metadata), Error> {
    let kind = admin.given("kind").and_then(Kind::parse);
    let kind = kind.ok_or_else(|| Error::field("kind", "must be one of the list"))?;
    let metadata = Metadata {
        client_name: admin.given("client_name").unwrap_or_default().to_owned(),
        scope: scope(admin, "scope")?,
        redirect_uris: lines(admin, "redirect_uris"),
        post_logout_redirect_uris: lines(admin, "post_logout_redirect_uris"),
        client_uri: admin.given("client_uri").map(str::to_owned),
        logo_uri: admin.given("logo_uri").map(str::to_owned),
        claims_in_id_token: is_ticked(admin, "claims_in_id_token"),
        consent: if is_ticked(admin, "first_party") {
            Consent::Implicit
        } else {
            Consent::Required
        },
        ..kind.metadata()
    };
    // Always given, so that a form that is sent twice creates one client.
    Ok((admin.given("id").unwrap_or_default().to_owned(), metadata))
}

fn creation(admin: &Admin, rejected: &Rejected) -> Content {
    let values = Values::of(admin, "create", rejected);
    let kinds = Kind::ALL.into_iter().map(|kind| (kind.as_str().to_owned(), kind.text(admin)));
    let mut fields = vec![
        Field {
            name: "id",
            label: admin.text("admin-client-id"),
            hint: Some(admin.text("admin-client-id-hint")),
            value: values.text("id", ""),
            is_required: true,
            ..Field::default()
        },
        Field {
            name: "kind",
            label: admin.text("admin-client-kind"),
            value: values.text("kind", ""),
            input: Input::Choice(kinds.collect()),
            ..Field::default()
        },
        Field {
            name: "framework",
            label: admin.text("admin-client-framework"),
            hint: Some(admin.text("admin-client-framework-hint")),
            value: values.text("framework", ""),
            input: frameworks(),
            ..Field::default()
        },
    ];
    fields.extend(common_fields(admin, &values, &Metadata::default()));
    fields.push(Field {
        name: "claims_in_id_token",
        label: admin.text("admin-client-claims-in-id-token"),
        value: values.tick("claims_in_id_token", true),
        input: Input::Checkbox,
        ..Field::default()
    });
    Content {
        section: AdminSection::Clients,
        title: admin.text("admin-client-new"),
        above: above(admin),
        blocks: vec![Block::Form(AdminForm {
            id: "create",
            action: format!("{PATH}/new"),
            hidden: super::shared::action("create"),
            fields,
            submit: admin.text("admin-client-create"),
            ..AdminForm::default()
        })],
    }
}

/// The fields that most clients need.
fn common_fields(admin: &Admin, values: &Values<'_>, known: &Metadata) -> Vec<Field> {
    let text = |name, key, value: &str| Field {
        name,
        label: admin.text(key),
        value: values.text(name, value),
        ..Field::default()
    };
    let several = |name, key, value: &[String]| Field {
        name,
        label: admin.text(key),
        hint: Some(admin.text("admin-client-one-per-line")),
        value: values.lines(name, value),
        input: Input::Lines,
        ..Field::default()
    };
    let or_none = |uri: &Option<String>| uri.clone().unwrap_or_default();
    vec![
        text("client_name", "admin-client-name", &known.client_name),
        several("redirect_uris", "admin-client-redirect-uris", &known.redirect_uris),
        several(
            "post_logout_redirect_uris",
            "admin-client-post-logout",
            &known.post_logout_redirect_uris,
        ),
        Field {
            hint: Some(admin.text("admin-client-scope-hint")),
            ..text("scope", "admin-client-scope", &known.scope.to_string())
        },
        text("client_uri", "admin-client-uri", &or_none(&known.client_uri)),
        text("logo_uri", "admin-client-logo", &or_none(&known.logo_uri)),
        Field {
            name: "first_party",
            label: admin.text("admin-client-first-party"),
            value: values.tick("first_party", known.consent == Consent::Implicit),
            input: Input::Checkbox,
            ..Field::default()
        },
    ]
}

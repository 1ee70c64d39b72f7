//! An operation of OAuth's endpoints, declared once: its route, its method, its handler, and its
//! description in the OpenAPI document. Typed requests and responses give the schemas; parsing them
//! is the handler's.

use std::{collections::HashMap, sync::OnceLock};

use poem::{EndpointExt, IntoEndpoint, Response, endpoint::BoxEndpoint, http::Method};
use poem_openapi::{
    Object, Tags,
    registry::{
        MetaApi, MetaHeader, MetaMediaType, MetaOAuthFlow, MetaOAuthFlows, MetaOAuthScope,
        MetaOperation, MetaOperationParam, MetaParamIn, MetaPath, MetaRequest, MetaResponse,
        MetaResponses, MetaSchema, MetaSchemaRef, MetaSecurityScheme, Registry,
    },
    types::Type,
};
use serde_json::{Value, json};

use super::{api::DocumentError, cors::Origins};
use crate::{api_error::ErrorBody, oauth::requests::ClientParameters};

/// How the caller of an operation authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// A client, which may be public.
    AnyClient,
    /// A confidential client.
    ConfidentialClient,
    /// An access token.
    AccessToken,
    /// An access token with the scope `openid`.
    OpenId,
    /// An initial access token (RFC 7591 §3), if the deployment demands one.
    InitialAccessToken,
    /// A registration access token (RFC 7592 §1.2).
    RegistrationAccessToken,
}

/// The security schemes of the document.
pub const ACCESS_TOKEN: &str = "accessToken";
pub const OAUTH2: &str = "oauth2";
pub const CLIENT_SECRET: &str = "clientSecret";
const REGISTRATION_TOKEN: &str = "registrationToken";

const FORM: &str = "application/x-www-form-urlencoded";

/// An error of OAuth's endpoints (RFC 6749 §5.2).
#[derive(Object)]
#[oai(rename = "OAuthError")]
struct OAuthErrorBody {
    /// The error code.
    error: String,
    /// What is wrong and what to do, for developers.
    error_description: String,
    /// The `X-Request-Id` of this response; the server's log has the request under it.
    request_id: Option<String>,
}

/// See the text of the file.
pub struct Operation {
    path: &'static str,
    meta: MetaOperation,
    register: Vec<fn(&mut Registry)>,
    endpoint: BoxEndpoint<'static, Response>,
    origins: Option<Origins>,
    any_method: bool,
}

impl Operation {
    /// `path` is written as in the document: `/oauth2/register/{client_id}`.
    pub fn new<E>(
        method: Method,
        path: &'static str,
        operation_id: &'static str,
        tag: super::api::Tag,
        endpoint: E,
    ) -> Self
    where
        E: IntoEndpoint,
        E::Endpoint: poem::Endpoint<Output = Response> + 'static,
    {
        Self {
            path,
            meta: MetaOperation {
                method,
                tags: vec![tag.name()],
                summary: None,
                description: None,
                external_docs: None,
                params: vec![],
                request: None,
                responses: MetaResponses { responses: vec![] },
                deprecated: false,
                security: vec![],
                operation_id: Some(operation_id),
                code_samples: vec![],
            },
            register: vec![],
            endpoint: endpoint.into_endpoint().boxed(),
            origins: None,
            any_method: false,
        }
    }

    /// The summary and the description.
    pub fn about(mut self, summary: &'static str, description: &'static str) -> Self {
        self.meta.summary = Some(summary);
        self.meta.description = Some(description);
        self
    }

    /// The operation answers every method.
    pub fn every_method(mut self) -> Self {
        self.any_method = true;
        self
    }

    /// Pages of these origins may call the operation.
    pub fn cross_origin(mut self, origins: Origins) -> Self {
        self.origins = Some(origins);
        self
    }

    /// How the caller authenticates.
    pub fn security(mut self, security: Security) -> Self {
        let scheme = |name| HashMap::from([(name, vec![])]);
        self.meta.security = match security {
            Security::AnyClient => vec![scheme(CLIENT_SECRET), HashMap::new()],
            Security::ConfidentialClient => vec![scheme(CLIENT_SECRET)],
            Security::AccessToken => vec![scheme(ACCESS_TOKEN)],
            Security::OpenId => {
                vec![scheme(ACCESS_TOKEN), HashMap::from([(OAUTH2, vec!["openid"])])]
            }
            Security::InitialAccessToken => vec![scheme(REGISTRATION_TOKEN), HashMap::new()],
            Security::RegistrationAccessToken => vec![scheme(REGISTRATION_TOKEN)],
        };
        match security {
            Security::AnyClient | Security::ConfidentialClient => self.form::<ClientParameters>(),
            _ => self,
        }
    }

    /// A parameter of the path.
    pub fn path_parameter(mut self, name: &str, description: &str) -> Self {
        self.meta.params.push(MetaOperationParam {
            name: name.to_owned(),
            schema: text(),
            in_type: MetaParamIn::Path,
            description: Some(description.to_owned()),
            required: true,
            deprecated: false,
            explode: true,
            style: None,
        });
        self
    }

    /// The parameters of the query: the fields of a typed request.
    pub fn query<T: Type>(mut self) -> Self {
        let fields = fields_of::<T>();
        self.meta.params.extend(fields.properties.into_iter().map(|(name, mut schema)| {
            let description = schema.description.take().map(str::to_owned);
            MetaOperationParam {
                name: name.to_owned(),
                schema: MetaSchemaRef::Inline(Box::new(schema)),
                in_type: MetaParamIn::Query,
                description,
                required: fields.required.contains(&name),
                deprecated: false,
                explode: true,
                style: None,
            }
        }));
        self
    }

    /// The parameters of the form: the fields of one or more typed requests.
    pub fn form<T: Type>(mut self) -> Self {
        let fields = fields_of::<T>();
        let content = self.meta.request.take().map(|request| request.content).unwrap_or_default();
        let form = content.into_iter().find_map(|media| match media.schema {
            MetaSchemaRef::Inline(form) => Some(*form),
            MetaSchemaRef::Reference(_) => None,
        });
        let mut form = form.unwrap_or_else(|| MetaSchema::new("object"));
        for (name, mut schema) in fields.properties {
            // Swagger UI fills a field without an example with the word "string"; an empty field
            // counts as absent.
            schema.example = match schema.ty {
                "string" if schema.enum_items.is_empty() => Some("".into()),
                "array" => Some(json!([])),
                _ => None,
            };
            form.properties.push((name, MetaSchemaRef::Inline(Box::new(schema))));
        }
        form.required.extend(fields.required);
        let required = !form.required.is_empty();
        let schema = MetaSchemaRef::Inline(Box::new(form));
        let content = vec![MetaMediaType { content_type: FORM, schema }];
        self.meta.request = Some(MetaRequest { description: None, content, required });
        self
    }

    /// The example of a field of the form.
    pub fn example(mut self, field: &str, example: impl Into<Value>) -> Self {
        let example = example.into();
        let content = self.meta.request.iter_mut().flat_map(|request| &mut request.content);
        for media in content {
            let MetaSchemaRef::Inline(form) = &mut media.schema else { continue };
            for (name, property) in &mut form.properties {
                if let MetaSchemaRef::Inline(property) = property
                    && *name == field
                {
                    property.example = Some(example.clone());
                }
            }
        }
        self
    }

    /// A JSON body.
    pub fn json_body<T: Type>(mut self) -> Self {
        self.register.push(T::register);
        let content =
            vec![MetaMediaType { content_type: "application/json", schema: T::schema_ref() }];
        self.meta.request = Some(MetaRequest { description: None, content, required: true });
        self
    }

    /// A response with a JSON body.
    pub fn json<T: Type>(mut self, status: u16, description: &'static str) -> Self {
        self.register.push(T::register);
        self.response(status, description, &[("application/json", T::schema_ref())])
    }

    /// Registers the schema of a response that is no plain JSON.
    pub fn registering<T: Type>(mut self) -> Self {
        self.register.push(T::register);
        self
    }

    /// A response without a body.
    pub fn empty(self, status: u16, description: &'static str) -> Self {
        self.response(status, description, &[])
    }

    /// A response with bodies of these media types, besides those that the status already has.
    pub fn response(
        mut self,
        status: u16,
        description: &'static str,
        content: &[(&'static str, MetaSchemaRef)],
    ) -> Self {
        let content = content.iter().map(|&(content_type, ref schema)| MetaMediaType {
            content_type,
            schema: schema.clone(),
        });
        let responses = &mut self.meta.responses.responses;
        match responses.iter_mut().find(|response| response.status == Some(status)) {
            Some(response) => response.content.extend(content),
            None => responses.push(MetaResponse {
                description,
                status: Some(status),
                status_range: None,
                content: content.collect(),
                headers: vec![],
            }),
        }
        self
    }

    /// A header of a response that was declared before.
    pub fn header(mut self, status: u16, name: &str, description: &str) -> Self {
        let mut responses = self.meta.responses.responses.iter_mut();
        if let Some(response) = responses.find(|response| response.status == Some(status)) {
            response.headers.push(MetaHeader {
                name: name.to_owned(),
                description: Some(description.to_owned()),
                required: false,
                deprecated: false,
                schema: text(),
            });
        }
        self
    }

    /// Errors in OAuth's form, with the usual descriptions.
    pub fn errors(self, statuses: &[u16]) -> Self {
        statuses
            .iter()
            .fold(self, |operation, status| operation.error(*status, usual_description(*status)))
    }

    /// An error in OAuth's form.
    pub fn error(self, status: u16, description: &'static str) -> Self {
        self.json::<OAuthErrorBody>(status, description)
    }

    /// Errors in the JSON API's form, with the usual descriptions.
    pub fn api_errors(self, statuses: &[u16]) -> Self {
        statuses.iter().fold(self, |operation, status| {
            operation.json::<ErrorBody>(*status, usual_description(*status))
        })
    }
}

const fn usual_description(status: u16) -> &'static str {
    match status {
        400 => "Invalid request; see the error.",
        401 => "Authentication failed; see WWW-Authenticate.",
        403 => "Access denied.",
        429 => "Too many requests; see Retry-After.",
        503 => "Temporarily unavailable; see Retry-After.",
        _ => "Error.",
    }
}

/// A text.
pub fn text() -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")))
}

/// An HTML page.
pub fn page() -> (&'static str, MetaSchemaRef) {
    ("text/html", text())
}

/// An object whose members are specified elsewhere.
pub fn object() -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(MetaSchema::new("object")))
}

struct Fields {
    properties: Vec<(&'static str, MetaSchema)>,
    required: Vec<&'static str>,
}

/// The fields of a typed request, each with its schema written out: parameters have no components.
fn fields_of<T: Type>() -> Fields {
    let mut registry = Registry::new();
    let request = registry.create_fake_schema::<T>();
    let property = |schema: MetaSchemaRef| match schema {
        MetaSchemaRef::Reference(name) => registry.schemas.get(&name).cloned(),
        MetaSchemaRef::Inline(schema) => match schema.all_of.first() {
            Some(MetaSchemaRef::Reference(name)) => {
                let values = registry.schemas.get(name).cloned();
                values.map(|values| MetaSchema { description: schema.description, ..values })
            }
            _ => Some(*schema),
        },
    };
    let properties = request.properties.clone().into_iter();
    let properties = properties
        .map(|(name, schema)| {
            let schema = property(schema).unwrap_or(MetaSchema::ANY);
            // Absent is what an empty list is.
            (name, MetaSchema { default: None, rust_typename: None, ..schema })
        })
        .collect();
    Fields { properties, required: request.required }
}

/// Operations as the OpenAPI document lists them: by path, in their order.
pub fn describe(operations: Vec<Operation>) -> MetaApi {
    let mut paths: Vec<MetaPath> = vec![];
    for operation in operations {
        match paths.iter_mut().find(|known| known.path == operation.path) {
            Some(known) => known.operations.push(operation.meta),
            None => paths.push(MetaPath {
                path: operation.path.to_owned(),
                operations: vec![operation.meta],
            }),
        }
    }
    MetaApi { paths }
}

/// Registers the schemas of the operations.
pub fn register(operations: &[Operation], registry: &mut Registry) {
    for operation in operations {
        for register in &operation.register {
            register(registry);
        }
    }
}

/// What one path answers.
pub struct Path {
    /// As the router writes it: `/oauth2/register/:client_id`.
    pub route: String,
    pub origins: Option<Origins>,
    pub endpoint: PathEndpoint,
}

/// See [`Operation::every_method`].
pub enum PathEndpoint {
    ByMethod(Vec<(Method, BoxEndpoint<'static, Response>)>),
    AnyMethod(BoxEndpoint<'static, Response>),
}

/// Operations as the router needs them: by path, in their order.
pub fn routes(operations: Vec<Operation>) -> Vec<Path> {
    let mut paths: Vec<Path> = vec![];
    for operation in operations {
        let route = operation.path.replace('{', ":").replace('}', "");
        let Operation { endpoint, origins, meta, .. } = operation;
        if operation.any_method {
            paths.push(Path { route, origins, endpoint: PathEndpoint::AnyMethod(endpoint) });
            continue;
        }
        let method = (meta.method, endpoint);
        match paths.iter_mut().find(|known| known.route == route) {
            Some(Path { endpoint: PathEndpoint::ByMethod(methods), .. }) => methods.push(method),
            _ => {
                paths.push(Path { route, origins, endpoint: PathEndpoint::ByMethod(vec![method]) });
            }
        }
    }
    paths
}

/// Registers the security schemes of OAuth's endpoints.
pub fn register_security_schemes(registry: &mut Registry) {
    const NOTHING: MetaSecurityScheme = MetaSecurityScheme {
        ty: "http",
        description: None,
        name: None,
        key_in: None,
        scheme: None,
        bearer_format: None,
        flows: None,
        openid_connect_url: None,
    };
    registry.create_security_scheme(
        REGISTRATION_TOKEN,
        MetaSecurityScheme {
            scheme: Some("bearer"),
            description: Some(
                "An initial access token (`propusk client invite`) to register, the registration access token to manage a \
                 registration.",
            ),
            ..NOTHING
        },
    );
    registry.create_security_scheme(
        CLIENT_SECRET,
        MetaSecurityScheme {
            scheme: Some("basic"),
            description: Some("The client's id and secret (`client_secret_basic`)."),
            ..NOTHING
        },
    );
    let scope = |name, description| MetaOAuthScope { name, description: Some(description) };
    registry.create_security_scheme(
        OAUTH2,
        MetaSecurityScheme {
            ty: "oauth2",
            description: Some(
                "Log in through the pages, as an application would: authorization code with PKCE. The client of this page is \
                 public.",
            ),
            flows: Some(MetaOAuthFlows {
                implicit: None,
                password: None,
                client_credentials: None,
                authorization_code: Some(MetaOAuthFlow {
                    authorization_url: Some("/oauth2/authorize"),
                    token_url: Some("/oauth2/token"),
                    refresh_url: None,
                    scopes: vec![
                        scope("openid", "Know who you are"),
                        scope("profile", "See your username"),
                        scope("email", "See your email address"),
                    ],
                }),
            }),
            ..NOTHING
        },
    );
}

/// The OpenAPI document in JSON, with the URLs of this issuer that Swagger UI logs in at. It is
/// built once in a process: deriving it takes longer than everything else that a start does, and
/// the tests start a thousand servers.
///
/// # Errors
/// As [`document`](super::api::document), or the document has no such security scheme.
pub fn document_of(issuer: &str) -> Result<String, DocumentError> {
    // A reserved host name (RFC 2606 §2).
    const ANY_ISSUER: &str = "https://issuer.invalid";
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    let document = match DOCUMENT.get() {
        Some(document) => document,
        None => {
            let mut document = super::api::document()?;
            name_login(&mut document, ANY_ISSUER)?;
            DOCUMENT.get_or_init(|| document.to_string())
        }
    };
    let issuer = Value::from(issuer).to_string();
    Ok(document.replace(ANY_ISSUER, issuer.trim_matches('"')))
}

/// Writes out the URLs that Swagger UI logs in at.
fn name_login(document: &mut Value, issuer: &str) -> Result<(), DocumentError> {
    let flow = "/components/securitySchemes/oauth2/flows/authorizationCode";
    let missing = || DocumentError::Missing(flow.to_owned());
    let flow = document.pointer_mut(flow).ok_or_else(missing)?;
    flow["authorizationUrl"] = format!("{issuer}/oauth2/authorize").into();
    flow["tokenUrl"] = format!("{issuer}/oauth2/token").into();
    Ok(())
}

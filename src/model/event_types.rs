//! The types of events and the fields of their data: what the AsyncAPI document says.

use serde_json::{Map, Value, json};

/// A type of events.
#[derive(Debug)]
pub struct EventType {
    /// CloudEvents `type`.
    pub kind: &'static str,
    pub summary: &'static str,
    pub fields: &'static [Field],
}

/// A field of an event's data.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub shape: Shape,
    pub summary: &'static str,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Text,
    /// A text or null.
    OptionalText,
    /// A time (RFC 3339) or null.
    OptionalTime,
    Boolean,
    Texts,
    /// A text or null; absent from most events of the type.
    Rare,
}

const fn field(name: &'static str, shape: Shape, summary: &'static str) -> Field {
    Field { name, shape, summary }
}

const USER: Field =
    field("userId", Shape::Text, "The user's id, or the pairwise `sub` of a session");
const EMAIL: Field = field(
    "email",
    Shape::OptionalText,
    "The email address; null: the account was deleted before the event was published",
);
const USERNAME: Field = field("username", Shape::OptionalText, "The username");
const ROLE: Field = field("role", Shape::Text, "The role");
const VERIFIED: Field =
    field("isVerified", Shape::Boolean, "Whether the email address is verified");
const EXTERNAL: Field = field("externalId", Shape::Rare, "The id in an earlier system");
const CLIENT: Field = field("clientId", Shape::Text, "The client's id");
const SESSION: Field = field("sessionId", Shape::Text, "The `sid` of the session's tokens");
const BROWSER: Field = field("browserSessionId", Shape::Text, "The browser session's id");
const MODULE: Field = field("moduleId", Shape::Text, "The module's id");
const BY: Field =
    field("by", Shape::OptionalText, "Who: a user id, a client id or `cli`; null: a planned end");
const FACTOR: Field = field("factorId", Shape::Text, "The factor's id");
const FACTOR_KIND: Field = field("kind", Shape::Text, "`totp` or `passkey`");
const IDENTITY: Field = field("identityId", Shape::Text, "The identity's id");
const ISSUER: Field = field("issuer", Shape::Text, "The issuer of the login provider");
const UNTIL: Field = field("validUntil", Shape::OptionalTime, "The planned end");
const REASON: Field = field("reason", Shape::Text, "Why");
const DELETED_FOR: Field =
    field("reason", Shape::Rare, "`compensated`: the user service refused it");
const CORRELATION: Field =
    field("correlationId", Shape::Rare, "Of the request that created the account");
const WEBHOOK: Field = field("webhookId", Shape::Text, "The webhook's id, which is the subject");
const DISABLED_FOR: Field = field(
    "reason",
    Shape::Text,
    "`gone`: it responded with 410; `failing`: for too long; `operator`: by an administrator",
);
const DELETION_AT: Field = field("deletionAt", Shape::Text, "When it is deleted (RFC 3339)");
const KEPT: Field = field(
    "kept",
    Shape::Text,
    "The id of the browser session that continues with the sessions in it, or of the session",
);
const CHANGED: Field = field("fields", Shape::Texts, "The names of the changed fields");

const fn event(kind: &'static str, summary: &'static str, fields: &'static [Field]) -> EventType {
    EventType { kind, summary, fields }
}

/// Every type of events.
pub const EVENT_TYPES: &[EventType] = &[
    event(
        "user.created",
        "An account was created",
        &[USER, EMAIL, USERNAME, ROLE, VERIFIED, EXTERNAL],
    ),
    event("user.updated", "An account was changed", &[USER, CHANGED, EXTERNAL]),
    event("user.disabled", "An account was disabled", &[USER, EXTERNAL]),
    event("user.enabled", "An account was enabled again", &[USER, EXTERNAL]),
    event(
        "user.password_changed",
        "A password was replaced, by its owner or an administrator",
        &[USER, EXTERNAL],
    ),
    event("user.role_changed", "A role was changed", &[USER, EXTERNAL]),
    event("user.logged_out", "Every session of a user was revoked", &[USER, EXTERNAL]),
    event(
        "user.others_logged_out",
        "A user revoked every session but those of one device",
        &[USER, KEPT],
    ),
    event(
        "user.deletion_requested",
        "A user requested the deletion of the account, which is disabled until then",
        &[USER, DELETION_AT, EXTERNAL],
    ),
    event("user.deletion_cancelled", "A requested deletion was cancelled", &[USER, EXTERNAL]),
    event("user.deleted", "An account was deleted", &[USER, DELETED_FOR, CORRELATION, EXTERNAL]),
    event("session.created", "A session began", &[USER, SESSION, CLIENT]),
    event("session.revoked", "A session was revoked", &[USER, SESSION, REASON]),
    event("browser.logged_in", "A user logged in with a browser", &[USER, BROWSER]),
    event("browser.logged_out", "A user logged out with a browser", &[USER, BROWSER]),
    event("consent.granted", "A user consented to a client", &[USER, CLIENT]),
    event("consent.withdrawn", "A consent was withdrawn", &[USER, CLIENT]),
    event("module.enabled", "A module was switched on for a user", &[USER, MODULE, BY, UNTIL]),
    event("module.disabled", "A module was switched off for a user", &[USER, MODULE, BY, UNTIL]),
    event("factor.added", "A user added a second factor", &[USER, FACTOR, FACTOR_KIND]),
    event("factor.removed", "A user removed a second factor", &[USER, FACTOR, FACTOR_KIND]),
    event("factor.recovery_code_used", "A user logged in with a recovery code", &[USER]),
    event("factor.recovery_codes_renewed", "A user got new recovery codes", &[USER]),
    event(
        "factor.reset",
        "Second factors of a user were removed by an operator or a recovery",
        &[USER, EXTERNAL],
    ),
    event(
        "identity.linked",
        "An identity at another login provider was linked to a user",
        &[USER, IDENTITY, ISSUER],
    ),
    event(
        "identity.unlinked",
        "A user lost an identity at another login provider",
        &[USER, IDENTITY, ISSUER],
    ),
    event("module.expired", "The planned end of a module was reached", &[USER, MODULE, BY, UNTIL]),
    event("webhook.disabled", "A webhook was disabled", &[WEBHOOK, DISABLED_FOR]),
];

/// The data of `user.create`.
const PROFILE: &[Field] = &[
    field("id", Shape::Text, "The user's id"),
    field("userId", Shape::Text, "The same"),
    USERNAME,
    field(
        "email",
        Shape::OptionalText,
        "The email address; null: the account was deleted meanwhile",
    ),
    ROLE,
    VERIFIED,
    field("createdAt", Shape::Text, "Creation time (RFC 3339)"),
    field("correlationId", Shape::OptionalText, "Of the request that created the account"),
    field("sagaId", Shape::OptionalText, "The saga; null: refusals are not consumed"),
    field("externalId", Shape::OptionalText, "The id in an earlier system"),
];

impl Shape {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::OptionalText | Self::OptionalTime | Self::Rare => {
                value.is_string() || value.is_null()
            }
            Self::Boolean => value.is_boolean(),
            Self::Texts => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        }
    }
}

/// Whether the data of an event has all fields of its type, no other ones, and each in its shape.
///
/// # Errors
/// What is wrong.
pub fn check(kind: &str, data: &Value) -> Result<(), String> {
    let event = EVENT_TYPES.iter().find(|event| event.kind == kind);
    let event = event.ok_or_else(|| format!("{kind} is no listed type of events"))?;
    check_fields(event.fields, data).map_err(|wrong| format!("{kind}: {wrong}"))
}

/// As [`check`], of the data of `user.create`.
///
/// # Errors
/// What is wrong.
pub fn check_profile(data: &Value) -> Result<(), String> {
    check_fields(PROFILE, data)
}

fn check_fields(fields: &[Field], data: &Value) -> Result<(), String> {
    let data = data.as_object().ok_or("the data is no object")?;
    for field in fields {
        match data.get(field.name) {
            None if field.shape == Shape::Rare => {}
            None => return Err(format!("there is no {}", field.name)),
            Some(value) if field.shape.fits(value) => {}
            Some(value) => return Err(format!("{} must not be {value}", field.name)),
        }
    }
    match data.keys().find(|name| fields.iter().all(|field| field.name != **name)) {
        Some(name) => Err(format!("{name} is not listed")),
        None => Ok(()),
    }
}

/// The JSON Schema (2020-12) of the data of an event.
pub fn schema(fields: &[Field]) -> Value {
    let property = |field: &Field| {
        let mut schema = match field.shape {
            Shape::Text => json!({ "type": "string" }),
            Shape::OptionalText | Shape::Rare => json!({ "type": ["string", "null"] }),
            Shape::OptionalTime => json!({ "type": ["string", "null"], "format": "date-time" }),
            Shape::Boolean => json!({ "type": "boolean" }),
            Shape::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        };
        schema["description"] = field.summary.into();
        (field.name.to_owned(), schema)
    };
    let required = fields.iter().filter(|field| field.shape != Shape::Rare);
    let required: Vec<&str> = required.map(|field| field.name).collect();
    let properties: Map<String, Value> = fields.iter().map(property).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// The AsyncAPI document (3.0) of the topics, by their default names.
pub fn asyncapi() -> Value {
    let structured = EVENT_TYPES.iter().map(|event| {
        let payload = json!({
            "type": "object",
            "properties": {
                "specversion": { "const": "1.0" },
                "type": { "const": event.kind },
                "source": { "type": "string", "description": "The issuer" },
                "id": { "type": "string", "description": "The same in repeated messages" },
                "subject": { "type": "string", "description": "The user's id, or the webhook's: the key" },
                "time": { "type": "string", "format": "date-time" },
                "correlationid": { "type": "string" },
                "datacontenttype": { "const": "application/json" },
                "data": schema(event.fields),
            },
            "required": [
                "specversion", "type", "source", "id", "subject", "time", "datacontenttype", "data",
            ],
        });
        let message = json!({
            "name": event.kind,
            "summary": event.summary,
            "contentType": "application/cloudevents+json",
            "payload": payload,
        });
        (event.kind.replace('.', "_"), message)
    });
    let structured: Map<String, Value> = structured.collect();
    let attributes = ["specversion", "type", "source", "id", "subject", "time"];
    let headers = attributes.map(|name| (format!("ce_{name}"), json!({ "type": "string" })));
    let headers: Map<String, Value> = headers.into_iter().collect();
    let reply = |has_reason: bool| {
        let names = ["id", "userId", "user_id", "sagaId", "correlationId"];
        let names = names.into_iter().chain(has_reason.then_some("reason"));
        let properties: Map<String, Value> =
            names.map(|name| (name.to_owned(), json!({ "type": "string" }))).collect();
        json!({
            "type": "object",
            "description": "The user is `id`, `userId` or `user_id`, else the key",
            "properties": properties,
        })
    };
    let channel = |name: &str| json!({ "$ref": format!("#/channels/{name}") });
    json!({
        "asyncapi": "3.0.0",
        "info": { "title": "Propusk events", "version": env!("CARGO_PKG_VERSION") },
        "defaultContentType": "application/json",
        "channels": {
            "events": { "address": "propusk.events", "messages": structured },
            "userCreate": { "address": "user.create", "messages": { "user_create": {
                "name": "user.create",
                "summary": "An account needs a profile; a null payload: it was deleted",
                "headers": { "type": "object", "properties": headers },
                "payload": schema(PROFILE),
            } } },
            "userCreateDone": { "address": "user.create.done", "messages": { "user_create_done": {
                "name": "user.create.done",
                "summary": "The user service has created the profile",
                "payload": reply(false),
            } } },
            "userCreateClose": { "address": "user.create.close", "messages": {
                "user_create_close": {
                    "name": "user.create.close",
                    "summary": "The user service refuses an account",
                    "payload": reply(true),
                },
            } },
        },
        "operations": {
            "publishEvents": { "action": "send", "channel": channel("events") },
            "requestProfile": { "action": "send", "channel": channel("userCreate") },
            "readRefusal": { "action": "receive", "channel": channel("userCreateClose") },
            "readConfirmation": { "action": "receive", "channel": channel("userCreateDone") },
        },
    })
}

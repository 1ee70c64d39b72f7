//! `/api/v1/admin`: one file per noun, its operations first and their schemas below. What they
//! share: `guard` (who may call), `params` (query, path and headers), `reply` (answers and error
//! codes), `documented` (texts that every operation repeats).

mod audit;
mod clients;
mod documented;
mod events;
mod explain;
mod grants;
mod guard;
mod invitations;
mod issuers;
mod keys;
mod mails;
mod modules;
mod params;
mod prelude;
mod reply;
mod revocations;
mod roles;
mod services;
mod sessions;
mod subjects;
mod users;
mod webhooks;

use std::collections::BTreeSet;

use poem::Request;

use self::documented::Documented;
pub use self::{
    audit::AuditEntry,
    events::EventData,
    explain::Explanation,
    grants::GrantData,
    invitations::InvitationData,
    issuers::{IssuerData, LinkData},
    keys::KeyData,
    mails::MailData,
    modules::ModuleDetails,
    roles::RoleData,
    services::ServiceTokenDetails,
    sessions::SessionOverview,
    users::{SagaData, UserDetails},
    webhooks::{DeliveryData, WebhookData},
};
use crate::api_error::ApiError;

/// The path prefix of the admin API.
pub const PREFIX: &str = "/api/v1/admin/";

/// Every operation.
pub type Operations = Documented<(
    (users::UsersApi, invitations::InvitationsApi),
    (grants::GrantsApi, subjects::SubjectsApi, mails::MailsApi),
    (sessions::SessionsApi, services::ServiceTokensApi),
    clients::ClientsApi,
    issuers::IssuersApi,
    modules::ModulesApi,
    roles::RolesApi,
    keys::KeysApi,
    revocations::RevocationsApi,
    (events::EventsApi, webhooks::WebhooksApi),
    audit::AuditApi,
    explain::ExplainApi,
)>;

pub fn operations() -> Operations {
    Operations::default()
}

/// Response fields that are always present and may be null.
pub const NULLABLE: &[(&str, &[&str])] = &[
    (
        "UserDetails",
        &[
            "username",
            "lastLoginAt",
            "disabledAt",
            "deletionAt",
            "termsVersion",
            "termsAcceptedAt",
            "externalId",
        ],
    ),
    ("UserDetailsPage", &["nextCursor"]),
    ("Saga", &["correlationId", "closedAt"]),
    ("SessionOverview", &["userId", "endedAt", "endedFor", "address", "userAgent"]),
    ("SessionOverviewPage", &["nextCursor"]),
    (
        "ServiceTokenDetails",
        &["subject", "userId", "obtainedAt", "expiresAt", "failure", "retryAt"],
    ),
    ("ServiceTokenDetailsPage", &["nextCursor"]),
    ("AuditEntry", &["subject", "address", "requestId", "correlationId"]),
    ("AuditEntryPage", &["nextCursor"]),
    ("ClientDetails", &["oldSecretExpiresAt", "expiresAt", "disabledAt"]),
    ("ClientDetailsPage", &["nextCursor"]),
    ("Invitation", &["email", "usedAt", "usedBy"]),
    ("InvitationPage", &["nextCursor"]),
    ("TrustedIssuer", &["disabledAt"]),
    ("TrustedIssuerPage", &["nextCursor"]),
    ("LinkedSubjectPage", &["nextCursor"]),
    ("ModuleDetails", &["resource"]),
    ("ModuleDetailsPage", &["nextCursor"]),
    ("ModuleGrant", &["userId", "validUntil", "endedBy"]),
    ("ModuleGrantPage", &["nextCursor"]),
    ("RolePage", &["nextCursor"]),
    ("Key", &["retiresAt", "bannedAt"]),
    ("KeyPage", &["nextCursor"]),
    ("Revocation", &["scope", "issuedUntil"]),
    ("RevocationPage", &["nextCursor"]),
    ("Mail", &["userId", "error", "nextAttemptAt", "finishedAt"]),
    ("MailPage", &["nextCursor"]),
    ("Event", &["correlationId", "publishedAt", "refused"]),
    ("EventPage", &["nextCursor"]),
    ("Webhook", &["failingSince", "retryAt", "oldSecretExpiresAt", "disabledAt", "disabledFor"]),
    ("WebhookPage", &["nextCursor"]),
    ("WebhookTest", &["status", "error"]),
    ("WebhookDelivery", &["attemptedAt", "status", "error", "nextAttemptAt", "finishedAt"]),
    ("WebhookDeliveryPage", &["nextCursor"]),
    ("Explanation", &["address", "correlationId"]),
];

/// Refuses a query parameter that is unknown to the operation, or repeated.
pub fn check_query(request: &Request, known: &BTreeSet<String>) -> Result<(), ApiError> {
    let mut seen = BTreeSet::new();
    for (name, _) in params::query(request)? {
        if !known.contains(&name) {
            let all: Vec<&str> = known.iter().map(String::as_str).collect();
            let message = match all.as_slice() {
                [] => "unknown query parameter: this operation has none".to_owned(),
                all => format!("unknown query parameter: this operation has {}", all.join(", ")),
            };
            return Err(ApiError::field(repeatable(&name), message));
        }
        if seen.contains(&name) {
            return Err(ApiError::field(name, "must be given once"));
        }
        seen.insert(name);
    }
    Ok(())
}

/// The part of a caller's parameter name that an error repeats.
fn repeatable(name: &str) -> String {
    match name {
        "" => "?".to_owned(),
        name => name.chars().take(64).collect(),
    }
}

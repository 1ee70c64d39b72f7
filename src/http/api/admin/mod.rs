//! `/api/v1/admin`: one file for each noun, and what they share: who may call (`guard`), what stands beside a body
//! (`params`), and how an answer names the state it shows (`tagged`).

mod audit;
mod clients;
mod explain;
mod grants;
mod guard;
mod keys;
mod modules;
mod params;
mod revocations;
mod roles;
mod sessions;
mod tagged;
mod users;

use std::collections::BTreeSet;

use poem::Request;

use crate::api_error::ApiError;

/// Where the addresses of the admin API begin.
pub const PREFIX: &str = "/api/v1/admin/";

/// Every operation.
pub type Operations = (
    (users::UsersApi, grants::GrantsApi, sessions::SessionsApi),
    (clients::ClientsApi, modules::ModulesApi, roles::RolesApi),
    (keys::KeysApi, revocations::RevocationsApi, audit::AuditApi),
    explain::ExplainApi,
);

pub fn operations() -> Operations {
    (
        (users::UsersApi, grants::GrantsApi, sessions::SessionsApi),
        (clients::ClientsApi, modules::ModulesApi, roles::RolesApi),
        (keys::KeysApi, revocations::RevocationsApi, audit::AuditApi),
        explain::ExplainApi,
    )
}

/// The fields of answers that are always there and may be null.
pub const NULLABLE: &[(&str, &[&str])] = &[
    ("Account", &["username", "lastLoginAt", "disabledAt"]),
    ("Page_Account", &["nextCursor"]),
    ("SessionOverview", &["userId", "endedAt", "endedFor", "address", "userAgent"]),
    ("Page_SessionOverview", &["nextCursor"]),
    ("AuditLine", &["subject", "address", "requestId", "correlationId"]),
    ("Page_AuditLine", &["nextCursor"]),
    ("Client", &["oldSecretExpiresAt", "expiresAt", "disabledAt"]),
    ("Page_Client", &["nextCursor"]),
    ("ModuleEntry", &["resource"]),
    ("Page_ModuleEntry", &["nextCursor"]),
    ("Grant", &["validUntil", "endedBy"]),
    ("Page_Grant", &["nextCursor"]),
    ("Page_Role", &["nextCursor"]),
    ("Key", &["retiresAt", "bannedAt"]),
    ("Page_Key", &["nextCursor"]),
    ("Revocation", &["scope", "issuedUntil"]),
    ("Page_Revocation", &["nextCursor"]),
    ("Explanation", &["address", "correlationId"]),
];

/// Refuses a query with a parameter that the operation does not have, or with one of them twice.
pub fn check_query(request: &Request, known: &BTreeSet<String>) -> Result<(), ApiError> {
    let mut seen = BTreeSet::new();
    for (name, _) in params::query(request)? {
        if !known.contains(&name) {
            let all: Vec<&str> = known.iter().map(String::as_str).collect();
            let message = match all.as_slice() {
                [] => "is not a parameter of this call: it has none".to_owned(),
                all => format!("is not a parameter of this call: it has {}", all.join(", ")),
            };
            return Err(ApiError::field(shown(&name), message));
        }
        if seen.contains(&name) {
            return Err(ApiError::field(name, "is given twice"));
        }
        seen.insert(name);
    }
    Ok(())
}

/// As much of a stranger's name as an error repeats.
fn shown(name: &str) -> String {
    match name {
        "" => "?".to_owned(),
        name => name.chars().take(64).collect(),
    }
}

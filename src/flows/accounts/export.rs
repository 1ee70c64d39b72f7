//! Everything the server keeps about a user, for the user: no secrets, and of nobody else.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::{
        accounts::second_factors::{self, Login},
        services::connections,
    },
    ids::UserId,
    limits::{Key, Limit},
    model::{actor::RequestContext, module::ModuleGrant, user_agent::Device},
    storage::{
        applications,
        audit::{self, AuditEntry, AuditFilter},
        browser_sessions, known_sources, mails, modules, remembered_devices, sessions,
        trusted_issuers, upstream_identities, users,
    },
};

/// The largest number of entries of each list: the newest.
pub const MOST: i64 = 1_000;

/// What the server keeps about a user. Times are in RFC 3339.
#[derive(Debug)]
pub struct Export {
    pub at: Timestamp,
    pub account: Value,
    /// By the name of what they are lists of.
    pub lists: BTreeMap<&'static str, Vec<Value>>,
    /// The names of the lists that have [`MOST`] entries: there may be older ones.
    pub cut: Vec<&'static str>,
}

fn time(at: Timestamp) -> Value {
    at.rfc3339().into()
}

fn maybe(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, time)
}

/// Reads everything. It is as sensitive as a change of second factors: the login is recent, and
/// made with the second factor of a user who has one. The audit log records it.
///
/// # Errors
/// [`Error::NeedsLogin`]; [`Error::TooMany`].
pub async fn export(
    app: &App,
    user_id: &UserId,
    login: Login,
    context: &RequestContext,
) -> Result<Export, Error> {
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    let factors = second_factors::overview(app, user_id).await?;
    let has_factor = !factors.factors.is_empty();
    if second_factors::lack(app, login, has_factor).is_some() {
        let max_age = app.config.second_factors.fresh_login;
        return Err(Error::NeedsLogin { max_age, second_factor: has_factor });
    }
    let db = &app.db;
    let record = users::record_by_id(db, user_id).await?.ok_or(Error::NoToken)?;
    let now = app.clock.now();
    let mut lists: BTreeMap<&'static str, Vec<Value>> = BTreeMap::new();

    let browsers = browser_sessions::of_user(db, user_id, None, MOST, now).await?;
    let browsers = browsers.into_iter().map(|one| {
        json!({
            "id": one.id, "createdAt": time(one.created_at), "authenticatedAt": time(one.authenticated_at),
            "lastUsedAt": time(one.last_used_at), "expiresAt": time(one.expires_at),
            "address": one.address, "userAgent": one.user_agent,
            "browser": Device::of(one.user_agent.as_deref()).browser,
        })
    });
    lists.insert("browserSessions", browsers.collect());

    let of_user = sessions::SessionFilter {
        user_id: Some(user_id.to_owned()),
        ..sessions::SessionFilter::default()
    };
    let all = sessions::page(db, &of_user, crate::model::AFTER_EVERY_ID, MOST, now).await?;
    let all = all.into_iter().map(|one| {
        json!({
            "id": one.id, "subject": one.subject, "clientId": one.client_id, "scope": one.scope.to_string(),
            "browserSessionId": one.browser_session_id, "createdAt": time(one.created_at),
            "authenticatedAt": maybe(one.authenticated_at), "lastUsedAt": time(one.rotated_at),
            "expiresAt": time(one.expires_at), "revokedAt": maybe(one.revoked_at),
            "revocationReason": one.revocation_reason, "address": one.address, "userAgent": one.user_agent,
        })
    });
    lists.insert("sessions", all.collect());

    let consents = applications::consents(db, user_id, None, MOST).await?.into_iter().map(|one| {
        json!({
            "clientId": one.client_id, "resources": one.resources, "scope": one.scope.to_string(),
            "givenAt": time(one.given_at),
        })
    });
    lists.insert("consents", consents.collect());

    // Every grant begins before the far end of time.
    let before = (Timestamp(i64::MAX), "");
    let by = |who: &str| if who == user_id.as_str() { "user" } else { "operator" };
    let grants = modules::history(db, user_id, before, MOST).await?;
    let grants = grants.into_iter().map(|one: ModuleGrant| {
        json!({
            "moduleId": one.module_id, "validFrom": time(one.valid_from), "validUntil": maybe(one.valid_until),
            "closedAt": maybe(one.closed_at), "grantedBy": by(&one.granted_by),
            "endedBy": one.ended_by.as_deref().map(by),
        })
    });
    lists.insert("modules", grants.collect());

    let own = factors.factors.into_iter().map(|one| {
        json!({
            "id": one.id, "kind": one.kind.as_str(), "name": one.name, "createdAt": time(one.created_at),
            "lastUsedAt": maybe(one.last_used_at),
        })
    });
    lists.insert("secondFactors", own.collect());

    let devices = remembered_devices::of_user(db, user_id, now).await?.into_iter().map(|one| {
        json!({
            "id": one.id, "userAgent": one.user_agent, "createdAt": time(one.created_at),
            "lastUsedAt": maybe(one.last_used_at), "expiresAt": time(one.expires_at),
        })
    });
    lists.insert("rememberedDevices", devices.collect());

    let connected = connections::of_user(app, user_id).await?.into_iter();
    let connected = connected.filter_map(|one| {
        Some(json!({ "service": one.service, "connectedAt": time(one.connected_at?) }))
    });
    lists.insert("services", connected.collect());

    let identities = upstream_identities::of_user(db, user_id).await?.into_iter().map(|one| {
        json!({
            "id": one.id, "issuer": one.issuer, "subject": one.subject, "createdAt": time(one.created_at),
            "lastLoginAt": maybe(one.last_login_at),
        })
    });
    lists.insert("identities", identities.collect());

    let seen = known_sources::of_user(db, user_id).await?.into_iter().map(
        |one| json!({ "kind": one.kind, "network": one.network, "lastSeenAt": time(one.seen_at) }),
    );
    lists.insert("knownSources", seen.collect());

    let links = trusted_issuers::links_of_user(db, user_id, MOST).await?.into_iter().map(|one| {
        json!({ "issuerId": one.issuer_id, "subject": one.subject, "createdAt": time(one.created_at) })
    });
    lists.insert("linkedSubjects", links.collect());

    let sent = mails::of_user(db, user_id, MOST).await?.into_iter().map(|one| {
        json!({
            "id": one.id, "kind": one.kind, "state": one.state.as_str(), "createdAt": time(one.created_at),
            "finishedAt": maybe(one.finished_at),
        })
    });
    lists.insert("mails", sent.collect());

    lists.insert("auditLog", audit_log(app, user_id).await?);
    let is_full = |list: &Vec<Value>| i64::try_from(list.len()).unwrap_or(i64::MAX) >= MOST;
    let cut = lists.iter().filter(|(_, list)| is_full(list)).map(|(name, _)| *name).collect();
    let user = record.user;
    let account = json!({
        "id": user.id, "email": user.email, "emailVerified": user.is_verified, "username": user.username,
        "role": user.role.as_str(), "createdAt": time(user.created_at), "updatedAt": time(record.updated_at),
        "lastLoginAt": maybe(record.last_login_at), "externalId": record.external_id,
        "acceptedTerms": record.terms.map(|one| json!({ "version": one.version, "at": time(one.at) })),
        "recoveryCodes": factors.recovery_codes, "profile": record.profile.as_map(),
    });
    let (actor, detail) = (crate::model::actor::Actor::caller(user_id, context), json!({}));
    app.audit(&actor, "user.exported", user_id, detail).await?;
    Ok(Export { at: now, account, lists, cut })
}

/// The entries about the user, and those of what the user did. Who else acted, and from where, is
/// not the user's.
async fn audit_log(app: &App, user_id: &UserId) -> Result<Vec<Value>, Error> {
    let about = AuditFilter { subject: Some(user_id.to_string()), ..AuditFilter::default() };
    let by = AuditFilter { actor: Some(user_id.to_string()), ..AuditFilter::default() };
    let mut entries: BTreeMap<i64, AuditEntry> = BTreeMap::new();
    for filter in [about, by] {
        let found = audit::page(&app.db, &filter, i64::MAX, MOST).await?;
        entries.extend(found.into_iter().map(|entry| (entry.number, entry)));
    }
    let newest = entries.into_values().rev().take(usize::try_from(MOST).unwrap_or(usize::MAX));
    let line = |entry: AuditEntry| {
        let is_own = entry.actor == user_id.as_str();
        let by = match entry.actor.as_str() {
            _ if is_own => "user",
            // Nobody was logged in, as where wrong passwords are delayed.
            "anonymous" => "anonymous",
            _ => "operator",
        };
        let is_about_them = entry.subject.as_deref() == Some(user_id);
        json!({
            "at": time(entry.at), "action": entry.action, "by": by,
            "address": entry.address.filter(|_| is_own),
            "subject": entry.subject, "detail": if is_about_them { entry.detail } else { json!({}) },
        })
    };
    Ok(newest.map(line).collect())
}

//! Events for other systems: every change of a user or a session, and disabled webhooks. They contain
//! ids and facts, never secrets.

use serde_json::{Value, json};

use crate::{
    clock::Timestamp,
    ids::{BrowserSessionId, ClientId, SessionId, UserId},
    model::{
        second_factor::FactorKind, session::RevocationReason, user::User, webhook::DisabledFor,
    },
};

/// An event. It is added to the outbox in the transaction of the change it describes.
#[derive(Clone, Debug)]
pub struct Event {
    /// CloudEvents `type`.
    pub kind: &'static str,
    /// The user id, or that of a webhook; events with the same subject keep their order.
    pub subject: String,
    pub data: Value,
}

impl Event {
    pub fn user_created(user: &User) -> Self {
        let data = json!({ "userId": user.id, "email": user.email, "username": user.username, "role": user.role.as_str(), "isVerified": user.is_verified });
        Self { kind: "user.created", subject: user.id.as_str().to_owned(), data }
    }

    /// `subject`: a user id, or the `sub` of a back end's user.
    pub fn user_changed(kind: UserChange, subject: &str) -> Self {
        Self {
            kind: kind.as_str(),
            subject: subject.to_owned(),
            data: json!({ "userId": subject }),
        }
    }

    /// The user has requested the deletion of the account, which is disabled until then.
    pub fn deletion_requested(user_id: &UserId, at: Timestamp) -> Self {
        Self {
            kind: "user.deletion_requested",
            subject: user_id.as_str().to_owned(),
            data: json!({ "userId": user_id, "deletionAt": at.rfc3339() }),
        }
    }

    /// The deletion of an account that the user service refused.
    pub fn user_compensated(user_id: &UserId, correlation_id: Option<&str>) -> Self {
        let data =
            json!({ "userId": user_id, "reason": "compensated", "correlationId": correlation_id });
        Self { kind: "user.deleted", subject: user_id.as_str().to_owned(), data }
    }

    /// Adds the id that the user has in the system they were imported from, by which other services
    /// may know them.
    #[must_use]
    pub fn with_external_id(mut self, external_id: Option<&str>) -> Self {
        if let Some(id) = external_id {
            self.data["externalId"] = id.into();
        }
        self
    }

    /// `fields`: the names of the changed fields.
    pub fn user_updated(user_id: &UserId, fields: &[&str]) -> Self {
        Self {
            kind: "user.updated",
            subject: user_id.as_str().to_owned(),
            data: json!({ "userId": user_id, "fields": fields }),
        }
    }

    pub fn session_created(subject: &str, session_id: &SessionId, client_id: &ClientId) -> Self {
        let data = json!({ "userId": subject, "sessionId": session_id, "clientId": client_id });
        Self { kind: "session.created", subject: subject.to_owned(), data }
    }

    pub fn browser_logged_in(subject: &str, browser_session_id: &BrowserSessionId) -> Self {
        Self::of_browser("browser.logged_in", subject, browser_session_id)
    }

    pub fn browser_logged_out(subject: &str, browser_session_id: &BrowserSessionId) -> Self {
        Self::of_browser("browser.logged_out", subject, browser_session_id)
    }

    fn of_browser(
        kind: &'static str,
        subject: &str,
        browser_session_id: &BrowserSessionId,
    ) -> Self {
        Self {
            kind,
            subject: subject.to_owned(),
            data: json!({ "userId": subject, "browserSessionId": browser_session_id }),
        }
    }

    /// `kept`: the browser session, or the session, that continues.
    pub fn others_logged_out(user_id: &UserId, kept: &str) -> Self {
        Self {
            kind: "user.others_logged_out",
            subject: user_id.as_str().to_owned(),
            data: json!({ "userId": user_id, "kept": kept }),
        }
    }

    pub fn consent(kind: ConsentChange, user_id: &UserId, client_id: &ClientId) -> Self {
        Self {
            kind: kind.as_str(),
            subject: user_id.as_str().to_owned(),
            data: json!({ "userId": user_id, "clientId": client_id }),
        }
    }

    /// `by`: a user id, a client id or `cli`; `None` if the planned end was reached.
    pub fn module(
        kind: ModuleChange,
        user_id: &str,
        module_id: &str,
        by: Option<&str>,
        valid_until: Option<Timestamp>,
    ) -> Self {
        let until = valid_until.map(Timestamp::rfc3339);
        let data =
            json!({ "userId": user_id, "moduleId": module_id, "by": by, "validUntil": until });
        Self { kind: kind.as_str(), subject: user_id.to_owned(), data }
    }

    pub fn factor(kind: FactorChange, user_id: &UserId, id: &str, factor: FactorKind) -> Self {
        let data = json!({ "userId": user_id, "factorId": id, "kind": factor.as_str() });
        Self { kind: kind.as_str(), subject: user_id.as_str().to_owned(), data }
    }

    pub fn recovery_code_used(user_id: &UserId) -> Self {
        Self::of_user("factor.recovery_code_used", user_id)
    }

    pub fn recovery_codes_renewed(user_id: &UserId) -> Self {
        Self::of_user("factor.recovery_codes_renewed", user_id)
    }

    pub fn factors_reset(user_id: &UserId) -> Self {
        Self::of_user("factor.reset", user_id)
    }

    /// An identity at another provider was linked, or unlinked.
    pub fn identity(is_linked: bool, user_id: &UserId, id: &str, issuer: &str) -> Self {
        let kind = if is_linked { "identity.linked" } else { "identity.unlinked" };
        let data = json!({ "userId": user_id, "identityId": id, "issuer": issuer });
        Self { kind, subject: user_id.as_str().to_owned(), data }
    }

    fn of_user(kind: &'static str, user_id: &UserId) -> Self {
        Self { kind, subject: user_id.as_str().to_owned(), data: json!({ "userId": user_id }) }
    }

    /// An endpoint of webhooks was disabled, which is its subject.
    pub fn webhook_disabled(webhook_id: &str, reason: DisabledFor) -> Self {
        let data = json!({ "webhookId": webhook_id, "reason": reason.as_str() });
        Self { kind: "webhook.disabled", subject: webhook_id.to_owned(), data }
    }

    pub fn session_revoked(
        subject: &str,
        session_id: &SessionId,
        reason: RevocationReason,
    ) -> Self {
        let data = json!({ "userId": subject, "sessionId": session_id, "reason": reason.as_str() });
        Self { kind: "session.revoked", subject: subject.to_owned(), data }
    }
}

/// A change of the consent of a user to a client.
#[derive(Clone, Copy, Debug)]
pub enum ConsentChange {
    Granted,
    Withdrawn,
}

impl ConsentChange {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "consent.granted",
            Self::Withdrawn => "consent.withdrawn",
        }
    }
}

/// A change of a user's second factors by the user.
#[derive(Clone, Copy, Debug)]
pub enum FactorChange {
    Added,
    Removed,
}

impl FactorChange {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "factor.added",
            Self::Removed => "factor.removed",
        }
    }
}

/// A change of a user's modules.
#[derive(Clone, Copy, Debug)]
pub enum ModuleChange {
    Enabled,
    Disabled,
    /// The planned end was reached.
    Expired,
}

impl ModuleChange {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "module.enabled",
            Self::Disabled => "module.disabled",
            Self::Expired => "module.expired",
        }
    }
}

/// A change of a user by an administrator.
#[derive(Clone, Copy, Debug)]
pub enum UserChange {
    Disabled,
    Enabled,
    PasswordChanged,
    RoleChanged,
    /// Every session was revoked and nothing else changed.
    LoggedOut,
    /// A deletion that the user had requested will not take place.
    DeletionCancelled,
    Deleted,
}

impl UserChange {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "user.disabled",
            Self::Enabled => "user.enabled",
            Self::PasswordChanged => "user.password_changed",
            Self::RoleChanged => "user.role_changed",
            Self::LoggedOut => "user.logged_out",
            Self::DeletionCancelled => "user.deletion_cancelled",
            Self::Deleted => "user.deleted",
        }
    }
}

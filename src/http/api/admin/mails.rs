//! `/api/v1/admin/mails`: what became of mails. Without their recipients and contents: the queue
//! keeps both encrypted, and drops them once a mail was sent.

use super::prelude::*;
use crate::{
    model::mail::MailState,
    storage::mails::{self, ListedMail},
};

#[derive(Clone, Debug, Default)]
pub struct MailsApi;

#[OpenApi(prefix_path = "/api/v1/admin/mails", tag = "Tag::Administration")]
impl MailsApi {
    /// List mails
    ///
    /// Of the last seven days, the newest first: those that wait, were sent, or have failed.
    #[oai(path = "/", method = "get", operation_id = "adminListMails")]
    async fn list(
        &self,
        admin: Admin,
        /// `queued`, `sent` or `failed`.
        state: Query<String>,
        page: Paging,
    ) -> List<MailData> {
        let state = state.0.map(|name| {
            let state = MailState::parse(&name).filter(|state| *state != MailState::Suppressed);
            state.ok_or_else(|| Error::field("state", "must be queued, sent or failed"))
        });
        let state = state.transpose()?;
        let before = page.after().unwrap_or(crate::model::AFTER_EVERY_ID);
        let found = mails::page(&admin.app.db, state, before, page.rows()).await;
        Ok(page.answer("mails", found, |mail| mail.id.clone())?)
    }
}

/// A mail.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Mail", example)]
pub struct MailData {
    /// The part of its `Message-ID` before the `@`.
    pub id: String,
    /// What it is about, such as `reset_password`.
    pub kind: String,
    /// The id of the user; null for a registration.
    pub user_id: Option<String>,
    /// `queued`, `sent` or `failed`.
    pub state: String,
    /// The number of attempts to send it.
    pub attempts: i64,
    /// The status of the last failure; null if there was none.
    pub error: Option<String>,
    /// Creation time (RFC 3339).
    pub created_at: String,
    /// The time of the next attempt (RFC 3339); null unless it is queued.
    pub next_attempt_at: Option<String>,
    /// When it was sent or has failed (RFC 3339).
    pub finished_at: Option<String>,
}

impl From<ListedMail> for MailData {
    fn from(mail: ListedMail) -> Self {
        let is_queued = mail.state == MailState::Queued;
        Self {
            id: mail.id,
            kind: mail.kind,
            user_id: mail.user_id.map(Into::into),
            state: mail.state.as_str().to_owned(),
            attempts: mail.attempts,
            error: mail.error,
            created_at: mail.created_at.rfc3339(),
            next_attempt_at: is_queued.then(|| mail.next_attempt_at.rfc3339()),
            finished_at: mail.finished_at.map(Timestamp::rfc3339),
        }
    }
}

example!(MailData, {
    "id": "01a1fca5-0ae5-7c5e-9a3b-2f60c1d8e7b4",
    "kind": "reset_password",
    "userId": "01a1fca5-0ae5-741a-b136-32b4b1af948c",
    "state": "queued",
    "attempts": 2,
    "error": "SMTP status 451",
    "createdAt": "2026-11-21T04:22:00Z",
    "nextAttemptAt": "2026-11-21T04:22:36Z",
    "finishedAt": null
});

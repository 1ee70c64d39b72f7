//! Events of the outbox, as operators manage them.

use serde_json::json;

use crate::{
    app::App,
    error::Error,
    model::actor::Actor,
    storage::relay::{self, EventFilter},
};

/// Has events published again, under the same ids, by the process that publishes; returns their
/// number.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn replay(app: &App, filter: &EventFilter, actor: &Actor) -> Result<usize, Error> {
    let mut tx = app.begin(actor).await?;
    let count = relay::replay(&mut tx, filter).await?;
    let detail = json!({
        "count": count,
        "id": filter.id,
        "type": filter.kind,
        "from": filter.from.map(crate::clock::Timestamp::rfc3339),
        "to": filter.to.map(crate::clock::Timestamp::rfc3339),
        "refused": filter.refused,
    });
    tx.audit("events.replayed", filter.subject.as_deref(), detail).await?;
    tx.commit().await?;
    Ok(count)
}

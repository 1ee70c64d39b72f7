//! Devices and networks in which users have logged in before.

use crate::{
    flows::sessions::open::Cookie,
    limits,
    model::{
        actor::{Actor, RequestContext},
        device,
    },
    storage::{
        self, AuditedTx,
        known_sources::{self as rows, LastSeen, LoginSource},
    },
};

/// Where a request comes from.
pub(crate) fn source_of(context: &RequestContext) -> LoginSource {
    LoginSource::new(context.device.as_deref(), limits::network(context.address))
}

/// The source of an actor's request; without one, nobody is known there.
pub(crate) fn source_of_actor(actor: &Actor) -> LoginSource {
    actor.caller.as_ref().map(source_of).unwrap_or_default()
}

/// Where a browser will come from once it has its new cookies.
pub(super) fn source_with(context: &RequestContext, cookie: &Cookie) -> LoginSource {
    let new = cookie.device.as_deref().map(device::hash);
    LoginSource::new(new.as_deref().or(context.device.as_deref()), limits::network(context.address))
}

/// Remembers where a user has logged in. `known`: when the user was last seen there, if it was read.
pub(super) async fn remember(
    tx: &mut AuditedTx,
    user_id: &str,
    source: &LoginSource,
    known: Option<LastSeen>,
) -> storage::Result<()> {
    let last_seen = match known {
        Some(known) => known,
        None => rows::last_seen(tx, user_id, source).await?,
    };
    let now = tx.now();
    rows::remember(tx, user_id, source, last_seen, now).await
}

//! The environment of the older auth service: its variables have no effect here, `PORT` excepted,
//! and a start reports those whose counterpart is not set.

use std::collections::BTreeMap;

/// Set by hosting platforms as well; [`super::load`] may adopt it.
pub(super) const PORT: &str = "PORT";

/// The variables, the keys of which one replaces them, and what to do instead.
const VARIABLES: &[(&[&str], &[&str], &str)] = &[
    (
        &["ACCESS_TOKEN_PRIVATE_KEY", "ACCESS_TOKEN_PUBLIC_KEY"],
        &[],
        "signing keys are generated; `propusk keys import` keeps an existing one",
    ),
    (&["REFRESH_TOKEN_PUBLIC_KEY"], &[], "nothing: refresh tokens are opaque"),
    (&["ACCESS_TOKEN_EXPIRES_IN"], &["tokens.access_ttl"], "tokens.access_ttl"),
    (&["REFRESH_TOKEN_EXPIRES_IN"], &["tokens.refresh_idle_ttl"], "tokens.refresh_idle_ttl"),
    (
        &["SALT_ROUNDS"],
        &["passwords.memory_kib", "passwords.iterations"],
        "passwords.memory_kib, passwords.iterations",
    ),
    (
        &["DB_DATABASE", "DB_USERNAME", "DB_PASSWORD", "DB_HOST", "DB_PORT", "DB_DIALECT"],
        &["database.url"],
        "database.url",
    ),
    (&["USER_SERVICE_GRPC_URL"], &["user_service.url"], "user_service.url"),
    (&["AUTH_SERVICE_GRPC_URL", "GRPC_PORT"], &["grpc.listen"], "grpc.listen"),
    (&["KAFKA_BROKERS"], &["kafka.brokers"], "kafka.brokers"),
    (&[PORT], &["server.listen"], "server.listen, or server.issuer: then PORT is used"),
];

/// A variable of the older service that is set without effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IgnoredVariable {
    pub name: &'static str,
    /// The keys to set, or what else to do.
    pub instead: &'static str,
}

/// Whether the older service reads a variable of this name.
pub(super) fn is_known(name: &str) -> bool {
    VARIABLES.iter().any(|(names, ..)| names.contains(&name))
}

/// The variables that are set while none of their keys is.
pub(super) fn ignored(
    env: &BTreeMap<String, String>,
    is_set: impl Fn(&str) -> bool,
) -> Vec<IgnoredVariable> {
    let unreplaced = VARIABLES.iter().filter(|(_, keys, _)| !keys.iter().any(|key| is_set(key)));
    let variables = unreplaced
        .flat_map(|(names, _, instead)| names.iter().map(|name| IgnoredVariable { name, instead }));
    variables.filter(|one| env.get(one.name).is_some_and(|value| !value.is_empty())).collect()
}

//! Claims about the user: those of OpenID Connect Core §5.1 that the scope or the `claims`
//! parameter requests.

use serde_json::{Map, Value};

use crate::{
    app::App,
    config::Config,
    error::Error,
    model::{
        client::{Client, UserClaim},
        profile::ProfileClaim,
        session::{Profile, Session, SessionDetails},
    },
    oauth::{claims_request::ClaimsRequest, scope::Scope},
    storage::profiles,
};

/// The claims that every account has, whatever its profile.
const OF_THE_ACCOUNT: [&str; 3] = ["email", "email_verified", "preferred_username"];

/// The claims about a user that are supported, for the discovery document.
pub fn supported(config: &Config) -> Vec<&'static str> {
    let profile = config.profile.claims.iter().map(|claim| claim.as_str());
    let further = profile.filter(|claim| !OF_THE_ACCOUNT.contains(claim));
    OF_THE_ACCOUNT.into_iter().chain(further).collect()
}

/// The scope that covers a claim (Core §5.4): a client that may not request the scope cannot
/// request the claim either.
pub fn covering(claim: &str) -> Option<&'static str> {
    match claim {
        "email" | "email_verified" => Some("email"),
        other => ProfileClaim::parse(other).map(ProfileClaim::scope),
    }
}

/// Whether a claim is one of a profile that this deployment does not use.
pub fn is_unused(config: &Config, claim: &str) -> bool {
    let claim = ProfileClaim::parse(claim).filter(|claim| !config.profile.claims.contains(claim));
    claim.is_some_and(|claim| !OF_THE_ACCOUNT.contains(&claim.as_str()))
}

/// Where claims are returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Those the scope covers, and those requested individually.
    UserInfo,
    /// Only those requested individually: the rest is at the UserInfo endpoint (Core §5.4), unless
    /// the client has registered `claims_in_id_token`.
    IdToken,
}

/// Role and modules of a user, for the clients that an operator grants these claims.
pub fn standing(client: &Client, user: &Profile<'_>, modules: &[String]) -> Map<String, Value> {
    let mut claims = Map::new();
    for claim in &client.metadata.user_claims {
        let (name, value) = match claim {
            UserClaim::Role => ("role", user.role.map(Value::from)),
            UserClaim::Modules => ("modules", Some(modules.into())),
        };
        claims.extend(value.map(|value| (name.to_owned(), value)));
    }
    claims
}

/// Which claims a response has.
struct Requested<'a> {
    client: &'a Client,
    scope: &'a Scope,
    details: &'a SessionDetails,
    place: Place,
}

impl Requested<'_> {
    fn has(&self, name: &str, covering: &str) -> bool {
        let asked = |request: &ClaimsRequest| match self.place {
            Place::UserInfo => request.userinfo.contains_key(name),
            Place::IdToken => request.id_token.contains_key(name),
        };
        let metadata = &self.client.metadata;
        let one_by_one =
            self.details.claims.as_ref().is_some_and(asked) && metadata.scope.contains(covering);
        let by_scope = self.place == Place::UserInfo || metadata.claims_in_id_token;
        one_by_one || (by_scope && self.scope.contains(covering))
    }
}

/// The claims about the user of a session, without `sub`, as far as the client may still request
/// them. The profile is read only where one of its claims is requested.
///
/// # Errors
/// [`Error::Unavailable`].
pub(crate) async fn of(
    app: &App,
    client: &Client,
    session: &Session,
    scope: &Scope,
    place: Place,
) -> Result<Map<String, Value>, Error> {
    let mut claims = Map::new();
    let Some(user) = session.profile() else { return Ok(claims) };
    let requested = Requested { client, scope, details: &session.details, place };
    let mut add = |name: &str, value: Value| drop(claims.insert(name.to_owned(), value));
    if let Some((email, is_verified)) = user.email {
        if requested.has("email", "email") {
            add("email", email.into());
        }
        if requested.has("email_verified", "email") {
            add("email_verified", is_verified.into());
        }
    }
    if let Some(name) = user.username.filter(|_| requested.has("preferred_username", "profile")) {
        add("preferred_username", name.into());
    }
    let in_use = app.config.profile.claims.iter().copied();
    let in_use: Vec<ProfileClaim> =
        in_use.filter(|claim| requested.has(claim.as_str(), claim.scope())).collect();
    // The user of a back end has no profile here.
    if let Some(account) = session.user.as_ref().filter(|_| !in_use.is_empty()) {
        let (profile, updated_at) = profiles::of(&app.db, &account.id).await?;
        let updated_at = updated_at.unwrap_or(account.created_at);
        for claim in in_use {
            if let Some(value) = profile.released(claim, updated_at) {
                add(claim.as_str(), value);
            }
        }
    }
    Ok(claims)
}

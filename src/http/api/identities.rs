//! Login at other providers: which there are, and the identities of the current user.

use poem_openapi::{Object, OpenApi, param::Path, types::Example};
use serde::{Deserialize, Serialize};

use super::{Tag, data::Nothing, second_factors::current};
use crate::{
    app::App,
    clock::Timestamp,
    flows::{accounts::second_factors, upstream::identity},
    http::{
        context::Context,
        failure::{Failure, codes},
        json::Answer,
        security::Credentials,
    },
    model::upstream_identity::UpstreamIdentity,
};

#[derive(Debug)]
pub struct IdentitiesApi;

/// A provider at which users log in.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct LoginProvider {
    pub name: String,
    /// The name to show, in English.
    pub display_name: String,
    /// Where the browser is sent to log in, a path of this server. With `return_to`, as the login
    /// page has it, it continues there.
    pub start_url: String,
}

impl Example for LoginProvider {
    fn example() -> Self {
        Self {
            name: "acme".to_owned(),
            display_name: "Acme".to_owned(),
            start_url: "/login/upstream/acme".to_owned(),
        }
    }
}

/// An identity of a user at another provider.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Identity", example)]
pub struct IdentityData {
    pub id: String,
    /// The provider's name in the configuration; null where it is not configured any more.
    pub provider: Option<String>,
    pub issuer: String,
    /// The `sub` of the provider's ID tokens.
    pub subject: String,
    /// When it was linked (RFC 3339, UTC).
    pub created_at: String,
    /// When it was last used to log in (RFC 3339, UTC).
    pub last_login_at: Option<String>,
}

impl IdentityData {
    pub(crate) fn of(app: &App, identity: UpstreamIdentity) -> Self {
        Self {
            id: identity.id,
            provider: app.upstream.of_issuer(&identity.issuer).map(|one| one.name.clone()),
            issuer: identity.issuer,
            subject: identity.subject,
            created_at: identity.created_at.rfc3339(),
            last_login_at: identity.last_login_at.map(Timestamp::rfc3339),
        }
    }
}

impl Example for IdentityData {
    fn example() -> Self {
        Self {
            id: "01a1fca5-0ae5-741a-b136-32b4b1af948e".to_owned(),
            provider: Some("acme".to_owned()),
            issuer: "https://login.acme.example".to_owned(),
            subject: "248289761001".to_owned(),
            created_at: "2026-11-21T04:22:00Z".to_owned(),
            last_login_at: Some("2026-11-21T04:22:00Z".to_owned()),
        }
    }
}

codes!(ProviderErrors: RequestTimeout, Internal);
codes!(ListErrors: InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);
codes!(RemoveErrors: InvalidToken, InsufficientUserAuthentication, InsufficientScope, CrossSite, NotFound, Conflict,
    RequestTimeout, TooManyRequests, Internal, Unavailable);

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Authentication")]
impl IdentitiesApi {
    /// List login providers
    ///
    /// The other OpenID providers at which users can log in, in the order of the login page.
    #[oai(path = "/auth/upstream", method = "get", operation_id = "listLoginProviders")]
    async fn providers(
        &self,
        context: Context,
    ) -> Result<Answer<Vec<LoginProvider>>, Failure<ProviderErrors>> {
        let providers = context.app.upstream.ordered().into_iter();
        let data = providers.map(|provider| LoginProvider {
            name: provider.name.clone(),
            display_name: provider.config.name("en", &provider.name).to_owned(),
            start_url: format!("/login/upstream/{}", provider.name),
        });
        Ok(Answer::new("Login providers listed.", data.collect()))
    }

    /// List identities
    ///
    /// The current user's identities at other providers. To link one, send the browser to the
    /// provider's `startUrl` with `link=1`.
    #[oai(path = "/account/identities", method = "get", operation_id = "listIdentities")]
    async fn list(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<Vec<IdentityData>>, Failure<ListErrors>> {
        let app = &context.app;
        let user_id = credentials.account(app).await?.claims.account_user();
        let identities = identity::of_user(app, &user_id).await?.into_iter();
        let data = identities.map(|one| IdentityData::of(app, one)).collect();
        Ok(Answer::new("Identities listed.", data))
    }

    /// Unlink an identity
    ///
    /// The last way to log in stays. Needs a recent login, with the second factor of a user who has
    /// one.
    #[oai(path = "/account/identities/:id", method = "delete", operation_id = "unlinkIdentity")]
    async fn unlink(
        &self,
        context: Context,
        credentials: Credentials,
        /// The id of the identity.
        id: Path<String>,
    ) -> Result<Answer<Nothing>, Failure<RemoveErrors>> {
        let (user, login) = current(&context, credentials).await?;
        let overview = second_factors::overview(&context.app, &user.id).await?;
        let login = (login, !overview.factors.is_empty());
        identity::unlink_own(&context.app, &user.id, login, &id.0, &context.caller).await?;
        Ok(Answer::new("Identity unlinked.", Nothing {}))
    }
}

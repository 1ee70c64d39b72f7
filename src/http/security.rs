//! The security scheme of the JSON API: an access token in a header or in a cookie.

use std::sync::Arc;

use poem::{Request, RequestBody, Result, http::Method};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

use super::{context::Context, operation};
use crate::{
    app::App,
    caches::verified_tokens::Verified,
    credentials::{CookieNames, bearer, cookies, require_same_origin},
    error::Error,
    flows::tokens::{first_party, verify},
};

/// The tokens a request carries, not verified yet.
///
/// A bearer token goes before a cookie: where there is one, the access cookie is not looked at.
#[derive(Debug, Default)]
pub struct Credentials {
    pub access_token: Option<String>,
    /// From its cookie only.
    pub refresh_token: Option<String>,
}

impl Credentials {
    /// The access token, verified: it acts for the whole account of its user.
    ///
    /// # Errors
    /// [`Error::NoToken`]; those of [`verify::verify_account`].
    pub async fn account(&self, app: &App) -> Result<Arc<Verified>, Error> {
        let token = self.access_token.as_deref().ok_or(Error::NoToken)?;
        verify::verify_account(app, token).await
    }
}

impl<'a> ApiExtractor<'a> for Credentials {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            operation::ACCESS_TOKEN,
            MetaSecurityScheme {
                ty: "http",
                description: Some(
                    "An access token in `Authorization: Bearer …`. A browser that logged in with `delivery: cookie` \
                     sends it as the cookie `__Host-propusk_access` instead.",
                ),
                name: None,
                key_in: None,
                scheme: Some("bearer"),
                bearer_format: Some("JWT"),
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![operation::ACCESS_TOKEN, operation::OAUTH2]
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> Result<Self> {
        let app = &Context::of(request)?.app;
        let config = &app.config;
        let headers = request.headers();
        let bearer = bearer(headers)?;
        let names = CookieNames::of(config);
        let refresh_token =
            first_party::valid_refresh_cookie(app, cookies(headers, names.refresh)).await;
        let from_cookie = match bearer {
            None => first_party::valid_access_cookie(app, cookies(headers, names.access)).await,
            Some(_) => None,
        };
        let by_cookie = from_cookie.is_some() || refresh_token.is_some();
        if bearer.is_none() && by_cookie && !is_safe(request.method()) {
            require_same_origin(headers, config)?;
        }
        Ok(Self { access_token: bearer.or(from_cookie), refresh_token })
    }
}

const fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

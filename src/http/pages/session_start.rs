//! `/session/start`: starts a session for an application behind a gateway. The user logs in if
//! necessary, and the browser returns to the application with the session's cookies.

use std::time::Duration;

use poem::{Body, Request, RequestBody, Response, Result, handler, http::Method};

use super::{ReturnTo, current_session, second_factor, see_other, terms, with_cookies};
use crate::{
    api_error::ApiError,
    credentials::CookieNames,
    flows::gateway::{self, Started},
    http::{
        api::Tag,
        context::Context,
        oauth::params,
        operation::{Operation, page},
    },
    limits::{Key, Limit},
    model::actor::RequestContext,
    oauth::params::{Parameters, parameters},
    request_context::user_agent,
};

/// The start of a session behind a gateway.
pub fn operation() -> Operation {
    Operation::new(Method::GET, super::SESSION_START, "startSession", Tag::Gateways, start)
        .about(
            "Log in for an application behind a gateway",
            "Sets the cookies of a session that is bound to the browser's, through the login page if nobody is logged in, and \
             redirects back.",
        )
        .query::<SessionStart>()
        .empty(303, "To the login page, or back.")
        .response(400, "An error page: an invalid parameter.", &[page()])
        .api_errors(&[429])
}

parameters! {
    /// The parameters of the query.
    pub struct SessionStart {
        /// Where to continue: a URL of the issuer or of `gateway.origins`, else the start page.
        pub return_to: Option<String>,
        /// Maximum authentication age in seconds.
        #[oai(validator(minimum(value = "30")))]
        pub max_age: Option<u32>,
        /// Accepted authentication context classes, separated by spaces.
        pub acr_values: Option<String>,
    }
}

/// Starts the session and redirects back; via the login page if no user is logged in, or if the
/// login is older than `max_age`.
#[handler]
pub async fn start(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address)).map_err(ApiError::from)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let SessionStart { return_to, max_age, acr_values } =
        SessionStart::of(&query).map_err(ApiError::from)?;
    let landing = return_to.and_then(|text| gateway::landing(&app.config, &text));
    // What is carried through the login fits into its URL.
    let return_to = landing.as_ref().map(ToString::to_string);
    let return_to = ReturnTo::session_start(&SessionStart {
        return_to,
        max_age,
        acr_values: acr_values.clone(),
    });
    let Some(session) = current_session(app, request).await? else {
        return see_other(&return_to.page_url("/login"));
    };
    let caller = RequestContext {
        user_agent: user_agent(request.headers()),
        ..RequestContext::clone(caller)
    };
    let max_age = max_age.map(|seconds| Duration::from_secs(seconds.into()));
    let acr_values: Vec<String> =
        acr_values.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let started = gateway::start(app, session, max_age, &acr_values, &caller).await;
    let tokens = match started.map_err(ApiError::from)? {
        Started::Session(tokens) => tokens,
        Started::LogIn => {
            return see_other(&format!("{}&reauthenticate=1", return_to.page_url("/login")));
        }
        Started::AcceptTerms => return see_other(&return_to.page_url(terms::PATH)),
        Started::SecondFactor => return see_other(&return_to.page_url(second_factor::PATH)),
    };
    let response = see_other(landing.as_ref().map_or("/login", |url| url.as_str()))?;
    let cookies = CookieNames::of(&app.config).set(
        (&tokens.access_token, tokens.expires_in),
        (&tokens.refresh_token, tokens.refresh_expires_in),
    );
    Ok(with_cookies(response, cookies))
}

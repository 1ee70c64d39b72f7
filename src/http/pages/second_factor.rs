//! `/login/second-factor`: the second step of a login, after the password, or for a user who is
//! logged in with the password only. A user who has no second factor and must have one sets it up
//! here.

use std::sync::Arc;

use poem::{
    Body, Request, RequestBody, Response, Result, handler,
    http::{HeaderValue, StatusCode, header},
};

use super::{
    LoginContext, ReturnTo,
    authorize::display_name,
    check_form,
    csrf::CsrfCookie,
    current_session, deletion, form_status,
    login::{login_url, with_session},
    problem, rendered, see_other, session_cookie, with_cookies,
};
use crate::{
    api_error::ApiError,
    app::App,
    credentials::{CookieNames, cookies},
    error::{Error, SecondFactorRequired},
    flows::{
        accounts::{
            second_factors::{self, Confirmation, Login, SetUp, passkeys},
            second_step::{self, Answer, Completed, Place},
        },
        sessions::open::Cookie,
    },
    http::{
        context::Context,
        oauth::params,
        views::{
            Form, FormAction, Locale, PasskeyForm, Problem, RecoveryCodes, SecondFactor,
            SetUpFactor,
        },
    },
    limits::{Key, Limit},
    model::{browser_session::BrowserSession, second_factor::FactorMethod, user::User},
    oauth::params::Params,
    storage::users::UserWithPassword,
};

pub(super) const PATH: &str = "/login/second-factor";

const PURPOSE: &str = "second factor";

/// The field of the form that has the browser remembered.
const REMEMBER: &str = "remember";

/// Whose second step this is.
enum Subject {
    /// The password was right a moment ago.
    Waiting { token: String, account: Box<UserWithPassword> },
    /// Somebody is logged in.
    Browser(Box<BrowserSession>),
}

impl Subject {
    async fn of(app: &App, request: &Request) -> Result<Option<Self>> {
        for token in cookies(request.headers(), CookieNames::of(&app.config).login) {
            let waiting = second_step::waiting(app, &token, Place::Page).await;
            if let Some(account) = waiting.map_err(ApiError::from)? {
                return Ok(Some(Self::Waiting { token, account: Box::new(account) }));
            }
        }
        Ok(current_session(app, request).await?.map(|browser| Self::Browser(Box::new(browser))))
    }

    const fn user(&self) -> &User {
        match self {
            Self::Waiting { account, .. } => &account.user,
            Self::Browser(browser) => &browser.user,
        }
    }

    /// For how many days the browser may be remembered; at least one.
    fn remember_days(&self, app: &App) -> Option<u64> {
        match self {
            Self::Waiting { token, account }
                if second_step::may_be_remembered(app, token, account) =>
            {
                Some(app.config.second_factors.remember_for.as_secs().div_ceil(24 * 3_600))
            }
            _ => None,
        }
    }

    const fn has_factor(&self) -> bool {
        match self {
            Self::Waiting { account, .. } => account.second_factor.exists,
            Self::Browser(browser) => browser.has_second_factor,
        }
    }
}

/// Continues with the second step after the password.
pub(super) fn begin(
    app: &App,
    required: &SecondFactorRequired,
    return_to: Option<&ReturnTo>,
) -> Result<Response> {
    let url = return_to.map_or_else(|| PATH.to_owned(), |to| to.page_url(PATH));
    let names = CookieNames::of(&app.config);
    let cookie = names.login_cookie(&required.token, required.expires_in);
    Ok(with_cookies(see_other(&url)?, [cookie]))
}

/// Where the user logs in again, to continue here.
pub(super) fn log_in_again(return_to: Option<&ReturnTo>) -> Result<Response> {
    let url = login_url(return_to);
    let separator = if url.contains('?') { '&' } else { '?' };
    see_other(&format!("{url}{separator}reauthenticate=1"))
}

/// Shows the form for a code, or sets up an authenticator app.
#[handler]
pub async fn show(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(query.get("return_to"));
    let Some(subject) = Subject::of(app, request).await? else {
        return see_other(&login_url(return_to.as_ref()));
    };
    if let Subject::Browser(browser) = &subject {
        if browser.is_mfa() {
            return see_other(return_to.as_ref().map_or("/login", |to| to.url.as_str()));
        }
        if needs_login(app, browser) {
            return log_in_again(return_to.as_ref());
        }
    }
    page(app, request, &subject, return_to.as_ref(), &query, None).await
}

/// Whether a user without a factor has logged in too long ago to add one.
fn needs_login(app: &App, browser: &BrowserSession) -> bool {
    !browser.has_second_factor && second_factors::lack(app, Login::of(browser), false).is_some()
}

async fn page(
    app: &Arc<App>,
    request: &Request,
    subject: &Subject,
    return_to: Option<&ReturnTo>,
    form_values: &Params,
    problem: Option<Problem>,
) -> Result<Response> {
    let context = LoginContext::of(app, request, return_to).await;
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, PURPOSE)?;
    let form = Form { csrf: &csrf, return_to: return_to.map(|to| to.url.as_str()) };
    let t = context.locale(request);
    let page = if subject.has_factor() {
        let overview = second_factors::overview(app, &subject.user().id).await;
        let methods = overview.map_err(ApiError::from)?.methods();
        let asked = passkeys::begin_second_step(app, &subject.user().id).await;
        let asked = asked.map_err(ApiError::from)?;
        let options = asked.as_ref().map(|asked| asked.options.to_string()).unwrap_or_default();
        let page = SecondFactor {
            form,
            client: context.card(),
            problem,
            account: display_name(subject.user()),
            has_app: methods.contains(&FactorMethod::Totp),
            passkey: asked
                .as_ref()
                .map(|asked| PasskeyForm { options: &options, token: &asked.token }),
            other_account: login_url(return_to),
            remember_days: subject.remember_days(app),
            remembers: form_values.get(REMEMBER).is_some(),
        };
        page.render(t, form_status(problem), context.form_action)
    } else {
        let begun = begun(app, subject.user(), form_values)?;
        set_up_view(form, PATH, &begun, form_values, problem, true).render(
            t,
            form_status(problem),
            context.form_action,
        )
    };
    Ok(csrf_cookie.set_on(app, retry_after(rendered(page)?, problem)))
}

/// The set-up that a form belongs to, or a new one where it has expired.
pub(super) fn begun(app: &App, user: &User, form_values: &Params) -> Result<SetUp> {
    if let Some(token) = form_values.get("setup_token") {
        let again = second_factors::set_up_again(app, user, token).map_err(ApiError::from)?;
        if let Some(again) = again {
            return Ok(again);
        }
    }
    Ok(second_factors::set_up(app, user).map_err(ApiError::from)?)
}

pub(super) fn set_up_view<'a>(
    form: Form<'a>,
    action: &'static str,
    set_up: &'a SetUp,
    form_values: &'a Params,
    problem: Option<Problem>,
    is_required: bool,
) -> SetUpFactor<'a> {
    SetUpFactor {
        form,
        action,
        problem,
        is_required,
        setup_token: &set_up.token,
        secret: &set_up.secret,
        qr_code: &set_up.qr_code,
        uri: &set_up.uri,
        name: form_values.get("name").unwrap_or_default(),
    }
}

pub(super) fn retry_after(mut page: Response, problem: Option<Problem>) -> Response {
    if let Some(Problem::TooMany { seconds }) = problem {
        page.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    page
}

/// The recovery codes of a first factor, with the session's cookie.
pub(super) fn codes_page(
    app: &App,
    t: &'static Locale,
    codes: &[String],
    next: &str,
    cookie: Option<&Cookie>,
) -> Result<Response> {
    let page = RecoveryCodes { codes, next };
    let page = rendered(page.render(t, StatusCode::OK, FormAction::ThisServer))?;
    Ok(match cookie {
        Some(cookie) => with_session(app, page, cookie),
        None => page,
    })
}

/// What a form shows for a refused code or set-up.
///
/// # Errors
/// Any other error, unchanged.
pub(super) fn factor_problem(error: Error) -> Result<Problem> {
    match error {
        Error::WrongCode => Ok(Problem::WrongFactorCode),
        Error::InvalidPasskey => Ok(Problem::InvalidPasskey),
        Error::Validation(fields) if fields.iter().any(|field| field.field == "name") => {
            Ok(Problem::FactorName)
        }
        Error::Validation(_) => Ok(Problem::FactorExpired),
        Error::Conflict(_) => Ok(Problem::FactorLimit),
        other => problem(other),
    }
}

/// Checks the code and continues with the request.
#[handler]
pub async fn submit(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address)).map_err(ApiError::from)?;
    let form_values = params::from_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(form_values.get("return_to"));
    let Some(subject) = Subject::of(app, request).await? else {
        return see_other(&login_url(return_to.as_ref()));
    };
    let retry =
        |problem| page(app, request, &subject, return_to.as_ref(), &form_values, Some(problem));
    if let Some(problem) = check_form(app, request, &form_values, PURPOSE)? {
        return retry(problem).await;
    }
    if let Subject::Browser(browser) = &subject
        && needs_login(app, browser)
    {
        return log_in_again(return_to.as_ref());
    }
    let value = |name: &str| form_values.get(name).unwrap_or_default();
    let code = value("code");
    let answer = match (form_values.get("setup_token"), form_values.get("passkey_token")) {
        (None, Some(token)) => Answer::Passkey { token, credential: value("credential") },
        _ if code.trim().is_empty() => return retry(Problem::Empty).await,
        (Some(token), _) => Answer::SetUp(Confirmation::Totp { token, code, name: value("name") }),
        (None, None) => Answer::Code(code),
    };
    let completed = match (&subject, answer) {
        (Subject::Waiting { token: first_step, .. }, answer) => {
            let previous = session_cookie(app, request).await;
            let known = cookies(request.headers(), CookieNames::of(&app.config).remembered);
            let remembered = form_values.get(REMEMBER).map(|_| known.as_slice());
            let browser = (previous.as_deref(), remembered);
            second_step::log_in_browser(app, first_step, answer, browser, caller).await
        }
        (Subject::Browser(browser), Answer::SetUp(given)) => {
            let confirmed = second_factors::confirm_in_browser(app, browser, given, caller).await;
            confirmed
                .map(|(added, session)| Completed { session, recovery_codes: added.recovery_codes })
        }
        (Subject::Browser(browser), answer) => second_step::step_up(app, browser, answer, caller)
            .await
            .map(|session| Completed { session, recovery_codes: None }),
    };
    let completed = match completed {
        Ok(completed) => completed,
        Err(Error::DeletionPending(pending)) => return deletion::offer(app, &pending),
        Err(Error::LoginExpired) => return see_other(&login_url(return_to.as_ref())),
        Err(Error::NeedsLogin { .. }) => return log_in_again(return_to.as_ref()),
        Err(other) => return retry(factor_problem(other)?).await,
    };
    let next = return_to.as_ref().map_or("/login", |to| to.url.as_str());
    let response = match completed.recovery_codes {
        None => super::login::logged_in(app, &completed.session, return_to.as_ref())?,
        Some(codes) => {
            let t = LoginContext::of(app, request, return_to.as_ref()).await.locale(request);
            codes_page(app, t, &codes, next, Some(&completed.session))?
        }
    };
    Ok(with_cookies(response, [CookieNames::of(&app.config).login_cookie("", 0)]))
}

//! Each page in each of its states, with long and hostile texts.

use poem::http::StatusCode;
use propusk::{
    http::views::{
        AcceptTerms, Account, AccountLink, AddPasskey, ApplicationLine, Applications,
        ChangePassword, ClientCard, ConfirmChange, Connect, ConnectionLine, ConnectionNotice,
        Connections, Consent, ConsentLine, DeleteAccount, DeletionOutcome, DeletionResult,
        Destination, DeviceCode, DeviceConsent, DeviceFacts, DeviceLine, DeviceResult, EmailForm,
        EmailOutcome, EmailResult, EmailStep, ErrorPage, ErrorTitle, ExportAccount, FactorLine,
        FactorQuestion, Form, FormAction, FormPost, IdentityLine, Leaving, Locale, LoggedOut,
        Login, Logout, ModuleLine, Modules, Outcome, PasskeyForm, Problem, ProfileField,
        ProfileForm, ProviderLink, RecoveryCodes, Register, RestoreAccount, ScopeLine,
        SecondFactor, Secret, Security, SelectAccount, SessionLine, Sessions, SetUpFactor,
        TermsBox, UnlinkedIdentity,
    },
    model::user_agent::Device,
};

use super::admin;

/// A notebook on a square background.
const LOGO: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 56 56'%3E%3Crect width='56' height='56' fill='%234b3fa7'/%3E%3Cpath d='M16 14h24v28H16z' fill='%23fff'/%3E%3Cpath d='M20 21h16M20 28h16M20 35h9' stroke='%234b3fa7' stroke-width='3'/%3E%3C/svg%3E";

/// What a script needs to run.
const PASSKEY_OPTIONS: &str = r#"{"challenge":"AAAA","user":{"id":"AAAA"}}"#;

/// A part of a QR code.
const QR_CODE: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 29 29\" shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h29v29H0z\"/><path fill=\"#000\" d=\"M4 4h7v7h-7zM18 4h7v7h-7zM4 18h7v7h-7z\"/></svg>";

/// Sixty characters without a place to break them.
pub const LONG: &str = "averyveryverylongnamewithoutanyspacethatsomebodymightreallyus";

pub const PAGES: [&str; 69] = [
    "login",
    "login-providers",
    "identity",
    "identity-link",
    "login-for-client",
    "login-again",
    "login-wrong",
    "login-too-many",
    "register",
    "register-refused",
    "register-invited",
    "consent",
    "consent-first-party",
    "consent-unverified",
    "consent-long",
    "consent-again",
    "select-account",
    "logout",
    "logout-long",
    "logged-out",
    "logged-out-unverified",
    "leaving",
    "account",
    "account-applications",
    "sessions",
    "applications",
    "applications-none",
    "modules",
    "export",
    "delete-account",
    "deletion-requested",
    "restore-account",
    "error-bad-request",
    "error-not-found",
    "error-internal",
    "form-post",
    "device",
    "device-compare",
    "device-wrong",
    "device-consent",
    "device-consent-long",
    "device-approved",
    "device-denied",
    "device-expired",
    "device-used",
    "device-elsewhere",
    "email-code",
    "email-link",
    "email-reset",
    "email-change",
    "email-sent",
    "profile",
    "change-password",
    "second-factor",
    "second-factor-wrong",
    "second-factor-recovery",
    "second-factor-remember",
    "terms",
    "terms-refused",
    "setup",
    "setup-required",
    "recovery-codes",
    "security",
    "security-none",
    "passkey",
    "security-remove",
    "security-renew",
    "services",
    "service-connect",
];

fn client(name: &str) -> ClientCard<'_> {
    ClientCard {
        name,
        logo: None,
        uri: Some("https://notes.example"),
        policy_uri: Some("https://notes.example/privacy"),
        tos_uri: Some("https://notes.example/terms"),
    }
}

fn scopes(names: &[(&str, Option<&str>, bool)]) -> Vec<ScopeLine> {
    names
        .iter()
        .map(|(name, text, known)| ScopeLine {
            name: (*name).to_owned(),
            module: name.starts_with("crm").then(|| "Customers".to_owned()),
            text: text.map(str::to_owned),
            known: *known,
        })
        .collect()
}

/// A page of [`PAGES`].
pub fn page(name: &str, t: &'static Locale) -> poem::Response {
    let form = Form {
        csrf: "c2FtcGxl",
        return_to: Some("/oauth2/authorize?client_id=notes&state=af0ifjsldkj"),
    };
    let russian = t.tag() == "ru";
    let known = ClientCard {
        logo: Some(LOGO),
        ..client(if russian { "Заметки" } else { "Notebook" })
    };
    let weak_email = [("email", "an account with this email address exists already".to_owned())];
    let weak = [("password", "Use at least 8 characters; this password has 2.".to_owned())];
    let email = |step, secret| EmailForm {
        form,
        step,
        token: None,
        account: Some("vera@example.org"),
        secret,
        email: "",
        is_sent: true,
        problem: None,
        fields: &[],
        min_length: 8,
    };
    let provider = |id: &str, name: &str| ProviderLink {
        id: id.to_owned(),
        name: name.to_owned(),
        url: format!("/login/upstream/{id}"),
    };
    let providers = vec![provider("acme", "Acme"), provider("beta", LONG)];
    let login = Login {
        form,
        client: None,
        login: "",
        problem: None,
        register_url: Some("/register".to_owned()),
        reset_url: None,
        reauthenticate: None,
        other_account: "/login".to_owned(),
        passkey: None,
        providers: vec![],
    };
    let terms = TermsBox {
        version: "2026-11",
        url: "https://example.com/terms",
        privacy_url: Some("https://example.com/privacy"),
    };
    let refused_terms = [("acceptedTerms", "accept the terms at https://example.com".to_owned())];
    let accept_terms = AcceptTerms {
        form,
        client: Some(known),
        account: LONG,
        is_new: false,
        problem: None,
        fields: &[],
        terms: Some(terms),
        other_account: "/login".to_owned(),
    };
    let register = Register {
        form,
        client: Some(known),
        invitation: None,
        is_bound: false,
        email: "",
        username: "",
        problem: None,
        fields: &[],
        login_url: "/login".to_owned(),
        providers: providers.clone(),
        min_length: 8,
        terms: None,
    };
    let identity = UnlinkedIdentity {
        form,
        client: Some(known),
        provider: LONG,
        account: None,
        problem: None,
        fields: &weak_email,
        is_bound: false,
        email: "vera@example.org",
        username: "vera",
        registers: true,
        terms: Some(terms),
        register_url: None,
        login_url: "/login".to_owned(),
    };
    let consent = Consent {
        form,
        request: "eyJhbGciOiJub25lIn0",
        shown: "x",
        client: known,
        account: "vera@example.org",
        other_account: "/login",
        scopes: scopes(&[
            ("openid", None, true),
            ("profile", None, true),
            ("email", None, false),
            ("offline_access", None, false),
        ]),
        redirect_host: "notes.example",
        local_redirect: false,
        unverified: false,
        client_host: None,
        resource: None,
    };
    let code = DeviceCode { form, user_code: "", prefilled: false, problem: None };
    let device = DeviceConsent {
        form,
        user_code: "BCDF-GHJK",
        shown: "x",
        client: ClientCard {
            logo: Some(LOGO),
            ..client(if russian { "Телевизор" } else { "Living Room TV" })
        },
        device: DeviceFacts {
            address: Some("2001:db8:17::a5:3"),
            user_agent: Some("Mozilla/5.0 (SMART-TV; Linux; Tizen 9.0) TV/9.0"),
            minutes: 3,
            is_elsewhere: true,
        },
        account: "vera@example.org",
        other_account: "/login",
        scopes: scopes(&[
            ("openid", None, true),
            ("email", None, false),
            ("offline_access", None, false),
        ]),
        unverified: false,
        client_host: None,
        resource: None,
    };
    let result = |outcome| DeviceResult { outcome, page: Some(("/device".into(), vec![])) };
    let error = |title_key, message, code| ErrorPage {
        title_key,
        message,
        code,
        request_id: "01JD4Z3Q8X7V5N2M9K6R1T0W4Y",
        retry_url: None,
        application: None,
        page: Some(("/login".into(), vec![])),
    };
    let (ok, to) = (StatusCode::OK, FormAction::Application);
    let refused = [
        ("email", "an email address has exactly one @, as in name@example.org"),
        ("password", "Use at least 8 characters; this password has 5."),
        ("password", "This password is too easy to guess. Add another word or two."),
    ];
    let refused = refused.map(|(field, message)| (field, message.to_owned()));
    let second_factor = SecondFactor {
        form,
        client: Some(known),
        problem: None,
        account: "vera@example.org",
        has_app: true,
        other_account: "/login".to_owned(),
        passkey: None,
        remember_days: None,
        remembers: false,
    };
    let uri =
        "otpauth://totp/id.example.org:vera%40example.org?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";
    let set_up = SetUpFactor {
        form,
        action: "/account/security/totp",
        problem: None,
        is_required: false,
        setup_token: "eyJlbmMiOiJBMjU2R0NNIn0",
        secret: "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
        qr_code: QR_CODE,
        uri,
        name: "",
    };
    let line = |id, name| FactorLine {
        id,
        name,
        added: "2026-11-21".to_owned(),
        used: Some("2026-11-28".to_owned()),
        is_passkey: false,
    };
    let account = Account {
        name: "vera",
        email: "vera@example.org",
        applications: vec![],
        links: vec![
            AccountLink {
                path: "/account/sessions",
                title: "account-sessions",
                text: "account-sessions-text",
            },
            AccountLink {
                path: "/account/security",
                title: "account-security",
                text: "account-security-text",
            },
        ],
        is_unverified: true,
    };
    let session = |n: u8, application: Option<&str>| SessionLine {
        id: n.to_string(),
        application: application.map(str::to_owned),
        device: Device { browser: Some("Firefox"), system: (n < 2).then_some("Linux") },
        address: (n != 1).then(|| "2001:db8:85a3::8a2e:370:7334".to_owned()),
        opened: "2026-11-21 09:30".to_owned(),
        used: "2026-11-22 18:04".to_owned(),
        is_current: n == 0,
    };
    let sessions = Sessions {
        form,
        account: "vera",
        browsers: vec![session(0, None), session(1, None)],
        applications: vec![session(2, Some(LONG)), session(3, Some(known.name))],
    };
    let module = |id: &str, name: &str, is_self_service, is_enabled| ModuleLine {
        id: id.to_owned(),
        name: name.to_owned(),
        description: "Everything about customers and their orders.".to_owned(),
        is_self_service,
        is_enabled,
        until: None,
    };
    let modules = Modules {
        form,
        account: "vera",
        modules: vec![
            module("crm", "Customers", true, false),
            module("orders", LONG, true, true),
            module("support", "Support", false, true),
        ],
    };
    let security = Security {
        account: "vera@example.org",
        factors: vec![line("1", "My phone"), line("2", LONG)],
        recovery_codes: 9,
        is_required: false,
        has_passkeys: true,
        form,
        problem: Some(Problem::UpstreamLast),
        identities: vec![IdentityLine {
            id: "1".to_owned(),
            provider: LONG.to_owned(),
            added: "2026-11-21".to_owned(),
        }],
        providers: providers.clone(),
        devices: vec![DeviceLine {
            id: "1".to_owned(),
            device: Device::of(None),
            until: "2026-12-21".to_owned(),
        }],
    };
    let change = |question| ConfirmChange { form, question, problem: None };
    let codes: Vec<String> = (0..10).map(|n| format!("7d3k-0hqa-mz4e-w8s{n}")).collect();
    let answer = match name {
        "second-factor" => second_factor.render(t, ok, to),
        "second-factor-wrong" => SecondFactor {
            problem: Some(Problem::WrongFactorCode),
            ..second_factor
        }
        .render(t, ok, to),
        "terms" => accept_terms.render(t, ok, to),
        "terms-refused" => AcceptTerms { fields: &refused_terms, is_new: true, ..accept_terms }
            .render(t, ok, to),
        "second-factor-remember" => SecondFactor {
            passkey: Some(PasskeyForm { options: PASSKEY_OPTIONS, token: "x" }),
            problem: Some(Problem::WrongFactorCode),
            remember_days: Some(30),
            remembers: true,
            ..second_factor
        }
        .render(t, ok, to),
        "second-factor-recovery" => SecondFactor {
            client: None,
            has_app: false,
            account: LONG,
            ..second_factor
        }
        .render(t, ok, to),
        "setup" => set_up.render(t, ok, to),
        "setup-required" => SetUpFactor {
            is_required: true,
            problem: Some(Problem::FactorExpired),
            name: LONG,
            ..set_up
        }
        .render(t, ok, to),
        "recovery-codes" => RecoveryCodes { codes: &codes, next: "/login" }.render(t, ok, to),
        "security" => security.render(t, ok, to),
        "security-none" => Security {
            account: LONG,
            factors: vec![],
            recovery_codes: 0,
            is_required: true,
            has_passkeys: false,
            form,
            problem: None,
            identities: vec![],
            providers: vec![],
            devices: vec![],
        }
        .render(t, ok, to),
        "passkey" => AddPasskey {
            form,
            passkey: PasskeyForm { options: PASSKEY_OPTIONS, token: "x" },
            problem: Some(Problem::InvalidPasskey),
            name: "",
        }
        .render(t, ok, to),
        "security-remove" => change(FactorQuestion::Remove { id: "1", name: LONG, is_last: true })
            .render(t, ok, to),
        "security-renew" => change(FactorQuestion::RenewCodes).render(t, ok, to),
        "login" => login.render(t, ok, to),
        "login-providers" => Login { providers, ..login }.render(t, ok, to),
        "identity" => identity.render(t, ok, to),
        "identity-link" => UnlinkedIdentity {
            account: Some(LONG),
            registers: false,
            register_url: Some("/register".to_owned()),
            problem: Some(Problem::UpstreamTaken),
            fields: &[],
            ..identity
        }
        .render(t, ok, to),
        "login-for-client" => Login { client: Some(known), ..login }.render(t, ok, to),
        "login-again" => Login {
            client: Some(client("Metrics")),
            reauthenticate: Some("vera@example.org"),
            ..login
        }
        .render(t, ok, to),
        "login-wrong" => Login {
            client: Some(client("Metrics & Dashboards of the North-Western Branch")),
            login: "vera",
            problem: Some(Problem::WrongCredentials),
            ..login
        }
        .render(t, ok, to),
        "login-too-many" => Login {
            login: "vera",
            problem: Some(Problem::TooMany { seconds: 42 }),
            ..login
        }
        .render(t, ok, to),
        "register" => register.render(t, ok, to),
        "register-invited" => Register {
            invitation: Some("c2FtcGxl"),
            is_bound: true,
            email: "vera@example.org",
            terms: Some(terms),
            ..register
        }
        .render(t, ok, to),
        "register-refused" => Register {
            email: "vera@@example.org",
            username: "vera",
            problem: Some(Problem::Empty),
            fields: &refused,
            ..register
        }
        .render(t, ok, to),
        "consent" => consent.render(t, ok, to),
        "consent-first-party" => Consent {
            client: ClientCard {
                uri: None,
                policy_uri: None,
                tos_uri: None,
                ..client("Console")
            },
            scopes: vec![],
            ..consent
        }
        .render(t, ok, to),
        "consent-unverified" => Consent {
            client: client("MCP Inspector"),
            scopes: scopes(&[
                ("openid", None, false),
                ("reports:read", Some(if russian { "Читать отчёты" } else { "Read reports" }), false),
                ("urn:example:reports:export:everything", None, false),
            ]),
            redirect_host: "localhost:6274",
            local_redirect: true,
            unverified: true,
            client_host: Some("inspector.mcp.example"),
            resource: Some("https://reports.example.org/mcp"),
            ..consent
        }
        .render(t, ok, to),
        "consent-long" => Consent {
            client: client(LONG),
            account: LONG,
            redirect_host: LONG,
            scopes: scopes(&[("openid", None, false), (LONG, None, false)]),
            ..consent
        }
        .render(t, ok, to),
        "consent-again" => Consent {
            scopes: scopes(&[("openid", None, true), ("profile", None, true)]),
            ..consent
        }
        .render(t, ok, to),
        "logout-long" => Logout {
            form,
            client: Some(LONG),
            account: Some(LONG),
            hidden: vec![],
        }
        .render(t, ok, to),
        "select-account" => SelectAccount {
            form,
            client: Some(known),
            account: "vera@example.org",
        }
        .render(t, ok, to),
        "logout" => Logout {
            form,
            client: Some(known.name),
            account: Some("vera@example.org"),
            hidden: vec![("state", "af0ifjsldkj")],
        }
        .render(t, ok, to),
        "logged-out" => LoggedOut {
            page: Some(("/oauth2/logout".into(), vec![])),
            client: Some((known.name, "https://notes.example")),
            unverified: None,
        }
        .render(t, ok, to),
        "logged-out-unverified" => LoggedOut {
            page: None,
            client: None,
            unverified: Some(("notes.example", "https://notes.example/bye")),
        }
        .render(t, ok, to),
        "leaving" => Leaving {
            page: Some(("/oauth2/authorize".into(), vec![])),
            host: "notes.example",
            to: Destination::Link("https://notes.example/callback?error=login_required"),
            message: "no user is logged in",
            code: "login_required",
        }
        .render(t, ok, to),
        "account" => account.render(t, ok, to),
        "account-applications" => Account {
            applications: vec![
                (known.name, "https://notes.example"),
                ("Metrics & Dashboards of the North-Western Branch", "https://metrics.example"),
            ],
            is_unverified: false,
            ..account
        }
        .render(t, ok, to),
        "sessions" => sessions.render(t, ok, to),
        "applications" => Applications {
            form,
            account: LONG,
            applications: vec![
                ApplicationLine {
                    client_id: "notes".to_owned(),
                    name: known.name.to_owned(),
                    uri: Some("https://notes.example".to_owned()),
                    is_unverified: false,
                    consents: vec![ConsentLine {
                        resources: "Orders".to_owned(),
                        scopes: scopes(&[("openid", None, false), ("crm:read", None, false)]),
                        given: "2026-11-21".to_owned(),
                    }],
                    used: Some("2026-11-22".to_owned()),
                },
                ApplicationLine {
                    client_id: LONG.to_owned(),
                    name: LONG.to_owned(),
                    uri: None,
                    is_unverified: true,
                    consents: vec![],
                    used: None,
                },
            ],
        }
        .render(t, ok, to),
        "applications-none" => {
            Applications { form, account: "vera", applications: vec![] }.render(t, ok, to)
        }
        "modules" => modules.render(t, ok, to),
        "export" => ExportAccount { form, account: LONG }.render(t, ok, to),
        "delete-account" => DeleteAccount {
            form,
            account: LONG,
            until: Some("2026-12-05".to_owned()),
            is_last_admin: true,
        }
        .render(t, ok, to),
        "deletion-requested" => {
            DeletionResult { outcome: DeletionOutcome::Requested("2026-12-05") }.render(t, ok, to)
        }
        "restore-account" => {
            RestoreAccount { form, account: LONG, until: "2026-12-05".to_owned() }.render(t, ok, to)
        }
        "error-bad-request" => ErrorPage {
            application: Some((known.name, Some("https://notes.example"))),
            ..error(
                ErrorTitle::BadRequest,
                "redirect_uri is not one of those registered for this client: register exactly https://notes.example/cb/, \
                 or send the one that is registered",
                Some("invalid_request"),
            )
        }
        .render(t, ok, to),
        "error-not-found" => error(ErrorTitle::NotFound, "nothing is at this address", None).render(t, ok, to),
        "error-internal" => error(ErrorTitle::Internal, "the cause is in the server's log", Some("server_error"))
            .render(t, ok, to),
        "form-post" => FormPost {
            action: "/looks/stay",
            fields: &[("code", "SplxlOBeZQQYbYS6WxSbIA".to_owned())],
        }
        .render(t, ok, to),
        "device" => code.render(t, ok, to),
        "device-compare" => DeviceCode { user_code: "BCDF-GHJK", prefilled: true, ..code }.render(t, ok, to),
        "device-wrong" => DeviceCode {
            user_code: "BCDF-GHJX",
            problem: Some(Problem::WrongCode),
            ..code
        }
        .render(t, ok, to),
        "device-consent" => device.render(t, ok, to),
        "device-consent-long" => DeviceConsent {
            client: client(LONG),
            account: LONG,
            device: DeviceFacts { user_agent: Some(LONG), minutes: 0, ..device.device },
            unverified: true,
            client_host: Some(LONG),
            resource: Some(LONG),
            scopes: scopes(&[(LONG, None, false)]),
            ..device
        }
        .render(t, ok, to),
        "device-approved" => result(Outcome::Approved).render(t, ok, to),
        "device-denied" => result(Outcome::Denied).render(t, ok, to),
        "device-expired" => result(Outcome::Expired).render(t, ok, to),
        "device-used" => result(Outcome::Used).render(t, ok, to),
        "device-elsewhere" => result(Outcome::Elsewhere).render(t, ok, to),
        "email-code" => email(EmailStep::EnterCode, Secret::Nothing).render(t, ok, to),
        "email-link" => EmailForm {
            token: Some("dG9rZW4"),
            problem: Some(Problem::WrongPassword),
            ..email(EmailStep::Verify, Secret::Password)
        }
        .render(t, ok, to),
        "email-reset" => EmailForm {
            token: Some("dG9rZW4"),
            account: Some(LONG),
            fields: &weak,
            ..email(EmailStep::Reset, Secret::NewPassword)
        }
        .render(t, ok, to),
        "email-change" => email(EmailStep::RequestChange, Secret::Password).render(t, ok, to),
        "email-sent" => {
            EmailResult { outcome: EmailOutcome::ResetRequested, next: "/login", page: None }
                .render(t, ok, to)
        }
        "profile" => ProfileForm {
            form,
            fields: ["name", "picture", "birthdate", "address.street_address"]
                .map(|name| ProfileField { name, value: LONG })
                .into(),
            problem: None,
            errors: &[("picture", "must be an https URL".to_owned())],
            is_saved: true,
        }
        .render(t, ok, to),
        "change-password" => ChangePassword {
            form,
            account: LONG,
            problem: Some(Problem::WrongPassword),
            fields: &[],
            min_length: 8,
        }
        .render(t, ok, to),
        "services" => Connections {
            form,
            account: "vera@example.org",
            notice: Some(ConnectionNotice::Denied),
            connections: vec![
                ConnectionLine {
                    service: "billing".to_owned(),
                    since: Some("2026-11-21".to_owned()),
                },
                ConnectionLine { service: "crm".to_owned(), since: None },
            ],
        }
        .render(t, ok, to),
        "service-connect" => Connect {
            form,
            service: "crm",
            host: "crm.example.org",
            account: "vera@example.org",
        }
        .render(t, ok, to),
        // Not in PAGES: this page submits itself at once.
        "form-post-that-goes" => FormPost {
            action: "/looks/received",
            fields: &[("code", "a&b".to_owned()), ("submit", "a field of that name".to_owned())],
        }
        .render(t, ok, to),
        name if admin::PAGES.contains(&name) => admin::page(name, t),
        other => panic!("there is no page {other}"),
    };
    answer.expect("the page renders")
}

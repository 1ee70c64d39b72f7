use super::*;

const HOSTILE: &str = "\"><svg onload=alert(1)>{{7*7}}'&";

fn client(name: &str) -> ClientCard<'_> {
    ClientCard {
        name,
        logo: None,
        uri: Some("javascript:alert(1)"),
        policy_uri: Some("https://app.example/privacy?a=1&b=\"2"),
        tos_uri: Some("data:text/html,x"),
    }
}

async fn html(answer: Result<Response, askama::Error>) -> String {
    let body = answer.unwrap().into_body();
    body.into_string().await.unwrap()
}

/// Every page, with `text` in place of every value.
async fn pages_of(text: &str, t: &'static Locale) -> Vec<String> {
    let form = Form { csrf: text, return_to: Some(text) };
    let (ok, action) = (StatusCode::OK, FormAction::ThisServer);
    let fields = [("email", text.to_owned()), ("password", text.to_owned())];
    let login = Login {
        form,
        client: Some(client(text)),
        login: text,
        problem: Some(Problem::WrongCredentials),
        register_url: Some(text.to_owned()),
        reset_url: None,
        reauthenticate: None,
        other_account: "/login".to_owned(),
        passkey: None,
        providers: vec![],
    };
    let register = Register {
        form,
        client: Some(client(text)),
        invitation: Some(text),
        is_bound: true,
        email: text,
        username: text,
        problem: Some(Problem::TooMany { seconds: 200 }),
        fields: &fields,
        login_url: text.to_owned(),
        providers: vec![],
        min_length: 8,
        terms: Some(TermsBox { version: text, url: text, privacy_url: Some(text) }),
    };
    let scope = |name: &str, text: Option<&str>| ScopeLine {
        name: name.to_owned(),
        module: None,
        text: text.map(str::to_owned),
        known: true,
    };
    let consent = Consent {
        form,
        request: text,
        shown: text,
        client: client(text),
        account: text,
        other_account: text,
        scopes: vec![scope("a", Some(text)), scope(text, None), scope("openid", None)],
        redirect_host: text,
        local_redirect: true,
        unverified: true,
        client_host: Some(text),
        resource: Some(text),
    };
    let select = SelectAccount { form, client: Some(client(text)), account: text };
    let logout =
        Logout { form, client: Some(text), account: Some(text), hidden: vec![(text, text)] };
    let logged_out = LoggedOut {
        page: None,
        client: Some((text, "https://app.example/bye?a=\"b")),
        unverified: Some((text, "https://app.example/bye")),
    };
    let account = Account {
        name: text,
        email: "vera@example.org",
        applications: vec![(text, "https://app.example/"), (text, text)],
        links: vec![AccountLink {
            path: "/email/change",
            title: "email-change-title",
            text: "account-email-text",
        }],
        is_unverified: true,
    };
    let fields_of_email = [("email", text.to_owned()), ("password", text.to_owned())];
    let email = |step| EmailForm {
        form,
        step,
        token: Some(text),
        account: Some(text),
        secret: Secret::NewPassword,
        email: text,
        is_sent: true,
        problem: Some(Problem::WrongMailCode),
        fields: &fields_of_email,
        min_length: 8,
    };
    let known_password =
        EmailForm { secret: Secret::Password, fields: &[], ..email(EmailStep::Verify) };
    let error = ErrorPage {
        title_key: ErrorTitle::BadRequest,
        message: text,
        code: Some(text),
        request_id: text,
        retry_url: Some(text),
        application: Some((text, Some(text))),
        page: Some(("/x".into(), vec![(text.into(), text.into())])),
    };
    let leaving =
        Leaving { page: None, host: text, to: Destination::Link(text), message: text, code: text };
    let again =
        Login { reauthenticate: Some(text), other_account: text.to_owned(), ..login.clone() };
    let code =
        DeviceCode { form, user_code: text, prefilled: false, problem: Some(Problem::WrongCode) };
    let device = DeviceConsent {
        form,
        user_code: text,
        shown: text,
        client: client(text),
        device: DeviceFacts {
            address: Some(text),
            user_agent: Some(text),
            minutes: 2,
            is_elsewhere: true,
        },
        account: text,
        other_account: text,
        scopes: vec![scope("a", Some(text)), scope(text, None)],
        unverified: true,
        client_host: Some(text),
        resource: Some(text),
    };
    let result = DeviceResult { outcome: Outcome::Approved, page: None };
    let connections = Connections {
        form,
        account: text,
        notice: Some(ConnectionNotice::Failed),
        connections: vec![
            ConnectionLine { service: text.to_owned(), since: Some(text.to_owned()) },
            ConnectionLine { service: text.to_owned(), since: None },
        ],
    };
    let connect = Connect { form, service: text, host: text, account: text };
    let post = FormPost { action: text, fields: &[("state", text.to_owned())] };
    let wrong = [("newPassword", text.to_owned()), ("username", text.to_owned())];
    let problem = Some(Problem::WrongPassword);
    let password = ChangePassword { form, account: text, problem, fields: &wrong, min_length: 8 };
    let username = ChangeUsername { form, email: text, username: text, problem, fields: &wrong };
    let errors = [("name", text.to_owned()), ("profile", text.to_owned())];
    let names = ["name", "picture", "address.formatted"];
    let profile = ProfileForm {
        form,
        fields: names.map(|name| ProfileField { name, value: text }).into(),
        problem: None,
        errors: &errors,
        is_saved: true,
    };
    let mut emails = vec![html(known_password.render(t, ok, action)).await];
    for step in EmailStep::ALL {
        emails.push(html(email(step).render(t, ok, action)).await);
    }
    for outcome in EmailOutcome::ALL {
        let result = EmailResult { outcome, next: "/login", page: None };
        emails.push(html(result.render(t, ok, action)).await);
    }
    let pages = vec![
        html(login.render(t, ok, action)).await,
        html(register.render(t, ok, action)).await,
        html(consent.render(t, ok, action)).await,
        html(select.render(t, ok, action)).await,
        html(logout.render(t, ok, action)).await,
        html(logged_out.render(t, ok, action)).await,
        html(account.render(t, ok, action)).await,
        html(error.render(t, ok, action)).await,
        html(post.render(t, ok, action)).await,
        html(leaving.render(t, ok, action)).await,
        html(again.render(t, ok, action)).await,
        html(code.render(t, ok, action)).await,
        html(device.render(t, ok, action)).await,
        html(result.render(t, ok, action)).await,
        html(connections.render(t, ok, action)).await,
        html(connect.render(t, ok, action)).await,
        html(password.render(t, ok, action)).await,
        html(username.render(t, ok, action)).await,
        html(profile.render(t, ok, action)).await,
    ];
    pages.into_iter().chain(emails).collect()
}

#[tokio::test]
async fn t07_untrusted_text_is_escaped_on_every_page() {
    for t in Locale::all() {
        for page in pages_of(HOSTILE, t).await {
            assert!(!page.contains("<svg onload"), "{page}");
            assert!(!page.contains("javascript:") && !page.contains("data:text"), "{page}");
            let tag = format!("<html lang=\"{}\">", t.tag());
            assert!(page.contains(&tag), "{page}");
            assert_eq!(page.matches("<main").count(), 1, "{page}");
            assert_eq!(page.matches("<h1").count(), 1, "{page}");
            assert!(!page.contains("style=") && !page.contains("<style"), "{page}");
            assert!(!page.contains("<script>") && !page.contains(" onclick"), "{page}");
        }
    }
}

#[tokio::test]
async fn a_title_has_no_invisible_isolates() {
    for t in Locale::all() {
        let mut isolated = 0;
        for page in pages_of("Notes", t).await {
            let (_, title) = page.split_once("<title>").unwrap();
            let (title, body) = title.split_once("</title>").unwrap();
            assert!(!title.contains(['\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}']), "{title:?}");
            isolated += usize::from(body.contains('\u{2068}'));
        }
        assert!(isolated > 3, "a name cannot change the direction of a sentence");
    }
}

#[tokio::test]
async fn consent_separates_what_is_new_from_what_was_granted() {
    let consent = &pages_of("a=1", &Locale::all()[0]).await[2];
    // All of it was granted before: said once.
    assert_eq!(consent.matches("allowed all of this before").count(), 1, "{consent}");
    assert!(!consent.contains("already allowed it to"), "{consent}");
    // A self-registered application gets no button that stands out.
    assert!(!consent.contains("<button class=\"button\""), "{consent}");
}

#[tokio::test]
async fn a_rejected_form_names_the_errors_and_keeps_the_values() {
    let t = &Locale::all()[1];
    let form = Form { csrf: "token", return_to: None };
    let fields = [("password", "Use at least 8 characters; this password has 2.".to_owned())];
    let register = Register {
        form,
        client: None,
        invitation: None,
        is_bound: false,
        email: "vera@example.org",
        username: "вера",
        problem: None,
        fields: &fields,
        login_url: "/login".to_owned(),
        providers: vec![],
        min_length: 8,
        terms: None,
    };
    let page = html(register.render(t, StatusCode::OK, FormAction::ThisServer)).await;
    for part in [
        "Ошибка",
        "value=\"vera@example.org\"",
        "value=\"вера\"",
        "id=\"password-error\"",
        "aria-describedby=\"password-error password-hint\"",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let password = page.split("<input id=\"password\"").nth(1).unwrap();
    let password = password.split('>').next().unwrap();
    assert!(password.contains("autofocus") && !password.contains("value="), "{password}");
}

#[test]
fn short_waits_are_shown_in_seconds_and_long_ones_in_minutes() {
    for (seconds, words) in
        [(0, "1 second."), (45, "45 seconds."), (91, "2 minutes."), (900, "15 minutes.")]
    {
        let text = Problem::TooMany { seconds }.text(&Locale::all()[0]);
        let text = text.replace(['\u{2068}', '\u{2069}'], "");
        assert!(text.ends_with(words), "{text}");
    }
}

#[tokio::test]
async fn forms_lead_elsewhere_only_on_the_way_to_an_application() {
    let form_post = FormPost { action: "https://app.example/cb", fields: &[] };
    let policy = |action: FormAction| {
        let answer = form_post.render(&Locale::all()[0], StatusCode::OK, action);
        answer.unwrap().headers()["content-security-policy"].to_str().unwrap().to_owned()
    };
    let own = policy(FormAction::ThisServer);
    assert!(own.contains("form-action 'self'; script-src 'self'"), "{own}");
    let application = policy(FormAction::Application);
    assert_eq!(application, own.replace(" form-action 'self';", ""));
}

#[tokio::test]
async fn the_language_link_keeps_the_query_and_sets_a_cookie() {
    let login = Login {
        form: Form { csrf: "token", return_to: Some("/oauth2/authorize?client_id=a&state=b") },
        client: None,
        login: "",
        problem: None,
        register_url: None,
        reset_url: None,
        reauthenticate: None,
        other_account: "/login".to_owned(),
        passkey: None,
        providers: vec![],
    };
    let answer = login.render(&Locale::all()[2], StatusCode::OK, FormAction::ThisServer);
    let answer = answer.unwrap();
    assert!(answer.headers()["set-cookie"].to_str().unwrap().starts_with("lang=en;"));
    let page = answer.into_body().into_string().await.unwrap();
    let link = "/login?return_to=%2Foauth2%2Fauthorize%3Fclient_id%3Da%26state%3Db&#38;lang=ru";
    assert!(page.contains(link), "{page}");
    let consent = &pages_of("a=1", &Locale::all()[0]).await[2];
    let link = "href=\"/oauth2/authorize?a=1&#38;lang=ru\"";
    assert!(consent.contains(link), "{consent}");
    let asked = (
        "/oauth2/authorize".into(),
        vec![("a".into(), "1&2".into()), ("lang".into(), "ru".into())],
    );
    let links = language_links(&Locale::all()[1], Some(asked));
    let links: Vec<_> = links.iter().map(|one| (one.href.as_str(), one.is_current)).collect();
    let [english, russian] =
        ["en", "ru"].map(|tag| format!("/oauth2/authorize?a=1%262&lang={tag}"));
    assert_eq!(links, [(english.as_str(), false), (&russian, true)]);
}

#[test]
fn a_logo_is_never_loaded_from_another_host() {
    let mut client = client("  «Заметки»");
    assert_eq!(client.letter(), "З");
    client.logo = Some("https://tracker.example/pixel.png");
    assert_eq!(client.picture(), None);
    client.logo = Some("data:image/png;base64,AA==");
    assert!(client.picture().is_some());
}

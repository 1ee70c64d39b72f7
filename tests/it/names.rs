//! Usernames and email addresses in every script: which are the same, and which are refused.

use propusk::storage::Statement;
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Backend, PASSWORD, Reply, TestServer, backend_tests, process};

backend_tests! {
    names_that_differ_in_case_only_are_one_account,
    names_with_combining_marks_are_accepted,
    names_that_look_like_others_are_refused,
    stored_canonical_forms_are_renewed_and_collisions_reported,
    the_command_line_escapes_hidden_characters,
}

async fn register(server: &TestServer, email: &str, username: &str) -> Reply {
    let body = json!({ "email": email, "username": username, "password": PASSWORD });
    server.post("/api/v1/auth/register", body).await
}

async fn names_that_differ_in_case_only_are_one_account(backend: Backend) {
    let server = TestServer::start(backend).await;
    register(&server, "straße@example.org", "straße").await.expect(StatusCode::CREATED);
    register(&server, "odysseus@example.org", "ὈΔΥΣΣΕΎΣ").await.expect(StatusCode::CREATED);
    for (email, username) in [("a@example.org", "STRASSE"), ("b@example.org", "ὀδυσσεύς")]
    {
        let reply = register(&server, email, username).await;
        reply.expect_error(409, "USERNAME_ALREADY_EXISTS");
    }
    let reply = register(&server, "STRASSE@example.org", "another").await;
    reply.expect_error(409, "EMAIL_ALREADY_EXISTS");
    for login in ["STRASSE", "strasse", " Straße ", "Strasse@EXAMPLE.org", "ὀδυσσεύσ"] {
        server.login(login).await.expect(StatusCode::OK);
    }
    // Two domains.
    register(&server, "a@straße.example", "one").await.expect(StatusCode::CREATED);
    register(&server, "a@strasse.example", "two").await.expect(StatusCode::CREATED);
}

async fn names_with_combining_marks_are_accepted(backend: Backend) {
    let server = TestServer::start(backend).await;
    for (at, name) in ["हिन्दी", "தமிழ்", "สวัสดี", "ខ្មែរ", "မြန်မာ", "vera漢字"].into_iter().enumerate()
    {
        let email = format!("user{at}@{name}.example");
        register(&server, &email, name).await.expect(StatusCode::CREATED);
        server.login(name).await.expect(StatusCode::OK);
        server.login(&email).await.expect(StatusCode::OK);
    }
}

async fn names_that_look_like_others_are_refused(backend: Backend) {
    let server = TestServer::start(backend).await;
    register(&server, "vera@example.org", "vera").await.expect(StatusCode::CREATED);
    let hidden = [
        "\u{3164}",
        "\u{115f}",
        "\u{1160}",
        "\u{ffa0}",
        "\u{200b}",
        "\u{200d}",
        "\u{202e}",
        "\u{2066}",
        "\u{61c}",
        "\u{ad}",
        "\u{34f}",
        "\u{fe0f}",
        "\u{2800}",
        "\u{e0061}",
    ];
    for c in hidden {
        for name in [format!("ve{c}ra"), format!("vera{c}")] {
            let reply = register(&server, "nora@example.org", &name).await;
            let text = reply.expect_error(400, "VALIDATION_ERROR").text;
            assert!(text.contains("username has no invisible"), "{name:?}: {text}");
            let reply = register(&server, &format!("{name}@example.org"), "nora").await;
            let text = reply.expect_error(400, "VALIDATION_ERROR").text;
            assert!(text.contains("email address has no invisible"), "{name:?}: {text}");
        }
    }
    for name in ["vеra", "аdmin", "paypαl"] {
        let reply = register(&server, "nora@example.org", name).await;
        let text = reply.expect_error(400, "VALIDATION_ERROR").text;
        assert!(text.contains("one script only"), "{name:?}: {text}");
    }
}

async fn stored_canonical_forms_are_renewed_and_collisions_reported(backend: Backend) {
    let server = TestServer::start(backend).await;
    let canonicalize = || process::run(&server.database, &[], &["user", "canonicalize"]);
    for name in ["anna", "hans", "straße", "grete"] {
        register(&server, &format!("{name}@example.org"), name).await.expect(StatusCode::CREATED);
    }
    // As an earlier rule, lower case, has left them.
    for sql in [
        "UPDATE users SET username = 'Maße', username_canonical = 'maße' WHERE username = 'anna'",
        "UPDATE users SET email = 'Straße@example.org', email_canonical = 'x@example.org' WHERE username = 'hans'",
    ] {
        server.app.db.write(Statement::new(sql)).await.expect("changed");
    }
    server.login("MASSE").await.expect(StatusCode::UNAUTHORIZED);
    let output = canonicalize();
    let (report, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{report} {error}");
    assert!(report.contains("renewed 1 canonical name(s)"), "{report}");
    assert!(report.contains("Straße@example.org is the same name as user"), "{report}");
    assert!(error.contains("1 name(s) collide"), "{error}");
    server.login("MASSE").await.expect(StatusCode::OK);
    server.login("strasse@example.org").await.expect(StatusCode::OK);
    let rename = "UPDATE users SET email = 'hans@example.org' WHERE username = 'hans'";
    server.app.db.write(Statement::new(rename)).await.expect("changed");
    let output = canonicalize();
    assert!(output.status.success(), "{output:?}");
    server.login("hans@example.org").await.expect(StatusCode::OK);
    let output = canonicalize();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && report.contains("renewed 0 "), "{report}");
}

async fn the_command_line_escapes_hidden_characters(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("vera").await;
    // No transport lets them in; a database may have them from elsewhere.
    let raw = "UPDATE users SET username = $1, email = $2";
    let raw = Statement::new(raw).bind("ve\u{202e}ra\u{1b}[31m").bind("v\u{3164}@example.org");
    server.app.db.write(raw).await.expect("changed");
    let commands: [&[&str]; 3] =
        [&["user", "list"], &["user", "disable", "vera"], &["user", "disable", "no\u{202e}body"]];
    let mut printed = String::new();
    for command in commands {
        let output = process::run(&server.database, &[], command);
        printed.push_str(&String::from_utf8_lossy(&output.stdout));
        printed.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    for escaped in ["v\\u3164@example.org", "ve\\u202era\\u001b[31m"] {
        assert!(printed.contains(escaped), "{printed}");
    }
    assert!(!printed.contains(['\u{202e}', '\u{1b}', '\u{3164}']), "{printed:?}");
}

//! What the crate offers: errors, settings, and its public interface as a whole.

use std::{collections::BTreeSet, fs, path::Path};

use propusk_client::{Error, Propusk, Registration};

use crate::support::server::{PASSWORD, Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_the_server_are_typed() {
    let server = Server::start(&[]).await;
    let propusk = Propusk::builder(&server.issuer).build().expect("settings");
    let registration = Registration {
        email: "no email".to_owned(),
        username: Some("a b".to_owned()),
        password: PASSWORD.to_owned(),
    };
    let invalid = propusk.register(&registration).await.expect_err("two fields are invalid");
    let Error::Server(error) = &invalid else { panic!("{invalid:?}") };
    let fields: BTreeSet<_> = error.details.iter().map(|detail| detail.field.as_str()).collect();
    assert_eq!(fields, BTreeSet::from(["email", "username"]));
    assert_eq!((invalid.status(), invalid.code()), (error.status, "VALIDATION_ERROR"));
    assert!(error.request_id.is_some());
    let wrong = propusk.log_in("vera", "wrong").await.expect_err("no such user");
    assert_eq!((wrong.status(), wrong.code()), (401, "INVALID_CREDENTIALS"));
    assert!(!wrong.is_refused() && !wrong.is_temporary(), "no session was refused");
    let registration =
        Registration { email: "vera@example.org".to_owned(), username: None, ..registration };
    let tokens = propusk.register(&registration).await.expect("an account");
    assert_eq!(tokens.user.email, "vera@example.org");
    let debug = format!("{tokens:?} {registration:?} {propusk:?}");
    for secret in [&tokens.access_token, &tokens.refresh_token, PASSWORD] {
        assert!(!debug.contains(secret), "{debug}");
    }
    drop(server);
    let lost = propusk.log_in("vera", PASSWORD).await.expect_err("nothing listens");
    assert!(matches!(&lost, Error::Network { .. }) && lost.is_temporary(), "{lost}");
    assert!(!lost.to_string().contains(PASSWORD));
}

#[test]
fn settings_are_checked() {
    for builder in [
        Propusk::builder("id.example.com"),
        Propusk::builder("ftp://id.example.com"),
        Propusk::builder("https://id.example.com").url("propusk:8080"),
        // Without a feed, the server verifies tokens of its own API only.
        Propusk::builder("https://id.example.com").audience("https://api.example.com"),
        // Outside of a runtime.
        Propusk::builder("https://id.example.com").feed("gateway", "secret"),
        Propusk::builder("https://id.example.com").cookie_domain("example.com\r\nx: y"),
    ] {
        let text = format!("{builder:?}");
        assert!(matches!(builder.build(), Err(Error::Configuration(_))), "{text}");
    }
    let secure = Propusk::builder("https://id.example.com").build().expect("settings");
    assert_eq!(secure.cookies().access_name(), "__Host-propusk_access");
    let cleared = secure.cookies().clear().expect("cookies");
    let expected = "__Host-propusk_access=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure";
    assert_eq!(cleared[0], expected);
    let wide = Propusk::builder("https://id.example.com").cookie_domain("example.com");
    let wide = wide.build().expect("settings");
    assert_eq!(wide.cookies().refresh_name(), "__Secure-propusk_refresh");
    assert!(
        wide.cookies().clear().expect("cookies")[1]
            .to_str()
            .is_ok_and(|value| { value.ends_with("; Secure; Domain=example.com") })
    );
}

/// The public items of a file, each on a line with the item that it belongs to: types, fields,
/// variants, functions and implementations of traits.
fn public_items(path: &Path, name: &str, items: &mut BTreeSet<String>) {
    let text = fs::read_to_string(path).expect("a source");
    let mut lines = text.lines();
    let (mut owner, mut is_hidden) = (String::new(), false);
    while let Some(line) = lines.next() {
        let depth = line.len() - line.trim_start().len();
        let mut item = line.trim().to_owned();
        let is_impl = depth == 0 && item.starts_with("impl");
        let is_pub = item.starts_with("pub ");
        let is_variant = depth == 4
            && owner.starts_with("pub enum")
            && item.starts_with(|first: char| first.is_ascii_uppercase());
        if is_impl || is_pub || is_variant {
            // A field or a variant ends with its line.
            let is_whole = |item: &str| {
                item.ends_with(['{', ';', '}']) || (item.ends_with(',') && !item.contains("fn "))
            };
            while is_impl && !item.ends_with('{') || !is_impl && !is_whole(&item) {
                item.push(' ');
                item.push_str(lines.next().expect("the rest of the item").trim());
            }
            let item = item.trim_end_matches(['{', ';', ',', ' ']).to_owned();
            let is_trait = is_impl && item.contains(" for ");
            if (is_pub || is_variant || is_trait) && !is_hidden {
                let within = if depth == 0 { String::new() } else { format!(" {owner}:") };
                items.insert(format!("{name}:{within} {item}"));
            }
            if depth == 0 {
                owner = item;
            }
        }
        let line = line.trim();
        is_hidden = line == "#[doc(hidden)]" || (is_hidden && line.starts_with("#["));
    }
}

/// A change of a published interface is deliberate: it is in the diff, and in the changelog.
#[test]
fn the_public_interface_is_recorded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut items = BTreeSet::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root.join("src")).expect("below").display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("propusk.v1.rs") {
                public_items(&path, name.trim_end_matches(".rs"), &mut items);
            }
        }
    }
    let found: String = items.iter().flat_map(|item| [item.as_str(), "\n"]).collect();
    let file = root.join("public-api.txt");
    let recorded = fs::read_to_string(&file).unwrap_or_default();
    if recorded != found {
        let new = std::env::temp_dir().join("propusk-client-public-api.txt");
        fs::write(&new, &found).expect("a file");
        panic!("the public interface has changed: cp {} {}", new.display(), file.display());
    }
}

use std::collections::{BTreeMap, BTreeSet};

use poem::Request;

use super::{FIELD_ERRORS, Locale};
use crate::{
    branding::{Branding, locales},
    error::Error,
    flows::accounts::change::SAME_PASSWORD,
    model::{
        profile::{Editor, ProfileClaim, UserProfile},
        user::{Email, Username},
    },
};

/// The message ids of a language, each with its variables.
fn words(language: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut words = BTreeMap::new();
    let mut current = String::new();
    let texts = locales::ours().filter(|(tag, ..)| *tag == language).map(|(.., text)| text);
    for line in texts.collect::<String>().lines() {
        if line.starts_with(|c: char| c.is_ascii_alphabetic()) {
            let (key, _) = line.split_once(" =").expect("an id and its text");
            current = key.to_owned();
            let new = words.insert(current.clone(), BTreeSet::new()).is_none();
            assert!(new, "{current} is defined twice");
        }
        for part in line.split('$').skip(1) {
            let name = part.split(|c: char| !c.is_ascii_alphanumeric()).next();
            let values = words.get_mut(&current).expect("an id");
            values.insert(name.expect("a name").to_owned());
        }
    }
    words
}

#[test]
fn both_languages_have_the_same_keys_with_the_same_values() {
    assert_eq!(words("en"), words("ru"));
}

#[test]
fn every_file_is_compiled_in_and_whole() {
    for language in ["en", "ru"] {
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("locales").join(language);
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        let compiled = locales::ours().filter(|(tag, ..)| *tag == language);
        let mut compiled: Vec<_> = compiled.map(|(.., text)| text.to_owned()).collect();
        found.sort();
        compiled.sort();
        assert!(found == compiled, "locales/{language} has other files");
        for file in compiled {
            let words = fluent_bundle::FluentResource::try_new(file);
            assert!(words.is_ok(), "{:?}", words.err().map(|(_, errors)| errors));
        }
    }
}

/// The sources that use messages: the templates and the code of the pages, without tests.
fn sources() -> String {
    fn walk(path: &std::path::Path, text: &mut String) {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, text);
            } else if path.file_name().is_some_and(|name| name != "tests.rs") {
                *text += &std::fs::read_to_string(path).unwrap_or_default();
            }
        }
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    walk(&root.join("templates"), &mut text);
    walk(&root.join("src/http"), &mut text);
    walk(&root.join("src/branding"), &mut text);
    text
}

#[test]
fn every_message_used_is_defined_and_every_message_defined_is_used() {
    let (words, text) = (words("en"), sources());
    let is_named = |name: &str| text.contains(&format!("\"{name}\""));
    for key in words.keys() {
        // What an administrator has just done is named by the end of its key.
        let is_done = key.strip_prefix("admin-done-").is_some_and(is_named);
        assert!(is_named(key) || is_done, "{key} is not used");
    }
    for call in ["{{ t.get(\"", "{{ t.with(\""] {
        let asked = text.split(call).skip(1);
        for key in asked.filter_map(|rest| rest.split('"').next()) {
            assert!(words.contains_key(key), "{key} is not in locales/");
        }
    }
}

#[test]
fn russian_is_russian() {
    let russian = &Locale::all()[1];
    for (key, values) in words("ru") {
        let numbered = values.contains("count");
        let text = if numbered {
            russian.with(&key, &[("count", 3_u32)])
        } else {
            let values: Vec<_> = values.iter().map(|name| (name.as_str(), "x")).collect();
            russian.with(&key, &values)
        };
        let cyrillic = |c: char| ('\u{400}'..='\u{4ff}').contains(&c);
        assert!(text.contains(cyrillic), "{key} = {text}");
        assert!(!text.contains('{'), "{key} = {text}");
    }
}

#[test]
fn messages_follow_the_plural_rules() {
    let seconds = |count: u64| {
        let text = Locale::all()[1].with("problem-too-many-seconds", &[("count", count)]);
        text.trim_end_matches('.').rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(seconds(1), "секунду");
    assert_eq!(seconds(3), "секунды");
    assert_eq!(seconds(12), "секунд");
    assert_eq!(seconds(21), "секунду");
}

#[test]
fn every_field_error_is_translated() {
    let emails = [
        "",
        "a b@c",
        "a\n@b",
        "a\u{200b}@b",
        "a@b@c",
        "a..b@c",
        "a@-b",
        &format!("{}@b", "a".repeat(300)),
    ];
    let mut errors: Vec<String> =
        emails.iter().map(|email| Email::parse(email).unwrap_err().to_owned()).collect();
    let names =
        ["a", "a b c", "-ab", "a\u{3164}b", "vеra", "e\u{301}\u{302}\u{303}\u{304}\u{305}x"];
    errors.extend(names.map(|name| Username::parse(name).unwrap_err().to_owned()));
    errors.push(Error::EmailTaken.to_string());
    errors.push(Error::UsernameTaken.to_string());
    let config = crate::config::Config::load(None, std::iter::empty()).unwrap();
    let policy = crate::password::Policy::new(&config.passwords).unwrap();
    let long = "x".repeat(2000);
    for password in ["ab", "sunny kettle\u{7}orbit", "password1", "vera@example.org", long.as_str()]
    {
        errors.extend(policy.check(password, &["vera@example.org"]).unwrap_err());
    }
    let profile = |patch: &serde_json::Value| {
        let patch = patch.as_object().unwrap().clone();
        let merged = UserProfile::default().merged(&patch, &ProfileClaim::ALL, Editor::Owner);
        merged.unwrap_err().into_iter().map(|(_, message)| message)
    };
    errors.extend(profile(&serde_json::json!({
        "name": "", "picture": "", "birthdate": "", "zoneinfo": "", "locale": "", "phone_number": "",
    })));
    let url = format!("https://example.org/{}", "x".repeat(1_000));
    let text = "x".repeat(256);
    errors.extend(profile(&serde_json::json!({
        "profile": url, "picture": url, "website": url,
        "address": { "formatted": text, "street_address": text, "locality": text, "region": text },
    })));
    errors.push(SAME_PASSWORD.to_owned());
    errors.extend(
        [
            crate::http::pages::admin::NOT_CONFIRMED,
            crate::flows::accounts::register::OTHER_ADDRESS,
            crate::flows::accounts::register::OTHER_DOMAIN,
        ]
        .map(str::to_owned),
    );
    errors.push(crate::flows::accounts::terms::must_accept("https://example.org", "1"));
    let mut translated: BTreeSet<&str> = BTreeSet::new();
    for error in &errors {
        let known = FIELD_ERRORS.iter().find(|(start, _)| error.starts_with(start));
        translated.insert(known.unwrap_or_else(|| panic!("no message for: {error}")).1);
        assert!(Locale::all()[1].field_error(error).ends_with('.'));
    }
    let all: BTreeSet<&str> = FIELD_ERRORS.iter().map(|(_, key)| *key).collect();
    let untranslated: Vec<_> = all.difference(&translated).collect();
    assert_eq!(untranslated, [&"field-password-listed"], "which needs a list");
    let short = Locale::all()[0].field_error("Use at least 8 characters; this password has 2.");
    assert!(short.contains('8') && !short.contains('2'), "{short}");
}

#[test]
fn accept_language_selects_the_best_supported_language() {
    let best = |header| {
        let found = Branding::ours().preferred(header)?;
        Some(Locale::all()[found].tag())
    };
    assert_eq!(best("ru-RU,ru;q=0.9,en;q=0.8"), Some("ru"));
    assert_eq!(best("de, en;q=0.5, ru;q=0.4"), Some("en"));
    assert_eq!(best("en;q=0.1, RU;q=0.2"), Some("ru"));
    assert_eq!(best("ru;q=0, de"), None);
    assert_eq!(best("ru;q=x"), None);
    assert_eq!(best("rus"), None);
    assert_eq!(best(""), None);
}

#[test]
fn the_link_outranks_ui_locales_which_outrank_accept_language() {
    let tag = |uri: &str, cookie: &str, ui_locales: Option<&str>| {
        let request = Request::builder()
            .uri_str(uri)
            .header("accept-language", "en")
            .header("cookie", cookie)
            .finish();
        let t = Locale::of_request(&request, ui_locales);
        (t.tag(), t.is_chosen())
    };
    assert_eq!(tag("/?a=1&lang=ru", "lang=en", Some("en")), ("ru", true));
    assert_eq!(tag("/", "lang=ru", Some("en")), ("ru", false));
    assert_eq!(tag("/", "a=b", Some("de fr ru-RU en")), ("ru", false));
    assert_eq!(tag("/?lang=de", "lang=de", Some("de")), ("en", false));
    assert_eq!(tag("/", "", None), ("en", false));
}

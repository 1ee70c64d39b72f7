//! The rules of the house, kept by reading its own files.

use std::{fs, path::Path};

/// What each room may use; the rooms at the bottom come first.
const ROOMS: [(&str, &[&str]); 12] = [
    ("clock", &[]),
    ("oauth", &["clock"]),
    ("model", &["clock", "oauth"]),
    ("config", &["model"]),
    ("storage", &["clock", "oauth", "model", "config"]),
    ("limits", &["clock", "config"]),
    ("password", &["clock", "config"]),
    ("telemetry", &["config", "limits"]),
    ("listener", &[]),
    ("outbound", &["config"]),
    ("jose", &["model", "oauth", "clock"]),
    ("directory", &["model", "storage"]),
];

fn files_of(room: &str) -> Vec<(String, String)> {
    fn walk(path: &Path, files: &mut Vec<(String, String)>) {
        if path.is_dir() {
            for entry in fs::read_dir(path).expect("a folder") {
                walk(&entry.expect("an entry").path(), files);
            }
        } else if path.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            files.push((path.display().to_string(), fs::read_to_string(path).expect("text")));
        }
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![];
    walk(&source.join(room), &mut files);
    walk(&source.join(format!("{room}.rs")), &mut files);
    files
}

/// The rooms that a text names by `crate::room` or in a `use crate::{…}`.
fn named(text: &str) -> Vec<String> {
    let mut names = vec![];
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let text: String = text.lines().filter(is_code).collect();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let list = match rest.strip_prefix('{') {
            Some(inner) => top_level_names(inner),
            None => vec![
                rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap_or("")
                    .to_owned(),
            ],
        };
        names.extend(list);
    }
    names
}

fn top_level_names(inner: &str) -> Vec<String> {
    let (mut depth, mut names, mut current) = (0, vec![], String::new());
    for c in inner.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(std::mem::take(&mut current)),
            _ if depth == 0 => current.push(c),
            _ => {}
        }
    }
    names.push(current);
    let first = |name: String| name.trim().split("::").next().unwrap_or("").to_owned();
    names.into_iter().map(first).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_room_uses_only_those_below_it() {
    for (room, allowed) in ROOMS {
        let files = files_of(room);
        assert!(!files.is_empty() || room == "clock", "there is no room {room}");
        for (file, text) in files {
            for name in named(&text) {
                let fits = name == room || allowed.contains(&name.as_str());
                assert!(fits, "{file} uses crate::{name}: {room} may use {allowed:?} only");
            }
        }
    }
    for (file, text) in files_of("flows") {
        for name in named(&text) {
            assert!(
                !["http", "grpc", "cli", "server"].contains(&name.as_str()),
                "{file} uses crate::{name}"
            );
        }
    }
}

#[test]
fn sql_stands_in_storage_alone() {
    for room in
        ["flows", "http", "grpc", "cli", "keys", "revocation", "app", "server", "oauth", "model"]
    {
        for (file, text) in files_of(room) {
            assert!(!text.contains("Statement::new"), "{file} has SQL: it belongs in src/storage");
        }
    }
}

#[test]
fn the_two_histories_of_the_schema_have_the_same_steps() {
    let names = |backend: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(backend);
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("a folder")
            .map(|e| e.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("postgres"), names("sqlite"));
}

#[test]
fn the_exported_openapi_document_is_fresh() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_propusk"))
        .arg("openapi")
        .output()
        .expect("it runs");
    assert!(output.status.success());
    let exported = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/propusk.yaml");
    let exported = fs::read_to_string(exported).unwrap_or_default();
    let fresh = String::from_utf8(output.stdout).expect("text");
    assert!(
        exported == fresh,
        "openapi/propusk.yaml is stale: cargo run -- openapi > openapi/propusk.yaml"
    );
}

#[test]
fn every_test_that_the_page_of_threats_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/threats.md")).expect("the page");
    let mut code: String = files_of("").into_iter().map(|(_, text)| text).collect();
    for entry in fs::read_dir(root.join("tests/it")).expect("a folder") {
        code += &fs::read_to_string(entry.expect("an entry").path()).unwrap_or_default();
    }
    for entry in fs::read_dir(root.join("tests/it/threats")).expect("a folder") {
        code += &fs::read_to_string(entry.expect("an entry").path()).unwrap_or_default();
    }
    let named: Vec<_> = page
        .split('`')
        .filter(|name| name.starts_with('t') && name.contains('_') && !name.contains('…'))
        .collect();
    assert!(named.len() > 40, "the page names its tests");
    for name in named {
        assert!(
            code.contains(&format!("fn {name}")),
            "docs/threats.md names {name}, which is no test"
        );
    }
}

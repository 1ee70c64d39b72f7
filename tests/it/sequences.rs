//! The diagrams of `docs/sequences.md` name what exists, and mermaid draws every diagram of the
//! documentation.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

use crate::support::{Backend, TestServer, chromium::Chromium, oauth::payload};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The mermaid diagrams of a page.
fn diagrams(page: &str) -> Vec<&str> {
    let begun = page.split("```mermaid\n").skip(1);
    begun.map(|rest| rest.split_once("```").expect("its end").0).collect()
}

/// The texts of the files of a folder whose names have this end, one after the other.
fn texts(folder: &str, end: &str) -> String {
    let entries = fs::read_dir(root().join(folder)).expect("a folder");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let files = files.filter(|file| file.to_string_lossy().ends_with(end));
    files.map(|file| fs::read_to_string(file).expect("text")).collect()
}

/// What a checked diagram names: the line, what kind of thing, and its name.
type Named<'a> = (&'a str, &'static str, String);

/// What the lines of a diagram name.
fn named(diagram: &str) -> Vec<Named<'_>> {
    let participants: BTreeMap<&str, &str> = diagram
        .lines()
        .filter_map(|line| line.trim().strip_prefix("participant ")?.split_once(" as "))
        .collect();
    let mut found = vec![];
    for line in diagram.lines().map(str::trim) {
        for (kind, separator) in
            [("table", "commit: "), ("event", "events: "), ("claim", "claims: ")]
        {
            let listed = line.split_once(separator).map_or("", |(_, names)| names);
            let names = listed.split(", ").filter(|name| !name.is_empty());
            found.extend(names.map(|name| (line, kind, name.to_owned())));
        }
        let Some((arrow, message)) = line.split_once(": ") else { continue };
        let receiver = arrow.rsplit(['>', 'x']).next().unwrap_or_default().trim();
        let is_to_us = participants.get(receiver).is_some_and(|name| name.starts_with("Propusk"));
        let mut words = message.split([' ', ',']);
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if is_to_us && second.starts_with('/') {
            let path = second.split('?').next().unwrap_or_default();
            found.push((line, "operation", format!("{first} {path}")));
        } else if let Some((service, method)) = first.split_once('/') {
            let service = service.rsplit('.').next().unwrap_or_default();
            found.push((line, "RPC", format!("{service}/{method}")));
        } else if first.parse::<u16>().is_ok() && second.contains('_') {
            let is_code = second.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
            found.extend(is_code.then(|| (line, "error code", second.to_owned())));
        }
    }
    found
}

/// The operations of the OpenAPI document, and the pages that it does not list.
fn operations(document: &Value) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("operations").keys() {
            known.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let pages = fs::read_to_string(root().join("src/http/mod.rs")).expect("text");
    for call in [".at(", ".page("] {
        for route in pages.split(call).skip(1).filter(|route| route.trim_start().starts_with('"')) {
            let mut parts = route.split('"').skip(1);
            let (path, methods) = (parts.next().unwrap_or_default(), parts.nth(1));
            let methods = methods.unwrap_or_default().split(", ");
            known.extend(methods.map(|method| format!("{method} {path}")));
        }
    }
    known
}

/// The methods of `proto/`, as `Service/Method`.
fn methods() -> BTreeSet<String> {
    let folders = ["propusk/v1", "propusk/provisioning/v1", "envoy/service/auth/v3"];
    let protocol: String =
        folders.iter().map(|folder| texts(&format!("proto/{folder}"), ".proto")).collect();
    let mut known = BTreeSet::new();
    for service in protocol.split("\nservice ").skip(1) {
        let (name, rest) = service.split_once(" {").expect("a service");
        let body = rest.split_once("\n}").expect("its end").0;
        for method in body.split("\n  rpc ").skip(1) {
            known.insert(format!("{name}/{}", method.split('(').next().unwrap_or_default()));
        }
    }
    known
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sequences_name_what_exists() {
    let document = propusk::http::api::document().expect("a document");
    let codes = document["components"]["schemas"]["ErrorCode"]["enum"].as_array().cloned();
    let names = |values: Option<Vec<Value>>| {
        let values = values.into_iter().flatten();
        values.filter_map(|value| value.as_str().map(str::to_owned)).collect::<BTreeSet<_>>()
    };
    let tables = texts("migrations/sqlite", ".sql");
    let tables = tables.split("CREATE TABLE ").skip(1);
    let tables = tables.filter_map(|rest| Some(rest.split_once(' ')?.0.to_owned())).collect();
    let asyncapi = fs::read_to_string(root().join("openapi/asyncapi.json")).expect("text");
    let events = asyncapi.split('"').map(str::to_owned).collect();
    let server = TestServer::start(Backend::Sqlite).await;
    let claims = payload(&server.register("ann").await.access);
    let claims = claims.as_object().expect("claims").keys().cloned().collect();
    let known: BTreeMap<&str, BTreeSet<String>> = [
        ("table", tables),
        ("event", events),
        ("claim", claims),
        ("operation", operations(&document)),
        ("RPC", methods()),
        ("error code", names(codes)),
    ]
    .into();

    let page = fs::read_to_string(root().join("docs/sequences.md")).expect("a page");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut faults = vec![];
    for diagram in diagrams(&page) {
        for (line, kind, name) in named(diagram) {
            *counts.entry(kind).or_default() += 1;
            if !known[kind].contains(&name) {
                faults.push(format!("no {kind} {name}: {line}"));
            }
        }
    }
    assert_eq!(faults, [""; 0]);
    // The page names something of every kind: else the check sees nothing.
    let least = [("table", 40), ("event", 6), ("claim", 15), ("operation", 25), ("RPC", 4)];
    for (kind, least) in least.into_iter().chain([("error code", 6)]) {
        assert!(counts.get(kind).is_some_and(|count| *count >= least), "{kind}: {counts:?}");
    }
}

/// The Markdown files below a folder.
fn pages(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mermaid and Chromium: run ./dev/test"]
async fn mermaid_parses_every_diagram() {
    let folder = std::env::var("PROPUSK_TEST_GENERATORS_DIR")
        .expect("PROPUSK_TEST_GENERATORS_DIR names no folder with mermaid: run ./dev/test");
    let mermaid = Path::new(&folder).join("node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js");
    let mermaid = fs::read_to_string(mermaid).expect("mermaid");
    let mut files = ["README.md", "ARCHITECTURE.md"].map(|page| root().join(page)).to_vec();
    pages(&root().join("docs"), &mut files);
    let browser = Chromium::open("en").await;
    browser.go("about:blank").await;
    let source = Value::from(mermaid);
    let script = "const script = document.createElement('script'); script.textContent";
    browser.run(&format!("{script} = {source}; document.head.append(script)")).await;
    // The kind of a diagram, or why it is none.
    let parse = async |diagram: &str| {
        let text = Value::from(diagram);
        let script = format!(
            "return mermaid.parse({text}).then((it) => it.diagramType, (error) => `error: ${{error}}`)"
        );
        browser.run(&script).await.as_str().unwrap_or("error: no answer").to_owned()
    };
    let (mut count, mut faults) = (0, vec![]);
    for file in files {
        for diagram in diagrams(&fs::read_to_string(&file).expect("text")) {
            count += 1;
            let kind = parse(diagram).await;
            if kind.starts_with("error") {
                faults.push(format!("{}: {kind}\n{diagram}", file.display()));
            }
        }
    }
    assert_eq!(faults, [""; 0]);
    assert!(count >= 15, "{count} diagrams");
    let broken = parse("sequenceDiagram\n    A->>: no receiver\n").await;
    assert!(broken.starts_with("error"), "{broken}");
    browser.quit().await;
}

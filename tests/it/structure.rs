//! The rules that hold for the source as a whole, checked by reading it.

use std::{collections::BTreeSet, fs, path::Path};

use sqlx::{Connection, Row};

use crate::support::{Backend, Database};

/// The modules that know nothing of a running server, and what each may use. Those with fewer
/// dependencies come first.
const FOUNDATION: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("ids", &[]),
    ("unicode", &[]),
    ("listener", &[]),
    ("oauth", &["clock", "ids"]),
    ("model", &["clock", "ids", "oauth", "unicode"]),
    ("config", &["model"]),
    ("branding", &["config"]),
    ("limits", &["clock", "config", "ids"]),
    ("password", &["clock", "config"]),
    ("outbound", &["config"]),
    ("user_service", &["config", "ids"]),
    ("mailer", &["config", "model"]),
    ("telemetry", &["clock", "config", "limits", "model", "unicode"]),
    ("storage", &["clock", "ids", "oauth", "model", "config"]),
    ("jose", &["clock", "ids", "oauth", "model"]),
    ("dpop", &["clock", "jose", "oauth"]),
    ("directory", &["ids", "model", "oauth", "storage"]),
    ("keys", &["clock", "config", "jose", "model", "oauth", "storage"]),
    ("services", &["clock", "config", "keys", "model", "oauth", "outbound"]),
    ("error", &["keys", "model", "oauth", "password", "storage"]),
    ("diagnostics", &["clock", "error", "model", "storage"]),
    ("caches", &["clock", "ids", "jose", "model", "oauth", "outbound"]),
    (
        "upstream",
        &["caches", "clock", "config", "jose", "keys", "model", "oauth", "outbound", "services"],
    ),
    ("revocation", &["clock", "config", "directory", "keys", "model", "oauth", "storage"]),
];

/// The modules above: each may use the foundation, and those named here.
const ABOVE: &[(&str, &[&str])] = &[
    ("app", &[]),
    ("flows", &["app"]),
    ("api_error", &[]),
    ("credentials", &["api_error"]),
    ("request_context", &["app", "credentials"]),
    ("forward_auth", &["api_error", "app", "credentials", "flows"]),
    ("http", &["api_error", "app", "credentials", "flows", "forward_auth", "request_context"]),
    ("grpc", &["api_error", "app", "credentials", "flows", "forward_auth", "request_context"]),
    ("events", &["app", "flows"]),
    ("server", &["app", "events", "flows", "grpc", "http"]),
    // With `--json`, the lists of cli have the form of the admin API; `propusk openapi` prints the
    // document of http, `propusk serve` runs the server.
    ("cli", &["app", "flows", "http", "server"]),
];

/// Transports read from storage, and change nothing except through a flow.
const TRANSPORTS: [&str; 6] = ["http", "grpc", "cli", "server", "forward_auth", "request_context"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Adds the Rust files below `path`, with their texts.
fn walk(path: &Path, files: &mut Vec<(String, String)>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            walk(&entry.expect("an entry").path(), files);
        }
    } else if path.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
        files.push((path.display().to_string(), fs::read_to_string(path).expect("text")));
    }
}

/// The files of a module of the crate, with their code; of all, where it is empty.
fn files_of(module: &str) -> Vec<(String, String)> {
    let source = root().join("src");
    let mut files = vec![];
    walk(&source.join(module), &mut files);
    walk(&source.join(format!("{module}.rs")), &mut files);
    files
}

/// The text without comment lines.
fn code(text: &str) -> String {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    text.lines().filter(is_code).flat_map(|line| [line, "\n"]).collect()
}

/// The modules that a text names by `crate::module` or in a `use crate::{…}`.
fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(inner) => names.extend(top_level_names(inner)),
            None => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                names.insert(rest[..end.unwrap_or(rest.len())].to_owned());
            }
        }
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

/// How many `super` lead from a file's top level to the root of the crate.
fn depth(file: &str) -> usize {
    let inside = Path::new(file).strip_prefix(root().join("src")).expect("a file of src");
    inside.components().count() - usize::from(inside.ends_with("mod.rs"))
}

#[test]
fn every_module_uses_only_those_below_it() {
    let foundation = || FOUNDATION.iter().map(|(module, _)| *module);
    let above = ABOVE.iter().map(|(module, uses)| {
        let uses = foundation().chain(uses.iter().copied());
        (*module, uses.collect::<Vec<_>>())
    });
    let all = FOUNDATION.iter().map(|(module, uses)| (*module, uses.to_vec())).chain(above);
    let mut listed = BTreeSet::from(["lib".to_owned(), "main".to_owned()]);
    for (module, allowed) in all {
        for below in &allowed {
            assert!(listed.contains(*below), "{module} may use {below}, which comes after it");
        }
        let files = files_of(module);
        assert!(!files.is_empty(), "there is no module {module}");
        for (file, text) in files {
            let text = code(&text);
            for name in named(&text) {
                let fits = name == module || allowed.contains(&name.as_str());
                assert!(fits, "{file} uses crate::{name}: {module} may use {allowed:?} only");
            }
            let to_root = format!("use {}", "super::".repeat(depth(&file)));
            let names_root = text.lines().any(|line| line.starts_with(&to_root));
            assert!(!names_root, "{file} names another module by super: use crate::…");
        }
        listed.insert(module.to_owned());
    }
    for entry in fs::read_dir(root().join("src")).expect("a folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        let module = name.strip_suffix(".rs").unwrap_or(&name);
        assert!(listed.contains(module), "{module} is not listed here: say what it may use");
    }
}

#[test]
fn sql_is_in_storage_only() {
    for (file, text) in files_of("") {
        if file.contains("/src/storage/") {
            continue;
        }
        let text = code(&text);
        // In a string it is a target of the log.
        let sqlx = text.match_indices("sqlx").find(|(at, _)| {
            let name = text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"');
            !name && text[at + "sqlx".len()..].starts_with([':', ';', ' '])
        });
        assert!(sqlx.is_none(), "{file} uses sqlx: SQL belongs in src/storage");
        assert!(!text.contains("Statement::"), "{file} has SQL: it belongs in src/storage");
    }
}

#[test]
fn transports_change_nothing_except_through_flows() {
    for (file, text) in TRANSPORTS.iter().flat_map(|module| files_of(module)) {
        let text = code(&text);
        for transaction in [".begin(", "AuditedTx", "Tx,", "storage::Tx"] {
            assert!(!text.contains(transaction), "{file} changes rows: that belongs in a flow");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_migration_file_is_applied_on_both_databases() {
    let files = |backend: &str| -> Vec<String> {
        let folder = fs::read_dir(root().join("migrations").join(backend)).expect("a folder");
        let files = folder.map(|entry| entry.expect("an entry").file_name());
        let files = files.map(|file| file.into_string().expect("a name"));
        let names: BTreeSet<_> = files.map(|file| file.replace(".sql", "")).collect();
        names.into_iter().collect()
    };
    assert_eq!(files("postgres"), files("sqlite"));
    let database = Database::prepared(Backend::Sqlite).await;
    let url = format!("sqlite://{}", database.folder.path().join("propusk.db").display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("the database");
    let rows = sqlx::query("SELECT description FROM _sqlx_migrations ORDER BY version");
    let rows = rows.fetch_all(&mut connection).await.expect("rows");
    let applied: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(applied, files("sqlite"));
}

#[test]
fn the_exported_openapi_document_is_fresh() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_propusk"))
        .arg("openapi")
        .output()
        .expect("it runs");
    assert!(output.status.success());
    let exported = root().join("openapi/propusk.yaml");
    let exported = fs::read_to_string(exported).unwrap_or_default();
    let fresh = String::from_utf8(output.stdout).expect("text");
    assert!(
        exported == fresh,
        "openapi/propusk.yaml is stale: cargo run -- openapi > openapi/propusk.yaml"
    );
}

/// The functions of `src/`, `tests/it/` and the Rust kit's tests whose names begin with the number
/// of a threat.
fn threat_tests() -> BTreeSet<String> {
    let mut files = files_of("");
    walk(&root().join("tests/it"), &mut files);
    walk(&root().join("clients/rust/tests"), &mut files);
    let names = files.iter().flat_map(|(_, text)| {
        text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next()).map(str::to_owned)
    });
    let is_threat = |name: &String| {
        let rest = name.strip_prefix('t').unwrap_or_default();
        rest.split('_').next().is_some_and(|number| {
            (2..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    names.filter(is_threat).collect()
}

#[test]
fn docs_threats_names_exactly_the_threat_tests() {
    let page = fs::read_to_string(root().join("docs/threats.md")).expect("the page");
    let mut named = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| T")) {
        let cell = row.rsplit('|').nth(1).expect("a cell of tests");
        let tests: Vec<_> = cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        // T75 is about a feature that does not exist yet.
        assert!(!tests.is_empty() || row.starts_with("| T75 "), "no test: {row}");
        named.extend(tests);
    }
    let exist = threat_tests();
    assert!(exist.len() > 100, "the tests are found");
    let missing: Vec<_> = named.difference(&exist).collect();
    assert!(missing.is_empty(), "docs/threats.md names tests that do not exist: {missing:?}");
    let absent: Vec<_> = exist.difference(&named).collect();
    assert!(absent.is_empty(), "docs/threats.md does not name {absent:?}");
}

#[test]
fn the_generated_code_of_the_rust_kit_is_fresh() {
    let fresh = include_str!(concat!(env!("OUT_DIR"), "/kit/propusk.v1.rs"));
    let committed = root().join("clients/rust/src/grpc/propusk.v1.rs");
    let is_fresh = fs::read_to_string(&committed).expect("the code") == fresh;
    let new = concat!(env!("OUT_DIR"), "/kit/propusk.v1.rs");
    assert!(is_fresh, "the kit's gRPC code is stale: cp {new} {}", committed.display());
}

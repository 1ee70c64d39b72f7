//! The OpenAPI document is one that linters accept and that client generators of three languages
//! understand: each client is generated, compiled and used against a running server. The
//! applications are in `tests/generators`; `./dev/test` fetches the generators. `proto/` passes
//! buf's lint.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use tokio::process::Command;

use crate::support::{Backend, PASSWORD, TestServer, process::GO_COMPILER};

/// A folder with the generators, and a file of its own for the document of a running server.
struct Generators {
    folder: PathBuf,
    server: TestServer,
    /// The document and what is generated from it.
    output: tempfile::TempDir,
}

impl Generators {
    async fn start() -> Self {
        let folder = std::env::var("PROPUSK_TEST_GENERATORS_DIR")
            .expect("PROPUSK_TEST_GENERATORS_DIR names no folder with generators: run ./dev/test");
        let folder = PathBuf::from(folder);
        // The generators' programs start in their folder: below it, modules are found.
        let output = tempfile::tempdir_in(&folder).expect("a folder");
        let server = TestServer::start(Backend::Sqlite).await;
        let document = server.get("/openapi.json").await.json();
        std::fs::write(output.path().join("openapi.json"), document.to_string()).expect("a file");
        Self { folder, server, output }
    }

    /// A program that npm has installed.
    fn npm(&self, name: &str) -> PathBuf {
        self.folder.join("node_modules/.bin").join(name)
    }

    fn python(&self, name: &str) -> PathBuf {
        self.folder.join("python/bin").join(name)
    }

    /// Runs a program in the folder of the output. Returns what it printed; it must succeed.
    async fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> String {
        self.run_in(self.output.path(), program, arguments).await
    }

    async fn run_in(&self, folder: &Path, program: impl AsRef<Path>, arguments: &[&str]) -> String {
        let program = program.as_ref();
        let path = std::env::var("PATH").expect("a PATH");
        // openapi-python-client formats its output with a program beside it.
        let path = format!("{}:{path}", self.folder.join("python/bin").display());
        let output = Command::new(program)
            .current_dir(folder)
            .args(arguments)
            .env("PATH", path)
            // No colours, and no questions to npm's registry about newer versions.
            .envs([("NO_COLOR", "1"), ("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true")])
            .env("REDOCLY_TELEMETRY", "off")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await;
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.success(), "{} {arguments:?}: {text}", program.display());
        text
    }

    /// The administrator whom the application logs in as, beside the user whom it registers.
    async fn application_arguments(&self) -> [String; 3] {
        self.server.promote("root").await;
        [self.server.base.clone(), "root@example.org".to_owned(), PASSWORD.to_owned()]
    }
}

#[track_caller]
fn assert_complete(printed: &str) {
    assert!(printed.contains("ok: every user is listed"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Spectral and Redocly: run ./dev/test"]
async fn linters_find_nothing_in_the_openapi_document() {
    let generators = Generators::start().await;
    let rules = generators.folder.join("spectral.yaml");
    let rules = rules.to_str().expect("text");
    let spectral = generators.npm("spectral");
    let arguments = ["lint", "openapi.json", "--ruleset", rules, "--fail-severity", "warn"];
    generators.run(spectral, &arguments).await;
    let rules = generators.folder.join("redocly.yaml");
    let rules = rules.to_str().expect("text");
    let redocly = generators.npm("redocly");
    let printed = generators.run(redocly, &["lint", "openapi.json", "--config", rules]).await;
    // Its rules are strict: a warning is an error.
    assert!(printed.contains("is valid"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs openapi-typescript: run ./dev/test"]
async fn a_generated_typescript_client_calls_the_server() {
    let generators = Generators::start().await;
    let generator = generators.npm("openapi-typescript");
    generators.run(generator, &["openapi.json", "--output", "schema.d.ts"]).await;
    let source = generators.output.path().join("client.ts");
    std::fs::copy(generators.folder.join("client.ts"), source).expect("a copy");
    let options = ["--strict", "--target", "es2022", "--module", "nodenext", "client.ts"];
    generators.run(generators.npm("tsc"), &options).await;
    let [base, admin, password] = &generators.application_arguments().await;
    let printed = generators.run("node", &["client.js", base, admin, password]).await;
    assert_complete(&printed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs openapi-python-client: run ./dev/test"]
async fn a_generated_python_client_calls_the_server() {
    let generators = Generators::start().await;
    let generator = generators.python("openapi-python-client");
    let arguments = ["generate", "--path", "openapi.json", "--meta", "none", "--output-path"];
    let arguments = [&arguments[..], &["propusk_client"]].concat();
    let printed = generators.run(generator, &arguments).await;
    // It leaves out what it does not understand.
    assert!(!printed.to_lowercase().contains("warning"), "{printed}");
    let script = generators.output.path().join("client.py");
    std::fs::copy(generators.folder.join("client.py"), script).expect("a copy");
    let [base, admin, password] = &generators.application_arguments().await;
    let python = generators.python("python");
    let printed = generators.run(python, &["client.py", base, admin, password]).await;
    assert_complete(&printed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and oapi-codegen: run ./dev/test"]
async fn a_generated_go_client_calls_the_server() {
    let generators = Generators::start().await;
    let module = generators.output.path().join("go");
    std::fs::create_dir_all(module.join("propusk")).expect("a folder");
    for file in ["go.mod", "go.sum", "main.go", "oapi-codegen.yaml"] {
        let source = generators.folder.join("go").join(file);
        std::fs::copy(source, module.join(file)).expect("a copy");
    }
    let compiler = GO_COMPILER.lock().await;
    let generate = ["tool", "oapi-codegen", "-config", "oapi-codegen.yaml", "../openapi.json"];
    generators.run_in(&module, "go", &generate).await;
    generators.run_in(&module, "go", &["vet", "./..."]).await;
    generators.run_in(&module, "go", &["build", "-o", "client", "."]).await;
    drop(compiler);
    let [base, admin, password] = &generators.application_arguments().await;
    let client = module.join("client");
    let printed = generators.run_in(&module, client, &[base, admin, password]).await;
    assert_complete(&printed);
}

/// Every object of the document, with where it is.
fn walk<'a>(value: &'a Value, at: &str, visit: &mut impl FnMut(&str, &'a Value)) {
    visit(at, value);
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                walk(member, &format!("{at}/{name}"), visit);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &format!("{at}/{index}"), visit);
            }
        }
        _ => {}
    }
}

/// Runs buf on a copy of `proto` in which one text of a file is replaced. Returns whether it
/// succeeded, and what it printed.
async fn buf(arguments: &[&str], file: &str, from: &str, to: &str) -> (bool, String) {
    let tool = std::env::var("PROPUSK_TEST_GENERATORS_DIR")
        .expect("PROPUSK_TEST_GENERATORS_DIR names no folder with generators: run ./dev/test");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = tempfile::tempdir().expect("a folder");
    let mut cp = Command::new("cp");
    cp.args(["-r", "buf.yaml", "proto"]).arg(copy.path()).current_dir(root);
    assert!(cp.status().await.expect("cp runs").success());
    let path = copy.path().join(file);
    let text = std::fs::read_to_string(&path).expect("a file");
    assert!(text.contains(from), "{from}");
    std::fs::write(path, text.replace(from, to)).expect("a file");
    let output = Command::new(Path::new(&tool).join("node_modules/.bin/buf"))
        .args(arguments)
        .current_dir(copy.path())
        .env("BUF_CACHE_DIR", copy.path().join(".cache"))
        .output()
        .await
        .expect("buf runs");
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs buf: run ./dev/test"]
async fn buf_lints_the_protocol_and_detects_breaking_changes() {
    let (token, field) = ("proto/propusk/v1/token.proto", "string access_token = 1;");
    let against = format!("{}/proto", env!("CARGO_MANIFEST_DIR"));
    let breaking = ["breaking", "--against", &against];
    let format = ["format", "--path", "proto/propusk", "--diff", "--exit-code"];
    for check in [&["lint"][..], &breaking, &format] {
        let (passed, printed) = buf(check, token, field, field).await;
        assert!(passed, "{check:?}: {printed}");
    }
    // Each of them finds what it is for.
    for (check, to, finding) in [
        (&["lint"][..], "string AccessToken = 1;", "lower_snake_case"),
        (&breaking, "int64 access_token = 1;", "changed type"),
        (&format, "string   access_token = 1;", "access_token"),
    ] {
        let (passed, printed) = buf(check, token, field, to).await;
        assert!(!passed && printed.contains(finding), "{check:?}: {printed}");
    }
}

/// The rules that the generators taught, without the generators.
#[test]
fn the_openapi_document_has_nothing_generators_misread() {
    let document = propusk::http::api::document().expect("a document");
    let mut faults = vec![];
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    walk(&document["components"]["schemas"], "", &mut |at, value| {
        if value["allOf"].as_array().is_some_and(|parts| parts.len() != 1) {
            faults.push(format!("{at}: allOf of several schemas for one type"));
        }
        let required: Vec<&Value> = value["required"].as_array().into_iter().flatten().collect();
        for (name, property) in value["properties"].as_object().into_iter().flatten() {
            if property.get("default").is_some() && !required.iter().any(|known| *known == name) {
                faults.push(format!("{at}/{name}: a default of an optional property"));
            }
        }
    });
    for (name, schema) in schemas {
        // Constructors in Go are `New…`; `Error` and `Client` are types of every language or of
        // the generated client itself.
        let is_reserved = ["Error", "Client"].contains(&name.as_str()) || name.starts_with("New");
        if is_reserved || name.contains('_') || !name.starts_with(|c: char| c.is_ascii_uppercase())
        {
            faults.push(format!("{name}: not a name of a type"));
        }
        // Generators name an inline object or enum after its property.
        for (property, inline) in schema["properties"].as_object().into_iter().flatten() {
            let capital = property[..1].to_uppercase() + &property[1..];
            let is_type = inline["type"] == "object" || inline["enum"].is_array();
            if is_type && schemas.contains_key(&format!("{name}{capital}")) {
                faults.push(format!("{name}.{property}: named like a schema"));
            }
        }
    }
    // openapi-generator's constants in Go are named by the values alone.
    let values = |schema: &Value| schema["enum"].as_array().cloned().unwrap_or_default();
    let values: Vec<String> = schemas
        .values()
        .flat_map(values)
        .filter_map(|value| Some(value.as_str()?.to_uppercase()))
        .collect();
    let distinct: BTreeSet<&String> = values.iter().collect();
    assert!(distinct.len() > 40, "error codes and other enumerations: {distinct:?}");
    if distinct.len() != values.len() {
        faults.push(format!("two enumerations with the same value: {values:?}"));
    }
    for (schema, property) in
        [("ErrorResponse", "errorCode"), ("Tokens", "tokenType"), ("OAuthTokens", "token_type")]
    {
        let type_of = &schemas[schema]["properties"][property]["allOf"][0]["$ref"];
        let name = type_of.as_str().and_then(|name| name.rsplit('/').next()).expect("a schema");
        assert!(schemas[name]["enum"].is_array(), "{schema}.{property} is an enumeration");
    }
    let mut ids = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let id = operation["operationId"].as_str().expect("an id");
            let is_camel_case = id.starts_with(|c: char| c.is_ascii_lowercase())
                && id.chars().all(|c| c.is_ascii_alphanumeric());
            if !is_camel_case || !ids.insert(id) {
                faults.push(format!("{method} {path}: operationId {id}"));
            }
            if !operation["security"].is_array() {
                faults.push(format!("{method} {path}: no security"));
            }
            if operation["description"].as_str().unwrap_or_default().is_empty() {
                faults.push(format!("{method} {path}: no description"));
            }
        }
    }
    assert_eq!(faults, [""; 0]);
    assert_eq!(document["servers"][0]["url"], "/");
}

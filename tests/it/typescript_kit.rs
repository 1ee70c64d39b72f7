//! `clients/typescript`, the package `@propusk/client`: its checks, and its tests by Vitest, which
//! start the binary. `./dev/test` installs what they need.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use serde::Deserialize;
use tokio::process::Command;

/// A copy of the package with what its lock file pins.
fn folder() -> PathBuf {
    std::env::var("PROPUSK_TEST_TYPESCRIPT_KIT_DIR")
        .expect("PROPUSK_TEST_TYPESCRIPT_KIT_DIR names no copy of the kit: run ./dev/test")
        .into()
}

/// Runs a program in the folder of the kit. Returns whether it succeeded, and what it printed.
async fn try_run(program: &str, arguments: &[&str]) -> (bool, String) {
    let root = env!("CARGO_MANIFEST_DIR");
    let running = Command::new(program)
        .current_dir(folder())
        .args(arguments)
        .env("PROPUSK_BIN", env!("CARGO_BIN_EXE_propusk"))
        .env("PROPUSK_SOURCE", root)
        .envs([("NO_COLOR", "1"), ("NEXT_TELEMETRY_DISABLED", "1"), ("npm_config_offline", "true")])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Output { status, stdout, stderr } = tokio::time::timeout(Duration::from_secs(600), running)
        .await
        .expect("it ends within 10 minutes")
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let printed = [stdout, stderr].concat();
    (status.success(), String::from_utf8_lossy(&printed).into_owned())
}

/// As [`try_run`]; it must succeed.
async fn run(program: &str, arguments: &[&str]) -> String {
    let (succeeded, printed) = try_run(program, arguments).await;
    assert!(succeeded, "{program} {arguments:?}: {printed}");
    printed
}

/// A test of the kit, as Vitest reports it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Assertion {
    full_name: String,
    status: String,
    failure_messages: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    assertion_results: Vec<Assertion>,
    /// Why none of them has run, if so.
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    success: bool,
    test_results: Vec<File>,
}

/// Runs the tests of the kit; those of the Next.js example are not among them.
async fn report() -> Report {
    // The examples use what is built.
    run("npm", &["run", "build"]).await;
    let file = folder().join("report.json");
    let output = format!("--outputFile={}", file.display());
    let vitest = ["--no-install", "vitest", "run", "--reporter=json", output.as_str()];
    let vitest = [&vitest[..], &["--exclude", "tests/next.test.ts"]].concat();
    let _ = std::fs::remove_file(&file);
    let (_, printed) = try_run("npx", &vitest).await;
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{printed}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

impl Report {
    /// The tests whose names have this text have passed; there must be some.
    fn assert_passed(&self, name: &str) {
        let tests = self.test_results.iter().flat_map(|file| &file.assertion_results);
        let tests: Vec<_> = tests.filter(|test| test.full_name.contains(name)).collect();
        assert!(!tests.is_empty(), "no test of the kit has {name} in its name");
        for test in tests {
            let passed = test.status == "passed";
            assert!(passed, "{}: {} {:?}", test.full_name, test.status, test.failure_messages);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and Chromium: run ./dev/test"]
async fn t170_t171_t172_t173_t174_the_typescript_kit_passes_its_checks_and_tests() {
    // First: `check` packs what it builds.
    let report = report().await;
    for name in ["T170", "T171", "T172", "T173", "T174", ""] {
        report.assert_passed(name);
    }
    let problems: Vec<_> = report.test_results.iter().map(|file| file.message.as_str()).collect();
    assert!(report.success, "{problems:?}");
    for script in ["check", "size"] {
        run("npm", &["run", script]).await;
    }
    std::env::var("PROPUSK_TEST_NEXT_EXAMPLE_DIR")
        .expect("PROPUSK_TEST_NEXT_EXAMPLE_DIR names no copy of examples/next: run ./dev/test");
    // Building takes all processors, and some tests above say "within a second".
    let printed = run("npx", &["--no-install", "vitest", "run", "next"]).await;
    let tests = printed.lines().find(|line| line.trim_start().starts_with("Tests "));
    let passed = tests.and_then(|line| line.split(" passed").next()?.split(' ').next_back());
    let passed: u32 = passed.and_then(|count| count.parse().ok()).unwrap_or_default();
    assert!(passed > 0, "no test has run: {printed}");
}

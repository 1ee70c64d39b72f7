//! `clients/typescript`, the package `@propusk/client`: its checks, and its tests by Vitest, which
//! start the binary. `./dev/test` installs what they need.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::process::Command;

/// A copy of the package with what its lock file pins.
fn folder() -> PathBuf {
    std::env::var("PROPUSK_TEST_TYPESCRIPT_KIT_DIR")
        .expect("PROPUSK_TEST_TYPESCRIPT_KIT_DIR names no copy of the kit: run ./dev/test")
        .into()
}

/// Runs a program in the folder of the kit. Returns what it printed; it must succeed.
async fn run(program: &str, arguments: &[&str]) -> String {
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
    let output = tokio::time::timeout(Duration::from_secs(600), running)
        .await
        .expect("it ends within 10 minutes")
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {printed}");
    printed
}

/// Runs the tests whose names match a pattern; there must be some.
async fn vitest(arguments: &[&str]) {
    let arguments = [&["--no-install", "vitest", "run"][..], arguments].concat();
    let printed = run("npx", &arguments).await;
    let tests = printed.lines().find(|line| line.trim_start().starts_with("Tests "));
    let passed = tests.and_then(|line| line.split(" passed").next()?.split(' ').next_back());
    let passed: u32 = passed.and_then(|count| count.parse().ok()).unwrap_or_default();
    assert!(passed > 0, "no test has run: {printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and Chromium: run ./dev/test"]
async fn the_typescript_kit_passes_its_checks_and_tests() {
    // In this order: the examples use what is built, and `check` packs it.
    for script in ["build", "check", "size"] {
        run("npm", &["run", script]).await;
    }
    vitest(&["--exclude", "tests/next.test.ts"]).await;
    std::env::var("PROPUSK_TEST_NEXT_EXAMPLE_DIR")
        .expect("PROPUSK_TEST_NEXT_EXAMPLE_DIR names no copy of examples/next: run ./dev/test");
    // Building takes all processors, and some tests above say "within a second".
    vitest(&["next"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js: run ./dev/test"]
async fn t170_the_kits_return_to_leads_to_its_own_origin_only() {
    vitest(&["middleware", "--testNamePattern", "T170"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js: run ./dev/test"]
async fn t171_another_spelling_of_a_private_path_is_private() {
    vitest(&["middleware", "--testNamePattern", "T171"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js: run ./dev/test"]
async fn t172_the_kits_feed_misses_no_revocation() {
    vitest(&["feed", "server", "--testNamePattern", "T172"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js: run ./dev/test"]
async fn t173_the_kit_refuses_cross_site_requests_with_cookies() {
    vitest(&["middleware", "server", "--testNamePattern", "T173"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js: run ./dev/test"]
async fn t174_the_kit_verifies_issuer_audience_type_and_signature() {
    vitest(&["server", "--testNamePattern", "T174"]).await;
}

//! What a release consists of.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("a file of the repository")
}

fn sections(binary: &Path) -> String {
    let output = Command::new("readelf").args(["-SW"]).arg(binary).output().expect("binutils");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_released_binary_has_its_debug_information_beside_it() {
    let binary = Path::new(env!("CARGO_BIN_EXE_propusk"));
    assert!(sections(binary).contains(" .debug_line "), "Cargo writes debug information");
    let folder = tempfile::tempdir().expect("a folder");
    let split = Command::new(root().join("packaging/split-debug"))
        .args([binary, folder.path()])
        .output()
        .expect("it runs");
    assert!(split.status.success(), "{split:?}");
    let (stripped, debug) = (folder.path().join("propusk"), folder.path().join("propusk.debug"));
    let left = sections(&stripped);
    assert!(left.contains(" .gnu_debuglink ") && !left.contains(" .debug_line "), "{left}");
    assert!(!left.contains(" .symtab "), "{left}");
    assert!(sections(&debug).contains(" .debug_line "));
    let size = |path: &Path| fs::metadata(path).expect("a file").len();
    assert!(size(&stripped) < size(binary), "{} of {}", size(&stripped), size(binary));
    let version = Command::new(&stripped).arg("--version").output().expect("it runs");
    let version = String::from_utf8(version.stdout).expect("text");
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");

    // The image and the release are made by that script.
    for file in ["Dockerfile", ".github/workflows/release.yml"] {
        let text = read(file);
        assert!(text.contains("packaging/split-debug target/release/propusk"), "{file}");
    }
    assert!(read("Dockerfile").contains("COPY --from=build /dist/propusk /usr/local/bin/propusk"));
}

#[test]
fn compose_offers_metrics_to_its_network_and_publishes_none() {
    let compose: Value = serde_yaml_ng::from_str(&read("compose.yaml")).expect("YAML");
    let propusk = &compose["services"]["propusk"];
    let listen = propusk["environment"]["PROPUSK_METRICS__LISTEN"].as_str().expect("an address");
    let (address, port) = listen.split_once(':').expect("a port");
    assert_eq!(address, "0.0.0.0", "other containers reach it");
    assert_eq!(propusk["expose"], serde_json::json!([port]));
    for published in propusk["ports"].as_array().expect("ports") {
        let published = published.as_str().expect("text");
        assert!(published.starts_with("127.0.0.1:"), "{published}");
        assert!(!published.contains(port), "metrics need no authentication: {published}");
    }
    // With JSON logs no password is printed: the administrator's comes from a file.
    let environment = &propusk["environment"];
    assert_eq!(environment["PROPUSK_LOG__FORMAT"], "json");
    let file = environment["PROPUSK_BOOTSTRAP__ADMIN_PASSWORD_FILE"].as_str().expect("a file");
    let secret = file.strip_prefix("/run/secrets/").expect("a secret");
    let secrets = propusk["secrets"].as_array().expect("secrets");
    assert!(secrets.iter().any(|known| known == secret), "{secrets:?}");
    let path = compose["secrets"][secret]["file"].as_str().expect("a path");
    assert_eq!(path, format!("./secrets/{secret}"));
    assert!(read("dev/secrets").contains(&format!("write {secret} ")), "dev/secrets makes it");
}

/// A system call that the filter lacks would end the server at its start.
#[test]
fn the_systemd_unit_lets_threads_lower_their_priority() {
    let unit = read("packaging/systemd/propusk.service");
    let filters = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    // systemd.exec(5): what a later line allows is taken out of an earlier refusal.
    let mut refuses = false;
    for filter in filters {
        match filter.strip_prefix('~') {
            Some(refused) => refuses |= refused.split(' ').any(|name| name == "@resources"),
            None if filter == "sched_setscheduler setpriority" => refuses = false,
            None => {}
        }
    }
    assert!(!refuses, "@resources has sched_setscheduler and setpriority");
}

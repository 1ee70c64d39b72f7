//! What the README promises.

use std::process::{Command, Stdio};

use crate::support::{
    Backend, Database,
    process::{Process, bare_command},
};

/// The text between "```sh tour" and the next "```" of the README, as a reader would copy it.
fn tour() -> &'static str {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```sh tour\n").expect("a tour");
    rest.split_once("\n```").expect("its end").0
}

/// Runs a text by `sh`, as a reader would; also what it printed.
fn sh(text: &str, base: &str) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tour.sh");
    std::fs::write(&file, text).expect("a file");
    let output =
        Command::new("sh").arg(&file).env("BASE", base).stdin(Stdio::null()).output().expect("sh");
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readme_tour_runs_verbatim_twice() {
    let database = Database::new(Backend::Sqlite).await;
    let server = Process::serve(&database, &[]).await;
    for time in ["first", "second"] {
        let (done, printed) = sh(tour(), &server.base);
        assert!(done, "the {time} time it stopped:\n{printed}");
        assert!(printed.contains("The tour is over"), "{printed}");
        assert!(!printed.contains("a long walk to the lighthouse"), "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readme_tour_stops_at_an_unexpected_response() {
    let database = Database::new(Backend::Sqlite).await;
    let settings = [("PROPUSK_REGISTRATION__ENABLED", "false")];
    let server = Process::serve(&database, &settings).await;
    let (done, printed) = sh(tour(), &server.base);
    assert!(!done, "registration is off, so it cannot succeed");
    assert!(printed.contains("expected 201"), "{printed}");
}

#[test]
fn the_commands_of_the_readme_exist() {
    let readme = include_str!("../../README.md");
    let folder = tempfile::tempdir().expect("a folder");
    for command in ["config check", "config show", "keys rotate", "keys ban", "health", "migrate"] {
        assert!(readme.contains(&format!("propusk {command}")) || readme.contains(command));
        let help = bare_command(folder.path())
            .args(command.split(' '))
            .arg("--help")
            .output()
            .expect("it runs");
        assert!(help.status.success(), "propusk {command}: {help:?}");
    }
}

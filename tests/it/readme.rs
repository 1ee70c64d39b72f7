//! The promises of the README.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{
    Backend, Database,
    process::{Process, bare_command, command},
};

/// The code blocks of a page that begin with "```" and `kind`, one after the other, as a reader
/// would copy them.
pub fn blocks(page: &str, kind: &str) -> String {
    let begin = format!("\n```{kind}\n");
    let blocks = page.split(&begin).skip(1);
    blocks.map(|rest| rest.split_once("```").expect("its end").0).collect()
}

fn tour() -> String {
    blocks(include_str!("../../docs/tour.md"), "sh tour")
}

/// Runs a text with `sh`, as a reader would; also returns what it printed.
pub fn sh(text: &str, base: &str, environment: &[(&str, &str)]) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tour.sh");
    std::fs::write(&file, text).expect("a file");
    let mut command = Command::new("sh");
    command.arg(&file).env("BASE", base).envs(environment.iter().copied()).stdin(Stdio::null());
    let output = command.output().expect("sh");
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readme_tour_runs_verbatim_twice() {
    let database = Database::new(Backend::Sqlite).await;
    let server = Process::serve(&database, &[]).await;
    for time in ["first", "second"] {
        let (done, printed) = sh(&tour(), &server.base, &[]);
        assert!(done, "the {time} time it stopped:\n{printed}");
        assert!(printed.contains("The tour is complete"), "{printed}");
        assert!(!printed.contains("a long walk to the lighthouse"), "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readme_tour_stops_at_an_unexpected_response() {
    let database = Database::new(Backend::Sqlite).await;
    let settings = [("PROPUSK_REGISTRATION__MODE", "closed")];
    let server = Process::serve(&database, &settings).await;
    let (done, printed) = sh(&tour(), &server.base, &[]);
    assert!(!done, "registration is off, so it cannot succeed");
    assert!(printed.contains("expected 201"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_calls_of_a_back_end_run_verbatim() {
    let page = include_str!("../../docs/back-ends.md");
    let database = Database::new(Backend::Sqlite).await;
    let server = Process::serve(&database, &[]).await;
    // The first command of the page, which prints the secret.
    let (_, registration) = page.split_once("```sh\npropusk ").expect("a command");
    let registration = registration.split_once("\n```").expect("its end").0.replace("\\\n", " ");
    let words = registration.split_whitespace();
    // Words in quotation marks are one argument.
    let (mut arguments, mut quoted) = (vec![], false);
    for word in words {
        let plain = word.trim_matches('"').to_owned();
        match arguments.last_mut() {
            Some(last) if quoted => *last = format!("{last} {plain}"),
            _ => arguments.push(plain),
        }
        quoted = (quoted || word.starts_with('"')) && !word.ends_with('"');
    }
    let added = command(&database, &[]).args(&arguments).output().expect("propusk runs");
    let printed = String::from_utf8_lossy(&added.stdout).into_owned();
    assert!(added.status.success(), "{added:?}");
    let secret = printed.lines().find_map(|line| line.strip_prefix("secret (shown once): "));
    let secret = secret.unwrap_or_else(|| panic!("no secret: {printed}"));
    let (done, printed) = sh(&blocks(page, "sh back-ends"), &server.base, &[("SECRET", secret)]);
    assert!(done, "it stopped:\n{printed}");
    assert!(printed.contains("The back end is complete"), "{printed}");
}

/// The subcommands that a text names as `propusk WORD WORD …`: the words before the first argument.
fn named_commands(text: &str) -> BTreeSet<String> {
    let word = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let commands = text.split("propusk ").skip(1).map(|rest| {
        let line = rest.split(['\n', '`', '|', '#']).next().unwrap_or_default();
        let words = line.split(' ').take_while(|w| !w.is_empty() && !w.starts_with('-'));
        words.take_while(word).take(2).collect::<Vec<_>>().join(" ")
    });
    commands.filter(|command| !command.is_empty()).collect()
}

#[test]
fn every_command_in_the_documentation_exists() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = [
        "README.md",
        "docs/back-ends.md",
        "docs/operation.md",
        "docs/move.md",
        "docs/modules.md",
        "docs/account.md",
        "docs/pages.md",
        "docs/second-factors.md",
        "docs/clients.md",
        "docs/migrating-from-auth-service.md",
        "SECURITY.md",
    ];
    for page in pages {
        let text = std::fs::read_to_string(root.join(page)).expect("a page");
        // `user add|list`, shell lines and inline code alike; prose ("propusk is") is in neither.
        let code: String = text.split('`').skip(1).step_by(2).map(|c| format!("{c}\n")).collect();
        for command in named_commands(&code) {
            let help = bare_command(folder.path())
                .args(command.split(' '))
                .arg("--help")
                .output()
                .expect("propusk runs");
            assert!(help.status.success(), "{page}: propusk {command}: {help:?}");
        }
    }
    let named =
        named_commands(&std::fs::read_to_string(root.join("docs/operation.md")).expect("a page"));
    for expected in ["config check", "keys rotate", "keys ban", "health", "migrate"] {
        assert!(named.iter().any(|command| command == expected), "{expected} is not documented");
    }
}

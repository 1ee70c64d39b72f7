//! Pages of the documentation, followed as their reader would.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Database, TestServer, process::command};

/// A page.
pub struct Page(String);

impl Page {
    /// Reads a page by its path in the repository.
    pub fn read(path: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        Self(std::fs::read_to_string(path).expect("a page"))
    }

    /// The code blocks that have a title, as "```js server.mjs", in their order and without their
    /// indentation: titles and texts.
    pub fn blocks(&self) -> Vec<(String, String)> {
        let mut blocks: Vec<(String, String)> = vec![];
        let mut open = None;
        for line in self.0.lines() {
            let text = line.trim_start();
            match (open, text.strip_prefix("```")) {
                (None, Some(begin)) => {
                    let title = begin.split_once(' ').map_or("", |(_, title)| title);
                    blocks.push((title.to_owned(), String::new()));
                    open = Some(line.len() - text.len());
                }
                (Some(_), Some("")) => open = None,
                (Some(indentation), _) => {
                    let (_, block) = blocks.last_mut().expect("one has begun");
                    block.push_str(line.get(indentation..).unwrap_or(text));
                    block.push('\n');
                }
                (None, None) => {}
            }
        }
        blocks.retain(|(title, _)| !title.is_empty());
        blocks
    }

    /// The code block with a title.
    #[track_caller]
    pub fn block(&self, title: &str) -> String {
        let block = self.blocks().into_iter().find(|(found, _)| found == title);
        block.unwrap_or_else(|| panic!("there is no block {title:?}")).1
    }
}

/// Runs commands on a server's database with `sh`; gives what they printed. `propusk` is the binary
/// that is tested, with the server's issuer.
#[track_caller]
pub fn run_commands(server: &TestServer, commands: &str) -> String {
    let issuer = server.app.config.server.issuer.as_str();
    run_commands_on(&server.database, &[("PROPUSK_SERVER__ISSUER", issuer)], commands)
}

/// As [`run_commands`], on a database and with variables of the environment.
#[track_caller]
pub fn run_commands_on(database: &Database, variables: &[(&str, &str)], commands: &str) -> String {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_propusk"));
    let path = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{path}", binary.parent().expect("a folder").display());
    // The environment of the binary, for a shell that runs it.
    let own = command(database, variables);
    let mut shell = Command::new("sh");
    shell.args(["-ec", commands]).env("PATH", path).current_dir(database.folder.path());
    for (key, value) in own.get_envs() {
        match value {
            Some(value) => shell.env(key, value),
            None => shell.env_remove(key),
        };
    }
    let output = shell.stdin(Stdio::null()).output().expect("sh");
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(output.status.success(), "{printed}");
    printed
}

/// The secret of a client that a command has printed.
#[track_caller]
pub fn secret_in(printed: &str) -> String {
    let line = printed.lines().find_map(|line| line.split_once("(shown once): "));
    line.unwrap_or_else(|| panic!("no secret: {printed}")).1.to_owned()
}

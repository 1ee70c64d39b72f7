//! The data folder: who creates it, who may read it, and how many servers use it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::support::{
    Backend, Database, backend_tests,
    process::{Process, bare_command, run, set_up},
};

/// What a folder contains.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it exists").permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t109_the_data_folder_is_accessible_to_its_owner_only() {
    let database = Database::new(Backend::Sqlite).await;
    let folder = database.folder.path().join("new/data");
    let setting = folder.display().to_string();
    let settings = [("PROPUSK_DATA_DIR", setting.as_str())];
    let server = Process::serve_with_umask_022(&database, &settings).await;
    assert_eq!(mode(&folder), 0o700);
    let found = names(&folder);
    for name in ["master.key", "propusk.db", "propusk.db-shm", "propusk.db-wal"] {
        assert!(found.iter().any(|one| one == name), "no {name} in {found:?}");
    }
    for name in found {
        assert_eq!(mode(&folder.join(&name)), 0o600, "{name}");
    }
    assert!(!server.stderr().contains("accessible to other users"), "{}", server.stderr());
    drop(server);

    // What exists keeps its mode, with a warning each.
    let widened = ["master.key", "propusk.db"].map(|name| folder.join(name));
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("changed");
    for path in &widened {
        fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("changed");
    }
    let server = Process::serve_with_umask_022(&database, &settings).await;
    let log = server.stderr();
    let warned: Vec<_> =
        log.lines().filter(|line| line.contains("accessible to other users")).collect();
    for path in widened.iter().chain([&folder]) {
        let shown = format!("path={} ", path.display());
        assert!(warned.iter().any(|line| line.contains(&shown)), "{shown} is not in {log}");
    }
    assert_eq!((mode(&folder), mode(&widened[0])), (0o755, 0o640));
}

#[test]
fn only_serve_and_migrate_create_a_deployment() {
    let folder = tempfile::tempdir().expect("a folder");
    let propusk = |args: &[&str]| bare_command(folder.path()).args(args).output().expect("it runs");
    for args in [
        &["user", "list"][..],
        &["user", "add", "vera@example.org"],
        &["keys", "list"],
        &["keys", "rotate"],
        &["client", "list"],
        &["resource", "list"],
        &["scope", "list"],
        &["module", "list"],
        &["role", "list"],
        &["explain", "0190"],
    ] {
        let output = propusk(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        for part in ["./data/propusk.db", "data_dir", "propusk serve", "propusk migrate"] {
            assert!(stderr.contains(part), "{args:?}: {part} is not in {stderr}");
        }
        assert_eq!(names(folder.path()), [""; 0], "{args:?} creates nothing");
    }
    assert!(propusk(&["migrate"]).status.success());
    let output = propusk(&["user", "add", "vera@example.org"]);
    assert!(output.status.success(), "{output:?}");
}

backend_tests! {
    a_command_never_creates_a_second_master_key,
    an_empty_database_is_refused_by_commands,
    a_second_server_on_one_sqlite_file_is_warned_about,
}

async fn a_command_never_creates_a_second_master_key(backend: Backend) {
    let database = Database::new(backend).await;
    set_up(&database);
    let elsewhere = database.folder.path().join("elsewhere");
    let setting = elsewhere.display().to_string();
    let sqlite = format!("sqlite://{}", database.folder.path().join("propusk.db").display());
    let url = database.url.clone().unwrap_or(sqlite);
    let settings = [("PROPUSK_DATA_DIR", setting.as_str()), ("PROPUSK_DATABASE__URL", &url)];
    // Both before there are keys under the first master key, and after.
    for _ in 0..2 {
        let output = run(&database, &settings, &["keys", "list"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stderr.contains("elsewhere/master.key"), "{stderr}");
        assert!(stderr.contains("secrets.master_key_file"), "{stderr}");
        assert!(!elsewhere.exists());
        let output = run(&database, &[], &["keys", "list"]);
        assert!(output.status.success(), "{output:?}");
    }
}

async fn an_empty_database_is_refused_by_commands(backend: Backend) {
    let database = Database::new(backend).await;
    if backend == Backend::Sqlite {
        fs::write(database.folder.path().join("propusk.db"), "").expect("written");
    }
    let output = run(&database, &[], &["user", "list"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr.contains("is empty") && stderr.contains("propusk migrate"), "{stderr}");
    set_up(&database);
    assert!(run(&database, &[], &["user", "list"]).status.success());
}

async fn a_second_server_on_one_sqlite_file_is_warned_about(backend: Backend) {
    const WARNING: &str = "another server process uses this SQLite file";
    let database = Database::new(backend).await;
    let first = Process::serve(&database, &[]).await;
    assert!(!first.stderr().contains(WARNING));
    let second = Process::serve(&database, &[]).await;
    assert_eq!(second.stderr().contains(WARNING), backend == Backend::Sqlite);
    // The second is the first of the next two.
    assert!(first.terminate().await.success());
    let third = Process::serve(&database, &[]).await;
    assert_eq!(third.stderr().contains(WARNING), backend == Backend::Sqlite);
    for server in [second, third] {
        assert!(server.terminate().await.success());
    }
    let only = Process::serve(&database, &[]).await;
    assert!(!only.stderr().contains(WARNING), "{}", only.stderr());
}

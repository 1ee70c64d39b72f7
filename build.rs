//! Generates the gRPC services and their descriptors from `proto/`, and the list of migrations from
//! `migrations/`.

use std::{
    collections::BTreeSet,
    env,
    error::Error,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=migrations");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("migrations.rs"), migrations()?)?;
    let services = [
        "proto/propusk/v1/token.proto",
        "proto/propusk/v1/user.proto",
        "proto/propusk/v1/revocation.proto",
        "proto/propusk/v1/services.proto",
        "proto/envoy/service/auth/v3/external_auth.proto",
        // For reflection: clients decode the details of an error by it.
        "proto/google/rpc/error_details.proto",
    ];
    // Called, not served: no part of what reflection describes.
    let called = protox::compile(["proto/propusk/provisioning/v1/user.proto"], ["proto"])?;
    tonic_prost_build::configure().include_file("provisioning.rs").compile_fds(called)?;
    // The Rust kit has a copy of this: it needs no compiler of its own.
    let kit = protox::compile(&services[..3], ["proto"])?;
    fs::create_dir_all(out.join("kit"))?;
    tonic_prost_build::configure().build_server(false).out_dir(out.join("kit")).compile_fds(kit)?;
    let files = protox::compile(services, ["proto"])?;
    fs::write(out.join("propusk.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(true)
        .extern_path(".google.rpc", "::tonic_types::pb")
        .include_file("proto.rs")
        .compile_fds(files)?;
    Ok(())
}

/// Two constants, `POSTGRES` and `SQLITE`: version, name and SQL of each migration.
fn migrations() -> Result<String, Box<dyn Error>> {
    let names = names_in("postgres")?;
    if names != names_in("sqlite")? {
        return Err(
            "migrations/postgres and migrations/sqlite must have the same file names".into()
        );
    }
    let mut code = String::new();
    for (constant, folder) in [("POSTGRES", "postgres"), ("SQLITE", "sqlite")] {
        writeln!(code, "const {constant}: &[(i64, &str, &str)] = &[")?;
        let mut last = 0;
        for name in &names {
            let number = name.split_once('_').filter(|(number, _)| number.len() == 4);
            let number = number.and_then(|(number, _)| number.parse::<i64>().ok());
            let number = number.filter(|number| *number > last).ok_or_else(|| {
                format!("migrations/{folder}/{name}.sql must start with a number above {last:04}")
            })?;
            last = number;
            let file = Path::new(&env::var("CARGO_MANIFEST_DIR")?)
                .join(format!("migrations/{folder}/{name}.sql"));
            writeln!(code, "    ({number}, {name:?}, include_str!({file:?})),")?;
        }
        writeln!(code, "];")?;
    }
    Ok(code)
}

fn names_in(folder: &str) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(Path::new("migrations").join(folder))? {
        let file = entry?.file_name().into_string().map_err(|_| "a file name is not UTF-8")?;
        let name = file.strip_suffix(".sql").ok_or(format!("{file} is not a migration"))?;
        names.insert(name.to_owned());
    }
    Ok(names)
}

//! Makes the gRPC services from `proto/`, and what reflection tells of them.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let services = [
        "proto/propusk/v1/token.proto",
        "proto/propusk/v1/user.proto",
        "proto/propusk/v1/revocation.proto",
        "proto/envoy/service/auth/v3/external_auth.proto",
    ];
    let files = protox::compile(services, ["proto"])?;
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("propusk.bin");
    fs::write(descriptors, files.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(true)
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .include_file("proto.rs")
        .compile_fds(files)?;
    Ok(())
}

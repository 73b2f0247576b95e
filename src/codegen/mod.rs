//! Part of `build.rs`, not of the server: turns the .proto into Rust.
//!
//! One compilation feeds two readers. prost makes the messages and tonic the gRPC servers; both drop custom options.
//! [`model`] reads the same files through prost-reflect, which keeps them, and the other modules write what depends on
//! them: JSON and validation ([`messages`]), dispatch and the method table ([`services`]), schemas ([`schema`]).

mod messages;
mod model;
mod schema;
mod services;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Compiles every file below `proto/`.
pub(crate) fn run() -> Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(proto_files(Path::new("proto"))?)?;
    let contract = model::Contract::read(&compiler.descriptor_pool())?;

    let mut config = prost_build::Config::new();
    // Servers only: nothing in the product calls itself over gRPC.
    let servers = tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .codec_path("crate::transport::codec::Protobuf");
    config.service_generator(servers.service_generator());
    config.include_file("messages.rs");
    config.compile_fds(compiler.file_descriptor_set())?;

    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    fs::write(out.join("json.rs"), messages::write(&contract)?)?;
    fs::write(out.join("services.rs"), services::write(&contract)?)?;
    fs::write(out.join("openapi.json"), schema::open_api(&contract).to_string())?;
    Ok(())
}

fn proto_files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.insert(path);
        }
    }
    Ok(found)
}

//! Compiles `proto/` into messages, servers, JSON, validation, the method table and the OpenAPI document.

#![expect(
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "it runs at build time: a panic is a failed build, and cargo speaks through the environment"
)]

#[path = "src/codegen/mod.rs"]
mod codegen;

fn main() {
    // prost-build and protox announce no inputs of their own.
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=src/codegen");
    println!("cargo:rerun-if-changed=migrations");
    if let Err(why) = codegen::run() {
        println!("cargo::error={why}");
    }
}

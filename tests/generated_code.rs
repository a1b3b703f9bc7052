//! Holds the checked-in code of `proto/raftkv.proto` to the file it is made of.
//!
//! A user's build needs neither protoc nor a build script; here the code is made anew, by a compiler written in
//! Rust, and compared.

use std::path::Path;

const HEADER: &str = "\
//! The messages of `proto/raftkv.proto`, as prost makes them. Not written by hand: after a change of that file run
//! `RAFTKV_REGENERATE=1 cargo test --test generated_code`.

";

fn generate(root: &Path) -> String {
    let proto = root.join("proto");
    let files = protox::compile([proto.join("raftkv.proto")], [&proto]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let mut config = prost_build::Config::new();
    // What is large and rare is not to make every answer as large.
    config.bytes(["."]).boxed(".raftkv.ClientResponse.outcome.status");
    config.out_dir(out.path()).compile_fds(files).unwrap();
    let made = std::fs::read_to_string(out.path().join("raftkv.rs")).unwrap();
    let code = made.lines().filter(|line| !line.starts_with("// This file is @generated"));
    code.fold(HEADER.to_string(), |all, line| all + line + "\n")
}

#[test]
fn the_checked_in_code_is_what_the_proto_file_makes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("src/wire/generated.rs");
    let made = generate(root);
    if std::env::var_os("RAFTKV_REGENERATE").is_some_and(|value| value == "1") {
        std::fs::write(&path, &made).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap();
    assert!(made == checked_in, "proto/raftkv.proto has changed; the head of src/wire/generated.rs says what to run");
}

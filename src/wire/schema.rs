//! Holds the checked-in code of `proto/raftkv.proto` to the file it was made of.
//!
//! A user's build needs neither protoc nor a build script; here, in the tests, the code is made anew and compared.

use std::path::Path;

const HEADER: &str = "\
//! The messages of `proto/raftkv.proto`, as prost makes them. Not written by hand: after a change of that file run
//! `RAFTKV_REGENERATE=1 cargo test --lib wire::schema`.

";

fn generate() -> String {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let files = protox::compile([proto.join("raftkv.proto")], [&proto]).unwrap();
    let out = tempfile::tempdir().unwrap();
    prost_build::Config::new().bytes(["."]).out_dir(out.path()).compile_fds(files).unwrap();
    let made = std::fs::read_to_string(out.path().join("raftkv.rs")).unwrap();
    made.lines()
        .filter(|line| !line.starts_with("// @generated"))
        .fold(HEADER.to_string(), |all, line| all + line + "\n")
}

#[test]
fn the_checked_in_code_is_what_the_proto_file_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wire/generated.rs");
    let made = generate();
    if std::env::var_os("RAFTKV_REGENERATE").is_some_and(|value| value == "1") {
        std::fs::write(&path, &made).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap();
    assert!(made == checked_in, "proto/raftkv.proto has changed; see the head of src/wire/generated.rs");
}

//! The layers of src, as lib.rs states them: a file imports only from lower layers, and pure layers touch no clock,
//! thread, socket, file, or unordered collection.

use std::fs;
use std::path::{Path, PathBuf};

const LAYERS: [(&str, u32); 10] = [
    ("base", 0),
    ("api", 1),
    ("raft", 1),
    ("kv", 1),
    ("wire", 2),
    ("disk", 2),
    ("net", 3),
    ("node", 4),
    ("client", 4),
    ("cli", 5),
];
const PURE: [&str; 5] = ["base", "api", "raft", "kv", "wire"];
const IMPURE: [&str; 12] = [
    "std::time::Instant",
    "SystemTime",
    "std::thread",
    "std::net",
    "std::fs",
    "std::io::Read",
    "HashMap",
    "HashSet",
    "rustix",
    "mio",
    "crossbeam",
    "static mut",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the entry is readable").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Code without comments and without its tests, which may use whatever they like.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).expect("the file is readable");
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    let without_comments = lines.map(|line| line.split("//").next().unwrap_or("").to_string());
    without_comments.enumerate().map(|(at, line)| (at + 1, line)).collect()
}

fn layer(name: &str) -> Option<u32> {
    LAYERS.iter().find(|(layer, _)| *layer == name).map(|(_, number)| *number)
}

/// The folders of src that a line names behind `crate::`, also in `use crate::{a::.., b::..}`.
fn imports(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    for part in line.split("crate::").skip(1) {
        let part = part.strip_prefix('{').unwrap_or(part);
        let name: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        names.push(name);
    }
    names
}

#[test]
fn a_file_imports_only_from_lower_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut checked = 0;
    let mut wrong = Vec::new();
    for (own, number) in LAYERS {
        for path in sources(&src.join(own)) {
            for (line_number, line) in code(&path) {
                for import in imports(&line) {
                    checked += 1;
                    if import != own && layer(&import).is_some_and(|imported| imported >= number) {
                        wrong.push(format!("{}:{line_number}: {own} imports {import}", path.display()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the layers:\n{}", wrong.join("\n"));
    assert!(checked > 50, "only {checked} imports were seen; the search is broken");
}

#[test]
fn pure_layers_touch_nothing_outside_themselves() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for own in PURE {
        for path in sources(&src.join(own)) {
            for (line_number, line) in code(&path) {
                for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                    wrong.push(format!("{}:{line_number}: {own} uses {word}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "pure layers that are not:\n{}", wrong.join("\n"));
}

#[test]
fn every_folder_of_src_has_a_layer() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(src).expect("src is readable") {
        let entry = entry.expect("the entry is readable");
        if entry.path().is_dir() {
            let name = entry.file_name().into_string().expect("folder names are UTF-8");
            assert!(layer(&name).is_some(), "src/{name} has no place among the layers");
        }
    }
}

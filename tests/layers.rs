//! The layers of src, as lib.rs states them: a file imports only from lower layers, and what calls itself pure touches
//! no clock, thread, socket, file, unordered collection or global state.
//!
//! The source is read as tokens, and every path in it is spelled out: `use crate::{a::B, c}` over several lines,
//! `super::super::a`, and a path in the middle of an expression are all the same here.

use std::collections::BTreeSet;
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

/// Folders and files that are pure, or sans-I/O, by their own words.
const PURE: [&str; 15] = [
    "base",
    "api",
    "raft",
    "kv",
    "wire",
    "net/handshake.rs",
    "net/input.rs",
    "net/pipeline.rs",
    "net/session.rs",
    "node/admit.rs",
    "node/apply.rs",
    "node/replica.rs",
    "node/replica",
    "node/reply.rs",
    "node/waiting.rs",
];
/// Crates that pure code may use. `log` is the hooks' and the operator's; it changes no outcome.
const PURE_CRATES: [&str; 7] = ["bytes", "log", "prost", "smallvec", "thiserror", "triomphe", "xxhash_rust"];
/// The one pure file that may say `unsafe`, for a hint to the processor; lib.rs denies it to all others.
const UNSAFE_FILE: &str = "base/prefetch.rs";
const IMPURE_STD: [&str; 8] = ["env", "fs", "io", "net", "os", "process", "random", "thread"];
/// Names that are impure wherever they come from, and keywords.
const IMPURE_NAMES: [&str; 13] = [
    "Condvar",
    "DefaultHasher",
    "HashMap",
    "HashSet",
    "Instant",
    "Mutex",
    "RandomState",
    "RwLock",
    "SystemTime",
    "atomic",
    "mpsc",
    "static",
    "unsafe",
];

// ---- reading source ----------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Token {
    line: usize,
    text: String,
}

/// Identifiers, `::`, and single signs; no comments, literals or lifetimes.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let starts = |at: usize, text: &str| text.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let (mut at, mut line, mut seen) = (0, 1, 0);
    while at < chars.len() {
        line += chars[seen..at].iter().filter(|c| **c == '\n').count();
        seen = at;
        if starts(at, "//") {
            at += chars[at..].iter().take_while(|c| **c != '\n').count();
        } else if starts(at, "/*") {
            let mut depth = 0;
            loop {
                (depth, at) = match () {
                    () if starts(at, "/*") => (depth + 1, at + 2),
                    () if starts(at, "*/") => (depth - 1, at + 2),
                    () => (depth, at + 1),
                };
                if depth == 0 || at >= chars.len() {
                    break;
                }
            }
        } else if let Some(length) = raw_string(&chars[at..]) {
            at += length;
        } else if chars[at] == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if chars[at] == '\'' {
            // A character, or a lifetime.
            at += match (chars.get(at + 1), chars.get(at + 2)) {
                (Some('\\'), _) => 3 + chars[at + 3..].iter().take_while(|c| **c != '\'').count() + 1,
                (_, Some('\'')) => 3,
                _ => 1 + chars[at + 1..].iter().take_while(|c| is_word(**c)).count(),
            };
        } else if is_word(chars[at]) {
            let text: String = chars[at..].iter().take_while(|c| is_word(**c)).collect();
            at += text.chars().count();
            tokens.push(Token { line, text });
        } else if starts(at, "::") {
            at += 2;
            tokens.push(Token { line, text: "::".to_string() });
        } else {
            if !chars[at].is_whitespace() {
                tokens.push(Token { line, text: chars[at].to_string() });
            }
            at += 1;
        }
    }
    tokens
}

/// The length of the raw string, with its prefix, that `chars` begin with.
fn raw_string(chars: &[char]) -> Option<usize> {
    let prefix = chars.iter().take_while(|c| matches!(c, 'b' | 'c' | 'r')).count();
    let hashes = chars[prefix..].iter().take_while(|c| **c == '#').count();
    let begin = prefix + hashes + 1;
    if prefix == 0 || chars[prefix - 1] != 'r' || chars.get(begin - 1) != Some(&'"') {
        return None;
    }
    let ends =
        |at: &usize| chars[*at] == '"' && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    (begin..chars.len()).find(ends).map(|end| end + 1 + hashes)
}

/// Tokens outside of what is marked as test code, and the names of the modules in files of their own that are so
/// marked.
fn production(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let texts: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    let (mut kept, mut test_modules) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        if let ["(", "crate" | "super" | "self", ")", ..] = texts[at..] {
            // A visibility, not a path.
            at += 3;
            continue;
        }
        if !texts[at..].starts_with(&["#", "[", "cfg", "(", "test", ")", "]"]) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        // The item behind it: to its semicolon, or to the end of its braces.
        let length = length_of_item(&texts[at + 7..]);
        let item = &texts[at + 7..at + 7 + length];
        if let [.., "mod", name, ";"] = item {
            test_modules.push(name.to_string());
        }
        at += 7 + length;
    }
    (kept, test_modules)
}

fn length_of_item(texts: &[&str]) -> usize {
    let mut depth = 0;
    for (at, text) in texts.iter().enumerate() {
        match *text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 && (*text == ";" || *text == "}") {
            return at + 1;
        }
    }
    texts.len()
}

/// Every path, spelled out from its first segment, with its line. A name alone is a path of one segment.
fn paths(tokens: &[Token]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = if is_name(&tokens[at]) { path_at(tokens, at, &[], &mut found) } else { at + 1 };
    }
    found
}

fn is_name(token: &Token) -> bool {
    token.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads a path, or a tree of them, that begins at `at` and continues `prefix`. Gives the place behind it.
fn path_at(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<(usize, Vec<String>)>) -> usize {
    let mut path = prefix.to_vec();
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    loop {
        let line = tokens[at].line;
        if text(at) == "{" {
            at += 1;
            while at < tokens.len() && text(at) != "}" {
                let begins = is_name(&tokens[at]) || text(at) == "*" || text(at) == "{";
                at = if begins { path_at(tokens, at, &path, found) } else { at + 1 };
            }
            return at + 1;
        }
        path.push(text(at).to_string());
        let goes_on =
            text(at + 1) == "::" && tokens.get(at + 2).is_some_and(|next| is_name(next) || "{*".contains(&next.text));
        if !goes_on {
            found.push((line, path));
            return at + 1;
        }
        at += 2;
    }
}

// ---- the rules ---------------------------------------------------------------------------------------------

fn layer(name: &str) -> Option<u32> {
    LAYERS.iter().find(|(layer, _)| *layer == name).map(|(_, number)| *number)
}

/// The path from the crate's root, for one that begins there; `module` is where it stands.
fn from_root(module: &[&str], path: &[String]) -> Option<Vec<String>> {
    if path[0] == "crate" || path[0] == "raftkv" {
        return Some(path[1..].to_vec());
    }
    let supers = path.iter().take_while(|segment| *segment == "super").count();
    let kept = module.len().checked_sub(supers).filter(|_| supers > 0)?;
    Some(module[..kept].iter().map(|name| name.to_string()).chain(path[supers..].iter().cloned()).collect())
}

/// What breaks the layers in `source`, which is the module `module` of the layer that it begins with.
fn wrong_imports(module: &[&str], source: &str) -> Vec<String> {
    let number = layer(module[0]).expect("the module is in a layer");
    let mut wrong = Vec::new();
    for (line, path) in paths(&production(&tokens(source)).0) {
        let Some(target) = from_root(module, &path) else { continue };
        let allowed = match target.first().map(String::as_str) {
            // The root alone, or all that is in it: whatever is meant, it can't be checked.
            None | Some("*") => false,
            Some(name) => name == module[0] || layer(name).is_none_or(|imported| imported < number),
        };
        if !allowed {
            wrong.push(format!("{line}: {} uses {}", module.join("::"), path.join("::")));
        }
    }
    wrong
}

/// What is impure in `source`. `crates`: all that this package depends on.
fn impurities(source: &str, crates: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (line, path) in paths(&production(&tokens(source)).0) {
        let is_std = ["std", "core", "alloc"].contains(&path[0].as_str());
        let of_std = is_std && path.get(1).is_none_or(|module| module == "*" || IMPURE_STD.contains(&module.as_str()));
        let of_crate = crates.contains(&path[0]) && !PURE_CRATES.contains(&path[0].as_str());
        let name = path.iter().any(|segment| IMPURE_NAMES.contains(&segment.as_str()) || segment.starts_with("Atomic"));
        if of_std || of_crate || name || path[0] == "thread_local" {
            wrong.push(format!("{line}: {}", path.join("::")));
        }
    }
    wrong
}

fn dependencies() -> BTreeSet<String> {
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("it is readable");
    let section = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let lines = section.take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next()).filter(|name| !name.is_empty());
    names.filter(|name| !name.starts_with('#')).map(|name| name.replace('-', "_")).collect()
}

// ---- the source --------------------------------------------------------------------------------------------

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// A file of src outside of its tests, by its path below src and by its module.
struct File {
    name: String,
    module: Vec<String>,
    source: String,
}

/// All production files below `path` of src.
fn files(path: &Path) -> Vec<File> {
    let mut found = Vec::new();
    let mut test_modules: Vec<PathBuf> = Vec::new();
    collect(path, &mut found, &mut test_modules);
    found.retain(|path| !test_modules.iter().any(|test| path.starts_with(test) || *path == test.with_extension("rs")));
    found.sort();
    let file = |path: PathBuf| {
        let name = path.strip_prefix(src()).expect("it is below src");
        let module = name.with_extension("");
        let module = module.iter().map(|part| part.to_str().expect("names are UTF-8").to_string());
        File {
            name: name.display().to_string(),
            module: module.filter(|part| part != "mod").collect(),
            source: fs::read_to_string(&path).expect("the file is readable"),
        }
    };
    found.into_iter().map(file).collect()
}

fn collect(path: &Path, found: &mut Vec<PathBuf>, test_modules: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("the folder is readable") {
            collect(&entry.expect("the entry is readable").path(), found, test_modules);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let source = fs::read_to_string(path).expect("the file is readable");
        let folder = if path.ends_with("mod.rs") { path.with_file_name("") } else { path.with_extension("") };
        test_modules.extend(production(&tokens(&source)).1.into_iter().map(|name| folder.join(name)));
        found.push(path.to_path_buf());
    }
}

#[test]
fn a_file_imports_only_from_lower_layers() {
    let mut wrong = Vec::new();
    let (mut files_seen, mut paths_seen) = (0, 0);
    for (own, _) in LAYERS {
        for file in files(&src().join(own)) {
            let module: Vec<&str> = file.module.iter().map(String::as_str).collect();
            wrong.extend(wrong_imports(&module, &file.source).into_iter().map(|what| format!("{}:{what}", file.name)));
            files_seen += 1;
            let all = paths(&production(&tokens(&file.source)).0);
            paths_seen += all.iter().filter(|(_, path)| from_root(&module, path).is_some()).count();
        }
    }
    assert!(wrong.is_empty(), "imports against the layers:\n{}", wrong.join("\n"));
    assert!(files_seen > 90 && paths_seen > 500, "{paths_seen} imports in {files_seen} files: the search is broken");
}

#[test]
fn what_calls_itself_pure_touches_nothing_outside_itself() {
    let crates = dependencies();
    assert!(crates.contains("crossbeam_channel") && crates.contains("serde_json"), "they were not read: {crates:?}");
    let mut wrong = Vec::new();
    for path in PURE {
        let files = files(&src().join(path));
        assert!(!files.is_empty(), "src/{path} is gone");
        for file in files {
            let impurities = impurities(&file.source, &crates).into_iter();
            let told = impurities.filter(|what| file.name != UNSAFE_FILE || !what.ends_with(": unsafe"));
            wrong.extend(told.map(|what| format!("{}:{what}", file.name)));
        }
    }
    assert!(wrong.is_empty(), "pure code that is not:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_in_one_file() {
    let files = files(&src()).into_iter();
    let unsafe_files = files.filter(|file| tokens(&file.source).iter().any(|token| token.text == "unsafe"));
    assert_eq!(unsafe_files.map(|file| file.name).collect::<Vec<_>>(), [UNSAFE_FILE]);
}

#[test]
fn every_folder_of_src_has_a_layer() {
    for entry in fs::read_dir(src()).expect("src is readable") {
        let entry = entry.expect("the entry is readable");
        if entry.path().is_dir() {
            let name = entry.file_name().into_string().expect("folder names are UTF-8");
            assert!(layer(&name).is_some(), "src/{name} has no place among the layers");
        }
    }
}

// ---- the search itself -------------------------------------------------------------------------------------

#[test]
fn every_way_to_write_an_import_is_seen() {
    for source in [
        "use crate::net::Mailbox;",
        "use crate::{base::Term, net::Mailbox};",
        "use crate::{\n    base::{Term, ids},\n    net::{\n        Mailbox,\n    },\n};",
        "use crate::net;",
        "use super::net::Mailbox;",
        "use super::{net, raft};",
        "fn f() { crate::net::f(); }",
        "fn f() { let x = |a: &crate /* here */ :: net::A| a; }",
        "use crate::*;",
        "use crate as root;",
        "use raftkv::net::Mailbox;",
        "#[cfg(test)]\nmod tests;\nuse crate::net::Mailbox;",
        "#[cfg(test)]\nmod tests { fn f() { if true {} } }\nuse crate::net::Mailbox;",
        "const A: &str = \"//\"; use crate::net::A;",
        "const A: &[u8] = br#\"\"#; const B: char = '\"'; const C: char = '\\''; use crate::net::A;",
    ] {
        assert_eq!(wrong_imports(&["disk"], source).len(), 1, "{source}");
        assert_eq!(
            wrong_imports(&["cli"], source).len(),
            usize::from(source.contains("*;") || source.contains("root"))
        );
    }
    assert_eq!(wrong_imports(&["disk", "wal"], "use super::super::net::A;").len(), 1);
    assert_eq!(wrong_imports(&["disk", "wal"], "use super::{super::{wire}, net};").len(), 1, "wire is beside disk");
    for source in [
        "use super::net::A;",
        "// use crate::net::A;\n/* /* crate::net */ crate::net::B */ const A: &str = \"crate::net\";",
        "/// As [`crate::net::A`] does.\npub(super) fn f<'a>(a: &'a str) -> crate::base::Term {}",
        "#[cfg(test)]\n#[path = \"x\"]\nmod tests { use crate::net::A; }\nuse crate::raft::Entry;",
        "pub(crate) struct A; impl crate::base::A<{ 1 }> for A {}",
    ] {
        assert_eq!(wrong_imports(&["disk", "wal"], source), [""; 0], "{source}");
    }
}

#[test]
fn every_way_to_write_something_impure_is_seen() {
    let crates = BTreeSet::from(["bytes".to_string(), "mio".to_string()]);
    for source in [
        "use std::time::{Duration, Instant};",
        "use std::time; fn f() { time::Instant::now(); }",
        "use std::{fmt, fs};",
        "use std::{\n    fmt,\n    thread::{self},\n};",
        "fn f() { std::thread::yield_now(); }",
        "use std::io::{self};",
        "use std::collections::{BTreeMap, HashMap as Map};",
        "use std::sync::{Arc, atomic};",
        "static mut COUNT: u64 = 0;",
        "static COUNT: u64 = 0;",
        "use mio;",
        "fn f() { mio::Poll::new(); }",
        "use std as s;",
        "thread_local! { }",
    ] {
        assert_eq!(impurities(source, &crates).len(), 1, "{source}");
    }
    for source in [
        "use std::time::Duration; use std::sync::Arc; use std::collections::BTreeMap; use bytes::Bytes;",
        "fn f(a: &'static str) { self.net.fs(); }",
        "#[cfg(test)]\nmod tests { use std::collections::HashMap; }",
    ] {
        assert_eq!(impurities(source, &crates), [""; 0], "{source}");
    }
}

//! Every decoder of bytes from outside against bytes that nobody should send, from seeds. What must hold is in
//! `targets`; libFuzzer runs the same (see the README).
//!
//! A failure prints its seed and its input. `RAFTKV_FUZZ_SEED=S` begins there, `RAFTKV_FUZZ_INPUTS=N` tries so many:
//! `RAFTKV_FUZZ_SEED=17 RAFTKV_FUZZ_INPUTS=1 cargo test --test fuzz -- peer_frame` repeats one.

mod corpus;
mod mutator;
mod protobuf;
mod targets;

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

// What the codecs' own tests are made of finds these at the crate's root.
use raftkv::base::Random;
use raftkv::{api, base, raft};

use mutator::Shape;

struct Target {
    name: &'static str,
    run: fn(&[u8]) -> bool,
    valid: fn(&mut Random) -> Vec<u8>,
    shape: Shape,
    inputs: u64,
}

macro_rules! targets {
    ($($name:ident: $valid:ident, $shape:ident, $inputs:literal;)*) => {
        const TARGETS: &[Target] = &[$(Target {
            name: stringify!($name),
            run: targets::$name,
            valid: corpus::$valid,
            shape: Shape::$shape,
            inputs: $inputs,
        }),*];

        /// One test for each, so that they run beside each other.
        mod damaged_input_is_decoded_or_refused {
            $(#[test]
            fn $name() {
                super::try_damaged(stringify!($name));
            })*
        }
    };
}

targets! {
    client_frame: client_frame, Protobuf, 40_000;
    first_frame: first_frame, Protobuf, 40_000;
    client_reply: client_reply, Protobuf, 40_000;
    hello: hello, ProtobufRest, 40_000;
    hello_reply: hello_reply, ProtobufRest, 40_000;
    peer_frame: peer_frame, Protobuf, 40_000;
    envelope: envelope, Protobuf, 40_000;
    members: members, Bytes, 40_000;
    line: line, Bytes, 40_000;
    frames: frames, Bytes, 40_000;
    session: session, Bytes, 20_000;
    identity: identity, Bytes, 20_000;
    suspect_mark: suspect_mark, Bytes, 10_000;
    term_slots: term_slots, Bytes, 10_000;
    wal_damaged: edits, Bytes, 20_000;
    wal_forged: edits, Bytes, 20_000;
}

fn number_from(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, and should be a number")))
}

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("it is in the table")
}

/// What is being tried, for whoever reads of its failure.
struct Trial<'a> {
    target: &'a Target,
    seed: u64,
    input: &'a [u8],
}

impl Trial<'_> {
    fn run(&self) -> bool {
        (self.target.run)(self.input)
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}, seed {}: \"{}\"", self.target.name, self.seed, self.input.escape_ascii());
        }
    }
}

fn damaged(target: &Target, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut input = (target.valid)(&mut random);
    let others = TARGETS[random.below(TARGETS.len() as u64) as usize].valid;
    let other = if random.below(2) == 0 { (target.valid)(&mut random) } else { others(&mut random) };
    mutator::mutate(&mut random, target.shape, &mut input, &other);
    input
}

fn try_damaged(name: &str) {
    let target = target(name);
    let first = number_from("RAFTKV_FUZZ_SEED").unwrap_or(0);
    let inputs = number_from("RAFTKV_FUZZ_INPUTS").unwrap_or(target.inputs);
    let mut accepted = 0;
    for seed in first..first.saturating_add(inputs) {
        let input = damaged(target, seed);
        accepted += u64::from(Trial { target, seed, input: &input }.run());
    }
    println!("{name}: {inputs} damaged inputs, {accepted} accepted");
    if inputs >= 1000 {
        let share = 100 * accepted / inputs;
        assert!((1..=99).contains(&share), "{name}: {accepted} of {inputs} accepted: it only sees one side");
    }
}

#[test]
fn what_the_encoders_make_is_accepted() {
    for target in TARGETS.iter().filter(|target| !target.name.starts_with("wal")) {
        for seed in 0..300 {
            let input = (target.valid)(&mut Random::new(seed));
            let trial = Trial { target, seed, input: &input };
            assert!(trial.run(), "it was refused");
        }
    }
}

#[test]
fn every_prefix_of_what_is_valid_is_decoded_or_refused() {
    for target in TARGETS {
        for seed in 0..20 {
            let whole = (target.valid)(&mut Random::new(seed));
            for length in 0..=whole.len() {
                Trial { target, seed, input: &whole[..length] }.run();
            }
        }
    }
}

#[test]
fn every_target_is_one_of_libfuzzers_too() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_string()).collect();
    let files = fs::read_dir(folder.join("fuzz_targets")).expect("the folder is there");
    let stem = |name: String| name.strip_suffix(".rs").expect("nothing else is in it").to_string();
    let files: BTreeSet<String> = files.map(|file| stem(file.unwrap().file_name().into_string().unwrap())).collect();
    assert_eq!(files, names);
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("the manifest is there");
    for name in names {
        let source = fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(source.contains(&format!("raftkv_fuzz::{name}(")), "{name} runs another target");
        assert!(manifest.contains(&format!("\nname = \"{name}\"\n")), "{name} is not in the manifest");
    }
}

/// `RAFTKV_FUZZ_CORPUS=DIR` names where: a folder for each target, as cargo-fuzz wants it.
#[test]
#[ignore = "writes files; run by hand before libFuzzer"]
fn a_corpus_for_libfuzzer_is_written() {
    let folder = env::var("RAFTKV_FUZZ_CORPUS").expect("RAFTKV_FUZZ_CORPUS names a directory");
    for target in TARGETS {
        let folder = Path::new(&folder).join(target.name);
        fs::create_dir_all(&folder).unwrap();
        for seed in 0..200 {
            fs::write(folder.join(format!("seed-{seed}")), (target.valid)(&mut Random::new(seed))).unwrap();
        }
    }
}

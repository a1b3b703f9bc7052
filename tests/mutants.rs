//! The table of mutants is complete and true of the source: every line of the list of known bugs, every guard, and
//! tests that exist. Whether they notice what they are said to is what `tools/mutants` tries.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use raftkv::guard;

const TABLE: &str = include_str!("MUTANTS.md");

struct Row {
    line: &'static str,
    guard: &'static str,
    caught_by: &'static str,
    seeds: [&'static str; 2],
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| line.starts_with('|')).skip(2);
    let row = |text: &'static str| {
        let cells: Vec<&str> = text.trim_matches('|').split('|').map(str::trim).collect();
        let [line, _, guard, caught_by, with, without] = cells[..] else { panic!("six cells: {text}") };
        Row { line, guard: guard.trim_matches('`'), caught_by: caught_by.trim_matches('`'), seeds: [with, without] }
    };
    lines.map(row).collect()
}

/// 1 to 47; 39 has four more.
fn list() -> Vec<String> {
    let with_letters = |number: u32| match number {
        39 => ["", "a", "b", "c", "d"].map(|letter| format!("39{letter}")).to_vec(),
        number => vec![number.to_string()],
    };
    (1..=47).flat_map(with_letters).collect()
}

#[test]
fn every_line_of_the_list_has_its_rows_in_order() {
    let mut lines: Vec<&str> = rows().iter().map(|row| row.line).collect();
    lines.dedup();
    assert_eq!(lines, list());
}

#[test]
fn every_guard_has_a_row_and_every_row_its_guard() {
    let named: BTreeSet<String> =
        rows().iter().map(|row| row.guard.to_string()).filter(|name| !name.is_empty()).collect();
    let there: BTreeSet<String> = guard::ALL.iter().map(|guard| format!("{guard:?}")).collect();
    assert_eq!(named, there);
    assert!(there.len() >= 35, "{}", there.len());
}

/// Of snapshots, membership, transfer of leadership, expiry and watch: what there is not can't be broken.
#[test]
fn a_row_without_a_guard_says_why_and_only_what_is_not_there_is_not_caught_yet() {
    const NOT_YET: [&str; 13] = ["1", "2", "3", "4", "16", "17", "18", "24", "28", "29", "34", "41", "43"];
    for row in rows().iter().filter(|row| row.guard.is_empty()) {
        match row.caught_by.split_once(": ") {
            Some(("not yet", _)) => assert!(NOT_YET.contains(&row.line), "line {}", row.line),
            Some(("cannot be taken away", _)) => {}
            _ => panic!("line {}: {:?}", row.line, row.caught_by),
        }
    }
}

#[test]
fn what_the_simulator_catches_has_its_figures_and_what_a_test_catches_needs_none() {
    for Row { guard, caught_by, seeds, .. } in rows().iter().filter(|row| !row.guard.is_empty()) {
        let is_figure = |cell: &&str| cell.split(' ').next().is_some_and(|median| median.parse::<u32>().is_ok());
        let simulated = *caught_by == "tools/sim";
        assert!(
            seeds.iter().all(|cell| if simulated { is_figure(cell) } else { cell.is_empty() }),
            "{guard}: {seeds:?}"
        );
    }
}

#[test]
fn every_test_that_is_named_exists() {
    for Row { guard, caught_by, .. } in rows().iter().filter(|row| !row.guard.is_empty()) {
        let words: Vec<&str> = caught_by.split(' ').collect();
        let (folder, name) = match words[..] {
            ["tools/sim"] => continue,
            ["--lib", name] => ("src".to_string(), name),
            ["--test", "raft_scenarios", name] if !name.contains("::") => {
                assert!(Path::new("tests/scenarios/raft").join(format!("{name}.txt")).exists(), "{guard}: {name}");
                continue;
            }
            ["--test", target, name] => (format!("tests/{target}"), name),
            _ => panic!("{guard}: who is {caught_by:?}?"),
        };
        let function = format!("fn {}()", name.rsplit("::").next().unwrap());
        assert!(sources(&folder).any(|source| source.contains(&function)), "{guard}: no {function} in {folder}");
    }
}

/// The file of that name, or all below the folder, or both; `raft_scenarios` has its tests in the folder `raft`.
fn sources(of: &str) -> impl Iterator<Item = String> {
    let of = of.replace("raft_scenarios", "raft");
    let (mut folders, mut files) = (vec![PathBuf::from(&of)], vec![PathBuf::from(format!("{of}.rs"))]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { folders.push(entry) } else { files.push(entry) }
        }
    }
    files.into_iter().filter_map(|file| fs::read_to_string(file).ok())
}

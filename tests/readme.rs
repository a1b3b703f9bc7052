//! What the README promises in numbers and codes is what the program does.

use std::time::Duration;

use raftkv::api::{Applied, ErrorCode};
use raftkv::base::limits;

const README: &str = include_str!("../README.md");
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The cells of the table rows that stand under `heading`, but for the table's own head.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = README.split_once(&format!("\n## {heading}\n")).expect("the README has the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let lines = section.lines().filter(|line| line.starts_with('|')).skip(2);
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn the_table_of_error_codes_is_the_codes() {
    let rows = rows("Error codes");
    assert_eq!(rows.len(), ErrorCode::ALL.len());
    for (row, code) in rows.iter().zip(ErrorCode::ALL) {
        assert_eq!(row[0], format!("`{code}`"));
        assert_eq!(row[1], (*code as u32).to_string(), "{code}");
        assert_eq!(row[2].starts_with("no"), code.applied() == Applied::No, "{code}: {}", row[2]);
        assert_eq!(row[3].starts_with("yes"), code.worth_a_retry(), "{code}: {}", row[3]);
    }
}

fn bytes(count: u64) -> String {
    match count {
        count if count % MIB == 0 => format!("{} MiB", count / MIB),
        count => format!("{} KiB", count / KIB),
    }
}

fn count(count: usize) -> String {
    let digits = count.to_string();
    match digits.split_at_checked(digits.len().saturating_sub(3)) {
        Some((thousands, rest)) if !thousands.is_empty() => format!("{thousands},{rest}"),
        _ => digits,
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

#[test]
fn the_table_of_limits_is_the_limits() {
    let rows = rows("Limits");
    let hello = format!("{}, {}", seconds(limits::HELLO_DEADLINE), bytes(limits::HELLO_BYTES_MAX as u64));
    let expected = [
        ("key", bytes(limits::KEY_BYTES_MAX as u64)),
        ("value", bytes(limits::VALUE_BYTES_MAX as u64)),
        ("frame", bytes(limits::FRAME_BYTES_MAX as u64)),
        ("connections", count(limits::CONNECTIONS_MAX)),
        ("buffered for one connection", bytes(limits::CONNECTION_BUFFERED_BYTES_MAX as u64)),
        ("buffered for all connections", bytes(limits::BUFFERED_BYTES_MAX as u64)),
        ("requests under way, one connection", count(limits::CONNECTION_REQUESTS_MAX)),
        ("requests under way, all", count(limits::REQUESTS_MAX)),
        ("bytes appended and not committed", bytes(limits::UNCOMMITTED_BYTES_MAX as u64)),
        ("a peer's hello", hello),
        ("a frame or line that has begun", seconds(limits::FRAME_DEADLINE)),
        ("a client that does not read its answers", seconds(limits::WRITE_DEADLINE)),
        ("a request without an answer", seconds(limits::REQUEST_TIMEOUT)),
        ("log entries in memory", bytes(limits::LOG_MEMORY_BYTES_MAX as u64)),
        ("free on the file system", bytes(limits::DISK_LOW_WATER_BYTES)),
    ];
    let needed = format!("a segment: {}", bytes(limits::DISK_LOW_WATER_BYTES + limits::SEGMENT_BYTES));
    assert!(README.contains(&needed), "not {needed:?}");
    for (what, limit) in &expected {
        let row = rows.iter().find(|row| row[0] == *what).unwrap_or_else(|| panic!("no row {what:?}"));
        assert!(row[1].starts_with(limit), "{what}: the README says {:?}, the program {limit:?}", row[1]);
    }
    // The line's limit is a sentence, and no number.
    assert_eq!(rows.len(), expected.len() + 1);
    assert!(README.contains(&format!("segments of {}", bytes(limits::SEGMENT_BYTES))));
}

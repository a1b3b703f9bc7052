//! Numbers in sentences for people.

use std::time::Duration;

const MIB: u64 = 1024 * 1024;

/// `1 entry`, `2 entries`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// In MiB, to a tenth, rounded down: what is said to be free is there.
pub fn mebibytes(bytes: u64) -> String {
    match (bytes / MIB, bytes % MIB * 10 / MIB) {
        (0, 0) if bytes > 0 => "less than 0.1 MiB".to_string(),
        (whole, 0) => format!("{whole} MiB"),
        (whole, tenths) => format!("{whole}.{tenths} MiB"),
    }
}

/// A length of time in three digits or so: `812 ns`, `1.2 us`, `34.5 ms`, `7.0 s`.
pub fn brief(length: Duration) -> String {
    let nanos = length.as_nanos();
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    match units.into_iter().find(|(unit, _)| nanos >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", nanos / unit, nanos % unit * 10 / unit),
        None => format!("{nanos} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many_and_sizes_are_in_mib() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "pass", "passes")), ["0 passes", "1 pass", "2 passes"]);
        let shown = [0, 1, MIB / 2, 48 * MIB, 3 * MIB + 200_000].map(mebibytes);
        assert_eq!(shown, ["0 MiB", "less than 0.1 MiB", "0.5 MiB", "48 MiB", "3.1 MiB"]);
    }

    #[test]
    fn lengths_of_time_have_the_unit_that_fits() {
        let shown = [0, 999, 1_000, 34_560_000, 999_999_999, 68_000_000_000].map(Duration::from_nanos).map(brief);
        assert_eq!(shown, ["0 ns", "999 ns", "1.0 us", "34.5 ms", "999.9 ms", "68.0 s"]);
    }
}

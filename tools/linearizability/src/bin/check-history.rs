//! Checks recorded histories: `check-history FILE...`. Exit status: 0 all are linearizable, 1 one is not or could not
//! be decided, 2 usage or a file that is no history.

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;

use linearizability::{Limits, check, read};

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() || files.iter().any(|file| file.starts_with('-')) {
        eprintln!("usage: check-history FILE...");
        return ExitCode::from(2);
    }
    let worst = files.iter().map(|file| check_file(file)).max().unwrap_or(0);
    ExitCode::from(worst)
}

/// The exit status that this file asks for.
fn check_file(file: &str) -> u8 {
    let history = match File::open(file)
        .map_err(|error| error.to_string())
        .and_then(|opened| read(BufReader::new(opened)).map_err(|error| error.to_string()))
    {
        Ok(history) => history,
        Err(error) => {
            eprintln!("{file}: {error}");
            return 2;
        }
    };
    match check(&history, Limits::default()) {
        Ok(checked) => {
            println!(
                "{file}: linearizable: {} operations, {} writes without an answer, {} partitions, {} steps",
                checked.operations, checked.open, checked.partitions, checked.steps
            );
            0
        }
        Err(violation) => {
            println!("{file}: {violation}");
            1
        }
    }
}

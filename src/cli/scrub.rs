//! `raftkv scrub`: has nodes read their whole logs once, for damage, and waits for it.

use std::time::Duration;

use clap::Args;

use super::Exit;
use super::common::ServerArgs;
use super::output::{complain, emit};
use crate::api::Status;
use crate::client::{Client, Error};

/// Between two looks at how far a node is.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Has the nodes that --server names read their whole logs once, for damage, and waits until they have
#[derive(Args, Debug)]
#[command(after_help = "\
Every node does so by itself once a day (see --scrub-hours of raftkv node). What is damaged is fetched from the other
nodes while the node runs; raftkv status tells how that goes on.

Examples:
  raftkv scrub --server 10.0.0.1:5001,10.0.0.2:5001

Exit status: 0 without damage, 1 with damage, 3 when a node can't be reached.")]
pub struct ScrubArgs {
    #[command(flatten)]
    server: ServerArgs,
}

pub fn run(args: ScrubArgs) -> Exit {
    let client = args.server.client();
    let addresses = client.addresses();
    // All at once: each node has a disk of its own.
    let asked: Vec<_> = addresses.iter().map(|address| (address, client.scrub(address))).collect();
    asked.into_iter().map(|(address, asked)| finish(&client, address, asked)).max().unwrap_or(Exit::Usage)
}

/// Waits for the pass that was asked for, and says what it found.
fn finish(client: &Client, address: &str, asked: Result<Status, Error>) -> Exit {
    let before = match asked {
        Ok(status) => status.scrub,
        Err(error) => return fail(address, &error),
    };
    loop {
        match client.status(address) {
            Ok(status) if status.scrub.passes > before.passes => {
                let found = status.scrub.damaged - before.damaged.min(status.scrub.damaged);
                let damage = if found == 0 { "no damage".to_string() } else { format!("damage in {found} places") };
                let line = format!("node {}: {} bytes read, {damage}\n", status.id, status.scrub.bytes_total);
                status.problems.iter().for_each(|problem| complain(&format!("node {}: {problem}", status.id)));
                return emit(line.as_bytes()).max(if found == 0 { Exit::Done } else { Exit::Refused });
            }
            Ok(_) => std::thread::sleep(LOOK_AGAIN),
            Err(error) => return fail(address, &error),
        }
    }
}

fn fail(address: &str, error: &Error) -> Exit {
    complain(&format!("{address}: {}", error.message()));
    Exit::Unreachable
}

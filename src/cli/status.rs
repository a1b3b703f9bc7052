//! `raftkv status`: a table of all nodes, and whether there is a leader.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use clap::Args;

use super::common::ServerArgs;
use super::output::{self, complain, emit};
use super::{Exit, latency};
use crate::api::Status;
use crate::base::{NodeId, counted};
use crate::client::{Census, Client, Patience, Seen};

/// Between two looks while a leader is awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Shows all nodes, found from any one of them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  raftkv status
  raftkv status --server 10.0.0.1:5001 --json | jq .leader
  raftkv status --wait --timeout-ms 30000     returns as soon as there is a leader
  raftkv status --latency                     where the time of requests goes, in each node, the leader first
  raftkv status --latency --only --server 10.0.0.2:5001

Columns: ROLE leader, follower, pre-candidate and candidate (an election), uncounted (its vote and copy don't count);
\"(lease)\": it answers reads without asking the others;
TERM rises with each election; LEADER as the node knows it; COMMIT and APPLIED are the last log entries known to be on a
majority's disks, and seen by reads; REVISION counts writes; NOTE says what is wrong, and is empty when nothing is.

Stages: decode (bytes in to handed on), inbox wait (to taken by consensus), append to durable (on this node's disk; fsync,
the batch's write and fsync alone, is in it), send to ack (to each follower and back, its disk included), commit to apply, apply to reply (to the
socket). COUNT is of requests, but of batches for append to durable, of fsyncs, of appends for send to ack, of entries for
commit to apply. A percentile is at most 1/16 more than it was, never less; MAX is exact.

Exit status: 0 with a leader, 1 without one, 3 when no node can be reached.
With --latency: 0 when all nodes tell, 1 when one does not measure, 3 when one can't be reached.")]
pub struct StatusArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Wait for a leader, for as long as --timeout-ms says
    #[arg(long)]
    wait: bool,
    /// Show how long the stages of requests take inside each node: in the last minute, and since its start
    #[arg(long, conflicts_with = "wait")]
    latency: bool,
    /// Ask the nodes that --server names, and not the others of their cluster
    #[arg(long, requires = "latency")]
    only: bool,
}

pub fn run(args: StatusArgs) -> Exit {
    let mut client = args.server.client();
    if args.latency {
        let census = if args.only { only_named(&client) } else { client.census() };
        return latency::run(&client, census, args.server.answers.json);
    }
    let until = Instant::now() + client.settings().timeout;
    let census = match args.wait {
        true => await_leader(&mut client, until, || true),
        false => client.census(),
    };
    let mut out = BytesMut::new();
    match args.server.answers.json {
        true => output::line(&mut out, &output::census_json(&census)),
        false => out.extend_from_slice(table(&census).as_bytes()),
    }
    emit(&out).max(verdict(&census))
}

/// The nodes that the person named, whoever else there is.
fn only_named(client: &Client) -> Census {
    let look = |address: &String| {
        let status = client.status(address);
        Seen { address: address.clone(), id: status.as_ref().ok().map(|status| status.id), status }
    };
    Census { nodes: client.addresses().iter().map(look).collect() }
}

/// Looks until there is a leader, the time is over, or `go_on` says no; gives what was seen last.
pub fn await_leader(client: &mut Client, until: Instant, mut go_on: impl FnMut() -> bool) -> Census {
    loop {
        let census = client.census();
        if census.leader().is_some() || Instant::now() >= until || !go_on() {
            return census;
        }
        Patience::until(until).pause(LOOK_AGAIN);
    }
}

/// The exit status that the cluster deserves; says on standard error what is missing.
pub fn verdict(census: &Census) -> Exit {
    if census.leader().is_some() {
        return Exit::Done;
    }
    let reached = census.nodes.iter().filter(|seen| seen.status.is_ok()).count();
    if reached == 0 {
        complain("no node can be reached; is one running, and does --server name it?");
        return Exit::Unreachable;
    }
    complain(&format!("no leader; {reached} of {} known nodes can be reached from here", census.nodes.len()));
    Exit::Refused
}

const HEADINGS: [&str; 10] =
    ["ID", "ADDRESS", "ROLE", "TERM", "LEADER", "COMMIT", "APPLIED", "REVISION", "UPTIME", "NOTE"];

/// A row for each node; columns as wide as they need to be.
pub fn table(census: &Census) -> String {
    let mut rows = vec![HEADINGS.map(String::from)];
    rows.extend(census.nodes.iter().map(|seen| row(seen, census)));
    let widths: [usize; 10] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn row(seen: &Seen, census: &Census) -> [String; 10] {
    let id = seen.id.map_or("?".to_string(), |id| id.to_string());
    let address = seen.address.clone();
    match &seen.status {
        Ok(status) => [
            id,
            address,
            role(status),
            status.term.to_string(),
            status.leader.as_ref().map_or("-".to_string(), |leader| leader.id.to_string()),
            status.commit.to_string(),
            status.applied.to_string(),
            status.revision.to_string(),
            uptime(status.uptime),
            note(status, census),
        ],
        Err(error) => {
            let none = || "-".to_string();
            [id, address, "unreachable".to_string(), none(), none(), none(), none(), none(), none(), error.why()]
        }
    }
}

/// A leader that holds its lease reads without asking the others.
fn role(status: &Status) -> String {
    format!("{}{}", status.role.as_str(), if status.holds_lease { " (lease)" } else { "" })
}

/// What an operator should know beside the numbers: links that are down, copies that lag or don't count.
fn note(status: &Status, census: &Census) -> String {
    let mut notes = status.problems.clone();
    let behind = status.commit.0.saturating_sub(status.applied.0);
    if behind > 0 {
        notes.push(format!("{} not applied yet", counted(behind, "entry", "entries")));
    }
    let reached = |id: NodeId| census.nodes.iter().any(|seen| seen.id == Some(id) && seen.status.is_ok());
    // The link to a node that nobody reaches is no news; its own row says so.
    for peer in status.peers.iter().filter(|peer| !peer.down_because.is_empty() && reached(peer.id)) {
        notes.push(format!("not in touch with node {}: {}", peer.id, peer.down_because));
    }
    notes.join("; ")
}

/// Two units are enough to read: `3d4h`, `5m12s`, `7s`.
fn uptime(uptime: Duration) -> String {
    let seconds = uptime.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::api::{Leader, PeerStatus};
    use crate::base::{LogIndex, Revision, Role, Term};
    use crate::client::{Error, Tried};

    fn id(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn node(number: u32, role: Role, term: u64) -> Seen {
        let address = format!("127.0.0.1:500{number}");
        Seen { address, id: Some(id(number)), status: Ok(Status { role, term: Term(term), ..status(number) }) }
    }

    pub fn status(number: u32) -> Status {
        let leader = Some(Leader { id: id(1), address: "127.0.0.1:5001".into() });
        let peer = PeerStatus {
            id: id(3),
            address: "c:1".into(),
            down_because: "refused".into(),
            matched: None,
            counted: true,
        };
        Status {
            id: id(number),
            cluster: "raftkv".into(),
            role: Role::Follower,
            term: Term(1),
            leader,
            commit: LogIndex(12),
            applied: LogIndex(11),
            last: LogIndex(12),
            revision: Revision(9),
            keys: 3,
            digest: 5,
            peers: vec![peer],
            version: "1".into(),
            problems: Vec::new(),
            scrub: Default::default(),
            uptime: Duration::from_secs(3661),
            holds_lease: false,
        }
    }

    fn silent(number: u32) -> Seen {
        let tried = vec![Tried { address: "c:1".into(), why: "connection refused".into() }];
        Seen { address: "c:1".into(), id: Some(id(number)), status: Err(Error::Unreachable { tried }) }
    }

    #[test]
    fn the_table_names_every_node_and_why_one_is_not_reached() {
        let census = Census { nodes: vec![node(1, Role::Leader, 4), node(2, Role::Follower, 4), silent(3)] };
        assert_eq!(
            table(&census),
            "\
ID  ADDRESS         ROLE         TERM  LEADER  COMMIT  APPLIED  REVISION  UPTIME  NOTE
1   127.0.0.1:5001  leader       4     1       12      11       9         1h1m    1 entry not applied yet
2   127.0.0.1:5002  follower     4     1       12      11       9         1h1m    1 entry not applied yet
3   c:1             unreachable  -     -       -       -        -         -       connection refused
"
        );
        assert_eq!(verdict(&census), Exit::Done);
    }

    #[test]
    fn a_leader_of_an_older_term_or_one_that_is_only_named_is_none() {
        let deposed = Census { nodes: vec![node(1, Role::Leader, 4), node(2, Role::Candidate, 5)] };
        assert_eq!(verdict(&deposed), Exit::Refused);
        assert_eq!(verdict(&Census { nodes: vec![node(2, Role::Follower, 4)] }), Exit::Refused);
        assert_eq!(verdict(&Census { nodes: vec![silent(3)] }), Exit::Unreachable);
    }

    #[test]
    fn uptimes_read_at_a_glance() {
        let shown: Vec<String> = [7, 312, 3661, 273_600].map(|seconds| uptime(Duration::from_secs(seconds))).to_vec();
        assert_eq!(shown, ["7s", "5m12s", "1h1m", "3d4h"]);
    }
}

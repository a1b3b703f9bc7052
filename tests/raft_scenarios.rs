//! Consensus, by scripts that read as English and by random runs.
//!
//! Each file in tests/scenarios/raft is a script: commands, then `---`, then what they must print. The first line
//! makes the cluster. `UPDATE_GOLDENFILES=1 cargo test --test raft_scenarios` writes what they print now.

#[path = "raft/cluster.rs"]
mod cluster;
#[path = "raft/hostile.rs"]
mod hostile;
#[path = "raft/random.rs"]
mod random;

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use cluster::{Cluster, ELECTION_TIMEOUT_MAX, Settings, describe, describe_health, describe_log};
use goldenscript::{ArgumentConsumer, Command, Context};
use raftkv::base::limits::LEASE_DRIFT_PERCENT;
use raftkv::base::{HardState, LogIndex, NodeId, Space, Term};
use raftkv::raft::{Input, LeaseConfig};

type Answer<T> = Result<T, Box<dyn Error>>;

/// Runs one script.
struct Script {
    cluster: Cluster,
    /// Nodes whose disks do not answer.
    hung: BTreeSet<NodeId>,
}

fn node(text: &str) -> Answer<NodeId> {
    NodeId::new(text.parse()?).ok_or_else(|| "there is no node 0".into())
}

fn nodes(args: &mut ArgumentConsumer<'_>) -> Answer<Vec<NodeId>> {
    let mut nodes = Vec::new();
    while let Some(text) = args.next_pos() {
        nodes.push(node(text)?);
    }
    Ok(nodes)
}

/// `1-2`: what goes from 1 to 2.
fn link(text: &str) -> Answer<(NodeId, NodeId)> {
    let (from, to) = text.split_once('-').ok_or("a link is written 1-2")?;
    Ok((node(from)?, node(to)?))
}

fn number<T: std::str::FromStr>(args: &mut ArgumentConsumer<'_>, key: &str, default: T) -> T {
    args.take_key(key).and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// What is said of leases.
fn lease_setting(args: &mut ArgumentConsumer<'_>) -> Option<LeaseConfig> {
    let promise: u64 = number(args, "promise", 0);
    let drift_percent = number(args, "drift", LEASE_DRIFT_PERCENT);
    (promise > 0).then_some(LeaseConfig { promise: Duration::from_millis(promise), drift_percent })
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Answer<String> {
        let mut args = command.consume_args();
        let mut output = String::new();
        if !self.shape(&command.name, &mut args)? && !self.act(&command.name, &mut args, &mut output)? {
            self.show(&command.name, &mut args, &mut output)?;
        }
        args.reject_next()?;
        Ok(std::mem::take(&mut self.cluster.events) + &output)
    }
}

impl Script {
    fn new() -> Script {
        Script { cluster: Cluster::new(1, Settings::default()), hung: BTreeSet::new() }
    }

    /// Commands that set the stage. False: it is another one.
    fn shape(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Answer<bool> {
        let cluster = &mut self.cluster;
        match name {
            // cluster SIZE [append=BYTES] [window=BYTES] [messages=N] [memory=BYTES] [uncommitted=BYTES]
            //   [promise=MS [drift=PERCENT]]: with leader leases
            "cluster" => {
                let usual = Settings::default();
                let settings = Settings {
                    append_bytes_max: number(args, "append", usual.append_bytes_max),
                    window_bytes_max: number(args, "window", usual.window_bytes_max),
                    window_messages_max: number(args, "messages", usual.window_messages_max),
                    log_memory_bytes_max: number(args, "memory", usual.log_memory_bytes_max),
                    uncommitted_bytes_max: number(args, "uncommitted", usual.uncommitted_bytes_max),
                    lease: lease_setting(args),
                    seed: usual.seed,
                };
                *cluster = Cluster::new(args.next_pos().ok_or("how many nodes?")?.parse()?, settings);
            }
            // setting NODE [promise=MS [drift=PERCENT]]: its own setting of leases, none if it says nothing; it starts
            // anew
            "setting" => {
                let node = node(args.next_pos().ok_or("which node?")?)?;
                cluster.crash(node);
                cluster.nodes.get_mut(&node).ok_or("there is no such node")?.own_lease = Some(lease_setting(args));
                cluster.start(node);
            }
            // disk NODE "TERM TERM ..." [term=N] [vote=NODE]: starts with this log
            "disk" => {
                let node = node(args.next_pos().ok_or("which node?")?)?;
                let terms =
                    args.next_pos().unwrap_or_default().split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
                let term = number(args, "term", *terms.last().unwrap_or(&0));
                let vote = NodeId::new(number(args, "vote", 0));
                cluster.crash(node);
                cluster.write_disk(node, HardState { term: Term(term), vote }, &terms);
                cluster.start(node);
            }
            // partition A B ...: cuts these off from the rest, and the rest from them
            "partition" => {
                let cut: BTreeSet<NodeId> = nodes(args)?.into_iter().collect();
                let all: Vec<NodeId> = cluster.nodes.keys().copied().collect();
                for from in &all {
                    for to in all.iter().filter(|to| cut.contains(from) != cut.contains(to)) {
                        cluster.blocked.insert((*from, *to));
                    }
                }
            }
            // block A-B ...: one direction only
            "block" => {
                while let Some(text) = args.next_pos() {
                    cluster.blocked.insert(link(text)?);
                }
            }
            "heal" => cluster.blocked.clear(),
            // lose NODE INDEX ...: its disk loses the content of these entries
            "lose" => {
                let node = node(args.next_pos().ok_or("which node?")?)?;
                let mut indexes = Vec::new();
                while let Some(text) = args.next_pos() {
                    indexes.push(LogIndex(text.parse()?));
                }
                cluster.lose(node, &indexes);
            }
            // loseend NODE [entries=N]: the disk of a node that is down loses the end of its log
            "loseend" => {
                let node = node(args.next_pos().ok_or("which node?")?)?;
                let entries = number(args, "entries", 0);
                cluster.lose_end(node, entries);
            }
            "hang" => self.hung.extend(nodes(args)?),
            "unhang" => self.hung.clear(),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Commands that make something happen. False: it is another one.
    fn act(&mut self, name: &str, args: &mut ArgumentConsumer<'_>, output: &mut String) -> Answer<bool> {
        let cluster = &mut self.cluster;
        match name {
            // campaign NODE: its election timeout passes, nobody else's
            "campaign" => cluster.pass_awake(&nodes(args)?, ELECTION_TIMEOUT_MAX),
            // lead NODE: it campaigns, and everything is done that follows
            "lead" => {
                cluster.pass_awake(&nodes(args)?, ELECTION_TIMEOUT_MAX);
                cluster.settle(&self.hung);
            }
            // tick NODE ... [ms=N]: time passes first, in which they are told of it as often as they ask to be
            "tick" => {
                let time = Duration::from_millis(number(args, "ms", 0));
                cluster.pass_awake(&nodes(args)?, time);
            }
            // oversleep NODE ... ms=N: time passes in which they stand still, and they are told at its end
            "oversleep" => {
                cluster.pass(Duration::from_millis(number(args, "ms", 0)));
                nodes(args)?.into_iter().for_each(|node| cluster.tick(node));
            }
            // clock NODE ... gains=PERCENT: their clocks gain so much on what passes here
            "clock" => {
                let gains = number(args, "gains", 0);
                for node in nodes(args)? {
                    cluster.nodes.get_mut(&node).ok_or("there is no such node")?.gains_percent = gains;
                }
            }
            // run MS: time passes everywhere, and everything is done that follows
            "run" => {
                let time: u64 = args.next_pos().ok_or("how long?")?.parse()?;
                cluster.run(Duration::from_millis(time), &self.hung);
            }
            "settle" => cluster.settle(&self.hung),
            "deliver" | "drop" | "repeat" | "reverse" => self.network(name, args, output)?,
            // persist NODE ... [count=N]: their oldest batches become durable, all of them unless told otherwise
            "persist" => {
                let count = number(args, "count", usize::MAX);
                for node in nodes(args)? {
                    (0..count).take_while(|_| cluster.persist(node)).count();
                }
            }
            // fetch NODE ... [count=N]: the segments answer, with at most that many entries
            "fetch" => {
                let count = number(args, "count", usize::MAX);
                for node in nodes(args)? {
                    cluster.fetch(node, count);
                }
            }
            "propose" => {
                let node = node(args.next_pos().ok_or("which node?")?)?;
                while let Some(data) = args.next_pos() {
                    cluster.propose(node, data);
                }
            }
            "read" => {
                let node = node(args.next_pos().ok_or("which node?")?)?;
                while let Some(read) = args.next_pos() {
                    cluster.read(node, read.parse()?);
                }
            }
            // readhere NODE READ ...: that the node is to answer whether it leads or not
            "readhere" => {
                let node = node(args.next_pos().ok_or("which node?")?)?;
                while let Some(read) = args.next_pos() {
                    cluster.read_here(node, read.parse()?);
                }
            }
            // space NODE plenty|low|exhausted: the room on its disk from now on
            "space" => {
                let node = node(args.next_pos().ok_or("which node?")?)?;
                let space = match args.next_pos() {
                    Some("plenty") => Space::Plenty,
                    Some("low") => Space::Low,
                    Some("exhausted") => Space::Exhausted,
                    other => return Err(format!("how much room is {other:?}?").into()),
                };
                cluster.step(node, Input::Space(space));
            }
            // flip NODE ...: a bit in the memory of its state machine
            "flip" => nodes(args)?.into_iter().for_each(|node| cluster.flip(node)),
            "linkdown" => {
                let (node, peer) = link(args.next_pos().ok_or("which link?")?)?;
                cluster.step(node, Input::LinkDown { peer });
            }
            "crash" => nodes(args)?.into_iter().for_each(|node| cluster.crash(node)),
            "start" => nodes(args)?.into_iter().for_each(|node| cluster.start(node)),
            "restart" | "wipe" => {
                for node in nodes(args)? {
                    if name == "wipe" {
                        cluster.wipe(node)
                    } else {
                        cluster.crash(node)
                    }
                    cluster.start(node);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// deliver|drop|repeat|reverse [A-B ...]: what is in flight now, on these links or on all.
    fn network(&mut self, name: &str, args: &mut ArgumentConsumer<'_>, output: &mut String) -> Answer<()> {
        let mut links = BTreeSet::new();
        while let Some(text) = args.next_pos() {
            links.insert(link(text)?);
        }
        let all = std::mem::take(&mut self.cluster.network);
        let (mut chosen, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|m| links.is_empty() || links.contains(&(m.from, m.to)));
        self.cluster.network = rest;
        match name {
            "reverse" => {
                chosen.reverse();
                self.cluster.network.extend(chosen);
            }
            "repeat" => self.cluster.network.extend(chosen.iter().chain(&chosen).cloned()),
            "drop" => chosen.iter().for_each(|m| writeln!(output, "lost: {}", describe(m)).unwrap()),
            _ => {
                for message in chosen {
                    writeln!(self.cluster.events, "{}", describe(&message))?;
                    let behind = self.cluster.network.len();
                    self.cluster.network.push(message);
                    self.cluster.deliver(behind);
                }
            }
        }
        Ok(())
    }

    /// Commands that only look.
    fn show(&mut self, name: &str, args: &mut ArgumentConsumer<'_>, output: &mut String) -> Answer<()> {
        let cluster = &self.cluster;
        let mut asked = nodes(args)?;
        if asked.is_empty() {
            asked = cluster.up();
        }
        match name {
            "network" => cluster.network.iter().for_each(|m| writeln!(output, "{}", describe(m)).unwrap()),
            "status" => {
                for node in asked {
                    let Some(raft) = cluster.raft(node) else { continue };
                    let view = raft.view();
                    let leader = view.leader.map_or("none".to_string(), |leader| leader.to_string());
                    let (role, term) = (view.role.as_str(), view.term);
                    let (commit, durable, last) = (view.commit, view.durable, view.last);
                    writeln!(
                        output,
                        "{node} {role} term={term} leader={leader} commit={commit} durable={durable} last={last}"
                    )?;
                }
            }
            "health" => {
                for node in asked {
                    let Some(raft) = cluster.raft(node) else { continue };
                    let diverged = raft.diverged().map_or(String::new(), |at| format!(", diverged at {at}"));
                    let differing: Vec<_> =
                        raft.differing().iter().map(|(id, at)| format!(", {id} differs at {at}")).collect();
                    writeln!(output, "{node}: {}{diverged}{}", describe_health(&raft.health()), differing.concat())?;
                }
            }
            // lease [NODE ...]: for how long it may answer reads without asking, as what it has applied goes
            "lease" => {
                for node in asked {
                    let lease = cluster.lease(node).map(|lease| lease.as_millis());
                    let lease = lease.map_or("none".to_string(), |ms| {
                        if ms > 1000 { "for ever".into() } else { format!("{ms} ms") }
                    });
                    writeln!(output, "{node}: {lease}")?;
                }
            }
            "room" => {
                for node in asked {
                    let Some(raft) = cluster.raft(node) else { continue };
                    let short: Vec<_> =
                        raft.short_of_room().map(|(id, space)| format!(", node {id} is {space:?}")).collect();
                    writeln!(output, "{node}: {:?}{}", raft.room(cluster.now), short.concat())?;
                }
            }
            "progress" => {
                for node in asked {
                    for (peer, progress) in cluster.raft(node).map(|raft| raft.progress()).unwrap_or_default() {
                        let counted = if progress.counted { "" } else { ", not counted" };
                        writeln!(output, "{node}: {peer} matched={}{counted}", progress.matched)?;
                    }
                }
            }
            "log" => {
                asked.iter().for_each(|n| writeln!(output, "{n}: {}", describe_log(&cluster.nodes[n].log)).unwrap())
            }
            "wal" => {
                for node in asked {
                    for batch in &cluster.nodes[&node].wal {
                        let messages: Vec<String> = batch.messages.iter().map(describe).collect();
                        let (seq, entries) = (batch.seq, describe_log(&batch.entries));
                        let term = batch
                            .hard_state
                            .map_or(String::new(), |hard| format!(" term={} vote={:?}", hard.term, hard.vote));
                        let cut = batch.cut_from.map_or(String::new(), |from| format!(" cut={from}"));
                        writeln!(output, "{node}: {seq}{cut}{term} [{entries}] then [{}]", messages.join(", "))?;
                    }
                }
            }
            _ => return Err(format!("unknown command {name}").into()),
        }
        Ok(())
    }
}

fn run(name: &str) {
    let path = Path::new("tests/scenarios/raft").join(name);
    goldenscript::run(&mut Script::new(), &path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// One test for each script, and one that no script is left out.
macro_rules! scripts {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run(concat!(stringify!($name), ".txt")); })*

        #[test]
        fn every_script_is_run() {
            let listed = BTreeSet::from([$(concat!(stringify!($name), ".txt").to_string()),*]);
            let there = std::fs::read_dir("tests/scenarios/raft").unwrap();
            let there = there.map(|file| file.unwrap().file_name().into_string().unwrap()).collect::<BTreeSet<_>>();
            assert_eq!(listed, there);
        }
    };
}

scripts! {
    commit_figure_8
    commit_median
    commit_own_term
    commit_verified_prefix
    damage_all_votes
    damage_barrier
    damage_barrier_late
    damage_cut_again
    damage_cut_restart
    damage_end
    damage_lost
    damage_never_acknowledged
    damage_nobody_sound
    damage_refill
    damage_refill_term
    damage_replaced
    damage_written_anew
    damage_running
    digest
    durability_acks
    durability_late_fsync
    election_check_quorum
    election_disturbed
    election_five
    election_hung_disk
    election_persist
    election_prevote
    election_prevote_terms
    election_seven
    election_stale_log
    election_stood_still
    election_tie
    election_vote_refused
    formation
    formation_alone
    formation_stale
    formation_wiped
    lease
    lease_alone
    lease_clocks
    lease_ends
    lease_new_leader
    lease_promise
    lease_restart
    lease_settings
    memory_restart
    memory_slow_follower
    read_index
    read_index_lease
    read_index_lost
    read_index_roles
    read_index_term
    read_index_unopened
    reads
    reads_minority
    reads_new_leader
    replication_backoff
    replication_divergent
    replication_lost
    replication_reordered
    replication_window
    restart
    restart_idle
    space
    space_away
}

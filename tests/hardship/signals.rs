//! Processes that stand still, and processes that are killed.

use std::time::Instant;

use raftkv::base::Role;
use rustix::process::Signal;

use crate::common::{PATIENCE, Processes};
use crate::load::{Load, Progress, report_rounds, under_load};

fn followers_of(leader: usize) -> [usize; 2] {
    [leader % 3 + 1, (leader + 1) % 3 + 1]
}

/// Waits until one of `nodes` leads, by its own word.
fn await_leader_among(cluster: &Processes, nodes: &[usize]) {
    let leads = |node: &usize| {
        let status = cluster.client_of(&[*node], PATIENCE).status(&cluster.address(*node));
        status.is_ok_and(|status| status.role == Role::Leader)
    };
    let deadline = Instant::now() + PATIENCE;
    while !nodes.iter().any(leads) {
        assert!(Instant::now() < deadline, "none of {nodes:?} leads");
    }
}

/// Waits until `node` has given up leading, which takes it an election timeout without the others.
fn await_resignation(cluster: &Processes, node: usize) {
    let deadline = Instant::now() + PATIENCE;
    let client = cluster.client_of(&[node], PATIENCE);
    while client.status(&cluster.address(node)).is_ok_and(|status| status.role == Role::Leader) {
        assert!(Instant::now() < deadline, "node {node} leads without followers");
    }
}

/// How many nodes were stopped and continued.
fn stops(cluster: &mut Processes, progress: &Progress) -> u64 {
    progress.await_acknowledged(100);
    let leader = cluster.leader();
    cluster.signal(leader, Signal::STOP);
    await_leader_among(cluster, &followers_of(leader));
    progress.await_acknowledged(100);
    cluster.signal(leader, Signal::CONT);
    progress.await_acknowledged(100);

    // Without a majority the leader gives up after an election timeout: they stood still for longer than that.
    let leader = cluster.leader();
    let followers = followers_of(leader);
    followers.iter().for_each(|node| cluster.signal(*node, Signal::STOP));
    await_resignation(cluster, leader);
    followers.iter().for_each(|node| cluster.signal(*node, Signal::CONT));
    cluster.leader();
    progress.await_acknowledged(100);

    // A follower that sleeps through the end of one leader and the election of another.
    let leader = cluster.leader();
    let [sleeper, other] = followers_of(leader);
    cluster.signal(sleeper, Signal::STOP);
    progress.await_acknowledged(100);
    cluster.signal(leader, Signal::STOP);
    cluster.signal(sleeper, Signal::CONT);
    await_leader_among(cluster, &[sleeper, other]);
    progress.await_acknowledged(100);
    cluster.signal(leader, Signal::CONT);
    progress.await_acknowledged(100);
    5
}

#[test]
fn nodes_that_are_stopped_for_longer_than_an_election_timeout_do_no_harm() {
    let _alone = crate::alone();
    report_rounds("stop and continue", "stops", || under_load(Load::default(), Processes::start(3), stops));
}

/// Each of the six orders; how many kills that were.
fn kills(cluster: &mut Processes, progress: &Progress) -> u64 {
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    for [first, second, third] in orders {
        progress.await_acknowledged(100);
        cluster.kill(first);
        progress.await_acknowledged(100);
        cluster.kill(second);
        cluster.kill(third);
        // The one that knows least comes back first.
        cluster.spawn(first);
        cluster.spawn(second);
        progress.await_acknowledged(100);
        cluster.spawn(third);
        cluster.leader();
    }
    18
}

#[test]
fn all_nodes_are_killed_in_every_order_and_nothing_is_lost() {
    let _alone = crate::alone();
    report_rounds("kill -9", "kills", || under_load(Load::default(), Processes::start(3), kills));
}

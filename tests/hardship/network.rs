//! Each node in a network namespace of its own, on one bridge with the clients, who reach every node all the time.
//!
//! ```text
//!        node1 10.77.0.1    node2 10.77.0.2    node3 10.77.0.3
//!              |                  |                  |            a veth pair each
//!        ======+==================+==================+======      hub 10.77.0.254: the clients
//! ```
//! Who reaches whom is said by the neighbour tables, which are written by hand: a node whose table has a hardware
//! address for another that nobody owns sends into the void. So each direction between each two nodes is cut by itself,
//! at once and without a word, as a broken switch would do it; no firewall is needed.

use crate::common::{self, Processes};
use crate::load::{Load, Progress, report_rounds, under_load};
use crate::secluded::{self, shell, try_shell};

const NODES: usize = 3;
const PORT: u16 = 5001;
const NOBODY: &str = "02:00:00:00:00:99";
const HUB: usize = 254;

fn address(host: usize) -> String {
    format!("10.77.0.{host}")
}

fn hardware(host: usize) -> String {
    format!("02:00:00:00:00:{host:02x}")
}

/// The cables. All of them go with the test's world.
struct Network;

impl Network {
    fn lay() -> Network {
        shell("ip link set lo up");
        // The names of the nodes' namespaces are files here.
        shell("mount -t tmpfs none /run");
        shell(&format!("ip link add hub address {} type bridge", hardware(HUB)));
        shell(&format!("ip address add {}/24 dev hub", address(HUB)));
        shell("ip link set hub up");
        for node in 1..=NODES {
            shell(&format!("ip netns add node{node}"));
            shell(&format!("ip link add port{node} type veth peer name wire netns node{node}"));
            shell(&format!("ip link set port{node} master hub up"));
            shell(&format!("ip -n node{node} link set lo up"));
            shell(&format!("ip -n node{node} link set wire address {} up", hardware(node)));
            shell(&format!("ip -n node{node} address add {}/24 dev wire", address(node)));
            shell(&format!("ip neigh replace {} lladdr {} dev hub nud permanent", address(node), hardware(node)));
            point(node, HUB, &hardware(HUB));
        }
        let network = Network;
        network.heal();
        network
    }

    fn cluster(&self) -> Processes {
        let mut cluster = Processes::prepare(NODES);
        for node in 1..=NODES {
            cluster.ports[node - 1] = PORT;
            cluster.set_host(node, &address(node));
            cluster.put_before(node, &["ip", "netns", "exec", &format!("node{node}")]);
        }
        cluster.start_all();
        cluster
    }

    /// What `from` sends to `to` is lost.
    fn cut(&self, from: usize, to: usize) {
        point(from, to, NOBODY);
    }

    fn cut_both(&self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// From all other nodes.
    fn isolate(&self, node: usize) {
        others(node).for_each(|other| self.cut_both(node, other));
    }

    fn heal(&self) {
        for node in 1..=NODES {
            others(node).for_each(|other| point(node, other, &hardware(other)));
        }
    }

    /// Everything that nodes send passes `qdisc` from now on, what they answer to clients too.
    fn shape(&self, qdisc: &str) -> Result<(), String> {
        (1..=NODES).try_for_each(|node| try_shell(&format!("tc -n node{node} qdisc replace dev wire root {qdisc}")))
    }

    fn unshape(&self) {
        (1..=NODES).for_each(|node| shell(&format!("tc -n node{node} qdisc delete dev wire root")));
    }
}

fn others(node: usize) -> impl Iterator<Item = usize> {
    (1..=NODES).filter(move |other| *other != node)
}

fn point(from: usize, to: usize, hardware: &str) {
    shell(&format!("ip -n node{from} neigh replace {} lladdr {hardware} dev wire nud permanent", address(to)));
}

/// Waits until another node than `old` leads and writes go on.
fn await_another(cluster: &mut Processes, progress: &Progress, old: usize) {
    let deadline = std::time::Instant::now() + common::PATIENCE;
    while cluster.leader() == old {
        assert!(std::time::Instant::now() < deadline, "node {old} still leads");
    }
    progress.await_acknowledged(100);
}

/// Each kind of cut once; how many there were.
fn cuts(network: &Network, cluster: &mut Processes, progress: &Progress) -> u64 {
    let mut count = 0;
    let mut healed = |progress: &Progress| {
        network.heal();
        progress.await_acknowledged(100);
        count += 1;
    };
    progress.await_acknowledged(100);

    let leader = cluster.leader();
    network.isolate(leader);
    await_another(cluster, progress, leader);
    healed(progress);

    // It hears everybody, and nobody hears it.
    let leader = cluster.leader();
    others(leader).for_each(|other| network.cut(leader, other));
    await_another(cluster, progress, leader);
    healed(progress);

    // Everybody hears it, and it hears nobody: its heartbeats alone must not keep it in office.
    let leader = cluster.leader();
    others(leader).for_each(|other| network.cut(other, leader));
    await_another(cluster, progress, leader);
    healed(progress);

    // Two that don't reach each other, and a third that reaches both.
    for bridge in 1..=NODES {
        let ends: Vec<usize> = others(bridge).collect();
        network.cut_both(ends[0], ends[1]);
        progress.await_acknowledged(100);
        healed(progress);
    }

    // Rolling: the next is cut off in the moment in which the last comes back.
    for node in 1..=NODES {
        network.heal();
        network.isolate(node);
        progress.await_acknowledged(100);
    }
    healed(progress);
    count + 2
}

#[test]
fn a_cut_network_loses_and_doubles_nothing() {
    const NAME: &str = "network::a_cut_network_loses_and_doubles_nothing";
    let _alone = crate::alone();
    if !common::has("ip", "-V") {
        return common::skip(NAME, "there is no ip (apt-get install iproute2)");
    }
    secluded::run(NAME, secluded::NETWORK, || {
        let network = Network::lay();
        report_rounds("network", "cuts and heals", || {
            under_load(Load::default(), network.cluster(), |cluster, progress| cuts(&network, cluster, progress))
        });
    });
}

/// Under each kind of slow link: writes go on, and a leader that is cut off is replaced.
fn slow(name: &'static str, test: &str, qdisc: &str) {
    let _alone = crate::alone();
    if !common::has("ip", "-V") || !common::has("tc", "-V") {
        return common::skip(test, "there is no ip or no tc (apt-get install iproute2)");
    }
    secluded::run(test, secluded::NETWORK, || {
        let network = Network::lay();
        if let Err(why) = network.shape(qdisc) {
            return common::skip(test, &format!("this kernel has no such queue: {why}"));
        }
        network.unshape();
        report_rounds(name, "cuts and heals", || {
            under_load(Load::default(), network.cluster(), |cluster, progress| {
                network.shape(qdisc).expect("it went a moment ago");
                progress.await_acknowledged(100);
                let leader = cluster.leader();
                network.isolate(leader);
                await_another(cluster, progress, leader);
                network.heal();
                progress.await_acknowledged(100);
                network.unshape();
                progress.await_acknowledged(100);
                1
            })
        });
    });
}

#[test]
fn links_that_delay_and_lose_packets_lose_no_write() {
    const NAME: &str = "network::links_that_delay_and_lose_packets_lose_no_write";
    slow("delay and loss", NAME, "netem delay 15ms 5ms loss 1%");
}

/// A queue in front of a narrow link delays too, by what stands in it, and drops what does not fit: this is what a
/// kernel without netem has.
#[test]
fn narrow_links_lose_no_write() {
    const NAME: &str = "network::narrow_links_lose_no_write";
    slow("narrow links", NAME, "tbf rate 4mbit burst 4kb latency 50ms");
}

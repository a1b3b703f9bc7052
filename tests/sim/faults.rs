//! Every fault there is, and how often each has really fired.

use std::fmt;

macro_rules! faults {
    ($($name:ident $text:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($name,)* }

        impl Fault {
            pub const ALL: &[Fault] = &[$(Fault::$name,)*];

            pub fn name(self) -> &'static str {
                match self { $(Fault::$name => $text,)* }
            }
        }
    };
}

faults! {
    Lost "message lost",
    Delayed "message delayed",
    Reordered "message overtaken",
    Repeated "message repeated",
    LinkBroken "link broken",
    PartitionSymmetric "partition, symmetric",
    PartitionOneWay "partition, one way",
    PartitionBridge "partition, one node bridges two halves",
    PartitionRolling "partition, rolling",
    Clogged "link clogged, opened later",
    Killed "process killed",
    KilledVoting "process killed while it makes a vote durable",
    Restarted "process restarted",
    Paused "process paused beyond an election timeout",
    Suspended "machine suspended, its clock went on",
    LeaseRead "read answered by lease",
    ReadByFollower "read answered by a node that does not lead",
    LeaseRanOut "lease ran out between a read and its confirmation",
    ClockDrifted "clock drifts",
    ClockJumped "clock jumped",
    CacheOutlived "unsynced bytes outlived their process",
    Vanished "unsynced sectors vanished at a loss of power",
    Torn "write torn by sector",
    NameLost "unsynced name vanished at a loss of power",
    CutShort "operation cut short",
    SyncFailed "fsync failed",
    Stalled "disk stalled",
    Full "disk full, noticed or write refused",
    FullForSmall "disk too full for a small file",
    PowerSome "power lost by some",
    PowerAll "power lost by all",
    BitFlipped "bit flipped at rest",
    SectorBroken "sector unreadable",
    MajorityDamaged "a majority of the nodes damaged",
    EntryNamedLost "end of a cluster: a node names the entry of which no copy is left",
    WentAstray "write went astray",
    ReadFailed "read failed",
    Wiped "directory wiped",
    StartRefused "start refused for damage",
    Drilled "drill carried out",
    ClientLost "client lost its connection",
}

/// How often each fault fired.
#[derive(Clone, Debug)]
pub struct Tally([u64; Fault::ALL.len()]);

impl Default for Tally {
    fn default() -> Tally {
        Tally([0; Fault::ALL.len()])
    }
}

impl Tally {
    pub fn count(&mut self, fault: Fault) {
        self.add(fault, 1);
    }

    pub fn add(&mut self, fault: Fault, times: u64) {
        self.0[fault as usize] += times;
    }

    pub fn merge(&mut self, other: &Tally) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own += other;
        }
    }

    pub fn never(&self) -> Vec<Fault> {
        // The last is no fault, and it must be possible that it never happens.
        let fired = |fault: &Fault| *fault == Fault::EntryNamedLost || self.0[*fault as usize] > 0;
        Fault::ALL.iter().copied().filter(|fault| !fired(fault)).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in Fault::ALL {
            writeln!(f, "  {:>10}  {}", self.0[*fault as usize], fault.name())?;
        }
        Ok(())
    }
}

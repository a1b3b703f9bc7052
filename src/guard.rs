//! The guards that tests take away, one at a time, to see that something notices.
//!
//! A test is worth what it catches. Each guard here is a rule without which data would be lost or answers be wrong;
//! where it stands, production code asks [`removed`] and does without it when a test says so. That can only be said in a
//! build with the feature `mutants`, which this package's tests turn on and nothing else does: elsewhere the answer
//! is a constant, and nothing of this is in the program.

/// A rule, named by what it forbids. The numbers in front are the lines of the list of known bugs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// 7. The commit index moves past what this append verified.
    CommitPastVerified,
    /// 7. The commit index of a heartbeat is believed whatever this log holds.
    HeartbeatCommitUnverified,
    /// 8. An append is acknowledged to the end of the log.
    MatchIsLastIndex,
    /// 9. A restart treats its whole log as committed.
    RestartCommitsAll,
    /// 10. A late append truncates what it repeats.
    LateAppendTruncates,
    /// 11. An earlier term's entry is committed by counting.
    CommitEarlierTerm,
    /// 12. Term and vote are not written.
    VoteNotPersisted,
    /// 12. A vote is answered before it is durable.
    VoteBeforeDurable,
    /// 12. A vote is asked for before the candidate's own is durable.
    VoteRequestBeforeDurable,
    /// 12. A node votes twice in a term.
    VoteTwice,
    /// Raft paper, 5.4.1. A candidate with a shorter log gets the vote.
    VoteForShorterLog,
    /// 13. A completion for entries that were overwritten is taken for the new ones.
    OldCompletionCounts,
    /// 14. The leader counts its own unsynced tail.
    LeaderCountsUnsynced,
    /// 14. A follower acknowledges what is not durable.
    AckBeforeDurable,
    /// 21. A read does not wait for an entry of the own term.
    ReadBeforeNoop,
    /// 22. A leader reads without asking anybody.
    ReadWithoutQuorum,
    /// 25. A write is called failed as soon as this log replaced it.
    ReplacedIsFailed,
    /// 26. A pending reply is found by index alone.
    ReplyByIndex,
    /// 26. The numbers of forwarded requests begin anew at each start.
    ForwardsNumberedAnew,
    /// 27. A read does not wait for the writes before it, nor a write for the reads.
    PipelineUnordered,
    /// 27. A forwarded write is taken in any term.
    ForwardInAnyTerm,
    /// 27. A write taken in one term is proposed in another.
    StaleWriteProposed,
    /// 30. A new segment's name is not made durable.
    NameNotSynced,
    /// 35. The log is not synced.
    LogNotSynced,
    /// 35. A failed fsync is ignored.
    SyncErrorIgnored,
    /// 39a. What recovery read is not written again.
    RecoveryBelievesCache,
    /// 39b. What may be damaged is not marked before it is repaired.
    MarkForgotten,
    /// 39c. Another directory under a known id counts.
    StrangerCounts,
    /// Damage. A suspect node's vote counts like any other.
    SuspectVoteCounts,
    /// Damage. A node that lacks entries votes and stands.
    VoteWithMissing,
    /// Damage. What is missing is acknowledged.
    AckPastMissing,
    /// Damage. A committed entry of the leader's term settles a lost end, whatever was acknowledged to the same leader.
    EndSettledEarly,
    /// Damage. What comes in place of a lost entry is not checked.
    RefillUnchecked,
    /// Damage. An entry that may have been committed is cut because nobody has it.
    LostEntryCut,
    /// Formation. An election with an empty log needs a majority only.
    FormationByMajority,
}

#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn removed(_guard: Guard) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use switch::{ALL, remove, removed};

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Guard;

    thread_local! {
        static REMOVED: Cell<Option<Guard>> = const { Cell::new(None) };
    }

    /// From now on this thread does without `guard`.
    pub fn remove(guard: Option<Guard>) {
        REMOVED.set(guard);
    }

    pub fn removed(guard: Guard) -> bool {
        REMOVED.get() == Some(guard)
    }

    pub const ALL: &[Guard] = &[
        Guard::CommitPastVerified,
        Guard::HeartbeatCommitUnverified,
        Guard::MatchIsLastIndex,
        Guard::RestartCommitsAll,
        Guard::LateAppendTruncates,
        Guard::CommitEarlierTerm,
        Guard::VoteNotPersisted,
        Guard::VoteBeforeDurable,
        Guard::VoteRequestBeforeDurable,
        Guard::VoteTwice,
        Guard::VoteForShorterLog,
        Guard::OldCompletionCounts,
        Guard::LeaderCountsUnsynced,
        Guard::AckBeforeDurable,
        Guard::ReadBeforeNoop,
        Guard::ReadWithoutQuorum,
        Guard::ReplacedIsFailed,
        Guard::ReplyByIndex,
        Guard::ForwardsNumberedAnew,
        Guard::PipelineUnordered,
        Guard::ForwardInAnyTerm,
        Guard::StaleWriteProposed,
        Guard::NameNotSynced,
        Guard::LogNotSynced,
        Guard::SyncErrorIgnored,
        Guard::RecoveryBelievesCache,
        Guard::MarkForgotten,
        Guard::StrangerCounts,
        Guard::SuspectVoteCounts,
        Guard::VoteWithMissing,
        Guard::AckPastMissing,
        Guard::EndSettledEarly,
        Guard::RefillUnchecked,
        Guard::LostEntryCut,
        Guard::FormationByMajority,
    ];
}

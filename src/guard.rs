//! The guards that tests take away, one at a time, to see that something notices.
//!
//! A test is worth what it catches. Each guard here is a rule without which data would be lost, answers be wrong, or a
//! node be lost to a stranger; where it stands, production code asks [`removed`] and does without it when a test says
//! so. That can only be said in a build with the feature `mutants`, which this package's tests turn on and nothing else
//! does: elsewhere the answer is a constant, and nothing of this is in the program.
//!
//! `tests/MUTANTS.md` is the table of all of them: what notices each, and how soon. A new guard needs a row there.
//!
//! | who says it | for whom | by |
//! |---|---|---|
//! | the simulator | the thread that runs the seed | `remove` and `assert_nothing` |
//! | `tools/mutants` | a whole process, and those that it starts | the environment: `RAFTKV_REMOVED=NAME`, `RAFTKV_ASSERTIONS=off` |

macro_rules! guards {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// A rule, named by what happens without it. The numbers in front are the lines of the list of known bugs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Guard { $($(#[$doc])+ $name,)+ }

        #[cfg(feature = "mutants")]
        pub const ALL: &[Guard] = &[$(Guard::$name,)+];
    };
}

guards! {
    // ---- consensus ---------------------------------------------------------------------------------------------
    /// 5. The answer to a pre-vote from an earlier term does not tell the later one.
    PreVoteTermHidden,
    /// 6. A node that hears no leader campaigns at once, and raises the term.
    CampaignWithoutPreVote,
    /// 6. A node that hears a leader helps another one to replace it.
    LeaderHeardIgnored,
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
    /// 10. What is committed is truncated if a leader says so.
    CommittedTruncated,
    /// 11. An earlier term's entry is committed by counting.
    CommitEarlierTerm,
    /// 12. Term and vote are not written.
    VoteNotPersisted,
    /// 12. A vote is answered before it is durable.
    VoteBeforeDurable,
    /// 12. A vote is asked for before the candidate's own is durable, which counts at once.
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
    /// 15. The entries of an append need not be consecutive, nor of terms that rise.
    AppendUnchecked,
    /// 19. A leader whose disk hangs goes on leading.
    HungDiskLeads,
    /// 20. A completion from the wal is taken for one of all that was queued.
    CompletionCoversAll,

    // ---- reads, clients, sessions ------------------------------------------------------------------------------
    /// 21. A read does not wait for an entry of the own term.
    ReadBeforeNoop,
    /// 22. A leader reads without asking anybody.
    ReadWithoutQuorum,
    /// 22. A leader that hears no majority goes on leading.
    MinorityLeads,
    /// 22. A leader tells others how far to read without proof that it still leads.
    ReadIndexUnproven,
    /// 22. A read on a node that does not lead joins a question that has left before it came.
    ReadJoinsQuestion,
    /// 22. What the leader of an earlier term said counts in this one.
    OldReadIndexTaken,
    /// 25. A client sends a write of unknown outcome again.
    UnknownResent,
    /// 25. A write is called failed as soon as this log replaced it.
    ReplacedIsFailed,
    /// 25. A write that was not confirmed in time is called failed.
    ExpiredIsFailed,
    /// 26. A pending reply is found by index alone.
    ReplyByIndex,
    /// 26. The numbers of forwarded requests begin anew at each start.
    ForwardsNumberedAnew,
    /// 26. The numbers of questions how far to read begin anew at each start.
    QuestionsNumberedAnew,
    /// 27. A read does not wait for the writes before it, nor a write for the reads.
    PipelineUnordered,
    /// 27. A forwarded write is taken in any term.
    ForwardInAnyTerm,
    /// 27. A write taken in one term is proposed in another.
    StaleWriteProposed,

    /// 21. A lease begins before the first entry of the own term is applied.
    LeaseBeforeNoop,
    /// 21. A lease holds though something that is committed is not applied yet.
    LeaseBehindCommit,
    /// 23. A lease runs from when a promise was received, not from when it was asked for.
    LeaseFromReceipt,
    /// 23. Clocks are taken to run at one rate.
    LeaseWithoutDrift,
    /// 23. The clock is sampled before the request that it is to decide about is taken.
    ClockBeforeRequest,
    /// 23. The consensus thread samples the clock before it takes what it is to happen at that time.
    ClockBeforeEvents,
    /// 24. A node that leads no more takes its lease back only when that runs out.
    LeaseKept,
    /// 24. A node that starts forgets what it promised.
    PromiseForgotten,
    /// 24. A promise to help nobody else to lead is not kept.
    VoteInsidePromise,
    /// 24. A leader believes that it was promised what it asked for.
    AskedPromiseBelieved,
    /// 24. A leader whose disk has lost something, or whose state differs, keeps its lease.
    LeaseWhileSuspect,

    // ---- storage -----------------------------------------------------------------------------------------------
    /// 30. A new segment's name is not made durable.
    NameNotSynced,
    /// 31. A write that never finished keeps the node from starting.
    TornTailRefused,
    /// 32. Damage is taken for a write that never finished.
    DamageTakenForTorn,
    /// 32. A sector is believed whatever its checksum says.
    SectorUnchecked,
    /// 32. A slot of the term file is believed whatever its checksum says.
    SlotUnchecked,
    /// 33. A term file of which nothing is sound reads as term 0.
    BadSlotsAreTermZero,
    /// 35. The log is not synced.
    LogNotSynced,
    /// 35. A failed fsync is ignored.
    SyncErrorIgnored,
    /// 35. A failed fsync is tried once more.
    SyncRetried,
    /// 35. A write that failed, or was short, is ignored.
    ShortWriteIgnored,
    /// 35. After an error the wal takes the next batch as if nothing had been.
    FailureForgotten,
    /// 36. A start needs room for another segment.
    StartNeedsRoom,
    /// 37. A read is answered once its entry is committed, applied or not.
    ReadBeforeApplied,
    /// 37. A node that does not lead answers reads before it has applied what the leader told it.
    FollowerReadsEarly,
    /// 38. A sector's checksum does not say where it belongs.
    PlaceNotSealed,
    /// 38. A start takes no new incarnation.
    IncarnationKept,
    /// 39. Nobody is asked for what a damaged disk has lost.
    MissingNotAskedFor,
    /// 39. Fewer sound nodes than a majority never elect, though all vote.
    EveryVoteIgnored,
    /// 39a. What recovery read is not written again.
    RecoveryBelievesCache,
    /// 39b. The rest of a batch that was cut stays behind the end of the log.
    CutNotZeroed,
    /// 39b. What may be damaged is not marked before it is repaired.
    MarkForgotten,
    /// 39c. Another directory under a known id counts.
    StrangerCounts,
    /// 39c. A log that is gone is taken for one that never was.
    LostLogIsNew,
    /// 39c. An election with an empty log needs a majority only.
    FormationByMajority,
    /// 39d. An operation that is not known is skipped.
    UnknownSkipped,
    /// 39d. A node whose state differs from the majority's goes on serving.
    DigestNotCompared,

    // ---- damage ------------------------------------------------------------------------------------------------
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
    /// Damage. A cluster of which every node lost the end of its log goes on as if nothing had been there.
    NobodySoundElects,

    // ---- network and limits ------------------------------------------------------------------------------------
    /// 40. Accepting goes on without a free descriptor.
    AcceptSpins,
    /// 41. A client that does not read its answers is kept for ever.
    SlowReaderKept,
    /// 41. A frame or line that has begun may take for ever.
    SlowSenderKept,
    /// 41. What all connections hold together has no bound.
    BufferUnbounded,
    /// 42. A frame may announce any length.
    FrameLengthUnchecked,
    /// 42. Nested elements are not counted before they are made.
    NestedCountsUnchecked,
    /// 43. A hello is taken from anybody, for anybody.
    HelloUnchecked,
    /// 43. A peer's message is not held to what its link's hello said.
    PeerMessageOfAnother,
    /// 43. A peer that is none any more is still heard.
    FormerPeerHeard,
    /// 44. An error in writing to a connection ends the node.
    BrokenWriteEnds,
    /// 44. A slot's next connection gets what was meant for its last one.
    GenerationIgnored,
    /// 45. A link whose peer takes nothing is kept.
    StalledLinkKept,
    /// 45. A heartbeat waits behind queued entries.
    HeartbeatBehindData,
    /// 45. A turn writes to its clients whatever there is to write.
    TurnUnbounded,
    /// 46. The channel is looked at before the sleeping flag is up.
    LookBeforeFlag,
    /// 46. A socket that a turn had no budget for is forgotten.
    UnreadForgotten,
    /// 47. The lines of a request of HTTP are run.
    HttpRuns,
}

#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn removed(_guard: Guard) -> bool {
    false
}

/// Whether a node's assertions about itself hold it to anything: always, but where a test asks who else would notice.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn asserting() -> bool {
    true
}

#[cfg(feature = "mutants")]
pub use switch::{assert_nothing, asserting, remove, removed};

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;
    use std::env;

    use super::{ALL, Guard};

    thread_local! {
        static REMOVED: Cell<Option<Guard>> = Cell::new(removed_in_process());
        static ASSERTING: Cell<bool> = Cell::new(env::var_os("RAFTKV_ASSERTIONS").is_none_or(|word| word != "off"));
    }

    fn removed_in_process() -> Option<Guard> {
        let name = env::var("RAFTKV_REMOVED").ok()?;
        let named = ALL.iter().find(|guard| format!("{guard:?}") == name);
        Some(*named.unwrap_or_else(|| panic!("RAFTKV_REMOVED={name}: there is no guard of that name")))
    }

    /// From now on this thread does without `guard`.
    pub fn remove(guard: Option<Guard>) {
        REMOVED.set(guard);
    }

    pub fn removed(guard: Guard) -> bool {
        REMOVED.get() == Some(guard)
    }

    /// Until told otherwise this thread's nodes assert nothing about themselves, as in a release build, and less.
    pub fn assert_nothing(nothing: bool) {
        ASSERTING.set(!nothing);
    }

    pub fn asserting() -> bool {
        ASSERTING.get()
    }
}

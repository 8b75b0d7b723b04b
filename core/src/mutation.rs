//! Faults on purpose: each breaks one rule in one place, to prove that the simulator notices.
//!
//! Builds for development and tests can switch one on, and optimised ones with the cargo feature `mutations`. In a
//! released server [`is_on`] is a constant, and nothing of this is left. One a thread, so that simulations in parallel do
//! not disturb each other.

/// A rule that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A transaction that begins again does not tell the last of those that had reserved.
    KeepFirstReservation,
    /// Of the parts that are reserved in one step the last is not logged, and its home is told that it is.
    PrepareInPart,
    /// A sync leaves out the segment that has just become full.
    SkipSync,
    /// A transaction that turns back does not tell the last of those that prepared.
    ForgetAbort,
    /// The key of a cross-shard transaction is not kept.
    LoseKey,
    /// An answer leaves when its record is appended.
    ReleaseEarly,
    /// Recovery applies a stock movement twice.
    ApplyTwice,
    /// A cart that would have to wait for undecided units is refused.
    RefuseInsteadOfWait,
    /// Units that a transaction gives back can be taken before it is decided.
    GiveBeforeDurable,
    /// A transaction is committed once its home's record is safe.
    CommitWithoutPeers,
    /// Recovery commits whatever its home decided, all parts there or not.
    CommitWithoutParts,
    /// A log is cut where it was proven to go on.
    CutBelowMark,
    /// A stock reading does not wait for the transactions that pend.
    ReadPastPending,
    /// A shard that waits for its peers' logs rests as if it did not.
    SleepThroughWatermarks,
    /// The mark of a log's last sync does not reach the disk.
    ForgetLastMark,
    /// A shard lets go of the keys of a transaction over several shards once it has said what they hold.
    ForgetKeyLocks,
    /// Recovery does not remove the fields of hashes that were removed.
    KeepRemovedFields,
    /// Recovery leaves what it cannot prove to be on disk as it found it.
    BelieveCache,
    /// Recovery leaves the torn tail of a log behind its end.
    KeepTornTail,
    /// A start does not wait until the name of its new manifest is on disk.
    SkipManifestSync,
    /// A log segment is used before its name is on disk.
    SkipSegmentName,
    /// A checkpoint stands before its own log is on disk up to where it ends.
    PublishUnsynced,
    /// A checkpoint stands before the other shards have on disk what was said to them before.
    PublishPastBarriers,
    /// A checkpoint's file gets its name before its bytes are on disk.
    SkipCheckpointSync,
    /// The log is truncated up to the newest checkpoint, not the one before it.
    TruncateBehindNewest,
    /// Applying a movement of stock breaks an invariant.
    BreakInvariant,
    /// A shard rests while mail that it has posted waits for room.
    RestPastMail,
    /// An answer reaches whoever has the asking connection's place by then.
    AnswerByPlace,
    /// A reply leaves before that of an earlier command.
    OvertakeReplies,
    /// `CLIENT PAUSE` does not hold transactions back.
    PauseAroundTransactions,
    /// A subscription begins before what was sent ahead of it is answered.
    SubscribeAtOnce,
    /// A message leaves before the writes sent ahead of it are answered.
    PublishAtOnce,
    /// `EXEC` runs though a watched key has changed.
    ForgetWatched,
}

impl Mutation {
    /// All of them, with the names of the command line.
    pub const ALL: [(&str, Self); 33] = [
        ("keep-first-reservation", Self::KeepFirstReservation),
        ("prepare-in-part", Self::PrepareInPart),
        ("skip-sync", Self::SkipSync),
        ("forget-abort", Self::ForgetAbort),
        ("lose-key", Self::LoseKey),
        ("release-early", Self::ReleaseEarly),
        ("apply-twice", Self::ApplyTwice),
        ("refuse-instead-of-wait", Self::RefuseInsteadOfWait),
        ("give-before-durable", Self::GiveBeforeDurable),
        ("commit-without-peers", Self::CommitWithoutPeers),
        ("commit-without-parts", Self::CommitWithoutParts),
        ("cut-below-mark", Self::CutBelowMark),
        ("read-past-pending", Self::ReadPastPending),
        ("sleep-through-watermarks", Self::SleepThroughWatermarks),
        ("forget-last-mark", Self::ForgetLastMark),
        ("forget-key-locks", Self::ForgetKeyLocks),
        ("keep-removed-fields", Self::KeepRemovedFields),
        ("believe-cache", Self::BelieveCache),
        ("keep-torn-tail", Self::KeepTornTail),
        ("skip-manifest-sync", Self::SkipManifestSync),
        ("skip-segment-name", Self::SkipSegmentName),
        ("publish-unsynced", Self::PublishUnsynced),
        ("publish-past-barriers", Self::PublishPastBarriers),
        ("skip-checkpoint-sync", Self::SkipCheckpointSync),
        ("truncate-behind-newest", Self::TruncateBehindNewest),
        ("break-invariant", Self::BreakInvariant),
        ("rest-past-mail", Self::RestPastMail),
        ("answer-by-place", Self::AnswerByPlace),
        ("overtake-replies", Self::OvertakeReplies),
        ("pause-around-transactions", Self::PauseAroundTransactions),
        ("subscribe-at-once", Self::SubscribeAtOnce),
        ("publish-at-once", Self::PublishAtOnce),
        ("forget-watched", Self::ForgetWatched),
    ];
}

#[cfg(any(feature = "mutations", debug_assertions))]
mod switch {
    use std::cell::Cell;

    use super::Mutation;

    thread_local! {
        static ON: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Breaks this rule on this thread from now on, and no other.
    pub fn switch_on(mutation: Option<Mutation>) {
        ON.set(mutation);
    }

    /// Whether this rule is broken on this thread.
    pub fn is_on(mutation: Mutation) -> bool {
        ON.get() == Some(mutation)
    }
}

#[cfg(any(feature = "mutations", debug_assertions))]
pub use switch::{is_on, switch_on};

/// Whether this rule is broken: never.
#[cfg(not(any(feature = "mutations", debug_assertions)))]
#[inline]
pub const fn is_on(_: Mutation) -> bool {
    false
}

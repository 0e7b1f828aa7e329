//! Bugs that are put into the store on purpose, to prove that its simulation finds them. Programs are built without the
//! feature `plants`, and then hold none of this.

/// A bug on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// A record is acknowledged before it is on disk.
    EarlyAcknowledgement = 1,
    /// The names of new files are not synced.
    NoFolderSync,
    /// A failed sync is tried again.
    SyncRetried,
    /// Half a record at the end of a file stays there.
    TornTailKept,
    /// The number of a damaged record is assigned again.
    NumberReused,
    /// A record is served without a look at its checksum.
    NoChecksumOnFetch,
    /// The part of a record for which a full disk had room stays in the file.
    FullDiskLeftovers,
    /// A connection to a datanode is used before its records are compared with the registry.
    LinkNotReconciled,
    /// A record that a datanode has lost counts as a copy.
    LostCopyCounted,
    /// A message is called unknown although a datanode was not asked yet.
    NotFoundUnasked,
    /// A headnode's epoch is not on disk when the headnode is welcomed.
    EpochNotSynced,
    /// A headnode stores although another one with a higher epoch was welcomed.
    StaleStoreAccepted,
    /// A copy counts although its datanode is absent for long, is drained or is gone.
    AbsentCopyCounted,
}

/// All plants and what they are, in the order of their numbers from 1.
pub const PLANTS: [(Plant, &str); 13] = [
    (Plant::EarlyAcknowledgement, "acknowledge before `fdatasync`"),
    (Plant::NoFolderSync, "no folder sync"),
    (Plant::SyncRetried, "failed sync retried"),
    (Plant::TornTailKept, "torn tail kept"),
    (Plant::NumberReused, "number reused after damage"),
    (Plant::NoChecksumOnFetch, "checksum skipped on fetch"),
    (Plant::FullDiskLeftovers, "leftovers of a full disk kept"),
    (Plant::LinkNotReconciled, "a link used before it was reconciled"),
    (Plant::LostCopyCounted, "a lost copy counted"),
    (Plant::NotFoundUnasked, "`not-found` without asking"),
    (Plant::EpochNotSynced, "epoch not synced before `welcome`"),
    (Plant::StaleStoreAccepted, "a stale headnode's store accepted"),
    (Plant::AbsentCopyCounted, "an absent or draining copy counted"),
];

#[cfg(feature = "plants")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Puts the bug of this number into the process. 0 stands for none.
#[cfg(feature = "plants")]
pub fn plant(number: u8) {
    PLANTED.store(number, std::sync::atomic::Ordering::Relaxed);
}

/// Returns whether this bug is in the process.
#[cfg(feature = "plants")]
#[must_use]
pub fn is_planted(plant: Plant) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == plant as u8
}

/// Returns `false`: programs are built without plants.
#[cfg(not(feature = "plants"))]
#[must_use]
pub const fn is_planted(_: Plant) -> bool {
    false
}

//! Why a message was not stored or not read back. The texts are for people: they give the cause and what to do about
//! it.

use std::fmt;

use protocol::store::types::{NodeName, Place};

/// Why the placer did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum PlacementError {
    #[error("this id was used for another message: choose a new one")]
    IdConflict,
    #[error(
        "the registry's line about this id is damaged: restart the headnode, which then asks the datanodes again"
    )]
    UnreadableLine,
    #[error(
        "the registry may lack messages, and {} was not asked yet for its records: whether this id is in use is not \
         known; start that datanode, or tell the headnode to --forget it if it is gone for ever",
        Unasked(unasked)
    )]
    CannotTell { unasked: Vec<NodeName> },
    #[error(
        "{confirmed} of the {needed} datanodes that are needed say that this headnode still leads: whether another one \
         has stored this id is not known; try again later"
    )]
    MayNotLead { confirmed: usize, needed: usize },
    #[error("no message has this id")]
    NotFound,
    #[error("the record is damaged or gone at {}", Joined(places))]
    Damaged { places: Vec<Place> },
    #[error(
        "the message was only at {}, which is declared lost: it is back if that datanode comes back",
        Joined(places)
    )]
    Lost { places: Vec<Place> },
    #[error("the message is held at {}, which is not available now: try again later", Joined(places))]
    Away { places: Vec<Place> },
    #[error("no datanode is available: the message is not stored; try again")]
    NoAvailableDatanode,
    #[error("no available datanode has space for the message: free some, or add a datanode")]
    DatanodesFull,
    #[error(
        "{confirmed} of {replicas} datanodes confirmed the message, {failed} failed: it is not acknowledged; \
         try again with the same id"
    )]
    NotEnoughDatanodes { confirmed: usize, replicas: usize, failed: usize },
    #[error("the headnode has no space for its registry: try again with the same id")]
    RegistryFull,
    #[error("the headnode cannot write its registry and stops")]
    RegistryFailed,
    #[error("the headnode cannot read its registry")]
    CannotReadRegistry,
}

/// Shows items with a comma between them.
struct Joined<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Joined<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{item}")?;
        }
        Ok(())
    }
}

/// Shows the datanodes that were not asked. An empty list means that too few datanodes have answered yet.
struct Unasked<'a>(&'a [NodeName]);

impl fmt::Display for Unasked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("one of the datanodes") } else { Joined(self.0).fmt(f) }
    }
}

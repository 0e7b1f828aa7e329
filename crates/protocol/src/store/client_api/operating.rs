//! What operators ask for: to drain or forget a datanode, and to check the copies of all messages.

use serde::{Deserialize, Serialize};

use crate::store::types::{Id, NodeName, Place};

/// The highest number of messages in one reply to `fsck`.
pub const FSCK_PAGE: usize = 100;
/// The highest number of places of a message in a reply to `fsck`.
pub const MAX_CHECKED_PLACES: usize = 24;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainBody {
    pub datanode: NodeName,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undo: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetBody {
    pub datanode: NodeName,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_loss: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FsckBody {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deep: bool,
    #[serde(default)]
    pub from: u64,
}

/// How it is with the copies of a message. Of several words that fit, the last one is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FsckVerdict {
    /// It has as many copies as were wanted.
    Healthy,
    /// It has more copies than were wanted, which does no harm.
    Extra,
    /// A datanode that should hold a copy was not asked yet since the headnode started.
    NotReconciled,
    /// It has fewer copies than were wanted.
    UnderReplicated,
    /// A copy is damaged or gone, and another one is not.
    Damaged,
    /// No copy is left, except on datanodes that are declared lost.
    Lost,
}

impl FsckVerdict {
    /// Returns whether the message needs an operator, or repair that has not come to it yet.
    #[must_use]
    pub fn is_problem(self) -> bool {
        self > Self::Extra
    }
}

/// A message whose copies were checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedMessage {
    /// The identifier of the message.
    pub id: Id,
    /// How it is with its copies.
    pub verdict: FsckVerdict,
    /// The places that are registered, at most [`MAX_CHECKED_PLACES`] of them.
    pub places: Vec<Place>,
    /// Those of them that are damaged or gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<Place>,
}

/// A page of messages whose copies were checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsckPage {
    /// How many messages of this page are healthy.
    pub healthy: u64,
    /// All others.
    pub others: Vec<CheckedMessage>,
    /// How many messages the registry has. If fewer are checked, the lines of the others are damaged.
    pub messages: u64,
    /// The mark from which to go on. It is absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::client_api::HeadnodeReply;
    use crate::store::json::{self, MAX_FRAME_BYTES};

    #[test]
    fn a_page_fits_a_frame() {
        let place = Place { datanode: "x".repeat(63).parse().unwrap(), seq: u64::MAX };
        let message = CheckedMessage {
            id: Id::max(),
            verdict: FsckVerdict::UnderReplicated,
            places: vec![place.clone(); MAX_CHECKED_PLACES],
            damaged: vec![place; MAX_CHECKED_PLACES / 2],
        };
        let page = FsckPage {
            healthy: u64::MAX,
            others: vec![message; FSCK_PAGE],
            messages: u64::MAX,
            next: Some(u64::MAX),
        };
        let mut line = Vec::new();
        json::encode(&HeadnodeReply::Fsck(page), &mut line);
        assert!(line.len() <= MAX_FRAME_BYTES, "{}", line.len());
    }

    #[test]
    fn only_what_needs_somebody_is_a_problem() {
        use FsckVerdict::{Damaged, Extra, Healthy, Lost, NotReconciled, UnderReplicated};
        assert!(![Healthy, Extra].iter().any(|verdict| verdict.is_problem()));
        assert!([NotReconciled, UnderReplicated, Damaged, Lost].iter().all(|verdict| verdict.is_problem()));
    }
}

//! What operators ask for: they drain datanodes, declare them lost, and wait until the store says that all is well.

use std::collections::BTreeSet;

use protocol::store::client_api::{ClientRequest, FsckVerdict, HeadnodeReply};
use protocol::store::types::{Id, NodeName};
use rand::RngExt as _;
use tokio::time::{Instant, sleep};

use crate::client::{PAUSE, RECOVERS_WITHIN, SimulatedClient};
use crate::layout::{DATANODES, HEADNODE};

/// Time in which each datanode checks all its records twice.
const CHECKED_TWICE: std::time::Duration = std::time::Duration::from_secs(3);

impl SimulatedClient {
    /// Does what an operator may do at any time. Whatever the answer is, the audit checks what comes of it.
    pub async fn operate(&mut self) {
        if let Some(name) = self.plan.drained.filter(|_| self.number == 0) {
            self.ask_to_drain(name).await;
        }
        if self.plan.forgets {
            let name = DATANODES[self.rng.random_range(0..DATANODES.len())];
            let _ = self.ask(ClientRequest::Forget { datanode: node(name), accept_loss: true }).await;
        }
    }

    /// Asks for a drain, and returns whether it is done.
    async fn ask_to_drain(&self, name: &str) -> bool {
        let reply = self.ask(ClientRequest::Drain { datanode: node(name), undo: false }).await;
        matches!(reply, Ok(HeadnodeReply::Drained { .. }))
    }

    /// Waits, when the trouble has passed, until the messages of the drained datanode are elsewhere.
    pub async fn drain(&self) {
        let Some(name) = self.plan.drained.filter(|_| self.plan.recovers()) else { return };
        let started = Instant::now();
        while !self.ask_to_drain(name).await {
            if started.elapsed() > RECOVERS_WITHIN {
                // A headnode whose registry is damaged tells nobody that it has seen all messages.
                assert!(self.plan.is_bad(HEADNODE), "{name} is not drained within {RECOVERS_WITHIN:?}");
                return;
            }
            sleep(PAUSE).await;
        }
        let mut history = self.history.borrow_mut();
        history.drained = Some(node(name));
        history.mark("operator: the messages of a drained datanode were elsewhere");
    }

    /// Waits until the store says that each message has enough copies or is lost.
    pub async fn settle(&self) {
        sleep(CHECKED_TWICE).await;
        let started = Instant::now();
        loop {
            let (problems, lost) = self.fsck().await;
            if problems == Some(0) {
                let mut history = self.history.borrow_mut();
                if self.plan.loses_nothing() {
                    let saved = |id: &&Id| history.messages[id].is_saved;
                    assert_eq!(lost.iter().find(saved), None, "it is called lost, and must not be");
                }
                history.mark("repair: all messages had enough copies, or were called lost");
                history.called_lost = Some(lost);
                return;
            }
            assert!(
                started.elapsed() < RECOVERS_WITHIN,
                "messages with problems after {RECOVERS_WITHIN:?}: {problems:?}"
            );
            sleep(PAUSE).await;
        }
    }

    /// Returns how many messages have problems besides those that are lost, if the headnode tells that, and the lost ones.
    async fn fsck(&self) -> (Option<u64>, BTreeSet<Id>) {
        let (mut problems, mut lost, mut next) = (0, BTreeSet::new(), Some(0));
        while let Some(from) = next {
            let Ok(HeadnodeReply::Fsck(page)) = self.ask(ClientRequest::Fsck { deep: false, from }).await
            else {
                return (None, lost);
            };
            for message in page.others {
                if message.verdict == FsckVerdict::Lost {
                    lost.insert(message.id);
                } else {
                    problems += u64::from(message.verdict.is_problem());
                }
            }
            next = page.next;
        }
        (Some(problems), lost)
    }
}

fn node(name: &str) -> NodeName {
    name.parse().expect("the name of a datanode")
}

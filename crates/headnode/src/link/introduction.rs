//! The beginning of a connection: the hello, the exchange of all datanodes' names, and the comparison of what the
//! datanode holds with what is registered of it. The connection is used for messages only after that.

use journal::plants::{Plant, is_planted};
use protocol::line::{AtEof, LineCodec};
use protocol::store::json::{self, MAX_FRAME_BYTES, VERSION};
use protocol::store::node_api::{HeldRecord, NodeFailure, NodeReply, NodeRequest, PEERS_PAGE};
use protocol::store::types::{Incarnation, NodeName};
use roaring::RoaringTreemap;
use service::frames::FrameReader;
use service::net::Network;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::context::{LinkBroken, LinkContext, LinkEvent, decode, unexpected};
use crate::registry::{Holding, Reconciled, RecordComparison};

/// The highest number of lost records whose identifiers are logged.
const NAMED_LOSSES: usize = 20;

/// Reads the replies of a datanode, one per line.
pub type ReplyReader<S> = FrameReader<ReadHalf<S>, LineCodec>;

/// A connection that is not used for messages yet. Each request is answered before the next one is sent.
pub struct Introduction<'a, N: Network> {
    name: &'a NodeName,
    incarnation: Incarnation,
    context: &'a LinkContext<N>,
    replies: ReplyReader<N::Stream>,
    writer: WriteHalf<N::Stream>,
}

/// What came of an introduction.
pub struct Introduced {
    /// How many of the known names were sent to the datanode.
    pub sent_names: usize,
    /// How many of its records were added to the registry.
    pub reconciled: u64,
    /// How many records are registered of it that it does not hold.
    pub lost: u64,
}

impl<'a, N: Network> Introduction<'a, N> {
    /// Returns a connection to this run of a datanode on which nothing was sent yet.
    pub fn new(
        name: &'a NodeName,
        incarnation: Incarnation,
        context: &'a LinkContext<N>,
        stream: N::Stream,
    ) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let codec = LineCodec::new(MAX_FRAME_BYTES, AtEof::Reject);
        Self { name, incarnation, context, replies: FrameReader::new(reader, codec), writer }
    }

    /// Runs the whole introduction, and returns what came of it.
    ///
    /// # Errors
    /// Fails with a [`LinkBroken`] if the connection breaks or has to be given up.
    pub async fn run(&mut self) -> Result<Introduced, LinkBroken> {
        self.context.registry.remember(std::slice::from_ref(self.name))?;
        self.greet().await?;
        let sent_names = self.exchange_peers().await?;
        let reconciled = if is_planted(Plant::LinkNotReconciled) { 0 } else { self.reconcile().await? };
        let lost = self.context.registry.holdings(|holdings| holdings.lost(self.name));
        Ok(Introduced { sent_names, reconciled, lost })
    }

    /// Returns the two directions of the connection, which is then ready for messages.
    pub fn into_parts(self) -> (ReplyReader<N::Stream>, WriteHalf<N::Stream>) {
        (self.replies, self.writer)
    }

    async fn greet(&mut self) -> Result<(), LinkBroken> {
        let hello = NodeRequest::Hello {
            v: VERSION,
            headnode: self.context.headnode,
            datanode: self.name.clone(),
            incarnation: self.incarnation,
            highest: self.context.registry.holdings(|holdings| holdings.highest(self.name)),
            epoch: Some(self.context.lead.epoch),
        };
        match self.ask(&hello).await? {
            NodeReply::Welcome { draining, .. } => {
                self.context.lead.note_welcome();
                self.context.drained.note(self.name, draining).await;
                Ok(())
            }
            NodeReply::Superseded { epoch } => {
                self.context.lead.hears(epoch);
                Err(LinkBroken::Superseded(epoch))
            }
            other => Err(unexpected(other)),
        }
    }

    /// Sends the datanode the names that the headnode knows, and receives those that the datanode remembers. So the
    /// names survive the loss of the registry.
    async fn exchange_peers(&mut self) -> Result<usize, LinkBroken> {
        let known = self.context.names.borrow().clone();
        let mut pages = known.chunks(PEERS_PAGE);
        let mut after: Option<NodeName> = None;
        let mut all_learnt = false;
        loop {
            let names = pages.next().unwrap_or_default();
            if names.is_empty() && all_learnt {
                break;
            }
            match self.ask(&NodeRequest::Peers { names: names.to_vec(), after: after.clone() }).await? {
                NodeReply::Peers { names, more } => {
                    let goes_on = names.last().is_some_and(|last| Some(last) > after.as_ref());
                    if more && !goes_on {
                        return Err(LinkBroken::Protocol(
                            "a page of names does not continue the previous one".to_owned(),
                        ));
                    }
                    learn(self.context, &names).await?;
                    after = names.into_iter().next_back().or(after);
                    all_learnt = !more;
                }
                NodeReply::Failed { code: NodeFailure::DiskFull, reason } => {
                    tracing::warn!(datanode = %self.name, reason, "the datanode cannot remember the names of the other datanodes");
                    break;
                }
                other => return Err(unexpected(other)),
            }
        }
        Ok(known.len())
    }

    /// Compares what the datanode holds with what is registered of it. Records that are held and not registered are
    /// added: their confirmations may have been lost, here or with an earlier headnode. Records that are registered and
    /// not held are reported: the datanode's disk may have lost them. Returns how many records were added.
    async fn reconcile(&mut self) -> Result<u64, LinkBroken> {
        let registry = &self.context.registry;
        let registry_bytes = registry.bytes()?;
        let lost = self.registered_in_gaps().await?;
        let mut comparison = RecordComparison::ByNumber;
        let mut held = RoaringTreemap::new();
        let registered = registry.holdings(|holdings| holdings.registered_without(self.name, &held));
        let mut from = registry.holdings(|holdings| holdings.first_wanted(self.name));
        let (mut added, mut last) = (0, 0);
        loop {
            let NodeReply::Holdings { records, more } = self.ask(&NodeRequest::Inventory { from }).await?
            else {
                return Err(LinkBroken::Protocol("another reply than that to inventory".to_owned()));
            };
            let page: Vec<_> = records.into_iter().map(holding).collect();
            match registry.reconcile(self.name, from, &page, comparison, &mut held)? {
                Reconciled::Added(count) => added += count,
                Reconciled::Different => {
                    tracing::error!(
                        datanode = %self.name,
                        "it does not hold what is registered of it: if its data.txt was lost, restore it from a copy"
                    );
                    (comparison, from) = (RecordComparison::ById, 1);
                    continue;
                }
            }
            last = page.last().map_or(last, |holding| holding.seq);
            if !more {
                break;
            }
            from = last + 1;
            // A long list must not block other tasks.
            tokio::task::yield_now().await;
        }
        if added > 0 {
            tracing::warn!(datanode = %self.name, added, "registered places that were missing in the registry");
        }
        let replaced = (comparison == RecordComparison::ById).then(|| &(registered - held) - &lost);
        if let Some(lost) = registry.reconciled(self.name, last, lost, replaced) {
            let ids = registry.ids_at(self.name, &lost, registry_bytes, NAMED_LOSSES).await?;
            let ids = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            tracing::error!(
                datanode = %self.name,
                lost = lost.len(),
                ids,
                "registered, but not held: the datanode has lost acknowledged records; restore its data.txt from a copy"
            );
        }
        Ok(added as u64)
    }

    /// Returns the registered numbers of this datanode that, as it reports, no readable record has.
    async fn registered_in_gaps(&mut self) -> Result<RoaringTreemap, LinkBroken> {
        let mut lost = RoaringTreemap::new();
        let mut from = 1;
        loop {
            let NodeReply::Gaps { ranges, more } = self.ask(&NodeRequest::Gaps { from }).await? else {
                return Err(LinkBroken::Protocol("another reply than that to gaps".to_owned()));
            };
            lost |= self.context.registry.holdings(|holdings| holdings.registered_in(self.name, &ranges));
            match ranges.last() {
                Some((_, last)) if more && *last >= from && *last < u64::MAX => from = last + 1,
                _ if more => {
                    return Err(LinkBroken::Protocol(
                        "a page of gaps does not continue the previous one".to_owned(),
                    ));
                }
                _ => return Ok(lost),
            }
        }
    }

    /// Sends a request and waits for its reply.
    async fn ask(&mut self, request: &NodeRequest) -> Result<NodeReply, LinkBroken> {
        let limit = self.context.store_timeout;
        timeout(limit, self.exchange(request)).await.map_err(|_| LinkBroken::Timeout(limit))?
    }

    async fn exchange(&mut self, request: &NodeRequest) -> Result<NodeReply, LinkBroken> {
        let mut line = Vec::new();
        json::encode(request, &mut line);
        self.writer.write_all(&line).await?;
        match decode(self.replies.next().await?.ok_or(LinkBroken::Closed)?)? {
            reply @ NodeReply::Failed { code: NodeFailure::DiskFull, .. } => Ok(reply),
            reply @ NodeReply::Failed { .. } => Err(unexpected(reply)),
            reply => Ok(reply),
        }
    }
}

/// Adds names that a datanode remembers. They are added to the registry first: until these datanodes are asked, the
/// headnode must not say that a message does not exist.
///
/// # Errors
/// Fails with [`LinkBroken::Registry`] if the names cannot be kept on disk.
async fn learn<N>(context: &LinkContext<N>, names: &[NodeName]) -> Result<(), LinkBroken> {
    context.registry.remember(names)?;
    context.report(LinkEvent::NamesLearnt(names.to_vec())).await;
    Ok(())
}

fn holding(HeldRecord(seq, id, time, client, message_crc32c, beginning): HeldRecord) -> Holding {
    Holding { seq, id, time, client, message_crc32c, beginning }
}

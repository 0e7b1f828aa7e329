//! The beginning of a connection: hello, the names of all datanodes, and the comparison of what the datanode holds with
//! what is registered of it. Only then is the connection used.

use protocol::line::{AtEof, LineCodec};
use protocol::store::json::{self, MAX_FRAME_BYTES, VERSION};
use protocol::store::node_api::{HeldRecord, NodeFailure, NodeReply, NodeRequest, PEERS_PAGE};
use protocol::store::types::{Incarnation, NodeName};
use roaring::RoaringTreemap;
use service::frames::FrameReader;
use service::net::Network;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::context::{Broken, LinkContext, LinkEvent, decode, unexpected};
use crate::registry::{Comparison, Holding, Reconciled};

/// Identifiers of lost records that are named in the log, at most.
const NAMED_LOSSES: usize = 20;

/// Replies of a datanode, one a line.
pub type ReplyReader<S> = FrameReader<ReadHalf<S>, LineCodec>;

/// A connection that is not used yet: one request is answered after the other.
pub struct Introduction<'a, N: Network> {
    name: &'a NodeName,
    incarnation: Incarnation,
    context: &'a LinkContext<N>,
    replies: ReplyReader<N::Stream>,
    writer: WriteHalf<N::Stream>,
}

impl<'a, N: Network> Introduction<'a, N> {
    /// Returns a connection to this run of a datanode on which nothing was said yet.
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

    /// Says everything that comes first, and returns how many of the known names the datanode was told.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn run(&mut self) -> Result<usize, Broken> {
        self.greet().await?;
        let told_names = self.exchange_peers().await?;
        self.reconcile().await?;
        Ok(told_names)
    }

    /// Returns the two sides of the connection, which is ready to be used.
    pub fn into_parts(self) -> (ReplyReader<N::Stream>, WriteHalf<N::Stream>) {
        (self.replies, self.writer)
    }

    async fn greet(&mut self) -> Result<(), Broken> {
        let hello = NodeRequest::Hello {
            v: VERSION,
            headnode: self.context.headnode,
            datanode: self.name.clone(),
            incarnation: self.incarnation,
            highest: self.context.registry.holdings(|holdings| holdings.highest(self.name)),
        };
        match self.ask(&hello).await? {
            NodeReply::Welcome { .. } => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Tells the datanode whom the headnode has ever known, and learns whom the datanode was told of: that outlives the
    /// loss of the registry.
    async fn exchange_peers(&mut self) -> Result<usize, Broken> {
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
                        return Err(Broken::Protocol("a page of names does not go on".to_owned()));
                    }
                    learn(self.context, &names).await;
                    after = names.into_iter().next_back().or(after);
                    all_learnt = !more;
                }
                NodeReply::Failed { code: NodeFailure::DiskFull, reason } => {
                    tracing::warn!(datanode = %self.name, reason, "it was not told of the other datanodes");
                    break;
                }
                other => return Err(unexpected(other)),
            }
        }
        Ok(known.len())
    }

    /// Asks what the datanode holds that is not registered, as confirmations may have been lost, here or with an earlier
    /// headnode; and what is registered that it does not hold, as its disk may have lost it.
    async fn reconcile(&mut self) -> Result<(), Broken> {
        let registry = &self.context.registry;
        let registry_bytes = registry.bytes()?;
        let lost = self.registered_in_gaps().await?;
        let mut comparison = Comparison::ByNumber;
        let mut held = RoaringTreemap::new();
        let registered = registry.holdings(|holdings| holdings.registered_without(self.name, &held));
        let mut from = registry.holdings(|holdings| holdings.first_wanted(self.name));
        let (mut added, mut last) = (0, 0);
        loop {
            let NodeReply::Holdings { records, more } = self.ask(&NodeRequest::Inventory { from }).await?
            else {
                return Err(Broken::Protocol("holdings were expected".to_owned()));
            };
            let page: Vec<_> = records.into_iter().map(holding).collect();
            match registry.reconcile(self.name, from, &page, comparison, &mut held)? {
                Reconciled::Added(count) => added += count,
                Reconciled::Different => {
                    tracing::error!(
                        datanode = %self.name,
                        "it does not hold what is registered of it: if its data.txt was lost, restore it from a copy"
                    );
                    (comparison, from) = (Comparison::ById, 1);
                    continue;
                }
            }
            last = page.last().map_or(last, |holding| holding.seq);
            if !more {
                break;
            }
            from = last + 1;
            // A long list must not keep everyone else waiting.
            tokio::task::yield_now().await;
        }
        if added > 0 {
            tracing::warn!(datanode = %self.name, added, "places registered that had been missing in the registry");
        }
        let replaced = (comparison == Comparison::ById).then(|| &(registered - held) - &lost);
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
        Ok(())
    }

    /// The registered numbers of this datanode that it knows to belong to no readable record.
    async fn registered_in_gaps(&mut self) -> Result<RoaringTreemap, Broken> {
        let mut lost = RoaringTreemap::new();
        let mut from = 1;
        loop {
            let NodeReply::Gaps { ranges, more } = self.ask(&NodeRequest::Gaps { from }).await? else {
                return Err(Broken::Protocol("gaps were expected".to_owned()));
            };
            lost |= self.context.registry.holdings(|holdings| holdings.registered_in(self.name, &ranges));
            match ranges.last() {
                Some((_, last)) if more && *last >= from && *last < u64::MAX => from = last + 1,
                _ if more => return Err(Broken::Protocol("a page of gaps does not go on".to_owned())),
                _ => return Ok(lost),
            }
        }
    }

    /// Sends a request and waits for its reply.
    async fn ask(&mut self, request: &NodeRequest) -> Result<NodeReply, Broken> {
        let limit = self.context.store_timeout;
        timeout(limit, self.exchange(request)).await.map_err(|_| Broken::Timeout(limit))?
    }

    async fn exchange(&mut self, request: &NodeRequest) -> Result<NodeReply, Broken> {
        let mut line = Vec::new();
        json::encode(request, &mut line);
        self.writer.write_all(&line).await?;
        match decode(self.replies.next().await?.ok_or(Broken::Closed)?)? {
            reply @ NodeReply::Failed { code: NodeFailure::DiskFull, .. } => Ok(reply),
            reply @ NodeReply::Failed { .. } => Err(unexpected(reply)),
            reply => Ok(reply),
        }
    }
}

/// Takes in names that a datanode was told of. The registry learns of them first: until they were asked, nobody may say
/// that a message does not exist.
async fn learn<N>(context: &LinkContext<N>, names: &[NodeName]) {
    names.iter().for_each(|name| context.registry.expect(name));
    context.tell(LinkEvent::Named(names.to_vec())).await;
}

fn holding(HeldRecord(seq, id, time, client, message_crc32c, beginning): HeldRecord) -> Holding {
    Holding { seq, id, time, client, message_crc32c, beginning }
}

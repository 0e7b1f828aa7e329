//! What clients and workers ask of a master.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{Finished, Lead, NodesCommand, Reply, Request};
use dataframe_jobs::packet;
use dataframe_jobs::scheduler::SchedulerEvent;
use middleware::{Endpoint, Incoming, PeerRole, ReplySink, TransportError};
use tokio::sync::{mpsc, watch};

use super::command::{Command, JobOrder, JobStatus, Standing};
use super::context::MasterContext;
use super::desk::{Desk, WantedJob, refused};
use super::fetch::{self, Wanted};
use crate::ask::{AskError, ask};
use crate::worker::HEADER_BYTES;

/// A client hears of its job at least this often.
const WORD: Duration = Duration::from_secs(1);

/// Time for a worker that is added by its address to say who it is.
const IDENTITY: Duration = Duration::from_secs(5);

/// Clients that watch the workers at a time, a standby master among them.
pub(super) const MAX_WATCHERS: usize = 64;

/// Who watches a master hears of it at least this often.
const SIGN_OF_LIFE: Duration = Duration::from_millis(200);

/// Empty tasks in one probe.
const MAX_PROBE: u32 = 100_000;

/// Answers one request.
pub(super) async fn answer(
    context: Arc<MasterContext>,
    commands: mpsc::UnboundedSender<Command>,
    incoming: Incoming,
) {
    let Incoming { request, peer, mut reply } = incoming;
    let desk = Desk::new(context, commands);
    let request = packet::decode::<Request>(&request);
    let answered = match request {
        Ok((request, _)) if peer != PeerRole::Node && is_for_nodes(&request) => {
            let failure = refused(
                "only the nodes of the cluster may ask this, and the certificate that was shown is a client's",
            );
            send(reply.as_mut(), &Reply::Failed(failure), &[]).await
        }
        Ok((Request::Submit { job, operations, wait_ms, explain }, _)) => {
            let wait = Duration::from_millis(wait_ms);
            desk.job(JobOrder::Compute { job, operations, wait, explain }, reply.as_mut()).await
        }
        Ok((Request::Probe { job, tasks }, _)) => {
            desk.job(JobOrder::Probe { job, tasks: tasks.min(MAX_PROBE) }, reply.as_mut()).await
        }
        Ok((Request::Watch, _)) => desk.watch(reply.as_mut()).await,
        Ok((Request::Fetch { task, shuffle, partition, from }, _)) => {
            let wanted = Wanted { task, shuffle, partition, from };
            fetch::give(&desk.context, &wanted, reply.as_mut()).await
        }
        Ok((Request::Module { module, bytes, from }, piece)) => {
            let answer = desk.module(module, bytes, from, piece).await.unwrap_or_else(Reply::Failed);
            send(reply.as_mut(), &answer, &[]).await
        }
        Ok((Request::FetchModule { module }, _)) => desk.give_module(&module, reply.as_mut()).await,
        Ok((request, _)) => {
            let answer = desk.short(request).await.unwrap_or_else(Reply::Failed);
            send(reply.as_mut(), &answer, &[]).await
        }
        Err(error) => {
            let failure = refused(&error.to_string());
            send(reply.as_mut(), &Reply::Failed(failure), &[]).await
        }
    };
    let ended = match answered {
        Ok(()) => reply.finish().await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "nobody took an answer");
    }
}

/// Whether only workers and the other master of a pair ask this. Clients submit jobs, and look after the workers.
fn is_for_nodes(request: &Request) -> bool {
    match request {
        Request::Join(_)
        | Request::Heartbeat { .. }
        | Request::Leave { .. }
        | Request::Fetch { .. }
        | Request::FetchModule { .. }
        | Request::Supersede(_) => true,
        Request::Submit { .. }
        | Request::Probe { .. }
        | Request::Watch
        | Request::Module { .. }
        | Request::Cancel { .. }
        | Request::Nodes(_) => false,
        // A worker is asked these, and every master refuses them.
        Request::Run(_) | Request::Inspect { .. } | Request::Stop(_) | Request::Identify => false,
    }
}

/// Takes in the workers that the directory of the middleware names, so that a new master does not wait for their next
/// sign of life.
pub(super) async fn greet(context: Arc<MasterContext>, commands: mpsc::UnboundedSender<Command>) {
    let descriptions = match context.transport.announced().await {
        Ok(descriptions) => descriptions,
        Err(error) => return tracing::debug!(%error, "the directory of workers cannot be read"),
    };
    let desk = Desk::new(context, commands);
    for description in descriptions {
        match serde_json::from_slice(&description) {
            Ok(worker) => {
                let joined = desk.member(SchedulerEvent::WorkerJoined { worker, invited: false }).await;
                tracing::debug!(?joined, "a worker from the directory");
            }
            Err(error) => tracing::warn!(%error, "the directory of workers has an entry that is no worker"),
        }
    }
}

impl Desk {
    async fn short(&self, request: Request) -> Result<Reply, Failure> {
        match request {
            Request::Join(worker) => {
                self.member(SchedulerEvent::WorkerJoined { worker, invited: false }).await
            }
            Request::Heartbeat { worker, running, resident_bytes } => {
                if let Some(bytes) = resident_bytes {
                    // The coordinator is gone only when the master ends.
                    let _ = self.commands.send(Command::Memory { worker: worker.name.clone(), bytes });
                }
                self.member(SchedulerEvent::WorkerHeartbeat { worker, running }).await
            }
            Request::Leave { worker, incarnation } => {
                self.member(SchedulerEvent::WorkerLeft { worker, incarnation }).await
            }
            Request::Cancel { job } => {
                let _ = self.commands.send(Command::Cancel(job));
                Ok(Reply::Accepted)
            }
            Request::Nodes(command) => {
                self.change(command).await?;
                Ok(Reply::Nodes { workers: self.ask(Command::Nodes).await? })
            }
            Request::Supersede(lead) => self.supersede(lead),
            _ => Err(refused(
                "a master answers join, heartbeat, leave, fetch, fetch_module, submit, module, cancel, probe, nodes, watch and supersede: this request is for a worker",
            )),
        }
    }

    /// Steps down if the lead is newer than that of this master. Tells which lead holds then.
    fn supersede(&self, lead: Lead) -> Result<Reply, Failure> {
        let own = &self.context.lead;
        if lead == *own {
            return Ok(Reply::Leads(lead));
        }
        if !self.context.is_one_of_pair {
            return Err(refused("this master is not one of a pair: start it with --standby"));
        }
        if lead < *own {
            return Ok(Reply::Leads(own.clone()));
        }
        self.context.supersede.send_replace(Some(lead.clone()));
        Ok(Reply::Leads(lead))
    }

    /// Tells of each change of the workers, and meanwhile that the master is there.
    async fn watch(&self, reply: &mut dyn ReplySink) -> Result<(), TransportError> {
        let Ok(_place) = self.context.watchers.try_acquire() else {
            let failure =
                refused(&format!("{MAX_WATCHERS} clients watch this master already: ask again later"));
            return send(reply, &Reply::Failed(failure), &[]).await;
        };
        let mut members = match self.ask(Command::Watch).await {
            Ok(members) => members,
            Err(failure) => return send(reply, &Reply::Failed(failure), &[]).await,
        };
        loop {
            let workers = members.borrow_and_update().clone();
            send(reply, &Reply::Nodes { workers }, &[]).await?;
            loop {
                send(reply, &Reply::Leads(self.context.lead.clone()), &[]).await?;
                match tokio::time::timeout(SIGN_OF_LIFE, members.changed()).await {
                    Ok(Ok(())) => break,
                    // The master ends.
                    Ok(Err(_)) => return Ok(()),
                    Err(_) => {}
                }
            }
        }
    }

    /// Takes a piece of a module. A whole one is compiled, which is no work for the thread of the messages.
    async fn module(&self, module: String, bytes: u64, from: u64, piece: Bytes) -> Result<Reply, Failure> {
        let context = Arc::clone(&self.context);
        let taken = self.context.threads.spawn(async move {
            context.uploads.take(context.engine.modules(), &module, bytes, from, &piece)
        });
        let held = taken.await.map_err(|error| refused(&error.to_string()))??;
        Ok(Reply::Module { held })
    }

    /// Sends a module to a worker, in pieces.
    async fn give_module(&self, hash: &str, reply: &mut dyn ReplySink) -> Result<(), TransportError> {
        let Some(module) = self.context.engine.modules().get(hash) else {
            let failure = refused(&format!("the master does not keep the module {hash} any more"));
            return send(reply, &Reply::Failed(failure), &[]).await;
        };
        let max_bytes = self.context.transport.capabilities().max_bytes - HEADER_BYTES;
        let mut pieces = 0;
        for piece in module.bytes().chunks(max_bytes) {
            send(reply, &Reply::Result { piece: pieces, worker: String::new(), stream: None }, piece).await?;
            pieces += 1;
        }
        let finished = Finished { rows: 0, pieces, micros: 0, worker: String::new(), places: Vec::new() };
        send(reply, &Reply::Finished(finished), &[]).await
    }

    async fn member(&self, event: SchedulerEvent) -> Result<Reply, Failure> {
        match self.ask(|answer| Command::Worker(event, answer)).await?? {
            Standing::Member => Ok(Reply::Accepted),
            Standing::Draining => Ok(Reply::Draining),
        }
    }

    async fn change(&self, command: NodesCommand) -> Result<(), Failure> {
        let event = match command {
            NodesCommand::List => return Ok(()),
            NodesCommand::Remove { worker } => SchedulerEvent::Remove { worker },
            NodesCommand::Drain { worker } => SchedulerEvent::Drain { worker },
            NodesCommand::Add { address } => {
                let mut worker = self.identity(&address).await?;
                if self.context.transport.capabilities().calls_workers_directly {
                    // The address by which it was reached is good for the master, whatever the worker thinks.
                    worker.address = Some(address);
                }
                SchedulerEvent::WorkerJoined { worker, invited: true }
            }
        };
        self.ask(|answer| Command::Worker(event, answer)).await??;
        Ok(())
    }

    async fn identity(&self, address: &str) -> Result<dataframe_jobs::message::WorkerInfo, Failure> {
        let endpoint = Endpoint::Worker(address.to_owned());
        match ask(&self.context.transport, &endpoint, &Request::Identify, IDENTITY).await {
            Ok((Reply::Identity(worker), _)) => Ok(worker),
            Ok((other, _)) => Err(refused(&format!("{address} is no worker: it answered {other:?}"))),
            Err(AskError::Failed(failure)) if failure.code == FailureCode::Refused => {
                Err(refused(&format!("{address} is no worker: {failure}")))
            }
            Err(error) => Err(refused(&format!("no worker answers at {address}: {error}"))),
        }
    }

    /// Tells a client how its job goes on, and gives it the result.
    async fn job(&self, order: JobOrder, reply: &mut dyn ReplySink) -> Result<(), TransportError> {
        let job = order.job().to_owned();
        let is_probe = matches!(order, JobOrder::Probe { .. });
        let (mut status, _place) = match self.begin(order).await {
            Ok(WantedJob::Stored(finished)) => return self.give(&job, false, finished, reply).await,
            Ok(WantedJob::Begun { status, place }) => (status, place),
            Err(failure) => return send(reply, &Reply::Failed(failure), &[]).await,
        };
        loop {
            let now = status.borrow_and_update().clone();
            match now {
                JobStatus::Running(progress) => send(reply, &Reply::Progress(progress), &[]).await?,
                JobStatus::Done(finished) => return self.give(&job, is_probe, finished, reply).await,
                JobStatus::Failed(failure) => return send(reply, &Reply::Failed(failure), &[]).await,
            }
            wait_for_news(&mut status).await;
        }
    }

    async fn give(
        &self,
        job: &str,
        is_probe: bool,
        mut finished: Finished,
        reply: &mut dyn ReplySink,
    ) -> Result<(), TransportError> {
        let max_bytes = self.context.transport.capabilities().max_bytes - HEADER_BYTES;
        if !is_probe {
            let Some((_, mut rows)) = self.context.results.find(job) else {
                let failure =
                    refused("the result was removed to make room for newer ones: send the job again");
                return send(reply, &Reply::Failed(failure), &[]).await;
            };
            loop {
                let piece = match rows.next_piece(max_bytes) {
                    Ok(Some(piece)) => piece,
                    Ok(None) => break,
                    Err(error) => {
                        let message = format!("the master cannot read the result that it stored: {error}");
                        let failure = Failure { code: FailureCode::Resources, message, worker: None };
                        return send(reply, &Reply::Failed(failure), &[]).await;
                    }
                };
                send(
                    reply,
                    &Reply::Result { piece: finished.pieces, worker: String::new(), stream: None },
                    &piece,
                )
                .await?;
                finished.pieces += 1;
            }
        }
        // The places of many tasks are too long for one message, and are only for people.
        let places = serde_json::to_vec(&finished.places).map_or(usize::MAX, |places| places.len());
        if places > max_bytes.min(packet::MAX_HEADER_BYTES) - HEADER_BYTES {
            finished.places.clear();
        }
        send(reply, &Reply::Finished(finished), &[]).await
    }
}

async fn wait_for_news(status: &mut watch::Receiver<JobStatus>) {
    // Without news the client still hears that the master is there.
    let _ = tokio::time::timeout(WORD, status.changed()).await;
}

async fn send(reply: &mut dyn ReplySink, header: &Reply, body: &[u8]) -> Result<(), TransportError> {
    reply.send(packet::encode(header, body)).await
}

//! Gives a worker what earlier tasks have made for the task that it runs.

use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{Finished, Reply, TaskId};
use dataframe_jobs::packet;
use middleware::{ReplySink, TransportError};

use super::context::MasterContext;

/// Partitions that are fetched at a time. Others are asked for again.
pub(super) const MAX_FETCHES: usize = 128;

/// What a worker wants.
pub(super) struct Wanted {
    pub(super) task: TaskId,
    pub(super) shuffle: u32,
    pub(super) partition: u32,
    /// How many pieces it has already.
    pub(super) from: u32,
}

/// Sends the pieces of one partition of a shuffle.
pub(super) async fn give(
    context: &MasterContext,
    wanted: &Wanted,
    reply: &mut dyn ReplySink,
) -> Result<(), TransportError> {
    let send = async |reply: &mut dyn ReplySink, header: &Reply, body: &[u8]| {
        reply.send(packet::encode(header, body)).await
    };
    let failed = |code, message: String| Reply::Failed(Failure { code, message, worker: None });
    let Ok(_place) = context.fetches.try_acquire() else {
        let message = format!("{MAX_FETCHES} partitions are being fetched from this master: ask again later");
        return send(reply, &failed(FailureCode::Resources, message), &[]).await;
    };
    let results = context.shuffles.find(&wanted.task, wanted.shuffle);
    let pieces = results.and_then(|results| Some((results.pieces(wanted.partition)?, results)));
    let Some((pieces, results)) = pieces else {
        let message = format!(
            "the master does not have partition {} of shuffle {} for the task {:?}: its job has ended or begun again",
            wanted.partition, wanted.shuffle, wanted.task
        );
        return send(reply, &failed(FailureCode::Refused, message), &[]).await;
    };
    for (number, place) in (0_u32..).zip(&pieces).skip(wanted.from as usize) {
        let body = match results.read(*place) {
            Ok(body) => body,
            Err(error) => {
                let message = format!("the master cannot read the result of a task that it kept: {error}");
                return send(reply, &failed(FailureCode::Resources, message), &[]).await;
            }
        };
        let stream = u32::try_from(place.0).ok();
        let header = Reply::Result { piece: number, worker: String::new(), stream };
        send(reply, &header, &body).await?;
    }
    let pieces = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
    let finished = Finished { rows: 0, pieces, micros: 0, worker: String::new(), places: Vec::new() };
    send(reply, &Reply::Finished(finished), &[]).await
}

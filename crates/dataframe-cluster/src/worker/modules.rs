//! The WebAssembly modules that a task calls, fetched from the master.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use dataframe_engine::{FrameError, MAX_MODULE_BYTES};
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{Reply, Request};
use dataframe_jobs::packet;
use futures_util::StreamExt;

use super::context::WorkerContext;

/// Time for each piece of a module.
const PIECE: Duration = Duration::from_secs(5);

/// Fetches the modules that are not here. Tasks that begin at the same time may fetch one twice, which changes nothing.
///
/// # Errors
/// Fails if this worker runs no modules, or the master does not send one. Then the task is started elsewhere, whereas bytes that are
/// not those of the hash, or no module, fail the job.
pub(super) async fn fetch_missing(context: &Arc<WorkerContext>, modules: &[String]) -> Result<(), Failure> {
    if !modules.is_empty() && !context.info.wasm {
        return Err(refused(context, "this worker runs no WebAssembly modules: start it with --allow-wasm"));
    }
    for hash in modules {
        if context.engine.modules().get(hash).is_some() {
            continue;
        }
        let bytes = fetch(context, hash).await?;
        let (store, hash) = (context.engine.modules().clone(), hash.clone());
        let kept = context.threads.spawn(async move { store.insert_as(&hash, bytes.freeze()) });
        let kept = kept.await.map_err(|error| refused(context, &error.to_string()))?;
        kept.map_err(|error| Failure {
            worker: Some(context.info.name.clone()),
            ..Failure::from(FrameError::BadJob(error.to_string()))
        })?;
    }
    Ok(())
}

async fn fetch(context: &WorkerContext, hash: &str) -> Result<BytesMut, Failure> {
    let lost = |cause: &dyn std::fmt::Display| {
        refused(context, &format!("the module {hash} did not come from the master: {cause}"))
    };
    let request = packet::encode(&Request::FetchModule { module: hash.to_owned() }, &[]);
    let mut pieces = context
        .transport
        .request(&context.masters.current().1, request)
        .await
        .map_err(|error| lost(&error))?;
    let (mut bytes, mut next) = (BytesMut::new(), 0);
    loop {
        let piece = tokio::time::timeout(PIECE, pieces.next()).await;
        let piece = piece.map_err(|_| lost(&format!("no piece within {PIECE:?}")))?;
        let piece = piece.ok_or_else(|| lost(&"the reply ended early"))?.map_err(|error| lost(&error))?;
        match packet::decode::<Reply>(&piece).map_err(|error| lost(&error))? {
            (Reply::Result { piece, .. }, body)
                if piece == next && bytes.len() + body.len() <= MAX_MODULE_BYTES =>
            {
                bytes.extend_from_slice(&body);
                next += 1;
            }
            (Reply::Finished(finished), _) if finished.pieces == next => return Ok(bytes),
            (Reply::Failed(failure), _) => return Err(lost(&failure)),
            (other, _) => return Err(lost(&format!("the master answered {other:?}"))),
        }
    }
}

fn refused(context: &WorkerContext, message: &str) -> Failure {
    let worker = Some(context.info.name.clone());
    Failure { code: FailureCode::Refused, message: message.to_owned(), worker }
}

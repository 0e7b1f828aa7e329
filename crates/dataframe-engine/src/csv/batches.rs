//! The batches of a part of a file: from the reader of this crate as far as it goes, and from DataFusion's for the rest.

use arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::datasource::physical_plan::FileOpenFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use tracing::debug;

use super::plain_reader::{NotPlain, PlainRead, PlainReader};

/// Who reads the next batch.
enum BatchReader {
    Plain { reader: Box<PlainReader>, given: usize, engine: FileOpenFuture },
    Engine(BoxStream<'static, Result<RecordBatch>>),
}

/// Reads plainly where that is possible. `engine` reads the same part with the same size of batches, and is asked only where the part is
/// not plain: it begins anew, and its batches that have been given already are left out.
pub(super) async fn open_batches(
    plain: Option<PlainRead>,
    engine: FileOpenFuture,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let Some(plain) = plain else { return engine.await };
    let path = plain.part.path.clone();
    let first = match PlainReader::open(plain) {
        Ok(reader) => BatchReader::Plain { reader: Box::new(reader), given: 0, engine },
        Err(reason) => BatchReader::Engine(begin_anew(engine, 0, &path, &reason).await?),
    };
    let batches = stream::try_unfold(first, move |reader| {
        let path = path.clone();
        async move {
            let mut engine = match reader {
                BatchReader::Engine(batches) => batches,
                BatchReader::Plain { mut reader, given, engine } => match reader.next_batch() {
                    Ok(None) => return Ok(None),
                    Ok(Some(batch)) => {
                        return Ok(Some((batch, BatchReader::Plain { reader, given: given + 1, engine })));
                    }
                    Err(reason) => begin_anew(engine, given, &path, &reason).await?,
                },
            };
            Ok(engine.try_next().await?.map(|batch| (batch, BatchReader::Engine(engine))))
        }
    });
    Ok(batches.boxed())
}

async fn begin_anew(
    engine: FileOpenFuture,
    given: usize,
    path: &str,
    reason: &NotPlain,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    debug!(path, %reason, batches = given, "DataFusion's reader of CSV goes on");
    let mut batches = engine.await?;
    for _ in 0..given {
        if batches.try_next().await?.is_none() {
            break;
        }
    }
    Ok(batches)
}

//! Reads `data.txt` from the disk again and again, slowly, so that damage is found while good copies are left elsewhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::connection::ConnectionContext;

/// How fast the file is read.
const BYTES_PER_SECOND: f64 = 1024.0 * 1024.0;

/// Reads the file for ever, with a pause of `interval` between two passes.
pub async fn run(context: Arc<ConnectionContext>, interval: Duration) {
    loop {
        sleep(interval).await;
        pass(&context).await;
    }
}

async fn pass(context: &ConnectionContext) {
    for segment in 0.. {
        let checked = context.store().scrub(segment);
        let bytes = match checked {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "data.txt could not be checked: its disk fails; if that lasts, drain this datanode");
                0
            }
        };
        sleep(Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND)).await;
    }
}

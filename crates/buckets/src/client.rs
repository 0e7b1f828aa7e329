//! Clients of S3.

use std::sync::OnceLock;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, RetryConfig};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::BucketError;

/// A client of a bucket with the settings of the environment. It tries a request that failed again, so often and for so long.
#[must_use]
pub fn s3_builder(bucket: &str, max_retries: usize, retry_timeout: Duration) -> AmazonS3Builder {
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() };
    let retry = RetryConfig { backoff, max_retries, retry_timeout };
    AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry)
}

/// The thread that speaks with buckets. Threads that read an object as a file wait for it, so it is none of them.
pub(crate) fn network() -> Result<&'static Handle, BucketError> {
    static NETWORK: OnceLock<Result<Runtime, BucketError>> = OnceLock::new();
    let start = || {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("buckets").enable_all().build();
        runtime.map_err(|error| BucketError::Failed(format!("no thread for the network of buckets: {error}")))
    };
    NETWORK.get_or_init(start).as_ref().map(Runtime::handle).map_err(Clone::clone)
}

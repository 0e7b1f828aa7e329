//! Tasca 1: buckets of S3, and folders that stand for one.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `url` | `s3://BUCKET/KEY` |
//! | `client` | the one way to a client of S3, and the thread of its network |
//! | `data_bucket` | a bucket that data is read from |
//! | `reader` | an object as a file: [`std::io::Read`] and [`std::io::Seek`] |
//! | `upload` | files that are put into a bucket or a folder by their content |
//! | `error` | why a bucket does not give what is asked, in words that tell what to do |
//!
//! Credentials, endpoint and region are those of the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`,
//! `AWS_ENDPOINT`, `AWS_ALLOW_HTTP` and whatever else `object_store` reads there.

mod client;
mod data_bucket;
mod error;
mod reader;
mod upload;
mod url;

pub use client::s3_builder;
pub use data_bucket::DataBucket;
pub use error::{BucketError, S3Facts};
pub use reader::ObjectReader;
pub use upload::UploadPlace;
pub use url::ObjectUrl;

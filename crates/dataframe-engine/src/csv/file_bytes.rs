//! The bytes of a file, on a disk that this machine reaches or in a bucket.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use buckets::{DataBucket, ObjectReader, ObjectUrl};
use chrono::DateTime;
use dataframe_jobs::operation::Compression;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::object_store::ObjectMeta;

/// A file in the state in which it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileState {
    pub(super) path: String,
    pub(super) size: u64,
    /// Tells the states of an object apart. Absent for files on disks.
    pub(super) e_tag: Option<String>,
}

impl FileState {
    /// Opens the file at its beginning.
    pub(super) fn open(&self) -> io::Result<FileBytes> {
        if !ObjectUrl::is_one(&self.path) {
            return File::open(&self.path).map(FileBytes::Disk);
        }
        let url = ObjectUrl::parse(&self.path).map_err(io::Error::other)?;
        let bucket = DataBucket::open(&url.bucket).map_err(io::Error::other)?;
        let meta = ObjectMeta {
            location: url.key,
            // Reading asks for the state by its tag.
            last_modified: DateTime::UNIX_EPOCH,
            size: self.size,
            e_tag: self.e_tag.clone(),
            version: None,
        };
        Ok(FileBytes::Bucket(Box::new(ObjectReader::new(bucket, meta))))
    }

    /// Opens the file at its beginning, and decompresses it.
    pub(super) fn decompressed(&self, compression: Compression) -> io::Result<Box<dyn Read + Send>> {
        file_compression_type(compression).convert_read(self.open()?).map_err(io::Error::other)
    }
}

/// DataFusion's name for a compression.
pub(super) fn file_compression_type(compression: Compression) -> FileCompressionType {
    match compression {
        Compression::Auto | Compression::None => FileCompressionType::UNCOMPRESSED,
        Compression::Gzip => FileCompressionType::GZIP,
        Compression::Zstd => FileCompressionType::ZSTD,
    }
}

/// The bytes of an open file.
#[derive(Debug)]
pub(super) enum FileBytes {
    Disk(File),
    Bucket(Box<ObjectReader>),
}

impl Read for FileBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Disk(file) => file.read(buffer),
            Self::Bucket(object) => object.read(buffer),
        }
    }
}

impl Seek for FileBytes {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Disk(file) => file.seek(to),
            Self::Bucket(object) => object.seek(to),
        }
    }
}

//! Results of finished jobs. They outlive the master, so that a job that is sent again under its id is not run again.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Context as _;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::{Bytes, BytesMut};
use dataframe_jobs::message::Finished;

/// How many results are kept. A client asks within seconds.
const KEPT: usize = 64;

/// How many bytes of results are kept, besides the newest one.
const KEPT_BYTES: u64 = 4 << 30;

/// The folder of the results. `JOB.arrows` is the result; `JOB.json` is written after it, and says that it is complete.
#[derive(Clone)]
pub(crate) struct Results {
    folder: PathBuf,
    kept: Arc<Mutex<VecDeque<(String, u64)>>>,
}

impl Results {
    /// Opens the folder, and removes what an earlier master left half done.
    pub(crate) fn open(folder: PathBuf) -> anyhow::Result<Self> {
        let unusable = || format!("{}: the folder of the results cannot be used", folder.display());
        fs::create_dir_all(&folder).with_context(unusable)?;
        let mut found: Vec<(SystemTime, String, u64)> = Vec::new();
        for entry in fs::read_dir(&folder).with_context(unusable)? {
            let path = entry.with_context(unusable)?.path();
            let job = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("arrows") if folder.join(format!("{job}.json")).exists() => {
                    let data = path.metadata().with_context(unusable)?;
                    found.push((data.modified().with_context(unusable)?, job, data.len()));
                }
                Some("json") => {}
                _ => fs::remove_file(&path).with_context(unusable)?,
            }
        }
        found.sort();
        let kept = found.into_iter().map(|(_, job, bytes)| (job, bytes)).collect();
        Ok(Self { folder, kept: Arc::new(Mutex::new(kept)) })
    }

    fn rows(&self, job: &str) -> PathBuf {
        self.folder.join(format!("{job}.arrows"))
    }

    fn note(&self, job: &str) -> PathBuf {
        self.folder.join(format!("{job}.json"))
    }

    /// Begins to write the result of a job.
    pub(crate) fn create(&self, job: &str, schema: &SchemaRef) -> Result<ResultWriter, ArrowError> {
        let file = File::create(self.rows(job))?;
        Ok(ResultWriter { stream: StreamWriter::try_new(BufWriter::new(file), schema)?, rows: 0 })
    }

    /// Says that a result is complete, and removes old ones.
    pub(crate) fn commit(&self, job: &str, finished: &Finished) -> io::Result<()> {
        let bytes = self.rows(job).metadata()?.len();
        let unfinished = self.folder.join(format!("{job}.tmp"));
        fs::write(&unfinished, serde_json::to_vec(finished)?)?;
        fs::rename(unfinished, self.note(job))?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((job.to_owned(), bytes));
        while kept.len() > 1
            && (kept.len() > KEPT || kept.iter().map(|(_, bytes)| bytes).sum::<u64>() > KEPT_BYTES)
        {
            if let Some((oldest, _)) = kept.pop_front() {
                // The note goes first: rows without a note are no result. Readers that have the file open keep it.
                let _ = fs::remove_file(self.note(&oldest));
                let _ = fs::remove_file(self.rows(&oldest));
            }
        }
        Ok(())
    }

    /// Removes the half-written result of a job that failed.
    pub(crate) fn discard(&self, job: &str) {
        let _ = fs::remove_file(self.rows(job));
    }

    /// The result of a finished job.
    pub(crate) fn find(&self, job: &str) -> Option<(Finished, ResultReader)> {
        let note = fs::read(self.note(job)).ok()?;
        let finished = serde_json::from_slice(&note).ok()?;
        let file = File::open(self.rows(job)).ok()?;
        let left = usize::try_from(file.metadata().ok()?.len()).ok()?;
        Some((finished, ResultReader { file, left }))
    }
}

/// Writes one result.
pub(crate) struct ResultWriter {
    stream: StreamWriter<BufWriter<File>>,
    rows: u64,
}

impl ResultWriter {
    /// Adds rows.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.rows += batch.num_rows() as u64;
        self.stream.write(batch)
    }

    /// Ends the result. Returns the number of its rows.
    pub(crate) fn finish(mut self) -> Result<u64, ArrowError> {
        self.stream.finish()?;
        self.stream.get_mut().flush()?;
        Ok(self.rows)
    }
}

/// Reads one result as bytes.
pub(crate) struct ResultReader {
    file: File,
    left: usize,
}

impl ResultReader {
    /// The next piece of at most `max_bytes`, or `None` at the end.
    pub(crate) fn next_piece(&mut self, max_bytes: usize) -> io::Result<Option<Bytes>> {
        let mut piece = BytesMut::zeroed(self.left.min(max_bytes));
        self.file.read_exact(&mut piece)?;
        self.left -= piece.len();
        Ok((!piece.is_empty()).then(|| piece.freeze()))
    }

    /// The bytes that are left.
    pub(crate) fn bytes(&self) -> usize {
        self.left
    }

    /// The result as rows. One batch is in memory at a time.
    pub(crate) fn into_batches(self) -> Result<StreamReader<BufReader<File>>, ArrowError> {
        StreamReader::try_new(BufReader::new(self.file), None)
    }
}

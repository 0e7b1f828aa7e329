//! Reads the winners of one agency piece by piece: any number of them, in bounded memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::files::WINNERS_FILE;
use crate::lottery::csv_line;

/// How many bytes of `winners.csv` are read at a time: more than its longest line.
const READ_BYTES: usize = 64 * 1024;

/// Reads `winners.csv` and gives the lines of one agency, as they travel.
#[derive(Debug)]
pub struct AgencyWinners {
    path: PathBuf,
    file: Option<File>,
    prefix: Vec<u8>,
    offset: u64,
    end: u64,
    buffer: Vec<u8>,
}

impl AgencyWinners {
    pub(super) fn new(folder: &Path, agency: &str, end: u64) -> Self {
        let prefix = csv_line::agency_prefix(agency);
        Self { path: folder.join(WINNERS_FILE), file: None, prefix, offset: 0, end, buffer: Vec::new() }
    }

    /// Appends the next winners to `out`, each with a `\n` behind it, and returns `true`, or `false` if there are no more.
    /// Reads the disk on a thread for blocking calls, which is free between the pieces.
    ///
    /// # Errors
    /// If `winners.csv` cannot be read.
    pub async fn next(mut self, mut out: Vec<u8>) -> io::Result<(Self, Vec<u8>, bool)> {
        let read = tokio::task::spawn_blocking(move || {
            let more = self.read(&mut out)?;
            Ok((self, out, more))
        });
        read.await.map_err(io::Error::other)?
    }

    fn read(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        while self.offset < self.end {
            let file = match &self.file {
                Some(file) => file,
                None => self.file.insert(File::open(&self.path)?),
            };
            let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
            self.buffer.resize(left.min(READ_BYTES), 0);
            file.read_exact_at(&mut self.buffer, self.offset)?;
            let Some(last) = memchr::memrchr(b'\n', &self.buffer) else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "winners.csv has no line ends"));
            };
            self.offset += last as u64 + 1;
            let before = out.len();
            for line in self.buffer[..=last].split_inclusive(|byte| *byte == b'\n') {
                let Some(line) = line.strip_suffix(csv_line::END) else { continue };
                if line.starts_with(&self.prefix) {
                    csv_line::push_unquoted(line, out);
                    out.push(b'\n');
                }
            }
            if out.len() > before {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

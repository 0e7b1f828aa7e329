//! The three files of the lottery, and the draw.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use journal::{Batch, Checksum, JournalFile, WriteFailure};
use memchr::memmem::Finder;
use page::latency::Latency;
use protocol::lottery::WINNING_NUMBER;

use super::ledger::Ledger;
use super::lines::ReadBets;
use super::record::{BetsRange, Draw, JournalEntry, JournalVersion};
use super::recovery;

/// The file of bets, in the form that the course asks for.
pub const BETS_FILE: &str = "bets.csv";
/// One record for each batch (byte range, agency), for each finished agency, and for the draw.
pub const JOURNAL_FILE: &str = "lottery.journal";
/// The lines of `bets.csv` that have won, copied at the draw, and again if the copy is lost.
pub const WINNERS_FILE: &str = "winners.csv";
const UNFINISHED_WINNERS_FILE: &str = "winners.csv.new";

const READ_BYTES: usize = 256 * 1024;
/// Memory that is kept between rounds, in bytes.
const KEPT_BYTES: usize = 1024 * 1024;

/// The open files. One thread owns them.
#[derive(Debug)]
pub struct LotteryFiles {
    folder: PathBuf,
    bets: JournalFile,
    journal: JournalFile,
    /// `bets.csv`, open a second time for reading.
    bets_read: Box<dyn ReadAt>,
    version: JournalVersion,
    bets_bytes: u64,
    round: u64,
    records: Batch,
    lines: Vec<u8>,
    syncs: Latency,
}

/// Reads at any offset. Tests replace the file.
pub trait ReadAt: Send + fmt::Debug {
    /// Fills `buffer`, as [`FileExt::read_exact_at`] does.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

/// The contents of the files when they were opened.
#[derive(Debug)]
pub struct LotteryContents {
    /// The agencies, and the number of bets.
    pub ledger: Ledger,
    /// The draw, if it was held; its winners are in `winners.csv`.
    pub draw: Option<Draw>,
}

impl LotteryFiles {
    /// Opens or creates the files in `folder`, and cuts off what a crash has torn.
    ///
    /// # Errors
    /// If a file cannot be used, is in use, or is damaged.
    pub fn open(folder: &Path) -> anyhow::Result<(Self, LotteryContents)> {
        let (bets_path, journal_path) = (folder.join(BETS_FILE), folder.join(JOURNAL_FILE));
        // Both are locked from here on. Opening cuts off a torn line.
        let (mut bets, bets_tail) = JournalFile::open(&bets_path)?;
        let (mut journal, journal_tail) = JournalFile::open(&journal_path)?;
        let mut found = recovery::read(&journal_path, &bets_path)?;
        let cut = |name, file: &mut JournalFile, path: &Path, good: u64, torn: u64| -> anyhow::Result<()> {
            let there = fs::metadata(path)?.len();
            if there > good {
                file.truncate(good)?;
            }
            let cut_bytes = there - good + torn;
            if cut_bytes > 0 {
                tracing::warn!(cut_bytes, "{name} ended in what was never acknowledged: cut it off");
            }
            Ok(())
        };
        cut(JOURNAL_FILE, &mut journal, &journal_path, found.journal_bytes, journal_tail.torn_bytes)?;
        cut(BETS_FILE, &mut bets, &bets_path, found.bets_bytes, bets_tail.torn_bytes)?;
        let mut records = Batch::new(Checksum::Crc32c);
        let version = match found.version {
            Some(version) => version,
            None => {
                JournalEntry::Header(JournalVersion::Second).push(JournalVersion::Second, 0, &mut records);
                journal.commit(records.as_bytes())?;
                records.clear(0);
                JournalVersion::Second
            }
        };
        let bets_read =
            File::open(&bets_path).with_context(|| format!("cannot read {}", bets_path.display()))?;
        let files = Self {
            folder: folder.to_owned(),
            bets,
            journal,
            bets_read: Box::new(bets_read),
            version,
            bets_bytes: found.bets_bytes,
            round: found.round,
            records,
            lines: Vec::new(),
            syncs: Latency::default(),
        };
        if let Some(draw) = &found.draw {
            files.restore_winners(draw)?;
            found.ledger.forget();
        }
        let (bets, done) = (found.ledger.bets(), found.ledger.done());
        tracing::info!(folder = %folder.display(), bets, done, drawn = found.draw.is_some(), "files opened");
        Ok((files, LotteryContents { ledger: found.ledger, draw: found.draw }))
    }

    /// Returns new files on other storage.
    #[cfg(test)]
    pub fn with_storage(
        folder: &Path,
        bets: JournalFile,
        bets_read: Box<dyn ReadAt>,
        journal: JournalFile,
    ) -> Self {
        Self {
            folder: folder.to_owned(),
            bets,
            journal,
            bets_read,
            version: JournalVersion::Second,
            bets_bytes: 0,
            round: 0,
            records: Batch::new(Checksum::Crc32c),
            lines: Vec::new(),
            syncs: Latency::default(),
        }
    }

    /// Puts other storage under the same files.
    #[cfg(test)]
    pub fn replace_storage(&mut self, bets: JournalFile, journal: JournalFile) {
        (self.bets, self.journal) = (bets, journal);
    }

    /// Records how long each sync takes in `syncs` from now on.
    pub fn time_syncs(&mut self, syncs: Latency) {
        self.syncs = syncs;
    }

    /// Adds whole lines of an agency to the round.
    pub fn push_bets(&mut self, agency: &str, lines: &[u8], bets: u32) {
        let offset = self.bets_bytes + self.lines.len() as u64;
        let range = BetsRange { offset, bytes: lines.len() as u64, crc32c: crc32c::crc32c(lines) };
        self.lines.extend_from_slice(lines);
        let entry = JournalEntry::Batch { agency: agency.to_owned(), range, bets };
        entry.push(self.version, self.round + 1, &mut self.records);
    }

    /// Reads the files again. All that was pushed has to be committed before.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn read_again(&self) -> anyhow::Result<Ledger> {
        Ok(recovery::read(&self.folder.join(JOURNAL_FILE), &self.folder.join(BETS_FILE))?.ledger)
    }

    /// Adds the end of an agency to the round.
    pub fn push_done(&mut self, agency: &str) {
        let entry = JournalEntry::Done { agency: agency.to_owned() };
        entry.push(self.version, self.round + 1, &mut self.records);
    }

    /// Writes the round and returns when all of it is on disk. After an error nothing of the round is in the files, unless
    /// the error is fatal.
    ///
    /// # Errors
    /// [`WriteFailure`].
    pub fn commit(&mut self) -> Result<(), WriteFailure> {
        let outcome = if self.records.is_empty() { Ok(()) } else { self.write_round() };
        self.records.clear(KEPT_BYTES);
        self.lines.clear();
        self.lines.shrink_to(KEPT_BYTES);
        outcome
    }

    fn write_round(&mut self) -> Result<(), WriteFailure> {
        let before = self.journal.write(self.records.as_bytes())?;
        if !self.lines.is_empty() {
            match self.bets.write(&self.lines) {
                Ok(offset) if offset == self.bets_bytes => {}
                Ok(_) => return Err(self.changed()),
                Err(failure) => {
                    if matches!(failure, WriteFailure::NoSpace(_)) {
                        self.journal.truncate(before)?;
                    }
                    return Err(failure);
                }
            }
            timed(&self.syncs, || self.bets.sync())?;
        }
        timed(&self.syncs, || self.journal.sync())?;
        self.bets_bytes += self.lines.len() as u64;
        self.round += 1;
        Ok(())
    }

    fn changed(&self) -> WriteFailure {
        self.fatal("append to", io::Error::other("somebody else has changed its length"))
    }

    /// Returns the failure for a `bets.csv` that cannot be read: nobody can say what is stored.
    pub fn failed_to_read(&self, cause: io::Error) -> WriteFailure {
        self.fatal("read", cause)
    }

    fn fatal(&self, action: &'static str, cause: io::Error) -> WriteFailure {
        WriteFailure::Fatal { action, path: self.folder.join(BETS_FILE).display().to_string(), cause }
    }

    /// Finds the winners, and remembers the draw.
    ///
    /// # Errors
    /// Why the draw could not be held. It may be tried again, unless the cause is a [`WriteFailure::Fatal`].
    pub fn draw(&mut self) -> anyhow::Result<Draw> {
        let draw = write_winners(&self.folder, self.bets_bytes)?;
        JournalEntry::Draw(draw).push(self.version, self.round + 1, &mut self.records);
        self.commit()?;
        Ok(draw)
    }

    /// Makes `winners.csv` again if the file is not what was drawn.
    fn restore_winners(&self, draw: &Draw) -> anyhow::Result<()> {
        let path = self.folder.join(WINNERS_FILE);
        if checksum(&path).ok() == Some((draw.winners_bytes, draw.winners_crc32c)) {
            return Ok(());
        }
        tracing::warn!(path = %path.display(), "not what was drawn: made again from bets.csv");
        let again = write_winners(&self.folder, draw.bets_bytes)?;
        anyhow::ensure!(
            again == *draw,
            "{BETS_FILE} has other winners than at the draw: {again:?}, {draw:?}"
        );
        Ok(())
    }
}

impl ReadBets for LotteryFiles {
    fn read_bets(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let written = usize::try_from(self.bets_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (written, rest) = buffer.split_at_mut(written.min(buffer.len()));
        if !written.is_empty() {
            self.bets_read.read_exact_at(written, offset)?;
        }
        let start = (offset + written.len() as u64).saturating_sub(self.bets_bytes) as usize;
        let pending = self.lines.get(start..start + rest.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        rest.copy_from_slice(pending);
        Ok(())
    }
}

fn timed<T>(durations: &Latency, action: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let outcome = action();
    durations.record(began.elapsed());
    outcome
}

/// Returns the length and the CRC-32C of a file.
fn checksum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; READ_BYTES];
    let (mut bytes, mut sum) = (0, 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, sum));
        }
        sum = crc32c::crc32c_append(sum, &buffer[..read]);
        bytes += read as u64;
    }
}

/// Copies the lines that have won from the first `bets_bytes` of `bets.csv` to `winners.csv`.
fn write_winners(folder: &Path, bets_bytes: u64) -> anyhow::Result<Draw> {
    let told = |action: &str, name: &str| format!("cannot {action} {}", folder.join(name).display());
    let bets = File::open(folder.join(BETS_FILE)).with_context(|| told("read", BETS_FILE))?;
    let unfinished = folder.join(UNFINISHED_WINNERS_FILE);
    let write = || told("write", UNFINISHED_WINNERS_FILE);
    let mut winners = BufWriter::new(File::create(&unfinished).with_context(write)?);
    let mut draw = Draw { bets_bytes, winners: 0, winners_bytes: 0, winners_crc32c: 0 };
    let mut written = Ok(());
    each_winner(bets.take(bets_bytes), |line| {
        draw.winners += 1;
        draw.winners_bytes += line.len() as u64;
        draw.winners_crc32c = crc32c::crc32c_append(draw.winners_crc32c, line);
        if written.is_ok() {
            written = winners.write_all(line);
        }
    })
    .with_context(|| told("read", BETS_FILE))?;
    written.with_context(write)?;
    let file = winners.into_inner().map_err(io::IntoInnerError::into_error).with_context(write)?;
    file.sync_all().with_context(write)?;
    fs::rename(&unfinished, folder.join(WINNERS_FILE)).with_context(|| told("replace", WINNERS_FILE))?;
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| told("sync", ""))?;
    Ok(draw)
}

/// Shows each line that ends in the winning number to `visit`, line end included.
fn each_winner(mut bets: impl io::Read, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
    let ending = format!(",{WINNING_NUMBER}\r\n");
    let finder = Finder::new(ending.as_bytes());
    let mut buffer = Vec::with_capacity(2 * READ_BYTES);
    loop {
        let read = (&mut bets).take(READ_BYTES as u64).read_to_end(&mut buffer)?;
        let mut from = 0;
        while let Some(found) = finder.find(&buffer[from..]) {
            let end = from + found + ending.len();
            let start = memchr::memrchr(b'\n', &buffer[..end - 1]).map_or(0, |before| before + 1);
            visit(&buffer[start..end]);
            from = end;
        }
        if read == 0 {
            return Ok(());
        }
        // A line that is not whole yet stays in the buffer.
        let whole = memchr::memrchr(b'\n', &buffer).map_or(0, |last| last + 1);
        buffer.drain(..whole);
    }
}

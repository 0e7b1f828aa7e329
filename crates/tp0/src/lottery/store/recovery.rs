//! Reads `bets.csv` and `lottery.journal` after a crash: the longest beginning of both that belongs together.
//!
//! Both files are synced before anything in them is acknowledged, round by round. So a crash can tear the last round
//! only, which was never acknowledged: it is cut off, in both files. Where a batch is wrong although a later round is there,
//! something else than a crash was at work: cutting would destroy bets that were acknowledged, so that is an error.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use journal::{Checksum, Records};

use super::ledger::{BatchRefusal, Ledger};
use super::record::{BetsRange, Draw, JournalEntry, JournalVersion};

/// More than the lines of any batch: the longest message, with an agency and quotes for each of its shortest bets.
const MAX_BATCH_BYTES: u64 = 16 * 1024 * 1024;

/// The beginning on which both files agree.
#[derive(Debug, Default)]
pub struct RecoveredFiles {
    /// Version in the first line; `None` if that line is missing.
    pub version: Option<JournalVersion>,
    /// Length of the good beginning of `lottery.journal`.
    pub journal_bytes: u64,
    /// Length of the good beginning of `bets.csv`.
    pub bets_bytes: u64,
    /// Number of the last round.
    pub round: u64,
    /// The agencies, the number of bets, and whether the draw was held.
    pub ledger: Ledger,
    /// The draw, if it was held.
    pub draw: Option<Draw>,
}

/// Reads both files.
///
/// # Errors
/// If the files cannot be read, or are damaged where no crash can have damaged them.
pub fn read(journal: &Path, bets: &Path) -> anyhow::Result<RecoveredFiles> {
    let told = |path: &Path| format!("cannot read {}", path.display());
    let file = File::open(journal).with_context(|| told(journal))?;
    let mut csv = BetsFile::open(bets).with_context(|| told(bets))?;
    let mut found = RecoveredFiles::default();
    let mut records = Records::from(&file, 0, Checksum::Crc32c).peekable();
    let mut torn = None;
    while let Some(record) = records.next() {
        let (offset, record) = record.with_context(|| told(journal))?;
        found.journal_bytes = offset;
        let entry = record.as_deref().and_then(JournalEntry::parse);
        if let Some(wrong) = found.add(entry, &mut csv).with_context(|| told(bets))? {
            torn = Some(wrong);
            break;
        }
        // The offset behind the last record is the end of the file.
        if records.peek().is_none() {
            found.journal_bytes = file.metadata().with_context(|| told(journal))?.len();
        }
    }
    if let Some(wrong) = torn {
        for record in records {
            let (_, record) = record.with_context(|| told(journal))?;
            let Some((round, entry)) = record.as_deref().and_then(JournalEntry::parse) else { continue };
            if round > wrong.round
                && wrong.is_contradicted_by(&entry, &mut csv).with_context(|| told(bets))?
            {
                let (bets_at, journal_at) = (found.bets_bytes, found.journal_bytes);
                bail!(
                    "{} is damaged at byte {bets_at}, or {} at byte {journal_at}, and what stands behind it was acknowledged: \
                     restore both files, or move both away to begin anew",
                    bets.display(),
                    journal.display()
                );
            }
        }
    }
    ensure!(
        found.version.is_some() || csv.bytes == 0,
        "{} holds {} bytes that {} does not know: it is of another program; move it away, or choose another --data-dir",
        bets.display(),
        csv.bytes,
        journal.display()
    );
    Ok(found)
}

/// The entry at which the good beginning ends.
struct TornPlace {
    /// Round of the entry, or the last round that it can have if its line cannot be read.
    round: u64,
    /// Whether the line can be read, and only its bets are missing.
    without_bets: bool,
}

impl TornPlace {
    /// Whether a later entry proves that this one was on disk.
    fn is_contradicted_by(&self, later: &JournalEntry, csv: &mut BetsFile) -> io::Result<bool> {
        match later {
            JournalEntry::Batch { range, .. } => csv.holds(range),
            _ => Ok(!self.without_bets),
        }
    }
}

impl RecoveredFiles {
    /// Adds an entry, or returns what is wrong with it.
    fn add(
        &mut self,
        entry: Option<(u64, JournalEntry)>,
        csv: &mut BetsFile,
    ) -> io::Result<Option<TornPlace>> {
        let unreadable = Some(TornPlace { round: self.round + 1, without_bets: false });
        let Some((round, entry)) = entry else { return Ok(unreadable) };
        let is_header = matches!(entry, JournalEntry::Header(_));
        if self.version.is_some() == is_header || round < self.round {
            return Ok(unreadable);
        }
        match entry {
            JournalEntry::Header(version) => self.version = Some(version),
            JournalEntry::Done { agency } => drop(self.ledger.finish(&agency)),
            JournalEntry::Draw(draw) => {
                self.ledger.draw();
                self.draw = Some(draw);
            }
            JournalEntry::Batch { agency, range, bets } => {
                if range.offset != self.bets_bytes || !csv.holds(&range)? {
                    return Ok(Some(TornPlace { round, without_bets: true }));
                }
                if !self.ledger.add(&agency, bets, range.bytes) {
                    return Err(io::Error::other(BatchRefusal::Full));
                }
                self.bets_bytes += range.bytes;
            }
        }
        self.round = round;
        Ok(None)
    }
}

/// `bets.csv`, read at any offset.
struct BetsFile {
    file: File,
    bytes: u64,
    buffer: Vec<u8>,
}

impl BetsFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes, buffer: Vec::new() })
    }

    fn holds(&mut self, range: &BetsRange) -> io::Result<bool> {
        let there = range.offset.checked_add(range.bytes).is_some_and(|end| end <= self.bytes);
        if !there || range.bytes > MAX_BATCH_BYTES {
            return Ok(false);
        }
        self.buffer.resize(usize::try_from(range.bytes).unwrap_or(0), 0);
        self.file.read_exact_at(&mut self.buffer, range.offset)?;
        Ok(crc32c::crc32c(&self.buffer) == range.crc32c)
    }
}

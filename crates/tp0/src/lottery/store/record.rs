//! The lines of `lottery.journal`, each with a CRC-32C behind it.
//!
//! | record | meaning |
//! | --- | --- |
//! | `lottery 2` | the first line, which names the kind of file |
//! | `batch <round> "<agency>" <offset> <bytes> <crc32c> <bets>` | these bytes of `bets.csv` were stored as one |
//! | `done <round> "<agency>"` | the agency has sent all its bets |
//! | `draw <round> <bets bytes> <winners> <winners bytes> <winners crc32c>` | the draw was held, from this beginning of `bets.csv` |
//!
//! The records and bets that were written and synced together are a round: a crash can tear the last one only.
//!
//! The first version of this file begins with `lottery 1 <key>`, and has a digest of each batch behind its bets. Such a file
//! is read and goes on as it is, with zeroes for the digests: nobody reads them any more, but an earlier program that finds
//! records without them would take them for torn.

use journal::{Batch, record};

const NAME: &str = "lottery";

/// The form of a file's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalVersion {
    /// The file has a key, and a digest of each batch.
    First,
    /// The file has neither.
    Second,
}

/// The meaning of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEntry {
    Header(JournalVersion),
    Batch { agency: String, range: BetsRange, bets: u32 },
    Done { agency: String },
    Draw(Draw),
}

/// A range of bytes in `bets.csv`, and their checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BetsRange {
    pub offset: u64,
    pub bytes: u64,
    pub crc32c: u32,
}

/// The outcome of the draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Length of `bets.csv` at the draw.
    pub bets_bytes: u64,
    /// The number of bets that have won.
    pub winners: u64,
    /// Length of `winners.csv`.
    pub winners_bytes: u64,
    /// Checksum of all of `winners.csv`.
    pub winners_crc32c: u32,
}

impl JournalEntry {
    /// Adds the line to `batch`. A header is always one of the second version.
    pub fn push(&self, version: JournalVersion, round: u64, batch: &mut Batch) {
        batch.push(|record| {
            match self {
                Self::Header(_) => record.word(NAME).word(2),
                Self::Batch { agency, range, bets } => {
                    let BetsRange { offset, bytes, crc32c } = range;
                    record.word("batch").word(round).text(agency).word(offset).word(bytes);
                    record.word(format_args!("{crc32c:08x}")).word(bets);
                    match version {
                        JournalVersion::First => record.word(format_args!("{:032x}", 0)),
                        JournalVersion::Second => record,
                    }
                }
                Self::Done { agency } => record.word("done").word(round).text(agency),
                Self::Draw(Draw { bets_bytes, winners, winners_bytes, winners_crc32c }) => {
                    record.word("draw").word(round).word(bets_bytes).word(winners).word(winners_bytes);
                    record.word(format_args!("{winners_crc32c:08x}"))
                }
            };
        });
    }

    /// Reads a line without its checksum; returns its round (0 for the header) and its meaning, or `None` if the line has
    /// none.
    pub fn parse(line: &[u8]) -> Option<(u64, Self)> {
        let fields = record::fields(std::str::from_utf8(line).ok()?)?;
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let hex = |text: &str| u32::from_str_radix(text, 16).ok();
        match fields[..] {
            ["batch", round, agency, offset, bytes, crc32c, bets]
            | ["batch", round, agency, offset, bytes, crc32c, bets, _] => {
                let range = BetsRange {
                    offset: offset.parse().ok()?,
                    bytes: bytes.parse().ok()?,
                    crc32c: hex(crc32c)?,
                };
                let entry = Self::Batch { agency: agency.to_owned(), range, bets: bets.parse().ok()? };
                Some((round.parse().ok()?, entry))
            }
            ["done", round, agency] => Some((round.parse().ok()?, Self::Done { agency: agency.to_owned() })),
            ["draw", round, bets_bytes, winners, winners_bytes, crc32c] => {
                let draw = Draw {
                    bets_bytes: bets_bytes.parse().ok()?,
                    winners: winners.parse().ok()?,
                    winners_bytes: winners_bytes.parse().ok()?,
                    winners_crc32c: hex(crc32c)?,
                };
                Some((round.parse().ok()?, Self::Draw(draw)))
            }
            [NAME, "1", _] => Some((0, Self::Header(JournalVersion::First))),
            [NAME, "2"] => Some((0, Self::Header(JournalVersion::Second))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use journal::Checksum;

    use super::*;

    #[test]
    fn golden_lines() {
        let range = BetsRange { offset: 7, bytes: 51, crc32c: 0xbeef };
        let draw = Draw { bets_bytes: 99, winners: 1, winners_bytes: 51, winners_crc32c: 0x1234_5678 };
        let batch = JournalEntry::Batch { agency: "1 \"a\"".to_owned(), range, bets: 2 };
        let zeroes = "0".repeat(32);
        let first = format!("batch 3 \"1 \\\"a\\\"\" 7 51 0000beef 2 {zeroes}");
        let golden = [
            (JournalVersion::Second, 0, JournalEntry::Header(JournalVersion::Second), "lottery 2"),
            (JournalVersion::Second, 3, batch.clone(), "batch 3 \"1 \\\"a\\\"\" 7 51 0000beef 2"),
            (JournalVersion::First, 3, batch, &first),
            (JournalVersion::First, 4, JournalEntry::Done { agency: "1".to_owned() }, "done 4 \"1\""),
            (JournalVersion::Second, 5, JournalEntry::Draw(draw), "draw 5 99 1 51 12345678"),
        ];
        for (version, round, entry, line) in golden {
            let mut batch = Batch::new(Checksum::None);
            entry.push(version, round, &mut batch);
            assert_eq!(String::from_utf8_lossy(batch.as_bytes()).trim_end(), line);
            assert_eq!(JournalEntry::parse(line.as_bytes()), Some((round, entry)));
        }
        assert_eq!(
            JournalEntry::parse(b"lottery 1 00abc"),
            Some((0, JournalEntry::Header(JournalVersion::First)))
        );
        for line in ["", "lottery 3", "lottery 2 00", "lottery 1", "batch 1", "done x \"1\"", "draw 1 2 3"] {
            assert_eq!(JournalEntry::parse(line.as_bytes()), None, "{line:?}");
        }
    }
}

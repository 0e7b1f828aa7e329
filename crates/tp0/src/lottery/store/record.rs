//! The lines of `lottery.journal`, each with a CRC-32C behind it.
//!
//! | record | meaning |
//! | --- | --- |
//! | `lottery 1 <key>` | the first line: what this file is, and the key of its digests |
//! | `batch <round> "<agency>" <offset> <bytes> <crc32c> <bets> <digest>` | these bytes of `bets.csv` are one batch |
//! | `done <round> "<agency>"` | the agency has sent all its bets |
//! | `draw <round> <bets bytes> <winners> <winners bytes> <winners crc32c>` | drawn from so much of `bets.csv` |
//!
//! A round is what was written and synced together: a crash can only tear the last one.

use std::hash::Hasher as _;

use journal::{Batch, record};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// Tells batches of one agency apart: SipHash-1-3 of its lines in `bets.csv`, 128 bits, under a key that only this store
/// knows. So two batches are taken for one by chance only, once in 2^128, and nobody can make such a pair on purpose.
pub type Digest = [u8; 16];

const NAME: [&str; 2] = ["lottery", "1"];

/// The digest of the lines of a batch.
#[must_use]
pub fn digest(key: u128, lines: &[u8]) -> Digest {
    let mut hasher = SipHasher13::new_with_key(&key.to_le_bytes());
    hasher.write(lines);
    hasher.finish128().as_bytes()
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Header { key: u128 },
    Batch { agency: String, place: Place, bets: u64, digest: Digest },
    Done { agency: String },
    Draw(Draw),
}

/// A part of `bets.csv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub offset: u64,
    pub bytes: u64,
    pub crc32c: u32,
}

/// What was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Length of `bets.csv` at the draw.
    pub bets_bytes: u64,
    /// How many have won.
    pub winners: u64,
    /// Length of `winners.csv`.
    pub winners_bytes: u64,
    /// Of all of `winners.csv`.
    pub winners_crc32c: u32,
}

impl Entry {
    /// Adds the line.
    pub fn push(&self, round: u64, batch: &mut Batch) {
        batch.push(|record| {
            match self {
                Self::Header { key } => record.word(NAME[0]).word(NAME[1]).word(format_args!("{key:032x}")),
                Self::Batch { agency, place, bets, digest } => {
                    let Place { offset, bytes, crc32c } = place;
                    record.word("batch").word(round).text(agency).word(offset).word(bytes);
                    record.word(format_args!("{crc32c:08x}")).word(bets);
                    record.word(format_args!("{:032x}", u128::from_be_bytes(*digest)))
                }
                Self::Done { agency } => record.word("done").word(round).text(agency),
                Self::Draw(Draw { bets_bytes, winners, winners_bytes, winners_crc32c }) => {
                    record.word("draw").word(round).word(bets_bytes).word(winners).word(winners_bytes);
                    record.word(format_args!("{winners_crc32c:08x}"))
                }
            };
        });
    }

    /// Reads a line without its checksum: the round (0 for the header) and what it says; `None` if it is no such line.
    pub fn parse(line: &[u8]) -> Option<(u64, Self)> {
        let fields = record::fields(std::str::from_utf8(line).ok()?)?;
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let hex = |text: &str| u32::from_str_radix(text, 16).ok();
        match fields[..] {
            ["batch", round, agency, offset, bytes, crc32c, bets, digest] => {
                let place =
                    Place { offset: offset.parse().ok()?, bytes: bytes.parse().ok()?, crc32c: hex(crc32c)? };
                let digest = u128::from_str_radix(digest, 16).ok()?.to_be_bytes();
                let entry =
                    Self::Batch { agency: agency.to_owned(), place, bets: bets.parse().ok()?, digest };
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
            [name, version, key] if [name, version] == NAME => {
                Some((0, Self::Header { key: u128::from_str_radix(key, 16).ok()? }))
            }
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
        let place = Place { offset: 7, bytes: 51, crc32c: 0xbeef };
        let draw = Draw { bets_bytes: 99, winners: 1, winners_bytes: 51, winners_crc32c: 0x1234_5678 };
        let golden = [
            (0, Entry::Header { key: 0xabc }, "lottery 1 00000000000000000000000000000abc"),
            (
                3,
                Entry::Batch { agency: "1 \"a\"".to_owned(), place, bets: 2, digest: digest(7, b"x") },
                "batch 3 \"1 \\\"a\\\"\" 7 51 0000beef 2 03ba1033448cd9670517a137afb63f22",
            ),
            (4, Entry::Done { agency: "1".to_owned() }, "done 4 \"1\""),
            (5, Entry::Draw(draw), "draw 5 99 1 51 12345678"),
        ];
        for (round, entry, line) in golden {
            let mut batch = Batch::new(Checksum::None);
            entry.push(round, &mut batch);
            assert_eq!(String::from_utf8_lossy(batch.as_bytes()).trim_end(), line);
            assert_eq!(Entry::parse(line.as_bytes()), Some((round, entry)));
        }
        for line in ["", "lottery 2 00", "lottery 1", "batch 1", "done x \"1\"", "draw 1 2 3"] {
            assert_eq!(Entry::parse(line.as_bytes()), None, "{line:?}");
        }
    }
}

//! The lines of `lottery.journal`, each with a CRC-32C behind it.
//!
//! | record | meaning |
//! | --- | --- |
//! | `lottery 1` | the first line: what this file is |
//! | `batch <round> "<agency>" <offset> <bytes> <crc32c> <bets> <digest>` | these bytes of `bets.csv` are one batch |
//! | `done <round> "<agency>"` | the agency has sent all its bets |
//! | `draw <round> <bets bytes> <winners> <winners bytes> <winners crc32c>` | drawn from so much of `bets.csv` |
//!
//! A round is what was written and synced together: a crash can only tear the last one.

use journal::{Batch, record};

/// The first 128 bits of the BLAKE3 hash of a batch, as it stands in `bets.csv`.
pub type Digest = [u8; 16];

const HEADER: [&str; 2] = ["lottery", "1"];

/// The digest of the lines of a batch.
#[must_use]
pub fn digest(lines: &[u8]) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(&blake3::hash(lines).as_bytes()[..16]);
    digest
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Header,
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
                Self::Header => record.word(HEADER[0]).word(HEADER[1]),
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
            _ => (fields == HEADER).then_some((0, Self::Header)),
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
            (0, Entry::Header, "lottery 1"),
            (
                3,
                Entry::Batch { agency: "1 \"a\"".to_owned(), place, bets: 2, digest: digest(b"x") },
                "batch 3 \"1 \\\"a\\\"\" 7 51 0000beef 2 3ae7d805f6789a6402acb70ad4096a85",
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
        for line in ["", "lottery 2", "batch 1", "done x \"1\"", "draw 1 2 3"] {
            assert_eq!(Entry::parse(line.as_bytes()), None, "{line:?}");
        }
    }
}

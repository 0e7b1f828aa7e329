//! Tells new bets from repeats: bet by bet, exactly, whatever batches they come in.
//!
//! **The rule.** For each bet that it sends, a connection claims a line of `bets.csv`: one that holds just this bet of this
//! agency, and that it has not claimed yet. If there is one, the bet is a repeat: it is stored already. If there is none, the
//! bet is stored as a new line, and the connection has claimed that. In other words, the n-th sending of a bet on a
//! connection is a repeat if the bet is stored n times or more.
//!
//! **Why it is exact.** Let an agency have a bet k times in all. A connection on which it was taken n times has claimed n
//! different lines that hold it.
//!
//! - Nothing is stored too often. A line is added only at the n-th sending on a connection that has claimed n - 1 lines, and
//!   those are all there are. Then there are n, and n is at most k, since no connection is sent more than the agency has.
//! - Nothing is lost. A connection on which the agency has sent all its bets, and was told that each is stored, has claimed
//!   k different lines that hold the bet.
//!
//! Neither depends on batches, their order, other connections (earlier ones or at the same time), or which of them has stored a line;
//! and after a restart of the server all connections are new ones.
//!
//! **While an agency has had one connection only**, all its lines were stored for that connection, which has claimed them
//! all. So whatever it sends is new by the rule: nothing is compared, and nothing is kept but the numbers of the lines,
//! which are its claims. When another connection sends bets of that agency, its lines are read back and put into a table
//! ([`StoredBets::look_up`]). That is so after a restart, too, when the lines in the file count as those of a connection that
//! has ended.
//!
//! **In the table** a line stands under a keyed hash of its bytes and of how many lines before it hold the same: the
//! first copy of a bet, the second, and so on. A connection claims copies in this order, so it has claimed the first n of
//! them, and the next one is found in few steps also if there are thousands. The table gives candidates, and the bytes of
//! each are read from `bets.csv` and compared; copies of the same bet never share a place ([`LineHash::of_copy`]). So no hash
//! decides anything. A bet that is new has a candidate by chance only, once in 2^35 for each line there is.
//!
//! **Only lines on disk answer for others.** If a repeat would claim a line of the round that is being gathered, that round
//! is written first ([`TakeAttempt::WriteFirst`]). So what a failed round takes back was claimed by nobody else.
//!
//! **Memory**: a quarter of a byte for the place of each line; 13 bytes for each line in the table; and what
//! connections have claimed (see [`Claims`](super::Claims)).

use std::io;
use std::ops::Range;

use super::claims::Claimed;
use super::lines::{LineIndex, LinePosition, ReadBets};
use super::table::{HashKey, LineHash, LineTable};

/// How many lines are put into the table at a time.
const LOOK_UP_LINES: usize = 256;

/// The bets in `bets.csv`, and those that the round is about to add.
#[derive(Debug, Default)]
pub struct StoredBets {
    key: HashKey,
    table: LineTable,
    index: LineIndex,
    on_disk: LinePosition,
}

/// A batch that was taken.
#[derive(Debug)]
pub struct TakenBatch {
    /// The lines of the batch that are new.
    pub new: NewLines,
    /// The numbers that those lines get.
    pub lines: Range<u32>,
    /// Hashes of the new lines that are in the table.
    hashes: Vec<LineHash>,
    /// Numbers of the lines that the batch claims for its repeats.
    repeats: Vec<u32>,
}

/// The new lines of a batch.
#[derive(Debug)]
pub enum NewLines {
    /// All lines of the batch.
    All,
    /// These lines.
    Some(Vec<u8>),
}

/// The result of an attempt to take a batch.
#[derive(Debug)]
pub enum TakeAttempt {
    /// Each bet of the batch is stored, or will be with the round.
    Taken(TakenBatch),
    /// A bet of the batch is new, and nothing new is wanted. Nothing was taken.
    New,
    /// There would be more lines than have numbers. Nothing was taken.
    Full,
    /// The batch repeats what is not on disk yet, so the round has to be written first. Nothing was taken.
    WriteFirst,
}

/// The next copy of a bet that a connection may claim.
#[derive(Clone, Copy)]
enum NextCopy {
    /// This line is not claimed.
    Unclaimed(u32),
    /// The connection has claimed all copies; this is their number.
    Missing(u32),
}

/// The lines that a batch adds while it is judged.
struct AddedLines<'a> {
    first: u32,
    lines: Vec<&'a [u8]>,
}

/// What a connection has claimed, and where the lines are.
struct ClaimView<'a, B> {
    /// The claims of the connection; without them, all lines count as claimed.
    claimed: Option<&'a Claimed>,
    /// The lines that the connection claims besides.
    added: &'a AddedLines<'a>,
    bets: &'a B,
}

impl StoredBets {
    /// Returns the position behind the last line.
    pub fn end(&self) -> LinePosition {
        self.index.end()
    }

    /// Adds lines that are on disk and returns their numbers, or `None` if there are too many.
    pub fn add_on_disk(&mut self, lines: u32, bytes: u64) -> Option<Range<u32>> {
        let first = self.end().line;
        let end = first.checked_add(lines)?;
        self.index.push(lines, bytes);
        self.written();
        Some(first..end)
    }

    /// Notes that all lines are on disk.
    pub fn written(&mut self) {
        self.on_disk = self.end();
    }

    /// Puts lines into the table, for other connections than the one that has claimed them all. Returns `false` if some of
    /// them are not on disk yet.
    ///
    /// # Errors
    /// If `bets` cannot be read.
    pub fn look_up(&mut self, claimed: &Claimed, bets: &impl ReadBets) -> io::Result<bool> {
        if claimed.lines().max().is_some_and(|last| last >= self.on_disk.line) {
            return Ok(false);
        }
        let mut lines = claimed.lines().iter().peekable();
        let (mut some, mut texts, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        while lines.peek().is_some() {
            // The processor fetches the places of many lines at the same time.
            for line in lines.by_ref().take(LOOK_UP_LINES) {
                let text = self.index.get(line, bets)?;
                hashes.push(self.key.hash(text));
                texts.extend_from_slice(text);
                some.push((line, texts.len()));
            }
            self.table.prepare(&hashes);
            let mut start = 0;
            for ((line, end), hash) in some.drain(..).zip(hashes.drain(..)) {
                self.put_into_table(line, &texts[start..end], hash, bets)?;
                start = end;
            }
            texts.clear();
        }
        Ok(true)
    }

    fn put_into_table(
        &mut self,
        line: u32,
        text: &[u8],
        hash: LineHash,
        bets: &impl ReadBets,
    ) -> io::Result<()> {
        let added = AddedLines { first: self.end().line, lines: Vec::new() };
        let view = ClaimView { claimed: None, added: &added, bets };
        if let NextCopy::Missing(before) = self.next_copy(text, hash, &view)? {
            self.table.insert(hash.of_copy(before), line);
        }
        Ok(())
    }

    /// Takes a batch of a connection that has claimed all lines of its agency.
    pub fn add_all(&mut self, text: &[u8], bets: u32, claimed: &mut Claimed) -> TakeAttempt {
        let first = self.end().line;
        let Some(end) = first.checked_add(bets) else { return TakeAttempt::Full };
        self.index.push(bets, text.len() as u64);
        claimed.add_range(first..end);
        TakeAttempt::Taken(TakenBatch {
            new: NewLines::All,
            lines: first..end,
            hashes: Vec::new(),
            repeats: Vec::new(),
        })
    }

    /// Takes a batch of an agency whose lines are in the table: all of it or nothing. If `wants_new`, what is new counts as
    /// stored from now on.
    ///
    /// # Errors
    /// If `bets` cannot be read.
    pub fn claim_or_add(
        &mut self,
        text: &[u8],
        claimed: &mut Claimed,
        wants_new: bool,
        bets: &impl ReadBets,
    ) -> io::Result<TakeAttempt> {
        let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').collect();
        let first = self.end().line;
        if lines.len() > (u32::MAX - first) as usize {
            return Ok(TakeAttempt::Full);
        }
        let hashes: Vec<_> = lines.iter().map(|line| self.key.hash(line)).collect();
        self.table.prepare(&hashes);
        let mut taken =
            TakenBatch { new: NewLines::All, lines: first..first, hashes: Vec::new(), repeats: Vec::new() };
        let mut added = AddedLines { first, lines: Vec::new() };
        for (line, hash) in lines.into_iter().zip(hashes) {
            let view = ClaimView { claimed: Some(claimed), added: &added, bets };
            match self.next_copy(line, hash, &view)? {
                NextCopy::Unclaimed(copy) if copy < self.on_disk.line => {
                    claimed.add(copy);
                    taken.repeats.push(copy);
                }
                NextCopy::Missing(before) if wants_new => {
                    let hash = hash.of_copy(before);
                    self.table.insert(hash, taken.lines.end);
                    taken.hashes.push(hash);
                    taken.lines.end += 1;
                    added.lines.push(line);
                }
                copy => {
                    self.take_back(&taken, claimed);
                    let is_new = matches!(copy, NextCopy::Missing(_));
                    return Ok(if is_new { TakeAttempt::New } else { TakeAttempt::WriteFirst });
                }
            }
        }
        claimed.add_range(taken.lines.clone());
        if !taken.repeats.is_empty() {
            taken.new = NewLines::Some(added.lines.concat());
        }
        if !added.lines.is_empty() {
            let bytes = added.lines.iter().map(|line| line.len() as u64).sum();
            self.index.push(taken.lines.len() as u32, bytes);
        }
        Ok(TakeAttempt::Taken(taken))
    }

    /// Finds the first copy of a bet that is not claimed; the claimed ones come before it.
    fn next_copy(
        &mut self,
        text: &[u8],
        hash: LineHash,
        view: &ClaimView<'_, impl ReadBets>,
    ) -> io::Result<NextCopy> {
        // The copies before `from` are claimed; that at `to`, if it is known, is not.
        let (mut from, mut step, mut to) = (0, 1, None);
        loop {
            let at = match to {
                None => from + step - 1,
                Some((to, copy)) if to == from => return Ok(copy),
                Some((to, _)) => from + (to - from) / 2,
            };
            match self.copy(text, hash, at, view)? {
                None => (from, step) = (at + 1, 2 * step),
                Some(copy) => to = Some((at, copy)),
            }
        }
    }

    /// Looks at the copy of a bet that has `before` copies in front; returns `None` if it is claimed.
    fn copy(
        &mut self,
        text: &[u8],
        hash: LineHash,
        before: u32,
        view: &ClaimView<'_, impl ReadBets>,
    ) -> io::Result<Option<NextCopy>> {
        for line in self.table.candidates(hash.of_copy(before)) {
            let own = line.checked_sub(view.added.first).map(|at| view.added.lines[at as usize]);
            let same = match own {
                Some(line) => line == text,
                None => self.index.get(line, view.bets)? == text,
            };
            if same {
                let is_claimed = own.is_some() || view.claimed.is_none_or(|claimed| claimed.contains(line));
                return Ok(if is_claimed { None } else { Some(NextCopy::Unclaimed(line)) });
            }
        }
        Ok(Some(NextCopy::Missing(before)))
    }

    /// Takes back a batch that is not on disk. Once all batches of a round are taken back, [`roll_back`](Self::roll_back)
    /// follows.
    pub fn take_back(&mut self, taken: &TakenBatch, claimed: &mut Claimed) {
        for (hash, line) in taken.hashes.iter().zip(taken.lines.clone()) {
            self.table.remove(*hash, line);
        }
        taken.repeats.iter().for_each(|line| claimed.remove(*line));
        claimed.remove_range(taken.lines.clone());
    }

    /// Forgets the lines that are not on disk.
    pub fn roll_back(&mut self) {
        self.index.truncate(self.on_disk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_lines_than_have_numbers_are_refused() {
        let mut claimed = Claimed::default();
        let mut stored = StoredBets::default();
        assert_eq!(stored.add_on_disk(u32::MAX - 3, 0), Some(0..u32::MAX - 3));
        let (text, file) = (b"1,a\r\n1,b\r\n1,c\r\n1,d\r\n", Vec::new());
        assert!(matches!(stored.add_all(text, 4, &mut claimed), TakeAttempt::Full));
        assert!(matches!(stored.claim_or_add(text, &mut claimed, true, &file).unwrap(), TakeAttempt::Full));
        let three = &text[..15];
        assert!(matches!(
            stored.claim_or_add(three, &mut claimed, true, &file).unwrap(),
            TakeAttempt::Taken(_)
        ));
        assert!(matches!(stored.add_all(&text[..5], 1, &mut claimed), TakeAttempt::Full));
        assert_eq!(stored.add_on_disk(1, 5), None);
    }
}

//! A cursor over all messages of the registry, which needs no memory for each of them.

use std::io;

use journal::{Checksum, Records};
use protocol::store::types::RegistryEntry;
use records::{EntryKey, parse_entry, parse_entry_key};

use super::holdings::Holdings;
use super::state::RegistryState;

/// How many lines are read before other tasks get a turn, unless fewer are wanted.
pub const PAGE_LINES: usize = 500;

/// A part of the registry.
#[derive(Debug, Default)]
pub struct RegistryPage {
    /// The entries of this part that are wanted.
    pub entries: Vec<RegistryEntry>,
    /// The mark from which the next part is read, or `None` at the end.
    pub next: Option<u64>,
}

impl RegistryState {
    /// Reads the next `most` lines from offset `from` on. See [`Registry::page`](super::Registry::page).
    pub fn page(
        &self,
        from: u64,
        most: usize,
        mut is_wanted: impl FnMut(&Holdings, &EntryKey) -> bool,
    ) -> io::Result<RegistryPage> {
        let mut page = RegistryPage::default();
        let mut lines = Records::from(&*self.reader, from, Checksum::Crc32c);
        let mut read = 0;
        for line in lines.by_ref().take(most) {
            let (offset, line) = line?;
            read += 1;
            let Some(line) = line else { continue };
            let key = parse_entry_key(&line);
            // Only the newest line of a message counts.
            let Some(key) = key.filter(|key| self.index.get(key.id.into()) == Some(offset)) else { continue };
            if is_wanted(&self.holdings, &key) {
                page.entries.extend(parse_entry(&line));
            }
        }
        let end = lines.offset();
        // A bad disk can make the last line one without an end. There is nothing more to read then either.
        page.next = (read == most && end < self.bytes()?).then_some(end);
        Ok(page)
    }
}

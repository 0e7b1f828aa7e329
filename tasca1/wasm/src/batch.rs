//! The batch that the host writes into the memory, and the column of text that it reads back.
//!
//! Nothing here is ever freed: an instance of a module lives for one batch.

use std::slice;

/// What the host gives: rows of columns.
pub struct Batch {
    words: *const u32,
}

/// The first word of a column in a batch, and the words of each column.
const FIRST_COLUMN: usize = 2;
const COLUMN_WORDS: usize = 4;

impl Batch {
    /// The batch at an address.
    ///
    /// # Safety
    /// The host must have written a batch there.
    pub unsafe fn at(words: *const u32) -> Self {
        Self { words }
    }

    fn word(&self, index: usize) -> u32 {
        // The host has written the header and all columns.
        unsafe { *self.words.add(index) }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.word(0) as usize
    }

    /// The text in a column of text; `None` if it is missing.
    pub fn text(&self, column: usize, row: usize) -> Option<&str> {
        let [_kind, present, offsets, text] =
            [0, 1, 2, 3].map(|field| self.word(FIRST_COLUMN + COLUMN_WORDS * column + field));
        // The host has written a byte and an offset for each row, one more offset, and the text, which is UTF-8.
        unsafe {
            if *(present as *const u8).add(row) == 0 {
                return None;
            }
            let offsets = offsets as *const u32;
            let (start, end) = (*offsets.add(row), *offsets.add(row + 1));
            let bytes = slice::from_raw_parts((text + start) as *const u8, (end - start) as usize);
            Some(std::str::from_utf8_unchecked(bytes))
        }
    }
}

/// A result of texts.
pub struct TextColumn {
    present: Vec<u8>,
    offsets: Vec<u32>,
    text: Vec<u8>,
}

impl Default for TextColumn {
    fn default() -> Self {
        Self { present: Vec::new(), offsets: vec![0], text: Vec::new() }
    }
}

impl TextColumn {
    /// Adds a row.
    pub fn push(&mut self, text: Option<&str>) {
        self.present.push(u8::from(text.is_some()));
        self.text.extend_from_slice(text.unwrap_or_default().as_bytes());
        self.offsets.push(self.text.len() as u32);
    }

    /// The address of the result, for the host.
    pub fn give(self) -> *const u32 {
        let rows = self.present.len() as u32;
        let [present, text] = [self.present, self.text].map(|bytes| bytes.leak().as_ptr() as u32);
        let offsets = self.offsets.leak().as_ptr() as u32;
        Box::leak(Box::new([rows, present, offsets, text])).as_ptr()
    }
}

/// Gives the host the address of so many bytes, a multiple of 8.
#[no_mangle]
pub extern "C" fn alloc(bytes: usize) -> *const u64 {
    Vec::with_capacity((bytes + 7) / 8).leak().as_ptr()
}

//! The lines of a part of a file.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use dataframe_jobs::message::FileRange;

use super::file_bytes::{FileBytes, FileState};

/// How much is read at a time to find the first line.
const SKIP_BYTES: usize = 4 << 10;

/// Reads the lines that belong to a part of a file: those that begin at its start or later, up to the line that holds its last byte.
/// These are DataFusion's rules.
#[derive(Debug)]
pub(super) struct PartLines {
    file: FileBytes,
    /// Where the next byte is in the file.
    position: u64,
    /// Where the part ends.
    end: u64,
    /// Where the file ends.
    size: u64,
    has_ended: bool,
}

impl PartLines {
    /// Opens the file at the first line of the part.
    pub(super) fn open(file: &FileState, part: &FileRange) -> io::Result<Self> {
        let mut file = file.open()?;
        let mut position = part.start;
        let mut has_ended = part.start >= part.end || part.start >= part.size;
        if part.start > 0 && !has_ended {
            // A line begins at the start if a newline stands before it.
            position -= 1;
            file.seek(SeekFrom::Start(position))?;
            position += BufReader::with_capacity(SKIP_BYTES, &mut file).skip_until(b'\n')? as u64;
            has_ended = position >= part.end;
            file.seek(SeekFrom::Start(position))?;
        }
        Ok(Self { file, position, end: part.end, size: part.size, has_ended })
    }

    /// Fills the buffer, unless the part ends before. Returns the number of bytes, which is 0 at the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file has become shorter.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && !self.has_ended {
            let left = usize::try_from(self.size.saturating_sub(self.position)).unwrap_or(usize::MAX);
            let wanted = left.min(buffer.len() - filled);
            if wanted == 0 {
                self.has_ended = true;
                break;
            }
            let piece = &mut buffer[filled..filled + wanted];
            let read = match self.file.read(piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            filled += self.take(&piece[..read]);
        }
        Ok(filled)
    }

    /// Returns how much of a piece, which has just been read, belongs to the part.
    fn take(&mut self, piece: &[u8]) -> usize {
        let begin = self.position;
        self.position += piece.len() as u64;
        if self.position < self.end || self.end >= self.size {
            return piece.len();
        }
        // The line that holds the last byte of the part ends with the first newline at that byte or behind it.
        let last = usize::try_from((self.end - 1).saturating_sub(begin)).unwrap_or(usize::MAX);
        match memchr::memchr(b'\n', &piece[last..]) {
            Some(newline) => {
                self.has_ended = true;
                last + newline + 1
            }
            None => piece.len(),
        }
    }
}

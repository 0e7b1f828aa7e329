//! The end of a file.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// The most bytes of a file that one answer holds.
pub const MAX_BYTES: u64 = 64 * 1024;

/// Returns the last [`MAX_BYTES`] of a file, from the beginning of a line on.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(MAX_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    if start > 0 {
        // A single line that is longer than the answer has no beginning in it.
        let line = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes.drain(..line);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_file_begins_with_a_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registro_server.txt");
        let tail_of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            String::from_utf8(tail(&path).unwrap()).unwrap()
        };
        assert_eq!(tail_of(""), "");
        assert_eq!(tail_of("uno\ndos"), "uno\ndos");
        let line = format!("{}\n", "x".repeat(99));
        assert_eq!(tail_of(&line.repeat(1000)), line.repeat(655), "655 lines of 100 bytes fit");
        let longest = "y".repeat(100_000);
        assert_eq!(tail_of(&longest).len(), 65_536);
    }
}

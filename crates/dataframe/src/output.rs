//! Results, as text or bytes.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::Path;

use anyhow::{Context as _, bail};
use dataframe_engine::{Frame, OutputFormat};
use dataframe_jobs::operation::Operation;

use crate::arguments::ResultFormat;
use crate::language::value::SavedFormat;
use crate::place::FrameRows;

/// The rows of a table that are shown on a terminal.
const SHOWN_ROWS: usize = 60;

/// Writes results to standard output.
#[derive(Debug, Clone, Copy)]
pub struct ResultPrinter {
    format: ResultFormat,
}

impl ResultPrinter {
    /// Returns a writer of a format; if none is given, it is a table on a terminal, and CSV elsewhere.
    ///
    /// # Errors
    /// Fails if bytes would be written to a terminal.
    pub fn new(format: Option<ResultFormat>) -> anyhow::Result<Self> {
        let on_terminal = io::stdout().is_terminal();
        let format = format.unwrap_or(if on_terminal { ResultFormat::Table } else { ResultFormat::Csv });
        if on_terminal && matches!(format, ResultFormat::Parquet | ResultFormat::Arrow) {
            bail!("this format is not for a terminal: write `> FILE` behind the command");
        }
        Ok(Self { format })
    }

    /// Writes the result of operations.
    ///
    /// # Errors
    /// Fails if standard output does, unless its reader is gone.
    pub fn write(&self, operations: &[Operation], rows: FrameRows) -> anyhow::Result<()> {
        let format = match self.format {
            ResultFormat::Table => OutputFormat::Table { rows: SHOWN_ROWS },
            ResultFormat::Csv => OutputFormat::Csv,
            ResultFormat::Json => OutputFormat::Json,
            ResultFormat::Parquet => OutputFormat::Parquet,
            ResultFormat::Arrow => OutputFormat::Arrow,
        };
        let by_column = matches!(operations.last(), Some(Operation::Items {}));
        if by_column && !matches!(format, OutputFormat::Parquet | OutputFormat::Arrow) {
            let mut bytes = Vec::new();
            write_items(&rows.into_frame()?, format, &mut bytes)?;
            return print(&bytes);
        }
        let mut stdout = BufWriter::new(WhileRead { to: io::stdout(), is_closed: false });
        rows.write(format, &mut stdout)?;
        stdout.flush().context("standard output cannot be written")
    }
}

/// Takes what is written while there is a reader. A reader that is gone, such as `head`, is no error.
struct WhileRead<W> {
    to: W,
    is_closed: bool,
}

impl<W: Write> WhileRead<W> {
    fn unless_closed<T>(&mut self, done: io::Result<T>, otherwise: T) -> io::Result<T> {
        match done {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(otherwise)
            }
            done => done,
        }
    }
}

impl<W: Write> Write for WhileRead<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_closed {
            return Ok(bytes.len());
        }
        let written = self.to.write(bytes);
        self.unless_closed(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_closed {
            return Ok(());
        }
        let flushed = self.to.flush();
        self.unless_closed(flushed, ())
    }
}

/// Writes text to standard output. A reader that is gone, such as `head`, is no error.
///
/// # Errors
/// Fails if standard output does.
pub fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output cannot be written"),
    }
}

/// Writes one column after the other, each below its name, which is the column's headline.
///
/// # Errors
/// Fails if a column cannot be written in the format.
pub fn write_items(frame: &Frame, format: OutputFormat, to: &mut Vec<u8>) -> anyhow::Result<()> {
    for (number, (_, column)) in frame.items().enumerate() {
        if number > 0 && format != OutputFormat::Json {
            to.push(b'\n');
        }
        column.write(format, to)?;
    }
    Ok(())
}

/// Writes a frame into a file. The file appears when it is whole.
///
/// # Errors
/// Fails if the file cannot be written.
pub fn save(rows: FrameRows, path: &Path, format: SavedFormat) -> anyhow::Result<()> {
    let format = match format {
        SavedFormat::Csv => OutputFormat::Csv,
        SavedFormat::Parquet => OutputFormat::Parquet,
    };
    let cannot = || format!("{} cannot be written", path.display());
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    let partial = Path::new(&partial);
    let mut file = BufWriter::new(File::create(partial).with_context(cannot)?);
    let written = rows.write(format, &mut file).map_err(anyhow::Error::from).and_then(|()| Ok(file.flush()?));
    if let Err(error) = written {
        // The first error is the one to report.
        let _ = std::fs::remove_file(partial);
        return Err(error).with_context(cannot);
    }
    std::fs::rename(partial, path).with_context(cannot)
}

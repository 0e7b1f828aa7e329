//! Which bytes of which files a partition reads.

use dataframe_jobs::message::FileRange;
use dataframe_jobs::operation::Compression;

use super::dialect::Dialect;
use super::files::CsvFile;
use super::inspection::{Inspection, boundaries};
use crate::error::FrameError;

/// How files are cut into partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileCut {
    /// About equal partitions: small files lie together in one, large files are cut.
    Even {
        /// How many partitions are wished for.
        partitions: usize,
        /// A partition is not much smaller, in bytes, and a smaller file is not cut.
        min_bytes: u64,
        /// A partition is not much larger, in bytes, unless it is one compressed file.
        max_bytes: u64,
    },
    /// Partitions of this many bytes, none of them with parts of two files, as Dask makes them.
    Blocks {
        /// Size of a partition in bytes.
        bytes: u64,
        /// Which of them are read.
        keep: KeptBlocks,
    },
}

impl FileCut {
    /// All files lie in one partition, and none is cut.
    pub const WHOLE_FILES: Self = Self::Even { partitions: 1, min_bytes: 1, max_bytes: u64::MAX };

    /// Even partitions of 16 to 512 MiB.
    pub fn even(partitions: usize) -> Self {
        Self::Even { partitions, min_bytes: 16 << 20, max_bytes: 512 << 20 }
    }
}

/// Which blocks are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptBlocks {
    /// All.
    All,
    /// This many at the beginning.
    First(usize),
    /// This many at the end.
    Last(usize),
}

/// The files, or parts of files, of a partition, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvPartition {
    /// What it reads. A compressed file is one range over all its bytes.
    pub files: Vec<FileRange>,
    /// The only worker that has the files; absent where all reach them.
    pub worker: Option<String>,
}

/// The partitions, and whether a cut relies on a sample without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CutFiles {
    pub(super) partitions: Vec<CsvPartition>,
    pub(super) watch_quotes: bool,
}

/// Cuts the files of an inspection. Files with quotes are looked through for the beginnings of records.
pub(super) fn cut_files(inspection: &Inspection, cut: FileCut) -> Result<CutFiles, FrameError> {
    let mut cutter = Cutter {
        dialect: Dialect::new(&inspection.options)?,
        quotes: inspection.quotes,
        watch_quotes: false,
        partitions: Vec::new(),
    };
    match cut {
        FileCut::Even { partitions, min_bytes, max_bytes } => {
            cutter.cut_evenly(&inspection.files, partitions, min_bytes, max_bytes)?;
        }
        FileCut::Blocks { bytes, keep } => cutter.cut_blocks(&inspection.files, bytes.max(1), keep)?,
    }
    if cutter.partitions.is_empty() {
        cutter.partitions.push(CsvPartition { files: Vec::new(), worker: None });
    }
    Ok(CutFiles { partitions: cutter.partitions, watch_quotes: cutter.watch_quotes })
}

struct Cutter {
    dialect: Dialect,
    quotes: bool,
    watch_quotes: bool,
    partitions: Vec<CsvPartition>,
}

impl Cutter {
    fn cut_evenly(&mut self, files: &[CsvFile], wished: usize, min: u64, max: u64) -> Result<(), FrameError> {
        let total: u64 = files.iter().map(|file| file.size).sum();
        let wished = u64::try_from(wished.max(1)).unwrap_or(u64::MAX);
        let count = wished.min(total / min.max(1)).max(total.div_ceil(max.max(1))).max(1);
        for run in files.chunk_by(|one, other| one.worker == other.worker) {
            let bytes: u64 = run.iter().map(|file| file.size).sum();
            let share = u128::from(count) * u128::from(bytes) / u128::from(total.max(1));
            self.cut_run(run, bytes, u64::try_from(share).unwrap_or(u64::MAX).max(1), min)?;
        }
        Ok(())
    }

    /// Lays the files end to end, and cuts the whole into `count` equal parts. A file of less than `min` bytes is not cut.
    fn cut_run(&mut self, files: &[CsvFile], bytes: u64, count: u64, min: u64) -> Result<(), FrameError> {
        let part_of = |position: u64| {
            u64::try_from(u128::from(position) * u128::from(count) / u128::from(bytes.max(1)))
                .unwrap_or(u64::MAX)
        };
        let border = |part: u64| {
            u64::try_from((u128::from(bytes) * u128::from(part)).div_ceil(u128::from(count)))
                .unwrap_or(u64::MAX)
        };
        let mut position = 0;
        let mut open_part = None;
        for file in files.iter().filter(|file| file.size > 0) {
            let end = position + file.size;
            let targets: Vec<u64> = if file.compression == Compression::None && file.size >= min.max(2) {
                let borders = (part_of(position) + 1..=part_of(end - 1)).map(border);
                borders.filter(|at| *at > position && *at < end).map(|at| at - position).collect()
            } else {
                Vec::new()
            };
            let ranges = self.ranges(file, &targets)?;
            let uncut_part = part_of(position + file.size / 2);
            for range in &ranges {
                let part = if ranges.len() > 1 { part_of(position + range.start) } else { uncut_part };
                self.put(file, range.clone(), open_part == Some(part));
                open_part = Some(part);
            }
            position = end;
        }
        Ok(())
    }

    fn put(&mut self, file: &CsvFile, range: FileRange, in_last: bool) {
        match self.partitions.last_mut() {
            Some(last) if in_last => last.files.push(range),
            _ => self.partitions.push(CsvPartition { files: vec![range], worker: file.worker.clone() }),
        }
    }

    fn cut_blocks(&mut self, files: &[CsvFile], bytes: u64, keep: KeptBlocks) -> Result<(), FrameError> {
        for file in files.iter().filter(|file| file.size > 0) {
            let blocks = if file.compression == Compression::None { file.size.div_ceil(bytes) } else { 1 };
            // Only the cuts that the kept blocks have: a file may have as many blocks as bytes.
            let as_count = |blocks: usize| u64::try_from(blocks).unwrap_or(u64::MAX);
            let cuts = match keep {
                KeptBlocks::First(first) if self.partitions.len() >= first => break,
                KeptBlocks::First(first) => {
                    1..blocks.min(as_count(first - self.partitions.len()).saturating_add(1))
                }
                KeptBlocks::Last(last) => blocks.saturating_sub(as_count(last)).max(1)..blocks,
                KeptBlocks::All => 1..blocks,
            };
            let targets: Vec<u64> = cuts.map(|block| block * bytes).collect();
            for range in self.ranges(file, &targets)? {
                self.put(file, range, false);
            }
        }
        match keep {
            KeptBlocks::All => {}
            KeptBlocks::First(first) => self.partitions.truncate(first),
            KeptBlocks::Last(last) => {
                let before = self.partitions.len().saturating_sub(last);
                self.partitions.drain(..before);
            }
        }
        Ok(())
    }

    /// The parts of a file that is cut near these places.
    fn ranges(&mut self, file: &CsvFile, targets: &[u64]) -> Result<Vec<FileRange>, FrameError> {
        let mut cuts = if targets.is_empty() || !self.quotes {
            targets.to_vec()
        } else if !file.boundaries.is_empty() {
            let after = |target: &u64| file.boundaries.iter().copied().find(|boundary| boundary >= target);
            targets.iter().filter_map(after).collect()
        } else if file.worker.is_none() {
            boundaries(file, self.dialect, targets)?
        } else {
            // Nobody here can look into the file.
            Vec::new()
        };
        cuts.dedup();
        cuts.retain(|at| *at > 0 && *at < file.size);
        self.watch_quotes |= !cuts.is_empty() && !self.quotes;
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain(std::iter::once(file.size));
        let range = |(start, end)| FileRange {
            path: file.path.clone(),
            start,
            end,
            size: file.size,
            modified_ns: file.modified_ns,
        };
        Ok(starts.zip(ends).map(range).collect())
    }
}

#[cfg(test)]
mod tests {
    use dataframe_jobs::operation::CsvOptions;

    use super::*;

    fn file(path: &str, size: u64, compression: Compression, worker: Option<&str>) -> CsvFile {
        CsvFile {
            path: path.to_owned(),
            size,
            modified_ns: 0,
            e_tag: None,
            compression,
            worker: worker.map(str::to_owned),
            order: Vec::new(),
            boundaries: Vec::new(),
        }
    }

    fn cut(files: Vec<CsvFile>, cut: FileCut) -> Vec<String> {
        let options = CsvOptions::default();
        let inspection = Inspection { files, columns: Vec::new(), options, quotes: false };
        let shown = |partition: &CsvPartition| {
            let ranges =
                partition.files.iter().map(|range| format!("{}{}-{}", range.path, range.start, range.end));
            ranges.collect::<Vec<_>>().join(" ")
        };
        cut_files(&inspection, cut).unwrap().partitions.iter().map(shown).collect()
    }

    fn plain(path: &str, size: u64) -> CsvFile {
        file(path, size, Compression::None, None)
    }

    #[test]
    fn a_large_file_is_cut_and_small_files_lie_together() {
        let even = |partitions| FileCut::Even { partitions, min_bytes: 16, max_bytes: 512 };
        assert_eq!(cut(vec![plain("a", 100)], even(4)), ["a0-25", "a25-50", "a50-75", "a75-100"]);
        assert_eq!(cut(vec![plain("a", 20)], even(4)), ["a0-20"]);
        assert_eq!(cut(vec![plain("a", 2000)], even(1)).len(), 4);
        let small = (0..8).map(|n| plain(["a", "b", "c", "d", "e", "f", "g", "h"][n], 8)).collect();
        assert_eq!(cut(small, even(2)), ["a0-8 b0-8 c0-8 d0-8", "e0-8 f0-8 g0-8 h0-8"]);
        assert_eq!(cut(vec![plain("a", 0)], even(2)), [""]);
    }

    #[test]
    fn compressed_files_and_files_of_workers_stay_together() {
        let even = FileCut::Even { partitions: 4, min_bytes: 1, max_bytes: 512 };
        assert_eq!(cut(vec![file("a", 100, Compression::Gzip, None)], even), ["a0-100"]);
        let workers =
            vec![file("a", 10, Compression::None, Some("w1")), file("b", 10, Compression::None, Some("w2"))];
        let one = FileCut::Even { partitions: 1, min_bytes: 100, max_bytes: 512 };
        assert_eq!(cut(workers, one), ["a0-10", "b0-10"]);
    }

    #[test]
    fn blocks_are_those_of_dask() {
        let blocks = |keep| FileCut::Blocks { bytes: 40, keep };
        let files = || vec![plain("a", 100), plain("b", 10)];
        assert_eq!(cut(files(), blocks(KeptBlocks::All)), ["a0-40", "a40-80", "a80-100", "b0-10"]);
        assert_eq!(cut(files(), blocks(KeptBlocks::First(1))), ["a0-40"]);
        assert_eq!(cut(files(), blocks(KeptBlocks::First(4))), ["a0-40", "a40-80", "a80-100", "b0-10"]);
        assert_eq!(cut(files(), blocks(KeptBlocks::Last(2))), ["a80-100", "b0-10"]);
        // Nobody lists the blocks that are not kept.
        let large = |keep| cut(vec![plain("a", 1 << 50)], FileCut::Blocks { bytes: 1, keep });
        assert_eq!(large(KeptBlocks::First(2)), ["a0-1", "a1-2"]);
        assert_eq!(large(KeptBlocks::Last(1)), ["a1125899906842623-1125899906842624"]);
    }
}

//! What one seed has shown, as a line that another process reads, and the sum over many seeds.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::check::MachineFiles;
use crate::marks::{self, Marks};

/// The beginning of the line with a report.
pub const REPORT: &str = "simulated: ";

/// What one seed has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedReport {
    /// The seed.
    pub seed: u64,
    /// A checksum of all files of all machines.
    pub files_crc32c: u32,
    /// How many acknowledgements clients were given.
    pub acknowledged: u64,
    /// How often each mark was set.
    pub marks: BTreeMap<String, u64>,
}

impl SeedReport {
    pub(crate) fn new(seed: u64, files: &MachineFiles, marks: &Marks, acknowledged: u64) -> Self {
        let mut files_crc32c = 0;
        for (path, bytes) in files.values().flatten() {
            files_crc32c = crc32c::crc32c_append(files_crc32c, path.as_os_str().as_encoded_bytes());
            files_crc32c = crc32c::crc32c_append(files_crc32c, bytes);
        }
        let marks = marks.iter().map(|(mark, count)| ((*mark).to_owned(), *count)).collect();
        Self { seed, files_crc32c, acknowledged, marks }
    }

    /// Returns the report in the output of a process that has simulated one seed.
    #[must_use]
    pub fn in_output(output: &str) -> Option<Self> {
        let (_, json) = output.lines().find_map(|line| line.split_once(REPORT))?;
        serde_json::from_str(json).ok()
    }
}

impl fmt::Display for SeedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{REPORT}{}", serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// What many seeds have shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TotalReport {
    /// The number of seeds.
    pub seeds: u64,
    /// How many acknowledgements clients were given.
    pub acknowledged: u64,
    /// The number of seeds that were run twice, with the same files and marks.
    pub repeated: u64,
    seeds_with: BTreeMap<String, u64>,
}

impl TotalReport {
    /// Adds one seed.
    pub fn add(&mut self, report: &SeedReport) {
        self.seeds += 1;
        self.acknowledged += report.acknowledged;
        for mark in report.marks.keys() {
            *self.seeds_with.entry(mark.clone()).or_default() += 1;
        }
    }

    /// Returns the marks that no seed has set.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        marks::all().filter(|mark| !self.seeds_with.contains_key(*mark)).collect()
    }
}

impl fmt::Display for TotalReport {
    /// Writes the number of seeds with each mark.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, acknowledged, repeated, .. } = self;
        writeln!(f, "{seeds} seeds, {acknowledged} acknowledgements, {repeated} seeds run twice")?;
        let mut sorted: Vec<_> = marks::all().collect();
        sorted.sort_unstable();
        for mark in sorted {
            writeln!(f, "{:>9}  {mark}", self.seeds_with.get(mark).copied().unwrap_or(0))?;
        }
        Ok(())
    }
}

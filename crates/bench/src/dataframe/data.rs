//! The files that DataFrames are measured on, made from a seed.
//!
//! | file | shape |
//! | --- | --- |
//! | `h2o.csv` | the one of h2o's benchmark of database-like operations (G1, K = 100): six keys and three values, groups of 100 and of a hundredth of the rows |
//! | `stations.csv` | the one of the one-billion-row challenge: a station's name and a temperature, here with a comma and a header |
//!
//! Sources: <https://github.com/h2oai/db-benchmark> (`_data/groupby-datagen.R`) and <https://github.com/gunnarmorling/1brc>.
//! A seed gives the same bytes again for as long as `Cargo.lock` names the same version of `rand`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Number of different values of the small keys of h2o's shape.
const SMALL_GROUPS: u64 = 100;
/// Number of weather stations, as in the challenge's own list.
const STATIONS: u64 = 413;

/// The two files.
#[derive(Debug, Clone)]
pub struct DataFiles {
    pub h2o: PathBuf,
    pub stations: PathBuf,
}

impl DataFiles {
    /// Returns the files for a number of rows in `dir`. Their names have the number and the seed, so that a file that is there
    /// needs not be made again.
    pub fn make(dir: &Path, rows: u64, seed: u64) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let file = |shape: &str| dir.join(format!("{shape}-{rows}-{seed}.csv"));
        let files = Self { h2o: file("h2o"), stations: file("stations") };
        write_once(&files.h2o, |out| h2o(out, rows, seed))?;
        write_once(&files.stations, |out| stations(out, rows, seed))?;
        Ok(files)
    }
}

type Output = BufWriter<File>;

fn write_once(path: &Path, write: impl FnOnce(&mut Output) -> std::io::Result<()>) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let cannot = || format!("cannot write {}", path.display());
    let unfinished = path.with_extension("unfinished");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&unfinished).with_context(cannot)?);
    write(&mut out).and_then(|()| out.flush()).with_context(cannot)?;
    std::fs::rename(&unfinished, path).with_context(cannot)
}

fn h2o(out: &mut Output, rows: u64, seed: u64) -> std::io::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let large_groups = (rows / SMALL_GROUPS).max(1);
    writeln!(out, "id1,id2,id3,id4,id5,id6,v1,v2,v3")?;
    for _ in 0..rows {
        let mut below = |groups: u64| random.random_range(1..=groups);
        let (id1, id2, id3) = (below(SMALL_GROUPS), below(SMALL_GROUPS), below(large_groups));
        let (id4, id5, id6) = (below(SMALL_GROUPS), below(SMALL_GROUPS), below(large_groups));
        let (v1, v2) = (below(5), below(15));
        let v3 = random.random_range(0..100_000_000_u64);
        let (whole, millionths) = (v3 / 1_000_000, v3 % 1_000_000);
        writeln!(
            out,
            "id{id1:03},id{id2:03},id{id3:010},{id4},{id5},{id6},{v1},{v2},{whole}.{millionths:06}"
        )?;
    }
    Ok(())
}

fn stations(out: &mut Output, rows: u64, seed: u64) -> std::io::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    // Names of 3 to 26 bytes, as those of the challenge. A station has a mean, and its measurements lie around that.
    let stations: Vec<_> = (0..STATIONS)
        .map(|number| {
            let length = random.random_range(0..=20);
            let name: String = (0..length).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect();
            (format!("S{number}{name}"), random.random_range(-150..=350_i32))
        })
        .collect();
    writeln!(out, "station,temperature")?;
    for _ in 0..rows {
        let (name, mean) = &stations[random.random_range(0..stations.len())];
        let tenths: i32 = mean + (0..4).map(|_| random.random_range(-80..=80_i32)).sum::<i32>();
        let sign = if tenths < 0 { "-" } else { "" };
        writeln!(out, "{name},{sign}{}.{}", tenths.abs() / 10, tenths.abs() % 10)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_files_again() {
        let [one, two, other] = std::array::from_fn(|_| tempfile::tempdir().expect("a folder"));
        let bytes = |dir: &Path, seed| {
            let files = DataFiles::make(dir, 1000, seed).expect("the files are made");
            [files.h2o, files.stations].map(|path| std::fs::read_to_string(path).expect("a file"))
        };
        let first = bytes(one.path(), 1);
        assert_eq!(first, bytes(two.path(), 1));
        assert_ne!(first, bytes(other.path(), 2));
        for text in &first {
            assert_eq!(text.lines().count(), 1001);
            let columns = text.lines().next().map(|line| line.split(',').count());
            assert!(text.lines().all(|line| Some(line.split(',').count()) == columns));
        }
    }
}

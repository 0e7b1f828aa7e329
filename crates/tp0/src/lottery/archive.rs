//! Moves the files of a lottery to a folder of their own, so that a new one begins.
//!
//! The files gather in `sorteos/incompleto/`, which gets its final name when all are there. `lottery.journal` goes first:
//! without that file no server takes the others for a lottery. After a crash the next call finishes what was begun.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use journal::JournalFile;

use super::store::{BETS_FILE, JOURNAL_FILE, LotteryFiles, WINNERS_FILE};
use crate::action_log::{ActionLog, action};

/// The folder of earlier lotteries, in the data folder.
pub const ARCHIVE_FOLDER: &str = "sorteos";
const UNFINISHED_FOLDER: &str = "incompleto";
/// The files, in the order in which they are moved.
const NAMES: [&str; 3] = [JOURNAL_FILE, BETS_FILE, WINNERS_FILE];

/// Which lottery is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ArchiveWhich {
    /// One whose draw has been held
    Drawn,
    /// Whatever lies there
    Any,
}

/// Moves the lotteries that `which` names, and writes an action line with the new folder of each.
///
/// # Errors
/// If a server uses the files, or they cannot be read or moved.
pub fn run(folder: &Path, which: ArchiveWhich, log: &ActionLog) -> anyhow::Result<()> {
    // The first one may be what an earlier call has begun.
    while let Some(moved) = archive(folder, which, Utc::now())? {
        action!(log, INFO, "sorteo_archivado", "success", carpeta = %moved.display());
    }
    Ok(())
}

/// Moves one lottery: returns its new folder as seen from `folder`, or `None` if nothing is to be moved.
fn archive(folder: &Path, which: ArchiveWhich, now: DateTime<Utc>) -> anyhow::Result<Option<PathBuf>> {
    let unfinished = folder.join(ARCHIVE_FOLDER).join(UNFINISHED_FOLDER);
    let told = || format!("cannot move the lottery in {} to {}", folder.display(), unfinished.display());
    if holds_files(&unfinished) {
        // A journal that is there again is that of a new lottery.
        if !folder.join(JOURNAL_FILE).exists() {
            move_files(folder, &unfinished).with_context(told)?;
        }
        return finish(folder, &unfinished, now).with_context(told).map(Some);
    }
    let is_wanted = match which {
        ArchiveWhich::Drawn => is_drawn(folder)?,
        ArchiveWhich::Any => holds_files(folder),
    };
    if !is_wanted {
        return Ok(None);
    }
    // The locks fail while a server runs, and keep one from starting.
    let _locked =
        [JournalFile::open(&folder.join(BETS_FILE))?, JournalFile::open(&folder.join(JOURNAL_FILE))?];
    fs::create_dir_all(&unfinished).and_then(|()| sync(folder)).with_context(told)?;
    move_files(folder, &unfinished).with_context(told)?;
    finish(folder, &unfinished, now).with_context(told).map(Some)
}

fn holds_files(folder: &Path) -> bool {
    NAMES.iter().any(|name| folder.join(name).exists())
}

fn is_drawn(folder: &Path) -> anyhow::Result<bool> {
    // Opening would create missing files.
    if !folder.join(JOURNAL_FILE).exists() {
        return Ok(false);
    }
    let (_files, contents) = LotteryFiles::open(folder)?;
    Ok(contents.draw.is_some())
}

/// Moves each file that has not been moved yet. Each is in its new place, also on disk, before the next one follows.
fn move_files(from: &Path, to: &Path) -> io::Result<()> {
    for name in NAMES {
        if to.join(name).exists() {
            continue;
        }
        match fs::rename(from.join(name), to.join(name)) {
            Ok(()) => sync(to).and_then(|()| sync(from))?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Names the folder after the time, with a number behind that if the name is taken.
fn finish(folder: &Path, unfinished: &Path, now: DateTime<Utc>) -> io::Result<PathBuf> {
    let time = now.format("%Y-%m-%d_%H-%M-%S").to_string();
    let mut name = Path::new(ARCHIVE_FOLDER).join(&time);
    for number in 2_u64.. {
        match fs::rename(unfinished, folder.join(&name)) {
            Ok(()) => break,
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty) => {
                name = Path::new(ARCHIVE_FOLDER).join(format!("{time}-{number}"));
            }
            Err(error) => return Err(error),
        }
    }
    sync(&folder.join(ARCHIVE_FOLDER))?;
    Ok(name)
}

/// Writes the names in a folder to disk.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-21T09:30:00Z".parse().unwrap()
    }

    /// Makes a folder with these files, each of which holds its name.
    fn with_files(folder: &Path, names: &[&str]) {
        fs::create_dir_all(folder).unwrap();
        for name in names {
            fs::write(folder.join(name), format!("{name}\n")).unwrap();
        }
    }

    fn held(folder: &Path) -> Vec<&'static str> {
        let there =
            |name: &&str| fs::read_to_string(folder.join(name)).is_ok_and(|text| text == format!("{name}\n"));
        NAMES.into_iter().filter(there).collect()
    }

    #[test]
    fn a_crash_after_any_step_is_finished_by_the_next_call() {
        for moved in 0..=NAMES.len() {
            let folder = tempfile::tempdir().unwrap();
            with_files(folder.path(), &NAMES[moved..]);
            with_files(&folder.path().join("sorteos/incompleto"), &NAMES[..moved]);
            let name = archive(folder.path(), ArchiveWhich::Any, now()).unwrap().unwrap();
            assert_eq!(name, Path::new("sorteos/2026-11-21_09-30-00"));
            assert_eq!((held(&folder.path().join(name)), held(folder.path())), (NAMES.to_vec(), vec![]));
            assert_eq!(archive(folder.path(), ArchiveWhich::Any, now()).unwrap(), None);
            assert!(!folder.path().join("sorteos/incompleto").exists());
        }
    }

    #[test]
    fn a_lottery_that_began_after_a_crash_is_not_mixed_with_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let before = [JOURNAL_FILE, BETS_FILE];
        with_files(&folder.path().join("sorteos/incompleto"), &before);
        with_files(folder.path(), &NAMES);
        let first = archive(folder.path(), ArchiveWhich::Any, now()).unwrap().unwrap();
        assert_eq!(
            (held(&folder.path().join(first)), held(folder.path())),
            (before.to_vec(), NAMES.to_vec())
        );
        let second = archive(folder.path(), ArchiveWhich::Any, now()).unwrap().unwrap();
        assert_eq!(second, Path::new("sorteos/2026-11-21_09-30-00-2"));
        assert_eq!(held(&folder.path().join(second)), NAMES);
    }

    #[test]
    fn nothing_is_made_where_no_lottery_is() {
        let folder = tempfile::tempdir().unwrap();
        for which in [ArchiveWhich::Drawn, ArchiveWhich::Any] {
            assert_eq!(archive(folder.path(), which, now()).unwrap(), None);
            assert_eq!(archive(&folder.path().join("missing"), which, now()).unwrap(), None);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

//! The file `registro_server.state`, which records whether the registry contains everything that was acknowledged.
//!
//! Lines of the registry are written before the client gets its reply, and synced later. They survive the end of the
//! headnode, but not that of the machine. So a registry is complete at a start if two things hold. First, the previous
//! run closed it properly, or the machine has not been restarted since. Second, the registry was complete in the
//! previous run, and that run led in the same epoch: otherwise another headnode may have led meanwhile. The file holds one
//! JSON object:
//!
//! ```json
//! {"boot":"d3c1…","created_ns":1795253400123456789,"bytes":4711,"closed":false,"complete":true,"epoch":"3:01JD…"}
//! ```
//!
//! The time of creation and the length reveal a registry that was removed, restored from a copy, or cut.

use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use journal::disk::{Disk, replace};
use protocol::store::types::Epoch;
use serde::{Deserialize, Serialize};

const SUFFIX: &str = "state";

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct CompletenessNote {
    /// The identifier of the machine's present start.
    boot: String,
    /// When the registry was created, in nanoseconds since 1970, if the file system records that.
    created_ns: Option<u64>,
    /// The length of the registry at the end of the last round of the heartbeat, in bytes.
    bytes: u64,
    /// Whether the registry was synced and closed.
    closed: bool,
    /// Whether the registry lacked nothing.
    complete: bool,
    /// The epoch in which the headnode led. Earlier versions wrote none, and had no second headnode.
    #[serde(default)]
    epoch: Option<Epoch>,
}

impl CompletenessNote {
    /// Returns the note of a registry of `bytes` bytes that may lack anything.
    fn of(disk: &Disk, registry: &Path, bytes: u64, boot: String, epoch: Epoch) -> io::Result<Self> {
        let created = disk.created(registry)?.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let created_ns = created.and_then(|time| u64::try_from(time.as_nanos()).ok());
        Ok(Self { boot, created_ns, bytes, closed: false, complete: false, epoch: Some(epoch) })
    }

    /// Returns whether nothing can have been lost between `earlier` and now.
    fn continues(&self, earlier: &Self) -> bool {
        let same_boot = !self.boot.is_empty() && self.boot == earlier.boot;
        let same_epoch = earlier.epoch.is_none() || self.epoch == earlier.epoch;
        (earlier.closed || same_boot)
            && same_epoch
            && self.created_ns == earlier.created_ns
            && self.bytes >= earlier.bytes
    }
}

/// The path of the file, and its content.
#[derive(Debug)]
pub struct Completeness {
    disk: Disk,
    path: PathBuf,
    state: CompletenessNote,
}

impl Completeness {
    /// Reads the file that belongs to `registry`, which has `bytes` bytes, and writes the present state to it. `whole`
    /// states that the registry itself was found without damage, and `epoch` is that in which the headnode leads.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn open(disk: &Disk, registry: &Path, bytes: u64, whole: bool, epoch: Epoch) -> io::Result<Self> {
        // If the machine tells no identifier of its start, every start counts as a different one.
        Self::open_at_boot(disk, registry, bytes, whole, disk.machine_start(), epoch)
    }

    fn open_at_boot(
        disk: &Disk,
        registry: &Path,
        bytes: u64,
        whole: bool,
        boot: String,
        epoch: Epoch,
    ) -> io::Result<Self> {
        let path = registry.with_extension(SUFFIX);
        let mut state = CompletenessNote::of(disk, registry, bytes, boot, epoch)?;
        let earlier: Option<CompletenessNote> =
            disk.read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        state.complete =
            whole && earlier.is_some_and(|earlier| earlier.complete && state.continues(&earlier));
        let completeness = Self { disk: disk.clone(), path, state };
        completeness.write(WhenOnDisk::BeforeReturn)?;
        Ok(completeness)
    }

    /// Returns whether the registry lacks nothing.
    pub fn is_complete(&self) -> bool {
        self.state.complete
    }

    /// Notes the length of the registry, and whether it lacks nothing by now. This has to be called from time to time.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn update(&mut self, bytes: u64, complete: bool) -> io::Result<()> {
        if (bytes, complete) == (self.state.bytes, self.state.complete) {
            return Ok(());
        }
        let is_news = complete != self.state.complete;
        (self.state.bytes, self.state.complete) = (bytes, complete);
        // The length is needed only while the machine runs.
        self.write(if is_news { WhenOnDisk::BeforeReturn } else { WhenOnDisk::Later })
    }

    /// Notes that the registry was synced and closed with this length.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn close(&mut self, bytes: u64, complete: bool) -> io::Result<()> {
        (self.state.closed, self.state.bytes, self.state.complete) = (true, bytes, complete);
        self.write(WhenOnDisk::BeforeReturn)
    }

    /// Replaces the file, so that it holds either the old or the new text, whatever happens.
    fn write(&self, when: WhenOnDisk) -> io::Result<()> {
        let mut text = serde_json::to_vec(&self.state)?;
        text.push(b'\n');
        replace(&self.disk, &self.path, &text, when == WhenOnDisk::BeforeReturn)
    }
}

/// When a write has to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenOnDisk {
    BeforeReturn,
    Later,
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use protocol::store::types::ulid;

    use super::*;

    fn epoch(number: u64) -> Epoch {
        Epoch { number, taken_by: ulid(1, 2) }
    }

    struct RegistryOnDisk {
        _folder: tempfile::TempDir,
        path: PathBuf,
    }

    impl RegistryOnDisk {
        /// Returns a registry of 100 bytes that was complete in a first run. That run then closed it or was killed.
        fn of_first_run(closed: bool) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let registry = Self { path: folder.path().join("registro_server.txt"), _folder: folder };
            fs::write(&registry.path, "").unwrap();
            let mut first = registry.open(true, "boot 1");
            assert!(!first.is_complete(), "nobody knows what was there before");
            fs::write(&registry.path, [b'x'; 100]).unwrap();
            first.update(100, true).unwrap();
            if closed {
                first.close(100, true).unwrap();
            }
            registry
        }

        fn open(&self, whole: bool, boot: &str) -> Completeness {
            self.open_in(whole, boot, epoch(1))
        }

        fn open_in(&self, whole: bool, boot: &str, epoch: Epoch) -> Completeness {
            let (disk, bytes) = (Disk::default(), fs::metadata(&self.path).unwrap().len());
            Completeness::open_at_boot(&disk, &self.path, bytes, whole, boot.to_owned(), epoch).unwrap()
        }

        fn is_complete(&self, boot: &str) -> bool {
            self.open(true, boot).is_complete()
        }
    }

    #[test]
    fn a_registry_is_complete_if_nothing_can_have_been_lost() {
        for boot in ["boot 1", "boot 2"] {
            assert!(RegistryOnDisk::of_first_run(true).is_complete(boot));
        }
        let killed = || RegistryOnDisk::of_first_run(false);
        assert!(killed().is_complete("boot 1"), "what was written is there");
        assert!(!killed().is_complete("boot 2"), "the machine has ended: nobody knows what was synced");
        assert!(!killed().is_complete(""), "nobody knows whether the machine has ended");
        assert!(!killed().open(false, "boot 1").is_complete(), "damaged");
    }

    #[test]
    fn a_registry_that_was_removed_or_cut_is_not_complete() {
        for closed in [true, false] {
            let cut = RegistryOnDisk::of_first_run(closed);
            File::options().write(true).open(&cut.path).unwrap().set_len(99).unwrap();
            assert!(!cut.is_complete("boot 1"));
            let replaced = RegistryOnDisk::of_first_run(closed);
            fs::rename(&replaced.path, replaced.path.with_extension("old")).unwrap();
            fs::write(&replaced.path, [b'y'; 200]).unwrap();
            assert!(!replaced.is_complete("boot 1"));
        }
    }

    #[test]
    fn a_registry_of_another_epoch_is_not_complete() {
        let registry = RegistryOnDisk::of_first_run(true);
        assert!(!registry.open_in(true, "boot 1", epoch(2)).is_complete(), "another headnode may have led");
        let earlier = RegistryOnDisk::of_first_run(true);
        let state = earlier.path.with_extension("state");
        let text = fs::read_to_string(&state).unwrap();
        fs::write(&state, text.replace(&format!(",\"epoch\":\"{}\"", epoch(1)), "")).unwrap();
        assert!(earlier.is_complete("boot 1"), "an earlier version wrote no epoch");
    }

    #[test]
    fn a_run_without_a_complete_registry_leaves_none_behind() {
        let registry = RegistryOnDisk::of_first_run(true);
        registry.open(false, "boot 1").close(100, false).unwrap();
        assert!(!registry.is_complete("boot 1"));
    }
}

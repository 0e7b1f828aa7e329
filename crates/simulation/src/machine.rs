//! A simulated machine: its disk, its clock, and the moment at which it dies.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use service::WallClock;

use crate::disk::{DiskFaults, DiskState};

const EIO: i32 = 5;
/// The date at which simulations begin: 2026-11-21T09:30:00Z.
const FIRST_DATE: i64 = 1_795_253_400;

/// How a machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The program ends at once. What it wrote stays in the machine's memory.
    Process,
    /// The power is cut. What was not synced may be lost.
    Power,
}

/// What a machine has besides its program.
#[derive(Debug)]
pub struct MachineState {
    pub disk: DiskState,
    pub faults: DiskFaults,
    pub rng: StdRng,
    /// How often the machine was started.
    pub starts: u64,
    /// The operations of disk and network since the start of the simulation.
    operations: u64,
    /// At which operation the machine dies, and how.
    dies_at: Option<(u64, Death)>,
    /// Since its death the machine does nothing.
    off: Option<Death>,
    has_just_died: bool,
    clock_offset: TimeDelta,
    marks: BTreeMap<&'static str, u64>,
    violation: Option<&'static str>,
    /// Everything that was ever written to `data.txt`, with a line end behind each write.
    pub records_written: Vec<u8>,
}

impl MachineState {
    /// Counts an operation.
    ///
    /// # Errors
    /// Fails if the machine is off, or dies now.
    pub fn operate(&mut self, mark: &'static str) -> io::Result<()> {
        self.has_just_died = false;
        if self.off.is_none() {
            self.operations += 1;
            if let Some((_, death)) = self.dies_at.take_if(|(at, _)| *at <= self.operations) {
                self.off = Some(death);
                self.has_just_died = true;
                self.mark(mark);
            }
        }
        if self.off.is_some() { Err(io::Error::other("the machine is off")) } else { Ok(()) }
    }

    pub fn has_just_died(&self) -> bool {
        self.has_just_died
    }

    /// Returns whether something happens whose rate is `rate`.
    pub fn happens(&mut self, rate: f64) -> bool {
        rate > 0.0 && self.rng.random_bool(rate)
    }

    /// Fails with EIO at the rate `rate`, and sets the mark `mark` then.
    ///
    /// # Errors
    /// Fails with EIO.
    pub fn fail_at(&mut self, rate: f64, mark: &'static str) -> io::Result<()> {
        if self.happens(rate) {
            self.mark(mark);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    }

    /// Returns whether a sync does nothing although it reports success.
    pub fn lies(&mut self) -> bool {
        let lies = self.happens(self.faults.lying_sync);
        if lies {
            self.mark("disk: a sync lied");
        }
        lies
    }

    pub fn mark(&mut self, mark: &'static str) {
        *self.marks.entry(mark).or_default() += 1;
    }

    /// Notes that the store did what it must never do.
    pub fn violation(&mut self, what: &'static str) {
        self.violation.get_or_insert(what);
    }

    pub fn uptime(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_default()
    }

    fn now(&self) -> DateTime<Utc> {
        let first = DateTime::from_timestamp(FIRST_DATE, 0).unwrap_or_default();
        first + self.uptime() + self.clock_offset
    }
}

/// A machine. Clones are the same machine.
#[derive(Debug, Clone)]
pub struct Machine(Arc<Mutex<MachineState>>);

impl Machine {
    /// Returns a machine with an empty disk that behaves like `faults`, and dies at an operation if `dies_at` tells one.
    pub fn new(seed: u64, faults: DiskFaults, dies_at: Option<(u64, Death)>) -> Self {
        Self(Arc::new(Mutex::new(MachineState {
            disk: DiskState::default(),
            faults,
            rng: StdRng::seed_from_u64(seed),
            starts: 1,
            operations: 0,
            dies_at,
            off: None,
            has_just_died: false,
            clock_offset: TimeDelta::zero(),
            marks: BTreeMap::new(),
            violation: None,
            records_written: Vec::new(),
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, MachineState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn clock(&self) -> WallClock {
        let machine = self.clone();
        WallClock::new(move || machine.lock().now())
    }

    /// Lets the clock jump by `offset` from the right time.
    pub fn set_clock(&self, offset: TimeDelta) {
        let mut state = self.lock();
        state.clock_offset = offset;
        state.mark("clock: it jumped");
    }

    /// Returns how the machine has died, if it is off.
    pub fn death(&self) -> Option<Death> {
        self.lock().off
    }

    /// Counts an operation of the network, and returns whether the machine still works.
    pub fn uses_network(&self) -> bool {
        self.lock().operate("machine: it died at an operation of its network").is_ok()
    }

    /// Ends what the machine does. Its files become what they are after such an end.
    pub fn die(&self, death: Death) {
        let mut state = self.lock();
        state.off = Some(death);
        if death == Death::Process {
            return state.mark("machine: its program was killed");
        }
        let MachineState { disk, rng, .. } = &mut *state;
        if disk.cut(rng) {
            state.mark("machine: the power was cut while something was not synced");
        }
        state.mark("machine: the power was cut");
        state.starts += 1;
    }

    /// Starts the machine again.
    pub fn start(&self) {
        self.lock().off = None;
    }

    /// Ends all faults of the disk. What they did stays.
    pub fn calm(&self) {
        let mut state = self.lock();
        state.faults = DiskFaults::default();
        state.dies_at = None;
    }

    /// Returns how often each mark was set.
    pub fn marks(&self) -> BTreeMap<&'static str, u64> {
        self.lock().marks.clone()
    }

    pub fn violation(&self) -> Option<&'static str> {
        self.lock().violation
    }
}

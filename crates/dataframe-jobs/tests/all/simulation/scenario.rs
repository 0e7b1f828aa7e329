//! What a seed decides before its world begins.

use std::time::Duration;

use dataframe_jobs::scheduler::TaskSpec;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What happens to a task when a worker runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Result,
    KillsItsWorker,
    FailsForItsData,
}

#[derive(Debug, Clone)]
pub struct PlannedJob {
    pub name: String,
    pub at: Duration,
    pub wait: Duration,
    pub specs: Vec<TaskSpec>,
    pub fates: Vec<Fate>,
    /// So many rounds of these tasks follow each other.
    pub stages: u32,
    pub cancel_at: Option<Duration>,
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub pull: bool,
    pub slots: Vec<u32>,
    pub jobs: Vec<PlannedJob>,
    /// Chance that a message gets lost.
    pub loss: f64,
    /// Faults of workers for each second.
    pub faults: f64,
    /// After this, no more faults.
    pub calm_after: Duration,
    /// Whether dead workers start again.
    pub restarts: bool,
    /// Whether a poisonous task is the only thing that kills.
    pub only_poison: bool,
}

pub fn ms(from: u64) -> Duration {
    Duration::from_millis(from)
}

impl Scenario {
    pub fn chaos(seed: u64, pull: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5ced);
        let slots: Vec<_> = (0..rng.random_range(1..6)).map(|_| rng.random_range(1..4)).collect();
        let jobs =
            (0..rng.random_range(1..5)).map(|number| job(&mut rng, number, slots.len(), true)).collect();
        Self {
            pull,
            jobs,
            slots,
            loss: if rng.random_bool(0.5) { 0.0 } else { rng.random_range(0.0..0.25) },
            faults: if rng.random_bool(0.2) { 0.0 } else { rng.random_range(0.0..1.5) },
            calm_after: ms(rng.random_range(0..60_000)),
            restarts: rng.random_bool(0.85),
            only_poison: false,
        }
    }

    pub fn poison(seed: u64, pull: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0xdead);
        let slots: Vec<_> = (0..rng.random_range(1..4)).map(|_| rng.random_range(1..5)).collect();
        let mut poisoned = job(&mut rng, 0, slots.len(), false);
        let victim = rng.random_range(0..poisoned.fates.len());
        poisoned.fates[victim] = Fate::KillsItsWorker;
        poisoned.wait = ms(120_000);
        let mut other = job(&mut rng, 1, slots.len(), false);
        other.wait = ms(120_000);
        Self { jobs: vec![poisoned, other], restarts: true, only_poison: true, ..Self::quiet(pull, slots) }
    }

    pub fn calm(seed: u64, pull: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0xca11);
        let slots: Vec<_> = (0..rng.random_range(1..6)).map(|_| rng.random_range(1..4)).collect();
        let jobs =
            (0..rng.random_range(1..4)).map(|number| job(&mut rng, number, slots.len(), false)).collect();
        Self { jobs, ..Self::quiet(pull, slots) }
    }

    fn quiet(pull: bool, slots: Vec<u32>) -> Self {
        Self {
            pull,
            slots,
            jobs: Vec::new(),
            loss: 0.0,
            faults: 0.0,
            calm_after: Duration::ZERO,
            restarts: true,
            only_poison: false,
        }
    }
}

fn job(rng: &mut StdRng, number: usize, workers: usize, may_fail: bool) -> PlannedJob {
    let worker = |rng: &mut StdRng| format!("w{}", rng.random_range(0..workers));
    let pinned = if rng.random_bool(0.3) { 0.4 } else { 0.0 };
    let preferring = if rng.random_bool(0.3) { 0.5 } else { 0.0 };
    let specs: Vec<_> = (0..rng.random_range(0..25))
        .map(|_| TaskSpec {
            pinned: rng.random_bool(pinned).then(|| worker(rng)),
            prefers: rng.random_bool(preferring).then(|| worker(rng)),
            wasm: false,
            bytes: 1,
        })
        .chain([TaskSpec::default()])
        .collect();
    let mut fates = vec![Fate::Result; specs.len()];
    let unlucky = rng.random_range(0..fates.len());
    if may_fail {
        fates[unlucky] = match rng.random_range(0..10) {
            0 => Fate::KillsItsWorker,
            1 => Fate::FailsForItsData,
            _ => Fate::Result,
        };
    }
    let at = ms(rng.random_range(0..3000));
    let cancel_at = (may_fail && rng.random_bool(0.1)).then(|| at + ms(rng.random_range(0..8000)));
    let wait = ms(rng.random_range(2000..60_000));
    let stages = rng.random_range(1..=3);
    PlannedJob { name: format!("job{number}"), at, wait, specs, fates, stages, cancel_at }
}

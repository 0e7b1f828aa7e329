//! The metrics of `lottery-server`. `tp0/README.md` lists them.

use page::bounded::ByName;
use page::latency::Latency;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::monitor::{ConnectionCounts, register_start};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// The metrics of a lottery server. Clones share the same counts.
#[derive(Debug, Clone)]
pub struct LotteryMetrics {
    /// Bets that were stored since the start.
    pub bets: Counter,
    /// The same for each agency.
    pub agency_bets: ByName<Counter>,
    pub batches: BatchCounts,
    /// How long the batches and ends that came together took, from the first look at them to the disk.
    pub round_duration: Latency,
    /// How long each `fdatasync` took.
    pub sync_duration: Latency,
    pub agencies: AgencyGauges,
    /// Bets in `bets.csv`.
    pub bets_in_file: Gauge,
    pub draws: DrawCounts,
    pub winner_requests: WinnerRequestCounts,
    pub events: Counter,
    pub connections: ConnectionCounts,
}

/// Messages with bets, by what came of them.
#[derive(Debug, Clone)]
pub struct BatchCounts {
    /// At least one bet was new and is stored.
    pub stored: Counter,
    /// All bets were stored before.
    pub repeated: Counter,
    /// The agency was done, the draw was over, or the lottery was full.
    pub refused: Counter,
    /// There was no room.
    pub disk_full: Counter,
    /// The message was none.
    pub invalid: Counter,
    all: Family<ResultLabels, Counter>,
}

/// How many agencies there are.
#[derive(Debug, Clone, Default)]
pub struct AgencyGauges {
    pub known: Gauge,
    pub finished: Gauge,
    pub expected: Gauge,
}

/// Tries to hold the draw, and what came of them.
#[derive(Debug, Clone)]
pub struct DrawCounts {
    pub held: Counter,
    pub failed: Counter,
    /// The number of winning bets of the draw.
    pub winners: Gauge,
    all: Family<ResultLabels, Counter>,
}

/// Questions for the winners, by what was answered.
#[derive(Debug, Clone)]
pub struct WinnerRequestCounts {
    pub told: Counter,
    pub wait: Counter,
    pub failed: Counter,
    all: Family<ResultLabels, Counter>,
}

/// Returns the counter of `result`, which is there from now on, also while it is zero.
fn counter(all: &Family<ResultLabels, Counter>, result: &'static str) -> Counter {
    all.get_or_create(&ResultLabels { result }).clone()
}

impl LotteryMetrics {
    /// Returns metrics of which nothing was counted yet.
    pub fn new() -> Self {
        let (batches, draws, requests) = (Family::default(), Family::default(), Family::default());
        Self {
            bets: Counter::default(),
            agency_bets: ByName::new("agency"),
            batches: BatchCounts {
                stored: counter(&batches, "stored"),
                repeated: counter(&batches, "repeated"),
                refused: counter(&batches, "refused"),
                disk_full: counter(&batches, "disk-full"),
                invalid: counter(&batches, "invalid"),
                all: batches,
            },
            round_duration: Latency::default(),
            sync_duration: Latency::default(),
            agencies: AgencyGauges::default(),
            bets_in_file: Gauge::default(),
            draws: DrawCounts {
                held: counter(&draws, "held"),
                failed: counter(&draws, "failed"),
                winners: Gauge::default(),
                all: draws,
            },
            winner_requests: WinnerRequestCounts {
                told: counter(&requests, "told"),
                wait: counter(&requests, "wait"),
                failed: counter(&requests, "failed"),
                all: requests,
            },
            events: Counter::default(),
            connections: ConnectionCounts::default(),
        }
    }

    /// Returns a registry of these metrics.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("lottery");
        let Self { bets, agency_bets, batches, round_duration, sync_duration, .. } = self.clone();
        registry.register("bets", "Bets that were stored since the start", bets);
        let help = "Bets that were stored since the start, by agency";
        registry.register("agency_bets", help, agency_bets);
        registry.register("batches", "Batches of bets, by what came of them", batches.all);
        let help = "Time to judge, write and sync what came together";
        registry.register_with_unit("round_duration", help, Unit::Seconds, round_duration);
        let help = "Time of each fdatasync of bets.csv and lottery.journal";
        registry.register_with_unit("sync_duration", help, Unit::Seconds, sync_duration);
        let Self { agencies, bets_in_file, draws, winner_requests, events, connections, .. } = self.clone();
        registry.register("bets_in_file", "Bets in bets.csv", bets_in_file);
        registry.register("agencies_known", "Agencies that have sent anything", agencies.known);
        registry.register("agencies_finished", "Agencies that have sent all their bets", agencies.finished);
        registry.register("agencies_expected", "Agencies that the draw waits for", agencies.expected);
        registry.register("draws", "Tries to hold the draw, by what came of them", draws.all);
        registry.register("winners", "Winning bets of the draw", draws.winners);
        let help = "Questions of agencies for their winners, by what was answered";
        registry.register("winner_requests", help, winner_requests.all);
        registry.register("events", "Events, as in the page's timeline", events);
        connections.register(&mut registry);
        register_start(&mut registry);
        registry
    }
}

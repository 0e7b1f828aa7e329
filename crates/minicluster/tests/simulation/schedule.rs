//! Makes a schedule of faults of the network and the hosts from a seed.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use turmoil::Sim;

pub const HEADNODE: &str = "headnode";
pub const DATANODES: [&str; 3] = ["datanode1", "datanode2", "datanode3"];
pub const CLIENTS: [&str; 2] = ["client1", "client2"];

/// All faults begin and end within this time.
pub const TROUBLE: Duration = Duration::from_secs(8);

#[derive(Debug, Clone, Copy)]
enum Fault {
    Crash(&'static str),
    Partition(&'static str, &'static str),
    OneWay(&'static str, &'static str),
    Hold(&'static str, &'static str),
    Loss(&'static str, &'static str, f64),
    Slow(&'static str, &'static str, Duration),
}

/// A fault and when it begins and ends.
#[derive(Debug)]
struct Planned {
    begin: Duration,
    end: Duration,
    fault: Fault,
    begun: bool,
    ended: bool,
}

/// Everything that goes wrong in one simulation.
#[derive(Debug)]
pub struct Schedule(Vec<Planned>);

impl Schedule {
    pub fn new(rng: &mut StdRng) -> Self {
        let faults = rng.random_range(1..=6);
        let planned = (0..faults).map(|_| {
            let begin = Duration::from_millis(rng.random_range(0..5_000));
            let length = Duration::from_millis(rng.random_range(10..3_000));
            Planned { begin, end: begin + length, fault: Fault::random(rng), begun: false, ended: false }
        });
        Self(planned.collect())
    }

    /// Begins and ends what is due.
    pub fn apply(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        for planned in &mut self.0 {
            if !planned.begun && now >= planned.begin {
                planned.begun = planned.fault.begin(sim);
                // What cannot happen now, as its host is down already, never happens.
                planned.ended = !planned.begun;
                planned.begun = true;
            }
            if !planned.ended && now >= planned.end {
                planned.fault.end(sim);
                planned.ended = true;
            }
        }
    }

    /// Returns how many hosts crash, and how many links are cut or slow.
    pub fn count(&self) -> (u64, u64) {
        let crashes = self.0.iter().filter(|planned| matches!(planned.fault, Fault::Crash(_))).count() as u64;
        (crashes, self.0.len() as u64 - crashes)
    }
}

impl Fault {
    fn random(rng: &mut StdRng) -> Self {
        let datanode = DATANODES[rng.random_range(0..DATANODES.len())];
        let client = *CLIENTS.choose(rng).unwrap();
        let (one, other) = match rng.random_range(0..4) {
            0 => (client, HEADNODE),
            1 => (datanode, HEADNODE),
            _ => (HEADNODE, datanode),
        };
        match rng.random_range(0..8) {
            0 | 1 => Self::Crash(datanode),
            2 => Self::Crash(HEADNODE),
            3 => Self::Partition(one, other),
            4 => Self::OneWay(one, other),
            5 => Self::Hold(one, other),
            6 => Self::Loss(one, other, rng.random_range(0.01..0.4)),
            _ => Self::Slow(one, other, Duration::from_millis(rng.random_range(50..1_500))),
        }
    }

    /// Begins the fault if it can happen now, and returns whether it could.
    fn begin(self, sim: &mut Sim<'_>) -> bool {
        match self {
            Self::Crash(host) if !sim.is_host_running(host) => return false,
            Self::Crash(host) => sim.crash(host),
            Self::Partition(one, other) => sim.partition(one, other),
            Self::OneWay(from, to) => sim.partition_oneway(from, to),
            Self::Hold(one, other) => sim.hold(one, other),
            Self::Loss(one, other, rate) => sim.set_link_fail_rate(one, other, rate),
            Self::Slow(one, other, latency) => sim.set_link_max_message_latency(one, other, latency),
        }
        true
    }

    fn end(self, sim: &mut Sim<'_>) {
        match self {
            Self::Crash(host) => sim.bounce(host),
            Self::Partition(one, other) => sim.repair(one, other),
            Self::OneWay(from, to) => sim.repair_oneway(from, to),
            Self::Hold(one, other) => sim.release(one, other),
            Self::Loss(one, other, _) => {
                sim.set_link_fail_rate(one, other, 0.0);
                sim.repair(one, other);
            }
            Self::Slow(one, other, _) => {
                sim.set_link_max_message_latency(one, other, Duration::from_millis(10));
            }
        }
    }
}

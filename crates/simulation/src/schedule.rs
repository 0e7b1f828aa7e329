//! Makes a schedule of the faults that come at a certain time: those of the network, the machines and the clocks.

use std::time::Duration;

use chrono::TimeDelta;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use turmoil::Sim;

use crate::faults::FaultPlan;
use crate::host::SimulatedHosts;
use crate::layout::{CLIENTS, DATANODES, HEADNODE, TROUBLE};
use crate::machine::Death;

/// When a disk damages records although everything else is calm: before clients check them.
const LATE: Duration = Duration::from_millis(10_500);
/// When the only partition of a seed begins, if it has one: the headnodes know by then which of them leads.
pub const PARTITION: Duration = Duration::from_millis(2_500);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill(&'static str),
    PowerCut(&'static str),
    PowerCutOfAll,
    Restart(&'static str),
    Damage(&'static str),
    ReplaceDisk(&'static str),
    ClockJump(&'static str, i64),
    Partition(&'static str, &'static str),
    OneWay(&'static str, &'static str),
    Hold(&'static str, &'static str),
    Loss(&'static str, &'static str, f64),
    Slow(&'static str, &'static str, Duration),
    /// The headnode reaches no datanode.
    Isolation(&'static str),
    /// The headnode is held up, and then goes on as if no time had passed for it.
    Pause(&'static str),
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

/// Everything that goes wrong in one simulation at a certain time.
#[derive(Debug)]
pub struct Schedule(Vec<Planned>);

fn span(rng: &mut StdRng) -> (Duration, Duration) {
    let begin = Duration::from_millis(rng.random_range(0..5_000));
    (begin, begin + Duration::from_millis(rng.random_range(10..3_000)))
}

impl Schedule {
    pub fn new(plan: &FaultPlan, rng: &mut StdRng) -> Self {
        let mut schedule = Self(Vec::new());
        if plan.one_partition {
            let end = PARTITION + Duration::from_millis(rng.random_range(100..5_500));
            schedule.add(Fault::of_headnode(plan, rng), (PARTITION, end));
            return schedule;
        }
        if plan.network {
            for _ in 0..rng.random_range(1..=4) {
                schedule.add(Fault::of_network(plan, rng), span(rng));
            }
            if plan.pair && rng.random() {
                let begin = Duration::from_millis(rng.random_range(0..2_500));
                let end = begin + Duration::from_millis(rng.random_range(500..5_500));
                schedule.add(Fault::of_headnode(plan, rng), (begin, end));
            }
            if rng.random_bool(0.3) {
                schedule.swizzle(rng);
            }
        }
        let machine = |rng: &mut StdRng| *plan.machines().choose(rng).unwrap_or(&HEADNODE);
        let mut several = |on: bool, most: u32, fault: &dyn Fn(&mut StdRng) -> Fault| {
            if on {
                for _ in 0..rng.random_range(1..=most) {
                    schedule.add(fault(rng), span(rng));
                }
            }
        };
        several(plan.kills, 3, &|rng| Fault::Kill(machine(rng)));
        several(plan.power_cuts, 3, &|rng| match rng.random_range(0..5) {
            0 => Fault::PowerCutOfAll,
            1 => Fault::PowerCut(plan.headnodes().choose(rng).unwrap_or(&HEADNODE)),
            _ => Fault::PowerCut(machine(rng)),
        });
        several(plan.restarts, 2, &|rng| Fault::Restart(machine(rng)));
        several(plan.clock_jumps, 3, &|rng| {
            Fault::ClockJump(machine(rng), rng.random_range(-DAY_MS..=DAY_MS))
        });
        let bad: Vec<_> = plan.machines().iter().copied().filter(|name| plan.is_bad(name)).collect();
        several(!bad.is_empty(), 5, &|rng| Fault::Damage(bad.choose(rng).unwrap_or(&HEADNODE)));
        if plan.replaced_disk {
            let datanode = bad.iter().copied().find(|name| DATANODES.contains(name));
            schedule.add(Fault::ReplaceDisk(datanode.unwrap_or(DATANODES[0])), span(rng));
        }
        // What a program does not notice while it runs, it notices at its next start.
        for name in &bad {
            schedule.add(Fault::Restart(name), (TROUBLE, TROUBLE));
        }
        for _ in 0..if plan.late_damage { 3 } else { 0 } {
            schedule.add(Fault::Damage(bad.choose(rng).unwrap_or(&HEADNODE)), (LATE, LATE));
        }
        schedule
    }

    fn add(&mut self, fault: Fault, (begin, end): (Duration, Duration)) {
        self.0.push(Planned { begin, end, fault, begun: false, ended: false });
    }

    /// Cuts links one after the other, and mends them in another order.
    fn swizzle(&mut self, rng: &mut StdRng) {
        let (begin, end) = span(rng);
        for name in DATANODES.into_iter().chain(CLIENTS) {
            if rng.random() {
                let later = Duration::from_millis(rng.random_range(0..1_000));
                let longer = Duration::from_millis(rng.random_range(0..1_000));
                self.add(Fault::Partition(name, HEADNODE), (begin + later, end + later + longer));
            }
        }
    }

    /// Begins and ends what is due.
    pub fn apply(&mut self, sim: &mut Sim<'_>, hosts: &SimulatedHosts) {
        let now = sim.elapsed();
        for planned in &mut self.0 {
            if !planned.begun && now >= planned.begin {
                planned.begun = true;
                // What cannot happen now, as its machine is off already, never happens.
                planned.ended = !planned.fault.begin(sim, hosts);
            }
            if planned.begun && !planned.ended && now >= planned.end {
                planned.fault.end(sim, hosts);
                planned.ended = true;
            }
        }
    }
}

impl Fault {
    /// Returns a fault after which another headnode may lead.
    fn of_headnode(plan: &FaultPlan, rng: &mut StdRng) -> Self {
        let headnode = plan.headnodes().choose(rng).unwrap_or(&HEADNODE);
        if rng.random() { Self::Isolation(headnode) } else { Self::Pause(headnode) }
    }

    fn of_network(plan: &FaultPlan, rng: &mut StdRng) -> Self {
        let headnode = *plan.headnodes().choose(rng).unwrap_or(&HEADNODE);
        let datanode = DATANODES[rng.random_range(0..DATANODES.len())];
        let client = CLIENTS[rng.random_range(0..CLIENTS.len())];
        let (one, other) = match rng.random_range(0..4) {
            0 => (client, headnode),
            1 => (datanode, headnode),
            _ => (headnode, datanode),
        };
        match rng.random_range(0..5) {
            0 => Self::Partition(one, other),
            1 => Self::OneWay(one, other),
            2 => Self::Hold(one, other),
            3 => Self::Loss(one, other, rng.random_range(0.01..0.4)),
            _ => Self::Slow(one, other, Duration::from_millis(rng.random_range(50..1_500))),
        }
    }

    /// Begins the fault if it can happen now, and returns whether it has to be ended.
    fn begin(self, sim: &mut Sim<'_>, hosts: &SimulatedHosts) -> bool {
        match self {
            Self::Kill(name) => return hosts.stop(sim, name, Death::Process),
            Self::PowerCut(name) => return hosts.stop(sim, name, Death::Power),
            Self::PowerCutOfAll => {
                let names: Vec<_> = hosts.machines().map(|(name, _)| name).collect();
                let cut = names.into_iter().map(|name| hosts.stop(sim, name, Death::Power));
                if cut.fold(true, |all, cut| all & cut) {
                    hosts.mark(HEADNODE, "machine: the power of all machines was cut at once");
                }
            }
            Self::ReplaceDisk(name) => return hosts.replace_disk(sim, name),
            Self::Restart(name) => {
                hosts.restart(name);
                return false;
            }
            Self::Damage(name) => {
                hosts.damage(name);
                return false;
            }
            Self::ClockJump(name, offset_ms) => {
                hosts.machine(name).set_clock(TimeDelta::milliseconds(offset_ms));
                return false;
            }
            Self::Partition(one, other) => sim.partition(one, other),
            Self::OneWay(from, to) => sim.partition_oneway(from, to),
            Self::Hold(one, other) => sim.hold(one, other),
            Self::Loss(one, other, rate) => sim.set_link_fail_rate(one, other, rate),
            Self::Slow(one, other, latency) => sim.set_link_max_message_latency(one, other, latency),
            Self::Isolation(headnode) => DATANODES.iter().for_each(|name| sim.partition(headnode, *name)),
            Self::Pause(headnode) => peers_of_headnode().for_each(|name| sim.hold(headnode, name)),
        }
        if let Some(mark) = self.mark() {
            hosts.mark(HEADNODE, mark);
        }
        true
    }

    fn mark(self) -> Option<&'static str> {
        match self {
            Self::Partition(..) => Some("network: a link was cut"),
            Self::OneWay(..) => Some("network: a link was cut in one direction"),
            Self::Hold(..) => Some("network: a link held its messages back"),
            Self::Loss(..) => Some("network: a link lost messages"),
            Self::Slow(..) => Some("network: a link was slow"),
            Self::Isolation(_) => Some("network: a headnode reached no datanode"),
            Self::Pause(_) => Some("network: a headnode was held up"),
            _ => None,
        }
    }

    fn end(self, sim: &mut Sim<'_>, hosts: &SimulatedHosts) {
        match self {
            Self::Kill(name) | Self::PowerCut(name) | Self::ReplaceDisk(name) => hosts.start(sim, name),
            Self::PowerCutOfAll => {
                let names: Vec<_> = hosts.machines().map(|(name, _)| name).collect();
                names.into_iter().for_each(|name| hosts.start(sim, name));
            }
            Self::Restart(_) | Self::Damage(_) | Self::ClockJump(..) => {}
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
            Self::Isolation(headnode) => DATANODES.iter().for_each(|name| sim.repair(headnode, *name)),
            Self::Pause(headnode) => peers_of_headnode().for_each(|name| sim.release(headnode, name)),
        }
    }
}

/// Returns everybody who speaks with a headnode.
fn peers_of_headnode() -> impl Iterator<Item = &'static str> {
    DATANODES.into_iter().chain(CLIENTS)
}

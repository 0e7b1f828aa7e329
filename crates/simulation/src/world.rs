//! Runs one simulation: a store and two clients, trouble, and what has to hold meanwhile and afterwards.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use turmoil::{Builder, Sim};

use crate::attacker::Attacker;
use crate::check::{MachineFiles, check, check_reads};
use crate::client::SimulatedClient;
use crate::faults::FaultPlan;
use crate::history::History;
use crate::host::SimulatedHosts;
use crate::keys::SimulatedKeys;
use crate::layout::{ATTACKER, CLIENTS, DATANODES, HEADNODE, TROUBLE};
use crate::marks;
use crate::report::SeedReport;
use crate::schedule::{PARTITION, Schedule};

const TICK: Duration = Duration::from_millis(10);
/// Longer than any simulation takes: the clients give up before.
const LONGEST: Duration = Duration::from_secs(2_000);

/// Runs the simulation of `seed`.
///
/// # Panics
/// Panics if the store does what it must never do.
#[must_use]
pub fn simulate(seed: u64) -> SeedReport {
    let mut rng = StdRng::seed_from_u64(seed);
    let plan = FaultPlan::new(&mut rng);
    let mut keys = SimulatedKeys::of_seed(seed);
    tracing::info!(seed, ?plan, ?keys, "simulation");
    let mut sim = Builder::new()
        .rng_seed(rng.random())
        .tick_duration(TICK)
        .simulation_duration(LONGEST)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(10))
        .tcp_capacity(4096)
        .udp_capacity(4096)
        .build();
    let hosts = SimulatedHosts::new(&mut sim, &plan, keys.as_ref(), &mut rng);
    let history = Rc::new(RefCell::new(History::new(plan.clone())));
    add_clients(&mut sim, &plan, keys.as_ref(), &mut rng, &history);
    if let Some(keys) = &keys {
        add_attacker(&mut sim, keys, &history);
    }
    let mut schedule = Schedule::new(&plan, &mut rng);
    while !sim.step().unwrap_or_else(|error| panic!("seed {seed}: {error}")) {
        schedule.apply(&mut sim, &hosts);
        if let Some(keys) = &mut keys {
            keys.apply(sim.elapsed());
        }
        hosts.supervise(&mut sim);
        for (name, machine) in hosts.machines() {
            assert_eq!(machine.violation(), None, "{name}");
        }
    }
    // The programs end here; their files stay.
    drop(sim);
    let files: MachineFiles =
        hosts.machines().map(|(name, machine)| (name, machine.lock().disk.contents())).collect();
    let mut history = history.borrow_mut();
    let twice = check(&files, &plan, hosts.leader(&plan), &mut history);
    check_epochs(&plan);
    for (name, machine) in hosts.machines() {
        check_reads(name, &machine.lock().records_written, &history);
    }
    let mut marks = marks::take_logged();
    if twice > 0 {
        marks.insert("store: a message is on more datanodes than were wanted", twice);
    }
    let of_machines = hosts.machines().flat_map(|(_, machine)| machine.marks());
    for (mark, count) in of_machines.chain(history.marks.clone()) {
        *marks.entry(mark).or_default() += count;
    }
    marks::combine(&mut marks);
    SeedReport::new(seed, &files, &marks, history.acknowledgements.len() as u64)
}

/// Checks that no datanode with a good disk has served a headnode after one with a higher epoch, and that one partition
/// makes at most one headnode take over.
fn check_epochs(plan: &FaultPlan) {
    for lowered in marks::lowered_epochs() {
        assert!(plan.is_bad(&lowered.datanode), "epochs never go back: {lowered:?}");
    }
    if plan.one_partition {
        let takeovers = marks::takeovers();
        let later = takeovers.iter().filter(|at| **at >= PARTITION).count();
        assert!(later <= 1, "one partition, and headnodes took over at {takeovers:?}");
    }
}

fn add_attacker(sim: &mut Sim<'_>, keys: &SimulatedKeys, history: &Rc<RefCell<History>>) {
    let datanodes = DATANODES.map(|name| (sim.lookup(name), 5001).into());
    let targets = std::iter::once((sim.lookup(HEADNODE), 5000).into()).chain(datanodes).collect();
    let attacker =
        Attacker { targets, rng: StdRng::seed_from_u64(keys.attacker_seed), history: history.clone() };
    sim.client(ATTACKER, async move { Ok(attacker.run().await?) });
}

fn add_clients(
    sim: &mut Sim<'_>,
    plan: &FaultPlan,
    keys: Option<&SimulatedKeys>,
    rng: &mut StdRng,
    history: &Rc<RefCell<History>>,
) {
    let headnodes: Vec<_> = plan.headnodes().iter().map(|name| (sim.lookup(*name), 5000).into()).collect();
    let done = Rc::new(RefCell::new(0));
    for (number, name) in CLIENTS.into_iter().enumerate() {
        let mut client = SimulatedClient {
            number,
            address: sim.lookup(name),
            headnodes: Rc::new(RefCell::new(headnodes.clone())),
            plan: plan.clone(),
            keys: keys.and_then(|keys| keys.of(name)),
            rng: StdRng::seed_from_u64(rng.random()),
            history: history.clone(),
        };
        let done = done.clone();
        sim.client(name, async move {
            client.run().await;
            *done.borrow_mut() += 1;
            if number == 0 {
                // The trouble passes, and all machines are started again.
                let quiet = TROUBLE + Duration::from_secs(3);
                tokio::time::sleep(quiet.saturating_sub(turmoil::sim_elapsed().unwrap_or_default())).await;
                while *done.borrow() < CLIENTS.len() {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                client.audit().await;
                // Connections are made again, and what they hold is reconciled.
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Ok(())
        });
    }
}

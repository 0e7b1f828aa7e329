//! The programs of the store on their simulated machines.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use cluster_key::Keyring;
use datanode::DatanodeConfig;
use headnode::HeadnodeConfig;
use journal::Disk;
use page::PageConfig;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use records::epoch_file::{EpochFile, KeptEpoch};
use service::net::Interface;
use service::{Environment, Shutdown};
use turmoil::Sim;

use crate::disk::DiskState;
use crate::faults::FaultPlan;
use crate::files::SimulatedFiles;
use crate::keys::SimulatedKeys;
use crate::layout::{DATANODES, FOLDER, HEADNODES, TROUBLE};
use crate::machine::{Death, Machine, MachineState};
use crate::network::SimulatedNetwork;

/// The time after which a program that has ended is started again.
const RESTART: Duration = Duration::from_millis(400);
/// The time after which a machine that died by itself is started again.
const REPAIR: Duration = Duration::from_millis(900);

/// How long a datanode may be away before its messages are copied elsewhere.
const REPAIR_AFTER: Duration = Duration::from_secs(2);

/// The time between two checks of a datanode's records.
const SCRUB_INTERVAL: Duration = Duration::from_secs(1);

/// All machines of the store.
pub struct SimulatedHosts(Vec<Rc<Host>>);

struct Host {
    name: &'static str,
    address: IpAddr,
    machine: Machine,
    plan: FaultPlan,
    keys: Option<Keyring>,
    /// Each start of the program has a seed of its own.
    starts: RefCell<StdRng>,
    shutdown: RefCell<Shutdown>,
    /// When the machine is started again, if it died by itself.
    starts_again: Cell<Option<Duration>>,
}

impl SimulatedHosts {
    /// Adds the machines of the store to a simulation.
    pub fn new(sim: &mut Sim<'_>, plan: &FaultPlan, keys: Option<&SimulatedKeys>, rng: &mut StdRng) -> Self {
        let hosts = plan.machines().iter().map(|&name| {
            let host = Rc::new(Host {
                name,
                address: sim.lookup(name),
                machine: plan.machine(name, rng),
                plan: plan.clone(),
                keys: keys.and_then(|keys| keys.of(name)),
                starts: RefCell::new(StdRng::seed_from_u64(rng.random())),
                shutdown: RefCell::new(Shutdown::new()),
                starts_again: Cell::new(None),
            });
            let started = host.clone();
            sim.host(name, move || started.clone().run());
            host
        });
        Self(hosts.collect())
    }

    /// Returns the headnode that leads, by what is on the disks: that in whose own epoch datanodes serve it. A headnode may
    /// have the note of a higher epoch that no datanode has heard of, and may have had no room to take it back.
    pub fn leader(&self, plan: &FaultPlan) -> Option<&'static str> {
        let kept = |host: &Host, file: &str| {
            let disk = Disk::new(SimulatedFiles::of(&host.machine));
            EpochFile::open(&disk, Path::new(FOLDER).join(file)).ok()?.kept()
        };
        let datanodes =
            self.0.iter().filter(|host| DATANODES.contains(&host.name) && !plan.is_bad(host.name));
        let served =
            datanodes.filter_map(|host| kept(host, datanode::store::EPOCH_FILE)).map(|kept| kept.epoch);
        let highest = KeptEpoch { epoch: served.max()?, is_own: true };
        let mut headnodes = self.0.iter().filter(|host| HEADNODES.contains(&host.name));
        let leader = headnodes.find(|host| kept(host, headnode::lead::EPOCH_FILE) == Some(highest));
        leader.map(|host| host.name)
    }

    fn host(&self, name: &str) -> &Rc<Host> {
        self.0.iter().find(|host| host.name == name).expect("every name in a schedule is that of a machine")
    }

    pub fn machine(&self, name: &str) -> &Machine {
        &self.host(name).machine
    }

    pub fn machines(&self) -> impl Iterator<Item = (&'static str, &Machine)> {
        self.0.iter().map(|host| (host.name, &host.machine))
    }

    pub fn mark(&self, name: &str, mark: &'static str) {
        self.machine(name).lock().mark(mark);
    }

    /// Stops a machine, and returns whether it was running.
    pub fn stop(&self, sim: &mut Sim<'_>, name: &str, death: Death) -> bool {
        let host = self.host(name);
        if !sim.is_host_running(name) || host.machine.death().is_some() {
            return false;
        }
        sim.crash(name);
        host.machine.die(death);
        true
    }

    pub fn start(&self, sim: &mut Sim<'_>, name: &str) {
        let host = self.host(name);
        if host.machine.death().is_some() {
            host.machine.start();
            sim.bounce(name);
        }
    }

    /// Asks a program to end in order. It is then started again.
    pub fn restart(&self, name: &str) {
        self.host(name).shutdown.borrow().request();
    }

    /// Stops a machine and puts an empty disk into it. Returns whether it was running.
    pub fn replace_disk(&self, sim: &mut Sim<'_>, name: &str) -> bool {
        let was_running = self.stop(sim, name, Death::Power);
        if was_running {
            let mut state = self.machine(name).lock();
            state.disk = DiskState::default();
            state.mark("disk: it was replaced by an empty one");
        }
        was_running
    }

    pub fn damage(&self, name: &str) {
        let mut state = self.machine(name).lock();
        let MachineState { disk, rng, .. } = &mut *state;
        if let Some(mark) = disk.damage(rng) {
            state.mark(mark);
        }
    }

    /// Stops the machines that died by themselves, and starts them again some time later. Ends all faults of the disks
    /// when the trouble has passed.
    pub fn supervise(&self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        for host in &self.0 {
            match (host.machine.death(), host.starts_again.get()) {
                (Some(_), Some(due)) if now >= due => {
                    host.starts_again.set(None);
                    self.start(sim, host.name);
                }
                (Some(death), None) if sim.is_host_running(host.name) => {
                    sim.crash(host.name);
                    host.machine.die(death);
                    host.starts_again.set(Some(now + REPAIR));
                }
                _ => {}
            }
            if now >= TROUBLE {
                host.machine.calm();
            }
        }
    }
}

impl Host {
    /// Runs the program, and starts it again whenever it ends, as an init system does.
    async fn run(self: Rc<Self>) -> turmoil::Result {
        loop {
            let shutdown = Shutdown::new();
            self.shutdown.replace(shutdown.clone());
            let outcome = self.run_program(shutdown).await;
            if self.machine.death().is_some() {
                pending::<()>().await;
            }
            let mark = match &outcome {
                Ok(()) => "program: it was restarted in order",
                Err(_) if HEADNODES.contains(&self.name) => {
                    "program: the headnode ended because its disk failed"
                }
                Err(_) => "program: a datanode ended because its disk failed",
            };
            let error = outcome.err().map(|error| format!("{error:#}"));
            tracing::info!(host = self.name, ?error, "program ended");
            self.machine.lock().mark(mark);
            tokio::time::sleep(RESTART).await;
        }
    }

    async fn run_program(&self, shutdown: Shutdown) -> anyhow::Result<()> {
        let environment = Environment {
            network: SimulatedNetwork(self.machine.clone()),
            disk: Disk::new(SimulatedFiles::of(&self.machine)),
            clock: self.machine.clock(),
            seed: self.starts.borrow_mut().random(),
            simulated: true,
        };
        let group = "239.255.50.10:5003".parse()?;
        if HEADNODES.contains(&self.name) {
            let config = HeadnodeConfig {
                listen: "0.0.0.0:5000".parse()?,
                data_dir: PathBuf::from(FOLDER),
                group,
                interval: Duration::from_secs(1),
                store_timeout: Duration::from_millis(500),
                replicas: self.plan.replicas,
                standby: self.plan.pair,
                repair_after: REPAIR_AFTER,
                keys: self.keys.clone(),
                page: PageConfig::none(),
                ..HeadnodeConfig::default()
            };
            return headnode::run_in(environment, config, shutdown, |_| {}).await;
        }
        let config = DatanodeConfig {
            name: self.name.parse()?,
            listen: "0.0.0.0:5001".parse()?,
            advertise: Some((self.address, 5001).into()),
            group,
            interface: Interface::All,
            data_dir: PathBuf::from(FOLDER),
            scrub_interval: SCRUB_INTERVAL,
            keys: self.keys.clone(),
            metrics: PageConfig::none(),
        };
        datanode::run_in(environment, config, shutdown).await
    }
}

//! Which faults a seed switches on, and what the store still promises under them.

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::disk::DiskFaults;
use crate::layout::{DATANODES, HEADNODE, HEADNODES, MACHINES};
use crate::machine::{Death, Machine};

/// The disks that may lose or change what they have confirmed. All other disks keep what a sync has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadDisks {
    None,
    Datanode(&'static str),
    Headnode,
    HeadnodeAndDatanode(&'static str),
    All,
}

/// The faults of one seed.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    pub replicas: usize,
    pub bad: BadDisks,
    pub network: bool,
    pub kills: bool,
    pub power_cuts: bool,
    pub restarts: bool,
    pub clock_jumps: bool,
    /// Reads, writes, syncs and names that fail with EIO.
    pub errors: [bool; 4],
    pub full: bool,
    pub deaths: bool,
    /// A bad disk damages a record when all else is calm.
    pub late_damage: bool,
    /// There are two headnodes.
    pub pair: bool,
    /// Nothing goes wrong but that one of two headnodes is cut off from all datanodes, once.
    pub one_partition: bool,
    /// A bad disk is replaced by an empty one.
    pub replaced_disk: bool,
    /// An operator drains this datanode.
    pub drained: Option<&'static str>,
    /// An operator declares datanodes lost that do not answer.
    pub forgets: bool,
}

impl FaultPlan {
    pub fn new(rng: &mut StdRng) -> Self {
        let replicas = rng.random_range(1..=2);
        let datanode = DATANODES[rng.random_range(0..DATANODES.len())];
        let bad = match rng.random_range(0..10) {
            0..=4 => BadDisks::None,
            5 | 6 => BadDisks::Datanode(datanode),
            7 => BadDisks::Headnode,
            8 => BadDisks::HeadnodeAndDatanode(datanode),
            _ => BadDisks::All,
        };
        let drained = DATANODES[rng.random_range(0..DATANODES.len())];
        let mut switch = |rate| rng.random_bool(rate);
        let pair = switch(0.4);
        if pair && switch(0.1) {
            return Self::with_one_partition(replicas);
        }
        let plan = Self {
            replicas,
            bad,
            network: switch(0.6),
            kills: switch(0.5),
            power_cuts: switch(0.6),
            restarts: switch(0.3),
            clock_jumps: switch(0.3),
            errors: [switch(0.15), switch(0.15), switch(0.3), switch(0.15)],
            full: switch(0.2),
            deaths: switch(0.4),
            late_damage: switch(0.4) && matches!(bad, BadDisks::Datanode(_) | BadDisks::All),
            pair,
            one_partition: false,
            replaced_disk: switch(0.3) && matches!(bad, BadDisks::Datanode(_) | BadDisks::All),
            // What operators decide, only the headnode knows that leads then.
            drained: switch(0.3).then_some(drained),
            forgets: switch(0.3) && !pair,
        };
        // What is forgotten is asked for nothing. If the registry has lost lines, nobody knows then what was acknowledged.
        Self { forgets: plan.forgets && plan.keeps_registry(), ..plan }
    }

    fn with_one_partition(replicas: usize) -> Self {
        Self {
            replicas,
            bad: BadDisks::None,
            network: false,
            kills: false,
            power_cuts: false,
            restarts: false,
            clock_jumps: false,
            errors: [false; 4],
            full: false,
            deaths: false,
            late_damage: false,
            pair: true,
            one_partition: true,
            replaced_disk: false,
            drained: None,
            forgets: false,
        }
    }

    /// Returns the headnodes of the store.
    pub fn headnodes(&self) -> &'static [&'static str] {
        if self.pair { &HEADNODES } else { &HEADNODES[..1] }
    }

    /// Returns the machines of the store.
    pub fn machines(&self) -> &'static [&'static str] {
        if self.pair { &MACHINES } else { &MACHINES[..MACHINES.len() - 1] }
    }

    /// Returns whether the disk of this machine may lose what it has confirmed.
    pub fn is_bad(&self, name: &str) -> bool {
        match self.bad {
            BadDisks::None => false,
            BadDisks::Datanode(bad) => bad == name,
            BadDisks::Headnode => name == HEADNODE,
            BadDisks::HeadnodeAndDatanode(bad) => bad == name || name == HEADNODE,
            BadDisks::All => true,
        }
    }

    /// Returns whether one good copy of each acknowledged message is left somewhere, so that none may be lost.
    pub fn loses_nothing(&self) -> bool {
        match self.bad {
            BadDisks::None | BadDisks::Headnode => true,
            BadDisks::Datanode(_) | BadDisks::HeadnodeAndDatanode(_) => self.replicas > 1,
            BadDisks::All => false,
        }
    }

    /// Returns whether the registry keeps every line that it was given, although none is synced. It then tells of each
    /// lost message that it was there. A second headnode has another registry.
    pub fn keeps_registry(&self) -> bool {
        let loses_lines = self.power_cuts || self.deaths || self.full || self.errors.contains(&true);
        !(loses_lines || self.pair || self.is_bad(HEADNODE))
    }

    /// Returns whether a message that was acknowledged is never called unknown.
    pub fn tells_losses(&self) -> bool {
        self.loses_nothing() || self.keeps_registry()
    }

    /// Returns whether the record numbers of this datanode each name one message for ever.
    pub fn keeps_numbers(&self, datanode: &str) -> bool {
        !self.is_bad(datanode) || self.keeps_registry()
    }

    /// Returns whether everything works again some time after the last fault.
    pub fn recovers(&self) -> bool {
        self.bad != BadDisks::All
    }

    /// Returns a machine with the faults of its disk.
    pub fn machine(&self, name: &str, rng: &mut StdRng) -> Machine {
        let mut rate = |on: bool, rates: [f64; 3]| if on { rates[rng.random_range(0..3)] } else { 0.0 };
        let [read, write, sync, names] = self.errors;
        let faults = DiskFaults {
            read: rate(read, [0.0, 0.005, 0.05]),
            write: rate(write, [0.0, 0.005, 0.02]),
            sync: rate(sync, [0.0, 0.02, 0.1]),
            names: rate(names, [0.0, 0.02, 0.1]),
            lying_sync: rate(self.is_bad(name), [0.0, 0.3, 1.0]),
            write_back: rate(true, [0.0, 0.1, 0.5]),
            space: (self.full && rng.random()).then(|| rng.random_range(0..6_000)),
        };
        let dies_at = (self.deaths && rng.random()).then(|| {
            let death = if self.power_cuts && rng.random() { Death::Power } else { Death::Process };
            (rng.random_range(1..700), death)
        });
        Machine::new(rng.random(), faults, dies_at)
    }
}

//! The workers of the model world.

use std::collections::VecDeque;
use std::time::Duration;

use dataframe_jobs::message::{TaskId, WorkerInfo};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Up,
    /// It does nothing, and goes on at this time.
    HungUntil(Duration),
    Down,
}

#[derive(Debug)]
pub struct ModelWorker {
    pub name: String,
    pub run: u32,
    pub slots: u32,
    pub health: Health,
    pub running: Vec<TaskId>,
    /// Its own queue at the broker, which outlives it.
    pub own: VecDeque<TaskId>,
    /// The master has refused it or drains it: it takes nothing from queues.
    pub takes_nothing: bool,
    pub drains: bool,
}

impl ModelWorker {
    pub fn new(number: usize, slots: u32) -> Self {
        Self {
            name: format!("w{number}"),
            run: 1,
            slots,
            health: Health::Up,
            running: Vec::new(),
            own: VecDeque::new(),
            takes_nothing: false,
            drains: false,
        }
    }

    pub fn info(&self) -> WorkerInfo {
        WorkerInfo {
            name: self.name.clone(),
            incarnation: format!("{}-{}", self.name, self.run),
            address: None,
            datafusion: "55".to_owned(),
            release: "1".to_owned(),
            slots: self.slots,
            functions: Vec::new(),
            wasm: false,
        }
    }

    pub fn has_free_slot(&self) -> bool {
        self.running.len() < self.slots as usize
    }
}
